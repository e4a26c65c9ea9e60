//! Who may talk to us, and what they know that we do not: hello, admission, and the synchronisation of logs and blocks.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_ledger::Accused;
use bithealth_net::{Event, Events, GossipId, Protocol, Stream, Topic, Verdict};
use bithealth_proto::v1::{self, entry::Operation, hello_answer::Answer, sync_answer, sync_request::Request};
use bithealth_proto::{Limited, decode};
use bithealth_store::Kind;
use bithealth_types::{GenesisId, Height, NodeId, Sequence};
use bytes::Bytes;
use tokio::sync::Notify;
use tracing::{debug, info, warn};

use crate::chain::{ChainError, Received};
use crate::hold;
use crate::node::Node;
use crate::reconcile;
use crate::recovery::{self, TOLD_MAX};
use crate::replicate::blocking;
use crate::vault::node_id;

/// The version of the protocols spoken here.
const VERSION: u32 = 1;
/// Entries in one answer of a sync: with the longest entries (61 KiB) still below the frame limit.
pub(crate) const ENTRIES_BATCH_MAX: u32 = 128;
/// Blocks in one answer of a sync.
pub(crate) const BLOCKS_BATCH_MAX: u32 = 64;
/// A peer is asked what it knows at least this often: gossip does not back-fill.
const SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// Addresses told in a hello.
const ADDRESSES_MAX: usize = 16;

/// Why a peer is not welcome.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HelloError {
    /// Another network.
    #[error("it belongs to another network: its genesis is {theirs}, ours is {ours}")]
    OtherNetwork {
        /// Its genesis.
        theirs: String,
        /// Ours.
        ours: GenesisId,
    },
    /// The certificate is of another node.
    #[error("its certificate is of another node")]
    OtherNode,
    /// The ledger does not take it.
    #[error("it is no node of a member: {0}")]
    NotMember(#[from] ChainError),
    /// It was retired.
    #[error("it was retired")]
    Retired,
    /// It wrote two entries at one position.
    #[error("it signed two entries for one position of its log; its organisation sets up a new node with its kit")]
    Frozen,
    /// It sent something false before.
    #[error("it sent something false: {fault}")]
    ShutOut {
        /// What.
        fault: String,
    },
}

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

    /// Has all peers told what is new here.
    pub fn wake_all(&self) {
        self.wakers.lock().expect("no holder panics").values().for_each(|waker| waker.notify_one());
    }

    fn wake(&self, peer: &NodeId) {
        if let Some(waker) = self.wakers.lock().expect("no holder panics").get(peer) {
            waker.notify_one();
        }
    }
}

/// Handles what the network tells, for as long as it stands.
pub async fn run(node: Arc<Node>, mut events: Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { node: peer, outbound: true, .. } => drop(tokio::spawn(greet(node.clone(), peer))),
            Event::Connected { .. } | Event::NewAddress { .. } => {}
            Event::Disconnected { node: peer } => on_disconnected(&node, &peer),
            Event::Stream { from, protocol, stream } => on_stream(&node, from, protocol, stream),
            Event::Gossip { topic, from, id, bytes } => on_gossip(&node, topic, from, id, bytes).await,
            _ => {}
        }
    }
}

/// Introduces this node.
pub(crate) fn hello(node: &Node) -> v1::Hello {
    let state = node.chain.state();
    let mut addresses = node.net.listen_addresses();
    addresses.truncate(ADDRESSES_MAX);
    v1::Hello {
        genesis: Bytes::copy_from_slice(state.genesis_id().as_bytes()),
        version: VERSION,
        node: Some(node.certificate.clone()),
        admission: node.admission.clone(),
        addresses,
        genesis_file: Some(state.genesis().clone()),
    }
}

async fn greet(node: Arc<Node>, peer: NodeId) {
    let mut stream = match node.net.open(peer, Protocol::Hello).await {
        Ok(stream) => stream,
        Err(error) => return debug!(peer = %peer.short(), %error, "no hello"),
    };
    match stream.ask::<v1::Hello, v1::HelloAnswer>(&hello(&node)).await {
        Ok(v1::HelloAnswer { answer: Some(Answer::Welcome(hello)) }) => welcome(&node, peer, hello).await,
        Ok(v1::HelloAnswer { answer: Some(Answer::Refused(refusal)) }) => {
            warn!(peer = %peer.short(), reason = refusal.reason, "the peer refuses us");
        }
        Ok(_) => debug!(peer = %peer.short(), "an answer of a kind this version does not know"),
        Err(error) => debug!(peer = %peer.short(), %error, "no answer to our hello"),
    }
}

