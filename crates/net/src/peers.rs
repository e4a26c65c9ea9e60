//! What handle, task, streams and gates know of each peer. Never locked across an await.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bithealth_types::NodeId;
use libp2p::Multiaddr;
use libp2p::swarm::ConnectionId;

use crate::Reach;
use crate::address::sort_farthest_first;
use crate::id::without_peer;

/// What a connection with one peer carried and takes, since this process first met it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// The peer.
    pub node: NodeId,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// The last round trip of a ping; none before the first.
    pub round_trip: Option<Duration>,
}

/// How a connection goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where the peer is, or the relay.
    pub address: String,
    /// Through whom; none: directly.
    pub relay: Option<NodeId>,
}

/// How others reach this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reached {
    /// Whether they can without help.
    pub reach: Reach,
    /// At which addresses, as far as that was tested; the operator's own word where nothing is.
    pub addresses: Vec<String>,
    /// Through whom besides.
    pub relays: Vec<NodeId>,
    /// Whether this node relays for others.
    pub serves: bool,
}

/// How others reach this node, as the task keeps it.
#[derive(Debug)]
pub(crate) struct Outside {
    pub(crate) reach: Reach,
    /// Where they do without help.
    pub(crate) direct: Vec<Multiaddr>,
    /// Where they do through a relay.
    pub(crate) circuits: Vec<Multiaddr>,
    pub(crate) relays: Vec<NodeId>,
    pub(crate) serves: bool,
}

impl Default for Outside {
    fn default() -> Self {
        let (direct, circuits, relays) = (Vec::new(), Vec::new(), Vec::new());
        Self { reach: Reach::Unknown, direct, circuits, relays, serves: false }
    }
}

/// One peer.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) node: NodeId,
    /// May use all protocols.
    pub(crate) admitted: AtomicBool,
    /// Stays connected even when idle.
    pub(crate) kept: AtomicBool,
    pub(crate) connections: AtomicUsize,
    /// Streams it opened to us.
    pub(crate) inbound: AtomicUsize,
    /// Streams we opened to it.
    pub(crate) outbound: AtomicUsize,
    pub(crate) bytes_in: AtomicU64,
    pub(crate) bytes_out: AtomicU64,
    round_trip: Mutex<Option<Duration>>,
    addresses: Mutex<Vec<Multiaddr>>,
    /// How its connections go, the newest last.
    paths: Mutex<Vec<(ConnectionId, Path)>>,
}

impl Peer {
    pub(crate) fn new(node: NodeId) -> Self {
        Self {
            node,
            admitted: AtomicBool::new(false),
            kept: AtomicBool::new(false),
            connections: AtomicUsize::new(0),
            inbound: AtomicUsize::new(0),
            outbound: AtomicUsize::new(0),
            bytes_in: AtomicU64::new(0),
            bytes_out: AtomicU64::new(0),
            round_trip: Mutex::new(None),
            addresses: Mutex::new(Vec::new()),
            paths: Mutex::new(Vec::new()),
        }
    }

    pub(crate) fn connected(&self, connection: ConnectionId, path: Path) {
        lock(&self.paths).push((connection, path));
    }

    pub(crate) fn closed(&self, connection: ConnectionId) {
        lock(&self.paths).retain(|(one, _)| *one != connection);
    }

    /// How streams go: directly where they can.
    pub(crate) fn path(&self) -> Option<Path> {
        let paths = lock(&self.paths);
        let direct = paths.iter().rfind(|(_, path)| path.relay.is_none());
        direct.or(paths.last()).map(|(_, path)| path.clone())
    }

    pub(crate) fn measured(&self, round_trip: Duration) {
        *lock(&self.round_trip) = Some(round_trip);
    }

    pub(crate) fn addresses(&self) -> Vec<Multiaddr> {
        lock(&self.addresses).clone()
    }

    /// Forgets an address.
    pub(crate) fn unlearn(&self, address: &Multiaddr) {
        let address = without_peer(address.clone());
        lock(&self.addresses).retain(|one| *one != address);
    }

    /// Puts `addresses` in front of those known, and forgets what goes beyond `max`. Whether that changed anything.
    pub(crate) fn learn(&self, addresses: impl IntoIterator<Item = Multiaddr>, max: usize) -> bool {
        let mut known = lock(&self.addresses);
        let before = known.clone();
        let mut all: Vec<Multiaddr> = Vec::new();
        for address in addresses.into_iter().map(without_peer).chain(known.drain(..)) {
            if all.len() < max && !all.contains(&address) {
                all.push(address);
            }
        }
        *known = all;
        *known != before
    }
}

