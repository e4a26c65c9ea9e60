//! Streams and frames over real connections.

use bithealth_net::{Config, FrameError, OpenError, Protocol};
use bithealth_proto::{Limited, v1};
use bithealth_types::NodeId;
use futures::FutureExt;
use futures::future::join_all;

use crate::support::*;

fn want(id: u64) -> v1::ExchangeAsk {
    let want = v1::Want { id, pack: vec![3; 32].into(), shard: 1, leaf: 0, count: 16, priority: 0 };
    v1::ExchangeAsk { ask: Some(v1::exchange_ask::Ask::Want(want)) }
}

fn leaves(id: u64, len: usize) -> v1::ExchangeTell {
    let leaves = v1::Leaves { id, data: vec![id as u8; len].into(), proof: Vec::new() };
    v1::ExchangeTell { tell: Some(v1::exchange_tell::Tell::Leaves(leaves)) }
}

/// Opens as many streams as may be at once; each carries its number across.
async fn a_burst_arrives(listen: &str) {
    const BURST: u64 = 64;
    let (alice, mut bob) = pair(listen).await;
    let opened = join_all((0..BURST).map(|id| {
        let net = alice.net.clone();
        let to = bob.id();
        async move {
            let mut stream = net.open(to, Protocol::Exchange).await.unwrap();
            stream.send(&want(id)).await.unwrap();
            stream.flush().await.unwrap();
            stream
        }
    }));
    let from = alice.id();
    let accepted = async {
        let mut got = Vec::new();
        for _ in 0..BURST {
            let mut stream = bob.sees_stream(from, Protocol::Exchange).await;
            got.push(stream.recv::<v1::ExchangeAsk>().await.unwrap().unwrap());
        }
        got
    };
    let (_open, mut got) = soon("all streams", async { tokio::join!(opened, accepted) }).await;
    got.sort_by_key(|ask| match &ask.ask {
        Some(v1::exchange_ask::Ask::Want(want)) => want.id,
        _ => unreachable!("only wants were sent"),
    });
    assert_eq!(got, (0..BURST).map(want).collect::<Vec<_>>());
}

#[tokio::test]
async fn streams_opened_in_a_burst_all_arrive_over_tcp() {
    a_burst_arrives(TCP).await;
}

#[tokio::test]
async fn streams_opened_in_a_burst_all_arrive_over_quic() {
    a_burst_arrives(QUIC).await;
}

/// Asks run one way and tells the other, each as fast as it can, in four tasks.
async fn asks_and_tells_run_at_once(listen: &str) {
    const COUNT: u64 = 200;
    let (alice, mut bob) = pair(listen).await;
    let stream = alice.net.open(bob.id(), Protocol::Exchange).await.unwrap();
    let (mut tells, mut asks) = stream.split();
    let asking = tokio::spawn(async move {
        for id in 0..COUNT {
            asks.send(&want(id)).await.unwrap();
        }
        asks.close().await.unwrap();
    });
    let (mut asked, mut telling) = bob.sees_stream(alice.id(), Protocol::Exchange).await.split();
    let told = tokio::spawn(async move {
        let mut id = 0;
        while let Some(ask) = asked.recv::<v1::ExchangeAsk>().await.unwrap() {
            assert_eq!(ask, want(id));
            telling.send(&leaves(id, 100_000)).await.unwrap();
            id += 1;
        }
        telling.close().await.unwrap();
        id
    });
    for id in 0..COUNT {
        let tell = soon("a tell", tells.recv::<v1::ExchangeTell>()).await.unwrap();
        assert_eq!(tell, Some(leaves(id, 100_000)));
    }
    assert!(soon("the end", tells.recv::<v1::ExchangeTell>()).await.unwrap().is_none());
    asking.await.unwrap();
    assert_eq!(told.await.unwrap(), COUNT);

    let traffic = alice.net.traffic();
    let with_bob = traffic.iter().find(|one| one.node == bob.id()).unwrap();
    assert!(with_bob.bytes_in > COUNT * 100_000 && with_bob.bytes_out > COUNT * 40);
}

#[tokio::test]
async fn asks_and_tells_are_pipelined_both_ways_over_tcp() {
    asks_and_tells_run_at_once(TCP).await;
}

#[tokio::test]
async fn asks_and_tells_are_pipelined_both_ways_over_quic() {
    asks_and_tells_run_at_once(QUIC).await;
}

