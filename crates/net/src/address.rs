//! What an address says about itself: over which transport, whether through a relay, and from how far it can be reached.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::PeerId;
use libp2p::multiaddr::{Multiaddr, Protocol};

use crate::id::with_peer;

/// How a connection is carried, where we can listen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transport {
    Tcp,
    Quic,
}

/// From how far an address can be reached, nearest last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Scope {
    /// From anywhere, as far as the address tells; names too.
    Global,
    /// From the same network only: a LAN, a VPN, a provider's own (RFC 1918, 6598, 3927, 4193, 4291).
    Private,
    /// From this machine only.
    Loopback,
}

/// Whether the address leads through another node.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// Through whom the address leads.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<PeerId> {
    let mut last = None;
    for part in address.iter() {
        match part {
            Protocol::P2p(peer) => last = Some(peer),
            Protocol::P2pCircuit => return last,
            _ => {}
        }
    }
    None
}

/// The address of `us` that leads through the relay at `at`.
pub(crate) fn through(at: Multiaddr, relay: PeerId) -> Multiaddr {
    with_peer(at, relay).with(Protocol::P2pCircuit)
}

/// The host and port of a direct address, and how it is spoken to; none for a name, a relayed one, or another kind.
pub(crate) fn socket(address: &Multiaddr) -> Option<(IpAddr, u16, Transport)> {
    let mut parts = address.iter();
    let ip = match parts.next()? {
        Protocol::Ip4(ip) => IpAddr::V4(ip),
        Protocol::Ip6(ip) => IpAddr::V6(ip),
        _ => return None,
    };
    let (port, transport) = match (parts.next()?, parts.next()) {
        (Protocol::Tcp(port), None | Some(Protocol::P2p(_))) => (port, Transport::Tcp),
        (Protocol::Udp(port), Some(Protocol::QuicV1)) => (port, Transport::Quic),
        _ => return None,
    };
    let rest_is_peer = |part| matches!(part, Protocol::P2p(_));
    (parts.all(rest_is_peer) && !is_relayed(address)).then_some((ip, port, transport))
}

/// The direct address of a host and port.
pub(crate) fn direct((ip, port, transport): (IpAddr, u16, Transport)) -> Multiaddr {
    let host = Multiaddr::from(ip);
    match transport {
        Transport::Tcp => host.with(Protocol::Tcp(port)),
        Transport::Quic => host.with(Protocol::Udp(port)).with(Protocol::QuicV1),
    }
}

/// From how far the address can be reached; of a relayed one, the relay.
pub(crate) fn scope(address: &Multiaddr) -> Scope {
    match address.iter().next() {
        Some(Protocol::Ip4(ip)) => scope4(ip),
        Some(Protocol::Ip6(ip)) => scope6(ip),
        _ => Scope::Global,
    }
}

fn scope4(ip: Ipv4Addr) -> Scope {
    let [first, second, ..] = ip.octets();
    let shared = first == 100 && second & 0xC0 == 64; // 100.64.0.0/10, RFC 6598
    match () {
        () if ip.is_loopback() => Scope::Loopback,
        () if ip.is_private() || ip.is_link_local() || shared => Scope::Private,
        () => Scope::Global,
    }
}

fn scope6(ip: Ipv6Addr) -> Scope {
    match () {
        () if ip.is_loopback() => Scope::Loopback,
        () if ip.is_unique_local() || ip.is_unicast_link_local() => Scope::Private,
        () => Scope::Global,
    }
}

/// Puts first what most can reach: direct ones from anywhere, then through relays, then near ones.
pub(crate) fn sort_farthest_first(addresses: &mut [Multiaddr]) {
    addresses.sort_by_key(|address| match (scope(address), is_relayed(address)) {
        (Scope::Global, false) => 0,
        (Scope::Global, true) => 1,
        (Scope::Private, false) => 2,
        (Scope::Private, true) => 3,
        (Scope::Loopback, _) => 4,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    #[test]
    fn private_addresses_are_told_from_those_of_the_world() {
        let of = |text: &str| scope(&parse(text));
        for near in ["10.1.2.3", "172.16.0.1", "192.168.1.1", "100.64.0.1", "100.127.255.255", "169.254.1.1"] {
            assert_eq!(of(&format!("/ip4/{near}/tcp/1")), Scope::Private, "{near}");
        }
        for far in ["9.9.9.9", "172.32.0.1", "100.128.0.1", "203.0.113.1"] {
            assert_eq!(of(&format!("/ip4/{far}/udp/1/quic-v1")), Scope::Global, "{far}");
        }
        assert_eq!(of("/ip6/fd00::1/tcp/1"), Scope::Private);
        assert_eq!(of("/ip6/fe80::1/tcp/1"), Scope::Private);
        assert_eq!(of("/ip6/2a01::1/tcp/1"), Scope::Global);
        assert_eq!(of("/ip6/::1/tcp/1"), Scope::Loopback);
        assert_eq!(of("/dns4/clinic.example/tcp/1"), Scope::Global);
    }

    #[test]
    fn a_direct_address_is_host_port_and_transport_and_nothing_else_is() {
        let peer = crate::Keys::from_seed([1; 32]).pair().public().to_peer_id();
        for text in ["/ip4/1.2.3.4/tcp/5", "/ip6/2a01::1/udp/5/quic-v1"] {
            let address = parse(text);
            let parts = socket(&address).unwrap();
            assert_eq!(direct(parts), address);
            assert_eq!(socket(&with_peer(address, peer)), Some(parts));
        }
        let relayed = through(parse("/ip4/1.2.3.4/tcp/5"), peer);
        assert_eq!(relay_of(&relayed), Some(peer));
        assert!(is_relayed(&relayed));
        for other in [&relayed, &parse("/ip4/1.2.3.4/udp/5"), &parse("/dns4/a/tcp/1"), &parse("/ip4/1.2.3.4/tcp/5/ws")]
        {
            assert_eq!(socket(other), None, "{other}");
        }
    }

    #[test]
    fn what_most_can_reach_comes_first() {
        let peer = crate::Keys::from_seed([1; 32]).pair().public().to_peer_id();
        let far = parse("/ip4/9.9.9.9/tcp/1");
        let relayed = through(far.clone(), peer);
        let (near, here) = (parse("/ip4/10.0.0.1/tcp/1"), parse("/ip4/127.0.0.1/tcp/1"));
        let mut all = vec![here.clone(), near.clone(), relayed.clone(), far.clone()];
        sort_farthest_first(&mut all);
        assert_eq!(all, [far, relayed, near, here]);
    }
}
