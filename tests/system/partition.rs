//! Networks that fall apart: what each side can still do, and that there is one history once they are whole again (P2, P3).

use std::collections::BTreeSet;

use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, wait_until, write};
use bithealth_types::Digest;
use serde_json::Value;

use super::history::{digests, one_history};

const NORTH: [&str; 3] = ["north-1", "north-2", "north-3"];
const SOUTH: [&str; 3] = ["south-1", "south-2", "south-3"];
const EAST: [&str; 3] = ["east-1", "east-2", "east-3"];
/// Six of nine decide.
const NINE: usize = 9;
/// Blocks after the network is whole again until everything that waited is final.
const BLOCKS_MAX: u64 = 3;

fn all() -> Vec<&'static str> {
    [NORTH, SOUTH, EAST].concat()
}

fn nine() -> Cluster {
    let cluster = Cluster::start_wired(&all());
    for clinic in cluster.clinics() {
        clinic.wait_for("everybody votes", |status| status["finality"]["validators"] == NINE);
    }
    cluster
}

/// Waits until no block is due at these clinics and all have the same ones, whose digests are returned.
fn quiet(cluster: &Cluster, names: &[&str]) -> Vec<Digest> {
    wait_until("no block is due", || {
        let waiting = |name: &&str| cluster[name].status()["finality"]["waiting"] != 0;
        if let Some(name) = names.iter().copied().find(waiting) {
            return Err(format!("entries wait at {name}"));
        }
        let histories: Vec<_> = names.iter().map(|name| digests(&cluster[name])).collect();
        let lens: Vec<_> = histories.iter().map(Vec::len).collect();
        if histories.iter().all(|it| *it == histories[0]) { Ok(histories[0].clone()) } else { Err(format!("{lens:?}")) }
    })
}

/// Takes the network apart, and waits until everybody says who is missing.
fn part(cluster: &mut Cluster, sides: &[&[&str]]) {
    cluster.part(sides);
    for side in sides {
        let missing: BTreeSet<&str> = all().into_iter().filter(|it| !side.contains(it)).collect();
        for name in *side {
            cluster[name].wait_for("says who is missing", |status| {
                let named = status["finality"]["missing"].as_array().map(Vec::as_slice).unwrap_or_default();
                status["finality"]["present"] == side.len()
                    && named.iter().filter_map(Value::as_str).collect::<BTreeSet<_>>() == missing
            });
        }
    }
}

/// Puts the network together again, and waits until everybody sees everybody; the height there is then.
fn reunite(cluster: &mut Cluster) -> u64 {
    cluster.reunite();
    let whole = |clinic: &Clinic| clinic.wait_for("is whole", |status| status["finality"]["present"] == NINE);
    let heights = cluster.clinics().iter().map(|clinic| height(&whole(clinic)));
    heights.max().expect("there are clinics")
}

fn height(status: &Value) -> u64 {
    status["height"].as_u64().expect("a height is a number")
}

/// Puts a record of that name at a clinic, and waits for what it is told to.
fn put(cluster: &Cluster, clinic: &str, name: &str, args: &[&str]) -> Answer {
    let record = cluster.path(name);
    write(&record, bytes_of(name.len() as u64, 5_000));
    cluster[clinic].ask(&[&["put", record.to_str().unwrap()], args].concat())
}

/// The state a put ended with.
fn state(put: &Answer) -> (i32, &str) {
    let done = put.events("done").next().unwrap_or_else(|| panic!("a put ends: {put:?}"));
    (put.exit, done["state"].as_str().expect("a state is text"))
}

fn put_final(cluster: &Cluster, clinic: &str, name: &str) {
    let put = put(cluster, clinic, name, &["--wait", "final", "--timeout", "60s"]);
    assert_eq!(state(&put), (0, "final"), "{put:?}");
}

/// On a side that cannot decide: a record is kept, and replicated if `survive` can be had there. The heights after it
/// are `known`, and no more.
fn put_waiting(cluster: &Cluster, clinic: &str, survive: &str, known: &[Digest]) {
    let name = format!("waiting-{clinic}");
    let kept = put(cluster, clinic, &name, &["--survive", survive, "--wait", "replicated", "--timeout", "60s"]);
    assert_eq!(state(&kept), (0, "replicated"), "{kept:?}");
    let waited = put(cluster, clinic, &format!("more-{clinic}"), &["--wait", "final", "--timeout", "2s"]);
    assert_ne!(state(&waited), (0, "final"), "{waited:?}");
    assert_eq!(digests(&cluster[clinic]), known, "{clinic} decided a block without a quorum");
    assert!(cluster[clinic].status()["finality"]["waiting"].as_u64() >= Some(1));
}

/// Waits until what was put by [`put_waiting`] is final; the last height of it.
fn waited_is_final(cluster: &Cluster, clinics: &[&str]) -> u64 {
    let covered = |clinic: &str| {
        wait_until(&format!("what waited at {clinic} is final"), || {
            let listed = cluster[clinic].done(&["ls", &format!("waiting-{clinic}")]);
            let record = listed.value();
            let height = record["height"].as_u64().filter(|_| record["state"] == "final");
            height.ok_or_else(|| record.to_string())
        })
    };
    clinics.iter().map(|clinic| covered(clinic)).max().expect("something waited")
}

#[test]
fn with_five_and_four_apart_nothing_is_final_and_everything_soon_after() {
    let mut cluster = nine();
    put_final(&cluster, "north-1", "before");
    let (five, four) = ([NORTH.as_slice(), &SOUTH[..2]].concat(), [&SOUTH[2..], &EAST].concat());
    let known = quiet(&cluster, &all());
    part(&mut cluster, &[&five, &four]);
    for clinic in ["north-1", "east-1"] {
        put_waiting(&cluster, clinic, "1,0", &known);
    }
    let whole = reunite(&mut cluster);
    let last = waited_is_final(&cluster, &["north-1", "east-1"]);
    eprintln!("height {} when parted, {whole} when whole, all final at {last}", known.len());
    assert!(last <= whole + BLOCKS_MAX, "within {BLOCKS_MAX} blocks: {whole} to {last}");
    one_history(&cluster, &known);
}

#[test]
fn with_a_region_away_six_decide_and_with_all_three_apart_nobody_until_they_are_back() {
    let mut cluster = nine();
    put_final(&cluster, "east-1", "before");
    let before = quiet(&cluster, &all());
    let six = [NORTH, SOUTH].concat();
    part(&mut cluster, &[&six, &EAST]);
    put_final(&cluster, "north-1", "six");
    put_waiting(&cluster, "east-1", "0,1", &before);

    let known = quiet(&cluster, &six);
    assert!(known.len() > before.len() && known.starts_with(&before));
    part(&mut cluster, &[&NORTH, &SOUTH, &EAST]);
    for clinic in ["north-2", "south-2"] {
        put_waiting(&cluster, clinic, "0,1", &known);
    }
    assert_eq!(digests(&cluster["east-2"]), before);

    let whole = reunite(&mut cluster);
    let last = waited_is_final(&cluster, &["north-2", "south-2", "east-1"]);
    eprintln!("height {} when parted, {whole} when whole, all final at {last}", known.len());
    assert!(last <= whole + BLOCKS_MAX, "within {BLOCKS_MAX} blocks: {whole} to {last}");
    one_history(&cluster, &known);
}
