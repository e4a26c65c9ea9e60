//! Between messages and the engine's types. What is not in its one form is refused before it is looked at.

use bithealth_proto::v1::{self, consensus_message::Message};
use bithealth_types::{Digest, ValidatorId};
use bytes::Bytes;
use malachite::{LivenessMsg, SignedConsensusMsg};
use malachite_types::{
    NilOrVal, PolkaCertificate, PolkaSignature, Round, RoundCertificate, RoundCertificateType, RoundSignature,
    SignedMessage, SignedProposal, SignedVote, VoteType,
};

use crate::context::{At, Ballot, Ctx, Header, Offer, Who};

/// Most votes in a certificate that travels: one of each kind from each validator.
pub(crate) const CERTIFICATE_VOTES_MAX: usize = 2 * bithealth_ledger::VALIDATORS_MAX;

/// Why a message is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MessageError {
    /// It says nothing that this version knows.
    #[error("the message is of a kind this version does not know")]
    Unknown,
    /// A field of fixed length has another.
    #[error("{what} has {got} bytes, {want} are due")]
    Length {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// Neither a prevote nor a precommit.
    #[error("a vote of kind {got}, 1 or 2 are due")]
    Kind {
        /// The kind that came.
        got: i32,
    },
    /// A certificate with more votes than there can be.
    #[error("a certificate of {got} votes, at most {CERTIFICATE_VOTES_MAX} are accepted")]
    Votes {
        /// Votes that came.
        got: usize,
    },
    /// Not signed by whom it names, or by no validator of the height.
    #[error("not signed by validator {}", validator.short())]
    Signature {
        /// Whom it names.
        validator: ValidatorId,
    },
    /// A certificate without the votes it takes.
    #[error("a certificate that its votes do not bear out")]
    Certificate,
    /// A proposal without what it proposes, or with something else.
    #[error("the proposal's content is not what it names")]
    Content,
}

/// A message of another validator, read but not verified.
#[derive(Debug)]
pub(crate) enum Heard {
    Vote(SignedVote<Ctx>),
    Proposal(SignedProposal<Ctx>, v1::Proposed),
    Polka(PolkaCertificate<Ctx>),
    Round(RoundCertificate<Ctx>),
}

impl Heard {
    pub(crate) fn height(&self) -> u64 {
        match self {
            Self::Vote(vote) => vote.message.height.0,
            Self::Proposal(proposal, _) => proposal.message.height.0,
            Self::Polka(certificate) => certificate.height.0,
            Self::Round(certificate) => certificate.height.0,
        }
    }
}

pub(crate) fn read(message: v1::ConsensusMessage) -> Result<Heard, MessageError> {
    match message.message.ok_or(MessageError::Unknown)? {
        Message::Vote(vote) => Ok(Heard::Vote(read_vote(&vote)?)),
        Message::Proposal(proposal) => {
            let (signed, content) = read_proposal(proposal)?;
            Ok(Heard::Proposal(signed, content.ok_or(MessageError::Content)?))
        }
        Message::Polka(certificate) => Ok(Heard::Polka(read_polka(&certificate)?)),
        Message::Round(certificate) => Ok(Heard::Round(read_round(&certificate)?)),
    }
}

pub(crate) fn read_vote(vote: &v1::ConsensusVote) -> Result<SignedVote<Ctx>, MessageError> {
    let ballot = Ballot {
        height: At(vote.height),
        round: Round::new(vote.round),
        kind: kind(vote.kind)?,
        value: nil_or(&vote.value)?,
        who: who(&vote.validator)?,
    };
    Ok(SignedMessage::new(ballot, signature(&vote.signature)?))
}

pub(crate) fn write_vote(vote: &SignedVote<Ctx>) -> v1::ConsensusVote {
    let Ballot { height, round, kind, value, who } = vote.message;
    v1::ConsensusVote {
        height: height.0,
        round: number(round),
        kind: vote_kind(kind).into(),
        value: nil_bytes(&value),
        validator: Bytes::copy_from_slice(who.0.as_bytes()),
        signature: Bytes::copy_from_slice(&vote.signature),
    }
}

