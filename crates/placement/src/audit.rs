//! Whom to audit next, what an answer shows, and who is suspected or condemned for it.
//!
//! An answer is true, false, an admission, or an evasion; a true one is also early or late. Time tells a disk from a line
//! only where the two lie apart ([`Pace`]): where they overlap nothing is held against anybody. What is held against a
//! holder fades with time and with every audit it passes, and only several failures in audits that lie apart condemn it.
//!
//! A node that cannot be reached is not audited: that is for [`crate::Absences`].

mod kept;
mod pace;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use bithealth_types::{NodeId, Time};

pub use kept::Kept;
use pace::{Pace, Timing};

/// Failures weigh this much, and are forgotten one after the other.
const FALSE_WEIGHT: u32 = 3;
const LACKS_WEIGHT: u32 = 2;
const LATE_WEIGHT: u32 = 1;
/// More than this condemns: two false answers, three admissions six hours apart, or six late answers a day apart, of
/// which a part is forgotten meanwhile, behind those that audits passed before make up for.
const CONDEMNED_AT: u32 = 4;
/// A condemned holder is so until less than this is left.
const RESTORED_BELOW: u32 = 1;
/// However bad a holder was, it comes back with as many good audits as make this up.
const WEIGHT_MAX: u32 = 8;
/// A true answer takes this much away.
const RELIEF: u32 = 1;
/// Audits passed lately that count: each makes up for one late answer.
const CREDITS_MAX: usize = 4;
/// Evasions in a row that are borne: a busy node and a bad line are no fault. Each further one counts like a late answer.
const EVASIONS_BORNE: u32 = 8;

/// An answer is waited for this many times as long as the slowest honest disk is due to take: five minutes for 16 MiB.
const PATIENCE_TIMES: u32 = 32;

/// How strict an auditor is. Composed in `node`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AuditConfig {
    /// Audits of one holder lie at least so far apart.
    pub apart: Duration,
    /// Of admissions only those count that lie so far apart: what is damaged takes a while to be repaired.
    pub lacks_apart: Duration,
    /// Of late answers, and of those that do not come, only those count that lie so far apart: a disk may be rebuilt, or a
    /// node be overrun, for a day.
    pub late_apart: Duration,
    /// In this time a holder is forgiven one late answer: a third of a false one.
    pub forget: Duration,
    /// An audit that was passed counts for so long.
    pub credit: Duration,
    /// Bytes each second that a line may bring to a holder, at least. One that was seen to be faster counts as faster.
    pub line_bytes_per_s: u64,
    /// Bytes each second that the disk of an honest holder gives, at least.
    pub disk_bytes_per_s: u64,
    /// Bytes of the shards of one audit, at least, where the holder has so much.
    pub bytes_min: u64,
    /// The same, at most.
    pub bytes_max: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self {
            apart: Duration::from_secs(30 * 60),
            lacks_apart: Duration::from_secs(6 * 3600),
            late_apart: Duration::from_secs(24 * 3600),
            forget: Duration::from_secs(3 * 24 * 3600),
            credit: Duration::from_secs(30 * 24 * 3600),
            line_bytes_per_s: 12 << 20, // 100 Mbit/s
            disk_bytes_per_s: 8 << 20,
            bytes_min: 16 << 20,
            bytes_max: 64 << 20,
        }
    }
}

/// What came of an audit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// All it answered is true, and it lacks nothing.
    True {
        /// Bytes of the shards it committed to.
        bytes: u64,
        /// How long it took to commit.
        took: Duration,
        /// How long a message and its answer take, as far as known. What a holder makes of that only binds itself.
        round_trip: Duration,
        /// Bytes each second at which it sent leaves, if that was measured: its line is no slower.
        sent_per_s: Option<u64>,
    },
    /// It says itself that it lacks a shard that it should have.
    Lacks,
    /// It answered something that is not so.
    False,
    /// It was there, and did not answer.
    Evaded,
    /// It was not there any more.
    Unreachable,
}

/// What an answer shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Verdict {
    /// It has the bytes, and on a disk: nobody fetches them that fast.
    Kept,
    /// It can get at the bytes. Whether it has them or fetches them the time does not tell.
    Inconclusive,
    /// It answered as late as one that fetches would, and later than its disk ever was.
    Late,
    /// It says itself that it lacks something.
    Lacks,
    /// It answered something that is not so.
    False,
    /// It does not answer, though it is there.
    Evades,
    /// It was away.
    Away,
}

/// How a holder stands with this auditor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Trust {
    /// Nothing speaks against it.
    #[default]
    Sound,
    /// It failed, not often enough to act on.
    Suspect,
    /// What it should hold counts as lost.
    Condemned,
}

