//! Validators under faults: never two certified headers at one height; and once the faults stop, everything is final.
//!
//! `BITHEALTH_SEED` is the first seed, `BITHEALTH_SEEDS` how many; a failure prints its own.

use std::collections::BTreeSet;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use bithealth_ledger::{faulty, guilty, quorum};
use bithealth_sim::{Clock, Failed, Faults, RECOVERY_DELAY_MS, World, WorldConfig};

fn number(name: &str, default: u64) -> u64 {
    env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

/// Checks each seed with a number of validators, in turn, on every processor. Of the seeds asked for it takes one in `part`.
fn each_seed(default: u64, part: u64, check: impl Fn(u64, usize) + Sync) {
    let (first, count) = (number("BITHEALTH_SEED", 1), number("BITHEALTH_SEEDS", default).div_ceil(part));
    println!("seeds {first} to {}", first + count - 1);
    let next = AtomicU64::new(first);
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                break;
            }
            check(seed, [4, 6, 9, 12][seed as usize % 4]);
        }
    };
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(work);
        }
    });
}

/// Half a minute of loss, parting and crashes, as the world's seed draws them.
fn trouble(world: &mut World, count: usize) {
    for _ in 0..30 {
        world.run(1000);
        let what = world.random().below(10);
        match what {
            0..=2 => {
                let sides = (0..count).map(|_| world.random().below(2) as u32).collect();
                world.network.sides = sides;
            }
            3 => world.network.sides = vec![0; count],
            4..=6 => {
                let node = world.random().below(count as u64) as usize;
                if world.is_up(node) {
                    world.crash(node);
                }
            }
            _ => {
                let down: Vec<usize> = (0..count).filter(|node| !world.is_up(*node)).collect();
                down.into_iter().for_each(|node| world.restart(node));
            }
        }
    }
}

/// No more faults and no more entries: within a minute all is final everywhere.
fn settle(world: &mut World, count: usize, seed: u64) {
    world.network.sides = vec![0; count];
    (world.network.loss_per_mille, world.network.double_per_mille) = (0, 0);
    let down: Vec<usize> = (0..count).filter(|node| !world.is_up(*node)).collect();
    down.into_iter().for_each(|node| world.restart(node));
    let before = *world.heights().iter().max().unwrap();
    world.stop_writing();
    world.run(60_000);
    assert_eq!(world.open(), vec![0; count], "seed {seed}: entries wait although the faults stopped");
    let heights = world.heights();
    assert!(heights.iter().all(|height| *height > before), "seed {seed}: no progress beyond {before}: {heights:?}");
}

#[test]
fn under_any_faults_no_height_has_two_headers_and_afterwards_everything_is_final() {
    each_seed(40, 2, |seed, count| {
        let mut config = WorldConfig::new(count, 0);
        (config.network.loss_per_mille, config.network.double_per_mille) = (50, 30);
        config.network.delay_max_ms = 150;
        let mut world = World::new(seed, config);
        trouble(&mut world, count);
        assert_eq!(world.forks(), [], "seed {seed}");
        settle(&mut world, count, seed);
        assert_eq!(world.forks(), [], "seed {seed}");
        assert!(world.guilty().is_empty(), "seed {seed}: an honest validator is accused");
    });
}

/// What fails in every machine, and what in those with the worst disks: no more of them than may lie.
const FAILING: Faults = Faults {
    append_per_mille: 8,
    sign_per_mille: 2,
    send_per_mille: 20,
    build_per_mille: 100,
    check_per_mille: 50,
    torn_per_mille: 0,
};
const TEARING: Faults = Faults { append_per_mille: 20, torn_per_mille: 1000, ..FAILING };

#[test]
fn machines_that_cannot_append_sign_or_send_never_contradict_themselves_and_go_on_once_they_can() {
    let all = Mutex::new(Failed::default());
    each_seed(40, 5, |seed, count| {
        let mut config = WorldConfig::new(count, 0);
        (config.network.loss_per_mille, config.network.delay_max_ms) = (20, 100);
        let mut world = World::new(seed, config);
        for node in 0..count {
            world.set_faults(node, if node < faulty(count) { TEARING } else { FAILING });
        }
        // Power that fails on top of it finds logs that were cut short and opened again.
        for _ in 0..20 {
            world.run(2000);
            let node = world.random().below(count as u64) as usize;
            world.crash(node);
            world.run(500);
            world.restart(node);
        }
        assert_eq!(world.forks(), [], "seed {seed}");
        (0..count).for_each(|node| world.set_faults(node, Faults::default()));
        settle(&mut world, count, seed);
        assert_eq!(world.forks(), [], "seed {seed}");
        assert!(world.guilty().is_empty(), "seed {seed}: an honest validator is accused");
        *all.lock().unwrap() += world.failed();
    });
    let all = all.into_inner().unwrap();
    println!("{all:?}");
    let Failed { appends, signatures, sends, builds, checks, .. } = all;
    assert!([appends, signatures, sends, builds, checks].iter().all(|count| *count > 0), "{all:?}");
}

