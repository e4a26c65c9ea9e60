//! Nodes that do not have what they should: found out, repaired or condemned, and the network whole again.

use std::collections::HashMap;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bithealth_net::{Event, Events, Protocol, Stream, Topic, Verdict};
use bithealth_proto::encode;
use bithealth_proto::v1::{self, audit_ask, audit_tell, entry::Operation, exchange_ask, exchange_tell};
use bithealth_tests::{Clinic, Cluster, Guest, bytes_of, wait_until, write};
use bithealth_types::{Code, LEAF_LEN};
use bytes::Bytes;
use serde_json::Value;
use tokio::runtime::Runtime;

/// Any one node may be lost.
const ONE: [&str; 2] = ["--survive", "0,1"];

/// Clinics that audit one another several times a second.
fn watchful(names: &[&str]) -> Cluster {
    Cluster::start_with(names, |clinic| {
        clinic.configure("repair_after_ms", "1000");
        clinic.configure("repair_look_ms", "100");
        clinic.configure("repair_bytes_per_s", "0");
        clinic.configure("audit_interval_ms", "200");
        clinic.configure("audit_apart_ms", "1500");
        clinic.configure("widen_ms", "300");
        clinic.configure("scrub_interval_ms", "0");
    })
}

/// What a clinic knows of a node from audits.
fn audit<'a>(status: &'a Value, node: &Value) -> &'a Value {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().find(|it| it["node"] == *node).map_or(&Value::Null, |it| &it["audit"])
}

/// No shard is missing, and another node may be lost of every pack.
fn is_whole(status: &Value) -> bool {
    let repair = &status["repair"];
    let margins = repair["margins"].as_array().map(Vec::as_slice).unwrap_or_default();
    repair["missing_shards"] == 0 && !margins.is_empty() && margins.iter().all(|at| at["margin"].as_i64() > Some(0))
}

/// Flips one bit in the middle of the longest segment of a clinic's store: of a pack or a shard, which fill it.
fn flip_a_bit(clinic: &Clinic) {
    let segments = std::fs::read_dir(clinic.home.join("store").join("segments")).expect("a store has segments");
    let paths: Vec<PathBuf> = segments.map(|entry| entry.expect("an entry").path()).collect();
    let len = |path: &PathBuf| std::fs::metadata(path).map_or(0, |it| it.len());
    let longest = paths.iter().max_by_key(|path| len(path)).expect("a segment");
    let file = std::fs::File::options().read(true).write(true).open(longest).expect("it can be written");
    let (mut byte, at) = ([0], len(longest) / 2);
    file.read_exact_at(&mut byte, at).expect("the middle");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("the middle");
}

fn damaged(clinic: &Clinic) -> u64 {
    let verified = clinic.done(&["verify", "--full"]);
    verified.events("done").next().expect("it ends")["damaged"].as_u64().expect("a number")
}

#[test]
fn a_bit_that_flips_on_a_disk_is_found_by_reading_back_and_repaired_from_peers_unasked() {
    let mut cluster = Cluster::start_with(&["north-1", "south-1", "east-1"], |clinic| {
        clinic.configure("repair_look_ms", "100");
        clinic.configure("audit_interval_ms", "0");
    });
    let record = cluster.path("record");
    write(&record, bytes_of(1, 3 << 20));
    cluster["north-1"].put_replicated(&record, &ONE);
    cluster["south-1"].stop();
    flip_a_bit(&cluster["south-1"]);
    cluster["south-1"].configure("scrub_interval_ms", "500");

    cluster["south-1"].start();

    let status = cluster["south-1"].wait_for("it is repaired", |status| status["scrub"]["repaired"] == 1);
    assert_eq!(status["scrub"]["damaged"], 1);
    assert_eq!(damaged(&cluster["south-1"]), 0, "all is as it should be");
    cluster["south-1"].wait_for("a later round is through", |status| {
        status["scrub"]["ended_ms"].is_u64() && status["scrub"]["unrepaired"] == 0
    });
    // The author's own pack too.
    cluster["north-1"].stop();
    flip_a_bit(&cluster["north-1"]);
    cluster["north-1"].configure("scrub_interval_ms", "500");
    cluster["north-1"].start();
    cluster["north-1"].wait_for("it is repaired", |status| status["scrub"]["repaired"] == 1);
    assert_eq!(damaged(&cluster["north-1"]), 0);
}

