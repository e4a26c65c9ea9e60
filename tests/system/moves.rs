//! Nodes that come, go, or lose what they had: what moves for it, and that nothing comes nearer to loss meanwhile.

use std::sync::atomic::{AtomicBool, Ordering};

use bithealth_tests::{Clinic, Cluster, bytes_of, text, wait_until, write};
use serde_json::Value;

/// Six shards of which four restore, for packs of seven nodes in three regions: one node is free, two may go.
const SIX: [&str; 2] = ["--survive", "0,1"];
const SEVEN: [&str; 7] = ["north-1", "north-2", "north-3", "south-1", "south-2", "east-1", "east-2"];

/// Who is silent for so long is away, not lost.
const NEVER: &str = "600000";
/// Who is silent for so long is lost: longer than it takes to connect with all who are there.
const SOON: &str = "10000";

/// Clinics that look for what is to be rebuilt several times a second, and tell whoever watches.
fn busy(names: &[&str], lost_after_ms: &str) -> Cluster {
    Cluster::start_with(names, |clinic| prepare(clinic, lost_after_ms))
}

fn prepare(clinic: &Clinic, lost_after_ms: &str) {
    clinic.configure_also("metrics_listen", "\"127.0.0.1:0\"");
    clinic.configure("repair_after_ms", lost_after_ms);
    clinic.configure("repair_look_ms", "100");
    clinic.configure("repair_bytes_per_s", "0");
    clinic.configure("widen_ms", "300");
    clinic.configure("audit_interval_ms", "0");
}

/// As many packs as there are records, each of one of them.
fn put_packs(cluster: &Cluster, clinic: &str, numbers: std::ops::Range<u64>, more: &[&str]) {
    for number in numbers {
        let record = cluster.path(&format!("record {number}"));
        write(&record, bytes_of(number, (3 << 20) + 70_000 * number as usize));
        cluster[clinic].put_replicated(&record, &[&SIX, more].concat());
    }
}

fn held(clinic: &Clinic) -> u64 {
    clinic.status()["bytes"]["held_for_others"].as_u64().expect("a number of bytes")
}

/// How many more nodes the pack nearest to loss would survive; no pack is at hand before the first look.
fn least_margin(status: &Value) -> Option<i64> {
    let margins = status["repair"]["margins"].as_array().map(Vec::as_slice).unwrap_or_default();
    margins.iter().filter_map(|at| at["margin"].as_i64()).min()
}

fn packs(status: &Value) -> u64 {
    let margins = status["repair"]["margins"].as_array().map(Vec::as_slice).unwrap_or_default();
    margins.iter().filter_map(|at| at["all"].as_u64()).sum()
}

/// So many packs stand, each with this margin, and no shard is missing.
fn stand(status: &Value, count: u64, margin: i64) -> bool {
    status["repair"]["missing_shards"] == 0 && packs(status) == count && least_margin(status) == Some(margin)
}

fn rebuilt(clinic: &Clinic) -> u64 {
    clinic.metrics().value("bithealth_repair_rebuilt_shards_total", &[]) as u64
}

/// Waits until each shard of these packs stands once: who stepped in for one that was late drops its copy.
fn settle(cluster: &Cluster, count: u64) -> Vec<(String, u64)> {
    cluster["north-1"].wait_for("all packs stand", |status| stand(status, count, 2));
    wait_until("each shard stands once", || {
        let holders: Vec<(String, u64)> =
            cluster.clinics().iter().filter(|it| it.is_up()).map(|it| (it.name.clone(), held(it))).collect();
        let due = cluster["north-1"].status()["members"]
            .as_array()
            .map_or(0, |members| members.iter().filter_map(|member| member["used"].as_u64()).sum());
        match holders.iter().map(|(_, held)| held).sum::<u64>() {
            all if all == due && due > 0 => Ok(holders),
            all => Err(format!("{all} bytes are held, {due} are due")),
        }
    })
}

