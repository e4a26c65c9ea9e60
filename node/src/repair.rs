//! Rebuilds here what other nodes lost, and drops copies that became spare.
//!
//! `placement::View` says what is missing and which node takes it; this is its shell. The most endangered pack comes first,
//! within a budget of bytes read from others. A shard counts as ours once it is durable here and an entry says so.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use anyhow::Context;
use bithealth_exchange::Priority;
use bithealth_merkle::{leaf_hash, verify_run};
use bithealth_placement::{Absences, Placed, View};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, MemberId, NodeId, PackId, ShardIndex, Time};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::watch;
use tracing::{debug, info, warn};

use crate::fetch;
use crate::links::Wanted;
use crate::node::{Node, now_ms};
use crate::replicate::blocking;
use crate::serving::WANT_LEAVES_MAX;

/// Shards rebuilt at a time: each holds the k shards it is decoded from in memory, up to 16 MiB, and itself.
const REBUILDS_MAX: usize = 3;
/// Shards rebuilt before the network is looked at again: a pack that became more endangered meanwhile waits no longer.
const REBUILDS_PER_LOOK: usize = 64;
/// Looking takes at most this part of the time, however many packs there are: a hundredth, but for what follows a rebuild.
const LOOK_REST: u32 = 99;
/// How often to look where others have something to rebuild, so that `status` tells how they get on.
const OTHERS_REBUILD: Duration = Duration::from_secs(1);
/// What an estimate of the time left is drawn from: looks of the last minutes,
const PROGRESS_SPAN: Duration = Duration::from_secs(300);
/// about this far apart.
const PROGRESS_APART: Duration = Duration::from_secs(1);

/// How repair stands, as this node sees it.
#[derive(Default)]
pub struct Repair {
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    overview: Overview,
    view: Option<Arc<View>>,
    /// Bytes that were missing at looks of late, since they last grew.
    missing: VecDeque<(Instant, u64)>,
}

/// The packs of the network in numbers.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Packs by how many more nodes may be lost: those of this organisation, and all.
    pub margins: BTreeMap<i64, (u64, u64)>,
    /// Packs with shards that are missing.
    pub waiting_packs: u64,
    /// Shards that were lost with their holders, or whose holders leave.
    pub missing_shards: u64,
    /// Their bytes.
    pub missing_bytes: u64,
    /// Of them those that no node can take, since each has another of the same pack.
    pub untaken_shards: u64,
    /// What organisations hold for others, and others for them.
    pub balances: BTreeMap<MemberId, Balance>,
    /// Until what a silent node holds counts as lost.
    pub begins_in: Option<Duration>,
    /// Rebuilt here since the start: shards and bytes.
    pub rebuilt: (u64, u64),
}

impl Overview {
    /// Whether there are lost shards that somebody can take.
    fn others_rebuild(&self) -> bool {
        self.missing_shards > self.untaken_shards
    }
}

/// Bytes of shards, as the ledger places them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Balance {
    /// Of other organisations, held by this one.
    pub given: u64,
    /// Of this one, held by others.
    pub used: u64,
}

/// A shard that this node rebuilds.
struct Rebuild {
    margin: i64,
    pack: PackId,
    shard: ShardIndex,
    author: NodeId,
    /// Who held it before.
    from: NodeId,
    len: u64,
    /// Bytes that rebuilding reads from others.
    cost: u64,
}

/// A copy that may be dropped once the holder has shown that it has one.
struct Spare {
    pack: PackId,
    shard: ShardIndex,
    holder: NodeId,
}

struct Look {
    view: View,
    overview: Overview,
    rebuilds: Vec<Rebuild>,
    spares: Vec<Spare>,
}

impl Repair {
    /// The packs of the network in numbers, and when nothing is missing any more at the speed of the latest looks.
    pub fn overview(&self) -> (Overview, Option<Duration>) {
        let seen = self.seen.lock().expect("no holder panics");
        (seen.overview.clone(), time_left(&seen.missing))
    }

    /// How the network looked last.
    pub fn view(&self) -> Option<Arc<View>> {
        self.seen.lock().expect("no holder panics").view.clone()
    }

    fn show(&self, view: View, mut overview: Overview) {
        let mut seen = self.seen.lock().expect("no holder panics");
        if seen.missing.back().is_some_and(|(_, before)| *before < overview.missing_bytes) {
            seen.missing.clear();
        }
        note(&mut seen.missing, Instant::now(), overview.missing_bytes);
        overview.rebuilt = seen.overview.rebuilt;
        seen.overview = overview;
        seen.view = Some(Arc::new(view));
    }

