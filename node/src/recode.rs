//! Packs that were coded for other nodes than there are now are coded anew: those coded while nodes were away, once
//! everybody is back and the wider code keeps the same promise with fewer bytes; and those whose promise no longer holds
//! since nodes are gone and every other one has a shard already.
//!
//! The sealed pack stays as it is, and so do its salt and all that names it. The shards of the new code are pushed to
//! their places first; only when all of them are durable there, an entry commits the new id and another retires the old
//! one. So the pack can be restored at every moment. What a crash leaves between the two entries is finished later.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bithealth_pack::CodedPack;
use bithealth_placement::{choose, place, substitutes};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_types::{CODED_PACK_LEN_MIN, Code, Height, NodeId, PackId, ShardIndex};
use bytes::Bytes;
use futures::future::try_join_all;
use tracing::{debug, warn};

use crate::node::{Node, now_ms};
use crate::replicate::{PUSH_TIMEOUT, Progress, Shards, blocking, exception, policy_of};
use crate::shelf::Salt;

/// A wider code must save at least this part of the bytes on other nodes: coding and moving a pack is not free.
const SAVED_MIN: f64 = 0.1;

/// What a look found.
#[derive(Default)]
struct Due {
    /// Packs to be coded anew: the salt, the id that goes, and the code.
    anew: Vec<(Salt, PackId, Code)>,
    /// Ids that were replaced and not retired, and what replaced them.
    replaced: Vec<(PackId, PackId)>,
}

/// Looks for such packs for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    let mut look = tokio::time::interval(Duration::from_millis(node.config.widen_ms));
    loop {
        look.tick().await;
        let worker = node.clone();
        let due = match blocking(move || due(&worker)).await {
            Ok(due) => due,
            Err(error) => {
                warn!(%error, "packs that were coded for fewer nodes cannot be looked for");
                continue;
            }
        };
        for (old, new) in due.replaced {
            if let Err(error) = retire(&node, &old, &new).await {
                warn!(%error, pack = %old.short(), "a pack that was coded anew cannot be retired yet");
            }
        }
        for (salt, old, code) in due.anew {
            if let Err(error) = recode(&node, &salt, &old, code).await {
                debug!(%error, pack = %old.short(), "a pack cannot be coded anew yet");
                break; // a node that is gone again is missed by the others too
            }
        }
    }
}

/// Whether everybody has been here for a while.
fn all_are_here(node: &Node, sites: &[bithealth_placement::Site]) -> bool {
    let long_enough = |since: u64| now_ms().saturating_sub(since) >= node.config.widen_ms;
    sites.iter().all(|site| site.node == node.id() || node.followers.since_ms(&site.node).is_some_and(long_enough))
}

/// Blocks.
fn due(node: &Node) -> anyhow::Result<Due> {
    let mut due = Due::default();
    let condemned = node.condemned();
    let sites: Vec<_> = node.sites_now().into_iter().filter(|site| !condemned.contains(&site.node)).collect();
    let here = all_are_here(node, &sites);
    let view = node.repair.view();
    let mut wide_codes: HashMap<(Vec<u8>, u64), Option<Code>> = HashMap::new();
    for (salt, mut ids) in own_ids(node) {
        let Some((_, newest)) = ids.pop() else { continue };
        let Some(placed) = node.placed(&newest) else { continue };
        if let Some(view) = view.as_ref().filter(|view| view.needs_other_code(&placed)) {
            let len = node.vault.pack_len(&salt)?;
            let code = choose(&placed.policy, &node.id(), &view.answering(), len).ok();
            due.anew.extend(code.filter(|code| *code != placed.code).map(|code| (salt, newest, code)));
            continue;
        }
        if node.replication.progress(&salt) != Some(Progress::Replicated) {
            continue;
        }
        due.replaced.extend(ids.into_iter().map(|(_, old)| (old, newest)));
        let len = node.vault.pack_len(&salt)?;
        if !here || len < CODED_PACK_LEN_MIN as u64 {
            continue; // a small pack is gathered with others
        }
        let policy = node.vault.stored_pack(&salt)?.policy.unwrap_or_default();
        // Choosing takes milliseconds where there are many nodes; packs of about one length get one code.
        let key = (bithealth_proto::encode(&policy), len >> 20);
        let wide =
            wide_codes.entry(key).or_insert_with(|| choose(&policy_of(Some(&policy)), &node.id(), &sites, len).ok());
        if let Some(wide) = wide.filter(|wide| elsewhere(*wide) < (1.0 - SAVED_MIN) * elsewhere(placed.code)) {
            due.anew.push((salt, newest, wide));
        }
    }
    Ok(due)
}

/// Bytes on other nodes for each sealed one.
fn elsewhere(code: Code) -> f64 {
    f64::from(code.n() - 1) / f64::from(code.k())
}

