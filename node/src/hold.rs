//! The provider's side of the exchange: answers who has what, hands wants to whoever serves them, takes shards to hold.
//!
//! Per peer one stream, read in order. What a peer can make this node hold in memory is bounded by what `serving` lets
//! through and the limits named below; one that begins a message or a shard and does not go on loses its stream.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bithealth_merkle::LeafTree;
use bithealth_net::{FrameError, Reader, Stream};
use bithealth_proto::v1::{self, StoreRefusal, exchange_ask::Ask, exchange_tell::Tell};
use bithealth_types::{LEAF_LEN, NodeId, PackId, ShardIndex};
use bytes::Bytes;
use tracing::{debug, warn};

use crate::counters::Purpose;
use crate::links::bit_field;
use crate::node::Node;
use crate::replicate::blocking;
use crate::room::{NoRoom, Place};
use crate::serving::{Served, Serving, WANT_LEAVES_MAX};
use crate::swarm::Standing;

/// Shards that one peer may be sending at a time over a stream.
const SHARDS_INCOMING_MAX: usize = 4;
/// The slowest pace at which a shard may come: it takes memory that others wait for.
const INCOMING_BYTES_PER_S_MIN: u64 = 64 << 10;
/// MiB of incoming shards in memory, of all peers together.
pub const INCOMING_MIB_MAX: usize = 48;

/// A shard that is arriving.
struct Incoming {
    pack: PackId,
    shard: ShardIndex,
    root: Bytes,
    len: u64,
    parts: Vec<Bytes>,
    got: u64,
    /// When it must be here.
    until: Instant,
    place: Place,
    _memory: tokio::sync::OwnedSemaphorePermit,
}

/// Serves one peer until its stream ends.
pub async fn serve(node: Arc<Node>, from: NodeId, stream: Stream) {
    let (reader, writer) = stream.split();
    let (served, writing) = match Serving::open(&node, from, writer) {
        Ok(opened) => opened,
        Err(why) => return debug!(peer = %from.short(), %why, "a stream of the exchange is refused"),
    };
    let mut server = Server { node, from, served, incoming: HashMap::new() };
    let mut writing = std::pin::pin!(writing);
    tokio::select! {
        () = server.read(reader) => {}
        () = &mut writing => return,
    }
    drop(server);
    writing.await;
}

/// The next ask; none at the end of the stream.
///
/// A message that began must be whole before our patience is at its end for the second time.
async fn next_ask(reader: &mut Reader, patience: Duration, is_due: bool) -> Result<Option<v1::ExchangeAsk>, Stopped> {
    let mut waits = 0;
    loop {
        match tokio::time::timeout(patience, reader.recv()).await {
            Ok(received) => return Ok(received?),
            Err(_) if reader.unfinished_len() > 0 || is_due => waits += 1,
            Err(_) => waits = 0,
        }
        if waits == 2 {
            return Err(Stopped::Slow { got: reader.unfinished_len() });
        }
    }
}

/// Why a peer is not read from any more.
#[derive(Debug, thiserror::Error)]
enum Stopped {
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error("{got} bytes of a message came, or a shard without its leaves, and no more")]
    Slow { got: usize },
}

struct Server {
    node: Arc<Node>,
    from: NodeId,
    served: Served,
    incoming: HashMap<u64, Incoming>,
}

impl Server {
    async fn read(&mut self, mut reader: Reader) {
        let patience = self.node.serving.patience();
        loop {
            let ask = match next_ask(&mut reader, patience, !self.incoming.is_empty()).await {
                Ok(Some(v1::ExchangeAsk { ask: Some(ask) })) => ask,
                Ok(None) => return,
                Ok(Some(_)) => return debug!(peer = %self.from.short(), "an ask of a kind this version does not know"),
                Err(error) => return debug!(peer = %self.from.short(), %error, "the exchange stream ended"),
            };
            match ask {
                Ask::Have(query) => self.on_have(query).await,
                Ask::Want(want) => self.served.want(want).await,
                Ask::Cancel(cancel) => self.served.cancel(cancel.id),
                Ask::Store(store) => self.on_store(store).await,
                Ask::Leaves(leaves) => self.on_leaves(leaves).await,
                Ask::Drop(drop) => self.on_drop(drop).await,
            }
        }
    }

    async fn tell(&self, tell: Tell) {
        let _ = self.served.tells().send(tell.into()).await; // the peer has gone
    }

    async fn on_have(&self, query: v1::HaveQuery) {
        let Ok(pack) = PackId::try_from(query.pack.as_ref()) else { return };
        let node = self.node.clone();
        let code = node.code_of(&pack);
        let shards =
            blocking(move || bit_field(node.vault.served_shards_of(&pack, code.map_or(0, |code| code.n())))).await;
        let standing = match query.fetching && code.is_some() {
            true => self.node.swarm.asked(pack, self.from, self.served.tells()),
            false => Standing { runs: self.node.swarm.runs_of(&pack), ..Standing::default() },
        };
        self.tell(Tell::Have(standing.have(query.pack, shards))).await;
    }

    async fn on_store(&mut self, store: v1::StoreShard) {
        let id = store.id;
        match self.accept(store).await {
            Ok(Some(incoming)) => drop(self.incoming.insert(id, incoming)),
            Ok(None) => self.tell(Tell::Stored(v1::Stored { id })).await,
            Err((why, detail)) => self.refuse(id, why, detail).await,
        }
    }

