//! Nodes and regions are lost, at once and while somebody reads.

use std::io::Read;
use std::path::Path;

use bithealth_tests::{Clinic, Cluster, bytes_of, same_files, wait_until, write};
use serde_json::Value;

/// Of four nodes, each of another organisation, any two of four shards restore what is put with this.
const CODED: [&str; 2] = ["--survive", "0,1"];

/// What holders send for a restore that is killed twice, of a hundred bytes that were lost: those on their way at the two
/// moments are sent again, and the ledger besides.
const SENT_PERCENT_MAX: u64 = 125;

/// A few records of all sorts: small and large, with the same contents, with none, in folders.
fn write_records(folder: &Path) {
    for (at, name) in (0..).zip(["letter.txt", "anna/laboratory/1.json", "anna/laboratory/2.json", "ben/scan"]) {
        write(&folder.join(name), bytes_of(at, 5_000 + 700 * at as usize));
    }
    write(&folder.join("ben/image.dcm"), bytes_of(9, 3 << 20));
    write(&folder.join("ben/copy of scan"), bytes_of(3, 5_000 + 700 * 3));
    write(&folder.join("nothing"), "");
    write(&folder.join("Bücher & Söhne/ärztin.txt"), "ä".repeat(400_000));
}

#[test]
fn a_clinic_that_lost_everything_with_its_region_gets_every_file_back() {
    let mut cluster = Cluster::start(&["north-1", "north-2", "south-1", "south-2", "east-1", "east-2"]);
    let records = cluster.path("records");
    write_records(&records);
    let put = cluster["north-1"].put_replicated(&records, &["--for", "south-1"]);
    assert_eq!(put.events("done").next().unwrap()["state"], "replicated");
    let kit = cluster.path("kit");
    cluster["north-1"].kit(&kit);

    cluster.lose("north");

    reads_what_it_was_given(&cluster["south-1"], &records, &cluster.path("read"));
    cannot_read_what_it_was_not_given(&cluster["east-1"], &cluster["south-1"].record_named("letter.txt"));
    let new = cluster.clinic("west-1");
    let restored = new.restore(&kit, &cluster.path("restored"));
    assert_eq!(restored.exit, 0, "{restored:?}");
    same_files(&records, &cluster.path("restored")).unwrap();
}

fn reads_what_it_was_given(reader: &Clinic, records: &Path, into: &Path) {
    let record = reader.record_named("ben/image.dcm");
    let (image, part) = (into.join("image"), into.join("part"));
    std::fs::create_dir_all(into).unwrap();
    reader.done(&["get", &record, "--output", image.to_str().unwrap()]);
    let original = std::fs::read(records.join("ben/image.dcm")).unwrap();
    assert!(std::fs::read(image).unwrap() == original, "the image came back changed");
    reader.done(&["get", &record, "--range", "1000000-1299999", "--output", part.to_str().unwrap()]);
    assert!(std::fs::read(part).unwrap() == original[1_000_000..1_300_000], "a part of the image came back changed");
    reader.get_all(&into.join("all"));
    same_files(records, &into.join("all")).unwrap();
}

fn cannot_read_what_it_was_not_given(stranger: &Clinic, record: &str) {
    let refused = stranger.ask(&["get", record, "--output", "-"]);
    assert_eq!((refused.exit, refused.lines.len()), (1, 0), "{refused:?}");
    assert!(refused.error.contains(&format!("no record {record} is known here")), "{refused:?}");
    assert!(stranger.done(&["ls"]).lines.is_empty());
    let refused = stranger.ask(&["open-foreign"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("was fetched whole") && refused.error.contains("does not open"), "{refused:?}");
}

#[test]
fn when_more_is_lost_than_was_promised_reading_and_restoring_fail_and_say_what_is_missing() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1", "west-1"]);
    let record = cluster.path("record");
    write(&record, bytes_of(1, 2 << 20));
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", CODED[0], CODED[1]]);
    let kit = cluster.path("kit");
    cluster["north-1"].kit(&kit);
    let id = cluster["south-1"].record_named("record");

    cluster.lose("north");
    cluster.lose("east");
    cluster.lose("west");

    let read = cluster["south-1"].ask(&["get", &id, "--output", cluster.path("read").to_str().unwrap()]);
    assert_eq!(read.exit, 1, "{read:?}");
    assert!(read.error.contains("needs 2 of its 4 shards, 1 more than"), "{read:?}");
    assert!(!cluster.path("read").exists(), "a record that cannot be read leaves no file");
    let restored = cluster.clinic("north-2").restore(&kit, &cluster.path("restored"));
    assert_eq!(restored.exit, 1, "{restored:?}");
    let failed = restored.events("failed").next().expect("what failed is told");
    assert!(failed["reason"].as_str().unwrap().contains("needs 2 of its 4 shards"), "{failed}");
    let done: Vec<_> = restored.events("done").collect();
    assert_eq!(done[0]["packs_failed"], 1, "{done:?}");
}

