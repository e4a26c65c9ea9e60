//! What is left after the worst loss a policy names.

use crate::site::Survive;

/// What `survive.nodes` counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Whole organisations: all nodes of one are lost together. Used where a whole copy on every node would survive it.
    Organisation,
    /// Single nodes: where there are too few organisations.
    Node,
}

/// How many shards regions and units (organisations or nodes) hold, exactly or at most.
#[derive(Debug)]
pub(crate) struct Exposure {
    /// All shards.
    pub(crate) shards: usize,
    /// Shards per region.
    pub(crate) regions: Vec<usize>,
    /// So many regions may be at `full` shards, the others hold one less; no limit where the counts are exact.
    pub(crate) full: Option<(usize, usize)>,
    /// Per unit: how many shards it holds in which region.
    pub(crate) units: Vec<Vec<(usize, usize)>>,
    /// No unit holds more than this, wherever its nodes are.
    pub(crate) unit_max: usize,
}

/// The worst loss.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loss {
    pub(crate) regions: Vec<usize>,
    pub(crate) units: Vec<usize>,
    pub(crate) shards: usize,
}

impl Exposure {
    /// The most shards that losing `survive.regions` regions and then `survive.nodes` units can cost.
    ///
    /// Taking the fullest regions first is not exact: a region all of one organisation goes with that organisation, and
    /// another region besides. With the regions fixed, however, units hold disjoint shards, so the fullest units are the
    /// worst ones. So the sets of regions are searched, fullest first, and a branch ends where even the fullest regions
    /// left and the fullest units cannot beat what was found; in a level layout that is at once.
    pub(crate) fn worst(&self, survive: Survive) -> Loss {
        let mut order: Vec<usize> = (0..self.regions.len()).collect();
        order.sort_by_key(|&region| std::cmp::Reverse(self.regions[region]));
        let mut totals: Vec<usize> =
            self.units.iter().map(|parts| parts.iter().map(|part| part.1).sum::<usize>().min(self.unit_max)).collect();
        totals.sort_unstable_by(|a, b| b.cmp(a));
        let units_most = totals.iter().take(survive.nodes as usize).sum();
        let mut search = Search { exposure: self, survive, order, units_most, best: None };
        search.descend(0, &mut Vec::new());
        search.best.expect("the first branch is never cut")
    }

    /// The most shards that losing `count` regions can cost.
    pub(crate) fn worst_regions(&self, count: u32) -> usize {
        self.worst(Survive { regions: count, nodes: 0 }).shards
    }

    fn regions_lost(&self, lost: &[usize]) -> usize {
        let most: usize = lost.iter().map(|&region| self.regions[region]).sum();
        let over = self.full.map_or(0, |(full, allowed)| {
            lost.iter().filter(|&&region| self.regions[region] == full).count().saturating_sub(allowed)
        });
        most - over
    }

    fn units_lost(&self, regions: &[usize], count: u32) -> (Vec<usize>, usize) {
        let outside = |parts: &Vec<(usize, usize)>| {
            let shards: usize = parts.iter().filter(|part| !regions.contains(&part.0)).map(|part| part.1).sum();
            shards.min(self.unit_max)
        };
        let mut held: Vec<(usize, usize)> = self.units.iter().map(outside).zip(0..).collect();
        held.sort_unstable_by(|a, b| b.0.cmp(&a.0).then(a.1.cmp(&b.1)));
        held.retain(|unit| unit.0 > 0);
        held.truncate(count as usize);
        (held.iter().map(|unit| unit.1).collect(), held.iter().map(|unit| unit.0).sum())
    }
}

struct Search<'a> {
    exposure: &'a Exposure,
    survive: Survive,
    order: Vec<usize>,
    units_most: usize,
    best: Option<Loss>,
}

impl Search<'_> {
    fn descend(&mut self, from: usize, lost: &mut Vec<usize>) {
        let left = (self.survive.regions as usize).min(self.order.len()) - lost.len();
        if left == 0 {
            let (units, in_units) = self.exposure.units_lost(lost, self.survive.nodes);
            let shards = (self.exposure.regions_lost(lost) + in_units).min(self.exposure.shards);
            if self.best.as_ref().is_none_or(|best| shards > best.shards) {
                self.best = Some(Loss { regions: lost.clone(), units, shards });
            }
            return;
        }
        for at in from..=self.order.len() - left {
            let next = self.order[at..at + left].iter();
            let most = lost.iter().chain(next).map(|&region| self.exposure.regions[region]).sum::<usize>();
            if self.best.as_ref().is_some_and(|best| (most + self.units_most).min(self.exposure.shards) <= best.shards)
            {
                return;
            }
            lost.push(self.order[at]);
            self.descend(at + 1, lost);
            lost.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Shards as (region, unit).
    fn exposure(shards: &[(usize, usize)]) -> Exposure {
        let mut regions = vec![0; 5];
        let mut units = vec![Vec::new(); 6];
        for &(region, unit) in shards {
            regions[region] += 1;
            units[unit].push((region, 1));
        }
        Exposure { shards: shards.len(), regions, full: None, units, unit_max: usize::MAX }
    }

    #[test]
    fn a_region_of_one_organisation_goes_with_the_organisation() {
        // Region 0 holds 4 shards, all of unit 0; region 1 holds 3 of three units. Fullest region first would lose 5.
        let shards = [(0, 0), (0, 0), (0, 0), (0, 0), (1, 1), (1, 2), (1, 3)];
        let loss = exposure(&shards).worst(Survive { regions: 1, nodes: 1 });
        assert_eq!(loss, Loss { regions: vec![1], units: vec![0], shards: 7 });
    }

    proptest! {
        #[test]
        fn the_search_finds_what_trying_everything_finds(
            shards in prop::collection::vec((0_usize..5, 0_usize..6), 0..14), regions in 0_u32..4, nodes in 0_u32..4,
        ) {
            let mut worst = 0;
            for lost in 0_u32..1 << 5 {
                for gone in 0_u32..1 << 6 {
                    if lost.count_ones() <= regions && gone.count_ones() <= nodes {
                        let hit = |&&(region, unit): &&(usize, usize)| lost >> region & 1 == 1 || gone >> unit & 1 == 1;
                        worst = worst.max(shards.iter().filter(hit).count());
                    }
                }
            }
            let loss = exposure(&shards).worst(Survive { regions, nodes });
            prop_assert_eq!(loss.shards, worst);
            let named = |s: &&(usize, usize)| loss.regions.contains(&s.0) || loss.units.contains(&s.1);
            prop_assert_eq!(shards.iter().filter(named).count(), worst);
        }
    }
}
