use super::*;
use crate::chunk::{Draft, SealedChunk, cut};
use crate::compress::Compress;
use crate::open_pack::{OpenPack, RecordMeta};
use bithealth_types::FolderId;
use bytes::{Bytes, BytesMut};

const SALT: PackSalt = [3; 32];

/// A record in a pack of its own.
struct Stored {
    draft: Draft,
    chunks: Vec<SealedChunk>,
    row: CatalogRow,
    manifest: Vec<u8>,
}

fn meta() -> RecordMeta {
    let text = String::new;
    let (name, patient, category, media_type) = (text(), text(), text(), text());
    RecordMeta { name, patient, category, media_type, time_ms: 0, folder: FolderId([4; 16]) }
}

fn store(plaintext: &[u8]) -> Stored {
    let draft = Draft::new();
    let seal = |(index, last, bytes)| draft.seal_chunk(index, last, bytes, Compress::Zstd);
    let chunks: Vec<_> = cut(plaintext).map(seal).collect();
    let mut pack = OpenPack::new(SALT);
    let places = chunks.iter().map(|chunk| pack.add_chunk(chunk).unwrap()).collect();
    let row = pack.add_record(&draft, NodeId([5; 32]), places, meta(), [6; 16]).unwrap();
    let manifest = pack.bytes()[(row.offset + row.len - row.manifest_len) as usize..].to_vec();
    Stored { draft, chunks, row, manifest }
}

impl Stored {
    fn open(&self) -> Result<RecordOpener, OpenError> {
        RecordOpener::new(&SALT, &self.row, &self.manifest)
    }

    /// Replaces the manifest by another one that its author sealed.
    fn with_manifest(mut self, change: impl FnOnce(&mut Manifest)) -> Result<RecordOpener, OpenError> {
        let mut plain = self.manifest.split_off(COMMITMENT_LEN);
        self.draft.sealer().open(Part::Manifest, &mut plain).unwrap();
        let mut manifest: Manifest = decode(&plain).unwrap();
        change(&mut manifest);
        let mut sealed = bithealth_proto::encode(&manifest);
        self.draft.sealer().seal(Part::Manifest, &mut sealed);
        self.manifest.extend(sealed);
        self.row.manifest_len = self.manifest.len() as u64;
        self.row.plaintext_len = manifest.plaintext_len;
        self.open()
    }
}

fn refused(result: Result<RecordOpener, OpenError>) -> OpenError {
    result.unwrap_err()
}

#[test]
fn a_record_opens_chunk_by_chunk() {
    let plaintext: Vec<u8> = (0..CHUNK_LEN + 1000).map(|n| (n / 100) as u8).collect();
    let stored = store(&plaintext);
    let opener = stored.open().unwrap();
    let open = |(chunk, index): (&SealedChunk, u32)| opener.chunk(ChunkIndex(index), &chunk.bytes).unwrap();
    let opened: Vec<u8> = stored.chunks.iter().zip(0..).flat_map(open).collect();
    assert_eq!(opened, plaintext);
    assert_eq!(opener.manifest().author[..], [5; 32]);
    assert_eq!(format!("{opener:?}"), format!("RecordOpener({:?}, {} bytes)", stored.draft.id(), plaintext.len()));
}

#[test]
fn a_row_of_false_lengths_is_refused() {
    let mut stored = store(b"abc");
    stored.row.record = Bytes::from_static(&[1; 15]);
    assert_eq!(refused(stored.open()), OpenError::Row { field: "record", got: 15, want: 16 });
    let mut stored = store(b"abc");
    stored.row.record_key = Bytes::from_static(&[1; 33]);
    assert_eq!(refused(stored.open()), OpenError::Row { field: "record_key", got: 33, want: 32 });
    let mut stored = store(b"abc");
    stored.row.manifest_len -= 1;
    let (got, want) = (stored.manifest.len() as u64, stored.row.manifest_len);
    assert_eq!(refused(stored.open()), OpenError::Length { what: "a sealed manifest", got, want });
    stored.manifest.truncate(20);
    stored.row.manifest_len = 20;
    assert_eq!(refused(stored.open()), OpenError::Length { what: "a sealed manifest", got: 20, want: 48 });
}

#[test]
fn another_key_is_told_from_changed_bytes() {
    let mut stored = store(b"abc");
    let record = stored.draft.id();
    stored.manifest[COMMITMENT_LEN] ^= 1;
    assert_eq!(refused(stored.open()), OpenError::Forged { record, part: Part::Manifest });
    stored.row.record_key = Bytes::from_static(&[1; 32]);
    assert_eq!(refused(stored.open()), OpenError::OtherKey { record });
    // The id is bound as well: a row cannot give one record's bytes another record's name.
    let mut stored = store(b"abc");
    stored.row.record = Bytes::from_static(&[1; 16]);
    assert_eq!(refused(stored.open()), OpenError::OtherKey { record: RecordId([1; 16]) });
}

