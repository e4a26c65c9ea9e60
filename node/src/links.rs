//! Our side of the exchange: long-lived substreams to each provider, asks and answers pipelined on them.
//!
//! One carries what is large, and several more the wants of small reads. A stream may always carry 128 KiB without
//! waiting for its receiver: it begins with 256 KiB, and gets more once half of it is used (yamux, spec.md, flow control).
//! So an answer of 200 KiB comes in one round trip only if several streams carry it; and a read does not wait behind the
//! runs of a restore.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bithealth_exchange::Priority;
use bithealth_net::{Net, OpenError, Protocol, Reader, Writer};
use bithealth_proto::v1::{self, WantPriority, exchange_ask::Ask, exchange_tell::Tell};
use bithealth_types::{LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex};
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot, watch};

use crate::counters::{Counters, Purpose};
use crate::swarm::Swarm;

/// Asks waiting to be written to one peer: more callers than this wait for the stream.
const ASKS_QUEUED_MAX: usize = 32;
/// Leaves in one frame of a pushed shard: 256 KiB, past which frames get no faster.
const PUSH_LEAVES: usize = 16;
/// Most leaves of a small want: 64 KiB, of which a stream may always carry two.
pub const SMALL_LEAVES_MAX: u32 = 4;
/// Streams to one provider that small wants take in turn.
const SMALL_STREAMS: usize = 4;

/// Streams to providers, opened when first used.
#[derive(Clone)]
pub struct Links {
    net: Net,
    places: Arc<Mutex<HashMap<NodeId, Arc<Places>>>>,
    choked_by: watch::Sender<BTreeSet<NodeId>>,
    swarm: Arc<Swarm>,
    counters: Arc<Counters>,
}

/// Where the streams to one provider stand.
#[derive(Default)]
struct Places {
    large: Place,
    small: [Place; SMALL_STREAMS],
    /// Which of the small ones has the next turn.
    turn: AtomicUsize,
}

/// Where a stream stands once it is open; whoever opens it holds the lock.
type Place = tokio::sync::Mutex<Option<Arc<Link>>>;

/// Why a provider gave no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// No stream to it.
    #[error("node {node} cannot be reached: {error}", node = node.short())]
    Open {
        /// The provider.
        node: NodeId,
        /// Why not.
        error: OpenError,
    },
    /// The stream ended before the answer.
    #[error("the connection to node {} was lost", node.short())]
    Lost {
        /// The provider.
        node: NodeId,
    },
    /// It answered something else than was asked.
    #[error("node {} answered something that was not asked", node.short())]
    Unexpected {
        /// The provider.
        node: NodeId,
    },
    /// It will not hold a shard.
    #[error("node {} does not take the shard: {detail}", node.short())]
    Refused {
        /// The provider.
        node: NodeId,
        /// Its reason.
        why: v1::StoreRefusal,
        /// For people.
        detail: String,
    },
}

/// What came for a want.
#[derive(Debug)]
pub enum Wanted {
    /// The leaves, to be verified.
    Leaves(v1::Leaves),
    /// The provider does not have them.
    Missing,
    /// The provider has too much to do, now.
    Busy,
}

/// The stream to one provider.
struct Link {
    node: NodeId,
    asks: mpsc::Sender<v1::ExchangeAsk>,
    pending: Arc<Mutex<Pending>>,
    next_id: AtomicU64,
}

#[derive(Default)]
struct Pending {
    closed: bool,
    /// Who waits for an answer, first asked first. Several callers may ask who has the same pack.
    answers: HashMap<Key, VecDeque<oneshot::Sender<Tell>>>,
}

impl Pending {
    fn take(&mut self, key: &Key) -> Option<oneshot::Sender<Tell>> {
        let waiting = self.answers.get_mut(key)?;
        let first = waiting.pop_front();
        if waiting.is_empty() {
            self.answers.remove(key);
        }
        first
    }
}

/// What an answer names: the id of an ask, or the pack of a have query.
#[derive(PartialEq, Eq, Hash)]
enum Key {
    Id(u64),
    Pack(Bytes),
}

impl Links {
    /// No streams yet. What providers tell unasked goes to `swarm`.
    pub fn new(net: Net, swarm: Arc<Swarm>, counters: Arc<Counters>) -> Self {
        Self { net, places: Arc::default(), choked_by: watch::channel(BTreeSet::new()).0, swarm, counters }
    }

