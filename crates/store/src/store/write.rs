//! Appending and syncing.

use std::io;
use std::sync::MutexGuard;

use super::Store;
use super::log::{Doubtful, Log, Writer};
use crate::disk::Open;
use crate::error::{At, Fault, WriteError};
use crate::index::{Entry, Index, index_key};
use crate::item::{BODY_LEN_MAX, KEY_LEN_MAX, Kind, META_LEN_MAX, Position};
use crate::marks::Synced;
use crate::record::{Checked, Draft, Head, RUN_KEY_LEN, read_body, read_meta, run_key};
use crate::segment::{SEGMENT_HEAD_LEN, SegmentHead, segments_dir};
use crate::walk::{Walk, Walked};

impl Store {
    /// Appends an item; it replaces what the key had. The parts of `body` are written one after the other, without
    /// being copied. Readers of this store see the item at once; it is durable after [`Store::sync`].
    ///
    /// # Errors
    /// [`WriteError::KeyLength`], [`WriteError::MetaLength`] and [`WriteError::BodyLength`] name the limit,
    /// [`WriteError::Full`] says that the disk has no room beyond the reserve. After [`WriteError::Io`] the write is
    /// rolled back.
    pub fn put(&self, kind: Kind, key: &[u8], meta: &[u8], body: &[&[u8]]) -> Result<Position, WriteError> {
        check_key(key)?;
        if meta.len() > META_LEN_MAX {
            return Err(WriteError::MetaLength { got: meta.len() });
        }
        let body_len = body.iter().map(|part| part.len() as u64).sum();
        if body_len > BODY_LEN_MAX {
            return Err(WriteError::BodyLength { got: body_len });
        }
        let draft = Draft::new(kind as u8, key, meta, body);
        self.refuse_if_full(draft.byte_len(), self.config.reserve_len)?;
        self.append(self.lock_log(), &draft)
    }

