//! Decides one height after the other with the other validators.
//!
//! The rounds are Tendermint's, from a library that knows no network, disk or clock. What stands around it here: our
//! messages, the frames of the write-ahead log, the check that nothing is signed twice, timers, and the contents that
//! the digests voted on stand for.

mod contents;
mod perform;
mod verify;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::mem;

use bithealth_ledger::ValidatorSet;
use bithealth_proto::v1;
use bithealth_types::{Digest, GenesisId, Height, Time, ValidatorId};
use bytes::Bytes;
use malachite::{LocallyProposedValue, Params, ProposedValue, State, ThresholdParams, ValuePayload};
use malachite_types::{Round, SignedProposal, ThresholdParam, Timeout, Validity, ValueOrigin, VoteExtensionPolicy};

use crate::context::{At, Ctx, Header, Voters, Who};
use crate::frame::{self, FrameError};
use crate::message::{self, Heard, MessageError};
use crate::safety::{Safety, WouldSignTwice};
use contents::Contents;

pub use verify::{Vouched, vouch};

/// A quorum is more than 0.666 of the votes: for up to 499 validators exactly ceil((n + f + 1) / 2).
pub(crate) const QUORUM: ThresholdParam = ThresholdParam::new(333, 500);
/// More than 0.333 of the votes: for up to 333 validators exactly f + 1.
pub(crate) const HONEST: ThresholdParam = ThresholdParam::new(333, 1000);

/// Rounds ahead of ours whose proposals are looked at: as many as the rounds themselves take in.
const ROUNDS_AHEAD_MAX: i64 = 10;
/// Messages kept for the next height, for each validator: a few rounds' votes.
pub(crate) const LATER_MAX: usize = 8;
/// Messages that could not be sent and are tried again.
pub(crate) const UNSENT_MAX: usize = 64;
/// When what failed is tried again: a message that could not be sent, a block that could not be made or looked at.
const RETRY_MS: u64 = 500;

/// What the shell tells the engine.
#[derive(Debug)]
pub enum Input {
    /// Decide this height. `frames` is what the write-ahead log holds of it, if this machine was deciding it before.
    Start {
        /// The height after the tip.
        height: Height,
        /// Who decides it.
        validators: ValidatorSet,
        /// From the log, in order.
        frames: Vec<Bytes>,
    },
    /// Another validator says something.
    Message(v1::ConsensusMessage),
    /// Answers [`Effect::Build`].
    Built {
        /// The height it is for.
        height: Height,
        /// The round it is for.
        round: u32,
        /// What to propose.
        content: v1::Proposed,
    },
    /// Answers [`Effect::Check`].
    Checked {
        /// The digest of the header.
        value: Digest,
        /// Whether it may be decided.
        fit: Fit,
    },
    /// [`Effect::Build`] failed.
    Unbuilt {
        /// The height it was for.
        height: Height,
        /// The round it was for.
        round: u32,
    },
    /// [`Effect::Check`] failed: the disk, not the proposal, is to blame.
    Unchecked {
        /// The digest of the header.
        value: Digest,
    },
    /// [`Effect::Append`] failed, and no effect after it was performed.
    AppendFailed,
    /// [`Effect::Send`] failed.
    Unsent(v1::ConsensusMessage),
    /// Answers [`Effect::WakeAt`].
    Tick,
}

/// What the shell says of a proposal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// It may be decided.
    Valid,
    /// All is right but its time, by the clock here. It may be decided once a quorum voted for it: whoever votes goes by a
    /// clock of its own, and a value that some are locked on must not grow too old for the others.
    Untimely,
    /// It may not be decided.
    Invalid,
}

