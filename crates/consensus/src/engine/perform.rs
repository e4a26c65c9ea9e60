//! What the rounds ask for, one call for each.

use std::collections::VecDeque;
use std::mem;

use bithealth_ledger::{ValidatorSet, certificate, proposal_message};
use bithealth_proto::v1;
use bithealth_types::{GenesisId, Height, Time};
use malachite::{Resumable, Resume};
use malachite_types::{CommitCertificate, NilOrVal, SignedMessage, Timeout, VoteType};

use super::verify::Judge;
use super::{Again, Effect, Halt, RETRY_MS, Shared, UNSENT_MAX};
use crate::context::{Ballot, Ctx, Offer, TIMEOUTS};
use crate::frame;
use crate::message;
use crate::safety::Step;

/// Sent before, so that gossip would drop it.
pub(super) fn repeated(now: Time, message: v1::ConsensusMessage) -> v1::ConsensusMessage {
    v1::ConsensusMessage { repeat: now.0, ..message }
}

impl Shared {
    /// A height begins: nothing of the one before counts any more.
    pub(super) fn begin(&mut self, height: Height, validators: ValidatorSet) {
        self.height = height.0;
        self.validators = validators;
        self.contents.clear();
        self.timers.clear();
        self.accused.clear();
        self.unsent.clear();
        self.unsent_at = None;
        self.again.clear();
        self.halted = None;
    }

    pub(super) fn ask_again(&mut self, now: Time, what: Again) {
        self.again.push((Time(now.0 + RETRY_MS), what));
    }

    pub(super) fn due_again(&mut self, now: Time) -> Vec<Again> {
        let (due, later) = mem::take(&mut self.again).into_iter().partition(|(at, _)| *at <= now);
        self.again = later;
        let due: Vec<(Time, Again)> = due;
        due.into_iter().map(|(_, what)| what).collect()
    }

    pub(super) fn halt(&mut self, halt: Halt, out: &mut VecDeque<Effect>) {
        if self.halted.is_none() {
            self.timers.clear();
            self.halted = Some(halt.clone());
            out.push_back(Effect::Halted(halt));
        }
    }

    pub(super) fn keep_unsent(&mut self, now: Time, message: v1::ConsensusMessage) {
        self.unsent.push_back(message);
        if self.unsent.len() > UNSENT_MAX {
            self.unsent.pop_front();
        }
        self.unsent_at.get_or_insert(Time(now.0 + RETRY_MS));
    }

    /// Performs one effect of the rounds; the error stops them.
    #[expect(clippy::unit_arg)] // "do this, and go on" in one line each
    pub(super) fn perform(
        &mut self,
        now: Time,
        effect: malachite::Effect<Ctx>,
        out: &mut VecDeque<Effect>,
    ) -> Result<Resume<Ctx>, Halt> {
        use malachite::Effect as Asked;
        if self.halted.is_some() {
            out.retain(|effect| !matches!(effect, Effect::Send(_))); // nothing that was not kept goes out
        }
        Ok(match effect {
            Asked::CancelAllTimeouts(r) => r.resume_with(self.timers.clear()),
            Asked::CancelTimeout(timeout, r) => r.resume_with(self.timers.retain(|(_, it)| *it != timeout)),
            Asked::ScheduleTimeout(timeout, r) => r.resume_with(self.schedule(now, timeout)),
            Asked::StartRound(_, _, _, _, r) => r.resume_with(()),
            Asked::PublishConsensusMsg(message, r) => {
                let content = |value: &_| self.contents.get(value).map(|content| content.proposed.clone());
                self.send(message::published(&message, content), out);
                r.resume_with(())
            }
            Asked::PublishLivenessMsg(message, r) => r.resume_with(self.send(message::liveness(&message), out)),
            Asked::RepublishVote(vote, r) => r.resume_with(self.send(repeated(now, message::vote_message(&vote)), out)),
            Asked::RepublishRoundCertificate(certificate, r) => {
                r.resume_with(self.send(repeated(now, message::round_message(&certificate)), out))
            }
            Asked::GetValue(height, round, _, r) => {
                out.push_back(Effect::Build { height: Height(height.0), round: message::number(round) });
                r.resume_with(())
            }
            // The proposal that is published next carries its content.
            Asked::RestreamProposal(_, _, _, _, _, r) => r.resume_with(()),
            Asked::Decide(certificate, _, r) => r.resume_with(self.decide(&certificate, out)),
            Asked::Finalize(_, _, _, r) => r.resume_with(()),
            Asked::SignVote(vote, r) => r.resume_with(SignedMessage::new(vote, self.sign_vote(&vote, out)?)),
            Asked::SignProposal(offer, r) => r.resume_with(SignedMessage::new(offer, self.sign_offer(&offer, out)?)),
            Asked::VerifySignature(message, _, r) => r.resume_with(self.judge().signed(&message)),
            // Made here, of votes that were verified when they came.
            Asked::VerifyCommitCertificate(_, _, _, r) => r.resume_with(Ok(())),
            Asked::VerifyPolkaCertificate(polka, _, _, r) => r.resume_with(self.judge().verify_polka(&polka)),
            Asked::VerifyRoundCertificate(certificate, _, _, r) => {
                r.resume_with(self.judge().verify_round(&certificate))
            }
            Asked::WalAppend(_, input, r) => r.resume_with(self.append(&input, out)),
            // Blocks of others come through the ledger, and votes carry no extensions.
            Asked::CertVerifiedSyncValue(_, _, r) => r.resume_with(()),
            Asked::CertRejectedSyncValue(_, _, _, r) => r.resume_with(()),
            Asked::VerifyExtendedCommitCertificate(_, _, _, _, r) => r.resume_with(Ok(())),
            Asked::ExtendVote(_, _, _, _, r) => r.resume_with(None),
            Asked::VerifyVoteExtension(_, _, _, _, _, _, r) => r.resume_with(Ok(())),
        })
    }

