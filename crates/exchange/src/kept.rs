//! Leaves that were fetched lately, with what proves them: whoever fetches serves at once.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bithealth_merkle::KnownNodes;
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, PackId, ShardIndex};
use bytes::{Bytes, BytesMut};

use crate::{GRID_LEAVES, RUN_LEAVES_MAX, RunSet};

/// Verified leaves in memory, the latest up to a bound.
#[derive(Debug)]
pub struct Kept {
    bytes_max: u64,
    bytes: u64,
    shards: BTreeMap<(PackId, ShardIndex), Shard>,
    /// Runs in the order in which they came.
    order: VecDeque<(PackId, ShardIndex, u32)>,
}

/// What is kept of one shard.
#[derive(Debug)]
struct Shard {
    leaf_count: u32,
    known: KnownNodes,
    /// Whole leaves, by the first of them.
    runs: BTreeMap<u32, Bytes>,
}

impl Kept {
    /// Nothing yet; of what comes, at most `bytes_max` stay.
    pub fn new(bytes_max: u64) -> Self {
        Self { bytes_max, bytes: 0, shards: BTreeMap::new(), order: VecDeque::new() }
    }

    /// Bytes of leaves that are kept.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps a verified run, and forgets those that came first where it is too much.
    pub fn insert(
        &mut self,
        (pack, shard, leaf_count): (PackId, ShardIndex, u32),
        first: LeafIndex,
        data: Bytes,
        hashes: &[Digest],
        proof: &[Digest],
    ) {
        let len = data.len() as u64;
        let fresh = || Shard { leaf_count, known: KnownNodes::new(leaf_count), runs: BTreeMap::new() };
        let held = self.shards.entry((pack, shard)).or_insert_with(fresh);
        if held.runs.get(&first.0).is_some_and(|run| run.len() >= data.len()) {
            return;
        }
        held.known.insert(first, hashes, proof);
        match held.runs.insert(first.0, data) {
            Some(shorter) => self.bytes -= shorter.len() as u64,
            None => self.order.push_back((pack, shard, first.0)),
        }
        self.bytes += len;
        while self.bytes > self.bytes_max {
            self.forget_first();
        }
    }

    fn forget_first(&mut self) {
        let (pack, shard, first) = self.order.pop_front().expect("what counts is in the order");
        let held = self.shards.get_mut(&(pack, shard)).expect("what is in the order is kept");
        self.bytes -= held.runs.remove(&first).map_or(0, |run| run.len() as u64);
        if held.runs.is_empty() {
            self.shards.remove(&(pack, shard));
        }
    }

    /// The leaves of a want and their proof, if all of them are kept.
    pub fn leaves(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        first: LeafIndex,
        count: u32,
    ) -> Option<(Bytes, Vec<Digest>)> {
        let held = self.shards.get(&(*pack, shard))?;
        let end = first.0.checked_add(count).filter(|end| count > 0 && *end <= held.leaf_count)?;
        let data = held.bytes(first.0..end)?;
        Some((data, held.known.prove_run(first, count)?))
    }

    /// What is kept of a pack, on the grid; shards of which no run is whole are left out.
    pub fn runs_of(&self, pack: &PackId) -> Vec<(ShardIndex, RunSet)> {
        let shards = self.shards.range((*pack, ShardIndex(0))..=(*pack, ShardIndex(u16::MAX)));
        shards.map(|((_, shard), held)| (*shard, held.grid())).filter(|(_, runs)| !runs.is_empty()).collect()
    }

    /// The runs of one shard that are kept, on the grid.
    pub fn runs_of_shard(&self, pack: &PackId, shard: ShardIndex) -> RunSet {
        self.shards.get(&(*pack, shard)).map(Shard::grid).unwrap_or_default()
    }
}

impl Shard {
    /// The kept run that holds this leaf, and from where on.
    fn run_with(&self, leaf: u32) -> Option<(u32, &Bytes)> {
        let before = self.runs.range(..=leaf).rev();
        // A run is at most so long: none that begins further back reaches here.
        let near = before.take_while(|(first, _)| leaf - **first < RUN_LEAVES_MAX);
        near.map(|(first, run)| (*first, run)).find(|(first, run)| leaf < first + leaves_in(run))
    }

    /// These leaves, one behind the other: without a copy where one run holds them all.
    fn bytes(&self, leaves: Range<u32>) -> Option<Bytes> {
        let (first, run) = self.run_with(leaves.start)?;
        if leaves.end <= first + leaves_in(run) {
            return Some(run.slice(offset(leaves.start - first)..offset(leaves.end - first)));
        }
        let mut bytes = BytesMut::with_capacity(offset(leaves.end - leaves.start));
        let mut at = leaves.start;
        while at < leaves.end {
            let (first, run) = self.run_with(at)?;
            let end = leaves.end.min(first + leaves_in(run));
            bytes.extend_from_slice(&run[offset(at - first)..offset(end - first)]);
            at = end;
        }
        Some(bytes.freeze())
    }

    fn grid(&self) -> RunSet {
        let mut grid = RunSet::default();
        for run in 0..self.leaf_count.div_ceil(GRID_LEAVES) {
            let mut leaves = run * GRID_LEAVES..((run + 1) * GRID_LEAVES).min(self.leaf_count);
            if leaves.all(|leaf| self.run_with(leaf).is_some()) {
                grid.insert(run);
            }
        }
        grid
    }
}

