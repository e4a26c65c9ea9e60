use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::fixture::{author, grid, node, pack, sites, survive, topology};

fn code(k: u32, n: u32) -> Code {
    Code::new(k, n).unwrap()
}

/// 4 regions of 6 nodes, each node an organisation of its own.
fn wide() -> Vec<Site> {
    grid(4, 6)
}

fn placed(number: u32, code: Code, sites: &[Site]) -> Vec<NodeId> {
    place(&Policy::default(), code, &pack(number), &author(), sites).unwrap()
}

/// Shards that lie on another node in `after` than in `before`, of nodes that are in both networks.
fn moved(before: &[NodeId], after: &[NodeId]) -> usize {
    before.iter().zip(after).filter(|(a, b)| a != b).count()
}

#[test]
fn the_author_holds_shard_0_and_all_nodes_the_rest() {
    let nodes = placed(1, code(4, 9), &grid(3, 3));
    assert_eq!(nodes[0], author());
    assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), 9);
}

#[test]
fn a_layout_is_the_same_forever() {
    let nodes = placed(1, code(2, 5), &wide());
    let numbers: Vec<_> = nodes.iter().map(|id| u16::from_be_bytes([id.0[0], id.0[1]])).collect();
    assert_eq!(numbers, [0, 8, 17, 18, 2]);
}

#[test]
fn the_order_in_which_nodes_are_listed_does_not_matter() {
    let mut sites = wide();
    let before = placed(3, code(4, 9), &sites);
    sites.reverse();
    assert_eq!(placed(3, code(4, 9), &sites), before);
}

#[test]
fn a_code_wider_than_the_network_is_refused() {
    let error = place(&Policy::default(), code(4, 10), &pack(1), &author(), &grid(3, 3)).unwrap_err();
    assert_eq!(error, PolicyError::TooFewNodes { n: 10, nodes: 9 });
}

#[test]
fn whole_copies_abroad_are_refused_where_no_single_state_may_restore() {
    let mut sites = grid(2, 1);
    sites[1].jurisdiction = "FR".into();
    let policy = Policy { no_single_state: true, ..survive(1, 0) };
    let error = place(&policy, code(1, 2), &pack(1), &author(), &sites).unwrap_err();
    assert_eq!(error, PolicyError::SingleState { jurisdictions: vec!["DE".into(), "FR".into()] });
}

#[test]
fn a_corner_that_ranks_lead_into_is_left_by_the_layout_known_to_exist() {
    // Organisation 0 in regions a and b, organisation 1 in b only: whoever ranks node 1 first blocks region a.
    let sites = sites(&[("a", 0), ("b", 0), ("b", 1)]);
    for number in 0..50 {
        let nodes = place(&Policy::default(), code(1, 2), &pack(number), &NodeId([99; 32]), &sites).unwrap();
        assert_eq!(nodes.iter().collect::<BTreeSet<_>>(), [&node(0), &node(2)].into());
    }
}

#[test]
fn load_follows_capacity_within_a_few_percent() {
    // Odd nodes offer twice as much. The author, which holds a shard of all its packs, is left out.
    let mut sites = grid(4, 12);
    sites.iter_mut().skip(1).step_by(2).for_each(|site| site.capacity *= 2);
    let mut shards: BTreeMap<NodeId, f64> = BTreeMap::new();
    for number in 0..6000 {
        let nodes = place(&Policy::default(), code(2, 4), &pack(number), &NodeId([99; 32]), &sites).unwrap();
        nodes.into_iter().for_each(|node| *shards.entry(node).or_default() += 1.0);
    }
    let groups = sites.iter().map(|site| (site.capacity >> 30, shards[&site.node]));
    let mean = |weight| {
        let loads: Vec<f64> = groups.clone().filter(|group| group.0 == weight).map(|group| group.1).collect();
        loads.iter().sum::<f64>() / loads.len() as f64
    };
    assert!((mean(2) / mean(1) - 2.0).abs() < 0.06, "{} {}", mean(2), mean(1));
    for (weight, load) in groups.clone() {
        assert!((load / mean(weight) - 1.0).abs() < 0.18, "four deviations of a count of a few hundred: {load}");
    }
}

#[test]
fn a_node_that_leaves_moves_few_shards_but_its_own() {
    let (all, gone) = (wide(), node(9));
    let left: Vec<Site> = all.iter().filter(|site| site.node != gone).cloned().collect();
    let (mut lost, mut moves) = (0, 0);
    for number in 0..2000 {
        let (before, after) = (placed(number, code(4, 9), &all), placed(number, code(4, 9), &left));
        let held = before.contains(&gone);
        lost += usize::from(held);
        moves += moved(&before, &after);
        assert!(held || before == after, "a pack it held nothing of does not move");
    }
    let per_loss = moves as f64 / lost as f64;
    assert!(per_loss < 1.8, "{per_loss} shards move for each one lost");
}

#[test]
fn a_node_that_comes_takes_its_share_and_little_else_moves() {
    let (few, new) = (wide(), node(500));
    let mut more = few.clone();
    more.push(Site { node: new, member: bithealth_types::MemberId([200; 32]), ..few[9].clone() });
    let (mut taken, mut moves) = (0, 0);
    for number in 0..2000 {
        let (before, after) = (placed(number, code(4, 9), &few), placed(number, code(4, 9), &more));
        taken += usize::from(after.contains(&new));
        moves += moved(&before, &after);
        assert!(after.contains(&new) || before == after, "a pack it takes nothing of does not move");
    }
    let per_taken = moves as f64 / taken as f64;
    assert!(per_taken < 1.8, "{per_taken} shards move for each one taken");
}

