//! Blocks: which header may follow, and what it covers.

use std::collections::BTreeMap;

use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, GenesisId, Height, NodeId, ValidatorId};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::certificate::{CertificateError, era_domain, verify_certificate};
use crate::recovery::{Opened, RecoveryError, check_members, goes_on_from};
use crate::state::{Source, State, lens};
use crate::validators::ValidatorSet;

/// How far a header's time may lie from the clock of a validator that votes for it.
pub const TIME_UNCERTAINTY_MS: u32 = 30_000;

/// Logs that a block covers: 160 KiB of its body. Where more grew, the next blocks cover them.
pub const BLOCK_LOGS_MAX: usize = 2048;

/// Entries of one log that a block covers more than the one before: who was shown another log than a block covers takes them
/// over at once, so they bound what that holds in memory.
pub const BLOCK_ENTRIES_MAX: u64 = 4096;

/// SHA-256 of bytes that are a canonical message.
pub fn digest_of_bytes(bytes: &[u8]) -> Digest {
    Digest(Sha256::digest(bytes).into())
}

/// A block that [`State::check_block`] or [`State::check_proposal`] found valid.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedBlock {
    pub(crate) header: v1::Header,
    pub(crate) digest: Digest,
    pub(crate) frontier: Vec<v1::Frontier>,
    pub(crate) next: ValidatorSet,
    pub(crate) opened: Option<Opened>,
}

/// Who decides a block, and in which era.
struct Deciding<'a> {
    era: u64,
    validators: &'a ValidatorSet,
}

impl CheckedBlock {
    /// Its height.
    pub fn height(&self) -> Height {
        Height(self.header.height)
    }

    /// The digest of its header.
    pub fn digest(&self) -> Digest {
        self.digest
    }
}

