//! A member that asks a node for more than its share.

use std::sync::Arc;
use std::time::Duration;

use bithealth_net::{Event, Stream, Verdict};
use bithealth_proto::v1::{self, exchange_ask::Ask};
use bithealth_types::NodeId;
use bytes::Bytes;
use tokio::runtime::Runtime;

use crate::{Clinic, Cluster, Guest, bytes_of, write};

/// Records that somebody else reads, one after the other.
const READS: u64 = 3;
const RECORD_LEN: usize = 2 << 20;
/// Wants of one bomb: far more than may wait.
const WANTS: u64 = 4_000;
/// Leaves of one want: as many as may be.
const LEAVES: u32 = 64;

/// A node with a pack of its own, somebody who reads it, and a guest who may.
#[derive(Debug)]
pub struct Attacked {
    /// Both nodes.
    pub cluster: Cluster,
    /// Runs the guest.
    pub runtime: Runtime,
    /// Who attacks.
    pub guest: Arc<Guest>,
    /// The node it attacks.
    pub node: NodeId,
    /// A pack of that node.
    pub pack: Bytes,
}

impl Attacked {
    /// Starts both nodes and the guest, with something changed in each clinic before its node starts.
    ///
    /// # Panics
    /// If they do not come to know one another.
    pub fn start_with(change: impl Fn(&mut Clinic)) -> Self {
        let mut cluster = Cluster::start_with(&["north-1", "south-1"], |clinic| {
            clinic.configure("widen_ms", "3600000");
            change(clinic);
        });
        // While it is away it gets no shard, so that it has to ask for every leaf.
        cluster["south-1"].kill();
        cluster["north-1"].wait_for("south is away", |status| {
            let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            nodes.iter().filter(|node| node["connected"] == true).count() == 1
        });
        for number in 0..READS {
            let record = cluster.path(&name(number));
            write(&record, bytes_of(number, RECORD_LEN));
            cluster["north-1"].put_replicated(&record, &["--for", "south-1", "--survive", "0,0"]);
        }
        cluster["south-1"].start();
        cluster.wait_until_joined(2);
        let west = cluster.join_without_process("west-1", &["south-1"]);
        let runtime = Runtime::new().expect("a runtime");
        let (guest, mut events) = runtime.block_on(Guest::start(&west));
        let listening = guest.clone();
        runtime.spawn(async move {
            while let Some(event) = listening.next(&mut events).await {
                if let Event::Gossip { from, id, .. } = event {
                    let _ = listening.net.judge(id, from, Verdict::Ignore).await;
                }
            }
        });
        cluster.wait_until_joined(3);
        let node: NodeId = cluster["north-1"].status()["node"].as_str().expect("an id").parse().expect("an id");
        let packs = runtime.block_on(guest.packs_of(node, node));
        let pack = Bytes::copy_from_slice(packs[0].id().as_bytes());
        Self { cluster, runtime, guest, node, pack }
    }

    /// The node that is attacked.
    pub fn north(&self) -> &Clinic {
        &self.cluster["north-1"]
    }

    /// Somebody else reads a record from it that it did not read before.
    ///
    /// # Panics
    /// If it comes back changed.
    pub fn somebody_reads(&self, number: u64) {
        let (reader, back) = (&self.cluster["south-1"], self.cluster.path("back"));
        let id = reader.record_named(&name(number));
        reader.done(&["get", &id, "--output", crate::text(&back)]);
        assert!(
            std::fs::read(&back).expect("it was written") == bytes_of(number, RECORD_LEN),
            "the record came back changed"
        );
    }

    /// Asks for the same leaves again and again, and reads no answer. The stream stands until the node ends it.
    pub fn bomb(&self) -> Stream {
        self.runtime.block_on(async {
            let mut stream = self.guest.exchange(self.node).await;
            for id in 0..WANTS {
                if stream.send(&want(&self.pack, id, LEAVES)).await.is_err() {
                    return stream;
                }
            }
            // The node reads no more than it may: what is left waits here.
            let _ = tokio::time::timeout(Duration::from_millis(200), stream.flush()).await;
            stream
        })
    }
}

fn name(number: u64) -> String {
    format!("record {number}")
}

/// A message that asks for so many leaves of a pack.
pub fn want(pack: &Bytes, id: u64, count: u32) -> v1::ExchangeAsk {
    let priority = v1::WantPriority::Restore.into();
    let want = v1::Want { id, pack: pack.clone(), shard: 0, leaf: 0, count, priority };
    v1::ExchangeAsk { ask: Some(Ask::Want(want)) }
}
