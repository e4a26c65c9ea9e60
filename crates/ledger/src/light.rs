//! Follows the history by its headers alone: who has the genesis needs neither bodies nor entries to know who decides,
//! and what is final.
//!
//! | | takes | checks besides | leaves to trust |
//! |---|---|---|---|
//! | [`Light`] | every header, in order | that each names the root over all before it | what no header tells: bodies |
//! | [`Skip`] | those that change the validators, and the last | nothing | that the ones between were sound |
//!
//! Both keep one header's worth: neither grows with the history. Both believe whoever has the keys of a quorum, also long
//! after its time; that is why validators destroy old keys, and why a head that others cosigned is worth more.

mod skip;

pub use skip::Skip;

use bithealth_merkle::{Frontier, leaf_hash};
use bithealth_proto::{encode, v1};
use bithealth_types::{Digest, GenesisId, Height, ValidatorId};

use crate::block::TIME_UNCERTAINTY_MS;
use crate::certificate::CertificateError;
use crate::recovery::RecoveryError;
use crate::state::GenesisError;
use crate::validators::{NotValidators, ValidatorSet};
use skip::commits;

/// All of the history, header by header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Light {
    tip: Skip,
    /// All headers.
    history: Frontier,
}

/// Why a header is not believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LightError {
    /// A part that must be there is not.
    #[error("the {what} is missing")]
    Absent {
        /// The part.
        what: &'static str,
    },
    /// A field of fixed length has another.
    #[error("{what} has {got} bytes, 32 are due")]
    Length {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
    },
    /// A header of another network.
    #[error("the header is of network {got}, this is {want}")]
    OtherNetwork {
        /// The network it names.
        got: GenesisId,
        /// This one.
        want: GenesisId,
    },
    /// It does not lie behind the one that is known.
    #[error("header {got} came, {have} is known already")]
    Known {
        /// The height that is known.
        have: u64,
        /// The height that came.
        got: u64,
    },
    /// Headers before it have not arrived; only [`Light`] needs them.
    #[error("header {got} came, the one before is {have}: those between are missing")]
    Gap {
        /// The height that is known.
        have: u64,
        /// The height that came.
        got: u64,
    },
    /// It does not follow the header before.
    #[error("header {height} names {got} as the one before, that is {want}")]
    Previous {
        /// Its height.
        height: u64,
        /// The digest it names.
        got: Digest,
        /// The digest of the one before.
        want: Digest,
    },
    /// Its time lies before that of an earlier header.
    #[error("header {height} is of {got_ms}, one before it is of {before_ms}")]
    Time {
        /// Its height.
        height: u64,
        /// Its time.
        got_ms: u64,
        /// The time of the earlier header.
        before_ms: u64,
    },
    /// It claims another certainty of time than validators vouch for.
    #[error("a time within {got_ms} ms, {TIME_UNCERTAINTY_MS} are due")]
    Uncertainty {
        /// What it claims.
        got_ms: u32,
    },
    /// It is of another era.
    #[error("a header of era {got}, era {want} is due")]
    Era {
        /// Its era.
        got: u64,
        /// The era due.
        want: u64,
    },
    /// The recovery that opens its era does not count.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// It commits to something else than what follows from the genesis and the headers before.
    #[error("the header's {what} is {got}, here it is {want}")]
    Commits {
        /// The part.
        what: &'static str,
        /// What the header has.
        got: Digest,
        /// What follows here.
        want: Digest,
    },
    /// Others than those trusted to decided it: where validators changed in between, that header comes first.
    #[error("header {height} is decided by validators {got}, those known are {want}")]
    OtherValidators {
        /// Its height.
        height: u64,
        /// The digest of the set it names.
        got: Digest,
        /// The digest of the set that is trusted.
        want: Digest,
    },
    /// Its producer is no validator of this height.
    #[error("its producer {producer} is no validator of this height")]
    Producer {
        /// Who made it.
        producer: ValidatorId,
    },
    /// The certificate does not make it final.
    #[error("the certificate is none: {0}")]
    Certificate(#[from] CertificateError),
    /// The validators change and nobody says to whom.
    #[error("the validators change with header {height}, to {want}, which did not come along")]
    NextAbsent {
        /// Its height.
        height: u64,
        /// The digest of the next set.
        want: Digest,
    },
    /// The validators do not change and came along all the same.
    #[error("the validators do not change with header {height}, but came along")]
    NextUnchanged {
        /// Its height.
        height: u64,
    },
    /// What came as the next validators is no set.
    #[error("the next validators are no set: {0}")]
    NextNone(#[from] NotValidators),
    /// Others came along than the header names.
    #[error("header {height} names the next validators {want}, {got} came along")]
    NextOther {
        /// Its height.
        height: u64,
        /// The digest of the set that came.
        got: Digest,
        /// The digest it names.
        want: Digest,
    },
}

/// What of a block tells the history.
pub fn signed_header(block: &v1::Block) -> v1::SignedHeader {
    let next_validators = block.body.as_ref().and_then(|body| body.next_validators.clone());
    let recovery = block.body.as_ref().and_then(|body| body.recovery.clone());
    v1::SignedHeader { header: block.header.clone(), certificate: block.certificate.clone(), next_validators, recovery }
}

impl Light {
    /// The history before its first block.
    ///
    /// # Errors
    /// [`GenesisError`] as of [`crate::State::from_genesis`].
    pub fn new(genesis: &v1::Genesis) -> Result<Self, GenesisError> {
        Ok(Self { tip: Skip::new(genesis)?, history: Frontier::default() })
    }

    /// Takes the next header. One that is refused changes nothing.
    ///
    /// # Errors
    /// [`LightError`]. [`LightError::Gap`] only says that others must arrive first.
    pub fn advance(&mut self, signed: &v1::SignedHeader) -> Result<(), LightError> {
        let header = self.tip.follows(signed)?;
        let (have, got) = (self.height().0, header.height);
        if got != have + 1 {
            return Err(LightError::Gap { have, got });
        }
        commits("history", &header.history_root, self.history_root())?;
        self.tip = self.tip.decided(header, signed)?;
        self.history.push(leaf_hash(&encode(header)));
        Ok(())
    }

    /// The height of the tip; 0 before the first header.
    pub fn height(&self) -> Height {
        self.tip.height()
    }

    /// The digest of the tip; that of the genesis before the first header.
    pub fn digest(&self) -> Digest {
        self.tip.digest()
    }

    /// The time of the tip, in milliseconds since 1970; that of the genesis before the first header.
    pub fn time_ms(&self) -> u64 {
        self.tip.time_ms()
    }

    /// The root over all headers up to the tip.
    pub fn history_root(&self) -> Digest {
        self.history.root()
    }

    /// Who decides the next header.
    pub fn validators(&self) -> &ValidatorSet {
        self.tip.validators()
    }
}

#[cfg(test)]
mod tests;
