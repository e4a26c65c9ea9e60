//! One organisation with one node: a folder, a process, and the command line on both.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::network::Wire;
use crate::{WIRED_PORT, program, text, wait_until};

/// How long a command may take.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(120);

/// What a command came to.
#[derive(Debug)]
pub struct Answer {
    /// How it ended.
    pub exit: i32,
    /// The lines of JSON it printed.
    pub lines: Vec<Value>,
    /// What it complained of.
    pub error: String,
}

impl Answer {
    /// The answer of a command that prints one line.
    ///
    /// # Panics
    /// If it printed none.
    pub fn value(&self) -> &Value {
        self.lines.first().unwrap_or_else(|| panic!("nothing was answered: {self:?}"))
    }

    /// The events of one kind.
    pub fn events(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.lines.iter().filter(move |line| line["event"] == kind)
    }

    /// Everything it said, for searching.
    pub fn said(&self) -> String {
        let lines: Vec<String> = self.lines.iter().map(Value::to_string).collect();
        format!("{}\n{}", lines.join("\n"), self.error)
    }
}

/// One organisation with one node. Its process is killed when it is dropped.
#[derive(Debug)]
pub struct Clinic {
    /// Its name, as in `--for`.
    pub name: String,
    /// The region it stands in.
    pub region: String,
    /// Where its node keeps everything.
    pub home: PathBuf,
    /// What its node logs, over all its lives.
    pub log: PathBuf,
    /// How much its node logs.
    pub log_level: &'static str,
    /// How much it will offer to others when it joins; none: the default.
    pub capacity: Option<&'static str>,
    key_file: PathBuf,
    /// Its end of a network; none: it is on 127.0.0.1.
    wire: Option<Wire>,
    /// What it is told of where to listen.
    listen: Vec<String>,
    process: Option<Child>,
    /// Where its node answers whoever watches it.
    metrics: Option<SocketAddr>,
}

impl Clinic {
    /// A clinic that is not set up yet, whose folder will be `folder/name`.
    pub fn new(folder: &Path, name: &str, region: &str) -> Self {
        let path = |what: &str| folder.join(format!("{name}{what}"));
        Self {
            home: path(""),
            log: path(".log"),
            key_file: path(".key"),
            name: name.to_owned(),
            region: region.to_owned(),
            log_level: "warn,bithealth=info",
            capacity: None,
            wire: None,
            listen: ["--listen", "/ip4/127.0.0.1/tcp/0"].map(str::to_owned).to_vec(),
            process: None,
            metrics: None,
        }
    }

    /// The same on a network: there it has an address of its own, and a port that stays.
    pub(crate) fn wired(mut self, wire: Wire) -> Self {
        self.listen = vec!["--listen".to_owned(), format!("/ip4/{}/tcp/{WIRED_PORT}", wire.address)];
        self.wire = Some(wire);
        self
    }

    /// The same, and nobody told it how to listen.
    pub(crate) fn wired_as_it_comes(mut self, wire: Wire) -> Self {
        self.listen = Vec::new();
        self.wire = Some(wire);
        self
    }

    /// Its end of a network, if it is on one.
    pub fn wire(&self) -> Option<&Wire> {
        self.wire.as_ref()
    }

    /// Its machine has another address from now on.
    ///
    /// # Panics
    /// If it is not on a network.
    pub fn move_to(&mut self, address: &str) {
        self.wire.as_mut().expect("it is on a network").move_to(address);
    }

    /// Founds a network.
    pub fn init(&self) {
        self.init_with(&[]);
    }

    /// The same with more said.
    pub fn init_with(&self, args: &[&str]) {
        let init = [&["init", "--network", "test", "--name", &self.name], args].concat();
        self.done(&self.with_site(&init));
    }

    /// Joins with an invite.
    pub fn join(&self, invite: &str) -> Answer {
        let capacity = self.capacity.map(|capacity| ["--capacity", capacity]);
        let join = ["join", invite, "--key-file", text(&self.key_file)];
        let listen = self.listen.iter().map(String::as_str);
        self.ask(&join.into_iter().chain(listen).chain(capacity.into_iter().flatten()).collect::<Vec<_>>())
    }

    /// Sets an empty folder up from a kit, gets everything back, and writes the records to `output`.
    pub fn restore(&self, kit: &Path, output: &Path) -> Answer {
        self.ask(&self.with_site(&["restore", "--kit", text(kit), "--output", text(output)]))
    }

    /// The same, begun and left to itself.
    ///
    /// # Panics
    /// If the program cannot be started.
    pub fn begin_restore(&self, kit: &Path, output: &Path) -> Child {
        self.restore_command(kit, output).spawn().expect("the program can be started")
    }