/// Checks that the content, where there is one, is what the proposal names.
pub(crate) fn read_proposal(
    proposal: v1::ConsensusProposal,
) -> Result<(SignedProposal<Ctx>, Option<v1::Proposed>), MessageError> {
    let value = Header(Digest(fixed("the proposed value", &proposal.value)?));
    if proposal.content.as_ref().is_some_and(|content| header_of(content) != value) {
        return Err(MessageError::Content);
    }
    let offer = Offer {
        height: At(proposal.height),
        round: Round::new(proposal.round),
        value,
        polka_round: read_round_plus_one(proposal.polka_round_plus_one),
        who: who(&proposal.validator)?,
    };
    Ok((SignedMessage::new(offer, signature(&proposal.signature)?), proposal.content))
}

pub(crate) fn write_proposal(proposal: &SignedProposal<Ctx>, content: Option<v1::Proposed>) -> v1::ConsensusProposal {
    let Offer { height, round, value, polka_round, who } = proposal.message;
    v1::ConsensusProposal {
        height: height.0,
        round: number(round),
        value: Bytes::copy_from_slice(value.0.as_bytes()),
        polka_round_plus_one: write_round_plus_one(polka_round),
        validator: Bytes::copy_from_slice(who.0.as_bytes()),
        signature: Bytes::copy_from_slice(&proposal.signature),
        content,
    }
}

/// What names a content: the digest of its header, as it came.
pub(crate) fn header_of(content: &v1::Proposed) -> Header {
    Header(bithealth_ledger::digest_of_bytes(&content.header))
}

pub(crate) fn read_polka(polka: &v1::PolkaCertificate) -> Result<PolkaCertificate<Ctx>, MessageError> {
    bounded(polka.signatures.len())?;
    let signature =
        |it: &v1::ValidatorSignature| Ok(PolkaSignature::new(who(&it.validator)?, signature(&it.signature)?));
    Ok(PolkaCertificate {
        height: At(polka.height),
        round: Round::new(polka.round),
        value_id: Header(Digest(fixed("the value of a polka", &polka.value)?)),
        polka_signatures: polka.signatures.iter().map(signature).collect::<Result<_, MessageError>>()?,
    })
}

pub(crate) fn write_polka(polka: &PolkaCertificate<Ctx>) -> v1::PolkaCertificate {
    let signature = |it: &PolkaSignature<Ctx>| v1::ValidatorSignature {
        validator: Bytes::copy_from_slice(it.address.0.as_bytes()),
        signature: Bytes::copy_from_slice(&it.signature),
    };
    v1::PolkaCertificate {
        height: polka.height.0,
        round: number(polka.round),
        value: Bytes::copy_from_slice(polka.value_id.0.as_bytes()),
        signatures: polka.polka_signatures.iter().map(signature).collect(),
    }
}

fn read_round(certificate: &v1::RoundCertificate) -> Result<RoundCertificate<Ctx>, MessageError> {
    bounded(certificate.votes.len())?;
    let vote = |it: &v1::RoundVote| {
        let (kind, value) = (kind(it.kind)?, nil_or(&it.value)?);
        Ok(RoundSignature::new(kind, value, who(&it.validator)?, signature(&it.signature)?))
    };
    let cert_type = if certificate.precommits { RoundCertificateType::Precommit } else { RoundCertificateType::Skip };
    Ok(RoundCertificate {
        height: At(certificate.height),
        round: Round::new(certificate.round),
        cert_type,
        round_signatures: certificate.votes.iter().map(vote).collect::<Result<_, MessageError>>()?,
    })
}

fn write_round(certificate: &RoundCertificate<Ctx>) -> v1::RoundCertificate {
    let vote = |it: &RoundSignature<Ctx>| v1::RoundVote {
        kind: vote_kind(it.vote_type).into(),
        value: nil_bytes(&it.value_id),
        validator: Bytes::copy_from_slice(it.address.0.as_bytes()),
        signature: Bytes::copy_from_slice(&it.signature),
    };
    v1::RoundCertificate {
        height: certificate.height.0,
        round: number(certificate.round),
        precommits: certificate.cert_type == RoundCertificateType::Precommit,
        votes: certificate.round_signatures.iter().map(vote).collect(),
    }
}

