//! Blocks: which header may follow, and what it covers.

use std::collections::BTreeMap;
use std::fmt;

use bithealth_merkle::leaf_hash;
use bithealth_proto::{digest, encode, v1};
use bithealth_types::{Digest, GenesisId, Height, NodeId};
use bytes::Bytes;

use crate::state::State;

const HEADER_LABEL: &[u8] = b"bithealth header v1";

/// What a vote for a header signs: a label and the header's digest.
pub fn header_message(header: &v1::Header) -> Vec<u8> {
    [HEADER_LABEL, digest(header).as_bytes()].concat()
}

/// A block that [`State::check_block`] found valid.
#[derive(Clone, Debug, PartialEq)]
pub struct CheckedBlock {
    header: v1::Header,
    digest: Digest,
    frontier: BTreeMap<NodeId, u64>,
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

/// Why a block is not taken. `E` says why a certificate is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BlockError<E: fmt::Display> {
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
    /// The frontier is not ordered by author, or names one twice, or an empty log.
    #[error("the frontier is out of order at {index}, or its log is empty")]
    FrontierOrder {
        /// Position of the first false one.
        index: usize,
    },
    /// It takes back what was final.
    #[error("the frontier has {got} entries of node {author}, {have} are final")]
    Shrinks {
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
    /// It covers another entry than the one that is here: its author wrote both.
    #[error("entry {sequence} of node {author} is {got} in the frontier, {have} is here")]
    OtherEntry {
        /// The author.
        author: NodeId,
        /// The position.
        sequence: u64,
        /// The digest of the entry that is here.
        have: Digest,
        /// The digest of the one it covers.
        got: Digest,
    },
    /// The certificate is for another header.
    #[error("the certificate is for header {got}, this is {want}")]
    OtherHeader {
        /// The digest it names.
        got: Digest,
        /// The digest of the header.
        want: Digest,
    },
    /// The certificate does not make it final.
    #[error("the certificate is none: {0}")]
    Certificate(E),
    /// The header commits to another frontier.
    #[error("the frontier's root is {got}, the header has {want}")]
    FrontierRoot {
        /// The root of the frontier that came.
        got: Digest,
        /// The root in the header.
        want: Digest,
    },
    /// The header commits to another state.
    #[error("the state's root is {want}, the header has {got}")]
    StateRoot {
        /// The root in the header.
        got: Digest,
        /// The root of the state that follows here.
        want: Digest,
    },
}

impl State {
    /// The header that comes next and the frontier it commits to; `None` where nothing came since the tip.
    pub fn next_header(&self, producer: &NodeId, now_ms: u64) -> Option<(v1::Header, Vec<v1::Frontier>)> {
        let frontier = self.frontier();
        let lens: BTreeMap<NodeId, u64> = frontier.iter().filter_map(lens).collect();
        if lens.iter().all(|(author, len)| self.log_lens(author).1 == *len) {
            return None;
        }
        let height = Height(self.height().0 + 1);
        let header = v1::Header {
            genesis: Bytes::copy_from_slice(self.genesis_id().as_bytes()),
            height: height.0,
            previous: Bytes::copy_from_slice(self.tip_digest().as_bytes()),
            time_ms: now_ms.max(self.time_before()),
            frontier_root: Bytes::copy_from_slice(frontier_root(&frontier).as_bytes()),
            state_root: Bytes::copy_from_slice(self.root_after(height, &lens).as_bytes()),
            producer: Bytes::copy_from_slice(producer.as_bytes()),
        };
        Some((header, frontier))
    }

