//! One record being read.

mod error;

use std::fmt;
use std::ops::Range;

use bithealth_envelope::{Part, RecordKey, SEAL_OVERHEAD, Sealer};
use bithealth_proto::decode;
use bithealth_proto::v1::{self, CatalogRow, ChunkList, Codec, Manifest};
use bithealth_types::{CHUNK_LEN, ChunkIndex, Digest, NodeId, RecordId};
use bytes::{Bytes, BytesMut};

use crate::PackSalt;
use crate::chunk::{chunk_count, plaintext_digest};
use crate::compress::decompress;
use crate::manifest::{CHUNKS_PER_PART, COMMITMENT_LEN, Cursor, MANIFEST_PARTS_MAX, chunk_plaintext_len, is_last};

pub use error::OpenError;

/// Opens the chunks of one record, and knows where they lie.
pub struct RecordOpener {
    record: RecordId,
    sealer: Sealer,
    manifest: Manifest,
    parts: Vec<PartOfRecord>,
}

/// A run of a record's chunks; a small record has one, read from the manifest itself.
struct PartOfRecord {
    place: PartPlace,
    /// Empty until the part was read.
    chunks: Vec<ChunkOfRecord>,
}

struct ChunkOfRecord {
    salt: PackSalt,
    offset: u64,
    sealed_len: u32,
    codec: Codec,
    digest: Digest,
}

/// Where a part of a large manifest lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PartPlace {
    /// Which part.
    pub index: u32,
    /// Salt of the pack.
    pub salt: PackSalt,
    /// Where it starts in that pack.
    pub offset: u64,
    /// Bytes there.
    pub sealed_len: u32,
    chunk_count: u32,
}

/// A chunk that holds some of a range of plaintext.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Piece {
    /// Which chunk.
    pub index: ChunkIndex,
    /// Salt of the pack it lies in.
    pub salt: PackSalt,
    /// Where it starts in that pack.
    pub offset: u64,
    /// Bytes there.
    pub sealed_len: u32,
    /// The bytes of the chunk's plaintext that belong to the range.
    pub range: Range<usize>,
}

fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], OpenError> {
    bytes.try_into().map_err(|_| OpenError::Row { field, got: bytes.len(), want: N })
}

impl RecordOpener {
    /// Opens the manifest of a record: `manifest_bytes` are the last `row.manifest_len` bytes of the record's run in the
    /// pack that has this salt and row.
    ///
    /// # Errors
    /// [`OpenError`]: another key, changed bytes, or a manifest that contradicts itself or the row.
    pub fn new(salt: &PackSalt, row: &CatalogRow, manifest_bytes: &[u8]) -> Result<Self, OpenError> {
        let record = RecordId(array("record", &row.record)?);
        let key = RecordKey::from_bytes(array("record_key", &row.record_key)?);
        check_len("a sealed manifest", manifest_bytes.len() as u64, row.manifest_len)?;
        let least = (COMMITMENT_LEN + SEAL_OVERHEAD) as u64;
        let (commitment, sealed) = manifest_bytes.split_at_checked(COMMITMENT_LEN).ok_or(OpenError::Length {
            what: "a sealed manifest",
            got: row.manifest_len,
            want: least,
        })?;
        let sealer = Sealer::new(key.as_content_key(), record.as_bytes());
        if sealer.commitment() != *commitment {
            return Err(OpenError::OtherKey { record });
        }
        let mut plain = sealed.to_vec();
        sealer.open(Part::Manifest, &mut plain).map_err(|_| OpenError::Forged { record, part: Part::Manifest })?;
        let mut manifest: Manifest = decode(&plain)?;
        check("plaintext_len", manifest.plaintext_len, row.plaintext_len)?;
        check("the length of the author's id", manifest.author.len() as u64, NodeId::LEN as u64)?;
        check("the length of the digest", manifest.plaintext_digest.len() as u64, Digest::LEN as u64)?;
        let entries = std::mem::take(&mut manifest.chunks);
        let parts = read_parts(salt, &manifest)?;
        let mut opener = Self { record, sealer, manifest, parts };
        if opener.manifest.parts.is_empty() {
            opener.parts[0].chunks = opener.read_chunks(Cursor::at(salt, row.offset), 0, entries)?;
            opener.check_digest()?;
        } else {
            check("the number of chunks beside parts", entries.len() as u64, 0)?;
        }
        Ok(opener)
    }