    fn count(&self, len: u64) {
        let rebuilt = &mut self.seen.lock().expect("no holder panics").overview.rebuilt;
        *rebuilt = (rebuilt.0 + 1, rebuilt.1 + len);
    }
}

/// Notes what was missing at the latest look; of looks close to one another one stays, and the oldest go.
fn note(missing: &mut VecDeque<(Instant, u64)>, now: Instant, bytes: u64) {
    if missing.iter().rev().nth(1).is_some_and(|(before, _)| now.duration_since(*before) < PROGRESS_APART) {
        missing.pop_back();
    }
    missing.push_back((now, bytes));
    while missing.len() > 2 && missing.front().is_some_and(|(at, _)| now.duration_since(*at) > PROGRESS_SPAN) {
        missing.pop_front();
    }
}

fn time_left(missing: &VecDeque<(Instant, u64)>) -> Option<Duration> {
    let ((since, before), (now, left)) = (missing.front()?, missing.back()?);
    let (took, done) = (now.duration_since(*since).as_secs_f64(), before.saturating_sub(*left));
    (*left > 0 && done > 0).then(|| Duration::from_secs_f64(took * *left as f64 / done as f64))
}

/// Looks for what is missing, and rebuilds what is for this node, for as long as it runs.
pub async fn run(node: Arc<Node>) {
    let mut silence = Silence::new(node.clone());
    let mut budget = Budget { bytes_per_s: node.config.repair_bytes_per_s, free_at: Instant::now() };
    let every = Duration::from_millis(node.config.repair_look_ms);
    let (mut rebuilt, mut took_before) = (BTreeSet::new(), Duration::ZERO);
    loop {
        let (gone, begins_in) = silence.now();
        let (worker, lost) = (node.clone(), gone.clone());
        let (look, took) = blocking(move || {
            let began = Instant::now();
            (look(&worker, lost, begins_in), began.elapsed())
        })
        .await;
        // One that had to wait for a processor counts as what the one before took.
        let (looked, rest) = (Instant::now(), took.min(took_before) * LOOK_REST);
        took_before = took;
        let due: Vec<_> = look.rebuilds.iter().map(|it| (it.pack, it.shard)).collect();
        let others_rebuild = look.overview.others_rebuild();
        node.repair.show(look.view, look.overview);
        let before = std::mem::take(&mut rebuilt);
        rebuilt = silence.during(rebuild_all(&node, look.rebuilds, &mut budget)).await;
        if due.is_empty() {
            silence.during(drop_spares(&node, look.spares)).await;
        }
        let pause = LedTo::of(&due, &before, &rebuilt, others_rebuild).pause(rest, every);
        silence.until(looked + pause, gone).await;
    }
}

/// A shard of a pack.
type Shard = (PackId, ShardIndex);

/// What a look led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LedTo {
    /// Nothing is to be done, or nothing could be.
    Nothing,
    /// Others have something to rebuild.
    OthersRebuild,
    /// Something was rebuilt here.
    Rebuilding,
}

impl LedTo {
    /// What a look at which these shards were due led to, of which `rebuilt` were rebuilt, behind one that led to `before`.
    fn of(due: &[Shard], before: &BTreeSet<Shard>, rebuilt: &BTreeSet<Shard>, others_rebuild: bool) -> Self {
        // What was rebuilt and is due again may be due for good, as where an entry with a later time places it elsewhere.
        let in_vain = due.iter().any(|shard| before.contains(shard));
        match (due.is_empty(), rebuilt.is_empty() || in_vain) {
            (true, _) if others_rebuild => Self::OthersRebuild,
            (true, _) | (false, true) => Self::Nothing,
            (false, false) => Self::Rebuilding,
        }
    }

    /// From this look to the next, where `rest` keeps looking to its part of the time.
    fn pause(self, rest: Duration, every: Duration) -> Duration {
        match self {
            Self::Nothing => rest.max(every),
            Self::OthersRebuild => rest.max(every.min(OTHERS_REBUILD)),
            Self::Rebuilding => rest.min(every),
        }
    }
}

/// Who is silent, and since when.
struct Silence {
    node: Arc<Node>,
    absences: Absences,
    peers: watch::Receiver<u64>,
    started: Instant,
}

impl Silence {
    fn new(node: Arc<Node>) -> Self {
        let peers = node.peers_changed.subscribe();
        Self { node, absences: Absences::default(), peers, started: Instant::now() }
    }

