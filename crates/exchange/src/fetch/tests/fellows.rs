//! Others that fetch the same pack.

use super::*;

// ---- Who fetches too

/// The runs of a shard that a peer has by now, of one leaf each in these tests' packs of one run.
fn fetching(peer: NodeId, runs: &[(u16, &[u32])]) -> Input {
    let set = |runs: &[u32]| {
        let mut set = RunSet::default();
        runs.iter().for_each(|run| set.insert(*run));
        set
    };
    Input::Fetching { peer, runs: runs.iter().map(|(shard, runs)| (ShardIndex(*shard), set(runs))).collect() }
}

fn firsts(effects: &[Effect]) -> Vec<(NodeId, u32)> {
    let mut firsts: Vec<_> = wants(effects).iter().map(|(to, want)| (*to, want.first.0 / GRID_LEAVES)).collect();
    firsts.sort_unstable();
    firsts
}

#[test]
fn what_one_that_fetches_too_has_is_asked_of_it_and_the_rest_of_the_holder() {
    let (_, mut fetch) = four_runs();
    fetch.leaves_to_others = false;
    assert_eq!(firsts(&step(&mut fetch, 0, fetching(BOB, &[(0, &[1, 3])]))), [(BOB, 1), (BOB, 3)]);
    assert_eq!(firsts(&step(&mut fetch, 0, provider(ALICE, [0]))), [(ALICE, 0), (ALICE, 2)]);
    assert_eq!(step(&mut fetch, 0, fetching(BOB, &[(0, &[1, 3])])), [], "no news");
}

#[test]
fn a_holder_is_not_spared_where_the_other_is_much_slower() {
    let (_, mut fetch) = four_runs();
    fetch.pipes.delivered(ALICE, 64 << 20, 100, 0);
    fetch.pipes.delivered(BOB, 256 << 10, 1000, 0);
    fetch.on_provider(Time(0), ALICE, ShardSet::first(1));
    let effects = step(&mut fetch, 0, fetching(BOB, &[(0, &[0, 1, 2, 3])]));
    assert!(asked(&effects).iter().all(|(peer, _)| *peer == ALICE), "{effects:?}");
}

#[test]
fn a_cell_that_another_is_about_to_get_is_left_to_it_and_asked_of_it_once_it_has_it() {
    let (_, mut fetch) = four_runs();
    step(&mut fetch, 0, fetching(BOB, &[]));
    let asked = firsts(&step(&mut fetch, 0, provider(ALICE, [0])));
    assert!((1..4).contains(&asked.len()), "some are ours, some are BOB's: {asked:?}");
    let left = (0..4).find(|run| !asked.contains(&(ALICE, *run))).unwrap();
    assert_eq!(firsts(&step(&mut fetch, 100, fetching(BOB, &[(0, &[left])]))), [(BOB, left)]);
}

#[test]
fn nothing_is_left_to_one_that_gets_nothing_more() {
    let (_, mut fetch) = four_runs();
    fetch.spec.config.hedge_floor_ms = 10_000;
    fetch.pipes.delivered(ALICE, 1 << 20, 50, 0);
    step(&mut fetch, 0, fetching(BOB, &[]));
    let ours = firsts(&step(&mut fetch, 0, provider(ALICE, [0])));
    let patience_ms = fetch.spec.config.fetcher_patience_ms;
    assert_eq!(step(&mut fetch, patience_ms - 1, Input::Tick), []);
    let theirs = firsts(&step(&mut fetch, patience_ms, Input::Tick));
    assert_eq!(ours.len() + theirs.len(), 4);
}

#[test]
fn nothing_is_left_to_one_that_fetched_lately_and_what_it_has_is_asked_of_it() {
    let (_, mut fetch) = four_runs();
    let Input::Fetching { runs, .. } = fetching(BOB, &[(0, &[2])]) else { unreachable!() };
    assert_eq!(firsts(&step(&mut fetch, 0, Input::Fetched { peer: BOB, runs })), [(BOB, 2)]);
    assert_eq!(firsts(&step(&mut fetch, 0, provider(ALICE, [0]))), [(ALICE, 0), (ALICE, 1), (ALICE, 3)]);
}

#[test]
fn whoever_has_nothing_else_to_do_waits_once_and_not_again() {
    let (pack, mut fetch) = four_runs();
    step(&mut fetch, 0, fetching(BOB, &[]));
    let ours = wants(&step(&mut fetch, 0, provider(ALICE, [0])));
    for (_, want) in &ours {
        step(&mut fetch, 1, pack.leaves(ALICE, want));
        step(&mut fetch, 1, stored(want));
    }
    // BOB says again and again that it has one run more, and never one that we lack.
    for at in 0..40 {
        let effects = step(&mut fetch, 10 + at * 100, fetching(BOB, &[(1, &[100 + at as u32])]));
        if !effects.is_empty() {
            assert_eq!((firsts(&effects).is_empty(), at), (false, 5));
            return;
        }
    }
    panic!("it waits for ever");
}

#[test]
fn little_is_asked_for_until_it_is_known_who_else_fetches() {
    for (at, input) in [(99, Input::Sought), (100, Input::Tick)] {
        let (_, mut fetch) = four_runs();
        fetch.spec.config.seek_ms = 100;
        assert_eq!(firsts(&step(&mut fetch, 0, provider(ALICE, [0]))).len(), 1);
        assert_eq!(step(&mut fetch, 99, Input::Tick), []);
        assert_eq!(firsts(&step(&mut fetch, at, input)).len(), 3);
    }
}

#[test]
fn the_rarest_runs_come_first() {
    let (_, mut fetch) = four_runs();
    fetch.leaves_to_others = false;
    fetch.spec.config.wants_open_max = 1;
    fetch.on_fetching(Time(0), BOB, &[]);
    let Input::Fetching { runs, .. } = fetching(BOB, &[(0, &[0, 1, 3])]) else { unreachable!() };
    fetch.on_fetching(Time(0), BOB, &runs);
    assert_eq!(firsts(&step(&mut fetch, 0, provider(ALICE, [0]))), [(ALICE, 2)]);
}

#[test]
fn what_a_fetcher_turns_out_not_to_have_is_asked_elsewhere_without_blame_until_it_tells_more() {
    let (_, mut fetch) = four_runs();
    let open = wants(&step(&mut fetch, 0, fetching(BOB, &[(0, &[2])])));
    let effects = step(&mut fetch, 1, missing(BOB, &open[0].1));
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::Blame { .. })), "{effects:?}");
    assert_eq!(firsts(&step(&mut fetch, 2, fetching(BOB, &[(0, &[3])]))), [(BOB, 2), (BOB, 3)]);
}
