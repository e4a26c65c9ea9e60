//! Keeps a behaviour apart from peers that are not admitted.
//!
//! Gossip and Kademlia know no membership. Behind a gate, a behaviour does not learn that a peer is connected, and its
//! handler is not run, until the peer is admitted: nothing of it is sent to a stranger or read from one. A stream that
//! the peer opens meanwhile is accepted and waits unread, because the other node may have admitted us a moment earlier,
//! and gossipsub never asks again on a connection that refused it once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll};

use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p::swarm::behaviour::ConnectionEstablished;
use libp2p::swarm::handler::{ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, FullyNegotiatedInbound};
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, SubstreamProtocol, THandlerInEvent,
    THandlerOutEvent, ToSwarm,
};

use crate::node_id;
use crate::peers::Peers;

/// Streams a peer may have waiting at the closed gate of one connection; more are reset. Gossipsub opens one.
const STREAMS_WAITING_MAX: usize = 4;

/// A behaviour that only admitted peers meet.
pub(crate) struct Gate<B: NetworkBehaviour> {
    inner: B,
    peers: Arc<Peers>,
    /// Connections the behaviour has not been told of, in the order they came.
    waiting: Vec<Waiting>,
    /// Handlers to be told that the gate is open.
    opened: VecDeque<(PeerId, ConnectionId)>,
}

struct Waiting {
    peer: PeerId,
    connection: ConnectionId,
    endpoint: ConnectedPoint,
}

impl<B: NetworkBehaviour> Gate<B> {
    pub(crate) fn new(inner: B, peers: Arc<Peers>) -> Self {
        Self { inner, peers, waiting: Vec::new(), opened: VecDeque::new() }
    }

    pub(crate) fn inner(&mut self) -> &mut B {
        &mut self.inner
    }

    /// Lets the behaviour meet a peer that has just been admitted.
    pub(crate) fn open(&mut self, peer: PeerId) {
        let (admitted, waiting) = std::mem::take(&mut self.waiting).into_iter().partition(|one| one.peer == peer);
        self.waiting = waiting;
        let admitted: Vec<Waiting> = admitted;
        for (other_established, one) in admitted.iter().enumerate() {
            self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                peer_id: peer,
                connection_id: one.connection,
                endpoint: &one.endpoint,
                failed_addresses: &[],
                other_established,
            }));
            self.opened.push_back((peer, one.connection));
        }
    }

    fn is_admitted(&self, peer: &PeerId) -> bool {
        node_id(peer).is_ok_and(|node| self.peers.is_admitted(&node))
    }

    fn handler(&self, inner: B::ConnectionHandler) -> Handler<B::ConnectionHandler> {
        // Closed even for an admitted peer: `on_swarm_event` opens it, in one place for both.
        Handler { inner, open: false, waiting: Vec::new() }
    }
}

impl<B: NetworkBehaviour> NetworkBehaviour for Gate<B> {
    type ConnectionHandler = Handler<B::ConnectionHandler>;
    type ToSwarm = B::ToSwarm;

    fn handle_pending_inbound_connection(
        &mut self,
        connection: ConnectionId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        self.inner.handle_pending_inbound_connection(connection, local, remote)
    }

    fn handle_established_inbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let inner = self.inner.handle_established_inbound_connection(connection, peer, local, remote)?;
        Ok(self.handler(inner))
    }

    fn handle_pending_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        self.inner.handle_pending_outbound_connection(connection, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port_use: PortUse,
    ) -> Result<Self::ConnectionHandler, ConnectionDenied> {
        let inner = self.inner.handle_established_outbound_connection(connection, peer, address, role, port_use)?;
        Ok(self.handler(inner))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                self.waiting.push(Waiting {
                    peer: event.peer_id,
                    connection: event.connection_id,
                    endpoint: event.endpoint.clone(),
                });
                if self.is_admitted(&event.peer_id) {
                    self.waiting.pop();
                    self.inner.on_swarm_event(FromSwarm::ConnectionEstablished(event));
                    self.opened.push_back((event.peer_id, event.connection_id));
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                self.waiting.retain(|one| one.connection != event.connection_id);
                // Also for one it was never told of: it made a handler for it.
                self.inner.on_swarm_event(FromSwarm::ConnectionClosed(event));
            }
            event => self.inner.on_swarm_event(event),
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, connection, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        if let Some((peer_id, connection)) = self.opened.pop_front() {
            return Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event: ToHandler::Open,
            });
        }
        self.inner.poll(cx).map(|event| event.map_in(ToHandler::Inner))
    }
}

/// What the gate tells a handler.
#[derive(Debug)]
pub(crate) enum ToHandler<E> {
    /// The peer is admitted.
    Open,
    /// From the behaviour behind the gate.
    Inner(E),
}

/// A handler that rests until its peer is admitted.
pub(crate) struct Handler<H: ConnectionHandler> {
    inner: H,
    open: bool,
    waiting: Vec<FullyNegotiatedInbound<H::InboundProtocol, H::InboundOpenInfo>>,
}

impl<H: ConnectionHandler> ConnectionHandler for Handler<H> {
    type FromBehaviour = ToHandler<H::FromBehaviour>;
    type ToBehaviour = H::ToBehaviour;
    type InboundProtocol = H::InboundProtocol;
    type OutboundProtocol = H::OutboundProtocol;
    type InboundOpenInfo = H::InboundOpenInfo;
    type OutboundOpenInfo = H::OutboundOpenInfo;

    fn listen_protocol(&self) -> SubstreamProtocol<Self::InboundProtocol, Self::InboundOpenInfo> {
        self.inner.listen_protocol()
    }

    fn connection_keep_alive(&self) -> bool {
        self.open && self.inner.connection_keep_alive()
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<ConnectionHandlerEvent<Self::OutboundProtocol, Self::OutboundOpenInfo, Self::ToBehaviour>> {
        if self.open { self.inner.poll(cx) } else { Poll::Pending }
    }

    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<Option<Self::ToBehaviour>> {
        if self.open { self.inner.poll_close(cx) } else { Poll::Ready(None) }
    }

    fn on_behaviour_event(&mut self, event: Self::FromBehaviour) {
        match event {
            ToHandler::Open => {
                self.open = true;
                for inbound in self.waiting.drain(..) {
                    self.inner.on_connection_event(ConnectionEvent::FullyNegotiatedInbound(inbound));
                }
            }
            ToHandler::Inner(event) => self.inner.on_behaviour_event(event),
        }
    }

    fn on_connection_event(
        &mut self,
        event: ConnectionEvent<
            '_,
            Self::InboundProtocol,
            Self::OutboundProtocol,
            Self::InboundOpenInfo,
            Self::OutboundOpenInfo,
        >,
    ) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(inbound) if !self.open => {
                if self.waiting.len() < STREAMS_WAITING_MAX {
                    self.waiting.push(inbound);
                }
            }
            event => self.inner.on_connection_event(event),
        }
    }
}
