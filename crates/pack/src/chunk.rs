//! One record while it is being sealed.

use std::fmt;
use std::sync::Arc;

use bithealth_envelope::{Part, RecordKey, SEAL_OVERHEAD, Sealer};
use bithealth_merkle::{leaf_hash, root};
use bithealth_proto::v1::Codec;
use bithealth_types::{CHUNK_LEN, ChunkIndex, Digest, RecordId};

use crate::compress::{Compress, compress};

/// A record being sealed: its id, its key and what seals under it. Cheap to clone; chunks are sealed from many threads.
///
/// A draft seals one plaintext, once: whoever starts again, because the source changed or could not be read, takes a
/// new draft, so that no two plaintexts ever share a key.
#[derive(Clone)]
pub struct Draft {
    inner: Arc<Inner>,
}

struct Inner {
    id: RecordId,
    key: RecordKey,
    sealer: Sealer,
}

/// A chunk as it lies in a pack.
#[derive(Clone, PartialEq, Eq)]
pub struct SealedChunk {
    /// Compressed where that helps, sealed.
    pub bytes: Vec<u8>,
    /// How it was compressed.
    pub codec: Codec,
    /// Hash of the plaintext as a leaf of the record's tree (RFC 9162).
    pub digest: Digest,
    /// Bytes of plaintext.
    pub plaintext_len: u32,
}

impl fmt::Debug for SealedChunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealedChunk({} bytes of {})", self.bytes.len(), self.plaintext_len)
    }
}

impl Draft {
    /// A new record with a random id and key.
    #[allow(clippy::new_without_default)] // a default that differs every time would surprise
    pub fn new() -> Self {
        let mut id = [0; RecordId::LEN];
        getrandom::fill(&mut id).expect("a system without randomness cannot seal");
        let key = RecordKey::random();
        let sealer = Sealer::new(key.as_content_key(), &id);
        Self { inner: Arc::new(Inner { id: RecordId(id), key, sealer }) }
    }

    /// The record's id.
    pub fn id(&self) -> RecordId {
        self.inner.id
    }

    pub(crate) fn key(&self) -> &RecordKey {
        &self.inner.key
    }

    pub(crate) fn sealer(&self) -> &Sealer {
        &self.inner.sealer
    }

    /// Compresses and seals one chunk. `last` marks the record's end, so that no shorter record can be passed off.
    ///
    /// # Panics
    /// If the chunk is longer than [`CHUNK_LEN`], or shorter without being the last.
    pub fn seal_chunk(&self, index: ChunkIndex, last: bool, plaintext: &[u8], kind: Compress) -> SealedChunk {
        assert!(
            plaintext.len() == CHUNK_LEN || last && plaintext.len() < CHUNK_LEN,
            "chunk {index} has {} bytes, each but the last has {CHUNK_LEN}",
            plaintext.len()
        );
        // In this order: copying and compressing stream the plaintext into the cache, hashing alone would wait for it.
        let (mut bytes, codec) = compress(plaintext, kind, SEAL_OVERHEAD);
        let digest = leaf_hash(plaintext);
        self.sealer().seal(Part::Chunk { index, last }, &mut bytes);
        SealedChunk { bytes, codec, digest, plaintext_len: plaintext.len() as u32 }
    }
}

impl fmt::Debug for Draft {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("id", &self.inner.id).finish_non_exhaustive()
    }
}

/// Chunks of a record of this many bytes: one at least.
pub fn chunk_count(plaintext_len: u64) -> u64 {
    plaintext_len.div_ceil(CHUNK_LEN as u64).max(1)
}

/// Cuts a plaintext into its chunks; says of each whether it is the last.
pub fn cut(plaintext: &[u8]) -> impl Iterator<Item = (ChunkIndex, bool, &[u8])> {
    let count = chunk_count(plaintext.len() as u64);
    (0..count).map(move |index| {
        let start = index as usize * CHUNK_LEN;
        let end = plaintext.len().min(start + CHUNK_LEN);
        (ChunkIndex(index as u32), index + 1 == count, &plaintext[start..end])
    })
}

/// Digest of a whole plaintext from the digests of its chunks: their Merkle root (RFC 9162).
pub fn plaintext_digest(chunk_digests: &[Digest]) -> Digest {
    root(chunk_digests)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_record_is_one_empty_chunk() {
        let chunks: Vec<_> = cut(b"").collect();
        assert_eq!(chunks, [(ChunkIndex(0), true, &b""[..])]);
    }

    #[test]
    fn only_the_last_chunk_is_short() {
        let plaintext = vec![1; 2 * CHUNK_LEN + 1];
        let shape: Vec<_> = cut(&plaintext).map(|(index, last, bytes)| (index.0, last, bytes.len())).collect();
        assert_eq!(shape, [(0, false, CHUNK_LEN), (1, false, CHUNK_LEN), (2, true, 1)]);
        assert_eq!(cut(&plaintext[..2 * CHUNK_LEN]).count(), 2);
    }

    #[test]
    #[should_panic(expected = "each but the last has")]
    fn a_short_chunk_in_the_middle_is_a_mistake_of_ours() {
        Draft::new().seal_chunk(ChunkIndex(0), false, b"short", Compress::No);
    }

    #[test]
    fn two_drafts_share_neither_id_nor_bytes() {
        let (one, other) = (Draft::new(), Draft::new());
        assert_ne!(one.id(), other.id());
        let [a, b] = [one, other].map(|draft| draft.seal_chunk(ChunkIndex(0), true, b"same", Compress::No));
        assert_ne!(a.bytes, b.bytes);
        assert_eq!(a.digest, b.digest);
    }

    #[test]
    fn a_draft_and_a_chunk_print_without_content() {
        let draft = Draft::new();
        assert_eq!(format!("{draft:?}"), format!("Draft {{ id: {:?}, .. }}", draft.id()));
        let chunk = draft.seal_chunk(ChunkIndex(0), true, b"canary", Compress::No);
        assert_eq!(format!("{chunk:?}"), "SealedChunk(22 bytes of 6)");
    }
}
