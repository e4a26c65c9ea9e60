//! Reads back and checks what this node holds, and repairs what is damaged from peers.

use std::sync::Arc;

use bithealth_exchange::Priority;
use bithealth_http::EventStream;
use bithealth_http::api::{VerifyEvent, VerifyOptions};
use bithealth_types::{ByteLen, LEAF_LEN, LeafIndex, PackId, ShardIndex};
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::fetch;
use crate::node::Node;
use crate::open::own_catalog;
use crate::replicate::blocking;
use crate::serving::WANT_LEAVES_MAX;
use crate::shelf::Salt;

/// Events waiting for a slow caller.
const EVENTS_MAX: usize = 64;

/// Something sealed that lies here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Item {
    /// An own pack.
    Pack(Salt),
    /// A shard held for somebody else.
    Shard(PackId, ShardIndex),
}

/// What a check of an item came to.
pub(crate) struct Checked {
    /// Bytes read and found good.
    pub(crate) bytes: u64,
    /// What is wrong, and whether peers gave back what should be there.
    pub(crate) damage: Option<(anyhow::Error, bool)>,
}

/// What was checked so far.
#[derive(Default)]
struct Tally {
    items: u64,
    bytes: u64,
    bytes_total: u64,
    damaged: u64,
    repaired: u64,
}

impl Item {
    /// All that lies here, own packs first.
    pub(crate) fn all(node: &Node) -> Vec<Self> {
        let packs = node.vault.salts().unwrap_or_default().into_iter().map(Self::Pack);
        let shards = node.vault.held().unwrap_or_default().into_iter().map(|(pack, shard)| Self::Shard(pack, shard));
        packs.chain(shards).collect()
    }

    /// For people.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Pack(salt) => format!("own pack {}", PackId(*salt).short()),
            Self::Shard(pack, shard) => format!("shard {shard} of pack {}", pack.short()),
        }
    }
}

/// Checks own packs, shards held for others, entries and blocks.
pub fn verify(node: Arc<Node>, options: VerifyOptions) -> EventStream<VerifyEvent> {
    let (events, receiver) = mpsc::channel(EVENTS_MAX);
    tokio::spawn(run(node, options, events));
    ReceiverStream::new(receiver).boxed()
}

async fn run(node: Arc<Node>, options: VerifyOptions, events: mpsc::Sender<VerifyEvent>) {
    let mut tally = Tally { bytes_total: node.store.usage().live_bytes, ..Tally::default() };
    for item in Item::all(&node) {
        tally.items += 1;
        let Checked { bytes, damage } = check(&node, item, options).await;
        match damage {
            None => tell_progress(bytes, &mut tally, &events).await,
            Some((error, repaired)) => tell_damage(item.name(), error, repaired, &mut tally, &events).await,
        }
    }
    let worker = node.clone();
    let (entries, blocks) = blocking(move || worker.chain.verify()).await;
    let done = VerifyEvent::Done {
        items: tally.items + entries + blocks,
        bytes: ByteLen(tally.bytes),
        entries,
        blocks,
        damaged: tally.damaged,
        repaired: tally.repaired,
    };
    let _ = events.send(done).await; // the caller has gone
}

/// Checks one item, and asks peers for it where it is damaged.
pub(crate) async fn check(node: &Arc<Node>, item: Item, options: VerifyOptions) -> Checked {
    let worker = node.clone();
    let checked = blocking(move || match item {
        Item::Pack(salt) => read_pack(&worker, &salt, options),
        Item::Shard(..) if !options.full => Ok(0),
        Item::Shard(pack, shard) => read_shard(&worker, &pack, shard),
    });
    match checked.await {
        Ok(bytes) => Checked { bytes, damage: None },
        Err(error) => Checked { bytes: 0, damage: Some((error, repair(node, item).await)) },
    }
}

/// Asks peers for an item, and keeps it in place of what lies here.
pub(crate) async fn repair(node: &Arc<Node>, item: Item) -> bool {
    match item {
        Item::Pack(salt) => repair_pack(node, salt).await,
        Item::Shard(pack, shard) => repair_shard(node, pack, shard).await,
    }
}

fn read_pack(node: &Node, salt: &Salt, options: VerifyOptions) -> anyhow::Result<u64> {
    let bytes = if options.full { node.vault.whole_pack(salt)?.len() as u64 } else { 0 };
    let catalog = node.vault.catalog(salt)?;
    own_catalog(&node.keys.organisation, salt, &catalog)?;
    Ok(bytes.max(catalog.len() as u64))
}

/// Reads a whole shard and checks it against the root on the ledger.
fn read_shard(node: &Node, pack: &PackId, shard: ShardIndex) -> anyhow::Result<u64> {
    let leaf_count = (node.vault.shard_len(pack, shard)? / LEAF_LEN as u64) as u32;
    let descriptor = node.chain.state().pack(pack).and_then(|pack| pack.commit.pack.clone()).unwrap_or_default();
    let mut hashes = Vec::new();
    for first in (0..leaf_count).step_by(WANT_LEAVES_MAX as usize) {
        let count = WANT_LEAVES_MAX.min(leaf_count - first);
        let run = node.vault.leaves(pack, shard, LeafIndex(first), count)?;
        let run = run.ok_or_else(|| anyhow::anyhow!("leaves {first} and on are missing"))?;
        hashes.extend(run.data.chunks(LEAF_LEN).map(bithealth_merkle::leaf_hash));
    }
    let root = bithealth_merkle::root(&hashes);
    match descriptor.roots.get(usize::from(shard.0)) {
        Some(want) if want[..] != root.as_bytes()[..] => anyhow::bail!("its leaves give root {root}"),
        _ => Ok(u64::from(leaf_count) * LEAF_LEN as u64), // a pack that is not on the ledger yet has no root to compare
    }
}

async fn repair_pack(node: &Arc<Node>, salt: Salt) -> bool {
    let Some(pack) = node.chain.state().pack_with_salt(&salt) else { return false };
    let Ok(bytes) = fetch::whole(node, &pack, Priority::Repair).await else { return false };
    let worker = node.clone();
    blocking(move || crate::restore::keep(&worker, &pack, &salt, &bytes)).await.is_ok()
}

async fn repair_shard(node: &Arc<Node>, pack: PackId, shard: ShardIndex) -> bool {
    let Ok(fetched) = fetch::shard(node, &pack, shard, Priority::Repair).await else { return false };
    let worker = node.clone();
    blocking(move || worker.vault.keep_shard(&pack, shard, &fetched.tree, &[&fetched.bytes])).await.is_ok()
}

async fn tell_progress(bytes: u64, tally: &mut Tally, events: &mpsc::Sender<VerifyEvent>) {
    tally.bytes += bytes;
    let progress =
        VerifyEvent::Progress { bytes: ByteLen(tally.bytes), bytes_total: ByteLen(tally.bytes_total.max(tally.bytes)) };
    let _ = events.send(progress).await; // the check goes on without a listener: it repairs
}

async fn tell_damage(
    item: String,
    error: anyhow::Error,
    repaired: bool,
    tally: &mut Tally,
    events: &mpsc::Sender<VerifyEvent>,
) {
    tally.damaged += 1;
    tally.repaired += u64::from(repaired);
    let _ = events.send(VerifyEvent::Damaged { item, fault: error.to_string(), repaired }).await; // as above
}
