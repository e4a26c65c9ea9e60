//! The seed that decides everything.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// Draws from a seed.
#[derive(Clone, Debug)]
pub struct Random {
    source: ChaCha8Rng,
}

impl Random {
    /// The draws of this seed.
    pub fn new(seed: u64) -> Self {
        Self { source: ChaCha8Rng::seed_from_u64(seed) }
    }

    /// A number below `end`, which is at least 1. The bias of the remainder is below 2^-32 for what is drawn here.
    pub fn below(&mut self, end: u64) -> u64 {
        self.source.next_u64() % end
    }

    /// True this many times of a thousand.
    pub fn chance(&mut self, per_mille: u64) -> bool {
        self.below(1000) < per_mille
    }
}
