//! Fetching one pack from many providers.
//!
//! The leaves of all shards at one position are a row; any k cells of a row restore the others. Rows are cut into runs
//! of at most [`RUN_LEAVES_MAX`], and the unit of work is a *cell*: one run of rows in one shard, wanted, proven and
//! stored as a whole. What is needed in each run stands in `table`, what is known about each provider in `provider`;
//! `plan` says which cell is wanted next and from whom, `patience` when to stop waiting.

mod patience;
mod plan;
mod provider;
mod table;

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use bithealth_types::{Code, Digest, LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex, Time};

use self::patience::Recent;
use self::provider::{Provider, Standing};
use self::table::Table;
use crate::{Checked, Config, Effect, Input, Pipes, RUN_LEAVES_MAX, RunSet, ShardSet, StoreFault, Want, WantId};

/// What to fetch.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The pack.
    pub pack: PackId,
    /// Its code.
    pub code: Code,
    /// Leaves of each shard, from the pack's length: the roots alone do not fix it.
    pub leaf_count: u32,
    /// The root of each of the n shards.
    pub roots: Vec<Digest>,
    /// Which leaves.
    pub need: Need,
    /// Who fetches: as a provider it is asked before any other, since reading here costs the network nothing.
    pub here: NodeId,
    /// The limits.
    pub config: Config,
}

/// Which leaves of a pack are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Need {
    /// Every row: the leaves of any k shards.
    Whole,
    /// These leaves of these shards; where a shard has no good provider, the same rows of any k shards.
    Ranges(Vec<(ShardIndex, Range<u32>)>),
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of leaves that are needed.
    pub bytes_needed: u64,
    /// Bytes of them, or of parity in their place, that are stored.
    pub bytes_stored: u64,
    /// Bytes asked of providers so far, those asked twice counted twice.
    pub bytes_asked: u64,
}

/// The fetch of one pack. Same spec, seed and inputs, same effects.
#[derive(Debug)]
pub struct Fetch {
    spec: Spec,
    seed: u64,
    /// Of our id: what ties with other fetchers are broken by.
    hash_here: u64,
    table: Table,
    /// Lent by the caller while it tells something.
    pipes: Pipes,
    providers: BTreeMap<NodeId, Provider>,
    /// Who asks to be sent nothing, and since when: it may become a provider only later.
    chokes: BTreeMap<NodeId, Time>,
    wants: BTreeMap<WantId, OpenWant>,
    /// The same by run.
    wants_of_run: Vec<Vec<WantId>>,
    wants_made: u64,
    /// Leaves handed to the store, by shard and first leaf: how many.
    storing: BTreeMap<(ShardIndex, LeafIndex), u32>,
    recent: Recent,
    bytes_asked: u64,
    /// Bytes of wants given up as late, which may so be wanted twice.
    bytes_hedged: u64,
    /// Until then only data is wanted, and nobody hears that we starve.
    gather_until: Option<Time>,
    /// Until then nobody is asked for more than one run at a time.
    seek_until: Option<Time>,
    wake_at: Option<Time>,
    starved: Option<(u32, u16)>,
    /// Whether something happened since that may leave us starving, or end it.
    reach_changed: bool,
    /// Since when there is nothing to do but what is left to others that fetch.
    left_since: Option<Time>,
    /// Whether anything is left to them at all,
    leaves_to_others: bool,
    /// and whether something is now.
    is_left: bool,
    all_wanted: bool,
    ended: bool,
}

/// A want that has no answer yet.
#[derive(Clone, Debug)]
struct OpenWant {
    want: Want,
    to: NodeId,
    run: usize,
    sent: Time,
    /// What the provider had delivered when this was sent.
    delivered_at_sent: u64,
    /// No longer counted on: its cell may be wanted elsewhere. Whichever answer comes first is kept.
    late: bool,
}

impl Fetch {
    /// A fetch that knows no provider yet. `seed` breaks ties, so that many nodes that fetch one pack spread out.
    ///
    /// # Panics
    /// If the spec contradicts itself: other than n roots, a need for leaves that no shard has, or a run of more
    /// than [`RUN_LEAVES_MAX`] leaves.
    pub fn new(spec: Spec, seed: u64) -> Self {
        assert_eq!(spec.roots.len(), usize::from(spec.code.n()), "a shard has one root");
        assert!((1..=RUN_LEAVES_MAX).contains(&spec.config.run_leaves), "run_leaves is 1 to {RUN_LEAVES_MAX}");
        let table = Table::new(spec.code, spec.leaf_count, &spec.need, spec.config.run_leaves);
        let run_count = table.run_count();
        Self {
            hash_here: provider::hash_of(&spec.here),
            spec,
            seed,
            table,
            pipes: Pipes::default(),
            providers: BTreeMap::new(),
            chokes: BTreeMap::new(),
            wants: BTreeMap::new(),
            wants_of_run: vec![Vec::new(); run_count],
            wants_made: 0,
            storing: BTreeMap::new(),
            recent: Recent::default(),
            bytes_asked: 0,
            bytes_hedged: 0,
            gather_until: None,
            seek_until: None,
            wake_at: None,
            starved: None,
            reach_changed: true,
            left_since: None,
            leaves_to_others: true,
            is_left: false,
            all_wanted: false,
            ended: false,
        }
    }

