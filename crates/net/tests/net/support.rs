//! Nodes that read like a story.

use std::future::Future;
use std::time::Duration;

use bithealth_net::{Config, Event, Events, Net, Protocol, Stream};
use bithealth_types::{GenesisId, NodeId};

/// Far longer than anything here takes: reaching it is a failure.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) const TCP: &str = "/ip4/127.0.0.1/tcp/0";
pub(crate) const QUIC: &str = "/ip4/127.0.0.1/udp/0/quic-v1";
pub(crate) const GENESIS: GenesisId = GenesisId([7; 32]);

pub(crate) struct Node {
    pub(crate) net: Net,
    pub(crate) events: Events,
}

/// Short delays, so that tests that wait for them are quick.
pub(crate) fn config(listen: &str) -> Config {
    Config {
        listen: vec![listen.into()],
        redial_min_ms: 50,
        redial_max_ms: 200,
        gossip_heartbeat_ms: 100,
        ..Config::default()
    }
}

pub(crate) async fn node(seed: u8) -> Node {
    node_with(seed, config(TCP)).await
}

pub(crate) async fn node_with(seed: u8, config: Config) -> Node {
    let (net, events) = bithealth_net::start([seed; 32], GENESIS, config).await.unwrap();
    Node { net, events }
}

/// Two nodes that are connected and have admitted each other.
pub(crate) async fn pair(listen: &str) -> (Node, Node) {
    let (mut alice, mut bob) = (node_with(1, config(listen)).await, node_with(2, config(listen)).await);
    befriend(&alice, &bob).await;
    alice.net.dial(bob.addresses()).await.unwrap();
    alice.sees_connected(bob.id()).await;
    bob.sees_connected(alice.id()).await;
    (alice, bob)
}

pub(crate) async fn befriend(alice: &Node, bob: &Node) {
    alice.net.admit(bob.id()).await.unwrap();
    bob.net.admit(alice.id()).await.unwrap();
}

/// Fails the test if this takes for ever.
pub(crate) async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.unwrap_or_else(|_| panic!("{what}: nothing in {PATIENCE:?}"))
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    soon(what, async {
        while !is_so().await {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

impl Node {
    pub(crate) fn id(&self) -> NodeId {
        self.net.node_id()
    }

    pub(crate) fn addresses(&self) -> Vec<String> {
        self.net.listen_addresses()
    }

    pub(crate) async fn next(&mut self) -> Event {
        soon("an event", self.events.next()).await.expect("the network runs")
    }

    /// The next event but news about addresses, which may come at any time.
    async fn next_of_peers(&mut self) -> Event {
        loop {
            match self.next().await {
                Event::NewAddress { .. } | Event::Moved { .. } => {}
                event => return event,
            }
        }
    }

    pub(crate) async fn sees_connected(&mut self, peer: NodeId) {
        let event = self.next_of_peers().await;
        assert!(matches!(event, Event::Connected { node, .. } if node == peer), "{event:?}");
    }

    pub(crate) async fn sees_disconnected(&mut self, peer: NodeId) {
        let event = self.next_of_peers().await;
        assert!(matches!(event, Event::Disconnected { node } if node == peer), "{event:?}");
    }

    pub(crate) async fn sees_stream(&mut self, peer: NodeId, due: Protocol) -> Stream {
        match self.next_of_peers().await {
            Event::Stream { from, protocol, stream } if from == peer && protocol == due => stream,
            event => panic!("a stream of {due} was due, not {event:?}"),
        }
    }
}
