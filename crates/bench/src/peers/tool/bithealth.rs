//! BitHealth: what only another node holds is brought here. The bytes cross sealed, in leaves with proofs, and are
//! verified, opened and written.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};
use bithealth_tests::{Clinic, Cluster, wait_until};
use serde_json::Value;

use super::{Source, Tool, content, name_of, the_file};
use crate::corpus::Corpus;

/// `bithealth get` by a reader of another organisation, of what only its author holds.
pub(crate) struct Get;

/// `bithealth restore` from a kit on an empty machine, of what another organisation holds a copy of; its author is gone.
pub(crate) struct Restore;

struct Reading {
    cluster: Cluster,
    reader: Clinic,
    /// The one record; none: all there are.
    record: Option<String>,
}

struct Restoring {
    cluster: Cluster,
    kit: PathBuf,
    restored: Cell<u32>,
}

/// What these programs are.
pub(crate) fn version() -> String {
    format!("bithealth {}", env!("CARGO_PKG_VERSION"))
}

impl Tool for Get {
    fn name(&self) -> &'static str {
        "BitHealth get"
    }

    fn version(&self) -> Option<String> {
        Some(version())
    }

    fn serve(&self, corpus: &Corpus, _: &Path) -> Result<Box<dyn Source>> {
        let mut cluster = Cluster::start(&["north-1"]);
        let mut reader = cluster.clinic("south-1");
        reader.capacity = Some("0"); // it holds nothing, so all that it reads comes from the author
        let joined = reader.join(&cluster["north-1"].invite("south-1"));
        ensure!(joined.exit == 0, "{joined:?}");
        reader.start();
        cluster.wait_until_joined(2);
        cluster["north-1"].put_replicated(&content(corpus)?, &["--for", "south-1", "--survive", "0,0"]);
        let record = match corpus.file_count() {
            1 => Some(reader.record_named(name_of(&the_file(corpus)?)?)),
            count => {
                wait_until("the reader knows all records", || knows(&reader, count));
                None
            }
        };
        cluster["north-1"].stop(); // so that its memory is not that of the put
        cluster["north-1"].start();
        cluster.wait_until_joined(2);
        reader.wait_for("the author is back", all_connected);
        Ok(Box::new(Reading { cluster, reader, record }))
    }
}

impl Source for Reading {
    fn processes(&self) -> Vec<u32> {
        self.cluster.clinics().iter().chain([&self.reader]).filter_map(Clinic::process).collect()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let (what, output) = match &self.record {
            Some(record) => (record.as_str(), into.join("file")),
            None => ("--all", into.to_owned()),
        };
        let mut command = self.reader.command(&["get", what, "--output"]);
        command.arg(output);
        Ok(command)
    }
}

impl Tool for Restore {
    fn name(&self) -> &'static str {
        "BitHealth restore"
    }

    fn version(&self) -> Option<String> {
        Some(version())
    }

    fn serve(&self, corpus: &Corpus, _: &Path) -> Result<Box<dyn Source>> {
        let mut cluster = Cluster::start(&["north-1", "south-1"]);
        cluster["north-1"].put_replicated(&content(corpus)?, &["--survive", "0,1"]);
        cluster["south-1"].stop(); // so that its memory is not that of the put
        cluster["south-1"].start();
        cluster.wait_until_joined(2);
        let kit = cluster.path("kit");
        cluster["north-1"].kit(&kit); // it names the address that the other one has now
        cluster.lose("north");
        Ok(Box::new(Restoring { cluster, kit, restored: Cell::new(0) }))
    }
}

impl Source for Restoring {
    fn processes(&self) -> Vec<u32> {
        self.cluster.clinics().iter().filter_map(Clinic::process).collect()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        self.restored.set(self.restored.get() + 1);
        let empty = self.cluster.clinic(&format!("north-again-{}", self.restored.get()));
        Ok(empty.restore_command(&self.kit, into))
    }
}

fn knows(reader: &Clinic, count: usize) -> Result<(), String> {
    let known = reader.done(&["ls"]).lines.len();
    if known >= count { Ok(()) } else { Err(format!("{known} of {count}")) }
}

/// Whether every node that a status tells of is connected.
pub(crate) fn all_connected(status: &Value) -> bool {
    let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
    nodes.iter().all(|node| node["connected"] == true)
}
