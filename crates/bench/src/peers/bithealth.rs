//! BitHealth: a reader of another organisation gets a record that only its author holds. The bytes cross sealed, in leaves
//! with proofs; the reader verifies, opens and writes them.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use bithealth_tests::{Clinic, Cluster};

use super::{Source, Tool, the_file};
use crate::corpus::Corpus;

/// `bithealth get`.
pub(super) struct Get;

struct Ready {
    cluster: Cluster,
    reader: Clinic,
    record: String,
}

impl Tool for Get {
    fn name(&self) -> &'static str {
        "BitHealth get"
    }

    fn version(&self) -> Option<String> {
        Some(format!("bithealth {}", env!("CARGO_PKG_VERSION")))
    }

    fn serve(&self, corpus: &Corpus, _: &Path) -> Result<Box<dyn Source>> {
        let mut cluster = Cluster::start(&["north-1"]);
        let mut reader = cluster.clinic("south-1");
        reader.capacity = Some("0"); // it holds nothing, so all that it reads comes from the author
        let joined = reader.join(&cluster["north-1"].invite("south-1"));
        anyhow::ensure!(joined.exit == 0, "{joined:?}");
        reader.start();
        cluster.wait_until_joined(2);
        let file = the_file(corpus)?;
        cluster["north-1"].put_replicated(&file, &["--for", "south-1", "--survive", "0,0"]);
        let record = reader.record_named(&file.file_name().context("a file has a name")?.to_string_lossy());
        cluster["north-1"].stop(); // so that its memory is not that of the put
        cluster["north-1"].start();
        cluster.wait_until_joined(2);
        reader.wait_for("the author is back", |status| {
            let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
            nodes.iter().all(|node| node["connected"] == true)
        });
        Ok(Box::new(Ready { cluster, reader, record }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        self.cluster.clinics().iter().chain([&self.reader]).filter_map(Clinic::process).collect()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = self.reader.command(&["get", &self.record, "--output"]);
        command.arg(into.join("file"));
        Ok(command)
    }
}
