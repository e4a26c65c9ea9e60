//! The placer of a put: fills packs with what was sealed, in order, and acknowledges what is durable.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bithealth_http::api::{PutEvent, RecordState, Wait};
use bithealth_pack::{Draft, OpenPack, PlacedChunk, RecordError, RecordMeta, SealedChunk, plaintext_digest};
use bithealth_proto::v1;
use bithealth_store::WriteError;
use bithealth_types::{ByteLen, CODED_PACK_LEN_MIN, Height, RecordId};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::again::{Same, unchanged};
use super::seal::{Prepared, Step, content_tag};
use super::{Lane, new_salt};
use crate::node::Node;
use crate::replicate::{Progress, blocking};
use crate::shelf::{Salt, Source, record_id};

/// Packs being written at a time, besides the one that fills: each holds its 16 MiB.
const PACKS_WRITING_MAX: usize = 2;
/// Chunks of a kept record that are sealed again in one job: 1 MiB.
const SAME_AT_ONCE: u32 = 4;

/// What is said of a record that `get --patient` will never bring.
const NOBODYS: &str = "it belongs to no patient: none was named, and none found in it";

/// Fills packs with what was sealed, and acknowledges what is durable.
pub(super) struct Placer {
    node: Arc<Node>,
    lane: Lane,
    events: mpsc::Sender<PutEvent>,
    open: OpenPack,
    /// Sealed records that are not in a pack yet: if the put ends with few of them, they are gathered with others.
    tail: Vec<Prepared>,
    tail_len: usize,
    large: Option<Large>,
    /// Packs on their way to the disk, oldest first: one is written while another is synced.
    writing: VecDeque<JoinHandle<Result<Written, Unwritten>>>,
    salts: Vec<Salt>,
    done: Totals,
}

#[derive(Default)]
struct Totals {
    records: u64,
    unchanged: u64,
    failed: u64,
    bytes: u64,
    sealed_bytes: u64,
    stopped: bool,
}

/// A record of several chunks on its way.
struct Large {
    draft: Draft,
    chunks: Vec<PlacedChunk>,
    /// What came so far, where all of it is kept already: nothing is placed yet.
    same: Option<Same>,
    /// Why it cannot be taken after all.
    lost: Option<String>,
}

/// A pack that is durable.
struct Written {
    salt: Salt,
    len: u64,
    rows: Vec<v1::CatalogRow>,
}

/// A pack that could not be made durable, and the records in it.
struct Unwritten {
    names: Vec<String>,
    error: WriteError,
}

impl Placer {
    pub(super) fn new(node: Arc<Node>, lane: Lane, events: mpsc::Sender<PutEvent>) -> Self {
        Self {
            node,
            lane,
            events,
            open: OpenPack::new(new_salt()),
            tail: Vec::new(),
            tail_len: 0,
            large: None,
            writing: VecDeque::new(),
            salts: Vec::new(),
            done: Totals::default(),
        }
    }

    pub(super) async fn run(mut self, mut jobs: mpsc::Receiver<JoinHandle<Vec<Step>>>, wait: Wait) {
        while let Some(job) = jobs.recv().await {
            for step in job.await.expect("sealing does not panic") {
                self.take(step).await;
            }
        }
        self.finish().await;
        let (state, why_not) = match wait {
            Wait::Local => (RecordState::Local, Vec::new()),
            Wait::Told { timeout_ms } => self.wait_replicated(after(timeout_ms), true).await,
            Wait::Replicated { timeout_ms } => self.wait_replicated(after(timeout_ms), false).await,
            Wait::Final { timeout_ms } => self.wait_final(after(timeout_ms)).await,
        };
        let height = self.covered().filter(|_| state == RecordState::Final);
        let done = PutEvent::Done {
            records: self.done.records,
            unchanged: self.done.unchanged,
            failed: self.done.failed,
            bytes: ByteLen(self.done.bytes),
            sealed_bytes: ByteLen(self.done.sealed_bytes),
            state,
            height,
            why_not,
        };
        self.tell(done).await;
    }

