//! The erasure code of a pack.

use std::fmt;

/// Most shards of a pack: our own bound, far below the 65,536 points of GF(2^16).
pub const SHARD_COUNT_MAX: u16 = 256;

/// An erasure code: any `k` of `n` shards restore the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Code {
    k: u16,
    n: u16,
}

/// Why two numbers are not a code.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{k} of {n} is not a code: 1 <= k <= n <= {SHARD_COUNT_MAX}")]
pub struct NotACode {
    /// Shards that would restore.
    pub k: u32,
    /// Shards in all.
    pub n: u32,
}

impl Code {
    /// The code in which any `k` of `n` shards restore.
    ///
    /// # Errors
    /// [`NotACode`] unless 1 <= k <= n <= [`SHARD_COUNT_MAX`].
    pub fn new(k: u32, n: u32) -> Result<Self, NotACode> {
        if k == 0 || n < k || n > u32::from(SHARD_COUNT_MAX) {
            return Err(NotACode { k, n });
        }
        Ok(Self { k: k as u16, n: n as u16 })
    }

    /// Shards that restore the pack.
    pub fn k(self) -> u16 {
        self.k
    }

    /// Shards in all.
    pub fn n(self) -> u16 {
        self.n
    }

    /// Bytes of each shard of a pack of `pack_len` bytes: a whole number of leaves.
    pub fn shard_len(self, pack_len: u64) -> u64 {
        pack_len.div_ceil(u64::from(self.k)).next_multiple_of(crate::LEAF_LEN as u64)
    }

    /// Leaves of each shard of a pack of `pack_len` bytes.
    pub fn leaf_count(self, pack_len: u64) -> u32 {
        (self.shard_len(pack_len) / crate::LEAF_LEN as u64) as u32
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-of-{}", self.k, self.n)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_needs_between_one_and_n_shards() {
        assert_eq!(Code::new(0, 3), Err(NotACode { k: 0, n: 3 }));
        assert_eq!(Code::new(4, 3), Err(NotACode { k: 4, n: 3 }));
        assert_eq!(Code::new(4, 257), Err(NotACode { k: 4, n: 257 }));
        assert_eq!(Code::new(4, 9).unwrap().to_string(), "4-of-9");
    }

    #[test]
    fn shards_are_whole_leaves() {
        let code = Code::new(4, 9).unwrap();
        assert_eq!(code.shard_len(1), 16 << 10);
        assert_eq!(code.shard_len(4 * (16 << 10) + 1), 32 << 10);
        assert_eq!(code.leaf_count(16 << 20), 256);
    }
}
