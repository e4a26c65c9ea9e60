//! What is known about one provider, and how much it may be asked at a time.
//!
//! As BBR does for a connection (Cardwell et al., "BBR: Congestion-Based Congestion Control", ACM Queue 14(5), 2016),
//! the window is twice the bytes that fit in the pipe: the measured rate times the shortest delay. It starts small,
//! doubles with each answer while that pays, and stops growing when the rate does.

use std::collections::BTreeSet;

use bithealth_types::{LEAF_LEN, ShardIndex, Time};

use super::OpenWant;
use crate::{Config, ShardSet, Want, WantId};

/// Shorter answers measure the delay, not the rate.
const RATE_SAMPLE_BYTES_MIN: u64 = 256 << 10;

/// What this node itself is thought to deliver at first: more than any network.
const NEAR_RATE_BYTES_PER_S: u64 = 100 << 30;

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
    shards: ShardSet,
    /// Cells, by run and shard, that it said it does not have.
    missing: BTreeSet<(usize, ShardIndex)>,
    pub(super) standing: Standing,
    /// In the order in which they were sent.
    open: BTreeSet<WantId>,
    open_bytes: u64,
    delivered: u64,
    /// Of the best recent answers; `None` until one was long enough.
    rate_bytes_per_s: Option<u64>,
    /// The shortest so far.
    delay_ms: Option<u64>,
    /// When it last answered anything.
    heard: Time,
    /// Timeouts since its last answer.
    pub(super) strikes: u32,
}

impl Provider {
    pub(super) fn new(shards: ShardSet, now: Time) -> Self {
        Self {
            shards,
            missing: BTreeSet::new(),
            standing: Standing::Good,
            open: BTreeSet::new(),
            open_bytes: 0,
            delivered: 0,
            rate_bytes_per_s: None,
            delay_ms: None,
            heard: now,
            strikes: 0,
        }
    }

    /// The same, thought to be quicker than any other until it has been measured.
    pub(super) fn near(self) -> Self {
        Self { rate_bytes_per_s: Some(NEAR_RATE_BYTES_PER_S), delay_ms: Some(0), ..self }
    }

    /// It says anew what it holds.
    pub(super) fn announce(&mut self, shards: ShardSet) {
        self.shards = shards;
        self.missing.clear();
    }

    /// Whether it could ever answer for this cell.
    pub(super) fn may_have(&self, run: usize, shard: ShardIndex) -> bool {
        self.standing != Standing::Blamed && self.shards.contains(shard) && !self.missing.contains(&(run, shard))
    }

    /// Its open wants, oldest first.
    pub(super) fn open(&self) -> impl Iterator<Item = WantId> + '_ {
        self.open.iter().copied()
    }

    /// Whether one more want of this length fits.
    pub(super) fn has_room(&self, len: u64, config: &Config) -> bool {
        let fits = self.open.is_empty() || self.open_bytes + len <= self.window(config);
        fits && self.open.len() < config.provider_wants_open_max
    }

    fn window(&self, config: &Config) -> u64 {
        let (Some(rate), Some(delay_ms)) = (self.rate_bytes_per_s, self.delay_ms) else {
            return config.window_start_bytes;
        };
        let run = u64::from(config.run_leaves) * LEAF_LEN as u64;
        let window = WINDOW_GAIN * rate.saturating_mul(delay_ms) / 1000;
        window.max(WINDOW_GAIN * run).min(config.window_max_bytes)
    }

    /// When `bytes` behind all that is open would be here, in milliseconds from now.
    pub(super) fn eta_ms(&self, bytes: u64, config: &Config) -> u64 {
        let bytes = self.open_bytes + bytes;
        match self.rate_bytes_per_s {
            Some(rate) => (bytes * 1000 / rate.max(1)).max(self.delay_ms.unwrap_or(0)),
            None => {
                self.delay_ms.unwrap_or(config.delay_guess_ms) + bytes * 1000 / config.rate_guess_bytes_per_s.max(1)
            }
        }
    }

    /// How long `bytes` take at the measured rate; `None` if there is none.
    pub(super) fn measured_ms(&self, bytes: u64) -> Option<u64> {
        self.rate_bytes_per_s.map(|rate| bytes * 1000 / rate.max(1))
    }

    /// Since when it owes an answer to what was sent then: what it answered meanwhile had to come first.
    pub(super) fn owes_since(&self, sent: Time) -> Time {
        sent.max(self.heard)
    }

    /// A want was sent; returns what had been delivered before.
    pub(super) fn sent(&mut self, want: &Want) -> u64 {
        self.open.insert(want.id);
        self.open_bytes += want.len();
        self.delivered
    }

    /// A want is no longer open, for whatever reason.
    pub(super) fn close(&mut self, want: &Want) {
        if self.open.remove(&want.id) {
            self.open_bytes -= want.len();
        }
    }

    /// True leaves came.
    pub(super) fn answered(&mut self, now: Time, open: &OpenWant) {
        let elapsed_ms = now.0.saturating_sub(open.sent.0).max(1);
        self.delivered += open.want.len();
        let bytes = self.delivered - open.delivered_at_sent;
        let sample = bytes * 1000 / elapsed_ms;
        self.rate_bytes_per_s = match self.rate_bytes_per_s {
            // Rises at once, so that the window grows; falls slowly, so that one late answer does not close it.
            Some(rate) => Some(sample.max((3 * rate + sample) / 4)),
            None => (bytes >= RATE_SAMPLE_BYTES_MIN).then_some(sample),
        };
        self.delay_ms = Some(self.delay_ms.unwrap_or(u64::MAX).min(elapsed_ms));
        self.heard(now);
    }

    /// It has owed this want for too long: it is no faster than that.
    pub(super) fn is_late(&mut self, now: Time, open: &OpenWant, config: &Config) {
        let elapsed_ms = now.0.saturating_sub(open.sent.0).max(1);
        let most = (self.delivered - open.delivered_at_sent + open.want.len()) * 1000 / elapsed_ms;
        self.rate_bytes_per_s = Some(self.rate_bytes_per_s.unwrap_or(config.rate_guess_bytes_per_s).min(most));
        self.delay_ms.get_or_insert(elapsed_ms);
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

    fn heard(&mut self, now: Time) {
        self.heard = now;
        self.strikes = 0;
        self.standing = Standing::Good;
    }
}
