//! Drives the exchange core: fetches a pack, or a range of one, from all who hold its shards.

use std::collections::{HashMap, HashSet, VecDeque};
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bithealth_exchange::{Config, Effect, Fetch, Input, Need, ShardSet, Spec, Want, WantId};
use bithealth_merkle::LeafTree;
use bithealth_pack::{DecodeError, DescriptorError};
use bithealth_proto::v1::{self, PackDescriptor};
use bithealth_types::{Code, Digest, LEAF_LEN, NodeId, PackId, ShardIndex, Time};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::warn;

use crate::links::Wanted;
use crate::node::Node;
use crate::replicate::blocking;

/// Answers of providers waiting for the core.
const INPUTS_MAX: usize = 64;
/// How long a fetch that no known provider can complete waits for others to be asked or to come.
const STARVED_PATIENCE: Duration = Duration::from_secs(5);

/// Why a pack cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It is not on the ledger.
    #[error("pack {} is not on the ledger", pack.short())]
    UnknownPack {
        /// The pack.
        pack: PackId,
    },
    /// Its descriptor is false, which the ledger should have refused.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// Too few shards can be reached.
    #[error(
        "pack {} needs {k} of its {n} shards, {due} more than the {answering} nodes that answer hold; nodes that do not \
         answer: {absent}", pack.short()
    )]
    Unreachable {
        /// The pack.
        pack: PackId,
        /// Shards that restore it.
        k: u16,
        /// Shards in all.
        n: u16,
        /// Shards that are missing.
        due: u16,
        /// Nodes that were asked.
        answering: usize,
        /// Holders that cannot be asked.
        absent: usize,
    },
    /// Verified shards do not fit together: its author coded it falsely.
    #[error("pack {} was coded falsely by its author: {error}", pack.short())]
    FalseCode {
        /// The pack.
        pack: PackId,
        /// What does not fit.
        error: DecodeError,
    },
    /// Verified shards give another pack than the one committed to.
    #[error("pack {} was coded falsely by its author: its shards give pack {}", pack.short(), got.short())]
    OtherPack {
        /// The pack.
        pack: PackId,
        /// What its shards give.
        got: PackId,
    },
}

/// Fetches a whole pack; checks that all its shards fit together.
///
/// # Errors
/// [`FetchError`].
pub async fn whole(node: &Arc<Node>, pack: &PackId) -> Result<Vec<u8>, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let leaves = Driver::new(node, *pack, &descriptor, code, Need::Whole).run().await?;
    let pack = *pack;
    blocking(move || {
        let every: Vec<_> =
            (0..code.k()).map(|shard| (ShardIndex(shard), 0..code.leaf_count(descriptor.len))).collect();
        let mut bytes = assemble(code, &leaves, &every).map_err(|error| FetchError::FalseCode { pack, error })?;
        drop(leaves);
        bytes.truncate(descriptor.len as usize);
        let salt = descriptor.salt.as_ref().try_into().expect("a checked descriptor has a salt");
        let coded = bithealth_pack::encode(code, &salt, descriptor.catalog_len, &bytes)
            .expect("a checked descriptor has sound lengths");
        if coded.id != pack {
            return Err(FetchError::OtherPack { pack, got: coded.id });
        }
        Ok(bytes)
    })
    .await
}

/// A whole shard.
pub struct FetchedShard {
    /// Its leaves, one behind the other.
    pub bytes: Vec<u8>,
    /// The tree over them, with the root that the ledger has.
    pub tree: LeafTree,
}

/// Fetches one shard: the leaves of it that others hold, or what any k others give.
///
/// # Errors
/// [`FetchError`].
pub async fn shard(node: &Arc<Node>, pack: &PackId, shard: ShardIndex) -> Result<FetchedShard, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let needed = vec![(shard, 0..code.leaf_count(descriptor.len))];
    let leaves = Driver::new(node, *pack, &descriptor, code, Need::Ranges(needed.clone())).run().await?;
    let pack = *pack;
    blocking(move || {
        let bytes = assemble(code, &leaves, &needed).map_err(|error| FetchError::FalseCode { pack, error })?;
        let tree = LeafTree::from_shard(&bytes);
        let (got, want) = (tree.root(), root_of(&descriptor, shard));
        if got != want {
            let error = DecodeError::Inconsistent { shard, got, want };
            return Err(FetchError::FalseCode { pack, error });
        }
        Ok(FetchedShard { bytes, tree })
    })
    .await
}

