//! The store: segments, the index over them, and the lock that keeps others out.

pub(crate) mod compact;
pub(crate) mod log;
pub(crate) mod open;
pub(crate) mod read;
pub(crate) mod scrub;
pub(crate) mod write;

#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, RwLock};

use crate::config::Config;
use crate::disk::{Disk, DiskFile, replace_file};
use crate::error::{At, Fault, OpenError, WriteError};
use crate::files::Files;
use crate::index::memory::{MemoryHome, MemoryIndex};
use crate::index::sled::SledHome;
use crate::index::{Closed, Entry, Index, IndexError, IndexHome};
use crate::item::Usage;
use crate::marks::{Clean, CleanSegment};
use crate::record::Seal;
use crate::segment::{SEGMENT_HEAD_LEN, segment_path};
use crate::walk::{Walk, Walked};

use self::log::Log;
use self::open::Opening;

/// A store, open. Share it between threads behind an `Arc`.
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    config: Config,
    salt: [u8; 16],
    files: Files,
    home: Box<dyn IndexHome>,
    // Lock order: `log` before `index`. Readers take `index` alone.
    log: Mutex<Log>,
    sync_over: Condvar,
    index: RwLock<Slot>,
    synced: Option<Arc<dyn DiskFile>>,
    opening: Opening,
    shut: bool,
    _lock: Box<dyn Send + Sync>,
}

/// The index in use; `None` if it failed and a rebuild did too. The generation tells one rebuild from another.
struct Slot {
    index: Option<Box<dyn Index>>,
    generation: u64,
}

impl Store {
    /// Opens the store in `dir`, or makes one.
    ///
    /// After a clean close this reads the index alone. Otherwise it goes through the heads of all records, verifies what
    /// may not have been durable, and cuts off a torn tail; [`Store::opening`] tells what it found.
    ///
    /// # Errors
    /// [`OpenError::Locked`] if another process has it, [`OpenError::NewerFormat`] if a newer program wrote it, and
    /// [`OpenError::Io`]. Damage is no error: it is reported.
    pub fn open(dir: &Path, config: Config) -> Result<Self, OpenError> {
        let home = SledHome::new(dir.join("index"), config.index_cache_len);
        open::open(Arc::new(crate::OsDisk), Box::new(home), dir, config)
    }

