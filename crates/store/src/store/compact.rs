//! Gives the space of dead records back by rewriting segments that are mostly dead.
//!
//! What lives is appended again and synced before the old segment is removed, oldest first, so that a crash at any
//! time leaves one good copy, or two. A tombstone goes once no older segment can hold what it removes.

use super::Store;
use super::log::{Log, Segment};
use crate::disk::Open;
use crate::error::{At, Fault, WriteError};
use crate::index::index_key;
use crate::record::{Checked, Draft, Head, read_body, read_meta};
use crate::segment::{SEGMENT_HEAD_LEN, segments_dir};
use crate::walk::{Walk, Walked};

/// What a compaction did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Compacted {
    /// Segments rewritten and removed.
    pub rewritten: u64,
    /// Bytes of the segments removed, less what was written again.
    pub freed: u64,
    /// Segments that stay because something in them does not verify.
    pub damaged: Vec<u64>,
}

/// Whether everything of a segment that lives was copied.
enum Outcome {
    Copied(u64),
    Damaged,
}

impl Store {
    /// Rewrites every segment of which more than half is dead, but for the last.
    ///
    /// # Errors
    /// As [`Store::put`] and [`Store::sync`]; what was rewritten until then stays so.
    pub fn compact(&self) -> Result<Compacted, WriteError> {
        let mut done = Compacted::default();
        let numbers: Vec<u64> = self.lock_log().segments.keys().copied().collect();
        for number in numbers {
            let Some(segment) = self.mostly_dead(number) else { continue };
            self.refuse_if_full(segment.live + segment.tombstones, 0)?;
            match self.copy_live(number, segment.len)? {
                Outcome::Copied(copied) => {
                    self.remove_segment(number)?;
                    done.rewritten += 1;
                    done.freed += segment.len.saturating_sub(copied);
                }
                Outcome::Damaged => done.damaged.push(number),
            }
        }
        Ok(done)
    }

    fn mostly_dead(&self, number: u64) -> Option<Segment> {
        let log = self.lock_log();
        // The last one stays even if nobody writes to it: its number must not be given again.
        let is_last = log.position().segment == number;
        if is_last || log.doubtful.iter().any(|doubtful| doubtful.segment == number) {
            return None;
        }
        let segment = *log.segments.get(&number)?;
        let is_oldest = log.segments.first_key_value().is_some_and(|(first, _)| *first == number);
        let kept = segment.live + if is_oldest { 0 } else { segment.tombstones };
        let dead = (segment.len - SEGMENT_HEAD_LEN).saturating_sub(kept);
        (2 * dead > segment.len).then_some(segment).or((kept == 0).then_some(segment))
    }

    /// Appends what lives in a segment again, durably.
    fn copy_live(&self, number: u64, len: u64) -> Result<Outcome, WriteError> {
        let path = self.path(number);
        let file = self.files.get(number).at(&path)?;
        let seal = self.seal(number);
        let mut walk = Walk::new(file.clone(), seal, SEGMENT_HEAD_LEN, len);
        let mut copied = 0;
        while let Some(walked) = walk.step().at(&path)? {
            let Walked::Record { head, key, .. } = walked else { return Ok(Outcome::Damaged) };
            if head.tombstone {
                copied += self.copy_tombstone(number, &head, &key)?;
                continue;
            }
            if !self.points_to(number, &head, &key)? {
                continue;
            }
            let Checked::Good(meta) = read_meta(&*file, &head).at(&path)? else { return Ok(Outcome::Damaged) };
            let body = match read_body(&*file, seal, &head, 0..head.body_len).at(&path)? {
                Checked::Good((body, _)) => body,
                Checked::Bad(..) => return Ok(Outcome::Damaged),
            };
            let body: &[&[u8]] = &[&body];
            let draft = Draft::new(head.kind, &key, &meta, body);
            let mut log = self.with_room(self.lock_log(), draft.byte_len())?;
            let index_key = index_key(head.kind, &key);
            // While the log is locked nobody replaces it: the copy takes the place of exactly this record.
            if self.with_index_locked(&mut log, |index| index.get(&index_key))? == Some(head.entry(number)) {
                self.append_here(&mut log, &draft)?;
                copied += draft.byte_len();
            }
        }
        self.sync_all()?;
        // Nobody points to a segment anew that is not the last. What is still live is nowhere to be seen.
        let live = self.lock_log().segments.get(&number).map_or(0, |segment| segment.live);
        if live > 0 {
            return Ok(Outcome::Damaged);
        }
        Ok(Outcome::Copied(copied))
    }

    /// Appends a tombstone again, but for keys that live, and unless no older segment can hold what it removes.
    fn copy_tombstone(&self, number: u64, head: &Head, key: &[u8]) -> Result<u64, WriteError> {
        let mut log = self.lock_log();
        let is_oldest = log.segments.first_key_value().is_some_and(|(first, _)| *first == number);
        if is_oldest && !log.removed_may_return {
            return Ok(0);
        }
        let (mut copied, mut left) = (0, vec![key.to_vec()]);
        while let Some(key) = left.pop() {
            let draft = Draft::tombstone_again(head, &key);
            log = self.with_room(log, draft.byte_len())?;
            let removed = self.still_removed(&mut log, head, &key)?;
            if removed == [key.clone()] {
                self.append_here(&mut log, &draft)?;
                copied += draft.byte_len();
            } else {
                left.extend(removed); // shorter runs
            }
        }
        Ok(copied)
    }

    fn points_to(&self, number: u64, head: &Head, key: &[u8]) -> Result<bool, Fault> {
        Ok(self.find(&index_key(head.kind, key))? == Some(head.entry(number)))
    }

    fn sync_all(&self) -> Result<(), WriteError> {
        let upto = self.lock_log().position();
        self.sync(upto)
    }

    fn remove_segment(&self, number: u64) -> Result<(), WriteError> {
        let mut log = self.settle(self.lock_log())?;
        self.cut_before(&log, number)?;
        let path = self.path(number);
        self.disk.remove(&path).at(&path)?;
        self.files.forget(number);
        log.segments.remove(&number);
        let synced = self.disk.sync_dir(&segments_dir(&self.dir));
        log.removed_may_return |= synced.is_err();
        Ok(synced.at(path)?)
    }

    /// The head of a segment says how much counts of the one before. If that one's file is longer, it is cut first.
    fn cut_before(&self, log: &Log, number: u64) -> Result<(), Fault> {
        let Some((&before, _)) = log.segments.range(..number).next_back() else { return Ok(()) };
        let Some(&len) = log.ended.get(&before) else { return Ok(()) };
        let path = self.path(before);
        let cut = self.disk.open(&path, Open::Write).and_then(|file| {
            file.truncate(len)?;
            file.sync()
        });
        cut.at(path)
    }
}
