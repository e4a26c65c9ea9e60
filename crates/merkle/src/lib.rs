//! Merkle trees: roots, and proofs about them.
//!
//! Every tree here has the shape and the hashes of RFC 9162 (Certificate Transparency 2.0), section 2.1: a leaf is
//! SHA-256(0x00 || data), a node SHA-256(0x01 || left || right), and the left half of `len` leaves holds the largest
//! power of two below `len`. [`inclusion_proof`] and [`consistency_proof`] speak about logs; [`LeafTree`] proves runs of
//! leaves of a shard, which RFC 9162 has no form for. Positions and lengths come from the caller, who must trust them:
//! a root alone does not fix how many leaves lie under it. [`map_root`] does fix it: [`prove`] proves to whoever has that
//! root, and nothing else, that a key is in a map or is not.

mod leaves;
mod log;
mod map;

pub use leaves::{KnownNodes, LeafTree, RunError, verify_run};
pub use log::{ProofError, consistency_proof, inclusion_proof, verify_consistency, verify_inclusion};
pub use map::{KEY_LEN_MAX, MapError, MapProof, Neighbour, map_root, prove, verify_absent, verify_present};

use bithealth_types::Digest;
use sha2::{Digest as _, Sha256};

/// The hash of a leaf with this content: SHA-256(0x00 || `data`).
///
/// Source: RFC 9162, section 2.1.1.
pub fn leaf_hash(data: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0x00]).chain_update(data).finalize().into())
}

/// The hash of a leaf with this content that only whoever has all of it now can make: that of `nonce`, then `data`.
///
/// The nonce stands first: behind the data, whoever kept the 32 bytes that SHA-256 carries from block to block could
/// throw the data away and still answer any nonce.
pub fn bound_leaf_hash(nonce: &[u8; 32], data: &[u8]) -> Digest {
    Digest(Sha256::new().chain_update([0x00]).chain_update(nonce).chain_update(data).finalize().into())
}

/// The hash of a node over these two: SHA-256(0x01 || `left` || `right`).
///
/// Source: RFC 9162, section 2.1.1.
pub fn node_hash(left: &Digest, right: &Digest) -> Digest {
    let mut bytes = [0x01; 1 + 2 * Digest::LEN];
    bytes[1..=Digest::LEN].copy_from_slice(left.as_bytes());
    bytes[1 + Digest::LEN..].copy_from_slice(right.as_bytes());
    Digest(Sha256::digest(bytes).into())
}

/// The root over these leaf hashes; of none, SHA-256 of nothing.
///
/// Source: RFC 9162, section 2.1.1 (MTH).
pub fn root(leaf_hashes: &[Digest]) -> Digest {
    let mut frontier = Frontier::default();
    leaf_hashes.iter().for_each(|hash| frontier.push(*hash));
    frontier.root()
}

/// Leaves in the left half of a tree of `len` leaves: the largest power of two below `len`, which is 2 or more.
fn split(len: u64) -> u64 {
    1 << (len - 1).ilog2()
}

/// A tree that grows leaf by leaf and keeps only the roots of its complete subtrees: at most 64 digests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    len: u64,
    /// One root for each bit set in `len`, the highest bit first.
    complete: Vec<Digest>,
}

impl Frontier {
    /// Appends a leaf by its hash.
    pub fn push(&mut self, leaf_hash: Digest) {
        let mut hash = leaf_hash;
        for _ in 0..self.len.trailing_ones() {
            let left = self.complete.pop().expect("every bit set in len has its subtree");
            hash = node_hash(&left, &hash);
        }
        self.complete.push(hash);
        self.len += 1;
    }

    /// Leaves so far.
    pub fn len(&self) -> u64 {
        self.len
    }

    /// Whether there is no leaf yet.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The root over the leaves so far; of none, SHA-256 of nothing.
    pub fn root(&self) -> Digest {
        let folded = self.complete.iter().rev().copied().reduce(|right, left| node_hash(&left, &right));
        folded.unwrap_or_else(|| Digest(Sha256::digest([]).into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// MTH as RFC 9162 writes it down.
    fn root_by_definition(leaf_hashes: &[Digest]) -> Digest {
        match leaf_hashes {
            [] => Digest(Sha256::digest([]).into()),
            [only] => *only,
            _ => {
                let (left, right) = leaf_hashes.split_at(split(leaf_hashes.len() as u64) as usize);
                node_hash(&root_by_definition(left), &root_by_definition(right))
            }
        }
    }

    #[test]
    fn the_empty_tree_has_the_hash_of_nothing() {
        let want = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(root(&[]).to_string(), want);
        assert!(Frontier::default().is_empty());
    }

    #[test]
    fn leaves_and_nodes_cannot_be_taken_for_each_other() {
        let (left, right) = (leaf_hash(b"left"), leaf_hash(b"right"));
        let joined = [left.0, right.0].concat();
        assert_ne!(node_hash(&left, &right), leaf_hash(&joined));
        assert_eq!(leaf_hash(b"").to_string(), "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d");
    }

    #[test]
    fn a_leaf_bound_to_a_nonce_changes_with_the_nonce_and_with_every_byte() {
        let (nonce, other) = ([7; 32], [8; 32]);
        let bound = bound_leaf_hash(&nonce, b"leaf");
        assert_eq!(bound, leaf_hash(&[&nonce[..], b"leaf"].concat()));
        assert_ne!(bound, bound_leaf_hash(&other, b"leaf"));
        assert_ne!(bound, bound_leaf_hash(&nonce, b"leaF"));
        assert_ne!(bound, leaf_hash(b"leaf"), "what is stored beside the leaves is of no use");
    }

    #[test]
    fn a_growing_tree_has_the_root_of_the_definition_at_every_length() {
        let hashes: Vec<_> = (0..130u32).map(|i| leaf_hash(&i.to_be_bytes())).collect();
        let mut frontier = Frontier::default();
        for (len, hash) in hashes.iter().enumerate() {
            assert_eq!(frontier.len(), len as u64);
            assert_eq!(frontier.root(), root_by_definition(&hashes[..len]));
            frontier.push(*hash);
        }
        assert_eq!(root(&hashes), frontier.root());
    }
}
