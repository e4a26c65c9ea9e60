//! A provider: a link with a bandwidth and a latency, and a fault.

use bithealth_exchange::{ShardSet, Want};
use bithealth_types::{Digest, LeafIndex, Time};

use super::{Faults, Random};

pub(crate) struct Provider {
    pub(crate) shards: ShardSet,
    pub(crate) fault: Fault,
    pub(crate) latency_ms: u64,
    pub(crate) connected: bool,
    bytes_per_s: u64,
    free_at: Time,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    None,
    /// Connection lost at this time; back at the other.
    Dies(u64, Option<u64>),
    /// Says nothing from this time on, for so long.
    Stalls(u64, u64),
    /// So many answers of a hundred are false.
    Lies(u64),
    /// So many runs of a hundred are not there.
    Lacks(u64),
    /// So many wants of a hundred are too much.
    Busy(u64),
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Leaves,
    Missing,
    Busy,
    Lie(u64),
}

impl Provider {
    pub(crate) fn new(random: &mut Random, shards: ShardSet, faults: Faults) -> Self {
        let fault = match faults {
            Faults::None => Fault::None,
            Faults::Some => any_fault(random),
        };
        // Without faults a factor of sixteen lies between the slowest and the fastest, with them one of 1024.
        let least = if faults == Faults::None { 21 } else { 17 };
        let bytes_per_s = (1 << random.between(least, 25)) + random.between(0, 1 << 17);
        let latency_ms = random.between(0, 120);
        Self { shards, fault, latency_ms, connected: false, bytes_per_s, free_at: Time(0) }
    }

    /// When and what it answers to a want that reaches it now.
    pub(crate) fn answer(
        &mut self,
        random: &mut Random,
        now: Time,
        want: &Want,
        lacks: bool,
    ) -> Option<(Time, Answer)> {
        let answer = match self.fault {
            Fault::Stalls(from, ms) if (from..from.saturating_add(ms)).contains(&now.0) => return None,
            Fault::Lies(percent) if random.percent(percent) => Answer::Lie(random.next()),
            Fault::Busy(percent) if random.percent(percent) => Answer::Busy,
            _ if lacks => Answer::Missing,
            _ => Answer::Leaves,
        };
        let sends = matches!(answer, Answer::Leaves | Answer::Lie(_));
        let took_ms = if sends { want.len() * 1000 / self.bytes_per_s } else { 0 };
        self.free_at = Time(self.free_at.max(now).0 + took_ms);
        Some((Time(self.free_at.0 + self.latency_ms), answer))
    }

    /// Whether it does not have the run this leaf is in.
    pub(crate) fn lacks(&self, leaf: LeafIndex, run_leaves: u32) -> bool {
        let Fault::Lacks(percent) = self.fault else { return false };
        let run = u64::from(leaf.0 / run_leaves);
        Random(run ^ self.bytes_per_s).percent(percent)
    }

    pub(crate) fn dies(&self) -> Option<(u64, Option<u64>)> {
        if let Fault::Dies(at, returns) = self.fault { Some((at, returns)) } else { None }
    }

    /// Whether it answers truly, if one only waits.
    pub(crate) fn is_reliable(&self) -> bool {
        match self.fault {
            Fault::None | Fault::Lacks(_) | Fault::Busy(_) | Fault::Dies(_, Some(_)) => true,
            Fault::Stalls(_, ms) => ms < u64::MAX,
            Fault::Dies(_, None) | Fault::Lies(_) => false,
        }
    }
}

fn any_fault(random: &mut Random) -> Fault {
    let soon = random.between(0, 2000);
    match random.between(0, 11) {
        0 => Fault::Dies(soon, None),
        1 => Fault::Dies(soon, Some(soon + random.between(1, 10_000))),
        2 => Fault::Stalls(soon, u64::MAX),
        3 => Fault::Stalls(soon, random.between(100, 20_000)),
        4 | 5 => Fault::Lies(random.between(20, 101)),
        6 | 7 => Fault::Lacks(random.between(10, 90)),
        8 => Fault::Busy(random.between(5, 50)),
        _ => Fault::None,
    }
}

/// Changes something in an answer, what depends on `how`.
pub(crate) fn falsify(how: u64, data: &mut Vec<u8>, proof: &mut Vec<Digest>) {
    let at = (how >> 8) as usize;
    match how % 5 {
        0 => data.truncate(data.len() - 1),
        1 => data.push(0),
        2 => proof.push(Digest([how as u8; 32])),
        3 if !proof.is_empty() => {
            let at = at % proof.len();
            proof[at].0[0] ^= 1;
        }
        _ => {
            let at = at % data.len();
            data[at] ^= 1;
        }
    }
}