    /// The same, not begun.
    pub fn restore_command(&self, kit: &Path, output: &Path) -> Command {
        self.command(&self.with_site(&["restore", "--kit", text(kit), "--output", text(output)]))
    }

    fn with_site<'a>(&'a self, args: &[&'a str]) -> Vec<&'a str> {
        let site = ["--region", &self.region, "--jurisdiction", "EU", "--key-file", text(&self.key_file)];
        args.iter().copied().chain(site).chain(self.listen.iter().map(String::as_str)).collect()
    }

    /// The key file of its node.
    pub fn key_file(&self) -> &Path {
        &self.key_file
    }

    /// Changes one line of the configuration.
    ///
    /// # Panics
    /// If there is no such line.
    pub fn configure(&self, key: &str, value: &str) {
        let path = self.home.join("config.toml");
        let config = std::fs::read_to_string(&path).expect("a clinic that is set up has a configuration");
        let start = format!("{key} = ");
        assert!(config.lines().any(|line| line.starts_with(&start)), "{key} is not in\n{config}");
        let changed = config.lines().map(|line| match line.starts_with(&start) {
            true => format!("{start}{value}\n"),
            false => format!("{line}\n"),
        });
        std::fs::write(&path, changed.collect::<String>()).expect("the configuration can be written");
    }

    /// Adds a line to the configuration.
    ///
    /// # Panics
    /// If it cannot be written.
    pub fn configure_also(&self, key: &str, value: &str) {
        let path = self.home.join("config.toml");
        let config = std::fs::read_to_string(&path).expect("a clinic that is set up has a configuration");
        std::fs::write(&path, format!("{key} = {value}\n{config}")).expect("the configuration can be written");
    }

    /// Where its node answers whoever watches it.
    ///
    /// # Panics
    /// If it does not.
    pub fn metrics_address(&self) -> SocketAddr {
        self.metrics.expect("it was configured to export metrics")
    }

    /// Its only contact is called at another address from now on.
    pub(crate) fn call_at(&self, address: SocketAddr) {
        let path = self.home.join("config.toml");
        let config = std::fs::read_to_string(&path).expect("a clinic that is set up has a configuration");
        let (before, contact) = config.split_once("contacts = [\"").expect("a configuration names contacts");
        let (_, node) = contact.split_once("/p2p/").expect("a contact names its node");
        let config = format!("{before}contacts = [\"/ip4/{}/tcp/{}/p2p/{node}", address.ip(), address.port());
        std::fs::write(&path, config).expect("the configuration can be written");
    }

    /// Starts the node and waits until it answers.
    ///
    /// # Panics
    /// If it does not, with what it logged last.
    pub fn start(&mut self) {
        assert!(self.process.is_none(), "the node of {} runs already", self.name);
        let log = File::options().create(true).append(true).open(&self.log).expect("a log can be written");
        let mut command = self.command(&["node", "--key-file", text(&self.key_file)]);
        let mut child = command.stderr(log).env("RUST_LOG", self.log_level).spawn().expect("a node can be started");
        let mut ready = String::new();
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        self.process = Some(child);
        // A node that does not come up ends, and its output with it.
        let read = output.read_line(&mut ready);
        assert!(read.is_ok_and(|len| len > 0), "the node of {} did not start: {}", self.name, self.last_words());
        let ready: Value = serde_json::from_str(&ready).expect("a node that is ready says so in JSON");
        self.metrics = ready["metrics"].as_str().map(|at| at.parse().expect("an address"));
    }

    /// The end of its log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&log[log.len().saturating_sub(2000)..]).into_owned()
    }

