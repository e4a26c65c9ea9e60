//! Why a record does not open.

use bithealth_envelope::Part;
use bithealth_types::{ChunkIndex, Digest, RecordId};

/// Why a record, or a chunk of it, does not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A field of the row has a wrong length.
    #[error("{field} of the catalog row has {got} bytes, {want} are due")]
    Row {
        /// Which field.
        field: &'static str,
        /// Bytes it has.
        got: usize,
        /// Bytes that are due.
        want: usize,
    },
    /// Bytes that come from elsewhere than said.
    #[error("{what} has {got} bytes, {want} are due")]
    Length {
        /// Of what.
        what: &'static str,
        /// Bytes that came.
        got: u64,
        /// Bytes that are due.
        want: u64,
    },
    /// The manifest is sealed under another key than the row's.
    #[error("the manifest of record {record} is sealed under another key than its row has")]
    OtherKey {
        /// Which record.
        record: RecordId,
    },
    /// The bytes were changed, or belong elsewhere.
    #[error("the {part} of record {record} is not what its author sealed")]
    Forged {
        /// Which record.
        record: RecordId,
        /// What of it.
        part: Part,
    },
    /// Not the message that is due.
    #[error(transparent)]
    Decode(#[from] bithealth_proto::DecodeError),
    /// The manifest contradicts itself or its row; only its author can have written it so.
    #[error("the manifest is false: {what} is {got}, {want} is due")]
    FalseManifest {
        /// What contradicts.
        what: &'static str,
        /// The value that came.
        got: u64,
        /// The value that is due.
        want: u64,
    },
    /// The manifest has a digest, codec or place that cannot be.
    #[error("the manifest is false: chunk or part {index} has no possible {what}")]
    FalseEntry {
        /// Position of the chunk or part in the list.
        index: usize,
        /// What is impossible.
        what: &'static str,
    },
    /// The digests of the chunks do not make the digest of the record.
    #[error("the chunks' digests make {got}, the manifest says {want}")]
    FalseDigest {
        /// Root of the chunks' digests.
        got: Digest,
        /// What the manifest says.
        want: Digest,
    },
    /// The plaintext is not what the manifest says.
    #[error("chunk {index} has digest {got}, the manifest says {want}")]
    ChunkDigest {
        /// Which chunk.
        index: ChunkIndex,
        /// Digest of the plaintext.
        got: Digest,
        /// What the manifest says.
        want: Digest,
    },
    /// The plaintext has another length than its place in the record.
    #[error("chunk {index} does not decompress to {want} bytes")]
    Decompress {
        /// Which chunk.
        index: ChunkIndex,
        /// Bytes that are due.
        want: usize,
    },
    /// The record is shorter.
    #[error("byte {end} was asked for, the record has {len}")]
    OutOfRange {
        /// End of the range.
        end: u64,
        /// Bytes of the record.
        len: u64,
    },
    /// The record has no such chunk or part.
    #[error("{what} {index} was asked for, the record has {count}")]
    NoSuch {
        /// Chunk or part.
        what: &'static str,
        /// Which one.
        index: u32,
        /// How many there are.
        count: u64,
    },
    /// A part of the manifest must be read first, see [`crate::RecordOpener::missing_parts`].
    #[error("part {index} of the manifest is not read yet")]
    PartMissing {
        /// Which part.
        index: u32,
    },
}
