//! Proofs that leave the network, and the headers that light clients follow.

use bithealth_http::api::{EntryAt, HEADERS_MAX, HeaderRange, ProofOf};
use bithealth_http::{ErrorBody, ErrorCode};
use bithealth_ledger::{Parts, build_proof, entry_leaf, signed_header};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_proto::{decode, encode};
use bithealth_types::{Digest, Height, NodeId, RecordId, Sequence};
use bytes::Bytes;

use crate::chain::ChainError;
use crate::node::Node;

/// Entries read at once.
const BATCH: u32 = 1024;
/// Headers of one answer take no more than this.
const ANSWER_LEN_MAX: usize = 32 << 20;

/// Proves that something was on the ledger. Blocks: reads the author's whole log, and every block for the changes of
/// validators.
///
/// # Errors
/// [`ErrorCode::NotFound`] if it is not there, [`ErrorCode::NotFinal`] while no block covers it.
pub fn prove(node: &Node, what: &ProofOf) -> Result<Bytes, ErrorBody> {
    let (at, record) = match what {
        ProofOf::Entry(at) => (*at, None),
        ProofOf::Record(record) => commit_of(node, record).map(|(at, opening)| (at, Some(opening)))?,
        ProofOf::Commitment(commitment) => (notarised(node, commitment)?, None),
    };
    // All of one moment: a block may come at any time.
    let (height, frontier, genesis) = {
        let state = node.chain.state();
        let frontier = state.prove_frontier(&at.author).filter(|(frontier, _)| at.sequence.0 < frontier.len);
        let known = state.log(&at.author).is_some_and(|log| at.sequence.0 < log.len);
        let Some(frontier) = frontier else {
            return Err(if known {
                ErrorBody::new(ErrorCode::NotFinal, "no block covers it yet")
            } else {
                let (sequence, author) = (at.sequence, at.author);
                ErrorBody::new(ErrorCode::NotFound, format_args!("there is no entry {sequence} of node {author}"))
            });
        };
        (state.height(), frontier, state.genesis().clone())
    };
    let mut leaves = Vec::new();
    let mut entry = None;
    for_each_entry(node, &at.author, frontier.0.len, |sequence, signed| {
        leaves.push(entry_leaf(signed));
        if sequence == at.sequence {
            entry = Some(signed.clone());
        }
        true
    })?;
    let mut changes = Vec::new();
    let mut head = None;
    for_each_block(node, Height(1), |block| {
        let signed = signed_header(block);
        let at = block.header.as_ref().map_or(0, |header| header.height);
        if at == height.0 {
            head = Some(signed);
            return false;
        }
        if signed.next_validators.is_some() || signed.recovery.is_some() {
            changes.push(signed);
        }
        true
    })?;
    let (Some(entry), Some(head)) = (entry, head) else {
        return Err(ErrorBody::new(ErrorCode::Damaged, "the ledger of this node has a gap; run `bithealth verify`"));
    };
    let parts = Parts { entry, leaves: &leaves, frontier, changes, head, opening: None, record };
    let proof = build_proof(&genesis, parts).map_err(|error| ErrorBody::new(ErrorCode::Damaged, error))?;
    Ok(encode(&proof).into())
}

/// Headers from a height on, each behind its length. Blocks.
///
/// # Errors
/// [`ErrorCode::Damaged`] if a block cannot be read.
pub fn headers(node: &Node, range: HeaderRange) -> Result<Bytes, ErrorBody> {
    let mut out = Vec::new();
    let mut left = HEADERS_MAX;
    for_each_block(node, range.from, |block| {
        let header = encode(&signed_header(block));
        out.extend((header.len() as u32).to_be_bytes());
        out.extend(header);
        left -= 1;
        left > 0 && out.len() < ANSWER_LEN_MAX
    })?;
    Ok(out.into())
}

/// Where the pack that holds a record is committed, and how the commit shows the record.
fn commit_of(node: &Node, record: &RecordId) -> Result<(EntryAt, v1::RecordOpening), ErrorBody> {
    let damaged = |error: anyhow::Error| ErrorBody::new(ErrorCode::Damaged, error);
    let found = node.shelf.find(record).map_err(damaged)?;
    let found = found.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, format_args!("no record {record} is here")))?;
    let at = {
        let state = node.chain.state();
        let pack = state.pack_with_salt(&found.salt).and_then(|id| state.pack(&id));
        let none = || ErrorBody::new(ErrorCode::NotFinal, "the record's pack is not on the ledger yet");
        pack.map(|pack| EntryAt { author: pack.author, sequence: pack.sequence }).ok_or_else(none)?
    };
    let catalog = node.shelf.catalog(&found.salt, &found.source).map_err(damaged)?;
    let opening = bithealth_pack::open_record(&catalog, record);
    let opening = opening.ok_or_else(|| damaged(anyhow::anyhow!("the record's catalog does not open it")))?;
    Ok((at, opening))
}

/// Where a commitment is notarised: looked for in our own log first.
fn notarised(node: &Node, commitment: &Digest) -> Result<EntryAt, ErrorBody> {
    let logs: Vec<(NodeId, u64)> = {
        let state = node.chain.state();
        let len = |id: &NodeId| state.log(id).map_or(0, |log| log.len);
        let others = state.nodes().map(|it| it.id).filter(|id| *id != node.id());
        std::iter::once(node.id()).chain(others).map(|id| (id, len(&id))).collect()
    };
    for (author, len) in logs {
        let mut found = None;
        for_each_entry(node, &author, len, |sequence, signed| {
            let entry: Option<v1::Entry> = decode(&signed.entry).ok();
            let operation = entry.and_then(|entry| entry.operation);
            if matches!(&operation, Some(Operation::Notarise(it)) if it.commitment == commitment.0.as_slice()) {
                found = Some(EntryAt { author, sequence });
            }
            found.is_none()
        })?;
        if let Some(found) = found {
            return Ok(found);
        }
    }
    Err(ErrorBody::new(ErrorCode::NotFound, format_args!("nobody notarised {commitment}")))
}

/// Visits the first `len` entries of a log until `visit` says that is enough.
fn for_each_entry(
    node: &Node,
    author: &NodeId,
    len: u64,
    mut visit: impl FnMut(Sequence, &v1::SignedEntry) -> bool,
) -> Result<(), ErrorBody> {
    let mut at = 0;
    while at < len {
        let batch = node.chain.entries(author, Sequence(at), BATCH).map_err(unreadable)?;
        if batch.is_empty() {
            return Ok(());
        }
        for signed in batch.iter().take((len - at) as usize) {
            if !visit(Sequence(at), signed) {
                return Ok(());
            }
            at += 1;
        }
    }
    Ok(())
}

/// Visits the blocks from a height on until `visit` says that is enough.
pub(crate) fn for_each_block(
    node: &Node,
    from: Height,
    mut visit: impl FnMut(&v1::Block) -> bool,
) -> Result<(), ErrorBody> {
    let mut next = from.0.max(1);
    loop {
        let batch = node.chain.blocks(Height(next), BATCH).map_err(unreadable)?;
        if batch.is_empty() {
            return Ok(());
        }
        for block in &batch {
            if !visit(block) {
                return Ok(());
            }
        }
        next += batch.len() as u64;
    }
}

pub(crate) fn unreadable(error: ChainError) -> ErrorBody {
    ErrorBody::new(ErrorCode::Damaged, error)
}
