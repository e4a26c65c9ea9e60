//! Ids, digests, heights, lengths and times, and their text forms.
//!
//! Ids and quantities are types of their own, so that two of them never change places. Nothing here does I/O or knows a
//! clock; [`Time`] is what a core is told.

mod code;
mod id;
mod quantity;

pub use code::{Code, NotACode, SHARD_COUNT_MAX};
pub use id::{Digest, FolderId, GenesisId, MemberId, NodeId, PackId, ParseIdError, RecordId, ValidatorId};
pub use quantity::{ByteLen, ChunkIndex, Height, LeafIndex, Sequence, ShardIndex, Time};

/// Bytes of a leaf, the unit that is exchanged and verified (as a piece layer's block in BitTorrent v2, BEP 52).
pub const LEAF_LEN: usize = 16 * 1024;

/// Most bytes of plaintext in a chunk. Every chunk but a record's last one has exactly this length.
pub const CHUNK_LEN: usize = 256 * 1024;

/// Most bytes of a pack.
pub const PACK_LEN_MAX: usize = 16 * 1024 * 1024;

/// A pack shorter than this is kept as whole copies (k = 1) instead of being coded.
pub const CODED_PACK_LEN_MIN: usize = 256 * 1024;
