//! Which node holds which shard.

use bithealth_types::{Code, NodeId, PackId, ShardIndex};

use crate::choose::PolicyError;
use crate::layout::{Map, Tally};
use crate::score::{Draw, mix, region_seed};
use crate::site::{Policy, Site};

/// The nodes that hold the shards of a pack: element i holds shard i. Shard 0 is the author's, where it is a site.
///
/// Nodes are taken in the order of their weighted rendezvous scores, and passed over where their region or organisation
/// has its fill: shards stand level over regions first, then over organisations, and never on one node twice. Which of
/// the nodes so found holds which shard is drawn by region and then by node, so that a node's successor in its region
/// takes over its shard and the others keep theirs.
///
/// All nodes compute the same from the same `sites`: the nodes at the height named in the pack commit.
///
/// # Errors
/// [`PolicyError::TooFewNodes`] if fewer than n sites may hold shards, [`PolicyError::SingleState`] if they would leave
/// another state able to restore alone. That the policy survives what it names is for [`choose`](crate::choose()) and
/// [`shortfall`](crate::shortfall()) to say.
pub fn place(
    policy: &Policy,
    code: Code,
    pack: &PackId,
    author: &NodeId,
    sites: &[Site],
) -> Result<Vec<NodeId>, PolicyError> {
    let map = Map::new(policy, author, sites);
    let (k, n) = (usize::from(code.k()), usize::from(code.n()));
    if map.len() < n {
        return Err(PolicyError::TooFewNodes { n: code.n(), nodes: map.len() });
    }
    let plan = map.plan(n, k).ok_or_else(|| {
        let jurisdictions = map.jurisdictions.iter().map(|name| (*name).to_owned()).collect();
        PolicyError::SingleState { jurisdictions }
    })?;
    let draws = draws(&map, pack);
    let ranked = ranked(&draws);
    let mut tally = map.tally();
    let pinned = map.author.into_iter();
    for site in pinned.chain(ranked.iter().copied()) {
        if tally.chosen.len() < n && map.admits(&plan.levels, &tally, site) {
            map.take(&mut tally, site);
        }
    }
    if tally.chosen.len() < n {
        tally = like(&map, &plan.witness, &ranked);
    }
    let shards = assign(&map, pack, &draws, &tally);
    Ok(shards.into_iter().map(|site| map.sites[site].node).collect())
}

/// Who steps in where the `computed` node of a shard does not answer: the next-ranked live nodes without a shard, keeping
/// the spread as far as they allow, and always the policy's jurisdictions. A shard nobody can take is left out.
pub fn substitutes(
    policy: &Policy,
    code: Code,
    pack: &PackId,
    author: &NodeId,
    sites: &[Site],
    computed: &[NodeId],
    live: &dyn Fn(&NodeId) -> bool,
) -> Vec<(ShardIndex, NodeId)> {
    let answering: Vec<Site> = sites.iter().filter(|site| live(&site.node)).cloned().collect();
    let mut map = Map::new(policy, author, &answering);
    let at = |node: &NodeId| map.sites.binary_search_by_key(node, |site| site.node).ok();
    let held: Vec<Option<usize>> = computed.iter().map(at).collect();
    let mut tally = map.tally();
    held.iter().flatten().for_each(|&site| map.take(&mut tally, site));
    let mut missing: Vec<usize> = (0..computed.len()).filter(|&shard| held[shard].is_none()).collect();
    let draws = draws(&map, pack);
    let ranked = ranked(&draws);
    let kept = tally.chosen.len();
    let want = kept + missing.len();

    // First within the levels that the nodes left allow a full layout, then wherever is emptiest.
    map.author = map.author.filter(|&site| tally.taken[site]);
    if let Some(plan) = map.plan(usize::from(code.n()).min(map.len()), usize::from(code.k())) {
        for &site in &ranked {
            if tally.chosen.len() < want && map.admits(&plan.levels, &tally, site) {
                map.take(&mut tally, site);
            }
        }
    }
    let foreign_max = usize::from(code.k()) - 1;
    while tally.chosen.len() < want {
        let free = ranked.iter().filter(|&&site| !tally.taken[site] && map.state_has_room(&tally, site, foreign_max));
        let emptiest = free.min_by_key(|&&site| (tally.region[map.region[site]], tally.member[map.member[site]]));
        let Some(&site) = emptiest else { break };
        map.take(&mut tally, site);
    }
    let mut taken = Vec::new();
    for &site in &tally.chosen[kept..] {
        // A shard of the same region if one is missing, so that fewer shards cross regions; else the first missing one.
        let near = |&shard: &usize| {
            sites.iter().any(|gone| gone.node == computed[shard] && gone.region == map.sites[site].region)
        };
        let position = missing.iter().position(near).unwrap_or(0);
        taken.push((ShardIndex(missing.remove(position) as u16), map.sites[site].node));
    }
    taken.sort_unstable();
    taken
}

