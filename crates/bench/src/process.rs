//! Child processes, and what they cost: time, processor time, memory.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read};
use std::ops::Add;
use std::path::{Path, PathBuf};
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
    /// Peak resident bytes; of several processes at work together, the sum of their peaks.
    pub(crate) rss_bytes: u64,
    /// Peak resident bytes of the largest of them.
    pub(crate) largest_rss_bytes: u64,
}

impl Cost {
    /// The cost of processes that were at work together, each with its peak of resident bytes.
    fn at_once(wall_s: f64, cpu_s: f64, peaks: &[u64]) -> Self {
        let largest_rss_bytes = peaks.iter().copied().max().unwrap_or_default();
        Self { wall_s, cpu_s, rss_bytes: peaks.iter().sum(), largest_rss_bytes }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            wall_s: self.wall_s + other.wall_s,
            cpu_s: self.cpu_s + other.cpu_s,
            rss_bytes: self.rss_bytes + other.rss_bytes,
            largest_rss_bytes: self.largest_rss_bytes.max(other.largest_rss_bytes),
        }
    }
}

/// Runs a command to its end. Dirty pages of what came before are written out first, so that it does not pay for them.
pub(crate) fn run(command: &mut Command, folder: &Path) -> Result<Cost> {
    run_together(std::slice::from_mut(command), folder).map(|(cost, _)| cost)
}

/// What the command printed that [`run`] ran last in this folder.
pub(crate) fn printed(folder: &Path) -> Result<String> {
    Ok(fs::read_to_string(folder.join("stdout-0"))?)
}

/// Runs commands at once, each to its end; what all of them cost, and how many seconds each took.
pub(crate) fn run_together(commands: &mut [Command], folder: &Path) -> Result<(Cost, Vec<f64>)> {
    nix::unistd::sync();
    let cpu_before = children_cpu()?;
    let start = Instant::now();
    let mut children = Vec::new();
    for (index, command) in commands.iter_mut().enumerate() {
        let errors = folder.join(format!("stderr-{index}"));
        let output = File::create(folder.join(format!("stdout-{index}")))?;
        command.stdin(Stdio::null()).stdout(output).stderr(File::create(&errors)?);
        let child = command.spawn().with_context(|| format!("{:?} does not start", command.get_program()))?;
        children.push((child, command, errors));
    }
    let ended = thread::scope(|scope| {
        let watched = children.into_iter().map(|child| scope.spawn(|| watch(child, start))).collect::<Vec<_>>();
        watched.into_iter().map(|watched| watched.join().expect("the watcher does not panic")).collect::<Vec<_>>()
    });
    let ended = ended.into_iter().collect::<Result<Vec<(f64, u64)>>>()?;
    let (ends, peaks): (Vec<f64>, Vec<u64>) = ended.into_iter().unzip();
    let cost = Cost::at_once(start.elapsed().as_secs_f64(), children_cpu()? - cpu_before, &peaks);
    Ok((cost, ends))
}

/// Waits until a child ends; when that was, and its peak of resident bytes.
fn watch((mut child, command, errors): (Child, &mut Command, PathBuf), start: Instant) -> Result<(f64, u64)> {
    let ended = AtomicBool::new(false);
    let pid = child.id();
    let (status, wall_s, peak) = thread::scope(|scope| {
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
    Ok((wall_s, peak))
}

/// What `work` costs, with the share that these running processes have in it.
pub(crate) fn beside(processes: &[u32], work: impl FnOnce() -> Result<Cost>) -> Result<Cost> {
    processes.iter().try_for_each(|pid| reset_peak(*pid))?;
    let cpu = || processes.iter().map(|pid| running_cpu(*pid)).sum::<Result<f64>>();
    let cpu_before = cpu()?;
    let cost = work()?;
    let peaks = processes.iter().map(|pid| peak_rss(*pid)).collect::<Result<Vec<u64>>>()?;
    let theirs = Cost::at_once(0.0, cpu()? - cpu_before, &peaks);
    Ok(cost + theirs)
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
        beside(&[self.child.id()], work)
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
        let script = "i=0; while [ $i -lt 500000 ]; do i=$((i+1)); done";
        let cost = run(&mut shell(script), folder.path()).unwrap();
        assert!(cost.wall_s > 0.0 && cost.cpu_s > 0.0 && cost.rss_bytes > 100_000, "{cost:?}");
    }

    #[test]
    fn commands_run_at_once_and_each_has_its_own_end() {
        let folder = tempfile::tempdir().unwrap();
        // Each waits for what the other does: one after the other, they would not end.
        let (one, two) = (folder.path().join("one"), folder.path().join("two"));
        let script = |does: &Path, awaits: &Path| {
            let awaits = awaits.display();
            format!(
                "mkdir {}; i=0; while [ ! -e {awaits} ] && [ $i -lt 1000000 ]; do i=$((i+1)); done; [ -e {awaits} ]",
                does.display()
            )
        };
        let mut both = [shell(&script(&one, &two)), shell(&script(&two, &one))];
        let (cost, ends) = run_together(&mut both, folder.path()).unwrap();
        assert!(ends.len() == 2 && ends.iter().all(|end| *end > 0.0 && *end <= cost.wall_s), "{ends:?} {cost:?}");
    }

    #[test]
    fn peaks_of_processes_at_work_together_add_up_and_the_largest_is_kept() {
        let both = Cost::at_once(2.0, 1.0, &[30, 20]);
        assert_eq!((both.rss_bytes, both.largest_rss_bytes), (50, 30));
        let three = both + Cost::at_once(0.0, 1.0, &[40]);
        assert_eq!(three, Cost { wall_s: 2.0, cpu_s: 2.0, rss_bytes: 90, largest_rss_bytes: 40 });
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
