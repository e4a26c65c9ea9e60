//! Keeping up with each peer: what it has of logs and blocks and we lack is asked for, and answered where it asks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_net::{Protocol, Stream};
use bithealth_proto::v1::{self, sync_answer, sync_request::Request};
use bithealth_types::{Height, NodeId, Sequence};
use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{debug, warn};

use crate::chain::{ChainError, Received};
use crate::node::Node;
use crate::reconcile;
use crate::recovery::{self, TOLD_MAX};
use crate::replicate::blocking;

/// Entries in one answer of a sync: with the longest entries (61 KiB) still below the frame limit.
pub(crate) const ENTRIES_BATCH_MAX: u32 = 128;
/// Blocks in one answer of a sync.
pub(crate) const BLOCKS_BATCH_MAX: u32 = 64;
/// A peer is asked what it knows at least this often: gossip does not back-fill.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Wakes the synchronisation with each peer.
#[derive(Default)]
pub struct Followers {
    wakers: Mutex<HashMap<NodeId, Arc<Notify>>>,
    since_ms: Mutex<HashMap<NodeId, u64>>,
}

impl Followers {
    /// Since when a peer is connected and admitted, milliseconds since 1970.
    pub fn since_ms(&self, peer: &NodeId) -> Option<u64> {
        self.since_ms.lock().expect("no holder panics").get(peer).copied()
    }

    /// Begins to keep up with a peer; false if it was begun before.
    pub(crate) fn begin(&self, peer: NodeId, now_ms: u64) -> bool {
        let mut wakers = self.wakers.lock().expect("no holder panics");
        if wakers.contains_key(&peer) {
            return false;
        }
        wakers.insert(peer, Arc::default());
        self.since_ms.lock().expect("no holder panics").insert(peer, now_ms);
        true
    }

    /// Its connection has ended.
    pub(crate) fn end(&self, peer: &NodeId) {
        if let Some(waker) = self.wakers.lock().expect("no holder panics").remove(peer) {
            waker.notify_one();
        }
        self.since_ms.lock().expect("no holder panics").remove(peer);
    }

    fn waker(&self, peer: &NodeId) -> Option<Arc<Notify>> {
        self.wakers.lock().expect("no holder panics").get(peer).cloned()
    }

    /// Has all peers told what is new here.
    pub fn wake_all(&self) {
        self.wakers.lock().expect("no holder panics").values().for_each(|waker| waker.notify_one());
    }

    /// Has this peer asked for what is new there.
    pub(crate) fn wake(&self, peer: &NodeId) {
        if let Some(waker) = self.waker(peer) {
            waker.notify_one();
        }
    }
}
/// Keeps up with one peer for as long as it is connected.
pub(crate) async fn follow(node: Arc<Node>, peer: NodeId) {
    let Some(waker) = node.followers.waker(&peer) else { return };
    while node.followers.waker(&peer).is_some_and(|it| Arc::ptr_eq(&it, &waker)) {
        if let Err(error) = catch_up(&node, peer, &waker).await {
            debug!(peer = %peer.short(), %error, "synchronisation was cut off");
        }
        let _ = tokio::time::timeout(SYNC_INTERVAL, waker.notified()).await; // either way it is time to look
    }
}

/// Asks a peer for what we lack, again whenever there may be more, until the stream ends.
async fn catch_up(node: &Arc<Node>, peer: NodeId, waker: &Notify) -> anyhow::Result<()> {
    let mut stream = node.net.open(peer, Protocol::Sync).await?;
    loop {
        while sync_once(node, &mut stream).await? {}
        let _ = tokio::time::timeout(SYNC_INTERVAL, waker.notified()).await; // either way it is time to look
        if !node.net.is_connected(&peer) {
            return Ok(());
        }
    }
}