    /// Appends that a key is no more. Taken from the reserve, so that a full store can be emptied.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn remove(&self, kind: Kind, key: &[u8]) -> Result<Position, WriteError> {
        check_key(key)?;
        let mut log = self.lock_log();
        let index_key = index_key(kind as u8, key);
        if self.with_index_locked(&mut log, |index| index.get(&index_key))?.is_none() {
            return Ok(log.position());
        }
        self.append(log, &Draft::tombstone(kind as u8, key))
    }

    /// Appends, in one short record, that `count` keys are no more: `first`, and those that follow it when its last
    /// 8 bytes are a big-endian number that counts up. Taken from the reserve, as by [`Store::remove`].
    ///
    /// # Errors
    /// [`WriteError::RunKeyLength`] if `first` has less than 8 or more than 62 bytes, else as [`Store::put`].
    pub fn remove_run(&self, kind: Kind, first: &[u8], count: u16) -> Result<Position, WriteError> {
        if !RUN_KEY_LEN.contains(&first.len()) {
            return Err(WriteError::RunKeyLength { got: first.len() });
        }
        let key = run_key(first, count);
        let draft = Draft::tombstone_of_run(kind as u8, &key);
        let mut log = self.lock_log();
        let keys = draft.index_keys();
        let lives =
            |index: &dyn Index| keys.iter().try_fold(false, |lives, key| Ok(lives || index.get(key)?.is_some()));
        if !self.with_index_locked(&mut log, lives)? {
            return Ok(log.position());
        }
        self.append(log, &draft)
    }

    /// Returns once everything that was put up to `upto` is durable. The first of several threads syncs for all that
    /// wait.
    ///
    /// # Errors
    /// [`WriteError::Io`] if the disk fails to: nothing is acknowledged, all of it stays readable, and the next `sync` or
    /// `put` writes it anew, elsewhere. [`WriteError::Lost`] if that cannot be done.
    pub fn sync(&self, mut upto: Position) -> Result<(), WriteError> {
        let mut log = self.lock_log();
        loop {
            let was_moved = log.ended.get(&upto.segment).is_some_and(|&len| upto.end > len);
            if was_moved || !log.doubtful.is_empty() {
                log = self.settle(log)?;
                upto = log.position(); // what was in doubt was written again, before this
            }
            let Some(writer) = log.writer.clone().filter(|w| w.number == upto.segment && w.durable < upto.end) else {
                return Ok(());
            };
            if log.syncing {
                log = self.wait(log);
                continue;
            }
            log.syncing = true;
            let len = log.segment(writer.number).len;
            drop(log);
            let outcome = writer.file.sync();
            log = self.lock_log();
            log.syncing = false;
            self.sync_over.notify_all();
            self.synced(&mut log, len, outcome)?;
        }
    }

    /// Appends a record to the last segment or to a new one.
    pub(super) fn append(&self, log: MutexGuard<'_, Log>, draft: &Draft<'_>) -> Result<Position, WriteError> {
        let mut log = self.with_room(log, draft.byte_len())?;
        self.append_here(&mut log, draft)
    }

    /// Waits until a record of `len` bytes can be appended. Others may append meanwhile.
    pub(super) fn with_room<'a>(&self, log: MutexGuard<'a, Log>, len: u64) -> Result<MutexGuard<'a, Log>, WriteError> {
        let mut log = self.settle(log)?;
        while log.syncing && self.is_full_with(&mut log, len) {
            log = self.wait(log);
            log = self.settle(log)?;
        }
        Ok(log)
    }

    fn wait<'a>(&self, log: MutexGuard<'a, Log>) -> MutexGuard<'a, Log> {
        self.sync_over.wait(log).expect("nothing panics while it holds the log")
    }

    /// Writes again what a failed sync left in doubt.
    pub(super) fn settle<'a>(&self, mut log: MutexGuard<'a, Log>) -> Result<MutexGuard<'a, Log>, WriteError> {
        while log.syncing && !log.doubtful.is_empty() {
            log = self.wait(log);
        }
        while let Some(doubtful) = log.doubtful.front().copied() {
            if let Some(Position { segment, end }) = log.lost {
                return Err(WriteError::Lost { segment, durable: end });
            }
            self.write_again(&mut log, doubtful)?;
            let settled = log.doubtful.pop_front().expect("it was there, and more only come behind it");
            let len = log.ended[&settled.segment];
            log.segment(settled.segment).len = len;
        }
        Ok(log)
    }

    /// Appends what lives of the doubtful bytes of a segment, from the page cache, where they are what was written if
    /// their checksums say so. After an error the rest waits.
    fn write_again(&self, log: &mut Log, doubtful: Doubtful) -> Result<(), WriteError> {
        let Doubtful { segment, from, to } = doubtful;
        let path = self.path(segment);
        let seal = self.seal(segment);
        let file = self.files.get(segment).at(&path)?;
        let mut walk = Walk::new(file.clone(), seal, from, to);
        while let Some(walked) = walk.step().at(&path)? {
            let Walked::Record { head, key, .. } = walked else { return Err(self.lose(log, segment)) };
            let key_of_index = index_key(head.kind, &key);
            let entry = self.with_index_locked(log, |index| index.get(&key_of_index))?;
            if head.tombstone {
                let counted = &mut log.segment(segment).tombstones;
                *counted = counted.saturating_sub(head.end() - head.offset);
                for key in self.still_removed(log, &head, &key)? {
                    self.append_here(log, &Draft::tombstone_again(&head, &key))?;
                }
            } else if entry == Some(head.entry(segment)) {
                let Checked::Good(meta) = read_meta(&*file, &head).at(&path)? else {
                    return Err(self.lose(log, segment));
                };
                let Checked::Good((body, _)) = read_body(&*file, seal, &head, 0..head.body_len).at(&path)? else {
                    return Err(self.lose(log, segment));
                };
                self.append_here(log, &Draft::new(head.kind, &key, &meta, &[&body]))?;
            }
            if let Some(front) = log.doubtful.front_mut() {
                front.from = head.end();
            }
        }
        Ok(())
    }

    /// What of a tombstone must be said again later in the log: the keys that did not come back since, as keys of
    /// tombstones like it.
    pub(super) fn still_removed(&self, log: &mut Log, head: &Head, key: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        let mut gone = Vec::new();
        for key in head.keys(key) {
            let index_key = index_key(head.kind, &key);
            let lives = self.with_index_locked(log, |index| index.get(&index_key))?.is_some();
            gone.push((key, lives));
        }
        let runs = gone.chunk_by(|(_, one), (_, next)| head.run && one == next).filter(|run| !run[0].1);
        let key = |run: &[(Vec<u8>, bool)]| match head.run {
            true => run_key(&run[0].0, run.len() as u16),
            false => run[0].0.clone(),
        };
        Ok(runs.map(key).collect())
    }

    fn lose(&self, log: &mut Log, segment: u64) -> WriteError {
        let durable = log.ended[&segment];
        let path = self.path(segment);
        tracing::error!(path = %path.display(), durable, "what a failed sync left in doubt cannot be read back");
        log.lost = Some(Position { segment, end: durable });
        WriteError::Lost { segment, durable }
    }

    /// As [`Store::append`], for those who hold the log while nobody syncs, or where there is room.
    pub(super) fn append_here(&self, log: &mut Log, draft: &Draft<'_>) -> Result<Position, WriteError> {
        if self.is_full_with(log, draft.byte_len()) {
            self.end_segment(log)?;
        }
        if log.writer.is_none() {
            self.begin_segment(log)?;
        }
        let writer = log.writer.clone().expect("a segment was begun");
        let offset = log.segment(writer.number).len;
        let head = match draft.write(&*writer.file, self.seal(writer.number), offset, writer.durable) {
            Ok(head) => head,
            Err(source) => {
                self.roll_back(log, &writer, offset);
                return Err(self.write_error(&writer, draft.byte_len(), source));
            }
        };
        let segment = log.segment(writer.number);
        let before = *segment;
        segment.len = head.end();
        let to = (!draft.tombstone).then(|| head.entry(writer.number));
        if draft.index_keys().iter().all(|key| self.pointed(log, key, to)) {
            log.segment(writer.number).tombstones += if draft.tombstone { draft.byte_len() } else { 0 };
        } else if let Err(fault) = self.rebuild(log) {
            *log.segment(writer.number) = before;
            self.roll_back(log, &writer, offset);
            return Err(fault.into());
        } // else the rebuild came past the new record
        Ok(Position { segment: writer.number, end: head.end() })
    }

    /// Points the index to an entry; `false` if the index has failed.
    fn pointed(&self, log: &mut Log, key: &[u8], to: Option<Entry>) -> bool {
        let slot = self.index.read().expect("nothing panics while it holds the index");
        slot.index.as_ref().is_some_and(|index| log.point(&**index, key, to).is_ok())
    }

    /// Whether the last segment must end before a record of `len` bytes.
    fn is_full_with(&self, log: &mut Log, len: u64) -> bool {
        let Some(Writer { number, has_torn_end, .. }) = log.writer else { return false };
        let used = log.segment(number).len;
        has_torn_end || (used > SEGMENT_HEAD_LEN && used + len > self.config.segment_len())
    }

    /// Syncs the last segment, so that the next one's head can say that all of it counts. Even if all records are
    /// durable: what was cut off behind them must not come back once nobody remembers where they end.
    fn end_segment(&self, log: &mut Log) -> Result<(), WriteError> {
        let Some(writer) = log.writer.clone() else { return Ok(()) };
        let len = log.segment(writer.number).len;
        let outcome = writer.file.sync();
        self.synced(log, len, outcome)?;
        if writer.has_torn_end {
            log.ended.insert(writer.number, len);
        }
        log.writer = None;
        Ok(())
    }

    /// Makes a new segment, durably: its head says how much counts of the one before.
    fn begin_segment(&self, log: &mut Log) -> Result<(), WriteError> {
        let number = log.next_number;
        log.next_number += 1;
        let before = log.settled();
        let head = SegmentHead { number, salt: self.salt, before: before.segment, before_len: before.end };
        let path = self.path(number);
        let begun = self.disk.open(&path, Open::New).and_then(|file| {
            head.write(&*file)?;
            file.sync()?;
            self.disk.sync_dir(&segments_dir(&self.dir))?;
            Ok(file)
        });
        match begun {
            Ok(file) => {
                log.segment(number).len = SEGMENT_HEAD_LEN;
                log.writer = Some(Writer { number, file, durable: SEGMENT_HEAD_LEN, has_torn_end: false });
                Ok(())
            }
            Err(source) => {
                if let Err(error) = self.disk.remove(&path) {
                    tracing::warn!(path = %path.display(), %error, "a segment that could not be made stays, empty");
                }
                if is_full(&source) {
                    return Err(WriteError::Full { path: self.dir.clone(), need: SEGMENT_HEAD_LEN, free: 0 });
                }
                Err(WriteError::Io { path, source })
            }
        }
    }

    /// Takes note of how a sync of the first `len` bytes of the last segment ended.
    fn synced(&self, log: &mut Log, len: u64, outcome: io::Result<()>) -> Result<(), WriteError> {
        let Some(writer) = &mut log.writer else { return Ok(()) };
        if let Err(source) = outcome {
            let Writer { number, durable, .. } = *writer;
            let path = self.path(number);
            tracing::error!(path = %path.display(), error = %source, durable, "a sync failed, the segment is given up");
            log.writer = None;
            log.ended.insert(number, durable);
            let to = log.segment(number).len;
            log.doubtful.push_back(Doubtful { segment: number, from: durable, to });
            return Err(match is_full(&source) {
                true => WriteError::Full { path, need: to - durable, free: 0 },
                false => WriteError::Io { path, source },
            });
        }
        writer.durable = len;
        let mark = Synced { segment: writer.number, len };
        if let Some(file) = &self.synced
            && let Err(error) = file.write_at(&[&mark.encode()], 0)
        {
            tracing::debug!(%error, "the mark of what is durable stays behind");
        }
        Ok(())
    }

    /// Cuts off half a record; if that fails too, the segment ends in front of it.
    fn roll_back(&self, log: &mut Log, writer: &Writer, offset: u64) {
        if let Err(error) = writer.file.truncate(offset) {
            tracing::warn!(path = %self.path(writer.number).display(), %error, "half a record stays behind its segment");
            if let Some(writer) = &mut log.writer {
                writer.has_torn_end = true;
            }
        }
    }

    fn write_error(&self, writer: &Writer, need: u64, source: io::Error) -> WriteError {
        if is_full(&source) {
            let free = self.disk.free_space(&self.dir).unwrap_or(0);
            return WriteError::Full { path: self.dir.clone(), need, free };
        }
        WriteError::Io { path: self.path(writer.number), source }
    }

    /// Refuses `need` bytes that would leave less than `reserve` free.
    pub(super) fn refuse_if_full(&self, need: u64, reserve: u64) -> Result<(), WriteError> {
        let free = self.disk.free_space(&self.dir).at(&self.dir)?.saturating_sub(reserve);
        if need > free {
            return Err(WriteError::Full { path: self.dir.clone(), need, free });
        }
        Ok(())
    }
}

fn check_key(key: &[u8]) -> Result<(), WriteError> {
    if (1..=KEY_LEN_MAX).contains(&key.len()) { Ok(()) } else { Err(WriteError::KeyLength { got: key.len() }) }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::WriteZero)
}
