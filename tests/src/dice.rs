//! Seeded chance. A failure that depends on it is repeated with the seed it printed.

use std::time::{SystemTime, UNIX_EPOCH};

/// SplitMix64. Source: Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed in `BITHEALTH_SEED`, else another one each time; printed, so that it can be given again.
    ///
    /// # Panics
    /// If `BITHEALTH_SEED` is no number.
    pub fn from_env() -> Self {
        let given = std::env::var("BITHEALTH_SEED").ok().map(|seed| seed.parse().expect("BITHEALTH_SEED is a number"));
        let seed = given
            .unwrap_or_else(|| SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_nanos() as u64));
        eprintln!("BITHEALTH_SEED={seed}");
        Self(seed)
    }

    /// The next number.
    pub fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.roll() % end
    }
}
