//! Nodes of the demo: child processes of this very program, each with a folder of its own.

use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use bithealth_http::api::{InviteInfo, Status};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::Instant;

/// How long a node may take until it answers.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
/// Between two looks at whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What each node of the demo offers to others.
const CAPACITY: &str = "100GB";

/// One organisation with one node.
pub(super) struct Clinic {
    /// Its name, as in `--for`.
    pub(super) name: String,
    /// The region it stands in.
    pub(super) region: String,
    home: PathBuf,
    key_file: PathBuf,
    log: PathBuf,
    process: Option<Child>,
}

impl Clinic {
    /// A clinic that is not set up yet.
    pub(super) fn new(folder: &Path, region: &str, number: u32) -> Self {
        let name = format!("{region}-{number}");
        let path = |what: &str| folder.join(format!("{name}{what}"));
        Self {
            home: path(""),
            key_file: path(".key"),
            log: path(".log"),
            region: region.to_owned(),
            name,
            process: None,
        }
    }

    /// Where its node keeps everything.
    pub(super) fn home(&self) -> &Path {
        &self.home
    }

    /// Whether its node was started and not killed.
    pub(super) fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// A command of the program, on this clinic's folder.
    pub(super) fn command(&self, args: &[&str]) -> anyhow::Result<Command> {
        let program = std::env::current_exe().context("this program does not know where it is")?;
        let mut command = Command::new(program);
        command.arg("--json").arg("--data-dir").arg(&self.home).args(args).stdin(Stdio::null()).kill_on_drop(true);
        Ok(command)
    }

    fn place_args(&self) -> Vec<String> {
        ["--region", &self.region, "--jurisdiction", "EU"].map(str::to_owned).into()
    }

    fn offer_args(&self) -> Vec<String> {
        let key_file = self.key_file.display().to_string();
        let args = ["--listen", "/ip4/127.0.0.1/tcp/0", "--capacity", CAPACITY, "--key-file", &key_file];
        args.map(str::to_owned).into()
    }

    /// Founds the network.
    pub(super) async fn init(&self) -> anyhow::Result<()> {
        let init = ["init", "--network", "demo", "--name", &self.name].map(str::to_owned);
        self.set_up(&[&init[..], &self.place_args()].concat()).await
    }

    /// Joins with an invite.
    pub(super) async fn join(&self, invite: &str) -> anyhow::Result<()> {
        self.set_up(&["join".to_owned(), invite.to_owned()]).await
    }

    async fn set_up(&self, args: &[String]) -> anyhow::Result<()> {
        let args = [args, &self.offer_args()].concat();
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        run(self.command(&args)?).await.map(drop)
    }

    /// Sets an empty folder up from a kit, gets everything back, and writes the records to `output`; tells each line.
    pub(super) async fn restore(
        &self,
        kit: &Path,
        output: &Path,
        mut tell: impl FnMut(&str),
    ) -> anyhow::Result<ExitStatus> {
        let site = [self.place_args(), self.offer_args()].concat();
        let (kit, output) = (kit.display().to_string(), output.display().to_string());
        let args = ["restore", "--kit", &kit, "--output", &output];
        let args: Vec<&str> = args.into_iter().chain(site.iter().map(String::as_str)).collect();
        let mut command = self.command(&args)?;
        command.stdout(Stdio::piped()).stderr(std::fs::File::create(&self.log)?);
        let mut child = command.spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        while let Some(line) = lines.next_line().await? {
            tell(&line);
        }
        Ok(child.wait().await?)
    }

    /// Starts the node and waits until it answers.
    pub(super) async fn start(&mut self) -> anyhow::Result<()> {
        let key_file = self.key_file.display().to_string();
        let mut command = self.command(&["node", "--key-file", &key_file])?;
        // Its own process group: Ctrl-C goes to the demo, which ends the nodes in order.
        command.process_group(0).stdout(Stdio::piped()).stderr(std::fs::File::create(&self.log)?);
        let mut child = command.spawn().context("a node cannot be started")?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let ready = tokio::time::timeout(READY_TIMEOUT, lines.next_line()).await;
        self.process = Some(child);
        match ready {
            Ok(Ok(Some(_))) => Ok(()),
            _ => bail!("the node of {} did not start: {}", self.name, self.last_words()),
        }
    }

    /// The end of its log.
    pub(super) fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    /// Ends the node as a power cut would, with no chance to tidy up.
    pub(super) async fn kill(&mut self) -> anyhow::Result<()> {
        if let Some(mut process) = self.process.take() {
            process.kill().await.with_context(|| format!("the node of {} cannot be killed", self.name))?;
        }
        Ok(())
    }

    /// Deletes everything the node had on its disk.
    pub(super) fn delete(&self) -> anyhow::Result<()> {
        std::fs::remove_dir_all(&self.home).with_context(|| format!("{} cannot be deleted", self.home.display()))
    }

    /// Lets the node go on when this program ends.
    pub(super) fn release(&mut self) -> Option<u32> {
        let process = self.process.take()?;
        let id = process.id();
        std::mem::forget(process); // dropping it would kill the node
        id
    }

    /// The answer of a command as JSON, one line of it.
    pub(super) async fn ask<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<T> {
        let lines = self.ask_lines(args).await?;
        lines.into_iter().next().context("the command printed nothing")
    }

    /// The answer of a command as lines of JSON.
    pub(super) async fn ask_lines<T: DeserializeOwned>(&self, args: &[&str]) -> anyhow::Result<Vec<T>> {
        let output = run(self.command(args)?).await?;
        let lines = output.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).context("a line that is not the JSON due")).collect()
    }

    /// What the node says of itself and its network.
    pub(super) async fn status(&self) -> anyhow::Result<Status> {
        self.ask(&["status"]).await
    }

    /// An invite for another clinic.
    pub(super) async fn invite(&self, other: &Self) -> anyhow::Result<String> {
        let place = other.place_args();
        let args: Vec<&str> = ["invite", &other.name].into_iter().chain(place.iter().map(String::as_str)).collect();
        Ok(self.ask::<InviteInfo>(&args).await?.text)
    }

    /// The most memory the node's process ever held, in bytes.
    pub(super) fn peak_memory(&self) -> u64 {
        let Some(id) = self.process.as_ref().and_then(Child::id) else { return 0 };
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or(0) * 1024
    }
}

/// Runs a command to its end; what it printed, if it went well.
async fn run(mut command: Command) -> anyhow::Result<Vec<u8>> {
    let output = command.output().await.context("this program cannot start itself")?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(output.stdout)
}

/// Waits until every clinic that is up sees `count` nodes in blocks, all connected.
pub(super) async fn wait_until_joined(clinics: &[Clinic], count: usize, timeout: Duration) -> anyhow::Result<()> {
    let deadline = Instant::now() + timeout;
    for clinic in clinics.iter().filter(|clinic| clinic.is_up()) {
        loop {
            let status = clinic.status().await?;
            let connected = status.nodes.iter().filter(|node| node.connected && node.in_block).count();
            if connected >= count {
                break;
            }
            ensure!(Instant::now() < deadline, "{} sees {connected} of {count} nodes", clinic.name);
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
    Ok(())
}
