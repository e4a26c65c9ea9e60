//! What workers do with a document: recognise it, find its patient, look whether it was put before, seal it.

use std::sync::Arc;

use bithealth_fhir::Form;
use bithealth_merkle::leaf_hash;
use bithealth_pack::{Compress, Draft, OpenPack, RecordError, RecordMeta, SealedChunk, plaintext_digest};
use bithealth_proto::v1::{self, CatalogRow};
use bithealth_types::{ChunkIndex, Digest, NodeId, RecordId};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use super::Lane;
use super::again::{Same, unchanged};
use crate::node::{Node, now_ms};

/// What a worker made of its part of a put, in the order of the put.
pub(super) enum Step {
    /// A record of one chunk.
    Small(Prepared),
    /// The very same record was put before.
    Unchanged { name: String, record: RecordId, bytes: u64 },
    /// Chunks of a record of several.
    Chunks { draft: Draft, chunks: Vec<SealedChunk> },
    /// Chunks of such a record that are kept already.
    Same(Same),
    /// The record of the chunks before is complete.
    End { draft: Draft, meta: RecordMeta },
    /// A record that cannot be taken.
    Failed { name: String, error: String },
}

/// A sealed record of one chunk that is in no pack yet.
pub struct Prepared {
    pub(super) draft: Draft,
    pub(super) chunk: SealedChunk,
    pub(super) meta: RecordMeta,
    pub(super) tag: [u8; 16],
}

impl Prepared {
    /// Adds it to a pack.
    ///
    /// # Errors
    /// [`RecordError`] if it does not fit or a text of it is too long.
    pub fn add_to(&self, pack: &mut OpenPack, author: NodeId) -> Result<CatalogRow, RecordError> {
        let placed = pack.add_chunk(&self.chunk)?;
        pack.add_record(&self.draft, author, vec![placed], self.meta.clone(), self.tag)
    }

    /// Whether it fits into a pack.
    pub fn fits(&self, pack: &OpenPack) -> bool {
        pack.fits_record(std::slice::from_ref(&self.chunk), &self.meta.media_type)
    }
}

/// A whole document of one chunk.
pub(super) struct Document {
    pub(super) wanted: v1::PutRecord,
    pub(super) bytes: Bytes,
}

/// Seals documents of one chunk each.
pub(super) fn seal_documents(node: &Arc<Node>, lane: &Lane, documents: Vec<Document>) -> Vec<Step> {
    documents.into_iter().map(|document| seal_document(node, lane, document)).collect()
}

fn seal_document(node: &Node, lane: &Lane, Document { wanted, bytes }: Document) -> Step {
    let form = form(&wanted, &bytes);
    let meta = describe(node, wanted, form, Some(&bytes));
    let digest = plaintext_digest(&[leaf_hash(&bytes)]);
    let tag = content_tag(node, &meta, &digest);
    if let Some(record) = unchanged(node, lane, &tag) {
        return Step::Unchanged { name: meta.name, record, bytes: bytes.len() as u64 };
    }
    let draft = Draft::new();
    let chunk = draft.seal_chunk(ChunkIndex(0), true, &bytes, Compress::for_media_type(&meta.media_type));
    Step::Small(Prepared { draft, chunk, meta, tag })
}

/// What a document is, from its first bytes and its name.
pub(super) fn form(wanted: &v1::PutRecord, first_bytes: &[u8]) -> Form {
    bithealth_fhir::recognise(&wanted.name, first_bytes)
}

/// What the catalog says of a record. `document` is the whole of it, where it is at hand.
pub(super) fn describe(node: &Node, wanted: v1::PutRecord, form: Form, document: Option<&[u8]>) -> RecordMeta {
    let automatic = wanted.patient == "auto";
    let reading = document.filter(|_| automatic || wanted.category.is_empty()).map(|it| bithealth_fhir::read(it, form));
    let category = match &reading {
        _ if !wanted.category.is_empty() => wanted.category,
        Some(reading) => reading.category.as_str().to_owned(),
        None => bithealth_fhir::Category::of_media_type(form.media_type).as_str().to_owned(),
    };
    let patient = match reading.map(|reading| reading.subject) {
        _ if !automatic => wanted.patient,
        Some(Ok(subject)) => subject.into_string(),
        Some(Err(_)) | None => String::new(),
    };
    let media_type = if wanted.media_type.is_empty() { form.outer().to_owned() } else { wanted.media_type };
    let folder = node.keys.organisation.folder(&patient, &category);
    RecordMeta { name: wanted.name, patient, category, media_type, time_ms: now_ms(), folder }
}

/// Finds the same contents under the same name in the same folder again. Another name is another record: a folder of
/// files comes back with all its names.
pub(super) fn content_tag(node: &Node, meta: &RecordMeta, plaintext_digest: &Digest) -> [u8; 16] {
    let named = Sha256::new().chain_update(plaintext_digest.as_bytes()).chain_update(&meta.name).finalize();
    node.keys.organisation.content_tag(&meta.folder, &Digest(named.into()))
}
