//! The types that the engine's rounds are about: votes and proposals for the digest of a header.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use bithealth_ledger::{Validator, ValidatorSet};
use bithealth_types::{Digest, ValidatorId};
use malachite_types::{
    Address, Context, Height, LinearTimeouts, NilOrVal, Proposal, ProposalPart, Round, SignedExtension, SigningScheme,
    Value, Vote, VoteType, VotingPower,
};

/// Our types, for the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ctx;

/// A height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct At(pub(crate) u64);

/// A validator's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Who(pub(crate) ValidatorId);

/// The digest of a header: what is voted on stands for what is decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Header(pub(crate) Digest);

/// A vote, without its signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ballot {
    pub(crate) height: At,
    pub(crate) round: Round,
    pub(crate) kind: VoteType,
    pub(crate) value: NilOrVal<Header>,
    pub(crate) who: Who,
}

/// A proposal, without its signature and without what it proposes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    pub(crate) height: At,
    pub(crate) round: Round,
    pub(crate) value: Header,
    pub(crate) polka_round: Round,
    pub(crate) who: Who,
}

/// One of those who vote; each has one vote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Voter {
    who: Who,
    key: [u8; 32],
}

/// Those who vote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voters {
    voters: Vec<Voter>,
}

/// The engine streams no parts: a proposal travels with its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Part;

/// Ed25519; the engine itself never signs nor verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ed25519;

impl Voters {
    pub(crate) fn new(set: &ValidatorSet) -> Self {
        let voter = |it: &Validator| Voter { who: Who(it.key), key: it.key.0 };
        Self { voters: set.iter().map(voter).collect() }
    }
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.short())
    }
}

impl Height for At {
    const ZERO: Self = Self(0);
    const INITIAL: Self = Self(1);

    fn increment_by(&self, n: u64) -> Self {
        Self(self.0 + n)
    }

    fn decrement_by(&self, n: u64) -> Option<Self> {
        self.0.checked_sub(n).map(Self)
    }

    fn as_u64(&self) -> u64 {
        self.0
    }
}

impl Address for Who {}

impl Value for Header {
    type Id = Self;

    fn id(&self) -> Self {
        *self
    }
}

impl ProposalPart<Ctx> for Part {
    fn is_first(&self) -> bool {
        true
    }

    fn is_last(&self) -> bool {
        true
    }
}

impl malachite_types::Validator<Ctx> for Voter {
    fn address(&self) -> &Who {
        &self.who
    }

    fn public_key(&self) -> &[u8; 32] {
        &self.key
    }

    fn voting_power(&self) -> VotingPower {
        1
    }
}

impl malachite_types::ValidatorSet<Ctx> for Voters {
    fn count(&self) -> usize {
        self.voters.len()
    }

    fn total_voting_power(&self) -> VotingPower {
        self.voters.len() as VotingPower
    }

    fn get_by_address(&self, address: &Who) -> Option<&Voter> {
        self.voters.iter().find(|voter| voter.who == *address)
    }

    fn get_by_index(&self, index: usize) -> Option<&Voter> {
        self.voters.get(index)
    }
}

impl SigningScheme for Ed25519 {
    type DecodingError = String;
    type Signature = [u8; 64];
    type PublicKey = [u8; 32];
    type PrivateKey = Infallible;

    fn decode_signature(bytes: &[u8]) -> Result<[u8; 64], String> {
        bytes.try_into().map_err(|_| format!("a signature of {} bytes, 64 are due", bytes.len()))
    }

    fn encode_signature(signature: &[u8; 64]) -> Vec<u8> {
        signature.to_vec()
    }

    fn decode_public_key(bytes: &[u8]) -> Result<[u8; 32], String> {
        bytes.try_into().map_err(|_| format!("a key of {} bytes, 32 are due", bytes.len()))
    }

    fn encode_public_key(key: &[u8; 32]) -> Vec<u8> {
        key.to_vec()
    }
}

impl Vote<Ctx> for Ballot {
    fn height(&self) -> At {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &NilOrVal<Header> {
        &self.value
    }

    fn take_value(self) -> NilOrVal<Header> {
        self.value
    }

    fn vote_type(&self) -> VoteType {
        self.kind
    }

    fn validator_address(&self) -> &Who {
        &self.who
    }

    fn extension(&self) -> Option<&SignedExtension<Ctx>> {
        None
    }

    fn take_extension(&mut self) -> Option<SignedExtension<Ctx>> {
        None
    }

    fn extend(self, _: SignedExtension<Ctx>) -> Self {
        self
    }
}

impl Proposal<Ctx> for Offer {
    fn height(&self) -> At {
        self.height
    }

    fn round(&self) -> Round {
        self.round
    }

    fn value(&self) -> &Header {
        &self.value
    }

    fn take_value(self) -> Header {
        self.value
    }

    fn pol_round(&self) -> Round {
        self.polka_round
    }

    fn validator_address(&self) -> &Who {
        &self.who
    }
}

impl Context for Ctx {
    type Address = Who;
    type Height = At;
    type ProposalPart = Part;
    type Proposal = Offer;
    type Validator = Voter;
    type ValidatorSet = Voters;
    type Timeouts = LinearTimeouts;
    type Value = Header;
    type Vote = Ballot;
    type Extension = ();
    type SigningScheme = Ed25519;

    /// In turn, by height and round: a function of the chain alone, so all agree on it.
    fn select_proposer<'a>(&self, voters: &'a Voters, height: At, round: Round) -> &'a Voter {
        let turn = height.0.wrapping_add(round.as_u32().unwrap_or(0).into());
        &voters.voters[(turn % voters.voters.len() as u64) as usize]
    }

    fn new_proposal(&self, height: At, round: Round, value: Header, polka_round: Round, who: Who) -> Offer {
        Offer { height, round, value, polka_round, who }
    }

    fn new_prevote(&self, height: At, round: Round, value: NilOrVal<Header>, who: Who) -> Ballot {
        Ballot { height, round, kind: VoteType::Prevote, value, who }
    }

    fn new_precommit(&self, height: At, round: Round, value: NilOrVal<Header>, who: Who) -> Ballot {
        Ballot { height, round, kind: VoteType::Precommit, value, who }
    }
}

/// How long a step lasts before the round goes on without it.
///
/// A proposal is followed by the fetch of entries it covers, so the first wait is the longest. Later rounds wait longer,
/// which gives slow networks the time they turn out to need.
pub(crate) const TIMEOUTS: LinearTimeouts = LinearTimeouts {
    propose: Duration::from_millis(1000),
    propose_delta: Duration::from_millis(500),
    prevote: Duration::from_millis(500),
    prevote_delta: Duration::from_millis(250),
    precommit: Duration::from_millis(500),
    precommit_delta: Duration::from_millis(250),
    rebroadcast: Duration::from_millis(1000),
    max_timeout: Duration::from_secs(10),
};
