//! How long to wait for a provider.
//!
//! Three steps, each counted from when the provider last answered: it is late (its oldest want may be wanted elsewhere,
//! within a budget), it has stalled (all of its wants are, and it is not asked), it has timed out (its wants are
//! taken back). What is late follows recent answers of all providers, after Dean and Barroso, "The Tail at Scale",
//! Communications of the ACM 56(2), 2013.

use std::collections::VecDeque;

use bithealth_types::{LEAF_LEN, NodeId, Time};

use super::provider::Standing;
use super::{Fetch, OpenWant};
use crate::{Config, Effect};

/// Answers that recent means.
const RECENT_COUNT: usize = 32;
/// A provider is late past this many medians of recent answers,
const LATE_FACTOR: u64 = 2;
/// and has stalled past this many.
const STALL_FACTOR: u64 = 8;

/// How long recent answers took, and how long they were.
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(u64, u64)>);

impl Recent {
    pub(super) fn push(&mut self, waited_ms: u64, len: u64) {
        if self.0.len() == RECENT_COUNT {
            self.0.pop_front();
        }
        self.0.push_back((waited_ms, len.max(1)));
    }

    /// The median wait for an answer of `len` bytes, where shorter ones count as if they had been as long.
    pub(super) fn median_ms(&self, len: u64, config: &Config) -> u64 {
        let scaled = |(waited_ms, of): &(u64, u64)| waited_ms * len.max(*of) / of;
        let mut waits: Vec<_> = self.0.iter().map(scaled).collect();
        waits.sort_unstable();
        let guess = config.delay_guess_ms + len * 1000 / config.rate_guess_bytes_per_s.max(1);
        waits.get(waits.len() / 2).copied().unwrap_or(guess)
    }
}

/// When a provider that owes an answer is late, has stalled, has timed out.
struct Deadlines {
    late: Time,
    stalled: Time,
    timed_out: Time,
}

impl Fetch {
    /// Acts on every deadline that has passed.
    pub(super) fn lose_patience(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let peers: Vec<_> = self.providers.keys().copied().collect();
        for peer in peers {
            self.rest_or_wake(now, peer);
            if self.choke_ends(&peer).is_some_and(|end| end <= now) {
                self.drop_provider(peer, out);
                continue;
            }
            let Some(oldest) = self.oldest(&peer) else { continue };
            let deadlines = self.deadlines(oldest);
            if deadlines.timed_out <= now {
                self.time_out(now, peer, out);
            } else if deadlines.stalled <= now && self.stands_good(&peer) {
                self.stall(now, peer);
            } else if deadlines.late <= now && !oldest.late && self.may_hedge(self.hedge_cost(oldest)) {
                let oldest = oldest.clone();
                self.bytes_hedged += self.hedge_cost(&oldest);
                self.count_late(now, &oldest);
            }
        }
    }

    /// Who has rested is asked again. Who stalled and owes nothing any more, since others were quicker, will never answer
    /// and so end the stall: it rests instead.
    fn rest_or_wake(&mut self, now: Time, peer: NodeId) {
        let Some(provider) = self.providers.get_mut(&peer) else { return };
        match provider.standing {
            Standing::Resting { until } if until <= now => provider.standing = Standing::Good,
            Standing::Stalled if provider.open().next().is_none() => {
                provider.standing = Standing::Resting { until: Time(now.0 + self.spec.config.rest_ms) };
            }
            _ => {}
        }
    }

    /// When a provider that is choked counts as lost.
    fn choke_ends(&self, peer: &NodeId) -> Option<Time> {
        let since = self.providers.get(peer)?.choked_since?;
        Some(Time(since.0.saturating_add(self.spec.config.choke_patience_ms)))
    }

    fn drop_provider(&mut self, peer: NodeId, out: &mut VecDeque<Effect>) {
        let Some(provider) = self.providers.get(&peer) else { return };
        out.extend(provider.open().map(|want| Effect::Cancel { to: peer, want }));
        self.on_peer_lost(peer);
    }

    fn time_out(&mut self, now: Time, peer: NodeId, out: &mut VecDeque<Effect>) {
        let Some(provider) = self.providers.get_mut(&peer) else { return };
        out.extend(provider.open().map(|want| Effect::Cancel { to: peer, want }));
        provider.strikes += 1;
        let strikes = provider.strikes;
        let rest_ms = self.spec.config.rest_ms.saturating_mul(1 << (strikes - 1).min(16));
        provider.standing = Standing::Resting { until: Time(now.0.saturating_add(rest_ms)) };
        self.close_all(peer);
        if strikes >= self.spec.config.strikes_max {
            self.on_peer_lost(peer);
        }
    }