    /// Whether to take a shard; none where it lies here already.
    async fn accept(&self, store: v1::StoreShard) -> Result<Option<Incoming>, (StoreRefusal, String)> {
        let refuse = |why, detail: &str| Err((why, detail.to_owned()));
        let descriptor = store.pack.unwrap_or_default();
        let code = match bithealth_pack::check_descriptor(&descriptor) {
            Ok(code) => code,
            Err(error) => return Err((StoreRefusal::FalseRoot, error.to_string())),
        };
        let author = NodeId::try_from(store.author.as_ref()).unwrap_or(NodeId([0; 32]));
        if self.node.chain.state().node(&author).is_none_or(|node| node.retired) {
            return refuse(StoreRefusal::NotMember, "its author is no node of a member");
        }
        let shard = ShardIndex(store.shard.min(u32::from(u16::MAX)) as u16);
        let Some(root) = descriptor.roots.get(usize::from(shard.0)).cloned() else {
            return refuse(StoreRefusal::FalseRoot, "the pack has no such shard");
        };
        let pack = descriptor.id();
        if self.incoming.len() >= SHARDS_INCOMING_MAX {
            return refuse(StoreRefusal::Busy, "too many shards at a time");
        }
        let len = code.shard_len(descriptor.len);
        let place = self.node.room_for(&author, &pack, shard, len);
        // Asked with its place taken, so that nobody else's copy comes between.
        if self.node.vault.has_shard(&pack, shard) {
            return Ok(None);
        }
        let place = place.map_err(|error| match error {
            NoRoom::Arriving => (StoreRefusal::Busy, error.to_string()),
            _ => (StoreRefusal::Full, error.to_string()),
        })?;
        let (mib, patience) = (len.div_ceil(1 << 20) as u32, self.node.serving.patience());
        let memory = self.node.incoming.clone().acquire_many_owned(mib);
        let Ok(memory) = tokio::time::timeout(patience, memory).await else {
            return refuse(StoreRefusal::Busy, "too many shards of others come at this time");
        };
        let until = Instant::now() + patience + Duration::from_secs(len / INCOMING_BYTES_PER_S_MIN);
        let memory = memory.expect("never closed");
        Ok(Some(Incoming { pack, shard, root, len, parts: Vec::new(), got: 0, until, place, _memory: memory }))
    }

    async fn on_leaves(&mut self, leaves: v1::ShardLeaves) {
        let id = leaves.id;
        let Some(incoming) = self.incoming.get_mut(&id) else { return }; // it was refused; its leaves were on their way
        let len = leaves.data.len();
        if len == 0 || !len.is_multiple_of(LEAF_LEN) || len > WANT_LEAVES_MAX as usize * LEAF_LEN {
            self.incoming.remove(&id);
            let detail = format!("{len} bytes of leaves came; 1 to {WANT_LEAVES_MAX} whole leaves are due");
            return self.refuse(id, StoreRefusal::FalseRoot, detail).await;
        }
        if incoming.until < Instant::now() {
            self.incoming.remove(&id);
            return self.refuse(id, StoreRefusal::Busy, "its leaves come too slowly".into()).await;
        }
        self.node.counters.received.add(Purpose::Place, len);
        incoming.got += len as u64;
        incoming.parts.push(leaves.data);
        if incoming.got < incoming.len {
            return;
        }
        let incoming = self.incoming.remove(&id).expect("just found");
        if incoming.got > incoming.len {
            return self
                .refuse(id, StoreRefusal::FalseRoot, format!("{} bytes came, {} are due", incoming.got, incoming.len))
                .await;
        }
        let (node, tells, from) = (self.node.clone(), self.served.tells().clone(), self.from);
        tokio::spawn(async move {
            let stored = blocking(move || keep(&node, incoming)).await;
            let tell = match stored {
                Ok(()) => Tell::Stored(v1::Stored { id }),
                Err((why, detail)) => {
                    warn!(peer = %from.short(), %detail, "a shard is not taken");
                    Tell::Refused(v1::StoreRefused { id, why: why.into(), detail })
                }
            };
            let _ = tells.send(tell.into()).await; // the peer has gone
        });
    }

    /// Only the author of a pack says that its shards are no longer needed.
    async fn on_drop(&self, drop: v1::DropShard) {
        let Ok(pack) = PackId::try_from(drop.pack.as_ref()) else { return };
        let retired = {
            let state = self.node.chain.state();
            state.pack(&pack).is_some_and(|pack| pack.author == self.from && pack.retired_into.is_some())
        };
        if retired && let Err(error) = self.node.drop_shard(&pack, ShardIndex(drop.shard as u16)) {
            warn!(%error, "a shard that is no longer needed cannot be dropped");
        }
    }

    async fn refuse(&self, id: u64, why: StoreRefusal, detail: String) {
        self.tell(Tell::Refused(v1::StoreRefused { id, why: why.into(), detail })).await;
    }
}

/// Verifies a shard and makes it durable.
fn keep(node: &Node, incoming: Incoming) -> Result<(), (StoreRefusal, String)> {
    let full = |error: bithealth_store::WriteError| (StoreRefusal::Full, error.to_string());
    let leaves = incoming.parts.iter().flat_map(|part| part.chunks(LEAF_LEN));
    let tree = LeafTree::from_hashes(leaves.map(bithealth_merkle::leaf_hash).collect());
    if tree.root().as_bytes()[..] != incoming.root[..] {
        let detail = format!("the leaves give root {}, the pack commits to another", tree.root());
        return Err((StoreRefusal::FalseRoot, detail));
    }
    let parts: Vec<&[u8]> = incoming.parts.iter().map(|part| part.as_ref()).collect();
    node.vault.keep_shard(&incoming.pack, incoming.shard, &tree, &parts).map_err(full)?;
    incoming.place.keep(node.owner_of(&incoming.pack));
    Ok(())
}