fn root_of(descriptor: &PackDescriptor, shard: ShardIndex) -> Digest {
    Digest::try_from(descriptor.roots[usize::from(shard.0)].as_ref()).expect("a checked descriptor has whole roots")
}

/// Fetches a range of a pack.
///
/// # Errors
/// [`FetchError`].
pub async fn range(node: &Arc<Node>, pack: &PackId, range: Range<u64>) -> Result<Bytes, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let range = range.start.min(descriptor.len)..range.end.min(descriptor.len);
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let needed = leaves_of(code, descriptor.len, &range);
    let leaves = Driver::new(node, *pack, &descriptor, code, Need::Ranges(needed.clone())).run().await?;
    let first = &needed[0];
    let skip = range.start
        - u64::from(first.0.0) * code.shard_len(descriptor.len)
        - u64::from(first.1.start) * LEAF_LEN as u64;
    let pack = *pack;
    blocking(move || {
        let bytes = assemble(code, &leaves, &needed).map_err(|error| FetchError::FalseCode { pack, error })?;
        Ok(Bytes::from(bytes).slice(skip as usize..(skip + range.end - range.start) as usize))
    })
    .await
}

fn descriptor(node: &Node, pack: &PackId) -> Result<(PackDescriptor, Code), FetchError> {
    let state = node.chain.state();
    let descriptor = state.pack(pack).and_then(|pack| pack.commit.pack.clone());
    let descriptor = descriptor.ok_or(FetchError::UnknownPack { pack: *pack })?;
    let code = bithealth_pack::check_descriptor(&descriptor)?;
    Ok((descriptor, code))
}

/// The leaves of data shards that hold a range of a pack.
fn leaves_of(code: Code, pack_len: u64, range: &Range<u64>) -> Vec<(ShardIndex, Range<u32>)> {
    let (shard_len, leaf_len) = (code.shard_len(pack_len), LEAF_LEN as u64);
    (range.start / shard_len..=(range.end - 1) / shard_len)
        .map(|shard| {
            let start = range.start.saturating_sub(shard * shard_len);
            let end = (range.end - shard * shard_len).min(shard_len);
            (ShardIndex(shard as u16), (start / leaf_len) as u32..end.div_ceil(leaf_len) as u32)
        })
        .collect()
}

/// Verified leaves, each 16 KiB, by shard and position.
type LeafMap = HashMap<(ShardIndex, u32), Bytes>;

/// The wanted leaves, one behind the other; those that did not come are decoded from their rows.
fn assemble(code: Code, leaves: &LeafMap, needed: &[(ShardIndex, Range<u32>)]) -> Result<Vec<u8>, DecodeError> {
    let len: usize = needed.iter().map(|(_, range)| range.len() * LEAF_LEN).sum();
    let mut bytes = Vec::with_capacity(len);
    for (shard, range) in needed {
        let mut at = range.start;
        while at < range.end {
            if let Some(leaf) = leaves.get(&(*shard, at)) {
                bytes.extend_from_slice(leaf);
                at += 1;
                continue;
            }
            let sources = sources(code, leaves, at);
            let end = (at + 1..range.end)
                .find(|row| {
                    leaves.contains_key(&(*shard, *row)) || !sources.iter().all(|it| leaves.contains_key(&(*it, *row)))
                })
                .unwrap_or(range.end);
            bytes.extend_from_slice(&decode_run(code, leaves, *shard, &sources, at..end)?);
            at = end;
        }
    }
    Ok(bytes)
}

/// k shards whose leaf at `row` is here.
fn sources(code: Code, leaves: &LeafMap, row: u32) -> Vec<ShardIndex> {
    let here = (0..code.n()).map(ShardIndex).filter(|shard| leaves.contains_key(&(*shard, row)));
    here.take(usize::from(code.k())).collect()
}