fn leaves_in(run: &Bytes) -> u32 {
    (run.len() / LEAF_LEN) as u32
}

fn offset(leaves: u32) -> usize {
    leaves as usize * LEAF_LEN
}

#[cfg(test)]
mod tests {
    use bithealth_merkle::{LeafTree, verify_run};

    use super::*;

    const PACK: PackId = PackId([7; 32]);
    const SHARD: ShardIndex = ShardIndex(2);
    const LEAF_COUNT: u32 = 40;

    struct Source {
        bytes: Vec<u8>,
        tree: LeafTree,
    }

    impl Source {
        fn new() -> Self {
            let bytes: Vec<u8> = (0..LEAF_COUNT).flat_map(|leaf| std::iter::repeat_n(leaf as u8, LEAF_LEN)).collect();
            let tree = LeafTree::from_shard(&bytes);
            Self { bytes, tree }
        }

        fn data(&self, leaves: Range<u32>) -> &[u8] {
            &self.bytes[offset(leaves.start)..offset(leaves.end)]
        }

        fn give(&self, kept: &mut Kept, leaves: Range<u32>) {
            let (first, count) = (LeafIndex(leaves.start), leaves.len() as u32);
            let proof = self.tree.prove_run(first, count).unwrap();
            let hashes = &self.tree.hashes()[leaves.start as usize..leaves.end as usize];
            let data = Bytes::copy_from_slice(self.data(leaves.clone()));
            kept.insert((PACK, SHARD, LEAF_COUNT), first, data, hashes, &proof);
        }

        /// Whether these leaves are served, and truly.
        fn is_served(&self, kept: &Kept, leaves: Range<u32>) -> bool {
            let first = LeafIndex(leaves.start);
            let Some((data, proof)) = kept.leaves(&PACK, SHARD, first, leaves.len() as u32) else { return false };
            let hashes: Vec<_> = data.chunks(LEAF_LEN).map(bithealth_merkle::leaf_hash).collect();
            assert_eq!(verify_run(&self.tree.root(), LEAF_COUNT, first, &hashes, &proof), Ok(()));
            assert_eq!(data, self.data(leaves));
            true
        }
    }

    #[test]
    fn what_came_is_served_in_runs_of_any_length() {
        let (source, mut kept) = (Source::new(), Kept::new(1 << 30));
        for run in [16..32, 32..40, 3..7] {
            source.give(&mut kept, run);
        }
        for run in [16..32, 20..21, 30..35, 16..40, 3..7, 4..6] {
            assert!(source.is_served(&kept, run.clone()), "{run:?}");
        }
        for run in [0..1, 6..8, 15..17, 16..41] {
            assert!(!source.is_served(&kept, run.clone()), "{run:?}");
        }
        assert_eq!(kept.leaves(&PACK, SHARD, LeafIndex(16), 0), None);
        assert_eq!(kept.leaves(&PACK, SHARD, LeafIndex(16), u32::MAX), None);
        assert_eq!(kept.leaves(&PackId([8; 32]), SHARD, LeafIndex(16), 1), None);
    }

    #[test]
    fn only_whole_runs_of_the_grid_are_told() {
        let (source, mut kept) = (Source::new(), Kept::new(1 << 30));
        source.give(&mut kept, 0..15);
        assert_eq!(kept.runs_of(&PACK), []);
        source.give(&mut kept, 15..16);
        source.give(&mut kept, 32..40); // the last is shorter
        let mut grid = RunSet::default();
        [0, 2].into_iter().for_each(|run| grid.insert(run));
        assert_eq!(kept.runs_of(&PACK), [(SHARD, grid.clone())]);
        assert_eq!(kept.runs_of_shard(&PACK, SHARD), grid);
        assert_eq!(kept.runs_of(&PackId([6; 32])), []);
    }

    #[test]
    fn what_came_first_is_forgotten_when_it_is_too_much() {
        let run_len = 16 * LEAF_LEN as u64;
        let (source, mut kept) = (Source::new(), Kept::new(2 * run_len));
        source.give(&mut kept, 0..16);
        source.give(&mut kept, 16..32);
        assert!(source.is_served(&kept, 0..32), "as much as may be");
        source.give(&mut kept, 32..33);
        assert_eq!(kept.bytes(), run_len + LEAF_LEN as u64);
        assert!(!source.is_served(&kept, 0..1) && source.is_served(&kept, 16..33));
    }

    #[test]
    fn the_same_run_again_costs_nothing_and_a_longer_one_takes_its_place() {
        let (source, mut kept) = (Source::new(), Kept::new(1 << 30));
        for run in [4..8, 4..8, 4..6] {
            source.give(&mut kept, run);
        }
        assert_eq!(kept.bytes(), 4 * LEAF_LEN as u64);
        source.give(&mut kept, 4..12);
        assert_eq!(kept.bytes(), 8 * LEAF_LEN as u64);
        assert!(source.is_served(&kept, 5..12));
    }

    #[test]
    fn a_shard_that_is_forgotten_leaves_nothing_behind() {
        let (source, mut kept) = (Source::new(), Kept::new(LEAF_LEN as u64));
        source.give(&mut kept, 0..2);
        assert_eq!((kept.bytes(), kept.shards.len(), kept.order.len()), (0, 0, 0));
    }
}