    fn stall(&mut self, now: Time, peer: NodeId) {
        let Some(provider) = self.providers.get_mut(&peer).filter(|provider| provider.standing == Standing::Good)
        else {
            return;
        };
        provider.standing = Standing::Stalled;
        let open: Vec<_> = provider.open().map(|id| self.wants[&id].clone()).collect();
        open.iter().for_each(|open| self.count_late(now, open));
    }

    /// No longer counts on a want; it stays open.
    fn count_late(&mut self, now: Time, open: &OpenWant) {
        let elapsed_ms = now.0.saturating_sub(open.sent.0);
        let guess = self.spec.config.rate_guess_bytes_per_s;
        self.pipes.is_late(open.to, open.want.len(), elapsed_ms, open.delivered_at_sent, guess);
        if let Some(open) = self.wants.get_mut(&open.want.id) {
            open.late = true;
        }
    }

    /// Bytes that will be wanted if this want is given up: its own once more, or enough others to decode them with.
    fn hedge_cost(&self, open: &OpenWant) -> u64 {
        let other_cell = self.table.needed(open.run).is_some() && !self.has_other_provider(open);
        let cells = if other_cell { self.due_without(open) } else { 1 };
        u64::from(cells) * open.want.len()
    }

    /// Whether the budget allows that `len` more bytes are wanted. The first time it always does.
    pub(super) fn may_hedge(&self, len: u64) -> bool {
        let budget = self.table.leaves_needed() * LEAF_LEN as u64 * self.spec.config.hedge_percent_max / 100;
        self.bytes_hedged == 0 || self.bytes_hedged + len <= budget
    }

    fn stands_good(&self, peer: &NodeId) -> bool {
        self.providers.get(peer).is_some_and(|provider| provider.standing == Standing::Good)
    }

    /// What a provider has owed for longest.
    pub(super) fn oldest(&self, peer: &NodeId) -> Option<&OpenWant> {
        self.providers.get(peer)?.open().next().map(|id| &self.wants[&id])
    }

    fn deadlines(&self, oldest: &OpenWant) -> Deadlines {
        let config = &self.spec.config;
        let len = oldest.want.len();
        let median_ms = self.recent.median_ms(len, config);
        let since = self.providers[&oldest.to].owes_since(oldest.sent);
        let at = |ms: u64| Time(since.0.saturating_add(ms));
        Deadlines {
            late: at(config.hedge_floor_ms.max(LATE_FACTOR * median_ms)),
            stalled: at(config.stall_floor_ms.max(STALL_FACTOR * median_ms)),
            timed_out: at(config.request_timeout_ms + len * 1000 / config.rate_min_bytes_per_s.max(1)),
        }
    }

    /// Asks to be woken at the next deadline, unless the shell will wake us before.
    pub(super) fn arm(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let rested = self.providers.values().filter_map(|provider| match provider.standing {
            Standing::Resting { until } => Some(until),
            _ => None,
        });
        let owed = self.providers.keys().filter_map(|peer| self.oldest(peer)).map(|oldest| {
            let deadlines = self.deadlines(oldest);
            let stalls = self.stands_good(&oldest.to);
            let hedges = !oldest.late && self.may_hedge(self.hedge_cost(oldest));
            match (hedges, stalls) {
                (true, _) => deadlines.late.min(deadlines.timed_out),
                (false, true) => deadlines.stalled.min(deadlines.timed_out),
                (false, false) => deadlines.timed_out,
            }
        });
        let unchoked = self.providers.keys().filter_map(|peer| self.choke_ends(peer));
        let gathered = self.gather_until.into_iter().chain(self.seek_until).filter(|until| now < *until);
        // What came within the budget only by what was just asked is already late: the next moment is soon enough.
        let next = rested
            .chain(owed)
            .chain(unchoked)
            .chain(gathered)
            .chain(self.left_until(now))
            .min()
            .map(|at| at.max(Time(now.0 + 1)));
        let armed = self.wake_at.filter(|at| now < *at);
        if let Some(next) = next
            && armed.is_none_or(|armed| next < armed)
        {
            self.wake_at = Some(next);
            out.push_back(Effect::WakeAt(next));
        }
    }
}
