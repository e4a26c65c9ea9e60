//! What travels without being asked for: a header with its certificate. What it commits to anybody has who has the block.

use bithealth_ledger::signed_header;
use bithealth_net::{Event, Topic, Verdict};
use bithealth_proto::v1::{self, sync_answer, sync_request::Request};
use bithealth_proto::{decode, digest};
use bithealth_tests::{Cluster, Guest, write};
use tokio::runtime::Runtime;

/// Most bytes of a header and its certificate with nine validators.
const SIGNED_HEADER_MAX: usize = 1536;

#[test]
fn headers_are_gossiped_and_their_bodies_are_had_from_any_node_by_digest() {
    let cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let west = cluster.join_without_process("west-1", &["south-1"]);
    let runtime = Runtime::new().unwrap();
    let (guest, mut events) = runtime.block_on(Guest::start(&west));
    let listening = guest.clone();
    let (heard, headers) = std::sync::mpsc::channel();
    runtime.spawn(async move {
        while let Some(event) = listening.next(&mut events).await {
            if let Event::Gossip { topic, from, id, bytes } = event {
                if topic == Topic::Headers {
                    let _ = heard.send((from, bytes)); // nobody listens once the test has seen one
                }
                let _ = listening.net.judge(id, from, Verdict::Ignore).await;
            }
        }
    });
    cluster.wait_until_joined(4);
    let file = cluster.path("file");
    write(&file, b"contents");
    cluster["south-1"].done(&["put", file.to_str().unwrap(), "--wait", "final"]);

    let (from, bytes) = headers.iter().next().expect("a block was decided");
    assert!(bytes.len() <= SIGNED_HEADER_MAX, "{} bytes of a header and its certificate", bytes.len());
    let signed: v1::SignedHeader = decode(&bytes).expect("a header with its certificate");
    let header = signed.header.clone().unwrap();
    let (height, id) = (header.height, digest(&header));
    let others = guest.net.connected();
    assert!(others.contains(&from) && others.len() == 3);
    let bodies: Vec<_> = others.iter().map(|node| runtime.block_on(guest.body(*node, height, id.as_bytes()))).collect();
    let body = bodies[0].clone().expect("who decided it has it");
    assert!(bodies.iter().all(|it| it.as_ref() == Some(&body)), "the same everywhere");
    assert_eq!(runtime.block_on(guest.body(from, height, &[7; 32])), None, "of another header");
    assert_eq!(runtime.block_on(guest.body(from, height + 1000, id.as_bytes())), None, "of no height there is");
    let request = Request::Blocks(v1::SyncBlocks { from: height, max: 1 });
    let sync_answer::Answer::Blocks(batch) = runtime.block_on(guest.ask(from, request)) else { panic!("blocks") };
    assert_eq!(batch.blocks.len(), 1);
    assert_eq!((signed_header(&batch.blocks[0]).header, batch.blocks[0].body.clone()), (Some(header), Some(body)));
}
