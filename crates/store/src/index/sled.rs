//! The index in sled.
//!
//! sled 0.34 can panic or lose keys when its files are not as it left them, so they are opened only if their digest is
//! the one a clean close wrote, each index has a folder of its own, and every call is guarded against panics. An error
//! at any time means: rebuild.

use std::fs;
use std::io::{self, Read};
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::memory::MemoryIndex;
use super::{Closed, Entry, Index, IndexError, IndexHome};

/// Bytes of a stored entry: segment, offset, body and meta length, little-endian.
const ENTRY_LEN: usize = 28;

/// Bytes hashed at a time.
const HASH_LEN: usize = 256 << 10;

/// A folder of sled folders, of which one is in use.
pub(crate) struct SledHome {
    dir: PathBuf,
    cache_len: u64,
}

struct SledIndex {
    db: Option<sled::Db>, // `None` only while it is dropped
    dir: PathBuf,
    folder: u64,
}

impl SledHome {
    pub(crate) fn new(dir: PathBuf, cache_len: u64) -> Self {
        Self { dir, cache_len }
    }

    fn open(&self, folder: u64) -> Result<Box<dyn Index>, IndexError> {
        let dir = self.dir.join(folder.to_string());
        let config = sled::Config::new().path(&dir).cache_capacity(self.cache_len).flush_every_ms(None);
        let db = guarded(|| Ok(config.open()?))?;
        Ok(Box::new(SledIndex { db: Some(db), dir, folder }))
    }

    /// The folders there are, with their numbers.
    fn folders(&self) -> Vec<(u64, PathBuf)> {
        let Ok(entries) = fs::read_dir(&self.dir) else { return Vec::new() };
        let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
        paths.map(|path| (path.file_name().and_then(|n| n.to_str()?.parse().ok()).unwrap_or(0), path)).collect()
    }
}

impl IndexHome for SledHome {
    fn reopen(&self, closed: &Closed) -> Option<Box<dyn Index>> {
        if *closed == Closed::GONE {
            return None;
        }
        let dir = self.dir.join(closed.folder.to_string());
        match digest(&dir) {
            Ok(found) if found == closed.digest => {}
            Ok(_) => {
                tracing::warn!(dir = %dir.display(), "the index is not as it was closed");
                return None;
            }
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the index cannot be read");
                return None;
            }
        }
        match self.open(closed.folder) {
            Ok(index) => Some(index),
            Err(error) => {
                tracing::warn!(dir = %dir.display(), %error, "the index does not open");
                None
            }
        }
    }

    fn create(&self) -> Box<dyn Index> {
        let folders = self.folders();
        let folder = 1 + folders.iter().map(|(number, _)| *number).max().unwrap_or(0);
        for (_, path) in folders {
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "an old index stays");
            }
        }
        self.open(folder).unwrap_or_else(|error| {
            tracing::warn!(dir = %self.dir.display(), %error, "no index can be made here, it is kept in memory");
            Box::new(MemoryIndex::default())
        })
    }
}

impl SledIndex {
    fn with<T>(&self, run: impl FnOnce(&sled::Db) -> Result<T, IndexError>) -> Result<T, IndexError> {
        guarded(|| run(self.db.as_ref().expect("only dropping takes the database")))
    }
}

impl Index for SledIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, IndexError> {
        self.with(|db| db.get(key)?.map(|value| decode(&value)).transpose())
    }

    fn set(&self, key: &[u8], entry: Option<Entry>) -> Result<Option<Entry>, IndexError> {
        self.with(|db| {
            let before = match entry {
                Some(entry) => db.insert(key, &encode(&entry))?,
                None => db.remove(key)?,
            };
            before.map(|value| decode(&value)).transpose()
        })
    }

    fn page(&self, after: &[u8], count: usize) -> Result<Vec<(Vec<u8>, Entry)>, IndexError> {
        self.with(|db| {
            let following = db.range::<&[u8], _>((Bound::Excluded(after), Bound::Unbounded));
            let mut page = Vec::new();
            for pair in following.take(count) {
                let (key, value) = pair?;
                page.push((key.to_vec(), decode(&value)?));
            }
            Ok(page)
        })
    }

    fn close(mut self: Box<Self>) -> Closed {
        let flushed = self.with(|db| Ok(db.flush()?));
        let db = self.db.take();
        let dropped = guarded(|| {
            drop(db);
            Ok(())
        });
        if let Err(error) = flushed.and(dropped) {
            tracing::warn!(dir = %self.dir.display(), %error, "the index did not close");
            return Closed::GONE;
        }
        match make_durable(&self.dir).and_then(|()| digest(&self.dir)) {
            Ok(digest) => Closed { folder: self.folder, digest },
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "the index did not close");
                Closed::GONE
            }
        }
    }
}

