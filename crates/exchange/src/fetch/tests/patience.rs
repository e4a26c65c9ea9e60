//! Late, silent, busy and choking providers.

use super::*;

#[test]
fn a_late_want_is_asked_elsewhere_and_the_first_answer_wins() {
    for first_is_late in [true, false] {
        let (pack, mut fetch) = with(a_range(), |_| {});
        let late = only(&step(&mut fetch, 0, provider(ALICE, [0])));
        step(&mut fetch, 0, provider(BOB, [0]));
        assert_eq!(step(&mut fetch, 199, Input::Tick), []);
        let hedge = only(&step(&mut fetch, 1000, Input::Tick));
        let (winner, won, loser, other) =
            if first_is_late { (ALICE, late, BOB, hedge) } else { (BOB, hedge, ALICE, late) };
        let effects = step(&mut fetch, 1001, pack.leaves(winner, &won));
        assert!(matches!(effects[0], Effect::Store { .. }));
        assert_eq!(effects[1..], [cancel(loser, &other)]);
        assert_eq!(step(&mut fetch, 1002, pack.leaves(loser, &other)), [], "a crossing answer does no harm");
    }
}

#[test]
fn a_late_want_with_no_other_provider_is_decoded() {
    let (_, mut fetch) = with(a_range(), |_| {});
    step(&mut fetch, 0, provider(ALICE, [0]));
    step(&mut fetch, 0, provider(BOB, [1]));
    step(&mut fetch, 0, provider(CAROL, [2]));
    assert_eq!(asked(&step(&mut fetch, 1000, Input::Tick)), [(BOB, 1), (CAROL, 2)]);
}

#[test]
fn hedges_end_with_their_budget() {
    for (percent, hedges) in [(0, 1), (10, 1), (13, 2)] {
        let (_, mut fetch) = with(Need::Whole, |config| {
            config.run_leaves = 1;
            config.hedge_percent_max = percent; // of 16 leaves
            config.stall_floor_ms = 100_000;
            config.request_timeout_ms = 100_000;
        });
        for (peer, shard) in [(ALICE, 0), (BOB, 1)] {
            assert_eq!(asked(&step(&mut fetch, 0, provider(peer, [shard]))).len(), 8);
        }
        step(&mut fetch, 0, provider(CAROL, [2]));
        step(&mut fetch, 0, provider(NodeId([0xDA; 32]), [3]));
        let asked: usize = (1..50).map(|i| asked(&step(&mut fetch, 1000 * i, Input::Tick)).len()).sum();
        assert_eq!(asked, hedges, "{percent} %");
    }
}

#[test]
fn a_hedge_that_decodes_costs_all_the_cells_it_decodes_from() {
    for (percent, asked_of_others) in [(0, 2), (49, 2), (50, 4)] {
        let (pack, mut fetch) = with(Need::Ranges(vec![(ShardIndex(0), 0..LEAF_COUNT)]), |config| {
            config.run_leaves = 1;
            config.hedge_percent_max = percent; // of 8 leaves
            config.stall_floor_ms = 100_000;
            config.request_timeout_ms = 100_000;
        });
        assert_eq!(wants(&step(&mut fetch, 0, provider(ALICE, [0]))).len(), 8);
        step(&mut fetch, 0, provider(BOB, [1]));
        step(&mut fetch, 0, provider(CAROL, [2]));
        let mut open = wants(&step(&mut fetch, 1000, Input::Tick));
        let mut of_others = 0;
        while let Some((from, want)) = open.pop() {
            of_others += 1;
            open.extend(wants(&step(&mut fetch, 1001, pack.leaves(from, &want))));
        }
        assert_eq!(of_others, asked_of_others, "{percent} %");
    }
}

