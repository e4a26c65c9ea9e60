//! What an operator can set.

use serde::Deserialize;

/// Shortest segment: room for its head and a few records.
pub const SEGMENT_LEN_MIN: u64 = 4 << 10;

/// Longest segment: what one sync at its end, or one rewrite, may have to move.
pub const SEGMENT_LEN_MAX: u64 = 4 << 30;

/// The configuration of a store.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes after which a new segment begins; a longer record gets a segment of its own. Values outside 4 KiB to 4 GiB
    /// are taken as the nearer bound.
    pub segment_len: u64,
    /// A `put` is refused when it would leave less free space than this, so that removing, rewriting and the index
    /// still have room.
    pub reserve_len: u64,
    /// Bytes of pages that sled may keep in memory, besides about 0.2 KB for each key.
    pub index_cache_len: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { segment_len: 256 << 20, reserve_len: 512 << 20, index_cache_len: 16 << 20 }
    }
}

impl Config {
    pub(crate) fn segment_len(&self) -> u64 {
        self.segment_len.clamp(SEGMENT_LEN_MIN, SEGMENT_LEN_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_keys_are_refused_and_missing_ones_have_defaults() {
        let config: Config = toml::from_str("segment_len = 65536").unwrap();
        assert_eq!(config, Config { segment_len: 65536, ..Config::default() });
        assert!(toml::from_str::<Config>("segment_size = 65536").is_err());
    }

    #[test]
    fn a_segment_length_out_of_bounds_becomes_the_nearer_bound() {
        assert_eq!(Config { segment_len: 0, ..Config::default() }.segment_len(), SEGMENT_LEN_MIN);
        assert_eq!(Config { segment_len: u64::MAX, ..Config::default() }.segment_len(), SEGMENT_LEN_MAX);
    }
}
