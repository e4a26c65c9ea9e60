//! What the members decide by vote: who comes, who goes, who votes, where nodes stand, what records survive.

use std::path::Path;

use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, files_of, text, wait_until, write};
use serde_json::Value;

/// The proposal as a clinic sees it.
fn proposal(clinic: &Clinic, id: &str) -> Result<Value, String> {
    let all = clinic.done(&["admin", "proposals"]).lines;
    all.iter().find(|it| it["id"] == id).cloned().ok_or_else(|| format!("{id} is not in {all:?}"))
}

fn id_of(proposed: &Answer) -> String {
    proposed.value()["id"].as_str().expect("an id is a text").to_owned()
}

/// Approves by the first digits of the id, once the clinic has heard of it.
fn approve(clinic: &Clinic, id: &str) -> Answer {
    wait_until(&format!("{} hears of the proposal", clinic.name), || proposal(clinic, id));
    clinic.done(&["admin", "approve", &id[..12]])
}

/// Proposed by the first of these, approved by the others, in a block that the first knows.
fn decide(clinics: &[&Clinic], change: &[&str]) {
    let (first, others) = clinics.split_first().expect("somebody proposes");
    let id = id_of(&first.done(&[&["admin", "propose"], change].concat()));
    others.iter().for_each(|clinic| drop(approve(clinic, &id)));
    wait_until("it passed with a block", || match proposal(first, &id)? {
        it if it["passed"] == true && it["height"].is_u64() => Ok(()),
        it => Err(it.to_string()),
    });
}

fn names(status: &Value) -> Vec<&str> {
    status["members"].as_array().unwrap().iter().map(|member| member["name"].as_str().unwrap()).collect()
}

#[test]
fn a_clinic_joins_when_a_quorum_of_the_members_approved_it_and_not_before() {
    let cluster = Cluster::start(&["north-1", "south-1", "east-1", "west-1"]);
    let mut new = cluster.clinic("late-1");
    let [north, south, east] = ["north-1", "south-1", "east-1"].map(|name| &cluster[name]);
    let invite = north.done(&["invite", "late-1", "--region", "late", "--jurisdiction", "EU"]);
    let text = invite.value()["text"].as_str().unwrap();
    let id = invite.value()["proposal"]["id"].as_str().unwrap();

    let refused = new.join(text);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("1 of 3"), "{refused:?}");
    assert!(!new.home.join("keys.bin").exists());

    approve(south, id);
    let again = south.ask(&["admin", "approve", id]);
    assert_eq!(again.exit, 1, "{again:?}");
    wait_until("north counts two", || match proposal(north, id)? {
        it if it["approved_by"].as_array().unwrap().len() == 2 && it["passed"] == false => Ok(()),
        it => Err(it.to_string()),
    });
    let refused = new.join(text);
    assert!(refused.exit == 1 && refused.error.contains("2 of 3"), "{refused:?}");

    approve(east, id);
    wait_until("the third approval is counted", || match proposal(north, id)? {
        it if it["passed"] == true => Ok(()),
        it => Err(it.to_string()),
    });
    let joined = new.join(text);
    assert_eq!(joined.exit, 0, "{joined:?}");
    assert_eq!(joined.value()["organisation"], "late-1", "the name is the one that was voted on");
    new.start();
    for clinic in cluster.clinics().iter().chain([&new]) {
        clinic.wait_for("five decide", |status| status["finality"]["validators"] == 5);
    }
    new.stop();
}