    /// The pack.
    pub fn pack(&self) -> PackId {
        self.spec.pack
    }

    /// How far it is.
    pub fn progress(&self) -> Progress {
        let leaf_len = LEAF_LEN as u64;
        Progress {
            bytes_needed: self.table.leaves_needed() * leaf_len,
            bytes_stored: self.table.leaves_stored() * leaf_len,
            bytes_asked: self.bytes_asked,
        }
    }

    /// Takes one input at `now`; appends to `out` what the shell must do, in order. Never blocks, never fails. `pipes` are
    /// those of the node, the same for all its fetches.
    ///
    /// After [`Effect::Finished`] or [`Effect::Aborted`] nothing has an effect any more.
    pub fn handle(&mut self, now: Time, input: Input, pipes: &mut Pipes, out: &mut VecDeque<Effect>) {
        if self.ended {
            return;
        }
        std::mem::swap(&mut self.pipes, pipes);
        self.take_in(now, input, out);
        std::mem::swap(&mut self.pipes, pipes);
    }

    /// The fetch is given up: what it has open counts no more.
    pub fn give_up(&mut self, pipes: &mut Pipes) {
        for open in std::mem::take(&mut self.wants).into_values() {
            pipes.closed(&open.to, open.want.len());
        }
        self.ended = true;
    }

    fn take_in(&mut self, now: Time, input: Input, out: &mut VecDeque<Effect>) {
        self.gather_until.get_or_insert(Time(now.0 + self.spec.config.gather_ms));
        self.seek_until.get_or_insert(Time(now.0 + self.spec.config.seek_ms));
        match input {
            Input::Held { shard, leaves } => self.on_held(shard, leaves, out),
            Input::Provider { peer, shards } => self.on_provider(now, peer, shards),
            Input::Fetching { peer, runs } => self.on_fetching(now, peer, &runs),
            Input::Fetched { peer, runs } => {
                self.on_fetching(now, peer, &runs);
                self.providers.get_mut(&peer).into_iter().for_each(|provider| provider.fetches = None);
            }
            Input::Sought => self.seek_until = Some(now),
            Input::Leaves { from, leaves } => self.on_leaves(now, from, leaves, out),
            Input::Missing { from, want } => self.on_missing(now, from, want),
            Input::Busy { from, want } => self.on_busy(now, from, want),
            Input::Choked { peer } => self.on_choke(peer, Some(now)),
            Input::Unchoked { peer } => self.on_choke(peer, None),
            Input::PeerLost { peer } => self.on_peer_lost(peer),
            Input::Stored { shard, first, result } => self.on_stored(shard, first, result, out),
            Input::Tick => {}
        }
        if self.ended {
            return;
        }
        if self.table.is_stored() {
            self.ended = true;
            out.push_back(Effect::Finished);
            return;
        }
        self.lose_patience(now, out);
        self.ask_what_is_due(now, out);
        self.report_all_wanted(out);
        self.report_starving(now, out);
        self.arm(now, out);
    }

    fn on_held(&mut self, shard: ShardIndex, leaves: Range<u32>, out: &mut VecDeque<Effect>) {
        let touched = self.table.have(shard, leaves.clone());
        self.table.stored(shard, leaves);
        self.cancel_what_is_settled(touched, out);
    }

    fn on_provider(&mut self, now: Time, peer: NodeId, shards: ShardSet) {
        if let Some(provider) = self.provider(now, peer) {
            provider.announce(shards);
            self.reach_changed = true;
        }
    }

    fn on_fetching(&mut self, now: Time, peer: NodeId, runs: &[(ShardIndex, RunSet)]) {
        if let Some(provider) = self.provider(now, peer) {
            provider.fetched(now, runs);
        }
    }

    /// A provider, known or new; `None` if there are as many as may be.
    fn provider(&mut self, now: Time, peer: NodeId) -> Option<&mut Provider> {
        if !self.providers.contains_key(&peer) {
            if self.providers.len() >= self.spec.config.providers_max {
                return None;
            }
            if peer == self.spec.here {
                self.pipes.is_near(peer);
            }
            let mut provider = Provider::new(&peer, ShardSet::default(), now);
            provider.choked_since = self.chokes.get(&peer).copied();
            self.providers.insert(peer, provider);
        }
        self.providers.get_mut(&peer)
    }

    fn on_leaves(&mut self, now: Time, from: NodeId, leaves: Checked, out: &mut VecDeque<Effect>) {
        let Checked { want, data, hashes, proof, fault } = leaves;
        if self.wants.get(&want.id).is_none_or(|open| open.to != from || open.want != want) {
            return; // cancelled while the answer was on its way
        }
        if let Some(fault) = fault {
            out.push_back(Effect::Blame { peer: from, fault });
            self.on_blamed(from);
            return;
        }
        let open = self.close(want.id);
        if let Some(provider) = self.providers.get_mut(&from) {
            let waited_ms = now.since(provider.owes_since(open.sent)).as_millis() as u64;
            self.recent.push(waited_ms, want.len());
            provider.heard(now);
        }
        self.pipes.delivered(from, want.len(), now.0.saturating_sub(open.sent.0), open.delivered_at_sent);
        let Want { shard, first, count, .. } = want;
        let touched = self.table.have(shard, first.0..first.0 + count);
        self.storing.insert((shard, first), count);
        out.push_back(Effect::Store { shard, first, data, hashes, proof });
        self.cancel_what_is_settled(touched, out);
    }

