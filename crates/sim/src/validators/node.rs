//! One validator: its engine, its ledger, its disk.

use std::collections::{BTreeMap, VecDeque};

use bithealth_consensus::{Due, Effect, Engine, Fit, Guilt, Input, Pace};
use bithealth_ledger::{BlockError, EntryError, Opened, State, era_domain, merge};
use bithealth_proto::{decode, digest, encode, v1, v1::entry::Operation};
use bithealth_types::{Digest, Height, Time};
use bytes::Bytes;

use super::founding::{self, Founding};
use super::{Clock, Sent};
use crate::disk::Log;

const PACE: Pace = Pace { interval_ms: 1000, heartbeat_ms: 20_000 };
/// When the world began, by a clock that is right.
const WALL_MS: u64 = 1_800_000_000_000;
/// Entries and blocks in one answer.
const REST_MAX: usize = 64;

/// What a node did.
#[derive(Default)]
pub(crate) struct Out {
    /// To one, or to all.
    pub(crate) sent: Vec<(Option<usize>, Sent)>,
    pub(crate) wakes: Vec<Time>,
    pub(crate) decided: Vec<(u64, Digest, v1::Certificate)>,
    pub(crate) guilty: Vec<Guilt>,
}

/// What survives a crash. Entries and blocks are synced before they count, so only the log of the engine can lose any.
#[derive(Default)]
struct Disk {
    entries: Vec<v1::SignedEntry>,
    blocks: Vec<v1::Block>,
    /// What was signed, by era.
    signed: BTreeMap<u64, Signed>,
    recovery: Option<v1::SignedRecovery>,
}

#[derive(Default)]
struct Signed {
    wal: Log,
    wal_height: u64,
    safety: Option<Bytes>,
    unsynced_safety: Option<Bytes>,
}

impl Disk {
    fn signed(&mut self, era: u64) -> &mut Signed {
        self.signed.entry(era).or_default()
    }
}

/// What a node may decide.
enum Turn {
    Goes,
    Opens(Box<Opened>),
    Rests,
}

struct Running {
    /// The recovery on the disk, if the witness saw its delay pass.
    opened: Option<Box<Opened>>,
    engine: Engine,
    /// The engine's.
    era: u64,
    state: State,
    since: Time,
    ahead: Height,
    /// Proposals whose entries have not all arrived.
    checking: BTreeMap<Digest, v1::Proposed>,
}

pub(crate) struct Node {
    organisation: usize,
    clock: Clock,
    life: u64,
    disk: Disk,
    running: Option<Running>,
}

impl Node {
    pub(crate) fn new(founding: &Founding, organisation: usize, clock: Clock) -> Self {
        let mut node = Self { organisation, clock, life: 0, disk: Disk::default(), running: None };
        node.running = Some(node.boot(founding, Time(0)));
        node
    }