/// Whether `look` holds all the time while `work` goes on, as often as it can be asked.
fn throughout<T>(look: impl Fn() -> Result<(), String> + Send + Sync, work: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let watching = scope.spawn(|| {
            let mut looks = 0;
            while !over.load(Ordering::Relaxed) {
                look()?;
                looks += 1;
            }
            Ok::<_, String>(looks)
        });
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        let looks = watching.join().expect("looking does not panic").unwrap_or_else(|lack| panic!("{lack}"));
        assert!(looks > 0, "somebody looked");
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

#[test]
fn a_member_that_leaves_is_drained_before_it_goes_and_nothing_comes_nearer_to_loss_meanwhile() {
    let mut cluster = busy(&SEVEN, NEVER);
    put_packs(&cluster, "north-1", 0..4, &["--for", "east-1"]);
    let before = settle(&cluster, 4);
    let all: u64 = before.iter().map(|(_, held)| held).sum();
    let others = before.iter().filter(|(name, held)| *held > 0 && !["north-1", "east-1"].contains(&name.as_str()));
    let leaving = others.max_by_key(|(_, held)| *held).expect("others hold shards").0.clone();
    let key_file = text(cluster[&*leaving].key_file()).to_owned();

    let refused = cluster[&*leaving].ask(&["admin", "offer", "0", "--key-file", &key_file]);
    assert!(refused.exit == 1 && refused.error.contains("bithealth stop"), "{refused:?}");
    cluster[&*leaving].stop();
    // Seen, so that what is seen next is that it is back, and not what was before.
    cluster["north-1"].wait_for("it is away", |status| least_margin(status) == Some(1));
    cluster[&*leaving].done(&["admin", "offer", "0", "--key-file", &key_file]);
    cluster[&*leaving].start();
    // As for any other restart, its shards did not answer for a moment; from here on they do, until others have them.
    let north = &cluster["north-1"];
    north.wait_for("it is back", |status| least_margin(status) == Some(2));
    let is_safe = || match north.status() {
        status if least_margin(&status) == Some(2) && packs(&status) == 4 => Ok(()),
        status => Err(format!("not every pack would survive the loss of two: {}", status["repair"])),
    };
    let leaver = &cluster[&*leaving];
    throughout(is_safe, || {
        wait_until("others have what it held", || match held(leaver) {
            0 => Ok(()),
            left => Err(format!("it holds {left} bytes; {}", north.status()["repair"])),
        });
        let warnings = leaver.status()["warnings"].to_string();
        assert!(!warnings.contains("offers nothing to others any more"), "it may go, and says so no more: {warnings}");
        let kept: u64 = cluster.clinics().iter().map(held).sum();
        assert_eq!(kept, all, "each shard stands once, as before");
        // And only now it is let go.
        let proposed = north.done(&["admin", "propose", "remove", &leaving]);
        let id = proposed.value()["id"].as_str().expect("an id is a text").to_owned();
        for voter in cluster.clinics().iter().filter(|it| it.name != "north-1" && it.name != leaving).take(4) {
            wait_until(&format!("{} approves", voter.name), || match voter.ask(&["admin", "approve", &id]) {
                approved if approved.exit == 0 => Ok(()),
                refused => Err(refused.error),
            });
        }
        north.wait_for("it is no member", |status| !status["members"].to_string().contains(&leaving));
    });
    cluster[&*leaving].kill();
    cluster["north-1"].wait_for("nothing is missing without it", |status| stand(status, 4, 2));
    let moved: u64 = cluster.clinics().iter().filter(|it| it.is_up()).map(rebuilt).sum();
    let held_before = before.iter().find(|(name, _)| *name == leaving).expect("it was there").1;
    assert!(
        moved > 0 && moved <= 4,
        "{moved} shards moved: it had at most one of each pack, {held_before} bytes in all"
    );
}

#[test]
fn what_a_lost_member_held_is_sent_once_by_its_author_parity_as_data() {
    let mut cluster = busy(&SEVEN, SOON);
    put_packs(&cluster, "north-1", 0..6, &[]);
    let before = settle(&cluster, 6);
    let others = before.iter().filter(|(name, _)| name != "north-1");
    let (lost, had) = others.max_by_key(|(_, held)| *held).expect("others hold shards").clone();
    cluster[&*lost].kill();
    let left = || cluster.clinics().iter().filter(|clinic| clinic.is_up());
    let received = |clinic: &Clinic| {
        clinic.metrics().value("bithealth_exchange_received_bytes_total", &[("purpose", "repair")]) as u64
    };
    // Who dropped a copy that was spare had asked for some leaves of another.
    let received_before: u64 = left().map(received).sum();

    cluster["north-1"].wait_for("it is away", |status| least_margin(status) == Some(1));
    cluster["north-1"].wait_for("nothing is missing without it", |status| stand(status, 6, 2));

    let bytes = |clinic: &Clinic| clinic.metrics().value("bithealth_repair_rebuilt_bytes_total", &[]) as u64;
    assert_eq!(left().map(bytes).sum::<u64>(), had, "what it held was rebuilt");
    assert_eq!(left().map(received).sum::<u64>() - received_before, had, "and as much was sent for it");
}

#[test]
fn a_new_member_takes_over_what_is_missing_and_not_one_shard_more() {
    // Four nodes, each with one of four shards of which two restore: no node is free.
    let mut cluster = busy(&["north-1", "south-1", "east-1", "west-1"], SOON);
    put_packs(&cluster, "north-1", 0..3, &[]);
    let before = settle(&cluster, 3);
    let of = |name: &str| before.iter().find(|(it, _)| it == name).expect("it was there").1;
    cluster["west-1"].kill();
    let lost = of("west-1");
    // Nobody can take them, and the policy holds without them: they wait for somebody who can.
    cluster["north-1"].wait_for("its shards are missing", |status| {
        let repair = &status["repair"];
        repair["missing_shards"] == 3 && repair["untaken_shards"] == 3 && repair["waiting_packs"] == 3
    });

    let mut new = cluster.clinic("west-2");
    new = cluster.admit(new, &["south-1", "east-1"]);
    prepare(&new, SOON);
    new.start();

    new.wait_for("it has what was lost", |status| status["bytes"]["held_for_others"] == lost);
    cluster["north-1"].wait_for("nothing is missing", |status| stand(status, 3, 2));
    let moves =
        |clinic: &Clinic| clinic.metrics().value("bithealth_exchange_received_bytes_total", &[("purpose", "place")]);
    for name in ["north-1", "south-1", "east-1"] {
        assert_eq!(held(&cluster[name]), of(name), "{name} holds what it held");
        assert_eq!(rebuilt(&cluster[name]), 0, "{name} rebuilt nothing");
        assert!(moves(&cluster[name]) <= 1.02 * of(name) as f64, "nothing was brought to {name} a second time");
    }
    assert_eq!(rebuilt(&new), 3, "one shard of each pack: as few as there are");
}

#[test]
fn a_new_member_of_a_whole_network_gets_its_share_of_what_comes_and_nothing_moves_to_it() {
    let cluster = busy(&SEVEN, NEVER);
    put_packs(&cluster, "north-1", 0..3, &[]);
    let before = settle(&cluster, 3);
    let mut new = cluster.admit(cluster.clinic("east-3"), &["north-2", "south-1", "south-2", "east-1"]);
    prepare(&new, NEVER);
    new.start();
    cluster.wait_until_joined(8);

    // More than can all pass it by: each goes to six of eight nodes.
    put_packs(&cluster, "north-1", 3..15, &[]);

    let north = &cluster["north-1"];
    north.wait_for("all stand", |status| stand(status, 15, 2));
    let share = wait_until("it has its share", || match held(&new) {
        0 => Err("it holds nothing".to_owned()),
        held => Ok(held),
    });
    let received = new.metrics().value("bithealth_exchange_received_bytes_total", &[("purpose", "place")]) as u64;
    assert!(received >= share, "what it holds was pushed to it as it came");
    assert_eq!(rebuilt(&new), 0, "nothing was rebuilt on it");
    for (name, had) in &before {
        assert!(held(&cluster[name.as_str()]) >= *had, "{name} gave nothing away");
        assert_eq!(rebuilt(&cluster[name.as_str()]), 0);
    }
}

#[test]
fn a_node_whose_store_was_emptied_is_made_whole_again_by_itself() {
    let mut cluster = busy(&SEVEN, NEVER);
    put_packs(&cluster, "north-1", 0..3, &["--for", "east-1"]);
    let before = settle(&cluster, 3);
    let others = before.iter().filter(|(name, held)| *held > 0 && !["north-1", "east-1"].contains(&name.as_str()));
    let (wiped, had) = others.max_by_key(|(_, held)| *held).expect("others hold shards").clone();
    // It has a record of its own, and its log has entries: both are gone with the store.
    let own = cluster.path("own");
    write(&own, bytes_of(99, 3 << 20));
    cluster[&*wiped].done(&["put", text(&own), SIX[0], SIX[1], "--wait", "final"]);
    cluster["north-1"].wait_for("all packs stand", |status| stand(status, 4, 2));
    let node = cluster[&*wiped].status()["node"].clone();

    cluster[&*wiped].stop();
    std::fs::remove_dir_all(cluster[&*wiped].home.join("store")).expect("the store can be deleted");
    cluster[&*wiped].configure("repair_after_ms", SOON);
    // While nobody tells it what it wrote it writes nothing, where others have entries of it.
    let others = SEVEN.iter().filter(|name| **name != wiped);
    others.clone().for_each(|name| cluster[*name].pause());
    cluster[&*wiped].start();
    let (early, proof) = (cluster.path("record 0"), cluster.path("early.proof"));
    let early = cluster[&*wiped].ask(&["notarise", text(&early), "-o", text(&proof), "--timeout", "1s"]);
    assert!(early.exit != 0 && early.error.contains("the store of this node was lost"), "{early:?}");
    others.for_each(|name| cluster[*name].resume());

    let healed = cluster[&*wiped].wait_for("it has everything again", |status| {
        status["bytes"]["held_for_others"] == had && status["own_records"] == 1 && stand(status, 4, 2)
    });
    assert_eq!(healed["node"], node, "it is the node it was");
    let page = wait_until("its metrics say so", || match cluster[&*wiped].metrics() {
        page if page.value("bithealth_repair_rebuilt_bytes_total", &[]) as u64 == had => Ok(page),
        page => Err(format!("{had} bytes are due: {page:?}")),
    });
    assert_eq!(page.value("bithealth_repair_missing_shards", &[]), 0.0);
    assert_eq!(page.value("bithealth_repair_waiting_packs", &[]), 0.0);
    assert_eq!(page.value("bithealth_repair_remaining_seconds", &[]), 0.0);
    // Nobody has anything against it, and it writes on in its log where that ended.
    let status = cluster["north-1"].status();
    assert_eq!(status["finality"]["accused"].as_array().map(Vec::len), Some(0), "{status}");
    let (more, proof) = (cluster.path("more"), cluster.path("more.proof"));
    write(&more, bytes_of(98, 100_000));
    wait_until("it writes again", || match cluster[&*wiped].ask(&["notarise", text(&more), "-o", text(&proof)]) {
        done if done.exit == 0 => Ok(()),
        refused => Err(refused.error),
    });
    let verified = cluster[&*wiped].done(&["verify", "--full"]);
    assert_eq!(verified.events("done").next().expect("it ends")["damaged"], 0, "{verified:?}");
    // Its own record and its shards are worth what they were: any two others may go.
    let back = cluster.path("back");
    let record = cluster[&*wiped].record_named("own");
    cluster[&*wiped].done(&["get", &record, "--output", text(&back)]);
    assert!(std::fs::read(&back).unwrap() == bytes_of(99, 3 << 20), "its own record came back changed");
    let gone: Vec<String> = before.iter().map(|(name, _)| name.clone()).collect();
    let gone = gone.into_iter().filter(|name| ![&*wiped, "east-1"].contains(&name.as_str())).take(2);
    gone.for_each(|name| cluster[&*name].kill());
    let (record, back) = (cluster["east-1"].record_named("record 0"), cluster.path("back 0"));
    cluster["east-1"].done(&["get", &record, "--output", text(&back)]);
    assert!(std::fs::read(&back).unwrap() == bytes_of(0, 3 << 20), "the record came back changed");
}
