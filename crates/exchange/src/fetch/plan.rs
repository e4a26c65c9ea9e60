//! Which cell is wanted next, and from whom.
//!
//! Each run is due as many cells as it still lacks, less those on their way; a late want does not count as on its way,
//! which is all there is to hedging. Of the cells that would come about as soon as the best, those with a provider that
//! has room come first, then needed data before what must be decoded, then the shard with the fewest providers. Data that is near
//! is waited for.
//!
//! Where others fetch the same pack, the runs that fewest of them have come first, and what one of them has is asked of it
//! rather than of whoever holds the shard, who would else send everything to everybody. For the same reason each cell that
//! none of them has is the first of one fetcher, the same in everybody's eyes, and left to it for as long as it gets on.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::ops::Range;

use bithealth_types::{LEAF_LEN, LeafIndex, NodeId, ShardIndex, Time};

use super::provider::{self, Provider, mix};
use super::{Fetch, Need, OpenWant};
use crate::{Effect, GRID_LEAVES, ShardSet, Want, WantId};

/// A cell this many times later than the best that could stand in for it is passed over.
const SLOW_FACTOR: u64 = 2;

/// One that fetches too gets on if it got something within this many times as long as the holder would take: it waits as
/// we would.
const FETCHER_FACTOR: u64 = 4;

/// A holder of the shard is spared if one that fetches too would need no longer than this many times as long,
const SPARED_FACTOR: u64 = 4;
/// and this much.
const SPARED_MS: u64 = 50;

/// Data that would be here so soon is waited for, slow or not, if nothing need then be decoded: decoding costs more processor
/// time than the wait is worth. Runs of 256 KiB that take so long bring about 30 MB/s from each holder of data.
const NEAR_MS: u64 = 25;

/// A cell that could be wanted, from the provider that would deliver it first.
struct Candidate {
    run: usize,
    shard: ShardIndex,
    first: LeafIndex,
    count: u32,
    peer: NodeId,
    has_room: bool,
    eta_ms: u64,
    /// What its provider was measured to deliver.
    rate_bytes_per_s: Option<u64>,
    /// Not what is needed itself: something must be decoded with it.
    stands_in: bool,
    /// Another that fetches is about to ask a holder for it.
    left: bool,
    provider_count: usize,
    tie: u64,
}

/// Whether who has what is needed was measured to be slower than others, as many as are due, by more than the factor by which
/// decoding takes more bytes.
fn is_far_slower(candidates: &[Candidate], due: usize) -> bool {
    let (others, direct): (Vec<_>, Vec<_>) = candidates.iter().partition(|candidate| candidate.stands_in);
    let slowest = direct.iter().filter_map(|candidate| candidate.rate_bytes_per_s).min();
    let mut others: Vec<u64> = others.iter().filter_map(|candidate| candidate.rate_bytes_per_s).collect();
    others.sort_unstable_by_key(|rate| Reverse(*rate));
    let factor = SLOW_FACTOR.max(due as u64);
    slowest.zip(others.get(due - 1)).is_some_and(|(slowest, other)| slowest.saturating_mul(factor) < *other)
}