#[test]
fn substitutes_come_from_the_region_that_lost_a_node() {
    let (sites, computed) = (wide(), placed(5, code(4, 9), &wide()));
    let dead = computed[3];
    let region = |node: &NodeId| sites.iter().find(|site| site.node == *node).unwrap().region.clone();
    let found =
        substitutes(&Policy::default(), code(4, 9), &pack(5), &author(), &sites, &computed, &|node| *node != dead);
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].0, ShardIndex(3));
    assert!(!computed.contains(&found[0].1));
    assert_eq!(region(&found[0].1), region(&dead));
}

#[test]
fn with_a_region_away_the_others_take_its_shards_as_long_as_they_have_nodes() {
    let sites = grid(3, 3);
    let live = |node: &NodeId| sites.iter().any(|site| site.node == *node && site.region != "c");
    let answering: Vec<Site> = sites.iter().filter(|site| live(&site.node)).cloned().collect();
    let policy = survive(1, 1);
    let narrow = crate::choose(&policy, &author(), &answering, 16 << 20).unwrap();
    let computed = place(&policy, narrow, &pack(8), &author(), &sites).unwrap();
    let found = substitutes(&policy, narrow, &pack(8), &author(), &sites, &computed, &live);
    let mut holders: BTreeMap<ShardIndex, NodeId> = (0..).map(ShardIndex).zip(computed.clone()).collect();
    holders.extend(found);
    let holders: Vec<_> = holders.into_iter().filter(|(_, node)| live(node)).collect();
    assert_eq!(crate::shortfall(&policy, narrow, &author(), &holders, &sites), None);
    let wide = place(&policy, code(4, 9), &pack(8), &author(), &sites).unwrap();
    assert_eq!(substitutes(&policy, code(4, 9), &pack(8), &author(), &sites, &wide, &live), [], "no node is left");
}

proptest! {
    #[test]
    fn layouts_keep_every_rule(sites in topology(), n in 1_u32..12, k in 1_u32..4, number: u32, single: bool, kept: bool) {
        let keep_in = if kept { vec!["DE".to_owned(), "FR".to_owned()] } else { Vec::new() };
        let policy = Policy { keep_in, no_single_state: single, ..Policy::default() };
        let code = code(k.min(n), n);
        let Ok(nodes) = place(&policy, code, &pack(number), &author(), &sites) else { return Ok(()) };
        let at = |node: &NodeId| sites.iter().find(|site| site.node == *node).unwrap();
        prop_assert_eq!(nodes.len(), n as usize);
        prop_assert_eq!(nodes.iter().collect::<BTreeSet<_>>().len(), n as usize, "no two shards on one node");
        prop_assert!(nodes.iter().all(|node| policy.allows(&at(node).jurisdiction)));
        if policy.allows(&at(&author()).jurisdiction) {
            prop_assert_eq!(nodes[0], author());
        }
        let mut states: BTreeMap<&str, usize> = BTreeMap::new();
        let mut regions: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for site in sites.iter().filter(|site| policy.allows(&site.jurisdiction)) {
            let taken = usize::from(nodes.contains(&site.node));
            *states.entry(&site.jurisdiction).or_default() += taken;
            let region = regions.entry(&site.region).or_default();
            *region = (region.0 + taken, region.1 + 1 - taken);
        }
        if single {
            let home = at(&author()).jurisdiction.as_str();
            prop_assert!(states.iter().all(|(name, shards)| *name == home || *shards < usize::from(code.k())));
        } else {
            let most = regions.values().map(|region| region.0).max().unwrap();
            prop_assert!(regions.values().all(|(taken, free)| *free == 0 || taken + 1 >= most), "regions stand level");
        }
    }

    #[test]
    fn substitutes_are_live_allowed_and_new(sites in topology(), n in 1_u32..10, number: u32, dead: u16, single: bool) {
        let policy = Policy { no_single_state: single, ..Policy::default() };
        let code = code(2.min(n), n);
        let Ok(computed) = place(&policy, code, &pack(number), &author(), &sites) else { return Ok(()) };
        let live = |node: &NodeId| dead >> (node.0[1] % 16) & 1 == 0;
        let found = substitutes(&policy, code, &pack(number), &author(), &sites, &computed, &live);
        let shards: BTreeSet<_> = found.iter().map(|pair| pair.0).collect();
        let nodes: BTreeSet<_> = found.iter().map(|pair| pair.1).collect();
        prop_assert_eq!((shards.len(), nodes.len()), (found.len(), found.len()));
        let due = |(shard, node): &(ShardIndex, NodeId)| {
            live(node) && !computed.contains(node) && !live(&computed[usize::from(shard.0)])
        };
        prop_assert!(found.iter().all(due));
        if !single {
            let lost = computed.iter().filter(|node| !live(node)).count();
            let free = sites.iter().filter(|site| live(&site.node) && !computed.contains(&site.node)).count();
            prop_assert_eq!(found.len(), lost.min(free));
        }
    }
}