/// One round; true if it brought something new.
async fn sync_once(node: &Arc<Node>, stream: &mut Stream) -> anyhow::Result<bool> {
    let ours = frontier(node);
    let have: HashMap<Bytes, u64> = ours.logs.iter().map(|log| (log.author.clone(), log.len)).collect();
    let height = ours.height;
    let sync_answer::Answer::Frontier(theirs) = ask(stream, Request::Frontier(ours)).await? else {
        anyhow::bail!("the peer answered something that was not asked");
    };
    for signed in theirs.recoveries.into_iter().take(TOLD_MAX) {
        let worker = node.clone();
        blocking(move || recovery::hear(&worker, &signed)).await;
    }
    let mut progress = false;
    for log in theirs.logs {
        let mut from = have.get(&log.author).copied().unwrap_or(0);
        while from < log.len {
            let request = v1::SyncEntries { author: log.author.clone(), from, max: ENTRIES_BATCH_MAX };
            let sync_answer::Answer::Entries(batch) = ask(stream, Request::Entries(request)).await? else {
                anyhow::bail!("the peer answered something that was not asked");
            };
            let worker = node.clone();
            let taken = blocking(move || take_entries(&worker, &batch.entries)).await?;
            progress |= taken > 0;
            from += taken;
            if taken == 0 {
                break; // it waits for another author's entry, in a later round
            }
        }
    }
    reconcile::compare(node, stream).await?;
    let mut next = height + 1;
    while next <= theirs.height {
        let request = v1::SyncBlocks { from: next, max: BLOCKS_BATCH_MAX };
        let sync_answer::Answer::Blocks(batch) = ask(stream, Request::Blocks(request)).await? else {
            anyhow::bail!("the peer answered something that was not asked");
        };
        let worker = node.clone();
        let (taken, stopped) = blocking(move || take_blocks(&worker, batch.blocks)).await?;
        progress |= taken > 0;
        next += taken;
        match stopped {
            Some((block, Received::Diverged(author))) => reconcile::adopt(node, stream, &block, author).await?,
            Some((_, Received::OtherHistory)) => {
                reconcile::compare_blocks(node, stream).await?;
                anyhow::ensure!(node.chain.fork().is_some(), "its blocks follow none that is here");
                return Ok(false);
            }
            _ if taken == 0 => break,
            _ => {}
        }
    }
    Ok(progress)
}

fn take_entries(node: &Arc<Node>, entries: &[v1::SignedEntry]) -> anyhow::Result<u64> {
    let mut taken = 0;
    for entry in entries {
        match node.chain.receive_entry(entry)? {
            Received::New | Received::Known => taken += 1,
            Received::Evidence(evidence) => {
                reconcile::accuse(node, *evidence);
                break;
            }
            Received::Behind | Received::Diverged(_) | Received::OtherHistory => break,
            Received::False(why) => anyhow::bail!("a false entry: {why}"),
        }
    }
    Ok(taken)
}

/// How many were taken, and what the first that was not was about.
fn take_blocks(node: &Node, blocks: Vec<v1::Block>) -> anyhow::Result<(u64, Option<(v1::Block, Received)>)> {
    let mut taken = 0;
    for block in blocks {
        match node.chain.receive_block(&block)? {
            Received::New | Received::Known => taken += 1,
            Received::False(why) => anyhow::bail!("a false block: {why}"),
            other => return Ok((taken, Some((block, other)))),
        }
    }
    Ok((taken, None))
}

pub(crate) async fn ask(stream: &mut Stream, request: Request) -> anyhow::Result<sync_answer::Answer> {
    let answer: v1::SyncAnswer = stream.ask(&v1::SyncRequest { request: Some(request) }).await?;
    answer.answer.ok_or_else(|| anyhow::anyhow!("an answer of a kind this version does not know"))
}

/// Answers what a peer asks for on one stream.
pub(crate) async fn answer(node: Arc<Node>, from: NodeId, mut stream: Stream) {
    while let Ok(Some(v1::SyncRequest { request: Some(request) })) = stream.recv::<v1::SyncRequest>().await {
        let worker = node.clone();
        let answer = match blocking(move || sync_answer(&worker, request)).await {
            Ok(answer) => v1::SyncAnswer { answer: Some(answer) },
            Err(error) => return warn!(peer = %from.short(), %error, "a stored entry cannot be read"),
        };
        let sent = async {
            stream.send(&answer).await?;
            stream.flush().await
        };
        if sent.await.is_err() {
            return; // the peer has gone
        }
    }
}

fn sync_answer(node: &Arc<Node>, request: Request) -> Result<sync_answer::Answer, ChainError> {
    use sync_answer::Answer;
    Ok(match request {
        Request::Frontier(theirs) => {
            theirs.recoveries.iter().take(TOLD_MAX).for_each(|signed| recovery::hear(node, signed));
            Answer::Frontier(frontier(node))
        }
        Request::Entries(wanted) => {
            let author = NodeId::try_from(wanted.author.as_ref()).unwrap_or(NodeId([0; 32]));
            let max = wanted.max.min(ENTRIES_BATCH_MAX);
            Answer::Entries(v1::EntryBatch { entries: node.chain.entries(&author, Sequence(wanted.from), max)? })
        }
        Request::Blocks(wanted) => {
            let max = wanted.max.min(BLOCKS_BATCH_MAX);
            Answer::Blocks(v1::BlockBatch { blocks: node.chain.blocks(Height(wanted.from), max)? })
        }
        Request::Genesis(_) => Answer::Genesis(node.chain.state().genesis().clone()),
    })
}

fn frontier(node: &Node) -> v1::SyncFrontier {
    let recoveries = node.recovery.told(); // before the state: whoever takes one holds both, in this order
    let state = node.chain.state();
    let log = |it: &bithealth_ledger::Node| {
        let len = state.log(&it.id).map_or(0, |log| log.len);
        v1::LogLen { author: Bytes::copy_from_slice(it.id.as_bytes()), len }
    };
    v1::SyncFrontier { logs: state.nodes().map(log).collect(), height: state.height().0, recoveries }
}
