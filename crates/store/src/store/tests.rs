//! What a store does on a disk in memory, and small constructors for all tests.

mod damage;
mod failing;
mod faults;
mod real;

use std::path::Path;
use std::sync::Arc;

use super::*;
use crate::{Compacted, FaultyDisk, KEY_LEN_MAX, Kind, META_LEN_MAX, ReadError, Rebuilt, Torn, is_in_use};

pub(super) const DIR: &str = "/store";

/// Short segments, so that tests have many, and no reserve.
pub(super) fn config() -> Config {
    Config { segment_len: 16 << 10, reserve_len: 0, ..Config::default() }
}

pub(super) fn try_open(disk: &FaultyDisk) -> Result<Store, OpenError> {
    Store::open_on(Arc::new(disk.clone()), Path::new(DIR), config())
}

pub(super) fn open(disk: &FaultyDisk) -> Store {
    try_open(disk).unwrap()
}

pub(super) fn put(store: &Store, key: &[u8], body: &[u8]) {
    let position = store.put(Kind::Pack, key, b"meta", &[body]).unwrap();
    store.sync(position).unwrap();
}

pub(super) fn body(store: &Store, key: &[u8]) -> Result<Vec<u8>, ReadError> {
    let len = match store.get(Kind::Pack, key)? {
        Some(item) => item.len,
        None => return Err(ReadError::Absent { kind: Kind::Pack, key: key.to_vec() }),
    };
    Ok(store.read(Kind::Pack, key, 0..len)?.to_vec())
}

pub(super) fn keys(store: &Store, kind: Kind) -> Vec<Vec<u8>> {
    store.keys(kind).map(Result::unwrap).collect()
}

pub(super) fn segment(number: u64) -> PathBuf {
    segment_path(Path::new(DIR), number)
}

#[test]
fn what_is_put_is_read_back_whole_and_in_part() {
    let store = open(&FaultyDisk::new(0));
    let long: Vec<u8> = (0..50_000_u32).map(|i| (i / 7) as u8).collect();
    store.put(Kind::Shard, b"key", b"meta", &[&long[..10], &[], &long[10..]]).unwrap();
    let item = store.get(Kind::Shard, b"key").unwrap().unwrap();
    assert_eq!((&item.meta[..], item.len), (&b"meta"[..], 50_000));
    for range in [0..50_000, 0..0, 50_000..50_000, 16_383..16_385, 20_000..49_999] {
        let bytes = store.read(Kind::Shard, b"key", range.clone()).unwrap();
        assert_eq!(bytes, &long[range.start as usize..range.end as usize], "{range:?}");
    }
    assert!(store.contains(Kind::Shard, b"key").unwrap());
    assert!(!store.contains(Kind::Pack, b"key").unwrap(), "kinds do not meet");
    assert_eq!(store.get(Kind::Pack, b"key").unwrap(), None);
}

#[test]
fn what_cannot_be_read_is_told_apart() {
    let store = open(&FaultyDisk::new(0));
    put(&store, b"key", b"body");
    assert!(matches!(store.read(Kind::Pack, b"none", 0..1), Err(ReadError::Absent { kind: Kind::Pack, .. })));
    #[expect(clippy::reversed_empty_ranges)]
    let backwards = 3..2;
    for range in [0..5, 5..5, backwards] {
        assert!(matches!(store.read(Kind::Pack, b"key", range), Err(ReadError::Range { len: 4, .. })));
    }
}

