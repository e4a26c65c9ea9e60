//! Own packs on their way to other nodes: coded, committed to the ledger, pushed to their places, watched until the
//! owner's policy holds.
//!
//! A pack is durable here before it comes here. What is waiting is found again after a restart: every own pack whose
//! shards are not known to stand where they belong is taken up again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_placement::{Policy, PolicyError, Survive};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_types::{Code, NodeId, PackId, ShardIndex};
use bytes::Bytes;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::{Notify, watch};
use tracing::{debug, warn};

use crate::chain::ChainError;
use crate::links::LinkError;
use crate::node::Node;
use crate::shelf::Salt;
use crate::unplaced::Unplaced;
use crate::vault::VaultError;

/// Packs being coded and pushed at a time: each takes up to 16 MiB and its parity.
const PACKS_IN_FLIGHT: usize = 2;
/// A holder that has not confirmed a shard for so long is taken as not answering.
pub(crate) const PUSH_TIMEOUT: Duration = Duration::from_secs(60);

/// How far an own pack has come. Each state is reported only once it is true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Durable here; why it is not further yet, if something stands in the way.
    Local(Option<String>),
    /// Its policy holds: its shards are durable at enough other nodes.
    Replicated,
}

/// Own packs and how far they have come.
pub struct Replication {
    queue: Mutex<Queue>,
    work: Notify,
    changed: watch::Sender<u64>,
    /// Shards that did not reach their places, and were told of.
    pub unplaced: Unplaced,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Salt>,
    /// Could not go on for now: tried again when the network changes.
    held_up: HashSet<Salt>,
    progress: HashMap<Salt, Progress>,
}

/// Own packs in numbers.
#[derive(Clone, Debug, Default)]
pub struct Summary {
    /// Durable here only.
    pub local: u64,
    /// Their policy holds.
    pub replicated: u64,
    /// Why some are not replicated, and how many for each reason.
    pub reasons: BTreeMap<String, u64>,
}

impl Default for Replication {
    fn default() -> Self {
        let (queue, unplaced) = (Mutex::default(), Unplaced::default());
        Self { queue, work: Notify::new(), changed: watch::channel(0).0, unplaced }
    }
}

impl Replication {
    /// Takes up a pack that is durable here.
    pub fn add(&self, salt: Salt) {
        let mut queue = self.queue.lock().expect("no holder panics");
        queue.progress.entry(salt).or_insert(Progress::Local(None));
        queue.waiting.push_back(salt);
        drop(queue);
        self.work.notify_one();
    }

    /// A pack whose policy is known to hold.
    pub fn add_replicated(&self, salt: Salt) {
        self.queue.lock().expect("no holder panics").progress.insert(salt, Progress::Replicated);
    }

    /// A pack that is no more.
    pub fn remove(&self, salt: &Salt) {
        let mut queue = self.queue.lock().expect("no holder panics");
        queue.progress.remove(salt);
        queue.held_up.remove(salt);
    }

    /// How far a pack has come; none that is not ours or not closed yet.
    pub fn progress(&self, salt: &Salt) -> Option<Progress> {
        self.queue.lock().expect("no holder panics").progress.get(salt).cloned()
    }

    /// Tells of every change.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// All own packs in numbers.
    pub fn summary(&self) -> Summary {
        let queue = self.queue.lock().expect("no holder panics");
        let mut summary = Summary::default();
        for progress in queue.progress.values() {
            match progress {
                Progress::Replicated => summary.replicated += 1,
                Progress::Local(why) => {
                    summary.local += 1;
                    if let Some(why) = why {
                        *summary.reasons.entry(why.clone()).or_default() += 1;
                    }
                }
            }
        }
        summary
    }

    /// The packs whose policy holds.
    pub fn replicated(&self) -> Vec<Salt> {
        let queue = self.queue.lock().expect("no holder panics");
        let holds = queue.progress.iter().filter(|(_, progress)| **progress == Progress::Replicated);
        holds.map(|(salt, _)| *salt).collect()
    }

