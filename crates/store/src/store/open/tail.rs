//! The end of the last segment, of which nobody knows whether it was durable.

use super::{Found, Opener, Torn};
use crate::disk::read_exact;
use crate::error::{At, Fault};
use crate::index::{Index, IndexError};
use crate::item::{Kind, Part};
use crate::record::{GAP_KEY, Head, verify};
use crate::segment::{SEGMENT_HEAD_LEN, segment_path};
use crate::walk::Walked;

/// Bytes of an undecided tail written over themselves at a time.
const REWRITE_LEN: u64 = 1 << 20;

/// What of the last segment counts, and what of it was torn.
struct Tail {
    len: u64,
    /// A record ends there, so the next one can begin there.
    can_go_on: bool,
    bad: Vec<Walked>,
    /// Good records with a false head.
    half_headed: Vec<(Head, Vec<u8>)>,
}

impl Opener<'_> {
    /// The last segment: behind what is known to be durable every record is verified.
    pub(super) fn index_last(&mut self, found: &Found, index: &dyn Index) -> Result<Result<(), IndexError>, Fault> {
        let path = segment_path(self.dir, found.number);
        let known = found.zone.min(found.file_len);
        self.note_shortened(found);
        let can_go_on = known == SEGMENT_HEAD_LEN;
        let mut tail = Tail { len: known, can_go_on, bad: Vec::new(), half_headed: Vec::new() };
        let mut walk = self.walk(found, found.file_len);
        while let Some(walked) = walk.step().at(&path)? {
            for walked in walked.split_at(known) {
                let (begin, end) = walked.place();
                if begin < known {
                    tail.can_go_on = matches!(walked, Walked::Record { .. }) && end >= known;
                } else if self.check_tail(found, &walked, &mut tail).at(&path)? {
                    tail.can_go_on = true;
                } else {
                    tail.bad.push(walked);
                    continue;
                }
                tail.len = tail.len.max(end);
                if let Err(error) = self.take_in(found.number, walked, begin < known, index) {
                    return Ok(Err(error));
                }
            }
        }
        self.settle_tail(found, tail).at(path)?;
        Ok(Ok(()))
    }

    /// Whether a record that may not be durable is whole. One false head does not make it false.
    fn check_tail(&self, found: &Found, walked: &Walked, tail: &mut Tail) -> std::io::Result<bool> {
        let Walked::Record { head, key, .. } = walked else { return Ok(false) };
        Ok(match verify(&*found.file, self.seal(found.number), head, key)? {
            None => true,
            Some(Part::Opening | Part::Closing) => {
                tail.half_headed.push((*head, key.clone()));
                true
            }
            Some(_) => false,
        })
    }

    /// Cuts off or closes what is torn behind what is known to be durable, and makes the rest durable.
    fn settle_tail(&mut self, found: &Found, tail: Tail) -> std::io::Result<()> {
        let known = found.zone.min(found.file_len);
        let seal = self.seal(found.number);
        for (head, key) in &tail.half_headed {
            head.write_both(&*found.file, seal, key)?;
        }
        for bad in &tail.bad {
            let (begin, end) = bad.place();
            self.opening.torn(Torn { segment: found.number, offset: begin, len: end - begin, item: bad.item() });
            if let Some(gap) = Head::gap(begin, end).filter(|_| begin < tail.len) {
                gap.write_both(&*found.file, seal, GAP_KEY)?;
            }
        }
        if found.file_len > tail.len {
            found.file.truncate(tail.len)?;
        }
        if found.file_len > tail.len || tail.len > known {
            // Pages that an earlier failed sync gave up on count as written. Writing them over themselves makes sure
            // that the sync is about these bytes; at no time is there anything else in the file.
            let mut at = known;
            while at < tail.len {
                let len = (tail.len - at).min(REWRITE_LEN);
                let bytes = read_exact(&*found.file, at, len as usize)?;
                found.file.write_at(&[&bytes], at)?;
                at += len;
            }
            found.file.sync()?;
        }
        self.log.segment(found.number).len = tail.len;
        let is_whole = found.zone <= found.file_len && found.head.is_some();
        if tail.can_go_on && is_whole {
            self.log.writer = Some(found.writer(tail.len));
        }
        Ok(())
    }
}

impl Walked {
    pub(super) fn place(&self) -> (u64, u64) {
        match self {
            Self::Record { head: head @ Head { offset, .. }, .. } => (*offset, head.end()),
            Self::Unreadable { offset, len } => (*offset, offset + len),
        }
    }

    pub(super) fn item(&self) -> Option<(Kind, Vec<u8>)> {
        match self {
            Self::Record { head, key, .. } => Some((Kind::from_byte(head.kind)?, key.clone())),
            Self::Unreadable { .. } => None,
        }
    }

    /// A stretch that runs across `at` as two.
    fn split_at(self, at: u64) -> Vec<Self> {
        match self {
            Self::Unreadable { offset, len } if offset < at && at < offset + len => vec![
                Self::Unreadable { offset, len: at - offset },
                Self::Unreadable { offset: at, len: offset + len - at },
            ],
            whole => vec![whole],
        }
    }
}
