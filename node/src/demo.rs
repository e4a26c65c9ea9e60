//! `bithealth demo`: the main job on one machine. Clinics of several regions keep one another's records; a region is
//! lost; another clinic reads what it was given, a third one cannot, and a clinic that lost everything gets it all back.

pub mod generate;

mod cluster;
mod report;

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use bithealth_http::api::{PutEvent, RecordInfo, RecordState};
use bithealth_types::ByteLen;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::signal::unix::{SignalKind, signal};

use cluster::{Clinic, wait_until_joined};
use generate::{Generator, large};
pub use report::Report;
use report::Teller;

/// What is put when no files are named: 200 MiB in all.
const RECORDS: usize = 5_000;
const PATIENTS: usize = 200;
const JSON_BYTES: u64 = 100 << 20;
const IMAGE_BYTES: u64 = 100 << 20;
const SEED: u64 = 2016;
/// How long all nodes may take to find one another.
const JOIN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the shards may take to their places.
const REPLICATE_TIMEOUT: &str = "3m";

/// What to play.
#[derive(Clone, Debug)]
pub struct DemoArgs {
    /// Regions.
    pub regions: u32,
    /// Nodes in each.
    pub nodes_per_region: u32,
    /// What to put instead of made-up records.
    pub records: Option<PathBuf>,
    /// The regions and clinics to lose; the first region if none.
    pub lose: Vec<String>,
    /// One line of JSON at the end, instead of a table.
    pub json: bool,
    /// Whether the nodes go on running.
    pub keep: bool,
}

/// Runs the demo.
///
/// # Errors
/// If a step fails, because more was lost than the policy promises or this machine refuses something; or if a record
/// did not come back identical.
pub async fn run(args: DemoArgs) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new().prefix("bithealth-demo-").tempdir().context("no folder for the demo")?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut demo = Demo::new(folder.path(), &args, Teller::new(args.json));
    let outcome = tokio::select! {
        outcome = demo.play() => outcome,
        _ = interrupt.recv() => Err(anyhow::anyhow!("interrupted; the nodes are stopped and their folders deleted")),
        _ = terminate.recv() => Err(anyhow::anyhow!("terminated; the nodes are stopped and their folders deleted")),
    };
    let report = outcome?;
    demo.teller.finish(&report)?;
    if args.keep {
        let kept = folder.keep();
        demo.release(&kept);
    }
    ensure!(report.mismatches == 0, "{} records are missing or changed", report.mismatches);
    Ok(())
}

struct Demo {
    folder: PathBuf,
    clinics: Vec<Clinic>,
    records: Option<PathBuf>,
    lose: Vec<String>,
    teller: Teller,
}

impl Demo {
    fn new(folder: &Path, args: &DemoArgs, teller: Teller) -> Self {
        let regions = (1..=args.regions).map(region_name);
        let clinics = regions.flat_map(|region| {
            (1..=args.nodes_per_region).map(move |number| Clinic::new(folder, &region, number)).collect::<Vec<_>>()
        });
        let lose = if args.lose.is_empty() { vec![region_name(1)] } else { args.lose.clone() };
        Self { folder: folder.to_owned(), clinics: clinics.collect(), records: args.records.clone(), lose, teller }
    }

