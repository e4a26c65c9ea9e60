//! One file put onto seven nodes of which any three restore it, and got back with all of them and with four of them dead.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use bithealth_tests::{Clinic, Cluster, text};
use tempfile::TempDir;

use super::contest::on_disk;
use super::table::{CPU_PER_GB, Due, LARGEST, MB_PER_S, Measured, RSS, Section, numbers};
use super::tool::bithealth::all_connected;
use super::tool::copy::Copy;
use super::tool::tahoe::{Grid, Tahoe};
use super::tool::{Tool, bithealth, name_of, the_file};
use crate::PeersArgs;
use crate::corpus::Corpus;
use crate::process::{Cost, beside, printed, run};

/// The code: any `K` of `N`.
const K: usize = 3;
const N: usize = 7;
/// The holders of BitHealth, the first of them the author, and who reads.
const HOLDERS: [&str; N] = ["north-1", "south-1", "east-1", "west-1", "hill-1", "lake-1", "coast-1"];
const READER: &str = "reader-1";
/// Any four of the seven may be lost.
const SURVIVE: &str = "0,4";

const OURS: [&str; 3] = ["BitHealth put", "BitHealth get", "BitHealth get, 4 dead"];
const TAHOES: [&str; 3] = ["Tahoe-LAFS put", "Tahoe-LAFS get", "Tahoe-LAFS get, 4 dead"];
const COPY: &str = "cp, no network";

/// Processor time, at most so many times Tahoe's.
const CPU_MOST: f64 = 0.1;
/// How fast it is with holders dead, at least so many times as with all: no slower, but for what two medians of the same
/// work differ by here.
const DEAD_LEAST: f64 = 0.95;

const NOTES: &[&str] = &[
    "Every round has bytes of its own. A put ends when all seven shards stand; processor time and memory are those of all \
     processes, per GB of the file. BitHealth's reader is an eighth node of another organisation that holds nothing; of \
     the four dead one is the author, which has everything. Tahoe's is its client, which put the file.",
    "BitHealth's nodes sign, order and keep a ledger of what was put; Tahoe's do not.",
];

/// Something that codes files onto nodes.
trait Coder {
    /// Puts a file; what that cost.
    fn put(&mut self, file: &Path, place: &Path) -> Result<Cost>;

    /// Gets the file that was put last, into an empty folder.
    fn get(&self, into: &Path, place: &Path) -> Result<Cost>;

    /// Four of the holders die.
    fn lose(&mut self);

    /// They are back.
    fn revive(&mut self) -> Result<()>;
}

/// Clinics, and the record that was put last.
struct Clinics {
    cluster: Cluster,
    record: String,
}

/// Nodes of Tahoe, and the capability of what was put last.
struct Tahoes {
    grid: Grid,
    capability: String,
}

/// Runs those that are there.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let len = args.coded_len;
    let mut coders: Vec<(Box<dyn Coder>, [Measured; 3])> = Vec::new();
    let rows = |names: [&'static str; 3], version: &str| names.map(|name| Measured::new(name, version.to_owned()));
    let ours = bithealth::version();
    coders.push((Box::new(Clinics::start()), rows(OURS, &ours)));
    if let Some(version) = (Tahoe { program: args.tahoe.clone() }).version() {
        let place = tempfile::tempdir_in(folder)?.keep();
        let grid = Grid::start(&args.tahoe, &place, K, N)?;
        coders.push((Box::new(Tahoes { grid, capability: String::new() }), rows(TAHOES, &version)));
    }
    let mut copied = Measured::new(COPY, Copy.version().context("every system has cp")?);
    for number in 0..args.rounds {
        let corpus = Corpus::large_of(folder, number + 1, len)?;
        for (coder, rows) in &mut coders {
            let costs = round(coder.as_mut(), &corpus, folder).with_context(|| rows[0].tool)?;
            rows.iter_mut().zip(costs).for_each(|(row, cost)| row.rounds.push(numbers(&cost, len)));
        }
        copied.rounds.push(numbers(&copy(&corpus, folder)?, len));
        fs::remove_dir_all(&corpus.folder)?;
        eprintln!("round {} of {}", number + 1, args.rounds);
    }
    let disk = copied.medians()[MB_PER_S];
    // All shards of a put are written on this one disk.
    let limit = move |row: &Measured| if row.tool.ends_with("put") { disk * K as f64 / N as f64 } else { disk };
    let measured = coders.into_iter().flat_map(|(_, rows)| rows).chain([copied]).collect();
    let mib = len as f64 / f64::from(1 << 20);
    let title = format!("a file of {mib:.0} MiB, {K}-of-{N}, over loopback; medians of {} rounds", args.rounds);
    let columns = [(MB_PER_S, 1), (CPU_PER_GB, 2), (RSS, 0), (LARGEST, 0)];
    let physical = "what cp takes to copy the file on this disk, a put's shards all on it, MB/s";
    Ok(judged(Section::new("coded", title, &columns, (physical, limit), measured)))
}