#[test]
fn damage_behind_a_nodes_back_is_found_by_an_audit_repaired_and_forgiven() {
    let mut cluster = watchful(&["north-1", "south-1", "east-1", "west-1"]);
    let record = cluster.path("record");
    write(&record, bytes_of(1, 3 << 20));
    cluster["north-1"].put_replicated(&record, &ONE);
    let south = cluster["south-1"].status()["node"].clone();
    let others = ["north-1", "east-1", "west-1"];
    let passed = |status: &Value| {
        let audit = audit(status, &south);
        audit["trust"] == "sound" && (audit["verdict"] == "kept" || audit["verdict"] == "inconclusive")
    };
    for name in others {
        cluster[name].wait_for("it was audited, and all is well", passed);
    }
    cluster["south-1"].stop();
    flip_a_bit(&cluster["south-1"]);

    cluster["south-1"].start();

    // Whoever audits it first; then it is repaired.
    let shown = wait_until("an audit shows it", || {
        let shown = others.map(|name| audit(&cluster[name].status(), &south).clone());
        let suspect = shown.iter().find(|it| it["trust"] == "suspect").cloned();
        suspect.ok_or_else(|| format!("{shown:?}"))
    });
    assert_eq!(shown["condemned"], false, "{shown}");
    for name in others {
        cluster[name].wait_for("it has what it should again", |status| passed(status) && is_whole(status));
    }
    assert_eq!(damaged(&cluster["south-1"]), 0);
}

#[test]
fn what_audits_showed_outlives_a_power_cut_of_the_auditor() {
    let names = ["north-1", "south-1", "east-1", "west-1"];
    let mut cluster = Cluster::start_with(&names, |clinic| {
        clinic.configure_also("metrics_listen", "\"127.0.0.1:0\"");
        clinic.configure("repair_after_ms", "1000");
        clinic.configure("audit_interval_ms", "0");
        clinic.configure("audit_apart_ms", "600000");
        clinic.configure("scrub_interval_ms", "0");
    });
    let record = cluster.path("record");
    write(&record, bytes_of(1, 3 << 20));
    cluster["north-1"].put_replicated(&record, &ONE);
    cluster["south-1"].stop();
    flip_a_bit(&cluster["south-1"]);
    cluster["south-1"].start();
    let others = ["north-1", "south-1", "west-1"].map(|name| cluster[name].status()["node"].clone());
    let shown = |east: &Clinic| others.each_ref().map(|node| audit(&east.status(), node).clone());

    // It audits each of them once, and what that showed is on its disk before it is counted.
    cluster["east-1"].stop();
    cluster["east-1"].configure("audit_interval_ms", "200");
    cluster["east-1"].start();
    wait_until("each was audited", || {
        let page = cluster["east-1"].metrics();
        let [all, lacks] = [&[][..], &[("verdict", "lacks")]].map(|of| page.value("bithealth_audits_total", of));
        if (all, lacks) == (3.0, 1.0) { Ok(()) } else { Err(format!("{all} audits, {lacks} of them show a fault")) }
    });
    let before = shown(&cluster["east-1"]);
    let [north, south, _] = &before;
    assert_eq!((&south["trust"], &south["verdict"]), (&"suspect".into(), &"lacks".into()), "{south}");
    assert_eq!(north["trust"], "sound", "{north}");
    cluster["east-1"].kill();
    cluster["east-1"].configure("audit_interval_ms", "0");

    cluster["east-1"].start();

    assert_eq!(shown(&cluster["east-1"]), before);
    let suspects = cluster["east-1"].metrics().value("bithealth_audited_nodes", &[("trust", "suspect")]);
    assert_eq!(suspects, 1.0);
}

/// A node that takes shards, confirms them, and throws them away.
struct Forgetful {
    guest: Arc<Guest>,
}

impl Forgetful {
    /// Runs in the place of a clinic that has joined and was never started.
    async fn start(clinic: &Clinic) -> Arc<Self> {
        let (guest, events) = Guest::start(clinic).await;
        let forgetful = Arc::new(Self { guest });
        tokio::spawn(forgetful.clone().run(events));
        forgetful
    }

    fn id(&self) -> Value {
        self.guest.net.node_id().to_string().into()
    }

    async fn run(self: Arc<Self>, mut events: Events) {
        while let Some(event) = self.guest.next(&mut events).await {
            match event {
                Event::Stream { protocol: Protocol::Exchange, stream, .. } => drop(tokio::spawn(exchange(stream))),
                Event::Stream { protocol: Protocol::Audit, stream, .. } => drop(tokio::spawn(make_up(stream))),
                Event::Gossip { from, id, .. } => self.guest.net.judge(id, from, Verdict::Accept).await.unwrap(),
                _ => {}
            }
        }
    }
}

async fn exchange(mut stream: Stream) {
    use exchange_ask::Ask;
    use exchange_tell::Tell;
    let mut due: HashMap<u64, u64> = HashMap::new();
    while let Ok(Some(v1::ExchangeAsk { ask: Some(ask) })) = stream.recv::<v1::ExchangeAsk>().await {
        let tell = match ask {
            Ask::Have(query) => Some(Tell::Have(v1::Have { pack: query.pack, ..v1::Have::default() })),
            Ask::Want(want) => Some(Tell::Missing(v1::Missing { id: want.id, reason: String::new() })),
            Ask::Store(store) => {
                let pack = store.pack.unwrap();
                due.insert(store.id, Code::new(pack.k, pack.n).unwrap().shard_len(pack.len));
                None
            }
            Ask::Leaves(leaves) => {
                let left = due.get_mut(&leaves.id).unwrap();
                *left -= leaves.data.len() as u64;
                (*left == 0).then_some(Tell::Stored(v1::Stored { id: leaves.id }))
            }
            Ask::Cancel(_) | Ask::Drop(_) => None,
        };
        if let Some(tell) = tell
            && (stream.send(&v1::ExchangeTell { tell: Some(tell) }).await.is_err() || stream.flush().await.is_err())
        {
            return;
        }
    }
}

