//! Nodes that decide under load: how long from an entry to the block that makes it final.
//!
//! The nodes are real processes. A member whose node is this program writes all entries, and hears what the nodes gossip:
//! proposals, headers, and the bodies that say which entries a header covers.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use bithealth::outbox::Batch;
use bithealth_net::{Event, Events, Topic, Verdict};
use bithealth_proto::v1::{self, consensus_message::Message, entry::Operation};
use bithealth_proto::{decode, digest, encode};
use bithealth_tests::{Clinic, Cluster, Guest, wait_until};
use bytes::Bytes;
use clap::ValueEnum;
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use serde::Serialize;

use crate::LedgerArgs;
use crate::process::{peak_rss, running_cpu};
use crate::sample::median;

/// The member that writes.
const AUTHOR: &str = "bench-1";
/// How long the last entries may take to be final.
const PATIENCE: Duration = Duration::from_secs(60);
/// Entries are written and gossiped in turns this long, as a node does.
const TURN: Duration = Duration::from_millis(50);

/// What is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Entries {
    /// Commits of packs of nine shards that another organisation may read: about 1.8 KB each
    Packs,
    /// Notarised digests: about 250 bytes each
    Notes,
}

/// What was measured.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    nodes: u32,
    seconds: u32,
    entries: Entries,
    entry_len: f64,
    entries_per_s: f64,
    kib_per_s: f64,
    blocks: usize,
    /// Of all nodes together, for each second of the load.
    cpu_s_per_s: f64,
    /// Of the largest node.
    rss_mib: f64,
    rows: Vec<Row>,
}

/// A figure, and what it may be at most.
#[derive(Debug, Serialize)]
struct Row {
    what: &'static str,
    unit: &'static str,
    median: f64,
    p99: f64,
    limit: f64,
}

/// What was seen of the load.
#[derive(Default)]
struct Seen {
    /// When each entry was written.
    written: Vec<Instant>,
    /// Of them those that are final, and how long each took.
    waited: Vec<f64>,
    /// When each height was first proposed.
    proposed: BTreeMap<u64, Instant>,
    /// How long after that its header was first heard with a certificate.
    decided: BTreeMap<u64, f64>,
    /// Bytes of each header with its certificate.
    header_lens: Vec<f64>,
}

impl Seen {
    /// Entries that were written, and those of them that are final.
    fn counts(&self) -> (usize, usize) {
        (self.written.len(), self.waited.len())
    }
}

struct Observer {
    guest: Arc<Guest>,
    seen: Mutex<Seen>,
}

/// Runs nodes and a load on them.
pub(crate) fn measure(args: &LedgerArgs) -> Result<Report> {
    let names: Vec<String> =
        (0..args.nodes).map(|index| format!("{}-{}", ["n", "s", "e"][index as usize % 3], index)).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    eprintln!("{} nodes", names.len());
    let cluster = Cluster::start(&names);
    let author = cluster.join_without_process(AUTHOR, voters(&cluster, &names));
    let runtime = tokio::runtime::Runtime::new()?;
    let (guest, events) = runtime.block_on(Guest::start(&author));
    let observer = Arc::new(Observer { guest, seen: Mutex::default() });
    runtime.spawn(observer.clone().run(events));
    cluster.wait_until_joined(names.len() + 1);
    without_vote(&cluster, &names);

    eprintln!("{} KiB/s of entries for {} s", args.rate_kib, args.seconds);
    let nodes: Vec<u32> = cluster.clinics().iter().filter_map(Clinic::process).collect();
    let cpu = || nodes.iter().map(|pid| running_cpu(*pid)).sum::<Result<f64>>();
    observer.seen().header_lens.clear(); // of headers with which validators changed
    let (cpu_before, began) = (cpu()?, Instant::now());
    let len = runtime.block_on(observer.write(args))?;
    let (wall_s, cpu_s) = (began.elapsed().as_secs_f64(), cpu()? - cpu_before);
    runtime.block_on(observer.wait())?;
    let rss = nodes.iter().map(|pid| peak_rss(*pid)).collect::<Result<Vec<u64>>>()?;
    let seen = observer.seen();
    let count = seen.written.len() as f64;
    Ok(Report {
        nodes: args.nodes,
        seconds: args.seconds,
        entries: args.entries,
        entry_len: len as f64 / count,
        entries_per_s: count / wall_s,
        kib_per_s: len as f64 / 1024.0 / wall_s,
        blocks: seen.decided.len(),
        cpu_s_per_s: cpu_s / wall_s,
        rss_mib: rss.into_iter().max().unwrap_or_default() as f64 / f64::from(1 << 20),
        rows: vec![
            Row::new("entry to final", "s", &seen.waited, 2.5),
            Row::new("proposal to certificate", "s", &seen.decided.values().copied().collect::<Vec<_>>(), 1.0),
            Row::new("header and certificate", "B", &seen.header_lens, 1536.0),
        ],
    })
}

