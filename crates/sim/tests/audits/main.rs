//! Audits in virtual time: no honest holder is condemned, whoever lacks or fetches what it should have is found out.
//!
//! Each seed is an auditor and the holders it looks after, for months. The first seed is the day, so that every day tries
//! others; `BITHEALTH_SEED` sets it instead, and `BITHEALTH_SEEDS` how many. A failure prints its own.

mod holder;
mod world;

use std::num::NonZero;
use std::sync::atomic::{AtomicU64, Ordering};
use std::{env, thread};

use bithealth_placement::{Trust, Verdict};
use holder::{Cheat, Holder};
use world::World;

const SECONDS_A_DAY: u64 = 24 * 60 * 60;
/// Honest holders of one seed, and how often each is audited: 10^5 audits in forty seeds.
const HOLDERS: usize = 10;
const AUDITS: usize = 250;
const HONEST_SEEDS: u64 = 40;

fn number(name: &str) -> Option<u64> {
    let text = env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn first_seed() -> u64 {
    let since_1970 = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    number("BITHEALTH_SEED").unwrap_or_else(|| 1000 * (since_1970().as_secs() / SECONDS_A_DAY))
}

/// Checks each seed, on every processor.
fn each_seed(default: u64, check: impl Fn(u64) + Sync) {
    let (first, count) = (first_seed(), number("BITHEALTH_SEEDS").unwrap_or(default));
    println!("seeds {first} to {}", first + count - 1);
    let next = AtomicU64::new(first);
    thread::scope(|scope| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        break;
                    }
                    check(seed);
                }
            });
        }
    });
}

#[test]
fn of_a_hundred_thousand_audits_of_honest_holders_none_condemns() {
    let (audits, kept) = (AtomicU64::new(0), AtomicU64::new(0));
    each_seed(HONEST_SEEDS, |seed| {
        let mut world = World::new(seed);
        let holders = (0..HOLDERS).map(|_| Holder::honest(&mut world.random)).collect();
        for (verdict, trust) in world.run(holders, HOLDERS * AUDITS) {
            assert_ne!(
                trust,
                Trust::Condemned,
                "seed {seed}: an honest holder is condemned, the last audit: {verdict:?}"
            );
            audits.fetch_add(1, Ordering::Relaxed);
            kept.fetch_add(u64::from(verdict == Verdict::Kept), Ordering::Relaxed);
        }
    });
    let (audits, kept) = (audits.into_inner(), kept.into_inner());
    println!("{audits} audits, {kept} passed");
    assert!(kept > audits / 3, "the holders are slower, or the auditors more lenient, than means anything");
}

#[test]
fn who_lacks_one_leaf_in_a_hundred_is_found_out_within_a_thousand_samples_and_condemned() {
    each_seed(20, |seed| {
        let mut world = World::new(seed);
        let holder = Holder::cheat(&mut world.random, Cheat::LacksPercent(1));
        let audits = world.run(vec![holder], 60);
        let answered: Vec<_> =
            audits.iter().filter(|(verdict, _)| !matches!(verdict, Verdict::Inconclusive | Verdict::Away)).collect();
        let found = answered.iter().position(|(verdict, _)| *verdict == Verdict::False);
        let samples = found.map(|at| (at + 1) * world::SAMPLES as usize);
        // One in 100,000 seeds would need more by chance.
        assert!(samples.is_some_and(|samples| samples <= 1000), "seed {seed}: {samples:?} samples");
        assert!(audits.iter().any(|(_, trust)| *trust == Trust::Condemned), "seed {seed}: it is not condemned");
    });
}

#[test]
fn who_keeps_only_hashes_is_found_out_by_the_first_answer_and_condemned_by_the_second() {
    each_seed(20, |seed| {
        let mut world = World::new(seed);
        let holder = Holder::cheat(&mut world.random, Cheat::KeepsHashes);
        let audits = world.run(vec![holder], 20);
        let answers: Vec<_> = audits.iter().filter(|(verdict, _)| *verdict == Verdict::False).collect();
        assert!(answers.len() >= 2, "seed {seed}: {audits:?}");
        assert_eq!(answers[1].1, Trust::Condemned, "seed {seed}");
        assert!(audits.iter().all(|(verdict, _)| *verdict != Verdict::Kept), "seed {seed}");
    });
}

#[test]
fn who_throws_away_what_it_had_and_fetches_it_is_condemned_within_weeks() {
    each_seed(40, |seed| {
        let mut world = World::new(seed);
        let holder = Holder::cheat(&mut world.random, Cheat::FetchesAfter { audits: 20, line: 10 << 20 });
        let audits = world.run(vec![holder], 2000);
        assert!(audits[..20].iter().all(|(_, trust)| *trust == Trust::Sound), "seed {seed}");
        let condemned = audits.iter().position(|(_, trust)| *trust == Trust::Condemned);
        assert!(condemned.is_some(), "seed {seed}: it is never condemned: {:?}", &audits[..60]);
    });
}

#[test]
fn who_fetches_over_a_line_as_fast_as_a_disk_may_be_is_not_told_apart_and_not_condemned() {
    each_seed(40, |seed| {
        let mut world = World::new(seed);
        let holder = Holder::cheat(&mut world.random, Cheat::FetchesAfter { audits: 0, line: 10 << 20 });
        for (verdict, trust) in world.run(vec![holder], 500) {
            assert_ne!(verdict, Verdict::Kept, "seed {seed}: it never had anything");
            assert_eq!(trust, Trust::Sound, "seed {seed}: an honest disk may be as slow");
        }
    });
}

#[test]
fn who_never_answers_is_condemned_in_the_end() {
    each_seed(10, |seed| {
        let mut world = World::new(seed);
        let holder = Holder::cheat(&mut world.random, Cheat::NeverAnswers);
        let audits = world.run(vec![holder], 2000);
        assert!(audits.iter().any(|(_, trust)| *trust == Trust::Condemned), "seed {seed}");
    });
}

#[test]
fn the_same_seed_gives_the_same_verdicts() {
    let seed = first_seed();
    let run = || {
        let mut world = World::new(seed);
        let holders = (0..3).map(|_| Holder::honest(&mut world.random)).collect();
        world.run(holders, 100)
    };
    assert_eq!(run(), run());
}
