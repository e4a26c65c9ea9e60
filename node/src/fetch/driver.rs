//! Drives the exchange core for one fetch.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bithealth_exchange::{Checked, Config, Effect, Fetch, Input, Need, Priority, ShardSet, Spec, Want, WantId};
use bithealth_proto::v1::{self, PackDescriptor};
use bithealth_types::{Code, Digest, LEAF_LEN, NodeId, PackId, Time};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tracing::warn;

use super::assemble::LeafMap;
use super::gathered::Gathered;
use super::parts::Parts;
use super::{FetchError, SWARM_LEN_MIN, roots_of};
use crate::links::{SMALL_LEAVES_MAX, Wanted};
use crate::node::Node;
use crate::replicate::blocking;
use crate::serving::leaves;
use crate::swarm::{Joined, News, Standing};

/// Answers of providers waiting for the core.
const INPUTS_MAX: usize = 64;
/// Leaves that are hashed where they come: longer ones cost more than the way to another thread.
const CHECKED_HERE_LEN_MAX: usize = 4 * LEAF_LEN;
/// What is heard of others that fetch the same, and was not told to the core yet.
const NEWS_MAX: usize = 64;
/// Providers that are asked who else fetches. All nodes ask the same ones, so that few are enough.
const ASKED_WHO_FETCHES: usize = 3;
/// A fetch of so many bytes asks for little until it knows who else fetches, at most for so long.
const SEEK_LEN_MIN: u64 = 4 << 20;
const SEEK_MS: u64 = 150;
/// A fetch of so few bytes asks for small runs, which several streams carry side by side.
const SMALL_LEN_MAX: u64 = 512 << 10;
/// How long a fetch that no known provider can complete waits for others to be asked or to come.
const STARVED_PATIENCE: Duration = Duration::from_secs(5);

/// One fetch on its way.
pub(super) struct Driver {
    node: Arc<Node>,
    pack: PackId,
    code: Code,
    leaf_count: u32,
    roots: Arc<[Digest]>,
    priority: Priority,
    fetch: Fetch,
    started: Instant,
    inputs: mpsc::Receiver<Input>,
    sender: mpsc::Sender<Input>,
    standings: mpsc::Receiver<(NodeId, Option<Standing>)>,
    /// None where a peer could not be asked.
    standing: mpsc::Sender<(NodeId, Option<Standing>)>,
    news: mpsc::Receiver<News>,
    /// Our part in the swarm; none in a small fetch.
    joined: Option<Joined>,
    /// Who fetches the same, over all fetches of one reader.
    fellows: Arc<Mutex<BTreeSet<NodeId>>>,
    /// Who was told that we fetch, and asked what it has,
    told: HashSet<NodeId>,
    /// those of them that said that they do not,
    idle: HashSet<NodeId>,
    /// those that fetch too and could not be asked: they or we may not have admitted the other yet,
    unreached: HashSet<NodeId>,
    /// and providers among them that have not answered who else does.
    sought: HashSet<NodeId>,
    /// Providers that asked us to send no wants, as the fetch knows it.
    choked_by: BTreeSet<NodeId>,
    wants: HashMap<WantId, AbortHandle>,
    wake: Option<Time>,
    starved: Option<(Instant, u16)>,
    asked: HashSet<NodeId>,
    gathered: Arc<Gathered>,
    /// What came and was not looked at; none if all is, as it comes.
    unseen: Option<Arc<Unseen>>,
    parts: Option<Parts>,
    /// What the core asked for before we ran.
    early: VecDeque<Effect>,
}

/// What came from whom and was not looked at yet.
type Unseen = Mutex<Vec<(NodeId, Checked)>>;

enum State {
    Going,
    Finished,
}

