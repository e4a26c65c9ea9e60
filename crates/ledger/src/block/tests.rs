use bithealth_proto::decode;

use super::*;
use crate::fixture::*;

fn checked(state: &State, block: &v1::Block) -> Result<CheckedBlock, BlockError<&'static str>> {
    state.check_block(block, rule)
}

/// A state with entries no block covers, and the block that would cover them.
fn open() -> (State, v1::Block) {
    let (state, _) = three();
    let block = next_block(&state, 101, NOW).unwrap();
    (state, block)
}

/// The block with its header changed and certified again.
fn changed(block: &v1::Block, change: impl Fn(&mut v1::Header)) -> v1::Block {
    let mut header = block.header.clone().unwrap();
    change(&mut header);
    certified(header, block.frontier.clone(), 101)
}

/// The block with its frontier changed, committed to and certified again.
fn covering(block: &v1::Block, change: impl Fn(&mut Vec<v1::Frontier>)) -> v1::Block {
    let mut frontier = block.frontier.clone();
    change(&mut frontier);
    let root = frontier_root(&frontier);
    let header = v1::Header { frontier_root: bytes(root.0), ..block.header.clone().unwrap() };
    certified(header, frontier, 101)
}

#[test]
fn blocks_cover_what_came_and_then_there_is_nothing_to_cover() {
    let (mut state, block) = open();
    let checked = checked(&state, &block).unwrap();
    assert_eq!(checked.height(), Height(1));
    assert_eq!(checked.digest(), digest(block.header.as_ref().unwrap()));
    assert_eq!(state.apply_block(checked), Height(1));
    assert_eq!(state.tip(), block.header.as_ref());
    assert_eq!(state.log(&node(1)).unwrap().final_len, 4);
    assert_eq!(state.node(&node(2)).unwrap().since, Some(Height(1)));
    assert_eq!(state.next_header(&node(1), NOW), None);
    assert_eq!(super::super::fixture::state().next_header(&node(1), NOW), None, "a new network has nothing to cover");
}

#[test]
fn the_time_of_headers_never_runs_backwards() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    one.take(&mut state, commit(1));
    let (header, _) = state.next_header(&node(1), 5).unwrap();
    assert_eq!(header.time_ms, NOW, "a clock behind the tip's is passed over");
    let block = changed(&next_block(&state, 101, NOW).unwrap(), |header| header.time_ms = NOW - 1);
    assert_eq!(checked(&state, &block), Err(BlockError::Time { height: 2, got_ms: NOW - 1, before_ms: NOW }));
}

#[test]
fn a_header_that_does_not_follow_is_refused() {
    let (state, block) = open();
    let zeros = Digest([0; 32]);
    let want = BlockError::OtherNetwork { got: GenesisId([0; 32]), want: state.genesis_id() };
    assert_eq!(checked(&state, &changed(&block, |it| it.genesis = bytes([0; 32]))), Err(want));
    let want = BlockError::Gap { have: 0, got: 2 };
    assert_eq!(checked(&state, &changed(&block, |it| it.height = 2)), Err(want));
    assert_eq!(checked(&state, &changed(&block, |it| it.height = 0)), Err(BlockError::Known { height: 0 }));
    let want = BlockError::Previous { height: 1, got: zeros, want: Digest(state.genesis_id().0) };
    assert_eq!(checked(&state, &changed(&block, |it| it.previous = bytes([0; 32]))), Err(want));
    let want = BlockError::Length { what: "the header's producer", got: 3 };
    assert_eq!(checked(&state, &changed(&block, |it| it.producer = Bytes::from_static(&[0; 3]))), Err(want));
    let absent = |what| Err(BlockError::Absent { what });
    assert_eq!(checked(&state, &v1::Block { header: None, ..block.clone() }), absent("header"));
    assert_eq!(checked(&state, &v1::Block { certificate: None, ..block.clone() }), absent("certificate"));
}

#[test]
fn a_header_that_commits_to_something_else_is_refused() {
    let (state, block) = open();
    let error = checked(&state, &changed(&block, |it| it.frontier_root = bytes([0; 32]))).unwrap_err();
    assert!(matches!(error, BlockError::FrontierRoot { want: Digest([0, ..]), .. }), "{error}");
    let error = checked(&state, &changed(&block, |it| it.state_root = bytes([0; 32]))).unwrap_err();
    assert!(matches!(error, BlockError::StateRoot { got: Digest([0, ..]), .. }), "{error}");
}