    fn send(&mut self, message: v1::ConsensusMessage, out: &mut VecDeque<Effect>) {
        if self.halted.is_none() {
            out.push_back(Effect::Send(message));
        }
    }

    fn schedule(&mut self, now: Time, timeout: Timeout) {
        let wait = TIMEOUTS.duration_for(timeout).as_millis() as u64;
        self.timers.push((Time(now.0 + wait), timeout));
    }

    fn append(&mut self, input: &malachite::Input<Ctx>, out: &mut VecDeque<Effect>) {
        let content = |value: &_| self.contents.get(value).map(|content| content.proposed.clone());
        let Some(frame) = frame::write(input, content) else { return };
        if self.replayed.contains(&frame) {
            return;
        }
        let own = matches!(input, malachite::Input::Vote(vote) if vote.message.who.0 == self.key)
            || matches!(input, malachite::Input::Proposal(offer) if offer.message.who.0 == self.key);
        out.push_back(Effect::Append { frame, safety: own.then(|| self.safety.encode()) });
    }

    fn decide(&mut self, decided: &CommitCertificate<Ctx>, out: &mut VecDeque<Effect>) {
        let votes: Vec<_> = decided.commit_signatures.iter().map(|vote| (vote.address.0, vote.signature)).collect();
        let round = message::number(decided.round);
        let certificate = certificate(&decided.value_id.0, round, &self.validators, &votes);
        self.timers.clear();
        match self.contents.get(&decided.value_id) {
            Some(content) => out.push_back(Effect::Decided { certificate, content: content.proposed.clone() }),
            // Let go to make room for later ones: the others have it, and it comes as a block of the height before theirs.
            None => out.push_back(Effect::Ahead { height: Height(self.height + 1) }),
        }
    }

    fn sign_vote(&mut self, vote: &Ballot, out: &mut VecDeque<Effect>) -> Result<[u8; 64], Halt> {
        let step = if vote.kind == VoteType::Prevote { Step::Prevote } else { Step::Precommit };
        let round = message::number(vote.round);
        self.sign(round, step, &vote_message(&self.network, vote), out)
    }

    fn sign_offer(&mut self, offer: &Offer, out: &mut VecDeque<Effect>) -> Result<[u8; 64], Halt> {
        self.sign(message::number(offer.round), Step::Proposal, &offer_message(&self.network, offer), out)
    }

    fn sign(&mut self, round: u32, step: Step, message: &[u8], out: &mut VecDeque<Effect>) -> Result<[u8; 64], Halt> {
        let signed = self.safety.note(self.height, round, step, message).map_err(Halt::Twice);
        let signed = signed.and_then(|()| (self.signer)(message).ok_or(Halt::Signer));
        signed.inspect_err(|halt| self.halt(halt.clone(), out))
    }

    pub(super) fn judge(&self) -> Judge<'_> {
        Judge { network: &self.network, validators: &self.validators }
    }
}

pub(super) fn vote_message(network: &GenesisId, vote: &Ballot) -> Vec<u8> {
    let value = match &vote.value {
        NilOrVal::Nil => None,
        NilOrVal::Val(value) => Some(&value.0),
    };
    let (height, round) = (Height(vote.height.0), message::number(vote.round));
    bithealth_ledger::vote_message(network, height, round, message::vote_kind(vote.kind), value)
}

pub(super) fn offer_message(network: &GenesisId, offer: &Offer) -> Vec<u8> {
    let (height, round) = (Height(offer.height.0), message::number(offer.round));
    proposal_message(network, height, round, offer.polka_round.as_u32(), &offer.value.0)
}
