//! Opens and accepts the streams of our own protocols.
//!
//! `libp2p-stream` does the same, but drops an inbound stream in silence whenever nobody waits for it that instant. Here
//! each one either reaches the driver or is refused where its opener sees it: a protocol a peer may not use is not
//! offered to it, so that the negotiation fails.

mod offer;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use bithealth_types::NodeId;
use libp2p::PeerId;
use libp2p::core::transport::PortUse;
use libp2p::core::{ConnectedPoint, Endpoint, Multiaddr};
use libp2p::swarm::handler::{
    ConnectionEvent, ConnectionHandler, ConnectionHandlerEvent, DialUpgradeError, FullyNegotiatedInbound,
    FullyNegotiatedOutbound, StreamUpgradeError, SubstreamProtocol,
};
use libp2p::swarm::{ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, NotifyHandler, ToSwarm};
use tokio::sync::oneshot;

use crate::frame::{Counted, Side};
use crate::peers::{Peer, Peers};
use crate::{Config, OpenError, Stream, node_id};
use offer::Offer;

/// Streams asked for on one connection whose negotiation has not begun. Callers beyond get [`OpenError::TooMany`].
const OPENS_WAITING_MAX: usize = 256;

/// What a stream carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// `Hello` and `HelloAnswer`. The only one open to a peer that is not admitted.
    Hello,
    /// `SyncRequest` and `SyncAnswer`.
    Sync,
    /// `ExchangeAsk` and `ExchangeTell`.
    Exchange,
    /// `AuditAsk` and `AuditTell`.
    Audit,
}

impl Protocol {
    const ALL: [Self; 4] = [Self::Hello, Self::Sync, Self::Exchange, Self::Audit];

    /// The name that is negotiated.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Hello => "/bithealth/hello/1",
            Self::Sync => "/bithealth/sync/1",
            Self::Exchange => "/bithealth/exchange/1",
            Self::Audit => "/bithealth/audit/1",
        }
    }

    /// Whether a peer may use it before it is admitted.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Hello)
    }
}

impl std::fmt::Display for Protocol {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A stream somebody asks for. Its sender is dropped if the connection is lost.
#[derive(Debug)]
pub(crate) struct Open {
    pub(crate) protocol: Protocol,
    pub(crate) reply: oneshot::Sender<Result<Stream, OpenError>>,
}

/// A stream that a peer opened.
#[derive(Debug)]
pub(crate) struct Inbound {
    pub(crate) from: NodeId,
    pub(crate) protocol: Protocol,
    pub(crate) stream: Stream,
}

/// The behaviour: hands requests to connections, and streams to the task.
pub(crate) struct Streams {
    peers: Arc<Peers>,
    limits: Limits,
    /// Per peer, the one to use last: see [`Self::open`].
    connections: HashMap<PeerId, Vec<Usable>>,
    events: VecDeque<ToSwarm<Inbound, Open>>,
}

/// A connection that streams may be opened on.
#[derive(Clone, Copy)]
struct Usable {
    id: ConnectionId,
    relayed: bool,
}

#[derive(Clone, Copy)]
struct Limits {
    streams_max: usize,
    open_timeout: Duration,
}

impl Streams {
    pub(crate) fn new(peers: Arc<Peers>, config: &Config) -> Self {
        let limits = Limits { streams_max: config.streams_per_peer_max, open_timeout: config.open_timeout() };
        Self { peers, limits, connections: HashMap::new(), events: VecDeque::new() }
    }

    /// Opens a stream: over a relay only where there is no direct connection, and over the newest, since an older one may
    /// be lost without our knowing yet. One that the peer opened counts as new once it uses it: it may be there only to try
    /// whether we can be reached.
    pub(crate) fn open(&mut self, peer: PeerId, node: NodeId, open: Open) {
        let connections = self.connections.get(&peer).map(Vec::as_slice).unwrap_or_default();
        let direct = connections.iter().rfind(|one| !one.relayed);
        let Some(&Usable { id: connection, .. }) = direct.or(connections.last()) else {
            let _ = open.reply.send(Err(OpenError::NotConnected { node })); // nobody waits any more: fine
            return;
        };
        self.events.push_back(ToSwarm::NotifyHandler {
            peer_id: peer,
            handler: NotifyHandler::One(connection),
            event: open,
        });
    }

    /// The peer uses this connection.
    fn used(&mut self, peer: PeerId, connection: ConnectionId) {
        let Some(connections) = self.connections.get_mut(&peer) else { return };
        if let Some(at) = connections.iter().position(|one| one.id == connection) {
            connections[at..].rotate_left(1);
        }
    }

