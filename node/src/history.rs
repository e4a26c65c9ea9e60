//! Where the entries and blocks of the ledger lie in the store.
//!
//! A new one lies under a key of its own, so that it is durable at once. What is final is folded: runs of consecutive ones
//! become one value each, and the keys of their own go. So the store's index, which is in memory, grows with a small part
//! of the history. A run is durable before the keys it replaces go; a crash between leaves both, and the next fold writes
//! the run again and goes on.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bithealth_proto::{Limited, decode, decode_frame, encode, v1};
use bithealth_store::{Compacted, Kind, Position, ReadError, Store, WriteError};
use bithealth_types::{Height, NodeId, Sequence};
use bytes::Bytes;
use tracing::{info, warn};

use crate::chain::ChainError;
use crate::node::Node;
use crate::replicate::blocking;
use crate::vault::whole;

/// Runs that are made durable together.
const RUNS_AT_ONCE: usize = 64;

/// What lies in the store in order, each alone or many in a run.
pub trait Kept: Limited + Clone {
    /// Those that lie alone.
    const SINGLE: Kind;
    /// Runs.
    const RUN: Kind;
    /// How many a run holds. More make the index smaller, and the read of a single one longer.
    const RUN_COUNT: u16;
    /// The position of the first of all.
    const FIRST: u64;
    /// What a run is stored as.
    type Run: Limited;
    /// A run.
    fn run(items: Vec<Self>) -> Self::Run;
    /// What a run holds.
    fn items(run: Self::Run) -> Vec<Self>;
}

impl Kept for v1::SignedEntry {
    const SINGLE: Kind = Kind::Entry;
    const RUN: Kind = Kind::EntryRun;
    const RUN_COUNT: u16 = 256;
    const FIRST: u64 = 0;
    type Run = v1::EntryRun;

    fn run(entries: Vec<Self>) -> v1::EntryRun {
        v1::EntryRun { entries }
    }

    fn items(run: v1::EntryRun) -> Vec<Self> {
        run.entries
    }
}

impl Kept for v1::Block {
    const SINGLE: Kind = Kind::Block;
    const RUN: Kind = Kind::BlockRun;
    const RUN_COUNT: u16 = 64;
    const FIRST: u64 = 1;
    type Run = v1::BlockRun;

    fn run(blocks: Vec<Self>) -> v1::BlockRun {
        v1::BlockRun { blocks }
    }

    fn items(run: v1::BlockRun) -> Vec<Self> {
        run.blocks
    }
}

/// The entries and blocks of one store.
pub struct History {
    store: Arc<Store>,
    /// The first position of each log that is not folded, as far as it was looked at. Whoever folds holds it.
    folded: Mutex<BTreeMap<(Kind, Vec<u8>), u64>>,
}

/// Reads one log; a run is read and decoded once for all that lie in it and are read one after the other.
pub struct Reader<'a, T> {
    store: &'a Store,
    prefix: Vec<u8>,
    first: u64,
    run: Vec<T>,
    run_len: usize,
}

