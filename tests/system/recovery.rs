//! A majority is gone for good: the holders of the recovery keys let those go on who are left, and nobody else can.

use std::path::{Path, PathBuf};

use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, text, wait_until, write};
use serde_json::Value;
use tempfile::TempDir;

/// Between a witness's cosignatures. They count seconds.
const DELAY: &str = "1s";

fn key_of(answer: &Answer) -> String {
    answer.value()["key"].as_str().expect("a key is a text").to_owned()
}

/// Three holders, two of whom must sign, and a witness: none of them runs a node.
struct Outsiders {
    folder: TempDir,
    hand: Clinic,
}

impl Outsiders {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let hand = Clinic::new(folder.path(), "outside-1", "outside");
        let outsiders = Self { folder, hand };
        let holders: Vec<String> = (0..3).map(|at| outsiders.holder(at)).collect();
        let witness = outsiders.path("witness");
        let made =
            outsiders.hand.done(&["ledger", "witness-key", "-o", text(&witness), "--name", "witness.example.org"]);
        let policy = format!(
            "threshold = 2\nholders = {holders:?}\ndelay = {DELAY:?}\nwitnesses = [{:?}]\ncosignatures = 1\n",
            key_of(&made)
        );
        write(&outsiders.path("policy.toml"), policy);
        outsiders
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn holder(&self, at: usize) -> String {
        let path = self.path(&format!("holder-{at}"));
        key_of(&self.hand.done(&["admin", "recovery-key", "-o", text(&path)]))
    }

    /// A network that they may recover.
    fn network(&self, names: &[&str]) -> Cluster {
        Cluster::start_founded(names, |founder| founder.init_with(&["--recovery", text(&self.path("policy.toml"))]))
    }

    /// Signs with the keys of these holders.
    fn sign(&self, recovery: &Path, holders: &[usize]) {
        for at in holders {
            let key = self.path(&format!("holder-{at}"));
            self.hand.done(&["admin", "recover", "sign", text(recovery), "--key", text(&key)]);
        }
    }

    /// What the node announces, cosigned now by the witness.
    fn cosigned(&self, clinic: &Clinic) -> PathBuf {
        let note = self.path("note");
        let exported = clinic.done(&["admin", "recover", "export", "-o", text(&note)]);
        let key = exported.value()["keys"][0].as_str().unwrap().to_owned();
        let (witness, output) = (self.path("witness"), self.path("cosigned"));
        let args = ["ledger", "cosign", text(&note), "--key", text(&witness), "--log", &key, "-o", text(&output)];
        self.hand.done(&args);
        output
    }
}

fn standing(clinic: &Clinic) -> Value {
    clinic.done(&["admin", "recover", "status"]).value()["standing"].clone()
}

fn submit(clinic: &Clinic, path: &Path) -> Answer {
    clinic.ask(&["admin", "recover", "submit", text(path)])
}

fn propose(clinic: &Clinic, keep: &[&str], path: &Path) {
    let keep: Vec<&str> = keep.iter().flat_map(|name| ["--keep", *name]).collect();
    clinic.done(&[&["admin", "recover", "propose", "-o", text(path)], &keep[..]].concat());
}

#[test]
fn two_of_five_go_on_as_the_holders_decide_and_one_that_comes_back_decides_nothing() {
    let outsiders = Outsiders::new();
    let mut cluster = outsiders.network(&["north-1", "south-1", "east-1", "west-1", "far-1"]);
    let [record, recovery, early] = ["record", "recovery", "early"].map(|name| cluster.path(name));
    write(&record, bytes_of(1, 50_000));
    cluster["far-1"].done(&["put", text(&record), "--for", "north-1", "--survive", "0,1", "--wait", "final"]);
    for name in ["east-1", "west-1", "far-1"] {
        cluster[name].kill();
    }
    let north = &cluster["north-1"];
    write(&record, bytes_of(2, 50_000));
    let waits = north.ask(&["put", text(&record), "--survive", "0,1", "--wait", "final", "--timeout", "2s"]);
    assert_ne!(waits.exit, 0, "two of five decide nothing: {waits:?}");

    // One holder is not enough, whatever the witness says.
    propose(north, &["north-1", "south-1"], &recovery);
    let named: Value = serde_json::from_slice(&std::fs::read(&recovery).unwrap()).unwrap();
    let names: Vec<&Value> = named["says"]["goes_on"].as_object().unwrap().values().collect();
    assert!(names.len() == 2 && names.contains(&&"north-1".into()) && names.contains(&&"south-1".into()), "{named}");
    assert!(submit(north, &recovery).error.contains("no holder signed"));
    outsiders.sign(&recovery, &[1]);
    std::fs::copy(&recovery, &early).unwrap();
    let refused = submit(north, &early);
    assert!(refused.exit == 1 && refused.error.contains("1 holders signed"), "{refused:?}");
    assert!(refused.error.contains("another holder sign"), "{refused:?}");
    assert_eq!(standing(north), "none");

    outsiders.sign(&recovery, &[2]);
    let announced = submit(north, &recovery);
    assert_eq!((announced.exit, announced.value()["standing"].as_str()), (0, Some("announced")), "{announced:?}");
    wait_until("south hears of it", || match standing(&cluster["south-1"]) {
        it if it == "announced" => Ok(()),
        it => Err(it.to_string()),
    });
    // Announced, it holds over a restart.
    cluster["south-1"].kill();
    cluster["south-1"].start();
    assert_eq!(standing(&cluster["south-1"]), "announced");

    let north = &cluster["north-1"];
    let once = submit(north, &outsiders.cosigned(north));
    assert_eq!(once.value()["standing"], "announced", "one cosignature is no delay: {once:?}");
    wait_until("the witness saw the delay pass", || {
        let again = submit(north, &outsiders.cosigned(north));
        let done = again.value()["standing"] == "ready" || again.value()["standing"] == "opened";
        done.then_some(()).ok_or_else(|| again.said())
    });
    for name in ["north-1", "south-1"] {
        cluster[name].wait_for("the era begins", |status| status["recovery"]["standing"] == "opened");
    }
    let north = &cluster["north-1"];
    north.done(&["put", text(&record), "--survive", "0,1", "--wait", "final"]);
    let status = north.status();
    assert_eq!((&status["finality"]["validators"], &status["recovery"]["era"]), (&2.into(), &1.into()));
    north.done(&["ledger", "verify"]);
    let proof = cluster.path("proof");
    let genesis = cluster.path("genesis");
    let file = cluster.path("file");
    write(&file, bytes_of(3, 100));
    north.done(&["notarise", text(&file), "-o", text(&proof)]);
    north.done(&["ledger", "genesis", "-o", text(&genesis)]);
    outsiders.hand.done(&["ledger", "check", text(&proof), "--genesis", text(&genesis), "--file", text(&file)]);

    // After a restart both decide in the new era.
    cluster["south-1"].kill();
    cluster["south-1"].start();
    write(&record, bytes_of(4, 50_000));
    cluster["south-1"].done(&["put", text(&record), "--survive", "0,1", "--wait", "final"]);

    // One of the lost comes back with all it had, and follows.
    cluster["far-1"].start();
    let height = cluster["north-1"].status()["height"].as_u64();
    let far = &cluster["far-1"];
    far.wait_for("it follows the new era", |status| {
        status["recovery"]["era"] == 1 && status["height"].as_u64() >= height && status["finality"]["validators"] == 2
    });
    assert!(far.status()["finality"]["deciding"].is_null(), "it decides nothing");
}

