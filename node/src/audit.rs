//! Audits the nodes that hold what this node depends on, and tells the ledger whom it condemns.
//!
//! Whom to audit, and what an answer is worth, is `placement::Auditor`'s to say; what is asked and whether the answer is
//! true is `exchange::Audit`'s. This is their shell: it draws the sets, carries the messages, and writes the entries.

mod kept;
mod show;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bithealth_exchange::{
    AUDIT_BYTES_MAX, AUDIT_SHARDS_MAX, Audit, AuditEffect, AuditInput, AuditOutcome, AuditSpec, AuditedShard, Priority,
};
use bithealth_ledger::{CONDEMNED_FOR_MS, Condemned};
use bithealth_net::{Protocol, Stream};
use bithealth_placement::{Answer, AuditConfig, Auditor, Trust, Verdict, View};
use bithealth_proto::v1::{self, AuditFault, audit_ask::Ask, audit_tell::Tell, entry::Operation};
use bithealth_store::Store;
use bithealth_types::{Digest, LEAF_LEN, NodeId, PackId, ShardIndex, Time};
use bytes::Bytes;
use futures::StreamExt;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use tokio::time::MissedTickBehavior;
use tracing::{debug, info, warn};

use crate::config::Config;
use crate::counters::Purpose;
use crate::links::set_bits;
use crate::node::{Node, now_ms};
use crate::replicate::blocking;

pub use show::{infos, warning};

/// Leaves opened in one audit: 1 MiB. Who lacks one in a hundred is found out by one audit in two.
const SAMPLES: u32 = 64;
/// Audits on their way: one that waits long for its answer holds up no other.
const AUDITS_AT_ONCE_MAX: usize = 4;
/// Packs looked through for what others should have. From one audit to the next the walk begins elsewhere.
const PACKS_LOOKED_AT_MAX: usize = 4096;
/// How long the opened leaves are waited for: time tells nothing there, since they may be fetched.
const OPEN_WITHIN: Duration = Duration::from_secs(60);

/// What this node's audits showed.
pub struct Audits {
    seen: Mutex<Seen>,
}

struct Seen {
    auditor: Auditor,
    /// What the last failure of each holder was.
    faults: BTreeMap<NodeId, Fault>,
}

/// What a condemnation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Fault {
    fault: AuditFault,
    nonce: [u8; 32],
    shard: Option<(PackId, ShardIndex)>,
}

impl Audits {
    /// Knows what the store kept of earlier audits. Blocks.
    pub fn open(store: &Store, config: &Config) -> Self {
        let mut seen = Seen { auditor: Auditor::new(audit_config(config)), faults: BTreeMap::new() };
        for (holder, kept, fault) in kept::read(store) {
            seen.auditor.recall(Time(now_ms()), holder, kept);
            seen.faults.extend(fault.map(|fault| (holder, fault)));
        }
        Self { seen: Mutex::new(seen) }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.seen.lock().expect("no holder panics"))
    }
}

fn audit_config(config: &Config) -> AuditConfig {
    let (apart, default) = (Duration::from_millis(config.audit_apart_ms), AuditConfig::default());
    let times = |other: Duration| apart * (other.as_secs() / default.apart.as_secs()) as u32;
    AuditConfig {
        apart,
        lacks_apart: times(default.lacks_apart),
        late_apart: times(default.late_apart),
        bytes_min: config.audit_bytes.min(default.bytes_min),
        bytes_max: config.audit_bytes.min(AUDIT_BYTES_MAX),
        line_bytes_per_s: config.audit_line_bytes_per_s,
        ..default
    }
}

impl Node {
    /// Nodes whose shards count as lost: our own audits condemn them, or enough other organisations do.
    pub fn condemned(&self) -> BTreeSet<NodeId> {
        let now = now_ms();
        let mut condemned = self.audits.with(|seen| seen.auditor.condemned(Time(now)));
        condemned.extend(self.chain.state().condemned(now));
        condemned
    }
}

/// Audits one holder after the other, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    if node.config.audit_interval_ms == 0 {
        return;
    }
    remember(&node);
    let mut tick = tokio::time::interval(Duration::from_millis(node.config.audit_interval_ms));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut going = Going::default();
    loop {
        let ended = tokio::select! {
            _ = tick.tick() => None,
            Some(holder) = going.audits.next(), if !going.audits.is_empty() => Some(holder),
        };
        let worker = node.clone();
        if let Err(error) = blocking(move || tell_ledger(&worker)).await {
            debug!(%error, "the ledger does not take what the audits showed, now");
        }
        if let Some(holder) = ended {
            going.holders.remove(&holder);
            continue;
        }
        if going.audits.len() < AUDITS_AT_ONCE_MAX
            && let Some((holder, spec)) = draw(&node, &going.holders).await
        {
            going.holders.insert(holder);
            let node = node.clone();
            going.audits.push(Box::pin(async move {
                audit(&node, holder, spec).await;
                holder
            }));
        }
    }
}

