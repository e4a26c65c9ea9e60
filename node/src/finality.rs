//! The consensus engine in this node: its log on the disk, its messages in gossip, its blocks in the ledger.
//!
//! One task owns the engine. Everything the engine asks to be kept is durable before anything it asks to be sent is sent.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bithealth_consensus::{Due, Effect, Engine, Fit, Guilt, Halt, Input, MessageError, Pace, Vouched, vouch};
use bithealth_ledger::{Opened, ValidatorSet, double_vote, era_domain, signed_header};
use bithealth_net::Topic;
use bithealth_proto::{decode, encode, v1};
use bithealth_store::{OsDisk, Wal, WalError};
use bithealth_types::{Digest, Height, Time, ValidatorId};
use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{debug, error, info, warn};

use crate::chain::{Received, Verdict};
use crate::node::{Node, now_ms};
use crate::reconcile;
use crate::recovery::Turn;
use crate::replicate::blocking;

/// Messages that wait for the engine. 1,024 are a round of everybody in a large network; what does not fit is sent again.
const HEARD_MAX: usize = 1024;
/// After a fault of the disk the engine begins anew, this much later.
const PAUSE: Duration = Duration::from_secs(5);
/// A block that was decided and could not be kept is tried again this much later.
const KEEP_AGAIN: Duration = Duration::from_secs(1);

/// Said where the history forked.
const FORKED: &str = "two blocks of one height were certified: more validators lie than the network bears. Nothing more \
                      is decided here; both are the proof (`bithealth ledger evidence`), and the members must meet";

/// What the rest of the node knows of the engine, and how it tells it things.
pub struct Finality {
    heard: mpsc::Sender<v1::ConsensusMessage>,
    inbox: Mutex<Option<mpsc::Receiver<v1::ConsensusMessage>>>,
    seen: Mutex<Seen>,
}

/// How the current height goes.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// The height that is being decided; 0: none.
    pub height: u64,
    /// Its round.
    pub round: u32,
    /// Who voted in it.
    pub voted: Vec<ValidatorId>,
    /// Who signed the last block.
    pub signed: Vec<ValidatorId>,
    /// Why this node does not vote, where it should.
    pub halted: Option<String>,
}

impl Default for Finality {
    fn default() -> Self {
        let (heard, inbox) = mpsc::channel(HEARD_MAX);
        Self { heard, inbox: Mutex::new(Some(inbox)), seen: Mutex::default() }
    }
}

impl Finality {
    /// Tells the engine what another validator says. What comes too fast is dropped: it is said again.
    pub fn hear(&self, message: v1::ConsensusMessage) {
        if self.heard.try_send(message).is_err() {
            debug!("a consensus message was dropped");
        }
    }

    /// How the current height goes.
    pub fn seen(&self) -> Seen {
        self.seen.lock().expect("no holder panics").clone()
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.seen.lock().expect("no holder panics"));
    }
}

/// Takes what another validator says, or is said to say: one that nobody signed goes no further.
pub(crate) fn receive(node: &Node, message: &v1::ConsensusMessage) -> Received {
    let vouched = match node.recovery.turn(&node.chain) {
        Turn::Goes => {
            let (domain, validators, due) = {
                let state = node.chain.state();
                let domain = era_domain(&state.genesis_id(), state.era());
                (domain, state.validators().clone(), Height(state.height().0 + 1))
            };
            vouch(&domain, &validators, due, message.clone())
        }
        _ => Ok(Vouched::Signed), // an era ends or begins: who signs in which is for the engine to say
    };
    if vouched.is_ok() {
        node.finality.hear(message.clone());
    }
    let has_eras = node.chain.state().genesis().recovery.is_some();
    judged(vouched, if has_eras { Eras::Possible } else { Eras::One })
}

/// Whether holders of recovery keys can open another era.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Eras {
    One,
    Possible,
}

/// What becomes of a message, and of whoever passed it on.
fn judged(vouched: Result<Vouched, MessageError>, eras: Eras) -> Received {
    match (vouched, eras) {
        (Ok(Vouched::Signed), _) => Received::New,
        (Ok(Vouched::Other), _) => Received::Known,
        // It may be of an era of which this node has not heard: it goes no further, and nobody is to blame.
        (Err(_), Eras::Possible) => Received::Known,
        (Err(error), Eras::One) => Received::Forged(error.to_string()),
    }
}