    /// The manifest; its list of chunks is taken out.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Bytes of plaintext.
    pub fn plaintext_len(&self) -> u64 {
        self.manifest.plaintext_len
    }

    /// Whether all of the record lies in the pack of its row, in one run: then [`crate::OpenPack::add_moved`] can move it.
    pub fn is_one_run(&self, salt: &PackSalt, row: &CatalogRow) -> bool {
        let mut end = row.offset;
        self.manifest.parts.is_empty()
            && self.parts.iter().flat_map(|part| &part.chunks).all(|chunk| {
                let follows = chunk.salt == *salt && chunk.offset == end;
                end += u64::from(chunk.sealed_len);
                follows
            })
            && end + row.manifest_len == row.offset + row.len
    }

    /// Parts of a large manifest that must be read before this range of plaintext can be located.
    pub fn missing_parts(&self, range: Range<u64>) -> Vec<PartPlace> {
        let chunks = chunks_of(&range);
        let first = (chunks.start / CHUNKS_PER_PART as u64) as usize;
        let wanted = self
            .parts
            .iter()
            .skip(first)
            .take_while(|part| u64::from(part.place.index) * (CHUNKS_PER_PART as u64) < chunks.end);
        wanted.filter(|part| part.chunks.is_empty()).map(|part| part.place.clone()).collect()
    }

    /// Reads a part of a large manifest.
    ///
    /// # Errors
    /// [`OpenError`]: changed bytes, or a part that contradicts the manifest.
    pub fn part(&mut self, index: u32, sealed: &[u8]) -> Result<(), OpenError> {
        let count = self.manifest.parts.len() as u64;
        if u64::from(index) >= count {
            return Err(OpenError::NoSuch { what: "part", index, count });
        }
        let place = self.parts[index as usize].place.clone();
        check_len("a part of the manifest", sealed.len() as u64, place.sealed_len.into())?;
        let mut plain = sealed.to_vec();
        let name = Part::ManifestPart { index };
        let forged = OpenError::Forged { record: self.record, part: name };
        self.sealer.open(name, &mut plain).map_err(|_| forged)?;
        let list: ChunkList = decode(&plain)?;
        self.parts[index as usize].chunks = self.read_chunks(Cursor::new(&place.salt), index, list.chunks)?;
        if self.parts.iter().all(|part| !part.chunks.is_empty()) {
            self.check_digest()?;
        }
        Ok(())
    }

    /// The hash of a chunk's plaintext as a leaf of the record's tree, if there is such a chunk and its part was read.
    pub fn chunk_digest(&self, index: ChunkIndex) -> Option<Digest> {
        let (part, within) = (index.0 as usize / CHUNKS_PER_PART, index.0 as usize % CHUNKS_PER_PART);
        self.parts.get(part)?.chunks.get(within).map(|chunk| chunk.digest)
    }

    /// Where the chunks lie that hold a range of plaintext, in order.
    ///
    /// # Errors
    /// [`OpenError::OutOfRange`], or [`OpenError::PartMissing`] where a part must be read first.
    pub fn locate(&self, range: Range<u64>) -> Result<Vec<Piece>, OpenError> {
        if range.end > self.plaintext_len() {
            return Err(OpenError::OutOfRange { end: range.end, len: self.plaintext_len() });
        }
        let piece = |index: u64| {
            let start = index * CHUNK_LEN as u64;
            let index = ChunkIndex(index as u32);
            let chunk = self.find(index)?;
            let len = chunk_plaintext_len(index, self.plaintext_len()) as u64;
            let range = range.start.saturating_sub(start) as usize..(range.end - start).min(len) as usize;
            Ok(Piece { index, salt: chunk.salt, offset: chunk.offset, sealed_len: chunk.sealed_len, range })
        };
        chunks_of(&range).map(piece).collect()
    }