    /// The providers that ask us to send no wants, and when that changes.
    pub fn choked_by(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.choked_by.subscribe()
    }

    /// What of `pack` does `node` hold?
    ///
    /// # Errors
    /// [`LinkError`] if it gives no answer.
    pub async fn have(&self, node: NodeId, pack: &PackId) -> Result<v1::Have, LinkError> {
        self.ask_have(node, pack, false).await
    }

    /// The same, told that we fetch it: it says too who else does, and from now on what it gets.
    ///
    /// # Errors
    /// [`LinkError`] if it gives no answer.
    pub async fn have_fetching(&self, node: NodeId, pack: &PackId) -> Result<v1::Have, LinkError> {
        self.ask_have(node, pack, true).await
    }

    async fn ask_have(&self, node: NodeId, pack: &PackId, fetching: bool) -> Result<v1::Have, LinkError> {
        let link = self.link(node).await?;
        let pack = Bytes::copy_from_slice(pack.as_bytes());
        let ask = Ask::Have(v1::HaveQuery { pack: pack.clone(), fetching });
        match link.request(Key::Pack(pack), [ask]).await? {
            Tell::Have(have) => Ok(have),
            _ => Err(LinkError::Unexpected { node }),
        }
    }

    /// Asks `node` for a run of leaves.
    ///
    /// # Errors
    /// [`LinkError`] if it gives no answer.
    pub async fn want(
        &self,
        node: NodeId,
        pack: &PackId,
        shard: ShardIndex,
        leaf: LeafIndex,
        count: u32,
        priority: Priority,
    ) -> Result<Wanted, LinkError> {
        let link = if count <= SMALL_LEAVES_MAX { self.small(node).await? } else { self.link(node).await? };
        let id = link.id();
        let (pack, urgency) = (Bytes::copy_from_slice(pack.as_bytes()), want_priority(priority).into());
        let ask = Ask::Want(v1::Want { id, pack, shard: shard.0.into(), leaf: leaf.0, count, priority: urgency });
        let cancel = CancelOnDrop { link: &link, id: Some(id) };
        let tell = link.request(Key::Id(id), [ask]).await?;
        cancel.disarm();
        match tell {
            Tell::Leaves(leaves) => {
                self.counters.received.add(Purpose::Want(priority), leaves.data.len());
                Ok(Wanted::Leaves(leaves))
            }
            Tell::Missing(_) => Ok(Wanted::Missing),
            Tell::Busy(_) => Ok(Wanted::Busy),
            _ => Err(LinkError::Unexpected { node }),
        }
    }

    /// Gives a shard to `node` and waits until it is durable there.
    ///
    /// # Errors
    /// [`LinkError`] if it does not take it or gives no answer.
    pub async fn store(
        &self,
        node: NodeId,
        pack: &v1::PackDescriptor,
        shard: ShardIndex,
        author: &NodeId,
        bytes: Bytes,
    ) -> Result<(), LinkError> {
        let link = self.link(node).await?;
        let id = link.id();
        let author = Bytes::copy_from_slice(author.as_bytes());
        let head = Ask::Store(v1::StoreShard { id, pack: Some(pack.clone()), shard: shard.0.into(), author });
        let run_len = PUSH_LEAVES * LEAF_LEN;
        let runs = (0..bytes.len()).step_by(run_len).map(|at| {
            let data = bytes.slice(at..bytes.len().min(at + run_len));
            self.counters.sent.add(Purpose::Place, data.len());
            Ask::Leaves(v1::ShardLeaves { id, data })
        });
        match link.request(Key::Id(id), std::iter::once(head).chain(runs)).await? {
            Tell::Stored(_) => Ok(()),
            Tell::Refused(refused) => {
                Err(LinkError::Refused { node, why: refused.why(), detail: refused.detail.clone() })
            }
            _ => Err(LinkError::Unexpected { node }),
        }
    }

    /// Tells `node` that we no longer need it to hold a shard. It answers nothing.
    pub async fn drop_shard(&self, node: NodeId, pack: &PackId, shard: ShardIndex) -> Result<(), LinkError> {
        let link = self.link(node).await?;
        let pack = Bytes::copy_from_slice(pack.as_bytes());
        link.send(Ask::Drop(v1::DropShard { pack, shard: shard.0.into() })).await
    }