/// Who makes a quorum together with the first.
fn voters<'a>(cluster: &Cluster, names: &'a [&'a str]) -> &'a [&'a str] {
    let quorum = cluster[names[0]].status()["finality"]["quorum"].as_u64().expect("a status tells the quorum");
    &names[1..usize::try_from(quorum).expect("few")]
}

/// Takes the vote from the author, whose node says nothing: else each round that is its turn would wait for it.
fn without_vote(cluster: &Cluster, names: &[&str]) {
    cluster[names[0]].done(&["admin", "propose", "voting", AUTHOR, "off"]);
    for name in voters(cluster, names) {
        wait_until(&format!("{name} approves"), || match cluster[*name].approve_all() {
            0 => Err("nothing was proposed".to_owned()),
            _ => Ok(()),
        });
    }
    for name in names {
        cluster[*name].wait_for("the author votes no more", |it| it["finality"]["validators"] == names.len());
    }
}

impl Observer {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().expect("no holder panics")
    }

    async fn run(self: Arc<Self>, mut events: Events) {
        while let Some(event) = self.guest.next(&mut events).await {
            let Event::Gossip { topic, from, id, bytes } = event else { continue };
            let now = Instant::now();
            match topic {
                Topic::Consensus => self.hear(now, &bytes),
                Topic::Headers => drop(tokio::spawn(self.clone().follow(now, from, bytes))),
                Topic::Entries => {}
            }
            let _ = self.guest.net.judge(id, from, Verdict::Ignore).await; // the nodes know one another
        }
    }

    fn hear(&self, now: Instant, bytes: &[u8]) {
        if let Ok(v1::ConsensusMessage { message: Some(Message::Proposal(proposal)), .. }) = decode(bytes) {
            self.seen().proposed.entry(proposal.height).or_insert(now);
        }
    }

    /// Notes what a header makes final.
    async fn follow(self: Arc<Self>, now: Instant, from: bithealth_types::NodeId, bytes: Bytes) {
        let Ok(v1::SignedHeader { header: Some(header), .. }) = decode(&bytes) else { return };
        {
            let mut seen = self.seen();
            seen.header_lens.push(bytes.len() as f64);
            let Some(proposed) = seen.proposed.get(&header.height).copied() else { return };
            let took = (now - proposed).as_secs_f64();
            if seen.decided.insert(header.height, took).is_some() {
                return; // another validator's certificate of the same header
            }
        }
        let Some(body) = self.guest.body(from, header.height, digest(&header).as_bytes()).await else { return };
        let len = body.frontier.iter().find(|log| log.author == self.guest.author()).map_or(0, |log| log.len);
        let mut seen = self.seen();
        for sequence in seen.waited.len()..usize::try_from(len).expect("written here") {
            let took = (now - seen.written[sequence]).as_secs_f64();
            seen.waited.push(took);
        }
    }

    /// Writes entries for the time, at the rate; returns their bytes.
    async fn write(&self, args: &LedgerArgs) -> Result<u64> {
        let mut random = ChaCha20Rng::seed_from_u64(0);
        let (began, mut len) = (Instant::now(), 0_u64);
        let mut turns = tokio::time::interval(TURN);
        while began.elapsed().as_secs() < u64::from(args.seconds) {
            turns.tick().await;
            let due = began.elapsed().as_secs_f64() * f64::from(args.rate_kib) * 1024.0;
            let mut batch = Batch::default();
            while (len as f64) < due {
                let time_ms = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis();
                let signed = self.guest.write(u64::try_from(time_ms)?, args.entries.next(&mut random));
                len += encode(&signed).len() as u64;
                self.seen().written.push(Instant::now());
                if let Err(signed) = batch.add(signed) {
                    self.publish(&std::mem::take(&mut batch)).await?;
                    batch.add(signed).expect("an empty batch takes any");
                }
            }
            self.publish(&batch).await?;
        }
        Ok(len)
    }

    async fn publish(&self, batch: &Batch) -> Result<()> {
        self.guest.net.publish(Topic::Entries, batch.message().into()).await.context("the nodes take no entries")
    }

    /// Until all is final.
    async fn wait(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            let (written, r#final) = self.seen().counts();
            if r#final == written {
                return Ok(());
            }
            ensure!(began.elapsed() < PATIENCE, "of {written} entries {} are final", r#final);
            tokio::time::sleep(TURN).await;
        }
    }
}