    async fn play(&mut self) -> anyhow::Result<Report> {
        let lost: Vec<usize> = (0..self.clinics.len()).filter(|at| self.is_lost(&self.clinics[*at])).collect();
        for name in &self.lose {
            let known = self.clinics.iter().any(|clinic| clinic.region == *name || clinic.name == *name);
            ensure!(known, "no clinic and no region is called {name}; regions are {}", self.region_names());
        }
        // The clinic that puts everything loses everything; readers stand where nothing is lost.
        let home = lost[0];
        let away: Vec<usize> = (0..self.clinics.len()).filter(|at| !lost.contains(at)).collect();
        ensure!(!away.is_empty(), "that is everything there is; name a part of it");
        let (reader, stranger) = (away[0], away.get(1).copied());

        self.start_network().await?;
        let source = self.make_records().await?;
        let put = self.put(home, reader, &source).await?;
        let kit = self.folder.join("kit.txt");
        let kit_path = kit.display().to_string();
        self.clinics[home].ask_lines::<Value>(&["kit", "--output", &kit_path]).await?;
        let listed: Vec<RecordInfo> = self.clinics[home].ask_lines(&["ls", "--own"]).await?;
        let stored_bytes = self.stored_bytes().await?;
        let peak_memory = self.clinics.iter().map(Clinic::peak_memory).max().unwrap_or(0);

        let nodes_killed = self.lose_nodes(&lost).await?;
        let read_one_ms = self.read_one(reader, &listed, &source).await?;
        let refused = match stranger {
            Some(stranger) => Some(self.try_to_read(stranger, &listed[0]).await?),
            None => None,
        };
        let restored = self.restore(home, &kit).await?;
        let (restored_records, restored_bytes, mismatches) = compare(&source, &restored.folder)?;
        Ok(Report {
            records: put.records,
            bytes: put.bytes,
            sealed_bytes: put.sealed_bytes,
            stored_bytes,
            put_mb_s: mb_s(put.bytes, put.local),
            replicated_s: put.replicated.as_secs_f64(),
            lost_region: self.lose.join(", "),
            nodes: self.clinics.len() as u64,
            nodes_killed,
            read_one_ms: read_one_ms.as_secs_f64() * 1000.0,
            refused,
            restored_records,
            restored_bytes,
            restore_s: restored.time.as_secs_f64(),
            restore_mb_s: mb_s(restored_bytes, restored.time),
            mismatches,
            peak_memory_bytes: peak_memory,
        })
    }

    fn is_lost(&self, clinic: &Clinic) -> bool {
        self.lose.iter().any(|name| clinic.region == *name || clinic.name == *name)
    }

    fn region_names(&self) -> String {
        let mut names: Vec<&str> = self.clinics.iter().map(|clinic| clinic.region.as_str()).collect();
        names.dedup();
        names.join(", ")
    }

    async fn start_network(&mut self) -> anyhow::Result<()> {
        let count = self.clinics.len();
        self.teller.step(format!("starting {count} nodes, each an organisation of its own"));
        let (founder, others) = self.clinics.split_first_mut().context("a network has at least one node")?;
        founder.init().await?;
        founder.start().await?;
        // While it is alone it invites by itself; later a quorum of the members would have to approve.
        let mut invites = Vec::new();
        for clinic in others.iter() {
            invites.push(founder.invite(clinic).await?);
        }
        for (clinic, invite) in others.iter_mut().zip(&invites) {
            clinic.join(invite).await?;
            clinic.start().await?;
        }
        wait_until_joined(&self.clinics, count, JOIN_TIMEOUT).await?;
        self.teller.done(format!("{count} nodes in regions {} know one another", self.region_names()));
        Ok(())
    }

    async fn make_records(&mut self) -> anyhow::Result<PathBuf> {
        if let Some(records) = &self.records {
            ensure!(records.exists(), "{} does not exist", records.display());
            return Ok(records.clone());
        }
        self.teller.step(format!(
            "making {RECORDS} FHIR records of {PATIENTS} patients and an image of {}",
            ByteLen(IMAGE_BYTES)
        ));
        let folder = self.folder.join("records");
        let made = folder.clone();
        tokio::task::spawn_blocking(move || make_records(&made)).await.expect("making records does not panic")?;
        self.teller.done("made, for this demo only: nobody in them exists".to_owned());
        Ok(folder)
    }