#[test]
fn who_is_voted_out_decides_nothing_and_holds_nothing_new_and_its_records_stay() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1", "west-1"]);
    let record = cluster.path("record");
    write(&record, bytes_of(1, 100_000));
    cluster["west-1"].done(&["put", text(&record), "--for", "north-1", "--survive", "0,1", "--wait", "final"]);
    let [north, south, east] = ["north-1", "south-1", "east-1"].map(|name| &cluster[name]);

    decide(&[north, south, east], &["voting", "west-1", "off"]);
    north.wait_for("three decide", |status| status["finality"]["validators"] == 3);
    assert_eq!(names(&north.status()).len(), 4, "west is a member as before");

    decide(&[north, south], &["remove", "west-1"]);
    north.wait_for("west is no member", |status| !names(status).contains(&"west-1"));
    let status = north.status();
    let node = status["nodes"].as_array().unwrap().iter().find(|node| node["name"] == "west-1").unwrap();
    assert_eq!(node["retired"], true);
    let unknown = north.ask(&["admin", "propose", "voting", "west-1", "on"]);
    assert!(unknown.exit == 1 && unknown.error.contains("west-1"), "{unknown:?}");

    // What it shared is read as before, also without it.
    let listed = north.done(&["ls"]).lines;
    cluster["west-1"].kill();
    let output = cluster.path("back");
    let north = &cluster["north-1"];
    north.done(&["get", listed[0]["record"].as_str().unwrap(), "-o", text(&output)]);
    assert_eq!(std::fs::read(&output).unwrap(), bytes_of(1, 100_000));
}

#[test]
fn a_clinic_votes_with_a_new_key_and_the_old_one_is_destroyed() {
    let mut cluster = Cluster::start(&["north-1"]);
    let clinic = &mut cluster["north-1"];
    let unlock = ["--key-file".to_owned(), clinic.key_file().to_str().unwrap().to_owned()];
    let rotate = ["admin", "rotate-key", &unlock[0], &unlock[1]];
    let refused = clinic.ask(&rotate);
    assert!(refused.exit == 1 && refused.error.contains("bithealth stop"), "{refused:?}");
    clinic.stop();
    let keys = || std::fs::read(clinic.home.join("keys.bin")).unwrap();
    let before = keys();
    let certificate = clinic.home.join("certificate.bin");
    let former = std::fs::read(&certificate).unwrap();
    let key = clinic.done(&rotate).value()["validator"].clone();
    assert!(keys() != before && key.is_string());
    // Cut off between the two files, it goes on with the key it made.
    std::fs::write(&certificate, former).unwrap();
    assert_eq!(clinic.done(&rotate).value()["validator"], key);
    let again = clinic.ask(&rotate);
    assert!(again.exit == 1 && again.error.contains("still kept"), "{again:?}");
    // Alone it is the quorum: the old key decides the block that lets the new one vote, which decides the next.
    clinic.start();
    let record = clinic.home.with_extension("record");
    for number in 0..2 {
        write(&record, bytes_of(number, 100));
        let proof = clinic.home.with_extension(format!("proof-{number}"));
        clinic.done(&["notarise", text(&record), "-o", text(&proof)]);
    }
    clinic.done(&["ledger", "verify"]);
    clinic.stop();
    let kept = std::fs::read(clinic.home.join("keys.bin")).unwrap();
    clinic.start();
    assert_ne!(std::fs::read(clinic.home.join("keys.bin")).unwrap(), kept, "the former key is gone");
    clinic.stop();
    clinic.done(&rotate);
}

