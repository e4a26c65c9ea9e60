//! Starting, connecting, finding, and staying connected.

use bithealth_net::{Config, DialError, Keys, NotEd25519, Protocol, StartError};

use crate::support::*;

async fn start_error(listen: &str) -> StartError {
    bithealth_net::start([9; 32], GENESIS, config(listen)).await.unwrap_err()
}

fn without_peer(address: &str) -> &str {
    address.split("/p2p/").next().unwrap()
}

#[tokio::test]
async fn a_taken_port_is_named() {
    for listen in [TCP, QUIC] {
        let first = node_with(1, config(listen)).await;
        let taken = without_peer(&first.addresses()[0]).to_owned();
        let error = start_error(&taken).await;
        assert!(matches!(&error, StartError::PortTaken { addr } if *addr == taken), "{error}");
        assert!(error.to_string().contains(&taken));
    }
}

#[tokio::test]
async fn an_address_nobody_can_listen_on_is_named() {
    assert!(matches!(start_error("127.0.0.1:80").await, StartError::BadAddress { addr, .. } if addr == "127.0.0.1:80"));
    assert!(matches!(start_error("/memory/1").await, StartError::Unsupported { addr } if addr == "/memory/1"));
    let foreign = "/ip4/192.0.2.1/tcp/0"; // TEST-NET-1, RFC 5737: never ours
    assert!(matches!(start_error(foreign).await, StartError::Listen { addr, .. } if addr == foreign));
}

#[tokio::test]
async fn settings_that_cannot_work_are_refused_before_anything_starts() {
    let config = Config { events_max: 0, ..config(TCP) };
    let error = bithealth_net::start([9; 32], GENESIS, config).await.unwrap_err();
    assert!(matches!(error, StartError::Config(_)), "{error}");
}

#[tokio::test]
async fn what_is_announced_is_listed_with_what_we_listen_on() {
    let announce = vec!["/dns4/clinic.example/tcp/4401".to_owned()];
    let alice = node_with(1, Config { announce: announce.clone(), ..config(TCP) }).await;
    assert_eq!(alice.addresses().len(), 2);
    assert!(alice.addresses().iter().any(|one| without_peer(one) == announce[0]));
}

#[tokio::test]
async fn dialling_says_who_answers() {
    for listen in [TCP, QUIC] {
        let (alice, bob) = (node_with(1, config(listen)).await, node_with(2, config(listen)).await);
        let nobody = format!("/ip4/127.0.0.1/tcp/1/p2p/{}", bob.addresses()[0].rsplit('/').next().unwrap());
        let anybody = without_peer(&bob.addresses()[0]).to_owned();
        assert_eq!(soon("an answer", alice.net.dial(vec![nobody, anybody])).await, Ok(bob.id()));
        assert_eq!(alice.net.connected(), [bob.id()]);
    }
}

#[tokio::test]
async fn a_dial_in_vain_says_why() {
    let (alice, bob) = (node(1).await, node(2).await);
    let carol = Keys::from_seed([3; 32]).node_id();
    let at_bob = without_peer(&bob.addresses()[0]).to_owned();

    let error = alice.net.dial(vec!["not an address".into()]).await.unwrap_err();
    assert!(matches!(error, DialError::BadAddress { address, .. } if address == "not an address"));

    assert_eq!(alice.net.dial(Vec::new()).await, Err(DialError::NoAddress { node: None }));
    assert_eq!(alice.net.dial_node(carol, Vec::new()).await, Err(DialError::NoAddress { node: Some(carol) }));

    let error = alice.net.dial(vec!["/ip4/127.0.0.1/tcp/1".into()]).await.unwrap_err();
    assert!(matches!(&error, DialError::Unreachable { tried } if tried[0].address.starts_with("/ip4/127.0.0.1/tcp/1")));

    let error = alice.net.dial_node(carol, vec![at_bob]).await.unwrap_err();
    assert!(matches!(error, DialError::OtherNode { got, want, .. } if got == bob.id() && want == carol), "{error}");

    let ourselves = without_peer(&alice.addresses()[0]).to_owned();
    let error = alice.net.dial(vec![ourselves]).await.unwrap_err();
    assert!(matches!(error, DialError::Ourselves { .. }), "{error}");
    let error = alice.net.dial_node(alice.id(), Vec::new()).await.unwrap_err();
    assert!(matches!(error, DialError::Ourselves { .. }), "{error}");
}

#[tokio::test]
async fn a_peer_whose_key_is_not_ed25519_is_refused() {
    let (alice, bob) = (node(1).await, node(2).await);
    let hashed = "QmcgpsyWgH8Y8ajJz1Cu72KnS5uo2Aa2LpzU7kinSupNKC";
    let address = format!("{}/p2p/{hashed}", without_peer(&bob.addresses()[0]));
    let error = alice.net.dial(vec![address]).await.unwrap_err();
    assert_eq!(error, DialError::NotEd25519(NotEd25519 { peer: hashed.into() }));
    assert!(alice.net.connected().is_empty());
}

#[tokio::test]
async fn a_limit_of_connections_is_named() {
    let alice = node_with(1, Config { connections_max: 1, ..config(TCP) }).await;
    let (bob, carol) = (node(2).await, node(3).await);
    alice.net.dial(bob.addresses()).await.unwrap();
    let error = alice.net.dial(carol.addresses()).await.unwrap_err();
    assert!(matches!(error, DialError::Limit { .. }), "{error}");
}

