//! The ledger in this node: entries and blocks on disk, the state they make in memory.
//!
//! The ledger's core decides what is valid; this driver stores it first and applies it then, so that after a restart the
//! same state comes back from the same entries.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard};

use bithealth_envelope::NodeKey;
use bithealth_ledger::{
    Accused, BlockError, EntryError, GenesisError, Log, Opened, State, entry_leaf, equivocation, signed_header,
};
use bithealth_proto::v1::entry::Operation;
use bithealth_proto::{DecodeError, decode, encode, v1};
use bithealth_store::{Kind, Position, ReadError, Store, WriteError};
use bithealth_types::{Digest, Height, NodeId, Sequence, ValidatorId};
use bytes::Bytes;
use tokio::sync::watch;
use tracing::error;

use crate::history::History;
use crate::replay::Replay;
use crate::vault;

/// Where the proof of a fork is kept.
const FORK_KEY: &[u8] = b"fork";

/// The ledger of this node.
pub struct Chain {
    state: RwLock<State>,
    store: Arc<Store>,
    history: History,
    key: NodeKey,
    /// Where the last entry lies that was taken and perhaps not synced.
    written: Mutex<Option<Position>>,
    /// Authors whose log may be another one elsewhere, since the last block.
    suspects: Mutex<BTreeSet<NodeId>>,
    fork: Mutex<Option<v1::Fork>>,
    coming: Mutex<Coming>,
    changed: watch::Sender<u64>,
    /// What this node wrote before its store was lost is not known yet.
    recalling: AtomicBool,
}

/// What is here of the block after the tip.
#[derive(Default)]
struct Coming {
    /// A body that was found valid, by the digest of the header it was proposed with.
    body: Option<(Digest, v1::Body)>,
    /// A header that is final and whose body is not here.
    header: Option<(Digest, v1::SignedHeader)>,
}

/// Why the ledger cannot be opened or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChainError {
    /// The genesis is not one.
    #[error("the genesis is false: {0}")]
    Genesis(#[from] GenesisError),
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store takes nothing.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// An entry of ours was refused by our own rules.
    #[error("the ledger refuses this: {0}")]
    Refused(#[from] EntryError),
    /// The store was lost, and what this node wrote before is not known yet.
    #[error(
        "the store of this node was lost; it writes nothing until its peers told it what it wrote before (`bithealth status`)"
    )]
    Recalling,
    /// Entries that should replace others are not those a block covers.
    #[error("these are not the entries that the block covers")]
    OtherEntries,
    /// Something the ledger stored is damaged.
    #[error("a stored part of the ledger is damaged: {0}; restore this node with its kit")]
    Damaged(#[from] DecodeError),
}

/// What is to be said of a proposed block.
#[derive(Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may be decided, and what it covers is durable here.
    Valid,
    /// All is right but its time, and what it covers is durable here.
    Untimely(String),
    /// Something before it is missing here.
    Waits,
    /// It may not.
    Invalid(String),
}

/// What became of an entry or block from a peer.
#[derive(Debug, PartialEq, Eq)]
pub enum Received {
    /// Valid and new: pass it on.
    New,
    /// Here already.
    Known,
    /// A header that is final; what it commits to is not here: ask for it.
    Headed,
    /// Something before it is missing here: ask for it.
    Behind,
    /// It is at odds with what is here, and both are signed by one author.
    Evidence(Box<v1::Evidence>),
    /// It is at odds with the log of this author that is here: to be compared.
    Diverged(NodeId),
    /// It follows another block than the tip: to be compared.
    OtherHistory,
    /// False: its sender is to blame.
    False(String),
    /// False, and no honest node can have taken it for true: its sender lies.
    Forged(String),
}

impl Chain {
    /// Opens the ledger: replays what the store holds.
    ///
    /// # Errors
    /// [`ChainError`] if the store cannot be read or the genesis is false.
    pub fn open(genesis: v1::Genesis, store: Arc<Store>, key: NodeKey) -> Result<Self, ChainError> {
        let history = History::new(store.clone());
        let state = Replay::new(State::from_genesis(genesis)?, &history).run()?;
        let fork = vault::message::<_, ChainError>(&store, Kind::Meta, FORK_KEY)?;
        Ok(Self {
            state: RwLock::new(state),
            store,
            history,
            key,
            written: Mutex::default(),
            suspects: Mutex::default(),
            fork: Mutex::new(fork),
            coming: Mutex::default(),
            changed: watch::channel(0).0,
            recalling: AtomicBool::new(false),
        })
    }

