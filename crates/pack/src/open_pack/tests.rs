use super::*;
use crate::chunk::{Draft, cut};
use crate::compress::Compress;
use crate::manifest::{CHUNKS_PER_PART, MANIFEST_PARTS_MAX, PlacedPart};
use bithealth_types::{CHUNK_LEN, NodeId};

const SALT: PackSalt = [3; 32];
const AUTHOR: NodeId = NodeId([5; 32]);
const TAG: [u8; 16] = [6; 16];

fn meta() -> RecordMeta {
    RecordMeta {
        name: "scan.dcm".into(),
        patient: "p1".into(),
        category: "imaging".into(),
        media_type: "application/dicom".into(),
        time_ms: 1,
        folder: FolderId([4; 16]),
    }
}

fn seal(draft: &Draft, plaintext: &[u8]) -> Vec<SealedChunk> {
    cut(plaintext).map(|(index, last, bytes)| draft.seal_chunk(index, last, bytes, Compress::No)).collect()
}

fn put(pack: &mut OpenPack, plaintext: &[u8]) -> CatalogRow {
    let draft = Draft::new();
    let places = seal(&draft, plaintext).iter().map(|chunk| pack.add_chunk(chunk).unwrap()).collect();
    pack.add_record(&draft, AUTHOR, places, meta(), TAG).unwrap()
}

fn placed(plaintext_len: u32) -> PlacedChunk {
    let (codec, digest) = (bithealth_proto::v1::Codec::Stored, Digest([1; 32]));
    PlacedChunk { salt: [9; 32], offset: 0, sealed_len: plaintext_len + 16, codec, digest, plaintext_len }
}

#[test]
fn a_record_lies_in_one_run_that_ends_with_its_manifest() {
    let mut pack = OpenPack::new(SALT);
    let first = put(&mut pack, &[1; 1000]);
    let second = put(&mut pack, &vec![2; CHUNK_LEN + 1]);
    assert_eq!((first.offset, first.len), (0, 1016 + first.manifest_len));
    assert_eq!(second.offset, first.len);
    assert_eq!(second.len, (CHUNK_LEN + 1 + 2 * 16) as u64 + second.manifest_len);
    assert_eq!(pack.len() as u64, second.offset + second.len);
    assert_eq!(pack.rows(), [first, second]);
}

#[test]
fn a_run_starts_where_the_records_last_gap_ends() {
    let mut pack = OpenPack::new(SALT);
    let draft = Draft::new();
    let chunks = seal(&draft, &vec![2; CHUNK_LEN + 1]);
    let first = pack.add_chunk(&chunks[0]).unwrap();
    put(&mut pack, b"between");
    let second = pack.add_chunk(&chunks[1]).unwrap();
    let row = pack.add_record(&draft, AUTHOR, vec![first, second.clone()], meta(), TAG).unwrap();
    assert_eq!(row.offset, second.offset);
}

#[test]
fn what_fits_is_taken_and_what_does_not_is_refused() {
    let mut pack = OpenPack::new(SALT);
    let draft = Draft::new();
    let chunk = draft.seal_chunk(bithealth_types::ChunkIndex(0), false, &vec![1; CHUNK_LEN], Compress::No);
    while pack.fits(chunk.bytes.len()) {
        pack.add_chunk(&chunk).unwrap();
    }
    let (before, room) = (pack.len(), pack.room());
    assert_eq!(pack.add_chunk(&chunk), Err(PackFull { need: chunk.bytes.len(), room }));
    assert_eq!(pack.len(), before);
    assert!(pack.fits(room) && !pack.fits(room + 1));
    assert!(before > PACK_LEN_MAX - (CHUNK_LEN + (64 << 10)), "{before} bytes leave too much room unused");
}

#[test]
fn a_record_that_does_not_fit_is_added_to_a_fresh_pack() {
    let mut full = OpenPack::new(SALT);
    full.bytes.resize(full.room() - 100, 0);
    let draft = Draft::new();
    let chunks = seal(&draft, b"short");
    assert!(!full.fits_record(&chunks, "text/plain"));
    let place = full.add_chunk(&chunks[0]).unwrap();
    let refused = full.add_record(&draft, AUTHOR, vec![place.clone()], meta(), TAG);
    assert!(matches!(refused, Err(RecordError::Full(PackFull { .. }))), "{refused:?}");
    assert!(full.rows().is_empty());

    let mut fresh = OpenPack::new([8; 32]);
    assert!(fresh.fits_record(&chunks, "text/plain"));
    let row = fresh.add_record(&draft, AUTHOR, vec![place], meta(), TAG).unwrap();
    assert_eq!((row.offset, row.len), (0, row.manifest_len));
}

