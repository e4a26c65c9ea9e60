//! Nodes that are alone, and nodes that come back.

use bithealth_tests::{Clinic, Cluster, bytes_of, files_of, same_files, wait_until, write};
use serde_json::Value;

/// The number of entries and blocks a node has checked.
fn ledger_of(clinic: &Clinic) -> (Value, Value) {
    let verified = clinic.done(&["verify"]);
    let done = verified.events("done").next().expect("a check ends").clone();
    (done["entries"].clone(), done["blocks"].clone())
}

#[test]
fn a_node_cut_off_from_everybody_puts_and_gets_and_says_why_nothing_is_replicated() {
    let mut cluster = Cluster::start(&["north-1", "south-1"]);
    cluster["south-1"].kill();
    let records = cluster.path("records");
    for name in 0..5 {
        write(&records.join(name.to_string()), bytes_of(name, 200_000));
    }
    let put = cluster["north-1"].put(&records, &[]);
    assert_eq!(put.events("record").count(), 5);
    cluster["north-1"].get_all(&cluster.path("back"));
    same_files(&records, &cluster.path("back")).unwrap();

    let status = cluster["north-1"].wait_for("says what is short", |status| status["packs"]["short"][0].is_object());
    let reason = status["packs"]["short"][0]["reason"].as_str().unwrap();
    assert!(reason.contains("region"), "{reason}");
    assert_eq!(status["packs"]["replicated"], 0);
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("south-1") && warnings.contains("does not answer"), "{warnings}");
    write(&cluster.path("more"), bytes_of(9, 1000));
    let more = cluster.path("more");
    let waited = cluster["north-1"].ask(&["put", more.to_str().unwrap(), "--wait", "replicated", "--timeout", "1s"]);
    assert_eq!(waited.exit, 4, "kept here, not replicated in the time given: {waited:?}");
}

#[test]
fn an_unchanged_record_is_replicated_only_where_its_pack_is() {
    let mut cluster = Cluster::start(&["north-1", "south-1"]);
    cluster["south-1"].kill();
    let record = cluster.path("record");
    write(&record, bytes_of(1, 1000));
    cluster["north-1"].put(&record, &[]);
    let again = cluster["north-1"].ask(&["put", record.to_str().unwrap(), "--wait", "replicated", "--timeout", "1s"]);
    assert_eq!(again.events("record").next().unwrap()["unchanged"], true);
    assert_eq!((again.exit, &again.events("done").next().unwrap()["state"]), (4, &Value::from("local")), "{again:?}");
}

#[test]
fn a_node_that_was_away_has_the_whole_log_after_its_return_and_packs_that_waited_for_it_are_replicated() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    cluster["east-1"].kill();
    let (small, large) = (cluster.path("small"), cluster.path("large"));
    write(&small, bytes_of(1, 3000));
    write(&large, bytes_of(2, 2 << 20));
    // One survives with two nodes, the other needs all three.
    cluster["north-1"].put_replicated(&small, &["--for", "east-1", "--survive", "0,1"]);
    cluster["north-1"].put(&large, &["--for", "east-1", "--survive", "1,1"]);
    let short = cluster["north-1"].wait_for("one pack waits", |status| status["packs"]["short"][0].is_object());
    assert_eq!(short["packs"]["local"], 1);

    cluster["east-1"].start();

    cluster["north-1"]
        .wait_for("all is replicated", |status| status["packs"]["local"] == 0 && status["packs"]["replicated"] == 2);
    for (name, original) in [("small", &small), ("large", &large)] {
        let record = cluster["east-1"].record_named(name);
        let back = cluster.path("back");
        cluster["east-1"].done(&["get", &record, "--output", back.to_str().unwrap()]);
        assert!(std::fs::read(&back).unwrap() == std::fs::read(original).unwrap(), "{name} came back changed");
    }
    wait_until("all have the same ledger", || {
        let ledgers: Vec<_> = cluster.clinics().iter().map(ledger_of).collect();
        let heights: Vec<_> = cluster.clinics().iter().map(|clinic| clinic.status()["height"].clone()).collect();
        let same = ledgers.windows(2).all(|two| two[0] == two[1]) && heights.windows(2).all(|two| two[0] == two[1]);
        if same { Ok(()) } else { Err(format!("entries and blocks {ledgers:?}, heights {heights:?}")) }
    });
}