/// The peer welcomed us; do we welcome it?
async fn welcome(node: &Arc<Node>, peer: NodeId, hello: v1::Hello) {
    let addresses = hello.addresses.clone();
    match accept(node, peer, hello).await {
        Ok(()) => admit(node, peer, addresses).await,
        Err(error) => warn!(peer = %peer.short(), %error, "a peer is not admitted"),
    }
}

async fn answer_hello(node: Arc<Node>, peer: NodeId, mut stream: Stream) {
    let Ok(Some(theirs)) = stream.recv::<v1::Hello>().await else { return };
    let addresses = theirs.addresses.clone();
    let accepted = accept(&node, peer, theirs).await;
    let answer = match &accepted {
        Ok(()) => {
            admit(&node, peer, addresses).await;
            Answer::Welcome(hello(&node))
        }
        Err(error) => {
            warn!(peer = %peer.short(), %error, "a peer is refused");
            let genesis = Bytes::copy_from_slice(node.chain.state().genesis_id().as_bytes());
            Answer::Refused(v1::Refusal { reason: error.to_string(), genesis })
        }
    };
    let answer = v1::HelloAnswer { answer: Some(answer) };
    let sent = async {
        stream.send(&answer).await?;
        stream.close().await
    };
    if let Err(error) = sent.await {
        debug!(peer = %peer.short(), %error, "the answer to a hello was not taken");
    }
}

/// Whether a peer is a node of a member; brings new ones onto the ledger.
async fn accept(node: &Arc<Node>, peer: NodeId, hello: v1::Hello) -> Result<(), HelloError> {
    let ours = node.chain.state().genesis_id();
    if hello.genesis.as_ref() != ours.as_bytes() {
        let theirs = GenesisId::try_from(hello.genesis.as_ref()).map_or("none".into(), |id| id.to_string());
        return Err(HelloError::OtherNetwork { theirs, ours });
    }
    if let Some(fault) = node.shut_out.lock().expect("no holder panics").get(&peer) {
        return Err(HelloError::ShutOut { fault: fault.clone() });
    }
    if node.chain.state().is_accused(&Accused::Author(peer)) {
        return Err(HelloError::Frozen);
    }
    let known = node.chain.state().node(&peer).map(|node| node.retired);
    match known {
        Some(true) => return Err(HelloError::Retired),
        Some(false) => return Ok(()),
        None if node.is_contact(&peer) => return Ok(()), // the operator named it; the ledger will show who it is
        None => {}
    }
    let certificate = hello.node.unwrap_or_default();
    if node_id(&certificate.node) != Some(peer) {
        return Err(HelloError::OtherNode);
    }
    let node = node.clone();
    blocking(move || {
        if let Some(admission) = hello.admission {
            node.admit_member(admission)?;
        }
        if let Err(error) = node.append(Operation::AddNode(certificate)) {
            // Another node may have brought it in at this very moment.
            if node.chain.state().node(&peer).is_none() {
                return Err(error.into());
            }
        }
        info!(peer = %peer.short(), "a new node of a member");
        Ok(())
    })
    .await
}

async fn admit(node: &Arc<Node>, peer: NodeId, addresses: Vec<String>) {
    if node.net.admit(peer).await.is_err() {
        return; // the network is stopping
    }
    let fresh = {
        let mut wakers = node.followers.wakers.lock().expect("no holder panics");
        !wakers.contains_key(&peer) && wakers.insert(peer, Arc::default()).is_none()
    };
    if fresh {
        node.followers.since_ms.lock().expect("no holder panics").insert(peer, crate::node::now_ms());
        tokio::spawn(follow(node.clone(), peer));
    }
    let (book, told) = (node.clone(), addresses.clone());
    blocking(move || remember(&book, &peer, &told)).await;
    if let Err(error) = node.net.keep(peer, addresses).await {
        debug!(peer = %peer.short(), %error, "its addresses are of no use");
        let _ = node.net.keep(peer, Vec::new()).await; // only fails while stopping
    }
    node.peers_changed.send_modify(|count| *count += 1);
}

fn on_disconnected(node: &Node, peer: &NodeId) {
    if let Some(waker) = node.followers.wakers.lock().expect("no holder panics").remove(peer) {
        waker.notify_one();
    }
    node.followers.since_ms.lock().expect("no holder panics").remove(peer);
    node.peers_changed.send_modify(|count| *count += 1);
}

