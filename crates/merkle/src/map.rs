//! A map of keys to digests with one root, and proofs that a key is in it, with which value, or that it is not.
//!
//! The entries are the leaves of a tree in the order of their keys, compared as bytes. So one leaf proves that a key is
//! there, and two leaves next to each other prove that nothing lies between them; in front of the first and behind the
//! last key one leaf suffices. Paths are those of RFC 9162, which any verifier of Certificate Transparency can check:
//!
//! | part | is |
//! |---|---|
//! | leaf | [`leaf_hash`] of the key's length (u32, big-endian), the key, and the value's digest |
//! | tree | [`root`] of the leaves, in the order of their keys |
//! | map | SHA-256 of `bithealth map v1`, the count of entries (u64, big-endian), and the tree's root |
//!
//! The count is hashed too since a tree's root does not fix it, and without it no leaf is known to be the last. What no
//! proof can show is that the entries are in order: whoever signs a map's root answers for that.

use std::collections::BTreeMap;
use std::ops::Bound;

use bithealth_types::Digest;
use sha2::{Digest as _, Sha256};

use crate::{ProofError, inclusion_proof, leaf_hash, root, verify_inclusion};

/// Most bytes of a key: ours are a few ids and digests. Bounds what a proof can hold that is not a digest.
pub const KEY_LEN_MAX: usize = 1024;

const MAP_LABEL: &[u8] = b"bithealth map v1";

/// That a key is in a map, or that it is not: the entry itself, or those next to where it would be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapProof {
    /// Entries of the map.
    pub len: u64,
    /// The root of the tree over them.
    pub tree: Digest,
    /// The key's entry; or the one before and the one after it: at an end of the map only one, in an empty map none.
    pub neighbours: Vec<Neighbour>,
}

/// An entry of a map, and the proof that it is one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// Its position in the order of keys.
    pub index: u64,
    /// Its key.
    pub key: Vec<u8>,
    /// The digest of its value.
    pub value: Digest,
    /// Its path, as [`inclusion_proof`] gives it.
    pub path: Vec<Digest>,
}

/// Why a proof about a map was refused. Keys are not told: they may say more than the log of a node should hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MapError {
    /// The length and the tree are not those of the map.
    #[error("the proof is about the map {got}, the map is {want}")]
    RootMismatch {
        /// The root of the map the proof is about.
        got: Digest,
        /// The root that is known.
        want: Digest,
    },
    /// A key that no map of ours has.
    #[error("the key of entry {index} has {got} bytes, at most {KEY_LEN_MAX} are due")]
    KeyLen {
        /// The entry's position.
        index: u64,
        /// Bytes of its key.
        got: usize,
    },
    /// An entry is not in the tree.
    #[error("entry {index} is not proven")]
    Path {
        /// The entry's position.
        index: u64,
        /// What its path leads to.
        source: ProofError,
    },
    /// Presence is proven by one entry.
    #[error("the proof has {got} entries, that a key is there is proven by 1")]
    NotOne {
        /// Entries that came.
        got: usize,
    },
    /// The proof is about another key.
    #[error("entry {index} has another key")]
    OtherKey {
        /// The entry's position.
        index: u64,
    },
    /// The key has another value.
    #[error("the key's value is {got}, not {want}")]
    OtherValue {
        /// The value in the map.
        got: Digest,
        /// The value asked about.
        want: Digest,
    },
    /// Absence is proven by two entries, at the ends by one, in an empty map by none.
    #[error("the proof has {got} entries of a map of {len}: that a key is not there is proven by 1 or 2, of none by 0")]
    NeighbourCount {
        /// Entries that came.
        got: usize,
        /// Entries of the map.
        len: u64,
    },
    /// The proof shows the key itself.
    #[error("the proof shows the key itself, as entry {index}")]
    Present {
        /// Its position.
        index: u64,
    },
    /// The key does not lie between the two entries.
    #[error("the key does not lie between entries {left} and {right}")]
    NotBetween {
        /// Position of the first.
        left: u64,
        /// Position of the second.
        right: u64,
    },
    /// There may be others between the two entries.
    #[error("entries {left} and {right} are not next to each other")]
    NotAdjacent {
        /// Position of the first.
        left: u64,
        /// Position of the second.
        right: u64,
    },
    /// There are others on the key's side of the only entry.
    #[error("the key lies beyond entry {index} of {len}, which is not at that end of the map")]
    NotAtTheEnd {
        /// The entry's position.
        index: u64,
        /// Entries of the map.
        len: u64,
    },
}

/// The root of a map. Hashes every entry.
///
/// # Panics
/// If a key is longer than [`KEY_LEN_MAX`]: what becomes a key is for the caller to bound.
pub fn map_root(entries: &BTreeMap<Vec<u8>, Digest>) -> Digest {
    head_hash(entries.len() as u64, &root(&leaf_hashes(entries)))
}

