//! Small writes on their way into packs.
//!
//! A single record is acknowledged once it is durable here, in a journal of its own; its pack stays open a little longer
//! for others of the same kind, so that trickling writes do not become a pack each. Closed, the pack is written and the
//! journal dropped. After a crash the journal closes the pack.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_pack::{Mark, OpenPack, Snapshot};
use bithealth_proto::v1::CatalogRow;
use bithealth_proto::{decode, encode, v1};
use bithealth_store::{Kind, WriteError};
use bithealth_types::{CODED_PACK_LEN_MIN, MemberId};
use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{error, warn};

use crate::import::{Lane, Prepared, new_salt};
use crate::node::Node;
use crate::replicate::{blocking, policy_message, policy_of};
use crate::shelf::{Salt, Source};
use crate::vault::{keys, whole};

/// How long a pack that could not be written waits until it is tried again. Its records are read from here meanwhile.
const CLOSE_RETRY: Duration = Duration::from_secs(2);

/// Packs being gathered.
#[derive(Default)]
pub struct Gather {
    packs: Mutex<Packs>,
    opened: Notify,
}

#[derive(Default)]
struct Packs {
    /// Those that take more records, one a lane.
    open: HashMap<Lane, Gathering>,
    /// Those that take no more and could not be written yet: their records are in the journal, and the disk is full.
    waiting: Vec<(Lane, Gathering)>,
}

impl Packs {
    /// Closes a pack; one that cannot be written waits here.
    fn close(&mut self, node: &Arc<Node>, lane: Lane, mut gathering: Gathering) {
        if let Err(error) = gathering.close(node, &lane) {
            error!(%error, "a pack of small records cannot be written; they are safe in the journal");
            gathering.due = Instant::now() + CLOSE_RETRY;
            self.waiting.push((lane, gathering));
        }
    }

    fn all(&self) -> impl Iterator<Item = &Gathering> {
        self.open.values().chain(self.waiting.iter().map(|(_, gathering)| gathering))
    }
}

struct Gathering {
    pack: OpenPack,
    saved: Mark,
    journal: Vec<[u8; 40]>,
    due: Instant,
}

/// What became of records that were gathered.
pub struct Gathered {
    /// Their rows.
    pub rows: Vec<CatalogRow>,
    /// The packs they are in.
    pub salts: Vec<Salt>,
    /// Sealed bytes they took.
    pub sealed_bytes: u64,
}

impl Gather {
    /// Makes small records durable and keeps their pack open for more. Blocks on the disk.
    ///
    /// # Errors
    /// [`WriteError`] if the store takes nothing; then none of them is kept.
    pub fn take(&self, node: &Arc<Node>, lane: &Lane, records: Vec<Prepared>) -> anyhow::Result<Gathered> {
        let mut packs = self.packs.lock().expect("no holder panics");
        let mut gathered = Gathered { rows: Vec::new(), salts: Vec::new(), sealed_bytes: 0 };
        let due = Instant::now() + Duration::from_millis(node.config.gather_ms);
        // A copy: where these records cannot be kept, those before them stay as they are.
        let mut gathering = match packs.open.get(lane) {
            Some(gathering) => gathering.copy()?,
            None => Gathering::new(due),
        };
        let before = gathering.pack.len();
        for record in &records {
            if !record.fits(&gathering.pack) {
                anyhow::bail!("the records of one small put do not fit into one pack");
            }
            gathered.rows.push(record.add_to(&mut gathering.pack, node.id())?);
        }
        gathered.salts.push(*gathering.pack.salt());
        gathered.sealed_bytes = (gathering.pack.len() - before) as u64;
        gathering.save(node, lane)?;
        node.shelf.add(*gathering.pack.salt(), Source::Open, &gathered.rows);
        if gathering.pack.len() >= CODED_PACK_LEN_MIN {
            packs.open.remove(lane);
            packs.close(node, lane.clone(), gathering);
        } else {
            packs.open.insert(lane.clone(), gathering);
        }
        self.opened.notify_one();
        Ok(gathered)
    }

    /// Bytes of a pack that is not written yet.
    pub fn read(&self, salt: &Salt, range: Range<u64>) -> Option<Bytes> {
        let packs = self.packs.lock().expect("no holder panics");
        let gathering = packs.all().find(|gathering| gathering.pack.salt() == salt)?;
        gathering.pack.bytes().get(range.start as usize..range.end as usize).map(Bytes::copy_from_slice)
    }

    /// The lane of a pack that is not written yet.
    pub fn lane_of(&self, salt: &Salt) -> Option<Lane> {
        let packs = self.packs.lock().expect("no holder panics");
        let waiting = packs.waiting.iter().map(|(lane, gathering)| (lane, gathering));
        let found = packs.open.iter().chain(waiting).find(|(_, gathering)| gathering.pack.salt() == salt);
        found.map(|(lane, _)| lane.clone())
    }

