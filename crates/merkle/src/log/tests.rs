use std::path::{Path, PathBuf};

use data_encoding::BASE64;
use proptest::prelude::*;
use serde::Deserialize;

use super::*;
use crate::leaf_hash;

fn hashes(len: u64) -> Vec<Digest> {
    (0..len).map(|i| leaf_hash(&i.to_be_bytes())).collect()
}

#[test]
fn every_leaf_of_every_tree_is_proven_and_nothing_else_is() {
    for len in 1..70 {
        let hashes = hashes(len);
        let root = root(&hashes);
        for index in 0..len {
            let proof = inclusion_proof(&hashes, index).unwrap();
            let leaf = &hashes[index as usize];
            assert_eq!(verify_inclusion(&root, len, index, leaf, &proof), Ok(()));
            for other in (0..len).filter(|other| *other != index) {
                assert!(verify_inclusion(&root, len, other, leaf, &proof).is_err(), "{index} as {other} of {len}");
            }
        }
    }
}

#[test]
fn every_beginning_of_every_tree_is_proven_and_nothing_else_is() {
    for len in 1..70 {
        let hashes = hashes(len);
        let root_of = |len: u64| root(&hashes[..len as usize]);
        for old_len in 1..=len {
            let proof = consistency_proof(&hashes, old_len).unwrap();
            assert_eq!(verify_consistency(&root_of(old_len), old_len, &root_of(len), len, &proof), Ok(()));
            let foreign = leaf_hash(b"another tree");
            assert!(verify_consistency(&foreign, old_len, &root_of(len), len, &proof).is_err());
            assert!(verify_consistency(&root_of(old_len), old_len, &foreign, len, &proof).is_err());
        }
    }
}

#[test]
fn there_is_no_proof_about_what_is_not_there() {
    let hashes = hashes(5);
    assert_eq!(inclusion_proof(&hashes, 5), None);
    assert_eq!(consistency_proof(&hashes, 0), None);
    assert_eq!(consistency_proof(&hashes, 6), None);
    let root = root(&hashes);
    assert_eq!(verify_inclusion(&root, 5, 5, &hashes[0], &[]), Err(ProofError::NoSuchLeaf { index: 5, len: 5 }));
    for old_len in [0, 6] {
        let want = Err(ProofError::NotABeginning { old_len, len: 5 });
        assert_eq!(verify_consistency(&root, old_len, &root, 5, &[]), want);
    }
}

#[test]
fn refusals_say_what_came_and_what_was_due() {
    let hashes = hashes(7);
    let whole = root(&hashes);
    let foreign = leaf_hash(b"another tree");

    let mut proof = inclusion_proof(&hashes, 6).unwrap();
    let want = whole;
    assert_eq!(
        verify_inclusion(&foreign, 7, 6, &hashes[6], &proof),
        Err(ProofError::RootMismatch { got: whole, want: foreign })
    );
    proof.push(foreign);
    assert_eq!(verify_inclusion(&want, 7, 6, &hashes[6], &proof), Err(ProofError::ProofLen { got: 3, want: 2 }));

    let old = root(&hashes[..3]);
    let mut proof = consistency_proof(&hashes, 3).unwrap();
    let got = verify_consistency(&foreign, 3, &whole, 7, &proof);
    assert_eq!(got, Err(ProofError::OldRootMismatch { got: old, want: foreign }));
    proof.pop();
    let got = verify_consistency(&old, 3, &whole, 7, &proof);
    assert_eq!(got, Err(ProofError::ProofLen { got: 3, want: 4 }));
}

#[test]
fn the_longest_trees_are_answered_without_a_panic() {
    let digest = leaf_hash(b"");
    for index in [0, 1, u64::MAX / 2, u64::MAX - 1] {
        assert!(verify_inclusion(&digest, u64::MAX, index, &digest, &[]).is_err());
        assert!(verify_consistency(&digest, index + 1, &digest, u64::MAX, &[digest]).is_err());
    }
}

proptest! {
    #[test]
    fn a_flipped_bit_anywhere_in_a_proof_is_refused(len in 2u64..200, pick: prop::sample::Index, bit in 0usize..256) {
        let hashes = hashes(len);
        let index = pick.index(len as usize) as u64;
        let flip = |digest: &mut Digest| digest.0[bit / 8] ^= 1 << (bit % 8);

        let mut proof = inclusion_proof(&hashes, index).unwrap();
        let at = pick.index(proof.len());
        flip(&mut proof[at]);
        prop_assert!(verify_inclusion(&root(&hashes), len, index, &hashes[index as usize], &proof).is_err());

        let old_len = 1 + index.min(len - 2);
        let mut proof = consistency_proof(&hashes, old_len).unwrap();
        let at = pick.index(proof.len());
        flip(&mut proof[at]);
        let old = root(&hashes[..old_len as usize]);
        prop_assert!(verify_consistency(&old, old_len, &root(&hashes), len, &proof).is_err());
    }
}

// ---- Public vectors for RFC 6962 / 9162 proofs, one file each.