/// What the engine asks of the shell, in this order. What is appended must be durable before anything after it is
/// sent; appends with nothing sent in between may share one sync.
#[derive(Debug, PartialEq)]
pub enum Effect {
    /// Keep this in the write-ahead log.
    Append {
        /// What was taken in or signed.
        frame: Bytes,
        /// What was signed last, where that changed: kept in two copies.
        safety: Option<Bytes>,
    },
    /// Tell all validators.
    Send(v1::ConsensusMessage),
    /// Make something to propose.
    Build {
        /// For this height.
        height: Height,
        /// For this round.
        round: u32,
    },
    /// May this be decided? No answer within the round means no vote for it.
    Check {
        /// The digest of its header.
        value: Digest,
        /// What was proposed.
        content: v1::Proposed,
    },
    /// This is final. Keep it, then start the next height.
    Decided {
        /// The votes that make it so.
        certificate: v1::Certificate,
        /// What is final.
        content: v1::Proposed,
    },
    /// Others decide a height above: catch up, or start it.
    Ahead {
        /// Their height.
        height: Height,
    },
    /// A validator voted twice; both votes prove it.
    Accuse(Box<Guilt>),
    /// Nothing more is signed or sent at this height.
    Halted(Halt),
    /// Call [`Input::Tick`] then.
    WakeAt(Time),
}

/// Two votes of one validator that exclude each other: a proof that needs nothing else.
#[derive(Clone, Debug, PartialEq)]
pub struct Guilt {
    /// Who.
    pub validator: ValidatorId,
    /// One vote.
    pub first: v1::ConsensusVote,
    /// The other.
    pub second: v1::ConsensusVote,
}

/// Why the engine stands still until it is started again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Halt {
    /// The log takes nothing.
    #[error("the write-ahead log takes nothing")]
    Append,
    /// The key does not sign.
    #[error("the validator's key does not sign")]
    Signer,
    /// It would sign twice.
    #[error(transparent)]
    Twice(#[from] WouldSignTwice),
    /// The rounds' own rules are broken: a fault of the program.
    #[error("the rounds cannot go on: {0}")]
    Rounds(String),
}

/// Why the engine does not take a message; its sender is to blame.
pub type Refused = MessageError;

/// Signs with the validator's key; `None` where that fails.
pub type Signer = Box<dyn Fn(&[u8]) -> Option<[u8; 64]> + Send + Sync>;

/// What is asked of the shell once more.
enum Again {
    Build(Height, u32),
    Check(Header),
}

/// One validator's part in deciding.
pub struct Engine {
    core: Option<State<Ctx>>,
    shared: Shared,
    later: VecDeque<Heard>,
    told_wake: Option<Time>,
}

/// What the engine's own effects touch, apart from the rounds' state.
struct Shared {
    network: GenesisId,
    key: ValidatorId,
    signer: Signer,
    safety: Safety,
    height: u64,
    validators: ValidatorSet,
    contents: Contents,
    timers: Vec<(Time, Timeout)>,
    /// Frames that are being taken in again: they are in the log.
    replayed: BTreeSet<Bytes>,
    accused: BTreeMap<Who, usize>,
    unsent: VecDeque<v1::ConsensusMessage>,
    unsent_at: Option<Time>,
    again: Vec<(Time, Again)>,
    halted: Option<Halt>,
}

impl Engine {
    /// An engine for the validator with this key; `safety` is what the log keeps of what it signed last.
    ///
    /// # Errors
    /// [`bithealth_proto::DecodeError`] if `safety` is not what an engine wrote.
    pub fn new(
        network: GenesisId,
        key: ValidatorId,
        signer: Signer,
        safety: Option<&[u8]>,
    ) -> Result<Self, bithealth_proto::DecodeError> {
        let shared = Shared {
            network,
            key,
            signer,
            safety: safety.map_or(Ok(Safety::default()), Safety::decode)?,
            height: 0,
            validators: ValidatorSet::default(),
            contents: Contents::default(),
            timers: Vec::new(),
            replayed: BTreeSet::new(),
            accused: BTreeMap::new(),
            unsent: VecDeque::new(),
            unsent_at: None,
            again: Vec::new(),
            halted: None,
        };
        Ok(Self { core: None, shared, later: VecDeque::new(), told_wake: None })
    }

