//! Relaying: for members only, and within limits. What asks here is libp2p as it comes, so that it may ask for more than our
//! own nodes do.

use std::time::Duration;

use bithealth_net::{Config, node_id};
use futures::StreamExt;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{NetworkBehaviour, SwarmEvent};
use libp2p::{Multiaddr, PeerId, Swarm, SwarmBuilder, identity::Keypair, ping, relay, tcp, tls, yamux};

use crate::support::*;

#[derive(NetworkBehaviour)]
struct Asks {
    relay: relay::client::Behaviour,
    ping: ping::Behaviour,
}

/// A member, or a stranger, that asks for relaying.
struct Asker(Swarm<Asks>);

impl Asker {
    fn new() -> Self {
        let swarm = SwarmBuilder::with_existing_identity(Keypair::generate_ed25519())
            .with_tokio()
            .with_tcp(tcp::Config::default(), tls::Config::new, yamux::Config::default)
            .unwrap()
            .with_relay_client(tls::Config::new, yamux::Config::default)
            .unwrap()
            .with_behaviour(|_, relay| Asks { relay, ping: ping::Behaviour::default() })
            .unwrap()
            .with_swarm_config(|swarm| swarm.with_idle_connection_timeout(Duration::from_secs(60)))
            .build();
        Self(swarm)
    }

    /// One that the relay has admitted.
    async fn member(of: &Node) -> Self {
        let asker = Self::new();
        of.net.admit(node_id(&asker.id()).unwrap()).await.unwrap();
        asker
    }

    fn id(&self) -> PeerId {
        *self.0.local_peer_id()
    }

    /// Asks for a place. The address that leads there, or why there is none.
    async fn reserve(&mut self, relay: &Node) -> Result<Multiaddr, String> {
        let through = at(relay).with(Protocol::P2pCircuit).with(Protocol::P2p(self.id()));
        let place = self.0.listen_on(at(relay).with(Protocol::P2pCircuit)).unwrap();
        soon("an answer of the relay", async {
            loop {
                match self.0.select_next_some().await {
                    SwarmEvent::NewListenAddr { listener_id, .. } if listener_id == place => return Ok(through),
                    SwarmEvent::ListenerClosed { listener_id, reason, .. } if listener_id == place => {
                        return Err(format!("{reason:?}"));
                    }
                    _ => {}
                }
            }
        })
        .await
    }

    /// Runs on by itself.
    fn run(mut self) {
        tokio::spawn(async move {
            loop {
                self.0.select_next_some().await;
            }
        });
    }

    /// Dials through the relay.
    async fn dial(&mut self, address: Multiaddr) -> Result<(), String> {
        self.0.dial(address).unwrap();
        soon("a circuit or none", async {
            loop {
                match self.0.select_next_some().await {
                    SwarmEvent::ConnectionEstablished { endpoint, .. } if endpoint.is_relayed() => return Ok(()),
                    SwarmEvent::OutgoingConnectionError { error, .. } => return Err(format!("{error:?}")),
                    _ => {}
                }
            }
        })
        .await
    }

    /// Waits until a circuit is cut.
    async fn sees_circuit_cut(&mut self) {
        soon("the circuit is cut", async {
            loop {
                if let SwarmEvent::ConnectionClosed { endpoint, .. } = self.0.select_next_some().await
                    && endpoint.is_relayed()
                {
                    return;
                }
            }
        })
        .await;
    }
}

/// Where a relay listens.
fn at(relay: &Node) -> Multiaddr {
    relay.addresses().last().expect("it listens").parse().unwrap()
}

/// A node whose operator says that it can be reached.
async fn relay_with(change: impl FnOnce(&mut Config)) -> Node {
    let announce = vec!["/dns4/relay.example/tcp/4401".to_owned()];
    let mut config = Config { announce, hello_timeout_ms: 500, ..config(TCP) };
    change(&mut config);
    node_with(1, config).await
}

