//! Whether votes, proposals and the certificates that travel between validators are signed by whom they name.

use std::collections::BTreeSet;

use bithealth_ledger::signed_by_validator;
use malachite::ConsensusMsg;
use malachite_types::{
    CertificateError, NilOrVal, PolkaCertificate, RoundCertificate, RoundCertificateType, SignedMessage,
    SignedProposal, VoteType,
};

use super::{HONEST, QUORUM, Shared};
use crate::context::{Ballot, Ctx, Who};

#[expect(clippy::result_large_err)] // the library's error, which lives for a moment
impl Shared {
    pub(super) fn signed(&self, message: &SignedMessage<Ctx, ConsensusMsg<Ctx>>) -> bool {
        match &message.message {
            ConsensusMsg::Vote(vote) => self.signed_vote(vote, &message.signature),
            ConsensusMsg::Proposal(offer) => {
                signed_by_validator(&offer.who.0, &self.offer_message(offer), &message.signature)
            }
        }
    }

    pub(super) fn signed_proposal(&self, proposal: &SignedProposal<Ctx>) -> bool {
        let offer = &proposal.message;
        signed_by_validator(&offer.who.0, &self.offer_message(offer), &proposal.signature)
    }

    fn signed_vote(&self, vote: &Ballot, signature: &[u8; 64]) -> bool {
        signed_by_validator(&vote.who.0, &self.vote_message(vote), signature)
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