/// What an auditor knows of a holder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Holder {
    /// When it was last audited, and what that showed.
    last: Option<(Time, Verdict)>,
    weight: Weight,
    weight_at: Time,
    condemned: bool,
    /// When it passed, the latest last.
    passed: VecDeque<Time>,
    evasions: u32,
    /// When an admission counted last.
    lacks_at: Option<Time>,
    /// When an answer that was late, or did not come, counted last.
    late_at: Option<Time>,
    pace: Pace,
}

/// What speaks against a holder, as the time until it is forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Weight {
    /// Answers that were wrong, and answers that did not come: any true answer speaks against that.
    wrong: Duration,
    /// Answers that came late: only an early one speaks against that.
    late: Duration,
}

/// Looks after the honesty of all holders that a node depends on.
#[derive(Clone, Debug)]
pub struct Auditor {
    config: AuditConfig,
    holders: BTreeMap<NodeId, Holder>,
}

/// A holder, as it is shown to people.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audited {
    /// Who.
    pub holder: NodeId,
    /// How it stands.
    pub trust: Trust,
    /// When it was last audited, and what that showed.
    pub last: Option<(Time, Verdict)>,
    /// When it last passed.
    pub passed: Option<Time>,
}

impl Auditor {
    /// Knows nobody yet.
    pub fn new(config: AuditConfig) -> Self {
        Self { config, holders: BTreeMap::new() }
    }

    /// This auditor condemned a holder before it was started anew.
    pub fn remember_condemned(&mut self, now: Time, holder: NodeId) {
        let weight = Weight { wrong: self.config.forget * CONDEMNED_AT, late: Duration::ZERO };
        self.holders.insert(holder, Holder { weight, weight_at: now, condemned: true, ..Holder::default() });
    }

    /// Who of these is audited now: whoever failed and may be asked again first, then whoever was not for longest.
    pub fn next(&self, now: Time, candidates: impl IntoIterator<Item = NodeId>) -> Option<NodeId> {
        let due = candidates.into_iter().filter_map(|node| {
            let Some((at, _)) = self.holders.get(&node).and_then(|holder| holder.last) else {
                return Some((1, Time(0), node));
            };
            let failed = self.trust(now, &node) != Trust::Sound;
            (now.since(at) >= self.config.apart).then_some((u8::from(!failed), at, node))
        });
        due.min().map(|(.., node)| node)
    }

    /// Bytes to audit a holder for: enough that fetching them takes longer than reading them should, where that can be.
    pub fn bytes_for(&self, holder: &NodeId) -> u64 {
        let AuditConfig { bytes_min, bytes_max, .. } = self.config;
        let apart = self.holders.get(holder).and_then(|known| known.pace.bytes_apart(&self.config));
        apart.filter(|bytes| *bytes <= bytes_max).unwrap_or(bytes_min).clamp(bytes_min.min(bytes_max), bytes_max)
    }

    /// How long a commitment to so many bytes is waited for. However late an answer is, it says more than none: a disk may
    /// be overrun, or be rebuilt.
    pub fn patience(&self, bytes: u64) -> Duration {
        PATIENCE_TIMES * pace::disk_time(bytes, self.config.disk_bytes_per_s)
    }

    /// Notes what came of an audit, and says what it shows.
    pub fn judge(&mut self, now: Time, holder: NodeId, answer: Answer) -> Verdict {
        let config = self.config;
        let holder = self.holders.entry(holder).or_default();
        holder.fade(now);
        let verdict = match answer {
            Answer::True { bytes, took, round_trip, sent_per_s } => {
                let verdict = match holder.pace.judge(&config, bytes, took) {
                    Timing::Early => Verdict::Kept,
                    Timing::Unclear => Verdict::Inconclusive,
                    Timing::Late => Verdict::Late,
                };
                if holder.counts(now, &config, verdict) {
                    holder.pace.note(bytes, took.saturating_sub(round_trip), sent_per_s);
                }
                verdict
            }
            Answer::Lacks => Verdict::Lacks,
            Answer::False => Verdict::False,
            Answer::Evaded => {
                holder.evasions += 1;
                if holder.evasions > EVASIONS_BORNE { Verdict::Evades } else { Verdict::Inconclusive }
            }
            Answer::Unreachable => Verdict::Away,
        };
        if !matches!(answer, Answer::Evaded | Answer::Unreachable) {
            holder.evasions = 0;
        }
        holder.weigh(now, &config, verdict);
        holder.last = Some((now, verdict));
        verdict
    }