#[test]
fn who_kept_an_announced_recovery_decides_nothing_until_its_era_begins() {
    let outsiders = Outsiders::new();
    let cluster = outsiders.network(&["north-1", "south-1", "east-1", "west-1"]);
    let [recovery, file, early, proof] = ["recovery", "file", "early", "proof"].map(|name| cluster.path(name));
    let (north, west) = (&cluster["north-1"], &cluster["west-1"]);
    propose(north, &["north-1", "south-1"], &recovery);
    outsiders.sign(&recovery, &[0, 1]);
    assert_eq!(submit(north, &recovery).exit, 0);
    for clinic in cluster.clinics() {
        clinic.wait_for("it keeps the recovery", |status| status["recovery"]["standing"] == "announced");
    }
    // All four are up and well, and one of them has something to decide.
    let height = west.status()["height"].clone();
    write(&file, bytes_of(1, 100));
    let waits = west.ask(&["notarise", text(&file), "-o", text(&early), "--timeout", "3s"]);
    assert_ne!(waits.exit, 0, "{waits:?}");
    for clinic in cluster.clinics() {
        let status = clinic.status();
        let halted = status["finality"]["halted"].as_str().unwrap_or_default();
        assert!(halted.contains("a recovery is announced"), "{status}");
        assert_eq!(status["height"], height);
    }
    let submitted = || submit(north, &outsiders.cosigned(north)).value()["standing"].clone();
    wait_until("the witness saw the delay pass", || match submitted() {
        it if it == "ready" || it == "opened" => Ok(()),
        it => Err(it.to_string()),
    });
    for clinic in cluster.clinics() {
        clinic.wait_for("the era begins, with what waited", |status| {
            status["recovery"]["era"] == 1 && status["finality"]["validators"] == 2
        });
    }
    west.done(&["notarise", text(&file), "-o", text(&proof)]);
}

#[test]
fn a_recovery_is_void_once_those_it_left_out_decided_another_block() {
    let outsiders = Outsiders::new();
    let cluster = outsiders.network(&["north-1", "south-1", "east-1", "west-1"]);
    let (north, west) = (&cluster["north-1"], &cluster["west-1"]);
    let [recovery, file, proof] = ["recovery", "file", "proof"].map(|name| cluster.path(name));
    propose(north, &["north-1"], &recovery);
    outsiders.sign(&recovery, &[0, 1]);
    // All are there: a block of theirs comes first.
    write(&file, bytes_of(1, 100));
    west.done(&["notarise", text(&file), "-o", text(&proof)]);
    let height = west.status()["height"].as_u64();
    north.wait_for("north has the block", |status| status["height"].as_u64() >= height);
    let void = submit(north, &recovery);
    assert!(void.exit == 1 && void.error.contains("void"), "{void:?}");
    assert_eq!(standing(north), "none");
}

#[test]
fn two_recoveries_that_exclude_each_other_stop_everybody() {
    let outsiders = Outsiders::new();
    let mut cluster = outsiders.network(&["north-1", "south-1", "east-1", "west-1"]);
    cluster["east-1"].kill();
    cluster["west-1"].kill();
    let [one, other] = ["one", "other"].map(|name| cluster.path(name));
    let (north, south) = (&cluster["north-1"], &cluster["south-1"]);
    propose(north, &["north-1"], &one);
    propose(north, &["south-1"], &other);
    outsiders.sign(&one, &[0, 1]);
    outsiders.sign(&other, &[1, 2]);
    assert_eq!(submit(north, &one).exit, 0);
    assert_eq!(submit(south, &other).exit, 0);
    for clinic in [north, south] {
        clinic.wait_for("the conflict is told", |status| {
            let halted = status["finality"]["halted"].as_str().unwrap_or_default();
            status["recovery"]["standing"] == "conflict" && halted.contains("exclude each other")
        });
    }
}
