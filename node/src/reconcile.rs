//! What is not the same here and at a peer: who wrote two entries at one position is found out and told to all, and what
//! a block covers is taken over, whatever this node was shown before.

use std::sync::Arc;

use bithealth_ledger::{BLOCK_ENTRIES_MAX, EntryError};
use bithealth_net::Stream;
use bithealth_proto::v1::{self, entry::Operation, sync_answer::Answer, sync_request::Request};
use bithealth_types::{Height, NodeId};
use bytes::Bytes;
use tracing::{info, warn};

use crate::chain::{ChainError, Received};
use crate::node::Node;
use crate::replicate::blocking;
use crate::sync::{BLOCKS_BATCH_MAX, ENTRIES_BATCH_MAX, ask};

/// Puts evidence on the ledger, unless it is there: durable here, and told to all. Blocks on the disk.
pub(crate) fn accuse(node: &Arc<Node>, evidence: v1::Evidence) {
    match node.append(Operation::Accuse(evidence)) {
        Ok(_) => warn!("somebody signed two things that exclude each other: `bithealth status` names it"),
        Err(ChainError::Refused(EntryError::AccusedBefore)) => {}
        Err(error) => warn!(%error, "evidence cannot be written to the ledger"), // shown again, it is tried again
    }
}

/// Compares the logs that may be other ones at this peer, from their ends back to where they are the same.
pub(crate) async fn compare(node: &Arc<Node>, stream: &mut Stream) -> anyhow::Result<()> {
    for author in node.chain.suspects() {
        let mut end = node.chain.state().log(&author).map_or(0, |log| log.len);
        loop {
            let from = end.saturating_sub(ENTRIES_BATCH_MAX.into());
            let entries = batch(stream, author, from, ENTRIES_BATCH_MAX).await?;
            let worker = node.clone();
            let same = blocking(move || same(&worker, &entries)).await?;
            if same || from == 0 {
                break;
            }
            end = from;
        }
    }
    Ok(())
}

/// Whether these entries begin as those that are here; accuses their author where they do not. Blocks on the disk.
fn same(node: &Arc<Node>, entries: &[v1::SignedEntry]) -> anyhow::Result<bool> {
    let mut same = false;
    for entry in entries {
        match node.chain.receive_entry(entry)? {
            Received::Evidence(evidence) => {
                accuse(node, *evidence);
                return Ok(true);
            }
            Received::New | Received::Known => same = true,
            _ => break,
        }
    }
    Ok(same)
}

/// Takes over what this block, decided by a quorum, covers of a log of which this node was shown other entries.
pub(crate) async fn adopt(
    node: &Arc<Node>,
    stream: &mut Stream,
    block: &v1::Block,
    author: NodeId,
) -> anyhow::Result<()> {
    compare(node, stream).await?; // first the evidence, which what follows would replace
    anyhow::ensure!(author != node.id(), "a block covers other entries of this node than it has");
    let covered = block.body.as_ref().and_then(|body| body.frontier.iter().find(|it| it.author == author.0.as_slice()));
    let covered = covered.ok_or_else(|| anyhow::anyhow!("the block does not cover that log"))?.clone();
    let first = node.chain.state().log(&author).map_or(0, |log| log.final_len);
    let entries = fetch(stream, author, first, covered.len).await?;
    let worker = node.clone();
    blocking(move || worker.chain.adopt(&covered, &entries)).await?;
    info!(author = %author.short(), "of two logs of one author this node now has the one that a block covers");
    Ok(())
}

/// Looks whether the peer's latest blocks are others, which is a fork of the history.
pub(crate) async fn compare_blocks(node: &Arc<Node>, stream: &mut Stream) -> anyhow::Result<()> {
    let from = node.chain.state().height().0.saturating_sub(u64::from(BLOCKS_BATCH_MAX) - 1).max(1);
    let request = v1::SyncBlocks { from, max: BLOCKS_BATCH_MAX };
    let Answer::Blocks(batch) = ask(stream, Request::Blocks(request)).await? else {
        anyhow::bail!("the peer answered something that was not asked");
    };
    let worker = node.clone();
    blocking(move || {
        for block in &batch.blocks {
            if block.header.as_ref().is_some_and(|header| Height(header.height) <= worker.chain.state().height()) {
                worker.chain.receive_block(block)?;
            }
        }
        anyhow::Ok(())
    })
    .await
}

/// The entries `from..to` of a log, or as many as the peer has.
async fn fetch(stream: &mut Stream, author: NodeId, from: u64, to: u64) -> anyhow::Result<Vec<v1::SignedEntry>> {
    let mut entries = Vec::new();
    loop {
        let next = from + entries.len() as u64;
        let max = ENTRIES_BATCH_MAX.min(u32::try_from(to - next).unwrap_or(u32::MAX));
        let batch = batch(stream, author, next, max).await?;
        let got = batch.len();
        entries.extend(batch);
        let max = BLOCK_ENTRIES_MAX;
        anyhow::ensure!(entries.len() as u64 <= max, "more than {max} entries behind what is final");
        if got == 0 || from + entries.len() as u64 >= to {
            return Ok(entries);
        }
    }
}

async fn batch(stream: &mut Stream, author: NodeId, from: u64, max: u32) -> anyhow::Result<Vec<v1::SignedEntry>> {
    let request = v1::SyncEntries { author: Bytes::copy_from_slice(author.as_bytes()), from, max };
    match ask(stream, Request::Entries(request)).await? {
        Answer::Entries(batch) => Ok(batch.entries),
        _ => anyhow::bail!("the peer answered something that was not asked"),
    }
}
