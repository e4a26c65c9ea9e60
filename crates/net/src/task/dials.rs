//! Dials under way, and searches for addresses, with those who wait for them.

use std::collections::HashMap;

use bithealth_types::NodeId;
use libp2p::kad::{PeerInfo, QueryId};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError as SwarmError};
use libp2p::{Multiaddr, PeerId, Swarm};
use tokio::sync::oneshot;

use crate::behaviour::Behaviour;
use crate::id::{peer_of, with_peer};
use crate::peers::Peers;
use crate::{DialError, Tried, node_id};

type Reply = oneshot::Sender<Result<NodeId, DialError>>;

/// Searches for addresses of kept nodes at once. Who is not sought now is sought after a later attempt.
const SEARCHES_MAX: usize = 8;

#[derive(Default)]
pub(crate) struct Dials {
    /// Bounded by the connections that may be shaking hands.
    dialling: HashMap<ConnectionId, Dialling>,
    /// Bounded by the callers, each of which waits for one, and by [`SEARCHES_MAX`] for kept nodes.
    searching: HashMap<QueryId, (PeerId, Option<Reply>)>,
}

struct Dialling {
    peer: Option<PeerId>,
    reply: Reply,
}

impl Dials {
    /// Dials `peer`, or whoever is at the address.
    pub(crate) fn dial(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peers: &Peers,
        peer: Option<PeerId>,
        addresses: Vec<Multiaddr>,
        reply: Reply,
    ) {
        let Some(peer) = peer else {
            match addresses.into_iter().next() {
                Some(address) => self.begin(swarm, None, DialOpts::unknown_peer_id().address(address).build(), reply),
                None => answer(reply, Err(DialError::NoAddress { node: None })),
            }
            return;
        };
        let Ok(node) = node_id(&peer) else { return };
        if peers.is_connected(&node) {
            return answer(reply, Ok(node));
        }
        let mut all = addresses;
        all.extend(peers.get(&node).map(|known| known.addresses()).unwrap_or_default());
        let known_elsewhere = swarm
            .behaviour_mut()
            .kademlia
            .inner()
            .kbucket(peer)
            .is_some_and(|bucket| bucket.iter().any(|entry| *entry.node.key.preimage() == peer));
        if all.is_empty() && !known_elsewhere {
            let query = swarm.behaviour_mut().kademlia.inner().get_closest_peers(peer);
            self.searching.insert(query, (peer, Some(reply)));
            return;
        }
        self.begin(swarm, Some(peer), options(peer, all), reply);
    }

    /// Dials a kept node. `false` if nothing was begun.
    pub(crate) fn redial(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId, addresses: Vec<Multiaddr>) -> bool {
        match swarm.dial(options(peer, addresses)) {
            Ok(()) => true,
            Err(SwarmError::NoAddresses) => {
                self.search(swarm, peer);
                false
            }
            Err(error) => {
                tracing::debug!(%peer, %error, "not redialled");
                false
            }
        }
    }

    /// Asks peers for the addresses of a kept node. What is found goes into the table, where the next attempt finds it.
    pub(crate) fn search(&mut self, swarm: &mut Swarm<Behaviour>, peer: PeerId) {
        let ours = self.searching.values().filter(|(_, reply)| reply.is_none());
        if ours.clone().count() < SEARCHES_MAX && !ours.clone().any(|(sought, _)| *sought == peer) {
            let query = swarm.behaviour_mut().kademlia.inner().get_closest_peers(peer);
            self.searching.insert(query, (peer, None));
        }
    }

    fn begin(&mut self, swarm: &mut Swarm<Behaviour>, peer: Option<PeerId>, options: DialOpts, reply: Reply) {
        let connection = options.connection_id();
        match swarm.dial(options) {
            Ok(()) => {
                self.dialling.insert(connection, Dialling { peer, reply });
            }
            Err(error) => answer(reply, Err(why(&error, peer))),
        }
    }