/// Why a block is not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError {
    /// A part that must be there is not.
    #[error("the block's {what} is missing")]
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
    /// A block of another network.
    #[error("the block is of network {got}, this is {want}")]
    OtherNetwork {
        /// The network it names.
        got: GenesisId,
        /// This one.
        want: GenesisId,
    },
    /// It is here, or lies below the tip.
    #[error("block {height} is here already")]
    Known {
        /// Its height.
        height: u64,
    },
    /// Another block is here at this height, and both are certified: the history forked.
    #[error("two certified blocks at height {height}: {have} is here, {got} came")]
    Forked {
        /// Their height.
        height: u64,
        /// The digest of the header that is here.
        have: Digest,
        /// The digest of the one that came.
        got: Digest,
    },
    /// Blocks before it have not arrived.
    #[error("block {got} came, the tip is {have}: those between are missing")]
    Gap {
        /// The height of the tip.
        have: u64,
        /// The height of the one that came.
        got: u64,
    },
    /// It does not follow the tip.
    #[error("block {height} names {got} as the header before, that is {want}")]
    Previous {
        /// Its height.
        height: u64,
        /// The digest it names.
        got: Digest,
        /// The digest of the tip.
        want: Digest,
    },
    /// Its time lies before that of the header before.
    #[error("block {height} is of {got_ms}, the one before is of {before_ms}")]
    Time {
        /// Its height.
        height: u64,
        /// Its time.
        got_ms: u64,
        /// The time of the header before.
        before_ms: u64,
    },
    /// Its time is too far from our clock to vote for it.
    #[error("block {height} is of {got_ms}, our clock says {now_ms}: at most {TIME_UNCERTAINTY_MS} ms between them")]
    Clock {
        /// Its height.
        height: u64,
        /// Its time.
        got_ms: u64,
        /// Our clock.
        now_ms: u64,
    },
    /// It claims another certainty of time than validators vouch for.
    #[error("a time within {got_ms} ms, {TIME_UNCERTAINTY_MS} are due")]
    Uncertainty {
        /// What it claims.
        got_ms: u32,
    },
    /// It is of another era.
    #[error("a header of era {got}, this is era {want}")]
    Era {
        /// Its era.
        got: u64,
        /// The era here.
        want: u64,
    },
    /// The recovery that opens its era does not count.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// Its producer is no validator of this height.
    #[error("its producer {producer} is no validator of this height")]
    Producer {
        /// Who made it.
        producer: ValidatorId,
    },
    /// The frontier is not ordered by author, or names one twice.
    #[error("the frontier is out of order at {index}")]
    FrontierOrder {
        /// Position of the first false one.
        index: usize,
    },
    /// It names a log that did not grow, or takes back what was final.
    #[error("the frontier has {got} entries of node {author}, {have} are final already")]
    NotGrown {
        /// The author.
        author: NodeId,
        /// Entries that are final.
        have: u64,
        /// Entries it covers.
        got: u64,
    },
    /// It covers entries that a retired node wrote after its log was closed.
    #[error("the frontier has {got} entries of retired node {author}, its log ended with {len}")]
    Closed {
        /// The author.
        author: NodeId,
        /// Entries it has for good.
        len: u64,
        /// Entries the block covers.
        got: u64,
    },
    /// It covers entries that have not arrived: they come first.
    #[error("the frontier has {need} entries of node {author}, {have} are here")]
    Missing {
        /// The author.
        author: NodeId,
        /// Entries that are here.
        have: u64,
        /// Entries it covers.
        need: u64,
    },
    /// It covers other entries than those that are here: their author wrote both.
    #[error("the first {len} entries of node {author} have root {got} in the frontier, {have} here")]
    OtherLog {
        /// The author.
        author: NodeId,
        /// Entries it covers.
        len: u64,
        /// The root of those that are here.
        have: Digest,
        /// The root it names.
        got: Digest,
    },
    /// The header commits to something else than what follows here.
    #[error("the header's {what} is {got}, here it is {want}")]
    Commits {
        /// The part.
        what: &'static str,
        /// What the header has.
        got: Digest,
        /// What follows here.
        want: Digest,
    },
    /// It names the next validators where they do not change, or others than follow, or none where they do.
    #[error("block {height} does not name the next validators exactly where they change")]
    NextValidators {
        /// Its height.
        height: u64,
    },
    /// The certificate does not make it final.
    #[error("the certificate is none: {0}")]
    Certificate(#[from] CertificateError),
    /// It covers more logs than a block may.
    #[error("it covers {got} logs, {max} at most are due")]
    Logs {
        /// How many.
        got: usize,
        /// How many it may.
        max: usize,
    },
    /// It covers more of a log than a block may.
    #[error("it covers {got} more entries of node {}, {max} at most are due", author.short())]
    Entries {
        /// Whose log.
        author: NodeId,
        /// Entries that no block before covers.
        got: u64,
        /// How many it may.
        max: u64,
    },
}

impl BlockError {
    /// Whether no honest node can have taken it, whatever it knows: whoever shows it made it up.
    pub fn is_forged(&self) -> bool {
        matches!(self, Self::Certificate(_))
    }
}

impl State {
    /// What comes next after the tip: a header and what it commits to, covering all that is open here; the first of an era
    /// where a recovery opens one.
    pub fn next_block(&self, producer: &ValidatorId, now_ms: u64, opened: Option<&Opened>) -> (v1::Header, v1::Body) {
        let deciding = self.deciding(opened);
        let frontier = self.open_frontier();
        let height = Height(self.height().0 + 1);
        let lens = self.lens_after(&frontier.iter().filter_map(lens).collect());
        let (state_root, next) = self.after(height, &lens, opened);
        let bytes = |digest: &Digest| Bytes::copy_from_slice(digest.as_bytes());
        let header = v1::Header {
            genesis: Bytes::copy_from_slice(self.genesis_id().as_bytes()),
            height: height.0,
            previous: bytes(&self.tip_digest()),
            time_ms: now_ms.max(self.time_before()),
            uncertainty_ms: TIME_UNCERTAINTY_MS,
            frontier_root: bytes(&self.frontier_root_after(&frontier)),
            state_root: bytes(&state_root),
            history_root: bytes(&self.history_root()),
            validators: bytes(&deciding.validators.digest()),
            next_validators: bytes(&next.digest()),
            recovery: bytes(&self.recovery_digest()),
            era: deciding.era,
            producer: Bytes::copy_from_slice(producer.as_bytes()),
        };
        let next_validators = (next != *deciding.validators).then(|| next.to_message());
        (header, v1::Body { frontier, next_validators, recovery: opened.map(|opened| opened.signed.clone()) })
    }