    /// Whether its node was started and not ended.
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// The id of its process.
    pub fn process(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Ends the node as a power cut would: SIGKILL, no chance to tidy up.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill(); // it may have ended by itself
            let _ = process.wait();
        }
    }

    /// The node stands still, as a machine that hangs, until [`Clinic::resume`].
    pub fn pause(&self) {
        self.signal("STOP");
    }

    /// The node goes on.
    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let process = self.process.as_ref().expect("the node was started").id();
        let sent = Command::new("kill").args([&format!("-{name}"), &process.to_string()]).status();
        assert!(sent.is_ok_and(|status| status.success()), "{} takes no signal {name}", self.name);
    }

    /// Ends the node in order.
    ///
    /// # Panics
    /// If it does not end, or not well.
    pub fn stop(&mut self) {
        self.done(&["stop"]);
        let mut process = self.process.take().expect("a node that answers runs");
        let status = wait_until("the node has stopped", || {
            process.try_wait().expect("our child").ok_or_else(|| "it still runs".to_owned())
        });
        assert!(status.success(), "{} stopped with {status}: {}", self.name, self.last_words());
    }

    /// Deletes everything the node has on its disk.
    ///
    /// # Panics
    /// If that cannot be.
    pub fn delete(&self) {
        std::fs::remove_dir_all(&self.home).expect("the clinic's folder can be deleted");
    }

    /// A command of the program on this clinic's folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.program();
        command.arg("--json").arg("--data-dir").arg(&self.home).args(args);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env_remove("RUST_LOG").env_remove("BITHEALTH_KEY_FILE").env_remove("BITHEALTH_PASSPHRASE_FILE");
        command
    }

    /// The program, in the clinic's namespace.
    fn program(&self) -> Command {
        self.wire.as_ref().map_or_else(|| Command::new(program()), |wire| wire.command(program()))
    }

    /// Runs a command to its end, however it ends.
    pub fn ask(&self, args: &[&str]) -> Answer {
        finish(self.command(args).spawn().expect("the program can be started"))
    }

    /// Runs a command that must be done.
    ///
    /// # Panics
    /// If it fails.
    pub fn done(&self, args: &[&str]) -> Answer {
        let answer = self.ask(args);
        assert_eq!(answer.exit, 0, "{} on {}: {answer:?}\nlog: {}", args.join(" "), self.name, self.last_words());
        answer
    }

    /// What the node says of itself and its network.
    pub fn status(&self) -> Value {
        self.done(&["status"]).value().clone()
    }

    /// Bytes its node sent to others and received from them, over all connections it has now.
    pub fn traffic(&self) -> (u64, u64) {
        let peers = self.done(&["peers"]).lines;
        let sum = |field: &str| peers.iter().filter_map(|peer| peer[field].as_u64()).sum();
        (sum("bytes_out"), sum("bytes_in"))
    }

    /// Bytes of memory its node holds now.
    ///
    /// # Panics
    /// If it does not run.
    pub fn memory(&self) -> u64 {
        let process = self.process().expect("the node was started");
        let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the node runs");
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        let kib: u64 = resident.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// What the node says of a peer it is connected with.
    pub fn peer(&self, name: &str) -> Option<Value> {
        self.done(&["peers"]).lines.into_iter().find(|peer| peer["name"] == name)
    }

    /// Puts a file or folder and waits until it is durable here; the answer of a put that went well.
    pub fn put(&self, path: &Path, more: &[&str]) -> Answer {
        self.done(&[&["put", text(path), "--wait", "local"], more].concat())
    }

    /// Puts a file or folder and waits until it is replicated.
    pub fn put_replicated(&self, path: &Path, more: &[&str]) -> Answer {
        self.done(&[&["put", text(path), "--wait", "replicated", "--timeout", "60s"], more].concat())
    }

    /// Everything it can read, into a folder.
    pub fn get_all(&self, folder: &Path) -> Answer {
        self.done(&["get", "--all", "--output", text(folder)])
    }

    /// The id of the record of that name, once this node knows it.
    pub fn record_named(&self, name: &str) -> String {
        wait_until(&format!("{} knows of {name}", self.name), || {
            let listed = self.done(&["ls", name]).lines;
            let record = listed.first().and_then(|row| row["record"].as_str()).map(str::to_owned);
            record.ok_or_else(|| "it is not listed".to_owned())
        })
    }

    /// Waits until the status is as it should be.
    pub fn wait_for(&self, what: &str, look: impl Fn(&Value) -> bool) -> Value {
        wait_until(&format!("{}: {what}", self.name), || {
            let status = self.status();
            if look(&status) { Ok(status) } else { Err(status.to_string()) }
        })
    }
}

impl Drop for Clinic {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads a command to its end; one that hangs is killed.
fn finish(mut child: Child) -> Answer {
    let output = reader(child.stdout.take());
    let error = reader(child.stderr.take());
    let started = Instant::now();
    let status = wait_until_ended(&mut child, started);
    let output = output.join().expect("reading does not panic");
    let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    let parse = |line: &[u8]| serde_json::from_slice(line).unwrap_or_else(|_| String::from_utf8_lossy(line).into());
    Answer {
        exit: status,
        lines: lines.map(parse).collect(),
        error: String::from_utf8_lossy(&error.join().expect("reading does not panic")).into_owned(),
    }
}

fn wait_until_ended(child: &mut Child, started: Instant) -> i32 {
    loop {
        match child.try_wait().expect("our child") {
            Some(status) => return status.code().unwrap_or(-1),
            None if started.elapsed() > COMMAND_TIMEOUT => {
                let _ = child.kill(); // it may have ended just now
                let _ = child.wait();
                panic!("a command hung for {COMMAND_TIMEOUT:?}");
            }
            None => crate::soon(Duration::from_millis(5)),
        }
    }
}

fn reader(stream: Option<impl Read + Send + 'static>) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut stream) = stream {
            let _ = stream.read_to_end(&mut bytes); // what came counts
        }
        bytes
    })
}