/// Audits on their way.
#[derive(Default)]
struct Going {
    audits: FuturesUnordered<BoxFuture<'static, NodeId>>,
    holders: BTreeSet<NodeId>,
}

/// Whom this node condemned before it was started anew, if the store did not keep why: it may have been full, or lost.
fn remember(node: &Node) {
    let now = Time(now_ms());
    for it in own_words(node) {
        node.audits.with(|seen| {
            let last = seen.auditor.kept(&it.holder).and_then(|kept| kept.last).map_or(0, |(at, _)| at.0);
            if last < it.time_ms && seen.auditor.trust(now, &it.holder) != Trust::Condemned {
                seen.auditor.remember_condemned(now, it.holder);
            }
        });
    }
}

/// Our words on the ledger that have not expired.
fn own_words(node: &Node) -> Vec<Condemned> {
    let (me, now) = (node.id(), now_ms());
    let fresh = |it: &&Condemned| it.by == me && now < it.time_ms.saturating_add(CONDEMNED_FOR_MS);
    node.chain.state().condemnations().filter(fresh).cloned().collect()
}

/// Who is audited next, and for what.
async fn draw(node: &Arc<Node>, going: &BTreeSet<NodeId>) -> Option<(NodeId, AuditSpec)> {
    let nodes = node.sites_now().iter().map(|site| site.node).collect();
    let gone = node.audits.with(|seen| seen.auditor.retain(&nodes));
    let worker = node.clone();
    let mut due = blocking(move || {
        gone.iter().for_each(|holder| forget(&worker, holder));
        due(&worker)
    })
    .await;
    due.retain(|holder, _| !going.contains(holder));
    due.retain(|holder, _| nodes.contains(holder) && node.answers(holder));
    let (holder, bytes) = node.audits.with(|seen| {
        let holder = seen.auditor.next(Time(now_ms()), due.keys().copied())?;
        Some((holder, seen.auditor.bytes_for(&holder)))
    })?;
    let shards = up_to(bytes, due.remove(&holder)?);
    let bytes = shards.iter().map(len).sum();
    let commit_within = node.audits.with(|seen| seen.auditor.patience(bytes));
    let (nonce, draw) = (random(), random());
    let spec = AuditSpec { nonce, draw, shards, samples: SAMPLES, commit_within, open_within: OPEN_WITHIN };
    Some((holder, spec))
}

fn len(shard: &AuditedShard) -> u64 {
    u64::from(shard.leaf_count) * LEAF_LEN as u64
}

/// As many shards as have `bytes`, and the first in any case.
fn up_to(bytes: u64, shards: Vec<AuditedShard>) -> Vec<AuditedShard> {
    let mut sum = 0;
    let fits = |shard: &AuditedShard| {
        sum += len(shard);
        sum == len(shard) || sum <= bytes
    };
    shards.into_iter().take(AUDIT_SHARDS_MAX).take_while(fits).collect()
}

/// What others should have of packs that this node wrote or holds shards of, each in the order of a walk that begins
/// somewhere else each time. Blocks.
fn due(node: &Node) -> BTreeMap<NodeId, Vec<AuditedShard>> {
    let packs: Vec<PackId> =
        node.chain.state().packs().filter(|pack| pack.retired_into.is_none()).map(|pack| pack.id).collect();
    let mut due: BTreeMap<NodeId, Vec<AuditedShard>> = BTreeMap::new();
    let Some(view) = node.repair.view() else { return due };
    let start = u64::from_le_bytes(random()) as usize % packs.len().max(1);
    for pack in packs.iter().cycle().skip(start).take(packs.len().min(PACKS_LOOKED_AT_MAX)) {
        for (holder, shard) in due_of(node, &view, pack) {
            due.entry(holder).or_default().push(shard);
        }
    }
    due
}