fn draws(map: &Map<'_>, pack: &PackId) -> Vec<Draw> {
    map.sites.iter().map(|site| Draw::new(pack, &site.node, site.capacity)).collect()
}

fn ranked(draws: &[Draw]) -> Vec<usize> {
    let mut ranked: Vec<usize> = (0..draws.len()).collect();
    ranked.sort_unstable_by(|&a, &b| draws[a].rank(&draws[b]));
    ranked
}

/// A layout with as many shards in each region, organisation and jurisdiction as `witness` has, on the best-ranked nodes.
/// Taken where going by rank ended in a corner, which organisations in several regions make possible.
fn like(map: &Map<'_>, witness: &[usize], ranked: &[usize]) -> Tally {
    let cell = |site: usize| (map.region[site], map.member[site], map.jurisdiction[site]);
    let mut tally = map.tally();
    for &site in map.author.iter().chain(ranked) {
        let wanted = witness.iter().filter(|&&other| cell(other) == cell(site)).count();
        let has = tally.chosen.iter().filter(|&&other| cell(other) == cell(site)).count();
        if has < wanted && !tally.taken[site] {
            map.take(&mut tally, site);
        }
    }
    tally
}

/// Element i: the site of shard i.
fn assign(map: &Map<'_>, pack: &PackId, draws: &[Draw], tally: &Tally) -> Vec<usize> {
    let n = tally.chosen.len();
    let mut holder: Vec<Option<usize>> = vec![None; n];
    let mut room = tally.region.clone();
    let pinned = map.author.filter(|&author| tally.taken[author]);
    if let Some(author) = pinned {
        holder[0] = Some(author);
        room[map.region[author]] -= 1;
    }
    let open: Vec<usize> = (0..n).filter(|&shard| holder[shard].is_none()).collect();
    let seeds: Vec<u64> = map.regions.iter().map(|name| region_seed(pack, name)).collect();
    let regions: Vec<(usize, u64)> = seeds.iter().copied().enumerate().collect();
    let shards_of = pair_up(&open, &regions, &room);
    for (region, _) in regions {
        let shards: Vec<usize> = shards_of.iter().filter(|pair| pair.1 == region).map(|pair| pair.0).collect();
        let mine = |&&site: &&usize| map.region[site] == region && Some(site) != pinned;
        let nodes: Vec<(usize, u64)> = tally.chosen.iter().filter(mine).map(|&site| (site, draws[site].seed)).collect();
        let mut once = vec![0; map.len()];
        nodes.iter().for_each(|node| once[node.0] = 1);
        for (shard, site) in pair_up(&shards, &nodes, &once) {
            holder[shard] = Some(site);
        }
    }
    holder.into_iter().map(|site| site.expect("there are as many nodes as shards")).collect()
}

/// Pairs shards with takers, best draws first; each shard once, each taker as often as it has room. What was drawn for a
/// pair depends on the pair only, so where one taker changes, few others do.
fn pair_up(shards: &[usize], takers: &[(usize, u64)], room: &[usize]) -> Vec<(usize, usize)> {
    let mut room = room.to_vec();
    let each = |&shard: &usize| takers.iter().map(move |&(taker, seed)| (mix(seed, shard), shard, taker));
    let mut pairs: Vec<(u64, usize, usize)> = shards.iter().flat_map(each).collect();
    pairs.sort_unstable();
    let mut paired: Vec<(usize, usize)> = Vec::new();
    for (_, shard, taker) in pairs {
        if room[taker] > 0 && paired.iter().all(|pair| pair.0 != shard) {
            room[taker] -= 1;
            paired.push((shard, taker));
        }
    }
    paired
}

#[cfg(test)]
mod tests;
