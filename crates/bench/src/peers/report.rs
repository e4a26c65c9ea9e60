//! What was measured, as a table or as JSON.

use serde::Serialize;

use super::{Fetched, Measured};
use crate::sample::median;

/// Ours and the floor, as they are called in the table.
const OURS: &str = "BitHealth get";
const FLOOR: &str = "TLS 1.3 floor";

/// What BitHealth must reach, in each run of its own: by tool, at least so many times its speed.
const AT_LEAST: &[(&str, f64)] = &[("rqbit, in clear", 1.0), ("libtorrent v2, RC4", 1.5), ("sendme", 2.5)];
/// Processor time, at most so many times the floor's.
const CPU_MOST: f64 = 1.4;

/// What the numbers do not say.
const NOTES: &[&str] = &[
    "From the start of the command until the file is on the disk, after everything dirty was written out; sources have the \
     file in the page cache where they use it. Processor time and memory are those of all processes, sender and receiver.",
    "BitHealth's get also opens what came sealed and hashes the plaintext: the others hand over what they have. The floor \
     neither hashes nor verifies anything but TLS's own tags.",
];

/// Everything measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    bytes: u64,
    rounds: u32,
    rows: Vec<Row>,
    not_installed: Vec<&'static str>,
    limits: Vec<Limit>,
    notes: &'static [&'static str],
    measured: Vec<Measured>,
}

/// Medians of a tool.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    tool: &'static str,
    version: String,
    mb_per_s: f64,
    cpu_s_per_gb: f64,
    /// Processor time, as many times the floor's.
    floors: f64,
    rss_mib: f64,
    largest_rss_mib: f64,
}

/// What BitHealth must reach, and what it does.
#[derive(Debug, PartialEq, Serialize)]
struct Limit {
    what: String,
    got: f64,
    due: f64,
    holds: bool,
}

impl Report {
    pub(super) fn new(bytes: u64, rounds: u32, measured: Vec<Measured>, not_installed: Vec<&'static str>) -> Self {
        let rows = rows(bytes, &measured);
        Self { bytes, rounds, limits: limits(&rows), rows, not_installed, notes: NOTES, measured }
    }

    /// Whether BitHealth reaches what it must.
    pub(crate) fn holds(&self) -> bool {
        self.limits.iter().all(|limit| limit.holds)
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("numbers and texts"));
            return;
        }
        let mib = self.bytes as f64 / f64::from(1 << 20);
        println!(
            "One file of {mib:.0} MiB, one source, over loopback; medians of {} rounds, taking turns\n",
            self.rounds
        );
        println!("{:<26}{:>9}{:>10}{:>9}{:>10}{:>10}", "", "MB/s", "CPU s/GB", "floors", "RSS MiB", "largest");
        for row in &self.rows {
            let Row { tool, mb_per_s, cpu_s_per_gb, floors, rss_mib, largest_rss_mib, .. } = row;
            println!(
                "{tool:<26}{mb_per_s:>9.0}{cpu_s_per_gb:>10.2}{floors:>9.2}{rss_mib:>10.0}{largest_rss_mib:>10.0}"
            );
        }
        println!();
        for limit in &self.limits {
            let held = if limit.holds { "" } else { "  missed" };
            println!("{}: {:.2}, {:.2} is due{held}", limit.what, limit.got, limit.due);
        }
        self.not_installed.iter().for_each(|tool| println!("not installed: {tool}"));
        println!();
        self.rows.iter().for_each(|row| println!("{}: {}", row.tool, row.version));
        self.notes.iter().for_each(|note| println!("{note}"));
    }
}

fn rows(bytes: u64, measured: &[Measured]) -> Vec<Row> {
    let middle = |of: &Measured, what: fn(&Fetched) -> f64| median(of.rounds.iter().map(what).collect());
    let cpu = |of: &Measured| middle(of, |it| it.cost.cpu_s);
    let floor = measured.iter().find(|it| it.tool == FLOOR).map_or(f64::NAN, cpu);
    let mib = f64::from(1 << 20);
    let row = |it: &Measured| Row {
        tool: it.tool,
        version: it.version.clone(),
        mb_per_s: bytes as f64 / 1e6 / middle(it, |it| it.cost.wall_s),
        cpu_s_per_gb: cpu(it) / (bytes as f64 / 1e9),
        floors: cpu(it) / floor,
        rss_mib: middle(it, |it| it.cost.rss_bytes as f64) / mib,
        largest_rss_mib: middle(it, |it| it.largest_rss_bytes as f64) / mib,
    };
    measured.iter().map(row).collect()
}

fn limits(rows: &[Row]) -> Vec<Limit> {
    let row = |tool: &str| rows.iter().find(|row| row.tool == tool);
    let Some(ours) = row(OURS) else { return Vec::new() };
    let faster = |(tool, due): &(&str, f64)| {
        let got = ours.mb_per_s / row(tool)?.mb_per_s;
        Some(Limit { what: format!("times the speed of {tool}"), got, due: *due, holds: got >= *due })
    };
    let cpu = Limit {
        what: "times the processor time of the floor".into(),
        got: ours.floors,
        due: CPU_MOST,
        holds: ours.floors <= CPU_MOST,
    };
    AT_LEAST.iter().filter_map(faster).chain([cpu]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cost;

    fn measured(tool: &'static str, rounds: &[(f64, f64)]) -> Measured {
        let fetched = |(wall_s, cpu_s): &(f64, f64)| Fetched {
            cost: Cost { wall_s: *wall_s, cpu_s: *cpu_s, rss_bytes: 2 << 20 },
            largest_rss_bytes: 1 << 20,
        };
        Measured { tool, version: "1".into(), rounds: rounds.iter().map(fetched).collect() }
    }

    #[test]
    fn medians_are_compared_with_the_floor_and_with_the_others() {
        let all = [
            measured(FLOOR, &[(1.0, 2.0), (9.0, 2.0), (2.0, 2.0)]),
            measured(OURS, &[(4.0, 3.0), (4.0, 2.5), (4.0, 9.0)]),
            measured("sendme", &[(8.0, 9.0)]),
        ];
        let rows = rows(1_000_000_000, &all);
        assert_eq!((rows[0].mb_per_s, rows[0].cpu_s_per_gb, rows[0].floors), (500.0, 2.0, 1.0));
        assert_eq!(
            (rows[1].mb_per_s, rows[1].floors, rows[1].rss_mib, rows[1].largest_rss_mib),
            (250.0, 1.5, 2.0, 1.0)
        );
        let limits = limits(&rows);
        assert_eq!(limits.len(), 2, "of those that are there");
        assert_eq!((limits[0].got, limits[0].holds), (2.0, false), "2.5 are due");
        assert_eq!((limits[1].got, limits[1].holds), (1.5, false), "1.4 are due");
    }

    #[test]
    fn without_a_floor_nothing_holds() {
        let rows = rows(1_000_000_000, &[measured(OURS, &[(4.0, 3.0)])]);
        assert!(!limits(&rows)[0].holds);
    }
}