    /// Who was silent for so long that its shards count as lost, and until the next one was.
    fn now(&mut self) -> (BTreeSet<NodeId>, Option<Duration>) {
        let now = Time(self.started.elapsed().as_millis() as u64);
        let after = Duration::from_millis(self.node.config.repair_after_ms);
        let sites = self.node.sites_now();
        self.absences.see(now, sites.iter().map(|site| site.node), |of| self.node.answers(of));
        (self.absences.gone(now, after), self.absences.next_gone(now, after))
    }

    /// Waits until then, or until more were silent for so long: their shards are rebuilt at once, however long this node would
    /// rest.
    async fn until(&mut self, then: Instant, mut known: BTreeSet<NodeId>) {
        loop {
            let (gone, next) = self.now();
            if Instant::now() >= then || !gone.is_subset(&known) {
                return;
            }
            known = gone; // who came back and goes again is looked for again
            let next = next.map_or(then, |next| then.min(Instant::now() + next));
            tokio::select! {
                () = tokio::time::sleep_until(next.into()) => {}
                () = changed(&mut self.peers) => {}
            }
        }
    }

    /// Sees who comes and goes while something else is done.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> T {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                () = changed(&mut self.peers) => drop(self.now()),
            }
        }
    }
}

async fn changed(peers: &mut watch::Receiver<u64>) {
    peers.changed().await.expect("the node outlives its repair");
}

/// Bytes that may be read for repair.
struct Budget {
    /// 0: as many as the network gives.
    bytes_per_s: u64,
    free_at: Instant,
}

impl Budget {
    /// When `bytes` more may be read; they then count as read.
    fn take(&mut self, bytes: u64) -> Instant {
        let now = Instant::now();
        if self.bytes_per_s == 0 {
            return now;
        }
        let at = self.free_at.max(now);
        self.free_at = at + Duration::from_secs_f64(bytes as f64 / self.bytes_per_s as f64);
        at
    }
}

/// Blocks.
fn look(node: &Node, gone: BTreeSet<NodeId>, begins_in: Option<Duration>) -> Look {
    let sites = node.sites_now();
    let condemned = node.condemned();
    let answers = |of: &NodeId| node.answers(of) && !condemned.contains(of);
    let here = sites.iter().map(|site| site.node).filter(answers).collect();
    let gone = gone.union(&condemned).copied().collect();
    let view = View { here, gone, sites };
    let mut look = Look {
        view,
        overview: Overview { begins_in, ..Overview::default() },
        rebuilds: Vec::new(),
        spares: Vec::new(),
    };
    let packs: Vec<PackId> =
        node.chain.state().packs().filter(|pack| pack.retired_into.is_none()).map(|pack| pack.id).collect();
    for pack in packs {
        look.at(node, &pack);
    }
    match node.vault.held() {
        Ok(held) => held.into_iter().for_each(|(pack, shard)| look.at_copy(node, pack, shard)),
        Err(error) => warn!(%error, "what lies here cannot be listed"),
    }
    look.rebuilds.sort_by_key(|rebuild| (rebuild.margin, rebuild.pack, rebuild.shard));
    look
}

impl Look {
    fn at(&mut self, node: &Node, pack: &PackId) {
        let (Some(placed), Some(commit)) = (node.placed(pack), node.commit_of(pack)) else { return };
        let standing = self.view.standing(&placed);
        let counts = self.overview.margins.entry(standing.margin).or_default();
        *counts = (counts.0 + u64::from(node.is_ours(&placed.author)), counts.1 + 1);
        let len = placed.code.shard_len(commit.len);
        self.balance(node, &placed, len);
        let missing = standing.missing.len() as u64;
        self.overview.waiting_packs += u64::from(missing > 0);
        self.overview.missing_shards += missing;
        self.overview.missing_bytes += missing * len;
        self.overview.untaken_shards += missing - standing.takers.len() as u64;
        let me = node.id();
        let due = |(shard, from): (ShardIndex, NodeId)| {
            // Who has it, or has the pack, sends it as it is; otherwise it takes any k others.
            let is_sent = [from, placed.author].iter().any(|node| *node != me && self.view.here.contains(node));
            let cost = if is_sent { len } else { commit.len };
            Rebuild { margin: standing.margin, pack: *pack, shard, author: placed.author, from, len, cost }
        };
        let holder = |shard: ShardIndex| placed.holders[usize::from(shard.0)].1;
        let taken = standing.takers.iter().filter(|(_, taker)| *taker == me).map(|(shard, _)| (*shard, holder(*shard)));
        // What its author may still be sending is not rebuilt.
        let settled = commit.in_block && now_ms().saturating_sub(commit.time_ms) >= node.config.repair_after_ms;
        let lost_here = placed.holders.iter().copied().filter(|(shard, holder)| {
            *holder == me && settled && placed.author != me && !node.vault.has_shard(pack, *shard)
        });
        self.rebuilds.extend(taken.chain(lost_here).map(due));
    }