/// What others should have of a pack, if they have had the time and the means to get it.
fn due_of(node: &Node, view: &View, pack: &PackId) -> Vec<(NodeId, AuditedShard)> {
    let me = node.id();
    let (Some(placed), Some(commit)) = (node.placed(pack), node.commit_of(pack)) else { return Vec::new() };
    let concerns_us = placed.author == me || placed.holders.iter().any(|(_, holder)| *holder == me);
    let settled = commit.in_block && now_ms().saturating_sub(commit.time_ms) >= node.config.repair_after_ms;
    // One that lacks its shard could rebuild it from the others.
    if !concerns_us || !settled || view.standing(&placed).margin <= 0 {
        return Vec::new();
    }
    let leaf_count = placed.code.leaf_count(commit.len);
    let due = |&(shard, holder): &(ShardIndex, NodeId)| {
        // Its author has the pack itself: that is all data shards, and no other.
        let has = holder != placed.author || shard.0 < placed.code.k();
        let root = *commit.roots.get(usize::from(shard.0)).filter(|_| has && holder != me)?;
        Some((holder, AuditedShard { pack: *pack, shard, root, leaf_count }))
    };
    placed.holders.iter().filter_map(due).collect()
}

/// A holder that is no node any more. Blocks on the disk.
fn forget(node: &Node, holder: &NodeId) {
    node.audits.with(|seen| seen.faults.remove(holder));
    if let Err(error) = kept::remove(&node.store, holder) {
        warn!(holder = %holder.short(), %error, "what audits showed of a node that is none any more stays");
    }
}

async fn audit(node: &Arc<Node>, holder: NodeId, spec: AuditSpec) {
    let (nonce, shards) = (spec.nonce, spec.shards.clone());
    let outcome = ask(node, holder, spec).await;
    let answer = answer_of(&outcome, round_trip(node, &holder));
    let verdict = node.audits.with(|seen| {
        let verdict = seen.auditor.judge(Time(now_ms()), holder, answer);
        if let Some(fault) = fault_of(verdict) {
            let shard = shown_by(&outcome).and_then(|position| shards.get(position)).map(|it| (it.pack, it.shard));
            seen.faults.insert(holder, Fault { fault, nonce, shard });
        }
        verdict
    });
    keep(node, holder).await;
    node.counters.audited(verdict);
    match fault_of(verdict) {
        Some(_) => warn!(holder = %holder.short(), ?verdict, what = %words(&outcome), "an audit failed"),
        None => debug!(holder = %holder.short(), ?verdict, what = %words(&outcome), "audited"),
    }
}

/// Keeps what is known of a holder, for after the next start.
async fn keep(node: &Arc<Node>, holder: NodeId) {
    let worker = node.clone();
    let kept = blocking(move || {
        let known = |seen: &mut Seen| Some((seen.auditor.kept(&holder)?, seen.faults.get(&holder).copied()));
        let Some((kept, fault)) = worker.audits.with(known) else { return Ok(()) };
        kept::write(&worker.store, &holder, &kept, fault.as_ref())
    });
    if let Err(error) = kept.await {
        warn!(holder = %holder.short(), %error, "what an audit showed counts until this node stops: it is not kept");
    }
}

/// How long a message and its answer take, by the last ping.
fn round_trip(node: &Node, holder: &NodeId) -> Duration {
    let traffic = node.net.traffic();
    traffic.iter().find(|it| it.node == *holder).and_then(|it| it.round_trip).unwrap_or_default()
}

fn answer_of(outcome: &AuditOutcome, round_trip: Duration) -> Answer {
    match outcome {
        AuditOutcome::True { lacks, .. } if !lacks.is_empty() => Answer::Lacks,
        AuditOutcome::True { bytes, took, opened_bytes, opening_took, .. } => {
            let sent_per_s = opened_bytes.saturating_mul(1000) / (opening_took.as_millis() as u64).max(1);
            Answer::True { bytes: *bytes, took: *took, round_trip, sent_per_s: Some(sent_per_s) }
        }
        AuditOutcome::False { .. } => Answer::False,
        AuditOutcome::Evaded => Answer::Evaded,
        AuditOutcome::Unreachable => Answer::Unreachable,
    }
}

fn fault_of(verdict: Verdict) -> Option<AuditFault> {
    match verdict {
        Verdict::False => Some(AuditFault::False),
        Verdict::Lacks => Some(AuditFault::Lacks),
        Verdict::Late => Some(AuditFault::Late),
        Verdict::Evades => Some(AuditFault::Evades),
        Verdict::Kept | Verdict::Inconclusive | Verdict::Away => None,
    }
}