    /// The stream for all but small wants.
    async fn link(&self, node: NodeId) -> Result<Arc<Link>, LinkError> {
        self.open(node, &self.places(node).large).await
    }

    /// The stream whose turn it is. Whoever must open it opens all, so that none of the next wants waits for that.
    async fn small(&self, node: NodeId) -> Result<Arc<Link>, LinkError> {
        let places = self.places(node);
        let at = places.turn.fetch_add(1, Ordering::Relaxed) % SMALL_STREAMS;
        if !is_open(&places.small[at]) {
            for other in (0..SMALL_STREAMS).filter(|other| *other != at) {
                let (links, places) = (self.clone(), places.clone());
                tokio::spawn(async move { links.open(node, &places.small[other]).await });
            }
        }
        self.open(node, &places.small[at]).await
    }

    fn places(&self, node: NodeId) -> Arc<Places> {
        self.places.lock().expect("no holder panics").entry(node).or_default().clone()
    }

    async fn open(&self, node: NodeId, place: &Place) -> Result<Arc<Link>, LinkError> {
        let mut place = place.lock().await;
        if let Some(link) = place.as_ref().filter(|link| !link.is_closed()) {
            return Ok(link.clone());
        }
        let stream = self.net.open(node, Protocol::Exchange).await.map_err(|error| LinkError::Open { node, error })?;
        let link = Arc::new(Link::start(node, stream.split(), self.choked_by.clone(), self.swarm.clone()));
        *place = Some(link.clone());
        Ok(link)
    }
}

/// Whether a stream stands there that nobody is opening.
fn is_open(place: &Place) -> bool {
    place.try_lock().is_ok_and(|place| place.as_ref().is_some_and(|link| !link.is_closed()))
}

impl Link {
    fn start(
        node: NodeId,
        (reader, writer): (Reader, Writer),
        choked_by: watch::Sender<BTreeSet<NodeId>>,
        swarm: Arc<Swarm>,
    ) -> Self {
        let (asks, queue) = mpsc::channel(ASKS_QUEUED_MAX);
        let pending = Arc::new(Mutex::new(Pending::default()));
        tokio::spawn(write_asks(writer, queue, pending.clone()));
        tokio::spawn(read_tells(node, reader, pending.clone(), choked_by, swarm));
        Self { node, asks, pending, next_id: AtomicU64::new(0) }
    }

    fn is_closed(&self) -> bool {
        self.asks.is_closed() || self.pending.lock().expect("no holder panics").closed
    }

    fn id(&self) -> u64 {
        self.next_id.fetch_add(1, Ordering::Relaxed)
    }

    async fn send(&self, ask: Ask) -> Result<(), LinkError> {
        let ask = v1::ExchangeAsk { ask: Some(ask) };
        self.asks.send(ask).await.map_err(|_| LinkError::Lost { node: self.node })
    }

    async fn request(&self, key: Key, asks: impl IntoIterator<Item = Ask>) -> Result<Tell, LinkError> {
        let (sender, mut answer) = oneshot::channel();
        {
            let mut pending = self.pending.lock().expect("no holder panics");
            if pending.closed {
                return Err(LinkError::Lost { node: self.node });
            }
            pending.answers.entry(key).or_default().push_back(sender);
        }
        for ask in asks {
            // A refusal may come before the last of the asks is written.
            tokio::select! {
                biased;
                tell = &mut answer => return tell.map_err(|_| LinkError::Lost { node: self.node }),
                sent = self.send(ask) => sent?,
            }
        }
        answer.await.map_err(|_| LinkError::Lost { node: self.node })
    }
}

/// Takes a want back when its future is dropped: somebody else was faster.
struct CancelOnDrop<'a> {
    link: &'a Link,
    id: Option<u64>,
}

impl CancelOnDrop<'_> {
    fn disarm(mut self) {
        self.id = None;
    }
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        let Some(id) = self.id else { return };
        self.link.pending.lock().expect("no holder panics").answers.remove(&Key::Id(id));
        // With a full queue the cancel is not sent: the answer then comes in vain, and is dropped.
        let _ = self.link.asks.try_send(v1::ExchangeAsk { ask: Some(Ask::Cancel(v1::Cancel { id })) });
    }
}

