//! Being reached: what peers see of us, which addresses work, through whom we are reached, and which connections are left
//! over once a better one stands.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bithealth_types::NodeId;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate};
use libp2p::{Multiaddr, PeerId, autonat, dcutr, identify, relay};
use tokio::time::Instant;

use super::Task;
use super::link::{Kind, Link};
use crate::address::{self, Transport, is_relayed, through};
use crate::id::{with_peer, without_peer};
use crate::reach::{Tests, transports};
use crate::relays::Relays;
use crate::{Reach, node_id};

/// How often places at relays are looked after.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How long a relayed connection stays beside a direct one: until the peer has the direct one too.
const LINGER: Duration = Duration::from_secs(5);

/// How often a second transport to a relay is tried.
const TRANSPORT_RETRY: Duration = Duration::from_secs(30);

/// What the task knows of how it is reached.
pub(super) struct Nat {
    tests: Tests,
    relays: Relays,
    /// All connections.
    links: HashMap<ConnectionId, Link>,
    /// Addresses the swarm was told to give to peers.
    held: HashSet<Multiaddr>,
    /// When a transport to a relay was last tried. Only of relays we are reached through.
    tried: HashMap<(PeerId, Transport), Instant>,
    /// When a peer last saw us at an address at which none had.
    mapped: Option<Instant>,
    next_look: Instant,
}

impl Nat {
    pub(super) fn new(us: PeerId, announced: bool) -> Self {
        Self {
            tests: Tests::new(announced),
            relays: Relays::new(us),
            links: HashMap::new(),
            held: HashSet::new(),
            tried: HashMap::new(),
            mapped: None,
            next_look: Instant::now(),
        }
    }

    fn direct(&self, peer: PeerId) -> impl Iterator<Item = &Link> {
        self.links.values().filter(move |link| link.peer == peer && link.is_direct())
    }

    /// Relayed connections with peers that there has been a direct one with for a while.
    fn left_over(&self, now: Instant) -> Vec<ConnectionId> {
        let is_over = |link: &Link| {
            link.kind == Kind::Relayed && self.direct(link.peer).any(|direct| direct.since + LINGER <= now)
        };
        self.links.iter().filter(|(_, link)| is_over(link)).map(|(id, _)| *id).collect()
    }
}