fn judged(mut section: Section) -> Section {
    for (ours, tahoes) in OURS.into_iter().zip(TAHOES).take(2) {
        let ratio = section.ratio(CPU_PER_GB, ours, tahoes);
        section.goal(format!("{ours}: times the processor time of {tahoes}"), ratio, Due::AtMost(CPU_MOST));
    }
    let ratio = section.ratio(MB_PER_S, OURS[2], OURS[1]);
    section.goal("a get with four holders dead, times as fast as with all", ratio, Due::AtLeast(DEAD_LEAST));
    section.note(NOTES);
    section
}

fn round(coder: &mut dyn Coder, corpus: &Corpus, folder: &Path) -> Result<[Cost; 3]> {
    let put = coder.put(&the_file(corpus)?, folder)?;
    let get = got(coder, corpus, folder)?;
    coder.lose();
    let dead = got(coder, corpus, folder)?;
    coder.revive()?;
    Ok([put, get, dead])
}

fn got(coder: &dyn Coder, corpus: &Corpus, folder: &Path) -> Result<Cost> {
    let into = TempDir::new_in(folder)?;
    let mut cost = coder.get(into.path(), folder)?;
    cost.wall_s += on_disk(into.path())?;
    corpus.check(into.path())?;
    Ok(cost)
}

fn copy(corpus: &Corpus, folder: &Path) -> Result<Cost> {
    let (into, source) = (TempDir::new_in(folder)?, Copy.serve(corpus, folder)?);
    let mut cost = run(&mut source.fetch(into.path())?, folder)?;
    cost.wall_s += on_disk(into.path())?;
    Ok(cost)
}

impl Clinics {
    fn start() -> Self {
        let names = [&HOLDERS[..], &[READER]].concat();
        let cluster = Cluster::start_prepared(&names, |clinic| {
            clinic.capacity = (clinic.name == READER).then_some("0");
        });
        Self { cluster, record: String::new() }
    }

    fn processes(&self) -> Vec<u32> {
        self.cluster.clinics().iter().filter_map(Clinic::process).collect()
    }
}

impl Coder for Clinics {
    fn put(&mut self, file: &Path, place: &Path) -> Result<Cost> {
        let policy = ["--for", READER, "--survive", SURVIVE, "--wait", "replicated", "--timeout", "5m"];
        let mut put = self.cluster[HOLDERS[0]].command(&[&["put", text(file)], &policy[..]].concat());
        let cost = beside(&self.processes(), || run(&mut put, place))?;
        let name = name_of(file)?;
        self.record = self.cluster[READER].record_named(name);
        Ok(cost)
    }

    fn get(&self, into: &Path, place: &Path) -> Result<Cost> {
        let mut get = self.cluster[READER].command(&["get", &self.record, "--output", text(&into.join("file"))]);
        beside(&self.processes(), || run(&mut get, place))
    }

    fn lose(&mut self) {
        HOLDERS[..N - K].iter().for_each(|name| self.cluster[name].kill());
    }

    fn revive(&mut self) -> Result<()> {
        HOLDERS[..N - K].iter().for_each(|name| self.cluster[name].start());
        self.cluster.clinics().iter().for_each(|clinic| drop(clinic.wait_for("all are back", all_connected)));
        Ok(())
    }
}

impl Coder for Tahoes {
    fn put(&mut self, file: &Path, place: &Path) -> Result<Cost> {
        let cost = beside(&self.grid.processes(), || run(&mut self.grid.put(file), place))?;
        self.capability = printed(place)?.trim().to_owned();
        Ok(cost)
    }

    fn get(&self, into: &Path, place: &Path) -> Result<Cost> {
        let mut get: Command = self.grid.get(&self.capability, &into.join("file"));
        beside(&self.grid.processes(), || run(&mut get, place))
    }

    fn lose(&mut self) {
        self.grid.lose(N - K);
    }

    fn revive(&mut self) -> Result<()> {
        self.grid.revive()
    }
}
