//! Reading a record back: from our own packs, or from whoever holds the shards of the pack it lies in.

use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bithealth_envelope::OrganisationKeys;
use bithealth_exchange::Priority;
use bithealth_grant::{OrganisationSealing, Readers, Sealing};
use bithealth_pack::{CatalogError, OpenError, Piece, RecordOpener, open_catalog};
use bithealth_proto::v1::{self, CatalogRow};
use bithealth_store::bulk::{self, Keep};
use bithealth_types::{MemberId, PackId, RecordId};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::background::in_background;
use crate::chain::Chain;
use crate::fetch::{self, Ahead, FetchError};
use crate::keys::NodeKeys;
use crate::node::Node;
use crate::replicate::blocking;
use crate::shelf::{Catalogs, Found, Salt, Source};
use crate::vault::{Vault, VaultError};

/// A record whose sealed bytes are at most this long is read as one run: one request, one round trip.
const ONE_RUN_LEN_MAX: u64 = 1 << 20;
/// How often a granted catalog is asked for that could not be fetched.
const RETRY: Duration = Duration::from_secs(10);
/// Chunks opened in one job.
const JOB_CHUNKS: usize = 4;
/// Jobs under way for one reader, each of which holds 1 MiB twice while it opens it.
const JOBS_MAX: usize = 4;
/// Jobs that are done before the reader takes what they gave.
const DONE_MAX: usize = 2;

/// Why a record cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadRecordError {
    /// Nothing here has this id.
    #[error("no record {record} is known here")]
    Unknown {
        /// The id.
        record: RecordId,
    },
    /// Its catalog cannot be read.
    #[error("the catalog with record {record} cannot be read: {error}")]
    Catalog {
        /// The record.
        record: RecordId,
        /// Why not.
        error: anyhow::Error,
    },
    /// Not enough shards can be had.
    #[error("record {record} cannot be fetched: {error}")]
    Fetch {
        /// The record.
        record: RecordId,
        /// Why not.
        error: FetchError,
    },
    /// Our own store cannot read it, and peers cannot help.
    #[error("record {record} is damaged here: {error}")]
    Damaged {
        /// The record.
        record: RecordId,
        /// What is wrong.
        error: VaultError,
    },
    /// The file that it goes into cannot be written.
    #[error("record {record} cannot be written into the file: {error}")]
    Write {
        /// The record.
        record: RecordId,
        /// What the system says.
        error: io::Error,
    },
    /// Its bytes do not open.
    #[error("record {record} does not open: {error}")]
    Open {
        /// The record.
        record: RecordId,
        /// What is wrong.
        error: OpenError,
    },
}

/// A record ready to be read.
pub struct Reading {
    node: Arc<Node>,
    /// What the catalog says.
    pub found: Found,
    record: RecordId,
    opener: Arc<RecordOpener>,
    /// The sealed record, where it came as one run.
    run: Option<Bytes>,
}

impl Reading {
    /// Finds a record and opens its manifest.
    ///
    /// # Errors
    /// [`ReadRecordError`].
    pub async fn begin(node: &Arc<Node>, record: RecordId) -> Result<Self, ReadRecordError> {
        let worker = node.clone();
        let found = blocking(move || worker.shelf.find(&record)).await;
        let found = found
            .map_err(|error| ReadRecordError::Catalog { record, error })?
            .ok_or(ReadRecordError::Unknown { record })?;
        let row = &found.row;
        let one_run = row.len <= ONE_RUN_LEN_MAX;
        let manifest = sealed_manifest(row);
        let wanted = if one_run { row.offset..manifest.end } else { manifest };
        let bytes = sealed(node, record, &found.salt, wanted).await?;
        let manifest_at = (bytes.len() as u64).saturating_sub(row.manifest_len) as usize;
        let opener = RecordOpener::new(&found.salt, row, &bytes[manifest_at..])
            .map_err(|error| ReadRecordError::Open { record, error })?;
        let run = one_run.then_some(bytes);
        Ok(Self { node: node.clone(), found, record, opener: Arc::new(opener), run })
    }