#[test]
fn a_node_that_was_away_drops_its_copies_of_packs_that_were_gathered_meanwhile() {
    let mut cluster = Cluster::start_with(&["north-1", "south-1", "east-1"], |clinic| {
        clinic.configure("consolidate_ms", "200");
        clinic.configure("gather_ms", "1");
    });
    let put = |cluster: &Cluster, number: u64, len: usize| {
        let record = cluster.path(&format!("record {number}"));
        write(&record, bytes_of(number, len));
        cluster["north-1"].put_replicated(&record, &["--survive", "1,0"]);
    };
    // Each put is a small pack of its own, with a whole copy in one other region; together too little to be gathered.
    for number in 0..12 {
        put(&cluster, number, 40_000);
    }
    let held = |status: &Value| status["bytes"]["held_for_others"].as_u64().expect("a number of bytes");
    assert!(held(&cluster["east-1"].status()) >= 40_000, "all twelve copies are in the south");
    cluster["east-1"].kill();
    for number in 12..16 {
        put(&cluster, number, 200_000);
    }
    // The last may come too late to be gathered with the others.
    cluster["north-1"].wait_for("small packs became one", |status| {
        status["packs"]["replicated"].as_u64().is_some_and(|packs| packs <= 2) && status["packs"]["local"] == 0
    });

    cluster["east-1"].start();

    cluster["east-1"].wait_for("copies of retired packs are dropped", |status| held(status) == 0);
    let back = cluster.path("back");
    cluster["north-1"].get_all(&back);
    assert_eq!(files_of(&back).len(), 16);
}

#[test]
fn small_packs_are_gathered_once_however_long_the_gathered_one_waits() {
    let mut cluster =
        Cluster::start_with(&["north-1", "south-1", "east-1"], |clinic| clinic.configure("gather_ms", "1"));
    for number in 0..6 {
        let record = cluster.path(&format!("record {number}"));
        write(&record, bytes_of(number, 200_000));
        cluster["north-1"].put_replicated(&record, &["--survive", "2,0"]);
    }
    ["north-1", "east-1"].iter().for_each(|name| cluster[name].stop());
    cluster["north-1"].configure("consolidate_ms", "20");
    cluster["north-1"].start();
    cluster["north-1"].wait_for("small packs were gathered", |status| {
        status["packs"]["local"].as_u64().is_some_and(|packs| packs > 0)
    });
    // It looks for more while it stops, starts, and waits for the east.
    cluster["north-1"].stop();
    cluster["north-1"].start();

    cluster["east-1"].start();

    cluster["north-1"]
        .wait_for("all is in one pack", |status| status["packs"]["replicated"] == 1 && status["packs"]["local"] == 0);
    let back = cluster.path("back");
    cluster["north-1"].get_all(&back);
    assert_eq!(files_of(&back).len(), 6);
}

#[test]
fn a_pack_coded_while_a_region_was_away_is_coded_for_all_once_it_is_back() {
    let names = ["north-1", "north-2", "south-1", "south-2", "east-1", "east-2"];
    let mut cluster = Cluster::start_with(&names, |clinic| clinic.configure("widen_ms", "300"));
    ["east-1", "east-2"].iter().for_each(|name| cluster[name].kill());
    let (record, original) = (cluster.path("record"), bytes_of(1, 3 << 20));
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", "--survive", "1,0"]);
    let held = |status: &Value| status["bytes"]["held_for_others"].as_u64().expect("a number of bytes");
    let narrow = held(&cluster["south-1"].status());
    assert!(narrow > 0);

    ["east-1", "east-2"].iter().for_each(|name| cluster[name].start());

    cluster["east-1"].wait_for("shards for the wider code", |status| held(status) > 0);
    cluster["south-1"].wait_for("shards of the narrow code are dropped", |status| held(status) < narrow);
    // Its region is lost, and what is left in the south alone is too little: the east takes part.
    cluster.lose("north");
    let id = cluster["south-1"].record_named("record");
    let back = cluster.path("back");
    cluster["south-1"].done(&["get", &id, "--output", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == original);
}