    /// How a holder stands.
    pub fn trust(&self, now: Time, holder: &NodeId) -> Trust {
        self.holders.get(holder).map_or(Trust::Sound, |holder| holder.trust(now, &self.config))
    }

    /// Those that are condemned.
    pub fn condemned(&self, now: Time) -> BTreeSet<NodeId> {
        let condemned = |(_, holder): &(&NodeId, &Holder)| holder.trust(now, &self.config) == Trust::Condemned;
        self.holders.iter().filter(condemned).map(|(node, _)| *node).collect()
    }

    /// All holders that were ever audited.
    pub fn audited(&self, now: Time) -> impl Iterator<Item = Audited> {
        let shown = move |(node, holder): (&NodeId, &Holder)| Audited {
            holder: *node,
            trust: holder.trust(now, &self.config),
            last: holder.last,
            passed: holder.passed.back().copied(),
        };
        self.holders.iter().map(shown)
    }

    /// Forgets all but these: who is no node any more is not audited again. Whom that leaves out.
    pub fn retain(&mut self, nodes: &BTreeSet<NodeId>) -> Vec<NodeId> {
        let gone: Vec<NodeId> = self.holders.keys().filter(|node| !nodes.contains(node)).copied().collect();
        gone.iter().for_each(|node| drop(self.holders.remove(node)));
        gone
    }
}

impl Weight {
    fn sum(&self) -> Duration {
        self.wrong + self.late
    }

    /// So much less, of what was wrong first.
    fn less(self, by: Duration) -> Self {
        let rest = by.saturating_sub(self.wrong);
        Self { wrong: self.wrong.saturating_sub(by), late: self.late.saturating_sub(rest) }
    }
}

impl Holder {
    fn fade(&mut self, now: Time) {
        self.weight = self.weight.less(now.since(self.weight_at));
        self.weight_at = now;
    }

    fn trust(&self, now: Time, config: &AuditConfig) -> Trust {
        let weight = self.weight.less(now.since(self.weight_at)).sum();
        match () {
            () if self.condemned && weight >= config.forget * RESTORED_BELOW => Trust::Condemned,
            () if weight >= config.forget / 2 => Trust::Suspect,
            () => Trust::Sound,
        }
    }

    /// Whether a verdict lies far enough from the last of its kind.
    fn counts(&self, now: Time, config: &AuditConfig, verdict: Verdict) -> bool {
        let since = |last: Option<Time>, apart| last.is_none_or(|at| now.since(at) >= apart);
        match verdict {
            Verdict::Late | Verdict::Evades => since(self.late_at, config.late_apart),
            Verdict::Lacks => since(self.lacks_at, config.lacks_apart),
            Verdict::Kept | Verdict::Inconclusive | Verdict::False | Verdict::Away => true,
        }
    }

    /// What a verdict adds or takes away.
    fn weigh(&mut self, now: Time, config: &AuditConfig, verdict: Verdict) {
        let (unit, before) = (config.forget, self.weight.sum());
        self.passed.retain(|at| now.since(*at) < config.credit);
        if !self.counts(now, config, verdict) {
            return;
        }
        match verdict {
            Verdict::Late | Verdict::Evades => self.late_at = Some(now),
            Verdict::Lacks => self.lacks_at = Some(now),
            _ => {}
        }
        match verdict {
            Verdict::Kept => {
                self.weight = self.weight.less(unit * RELIEF);
                self.passed.push_back(now);
                if self.passed.len() > CREDITS_MAX {
                    self.passed.pop_front();
                }
            }
            Verdict::Inconclusive if self.evasions == 0 => {
                self.weight.wrong = self.weight.wrong.saturating_sub(unit * RELIEF);
            }
            Verdict::Inconclusive | Verdict::Away => {}
            // The oldest is used up: that it passed lately goes on being shown.
            Verdict::Late | Verdict::Evades if self.passed.pop_front().is_some() => {}
            Verdict::Late => self.weight.late += unit * LATE_WEIGHT,
            Verdict::Evades => self.weight.wrong += unit * LATE_WEIGHT,
            Verdict::Lacks => self.weight.wrong += unit * LACKS_WEIGHT,
            Verdict::False => self.weight.wrong += unit * FALSE_WEIGHT,
        }
        if matches!(verdict, Verdict::False | Verdict::Lacks) {
            self.passed.clear();
        }
        self.weight = self.weight.less(self.weight.sum().saturating_sub(unit * WEIGHT_MAX));
        let weight = self.weight.sum();
        if weight < unit * RESTORED_BELOW {
            self.condemned = false;
        } else if weight > before && weight > unit * CONDEMNED_AT {
            self.condemned = true;
        }
    }
}

#[cfg(test)]
mod tests;
