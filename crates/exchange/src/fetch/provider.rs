//! What is known about one provider, and how much it may be asked at a time.
//!
//! As BBR does for a connection (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016),
//! the window is twice the bytes that fit in the pipe: the measured rate times the shortest delay, as [`crate::Pipes`]
//! has them. It starts small, doubles with each answer while that pays, and stops growing when the rate does.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use bithealth_types::{LEAF_LEN, NodeId, ShardIndex, Time};

use crate::pipes::Pipe;
use crate::{Config, RunSet, ShardSet, Want, WantId};

/// What fills the pipe, times this, may be open: one half on its way here while the other is being asked.
const WINDOW_GAIN: u64 = 2;

/// Whether a provider is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is.
    Good,
    /// It says nothing: its wants stay open and are wanted elsewhere too. Any answer ends this.
    Stalled,
    /// It had a strike, or too much to do.
    Resting { until: Time },
    /// It sent something false: never again.
    Blamed,
}

#[derive(Debug)]
pub(super) struct Provider {
    /// Of its id: what ties are broken by.
    pub(super) hash: u64,
    /// Shards it holds whole.
    shards: ShardSet,
    /// Runs of others that it holds.
    parts: BTreeMap<ShardIndex, RunSet>,
    /// When it last told that it has more of what it fetches too; `None` if it fetches nothing.
    pub(super) fetches: Option<Time>,
    /// Cells, by run and shard, that it said it does not have.
    missing: BTreeSet<(usize, ShardIndex)>,
    pub(super) standing: Standing,
    /// Since when it wants to be asked nothing.
    pub(super) choked_since: Option<Time>,
    /// In the order in which they were sent.
    open: BTreeSet<WantId>,
    open_bytes: u64,
    /// When it last answered anything.
    heard: Time,
    /// Timeouts since its last answer.
    pub(super) strikes: u32,
    /// What [`crate::Pipes`] had of it when it was last considered what to ask of whom.
    pub(super) pipe: Pipe,
}

impl Provider {
    pub(super) fn new(peer: &NodeId, shards: ShardSet, now: Time) -> Self {
        Self {
            hash: hash_of(peer),
            shards,
            parts: BTreeMap::new(),
            fetches: None,
            missing: BTreeSet::new(),
            standing: Standing::Good,
            choked_since: None,
            open: BTreeSet::new(),
            open_bytes: 0,
            heard: now,
            strikes: 0,
            pipe: Pipe::default(),
        }
    }

    /// It says anew which shards it holds.
    pub(super) fn announce(&mut self, shards: ShardSet) {
        self.shards = shards;
        self.missing.clear();
    }

    /// It fetches the same pack, and has these runs by now.
    pub(super) fn fetched(&mut self, now: Time, runs: &[(ShardIndex, RunSet)]) {
        let mut is_more = self.fetches.is_none();
        for (shard, runs) in runs {
            if self.parts.entry(*shard).or_default().merge(runs) {
                self.missing.retain(|(_, missing)| missing != shard);
                is_more = true;
            }
        }
        if is_more {
            self.fetches = Some(now);
        }
    }

    /// Whether it holds this shard whole.
    pub(super) fn has_shard(&self, shard: ShardIndex) -> bool {
        self.shards.contains(shard)
    }

    /// Whether it could ever answer for this cell.
    pub(super) fn may_have(&self, run: usize, shard: ShardIndex, leaves: Range<u32>) -> bool {
        let holds = self.has_shard(shard) || self.parts.get(&shard).is_some_and(|runs| runs.covers(leaves));
        holds && self.standing != Standing::Blamed && !self.missing.contains(&(run, shard))
    }

    /// Whether it can be asked now.
    pub(super) fn is_asked(&self) -> bool {
        self.standing == Standing::Good && self.choked_since.is_none()
    }

    /// Its open wants, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = WantId> + '_ {
        self.open.iter().copied()
    }

    /// Whether one more want of this length fits.
    pub(super) fn has_room(&self, len: u64, config: &Config) -> bool {
        let fits = self.open.is_empty() || self.open_bytes + len <= window(&self.pipe, config);
        fits && self.open.len() < config.provider_wants_open_max
    }

    /// Since when it owes an answer to what was sent then: what it answered meanwhile had to come first.
    pub(super) fn owes_since(&self, sent: Time) -> Time {
        sent.max(self.heard)
    }

    /// A want was sent.
    pub(super) fn sent(&mut self, want: &Want) {
        self.open.insert(want.id);
        self.open_bytes += want.len();
    }

    /// A want is no longer open, for whatever reason.
    pub(super) fn close(&mut self, want: &Want) {
        if self.open.remove(&want.id) {
            self.open_bytes -= want.len();
        }
    }

    /// It does not have this cell.
    pub(super) fn misses(&mut self, now: Time, run: usize, shard: ShardIndex) {
        self.missing.insert((run, shard));
        self.heard(now);
    }

    /// It asks not to be asked for a while.
    pub(super) fn rests(&mut self, now: Time, until: Time) {
        self.heard(now);
        self.standing = Standing::Resting { until };
    }

    /// It answered something.
    pub(super) fn heard(&mut self, now: Time) {
        self.heard = now;
        self.strikes = 0;
        self.standing = Standing::Good;
    }
}

/// Of a node's id, the same at all nodes.
pub(super) fn hash_of(peer: &NodeId) -> u64 {
    peer.0.iter().fold(0, |hash, byte| mix(hash, u64::from(*byte)))
}

/// One step of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014) over both words: spreads ties, decides nothing else.
pub(super) fn mix(hash: u64, word: u64) -> u64 {
    let mut z = (hash ^ word).wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Bytes that may be open at a provider.
fn window(pipe: &Pipe, config: &Config) -> u64 {
    let (Some(rate), Some(delay_ms)) = (pipe.rate_bytes_per_s, pipe.delay_ms) else {
        return config.window_start_bytes;
    };
    let run = u64::from(config.run_leaves) * LEAF_LEN as u64;
    let window = WINDOW_GAIN * rate.saturating_mul(delay_ms) / 1000;
    window.max(WINDOW_GAIN * run).min(config.window_max_bytes)
}

/// When `bytes` behind all that is open would be here, in milliseconds from now.
pub(super) fn eta_ms(pipe: &Pipe, bytes: u64, config: &Config) -> u64 {
    let bytes = pipe.open_bytes + bytes;
    match pipe.rate_bytes_per_s {
        Some(rate) => (bytes * 1000 / rate.max(1)).max(pipe.delay_ms.unwrap_or(0)),
        None => pipe.delay_ms.unwrap_or(config.delay_guess_ms) + bytes * 1000 / config.rate_guess_bytes_per_s.max(1),
    }
}

/// How long `bytes` take at the measured rate; `None` if there is none.
pub(super) fn measured_ms(pipe: &Pipe, bytes: u64) -> Option<u64> {
    pipe.rate_bytes_per_s.map(|rate| bytes * 1000 / rate.max(1))
}
