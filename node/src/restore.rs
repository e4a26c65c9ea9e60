//! A clinic that lost everything: its packs come back from the shards that others hold.
//!
//! A node founded from a kit keeps a note in its store that it is being restored. While the note is there, every pack of
//! its organisation on the ledger that is not in the store is fetched; when none is left, the note goes. So a restore
//! that is cut off goes on where it was, pack by pack.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bithealth_exchange::Priority;
use bithealth_proto::v1;
use bithealth_store::Kind;
use bithealth_types::{Code, NodeId, PackId};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tracing::{debug, info, warn};

use crate::fetch;
use crate::node::Node;
use crate::open::own_catalog;
use crate::replicate::blocking;
use crate::shelf::{Salt, Source};

/// Packs fetched at a time: each takes some 50 MiB while it is decoded and checked.
const PACKS_IN_FLIGHT: usize = 2;
/// The ledger counts as fetched when nothing new came for so long.
const LEDGER_QUIET: Duration = Duration::from_millis(1_500);
/// Between two looks at whether what is missing can be had now.
const RETRY: Duration = Duration::from_secs(2);
/// A restore that brought nothing back for so long has failed for now. The node goes on trying while it runs.
const PATIENCE: Duration = Duration::from_secs(15);
/// The note in the store.
const NOTE: &[u8] = b"restoring";

/// How far a restore is.
#[derive(Clone, Debug, Default)]
pub struct RestoreProgress {
    /// What it does now.
    pub phase: Phase,
    /// Packs that came back.
    pub packs: u64,
    /// Packs there are to come back, as far as known.
    pub packs_total: u64,
    /// Bytes of packs that came back.
    pub bytes: u64,
    /// Bytes there are to come back, as far as known.
    pub bytes_total: u64,
    /// Records that can be read again.
    pub records: u64,
    /// Packs that could not be had in the last round, and why.
    pub failed: Vec<(PackId, String)>,
    /// Nothing came back for so long that whoever waits is told so.
    pub is_stuck: bool,
}

/// What a restore does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase {
    /// Nothing is to be restored, or all was.
    #[default]
    Done,
    /// Looks for peers that answer.
    Connecting,
    /// Fetches the ledger.
    Ledger,
    /// Fetches packs.
    Packs,
}

/// Notes in the store that this node is to be restored.
///
/// # Errors
/// If the store takes nothing.
pub fn note(store: &bithealth_store::Store) -> Result<(), bithealth_store::WriteError> {
    let position = store.put(Kind::Meta, NOTE, &[], &[])?;
    store.sync(position)
}

/// Whether this node is being restored.
pub fn is_noted(store: &bithealth_store::Store) -> bool {
    store.contains(Kind::Meta, NOTE).unwrap_or(false)
}

/// Restores this node if it is to be restored.
pub async fn run(node: Arc<Node>) {
    if !is_noted(&node.store) {
        return;
    }
    tell(&node, |progress| progress.phase = Phase::Connecting);
    wait_for_peers(&node).await;
    tell(&node, |progress| progress.phase = Phase::Ledger);
    wait_for_ledger(&node).await;
    let (mut packs, mut since) = (0, Instant::now());
    loop {
        tell(&node, |progress| progress.phase = Phase::Packs);
        let failed = fetch_missing(&node).await;
        let back = node.restoring.borrow().packs;
        if back > packs {
            (packs, since) = (back, Instant::now());
        }
        if failed.is_empty() && missing(&node).is_empty() {
            break;
        }
        tell(&node, |progress| {
            progress.failed = failed;
            progress.is_stuck = since.elapsed() >= PATIENCE;
        });
        let mut changes = node.chain.watch();
        let mut peers = node.peers_changed.subscribe();
        tokio::select! {
            _ = changes.changed() => {}
            _ = peers.changed() => {}
            () = tokio::time::sleep(RETRY) => {}
        }
    }
    if let Err(error) = node.store.remove(Kind::Meta, NOTE) {
        warn!(%error, "the restore is complete; the note of it stays");
    }
    let worker = node.clone();
    if let Err(error) = blocking(move || fetch::forget_all_parts(&worker.store)).await {
        warn!(%error, "the restore is complete; leaves of packs stay in the store");
    }
    info!("restored");
    tell(&node, |progress| {
        progress.failed.clear();
        progress.is_stuck = false;
        progress.phase = Phase::Done;
    });
}

fn tell(node: &Node, change: impl FnOnce(&mut RestoreProgress)) {
    node.restoring.send_modify(change);
}

