//! What is counted where it happens and shown by `GET /metrics`, since the node started.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use bithealth_exchange::Priority;
use bithealth_http::api::{AuditCounts, ByPurpose};
use bithealth_placement::Verdict;

/// What leaves are moved for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// As the want says that asks for them.
    Want(Priority),
    /// A shard is brought to its place.
    Place,
}

/// Counts. Cheap enough to be kept for every answer.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of leaves sent.
    pub sent: Bytes,
    /// Bytes of leaves received.
    pub received: Bytes,
    /// Wants of others answered with leaves.
    pub answered: Count,
    /// Wants of others for what does not lie here.
    pub missing: Count,
    /// Wants of others refused as too many.
    pub refused: Count,
    /// How often a peer was choked.
    pub chokes: Count,
    /// Audits of others, in the order of [`VERDICTS`].
    audits: [Count; VERDICTS.len()],
}

const VERDICTS: [Verdict; 7] = [
    Verdict::Kept,
    Verdict::Inconclusive,
    Verdict::Late,
    Verdict::Lacks,
    Verdict::False,
    Verdict::Evades,
    Verdict::Away,
];

/// One count.
#[derive(Debug, Default)]
pub struct Count(AtomicU64);

/// Bytes by purpose, in the order of [`ByPurpose`].
#[derive(Debug, Default)]
pub struct Bytes([Count; 5]);

impl Count {
    /// One more.
    pub fn one(&self) {
        self.add(1);
    }

    fn add(&self, more: u64) {
        self.0.fetch_add(more, Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Bytes {
    /// So many more, for this.
    pub fn add(&self, purpose: Purpose, len: usize) {
        let at = match purpose {
            Purpose::Want(Priority::Restore) => 0,
            Purpose::Want(Priority::Read) => 1,
            Purpose::Want(Priority::Repair) => 2,
            Purpose::Want(Priority::Audit) => 3,
            Purpose::Place => 4,
        };
        self.0[at].add(len as u64);
    }

    /// How many there were.
    pub fn get(&self) -> ByPurpose {
        let [restore, read, repair, audit, place] = self.0.each_ref().map(Count::get);
        ByPurpose { restore, read, repair, audit, place }
    }
}

impl Counters {
    /// An audit of another node ended.
    pub fn audited(&self, verdict: Verdict) {
        let at = VERDICTS.iter().position(|it| *it == verdict).expect("every verdict is listed");
        self.audits[at].one();
    }

    /// Audits that ended.
    pub fn audits(&self) -> AuditCounts {
        let [kept, inconclusive, late, lacks, r#false, evades, away] = self.audits.each_ref().map(Count::get);
        AuditCounts { kept, inconclusive, late, lacks, r#false, evades, away }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_count_for_what_they_were_moved_for() {
        let bytes = Bytes::default();
        let purposes = [Priority::Restore, Priority::Read, Priority::Repair, Priority::Audit].map(Purpose::Want);
        for (times, purpose) in (1..).zip(purposes.into_iter().chain([Purpose::Place])) {
            (0..times).for_each(|_| bytes.add(purpose, 10));
        }
        assert_eq!(bytes.get(), ByPurpose { restore: 10, read: 20, repair: 30, audit: 40, place: 50 });
    }

    #[test]
    fn audits_count_by_what_they_showed() {
        let counters = Counters::default();
        for (times, verdict) in (1..).zip(VERDICTS) {
            (0..times).for_each(|_| counters.audited(verdict));
        }
        let counted = AuditCounts { kept: 1, inconclusive: 2, late: 3, lacks: 4, r#false: 5, evades: 6, away: 7 };
        assert_eq!(counters.audits(), counted);
    }
}