/// Proves that `key` is in the map, or that it is not. Hashes every entry, up to three times.
///
/// # Panics
/// As [`map_root`].
pub fn prove(entries: &BTreeMap<Vec<u8>, Digest>, key: &[u8]) -> MapProof {
    let hashes = leaf_hashes(entries);
    let rank = entries.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(key))).count();
    let shown = if entries.contains_key(key) { rank..rank + 1 } else { rank.saturating_sub(1)..rank + 1 };
    let neighbour = |(index, (key, value)): (usize, (&Vec<u8>, &Digest))| Neighbour {
        index: index as u64,
        key: key.clone(),
        value: *value,
        path: inclusion_proof(&hashes, index as u64).expect("there is a leaf for each entry"),
    };
    let neighbours = entries.iter().enumerate().take(shown.end).skip(shown.start).map(neighbour).collect();
    MapProof { len: entries.len() as u64, tree: root(&hashes), neighbours }
}

/// Checks that the map with this root has `key` with the value of this digest.
///
/// # Errors
/// [`MapError`] if the proof is about another map, key or value, or does not hold.
pub fn verify_present(root: &Digest, key: &[u8], value: &Digest, proof: &MapProof) -> Result<(), MapError> {
    verify_head(root, proof)?;
    let [entry] = proof.neighbours.as_slice() else {
        return Err(MapError::NotOne { got: proof.neighbours.len() });
    };
    if entry.key != key {
        return Err(MapError::OtherKey { index: entry.index });
    }
    verify_entry(proof, entry)?;
    // Last, so that the value told as the map's is the map's.
    if entry.value != *value {
        return Err(MapError::OtherValue { got: entry.value, want: *value });
    }
    Ok(())
}

/// Checks that the map with this root does not have `key`.
///
/// # Errors
/// [`MapError`] if the proof is about another map, leaves room for the key, or does not hold.
pub fn verify_absent(root: &Digest, key: &[u8], proof: &MapProof) -> Result<(), MapError> {
    verify_head(root, proof)?;
    if let Some(entry) = proof.neighbours.iter().find(|entry| entry.key == key) {
        return Err(MapError::Present { index: entry.index });
    }
    match proof.neighbours.as_slice() {
        [] if proof.len == 0 => {}
        [only] => beyond(key, only, proof.len)?,
        [left, right] => between(key, left, right)?,
        other => return Err(MapError::NeighbourCount { got: other.len(), len: proof.len }),
    }
    proof.neighbours.iter().try_for_each(|entry| verify_entry(proof, entry))
}

/// Checks that `key` lies in front of the first or behind the last entry.
fn beyond(key: &[u8], only: &Neighbour, len: u64) -> Result<(), MapError> {
    let end = if key < only.key.as_slice() { Some(0) } else { len.checked_sub(1) };
    if Some(only.index) == end { Ok(()) } else { Err(MapError::NotAtTheEnd { index: only.index, len }) }
}

/// Checks that `key` lies between two entries, and nothing else does.
fn between(key: &[u8], left: &Neighbour, right: &Neighbour) -> Result<(), MapError> {
    let (from, to) = (left.index, right.index);
    if key < left.key.as_slice() || right.key.as_slice() < key {
        return Err(MapError::NotBetween { left: from, right: to });
    }
    if from.checked_add(1) != Some(to) {
        return Err(MapError::NotAdjacent { left: from, right: to });
    }
    Ok(())
}

/// Checks that the proof is about the map with this root.
fn verify_head(root: &Digest, proof: &MapProof) -> Result<(), MapError> {
    let got = head_hash(proof.len, &proof.tree);
    if got == *root { Ok(()) } else { Err(MapError::RootMismatch { got, want: *root }) }
}

/// Checks that the proof's tree has this entry.
fn verify_entry(proof: &MapProof, entry: &Neighbour) -> Result<(), MapError> {
    let index = entry.index;
    if entry.key.len() > KEY_LEN_MAX {
        return Err(MapError::KeyLen { index, got: entry.key.len() });
    }
    let hash = entry_hash(&entry.key, &entry.value);
    verify_inclusion(&proof.tree, proof.len, index, &hash, &entry.path)
        .map_err(|source| MapError::Path { index, source })
}

fn leaf_hashes(entries: &BTreeMap<Vec<u8>, Digest>) -> Vec<Digest> {
    entries.iter().map(|(key, value)| entry_hash(key, value)).collect()
}

fn entry_hash(key: &[u8], value: &Digest) -> Digest {
    assert!(key.len() <= KEY_LEN_MAX, "a key of {} bytes, at most {KEY_LEN_MAX} are due", key.len());
    leaf_hash(&[&(key.len() as u32).to_be_bytes(), key, value.as_bytes()].concat())
}

fn head_hash(len: u64, tree: &Digest) -> Digest {
    let hash = Sha256::new().chain_update(MAP_LABEL).chain_update(len.to_be_bytes()).chain_update(tree.as_bytes());
    Digest(hash.finalize().into())
}

#[cfg(test)]
mod tests;