    /// Whether a block follows the tip, covers only entries that are here, and is final.
    ///
    /// # Errors
    /// [`BlockError`]. [`BlockError::Gap`] and [`BlockError::Missing`] only say that something else must arrive first.
    pub fn check_block(&self, block: &v1::Block) -> Result<CheckedBlock, BlockError> {
        self.check_block_from(Source::Anybody, block)
    }

    /// As [`State::check_block`], of a block that was checked before it was stored, and whose bytes the store vouches for:
    /// the votes of its certificate are not verified again.
    ///
    /// # Errors
    /// As [`State::check_block`], but for the certificate.
    pub fn check_stored_block(&self, block: &v1::Block) -> Result<CheckedBlock, BlockError> {
        self.check_block_from(Source::Store, block)
    }

    fn check_block_from(&self, source: Source, block: &v1::Block) -> Result<CheckedBlock, BlockError> {
        let (header, certificate) = header_and_certificate(&block.header, &block.certificate)?;
        let body = block.body.as_ref().ok_or(BlockError::Absent { what: "body" })?;
        let opened = self.opened_by(header, body.recovery.as_ref())?;
        let header_digest = self.check_final(source, header, certificate, opened.as_ref())?;
        self.check_body(header, header_digest, body, opened)
    }

    /// Whether a header is the next one after the tip and final, as far as can be said without the body it commits to;
    /// returns its digest, by which that is asked for.
    ///
    /// # Errors
    /// As [`State::check_block`], but for what only the body shows.
    pub fn check_header(&self, signed: &v1::SignedHeader) -> Result<Digest, BlockError> {
        let (header, certificate) = header_and_certificate(&signed.header, &signed.certificate)?;
        let opened = self.opened_by(header, signed.recovery.as_ref())?;
        self.check_final(Source::Anybody, header, certificate, opened.as_ref())
    }

    fn check_final(
        &self,
        source: Source,
        header: &v1::Header,
        certificate: &v1::Certificate,
        opened: Option<&Opened>,
    ) -> Result<Digest, BlockError> {
        let deciding = self.deciding(opened);
        let header_digest = self.follows(header, &deciding)?;
        if source == Source::Anybody {
            let (height, domain) = (Height(header.height), era_domain(&self.genesis_id(), deciding.era));
            verify_certificate(certificate, &domain, height, &header_digest, deciding.validators)?;
        }
        Ok(header_digest)
    }

    /// Whether a block that is only proposed may be decided: all but its certificate.
    ///
    /// # Errors
    /// As [`State::check_block`].
    pub fn check_proposal(&self, header: &v1::Header, body: &v1::Body) -> Result<CheckedBlock, BlockError> {
        let opened = self.opened_by(header, body.recovery.as_ref())?;
        let header_digest = self.follows(header, &self.deciding(opened.as_ref()))?;
        self.check_body(header, header_digest, body, opened)
    }

    /// Whether a recovery may open the next era here: enough holders signed it, the witnesses saw the delay pass, it goes
    /// on from the tip, and with members.
    ///
    /// # Errors
    /// [`RecoveryError`]. [`RecoveryError::OtherTip`] where a block of the old era voids it.
    pub fn check_opening(&self, signed: &v1::SignedRecovery) -> Result<Opened, RecoveryError> {
        let opened = self.check_announced(signed)?;
        self.eras().check_opening(signed)?;
        Ok(opened)
    }