    async fn put(&mut self, home: usize, reader: usize, source: &Path) -> anyhow::Result<Put> {
        let (from, to) = (self.clinics[home].name.clone(), self.clinics[reader].name.clone());
        self.teller.step(format!("{from} puts them, for {to} to read as well, and waits until they are replicated"));
        let source = source.display().to_string();
        let args = ["put", &source, "--for", &to, "--wait", "replicated", "--timeout", REPLICATE_TIMEOUT];
        let mut command = self.clinics[home].command(&args)?;
        let started = Instant::now();
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
        let (mut local, mut done) = (None, None);
        let mut records = 0;
        while let Some(line) = lines.next_line().await? {
            match serde_json::from_str::<PutEvent>(&line) {
                Ok(PutEvent::Record { .. }) => {
                    records += 1;
                    local = Some(started.elapsed());
                }
                Ok(PutEvent::Failed { name, error }) => bail!("{name} was not taken: {error}"),
                Ok(event @ PutEvent::Done { .. }) => done = Some(event),
                _ => {}
            }
        }
        let output = child.wait_with_output().await?;
        let Some(PutEvent::Done { bytes, sealed_bytes, state, why_not, .. }) = done else {
            bail!("the put failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        };
        let replicated = started.elapsed();
        ensure!(state == RecordState::Replicated, "the records are not replicated: {}", why_not.join("; "));
        let local = local.unwrap_or(replicated);
        self.teller.done(format!(
            "{records} records, {bytes}: local in {:.1} s, replicated in {:.1} s",
            local.as_secs_f64(),
            replicated.as_secs_f64()
        ));
        Ok(Put { records, bytes: bytes.0, sealed_bytes: sealed_bytes.0, local, replicated })
    }

    async fn stored_bytes(&self) -> anyhow::Result<u64> {
        let mut bytes = 0;
        for clinic in &self.clinics {
            bytes += clinic.status().await?.bytes.stored.0;
        }
        Ok(bytes)
    }

    async fn lose_nodes(&mut self, lost: &[usize]) -> anyhow::Result<u64> {
        self.teller.step(format!("killing every node of {} and deleting their folders", self.lose.join(", ")));
        for at in lost {
            self.clinics[*at].kill().await?;
            self.clinics[*at].delete()?;
        }
        self.teller.done(format!("{} of {} nodes are gone for good", lost.len(), self.clinics.len()));
        Ok(lost.len() as u64)
    }

    /// Reads one record as an organisation it was sealed for.
    async fn read_one(&mut self, reader: usize, listed: &[RecordInfo], source: &Path) -> anyhow::Result<Duration> {
        let name = self.clinics[reader].name.clone();
        self.teller.step(format!("{name} reads one of the lost clinic's records"));
        let wanted = listed.iter().min_by_key(|record| record.bytes.0).context("nothing was put")?;
        let target = self.folder.join("read-one");
        let (record, path) = (wanted.record.to_string(), target.display().to_string());
        let started = Instant::now();
        self.clinics[reader].ask_lines::<Value>(&["get", &record, "--output", &path]).await?;
        let time = started.elapsed();
        let original = find(source, &wanted.name);
        ensure!(fs::read(&target)? == fs::read(&original)?, "{} came back changed", wanted.name);
        self.teller.done(format!(
            "{} of {} in {:.0} ms",
            wanted.bytes,
            shown(&wanted.name),
            time.as_secs_f64() * 1000.0
        ));
        Ok(time)
    }

    /// A clinic nothing was sealed for fetches all shards of the pack and still cannot open it.
    async fn try_to_read(&mut self, stranger: usize, record: &RecordInfo) -> anyhow::Result<String> {
        let name = self.clinics[stranger].name.clone();
        self.teller.step(format!("{name}, which was given nothing, tries the same"));
        let id = record.record.to_string();
        let refusal = |error: anyhow::Error| error.to_string().lines().next().unwrap_or_default().to_owned();
        let by_id = match self.clinics[stranger].ask_lines::<Value>(&["get", &id, "--output", "-"]).await {
            Ok(_) => bail!("{name} read a record it was not given"),
            Err(error) => refusal(error),
        };
        let salted: Vec<RecordInfo> = self.clinics[stranger].ask_lines(&["ls"]).await?;
        ensure!(salted.is_empty(), "{name} lists records it was not given");
        let by_shards = match self.clinics[stranger].ask_lines::<Value>(&["open-foreign"]).await {
            Ok(_) => bail!("{name} opened a pack that was not sealed for it"),
            Err(error) => refusal(error),
        };
        self.teller.done(format!("refused: {by_id}"));
        self.teller.done(format!("and with all shards in hand: {by_shards}"));
        Ok(by_shards)
    }

    async fn restore(&mut self, home: usize, kit: &Path) -> anyhow::Result<Restored> {
        let name = self.clinics[home].name.clone();
        self.teller.step(format!("{name} restores onto an empty machine, given nothing but its recovery kit"));
        let folder = self.folder.join("restored");
        let clinic = Clinic::new(&self.folder, &format!("{}-new", self.clinics[home].region), 1);
        let started = Instant::now();
        let mut missing = Vec::new();
        let status = clinic.restore(kit, &folder, |line| missing.extend(reason_of_failure(line))).await?;
        if !status.success() {
            missing.dedup();
            let why = if missing.is_empty() { clinic.last_words() } else { missing.join("\n  ") };
            bail!("not everything came back: more was lost than the policy promises to survive\n  {why}");
        }
        let time = started.elapsed();
        self.teller.done(format!("everything back in {:.1} s", time.as_secs_f64()));
        Ok(Restored { folder, time })
    }

    /// Leaves the nodes running and says how to play with them.
    fn release(&mut self, folder: &Path) {
        let clinics: Vec<&mut Clinic> = self.clinics.iter_mut().filter(|clinic| clinic.is_up()).collect();
        let mut processes = Vec::new();
        for clinic in clinics {
            let home = clinic.home().to_owned();
            if let Some(id) = clinic.release() {
                processes.push(id.to_string());
                eprintln!("  bithealth --data-dir {} status", home.display());
            }
        }
        eprintln!("\n{} nodes go on running. To stop them and delete everything:", processes.len());
        eprintln!("  kill {} && rm -r {}", processes.join(" "), folder.display());
    }
}

/// Why a pack did not come back, if a line of the restore's JSON says so.
fn reason_of_failure(line: &str) -> Option<String> {
    let event: Value = serde_json::from_str(line).ok()?;
    let failed = event.get("event")? == "failed";
    failed.then(|| event.get("reason").and_then(Value::as_str).map(str::to_owned)).flatten()
}

struct Put {
    records: u64,
    bytes: u64,
    sealed_bytes: u64,
    local: Duration,
    replicated: Duration,
}

struct Restored {
    folder: PathBuf,
    time: Duration,
}

fn region_name(number: u32) -> String {
    const NAMES: [&str; 6] = ["north", "south", "east", "west", "coast", "island"];
    let at = number as usize - 1;
    NAMES.get(at).map_or_else(|| format!("region{number}"), |name| (*name).to_owned())
}

fn mb_s(bytes: u64, time: Duration) -> f64 {
    bytes as f64 / 1e6 / time.as_secs_f64().max(1e-9)
}

/// A name short enough for a line.
fn shown(name: &str) -> &str {
    name.rsplit('/').next().unwrap_or(name)
}

fn make_records(folder: &Path) -> anyhow::Result<()> {
    for document in Generator::new(SEED, PATIENTS, RECORDS, JSON_BYTES) {
        let patient = document.patient.rsplit('|').next().unwrap_or("none").to_owned();
        let within = folder.join(patient).join(document.category);
        fs::create_dir_all(&within)?;
        fs::write(within.join(&document.name), &document.bytes)?;
    }
    let mut image = fs::File::create(folder.join("scan.dcm"))?;
    let mut reader = large(SEED, IMAGE_BYTES);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(()),
            len => image.write_all(&buffer[..len])?,
        }
    }
}

