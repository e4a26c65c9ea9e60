//! Witnesses: a head leaves the network, an outsider with two files and no node cosigns it, and the network keeps that.

use std::fs;
use std::path::{Path, PathBuf};

use bithealth_envelope::NodeKey;
use bithealth_ledger::{Checkpoint, NoteAlgorithm, SignedNote, VerifierKey, sign_note};
use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, text, write};
use bithealth_types::Digest;

fn field(answer: &Answer, name: &str) -> String {
    answer.value()[name].as_str().unwrap_or_else(|| panic!("{name} is not in {answer:?}")).to_owned()
}

/// Makes a witness's key; its public line.
fn witness_key(outsider: &Clinic, path: &Path, name: &str) -> String {
    field(&outsider.done(&["ledger", "witness-key", "-o", text(path), "--name", name]), "key")
}

/// Exports the head since a height; that height now, and the node's key.
fn checkpoint(clinic: &Clinic, path: &Path, since: u64) -> (u64, String) {
    let answer = clinic.done(&["ledger", "checkpoint", "-o", text(path), "--since", &since.to_string()]);
    (answer.value()["height"].as_u64().expect("a height"), field(&answer, "key"))
}

fn cosigned(clinic: &Clinic, path: &Path, witness: &str) -> Answer {
    clinic.ask(&["ledger", "cosigned", text(path), "--witness", witness])
}

/// Where the cosigned one stands that has no other name.
fn cosigned_path(checkpoint: &Path) -> PathBuf {
    format!("{}.cosigned", text(checkpoint)).into()
}

/// Waits until a block covers a file.
fn notarise(clinic: &Clinic, cluster: &Cluster, name: &str) {
    let file = cluster.path(name);
    write(&file, bytes_of(1, 1000));
    clinic.done(&["notarise", text(&file), "-o", text(&cluster.path(&format!("{name}.proof")))]);
}

#[test]
fn an_outsider_cosigns_the_head_and_every_member_keeps_that_over_a_restart() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let outsider = cluster.clinic("outside-1");
    let [key, head, later] = ["witness.key", "head", "later"].map(|name| cluster.path(name));
    let witness = witness_key(&outsider, &key, "witness.example.org");
    notarise(&cluster["north-1"], &cluster, "first");

    let (height, log) = checkpoint(&cluster["north-1"], &head, 0);
    let unknown = outsider.ask(&["ledger", "cosign", text(&head), "--key", text(&key)]);
    assert!(unknown.exit != 0 && unknown.said().contains("--log"), "{unknown:?}");
    let back = cluster.path("back");
    outsider.done(&["ledger", "cosign", text(&head), "--key", text(&key), "--log", &log, "-o", text(&back)]);

    // Not cosigned, cosigned by another, of another network.
    let uncosigned = cosigned(&cluster["north-1"], &head, &witness);
    assert!(
        uncosigned.exit != 0 && uncosigned.said().contains("no signature by witness.example.org"),
        "{uncosigned:?}"
    );
    let other = witness_key(&outsider, &cluster.path("other.key"), "other.example.org");
    let by_another = cosigned(&cluster["north-1"], &back, &other);
    assert!(by_another.exit != 0 && by_another.said().contains("no signature by other"), "{by_another:?}");
    let foreign = Cluster::start(&["west-1"]);
    let elsewhere = cosigned(&foreign["west-1"], &back, &witness);
    assert!(elsewhere.exit != 0 && elsewhere.said().contains("this network's are of"), "{elsewhere:?}");

    // The text is the same at every member, so the cosignature is good for all of them.
    for clinic in ["north-1", "south-1"] {
        cluster[clinic].wait_for("it has the height", |status| status["height"].as_u64() >= Some(height));
        let kept = cosigned(&cluster[clinic], &back, &witness);
        assert_eq!((kept.exit, kept.value()["height"].as_u64()), (0, Some(height)), "{kept:?}");
        let shown = cluster[clinic].status()["witnesses"].clone();
        assert_eq!(shown[0]["name"], "witness.example.org");
        assert_eq!(shown[0]["height"].as_u64(), Some(height));
    }

    // The history goes on; the witness wants to see that it is the same one.
    notarise(&cluster["south-1"], &cluster, "second");
    let (higher, south) = checkpoint(&cluster["south-1"], &later, 0);
    assert!(higher > height);
    let sign_later = ["ledger", "cosign", text(&later), "--key", text(&key), "--log", &south];
    let unproven = outsider.ask(&sign_later);
    assert!(unproven.exit != 0 && unproven.said().contains(&format!("--since {height}")), "{unproven:?}");
    let (higher, _) = checkpoint(&cluster["south-1"], &later, height);
    outsider.done(&sign_later);
    let goes_back = outsider.ask(&["ledger", "cosign", text(&head), "--key", text(&key)]);
    assert!(goes_back.exit != 0 && goes_back.said().contains("it does not go back"), "{goes_back:?}");

    let north = &mut cluster["north-1"];
    north.wait_for("it has the height", |status| status["height"].as_u64() >= Some(higher));
    assert_eq!(cosigned(north, &cosigned_path(&later), &witness).exit, 0);
    north.kill();
    north.start();
    let listed = north.done(&["ledger", "witnesses"]);
    assert_eq!((listed.lines.len(), listed.value()["height"].as_u64()), (1, Some(higher)), "{listed:?}");
    let note = SignedNote::parse(field(&listed, "note").as_bytes()).expect("a note");
    assert!(bithealth_ledger::verify_cosignature(&note, &witness.parse().expect("a key")).is_ok());
    // What is older does not replace it.
    assert_eq!(cosigned(north, &back, &witness).value()["height"].as_u64(), Some(higher));
}

