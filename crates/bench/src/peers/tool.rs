//! The tools that bring files from one process to another, and what each of them needs to do so.

pub(super) mod bithealth;
pub(super) mod copy;
pub(super) mod libtorrent;
pub(super) mod restic;
pub(super) mod rqbit;
pub(super) mod sendme;
pub(super) mod tahoe;
pub(crate) mod tls;

use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use anyhow::{Context, Result};

use crate::corpus::{Corpus, files};

/// A tool that can bring files from one process to another.
pub(super) trait Tool {
    /// Its name in the table.
    fn name(&self) -> &'static str;

    /// What it is, in its own words; `None` where it is not installed.
    fn version(&self) -> Option<String>;

    /// Gets it ready in an empty folder.
    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>>;
}

/// Whoever has the files, and waits.
pub(super) trait Source {
    /// The processes at work beside the command that fetches.
    fn processes(&self) -> Vec<u32>;

    /// The command that fetches the files into an empty folder, and ends.
    fn fetch(&self, into: &Path) -> Result<Command>;
}

/// The one file of a corpus.
pub(super) fn the_file(corpus: &Corpus) -> Result<PathBuf> {
    files(&corpus.folder)?.into_iter().next().context("the corpus has a file")
}

/// What a file is called.
pub(super) fn name_of(file: &Path) -> Result<&str> {
    file.file_name().and_then(|name| name.to_str()).context("a file has a name")
}

/// What a tool is given of a corpus: its file, or its folder where it has several.
pub(super) fn content(corpus: &Corpus) -> Result<PathBuf> {
    if corpus.file_count() == 1 { the_file(corpus) } else { Ok(corpus.folder.clone()) }
}

/// A process that serves until it is dropped.
pub(super) struct Serving(pub(super) Child);

impl Drop for Serving {
    fn drop(&mut self) {
        // It is of no use any more, and whether it could still be killed changes nothing.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What a program says to `--version`; `None` where it is not there.
pub(super) fn version_of(program: &Path) -> Option<String> {
    said(Command::new(program).arg("--version"))
}

/// The first line of what a command prints; `None` where it fails or is not there.
pub(super) fn said(command: &mut Command) -> Option<String> {
    let output = command.output().ok().filter(|output| output.status.success())?;
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().next().map(|line| line.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_installed_has_no_version() {
        assert!(version_of(Path::new("cp")).is_some_and(|version| version.starts_with("cp ")));
        assert_eq!(version_of(Path::new("/no/such/program")), None);
        assert_eq!(version_of(Path::new("false")), None);
    }
}