impl Drop for SledIndex {
    fn drop(&mut self) {
        let db = self.db.take();
        if let Err(error) = guarded(|| {
            drop(db);
            Ok(())
        }) {
            tracing::warn!(dir = %self.dir.display(), %error, "the index did not close");
        }
    }
}

/// Turns a panic inside sled into an error. What it panicked over is thrown away by whoever sees the error.
fn guarded<T>(run: impl FnOnce() -> Result<T, IndexError>) -> Result<T, IndexError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or(Err(IndexError::Panicked))
}

fn encode(entry: &Entry) -> [u8; ENTRY_LEN] {
    let mut bytes = [0; ENTRY_LEN];
    bytes[0..8].copy_from_slice(&entry.segment.to_le_bytes());
    bytes[8..16].copy_from_slice(&entry.offset.to_le_bytes());
    bytes[16..24].copy_from_slice(&entry.body_len.to_le_bytes());
    bytes[24..28].copy_from_slice(&entry.meta_len.to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Result<Entry, IndexError> {
    let bytes: &[u8; ENTRY_LEN] = bytes.try_into().map_err(|_| IndexError::Malformed { got: bytes.len() })?;
    let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let meta_len = u32::from_le_bytes(bytes[24..28].try_into().expect("four bytes"));
    Ok(Entry { segment: u64_at(0), offset: u64_at(8), body_len: u64_at(16), meta_len })
}

/// The paths of all files below `dir`, in order.
fn files_below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            files.extend(files_below(&entry.path())?);
        } else {
            files.push(entry.path());
        }
    }
    files.sort();
    Ok(files)
}

/// The digest of all names, lengths and bytes below `dir`.
fn digest(dir: &Path) -> io::Result<[u8; 32]> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; HASH_LEN];
    for path in files_below(dir)? {
        let name = path.strip_prefix(dir).expect("it lies below").to_string_lossy().into_owned();
        let mut file = fs::File::open(&path)?;
        hasher.update((name.len() as u64).to_le_bytes());
        hasher.update(name.as_bytes());
        hasher.update(file.metadata()?.len().to_le_bytes());
        loop {
            let got = file.read(&mut buffer)?;
            if got == 0 {
                break;
            }
            hasher.update(&buffer[..got]);
        }
    }
    Ok(hasher.finalize().into())
}

/// sled does not: without this a power loss soon after a clean close would cost a rebuild.
fn make_durable(dir: &Path) -> io::Result<()> {
    for path in files_below(dir)? {
        fs::File::open(path)?.sync_all()?;
    }
    fs::File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: Entry = Entry { segment: 1 << 40, offset: 2, meta_len: 3, body_len: 4 };

    #[test]
    fn a_closed_index_is_found_again_and_a_changed_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let home = SledHome::new(dir.path().join("index"), 1 << 20);
        let index = home.create();
        index.set(b"key", Some(ENTRY)).unwrap();
        let closed = index.close();
        let index = home.reopen(&closed).unwrap();
        assert_eq!(index.get(b"key").unwrap(), Some(ENTRY));
        let closed = index.close();
        let db = home.dir.join(closed.folder.to_string()).join("db");
        let mut bytes = fs::read(&db).unwrap();
        bytes[17] ^= 1;
        fs::write(&db, bytes).unwrap();
        assert!(home.reopen(&closed).is_none());
    }

    #[test]
    fn a_new_index_has_a_folder_of_its_own_and_the_old_one_goes() {
        let dir = tempfile::tempdir().unwrap();
        let home = SledHome::new(dir.path().join("index"), 1 << 20);
        let old = home.create();
        old.set(b"key", Some(ENTRY)).unwrap();
        let new = home.create();
        assert_eq!(new.get(b"key").unwrap(), None);
        assert_eq!(home.folders().iter().map(|(number, _)| *number).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn where_no_folder_can_be_made_the_index_is_in_memory() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let index = SledHome::new(file.path().join("index"), 1 << 20).create();
        index.set(b"key", Some(ENTRY)).unwrap();
        assert_eq!(index.get(b"key").unwrap(), Some(ENTRY));
        assert_eq!(index.close(), Closed::GONE);
    }

    #[test]
    fn a_value_of_another_length_is_malformed_and_a_panic_is_an_error() {
        assert!(matches!(decode(&[0; 27]), Err(IndexError::Malformed { got: 27 })));
        assert!(matches!(guarded(|| -> Result<(), _> { panic!("inside sled") }), Err(IndexError::Panicked)));
        assert_eq!(decode(&encode(&ENTRY)).unwrap(), ENTRY);
    }
}