impl Driver {
    pub(super) fn new(
        node: &Arc<Node>,
        pack: PackId,
        descriptor: &PackDescriptor,
        code: Code,
        need: Need,
        priority: Priority,
    ) -> Self {
        let (sender, inputs) = mpsc::channel(INPUTS_MAX);
        let (standing, standings) = mpsc::channel(INPUTS_MAX);
        let (heard, news) = mpsc::channel(NEWS_MAX);
        let (roots, leaf_count) = (roots_of(descriptor), code.leaf_count(descriptor.len));
        let wanted_len: u64 = match &need {
            Need::Whole => descriptor.len,
            Need::Ranges(ranges) => ranges.iter().map(|(_, leaves)| leaves.len() as u64 * LEAF_LEN as u64).sum(),
        };
        let seek_ms = if wanted_len >= SEEK_LEN_MIN { SEEK_MS } else { 0 };
        let mut config = Config { seek_ms, ..Config::default() };
        if wanted_len <= SMALL_LEN_MAX {
            config.run_leaves = SMALL_LEAVES_MAX;
        }
        let spec = Spec { pack, code, leaf_count, roots: roots.clone(), need, here: node.id(), config };
        let mut seed = [0; 8];
        getrandom::fill(&mut seed).expect("the system's random source answers");
        let fetch = Fetch::new(spec, u64::from_le_bytes(seed));
        let is_large = fetch.progress().bytes_needed >= SWARM_LEN_MIN;
        Self {
            node: node.clone(),
            pack,
            code,
            leaf_count,
            roots: roots.into(),
            priority,
            fetch,
            started: Instant::now(),
            inputs,
            sender,
            standings,
            standing,
            news,
            joined: is_large.then(|| node.swarm.join(pack, heard)),
            fellows: Arc::default(),
            told: HashSet::new(),
            idle: HashSet::new(),
            unreached: HashSet::new(),
            sought: HashSet::new(),
            choked_by: BTreeSet::new(),
            wants: HashMap::new(),
            wake: None,
            starved: None,
            asked: HashSet::new(),
            gathered: Arc::default(),
            unseen: None,
            parts: None,
            early: VecDeque::new(),
        }
    }

    /// One of several fetches of a reader: each begins with those that the earlier ones found to fetch the same.
    pub(super) fn with(mut self, fellows: Arc<Mutex<BTreeSet<NodeId>>>) -> Self {
        self.fellows = fellows;
        self
    }

    /// One whose leaves are looked at only if what is restored from them turns out false. So it has none to give to others.
    pub(super) fn looking_later(mut self) -> (Self, Suspects) {
        let unseen = Arc::<Unseen>::default();
        let suspects = Suspects {
            node: self.node.clone(),
            roots: self.roots.clone(),
            leaf_count: self.leaf_count,
            unseen: unseen.clone(),
        };
        (self.joined, self.unseen) = (None, Some(unseen));
        (self, suspects)
    }

    /// One whose leaves are kept in the store, and that begins with those that are there.
    pub(super) async fn with_parts(mut self) -> Self {
        let parts = Parts::open(&self.node, self.pack, &self.roots, self.leaf_count).await;
        let mut effects = VecDeque::new();
        for (shard, first, data) in parts.found() {
            let rows = first.0..first.0 + (data.len() / LEAF_LEN) as u32;
            self.gathered.add(shard, first, &data);
            self.handle(Input::Held { shard, leaves: rows }, &mut effects);
        }
        self.parts = Some(parts);
        self.early = effects;
        self
    }

    /// Where its leaves come together.
    pub(super) fn gathered(&self) -> Arc<Gathered> {
        self.gathered.clone()
    }

    /// Runs to the end; the leaves that were needed, or others to decode them from.
    pub(super) async fn gather(self) -> Result<LeafMap, FetchError> {
        let gathered = self.gathered();
        self.run().await?;
        let leaves = std::mem::take(&mut *gathered.leaves());
        Ok(leaves)
    }