    async fn tell(&self, event: PutEvent) {
        let _ = self.events.send(event).await; // the caller has gone; what it sent is kept all the same
    }

    async fn fail(&mut self, name: String, error: impl ToString) {
        self.done.failed += 1;
        self.tell(PutEvent::Failed { name, error: error.to_string() }).await;
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Small(prepared) => self.on_small(prepared).await,
            Step::Unchanged { name, record, bytes } => self.on_unchanged(name, record, bytes).await,
            Step::Chunks { draft, chunks } => self.on_chunks(draft, chunks).await,
            Step::Same(same) => self.on_same(same).await,
            Step::End { draft, meta } => self.on_end(draft, meta).await,
            Step::Failed { name, error } => {
                self.large = None; // chunks of it that were placed are dead space, named by no row
                self.fail(name, error).await;
            }
        }
    }

    async fn on_unchanged(&mut self, name: String, record: RecordId, bytes: u64) {
        // It is as safe as the pack it has been in since it was first put.
        self.salts.extend(self.node.shelf.salt_of(&record).filter(|salt| !self.salts.contains(salt)));
        self.done.records += 1;
        self.done.unchanged += 1;
        self.done.bytes += bytes;
        let event = PutEvent::Record {
            name,
            record,
            bytes: ByteLen(bytes),
            state: RecordState::Local,
            unchanged: true,
            patient: None,
            warnings: Vec::new(),
        };
        self.tell(event).await;
    }

    async fn on_small(&mut self, prepared: Prepared) {
        if self.done.stopped {
            return self.fail(prepared.meta.name, "not tried: the store takes nothing").await;
        }
        if self.open.is_empty() && self.tail_len + prepared.chunk.bytes.len() < CODED_PACK_LEN_MIN {
            self.tail_len += prepared.chunk.bytes.len();
            self.tail.push(prepared);
            return;
        }
        self.place_tail().await;
        self.place(prepared).await;
    }

    async fn place_tail(&mut self) {
        self.tail_len = 0;
        for prepared in std::mem::take(&mut self.tail) {
            self.place(prepared).await;
        }
    }

    async fn place(&mut self, prepared: Prepared) {
        let chunks = std::slice::from_ref(&prepared.chunk);
        if !self.open.fits_record(chunks, &prepared.meta.media_type) {
            self.close().await;
        }
        let name = prepared.meta.name.clone();
        if let Err(error) = prepared.add_to(&mut self.open, self.node.id()) {
            self.fail(name, error).await;
        }
    }

    /// The large record on its way, which begins with its first chunks.
    fn large(&mut self, draft: &Draft) -> &mut Large {
        self.large.get_or_insert_with(|| Large { draft: draft.clone(), chunks: Vec::new(), same: None, lost: None })
    }

    async fn on_chunks(&mut self, draft: Draft, chunks: Vec<SealedChunk>) {
        if self.done.stopped {
            return;
        }
        if let Some(same) = self.large(&draft).same.take() {
            self.place_same(same).await; // what came before is the same, and must be sealed after all
        }
        self.place_chunks(&draft, chunks).await;
    }

    async fn on_same(&mut self, same: Same) {
        if self.done.stopped {
            return;
        }
        let large = self.large(&same.draft);
        if !large.chunks.is_empty() || large.lost.is_some() {
            return self.place_same(same).await;
        }
        let first = large.same.as_ref().map_or(same.first, |before| before.first);
        large.same = Some(Same { first, count: same.first + same.count - first, ..same });
    }

    /// Seals chunks of a kept record for the one on its way.
    async fn place_same(&mut self, same: Same) {
        let same = Arc::new(same);
        let (mut first, end) = (same.first, same.first + same.count);
        while first < end && self.large(&same.draft).lost.is_none() {
            let (worker, until) = (same.clone(), end.min(first + SAME_AT_ONCE));
            match blocking(move || worker.seal(first, until)).await {
                Ok(chunks) => self.place_chunks(&same.draft, chunks).await,
                Err(error) => self.large(&same.draft).lost = Some(error),
            }
            first = until;
        }
    }

    async fn place_chunks(&mut self, draft: &Draft, chunks: Vec<SealedChunk>) {
        self.place_tail().await;
        for chunk in chunks {
            if !self.open.fits(chunk.bytes.len()) {
                self.close().await;
            }
            let placed = self.open.add_chunk(&chunk).expect("a chunk fits into an empty pack");
            self.large(draft).chunks.push(placed);
        }
    }

    async fn on_end(&mut self, draft: Draft, meta: RecordMeta) {
        let same = self.large.as_mut().and_then(|large| large.same.take());
        if let Some(same) = same {
            let tag = same.kept.digest_of(same.count).map(|digest| content_tag(&self.node, &meta, &digest));
            if let Some(record) = tag.and_then(|tag| unchanged(&self.node, &self.lane, &tag)) {
                self.large = None;
                let bytes = same.kept.len();
                return self.on_unchanged(meta.name, record, bytes).await;
            }
            self.place_same(same).await; // as long as the kept one, or for others, or of another patient
        }
        let Some(large) = self.large.take().filter(|large| large.draft.id() == draft.id() && !self.done.stopped) else {
            return self.fail(meta.name, "not taken: the store takes nothing").await;
        };
        if let Some(error) = large.lost {
            let error = format!("what did not change cannot be read back here ({error}); put it again");
            return self.fail(meta.name, error).await;
        }
        let digests: Vec<_> = large.chunks.iter().map(|chunk| chunk.digest).collect();
        let tag = content_tag(&self.node, &meta, &plaintext_digest(&digests));
        let author = self.node.id();
        let mut added = self.open.add_record(&large.draft, author, large.chunks.clone(), meta.clone(), tag);
        if let Err(RecordError::Full(_)) = added {
            self.close().await;
            added = self.open.add_record(&large.draft, author, large.chunks, meta.clone(), tag);
        }
        if let Err(error) = added {
            self.fail(meta.name, error).await;
        }
    }

    /// The open pack goes to the disk; a fresh one takes its place.
    async fn close(&mut self) {
        let pack = std::mem::replace(&mut self.open, OpenPack::new(new_salt()));
        while self.writing.len() >= PACKS_WRITING_MAX {
            self.await_write().await;
        }
        let (node, lane) = (self.node.clone(), self.lane.clone());
        self.writing.push_back(tokio::task::spawn_blocking(move || write(&node, &lane, pack)));
    }

    /// Waits until the oldest pack being written is durable, and acknowledges its records.
    async fn await_write(&mut self) {
        let Some(writing) = self.writing.pop_front() else { return };
        match writing.await.expect("writing does not panic") {
            Ok(written) => self.acknowledge(written).await,
            Err(Unwritten { names, error }) => {
                self.done.stopped = true;
                for name in names {
                    self.fail(name, &error).await;
                }
            }
        }
    }

    async fn acknowledge(&mut self, written: Written) {
        self.salts.push(written.salt);
        self.done.sealed_bytes += written.len;
        self.acknowledge_rows(&written.rows).await;
        self.node.replication.add(written.salt);
    }

    async fn acknowledge_rows(&mut self, rows: &[v1::CatalogRow]) {
        for row in rows {
            self.done.records += 1;
            self.done.bytes += row.plaintext_len;
            let event = PutEvent::Record {
                name: row.name.clone(),
                record: record_id(row).expect("our own rows have ids"),
                bytes: ByteLen(row.plaintext_len),
                state: RecordState::Local,
                unchanged: false,
                patient: Some(row.patient.clone()).filter(|patient| !patient.is_empty()),
                warnings: row.patient.is_empty().then(|| NOBODYS.to_owned()).into_iter().collect(),
            };
            self.tell(event).await;
        }
    }

    async fn finish(&mut self) {
        if !self.open.is_empty() {
            self.place_tail().await;
            self.close().await;
        }
        while !self.writing.is_empty() {
            self.await_write().await;
        }
        if self.tail.is_empty() {
            return;
        }
        let (node, lane, tail) = (self.node.clone(), self.lane.clone(), std::mem::take(&mut self.tail));
        let names: Vec<String> = tail.iter().map(|prepared| prepared.meta.name.clone()).collect();
        match blocking(move || node.gather.take(&node, &lane, tail)).await {
            Ok(gathered) => {
                self.salts.extend(gathered.salts);
                self.done.sealed_bytes += gathered.sealed_bytes;
                self.acknowledge_rows(&gathered.rows).await;
            }
            Err(error) => {
                for name in names {
                    self.fail(name, &error).await;
                }
            }
        }
    }

    /// Waits until all packs of this put are where they belong, or the time is up; if `told` is enough, until it is known
    /// of each that is not what stands in its way.
    async fn wait_replicated(&mut self, deadline: Instant, told: bool) -> (RecordState, Vec<String>) {
        let mut changes = self.node.replication.watch();
        let mut last_replicated = 0;
        loop {
            let progress: Vec<_> = self.salts.iter().map(|salt| self.node.replication.progress(salt)).collect();
            let replicated = progress.iter().filter(|it| matches!(it, Some(Progress::Replicated))).count();
            if replicated == progress.len() {
                return (RecordState::Replicated, Vec::new());
            }
            let known = |it: &Option<Progress>| matches!(it, Some(Progress::Replicated | Progress::Local(Some(_))));
            if told && progress.iter().all(known) {
                return (RecordState::Local, reasons(&progress));
            }
            if replicated != last_replicated {
                last_replicated = replicated;
                let event = PutEvent::Progress {
                    bytes: ByteLen(self.done.bytes),
                    records: self.done.records,
                    packs_replicated: replicated as u64,
                    packs: self.salts.len() as u64,
                };
                self.tell(event).await;
            }
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                return (RecordState::Local, reasons(&progress));
            }
        }
    }

    /// Waits until besides a block covers all packs of this put, or the time is up.
    async fn wait_final(&mut self, deadline: Instant) -> (RecordState, Vec<String>) {
        let (state, why_not) = self.wait_replicated(deadline, false).await;
        if state != RecordState::Replicated {
            return (state, why_not);
        }
        let mut changes = self.node.chain.watch();
        while self.covered().is_none() {
            if tokio::time::timeout_at(deadline, changes.changed()).await.is_err() {
                let why = "no block covers it yet: `bithealth status` says which validators are missing";
                return (RecordState::Replicated, vec![why.to_owned()]);
            }
        }
        (RecordState::Final, Vec::new())
    }

    /// The height of the block that covers the last of this put's packs; `None` while one is not covered.
    fn covered(&self) -> Option<Height> {
        let state = self.node.chain.state();
        let of = |salt: &Salt| state.pack(&state.pack_with_salt(salt)?)?.height;
        self.salts.iter().map(of).try_fold(Height(0), |last, height| Some(last.max(height?)))
    }
}