/// The file a record was made from: records of a folder are named by their path, with the folder's own name in front
/// or not.
fn find(source: &Path, name: &str) -> PathBuf {
    let direct = source.join(name);
    if direct.exists() || source.is_file() {
        return if source.is_file() { source.to_owned() } else { direct };
    }
    source.parent().map_or(direct, |parent| parent.join(name))
}

/// Compares two folders byte for byte: files of the first that came back, their bytes, and files that differ or lack.
fn compare(source: &Path, restored: &Path) -> anyhow::Result<(u64, u64, u64)> {
    let (mut records, mut bytes, mut mismatches) = (0, 0, 0);
    for path in files(source)? {
        let relative = path.strip_prefix(source).unwrap_or(&path);
        let candidates =
            [restored.join(relative), restored.join(source.file_name().unwrap_or_default()).join(relative)];
        let original = fs::read(&path)?;
        match candidates.iter().find_map(|candidate| fs::read(candidate).ok()) {
            Some(copy) if copy == original => {
                records += 1;
                bytes += copy.len() as u64;
            }
            _ => mismatches += 1,
        }
    }
    Ok((records, bytes, mismatches))
}

fn files(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(path).with_context(|| format!("{} cannot be read", path.display()))? {
        let entry = entry?;
        match entry.file_type()? {
            kind if kind.is_dir() => found.extend(files(&entry.path())?),
            kind if kind.is_file() => found.push(entry.path()),
            _ => {}
        }
    }
    Ok(found)
}
