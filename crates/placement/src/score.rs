//! Weighted rendezvous hashing, computed alike on every machine.
//!
//! A node of weight w scores -ln(u) / w, where u is its draw for the pack, uniform in (0, 1); the lowest scores win. Then
//! a node is first with a probability in proportion to w, and a change of one node's weight moves only what it gains or
//! loses. Floating point logarithms differ between machines in the last bit, so the logarithm is an integer: -log2(u) in
//! units of 2^-48, found by repeated squaring (the base does not matter for the order). Two scores a / v and b / w are
//! compared as a * w and b * v in 128 bits, so there is no division either.
//!
//! Source: Thaler, Ravishankar, "Using Name-Based Mappings to Increase Hit Rates", IEEE/ACM Trans. Networking 6(1), 1998;
//! the weights by the minimum of exponential variables, Efraimidis, Spirakis, "Weighted random sampling with a
//! reservoir", Inf. Proc. Letters 97(5), 2006.

use std::cmp::Ordering;

use bithealth_types::{NodeId, PackId};
use sha2::{Digest as _, Sha256};

/// Bits behind the point of a logarithm.
const FRACTION_BITS: u32 = 48;

/// What a node draws for a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Draw {
    /// -log2(u), in units of 2^-48; at most 2^54.
    cost: u64,
    weight: u64,
    node: NodeId,
    /// Further random bits, independent of `cost`.
    pub(crate) seed: u64,
}

impl Draw {
    pub(crate) fn new(pack: &PackId, node: &NodeId, weight: u64) -> Self {
        let (draw, seed) = hash(b"bithealth placement node v1", pack, node.as_bytes());
        Self { cost: negative_log2(draw), weight, node: *node, seed }
    }

    /// The better placed first; a total order, since equal scores are ordered by node.
    pub(crate) fn rank(&self, other: &Self) -> Ordering {
        let own = u128::from(self.cost) * u128::from(other.weight);
        let others = u128::from(other.cost) * u128::from(self.weight);
        // A weight of 0 is an infinite score: cross multiplication alone would call it equal to everything.
        (self.weight == 0)
            .cmp(&(other.weight == 0))
            .then(own.cmp(&others))
            .then_with(|| self.node.as_bytes().cmp(other.node.as_bytes()))
    }
}

/// Random bits of a region for a pack.
pub(crate) fn region_seed(pack: &PackId, region: &str) -> u64 {
    hash(b"bithealth placement region v1", pack, region.as_bytes()).1
}

/// Random bits of a seed and a shard.
pub(crate) fn mix(seed: u64, shard: usize) -> u64 {
    // The finaliser of SplitMix64: Steele, Lea, Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014.
    let mut z = seed.wrapping_add((shard as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn hash(label: &[u8], pack: &PackId, subject: &[u8]) -> (u64, u64) {
    let digest = Sha256::new().chain_update(label).chain_update(pack.as_bytes()).chain_update(subject).finalize();
    let word = |at: usize| digest[at..at + 8].iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    (word(0), word(8))
}

/// -log2(draw / 2^64) in units of 2^-48, truncated; a draw of 0 counts as 1.
fn negative_log2(draw: u64) -> u64 {
    let draw = draw.max(1);
    let shift = draw.leading_zeros();
    let mut mantissa = draw << shift; // in [1, 2), 63 bits behind the point
    let mut log = u64::from(63 - shift);
    for _ in 0..FRACTION_BITS {
        let square = (u128::from(mantissa) * u128::from(mantissa)) >> 63; // in [1, 4)
        let carry = (square >> 64) as u64; // 1 where it is 2 or more
        mantissa = (square >> carry) as u64;
        log = log << 1 | carry;
    }
    (64 << FRACTION_BITS) - log
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_logarithm_of_a_power_of_two_is_exact() {
        for power in 0..64 {
            assert_eq!(negative_log2(1 << power), (64 - power) << FRACTION_BITS);
        }
        assert_eq!(negative_log2(0), 64 << FRACTION_BITS);
        assert_eq!(negative_log2(u64::MAX), 1, "the truncated logarithm is never 0");
    }

    #[test]
    fn draws_are_the_same_forever() {
        // Recomputed elsewhere with exact arithmetic; a change here would move every shard of every network.
        let draw = Draw::new(&PackId([1; 32]), &NodeId([2; 32]), 1);
        assert_eq!((draw.cost, draw.seed), (93_620_822_656_181, 6_991_775_420_339_522_399));
        assert_eq!(region_seed(&PackId([1; 32]), "eu-west"), 8_541_950_517_557_501_028);
        assert_eq!(mix(0, 0), 0xE220_A839_7B1D_CDAF, "the first output of SplitMix64 seeded with 0");
    }
    #[test]
    fn a_node_without_weight_is_last() {
        let idle = Draw::new(&PackId([1; 32]), &NodeId([3; 32]), 0);
        for node in 0..50 {
            let busy = Draw::new(&PackId([1; 32]), &NodeId([node; 32]), 1);
            assert_eq!(busy.rank(&idle), Ordering::Less);
            assert_eq!(idle.rank(&busy), Ordering::Greater);
        }
    }

    proptest! {
        #[test]
        fn the_logarithm_is_the_one_of_the_textbook(draw in 1_u64..) {
            let want = 64.0 - (draw as f64).log2();
            let got = negative_log2(draw) as f64 / (1_u64 << FRACTION_BITS) as f64;
            prop_assert!((got - want).abs() < 1e-12, "{got} {want}");
        }
    }

    #[test]
    fn a_node_of_twice_the_weight_is_first_twice_as_often() {
        let mut first = [0_u32; 2];
        for pack in 0..20_000_u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&pack.to_be_bytes());
            let (id, heavy, light) = (PackId(id), NodeId([1; 32]), NodeId([2; 32]));
            let heavy_first = Draw::new(&id, &heavy, 2 << 40).rank(&Draw::new(&id, &light, 1 << 40)).is_lt();
            first[usize::from(!heavy_first)] += 1;
        }
        let share = f64::from(first[0]) / 20_000.0;
        assert!((share - 2.0 / 3.0).abs() < 0.01, "{share}");
    }
}
