//! One validator: its engine, its ledger, its disk.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use bithealth_consensus::{Due, Effect, Engine, Fit, Guilt, Halt, Input, Pace};
use bithealth_ledger::{BlockError, EntryError, Opened, State, era_domain, merge};
use bithealth_proto::{decode, digest, encode, v1, v1::entry::Operation};
use bithealth_types::{Digest, Height, Time};
use bytes::Bytes;

use super::faults::{self, Failed, Faults, KeySwitch, Signed, Told};
use super::founding::{self, Founding};
use super::{Clock, Sent};
use crate::random::Random;

const PACE: Pace = Pace { interval_ms: 1000, heartbeat_ms: 20_000 };
/// When the world began, by a clock that is right.
const WALL_MS: u64 = 1_800_000_000_000;
/// Entries and blocks in one answer.
const REST_MAX: usize = 64;
/// After its engine halted a node opens it anew this much later, from what is on its disk.
const PAUSE_MS: u64 = 5_000;

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
    /// Until when the engine, which halted, is not opened anew.
    rests_until: Option<Time>,
}

pub(crate) struct Node {
    organisation: usize,
    clock: Clock,
    life: u64,
    disk: Disk,
    running: Option<Running>,
    random: Random,
    faults: Faults,
    key: KeySwitch,
    /// What the world knows of it, whatever its disk forgets; none of a machine whose key is on another one too.
    told: Option<Told>,
    failed: Failed,
}

impl Node {
    pub(crate) fn new(
        founding: &Founding,
        organisation: usize,
        clock: Clock,
        random: Random,
        told: Option<Told>,
    ) -> Self {
        let (faults, key, failed) = (Faults::default(), KeySwitch::default(), Failed::default());
        let disk = Disk::default();
        let mut node = Self { organisation, clock, life: 0, disk, running: None, random, faults, key, told, failed };
        node.running = Some(node.boot(founding, Time(0)));
        node
    }

    /// Of what this machine does, so much fails from now on.
    pub(crate) fn set_faults(&mut self, faults: Faults) {
        self.faults = faults;
    }

    pub(crate) fn failed(&self) -> &Failed {
        &self.failed
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
        self.disk.signed.values_mut().for_each(|signed| signed.lose(lost, false));
    }

    pub(crate) fn restart(&mut self, founding: &Founding, now: Time, out: &mut Out) {
        self.running = Some(self.boot(founding, now));
        self.resume(now, out);
    }

    /// With an engine that was just opened.
    fn resume(&mut self, now: Time, out: &mut Out) {
        let Some(running) = &self.running else { return };
        let (next, era) = (running.state.height().0 + 1, running.era);
        if self.disk.signed(era).wal_height == next {
            self.start(now, out); // it may have voted: it goes on where it was
        }
        self.pace(now, out);
    }

    /// The engine halted a while ago.
    fn reopen(&mut self, now: Time, out: &mut Out) {
        let Some(running) = &self.running else { return };
        let engine = self.engine(&running.state, running.era);
        let running = self.running.as_mut().expect("it runs");
        (running.engine, running.ahead, running.rests_until) = (engine, Height(0), None);
        running.checking.clear();
        self.resume(now, out);
    }

    fn rests(&self) -> bool {
        self.running.as_ref().is_none_or(|running| running.rests_until.is_some())
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
        let (ahead, checking) = (Height(0), BTreeMap::new());
        Running { opened, engine, era, state, since: now, ahead, checking, rests_until: None }
    }

