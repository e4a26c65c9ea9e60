//! Who hears what.

use std::time::Duration;

use bithealth_net::{Event, Net, PublishError, Topic, Verdict};
use bithealth_proto::{Limited, v1};
use bithealth_types::NodeId;
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::support::*;

/// Between two probes: a heartbeat of these nodes.
const PACE: Duration = Duration::from_millis(100);

/// A node whose driver accepts all messages but those that begin with "false".
struct Listener {
    net: Net,
    id: NodeId,
    heard: mpsc::Receiver<(Topic, Bytes)>,
}

fn listener(node: Node) -> Listener {
    let (say, heard) = mpsc::channel(64);
    let (net, id) = (node.net.clone(), node.id());
    let mut events = node.events;
    let judge = node.net;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let Event::Gossip { topic, from, id, bytes } = event else { continue };
            let verdict = if bytes.starts_with(b"false") { Verdict::Reject } else { Verdict::Accept };
            let _ = say.send((topic, bytes)).await;
            let _ = judge.judge(id, from, verdict).await;
        }
    });
    Listener { net, id, heard }
}

impl Listener {
    /// The next message but probes.
    async fn hears(&mut self) -> (Topic, Bytes) {
        loop {
            let (topic, bytes) = soon("a message", self.heard.recv()).await.unwrap();
            if !bytes.starts_with(b"probe") {
                return (topic, bytes);
            }
        }
    }

    /// Publishes once somebody listens.
    async fn publish(&self, topic: Topic, bytes: impl Into<Bytes>) {
        let bytes = bytes.into();
        until("somebody listens", async || match self.net.publish(topic, bytes.clone()).await {
            Ok(()) => true,
            Err(PublishError::NoPeers { .. }) => false,
            Err(error) => panic!("{error}"),
        })
        .await;
    }
}

/// Gossip does not bring what was said before a link stood: probes until one comes through.
async fn links_stand(from: &Net, to: &mut Listener, topic: Topic) {
    let come_through = async {
        for count in 0u64.. {
            let probe = Bytes::from(format!("probe {topic:?} {count} of {}", from.node_id()));
            let _ = from.publish(topic, probe).await; // nobody may listen yet
            if let Ok(Some((got, bytes))) = timeout(PACE, to.heard.recv()).await
                && got == topic
                && bytes.ends_with(from.node_id().to_string().as_bytes())
            {
                return;
            }
        }
    };
    soon("a probe", come_through).await;
}

/// Nodes of which each knows only the one before and the one behind.
async fn line<const N: usize>() -> [Listener; N] {
    let mut nodes: Vec<Node> = Vec::new();
    for seed in 1..=N as u8 {
        let node = node(seed).await;
        if let Some(previous) = nodes.last() {
            befriend(previous, &node).await;
            node.net.dial(previous.addresses()).await.unwrap();
        }
        nodes.push(node);
    }
    let mut listeners: Vec<Listener> = nodes.into_iter().map(listener).collect();
    for topic in Topic::ALL {
        for (from, to) in [(0, N - 1), (N - 1, 0)] {
            let (from, to) = (listeners[from].net.clone(), &mut listeners[to]);
            links_stand(&from, to, topic).await;
        }
    }
    listeners.try_into().unwrap_or_else(|_| unreachable!("as many as were pushed"))
}

#[tokio::test]
async fn a_message_reaches_all_nodes_of_a_line_and_both_topics_are_told_apart() {
    let [alice, mut bob, mut carol, mut dave] = line().await;
    for topic in [Topic::Entries, Topic::Headers] {
        alice.publish(topic, "true").await;
        for node in [&mut bob, &mut carol, &mut dave] {
            assert_eq!(node.hears().await, (topic, Bytes::from("true")));
        }
    }
    dave.publish(Topic::Entries, "from the other end").await;
    for node in [&mut carol, &mut bob] {
        assert_eq!(node.hears().await.1, "from the other end");
    }
}

#[tokio::test]
async fn a_rejected_message_goes_no_further() {
    let [alice, mut bob, mut carol] = line().await;
    alice.publish(Topic::Entries, "false").await;
    alice.publish(Topic::Entries, "true").await;
    assert_eq!(bob.hears().await.1, "false");
    assert_eq!(bob.hears().await.1, "true");
    assert_eq!(carol.hears().await.1, "true");
}

#[tokio::test]
async fn a_stranger_hears_nothing_until_both_have_admitted_each_other() {
    let (alice, bob) = (node(1).await, node(2).await);
    alice.net.dial(bob.addresses()).await.unwrap();
    alice.net.admit(bob.id()).await.unwrap();
    let (alice, mut bob) = (listener(alice), listener(bob));
    let said = alice.net.publish(Topic::Entries, Bytes::from("too early")).await;
    assert_eq!(said, Err(PublishError::NoPeers { topic: Topic::Entries }));

    bob.net.admit(alice.id).await.unwrap();
    alice.publish(Topic::Entries, "hello").await;
    assert_eq!(bob.hears().await.1, "hello");
    bob.publish(Topic::Entries, "hello yourself").await;
}

#[tokio::test]
async fn the_longest_messages_pass_and_longer_ones_are_refused() {
    let [alice, mut bob] = line().await;
    for (topic, max) in [
        (Topic::Entries, 64 << 10),
        (Topic::Headers, v1::SignedHeader::LEN_MAX),
        (Topic::Consensus, v1::ConsensusMessage::LEN_MAX),
    ] {
        let longest = Bytes::from(vec![1; max]);
        alice.publish(topic, longest.clone()).await;
        assert_eq!(bob.hears().await, (topic, longest));
        let error = alice.net.publish(topic, Bytes::from(vec![1; max + 1])).await;
        assert_eq!(error, Err(PublishError::TooLong { topic, got: max + 1, max }));
    }
}

#[tokio::test]
async fn publishing_the_same_again_is_a_success_and_reaches_nobody_twice() {
    let [alice, mut bob] = line().await;
    alice.publish(Topic::Entries, "once").await;
    alice.publish(Topic::Entries, "once").await;
    alice.publish(Topic::Entries, "then").await;
    assert_eq!(bob.hears().await.1, "once");
    assert_eq!(bob.hears().await.1, "then");
}