    /// As [`State::check_opening`], but for the witnesses.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn check_announced(&self, signed: &v1::SignedRecovery) -> Result<Opened, RecoveryError> {
        let validators = self.eras().check_announced(signed)?;
        let recovery = signed.recovery.as_ref().ok_or(RecoveryError::Absent { what: "message" })?;
        if !goes_on_from(recovery, self.height(), &self.tip_digest()) {
            return Err(RecoveryError::OtherTip { got: recovery.height, have: self.height().0 });
        }
        check_members(&validators, |member| self.member(member).is_some())?;
        Ok(Opened { signed: signed.clone(), era: recovery.era, validators })
    }

    /// The recovery that came along with a header, if that follows the tip at all.
    fn opened_by(
        &self,
        header: &v1::Header,
        recovery: Option<&v1::SignedRecovery>,
    ) -> Result<Option<Opened>, BlockError> {
        match recovery {
            Some(signed) if header.height == self.height().0 + 1 => Ok(Some(self.check_opening(signed)?)),
            _ => Ok(None),
        }
    }

    fn deciding<'a>(&'a self, opened: Option<&'a Opened>) -> Deciding<'a> {
        match opened {
            Some(Opened { era, validators, .. }) => Deciding { era: *era, validators },
            None => Deciding { era: self.era(), validators: self.validators() },
        }
    }

    /// Whether a validator whose clock says `now_ms` may vote for this header's time. A time that does not move on is
    /// fine: what lies before is final, whatever the clocks said.
    ///
    /// # Errors
    /// [`BlockError::Clock`].
    pub fn check_clock(&self, header: &v1::Header, now_ms: u64) -> Result<(), BlockError> {
        let away = header.time_ms.abs_diff(now_ms);
        if header.time_ms == self.time_before() || away <= u64::from(TIME_UNCERTAINTY_MS) {
            return Ok(());
        }
        Err(BlockError::Clock { height: header.height, got_ms: header.time_ms, now_ms })
    }

    /// Takes a checked block; returns its height.
    ///
    /// # Panics
    /// If another block was applied since it was checked.
    pub fn apply_block(&mut self, checked: CheckedBlock) -> Height {
        let height = checked.height();
        assert_eq!(height.0, self.height().0 + 1, "a block is applied to the state it was checked against");
        self.cover(checked);
        height
    }

    /// Whether a header of a height that is final here, where the one here has the digest `have`, was certified too: then
    /// the history forked, and both are the proof.
    ///
    /// # Errors
    /// [`BlockError::Forked`] with both digests if it did; [`BlockError::Certificate`] if this one is false.
    pub fn check_fork(&self, signed: &v1::SignedHeader, have: &Digest) -> Result<(), BlockError> {
        let (header, certificate) = header_and_certificate(&signed.header, &signed.certificate)?;
        let (got, height) = (digest(header), Height(header.height));
        if got == *have {
            return Ok(());
        }
        // An era that was opened elsewhere, while the old one went on here, is a fork too.
        let recovery = signed.recovery.as_ref();
        let opened = recovery.filter(|_| header.era == self.era() + 1).map(|signed| self.eras().check_opening(signed));
        let opened = opened.transpose()?;
        let validators = opened.as_ref().or_else(|| self.validators_in(header.era, height));
        let validators = validators.ok_or(BlockError::Era { got: header.era, want: self.era_at(height) })?;
        let domain = era_domain(&self.genesis_id(), header.era);
        verify_certificate(certificate, &domain, height, &got, validators)?;
        Err(BlockError::Forked { height: height.0, have: *have, got })
    }

    /// Whether a header is the next one after the tip, as far as can be said without its body.
    fn follows(&self, header: &v1::Header, deciding: &Deciding<'_>) -> Result<Digest, BlockError> {
        let genesis = GenesisId(fixed("the header's network", &header.genesis)?);
        if genesis != self.genesis_id() {
            return Err(BlockError::OtherNetwork { got: genesis, want: self.genesis_id() });
        }
        let (height, tip) = (header.height, self.height().0);
        if height <= tip {
            return Err(BlockError::Known { height });
        }
        if height != tip + 1 {
            return Err(BlockError::Gap { have: tip, got: height });
        }
        let (previous, want) = (Digest(fixed("the digest of the header before", &header.previous)?), self.tip_digest());
        if previous != want {
            return Err(BlockError::Previous { height, got: previous, want });
        }
        if header.time_ms < self.time_before() {
            return Err(BlockError::Time { height, got_ms: header.time_ms, before_ms: self.time_before() });
        }
        if header.uncertainty_ms != TIME_UNCERTAINTY_MS {
            return Err(BlockError::Uncertainty { got_ms: header.uncertainty_ms });
        }
        if header.era != deciding.era {
            return Err(BlockError::Era { got: header.era, want: deciding.era });
        }
        let producer = ValidatorId(fixed("the header's producer", &header.producer)?);
        if deciding.validators.position(&producer).is_none() {
            return Err(BlockError::Producer { producer });
        }
        commits("history", &header.history_root, self.history_root())?;
        commits("validators", &header.validators, deciding.validators.digest())?;
        commits("recovery policy", &header.recovery, self.recovery_digest())?;
        Ok(digest(header))
    }

    fn check_body(
        &self,
        header: &v1::Header,
        header_digest: Digest,
        body: &v1::Body,
        opened: Option<Opened>,
    ) -> Result<CheckedBlock, BlockError> {
        let lens = self.lens_after(&self.check_frontier(&body.frontier)?);
        commits("frontier", &header.frontier_root, self.frontier_root_after(&body.frontier))?;
        let (state_root, next) = self.after(Height(header.height), &lens, opened.as_ref());
        commits("state", &header.state_root, state_root)?;
        commits("next validators", &header.next_validators, next.digest())?;
        let want = (next != *self.deciding(opened.as_ref()).validators).then(|| next.to_message());
        if body.next_validators != want {
            return Err(BlockError::NextValidators { height: header.height });
        }
        let (header, frontier) = (header.clone(), body.frontier.clone());
        Ok(CheckedBlock { header, digest: header_digest, frontier, next, opened })
    }

    fn check_frontier(&self, frontier: &[v1::Frontier]) -> Result<BTreeMap<NodeId, u64>, BlockError> {
        if frontier.len() > BLOCK_LOGS_MAX {
            return Err(BlockError::Logs { got: frontier.len(), max: BLOCK_LOGS_MAX });
        }
        let mut lens = BTreeMap::new();
        let mut before = None;
        for (index, item) in frontier.iter().enumerate() {
            let author = NodeId(fixed("an author of the frontier", &item.author)?);
            if before >= Some(author) {
                return Err(BlockError::FrontierOrder { index });
            }
            before = Some(author);
            self.check_log(author, item)?;
            lens.insert(author, item.len);
        }
        Ok(lens)
    }

    fn check_log(&self, author: NodeId, item: &v1::Frontier) -> Result<(), BlockError> {
        let need = item.len;
        let log = self.entries(&author).ok_or(BlockError::Missing { author, have: 0, need })?;
        if need <= log.final_len() {
            return Err(BlockError::NotGrown { author, have: log.final_len(), got: need });
        }
        if need - log.final_len() > BLOCK_ENTRIES_MAX {
            return Err(BlockError::Entries { author, got: need - log.final_len(), max: BLOCK_ENTRIES_MAX });
        }
        if let Some(len) = log.closed.filter(|len| *len < need) {
            return Err(BlockError::Closed { author, len, got: need });
        }
        let want = log.root_at(need).ok_or(BlockError::Missing { author, have: log.len(), need })?;
        let got = Digest(fixed("the root of a log", &item.root)?);
        if got == want { Ok(()) } else { Err(BlockError::OtherLog { author, len: need, have: want, got }) }
    }

    /// No header may be of an earlier time.
    pub(crate) fn time_before(&self) -> u64 {
        self.tip().map_or(self.genesis().time_ms, |header| header.time_ms)
    }

    /// What every header names as the recovery policy.
    pub(crate) fn recovery_digest(&self) -> Digest {
        digest(&self.genesis().recovery.clone().unwrap_or_default())
    }
}

fn header_and_certificate<'a>(
    header: &'a Option<v1::Header>,
    certificate: &'a Option<v1::Certificate>,
) -> Result<(&'a v1::Header, &'a v1::Certificate), BlockError> {
    let header = header.as_ref().ok_or(BlockError::Absent { what: "header" })?;
    Ok((header, certificate.as_ref().ok_or(BlockError::Absent { what: "certificate" })?))
}

fn commits(what: &'static str, got: &[u8], want: Digest) -> Result<(), BlockError> {
    let got = Digest(fixed(what, got)?);
    if got == want { Ok(()) } else { Err(BlockError::Commits { what, got, want }) }
}

fn fixed(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], BlockError> {
    bytes.try_into().map_err(|_| BlockError::Length { what, got: bytes.len() })
}

#[cfg(test)]
mod tests;