/// Decides blocks with the others, for as long as the node runs.
pub async fn run(node: Arc<Node>, dir: PathBuf) {
    let inbox = node.finality.inbox.lock().expect("no holder panics").take();
    let mut inbox = inbox.expect("it is run once");
    loop {
        let opened = rest(&node, &mut inbox).await;
        let (opening, dir) = (node.clone(), dir.clone());
        match blocking(move || Driver::open(opening, &dir, opened)).await {
            Ok(driver) => {
                if driver.drive(&mut inbox).await == Ended::Turned {
                    continue;
                }
            }
            Err(error) => {
                error!(%error, "this node does not vote");
                node.finality.note(|seen| seen.halted = Some(error.to_string()));
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Until this node may decide something; the recovery that opens the era it decides in, if that is not the tip's. What
/// others say meanwhile is not heard: it is said again.
async fn rest(node: &Arc<Node>, inbox: &mut mpsc::Receiver<v1::ConsensusMessage>) -> Option<Opened> {
    let mut changes = node.chain.watch();
    loop {
        match node.recovery.turn(&node.chain) {
            Turn::Goes => return None,
            Turn::Opens(opened) => return Some(opened),
            Turn::Rests(why) => node.finality.note(|seen| *seen = Seen { halted: Some(why), ..Seen::default() }),
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { std::future::pending().await },
            Some(_) = inbox.recv() => {}
        }
    }
}

/// Why a driver ended.
#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// The engine halted, or the node stops.
    Halted,
    /// It decides in another era now, or nothing.
    Turned,
}

struct Driver {
    node: Arc<Node>,
    era: u64,
    /// What opens the era, until its first block is here.
    opened: Option<Opened>,
    engine: Engine,
    wal: Wal,
    key: ValidatorId,
    began: Instant,
    /// When the tip was taken here.
    since: Time,
    tip: Height,
    ahead: Height,
    /// When the next height is due, unless something happens before.
    due: Option<Time>,
    wake: Option<Time>,
    /// The height the log is of.
    logged: Height,
    /// Frames of it that the log was opened with.
    replay: Vec<Bytes>,
    /// Kept before anything is sent.
    frames: Vec<Bytes>,
    safety: Option<Bytes>,
    /// Sent once the frames are kept.
    out: Vec<v1::ConsensusMessage>,
    blocks: Vec<v1::Block>,
    /// Proposals whose entries have not all arrived.
    checking: BTreeMap<Digest, v1::Proposed>,
    /// Whether some of them were not looked at in this turn.
    unchecked: bool,
    /// Decided, and not kept yet: the disk is full.
    unkept: Option<v1::Block>,
    halted: bool,
}

impl Driver {
    fn open(node: Arc<Node>, dir: &std::path::Path, opened: Option<Opened>) -> anyhow::Result<Self> {
        let era = opened.as_ref().map_or_else(|| node.chain.state().era(), |opened| opened.era);
        let deciding = opened.as_ref().map(|opened| opened.validators.clone());
        let deciding = deciding.unwrap_or_else(|| node.chain.state().validators().clone());
        let key = ValidatorId(node.keys.voting(&deciding).id().0);
        // What was signed with one key, or in one era, says nothing about another.
        let dir = dir.join(format!("{}-{era}", key.short()));
        let (wal, found) = Wal::open(Arc::new(OsDisk), &dir)?;
        let keys = node.keys.clone();
        let is_former = keys.validator.id().0 != key.0;
        let signer = Box::new(move |message: &[u8]| {
            let signing = keys.former.as_ref().filter(|_| is_former).unwrap_or(&keys.validator);
            Some(signing.sign(message))
        });
        let network = era_domain(&node.chain.state().genesis_id(), era);
        let engine = Engine::new(network, key, signer, found.safety.as_deref())?;
        let tip = node.chain.state().height();
        if let Some(at) = found.cut_at {
            info!(at, "the consensus log ends in something torn, which was not acknowledged");
        }
        if let Some(path) = &found.repaired {
            warn!(path = %path.display(), "a copy of what this validator signed last was damaged and is made anew");
        }
        let logged = found.height;
        let replay = if logged.0 == tip.0 + 1 { found.frames } else { Vec::new() };
        Ok(Self {
            node,
            era,
            opened,
            engine,
            wal,
            key,
            began: Instant::now(),
            since: Time(0),
            tip,
            ahead: Height(0),
            due: None,
            wake: None,
            logged,
            replay,
            frames: Vec::new(),
            safety: None,
            out: Vec::new(),
            blocks: Vec::new(),
            checking: BTreeMap::new(),
            unchecked: false,
            unkept: None,
            halted: false,
        })
    }

    /// Until the engine halts, another era begins, or the node stops.
    async fn drive(mut self, inbox: &mut mpsc::Receiver<v1::ConsensusMessage>) -> Ended {
        let mut changes = self.node.chain.watch();
        let resumes = !self.replay.is_empty(); // it may have voted: it goes on where it was
        let mut driver = blocking(move || {
            if resumes {
                self.start();
            }
            self.turn(Vec::new());
            self
        })
        .await;
        loop {
            let has_turned = driver.has_turned();
            if has_turned {
                driver.out.clear(); // signed while a recovery came in, which ends this era: as good as never
            }
            driver.publish().await;
            if driver.halted {
                return Ended::Halted;
            }
            if has_turned {
                return Ended::Turned;
            }
            let mut inputs = Vec::new();
            tokio::select! {
                message = inbox.recv() => match message {
                    Some(message) => inputs.push(Input::Message(message)),
                    None => return Ended::Halted,
                },
                changed = changes.changed() => if changed.is_err() { return Ended::Halted },
                () = driver.next_event() => inputs.push(Input::Tick),
            }
            while let Ok(message) = inbox.try_recv() {
                inputs.push(Input::Message(message));
            }
            if driver.has_turned() {
                return Ended::Turned; // before anything more is signed
            }
            driver = blocking(move || {
                driver.turn(inputs);
                driver
            })
            .await;
        }
    }

    /// Whether this node decides something else by now.
    fn has_turned(&self) -> bool {
        let keys = &self.node.keys;
        if keys.former.is_some() && keys.voting(&self.validators()).id().0 != self.key.0 {
            return true;
        }
        match self.node.recovery.turn(&self.node.chain) {
            Turn::Goes => self.node.chain.state().era() != self.era,
            Turn::Opens(opened) => opened.era != self.era,
            Turn::Rests(_) => true,
        }
    }

    /// Whether the block that opens the era is still to come.
    fn opening(&self) -> Option<&Opened> {
        self.opened.as_ref().filter(|opened| self.node.chain.state().era() < opened.era)
    }

    /// Who decides the next height.
    fn validators(&self) -> ValidatorSet {
        match self.opening() {
            Some(opened) => opened.validators.clone(),
            None => self.node.chain.state().validators().clone(),
        }
    }

    async fn next_event(&self) {
        let retry = self.unkept.as_ref().map(|_| Time(self.now().0 + KEEP_AGAIN.as_millis() as u64));
        match [self.wake, self.due, retry].into_iter().flatten().min() {
            Some(at) => tokio::time::sleep_until((self.began + Duration::from_millis(at.0)).into()).await,
            None => std::future::pending().await,
        }
    }

    fn now(&self) -> Time {
        Time(self.began.elapsed().as_millis() as u64)
    }

    /// One turn: what came, then what follows from it. Blocks on the disk.
    fn turn(&mut self, inputs: Vec<Input>) {
        let now = self.now();
        if self.wake.take_if(|at| *at <= now).is_some() {
            self.input(Input::Tick); // a message may have come first: the time has passed all the same
        }
        for input in inputs {
            self.input(input);
        }
        if let Some(block) = self.unkept.take() {
            self.keep(block);
        }
        self.follow_tip();
        self.unchecked = true; // entries may have arrived
        while std::mem::take(&mut self.unchecked) {
            for (value, content) in std::mem::take(&mut self.checking) {
                self.check(value, content);
            }
            self.pace();
        }
        self.flush();
        let (engine, finality) = (&self.engine, &self.node.finality);
        let forked = self.node.chain.fork().map(|_| FORKED.to_owned());
        finality.note(|seen| {
            (seen.height, seen.round, seen.voted) = (engine.height().0, engine.round(), engine.heard());
            seen.halted = engine.halted().map(Halt::to_string).or(forked);
        });
    }

    /// Others' blocks end a height too.
    fn follow_tip(&mut self) {
        let tip = self.node.chain.state().height();
        if tip != self.tip {
            (self.tip, self.since) = (tip, self.now());
            self.checking.clear();
        }
    }

    /// Begins the next height if it is due, and if this node votes.
    fn pace(&mut self) {
        self.due = None;
        if self.engine.height() > self.tip || self.unkept.is_some() || self.node.chain.fork().is_some() {
            return;
        }
        // Who lost its store knows neither the tip nor who votes.
        if self.validators().position(&self.key).is_none() || !self.node.chain.may_write() {
            return;
        }
        let open = self.opening().is_some() || self.node.chain.state().is_open();
        let parameters = self.node.chain.state().parameters();
        let pace = Pace { interval_ms: parameters.block_interval_ms, heartbeat_ms: parameters.heartbeat_ms };
        match pace.due(self.now(), self.since, self.tip, open, self.ahead) {
            Due::Now => self.start(),
            Due::At(at) => self.due = Some(at),
        }
    }

    fn start(&mut self) {
        let height = Height(self.tip.0 + 1);
        if self.logged != height {
            self.flush();
            self.frames.clear(); // heard at the height before, which is over
            if let Err(error) = self.wal.start(height) {
                return self.log_failed(&error);
            }
            self.logged = height;
        }
        let validators = self.validators();
        let frames = std::mem::take(&mut self.replay);
        self.input(Input::Start { height, validators, frames });
    }

    fn input(&mut self, input: Input) {
        let mut inputs = VecDeque::from([input]);
        while let Some(input) = inputs.pop_front() {
            let mut effects = VecDeque::new();
            if let Err(error) = self.engine.handle(self.now(), input, &mut effects) {
                debug!(%error, "a consensus message is none");
            }
            for effect in effects {
                self.perform(effect, &mut inputs);
            }
        }
    }

    fn perform(&mut self, effect: Effect, inputs: &mut VecDeque<Input>) {
        match effect {
            Effect::Append { frame, safety } => {
                self.frames.push(frame);
                self.safety = safety.or(self.safety.take());
            }
            Effect::Send(message) => self.out.push(message),
            Effect::Build { height, round } => match self.node.chain.propose(&self.key, now_ms(), self.opening()) {
                Ok(content) => inputs.push_back(Input::Built { height, round, content }),
                Err(error) => {
                    warn!(%error, "nothing can be proposed");
                    inputs.push_back(Input::Unbuilt { height, round });
                }
            },
            Effect::Check { value, content } => {
                self.checking.insert(value, content);
                self.unchecked = true;
            }
            Effect::Decided { certificate, content } => self.decided(certificate, &content),
            Effect::Ahead { height } => self.ahead = self.ahead.max(height),
            Effect::Accuse(guilt) => self.accuse(&guilt),
            Effect::Halted(halt) => {
                error!(%halt, "this node votes no more at this height");
                self.halted = true;
            }
            Effect::WakeAt(at) => self.wake = Some(at),
        }
    }

    fn check(&mut self, value: Digest, content: v1::Proposed) {
        let fit = match self.node.chain.check_proposal(&content, now_ms()) {
            Ok(Verdict::Valid) => Fit::Valid,
            Ok(Verdict::Waits) => return drop(self.checking.insert(value, content)),
            Ok(Verdict::Untimely(why)) => {
                warn!(why, "a proposed block is not voted for, unless a quorum does");
                Fit::Untimely
            }
            Ok(Verdict::Invalid(why)) => {
                warn!(why, "a proposed block is not voted for");
                Fit::Invalid
            }
            Err(error) => {
                warn!(%error, "a proposed block cannot be looked at now");
                return self.input(Input::Unchecked { value });
            }
        };
        self.input(Input::Checked { value, fit });
    }

    fn decided(&mut self, certificate: v1::Certificate, content: &v1::Proposed) {
        let (header, body) = (decode(&content.header).ok(), decode(&content.body).ok());
        self.keep(v1::Block { header, certificate: Some(certificate), body });
    }

    fn keep(&mut self, block: v1::Block) {
        match self.node.chain.receive_block(&block) {
            Ok(Received::New) => {
                self.blocks.push(block);
                self.follow_tip();
            }
            Ok(Received::Known) => {} // a peer was faster
            Ok(other) => error!(?other, "a decided block is not taken"),
            Err(error) => {
                warn!(%error, "a decided block cannot be kept yet");
                self.unkept = Some(block);
            }
        }
    }

    fn accuse(&mut self, guilt: &Guilt) {
        let network = self.node.chain.state().genesis_id();
        match double_vote(&network, self.era, &guilt.first, &guilt.second) {
            Ok(evidence) => reconcile::accuse(&self.node, evidence),
            Err(error) => error!(%error, "what the engine found is no evidence"),
        }
    }

    /// Keeps what must be kept; what cannot be is not followed by what should be sent after it.
    fn flush(&mut self) {
        let (frames, safety) = (std::mem::take(&mut self.frames), self.safety.take());
        // What was only heard is kept when the next thing is sent: until then nothing depends on it.
        if self.out.is_empty() && safety.is_none() {
            self.frames = frames;
            return;
        }
        let frames: Vec<&[u8]> = frames.iter().map(|frame| &frame[..]).collect();
        if let Err(error) = self.wal.append(&frames, safety.as_deref()) {
            self.log_failed(&error);
        }
    }

    fn log_failed(&mut self, error: &WalError) {
        warn!(%error, "the consensus log takes nothing");
        self.out.clear();
        self.input(Input::AppendFailed);
        self.halted = true;
    }

    /// Sends what is due. Blocks on the network's queue only.
    async fn publish(&mut self) {
        for block in std::mem::take(&mut self.blocks) {
            self.node.publish(Topic::Headers, encode(&signed_header(&block))).await;
        }
        let mut unsent = Vec::new();
        for message in std::mem::take(&mut self.out) {
            if let Err(error) = self.node.net.publish(Topic::Consensus, encode(&message).into()).await {
                debug!(%error, "a consensus message was not sent");
                unsent.push(Input::Unsent(message));
            }
        }
        unsent.into_iter().for_each(|input| self.input(input));
    }
}

#[cfg(test)]
mod tests;
