//! Single failures, one after the other: syncs, writes, the index.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier};

use super::*;
use crate::disk::{DiskFile, LockError, Open};
use crate::index::{Closed, Entry};
use crate::{Faults, Kind};

const SYNCS_FAIL: Faults = Faults {
    sync_error: 1000,
    sync_error_forgets: 0,
    write_error: 0,
    short_write: 0,
    read_error: 0,
    truncate_error: 0,
};

#[test]
fn after_a_failed_sync_everything_is_written_anew_before_anything_is_acknowledged() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let store = open(&disk);
        put(&store, b"old", b"old");
        let first = store.put(Kind::Pack, b"first", b"", &[b"first"]).unwrap();
        store.put(Kind::Pack, b"old", b"", &[b"new"]).unwrap();
        store.put(Kind::Pack, b"gone", b"", &[b"gone"]).unwrap();
        let last = store.remove(Kind::Pack, b"gone").unwrap();
        disk.set_faults(SYNCS_FAIL);
        assert!(matches!(store.sync(last), Err(WriteError::Io { .. })));
        assert!(matches!(store.sync(first), Err(WriteError::Io { .. })), "not even its new place could be made");
        assert_eq!(body(&store, b"first").unwrap(), b"first", "it stays readable");
        disk.set_faults(Faults::default());
        if seed % 2 == 0 {
            store.sync(first).unwrap();
        } else {
            put(&store, b"later", b"later"); // a later position covers the earlier ones
        }
        let store = open(&disk.crash());
        assert_eq!(body(&store, b"old").unwrap(), b"new", "seed {seed}");
        assert_eq!(body(&store, b"first").unwrap(), b"first", "seed {seed}");
        assert!(!store.contains(Kind::Pack, b"gone").unwrap(), "seed {seed}");
        assert_eq!(store.opening().damage_count, 0, "seed {seed}");
    }
}

#[test]
fn what_a_failed_sync_lost_is_never_acknowledged_nor_anything_after_it() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let store = open(&disk);
        put(&store, b"kept", b"kept");
        let position = store.put(Kind::Pack, b"key", b"", &[b"body"]).unwrap();
        disk.set_faults(Faults { sync_error_forgets: 1000, ..SYNCS_FAIL });
        store.sync(position).unwrap_err();
        disk.set_faults(Faults::default());
        let is_there = match store.sync(position) {
            Ok(()) => true,
            Err(WriteError::Lost { .. }) => false,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        if !is_there {
            lost += 1;
            let more = store.put(Kind::Pack, b"more", b"", &[]);
            assert!(matches!(more, Err(WriteError::Lost { .. })), "seed {seed}");
            assert!(matches!(body(&store, b"key"), Err(ReadError::Damaged { .. })), "seed {seed}");
        }
        assert_eq!(body(&store, b"kept").unwrap(), b"kept");
        let store = open(&disk.crash());
        assert_eq!(body(&store, b"kept").unwrap(), b"kept", "seed {seed}");
        assert_eq!(store.contains(Kind::Pack, b"key").unwrap(), is_there, "seed {seed}");
        put(&store, b"more", b"more");
    }
    assert!(lost > 0);
}

#[test]
fn a_record_that_can_neither_be_written_nor_cut_off_ends_its_segment() {
    let disk = FaultyDisk::new(3);
    let store = open(&disk);
    put(&store, b"a", b"a");
    let unsynced = store.put(Kind::Pack, b"b", b"", &[b"b"]).unwrap();
    disk.set_faults(Faults { short_write: 1000, truncate_error: 1000, ..Faults::default() });
    assert!(matches!(store.put(Kind::Pack, b"c", b"", &[&[3; 200]]), Err(WriteError::Io { .. })));
    disk.set_faults(Faults::default());
    put(&store, b"d", b"d");
    store.sync(unsynced).unwrap();
    assert_eq!(store.lock_log().segments.len(), 2);
    let disk = disk.crash();
    let store = open(&disk);
    assert_eq!(keys(&store, Kind::Pack), [b"a", b"b", b"d"]);
    assert_eq!(store.opening().damage_count, 0, "half a record behind the end is none");
    // The segment that says where the other ends may only go once the other is cut.
    put(&store, b"d", &[0; 16 << 10]);
    assert_eq!(store.compact().unwrap().rewritten, 1);
    let store = open(&disk.crash());
    assert_eq!(keys(&store, Kind::Pack), [b"a", b"b", b"d"]);
    assert_eq!(store.opening().damage_count, 0);
}

#[test]
fn a_read_that_fails_is_an_io_error_and_works_later() {
    let disk = FaultyDisk::new(0);
    let store = open(&disk);
    put(&store, b"a", b"a");
    disk.set_faults(Faults { read_error: 1000, ..Faults::default() });
    assert!(matches!(body(&store, b"a"), Err(ReadError::Io { .. })));
    assert!(matches!(try_open(&disk.kill()), Err(OpenError::Io { .. })));
    disk.set_faults(Faults::default());
    assert_eq!(body(&open(&disk.kill()), b"a").unwrap(), b"a");
}

/// A disk whose first sync of data waits until all threads have put, and that counts them.
struct Gated {
    disk: FaultyDisk,
    gate: Arc<Gate>,
}

struct Gate {
    all_have_put: Barrier,
    is_armed: AtomicBool,
    syncs: AtomicUsize,
}

struct GatedFile {
    file: Arc<dyn DiskFile>,
    gate: Arc<Gate>,
}

