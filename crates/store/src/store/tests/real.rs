//! Real files and the real index.

use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::Kind;

fn real(dir: &Path) -> Store {
    Store::open(dir, config()).unwrap()
}

/// Puts, replaces and removes; returns what is there in the end.
fn fill(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    for i in 0..600_u32 {
        store.put(Kind::Pack, &(i % 250).to_be_bytes(), b"meta", &[&[i as u8; 300]]).unwrap();
    }
    let mut last = store.remove(Kind::Pack, &7_u32.to_be_bytes()).unwrap();
    for kind in Kind::ALL {
        last = store.put(kind, b"of each kind", b"", &[&[kind as u8; 40_000]]).unwrap();
    }
    store.sync(last).unwrap();
    contents(store)
}

fn contents(store: &Store) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut all = Vec::new();
    for kind in Kind::ALL {
        for key in keys(store, kind) {
            let len = store.get(kind, &key).unwrap().unwrap().len;
            all.push(([&[kind as u8], &key[..]].concat(), store.read(kind, &key, 0..len).unwrap().to_vec()));
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_clean_close_is_opened_without_a_rebuild_time_and_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    assert_eq!(store.opening(), &Opening::default(), "a new store has nothing to tell");
    let want = fill(&store);
    let usage = store.usage();
    store.close().unwrap();
    for _ in 0..5 {
        let store = real(dir.path());
        assert_eq!(store.opening(), &Opening::default());
        assert_eq!(contents(&store), want);
        assert_eq!(store.usage(), usage);
        drop(store); // closes as well as close does
    }
    let store = real(dir.path());
    put(&store, b"more", b"body");
    store.close().unwrap();
    assert_eq!(contents(&real(dir.path())).len(), want.len() + 1);
}

#[test]
fn a_store_that_was_not_closed_has_the_same_contents() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(&dir.path().join("running"));
    let want = fill(&store);
    copy(&dir.path().join("running"), &dir.path().join("copy")); // as after kill -9
    let copy = real(&dir.path().join("copy"));
    assert_eq!(copy.opening().rebuilt, Some(Rebuilt::NotClosed));
    assert_eq!(copy.opening().damage_count, 0);
    assert_eq!(contents(&copy), want);
    assert_eq!(copy.usage(), store.usage());
}

#[test]
fn a_deleted_index_is_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    let want = fill(&store);
    store.close().unwrap();
    fs::remove_dir_all(dir.path().join("index")).unwrap();
    let store = real(dir.path());
    assert_eq!(store.opening().rebuilt, Some(Rebuilt::IndexDiffers));
    assert_eq!(contents(&store), want);
}

#[test]
fn any_flipped_bit_of_the_index_makes_it_be_rebuilt() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(&dir.path().join("clean"));
    let want = fill(&store);
    store.close().unwrap();
    let names: Vec<PathBuf> = files(&dir.path().join("clean/index"))
        .into_iter()
        .filter(|path| fs::metadata(path).unwrap().len() > 0)
        .map(|path| path.strip_prefix(dir.path().join("clean")).unwrap().to_path_buf())
        .collect();
    let mut random = 0x2545_F491_4F6C_DD1D_u64;
    for round in 0..20 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        let damaged = dir.path().join(format!("{round}"));
        copy(&dir.path().join("clean"), &damaged);
        let path = damaged.join(&names[round % names.len()]);
        let mut bytes = fs::read(&path).unwrap();
        let bit = (random >> 16) as usize % (8 * bytes.len());
        bytes[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, bytes).unwrap();
        let store = real(&damaged);
        assert_eq!(store.opening().rebuilt, Some(Rebuilt::IndexDiffers), "bit {bit} of {path:?}");
        assert_eq!(contents(&store), want, "bit {bit} of {path:?}");
        drop(store);
        fs::remove_dir_all(damaged).unwrap();
    }
}

#[test]
fn compaction_and_a_torn_tail_work_on_real_files() {
    let dir = tempfile::tempdir().unwrap();
    let store = real(dir.path());
    let want = fill(&store);
    let before = store.usage();
    assert!(store.compact().unwrap().rewritten > 0);
    assert!(store.usage().bytes < before.bytes);
    assert_eq!(contents(&store), want);
    store.close().unwrap();
    fs::remove_file(dir.path().join("clean")).unwrap();
    let last = files(&dir.path().join("segments")).pop().unwrap();
    let mut bytes = fs::read(&last).unwrap();
    let whole = bytes.len() as u64;
    bytes.extend_from_slice(&[0x42; 77]);
    fs::write(&last, bytes).unwrap();
    let store = real(dir.path());
    assert_eq!(store.opening().torn.len(), 1);
    assert_eq!((store.opening().torn[0].offset, store.opening().torn[0].len), (whole, 77));
    assert_eq!(contents(&store), want);
}
