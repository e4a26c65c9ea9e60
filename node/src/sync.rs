//! Keeping up with each peer: what it has of logs and blocks and we lack is asked for, and answered where it asks.

mod claims;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_net::{Protocol, Stream};
use bithealth_proto::v1::{self, sync_answer, sync_request::Request};
use bithealth_types::{Digest, Height, NodeId, Sequence};
use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::chain::{ChainError, Received, block_of};
use crate::node::Node;
use crate::reconcile;
use crate::recovery;
use crate::replicate::blocking;
use claims::{Claim, Claims, Wanted};

/// Entries in one answer of a sync: with the longest entries (61 KiB) still below the frame limit.
pub(crate) const ENTRIES_BATCH_MAX: u32 = 128;
/// Blocks in one answer of a sync.
pub(crate) const BLOCKS_BATCH_MAX: u32 = 64;
/// A peer is asked what it knows at least this often: gossip does not back-fill.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// Wakes the synchronisation with each peer.
pub struct Followers {
    wakers: Mutex<HashMap<NodeId, Arc<Notify>>>,
    since_ms: Mutex<HashMap<NodeId, u64>>,
    claims: Claims,
    /// Nodes whose ledger was here as a whole at some time since the start.
    caught_up: watch::Sender<BTreeSet<NodeId>>,
}

impl Default for Followers {
    fn default() -> Self {
        let (wakers, since_ms, claims) = (Mutex::default(), Mutex::default(), Claims::default());
        Self { wakers, since_ms, claims, caught_up: watch::channel(BTreeSet::new()).0 }
    }
}

impl Followers {
    /// The nodes all of whose ledger was here at some time since the start, and when there are more.
    pub(crate) fn caught_up(&self) -> watch::Receiver<BTreeSet<NodeId>> {
        self.caught_up.subscribe()
    }

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
/// What a peer answered that no honest node can have.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Forged(String);

/// Keeps up with one peer for as long as it is connected.
pub(crate) async fn follow(node: Arc<Node>, peer: NodeId) {
    let Some(waker) = node.followers.waker(&peer) else { return };
    while node.followers.waker(&peer).is_some_and(|it| Arc::ptr_eq(&it, &waker)) {
        if let Err(error) = catch_up(&node, peer, &waker).await {
            if let Some(forged) = error.downcast_ref::<Forged>() {
                warn!(peer = %peer.short(), %forged, "a peer lies about the ledger and is shut out");
                return node.shut_out(peer, forged.to_string());
            }
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
        node.followers.caught_up.send_if_modified(|nodes| nodes.insert(peer));
        let _ = tokio::time::timeout(SYNC_INTERVAL, waker.notified()).await; // either way it is time to look
        if !node.net.is_connected(&peer) {
            return Ok(());
        }
    }
}

/// One round; true if it brought something new.
async fn sync_once(node: &Arc<Node>, stream: &mut Stream) -> anyhow::Result<bool> {
    take_body(node, stream).await?;
    let sync_answer::Answer::Frontier(mut theirs) = ask(stream, Request::Frontier(frontier(node))).await? else {
        anyhow::bail!("the peer answered something that was not asked");
    };
    if !theirs.recoveries.is_empty() {
        let (worker, told) = (node.clone(), std::mem::take(&mut theirs.recoveries));
        blocking(move || recovery::hear(&worker, &told)).await;
    }
    let mut progress = false;
    let logs = theirs.logs.iter().map(|log| anyhow::Ok((NodeId::try_from(log.author.as_ref())?, log.len)));
    let mut others = Vec::new();
    for (author, len) in logs.collect::<Result<Vec<_>, _>>()? {
        if len <= log_len(node, &author) {
            continue;
        }
        match node.followers.claims.claim(Wanted::Log(author)) {
            Ok(claim) => progress |= fetch_log(node, stream, author, len, claim).await?,
            Err(_) => others.push((author, len)),
        }
    }
    for (author, len) in others {
        let claim = node.followers.claims.wait(Wanted::Log(author)).await;
        progress |= fetch_log(node, stream, author, len, claim).await?;
    }
    reconcile::compare(node, stream).await?;
    if node.chain.state().height().0 < theirs.height {
        let claim = node.followers.claims.wait(Wanted::Blocks).await;
        progress |= fetch_blocks(node, stream, theirs.height, claim).await?;
    }
    Ok(progress)
}

fn log_len(node: &Node, author: &NodeId) -> u64 {
    node.chain.state().log(author).map_or(0, |log| log.len)
}

/// Asks for what a header that was gossiped commits to.
async fn take_body(node: &Arc<Node>, stream: &mut Stream) -> anyhow::Result<()> {
    let Ok(_claim) = node.followers.claims.claim(Wanted::Blocks) else { return Ok(()) };
    let Some((digest, signed)) = node.chain.headed() else { return Ok(()) };
    let height = signed.header.as_ref().map_or(0, |header| header.height);
    let request = v1::SyncBody { height, header: Bytes::copy_from_slice(digest.as_bytes()) };
    let sync_answer::Answer::Body(found) = ask(stream, Request::Body(request)).await? else {
        anyhow::bail!("the peer answered something that was not asked");
    };
    let Some(body) = found.body else { return Ok(()) };
    let worker = node.clone();
    // What must come before it comes in the round that follows.
    blocking(move || take_blocks(&worker, vec![block_of(signed, body)])).await.map(drop)
}

/// Fetches a log up to a length; true if something came.
async fn fetch_log(
    node: &Arc<Node>,
    stream: &mut Stream,
    author: NodeId,
    len: u64,
    claim: Claim<'_>,
) -> anyhow::Result<bool> {
    let mut progress = false;
    let mut from = log_len(node, &author);
    while from < len {
        let request = v1::SyncEntries { author: author.0.to_vec().into(), from, max: ENTRIES_BATCH_MAX };
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
        // Few at a time are no reason to let nobody else.
        if taken == u64::from(ENTRIES_BATCH_MAX) && !claim.renew() {
            break;
        }
    }
    Ok(progress)
}

/// Fetches the blocks up to a height; true if something came.
async fn fetch_blocks(node: &Arc<Node>, stream: &mut Stream, height: u64, claim: Claim<'_>) -> anyhow::Result<bool> {
    let mut progress = false;
    let mut next = node.chain.state().height().0 + 1;
    while next <= height {
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
            _ if taken == u64::from(BLOCKS_BATCH_MAX) && !claim.renew() => break,
            _ => {}
        }
    }
    Ok(progress)
}

fn take_entries(node: &Arc<Node>, entries: &[v1::SignedEntry]) -> anyhow::Result<u64> {
    let (taken, received) = node.chain.receive_entries(entries)?;
    match received {
        Received::Evidence(evidence) => reconcile::accuse(node, *evidence),
        Received::False(why) => anyhow::bail!("a false entry: {why}"),
        Received::Forged(why) => return Err(Forged(why).into()),
        _ => {}
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
            Received::Forged(why) => return Err(Forged(why).into()),
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
            recovery::hear(node, &theirs.recoveries);
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
        Request::Body(wanted) => {
            let digest = Digest::try_from(wanted.header.as_ref()).unwrap_or(Digest([0; 32]));
            Answer::Body(v1::FoundBody { body: node.chain.body(Height(wanted.height), &digest)? })
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