impl Disk for Gated {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.create_dir(dir)
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(GatedFile { file: self.disk.open(path, how)?, gate: self.gate.clone() }))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn free_space(&self, dir: &Path) -> io::Result<u64> {
        self.disk.free_space(dir)
    }
    fn lock(&self, path: &Path, pid: u32) -> Result<Box<dyn Send + Sync>, LockError> {
        self.disk.lock(path, pid)
    }
}

impl DiskFile for GatedFile {
    fn byte_len(&self) -> io::Result<u64> {
        self.file.byte_len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()> {
        self.file.write_at(parts, offset)
    }
    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
    fn sync(&self) -> io::Result<()> {
        self.gate.syncs.fetch_add(1, Ordering::SeqCst);
        if self.gate.is_armed.swap(false, Ordering::SeqCst) {
            self.gate.all_have_put.wait();
        }
        self.file.sync()
    }
}

#[test]
fn many_threads_share_a_sync() {
    const FOLLOWERS: usize = 7;
    let gate = Arc::new(Gate {
        all_have_put: Barrier::new(FOLLOWERS + 1),
        is_armed: AtomicBool::new(false),
        syncs: AtomicUsize::new(0),
    });
    let disk = Gated { disk: FaultyDisk::new(0), gate: gate.clone() };
    let store = Store::open_on(Arc::new(disk), Path::new(DIR), config()).unwrap();
    put(&store, b"first", b"makes the segment");
    gate.syncs.store(0, Ordering::SeqCst);
    gate.is_armed.store(true, Ordering::SeqCst);
    let first = store.put(Kind::Pack, b"leader", b"", &[]).unwrap();
    std::thread::scope(|scope| {
        let leader = scope.spawn(|| store.sync(first).unwrap());
        while gate.is_armed.load(Ordering::SeqCst) {
            std::thread::yield_now(); // until the leader is in its sync
        }
        for i in 0..FOLLOWERS as u8 {
            let (store, gate) = (&store, &gate);
            scope.spawn(move || {
                let position = store.put(Kind::Pack, &[i], b"", &[]).unwrap();
                gate.all_have_put.wait();
                store.sync(position).unwrap();
            });
        }
        leader.join().unwrap();
    });
    assert_eq!(gate.syncs.load(Ordering::SeqCst), 2, "one for the leader, one for all who came meanwhile");
}

/// An index that fails while it is told to.
struct Failing {
    index: MemoryIndex,
    fails: Arc<AtomicBool>,
}

struct FailingHome(Arc<AtomicBool>);

impl Failing {
    fn check(&self) -> Result<(), IndexError> {
        if self.fails.swap(false, Ordering::SeqCst) { Err(IndexError::Panicked) } else { Ok(()) }
    }
}

impl Index for Failing {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, IndexError> {
        self.check()?;
        self.index.get(key)
    }
    fn set(&self, key: &[u8], entry: Option<Entry>) -> Result<Option<Entry>, IndexError> {
        self.check()?;
        self.index.set(key, entry)
    }
    fn page(&self, after: &[u8], count: usize) -> Result<Vec<(Vec<u8>, Entry)>, IndexError> {
        self.check()?;
        self.index.page(after, count)
    }
    fn close(self: Box<Self>) -> Closed {
        Closed::GONE
    }
}

impl IndexHome for FailingHome {
    fn reopen(&self, _closed: &Closed) -> Option<Box<dyn Index>> {
        None
    }
    fn create(&self) -> Box<dyn Index> {
        Box::new(Failing { index: MemoryIndex::default(), fails: self.0.clone() })
    }
}

#[test]
fn an_index_that_fails_in_any_call_is_rebuilt_and_nothing_is_missing() {
    let fails = Arc::new(AtomicBool::new(false));
    let disk = Arc::new(FaultyDisk::new(0));
    let store = open::open(disk, Box::new(FailingHome(fails.clone())), Path::new(DIR), config()).unwrap();
    let fail = || fails.store(true, Ordering::SeqCst);
    for i in 0..40_u8 {
        fail();
        put(&store, &[i], &[i; 900]);
    }
    fail();
    store.remove(Kind::Pack, &[0]).unwrap();
    fail();
    assert_eq!(keys(&store, Kind::Pack).len(), 39);
    fail();
    assert_eq!(body(&store, &[7]).unwrap(), [7; 900]);
    fail();
    assert!(!store.contains(Kind::Pack, &[0]).unwrap());
    assert_eq!(store.generation(), 44);
    assert_eq!(store.usage().items, 39);
    for i in 1..30_u8 {
        store.remove(Kind::Pack, &[i]).unwrap();
    }
    fail();
    assert!(store.compact().unwrap().rewritten > 0);
    assert_eq!(keys(&store, Kind::Pack).len(), 10);
}

#[test]
fn where_segments_cannot_be_read_either_the_index_is_rebuilt_once_they_can() {
    let fails = Arc::new(AtomicBool::new(false));
    let disk = FaultyDisk::new(0);
    let home = Box::new(FailingHome(fails.clone()));
    let store = open::open(Arc::new(disk.clone()), home, Path::new(DIR), config()).unwrap();
    put(&store, b"a", b"a");
    disk.set_faults(Faults { read_error: 1000, ..Faults::default() });
    fails.store(true, Ordering::SeqCst);
    assert!(matches!(store.contains(Kind::Pack, b"a"), Err(ReadError::Io { .. })));
    assert!(matches!(store.put(Kind::Pack, b"b", b"", &[]), Err(WriteError::Io { .. })));
    disk.set_faults(Faults::default());
    put(&store, b"c", b"c");
    assert_eq!(keys(&store, Kind::Pack), [b"a", b"c"]);
}
