//! Small packs, kept as whole copies, become full coded ones: once enough of one kind are replicated, their records move
//! into one pack. When that is replicated too, and not before, the small ones are retired and their copies dropped.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_pack::{OpenPack, RecordOpener};
use bithealth_proto::v1::{self, CatalogRow, entry::Operation};
use bithealth_types::{CODED_PACK_LEN_MIN, MemberId, NodeId, PACK_LEN_MAX, PackId, ShardIndex};
use bytes::Bytes;
use tracing::{debug, warn};

use crate::import::{Lane, new_salt};
use crate::node::Node;
use crate::open::own_catalog;
use crate::replicate::{Progress, blocking, policy_message, policy_of};
use crate::shelf::{Salt, Source};

/// Small packs of one kind are gathered once they have this many bytes together, well past what is worth coding.
const GATHERED_LEN_MIN: u64 = 4 * CODED_PACK_LEN_MIN as u64;

/// Small packs whose records lie in a gathered one too, which is not replicated yet: they are not gathered again.
#[derive(Debug, Default)]
pub struct Gathered(Mutex<HashSet<Salt>>);

impl Gathered {
    /// The records of `small` lie in another pack too.
    pub fn add(&self, small: impl IntoIterator<Item = Salt>) {
        self.0.lock().expect("no holder panics").extend(small);
    }

    fn has(&self, salt: &Salt) -> bool {
        self.0.lock().expect("no holder panics").contains(salt)
    }

    fn remove(&self, salt: &Salt) {
        self.0.lock().expect("no holder panics").remove(salt);
    }
}

/// The packs that a gathered one takes the place of.
pub fn replaced(beside: &v1::StoredPack) -> impl Iterator<Item = Salt> {
    beside.replaces.iter().filter_map(|salt| salt.as_ref().try_into().ok())
}

/// A small pack that could move.
struct Small {
    salt: Salt,
    len: u64,
}

/// Gathers small packs for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    let mut look = tokio::time::interval(Duration::from_millis(node.config.consolidate_ms));
    let mut retired_seen = 0;
    loop {
        look.tick().await;
        let worker = node.clone();
        let (gathered, dropped) = blocking(move || {
            let gathered = gather_small(&worker);
            worker.room.settle(|pack| worker.owner_of(pack));
            (gathered, drop_retired(&worker, retired_seen))
        })
        .await;
        if let Err(error) = gathered {
            warn!(%error, "small packs cannot be gathered");
        }
        match dropped {
            Ok(retired) => retired_seen = retired,
            Err(error) => warn!(%error, "shards of retired packs cannot be dropped yet"),
        }
    }
}

/// Drops what this node holds of packs that were retired while it was away, or whose author could not tell it. Looks
/// only if the ledger has other than `seen` retired packs, and returns how many it has. Blocks.
fn drop_retired(node: &Node, seen: usize) -> anyhow::Result<usize> {
    let retired: HashSet<PackId> = {
        let state = node.chain.state();
        state.packs().filter(|pack| pack.retired_into.is_some()).map(|pack| pack.id).collect()
    };
    if retired.len() != seen {
        for (pack, shard) in node.vault.held()?.into_iter().filter(|(pack, _)| retired.contains(pack)) {
            node.drop_shard(&pack, shard)?;
            debug!(pack = %pack.short(), %shard, "a shard of a retired pack was dropped");
        }
    }
    Ok(retired.len())
}

/// Gathers the small packs of each lane that has enough of them. Blocks.
fn gather_small(node: &Arc<Node>) -> anyhow::Result<()> {
    for (lane, small) in small_packs(node)? {
        if small.iter().map(|pack| pack.len).sum::<u64>() >= GATHERED_LEN_MIN {
            gather(node, &lane.0, &small)?;
        }
    }
    Ok(())
}

/// A lane with an order, to group by.
#[derive(PartialEq, Eq)]
struct Grouped(Lane);

impl PartialOrd for Grouped {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Grouped {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let key = |lane: &Lane| (lane.readers.clone(), bithealth_proto::encode(&policy_message(&lane.policy)));
        key(&self.0).cmp(&key(&other.0))
    }
}

fn small_packs(node: &Arc<Node>) -> anyhow::Result<BTreeMap<Grouped, Vec<Small>>> {
    let mut lanes: BTreeMap<Grouped, Vec<Small>> = BTreeMap::new();
    for salt in node.vault.salts()? {
        if node.gathered.has(&salt) {
            continue;
        }
        let len = node.vault.pack_len(&salt)?;
        if len >= CODED_PACK_LEN_MIN as u64 || node.replication.progress(&salt) != Some(Progress::Replicated) {
            continue;
        }
        let beside = node.vault.stored_pack(&salt)?;
        if beside.readers.len() != beside.wraps.len() {
            continue; // restored: whom its wraps are for is known to them only
        }
        let readers = beside.readers.iter().filter_map(|id| MemberId::try_from(id.as_ref()).ok()).collect();
        let lane = Lane { readers, policy: policy_of(beside.policy.as_ref()) };
        lanes.entry(Grouped(lane)).or_default().push(Small { salt, len });
    }
    Ok(lanes)
}