#[test]
fn as_many_doubled_keys_as_may_lie_fork_nothing() {
    each_seed(40, 2, |seed, count| {
        let twins = faulty(count);
        let nodes = count + twins;
        let mut config = WorldConfig::new(count, twins);
        config.network.loss_per_mille = 20;
        let mut world = World::new(seed, config);
        for _ in 0..20 {
            let sides = (0..nodes).map(|_| world.random().below(2) as u32).collect();
            world.network.sides = sides;
            world.run(2000);
        }
        assert_eq!(world.forks(), [], "seed {seed}");
        let honest: Vec<_> = (twins..count).map(|organisation| world.validator(organisation)).collect();
        assert!(!honest.iter().any(|key| world.guilty().contains(key)), "seed {seed}: an honest validator is accused");
    });
}

#[test]
fn after_a_majority_is_gone_for_good_those_who_are_left_go_on_and_nothing_final_is_lost() {
    each_seed(80, 8, |seed, count| {
        let mut config = WorldConfig::new(count, 0);
        (config.network.loss_per_mille, config.network.delay_max_ms) = (30, 150);
        let mut world = World::new(seed, config);
        world.run(10_000);
        // Too few are left, who learn what one of them has.
        let left: Vec<usize> = (count - count / 3 - 1..count).collect();
        (0..left[0]).for_each(|node| world.crash(node));
        world.run(10_000);
        let before = world.heights()[left[0]..].to_vec();
        assert!(before.iter().all(|height| *height == before[0]), "seed {seed}: {before:?}");
        let by = left[world.random().below(left.len() as u64) as usize];
        let signed = world.announce(by, &left);
        // One of them restarts meanwhile; whatever it signed before, it signs nothing of the old era now.
        world.run(20_000);
        let restarts = left[world.random().below(left.len() as u64) as usize];
        world.crash(restarts);
        world.run(20_000);
        world.restart(restarts);
        world.run(RECOVERY_DELAY_MS - 40_000);
        assert_eq!(world.heights()[left[0]..], before, "seed {seed}: nothing is decided before the delay passed");
        world.cosign(by, signed);
        world.run(30_000);
        world.stop_writing();
        world.run(60_000);
        assert_eq!(world.forks(), [], "seed {seed}");
        let of_left = |all: Vec<u64>| all[left[0]..].to_vec();
        assert_eq!(of_left(world.eras()), vec![1; left.len()], "seed {seed}");
        assert_eq!(of_left(world.open()), vec![0; left.len()], "seed {seed}: entries wait in the new era");
        // The lost come back after all: they follow, and change nothing.
        (0..left[0]).for_each(|node| world.restart(node));
        world.run(30_000);
        assert_eq!((world.forks(), world.eras()), (vec![], vec![1; count]), "seed {seed}");
        assert!(world.guilty().is_empty(), "seed {seed}");
    });
}

#[test]
fn a_recovery_of_a_few_who_were_only_cut_off_is_void() {
    each_seed(80, 8, |seed, count| {
        let mut world = World::new(seed, WorldConfig::new(count, 0));
        world.run(10_000);
        let few = faulty(count);
        world.network.sides = (0..count).map(|node| u32::from(node < few)).collect();
        world.run(5_000);
        let cut_off: Vec<usize> = (0..few).collect();
        let signed = world.announce(0, &cut_off);
        let healed = 5_000 + world.random().below(RECOVERY_DELAY_MS - 10_000);
        world.run(healed);
        assert!(world.heights()[count - 1] > world.heights()[0], "seed {seed}: the others went on");
        world.network.sides = vec![0; count];
        world.run(RECOVERY_DELAY_MS + 5_000);
        world.cosign(0, signed);
        world.stop_writing();
        world.run(60_000);
        assert_eq!((world.forks(), world.eras()), (vec![], vec![0; count]), "seed {seed}");
        assert_eq!(world.open(), vec![0; count], "seed {seed}: entries wait");
    });
}