fn on_stream(node: &Arc<Node>, from: NodeId, protocol: Protocol, stream: Stream) {
    match protocol {
        Protocol::Hello => drop(tokio::spawn(answer_hello(node.clone(), from, stream))),
        Protocol::Sync => drop(tokio::spawn(answer_sync(node.clone(), from, stream))),
        Protocol::Exchange => drop(tokio::spawn(hold::serve(node.clone(), from, stream))),
    }
}

async fn on_gossip(node: &Arc<Node>, topic: Topic, from: NodeId, id: GossipId, bytes: Bytes) {
    let worker = node.clone();
    let received = blocking(move || match topic {
        Topic::Entries => received(&bytes, |entry| worker.chain.receive_entry(entry)),
        Topic::Headers => received(&bytes, |block| worker.chain.receive_block(block)),
        Topic::Consensus => received(&bytes, |message: &v1::ConsensusMessage| {
            worker.finality.hear(message.clone());
            Ok(Received::New)
        }),
    })
    .await;
    let verdict = match received {
        Ok(Received::New) => Verdict::Accept,
        Ok(Received::Known) => Verdict::Ignore,
        Ok(Received::Behind | Received::Diverged(_) | Received::OtherHistory) => {
            node.followers.wake(&from);
            Verdict::Ignore
        }
        Ok(Received::Evidence(evidence)) => {
            let worker = node.clone();
            blocking(move || reconcile::accuse(&worker, *evidence)).await;
            Verdict::Ignore
        }
        Ok(Received::False(why)) => {
            warn!(peer = %from.short(), why, "a false message was gossiped");
            Verdict::Reject
        }
        Err(error) => {
            warn!(%error, "a gossiped message cannot be stored");
            Verdict::Ignore
        }
    };
    let _ = node.net.judge(id, from, verdict).await; // only fails while stopping
}

fn received<M: Limited>(
    bytes: &[u8],
    receive: impl FnOnce(&M) -> Result<Received, bithealth_store::WriteError>,
) -> Result<Received, bithealth_store::WriteError> {
    match decode::<M>(bytes) {
        Ok(message) => receive(&message),
        Err(error) => Ok(Received::False(error.to_string())),
    }
}

/// Keeps up with one peer for as long as it is connected.
async fn follow(node: Arc<Node>, peer: NodeId) {
    let waker = node.followers.wakers.lock().expect("no holder panics").get(&peer).cloned();
    let Some(waker) = waker else { return };
    while node.followers.wakers.lock().expect("no holder panics").get(&peer).is_some_and(|it| Arc::ptr_eq(it, &waker)) {
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

async fn answer_sync(node: Arc<Node>, from: NodeId, mut stream: Stream) {
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

/// Stays connected to every node of the ledger, for as long as the node runs.
pub async fn connect(node: Arc<Node>) {
    let mut changes = node.chain.watch();
    let mut kept = std::collections::HashSet::new();
    for contact in node.config.contacts.clone() {
        let node = node.clone();
        tokio::spawn(async move { call(&node, contact).await });
    }
    loop {
        let others: Vec<NodeId> = {
            let state = node.chain.state();
            state.nodes().filter(|it| !it.retired && it.id != node.id()).map(|it| it.id).collect()
        };
        for other in others {
            if kept.insert(other) {
                let book = node.clone();
                let addresses = blocking(move || remembered(&book, &other)).await;
                if let Err(error) = node.net.keep(other, addresses).await {
                    debug!(peer = %other.short(), %error, "not kept");
                }
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Notes where a peer said it can be reached, so that this node finds it after a restart though it cannot be found
/// itself. Blocks.
fn remember(node: &Node, peer: &NodeId, addresses: &[String]) {
    if addresses.is_empty() || remembered(node, peer) == addresses {
        return;
    }
    let text = addresses.join("\n");
    if let Err(error) = node.store.put(Kind::Meta, &address_key(peer), text.as_bytes(), &[]) {
        debug!(%error, "an address is not noted");
    }
}

/// Where a peer could be reached once. Blocks.
fn remembered(node: &Node, peer: &NodeId) -> Vec<String> {
    let found = node.store.get(Kind::Meta, &address_key(peer)).ok().flatten();
    let text = found.and_then(|item| String::from_utf8(item.meta.to_vec()).ok()).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

fn address_key(peer: &NodeId) -> Vec<u8> {
    [b"address ".as_slice(), peer.as_bytes()].concat()
}

/// Calls a contact until it answers once; from then on the network keeps the connection.
async fn call(node: &Arc<Node>, contact: String) {
    let mut wait = Duration::from_secs(1);
    loop {
        match node.net.dial(vec![contact.clone()]).await {
            Ok(_) => return,
            Err(error) => debug!(contact, %error, "a contact does not answer"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(Duration::from_secs(30));
    }
}