    /// Bytes of plaintext.
    pub fn plaintext_len(&self) -> u64 {
        self.opener.plaintext_len()
    }

    /// The plaintext of `range`, in order, as it is opened. After an error nothing follows.
    pub fn stream(self, range: Range<u64>) -> mpsc::Receiver<Result<Vec<Bytes>, ReadRecordError>> {
        self.run(range, |_, parts| Ok(parts))
    }

    /// Writes the plaintext of `range` into `file`, from `offset` on, each part by whoever opened it; how much of it is there
    /// without a gap, as it becomes more. After an error nothing follows.
    pub fn write_into(
        self,
        range: Range<u64>,
        file: File,
        offset: u64,
    ) -> mpsc::Receiver<Result<u64, ReadRecordError>> {
        let (file, record) = (Arc::new(file), self.record);
        self.run(range, move |at, parts| {
            let parts = parts.iter().map(AsRef::as_ref).collect::<Vec<&[u8]>>();
            let place = offset + at;
            bulk::write_all_at(&file, &parts, place, Keep::for_offset(place))
                .map_err(|error| ReadRecordError::Write { record, error })?;
            Ok(at + parts.iter().map(|part| part.len() as u64).sum::<u64>())
        })
    }

    /// Opens `range`, several parts at a time, each of which `then` gets with its place in the range, on the thread that
    /// opened it. What that gives comes in order.
    fn run<T: Send + 'static>(
        mut self,
        range: Range<u64>,
        then: impl Fn(u64, Vec<Bytes>) -> Result<T, ReadRecordError> + Send + Sync + 'static,
    ) -> mpsc::Receiver<Result<T, ReadRecordError>> {
        let (done, receiver) = mpsc::channel(DONE_MAX);
        tokio::spawn(async move {
            let mut jobs = Jobs::new();
            let ended = self.send(range, Arc::new(then), &mut jobs, &done).await;
            // Whoever hears of the end may count on nobody writing any more.
            while jobs.next().await.is_some() {}
            if let Err(error) = ended {
                let _ = done.send(Err(error)).await; // the reader has gone
            }
        });
        receiver
    }

    async fn send<T: Send + 'static>(
        &mut self,
        range: Range<u64>,
        then: Arc<impl Fn(u64, Vec<Bytes>) -> Result<T, ReadRecordError> + Send + Sync + 'static>,
        jobs: &mut Jobs<T>,
        done: &mpsc::Sender<Result<T, ReadRecordError>>,
    ) -> Result<(), ReadRecordError> {
        if range.is_empty() {
            return Ok(());
        }
        self.load_parts(range.clone()).await?;
        let record = self.record;
        let pieces = self.opener.locate(range).map_err(|error| ReadRecordError::Open { record, error })?;
        let ahead = Ahead::new(&self.node, packs_of(&pieces));
        let mut at = 0;
        for group in contiguous_groups(pieces) {
            if jobs.len() == JOBS_MAX && !deliver(jobs, done).await? {
                return Ok(());
            }
            let len = group.iter().map(|piece| piece.range.len() as u64).sum::<u64>();
            let then = then.clone();
            jobs.push_back(self.open(group, &ahead, move |parts| then(at, parts)));
            at += len;
        }
        while !jobs.is_empty() {
            if !deliver(jobs, done).await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Reads the parts of a large manifest that a range needs.
    async fn load_parts(&mut self, range: Range<u64>) -> Result<(), ReadRecordError> {
        let record = self.record;
        for part in self.opener.missing_parts(range) {
            let place = part.offset..part.offset + u64::from(part.sealed_len);
            let bytes = sealed(&self.node, record, &part.salt, place).await?;
            let opener = Arc::get_mut(&mut self.opener).expect("no job runs before its parts are loaded");
            opener.part(part.index, &bytes).map_err(|error| ReadRecordError::Open { record, error })?;
        }
        Ok(())
    }

    /// Starts to read and open a run of chunks, which `then` gets.
    fn open<T: Send + 'static>(
        &self,
        pieces: Vec<Piece>,
        ahead: &Arc<Ahead>,
        then: impl FnOnce(Vec<Bytes>) -> Result<T, ReadRecordError> + Send + 'static,
    ) -> JoinHandle<Result<T, ReadRecordError>> {
        let (node, record, opener, run) = (self.node.clone(), self.record, self.opener.clone(), self.run.clone());
        let (salt, start, ahead) = (pieces[0].salt, pieces[0].offset, ahead.clone());
        let end = pieces.last().map_or(start, |piece| piece.offset + u64::from(piece.sealed_len));
        let in_run = run.filter(|_| salt == self.found.salt && start >= self.found.row.offset).and_then(|run| {
            let from = (start - self.found.row.offset) as usize;
            let to = from + (end - start) as usize;
            (to <= run.len()).then(|| run.slice(from..to))
        });
        tokio::spawn(async move {
            let wanted = start..end;
            let opening = Opening { record, opener, pieces, then };
            let bytes = match in_run {
                Some(bytes) => bytes,
                None => {
                    let (worker, range) = (node.clone(), wanted.clone());
                    // Read and opened in one go: a passage between threads costs as much as opening a small chunk.
                    let here = blocking(move || {
                        let read = read_here(&worker, &salt, range);
                        drop(worker); // so that a disk of somebody else that hangs holds no node that stops
                        match read {
                            Ok(bytes) => Ok(opening.open(bytes)),
                            Err(error) => Err((opening, error)),
                        }
                    });
                    let (opening, error) = match here.await {
                        Ok(done) => return done,
                        Err(failed) => failed,
                    };
                    let there = locate_there(&node, record, &salt, error)?;
                    let fetched = ahead.read(&salt, &there, wanted).await;
                    let fetched = fetched.map_err(|error| ReadRecordError::Fetch { record, error })?;
                    return opening.open_on_worker(|| fetched.bytes()).await;
                }
            };
            opening.open_on_worker(|| Ok(bytes)).await
        })
    }
}