#[test]
fn limits_hold_at_the_bound_and_not_one_past_it() {
    let store = open(&FaultyDisk::new(0));
    let key = [7; KEY_LEN_MAX + 1];
    let meta = vec![7; META_LEN_MAX + 1];
    store.put(Kind::Meta, &key[1..], &meta[1..], &[]).unwrap();
    assert_eq!(store.get(Kind::Meta, &key[1..]).unwrap().unwrap().meta, &meta[1..]);
    assert!(matches!(store.put(Kind::Meta, &key, b"", &[]), Err(WriteError::KeyLength { got: 65 })));
    assert!(matches!(store.put(Kind::Meta, b"", b"", &[]), Err(WriteError::KeyLength { got: 0 })));
    assert!(matches!(store.remove(Kind::Meta, &key), Err(WriteError::KeyLength { got: 65 })));
    assert!(matches!(store.put(Kind::Meta, b"k", &meta, &[]), Err(WriteError::MetaLength { got: 65_537 })));
    let part = vec![0; 16 << 20];
    let mut parts = vec![&part[..]; 64];
    parts.push(&[0]);
    assert!(matches!(store.put(Kind::Meta, b"k", b"", &parts), Err(WriteError::BodyLength { got: 0x4000_0001 })));
    assert!(store.get(Kind::Meta, b"k").unwrap().is_none());
}

#[test]
fn the_newest_record_of_a_key_wins_also_after_a_rebuild() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    for i in 0..2000_u32 {
        put(&store, &[(i % 7) as u8], &i.to_le_bytes());
    }
    store.sync(store.remove(Kind::Pack, &[3]).unwrap()).unwrap();
    store.remove(Kind::Pack, b"never there").unwrap();
    let usage = store.usage();
    assert_eq!(usage.items, 6);
    let disk = disk.kill();
    let store = open(&disk);
    assert_eq!(store.opening().rebuilt, Some(Rebuilt::NotClosed));
    assert_eq!((store.opening().damage_count, &store.opening().torn), (0, &Vec::new()));
    assert_eq!(store.usage(), usage);
    assert!(matches!(body(&store, &[3]), Err(ReadError::Absent { .. })));
    for key in [0, 1, 2, 4, 5, 6_u8] {
        let newest = (0..2000_u32).rev().find(|i| i % 7 == u32::from(key)).unwrap();
        assert_eq!(body(&store, &[key]).unwrap(), newest.to_le_bytes());
    }
}

#[test]
fn keys_come_in_order_and_one_kind_at_a_time() {
    let store = open(&FaultyDisk::new(0));
    for i in (0..1000_u32).rev() {
        store.put(Kind::Entry, &i.to_be_bytes(), b"", &[]).unwrap();
        store.put(Kind::Shard, &i.to_be_bytes(), b"", &[]).unwrap();
    }
    store.put(Kind::Block, b"one", b"", &[]).unwrap();
    let expected: Vec<Vec<u8>> = (0..1000_u32).map(|i| i.to_be_bytes().to_vec()).collect();
    assert_eq!(keys(&store, Kind::Entry), expected);
    assert_eq!(keys(&store, Kind::Shard), expected);
    assert_eq!(keys(&store, Kind::Block), [b"one"]);
    let after = |key: &[u8]| store.keys_after(Kind::Entry, key).next().map(Result::unwrap);
    assert_eq!(after(&[0, 0, 1]), Some(256_u32.to_be_bytes().to_vec()), "a key comes after its beginning");
    assert_eq!(after(&256_u32.to_be_bytes()), Some(257_u32.to_be_bytes().to_vec()));
    assert_eq!(after(&999_u32.to_be_bytes()), None, "the next kind begins there");
    assert!(keys(&store, Kind::Pack).is_empty());
}

#[test]
fn a_second_store_in_the_same_folder_is_told_who_holds_it() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    let error = try_open(&disk).err().unwrap();
    let pid = std::process::id();
    assert!(matches!(&error, OpenError::Locked { pid: Some(p), path } if *p == pid && path == Path::new(DIR)));
    assert_eq!(
        error.to_string(),
        format!("the store /store is locked by process {pid}; stop it or choose another folder")
    );
    drop(store);
    open(&disk);
}

#[test]
fn whether_a_store_is_in_use_is_seen_from_outside() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path().join("store");
    assert!(!is_in_use(&dir), "there is none");
    let store = Store::open(&dir, Config::default()).unwrap();
    assert!(is_in_use(&dir));
    drop(store);
    assert!(!is_in_use(&dir));
}