#[tokio::test]
async fn a_member_gets_a_place_and_a_stranger_does_not() {
    let relay = relay_with(|_| {}).await;
    assert!(relay.net.reached().serves);
    let mut stranger = Asker::new();
    stranger.reserve(&relay).await.unwrap_err(); // it is told nothing, and disconnected
    let mut member = Asker::member(&relay).await;
    member.reserve(&relay).await.unwrap();
}

#[tokio::test]
async fn a_stranger_is_not_led_to_a_member() {
    let relay = relay_with(|_| {}).await;
    let mut hidden = Asker::member(&relay).await;
    let place = hidden.reserve(&relay).await.unwrap();
    hidden.run();
    Asker::member(&relay).await.dial(place.clone()).await.unwrap();
    Asker::new().dial(place).await.unwrap_err();
}

#[tokio::test]
async fn who_is_told_not_to_relay_does_not() {
    let relay = relay_with(|config| config.relay = false).await;
    assert!(!relay.net.reached().serves);
    let refused = Asker::member(&relay).await.reserve(&relay).await.unwrap_err();
    assert!(refused.contains("Unsupported"), "{refused}");
}

#[tokio::test]
async fn there_are_so_many_places_and_no_more() {
    let relay = relay_with(|config| config.relay_reservations_max = 2).await;
    let mut members = Vec::new();
    for _ in 0..2 {
        let mut member = Asker::member(&relay).await;
        member.reserve(&relay).await.unwrap();
        members.push(member);
    }
    let refused = Asker::member(&relay).await.reserve(&relay).await.unwrap_err();
    assert!(refused.contains("ResourceLimitExceeded"), "{refused}");
}

#[tokio::test]
async fn there_are_so_many_circuits_and_no_more() {
    let relay = relay_with(|config| config.relay_circuits_max = 2).await;
    let mut hidden = Asker::member(&relay).await;
    let place = hidden.reserve(&relay).await.unwrap();
    hidden.run();
    let mut callers = Vec::new();
    for _ in 0..2 {
        let mut caller = Asker::member(&relay).await;
        caller.dial(place.clone()).await.unwrap();
        callers.push(caller);
    }
    let refused = Asker::member(&relay).await.dial(place).await.unwrap_err();
    assert!(refused.contains("ResourceLimitExceeded"), "{refused}");
}

#[tokio::test]
async fn one_member_has_so_many_circuits_and_no_more() {
    let relay = relay_with(|config| config.relay_circuits_per_peer_max = 2).await;
    let mut places = Vec::new();
    for _ in 0..3 {
        let mut hidden = Asker::member(&relay).await;
        places.push(hidden.reserve(&relay).await.unwrap());
        hidden.run();
    }
    let mut caller = Asker::member(&relay).await;
    caller.dial(places[0].clone()).await.unwrap();
    caller.dial(places[1].clone()).await.unwrap();
    let refused = caller.dial(places[2].clone()).await.unwrap_err();
    assert!(refused.contains("ResourceLimitExceeded"), "{refused}");
    Asker::member(&relay).await.dial(places[2].clone()).await.unwrap(); // others are served still
}

#[tokio::test]
async fn a_circuit_is_cut_once_it_has_carried_so_much() {
    let relay = relay_with(|config| config.relay_circuit_bytes_max = 1).await;
    let mut hidden = Asker::member(&relay).await;
    let place = hidden.reserve(&relay).await.unwrap();
    hidden.run();
    // Its first handshake is more than that already.
    Asker::member(&relay).await.dial(place).await.unwrap_err();
}

#[tokio::test]
async fn a_circuit_is_cut_after_so_long() {
    let relay = relay_with(|config| config.relay_circuit_ms_max = 500).await;
    let mut hidden = Asker::member(&relay).await;
    let place = hidden.reserve(&relay).await.unwrap();
    hidden.run();
    let mut caller = Asker::member(&relay).await;
    caller.dial(place).await.unwrap();
    caller.sees_circuit_cut().await;
}