/// Runs of chunks being read and opened, in order.
type Jobs<T> = FuturesOrdered<JoinHandle<Result<T, ReadRecordError>>>;

/// Chunks that lie behind one another, to be opened, and what is done with them then.
struct Opening<F> {
    record: RecordId,
    opener: Arc<RecordOpener>,
    pieces: Vec<Piece>,
    then: F,
}

impl<T: Send + 'static, F: FnOnce(Vec<Bytes>) -> Result<T, ReadRecordError> + Send + 'static> Opening<F> {
    /// Opens them in the memory that holds them, if nobody else needs it.
    fn open(self, bytes: Bytes) -> Result<T, ReadRecordError> {
        let mut rest = BytesMut::from(bytes);
        let open = |piece: Piece| {
            let sealed = rest.split_to(rest.len().min(piece.sealed_len as usize));
            Ok(self.opener.chunk_in_place(piece.index, sealed)?.slice(piece.range))
        };
        let parts = self.pieces.into_iter().map(open).collect::<Result<Vec<Bytes>, OpenError>>();
        (self.then)(parts.map_err(|error| ReadRecordError::Open { record: self.record, error })?)
    }

    async fn open_on_worker(
        self,
        bytes: impl FnOnce() -> Result<Bytes, FetchError> + Send + 'static,
    ) -> Result<T, ReadRecordError> {
        blocking(move || match bytes() {
            Ok(bytes) => self.open(bytes),
            Err(error) => Err(ReadRecordError::Fetch { record: self.record, error }),
        })
        .await
    }
}

/// Hands on what the oldest job gave; false if the reader has gone.
async fn deliver<T>(
    jobs: &mut Jobs<T>,
    done: &mpsc::Sender<Result<T, ReadRecordError>>,
) -> Result<bool, ReadRecordError> {
    let Some(ended) = jobs.next().await else { return Ok(true) };
    Ok(done.send(Ok(ended.expect("opening does not panic")?)).await.is_ok())
}

