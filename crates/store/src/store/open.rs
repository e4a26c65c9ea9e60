//! Opening: what counts of each segment, and the index over it.
//!
//! What counts of a segment that has a successor stands in the successor's head, and all of it is durable: what does
//! not verify there is damage. Of the last segment a part is known to be durable, from the heads of its records, the
//! `synced` file and the `clean` file. Behind that each record is verified whole: good ones count, and are made durable
//! before anybody sees them; bad ones are torn: they are cut off at the end of the segment, and closed by a gap's heads
//! in its middle, so that nobody takes them for damage, or for records, once what surrounds them is durable.

mod report;
mod survey;
mod tail;

use std::fs::{File, TryLockError};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, RwLock};

pub use self::report::{DAMAGE_REPORTED_MAX, Opening, Rebuilt, Torn};
use super::log::{Log, Writer};
use super::{Slot, Store};
use crate::config::Config;
use crate::disk::{Disk, DiskFile, LockError, Open};
use crate::error::{At, Fault, OpenError};
use crate::files::Files;
use crate::index::memory::MemoryIndex;
use crate::index::{Index, IndexError, IndexHome};
use crate::item::Part;
use crate::marks::Clean;
use crate::record::Seal;
use crate::segment::{SEGMENT_HEAD_LEN, SegmentHead, segment_path, segments_dir};
use crate::walk::{KnownBy, Walk, Walked};

/// Locked by the process that has the store open.
const LOCK: &str = "lock";

/// A segment file as it was found.
struct Found {
    number: u64,
    file: Arc<dyn DiskFile>,
    file_len: u64,
    head: Option<SegmentHead>,
    /// How much counts; of the last segment, how much is known to be durable.
    zone: u64,
}

/// Everything that opening gathers.
struct Opener<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    salt: [u8; 16],
    found: Vec<Found>,
    clean: Option<Clean>,
    opening: Opening,
    log: Log,
}

pub(super) fn open(
    disk: Arc<dyn Disk>,
    home: Box<dyn IndexHome>,
    dir: &Path,
    config: Config,
) -> Result<Store, OpenError> {
    let segments_dir = segments_dir(dir);
    disk.create_dir(dir).at(dir)?;
    disk.create_dir(&segments_dir).at(&segments_dir)?;
    let lock = lock(&*disk, dir)?;
    let mut opener = Opener::survey(&*disk, dir)?;
    let index = match opener.reopened(&*home) {
        Ok(index) => index,
        Err(reason) => opener.rebuilt(&*home, reason)?,
    };
    let Opener { salt, opening, log, .. } = opener;
    opening.tell(dir);
    Ok(Store {
        files: Files::new(disk.clone(), dir.to_path_buf()),
        synced: open_synced(&*disk, dir),
        disk,
        dir: dir.to_path_buf(),
        config,
        salt,
        home,
        log: Mutex::new(log),
        sync_over: Condvar::new(),
        index: RwLock::new(Slot { index: Some(index), generation: 0 }),
        opening,
        shut: false,
        _lock: lock,
    })
}

/// Whether a process has the store in `dir` open now.
pub fn is_in_use(dir: &Path) -> bool {
    let lock = File::open(dir.join(LOCK)).map(|file| file.try_lock_shared());
    matches!(lock, Ok(Err(TryLockError::WouldBlock)))
}

fn lock(disk: &dyn Disk, dir: &Path) -> Result<Box<dyn Send + Sync>, OpenError> {
    let path = dir.join(LOCK);
    disk.lock(&path, std::process::id()).map_err(|error| match error {
        LockError::Held { pid } => OpenError::Locked { pid, path: dir.to_path_buf() },
        LockError::Io(source) => OpenError::Io { path, source },
    })
}

/// The `synced` file; the store does without if it cannot be had.
fn open_synced(disk: &dyn Disk, dir: &Path) -> Option<Arc<dyn DiskFile>> {
    let path = dir.join("synced");
    let file = disk.open(&path, Open::Write).or_else(|_| disk.open(&path, Open::New));
    file.inspect_err(|error| tracing::warn!(path = %path.display(), %error, "what is durable is not marked")).ok()
}