fn decode_run(
    code: Code,
    leaves: &LeafMap,
    wanted: ShardIndex,
    sources: &[ShardIndex],
    rows: Range<u32>,
) -> Result<Vec<u8>, DecodeError> {
    let column = |shard: &ShardIndex| {
        let mut bytes = Vec::with_capacity(rows.len() * LEAF_LEN);
        rows.clone().for_each(|row| bytes.extend_from_slice(&leaves[&(*shard, row)]));
        (*shard, bytes)
    };
    let columns: Vec<(ShardIndex, Vec<u8>)> = sources.iter().map(column).collect();
    let columns: Vec<(ShardIndex, &[u8])> = columns.iter().map(|(shard, run)| (*shard, run.as_slice())).collect();
    let mut decoded = bithealth_pack::decode_rows(code, &[wanted], &columns)?;
    Ok(decoded.swap_remove(0))
}

/// One fetch on its way.
struct Driver<'a> {
    node: &'a Arc<Node>,
    pack: PackId,
    code: Code,
    fetch: Fetch,
    started: Instant,
    inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    wants: HashMap<WantId, AbortHandle>,
    wake: Option<Time>,
    starved: Option<(Instant, u16)>,
    asked: HashSet<NodeId>,
    leaves: LeafMap,
}

enum State {
    Going,
    Finished,
}

impl<'a> Driver<'a> {
    fn new(node: &'a Arc<Node>, pack: PackId, descriptor: &PackDescriptor, code: Code, need: Need) -> Self {
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let roots = (0..code.n()).map(|shard| root_of(descriptor, ShardIndex(shard))).collect();
        let leaf_count = code.leaf_count(descriptor.len);
        let spec = Spec { pack, code, leaf_count, roots, need, here: node.id(), config: Config::default() };
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the system's random source answers");
        Self {
            node,
            pack,
            code,
            fetch: Fetch::new(spec, u64::from_le_bytes(seed)),
            started: Instant::now(),
            inputs,
            sender,
            wants: HashMap::new(),
            wake: None,
            starved: None,
            asked: HashSet::new(),
            leaves: HashMap::new(),
        }
    }

    async fn run(mut self) -> Result<LeafMap, FetchError> {
        let mut effects = VecDeque::new();
        let mut peers = self.node.peers_changed.subscribe();
        for (peer, shards) in self.known_providers() {
            self.asked.insert(peer);
            self.fetch.handle(self.now(), Input::Provider { peer, shards }, &mut effects);
        }
        if self.asked.is_empty() {
            self.fetch.handle(self.now(), Input::Tick, &mut effects);
            self.starve(self.code.k());
        }
        loop {
            if let State::Finished = self.perform(&mut effects) {
                return Ok(std::mem::take(&mut self.leaves));
            }
            let input = tokio::select! {
                input = self.inputs.recv() => input.expect("we hold a sender"),
                () = sleep_until(self.started, self.wake) => { self.wake = None; Input::Tick }
                changed = peers.changed() => {
                    if changed.is_ok() { self.ask_others(); }
                    self.lost_provider().unwrap_or(Input::Tick)
                }
                () = give_up(self.starved) => return Err(self.unreachable()),
            };
            if matches!(input, Input::Provider { .. }) {
                self.starved = None;
            }
            let now = self.now();
            self.fetch.handle(now, input, &mut effects);
        }
    }

    fn now(&self) -> Time {
        Time(self.started.elapsed().as_millis() as u64)
    }