async fn write_asks(mut writer: Writer, mut queue: mpsc::Receiver<v1::ExchangeAsk>, pending: Arc<Mutex<Pending>>) {
    while let Some(ask) = queue.recv().await {
        let mut written = writer.send(&ask).await;
        while let (Ok(()), Ok(ask)) = (&written, queue.try_recv()) {
            written = writer.send(&ask).await;
        }
        if written.is_err() || writer.flush().await.is_err() {
            break;
        }
    }
    queue.close();
    close(&pending);
}

async fn read_tells(
    node: NodeId,
    mut reader: Reader,
    pending: Arc<Mutex<Pending>>,
    choked_by: watch::Sender<BTreeSet<NodeId>>,
    swarm: Arc<Swarm>,
) {
    while let Ok(Some(v1::ExchangeTell { tell: Some(tell) })) = reader.recv::<v1::ExchangeTell>().await {
        let key = match &tell {
            Tell::Choke(_) => {
                choked_by.send_if_modified(|choked_by| choked_by.insert(node));
                continue;
            }
            Tell::Unchoke(_) => {
                choked_by.send_if_modified(|choked_by| choked_by.remove(&node));
                continue;
            }
            Tell::More(more) => {
                swarm.heard(node, more);
                continue;
            }
            Tell::Have(have) => Key::Pack(have.pack.clone()),
            Tell::Leaves(leaves) => Key::Id(leaves.id),
            Tell::Missing(missing) => Key::Id(missing.id),
            Tell::Busy(busy) => Key::Id(busy.id),
            Tell::Stored(stored) => Key::Id(stored.id),
            Tell::Refused(refused) => Key::Id(refused.id),
        };
        if let Some(waiting) = pending.lock().expect("no holder panics").take(&key) {
            let _ = waiting.send(tell); // nobody waits any more: it was cancelled
        }
    }
    choked_by.send_if_modified(|choked_by| choked_by.remove(&node));
    close(&pending);
}

/// Everybody who waits learns that no answer comes.
fn close(pending: &Mutex<Pending>) {
    let mut pending = pending.lock().expect("no holder panics");
    pending.closed = true;
    pending.answers.clear();
}

fn want_priority(priority: Priority) -> WantPriority {
    match priority {
        Priority::Audit => WantPriority::Audit,
        Priority::Repair => WantPriority::Repair,
        Priority::Read => WantPriority::Read,
        Priority::Restore => WantPriority::Restore,
    }
}

/// The positions of the bits set, least significant first.
pub(crate) fn set_bits(bytes: &[u8]) -> Vec<ShardIndex> {
    (0..bytes.len() * 8).filter(|bit| bytes[bit / 8] >> (bit % 8) & 1 == 1).map(|bit| ShardIndex(bit as u16)).collect()
}

/// The bitfield of these shards, least significant bit first.
pub(crate) fn bit_field(shards: impl IntoIterator<Item = ShardIndex>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for ShardIndex(shard) in shards {
        let at = usize::from(shard / 8);
        bytes.resize(bytes.len().max(at + 1), 0);
        bytes[at] |= 1 << (shard % 8);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_asked_first_is_answered_first() {
        let mut pending = Pending::default();
        let key = || Key::Pack(Bytes::from_static(b"pack"));
        let mut waiting: Vec<_> = (0..2)
            .map(|_| {
                let (sender, receiver) = oneshot::channel();
                pending.answers.entry(key()).or_default().push_back(sender);
                receiver
            })
            .collect();
        for id in 0..2 {
            pending.take(&key()).unwrap().send(Tell::Stored(v1::Stored { id })).unwrap();
        }
        for (id, receiver) in waiting.iter_mut().enumerate() {
            assert_eq!(receiver.try_recv(), Ok(Tell::Stored(v1::Stored { id: id as u64 })));
        }
        assert!(pending.take(&key()).is_none() && pending.answers.is_empty());
    }

    #[test]
    fn a_bit_field_reads_back() {
        let shards = [ShardIndex(0), ShardIndex(7), ShardIndex(8), ShardIndex(255)];
        assert!(bithealth_exchange::ShardSet::from_bytes(&bit_field(shards)).iter().eq(shards));
        assert!(bit_field([]).is_empty());
    }
}