/// Runs of chunks that lie behind one another in one pack.
fn contiguous_groups(pieces: Vec<Piece>) -> Vec<Vec<Piece>> {
    let mut groups: Vec<Vec<Piece>> = Vec::new();
    for piece in pieces {
        match groups.last_mut() {
            Some(group)
                if group.len() < JOB_CHUNKS
                    && group.last().is_some_and(|last| {
                        last.salt == piece.salt && last.offset + u64::from(last.sealed_len) == piece.offset
                    }) =>
            {
                group.push(piece);
            }
            _ => groups.push(vec![piece]),
        }
    }
    groups
}

/// What lies of a record in each pack, in order.
fn packs_of(pieces: &[Piece]) -> Vec<(Salt, Range<u64>)> {
    let mut packs: Vec<(Salt, Range<u64>)> = Vec::new();
    for piece in pieces {
        let end = piece.offset + u64::from(piece.sealed_len);
        match packs.last_mut() {
            Some((salt, range)) if *salt == piece.salt && range.start <= piece.offset => range.end = range.end.max(end),
            _ => packs.push((piece.salt, piece.offset..end)),
        }
    }
    packs
}

/// Where the sealed manifest of a record lies in the pack of its row.
pub(crate) fn sealed_manifest(row: &CatalogRow) -> Range<u64> {
    let end = row.offset.saturating_add(row.len);
    end.saturating_sub(row.manifest_len)..end
}

/// Sealed bytes of a pack, from wherever they are.
async fn sealed(node: &Arc<Node>, record: RecordId, salt: &Salt, range: Range<u64>) -> Result<Bytes, ReadRecordError> {
    let (worker, own, wanted) = (node.clone(), *salt, range.clone());
    match blocking(move || read_here(&worker, &own, wanted)).await {
        Ok(bytes) => Ok(bytes),
        Err(error) => read_there(node, record, salt, range, error).await,
    }
}

/// Sealed bytes of a pack that lies here. Blocks.
pub(crate) fn read_here(node: &Node, salt: &Salt, range: Range<u64>) -> Result<Bytes, VaultError> {
    match node.gather.read(salt, range.clone()) {
        Some(bytes) => Ok(bytes),
        None => node.vault.read_pack(salt, range),
    }
}

/// Sealed bytes of a pack that cannot be read here, because of `error`.
async fn read_there(
    node: &Arc<Node>,
    record: RecordId,
    salt: &Salt,
    range: Range<u64>,
    error: VaultError,
) -> Result<Bytes, ReadRecordError> {
    let pack = locate_there(node, record, salt, error)?;
    fetch::range(node, &pack, range, Priority::Read).await.map_err(|error| ReadRecordError::Fetch { record, error })
}

/// Which pack to ask others for that cannot be read here, because of `error`.
fn locate_there(node: &Node, record: RecordId, salt: &Salt, error: VaultError) -> Result<PackId, ReadRecordError> {
    let Some(pack) = node.chain.state().pack_with_salt(salt) else {
        return Err(ReadRecordError::Damaged { record, error });
    };
    if node.vault.own(&pack).is_some() {
        warn!(pack = %pack.short(), %error, "an own pack cannot be read here; asking its holders");
    }
    Ok(pack)
}

/// Opens the catalogs of packs for the shelf.
pub struct SealedCatalogs {
    /// Where they lie.
    pub vault: Arc<Vault>,
    /// Whose wraps open granted ones.
    pub chain: Arc<Chain>,
    /// What opens them.
    pub keys: Arc<NodeKeys>,
}

impl Catalogs for SealedCatalogs {
    fn catalog(&self, salt: &Salt, source: &Source) -> anyhow::Result<v1::Catalog> {
        let keys = &self.keys.organisation;
        match source {
            Source::Open => anyhow::bail!("an open pack has no sealed catalog"),
            Source::Own => Ok(own_catalog(keys, salt, &self.vault.catalog(salt)?)?),
            Source::Granted { pack, .. } => {
                let wraps = self.chain.state().pack(pack).map(|pack| pack.commit.wraps.clone()).unwrap_or_default();
                let sealed = self.vault.granted_catalog(pack)?.ok_or_else(|| anyhow::anyhow!("not fetched yet"))?;
                Ok(open_catalog(&granted_key(keys, salt, &wraps)?, salt, &sealed)?)
            }
        }
    }
}

