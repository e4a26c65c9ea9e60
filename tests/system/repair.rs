//! Nodes that are lost for good, and a network that makes itself whole again without being told.

use bithealth_tests::{Clinic, Cluster, bytes_of, wait_until, write};
use serde_json::Value;

/// Six shards of which four restore, for packs of seven nodes in three regions: one node is free.
const SIX: [&str; 2] = ["--survive", "0,1"];
/// Four shards of which two restore, on four nodes: none is free.
const FOUR: [&str; 2] = ["--survive", "0,2"];

/// Clinics that take a silent node for lost after three seconds.
fn impatient(names: &[&str]) -> Cluster {
    Cluster::start_with(names, |clinic| {
        clinic.configure("repair_after_ms", "3000");
        clinic.configure("repair_look_ms", "100");
        clinic.configure("repair_bytes_per_s", "0");
        clinic.configure("widen_ms", "300");
    })
}

fn held(status: &Value) -> u64 {
    status["bytes"]["held_for_others"].as_u64().expect("a number of bytes")
}

/// All packs stand with this margin, and no shard is missing.
fn is_whole(status: &Value, margin: i64) -> bool {
    let repair = &status["repair"];
    let margins = repair["margins"].as_array().map(Vec::as_slice).unwrap_or_default();
    repair["missing_shards"] == 0 && !margins.is_empty() && margins.iter().all(|at| at["margin"] == margin)
}

fn held_by_all(cluster: &Cluster) -> u64 {
    cluster.clinics().iter().filter(|clinic| clinic.is_up()).map(|clinic| held(&clinic.status())).sum()
}

/// Starts clinics that know that others may be a little later than they are.
fn start_patient(cluster: &mut Cluster, names: &[&str]) {
    for name in names {
        cluster[name].configure("repair_after_ms", "600000");
        cluster[name].start();
    }
}

fn rebuilt(clinic: &Clinic) -> u64 {
    clinic.status()["repair"]["rebuilt_shards"].as_u64().expect("a number of shards")
}

fn reads(clinic: &Clinic, cluster: &Cluster, original: &[u8]) {
    let (record, back) = (clinic.record_named("record"), cluster.path("back"));
    clinic.done(&["get", &record, "--output", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == original, "the record came back changed");
}

#[test]
fn the_shards_of_a_lost_node_are_rebuilt_on_another_one_and_dropped_by_the_lost_one_if_it_comes_back() {
    let names = ["north-1", "north-2", "north-3", "south-1", "south-2", "east-1", "east-2"];
    let mut cluster = impatient(&names);
    let (record, original) = (cluster.path("record"), bytes_of(1, 3 << 20));
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "east-1", SIX[0], SIX[1]]);
    cluster["north-1"].wait_for("all six shards stand", |status| is_whole(status, 2));
    let holds = |cluster: &Cluster, name: &str| held(&cluster[name].status()) > 0;
    // Who stepped in for one that was not there yet drops its copy.
    wait_until("each shard stands once", || match names[1..].iter().filter(|name| holds(&cluster, name)).count() {
        5 => Ok(()),
        holders => Err(format!("{holders} hold shards, 5 should")),
    });
    let once = held_by_all(&cluster);
    let free = *names[1..].iter().find(|name| !holds(&cluster, name)).expect("a node is free");
    let lost = *names[3..].iter().find(|name| holds(&cluster, name) && **name != "east-1").expect("a holder");

    cluster[lost].kill();

    wait_until("the free node has the shard", || match rebuilt(&cluster[free]) {
        0 => Err(cluster[free].status()["repair"].to_string()),
        _ => Ok(()),
    });
    cluster["north-1"].wait_for("the margin is back", |status| is_whole(status, 2));
    // It is what it should be: with its help, any two others may go.
    let others = names[1..].iter().filter(|name| ![free, lost, "east-1"].contains(name));
    let others: Vec<&str> = others.copied().take(2).collect();
    others.iter().for_each(|name| cluster[name].kill());
    reads(&cluster["east-1"], &cluster, &original);
    start_patient(&mut cluster, &others);

    start_patient(&mut cluster, &[lost]);
    cluster["north-1"].wait_for("all six shards stand", |status| is_whole(status, 2));
    wait_until("no shard stands twice", || match held_by_all(&cluster) {
        held if held == once => Ok(()),
        held => Err(format!("{held} bytes are held, {once} are due")),
    });
}

#[test]
fn where_no_node_is_free_the_author_codes_the_pack_anew_for_those_that_are_left() {
    let mut cluster = impatient(&["north-1", "south-1", "east-1", "west-1"]);
    let (record, original) = (cluster.path("record"), bytes_of(1, 2 << 20));
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", FOUR[0], FOUR[1]]);
    let narrow = held(&cluster["east-1"].status());

    cluster.lose("west");

    cluster["east-1"].wait_for("it has a whole copy", |status| held(status) > narrow);
    cluster["south-1"].wait_for("any two may be lost again", |status| is_whole(status, 2));
    cluster.lose("north");
    cluster.lose("east");
    reads(&cluster["south-1"], &cluster, &original);
}

#[test]
fn a_whole_region_is_rebuilt_elsewhere_with_its_author_gone_too() {
    let names = ["north-1", "north-2", "south-1", "south-2", "east-1", "east-2", "west-1", "west-2"];
    let mut cluster = impatient(&names);
    let (record, original) = (cluster.path("record"), bytes_of(1, 3 << 20));
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "east-1", SIX[0], SIX[1]]);
    cluster["east-1"].wait_for("all six shards stand", |status| is_whole(status, 2));
    let lost = 1 + u64::from(held(&cluster["north-2"].status()) > 0);

    cluster.lose("north");

    wait_until("what the north had is rebuilt", || {
        let rebuilt: Vec<u64> = cluster.clinics().iter().filter(|it| it.is_up()).map(rebuilt).collect();
        if rebuilt.iter().sum::<u64>() >= lost { Ok(()) } else { Err(format!("{lost} are due: {rebuilt:?}")) }
    });
    cluster["east-1"].wait_for("all six shards stand on the six nodes left", |status| is_whole(status, 2));
    cluster.lose("west");
    reads(&cluster["east-1"], &cluster, &original);
}