    fn on_missing(&mut self, now: Time, from: NodeId, id: WantId) {
        if self.wants.get(&id).is_some_and(|open| open.to == from) {
            let open = self.close(id);
            if let Some(provider) = self.providers.get_mut(&from) {
                provider.misses(now, open.run, open.want.shard);
                self.reach_changed = true;
            }
        }
    }

    fn on_busy(&mut self, now: Time, from: NodeId, id: WantId) {
        if self.wants.get(&id).is_some_and(|open| open.to == from) {
            self.close(id);
            let until = Time(now.0 + self.spec.config.rest_ms);
            if let Some(provider) = self.providers.get_mut(&from) {
                provider.rests(now, until);
            }
        }
    }

    fn on_choke(&mut self, peer: NodeId, since: Option<Time>) {
        match since {
            Some(since) => drop(self.chokes.insert(peer, since)),
            None => drop(self.chokes.remove(&peer)),
        }
        if let Some(provider) = self.providers.get_mut(&peer) {
            provider.choked_since = since;
        }
    }

    fn on_blamed(&mut self, peer: NodeId) {
        self.reach_changed = true;
        self.close_all(peer);
        if let Some(provider) = self.providers.get_mut(&peer) {
            provider.standing = Standing::Blamed;
        }
    }

    fn on_peer_lost(&mut self, peer: NodeId) {
        self.reach_changed = true;
        self.close_all(peer);
        self.pipes.is_lost(&peer);
        // Who was blamed is remembered: coming back does not make it honest.
        self.providers.retain(|id, provider| *id != peer || provider.standing == Standing::Blamed);
    }

    fn on_stored(
        &mut self,
        shard: ShardIndex,
        first: LeafIndex,
        result: Result<(), StoreFault>,
        out: &mut VecDeque<Effect>,
    ) {
        let Some(count) = self.storing.remove(&(shard, first)) else {
            return;
        };
        match result {
            Ok(()) => self.table.stored(shard, first.0..first.0 + count),
            Err(fault) => {
                out.extend(self.wants.values().map(|open| Effect::Cancel { to: open.to, want: open.want.id }));
                out.push_back(Effect::Aborted(fault));
                let mut pipes = std::mem::take(&mut self.pipes);
                self.give_up(&mut pipes);
                self.pipes = pipes;
            }
        }
    }

    /// Takes a want that is open off the books.
    fn close(&mut self, id: WantId) -> OpenWant {
        let open = self.wants.remove(&id).expect("the caller knows that the want is open");
        self.wants_of_run[open.run].retain(|other| *other != id);
        self.pipes.closed(&open.to, open.want.len());
        if let Some(provider) = self.providers.get_mut(&open.to) {
            provider.close(&open.want);
        }
        open
    }

    fn close_all(&mut self, peer: NodeId) {
        let ids: Vec<_> = self.providers.get(&peer).map(|provider| provider.open().collect()).unwrap_or_default();
        for id in ids {
            self.close(id);
        }
    }

    /// Cancels wants of these runs whose cell or run is had by now.
    fn cancel_what_is_settled(&mut self, runs: Range<usize>, out: &mut VecDeque<Effect>) {
        let settled = |open: &&OpenWant| self.table.is_settled(open.run, open.want.shard);
        let open = self.wants_of_run[runs].iter().flatten().map(|id| &self.wants[id]);
        let mut ids: Vec<_> = open.filter(settled).map(|open| open.want.id).collect();
        ids.sort_unstable();
        for id in ids {
            let open = self.close(id);
            out.push_back(Effect::Cancel { to: open.to, want: id });
        }
    }

    /// Says once that nothing is left to want.
    fn report_all_wanted(&mut self, out: &mut VecDeque<Effect>) {
        let is_settled = |run| self.table.is_had(run) || self.table.serves(run, &self.settled(run));
        if !self.all_wanted && (0..self.table.run_count()).all(is_settled) {
            self.all_wanted = true;
            out.push_back(Effect::AllWanted);
        }
    }

    /// Says once that rows cannot be had, and again when the numbers change.
    fn report_starving(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let gathers = self.gather_until.is_some_and(|until| now < until);
        if gathers || !self.reach_changed && self.starved.is_none() {
            return;
        }
        self.reach_changed = false;
        let providers = &self.providers;
        let table = &self.table;
        let starved = table
            .starved(|run, shard| providers.values().any(|provider| provider.may_have(run, shard, table.rows(run))));
        if starved != self.starved
            && let Some((rows, shards_due)) = starved
        {
            out.push_back(Effect::Starved { rows, shards_due });
        }
        self.starved = starved;
    }
}

#[cfg(test)]
mod tests;
