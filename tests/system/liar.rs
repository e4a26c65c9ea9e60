//! A member whose node takes shards, confirms them, and gives back other bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bithealth_merkle::LeafTree;
use bithealth_net::{Event, Events, Protocol, Stream, Verdict};
use bithealth_proto::v1::{self, exchange_ask::Ask, exchange_tell::Tell};
use bithealth_tests::{Clinic, Cluster, Guest, bytes_of, wait_until, write};
use bithealth_types::{Code, LEAF_LEN, LeafIndex};
use bytes::Bytes;
use tokio::runtime::Runtime;

/// Of each the liar holds one of four shards. With the author gone it is asked for about every second one.
const RECORDS: u64 = 30;

/// A pack, and which of its shards.
type Shard = (Bytes, u32);

/// The liar. Its node joined with a real invite; its keys and certificate are sound.
struct Liar {
    guest: Arc<Guest>,
    shards: Mutex<HashMap<Shard, Vec<u8>>>,
    lies: AtomicU64,
}

impl Liar {
    /// Runs in the place of a clinic that has joined and was never started.
    async fn start(clinic: &Clinic) -> Arc<Self> {
        let (guest, events) = Guest::start(clinic).await;
        let liar = Arc::new(Self { guest, shards: Mutex::default(), lies: AtomicU64::new(0) });
        tokio::spawn(liar.clone().run(events));
        liar
    }

    fn lies(&self) -> u64 {
        self.lies.load(Ordering::Relaxed)
    }

    async fn run(self: Arc<Self>, mut events: Events) {
        while let Some(event) = self.guest.next(&mut events).await {
            match event {
                Event::Stream { protocol: Protocol::Exchange, stream, .. } => {
                    tokio::spawn(self.clone().exchange(stream));
                }
                Event::Gossip { from, id, .. } => self.guest.net.judge(id, from, Verdict::Accept).await.unwrap(),
                _ => {}
            }
        }
    }

    async fn exchange(self: Arc<Self>, mut stream: Stream) {
        let mut incoming: HashMap<u64, (Shard, u64, Vec<u8>)> = HashMap::new();
        while let Ok(Some(v1::ExchangeAsk { ask: Some(ask) })) = stream.recv::<v1::ExchangeAsk>().await {
            let tell = match ask {
                Ask::Have(query) => Some(Tell::Have(self.have(query.pack))),
                Ask::Want(want) => Some(self.lie(&want)),
                Ask::Store(store) => {
                    let pack = store.pack.unwrap();
                    let len = Code::new(pack.k, pack.n).unwrap().shard_len(pack.len);
                    let shard = (Bytes::copy_from_slice(pack.id().as_bytes()), store.shard);
                    incoming.insert(store.id, (shard, len, Vec::new()));
                    None
                }
                Ask::Leaves(leaves) => {
                    let (_, len, bytes) = incoming.get_mut(&leaves.id).unwrap();
                    bytes.extend_from_slice(&leaves.data);
                    (bytes.len() as u64 == *len).then(|| {
                        let (shard, _, bytes) = incoming.remove(&leaves.id).unwrap();
                        self.shards.lock().unwrap().insert(shard, bytes);
                        Tell::Stored(v1::Stored { id: leaves.id })
                    })
                }
                Ask::Cancel(_) | Ask::Drop(_) => None,
            };
            if let Some(tell) = tell {
                let tell = v1::ExchangeTell { tell: Some(tell) };
                if stream.send(&tell).await.is_err() || stream.flush().await.is_err() {
                    return;
                }
            }
        }
    }

    fn have(&self, pack: Bytes) -> v1::Have {
        let mut field = vec![0; 32];
        for (of, shard) in self.shards.lock().unwrap().keys().filter(|(of, _)| *of == pack) {
            debug_assert_eq!(of, &pack);
            field[*shard as usize / 8] |= 1 << (shard % 8);
        }
        v1::Have { pack, shards: field.into(), ..v1::Have::default() }
    }

    /// The leaves with one bit changed, and the proof of the true ones.
    fn lie(&self, want: &v1::Want) -> Tell {
        let shards = self.shards.lock().unwrap();
        let Some(bytes) = shards.get(&(want.pack.clone(), want.shard)) else {
            return Tell::Missing(v1::Missing { id: want.id, reason: String::new() });
        };
        let proof = LeafTree::from_shard(bytes).prove_run(LeafIndex(want.leaf), want.count).unwrap();
        let from = want.leaf as usize * LEAF_LEN;
        let mut data = bytes[from..from + want.count as usize * LEAF_LEN].to_vec();
        let middle = data.len() / 2;
        data[middle] ^= 1;
        self.lies.fetch_add(1, Ordering::Relaxed);
        let proof = proof.iter().map(|hash| Bytes::copy_from_slice(hash.as_bytes())).collect();
        Tell::Leaves(v1::Leaves { id: want.id, data: data.into(), proof })
    }
}