#[test]
fn a_manifest_that_contradicts_its_row_or_itself_is_refused() {
    let false_manifest = |what, got, want| OpenError::FalseManifest { what, got, want };
    let mut stored = store(b"abc");
    stored.row.plaintext_len = 4;
    assert_eq!(refused(stored.open()), false_manifest("plaintext_len", 3, 4));

    let change = |change: fn(&mut Manifest)| refused(store(b"abc").with_manifest(change));
    let short = |m: &mut Manifest| m.author = Bytes::from_static(&[1; 31]);
    assert_eq!(change(short), false_manifest("the length of the author's id", 31, 32));
    let short = |m: &mut Manifest| m.plaintext_digest = Bytes::from_static(&[1; 31]);
    assert_eq!(change(short), false_manifest("the length of the digest", 31, 32));
    let longer = |m: &mut Manifest| m.plaintext_len = CHUNK_LEN as u64 + 1;
    assert_eq!(change(longer), false_manifest("the number of chunks", 1, 2));
    let huge = |m: &mut Manifest| m.plaintext_len = u64::MAX;
    assert_eq!(change(huge), false_manifest("the number of parts", 0, 1 << 36));
    let with_part = |m: &mut Manifest| {
        m.parts = vec![v1::ManifestPart { chunk_count: 1, plaintext_len: 3, ..v1::ManifestPart::default() }];
    };
    assert_eq!(change(with_part), false_manifest("the number of chunks beside parts", 1, 0));
    let many = |m: &mut Manifest| {
        m.plaintext_len = (MANIFEST_PARTS_MAX as u64 + 1) * (CHUNKS_PER_PART * CHUNK_LEN) as u64;
        m.parts = vec![v1::ManifestPart::default(); MANIFEST_PARTS_MAX + 1];
    };
    let (got, want) = (MANIFEST_PARTS_MAX as u64 + 1, MANIFEST_PARTS_MAX as u64);
    assert_eq!(change(many), false_manifest("the number of parts", got, want));
}

#[test]
fn entries_that_cannot_be_are_refused() {
    let change = |change: fn(&mut Manifest)| refused(store(b"abc").with_manifest(change));
    let flaw = |what| OpenError::FalseEntry { index: 0, what };
    assert_eq!(change(|m| m.chunks[0].pack = Bytes::from_static(&[1; 31])), flaw("place"));
    assert_eq!(change(|m| m.chunks[0].offset = u64::MAX), flaw("place"));
    assert_eq!(change(|m| m.chunks[0].codec = 9), flaw("codec"));
    assert_eq!(change(|m| m.chunks[0].digest = m.plaintext_digest.clone()), flaw("digest"));
    let two = || store(&vec![1; CHUNK_LEN + 1]);
    let short = two().with_manifest(|m| m.chunks[0].digest = Bytes::from_static(&[1; 31]));
    assert_eq!(refused(short), flaw("digest"));
    let other = two().with_manifest(|m| m.chunks[0].digest = Bytes::from_static(&[1; 32]));
    assert!(matches!(refused(other), OpenError::FalseDigest { .. }));
    let place = |m: &mut Manifest| {
        m.chunks.clear();
        let (pack, chunk_count, plaintext_len) = (Bytes::from_static(&[1]), 1, 3);
        m.parts = vec![v1::ManifestPart { pack, chunk_count, plaintext_len, ..v1::ManifestPart::default() }];
    };
    assert_eq!(change(place), flaw("place"));
}

#[test]
fn a_manifest_that_is_no_message_is_refused() {
    let mut stored = store(b"abc");
    let mut sealed = b"\xff\xff".to_vec();
    stored.draft.sealer().seal(Part::Manifest, &mut sealed);
    stored.manifest.truncate(COMMITMENT_LEN);
    stored.manifest.extend(sealed);
    stored.row.manifest_len = stored.manifest.len() as u64;
    assert!(matches!(refused(stored.open()), OpenError::Decode(_)));
}

#[test]
fn chunks_that_were_changed_swapped_or_cut_are_refused() {
    let stored = store(&[vec![1; CHUNK_LEN], vec![2; CHUNK_LEN], vec![3; 5]].concat());
    let opener = stored.open().unwrap();
    let record = stored.draft.id();
    let forged = |index, last| {
        let index = ChunkIndex(index);
        Err(OpenError::Forged { record, part: Part::Chunk { index, last } })
    };
    let mut changed = stored.chunks[0].bytes.clone();
    changed[0] ^= 1;
    assert_eq!(opener.chunk(ChunkIndex(0), &changed), forged(0, false));
    assert_eq!(stored.chunks[0].bytes.len(), stored.chunks[1].bytes.len());
    assert_eq!(opener.chunk(ChunkIndex(0), &stored.chunks[1].bytes), forged(0, false));
    let last = &stored.chunks[2].bytes;
    let length = OpenError::Length { what: "a sealed chunk", got: last.len() as u64 - 1, want: last.len() as u64 };
    assert_eq!(opener.chunk(ChunkIndex(2), &last[1..]), Err(length));
    let none = OpenError::NoSuch { what: "chunk", index: 3, count: 3 };
    assert_eq!(opener.chunk(ChunkIndex(3), last), Err(none));
}

