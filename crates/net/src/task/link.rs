//! A connection, as the task knows it.

use libp2p::core::ConnectedPoint;
use libp2p::core::transport::PortUse;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use crate::address::relay_of;
use crate::node_id;
use crate::peers::Path;

/// A connection.
pub(super) struct Link {
    pub(super) peer: PeerId,
    /// Where the peer is, or the relay.
    pub(super) address: Multiaddr,
    pub(super) kind: Kind,
    pub(super) since: Instant,
    /// Where the peer sees us.
    pub(super) observed: Option<Multiaddr>,
    /// It has told where it is.
    pub(super) identified: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// We dialled from the port we listen on.
    Dialled,
    /// We dialled only to try whether the peer can be reached.
    Test,
    Accepted,
    Relayed,
}

impl Link {
    pub(super) fn new(peer: PeerId, endpoint: &ConnectedPoint) -> Self {
        let kind = match endpoint {
            endpoint if endpoint.is_relayed() => Kind::Relayed,
            ConnectedPoint::Dialer { port_use: PortUse::New, .. } => Kind::Test,
            ConnectedPoint::Dialer { .. } => Kind::Dialled,
            ConnectedPoint::Listener { .. } => Kind::Accepted,
        };
        let address = match endpoint {
            ConnectedPoint::Listener { local_addr, .. } if kind == Kind::Relayed => local_addr.clone(),
            endpoint => endpoint.get_remote_address().clone(),
        };
        Self { peer, address, kind, since: Instant::now(), observed: None, identified: false }
    }

    pub(super) fn path(&self) -> Path {
        let relay = relay_of(&self.address).and_then(|relay| node_id(&relay).ok());
        Path { address: self.address.to_string(), relay }
    }

    /// Carries streams without help.
    pub(super) fn is_direct(&self) -> bool {
        matches!(self.kind, Kind::Dialled | Kind::Accepted)
    }
}