    /// Closes the packs whose time has come; `all` closes every one. Blocks on the disk.
    pub fn close_due(&self, node: &Arc<Node>, all: bool) {
        let mut packs = self.packs.lock().expect("no holder panics");
        let now = Instant::now();
        let waiting = std::mem::take(&mut packs.waiting);
        let open = std::mem::take(&mut packs.open);
        let (due, later): (Vec<_>, Vec<_>) = open.into_iter().partition(|(_, gathering)| all || gathering.due <= now);
        packs.open.extend(later);
        for (lane, gathering) in waiting.into_iter().chain(due) {
            if all || gathering.due <= now {
                packs.close(node, lane, gathering);
            } else {
                packs.waiting.push((lane, gathering));
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.packs.lock().expect("no holder panics").all().map(|gathering| gathering.due).min()
    }
}

/// Closes packs as their time comes, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    loop {
        match node.gather.next_due() {
            None => node.gather.opened.notified().await,
            Some(due) => {
                tokio::time::sleep_until(due).await;
                let node = node.clone();
                blocking(move || node.gather.close_due(&node, false)).await;
            }
        }
    }
}

/// Closes the packs that were open when the node stopped. Blocks on the disk.
///
/// # Errors
/// If the journal cannot be read.
pub fn recover(node: &Arc<Node>) -> anyhow::Result<()> {
    let mut journal: Vec<[u8; 40]> =
        keys(&node.store, Kind::Pending)?.into_iter().filter_map(|key| key.try_into().ok()).collect();
    journal.sort_unstable();
    for keys in journal.chunk_by(|a, b| a[..32] == b[..32]) {
        let salt: Salt = keys[0][..32].try_into().expect("32 of 40 bytes");
        if node.store.contains(Kind::Pack, &salt)? {
            drop_journal(node, keys);
            continue;
        }
        let mut snapshots = Vec::new();
        let mut lane = None;
        for key in keys {
            let entry = whole(&node.store, Kind::Pending, key)?;
            let (rows, bytes) = read_journal(&entry)?;
            let pending: v1::PendingRecords = decode(&node.keys.organisation.open_private(rows)?)?;
            snapshots.push(Snapshot { offset: pending.offset, bytes: bytes.to_vec(), rows: pending.rows });
            let readers = pending.readers.iter().filter_map(|id| MemberId::try_from(id.as_ref()).ok()).collect();
            lane = Some(Lane { readers, policy: policy_of(pending.policy.as_ref()) });
        }
        let lane = lane.expect("chunks are not empty");
        let rows: Vec<CatalogRow> = snapshots.iter().flat_map(|snapshot| snapshot.rows.clone()).collect();
        let pack = OpenPack::resume(salt, snapshots)?;
        node.shelf.add(salt, Source::Open, &rows);
        let gathering = Gathering { pack, saved: Mark::default(), journal: keys.to_vec(), due: Instant::now() };
        // On a full disk the node starts all the same, and the pack waits.
        node.gather.packs.lock().expect("no holder panics").close(node, lane, gathering);
    }
    Ok(())
}

impl Gathering {
    fn new(due: Instant) -> Self {
        Self { pack: OpenPack::new(new_salt()), saved: Mark::default(), journal: Vec::new(), due }
    }

    fn copy(&self) -> anyhow::Result<Self> {
        let pack = OpenPack::resume(*self.pack.salt(), vec![self.pack.snapshot_since(Mark::default())])?;
        Ok(Self { pack, saved: self.saved, journal: self.journal.clone(), due: self.due })
    }

    /// Writes what came since the last save to the journal, durably.
    fn save(&mut self, node: &Node, lane: &Lane) -> Result<(), WriteError> {
        let snapshot = self.pack.snapshot_since(self.saved);
        let pending = v1::PendingRecords {
            salt: Bytes::copy_from_slice(self.pack.salt()),
            offset: snapshot.offset,
            rows: snapshot.rows,
            policy: Some(policy_message(&lane.policy)),
            readers: lane.readers.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect(),
        };
        let mut key = [0; 40];
        key[..32].copy_from_slice(self.pack.salt());
        key[32..].copy_from_slice(&snapshot.offset.to_be_bytes());
        let rows = node.keys.organisation.seal_private(&encode(&pending));
        let rows_len = (rows.len() as u32).to_be_bytes();
        let position = node.store.put(Kind::Pending, &key, &[], &[&rows_len, &rows, &snapshot.bytes])?;
        node.store.sync(position)?;
        self.journal.push(key);
        self.saved = self.pack.mark();
        Ok(())
    }

    /// Closes the pack and drops its journal.
    fn close(&self, node: &Arc<Node>, lane: &Lane) -> anyhow::Result<()> {
        let salt = *self.pack.salt();
        let (closed, beside) = lane.close(node, self.copy()?.pack, &[])?;
        let position = node.vault.put_pack(&salt, &beside, &closed.bytes)?;
        node.store.sync(position)?;
        node.shelf.close(&salt);
        node.replication.add(salt);
        drop_journal(node, &self.journal);
        Ok(())
    }
}

/// A journal entry: u32 length (big endian) of the sealed rows, the rows, the sealed records.
fn read_journal(entry: &[u8]) -> anyhow::Result<(&[u8], &[u8])> {
    let parts = entry.split_first_chunk::<4>();
    parts
        .and_then(|(len, rest)| rest.split_at_checked(u32::from_be_bytes(*len) as usize))
        .ok_or_else(|| anyhow::anyhow!("a journal entry is cut off"))
}

/// Drops the journal of a pack that is written. What cannot be dropped on a full disk goes at the next start.
fn drop_journal(node: &Node, keys: &[[u8; 40]]) {
    for key in keys {
        if let Err(error) = node.store.remove(Kind::Pending, key) {
            return warn!(%error, "the journal of a pack that is written stays for now");
        }
    }
}
