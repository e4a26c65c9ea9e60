use proptest::prelude::*;

use super::*;
use crate::fixture::{author, grid, node, pack, survive};
use crate::place;

const AFTER: Duration = Duration::from_secs(900);

fn at(seconds: u64) -> Time {
    Time(seconds * 1000)
}

/// A pack of the first node, on nodes of which all answer.
fn placed(sites: &[Site], number: u32) -> Placed {
    let (policy, code) = (survive(1, 1), Code::new(4, 9).unwrap());
    let holders = place(&policy, code, &pack(number), &author(), sites).unwrap();
    let holders = (0..).map(ShardIndex).zip(holders).collect();
    Placed { pack: pack(number), code, author: author(), policy, holders }
}

fn all_here(sites: &[Site]) -> View {
    View { sites: sites.to_vec(), here: sites.iter().map(|site| site.node).collect(), gone: BTreeSet::new() }
}

fn lose(view: &mut View, node: NodeId) {
    view.here.remove(&node);
    view.gone.insert(node);
}

/// All takers take, until nobody has to.
fn repair(view: &View, placed: &mut Placed) -> usize {
    let mut moved = 0;
    loop {
        let takers = view.standing(placed).takers;
        if takers.is_empty() {
            return moved;
        }
        moved += takers.len();
        for (shard, taker) in takers {
            placed.holders[usize::from(shard.0)].1 = taker;
        }
    }
}

#[test]
fn who_is_away_for_long_enough_without_a_break_is_gone() {
    let mut absences = Absences::default();
    let nodes = || [node(1), node(2), node(3)];
    absences.see(at(0), nodes(), |it| *it == node(3));
    absences.see(at(600), nodes(), |it| *it == node(2));
    assert_eq!(absences.gone(at(899), AFTER), BTreeSet::new());
    assert_eq!(absences.next_gone(at(899), AFTER), Some(Duration::from_secs(1)));
    assert_eq!(absences.gone(at(900), AFTER), BTreeSet::from([node(1)]));
    assert_eq!(absences.next_gone(at(900), AFTER), Some(Duration::from_secs(600)), "the third one follows");
    absences.see(at(1000), nodes(), |_| true);
    assert_eq!((absences.gone(at(9999), AFTER), absences.next_gone(at(9999), AFTER)), (BTreeSet::new(), None));
}

#[test]
fn a_node_that_comes_and_goes_is_never_gone() {
    let mut absences = Absences::default();
    for minute in 0..600 {
        absences.see(at(60 * minute), [node(1)], |_| minute % 14 == 0);
        assert!(absences.gone(at(60 * minute), AFTER).is_empty(), "minute {minute}");
    }
}

#[test]
fn nothing_is_to_be_done_while_a_node_is_away_only_for_a_while() {
    let sites = grid(3, 3);
    let (mut view, placed) = (all_here(&sites), placed(&sites, 1));
    let whole = view.standing(&placed);
    view.here.remove(&node(4));
    let standing = view.standing(&placed);
    assert_eq!((standing.margin, standing.missing, standing.takers), (whole.margin - 1, vec![], vec![]));
    assert!(!view.is_spare(&placed), "a copy may still be needed");
}

#[test]
fn of_a_lost_node_the_shards_go_to_nodes_that_answer_and_the_policy_holds_again() {
    let sites = grid(3, 4);
    for number in 0..50 {
        let (mut view, mut placed) = (all_here(&sites), placed(&sites, number));
        let lost = placed.holders[3].1;
        lose(&mut view, lost);
        let standing = view.standing(&placed);
        assert_eq!((standing.missing, standing.takers.len()), (vec![ShardIndex(3)], 1));
        assert_eq!(repair(&view, &mut placed), 1);
        let left: Vec<Site> = sites.iter().filter(|site| site.node != lost).cloned().collect();
        assert_eq!(shortfall(&placed.policy, placed.code, &placed.author, &placed.holders, &left), None);
        assert!(view.is_spare(&placed));
    }
}

