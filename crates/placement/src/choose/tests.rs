use proptest::prelude::*;

use super::*;
use crate::fixture::{author, grid, node, pack, sites, survive, topology};
use crate::shortfall::shortfall;
use crate::{margin, place};
use bithealth_types::ShardIndex;

const FULL: u64 = 16 << 20;
const SMALL: u64 = 100 << 10;

fn chosen(policy: &Policy, sites: &[Site], pack_len: u64) -> String {
    choose(policy, &author(), sites, pack_len).map_or_else(|error| error.to_string(), |code| code.to_string())
}

#[test]
fn three_regions_of_three_nodes_get_four_of_nine() {
    assert_eq!(chosen(&survive(1, 1), &grid(3, 3), FULL), "4-of-9");
}

#[test]
fn the_chances_of_the_design_come_out_when_a_region_is_lost_and_the_others_are_up_99_percent() {
    let percent = |k, left| 100.0 * restore_failure(k, left);
    assert!((percent(4, 6) - 0.002).abs() < 0.000_1, "4-of-9 on 3 x 3: six nodes left: {}", percent(4, 6));
    assert!((percent(5, 6) - 0.15).abs() < 0.005, "5-of-9 on 3 x 3: {}", percent(5, 6));
    assert!((percent(4, 4) - 3.9).abs() < 0.05, "4-of-6 on 3 x 2: four nodes left: {}", percent(4, 4));
}

#[test]
fn the_chance_of_failure_is_the_binomial_one() {
    assert_eq!(restore_failure(0, 5), 0.0);
    assert!((restore_failure(1, 1) - 0.01).abs() < 1e-15);
    assert!((restore_failure(2, 2) - 0.0199).abs() < 1e-15);
    assert!((restore_failure(3, 2) - 1.0).abs() < 1e-12, "more needed than there are");
    assert!(restore_failure(200, 256) > 0.0, "no underflow");
    let brute: f64 = (0..1_u32 << 9)
        .filter(|up| up.count_ones() < 7)
        .map(|up| NODE_UP.powi(up.count_ones() as i32) * (1.0 - NODE_UP).powi(9 - up.count_ones() as i32))
        .sum();
    assert!((restore_failure(7, 9) - brute).abs() < 1e-12);
}

#[test]
fn codes_follow_the_nodes_of_the_day() {
    let table: &[(u32, u32, Vec<Site>, u64, &str)] = &[
        (0, 0, grid(1, 1), FULL, "1-of-1"),
        (0, 0, grid(1, 1), SMALL, "1-of-1"),
        (1, 0, grid(2, 1), FULL, "1-of-2"), // nothing fails in fewer than 1 of 10,000: the best there is
        (1, 0, grid(3, 1), FULL, "1-of-3"), // two copies left fail in exactly 1 of 10,000, which is not fewer
        (1, 1, grid(3, 1), FULL, "1-of-3"),
        (1, 1, grid(3, 2), FULL, "2-of-6"),
        (1, 1, grid(2, 3), FULL, "1-of-6"), // a region of the nine is away
        (1, 0, grid(3, 3), FULL, "4-of-9"), // 5-of-9 and 6-of-9 would hold, but fail too often
        (1, 1, grid(3, 4), FULL, "4-of-9"), // 6-of-12 is cheaper by a twelfth, but leaves nobody free to take a lost shard
        (1, 1, grid(3, 3), SMALL, "1-of-3"),
        (1, 0, grid(3, 3), SMALL, "1-of-2"),
        (0, 0, grid(3, 3), SMALL, "1-of-1"),
        (1, 1, grid(2, 3), SMALL, "1-of-4"),
        (2, 0, grid(3, 3), SMALL, "1-of-3"),
    ];
    for (regions, nodes, sites, len, want) in table {
        assert_eq!(chosen(&survive(*regions, *nodes), sites, *len), *want, "{regions} {nodes} {} {len}", sites.len());
    }
}

#[test]
fn a_pack_at_the_bound_is_coded_and_one_byte_less_is_copied() {
    let bound = CODED_PACK_LEN_MIN as u64;
    assert_eq!(chosen(&survive(1, 1), &grid(3, 3), bound), "4-of-9");
    assert_eq!(chosen(&survive(1, 1), &grid(3, 3), bound - 1), "1-of-3");
}

#[test]
fn organisations_are_counted_where_there_are_enough_of_them() {
    // Three organisations, each with a node in each region: losing a region and an organisation costs 3 + 2 of 9.
    let crossed: Vec<_> = (0..9_u8).map(|index| (["a", "b", "c"][usize::from(index) / 3], index % 3)).collect();
    assert_eq!(chosen(&survive(1, 1), &sites(&crossed), FULL), "4-of-9");
    // Each region is an organisation: losing one and another costs two thirds, and 2-of-6 is cheaper than 3-of-9.
    let apart: Vec<_> = (0..9_u8).map(|index| (["a", "b", "c"][usize::from(index) / 3], index / 3)).collect();
    assert_eq!(chosen(&survive(1, 1), &sites(&apart), FULL), "2-of-6");
    // One organisation alone cannot survive itself: its nodes are counted.
    let alone: Vec<_> = (0..9_u8).map(|index| (["a", "b", "c"][usize::from(index) / 3], 0)).collect();
    assert_eq!(chosen(&survive(1, 1), &sites(&alone), FULL), "4-of-9");
}

