//! Which code: the cheapest that survives what the owner named.

use std::fmt;

use bithealth_types::{CODED_PACK_LEN_MIN, Code, NodeId, SHARD_COUNT_MAX};

use crate::layout::{Map, water_level};
use crate::site::{Policy, Site, Survive};
use crate::survival::Unit;

/// How often a restore may fail once the regions a policy names are lost: fewer than 1 of 10,000.
pub const FAILURES_MAX: f64 = 1e-4;

/// How often any other node is up.
pub const NODE_UP: f64 = 0.99;

/// A code that leaves no region a free node counts as this part dearer than it is: where every node holds a shard, nobody
/// can take over a lost one, and its author must code the pack anew.
const NO_FREE_NODE: f64 = 0.2;

/// Most regions a policy may name: the sets of lost regions are searched, and nobody runs in more places at once.
pub const SURVIVE_REGIONS_MAX: u32 = 4;

/// Rounding errors of a probability do not decide: what is equal to the limit is not below it.
const ROUNDING: f64 = 1.0 - 1e-9;

/// Why no code holds a policy, or a code cannot be placed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PolicyError {
    /// The policy asks for more than is ever searched.
    TooMany {
        /// Regions the policy names.
        regions: u32,
    },
    /// No node may hold a shard.
    NoSite {
        /// The policy's jurisdictions.
        keep_in: Vec<String>,
        /// Nodes that answer.
        answering: usize,
    },
    /// Too few regions.
    Regions {
        /// Regions that must hold shards.
        want: usize,
        /// Regions with a node that answers and may hold shards.
        have: Vec<String>,
        /// The policy's jurisdictions.
        keep_in: Vec<String>,
    },
    /// Enough regions, but too few nodes in them.
    Nodes {
        /// What must survive.
        survive: Survive,
        /// Nodes that answer and may hold shards.
        nodes: usize,
        /// Regions they are in.
        regions: usize,
        /// The policy's jurisdictions.
        keep_in: Vec<String>,
    },
    /// The policy holds only where another state's jurisdiction gets enough shards to restore.
    SingleState {
        /// Jurisdictions of the nodes that answer and may hold shards.
        jurisdictions: Vec<String>,
    },
    /// A code of more shards than there are nodes.
    TooFewNodes {
        /// Shards of the code.
        n: u16,
        /// Nodes that may hold shards.
        nodes: usize,
    },
}

impl std::error::Error for PolicyError {}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooMany { regions } => {
                write!(
                    f,
                    "the policy is to survive the loss of {regions} regions, at most {SURVIVE_REGIONS_MAX} can be"
                )
            }
            Self::NoSite { keep_in, answering } => {
                write!(f, "none of the {answering} nodes that answer may hold shards{}", only(keep_in))
            }
            Self::Regions { want, have, keep_in } => {
                let (want, have_count) = (want.saturating_sub(1), have.len().saturating_sub(1));
                let verb = if have_count == 1 { "answers" } else { "answer" };
                write!(f, "needs shards in at least {want} other regions, only {have_count} {verb}")?;
                write!(f, " (nodes answer in {}){}", have.join(", "), only(keep_in))
            }
            Self::Nodes { survive, nodes, regions, keep_in } => {
                write!(f, "to survive the loss of {} regions and {} nodes at once, ", survive.regions, survive.nodes)?;
                write!(f, "more nodes are needed than the {nodes} that answer in {regions} regions{}", only(keep_in))
            }
            Self::SingleState { jurisdictions } => write!(
                f,
                "no layout over {} leaves every other state with too few shards to restore alone",
                jurisdictions.join(", ")
            ),
            Self::TooFewNodes { n, nodes } => write!(f, "{n} shards need as many nodes, {nodes} may hold one"),
        }
    }
}

fn only(keep_in: &[String]) -> String {
    if keep_in.is_empty() { String::new() } else { format!("; keep_in leaves only {}", keep_in.join(", ")) }
}

/// The code for a pack of `pack_len` bytes by `author`, given the nodes that answer now (the author among them).
///
/// After losing any `survive.regions` whole regions and any `survive.nodes` further nodes at once, at least k shards
/// remain, in whatever layout [`place`](crate::place()) gives the pack ("regions of happiness"). `nodes` counts
/// organisations where there are enough of them ([`Unit`]). Of the codes that do this the cheapest, counted in bytes
/// stored on other nodes (their shards are whole leaves; up to a fifth more where regions keep no node free that could
/// take over a lost shard), whose restores fail in fewer than [`FAILURES_MAX`] of all cases
/// once the regions are lost and every node left is up [`NODE_UP`] of the time ([`restore_failure`]); where the nodes of
/// the day reach that with no code, the one that fails least.
///
/// A pack below [`CODED_PACK_LEN_MIN`] is kept as whole copies, as few as hold the policy. (It is coded too where whole
/// copies cannot hold `no_single_state`.)
///
/// # Errors
/// [`PolicyError`] if no code holds the policy now; it says what is missing.
pub fn choose(policy: &Policy, author: &NodeId, sites: &[Site], pack_len: u64) -> Result<Code, PolicyError> {
    if policy.survive.regions > SURVIVE_REGIONS_MAX {
        return Err(PolicyError::TooMany { regions: policy.survive.regions });
    }
    let map = Map::new(policy, author, sites);
    if map.len() == 0 {
        return Err(PolicyError::NoSite { keep_in: policy.keep_in.clone(), answering: sites.len() });
    }
    let unit = map.unit(policy.survive);
    let whole = if pack_len < CODED_PACK_LEN_MIN as u64 { fewest_copies(policy, &map, unit) } else { None };
    whole.or_else(|| cheapest(policy, &map, unit, pack_len)).ok_or_else(|| missing(policy, author, &map))
}

