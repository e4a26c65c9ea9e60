//! Cuts, compresses, seals and gathers records into packs; codes packs into shards, and back.
//!
//! The life of a record here, and the way back:
//!
//! ```text
//! plaintext -> cut -> Draft::seal_chunk -> OpenPack::add_chunk, add_record -> close -> encode -> n shards
//! plaintext <- RecordOpener::chunk <- locate <- open_catalog <- pack <- decode <- any k of them
//! ```
//!
//! Formats are those of `pack.proto`, with what lies around the messages:
//!
//! | sealed form | bytes |
//! |---|---|
//! | chunk | ciphertext, tag (16); the plaintext is a zstd frame or the chunk itself, as its `Codec` says |
//! | manifest | key commitment (32), ciphertext, tag (16); the plaintext is a canonical `Manifest` |
//! | part of a manifest | ciphertext, tag (16); the plaintext is a canonical `ChunkList` |
//! | catalog | see [`open_catalog`] |
//!
//! A record has at least one chunk: an empty one has one empty chunk, so that every record ends in a chunk that is
//! sealed as its last.

mod catalog;
mod chunk;
mod coding;
mod compress;
mod descriptor;
mod heads;
mod manifest;
mod open_pack;
mod opener;
mod padme;

pub use catalog::{CATALOG_LEN_MAX, CATALOG_LEN_MIN, CatalogError, open_catalog};
pub use chunk::{Draft, SealedChunk, chunk_count, cut, plaintext_digest};
pub use coding::{COLUMN_LEN, CodeError, CodedPack, DecodeError, data_shard, decode, decode_rows, encode};
pub use compress::{Compress, DICTIONARY_FHIR1, DICTIONARY_INPUT_MAX, ZSTD_LEVEL};
pub use descriptor::{DescriptorError, check_descriptor};
pub use heads::open_record;
pub use manifest::{CHUNKS_PER_PART, MANIFEST_PARTS_MAX, PlacedChunk, PlacedPart};
pub use open_pack::{
    CATEGORY_LEN_MAX, ClosedPack, MEDIA_TYPE_LEN_MAX, Mark, NAME_LEN_MAX, OpenPack, PATIENT_LEN_MAX, PackFull,
    RecordError, RecordMeta, ResumeError, Snapshot,
};
pub use opener::{OpenError, PartPlace, Piece, RecordOpener};
pub use padme::padme;

/// Salt of a pack: 32 random bytes that name it before its id is known.
pub type PackSalt = [u8; 32];
