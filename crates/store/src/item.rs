//! What is kept: kinds, keys, positions, and how damage to it is described.

use std::fmt;

use bytes::Bytes;

/// Longest key in bytes.
pub const KEY_LEN_MAX: usize = 64;

/// Longest meta in bytes.
pub const META_LEN_MAX: usize = 64 << 10;

/// Longest body in bytes: sixty-four packs. Compaction holds one body in memory.
pub const BODY_LEN_MAX: u64 = 1 << 30;

/// What a record is; keys of two kinds never meet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// A sealed pack of ours.
    Pack = 1,
    /// A shard of somebody's pack.
    Shard = 2,
    /// A signed entry of an author log.
    Entry = 3,
    /// A block of the ledger.
    Block = 4,
    /// Records that are durable before their pack is closed.
    Pending = 5,
    /// Small state of the node.
    Meta = 6,
    /// Many entries of one author log.
    EntryRun = 7,
    /// Many blocks.
    BlockRun = 8,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 8] =
        [Self::Pack, Self::Shard, Self::Entry, Self::Block, Self::Pending, Self::Meta, Self::EntryRun, Self::BlockRun];

    pub(crate) fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == byte)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pack => "pack",
            Self::Shard => "shard",
            Self::Entry => "entry",
            Self::Block => "block",
            Self::Pending => "pending",
            Self::Meta => "meta",
            Self::EntryRun => "run of entries",
            Self::BlockRun => "run of blocks",
        })
    }
}

/// Where a record ends in the log of all segments. Later records have greater positions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    pub(crate) segment: u64,
    pub(crate) end: u64,
}

/// What is known of an item without reading its body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// The meta it was put with, verified.
    pub meta: Bytes,
    /// Bytes of its body.
    pub len: u64,
}

/// How much the store holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Bytes of all segments.
    pub bytes: u64,
    /// Bytes of the records that keys point to; the rest can be reclaimed by `compact`.
    pub live_bytes: u64,
    /// Keys.
    pub items: u64,
}

/// The part of a segment that does not verify.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// Both copies of the segment's own head.
    SegmentHead,
    /// The head in front of a record; its copy behind the record serves in its place.
    Opening,
    /// The copy of the head behind a record.
    Closing,
    /// A record's meta.
    Meta,
    /// A record's body, or the checksums of its blocks.
    Body,
    /// A stretch in which no record can be recognised.
    Unreadable,
}

/// Something that does not verify. Its bytes stay on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Number of the segment.
    pub segment: u64,
    /// First byte of the record or stretch in the segment.
    pub offset: u64,
    /// Bytes of the record or stretch.
    pub len: u64,
    /// Which part of it does not verify.
    pub part: Part,
    /// Whose it is, where that can still be told.
    pub item: Option<(Kind, Vec<u8>)>,
}

/// Shows bytes as hexadecimal.
pub(crate) struct Hex<'a>(pub(crate) &'a [u8]);

impl fmt::Display for Hex<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_found_by_its_byte_and_nothing_else_is() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_byte(kind as u8), Some(kind));
        }
        assert_eq!(Kind::from_byte(0), None);
        assert_eq!(Kind::from_byte(9), None);
    }
}