impl Opener<'_> {
    /// The index as it was closed, if segments and index are as they were.
    fn reopened(&mut self, home: &dyn IndexHome) -> Result<Box<dyn Index>, Rebuilt> {
        let clean = self.clean.as_ref().ok_or(Rebuilt::NotClosed)?;
        let there = self.found.iter().map(|found| (found.number, found.file_len));
        if !there.eq(clean.segments.iter().map(|segment| (segment.number, segment.file_len))) {
            return Err(Rebuilt::SegmentsDiffer);
        }
        let index = home.reopen(&clean.index).ok_or(Rebuilt::IndexDiffers)?;
        self.log.items = clean.items;
        for segment in &clean.segments {
            let counted = self.log.segment(segment.number);
            (counted.len, counted.live, counted.tombstones) = (segment.len, segment.live, segment.tombstones);
            if segment.len < segment.file_len {
                self.log.ended.insert(segment.number, segment.len);
            }
        }
        if let Some(last) = self.found.last().filter(|last| last.zone == last.file_len) {
            self.log.writer = Some(last.writer(last.file_len));
        }
        Ok(index)
    }

    /// An index made from the records.
    fn rebuilt(&mut self, home: &dyn IndexHome, reason: Rebuilt) -> Result<Box<dyn Index>, Fault> {
        self.opening.rebuilt = (!self.found.is_empty() || self.clean.is_some()).then_some(reason);
        let before = self.opening.clone();
        let index = home.create();
        if let Err(error) = self.index_all(&*index)? {
            tracing::warn!(%error, "the new index has failed, it is kept in memory until the next open");
            drop(index);
            let index = Box::new(MemoryIndex::default());
            (self.log, self.opening) = (Log { next_number: self.log.next_number, ..Log::default() }, before);
            self.index_all(&*index)?
                .map_err(|error| Fault { path: self.dir.join("index"), source: std::io::Error::other(error) })?;
            return Ok(index);
        }
        Ok(index)
    }

    fn index_all(&mut self, index: &dyn Index) -> Result<Result<(), IndexError>, Fault> {
        let found = std::mem::take(&mut self.found);
        let mut indexed = Ok(());
        for (i, segment) in found.iter().enumerate() {
            let is_last = i + 1 == found.len();
            // The last segment goes on unless the clean file says that its end was taken back.
            let is_open = is_last && self.closed_len(segment.number).is_none_or(|len| len == segment.file_len);
            indexed = if is_open { self.index_last(segment, index)? } else { self.index_settled(segment, index)? };
            if indexed.is_err() {
                break;
            }
        }
        self.found = found;
        Ok(indexed)
    }

    /// A segment of which we know what counts: all of that is durable.
    fn index_settled(&mut self, found: &Found, index: &dyn Index) -> Result<Result<(), IndexError>, Fault> {
        let len = found.zone.min(found.file_len);
        self.note_shortened(found);
        self.log.segment(found.number).len = len;
        if found.file_len > len {
            self.log.ended.insert(found.number, len);
        }
        let mut walk = self.walk(found, len);
        while let Some(walked) = walk.step().at(segment_path(self.dir, found.number))? {
            if let Err(error) = self.take_in(found.number, walked, true, index) {
                return Ok(Err(error));
            }
        }
        Ok(Ok(()))
    }

    /// Indexes a record; takes note of damage to what was durable.
    fn take_in(
        &mut self,
        segment: u64,
        walked: Walked,
        was_durable: bool,
        index: &dyn Index,
    ) -> Result<(), IndexError> {
        let (begin, end) = walked.place();
        let part = match &walked {
            Walked::Record { known_by: KnownBy::Opening, .. } => None,
            Walked::Record { known_by: KnownBy::Closing, .. } => Some(Part::Opening),
            Walked::Unreadable { .. } => Some(Part::Unreadable),
        };
        if let Some(part) = part.filter(|_| was_durable) {
            self.opening.damaged(segment, begin, end - begin, part, walked.item());
        }
        match &walked {
            Walked::Record { head, key, .. } => self.log.learn(index, segment, head, key),
            Walked::Unreadable { .. } => Ok(()),
        }
    }

    fn note_shortened(&mut self, found: &Found) {
        if found.zone > found.file_len {
            let len = found.zone - found.file_len;
            self.opening.damaged(found.number, found.file_len, len, Part::Unreadable, None);
        }
    }

    fn walk(&self, found: &Found, to: u64) -> Walk {
        Walk::new(found.file.clone(), self.seal(found.number), SEGMENT_HEAD_LEN, to)
    }

    fn seal(&self, number: u64) -> Seal {
        Seal::new(&self.salt, number)
    }
}

impl Found {
    fn writer(&self, durable: u64) -> Writer {
        Writer { number: self.number, file: self.file.clone(), durable, has_torn_end: false }
    }
}