#[test]
fn a_plaintext_other_than_the_manifest_says_is_refused() {
    let other = Bytes::from_static(&[1; 32]);
    let stored = store(b"abc");
    let chunk = stored.chunks[0].bytes.clone();
    let opener = stored.with_manifest(|m| m.plaintext_digest = other).unwrap();
    let error = opener.chunk(ChunkIndex(0), &chunk).unwrap_err();
    assert!(matches!(error, OpenError::ChunkDigest { index: ChunkIndex(0), .. }), "{error}");

    let stored = store(b"abc");
    let opener = stored.with_manifest(|m| m.chunks[0].codec = Codec::Zstd.into()).unwrap();
    let refused = opener.chunk(ChunkIndex(0), &chunk);
    assert!(matches!(refused, Err(OpenError::Forged { .. })), "another draft sealed it");
    let stored = store(b"abc");
    let chunk = stored.chunks[0].bytes.clone();
    let opener = stored.with_manifest(|m| m.chunks[0].codec = Codec::Zstd.into()).unwrap();
    let refused = opener.chunk(ChunkIndex(0), &chunk);
    assert_eq!(refused, Err(OpenError::Decompress { index: ChunkIndex(0), want: 3 }));
}

#[test]
fn in_place_only_what_was_compressed_is_hashed_once_more() {
    let other = || Bytes::from_static(&[1; 32]);
    let in_place = |plaintext: &[u8]| {
        let stored = store(plaintext);
        let sealed = stored.chunks[0].bytes.clone();
        let opener = stored.with_manifest(|m| m.plaintext_digest = other()).unwrap();
        opener.chunk_in_place(ChunkIndex(0), sealed.as_slice().into())
    };
    assert_eq!(in_place(b"abc"), Ok(Bytes::from_static(b"abc")));
    assert!(matches!(in_place(&[7; 10_000]), Err(OpenError::ChunkDigest { .. })));

    let stored = store(b"abc");
    let mut changed = BytesMut::from(stored.chunks[0].bytes.as_slice());
    changed[1] ^= 1;
    let opened = stored.open().unwrap().chunk_in_place(ChunkIndex(0), changed);
    assert!(matches!(opened, Err(OpenError::Forged { .. })), "{opened:?}");
}

#[test]
fn ranges_are_located() {
    let stored = store(&vec![1; 2 * CHUNK_LEN + 10]);
    let opener = stored.open().unwrap();
    let chunk = CHUNK_LEN as u64;
    let shape = |range: Range<u64>| -> Vec<(u32, Range<usize>)> {
        opener.locate(range).unwrap().into_iter().map(|piece| (piece.index.0, piece.range)).collect()
    };
    assert_eq!(shape(0..0), []);
    assert_eq!(shape(5..6), [(0, 5..6)]);
    assert_eq!(shape(chunk - 1..chunk + 1), [(0, CHUNK_LEN - 1..CHUNK_LEN), (1, 0..1)]);
    assert_eq!(shape(2 * chunk..2 * chunk + 10), [(2, 0..10)]);
    let len = 2 * chunk + 10;
    assert_eq!(opener.locate(0..len + 1), Err(OpenError::OutOfRange { end: len + 1, len }));
}

/// A record of two full parts and a chunk, of which the last chunk alone exists.
fn large() -> (OpenPack, CatalogRow, SealedChunk) {
    let draft = Draft::new();
    let last = draft.seal_chunk(ChunkIndex(2 * CHUNKS_PER_PART as u32), true, b"end", Compress::No);
    let mut pack = OpenPack::new(SALT);
    let end = pack.add_chunk(&last).unwrap();
    let mut chunks = Vec::new();
    for index in 0..2 * CHUNKS_PER_PART as u64 {
        let mut chunk = end.clone();
        (chunk.salt, chunk.offset, chunk.plaintext_len) = ([8; 32], index * 7, CHUNK_LEN as u32);
        chunks.push(chunk);
    }
    chunks.push(end);
    let row = pack.add_record(&draft, NodeId([5; 32]), chunks, meta(), [6; 16]).unwrap();
    (pack, row, last)
}

