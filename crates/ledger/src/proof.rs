//! Proofs that leave the network: one file shows to anybody who has the genesis, offline, that an entry was in its
//! author's log at a height.
//!
//! | step | from | to |
//! |---|---|---|
//! | changes | the validators of the genesis | those who decide the head |
//! | certificate | these | the head |
//! | frontier | the head's `frontier_root` | length and root of the author's log |
//! | path | that root | the entry |
//! | opening | the entry's commitment | the digest of a file that lies elsewhere |
//! | record | the `heads_root` of the pack that the entry commits | the id of a record and the digest of its contents |
//!
//! Whoever trusts the genesis and a quorum of every set of validators since has to trust nobody else, the bearer least.

mod build;
mod record;

pub use build::{Parts, build_proof};
pub use record::ProvenRecord;

use bithealth_merkle::{MapError, MapProof, Neighbour, ProofError, verify_inclusion, verify_present};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_proto::{DecodeError, Limited, decode, encode};
use bithealth_types::{Digest, GenesisId, Height, NodeId, Sequence};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::certificate::signers;
use crate::entry::{entry_digest, message};
use crate::light::{LightError, Skip};
use crate::log::{entry_leaf, frontier_value};
use crate::member::signed_by;
use crate::state::GenesisError;

const NOTARISE_LABEL: &[u8] = b"bithealth notarise v1";

/// What a proof shows.
#[derive(Clone, Debug, PartialEq)]
pub struct Proven {
    /// The height at which the entry was final.
    pub height: Height,
    /// The time of that header, in milliseconds since 1970: the entry was written before it.
    pub time_ms: u64,
    /// How far that may be from the clocks of those who decided it.
    pub uncertainty_ms: u32,
    /// Whose entry it is.
    pub author: NodeId,
    /// Its position in its author's log.
    pub sequence: Sequence,
    /// What names it.
    pub entry_digest: Digest,
    /// The entry. Its own time is what its author claims.
    pub entry: v1::Entry,
    /// SHA-256 of the file it notarises, where the proof opens the commitment.
    pub file: Option<Digest>,
    /// The record whose pack it commits, where the proof shows one.
    pub record: Option<ProvenRecord>,
    /// How many decided that height.
    pub validators: usize,
    /// How many of them signed it.
    pub votes: usize,
}

