//! Which shards of a pack a peer holds.

use std::fmt;

use bithealth_types::{SHARD_COUNT_MAX, ShardIndex};

const WORD_BITS: u16 = u64::BITS as u16;

/// A set of shards of one pack.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct ShardSet {
    words: [u64; (SHARD_COUNT_MAX / WORD_BITS) as usize],
}

impl ShardSet {
    /// The first `count` shards: k of them for a peer with the whole pack, n for one that also keeps all parity.
    pub fn first(count: u16) -> Self {
        (0..count).map(ShardIndex).collect()
    }

    /// Reads the bitfield of a have: bit `i`, least significant first, is shard `i`. Bits past the last possible shard
    /// are dropped.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        (0..SHARD_COUNT_MAX)
            .filter(|i| bytes.get(usize::from(i / 8)).is_some_and(|byte| byte >> (i % 8) & 1 == 1))
            .map(ShardIndex)
            .collect()
    }

    /// The bitfield of a have, without zeros at its end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(len);
        bytes
    }

    /// Adds a shard.
    ///
    /// # Panics
    /// If no code has a shard at this position.
    pub fn insert(&mut self, shard: ShardIndex) {
        self.words[usize::from(shard.0 / WORD_BITS)] |= 1 << (shard.0 % WORD_BITS);
    }

    /// Whether the shard is in the set.
    pub fn contains(&self, shard: ShardIndex) -> bool {
        self.words.get(usize::from(shard.0 / WORD_BITS)).is_some_and(|word| word >> (shard.0 % WORD_BITS) & 1 == 1)
    }

    /// How many shards are in the set.
    pub fn count(&self) -> u16 {
        self.words.iter().map(|word| word.count_ones() as u16).sum()
    }

    /// Whether no shard is in the set.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// Whether all shards of another set are in this one.
    pub fn includes(&self, other: &Self) -> bool {
        self.words.iter().zip(other.words).all(|(word, other)| other & !word == 0)
    }

    /// Those of the set that are not in another.
    pub fn without(&self, other: &Self) -> Self {
        let mut set = *self;
        set.words.iter_mut().zip(other.words).for_each(|(word, other)| *word &= !other);
        set
    }

    /// The shards, in order.
    pub fn iter(&self) -> impl Iterator<Item = ShardIndex> + '_ {
        let bits = |(at, word): (u16, &u64)| {
            let rest = std::iter::successors(Some(*word), |rest| Some(rest & rest.wrapping_sub(1)));
            rest.take_while(|rest| *rest != 0).map(move |rest| at * WORD_BITS + rest.trailing_zeros() as u16)
        };
        (0..).zip(&self.words).flat_map(bits).map(ShardIndex)
    }
}

impl FromIterator<ShardIndex> for ShardSet {
    fn from_iter<I: IntoIterator<Item = ShardIndex>>(shards: I) -> Self {
        let mut set = Self::default();
        shards.into_iter().for_each(|shard| set.insert(shard));
        set
    }
}

impl fmt::Debug for ShardSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(|shard| shard.0)).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_bitfield_reads_back(shards in prop::collection::btree_set(0..SHARD_COUNT_MAX, 0..40)) {
            let set: ShardSet = shards.iter().copied().map(ShardIndex).collect();
            prop_assert_eq!(ShardSet::from_bytes(&set.to_bytes()), set);
            prop_assert!(set.iter().map(|shard| shard.0).eq(shards.iter().copied()));
            prop_assert_eq!(usize::from(set.count()), shards.len());
        }
    }

    #[test]
    fn the_least_significant_bit_is_the_first_shard() {
        assert_eq!(ShardSet::from_bytes(&[0b1000_0001, 1]), [0, 7, 8].map(ShardIndex).into_iter().collect());
        assert_eq!(ShardSet::first(4).to_bytes(), [0b1111]);
        assert!(ShardSet::from_bytes(&[]).is_empty());
    }

    #[test]
    fn a_bitfield_longer_than_any_code_is_cut() {
        assert_eq!(ShardSet::from_bytes(&[0xFF; 40]).count(), SHARD_COUNT_MAX);
        assert!(!ShardSet::first(256).contains(ShardIndex(256)));
    }
}