/// What is published of a vote or proposal; `content` gives what a proposal proposes.
pub(crate) fn published(
    message: &SignedConsensusMsg<Ctx>,
    content: impl FnOnce(&Header) -> Option<v1::Proposed>,
) -> v1::ConsensusMessage {
    match message {
        SignedConsensusMsg::Vote(vote) => vote_message(vote),
        SignedConsensusMsg::Proposal(proposal) => {
            let content = content(&proposal.message.value);
            wrap(Message::Proposal(write_proposal(proposal, content)))
        }
    }
}

pub(crate) fn vote_message(vote: &SignedVote<Ctx>) -> v1::ConsensusMessage {
    wrap(Message::Vote(write_vote(vote)))
}

pub(crate) fn liveness(message: &LivenessMsg<Ctx>) -> v1::ConsensusMessage {
    match message {
        LivenessMsg::Vote(vote) => vote_message(vote),
        LivenessMsg::PolkaCertificate(polka) => wrap(Message::Polka(write_polka(polka))),
        LivenessMsg::SkipRoundCertificate(certificate) => round_message(certificate),
    }
}

pub(crate) fn round_message(certificate: &RoundCertificate<Ctx>) -> v1::ConsensusMessage {
    wrap(Message::Round(write_round(certificate)))
}

fn wrap(message: Message) -> v1::ConsensusMessage {
    v1::ConsensusMessage { message: Some(message), repeat: 0 }
}

pub(crate) fn vote_kind(kind: VoteType) -> v1::VoteKind {
    match kind {
        VoteType::Prevote => v1::VoteKind::Prevote,
        VoteType::Precommit => v1::VoteKind::Precommit,
    }
}

pub(crate) fn number(round: Round) -> u32 {
    round.as_u32().unwrap_or(0)
}

pub(crate) fn read_round_plus_one(round: u32) -> Round {
    round.checked_sub(1).map_or(Round::Nil, Round::new)
}

pub(crate) fn write_round_plus_one(round: Round) -> u32 {
    round.as_u32().map_or(0, |round| round.saturating_add(1))
}

pub(crate) fn who(bytes: &[u8]) -> Result<Who, MessageError> {
    fixed("a validator's key", bytes).map(|key| Who(ValidatorId(key)))
}

fn kind(kind: i32) -> Result<VoteType, MessageError> {
    match v1::VoteKind::try_from(kind) {
        Ok(v1::VoteKind::Prevote) => Ok(VoteType::Prevote),
        Ok(v1::VoteKind::Precommit) => Ok(VoteType::Precommit),
        _ => Err(MessageError::Kind { got: kind }),
    }
}

fn nil_or(value: &[u8]) -> Result<NilOrVal<Header>, MessageError> {
    if value.is_empty() {
        return Ok(NilOrVal::Nil);
    }
    fixed("the value of a vote", value).map(|value| NilOrVal::Val(Header(Digest(value))))
}

fn nil_bytes(value: &NilOrVal<Header>) -> Bytes {
    match value {
        NilOrVal::Nil => Bytes::new(),
        NilOrVal::Val(value) => Bytes::copy_from_slice(value.0.as_bytes()),
    }
}

fn signature(bytes: &[u8]) -> Result<[u8; 64], MessageError> {
    fixed("a signature", bytes)
}

pub(crate) fn fixed<const LEN: usize>(what: &'static str, bytes: &[u8]) -> Result<[u8; LEN], MessageError> {
    bytes.try_into().map_err(|_| MessageError::Length { what, got: bytes.len(), want: LEN })
}

fn bounded(votes: usize) -> Result<(), MessageError> {
    if votes <= CERTIFICATE_VOTES_MAX { Ok(()) } else { Err(MessageError::Votes { got: votes }) }
}
