//! Which runs of a shard a peer holds.

use std::fmt;
use std::ops::Range;

/// Leaves of one run of the grid that peers speak of: 256 KiB. What a peer is asked for need not keep to it.
pub const GRID_LEAVES: u32 = 16;

/// Runs that a set holds at most: those of the longest pack kept as one shard, four times over.
const RUNS_MAX: u32 = 256;

/// A set of runs of one shard, on the grid of [`GRID_LEAVES`].
#[derive(Clone, Default, PartialEq, Eq)]
pub struct RunSet {
    bits: [u64; (RUNS_MAX / u64::BITS) as usize],
}

impl RunSet {
    /// Reads a bitfield: bit `i`, least significant first, is run `i`. Bits past the last possible run are dropped.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut set = Self::default();
        let len = bytes.len().min(RUNS_MAX as usize / 8);
        for (at, byte) in bytes[..len].iter().enumerate() {
            set.bits[at / 8] |= u64::from(*byte) << (8 * (at % 8));
        }
        set
    }

    /// The bitfield, without zeros at its end.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> = self.bits.iter().flat_map(|word| word.to_le_bytes()).collect();
        let len = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
        bytes.truncate(len);
        bytes
    }

    /// Adds a run; one that no shard has is left out.
    pub fn insert(&mut self, run: u32) {
        if run < RUNS_MAX {
            self.bits[(run / u64::BITS) as usize] |= 1 << (run % u64::BITS);
        }
    }

    /// Whether a run is in the set.
    pub fn contains(&self, run: u32) -> bool {
        self.bits.get((run / u64::BITS) as usize).is_some_and(|word| word >> (run % u64::BITS) & 1 == 1)
    }

    /// Whether all these leaves lie in runs of the set.
    pub fn covers(&self, leaves: Range<u32>) -> bool {
        (leaves.start / GRID_LEAVES..leaves.end.div_ceil(GRID_LEAVES)).all(|run| self.contains(run))
    }

    /// Adds all runs of another set; whether that made it larger.
    pub fn merge(&mut self, other: &Self) -> bool {
        let before = self.bits;
        self.bits.iter_mut().zip(other.bits).for_each(|(word, more)| *word |= more);
        self.bits != before
    }

    /// How many runs are in the set.
    pub fn count(&self) -> u32 {
        self.bits.iter().map(|word| word.count_ones()).sum()
    }

    /// Whether no run is in the set.
    pub fn is_empty(&self) -> bool {
        self.count() == 0
    }
}

impl fmt::Debug for RunSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..RUNS_MAX).filter(|run| self.contains(*run))).finish()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn set(runs: &[u32]) -> RunSet {
        let mut set = RunSet::default();
        runs.iter().for_each(|run| set.insert(*run));
        set
    }

    proptest! {
        #[test]
        fn the_bitfield_reads_back(runs in prop::collection::vec(0..RUNS_MAX, 0..40)) {
            prop_assert_eq!(RunSet::from_bytes(&set(&runs).to_bytes()), set(&runs));
            prop_assert!((0..RUNS_MAX).all(|run| set(&runs).contains(run) == runs.contains(&run)));
        }
    }

    #[test]
    fn the_least_significant_bit_is_the_first_run() {
        assert_eq!(RunSet::from_bytes(&[0b1000_0001, 1]), set(&[0, 7, 8]));
        assert_eq!(set(&[1, 3]).to_bytes(), [0b1010]);
    }

    #[test]
    fn runs_past_the_last_possible_one_are_dropped() {
        assert_eq!(RunSet::from_bytes(&[0xFF; 64]).count(), RUNS_MAX);
        assert_eq!(set(&[RUNS_MAX, u32::MAX]), RunSet::default());
        assert!(!RunSet::from_bytes(&[0xFF; 64]).contains(RUNS_MAX));
    }

    #[test]
    fn leaves_are_covered_by_every_run_they_touch() {
        let held = set(&[1, 2]);
        assert!(held.covers(16..48) && held.covers(20..33) && held.covers(47..48));
        assert!(!held.covers(15..17) && !held.covers(40..49));
    }

    #[test]
    fn merging_says_whether_anything_is_new() {
        let mut held = set(&[1]);
        assert!(held.merge(&set(&[1, 70])));
        assert!(!held.merge(&set(&[70])));
        assert_eq!((held.count(), held.is_empty()), (2, false));
    }
}
