//! Fetches in virtual time, from nine providers that are slow, die, stall, lie, or lack what they said they have.
//!
//! Each seed is one fetch. The first seed is the day, so that every day tries others; `BITHEALTH_SEED` sets it instead.

mod world;

use world::{Faults, Packs, Seed, World};

const FAULTY_SEEDS: u64 = 240;
const FAULTLESS_SEEDS: u64 = 120;
const SECONDS_A_DAY: u64 = 24 * 60 * 60;

fn first_seed() -> u64 {
    if let Ok(seed) = std::env::var("BITHEALTH_SEED") {
        return seed.parse().expect("BITHEALTH_SEED is a number");
    }
    let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("it is after 1970");
    1000 * (since_1970.as_secs() / SECONDS_A_DAY)
}

#[test]
fn whatever_providers_do_a_fetch_stores_only_the_truth_and_ends_if_it_can() {
    let (packs, first) = (Packs::new(), first_seed());
    let (mut finished, mut blamed) = (0, 0);
    for seed in first..first + FAULTY_SEEDS {
        let _named = Seed(seed);
        let mut world = World::new(&packs, seed, Faults::Some);
        world.run();
        world.check_truth();
        world.check_blame();
        assert!(world.finished() || !world.is_reachable(), "k honest shards of every row can be reached");
        finished += u64::from(world.finished());
        blamed += world.blamed_count();
    }
    println!("seeds {first}..{}: {finished} finished, {blamed} liars named", first + FAULTY_SEEDS);
    assert!((FAULTY_SEEDS / 2..=FAULTY_SEEDS).contains(&finished), "{finished}: the faults are too many or too few");
}

#[test]
fn without_faults_little_is_asked_twice() {
    let (packs, first) = (Packs::new(), first_seed());
    let (mut asked, mut needed) = (0, 0);
    for seed in first..first + FAULTLESS_SEEDS {
        let _named = Seed(seed);
        let mut world = World::new(&packs, seed, Faults::None);
        world.run();
        world.check_truth();
        world.check_blame();
        assert!(world.finished(), "nothing is in the way");
        let bytes = world.check_bytes_asked();
        asked += bytes.0;
        needed += bytes.1;
    }
    let ratio = asked as f64 / needed as f64;
    println!("seeds {first}..{}: {ratio:.3} bytes asked for one needed", first + FAULTLESS_SEEDS);
    assert!(ratio <= 1.25, "{ratio}");
}

#[test]
fn the_same_seed_gives_the_same_effects() {
    let (packs, first) = (Packs::new(), first_seed());
    for seed in first..first + 5 {
        let _named = Seed(seed);
        let trace = || {
            let mut world = World::new(&packs, seed, Faults::Some);
            world.run();
            world.into_trace()
        };
        assert_eq!(trace(), trace());
    }
}
