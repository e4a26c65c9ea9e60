mod fields;

use bithealth_proto::{decode, encode};

use super::*;
use crate::fixture::*;
use crate::light::signed_header;

/// A state with entries no block covers, and the block that would cover them.
fn open() -> (State, v1::Block) {
    let (state, _) = three();
    let block = next_block(&state, NOW).unwrap();
    (state, block)
}

fn refused(state: &State, block: &v1::Block) -> BlockError {
    state.check_block(block).unwrap_err()
}

/// The block with its header changed and certified again.
fn changed(state: &State, block: &v1::Block, change: impl Fn(&mut v1::Header)) -> v1::Block {
    let mut header = block.header.clone().unwrap();
    change(&mut header);
    certified(state.validators(), header, block.body.clone().unwrap())
}

/// The block with its frontier changed, committed to and certified again.
fn covering(state: &State, block: &v1::Block, change: impl Fn(&mut Vec<v1::Frontier>)) -> v1::Block {
    let mut body = block.body.clone().unwrap();
    change(&mut body.frontier);
    let root = state.frontier_root_after(&body.frontier);
    let header = v1::Header { frontier_root: bytes(root.0), ..block.header.clone().unwrap() };
    certified(state.validators(), header, body)
}

#[test]
fn blocks_cover_what_came_and_then_there_is_nothing_to_cover() {
    let (mut state, block) = open();
    let checked = state.check_block(&block).unwrap();
    assert_eq!(checked.height(), Height(1));
    assert_eq!(checked.digest(), digest(block.header.as_ref().unwrap()));
    assert_eq!(state.apply_block(checked), Height(1));
    assert_eq!(state.tip(), block.header.as_ref());
    assert_eq!(state.log(&node(1)).unwrap().final_len, 4);
    assert_eq!(state.node(&node(2)).unwrap().since, Some(Height(1)));
    assert!(!state.is_open());
    assert!(!super::super::fixture::state().is_open(), "a new network has nothing to cover");
}

#[test]
fn a_heartbeat_covers_nothing_and_is_a_block() {
    let (mut state, _) = open();
    finalise(&mut state);
    let (header, body) = state.next_block(&state.validators().get(0).unwrap().key, NOW + 9, None);
    assert_eq!(body, v1::Body::default());
    let block = certified(state.validators(), header, body);
    let checked = state.check_block(&block).unwrap();
    assert_eq!(state.apply_block(checked), Height(2));
}

#[test]
fn a_header_takes_at_most_a_kilobyte_and_with_nine_votes_one_and_a_half() {
    let (_, block) = open();
    let header = encode(block.header.as_ref().unwrap()).len();
    assert!(header <= 512, "{header}");
    let votes =
        v1::Certificate { signers: vec![0xFF; 2].into(), signatures: vec![1; 9 * 64].into(), ..Default::default() };
    assert!(header + 40 + encode(&votes).len() <= 1536);
}

#[test]
fn the_time_of_headers_never_runs_backwards() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    one.take(&mut state, commit(1));
    let block = next_block(&state, 5).unwrap();
    assert_eq!(block.header.as_ref().unwrap().time_ms, NOW, "a clock behind the tip's is passed over");
    let early = changed(&state, &block, |header| header.time_ms = NOW - 1);
    assert_eq!(refused(&state, &early), BlockError::Time { height: 2, got_ms: NOW - 1, before_ms: NOW });
}

#[test]
fn a_validator_votes_only_for_a_time_near_its_own() {
    let (mut state, mut one) = three();
    let of = |state: &State, now| next_block(state, now).unwrap().header.unwrap();
    let header = of(&state, NOW);
    let away = u64::from(TIME_UNCERTAINTY_MS);
    for now_ms in [NOW - away, NOW, NOW + away] {
        assert_eq!(state.check_clock(&header, now_ms), Ok(()));
    }
    for now_ms in [NOW - away - 1, NOW + away + 1, 0, u64::MAX] {
        let error = BlockError::Clock { height: 1, got_ms: NOW, now_ms };
        assert_eq!(state.check_clock(&header, now_ms), Err(error));
    }
    finalise(&mut state);
    one.take(&mut state, commit(1));
    // A clock that stands still, or lies days behind, makes headers of the tip's time: no harm.
    assert_eq!(state.check_clock(&of(&state, 0), NOW + 86_400_000), Ok(()));
}

