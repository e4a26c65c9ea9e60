//! Finds nodes on the same LAN: multicast DNS.
//!
//! libp2p's own remembers whatever anybody on the LAN announces, for as long as they say, and tells the other behaviours.
//! Here an announcement is passed on once and forgotten; whether it is worth a dial, the task decides.
//!
//! Source: the mDNS discovery specification, libp2p/specs, discovery/mdns.md; RFC 6762.

use std::collections::VecDeque;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::mdns;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandlerInEvent, THandlerOutEvent, ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Somebody announces itself on the LAN, or says it does.
#[derive(Debug)]
pub(crate) struct Announced {
    pub(crate) peer: PeerId,
    pub(crate) addresses: Vec<Multiaddr>,
}

/// The behaviour; does nothing where it is switched off.
#[derive(Default)]
pub(crate) struct Lan {
    inner: Option<mdns::tokio::Behaviour>,
    /// What one answer announced, until the task has it: nothing more is read meanwhile.
    announced: VecDeque<Announced>,
}

impl Lan {
    pub(crate) fn off() -> Self {
        Self::default()
    }

    /// Asks at once, less and less often until somebody answers, and then every five minutes. Off where the system does
    /// not tell which networks there are.
    pub(crate) fn on(us: PeerId) -> Self {
        match mdns::tokio::Behaviour::new(mdns::Config::default(), us) {
            Ok(inner) => Self { inner: Some(inner), ..Self::default() },
            Err(error) => {
                tracing::warn!(%error, "nodes on the same LAN are not looked for");
                Self::off()
            }
        }
    }
}

/// Forgets what was announced: whoever is still there is announced again.
fn forget(inner: &mut mdns::tokio::Behaviour, peer: &PeerId) {
    #[allow(deprecated, reason = "there is no other way to keep strangers from filling its memory")]
    inner.expire_node(peer);
}

impl NetworkBehaviour for Lan {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Announced;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<dummy::ConnectionHandler, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let Some(inner) = &mut self.inner {
            inner.on_swarm_event(event);
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Announced, THandlerInEvent<Self>>> {
        if let Some(announced) = self.announced.pop_front() {
            return Poll::Ready(ToSwarm::GenerateEvent(announced));
        }
        let Some(inner) = &mut self.inner else { return Poll::Pending };
        while let Poll::Ready(event) = inner.poll(cx) {
            let ToSwarm::GenerateEvent(mdns::Event::Discovered(found)) = event else { continue };
            for (peer, address) in found {
                forget(inner, &peer);
                match self.announced.iter_mut().find(|one| one.peer == peer) {
                    Some(one) => one.addresses.push(address),
                    None => self.announced.push_back(Announced { peer, addresses: vec![address] }),
                }
            }
            if let Some(announced) = self.announced.pop_front() {
                return Poll::Ready(ToSwarm::GenerateEvent(announced));
            }
        }
        Poll::Pending
    }
}