/// A vector of any of the four kinds; a subtree is the run of leaves `start..end`, a tree of its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
#[derive(Default)]
struct Vector {
    leaf_idx: u64,
    tree_size: u64,
    start: u64,
    end: u64,
    size: u64,
    size1: u64,
    size2: u64,
    root: String,
    root1: String,
    root2: String,
    leaf_hash: String,
    proof: Option<Vec<String>>,
    desc: String,
    want_err: bool,
}

/// Why a vector was refused.
#[derive(Debug)]
enum Flaw {
    /// An empty text, which is no digest: our type refuses it before any proof is looked at.
    NoDigest,
    Proof(#[allow(dead_code, reason = "shown when a vector fails")] ProofError),
}

impl From<ProofError> for Flaw {
    fn from(error: ProofError) -> Self {
        Self::Proof(error)
    }
}

/// Digests as they are. Some vectors have words for digests, which our type cannot hold: they become their hash, so that
/// what was equal stays equal.
fn digest(base64: &str) -> Result<Digest, Flaw> {
    let bytes = BASE64.decode(base64.as_bytes()).expect("vectors are in base64");
    if bytes.is_empty() {
        return Err(Flaw::NoDigest);
    }
    Ok(Digest::try_from(bytes.as_slice()).unwrap_or_else(|_| leaf_hash(&bytes)))
}

impl Vector {
    fn proof(&self) -> Result<Vec<Digest>, Flaw> {
        self.proof.iter().flatten().map(|text| digest(text)).collect()
    }
}

/// The folder of one kind of vectors; `None`, said loudly, where the public data is not there and need not be.
fn folder(kind: &str) -> Option<PathBuf> {
    let data = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data");
    let folder = data.join("crypto/rfc6962-merkle").join(kind);
    if folder.is_dir() {
        return Some(folder);
    }
    let due = std::env::var_os("BITHEALTH_REQUIRE_DATA").is_some() || std::env::var_os("CI").is_some();
    assert!(!due, "{} is missing: fetch the public data, or unset BITHEALTH_REQUIRE_DATA and CI", folder.display());
    eprintln!("SKIPPED: {} is missing, so no {kind} vector was checked", folder.display());
    None
}

fn read_all(folder: &Path, vectors: &mut Vec<(PathBuf, Vector)>) {
    for item in std::fs::read_dir(folder).expect("a folder of vectors can be listed") {
        let path = item.expect("its items can be read").path();
        if path.is_dir() {
            read_all(&path, vectors);
        } else {
            let text = std::fs::read(&path).expect("a vector can be read");
            let vector = serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            vectors.push((path, vector));
        }
    }
}

fn check_all(kind: &str, count: usize, verify: impl Fn(&Vector) -> Result<(), Flaw>) {
    check_some(kind, count, |vector| Some(verify(vector)));
}

/// Checks the vectors `verify` has an answer for.
fn check_some(kind: &str, count: usize, verify: impl Fn(&Vector) -> Option<Result<(), Flaw>>) {
    let Some(folder) = folder(kind) else { return };
    let mut vectors = Vec::new();
    read_all(&folder, &mut vectors);
    assert_eq!(vectors.len(), count, "vectors of {kind}");
    for (path, vector) in vectors {
        let Some(got) = verify(&vector) else { continue };
        assert_eq!(got.is_err(), vector.want_err, "{} ({}): {got:?}", path.display(), vector.desc);
    }
}

/// Whether the leaves `start..end` are the beginning of a tree, or one of its nodes: a subtree starts at a multiple of the
/// next power of two.
fn is_subtree(start: u64, end: u64) -> bool {
    let width = end.checked_sub(start).filter(|len| *len > 0).and_then(u64::checked_next_power_of_two);
    width.is_some_and(|width| start.is_multiple_of(width))
}

#[test]
fn inclusion_vectors_are_accepted_and_refused() {
    check_all("inclusion", 98, |v| {
        Ok(verify_inclusion(&digest(&v.root)?, v.tree_size, v.leaf_idx, &digest(&v.leaf_hash)?, &v.proof()?)?)
    });
}

#[test]
fn consistency_vectors_are_accepted_and_refused() {
    check_all("consistency", 98, |v| {
        Ok(verify_consistency(&digest(&v.root1)?, v.size1, &digest(&v.root2)?, v.size2, &v.proof()?)?)
    });
}

#[test]
fn inclusion_vectors_of_subtrees_are_accepted_and_refused() {
    check_all("subtreeinclusion", 204, |v| {
        let (len, index) = (v.end.saturating_sub(v.start), v.leaf_idx.wrapping_sub(v.start));
        if !is_subtree(v.start, v.end) {
            Err(ProofError::NoSuchLeaf { index, len })?;
        }
        Ok(verify_inclusion(&digest(&v.root)?, len, index, &digest(&v.leaf_hash)?, &v.proof()?)?)
    });
}

/// The subtree that starts at leaf 0 is an earlier tree. No other subtree has a proof of its own here: nothing needs one.
#[test]
fn consistency_vectors_of_subtrees_at_the_start_are_accepted_and_refused() {
    let check =
        |v: &Vector| Ok(verify_consistency(&digest(&v.root1)?, v.end, &digest(&v.root2)?, v.size, &v.proof()?)?);
    check_some("subtreeconsistency", 118, |v| (v.start == 0 && v.end > 0).then(|| check(v)));
}
