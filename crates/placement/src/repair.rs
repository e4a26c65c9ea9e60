//! What is missing of a pack, who rebuilds it, and which copies are spare.
//!
//! Nobody is told to repair. Every node looks at the same ledger and at who answers it, and computes the same: of a shard
//! whose holder is gone, the next-ranked node is the taker ([`crate::substitutes`]), rebuilds it from others, and says so
//! on the ledger. Nodes that see different peers for a while at worst make a copy too many, which is spare later.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bithealth_types::{Code, NodeId, PackId, ShardIndex, Time};

use crate::place::substitutes;
use crate::shortfall::{margin, shortfall};
use crate::site::{Policy, Site};

/// Since when nodes do not answer.
///
/// Only silence without a break counts: a node that comes and goes is never gone, and nothing is moved for it.
#[derive(Clone, Debug, Default)]
pub struct Absences {
    since: BTreeMap<NodeId, Time>,
}

impl Absences {
    /// Of these nodes some answer now; the others are away since now, if they were not before.
    pub fn see(&mut self, now: Time, nodes: impl IntoIterator<Item = NodeId>, answers: impl Fn(&NodeId) -> bool) {
        let silent = nodes.into_iter().filter(|node| !answers(node));
        self.since = silent.map(|node| (node, self.since.get(&node).copied().unwrap_or(now))).collect();
    }

    /// Those that have been away for this long: what they hold counts as lost.
    pub fn gone(&self, now: Time, after: Duration) -> BTreeSet<NodeId> {
        self.since.iter().filter(|(_, since)| now.since(**since) >= after).map(|(node, _)| *node).collect()
    }

    /// How long until the next of those that are away is gone.
    pub fn next_gone(&self, now: Time, after: Duration) -> Option<Duration> {
        let left = self.since.values().filter_map(|since| after.checked_sub(now.since(*since)));
        left.filter(|left| !left.is_zero()).min()
    }
}

/// How the network looks from one node.
#[derive(Clone, Debug)]
pub struct View {
    /// All nodes that may hold shards now.
    pub sites: Vec<Site>,
    /// Those that answer.
    pub here: BTreeSet<NodeId>,
    /// Those whose shards count as lost.
    pub gone: BTreeSet<NodeId>,
}

/// A pack, and where the ledger says that its shards are.
#[derive(Clone, Debug)]
pub struct Placed {
    /// The pack.
    pub pack: PackId,
    /// Its code.
    pub code: Code,
    /// Who keeps all of it.
    pub author: NodeId,
    /// What its owner asks.
    pub policy: Policy,
    /// The holder of each shard.
    pub holders: Vec<(ShardIndex, NodeId)>,
}

/// How a pack stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// How many more nodes may be lost, of those that answer; negative: so many shards are missing to restore.
    pub margin: i64,
    /// Shards whose holder is gone, or leaves.
    pub missing: Vec<ShardIndex>,
    /// Who rebuilds which of them. A shard that nobody can take is not here.
    pub takers: Vec<(ShardIndex, NodeId)>,
}

impl View {
    /// How a pack stands.
    pub fn standing(&self, placed: &Placed) -> Standing {
        let answering: Vec<_> = placed.holders.iter().copied().filter(|(_, node)| self.here.contains(node)).collect();
        let is_missing = |node: &NodeId| !self.keeps(placed, node);
        let missing: Vec<ShardIndex> =
            placed.holders.iter().filter(|(_, node)| is_missing(node)).map(|(shard, _)| *shard).collect();
        let takers = if missing.is_empty() { Vec::new() } else { self.takers(placed) };
        Standing { margin: margin(placed.code, &answering), missing, takers }
    }

    /// Whether a copy beside the one of the shard's holder is of no use any more: all shards stand where the ledger says,
    /// all holders answer, and together they hold the policy.
    ///
    /// That the holder really has it is for the caller to check: anybody can write that it does.
    pub fn is_spare(&self, placed: &Placed) -> bool {
        let Placed { code, author, policy, holders, .. } = placed;
        let stands = |node: &NodeId| self.here.contains(node) && self.keeps(placed, node);
        holders.len() == usize::from(code.n())
            && holders.iter().all(|(_, node)| stands(node))
            && shortfall(policy, *code, author, holders, &self.sites).is_none()
    }

    /// Whether the author should code the pack anew for the nodes that answer: shards are missing that nobody can take, since
    /// every node has one, and without them the policy does not hold.
    pub fn needs_other_code(&self, placed: &Placed) -> bool {
        let Standing { missing, takers, .. } = self.standing(placed);
        let Placed { code, author, policy, holders, .. } = placed;
        let kept = holders.iter().filter(|(shard, _)| !missing.contains(shard));
        let stand: Vec<_> = kept.chain(&takers).copied().collect();
        takers.len() < missing.len() && shortfall(policy, *code, author, &stand, &self.sites).is_some()
    }

    /// The nodes that can take something new.
    pub fn answering(&self) -> Vec<Site> {
        self.sites.iter().filter(|site| self.here.contains(&site.node)).cloned().collect()
    }

    /// Whether what a node holds may stay there. One that offers nothing to others leaves, but keeps its own packs.
    fn keeps(&self, placed: &Placed, node: &NodeId) -> bool {
        let site = self.sites.iter().find(|site| site.node == *node);
        site.is_some_and(|site| site.capacity > 0 || *node == placed.author) && !self.gone.contains(node)
    }

    /// Only who answers takes something new; who is away for a while keeps what it has.
    fn takers(&self, placed: &Placed) -> Vec<(ShardIndex, NodeId)> {
        let computed: Vec<NodeId> = placed.holders.iter().map(|(_, node)| *node).collect();
        let keeps: BTreeSet<NodeId> = computed.iter().copied().filter(|node| self.keeps(placed, node)).collect();
        let live = |node: &NodeId| keeps.contains(node) || self.here.contains(node) && self.keeps(placed, node);
        substitutes(&placed.policy, placed.code, &placed.pack, &placed.author, &self.sites, &computed, &live)
    }
}

#[cfg(test)]
mod tests;
