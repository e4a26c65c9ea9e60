//! Looks at all files but the records in them: which segments there are, and what is known of how much of them counts.

use std::path::Path;

use super::{Found, Opener, Opening};
use crate::disk::{Disk, Open, read_file, remove_if_there, replace_file};
use crate::error::{At, Fault, OpenError};
use crate::item::Part;
use crate::marks::{CLEAN_LEN_MAX, Clean, FORMAT_LEN, Format, SYNCED_LEN, Synced};
use crate::segment::{FORMAT, HeadState, SEGMENT_HEAD_LEN, SegmentHead, segment_number, segment_path, segments_dir};
use crate::store::log::Log;
use crate::walk::Walked;

impl<'a> Opener<'a> {
    /// Looks at all files but the records in them.
    pub(super) fn survey(disk: &'a dyn Disk, dir: &'a Path) -> Result<Self, OpenError> {
        let mut opener = Self {
            disk,
            dir,
            salt: [0; 16],
            found: Vec::new(),
            clean: None,
            opening: Opening::default(),
            log: Log::default(),
        };
        let format = opener.read_format()?;
        opener.find_segments()?;
        opener.salt = opener.settle_salt(format)?;
        opener.take_clean()?;
        opener.settle_zones()?;
        let last = opener.found.last().map_or(0, |found| found.number);
        opener.log.next_number = last.max(opener.log.next_number) + 1;
        Ok(opener)
    }

    fn read_format(&self) -> Result<Option<Format>, OpenError> {
        let path = self.dir.join("format");
        let format = read_file(self.disk, &path, FORMAT_LEN).at(&path)?.and_then(|bytes| Format::decode(&bytes));
        match format {
            Some(Format { version, .. }) if version > FORMAT => {
                Err(OpenError::NewerFormat { path, found: version, known: FORMAT })
            }
            other => Ok(other),
        }
    }

    fn find_segments(&mut self) -> Result<(), OpenError> {
        let folder = segments_dir(self.dir);
        // What is seen here must not come back otherwise after a power loss.
        self.disk.sync_dir(&folder).at(&folder)?;
        let names = self.disk.list(&folder).at(&folder)?;
        let mut numbers: Vec<u64> = names.iter().filter_map(|name| segment_number(name)).collect();
        numbers.sort_unstable();
        for &number in &numbers {
            let path = segment_path(self.dir, number);
            let file = self.disk.open(&path, Open::Write).at(&path)?;
            let file_len = file.byte_len().at(&path)?;
            let state = SegmentHead::read(&*file, number).at(&path)?;
            let is_whole = matches!(state, HeadState::Good(_) | HeadState::Newer(_));
            if file_len <= SEGMENT_HEAD_LEN && !is_whole {
                // It never was whole: records are only written once the head is durable.
                self.disk.remove(&path).and_then(|()| self.disk.sync_dir(&folder)).at(&path)?;
                self.log.next_number = self.log.next_number.max(number);
                continue;
            }
            let head = match state {
                HeadState::Good(head) => Some(head),
                HeadState::Newer(found) => return Err(OpenError::NewerFormat { path, found, known: FORMAT }),
                HeadState::OneCopy(head) => {
                    self.opening.damaged(number, 0, SEGMENT_HEAD_LEN, Part::SegmentHead, None);
                    Some(head)
                }
                HeadState::Bad => {
                    self.opening.damaged(number, 0, SEGMENT_HEAD_LEN, Part::SegmentHead, None);
                    None
                }
            };
            self.found.push(Found { number, file, file_len, head, zone: file_len });
        }
        Ok(())
    }

    /// The salt stands in the `format` file and in every segment; it is drawn for a new store.
    fn settle_salt(&self, format: Option<Format>) -> Result<[u8; 16], OpenError> {
        if let Some(format) = format {
            return Ok(format.salt);
        }
        let salt = match self.found.iter().find_map(|found| found.head) {
            Some(head) => head.salt,
            None => {
                let mut salt = [0; 16];
                getrandom::fill(&mut salt).map_err(std::io::Error::other).at(self.dir)?;
                salt
            }
        };
        let written = replace_file(self.disk, self.dir, "format", &Format { version: FORMAT, salt }.encode());
        match written.at(self.dir.join("format")) {
            Err(fault) if self.found.is_empty() => Err(fault.into()),
            Err(fault) => {
                tracing::warn!(path = %fault.path.display(), error = %fault.source, "the damaged file stays");
                Ok(salt)
            }
            Ok(()) => Ok(salt),
        }
    }

    /// Reads the `clean` file and removes it, durably, before anything else is changed.
    fn take_clean(&mut self) -> Result<(), Fault> {
        let path = self.dir.join("clean");
        let Some(bytes) = read_file(self.disk, &path, CLEAN_LEN_MAX).at(&path)? else { return Ok(()) };
        remove_if_there(self.disk, &path).and_then(|()| self.disk.sync_dir(self.dir)).at(&path)?;
        self.clean = Clean::decode(&bytes);
        let listed = self.clean.iter().flat_map(|clean| &clean.segments).map(|segment| segment.number);
        let is_there = |number: &u64| self.found.iter().any(|found| found.number == *number);
        self.opening.missing = listed.filter(|number| !is_there(number)).collect();
        Ok(())
    }

    fn settle_zones(&mut self) -> Result<(), Fault> {
        for i in 0..self.found.len() {
            let closed = self.closed_len(self.found[i].number);
            let found = &self.found[i];
            let said = match self.found.get(i + 1) {
                Some(next) => next.head.filter(|head| head.before == found.number).map(|head| head.before_len),
                None => Some(self.marked(found)?),
            };
            // The clean file knows best: it may be of a time when the segment had no successor, but not a longer end.
            self.found[i].zone = closed.or(said).unwrap_or(found.file_len);
        }
        Ok(())
    }

    /// How much of a segment counted at the clean close that the store was opened after.
    pub(super) fn closed_len(&self, number: u64) -> Option<u64> {
        let segments = &self.clean.as_ref()?.segments;
        segments.iter().find(|segment| segment.number == number).map(|segment| segment.len)
    }

    /// How much of the last segment is known to be durable from its records and the `synced` file.
    fn marked(&self, last: &Found) -> Result<u64, Fault> {
        let path = self.dir.join("synced");
        let synced = read_file(self.disk, &path, SYNCED_LEN).at(&path)?.and_then(|bytes| Synced::decode(&bytes));
        let mut durable = synced.filter(|synced| synced.segment == last.number).map_or(SEGMENT_HEAD_LEN, |s| s.len);
        if self.closed_len(last.number).is_some() {
            return Ok(durable); // the clean file says more
        }
        let mut walk = self.walk(last, last.file_len);
        while let Some(walked) = walk.step().at(segment_path(self.dir, last.number))? {
            if let Walked::Record { head, .. } = walked {
                durable = durable.max(head.durable);
            }
        }
        Ok(durable)
    }
}
