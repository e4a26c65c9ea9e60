//! What the writers know: the segments, how much of them counts, and what a failed sync left in doubt.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::index::{Entry, Index, IndexError, index_key};
use crate::item::Position;
use crate::record::{GAP, Head};
use crate::segment::SEGMENT_HEAD_LEN;

/// Guarded by one mutex; appending holds it, syncing does not.
#[derive(Default)]
pub(crate) struct Log {
    pub(crate) segments: BTreeMap<u64, Segment>,
    /// Never given twice, not even if a segment could not be made.
    pub(crate) next_number: u64,
    /// The segment that is appended to, the last one; `None` if the next write begins a new one.
    pub(crate) writer: Option<Writer>,
    /// Somebody syncs the writer's file. Nobody else may: a failure is told only once.
    pub(crate) syncing: bool,
    /// Segments whose files are longer than what counts of them for good, and how much that is.
    pub(crate) ended: BTreeMap<u64, u64>,
    /// What a failed sync left in doubt, to be written again before anything else is.
    pub(crate) doubtful: VecDeque<Doubtful>,
    /// A doubtful record cannot be read back: where. Nothing is acknowledged any more.
    pub(crate) lost: Option<Position>,
    pub(crate) items: u64,
    /// The removal of a segment may not be durable, so tombstones must stay.
    pub(crate) removed_may_return: bool,
}

/// Bytes of a segment that may or may not have reached the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Doubtful {
    pub(crate) segment: u64,
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A segment: bytes that count, of live records, and of tombstones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Segment {
    pub(crate) len: u64,
    pub(crate) live: u64,
    pub(crate) tombstones: u64,
}

#[derive(Clone)]
pub(crate) struct Writer {
    pub(crate) number: u64,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) durable: u64,
    /// Half a record stands behind what counts and could not be cut off.
    pub(crate) has_torn_end: bool,
}

impl Log {
    /// Where the last record ends.
    pub(crate) fn position(&self) -> Position {
        let last = self.segments.last_key_value();
        last.map_or_else(Position::default, |(number, segment)| Position { segment: *number, end: segment.len })
    }

    /// The last segment and how much of it counts for good: what the next segment's head says.
    pub(crate) fn settled(&self) -> Position {
        let Position { segment, end } = self.position();
        Position { segment, end: self.ended.get(&segment).copied().unwrap_or(end) }
    }

    pub(crate) fn segment(&mut self, number: u64) -> &mut Segment {
        self.segments.entry(number).or_insert(Segment { len: SEGMENT_HEAD_LEN, ..Segment::default() })
    }

    /// Points the index to an entry or to none and counts what lives.
    pub(crate) fn point(&mut self, index: &dyn Index, key: &[u8], to: Option<Entry>) -> Result<(), IndexError> {
        let key_len = key.len() - 1; // without the kind
        if let Some(before) = index.set(key, to)? {
            self.items -= 1;
            self.segment(before.segment).live -= before.byte_len(key_len);
        }
        if let Some(entry) = to {
            self.items += 1;
            self.segment(entry.segment).live += entry.byte_len(key_len);
        }
        Ok(())
    }

    /// Takes in a record that a walk came past.
    pub(crate) fn learn(&mut self, index: &dyn Index, segment: u64, head: &Head, key: &[u8]) -> Result<(), IndexError> {
        if head.kind == GAP {
            return Ok(());
        }
        if head.tombstone {
            self.segment(segment).tombstones += head.end() - head.offset;
        }
        let to = (!head.tombstone).then(|| head.entry(segment));
        head.keys(key).iter().try_for_each(|key| self.point(index, &index_key(head.kind, key), to))
    }

    /// Before everything is learnt anew.
    pub(crate) fn forget_counts(&mut self) {
        self.items = 0;
        for segment in self.segments.values_mut() {
            (segment.live, segment.tombstones) = (0, 0);
        }
    }
}
