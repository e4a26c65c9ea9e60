//! Finds out whether we can be reached: the asking side of AutoNAT v2.
//!
//! libp2p's own asks only over connections that we opened, and is asked only over connections that others opened. A clinic
//! that can be reached while all others sit behind NATs opens none, and would never learn that it is the one to relay for
//! them. So here every connection is good for both. And libp2p's tests whatever address anybody claims to see us at, and
//! remembers it for ever; here [`crate::reach::Tests`] says what is tested.
//!
//! Source: the AutoNAT v2 specification, libp2p/specs, autonat/autonat-v2.md.

use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::autonat::v2::client;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::handler::ConnectionHandlerSelect;
use libp2p::swarm::{
    ConnectionDenied, ConnectionHandler, ConnectionId, FromSwarm, NetworkBehaviour, NewExternalAddrCandidate,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

/// How soon an address that we are seen at is tested, and how often one whose test was cut off.
const INTERVAL: Duration = Duration::from_secs(2);

/// Addresses tested in one interval.
const AT_ONCE_MAX: usize = 4;

/// The handler of one of libp2p's directions.
type One = <client::Behaviour as NetworkBehaviour>::ConnectionHandler;

/// The behaviour.
pub(crate) struct Probe(client::Behaviour);

impl Probe {
    pub(crate) fn new() -> Self {
        let config = client::Config::default().with_probe_interval(INTERVAL).with_max_candidates(AT_ONCE_MAX);
        Self(client::Behaviour::new(rand::make_rng(), config))
    }

    /// Has an address tested. What comes of it is an event.
    pub(crate) fn test(&mut self, address: &Multiaddr) {
        self.0.on_swarm_event(FromSwarm::NewExternalAddrCandidate(NewExternalAddrCandidate { addr: address }));
    }
}

impl NetworkBehaviour for Probe {
    /// Asks, and is dialled back.
    type ConnectionHandler = ConnectionHandlerSelect<One, One>;
    type ToSwarm = client::Event;

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let (asks, reuse) = (Endpoint::Dialer, PortUse::Reuse);
        let asking = self.0.handle_established_outbound_connection(connection, peer, remote, asks, reuse)?;
        let dialled = self.0.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(asking.select(dialled))
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let asking = self.0.handle_established_outbound_connection(connection, peer, address, role, port_use)?;
        let dialled = self.0.handle_established_inbound_connection(connection, peer, address, address)?;
        Ok(asking.select(dialled))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if !matches!(event, FromSwarm::NewExternalAddrCandidate(_)) {
            self.0.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.0.on_connection_handler_event(peer, connection, event.into_inner());
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        self.0.poll(cx).map(|event| event.map_in(either::Either::Left))
    }
}
