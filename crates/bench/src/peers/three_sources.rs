//! One file from three sources at once, each behind a line of 100 Mbit/s.

use std::path::Path;

use anyhow::Result;
use bithealth_tests::{Cluster, text};
use tempfile::TempDir;

use super::contest::on_disk;
use super::line::{BITS_PER_S, Lines, goodput, line_of, processes};
use super::table::{CPU_PER_GB, Due, LARGEST, MB_PER_S, Measured, RSS, Section, numbers};
use super::tool::libtorrent::{self, Encryption, Kind};
use super::tool::{Serving, bithealth, name_of, the_file};
use crate::PeersArgs;
use crate::corpus::Corpus;
use crate::process::{Cost, beside, run};

const SOURCES: [&str; 3] = ["north-1", "south-1", "east-1"];
const READER: &str = "west-1";
const OURS: &str = "BitHealth get";
const TORRENT: &str = "libtorrent v2, in clear";

/// Of what the three lines carry together.
const OF_SUM_LEAST: f64 = 0.97;

const NOTES: &[&str] = &[
    "From the start of the command until the file is on the disk. Each source sends through a token bucket of 100 Mbit/s \
     that counts whole frames; the limit is what three of them carry without the headers of Ethernet, IP and TCP (1,448 of \
     1,514 bytes), so that all that a tool adds to the file's bytes counts against it.",
    "Each of BitHealth's sources holds a whole copy, one of them as the author.",
];

/// Runs those that are there.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let corpus = Corpus::large_of(folder, 0, args.shaped_len)?;
    let mut measured = vec![of_bithealth(args, &corpus, folder)?];
    measured.extend(of_libtorrent(args, &corpus, folder)?);
    let mib = args.shaped_len as f64 / f64::from(1 << 20);
    let title = format!(
        "a file of {mib:.0} MiB from 3 sources of {} Mbit/s each; medians of {} rounds",
        BITS_PER_S / 1_000_000,
        args.rounds
    );
    let columns = [(MB_PER_S, 2), (CPU_PER_GB, 2), (RSS, 0), (LARGEST, 0)];
    let physical = ("what the three lines carry, MB/s", |_: &_| SOURCES.len() as f64 * goodput());
    let mut section = Section::new("three-sources", title, &columns, physical, measured);
    let part = section.median(OURS, MB_PER_S).map(|rate| rate / (SOURCES.len() as f64 * goodput()));
    section.goal("of the sum of the lines", part, Due::AtLeast(OF_SUM_LEAST));
    section.note(NOTES);
    Ok(section)
}

fn of_bithealth(args: &PeersArgs, corpus: &Corpus, folder: &Path) -> Result<Measured> {
    let names = [&SOURCES[..], &[READER]].concat();
    let cluster = Cluster::start_wired_prepared(&names, |clinic| {
        clinic.capacity = (clinic.name == READER).then_some("0");
    });
    let file = the_file(corpus)?;
    cluster[SOURCES[0]].put_replicated(&file, &["--for", READER, "--survive", "0,2"]);
    let record = cluster[READER].record_named(name_of(&file)?);
    SOURCES.iter().for_each(|name| line_of(&cluster, name).narrow(BITS_PER_S));
    let mut measured = Measured::new(OURS, bithealth::version());
    for _ in 0..args.rounds {
        let into = TempDir::new_in(folder)?;
        let mut get = cluster[READER].command(&["get", &record, "--output", text(&into.path().join("file"))]);
        let cost = beside(&processes(&cluster), || {
            let mut cost = run(&mut get, folder)?;
            cost.wall_s += on_disk(into.path())?;
            Ok(cost)
        })?;
        finish(&mut measured, &cost, corpus, &into)?;
    }
    Ok(measured)
}

fn of_libtorrent(args: &PeersArgs, corpus: &Corpus, folder: &Path) -> Result<Option<Measured>> {
    let Some(version) = libtorrent::version(&args.python) else { return Ok(None) };
    let (torrent, content) = (folder.join("torrent-3"), the_file(corpus)?);
    libtorrent::make(&args.python, &torrent, &content, Kind::V2)?;
    let lines = Lines::new(SOURCES.len() + 1);
    let seed = |at: usize| {
        lines.wires[at].narrow(BITS_PER_S);
        let python = lines.command(at, &args.python);
        libtorrent::seed(python, &torrent, &content, &lines.address(at), Encryption::None, folder)
    };
    let seeds = (0..SOURCES.len()).map(|at| Ok(seed(at)?.0)).collect::<Result<Vec<Serving>>>()?;
    let ids: Vec<u32> = seeds.iter().map(|seed| seed.0.id()).collect();
    let peers: Vec<String> = (0..SOURCES.len()).map(|at| lines.address(at)).collect();
    let mut measured = Measured::new(TORRENT, version);
    for _ in 0..args.rounds {
        let into = TempDir::new_in(folder)?;
        let (python, listen) = (lines.command(SOURCES.len(), &args.python), lines.address(SOURCES.len()));
        let mut fetch = libtorrent::fetch(python, &torrent, into.path(), &listen, &peers);
        let cost = beside(&ids, || {
            let mut cost = run(&mut fetch, folder)?;
            cost.wall_s += on_disk(into.path())?;
            Ok(cost)
        })?;
        finish(&mut measured, &cost, corpus, &into)?;
    }
    Ok(Some(measured))
}

fn finish(measured: &mut Measured, cost: &Cost, corpus: &Corpus, into: &TempDir) -> Result<()> {
    corpus.check(into.path())?;
    measured.rounds.push(numbers(cost, corpus.len));
    eprintln!("{}: round {}", measured.tool, measured.rounds.len());
    Ok(())
}
