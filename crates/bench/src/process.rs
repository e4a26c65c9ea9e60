//! Child processes, and what they cost: time, processor time, memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::ops::Add;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use serde::Serialize;

/// How often the memory of a running child is looked at; its peak is kept by the kernel, so only the last look counts.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How long a stopped node may take to close its store.
const STOP_TIMEOUT: Duration = Duration::from_secs(60);

/// What a step cost.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Cost {
    pub(crate) wall_s: f64,
    /// Processor time of all processes concerned, user and system.
    pub(crate) cpu_s: f64,
    /// Peak resident bytes; of two processes at work together, the sum of their peaks.
    pub(crate) rss_bytes: u64,
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            wall_s: self.wall_s + other.wall_s,
            cpu_s: self.cpu_s + other.cpu_s,
            rss_bytes: self.rss_bytes + other.rss_bytes,
        }
    }
}

/// Runs a command to its end. Dirty pages of what came before are written out first, so that it does not pay for them.
pub(crate) fn run(command: &mut Command, folder: &Path) -> Result<Cost> {
    nix::unistd::sync();
    let errors = folder.join("stderr");
    let cpu_before = children_cpu()?;
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(File::create(&errors)?)
        .spawn()
        .with_context(|| format!("{:?} does not start", command.get_program()))?;
    let ended = AtomicBool::new(false);
    let pid = child.id();
    let (status, wall_s, rss_bytes) = thread::scope(|scope| {
        let watcher = scope.spawn(|| {
            let mut peak = 0;
            while !ended.load(Ordering::Relaxed) {
                peak = peak.max(peak_rss(pid).unwrap_or(0)); // a process that just ended has none
                thread::sleep(LOOK_EVERY);
            }
            peak
        });
        let status = child.wait();
        let wall_s = start.elapsed().as_secs_f64();
        ended.store(true, Ordering::Relaxed);
        (status, wall_s, watcher.join().expect("the watcher does not panic"))
    });
    ensure!(status?.success(), "{command:?} failed: {}", tail(&errors));
    Ok(Cost { wall_s, cpu_s: children_cpu()? - cpu_before, rss_bytes })
}

fn tail(errors: &Path) -> String {
    let text = fs::read_to_string(errors).unwrap_or_default();
    text.lines().rev().take(5).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// Processor seconds of all children that have ended so far.
pub(crate) fn children_cpu() -> Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let seconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    Ok(seconds(usage.user_time()) + seconds(usage.system_time()))
}

/// Peak resident bytes of a running process (`VmHWM`, proc(5)).
pub(crate) fn peak_rss(pid: u32) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<u64>()? * 1024)
}

/// Lets the peak of a running process begin anew (`clear_refs`, proc(5)).
pub(crate) fn reset_peak(pid: u32) -> Result<()> {
    Ok(fs::write(format!("/proc/{pid}/clear_refs"), "5")?)
}

/// Processor seconds of a running process: fields 14 and 15 of `/proc/pid/stat`, proc(5).
pub(crate) fn running_cpu(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses, which may hold spaces: count from its end.
    let (_, fields) = stat.rsplit_once(')').context("a stat line without a name")?;
    let ticks: u64 = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    let ticks_per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(ticks as f64 / ticks_per_second as f64)
}

/// A node that runs beside the commands that use it.
pub(crate) struct Running {
    child: Child,
    stopped: bool,
}

impl Running {
    /// Starts a node, and waits for the line of JSON that says it is ready.
    pub(crate) fn start(command: &mut Command, folder: &Path) -> Result<Self> {
        let errors = folder.join("node-stderr");
        let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&errors)?).spawn()?;
        let mut running = Self { child, stopped: false };
        let mut output = BufReader::new(running.child.stdout.take().expect("it is piped"));
        let mut line = String::new();
        output.read_line(&mut line)?;
        let ready: serde_json::Value = serde_json::from_str(&line).unwrap_or_default();
        if ready["ready"] != true {
            bail!("the node did not get ready, it said {line:?}: {}", tail(&errors));
        }
        // Whatever else it prints must not fill the pipe and stop it.
        thread::spawn(move || output.read_to_end(&mut Vec::new()));
        Ok(running)
    }

    /// What `work` costs, this node's share in it included.
    pub(crate) fn with(&self, work: impl FnOnce() -> Result<Cost>) -> Result<Cost> {
        let pid = self.child.id();
        reset_peak(pid)?;
        let cpu_before = running_cpu(pid)?;
        let cost = work()?;
        let node = Cost { wall_s: 0.0, cpu_s: running_cpu(pid)? - cpu_before, rss_bytes: peak_rss(pid)? };
        Ok(cost + node)
    }

    /// Asks the node to stop, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        kill(self.pid(), Signal::SIGTERM)?;
        let asked = Instant::now();
        while asked.elapsed() < STOP_TIMEOUT {
            if let Some(status) = self.child.try_wait()? {
                self.stopped = true;
                ensure!(status.success(), "the node ended with {status}");
                return Ok(());
            }
            thread::sleep(LOOK_EVERY);
        }
        bail!("the node did not stop within {} s", STOP_TIMEOUT.as_secs())
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.child.id()).expect("a pid fits pid_t"))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.stopped {
            // It is of no use any more, and whether it could still be killed changes nothing.
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn a_command_costs_time_processor_time_and_memory() {
        let folder = tempfile::tempdir().unwrap();
        let script = "i=0; while [ $i -lt 100000 ]; do i=$((i+1)); done";
        let cost = run(&mut shell(script), folder.path()).unwrap();
        assert!(cost.wall_s > 0.0 && cost.cpu_s > 0.0 && cost.rss_bytes > 100_000, "{cost:?}");
    }

    #[test]
    fn a_command_that_fails_says_what_it_said() {
        let folder = tempfile::tempdir().unwrap();
        let error = run(&mut shell("echo no such thing >&2; exit 3"), folder.path()).unwrap_err();
        assert!(error.to_string().contains("no such thing"), "{error}");
    }

    #[test]
    fn a_node_is_waited_for_measured_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let script = r#"trap 'exit 0' TERM; echo '{"ready":true}'; while :; do sleep 0.01; done"#;
        let node = Running::start(&mut shell(script), folder.path()).unwrap();
        let cost = node.with(|| run(&mut shell("true"), folder.path())).unwrap();
        assert!(cost.rss_bytes > 100_000, "{cost:?}");
        node.stop().unwrap();
    }

    #[test]
    fn a_node_that_does_not_get_ready_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let Err(error) = Running::start(&mut shell("echo port taken >&2; exit 1"), folder.path()) else {
            panic!("it is not ready")
        };
        assert!(error.to_string().contains("port taken"), "{error}");
    }
}