#[tokio::test]
async fn a_process_over_its_memory_takes_no_more_connections() {
    let full = node_with(1, Config { memory_max: 1, ..config(TCP) }).await;
    let bob = node(2).await;
    assert!(soon("an error", full.net.dial(bob.addresses())).await.is_err());
}

#[tokio::test]
async fn two_nodes_that_dial_each_other_at_once_are_connected_once_and_can_talk() {
    let (mut alice, mut bob) = (node(1).await, node(2).await);
    befriend(&alice, &bob).await;
    let (there, back) =
        soon("both", async { tokio::join!(alice.net.dial(bob.addresses()), bob.net.dial(alice.addresses())) }).await;
    assert_eq!((there, back), (Ok(bob.id()), Ok(alice.id())));
    alice.sees_connected(bob.id()).await;
    bob.sees_connected(alice.id()).await;
    let _asking = soon("a stream", alice.net.open(bob.id(), Protocol::Sync)).await.unwrap();
    let _asked = bob.sees_stream(alice.id(), Protocol::Sync).await;
    bob.net.stop().await;
    alice.sees_disconnected(bob.id()).await;
}

#[tokio::test]
async fn a_kept_node_is_dialled_again_after_it_restarts_with_the_same_key() {
    for listen in [TCP, QUIC] {
        let (mut alice, mut bob) = (node_with(1, config(listen)).await, node_with(2, config(listen)).await);
        alice.net.keep(bob.id(), bob.addresses()).await.unwrap();
        alice.sees_connected(bob.id()).await;
        bob.sees_connected(alice.id()).await;

        let address = without_peer(&bob.addresses()[0]).to_owned();
        bob.net.stop().await;
        alice.sees_disconnected(bob.id()).await;
        let mut bob = node_with(2, config(&address)).await;
        bob.sees_connected(alice.id()).await;
        alice.sees_connected(bob.id()).await;
    }
}

#[tokio::test]
async fn a_node_is_kept_that_starts_later_and_released_when_told() {
    let mut alice = node(1).await;
    let reserved = node(2).await;
    let address = without_peer(&reserved.addresses()[0]).to_owned();
    let bob = reserved.id();
    reserved.net.stop().await;

    alice.net.keep(bob, vec![address.clone()]).await.unwrap();
    assert_eq!(alice.net.addresses_of(bob).len(), 1);
    let bob = node_with(2, config(&address)).await;
    alice.sees_connected(bob.id()).await;
    alice.net.release(bob.id()).await.unwrap();
    assert_eq!(alice.net.connected(), [bob.id()]);
}

/// A way to a node that swallows everything from the moment the sender is dropped, as a cable that is pulled.
async fn cable(to: String) -> (String, tokio::sync::oneshot::Sender<()>) {
    let target: Vec<&str> = to.split('/').collect(); // "", ip4, address, tcp, port
    let target = format!("{}:{}", target[2], target[4]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("/ip4/127.0.0.1/tcp/{}", listener.local_addr().unwrap().port());
    let (plug, pulled) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let (mut near, _) = listener.accept().await.unwrap();
        let mut far = tokio::net::TcpStream::connect(target).await.unwrap();
        tokio::select! {
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
            _ = pulled => {}
        }
        std::future::pending::<()>().await; // both sockets stay open
    });
    (address, plug)
}

#[tokio::test]
async fn a_peer_that_no_longer_answers_pings_is_disconnected() {
    let alert = Config { ping_interval_ms: 50, ping_timeout_ms: 200, ..config(TCP) };
    let (mut alice, bob) = (node_with(1, alert).await, node(2).await);
    befriend(&alice, &bob).await; // or identify opens no stream
    let (address, plug) = cable(without_peer(&bob.addresses()[0]).to_owned()).await;
    alice.net.dial(vec![address]).await.unwrap();
    alice.sees_connected(bob.id()).await;
    until("the streams of ping and identify are open", async || !alice.net.addresses_of(bob.id()).is_empty()).await;
    drop(plug);
    alice.sees_disconnected(bob.id()).await;
}

#[tokio::test]
async fn addresses_are_learnt_from_the_peer_and_found_through_others() {
    let (alice, bob, carol) = (node(1).await, node(2).await, node(3).await);
    befriend(&alice, &bob).await;
    befriend(&bob, &carol).await;
    befriend(&alice, &carol).await;
    carol.net.dial(bob.addresses()).await.unwrap();
    until("bob learns carol's address", async || !bob.net.addresses_of(carol.id()).is_empty()).await;
    assert_eq!(bob.net.addresses_of(carol.id()), carol.addresses());

    alice.net.dial(bob.addresses()).await.unwrap();
    until("alice finds carol", async || alice.net.dial_node(carol.id(), Vec::new()).await == Ok(carol.id())).await;
    assert!(alice.net.connected().contains(&carol.id()));
}

#[tokio::test]
async fn a_stopped_network_says_so_and_its_events_end() {
    let mut alice = node(1).await;
    alice.net.stop().await;
    assert!(alice.net.admit(Keys::from_seed([2; 32]).node_id()).await.is_err());
    assert_eq!(alice.net.dial(vec![TCP.into()]).await, Err(DialError::GivenUp));
    while alice.events.next().await.is_some() {}
}
