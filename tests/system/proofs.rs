//! Proofs that leave the network: checked with no node, against a genesis that was kept elsewhere.

use std::fs;
use std::path::Path;

use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, text, write};

/// Checks a proof as an outsider would: in a folder without a node.
fn check(outsider: &Clinic, proof: &Path, genesis: &Path, file: Option<&Path>) -> Answer {
    let mut args = vec!["ledger", "check", text(proof), "--genesis", text(genesis)];
    if let Some(file) = file {
        args.extend(["--file", text(file)]);
    }
    outsider.ask(&args)
}

#[test]
fn a_notarised_file_is_proven_unchanged_to_somebody_with_no_node_and_a_changed_one_is_not() {
    let cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let outsider = cluster.clinic("outside-1");
    let (file, genesis, proof) = (cluster.path("report.pdf"), cluster.path("genesis.json"), cluster.path("proof.json"));
    write(&file, bytes_of(1, 300_000));
    let clinic = &cluster["south-1"];
    clinic.done(&["ledger", "genesis", "-o", text(&genesis)]);
    clinic.done(&["notarise", text(&file), "-o", text(&proof)]);

    let checked = check(&outsider, &proof, &genesis, Some(&file));
    assert_eq!((checked.exit, checked.value()["proven"].as_bool()), (0, Some(true)), "{checked:?}");
    assert!(checked.value()["votes"].as_u64() >= Some(2), "a quorum of three: {checked:?}");

    // The same bytes elsewhere are the same file; one bit more is not.
    let copy = cluster.path("copy.pdf");
    fs::copy(&file, &copy).unwrap();
    assert_eq!(check(&outsider, &proof, &genesis, Some(&copy)).exit, 0);
    let mut bytes = fs::read(&copy).unwrap();
    bytes[1000] ^= 1;
    fs::write(&copy, bytes).unwrap();
    let changed = check(&outsider, &proof, &genesis, Some(&copy));
    assert!(changed.exit != 0 && changed.said().contains("is not the file that"), "{changed:?}");

    // A proof of another network, and a proof in which a letter was changed.
    let other = Cluster::start(&["west-1"]);
    let foreign = other.path("genesis.json");
    other["west-1"].done(&["ledger", "genesis", "-o", text(&foreign)]);
    let refused = check(&outsider, &proof, &foreign, None);
    assert!(refused.exit != 0 && refused.said().contains("proves nothing"), "{refused:?}");
    let forged = cluster.path("forged.json");
    let whole = fs::read_to_string(&proof).unwrap();
    let at = whole.find("\"bytes\": \"").unwrap() + 600;
    let letter = if &whole[at..=at] == "A" { "B" } else { "A" };
    fs::write(&forged, format!("{}{letter}{}", &whole[..at], &whole[at + 1..])).unwrap();
    let refused = check(&outsider, &forged, &genesis, None);
    assert!(refused.exit != 0 && refused.said().contains("proves nothing"), "{refused:?}");
}

