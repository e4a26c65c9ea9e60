//! Which cell is wanted next, and from whom.
//!
//! Each run is due as many cells as it still lacks, less those on their way; a late want does not count as on its way,
//! which is all there is to hedging. Of the cells that would come about as soon as the best, those with a provider that
//! has room come first, then needed data before what must be decoded, then the shard with the fewest providers.

use std::collections::VecDeque;

use bithealth_types::{LEAF_LEN, LeafIndex, NodeId, ShardIndex, Time};

use super::provider::Standing;
use super::{Fetch, Need, OpenWant};
use crate::{Effect, ShardSet, Want, WantId};

/// A cell this many times later than the best that could stand in for it is passed over.
const SLOW_FACTOR: u64 = 2;

/// A cell that could be wanted, from the provider that would deliver it first.
struct Candidate {
    run: usize,
    shard: ShardIndex,
    first: LeafIndex,
    count: u32,
    peer: NodeId,
    has_room: bool,
    eta_ms: u64,
    /// Not what is needed itself: something must be decoded with it.
    stands_in: bool,
    provider_count: usize,
    tie: u64,
}

impl Fetch {
    /// Wants all that is due and that providers have room for; where nothing is left to want, hedges what will come late.
    pub(super) fn ask_what_is_due(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let mut waiting = false;
        for run in self.runs_in_order() {
            while let Some(next) = self.next_cell(now, run) {
                if !next.has_room || self.is_full() {
                    waiting = true;
                    break;
                }
                self.ask(now, &next, out);
            }
        }
        if !waiting {
            self.hedge_the_end(now, out);
        }
    }

    /// Ranges are read from the front. Of a whole pack each fetch begins somewhere else, so that many of them at once
    /// soon have something to give each other.
    fn runs_in_order(&self) -> Vec<usize> {
        let mut runs: Vec<_> = (0..self.table.run_count()).filter(|run| !self.table.is_had(*run)).collect();
        if self.spec.need == Need::Whole {
            runs.sort_by_key(|run| mix(self.seed, *run as u64));
        }
        runs
    }

    fn is_full(&self) -> bool {
        self.wants.len() + self.storing.len() >= self.spec.config.wants_open_max
    }

    /// The best cell to want now in this run; `None` if none is due or nobody can be asked.
    fn next_cell(&self, now: Time, run: usize) -> Option<Candidate> {
        let settled = self.settled(run);
        let k = self.spec.code.k();
        let due = usize::from(k.checked_sub(settled.count()).filter(|due| *due > 0)?);
        let needed = self.table.needed(run);
        let needed_due = needed.map(|needed| needed.iter().filter(|shard| !settled.contains(*shard)).count());
        if needed_due == Some(0) || self.table.is_had(run) {
            return None;
        }

        let mut candidates: Vec<_> = (0..self.spec.code.n())
            .map(ShardIndex)
            .filter(|shard| !settled.contains(*shard))
            .filter_map(|shard| self.candidate(run, shard, needed.as_ref()))
            .collect();
        // As few cells as can be: those needed themselves if each has somebody to ask, else enough to decode with.
        let direct = candidates.iter().filter(|candidate| !candidate.stands_in).count();
        let gathering = self.gather_until.is_some_and(|until| now < until);
        let direct_only = match needed_due {
            Some(needed_due) => (direct == needed_due && needed_due <= due) || candidates.len() < due,
            None => false,
        };
        if direct_only || gathering {
            candidates.retain(|candidate| !candidate.stands_in);
        }

        let mut etas: Vec<_> = candidates.iter().map(|candidate| candidate.eta_ms).collect();
        etas.sort_unstable();
        let slow_ms = SLOW_FACTOR * etas.get(due.min(etas.len()).checked_sub(1)?)?;
        candidates.into_iter().min_by_key(|candidate| {
            let slow = candidate.eta_ms > slow_ms;
            (slow, !candidate.has_room, candidate.stands_in, candidate.provider_count, candidate.tie)
        })
    }

    /// The shards whose cell of this run is had or on its way.
    fn settled(&self, run: usize) -> ShardSet {
        let coming = self.wants.values().filter(|open| open.run == run && !open.late).map(|open| open.want.shard);
        self.table.had(run).iter().chain(coming).collect()
    }

    /// Cells to decode from that this want's run would lack if the want were given up.
    pub(super) fn due_without(&self, open: &OpenWant) -> u16 {
        let settled = self.settled(open.run).iter().filter(|shard| *shard != open.want.shard).count();
        self.spec.code.k().saturating_sub(settled as u16)
    }

    /// Whether somebody else could be asked for the same cell.
    pub(super) fn has_other_provider(&self, open: &OpenWant) -> bool {
        self.candidate(open.run, open.want.shard, None).is_some()
    }

    /// The provider that would deliver this cell first, of those that can be asked and were not.
    fn candidate(&self, run: usize, shard: ShardIndex, needed: Option<&ShardSet>) -> Option<Candidate> {
        let config = &self.spec.config;
        let (first, count) = self.table.lacking(run, shard)?;
        let len = u64::from(count) * LEAF_LEN as u64;
        let asked = |peer: &NodeId| {
            self.wants.values().any(|open| open.run == run && open.want.shard == shard && open.to == *peer)
        };
        let providers = self.providers.iter().filter(|(peer, provider)| {
            provider.standing == Standing::Good && provider.may_have(run, shard) && !asked(peer)
        });
        let provider_count = providers.clone().count();
        let tie = |peer: &NodeId| {
            let peer = peer.0.iter().fold(self.seed, |hash, byte| mix(hash, u64::from(*byte)));
            mix(peer, (run as u64) << 16 | u64::from(shard.0))
        };
        let (eta_ms, tie, peer, provider) = providers
            .map(|(peer, provider)| (provider.eta_ms(len, config), tie(peer), *peer, provider))
            .min_by_key(|(eta_ms, tie, ..)| (*eta_ms, *tie))?;
        let k = self.spec.code.k();
        Some(Candidate {
            run,
            shard,
            first,
            count,
            peer,
            has_room: provider.has_room(len, config),
            eta_ms,
            stands_in: match needed {
                Some(needed) => !needed.contains(shard),
                None => k > 1 && shard.0 >= k,
            },
            provider_count,
            tie,
        })
    }

    fn ask(&mut self, now: Time, next: &Candidate, out: &mut VecDeque<Effect>) {
        let want = Want { id: WantId(self.wants_made), shard: next.shard, first: next.first, count: next.count };
        let provider = self.providers.get_mut(&next.peer).expect("candidates are known providers");
        let delivered_at_sent = provider.sent(&want);
        let open = OpenWant { want, to: next.peer, run: next.run, sent: now, delivered_at_sent, late: false };
        self.wants_made += 1;
        self.bytes_asked += want.len();
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
            let alternative = self.next_cell(now, run).filter(|next| {
                let measured = self.providers[&next.peer].measured_ms(0).is_some();
                let sooner = SLOW_FACTOR * next.eta_ms + self.spec.config.hedge_floor_ms < remaining_ms;
                // To decode instead would cost more than the one cell the budget is asked for.
                let costs_one = !next.stands_in || self.table.needed(run).is_none();
                next.has_room && measured && sooner && costs_one
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
        Some(provider.measured_ms(ahead)?.saturating_sub(waited))
    }
}

/// One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over both words: spreads ties, decides nothing else.
fn mix(hash: u64, word: u64) -> u64 {
    let mut z = (hash ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}