#[test]
fn a_header_that_does_not_follow_is_refused() {
    let (state, block) = open();
    let zeros = Digest([0; 32]);
    let with = |change: &dyn Fn(&mut v1::Header)| refused(&state, &changed(&state, &block, change));
    let want = BlockError::OtherNetwork { got: GenesisId([0; 32]), want: state.genesis_id() };
    assert_eq!(with(&|it| it.genesis = bytes([0; 32])), want);
    assert_eq!(with(&|it| it.height = 2), BlockError::Gap { have: 0, got: 2 });
    assert_eq!(with(&|it| it.height = 0), BlockError::Known { height: 0 });
    let want = BlockError::Previous { height: 1, got: zeros, want: Digest(state.genesis_id().0) };
    assert_eq!(with(&|it| it.previous = bytes([0; 32])), want);
    let want = BlockError::Length { what: "the header's producer", got: 3 };
    assert_eq!(with(&|it| it.producer = Bytes::from_static(&[0; 3])), want);
    let stranger = ValidatorId(public(99));
    assert_eq!(with(&|it| it.producer = bytes(public(99))), BlockError::Producer { producer: stranger });
    assert_eq!(with(&|it| it.uncertainty_ms = 1), BlockError::Uncertainty { got_ms: 1 });
    assert_eq!(with(&|it| it.era = 1), BlockError::Era { got: 1, want: 0 });
    let absent = |what| BlockError::Absent { what };
    assert_eq!(refused(&state, &v1::Block { header: None, ..block.clone() }), absent("header"));
    assert_eq!(refused(&state, &v1::Block { certificate: None, ..block.clone() }), absent("certificate"));
    assert_eq!(refused(&state, &v1::Block { body: None, ..block.clone() }), absent("body"));
}

#[test]
fn the_next_validators_are_named_exactly_where_they_change() {
    let (mut state, block) = open();
    let named = block.body.clone().unwrap().next_validators.unwrap();
    assert_eq!(named.validators.len(), 3);
    let without = v1::Body { next_validators: None, ..block.body.clone().unwrap() };
    let without = certified(state.validators(), block.header.clone().unwrap(), without);
    assert_eq!(refused(&state, &without), BlockError::NextValidators { height: 1 });
    finalise(&mut state);
    Author::of(2).take(&mut state, commit(1));
    let second = next_block(&state, NOW).unwrap();
    let with = v1::Body { next_validators: Some(named), ..second.body.unwrap() };
    let with = certified(state.validators(), second.header.unwrap(), with);
    assert_eq!(refused(&state, &with), BlockError::NextValidators { height: 2 });
}

#[test]
fn a_block_without_a_quorum_is_refused() {
    let (mut state, block) = open();
    let mut empty = block;
    empty.certificate =
        Some(v1::Certificate { signers: vec![0].into(), signatures: Bytes::new(), ..empty.certificate.unwrap() });
    let want = CertificateError::Votes { got: 0, want: 1, count: 1 };
    assert_eq!(refused(&state, &empty), BlockError::Certificate(want));
    finalise(&mut state);
    Author::of(2).take(&mut state, commit(1));
    let (header, body) = state.next_block(&state.validators().get(0).unwrap().key, NOW, None);
    let founder = ValidatorSet::new(vec![*state.validators().of(&member(1)).unwrap()]).unwrap();
    let alone = certified(&founder, header, body);
    assert!(matches!(refused(&state, &alone), BlockError::Certificate(_)), "the founder alone decides nothing");
}

#[test]
fn a_block_waits_for_the_entries_it_covers() {
    let (state, block) = open();
    let behind = super::super::fixture::state();
    assert_eq!(refused(&behind, &block), BlockError::Missing { author: node(1), have: 0, need: 4 });
    let more = covering(&state, &block, |frontier| frontier[0].len = 5);
    assert_eq!(refused(&state, &more), BlockError::Missing { author: node(1), have: 4, need: 5 });
}

#[test]
fn a_frontier_out_of_order_is_refused() {
    let (mut state, _) = open();
    Author::of(2).take(&mut state, commit(1));
    let block = next_block(&state, NOW).unwrap();
    let at = |index| BlockError::FrontierOrder { index };
    let with = |change: &dyn Fn(&mut Vec<v1::Frontier>)| refused(&state, &covering(&state, &block, change));
    assert_eq!(with(&|frontier| frontier.reverse()), at(1));
    assert_eq!(with(&|frontier| frontier[1] = frontier[0].clone()), at(1));
    let short = with(&|frontier| frontier[0].author = Bytes::new());
    assert_eq!(short, BlockError::Length { what: "an author of the frontier", got: 0 });
}

#[test]
fn what_is_final_is_not_taken_back() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    one.take(&mut state, commit(1));
    let block = next_block(&state, NOW).unwrap();
    for got in [0, 3, 4] {
        let less = covering(&state, &block, |frontier| frontier[0].len = got);
        assert_eq!(refused(&state, &less), BlockError::NotGrown { author: node(1), have: 4, got });
    }
}

#[test]
fn a_block_that_covers_other_entries_than_ours_is_refused() {
    let (state, block) = open();
    let have = state.entries(&node(1)).unwrap().root_at(4).unwrap();
    let other = covering(&state, &block, |frontier| frontier[0].root = bytes([8; 32]));
    let want = BlockError::OtherLog { author: node(1), len: 4, have, got: Digest([8; 32]) };
    assert_eq!(refused(&state, &other), want);
}