#[test]
fn a_record_is_proven_to_be_on_the_ledger_and_the_history_verifies_from_headers_alone() {
    let cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let outsider = cluster.clinic("outside-1");
    let (file, genesis, proof) = (cluster.path("record"), cluster.path("genesis.json"), cluster.path("proof.json"));
    write(&file, bytes_of(2, 20_000));
    let clinic = &cluster["north-1"];
    clinic.done(&["put", text(&file), "--for", "south-1", "--wait", "final", "--timeout", "60s"]);
    let record = clinic.record_named("record");
    // An organisation that may read it proves it as well.
    assert_eq!(cluster["south-1"].record_named("record"), record);
    cluster["south-1"].done(&["ledger", "prove", &record, "-o", text(&proof)]);
    clinic.done(&["ledger", "genesis", "-o", text(&genesis)]);
    let by_reader = check(&outsider, &proof, &genesis, Some(&file));
    assert_eq!(by_reader.exit, 0, "{by_reader:?}");
    clinic.done(&["ledger", "prove", &record, "-o", text(&proof)]);
    let checked = check(&outsider, &proof, &genesis, None);
    assert_eq!(checked.value()["what"], "a record was in a pack that was committed", "{checked:?}");
    assert_eq!(checked.value()["record"], *record);
    assert_eq!(check(&outsider, &proof, &genesis, Some(&file)).exit, 0);
    let other = cluster.path("other");
    write(&other, bytes_of(3, 20_000));
    let changed = check(&outsider, &proof, &genesis, Some(&other));
    assert!(changed.exit != 0 && changed.said().contains("is not the file"), "{changed:?}");
    // The entry alone is about no file.
    let (entry, author) = (&checked.value()["sequence"], checked.value()["author"].as_str().expect("a node"));
    clinic.done(&["ledger", "prove", &format!("{author}:{entry}"), "-o", text(&proof)]);
    let about_a_file = check(&outsider, &proof, &genesis, Some(&file));
    assert!(about_a_file.said().contains("about no file"), "{about_a_file:?}");

    let verified = cluster["east-1"].done(&["ledger", "verify", "--genesis", text(&genesis)]);
    assert!(verified.value()["height"].as_u64() >= Some(1), "{verified:?}");
    assert_eq!(verified.value()["validators"], 3);

    // Who has no node follows it from a file, and finds out a byte that was changed.
    let headers = cluster.path("headers");
    cluster["east-1"].done(&["ledger", "headers", "-o", text(&headers)]);
    let follow = ["ledger", "verify", "--headers", text(&headers), "--genesis", text(&genesis)];
    let followed = outsider.done(&follow);
    assert!(followed.value()["height"].as_u64() >= verified.value()["height"].as_u64(), "{followed:?}");
    let without = outsider.ask(&follow[..4]);
    assert!(without.exit != 0 && without.said().contains("--genesis"), "{without:?}");
    let whole = fs::read(&headers).unwrap();
    let mut false_one = whole.clone();
    false_one[whole.len() / 2] ^= 1;
    for bytes in [&false_one[..], &whole[..whole.len() - 1]] {
        fs::write(&headers, bytes).unwrap();
        assert_eq!(outsider.ask(&follow).exit, 1);
    }
    let unknown = clinic.ask(&["ledger", "prove", &"ab".repeat(16), "-o", text(&cluster.path("none.json"))]);
    assert!(unknown.exit != 0 && unknown.said().contains("no record"), "{unknown:?}");
    let short = clinic.ask(&["ledger", "prove", &record[..8], "-o", text(&cluster.path("none.json"))]);
    assert!(short.exit != 0 && short.said().contains("bithealth ls"), "{short:?}");
}

#[test]
fn what_no_quorum_finalised_leaves_a_receipt_that_becomes_a_proof_later() {
    let mut cluster = Cluster::start(&["north-1", "south-1"]);
    cluster["north-1"].wait_for("both vote", |status| status["finality"]["validators"] == 2);
    cluster["south-1"].kill();
    let (file, receipt, proof) = (cluster.path("file"), cluster.path("receipt.json"), cluster.path("proof.json"));
    write(&file, bytes_of(3, 1000));
    let unfinished = cluster["north-1"].ask(&["notarise", text(&file), "-o", text(&receipt), "--timeout", "1s"]);
    assert_eq!(unfinished.exit, 4, "kept here, not final: {unfinished:?}");
    assert!(unfinished.said().contains("ledger prove"), "{unfinished:?}");
    cluster["south-1"].start();
    cluster["north-1"].wait_for("nothing waits", |status| status["finality"]["waiting"] == 0);
    cluster["north-1"].done(&["ledger", "prove", text(&receipt), "-o", text(&proof)]);
    let genesis = cluster.path("genesis.json");
    cluster["north-1"].done(&["ledger", "genesis", "-o", text(&genesis)]);
    let outsider = cluster.clinic("outside-1");
    assert_eq!(check(&outsider, &proof, &genesis, Some(&file)).exit, 0);
}