async fn wait_for_peers(node: &Node) {
    let mut peers = node.peers_changed.subscribe();
    while !node.net.connected().iter().any(|peer| node.net.is_admitted(peer)) {
        let _ = tokio::time::timeout(RETRY, peers.changed()).await; // either way it is time to look
    }
}

/// The ledger grows while it is fetched; entries of packs may come in any round.
async fn wait_for_ledger(node: &Node) {
    let mut changes = node.chain.watch();
    let known = |node: &Node| node.chain.state().node(&node.id()).is_some();
    loop {
        let quiet = tokio::time::timeout(LEDGER_QUIET, changes.changed()).await.is_err();
        if quiet && known(node) {
            return;
        }
    }
}

/// An own pack that is to be fetched.
#[derive(Clone, Copy)]
struct Missing {
    id: PackId,
    salt: Salt,
    len: u64,
}

/// Packs of our organisation on the ledger that are not in our store.
fn missing(node: &Node) -> Vec<Missing> {
    let state = node.chain.state();
    let ours = |author: &NodeId| state.node(author).is_some_and(|it| it.member == node.member());
    let of = state.packs().filter(|pack| pack.retired_into.is_none() && ours(&pack.author));
    of.filter_map(|pack| {
        let descriptor = pack.commit.pack.as_ref()?;
        let salt: Salt = descriptor.salt.as_ref().try_into().ok()?;
        (!node.store.contains(Kind::Pack, &salt).unwrap_or(false)).then_some(Missing {
            id: pack.id,
            salt,
            len: descriptor.len,
        })
    })
    .collect()
}

/// Fetches what is missing; returns what could not be had.
async fn fetch_missing(node: &Arc<Node>) -> Vec<(PackId, String)> {
    let missing = missing(node);
    tell(node, |progress| {
        progress.packs_total = progress.packs + missing.len() as u64;
        progress.bytes_total = progress.bytes + missing.iter().map(|pack| pack.len).sum::<u64>();
    });
    let mut failed = Vec::new();
    let mut queue = missing.into_iter();
    let mut flights = FuturesUnordered::new();
    loop {
        while flights.len() < PACKS_IN_FLIGHT {
            let Some(pack) = queue.next() else { break };
            flights.push(async move { (pack, restore(node, &pack).await) });
        }
        let Some((pack, restored)) = flights.next().await else { return failed };
        match restored {
            Ok(()) => tell(node, |progress| {
                progress.packs += 1;
                progress.bytes += pack.len;
                progress.records = node.shelf.totals().records;
            }),
            Err(error) => {
                debug!(pack = %pack.id.short(), %error, "a pack cannot be restored yet");
                failed.push((pack.id, error.to_string()));
            }
        }
    }
}

/// Brings one pack back: fetched, checked, durable, on the shelf.
async fn restore(node: &Arc<Node>, pack: &Missing) -> anyhow::Result<()> {
    let bytes = fetch::whole(node, &pack.id, Priority::Restore).await?;
    let (node, pack) = (node.clone(), *pack);
    blocking(move || {
        keep(&node, &pack.id, &pack.salt, &bytes)?;
        Ok(fetch::forget_parts_of(&node.store, &pack.id)?)
    })
    .await
}

/// Keeps an own pack that came back from its shards: durable, on the shelf, watched. Blocks.
///
/// # Errors
/// If the store takes nothing, or the pack's catalog is not ours.
pub fn keep(node: &Arc<Node>, id: &PackId, salt: &Salt, bytes: &[u8]) -> anyhow::Result<()> {
    let commit = node.chain.state().pack(id).map(|pack| pack.commit.clone()).unwrap_or_default();
    let descriptor = commit.pack.unwrap_or_default();
    let code = Code::new(descriptor.k, descriptor.n)?;
    let coded = bithealth_pack::encode(code, salt, descriptor.catalog_len, bytes)?;
    let catalog_at = bytes.len() - descriptor.catalog_len as usize;
    let catalog = own_catalog(&node.keys.organisation, salt, &bytes[catalog_at..])?;
    let beside = v1::StoredPack {
        catalog_len: descriptor.catalog_len,
        heads_root: commit.heads_root,
        wraps: commit.wraps,
        policy: commit.policy,
        replaces: Vec::new(),
        readers: Vec::new(),
    };
    let pack = node.vault.put_pack(salt, &beside, bytes)?;
    let trees = node.vault.put_coded(salt, &coded, code)?;
    node.store.sync(pack.max(trees))?;
    if !node.shelf.has(salt) {
        node.shelf.add(*salt, Source::Own, &catalog.rows);
    }
    node.replication.add(*salt);
    Ok(())
}
