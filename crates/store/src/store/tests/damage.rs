//! Flipped bits: each is noticed or lies where nobody reads, and no read returns false bytes.

use std::path::Path;

use super::*;
use crate::item::Part;
use crate::{Damage, FaultyDisk};

/// A closed store with a few records of each length, and their bodies.
fn filled(disk: &FaultyDisk) -> Vec<(Vec<u8>, Vec<u8>)> {
    let store = open(disk);
    let items: Vec<(Vec<u8>, Vec<u8>)> =
        [0, 1, 3000, 20_000, 40].iter().enumerate().map(|(i, len)| (vec![i as u8], vec![i as u8; *len])).collect();
    items.iter().for_each(|(key, body)| put(&store, key, body));
    store.close().unwrap();
    items
}

fn scrubbed(store: &Store) -> Vec<Damage> {
    store.scrub().flat_map(|step| step.unwrap().damage).collect()
}

#[test]
fn a_whole_store_scrubs_clean_and_every_live_byte_is_read() {
    let disk = FaultyDisk::new(0);
    filled(&disk);
    let store = open(&disk);
    let read: u64 = store.scrub().map(|step| step.unwrap().len).sum();
    assert_eq!(read, store.usage().bytes);
    assert!(scrubbed(&store).is_empty());
}

#[test]
fn any_flipped_bit_of_a_segment_is_reported_and_reads_are_true_or_refused() {
    let clean = FaultyDisk::new(0);
    let items = filled(&clean);
    let segments: Vec<(PathBuf, u64)> =
        clean.paths().into_iter().filter(|(path, _)| path.starts_with("/store/segments")).collect();
    for (path, len) in segments {
        // All bits of the heads, and one in so many of the rest.
        for bit in (0..8 * len).filter(|bit| bit / 8 < 400 || bit % 1009 == 0 || bit / 8 + 130 > len) {
            let disk = FaultyDisk::new(0);
            filled(&disk);
            disk.flip(&path, bit);
            let store = open(&disk);
            let damage = scrubbed(&store);
            assert!(!damage.is_empty(), "bit {bit} of {path:?}");
            assert_eq!(store.opening().torn, [], "all of it was known to be durable");
            for (key, want) in &items {
                match body(&store, key) {
                    Ok(got) => assert_eq!(&got, want, "bit {bit} of {path:?}"),
                    Err(ReadError::Damaged { .. }) => {
                        let item = Some((Kind::Pack, key.clone()));
                        assert!(damage.iter().any(|damage| damage.item == item), "bit {bit} of {path:?}: {damage:?}");
                    }
                    Err(error) => panic!("bit {bit} of {path:?}: {error}"),
                }
            }
        }
    }
}

#[test]
fn any_flipped_bit_of_the_small_files_costs_nothing() {
    let clean = FaultyDisk::new(0);
    let items = filled(&clean);
    let small = clean.paths().into_iter().filter(|(path, _)| path.parent() == Some(Path::new(DIR)));
    for (path, len) in small {
        for bit in 0..8 * len {
            let disk = FaultyDisk::new(0);
            filled(&disk);
            disk.flip(&path, bit);
            let store = open(&disk);
            assert_eq!(store.opening().damage_count, 0);
            items.iter().for_each(|(key, want)| assert_eq!(&body(&store, key).unwrap(), want, "bit {bit} of {path:?}"));
        }
    }
}

#[test]
fn damage_names_its_part_and_whose_it_is() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", &[1; 100]);
    put(&store, b"b", &[2; 100]);
    let entry = store.find(b"\x01b").unwrap().unwrap();
    let at = |offset: u64| 8 * (entry.offset + offset);
    let end = entry.byte_len(1);
    let cases = [(20, Part::Opening), (45, Part::Body), (50, Part::Meta), (60, Part::Body), (end - 1, Part::Closing)];
    for (offset, part) in cases {
        disk.flip(&segment(1), at(offset));
        let damage = scrubbed(&store);
        assert_eq!(damage.len(), 1);
        assert_eq!((damage[0].part, damage[0].offset, damage[0].len), (part, entry.offset, end));
        assert_eq!(damage[0].item, Some((Kind::Pack, b"b".to_vec())));
        disk.flip(&segment(1), at(offset));
    }
    disk.flip(&segment(1), 3);
    assert_eq!(scrubbed(&store)[0].part, Part::SegmentHead);
    disk.flip(&segment(1), 3);
    // Without either head the record is found through the index.
    disk.flip(&segment(1), at(20));
    disk.flip(&segment(1), at(end - 1));
    assert_eq!(scrubbed(&store)[0].item, Some((Kind::Pack, b"b".to_vec())));
    let error = body(&store, b"b").unwrap_err();
    assert!(matches!(&error, ReadError::Damaged { kind: Kind::Pack, key, segment: 1, .. } if key == b"b"));
    assert!(error.to_string().contains("pack 62 is damaged"), "{error}");
    put(&store, b"b", b"repaired");
    assert_eq!(body(&store, b"b").unwrap(), b"repaired");
}

#[test]
fn damage_to_what_was_replaced_is_of_no_interest() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", &[1; 100]);
    put(&store, b"a", &[2; 100]);
    disk.flip(&segment(1), 8 * (SEGMENT_HEAD_LEN + 80));
    assert!(scrubbed(&store).is_empty());
}

