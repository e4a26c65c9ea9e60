//! A world for one fetch: packs, providers with a link each, and a queue of what happens when.

mod pack;
mod provider;

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bithealth_exchange::{Checked, Config, Effect, Fetch, Input, Need, Pipes, ShardSet, Spec, Want, WantId};
use bithealth_types::{LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex, Time};

pub(crate) use self::pack::{Pack, Packs};
pub(crate) use self::provider::falsify;
use self::provider::{Answer, Fault, Provider};

const PROVIDER_COUNT: u8 = 9;
/// Virtual time in which the slowest of these fetches must have ended one way or the other.
const END: Time = Time(30 * 60 * 1000);
/// How often the world looks for providers again when a fetch starves.
const SEARCHES_MAX: u32 = 12;
const SEARCH_MS: u64 = 3000;

/// Names the seed when a test fails.
pub(crate) struct Seed(pub(crate) u64);

impl Drop for Seed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {0}: repeat with BITHEALTH_SEED={0}", self.0);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Faults {
    None,
    Some,
}

/// SplitMix64: small, and the same everywhere.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// From `least` up to but not including `end`.
    pub(crate) fn between(&mut self, least: u64, end: u64) -> u64 {
        least + self.next() % (end - least)
    }

    pub(crate) fn percent(&mut self, percent: u64) -> bool {
        self.between(0, 100) < percent
    }
}

enum Event {
    Tell(Input),
    /// A want reaches its provider.
    Arrive(NodeId, Want),
    /// A provider's answer reaches the fetch.
    Answer(NodeId, Want, Answer),
    Die(NodeId),
    Announce(NodeId),
}

pub(crate) struct World<'a> {
    pack: &'a Pack,
    config: Config,
    need: Need,
    random: Random,
    fetch: Fetch,
    pipes: Pipes,
    now: Time,
    queue: BTreeMap<(Time, u64), Event>,
    queued: u64,
    providers: BTreeMap<NodeId, Provider>,
    open: BTreeMap<WantId, (NodeId, Want)>,
    wake_at: Option<Time>,
    /// Every leaf that was stored or held.
    stored: BTreeSet<(ShardIndex, u32)>,
    bytes_asked: u64,
    blamed: BTreeSet<NodeId>,
    /// Who answered an open want falsely.
    lied: BTreeSet<NodeId>,
    searches: u32,
    finished: bool,
    trace: Vec<Effect>,
}

impl<'a> World<'a> {
    pub(crate) fn new(packs: &'a Packs, seed: u64, faults: Faults) -> Self {
        let mut random = Random(seed);
        let pack = packs.pick(&mut random);
        let run_leaves = [2, 4, 16, 64][random.between(0, 4) as usize];
        let config = Config { run_leaves, wants_open_max: random.between(4, 64) as usize, ..Config::default() };
        let need = pack.any_need(&mut random);
        let spec = Spec {
            pack: PackId([1; 32]),
            code: pack.code,
            leaf_count: pack.leaf_count,
            roots: pack.roots(),
            need: need.clone(),
            here: NodeId([255; 32]),
            config: config.clone(),
        };
        let mut world = Self {
            pack,
            need,
            fetch: Fetch::new(spec, random.next()),
            pipes: Pipes::default(),
            now: Time(0),
            queue: BTreeMap::new(),
            queued: 0,
            providers: BTreeMap::new(),
            open: BTreeMap::new(),
            wake_at: None,
            stored: BTreeSet::new(),
            bytes_asked: 0,
            blamed: BTreeSet::new(),
            lied: BTreeSet::new(),
            searches: 0,
            finished: false,
            trace: Vec::new(),
            random,
            config,
        };
        if world.random.percent(30) {
            world.hold_some();
        }
        for index in 0..PROVIDER_COUNT {
            world.add_provider(NodeId([index + 1; 32]), u16::from(index), faults);
        }
        world.later(0, Event::Tell(Input::Tick));
        world
    }

    /// Some leaves are here from an earlier try.
    fn hold_some(&mut self) {
        let shard = ShardIndex(self.random.between(0, u64::from(self.pack.code.n())) as u16);
        let end = self.random.between(0, u64::from(self.pack.leaf_count)) as u32;
        self.stored.extend((0..end).map(|leaf| (shard, leaf)));
        self.later(0, Event::Tell(Input::Held { shard, leaves: 0..end }));
    }

    fn add_provider(&mut self, id: NodeId, index: u16, faults: Faults) {
        let code = self.pack.code;
        let shards = match self.random.between(0, 10) {
            0 => ShardSet::first(code.k()),
            _ => [ShardIndex(index % code.n())].into_iter().collect(),
        };
        let provider = Provider::new(&mut self.random, shards, faults);
        self.providers.insert(id, provider);
        // Without faults, all are found while providers are gathered.
        let at = self.random.between(0, if faults == Faults::None { self.config.gather_ms } else { 60 });
        self.later(at, Event::Announce(id));
        if let Some((dies, returns)) = self.providers[&id].dies() {
            self.later(dies, Event::Die(id));
            if let Some(returns) = returns {
                self.later(returns, Event::Announce(id));
            }
        }
    }