#[test]
fn what_is_missing_is_said_in_words() {
    let said = |policy: &Policy, sites: &[Site]| choose(policy, &author(), sites, FULL).unwrap_err().to_string();
    assert_eq!(
        said(&survive(2, 0), &grid(2, 3)),
        "needs shards in at least 2 other regions, only 1 answers (nodes answer in a, b)"
    );
    assert_eq!(
        said(&survive(1, 1), &grid(2, 1)),
        "to survive the loss of 1 regions and 1 nodes at once, more nodes are needed than the 2 that answer in 2 regions"
    );
    let kept = Policy { keep_in: vec!["FR".into()], ..survive(1, 0) };
    assert_eq!(said(&kept, &grid(3, 3)), "none of the 9 nodes that answer may hold shards; keep_in leaves only FR");
    let mut mixed = grid(3, 3);
    mixed[4].jurisdiction = "FR".into();
    assert_eq!(
        said(&kept, &mixed),
        "needs shards in at least 1 other regions, only 0 answer (nodes answer in b); keep_in leaves only FR"
    );
    assert_eq!(said(&survive(5, 0), &grid(3, 3)), "the policy is to survive the loss of 5 regions, at most 4 can be");
    let mut foreign = grid(2, 1);
    foreign[1].jurisdiction = "FR".into();
    let alone = Policy { no_single_state: true, ..survive(1, 0) };
    assert_eq!(
        said(&alone, &foreign),
        "no layout over DE, FR leaves every other state with too few shards to restore alone"
    );
}

#[test]
fn no_other_state_can_restore_where_the_owner_forbids_it() {
    let mut sites = grid(3, 3);
    for (index, site) in sites.iter_mut().enumerate() {
        site.jurisdiction = ["DE", "FR", "JP"][index / 3].into();
    }
    let policy = Policy { no_single_state: true, ..survive(1, 1) };
    assert_eq!(chosen(&policy, &sites, FULL), "4-of-9");
    // Whole copies abroad would each be enough, so even a small pack is coded.
    let code = choose(&policy, &author(), &sites, SMALL).unwrap();
    assert!(code.k() > 1, "{code}");
}

#[test]
fn a_hundred_nodes_are_no_obstacle() {
    let places: Vec<_> =
        (0..100_u8).map(|index| (["a", "b", "c", "d", "e"][usize::from(index) % 5], index / 2)).collect();
    let code = choose(&survive(1, 2), &author(), &sites(&places), FULL).unwrap();
    let stored = (u64::from(code.n()) - 1) * code.shard_len(FULL);
    assert!(stored < FULL * 3 / 2, "{code} stores {stored} bytes elsewhere");
}

/// The best code by trying all of them, on networks where every node is alike.
fn tried(regions: usize, nodes: usize, survive: Survive) -> Option<(usize, usize)> {
    let mut best: Option<(u64, usize, usize)> = None;
    for n in 1..=regions * nodes {
        let mut held = vec![0; regions];
        (0..n).for_each(|shard| held[shard % regions] += 1);
        held.sort_unstable();
        let left: usize = held[..regions - survive.regions as usize].iter().sum();
        for k in 1..=left.saturating_sub(survive.nodes as usize) {
            let stored = (n as u64 - 1) * code(k, n).shard_len(FULL);
            let crowded = held.iter().filter(|shards| **shards == nodes).count() as f64 / regions as f64;
            let cost = stored + (stored as f64 * NO_FREE_NODE * crowded) as u64;
            let reliable = restore_failure(k, left) < FAILURES_MAX * ROUNDING;
            if reliable && best.is_none_or(|best| (cost, n) < (best.0, best.1)) {
                best = Some((cost, n, k));
            }
        }
    }
    best.map(|(_, n, k)| (k, n))
}

#[test]
fn on_even_networks_the_choice_is_the_best_of_all_codes() {
    let mut compared = 0;
    for (regions, nodes, lost, more) in
        (2..6).flat_map(|r| (1..7).flat_map(move |n| (0..2).flat_map(move |a| (0..3).map(move |b| (r, n, a, b)))))
    {
        let asked = Survive { regions: lost, nodes: more };
        if let Some((k, n)) = tried(regions, nodes, asked) {
            assert_eq!(chosen(&survive(lost, more), &grid(regions, nodes), FULL), format!("{k}-of-{n}"));
            compared += 1;
        }
    }
    assert!(compared > 80, "{compared}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]
    #[test]
    fn what_is_promised_holds_for_every_pack(
        sites in topology(), regions in 0_u32..3, nodes in 0_u32..3, single: bool, kept: bool, len in 1..FULL, packs: u32,
    ) {
        let keep_in = if kept { vec!["DE".to_owned(), "FR".to_owned()] } else { Vec::new() };
        let policy = Policy { keep_in, no_single_state: single, ..survive(regions, nodes) };
        if let Ok(code) = choose(&policy, &author(), &sites, len) {
            for number in 0..5 {
                let placed = place(&policy, code, &pack(packs.wrapping_add(number)), &author(), &sites).unwrap();
                let holders: Vec<_> = (0..).map(ShardIndex).zip(placed).collect();
                prop_assert_eq!(shortfall(&policy, code, &author(), &holders, &sites), None, "{}", code);
                prop_assert!(margin(code, &holders) >= i64::from(nodes.min(regions)));
            }
        }
    }

    #[test]
    fn without_single_state_it_is_refused_only_where_whole_copies_everywhere_would_fail_too(
        sites in topology(), regions in 0_u32..3, nodes in 0_u32..3,
    ) {
        let everywhere = Code::new(1, sites.len() as u32).unwrap();
        let holders: Vec<_> = (0..).map(ShardIndex).zip((0..sites.len()).map(node)).collect();
        let short = shortfall(&survive(regions, nodes), everywhere, &author(), &holders, &sites).is_some();
        prop_assert_eq!(choose(&survive(regions, nodes), &author(), &sites, FULL).is_err(), short);
    }
}