#[test]
fn a_provider_that_lies_is_named_and_shut_out_and_the_records_come_back_right() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let west = cluster.join_without_process("west-1", &["south-1"]);
    let runtime = Runtime::new().unwrap();
    let liar = runtime.block_on(Liar::start(&west));
    let node = liar.guest.net.node_id().to_string();
    cluster.wait_until_joined(4);
    // Any two of four shards give a pack back. Each record lies in a pack of its own, and each node has a shard of it.
    for number in 0..RECORDS {
        let record = cluster.path(&name(number));
        write(&record, contents(number));
        cluster["north-1"].put(&record, &["--for", "south-1", "--survive", "0,1"]);
    }
    cluster["north-1"].wait_for("all is replicated", |status| status["packs"]["replicated"] == RECORDS);
    cluster["south-1"].wait_for("lists all of it", |status| status["records"] == RECORDS);
    cluster["north-1"].kill();

    let mut asked_at = None;
    for number in 0..RECORDS {
        comes_back_right(&cluster, number);
        match asked_at {
            None if liar.lies() > 0 => asked_at = Some(liar.lies()),
            None => {}
            Some(lies) => assert_eq!(liar.lies(), lies, "who lied once is not asked again"),
        }
    }

    assert!(asked_at.is_some(), "the liar was never asked; it holds {} shards", liar.shards.lock().unwrap().len());
    let warnings = cluster["south-1"].status()["warnings"].to_string();
    assert!(warnings.contains(&format!("node {} sent something false", &node[..8])), "{node} is not named: {warnings}");
}

#[test]
fn a_liar_among_those_a_lost_shard_is_rebuilt_from_is_named_and_the_shard_is_right() {
    // Four of six shards restore, on seven nodes in three regions: one is free.
    let names = ["north-1", "north-2", "north-3", "south-1", "south-2", "east-1"];
    let mut cluster = Cluster::start_with(&names, |clinic| {
        clinic.configure("repair_after_ms", "1000");
        clinic.configure("repair_look_ms", "100");
    });
    let east = cluster.join_without_process("east-2", &["south-1", "south-2", "east-1"]);
    let runtime = Runtime::new().unwrap();
    let liar = runtime.block_on(Liar::start(&east));
    let node = liar.guest.net.node_id().to_string();
    cluster.wait_until_joined(7);
    let count = 6;
    for number in 0..count {
        let record = cluster.path(&name(number));
        write(&record, contents(number));
        cluster["north-1"].put(&record, &["--for", "south-1", "--survive", "0,1"]);
    }
    cluster["north-1"].wait_for("all is replicated", |status| status["packs"]["replicated"] == count);
    cluster["south-1"].wait_for("lists all of it", |status| status["records"] == count);
    // The shards of the author are lost. Each is rebuilt from four of five others, of which the liar mostly is one.
    cluster["north-1"].kill();

    let left = &names[1..];
    wait_until("who rebuilds names the liar", || {
        let statuses: Vec<_> = left.iter().map(|name| cluster[name].status()).collect();
        let lied = format!("node {} sent something false", &node[..8]);
        let names = statuses.iter().any(|status| status["warnings"].to_string().contains(&lied));
        let rebuilt: Vec<_> = statuses.iter().map(|status| status["repair"]["rebuilt_shards"].as_u64()).collect();
        match names && rebuilt.iter().flatten().sum::<u64>() > 0 {
            true => Ok(()),
            false => Err(format!("{} lies were told, rebuilt: {rebuilt:?}", liar.lies())),
        }
    });
    for holder in left {
        let verified = cluster[*holder].ask(&["verify"]);
        assert_eq!(verified.exit, 0, "{holder} keeps only what is right: {verified:?}");
    }
    (0..count).for_each(|number| comes_back_right(&cluster, number));
}

fn comes_back_right(cluster: &Cluster, number: u64) {
    let (record, back) = (cluster["south-1"].record_named(&name(number)), cluster.path("back"));
    cluster["south-1"].done(&["get", &record, "--output", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == contents(number), "{} came back changed", name(number));
}

fn name(number: u64) -> String {
    format!("record {number}")
}

/// Enough that a put of it makes a pack.
fn contents(number: u64) -> Vec<u8> {
    bytes_of(number, 300_000)
}