#[test]
fn a_certificate_of_another_header_or_none_is_refused() {
    let (state, block) = open();
    let mut other = block.clone();
    other.certificate.as_mut().unwrap().header = bytes([0; 32]);
    let want = digest(block.header.as_ref().unwrap());
    assert_eq!(checked(&state, &other), Err(BlockError::OtherHeader { got: Digest([0; 32]), want }));
    let mut empty = block;
    empty.certificate.as_mut().unwrap().votes.clear();
    assert_eq!(checked(&state, &empty), Err(BlockError::Certificate("one vote")));
}

#[test]
fn a_block_waits_for_the_entries_it_covers() {
    let (state, block) = open();
    let behind = super::super::fixture::state();
    let want = BlockError::Missing { author: node(1), have: 0, need: 4 };
    assert_eq!(checked(&behind, &block), Err(want));
    let want = BlockError::Missing { author: node(1), have: 4, need: 5 };
    assert_eq!(checked(&state, &covering(&block, |frontier| frontier[0].len = 5)), Err(want));
}

#[test]
fn a_frontier_out_of_order_is_refused() {
    let (mut state, _) = open();
    Author::of(2).take(&mut state, commit(1));
    let block = next_block(&state, 101, NOW).unwrap();
    let at = |index| Err(BlockError::FrontierOrder { index });
    assert_eq!(checked(&state, &covering(&block, |frontier| frontier.reverse())), at(1));
    assert_eq!(checked(&state, &covering(&block, |frontier| frontier[1] = frontier[0].clone())), at(1));
    assert_eq!(checked(&state, &covering(&block, |frontier| frontier[0].len = 0)), at(0));
    let short = covering(&block, |frontier| frontier[0].author = Bytes::new());
    assert_eq!(checked(&state, &short), Err(BlockError::Length { what: "an author of the frontier", got: 0 }));
}

#[test]
fn what_is_final_is_not_taken_back() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    one.take(&mut state, commit(1));
    let block = next_block(&state, 101, NOW).unwrap();
    let less = covering(&block, |frontier| frontier[0].len = 3);
    assert_eq!(checked(&state, &less), Err(BlockError::Shrinks { author: node(1), have: 4, got: 3 }));
    let none = covering(&block, Vec::clear);
    assert_eq!(checked(&state, &none), Err(BlockError::Shrinks { author: node(1), have: 4, got: 0 }));
}

#[test]
fn a_block_that_covers_another_entry_than_ours_is_refused() {
    let (state, block) = open();
    let have = state.log(&node(1)).unwrap().last;
    let other = covering(&block, |frontier| frontier[0].last = bytes([8; 32]));
    let want = BlockError::OtherEntry { author: node(1), sequence: 3, have, got: Digest([8; 32]) };
    assert_eq!(checked(&state, &other), Err(want));
}

#[test]
fn a_closed_log_is_covered_no_further() {
    let (mut state, mut one) = three();
    let mut two = Author::of(2);
    two.take(&mut state, commit(1));
    one.take(&mut state, retire(2, 2));
    let block = next_block(&state, 101, NOW).unwrap();
    two.take(&mut state, commit(2)); // arrives here before the block does
    let accepted = checked(&state, &block).unwrap();
    state.apply_block(accepted);
    one.take(&mut state, commit(3));
    let block = next_block(&state, 101, NOW).unwrap();
    assert!(checked(&state, &block).is_ok());
    let more = covering(&block, |frontier| {
        frontier.iter_mut().find(|log| log.author == node(2).0.as_slice()).unwrap().len = 2;
    });
    assert_eq!(checked(&state, &more), Err(BlockError::Closed { author: node(2), len: 1, got: 2 }));
}

#[test]
fn a_second_certified_block_at_the_tip_is_reported_as_a_fork() {
    let (mut state, mut one) = three();
    let block = finalise(&mut state);
    let other = changed(&block, |header| header.time_ms += 1);
    let (have, got) = (digest(block.header.as_ref().unwrap()), digest(other.header.as_ref().unwrap()));
    assert_eq!(checked(&state, &block), Err(BlockError::Known { height: 1 }));
    assert_eq!(checked(&state, &other), Err(BlockError::Forked { height: 1, have, got }));
    let mut forged = other;
    forged.certificate.as_mut().unwrap().votes.clear();
    assert_eq!(checked(&state, &forged), Err(BlockError::Certificate("one vote")));
    one.take(&mut state, commit(1));
    finalise(&mut state);
    assert_eq!(checked(&state, &block), Err(BlockError::Known { height: 1 }));
}

#[test]
fn no_bit_of_a_block_can_change() {
    let (state, block) = open();
    let whole = encode(&block);
    for index in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[index] ^= 1 << (index % 8);
        if let Ok(block) = decode::<v1::Block>(&flipped) {
            assert!(checked(&state, &block).is_err(), "block with byte {index} changed");
        }
    }
}
