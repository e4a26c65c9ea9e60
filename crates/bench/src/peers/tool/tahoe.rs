//! Tahoe-LAFS: an introducer, storage nodes and a client on loopback, each a process.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::{Serving, Source, Tool, the_file, version_of};
use crate::corpus::Corpus;

/// How long a node may take until it runs, and a client until it is connected with all storage nodes.
const PATIENCE: Duration = Duration::from_secs(180);
/// Between two looks at whether they are.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Tahoe-LAFS with one storage node, which gets a whole copy.
pub(crate) struct Tahoe {
    pub(crate) program: PathBuf,
}

/// Nodes of Tahoe-LAFS that know one another.
pub(crate) struct Grid {
    program: PathBuf,
    folder: PathBuf,
    storage: Vec<Option<Serving>>,
    client: Serving,
    _introducer: Serving,
}

struct Ready {
    grid: Grid,
    capability: String,
}

impl Tool for Tahoe {
    fn name(&self) -> &'static str {
        "Tahoe-LAFS, 1-of-1"
    }

    fn version(&self) -> Option<String> {
        version_of(&self.program)
    }

    fn serve(&self, corpus: &Corpus, folder: &Path) -> Result<Box<dyn Source>> {
        let grid = Grid::start(&self.program, folder, 1, 1)?;
        let output = grid.put(&the_file(corpus)?).output()?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let capability = String::from_utf8(output.stdout)?.trim().to_owned();
        Ok(Box::new(Ready { grid, capability }))
    }
}

impl Source for Ready {
    fn processes(&self) -> Vec<u32> {
        self.grid.processes()
    }

    fn fetch(&self, into: &Path) -> Result<Command> {
        Ok(self.grid.get(&self.capability, &into.join("file")))
    }
}

impl Grid {
    /// As many storage nodes as there are shares, each of which gets one.
    pub(crate) fn start(program: &Path, folder: &Path, needed: usize, total: usize) -> Result<Self> {
        // A node keeps the port it is made with, which must be free when it is started.
        let listeners = (0..=total).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<std::io::Result<Vec<_>>>()?;
        let ports = listeners.iter().map(|it| Ok(it.local_addr()?.port())).collect::<Result<Vec<u16>>>()?;
        drop(listeners);
        let code = [("needed", needed), ("happy", total), ("total", total)];
        let code = code.map(|(what, count)| format!("--shares-{what}={count}"));
        let (introducer, client) = (folder.join("introducer"), folder.join("client"));
        make(program, "create-introducer", &introducer, &listens(ports[0]))?;
        let introducing = run(program, &introducer)?;
        let furl = fs::read_to_string(introducer.join("private/introducer.furl"))?;
        let furl = format!("--introducer={}", furl.trim());
        let mut storage = Vec::new();
        for (at, port) in ports[1..].iter().enumerate() {
            let node = folder.join(format!("storage-{at}"));
            let more = [&listens(*port)[..], &["--webport=none".to_owned(), furl.clone()]].concat();
            make(program, "create-node", &node, &more)?;
            storage.push(Some(run(program, &node)?));
        }
        let web = "--webport=tcp:0:interface=127.0.0.1".to_owned();
        make(program, "create-client", &client, &[&code[..], &[web, furl]].concat())?;
        let client = run(program, &client)?;
        let grid =
            Self { program: program.to_owned(), folder: folder.to_owned(), storage, client, _introducer: introducing };
        grid.wait_until_connected(total)?;
        Ok(grid)
    }

    /// The processes at work beside its commands.
    pub(crate) fn processes(&self) -> Vec<u32> {
        self.storage.iter().flatten().chain([&self.client]).map(|node| node.0.id()).collect()
    }

    /// The command that puts a file; it prints the capability to read it.
    pub(crate) fn put(&self, file: &Path) -> Command {
        let mut command = self.tahoe("put");
        command.arg(file);
        command
    }

    /// The command that gets it.
    pub(crate) fn get(&self, capability: &str, file: &Path) -> Command {
        let mut command = self.tahoe("get");
        command.arg(capability).arg(file);
        command
    }

    /// Kills the first `count` storage nodes.
    pub(crate) fn lose(&mut self, count: usize) {
        self.storage[..count].iter_mut().for_each(|node| *node = None);
    }

    /// Starts those again that were killed, and waits until the client is connected with them.
    pub(crate) fn revive(&mut self) -> Result<()> {
        for (at, node) in self.storage.iter_mut().enumerate().filter(|(_, node)| node.is_none()) {
            *node = Some(run(&self.program, &self.folder.join(format!("storage-{at}")))?);
        }
        self.wait_until_connected(self.storage.len())
    }

    fn tahoe(&self, what: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--node-directory").arg(self.folder.join("client")).arg(what);
        command
    }

    fn wait_until_connected(&self, count: usize) -> Result<()> {
        let url = fs::read_to_string(self.folder.join("client/node.url"))?;
        let address = url.trim().trim_start_matches("http://").trim_end_matches('/').to_owned();
        wait(&format!("the client is connected with {count} storage nodes"), || {
            let status = page(&address, "/?t=json")?;
            let is_connected = |it: &&serde_json::Value| {
                it["connection_status"].as_str().is_some_and(|text| text.to_lowercase().starts_with("connected"))
            };
            let servers = status["servers"].as_array().map(Vec::as_slice).unwrap_or_default();
            Ok(servers.iter().filter(is_connected).count() == count)
        })
    }
}

fn listens(port: u16) -> [String; 2] {
    [format!("--port=tcp:{port}:interface=127.0.0.1"), format!("--location=tcp:127.0.0.1:{port}")]
}

fn make(program: &Path, kind: &str, folder: &Path, options: &[String]) -> Result<()> {
    let output = Command::new(program).arg(kind).args(options).arg(folder).output()?;
    let said = [output.stdout, output.stderr].concat();
    ensure!(output.status.success(), "{kind}: {}", String::from_utf8_lossy(&said));
    Ok(())
}

/// Starts a node, and waits until it says that it runs.
fn run(program: &Path, folder: &Path) -> Result<Serving> {
    let log = folder.join("log");
    let output = File::create(&log)?;
    let mut command = Command::new(program);
    command.args(["run", "--allow-stdin-close"]).arg(folder).stdin(Stdio::null());
    let mut node = Serving(command.stdout(output.try_clone()?).stderr(output).spawn()?);
    wait(&format!("the node in {} runs", folder.display()), || {
        let said = fs::read_to_string(&log)?;
        if let Some(status) = node.0.try_wait()? {
            bail!("it ended with {status}: {said}");
        }
        Ok(said.contains("client running") || said.contains("introducer running"))
    })?;
    Ok(node)
}

fn wait(what: &str, mut look: impl FnMut() -> Result<bool>) -> Result<()> {
    let began = Instant::now();
    while !look()? {
        ensure!(began.elapsed() < PATIENCE, "waited {} s until {what}", PATIENCE.as_secs());
        thread::sleep(LOOK_EVERY);
    }
    Ok(())
}

/// What the client's local web server answers.
fn page(address: &str, path: &str) -> Result<serde_json::Value> {
    let mut stream = TcpStream::connect(address).with_context(|| address.to_owned())?;
    write!(stream, "GET {path} HTTP/1.0\r\nHost: {address}\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (_, body) = answer.split_once("\r\n\r\n").context("an answer without a body")?;
    Ok(serde_json::from_str(body)?)
}
