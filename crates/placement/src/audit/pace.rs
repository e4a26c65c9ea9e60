//! Whether an answer came from a disk or over a line, as far as time tells.
//!
//! A holder is held to its own earlier answers, not to ours: the disk of an honest one may be slow, but it does not
//! become several times slower from one day to the next for good. One that always was as slow as a line is never told
//! apart from one that fetches, and nothing is held against it.

use std::collections::VecDeque;
use std::time::Duration;

use super::AuditConfig;

/// Answers that the pace of a holder follows from.
const ANSWERS_KEPT: usize = 32;
/// Fewer tell nothing about the disk.
const ANSWERS_NEEDED: usize = 4;
/// An honest answer comes within so many times what its disk takes on a good day: in the best quarter of its answers, so
/// that one that begins to fetch is found out before that is its pace.
const DISK_TIMES: u32 = 4;
/// What an answer may take however short it is: a queue, a disk that must spin up, a lost packet.
const DELAY: Duration = Duration::from_secs(2);

/// What the times of a holder's answers say about its disk and its line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Pace {
    /// Bytes each second, of the latest answers.
    rates: VecDeque<u64>,
    /// The most it was seen to send, in bytes each second.
    line: u64,
}

/// What the time of an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    /// Sooner than anybody could fetch the bytes.
    Early,
    /// A slow disk may need that long, and so may fetching.
    Unclear,
    /// Later than its disk should need, and as late as one that fetches.
    Late,
}

impl Pace {
    /// The rates of the latest answers, and the line's.
    pub(super) fn keep(&self) -> (Vec<u64>, u64) {
        (self.rates.iter().copied().collect(), self.line)
    }

    /// What [`Self::keep`] gave.
    pub(super) fn recall(rates: Vec<u64>, line: u64) -> Self {
        let surplus = rates.len().saturating_sub(ANSWERS_KEPT);
        Self { rates: rates.into_iter().skip(surplus).collect(), line }
    }

    /// Takes an answer into account. `took` is without the round trip, or a disk far away would seem slow.
    pub(super) fn note(&mut self, bytes: u64, took: Duration, sent_per_s: Option<u64>) {
        self.line = self.line.max(sent_per_s.unwrap_or(0));
        if bytes == 0 {
            return;
        }
        if self.rates.len() == ANSWERS_KEPT {
            self.rates.pop_front();
        }
        self.rates.push_back(rate(bytes, took));
    }

    pub(super) fn judge(&self, config: &AuditConfig, bytes: u64, took: Duration) -> Timing {
        let (disk, line) = (disk_time(bytes, self.disk(config)), line_time(bytes, self.line(config)));
        match () {
            () if took * 2 <= line => Timing::Early,
            () if disk >= line => Timing::Unclear,
            () if took <= disk => Timing::Early,
            () if took < line => Timing::Unclear,
            () => Timing::Late,
        }
    }

    /// The least bytes that take longer to fetch than to read; none where that is never so.
    pub(super) fn bytes_apart(&self, config: &AuditConfig) -> Option<u64> {
        let (disk, line) = (u128::from(self.disk(config)), u128::from(self.line(config)));
        let times = u128::from(DISK_TIMES);
        // bytes / line > DELAY + times * bytes / disk, solved for bytes, and half as much again.
        let slack = disk.checked_sub(times * line).filter(|slack| *slack > 0)?;
        let bytes = DELAY.as_millis() * line * disk * 3 / 2 / slack / 1000;
        u64::try_from(bytes).ok()
    }

    /// What its disk gives, as far as known: its rate on a good day, no less than is due of anybody.
    fn disk(&self, config: &AuditConfig) -> u64 {
        let good = match self.rates.len() {
            ..ANSWERS_NEEDED => 0,
            count => {
                let mut sorted: Vec<u64> = self.rates.iter().copied().collect();
                sorted.sort_unstable();
                sorted[count * 3 / 4]
            }
        };
        good.max(config.disk_bytes_per_s)
    }

    /// What its line may bring.
    fn line(&self, config: &AuditConfig) -> u64 {
        self.line.max(config.line_bytes_per_s).max(1)
    }
}

/// The latest that an honest disk of this rate answers.
pub(super) fn disk_time(bytes: u64, bytes_per_s: u64) -> Duration {
    DELAY + DISK_TIMES * time(bytes, bytes_per_s)
}

/// The soonest that a line of this rate brings the bytes.
pub(super) fn line_time(bytes: u64, bytes_per_s: u64) -> Duration {
    time(bytes, bytes_per_s)
}

fn time(bytes: u64, bytes_per_s: u64) -> Duration {
    let ms = u128::from(bytes) * 1000 / u128::from(bytes_per_s.max(1));
    Duration::from_millis(u64::try_from(ms).unwrap_or(u64::MAX / 1000))
}

fn rate(bytes: u64, took: Duration) -> u64 {
    let per_s = u128::from(bytes) * 1000 / took.as_millis().max(1);
    u64::try_from(per_s).unwrap_or(u64::MAX)
}