#[test]
fn a_record_that_is_said_to_fit_fits() {
    let draft = Draft::new();
    let chunks = seal(&draft, &vec![1; 3 * CHUNK_LEN]);
    let mut pack = OpenPack::new(SALT);
    let mut free = pack.room();
    while !pack.fits_record(&chunks, &meta().media_type) || pack.bytes.is_empty() {
        pack.bytes.resize(pack.bytes.len() + free - 3 * (CHUNK_LEN + 16) - 300, 0);
        free = 3 * (CHUNK_LEN + 16) + 299;
        assert!(pack.bytes.len() < PACK_LEN_MAX);
    }
    let places = chunks.iter().map(|chunk| pack.add_chunk(chunk).unwrap()).collect();
    pack.add_record(&draft, AUTHOR, places, meta(), TAG).unwrap();
}

#[test]
fn texts_up_to_their_limit_are_taken_and_longer_ones_refused() {
    let too_long = |what, max| RecordError::TextTooLong { what, got: max + 1, max };
    type Field = fn(&mut RecordMeta) -> &mut String;
    let fields: [(&str, usize, Field); 4] = [
        ("a record's name", NAME_LEN_MAX, |meta| &mut meta.name),
        ("a patient's identifier", PATIENT_LEN_MAX, |meta| &mut meta.patient),
        ("a category", CATEGORY_LEN_MAX, |meta| &mut meta.category),
        ("a media type", MEDIA_TYPE_LEN_MAX, |meta| &mut meta.media_type),
    ];
    for (what, max, field) in fields {
        let mut pack = OpenPack::new(SALT);
        let mut meta = meta();
        *field(&mut meta) = "a".repeat(max);
        assert!(pack.add_record(&Draft::new(), AUTHOR, vec![placed(1)], meta.clone(), TAG).is_ok());
        field(&mut meta).push('a');
        let refused = pack.add_record(&Draft::new(), AUTHOR, vec![placed(1)], meta, TAG);
        assert_eq!(refused, Err(too_long(what, max)));
        assert_eq!(pack.rows().len(), 1);
    }
}

#[test]
fn a_row_at_every_limit_takes_no_more_room_than_is_kept_for_it() {
    let mut pack = OpenPack::new(SALT);
    let long = |len| "a".repeat(len);
    let meta = RecordMeta {
        name: long(NAME_LEN_MAX),
        patient: long(PATIENT_LEN_MAX),
        category: long(CATEGORY_LEN_MAX),
        media_type: long(MEDIA_TYPE_LEN_MAX),
        time_ms: u64::MAX,
        folder: FolderId([4; 16]),
    };
    pack.add_record(&Draft::new(), AUTHOR, vec![placed(1)], meta, TAG).unwrap();
    assert!(pack.rows.room() <= ROW_ROOM);
}

#[test]
fn chunks_of_false_lengths_are_refused() {
    let full = CHUNK_LEN as u32;
    let add = |chunks| OpenPack::new(SALT).add_record(&Draft::new(), AUTHOR, chunks, meta(), TAG);
    assert_eq!(add(vec![]), Err(RecordError::NoChunks));
    let wrong = |index, got| Err(RecordError::ChunkLength { index, got, want: u64::from(full) });
    assert_eq!(add(vec![placed(full - 1), placed(1)]), wrong(0, u64::from(full - 1)));
    assert_eq!(add(vec![placed(full), placed(0)]), wrong(1, 0));
    assert_eq!(add(vec![placed(full), placed(full + 1)]), wrong(1, u64::from(full + 1)));
    assert!(add(vec![placed(0)]).is_ok(), "an empty record is one empty chunk");
    assert!(add(vec![placed(full), placed(full)]).is_ok());
}

#[test]
fn a_large_record_has_its_manifest_in_parts() {
    let mut pack = OpenPack::new(SALT);
    let chunks = vec![placed(CHUNK_LEN as u32); 2 * CHUNKS_PER_PART + 1];
    let row = pack.add_record(&Draft::new(), AUTHOR, chunks, meta(), TAG).unwrap();
    assert_eq!(row.offset, 0, "the parts belong to the run");
    assert!(row.len > 2 * 34 * CHUNKS_PER_PART as u64 && row.manifest_len < 500, "{row:?}");
}

