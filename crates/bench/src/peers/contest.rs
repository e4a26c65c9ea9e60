//! Tools that do the same work, taking turns: each gets ready before it is measured.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Instant;

use anyhow::{Context, Result};
use tempfile::TempDir;

use super::table::{Measured, Numbers};
use super::tool::{Source, Tool};
use crate::corpus::Corpus;
use crate::process::{Cost, beside, run};

/// A corpus of more files than this is kept until the last round.
const KEPT_COUNT_MIN: usize = 100;

/// A tool that is there, its source, and its folder.
struct Ready {
    measured: Measured,
    source: Box<dyn Source>,
    place: PathBuf,
}

/// Runs all tools that are there over a corpus; `told` says what a round's cost is in the table.
pub(super) fn contest(
    tools: &[Box<dyn Tool>],
    corpus: &Corpus,
    folder: &Path,
    rounds: u32,
    told: impl Fn(&Cost) -> Numbers,
) -> Result<Vec<Measured>> {
    let mut ready = Vec::new();
    for tool in tools {
        ready.extend(get_ready(tool.as_ref(), corpus, folder)?);
    }
    // ext4 looks past inodes freed in the last seconds, one by one: whoever makes files after a large folder was removed
    // pays for that several times over. So folders of many files stay until all rounds are done.
    let mut kept = Vec::new();
    for round in 0..rounds {
        // Who goes first changes, so that none always finds the disk as the same one left it.
        let count = ready.len();
        for turn in 0..count {
            let Ready { measured, source, place } = &mut ready[(turn + round as usize) % count];
            let (cost, into) = fetch(source.as_ref(), corpus, place).with_context(|| measured.tool)?;
            measured.rounds.push(told(&cost));
            kept.extend(Some(into).filter(|_| corpus.file_count() > KEPT_COUNT_MIN));
        }
        eprintln!("round {} of {rounds}", round + 1);
    }
    Ok(ready.into_iter().map(|ready| ready.measured).collect())
}

fn get_ready(tool: &dyn Tool, corpus: &Corpus, folder: &Path) -> Result<Option<Ready>> {
    let Some(version) = tool.version() else {
        eprintln!("{} is not installed", tool.name());
        return Ok(None);
    };
    let place = folder.join(tool.name().replace([' ', ',', '.'], "-"));
    fs::create_dir_all(&place)?;
    let source = tool.serve(corpus, &place).with_context(|| format!("{} does not get ready", tool.name()))?;
    Ok(Some(Ready { measured: Measured::new(tool.name(), version), source, place }))
}

fn fetch(source: &dyn Source, corpus: &Corpus, place: &Path) -> Result<(Cost, TempDir)> {
    let into = tempfile::tempdir_in(place)?;
    let mut command = source.fetch(into.path())?;
    let cost = beside(&source.processes(), || {
        let mut cost = run(&mut command, place)?;
        cost.wall_s += on_disk(into.path())?;
        Ok(cost)
    })?;
    corpus.check(into.path())?;
    Ok((cost, into))
}

/// Waits until everything that was written is on the disk; how many seconds that takes.
pub(super) fn on_disk(folder: &Path) -> Result<f64> {
    let began = Instant::now();
    nix::unistd::syncfs(File::open(folder)?)?;
    Ok(began.elapsed().as_secs_f64())
}
