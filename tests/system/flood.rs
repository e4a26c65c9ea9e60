//! A member whose node asks for more than its share: it is told so, and nobody else notices.

use std::ops::Deref;
use std::time::Duration;

use bithealth_net::Stream;
use bithealth_proto::Limited;
use bithealth_proto::v1::{self, exchange_ask::Ask, exchange_tell::Tell};
use bithealth_tests::{Attacked, wait_until, want};
use bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType};

/// Far more than may wait.
const WANTS: u64 = 4_000;
/// What a node may hold more than before an attack, soon after it.
const MORE_MEMORY_MAX: f64 = 1.05;
/// Far longer than the node's patience here.
const LONG: Duration = Duration::from_secs(60);
/// Leaves of one want: as many as may be.
const LEAVES: u32 = 64;

/// A node that is soon out of patience, and its attacker.
struct Impatient(Attacked);

impl Deref for Impatient {
    type Target = Attacked;

    fn deref(&self) -> &Attacked {
        &self.0
    }
}

impl Impatient {
    fn start() -> Self {
        Self(Attacked::start_with(|clinic| clinic.configure("patience_ms", "1000")))
    }

    /// Waits until the node ends a stream, of which nothing is read: what is read lets it go on.
    fn wait_until_dropped(&self, stream: &mut Stream) {
        wait_until("the node ends the stream", || {
            let ask = want(&self.pack, WANTS, 1);
            let sent = async {
                stream.send(&ask).await?;
                stream.flush().await
            };
            // Where nothing more is taken in, it waits.
            match self.runtime.block_on(async { tokio::time::timeout(Duration::from_millis(50), sent).await }) {
                Ok(Err(_)) => Ok(()),
                Ok(Ok(())) | Err(_) => Err("it stands".to_owned()),
            }
        });
    }

    /// Reads until the node ends the stream; false if it does not for long.
    fn is_ended(&self, stream: &mut Stream) -> bool {
        let ended = async { while let Ok(Some(_)) = stream.recv::<v1::ExchangeTell>().await {} };
        self.runtime.block_on(async { tokio::time::timeout(LONG, ended).await }).is_ok()
    }
}

/// A message that says it is longer than it is.
#[derive(Debug, Default)]
struct Boast {
    said: usize,
    sent: usize,
}

impl prost::Message for Boast {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        buffer.put_bytes(0x12, self.sent);
    }

    fn merge_field(
        &mut self,
        _: u32,
        _: WireType,
        _: &mut impl Buf,
        _: DecodeContext,
    ) -> Result<(), prost::DecodeError> {
        Ok(())
    }

    fn encoded_len(&self) -> usize {
        self.said
    }

    fn clear(&mut self) {}
}

impl Limited for Boast {
    const NAME: &'static str = "Boast";
    const LEN_MAX: usize = usize::MAX;
}

#[test]
fn who_wants_more_than_may_wait_is_choked_refused_and_served_the_rest() {
    let attacked = Impatient::start();
    let (mut answered, mut busy, mut chokes) = (0, 0, Vec::new());
    attacked.runtime.block_on(async {
        let mut stream = attacked.guest.exchange(attacked.node).await;
        for id in 0..WANTS {
            stream.send(&want(&attacked.pack, id, 1)).await.unwrap();
        }
        stream.flush().await.unwrap();
        while answered + busy < WANTS || chokes.last() != Some(&false) {
            match stream.recv::<v1::ExchangeTell>().await.unwrap().unwrap().tell.unwrap() {
                Tell::Leaves(_) => answered += 1,
                Tell::Busy(_) => busy += 1,
                Tell::Choke(_) => chokes.push(true),
                Tell::Unchoke(_) => chokes.push(false),
                other => panic!("{other:?}"),
            }
        }
    });
    eprintln!("{answered} answered, {busy} refused, {} chokes", chokes.len() / 2);
    assert!(answered > 0 && busy > 0, "{answered} answered, {busy} refused");
    assert!(chokes.chunks(2).all(|pair| pair == [true, false]), "{chokes:?}");
}

#[test]
fn a_want_that_waits_is_taken_back() {
    let attacked = Impatient::start();
    let answered = attacked.runtime.block_on(async {
        let mut stream = attacked.guest.exchange(attacked.node).await;
        for id in 0..100 {
            stream.send(&want(&attacked.pack, id, LEAVES)).await.unwrap();
        }
        for id in 0..100 {
            stream.send(&v1::ExchangeAsk { ask: Some(Ask::Cancel(v1::Cancel { id })) }).await.unwrap();
        }
        // Answers come in order: after this one none of those before comes.
        stream.send(&want(&attacked.pack, 1000, 1)).await.unwrap();
        stream.flush().await.unwrap();
        let mut answered = 0;
        loop {
            match stream.recv::<v1::ExchangeTell>().await.unwrap().unwrap().tell.unwrap() {
                Tell::Leaves(leaves) if leaves.id == 1000 => return answered,
                Tell::Leaves(_) => answered += 1,
                other => panic!("{other:?}"),
            }
        }
    });
    eprintln!("{answered} of 100 were answered before they were taken back");
    assert!(answered < 100);
}

#[test]
fn who_takes_no_answers_loses_its_streams_and_others_are_served_meanwhile_and_memory_comes_back() {
    let attacked = Impatient::start();
    attacked.somebody_reads(0);
    let before = attacked.north().memory();
    let mut streams: Vec<Stream> = (0..6).map(|_| attacked.bomb()).collect();
    let during = attacked.north().memory();
    attacked.somebody_reads(1);
    streams.iter_mut().for_each(|stream| attacked.wait_until_dropped(stream));
    drop(streams);
    let after = wait_until("the node is as small as before", || {
        let memory = attacked.north().memory();
        let is_small = memory as f64 <= before as f64 * MORE_MEMORY_MAX;
        if is_small { Ok(memory) } else { Err(format!("{memory} bytes, {before} before")) }
    });
    eprintln!("{before} bytes before, {during} during, {after} after");
    attacked.somebody_reads(2);
}

#[test]
fn half_a_message_and_one_that_is_too_long_end_their_stream_and_no_other() {
    let attacked = Impatient::start();
    let boasts = [Boast { said: 1 << 20, sent: 1000 }, Boast { said: v1::ExchangeAsk::LEN_MAX + 1, sent: 1000 }];
    for (boast, number) in boasts.into_iter().zip(0..) {
        let mut stream = attacked.runtime.block_on(attacked.guest.exchange(attacked.node));
        attacked.runtime.block_on(async {
            stream.send(&boast).await.unwrap();
            stream.flush().await.unwrap();
        });
        assert!(attacked.is_ended(&mut stream), "{boast:?}");
        attacked.somebody_reads(number);
    }
}

#[test]
fn a_shard_whose_leaves_do_not_come_takes_nobodys_place_for_long() {
    let attacked = Impatient::start();
    let mut stream = attacked.runtime.block_on(attacked.guest.exchange(attacked.node));
    attacked.runtime.block_on(async {
        let packs = attacked.guest.packs_of(attacked.node, attacked.node).await;
        let pack = v1::PackDescriptor { salt: Bytes::from(vec![9; 32]), ..packs[0].clone() };
        let author = Bytes::copy_from_slice(attacked.node.as_bytes());
        let store = v1::StoreShard { id: 1, pack: Some(pack), shard: 0, author };
        stream.send(&v1::ExchangeAsk { ask: Some(Ask::Store(store)) }).await.unwrap();
        stream.flush().await.unwrap();
    });
    assert!(attacked.is_ended(&mut stream));
}
