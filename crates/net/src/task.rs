//! The task that owns the swarm.

mod dials;
mod gossip;
mod kept;
mod link;
mod nat;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bithealth_types::NodeId;
use futures::StreamExt;
use libp2p::core::ConnectedPoint;
use libp2p::gossipsub;
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, identify, kad, ping};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};

use crate::address::{is_relayed, sort_farthest_first};
use crate::behaviour::{Behaviour, BehaviourEvent};
use crate::command::Command;
use crate::event::Outbox;
use crate::id::with_peer;
use crate::peers::{Peer, Peers};
use crate::start::is_taken;
use crate::streams::Inbound;
use crate::{Config, Event, node_id};
use dials::Dials;
use kept::{Kept, KeptState};
use nat::Nat;

/// How exactly hello timeouts and redials are kept.
const TICK: Duration = Duration::from_millis(50);

/// How often we look whether a port is free again when we stop.
const PORT_POLL: Duration = Duration::from_millis(5);

/// How long connections may take to close when we stop, and then the ports.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

pub(crate) struct Task {
    swarm: Swarm<Behaviour>,
    us: NodeId,
    config: Config,
    peers: Arc<Peers>,
    outbox: Outbox,
    dials: Dials,
    /// Connected peers that are not admitted, and when they will be disconnected.
    strangers: HashMap<PeerId, Instant>,
    /// Nodes to stay connected with.
    kept: HashMap<PeerId, Kept>,
    nat: Nat,
}

/// Waits until the system has taken our ports back: QUIC's socket outlives the swarm for a moment.
async fn ports_are_free(peers: &Peers) {
    let addresses = peers.listening().clone();
    for address in addresses {
        while is_taken(&address) {
            sleep(PORT_POLL).await;
        }
    }
}

impl Task {
    pub(crate) fn new(swarm: Swarm<Behaviour>, us: NodeId, config: Config, peers: Arc<Peers>, outbox: Outbox) -> Self {
        let (dials, strangers, kept) = (Dials::default(), HashMap::new(), HashMap::new());
        let nat = Nat::new(*swarm.local_peer_id(), !config.announce.is_empty());
        let mut task = Self { swarm, us, config, peers, outbox, dials, strangers, kept, nat };
        task.refresh_reach(); // the operator may have said how
        task
    }

