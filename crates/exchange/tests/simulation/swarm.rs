//! A world of many nodes that fetch the same packs at once, and serve one another what they have.
//!
//! One pack is fetched after the other, the next begun as soon as all of one is wanted.
//! Each node has a link with a pace in each direction, and serves by the core that real ones use. They find one another
//! through the providers: whoever asks one is told who else did.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bithealth_exchange::{
    Asker, Checked, Config, Effect, FETCHERS_MAX, Fetch, Fetchers, Input, Kept, Need, Pipes, Priority, Serve,
    ServeConfig, ServeEffect, ServeInput, ShardSet, Spec, Want, WantId,
};
use bithealth_types::{LEAF_LEN, NodeId, PackId, ShardIndex, Time};

use crate::world::{Pack, Random, falsify};

/// The packs differ by their names only.
fn pack_id(pack: u8) -> PackId {
    PackId([pack; 32])
}

/// A want as a holder knows it: ids are unique within a fetch.
fn served_id(pack: u8, want: WantId) -> WantId {
    WantId(u64::from(pack) << 32 | want.0)
}

/// Virtual time in which every fetch must have ended.
const END: Time = Time(30 * 60 * 1000);
/// What came is told to others together with what comes so soon after.
const TELL_MS: u64 = 20;
/// How long it takes to ask everybody again what they have.
const SEARCH_MS: u64 = 3000;
/// What a node keeps of what it fetched.
const KEPT_BYTES_MAX: u64 = 16 << 20;

/// What a node is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kind {
    pub(crate) up_bytes_per_s: u64,
    pub(crate) down_bytes_per_s: u64,
    pub(crate) latency_ms: u64,
    /// When it begins to fetch.
    pub(crate) starts_ms: u64,
    /// When it goes for good.
    pub(crate) leaves_ms: Option<u64>,
    /// So many of a hundred of its answers are false.
    pub(crate) lies_percent: u64,
    /// So many of a hundred of its answers are lost.
    pub(crate) loses_percent: u64,
}

impl Kind {
    /// A good node on a line of this pace, both ways.
    pub(crate) fn on_line(bytes_per_s: u64) -> Self {
        Self {
            up_bytes_per_s: bytes_per_s,
            down_bytes_per_s: bytes_per_s,
            latency_ms: 10,
            starts_ms: 0,
            leaves_ms: None,
            lies_percent: 0,
            loses_percent: 0,
        }
    }
}

struct Node {
    kind: Kind,
    is_there: bool,
    /// Holds the pack from the start.
    is_seeder: bool,
    up_free_at: Time,
    down_free_at: Time,
    serve: Serve,
    askers: BTreeMap<NodeId, Asker>,
    /// Wants that the core knows by name.
    wants: BTreeMap<(NodeId, WantId), (u8, Want)>,
    fetchers: Fetchers,
    kept: Kept,
    /// Who is told what it gets.
    followers: BTreeSet<(u8, NodeId)>,
    /// Whom it follows.
    follows: BTreeSet<(u8, NodeId)>,
    /// Of those the ones that said that they do not fetch.
    idle: BTreeSet<(u8, NodeId)>,
    /// Packs of which something came that they were not told of yet.
    to_tell: BTreeSet<u8>,
    /// Under way, by pack.
    fetches: BTreeMap<u8, Fetch>,
    packs_begun: u8,
    packs_done: u8,
    pipes: Pipes,
    wake_at: BTreeMap<u8, Time>,
    finished_at: Option<Time>,
    blamed: BTreeSet<NodeId>,
    lied_to: BTreeSet<NodeId>,
    uploaded: u64,
}

enum Event {
    Start(NodeId),
    Leave(NodeId),
    Wake(NodeId, u8, Time),
    Tell(NodeId, u8, Input),
    TellFollowers(NodeId, u8),
    /// A peer asks what a node has, and says that it fetches.
    AskHave {
        at: NodeId,
        from: NodeId,
        pack: u8,
    },
    Have {
        at: NodeId,
        from: NodeId,
        pack: u8,
        fetchers: Vec<NodeId>,
        fetches: bool,
    },
    Want {
        at: NodeId,
        from: NodeId,
        pack: u8,
        want: Want,
    },
    Cancel {
        at: NodeId,
        from: NodeId,
        want: WantId,
    },
    Sent {
        at: NodeId,
        to: Asker,
        want: WantId,
    },
}

