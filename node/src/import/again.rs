//! Records that were put before: whether the very same one is kept already, for the same readers, under the same policy.
//!
//! A record of one chunk is looked up by its content tag. A larger one is compared while it comes, chunk by chunk, with
//! the record of the same name: only what differs is sealed, and what did not is read back from there should anything
//! differ later on. So a large file that did not change costs one reading and nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bithealth_pack::{Compress, Draft, RecordOpener, SealedChunk};
use bithealth_types::{CHUNK_LEN, ChunkIndex, Digest, MemberId, RecordId};

use super::Lane;
use crate::node::Node;
use crate::open::{read_here, sealed_manifest};
use crate::replicate::policy_of;
use crate::shelf::Source;

/// The record with these contents, if those who may read it and what it survives are what `lane` wants.
pub(super) fn unchanged(node: &Node, lane: &Lane, tag: &[u8; 16]) -> Option<RecordId> {
    node.shelf.unchanged(tag).filter(|record| is_kept_as(node, record, lane))
}

/// Whether a record is kept for the readers and under the policy of `lane`.
fn is_kept_as(node: &Node, record: &RecordId, lane: &Lane) -> bool {
    let Some(salt) = node.shelf.salt_of(record) else { return false };
    if let Some(open) = node.gather.lane_of(&salt) {
        return open == *lane;
    }
    let Ok(beside) = node.vault.stored_pack(&salt) else { return false };
    let readers: Vec<MemberId> = beside.readers.iter().filter_map(|id| MemberId::try_from(id.as_ref()).ok()).collect();
    // Of a restored pack it is not known whom its wraps are for.
    beside.readers.len() == beside.wraps.len()
        && readers == lane.readers
        && policy_of(beside.policy.as_ref()) == lane.policy
}

/// A large record that is kept already, to be compared with.
pub(super) struct Kept {
    node: Arc<Node>,
    opener: RecordOpener,
    name: String,
    differs: AtomicBool,
}

impl Kept {
    /// The large record of this name, if its manifest can be read here. Blocks.
    pub(super) fn of_name(node: &Arc<Node>, name: &str) -> Option<Arc<Self>> {
        let record = node.shelf.large_of_name(name)?;
        let found = node.shelf.find(&record).ok()?.filter(|found| found.source == Source::Own)?;
        let manifest = read_here(node, &found.salt, sealed_manifest(&found.row)).ok()?;
        let mut opener = RecordOpener::new(&found.salt, &found.row, &manifest).ok()?;
        for part in opener.missing_parts(0..opener.plaintext_len()) {
            let place = part.offset..part.offset + u64::from(part.sealed_len);
            opener.part(part.index, &read_here(node, &part.salt, place).ok()?).ok()?;
        }
        Some(Arc::new(Self { node: node.clone(), opener, name: name.to_owned(), differs: AtomicBool::new(false) }))
    }

    /// Whether these are its chunks from `first` on. Once any differ, none is compared any more.
    pub(super) fn has(&self, first: u32, digests: impl Iterator<Item = Digest>) -> bool {
        let differs = self.differs.load(Ordering::Relaxed)
            || (first..)
                .zip(digests)
                .any(|(index, digest)| self.opener.chunk_digest(ChunkIndex(index)) != Some(digest));
        if differs {
            self.differs.store(true, Ordering::Relaxed);
        }
        !differs
    }

    /// Bytes of its plaintext.
    pub(super) fn len(&self) -> u64 {
        self.opener.plaintext_len()
    }

    /// Its digest, if it has `count` chunks.
    pub(super) fn digest_of(&self, count: u32) -> Option<Digest> {
        let is_all = bithealth_pack::chunk_count(self.opener.plaintext_len()) == u64::from(count);
        Digest::try_from(self.opener.manifest().plaintext_digest.as_ref()).ok().filter(|_| is_all)
    }
}

/// Chunks of a record on its way that are those of a kept one.
pub(super) struct Same {
    pub(super) draft: Draft,
    pub(super) kept: Arc<Kept>,
    /// How to compress them, should they be sealed after all.
    pub(super) compress: Compress,
    pub(super) first: u32,
    pub(super) count: u32,
    /// Whether the record ends with them.
    pub(super) ends: bool,
}

impl Same {
    /// Seals the chunks `first..end` from the kept record. Blocks.
    ///
    /// # Errors
    /// In words, if the kept record cannot be read; it is not compared with again.
    pub(super) fn seal(&self, first: u32, end: u32) -> Result<Vec<SealedChunk>, String> {
        let seal = |index: u32| {
            let index = ChunkIndex(index);
            let start = u64::from(index.0) * CHUNK_LEN as u64;
            let range = start..self.kept.len().min(start + CHUNK_LEN as u64);
            let pieces = self.kept.opener.locate(range).map_err(|error| error.to_string())?;
            let piece = pieces.first().ok_or("it is shorter than it was")?;
            let place = piece.offset..piece.offset + u64::from(piece.sealed_len);
            let sealed = read_here(&self.kept.node, &piece.salt, place).map_err(|error| error.to_string())?;
            let plaintext = self.kept.opener.chunk(index, &sealed).map_err(|error| error.to_string())?;
            let last = self.ends && index.0 + 1 == self.first + self.count;
            Ok(self.draft.seal_chunk(index, last, &plaintext, self.compress))
        };
        (first..end).map(seal).collect::<Result<_, String>>().inspect_err(|_| {
            self.kept.node.shelf.forget_large(&self.kept.name);
        })
    }
}
