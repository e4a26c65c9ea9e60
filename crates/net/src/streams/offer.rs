//! The negotiation of a stream's protocol.

use std::convert::Infallible;
use std::future::{Ready, ready};

use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::StreamProtocol;

use super::Protocol;

/// The protocols a stream may be of.
#[derive(Debug)]
pub(crate) struct Offer(pub(super) Vec<Protocol>);

/// A protocol as libp2p wants it named.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named(Protocol);

impl AsRef<str> for Named {
    fn as_ref(&self) -> &str {
        self.0.name()
    }
}

impl From<Named> for StreamProtocol {
    fn from(named: Named) -> Self {
        Self::new(named.0.name())
    }
}

impl UpgradeInfo for Offer {
    type Info = Named;
    type InfoIter = std::vec::IntoIter<Named>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.iter().copied().map(Named).collect::<Vec<_>>().into_iter()
    }
}

impl InboundUpgrade<libp2p::Stream> for Offer {
    type Output = (libp2p::Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, io: libp2p::Stream, named: Named) -> Self::Future {
        ready(Ok((io, named.0)))
    }
}

impl OutboundUpgrade<libp2p::Stream> for Offer {
    type Output = (libp2p::Stream, Protocol);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, io: libp2p::Stream, named: Named) -> Self::Future {
        ready(Ok((io, named.0)))
    }
}
