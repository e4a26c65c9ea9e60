//! What the demo says: steps as they go, a table at the end, or one line of JSON.

use std::io::IsTerminal;
use std::time::Instant;

use bithealth_types::ByteLen;
use serde::Serialize;

/// The demo in numbers. Times are of this machine, with all nodes on it.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Records that were put.
    pub records: u64,
    /// Their plaintext.
    pub bytes: u64,
    /// Their packs, before coding.
    pub sealed_bytes: u64,
    /// What all nodes together took on their disks.
    pub stored_bytes: u64,
    /// Megabytes of plaintext a second until the last record was durable at the clinic that put it.
    pub put_mb_s: f64,
    /// Seconds until all of it was replicated.
    pub replicated_s: f64,
    /// What was lost.
    pub lost_region: String,
    /// Nodes there were.
    pub nodes: u64,
    /// Nodes killed, their folders deleted.
    pub nodes_killed: u64,
    /// Milliseconds to read one small record in another region, the command's own start included.
    pub read_one_ms: f64,
    /// What a clinic was told that the records were not sealed for.
    pub refused: Option<String>,
    /// Records that came back identical.
    pub restored_records: u64,
    /// Their bytes.
    pub restored_bytes: u64,
    /// Seconds from the empty machine to the last file.
    pub restore_s: f64,
    /// Megabytes a second of that.
    pub restore_mb_s: f64,
    /// Records that did not come back, or changed.
    pub mismatches: u64,
    /// The most memory a node held, in bytes.
    pub peak_memory_bytes: u64,
}

/// Tells a person what goes on; a program gets the last line only.
pub(super) struct Teller {
    json: bool,
    started: Instant,
}

impl Teller {
    /// Tells on the standard error what goes on, unless it is for a program.
    pub(super) fn new(json: bool) -> Self {
        Self { json, started: Instant::now() }
    }

    /// Something begins.
    pub(super) fn step(&self, what: String) {
        self.tell(format!("{:5.1} s  {what} ...", self.started.elapsed().as_secs_f64()));
    }

    /// It is done.
    pub(super) fn done(&self, what: String) {
        self.tell(format!("         {what}"));
    }

    fn tell(&self, line: String) {
        if !self.json || std::io::stderr().is_terminal() {
            eprintln!("{line}");
        }
    }

    /// The table, or the line of JSON.
    ///
    /// # Errors
    /// None in practice: numbers and texts always become JSON.
    pub(super) fn finish(&self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            println!("{}", serde_json::to_string(report)?);
        } else {
            print!("\n{}", table(report));
        }
        Ok(())
    }
}

fn table(report: &Report) -> String {
    let stored = report.stored_bytes as f64 / report.sealed_bytes.max(1) as f64;
    let verdict = match report.mismatches {
        0 => "every record came back identical".to_owned(),
        count => format!("{count} RECORDS ARE MISSING OR CHANGED"),
    };
    let rows = [
        ("put", format!("{} records, {}", report.records, ByteLen(report.bytes))),
        ("", format!("durable here at {:.0} MB/s, replicated after {:.1} s", report.put_mb_s, report.replicated_s)),
        (
            "stored",
            format!("{} on {} nodes: {stored:.2} times what was sealed", ByteLen(report.stored_bytes), report.nodes),
        ),
        (
            "lost",
            format!(
                "{}: {} of {} nodes, with everything on them",
                report.lost_region, report.nodes_killed, report.nodes
            ),
        ),
        ("read", format!("one record in another region in {:.0} ms", report.read_one_ms)),
        ("refused", report.refused.clone().unwrap_or_else(|| "(no clinic left to try)".into())),
        ("restored", format!("{} records, {}", report.restored_records, ByteLen(report.restored_bytes))),
        ("", format!("onto an empty machine in {:.1} s, {:.0} MB/s", report.restore_s, report.restore_mb_s)),
        ("memory", format!("{} at most in one node", ByteLen(report.peak_memory_bytes))),
        ("verdict", verdict),
    ];
    rows.iter().map(|(name, value)| format!("{name:>9}  {value}\n")).collect()
}