    fn later(&mut self, delay_ms: u64, event: Event) {
        self.queue.insert((Time(self.now.0 + delay_ms), self.queued), event);
        self.queued += 1;
    }

    /// Runs until nothing happens any more.
    pub(crate) fn run(&mut self) {
        while !self.finished {
            let next = self.queue.first_key_value().map(|(key, _)| *key);
            match (next, self.wake_at) {
                (Some((at, _)), wake_at) if wake_at.is_none_or(|wake_at| at <= wake_at) => {
                    let event = self.queue.pop_first().expect("there is a next one").1;
                    self.now = at;
                    self.happen(event);
                }
                (_, Some(wake_at)) => {
                    self.now = wake_at;
                    self.wake_at = None;
                    self.tell(Input::Tick);
                }
                (None, None) => return,
                (Some(_), None) => unreachable!("no wake-up is before any event"),
            }
            assert!(self.now < END, "a fetch does not go on for ever");
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Tell(input) => self.tell(input),
            Event::Arrive(to, want) => self.arrive(to, want),
            Event::Answer(from, want, answer) => self.answer(from, want, answer),
            Event::Die(peer) => {
                self.providers.get_mut(&peer).expect("known").connected = false;
                self.open.retain(|_, (to, _)| *to != peer);
                self.tell(Input::PeerLost { peer });
            }
            Event::Announce(peer) => {
                let provider = self.providers.get_mut(&peer).expect("known");
                provider.connected = true;
                let shards = provider.shards;
                self.tell(Input::Provider { peer, shards });
            }
        }
    }

    /// The provider's link sends one answer after the other.
    fn arrive(&mut self, to: NodeId, want: Want) {
        let lacks = self.providers[&to].lacks(want.first, self.config.run_leaves);
        let provider = self.providers.get_mut(&to).expect("known");
        if let Some((at, answer)) = provider.answer(&mut self.random, self.now, &want, lacks) {
            self.later(at.0 - self.now.0, Event::Answer(to, want, answer));
        }
    }

    fn answer(&mut self, from: NodeId, want: Want, answer: Answer) {
        if !self.providers[&from].connected {
            return;
        }
        let was_open = self.open.get(&want.id).is_some_and(|(to, _)| *to == from);
        self.open.remove(&want.id);
        let id = want.id;
        let input = match answer {
            Answer::Busy => Input::Busy { from, want: id },
            Answer::Missing => Input::Missing { from, want: id },
            Answer::Leaves | Answer::Lie(_) => {
                let (mut data, mut proof) = self.pack.leaves(&want);
                if let Answer::Lie(how) = answer {
                    provider::falsify(how, &mut data, &mut proof);
                    if was_open {
                        self.lied.insert(from);
                    }
                }
                let root = self.pack.roots()[usize::from(want.shard.0)];
                Input::Leaves { from, leaves: Checked::new(want, &root, self.pack.leaf_count, data.into(), proof) }
            }
        };
        self.tell(input);
    }

    fn tell(&mut self, input: Input) {
        let mut out = VecDeque::new();
        self.fetch.handle(self.now, input, &mut self.pipes, &mut out);
        for effect in out {
            self.trace.push(effect.clone());
            self.perform(effect);
        }
        assert!(self.open.len() <= self.config.wants_open_max, "wants are bounded");
    }

    fn perform(&mut self, effect: Effect) {
        assert!(!self.finished, "nothing comes after the end");
        match effect {
            Effect::Send { to, ask } => self.send(to, ask),
            Effect::Cancel { to, want } => {
                let open = self.open.remove(&want);
                assert!(open.is_none_or(|(at, _)| at == to), "a want is cancelled where it was sent");
                self.queue.retain(|_, event| !matches!(event, Event::Arrive(_, arriving) if arriving.id == want));
            }
            Effect::AllWanted => {}
            Effect::Store { shard, first, data, .. } => {
                assert!(data == self.pack.bytes(shard, first, data.len() / LEAF_LEN), "a false leaf was stored");
                let end = first.0 + (data.len() / LEAF_LEN) as u32;
                self.stored.extend((first.0..end).map(|leaf| (shard, leaf)));
                let delay = self.random.between(0, 10);
                self.later(delay, Event::Tell(Input::Stored { shard, first, result: Ok(()) }));
            }
            Effect::Blame { peer, .. } => {
                self.blamed.insert(peer);
                self.open.retain(|_, (to, _)| *to != peer);
            }
            Effect::WakeAt(at) => {
                assert!(at > self.now, "a wake-up lies ahead");
                self.wake_at = Some(at);
            }
            Effect::Finished => self.finished = true,
            Effect::Starved { .. } => self.search(),
            Effect::Aborted(_) => unreachable!("no store of this world fails"),
        }
    }

