use bytes::Bytes;

use super::*;
use crate::certificate::CertificateError;
use crate::fixture::*;
use crate::member::MembershipError;

/// Where the log of the history notarises a file for the first time.
const NOTARISED: usize = 9;

fn opening() -> v1::Opening {
    v1::Opening { salt: bytes(SALT), file: bytes(FILE.0) }
}

fn leaves(history: &History) -> Vec<Digest> {
    history.entries.iter().map(entry_leaf).collect()
}

fn parts<'a>(history: &History, index: usize, leaves: &'a [Digest]) -> Parts<'a> {
    Parts {
        entry: history.entries[index].clone(),
        leaves,
        frontier: history.state.prove_frontier(&node(1)).unwrap(),
        changes: history.changes(),
        head: history.headers[9].clone(),
        opening: None,
        record: None,
    }
}

fn proof_of(history: &History, index: usize) -> v1::Proof {
    build_proof(&genesis(), parts(history, index, &leaves(history))).unwrap()
}

/// The proof of a file that was notarised.
fn notarised() -> v1::Proof {
    let history = history();
    let leaves = leaves(&history);
    build_proof(&genesis(), Parts { opening: Some(opening()), ..parts(&history, NOTARISED, &leaves) }).unwrap()
}

fn refused(proof: &v1::Proof) -> NotProven {
    check_proof(&genesis(), proof).unwrap_err()
}

/// What is said to the proof of a notarised file once it is changed.
fn changed(change: impl Fn(&mut v1::Proof)) -> NotProven {
    let mut proof = notarised();
    change(&mut proof);
    refused(&proof)
}

fn frontier(proof: &mut v1::Proof) -> &mut v1::Frontier {
    proof.frontier.as_mut().unwrap()
}

fn frontier_proof(proof: &mut v1::Proof) -> &mut v1::FrontierProof {
    proof.frontier_proof.as_mut().unwrap()
}

#[test]
fn every_final_entry_is_proven_offline() {
    let history = history();
    for (index, signed) in history.entries.iter().enumerate() {
        let bytes = encode(&proof_of(&history, index));
        let proven = check_proof(&genesis(), &decode(&bytes).unwrap()).unwrap();
        assert_eq!((proven.height, proven.time_ms), (Height(10), NOW + 10_000));
        assert_eq!(proven.uncertainty_ms, crate::TIME_UNCERTAINTY_MS);
        assert_eq!((proven.author, proven.sequence), (node(1), Sequence(index as u64)));
        assert_eq!(proven.entry_digest, entry_digest(signed));
        assert_eq!(proven.entry, decode(&signed.entry).unwrap());
        assert_eq!((proven.file, proven.validators, proven.votes), (None, 4, 4));
    }
}

#[test]
fn a_file_that_was_notarised_is_proven_with_its_entry() {
    let proven = check_proof(&genesis(), &notarised()).unwrap();
    assert_eq!(proven.file, Some(FILE));
    let commitment = bytes(commitment(&SALT, &FILE).0);
    assert_eq!(proven.entry.operation, Some(Operation::Notarise(v1::Notarise { commitment })));
}

#[test]
fn the_votes_are_those_of_the_head_even_where_it_changes_the_validators() {
    let history = history();
    let (mut state, mut one) = (crate::fixture::state(), Author::of(1));
    let first = one.write(admit(1, 202, 2, "two"));
    let second = one.write(add_node(2));
    for signed in [&first, &second] {
        apply(&mut state, signed);
    }
    let head = crate::signed_header(&finalise(&mut state));
    assert!(head.next_validators.is_some());
    let leaves = [entry_leaf(&first), entry_leaf(&second)];
    let frontier = state.prove_frontier(&node(1)).unwrap();
    // Changes from the head on are of no use.
    let parts = Parts { entry: second, frontier, head, ..parts(&history, 0, &leaves) };
    let proof = build_proof(&genesis(), parts).unwrap();
    assert_eq!(proof.changes, []);
    let proven = check_proof(&genesis(), &proof).unwrap();
    assert_eq!((proven.height, proven.validators, proven.votes), (Height(1), 1, 1));
}

