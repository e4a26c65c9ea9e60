//! What is known of a holder, in a form that outlives the process.
//!
//! Whoever could make an auditor start anew would else begin with a clean slate, and an honest holder would lose what it
//! had shown.

use std::time::Duration;

use bithealth_types::{NodeId, Time};

use super::pace::Pace;
use super::{AuditConfig, Auditor, CREDITS_MAX, Holder, Verdict, WEIGHT_MAX, Weight};

/// What an auditor knows of a holder. The times are those that [`Auditor::judge`] was told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// When it was last audited, and what that showed.
    pub last: Option<(Time, Verdict)>,
    /// What speaks against it for answers that were wrong or did not come, as the time until that is forgotten.
    pub wrong: Duration,
    /// The same for answers that came late.
    pub late: Duration,
    /// When that much spoke against it.
    pub weighed_at: Time,
    /// It was condemned and has not come back since.
    pub condemned: bool,
    /// When it passed, the latest last.
    pub passed: Vec<Time>,
    /// Audits in a row that it evaded.
    pub evasions: u32,
    /// When an admission counted last.
    pub lacks_at: Option<Time>,
    /// When an answer that was late, or did not come, counted last.
    pub late_at: Option<Time>,
    /// Bytes each second of its latest answers.
    pub rates: Vec<u64>,
    /// The most it was seen to send, in bytes each second.
    pub line: u64,
}

impl Auditor {
    /// What is known of a holder; none that was never audited.
    pub fn kept(&self, holder: &NodeId) -> Option<Kept> {
        self.holders.get(holder).map(Holder::keep)
    }

    /// Goes on with what was known of a holder. What lies ahead of `now`, as after a clock was set back, counts as of now:
    /// else nothing would be forgotten, and nobody audited, until that time has come.
    pub fn recall(&mut self, now: Time, holder: NodeId, kept: Kept) {
        self.holders.insert(holder, Holder::recall(now, &self.config, kept));
    }
}

impl Holder {
    fn keep(&self) -> Kept {
        let (rates, line) = self.pace.keep();
        Kept {
            last: self.last,
            wrong: self.weight.wrong,
            late: self.weight.late,
            weighed_at: self.weight_at,
            condemned: self.condemned,
            passed: self.passed.iter().copied().collect(),
            evasions: self.evasions,
            lacks_at: self.lacks_at,
            late_at: self.late_at,
            rates,
            line,
        }
    }

    fn recall(now: Time, config: &AuditConfig, kept: Kept) -> Self {
        let by_now = |at: Time| at.min(now);
        let weight = Weight { wrong: kept.wrong, late: kept.late };
        let surplus = kept.passed.len().saturating_sub(CREDITS_MAX);
        Self {
            last: kept.last.map(|(at, verdict)| (by_now(at), verdict)),
            weight: weight.less(weight.sum().saturating_sub(config.forget * WEIGHT_MAX)),
            weight_at: by_now(kept.weighed_at),
            condemned: kept.condemned,
            passed: kept.passed.into_iter().skip(surplus).map(by_now).collect(),
            evasions: kept.evasions,
            lacks_at: kept.lacks_at.map(by_now),
            late_at: kept.late_at.map(by_now),
            pace: Pace::recall(kept.rates, kept.line),
        }
    }
}
