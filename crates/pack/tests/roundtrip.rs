//! The life of records: cut, sealed, gathered, coded, lost in part, restored, opened.

use bithealth_envelope::{CatalogKey, OrganisationKeys, OrganisationSecret};
use bithealth_pack::{
    ClosedPack, Compress, Draft, Mark, OpenPack, PackSalt, RecordMeta, RecordOpener, cut, data_shard, decode,
    open_catalog, padme, plaintext_digest,
};
use bithealth_proto::v1::CatalogRow;
use bithealth_types::{CHUNK_LEN, Code, FolderId, NodeId, PACK_LEN_MAX, ShardIndex};
use proptest::prelude::*;

const SALT: PackSalt = [3; 32];

fn key() -> CatalogKey {
    CatalogKey::from_bytes([9; 32])
}

fn meta(name: usize, media_type: &str) -> RecordMeta {
    RecordMeta {
        name: format!("record {name}"),
        patient: "p1".into(),
        category: "laboratory".into(),
        media_type: media_type.into(),
        time_ms: name as u64,
        folder: FolderId([(name % 3) as u8; 16]),
    }
}

/// Puts a record; starts further packs where it does not fit.
fn put(packs: &mut Vec<OpenPack>, name: usize, media_type: &str, plaintext: &[u8]) {
    let draft = Draft::new();
    let kind = Compress::for_media_type(media_type);
    let mut places = Vec::new();
    for (index, last, bytes) in cut(plaintext) {
        let chunk = draft.seal_chunk(index, last, bytes, kind);
        let pack = packs.last_mut().unwrap();
        places.push(pack.add_chunk(&chunk).unwrap_or_else(|_| {
            packs.push(OpenPack::new([packs.len() as u8; 32]));
            packs.last_mut().unwrap().add_chunk(&chunk).unwrap()
        }));
    }
    let author = NodeId([5; 32]);
    let added = packs.last_mut().unwrap().add_record(&draft, author, places.clone(), meta(name, media_type), [6; 16]);
    if added.is_err() {
        packs.push(OpenPack::new([packs.len() as u8; 32]));
        packs.last_mut().unwrap().add_record(&draft, author, places, meta(name, media_type), [6; 16]).unwrap();
    }
}

/// Reads bytes of a record, as a reader does who has only packs.
fn read(packs: &[ClosedPack], row: &CatalogRow, home: usize, range: std::ops::Range<u64>) -> Vec<u8> {
    let pack = &packs[home];
    let run = &pack.bytes[row.offset as usize..][..row.len as usize];
    let manifest = &run[run.len() - row.manifest_len as usize..];
    let opener = RecordOpener::new(&pack.salt, row, manifest).unwrap();
    let mut read = Vec::new();
    for piece in opener.locate(range).unwrap() {
        let pack = packs.iter().find(|pack| pack.salt == piece.salt).unwrap();
        let sealed = &pack.bytes[piece.offset as usize..][..piece.sealed_len as usize];
        read.extend_from_slice(&opener.chunk(piece.index, sealed).unwrap()[piece.range]);
    }
    read
}

fn plaintext() -> impl Strategy<Value = Vec<u8>> {
    let len = prop_oneof![
        3 => 0_usize..3000,
        1 => prop::sample::select(vec![0, 1, CHUNK_LEN - 1, CHUNK_LEN, CHUNK_LEN + 1, 2 * CHUNK_LEN]),
        1 => 0..3 * CHUNK_LEN,
    ];
    (len, any::<u8>(), any::<bool>()).prop_map(|(len, seed, noisy)| {
        let mut state = u32::from(seed);
        let mut next = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        };
        if noisy { (0..len).map(|_| next()).collect() } else { vec![seed; len] }
    })
}

