//! A member that asks for far more than its share and takes no answer, and the memory of the node it asks.

use std::thread;
use std::time::{Duration, Instant};

use bithealth_tests::Attacked;

use super::table::{Due, Measured, Numbers, Section};
use super::tool::bithealth;
use crate::PeersArgs;

/// Streams that ask at a time.
const STREAMS: usize = 6;
/// How long the flood goes on.
const FLOOD: Duration = Duration::from_secs(10);
/// Within how long after it the memory must be back, and within how much of what it was.
const BACK_WITHIN: Duration = Duration::from_secs(60);
const MORE_MOST: f64 = 1.05;
/// Between two looks at the memory.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const OURS: &str = "BitHealth node";
const AFTER: &str = "MiB after";
const BEFORE: &str = "MiB before";
const PEAK: &str = "MiB during";
const TIMES: &str = "after/before";
const SECONDS: &str = "s until 5 %";
/// How often all streams asked for all that they ask for.
const BOMBS: &str = "bombs";

const NOTES: &[&str] = &[
    "Six streams ask for 4,000 runs of 64 leaves each, again and again for ten seconds, and read nothing. Memory is what the \
     node has resident: before, at most meanwhile, and as soon as it is within 5 % of before, or else a minute after.",
];

/// Floods a node in each round.
pub(super) fn measure(args: &PeersArgs) -> Section {
    let attacked = Attacked::start_with(|_| {});
    attacked.somebody_reads(0); // so that it has served before
    let mut ours = Measured::new(OURS, bithealth::version());
    for round in 0..args.rounds {
        ours.rounds.push(flood(&attacked));
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    let title = format!("one node asked by {STREAMS} streams; medians of {} rounds", args.rounds);
    let columns = [(AFTER, 1), (BEFORE, 1), (PEAK, 1), (TIMES, 3), (SECONDS, 1), (BOMBS, 0)];
    let before = |row: &Measured| row.medians()[BEFORE];
    let mut section = Section::new("flood", title, &columns, ("what it had before, MiB", before), vec![ours]);
    let times = section.median(OURS, TIMES);
    section.goal("times the memory before, a minute after at most", times, Due::AtMost(MORE_MOST));
    section.note(NOTES);
    section
}

fn flood(attacked: &Attacked) -> Numbers {
    let before = attacked.north().memory();
    let (mut peak, mut bombs, mut streams) = (before, 0, Vec::new());
    let began = Instant::now();
    while began.elapsed() < FLOOD {
        streams = (0..STREAMS).map(|_| attacked.bomb()).collect();
        bombs += STREAMS;
        peak = peak.max(attacked.north().memory());
    }
    drop(streams);
    let ended = Instant::now();
    let most = before as f64 * MORE_MOST;
    let mut after = attacked.north().memory();
    while after as f64 > most && ended.elapsed() < BACK_WITHIN {
        thread::sleep(LOOK_EVERY);
        after = attacked.north().memory();
    }
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Numbers::from([
        (BEFORE, mib(before)),
        (PEAK, mib(peak)),
        (AFTER, mib(after)),
        (TIMES, after as f64 / before as f64),
        (SECONDS, ended.elapsed().as_secs_f64()),
        (BOMBS, bombs as f64),
    ])
}