#[test]
fn a_clinic_whose_kit_was_stolen_goes_on_with_new_keys_and_the_stolen_one_restores_nothing() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let [stolen, kit, early, late] = ["stolen", "kit", "early", "late"].map(|name| cluster.path(name));
    let south_record = cluster.path("from-south");
    write(&early, bytes_of(1, 50_000));
    write(&late, bytes_of(2, 50_000));
    write(&south_record, bytes_of(3, 50_000));
    let survive = ["--survive", "0,1", "--wait", "final"];
    let put = |clinic: &Clinic, path: &Path, more: &[&str]| {
        clinic.done(&[&["put", text(path)], &survive[..], more].concat());
    };
    put(&cluster["north-1"], &early, &[]);
    cluster["north-1"].done(&["kit", "--output", text(&stolen)]);

    let unlock = text(cluster["north-1"].key_file()).to_owned();
    let clinic = &mut cluster["north-1"];
    clinic.stop();
    clinic.done(&["admin", "rotate-key", "--organisation", "--key-file", &unlock]);
    clinic.start();
    let unprinted = clinic.ask(&["admin", "propose", "keys"]);
    assert!(unprinted.exit == 1 && unprinted.error.contains("bithealth kit"), "{unprinted:?}");
    clinic.done(&["kit", "--output", text(&kit)]);
    // Until the members approved, all goes on with the old keys, and both kits restore.
    let [north, south, east] = ["north-1", "south-1", "east-1"].map(|name| &cluster[name]);
    put(south, &south_record, &["--for", "north-1"]);
    decide(&[north, south], &["keys"]);
    let again = north.ask(&["admin", "propose", "keys"]);
    assert!(again.exit == 1 && again.error.contains("has the newest keys"), "{again:?}");
    put(north, &late, &[]);
    write(&south_record, bytes_of(4, 50_000));
    put(south, &south_record, &["--for", "north-1"]);
    for clinic in [north, south, east] {
        clinic.wait_for("it sees all records of north", |status| status["height"] == south.status()["height"]);
    }

    cluster.lose("north");
    let back = cluster.path("back");
    let refused = cluster.clinic("north-1").restore(&stolen, &back);
    assert!(refused.exit == 1 && refused.error.contains("signs with another key"), "{refused:?}");
    let restored = cluster.clinic("north-1");
    let answer = restored.restore(&kit, &back);
    assert_eq!(answer.exit, 0, "{answer:?}");
    let files: Vec<Vec<u8>> = files_of(&back).into_values().collect();
    for number in [1, 2] {
        assert!(files.contains(&bytes_of(number, 50_000)), "record {number} is not among {} files", files.len());
    }
    // What was sealed for it, before and after, it reads too.
    cluster["north-1"].start();
    let north = &cluster["north-1"];
    let shared = wait_until("north reads what south sealed for it", || {
        let listed = north.done(&["ls"]).lines;
        if listed.len() == 4 { Ok(listed) } else { Err(format!("{listed:?}")) }
    });
    let read = shared.iter().enumerate().map(|(at, line)| {
        let output = cluster.path(&format!("read-{at}"));
        north.done(&["get", line["record"].as_str().expect("a record has an id"), "-o", text(&output)]);
        std::fs::read(&output).unwrap()
    });
    let read: Vec<Vec<u8>> = read.collect();
    assert!((1..=4).all(|number| read.contains(&bytes_of(number, 50_000))));
}

#[test]
fn what_records_survive_is_decided_together_and_an_author_may_ask_for_more() {
    let cluster = Cluster::start(&["north-1", "north-2", "north-3"]);
    let [first, second, third] = ["north-1", "north-2", "north-3"].map(|name| &cluster[name]);
    // One region: the loss of a region cannot be survived, that of a node can.
    let record = |name: &str| {
        let path = cluster.path(name);
        write(&path, bytes_of(2, 5_000));
        path
    };
    decide(&[first, second], &["defaults", "0,1"]);
    third.wait_for("third knows of the block", |status| status["height"].as_u64() >= first.status()["height"].as_u64());
    third.done(&["put", text(&record("plain")), "--wait", "replicated"]);
    let more = record("more");
    let more = third.ask(&["put", text(&more), "--survive", "1,0", "--wait", "replicated", "--timeout", "2s"]);
    assert_ne!(more.exit, 0, "{more:?}");
}

