//! When a kept node is dialled again: capped exponential backoff with jitter. Pure.

use std::time::Duration;

use bithealth_types::NodeId;
use sha2::{Digest as _, Sha256};

/// The delays before the next attempts to reach one node.
///
/// The jitter takes away up to half of a delay, so that nodes that lost a peer together do not come back together. It is
/// a hash of both ids and the attempt: different for every pair, and without a source of randomness.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    pair: [u8; 64],
    min: Duration,
    max: Duration,
    attempt: u32,
}

impl Backoff {
    pub(crate) fn new(us: NodeId, peer: NodeId, min: Duration, max: Duration) -> Self {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(us.as_bytes());
        pair[32..].copy_from_slice(peer.as_bytes());
        Self { pair, min, max, attempt: 0 }
    }

    /// The delay before the next attempt.
    pub(crate) fn next_delay(&mut self) -> Duration {
        let doubled = self.min.saturating_mul(1 << self.attempt.min(30)).min(self.max);
        let hash = Sha256::new().chain_update(self.pair).chain_update(self.attempt.to_be_bytes()).finalize();
        let jitter = f64::from(u16::from_be_bytes([hash[0], hash[1]])) / f64::from(u16::MAX);
        self.attempt = self.attempt.saturating_add(1);
        doubled.mul_f64(1.0 - jitter / 2.0)
    }

    /// Begins again with the shortest delay. Called once a connection has lasted [`Self::longest`]: a peer that accepts
    /// and hangs up at once must not be dialled every second.
    pub(crate) fn reset(&mut self) {
        self.attempt = 0;
    }

    /// Whether attempts have failed since it began.
    pub(crate) fn has_failed(&self) -> bool {
        self.attempt > 1
    }

    pub(crate) fn longest(&self) -> Duration {
        self.max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_secs(1);
    const MAX: Duration = Duration::from_secs(30);

    fn backoff(us: u8) -> Backoff {
        Backoff::new(NodeId([us; 32]), NodeId([9; 32]), MIN, MAX)
    }

    #[test]
    fn delays_double_up_to_the_longest_and_lose_at_most_half_to_jitter() {
        let mut backoff = backoff(1);
        for attempt in 0..100 {
            let doubled = MIN.saturating_mul(1 << attempt.min(20)).min(MAX);
            let delay = backoff.next_delay();
            assert!(delay <= doubled && delay >= doubled / 2, "attempt {attempt}: {delay:?}");
        }
    }

    #[test]
    fn two_nodes_that_lost_the_same_peer_wait_differently() {
        assert_ne!(backoff(1).next_delay(), backoff(2).next_delay());
    }

    #[test]
    fn a_reset_begins_with_the_shortest_delay() {
        let mut backoff = backoff(1);
        let first = backoff.next_delay();
        backoff.next_delay();
        backoff.reset();
        assert_eq!(backoff.next_delay(), first);
    }
}
