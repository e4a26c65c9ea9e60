//! What validators sign, and when their signatures make a header final.
//!
//! | message | label | then |
//! |---|---|---|
//! | vote | `bithealth vote v1` | domain, height (u64), round (u32), kind (u8: 1 prevote, 2 precommit), value |
//! | proposal | `bithealth proposal v1` | domain, height (u64), round (u32), polka round + 1 (u32), value |
//!
//! Numbers are big endian; the value is the digest of a header, or 32 zero bytes for nil. The domain is the genesis, and
//! after a recovery [`era_domain`]: what is signed in one era counts in no other.

use bithealth_proto::v1;
use bithealth_types::{Digest, GenesisId, Height, ValidatorId};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::member::signed_by;
use crate::validators::ValidatorSet;

const VOTE_LABEL: &[u8] = b"bithealth vote v1";
const PROPOSAL_LABEL: &[u8] = b"bithealth proposal v1";
const ERA_LABEL: &[u8] = b"bithealth era v1";
const SIGNATURE_LEN: usize = 64;

/// What signatures of an era are for: the genesis in era 0, then SHA-256 of `bithealth era v1`, genesis and era (u64).
pub fn era_domain(genesis: &GenesisId, era: u64) -> GenesisId {
    if era == 0 {
        return *genesis;
    }
    let hash = Sha256::new().chain_update(ERA_LABEL).chain_update(genesis.as_bytes()).chain_update(era.to_be_bytes());
    GenesisId(hash.finalize().into())
}

/// What a vote signs; `value` is none for nil.
pub fn vote_message(
    genesis: &GenesisId,
    height: Height,
    round: u32,
    kind: v1::VoteKind,
    value: Option<&Digest>,
) -> Vec<u8> {
    let (height, round) = (height.0.to_be_bytes(), round.to_be_bytes());
    let value = value.map_or([0; 32], |value| value.0);
    [VOTE_LABEL, genesis.as_bytes(), &height, &round, &[kind as u8], &value].concat()
}

/// What a proposal signs.
pub fn proposal_message(
    genesis: &GenesisId,
    height: Height,
    round: u32,
    polka_round: Option<u32>,
    value: &Digest,
) -> Vec<u8> {
    let (height, round) = (height.0.to_be_bytes(), round.to_be_bytes());
    let polka = polka_round.map_or(0, |round| round.saturating_add(1)).to_be_bytes();
    [PROPOSAL_LABEL, genesis.as_bytes(), &height, &round, &polka, value.as_bytes()].concat()
}

/// Whether a validator signed this.
pub fn signed_by_validator(key: &ValidatorId, message: &[u8], signature: &[u8]) -> bool {
    signed_by(key.as_bytes(), message, signature)
}

/// Why a certificate does not make a header final.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CertificateError {
    /// It is for another header.
    #[error("it names header {got}, this is {want}")]
    OtherHeader {
        /// The bytes it names, as hexadecimal.
        got: String,
        /// The digest of the header.
        want: Digest,
    },
    /// The bitfield has another length than the set takes, or names somebody who is not in it.
    #[error("the signers are {got} bytes for {count} validators, or name one who is none")]
    Signers {
        /// Bytes that came.
        got: usize,
        /// Validators of this height.
        count: usize,
    },
    /// Not one signature for each signer.
    #[error("{got} bytes of signatures for {signers} signers, 64 for each are due")]
    SignaturesLen {
        /// Bytes that came.
        got: usize,
        /// Signers named.
        signers: usize,
    },
    /// Too few votes.
    #[error("{got} votes of {count}, {want} are due")]
    Votes {
        /// Votes that came.
        got: usize,
        /// Votes that were due.
        want: usize,
        /// Validators of this height.
        count: usize,
    },
    /// A vote is not signed by its signer.
    #[error("the vote of validator {validator} is not signed by it")]
    BadSignature {
        /// Whose it should be.
        validator: ValidatorId,
    },
}

/// The certificate that these precommits make. Who votes twice, or is not in the set, is left out.
pub fn certificate(
    header: &Digest,
    round: u32,
    validators: &ValidatorSet,
    precommits: &[(ValidatorId, [u8; SIGNATURE_LEN])],
) -> v1::Certificate {
    let mut signers = vec![0u8; validators.count().div_ceil(8)];
    let mut signatures = Vec::new();
    for (index, validator) in validators.iter().enumerate() {
        if let Some((_, signature)) = precommits.iter().find(|(key, _)| *key == validator.key) {
            signers[index / 8] |= 1 << (index % 8);
            signatures.extend(signature);
        }
    }
    let header = Bytes::copy_from_slice(header.as_bytes());
    v1::Certificate { header, round, signers: signers.into(), signatures: signatures.into() }
}

/// The positions in the set of those who signed.
///
/// # Errors
/// [`CertificateError::Signers`] if the bitfield does not fit the set.
pub fn signers(certificate: &v1::Certificate, validators: &ValidatorSet) -> Result<Vec<usize>, CertificateError> {
    let (bits, count) = (&certificate.signers, validators.count());
    let error = CertificateError::Signers { got: bits.len(), count };
    if bits.len() != count.div_ceil(8) {
        return Err(error);
    }
    let set: Vec<usize> = (0..8 * bits.len()).filter(|index| bits[index / 8] >> (index % 8) & 1 == 1).collect();
    if set.last().is_some_and(|last| *last >= count) { Err(error) } else { Ok(set) }
}

/// Whether `certificate` makes the header with this digest final, decided by `validators`.
///
/// Every signature is checked, not only a quorum of them: a certificate has no part that may be false.
///
/// # Errors
/// [`CertificateError`].
pub fn verify_certificate(
    certificate: &v1::Certificate,
    genesis: &GenesisId,
    height: Height,
    header: &Digest,
    validators: &ValidatorSet,
) -> Result<(), CertificateError> {
    if certificate.header != header.0.as_slice() {
        let got = HEXLOWER.encode(&certificate.header);
        return Err(CertificateError::OtherHeader { got, want: *header });
    }
    let signers = signers(certificate, validators)?;
    if certificate.signatures.len() != signers.len() * SIGNATURE_LEN {
        let (got, signers) = (certificate.signatures.len(), signers.len());
        return Err(CertificateError::SignaturesLen { got, signers });
    }
    let (got, want, count) = (signers.len(), validators.quorum(), validators.count());
    if got < want {
        return Err(CertificateError::Votes { got, want, count });
    }
    let message = vote_message(genesis, height, certificate.round, v1::VoteKind::Precommit, Some(header));
    for (index, signature) in signers.iter().zip(certificate.signatures.chunks_exact(SIGNATURE_LEN)) {
        let validator = validators.get(*index).expect("the bitfield fits the set").key;
        if !signed_by_validator(&validator, &message, signature) {
            return Err(CertificateError::BadSignature { validator });
        }
    }
    Ok(())
}

/// Who signed two certificates of one height and round for different headers, which no honest validator does. Of
/// different rounds two certificates alone prove nothing against anybody: then the votes in between are needed.
pub fn guilty(first: &v1::Certificate, second: &v1::Certificate, validators: &ValidatorSet) -> Vec<ValidatorId> {
    if first.header == second.header || first.round != second.round {
        return Vec::new();
    }
    let (Ok(first), Ok(second)) = (signers(first, validators), signers(second, validators)) else {
        return Vec::new();
    };
    let both = first.into_iter().filter(|index| second.contains(index));
    both.filter_map(|index| validators.get(index)).map(|validator| validator.key).collect()
}

#[cfg(test)]
mod tests;
