//! sendme: iroh's blobs over QUIC.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

use super::{Serving, Source, Tool, content, version_of};
use crate::corpus::Corpus;

/// sendme.
pub(crate) struct Sendme {
    pub(crate) program: PathBuf,
}

struct Ready {
    process: Serving,
    program: PathBuf,
    ticket: String,
}

impl Tool for Sendme {
    fn name(&self) -> &'static str {
        "sendme"
    }

    fn version(&self) -> Option<String> {
        version_of(&self.program)
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        let mut command = Command::new(&self.program);
        command.args(["send", "--relay", "disabled", "--ticket-type", "addresses"]).arg(content(corpus)?);
        command.current_dir(folder).stdin(Stdio::null());
        command.stdout(Stdio::piped()).stderr(File::create(folder.join("send-stderr"))?);
        let mut process = Serving(command.spawn()?);
        let mut lines = BufReader::new(process.0.stdout.take().expect("it is piped")).lines();
        let ticket = lines.find_map(|line| Some(line.ok()?.split_once("sendme receive ")?.1.trim().to_owned()));
        let ticket = ticket.context("it printed no ticket")?;
        // Whatever else it prints must not fill the pipe and stop it.
        thread::spawn(move || lines.for_each(drop));
        Ok(Box::new(Ready { process, program: self.program.clone(), ticket }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        vec![self.process.0.id()]
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(["receive", "--relay", "disabled", &self.ticket]).current_dir(into);
        Ok(command)
    }
}
