//! libtorrent (rasterbar) by its Python package: BitTorrent v1 or v2, in clear or with the protocol's RC4.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};

use anyhow::{Context, Result, ensure};

use super::{Serving, Source, Tool, content, said};
use crate::corpus::Corpus;

/// Its commands are told at its head.
const SCRIPT: &str = include_str!("torrent.py");
/// Where nobody but this machine connects.
const LOOPBACK: &str = "127.0.0.1:0";

/// How pieces are hashed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Over all files as one run of bytes (BEP 3): what is quick where files are many and small.
    V1,
    /// A tree for each file (BEP 52).
    V2,
}

/// How bytes cross.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encryption {
    /// Readable to everybody.
    None,
    /// As BitTorrent has it (message stream encryption), without authentication.
    Rc4,
}

/// libtorrent.
pub(crate) struct Libtorrent {
    pub(crate) python: PathBuf,
    pub(crate) kind: Kind,
    pub(crate) encryption: Encryption,
}

struct Ready {
    process: Serving,
    python: PathBuf,
    torrent: PathBuf,
    port: String,
    encryption: Encryption,
}

impl Encryption {
    fn word(self) -> &'static str {
        if self == Self::Rc4 { "rc4" } else { "clear" }
    }
}

impl Tool for Libtorrent {
    fn name(&self) -> &'static str {
        match (self.kind, self.encryption) {
            (Kind::V1, Encryption::None) => "libtorrent v1, in clear",
            (Kind::V1, Encryption::Rc4) => "libtorrent v1, RC4",
            (Kind::V2, Encryption::None) => "libtorrent v2, in clear",
            (Kind::V2, Encryption::Rc4) => "libtorrent v2, RC4",
        }
    }

    fn version(&self) -> Option<String> {
        version(&self.python)
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        let (python, torrent, content) = (Command::new(&self.python), folder.join("torrent"), content(corpus)?);
        make(&self.python, &torrent, &content, self.kind)?;
        let (process, port) = seed(python, &torrent, &content, LOOPBACK, self.encryption, folder)?;
        let (python, encryption) = (self.python.clone(), self.encryption);
        Ok(Box::new(Ready { process, python, torrent, port, encryption }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        vec![self.process.0.id()]
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        let mut command = script(Command::new(&self.python), "fetch", &self.torrent, into);
        command.args([LOOPBACK, self.encryption.word()]).arg(format!("127.0.0.1:{}", self.port));
        Ok(command)
    }
}

/// What the package says it is; `None` where this Python has it not.
pub(crate) fn version(python: &Path) -> Option<String> {
    said(Command::new(python).args(["-c", "import libtorrent; print('libtorrent', libtorrent.__version__)"]))
}

fn script(mut python: Command, mode: &str, torrent: &Path, folder: &Path) -> Command {
    python.args(["-c", SCRIPT, mode]).arg(torrent).arg(folder);
    python
}

/// Makes a torrent of a file or folder.
pub(crate) fn make(python: &Path, torrent: &Path, content: &Path, kind: Kind) -> Result<()> {
    let kind = if kind == Kind::V1 { "v1" } else { "v2" };
    let output = script(Command::new(python), "make", torrent, content).arg(kind).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// Serves a torrent at an address, as HOST:PORT, 0 for any port; the process, and its port.
pub(crate) fn seed(
    python: Command,
    torrent: &Path,
    content: &Path,
    listen: &str,
    encryption: Encryption,
    folder: &Path,
) -> Result<(Serving, String)> {
    let errors = folder.join("seed-stderr");
    let mut command = script(python, "seed", torrent, content);
    command.args([listen, encryption.word()]).stdout(Stdio::piped()).stderr(File::create(&errors)?);
    let mut process = Serving(command.spawn()?);
    let mut output = BufReader::new(process.0.stdout.take().expect("it is piped"));
    let port = line(&mut output).with_context(|| std::fs::read_to_string(&errors).unwrap_or_default())?;
    Ok((process, port))
}

/// The command that fetches from peers, each as HOST:PORT, in clear, and ends.
pub(crate) fn fetch(python: Command, torrent: &Path, into: &Path, listen: &str, peers: &[String]) -> Command {
    let mut command = script(python, "fetch", torrent, into);
    command.args([listen, Encryption::None.word()]).args(peers);
    command
}

/// One of many that fetch at once, and serve meanwhile and after.
pub(crate) struct Fellow {
    process: Serving,
    output: BufReader<ChildStdout>,
}

impl Fellow {
    /// Starts it and waits until it listens; it fetches nothing before it is told to.
    pub(crate) fn start(
        python: Command,
        torrent: &Path,
        into: &Path,
        listen: &str,
        peers: &[String],
        errors: &Path,
    ) -> Result<Self> {
        let mut command = script(python, "join", torrent, into);
        command.args([listen, Encryption::None.word()]).args(peers);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(errors)?);
        let mut process = Serving(command.spawn()?);
        let mut output = BufReader::new(process.0.stdout.take().expect("it is piped"));
        line(&mut output).with_context(|| std::fs::read_to_string(errors).unwrap_or_default())?;
        Ok(Self { process, output })
    }

    /// Lets it go, and waits until it has everything.
    pub(crate) fn finish(&mut self) -> Result<()> {
        use std::io::Write;
        let input = self.process.0.stdin.as_mut().expect("it is piped");
        input.write_all(b"go\n")?;
        line(&mut self.output).map(drop)
    }

    /// Lets it end, once it has written everything.
    pub(crate) fn end(mut self) -> Result<()> {
        drop(self.process.0.stdin.take());
        let status = self.process.0.wait()?;
        ensure!(status.success(), "it ended with {status}");
        Ok(())
    }

    /// Its process.
    pub(crate) fn id(&self) -> u32 {
        self.process.0.id()
    }
}

fn line(output: &mut impl BufRead) -> Result<String> {
    let mut line = String::new();
    ensure!(output.read_line(&mut line)? > 0, "it ended before it said anything");
    Ok(line.trim().to_owned())
}