    /// The network changed: what was held up may go on.
    pub fn retry(&self) {
        let mut queue = self.queue.lock().expect("no holder panics");
        let held_up: Vec<Salt> = queue.held_up.drain().collect();
        queue.waiting.extend(held_up);
        drop(queue);
        self.work.notify_one();
    }

    fn next(&self) -> Option<Salt> {
        self.queue.lock().expect("no holder panics").waiting.pop_front()
    }

    fn hold_up(&self, salt: Salt, why: Option<String>) {
        let mut queue = self.queue.lock().expect("no holder panics");
        queue.held_up.insert(salt);
        if let Some(progress @ Progress::Local(_)) = queue.progress.get_mut(&salt) {
            *progress = Progress::Local(why);
        }
        drop(queue);
        self.notify();
    }

    fn reached(&self, salt: Salt) {
        self.queue.lock().expect("no holder panics").progress.insert(salt, Progress::Replicated);
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// Why a pack is not further.
#[derive(Debug, thiserror::Error)]
enum Obstacle {
    #[error(transparent)]
    Policy(#[from] PolicyError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("{0}")]
    Code(#[from] bithealth_pack::CodeError),
    #[error("the store takes nothing: {0}")]
    Write(#[from] bithealth_store::WriteError),
    #[error("{0}")]
    Shortfall(String),
}

/// Takes waiting packs to their places for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    let mut flights = FuturesUnordered::new();
    let mut peers = node.peers_changed.subscribe();
    let mut ledger = node.chain.watch();
    let mut height = node.chain.state().height();
    let mut retry = tokio::time::interval(Duration::from_millis(node.config.retry_ms));
    loop {
        while flights.len() < PACKS_IN_FLIGHT {
            let Some(salt) = node.replication.next() else { break };
            let node = node.clone();
            flights.push(tokio::spawn(async move {
                if let Err(obstacle) = replicate(&node, &salt).await {
                    debug!(pack = %PackId(salt).short(), %obstacle, "a pack is not where it belongs yet");
                    node.replication.hold_up(salt, Some(obstacle.to_string()));
                }
            }));
        }
        tokio::select! {
            _ = node.replication.work.notified() => {}
            Some(_) = flights.next() => {}
            _ = peers.changed() => node.replication.retry(),
            _ = retry.tick() => node.replication.retry(),
            _ = ledger.changed() => {
                let now = node.chain.state().height();
                if now != height {
                    height = now;
                    node.replication.retry();
                }
            }
        }
    }
}

/// Takes one pack as far as it goes now.
async fn replicate(node: &Arc<Node>, salt: &Salt) -> Result<(), Obstacle> {
    let (descriptor, coded) = match committed(node, salt) {
        Some(id) => {
            let descriptor = node.chain.state().pack(&id).and_then(|pack| pack.commit.pack.clone()).unwrap_or_default();
            (descriptor, None)
        }
        None => {
            let (worker, salt) = (node.clone(), *salt);
            let (descriptor, coded) = blocking(move || code_and_commit(&worker, &salt)).await?;
            (descriptor, Some(coded))
        }
    };
    let id = descriptor.id();
    let author = node.chain.state().pack(&id).map_or(node.id(), |pack| pack.author);
    let code = Code::new(descriptor.k, descriptor.n).expect("the ledger holds only codes");
    let (acknowledged, full) = (BTreeMap::new(), BTreeSet::new());
    let mut push = Push { node, salt: *salt, id, author, code, descriptor, coded, acknowledged, full };
    push.recall()?;
    push.run().await
}

/// The id of an own pack that is on the ledger.
fn committed(node: &Node, salt: &Salt) -> Option<PackId> {
    node.chain.state().pack_with_salt(salt)
}

/// Chooses the code for the nodes that answer, codes the pack, and commits it. Blocks.
fn code_and_commit(node: &Arc<Node>, salt: &Salt) -> Result<(v1::PackDescriptor, Shards), Obstacle> {
    let beside = node.vault.stored_pack(salt)?;
    let policy = policy_of(beside.policy.as_ref());
    let height = node.chain.state().height();
    let sites = node.sites(height);
    let condemned = node.condemned();
    let takes = |of: &NodeId| node.answers(of) && !condemned.contains(of);
    let live: Vec<_> = sites.iter().filter(|site| takes(&site.node)).cloned().collect();
    // Before anything is read: a pack whose policy cannot hold now is looked at again and again.
    let code = bithealth_placement::choose(&policy, &node.id(), &live, node.vault.pack_len(salt)?)?;
    let pack = node.vault.whole_pack(salt)?;
    let coded = bithealth_pack::encode(code, salt, beside.catalog_len, &pack)?;
    let computed = bithealth_placement::place(&policy, code, &coded.id, &node.id(), &sites)?;
    let exceptions = bithealth_placement::substitutes(&policy, code, &coded.id, &node.id(), &sites, &computed, &takes);
    let position = node.vault.put_coded(salt, &coded, code)?;
    node.store.sync(position)?;
    node.append(Operation::CommitPack(v1::PackCommit {
        pack: Some(coded.descriptor.clone()),
        height: height.0,
        exceptions: exceptions.iter().map(|(shard, node)| exception(*shard, node)).collect(),
        heads_root: beside.heads_root,
        wraps: beside.wraps,
        policy: beside.policy,
    }))?;
    Ok((coded.descriptor, Shards { code, pack, parity: coded.parity }))
}

/// One pack on its way to its holders.
struct Push<'a> {
    node: &'a Arc<Node>,
    salt: Salt,
    id: PackId,
    author: NodeId,
    code: Code,
    descriptor: v1::PackDescriptor,
    /// As it was coded, while it is in memory.
    coded: Option<Shards>,
    acknowledged: BTreeMap<ShardIndex, NodeId>,
    /// Nodes that have no more room for us.
    full: BTreeSet<NodeId>,
}

impl Push<'_> {
    /// What is known to stand where from before.
    fn recall(&mut self) -> Result<(), Obstacle> {
        for holder in self.node.vault.holders(&self.id)?.shards {
            if let Ok(node) = NodeId::try_from(holder.node.as_ref()) {
                self.acknowledged.insert(ShardIndex(holder.shard as u16), node);
            }
        }
        // What we hold ourselves is durable: the author's shard lies in its pack.
        self.acknowledged.insert(ShardIndex(0), self.node.id());
        Ok(())
    }

    async fn run(mut self) -> Result<(), Obstacle> {
        let node = self.node.clone();
        self.check_policy();
        let mut holders: BTreeMap<ShardIndex, NodeId> = node.holders(&self.id).into_iter().collect();
        let mut failed: HashSet<NodeId> = HashSet::new();
        loop {
            let due: Vec<(ShardIndex, NodeId)> = holders
                .iter()
                .filter(|(shard, holder)| self.acknowledged.get(shard) != Some(holder) && shard.0 != 0)
                .map(|(shard, holder)| (*shard, *holder))
                .collect();
            let moved = if due.is_empty() {
                self.find_better(&holders, &failed)
            } else {
                let failures = self.push(&due, &failed).await?;
                if failures.is_empty() {
                    continue;
                }
                failed.extend(failures);
                self.find_substitutes(&holders, &failed)
            };
            if moved.is_empty() {
                break;
            }
            holders.extend(moved);
        }
        self.record_moves(&holders).await?;
        if let Some(why) = self.shortfall() {
            return Err(Obstacle::Shortfall(why + &self.no_room()));
        }
        crate::consolidate::retire_replaced(&node, &self.salt, &self.id).await;
        if holders.iter().any(|(shard, holder)| shard.0 != 0 && self.acknowledged.get(shard) != Some(holder)) {
            // The policy holds, but with less margin than was chosen: the rest is tried again.
            node.replication.hold_up(self.salt, None);
        } else {
            node.replication.unplaced.forget(&self.id);
        }
        Ok(())
    }

    /// Pushes shards to their holders side by side; returns those that did not take theirs.
    async fn push(&mut self, due: &[(ShardIndex, NodeId)], failed: &HashSet<NodeId>) -> Result<Vec<NodeId>, Obstacle> {
        let shards = self.shards().await?;
        let mut pushes = FuturesUnordered::new();
        let mut failures = Vec::new();
        for &(shard, holder) in due {
            if failed.contains(&holder) || !self.node.answers(&holder) {
                failures.push(holder);
                continue;
            }
            let bytes = shards.shard(shard);
            let (node, descriptor, author) = (self.node.clone(), self.descriptor.clone(), self.author);
            pushes.push(async move {
                let stored = node.links.store(holder, &descriptor, shard, &author, bytes);
                let stored = tokio::time::timeout(PUSH_TIMEOUT, stored).await;
                (shard, holder, stored.unwrap_or(Err(LinkError::Lost { node: holder })))
            });
        }
        while let Some((shard, holder, stored)) = pushes.next().await {
            match stored {
                Ok(()) => {
                    self.acknowledged.insert(shard, holder);
                    self.node.replication.unplaced.placed(self.id, holder);
                    self.check_policy();
                }
                Err(error) => {
                    self.tell(shard, holder, &error);
                    if matches!(error, LinkError::Refused { why: v1::StoreRefusal::Full, .. }) {
                        self.full.insert(holder);
                    }
                    failures.push(holder);
                }
            }
        }
        self.remember()?;
        Ok(failures)
    }

    /// Once for each cause: it is tried again every few seconds.
    fn tell(&self, shard: ShardIndex, holder: NodeId, error: &LinkError) {
        let pack = self.id.short();
        match self.node.replication.unplaced.failed(self.id, holder, error) {
            Some(next) => warn!(%pack, %shard, %error, next, "a shard did not reach its place"),
            None => debug!(%pack, %shard, %error, "a shard did not reach its place, as before"),
        }
    }

    /// The shards of the pack: as they were coded, or coded again after a restart.
    async fn shards(&mut self) -> Result<Shards, Obstacle> {
        if let Some(coded) = &self.coded {
            return Ok(coded.clone());
        }
        let (node, salt, code, catalog_len) = (self.node.clone(), self.salt, self.code, self.descriptor.catalog_len);
        let coded = blocking(move || {
            let pack = node.vault.whole_pack(&salt)?;
            let parity = bithealth_pack::encode(code, &salt, catalog_len, &pack)?.parity;
            Ok::<_, Obstacle>(Shards { code, pack, parity })
        });
        Ok(self.coded.insert(coded.await?).clone())
    }

    fn shortfall(&self) -> Option<String> {
        let policy = self.policy();
        let acknowledged: Vec<_> = self.acknowledged.iter().map(|(shard, node)| (*shard, *node)).collect();
        let sites = self.node.sites_now();
        bithealth_placement::shortfall(&policy, self.code, &self.author, &acknowledged, &sites)
            .map(|short| short.to_string())
    }

    /// Who would have to offer more.
    fn no_room(&self) -> String {
        let names: Vec<String> = self.full.iter().map(|node| node.short().to_string()).collect();
        if names.is_empty() { String::new() } else { format!("; no more room for us at node {}", names.join(", ")) }
    }

    fn policy(&self) -> Policy {
        let state = self.node.chain.state();
        policy_of(state.pack(&self.id).and_then(|pack| pack.commit.policy.as_ref()))
    }

    fn check_policy(&self) {
        if self.shortfall().is_none() {
            self.node.replication.reached(self.salt);
        }
    }

    fn find_substitutes(
        &self,
        holders: &BTreeMap<ShardIndex, NodeId>,
        failed: &HashSet<NodeId>,
    ) -> Vec<(ShardIndex, NodeId)> {
        let sites = self.node.sites_now();
        let computed: Vec<NodeId> = holders.values().copied().collect();
        let condemned = self.node.condemned();
        let live = |node: &NodeId| self.node.answers(node) && !failed.contains(node) && !condemned.contains(node);
        bithealth_placement::substitutes(&self.policy(), self.code, &self.id, &self.author, &sites, &computed, &live)
    }

    /// Where else shards have to go if the policy does not hold though each has its place: those that stepped in for others
    /// may stand together, and fall together.
    fn find_better(
        &self,
        holders: &BTreeMap<ShardIndex, NodeId>,
        failed: &HashSet<NodeId>,
    ) -> Vec<(ShardIndex, NodeId)> {
        if self.shortfall().is_none() {
            return Vec::new();
        }
        let condemned = self.node.condemned();
        let live = |node: &NodeId| self.node.answers(node) && !failed.contains(node) && !condemned.contains(node);
        let sites: Vec<_> = self.node.sites_now().into_iter().filter(|site| live(&site.node)).collect();
        let placed = bithealth_placement::place(&self.policy(), self.code, &self.id, &self.author, &sites);
        let placed = (0..).map(ShardIndex).zip(placed.unwrap_or_default());
        placed.filter(|(shard, node)| shard.0 != 0 && holders.get(shard) != Some(node)).collect()
    }

    /// Says on the ledger where shards stand that are not where the ledger puts them.
    async fn record_moves(&self, holders: &BTreeMap<ShardIndex, NodeId>) -> Result<(), Obstacle> {
        let on_ledger: BTreeMap<ShardIndex, NodeId> = self.node.holders(&self.id).into_iter().collect();
        let moved: Vec<_> = holders
            .iter()
            .filter(|(shard, node)| on_ledger.get(shard) != Some(node) && self.acknowledged.get(shard) == Some(node))
            .map(|(shard, node)| exception(*shard, node))
            .collect();
        let (node, pack) = (self.node.clone(), Bytes::copy_from_slice(self.id.as_bytes()));
        blocking(move || {
            for v1::Exception { shard, node: holder } in moved {
                node.append(Operation::PlaceShard(v1::PlaceShard { pack: pack.clone(), shard, node: holder }))?;
            }
            Ok::<_, Obstacle>(())
        })
        .await
    }

    fn remember(&self) -> Result<(), Obstacle> {
        let shards = self.acknowledged.iter().map(|(shard, node)| exception(*shard, node)).collect();
        self.node.vault.put_holders(&self.id, &v1::Holders { shards })?;
        Ok(())
    }
}

/// A pack and its parity.
#[derive(Clone)]
pub(crate) struct Shards {
    pub(crate) code: Code,
    pub(crate) pack: Bytes,
    pub(crate) parity: Vec<Bytes>,
}

impl Shards {
    pub(crate) fn shard(&self, shard: ShardIndex) -> Bytes {
        let at = usize::from(shard.0);
        match at.checked_sub(usize::from(self.code.k())) {
            Some(parity) => self.parity[parity].clone(),
            None => {
                let len = self.code.shard_len(self.pack.len() as u64) as usize;
                let (from, to) = (at * len, (at + 1) * len);
                if to <= self.pack.len() {
                    return self.pack.slice(from..to);
                }
                let mut bytes = self.pack.get(from..).unwrap_or_default().to_vec();
                bytes.resize(len, 0);
                bytes.into()
            }
        }
    }
}

/// The policy of a pack as placement knows it.
pub fn policy_of(policy: Option<&v1::Policy>) -> Policy {
    let policy = policy.cloned().unwrap_or_default();
    Policy {
        survive: Survive { regions: policy.survive_regions, nodes: policy.survive_nodes },
        keep_in: policy.keep_in,
        no_single_state: policy.no_single_state,
    }
}

/// The policy as it stands in a commit.
pub fn policy_message(policy: &Policy) -> v1::Policy {
    v1::Policy {
        survive_regions: policy.survive.regions,
        survive_nodes: policy.survive.nodes,
        keep_in: policy.keep_in.clone(),
        no_single_state: policy.no_single_state,
    }
}

pub(crate) fn exception(shard: ShardIndex, node: &NodeId) -> v1::Exception {
    v1::Exception { shard: shard.0.into(), node: Bytes::copy_from_slice(node.as_bytes()) }
}

/// Runs what computes or waits for the disk off the tasks of the network.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(work).await.expect("the work does not panic")
}