/// Answers an audit with what it makes up.
async fn make_up(mut stream: Stream) {
    while let Ok(Some(v1::AuditAsk { ask: Some(ask) })) = stream.recv::<v1::AuditAsk>().await {
        let tells = match ask {
            audit_ask::Ask::Commit(_) => {
                let commitment = v1::AuditCommitment { root: vec![7; 32].into(), lacks: Bytes::new() };
                vec![audit_tell::Tell::Committed(commitment)]
            }
            audit_ask::Ask::Open(drawn) => {
                let leaf =
                    |leaf: u32| v1::AuditLeaf { leaf, data: vec![0; LEAF_LEN].into(), bound: vec![], proof: vec![] };
                drawn.leaves.into_iter().map(|at| audit_tell::Tell::Opened(leaf(at))).collect()
            }
        };
        for tell in tells {
            if stream.send(&v1::AuditTell { tell: Some(tell) }).await.is_err() {
                return; // it has seen enough
            }
        }
        if stream.flush().await.is_err() {
            return;
        }
    }
}

#[test]
fn a_node_that_threw_everything_away_is_condemned_by_all_and_what_it_should_have_is_rebuilt() {
    let names = ["north-1", "south-1", "east-1", "north-2", "south-2"];
    let mut cluster = watchful(&names);
    let west = cluster.join_without_process("west-1", &names[1..4]);
    let runtime = Runtime::new().unwrap();
    let forgetful = runtime.block_on(Forgetful::start(&west));
    cluster.wait_until_joined(names.len() + 1);
    let (record, original) = (cluster.path("record"), bytes_of(1, 3 << 20));
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", "--survive", "0,2"]);
    let narrow = cluster["south-1"].status()["bytes"]["held_for_others"].as_u64().expect("a number of bytes");

    for name in ["north-1", "south-1"] {
        let status = cluster[name].wait_for("the liar is condemned, by others too", |status| {
            let audit = audit(status, &forgetful.id());
            audit["condemned"] == true && audit["condemners"].as_u64() >= Some(2)
        });
        let honest = cluster.clinics().iter().map(|clinic| clinic.status()["node"].clone());
        honest.for_each(|node| assert_ne!(audit(&status, &node)["condemned"], true, "{status}"));
    }
    // Each node had a shard, so nobody can take another one: the pack is coded anew for those that are left. On whom the
    // ledger puts a longer shard, and no longer both, that one knows that the new pack took the place of the old one.
    cluster["south-1"].wait_for("all shards stand on honest nodes", |status| {
        let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
        let given = members.iter().find(|member| member["own"] == true).and_then(|member| member["given"].as_u64());
        given.is_some_and(|given| (narrow + 1..2 * narrow).contains(&given)) && is_whole(status)
    });
    cluster["north-1"].kill();
    cluster["east-1"].kill();
    let (record, back) = (cluster["south-1"].record_named("record"), cluster.path("back"));
    cluster["south-1"].done(&["get", &record, "--output", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == original, "the record came back changed");
}

#[test]
fn the_word_of_one_organisation_moves_nobodys_shards() {
    let names = ["north-1", "south-1", "east-1"];
    let cluster = watchful(&names);
    let west = cluster.join_without_process("west-1", &names[1..2]);
    let runtime = Runtime::new().unwrap();
    let liar = runtime.block_on(Forgetful::start(&west));
    cluster.wait_until_joined(names.len() + 1);
    let south = cluster["south-1"].status()["node"].clone();
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    let digits = south.as_str().unwrap();
    let bytes = (0..32).map(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).unwrap()).collect::<Vec<u8>>();
    let fault = v1::AuditFault::False.into();
    let word = v1::Condemnation { node: bytes.into(), fault, nonce: vec![5; 32].into(), pack: Bytes::new(), shard: 0 };
    let entry = liar.guest.write(now_ms, Operation::Condemn(word));

    wait_until("its word is heard", || {
        let batch = encode(&v1::NewEntries { entries: vec![entry.clone()] });
        let _ = runtime.block_on(liar.guest.net.publish(Topic::Entries, batch.into())); // again, until somebody listens
        match audit(&cluster["north-1"].status(), &south)["condemners"].as_u64() {
            Some(1) => Ok(()),
            other => Err(format!("{other:?} organisations condemn south-1")),
        }
    });

    let record = cluster.path("record");
    write(&record, bytes_of(1, 1 << 20));
    cluster["north-1"].put_replicated(&record, &ONE);
    let status = cluster["north-1"].status();
    assert_eq!(audit(&status, &south)["condemned"], false, "{status}");
    let held = cluster["south-1"].status()["bytes"]["held_for_others"].as_u64();
    assert!(held > Some(0), "it is given shards as before");
}