#[test]
fn a_forged_head_is_refused_and_one_that_a_witness_believed_is_told_as_a_fork_with_both_roots() {
    let cluster = Cluster::start(&["north-1"]);
    let (clinic, outsider) = (&cluster["north-1"], cluster.clinic("outside-1"));
    let [key, head, forged] = ["witness.key", "head", "forged"].map(|name| cluster.path(name));
    let witness = witness_key(&outsider, &key, "witness.example.org");
    let early = clinic.ask(&["ledger", "checkpoint", "-o", text(&head)]);
    assert!(
        early.exit == 1 && early.error.contains("no block yet") && early.error.contains("bithealth put"),
        "{early:?}"
    );
    assert!(!head.exists());
    notarise(clinic, &cluster, "first");
    let (height, log) = checkpoint(clinic, &head, 0);

    // Another root under the node's signature.
    let note = SignedNote::parse(&fs::read(&head).expect("it was written")).expect("a note");
    let honest = Checkpoint::parse(note.text()).expect("a checkpoint");
    let other = Checkpoint { root: Digest([7; 32]), ..honest.clone() };
    let other = other.text().expect("lines");
    fs::write(&forged, fs::read_to_string(&head).expect("it is text").replace(note.text(), &other)).expect("written");
    let sign =
        |path: &Path, log: &str| outsider.ask(&["ledger", "cosign", text(path), "--key", text(&key), "--log", log]);
    let refused = sign(&forged, &log);
    assert!(refused.exit != 0 && refused.said().contains("though it says so"), "{refused:?}");

    // A liar shows its own history to a witness that was told the liar's key.
    let liar = NodeKey::random();
    let liar_key = VerifierKey::new(&honest.origin, NoteAlgorithm::Ed25519, liar.id().0).expect("a key");
    let note = sign_note(&other, &liar_key, |message| liar.sign(message)).expect("a note");
    fs::write(&forged, note.to_string()).expect("written");
    assert_eq!(sign(&forged, &liar_key.to_string()).exit, 0);
    let fork = cosigned(clinic, &cosigned_path(&forged), &witness);
    let said = fork.said();
    assert!(fork.exit != 0 && said.contains("FORK") && said.contains(&honest.root.to_string()), "{fork:?}");
    assert!(said.contains(&Digest([7; 32]).to_string()) && said.contains("tell them all"), "{fork:?}");
    assert_eq!(clinic.status()["witnesses"].as_array().map(Vec::len), Some(0), "nothing of it is kept");

    // And the witness does not cosign the true one any more: it tells its side of the fork.
    let now = checkpoint(clinic, &head, height).0;
    let refused = sign(&head, &log);
    assert!(refused.exit != 0, "{refused:?}");
    let told = if now == height { "FORK" } else { "two histories" };
    assert!(refused.said().contains(told), "{refused:?}");
}