impl Fetch {
    /// Wants all that is due and that providers have room for; where nothing is left to want, hedges what will come late.
    pub(super) fn ask_what_is_due(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        self.be_courteous(now);
        self.providers.iter_mut().for_each(|(peer, provider)| provider.pipe = self.pipes.get(peer));
        // Most of the time all pipes are full: then no run need be looked at.
        let shortest = self.table.shortest().map_or(0, |leaves| u64::from(leaves) * LEAF_LEN as u64);
        if !self.anybody_has_room(now, shortest) {
            return;
        }
        let (mut waiting, mut left) = (false, false);
        'runs: for run in self.runs_in_order() {
            while let Some(next) = self.next_cell(now, run, true) {
                if next.left || !next.has_room || self.is_full() {
                    waiting = true;
                    left |= next.left;
                    break;
                }
                self.ask(now, &next, out);
                if !self.anybody_has_room(now, shortest) {
                    waiting = true;
                    break 'runs;
                }
            }
        }
        self.is_left = left;
        let idle = left && self.wants.is_empty();
        self.left_since = idle.then(|| self.left_since.unwrap_or(now));
        if !waiting {
            self.hedge_the_end(now, out);
        }
    }

    /// Whether anybody could be asked for so much.
    fn anybody_has_room(&self, now: Time, len: u64) -> bool {
        let has_room = |provider: &Provider| provider.is_asked() && self.has_room(now, provider, len);
        !self.is_full() && self.providers.values().any(has_room)
    }

    /// Whether one more want of this length fits at a provider. While it is not known who else fetches, one is enough.
    fn has_room(&self, now: Time, provider: &Provider, len: u64) -> bool {
        let seeks = self.seek_until.is_some_and(|until| now < until) && provider.open().next().is_some();
        !seeks && provider.has_room(len, &self.spec.config)
    }

    /// Whoever waited for others long enough, with nothing else to do, leaves them nothing more.
    fn be_courteous(&mut self, now: Time) {
        if self.left_since.is_some_and(|since| since.0 + self.fetcher_patience_ms(self.recent_ms()) <= now.0) {
            self.leaves_to_others = false;
        }
    }

    /// How long a run took lately.
    fn recent_ms(&self) -> u64 {
        let config = &self.spec.config;
        self.recent.median_ms(u64::from(config.run_leaves) * LEAF_LEN as u64, config)
    }

    /// How long one that fetches too may get nothing, where we would wait so long for a holder.
    fn fetcher_patience_ms(&self, eta_ms: u64) -> u64 {
        self.spec.config.fetcher_patience_ms.max(FETCHER_FACTOR * eta_ms)
    }

    /// When to look again whether something is still to be left to others.
    pub(super) fn left_until(&self, now: Time) -> Option<Time> {
        self.is_left.then(|| Time(now.0 + self.spec.config.fetcher_patience_ms))
    }

    /// Ranges are read from the front. Of a whole pack each fetch begins somewhere else, so that many of them at once
    /// soon have something to give each other; once they know of one another, the rarest come first.
    fn runs_in_order(&self) -> Vec<usize> {
        let mut runs: Vec<_> = (0..self.table.run_count()).filter(|run| !self.table.is_had(*run)).collect();
        let fetchers: Vec<_> = self.providers.values().filter(|provider| provider.fetches.is_some()).collect();
        if !fetchers.is_empty() {
            let copies = |run: usize| {
                let shards = self.table.needed(run).unwrap_or_else(|| ShardSet::first(self.spec.code.n()));
                let has = |provider: &&&Provider| {
                    shards.iter().any(|shard| provider.may_have(run, shard, self.table.rows(run)))
                };
                fetchers.iter().filter(has).count()
            };
            runs.sort_by_cached_key(|run| (copies(*run), mix(self.seed, *run as u64)));
        } else if self.spec.need == Need::Whole {
            runs.sort_by_key(|run| mix(self.seed, *run as u64));
        }
        runs
    }

    /// Whether one that fetches too, and got something of late, should ask a holder for this cell before we do.
    fn is_left_to_another(&self, now: Time, run: usize, shard: ShardIndex, eta_ms: u64) -> bool {
        let patience_ms = self.fetcher_patience_ms(eta_ms);
        let cell = u64::from(self.table.rows(run).start / GRID_LEAVES) << 16 | u64::from(shard.0);
        self.leaves_to_others
            && self.providers.values().any(|provider| {
                let gets_on = provider.fetches.is_some_and(|told| now.0 < told.0 + patience_ms);
                gets_on && provider.is_asked() && mix(provider.hash, cell) > mix(self.hash_here, cell)
            })
    }

    fn is_full(&self) -> bool {
        self.wants.len() + self.storing.len() >= self.spec.config.wants_open_max
    }

    /// The best cell to want now in this run, or once its provider has room if that `can_wait`; `None` if none is due or nobody
    /// can be asked.
    fn next_cell(&self, now: Time, run: usize, can_wait: bool) -> Option<Candidate> {
        let settled = self.settled(run);
        let k = self.spec.code.k();
        let due = usize::from(k.checked_sub(settled.count()).filter(|due| *due > 0)?);
        let needed = self.table.needed(run);
        let needed_due = needed.map(|needed| usize::from(needed.without(&settled).count()));
        if needed_due == Some(0) || self.table.is_had(run) {
            return None;
        }

        let asked = self.asked(run);
        let mut candidates: Vec<_> = (0..self.spec.code.n())
            .map(ShardIndex)
            .filter(|shard| !settled.contains(*shard))
            .filter_map(|shard| self.candidate(now, run, shard, &asked, needed.as_ref()))
            .collect();
        // As few cells as can be: those needed themselves if each has somebody to ask who gets on, else enough to decode with.
        let direct = candidates.iter().filter(|candidate| !candidate.stands_in).count();
        let gathering = self.gather_until.is_some_and(|until| now < until);
        let direct_only = match needed_due {
            Some(needed_due) => {
                let suffices = direct == needed_due && needed_due <= due && !is_far_slower(&candidates, due);
                suffices || candidates.len() < due
            }
            None => false,
        };
        if direct_only || gathering {
            candidates.retain(|candidate| !candidate.stands_in);
        }

        // Where all data comes itself, nothing is decoded.
        let is_data = |shard: ShardIndex| shard.0 < k;
        let data =
            candidates.iter().filter(|candidate| is_data(candidate.shard)).count() + usize::from(settled.count());
        let waits = can_wait && k > 1 && data == usize::from(k) && settled.iter().all(is_data);

        let mut etas: Vec<_> = candidates.iter().map(|candidate| candidate.eta_ms).collect();
        etas.sort_unstable();
        let slow_ms = SLOW_FACTOR * etas.get(due.min(etas.len()).checked_sub(1)?)?;
        candidates.into_iter().min_by_key(|candidate| {
            let Candidate { has_room, eta_ms, stands_in, left, provider_count, tie, .. } = *candidate;
            let near = waits && !stands_in && eta_ms <= NEAR_MS;
            (eta_ms > slow_ms && !near, !has_room && !near, stands_in, !has_room, left, provider_count, tie)
        })
    }

    /// The shards whose cell of this run is had or on its way.
    pub(super) fn settled(&self, run: usize) -> ShardSet {
        let mut settled = self.table.had(run);
        let open = self.wants_of_run[run].iter().map(|id| &self.wants[id]);
        open.filter(|open| !open.late).for_each(|open| settled.insert(open.want.shard));
        settled
    }

    /// Cells to decode from that this want's run would lack if the want were given up.
    pub(super) fn due_without(&self, open: &OpenWant) -> u16 {
        let settled = self.settled(open.run).iter().filter(|shard| *shard != open.want.shard).count();
        self.spec.code.k().saturating_sub(settled as u16)
    }

    /// Whether somebody else could be asked for the same cell.
    pub(super) fn has_other_provider(&self, open: &OpenWant) -> bool {
        let shard = open.want.shard;
        let asked = self.asked(open.run);
        self.table.lacking(open.run, shard).is_some_and(|(first, count)| {
            self.could_be_asked(open.run, shard, first.0..first.0 + count, &asked).next().is_some()
        })
    }

    /// The cells of a run that are open, and at whom.
    fn asked(&self, run: usize) -> Vec<(ShardIndex, NodeId)> {
        self.wants_of_run[run].iter().map(|id| &self.wants[id]).map(|open| (open.want.shard, open.to)).collect()
    }

    /// Who may have these leaves of a cell, can be asked, and was not.
    fn could_be_asked<'a>(
        &'a self,
        run: usize,
        shard: ShardIndex,
        leaves: Range<u32>,
        asked: &'a [(ShardIndex, NodeId)],
    ) -> impl Iterator<Item = (&'a NodeId, &'a Provider)> {
        self.providers.iter().filter(move |(peer, provider)| {
            provider.is_asked() && provider.may_have(run, shard, leaves.clone()) && !asked.contains(&(shard, **peer))
        })
    }

    /// The provider that would deliver this cell first, of those that can be asked and were not.
    fn candidate(
        &self,
        now: Time,
        run: usize,
        shard: ShardIndex,
        asked: &[(ShardIndex, NodeId)],
        needed: Option<&ShardSet>,
    ) -> Option<Candidate> {
        let config = &self.spec.config;
        let (first, count) = self.table.lacking(run, shard)?;
        let len = u64::from(count) * LEAF_LEN as u64;
        let providers: Vec<_> = self.could_be_asked(run, shard, first.0..first.0 + count, asked).collect();
        let tie = |provider: &Provider| mix(provider.hash ^ self.seed, (run as u64) << 16 | u64::from(shard.0));
        let first_of = |holders: bool| {
            let of = providers.iter().filter(|(_, provider)| provider.has_shard(shard) == holders);
            of.map(|(peer, provider)| (provider::eta_ms(&provider.pipe, len, config), tie(provider), **peer)).min()
        };
        let holder = first_of(true);
        let fetcher = first_of(false).filter(|(eta_ms, ..)| {
            let spares = |holder_ms: u64| *eta_ms <= SPARED_FACTOR * holder_ms + SPARED_MS;
            holder.is_none_or(|(holder_ms, _, holder)| holder != self.spec.here && spares(holder_ms))
        });
        let (eta_ms, tie, peer) = fetcher.or(holder)?;
        let k = self.spec.code.k();
        Some(Candidate {
            run,
            shard,
            first,
            count,
            peer,
            has_room: self.has_room(now, &self.providers[&peer], len),
            eta_ms,
            rate_bytes_per_s: self.providers[&peer].pipe.rate_bytes_per_s,
            stands_in: match needed {
                Some(needed) => !needed.contains(shard),
                None => k > 1 && shard.0 >= k,
            },
            left: fetcher.is_none() && peer != self.spec.here && self.is_left_to_another(now, run, shard, eta_ms),
            provider_count: providers.len(),
            tie,
        })
    }

    fn ask(&mut self, now: Time, next: &Candidate, out: &mut VecDeque<Effect>) {
        let want = Want { id: WantId(self.wants_made), shard: next.shard, first: next.first, count: next.count };
        let provider = self.providers.get_mut(&next.peer).expect("candidates are known providers");
        provider.sent(&want);
        let delivered_at_sent = self.pipes.sent(next.peer, want.len());
        provider.pipe = self.pipes.get(&next.peer);
        let open = OpenWant { want, to: next.peer, run: next.run, sent: now, delivered_at_sent, late: false };
        self.wants_made += 1;
        self.bytes_asked += want.len();
        self.wants_of_run[next.run].push(want.id);
        self.wants.insert(want.id, open);
        out.push_back(Effect::Send { to: next.peer, ask: want });
    }

    /// The end of a fetch: all is on its way, and providers that were quicker than thought have nothing left to do.
    /// They are asked for what will take the others much longer.
    fn hedge_the_end(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let ids: Vec<_> = self.wants.values().filter(|open| !open.late).map(|open| open.want.id).collect();
        for id in ids {
            let Some(remaining_ms) = self.remaining_ms(now, id) else { continue };
            let open = &self.wants[&id];
            let (run, len) = (open.run, open.want.len());
            if self.is_full() || !self.may_hedge(len) {
                return;
            }
            self.set_late(id, true);
            let alternative = self.next_cell(now, run, false).filter(|next| {
                let measured = self.providers[&next.peer].pipe.rate_bytes_per_s.is_some();
                let sooner = SLOW_FACTOR * next.eta_ms + self.spec.config.hedge_floor_ms < remaining_ms;
                // To decode instead would cost more than the one cell the budget is asked for.
                let costs_one = !next.stands_in || self.table.needed(run).is_none();
                next.has_room && !next.left && measured && sooner && costs_one
            });
            match alternative {
                Some(next) => {
                    self.bytes_hedged += len;
                    self.ask(now, &next, out);
                }
                None => self.set_late(id, false),
            }
        }
    }

    fn set_late(&mut self, id: WantId, late: bool) {
        if let Some(open) = self.wants.get_mut(&id) {
            open.late = late;
        }
    }

    /// When an open want's answer is due by its provider's measured rate; `None` if that is not known.
    fn remaining_ms(&self, now: Time, id: WantId) -> Option<u64> {
        let provider = &self.providers[&self.wants[&id].to];
        let ahead: u64 =
            provider.open().take_while(|other| *other <= id).map(|other| self.wants[&other].want.len()).sum();
        let oldest = self.oldest(&self.wants[&id].to)?;
        let waited = now.0.saturating_sub(provider.owes_since(oldest.sent).0);
        Some(provider::measured_ms(&provider.pipe, ahead)?.saturating_sub(waited))
    }
}
