//! Whether votes, proposals and the certificates that travel between validators are signed by whom they name.

use std::collections::BTreeSet;

use bithealth_ledger::{ValidatorSet, signed_by_validator};
use bithealth_proto::v1;
use bithealth_types::{GenesisId, Height};
use malachite::ConsensusMsg;
use malachite_types::{
    CertificateError, NilOrVal, PolkaCertificate, RoundCertificate, RoundCertificateType, SignedMessage,
    SignedProposal, VoteType,
};

use super::perform::{offer_message, vote_message};
use super::{HONEST, QUORUM};
use crate::context::{Ballot, Ctx, Who};
use crate::message::{self, Heard, MessageError};

/// What a message is worth to whoever passes it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouched {
    /// Validators of the height signed it.
    Signed,
    /// It is of an earlier height, or of a later one whose validators may be others: nothing can be said of it.
    Other,
}

/// Whether a message is one, and signed by whom it names, where `validators` decide `height` next.
///
/// # Errors
/// [`MessageError`]: whoever sent it made it up, or passed it on without looking.
pub fn vouch(
    network: &GenesisId,
    validators: &ValidatorSet,
    height: Height,
    message: v1::ConsensusMessage,
) -> Result<Vouched, MessageError> {
    let heard = message::read(message)?;
    if heard.height() < height.0 {
        return Ok(Vouched::Other);
    }
    let judge = Judge { network, validators };
    let of = |who: &Who, is_signed: bool| match is_signed && validators.position(&who.0).is_some() {
        true => Ok(()),
        false => Err(MessageError::Signature { validator: who.0 }),
    };
    let is_later = heard.height() > height.0;
    let signed = match &heard {
        Heard::Vote(vote) => of(&vote.message.who, judge.signed_vote(&vote.message, &vote.signature)),
        Heard::Proposal(proposal, _) => of(&proposal.message.who, judge.signed_proposal(proposal)),
        Heard::Polka(polka) => judge.verify_polka(polka).map_err(|_| MessageError::Certificate),
        Heard::Round(certificate) => judge.verify_round(certificate).map_err(|_| MessageError::Certificate),
    };
    match signed {
        Ok(()) => Ok(Vouched::Signed),
        Err(_) if is_later => Ok(Vouched::Other),
        Err(error) => Err(error),
    }
}

/// Says who signed what.
pub(super) struct Judge<'a> {
    pub(super) network: &'a GenesisId,
    pub(super) validators: &'a ValidatorSet,
}

#[expect(clippy::result_large_err)] // the library's error, which lives for a moment
impl Judge<'_> {
    pub(super) fn signed(&self, message: &SignedMessage<Ctx, ConsensusMsg<Ctx>>) -> bool {
        match &message.message {
            ConsensusMsg::Vote(vote) => self.signed_vote(vote, &message.signature),
            ConsensusMsg::Proposal(offer) => {
                signed_by_validator(&offer.who.0, &offer_message(self.network, offer), &message.signature)
            }
        }
    }

    pub(super) fn signed_proposal(&self, proposal: &SignedProposal<Ctx>) -> bool {
        let offer = &proposal.message;
        signed_by_validator(&offer.who.0, &offer_message(self.network, offer), &proposal.signature)
    }

    fn signed_vote(&self, vote: &Ballot, signature: &[u8; 64]) -> bool {
        signed_by_validator(&vote.who.0, &vote_message(self.network, vote), signature)
    }

    pub(super) fn verify_polka(&self, polka: &PolkaCertificate<Ctx>) -> Result<(), CertificateError<Ctx>> {
        let value = NilOrVal::Val(polka.value_id);
        let votes = polka.polka_signatures.iter().map(|it| {
            let vote =
                Ballot { height: polka.height, round: polka.round, kind: VoteType::Prevote, value, who: it.address };
            (vote, it.signature)
        });
        self.verify_votes(votes, QUORUM.min_expected(self.validators.count() as u64))
    }

    pub(super) fn verify_round(&self, certificate: &RoundCertificate<Ctx>) -> Result<(), CertificateError<Ctx>> {
        let precommits = certificate.cert_type == RoundCertificateType::Precommit;
        let prevote = |it: &&malachite_types::RoundSignature<Ctx>| it.vote_type == VoteType::Prevote;
        if let Some(prevote) = certificate.round_signatures.iter().find(prevote).filter(|_| precommits) {
            return Err(CertificateError::InvalidVoteType(prevote.address));
        }
        let votes = certificate.round_signatures.iter().map(|it| {
            let (height, round, who) = (certificate.height, certificate.round, it.address);
            (Ballot { height, round, kind: it.vote_type, value: it.value_id, who }, it.signature)
        });
        let threshold = if precommits { QUORUM } else { HONEST };
        self.verify_votes(votes, threshold.min_expected(self.validators.count() as u64))
    }

    /// One vote from each, all signed, enough of them.
    fn verify_votes(
        &self,
        votes: impl Iterator<Item = (Ballot, [u8; 64])>,
        expected: u64,
    ) -> Result<(), CertificateError<Ctx>> {
        let mut seen: BTreeSet<Who> = BTreeSet::new();
        for (vote, signature) in votes {
            if self.validators.position(&vote.who.0).is_none() {
                return Err(CertificateError::UnknownValidator(vote.who));
            }
            if !seen.insert(vote.who) {
                return Err(CertificateError::DuplicateVote(vote.who));
            }
            if !self.signed_vote(&vote, &signature) {
                return Err(CertificateError::VerificationError(None));
            }
        }
        let (signed, total) = (seen.len() as u64, self.validators.count() as u64);
        if signed < expected {
            return Err(CertificateError::NotEnoughVotingPower { signed, total, expected });
        }
        Ok(())
    }
}
