//! Blocks decided by real nodes, some of which die.

use bithealth_tests::{Clinic, Cluster, bytes_of, same_files, wait_until, write};
use serde_json::Value;

use super::history::{digests, one_history};

const NINE: [&str; 9] =
    ["north-1", "north-2", "north-3", "south-1", "south-2", "south-3", "east-1", "east-2", "east-3"];

fn height(clinic: &Clinic) -> u64 {
    clinic.status()["height"].as_u64().expect("a height is a number")
}

/// A network in which everybody votes.
fn voting(names: &[&str]) -> Cluster {
    let cluster = Cluster::start(names);
    for clinic in cluster.clinics() {
        clinic.wait_for("everybody votes", |status| status["finality"]["validators"] == names.len());
    }
    cluster
}

/// Puts a record and waits until a block covers it; the height of that block.
fn final_record(cluster: &Cluster, name: &str, seed: u64) -> u64 {
    let record = cluster.path(&format!("record-{seed}"));
    write(&record, bytes_of(seed, 5_000));
    let put = cluster[name].done(&["put", record.to_str().unwrap(), "--wait", "final", "--timeout", "60s"]);
    let done = put.events("done").next().expect("a put ends").clone();
    assert_eq!(done["state"], "final", "{done}");
    done["height"].as_u64().expect("what is final has a height")
}

#[test]
fn a_record_is_final_once_a_quorum_signed_the_block_that_covers_it() {
    let cluster = voting(&["north-1", "south-1", "east-1"]);
    let height = final_record(&cluster, "south-1", 1);
    assert!(height > 0);
    let listed = cluster["south-1"].done(&["ls"]);
    let record = listed.value();
    assert_eq!((&record["state"], &record["height"]), (&Value::from("final"), &Value::from(height)));
    let status = cluster["south-1"].status();
    assert_eq!((&status["finality"]["quorum"], &status["finality"]["present"]), (&Value::from(2), &Value::from(3)));
    assert_eq!(status["packs"]["final"], 1);
    let log = std::fs::read(&cluster["south-1"].log).unwrap();
    assert!(!log.is_empty() && !log.contains(&b'\x1b'), "a log that goes to a file has no colours");
}

#[test]
fn every_validator_can_be_killed_in_turn_while_blocks_go_on_and_nothing_final_changes() {
    let mut cluster = voting(&NINE);
    let (mut last, mut known) = (0, Vec::new());
    for (seed, dead) in NINE.iter().enumerate() {
        cluster[dead].kill();
        let writer = NINE[(seed + 1) % NINE.len()];
        let height = final_record(&cluster, writer, seed as u64);
        assert!(height > last, "{height} after {last}");
        last = height;
        cluster[dead].start();
        cluster[dead].wait_for("it is back and has caught up", |status| {
            status["height"].as_u64() >= Some(height) && status["finality"]["present"] == NINE.len()
        });
        let now = digests(&cluster[dead]);
        assert!(now.starts_with(&known), "what was final before {dead} died has changed");
        known = now;
    }
    let history = one_history(&cluster, &known);
    for clinic in cluster.clinics() {
        let status = clinic.status();
        assert_eq!(status["finality"]["halted"], Value::Null, "{} votes no more", clinic.name);
        assert_eq!(status["finality"]["accused"], serde_json::json!([]), "{status}");
        let verified = clinic.done(&["ledger", "verify"]);
        assert!(verified.value()["height"].as_u64() >= Some(history.len() as u64), "{verified:?}");
    }
    for (seed, clinic) in NINE.iter().enumerate() {
        let writer = NINE[(seed + 1) % NINE.len()];
        let listed = cluster[writer].done(&["ls", &format!("record-{seed}")]);
        assert_eq!(listed.value()["state"], "final", "put while {clinic} was away");
    }
}

#[test]
fn without_a_quorum_records_are_kept_and_replicated_and_after_it_returns_they_are_final() {
    let mut cluster = voting(&NINE);
    let before = final_record(&cluster, "north-1", 1);
    // A whole region is away, and blocks go on.
    for dead in ["east-1", "east-2", "east-3"] {
        cluster[dead].kill();
    }
    assert!(final_record(&cluster, "north-1", 2) > before);
    let status = cluster["north-1"].wait_for("no slack", |status| status["finality"]["present"] == 6);
    assert_eq!(status["finality"]["missing"].as_array().map(Vec::len), Some(3), "{status}");
    // Two more: four are left, and six would decide.
    for dead in ["south-2", "south-3"] {
        cluster[dead].kill();
    }
    cluster["north-1"].wait_for("no quorum", |status| status["finality"]["present"] == 4);
    let record = cluster.path("waiting");
    write(&record, bytes_of(3, 5_000));
    cluster["north-1"].put_replicated(&record, &["--survive", "1,0"]);
    let stuck = height(&cluster["north-1"]);
    cluster["north-1"].get_all(&cluster.path("back"));
    let listed = cluster["north-1"].done(&["ls", "waiting"]);
    assert_eq!(listed.value()["state"], "replicated", "no block covers it");
    for back in ["south-2", "south-3"] {
        cluster[back].start();
    }
    let covered = |clinic: &Clinic| {
        let listed = clinic.done(&["ls", "waiting"]);
        let record = listed.value().clone();
        if record["state"] == "final" { Ok(record["height"].as_u64()) } else { Err(record.to_string()) }
    };
    let height = wait_until("what waited is final", || covered(&cluster["north-1"])).expect("it has a height");
    assert!(height <= stuck + 3, "within three blocks: {stuck} to {height}");
}

#[test]
fn while_nothing_becomes_final_a_clinic_that_lost_everything_gets_every_file_back() {
    let mut cluster = voting(&["north-1", "south-1", "east-1", "west-1", "far-1"]);
    let [records, kit, back] = ["records", "kit", "back"].map(|name| cluster.path(name));
    write(&records.join("before"), bytes_of(1, 300_000));
    let put = ["put", records.to_str().unwrap(), "--wait", "final", "--timeout", "60s", "--survive", "3,0"];
    cluster["west-1"].done(&put);
    // Four decide, three are left: what is put now no block covers.
    for dead in ["east-1", "far-1"] {
        cluster[dead].kill();
    }
    cluster["west-1"].wait_for("no quorum", |status| status["finality"]["present"] == 3);
    write(&records.join("waiting"), bytes_of(2, 300_000));
    cluster["west-1"].put_replicated(&records.join("waiting"), &["--survive", "1,0"]);
    cluster["west-1"].kit(&kit);
    cluster.lose("west");
    let stuck = cluster["north-1"].wait_for("two of five are left", |status| status["finality"]["present"] == 2);

    let mut restored = cluster.clinic("west-2");
    let answer = restored.restore(&kit, &back);
    assert_eq!(answer.exit, 0, "{answer:?}");
    same_files(&records, &back).unwrap();
    restored.start();
    let waits = |status: &Value| status["finality"]["waiting"].as_u64() > Some(0);
    let status = cluster["north-1"].wait_for("the new node is not in a block", waits);
    assert_eq!(status["height"], stuck["height"], "nothing was decided");
    let listed = restored.done(&["ls", "waiting"]);
    assert_eq!(listed.value()["state"], "replicated", "{listed:?}");

    for back in ["east-1", "far-1"] {
        cluster[back].start();
    }
    restored.wait_for("all that waited is final, and the new node votes", |status| {
        status["finality"]["waiting"] == 0 && status["finality"]["present"] == 5 && status["packs"]["local"] == 0
    });
    assert_eq!(restored.done(&["ls", "waiting"]).value()["state"], "final");
}