#[test]
fn parts_may_lie_in_other_packs_but_must_be_full() {
    let draft = Draft::new();
    let full = vec![placed(CHUNK_LEN as u32); CHUNKS_PER_PART];
    let mut first = OpenPack::new([1; 32]);
    let one = first.add_part(&draft, 0, &full).unwrap();
    let mut second = OpenPack::new([2; 32]);
    let two = second.add_part(&draft, 1, &[placed(7)]).unwrap();
    let row = second.add_record_of_parts(&draft, AUTHOR, &[one.clone(), two.clone()], meta(), TAG).unwrap();
    assert_eq!(row.plaintext_len, (CHUNKS_PER_PART * CHUNK_LEN) as u64 + 7);

    let want = (CHUNKS_PER_PART * CHUNK_LEN) as u64;
    let swapped = second.add_record_of_parts(&draft, AUTHOR, &[two, one], meta(), TAG);
    assert_eq!(swapped, Err(RecordError::ChunkLength { index: 0, got: 7, want }));
    assert_eq!(second.add_record_of_parts(&draft, AUTHOR, &[], meta(), TAG), Err(RecordError::NoChunks));
}

#[test]
fn more_chunks_than_a_manifest_can_name_are_refused() {
    let chunks = vec![placed(CHUNK_LEN as u32); CHUNKS_PER_PART + 1];
    let refused = OpenPack::new(SALT).add_part(&Draft::new(), 0, &chunks);
    assert_eq!(refused, Err(RecordError::TooManyChunks { got: CHUNKS_PER_PART + 1, max: CHUNKS_PER_PART }));

    let part = PlacedPart {
        salt: SALT,
        offset: 0,
        sealed_len: 1,
        plaintext_len: (CHUNKS_PER_PART * CHUNK_LEN) as u64,
        digests: vec![Digest([0; 32]); 1],
    };
    let max = CHUNKS_PER_PART * MANIFEST_PARTS_MAX;
    let mut parts = vec![part; MANIFEST_PARTS_MAX];
    let mut pack = OpenPack::new(SALT);
    assert!(pack.add_record_of_parts(&Draft::new(), AUTHOR, &parts, meta(), TAG).is_ok());
    parts.push(parts[0].clone());
    let refused = pack.add_record_of_parts(&Draft::new(), AUTHOR, &parts, meta(), TAG);
    assert_eq!(refused, Err(RecordError::TooManyChunks { got: MANIFEST_PARTS_MAX + 1, max }));

    // Cloning four million chunks would take half a gigabyte: the check comes first.
    let mut full = OpenPack::new(SALT);
    full.bytes.resize(full.room() - 20_000, 0);
    let large = vec![placed(CHUNK_LEN as u32); CHUNKS_PER_PART + 1];
    let refused = full.add_record(&Draft::new(), AUTHOR, large, meta(), TAG);
    assert!(matches!(refused, Err(RecordError::Full(_))), "{refused:?}");
    assert!(full.rows().is_empty());
}

#[test]
fn snapshots_give_the_pack_again() {
    let mut pack = OpenPack::new(SALT);
    let mut mark = Mark::default();
    let mut snapshots = Vec::new();
    for len in [0, 1000, 300_000] {
        put(&mut pack, &vec![7; len]);
        snapshots.push(pack.snapshot_since(mark));
        mark = pack.mark();
    }
    let resumed = OpenPack::resume(SALT, snapshots.clone()).unwrap();
    assert_eq!((resumed.salt(), resumed.bytes(), resumed.rows()), (pack.salt(), pack.bytes(), pack.rows()));
    assert_eq!((resumed.mark(), resumed.room()), (pack.mark(), pack.room()));

    let missing = snapshots.remove(1);
    let got = missing.offset + missing.bytes.len() as u64;
    let refused = OpenPack::resume(SALT, snapshots).unwrap_err();
    assert_eq!(refused, ResumeError::Gap { got, want: missing.offset });
}

#[test]
fn snapshots_of_more_than_a_pack_are_refused() {
    let snapshot = Snapshot { offset: 0, bytes: vec![0; PACK_LEN_MAX], rows: Vec::new() };
    let refused = OpenPack::resume(SALT, [snapshot]).unwrap_err();
    assert!(matches!(refused, ResumeError::TooLong { got, max: PACK_LEN_MAX } if got > PACK_LEN_MAX), "{refused:?}");
}

#[test]
fn nothing_of_a_record_is_printed() {
    let mut pack = OpenPack::new(SALT);
    put(&mut pack, b"canary");
    assert_eq!(format!("{:?}", meta()), "RecordMeta(FolderId(04040404))");
    assert_eq!(format!("{pack:?}"), format!("OpenPack({} bytes, 1 rows)", pack.len()));
    let snapshot = pack.snapshot_since(Mark::default());
    assert_eq!(format!("{snapshot:?}"), format!("Snapshot({} bytes at 0, 1 rows)", pack.len()));
    let closed = pack.close(&CatalogKey::random(), |_| None);
    assert_eq!(format!("{closed:?}"), format!("ClosedPack({} bytes, 1 rows)", closed.bytes.len()));
}
