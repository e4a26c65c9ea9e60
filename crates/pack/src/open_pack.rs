//! The pack that is being filled.

mod record;

use std::fmt;

use bithealth_envelope::CatalogKey;
use bithealth_proto::v1::CatalogRow;
use bithealth_types::{Digest, FolderId, PACK_LEN_MAX};

use crate::catalog::{ROW_ROOM, Rows, seal_catalog, sealed_catalog_len_max};
use crate::chunk::SealedChunk;
use crate::manifest::{PlacedChunk, sealed_manifest_len_max};
use crate::{CodeError, CodedPack, PackSalt, encode};
use bithealth_types::Code;

pub use record::{CATEGORY_LEN_MAX, MEDIA_TYPE_LEN_MAX, NAME_LEN_MAX, PATIENT_LEN_MAX, RecordError};

/// What the author says of a record; sealed in the catalog.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordMeta {
    /// A file name or path, as given.
    pub name: String,
    /// The patient's identifier, as given; may be empty.
    pub patient: String,
    /// summary, laboratory, imaging ...
    pub category: String,
    /// RFC 6838.
    pub media_type: String,
    /// When it was put, milliseconds since 1970.
    pub time_ms: u64,
    /// The folder it belongs to.
    pub folder: FolderId,
}

impl fmt::Debug for RecordMeta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RecordMeta({:?})", self.folder)
    }
}

/// A pack that takes chunks and records until it is closed. What is in it never moves.
pub struct OpenPack {
    salt: PackSalt,
    bytes: Vec<u8>,
    rows: Rows,
}

/// A state of an open pack, to take snapshots from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark {
    offset: usize,
    rows: usize,
}

/// What came to an open pack since a mark.
#[derive(Clone, PartialEq)]
pub struct Snapshot {
    /// Where `bytes` start in the pack.
    pub offset: u64,
    /// Sealed chunks and manifests.
    pub bytes: Vec<u8>,
    /// Rows of the records that were completed. They hold record keys: seal them.
    pub rows: Vec<CatalogRow>,
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({} bytes at {}, {} rows)", self.bytes.len(), self.offset, self.rows.len())
    }
}

/// A pack with its catalog: ready to be coded.
pub struct ClosedPack {
    /// Names the pack before its id is known.
    pub salt: PackSalt,
    /// All of it; a Padme length.
    pub bytes: Vec<u8>,
    /// The sealed catalog is this many last bytes.
    pub catalog_len: u64,
    /// Merkle root of the folder heads in the catalog.
    pub heads_root: Digest,
    /// What the catalog holds.
    pub rows: Vec<CatalogRow>,
}

impl fmt::Debug for ClosedPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClosedPack({} bytes, {} rows)", self.bytes.len(), self.rows.len())
    }
}

impl ClosedPack {
    /// Codes it.
    ///
    /// # Errors
    /// None that a pack closed here can meet; see [`encode`].
    pub fn encode(&self, code: Code) -> Result<CodedPack, CodeError> {
        encode(code, &self.salt, self.catalog_len, &self.bytes)
    }
}

/// Why something was not added to a pack: close it and take a fresh one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{need} bytes do not fit into a pack with room for {room}")]
pub struct PackFull {
    /// Bytes that were to be added.
    pub need: usize,
    /// Bytes there is room for.
    pub room: usize,
}

/// Why snapshots are not a pack.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ResumeError {
    /// A snapshot does not start where the one before ends.
    #[error("a snapshot starts at byte {got} of the pack, {want} is due")]
    Gap {
        /// Where it starts.
        got: u64,
        /// Where the one before ends.
        want: u64,
    },
    /// More than any pack holds.
    #[error("the snapshots come to {got} bytes, with their catalog at most {max} are possible")]
    TooLong {
        /// Bytes of all snapshots, and the catalog at its longest.
        got: usize,
        /// [`PACK_LEN_MAX`].
        max: usize,
    },
}

impl OpenPack {
    /// An empty pack. Its salt is random and used for no other.
    pub fn new(salt: PackSalt) -> Self {
        Self { salt, bytes: Vec::with_capacity(PACK_LEN_MAX), rows: Rows::default() }
    }

