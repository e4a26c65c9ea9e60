//! One author's log: a Merkle log as in RFC 9162, of which what is final is kept as a few digests only.

use bithealth_merkle::{Frontier, leaf_hash};
use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, NodeId, PackId};
use bytes::Bytes;

/// What is known of one author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// Entries that are here.
    pub len: u64,
    /// The digest of the last of them; zeros where there is none.
    pub last: Digest,
    /// Entries that a block covers.
    pub final_len: u64,
    /// The root over these.
    pub final_root: Digest,
    /// Whether its author was shown to have written two entries at one position: no further block covers it, but for
    /// what was decided before that was known.
    pub frozen: bool,
}

/// An entry that no block covers yet.
#[derive(Clone, Copy, Debug)]
struct Open {
    digest: Digest,
    leaf: Digest,
}

/// One author's log, of constant size but for what no block covers yet.
#[derive(Clone, Debug, Default)]
pub(crate) struct Entries {
    settled: Frontier,
    open: Vec<Open>,
    last: Option<Digest>,
    /// Packs committed at positions that no block covers yet.
    open_packs: Vec<(u64, PackId)>,
    pub(crate) frozen: bool,
    /// Where a block ended the log of a retired or accused node. What it wrote besides is taken, since others may refer to it and
    /// it may have been written before anybody knew, but no block covers it.
    pub(crate) closed: Option<u64>,
}

/// What is known of a position of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Nothing is here yet.
    Beyond,
    /// This entry.
    Open(Digest),
    /// An entry that is final; only the store knows which.
    Final,
}

/// The leaf of an entry in its author's log.
pub fn entry_leaf(signed: &v1::SignedEntry) -> Digest {
    leaf_hash(&signed.entry)
}

impl Entries {
    pub(crate) fn log(&self) -> Log {
        Log {
            len: self.len(),
            last: self.last(),
            final_len: self.final_len(),
            final_root: self.settled.root(),
            frozen: self.frozen,
        }
    }

    pub(crate) fn len(&self) -> u64 {
        self.settled.len() + self.open.len() as u64
    }

    pub(crate) fn final_len(&self) -> u64 {
        self.settled.len()
    }

    pub(crate) fn last(&self) -> Digest {
        self.last.unwrap_or(Digest([0; 32]))
    }

    pub(crate) fn at(&self, sequence: u64) -> At {
        match sequence.checked_sub(self.final_len()) {
            None => At::Final,
            Some(open) => self.open.get(open as usize).map_or(At::Beyond, |entry| At::Open(entry.digest)),
        }
    }

    pub(crate) fn push(&mut self, digest: Digest, leaf: Digest) {
        self.open.push(Open { digest, leaf });
        self.last = Some(digest);
    }

    pub(crate) fn committed(&mut self, sequence: u64, pack: PackId) {
        self.open_packs.push((sequence, pack));
    }

    /// How far a block may cover this log: to its end, or to where it was closed; not at all past what is final if its
    /// author wrote two entries at one position.
    pub(crate) fn coverable(&self) -> u64 {
        if self.frozen { self.final_len() } else { self.closed.unwrap_or(u64::MAX).min(self.len()) }
    }

    /// The root over its first `len` entries; `None` where they are not here, or reach back into what is final.
    pub(crate) fn root_at(&self, len: u64) -> Option<Digest> {
        let open = usize::try_from(len.checked_sub(self.final_len())?).ok()?;
        let mut tree = self.settled.clone();
        self.open.get(..open)?.iter().for_each(|entry| tree.push(entry.leaf));
        Some(tree.root())
    }

    /// The root over what is final and these leaves.
    pub(crate) fn root_with(&self, leaves: &[Digest]) -> Digest {
        let mut tree = self.settled.clone();
        leaves.iter().for_each(|leaf| tree.push(*leaf));
        tree.root()
    }

    /// A block covers the first `len`; returns the packs among them that none covered before.
    pub(crate) fn cover(&mut self, len: u64) -> Vec<PackId> {
        let open = (len - self.final_len()) as usize;
        self.open.drain(..open).for_each(|entry| self.settled.push(entry.leaf));
        self.open.shrink_to(open.max(16));
        let (covered, left) = self.open_packs.iter().partition(|(sequence, _)| *sequence < len);
        self.open_packs = left;
        let covered: Vec<(u64, PackId)> = covered;
        covered.into_iter().map(|(_, pack)| pack).collect()
    }
}

/// How much of an author's log is final, as a block says it.
pub(crate) fn frontier(author: &NodeId, len: u64, root: &Digest) -> v1::Frontier {
    let root = Bytes::copy_from_slice(root.as_bytes());
    v1::Frontier { author: Bytes::copy_from_slice(author.as_bytes()), len, root }
}

/// What the map of all frontiers holds for an author.
pub(crate) fn frontier_value(item: &v1::Frontier) -> Digest {
    digest(item)
}
