use proptest::prelude::*;

use super::*;
use crate::disk::{Disk, Open};
use crate::{FaultyDisk, Kind};

fn seal() -> Seal {
    Seal::new(&[7; 16], 3)
}

fn head(key: &[u8]) -> Head {
    Head {
        kind: Kind::Pack as u8,
        tombstone: false,
        run: false,
        key_len: key.len() as u16,
        meta_len: 5,
        meta_sum: 6,
        body_len: 70_000,
        offset: 128,
        durable: 100,
    }
}

proptest! {
    #[test]
    fn a_head_reads_back_from_both_ends(key in prop::collection::vec(any::<u8>(), 1..=KEY_LEN_MAX)) {
        let head = head(&key);
        let opening = [&head.encode(End::Opening, seal(), &key)[..], &key].concat();
        prop_assert_eq!(Head::opening(&opening, seal(), 128), Some((head, key.clone())));
        let closing = [&key, &head.encode(End::Closing, seal(), &key)[..]].concat();
        prop_assert_eq!(Head::closing(&closing, seal(), head.end()), Some((head, key)));
    }

    #[test]
    fn a_head_with_any_bit_turned_is_refused(bit in 0..8 * (HEAD_LEN + 9)) {
        let key = b"nine bits";
        let mut opening = [&head(key).encode(End::Opening, seal(), key)[..], key].concat();
        opening[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(Head::opening(&opening, seal(), 128), None);
    }

    #[test]
    fn any_range_of_a_body_reads_back_however_it_came_in_parts(
        body in prop::collection::vec(any::<u8>(), 0..3 * BLOCK_LEN),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 2),
        range in any::<[prop::sample::Index; 2]>(),
    ) {
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(body.len() + 1)).collect();
        cuts.sort_unstable();
        let parts = [&body[..cuts[0]], &body[cuts[0]..cuts[1]], &body[cuts[1]..]];
        let (file, head) = written(b"key", b"meta", &parts);
        let mut ends = range.map(|end| end.index(body.len() + 1));
        ends.sort_unstable();
        let Checked::Good((bytes, skip)) =
            read_body(&*file, seal(), &head, ends[0] as u64..ends[1] as u64).unwrap() else { panic!("bad") };
        prop_assert_eq!(&bytes[skip..skip + ends[1] - ends[0]], &body[ends[0]..ends[1]]);
        prop_assert_eq!(verify(&*file, seal(), &head, b"key").unwrap(), None);
    }
}

#[test]
fn a_head_of_another_place_is_refused() {
    let key = b"key";
    let opening = [&head(key).encode(End::Opening, seal(), key)[..], key].concat();
    assert_eq!(Head::opening(&opening, seal(), 129), None);
    assert_eq!(Head::opening(&opening, Seal::new(&[7; 16], 4), 128), None);
    assert_eq!(Head::opening(&opening, Seal::new(&[8; 16], 3), 128), None);
    assert_eq!(Head::opening(&opening[..HEAD_LEN + 2], seal(), 128), None);
}

#[test]
fn a_length_beyond_its_limit_is_refused_though_its_checksum_is_right() {
    let key = b"key";
    for wrong in
        [Head { body_len: BODY_LEN_MAX + 1, ..head(key) }, Head { meta_len: META_LEN_MAX as u32 + 1, ..head(key) }]
    {
        let opening = [&wrong.encode(End::Opening, seal(), key)[..], key].concat();
        assert_eq!(Head::opening(&opening, seal(), 128), None);
    }
    let right = Head { body_len: BODY_LEN_MAX, meta_len: META_LEN_MAX as u32, ..head(key) };
    let opening = [&right.encode(End::Opening, seal(), key)[..], key].concat();
    assert!(Head::opening(&opening, seal(), 128).is_some());
}

#[test]
fn a_gap_is_exactly_as_long_as_what_it_closes() {
    for len in (90..200).chain(16_400..16_600).chain([1 << 20, (1 << 30) + 10]) {
        assert_eq!(Head::gap(1000, 1000 + len).unwrap().end(), 1000 + len);
    }
    assert_eq!(Head::gap(1000, 1089), None);
}

#[test]
fn every_turned_bit_of_a_record_is_noticed() {
    let body = vec![0x5A; BLOCK_LEN + 3];
    let disk = FaultyDisk::new(0);
    let path = std::path::Path::new("/segment");
    let file = disk.open(path, Open::New).unwrap();
    let head = Draft::new(1, b"key", b"meta", &[&body]).write(&*file, seal(), 0, 0).unwrap();
    let edge = head.body_at() * 8..head.body_at() * 8 + 64;
    for bit in (0..edge.start).chain(edge).chain(8 * (head.closing_at() - 2)..8 * head.end()) {
        disk.flip(path, bit);
        assert!(verify(&*file, seal(), &head, b"key").unwrap().is_some(), "bit {bit}");
        disk.flip(path, bit);
    }
    assert_eq!(verify(&*file, seal(), &head, b"key").unwrap(), None);
}

fn written(key: &[u8], meta: &[u8], body: &[&[u8]]) -> (std::sync::Arc<dyn DiskFile>, Head) {
    let file = FaultyDisk::new(0).open(std::path::Path::new("/segment"), Open::New).unwrap();
    let draft = Draft::new(1, key, meta, body);
    let head = draft.write(&*file, seal(), 128, 128).unwrap();
    assert_eq!(head.end(), 128 + draft.byte_len());
    assert_eq!(file.byte_len().unwrap(), head.end());
    (file, head)
}