/// The position in the set of a shard that shows the fault.
fn shown_by(outcome: &AuditOutcome) -> Option<usize> {
    match outcome {
        AuditOutcome::True { lacks, .. } => lacks.first().copied(),
        AuditOutcome::False { shard, .. } => *shard,
        AuditOutcome::Evaded | AuditOutcome::Unreachable => None,
    }
}

fn words(outcome: &AuditOutcome) -> String {
    match outcome {
        AuditOutcome::True { bytes, took, lacks, .. } => {
            format!("{bytes} bytes in {} ms, {} shards are lacking", took.as_millis(), lacks.len())
        }
        AuditOutcome::False { fault, .. } => fault.to_string(),
        AuditOutcome::Evaded => "it is there and does not answer".into(),
        AuditOutcome::Unreachable => "it is not there any more".into(),
    }
}

/// Carries one audit to its end.
async fn ask(node: &Arc<Node>, holder: NodeId, spec: AuditSpec) -> AuditOutcome {
    let stream = match node.net.open(holder, Protocol::Audit).await {
        Ok(stream) => stream,
        Err(error) => {
            debug!(holder = %holder.short(), %error, "no stream for an audit");
            return lost(node, &holder);
        }
    };
    let (started, mut effects) = (Instant::now(), VecDeque::new());
    let now = || Time(started.elapsed().as_millis() as u64);
    let mut conversation = Conversation { node, holder, stream, wake_at: Time(0) };
    let mut audit = Audit::new(spec);
    audit.begin(now(), &mut effects);
    loop {
        while let Some(effect) = effects.pop_front() {
            match conversation.perform(audit.spec(), effect).await {
                Ok(None) => {}
                Ok(Some(outcome)) => return outcome,
                Err(_) => audit.handle(now(), conversation.lost(), &mut effects),
            }
        }
        let until = started + Duration::from_millis(conversation.wake_at.0);
        let input = tokio::select! {
            input = conversation.next() => input,
            () = tokio::time::sleep_until(until.into()) => AuditInput::Tick,
        };
        audit.handle(now(), input, &mut effects);
    }
}

fn lost(node: &Node, holder: &NodeId) -> AuditOutcome {
    if node.answers(holder) { AuditOutcome::Evaded } else { AuditOutcome::Unreachable }
}

struct Conversation<'a> {
    node: &'a Arc<Node>,
    holder: NodeId,
    stream: Stream,
    wake_at: Time,
}

impl Conversation<'_> {
    async fn perform(&mut self, spec: &AuditSpec, effect: AuditEffect) -> anyhow::Result<Option<AuditOutcome>> {
        let ask = match effect {
            AuditEffect::AskCommit => Ask::Commit(set(spec)),
            AuditEffect::AskOpen(leaves) => Ask::Open(v1::AuditDrawn { leaves }),
            AuditEffect::WakeAt(at) => {
                self.wake_at = at;
                return Ok(None);
            }
            AuditEffect::Ended(outcome) => return Ok(Some(outcome)),
        };
        self.stream.send(&v1::AuditAsk { ask: Some(ask) }).await?;
        self.stream.flush().await?;
        Ok(None)
    }

    /// The holder's next answer. May be dropped and called again.
    async fn next(&mut self) -> AuditInput {
        match self.stream.recv::<v1::AuditTell>().await {
            Ok(Some(v1::AuditTell { tell: Some(tell) })) => {
                if let Tell::Opened(leaf) = &tell {
                    self.node.counters.received.add(Purpose::Want(Priority::Audit), leaf.data.len());
                }
                input(tell)
            }
            _ => self.lost(),
        }
    }

    fn lost(&self) -> AuditInput {
        AuditInput::Lost { connected: self.node.answers(&self.holder) }
    }
}

fn set(spec: &AuditSpec) -> v1::AuditSet {
    let shard = |it: &AuditedShard| v1::AuditShard {
        pack: Bytes::copy_from_slice(it.pack.as_bytes()),
        shard: it.shard.0.into(),
    };
    v1::AuditSet { nonce: Bytes::copy_from_slice(&spec.nonce), shards: spec.shards.iter().map(shard).collect() }
}