    /// Whether a block follows the tip, covers only entries that are here, and is final: `certified` says the last.
    ///
    /// What is missing is said before the certificate is looked at, since that may rest on entries the block covers.
    ///
    /// # Errors
    /// [`BlockError`]. [`BlockError::Gap`] and [`BlockError::Missing`] only say that something else must arrive first.
    pub fn check_block<E: fmt::Display>(
        &self,
        block: &v1::Block,
        certified: impl FnOnce(&State, &v1::Header, &v1::Certificate) -> Result<(), E>,
    ) -> Result<CheckedBlock, BlockError<E>> {
        let header = block.header.as_ref().ok_or(BlockError::Absent { what: "header" })?;
        let certificate = block.certificate.as_ref().ok_or(BlockError::Absent { what: "certificate" })?;
        let header_digest = digest(header);
        let genesis = GenesisId(fixed("the header's network", &header.genesis)?);
        if genesis != self.genesis_id() {
            return Err(BlockError::OtherNetwork { got: genesis, want: self.genesis_id() });
        }
        fixed("the header's producer", &header.producer)?;
        let named = Digest(fixed("the header the certificate names", &certificate.header)?);
        if named != header_digest {
            return Err(BlockError::OtherHeader { got: named, want: header_digest });
        }
        let (height, tip) = (header.height, self.height().0);
        if height <= tip {
            return Err(self.below_tip(header, header_digest, certificate, certified));
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
        let frontier = self.check_frontier(&block.frontier)?;
        certified(self, header, certificate).map_err(BlockError::Certificate)?;
        let (got, want) =
            (frontier_root(&block.frontier), Digest(fixed("the frontier's root", &header.frontier_root)?));
        if got != want {
            return Err(BlockError::FrontierRoot { got, want });
        }
        let (got, want) =
            (Digest(fixed("the state's root", &header.state_root)?), self.root_after(Height(height), &frontier));
        if got != want {
            return Err(BlockError::StateRoot { got, want });
        }
        Ok(CheckedBlock { header: header.clone(), digest: header_digest, frontier })
    }

    /// Takes a checked block; returns its height.
    ///
    /// # Panics
    /// If another block was applied since it was checked.
    pub fn apply_block(&mut self, checked: CheckedBlock) -> Height {
        let height = checked.height();
        assert_eq!(height.0, self.height().0 + 1, "a block is applied to the state it was checked against");
        self.cover(checked.header, checked.digest, &checked.frontier);
        height
    }

    fn below_tip<E: fmt::Display>(
        &self,
        header: &v1::Header,
        got: Digest,
        certificate: &v1::Certificate,
        certified: impl FnOnce(&State, &v1::Header, &v1::Certificate) -> Result<(), E>,
    ) -> BlockError<E> {
        let (height, have) = (header.height, self.tip_digest());
        if height < self.height().0 || got == have || height == 0 {
            return BlockError::Known { height };
        }
        match certified(self, header, certificate) {
            Ok(()) => BlockError::Forked { height, have, got },
            Err(error) => BlockError::Certificate(error),
        }
    }

    fn check_frontier<E: fmt::Display>(
        &self,
        frontier: &[v1::Frontier],
    ) -> Result<BTreeMap<NodeId, u64>, BlockError<E>> {
        let mut lens = BTreeMap::new();
        let mut before = None;
        for (index, item) in frontier.iter().enumerate() {
            let author = NodeId(fixed("an author of the frontier", &item.author)?);
            if before >= Some(author) || item.len == 0 {
                return Err(BlockError::FrontierOrder { index });
            }
            before = Some(author);
            lens.insert(author, item.len);
        }
        for (author, have) in self.final_logs() {
            let got = lens.get(author).copied().unwrap_or(0);
            if got < have {
                return Err(BlockError::Shrinks { author: *author, have, got });
            }
        }
        for (item, (author, need)) in frontier.iter().zip(&lens) {
            let (have, _, closed) = self.log_lens(author);
            if let Some(len) = closed.filter(|len| len < need) {
                return Err(BlockError::Closed { author: *author, len, got: *need });
            }
            let sequence = need - 1;
            let Some(here) = self.digest_at(author, sequence) else {
                return Err(BlockError::Missing { author: *author, have, need: *need });
            };
            let got = Digest(fixed("the digest of a last entry", &item.last)?);
            if got != here {
                return Err(BlockError::OtherEntry { author: *author, sequence, have: here, got });
            }
        }
        Ok(lens)
    }

    /// No header may be of an earlier time.
    fn time_before(&self) -> u64 {
        self.tip().map_or(self.genesis().time_ms, |header| header.time_ms)
    }
}

fn lens(item: &v1::Frontier) -> Option<(NodeId, u64)> {
    Some((NodeId::try_from(item.author.as_ref()).ok()?, item.len))
}

fn frontier_root(frontier: &[v1::Frontier]) -> Digest {
    bithealth_merkle::root(&frontier.iter().map(|item| leaf_hash(&encode(item))).collect::<Vec<_>>())
}

fn fixed<E: fmt::Display>(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], BlockError<E>> {
    bytes.try_into().map_err(|_| BlockError::Length { what, got: bytes.len() })
}

#[cfg(test)]
mod tests;