#[test]
fn all_who_see_the_same_name_the_same_taker_and_it_holds_no_other_shard() {
    let sites = grid(3, 4);
    let (mut view, placed) = (all_here(&sites), placed(&sites, 1));
    lose(&mut view, placed.holders[3].1);
    let takers = view.standing(&placed).takers;
    view.sites.reverse();
    assert_eq!(view.standing(&placed).takers, takers);
    assert!(placed.holders.iter().all(|(_, holder)| takers.iter().all(|(_, taker)| taker != holder)));
}

#[test]
fn a_shard_that_no_node_has_room_beside_others_for_stays_missing() {
    let sites = grid(3, 3);
    let (mut view, mut placed) = (all_here(&sites), placed(&sites, 1));
    lose(&mut view, node(4));
    assert_eq!(repair(&view, &mut placed), 0);
    assert_eq!(view.standing(&placed).missing.len(), 1);
}

#[test]
fn where_every_node_has_a_shard_the_pack_is_coded_anew_once_the_policy_fails_without_the_lost_ones() {
    let sites = grid(3, 3);
    let (mut view, placed) = (all_here(&sites), placed(&sites, 1));
    assert!(!view.needs_other_code(&placed));
    lose(&mut view, node(4));
    assert!(!view.needs_other_code(&placed), "eight shards still survive a region and a node: four are left");
    lose(&mut view, node(7));
    assert!(view.needs_other_code(&placed), "of seven, three would be left");
    assert_eq!(view.answering().len(), 7);
    let free = all_here(&grid(3, 4));
    let (mut free, placed) = (View { sites: grid(3, 4), ..free }, placed);
    [4, 7].into_iter().for_each(|lost| lose(&mut free, node(lost)));
    assert!(!free.needs_other_code(&placed), "there are nodes that take the shards");
}

#[test]
fn who_offers_nothing_any_more_is_drained_while_it_serves_and_keeps_its_own_packs() {
    let mut sites = grid(3, 4);
    let mut placed = placed(&sites, 1);
    let (shard, leaving) = placed.holders[3];
    sites.iter_mut().filter(|site| site.node == leaving || site.node == author()).for_each(|site| site.capacity = 0);
    let view = all_here(&sites);
    let whole = View { sites: grid(3, 4), ..view.clone() }.standing(&placed);
    let standing = view.standing(&placed);
    assert_eq!((standing.margin, standing.missing), (whole.margin, vec![shard]));
    assert_eq!(repair(&view, &mut placed), 1);
    assert_eq!(placed.holders[0].1, author());
}

#[test]
fn a_copy_is_not_spare_where_a_liar_claims_more_shards_than_the_policy_can_lose() {
    let sites = grid(3, 4);
    let view = all_here(&sites);
    let mut placed = placed(&sites, 1);
    assert!(view.is_spare(&placed));
    let liar = placed.holders[5].1;
    (1..8).for_each(|shard| placed.holders[shard].1 = liar);
    assert!(!view.is_spare(&placed));
}

proptest! {
    /// Nodes are lost, come back and are lost again, in any order, with time to repair between: as long as the policy can
    /// hold, it does; and each loss moves at most the shards that the node held.
    #[test]
    fn a_network_that_has_time_to_repair_loses_nothing(
        losses in prop::collection::vec((0_usize..15, any::<bool>()), 1..30), number in any::<u32>(),
    ) {
        let sites = grid(3, 5);
        let (mut view, mut placed) = (all_here(&sites), placed(&sites, number));
        for (index, comes_back) in losses {
            let changed = node(index);
            if comes_back {
                view.here.insert(changed);
                view.gone.remove(&changed);
            } else if view.here.len() > 12 {
                lose(&mut view, changed);
            }
            let due = view.standing(&placed).missing.len();
            prop_assert!(due <= 1, "one node holds at most one shard");
            prop_assert_eq!(repair(&view, &mut placed), due);
            let standing = view.standing(&placed);
            prop_assert!(standing.missing.is_empty());
            prop_assert!(standing.margin >= 3, "{:?}", standing);
        }
    }
}
