//! Who may talk to us, and what they say: hello, admission, gossip, and where peers are found.

use std::sync::Arc;
use std::time::Duration;

use bithealth_ledger::Accused;
use bithealth_net::{Event, Events, GossipId, Protocol, Stream, Topic, Verdict};
use bithealth_proto::v1::{self, entry::Operation, hello_answer::Answer};
use bithealth_proto::{Limited, decode};
use bithealth_store::Kind;
use bithealth_types::{GenesisId, NodeId};
use bytes::Bytes;
use tracing::{debug, info, warn};

use crate::chain::{ChainError, Received};
use crate::node::{Node, now_ms};
use crate::replicate::blocking;
use crate::vault::node_id;
use crate::{audited, finality, hold, reconcile, sync};

/// The version of the protocols spoken here.
const VERSION: u32 = 1;
/// Peers whose refusal `status` tells: it takes one to see what is wrong.
const REFUSING_MAX: usize = 16;
/// Characters of a refusal's reason that are kept; ours are shorter.
const REASON_LEN_MAX: usize = 300;
/// Who was refused greets again so soon, then after twice as long each time,
const GREET_AGAIN: Duration = Duration::from_millis(250);
/// up to this long: by then a peer ends a connection with somebody that it does not know.
const GREET_AGAIN_MAX: Duration = Duration::from_secs(4);
/// Addresses told in a hello, and kept of those that a peer tells: a hello has room for thousands.
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

