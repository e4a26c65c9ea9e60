//! Reads everything back.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use super::Store;
use crate::disk::DiskFile;
use crate::error::{At, Fault, ReadError};
use crate::index::index_key;
use crate::item::{Damage, Kind, Part};
use crate::record::{Head, verify};
use crate::segment::{HeadState, SEGMENT_HEAD_LEN, SegmentHead};
use crate::walk::{Walk, Walked};

/// Entries taken from the index at a time.
const PAGE_COUNT: usize = 256;

/// Goes through all segments; each step reads one record. Whoever drives it sets the pace.
pub struct Scrub<'a> {
    store: &'a Store,
    segments: BTreeSet<u64>,
    walk: Option<(u64, Arc<dyn DiskFile>, Walk)>,
}

/// What one step of a scrub read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scrubbed {
    /// Bytes read and verified.
    pub len: u64,
    /// What of them does not verify. Dead records are not looked at: nobody will read them.
    pub damage: Vec<Damage>,
}

impl Store {
    /// Reads every live record and tombstone back, in the order in which they lie on disk.
    pub fn scrub(&self) -> Scrub<'_> {
        let segments = self.lock_log().segments.keys().copied().collect();
        Scrub { store: self, segments, walk: None }
    }

    /// The items whose records lie in a stretch of a segment.
    pub(super) fn items_in(&self, segment: u64, from: u64, to: u64) -> Result<Vec<Damage>, Fault> {
        let mut items = Vec::new();
        let mut after = vec![0];
        loop {
            let page = self.with_index(|index| index.page(&after, PAGE_COUNT))?;
            for (key, entry) in &page {
                if entry.segment == segment && (from..to).contains(&entry.offset) {
                    let item = Kind::from_byte(key[0]).map(|kind| (kind, key[1..].to_vec()));
                    let len = entry.byte_len(key.len() - 1);
                    items.push(Damage { segment, offset: entry.offset, len, part: Part::Opening, item });
                }
            }
            match page.into_iter().last() {
                Some((last, _)) => after = last,
                None => return Ok(items),
            }
        }
    }

    fn is_live(&self, segment: u64, head: &Head, key: &[u8]) -> Result<bool, Fault> {
        for key in head.keys(key) {
            let entry = self.find(&index_key(head.kind, &key))?;
            let lives = if head.tombstone { entry.is_none() } else { entry == Some(head.entry(segment)) };
            if lives {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Scrub<'_> {
    fn step(&mut self) -> Result<Option<Scrubbed>, Fault> {
        loop {
            if let Some((segment, file, walk)) = &mut self.walk {
                let segment = *segment;
                match walk.step().at(self.store.path(segment))? {
                    None => self.walk = None,
                    Some(walked) => {
                        let file = file.clone();
                        return self.look_at(segment, &*file, walked).map(Some);
                    }
                }
            }
            let Some(segment) = self.segments.pop_first() else { return Ok(None) };
            if let Some(scrubbed) = self.begin(segment)? {
                return Ok(Some(scrubbed));
            }
        }
    }

    /// Begins a segment; `None` if it was rewritten meanwhile.
    fn begin(&mut self, segment: u64) -> Result<Option<Scrubbed>, Fault> {
        let Some(len) = self.store.lock_log().segments.get(&segment).map(|segment| segment.len) else {
            return Ok(None);
        };
        let path = self.store.path(segment);
        let file = match self.store.files.get(segment) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let is_gone = !self.store.lock_log().segments.contains_key(&segment);
                if is_gone {
                    return Ok(None);
                }
                return self.unreadable(segment, SEGMENT_HEAD_LEN, len - SEGMENT_HEAD_LEN).map(Some);
            }
            other => other.at(&path)?,
        };
        let mut scrubbed = Scrubbed { len: SEGMENT_HEAD_LEN, damage: Vec::new() };
        if !matches!(SegmentHead::read(&*file, segment).at(path)?, HeadState::Good(_)) {
            let part = Part::SegmentHead;
            scrubbed.damage.push(Damage { segment, offset: 0, len: SEGMENT_HEAD_LEN, part, item: None });
        }
        let walk = Walk::new(file.clone(), self.store.seal(segment), SEGMENT_HEAD_LEN, len);
        self.walk = Some((segment, file, walk));
        Ok(Some(scrubbed))
    }

    fn look_at(&self, segment: u64, file: &dyn DiskFile, walked: Walked) -> Result<Scrubbed, Fault> {
        let (head, key) = match walked {
            Walked::Unreadable { offset, len } => return self.unreadable(segment, offset, len),
            Walked::Record { head, key, .. } => (head, key),
        };
        if !self.store.is_live(segment, &head, &key)? {
            return Ok(Scrubbed::default());
        }
        let len = head.end() - head.offset;
        let bad = verify(file, self.store.seal(segment), &head, &key).at(self.store.path(segment))?;
        // It may have been replaced, and its segment rewritten, while we read.
        let bad = if bad.is_some() && !self.store.is_live(segment, &head, &key)? { None } else { bad };
        let item = Kind::from_byte(head.kind).map(|kind| (kind, key));
        let damage = bad.map(|part| Damage { segment, offset: head.offset, len, part, item });
        Ok(Scrubbed { len, damage: damage.into_iter().collect() })
    }

    fn unreadable(&self, segment: u64, offset: u64, len: u64) -> Result<Scrubbed, Fault> {
        let mut damage = self.store.items_in(segment, offset, offset + len)?;
        if damage.is_empty() {
            damage.push(Damage { segment, offset, len, part: Part::Unreadable, item: None });
        }
        Ok(Scrubbed { len, damage })
    }
}

impl Iterator for Scrub<'_> {
    type Item = Result<Scrubbed, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step();
        if step.is_err() {
            self.segments.clear();
            self.walk = None;
        }
        step.map_err(ReadError::from).transpose()
    }
}
