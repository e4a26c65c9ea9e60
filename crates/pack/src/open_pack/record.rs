//! A record's end: its manifest and its row.

use bithealth_envelope::{Part, SEAL_OVERHEAD};
use bithealth_proto::encode;
use bithealth_proto::v1::{self, CatalogRow};
use bithealth_types::{CHUNK_LEN, Digest, NodeId};
use bytes::Bytes;

use super::{OpenPack, PackFull, RecordMeta};
use crate::chunk::{Draft, plaintext_digest};
use crate::manifest::{
    CHUNKS_PER_PART, COMMITMENT_LEN, Cursor, MANIFEST_PARTS_MAX, PlacedChunk, PlacedPart, chunk_entries, part_entries,
    sealed_manifest_len_max,
};

/// Most bytes of a record's name.
pub const NAME_LEN_MAX: usize = 1024;
/// Most bytes of a patient's identifier.
pub const PATIENT_LEN_MAX: usize = 256;
/// Most bytes of a category.
pub const CATEGORY_LEN_MAX: usize = 64;
/// Most bytes of a media type: two names of 127 and a slash (RFC 6838, section 4.2).
pub const MEDIA_TYPE_LEN_MAX: usize = 255;

/// Why a record was not added.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Its manifest does not fit any more: close the pack, add the record to a fresh one.
    #[error(transparent)]
    Full(#[from] PackFull),
    /// A text is too long for the catalog.
    #[error("{what} has {got} bytes, at most {max} are accepted")]
    TextTooLong {
        /// Which text.
        what: &'static str,
        /// Bytes it has.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// No chunk: an empty record has one empty chunk.
    #[error("a record has at least one chunk, an empty one")]
    NoChunks,
    /// A chunk has a length that its place in the record does not allow.
    #[error("chunk {index} holds {got} bytes, {want} are due")]
    ChunkLength {
        /// Which chunk.
        index: usize,
        /// Bytes of plaintext it has.
        got: u64,
        /// Bytes of plaintext that are due; of the last chunk, at most.
        want: u64,
    },
    /// More chunks than a manifest can name.
    #[error("the record has {got} chunks, at most {max} are accepted")]
    TooManyChunks {
        /// Chunks it has.
        got: usize,
        /// [`CHUNKS_PER_PART`] times [`MANIFEST_PARTS_MAX`].
        max: usize,
    },
}

impl RecordMeta {
    fn check(&self) -> Result<(), RecordError> {
        for (what, text, max) in [
            ("a record's name", &self.name, NAME_LEN_MAX),
            ("a patient's identifier", &self.patient, PATIENT_LEN_MAX),
            ("a category", &self.category, CATEGORY_LEN_MAX),
            ("a media type", &self.media_type, MEDIA_TYPE_LEN_MAX),
        ] {
            if text.len() > max {
                return Err(RecordError::TextTooLong { what, got: text.len(), max });
            }
        }
        Ok(())
    }
}

/// All but the last chunk of a record are full; the last is empty only where it is the first.
fn check_chunks(chunks: &[PlacedChunk], ends_the_record: bool) -> Result<(), RecordError> {
    let chunk_len = CHUNK_LEN as u64;
    let last = chunks.len().checked_sub(1).ok_or(RecordError::NoChunks)?;
    for (index, chunk) in chunks.iter().enumerate() {
        let got = u64::from(chunk.plaintext_len);
        let allowed = match ends_the_record && index == last {
            true => got <= chunk_len && (got > 0 || last == 0),
            false => got == chunk_len,
        };
        if !allowed {
            return Err(RecordError::ChunkLength { index, got, want: chunk_len });
        }
    }
    Ok(())
}

impl OpenPack {
    /// Seals the record's manifest, and adds it and the record's row. Chunks may lie in this pack and in earlier ones.
    ///
    /// Of more than [`CHUNKS_PER_PART`] chunks it first adds the manifest's parts, here. A record of some 100 GB has
    /// more parts than a pack holds: for it, call [`OpenPack::add_part`] as its chunks are placed and then
    /// [`OpenPack::add_record_of_parts`].
    ///
    /// # Errors
    /// [`RecordError`]; the pack is as before. After [`RecordError::Full`] the same call succeeds in a fresh pack.
    pub fn add_record(
        &mut self,
        draft: &Draft,
        author: NodeId,
        chunks: Vec<PlacedChunk>,
        meta: RecordMeta,
        content_tag: [u8; 16],
    ) -> Result<CatalogRow, RecordError> {
        meta.check()?;
        check_chunks(&chunks, true)?;
        if chunks.len() > CHUNKS_PER_PART {
            return self.add_large_record(draft, author, &chunks, meta, content_tag);
        }
        let run = self.run_of(chunks.iter().map(|chunk| (&chunk.salt, chunk.offset, chunk.sealed_len)));
        let digests: Vec<Digest> = chunks.iter().map(|chunk| chunk.digest).collect();
        let manifest = v1::Manifest {
            plaintext_digest: Bytes::copy_from_slice(plaintext_digest(&digests).as_bytes()),
            plaintext_len: chunks.iter().map(|chunk| u64::from(chunk.plaintext_len)).sum(),
            media_type: meta.media_type.clone(),
            author: Bytes::copy_from_slice(author.as_bytes()),
            chunks: chunk_entries(Cursor::at(&self.salt, run), &chunks, chunks.len() == 1),
            parts: Vec::new(),
        };
        self.add_manifest(draft, manifest, run, meta, content_tag)
    }

    fn add_large_record(
        &mut self,
        draft: &Draft,
        author: NodeId,
        chunks: &[PlacedChunk],
        meta: RecordMeta,
        content_tag: [u8; 16],
    ) -> Result<CatalogRow, RecordError> {
        let max = CHUNKS_PER_PART * MANIFEST_PARTS_MAX;
        if chunks.len() > max {
            return Err(RecordError::TooManyChunks { got: chunks.len(), max });
        }
        // Chunks of several packs take 43 bytes more wherever the pack changes.
        let changes = chunks.windows(2).filter(|pair| pair[0].salt != pair[1].salt).count();
        let parts = chunks.len().div_ceil(CHUNKS_PER_PART);
        let need = sealed_manifest_len_max(chunks.len(), meta.media_type.len()) + 43 * (changes + parts);
        let room = self.room();
        if need > room {
            return Err(PackFull { need, room }.into());
        }
        let parts = chunks
            .chunks(CHUNKS_PER_PART)
            .enumerate()
            .map(|(index, chunks)| self.append_part(draft, index as u32, chunks))
            .collect::<Result<Vec<_>, _>>()?;
        self.add_manifest_of_parts(draft, author, &parts, chunks, meta, content_tag)
    }

    /// Seals and adds the manifest part `index` of a large record: the next [`CHUNKS_PER_PART`] of its chunks, or its
    /// last ones.
    ///
    /// # Errors
    /// [`RecordError`] as of [`OpenPack::add_record`]; the pack is as before.
    pub fn add_part(&mut self, draft: &Draft, index: u32, chunks: &[PlacedChunk]) -> Result<PlacedPart, RecordError> {
        if chunks.len() > CHUNKS_PER_PART {
            return Err(RecordError::TooManyChunks { got: chunks.len(), max: CHUNKS_PER_PART });
        }
        check_chunks(chunks, true)?;
        Ok(self.append_part(draft, index, chunks)?)
    }

    fn append_part(&mut self, draft: &Draft, index: u32, chunks: &[PlacedChunk]) -> Result<PlacedPart, PackFull> {
        let mut bytes = encode(&v1::ChunkList { chunks: chunk_entries(Cursor::new(&self.salt), chunks, false) });
        // As with the manifest: what does not fit must not have been sealed.
        let (need, room) = (bytes.len() + SEAL_OVERHEAD, self.room());
        if need > room {
            return Err(PackFull { need, room });
        }
        draft.sealer().seal(Part::ManifestPart { index }, &mut bytes);
        let offset = self.append(&bytes)?;
        Ok(PlacedPart {
            salt: self.salt,
            offset,
            sealed_len: bytes.len() as u32,
            plaintext_len: chunks.iter().map(|chunk| u64::from(chunk.plaintext_len)).sum(),
            digests: chunks.iter().map(|chunk| chunk.digest).collect(),
        })
    }

    /// Seals the manifest over parts added before, and adds it and the record's row.
    ///
    /// # Errors
    /// [`RecordError`] as of [`OpenPack::add_record`]; the pack is as before.
    pub fn add_record_of_parts(
        &mut self,
        draft: &Draft,
        author: NodeId,
        parts: &[PlacedPart],
        meta: RecordMeta,
        content_tag: [u8; 16],
    ) -> Result<CatalogRow, RecordError> {
        meta.check()?;
        let last = parts.len().checked_sub(1).ok_or(RecordError::NoChunks)?;
        if parts.len() > MANIFEST_PARTS_MAX {
            let got = parts.iter().map(|part| part.digests.len()).sum();
            return Err(RecordError::TooManyChunks { got, max: CHUNKS_PER_PART * MANIFEST_PARTS_MAX });
        }
        let want = (CHUNKS_PER_PART * CHUNK_LEN) as u64;
        if let Some(index) = parts[..last].iter().position(|part| part.plaintext_len != want) {
            let got = parts[index].plaintext_len;
            return Err(RecordError::ChunkLength { index: index * CHUNKS_PER_PART, got, want });
        }
        self.add_manifest_of_parts(draft, author, parts, &[], meta, content_tag)
    }

    fn add_manifest_of_parts(
        &mut self,
        draft: &Draft,
        author: NodeId,
        parts: &[PlacedPart],
        chunks: &[PlacedChunk],
        meta: RecordMeta,
        content_tag: [u8; 16],
    ) -> Result<CatalogRow, RecordError> {
        let digests: Vec<Digest> = parts.iter().flat_map(|part| &part.digests).copied().collect();
        let manifest = v1::Manifest {
            plaintext_digest: Bytes::copy_from_slice(plaintext_digest(&digests).as_bytes()),
            plaintext_len: parts.iter().map(|part| part.plaintext_len).sum(),
            media_type: meta.media_type.clone(),
            author: Bytes::copy_from_slice(author.as_bytes()),
            chunks: Vec::new(),
            parts: part_entries(&self.salt, parts),
        };
        let chunks = chunks.iter().map(|chunk| (&chunk.salt, chunk.offset, chunk.sealed_len));
        let run = self.run_of(chunks.chain(parts.iter().map(|part| (&part.salt, part.offset, part.sealed_len))));
        self.add_manifest(draft, manifest, run, meta, content_tag)
    }

    fn add_manifest(
        &mut self,
        draft: &Draft,
        manifest: v1::Manifest,
        run: u64,
        meta: RecordMeta,
        content_tag: [u8; 16],
    ) -> Result<CatalogRow, RecordError> {
        let mut sealed = encode(&manifest);
        // Checked before it is sealed: what does not fit is sealed anew for another pack, and a key seals once.
        let (need, room) = (COMMITMENT_LEN + sealed.len() + SEAL_OVERHEAD, self.room());
        if need > room {
            return Err(PackFull { need, room }.into());
        }
        draft.sealer().seal(Part::Manifest, &mut sealed);
        self.bytes.extend_from_slice(&draft.sealer().commitment());
        self.bytes.extend_from_slice(&sealed);
        let row = CatalogRow {
            record: Bytes::copy_from_slice(draft.id().as_bytes()),
            folder: Bytes::copy_from_slice(meta.folder.as_bytes()),
            record_key: Bytes::copy_from_slice(draft.key().expose()),
            offset: run,
            len: self.bytes.len() as u64 - run,
            manifest_len: need as u64,
            plaintext_len: manifest.plaintext_len,
            name: meta.name,
            patient: meta.patient,
            category: meta.category,
            media_type: meta.media_type,
            time_ms: meta.time_ms,
            plaintext_digest: manifest.plaintext_digest,
            content_tag: Bytes::copy_from_slice(&content_tag),
        };
        self.rows.push(row.clone());
        Ok(row)
    }

    /// Where the run of a record's bytes starts that ends at this pack's end, given where its bytes lie.
    /// Adds a record of another pack that is one run there, as it is: its chunks and its manifest name no places.
    /// [`crate::RecordOpener::is_one_run`] says whether it is.
    ///
    /// # Errors
    /// [`PackFull`] if it does not fit; the pack is as before.
    pub fn add_moved(&mut self, row: &CatalogRow, run: &[u8]) -> Result<CatalogRow, PackFull> {
        let offset = self.append(run)?;
        let row = CatalogRow { offset, ..row.clone() };
        self.rows.push(row.clone());
        Ok(row)
    }

    fn run_of<'a>(&self, places: impl Iterator<Item = (&'a crate::PackSalt, u64, u32)>) -> u64 {
        let mut here: Vec<(u64, u32)> =
            places.filter(|(salt, ..)| **salt == self.salt).map(|(_, offset, len)| (offset, len)).collect();
        here.sort_unstable();
        let mut start = self.bytes.len() as u64;
        for (offset, len) in here.into_iter().rev() {
            if offset + u64::from(len) != start {
                break;
            }
            start = offset;
        }
        start
    }
}