impl Entries {
    fn next(self, random: &mut ChaCha20Rng) -> Operation {
        let mut bytes = |len: usize| {
            let mut bytes = vec![0; len];
            random.fill_bytes(&mut bytes);
            Bytes::from(bytes)
        };
        match self {
            Self::Notes => Operation::Notarise(v1::Notarise { commitment: bytes(32) }),
            Self::Packs => Operation::CommitPack(v1::PackCommit {
                pack: Some(v1::PackDescriptor {
                    salt: bytes(32),
                    len: 300_000,
                    k: 3,
                    n: 9,
                    roots: (0..9).map(|_| bytes(32)).collect(),
                    catalog_len: 900,
                }),
                height: 1,
                exceptions: Vec::new(),
                heads_root: bytes(32),
                wraps: vec![bytes(1168)],
                policy: Some(v1::Policy { survive_regions: 1, survive_nodes: 1, ..v1::Policy::default() }),
            }),
        }
    }
}

impl Row {
    fn new(what: &'static str, unit: &'static str, numbers: &[f64], limit: f64) -> Self {
        Self { what, unit, median: median(numbers.to_vec()), p99: p99(numbers.to_vec()), limit }
    }

    fn holds(&self) -> bool {
        self.p99 <= self.limit
    }
}

/// What 99 of 100 are at most. 0 for none.
fn p99(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    let index = (numbers.len() * 99).div_ceil(100).saturating_sub(1);
    numbers.get(index).copied().unwrap_or_default()
}

impl Report {
    /// Whether every figure is within its limit.
    pub(crate) fn holds(&self) -> bool {
        self.rows.iter().all(Row::holds)
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("numbers and texts"));
            return;
        }
        let Self { nodes, seconds, entry_len, entries_per_s, kib_per_s, blocks, cpu_s_per_s, rss_mib, .. } = self;
        println!("{nodes} nodes, {seconds} s, {blocks} blocks");
        println!("{entries_per_s:.0} entries/s of {entry_len:.0} bytes: {kib_per_s:.0} KiB/s");
        println!("{cpu_s_per_s:.2} processor seconds a second in all nodes, {rss_mib:.0} MiB in the largest\n");
        println!("{:<26}{:>4}{:>10}{:>10}{:>10}", "", "", "median", "p99", "limit");
        for row in &self.rows {
            let Row { what, unit, median, p99, limit } = row;
            let missed = if row.holds() { "" } else { "  missed" };
            println!("{what:<26}{unit:>4}{median:>10.2}{p99:>10.2}{limit:>10.2}{missed}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_hundred_the_second_largest_counts() {
        assert_eq!(p99((0..100).map(f64::from).collect()), 98.0);
        assert_eq!(p99(vec![7.0]), 7.0);
        assert_eq!(p99(vec![]), 0.0);
    }
}
