//! The provider's side of the exchange: answers who has what, serves leaves, takes shards to hold.
//!
//! Per peer one stream, read in order; leaves are read from the disk and hashed off the network's tasks. What a peer can
//! make this node hold in memory is bounded by the permits named below.

use std::collections::HashMap;
use std::sync::Arc;

use bithealth_merkle::LeafTree;
use bithealth_net::{Reader, Stream, Writer};
use bithealth_proto::v1::{self, StoreRefusal, exchange_ask::Ask, exchange_tell::Tell};
use bithealth_types::{LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc};
use tracing::{debug, warn};

use crate::links::bit_field;
use crate::node::Node;
use crate::room::Place;
use crate::vault::VaultError;

/// Answers of one peer being prepared at a time; each is at most 1 MiB of leaves.
const ANSWERS_MAX: usize = 8;
/// Wants of one peer read ahead of the answers; beyond it the stream itself holds the peer back.
const ANSWERS_QUEUED_MAX: usize = 16;
/// Leaves of one want: 1 MiB.
pub const WANT_LEAVES_MAX: u32 = 64;
/// Shards that one peer may be sending at a time.
const SHARDS_INCOMING_MAX: usize = 4;
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
    place: Place,
    _memory: tokio::sync::OwnedSemaphorePermit,
}

/// Serves one peer until its stream ends.
pub async fn serve(node: Arc<Node>, from: NodeId, stream: Stream) {
    let (reader, writer) = stream.split();
    let (answers, queue) = mpsc::channel(ANSWERS_QUEUED_MAX);
    let writing = tokio::spawn(write_tells(writer, queue));
    let mut server =
        Server { node, from, answers, permits: Arc::new(Semaphore::new(ANSWERS_MAX)), incoming: HashMap::new() };
    server.read(reader).await;
    drop(server);
    let _ = writing.await;
}

struct Server {
    node: Arc<Node>,
    from: NodeId,
    answers: mpsc::Sender<Tell>,
    permits: Arc<Semaphore>,
    incoming: HashMap<u64, Incoming>,
}

impl Server {
    async fn read(&mut self, mut reader: Reader) {
        loop {
            let ask = match reader.recv::<v1::ExchangeAsk>().await {
                Ok(Some(v1::ExchangeAsk { ask: Some(ask) })) => ask,
                Ok(None) => return,
                Ok(Some(_)) => return debug!(peer = %self.from.short(), "an ask of a kind this version does not know"),
                Err(error) => return debug!(peer = %self.from.short(), %error, "the exchange stream ended"),
            };
            match ask {
                Ask::Have(query) => self.on_have(query).await,
                Ask::Want(want) => self.on_want(want).await,
                Ask::Cancel(_) => {} // answers are short; one that is being read is sent
                Ask::Store(store) => self.on_store(store).await,
                Ask::Leaves(leaves) => self.on_leaves(leaves).await,
                Ask::Drop(drop) => self.on_drop(drop).await,
            }
        }
    }

    async fn tell(&self, tell: Tell) {
        let _ = self.answers.send(tell).await; // the peer has gone
    }

    async fn on_have(&self, query: v1::HaveQuery) {
        let Ok(pack) = PackId::try_from(query.pack.as_ref()) else { return };
        let n = self.node.code_of(&pack).map_or(0, |code| code.n());
        let shards = bit_field(self.node.vault.shards_of(&pack, n));
        self.tell(Tell::Have(v1::Have { pack: query.pack, shards: shards.into() })).await;
    }

    async fn on_want(&self, want: v1::Want) {
        let permit = self.permits.clone().acquire_owned().await.expect("never closed");
        let (node, answers, from) = (self.node.clone(), self.answers.clone(), self.from);
        tokio::spawn(async move {
            let id = want.id;
            let run = tokio::task::spawn_blocking(move || leaves(&node, &want)).await.expect("reading does not panic");
            let tell = match run {
                Ok(Some(leaves)) => Tell::Leaves(leaves),
                Ok(None) => Tell::Missing(v1::Missing { id, reason: String::new() }),
                Err(error) => {
                    warn!(peer = %from.short(), %error, "a leaf that should be here cannot be read");
                    Tell::Missing(v1::Missing { id, reason: "damaged here".into() })
                }
            };
            let _ = answers.send(tell).await;
            drop(permit);
        });
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
        if self.node.vault.has_shard(&pack, shard) {
            return Ok(None);
        }
        if self.incoming.len() >= SHARDS_INCOMING_MAX {
            return refuse(StoreRefusal::Busy, "too many shards at a time");
        }
        let len = code.shard_len(descriptor.len);
        let place = self.node.room_for(&author, len).map_err(|full| (StoreRefusal::Full, full.to_string()))?;
        let mib = len.div_ceil(1 << 20) as u32;
        let memory = self.node.incoming.clone().acquire_many_owned(mib).await.expect("never closed");
        Ok(Some(Incoming { pack, shard, root, len, parts: Vec::new(), got: 0, place, _memory: memory }))
    }

    async fn on_leaves(&mut self, leaves: v1::ShardLeaves) {
        let id = leaves.id;
        let Some(incoming) = self.incoming.get_mut(&id) else { return }; // it was refused; its leaves were on their way
        incoming.got += leaves.data.len() as u64;
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
        let (node, answers, from) = (self.node.clone(), self.answers.clone(), self.from);
        tokio::spawn(async move {
            let stored =
                tokio::task::spawn_blocking(move || keep(&node, incoming)).await.expect("storing does not panic");
            let tell = match stored {
                Ok(()) => Tell::Stored(v1::Stored { id }),
                Err((why, detail)) => {
                    warn!(peer = %from.short(), %detail, "a shard is not taken");
                    Tell::Refused(v1::StoreRefused { id, why: why.into(), detail })
                }
            };
            let _ = answers.send(tell).await;
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

/// The leaves of a want and their proof.
fn leaves(node: &Node, want: &v1::Want) -> Result<Option<v1::Leaves>, VaultError> {
    let Ok(pack) = PackId::try_from(want.pack.as_ref()) else { return Ok(None) };
    let Ok(shard) = u16::try_from(want.shard) else { return Ok(None) };
    if want.count == 0 || want.count > WANT_LEAVES_MAX {
        return Ok(None);
    }
    let run = node.vault.leaves(&pack, ShardIndex(shard), LeafIndex(want.leaf), want.count)?;
    Ok(run.map(|run| v1::Leaves {
        id: want.id,
        data: run.data,
        proof: run.proof.iter().map(|hash| Bytes::copy_from_slice(hash.as_bytes())).collect(),
    }))
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
    incoming.place.keep();
    Ok(())
}

async fn write_tells(mut writer: Writer, mut queue: mpsc::Receiver<Tell>) {
    while let Some(tell) = queue.recv().await {
        let mut written = writer.send(&v1::ExchangeTell { tell: Some(tell) }).await;
        while let (Ok(()), Ok(tell)) = (&written, queue.try_recv()) {
            written = writer.send(&v1::ExchangeTell { tell: Some(tell) }).await;
        }
        if written.is_err() || writer.flush().await.is_err() {
            return; // the reading half learns of it too
        }
    }
}