    /// The pack that snapshots were taken of, in order, from the first mark on.
    ///
    /// # Errors
    /// [`ResumeError`] if a snapshot is missing, or they are more than a pack.
    pub fn resume(salt: PackSalt, snapshots: impl IntoIterator<Item = Snapshot>) -> Result<Self, ResumeError> {
        let mut pack = Self::new(salt);
        for snapshot in snapshots {
            let want = pack.bytes.len() as u64;
            if snapshot.offset != want {
                return Err(ResumeError::Gap { got: snapshot.offset, want });
            }
            snapshot.rows.into_iter().for_each(|row| pack.rows.push(row));
            let got = pack.bytes.len() + snapshot.bytes.len() + sealed_catalog_len_max(pack.rows.room());
            if got > PACK_LEN_MAX {
                return Err(ResumeError::TooLong { got, max: PACK_LEN_MAX });
            }
            pack.bytes.extend_from_slice(&snapshot.bytes);
        }
        Ok(pack)
    }

    /// The pack's salt.
    pub fn salt(&self) -> &PackSalt {
        &self.salt
    }

    /// Bytes of chunks and manifests so far.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether no byte and no record was added.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty() && self.rows.as_slice().is_empty()
    }

    /// Rows of the records added so far.
    pub fn rows(&self) -> &[CatalogRow] {
        self.rows.as_slice()
    }

    /// The bytes so far, for reads of records whose pack is still open.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes there is room for, beside the row of one more record.
    pub fn room(&self) -> usize {
        let catalog = sealed_catalog_len_max(self.rows.room() + ROW_ROOM);
        PACK_LEN_MAX.saturating_sub(self.bytes.len() + catalog)
    }

    /// Whether so many bytes fit, beside the row of one more record.
    pub fn fits(&self, len: usize) -> bool {
        len <= self.room()
    }

    /// Whether a whole record of these chunks fits, manifest and row included; so that one range read gets all of it.
    pub fn fits_record(&self, chunks: &[SealedChunk], media_type: &str) -> bool {
        let len = chunks.iter().map(|chunk| chunk.bytes.len()).sum::<usize>();
        self.fits(len + sealed_manifest_len_max(chunks.len(), media_type.len()))
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64, PackFull> {
        let (need, room) = (bytes.len(), self.room());
        if need > room {
            return Err(PackFull { need, room });
        }
        let offset = self.bytes.len() as u64;
        self.bytes.extend_from_slice(bytes);
        Ok(offset)
    }

    /// Adds a chunk.
    ///
    /// # Errors
    /// [`PackFull`] if it does not fit; the pack is as before.
    pub fn add_chunk(&mut self, chunk: &SealedChunk) -> Result<PlacedChunk, PackFull> {
        let offset = self.append(&chunk.bytes)?;
        Ok(PlacedChunk {
            salt: self.salt,
            offset,
            sealed_len: chunk.bytes.len() as u32,
            codec: chunk.codec,
            digest: chunk.digest,
            plaintext_len: chunk.plaintext_len,
        })
    }

    /// The state now. The first mark of a pack is [`Mark::default`].
    pub fn mark(&self) -> Mark {
        Mark { offset: self.bytes.len(), rows: self.rows.as_slice().len() }
    }

    /// What came since `mark`.
    ///
    /// # Panics
    /// If the mark is of another pack that was further on.
    pub fn snapshot_since(&self, mark: Mark) -> Snapshot {
        Snapshot {
            offset: mark.offset as u64,
            bytes: self.bytes[mark.offset..].to_vec(),
            rows: self.rows.as_slice()[mark.rows..].to_vec(),
        }
    }

    /// Seals the catalog and appends it. `head_before` knows the pack that held each folder's head until now.
    ///
    /// A pack that is closed again, because the machine stopped before the first was durable, has another catalog
    /// under other keys; only one of the two may ever leave the machine.
    pub fn close(self, key: &CatalogKey, head_before: impl Fn(&FolderId) -> Option<PackSalt>) -> ClosedPack {
        let Self { salt, mut bytes, rows } = self;
        let catalog = seal_catalog(key, &salt, rows.into_vec(), bytes.len(), head_before);
        bytes.extend_from_slice(&catalog.sealed);
        bytes.shrink_to_fit();
        let catalog_len = catalog.sealed.len() as u64;
        ClosedPack { salt, bytes, catalog_len, heads_root: catalog.heads_root, rows: catalog.rows }
    }
}

impl fmt::Debug for OpenPack {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OpenPack({} bytes, {} rows)", self.bytes.len(), self.rows.as_slice().len())
    }
}

#[cfg(test)]
mod tests;
