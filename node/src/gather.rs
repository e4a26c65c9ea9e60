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
use tracing::error;

use crate::import::{Lane, Prepared, new_salt};
use crate::node::Node;
use crate::replicate::{blocking, policy_message, policy_of};
use crate::shelf::{Salt, Source};
use crate::vault::{keys, whole};

/// Packs being gathered, one a lane.
#[derive(Default)]
pub struct Gather {
    lanes: Mutex<HashMap<Lane, Gathering>>,
    opened: Notify,
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
        let mut lanes = self.lanes.lock().expect("no holder panics");
        let mut gathered = Gathered { rows: Vec::new(), salts: Vec::new(), sealed_bytes: 0 };
        let due = Instant::now() + Duration::from_millis(node.config.gather_ms);
        let mut gathering = lanes.remove(lane).unwrap_or_else(|| Gathering::new(due));
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
            gathering.close(node, lane)?;
        } else {
            lanes.insert(lane.clone(), gathering);
            self.opened.notify_one();
        }
        Ok(gathered)
    }

    /// Bytes of a pack that is still open.
    pub fn read(&self, salt: &Salt, range: Range<u64>) -> Option<Bytes> {
        let lanes = self.lanes.lock().expect("no holder panics");
        let gathering = lanes.values().find(|gathering| gathering.pack.salt() == salt)?;
        gathering.pack.bytes().get(range.start as usize..range.end as usize).map(Bytes::copy_from_slice)
    }

    /// Closes the packs whose time has come; `all` closes every one. Blocks on the disk.
    pub fn close_due(&self, node: &Arc<Node>, all: bool) {
        let mut lanes = self.lanes.lock().expect("no holder panics");
        let now = Instant::now();
        let due: Vec<Lane> =
            lanes.iter().filter(|(_, it)| all || it.due <= now).map(|(lane, _)| lane.clone()).collect();
        for lane in due {
            let Some(gathering) = lanes.remove(&lane) else { continue };
            if let Err(error) = gathering.close(node, &lane) {
                // The records are safe in the journal; the next start closes their pack.
                error!(%error, "a pack of small records cannot be written");
            }
        }
    }

    fn next_due(&self) -> Option<Instant> {
        self.lanes.lock().expect("no holder panics").values().map(|gathering| gathering.due).min()
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
/// If the journal cannot be read or the packs cannot be written.
pub fn recover(node: &Arc<Node>) -> anyhow::Result<()> {
    let mut journal: Vec<[u8; 40]> =
        keys(&node.store, Kind::Pending)?.into_iter().filter_map(|key| key.try_into().ok()).collect();
    journal.sort_unstable();
    for keys in journal.chunk_by(|a, b| a[..32] == b[..32]) {
        let salt: Salt = keys[0][..32].try_into().expect("32 of 40 bytes");
        if node.store.contains(Kind::Pack, &salt)? {
            drop_journal(node, keys)?;
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
        Gathering { pack, saved: Mark::default(), journal: keys.to_vec(), due: Instant::now() }.close(node, &lane)?;
    }
    Ok(())
}

impl Gathering {
    fn new(due: Instant) -> Self {
        Self { pack: OpenPack::new(new_salt()), saved: Mark::default(), journal: Vec::new(), due }
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
    fn close(self, node: &Arc<Node>, lane: &Lane) -> anyhow::Result<()> {
        let salt = *self.pack.salt();
        let (closed, beside) = lane.close(node, self.pack, Vec::new())?;
        let position = node.vault.put_pack(&salt, &beside, &closed.bytes)?;
        node.store.sync(position)?;
        node.shelf.close(&salt);
        node.replication.add(salt);
        drop_journal(node, &self.journal)?;
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

fn drop_journal(node: &Node, keys: &[[u8; 40]]) -> Result<(), WriteError> {
    for key in keys {
        node.store.remove(Kind::Pending, key)?;
    }
    Ok(())
}