#[test]
fn without_a_quorum_nothing_is_final_and_after_it_returns_all_is() {
    let mut world = World::new(7, WorldConfig::new(9, 0));
    world.run(10_000);
    let before = world.heights();
    for node in 0..5 {
        world.crash(node);
    }
    world.run(60_000);
    let during = world.heights()[5..].iter().max().copied().unwrap();
    assert!(during <= before.iter().max().unwrap() + 1, "at most the height in flight");
    assert!(world.open()[8] > 0, "entries are still written");
    world.stop_writing();
    for node in 0..5 {
        world.restart(node);
    }
    while *world.heights().iter().max().unwrap() < during + 3 {
        world.run(100);
    }
    world.run(1_000);
    assert_eq!(world.open(), vec![0; 9], "what waited is final within three blocks");
}

#[test]
fn with_a_region_of_three_away_blocks_go_on() {
    for gone in 0..3 {
        let mut world = World::new(gone, WorldConfig::new(9, 0));
        world.run(5_000);
        (0..9).filter(|node| node % 3 == gone as usize).for_each(|node| world.crash(node));
        let before = *world.heights().iter().max().unwrap();
        world.run(60_000);
        let after = *world.heights().iter().max().unwrap();
        assert!(after >= before + 15, "{before} to {after}");
    }
}

#[test]
fn wrong_clocks_of_some_stop_nobody() {
    const DAY: i64 = 86_400_000;
    let clocks = [Clock::Off(10_000), Clock::Off(-10_000), Clock::Off(DAY), Clock::Off(-DAY), Clock::Frozen];
    for (seed, first) in clocks.into_iter().enumerate() {
        let second = clocks[(seed + 1) % clocks.len()];
        let mut config = WorldConfig::new(9, 0);
        config.clocks = vec![first, second];
        let mut world = World::new(seed as u64, config);
        world.run(60_000);
        let height = *world.heights().iter().max().unwrap();
        assert!(height >= 20, "{first:?} and {second:?}: only {height} blocks in a minute");
        world.stop_writing();
        world.run(30_000);
        assert_eq!(world.open(), vec![0; 9], "{first:?} and {second:?}");
        assert_eq!(world.forks(), []);
    }
}

#[test]
fn while_too_many_clocks_lie_apart_nothing_is_final_and_once_they_are_set_right_all_is() {
    const DAY: i64 = 86_400_000;
    let mut config = WorldConfig::new(9, 0);
    config.clocks = (1..6).map(|days| Clock::Off(days * DAY)).collect();
    let mut world = World::new(5, config);
    world.run(240_000);
    let before = world.heights();
    assert!(*before.iter().max().unwrap() <= 1, "six that agree are due: {before:?}");
    (0..5).for_each(|node| world.set_clock(node, Clock::Off(0)));
    world.stop_writing();
    world.run(60_000);
    assert_eq!((world.open(), world.forks()), (vec![0; 9], vec![]));
}

#[test]
fn one_doubled_key_more_than_may_lie_can_fork_and_leaves_evidence_against_exactly_those() {
    each_seed(16, 1, |seed, count| {
        // The honest ones are divided: with the doubled keys, which both sides have, each side is a quorum.
        let twins = faulty(count) + 1;
        let half = twins + (count - twins) / 2;
        assert_eq!([half, count - half + twins], [quorum(count); 2], "{count}");
        let mut world = World::new(seed, WorldConfig::new(count, twins));
        world.network.sides = (0..count + twins).map(|node| u32::from(node >= half)).collect();
        world.run(30_000);
        let forks = world.forks();
        assert!(!forks.is_empty(), "seed {seed}, {count}: both sides have a quorum");
        let doubled: BTreeSet<_> = (0..twins).map(|organisation| world.validator(organisation)).collect();
        let named =
            |(_, [a, b]): &(u64, [_; 2])| guilty(a, b, &world.validators()).into_iter().collect::<BTreeSet<_>>();
        // Of certificates of two rounds each could be honest by itself: they name nobody.
        let of_one_round: Vec<_> = forks.iter().filter(|(_, [a, b])| a.round == b.round).map(named).collect();
        assert!(!of_one_round.is_empty(), "seed {seed}, {count}: a fork in one round");
        assert!(of_one_round.iter().all(|named| *named == doubled), "seed {seed}, {count}: {of_one_round:?}");
        // Once they hear each other again, the votes themselves convict whoever gave two of them in a round, and no other.
        world.network.sides = vec![0; count + twins];
        world.run(5_000);
        assert!(world.guilty().is_subset(&doubled), "seed {seed}, {count}: an honest validator is accused");
    });
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || {
        let mut config = WorldConfig::new(6, 0);
        config.network.loss_per_mille = 100;
        let mut world = World::new(11, config);
        trouble(&mut world, 6);
        (world.heights(), world.open())
    };
    assert_eq!(run(), run());
}
