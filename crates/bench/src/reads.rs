//! One small record read from a clinic that is far away: how many round trips that takes.
//!
//! Two real nodes in network namespaces, with nothing between them but a line each way of which takes half of the round trip
//! (root, and `ip` of iproute2). Whole commands are measured, so
//! the start of the program, its way to the node and the file it writes count too; how long they take is measured with the
//! same command at home.

use std::time::{Duration, Instant};

use anyhow::Result;
use bithealth_tests::{Clinic, Cluster, bytes_of, wait_until, write};
use serde::Serialize;

use crate::ReadsArgs;
use crate::sample::median;

/// What a warm read may take in round trips, and one with nothing cached.
const WARM_TRIPS_MOST: f64 = 1.0;
const COLD_TRIPS_MOST: f64 = 3.0;
/// Of a round trip: what a read may take longer before it counts as one more.
const SLACK: f64 = 0.5;

/// What was measured, in seconds.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    round_trip_s: f64,
    record_len: u64,
    rounds: u32,
    /// The same command where the record lies.
    at_home_s: f64,
    /// On a connection that has carried reads before.
    warm_s: f64,
    /// Right after the connection stands.
    cold_s: f64,
    /// From the start of the node until its peer is there.
    connected_s: f64,
}

/// Runs both nodes and reads.
pub(crate) fn measure(args: &ReadsArgs) -> Result<Report> {
    let round_trip = Duration::from_millis(args.round_trip_ms);
    // The reader holds nothing, so all that it reads comes from far away.
    let mut cluster = Cluster::start_far(["north-1", "south-1"], round_trip / 2);
    connected(&cluster["south-1"]);
    // One record for each read, and of each kind: nothing of it has come before.
    let count = args.rounds as usize;
    let folder = cluster.path("records");
    for index in 0..2 * count {
        write(&folder.join(format!("r{index}")), bytes_of(index as u64, args.record_len as usize));
    }
    let survive = ["--for", "south-1", "--survive", "0,0"];
    cluster["north-1"].put_replicated(&folder, &survive);
    let records = (0..2 * count).map(|index| cluster["south-1"].record_named(&format!("r{index}")));
    let records: Vec<String> = records.collect();

    let back = cluster.path("back");
    let read = |clinic: &Clinic, record: &str| {
        let began = Instant::now();
        clinic.done(&["get", record, "--output", back.to_str().expect("a path of ours")]);
        began.elapsed().as_secs_f64()
    };
    let (warm, cold) = records.split_at(count);
    let at_home = warm.iter().map(|record| read(&cluster["north-1"], record)).collect();
    let warm = warm.iter().map(|record| read(&cluster["south-1"], record)).collect();
    let (mut connecting, mut colds) = (Vec::new(), Vec::new());
    for record in cold {
        cluster["south-1"].stop();
        let began = Instant::now();
        cluster["south-1"].start();
        connected(&cluster["south-1"]);
        connecting.push(began.elapsed().as_secs_f64());
        colds.push(read(&cluster["south-1"], record));
    }
    Ok(Report {
        round_trip_s: round_trip.as_secs_f64(),
        record_len: args.record_len,
        rounds: args.rounds,
        at_home_s: median(at_home),
        warm_s: median(warm),
        cold_s: median(colds),
        connected_s: median(connecting),
    })
}

fn connected(reader: &Clinic) {
    wait_until("the author is there", || {
        let status = reader.status();
        let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let there = nodes.len() > 1 && nodes.iter().all(|node| node["connected"] == true);
        if there { Ok(()) } else { Err(status["nodes"].to_string()) }
    });
}

impl Report {
    fn trips(&self, took_s: f64) -> f64 {
        (took_s - self.at_home_s) / self.round_trip_s
    }

    /// Whether reads take no more round trips than they may.
    pub(crate) fn holds(&self) -> bool {
        self.trips(self.warm_s) <= WARM_TRIPS_MOST + SLACK && self.trips(self.cold_s) <= COLD_TRIPS_MOST + SLACK
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("numbers"));
            return;
        }
        let ms = |seconds: f64| seconds * 1e3;
        println!(
            "A record of {} bytes over a round trip of {:.0} ms; medians of {} reads\n",
            self.record_len,
            ms(self.round_trip_s),
            self.rounds
        );
        println!("{:<34}{:>8}{:>14}{:>8}", "", "ms", "round trips", "most");
        println!("{:<34}{:>8.0}", "where the record lies", ms(self.at_home_s));
        for (what, took, most) in [
            ("on a warm connection", self.warm_s, WARM_TRIPS_MOST),
            ("right after the connection stands", self.cold_s, COLD_TRIPS_MOST),
        ] {
            let trips = self.trips(took);
            let missed = if trips <= most + SLACK { "" } else { "  missed" };
            println!("{what:<34}{:>8.0}{trips:>14.2}{most:>8.0}{missed}", ms(took));
        }
        println!("{:<34}{:>8.0}", "from the node's start to its peer", ms(self.connected_s));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_command_takes_at_home_is_no_distance() {
        let report = Report {
            round_trip_s: 0.1,
            record_len: 1,
            rounds: 1,
            at_home_s: 0.02,
            warm_s: 0.13,
            cold_s: 0.32,
            connected_s: 1.0,
        };
        assert!((report.trips(report.warm_s) - 1.1).abs() < 1e-9);
        assert!(report.holds());
        assert!(!Report { warm_s: 0.22, ..report }.holds(), "two round trips are one too many");
    }
}
