//! Where a record's chunks lie: as the packer knows it, and as manifests say it.

use bithealth_envelope::SEAL_OVERHEAD;
use bithealth_proto::v1::{self, Codec};
use bithealth_types::{CHUNK_LEN, ChunkIndex, Digest};
use bytes::Bytes;

use crate::PackSalt;
use crate::chunk::chunk_count;

/// Chunks a manifest names itself, and of every part of a larger one but the last: 256 MiB of plaintext.
pub const CHUNKS_PER_PART: usize = 1024;

/// Most parts of a manifest: 4,096 bound a record at 1 TiB, and its root manifest at less than the message's limit.
pub const MANIFEST_PARTS_MAX: usize = 4096;

/// Bytes of an encoded `Chunk` that lies right behind the one before, at most: what a digest, two small numbers and
/// the message's own frame take.
const CHUNK_ENTRY_LEN_MAX: usize = 2 + 34 + 5 + 2;

/// A chunk in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedChunk {
    /// Salt of the pack.
    pub salt: PackSalt,
    /// Where it starts in that pack.
    pub offset: u64,
    /// Bytes there.
    pub sealed_len: u32,
    /// How it was compressed.
    pub codec: Codec,
    /// Hash of the plaintext as a leaf of the record's tree.
    pub digest: Digest,
    /// Bytes of plaintext.
    pub plaintext_len: u32,
}

/// A sealed part of a large record's manifest, in a pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlacedPart {
    /// Salt of the pack.
    pub salt: PackSalt,
    /// Where it starts in that pack.
    pub offset: u64,
    /// Bytes there.
    pub sealed_len: u32,
    /// Bytes of plaintext its chunks hold.
    pub plaintext_len: u64,
    /// Digests of its chunks, in order.
    pub digests: Vec<Digest>,
}

/// Where something lies, as a manifest says it: relative to what came before.
pub(crate) struct Cursor {
    salt: PackSalt,
    end: Option<u64>,
}

impl Cursor {
    /// Before the first item of a list that lies in the pack `here`.
    pub(crate) fn new(here: &PackSalt) -> Self {
        Self { salt: *here, end: None }
    }

    /// Before the first item of a record whose run starts at `start` of the pack `here`. What follows from there on needs
    /// no places, so that a record that is one run can move to another pack as it is.
    pub(crate) fn at(here: &PackSalt, start: u64) -> Self {
        Self { salt: *here, end: Some(start) }
    }

    /// The fields `pack` and `offset` of the next item.
    fn write(&mut self, salt: &PackSalt, offset: u64, len: u32) -> (Bytes, u64) {
        let same_pack = self.salt == *salt;
        let fields = match self.end {
            Some(end) if same_pack && end == offset => (Bytes::new(), 0),
            Some(_) if same_pack && offset == 0 => (Bytes::copy_from_slice(salt), 0),
            _ if same_pack => (Bytes::new(), offset),
            _ => (Bytes::copy_from_slice(salt), offset),
        };
        (self.salt, self.end) = (*salt, Some(offset + u64::from(len)));
        fields
    }

    /// Undoes [`Cursor::write`]; nothing where the salt has a wrong length or the place lies beyond all packs.
    pub(crate) fn read(&mut self, pack: &[u8], offset: u64, len: u32) -> Option<(PackSalt, u64)> {
        let place = match (pack, self.end) {
            ([], Some(end)) if offset == 0 => (self.salt, end),
            ([], _) => (self.salt, offset),
            _ => (pack.try_into().ok()?, offset),
        };
        let end = place.1.checked_add(u64::from(len))?;
        if end > bithealth_types::PACK_LEN_MAX as u64 {
            return None;
        }
        (self.salt, self.end) = (place.0, Some(end));
        Some(place)
    }
}

