use super::*;
use crate::fixture::{author, grid, node, sites, survive};

fn code() -> Code {
    Code::new(4, 9).unwrap()
}

/// Shard i on node i, for these.
fn held(shards: impl IntoIterator<Item = u16>) -> Vec<(ShardIndex, NodeId)> {
    shards.into_iter().map(|shard| (ShardIndex(shard), node(usize::from(shard)))).collect()
}

fn said(holders: &[(ShardIndex, NodeId)]) -> Option<String> {
    shortfall(&survive(1, 1), code(), &author(), holders, &grid(3, 3)).map(|short| short.to_string())
}

#[test]
fn all_nine_shards_hold_the_policy_and_one_may_be_missing() {
    assert_eq!(said(&held(0..9)), None);
    assert_eq!(said(&held(1..9)), None);
}

#[test]
fn a_shortfall_says_what_would_be_lost() {
    let text = said(&held([0, 1, 2, 3, 4, 6, 7])).unwrap();
    assert_eq!(text, "losing region a and organisation 03030303 would leave 3 shards, 4 are needed");
    assert_eq!(said(&[]).unwrap(), "0 shards stand, 4 are needed to restore");
}

#[test]
fn nodes_are_named_where_organisations_are_too_few() {
    let alone: Vec<_> = (0..4).map(|index| (["a", "b"][index % 2], 0)).collect();
    let two = Code::new(2, 4).unwrap();
    let short = shortfall(&survive(1, 1), two, &author(), &held(0..4), &sites(&alone)).unwrap();
    assert_eq!(short.to_string(), "losing region a and node 00010000 would leave 1 shards, 2 are needed");
}

#[test]
fn strangers_repeated_shards_and_shards_beyond_the_code_count_for_nothing() {
    let mut holders = held(0..3);
    holders.extend([(ShardIndex(0), node(7)), (ShardIndex(9), node(8)), (ShardIndex(5), node(400))]);
    let short = shortfall(&survive(0, 0), code(), &author(), &holders, &grid(3, 3));
    assert_eq!(short, Some(Shortfall::Loss { regions: vec![], organisations: vec![], nodes: vec![], left: 3, k: 4 }));
}

#[test]
fn a_shard_outside_the_jurisdictions_is_named() {
    let mut sites = grid(3, 3);
    sites[5].jurisdiction = "US".into();
    let policy = Policy { keep_in: vec!["DE".into()], ..survive(1, 0) };
    let short = shortfall(&policy, code(), &author(), &held(0..9), &sites).unwrap();
    assert_eq!(short.to_string(), "shard 5 lies in US, which keep_in does not name");
}

#[test]
fn a_state_that_could_restore_alone_is_named_unless_it_is_the_authors_own() {
    let mut sites = grid(3, 3);
    sites[3..7].iter_mut().for_each(|site| site.jurisdiction = "FR".into());
    let policy = Policy { no_single_state: true, ..survive(1, 1) };
    let short = shortfall(&policy, code(), &author(), &held(0..9), &sites).unwrap();
    assert_eq!(short.to_string(), "FR holds 4 shards, and 4 are enough to restore");
    assert_eq!(shortfall(&policy, code(), &author(), &held((0..3).chain(4..9)), &sites), None);
}

#[test]
fn the_margin_is_how_many_nodes_may_still_go() {
    assert_eq!(margin(code(), &held(0..9)), 5);
    assert_eq!(margin(code(), &held(0..4)), 0);
    assert_eq!(margin(code(), &held(0..3)), -1);
    assert_eq!(margin(code(), &[]), -4);
    let doubled = [(0, 0), (1, 0), (2, 1), (3, 2), (4, 3), (5, 4)];
    let doubled: Vec<_> = doubled.map(|(shard, at)| (ShardIndex(shard), node(at))).to_vec();
    assert_eq!(margin(code(), &doubled), 1, "losing the node with two shards leaves four");
}