/// Opens the catalog of an own pack: with the keys that the organisation has, or those it had when it was sealed.
pub(crate) fn own_catalog(keys: &OrganisationKeys, salt: &Salt, sealed: &[u8]) -> Result<v1::Catalog, CatalogError> {
    let mut tried = keys.catalog_keys(salt).map(|key| open_catalog(&key, salt, sealed));
    let newest = tried.next().expect("there is at least one");
    tried.fold(newest, |before, next| if before.is_ok() { before } else { next })
}

fn granted_key(
    keys: &OrganisationKeys,
    salt: &Salt,
    wraps: &[Bytes],
) -> Result<bithealth_envelope::CatalogKey, bithealth_grant::NotGranted> {
    OrganisationSealing::new(keys, Readers::default()).open(salt, false, wraps)
}

/// Looks through new packs on the ledger for those that were sealed for our organisation, and puts their records on the
/// shelf, for as long as the node runs.
pub async fn watch_grants(node: Arc<Node>) {
    let mut changes = node.chain.watch();
    let mut peers = node.peers_changed.subscribe();
    let mut done: HashSet<PackId> = HashSet::new();
    // Those whose catalog could not be fetched: tried again when somebody comes or goes, and now and then.
    let mut waiting: HashSet<PackId> = HashSet::new();
    let mut retry = tokio::time::interval(RETRY);
    loop {
        let new: Vec<(PackId, Salt, MemberId)> = {
            let state = node.chain.state();
            let is_seen = |id: &PackId| done.contains(id) || waiting.contains(id);
            let unseen = state.packs().filter(|pack| !pack.commit.wraps.is_empty() && !is_seen(&pack.id));
            unseen
                .filter_map(|pack| {
                    let salt = pack.commit.pack.as_ref()?.salt.as_ref().try_into().ok()?;
                    Some((pack.id, salt, state.node(&pack.author)?.member))
                })
                .filter(|(.., member)| *member != node.member())
                .collect()
        };
        for (pack, salt, _) in new {
            match take_grant(&node, &pack, &salt).await {
                Ok(()) => drop(done.insert(pack)),
                Err(error) => {
                    warn!(pack = %pack.short(), %error, "a granted catalog cannot be fetched yet");
                    waiting.insert(pack);
                }
            }
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            _ = peers.changed() => waiting.clear(),
            _ = retry.tick() => waiting.clear(),
        }
    }
}

/// Fetches the catalog of a pack if one of its wraps is for us.
async fn take_grant(node: &Arc<Node>, pack: &PackId, salt: &Salt) -> anyhow::Result<()> {
    let (commit, author) = {
        let state = node.chain.state();
        let Some(pack) = state.pack(pack) else { return Ok(()) };
        (pack.commit.clone(), pack.author)
    };
    let (worker, of, wraps) = (node.clone(), *salt, commit.wraps);
    let key = in_background(move || granted_key(&worker.keys.organisation, &of, &wraps)).await;
    let Ok(key) = key else { return Ok(()) }; // it is for others
    let descriptor = commit.pack.unwrap_or_default();
    let sealed = match node.vault.granted_catalog(pack)? {
        Some(sealed) => sealed,
        None => {
            let catalog = descriptor.len.saturating_sub(descriptor.catalog_len)..descriptor.len;
            let sealed = fetch::range(node, pack, catalog, Priority::Read).await?;
            node.vault.put_granted_catalog(pack, &sealed)?;
            sealed
        }
    };
    let (worker, of, pack) = (node.clone(), *salt, *pack);
    blocking(move || {
        let catalog = open_catalog(&key, &of, &sealed)?;
        worker.shelf.add(of, Source::Granted { pack, author }, &catalog.rows);
        Ok(())
    })
    .await
}
