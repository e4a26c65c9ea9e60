//! The holder's side: the tree over everything it was asked for.

use bithealth_merkle::{LeafTree, bound_leaf_hash};
use bithealth_types::{Digest, LeafIndex};

/// A tree over leaves that are bound to the nonce of an audit: 64 bytes for each leaf.
#[derive(Clone, Debug)]
pub struct Commitment {
    tree: LeafTree,
}

impl Commitment {
    /// The tree over these hashes, each made by [`Self::leaf`], of all shards one behind the other.
    pub fn new(bound_leaves: Vec<Digest>) -> Self {
        Self { tree: LeafTree::from_hashes(bound_leaves) }
    }

    /// The hash of a leaf in the tree.
    pub fn leaf(nonce: &[u8; 32], data: &[u8]) -> Digest {
        bound_leaf_hash(nonce, data)
    }

    /// What the holder commits to.
    pub fn root(&self) -> Digest {
        self.tree.root()
    }

    /// Leaves in it.
    pub fn leaf_count(&self) -> u32 {
        self.tree.hashes().len() as u32
    }

    /// The proof of the leaf at this position; none if there is no such leaf.
    pub fn prove(&self, leaf: u32) -> Option<Vec<Digest>> {
        self.tree.prove_run(LeafIndex(leaf), 1)
    }
}
