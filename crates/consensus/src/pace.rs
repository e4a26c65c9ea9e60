//! When the next height is begun: when there is something to finalise, at most one in a while, and now and then anyway.

use bithealth_types::{Height, Time};

/// How often blocks come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// No block comes sooner after the one before.
    pub interval_ms: u64,
    /// A block comes after this even if there is nothing to finalise, to show that there is not.
    pub heartbeat_ms: u64,
}

/// Whether to begin the height after the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Now.
    Now,
    /// Then, unless something is heard or written before.
    At(Time),
}

impl Pace {
    /// Whether the height after `tip` is due: `since` is when the tip was decided or taken here, `open` whether entries
    /// wait, `ahead` the greatest height others were heard deciding.
    ///
    /// Who hears others decide the next height joins at once: they have waited already.
    pub fn due(&self, now: Time, since: Time, tip: Height, open: bool, ahead: Height) -> Due {
        if ahead.0 == tip.0 + 1 {
            return Due::Now;
        }
        let wait = if open { self.interval_ms } else { self.heartbeat_ms };
        let at = Time(since.0 + wait);
        if at <= now { Due::Now } else { Due::At(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace { interval_ms: 1000, heartbeat_ms: 60_000 };

    #[test]
    fn a_height_begins_for_entries_for_others_or_for_the_heartbeat() {
        let due = |now, open, ahead| PACE.due(Time(now), Time(500), Height(7), open, Height(ahead));
        assert_eq!(due(600, true, 0), Due::At(Time(1500)));
        assert_eq!(due(1500, true, 7), Due::Now);
        assert_eq!(due(600, false, 8), Due::Now, "the others have begun");
        assert_eq!(due(600, false, 9), Due::At(Time(60_500)), "the next blocks are there already: take them first");
        assert_eq!(due(60_500, false, 0), Due::Now);
    }
}
