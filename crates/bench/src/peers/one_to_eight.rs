//! One source of a file, and eight that fetch it at once, each behind a line of 100 Mbit/s.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Instant;

use anyhow::{Context, Result};
use bithealth_tests::{Cluster, text};
use tempfile::TempDir;

use super::line::{BITS_PER_S, Lines, goodput, line_of, processes};
use super::table::{CPU_PER_GB, Due, LARGEST, MB_PER_S, Measured, Numbers, RSS, Section, numbers};
use super::tool::libtorrent::{self, Encryption, Fellow, Kind};
use super::tool::{bithealth, name_of, the_file};
use crate::PeersArgs;
use crate::corpus::Corpus;
use crate::process::{Cost, beside, run_together};

const SOURCE: &str = "north-1";
const READERS: [&str; 8] = ["s-1", "e-1", "w-1", "hill-1", "lake-1", "coast-1", "wood-1", "moor-1"];
const OURS: &str = "BitHealth get";
const TORRENT: &str = "libtorrent v2, in clear";
/// What the source sent, in copies of the file.
const COPIES: &str = "copies sent";
/// How long the last took, as many times as the first.
const LAST: &str = "last/first";

const COPIES_MOST: f64 = 1.5;
const LAST_MOST: f64 = 1.3;

const NOTES: &[&str] = &[
    "The speed is that of the reader that ends last. What the source sent is counted on its wire, with all headers: a copy \
     of the file is 1.05 there. Processor time and memory are those of all nine nodes, per GB of the file.",
    "Every round has bytes of its own. libtorrent's peers are started, and told of one another, before they are measured.",
];

/// What one round came to.
struct Crowd {
    cost: Cost,
    sent: u64,
    /// When each of the readers had everything, in seconds.
    ends: Vec<f64>,
}

/// Runs those that are there.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let mut measured = vec![of_bithealth(args, folder)?];
    measured.extend(of_libtorrent(args, folder)?);
    let mib = args.crowd_len as f64 / f64::from(1 << 20);
    let title = format!(
        "a file of {mib:.0} MiB from one source to {} at once, {} Mbit/s each; medians of {} rounds",
        READERS.len(),
        BITS_PER_S / 1_000_000,
        args.rounds
    );
    let columns = [(MB_PER_S, 2), (COPIES, 2), (LAST, 2), (CPU_PER_GB, 2), (RSS, 0), (LARGEST, 0)];
    let physical = ("what the line of the source carries, MB/s", |_: &_| goodput());
    let mut section = Section::new("one-to-eight", title, &columns, physical, measured);
    let (copies, last) = (section.median(OURS, COPIES), section.median(OURS, LAST));
    section.goal("copies that the source sends", copies, Due::AtMost(COPIES_MOST));
    section.goal("times the first reader's time until the last ends", last, Due::AtMost(LAST_MOST));
    section.note(NOTES);
    Ok(section)
}

fn of_bithealth(args: &PeersArgs, folder: &Path) -> Result<Measured> {
    let names = [&[SOURCE], &READERS[..]].concat();
    let cluster = Cluster::start_wired_prepared(&names, |clinic| {
        clinic.capacity = (clinic.name != SOURCE).then_some("0"); // readers hold nothing
    });
    names.iter().for_each(|name| line_of(&cluster, name).narrow(BITS_PER_S));
    rounds(args, folder, Measured::new(OURS, bithealth::version()), |corpus, into| read(&cluster, corpus, into))
}

/// All readers get a record that their author has just put.
fn read(cluster: &Cluster, corpus: &Corpus, into: &Path) -> Result<Crowd> {
    let file = the_file(corpus)?;
    let named = READERS.iter().flat_map(|name| ["--for", name]).chain(["--survive", "0,0"]);
    cluster[SOURCE].put_replicated(&file, &named.collect::<Vec<_>>());
    let name = name_of(&file)?;
    let records = READERS.map(|reader| cluster[reader].record_named(name));
    let files = places(into)?.map(|place| place.join("file"));
    let get = |at: usize| cluster[READERS[at]].command(&["get", &records[at], "--output", text(&files[at])]);
    let mut gets: Vec<Command> = (0..READERS.len()).map(get).collect();
    let (before, mut ends) = (line_of(cluster, SOURCE).sent(), Vec::new());
    let cost = beside(&processes(cluster), || {
        let (cost, took) = run_together(&mut gets, into)?;
        ends = took;
        Ok(cost)
    })?;
    Ok(Crowd { cost, sent: line_of(cluster, SOURCE).sent() - before, ends })
}