#[test]
fn a_range_of_a_large_record_reads_one_part_only() {
    let (pack, row, last) = large();
    let manifest = &pack.bytes()[pack.len() - row.manifest_len as usize..];
    let mut opener = RecordOpener::new(&SALT, &row, manifest).unwrap();
    let chunks = 2 * CHUNKS_PER_PART as u64;
    let range = chunks * CHUNK_LEN as u64..row.plaintext_len;
    assert_eq!(opener.locate(range.clone()), Err(OpenError::PartMissing { index: 2 }));
    let missing = opener.missing_parts(range.clone());
    assert_eq!(missing.iter().map(|part| part.index).collect::<Vec<_>>(), [2]);
    assert_eq!(opener.missing_parts(0..row.plaintext_len).len(), 3);
    assert_eq!(opener.missing_parts(5..5), []);

    let sealed = |part: &PartPlace| &pack.bytes()[part.offset as usize..][..part.sealed_len as usize];
    opener.part(2, sealed(&missing[0])).unwrap();
    assert_eq!(opener.missing_parts(range.clone()), []);
    let pieces = opener.locate(range).unwrap();
    assert_eq!((pieces.len(), pieces[0].offset, pieces[0].salt), (1, 0, SALT));
    assert_eq!(opener.chunk(pieces[0].index, &last.bytes).unwrap(), &b"end"[..]);

    let rest = opener.missing_parts(0..row.plaintext_len);
    for part in &rest {
        opener.part(part.index, sealed(part)).unwrap();
    }
    let pieces = opener.locate(0..row.plaintext_len).unwrap();
    assert_eq!(pieces.len() as u64, chunks + 1);
    assert_eq!((pieces[1].offset, pieces[1].salt), (7, [8; 32]));
}

#[test]
fn parts_that_were_changed_or_swapped_are_refused() {
    let (pack, row, _) = large();
    let manifest = &pack.bytes()[pack.len() - row.manifest_len as usize..];
    let mut opener = RecordOpener::new(&SALT, &row, manifest).unwrap();
    let places = opener.missing_parts(0..row.plaintext_len);
    let sealed = |part: usize| &pack.bytes()[places[part].offset as usize..][..places[part].sealed_len as usize];
    let record = RecordId::try_from(&row.record[..]).unwrap();
    let mut changed = sealed(0).to_vec();
    changed[0] ^= 1;
    let forged = Err(OpenError::Forged { record, part: Part::ManifestPart { index: 0 } });
    assert_eq!(opener.part(0, &changed), forged);
    let (got, want) = (places[2].sealed_len.into(), places[0].sealed_len.into());
    let length = Err(OpenError::Length { what: "a part of the manifest", got, want });
    assert_eq!(opener.part(0, sealed(2)), length);
    assert_eq!(opener.part(3, sealed(2)), Err(OpenError::NoSuch { what: "part", index: 3, count: 3 }));
}

#[test]
fn a_record_that_is_one_run_opens_in_the_pack_it_was_moved_to() {
    let plaintext: Vec<u8> = (0..600_000u32).map(|at| (at % 251) as u8).collect();
    let draft = Draft::new();
    let mut first = OpenPack::new([1; 32]);
    let chunks = cut(&plaintext).map(|(index, last, chunk)| draft.seal_chunk(index, last, chunk, Compress::Zstd));
    let placed = chunks.map(|chunk| first.add_chunk(&chunk).unwrap()).collect();
    let meta = RecordMeta {
        name: "a".into(),
        patient: "p".into(),
        category: "summary".into(),
        media_type: "text/plain".into(),
        time_ms: 1,
        folder: FolderId([3; 16]),
    };
    let row = first.add_record(&draft, NodeId([4; 32]), placed, meta, [5; 16]).unwrap();
    let run = &first.bytes()[row.offset as usize..(row.offset + row.len) as usize];
    let manifest = |row: &v1::CatalogRow, pack: &OpenPack| {
        let end = (row.offset + row.len) as usize;
        pack.bytes()[end - row.manifest_len as usize..end].to_vec()
    };
    assert!(RecordOpener::new(&[1; 32], &row, &manifest(&row, &first)).unwrap().is_one_run(&[1; 32], &row));

    let mut second = OpenPack::new([2; 32]);
    second.add_moved(&row, &[0; 77]).unwrap(); // something in front, so that the place changes
    let moved = second.add_moved(&row, run).unwrap();
    let opener = RecordOpener::new(&[2; 32], &moved, &manifest(&moved, &second)).unwrap();
    let pieces = opener.locate(0..plaintext.len() as u64).unwrap();
    let opened: Vec<u8> = pieces
        .iter()
        .flat_map(|piece| {
            assert_eq!(piece.salt, [2; 32]);
            let at = piece.offset as usize;
            opener.chunk(piece.index, &second.bytes()[at..at + piece.sealed_len as usize]).unwrap()
        })
        .collect();
    assert_eq!(opened, plaintext);
}