    /// Runs to the end; the leaves are where they come together.
    pub(super) async fn run(mut self) -> Result<(), FetchError> {
        let mut effects = std::mem::take(&mut self.early);
        let mut peers = self.node.peers_changed.subscribe();
        let mut chokes = self.node.links.choked_by();
        self.begin(&mut effects);
        chokes.mark_changed();
        loop {
            if let State::Finished = self.perform(&mut effects) {
                if let Some(parts) = self.parts.take() {
                    parts.finish().await;
                }
                return Ok(());
            }
            let input = tokio::select! {
                input = self.inputs.recv() => input.expect("we hold a sender"),
                Some((peer, standing)) = self.standings.recv() => {
                    self.hear(peer, standing, &mut effects);
                    continue;
                }
                Some(news) = self.news.recv() => match news {
                    News::Fetches(peer) => {
                        self.unreached.remove(&peer);
                        if self.idle.remove(&peer) {
                            self.told.remove(&peer); // it has begun, and can tell us of what it gets
                        }
                        self.ask_fetcher(peer);
                        continue;
                    }
                    News::Has(peer, runs) => Input::Fetching { peer, runs },
                },
                () = sleep_until(self.started, self.wake) => { self.wake = None; Input::Tick }
                changed = peers.changed() => {
                    if changed.is_ok() {
                        for peer in std::mem::take(&mut self.unreached) {
                            self.ask_fetcher(peer);
                        }
                        self.ask_others();
                    }
                    self.lost_provider().unwrap_or(Input::Tick)
                }
                Ok(()) = chokes.changed() => {
                    let choked_by = chokes.borrow_and_update().clone();
                    self.note_chokes(choked_by, &mut effects);
                    continue;
                }
                () = give_up(self.starved) => return Err(self.unreachable()),
            };
            match &input {
                Input::Provider { .. } | Input::Fetching { .. } => self.starved = None,
                // Its stream ended: while it is connected it can be asked again.
                Input::PeerLost { peer } => drop(self.asked.remove(peer)),
                _ => {}
            }
            self.handle(input, &mut effects);
        }
    }

    /// Tells the core of those it can ask at once, and some of them that we fetch.
    fn begin(&mut self, effects: &mut VecDeque<Effect>) {
        let here = self.node.id();
        let runs = self.node.swarm.runs_of(&self.pack);
        let has_runs = !runs.is_empty();
        if has_runs {
            self.handle(Input::Fetched { peer: here, runs }, effects);
        }
        let providers = self.known_providers();
        if self.joined.is_some() {
            let mut fellows = self.fellows.lock().expect("no holder panics").clone();
            fellows.retain(|peer| self.node.answers(peer));
            for peer in fellows {
                self.handle(Input::Fetching { peer, runs: Vec::new() }, effects);
                self.ask_fetcher(peer);
            }
            for peer in providers.iter().map(|(peer, _)| *peer).filter(|peer| *peer != here).take(ASKED_WHO_FETCHES) {
                self.sought.insert(peer);
                self.tell_that_we_fetch(peer);
            }
        }
        for (peer, shards) in providers {
            self.asked.insert(peer);
            self.handle(Input::Provider { peer, shards }, effects);
        }
        if self.asked.is_empty() && !has_runs {
            self.handle(Input::Tick, effects);
            self.starve(self.code.k());
        }
    }

    fn handle(&mut self, input: Input, effects: &mut VecDeque<Effect>) {
        let now = Time(self.started.elapsed().as_millis() as u64);
        let mut pipes = self.node.pipes.lock().expect("no holder panics");
        self.fetch.handle(now, input, &mut pipes, effects);
    }

    /// A peer said what it has, and who else fetches; or could not be asked.
    fn hear(&mut self, peer: NodeId, standing: Option<Standing>, effects: &mut VecDeque<Effect>) {
        if standing.is_none() {
            self.told.remove(&peer);
            self.unreached.insert(peer);
        }
        let was_reached = standing.is_some();
        let standing = standing.unwrap_or_default();
        for fetcher in standing.fetchers {
            if self.ask_fetcher(fetcher) {
                self.handle(Input::Fetching { peer: fetcher, runs: Vec::new() }, effects);
            }
        }
        if was_reached && !standing.is_fetching && self.told.contains(&peer) {
            self.idle.insert(peer);
        }
        if self.sought.remove(&peer) && self.sought.is_empty() {
            self.handle(Input::Sought, effects);
        }
        let runs = standing.runs;
        if standing.is_fetching {
            self.fellows.lock().expect("no holder panics").insert(peer);
        }
        if standing.is_fetching || !runs.is_empty() {
            self.starved = None;
        }
        let input = if standing.is_fetching { Input::Fetching { peer, runs } } else { Input::Fetched { peer, runs } };
        self.handle(input, effects);
    }