/// How often a restore fails for want of shards, when `k` are needed and each of `left` is there [`NODE_UP`] of the time.
///
/// The lower tail of the binomial distribution, summed term by term from the smallest: only +, * and / on `f64`.
pub fn restore_failure(k: usize, left: usize) -> f64 {
    tails(left)[k.min(left + 1)]
}

/// Element k: the probability that fewer than k of `nodes` are up.
fn tails(nodes: usize) -> Vec<f64> {
    let mut terms = vec![1.0; nodes + 1]; // terms[i]: exactly i are up
    for _ in 0..nodes {
        terms[nodes] *= NODE_UP;
    }
    for up in (0..nodes).rev() {
        terms[up] = terms[up + 1] * (up + 1) as f64 / (nodes - up) as f64 * ((1.0 - NODE_UP) / NODE_UP);
    }
    let mut below = 0.0;
    let mut tails = vec![0.0];
    tails.extend(terms.iter().map(|term| {
        below += term;
        below
    }));
    tails
}

fn fewest_copies(policy: &Policy, map: &Map<'_>, unit: Unit) -> Option<Code> {
    let holds = |n: &usize| {
        let plan = map.plan(*n, 1);
        plan.is_some_and(|plan| map.exposure(&plan.levels, *n, unit).worst(policy.survive).shards < *n)
    };
    let n = (1..=map.len().min(usize::from(SHARD_COUNT_MAX))).find(holds)?;
    Some(code(1, n))
}

fn code(k: usize, n: usize) -> Code {
    Code::new(k as u32, n as u32).expect("1 <= k <= n <= SHARD_COUNT_MAX")
}

/// A code that holds the policy.
struct Candidate {
    code: Code,
    /// Bytes on other nodes, more where no nodes are left free.
    cost: u64,
    failure: f64,
}

impl Candidate {
    fn better_than(&self, other: &Self) -> bool {
        let reliable = |candidate: &Self| candidate.failure < FAILURES_MAX * ROUNDING;
        match (reliable(self), reliable(other)) {
            (true, true) => (self.cost, self.code.n()) < (other.cost, other.code.n()),
            (false, false) => (self.failure, self.cost) < (other.failure, other.cost),
            (own, _) => own,
        }
    }
}

fn cheapest(policy: &Policy, map: &Map<'_>, unit: Unit, pack_len: u64) -> Option<Code> {
    let mut best: Option<Candidate> = None;
    for n in 1..=map.len().min(usize::from(SHARD_COUNT_MAX)) {
        // A quick bound first: what regions alone cost in the most level layout, and one shard per further unit.
        let (level, full) = water_level(&map.region_sites, n)?;
        let k_most = n.saturating_sub(most_in_regions(map, level, full, policy.survive.regions));
        let k_most = k_most.saturating_sub(policy.survive.nodes as usize);
        let cheap = |k: usize| (n as u64 - 1) * code(k, n).shard_len(pack_len);
        let beaten = |best: &Candidate| best.failure < FAILURES_MAX * ROUNDING && cheap(k_most) >= best.cost;
        if k_most == 0 || best.as_ref().is_some_and(beaten) {
            continue;
        }
        // Only `no_single_state` makes the layout depend on k.
        let mut plan = map.plan(n, k_most);
        for k in (1..=k_most).rev() {
            if policy.no_single_state {
                plan = map.plan(n, k);
            }
            let Some(plan) = &plan else { continue };
            let exposure = map.exposure(&plan.levels, n, unit);
            if n - exposure.worst(policy.survive).shards < k {
                continue;
            }
            let failure = restore_failure(k, n - exposure.worst_regions(policy.survive.regions));
            let cost = cheap(k) + (cheap(k) as f64 * NO_FREE_NODE * map.crowded(&plan.witness)) as u64;
            let candidate = Candidate { code: code(k, n), cost, failure };
            if best.as_ref().is_none_or(|best| candidate.better_than(best)) {
                best = Some(candidate);
            }
        }
    }
    best.map(|best| best.code)
}

fn most_in_regions(map: &Map<'_>, level: usize, full: usize, regions: u32) -> usize {
    let mut held: Vec<usize> = map.region_sites.iter().map(|&sites| sites.min(level)).collect();
    held.sort_unstable_by(|a, b| b.cmp(a));
    let lost = held.iter().take(regions as usize);
    lost.clone().sum::<usize>() - lost.filter(|&&shards| shards == level).count().saturating_sub(full)
}

fn missing(policy: &Policy, author: &NodeId, map: &Map<'_>) -> PolicyError {
    let free = Policy { no_single_state: false, ..policy.clone() };
    let survive = policy.survive;
    let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    if map.regions.len() <= survive.regions as usize {
        let want = survive.regions as usize + 1;
        return PolicyError::Regions { want, have: owned(&map.regions), keep_in: policy.keep_in.clone() };
    }
    let copies = map.sites.iter().map(|site| (*site).clone()).collect::<Vec<_>>();
    let freed = Map::new(&free, author, &copies);
    if policy.no_single_state && fewest_copies(&free, &freed, freed.unit(survive)).is_some() {
        return PolicyError::SingleState { jurisdictions: owned(&map.jurisdictions) };
    }
    let (nodes, regions) = (map.len(), map.regions.len());
    PolicyError::Nodes { survive, nodes, regions, keep_in: policy.keep_in.clone() }
}

#[cfg(test)]
mod tests;