    /// Opens the store in `dir` of any disk, with an index in memory that each open rebuilds.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn open_on(disk: Arc<dyn Disk>, dir: &Path, config: Config) -> Result<Self, OpenError> {
        open::open(disk, Box::new(MemoryHome), dir, config)
    }

    /// What opening found: whether the index had to be rebuilt, what was damaged, what was cut off.
    pub fn opening(&self) -> &Opening {
        &self.opening
    }

    /// How much the store holds.
    pub fn usage(&self) -> Usage {
        let log = self.lock_log();
        Usage {
            bytes: log.segments.values().map(|segment| segment.len).sum(),
            live_bytes: log.segments.values().map(|segment| segment.live).sum(),
            items: log.items,
        }
    }

    /// Bytes left on the disk for this user.
    ///
    /// # Errors
    /// What the system says.
    pub fn free_space(&self) -> std::io::Result<u64> {
        self.disk.free_space(&self.dir)
    }

    /// Makes everything durable and closes the index, so that the next open is quick. Dropping a store does the same
    /// as well as it can.
    ///
    /// # Errors
    /// As [`Store::sync`]. The store is closed all the same; the next open rebuilds the index.
    pub fn close(mut self) -> Result<(), WriteError> {
        self.shut()
    }

    fn shut(&mut self) -> Result<(), WriteError> {
        self.shut = true;
        let upto = self.lock_log().position();
        self.sync(upto)?;
        let slot = self.index.get_mut().expect("nothing panics while it holds the index");
        let index = slot.index.take().map_or(Closed::GONE, Index::close);
        let log = self.log.get_mut().expect("nothing panics while it holds the log");
        let mut segments = Vec::new();
        for (&number, segment) in &log.segments {
            let path = segment_path(&self.dir, number);
            let file_len = self.files.get(number).and_then(|file| file.byte_len()).at(path)?;
            let log::Segment { len, live, tombstones } = *segment;
            segments.push(CleanSegment { number, file_len, len, live, tombstones });
        }
        let clean = Clean { index, items: log.items, segments };
        replace_file(&*self.disk, &self.dir, "clean", &clean.encode()).at(self.dir.join("clean"))?;
        Ok(())
    }

    fn seal(&self, segment: u64) -> Seal {
        Seal::new(&self.salt, segment)
    }

    fn path(&self, segment: u64) -> PathBuf {
        segment_path(&self.dir, segment)
    }

    fn lock_log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().expect("nothing panics while it holds the log")
    }

    /// Asks the index; one that has failed is rebuilt first.
    fn with_index<T>(&self, run: impl Fn(&dyn Index) -> Result<T, IndexError>) -> Result<T, Fault> {
        let seen = match self.try_index(&run) {
            Ok(value) => return Ok(value),
            Err((_, generation)) => generation,
        };
        let mut log = self.lock_log();
        if self.generation() == seen {
            self.rebuild(&mut log)?;
        }
        self.try_index(&run).map_err(|(error, _)| self.index_fault(error))
    }

    /// As [`Store::with_index`], for those who hold the log.
    fn with_index_locked<T>(
        &self,
        log: &mut Log,
        run: impl Fn(&dyn Index) -> Result<T, IndexError>,
    ) -> Result<T, Fault> {
        if let Ok(value) = self.try_index(&run) {
            return Ok(value);
        }
        self.rebuild(log)?;
        self.try_index(&run).map_err(|(error, _)| self.index_fault(error))
    }

    fn try_index<T>(&self, run: impl Fn(&dyn Index) -> Result<T, IndexError>) -> Result<T, (Option<IndexError>, u64)> {
        let slot = self.index.read().expect("nothing panics while it holds the index");
        let Some(index) = &slot.index else { return Err((None, slot.generation)) };
        run(&**index).map_err(|error| (Some(error), slot.generation))
    }

    fn generation(&self) -> u64 {
        self.index.read().expect("nothing panics while it holds the index").generation
    }

    fn index_fault(&self, error: Option<IndexError>) -> Fault {
        let source = error.map_or_else(|| io::Error::other("the index is lost"), io::Error::other);
        Fault { path: self.dir.join("index"), source }
    }

    /// Makes a new index from what counts of every segment.
    fn rebuild(&self, log: &mut Log) -> Result<(), Fault> {
        tracing::warn!(dir = %self.dir.display(), "the index has failed and is rebuilt");
        let mut slot = self.index.write().expect("nothing panics while it holds the index");
        slot.generation += 1;
        drop(slot.index.take());
        let index = match self.index_all(log, self.home.create())? {
            Ok(index) => index,
            Err(error) => {
                tracing::warn!(%error, "the new index has failed too, it is kept in memory until the next open");
                let memory = Box::new(MemoryIndex::default());
                self.index_all(log, memory)?.map_err(|error| self.index_fault(Some(error)))?
            }
        };
        slot.index = Some(index);
        Ok(())
    }

    fn index_all(&self, log: &mut Log, index: Box<dyn Index>) -> Result<Result<Box<dyn Index>, IndexError>, Fault> {
        log.forget_counts();
        let zones: Vec<(u64, u64)> = log.segments.iter().map(|(number, segment)| (*number, segment.len)).collect();
        for (number, len) in zones {
            let file = self.files.get(number).at(self.path(number))?;
            let mut walk = Walk::new(file, self.seal(number), SEGMENT_HEAD_LEN, len);
            while let Some(walked) = walk.step().at(self.path(number))? {
                if let Walked::Record { head, key, .. } = walked
                    && let Err(error) = log.learn(&*index, number, &head, &key)
                {
                    return Ok(Err(error));
                }
            }
        }
        Ok(Ok(index))
    }

    fn find(&self, key: &[u8]) -> Result<Option<Entry>, Fault> {
        self.with_index(|index| index.get(key))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if !self.shut
            && !std::thread::panicking()
            && let Err(error) = self.shut()
        {
            tracing::warn!(dir = %self.dir.display(), %error, "the store did not close cleanly");
        }
    }
}
