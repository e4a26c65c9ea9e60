//! Evidence: two signatures of one key of which an honest one makes one. It convinces anybody, and tells nothing else.

use bithealth_proto::v1::{self, evidence::Evidence};
use bithealth_proto::{DecodeError, decode};
use bithealth_types::{Digest, GenesisId, Height, NodeId, Sequence, ValidatorId};
use bytes::Bytes;

use crate::certificate::{era_domain, signed_by_validator, vote_message};
use crate::entry::{entry_digest, message};
use crate::member::signed_by;

/// Whom evidence names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Accused {
    /// A node that wrote two entries at one position of its log.
    Author(NodeId),
    /// A validator that cast two votes in one step of a round.
    Validator(ValidatorId),
}

/// Why evidence shows nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotEvidence {
    /// An entry cannot be read.
    #[error("an entry cannot be read: {0}")]
    Decode(#[from] DecodeError),
    /// A part that must be there is not.
    #[error("the evidence's {what} is missing")]
    Absent {
        /// The part.
        what: &'static str,
    },
    /// A field of fixed length has another.
    #[error("{what} of the evidence has {got} bytes")]
    Length {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
    },
    /// The two are not of one signer and one place, or are the same, or not in order.
    #[error("the two do not exclude each other")]
    Compatible,
    /// One of them is not signed by whom it names.
    #[error("one of the two is not signed by whom it names")]
    BadSignature,
}

/// The evidence that two entries are.
///
/// # Errors
/// [`NotEvidence`] unless both are signed by one author, have one position, and differ.
pub fn equivocation(first: &v1::SignedEntry, second: &v1::SignedEntry) -> Result<v1::Evidence, NotEvidence> {
    let (one, other): (v1::Entry, v1::Entry) = (decode(&first.entry)?, decode(&second.entry)?);
    if (&one.author, one.sequence) != (&other.author, other.sequence) {
        return Err(NotEvidence::Compatible);
    }
    let signed = |signed: &v1::SignedEntry| v1::SignedDigest {
        digest: Bytes::copy_from_slice(entry_digest(signed).as_bytes()),
        signature: signed.signature.clone(),
    };
    let (first, second) = ordered(signed(first), signed(second));
    let found = v1::Equivocation { author: one.author, sequence: one.sequence, first, second };
    check_equivocation(&found)?;
    Ok(v1::Evidence { evidence: Some(Evidence::Log(found)) })
}

/// The evidence that two votes of an era are.
///
/// # Errors
/// [`NotEvidence`] unless both are signed by one validator, for one step of one round, and differ.
pub fn double_vote(
    genesis: &GenesisId,
    era: u64,
    first: &v1::ConsensusVote,
    second: &v1::ConsensusVote,
) -> Result<v1::Evidence, NotEvidence> {
    let place = |vote: &v1::ConsensusVote| (vote.height, vote.round, vote.kind);
    if place(first) != place(second) || first.validator != second.validator {
        return Err(NotEvidence::Compatible);
    }
    let (validator, height, round, kind) = (first.validator.clone(), first.height, first.round, first.kind);
    let signed =
        |vote: &v1::ConsensusVote| v1::SignedDigest { digest: vote.value.clone(), signature: vote.signature.clone() };
    let (first, second) = ordered(signed(first), signed(second));
    let found = v1::DoubleVote { validator, era, height, round, kind, first, second };
    check_votes(genesis, &found)?;
    Ok(v1::Evidence { evidence: Some(Evidence::Votes(found)) })
}

/// Whom this evidence convicts.
///
/// # Errors
/// [`NotEvidence`] if it convicts nobody.
pub fn check_evidence(genesis: &GenesisId, evidence: &v1::Evidence) -> Result<Accused, NotEvidence> {
    match evidence.evidence.as_ref().ok_or(NotEvidence::Absent { what: "kind" })? {
        Evidence::Log(found) => check_equivocation(found).map(|(author, _)| Accused::Author(author)),
        Evidence::Votes(found) => check_votes(genesis, found).map(Accused::Validator),
    }
}

fn check_equivocation(found: &v1::Equivocation) -> Result<(NodeId, Sequence), NotEvidence> {
    let author = NodeId(fixed("the author", &found.author)?);
    for signed in excluding(found.first.as_ref(), found.second.as_ref())? {
        let digest = Digest(fixed("the digest of an entry", &signed.digest)?);
        if !signed_by(author.as_bytes(), &message(&author.0, found.sequence, &digest), &signed.signature) {
            return Err(NotEvidence::BadSignature);
        }
    }
    Ok((author, Sequence(found.sequence)))
}

fn check_votes(genesis: &GenesisId, found: &v1::DoubleVote) -> Result<ValidatorId, NotEvidence> {
    let validator = ValidatorId(fixed("the validator", &found.validator)?);
    let kind = v1::VoteKind::try_from(found.kind).ok().filter(|kind| *kind != v1::VoteKind::Unspecified);
    let kind = kind.ok_or(NotEvidence::Absent { what: "kind of vote" })?;
    let domain = era_domain(genesis, found.era);
    for signed in excluding(found.first.as_ref(), found.second.as_ref())? {
        let value =
            if signed.digest.is_empty() { None } else { Some(fixed("the digest of a header", &signed.digest)?) };
        let message = vote_message(&domain, Height(found.height), found.round, kind, value.map(Digest).as_ref());
        if !signed_by_validator(&validator, &message, &signed.signature) {
            return Err(NotEvidence::BadSignature);
        }
    }
    Ok(validator)
}

/// Both, if they differ and stand in their order: the same evidence has one form.
fn excluding<'a>(
    first: Option<&'a v1::SignedDigest>,
    second: Option<&'a v1::SignedDigest>,
) -> Result<[&'a v1::SignedDigest; 2], NotEvidence> {
    let absent = NotEvidence::Absent { what: "signature" };
    let (first, second) = first.zip(second).ok_or(absent)?;
    if first.digest < second.digest { Ok([first, second]) } else { Err(NotEvidence::Compatible) }
}

fn ordered(one: v1::SignedDigest, other: v1::SignedDigest) -> (Option<v1::SignedDigest>, Option<v1::SignedDigest>) {
    if one.digest <= other.digest { (Some(one), Some(other)) } else { (Some(other), Some(one)) }
}

fn fixed(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], NotEvidence> {
    bytes.try_into().map_err(|_| NotEvidence::Length { what, got: bytes.len() })
}

#[cfg(test)]
pub(crate) mod tests;