#[test]
fn no_bit_of_a_proof_can_change() {
    let whole = encode(&notarised());
    for index in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[index] ^= 1 << (index % 8);
        if let Ok(proof) = decode(&flipped) {
            assert!(check_proof(&genesis(), &proof).is_err(), "proof with byte {index} changed");
        }
    }
}

#[test]
fn a_proof_of_another_network_is_refused() {
    let other = v1::Genesis { name: "other".into(), ..genesis() };
    let (got, want) = (genesis().id(), other.id());
    assert_eq!(check_proof(&other, &notarised()), Err(NotProven::OtherNetwork { got, want }));
    let renamed = v1::Proof { genesis: bytes(want.0), ..notarised() };
    let source = LightError::OtherNetwork { got, want };
    assert_eq!(check_proof(&other, &renamed), Err(NotProven::Change { index: 0, source }));
    let salt = Bytes::from_static(&[9; 31]);
    let none = v1::Genesis { salt, ..genesis() };
    let renamed = v1::Proof { genesis: bytes(none.id().0), ..notarised() };
    let error = MembershipError::Length { what: "the genesis' salt", got: 31, want: 32 };
    let error = NotProven::Genesis(GenesisError::Membership(error));
    assert_eq!(check_proof(&none, &renamed), Err(error));
}

#[test]
fn a_file_is_proven_only_with_its_salt() {
    let other = |salt: [u8; 32], file: [u8; 32]| {
        let want = NotProven::OtherFile { got: commitment(&salt, &Digest(file)) };
        let opening = v1::Opening { salt: bytes(salt), file: bytes(file) };
        assert_eq!(changed(|it| it.opening = Some(opening.clone())), want);
    };
    other([0; 32], FILE.0);
    other(SALT, [0; 32]);
    other(FILE.0, SALT);
}

#[test]
fn an_entry_that_notarises_nothing_opens_nothing() {
    let history = history();
    let leaves = leaves(&history);
    let parts = Parts { opening: Some(opening()), ..parts(&history, 0, &leaves) };
    assert_eq!(build_proof(&genesis(), parts), Err(NotProven::NothingToOpen { sequence: 0 }));
}

#[test]
fn a_part_that_is_missing_is_missed() {
    let absent = |what| NotProven::Absent { what };
    assert_eq!(changed(|it| it.head = None), absent("head"));
    assert_eq!(changed(|it| it.frontier = None), absent("frontier"));
    assert_eq!(changed(|it| it.frontier_proof = None), absent("path from the head to the frontier"));
    assert_eq!(changed(|it| it.entry = None), absent("entry"));
}

#[test]
fn a_digest_of_another_length_is_refused() {
    let short = || Bytes::from_static(&[1; 31]);
    let length = |what| NotProven::Length { what, got: 31 };
    assert_eq!(changed(|it| it.genesis = short()), length("the proof's network"));
    assert_eq!(changed(|it| frontier(it).author = short()), length("the frontier's author"));
    assert_eq!(changed(|it| frontier_proof(it).tree = short()), length("the tree of frontiers"));
    assert_eq!(changed(|it| frontier_proof(it).path[0] = short()), length("a digest of a path"));
    assert_eq!(changed(|it| it.path[0] = short()), length("a digest of a path"));
    assert_eq!(changed(|it| it.opening.as_mut().unwrap().salt = short()), length("the commitment's salt"));
    assert_eq!(changed(|it| it.opening.as_mut().unwrap().file = short()), length("the file's digest"));
}