/// All nodes, and the time.
pub(crate) struct Swarm<'a> {
    pack: &'a Pack,
    packs: u8,
    random: Random,
    now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    queued: u64,
    nodes: BTreeMap<NodeId, Node>,
}

/// The id of the node at a position; the seeders come first.
fn id(at: usize) -> NodeId {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&(at as u64).to_be_bytes());
    NodeId(id)
}

impl<'a> Swarm<'a> {
    /// Seeders that have so many packs, all like this one, and nodes that fetch them.
    pub(crate) fn new((pack, packs): (&'a Pack, u8), seed: u64, seeders: &[Kind], fetching: &[Kind]) -> Self {
        let mut swarm = Self {
            pack,
            packs,
            random: Random::new(seed),
            now: Time(0),
            queue: BTreeMap::new(),
            queued: 0,
            nodes: BTreeMap::new(),
        };
        for (at, kind) in seeders.iter().chain(fetching).enumerate() {
            let is_seeder = at < seeders.len();
            swarm.nodes.insert(id(at), Node::new(*kind, is_seeder));
            if !is_seeder {
                swarm.later(kind.starts_ms, Event::Start(id(at)));
            }
            if let Some(leaves_ms) = kind.leaves_ms {
                swarm.later(leaves_ms, Event::Leave(id(at)));
            }
        }
        swarm
    }

    fn later(&mut self, delay_ms: u64, event: Event) {
        self.queue.insert((Time(self.now.0 + delay_ms), self.queued), event);
        self.queued += 1;
    }

    fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of this world")
    }

    /// From one node to another.
    fn latency_ms(&self, from: NodeId, to: NodeId) -> u64 {
        self.nodes[&from].kind.latency_ms + self.nodes[&to].kind.latency_ms
    }

    /// Runs until everybody who is there has finished.
    pub(crate) fn run(&mut self) {
        while self.nodes.values().any(|node| node.is_there && !node.is_seeder && node.finished_at.is_none()) {
            let Some((at, event)) = self.queue.pop_first() else { return };
            self.now = at.0;
            assert!(self.now < END, "a fetch does not go on for ever: {:?}", self.unfinished());
            self.happen(event);
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Start(id) => self.start(id),
            Event::Leave(id) => self.leave(id),
            Event::Wake(id, pack, at) => {
                if self.nodes[&id].wake_at.get(&pack) == Some(&at) {
                    self.node(id).wake_at.remove(&pack);
                    self.tell(id, pack, Input::Tick);
                }
            }
            Event::Tell(id, pack, input) => self.tell(id, pack, input),
            Event::AskHave { at, from, pack } => self.on_ask_have(at, from, pack),
            Event::Have { at, from, pack, fetchers, fetches } => {
                if !fetches {
                    self.node(at).idle.insert((pack, from));
                }
                if self.nodes[&at].fetches.contains_key(&pack) {
                    for other in fetchers.into_iter().filter(|other| *other != at) {
                        self.tell(at, pack, Input::Fetching { peer: other, runs: Vec::new() });
                        self.follow(at, other, pack);
                    }
                    self.tell(at, pack, Input::Sought);
                }
            }
            Event::TellFollowers(id, pack) => {
                self.node(id).to_tell.remove(&pack);
                self.tell_followers(id, pack);
            }
            Event::Want { at, from, pack, want } => self.on_want(at, from, pack, want),
            Event::Cancel { at, from, want } => {
                if let Some(asker) = self.nodes[&at].askers.get(&from).copied() {
                    self.serve(at, ServeInput::Cancel { from: asker, want });
                }
            }
            Event::Sent { at, to, want } => self.serve(at, ServeInput::Done { to, want }),
        }
    }