    fn engine(&self, state: &State, era: u64) -> Engine {
        let (sign, switch) = (founding::validator_sign(self.organisation), self.key.clone());
        let signer = Box::new(move |message: &[u8]| (!switch.fails()).then(|| sign(message)));
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
        let Some(running) = self.running.as_ref().filter(|_| life == self.life) else { return };
        match running.rests_until {
            Some(until) if until <= now => self.reopen(now, out),
            Some(_) => {}
            None => {
                self.input(now, Input::Tick, out);
                self.pace(now, out);
            }
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
            for (value, content) in std::mem::take(&mut running.checking) {
                self.check(now, value, content, out);
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
        if self.rests() {
            return;
        }
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
        signed.start(height.0);
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
            if self.rests() {
                return;
            }
            self.key.set_failing(self.random.chance(self.faults.sign_per_mille));
            let Some(running) = &mut self.running else { return };
            let mut effects = VecDeque::new();
            if let Err(error) = running.engine.handle(now, input, &mut effects) {
                assert!(
                    self.disk.recovery.is_some(),
                    "honest nodes send messages, but for those of another era: {error}"
                );
            }
            let _ = effects.into_iter().try_for_each(|effect| self.perform(now, effect, &mut inputs, out));
        }
    }

    /// Breaks off where the effects that follow must not be performed.
    fn perform(&mut self, now: Time, effect: Effect, inputs: &mut VecDeque<Input>, out: &mut Out) -> ControlFlow<()> {
        match effect {
            Effect::Append { frame, safety } => self.signed().append(frame, safety),
            Effect::Send(message) => return self.send(message, inputs, out),
            Effect::Build { height, round } => inputs.push_back(self.build(now, height, round)),
            Effect::Check { value, content } => self.check_into(now, value, content, inputs),
            Effect::Decided { certificate, content } => self.decided(now, certificate, &content, out),
            Effect::Ahead { height } => {
                if let Some(running) = &mut self.running {
                    running.ahead = running.ahead.max(height);
                }
            }
            Effect::Accuse(guilt) => out.guilty.push(*guilt),
            Effect::Halted(halt) => self.halted(now, &halt, out),
            Effect::WakeAt(at) => out.wakes.push(at),
        }
        ControlFlow::Continue(())
    }

    fn signed(&mut self) -> &mut Signed {
        let era = self.running.as_ref().map_or(0, |running| running.era);
        self.disk.signed(era)
    }

    /// What comes before it is kept first; if that fails, neither this nor what follows is told.
    fn send(&mut self, message: v1::ConsensusMessage, inputs: &mut VecDeque<Input>, out: &mut Out) -> ControlFlow<()> {
        if self.random.chance(self.faults.append_per_mille) {
            self.failed.appends += 1;
            self.lose_unsynced();
            *inputs = VecDeque::from([Input::AppendFailed]);
            return ControlFlow::Break(());
        }
        let (era, key) = (self.running.as_ref().map_or(0, |running| running.era), self.key_bytes());
        self.signed().sync();
        let is_kept = self.signed().keeps(&message);
        let before = self.told.as_mut().and_then(|told| told.note(era, &key, &message));
        assert!(before != Some(faults::Before::Another), "a machine contradicts itself: {message:?}");
        assert!(before.is_none() || is_kept, "a machine forgets what it signs: {message:?}");
        if self.random.chance(self.faults.send_per_mille) {
            self.failed.sends += 1;
            inputs.push_back(Input::Unsent(message));
        } else {
            out.sent.push((None, Sent::Consensus(message)));
        }
        ControlFlow::Continue(())
    }

    /// Of what was to be appended, any number of frames is there, and what was signed last if they all are. Some disks
    /// order nothing: there it may be there without them.
    fn lose_unsynced(&mut self) {
        let (lost, has_safety) = (self.random.below(4) as usize, self.random.chance(500));
        let orders = !self.random.chance(self.faults.torn_per_mille);
        self.signed().lose(lost, has_safety && (lost == 0 || !orders));
    }

    fn build(&mut self, now: Time, height: Height, round: u32) -> Input {
        if self.random.chance(self.faults.build_per_mille) {
            self.failed.builds += 1;
            return Input::Unbuilt { height, round };
        }
        let (wall, opening) = (self.wall(now), self.opening());
        let running = self.running.as_ref().expect("its engine asked");
        let key = founding::validator_id(self.organisation);
        let (header, body) = running.state.next_block(&key, wall, opening.as_deref());
        let content = v1::Proposed { header: encode(&header).into(), body: encode(&body).into() };
        Input::Built { height, round, content }
    }

    /// Until it is opened anew the engine is told nothing.
    fn halted(&mut self, now: Time, halt: &Halt, out: &mut Out) {
        let is_torn = self.signed().is_torn();
        match halt {
            Halt::Append if self.faults.append_per_mille > 0 => {}
            Halt::Signer if self.key.fails() => self.failed.signatures += 1,
            Halt::Twice(_) if is_torn => self.failed.torn += 1,
            _ => panic!("an honest validator halts: {halt}"),
        }
        self.lose_unsynced();
        let until = Time(now.0 + PAUSE_MS);
        self.running.as_mut().expect("its engine halted").rests_until = Some(until);
        out.wakes.push(until);
    }

    fn key_bytes(&self) -> Vec<u8> {
        founding::validator_id(self.organisation).0.to_vec()
    }

    fn check(&mut self, now: Time, value: Digest, content: v1::Proposed, out: &mut Out) {
        let mut inputs = VecDeque::new();
        self.check_into(now, value, content, &mut inputs);
        inputs.into_iter().for_each(|input| self.input(now, input, out));
    }

    fn check_into(&mut self, now: Time, value: Digest, content: v1::Proposed, inputs: &mut VecDeque<Input>) {
        if self.random.chance(self.faults.check_per_mille) {
            self.failed.checks += 1;
            return inputs.push_back(Input::Unchecked { value });
        }
        let wall = self.wall(now);
        let Some(running) = &mut self.running else { return };
        let header: v1::Header = decode(&content.header).expect("honest nodes propose headers");
        let body: v1::Body = decode(&content.body).expect("honest nodes propose bodies");
        assert_eq!(value, digest(&header), "a proposal is named after its header");
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
