use bithealth_merkle::{ProofError, inclusion_proof, root};
use bytes::Bytes;

use super::*;

fn filled(byte: u8, len: usize) -> Bytes {
    Bytes::from(vec![byte; len])
}

fn bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

/// A pack of two folders, of which the first has three records: the second of these is opened.
fn committed() -> (v1::Entry, v1::RecordOpening) {
    let leaf =
        |of: u8| v1::RecordLeaf { salt: filled(of, 32), record: filled(of + 1, 16), plaintext_digest: filled(of, 32) };
    let records: Vec<Digest> = (0..3).map(|of| leaf_hash(&encode(&leaf(of)))).collect();
    let head = v1::HeadLeaf { head: filled(7, 32), records: bytes(&root(&records)) };
    let heads = [leaf_hash(&encode(&head)), Digest([9; 32])];
    let commit = v1::PackCommit { heads_root: bytes(&root(&heads)), ..Default::default() };
    let entry = v1::Entry { sequence: 4, operation: Some(Operation::CommitPack(commit)), ..Default::default() };
    let opening = v1::RecordOpening {
        leaf: Some(leaf(1)),
        index: 1,
        count: 3,
        path: inclusion_proof(&records, 1).unwrap().iter().map(bytes).collect(),
        head: Some(head),
        head_index: 0,
        head_count: 2,
        head_path: vec![filled(9, 32)],
    };
    (entry, opening)
}

fn changed(change: impl Fn(&mut v1::RecordOpening)) -> NotProven {
    let (entry, mut opening) = committed();
    change(&mut opening);
    check(&entry, &opening).unwrap_err()
}

fn leaf(opening: &mut v1::RecordOpening) -> &mut v1::RecordLeaf {
    opening.leaf.as_mut().unwrap()
}

fn head(opening: &mut v1::RecordOpening) -> &mut v1::HeadLeaf {
    opening.head.as_mut().unwrap()
}

#[test]
fn a_record_is_proven_by_the_commit_of_its_pack() {
    let (entry, opening) = committed();
    let want = ProvenRecord { record: RecordId([2; 16]), plaintext_digest: Digest([1; 32]) };
    assert_eq!(check(&entry, &opening), Ok(want));
}

#[test]
fn an_entry_that_commits_no_pack_has_no_records() {
    let (entry, opening) = committed();
    let other = v1::Entry { operation: None, ..entry };
    assert_eq!(check(&other, &opening), Err(NotProven::NoPack { sequence: 4 }));
}

#[test]
fn nothing_of_the_opening_can_be_changed() {
    let is_path = |error: NotProven| matches!(error, NotProven::Record(ProofError::RootMismatch { .. }));
    assert!(is_path(changed(|it| leaf(it).salt = filled(5, 32))));
    assert!(is_path(changed(|it| leaf(it).record = filled(5, 16))));
    assert!(is_path(changed(|it| leaf(it).plaintext_digest = filled(5, 32))));
    assert!(is_path(changed(|it| it.index = 0)));
    assert!(is_path(changed(|it| it.path[0] = filled(5, 32))));
    assert!(is_path(changed(|it| head(it).head = filled(5, 32))));
    assert!(is_path(changed(|it| head(it).records = filled(5, 32))));
    assert!(is_path(changed(|it| it.head_index = 1)));
    assert!(is_path(changed(|it| it.head_path[0] = filled(5, 32))));
    let is_len = |error: NotProven| matches!(error, NotProven::Record(ProofError::ProofLen { .. }));
    assert!(is_len(changed(|it| it.path.push(filled(5, 32)))));
    assert!(is_len(changed(|it| it.head_path.clear())));
    let is_outside = |error: NotProven| matches!(error, NotProven::Record(ProofError::NoSuchLeaf { .. }));
    assert!(is_outside(changed(|it| it.count = 0)));
    assert!(is_outside(changed(|it| it.head_index = 2)));
}

#[test]
fn what_is_missing_or_has_another_length_is_named() {
    assert_eq!(changed(|it| it.leaf = None), NotProven::Absent { what: "record" });
    assert_eq!(changed(|it| it.head = None), NotProven::Absent { what: "folder" });
    assert_eq!(changed(|it| leaf(it).record = filled(2, 15)), NotProven::RecordId { got: 15 });
    let length = |what| NotProven::Length { what, got: 31 };
    let short = || filled(1, 31);
    assert_eq!(changed(|it| leaf(it).salt = short()), length("the record's salt"));
    assert_eq!(changed(|it| leaf(it).plaintext_digest = short()), length("the digest of the record"));
    assert_eq!(changed(|it| head(it).head = short()), length("the digest of the folder's head"));
    assert_eq!(changed(|it| head(it).records = short()), length("the root of the folder's records"));
    assert_eq!(changed(|it| it.path[0] = short()), length("a digest of a path"));
    assert_eq!(changed(|it| it.head_path[0] = short()), length("a digest of a path"));
}
