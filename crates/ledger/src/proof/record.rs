//! From the commit of a pack to one record in it.

use bithealth_merkle::{leaf_hash, verify_inclusion};
use bithealth_proto::encode;
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_types::{Digest, RecordId};

use super::{NotProven, digests, fixed};

/// A record that was in a pack when the pack was committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProvenRecord {
    /// What names it.
    pub record: RecordId,
    /// Merkle root (RFC 9162) of its contents, its leaves the chunks of 256 KiB.
    pub plaintext_digest: Digest,
}

pub(super) fn check(entry: &v1::Entry, opening: &v1::RecordOpening) -> Result<ProvenRecord, NotProven> {
    let Some(Operation::CommitPack(commit)) = &entry.operation else {
        return Err(NotProven::NoPack { sequence: entry.sequence });
    };
    let absent = |what| NotProven::Absent { what };
    let leaf = opening.leaf.as_ref().ok_or(absent("record"))?;
    let head = opening.head.as_ref().ok_or(absent("folder"))?;
    fixed("the record's salt", &leaf.salt)?;
    fixed("the digest of the folder's head", &head.head)?;
    let proven = ProvenRecord {
        record: RecordId::try_from(&leaf.record[..]).map_err(|_| NotProven::RecordId { got: leaf.record.len() })?,
        plaintext_digest: Digest(fixed("the digest of the record", &leaf.plaintext_digest)?),
    };
    let records = Digest(fixed("the root of the folder's records", &head.records)?);
    let leaf = leaf_hash(&encode(leaf));
    verify_inclusion(&records, opening.count, opening.index, &leaf, &digests(&opening.path)?)
        .map_err(NotProven::Record)?;
    let heads_root = Digest(fixed("the root of the pack's folders", &commit.heads_root)?);
    let leaf = leaf_hash(&encode(head));
    verify_inclusion(&heads_root, opening.head_count, opening.head_index, &leaf, &digests(&opening.head_path)?)
        .map_err(NotProven::Record)?;
    Ok(proven)
}

#[cfg(test)]
mod tests;