    fn send(&mut self, to: NodeId, ask: Want) {
        assert!(!self.blamed.contains(&to), "who was blamed is not asked");
        assert!(self.providers[&to].connected, "who is away is not asked");
        assert!(self.providers[&to].shards.contains(ask.shard), "nobody is asked for what it does not have");
        assert!(ask.count >= 1 && ask.count <= self.config.run_leaves, "{ask:?}");
        let at_provider = self.open.values().filter(|(other, _)| *other == to).count();
        assert!(at_provider < self.config.provider_wants_open_max, "wants at a provider are bounded");
        self.bytes_asked += ask.len();
        self.open.insert(ask.id, (to, ask));
        let latency_ms = self.providers[&to].latency_ms;
        self.later(latency_ms, Event::Arrive(to, ask));
    }

    /// A driver whose fetch starves asks everybody it is connected to what they have.
    fn search(&mut self) {
        self.searches += 1;
        if self.searches <= SEARCHES_MAX {
            let connected: Vec<_> = self.providers.iter().filter(|(_, p)| p.connected).map(|(id, _)| *id).collect();
            for peer in connected {
                if self.providers[&peer].dies().is_none() {
                    self.later(SEARCH_MS, Event::Announce(peer));
                }
            }
        }
    }

    pub(crate) fn finished(&self) -> bool {
        self.finished
    }

    pub(crate) fn blamed_count(&self) -> u64 {
        self.blamed.len() as u64
    }

    pub(crate) fn into_trace(self) -> Vec<Effect> {
        self.trace
    }

    /// What a finished fetch stored is enough, row by row.
    pub(crate) fn check_truth(&self) {
        let serves = |row: u32, needed: &ShardSet| self.row_serves(needed, |shard| self.stored.contains(&(shard, row)));
        let enough = self.rows().iter().all(|(row, needed)| serves(*row, needed));
        assert!(enough || !self.finished, "finished, and rows are missing");
    }

    /// Who lied is named, and nobody else.
    pub(crate) fn check_blame(&self) {
        assert_eq!(self.blamed, self.lied);
        let honest = |peer: &NodeId| !matches!(self.providers[peer].fault, Fault::Lies(_));
        assert!(!self.blamed.iter().any(honest), "an honest provider was blamed");
    }

    /// Whether providers that answer truly in the end, and what was held, have enough of every row.
    pub(crate) fn is_reachable(&self) -> bool {
        let reliable: Vec<_> = self.providers.values().filter(|provider| provider.is_reliable()).collect();
        self.rows().iter().all(|(row, needed)| {
            self.row_serves(needed, |shard| {
                let has = |provider: &&&Provider| {
                    provider.shards.contains(shard) && !provider.lacks(LeafIndex(*row), self.config.run_leaves)
                };
                self.stored.contains(&(shard, *row)) || reliable.iter().any(|provider| has(&provider))
            })
        })
    }

    /// The bytes asked and those needed.
    pub(crate) fn check_bytes_asked(&self) -> (u64, u64) {
        let needed = self.fetch.progress().bytes_needed;
        assert_eq!(self.fetch.progress().bytes_asked, self.bytes_asked);
        // A quarter more; of little, one late cell, in whose place k are decoded.
        let cells = u64::from(self.pack.code.k()) * u64::from(self.config.run_leaves) * LEAF_LEN as u64;
        let most = (needed * 5 / 4).max(needed + cells);
        assert!(self.bytes_asked <= most, "{} asked, {needed} needed", self.bytes_asked);
        (self.bytes_asked, needed)
    }

    fn row_serves(&self, needed: &ShardSet, has: impl Fn(ShardIndex) -> bool) -> bool {
        let all = (0..self.pack.code.n()).map(ShardIndex).filter(|shard| has(*shard)).count();
        all >= usize::from(self.pack.code.k()) || (!needed.is_empty() && needed.iter().all(has))
    }

    /// Rows that are needed, and which data shards are needed there; none where any k are.
    fn rows(&self) -> BTreeMap<u32, ShardSet> {
        let Need::Ranges(ranges) = &self.need else {
            return (0..self.pack.leaf_count).map(|row| (row, ShardSet::default())).collect();
        };
        let mut rows: BTreeMap<u32, ShardSet> = BTreeMap::new();
        for (shard, range) in ranges {
            range.clone().for_each(|row| rows.entry(row).or_default().insert(*shard));
        }
        rows
    }
}
