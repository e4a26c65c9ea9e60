//! Whether others can reach this node, from what they see of it and what AutoNAT found. Pure.
//!
//! A peer tells under which address it sees us. Each such address is tested once: a peer dials it from a port we never
//! spoke to. An answer counts for as long as some peer still sees us at that host: an address we had yesterday says
//! nothing about today.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use libp2p::swarm::ConnectionId;
use libp2p::{Multiaddr, PeerId};

use crate::address::{self, Scope, Transport};

/// Addresses we have ever been seen at, in one life of the process. A line that gets a new address every day has two more
/// each day; past this, new ones are not tested.
const TESTED_MAX: usize = 1024;

/// Addresses one peer may make us test, in one life of the process: it tells what it sees, and could tell anything.
const CLAIMS_PER_PEER_MAX: usize = 64;

/// Whether peers can connect with this node without help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Nobody has tried yet.
    Unknown,
    /// They can.
    Direct,
    /// They cannot: a NAT or a firewall is in between.
    Behind,
}

/// What was found out.
#[derive(Debug, Default)]
pub(crate) struct Tests {
    /// The operator says where we are reached: nothing is tested against that.
    announced: bool,
    /// What came of each address; none: it is being tested.
    tested: HashMap<Multiaddr, Option<bool>>,
    /// Hosts under which we are seen, by the connection over which we were told.
    seen: HashMap<ConnectionId, IpAddr>,
    /// The last of them, once no connection is left: who lost all has not moved for that.
    last_seen: Option<IpAddr>,
    claims: HashMap<PeerId, usize>,
}

impl Tests {
    pub(crate) fn new(announced: bool) -> Self {
        Self { announced, ..Self::default() }
    }

    /// A peer sees us at `observed`; we listen on `listening`. The addresses to be tested, each only once.
    pub(crate) fn saw(
        &mut self,
        connection: ConnectionId,
        peer: PeerId,
        observed: &Multiaddr,
        listening: &[Multiaddr],
    ) -> Vec<Multiaddr> {
        let Some((ip, port, transport)) = address::socket(observed) else { return Vec::new() };
        self.seen.insert(connection, ip);
        let same = listening.iter().filter_map(address::socket).filter(|(.., kind)| *kind == transport);
        // A router may map the port; one that forwards ours forwards the one we listen on.
        let ports: HashSet<u16> = same.map(|(_, port, _)| port).chain([port]).collect();
        let mut new: Vec<Multiaddr> = ports.into_iter().map(|port| address::direct((ip, port, transport))).collect();
        new.retain(|address| self.may_test(peer, address));
        new.sort();
        new
    }

    fn may_test(&mut self, peer: PeerId, address: &Multiaddr) -> bool {
        let claims = self.claims.entry(peer).or_default();
        if self.tested.contains_key(address) || self.tested.len() >= TESTED_MAX || *claims >= CLAIMS_PER_PEER_MAX {
            return false;
        }
        *claims += 1;
        self.tested.insert(address.clone(), None);
        true
    }

    /// What a test found.
    pub(crate) fn tested(&mut self, address: &Multiaddr, reached: bool) {
        if let Some(outcome) = self.tested.get_mut(address) {
            *outcome = Some(reached);
        }
    }

    /// A connection is gone, and with it what was told over it.
    pub(crate) fn closed(&mut self, connection: ConnectionId) {
        if let Some(ip) = self.seen.remove(&connection)
            && self.seen.is_empty()
        {
            self.last_seen = Some(ip);
        }
    }

    fn is_seen_at(&self, ip: IpAddr) -> bool {
        if self.seen.is_empty() { self.last_seen == Some(ip) } else { self.seen.values().any(|seen| *seen == ip) }
    }

    /// A peer is a member no more.
    pub(crate) fn forget(&mut self, peer: &PeerId) {
        self.claims.remove(peer);
    }

    /// Where we are reached directly now.
    pub(crate) fn reached(&self) -> HashSet<Multiaddr> {
        self.current(None).filter(|(_, reached)| *reached).map(|(address, _)| address.clone()).collect()
    }

    /// Addresses of hosts we are seen at, that were tested.
    fn current(&self, of: Option<Scope>) -> impl Iterator<Item = (&Multiaddr, bool)> {
        self.tested.iter().filter_map(move |(address, outcome)| {
            let (ip, ..) = address::socket(address)?;
            let fits = of.is_none_or(|scope| scope == address::scope(address));
            (fits && self.is_seen_at(ip)).then_some((address, (*outcome)?))
        })
    }

    /// Whether others can reach us. What is seen from the world decides; where all is one private network, that.
    pub(crate) fn reach(&self) -> Reach {
        if self.announced {
            return Reach::Direct;
        }
        for scope in [Scope::Global, Scope::Private, Scope::Loopback] {
            let (mut reached, mut failed) = (false, false);
            for (_, one) in self.current(Some(scope)) {
                reached |= one;
                failed |= !one;
            }
            match (reached, failed) {
                (true, _) => return Reach::Direct,
                (false, true) => return Reach::Behind,
                (false, false) => {}
            }
        }
        Reach::Unknown
    }
}