    /// The height that is or was decided last.
    pub fn height(&self) -> Height {
        Height(self.shared.height)
    }

    /// The round it is in.
    pub fn round(&self) -> u32 {
        self.core.as_ref().map_or(0, |core| message::number(core.round()))
    }

    /// Why it stands still.
    pub fn halted(&self) -> Option<&Halt> {
        self.shared.halted.as_ref()
    }

    /// Whether the height is decided.
    pub fn is_decided(&self) -> bool {
        self.core.as_ref().is_some_and(|core| core.driver.step_is_commit())
    }

    /// The validators whose votes came in this round.
    pub fn heard(&self) -> Vec<ValidatorId> {
        let Some(core) = &self.core else { return Vec::new() };
        let votes = core.driver.votes().per_round(core.round());
        votes.map_or(Vec::new(), |votes| votes.addresses_weights().get_inner().keys().map(|who| who.0).collect())
    }

    /// Takes one input at `now`; appends to `out` what the shell must do, in order. Never blocks.
    ///
    /// # Errors
    /// [`Refused`] if a message is none; nothing else fails.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut VecDeque<Effect>) -> Result<(), Refused> {
        match input {
            Input::Start { height, validators, frames } => self.start(now, height, validators, frames, out),
            Input::Message(message) => {
                let heard = message::read(message)?;
                self.hear(now, heard, out);
            }
            Input::Built { height, round, content } => self.built(now, height, round, content, out),
            Input::Checked { value, fit } => self.checked(now, Header(value), fit, out),
            Input::Unbuilt { height, round } => self.shared.ask_again(now, Again::Build(height, round)),
            Input::Unchecked { value } => self.shared.ask_again(now, Again::Check(Header(value))),
            Input::AppendFailed => self.shared.halt(Halt::Append, out),
            Input::Unsent(message) => self.shared.keep_unsent(now, message),
            Input::Tick => self.tick(now, out),
        }
        self.take_what_a_quorum_found_timely(now, out);
        self.accuse(out);
        self.tell_wake(now, out);
        Ok(())
    }

    fn start(
        &mut self,
        now: Time,
        height: Height,
        validators: ValidatorSet,
        frames: Vec<Bytes>,
        out: &mut VecDeque<Effect>,
    ) {
        let voters = Voters::new(&validators);
        self.shared.begin(height, validators);
        let (inputs, contents) = match read_frames(&frames) {
            Ok(read) => read,
            Err(error) => {
                return self.shared.halt(Halt::Rounds(format!("the write-ahead log is damaged: {error}")), out);
            }
        };
        for (value, round, proposed, fit) in contents {
            self.shared.contents.keep(value, round, proposed, Some(fit), |_| true); // it was let in before
        }
        self.shared.replayed = frames.into_iter().collect();
        let key = Who(self.shared.key);
        let core = self.core.get_or_insert_with(|| {
            let threshold_params = ThresholdParams { quorum: QUORUM, honest: HONEST };
            let value_payload = ValuePayload::ProposalAndParts;
            let params = Params { address: key, threshold_params, value_payload, enabled: true };
            State::new(Ctx, At(height.0), voters.clone(), params, 1, 1)
        });
        core.index_wal_entries(&inputs);
        let start = malachite::Input::StartHeight(At(height.0), voters, false, None, VoteExtensionPolicy::Disabled);
        self.run(now, start, out);
        for input in inputs {
            self.run(now, input, out);
        }
        if let Some(core) = &mut self.core {
            core.reset_entries_index();
        }
        self.shared.replayed.clear();
        for heard in mem::take(&mut self.later) {
            if heard.height() == height.0 {
                self.take(now, heard, out);
            }
        }
    }

    fn hear(&mut self, now: Time, heard: Heard, out: &mut VecDeque<Effect>) {
        let (height, current) = (heard.height(), self.shared.height);
        let waiting = self.core.is_none() || self.is_decided();
        if height == current && self.core.is_some() {
            self.take(now, heard, out);
        } else if height > current {
            if height == current + 1 || waiting && self.core.is_none() {
                self.later.push_back(heard);
                if self.later.len() > LATER_MAX * self.shared.validators.count().max(4) {
                    self.later.pop_front();
                }
            }
            out.push_back(Effect::Ahead { height: Height(height) });
        }
    }

    /// A message for this height.
    fn take(&mut self, now: Time, heard: Heard, out: &mut VecDeque<Effect>) {
        match heard {
            Heard::Vote(vote) => self.run(now, malachite::Input::Vote(vote), out),
            Heard::Polka(polka) => self.run(now, malachite::Input::PolkaCertificate(polka), out),
            Heard::Round(certificate) => self.run(now, malachite::Input::RoundCertificate(certificate), out),
            Heard::Proposal(proposal, content) => self.take_proposal(now, proposal, content, out),
        }
    }

    /// What the proposer of a round did not sign is not even looked at.
    fn take_proposal(
        &mut self,
        now: Time,
        proposal: SignedProposal<Ctx>,
        content: v1::Proposed,
        out: &mut VecDeque<Effect>,
    ) {
        let Some(core) = &self.core else { return };
        let offer = proposal.message;
        let due = *core.get_proposer(offer.height, offer.round);
        if offer.who != due || offer.who.0 == self.shared.key || !self.shared.judge().signed_proposal(&proposal) {
            return;
        }
        self.run(now, malachite::Input::Proposal(proposal), out);
        let Some(core) = &self.core else { return };
        if offer.round.as_i64() > core.round().as_i64() + ROUNDS_AHEAD_MAX {
            return;
        }
        let known = self.shared.contents.get(&offer.value).and_then(|content| content.fit);
        let fit = known.filter(|fit| *fit == Fit::Valid);
        let (round, needed) = (message::number(offer.round), |value: &Header| has_polka(core, value));
        if !self.shared.contents.keep(offer.value, round, content.clone(), fit, needed) {
            return;
        }
        match fit {
            Some(_) => self.tell_value(now, offer.value, offer.round, offer.polka_round, Validity::Valid, out),
            None => out.push_back(Effect::Check { value: offer.value.0, content }),
        }
    }

    fn checked(&mut self, now: Time, value: Header, fit: Fit, out: &mut VecDeque<Effect>) {
        let Some(core) = &self.core else { return };
        let (round, is_needed) = (core.round(), has_polka(core, &value));
        let Some(content) = self.shared.contents.get_mut(&value) else { return };
        if content.fit == Some(Fit::Valid) {
            return;
        }
        let fit = if fit == Fit::Untimely && is_needed { Fit::Valid } else { fit };
        content.fit = Some(fit);
        self.tell_value(now, value, round, Round::Nil, Validity::from_bool(fit == Fit::Valid), out);
    }

    /// What was only untimely here may be decided once a quorum voted for it.
    fn take_what_a_quorum_found_timely(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let Some(core) = &self.core else { return };
        let timely: Vec<Header> =
            self.shared.contents.of(Fit::Untimely).filter(|value| has_polka(core, value)).collect();
        for value in timely {
            self.checked(now, value, Fit::Valid, out);
        }
    }

    fn tell_value(
        &mut self,
        now: Time,
        value: Header,
        round: Round,
        valid_round: Round,
        validity: Validity,
        out: &mut VecDeque<Effect>,
    ) {
        let Some(core) = &self.core else { return };
        let height = core.height();
        let proposer = *core.get_proposer(height, round);
        let proposed = ProposedValue { height, round, valid_round, proposer, value, validity };
        self.run(now, malachite::Input::ProposedValue(proposed, ValueOrigin::Consensus), out);
    }

    fn built(&mut self, now: Time, height: Height, round: u32, content: v1::Proposed, out: &mut VecDeque<Effect>) {
        let Some(core) = self.core.as_ref().filter(|_| height.0 == self.shared.height) else { return };
        let value = message::header_of(&content);
        self.shared.contents.keep(value, round, content, Some(Fit::Valid), |other| has_polka(core, other));
        let local = LocallyProposedValue { height: At(height.0), round: Round::new(round), value };
        self.run(now, malachite::Input::Propose(local), out);
    }

    fn tick(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        if self.shared.unsent_at.is_some_and(|at| at <= now) {
            self.shared.unsent_at = None;
            out.extend(self.shared.unsent.drain(..).map(|message| Effect::Send(perform::repeated(now, message))));
        }
        for asked in self.shared.due_again(now) {
            match asked {
                Again::Build(height, round) if self.round() == round && !self.is_decided() => {
                    out.push_back(Effect::Build { height, round });
                }
                Again::Build(..) => {} // another round has come
                Again::Check(value) => {
                    let content = self.shared.contents.get(&value).filter(|content| content.fit.is_none());
                    let asked = content.map(|content| content.proposed.clone());
                    out.extend(asked.map(|content| Effect::Check { value: value.0, content }));
                }
            }
        }
        while let Some(at) = self.shared.timers.iter().position(|(due, _)| *due <= now) {
            let (_, timeout) = self.shared.timers.remove(at);
            self.run(now, malachite::Input::TimeoutElapsed(timeout), out);
        }
    }

    /// One input through the rounds.
    fn run(&mut self, now: Time, input: malachite::Input<Ctx>, out: &mut VecDeque<Effect>) {
        let Some(core) = &mut self.core else { return };
        let shared = &mut self.shared;
        if shared.halted.is_some() {
            return;
        }
        let result: Result<(), malachite::Error<Ctx>> = malachite::process!(
            input: input,
            state: core,
            metrics: &(),
            with: effect => shared.perform(now, effect, out)
        );
        if let Err(error) = result {
            shared.halt(Halt::Rounds(error.to_string()), out);
        }
    }

    /// Tells of votes that exclude each other as soon as both are here.
    fn accuse(&mut self, out: &mut VecDeque<Effect>) {
        let Some(core) = &self.core else { return };
        for (who, pairs) in core.driver.votes().evidence().iter() {
            let told = self.shared.accused.entry(*who).or_default();
            for (first, second) in pairs.iter().skip(*told) {
                let (first, second) = (message::write_vote(first), message::write_vote(second));
                out.push_back(Effect::Accuse(Box::new(Guilt { validator: who.0, first, second })));
            }
            *told = pairs.len().max(*told);
        }
    }

    /// What is overdue is asked for again: a shell that was busy with messages may have passed the time over.
    fn tell_wake(&mut self, now: Time, out: &mut VecDeque<Effect>) {
        let timers = self.shared.timers.iter().map(|(due, _)| *due);
        let again = self.shared.again.iter().map(|(due, _)| *due);
        let next = timers.chain(again).chain(self.shared.unsent_at).min();
        if next != self.told_wake || next.is_some_and(|at| at <= now) {
            self.told_wake = next;
            out.extend(next.map(Effect::WakeAt));
        }
    }
}

/// Whether a quorum voted for it in some round of this height.
fn has_polka(core: &State<Ctx>, value: &Header) -> bool {
    core.driver.polka_certificates().iter().any(|polka| polka.value_id == *value)
}

type Read = (Vec<malachite::Input<Ctx>>, Vec<(Header, u32, v1::Proposed, Fit)>);

fn read_frames(frames: &[Bytes]) -> Result<Read, FrameError> {
    let (mut inputs, mut contents) = (Vec::new(), Vec::new());
    for bytes in frames {
        let (input, content) = frame::read(bytes)?;
        if let (malachite::Input::ProposedValue(value, _), Some((header, proposed))) = (&input, content) {
            let fit = if value.validity == Validity::Valid { Fit::Valid } else { Fit::Invalid };
            contents.push((header, message::number(value.round), proposed, fit));
        }
        inputs.push(input);
    }
    Ok((inputs, contents))
}