#[test]
fn a_store_of_a_newer_program_is_refused_and_left_alone() {
    let disk = FaultyDisk::new(0);
    open(&disk).close().unwrap();
    let format = crate::marks::Format { version: 2, salt: [0; 16] }.encode();
    replace_file(&disk, Path::new(DIR), "format", &format).unwrap();
    assert!(matches!(try_open(&disk), Err(OpenError::NewerFormat { found: 2, known: 1, .. })));
}

#[test]
fn a_segment_of_a_newer_program_is_refused_too() {
    let disk = FaultyDisk::new(0);
    put(&open(&disk), b"key", b"body");
    let file = disk.open(&segment(1), crate::Open::Write).unwrap();
    let mut copy = crate::disk::read_exact(&*file, 0, 64).unwrap();
    copy[8] = 2;
    let sum = crc32c::crc32c(&copy[..60]).to_le_bytes();
    copy[60..].copy_from_slice(&sum);
    file.write_at(&[&copy, &copy], 0).unwrap();
    let error = try_open(&disk.kill()).err().unwrap();
    assert!(matches!(&error, OpenError::NewerFormat { path, found: 2, known: 1 } if *path == segment(1)));
}

#[test]
fn a_full_disk_refuses_writes_and_goes_on_once_there_is_room() {
    let disk = FaultyDisk::new(0);
    let config = Config { reserve_len: 40 << 10, ..config() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new(DIR), config).unwrap();
    disk.set_capacity(200 << 10);
    let large = vec![5; 6000];
    let mut taken = 0_u8;
    let refused = loop {
        match store.put(Kind::Pack, &[taken], b"", &[&large]) {
            Ok(position) => store.sync(position).unwrap(),
            Err(error) => break error,
        }
        taken += 1;
    };
    let WriteError::Full { need, free, .. } = refused else { panic!("{refused}") };
    assert!(need > 6000 && free < need);
    assert!(disk.used() <= 160 << 10, "the reserve is free");
    assert_eq!(body(&store, &[0]).unwrap(), large, "reading goes on");
    for key in 1..taken {
        store.sync(store.remove(Kind::Pack, &[key]).unwrap()).unwrap();
    }
    let compacted = store.compact().unwrap();
    assert!(compacted.rewritten > 0 && compacted.freed > 0, "{compacted:?}");
    put(&store, b"again", &large);
    disk.set_capacity(disk.used() + 10);
    let store = {
        drop(store);
        open(&disk)
    }; // opens though the disk is full
    assert_eq!(body(&store, &[0]).unwrap(), large);
    assert_eq!(body(&store, b"again").unwrap(), large);
}

#[test]
fn a_disk_that_fills_up_in_the_middle_of_a_record_costs_only_that_record() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", b"before");
    for room in (0..390).step_by(7) {
        disk.set_capacity(u64::MAX);
        put(&store, b"b", &[room as u8; 100]);
        disk.set_capacity(disk.used() + room);
        // Another program took the room between our question and our write.
        let draft = crate::record::Draft::new(Kind::Pack as u8, b"c", b"", &[&[0; 300]]);
        let written = store.append(store.lock_log(), &draft);
        assert!(matches!(written, Err(WriteError::Full { .. })), "room {room}");
        assert_eq!(body(&store, b"b").unwrap(), [room as u8; 100]);
        assert!(!store.contains(Kind::Pack, b"c").unwrap());
    }
    let store = open(&disk.kill());
    assert_eq!(store.opening().damage_count, 0);
    assert_eq!(keys(&store, Kind::Pack), [b"a", b"b"]);
}

#[test]
fn compaction_gives_dead_space_back_and_nothing_removed_returns() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    let long = [9; 1000];
    for i in 0..200_u8 {
        put(&store, &[i], &long);
    }
    for i in (0..200_u8).filter(|i| i % 4 > 0) {
        store.sync(store.remove(Kind::Pack, &[i]).unwrap()).unwrap();
    }
    let before = store.usage();
    let compacted = store.compact().unwrap();
    let after = store.usage();
    assert!(compacted.damaged.is_empty());
    assert_eq!((after.items, after.live_bytes), (50, before.live_bytes));
    assert!(after.bytes < before.bytes / 2, "{before:?} {after:?}");
    assert!(disk.used() < before.bytes / 2);
    assert_eq!(store.compact().unwrap(), Compacted::default(), "there is nothing left to do");
    let store = open(&disk.kill());
    assert_eq!(store.usage(), after);
    let kept: Vec<Vec<u8>> = (0..200_u8).filter(|i| i % 4 == 0).map(|i| vec![i]).collect();
    assert_eq!(keys(&store, Kind::Pack), kept);
    kept.iter().for_each(|key| assert_eq!(body(&store, key).unwrap(), long));
}

