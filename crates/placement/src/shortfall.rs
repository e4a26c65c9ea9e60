//! Whether the shards that stand hold the policy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bithealth_types::{Code, MemberId, NodeId, ShardIndex};

use crate::layout::Map;
use crate::site::{Policy, Site};
use crate::survival::{Exposure, Unit};

/// A loss that the policy names and the pack would not survive, or a rule about jurisdictions that is broken.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shortfall {
    /// Losing these at once would leave too few shards.
    Loss {
        /// Regions lost.
        regions: Vec<String>,
        /// Organisations lost besides.
        organisations: Vec<MemberId>,
        /// Nodes lost besides, where the policy counts nodes.
        nodes: Vec<NodeId>,
        /// Shards left then.
        left: usize,
        /// Shards that restore.
        k: u16,
    },
    /// A shard lies where the policy does not allow it.
    Outside {
        /// The shard.
        shard: ShardIndex,
        /// The jurisdiction of its node.
        jurisdiction: String,
    },
    /// Another state holds enough shards to restore alone.
    SingleState {
        /// Whose law applies there.
        jurisdiction: String,
        /// Shards in it.
        shards: usize,
        /// Shards that restore.
        k: u16,
    },
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss { regions, organisations, nodes, left, k } => {
                let named = regions.iter().map(|name| format!("region {name}"));
                let named = named.chain(organisations.iter().map(|member| format!("organisation {}", member.short())));
                let named: Vec<String> =
                    named.chain(nodes.iter().map(|node| format!("node {}", node.short()))).collect();
                match named.as_slice() {
                    [] => write!(f, "{left} shards stand, {k} are needed to restore"),
                    _ => write!(f, "losing {} would leave {left} shards, {k} are needed", named.join(" and ")),
                }
            }
            Self::Outside { shard, jurisdiction } => {
                write!(f, "shard {shard} lies in {jurisdiction}, which keep_in does not name")
            }
            Self::SingleState { jurisdiction, shards, k } => {
                write!(f, "{jurisdiction} holds {shards} shards, and {k} are enough to restore")
            }
        }
    }
}

/// What the policy names and the acknowledged shards would not survive; `None` where the policy holds.
///
/// `sites` are all nodes the author could use; they say what `nodes` counts ([`Unit`]) and where the holders are. A
/// holder that is not among them counts for nothing. Of several holders of one shard the first counts: never more is
/// promised than stands. The worst loss is exact, not estimated.
pub fn shortfall(
    policy: &Policy,
    code: Code,
    author: &NodeId,
    holders: &[(ShardIndex, NodeId)],
    sites: &[Site],
) -> Option<Shortfall> {
    let by_node: BTreeMap<NodeId, &Site> = sites.iter().map(|site| (site.node, site)).collect();
    let mut seen = BTreeSet::new();
    let known = holders.iter().filter_map(|(shard, node)| Some((*shard, *by_node.get(node)?)));
    let held: Vec<(ShardIndex, &Site)> = known.filter(|(shard, _)| shard.0 < code.n() && seen.insert(*shard)).collect();
    outside(policy, &held)
        .or_else(|| single_state(policy, code, by_node.get(author).copied(), &held))
        .or_else(|| loss(policy, code, author, &held, sites))
}

/// How many more nodes may be lost, whichever they are, before the pack cannot be restored; negative: so many shards are
/// missing already.
pub fn margin(code: Code, holders: &[(ShardIndex, NodeId)]) -> i64 {
    let shards: BTreeMap<ShardIndex, NodeId> = holders.iter().rev().copied().collect();
    let mut per_node: BTreeMap<NodeId, i64> = BTreeMap::new();
    shards.values().for_each(|node| *per_node.entry(*node).or_default() += 1);
    let mut spare = shards.len() as i64 - i64::from(code.k());
    if spare < 0 {
        return spare;
    }
    let mut counts: Vec<i64> = per_node.into_values().collect();
    counts.sort_unstable();
    let lost = counts.iter().rev().take_while(|&&count| {
        spare -= count;
        spare >= 0
    });
    lost.count() as i64
}

fn outside(policy: &Policy, held: &[(ShardIndex, &Site)]) -> Option<Shortfall> {
    let (shard, site) = held.iter().find(|(_, site)| !policy.allows(&site.jurisdiction))?;
    Some(Shortfall::Outside { shard: *shard, jurisdiction: site.jurisdiction.clone() })
}

fn single_state(policy: &Policy, code: Code, author: Option<&Site>, held: &[(ShardIndex, &Site)]) -> Option<Shortfall> {
    let mut per_state: BTreeMap<&str, usize> = BTreeMap::new();
    held.iter().for_each(|(_, site)| *per_state.entry(&site.jurisdiction).or_default() += 1);
    let home = author.map(|site| site.jurisdiction.as_str());
    let alone = |(name, shards): &(&str, usize)| Some(*name) != home && *shards >= usize::from(code.k());
    let (name, shards) = per_state.into_iter().filter(|_| policy.no_single_state).find(alone)?;
    Some(Shortfall::SingleState { jurisdiction: name.to_owned(), shards, k: code.k() })
}

fn loss(
    policy: &Policy,
    code: Code,
    author: &NodeId,
    held: &[(ShardIndex, &Site)],
    sites: &[Site],
) -> Option<Shortfall> {
    let map = Map::new(policy, author, sites);
    let unit = map.unit(policy.survive);
    let mut regions: Vec<&str> = Vec::new();
    let mut units: Vec<(MemberId, Option<NodeId>)> = Vec::new();
    let mut exposure =
        Exposure { shards: held.len(), regions: Vec::new(), full: None, units: Vec::new(), unit_max: usize::MAX };
    for (_, site) in held {
        let region = index_of(&mut regions, site.region.as_str());
        let named = (site.member, (unit == Unit::Node).then_some(site.node));
        let unit = index_of(&mut units, named);
        exposure.regions.resize(regions.len(), 0);
        exposure.units.resize(units.len(), Vec::new());
        exposure.regions[region] += 1;
        exposure.units[unit].push((region, 1));
    }
    let worst = exposure.worst(policy.survive);
    let left = held.len() - worst.shards;
    let lost = || worst.units.iter().map(|&index| units[index]);
    (left < usize::from(code.k())).then(|| Shortfall::Loss {
        regions: worst.regions.iter().map(|&region| regions[region].to_owned()).collect(),
        organisations: lost().filter(|unit| unit.1.is_none()).map(|unit| unit.0).collect(),
        nodes: lost().filter_map(|unit| unit.1).collect(),
        left,
        k: code.k(),
    })
}

fn index_of<T: PartialEq>(values: &mut Vec<T>, value: T) -> usize {
    values.iter().position(|other| *other == value).unwrap_or_else(|| {
        values.push(value);
        values.len() - 1
    })
}

#[cfg(test)]
mod tests;