    pub(crate) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) fn life(&self) -> u64 {
        self.life
    }

    pub(crate) fn height(&self) -> u64 {
        self.running.as_ref().map_or(0, |running| running.state.height().0)
    }

    pub(crate) fn open(&self) -> u64 {
        let Some(running) = &self.running else { return 0 };
        let logs = running.state.nodes().filter_map(|node| running.state.log(&node.id));
        logs.map(|log| log.len - log.final_len).sum()
    }

    pub(crate) fn crash(&mut self, lost: usize) {
        self.life += 1;
        self.running = None;
        for signed in self.disk.signed.values_mut() {
            signed.wal.crash(lost);
            signed.unsynced_safety = None;
        }
    }

    pub(crate) fn restart(&mut self, founding: &Founding, now: Time, out: &mut Out) {
        let running = self.boot(founding, now);
        let (next, era) = (running.state.height().0 + 1, running.era);
        self.running = Some(running);
        if self.disk.signed(era).wal_height == next {
            self.start(now, out); // it may have voted: it goes on where it was
        }
        self.pace(now, out);
    }

    fn boot(&self, founding: &Founding, now: Time) -> Running {
        let mut state = founding.state();
        for entry in &self.disk.entries {
            let checked = state.check(entry).expect("it was taken before");
            state.apply(checked);
        }
        for block in &self.disk.blocks {
            let checked = state.check_block(block).expect("it was taken before");
            state.apply_block(checked);
        }
        let opened = self.disk.recovery.as_ref().and_then(|signed| state.check_opening(signed).ok()).map(Box::new);
        let era = opened.as_ref().map_or(state.era(), |opened| opened.era);
        let engine = self.engine(&state, era);
        Running { opened, engine, era, state, since: now, ahead: Height(0), checking: BTreeMap::new() }
    }

    fn engine(&self, state: &State, era: u64) -> Engine {
        let sign = founding::validator_sign(self.organisation);
        let signer = Box::new(move |message: &[u8]| Some(sign(message)));
        let key = founding::validator_id(self.organisation);
        let safety = self.disk.signed.get(&era).and_then(|signed| signed.safety.as_deref());
        let domain = era_domain(&state.genesis_id(), era);
        Engine::new(domain, key, signer, safety).expect("the safety state is whole")
    }

    fn turn(&self, running: &Running) -> Turn {
        let is_next = |it: &&v1::SignedRecovery| it.recovery.as_ref().is_some_and(|it| running.state.is_next(it));
        match self.disk.recovery.as_ref().filter(is_next) {
            None => Turn::Goes,
            Some(_) => running.opened.clone().map_or(Turn::Rests, Turn::Opens),
        }
    }

    /// The recovery that opens the era of the engine, until its first block is here.
    fn opening(&self) -> Option<Box<Opened>> {
        match self.turn(self.running.as_ref()?) {
            Turn::Opens(opened) => Some(opened),
            Turn::Goes | Turn::Rests => None,
        }
    }

    pub(crate) fn state(&self) -> Option<&State> {
        self.running.as_ref().map(|running| &running.state)
    }

    pub(crate) fn take_recovery(&mut self, now: Time, signed: v1::SignedRecovery, out: &mut Out) {
        let Some(running) = &mut self.running else { return };
        if self.disk.recovery.as_ref() == Some(&signed) || running.state.check_announced(&signed).is_err() {
            return; // known, void, or this node is behind
        }
        let known = self.disk.recovery.take().filter(|known| known.recovery == signed.recovery);
        let merged = known.map_or(signed.clone(), |known| merge(&known, &signed));
        running.opened = running.state.check_opening(&merged).ok().map(Box::new);
        self.disk.recovery = Some(merged);
        self.pace(now, out);
    }

    /// Another era has its own engine.
    fn follow_era(&mut self) {
        let Some(running) = &self.running else { return };
        let era = match self.turn(running) {
            Turn::Opens(opened) => opened.era,
            Turn::Goes => running.state.era(),
            Turn::Rests => return,
        };
        if era != running.era {
            let engine = self.engine(&running.state, era);
            let running = self.running.as_mut().expect("it runs");
            (running.engine, running.era, running.ahead) = (engine, era, Height(0));
            running.checking.clear();
        }
    }

    pub(crate) fn wake(&mut self, now: Time, life: u64, out: &mut Out) {
        if life == self.life && self.is_up() {
            self.input(now, Input::Tick, out);
            self.pace(now, out);
        }
    }

    pub(crate) fn write(&mut self, now: Time, draw: u64, out: &mut Out) {
        let wall = self.wall(now);
        let Some(running) = &mut self.running else { return };
        let mut commitment = [0; 32];
        commitment[..8].copy_from_slice(&draw.to_be_bytes());
        let operation = Operation::Notarise(v1::Notarise { commitment: Bytes::copy_from_slice(&commitment) });
        let entry = founding::write(&mut running.state, self.organisation, operation, wall);
        self.disk.entries.push(entry.clone());
        out.sent.push((None, Sent::Entry(entry)));
        self.pace(now, out);
    }

    pub(crate) fn ask(&mut self, other: usize, out: &mut Out) {
        let Some(running) = &self.running else { return };
        let lens = running.state.nodes().map(|node| {
            let len = running.state.log(&node.id).map_or(0, |log| log.len);
            (node.id.0.to_vec(), len)
        });
        out.sent.push((Some(other), Sent::Frontier(lens.collect(), running.state.height().0)));
        out.sent.extend(self.disk.recovery.clone().map(|signed| (Some(other), Sent::Recovery(signed))));
    }

    pub(crate) fn receive(&mut self, now: Time, from: usize, sent: Sent, out: &mut Out) {
        if !self.is_up() {
            return;
        }
        match sent {
            Sent::Consensus(message) => self.input(now, Input::Message(message), out),
            Sent::Recovery(signed) => self.take_recovery(now, signed, out),
            Sent::Entry(entry) => self.take_entries(now, vec![entry], out),
            Sent::Frontier(lens, height) => self.answer(from, &lens, height, out),
            Sent::Rest(entries, blocks) => {
                self.take_entries(now, entries, out);
                blocks.into_iter().for_each(|block| self.take_block(now, block, out));
                self.ask(from, out); // there may be more
            }
        }
        self.pace(now, out);
    }

    fn answer(&mut self, to: usize, lens: &BTreeMap<Vec<u8>, u64>, height: u64, out: &mut Out) {
        let lacks = |signed: &&v1::SignedEntry| {
            let entry: v1::Entry = decode(&signed.entry).expect("it was taken before");
            lens.get(entry.author.as_ref()).is_none_or(|len| *len <= entry.sequence)
        };
        let entries: Vec<_> = self.disk.entries.iter().filter(lacks).take(REST_MAX).cloned().collect();
        let above = self.disk.blocks.iter().filter(|block| header(block).height > height);
        let blocks: Vec<_> = above.take(REST_MAX).cloned().collect();
        if !entries.is_empty() || !blocks.is_empty() {
            out.sent.push((Some(to), Sent::Rest(entries, blocks)));
        }
    }

    fn take_entries(&mut self, now: Time, entries: Vec<v1::SignedEntry>, out: &mut Out) {
        let Some(running) = &mut self.running else { return };
        let mut fresh = false;
        for entry in entries {
            match running.state.check(&entry) {
                Ok(checked) => {
                    running.state.apply(checked);
                    self.disk.entries.push(entry);
                    fresh = true;
                }
                Err(EntryError::Known { .. } | EntryError::Final { .. } | EntryError::Gap { .. }) => {}
                Err(error @ EntryError::Forked { .. }) => drop(error), // twins write no entries that differ
                Err(error) => panic!("an honest author's entry is refused: {error}"),
            }
        }
        if fresh {
            for (_, content) in std::mem::take(&mut running.checking) {
                self.check(now, content, out);
            }
        }
    }

    fn take_block(&mut self, now: Time, block: v1::Block, out: &mut Out) {
        let Some(running) = &mut self.running else { return };
        match running.state.check_block(&block) {
            Ok(checked) => {
                let (height, digest) = (checked.height(), checked.digest());
                running.state.apply_block(checked);
                running.since = now;
                running.checking.clear();
                out.decided.push((height.0, digest, block.certificate.clone().unwrap_or_default()));
                self.disk.blocks.push(block);
            }
            Err(BlockError::Known { .. } | BlockError::Gap { .. } | BlockError::Missing { .. }) => {}
            Err(BlockError::Previous { .. }) => {} // of the other side of a fork, which the world sees
            Err(error) => panic!("a certified block is refused: {error}"),
        }
    }

    /// Begins the next height if it is due; else asks to be woken.
    fn pace(&mut self, now: Time, out: &mut Out) {
        self.follow_era();
        let opening = self.opening();
        let Some(running) = &self.running else { return };
        let tip = running.state.height();
        let validators = opening.as_ref().map_or(running.state.validators(), |opened| &opened.validators);
        let votes = validators.position(&founding::validator_id(self.organisation)).is_some();
        if !votes || running.engine.height().0 > tip.0 {
            return;
        }
        let open = opening.is_some() || running.state.is_open();
        match PACE.due(now, running.since, tip, open, running.ahead) {
            Due::Now => self.start(now, out),
            Due::At(at) => out.wakes.push(at),
        }
    }

    fn start(&mut self, now: Time, out: &mut Out) {
        let opening = self.opening();
        let Some(running) = &self.running else { return };
        let height = Height(running.state.height().0 + 1);
        let validators = opening.map_or_else(|| running.state.validators().clone(), |opened| opened.validators);
        let signed = self.disk.signed(running.era);
        if signed.wal_height != height.0 {
            signed.wal.clear();
            signed.wal_height = height.0;
        }
        let frames = signed.wal.frames().to_vec();
        self.input(now, Input::Start { height, validators, frames }, out);
    }

    fn input(&mut self, now: Time, input: Input, out: &mut Out) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            // Who knows of a recovery signs nothing more in the era it ends.
            if self.running.as_ref().is_none_or(|running| matches!(self.turn(running), Turn::Rests)) {
                return;
            }
            let Some(running) = &mut self.running else { return };
            let mut effects = VecDeque::new();
            if let Err(error) = running.engine.handle(now, input, &mut effects) {
                assert!(
                    self.disk.recovery.is_some(),
                    "honest nodes send messages, but for those of another era: {error}"
                );
            }
            for effect in effects {
                self.perform(now, effect, &mut inputs, out);
            }
        }
    }

    fn perform(&mut self, now: Time, effect: Effect, inputs: &mut VecDeque<Input>, out: &mut Out) {
        match effect {
            Effect::Append { frame, safety } => {
                let Some(running) = &self.running else { return };
                let signed = self.disk.signed(running.era);
                signed.wal.append(frame);
                signed.unsynced_safety = safety.or(signed.unsynced_safety.take());
            }
            Effect::Send(message) => {
                let Some(running) = &self.running else { return };
                let signed = self.disk.signed(running.era);
                signed.wal.sync();
                let safety = signed.unsynced_safety.take();
                signed.safety = safety.or(signed.safety.take());
                out.sent.push((None, Sent::Consensus(message)));
            }
            Effect::Build { height, round } => {
                let (wall, opening) = (self.wall(now), self.opening());
                let Some(running) = &self.running else { return };
                let key = founding::validator_id(self.organisation);
                let (header, body) = running.state.next_block(&key, wall, opening.as_deref());
                let content = v1::Proposed { header: encode(&header).into(), body: encode(&body).into() };
                inputs.push_back(Input::Built { height, round, content });
            }
            Effect::Check { content, .. } => self.check_into(now, content, inputs),
            Effect::Decided { certificate, content } => self.decided(now, certificate, &content, out),
            Effect::Ahead { height } => {
                if let Some(running) = &mut self.running {
                    running.ahead = running.ahead.max(height);
                }
            }
            Effect::Accuse(guilt) => out.guilty.push(*guilt),
            Effect::Halted(halt) => panic!("an honest validator halts: {halt}"),
            Effect::WakeAt(at) => out.wakes.push(at),
        }
    }

    fn check(&mut self, now: Time, content: v1::Proposed, out: &mut Out) {
        let mut inputs = VecDeque::new();
        self.check_into(now, content, &mut inputs);
        inputs.into_iter().for_each(|input| self.input(now, input, out));
    }

    fn check_into(&mut self, now: Time, content: v1::Proposed, inputs: &mut VecDeque<Input>) {
        let wall = self.wall(now);
        let Some(running) = &mut self.running else { return };
        let header: v1::Header = decode(&content.header).expect("honest nodes propose headers");
        let body: v1::Body = decode(&content.body).expect("honest nodes propose bodies");
        let value = digest(&header);
        let fit = match running.state.check_proposal(&header, &body) {
            Ok(_) if running.state.check_clock(&header, wall).is_err() => Fit::Untimely,
            Ok(_) => Fit::Valid,
            Err(BlockError::Missing { .. }) => return drop(running.checking.insert(value, content)),
            Err(_) => Fit::Invalid,
        };
        inputs.push_back(Input::Checked { value, fit });
    }

    fn decided(&mut self, now: Time, certificate: v1::Certificate, content: &v1::Proposed, out: &mut Out) {
        let block = v1::Block {
            header: decode(&content.header).ok(),
            certificate: Some(certificate),
            body: decode(&content.body).ok(),
        };
        self.take_block(now, block, out);
    }

    fn wall(&self, now: Time) -> u64 {
        match self.clock {
            Clock::Off(ms) => (WALL_MS + now.0).saturating_add_signed(ms),
            Clock::Frozen => WALL_MS,
        }
    }
}

fn header(block: &v1::Block) -> v1::Header {
    block.header.clone().unwrap_or_default()
}