/// Handles what the network tells, for as long as it stands.
pub async fn run(node: Arc<Node>, mut events: Events) {
    while let Some(event) = events.next().await {
        match event {
            Event::Connected { node: peer, outbound: true, .. } => drop(tokio::spawn(greet(node.clone(), peer))),
            Event::Connected { .. } | Event::NewAddress { .. } => {}
            Event::Moved { node: peer } => on_moved(&node, peer).await,
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
    let addresses = bounded(node.net.listen_addresses());
    v1::Hello {
        genesis: Bytes::copy_from_slice(state.genesis_id().as_bytes()),
        version: VERSION,
        node: Some(node.certificate.clone()),
        admission: node.admission.clone(),
        addresses,
        genesis_file: Some(state.genesis().clone()),
    }
}

fn bounded(mut addresses: Vec<String>) -> Vec<String> {
    addresses.truncate(ADDRESSES_MAX);
    addresses
}

/// Introduces this node, and again if it is refused: the peer may not have on its ledger yet who this is.
async fn greet(node: Arc<Node>, peer: NodeId) {
    let mut wait = GREET_AGAIN;
    while !greet_once(&node, peer).await && wait <= GREET_AGAIN_MAX {
        tokio::time::sleep(wait).await;
        wait *= 2;
        if !node.net.is_connected(&peer) {
            return; // there is a greeting at the next connection
        }
    }
}

/// Whether there is nothing more to say.
async fn greet_once(node: &Arc<Node>, peer: NodeId) -> bool {
    let mut stream = match node.net.open(peer, Protocol::Hello).await {
        Ok(stream) => stream,
        Err(error) => {
            debug!(peer = %peer.short(), %error, "no hello");
            return true;
        }
    };
    match stream.ask::<v1::Hello, v1::HelloAnswer>(&hello(node)).await {
        Ok(v1::HelloAnswer { answer: Some(Answer::Welcome(hello)) }) => {
            node.refusing.lock().expect("no holder panics").remove(&peer);
            welcome(node, peer, hello).await;
        }
        Ok(v1::HelloAnswer { answer: Some(Answer::Refused(refusal)) }) => {
            warn!(peer = %peer.short(), reason = refusal.reason, "the peer refuses us");
            let mut refusing = node.refusing.lock().expect("no holder panics");
            if refusing.len() < REFUSING_MAX || refusing.contains_key(&peer) {
                refusing.insert(peer, refusal.reason.chars().take(REASON_LEN_MAX).collect());
            }
            return refusal.genesis.as_ref() != node.chain.state().genesis_id().as_bytes();
        }
        Ok(_) => debug!(peer = %peer.short(), "an answer of a kind this version does not know"),
        Err(error) => debug!(peer = %peer.short(), %error, "no answer to our hello"),
    }
    true
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
    if node.followers.begin(peer, now_ms()) {
        tokio::spawn(sync::follow(node.clone(), peer));
    }
    let addresses = bounded(addresses);
    let (book, told) = (node.clone(), addresses.clone());
    blocking(move || remember(&book, &peer, &told)).await;
    if let Err(error) = node.net.keep(peer, addresses).await {
        debug!(peer = %peer.short(), %error, "its addresses are of no use");
        let _ = node.net.keep(peer, Vec::new()).await; // only fails while stopping
    }
    node.peers_changed.send_modify(|count| *count += 1);
}

/// A peer has other addresses than it had, as one that was given a place at a relay.
async fn on_moved(node: &Arc<Node>, peer: NodeId) {
    let book = node.clone();
    blocking(move || remember(&book, &peer, &bounded(book.net.addresses_of(peer)))).await;
}

fn on_disconnected(node: &Node, peer: &NodeId) {
    node.followers.end(peer);
    node.peers_changed.send_modify(|count| *count += 1);
}

fn on_stream(node: &Arc<Node>, from: NodeId, protocol: Protocol, stream: Stream) {
    match protocol {
        Protocol::Hello => drop(tokio::spawn(answer_hello(node.clone(), from, stream))),
        Protocol::Sync => drop(tokio::spawn(sync::answer(node.clone(), from, stream))),
        Protocol::Exchange => drop(tokio::spawn(hold::serve(node.clone(), from, stream))),
        Protocol::Audit => drop(tokio::spawn(audited::serve(node.clone(), from, stream))),
    }
}

async fn on_gossip(node: &Arc<Node>, topic: Topic, from: NodeId, id: GossipId, bytes: Bytes) {
    let worker = node.clone();
    let received = blocking(move || match topic {
        Topic::Entries => received(&bytes, |batch: &v1::NewEntries| {
            worker.chain.receive_entries(&batch.entries).map(|(_, received)| received)
        }),
        Topic::Headers => received(&bytes, |signed| worker.chain.receive_header(signed)),
        Topic::Consensus => received(&bytes, |message: &v1::ConsensusMessage| Ok(finality::receive(&worker, message))),
    })
    .await;
    let verdict = match received {
        Ok(Received::New) => Verdict::Accept,
        Ok(Received::Known) => Verdict::Ignore,
        Ok(Received::Headed) => {
            node.followers.wake(&from);
            Verdict::Accept
        }
        Ok(Received::Behind | Received::Diverged(_) | Received::OtherHistory) => {
            node.followers.wake(&from);
            Verdict::Ignore
        }
        Ok(Received::Evidence(evidence)) => {
            let worker = node.clone();
            blocking(move || reconcile::accuse(&worker, *evidence)).await;
            Verdict::Ignore
        }
        Ok(Received::False(why) | Received::Forged(why)) => {
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

/// Stays connected to every node of the ledger, for as long as the node runs.
pub async fn connect(node: Arc<Node>) {
    let mut changes = node.chain.watch();
    let mut kept = std::collections::HashSet::new();
    for contact in node.config.contacts.clone() {
        let node = node.clone();
        tokio::spawn(async move { call(&node, contact).await });
    }
    let mut contacts: Vec<NodeId> = node.config.contacts.iter().filter_map(|it| bithealth_net::node_at(it)).collect();
    for contact in &contacts {
        let _ = node.net.keep(*contact, Vec::new()).await; // wherever it is by now; only fails while stopping
    }
    loop {
        let others: Vec<NodeId> = {
            let state = node.chain.state();
            state.nodes().filter(|it| !it.retired && it.id != node.id()).map(|it| it.id).collect()
        };
        if !others.is_empty() {
            // From here on the ledger says with whom to stay connected.
            for contact in contacts.drain(..).filter(|contact| !others.contains(contact)) {
                let _ = node.net.release(contact).await; // only fails while stopping
            }
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_addresses_of_a_peer_are_kept_and_of_more_the_first_sixteen() {
        let told = |count: usize| (0..count).map(|at| format!("/ip4/192.0.2.{at}/tcp/4401")).collect::<Vec<_>>();
        assert_eq!(bounded(told(ADDRESSES_MAX)), told(16));
        assert_eq!(bounded(told(ADDRESSES_MAX + 1)), told(16));
    }
}