    /// Who should hold what, of those that answer: the holders, the author with the whole pack, and what lies here.
    fn known_providers(&self) -> Vec<(NodeId, ShardSet)> {
        let author = self.node.chain.state().pack(&self.pack).map(|pack| pack.author);
        let mut providers: HashMap<NodeId, ShardSet> = HashMap::new();
        for (shard, holder) in self.node.holders(&self.pack) {
            providers.entry(holder).or_default().insert(shard);
        }
        if let Some(author) = author {
            providers.insert(author, ShardSet::first(self.code.k()));
        }
        let own: ShardSet = self.node.vault.shards_of(&self.pack, self.code.n()).into_iter().collect();
        providers.remove(&self.node.id());
        if !own.is_empty() {
            providers.insert(self.node.id(), own);
        }
        let mut providers: Vec<_> = providers.into_iter().filter(|(peer, _)| self.node.answers(peer)).collect();
        providers.sort_by_key(|(peer, _)| (*peer != self.node.id(), *peer)); // what lies here is told of first
        providers
    }

    fn lost_provider(&mut self) -> Option<Input> {
        let peer = self.asked.iter().copied().find(|peer| !self.node.answers(peer))?;
        self.asked.remove(&peer);
        Some(Input::PeerLost { peer })
    }

    /// Asks every connected node that was not asked yet what it holds: repair or a restore may have put shards there.
    fn ask_others(&mut self) {
        for peer in self.node.net.connected() {
            if !self.node.net.is_admitted(&peer) || !self.asked.insert(peer) {
                continue;
            }
            let (node, pack, sender) = (self.node.clone(), self.pack, self.sender.clone());
            tokio::spawn(async move {
                let shards: ShardSet = match node.links.have(peer, &pack).await {
                    Ok(shards) => shards.into_iter().collect(),
                    Err(_) => return, // as good as holding nothing
                };
                if !shards.is_empty() {
                    let _ = sender.send(Input::Provider { peer, shards }).await; // the fetch has ended
                }
            });
        }
    }

    fn starve(&mut self, due: u16) {
        let since = self.starved.map_or_else(Instant::now, |(since, _)| since);
        self.starved = Some((since, due));
        self.ask_others();
    }

    fn perform(&mut self, effects: &mut VecDeque<Effect>) -> State {
        let mut state = State::Going;
        while let Some(effect) = effects.pop_front() {
            match effect {
                Effect::Send { to, ask } => self.send(to, ask),
                Effect::Cancel { want, .. } => {
                    if let Some(task) = self.wants.remove(&want) {
                        task.abort();
                    }
                }
                Effect::Store { shard, first, data } => {
                    for (row, leaf) in (first.0..).zip(0..data.len() / LEAF_LEN) {
                        self.leaves.insert((shard, row), data.slice(leaf * LEAF_LEN..(leaf + 1) * LEAF_LEN));
                    }
                    let stored = Input::Stored { shard, first, result: Ok(()) };
                    let now = self.now();
                    self.fetch.handle(now, stored, effects);
                }
                Effect::Blame { peer, fault } => self.blame(peer, fault.to_string()),
                Effect::WakeAt(time) => self.wake = Some(time),
                Effect::Finished => state = State::Finished,
                Effect::Starved { shards_due, .. } => self.starve(shards_due),
                Effect::Aborted(_) => unreachable!("leaves kept in memory are always stored"),
            }
        }
        state
    }

    fn send(&mut self, to: NodeId, ask: Want) {
        let (node, pack, sender) = (self.node.clone(), self.pack, self.sender.clone());
        let task = tokio::spawn(async move {
            let want = ask.id;
            let answer = match to == node.id() {
                true => Ok(read_here(&node, pack, &ask).await),
                false => node.links.want(to, &pack, ask.shard, ask.first, ask.count).await,
            };
            let input = match answer {
                Ok(Wanted::Leaves(leaves)) => Input::Leaves {
                    from: to,
                    want,
                    data: leaves.data,
                    proof: leaves.proof.iter().filter_map(|hash| Digest::try_from(hash.as_ref()).ok()).collect(),
                },
                Ok(Wanted::Missing) => Input::Missing { from: to, want },
                Err(_) => Input::PeerLost { peer: to },
            };
            let _ = sender.send(input).await; // the fetch has ended
        });
        self.wants.insert(ask.id, task.abort_handle());
    }

    /// A peer that sent a false leaf lied about bytes it hashed: it is no peer any more until this node restarts.
    fn blame(&self, peer: NodeId, fault: String) {
        if peer == self.node.id() {
            return warn!(fault, "a shard that lies here is damaged");
        }
        warn!(peer = %peer.short(), fault, "a peer sent false leaves and is shut out");
        self.node.shut_out(peer, fault);
    }

