//! A member whose node shows entries that nobody signed, and votes that no validator gave.

use bithealth_net::{Event, Topic, Verdict};
use bithealth_proto::encode;
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_tests::{Cluster, Guest, write};
use bytes::Bytes;
use tokio::runtime::Runtime;

fn note() -> Operation {
    Operation::Notarise(v1::Notarise { commitment: Bytes::from_static(&[1; 32]) })
}

fn forged_vote() -> v1::ConsensusMessage {
    let vote = v1::ConsensusVote {
        height: 1,
        kind: v1::VoteKind::Prevote.into(),
        validator: Bytes::from_static(&[3; 32]),
        signature: Bytes::from_static(&[7; 64]),
        ..Default::default()
    };
    v1::ConsensusMessage { message: Some(v1::consensus_message::Message::Vote(vote)), repeat: 0 }
}

#[test]
fn who_shows_an_entry_that_nobody_signed_is_named_and_shut_out_and_the_others_go_on() {
    let cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let west = cluster.join_without_process("west-1", &["south-1"]);
    let runtime = Runtime::new().unwrap();
    let (guest, mut events) = runtime.block_on(Guest::start(&west));
    let (listening, name) = (guest.clone(), guest.net.node_id());
    runtime.spawn(async move {
        while let Some(event) = listening.next(&mut events).await {
            if let Event::Gossip { from, id, .. } = event {
                let _ = listening.net.judge(id, from, Verdict::Ignore).await;
            }
        }
    });
    cluster.wait_until_joined(4);

    let vote = encode(&forged_vote());
    runtime.block_on(guest.net.publish(Topic::Consensus, vote.into())).expect("the nodes are there");
    guest.forge(1_800_000_000_000, note());

    for clinic in cluster.clinics() {
        let told = clinic.wait_for("the forger is named", |status| {
            status["warnings"].to_string().contains("sent something false: entry 0 is not signed by its author")
        });
        let of_forger = |node: &&serde_json::Value| node["node"] == name.to_string();
        let node = told["nodes"].as_array().unwrap().iter().find(of_forger).expect("it is on the ledger");
        assert_eq!(node["connected"], false, "{}: {node}", clinic.name);
    }
    let file = cluster.path("file");
    write(&file, b"contents");
    cluster["south-1"].done(&["put", file.to_str().unwrap(), "--wait", "final"]);
}
