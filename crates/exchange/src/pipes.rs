//! What each peer was measured to deliver, for all fetches of a node together.
//!
//! A fetch lasts a moment, a connection lasts: what one fetch learned of a peer, the next begins with. And a peer that
//! answers several fetches at once delivers to each a part of what it can: its rate is measured over all of them.

use std::collections::BTreeMap;

use bithealth_types::NodeId;

/// Shorter answers measure the delay, not the rate.
const RATE_SAMPLE_BYTES_MIN: u64 = 256 << 10;

/// What a node itself is thought to deliver: more than any network.
const NEAR_RATE_BYTES_PER_S: u64 = 100 << 30;

/// The peers of a node, and the pipe to each.
#[derive(Debug)]
pub struct Pipes {
    pipes: BTreeMap<NodeId, Pipe>,
    pipes_max: usize,
    uses: u64,
}

/// What is known about the way from one peer to here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pipe {
    /// Of the best recent answers; `None` until one was long enough.
    pub(crate) rate_bytes_per_s: Option<u64>,
    /// The shortest so far.
    pub(crate) delay_ms: Option<u64>,
    /// Bytes that came so far.
    pub(crate) delivered: u64,
    /// Bytes of wants that are open.
    pub(crate) open_bytes: u64,
    used: u64,
}

impl Default for Pipes {
    /// As many as a node has connections.
    fn default() -> Self {
        Self::new(256)
    }
}

impl Pipes {
    /// Nothing was measured; at most `pipes_max` peers are remembered, those asked last.
    pub fn new(pipes_max: usize) -> Self {
        Self { pipes: BTreeMap::new(), pipes_max: pipes_max.max(1), uses: 0 }
    }

    pub(crate) fn get(&self, peer: &NodeId) -> Pipe {
        self.pipes.get(peer).copied().unwrap_or_default()
    }

    /// This node itself is read from: nothing is as near.
    pub(crate) fn is_near(&mut self, peer: NodeId) {
        let pipe = self.at(peer);
        (pipe.rate_bytes_per_s, pipe.delay_ms) = (Some(NEAR_RATE_BYTES_PER_S), Some(0));
    }

    /// The connection is gone: the next one may be another way.
    pub(crate) fn is_lost(&mut self, peer: &NodeId) {
        if let Some(pipe) = self.pipes.get_mut(peer) {
            (pipe.rate_bytes_per_s, pipe.delay_ms) = (None, None);
        }
    }

    /// Something was asked; returns what had been delivered before.
    pub(crate) fn sent(&mut self, peer: NodeId, len: u64) -> u64 {
        let pipe = self.at(peer);
        pipe.open_bytes += len;
        pipe.delivered
    }

    /// It is no longer open, for whatever reason.
    pub(crate) fn closed(&mut self, peer: &NodeId, len: u64) {
        if let Some(pipe) = self.pipes.get_mut(peer) {
            pipe.open_bytes = pipe.open_bytes.saturating_sub(len);
        }
    }

    /// `len` bytes came, `elapsed_ms` after they were asked for, when `delivered_at_sent` had been delivered.
    pub(crate) fn delivered(&mut self, peer: NodeId, len: u64, elapsed_ms: u64, delivered_at_sent: u64) {
        let (pipe, elapsed_ms) = (self.at(peer), elapsed_ms.max(1));
        pipe.delivered += len;
        let bytes = pipe.delivered.saturating_sub(delivered_at_sent);
        let sample = bytes * 1000 / elapsed_ms;
        pipe.rate_bytes_per_s = match pipe.rate_bytes_per_s {
            // Rises at once, so that the window grows; falls slowly, so that one late answer does not close it.
            Some(rate) => Some(sample.max((3 * rate + sample) / 4)),
            None => (bytes >= RATE_SAMPLE_BYTES_MIN).then_some(sample),
        };
        pipe.delay_ms = Some(pipe.delay_ms.unwrap_or(u64::MAX).min(elapsed_ms));
    }

    /// `len` bytes are still owed after `elapsed_ms`: it is no faster than that. `guess` is what was thought so far.
    pub(crate) fn is_late(&mut self, peer: NodeId, len: u64, elapsed_ms: u64, delivered_at_sent: u64, guess: u64) {
        let (pipe, elapsed_ms) = (self.at(peer), elapsed_ms.max(1));
        let most = (pipe.delivered.saturating_sub(delivered_at_sent) + len) * 1000 / elapsed_ms;
        pipe.rate_bytes_per_s = Some(pipe.rate_bytes_per_s.unwrap_or(guess).min(most));
        pipe.delay_ms.get_or_insert(elapsed_ms);
    }

    fn at(&mut self, peer: NodeId) -> &mut Pipe {
        if !self.pipes.contains_key(&peer) && self.pipes.len() >= self.pipes_max {
            let oldest = self.pipes.iter().min_by_key(|(_, pipe)| pipe.used).map(|(peer, _)| *peer);
            oldest.and_then(|peer| self.pipes.remove(&peer));
        }
        self.uses += 1;
        let pipe = self.pipes.entry(peer).or_default();
        pipe.used = self.uses;
        pipe
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: NodeId = NodeId([0xA1; 32]);
    const BOB: NodeId = NodeId([0xB0; 32]);
    const CAROL: NodeId = NodeId([0xCA; 32]);
    const MIB: u64 = 1 << 20;

    #[test]
    fn the_rate_is_that_of_all_fetches_together() {
        let mut pipes = Pipes::new(8);
        let first = pipes.sent(ALICE, MIB);
        let second = pipes.sent(ALICE, MIB);
        pipes.delivered(ALICE, MIB, 1000, first);
        pipes.delivered(ALICE, MIB, 1000, second);
        assert_eq!(pipes.get(&ALICE).rate_bytes_per_s, Some(2 * MIB));
    }

    #[test]
    fn a_rate_rises_at_once_and_falls_slowly_and_a_short_answer_measures_none() {
        let mut pipes = Pipes::new(8);
        pipes.delivered(ALICE, 1000, 30, 0);
        assert_eq!((pipes.get(&ALICE).rate_bytes_per_s, pipes.get(&ALICE).delay_ms), (None, Some(30)));
        for (elapsed_ms, rate) in [(1000, 4 * MIB), (500, 8 * MIB), (1000, 7 * MIB)] {
            let at_sent = pipes.get(&ALICE).delivered;
            pipes.delivered(ALICE, 4 * MIB, elapsed_ms, at_sent);
            assert_eq!(pipes.get(&ALICE).rate_bytes_per_s, Some(rate));
        }
        assert_eq!(pipes.get(&ALICE).delay_ms, Some(30), "the shortest");
    }

    #[test]
    fn a_lost_connection_is_measured_anew() {
        let mut pipes = Pipes::new(8);
        pipes.sent(ALICE, MIB);
        pipes.delivered(ALICE, MIB, 10, 0);
        pipes.is_lost(&ALICE);
        let pipe = pipes.get(&ALICE);
        assert_eq!((pipe.rate_bytes_per_s, pipe.delay_ms, pipe.open_bytes), (None, None, MIB));
    }

    #[test]
    fn those_asked_last_are_remembered() {
        let mut pipes = Pipes::new(2);
        pipes.sent(ALICE, 1);
        pipes.sent(BOB, 2);
        pipes.sent(ALICE, 4);
        pipes.sent(CAROL, 8);
        assert_eq!([ALICE, BOB, CAROL].map(|peer| pipes.get(&peer).open_bytes), [5, 0, 8]);
        pipes.closed(&BOB, 2);
        assert_eq!(pipes.pipes.len(), 2);
    }
}