#[test]
fn a_reader_that_holds_enough_shards_itself_needs_nobody() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let record = cluster.path("record");
    write(&record, bytes_of(1, 2 << 20));
    // To survive the loss of any two of three nodes, each keeps a whole copy.
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", "--survive", "1,1"]);
    let id = cluster["south-1"].record_named("record");
    cluster.lose("north");
    cluster.lose("east");
    let back = cluster.path("back");
    cluster["south-1"].done(&["get", &id, "--output", back.to_str().unwrap()]);
    assert!(std::fs::read(&back).unwrap() == std::fs::read(&record).unwrap(), "the record came back changed");
}

#[test]
fn a_provider_that_dies_while_a_record_is_read_does_not_stop_it() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1", "west-1"]);
    let record = cluster.path("record");
    let original = bytes_of(1, 40 << 20);
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", CODED[0], CODED[1]]);
    let id = cluster["south-1"].record_named("record");

    let mut reading = cluster["south-1"].command(&["get", &id, "--output", "-"]).spawn().unwrap();
    let mut output = reading.stdout.take().unwrap();
    // Nobody takes the rest yet, so that the node cannot have read all of it.
    let mut back = vec![0; 1 << 20];
    output.read_exact(&mut back).unwrap();
    cluster["north-1"].kill();
    output.read_to_end(&mut back).unwrap();

    assert!(reading.wait().unwrap().success());
    assert!(back == original, "the record came back changed: {} of {} bytes", back.len(), original.len());
}

/// A cluster whose nodes serve slowly enough that something can happen meanwhile.
fn slow(names: &[&str], bytes_per_s: &str) -> Cluster {
    Cluster::start_with(names, |clinic| clinic.configure("bytes_per_s_max", bytes_per_s))
}

#[test]
fn a_provider_that_dies_at_any_tenth_of_a_transfer_does_not_stop_it() {
    let mut cluster = slow(&["north-1", "south-1", "east-1", "west-1"], "4194304");
    let (record, original) = (cluster.path("record"), bytes_of(1, 8 << 20));
    write(&record, &original);
    cluster["north-1"].put_replicated(&record, &["--for", "south-1", CODED[0], CODED[1]]);
    let id = cluster["south-1"].record_named("record");
    for (tenth, victim) in (0..10).zip(["north-1", "east-1", "west-1"].into_iter().cycle()) {
        // It remembers what it read lately: anew, it has to fetch all of it again.
        cluster["south-1"].stop();
        cluster["south-1"].start();
        cluster.wait_until_joined(4);
        let back = cluster.path(&format!("back {tenth}"));
        let reader = &cluster["south-1"];
        let (_, before) = reader.traffic();
        let mut reading = reader.command(&["get", &id, "--output", back.to_str().unwrap()]).spawn().unwrap();
        wait_until(&format!("{tenth} tenths of the record came"), || {
            let (_, now) = reader.traffic();
            let is_due = now - before >= tenth * original.len() as u64 / 10;
            let is_over = reading.try_wait().expect("our child").is_some();
            if is_due || is_over { Ok(()) } else { Err(format!("{} bytes", now - before)) }
        });
        cluster[victim].kill();
        assert!(reading.wait().unwrap().success(), "{victim} died after {tenth} tenths");
        assert!(std::fs::read(&back).unwrap() == original, "the record came back changed");
        cluster[victim].start();
        cluster.wait_until_joined(4);
    }
}

