//! Validators with their engines and ledgers, on a network and disks that fail.

mod faults;
pub(crate) mod founding;
mod node;

use std::collections::{BTreeMap, BTreeSet};

use bithealth_consensus::Guilt;
use bithealth_ledger::{State, ValidatorSet};
use bithealth_proto::v1;
use bithealth_types::{Digest, Time, ValidatorId};

use crate::network::Network;
use crate::random::Random;
use crate::time::Queue;
use faults::Told;
use founding::{FOUNDED_MS, Founding};

pub use faults::{Failed, Faults};
pub use founding::RECOVERY_DELAY_MS;
use node::{Node, Out};

/// How a node's clock on the wall goes, apart from the time that passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Wrong by this many milliseconds.
    Off(i64),
    /// It always shows when the world began.
    Frozen,
}

/// What a world is made of.
#[derive(Clone, Debug)]
pub struct WorldConfig {
    /// Organisations that vote.
    pub validators: usize,
    /// Organisations whose key is on two machines.
    pub twins: usize,
    /// Clocks of the first nodes; the others' are right.
    pub clocks: Vec<Clock>,
    /// The network at first.
    pub network: Network,
    /// A node writes an entry about this often; 0: never.
    pub write_every_ms: u64,
}

impl WorldConfig {
    /// So many validators on a perfect network.
    pub fn new(validators: usize, twins: usize) -> Self {
        let network = Network::perfect(validators + twins);
        Self { validators, twins, clocks: Vec::new(), network, write_every_ms: 700 }
    }
}

/// What nodes send each other.
#[derive(Clone, Debug)]
pub(crate) enum Sent {
    Consensus(v1::ConsensusMessage),
    Entry(v1::SignedEntry),
    /// What the sender has: entries of each log, and blocks.
    Frontier(BTreeMap<Vec<u8>, u64>, u64),
    /// A recovery that was announced.
    Recovery(v1::SignedRecovery),
    /// What the other lacked.
    Rest(Vec<v1::SignedEntry>, Vec<v1::Block>),
}

#[derive(Debug)]
enum Event {
    Arrive { from: usize, to: usize, sent: Box<Sent> },
    Wake { node: usize, life: u64 },
    Write { node: usize },
    Sync { node: usize },
}

/// The world.
pub struct World {
    /// What becomes of messages.
    pub network: Network,
    config: WorldConfig,
    founding: Founding,
    random: Random,
    queue: Queue<Event>,
    nodes: Vec<Node>,
    decided: BTreeMap<u64, BTreeMap<Digest, v1::Certificate>>,
    guilty: BTreeSet<ValidatorId>,
}

impl World {
    /// A world that this seed decides.
    pub fn new(seed: u64, config: WorldConfig) -> Self {
        let founding = Founding::new(config.validators);
        let count = config.validators + config.twins;
        let organisation = |node: usize| if node < config.validators { node } else { node - config.validators };
        let clock = |node: usize| config.clocks.get(node).copied().unwrap_or(Clock::Off(0));
        // Draws of its own: what fails in one machine changes nothing that another one draws.
        let own = |node: usize| Random::new(seed ^ ((node as u64 + 1) << 48));
        // Whoever's key is on two machines contradicts itself.
        let told = |node: usize| (organisation(node) >= config.twins).then(Told::default);
        let node = |at: usize| Node::new(&founding, organisation(at), clock(at), own(at), told(at));
        let nodes = (0..count).map(node).collect();
        let network = config.network.clone();
        let (random, queue) = (Random::new(seed), Queue::default());
        let (decided, guilty) = (BTreeMap::new(), BTreeSet::new());
        let mut world = Self { network, config, founding, random, queue, nodes, decided, guilty };
        for node in 0..count {
            world.later(Event::Sync { node }, 500);
            if world.config.write_every_ms > 0 && node < world.config.validators {
                world.later(Event::Write { node }, world.config.write_every_ms);
            }
        }
        world
    }

    /// Lets this much time pass.
    pub fn run(&mut self, ms: u64) {
        let end = Time(self.queue.now().0 + ms);
        while let Some(event) = self.queue.pop_before(end) {
            self.happen(event);
        }
        self.queue.push(end, Event::Wake { node: 0, life: u64::MAX }); // moves the time on
        let passed = self.queue.pop_before(Time(end.0 + 1));
        passed.into_iter().for_each(|event| self.happen(event));
    }

    /// The draws of the world's seed, for who makes its faults.
    pub fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Of what this machine does, so much fails from now on.
    pub fn set_faults(&mut self, node: usize, faults: Faults) {
        self.nodes[node].set_faults(faults);
    }

    /// How often something failed so far, in all machines.
    pub fn failed(&self) -> Failed {
        let mut all = Failed::default();
        self.nodes.iter().for_each(|node| all += *node.failed());
        all
    }

    /// A node's clock is another from now on.
    pub fn set_clock(&mut self, node: usize, clock: Clock) {
        self.nodes[node].set_clock(clock);
    }

    /// A node's power fails: of what it did not sync, a part is lost.
    pub fn crash(&mut self, node: usize) {
        let lost = self.random.below(4) as usize;
        self.nodes[node].crash(lost);
    }

    /// It comes back.
    pub fn restart(&mut self, node: usize) {
        let now = self.queue.now();
        let mut out = Out::default();
        self.nodes[node].restart(&self.founding, now, &mut out);
        self.perform(node, out);
    }