impl Task {
    pub(super) fn nat_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint) {
        let link = Link::new(peer, endpoint);
        if let Some(known) = self.known(&peer).filter(|_| link.kind != Kind::Test) {
            known.connected(connection, link.path());
        }
        tracing::debug!(%peer, address = %link.address, relayed = link.kind == Kind::Relayed, "connected");
        self.nat.links.insert(connection, link);
    }

    pub(super) fn nat_closed(&mut self, peer: PeerId, connection: ConnectionId) {
        if let Some(known) = self.known(&peer) {
            known.closed(connection);
        }
        self.nat.links.remove(&connection);
        self.nat.tests.closed(connection);
        if self.nat.direct(peer).next().is_none() {
            self.nat.relays.withdraws(&peer);
        }
        self.refresh_reach();
    }

    /// A peer that is a member no more.
    pub(super) fn nat_expelled(&mut self, peer: PeerId) {
        self.nat.tests.forget(&peer);
        self.nat.relays.withdraws(&peer);
    }

    /// A peer tells what it offers and how it sees us.
    pub(super) fn nat_identified(&mut self, peer: PeerId, connection: ConnectionId, info: &identify::Info) {
        let Some(link) = self.nat.links.get_mut(&connection) else { return };
        if link.kind == Kind::Relayed && !std::mem::replace(&mut link.identified, true) {
            self.dial_directly(peer, &info.listen_addrs);
        }
        let Some(link) = self.nat.links.get(&connection).filter(|link| link.is_direct()) else { return };
        if link.kind == Kind::Dialled {
            self.on_mapped(connection, &info.observed_addr);
        }
        if info.protocols.contains(&relay::HOP_PROTOCOL_NAME) {
            self.nat.relays.offers(peer);
        } else {
            self.nat.relays.withdraws(&peer);
        }
        let listening: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        for address in self.nat.tests.saw(connection, peer, &info.observed_addr, &listening) {
            tracing::debug!(%peer, %address, "a peer sees us there: to be tested");
            self.swarm.behaviour_mut().probe.test(&address);
        }
        self.refresh_reach();
    }

    /// Of two that met through a relay, one may be able to call the other. Punching a hole does not find that out: who
    /// listens there takes it for a call.
    fn dial_directly(&mut self, peer: PeerId, addresses: &[Multiaddr]) {
        let addresses: Vec<Multiaddr> = addresses.iter().filter(|address| !is_relayed(address)).cloned().collect();
        if addresses.is_empty() || self.nat.direct(peer).next().is_some() {
            return;
        }
        let dial = DialOpts::peer_id(peer).addresses(addresses).condition(PeerCondition::Always).build();
        if let Err(error) = self.swarm.dial(dial) {
            tracing::debug!(%peer, %error, "not dialled directly");
        }
    }

    /// A router maps the port we dial from, and listen on, to this address.
    fn on_mapped(&mut self, connection: ConnectionId, observed: &Multiaddr) {
        if !self.nat.links.values().any(|link| link.observed.as_ref() == Some(observed)) {
            self.nat.mapped = Some(Instant::now());
        }
        if let Some(link) = self.nat.links.get_mut(&connection) {
            link.observed = Some(observed.clone());
        }
        // Identify passes on only what fits the port we listen on. A hole is punched from the port a router gave us.
        let candidate = NewExternalAddrCandidate { addr: observed };
        self.swarm.behaviour_mut().punch.inner().on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
    }

    /// A direct connection could not be made beside a relayed one. Where we know more of our addresses by now, it is worth
    /// another relayed one, over which they are told.
    pub(super) fn on_punched(&mut self, event: &dcutr::Event) {
        let peer = event.remote_peer_id;
        match &event.result {
            Ok(_) => return tracing::debug!(%peer, "a hole is punched"),
            Err(error) => tracing::debug!(%peer, %error, "no hole could be punched"),
        }
        let knew_less = |link: &Link| link.kind == Kind::Relayed && self.nat.mapped.is_some_and(|at| at > link.since);
        let old = self.nat.links.iter().filter(|(_, link)| link.peer == peer && knew_less(link));
        for connection in old.map(|(id, _)| *id).collect::<Vec<_>>() {
            self.swarm.close_connection(connection);
        }
    }

    pub(super) fn on_tested(&mut self, event: &autonat::v2::client::Event) {
        let reached = event.result.is_ok();
        tracing::debug!(address = %event.tested_addr, by = %event.server, reached, "an address of ours was tested");
        self.nat.tests.tested(&event.tested_addr, reached);
        self.refresh_reach();
    }

    /// A relay gave us a place: the address that leads through it.
    pub(super) fn on_circuit(&mut self, listener: ListenerId, address: Multiaddr) {
        let address = with_peer(address, *self.swarm.local_peer_id());
        if let Some(relay) = self.nat.relays.reserved(listener) {
            tracing::info!(%relay, %address, "reached through a relay");
        }
        let mut outside = self.peers.outside();
        if !outside.circuits.contains(&address) {
            outside.circuits.push(address);
        }
        drop(outside);
        self.refresh_reach();
    }

    pub(super) fn on_circuit_lost(&mut self, address: &Multiaddr) {
        let address = with_peer(address.clone(), *self.swarm.local_peer_id());
        self.peers.outside().circuits.retain(|one| *one != address);
    }

    /// `true` if it was a place at a relay.
    pub(super) fn on_place_ended(&mut self, listener: ListenerId) -> bool {
        let ended = self.nat.relays.ended(listener, Instant::now());
        if let Some(relay) = ended {
            tracing::info!(%relay, "no longer reached through this relay");
            self.refresh_reach();
        }
        ended.is_some()
    }

    /// Tells peers, the relay and callers what follows from what was found out.
    pub(super) fn refresh_reach(&mut self) {
        let (reach, reached) = (self.nat.tests.reach(), self.nat.tests.reached());
        let gone: Vec<Multiaddr> = self.nat.held.difference(&reached).cloned().collect();
        let new: Vec<Multiaddr> = reached.difference(&self.nat.held).cloned().collect();
        gone.iter().for_each(|address| self.swarm.remove_external_address(address));
        new.iter().for_each(|address| self.swarm.add_external_address(address.clone()));
        self.nat.held = reached;
        if !gone.is_empty() || !new.is_empty() {
            let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
            self.swarm.behaviour_mut().identify.inner().push(connected);
        }
        let serves = self.config.relay && reach == Reach::Direct;
        let status = if serves { relay::Status::Enable } else { relay::Status::Disable };
        self.swarm.behaviour_mut().relay.inner().set_status(Some(status));
        self.tell_reach(reach, serves);
    }

    fn tell_reach(&self, reach: Reach, serves: bool) {
        let us = *self.swarm.local_peer_id();
        let mut direct: Vec<Multiaddr> = self.nat.held.iter().map(|address| with_peer(address.clone(), us)).collect();
        direct.sort();
        address::sort_farthest_first(&mut direct);
        let relays: Vec<NodeId> = self.nat.relays.through().iter().filter_map(|peer| node_id(peer).ok()).collect();
        let mut outside = self.peers.outside();
        if outside.reach != reach {
            tracing::info!(was = ?outside.reach, is = ?reach, "whether others reach this node");
        }
        (outside.reach, outside.direct, outside.relays, outside.serves) = (reach, direct, relays, serves);
    }

    pub(super) fn nat_tick(&mut self, now: Instant) {
        if now < self.nat.next_look {
            return;
        }
        self.nat.next_look = now + LOOK_EVERY;
        for connection in self.nat.left_over(now) {
            tracing::debug!(?connection, "a relayed connection is not needed any more");
            self.swarm.close_connection(connection);
        }
        if self.nat.tests.reach() == Reach::Behind {
            self.ask_relays(now);
            self.keep_both_transports(now);
        }
    }

    fn ask_relays(&mut self, now: Instant) {
        for relay in self.nat.relays.to_ask(now) {
            let dialled = self.nat.direct(relay).find(|link| link.kind == Kind::Dialled);
            let known = || self.known(&relay)?.addresses().into_iter().find(|address| !is_relayed(address));
            let Some(at) = dialled.map(|link| link.address.clone()).or_else(known) else { continue };
            match self.swarm.listen_on(through(without_peer(at), relay)) {
                Ok(listener) => self.nat.relays.asked(relay, listener),
                Err(error) => tracing::debug!(%relay, %error, "cannot be asked to relay"),
            }
        }
    }

    /// Stays connected with our relays over each transport we listen on. Each gives us a mapping in our router of its own,
    /// which the relay sees and the pings keep open: to connect directly, two nodes need a transport for which both know
    /// theirs.
    fn keep_both_transports(&mut self, now: Instant) {
        let listening: Vec<Multiaddr> = self.swarm.listeners().cloned().collect();
        let through = self.nat.relays.through();
        self.nat.tried.retain(|(relay, _), _| through.contains(relay));
        for (relay, kind) in
            through.iter().flat_map(|relay| transports(&listening).into_iter().map(|kind| (*relay, kind)))
        {
            let is_kind = |address: &Multiaddr| address::socket(address).is_some_and(|(.., one)| one == kind);
            let has = self.nat.direct(relay).any(|link| link.kind == Kind::Dialled && is_kind(&link.address));
            let waits = self.nat.tried.get(&(relay, kind)).is_some_and(|at| *at + TRANSPORT_RETRY > now);
            if has || waits {
                continue;
            }
            self.nat.tried.insert((relay, kind), now);
            let mut addresses = self.known(&relay).map(|known| known.addresses()).unwrap_or_default();
            addresses.retain(is_kind);
            if !addresses.is_empty() {
                let dial = DialOpts::peer_id(relay).addresses(addresses).condition(PeerCondition::Always).build();
                if let Err(error) = self.swarm.dial(dial) {
                    tracing::debug!(%relay, %error, "no second transport to a relay");
                }
            }
        }
    }
}
