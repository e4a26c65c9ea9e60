//! The same entries and blocks make the same state, in whatever order they arrive.

use proptest::prelude::*;

use super::condemned::{absolve, condemn};
use super::*;

/// Valid logs of four authors that refer to, and partly contradict, each other.
pub(super) fn logs() -> Vec<Vec<v1::SignedEntry>> {
    let (mut one, mut two, mut three, mut four) = (Author::of(1), Author::of(2), Author::of(3), Author::of(4));
    two.time_ms += 5;
    let first = vec![
        one.write(admit(1, 202, 2, "two")),
        one.write(add_node(2)),
        one.write(admit(1, 203, 3, "three")),
        one.write(add_node(3)),
        one.write(commit(1)),
        one.write(place(3, 0, 1)),
        one.write(admit(1, 205, 5, "same")),
        one.write(add_node(5)),
        one.write(Operation::Propose(keys(3))),
        one.write(Operation::AddNode(certificate_by(3, 93, NOW))),
        one.write(retire(4, 4)),
        one.write(condemn(5)),
    ];
    let second = vec![
        two.write(commit(2)),
        two.write(approve(&propose_invite(1, 203, 3, "three"))),
        two.write(approve(&propose_invite(1, 204, 4, "four"))),
        two.write(place(2, 1, 3)),
        two.write(admit(2, 206, 6, "same")),
        two.write(add_node(4)),
        two.write(commit(1)),
        two.write(add_node(5)),
        two.write(add_node(6)),
        two.write(condemn(3)),
        two.write(condemn(5)),
        two.write(absolve(5)),
        two.write(approve(&keys(3))),
        two.write(approve(&keys(2))),
        two.write(Operation::AddNode(certificate_by(3, 3, NOW + 900))),
    ];
    let third = vec![
        three.write(admit(1, 204, 4, "four")),
        three.write(approve(&propose_invite(1, 204, 4, "four"))),
        three.write(add_node(4)),
        three.write(commit(3)),
        three.write(place(2, 1, 3)),
        three.write(commit(4)),
        three.write(gather(3, 4)),
        three.write(Operation::AddNode(certificate_of(3, 103, 7))),
        three.write(admit(3, 205, 7, "seven")),
        three.write(Operation::Propose(keys(2))),
        three.write(retire(3, 2)),
        three.write(condemn(4)),
    ];
    let fourth = vec![four.write(commit(5)), four.write(place(4, 2, 4)), four.write(place(5, 0, 3))];
    vec![first, second, third, fourth]
}

/// An organisation is to go on with the keys made from 93, which two want.
fn keys(org: u8) -> v1::Proposal {
    let change = v1::proposal::Change::Keys(keys_of(org, 93));
    v1::Proposal { time_ms: NOW, change: Some(change) }
}

/// Takes entries and blocks in an order that `picks` draws; what must wait is tried again. Blocks are made by the first
/// run and taken by the others.
fn run(picks: &[u8], blocks: &mut Vec<v1::Block>, makes: bool) -> State {
    let (logs, mut state) = (logs(), state());
    let mut next = vec![0; logs.len()];
    let mut picks = picks.iter().cycle();
    let mut fruitless = 0;
    while fruitless < 100 {
        let pick = usize::from(*picks.next().unwrap());
        fruitless += 1;
        if pick % 5 < 4 {
            let log = (pick % 5 + fruitless) % 4;
            let Some(signed) = logs[log].get(next[log]) else { continue };
            match state.check(signed) {
                Ok(checked) => drop(state.apply(checked)),
                Err(error) => {
                    assert!(error.is_waiting(), "{error}");
                    continue;
                }
            }
            next[log] += 1;
            fruitless = 0;
        } else if makes {
            blocks.extend(next_block(&state, NOW));
            if let Some(block) = blocks.get(state.height().0 as usize) {
                let checked = state.check_block(block).unwrap();
                state.apply_block(checked);
                fruitless = 0;
            }
        } else if let Some(block) = blocks.get(state.height().0 as usize) {
            match state.check_block(block) {
                Ok(checked) => drop(state.apply_block(checked)),
                Err(BlockError::Missing { .. }) => continue,
                Err(error) => panic!("{error}"),
            }
            fruitless = 0;
        }
    }
    state
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn arrival_order_does_not_matter(
        first in prop::collection::vec(0_u8..20, 30..60), second in prop::collection::vec(0_u8..20, 30..60),
    ) {
        // Every node meets a fifth kind of pick now and then, so blocks are made and taken between entries.
        let with_blocks = |picks: &[u8]| picks.iter().copied().chain([0, 1, 2, 3, 4]).collect::<Vec<u8>>();
        let mut blocks = Vec::new();
        let made = run(&with_blocks(&first), &mut blocks, true);
        let taken = run(&with_blocks(&second), &mut blocks, false);
        for state in [&made, &taken] {
            let arrived: u64 = state.nodes().filter_map(|node| state.log(&node.id)).map(|log| log.len).sum();
            prop_assert_eq!(arrived, logs().iter().map(Vec::len).sum::<usize>() as u64, "every log is taken to its end");
        }
        prop_assert_eq!(made.height(), taken.height());
        prop_assert_eq!(made.digest(), taken.digest());
        prop_assert_eq!(made.members().collect::<Vec<_>>(), taken.members().collect::<Vec<_>>());
        prop_assert_eq!(made.nodes().collect::<Vec<_>>(), taken.nodes().collect::<Vec<_>>());
        prop_assert_eq!(made.packs().collect::<Vec<_>>(), taken.packs().collect::<Vec<_>>());
    }
}