    /// Opens a chunk.
    ///
    /// # Errors
    /// [`OpenError`]: changed bytes, or a plaintext that the manifest contradicts.
    pub fn chunk(&self, index: ChunkIndex, sealed: &[u8]) -> Result<Bytes, OpenError> {
        let (plain, chunk) = self.open_chunk(index, sealed.into())?;
        check_chunk(index, chunk, &plain)?;
        Ok(plain)
    }

    /// Opens a chunk in the memory in which it came. Of one that was stored as it is, the tag vouches for every byte: it
    /// is not hashed once more, which would take longer than to open it.
    ///
    /// # Errors
    /// [`OpenError`]: changed bytes, or a decompressed plaintext that the manifest contradicts.
    pub fn chunk_in_place(&self, index: ChunkIndex, sealed: BytesMut) -> Result<Bytes, OpenError> {
        let (plain, chunk) = self.open_chunk(index, sealed)?;
        if chunk.codec != Codec::Stored {
            check_chunk(index, chunk, &plain)?;
        }
        Ok(plain)
    }

    fn open_chunk(&self, index: ChunkIndex, mut sealed: BytesMut) -> Result<(Bytes, &ChunkOfRecord), OpenError> {
        let count = chunk_count(self.plaintext_len());
        if u64::from(index.0) >= count {
            return Err(OpenError::NoSuch { what: "chunk", index: index.0, count });
        }
        let chunk = self.find(index)?;
        check_len("a sealed chunk", sealed.len() as u64, chunk.sealed_len.into())?;
        let part = Part::Chunk { index, last: is_last(index, self.plaintext_len()) };
        let opened = self.sealer.open_slice(part, &mut sealed);
        sealed.truncate(opened.map_err(|_| OpenError::Forged { record: self.record, part })?);
        let want = chunk_plaintext_len(index, self.plaintext_len());
        let plain = decompress(sealed, chunk.codec, want).map_err(|_| OpenError::Decompress { index, want })?;
        Ok((plain, chunk))
    }

    fn find(&self, index: ChunkIndex) -> Result<&ChunkOfRecord, OpenError> {
        let (part, within) = (index.0 as usize / CHUNKS_PER_PART, index.0 as usize % CHUNKS_PER_PART);
        self.parts[part].chunks.get(within).ok_or(OpenError::PartMissing { index: part as u32 })
    }

    fn read_chunks(
        &self,
        mut cursor: Cursor,
        part: u32,
        list: Vec<v1::Chunk>,
    ) -> Result<Vec<ChunkOfRecord>, OpenError> {
        let due = self.parts[part as usize].place.chunk_count;
        check("the number of chunks", list.len() as u64, due.into())?;
        let one_chunk = due == 1 && self.manifest.parts.is_empty();
        let read = |(index, entry): (usize, v1::Chunk)| {
            let flaw = |what| OpenError::FalseEntry { index, what };
            let place = cursor.read(&entry.pack, entry.offset, entry.sealed_len).ok_or_else(|| flaw("place"))?;
            let digest = if one_chunk { &self.manifest.plaintext_digest } else { &entry.digest };
            if one_chunk && !entry.digest.is_empty() {
                return Err(flaw("digest"));
            }
            Ok(ChunkOfRecord {
                salt: place.0,
                offset: place.1,
                sealed_len: entry.sealed_len,
                codec: Codec::try_from(entry.codec).map_err(|_| flaw("codec"))?,
                digest: Digest::try_from(&digest[..]).map_err(|_| flaw("digest"))?,
            })
        };
        list.into_iter().enumerate().map(read).collect()
    }