/// Which transports we listen on.
pub(crate) fn transports(listening: &[Multiaddr]) -> Vec<Transport> {
    let all: HashSet<Transport> = listening.iter().filter_map(address::socket).map(|(.., kind)| kind).collect();
    [Transport::Tcp, Transport::Quic].into_iter().filter(|kind| all.contains(kind)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "/ip4/192.168.1.5/tcp/4401";

    fn parse(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    fn id(at: usize) -> ConnectionId {
        ConnectionId::new_unchecked(at)
    }

    fn peer(seed: u8) -> PeerId {
        crate::Keys::from_seed([seed; 32]).pair().public().to_peer_id()
    }

    /// Seen at an address over a connection by a peer.
    fn saw(tests: &mut Tests, connection: usize, by: u8, at: &str) -> Vec<Multiaddr> {
        tests.saw(id(connection), peer(by), &parse(at), &[parse(HERE)])
    }

    #[test]
    fn what_is_seen_is_tested_once_and_so_is_the_port_we_listen_on() {
        let mut tests = Tests::default();
        assert_eq!(saw(&mut tests, 1, 1, "/ip4/9.9.9.9/tcp/4401"), [parse("/ip4/9.9.9.9/tcp/4401")]);
        assert_eq!(saw(&mut tests, 2, 2, "/ip4/9.9.9.9/tcp/4401"), []);
        assert_eq!(saw(&mut tests, 3, 2, "/ip4/9.9.9.9/tcp/60000"), [parse("/ip4/9.9.9.9/tcp/60000")]);
        let both = [parse("/ip4/8.8.8.8/tcp/4401"), parse("/ip4/8.8.8.8/tcp/60000")];
        assert_eq!(saw(&mut tests, 4, 2, "/ip4/8.8.8.8/tcp/60000"), both);
        assert_eq!(saw(&mut tests, 5, 2, "/dns4/a/tcp/60000"), []);
    }

    #[test]
    fn behind_a_nat_until_an_address_of_the_world_is_reached() {
        let mut tests = Tests::default();
        let (tcp, quic) = (parse("/ip4/9.9.9.9/tcp/4401"), parse("/ip4/9.9.9.9/udp/4401/quic-v1"));
        tests.saw(id(1), peer(1), &tcp, &[]);
        tests.saw(id(2), peer(1), &quic, &[]);
        assert_eq!(tests.reach(), Reach::Unknown);
        tests.tested(&tcp, false);
        assert_eq!(tests.reach(), Reach::Behind);
        tests.tested(&quic, true);
        assert_eq!(tests.reach(), Reach::Direct);
        assert_eq!(tests.reached(), HashSet::from([quic]));
    }

    #[test]
    fn a_neighbour_that_reaches_us_does_not_stand_for_the_world() {
        let mut tests = Tests::default();
        saw(&mut tests, 1, 1, HERE);
        tests.tested(&parse(HERE), true);
        assert_eq!(tests.reach(), Reach::Direct, "all is one private network, as far as anybody can tell");
        let far = "/ip4/9.9.9.9/tcp/4401";
        saw(&mut tests, 2, 2, far);
        tests.tested(&parse(far), false);
        assert_eq!(tests.reach(), Reach::Behind);
        assert_eq!(tests.reached(), HashSet::from([parse(HERE)]));
    }

    #[test]
    fn an_address_counts_while_somebody_sees_us_there() {
        let mut tests = Tests::default();
        let (old, new) = ("/ip4/9.9.9.9/tcp/4401", "/ip4/8.8.8.8/tcp/4401");
        saw(&mut tests, 1, 1, old);
        tests.tested(&parse(old), true);
        tests.closed(id(1));
        assert_eq!(tests.reach(), Reach::Direct, "nobody says otherwise");
        saw(&mut tests, 2, 1, new);
        tests.tested(&parse(new), false);
        assert_eq!(tests.reach(), Reach::Behind);
        assert!(saw(&mut tests, 3, 1, old).is_empty(), "it was tested");
        assert_eq!(tests.reach(), Reach::Direct, "it is back");
    }

    #[test]
    fn where_the_operator_says_where_we_are_nothing_is_doubted() {
        let mut tests = Tests::new(true);
        saw(&mut tests, 1, 1, "/ip4/9.9.9.9/tcp/4401");
        tests.tested(&parse("/ip4/9.9.9.9/tcp/4401"), false);
        assert_eq!(tests.reach(), Reach::Direct);
    }

    #[test]
    fn one_peer_can_make_us_test_so_many_addresses_and_no_more() {
        let mut tests = Tests::default();
        let mut see =
            |by: u8, port: usize| tests.saw(id(port), peer(by), &parse(&format!("/ip4/9.9.9.9/tcp/{port}")), &[]);
        let asked: usize = (1..=CLAIMS_PER_PEER_MAX).map(|port| see(1, port).len()).sum();
        assert_eq!(asked, CLAIMS_PER_PEER_MAX);
        assert!(see(1, CLAIMS_PER_PEER_MAX + 1).is_empty());
        assert_eq!(see(2, CLAIMS_PER_PEER_MAX + 1).len(), 1, "others are believed still");
    }

    #[test]
    fn so_many_addresses_are_tested_and_no_more() {
        let mut tests = Tests::default();
        let mut see =
            |by: u8, port: usize| tests.saw(id(port), peer(by), &parse(&format!("/ip4/9.9.9.9/tcp/{port}")), &[]);
        let by = |port: usize| 1 + (port / CLAIMS_PER_PEER_MAX) as u8;
        let asked: usize = (0..TESTED_MAX).map(|port| see(by(port), 1 + port).len()).sum();
        assert_eq!(asked, TESTED_MAX);
        assert!(see(200, TESTED_MAX + 1).is_empty());
    }
}