    /// Runs until it is told to stop or no handle is left.
    pub(crate) async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let done = loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                command = commands.recv() => match command {
                    Some(Command::Stop { done }) => break Some(done),
                    Some(command) => self.on_command(command),
                    None => break None,
                },
                _ = ticks.tick() => self.on_tick(),
                () = self.outbox.drain_one(), if self.outbox.has_overflow() => {}
            }
        };
        self.close().await;
        drop(self.swarm);
        let _ = timeout(STOP_TIMEOUT, ports_are_free(&self.peers)).await; // the next start says which one is not
        if let Some(done) = done {
            let _ = done.send(()); // who asked may have gone
        }
    }

    /// Says goodbye, so that peers need not find out.
    async fn close(&mut self) {
        let connected: Vec<PeerId> = self.swarm.connected_peers().copied().collect();
        for peer in connected {
            self.disconnect(peer);
        }
        let gone = async {
            while self.swarm.connected_peers().next().is_some() {
                self.swarm.select_next_some().await;
            }
        };
        let _ = timeout(STOP_TIMEOUT, gone).await; // peers that do not answer find out by their pings
    }

    fn on_command(&mut self, command: Command) {
        match command {
            Command::Dial { peer, addresses, reply } => {
                self.dials.dial(&mut self.swarm, &self.peers, peer, addresses, reply);
            }
            Command::Admit { peer, node, done } => {
                self.admit(peer, node);
                let _ = done.send(());
            }
            Command::Expel { peer, node, done } => {
                self.expel(peer, node);
                let _ = done.send(());
            }
            Command::Keep { peer, node, addresses, done } => {
                self.keep(peer, node, addresses);
                let _ = done.send(());
            }
            Command::Release { peer, node, done } => {
                self.release(peer, node);
                let _ = done.send(());
            }
            Command::Open { peer, node, open } => self.swarm.behaviour_mut().streams.open(peer, node, open),
            Command::Publish { topic, bytes, reply } => {
                let _ = reply.send(self.publish(topic, &bytes));
            }
            Command::Judge { id, from, verdict } => self.judge(id, &from, verdict),
            Command::Stop { .. } => unreachable!("the loop takes it"),
        }
    }

    fn admit(&mut self, peer: PeerId, node: NodeId) {
        let known = self.peers.get_or_add(node);
        if known.admitted.swap(true, Relaxed) {
            return;
        }
        self.strangers.remove(&peer);
        let behaviour = self.swarm.behaviour_mut();
        behaviour.open(peer);
        for address in known.addresses() {
            behaviour.kademlia.inner().add_address(&peer, address);
        }
    }

    fn expel(&mut self, peer: PeerId, node: NodeId) {
        self.release(peer, node);
        if let Some(known) = self.peers.get(&node) {
            known.admitted.store(false, Relaxed);
        }
        self.swarm.behaviour_mut().kademlia.inner().remove_peer(&peer);
        self.nat_expelled(peer);
        self.disconnect(peer);
        self.peers.forget_if_stranger(&node);
    }

    fn on_event(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, endpoint, num_established, .. } => {
                let first = num_established.get() == 1;
                self.on_connected(peer_id, connection_id, &endpoint, first);
            }
            SwarmEvent::ConnectionClosed { peer_id, connection_id, num_established, cause, .. } => {
                tracing::debug!(peer = %peer_id, cause = ?cause, left = num_established, "connection closed");
                self.on_closed(peer_id, connection_id, num_established);
            }
            SwarmEvent::OutgoingConnectionError { connection_id, peer_id, error } => {
                tracing::debug!(peer = ?peer_id, %error, "no connection");
                self.dials.failed(&self.peers, connection_id, &error);
                if let Some(peer) = peer_id {
                    self.forget_circuits(&peer, &error);
                    self.wait_before_redial(peer);
                }
            }
            SwarmEvent::NewListenAddr { listener_id, address } if is_relayed(&address) => {
                self.on_circuit(listener_id, address);
            }
            SwarmEvent::NewListenAddr { address, .. } => self.on_listening(address),
            SwarmEvent::ExpiredListenAddr { address, .. } => self.on_not_listening(address),
            SwarmEvent::ListenerClosed { listener_id, addresses, reason } => {
                if !self.on_place_ended(listener_id) && !addresses.iter().all(is_relayed) {
                    tracing::warn!(?addresses, ?reason, "no longer listening");
                }
                addresses.into_iter().for_each(|address| self.on_not_listening(address));
            }
            SwarmEvent::Behaviour(event) => self.on_behaviour(event),
            _ => {}
        }
    }

    fn on_behaviour(&mut self, event: BehaviourEvent) {
        match event {
            BehaviourEvent::Streams(inbound) => self.on_stream(inbound),
            BehaviourEvent::Gossip(gossipsub::Event::Message { propagation_source, message_id, message }) => {
                self.on_gossip(propagation_source, &message_id, message);
            }
            BehaviourEvent::Identify(identify::Event::Received { peer_id, connection_id, info }) => {
                self.nat_identified(peer_id, connection_id, &info);
                self.on_identified(peer_id, info.listen_addrs);
            }
            BehaviourEvent::Probe(tested) => self.on_tested(&tested),
            BehaviourEvent::Lan(announced) => {
                self.dial_neighbour(announced.peer, announced.addresses, Instant::now());
            }
            BehaviourEvent::Punch(punched) => self.on_punched(&punched),
            BehaviourEvent::Relay(relayed) => tracing::debug!(event = ?relayed, "relaying"),
            BehaviourEvent::Ping(ping::Event { peer, result: Ok(round_trip), .. }) => {
                if let Some(peer) = node_id(&peer).ok().and_then(|node| self.peers.get(&node)) {
                    peer.measured(round_trip);
                }
            }
            BehaviourEvent::Ping(ping::Event { peer, connection, result: Err(error) }) => {
                tracing::info!(%peer, %error, "disconnecting a peer that does not answer pings");
                self.swarm.close_connection(connection);
            }
            BehaviourEvent::Kademlia(kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetClosestPeers(result),
                step,
                ..
            }) => {
                let found = match result {
                    Ok(found) => found.peers,
                    Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
                };
                self.dials.found(&mut self.swarm, &self.peers, id, found, step.last);
            }
            _ => {}
        }
    }

    fn on_connected(&mut self, peer: PeerId, connection: ConnectionId, endpoint: &ConnectedPoint, first: bool) {
        let node = node_id(&peer).expect("the streams' behaviour denies peers of other keys");
        let known = self.peers.get_or_add(node);
        known.connections.fetch_add(1, Relaxed);
        self.nat_connected(peer, connection, endpoint);
        let now = Instant::now();
        if first {
            if !known.admitted.load(Relaxed) {
                self.strangers.insert(peer, now + self.config.hello_timeout());
            }
            if let Some(kept) = self.kept.get_mut(&peer) {
                kept.state = KeptState::Connected { since: now };
            }
            let addr = endpoint.get_remote_address().to_string();
            self.outbox.put(Event::Connected { node, addr, outbound: endpoint.is_dialer() });
        }
        self.dials.connected(connection, peer, node);
    }

    fn on_closed(&mut self, peer: PeerId, connection: ConnectionId, left: u32) {
        let Ok(node) = node_id(&peer) else { return };
        self.nat_closed(peer, connection);
        if let Some(known) = self.peers.get(&node) {
            known.connections.store(left as usize, Relaxed);
        }
        if left > 0 {
            return;
        }
        self.strangers.remove(&peer);
        self.outbox.put(Event::Disconnected { node });
        self.wait_before_redial(peer);
        self.peers.forget_if_stranger(&node);
    }

    fn on_stream(&mut self, Inbound { from, protocol, stream }: Inbound) {
        if self.outbox.offer(Event::Stream { from, protocol, stream }).is_err() {
            tracing::warn!(peer = %from, %protocol, "events are not read fast enough, a stream is closed");
        }
    }

    fn known(&self, peer: &PeerId) -> Option<Arc<Peer>> {
        node_id(peer).ok().and_then(|node| self.peers.get(&node))
    }

    fn on_identified(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>) {
        let Some(known) = self.known(&peer) else { return };
        sort_farthest_first(&mut addresses);
        let is_news = known.learn(addresses, self.config.addresses_per_peer_max);
        if known.admitted.load(Relaxed) {
            for address in known.addresses() {
                self.swarm.behaviour_mut().kademlia.inner().add_address(&peer, address);
            }
            if is_news {
                let _ = self.outbox.offer(Event::Moved { node: known.node }); // it says so again in five minutes
            }
        }
    }

    /// Who is not at a relay any more is not called there again: it counts against us.
    fn forget_circuits(&mut self, peer: &PeerId, error: &DialError) {
        let (DialError::Transport(failed), Some(known)) = (error, self.known(peer)) else { return };
        for (address, _) in failed.iter().filter(|(address, _)| is_relayed(address)) {
            known.unlearn(address);
        }
    }

    fn on_listening(&mut self, address: Multiaddr) {
        let address = with_peer(address, *self.swarm.local_peer_id());
        let mut listening = self.peers.listening();
        if !listening.contains(&address) {
            listening.push(address.clone());
            drop(listening);
            // It is in `listen_addresses` too, so a driver that is behind loses nothing.
            let _ = self.outbox.offer(Event::NewAddress { address: address.to_string() });
        }
    }

    fn on_not_listening(&mut self, address: Multiaddr) {
        if is_relayed(&address) {
            return self.on_circuit_lost(&address);
        }
        let address = with_peer(address, *self.swarm.local_peer_id());
        self.peers.listening().retain(|one| *one != address);
    }

    fn on_tick(&mut self) {
        let now = Instant::now();
        let late: Vec<PeerId> =
            self.strangers.iter().filter(|(_, until)| **until <= now).map(|(peer, _)| *peer).collect();
        for peer in late {
            tracing::info!(%peer, "disconnecting a peer that was not admitted in time");
            self.strangers.remove(&peer);
            self.disconnect(peer);
        }
        self.redial_due(now);
        self.nat_tick(now);
    }

    fn disconnect(&mut self, peer: PeerId) {
        // An error means that it is not connected: what we want.
        let _ = self.swarm.disconnect_peer_id(peer);
    }
}
