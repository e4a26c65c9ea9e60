//! What a peer may do before it is admitted, and after.

use bithealth_net::{Config, OpenError, Protocol};
use bithealth_proto::v1;

use crate::support::*;

fn impatient() -> Config {
    Config { refusal_patience_ms: 0, ..config(TCP) }
}

#[tokio::test]
async fn a_stranger_may_say_hello() {
    let (alice, mut bob) = (node(1).await, node(2).await);
    alice.net.dial(bob.addresses()).await.unwrap();
    bob.sees_connected(alice.id()).await;

    let hello = v1::Hello { genesis: GENESIS.0.to_vec().into(), version: 1, ..Default::default() };
    let refused = v1::Refusal { reason: "another network".into(), genesis: vec![9; 32].into() };
    let answer = v1::HelloAnswer { answer: Some(v1::hello_answer::Answer::Refused(refused)) };

    let mut asking = alice.net.open(bob.id(), Protocol::Hello).await.unwrap();
    let asked = asking.ask::<_, v1::HelloAnswer>(&hello);
    let answered = async {
        let mut stream = bob.sees_stream(alice.id(), Protocol::Hello).await;
        assert_eq!(stream.node(), alice.id());
        assert_eq!(stream.recv::<v1::Hello>().await.unwrap(), Some(hello.clone()));
        stream.send(&answer).await.unwrap();
        stream.flush().await.unwrap();
        stream
    };
    let (got, _stream) = soon("an answer", async { tokio::join!(asked, answered) }).await;
    assert_eq!(got.unwrap(), answer);
}

#[tokio::test]
async fn a_stranger_may_open_nothing_else() {
    let (alice, bob) = (node_with(1, impatient()).await, node(2).await);
    alice.net.dial(bob.addresses()).await.unwrap();
    for protocol in [Protocol::Sync, Protocol::Exchange, Protocol::Audit] {
        let error = alice.net.open(bob.id(), protocol).await.unwrap_err();
        assert!(matches!(error, OpenError::NotAdmitted { .. }), "by ourselves: {error}");
    }
    alice.net.admit(bob.id()).await.unwrap();
    for protocol in [Protocol::Sync, Protocol::Exchange, Protocol::Audit] {
        let error = soon("a refusal", alice.net.open(bob.id(), protocol)).await.unwrap_err();
        assert!(matches!(error, OpenError::Refused { node, .. } if node == bob.id()), "by the peer: {error}");
    }
}

#[tokio::test]
async fn a_node_that_is_about_to_admit_us_is_waited_for() {
    let (alice, mut bob) = (node(1).await, node(2).await);
    alice.net.dial(bob.addresses()).await.unwrap();
    bob.sees_connected(alice.id()).await;
    alice.net.admit(bob.id()).await.unwrap();
    let opening = alice.net.open(bob.id(), Protocol::Sync);
    let admitting = async {
        tokio::task::yield_now().await;
        bob.net.admit(alice.id()).await.unwrap();
        bob.sees_stream(alice.id(), Protocol::Sync).await
    };
    let (opened, _accepted) = soon("a stream", async { tokio::join!(opening, admitting) }).await;
    opened.unwrap();
}

#[tokio::test]
async fn a_stranger_is_disconnected_in_time_and_a_member_is_not() {
    let bob_config = Config { hello_timeout_ms: 200, ..config(TCP) };
    let (member, mut stranger, mut bob) = (node(1).await, node(3).await, node_with(2, bob_config).await);
    bob.net.admit(member.id()).await.unwrap();
    member.net.dial(bob.addresses()).await.unwrap();
    bob.sees_connected(member.id()).await;
    stranger.net.dial(bob.addresses()).await.unwrap();
    bob.sees_connected(stranger.id()).await;

    bob.sees_disconnected(stranger.id()).await;
    stranger.sees_connected(bob.id()).await;
    stranger.sees_disconnected(bob.id()).await;
    assert_eq!(bob.net.connected(), [member.id()]);
}

#[tokio::test]
async fn who_is_expelled_comes_back_as_a_stranger() {
    let (mut alice, mut bob) = pair(TCP).await;
    bob.net.expel(alice.id(), "it sent a false leaf").await.unwrap();
    bob.sees_disconnected(alice.id()).await;
    alice.sees_disconnected(bob.id()).await;
    assert!(!bob.net.is_admitted(&alice.id()));

    let again = node_with(3, impatient()).await;
    befriend(&again, &bob).await;
    again.net.dial(bob.addresses()).await.unwrap();
    soon("a stream", again.net.open(bob.id(), Protocol::Sync)).await.unwrap();
    bob.net.expel(again.id(), "as above").await.unwrap();
    until("it is gone", async || again.net.connected().is_empty()).await;
    again.net.dial(bob.addresses()).await.unwrap();
    let error = soon("a refusal", again.net.open(bob.id(), Protocol::Sync)).await.unwrap_err();
    assert!(matches!(error, OpenError::Refused { .. }), "{error}");
}