fn after(ms: u64) -> Instant {
    Instant::now() + Duration::from_millis(ms)
}

/// Why packs are not replicated, each reason once.
fn reasons(progress: &[Option<Progress>]) -> Vec<String> {
    let mut reasons: Vec<String> = Vec::new();
    for progress in progress {
        let reason = match progress {
            Some(Progress::Replicated) => continue,
            Some(Progress::Local(Some(why))) => why.clone(),
            Some(Progress::Local(None)) | None => "its shards are still on their way".to_owned(),
        };
        if !reasons.contains(&reason) {
            reasons.push(reason);
        }
    }
    reasons
}

/// Closes a pack and makes it durable. Blocks.
fn write(node: &Node, lane: &Lane, pack: OpenPack) -> Result<Written, Unwritten> {
    let (closed, beside) = lane.close(node, pack, &[]).expect("members have valid keys: the ledger checked them");
    let written = node.vault.put_pack(&closed.salt, &beside, &closed.bytes);
    if let Err(error) = written.and_then(|position| node.store.sync(position)) {
        return Err(Unwritten { names: closed.rows.into_iter().map(|row| row.name).collect(), error });
    }
    node.shelf.add(closed.salt, Source::Own, &closed.rows);
    Ok(Written { salt: closed.salt, len: closed.bytes.len() as u64, rows: closed.rows })
}
