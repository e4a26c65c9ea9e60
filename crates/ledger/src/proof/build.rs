//! Puts a proof together.

use bithealth_merkle::{MapProof, inclusion_proof, prove};
use bithealth_proto::{decode, v1};
use bithealth_types::{Digest, NodeId};
use bytes::Bytes;

use super::{NotProven, check_proof};
use crate::log::frontier;
use crate::state::State;

/// What a proof is made of. Whoever holds the blocks and the author's log has it all.
#[derive(Clone, Debug)]
pub struct Parts<'a> {
    /// What is to be proven.
    pub entry: v1::SignedEntry,
    /// The leaves of its author's log ([`crate::entry_leaf`]), at least those that the head covers.
    pub leaves: &'a [Digest],
    /// Its author's frontier at the head: [`State::prove_frontier`].
    pub frontier: (v1::Frontier, MapProof),
    /// The headers with which the validators changed, in order; those from the head on are left out.
    pub changes: Vec<v1::SignedHeader>,
    /// The header at whose height the entry is proven.
    pub head: v1::SignedHeader,
    /// What its commitment was made of, to prove a file besides.
    pub opening: Option<v1::Opening>,
    /// Where a record is in the pack that the entry commits, to prove it besides.
    pub record: Option<v1::RecordOpening>,
}

impl State {
    /// How much of an author's log the tip covers, and the proof that it does; `None` while it covers none of it.
    pub fn prove_frontier(&self, author: &NodeId) -> Option<(v1::Frontier, MapProof)> {
        let log = self.log(author).filter(|log| log.final_len > 0)?;
        Some((frontier(author, log.final_len, &log.final_root), prove(self.frontiers(), author.as_bytes())))
    }
}

/// The proof that these parts make. It was checked: what is built here convinces others as well.
///
/// # Errors
/// [`NotProven`] if the parts do not belong together, or make a proof that is too long.
pub fn build_proof(genesis: &v1::Genesis, parts: Parts<'_>) -> Result<v1::Proof, NotProven> {
    let Parts { entry, leaves, frontier: (frontier, map), mut changes, head, opening, record } = parts;
    let index = decode::<v1::Entry>(&entry.entry)?.sequence;
    // Where a leaf is missing the path stays empty, and the check says what is wrong.
    let covered = usize::try_from(frontier.len).ok().and_then(|len| leaves.get(..len));
    let path = covered.and_then(|leaves| inclusion_proof(leaves, index)).unwrap_or_default();
    changes.retain(|change| height(change) < height(&head));
    let proof = v1::Proof {
        genesis: bytes(&Digest(genesis.id().0)),
        changes,
        head: Some(head),
        frontier: Some(frontier),
        frontier_proof: map.neighbours.first().map(|neighbour| v1::FrontierProof {
            count: map.len,
            tree: bytes(&map.tree),
            index: neighbour.index,
            path: neighbour.path.iter().map(bytes).collect(),
        }),
        entry: Some(entry),
        index,
        path: path.iter().map(bytes).collect(),
        opening,
        record,
    };
    check_proof(genesis, &proof)?;
    Ok(proof)
}

fn height(signed: &v1::SignedHeader) -> Option<u64> {
    signed.header.as_ref().map(|header| header.height)
}

fn bytes(digest: &Digest) -> Bytes {
    Bytes::copy_from_slice(digest.as_bytes())
}