    /// Checked as soon as all chunks are known, so that a record's digest never promises what it does not hold.
    fn check_digest(&self) -> Result<(), OpenError> {
        let digests: Vec<Digest> = self.parts.iter().flat_map(|part| &part.chunks).map(|chunk| chunk.digest).collect();
        let want = Digest::try_from(&self.manifest.plaintext_digest[..]).expect("its length was checked");
        let got = plaintext_digest(&digests);
        if got == want { Ok(()) } else { Err(OpenError::FalseDigest { got, want }) }
    }
}

impl fmt::Debug for RecordOpener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordOpener({:?}, {} bytes)", self.record, self.plaintext_len())
    }
}

/// The chunks that hold a range of plaintext.
fn chunks_of(range: &Range<u64>) -> Range<u64> {
    if range.is_empty() {
        return 0..0;
    }
    range.start / CHUNK_LEN as u64..range.end.div_ceil(CHUNK_LEN as u64)
}

fn check(what: &'static str, got: u64, want: u64) -> Result<(), OpenError> {
    if got == want { Ok(()) } else { Err(OpenError::FalseManifest { what, got, want }) }
}

fn check_chunk(index: ChunkIndex, chunk: &ChunkOfRecord, plain: &[u8]) -> Result<(), OpenError> {
    let (got, want) = (bithealth_merkle::leaf_hash(plain), chunk.digest);
    if got == want { Ok(()) } else { Err(OpenError::ChunkDigest { index, got, want }) }
}

fn check_len(what: &'static str, got: u64, want: u64) -> Result<(), OpenError> {
    if got == want { Ok(()) } else { Err(OpenError::Length { what, got, want }) }
}

/// The parts of a record, none of them read; their counts and lengths are those the record's length gives.
fn read_parts(here: &PackSalt, manifest: &Manifest) -> Result<Vec<PartOfRecord>, OpenError> {
    let chunks = chunk_count(manifest.plaintext_len);
    let per_part = CHUNKS_PER_PART as u64;
    if manifest.parts.is_empty() {
        if chunks > per_part {
            return Err(OpenError::FalseManifest {
                what: "the number of parts",
                got: 0,
                want: chunks.div_ceil(per_part),
            });
        }
        let chunk_count = chunks as u32;
        let place = PartPlace { index: 0, salt: *here, offset: 0, sealed_len: 0, chunk_count };
        return Ok(vec![PartOfRecord { place, chunks: Vec::new() }]);
    }
    check("the number of parts", manifest.parts.len() as u64, chunks.div_ceil(per_part))?;
    if manifest.parts.len() > MANIFEST_PARTS_MAX {
        let (got, want) = (manifest.parts.len() as u64, MANIFEST_PARTS_MAX as u64);
        return Err(OpenError::FalseManifest { what: "the number of parts", got, want });
    }
    let mut cursor = Cursor::new(here);
    let read = |(index, entry): (usize, &v1::ManifestPart)| {
        let first = index as u64 * per_part;
        check("the number of chunks of a part", entry.chunk_count.into(), (chunks - first).min(per_part))?;
        let rest = manifest.plaintext_len - first * CHUNK_LEN as u64;
        check("the length of a part's plaintext", entry.plaintext_len, rest.min(per_part * CHUNK_LEN as u64))?;
        let place = cursor.read(&entry.pack, entry.offset, entry.sealed_len);
        let (salt, offset) = place.ok_or(OpenError::FalseEntry { index, what: "place" })?;
        let (sealed_len, chunk_count) = (entry.sealed_len, entry.chunk_count);
        let place = PartPlace { index: index as u32, salt, offset, sealed_len, chunk_count };
        Ok(PartOfRecord { place, chunks: Vec::new() })
    };
    manifest.parts.iter().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests;