    /// Asks one that fetches too; whether it can be asked. Who cannot be yet is asked once it is there.
    fn ask_fetcher(&mut self, peer: NodeId) -> bool {
        let is_peer = peer != self.node.id() && self.node.answers(&peer);
        if is_peer && self.joined.is_some() {
            self.asked.insert(peer);
            self.tell_that_we_fetch(peer);
        } else if peer != self.node.id() {
            self.unreached.insert(peer);
        }
        is_peer
    }

    /// Tells a peer that we fetch, once; it answers what it has and who else does.
    fn tell_that_we_fetch(&mut self, peer: NodeId) {
        if !self.told.insert(peer) {
            return;
        }
        let (node, pack, standing) = (self.node.clone(), self.pack, self.standing.clone());
        tokio::spawn(async move {
            let have = node.links.have_fetching(peer, &pack).await;
            let said = have.map(|have| Standing::read(&have)).ok();
            let _ = standing.send((peer, said)).await; // the fetch has ended
        });
    }

    fn note_chokes(&mut self, choked_by: BTreeSet<NodeId>, effects: &mut VecDeque<Effect>) {
        let changed: Vec<NodeId> = choked_by.symmetric_difference(&self.choked_by).copied().collect();
        for peer in changed {
            let input = match choked_by.contains(&peer) {
                true => Input::Choked { peer },
                false => Input::Unchoked { peer },
            };
            self.handle(input, effects);
        }
        self.choked_by = choked_by;
    }