#[tokio::test]
async fn a_frame_longer_than_its_message_may_be_is_refused() {
    let (alice, mut bob) = pair(TCP).await;
    let stream = alice.net.open(bob.id(), Protocol::Sync).await.unwrap();
    let (_reader, mut writer) = stream.split();
    let genesis = v1::Genesis { time_ms: 1, ..Default::default() };
    let small = v1::SyncAnswer { answer: Some(v1::sync_answer::Answer::Genesis(genesis)) };
    writer.send(&small).await.unwrap();
    // 3 MiB are fine for an answer of sync, not for one of exchange, which the other side takes it for.
    let entry = v1::SignedEntry { entry: vec![1; 3 << 20].into(), ..Default::default() };
    let batch = v1::EntryBatch { entries: vec![entry] };
    let large = v1::SyncAnswer { answer: Some(v1::sync_answer::Answer::Entries(batch)) };
    let sending = tokio::spawn(async move { writer.send(&large).await });
    let mut stream = bob.sees_stream(alice.id(), Protocol::Sync).await;
    assert_eq!(soon("a small one", stream.recv::<v1::SyncAnswer>()).await.unwrap(), Some(small));
    let error = soon("a refusal", stream.recv::<v1::ExchangeTell>()).await.unwrap_err();
    let max = v1::ExchangeTell::LEN_MAX;
    assert!(matches!(error, FrameError::TooLong { what: "ExchangeTell", max: m, .. } if m == max), "{error}");
    drop(stream);
    assert!(soon("the sender's end", sending).await.unwrap().is_err(), "a dropped stream fails its writer");
}

#[tokio::test]
async fn a_stream_cut_inside_a_frame_is_an_error() {
    let (alice, mut bob) = pair(TCP).await;
    let mut stream = alice.net.open(bob.id(), Protocol::Exchange).await.unwrap();
    // Far more than the window of a new stream, so that it stays unfinished.
    assert!(stream.send(&leaves(1, 1 << 20)).now_or_never().is_none());
    drop(stream);
    let mut stream = bob.sees_stream(alice.id(), Protocol::Exchange).await;
    let error = soon("an error", stream.recv::<v1::ExchangeTell>()).await.unwrap_err();
    assert!(matches!(error, FrameError::Cut { .. } | FrameError::Io(_)), "{error}");
}

#[tokio::test]
async fn a_lost_connection_ends_its_streams() {
    let (alice, mut bob) = pair(TCP).await;
    let mut asking = alice.net.open(bob.id(), Protocol::Exchange).await.unwrap();
    let _told = bob.sees_stream(alice.id(), Protocol::Exchange).await;
    bob.net.stop().await;
    let end = soon("the end", asking.ask::<_, v1::ExchangeTell>(&want(1))).await.unwrap_err();
    assert!(matches!(end, FrameError::Ended { .. } | FrameError::Io(_)), "{end}");
}

#[tokio::test]
async fn each_side_holds_the_other_to_its_limit_of_streams() {
    let strict = Config { streams_per_peer_max: 2, ..config(TCP) };
    let (alice, mut bob) = (node(1).await, node_with(2, strict).await);
    befriend(&alice, &bob).await;
    alice.net.dial(bob.addresses()).await.unwrap();
    bob.sees_connected(alice.id()).await;

    let (mut kept, mut one_too_many) = (Vec::new(), None);
    for _ in 0..2 {
        kept.push(alice.net.open(bob.id(), Protocol::Exchange).await.unwrap());
        kept.push(bob.sees_stream(alice.id(), Protocol::Exchange).await);
    }
    let ended = |error: FrameError| matches!(error, FrameError::Ended { .. } | FrameError::Io(_));
    match alice.net.open(bob.id(), Protocol::Exchange).await {
        Ok(mut stream) => {
            assert!(ended(soon("its end", stream.ask::<_, v1::ExchangeTell>(&want(1))).await.unwrap_err()));
            one_too_many = Some(stream);
        }
        Err(error) => assert!(matches!(error, OpenError::Io { .. }), "{error}"),
    }
    drop((kept, one_too_many));

    // The limit of what we open ourselves, and that places are given back.
    let mut ours = Vec::new();
    for _ in 0..2 {
        ours.push(bob.net.open(alice.id(), Protocol::Exchange).await.unwrap());
    }
    let error = bob.net.open(alice.id(), Protocol::Exchange).await.unwrap_err();
    assert!(matches!(error, OpenError::TooMany { max: 2, .. }), "{error}");
    ours.pop();
    ours.push(bob.net.open(alice.id(), Protocol::Exchange).await.unwrap());
}

#[tokio::test]
async fn a_node_that_is_not_connected_has_no_streams() {
    let alice = node(1).await;
    let bob = NodeId(*bithealth_net::Keys::from_seed([2; 32]).node_id().as_bytes());
    alice.net.admit(bob).await.unwrap();
    let error = alice.net.open(bob, Protocol::Sync).await.unwrap_err();
    assert!(matches!(error, OpenError::NotConnected { node } if node == bob), "{error}");
}