    /// Begins to fetch the next pack, if there is one.
    fn start(&mut self, id: NodeId) {
        let pack = self.nodes[&id].packs_begun;
        if pack == self.packs || !self.nodes[&id].is_there {
            return;
        }
        let code = self.pack.code;
        let need = (0..code.k()).map(|shard| (ShardIndex(shard), 0..self.pack.leaf_count)).collect();
        let spec = Spec {
            pack: pack_id(pack),
            code,
            leaf_count: self.pack.leaf_count,
            roots: self.pack.roots(),
            need: Need::Ranges(need),
            here: id,
            config: Config { seek_ms: 150, ..Config::default() },
        };
        let seed = self.random.next();
        let node = self.node(id);
        node.fetches.insert(pack, Fetch::new(spec, seed));
        node.packs_begun += 1;
        let follows = node.follows.iter().chain(&node.followers);
        let mut fellows: BTreeSet<_> = follows.map(|(_, fellow)| *fellow).collect();
        fellows.retain(|fellow| !self.nodes[fellow].is_seeder);
        for fellow in fellows {
            self.tell(id, pack, Input::Fetching { peer: fellow, runs: Vec::new() });
            self.follow(id, fellow, pack);
        }
        let seeders: Vec<_> =
            self.nodes.iter().filter(|(_, it)| it.is_seeder && it.is_there).map(|(id, _)| *id).collect();
        for seeder in seeders {
            self.tell(id, pack, Input::Provider { peer: seeder, shards: ShardSet::first(code.k()) });
            self.follow(id, seeder, pack);
        }
    }

    fn leave(&mut self, id: NodeId) {
        self.node(id).is_there = false;
        self.node(id).fetches.clear();
        let others: Vec<_> = self.nodes.iter().filter(|(_, node)| node.is_there).map(|(id, _)| *id).collect();
        for other in others {
            if let Some(asker) = self.node(other).askers.remove(&id) {
                self.serve(other, ServeInput::Closed { from: asker });
            }
            for pack in 0..self.packs {
                self.tell(other, pack, Input::PeerLost { peer: id });
            }
        }
    }

    /// Asks a node what it has, once, and wants to be told of more.
    fn follow(&mut self, id: NodeId, whom: NodeId, pack: u8) {
        if id != whom && self.nodes[&whom].is_there && self.node(id).follows.insert((pack, whom)) {
            let latency_ms = self.latency_ms(id, whom);
            self.later(latency_ms, Event::AskHave { at: whom, from: id, pack });
        }
    }

    fn on_ask_have(&mut self, at: NodeId, from: NodeId, pack: u8) {
        if !self.nodes[&at].is_there {
            return;
        }
        let (now, latency_ms) = (self.now, self.latency_ms(at, from));
        let node = self.node(at);
        let fetchers = node.fetchers.note(now, pack_id(pack), from);
        let runs = node.kept.runs_of(&pack_id(pack));
        let fetches = node.fetches.contains_key(&pack);
        if fetches {
            if node.followers.len() < FETCHERS_MAX {
                node.followers.insert((pack, from));
            }
            if self.node(at).idle.remove(&(pack, from)) {
                self.node(at).follows.remove(&(pack, from)); // it has begun, and can tell of what it gets
            }
            self.follow(at, from, pack);
        }
        if fetches || !runs.is_empty() {
            self.later(latency_ms, Event::Tell(from, pack, Input::Fetching { peer: at, runs }));
        }
        self.later(latency_ms, Event::Have { at: from, from: at, pack, fetchers, fetches });
    }

    fn on_want(&mut self, at: NodeId, from: NodeId, pack: u8, want: Want) {
        let node = self.node(at);
        if !node.is_there {
            return;
        }
        let asker = match node.askers.get(&from) {
            Some(asker) => *asker,
            None => node.serve.open(from).expect("all may be served"),
        };
        node.askers.insert(from, asker);
        let id = served_id(pack, want.id);
        node.wants.insert((from, id), (pack, want));
        let (priority, len) = (Priority::Read, want.len());
        self.serve(at, ServeInput::Want { from: asker, want: id, priority, len, reads: len });
    }