    pub(crate) fn connected(&mut self, connection: ConnectionId, peer: PeerId, node: NodeId) {
        if let Some(dialling) = self.dialling.remove(&connection) {
            answer(dialling.reply, Ok(node));
        }
        // Whoever else waits for this peer has what it wants.
        let same: Vec<ConnectionId> =
            self.dialling.iter().filter(|(_, one)| one.peer == Some(peer)).map(|(id, _)| *id).collect();
        for id in same {
            if let Some(dialling) = self.dialling.remove(&id) {
                answer(dialling.reply, Ok(node));
            }
        }
    }

    pub(crate) fn failed(&mut self, peers: &Peers, connection: ConnectionId, error: &SwarmError) {
        let Some(Dialling { peer, reply }) = self.dialling.remove(&connection) else { return };
        let node = peer.and_then(|peer| node_id(&peer).ok());
        match node {
            Some(node) if peers.is_connected(&node) => answer(reply, Ok(node)),
            _ => answer(reply, Err(why(error, peer))),
        }
    }

    /// Takes what a search found.
    pub(crate) fn found(
        &mut self,
        swarm: &mut Swarm<Behaviour>,
        peers: &Peers,
        query: QueryId,
        found: Vec<PeerInfo>,
        last: bool,
    ) {
        let Some((peer, reply)) = self.searching.remove(&query) else { return };
        let addresses: Vec<Multiaddr> =
            found.into_iter().filter(|one| one.peer_id == peer).flat_map(|one| one.addrs).collect();
        if addresses.is_empty() && !last {
            self.searching.insert(query, (peer, reply));
            return;
        }
        for address in &addresses {
            swarm.behaviour_mut().kademlia.inner().add_address(&peer, address.clone());
        }
        let Some(reply) = reply else { return };
        match node_id(&peer) {
            Ok(node) if peers.is_connected(&node) => answer(reply, Ok(node)),
            Ok(node) if addresses.is_empty() => answer(reply, Err(DialError::NoAddress { node: Some(node) })),
            _ => self.begin(swarm, Some(peer), options(peer, addresses), reply),
        }
    }
}

fn answer(reply: Reply, result: Result<NodeId, DialError>) {
    let _ = reply.send(result); // who asked may have gone
}

/// Dials a peer at these addresses and at those in the table of addresses, even where another attempt is under way: it
/// may have worse addresses.
fn options(peer: PeerId, mut addresses: Vec<Multiaddr>) -> DialOpts {
    addresses.retain(|address| peer_of(address).is_none_or(|named| named == peer));
    for address in &mut addresses {
        *address = with_peer(std::mem::replace(address, Multiaddr::empty()), peer);
    }
    addresses.sort();
    addresses.dedup();
    DialOpts::peer_id(peer)
        .addresses(addresses)
        .extend_addresses_through_behaviour()
        .condition(PeerCondition::Disconnected)
        .build()
}

/// What the swarm says, in our words.
fn why(error: &SwarmError, wanted: Option<PeerId>) -> DialError {
    let want = wanted.and_then(|peer| node_id(&peer).ok());
    match error {
        SwarmError::LocalPeerId { address } => DialError::Ourselves { address: address.to_string() },
        SwarmError::NoAddresses => DialError::NoAddress { node: want },
        SwarmError::WrongPeerId { obtained, address } => match (node_id(obtained), want) {
            (Ok(got), Some(want)) => DialError::OtherNode { address: address.to_string(), got, want },
            (Err(error), _) => error.into(),
            (Ok(_), None) => DialError::GivenUp,
        },
        SwarmError::Denied { cause } => match cause.downcast_ref::<crate::NotEd25519>() {
            Some(error) => crate::NotEd25519 { peer: error.peer.clone() }.into(),
            None => DialError::Limit { limit: chain(cause) },
        },
        SwarmError::Transport(errors) => DialError::Unreachable {
            tried: errors
                .iter()
                .map(|(address, error)| Tried { address: address.to_string(), reason: chain(error) })
                .collect(),
        },
        SwarmError::Aborted | SwarmError::DialPeerConditionFalse(_) => DialError::GivenUp,
    }
}

/// An error and its causes. The transports wrap each other, and only the innermost one says what happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}
