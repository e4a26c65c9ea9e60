//! A node is lost for good: how fast the others rebuild what it held.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use bithealth_tests::{Clinic, Cluster};

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
const FULL_MARGIN: &str = "2";
/// Who is lost: one that holds what others wrote, or the author of all.
const LOST: [&str; 2] = ["south-1", NODES[0]];

const OURS: [&str; 2] = ["BitHealth", "BitHealth, author lost"];
/// From the start of rebuilding until all packs stand with full margin again.
const SECONDS: &str = "s";
/// Bytes rebuilt.
const REBUILT: &str = "MB rebuilt";
/// Bytes that came from others for it, for each one rebuilt.
const READ: &str = "read";

const MB_PER_S_LEAST: f64 = 150.0;
/// How long a node may be silent before it counts as lost, and how often the others look.
const SILENCE_MS: &str = "3000";
const LOOK_MS: &str = "100";
/// Between two looks at the metrics of the others.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(300);

const NOTES: &[&str] = &[
    "Speed and processor time are those of bytes rebuilt, as the metrics of the nodes count them, and so is what came from \
     others for each of them; all nodes share this machine. An author codes the lost shard from its pack and sends it; if \
     the author is lost, who rebuilds takes four other shards. Rebuilding begins when the first node that is left counts \
     shards as missing, and ends when none does and all packs stand with full margin in everybody's eyes. The bound on what \
     repair reads is off.",
];

/// Loses one node, with packs on it, in each round.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let floor: [Box<dyn Tool>; 1] = [Box::new(tls::Floor)];
    let corpus = Corpus::large_of(folder, 200, args.repair_len)?;
    let told = |cost: &Cost| numbers(cost, args.repair_len);
    let floor = contest(&floor, &corpus, folder, args.rounds, told)?.remove(0).medians()[MB_PER_S];
    let mut ours = OURS.map(|name| Measured::new(name, bithealth::version()));
    for round in 0..args.rounds {
        for (row, lost) in ours.iter_mut().zip(LOST) {
            row.rounds.push(repair(&corpus, lost)?);
        }
        eprintln!("round {} of {}", round + 1, args.rounds);
    }
    fs::remove_dir_all(&corpus.folder)?;
    let mib = args.repair_len as f64 / f64::from(1 << 20);
    let title =
        format!("one of {} nodes is lost, {mib:.0} MiB coded {K}-of-6; medians of {} rounds", NODES.len(), args.rounds);
    let columns = [(MB_PER_S, 1), (SECONDS, 2), (REBUILT, 1), (READ, 2), (CPU_PER_GB, 2), (RSS, 0), (LARGEST, 0)];
    let shards = |row: &Measured| if row.tool == OURS[0] { 1 } else { K };
    let physical =
        "what one TLS 1.3 connection brings from file to file here, a quarter of it if the author is lost, MB/s";
    let limit = move |row: &Measured| floor / shards(row) as f64;
    let mut section = Section::new("repair", title, &columns, (physical, limit), ours.into());
    let rate = section.median(OURS[0], MB_PER_S);
    section.goal("MB/s rebuilt", rate, Due::AtLeast(MB_PER_S_LEAST));
    section.note(NOTES);
    Ok(section)
}

fn repair(corpus: &Corpus, lost: &str) -> Result<Numbers> {
    let mut cluster = Cluster::start_with(&NODES, |clinic| {
        clinic.configure("repair_after_ms", SILENCE_MS);
        clinic.configure("repair_look_ms", LOOK_MS);
        clinic.configure("repair_bytes_per_s", "0");
        clinic.configure("widen_ms", "300");
        clinic.configure_also("metrics_listen", "\"127.0.0.1:0\"");
    });
    cluster[NODES[0]].put_replicated(&the_file(corpus)?, &SURVIVE);
    wait(&cluster, |seen| seen.is_whole())?;
    cluster[lost].kill();
    let processes = processes(&cluster);
    wait(&cluster, |seen| seen.missing > 0.0)?;
    let mut seconds = 0.0;
    let mut cost = beside(&processes, || {
        let began = Instant::now();
        wait(&cluster, |seen| seen.missing == 0.0 && seen.is_whole())?;
        seconds = began.elapsed().as_secs_f64();
        Ok(Cost::default())
    })?;
    cost.wall_s = seconds;
    let Seen { rebuilt, read, .. } = Seen::now(&cluster);
    ensure!(rebuilt > 0.0, "{lost} held nothing");
    let mut told = numbers(&cost, rebuilt as u64);
    told.extend([(SECONDS, seconds), (REBUILT, rebuilt / 1e6), (READ, read / rebuilt)]);
    Ok(told)
}

/// How the nodes that are up see repair. Asking for their metrics costs them less than a command would.
#[derive(Debug, Default)]
struct Seen {
    /// Shards, by whoever counts most.
    missing: f64,
    /// Bytes, by all.
    rebuilt: f64,
    /// Bytes of leaves that came for repair, to all.
    read: f64,
    /// Packs below full margin, by whoever counts most, and all that one knows.
    endangered: f64,
    packs: f64,
}

impl Seen {
    fn now(cluster: &Cluster) -> Self {
        let mut seen = Self::default();
        for page in cluster.clinics().iter().filter(|clinic| clinic.is_up()).map(Clinic::metrics) {
            let packs = page.value("bithealth_packs", &[]);
            let whole = page.value("bithealth_packs", &[("margin", FULL_MARGIN)]);
            seen.missing = seen.missing.max(page.value("bithealth_repair_missing_shards", &[]));
            seen.rebuilt += page.value("bithealth_repair_rebuilt_bytes_total", &[]);
            seen.read += page.value("bithealth_exchange_received_bytes_total", &[("purpose", "repair")]);
            seen.packs = seen.packs.max(packs);
            seen.endangered = seen.endangered.max(packs - whole);
        }
        seen
    }

    /// All packs stand with full margin, in everybody's eyes.
    fn is_whole(&self) -> bool {
        self.packs > 0.0 && self.endangered == 0.0
    }
}

fn wait(cluster: &Cluster, look: impl Fn(&Seen) -> bool) -> Result<()> {
    let began = Instant::now();
    loop {
        let seen = Seen::now(cluster);
        if look(&seen) {
            return Ok(());
        }
        ensure!(began.elapsed() < PATIENCE, "after {} s: {seen:?}", PATIENCE.as_secs());
        thread::sleep(LOOK_EVERY);
    }
}
