//! One round of restic: init, backup, restore.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::corpus::{Corpus, disk_len};
use crate::process::{children_cpu, run};
use crate::sample::Round;

/// What `restic version` prints.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("version").output().context("restic is not installed")?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Puts a corpus into a new repository and gets it back. restic's cache is on, as it is by default, in the same folder.
pub(crate) fn round(program: &Path, corpus: &Corpus, folder: &Path) -> Result<Round> {
    let (repository, restored) = (folder.join("repository"), folder.join("restored"));
    let restic = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--repo").arg(&repository).arg("--cache-dir").arg(folder.join("cache")).arg("--quiet");
        command.env("RESTIC_PASSWORD", "bench").args(arguments);
        command
    };
    let cpu_before = children_cpu()?;
    run(&mut restic(&["init"]), folder)?;
    let put = run(restic(&["backup", "."]).current_dir(&corpus.folder), folder)?;
    let get = run(restic(&["restore", "latest", "--target"]).arg(&restored), folder)?;
    let cpu_s = children_cpu()? - cpu_before;
    corpus.check(&restored).context("restic")?;
    Ok(Round { put, get, cpu_s, disk_bytes: disk_len(&repository)? })
}
