//! The ledger's state after a start: what the store holds, taken in again.
//!
//! It goes from block to block, so that only what no block covers yet is in memory at any time. Signatures are not
//! verified again: they were before anything was stored, and the store vouches for its bytes.

use std::collections::BTreeMap;

use bithealth_ledger::State;
use bithealth_proto::v1;
use bithealth_types::NodeId;

use crate::chain::ChainError;
use crate::history::{History, Reader};

/// Bytes of runs that stay decoded, over all logs: the next block may cover entries of the same ones.
const RUNS_LEN_MAX: usize = 16 << 20;

/// A state on its way to what the store holds.
pub struct Replay<'a> {
    state: State,
    history: &'a History,
    logs: BTreeMap<NodeId, Reader<'a, v1::SignedEntry>>,
}

impl<'a> Replay<'a> {
    /// From a state without entries.
    pub fn new(state: State, history: &'a History) -> Self {
        Self { state, history, logs: BTreeMap::new() }
    }

    /// Takes in everything that is there and follows.
    ///
    /// # Errors
    /// [`ChainError`] if something is damaged, or the store cannot be read.
    pub fn run(mut self) -> Result<State, ChainError> {
        let mut blocks = self.history.blocks();
        while let Some(block) = blocks.find(self.state.height().0 + 1)? {
            self.take_logs(&covered(&block))?;
            if self.take_block(&block) {
                continue;
            }
            self.take_all()?; // entries that it covers may refer to some that a later one covers
            if !self.take_block(&block) {
                break; // its entries were lost with a power cut: peers have both
            }
        }
        self.take_all()?;
        Ok(self.state)
    }

    fn take_block(&mut self, block: &v1::Block) -> bool {
        let checked = self.state.check_stored_block(block);
        checked.map(|checked| self.state.apply_block(checked)).is_ok()
    }

    /// Takes these logs up to these lengths. Entries may refer to entries of other authors (those of a node to its
    /// admission), so rounds go on until none brings anything new.
    fn take_logs(&mut self, lens: &[(NodeId, u64)]) -> Result<bool, ChainError> {
        let mut any = false;
        loop {
            let mut new = false;
            for (author, len) in lens {
                new |= self.take_log(author, *len)?;
            }
            if !new {
                return Ok(any);
            }
            any = true;
        }
    }

    /// Takes all logs to their ends.
    fn take_all(&mut self) -> Result<(), ChainError> {
        loop {
            let lens: Vec<(NodeId, u64)> = self.state.nodes().map(|node| (node.id, u64::MAX)).collect();
            if !self.take_logs(&lens)? {
                return Ok(());
            }
        }
    }

    fn take_log(&mut self, author: &NodeId, len: u64) -> Result<bool, ChainError> {
        if self.logs.values().map(Reader::run_len).sum::<usize>() > RUNS_LEN_MAX {
            self.logs.clear();
        }
        let log = self.logs.entry(*author).or_insert_with(|| self.history.entries(author));
        let begin = self.state.log(author).map_or(0, |log| log.len);
        for at in begin..len {
            let Some(entry) = log.find(at)? else { return Ok(at > begin) };
            let Ok(checked) = self.state.check_stored(&entry) else { return Ok(at > begin) }; // waits for another's
            self.state.apply(checked);
        }
        Ok(len > begin)
    }
}

/// The logs that a block covers, and how far.
fn covered(block: &v1::Block) -> Vec<(NodeId, u64)> {
    let frontier = block.body.iter().flat_map(|body| &body.frontier);
    frontier.filter_map(|item| Some((NodeId::try_from(item.author.as_ref()).ok()?, item.len))).collect()
}

#[cfg(test)]
mod tests;