/// Why a proof proves nothing.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotProven {
    /// Longer than a proof may be.
    #[error("a proof of {got} bytes, at most {max} are accepted")]
    TooLong {
        /// Its bytes.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// A part that must be there is not.
    #[error("the proof's {what} is missing")]
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
    /// It is about another network.
    #[error("the proof is of network {got}, the genesis is that of {want}")]
    OtherNetwork {
        /// The network it names.
        got: GenesisId,
        /// The one asked about.
        want: GenesisId,
    },
    /// The genesis is none.
    #[error("the genesis is none: {0}")]
    Genesis(#[from] GenesisError),
    /// A change of validators is not believed.
    #[error("change {index} of the validators: {source}")]
    Change {
        /// Its position.
        index: usize,
        /// Why.
        source: LightError,
    },
    /// A header among the changes changes nothing.
    #[error("header {height} stands among the changes of validators and changes none")]
    Unchanged {
        /// Its height.
        height: u64,
    },
    /// The head is not believed.
    #[error("the head: {0}")]
    Head(LightError),
    /// The head does not cover this frontier.
    #[error("the author's frontier: {0}")]
    Frontier(MapError),
    /// Not an entry in its canonical encoding, or too long.
    #[error("the entry cannot be read: {0}")]
    Entry(#[from] DecodeError),
    /// The frontier is of another log than the entry.
    #[error("the entry is of node {got}, the frontier of {want}")]
    OtherAuthor {
        /// The entry's author, as hexadecimal.
        got: String,
        /// The frontier's.
        want: NodeId,
    },
    /// The entry belongs elsewhere in the log.
    #[error("the entry stands at {sequence} of its log, the proof is about {got}")]
    Index {
        /// Where the proof has it.
        got: u64,
        /// Where it says itself that it belongs.
        sequence: u64,
    },
    /// The log does not have the entry there.
    #[error("the path to the author's log: {0}")]
    Path(ProofError),
    /// Not signed by its author.
    #[error("entry {sequence} is not signed by its author, node {author}")]
    BadSignature {
        /// The author.
        author: NodeId,
        /// Its position.
        sequence: u64,
    },
    /// There is nothing to open.
    #[error("the proof opens a commitment, entry {sequence} has none")]
    NothingToOpen {
        /// The entry's position.
        sequence: u64,
    },
    /// The entry notarises something else.
    #[error("salt and file give the commitment {got}, the entry has another")]
    OtherFile {
        /// What they give.
        got: Digest,
    },
    /// The entry commits no pack.
    #[error("the proof shows a record, entry {sequence} commits no pack")]
    NoPack {
        /// The entry's position.
        sequence: u64,
    },
    /// No record in its canonical form.
    #[error("the record's id has {got} bytes, 16 are due")]
    RecordId {
        /// Bytes that came.
        got: usize,
    },
    /// The folder does not have the record, or the pack does not have the folder.
    #[error("the path from the pack to the record: {0}")]
    Record(ProofError),
}

/// What an entry notarises of the file with this digest: SHA-256 of `bithealth notarise v1`, the salt and the digest.
pub fn commitment(salt: &[u8; 32], file: &Digest) -> Digest {
    let hash = Sha256::new().chain_update(NOTARISE_LABEL).chain_update(salt).chain_update(file.as_bytes());
    Digest(hash.finalize().into())
}

/// Checks a proof against the genesis of the network it should be about.
///
/// # Errors
/// [`NotProven`] if any part of it is missing, false or more than it takes.
pub fn check_proof(genesis: &v1::Genesis, proof: &v1::Proof) -> Result<Proven, NotProven> {
    let (got, max) = (encode(proof).len(), v1::Proof::LEN_MAX);
    if got > max {
        return Err(NotProven::TooLong { got, max });
    }
    let head = check_head(genesis, proof)?;
    let frontier = proof.frontier.as_ref().ok_or(NotProven::Absent { what: "frontier" })?;
    let author = check_frontier(&head.frontier_root, frontier, proof.frontier_proof.as_ref())?;
    let signed = proof.entry.as_ref().ok_or(NotProven::Absent { what: "entry" })?;
    let entry = check_entry(&author, frontier, signed, proof)?;
    Ok(Proven {
        height: head.height,
        time_ms: head.time_ms,
        uncertainty_ms: head.uncertainty_ms,
        author,
        sequence: Sequence(entry.sequence),
        entry_digest: entry_digest(signed),
        file: proof.opening.as_ref().map(|opening| check_opening(&entry, opening)).transpose()?,
        record: proof.record.as_ref().map(|opening| record::check(&entry, opening)).transpose()?,
        entry,
        validators: head.validators,
        votes: head.votes,
    })
}

/// What is told of a head that is proven.
struct Head {
    height: Height,
    time_ms: u64,
    uncertainty_ms: u32,
    frontier_root: Digest,
    validators: usize,
    votes: usize,
}

/// From the genesis to the head.
fn check_head(genesis: &v1::Genesis, proof: &v1::Proof) -> Result<Head, NotProven> {
    let (got, want) = (GenesisId(fixed("the proof's network", &proof.genesis)?), genesis.id());
    if got != want {
        return Err(NotProven::OtherNetwork { got, want });
    }
    let mut skip = Skip::new(genesis)?;
    for (index, change) in proof.changes.iter().enumerate() {
        skip.to(change).map_err(|source| NotProven::Change { index, source })?;
        if change.next_validators.is_none() && change.recovery.is_none() {
            return Err(NotProven::Unchanged { height: skip.height().0 });
        }
    }
    let head = proof.head.as_ref().ok_or(NotProven::Absent { what: "head" })?;
    let validators = skip.validators().clone();
    skip.to(head).map_err(NotProven::Head)?;
    let (header, certificate) =
        head.header.as_ref().zip(head.certificate.as_ref()).expect("a head that is believed has both");
    Ok(Head {
        height: skip.height(),
        time_ms: header.time_ms,
        uncertainty_ms: header.uncertainty_ms,
        frontier_root: Digest(fixed("the frontier root", &header.frontier_root)?),
        validators: validators.count(),
        votes: signers(certificate, &validators).expect("the certificate was verified").len(),
    })
}

/// From the head to the author's log.
fn check_frontier(
    root: &Digest,
    frontier: &v1::Frontier,
    proof: Option<&v1::FrontierProof>,
) -> Result<NodeId, NotProven> {
    let proof = proof.ok_or(NotProven::Absent { what: "path from the head to the frontier" })?;
    let author = NodeId(fixed("the frontier's author", &frontier.author)?);
    let value = frontier_value(frontier);
    let entry = Neighbour { index: proof.index, key: author.0.to_vec(), value, path: digests(&proof.path)? };
    let tree = Digest(fixed("the tree of frontiers", &proof.tree)?);
    let proof = MapProof { len: proof.count, tree, neighbours: vec![entry] };
    verify_present(root, author.as_bytes(), &value, &proof).map_err(NotProven::Frontier)?;
    Ok(author)
}

/// From the author's log to the entry.
fn check_entry(
    author: &NodeId,
    frontier: &v1::Frontier,
    signed: &v1::SignedEntry,
    proof: &v1::Proof,
) -> Result<v1::Entry, NotProven> {
    let entry: v1::Entry = decode(&signed.entry)?;
    if entry.author != author.0.as_slice() {
        let got = HEXLOWER.encode(&entry.author);
        return Err(NotProven::OtherAuthor { got, want: *author });
    }
    let sequence = entry.sequence;
    if proof.index != sequence {
        return Err(NotProven::Index { got: proof.index, sequence });
    }
    let root = Digest(fixed("the root of the author's log", &frontier.root)?);
    verify_inclusion(&root, frontier.len, sequence, &entry_leaf(signed), &digests(&proof.path)?)
        .map_err(NotProven::Path)?;
    if !signed_by(&entry.author, &message(&entry.author, sequence, &entry_digest(signed)), &signed.signature) {
        return Err(NotProven::BadSignature { author: *author, sequence });
    }
    Ok(entry)
}

/// From the entry to the file.
fn check_opening(entry: &v1::Entry, opening: &v1::Opening) -> Result<Digest, NotProven> {
    let Some(Operation::Notarise(notarise)) = &entry.operation else {
        return Err(NotProven::NothingToOpen { sequence: entry.sequence });
    };
    let salt = fixed("the commitment's salt", &opening.salt)?;
    let file = Digest(fixed("the file's digest", &opening.file)?);
    let got = commitment(&salt, &file);
    if notarise.commitment == got.0.as_slice() { Ok(file) } else { Err(NotProven::OtherFile { got }) }
}

fn digests(path: &[bytes::Bytes]) -> Result<Vec<Digest>, NotProven> {
    path.iter().map(|bytes| fixed("a digest of a path", bytes).map(Digest)).collect()
}

fn fixed(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], NotProven> {
    bytes.try_into().map_err(|_| NotProven::Length { what, got: bytes.len() })
}

#[cfg(test)]
mod tests;
