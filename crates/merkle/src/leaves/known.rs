//! What verified runs tell about a shard's tree.

use std::collections::BTreeMap;

use bithealth_types::{Digest, LeafIndex};

use super::{Meets, Run};
use crate::{node_hash, split};

/// The nodes of a shard's tree that verified runs and their proofs told.
///
/// They prove every run whose leaves were all among those: each subtree beside such a run lies beside, or inside, one of
/// the verified runs. So whoever fetched a shard in runs of one length can serve it in runs of any other.
#[derive(Clone, Debug)]
pub struct KnownNodes {
    leaf_count: u32,
    /// By level and position, as in [`super::LeafTree`].
    nodes: BTreeMap<(u32, u64), Digest>,
}

impl KnownNodes {
    /// Nothing is known of a shard of `leaf_count` leaves.
    pub fn new(leaf_count: u32) -> Self {
        Self { leaf_count, nodes: BTreeMap::new() }
    }

    /// Takes in a run that [`super::verify_run`] has found true. One that does not fit into the shard is left out.
    pub fn insert(&mut self, first: LeafIndex, leaf_hashes: &[Digest], proof: &[Digest]) {
        let len = u64::from(self.leaf_count);
        if let Ok(run) = Run::new(first, leaf_hashes.len(), len) {
            let mut proof = proof.iter();
            self.walk(&run, leaf_hashes, &mut proof, 0, len);
        }
    }

    fn walk<'a>(
        &mut self,
        run: &Run,
        leaf_hashes: &[Digest],
        proof: &mut impl Iterator<Item = &'a Digest>,
        start: u64,
        len: u64,
    ) {
        match run.meets(start, len) {
            Meets::Nothing => {
                if let Some(digest) = proof.next() {
                    self.nodes.insert(name(start, len), *digest);
                }
            }
            Meets::All => {
                let from = (start - run.start) as usize;
                for (leaf, hash) in (start..).zip(&leaf_hashes[from..from + len as usize]) {
                    self.nodes.insert((0, leaf), *hash);
                }
            }
            Meets::Part => {
                let left_len = split(len);
                self.walk(run, leaf_hashes, proof, start, left_len);
                self.walk(run, leaf_hashes, proof, start + left_len, len - left_len);
            }
        }
    }

    /// The proof of a run, the same as of [`super::LeafTree::prove_run`]; `None` if too little is known.
    pub fn prove_run(&self, first: LeafIndex, count: u32) -> Option<Vec<Digest>> {
        let len = u64::from(self.leaf_count);
        let run = Run::new(first, count as usize, len).ok()?;
        let mut proof = Vec::new();
        self.collect(&run, 0, len, &mut proof)?;
        Some(proof)
    }

    fn collect(&self, run: &Run, start: u64, len: u64, proof: &mut Vec<Digest>) -> Option<()> {
        match run.meets(start, len) {
            Meets::Nothing => proof.push(self.node(start, len)?),
            Meets::All => {}
            Meets::Part => {
                let left_len = split(len);
                self.collect(run, start, left_len, proof)?;
                self.collect(run, start + left_len, len - left_len, proof)?;
            }
        }
        Some(())
    }

    /// The root of a subtree: as it was told, or from what was told below it.
    fn node(&self, start: u64, len: u64) -> Option<Digest> {
        if let Some(digest) = self.nodes.get(&name(start, len)) {
            return Some(*digest);
        }
        if len == 1 {
            return None;
        }
        let left_len = split(len);
        Some(node_hash(&self.node(start, left_len)?, &self.node(start + left_len, len - left_len)?))
    }
}

fn name(start: u64, len: u64) -> (u32, u64) {
    let level = len.next_power_of_two().ilog2();
    (level, start >> level)
}
