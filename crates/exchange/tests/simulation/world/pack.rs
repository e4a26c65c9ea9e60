//! Packs to fetch. A fetch never decodes, so any bytes do for parity.

use bithealth_exchange::{Need, Want};
use bithealth_merkle::LeafTree;
use bithealth_types::{Code, Digest, LEAF_LEN, LeafIndex, ShardIndex};

use super::Random;

pub(crate) struct Pack {
    pub(crate) code: Code,
    pub(crate) leaf_count: u32,
    shards: Vec<(Vec<u8>, LeafTree)>,
}

/// A few packs that all seeds share, since hashing them takes longest.
pub(crate) struct Packs(Vec<Pack>);

impl Packs {
    pub(crate) fn new() -> Self {
        let packs = [(1, 3, 20), (2, 4, 37), (4, 9, 1), (4, 9, 64), (3, 5, 90), (6, 9, 33)];
        Self(packs.map(|(k, n, leaf_count)| Pack::new(Code::new(k, n).expect("a code"), leaf_count)).into())
    }

    pub(crate) fn pick(&self, random: &mut Random) -> &Pack {
        &self.0[random.between(0, self.0.len() as u64) as usize]
    }
}

impl Pack {
    pub(crate) fn new(code: Code, leaf_count: u32) -> Self {
        let leaf = |shard: u16, leaf: u32| {
            let mut bytes = [0; LEAF_LEN];
            bytes[..2].copy_from_slice(&shard.to_le_bytes());
            bytes[2..6].copy_from_slice(&leaf.to_le_bytes());
            bytes
        };
        let shard = |shard: u16| {
            let bytes: Vec<u8> = (0..leaf_count).flat_map(|index| leaf(shard, index)).collect();
            let tree = LeafTree::from_shard(&bytes);
            (bytes, tree)
        };
        Self { code, leaf_count, shards: (0..code.n()).map(shard).collect() }
    }

    pub(crate) fn roots(&self) -> Vec<Digest> {
        self.shards.iter().map(|(_, tree)| tree.root()).collect()
    }

    pub(crate) fn bytes(&self, shard: ShardIndex, first: LeafIndex, count: usize) -> &[u8] {
        &self.shards[usize::from(shard.0)].0[first.0 as usize * LEAF_LEN..][..count * LEAF_LEN]
    }

    /// The true answer to a want.
    pub(crate) fn leaves(&self, want: &Want) -> (Vec<u8>, Vec<Digest>) {
        let proof = self.shards[usize::from(want.shard.0)].1.prove_run(want.first, want.count);
        (self.bytes(want.shard, want.first, want.count as usize).to_vec(), proof.expect("wants lie in their shard"))
    }

    /// The whole, or what a reader of a record needs: the bytes from one leaf to another, which lie one behind the
    /// other through the data shards.
    pub(crate) fn any_need(&self, random: &mut Random) -> Need {
        if random.percent(60) {
            return Need::Whole;
        }
        let leaves = u64::from(self.leaf_count) * u64::from(self.code.k());
        let start = random.between(0, leaves);
        let end = random.between(start, leaves) + 1;
        let of_shard = |shard: u16| {
            let offset = u64::from(shard) * u64::from(self.leaf_count);
            let clamp = |leaf: u64| leaf.saturating_sub(offset).min(u64::from(self.leaf_count)) as u32;
            (ShardIndex(shard), clamp(start)..clamp(end))
        };
        Need::Ranges((0..self.code.k()).map(of_shard).filter(|(_, range)| !range.is_empty()).collect())
    }
}
