//! How many shards a region, an organisation and a jurisdiction take, before it is known which node takes which.
//!
//! [`crate::choose`] must promise what [`crate::place`] then does for a pack whose id it cannot know yet. So both work
//! with [`Levels`], which depend on the nodes and the code only: bounds that every layout keeps, whatever the draws say.

use bithealth_types::{MemberId, NodeId};

use crate::site::{Policy, Site, Survive};
use crate::survival::{Exposure, Unit};

/// The nodes that may hold shards of an author's packs, in the order of their ids, and how they belong together.
pub(crate) struct Map<'a> {
    pub(crate) sites: Vec<&'a Site>,
    /// Index into `regions`, per site.
    pub(crate) region: Vec<usize>,
    pub(crate) member: Vec<usize>,
    pub(crate) jurisdiction: Vec<usize>,
    pub(crate) regions: Vec<&'a str>,
    pub(crate) members: Vec<MemberId>,
    pub(crate) jurisdictions: Vec<&'a str>,
    /// Sites per region.
    pub(crate) region_sites: Vec<usize>,
    /// The author's own site.
    pub(crate) author: Option<usize>,
    /// Whether `no_single_state` bounds a jurisdiction, per jurisdiction.
    foreign: Vec<bool>,
    no_single_state: bool,
}

/// The most shards that a region, an organisation and another state's jurisdiction hold in any layout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Levels {
    region_max: usize,
    /// So many regions may be at `region_max`; the others hold one less.
    regions_full: usize,
    member_max: usize,
    foreign_max: usize,
}

/// Levels, and one layout that keeps them.
pub(crate) struct Plan {
    pub(crate) levels: Levels,
    /// Indices of sites.
    pub(crate) witness: Vec<usize>,
}

/// What a layout under construction holds.
pub(crate) struct Tally {
    pub(crate) region: Vec<usize>,
    pub(crate) member: Vec<usize>,
    pub(crate) jurisdiction: Vec<usize>,
    pub(crate) taken: Vec<bool>,
    pub(crate) chosen: Vec<usize>,
}