    fn handler(&self, peer: PeerId, kept: Kept) -> Result<Handler, ConnectionDenied> {
        let node = node_id(&peer).map_err(ConnectionDenied::new)?;
        Ok(Handler {
            peer: self.peers.get_or_add(node),
            kept,
            limits: self.limits,
            opens: VecDeque::new(),
            inbound: VecDeque::new(),
        })
    }
}

impl NetworkBehaviour for Streams {
    type ConnectionHandler = Handler;
    type ToSwarm = Inbound;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(peer, Kept::WithPeer)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        port_use: PortUse,
    ) -> Result<Handler, ConnectionDenied> {
        self.handler(peer, if is_test(port_use) { Kept::No } else { Kept::WithPeer })
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(event) => {
                let relayed = event.endpoint.is_relayed();
                let one = Usable { id: event.connection_id, relayed };
                match event.endpoint {
                    ConnectedPoint::Dialer { port_use, .. } if is_test(*port_use) => {}
                    ConnectedPoint::Dialer { .. } => self.connections.entry(event.peer_id).or_default().push(one),
                    ConnectedPoint::Listener { .. } => {
                        self.connections.entry(event.peer_id).or_default().insert(0, one);
                    }
                }
            }
            FromSwarm::ConnectionClosed(event) => {
                if let Some(connections) = self.connections.get_mut(&event.peer_id) {
                    connections.retain(|one| one.id != event.connection_id);
                    if connections.is_empty() {
                        self.connections.remove(&event.peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, connection: ConnectionId, event: Inbound) {
        self.used(peer, connection);
        self.events.push_back(ToSwarm::GenerateEvent(event));
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Inbound, Open>> {
        self.events.pop_front().map_or(Poll::Pending, Poll::Ready)
    }
}

/// Whether a connection was made only to try whether the peer can be reached: nothing else dials from a port of its own.
fn is_test(port_use: PortUse) -> bool {
    port_use == PortUse::New
}

/// Whether a connection stays when it is idle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kept {
    /// As long as the peer is kept.
    WithPeer,
    No,
}

/// The streams of one connection.
pub(crate) struct Handler {
    peer: Arc<Peer>,
    kept: Kept,
    limits: Limits,
    opens: VecDeque<Open>,
    inbound: VecDeque<Inbound>,
}

impl Handler {
    fn accept(&mut self, io: libp2p::Stream, protocol: Protocol) {
        let Some(place) = Counted::take(&self.peer, Side::Inbound, self.limits.streams_max) else {
            tracing::debug!(peer = %self.peer.node, max = self.limits.streams_max, "too many streams, one is reset");
            return;
        };
        self.inbound.push_back(Inbound { from: self.peer.node, protocol, stream: Stream::new(io, place) });
    }

    fn opened(&mut self, io: libp2p::Stream, open: Open) {
        let stream = match Counted::take(&self.peer, Side::Outbound, self.limits.streams_max) {
            Some(place) => Ok(Stream::new(io, place)),
            None => Err(self.too_many()),
        };
        let _ = open.reply.send(stream); // a caller that went away closes the stream
    }

    fn too_many(&self) -> OpenError {
        OpenError::TooMany { node: self.peer.node, max: self.limits.streams_max }
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Open;
    type ToBehaviour = Inbound;
    type InboundProtocol = Offer;
    type OutboundProtocol = Offer;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Open;

    fn listen_protocol(&self) -> SubstreamProtocol<Offer> {
        let admitted = self.peer.admitted.load(Relaxed);
        let offered = Protocol::ALL.into_iter().filter(|protocol| admitted || protocol.is_open());
        SubstreamProtocol::new(Offer(offered.collect()), ())
    }

    fn connection_keep_alive(&self) -> bool {
        self.kept == Kept::WithPeer && self.peer.kept.load(Relaxed)
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<Offer, Open, Inbound>> {
        if let Some(inbound) = self.inbound.pop_front() {
            return Poll::Ready(ConnectionHandlerEvent::NotifyBehaviour(inbound));
        }
        while let Some(open) = self.opens.pop_front() {
            if open.reply.is_closed() {
                continue;
            }
            if self.peer.outbound.load(Relaxed) >= self.limits.streams_max {
                let _ = open.reply.send(Err(self.too_many()));
                continue;
            }
            let offer = Offer(vec![open.protocol]);
            let protocol = SubstreamProtocol::new(offer, open).with_timeout(self.limits.open_timeout);
            return Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol });
        }
        Poll::Pending
    }

    fn on_behaviour_event(&mut self, open: Open) {
        if self.opens.len() >= OPENS_WAITING_MAX {
            let _ = open.reply.send(Err(OpenError::TooMany { node: self.peer.node, max: OPENS_WAITING_MAX }));
            return;
        }
        self.opens.push_back(open);
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, Offer, Offer, (), Open>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound { protocol: (io, protocol), .. }) => {
                self.accept(io, protocol);
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol: (io, _), info }) => {
                self.opened(io, info);
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError { info: open, error }) => {
                let (node, protocol) = (self.peer.node, open.protocol);
                let error = match error {
                    StreamUpgradeError::Timeout => OpenError::Timeout { node, protocol },
                    StreamUpgradeError::NegotiationFailed => OpenError::Refused { node, protocol },
                    StreamUpgradeError::Io(error) => OpenError::Io { node, protocol, error },
                    StreamUpgradeError::Apply(never) => match never {},
                };
                let _ = open.reply.send(Err(error)); // nobody waits any more: fine
            }
            _ => {}
        }
    }
}