impl History {
    /// The history in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, folded: Mutex::default() }
    }

    /// Writes a new entry; it is durable once the store has synced the position.
    ///
    /// # Errors
    /// [`WriteError`] if the store does not take it.
    pub fn put_entry(
        &self,
        author: &NodeId,
        sequence: Sequence,
        entry: &v1::SignedEntry,
    ) -> Result<Position, WriteError> {
        self.store.put(Kind::Entry, &key(author.as_bytes(), sequence.0), &[], &[&encode(entry)])
    }

    /// Drops an entry that no block covers, once the store has synced the position.
    ///
    /// # Errors
    /// [`WriteError`] if the store does not take it.
    pub fn remove_entry(&self, author: &NodeId, sequence: Sequence) -> Result<Position, WriteError> {
        self.store.remove(Kind::Entry, &key(author.as_bytes(), sequence.0))
    }

    /// Writes a new block; it is durable once the store has synced the position.
    ///
    /// # Errors
    /// [`WriteError`] if the store does not take it.
    pub fn put_block(&self, height: Height, block: &v1::Block) -> Result<Position, WriteError> {
        self.store.put(Kind::Block, &key(&[], height.0), &[], &[&encode(block)])
    }

    /// Waits until everything up to `position` is durable.
    ///
    /// # Errors
    /// [`WriteError`] if the disk fails to make it so.
    pub fn sync(&self, position: Position) -> Result<(), WriteError> {
        self.store.sync(position)
    }

    /// Reads the entries of an author, by sequence.
    pub fn entries(&self, author: &NodeId) -> Reader<'_, v1::SignedEntry> {
        Reader::new(&self.store, author.as_bytes())
    }

    /// Reads the blocks, by height.
    pub fn blocks(&self) -> Reader<'_, v1::Block> {
        Reader::new(&self.store, &[])
    }

    /// Folds an author's entries, of which the first `len` are final; returns how many runs were written.
    ///
    /// # Errors
    /// [`ChainError`] if the store fails; what was folded until then stays so, the rest is as it was.
    pub fn fold_entries(&self, author: &NodeId, len: u64) -> Result<u64, ChainError> {
        self.fold::<v1::SignedEntry>(author.as_bytes(), len)
    }

    /// Folds the blocks up to the tip; returns how many runs were written.
    ///
    /// # Errors
    /// As [`History::fold_entries`].
    pub fn fold_blocks(&self, tip: Height) -> Result<u64, ChainError> {
        self.fold::<v1::Block>(&[], tip.0 + 1)
    }

    /// Folds what lies before `end`, as far as it fills runs.
    fn fold<T: Kept>(&self, prefix: &[u8], end: u64) -> Result<u64, ChainError> {
        let mut folded = self.folded.lock().expect("no holder panics");
        let next = match folded.get(&(T::SINGLE, prefix.to_vec())) {
            Some(next) => *next,
            None => run_of::<T>(self.first_single::<T>(prefix)?.map_or(end, |first| first.min(end))),
        };
        let count = u64::from(T::RUN_COUNT);
        let firsts: Vec<u64> =
            (next..).step_by(usize::from(T::RUN_COUNT)).take_while(|first| first + count <= end).collect();
        let mut written = 0;
        for firsts in firsts.chunks(RUNS_AT_ONCE) {
            written += self.fold_runs::<T>(prefix, firsts)?;
            folded.insert((T::SINGLE, prefix.to_vec()), firsts[firsts.len() - 1] + count);
        }
        Ok(written)
    }

    /// Writes the runs that begin at these positions, durably, and then drops what lies alone. One that cannot be read
    /// whole stays as it is.
    fn fold_runs<T: Kept>(&self, prefix: &[u8], firsts: &[u64]) -> Result<u64, ChainError> {
        let mut written = Vec::new();
        let mut last = None;
        for &first in firsts {
            let mut reader = Reader::<T>::new(&self.store, prefix);
            let items = (first..first + u64::from(T::RUN_COUNT)).map(|at| reader.at(at));
            match items.collect::<Result<Vec<T>, ChainError>>() {
                Ok(items) => {
                    let run = encode(&T::run(items));
                    last = Some(self.store.put(T::RUN, &key(prefix, first), &[], &[&run])?);
                    written.push(first);
                }
                Err(error @ (ChainError::Damaged(_) | ChainError::Read(ReadError::Damaged { .. }))) => {
                    warn!(%error, "a part of the ledger is not folded");
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(last) = last {
            self.store.sync(last)?;
        }
        for first in &written {
            self.store.remove_run(T::SINGLE, &key(prefix, *first), T::RUN_COUNT)?;
        }
        Ok(written.len() as u64)
    }

    /// The first position of a log that has a key of its own.
    fn first_single<T: Kept>(&self, prefix: &[u8]) -> Result<Option<u64>, ChainError> {
        let first = self.store.keys_after(T::SINGLE, prefix).next().transpose()?;
        let position = first.as_ref().and_then(|key| key.strip_prefix(prefix)?.try_into().ok());
        Ok(position.map(u64::from_be_bytes))
    }
}

impl<'a, T: Kept> Reader<'a, T> {
    fn new(store: &'a Store, prefix: &[u8]) -> Self {
        Self { store, prefix: prefix.to_vec(), first: 0, run: Vec::new(), run_len: 0 }
    }

    /// What lies at a position; `None` if nothing does.
    ///
    /// # Errors
    /// [`ChainError`] if it is damaged, or the store cannot be read.
    pub fn find(&mut self, position: u64) -> Result<Option<T>, ChainError> {
        match self.at(position) {
            Ok(item) => Ok(Some(item)),
            Err(ChainError::Read(ReadError::Absent { .. })) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// What lies at a position.
    ///
    /// # Errors
    /// [`ChainError`] if nothing does, it is damaged, or the store cannot be read.
    pub fn at(&mut self, position: u64) -> Result<T, ChainError> {
        let here = |reader: &Self| reader.run.get(usize::try_from(position.checked_sub(reader.first)?).ok()?).cloned();
        if let Some(item) = here(self) {
            return Ok(item);
        }
        // In this order: what is folded meanwhile is in its run before its own key goes.
        let single = key(&self.prefix, position);
        match whole(self.store, T::SINGLE, &single) {
            Ok(bytes) => return Ok(decode(&bytes)?),
            Err(ReadError::Absent { .. }) => {}
            Err(error) => return Err(error.into()),
        }
        let first = run_of::<T>(position);
        let bytes: Bytes = whole(self.store, T::RUN, &key(&self.prefix, first))?;
        (self.first, self.run_len) = (first, bytes.len());
        self.run = T::items(decode_frame(bytes)?);
        here(self).ok_or_else(|| ReadError::Absent { kind: T::SINGLE, key: single }.into())
    }

    /// Bytes of the run that is in memory.
    pub fn run_len(&self) -> usize {
        self.run_len
    }
}

/// Folds what each new block makes final, and gives the space back that this leaves in the store.
pub async fn run(node: Arc<Node>) {
    let mut changes = node.chain.watch();
    let mut seen = None;
    loop {
        let height = Some(node.chain.state().height());
        if seen != height {
            seen = height;
            let worker = node.clone();
            if let Err(error) = blocking(move || fold(&worker)).await {
                warn!(%error, "the ledger is not folded, the next block tries again");
            }
        }
        if changes.changed().await.is_err() {
            return; // the node is gone
        }
    }
}

fn fold(node: &Node) -> Result<(), ChainError> {
    if node.chain.fold()? > 0 {
        let Compacted { rewritten, freed, .. } = node.store.compact()?;
        if rewritten > 0 {
            info!(segments = rewritten, freed, "what was dead in the store is given back");
        }
    }
    Ok(())
}

/// Where the run begins that holds a position.
fn run_of<T: Kept>(position: u64) -> u64 {
    position - position.saturating_sub(T::FIRST) % u64::from(T::RUN_COUNT)
}

fn key(prefix: &[u8], position: u64) -> Vec<u8> {
    [prefix, &position.to_be_bytes()].concat()
}

#[cfg(test)]
mod tests;
