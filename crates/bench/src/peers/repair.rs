//! A node is lost for good: how fast the others rebuild what it held.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bithealth_tests::{Clinic, Cluster};
use serde_json::Value;

use super::contest::contest;
use super::line::processes;
use super::table::{CPU_PER_GB, Due, LARGEST, MB_PER_S, Measured, Numbers, RSS, Section, numbers};
use super::tool::{Tool, bithealth, the_file, tls};
use crate::PeersArgs;
use crate::corpus::Corpus;
use crate::process::{Cost, beside};

/// 4-of-6 on seven nodes in three regions: for each pack one node is free.
const NODES: [&str; 7] = ["north-1", "north-2", "north-3", "south-1", "south-2", "east-1", "east-2"];
const SURVIVE: [&str; 2] = ["--survive", "0,1"];
const K: usize = 4;
const FULL_MARGIN: i64 = 2;
const LOST: &str = "south-1";

const OURS: &str = "BitHealth repair";
/// From the start of rebuilding until all packs stand with full margin again.
const SECONDS: &str = "s";
/// Bytes rebuilt.
const REBUILT: &str = "MB rebuilt";
const READ_PER_S: &str = "MB/s read";

const MB_PER_S_LEAST: f64 = 150.0;
/// How long a node may be silent before it counts as lost, and how often the others look.
const SILENCE_MS: &str = "3000";
const LOOK_MS: &str = "100";
/// Between two looks at the status of the others.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(300);

const NOTES: &[&str] = &[
    "Speed and processor time are those of bytes rebuilt, as the status of the nodes counts them; each takes four read from \
     others, and all nodes share this machine. Rebuilding begins when the first node that is left counts shards as missing, \
     and ends when the author counts none and all packs stand with full margin. The bound on what repair reads is off.",
];

/// Loses one node, with packs on it, in each round.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let floor: [Box<dyn Tool>; 1] = [Box::new(tls::Floor)];
    let corpus = Corpus::large_of(folder, 200, args.repair_len)?;
    let told = |cost: &Cost| numbers(cost, args.repair_len);
    let floor = contest(&floor, &corpus, folder, args.rounds, told)?.remove(0).medians()[MB_PER_S];
    let mut ours = Measured::new(OURS, bithealth::version());
    for round in 0..args.rounds {
        ours.rounds.push(repair(&corpus)?);
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    fs::remove_dir_all(&corpus.folder)?;
    let mib = args.repair_len as f64 / f64::from(1 << 20);
    let title =
        format!("one of {} nodes is lost, {mib:.0} MiB coded {K}-of-6; medians of {} rounds", NODES.len(), args.rounds);
    let columns = [(MB_PER_S, 1), (SECONDS, 2), (REBUILT, 1), (READ_PER_S, 0), (CPU_PER_GB, 2), (RSS, 0), (LARGEST, 0)];
    let physical =
        ("a quarter of what one TLS 1.3 connection brings from file to file here, MB/s", |_: &_| floor / K as f64);
    let mut section = Section::new("repair", title, &columns, physical, vec![ours]);
    let rate = section.median(OURS, MB_PER_S);
    section.goal("MB/s rebuilt", rate, Due::AtLeast(MB_PER_S_LEAST));
    section.note(NOTES);
    Ok(section)
}

fn repair(corpus: &Corpus) -> Result<Numbers> {
    let mut cluster = Cluster::start_with(&NODES, |clinic| {
        clinic.configure("repair_after_ms", SILENCE_MS);
        clinic.configure("repair_look_ms", LOOK_MS);
        clinic.configure("repair_bytes_per_s", "0");
        clinic.configure("widen_ms", "300");
    });
    cluster[NODES[0]].put_replicated(&the_file(corpus)?, &SURVIVE);
    wait(&cluster[NODES[0]], is_whole)?;
    cluster[LOST].kill();
    let left = processes(&cluster);
    wait(&cluster[NODES[0]], |status| missing(status) > 0)?;
    let mut seconds = 0.0;
    let mut cost = beside(&left, || {
        let began = Instant::now();
        wait(&cluster[NODES[0]], |status| missing(status) == 0 && is_whole(status))?;
        seconds = began.elapsed().as_secs_f64();
        Ok(Cost::default())
    })?;
    cost.wall_s = seconds;
    let rebuilt: u64 = cluster.clinics().iter().filter(|clinic| clinic.is_up()).map(rebuilt).sum();
    ensure!(rebuilt > 0, "{LOST} held nothing");
    let mut told = numbers(&cost, rebuilt);
    let read = rebuilt as f64 * K as f64 / 1e6 / seconds;
    told.extend([(SECONDS, seconds), (REBUILT, rebuilt as f64 / 1e6), (READ_PER_S, read)]);
    Ok(told)
}

fn missing(status: &Value) -> u64 {
    status["repair"]["missing_shards"].as_u64().unwrap_or_default()
}

/// All packs stand with full margin.
fn is_whole(status: &Value) -> bool {
    let margins = status["repair"]["margins"].as_array().map(Vec::as_slice).unwrap_or_default();
    !margins.is_empty() && margins.iter().all(|at| at["margin"] == FULL_MARGIN)
}

fn rebuilt(clinic: &Clinic) -> u64 {
    clinic.status()["repair"]["rebuilt_bytes"].as_u64().unwrap_or_default()
}

fn wait(clinic: &Clinic, look: impl Fn(&Value) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let status = clinic.status();
        if look(&status) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "after {} s: {}", PATIENCE.as_secs(), status["repair"]);
        thread::sleep(LOOK_EVERY);
    }
}