    fn unreachable(&self) -> FetchError {
        let holders: HashSet<NodeId> = self.node.holders(&self.pack).into_iter().map(|(_, node)| node).collect();
        let absent = holders.iter().filter(|holder| !self.node.answers(holder)).count();
        FetchError::Unreachable {
            pack: self.pack,
            k: self.code.k(),
            n: self.code.n(),
            due: self.starved.map_or(0, |(_, due)| due),
            answering: self.asked.len(),
            absent,
        }
    }
}

impl Drop for Driver<'_> {
    fn drop(&mut self) {
        for task in self.wants.values() {
            task.abort();
        }
    }
}

/// A run of leaves that lies here; the core verifies it like any other.
async fn read_here(node: &Arc<Node>, pack: PackId, ask: &Want) -> Wanted {
    let (worker, id, shard, first, count) = (node.clone(), ask.id, ask.shard, ask.first, ask.count);
    match blocking(move || worker.vault.leaves(&pack, shard, first, count)).await {
        Ok(Some(run)) => Wanted::Leaves(v1::Leaves {
            id: id.0,
            data: run.data,
            proof: run.proof.iter().map(|hash| Bytes::copy_from_slice(hash.as_bytes())).collect(),
        }),
        Ok(None) => Wanted::Missing,
        Err(error) => {
            warn!(pack = %pack.short(), %error, "leaves that lie here cannot be read; others are asked");
            Wanted::Missing
        }
    }
}

async fn sleep_until(started: Instant, time: Option<Time>) {
    match time {
        Some(time) => tokio::time::sleep_until((started + Duration::from_millis(time.0)).into()).await,
        None => std::future::pending().await,
    }
}

async fn give_up(starved: Option<(Instant, u16)>) {
    match starved {
        Some((since, _)) => tokio::time::sleep_until((since + STARVED_PATIENCE).into()).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        Code::new(3, 5).unwrap()
    }

    fn coded(pack: &[u8]) -> LeafMap {
        let coded = bithealth_pack::encode(code(), &[1; 32], 100, pack).unwrap();
        let data = (0..3).map(|shard| bithealth_pack::data_shard(code(), pack, ShardIndex(shard)).into_owned());
        let parity = coded.parity.iter().map(|parity| parity.to_vec());
        let mut leaves = LeafMap::new();
        for (shard, bytes) in (0..).zip(data.chain(parity)) {
            for (row, leaf) in (0..).zip(bytes.chunks(LEAF_LEN)) {
                leaves.insert((ShardIndex(shard), row), Bytes::copy_from_slice(leaf));
            }
        }
        leaves
    }

    fn pack() -> Vec<u8> {
        (0..303_104u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn a_range_comes_from_its_leaves_and_from_rows_where_they_are_missing() {
        let (pack, mut leaves) = (pack(), coded(&pack()));
        leaves.retain(|(shard, row), _| !(shard.0 == 1 && *row < 3 || shard.0 == 0 && *row > 4));
        for range in [0..1, 90_000..210_000, 16_383..16_385, 299_999..300_000, 0..300_000] {
            let needed = leaves_of(code(), pack.len() as u64, &range);
            let bytes = assemble(code(), &leaves, &needed).unwrap();
            let shard_len = code().shard_len(pack.len() as u64);
            let skip =
                range.start - u64::from(needed[0].0.0) * shard_len - u64::from(needed[0].1.start) * LEAF_LEN as u64;
            let got = &bytes[skip as usize..(skip + range.end - range.start) as usize];
            assert_eq!(got, &pack[range.start as usize..range.end as usize], "{range:?}");
        }
    }

    #[test]
    fn too_few_shards_of_a_row_are_an_error() {
        let mut leaves = coded(&pack());
        leaves.retain(|(shard, _), _| shard.0 > 2);
        assert!(assemble(code(), &leaves, &[(ShardIndex(0), 0..1)]).is_err());
    }
}