    /// The state; hold it briefly.
    pub fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().expect("no holder panics")
    }

    /// Whether this node knows what it wrote before, and so may write on.
    pub fn may_write(&self) -> bool {
        !self.recalling.load(Relaxed)
    }

    /// It does not.
    pub fn recall(&self) {
        self.recalling.store(true, Relaxed);
    }

    /// It does, again.
    pub fn let_write(&self) {
        self.recalling.store(false, Relaxed);
    }

    /// Tells of every change of the state.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Appends an operation to our own log, durably; returns its position, and the entry for the others. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChainError`] if the rules refuse it or the store takes nothing.
    pub fn append(&self, time_ms: u64, operation: Operation) -> Result<(Sequence, v1::SignedEntry), ChainError> {
        if !self.may_write() {
            return Err(ChainError::Recalling);
        }
        let mut state = self.write();
        let author = self.key.id();
        let log = state.log(&author);
        let entry = v1::Entry {
            author: Bytes::copy_from_slice(author.as_bytes()),
            sequence: log.map_or(0, |log| log.len),
            previous: Bytes::copy_from_slice(log.map_or(Digest([0; 32]), |log| log.last).as_bytes()),
            time_ms,
            operation: Some(operation),
        };
        let signed = bithealth_ledger::sign(|message| self.key.sign(message), entry);
        let checked = state.check_own(&signed)?;
        let position = self.history.put_entry(&author, checked.sequence(), &signed)?;
        self.history.sync(position)?;
        let sequence = checked.sequence();
        state.apply(checked);
        drop(state);
        self.notify();
        Ok((sequence, signed))
    }

    /// Takes an entry from a peer. It is durable once [`Chain::sync`] says so.
    ///
    /// # Errors
    /// [`WriteError`] if it is valid and the store does not take it.
    pub fn receive_entry(&self, signed: &v1::SignedEntry) -> Result<Received, WriteError> {
        self.receive_entries(std::slice::from_ref(signed)).map(|(_, received)| received)
    }

    /// Takes entries from a peer up to the first that cannot be taken; how many are here now, and what that one was, else
    /// whether any was new. They are durable once [`Chain::sync`] says so.
    ///
    /// # Errors
    /// [`WriteError`] if one is valid and the store does not take it; those before it are taken.
    pub fn receive_entries(&self, entries: &[v1::SignedEntry]) -> Result<(u64, Received), WriteError> {
        let (mut taken, mut news) = (0, false);
        let stopped = entries.iter().find_map(|signed| {
            match self.take_entry(signed) {
                Ok(Received::New) => news = true,
                Ok(Received::Known) => {}
                other => return Some(other),
            }
            taken += 1;
            None
        });
        if news {
            self.notify();
        }
        let all = if news { Received::New } else { Received::Known };
        stopped.unwrap_or(Ok(all)).map(|received| (taken, received))
    }

    fn take_entry(&self, signed: &v1::SignedEntry) -> Result<Received, WriteError> {
        let mut state = self.write();
        let checked = match state.check(signed) {
            Ok(checked) => checked,
            Err(EntryError::Known { .. } | EntryError::Frozen { .. }) => return Ok(Received::Known),
            Err(EntryError::WrongPrevious { author, .. }) => return Ok(self.suspect(author)),
            Err(error) if error.is_waiting() => return Ok(Received::Behind),
            Err(EntryError::Forked { author, sequence, .. } | EntryError::Final { author, sequence }) => {
                return Ok(self.compare(signed, &author, Sequence(sequence)));
            }
            Err(error) if error.is_forged() => return Ok(Received::Forged(error.to_string())),
            Err(error) => return Ok(Received::False(error.to_string())),
        };
        let position = self.history.put_entry(&checked.author(), checked.sequence(), signed)?;
        *self.written.lock().expect("no holder panics") = Some(position);
        state.apply(checked);
        Ok(Received::New)
    }

    /// Another entry of this author is here at its position, or the same one: only the store can tell, once it is final.
    fn compare(&self, theirs: &v1::SignedEntry, author: &NodeId, sequence: Sequence) -> Received {
        match self.history.entries(author).at(sequence.0) {
            Ok(ours) if ours.entry == theirs.entry => Received::Known,
            Ok(ours) => match equivocation(&ours, theirs) {
                Ok(evidence) => Received::Evidence(Box::new(evidence)),
                Err(error) => Received::False(error.to_string()),
            },
            Err(_) => Received::Known, // ours is damaged: not the peer's fault
        }
    }

    fn suspect(&self, author: NodeId) -> Received {
        self.suspects.lock().expect("no holder panics").insert(author);
        Received::Diverged(author)
    }

    /// Authors whose log may be another one elsewhere: an entry or a block was at odds with what is here.
    pub fn suspects(&self) -> Vec<NodeId> {
        let suspects = self.suspects.lock().expect("no holder panics").clone();
        let state = self.state();
        suspects.into_iter().filter(|author| !state.is_accused(&Accused::Author(*author))).collect()
    }

    /// The proof that the history forked, if it did.
    pub fn fork(&self) -> Option<v1::Fork> {
        self.fork.lock().expect("no holder panics").clone()
    }

    /// What was shown against others.
    pub fn evidence(&self) -> v1::EvidenceSet {
        let evidence = self.state().accused().map(|(_, evidence, _)| evidence.clone()).collect();
        v1::EvidenceSet { evidence, fork: self.fork() }
    }

    /// Takes over what a block, decided by a quorum, covers of a log of which other entries are here: `entries` behind
    /// what is final of it. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChainError::OtherEntries`] if these are not what the block covers; [`ChainError`] if the store fails.
    pub fn adopt(&self, covered: &v1::Frontier, entries: &[v1::SignedEntry]) -> Result<(), ChainError> {
        let author = NodeId::try_from(covered.author.as_ref()).map_err(|_| ChainError::OtherEntries)?;
        let mut state = self.write();
        let (first, len) = state.log(&author).map_or((0, 0), |log| (log.final_len, log.len));
        let leaves: Vec<Digest> = entries.iter().map(entry_leaf).collect();
        let fits = covered.len == first + entries.len() as u64;
        if !fits || covered.root != state.root_with(&author, &leaves).0.as_slice() {
            return Err(ChainError::OtherEntries);
        }
        let mut position = None;
        for sequence in covered.len..len {
            position = Some(self.history.remove_entry(&author, Sequence(sequence))?);
        }
        for (sequence, signed) in (first..).zip(entries) {
            position = Some(self.history.put_entry(&author, Sequence(sequence), signed)?);
        }
        position.map_or(Ok(()), |position| self.store.sync(position))?;
        // What followed from the entries that were here is undone by beginning anew.
        *state = Replay::new(State::from_genesis(state.genesis().clone())?, &self.history).run()?;
        drop(state);
        self.notify();
        Ok(())
    }

    /// Makes everything that was taken durable. Blocks on the disk.
    ///
    /// # Errors
    /// [`WriteError`] if the disk fails to.
    pub fn sync(&self) -> Result<(), WriteError> {
        let written = self.written.lock().expect("no holder panics").take();
        let Some(position) = written else { return Ok(()) };
        self.history.sync(position).inspect_err(|_| {
            self.written.lock().expect("no holder panics").get_or_insert(position);
        })
    }

    /// Takes a block from a peer, or one that was just decided; it is durable once this returns. Blocks on the disk.
    ///
    /// # Errors
    /// [`WriteError`] if it is valid and the store does not take it.
    pub fn receive_block(&self, block: &v1::Block) -> Result<Received, WriteError> {
        let mut state = self.write();
        let checked = match state.check_block(block) {
            Ok(checked) => checked,
            Err(BlockError::Known { height }) => {
                let known = self.known_header(&state, &signed_header(block), Height(height));
                return Ok(known.unwrap_or(Received::Known)); // ours cannot be read: not the peer's fault
            }
            Err(BlockError::Missing { .. } | BlockError::Gap { .. }) => return Ok(Received::Behind),
            Err(BlockError::OtherLog { author, .. }) => return Ok(self.suspect(author)),
            Err(BlockError::Previous { .. }) => return Ok(Received::OtherHistory),
            Err(error) if error.is_forged() => return Ok(Received::Forged(error.to_string())),
            Err(error) => return Ok(Received::False(error.to_string())),
        };
        self.sync()?; // the entries it covers come before it
        let height = checked.height();
        let position = self.history.put_block(height, block)?;
        self.history.sync(position)?;
        state.apply_block(checked);
        drop(state);
        self.suspects.lock().expect("no holder panics").clear();
        *self.coming() = Coming::default();
        self.notify();
        Ok(Received::New)
    }

    /// Takes a header that is final from a peer; with the body that was proposed for it, if that is here. Blocks on the
    /// disk.
    ///
    /// # Errors
    /// [`WriteError`] if the block is whole and the store does not take it.
    pub fn receive_header(&self, signed: &v1::SignedHeader) -> Result<Received, WriteError> {
        let digest = signed.header.as_ref().map(bithealth_proto::digest);
        if self.coming().header.as_ref().is_some_and(|(coming, _)| Some(*coming) == digest) {
            return Ok(Received::Known); // with other votes of the same quorum, perhaps
        }
        let digest = {
            let state = self.state();
            match state.check_header(signed) {
                Ok(digest) => digest,
                Err(BlockError::Known { height }) => {
                    let known = self.known_header(&state, signed, Height(height));
                    return Ok(known.unwrap_or(Received::Known)); // ours cannot be read: not the peer's fault
                }
                Err(BlockError::Gap { .. }) => return Ok(Received::Behind),
                Err(BlockError::Previous { .. }) => return Ok(Received::OtherHistory),
                Err(error) if error.is_forged() => return Ok(Received::Forged(error.to_string())),
                Err(error) => return Ok(Received::False(error.to_string())),
            }
        };
        let proposed = self.coming().body.clone().filter(|(of, _)| *of == digest);
        if let Some((_, body)) = proposed {
            return self.receive_block(&block_of(signed.clone(), body));
        }
        self.coming().header = Some((digest, signed.clone()));
        Ok(Received::Headed)
    }

    /// The header after the tip, by its digest, if it is known to be final and what it commits to is not here.
    pub fn headed(&self) -> Option<(Digest, v1::SignedHeader)> {
        let next = self.state().height().0 + 1;
        let follows =
            |(_, signed): &(Digest, v1::SignedHeader)| signed.header.as_ref().is_some_and(|it| it.height == next);
        self.coming().header.clone().filter(follows)
    }

    /// What the header of this digest commits to, if it is in the history at this height, or was proposed for the next.
    ///
    /// # Errors
    /// [`ChainError`] if the store cannot be read.
    pub fn body(&self, height: Height, header: &Digest) -> Result<Option<v1::Body>, ChainError> {
        if let Some((_, body)) = self.coming().body.as_ref().filter(|(of, _)| of == header) {
            return Ok(Some(body.clone()));
        }
        if height.0 == 0 || height > self.state().height() {
            return Ok(None);
        }
        let block = self.history.blocks().at(height.0)?;
        let is_it = block.header.as_ref().is_some_and(|it| bithealth_proto::digest(it) == *header);
        Ok(block.body.filter(|_| is_it))
    }

    /// A header of a height that is final here: the same, a false one, or the proof of a fork, which is kept.
    fn known_header(&self, state: &State, theirs: &v1::SignedHeader, height: Height) -> Result<Received, ChainError> {
        let theirs_digest = theirs.header.as_ref().map(bithealth_proto::digest);
        if state.tip().map(bithealth_proto::digest) == theirs_digest && height == state.height() {
            return Ok(Received::Known);
        }
        let ours = self.history.blocks().at(height.0)?;
        let have = bithealth_proto::digest(ours.header.as_ref().unwrap_or(&v1::Header::default()));
        match state.check_fork(theirs, &have) {
            Ok(()) => Ok(Received::Known),
            Err(error @ BlockError::Forked { .. }) => {
                error!(%error, "the history forked: this node votes no more, and keeps both");
                self.keep_fork(v1::Fork { first: Some(signed_header(&ours)), second: Some(theirs.clone()) })?;
                Ok(Received::Known)
            }
            Err(error) => Ok(Received::False(error.to_string())),
        }
    }

    fn keep_fork(&self, fork: v1::Fork) -> Result<(), ChainError> {
        let mut kept = self.fork.lock().expect("no holder panics");
        if kept.is_none() {
            let position = self.store.put(Kind::Meta, FORK_KEY, &[], &[&encode(&fork)])?;
            *kept = Some(fork); // also where the disk fails to sync it
            self.store.sync(position)?;
        }
        Ok(())
    }

    /// What to propose after the tip; what it covers is durable here. Blocks on the disk.
    ///
    /// # Errors
    /// [`WriteError`] if the disk fails to make it so.
    pub fn propose(
        &self,
        producer: &ValidatorId,
        now_ms: u64,
        opened: Option<&Opened>,
    ) -> Result<v1::Proposed, WriteError> {
        let (header, body) = self.state().next_block(producer, now_ms, opened);
        self.sync()?;
        self.coming().body = Some((bithealth_proto::digest(&header), body.clone()));
        Ok(v1::Proposed { header: encode(&header).into(), body: encode(&body).into() })
    }

    /// Whether what was proposed may be decided: valid, of a time near our clock, and all it covers durable here. Blocks
    /// on the disk.
    ///
    /// # Errors
    /// [`WriteError`] if the disk fails to make it so.
    pub fn check_proposal(&self, content: &v1::Proposed, now_ms: u64) -> Result<Verdict, WriteError> {
        let read = || -> Result<_, DecodeError> {
            Ok((decode::<v1::Header>(&content.header)?, decode::<v1::Body>(&content.body)?))
        };
        let (header, body) = match read() {
            Ok(read) => read,
            Err(error) => return Ok(Verdict::Invalid(error.to_string())),
        };
        let checked = {
            let state = self.state();
            state.check_proposal(&header, &body).map(|_| state.check_clock(&header, now_ms))
        };
        match checked {
            Ok(timely) => {
                self.sync()?;
                self.coming().body = Some((bithealth_proto::digest(&header), body));
                Ok(timely.map_or_else(|error| Verdict::Untimely(error.to_string()), |()| Verdict::Valid))
            }
            Err(BlockError::Missing { .. } | BlockError::Gap { .. }) => Ok(Verdict::Waits),
            Err(error) => {
                if let BlockError::OtherLog { author, .. } = error {
                    self.suspect(author);
                }
                Ok(Verdict::Invalid(error.to_string()))
            }
        }
    }

    /// Up to `max` entries of `author`, from sequence `from` on.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub fn entries(&self, author: &NodeId, from: Sequence, max: u32) -> Result<Vec<v1::SignedEntry>, ChainError> {
        let len = self.state().log(author).map_or(0, |log| log.len);
        let range = from.0..len.min(from.0.saturating_add(u64::from(max)));
        let mut entries = self.history.entries(author);
        range.map(|sequence| entries.at(sequence)).collect()
    }

    /// Up to `max` blocks from height `from` on.
    ///
    /// # Errors
    /// [`ReadError`] if the store cannot be read.
    pub fn blocks(&self, from: Height, max: u32) -> Result<Vec<v1::Block>, ChainError> {
        let (first, end) = (from.0.max(1), self.state().height().0 + 1);
        let range = first..end.min(first.saturating_add(u64::from(max)));
        let mut blocks = self.history.blocks();
        range.map(|height| blocks.at(height)).collect()
    }

    /// Reads every entry and block back; how many of each are sound.
    pub fn verify(&self) -> (u64, u64) {
        let height = self.state().height().0;
        let sound = |author: &NodeId, len: u64| {
            let mut entries = self.history.entries(author);
            (0..len).filter(|at| entries.at(*at).is_ok()).count() as u64
        };
        let entries = self.logs(|log| log.len).iter().map(|(author, len)| sound(author, *len)).sum();
        let mut blocks = self.history.blocks();
        (entries, (1..=height).filter(|height| blocks.at(*height).is_ok()).count() as u64)
    }

    /// Folds what is final, so that the store's index does not grow with it ([`History`]); returns how many runs were
    /// written. Blocks on the disk.
    ///
    /// # Errors
    /// [`ChainError`] if the store fails; a later call goes on.
    pub fn fold(&self) -> Result<u64, ChainError> {
        let height = self.state().height();
        let mut written = self.history.fold_blocks(height)?;
        for (author, len) in self.logs(|log| log.final_len) {
            written += self.history.fold_entries(&author, len)?;
        }
        Ok(written)
    }

    /// A length of each log.
    fn logs(&self, len: impl Fn(Log) -> u64) -> Vec<(NodeId, u64)> {
        let state = self.state();
        state.nodes().map(|node| (node.id, state.log(&node.id).map_or(0, &len))).collect()
    }

    fn coming(&self) -> MutexGuard<'_, Coming> {
        self.coming.lock().expect("no holder panics")
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().expect("no holder panics")
    }

    /// Says that something besides the ledger changed, on which decisions depend.
    pub fn touch(&self) {
        self.notify();
    }

    fn notify(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A header that is final, with what it commits to.
pub(crate) fn block_of(signed: v1::SignedHeader, body: v1::Body) -> v1::Block {
    v1::Block { header: signed.header, certificate: signed.certificate, body: Some(body) }
}