/// What this node committed of each of its packs and did not retire, the newest last.
fn own_ids(node: &Node) -> HashMap<Salt, Vec<(u64, PackId)>> {
    let mut ids: HashMap<Salt, Vec<(u64, PackId)>> = HashMap::new();
    let state = node.chain.state();
    for pack in state.packs().filter(|pack| pack.author == node.id() && pack.retired_into.is_none()) {
        let salt = pack.commit.pack.as_ref().and_then(|descriptor| descriptor.salt.as_ref().try_into().ok());
        ids.entry(salt.unwrap_or_default()).or_default().push((pack.sequence.0, pack.id));
    }
    ids.values_mut().for_each(|ids| ids.sort_unstable());
    ids
}

/// A pack in its new code.
struct Recoded {
    coded: CodedPack,
    shards: Shards,
    beside: v1::StoredPack,
    height: Height,
    places: Vec<(ShardIndex, NodeId)>,
    /// Of the places those that are not where placement computes them.
    exceptions: Vec<(ShardIndex, NodeId)>,
}

/// Blocks.
fn code_anew(node: &Node, salt: &Salt, code: Code) -> anyhow::Result<Recoded> {
    let beside = node.vault.stored_pack(salt)?;
    let pack = node.vault.whole_pack(salt)?;
    let coded = bithealth_pack::encode(code, salt, beside.catalog_len, &pack)?;
    let height = node.chain.state().height();
    let policy = policy_of(beside.policy.as_ref());
    let sites = node.sites(height);
    let mut computed = place(&policy, code, &coded.id, &node.id(), &sites)?;
    let condemned = node.condemned();
    let takes = |of: &NodeId| node.answers(of) && !condemned.contains(of);
    let exceptions = substitutes(&policy, code, &coded.id, &node.id(), &sites, &computed, &takes);
    exceptions.iter().for_each(|(shard, holder)| computed[usize::from(shard.0)] = *holder);
    let places = (0..).map(ShardIndex).zip(computed).collect();
    let shards = Shards { code, pack, parity: coded.parity.clone() };
    Ok(Recoded { coded, shards, beside, height, places, exceptions })
}

async fn recode(node: &Arc<Node>, salt: &Salt, old: &PackId, code: Code) -> anyhow::Result<()> {
    let (worker, of) = (node.clone(), *salt);
    let recoded = blocking(move || code_anew(&worker, &of, code)).await?;
    let author = node.id();
    let push = recoded.places.iter().filter(|(shard, _)| shard.0 != 0).map(|&(shard, holder)| {
        let stored = node.links.store(holder, &recoded.coded.descriptor, shard, &author, recoded.shards.shard(shard));
        async move { anyhow::Ok(tokio::time::timeout(PUSH_TIMEOUT, stored).await.context("a holder took too long")??) }
    });
    try_join_all(push).await?;
    let (worker, of) = (node.clone(), *salt);
    let new = recoded.coded.id;
    blocking(move || {
        let stand = |places: &[(ShardIndex, NodeId)]| -> Vec<v1::Exception> {
            places.iter().map(|(shard, holder)| exception(*shard, holder)).collect()
        };
        worker.vault.put_holders(&new, &v1::Holders { shards: stand(&recoded.places) })?;
        let position = worker.vault.put_coded(&of, &recoded.coded, code)?;
        worker.store.sync(position)?;
        worker.append(Operation::CommitPack(v1::PackCommit {
            pack: Some(recoded.coded.descriptor.clone()),
            height: recoded.height.0,
            exceptions: stand(&recoded.exceptions),
            heads_root: recoded.beside.heads_root,
            wraps: recoded.beside.wraps,
            policy: recoded.beside.policy,
        }))?;
        worker.replication.add(of); // one that could not be replicated in the old code is, now
        anyhow::Ok(())
    })
    .await?;
    debug!(pack = %old.short(), into = %new.short(), k = code.k(), n = code.n(), "a pack was coded anew");
    retire(node, old, &new).await
}

/// Retires an id of a pack that has a newer one: on the ledger, here, and at its holders.
async fn retire(node: &Arc<Node>, old: &PackId, new: &PackId) -> anyhow::Result<()> {
    let holders = node.holders(old);
    let (worker, id, into) = (node.clone(), *old, *new);
    blocking(move || {
        worker.append(Operation::RetirePack(v1::RetirePack {
            pack: Bytes::copy_from_slice(id.as_bytes()),
            replaced_by: Bytes::copy_from_slice(into.as_bytes()),
        }))?;
        anyhow::Ok(worker.vault.forget_coded(&id)?)
    })
    .await?;
    crate::consolidate::drop_at_holders(node, old, &holders).await;
    Ok(())
}