impl<'a> Map<'a> {
    pub(crate) fn new(policy: &Policy, author: &NodeId, sites: &'a [Site]) -> Self {
        let may_hold = |site: &&Site| policy.allows(&site.jurisdiction) && (site.capacity > 0 || site.node == *author);
        let mut kept: Vec<&Site> = sites.iter().filter(may_hold).collect();
        kept.sort_by_key(|site| site.node);
        kept.dedup_by_key(|site| site.node);
        let (regions, region) = classes(kept.iter().map(|site| site.region.as_str()));
        let (members, member) = classes(kept.iter().map(|site| site.member));
        let (jurisdictions, jurisdiction) = classes(kept.iter().map(|site| site.jurisdiction.as_str()));
        let mut region_sites = vec![0; regions.len()];
        region.iter().for_each(|&region| region_sites[region] += 1);
        let home = sites.iter().find(|site| site.node == *author).map(|site| site.jurisdiction.as_str());
        let foreign = jurisdictions.iter().map(|name| policy.no_single_state && Some(*name) != home).collect();
        Self {
            author: kept.iter().position(|site| site.node == *author),
            sites: kept,
            region,
            member,
            jurisdiction,
            regions,
            members,
            jurisdictions,
            region_sites,
            foreign,
            no_single_state: policy.no_single_state,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.sites.len()
    }

    /// What the policy's `nodes` counts here: organisations, where a whole copy on every node would survive it.
    pub(crate) fn unit(&self, survive: Survive) -> Unit {
        let everywhere = Exposure {
            shards: self.len(),
            regions: self.region_sites.clone(),
            full: None,
            units: self.units(Unit::Organisation),
            unit_max: usize::MAX,
        };
        if everywhere.worst(survive).shards < self.len() { Unit::Organisation } else { Unit::Node }
    }

    /// The most a layout of `n` shards within `levels` can lose.
    pub(crate) fn exposure(&self, levels: &Levels, n: usize, unit: Unit) -> Exposure {
        Exposure {
            shards: n,
            regions: self.region_sites.iter().map(|&sites| sites.min(levels.region_max)).collect(),
            full: Some((levels.region_max, levels.regions_full)),
            units: self.units(unit),
            unit_max: if unit == Unit::Organisation { levels.member_max } else { 1 },
        }
    }

    /// The levels of a layout of `n` shards, any `k` of which restore; `None` where there is no such layout.
    ///
    /// As level as the nodes allow: first over regions (no region has two shards more than one with room), then over
    /// organisations. Where `no_single_state` stands in the way, regions give way first.
    pub(crate) fn plan(&self, n: usize, k: usize) -> Option<Plan> {
        let (level, full) = water_level(&self.region_sites, n)?;
        let (member_level, _) = water_level(&count(&self.member, self.members.len()), n)?;
        let foreign_max = if self.no_single_state { k - 1 } else { usize::MAX };
        let region_most = if self.no_single_state { *self.region_sites.iter().max()? } else { level };
        for region_max in level..=region_most {
            let regions_full = if region_max == level { full } else { self.regions.len() };
            for member_max in member_level..=n {
                let levels = Levels { region_max, regions_full, member_max, foreign_max };
                if let Some(witness) = self.fill(&levels, n) {
                    return Some(Plan { levels, witness });
                }
            }
        }
        None
    }

    /// The part of the regions in which each site is among these.
    pub(crate) fn crowded(&self, chosen: &[usize]) -> f64 {
        let mut free = self.region_sites.clone();
        chosen.iter().for_each(|&site| free[self.region[site]] -= 1);
        free.iter().filter(|&&free| free == 0).count() as f64 / free.len() as f64
    }

    /// Whether one more shard at this site keeps the levels.
    pub(crate) fn admits(&self, levels: &Levels, tally: &Tally, site: usize) -> bool {
        let region = tally.region[self.region[site]];
        let full = || tally.region.iter().filter(|&&shards| shards == levels.region_max).count();
        !tally.taken[site]
            && region < levels.region_max
            && (region + 1 < levels.region_max || full() < levels.regions_full)
            && tally.member[self.member[site]] < levels.member_max
            && self.state_has_room(tally, site, levels.foreign_max)
    }

    /// Whether one more shard at this site leaves another state with at most `foreign_max`.
    pub(crate) fn state_has_room(&self, tally: &Tally, site: usize, foreign_max: usize) -> bool {
        let jurisdiction = self.jurisdiction[site];
        !self.foreign[jurisdiction] || tally.jurisdiction[jurisdiction] < foreign_max
    }

    pub(crate) fn tally(&self) -> Tally {
        Tally {
            region: vec![0; self.regions.len()],
            member: vec![0; self.members.len()],
            jurisdiction: vec![0; self.jurisdictions.len()],
            taken: vec![false; self.len()],
            chosen: Vec::new(),
        }
    }

    pub(crate) fn take(&self, tally: &mut Tally, site: usize) {
        tally.region[self.region[site]] += 1;
        tally.member[self.member[site]] += 1;
        tally.jurisdiction[self.jurisdiction[site]] += 1;
        tally.taken[site] = true;
        tally.chosen.push(site);
    }

    /// One layout within `levels`, if this finds one: the emptiest region next, in it the emptiest organisation, of
    /// these the one with the fewest other places to go.
    fn fill(&self, levels: &Levels, n: usize) -> Option<Vec<usize>> {
        let mut tally = self.tally();
        let mut places = count(&self.member, self.members.len());
        if let Some(author) = self.author {
            self.admits(levels, &tally, author).then(|| self.take(&mut tally, author))?;
            places[self.member[author]] -= 1;
        }
        while tally.chosen.len() < n {
            let open = (0..self.len()).filter(|&site| self.admits(levels, &tally, site));
            let site = open.min_by_key(|&site| {
                (tally.region[self.region[site]], tally.member[self.member[site]], places[self.member[site]], site)
            })?;
            self.take(&mut tally, site);
            places[self.member[site]] -= 1;
        }
        Some(tally.chosen)
    }

    fn units(&self, unit: Unit) -> Vec<Vec<(usize, usize)>> {
        match unit {
            Unit::Node => self.region.iter().map(|&region| vec![(region, 1)]).collect(),
            Unit::Organisation => {
                let mut units = vec![Vec::new(); self.members.len()];
                self.member.iter().zip(&self.region).for_each(|(&member, &region)| units[member].push((region, 1)));
                units
            }
        }
    }
}

/// The distinct values in order, and the index of each given one among them.
fn classes<T: Ord + Clone>(values: impl Iterator<Item = T> + Clone) -> (Vec<T>, Vec<usize>) {
    let distinct: std::collections::BTreeSet<T> = values.clone().collect();
    let distinct: Vec<T> = distinct.into_iter().collect();
    let index = |value: T| distinct.binary_search(&value).expect("every value is among the distinct ones");
    let indices = values.map(index).collect();
    (distinct, indices)
}

fn count(classes: &[usize], len: usize) -> Vec<usize> {
    let mut counts = vec![0; len];
    classes.iter().for_each(|&class| counts[class] += 1);
    counts
}

/// The lowest level at which vessels of these heights hold `n`, and how many of them must be filled up to it (the
/// others with room are one below); `None` where they hold less, or `n` is 0.
pub(crate) fn water_level(heights: &[usize], n: usize) -> Option<(usize, usize)> {
    let held = |level: usize| heights.iter().map(|&height| height.min(level)).sum::<usize>();
    let level = (1..=heights.iter().copied().max()?).find(|&level| held(level) >= n).filter(|_| n > 0)?;
    Some((level, n - held(level - 1)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::fixture::{author, sites, topology};

    #[test]
    fn water_stands_level_in_vessels_of_different_heights() {
        assert_eq!(water_level(&[3, 3, 3], 9), Some((3, 3)));
        assert_eq!(water_level(&[3, 3, 3], 4), Some((2, 1)));
        assert_eq!(water_level(&[1, 5, 5], 6), Some((3, 1)));
        assert_eq!(water_level(&[1, 1], 3), None);
        assert_eq!(water_level(&[1, 1], 0), None);
    }

    #[test]
    fn an_organisation_in_two_regions_leaves_the_shared_one_to_the_other() {
        // Organisation 0 in regions a and b, organisation 1 in b only: with one shard each, 0 must take region a.
        let sites = sites(&[("a", 0), ("b", 0), ("b", 1)]);
        let map = Map::new(&Policy::default(), &NodeId([99; 32]), &sites);
        let plan = map.plan(2, 1).unwrap();
        let mut held: Vec<_> = plan.witness.iter().map(|&site| (map.region[site], map.member[site])).collect();
        held.sort_unstable();
        assert_eq!(held, [(0, 0), (1, 1)]);
    }

    proptest! {
        #[test]
        fn every_number_of_nodes_has_a_layout(sites in topology(), n in 1_usize..20) {
            let map = Map::new(&Policy::default(), &author(), &sites);
            let plan = map.plan(n, 1);
            prop_assert_eq!(plan.is_some(), n <= sites.len());
            if let Some(plan) = plan {
                let mut nodes = plan.witness;
                nodes.sort_unstable();
                nodes.dedup();
                prop_assert_eq!(nodes.len(), n, "no two shards on one node");
                prop_assert!(nodes.contains(&map.author.unwrap()));
            }
        }
    }
}
