//! What a pack's commit says of its contents: a root over the folders in it, and under each folder one over its records.
//!
//! ```text
//! heads_root <- HeadLeaf { hash of FolderHead, root of its records } <- RecordLeaf { salt, record, digest }
//! ```
//!
//! The root tells an outsider nothing. A record is shown to one by its leaf and two paths: they name neither its folder nor
//! any other record, and what the leaf is salted with is not the record's key.

use std::collections::BTreeMap;

use bithealth_envelope::RecordKey;
use bithealth_merkle::{inclusion_proof, leaf_hash, root};
use bithealth_proto::encode;
use bithealth_proto::v1::{self, CatalogRow};
use bithealth_types::{Digest, FolderId, RecordId};
use bytes::Bytes;

use crate::PackSalt;

/// One head for each folder with a record in this pack, ordered by folder.
pub(crate) fn heads(rows: &[CatalogRow], head_before: impl Fn(&FolderId) -> Option<PackSalt>) -> Vec<v1::FolderHead> {
    let mut counts: BTreeMap<FolderId, u32> = BTreeMap::new();
    for row in rows {
        let folder = FolderId::try_from(&row.folder[..]).expect("rows are made from folder ids");
        *counts.entry(folder).or_default() += 1;
    }
    let mut salts = vec![0; 16 * counts.len()];
    getrandom::fill(&mut salts).expect("a system without randomness cannot seal");
    let head = |((folder, record_count), salt): ((FolderId, u32), &[u8])| v1::FolderHead {
        salt: Bytes::copy_from_slice(salt),
        folder: Bytes::copy_from_slice(folder.as_bytes()),
        previous: head_before(&folder).map_or_else(Bytes::new, |salt| Bytes::copy_from_slice(&salt)),
        record_count,
    };
    counts.into_iter().zip(salts.chunks_exact(16)).map(head).collect()
}

/// The root that the pack's commit carries.
pub(crate) fn heads_root(heads: &[v1::FolderHead], rows: &[CatalogRow]) -> Digest {
    root(&head_hashes(heads, rows))
}

/// How to show, without the rest of the catalog, that its pack has this record with its contents. None where the catalog
/// does not have it.
pub fn open_record(catalog: &v1::Catalog, record: &RecordId) -> Option<v1::RecordOpening> {
    let row = catalog.rows.iter().find(|row| row.record == record.0.as_slice())?;
    let head_index = catalog.heads.iter().position(|head| head.folder == row.folder)?;
    let of_folder: Vec<&CatalogRow> = catalog.rows.iter().filter(|it| it.folder == row.folder).collect();
    let index = of_folder.iter().position(|it| it.record == row.record)?;
    let hashes: Vec<Digest> = of_folder.into_iter().map(record_hash).collect();
    let head = head_leaf(&catalog.heads[head_index], &root(&hashes));
    let head_path = inclusion_proof(&head_hashes(&catalog.heads, &catalog.rows), head_index as u64)?;
    Some(v1::RecordOpening {
        leaf: Some(record_leaf(row)),
        index: index as u64,
        count: hashes.len() as u64,
        path: inclusion_proof(&hashes, index as u64)?.iter().map(bytes).collect(),
        head: Some(head),
        head_index: head_index as u64,
        head_count: catalog.heads.len() as u64,
        head_path: head_path.iter().map(bytes).collect(),
    })
}

fn head_hashes(heads: &[v1::FolderHead], rows: &[CatalogRow]) -> Vec<Digest> {
    let mut records: BTreeMap<&[u8], Vec<Digest>> = BTreeMap::new();
    for row in rows {
        records.entry(&row.folder).or_default().push(record_hash(row));
    }
    let none = Vec::new();
    let of = |head: &v1::FolderHead| root(records.get(&head.folder[..]).unwrap_or(&none));
    heads.iter().map(|head| leaf_hash(&encode(&head_leaf(head, &of(head))))).collect()
}

fn head_leaf(head: &v1::FolderHead, records: &Digest) -> v1::HeadLeaf {
    v1::HeadLeaf { head: bytes(&leaf_hash(&encode(head))), records: bytes(records) }
}

fn record_hash(row: &CatalogRow) -> Digest {
    leaf_hash(&encode(&record_leaf(row)))
}

fn record_leaf(row: &CatalogRow) -> v1::RecordLeaf {
    // A row without a key that is one opens nothing; its leaf is there all the same, so that the others have theirs.
    let salt = RecordKey::from_slice(&row.record_key).map(|key| key.commitment_salt()).unwrap_or_default();
    v1::RecordLeaf {
        salt: Bytes::copy_from_slice(&salt),
        record: row.record.clone(),
        plaintext_digest: row.plaintext_digest.clone(),
    }
}

fn bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}

#[cfg(test)]
mod tests {
    use bithealth_merkle::verify_inclusion;
    use proptest::prelude::*;

    use super::*;

    fn catalog(folders: &[u8]) -> v1::Catalog {
        let row = |(at, folder): (usize, &u8)| CatalogRow {
            record: Bytes::from(vec![at as u8; 16]),
            folder: Bytes::from(vec![*folder + 200; 16]),
            record_key: Bytes::from(vec![at as u8 + 100; 32]),
            plaintext_digest: Bytes::from(vec![at as u8 + 2; 32]),
            ..CatalogRow::default()
        };
        let rows: Vec<CatalogRow> = folders.iter().enumerate().map(row).collect();
        v1::Catalog { heads: heads(&rows, |_| None), rows }
    }

    fn digests(path: &[Bytes]) -> Vec<Digest> {
        path.iter().map(|it| Digest::try_from(&it[..]).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn every_record_opens_and_its_opening_names_no_other(folders in prop::collection::vec(0_u8..5, 1..40)) {
            let catalog = catalog(&folders);
            let root = heads_root(&catalog.heads, &catalog.rows);
            for row in &catalog.rows {
                let opening = open_record(&catalog, &RecordId::try_from(&row.record[..]).unwrap()).unwrap();
                let leaf = opening.leaf.clone().unwrap();
                prop_assert_eq!(&leaf.record, &row.record);
                prop_assert_eq!(&leaf.plaintext_digest, &row.plaintext_digest);
                let head = opening.head.clone().unwrap();
                let records = Digest::try_from(&head.records[..]).unwrap();
                let (path, hash) = (digests(&opening.path), leaf_hash(&encode(&leaf)));
                prop_assert!(verify_inclusion(&records, opening.count, opening.index, &hash, &path).is_ok());
                let head = leaf_hash(&encode(&head));
                let path = digests(&opening.head_path);
                prop_assert!(verify_inclusion(&root, opening.head_count, opening.head_index, &head, &path).is_ok());
                let shown = encode(&opening);
                let shows = |secret: &Bytes| shown.windows(secret.len()).any(|it| it == &secret[..]);
                prop_assert!(!shows(&row.record_key) && !shows(&row.folder));
            }
            prop_assert!(open_record(&catalog, &RecordId([0xFF; 16])).is_none());
        }
    }

    #[test]
    fn the_root_changes_with_every_record() {
        let catalog = catalog(&[1, 2, 1]);
        let root = heads_root(&catalog.heads, &catalog.rows);
        for at in 0..3 {
            let mut rows = catalog.rows.clone();
            rows[at].plaintext_digest = Bytes::from(vec![0xEE; 32]);
            assert_ne!(heads_root(&catalog.heads, &rows), root);
            rows.remove(at);
            assert_ne!(heads_root(&catalog.heads, &rows), root);
        }
    }
}