    fn balance(&mut self, node: &Node, placed: &Placed, len: u64) {
        let state = node.chain.state();
        let member = |node: &NodeId| state.node(node).map(|node| node.member);
        let Some(owner) = member(&placed.author) else { return };
        let holders = placed.holders.iter().filter_map(|(_, holder)| member(holder));
        for holder in holders.filter(|holder| *holder != owner) {
            self.overview.balances.entry(holder).or_default().given += len;
            self.overview.balances.entry(owner).or_default().used += len;
        }
    }

    fn at_copy(&mut self, node: &Node, pack: PackId, shard: ShardIndex) {
        let Some(placed) = node.placed(&pack) else { return };
        let Some((_, holder)) = placed.holders.get(usize::from(shard.0)).copied() else { return };
        if holder != node.id() && self.view.is_spare(&placed) {
            self.spares.push(Spare { pack, shard, holder });
        }
    }
}

/// Those that could be rebuilt, of the first so many.
async fn rebuild_all(node: &Arc<Node>, rebuilds: Vec<Rebuild>, budget: &mut Budget) -> BTreeSet<Shard> {
    let paced = rebuilds.into_iter().take(REBUILDS_PER_LOOK).map(|rebuild| (budget.take(rebuild.cost), rebuild));
    let paced: Vec<_> = paced.collect();
    let rebuilt = futures::stream::iter(paced).map(|(at, it)| async move {
        tokio::time::sleep_until(at.into()).await;
        let (pack, shard) = (it.pack, it.shard);
        match rebuild(node, &it).await {
            Ok(()) => {
                info!(pack = %pack.short(), %shard, from = %it.from.short(), "a lost shard is rebuilt here");
                node.repair.count(it.len);
                Some((pack, shard))
            }
            Err(error) => {
                warn!(pack = %pack.short(), %shard, %error, "a lost shard cannot be rebuilt here yet");
                None
            }
        }
    });
    rebuilt.buffer_unordered(REBUILDS_MAX).filter_map(std::future::ready).collect().await
}

async fn rebuild(node: &Arc<Node>, it: &Rebuild) -> anyhow::Result<()> {
    let fetched = match node.vault.has_shard(&it.pack, it.shard) {
        true => None, // as in a pack that this node restored
        false => {
            let place = node.room_for(&it.author, &it.pack, it.shard, it.len)?;
            Some((place, fetch::shard(node, &it.pack, it.shard, Priority::Repair).await?))
        }
    };
    let (worker, pack, shard) = (node.clone(), it.pack, it.shard);
    blocking(move || {
        if let Some((place, fetched)) = fetched {
            worker.vault.keep_shard(&pack, shard, &fetched.tree, &[&fetched.bytes])?;
            place.keep(worker.owner_of(&pack));
        }
        // The ledger may have it here already: then only the bytes were lost.
        let holder = worker.placed(&pack).and_then(|placed| placed.holders.get(usize::from(shard.0)).copied());
        if holder.is_some_and(|(_, holder)| holder != worker.id()) {
            worker.append(Operation::PlaceShard(v1::PlaceShard {
                pack: Bytes::copy_from_slice(pack.as_bytes()),
                shard: shard.0.into(),
                node: Bytes::copy_from_slice(worker.id().as_bytes()),
            }))?;
        }
        anyhow::Ok(())
    })
    .await
}

async fn drop_spares(node: &Arc<Node>, spares: Vec<Spare>) {
    for Spare { pack, shard, holder } in spares {
        let shown = match node.placed(&pack) {
            Some(placed) => has_it(node, &placed, shard, holder).await,
            None => continue,
        };
        match shown {
            Ok(()) => {
                debug!(pack = %pack.short(), %shard, holder = %holder.short(), "a spare copy is dropped");
                let worker = node.clone();
                if let Err(error) = blocking(move || worker.drop_shard(&pack, shard)).await {
                    warn!(%error, "a spare copy cannot be dropped");
                }
            }
            Err(error) => {
                warn!(pack = %pack.short(), %shard, holder = %holder.short(), %error, "a copy stays: its holder shows none");
            }
        }
    }
}

