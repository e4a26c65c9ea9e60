//! restic: what was backed up into a repository on this disk is restored. There is no network between.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::{Source, Tool, said};
use crate::corpus::Corpus;

/// restic.
pub(crate) struct Restic {
    pub(crate) program: PathBuf,
}

struct Ready {
    program: PathBuf,
    folder: PathBuf,
}

impl Tool for Restic {
    fn name(&self) -> &'static str {
        "restic, no network"
    }

    fn version(&self) -> Option<String> {
        said(Command::new(&self.program).arg("version"))
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        let ready = Ready { program: self.program.clone(), folder: folder.to_owned() };
        for args in [&["init"][..], &["backup", "."]] {
            let output = ready.restic(args).current_dir(&corpus.folder).output().context("restic does not start")?;
            ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        Ok(Box::new(ready))
    }
}

impl Ready {
    /// Its cache is on, as it is by default, in the same folder.
    fn restic(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--repo").arg(self.folder.join("repository")).arg("--cache-dir").arg(self.folder.join("cache"));
        command.arg("--quiet").env("RESTIC_PASSWORD", "bench").args(args);
        command
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        Vec::new()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = self.restic(&["restore", "latest", "--target"]);
        command.arg(into);
        Ok(command)
    }
}
