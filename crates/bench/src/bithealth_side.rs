//! One round of BitHealth: init, a node, put, get.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

use crate::corpus::{Corpus, disk_len};
use crate::process::{Running, children_cpu, run};
use crate::sample::Round;

/// What `bithealth --version` prints.
pub(crate) fn version(program: &Path) -> Result<String> {
    let output = Command::new(program).arg("--version").output();
    let output = output.with_context(|| format!("{} is not there; pass --bithealth FILE", program.display()))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Puts a corpus into a new node, waiting until it is durable, and gets it back. The node is started before and stopped
/// after; what it does then counts in the processor time of the round, and its disk is looked at once it has stopped.
pub(crate) fn round(program: &Path, corpus: &Corpus, folder: &Path) -> Result<Round> {
    let (data, key, restored) = (folder.join("data"), folder.join("key"), folder.join("restored"));
    let bithealth = |arguments: &[&str]| {
        let mut command = Command::new(program);
        command.arg("--data-dir").arg(&data).arg("--json").args(arguments);
        command
    };
    let cpu_before = children_cpu()?;
    let site = ["--network", "bench", "--name", "bench", "--region", "here", "--jurisdiction", "XX"];
    let mut init = bithealth(&["init"]);
    run(init.args(site).args(["--listen", "127.0.0.1:0"]).arg("--key-file").arg(&key), folder)?;
    let node = Running::start(bithealth(&["node"]).arg("--key-file").arg(&key), folder)?;
    let mut put = bithealth(&["put", ".", "--wait", "local"]);
    if let Some(patient) = corpus.patient {
        put.args(["--patient", patient]);
    }
    let put = node.with(|| run(put.current_dir(&corpus.folder), folder))?;
    let get = node.with(|| run(bithealth(&["get", "--all", "--output"]).arg(&restored), folder))?;
    node.stop()?;
    let cpu_s = children_cpu()? - cpu_before;
    corpus.check(&restored).context("bithealth")?;
    Ok(Round { put, get, cpu_s, disk_bytes: disk_len(&data)? })
}
