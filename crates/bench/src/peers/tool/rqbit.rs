//! rqbit: BitTorrent v1 in Rust, in clear.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result};

use super::{Serving, Source, Tool, content, version_of};
use crate::corpus::Corpus;

/// What finds peers elsewhere is switched off.
const ALONE: [&str; 6] = [
    "--listen-ip=127.0.0.1",
    "--http-api-listen-addr=127.0.0.1:0",
    "--disable-dht",
    "--disable-upnp-port-forward",
    "--disable-lsd",
    "--disable-trackers",
];

/// rqbit.
pub(crate) struct Rqbit {
    pub(crate) program: PathBuf,
}

struct Ready {
    process: Serving,
    program: PathBuf,
    port: u16,
    magnet: String,
}

impl Tool for Rqbit {
    fn name(&self) -> &'static str {
        "rqbit, in clear"
    }

    fn version(&self) -> Option<String> {
        version_of(&self.program)
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        // It does not say which port it took, so it is told one that is free.
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut command = Command::new(&self.program);
        command.args(ALONE).arg(format!("--listen-port={port}")).arg("share").arg(content(corpus)?);
        command.stdout(Stdio::piped()).stderr(File::create(folder.join("share-stderr"))?);
        let mut process = Serving(command.spawn()?);
        let mut lines = BufReader::new(process.0.stdout.take().expect("it is piped")).lines();
        let magnet = lines.find_map(|line| line.ok()?.split_once("magnet:").map(|(_, rest)| format!("magnet:{rest}")));
        let magnet = magnet.context("it printed no magnet link")?;
        // Whatever else it prints must not fill the pipe and stop it.
        thread::spawn(move || lines.for_each(drop));
        Ok(Box::new(Ready { process, program: self.program.clone(), port, magnet }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        vec![self.process.0.id()]
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = Command::new(&self.program);
        command.args(ALONE).args(["--disable-tcp-listen", "download", "--exit-on-finish", "--disable-http-api"]);
        command.arg(format!("--initial-peers=127.0.0.1:{}", self.port)).arg("-o").arg(into).arg(&self.magnet);
        Ok(command)
    }
}
