//! Proofs about logs: a leaf is in a tree, and a tree is the beginning of a longer one.

use bithealth_types::Digest;

use crate::{node_hash, root, split};

/// Why a proof about a log was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProofError {
    /// There is no such leaf.
    #[error("leaf {index} is not in a tree of {len} leaves")]
    NoSuchLeaf {
        /// The position asked about.
        index: u64,
        /// Leaves of the tree.
        len: u64,
    },
    /// No tree of `old_len` leaves has a proof that it begins one of `len`: it is empty, or the longer of the two.
    #[error("a tree of {old_len} leaves is not the beginning of one of {len}: 1 <= {old_len} <= {len} does not hold")]
    NotABeginning {
        /// Leaves of the earlier tree.
        old_len: u64,
        /// Leaves of the later tree.
        len: u64,
    },
    /// Too many or too few digests.
    #[error("the proof has {got} digests, {want} are due")]
    ProofLen {
        /// Digests that came.
        got: usize,
        /// Digests that were due.
        want: usize,
    },
    /// The proof leads to another root.
    #[error("the proof gives the root {got}, the tree's is {want}")]
    RootMismatch {
        /// What the proof leads to.
        got: Digest,
        /// The root that is known.
        want: Digest,
    },
    /// The proof leads to another root of the earlier tree.
    #[error("the proof gives the earlier root {got}, the earlier tree's is {want}")]
    OldRootMismatch {
        /// What the proof leads to.
        got: Digest,
        /// The earlier root that is known.
        want: Digest,
    },
}

/// The siblings on the way from leaf `index` up to the root, lowest first; `None` if there is no such leaf.
///
/// Source: RFC 9162, section 2.1.3.1 (PATH).
pub fn inclusion_proof(leaf_hashes: &[Digest], index: u64) -> Option<Vec<Digest>> {
    let mut leaf_hashes = leaf_hashes;
    let mut index = usize::try_from(index).ok().filter(|index| *index < leaf_hashes.len())?;
    let mut proof = Vec::new();
    while leaf_hashes.len() > 1 {
        let (left, right) = leaf_hashes.split_at(split(leaf_hashes.len() as u64) as usize);
        if index < left.len() {
            proof.push(root(right));
            leaf_hashes = left;
        } else {
            proof.push(root(left));
            index -= left.len();
            leaf_hashes = right;
        }
    }
    proof.reverse();
    Some(proof)
}

/// Checks that the leaf with `leaf_hash` is leaf `index` of the tree of `len` leaves that has this root.
///
/// # Errors
/// [`ProofError`] with what came and what was due.
///
/// Source: RFC 9162, section 2.1.3.2.
pub fn verify_inclusion(
    root: &Digest,
    len: u64,
    index: u64,
    leaf_hash: &Digest,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if index >= len {
        return Err(ProofError::NoSuchLeaf { index, len });
    }
    // Below the node where the ways to this leaf and to the last one part, each bit of `index` says which side the leaf
    // is on; above it, only the set bits have a sibling at all, and it lies to the left.
    let below = (u64::BITS - (index ^ (len - 1)).leading_zeros()) as usize;
    let above = (index.checked_shr(below as u32).unwrap_or(0)).count_ones() as usize;
    check_len(proof.len(), below + above)?;
    let got = proof.iter().enumerate().fold(*leaf_hash, |hash, (level, sibling)| {
        if level < below && (index >> level) & 1 == 0 { node_hash(&hash, sibling) } else { node_hash(sibling, &hash) }
    });
    check_root(got, *root)
}

/// The proof that the first `old_len` leaves are a tree that this one continues; `None` unless 1 <= `old_len` <= leaves.
///
/// Source: RFC 9162, section 2.1.4.1 (PROOF).
pub fn consistency_proof(leaf_hashes: &[Digest], old_len: u64) -> Option<Vec<Digest>> {
    let old_len = usize::try_from(old_len).ok().filter(|old_len| (1..=leaf_hashes.len()).contains(old_len))?;
    let mut proof = Vec::new();
    subproof(leaf_hashes, old_len, Known::Yes, &mut proof);
    Some(proof)
}

/// Whether the verifier knows the root of the part of the old tree it is at.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    Yes,
    No,
}

/// SUBPROOF of RFC 9162, section 2.1.4.1.
fn subproof(leaf_hashes: &[Digest], old_len: usize, known: Known, proof: &mut Vec<Digest>) {
    if old_len == leaf_hashes.len() {
        if known == Known::No {
            proof.push(root(leaf_hashes));
        }
        return;
    }
    let (left, right) = leaf_hashes.split_at(split(leaf_hashes.len() as u64) as usize);
    if old_len <= left.len() {
        subproof(left, old_len, known, proof);
        proof.push(root(right));
    } else {
        subproof(right, old_len - left.len(), Known::No, proof);
        proof.push(root(left));
    }
}

/// Checks that the tree of `len` leaves with `root` begins with the tree of `old_len` leaves that has `old_root`.
///
/// An empty tree begins every other and has no proof: a caller who knows none yet has nothing to check.
///
/// # Errors
/// [`ProofError`] with what came and what was due.
///
/// Source: RFC 9162, section 2.1.4.2.
pub fn verify_consistency(
    old_root: &Digest,
    old_len: u64,
    root: &Digest,
    len: u64,
    proof: &[Digest],
) -> Result<(), ProofError> {
    if old_len == 0 || old_len > len {
        return Err(ProofError::NotABeginning { old_len, len });
    }
    let mut rebuild = Rebuild { old_root: *old_root, proof, taken: 0 };
    let (got_old, got) = rebuild.roots(old_len, len, Known::Yes);
    check_len(proof.len(), rebuild.taken)?;
    if got_old != *old_root {
        return Err(ProofError::OldRootMismatch { got: got_old, want: *old_root });
    }
    check_root(got, *root)
}

/// Walks the way [`subproof`] went, with the proof in place of the leaves.
struct Rebuild<'a> {
    old_root: Digest,
    proof: &'a [Digest],
    /// Digests that were due so far, which may be more than there are.
    taken: usize,
}

impl Rebuild<'_> {
    /// The roots of the first `old_len` and of all `len` leaves of a subtree.
    fn roots(&mut self, old_len: u64, len: u64, known: Known) -> (Digest, Digest) {
        if old_len == len {
            let root = if known == Known::Yes { self.old_root } else { self.take() };
            return (root, root);
        }
        let left_len = split(len);
        if old_len <= left_len {
            let (old, left) = self.roots(old_len, left_len, known);
            let right = self.take();
            (old, node_hash(&left, &right))
        } else {
            let (old, right) = self.roots(old_len - left_len, len - left_len, Known::No);
            let left = self.take();
            (node_hash(&left, &old), node_hash(&left, &right))
        }
    }

    /// The next digest; a stand-in behind the proof's end, where the length is refused anyway.
    fn take(&mut self) -> Digest {
        let digest = self.proof.get(self.taken).copied().unwrap_or(Digest([0; 32]));
        self.taken += 1;
        digest
    }
}

fn check_len(got: usize, want: usize) -> Result<(), ProofError> {
    if got == want { Ok(()) } else { Err(ProofError::ProofLen { got, want }) }
}

fn check_root(got: Digest, want: Digest) -> Result<(), ProofError> {
    if got == want { Ok(()) } else { Err(ProofError::RootMismatch { got, want }) }
}

#[cfg(test)]
mod tests;
