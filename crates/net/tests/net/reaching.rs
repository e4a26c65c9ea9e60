//! How nodes find out whether they can be reached, and what those do that cannot.

use bithealth_net::{Config, Reach};

use crate::support::*;

/// A node that nobody can call, since it listens nowhere.
async fn hidden(seed: u8) -> Node {
    node_with(seed, Config { listen: Vec::new(), ..config(TCP) }).await
}

/// Connects all with the first, which they and it admit.
async fn around(center: &Node, others: &[&Node]) {
    for other in others {
        befriend(center, other).await;
        other.net.dial(center.addresses()).await.unwrap();
    }
}

async fn is_reached(node: &Node, reach: Reach) {
    until(&format!("{reach:?} is found out"), async || node.net.reached().reach == reach).await;
}

#[tokio::test]
async fn both_ends_of_one_connection_find_out_that_they_can_be_reached() {
    let (alice, bob) = pair(TCP).await;
    for node in [&alice, &bob] {
        is_reached(node, Reach::Direct).await;
        assert_eq!(node.net.reached().addresses, node.addresses());
    }
    until("they relay", async || alice.net.reached().serves && bob.net.reached().serves).await;
}

#[tokio::test]
async fn what_strangers_see_is_not_believed() {
    let (alice, bob) = (node(1).await, node(2).await);
    alice.net.admit(bob.id()).await.unwrap();
    alice.net.dial(bob.addresses()).await.unwrap();
    let carol = node(3).await;
    around(&carol, &[&alice, &bob]).await;
    for node in [&alice, &bob, &carol] {
        is_reached(node, Reach::Direct).await;
    }
    assert!(bob.net.addresses_of(alice.id()).is_empty(), "who is not admitted is not asked who it is");
}

#[tokio::test]
async fn a_node_that_cannot_be_reached_is_reached_through_a_member() {
    let (mut relay, bob, alice) = (node(1).await, hidden(2).await, node(3).await);
    around(&relay, &[&bob, &alice]).await;
    is_reached(&bob, Reach::Behind).await;
    until("it has a place", async || bob.net.reached().relays == [relay.id()]).await;
    until("the relay knows where", async || relay.net.addresses_of(bob.id()) == bob.addresses()).await;
    relay.sees_connected(bob.id()).await;

    alice.net.dial_node(bob.id(), Vec::new()).await.unwrap();
}

#[tokio::test]
async fn when_a_relay_is_gone_the_next_one_is_asked() {
    let (one, two, three, hidden) = (node(1).await, node(2).await, node(3).await, hidden(4).await);
    for relay in [&one, &two, &three] {
        around(relay, &[&hidden]).await;
    }
    until("it has two places", async || hidden.net.reached().relays.len() == 2).await;
    let chosen = hidden.net.reached().relays;
    for relay in [&one, &two, &three].into_iter().filter(|relay| chosen.contains(&relay.id())).take(1) {
        relay.net.stop().await;
        until("another one stands in", async || {
            let now = hidden.net.reached().relays;
            now.len() == 2 && !now.contains(&relay.id())
        })
        .await;
    }
}