    fn serve(&mut self, at: NodeId, input: ServeInput) {
        let mut effects = VecDeque::new();
        let now = self.now;
        self.node(at).serve.handle(now, input, &mut effects);
        for effect in effects {
            match effect {
                ServeEffect::Answer { to, want } => self.answer(at, to, want),
                ServeEffect::Refuse { to, want, .. } => {
                    let latency_ms = self.latency_ms(at, to.peer);
                    let input = Input::Busy { from: at, want: WantId(want.0 & u64::from(u32::MAX)) };
                    self.later(latency_ms, Event::Tell(to.peer, (want.0 >> 32) as u8, input));
                }
                ServeEffect::WakeAt(_) => unreachable!("the links of this world set the pace"),
                ServeEffect::Choke { peer } => self.tell_all(at, peer, || Input::Choked { peer: at }),
                ServeEffect::Unchoke { peer } => self.tell_all(at, peer, || Input::Unchoked { peer: at }),
            }
        }
    }

    /// All fetches of a node hear something of a peer.
    fn tell_all(&mut self, from: NodeId, to: NodeId, input: impl Fn() -> Input) {
        let latency_ms = self.latency_ms(from, to);
        for pack in 0..self.packs {
            self.later(latency_ms, Event::Tell(to, pack, input()));
        }
    }

    /// One answer after the other goes through the link of who sends it, and through that of whom it reaches.
    fn answer(&mut self, at: NodeId, asker: Asker, id: WantId) {
        let (now, latency_ms) = (self.now, self.latency_ms(at, asker.peer));
        let lost = self.random.percent(self.nodes[&at].kind.loses_percent);
        let lies = self.random.percent(self.nodes[&at].kind.lies_percent);
        let how = self.random.next();
        let node = self.node(at);
        let Some((pack, want)) = node.wants.remove(&(asker.peer, id)) else {
            return self.later(0, Event::Sent { at, to: asker, want: id });
        };
        let has = node.is_seeder || node.kept.leaves(&pack_id(pack), want.shard, want.first, want.count).is_some();
        if !has {
            self.later(latency_ms, Event::Tell(asker.peer, pack, Input::Missing { from: at, want: want.id }));
            return self.later(0, Event::Sent { at, to: asker, want: id });
        }
        let took_ms = want.len() * 1000 / node.kind.up_bytes_per_s;
        node.up_free_at = Time(node.up_free_at.max(now).0 + took_ms.max(1));
        node.uploaded += want.len();
        let sent_at = node.up_free_at;
        self.later(sent_at.0 - now.0, Event::Sent { at, to: asker, want: id });
        if lost {
            return;
        }
        let receiver = self.node(asker.peer);
        let took_ms = want.len() * 1000 / receiver.kind.down_bytes_per_s;
        let begins = Time(sent_at.0 + latency_ms).max(receiver.down_free_at);
        receiver.down_free_at = Time(begins.0 + took_ms.max(1));
        let arrives = receiver.down_free_at.max(Time(sent_at.0 + latency_ms));
        let (mut data, mut proof) = self.pack.leaves(&want);
        if lies {
            falsify(how, &mut data, &mut proof);
            self.node(asker.peer).lied_to.insert(at);
        }
        let root = self.pack.roots()[usize::from(want.shard.0)];
        let leaves = Checked::new(want, &root, self.pack.leaf_count, data.into(), proof);
        self.later(arrives.0 - now.0, Event::Tell(asker.peer, pack, Input::Leaves { from: at, leaves }));
    }

    fn tell(&mut self, id: NodeId, pack: u8, input: Input) {
        let now = self.now;
        let node = self.node(id);
        let Some(fetch) = node.fetches.get_mut(&pack).filter(|_| node.is_there) else { return };
        let mut effects = VecDeque::new();
        fetch.handle(now, input, &mut node.pipes, &mut effects);
        for effect in effects {
            self.perform(id, pack, effect);
        }
    }