#[test]
fn every_change_of_the_validators_is_needed_and_nothing_else_is_taken() {
    let history = history();
    for index in 0..4 {
        let without = changed(|it| drop(it.changes.remove(index)));
        let missed = match &without {
            NotProven::Change { index: at, source: LightError::OtherValidators { .. } } => *at == index,
            NotProven::Head(LightError::OtherValidators { .. }) => index == 3,
            _ => false,
        };
        assert!(missed, "{without}");
    }
    let more = changed(|it| it.changes.insert(1, history.headers[1].clone()));
    assert_eq!(more, NotProven::Unchanged { height: 2 });
    let twice = changed(|it| it.changes.push(it.changes[3].clone()));
    assert_eq!(twice, NotProven::Change { index: 4, source: LightError::Known { have: 8, got: 8 } });
}

#[test]
fn a_head_that_is_not_final_proves_nothing() {
    let got = changed(|it| {
        let certificate = it.head.as_mut().unwrap().certificate.as_mut().unwrap();
        certificate.signers = Bytes::from_static(&[0b0001]);
        certificate.signatures.truncate(64);
    });
    let error = CertificateError::Votes { got: 1, want: 3, count: 4 };
    assert_eq!(got, NotProven::Head(LightError::Certificate(error)));
}

#[test]
fn a_frontier_that_the_head_does_not_cover_is_refused() {
    let longer = changed(|it| frontier(it).len += 1);
    assert!(matches!(longer, NotProven::Frontier(MapError::Path { .. })), "{longer}");
    let earlier = changed(|it| it.head = Some(history().headers[8].clone()));
    assert!(matches!(earlier, NotProven::Frontier(MapError::RootMismatch { .. })), "{earlier}");
}

#[test]
fn an_entry_of_another_author_or_position_is_refused() {
    let history = history();
    let with = |signed: &v1::SignedEntry| changed(|it| it.entry = Some(signed.clone()));
    let junk = v1::SignedEntry { entry: Bytes::from_static(&[0]), signature: Bytes::new() };
    assert!(matches!(with(&junk), NotProven::Entry(DecodeError::Malformed { .. })));
    let other = Author::of(2).write(commit(12));
    let (got, want) = (node(2).to_string(), node(1));
    assert_eq!(with(&other), NotProven::OtherAuthor { got, want });
    assert_eq!(with(&history.entries[8]), NotProven::Index { got: NOTARISED as u64, sequence: 8 });
    assert_eq!(changed(|it| it.index = 8), NotProven::Index { got: 8, sequence: NOTARISED as u64 });
    let instead = v1::Entry { time_ms: NOW - 1, ..decode(&history.entries[NOTARISED].entry).unwrap() };
    let instead = with(&crate::sign(by(node_of(1)), instead));
    assert!(matches!(instead, NotProven::Path(ProofError::RootMismatch { .. })), "{instead}");
}

#[test]
fn an_entry_without_its_authors_signature_is_refused() {
    let author = node(1);
    let want = NotProven::BadSignature { author, sequence: NOTARISED as u64 };
    assert_eq!(changed(|it| it.entry.as_mut().unwrap().signature = Bytes::from_static(&[0; 64])), want);
}

#[test]
fn what_is_not_final_cannot_be_proven() {
    let mut history = history();
    let open = Author::of(4).write(commit(20));
    assert!(history.state.prove_frontier(&node(4)).is_none());
    apply(&mut history.state, &open);
    assert!(history.state.prove_frontier(&node(4)).is_none(), "no block covers it");
    let short = leaves(&history);
    let missing = build_proof(&genesis(), parts(&history, NOTARISED, &short[..9]));
    assert_eq!(missing, Err(NotProven::Path(ProofError::ProofLen { got: 0, want: 5 })));
}

#[test]
fn a_proof_has_at_most_eight_mebibytes() {
    let filled = |len: usize| changed(|it| it.path = vec![vec![0; len].into()]);
    let (empty, max) = (encode(&v1::Proof { path: vec![], ..notarised() }).len(), v1::Proof::LEN_MAX);
    let fits = max - empty - 5; // tag, and a length of four bytes
    assert_eq!(filled(fits), NotProven::Length { what: "a digest of a path", got: fits });
    assert_eq!(filled(fits + 1), NotProven::TooLong { got: max + 1, max });
}