#[test]
fn a_run_of_keys_goes_with_one_record_and_those_put_again_stay_through_rebuild_and_compaction() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    let key = |at: u64| [&b"author"[..], &at.to_be_bytes()].concat();
    for at in 250..600 {
        put(&store, &key(at), &[9; 100]);
    }
    let before = store.usage();
    store.sync(store.remove_run(Kind::Pack, &key(256), 256).unwrap()).unwrap();
    let after = store.usage();
    assert_eq!((after.items, before.items), (350 - 256, 350));
    assert!(after.bytes - before.bytes < 130, "one short record");
    assert_eq!(store.remove_run(Kind::Pack, &key(256), 256).unwrap(), store.lock_log().position(), "nothing to do");
    put(&store, &key(300), b"again");
    let left: Vec<Vec<u8>> = (250..256).chain([300]).chain(512..600).map(key).collect();
    assert_eq!(keys(&store, Kind::Pack), left);
    let disk = disk.kill();
    let store = open(&disk);
    assert_eq!(store.opening().rebuilt, Some(Rebuilt::NotClosed));
    assert_eq!(keys(&store, Kind::Pack), left);
    for round in 0..40_u8 {
        put(&store, b"other", &[round; 3000]); // so that the segment with the tombstone is not the last
    }
    assert!(store.compact().unwrap().rewritten > 0);
    let store = open(&disk.kill());
    assert_eq!(body(&store, &key(300)).unwrap(), b"again");
    assert_eq!(store.usage().items, left.len() as u64 + 1);
}

#[test]
fn the_first_key_of_a_run_has_room_for_a_number_and_a_count() {
    let store = open(&FaultyDisk::new(0));
    for len in [7, KEY_LEN_MAX - 1] {
        let error = store.remove_run(Kind::Pack, &vec![1; len], 2).unwrap_err();
        assert!(matches!(error, WriteError::RunKeyLength { got } if got == len), "{error}");
    }
    for len in [8, KEY_LEN_MAX - 2] {
        let first = [&vec![1; len - 8][..], &u64::MAX.to_be_bytes()].concat();
        let after = [&vec![1; len - 8][..], &0_u64.to_be_bytes()].concat();
        put(&store, &first, b"");
        put(&store, &after, b"");
        store.remove_run(Kind::Pack, &first, 2).unwrap();
        assert_eq!(store.usage().items, 0, "the number begins again behind the greatest");
    }
}

#[test]
fn threads_put_read_and_compact_side_by_side() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let store = &store;
            scope.spawn(move || {
                for round in 0..60_u8 {
                    let key = [thread, round % 5];
                    put(store, &key, &[round; 700]);
                    assert_eq!(body(store, &key).unwrap(), [round; 700]);
                }
            });
        }
        let store = &store;
        scope.spawn(move || (0..20).for_each(|_| drop(store.compact().unwrap())));
        scope.spawn(move || store.scrub().for_each(|step| assert!(step.unwrap().damage.is_empty())));
    });
    let usage = store.usage();
    assert_eq!(usage.items, 20);
    let store = open(&disk.crash());
    for thread in 0..4 {
        for slot in 0..5 {
            assert_eq!(body(&store, &[thread, slot]).unwrap(), [55 + slot; 700]);
        }
    }
}

#[test]
fn a_record_longer_than_a_segment_gets_one_of_its_own() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"short", b"body");
    put(&store, b"long", &[1; 100_000]);
    put(&store, b"after", b"body");
    assert_eq!(store.lock_log().segments.len(), 3);
    let store = open(&disk.crash());
    assert_eq!(body(&store, b"long").unwrap(), [1; 100_000]);
}