fn media_type() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec!["application/fhir+json", "application/dicom", "image/jpeg", ""])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_put_is_read_after_shards_were_lost(
        records in prop::collection::vec((plaintext(), media_type()), 1..6),
        range in (any::<prop::sample::Index>(), any::<prop::sample::Index>()),
        lost in prop::sample::subsequence((0_u16..5).collect::<Vec<_>>(), 3),
    ) {
        let mut packs = vec![OpenPack::new(SALT)];
        for (name, (plaintext, media_type)) in records.iter().enumerate() {
            put(&mut packs, name, media_type, plaintext);
        }
        let closed = packs.pop().unwrap().close(&key(), |_| None);
        prop_assert_eq!(padme(closed.bytes.len() as u64), closed.bytes.len() as u64);
        prop_assert!(closed.bytes.len() <= PACK_LEN_MAX);

        let code = Code::new(2, 5).unwrap();
        let coded = closed.encode(code).unwrap();
        let shards: Vec<_> = (0..5)
            .filter(|shard| !lost.contains(shard))
            .map(|shard| match shard.checked_sub(2) {
                None => (ShardIndex(shard), data_shard(code, &closed.bytes, ShardIndex(shard)).into_owned()),
                Some(parity) => (ShardIndex(shard), coded.parity[usize::from(parity)].to_vec()),
            })
            .collect();
        let shards: Vec<_> = shards.iter().map(|(index, shard)| (*index, &shard[..])).collect();
        let bytes = decode(&coded.descriptor, &shards).unwrap();
        prop_assert!(bytes == closed.bytes);

        let sealed = &bytes[bytes.len() - coded.descriptor.catalog_len as usize..];
        let catalog = open_catalog(&key(), &SALT, sealed).unwrap();
        prop_assert_eq!(&catalog.rows, &closed.rows);
        prop_assert_eq!(catalog.rows.len(), records.len());
        let restored = [ClosedPack { bytes, ..closed }];
        for (row, (plaintext, _)) in catalog.rows.iter().zip(&records) {
            let len = plaintext.len();
            prop_assert!(read(&restored, row, 0, 0..len as u64) == *plaintext);
            let (a, b) = (range.0.index(len + 1), range.1.index(len + 1));
            let (start, end) = (a.min(b), a.max(b));
            prop_assert!(read(&restored, row, 0, start as u64..end as u64) == plaintext[start..end]);
        }
    }

    #[test]
    fn a_resumed_pack_holds_the_same_and_closes_to_the_same_rows(
        records in prop::collection::vec((plaintext(), media_type(), any::<bool>()), 0..6),
    ) {
        let mut packs = vec![OpenPack::new(SALT)];
        let mut snapshots = Vec::new();
        let mut mark = Mark::default();
        for (name, (plaintext, media_type, durable)) in records.iter().enumerate() {
            put(&mut packs, name, media_type, plaintext);
            if *durable {
                snapshots.push(packs[0].snapshot_since(mark));
                mark = packs[0].mark();
            }
        }
        snapshots.push(packs[0].snapshot_since(mark));
        let resumed = OpenPack::resume(SALT, snapshots).unwrap();
        prop_assert!(resumed.bytes() == packs[0].bytes());
        prop_assert_eq!(resumed.rows(), packs[0].rows());
        prop_assert_eq!(resumed.is_empty(), records.is_empty());
        let (one, other) = (packs.pop().unwrap().close(&key(), |_| None), resumed.close(&key(), |_| None));
        prop_assert_eq!(one.rows, other.rows);
        let kept = one.bytes.len() - one.catalog_len as usize;
        prop_assert!(one.bytes[..kept] == other.bytes[..other.bytes.len() - other.catalog_len as usize]);
    }
}

#[test]
fn a_record_longer_than_a_pack_is_read_from_several() {
    let plaintext: Vec<u8> = (0..PACK_LEN_MAX + 3 * CHUNK_LEN + 7).map(|n| (n / 251) as u8 ^ n as u8).collect();
    let mut packs = vec![OpenPack::new([0; 32])];
    put(&mut packs, 0, "image/jpeg", b"before");
    put(&mut packs, 1, "image/jpeg", &plaintext);
    put(&mut packs, 2, "image/jpeg", b"behind");
    assert_eq!(packs.len(), 2);
    let packs: Vec<ClosedPack> = packs.into_iter().map(|pack| pack.close(&key(), |_| None)).collect();
    assert_eq!(packs[0].bytes.len(), PACK_LEN_MAX);
    assert_eq!(packs[0].rows.len(), 1);
    let row = &packs[1].rows[0];
    assert_eq!(row.offset, 0);
    assert!(read(&packs, row, 1, 0..plaintext.len() as u64) == plaintext);
    let middle = PACK_LEN_MAX - CHUNK_LEN..PACK_LEN_MAX + 2;
    assert!(read(&packs, row, 1, middle.start as u64..middle.end as u64) == plaintext[middle]);
    assert_eq!(read(&packs, &packs[1].rows[1], 1, 0..6), b"behind");
}

#[test]
fn what_was_put_before_is_found_by_the_tag_in_its_row() {
    let keys = OrganisationKeys::derive(&OrganisationSecret::from_bytes([1; 32]));
    let folder = keys.folder("p1", "laboratory");
    let tag = |plaintext: &[u8]| {
        let draft = Draft::new();
        let seal = |(index, last, bytes)| draft.seal_chunk(index, last, bytes, Compress::Zstd).digest;
        keys.content_tag(&folder, &plaintext_digest(&cut(plaintext).map(seal).collect::<Vec<_>>()))
    };
    let draft = Draft::new();
    let mut pack = OpenPack::new(SALT);
    let place =
        pack.add_chunk(&draft.seal_chunk(bithealth_types::ChunkIndex(0), true, b"same", Compress::Zstd)).unwrap();
    let row = pack.add_record(&draft, NodeId([5; 32]), vec![place], meta(0, ""), tag(b"same")).unwrap();
    assert_eq!(row.content_tag[..], tag(b"same"));
    assert_ne!(row.content_tag[..], tag(b"other"));
}