#[test]
fn a_closed_log_is_covered_no_further() {
    let (mut state, mut one) = three();
    let mut two = Author::of(2);
    two.take(&mut state, commit(1));
    one.take(&mut state, retire(2, 2));
    let block = next_block(&state, NOW).unwrap();
    two.take(&mut state, commit(2)); // arrives here before the block does
    let accepted = state.check_block(&block).unwrap();
    state.apply_block(accepted);
    one.take(&mut state, commit(3));
    let block = next_block(&state, NOW).unwrap();
    assert!(state.check_block(&block).is_ok());
    let root = state.entries(&node(2)).unwrap().root_at(2).unwrap();
    let more = covering(&state, &block, |frontier| {
        frontier.push(crate::log::frontier(&node(2), 2, &root));
        frontier.sort_by(|a, b| a.author.cmp(&b.author));
    });
    assert_eq!(refused(&state, &more), BlockError::Closed { author: node(2), len: 1, got: 2 });
}

#[test]
fn a_second_certified_block_at_the_tip_is_reported_as_a_fork() {
    let (mut state, _) = three();
    let before = state.validators().clone();
    let block = finalise(&mut state);
    let mut header = block.header.clone().unwrap();
    header.time_ms += 1;
    let other = certified(&before, header.clone(), v1::Body::default());
    let (have, got) = (digest(block.header.as_ref().unwrap()), digest(&header));
    assert_eq!(refused(&state, &block), BlockError::Known { height: 1 });
    assert_eq!(state.check_fork(&signed_header(&block), &have), Ok(()));
    assert_eq!(state.check_fork(&signed_header(&other), &have), Err(BlockError::Forked { height: 1, have, got }));
    let forged = v1::Block { certificate: block.certificate, ..other };
    let error = state.check_fork(&signed_header(&forged), &have).unwrap_err();
    assert!(matches!(error, BlockError::Certificate(_)), "what is not certified forks nothing: {error}");
}

#[test]
fn no_bit_of_a_block_can_change() {
    let (state, block) = open();
    let whole = encode(&block);
    for index in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[index] ^= 1 << (index % 8);
        if let Ok(block) = decode::<v1::Block>(&flipped) {
            assert!(state.check_block(&block).is_err(), "block with byte {index} changed");
        }
    }
}

fn note(number: u64) -> v1::entry::Operation {
    let mut commitment = [0; 32];
    commitment[..8].copy_from_slice(&number.to_be_bytes());
    v1::entry::Operation::Notarise(v1::Notarise { commitment: bytes(commitment) })
}

#[test]
fn of_a_log_that_grew_much_a_block_covers_a_part_and_the_next_ones_the_rest() {
    let (mut state, mut authors) = network(1);
    let author = &mut authors[0];
    let before = state.log(&node(1)).unwrap().final_len;
    for number in 0..BLOCK_ENTRIES_MAX + 1 {
        author.take(&mut state, note(number));
    }
    let block = next_block(&state, NOW).unwrap();
    let root = state.entries(&node(1)).unwrap().root_at(before + BLOCK_ENTRIES_MAX + 1).unwrap();
    let more = covering(&state, &block, |frontier| {
        frontier[0] = crate::log::frontier(&node(1), before + BLOCK_ENTRIES_MAX + 1, &root);
    });
    let (got, max) = (BLOCK_ENTRIES_MAX + 1, BLOCK_ENTRIES_MAX);
    assert_eq!(refused(&state, &more), BlockError::Entries { author: node(1), got, max });
    finalise(&mut state);
    assert_eq!(state.log(&node(1)).unwrap().final_len, before + BLOCK_ENTRIES_MAX);
    assert!(state.is_open());
    finalise(&mut state);
    assert_eq!(state.log(&node(1)).unwrap().final_len, before + BLOCK_ENTRIES_MAX + 1);
}

#[test]
fn a_block_that_covers_more_logs_than_it_may_is_refused_before_any_is_looked_at() {
    let (state, block) = open();
    let covers = |count: u16| {
        covering(&state, &block, |frontier| {
            let author = |at: u16| {
                let mut id = [0; 32];
                id[..2].copy_from_slice(&at.to_be_bytes());
                NodeId(id)
            };
            *frontier = (0..count).map(|at| crate::log::frontier(&author(at), 1, &Digest([0; 32]))).collect();
        })
    };
    let (full, over) = (covers(BLOCK_LOGS_MAX as u16), covers(BLOCK_LOGS_MAX as u16 + 1));
    assert!(matches!(refused(&state, &full), BlockError::Missing { .. }));
    assert_eq!(refused(&state, &over), BlockError::Logs { got: BLOCK_LOGS_MAX + 1, max: BLOCK_LOGS_MAX });
    assert!(encode(over.body.as_ref().unwrap()).len() < <v1::Body as bithealth_proto::Limited>::LEN_MAX / 2);
}

#[test]
fn who_comes_first_changes_from_block_to_block() {
    let (mut state, mut authors) = network(3);
    let mut firsts = std::collections::BTreeSet::new();
    for number in 0..32 {
        for author in &mut authors {
            author.take(&mut state, note(number));
        }
        let covered = state.open_frontier();
        assert!(covered.is_sorted_by_key(|it| it.author.clone()) && covered.len() == 3);
        firsts.insert(*state.logs_in_turn().next().unwrap().0);
        finalise(&mut state);
    }
    assert_eq!(firsts.len(), 3, "each log comes first at some height");
}