/// What cannot be read as a digest is left out or stands as one that matches nothing: the core finds it false.
fn input(tell: Tell) -> AuditInput {
    let digests = |all: &[Bytes]| all.iter().filter_map(|it| Digest::try_from(it.as_ref()).ok()).collect();
    match tell {
        Tell::Committed(it) => AuditInput::Committed {
            root: Digest::try_from(it.root.as_ref()).unwrap_or(Digest([0; 32])),
            lacks: set_bits(&it.lacks).into_iter().map(|ShardIndex(position)| position.into()).collect(),
        },
        Tell::Opened(it) => {
            AuditInput::Opened { leaf: it.leaf, bound: digests(&it.bound), proof: digests(&it.proof), data: it.data }
        }
        Tell::Busy(busy) => {
            debug!(reason = busy.reason, "a holder is busy");
            AuditInput::Busy
        }
    }
}

/// Brings our words on the ledger in line with what the audits showed. Blocks on the disk.
fn tell_ledger(node: &Arc<Node>) -> anyhow::Result<()> {
    let now = now_ms();
    let words: BTreeMap<NodeId, Condemned> = own_words(node).into_iter().map(|it| (it.holder, it)).collect();
    let (condemned, faults) = node.audits.with(|seen| (seen.auditor.condemned(Time(now)), seen.faults.clone()));
    for holder in words.keys().filter(|holder| !condemned.contains(*holder)) {
        info!(holder = %holder.short(), "a holder is condemned no more");
        node.append(Operation::Absolve(v1::Absolution { node: Bytes::copy_from_slice(holder.as_bytes()) }))?;
    }
    for holder in condemned.iter().filter(|holder| !node.is_ours(holder)) {
        let word = words.get(holder);
        // A word that still holds for half its time need not be given again.
        if word.is_some_and(|it| now < it.time_ms.saturating_add(CONDEMNED_FOR_MS / 2)) {
            continue;
        }
        let before = word.map(|it| Fault { fault: it.fault, nonce: it.nonce, shard: it.shard });
        let Some(fault) = faults.get(holder).copied().or(before) else { continue };
        warn!(holder = %holder.short(), fault = ?fault.fault, "a holder is condemned: what it holds counts as lost");
        node.append(Operation::Condemn(condemnation(holder, &fault)))?;
    }
    Ok(())
}

fn condemnation(holder: &NodeId, fault: &Fault) -> v1::Condemnation {
    v1::Condemnation {
        node: Bytes::copy_from_slice(holder.as_bytes()),
        fault: fault.fault.into(),
        nonce: Bytes::copy_from_slice(&fault.nonce),
        pack: fault.shard.map(|(pack, _)| Bytes::copy_from_slice(pack.as_bytes())).unwrap_or_default(),
        shard: fault.shard.map_or(0, |(_, shard)| shard.0.into()),
    }
}

fn random<const LEN: usize>() -> [u8; LEN] {
    let mut bytes = [0; LEN];
    getrandom::fill(&mut bytes).expect("the system's random source answers");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(leaf_counts: &[u32]) -> Vec<AuditedShard> {
        let shard = |leaf_count: &u32| AuditedShard {
            pack: PackId([1; 32]),
            shard: ShardIndex(0),
            root: Digest([0; 32]),
            leaf_count: *leaf_count,
        };
        leaf_counts.iter().map(shard).collect()
    }

    #[test]
    fn a_set_has_as_many_shards_as_fit_and_one_in_any_case() {
        let leaf = LEAF_LEN as u64;
        let count = |bytes, leaf_counts: &[u32]| up_to(bytes, shards(leaf_counts)).len();
        assert_eq!(count(8 * leaf, &[4, 4, 4]), 2);
        assert_eq!(count(8 * leaf - 1, &[4, 4, 4]), 1);
        assert_eq!(count(leaf, &[4, 4]), 1);
        assert_eq!(count(0, &[]), 0);
        assert_eq!(count(u64::MAX, &[1; AUDIT_SHARDS_MAX + 1]), AUDIT_SHARDS_MAX);
    }

    #[test]
    fn what_cannot_be_read_as_a_digest_is_false_and_stops_nothing() {
        let odd = || Bytes::from_static(b"odd");
        let commitment = v1::AuditCommitment { root: odd(), lacks: Bytes::from_static(&[0b101]) };
        let AuditInput::Committed { root, lacks } = input(Tell::Committed(commitment)) else { panic!() };
        assert_eq!((root, lacks), (Digest([0; 32]), vec![0, 2]));
        let leaf = v1::AuditLeaf { leaf: 3, data: odd(), bound: vec![odd()], proof: vec![vec![1; 32].into()] };
        let AuditInput::Opened { bound, proof, .. } = input(Tell::Opened(leaf)) else { panic!() };
        assert_eq!((bound, proof), (vec![], vec![Digest([1; 32])]));
    }
}
