//! Power cuts: SIGKILL at any moment, and an index that is gone or damaged. Acknowledged means kept (P1).

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use bithealth_tests::{Clinic, Cluster, Dice, bytes_of, same_files, soon, write};
use serde_json::Value;

/// Power cuts of one run, unless `BITHEALTH_KILLS` says more.
const KILLS: u64 = 20;
/// A put of one batch takes about as long, so that cuts come before, within and after it.
const MOMENT_MAX_US: u64 = 120_000;

#[test]
fn what_was_acknowledged_survives_a_power_cut_at_any_moment() {
    let kills =
        std::env::var("BITHEALTH_KILLS").map_or(KILLS, |kills| kills.parse().expect("BITHEALTH_KILLS is a number"));
    let mut dice = Dice::from_env();
    let mut cluster = Cluster::start(&["north-1"]);
    let mut kept: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for round in 0..kills {
        let records = cluster.path(&format!("records {round}"));
        let originals = write_batch(&records, round, &mut dice);
        let acknowledged = put_until_killed(&mut cluster["north-1"], &records, &mut dice);
        for name in acknowledged {
            let bytes = originals.get(&name).unwrap_or_else(|| panic!("{name} was acknowledged and never put"));
            kept.insert(name, bytes.clone());
        }
        cluster["north-1"].start();
        let back = cluster.path(&format!("back {round}"));
        cluster["north-1"].get_all(&back);
        for (name, bytes) in &kept {
            let got = std::fs::read(back.join(name));
            let got =
                got.unwrap_or_else(|error| panic!("{name} was acknowledged and is gone after cut {round}: {error}"));
            assert!(got == *bytes, "{name} was acknowledged and is changed after cut {round}");
        }
        std::fs::remove_dir_all(&back).unwrap();
        std::fs::remove_dir_all(&records).unwrap();
    }
    eprintln!("{} records were acknowledged over {kills} power cuts", kept.len());
    assert!(!kept.is_empty(), "every cut came before the first record was acknowledged");
    let verified = cluster["north-1"].done(&["verify", "--full"]);
    assert_eq!(verified.events("done").next().unwrap()["damaged"], 0);
}

/// Few or many records, small ones and some of several packs.
fn write_batch(folder: &Path, round: u64, dice: &mut Dice) -> BTreeMap<String, Vec<u8>> {
    let count = 1 + dice.below(40);
    let mut originals = BTreeMap::new();
    for number in 0..count {
        let len = if dice.below(12) == 0 { dice.below(2 << 20) } else { dice.below(30_000) };
        let (name, bytes) = (format!("{round}-{number}"), bytes_of(dice.roll(), len as usize));
        write(&folder.join(&name), &bytes);
        originals.insert(name, bytes);
    }
    originals
}

/// Puts, and kills the node at some moment; the names that were acknowledged as durable before.
fn put_until_killed(clinic: &mut Clinic, records: &Path, dice: &mut Dice) -> Vec<String> {
    let mut put = clinic.command(&["put", records.to_str().unwrap()]).spawn().unwrap();
    let output = BufReader::new(put.stdout.take().unwrap());
    let acknowledged = std::thread::spawn(move || {
        let events = output.lines().map_while(Result::ok).filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        let records = events.filter(|event| event["event"] == "record");
        records.map(|event| event["name"].as_str().expect("a name is text").to_owned()).collect()
    });
    soon(Duration::from_micros(dice.below(MOMENT_MAX_US)));
    clinic.kill();
    put.wait().unwrap();
    acknowledged.join().unwrap()
}

#[test]
fn a_deleted_or_damaged_index_costs_nothing_but_a_rebuild() {
    let mut cluster = Cluster::start(&["north-1"]);
    let records = cluster.path("records");
    for name in 0..30 {
        write(&records.join(name.to_string()), bytes_of(name, 40_000));
    }
    cluster["north-1"].put(&records, &[]);
    let index = cluster["north-1"].home.join("store/index");
    assert!(index.is_dir(), "the index is not where this test looks for it");

    let damages: [(&str, &dyn Fn()); 3] = [
        ("deleted", &|| std::fs::remove_dir_all(&index).unwrap()),
        ("with flipped bytes", &|| flip_some_bytes(&index)),
        ("cut to nothing", &|| cut_to_nothing(&index)),
    ];
    for (ending, end) in [("stopped", Clinic::stop as fn(&mut Clinic)), ("killed", Clinic::kill)] {
        for (damage, inflict) in damages {
            end(&mut cluster["north-1"]);
            inflict();
            cluster["north-1"].start();
            let back = cluster.path(&format!("back, {ending}, {damage}"));
            cluster["north-1"].get_all(&back);
            same_files(&records, &back).unwrap_or_else(|difference| panic!("{ending}, index {damage}: {difference}"));
        }
    }
}

fn for_each_file(folder: &Path, change: &dyn Fn(&mut Vec<u8>)) {
    for item in std::fs::read_dir(folder).unwrap() {
        let path = item.unwrap().path();
        if path.is_dir() {
            for_each_file(&path, change);
        } else {
            let mut bytes = std::fs::read(&path).unwrap();
            change(&mut bytes);
            std::fs::write(&path, bytes).unwrap();
        }
    }
}

fn flip_some_bytes(folder: &Path) {
    for_each_file(folder, &|bytes| bytes.iter_mut().step_by(97).for_each(|byte| *byte ^= 0x55));
}

fn cut_to_nothing(folder: &Path) {
    for_each_file(folder, &Vec::clear);
}