#[test]
fn a_restore_that_is_killed_goes_on_without_fetching_verified_leaves_again() {
    let mut cluster = slow(&["north-1", "south-1", "east-1", "west-1"], "2097152");
    let len = 20 << 20;
    let records = cluster.path("records");
    write(&records.join("scan"), bytes_of(1, len as usize));
    cluster["north-1"].put_replicated(&records, &CODED);
    let packs_of = |status: &Value| status["packs"]["local"].as_u64().zip(status["packs"]["replicated"].as_u64());
    let packs_of = |status: &Value| packs_of(status).map(|(local, replicated)| local + replicated);
    let packs = packs_of(&cluster["north-1"].status());
    let kit = cluster.path("kit");
    cluster["north-1"].kit(&kit);
    cluster.lose("north");

    let mut new = cluster.clinic("north-2");
    let received = |new: &Clinic| {
        let peers = new.ask(&["peers"]).lines;
        peers.iter().filter_map(|peer| peer["bytes_in"].as_u64()).sum::<u64>()
    };
    let mut restoring = new.begin_restore(&kit, &cluster.path("restored"));
    wait_until("half of it came", || match received(&new) {
        bytes if bytes >= len / 2 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    });
    restoring.kill().unwrap();
    restoring.wait().unwrap();
    new.configure("restore_parts_after_ms", "0");
    new.start();
    wait_until("two thirds of what was left came", || match received(&new) {
        bytes if bytes >= len / 3 => Ok(()),
        bytes => Err(format!("{bytes} bytes")),
    });
    new.kill();
    new.start();
    new.wait_for("all is back", |status| status["own_records"] == 1 && packs_of(status) == packs);

    let node = new.status()["node"].clone();
    let sent_by = |holder: &str| {
        let peers = cluster[holder].done(&["peers"]).lines;
        peers.iter().filter(|peer| peer["node"] == node).filter_map(|peer| peer["bytes_out"].as_u64()).sum::<u64>()
    };
    let sent: u64 = ["south-1", "east-1", "west-1"].into_iter().map(sent_by).sum();
    eprintln!("{sent} bytes were sent for {len} that were lost, over two kills");
    assert!(sent >= len && sent * 100 <= len * SENT_PERCENT_MAX, "{sent} bytes for {len}");
    let back = cluster.path("back");
    new.get_all(&back);
    same_files(&records, &back).unwrap();
}

#[test]
fn a_region_that_is_lost_during_a_restore_does_not_stop_it() {
    let mut cluster = slow(&["north-1", "north-2", "south-1", "south-2", "east-1", "east-2"], "4194304");
    let records = cluster.path("records");
    for name in 0..3 {
        write(&records.join(name.to_string()), bytes_of(name, 8 << 20));
    }
    cluster["north-1"].put_replicated(&records, &[]);
    let kit = cluster.path("kit");
    cluster["north-1"].kit(&kit);
    cluster["north-1"].kill();
    cluster["north-1"].delete();

    let (new, restored) = (cluster.clinic("north-3"), cluster.path("restored"));
    let mut restoring = new.begin_restore(&kit, &restored);
    wait_until("a quarter of it came", || {
        let peers = new.ask(&["peers"]).lines;
        let came: u64 = peers.iter().filter_map(|peer| peer["bytes_in"].as_u64()).sum();
        if came >= 6 << 20 { Ok(()) } else { Err(format!("{came} bytes")) }
    });
    cluster.lose("east");
    assert!(restoring.wait().unwrap().success());
    same_files(&records, &restored).unwrap();
}

#[test]
fn a_provider_that_dies_during_a_restore_does_not_stop_it() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1", "west-1"]);
    let records = cluster.path("records");
    for name in 0..4 {
        write(&records.join(name.to_string()), bytes_of(name, 10 << 20));
    }
    cluster["north-1"].put_replicated(&records, &CODED);
    let kit = cluster.path("kit");
    cluster["north-1"].kit(&kit);
    cluster.lose("north");

    let (new, restored) = (cluster.clinic("north-2"), cluster.path("restored"));
    let answer = std::thread::scope(|scope| {
        let restoring = scope.spawn(|| new.restore(&kit, &restored));
        wait_until("the new node has some of it", || {
            let status = new.ask(&["status"]);
            let status = status.lines.first().ok_or("it does not answer yet")?;
            match status["own_records"].as_u64() {
                Some(0) | None => Err(status.to_string()),
                Some(_) => Ok(()),
            }
        });
        cluster["east-1"].kill();
        restoring.join().unwrap()
    });
    assert_eq!(answer.exit, 0, "{answer:?}");
    same_files(&records, &restored).unwrap();
}