    /// The holder of the recovery key announces at this node that these organisations go on from its tip, and the witness
    /// cosigns it for the first time.
    ///
    /// # Panics
    /// If the node is down.
    pub fn announce(&mut self, node: usize, orgs: &[usize]) -> v1::SignedRecovery {
        let time_ms = FOUNDED_MS + self.queue.now().0;
        let state = self.nodes[node].state().expect("the node runs");
        let mut signed = founding::recovery(state, orgs, time_ms);
        founding::cosign_recovery(state, &mut signed, time_ms / 1000);
        self.tell(node, signed.clone());
        signed
    }

    /// The witness cosigns it once more, and a node is told.
    ///
    /// # Panics
    /// If the node is down.
    pub fn cosign(&mut self, node: usize, mut signed: v1::SignedRecovery) {
        let time_ms = FOUNDED_MS + self.queue.now().0;
        let state = self.nodes[node].state().expect("the node runs");
        founding::cosign_recovery(state, &mut signed, time_ms / 1000);
        self.tell(node, signed);
    }

    fn tell(&mut self, node: usize, signed: v1::SignedRecovery) {
        let mut out = Out::default();
        self.nodes[node].take_recovery(self.queue.now(), signed, &mut out);
        self.perform(node, out);
    }

    /// The era of each node's tip.
    pub fn eras(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.state().map_or(0, State::era)).collect()
    }

    /// Whether a node runs.
    pub fn is_up(&self, node: usize) -> bool {
        self.nodes[node].is_up()
    }

    /// The height of each node's tip.
    pub fn heights(&self) -> Vec<u64> {
        self.nodes.iter().map(Node::height).collect()
    }

    /// Entries that wait for a block, at each node.
    pub fn open(&self) -> Vec<u64> {
        self.nodes.iter().map(Node::open).collect()
    }

    /// Heights at which two different headers were certified, with the certificates of two of them.
    pub fn forks(&self) -> Vec<(u64, [v1::Certificate; 2])> {
        let two = |headers: &BTreeMap<Digest, v1::Certificate>| {
            let mut certificates = headers.values();
            Some([certificates.next()?.clone(), certificates.next()?.clone()])
        };
        self.decided.iter().filter_map(|(height, headers)| Some((*height, two(headers)?))).collect()
    }

    /// Who decides, the same at every height here.
    pub fn validators(&self) -> ValidatorSet {
        self.founding.state().validators().clone()
    }

    /// Validators that votes of theirs prove guilty.
    pub fn guilty(&self) -> &BTreeSet<ValidatorId> {
        &self.guilty
    }

    /// The key an organisation votes with.
    pub fn validator(&self, organisation: usize) -> ValidatorId {
        founding::validator_id(organisation)
    }

    /// Entries no longer come.
    pub fn stop_writing(&mut self) {
        self.config.write_every_ms = 0;
    }

    fn later(&mut self, event: Event, about_ms: u64) {
        let wait = about_ms / 2 + self.random.below(about_ms + 1);
        self.queue.push(Time(self.queue.now().0 + wait), event);
    }

    fn happen(&mut self, event: Event) {
        let now = self.queue.now();
        let mut out = Out::default();
        match event {
            Event::Arrive { from, to, sent } => {
                self.nodes[to].receive(now, from, *sent, &mut out);
                self.perform(to, out);
            }
            Event::Wake { node, life } => {
                self.nodes[node].wake(now, life, &mut out);
                self.perform(node, out);
            }
            Event::Write { node } => {
                let every = self.config.write_every_ms;
                if every > 0 {
                    let draw = self.random.below(u64::MAX);
                    self.nodes[node].write(now, draw, &mut out);
                    self.perform(node, out);
                    self.later(Event::Write { node }, every);
                }
            }
            Event::Sync { node } => {
                let other = self.random.below(self.nodes.len() as u64) as usize;
                if other != node {
                    self.nodes[node].ask(other, &mut out);
                }
                self.perform(node, out);
                self.later(Event::Sync { node }, 500);
            }
        }
    }

    fn perform(&mut self, node: usize, out: Out) {
        for (to, sent) in out.sent {
            let others: Vec<usize> = match to {
                Some(one) => vec![one],
                None => (0..self.nodes.len()).filter(|other| *other != node).collect(),
            };
            for other in others {
                for at in self.network.arrivals(&mut self.random, self.queue.now(), node, other) {
                    let sent = Box::new(sent.clone());
                    self.queue.push(at, Event::Arrive { from: node, to: other, sent });
                }
            }
        }
        for at in out.wakes {
            self.queue.push(at, Event::Wake { node, life: self.nodes[node].life() });
        }
        for (height, digest, certificate) in out.decided {
            self.decided.entry(height).or_default().insert(digest, certificate);
        }
        for guilt in out.guilty {
            self.convict(&guilt);
        }
    }

    fn convict(&mut self, guilt: &Guilt) {
        assert_ne!(guilt.first.value, guilt.second.value, "votes for one value prove nothing");
        assert_eq!(
            (guilt.first.height, guilt.first.round, guilt.first.kind),
            (guilt.second.height, guilt.second.round, guilt.second.kind)
        );
        self.guilty.insert(guilt.validator);
    }
}
