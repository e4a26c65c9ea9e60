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

/// A pack on seven nodes, each of its six shards held once.
struct Held {
    cluster: Cluster,
    original: Vec<u8>,
    /// Who holds none of it.
    free: &'static str,
    /// A holder that reads and writes nothing here.
    holder: &'static str,
    /// Bytes that all hold together.
    once: u64,
}

const AUTHOR: &str = "north-1";
const READER: &str = "east-1";
const OTHERS: [&str; 6] = ["north-2", "north-3", "south-1", "south-2", READER, "east-2"];

fn held_by_six_of_seven() -> Held {
    let cluster = impatient(&[&[AUTHOR], &OTHERS[..]].concat());
    let (record, original) = (cluster.path("record"), bytes_of(1, 3 << 20));
    write(&record, &original);
    cluster[AUTHOR].put_replicated(&record, &["--for", READER, SIX[0], SIX[1]]);
    cluster[AUTHOR].wait_for("all six shards stand", |status| is_whole(status, 2));
    let holds = |name: &&str| held(&cluster[*name].status()) > 0;
    // Who stepped in for one that was not there yet drops its copy.
    wait_until("each shard stands once", || match OTHERS.iter().filter(|name| holds(name)).count() {
        5 => Ok(()),
        holders => Err(format!("{holders} hold shards, 5 should")),
    });
    let free = *OTHERS.iter().find(|name| !holds(name)).expect("a node is free");
    let holder = *OTHERS[2..].iter().find(|name| holds(name) && **name != READER).expect("a holder");
    let once = held_by_all(&cluster);
    Held { cluster, original, free, holder, once }
}

fn wait_until_rebuilt(clinic: &Clinic) {
    wait_until("the free node has the shard", || match rebuilt(clinic) {
        0 => Err(clinic.status()["repair"].to_string()),
        _ => Ok(()),
    });
}

#[test]
fn the_shards_of_a_lost_node_are_rebuilt_on_another_one_and_dropped_by_the_lost_one_if_it_comes_back() {
    let Held { mut cluster, original, free, holder: lost, once } = held_by_six_of_seven();

    cluster[lost].kill();

    wait_until_rebuilt(&cluster[free]);
    cluster[AUTHOR].wait_for("the margin is back", |status| is_whole(status, 2));
    // It is what it should be: with its help, any two others may go.
    let others = OTHERS.iter().filter(|name| ![free, lost, READER].contains(name));
    let others: Vec<&str> = others.copied().take(2).collect();
    others.iter().for_each(|name| cluster[name].kill());
    reads(&cluster[READER], &cluster, &original);
    start_patient(&mut cluster, &others);

    start_patient(&mut cluster, &[lost]);
    cluster[AUTHOR].wait_for("all six shards stand", |status| is_whole(status, 2));
    wait_until("no shard stands twice", || match held_by_all(&cluster) {
        held if held == once => Ok(()),
        held => Err(format!("{held} bytes are held, {once} are due")),
    });
}

/// It would look again in ten minutes only.
#[test]
fn a_node_rebuilds_as_soon_as_another_was_silent_for_long_enough() {
    let Held { mut cluster, free, holder: lost, .. } = held_by_six_of_seven();
    cluster[free].stop();
    cluster[free].configure("repair_look_ms", "600000");
    cluster[free].start();
    cluster.wait_until_joined(1 + OTHERS.len());

    cluster[lost].kill();

    wait_until_rebuilt(&cluster[free]);
    cluster[free].wait_for("it sees what it did", |status| is_whole(status, 2));
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
