//! Nodes we stay connected with: dialled again when the connection is lost.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bithealth_types::NodeId;
use libp2p::{Multiaddr, PeerId};
use tokio::time::Instant;

use super::Task;
use crate::redial::Backoff;

/// Addresses that are tried of those somebody announces on the LAN.
const NEIGHBOUR_ADDRESSES_MAX: usize = 4;

pub(super) struct Kept {
    node: NodeId,
    backoff: Backoff,
    pub(super) state: KeptState,
    neighbour_not_before: Instant,
}

pub(super) enum KeptState {
    Connected { since: Instant },
    Dialling,
    Waiting { until: Instant },
}

impl Task {
    pub(super) fn keep(&mut self, peer: PeerId, node: NodeId, addresses: Vec<Multiaddr>) {
        let known = self.peers.get_or_add(node);
        known.kept.store(true, Relaxed);
        known.learn(addresses, self.config.addresses_per_peer_max);
        if peer == *self.swarm.local_peer_id() || self.kept.contains_key(&peer) {
            return;
        }
        let min = Duration::from_millis(self.config.redial_min_ms);
        let max = Duration::from_millis(self.config.redial_max_ms);
        let now = Instant::now();
        let state = if self.swarm.is_connected(&peer) {
            KeptState::Connected { since: now }
        } else {
            KeptState::Waiting { until: now }
        };
        let backoff = Backoff::new(self.us, node, min, max);
        self.kept.insert(peer, Kept { node, backoff, state, neighbour_not_before: now });
    }

    pub(super) fn release(&mut self, peer: PeerId, node: NodeId) {
        self.kept.remove(&peer);
        if let Some(known) = self.peers.get(&node) {
            known.kept.store(false, Relaxed);
        }
        self.peers.forget_if_stranger(&node);
    }

    pub(super) fn redial(&mut self, peer: PeerId) {
        let Some(kept) = self.kept.get_mut(&peer) else { return };
        kept.state = KeptState::Dialling;
        if kept.backoff.has_failed() {
            self.dials.search(&mut self.swarm, peer); // it may have moved: the next attempt knows
        }
        let addresses = self.peers.get(&kept.node).map(|known| known.addresses()).unwrap_or_default();
        if !self.dials.redial(&mut self.swarm, peer, addresses) {
            self.wait_before_redial(peer);
        }
    }

    /// Dials a kept node that somebody announces on the LAN, whoever that was. Not more often than it would be redialled
    /// at best, and what is announced is not kept: anybody can announce anything.
    pub(super) fn dial_neighbour(&mut self, peer: PeerId, mut addresses: Vec<Multiaddr>, now: Instant) {
        let Some(kept) = self.kept.get_mut(&peer) else { return };
        if self.swarm.is_connected(&peer) || kept.neighbour_not_before > now {
            return;
        }
        kept.neighbour_not_before = now + Duration::from_millis(self.config.redial_min_ms);
        addresses.truncate(NEIGHBOUR_ADDRESSES_MAX);
        self.dials.redial(&mut self.swarm, peer, addresses);
    }

    /// If the peer is kept and not connected: sets when it is dialled again.
    pub(super) fn wait_before_redial(&mut self, peer: PeerId) {
        if self.swarm.is_connected(&peer) {
            return;
        }
        let Some(kept) = self.kept.get_mut(&peer) else { return };
        let now = Instant::now();
        match kept.state {
            KeptState::Waiting { .. } => return,
            KeptState::Connected { since } if now - since >= kept.backoff.longest() => kept.backoff.reset(),
            KeptState::Connected { .. } | KeptState::Dialling => {}
        }
        kept.state = KeptState::Waiting { until: now + kept.backoff.next_delay() };
    }

    /// Dials the kept nodes whose time has come.
    pub(super) fn redial_due(&mut self, now: Instant) {
        let is_due = |kept: &Kept| matches!(kept.state, KeptState::Waiting { until } if until <= now);
        let due: Vec<PeerId> = self.kept.iter().filter(|(_, kept)| is_due(kept)).map(|(peer, _)| *peer).collect();
        for peer in due {
            self.redial(peer);
        }
    }
}