#[test]
fn a_record_without_heads_is_reported_on_open_and_all_others_are_there() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", &[1; 100]);
    let from = store.usage().bytes;
    put(&store, b"b", &[2; 100]);
    let to = store.usage().bytes;
    put(&store, b"c", &[3; 100]);
    disk.flip(&segment(1), 8 * from);
    disk.flip(&segment(1), 8 * (to - 1));
    let store = open(&disk.kill());
    let damage = Damage { segment: 1, offset: from, len: to - from, part: Part::Unreadable, item: None };
    assert_eq!(store.opening().damage, [damage]);
    assert_eq!(keys(&store, Kind::Pack), [b"a", b"c"]);
    assert_eq!(body(&store, b"c").unwrap(), [3; 100]);
}

#[test]
fn a_damaged_end_that_was_synced_is_kept_and_a_torn_one_that_was_not_is_cut() {
    for was_synced in [true, false] {
        let disk = FaultyDisk::new(0);
        let store = open(&disk);
        put(&store, b"a", &[1; 100]);
        let kept = store.usage().bytes;
        let position = store.put(Kind::Pack, b"b", b"", &[&[2; 100]]).unwrap();
        if was_synced {
            store.sync(position).unwrap();
        }
        let len = store.usage().bytes - kept;
        disk.flip(&segment(1), 8 * (kept + 100));
        let disk = disk.kill();
        let store = open(&disk);
        if was_synced {
            assert_eq!(store.opening().torn, []);
            assert!(matches!(body(&store, b"b"), Err(ReadError::Damaged { .. })));
        } else {
            let item = Some((Kind::Pack, b"b".to_vec()));
            assert_eq!(store.opening().torn, [Torn { segment: 1, offset: kept, len, item }]);
            assert!(!store.contains(Kind::Pack, b"b").unwrap());
        }
        put(&store, b"c", b"goes on");
        let store = open(&disk.crash());
        assert_eq!(body(&store, b"a").unwrap(), [1; 100]);
        assert_eq!(body(&store, b"c").unwrap(), b"goes on");
    }
}

#[test]
fn what_a_crash_tore_in_the_middle_is_closed_and_never_taken_for_damage_or_a_record() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", b"acknowledged");
    let from = store.usage().bytes;
    store.put(Kind::Pack, b"a", b"", &[&[2; 5000]]).unwrap();
    let to = store.usage().bytes;
    store.put(Kind::Pack, b"c", b"", &[b"whole"]).unwrap();
    disk.flip(&segment(1), 8 * (from + 2000)); // one page of it never reached the disk
    let disk = disk.kill();
    let store = open(&disk);
    let item = Some((Kind::Pack, b"a".to_vec()));
    assert_eq!(store.opening().torn, [Torn { segment: 1, offset: from, len: to - from, item }]);
    assert_eq!(body(&store, b"a").unwrap(), b"acknowledged");
    put(&store, b"d", b"later"); // now all before it is known to be durable
    let store = open(&disk.kill());
    assert_eq!((&store.opening().torn, store.opening().damage_count), (&Vec::new(), 0));
    assert_eq!(body(&store, b"a").unwrap(), b"acknowledged");
    assert_eq!(body(&store, b"c").unwrap(), b"whole");
    assert!(scrubbed(&store).is_empty());
}

#[test]
fn a_segment_cut_short_is_damage_and_is_not_written_to_again() {
    let disk = FaultyDisk::new(0);
    filled(&disk);
    let last = disk.paths().into_iter().rfind(|(path, _)| path.starts_with("/store/segments")).unwrap();
    disk.open(&last.0, crate::Open::Write).unwrap().truncate(last.1 - 7).unwrap();
    let store = open(&disk);
    assert_eq!(store.opening().rebuilt, Some(Rebuilt::SegmentsDiffer));
    assert!(store.opening().damage_count > 0);
    put(&store, b"new", b"body");
    let store = open(&disk.crash());
    assert_eq!(body(&store, b"new").unwrap(), b"body");
}

#[test]
fn a_missing_segment_is_named() {
    let disk = FaultyDisk::new(0);
    filled(&disk);
    disk.remove(&segment(1)).unwrap();
    let store = open(&disk);
    assert_eq!(store.opening().missing, [1]);
    assert_eq!(store.opening().rebuilt, Some(Rebuilt::SegmentsDiffer));
    assert_eq!(keys(&store, Kind::Pack).len(), 2, "what stands in the others is there");
}

#[test]
fn compaction_leaves_a_segment_alone_that_it_cannot_read() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", &[1; 1000]);
    for _ in 0..30 {
        put(&store, b"b", &[2; 1000]);
    }
    disk.flip(&segment(1), 8 * (SEGMENT_HEAD_LEN + 500));
    let compacted = store.compact().unwrap();
    assert_eq!(compacted.damaged, [1]);
    assert!(matches!(body(&store, b"a"), Err(ReadError::Damaged { .. })), "its bytes wait for a repair");
    put(&store, b"a", b"repaired");
    assert_eq!(store.compact().unwrap().damaged, [0; 0]);
    assert_eq!(body(&store, b"a").unwrap(), b"repaired");
}
