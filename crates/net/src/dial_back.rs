//! Tries whether peers can be reached, for them: the answering side of AutoNAT v2.
//!
//! libp2p's own gives up a dial after its client has stopped waiting, so that a NAT that drops packets in silence, as most
//! do, looks like no answer at all; it leaves the connection of each test open; and it dials as often as it is asked.
//!
//! Source: the AutoNAT v2 specification, libp2p/specs, autonat/autonat-v2.md.

use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll};
use std::time::Duration;

use either::Either;
use libp2p::autonat::v2::server;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::behaviour::DialFailure;
use libp2p::swarm::{
    CloseConnection, ConnectionDenied, ConnectionId, DialError, FromSwarm, NetworkBehaviour, THandlerInEvent,
    THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};

use crate::address::is_relayed;

/// How long a dial may take. The client waits for 10 s, in which it may also have to send up to 100 KB first.
const DIAL_TIMEOUT: Duration = Duration::from_secs(4);

/// How long a connection made for a test may last. What it has to carry is a number.
const TEST_TIMEOUT: Duration = Duration::from_secs(10);

/// Tests under way, for all peers.
const AT_ONCE_MAX: usize = 16;

/// Tests for one peer in each [`BUDGET_PERIOD`]. A node has few addresses, each of which it has tested once: this is for
/// several networks at once, and bounds whom a peer can make us dial.
const TESTS_PER_PEER_MAX: u32 = 16;
const BUDGET_PERIOD: Duration = Duration::from_secs(60);

/// Why a connection for a test is not wanted any more.
#[derive(Debug, thiserror::Error)]
#[error("the test that this connection was made for is over")]
struct Over;

/// The behaviour.
pub(crate) struct DialBack {
    inner: server::Behaviour,
    /// Dials under way and connections made, and when each is given up. Bounded by [`AT_ONCE_MAX`].
    tests: HashMap<ConnectionId, Test>,
    /// Tests of each peer since the period began.
    spent: HashMap<PeerId, u32>,
    period_ends: Instant,
    closing: VecDeque<(PeerId, ConnectionId)>,
    ticks: Interval,
}

struct Test {
    peer: PeerId,
    until: Instant,
    connected: bool,
}

impl DialBack {
    /// Within a runtime.
    pub(crate) fn new() -> Self {
        let mut ticks = interval(Duration::from_secs(1));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self {
            inner: server::Behaviour::new(rand::make_rng()),
            tests: HashMap::new(),
            spent: HashMap::new(),
            period_ends: Instant::now() + BUDGET_PERIOD,
            closing: VecDeque::new(),
            ticks,
        }
    }

    /// Whether one more test may be begun for this peer.
    fn may_begin(&mut self, peer: PeerId, now: Instant) -> bool {
        if now >= self.period_ends {
            self.spent.clear();
            self.period_ends = now + BUDGET_PERIOD;
        }
        let spent = self.spent.entry(peer).or_default();
        if self.tests.len() >= AT_ONCE_MAX || *spent >= TESTS_PER_PEER_MAX {
            return false;
        }
        *spent += 1;
        true
    }

    /// Tells the inner behaviour that a dial came to nothing, which it answers its client with.
    fn fail(&mut self, peer: PeerId, connection: ConnectionId) {
        let failure = DialFailure { peer_id: Some(peer), error: &DialError::Aborted, connection_id: connection };
        self.inner.on_swarm_event(FromSwarm::DialFailure(failure));
    }

    /// Ends what took too long.
    fn end_late(&mut self, now: Instant) {
        let late = self.tests.iter().filter(|(_, test)| test.until <= now);
        for (connection, peer) in late.map(|(id, test)| (*id, test.peer)).collect::<Vec<_>>() {
            if self.tests.remove(&connection).is_some_and(|test| test.connected) {
                self.closing.push_back((peer, connection));
            } else {
                self.fail(peer, connection);
            }
        }
    }
}

impl NetworkBehaviour for DialBack {
    type ConnectionHandler = <server::Behaviour as NetworkBehaviour>::ConnectionHandler;
    type ToSwarm = server::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        if is_relayed(local) {
            return Ok(Either::Left(Either::Right(dummy::ConnectionHandler))); // ask somebody nearer
        }
        self.inner.handle_established_inbound_connection(connection, peer, local, remote)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        if let Some(test) = self.tests.get_mut(&connection) {
            test.connected = true;
            test.until = Instant::now() + TEST_TIMEOUT;
            return self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use);
        }
        if port_use == PortUse::New {
            return Err(ConnectionDenied::new(Over)); // nothing else dials from new ports
        }
        // Whom we called may ask us too: it sees itself as we see it, at the address we dialled.
        self.handle_established_inbound_connection(connection, peer, address, &crate::id::without_peer(address.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionClosed(closed) => drop(self.tests.remove(&closed.connection_id)),
            FromSwarm::DialFailure(failed) => drop(self.tests.remove(&failed.connection_id)),
            _ => {}
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
        // All that a connection made for a test ever says is what came of it.
        if self.tests.remove(&connection).is_some() {
            self.closing.push_back((peer, connection));
        }
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        while self.ticks.poll_tick(cx).is_ready() {
            self.end_late(Instant::now());
        }
        if let Some((peer_id, connection)) = self.closing.pop_front() {
            return Poll::Ready(ToSwarm::CloseConnection { peer_id, connection: CloseConnection::One(connection) });
        }
        while let Poll::Ready(event) = self.inner.poll(cx) {
            let ToSwarm::Dial { opts } = event else { return Poll::Ready(event) };
            let (connection, now) = (opts.connection_id(), Instant::now());
            let peer = opts.get_peer_id().expect("it dials back who asked");
            if self.may_begin(peer, now) {
                self.tests.insert(connection, Test { peer, until: now + DIAL_TIMEOUT, connected: false });
                return Poll::Ready(ToSwarm::Dial { opts });
            }
            tracing::debug!(%peer, "it asks too often whether it can be reached");
            self.fail(peer, connection);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        crate::Keys::from_seed([seed; 32]).pair().public().to_peer_id()
    }

    #[tokio::test]
    async fn so_many_tests_are_made_for_one_peer_in_a_minute_and_no_more() {
        let (mut back, now) = (DialBack::new(), Instant::now());
        assert!((0..TESTS_PER_PEER_MAX).all(|_| back.may_begin(peer(1), now)));
        assert!(!back.may_begin(peer(1), now));
        assert!(back.may_begin(peer(2), now), "others are tested still");
        assert!(back.may_begin(peer(1), now + 2 * BUDGET_PERIOD));
    }

    #[tokio::test]
    async fn so_many_tests_are_made_at_once_and_no_more() {
        let (mut back, now) = (DialBack::new(), Instant::now());
        for at in 0..AT_ONCE_MAX {
            assert!(back.may_begin(peer(at as u8), now));
            let test = Test { peer: peer(at as u8), until: now + DIAL_TIMEOUT, connected: false };
            back.tests.insert(ConnectionId::new_unchecked(at), test);
        }
        assert!(!back.may_begin(peer(100), now));
        back.end_late(now + DIAL_TIMEOUT);
        assert!(back.may_begin(peer(100), now));
    }
}
