//! A node that missed a great many entries: it gets them in batches, and a power cut in between costs none that came.

use std::time::Instant;

use bithealth::client::Client;
use bithealth_tests::{Clinic, Cluster, wait_until};
use bithealth_types::Digest;
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use super::history::{client, digests, one_history};

/// Entries that are missed, unless `BITHEALTH_MISSED` says more.
const MISSED: u64 = 6_000;
/// Callers that write them at once, at each of two nodes.
const CALLERS: u64 = 16;

#[test]
fn a_node_that_missed_thousands_of_entries_gets_them_in_batches_and_goes_on_where_it_was_killed() {
    let missed =
        std::env::var("BITHEALTH_MISSED").map_or(MISSED, |count| count.parse().expect("BITHEALTH_MISSED is a number"));
    let mut cluster = Cluster::start_wired(&["north-1", "south-1", "east-1"]);
    for clinic in cluster.clinics() {
        clinic.wait_for("everybody votes, and no block is due", |status| {
            status["finality"]["validators"] == 3 && status["finality"]["waiting"] == 0
        });
    }
    cluster["east-1"].kill();
    let runtime = Runtime::new().unwrap();
    let began = Instant::now();
    runtime.block_on(notarise(&[client(&cluster["north-1"]), client(&cluster["south-1"])], missed));
    for clinic in ["north-1", "south-1"] {
        wait_while_moving(&cluster[clinic], |status| status["finality"]["waiting"] == 0);
    }
    eprintln!("{missed} entries written and final after {:?}", began.elapsed());
    let (known, all) = (digests(&cluster["north-1"]), entries(&cluster["north-1"]));

    cluster["east-1"].start();
    let east = client(&cluster["east-1"]);
    let came = wait_until("some have come", || {
        let finality = runtime.block_on(east.status()).expect("it answers").finality;
        if finality.waiting >= missed / 10 { Ok(finality.waiting) } else { Err(format!("{}", finality.waiting)) }
    });
    // The others are away as well: what it has now it kept.
    ["east-1", "north-1", "south-1"].iter().for_each(|name| cluster[name].kill());
    cluster["east-1"].start();
    let kept = entries(&cluster["east-1"]);
    eprintln!("killed when {came} of {missed} had come; {kept} of {all} entries are kept");
    assert!(kept >= came, "{came} had come, {kept} are left");
    assert!(kept < all, "it was killed too late for this test to tell anything: {kept} of {all}");

    let began = Instant::now();
    ["north-1", "south-1"].iter().for_each(|name| cluster[name].start());
    wait_while_moving(&cluster["east-1"], |status| status["height"].as_u64() >= Some(known.len() as u64));
    eprintln!("the rest, {}, came within {:?}", all - kept, began.elapsed());
    one_history(&cluster, &known);
    assert!(entries(&cluster["east-1"]) >= all);
}

/// Writes commitments at these nodes, each durable there when this returns.
async fn notarise(nodes: &[Client], count: u64) {
    let mut callers = JoinSet::new();
    let callers_count = CALLERS * nodes.len() as u64;
    for caller in 0..callers_count {
        let node = nodes[caller as usize % nodes.len()].clone();
        callers.spawn(async move {
            for number in (caller..count).step_by(callers_count as usize) {
                let mut commitment = [7; 32];
                commitment[..8].copy_from_slice(&number.to_be_bytes());
                node.notarise(&Digest(commitment)).await.unwrap();
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended.unwrap();
    }
}

/// Waits until the status is as it should be, for as long as entries or blocks come.
fn wait_while_moving(clinic: &Clinic, is_done: impl Fn(&Value) -> bool) {
    let mut before = Value::Null;
    loop {
        let status = wait_until(&format!("more comes at {}", clinic.name), || {
            let status = clinic.status();
            if is_done(&status) || moved(&status) != before { Ok(status) } else { Err(status.to_string()) }
        });
        if is_done(&status) {
            return;
        }
        before = moved(&status);
    }
}

fn moved(status: &Value) -> Value {
    json!([status["height"], status["finality"]["waiting"]])
}

/// Entries in the store of a node that are sound.
fn entries(clinic: &Clinic) -> u64 {
    let verified = clinic.done(&["verify"]);
    let done = verified.events("done").next().expect("a check ends");
    done["entries"].as_u64().expect("entries are counted")
}
