//! One file from one process to another, by BitHealth and by the tools people know, in turns on the same bytes.
//!
//! Every tool gets ready before it is measured: the source has the file and waits. Measured is from the start of the
//! command that fetches until the file is on the disk (`fsync`), with the processor time of all processes at work.

mod bithealth;
mod libtorrent;
mod report;
mod rqbit;
mod sendme;
pub(crate) mod tls;

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Instant;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::PeersArgs;
use crate::corpus::{Corpus, files};
use crate::process::{Cost, peak_rss, reset_peak, run, running_cpu};

pub(crate) use report::Report;

/// A tool that can bring a file from one process to another.
trait Tool {
    /// Its name in the table.
    fn name(&self) -> &'static str;

    /// What it is, in its own words; `None` where it is not installed.
    fn version(&self) -> Option<String>;

    /// Gets it ready in an empty folder.
    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>>;
}

/// Whoever has the file, and waits.
trait Source {
    /// The processes at work beside the command that fetches.
    fn processes(&self) -> Vec<u32>;

    /// The command that fetches the file into an empty folder, and ends.
    fn fetch(&self, into: &Path) -> Result<Command>;
}

/// What one fetch cost.
#[derive(Clone, Copy, Debug, Serialize)]
struct Fetched {
    #[serde(flatten)]
    cost: Cost,
    /// Peak resident bytes of the largest process.
    largest_rss_bytes: u64,
}

/// A tool, and all its rounds.
#[derive(Debug, Serialize)]
struct Measured {
    tool: &'static str,
    version: String,
    rounds: Vec<Fetched>,
}

/// Runs all tools that are there.
pub(crate) fn compare(args: &PeersArgs) -> Result<Report> {
    let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("bithealth-bench-").tempdir_in(&parent);
    let folder = folder.with_context(|| parent.display().to_string())?;
    let corpus = Corpus::large(folder.path(), args.len)?;
    let tools: [Box<dyn Tool>; 7] = [
        Box::new(tls::Floor),
        Box::new(bithealth::Get),
        Box::new(rqbit::Rqbit { program: args.rqbit.clone() }),
        Box::new(libtorrent::Libtorrent { python: args.python.clone(), encryption: libtorrent::Encryption::None }),
        Box::new(libtorrent::Libtorrent { python: args.python.clone(), encryption: libtorrent::Encryption::Rc4 }),
        Box::new(sendme::Sendme { program: args.sendme.clone() }),
        Box::new(Copy),
    ];
    let mut ready = Vec::new();
    let mut absent = Vec::new();
    for tool in &tools {
        let Some(version) = tool.version() else {
            eprintln!("{} is not installed", tool.name());
            absent.push(tool.name());
            continue;
        };
        let place = folder.path().join(tool.name().replace([' ', ',', '.'], "-"));
        fs::create_dir_all(&place)?;
        let source = tool.serve(&corpus, &place).with_context(|| format!("{} does not get ready", tool.name()))?;
        ready.push((Measured { tool: tool.name(), version, rounds: Vec::new() }, source, place));
    }
    for round in 0..args.rounds {
        // Who goes first changes, so that none always finds the disk as the same one left it.
        let count = ready.len();
        for turn in 0..count {
            let (measured, source, place) = &mut ready[(turn + round as usize) % count];
            let fetched = fetch(source.as_ref(), &corpus, place).with_context(|| measured.tool)?;
            measured.rounds.push(fetched);
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    let measured = ready.into_iter().map(|(measured, ..)| measured).collect();
    Ok(Report::new(args.len, args.rounds, measured, absent))
}

fn fetch(source: &dyn Source, corpus: &Corpus, place: &Path) -> Result<Fetched> {
    let into = tempfile::tempdir_in(place)?;
    let processes = source.processes();
    processes.iter().try_for_each(|pid| reset_peak(*pid))?;
    let cpu = || processes.iter().map(|pid| running_cpu(*pid)).sum::<Result<f64>>();
    let mut command = source.fetch(into.path())?;
    let cpu_before = cpu()?;
    let mut cost = run(&mut command, place)?;
    let began = Instant::now();
    for file in files(into.path())? {
        File::open(&file)?.sync_all()?;
    }
    cost.wall_s += began.elapsed().as_secs_f64();
    cost.cpu_s += cpu()? - cpu_before;
    let peaks = processes.iter().map(|pid| peak_rss(*pid)).collect::<Result<Vec<u64>>>()?;
    let largest_rss_bytes = peaks.iter().copied().chain([cost.rss_bytes]).max().unwrap_or_default();
    cost.rss_bytes += peaks.iter().sum::<u64>();
    corpus.check(into.path())?;
    Ok(Fetched { cost, largest_rss_bytes })
}

/// The one file of the corpus.
fn the_file(corpus: &Corpus) -> Result<PathBuf> {
    files(&corpus.folder)?.into_iter().next().context("the corpus has a file")
}

/// A process that serves until it is dropped.
struct Serving(Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It is of no use any more, and whether it could still be killed changes nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says to `--version`; `None` where it is not there.
fn version_of(program: &Path) -> Option<String> {
    let output = Command::new(program).arg("--version").output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

/// The physical limit of the disk: the file is copied.
struct Copy;

struct Original(PathBuf);

impl Tool for Copy {
    fn name(&self) -> &'static str {
        "cp, no network"
    }

    fn version(&self) -> Option<String> {
        version_of(Path::new("cp"))
    }

    fn serve(&self, corpus: &Corpus, _: &Path) -> Result<Box<dyn Source>> {
        Ok(Box::new(Original(the_file(corpus)?)))
    }
}

impl Source for Original {
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = Command::new("cp");
        command.arg("--reflink=never").arg(&self.0).arg(into);
        Ok(command)
    }
}