/// Asks a holder for leaves that it cannot foresee.
async fn has_it(node: &Arc<Node>, placed: &Placed, shard: ShardIndex, holder: NodeId) -> anyhow::Result<()> {
    let commit = node.commit_of(&placed.pack).context("the pack is not on the ledger")?;
    let leaf_count = placed.code.leaf_count(commit.len);
    let mut draw = [0; 4];
    getrandom::fill(&mut draw).expect("the system's random source answers");
    let count = WANT_LEAVES_MAX.min(leaf_count);
    let first = LeafIndex(u32::from_le_bytes(draw) % (leaf_count - count + 1));
    let Wanted::Leaves(leaves) = node.links.want(holder, &placed.pack, shard, first, count, Priority::Repair).await?
    else {
        anyhow::bail!("it does not have the shard");
    };
    let root = commit.roots.get(usize::from(shard.0)).context("the pack has no such shard")?;
    let hashes: Vec<Digest> = leaves.data.chunks(LEAF_LEN).map(leaf_hash).collect();
    anyhow::ensure!(hashes.len() == count as usize, "it sent {} leaves of {count}", hashes.len());
    let proof: Vec<Digest> = leaves.proof.iter().filter_map(|it| Digest::try_from(it.as_ref()).ok()).collect();
    Ok(verify_run(root, leaf_count, first, &hashes, &proof)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_left_follows_from_what_was_done() {
        let start = Instant::now();
        let at = |seconds: u64, left: u64| (start + Duration::from_secs(seconds), left);
        assert_eq!(time_left(&VecDeque::from([at(0, 100)])), None, "one look tells nothing");
        assert_eq!(time_left(&VecDeque::from([at(0, 100), at(10, 100)])), None, "nothing was done");
        assert_eq!(time_left(&VecDeque::from([at(0, 100), at(5, 90), at(10, 80)])), Some(Duration::from_secs(40)));
        assert_eq!(time_left(&VecDeque::from([at(0, 100), at(10, 0)])), None, "all is done");
    }

    #[test]
    fn the_time_left_is_drawn_from_the_last_minutes_however_often_was_looked() {
        let (start, mut missing) = (Instant::now(), VecDeque::new());
        for tenth in 0..6000_u32 {
            note(&mut missing, start + tenth * Duration::from_millis(100), u64::from(6000 - tenth));
        }
        assert!((300..=400).contains(&missing.len()), "{}", missing.len());
        let left = time_left(&missing).unwrap();
        assert!(left.abs_diff(Duration::from_millis(100)) < Duration::from_millis(1), "{left:?}");
    }

    #[test]
    fn who_rebuilt_looks_again_at_once_and_who_watches_others_more_often() {
        let [short, second, every, long] = [5, 1000, 10_000, 60_000].map(Duration::from_millis);
        let pauses =
            |rest| [LedTo::Nothing, LedTo::OthersRebuild, LedTo::Rebuilding].map(|led_to| led_to.pause(rest, every));
        assert_eq!(pauses(short), [every, second, short]);
        assert_eq!(pauses(long), [long, long, every], "an archive so large that a look takes long");
        assert_eq!(LedTo::OthersRebuild.pause(short, short), short, "no less often than without them");
    }

    #[test]
    fn what_is_rebuilt_and_due_again_is_no_reason_to_look_again_at_once() {
        let [one, two] = [1, 2].map(|at| (PackId([at; 32]), ShardIndex(3)));
        let (none, first) = (BTreeSet::new(), BTreeSet::from([one]));
        assert_eq!(LedTo::of(&[one, two], &none, &first, false), LedTo::Rebuilding);
        assert_eq!(LedTo::of(&[two], &first, &[two].into(), false), LedTo::Rebuilding, "it goes on with others");
        assert_eq!(LedTo::of(&[one, two], &first, &[one, two].into(), false), LedTo::Nothing, "one of them in vain");
        assert_eq!(LedTo::of(&[one], &none, &none, true), LedTo::Nothing, "it cannot be rebuilt yet");
        assert_eq!(
            [false, true].map(|others| LedTo::of(&[], &first, &none, others)),
            [LedTo::Nothing, LedTo::OthersRebuild]
        );
    }

    #[test]
    fn the_budget_spreads_what_is_read_over_time() {
        let mut budget = Budget { bytes_per_s: 1000, free_at: Instant::now() };
        let first = budget.take(500);
        let second = budget.take(2000);
        assert_eq!(second - first, Duration::from_millis(500));
        assert_eq!(budget.take(1) - second, Duration::from_secs(2));
        let mut free = Budget { bytes_per_s: 0, free_at: Instant::now() };
        free.take(1 << 40);
        assert!(free.take(1) <= Instant::now());
    }
}
