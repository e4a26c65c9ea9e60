//! A node that runs from an old copy of its folder signs what it signed before in another way.

use std::path::Path;

use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, write};
use serde_json::Value;

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let path = to.join(entry.file_name());
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => copy(&entry.path(), &path),
            kind if kind.is_file() => drop(std::fs::copy(entry.path(), path).unwrap()),
            _ => {} // the socket
        }
    }
}

/// The evidence that a clinic shows.
fn accused(status: &Value) -> &[Value] {
    status["finality"]["accused"].as_array().map(Vec::as_slice).unwrap_or_default()
}

/// Writes an entry to the log of a clinic's node; the proof goes to a new file.
fn notarise(clinic: &Clinic, file: &Path, proof: &str, timeout: &str) -> Answer {
    let proof = file.with_extension(proof);
    clinic.ask(&["notarise", file.to_str().unwrap(), "--output", proof.to_str().unwrap(), "--timeout", timeout])
}

#[test]
fn a_node_started_from_an_old_copy_is_found_out_everywhere_and_its_clinic_comes_back_with_its_kit() {
    let names = ["north-1", "south-1", "east-1", "west-1"];
    let mut cluster = Cluster::start(&names);
    for clinic in cluster.clinics() {
        clinic.wait_for("everybody votes", |status| status["finality"]["validators"] == names.len());
    }
    let (kit, file, old) = (cluster.path("kit"), cluster.path("letter"), cluster.path("old"));
    write(&file, bytes_of(1, 5_000));
    let node = cluster["west-1"].status()["node"].clone();
    cluster["west-1"].stop();
    copy(&cluster["west-1"].home.clone(), &old);
    cluster["west-1"].start();
    assert_eq!(notarise(&cluster["west-1"], &file, "first", "60s").exit, 0);
    cluster["west-1"].stop();

    // The copy does not know of that entry, and writes another one in its place before anybody can tell it.
    let others = ["north-1", "south-1", "east-1"];
    others.iter().for_each(|other| cluster[other].pause());
    cluster["west-1"].delete();
    std::fs::rename(&old, &cluster["west-1"].home).unwrap();
    cluster["west-1"].start();
    let alone = notarise(&cluster["west-1"], &file, "second", "1s");
    assert!(alone.exit != 0 && alone.said().contains("no block covers it"), "{alone:?}");
    others.iter().for_each(|other| cluster[other].resume());
    for clinic in others.map(|name| &cluster[name]) {
        let status = clinic.wait_for("the evidence is final", |status| {
            accused(status).first().is_some_and(|it| it["height"].is_u64()) && status["finality"]["validators"] == 3
        });
        let found = &accused(&status)[0];
        assert_eq!((&found["key"], &found["offence"]), (&node, &Value::from("two_entries")), "{found}");
        assert_eq!(found["organisation"], "west-1");
    }

    // The others go on, and remember.
    assert_eq!(notarise(&cluster["north-1"], &file, "third", "60s").exit, 0);
    cluster["north-1"].kill();
    cluster["north-1"].start();
    assert_eq!(accused(&cluster["north-1"].status()).len(), 1);
    let written =
        cluster["north-1"].done(&["ledger", "evidence", "--output", cluster.path("evidence").to_str().unwrap()]);
    assert_eq!(written.value()["evidence"], 1);
    let (evidence, genesis) = (cluster.path("evidence"), cluster.path("genesis.json"));
    cluster["north-1"].done(&["ledger", "genesis", "--output", genesis.to_str().unwrap()]);
    let check = ["ledger", "check", evidence.to_str().unwrap(), "--genesis", genesis.to_str().unwrap()];
    let convicted = cluster.clinic("outside-1").done(&check);
    assert_eq!(convicted.value()["convicted"][0], format!("node {}", node.as_str().unwrap()), "{convicted:?}");

    // The frozen node says what to do, and its clinic does it.
    let refused = cluster["west-1"].wait_for("it has heard", |status| !accused(status).is_empty());
    assert!(refused["warnings"].to_string().contains("bithealth restore"), "{refused}");
    let put = notarise(&cluster["west-1"], &file, "fourth", "1s");
    assert!(put.exit != 0 && put.said().contains("frozen"), "{put:?}");
    cluster["west-1"].kit(&kit);
    cluster["west-1"].kill();
    cluster["west-1"].delete();
    std::fs::remove_file(cluster["west-1"].key_file()).unwrap();
    let restored = cluster["west-1"].restore(&kit, &cluster.path("back"));
    assert_eq!(restored.exit, 0, "{restored:?}");
    cluster["west-1"].start();
    cluster["north-1"].wait_for("it votes again", |status| status["finality"]["validators"] == 4);
    assert_eq!(notarise(&cluster["west-1"], &file, "fifth", "60s").exit, 0);
}
