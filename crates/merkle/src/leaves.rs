//! The tree over the 16 KiB leaves of a shard, and proofs for runs of them.
//!
//! A run of leaves is what one want asks for. Its proof is the roots of the largest subtrees left and right of the run,
//! as a walk from left to right meets them: no digest more, so a whole shard needs none and one leaf of 2^d needs d.

mod known;

use bithealth_types::{Digest, LEAF_LEN, LeafIndex};

pub use self::known::KnownNodes;
use crate::{leaf_hash, node_hash, root, split};

/// Why a run of leaves was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A run has at least one leaf.
    #[error("a run without leaves proves nothing")]
    Empty,
    /// The run ends behind the shard.
    #[error("{count} leaves from leaf {first} are not in a shard of {leaf_count} leaves")]
    OutOfShard {
        /// First leaf of the run.
        first: LeafIndex,
        /// Leaves of the run.
        count: usize,
        /// Leaves of the shard.
        leaf_count: u32,
    },
    /// Too many or too few digests.
    #[error("the proof has {got} digests, {want} are due")]
    ProofLen {
        /// Digests that came.
        got: usize,
        /// Digests that were due.
        want: usize,
    },
    /// The leaves and the proof do not hash to the root the shard has.
    #[error("the run from leaf {first} and its proof give the root {got}, the shard's is {want}")]
    RootMismatch {
        /// First leaf of the run.
        first: LeafIndex,
        /// What came.
        got: Digest,
        /// The shard's root.
        want: Digest,
    },
}

/// The tree over the leaves of one shard, with all its nodes: 64 bytes for each leaf of 16 KiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafTree {
    /// `levels[0]` are the leaf hashes; node `i` of a level is over nodes `2i` and `2i + 1` of the one below, or is node
    /// `2i` itself where that is the last.
    levels: Vec<Vec<Digest>>,
}

impl LeafTree {
    /// Hashes a shard, leaf by leaf. Bytes that do not fill the last leaf are hashed as they are.
    pub fn from_shard(bytes: &[u8]) -> Self {
        Self::from_hashes(bytes.chunks(LEAF_LEN).map(leaf_hash).collect())
    }

    /// The tree over these leaf hashes.
    pub fn from_hashes(leaf_hashes: Vec<Digest>) -> Self {
        let mut levels = vec![leaf_hashes];
        while let Some(below) = levels.last().filter(|below| below.len() > 1) {
            let above =
                below.chunks(2).map(|pair| if let [left, right] = pair { node_hash(left, right) } else { pair[0] });
            levels.push(above.collect());
        }
        Self { levels }
    }

    /// The root, as [`crate::root`] of [`Self::hashes`].
    pub fn root(&self) -> Digest {
        self.levels[self.levels.len() - 1].first().copied().unwrap_or_else(|| root(&[]))
    }

    /// The hash of each leaf, in order.
    pub fn hashes(&self) -> &[Digest] {
        &self.levels[0]
    }

    /// The proof that `count` leaves from `first` are what they are; `None` if the run is empty or leaves the shard.
    pub fn prove_run(&self, first: LeafIndex, count: u32) -> Option<Vec<Digest>> {
        let run = Run::new(first, count as usize, self.hashes().len() as u64).ok()?;
        let mut proof = Vec::new();
        self.collect(&run, 0, self.hashes().len() as u64, &mut proof);
        Some(proof)
    }

    fn collect(&self, run: &Run, start: u64, len: u64, proof: &mut Vec<Digest>) {
        match run.meets(start, len) {
            Meets::Nothing => {
                let level = len.next_power_of_two().ilog2();
                proof.push(self.levels[level as usize][(start >> level) as usize]);
            }
            Meets::All => {}
            Meets::Part => {
                let left_len = split(len);
                self.collect(run, start, left_len, proof);
                self.collect(run, start + left_len, len - left_len, proof);
            }
        }
    }
}

/// Checks that these are the hashes of the leaves from `first` in the shard of `leaf_count` leaves with this root.
///
/// `leaf_count` comes from the pack's descriptor, never from the peer that sent the leaves.
///
/// # Errors
/// [`RunError`] with what came and what was due.
pub fn verify_run(
    root: &Digest,
    leaf_count: u32,
    first: LeafIndex,
    leaf_hashes: &[Digest],
    proof: &[Digest],
) -> Result<(), RunError> {
    let run = Run::new(first, leaf_hashes.len(), u64::from(leaf_count))?;
    let mut rebuild = Rebuild { run, leaf_hashes, proof, taken: 0 };
    let got = rebuild.root(0, u64::from(leaf_count));
    if proof.len() != rebuild.taken {
        return Err(RunError::ProofLen { got: proof.len(), want: rebuild.taken });
    }
    if got != *root {
        return Err(RunError::RootMismatch { first, got, want: *root });
    }
    Ok(())
}

/// A run of leaves that lies in its shard and is not empty.
struct Run {
    start: u64,
    end: u64,
}

/// What of a subtree lies in the run.
enum Meets {
    Nothing,
    Part,
    All,
}

impl Run {
    fn new(first: LeafIndex, count: usize, leaf_count: u64) -> Result<Self, RunError> {
        let start = u64::from(first.0);
        let end = start.saturating_add(count as u64);
        if count == 0 {
            return Err(RunError::Empty);
        }
        if end > leaf_count {
            return Err(RunError::OutOfShard { first, count, leaf_count: leaf_count as u32 });
        }
        Ok(Self { start, end })
    }

    fn meets(&self, start: u64, len: u64) -> Meets {
        if start + len <= self.start || self.end <= start {
            Meets::Nothing
        } else if self.start <= start && start + len <= self.end {
            Meets::All
        } else {
            Meets::Part
        }
    }
}

/// Walks the tree from left to right, with the proof in place of what lies outside the run.
struct Rebuild<'a> {
    run: Run,
    leaf_hashes: &'a [Digest],
    proof: &'a [Digest],
    /// Digests that were due so far, which may be more than there are.
    taken: usize,
}

impl Rebuild<'_> {
    fn root(&mut self, start: u64, len: u64) -> Digest {
        match self.run.meets(start, len) {
            Meets::Nothing => {
                // A stand-in behind the proof's end, where the length is refused anyway.
                let digest = self.proof.get(self.taken).copied().unwrap_or(Digest([0; 32]));
                self.taken += 1;
                digest
            }
            Meets::All => {
                let from = (start - self.run.start) as usize;
                root(&self.leaf_hashes[from..from + len as usize])
            }
            Meets::Part => {
                let left_len = split(len);
                let left = self.root(start, left_len);
                node_hash(&left, &self.root(start + left_len, len - left_len))
            }
        }
    }
}

#[cfg(test)]
mod tests;