fn gather(node: &Arc<Node>, lane: &Lane, small: &[Small]) -> anyhow::Result<()> {
    let mut pack = OpenPack::new(new_salt());
    let mut replaces = Vec::new();
    for Small { salt, len } in small {
        if pack.len() as u64 + len > PACK_LEN_MAX as u64 * 15 / 16 {
            break;
        }
        if let Some(runs) = runs(node, salt)? {
            for (row, run) in &runs {
                pack.add_moved(row, run)?;
            }
            replaces.push(*salt);
        }
    }
    if replaces.len() < 2 {
        return Ok(());
    }
    let salt = *pack.salt();
    let (closed, beside) = lane.close(node, pack, &replaces)?;
    let position = node.vault.put_pack(&salt, &beside, &closed.bytes)?;
    node.store.sync(position)?;
    node.gathered.add(replaces);
    node.shelf.add(salt, Source::Own, &closed.rows);
    node.replication.add(salt);
    debug!(packs = beside.replaces.len(), bytes = closed.bytes.len(), "small packs were gathered");
    Ok(())
}

/// The records of a small pack, if each is one run.
fn runs(node: &Node, salt: &Salt) -> anyhow::Result<Option<Vec<(CatalogRow, Bytes)>>> {
    let bytes = node.vault.whole_pack(salt)?;
    let rows = rows(node, salt)?;
    let mut runs = Vec::with_capacity(rows.len());
    for row in rows {
        let run = bytes.slice(row.offset as usize..(row.offset + row.len) as usize);
        let manifest = run.slice(run.len() - row.manifest_len as usize..);
        if !RecordOpener::new(salt, &row, &manifest)?.is_one_run(salt, &row) {
            return Ok(None);
        }
        runs.push((row, run));
    }
    Ok(Some(runs))
}

fn rows(node: &Node, salt: &Salt) -> anyhow::Result<Vec<CatalogRow>> {
    Ok(own_catalog(&node.keys.organisation, salt, &node.vault.catalog(salt)?)?.rows)
}

/// The pack `salt` is replicated: what it replaces is retired on the ledger, here, and at its holders.
pub(crate) async fn retire_replaced(node: &Arc<Node>, salt: &Salt, id: &PackId) {
    let replaced: Vec<Salt> =
        node.vault.stored_pack(salt).map(|beside| replaced(&beside).collect()).unwrap_or_default();
    for old in replaced {
        if let Err(error) = retire(node, &old, id).await {
            warn!(%error, "a small pack that was gathered cannot be retired yet");
        }
    }
}

async fn retire(node: &Arc<Node>, old: &Salt, into: &PackId) -> anyhow::Result<()> {
    let Some(old_id) = node.chain.state().pack_with_salt(old) else { return Ok(()) };
    let holders = node.holders(&old_id);
    let (worker, old, into) = (node.clone(), *old, *into);
    blocking(move || {
        let retired = worker.chain.state().pack(&old_id).is_some_and(|pack| pack.retired_into.is_some());
        if !retired {
            worker.append(Operation::RetirePack(v1::RetirePack {
                pack: Bytes::copy_from_slice(old_id.as_bytes()),
                replaced_by: Bytes::copy_from_slice(into.as_bytes()),
            }))?;
        }
        if worker.shelf.has(&old) {
            let rows = rows(&worker, &old)?;
            worker.shelf.remove(&old, &rows);
            worker.replication.remove(&old);
            worker.replication.unplaced.forget(&old_id);
            worker.vault.remove_pack(&old, Some(&old_id))?;
        }
        worker.gathered.remove(&old);
        anyhow::Ok(())
    })
    .await?;
    drop_at_holders(node, &old_id, &holders).await;
    Ok(())
}

/// Tells the holders of a retired pack, which may drop it. One that does not hear it does so once it has the ledger.
pub(crate) async fn drop_at_holders(node: &Node, pack: &PackId, holders: &[(ShardIndex, NodeId)]) {
    for (shard, holder) in holders {
        if *holder != node.id() && *shard != ShardIndex(0) && node.answers(holder) {
            let _ = node.links.drop_shard(*holder, pack, *shard).await;
        }
    }
}
