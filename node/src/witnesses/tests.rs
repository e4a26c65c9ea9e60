use bithealth_envelope::NodeKey;
use bithealth_ledger::cosign;
use bithealth_types::GenesisId;

use super::*;

const GENESIS: GenesisId = GenesisId([1; 32]);

fn key(name: &str, witness: &NodeKey) -> VerifierKey {
    VerifierKey::new(name, NoteAlgorithm::CosignatureV1, witness.id().0).unwrap()
}

fn head(height: u64, root: u8) -> Checkpoint {
    head_checkpoint(&GENESIS, Height(height), Digest([root; 32]), Digest([9; 32]))
}

/// What a witness of this name cosigned.
fn info_of(name: &str, witness: &NodeKey, height: u64, time_s: u64) -> WitnessInfo {
    let (checkpoint, key) = (head(height, 1), key(name, witness));
    let log = NodeKey::random();
    let log_key = log_key(&GENESIS, log.id().0).unwrap();
    let mut note = sign_note(&checkpoint.text().unwrap(), &log_key, |message| log.sign(message)).unwrap();
    note.add(cosign(&note, &key, time_s, |message| witness.sign(message)).unwrap()).unwrap();
    info(&key, &checkpoint, time_s, &note)
}

fn store(folder: &tempfile::TempDir) -> Store {
    Store::open(folder.path(), bithealth_store::Config { reserve_len: 0, ..Default::default() }).unwrap()
}

#[test]
fn a_cosignature_is_there_after_a_restart_and_a_damaged_one_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let kept = info_of("w", &NodeKey::random(), 7, 100);
    {
        let store = store(&folder);
        let witnesses = Witnesses::open(&store);
        assert_eq!(witnesses.all(), []);
        assert_eq!(witnesses.keep(&store, kept.clone()).unwrap(), kept);
        let other = info_of("v", &NodeKey::random(), 7, 100);
        let changed = format!("{}\n{}", other.key, other.note.replace("\n7\n", "\n8\n"));
        store.put(Kind::Meta, &store_key(&other.key), changed.as_bytes(), &[]).unwrap();
    }
    let store = store(&folder);
    assert_eq!(Witnesses::open(&store).all(), [kept]);
}

#[test]
fn of_each_witness_the_longest_and_then_the_latest_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let (witnesses, witness) = (Witnesses::open(&store), NodeKey::random());
    let cosigned = [(7, 100), (6, 200), (7, 50), (7, 101), (8, 90)];
    let kept = [(7, 100), (7, 100), (7, 100), (7, 101), (8, 90)];
    for ((height, time_s), want) in cosigned.into_iter().zip(kept) {
        let now = witnesses.keep(&store, info_of("w", &witness, height, time_s)).unwrap();
        assert_eq!((now.height.0, now.time_ms / 1000), want);
        assert_eq!(witnesses.all(), [now]);
    }
    assert_eq!(Witnesses::open(&store).all(), witnesses.all());
}

#[test]
fn past_the_bound_the_stalest_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let store = store(&folder);
    let witnesses = Witnesses::open(&store);
    let keep = |at: u64| witnesses.keep(&store, info_of(&format!("w{at}"), &NodeKey::random(), at, 100)).unwrap();
    (1..=WITNESSES_MAX as u64).for_each(|at| drop(keep(at)));
    assert_eq!(witnesses.all().len(), WITNESSES_MAX);
    keep(WITNESSES_MAX as u64 + 1);
    let all = witnesses.all();
    assert_eq!(all.len(), WITNESSES_MAX);
    assert!(all.iter().all(|it| it.name != "w1"));
    assert_eq!(Witnesses::open(&store).all(), all);
}

#[test]
fn another_root_is_a_fork_told_with_both_and_another_line_is_refused() {
    let witness = NodeKey::random();
    let (key, note) = (key("w", &witness), SignedNote::parse(info_of("w", &witness, 7, 1).note.as_bytes()).unwrap());
    assert!(check_same(&key, &head(7, 1), &head(7, 1), &note).is_ok());
    let fork = check_same(&key, &head(7, 2), &head(7, 1), &note).unwrap_err();
    assert_eq!(fork.error, ErrorCode::Forked);
    let both = [Digest([1; 32]).to_string(), Digest([2; 32]).to_string()];
    assert!(both.iter().all(|root| fork.message.contains(root)), "{fork}");
    let more = Checkpoint { extensions: vec!["header 0".into()], ..head(7, 1) };
    assert_eq!(check_same(&key, &more, &head(7, 1), &note).unwrap_err().error, ErrorCode::BadRequest);
}

#[test]
fn only_the_key_of_a_witness_is_taken_for_one() {
    let witness = NodeKey::random();
    let longest = "n".repeat(WITNESS_NAME_LEN_MAX);
    assert!(witness_key(&key(&longest, &witness).to_string()).is_ok());
    let log = log_key(&GENESIS, witness.id().0).unwrap().to_string();
    for text in ["", "w", &log, &key(&format!("{longest}n"), &witness).to_string()] {
        let refused = witness_key(text).unwrap_err();
        assert!(refused.error == ErrorCode::BadRequest && refused.next_step != refused.error.next_step(), "{refused}");
    }
}

#[test]
fn a_cosignature_from_the_future_is_refused() {
    assert!(check_time(1000 + AHEAD_MAX_S, 1000).is_ok());
    assert!(check_time(0, 1000).is_ok());
    assert!(check_time(1001 + AHEAD_MAX_S, 1000).unwrap_err().message.contains("ahead of this clock"));
    assert!(check_time(1, u64::MAX).is_ok());
}