fn of_libtorrent(args: &PeersArgs, folder: &Path) -> Result<Option<Measured>> {
    let Some(version) = libtorrent::version(&args.python) else { return Ok(None) };
    let lines = Lines::new(1 + READERS.len());
    lines.wires.iter().for_each(|wire| wire.narrow(BITS_PER_S));
    let measured = Measured::new(TORRENT, version);
    rounds(args, folder, measured, |corpus, into| join(&args.python, &lines, corpus, into)).map(Some)
}

/// All fellows fetch a torrent that the first machine seeds.
fn join(python: &Path, lines: &Lines, corpus: &Corpus, into: &Path) -> Result<Crowd> {
    let (torrent, content) = (into.join("torrent"), the_file(corpus)?);
    libtorrent::make(python, &torrent, &content, Kind::V2)?;
    let (seeds, listens) = (lines.command(0, python), lines.address(0));
    let (seed, _) = libtorrent::seed(seeds, &torrent, &content, &listens, Encryption::None, into)?;
    let mut fellows = Vec::new();
    for (place, at) in places(into)?.iter().zip(1..) {
        let others = (0..=READERS.len()).filter(|other| *other != at);
        let peers: Vec<String> = others.map(|other| lines.address(other)).collect();
        let (joins, errors) = (lines.command(at, python), into.join(format!("errors-{at}")));
        fellows.push(Fellow::start(joins, &torrent, place, &lines.address(at), &peers, &errors)?);
    }
    let ids: Vec<u32> = fellows.iter().map(Fellow::id).chain([seed.0.id()]).collect();
    let (before, mut ends) = (lines.wires[0].sent(), Vec::new());
    let cost = beside(&ids, || {
        let began = Instant::now();
        ends = finish_all(&mut fellows, began)?;
        Ok(Cost { wall_s: began.elapsed().as_secs_f64(), ..Cost::default() })
    })?;
    let sent = lines.wires[0].sent() - before;
    fellows.into_iter().try_for_each(Fellow::end)?;
    Ok(Crowd { cost, sent, ends })
}

/// An empty folder for each reader.
fn places(into: &Path) -> Result<[PathBuf; READERS.len()]> {
    let places = READERS.map(|name| into.join(name));
    places.iter().try_for_each(fs::create_dir)?;
    Ok(places)
}

/// Lets all go; when each had everything.
fn finish_all(fellows: &mut [Fellow], began: Instant) -> Result<Vec<f64>> {
    let finish = |fellow: &mut Fellow| fellow.finish().map(|()| began.elapsed().as_secs_f64());
    thread::scope(|scope| {
        let waiting: Vec<_> = fellows.iter_mut().map(|fellow| scope.spawn(move || finish(fellow))).collect();
        waiting.into_iter().map(|it| it.join().expect("it does not panic")).collect()
    })
}

/// Each round has bytes of its own, since who has read some serves them for a while.
fn rounds(
    args: &PeersArgs,
    folder: &Path,
    mut measured: Measured,
    round: impl Fn(&Corpus, &Path) -> Result<Crowd>,
) -> Result<Measured> {
    for number in 0..args.rounds {
        let corpus = Corpus::large_of(folder, number, args.crowd_len)?;
        let into = TempDir::new_in(folder)?;
        let crowd = round(&corpus, into.path()).with_context(|| measured.tool)?;
        READERS.iter().try_for_each(|name| corpus.check(&into.path().join(name)).context(*name))?;
        measured.rounds.push(told(&crowd, corpus.len));
        fs::remove_dir_all(&corpus.folder)?;
        eprintln!("{}: round {}", measured.tool, number + 1);
    }
    Ok(measured)
}

fn told(crowd: &Crowd, len: u64) -> Numbers {
    let (first, last) = crowd.ends.iter().fold((f64::MAX, 0.0_f64), |(a, b), end| (a.min(*end), b.max(*end)));
    let mut told = numbers(&Cost { wall_s: last, ..crowd.cost }, len);
    told.extend([(COPIES, crowd.sent as f64 / len as f64), (LAST, last / first)]);
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_reader_counts_and_is_compared_with_the_first() {
        let cost = Cost { wall_s: 9.0, ..Cost::default() };
        let told = told(&Crowd { cost, sent: 3_000_000, ends: vec![5.0, 4.0, 8.0] }, 2_000_000);
        assert_eq!((told[MB_PER_S], told[COPIES], told[LAST]), (0.25, 1.5, 2.0));
    }
}