#[test]
fn who_rests_and_says_nothing_is_hedged_too() {
    let (_, mut fetch) = with(Need::Whole, |config| {
        config.run_leaves = 4;
        config.rest_ms = 100_000;
    });
    let open = wants(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    step(&mut fetch, 1, Input::Busy { from: ALICE, want: open[3].1.id });
    assert_eq!(asked(&step(&mut fetch, 2, provider(BOB, [0, 1]))).len(), 1, "what ALICE is too busy for");
    step(&mut fetch, 3, lost(BOB));
    let effects = step(&mut fetch, 7000, provider(BOB, [0, 1]));
    assert_eq!(asked(&effects).len(), 2, "and her oldest");
}

#[test]
fn all_wants_of_a_stalled_provider_are_asked_elsewhere_without_a_budget() {
    let (_, mut fetch) = with(Need::Whole, |config| {
        config.run_leaves = 4;
        config.hedge_percent_max = 0;
    });
    let open = asked(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    assert_eq!(open.len(), 4);
    let effects = step(&mut fetch, 2600, Input::Tick);
    assert_eq!(effects, []);
    let effects = step(&mut fetch, 2600, provider(BOB, [0, 1]));
    assert_eq!(asked(&effects).len(), 4);
    assert_eq!(fetch.providers[&ALICE].standing, Standing::Stalled);
    assert_eq!(step(&mut fetch, 2601, lost(BOB)), [], "who stalls is not asked");
}

#[test]
fn an_answer_ends_a_stall() {
    let (pack, mut fetch) = with(Need::Whole, |config| config.run_leaves = 4);
    let open = wants(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    step(&mut fetch, 2600, Input::Tick);
    step(&mut fetch, 2700, pack.leaves(ALICE, &open[0].1));
    assert_eq!(fetch.providers[&ALICE].standing, Standing::Good);
}

#[test]
fn who_stalled_and_owes_nothing_any_more_is_asked_again_after_a_rest() {
    let (pack, mut fetch) = with(a_range(), |_| {});
    step(&mut fetch, 0, provider(ALICE, [0]));
    step(&mut fetch, 2600, Input::Tick);
    let want = only(&step(&mut fetch, 2600, provider(BOB, [0])));
    step(&mut fetch, 2601, pack.leaves(BOB, &want));
    assert!(matches!(fetch.providers[&ALICE].standing, Standing::Stalled | Standing::Resting { .. }));
    step(&mut fetch, 2602, Input::Tick);
    step(&mut fetch, 9000, Input::Tick);
    assert_eq!(fetch.providers[&ALICE].standing, Standing::Good);
}

#[test]
fn silence_is_cancelled_rested_asked_again_and_in_the_end_lost() {
    let (_, mut fetch) = with(a_range(), |config| config.strikes_max = 2);
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    assert_eq!(step(&mut fetch, 8000, Input::Tick), []);
    let effects = step(&mut fetch, 9000, Input::Tick);
    assert_eq!(effects, [cancel(ALICE, &want)]);
    assert_eq!(step(&mut fetch, 10_999, Input::Tick), []);
    let again = only(&step(&mut fetch, 11_000, Input::Tick));
    let effects = step(&mut fetch, 20_000, Input::Tick);
    assert_eq!(effects, [cancel(ALICE, &again), Effect::Starved { rows: 3, shards_due: 2 }]);
    assert_eq!(asked(&step(&mut fetch, 20_001, provider(ALICE, [0]))), [(ALICE, 0)], "until it is found anew");
}

#[test]
fn a_busy_provider_is_asked_again_after_a_rest() {
    let (_, mut fetch) = with(a_range(), |_| {});
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    assert_eq!(step(&mut fetch, 1, Input::Busy { from: ALICE, want: want.id }), []);
    assert_eq!(step(&mut fetch, 2000, Input::Tick), []);
    assert_eq!(asked(&step(&mut fetch, 2001, Input::Tick)), [(ALICE, 0)]);
}

#[test]
fn a_choked_provider_is_asked_nothing_until_it_is_unchoked() {
    let (pack, mut fetch) = with(Need::Whole, |config| config.wants_open_max = 1);
    let first = only(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    assert_eq!(step(&mut fetch, 1, Input::Choked { peer: ALICE }), []);
    assert!(
        matches!(step(&mut fetch, 2, pack.leaves(ALICE, &first))[..], [Effect::Store { .. }]),
        "what was asked counts"
    );
    assert_eq!(step(&mut fetch, 3, stored(&first)), []);
    assert_eq!(asked(&step(&mut fetch, 4, Input::Unchoked { peer: ALICE })).len(), 1);
}

#[test]
fn who_choked_before_it_was_a_provider_is_asked_nothing_either() {
    let (_, mut fetch) = whole();
    step(&mut fetch, 0, Input::Choked { peer: ALICE });
    assert_eq!(asked(&step(&mut fetch, 1, provider(ALICE, [0, 1]))), []);
    assert_eq!(asked(&step(&mut fetch, 2, Input::Unchoked { peer: ALICE })).len(), 2);
    step(&mut fetch, 3, lost(ALICE));
    assert_eq!(asked(&step(&mut fetch, 4, provider(ALICE, [0, 1]))).len(), 2, "a choke that ended is forgotten");
}

#[test]
fn whoever_chokes_for_too_long_counts_as_lost() {
    let (_, mut fetch) = with(a_range(), |config| config.choke_patience_ms = 500);
    step(&mut fetch, 0, provider(BOB, [1]));
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    step(&mut fetch, 10, Input::Choked { peer: ALICE });
    assert_eq!(step(&mut fetch, 509, Input::Tick), []);
    assert_eq!(step(&mut fetch, 510, Input::Tick), [cancel(ALICE, &want), Effect::Starved { rows: 3, shards_due: 1 }]);
}

#[test]
fn every_deadline_is_woken_for() {
    let (_, mut fetch) = with(a_range(), |config| config.strikes_max = 1);
    let mut out = VecDeque::new();
    handle(&mut fetch, Time(0), provider(ALICE, [0]), &mut out);
    let mut woken = Vec::new();
    while let Some(effect) = out.pop_front() {
        if let Effect::WakeAt(at) = effect {
            woken.push(at.0);
            handle(&mut fetch, at, Input::Tick, &mut out);
        }
    }
    let [late, stalled, timed_out] = woken[..] else { panic!("{woken:?}") };
    assert!(late < stalled && stalled < timed_out && timed_out >= 8000, "{woken:?}");
    assert!(fetch.providers.is_empty());
}

#[test]
fn a_quick_provider_at_the_end_takes_over_from_a_slow_one() {
    let pack = Pack::new(48);
    let mut spec = pack.spec(Need::Whole);
    (spec.config.run_leaves, spec.config.hedge_floor_ms, spec.config.stall_floor_ms) = (16, 3000, 9000);
    let mut fetch = Fetch::new(spec, 1);
    let slow = wants(&step(&mut fetch, 0, provider(ALICE, [0])));
    let quick = wants(&step(&mut fetch, 0, provider(BOB, [1])));
    assert_eq!((slow.len(), quick.len()), (3, 3));
    for (_, want) in &quick {
        step(&mut fetch, 10, pack.leaves(BOB, want));
    }
    step(&mut fetch, 20, provider(BOB, [0, 1]));
    // ALICE needs 2.9 s for one run and has two more to send: the last would come in 5.8 s.
    let effects = step(&mut fetch, 2900, pack.leaves(ALICE, &slow[0].1));
    let hedge = only(&effects);
    assert_eq!((asked(&effects)[0], hedge.first), ((BOB, 0), slow[2].1.first));
    let effects = step(&mut fetch, 2910, pack.leaves(BOB, &hedge));
    assert_eq!(effects[1], cancel(ALICE, &slow[2].1));
}