    /// Who should hold what, of those that answer: the holders, the author with the whole pack, and what lies here.
    fn known_providers(&self) -> Vec<(NodeId, ShardSet)> {
        let author = self.node.chain.state().pack(&self.pack).map(|pack| pack.author);
        let mut providers: HashMap<NodeId, ShardSet> = HashMap::new();
        for (shard, holder) in self.node.holders(&self.pack) {
            providers.entry(holder).or_default().insert(shard);
        }
        if let Some(author) = author {
            providers.insert(author, ShardSet::first(self.code.n()));
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
            let standing = self.standing.clone();
            tokio::spawn(async move {
                let Ok(have) = node.links.have(peer, &pack).await else { return }; // as good as holding nothing
                let shards = ShardSet::from_bytes(&have.shards);
                if !shards.is_empty() {
                    let _ = sender.send(Input::Provider { peer, shards }).await; // the fetch has ended
                }
                let _ = standing.send((peer, Some(Standing::read(&have)))).await;
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
                Effect::AllWanted => self.gathered.note(|state| state.is_all_wanted = true),
                Effect::Store { shard, first, data, hashes, proof } => {
                    self.gathered.add(shard, first, &data);
                    if let Some(parts) = &mut self.parts {
                        parts.add(self.started.elapsed(), shard, first, &data, &proof);
                    }
                    if self.joined.is_some() {
                        let of = (self.pack, shard, self.leaf_count);
                        self.node.swarm.take(of, first, data, &hashes, &proof);
                    }
                    let stored = Input::Stored { shard, first, result: Ok(()) };
                    self.handle(stored, effects);
                }
                Effect::Blame { peer, fault } => blame(&self.node, peer, fault.to_string()),
                Effect::WakeAt(time) => self.wake = Some(time),
                Effect::Finished => state = State::Finished,
                Effect::Starved { shards_due, .. } => self.starve(shards_due),
                Effect::Aborted(_) => unreachable!("leaves kept in memory are always stored"),
            }
        }
        state
    }

    fn send(&mut self, to: NodeId, ask: Want) {
        let (node, pack, sender, priority) = (self.node.clone(), self.pack, self.sender.clone(), self.priority);
        let (roots, leaf_count, unseen) = (self.roots.clone(), self.leaf_count, self.unseen.clone());
        let task = tokio::spawn(async move {
            let want = ask.id;
            let answer = match to == node.id() {
                true => Ok(read_here(&node, pack, &ask).await),
                false => node.links.want(to, &pack, ask.shard, ask.first, ask.count, priority).await,
            };
            let input = match answer {
                Ok(Wanted::Leaves(leaves)) => {
                    let root = roots[usize::from(ask.shard.0)];
                    let leaves = if let Some(unseen) = unseen {
                        let leaves = Checked::later(ask, leaves.data.clone(), proof_of(&leaves));
                        unseen.lock().expect("no holder panics").push((to, leaves.clone()));
                        leaves
                    } else if leaves.data.len() <= CHECKED_HERE_LEN_MAX {
                        check(ask, &root, leaf_count, leaves)
                    } else {
                        blocking(move || check(ask, &root, leaf_count, leaves)).await
                    };
                    Input::Leaves { from: to, leaves }
                }
                Ok(Wanted::Missing) => Input::Missing { from: to, want },
                Ok(Wanted::Busy) => Input::Busy { from: to, want },
                Err(_) => Input::PeerLost { peer: to },
            };
            let _ = sender.send(input).await; // the fetch has ended
        });
        self.wants.insert(ask.id, task.abort_handle());
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

impl Drop for Driver {
    fn drop(&mut self) {
        self.gathered.note(|state| state.is_over = true);
        for task in self.wants.values() {
            task.abort();
        }
        self.fetch.give_up(&mut self.node.pipes.lock().expect("no holder panics"));
    }
}

/// Whether what came is what was wanted. Hashes it.
/// Who may have sent what is false.
pub(super) struct Suspects {
    node: Arc<Node>,
    roots: Arc<[Digest]>,
    leaf_count: u32,
    unseen: Arc<Unseen>,
}

impl Suspects {
    /// Looks at all that came, and shuts those out who sent what is false. Blocks.
    pub(super) fn look(&self) {
        for (from, leaves) in self.unseen.lock().expect("no holder panics").drain(..) {
            if let Some(fault) = leaves.look(&self.roots[usize::from(leaves.shard().0)], self.leaf_count) {
                blame(&self.node, from, fault.to_string());
            }
        }
    }
}

/// A peer that sent a false leaf lied about bytes it hashed: it is no peer any more until this node restarts.
fn blame(node: &Arc<Node>, peer: NodeId, fault: String) {
    if peer == node.id() {
        return warn!(fault, "a shard that lies here is damaged");
    }
    warn!(peer = %peer.short(), fault, "a peer sent false leaves and is shut out");
    node.shut_out(peer, fault);
}

fn check(ask: Want, root: &Digest, leaf_count: u32, leaves: v1::Leaves) -> Checked {
    let proof = proof_of(&leaves);
    Checked::new(ask, root, leaf_count, leaves.data, proof)
}

fn proof_of(leaves: &v1::Leaves) -> Vec<Digest> {
    leaves.proof.iter().filter_map(|hash| Digest::try_from(hash.as_ref()).ok()).collect()
}

/// A run of leaves that lies here; the core verifies it like any other.
async fn read_here(node: &Arc<Node>, pack: PackId, ask: &Want) -> Wanted {
    let (worker, id, shard, first, count) = (node.clone(), ask.id, ask.shard, ask.first, ask.count);
    match blocking(move || worker.vault.leaves(&pack, shard, first, count)).await {
        Ok(Some(run)) => Wanted::Leaves(leaves(id.0, run.data, &run.proof)),
        Ok(None) => match node.swarm.leaves(&pack, shard, first, count) {
            Some((data, proof)) => Wanted::Leaves(leaves(id.0, data, &proof)),
            None => Wanted::Missing,
        },
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