    fn perform(&mut self, id: NodeId, pack: u8, effect: Effect) {
        match effect {
            Effect::Send { to, ask } => {
                let latency_ms = self.latency_ms(id, to);
                self.later(latency_ms, Event::Want { at: to, from: id, pack, want: ask });
            }
            Effect::Cancel { to, want } => {
                let latency_ms = self.latency_ms(id, to);
                self.later(latency_ms, Event::Cancel { at: to, from: id, want: served_id(pack, want) });
            }
            Effect::Store { shard, first, data, hashes, proof } => {
                assert!(data == self.pack.bytes(shard, first, data.len() / LEAF_LEN), "a false leaf was stored");
                let of = (pack_id(pack), shard, self.pack.leaf_count);
                self.node(id).kept.insert(of, first, data, &hashes, &proof);
                if self.node(id).to_tell.insert(pack) {
                    self.later(TELL_MS, Event::TellFollowers(id, pack));
                }
                self.later(0, Event::Tell(id, pack, Input::Stored { shard, first, result: Ok(()) }));
            }
            Effect::Blame { peer, .. } => drop(self.node(id).blamed.insert(peer)),
            Effect::WakeAt(at) => {
                self.node(id).wake_at.insert(pack, at);
                self.later(at.0 - self.now.0, Event::Wake(id, pack, at));
            }
            Effect::Finished => {
                let (now, packs) = (self.now, self.packs);
                let node = self.node(id);
                node.fetches.remove(&pack);
                node.packs_done += 1;
                node.finished_at = (node.packs_done == packs).then_some(now);
            }
            Effect::AllWanted => self.later(0, Event::Start(id)),
            Effect::Starved { .. } => self.search(id, pack),
            Effect::Aborted(_) => unreachable!("no store of this world fails"),
        }
    }

    /// A driver whose fetch starves asks everybody again what they have.
    fn search(&mut self, id: NodeId, pack: u8) {
        let shards = ShardSet::first(self.pack.code.k());
        let seeders: Vec<_> =
            self.nodes.iter().filter(|(_, it)| it.is_seeder && it.is_there).map(|(id, _)| *id).collect();
        for peer in seeders {
            self.later(SEARCH_MS, Event::Tell(id, pack, Input::Provider { peer, shards }));
        }
    }

    fn tell_followers(&mut self, id: NodeId, pack: u8) {
        let runs = self.nodes[&id].kept.runs_of(&pack_id(pack));
        let followers: Vec<_> = self.nodes[&id].followers.iter().filter(|(of, _)| *of == pack).copied().collect();
        for (_, follower) in followers {
            let latency_ms = self.latency_ms(id, follower);
            self.later(latency_ms, Event::Tell(follower, pack, Input::Fetching { peer: id, runs: runs.clone() }));
        }
    }

    /// Nodes that are there and have not finished.
    pub(crate) fn unfinished(&self) -> Vec<NodeId> {
        let unfinished = |(_, node): &(&NodeId, &Node)| node.is_there && !node.is_seeder && node.finished_at.is_none();
        self.nodes.iter().filter(unfinished).map(|(id, _)| *id).collect()
    }

    /// When each that finished had it all, in order.
    pub(crate) fn finished(&self) -> Vec<u64> {
        let mut finished: Vec<u64> = self.nodes.values().filter_map(|node| Some(node.finished_at?.0)).collect();
        finished.sort_unstable();
        finished
    }

    /// Bytes that a node sent.
    pub(crate) fn uploaded(&self, at: usize) -> u64 {
        self.nodes[&id(at)].uploaded
    }

    /// Who lied to a node is named by it, and nobody else: a lie that came too late to count may go unnamed.
    pub(crate) fn check_blame(&self) {
        for (id, node) in &self.nodes {
            assert!(node.blamed.is_subset(&node.lied_to), "{id} blames an honest node");
        }
    }
}

impl Node {
    fn new(kind: Kind, is_seeder: bool) -> Self {
        // What waits is the core's to order: little is handed to the link at a time.
        let config =
            ServeConfig { peers_max: 1024, peer_bytes_max: 512 << 10, bytes_max: 1 << 20, ..ServeConfig::default() };
        Self {
            kind,
            is_there: true,
            is_seeder,
            up_free_at: Time(0),
            down_free_at: Time(0),
            serve: Serve::new(config),
            askers: BTreeMap::new(),
            wants: BTreeMap::new(),
            fetchers: Fetchers::default(),
            kept: Kept::new(KEPT_BYTES_MAX),
            followers: BTreeSet::new(),
            follows: BTreeSet::new(),
            idle: BTreeSet::new(),
            to_tell: BTreeSet::new(),
            fetches: BTreeMap::new(),
            packs_begun: 0,
            packs_done: 0,
            pipes: Pipes::default(),
            wake_at: BTreeMap::new(),
            finished_at: None,
            blamed: BTreeSet::new(),
            lied_to: BTreeSet::new(),
            uploaded: 0,
        }
    }
}
