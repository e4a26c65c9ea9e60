//! Seeded randomness, and the small texts made of it.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

/// One stream of random numbers.
#[derive(Debug)]
pub(super) struct Draw(ChaCha8Rng);

impl Draw {
    /// The `stream`-th stream of a seed. Streams do not depend on each other.
    pub(super) fn new(seed: u64, stream: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        rng.set_stream(stream);
        Self(rng)
    }

    /// A number below `bound`, which is small enough for its bias not to matter.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u64::from(self.0.next_u32()) * bound as u64) >> 32) as usize
    }

    /// One of the items.
    pub(super) fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len())]
    }

    /// A random UUID (RFC 9562, version 4).
    pub(super) fn uuid(&mut self) -> String {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut bytes = [0; 16];
        self.0.fill_bytes(&mut bytes);
        bytes[6] = bytes[6] & 0x0f | 0x40;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        let mut text = String::with_capacity(36);
        for (index, byte) in bytes.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            text.push(char::from(DIGITS[usize::from(byte >> 4)]));
            text.push(char::from(DIGITS[usize::from(byte & 15)]));
        }
        text
    }

    /// A number from `low` to `high`, both in tenths, now and then a little outside; and whether it is inside.
    pub(super) fn measure(&mut self, low: usize, high: usize) -> (String, bool) {
        let spread = high - low;
        let tenths = (low + self.below(spread + spread / 4 + 1)).saturating_sub(spread / 8);
        (format!("{}.{}", tenths / 10, tenths % 10), (low..=high).contains(&tenths))
    }

    /// A day of the years 2014 to 2025.
    pub(super) fn day(&mut self) -> String {
        let (year, month, day) = (2014 + self.below(12), 1 + self.below(12), 1 + self.below(28));
        format!("{year}-{month:02}-{day:02}")
    }

    /// An instant of a day, during opening hours.
    pub(super) fn instant(&mut self, day: &str) -> String {
        format!("{day}T{:02}:{:02}:{:02}Z", 7 + self.below(11), self.below(60), self.below(60))
    }

    pub(super) fn fill(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }
}

/// Appends a template, each `$0` to `$9` in it replaced by that value. Values are our own words and need no escaping.
pub(super) fn fill(out: &mut String, template: &str, values: &[&str]) {
    let mut parts = template.split('$');
    out.push_str(parts.next().unwrap_or_default());
    for part in parts {
        out.push_str(values[usize::from(part.as_bytes()[0] - b'0')]);
        out.push_str(&part[1..]);
    }
}
