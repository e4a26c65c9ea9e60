//! From one header to a later one, past those between.

use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, GenesisId, Height, ValidatorId};

use super::LightError;
use crate::block::TIME_UNCERTAINTY_MS;
use crate::certificate::{era_domain, verify_certificate};
use crate::recovery::{Eras, RecoveryError, goes_on_from};
use crate::state::{GenesisError, State};
use crate::validators::ValidatorSet;

/// The history in leaps: from a header to any later one that the same validators decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skip {
    genesis: GenesisId,
    recovery: Digest,
    eras: Eras,
    height: Height,
    digest: Digest,
    time_ms: u64,
    /// Who decides the next header.
    validators: ValidatorSet,
}

impl Skip {
    /// The history before its first block.
    ///
    /// # Errors
    /// [`GenesisError`] as of [`State::from_genesis`].
    pub fn new(genesis: &v1::Genesis) -> Result<Self, GenesisError> {
        let state = State::from_genesis(genesis.clone())?;
        Ok(Self {
            genesis: state.genesis_id(),
            recovery: state.recovery_digest(),
            eras: state.eras().clone(),
            height: state.height(),
            digest: state.tip_digest(),
            time_ms: state.time_before(),
            validators: state.validators().clone(),
        })
    }

    /// Goes on to a later header that those decided who are trusted now; whom it names next is trusted then. A header
    /// that is refused changes nothing.
    ///
    /// # Errors
    /// [`LightError`]. [`LightError::OtherValidators`] may only say that a change of validators must be taken first.
    pub fn to(&mut self, signed: &v1::SignedHeader) -> Result<(), LightError> {
        *self = self.decided(self.follows(signed)?, signed)?;
        Ok(())
    }

    /// The height it stands at; 0 before the first header.
    pub fn height(&self) -> Height {
        self.height
    }

    /// The digest of that header; that of the genesis before the first.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Its time, in milliseconds since 1970; that of the genesis before the first.
    pub fn time_ms(&self) -> u64 {
        self.time_ms
    }

    /// Who decides the next header.
    pub fn validators(&self) -> &ValidatorSet {
        &self.validators
    }

    /// The header, if it may be one of those after this, as far as it can tell by itself.
    pub(super) fn follows<'a>(&self, signed: &'a v1::SignedHeader) -> Result<&'a v1::Header, LightError> {
        let header = signed.header.as_ref().ok_or(LightError::Absent { what: "header" })?;
        let genesis = GenesisId(fixed("the header's network", &header.genesis)?);
        if genesis != self.genesis {
            return Err(LightError::OtherNetwork { got: genesis, want: self.genesis });
        }
        let (have, height) = (self.height.0, header.height);
        if height <= have {
            return Err(LightError::Known { have, got: height });
        }
        let previous = Digest(fixed("the digest of the header before", &header.previous)?);
        if height == have + 1 && previous != self.digest {
            return Err(LightError::Previous { height, got: previous, want: self.digest });
        }
        if header.time_ms < self.time_ms {
            return Err(LightError::Time { height, got_ms: header.time_ms, before_ms: self.time_ms });
        }
        if header.uncertainty_ms != TIME_UNCERTAINTY_MS {
            return Err(LightError::Uncertainty { got_ms: header.uncertainty_ms });
        }
        let era = self.eras.era() + u64::from(signed.recovery.is_some());
        if header.era != era {
            return Err(LightError::Era { got: header.era, want: era });
        }
        fixed("the frontier root", &header.frontier_root)?;
        fixed("the state root", &header.state_root)?;
        fixed("the history root", &header.history_root)?;
        commits("recovery policy", &header.recovery, self.recovery)?;
        Ok(header)
    }

    /// What is trusted once it is shown that the validators trusted now decided this header.
    pub(super) fn decided(&self, header: &v1::Header, signed: &v1::SignedHeader) -> Result<Self, LightError> {
        let mut eras = self.eras.clone();
        let opened = signed.recovery.as_ref().map(|signed| open(&mut eras, header, signed)).transpose()?;
        let validators = opened.as_ref().unwrap_or(&self.validators);
        let (height, want) = (header.height, validators.digest());
        let got = Digest(fixed("the digest of the validators", &header.validators)?);
        if got != want {
            return Err(LightError::OtherValidators { height, got, want });
        }
        let producer = ValidatorId(fixed("the header's producer", &header.producer)?);
        if validators.position(&producer).is_none() {
            return Err(LightError::Producer { producer });
        }
        let certificate = signed.certificate.as_ref().ok_or(LightError::Absent { what: "certificate" })?;
        let (height, digest) = (Height(height), digest(header));
        let domain = era_domain(&self.genesis, header.era);
        verify_certificate(certificate, &domain, height, &digest, validators)?;
        let validators = next(validators, header, signed.next_validators.as_ref())?;
        let (genesis, recovery) = (self.genesis, self.recovery);
        Ok(Self { genesis, recovery, eras, height, digest, time_ms: header.time_ms, validators })
    }
}

/// Who decides the first header of an era, which a recovery opens.
fn open(eras: &mut Eras, header: &v1::Header, signed: &v1::SignedRecovery) -> Result<ValidatorSet, LightError> {
    let validators = eras.check_opening(signed)?;
    let recovery = signed.recovery.clone().unwrap_or_default();
    let previous = Digest(fixed("the digest of the header before", &header.previous)?);
    let before = header.height - 1;
    if !goes_on_from(&recovery, Height(before), &previous) {
        return Err(RecoveryError::OtherTip { got: recovery.height, have: before }.into());
    }
    eras.push(&recovery);
    Ok(validators)
}

/// Who decides after this header, which these decided.
fn next(
    deciding: &ValidatorSet,
    header: &v1::Header,
    next: Option<&v1::ValidatorSet>,
) -> Result<ValidatorSet, LightError> {
    let height = header.height;
    let want = Digest(fixed("the digest of the next validators", &header.next_validators)?);
    let changed = want != deciding.digest();
    match next {
        None if changed => Err(LightError::NextAbsent { height, want }),
        None => Ok(deciding.clone()),
        Some(_) if !changed => Err(LightError::NextUnchanged { height }),
        Some(set) => {
            let set = ValidatorSet::from_message(set)?;
            let got = set.digest();
            if got == want { Ok(set) } else { Err(LightError::NextOther { height, got, want }) }
        }
    }
}

pub(super) fn commits(what: &'static str, got: &[u8], want: Digest) -> Result<(), LightError> {
    let got = Digest(fixed(what, got)?);
    if got == want { Ok(()) } else { Err(LightError::Commits { what, got, want }) }
}

fn fixed(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], LightError> {
    bytes.try_into().map_err(|_| LightError::Length { what, got: bytes.len() })
}