#[test]
fn a_clinic_that_comes_back_in_another_place_holds_for_others_once_the_members_approve_it() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let kit = cluster.path("kit");
    cluster["east-1"].kit(&kit);
    cluster["east-1"].kill();
    let mut moved = Clinic::new(cluster.folder(), "moved-1", "elsewhere");
    let output = cluster.path("restored");
    assert_eq!(moved.restore(&kit, &output).exit, 0);
    moved.start();
    let warns = |status: &Value| status["warnings"].to_string().contains("admin propose labels");
    moved.wait_for("the place is not approved", warns);
    let [north, south] = ["north-1", "south-1"].map(|name| &cluster[name]);
    decide(&[north, south], &["labels", "east-1", "--region", "elsewhere", "--jurisdiction", "EU"]);
    moved.wait_for("the place is approved", |status| !warns(status));
    let at = |status: &Value| {
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().any(|node| node["region"] == "elsewhere" && node["in_block"] == true)
    };
    north.wait_for("the node counts there", at);

    // The node it replaces goes on its organisation's word alone.
    let node_of = |clinic: &Clinic| {
        let status = north.status();
        let nodes = status["nodes"].as_array().unwrap().clone();
        let found =
            nodes.into_iter().find(|node| node["region"] == clinic.region.as_str()).expect("it is on the ledger");
        found["node"].as_str().expect("an id is a text").to_owned()
    };
    let [lost, own, others] = [node_of(&cluster["east-1"]), node_of(&moved), node_of(south)];
    let refused = |id: &str, why: &str| {
        let refused = moved.ask(&["admin", "retire", id]);
        assert!(refused.exit == 1 && refused.error.contains(why), "{refused:?}");
    };
    refused(&own, "retires itself");
    refused(&others, "belongs to organisation");
    refused("zz", "bithealth status");
    moved.done(&["admin", "retire", &lost[..12]]);
    north.wait_for("the lost node is retired", |status| {
        let nodes = status["nodes"].as_array().unwrap();
        nodes.iter().any(|node| node["node"] == lost.as_str() && node["retired"] == true)
    });
    refused(&lost, "is retired");
}

#[test]
fn a_clinic_moves_to_another_place_with_all_it_has_once_the_members_approve_it() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let record = cluster.path("record");
    write(&record, bytes_of(1, 100_000));
    let put =
        cluster["east-1"].done(&["put", text(&record), "--for", "north-1", "--survive", "1,0", "--wait", "final"]);
    let id = put.events("record").next().unwrap()["record"].as_str().unwrap().to_owned();
    let key_file = text(cluster["east-1"].key_file()).to_owned();
    let too_long = "x".repeat(1000);
    let place = |region| ["admin", "move", "--region", region, "--jurisdiction", "EU", "--key-file", &key_file];
    let refused = cluster["east-1"].ask(&place("hill"));
    assert!(refused.exit == 1 && refused.error.contains("bithealth stop"), "{refused:?}");
    cluster["east-1"].stop();
    let refused = cluster["east-1"].ask(&place(&too_long));
    assert!(refused.exit == 1 && refused.error.contains("region"), "{refused:?}");
    cluster["east-1"].done(&place("hill"));
    cluster["east-1"].start();

    let east = &cluster["east-1"];
    let node = east.status()["node"].clone();
    let stands = |clinic: &Clinic, region: &str| {
        let at = |status: &Value| {
            let nodes = status["nodes"].as_array().unwrap();
            nodes.iter().any(|it| it["node"] == node && it["region"] == region && it["in_block"] == true)
        };
        clinic.wait_for(&format!("it stands in {region}"), at);
    };
    east.wait_for("the place is not approved", |it| it["warnings"].to_string().contains("admin propose labels"));
    decide(
        &[&cluster["north-1"], &cluster["south-1"]],
        &["labels", "east-1", "--region", "hill", "--jurisdiction", "EU"],
    );
    cluster.clinics().iter().for_each(|clinic| stands(clinic, "hill"));
    let back = cluster.path("back");
    cluster["north-1"].done(&["get", &id, "-o", text(&back)]);
    assert_eq!(std::fs::read(&back).unwrap(), bytes_of(1, 100_000));

    // The certificate is told once, not at every start.
    let entries = |clinic: &Clinic| clinic.done(&["verify"]).lines.last().unwrap()["entries"].as_u64().unwrap();
    let before = entries(&cluster["east-1"]);
    cluster["east-1"].stop();
    cluster["east-1"].start();
    assert_eq!(entries(&cluster["east-1"]), before);
    // And back, where it stood before: nobody needs to approve that again.
    cluster["east-1"].stop();
    cluster["east-1"].done(&place("east"));
    cluster["east-1"].start();
    cluster.clinics().iter().for_each(|clinic| stands(clinic, "east"));
}