/// All peers that are connected, admitted or kept; and where we listen.
#[derive(Debug, Default)]
pub(crate) struct Peers {
    map: Mutex<HashMap<NodeId, Arc<Peer>>>,
    listening: Mutex<Vec<Multiaddr>>,
    outside: Mutex<Outside>,
}

impl Peers {
    pub(crate) fn get(&self, node: &NodeId) -> Option<Arc<Peer>> {
        lock(&self.map).get(node).cloned()
    }

    pub(crate) fn get_or_add(&self, node: NodeId) -> Arc<Peer> {
        lock(&self.map).entry(node).or_insert_with(|| Arc::new(Peer::new(node))).clone()
    }

    pub(crate) fn is_admitted(&self, node: &NodeId) -> bool {
        self.get(node).is_some_and(|peer| peer.admitted.load(Relaxed))
    }

    pub(crate) fn is_connected(&self, node: &NodeId) -> bool {
        self.get(node).is_some_and(|peer| peer.connections.load(Relaxed) > 0)
    }

    /// Forgets a peer that is neither connected nor admitted nor kept, so that strangers leave nothing behind.
    pub(crate) fn forget_if_stranger(&self, node: &NodeId) {
        let mut map = lock(&self.map);
        let stranger = map.get(node).is_some_and(|peer| {
            !peer.admitted.load(Relaxed) && !peer.kept.load(Relaxed) && peer.connections.load(Relaxed) == 0
        });
        if stranger {
            map.remove(node);
        }
    }

    pub(crate) fn connected(&self) -> Vec<NodeId> {
        let map = lock(&self.map);
        let mut nodes: Vec<NodeId> =
            map.values().filter(|peer| peer.connections.load(Relaxed) > 0).map(|peer| peer.node).collect();
        nodes.sort();
        nodes
    }

    pub(crate) fn connection_count(&self) -> usize {
        lock(&self.map).values().map(|peer| peer.connections.load(Relaxed)).sum()
    }

    pub(crate) fn traffic(&self) -> Vec<Traffic> {
        let map = lock(&self.map);
        let mut traffic: Vec<Traffic> = map
            .values()
            .map(|peer| Traffic {
                node: peer.node,
                bytes_in: peer.bytes_in.load(Relaxed),
                bytes_out: peer.bytes_out.load(Relaxed),
                round_trip: *lock(&peer.round_trip),
            })
            .collect();
        traffic.sort_by_key(|one| one.node);
        traffic
    }

    /// Where we listen, and what the operator announces.
    pub(crate) fn listening(&self) -> MutexGuard<'_, Vec<Multiaddr>> {
        lock(&self.listening)
    }

    pub(crate) fn outside(&self) -> MutexGuard<'_, Outside> {
        lock(&self.outside)
    }

    /// All addresses of ours, those first that most can reach.
    pub(crate) fn own_addresses(&self) -> Vec<Multiaddr> {
        let outside = self.outside();
        let mut all: Vec<Multiaddr> = Vec::new();
        for address in outside.direct.iter().chain(&outside.circuits).chain(self.listening().iter()) {
            if !all.contains(address) {
                all.push(address.clone());
            }
        }
        sort_farthest_first(&mut all);
        all
    }

    pub(crate) fn reached(&self) -> Reached {
        let outside = self.outside();
        let texts = |addresses: &[Multiaddr]| addresses.iter().map(ToString::to_string).collect();
        Reached {
            reach: outside.reach,
            addresses: texts(&outside.direct),
            relays: outside.relays.clone(),
            serves: outside.serves,
        }
    }
}

/// A panic while one of these locks was held leaves nothing half-done behind it: go on.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Multiaddr {
        format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap()
    }

    #[test]
    fn addresses_are_kept_newest_first_and_no_more_than_the_limit() {
        let peer = Peer::new(NodeId([1; 32]));
        peer.learn([address(1), address(2)], 3);
        peer.learn([address(3), address(2), address(4)], 3);
        assert_eq!(peer.addresses(), [address(3), address(2), address(4)]);
    }

    #[test]
    fn a_stranger_is_forgotten_and_an_admitted_peer_is_not() {
        let peers = Peers::default();
        let (stranger, member) = (NodeId([1; 32]), NodeId([2; 32]));
        peers.get_or_add(stranger);
        peers.get_or_add(member).admitted.store(true, Relaxed);
        peers.forget_if_stranger(&stranger);
        peers.forget_if_stranger(&member);
        assert!(peers.get(&stranger).is_none());
        assert!(peers.is_admitted(&member));
    }
}