/// The entries of a list of chunks that begins at `cursor`.
pub(crate) fn chunk_entries(mut cursor: Cursor, chunks: &[PlacedChunk], of_one_chunk: bool) -> Vec<v1::Chunk> {
    let entry = |chunk: &PlacedChunk| {
        let (pack, offset) = cursor.write(&chunk.salt, chunk.offset, chunk.sealed_len);
        let digest = if of_one_chunk { Bytes::new() } else { Bytes::copy_from_slice(chunk.digest.as_bytes()) };
        v1::Chunk { sealed_len: chunk.sealed_len, codec: chunk.codec.into(), pack, offset, digest }
    };
    chunks.iter().map(entry).collect()
}

/// The entries of the parts of a manifest that lies in the pack `here`.
pub(crate) fn part_entries(here: &PackSalt, parts: &[PlacedPart]) -> Vec<v1::ManifestPart> {
    let mut cursor = Cursor::new(here);
    let entry = |part: &PlacedPart| {
        let (pack, offset) = cursor.write(&part.salt, part.offset, part.sealed_len);
        v1::ManifestPart {
            sealed_len: part.sealed_len,
            pack,
            offset,
            chunk_count: part.digests.len() as u32,
            plaintext_len: part.plaintext_len,
        }
    };
    parts.iter().map(entry).collect()
}

/// Bytes of a sealed manifest, at most, whose record lies in one run in one pack.
pub(crate) fn sealed_manifest_len_max(chunk_count: usize, media_type_len: usize) -> usize {
    let parts = if chunk_count > CHUNKS_PER_PART { chunk_count.div_ceil(CHUNKS_PER_PART) } else { 0 };
    let fields = 34 + 11 + 3 + media_type_len + 34 + 11; // digest, length, media type, author, first offset
    let part = SEAL_OVERHEAD + 11 + 32; // its own seal and first offset, its entry in the manifest
    COMMITMENT_LEN + fields + chunk_count * CHUNK_ENTRY_LEN_MAX + parts * part + SEAL_OVERHEAD
}

/// Bytes of the key commitment in front of a sealed manifest.
pub(crate) const COMMITMENT_LEN: usize = 32;

/// Bytes of plaintext of one chunk of a record.
pub(crate) fn chunk_plaintext_len(index: ChunkIndex, plaintext_len: u64) -> usize {
    let start = u64::from(index.0) * CHUNK_LEN as u64;
    (plaintext_len.saturating_sub(start)).min(CHUNK_LEN as u64) as usize
}

/// Whether a chunk is its record's last.
pub(crate) fn is_last(index: ChunkIndex, plaintext_len: u64) -> bool {
    u64::from(index.0) + 1 == chunk_count(plaintext_len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: PackSalt = [0; 32];

    fn chunk(salt: u8, offset: u64, sealed_len: u32) -> PlacedChunk {
        let digest = Digest([7; 32]);
        PlacedChunk { salt: [salt; 32], offset, sealed_len, codec: Codec::Stored, digest, plaintext_len: 1 }
    }

    #[test]
    fn chunks_behind_each_other_say_nothing_of_where_they_lie() {
        let entries = chunk_entries(Cursor::new(&HERE), &[chunk(0, 50, 10), chunk(0, 60, 10), chunk(0, 70, 10)], false);
        assert_eq!(entries.iter().map(|entry| entry.offset).collect::<Vec<_>>(), [50, 0, 0]);
        assert!(entries.iter().all(|entry| entry.pack.is_empty()));
    }

    #[test]
    fn a_place_beyond_all_packs_is_no_place() {
        assert_eq!(Cursor::new(&HERE).read(&[], bithealth_types::PACK_LEN_MAX as u64, 1), None);
        assert_eq!(Cursor::new(&HERE).read(&[], u64::MAX, 1), None);
        assert_eq!(Cursor::new(&HERE).read(&[1; 31], 0, 1), None);
    }

    proptest! {
        #[test]
        fn places_read_back(places in prop::collection::vec((0_u8..3, 0_u64..4, 0_u32..3), 0..20)) {
            let mut writer = Cursor::new(&HERE);
            let mut reader = Cursor::new(&HERE);
            for (salt, offset, len) in places {
                let (pack, written) = writer.write(&[salt; 32], offset, len);
                prop_assert_eq!(reader.read(&pack, written, len), Some(([salt; 32], offset)));
            }
        }
    }
}
