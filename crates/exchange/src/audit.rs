//! Checks that a holder has what it should: one audit of one holder, from the question to what came of it.
//!
//! The holder is given a nonce that nobody knew before and a set of shards. It answers with the root of a tree over all
//! their leaves, each hashed behind the nonce, so it must have every byte at that moment: hashes it kept are of no use.
//! Only then leaves are drawn, and it opens them: the bytes, their place in the tree it committed to, and their place in
//! the shard on the ledger. Whoever lacks the share f of the leaves and answers all the same is found out by s drawn
//! leaves with probability 1 - (1 - f)^s: for one in a hundred, 0.40 for 50 leaves, and 0.99996 for 1,000, which is
//! twenty audits of 50.
//!
//! Whether the answer came as fast as from a disk is not judged here: the outcome says how long it took
//! (`bithealth-placement` judges).

mod commitment;
mod error;

use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;

use bithealth_merkle::{bound_leaf_hash, leaf_hash, verify_run};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, PackId, ShardIndex, Time};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

pub use commitment::Commitment;
pub use error::AuditError;

/// Shards of one audit. The question then takes at most 10 KiB.
pub const AUDIT_SHARDS_MAX: usize = 256;
/// Bytes of the shards of one audit: with 64 bytes for each leaf the holder's tree takes 1 MiB, and 50 MB/s read it in
/// five seconds.
pub const AUDIT_BYTES_MAX: u64 = 256 << 20;
/// Leaves opened in one audit: 2 MiB.
pub const AUDIT_SAMPLES_MAX: u32 = 128;

/// A shard that the holder should have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedShard {
    /// Of this pack.
    pub pack: PackId,
    /// This one.
    pub shard: ShardIndex,
    /// Its root, from the ledger.
    pub root: Digest,
    /// Its leaves, from the ledger.
    pub leaf_count: u32,
}

/// What is asked in an audit.
#[derive(Clone, Debug)]
pub struct AuditSpec {
    /// Fresh and random: the holder must not have seen it before.
    pub nonce: [u8; 32],
    /// What the leaves are drawn from, together with the commitment. Random, and never shown to anybody.
    pub draw: [u8; 32],
    /// The shards, at most [`AUDIT_SHARDS_MAX`] with [`AUDIT_BYTES_MAX`] bytes.
    pub shards: Vec<AuditedShard>,
    /// Leaves to open, at most [`AUDIT_SAMPLES_MAX`].
    pub samples: u32,
    /// How long the commitment is waited for.
    pub commit_within: Duration,
    /// How long the opened leaves are waited for.
    pub open_within: Duration,
}

/// What the shell tells the audit.
#[derive(Clone, Debug)]
pub enum AuditInput {
    /// The holder committed.
    Committed {
        /// The root over the bound leaves of all shards of the set, in order, but for those it lacks.
        root: Digest,
        /// Positions in the set of shards that it says it cannot read.
        lacks: Vec<usize>,
    },
    /// The holder opened a leaf.
    Opened {
        /// Its position among the leaves committed to.
        leaf: u32,
        /// Its bytes.
        data: Bytes,
        /// Their proof in the tree of the commitment, as [`verify_run`] takes it.
        bound: Vec<Digest>,
        /// Their proof in the shard.
        proof: Vec<Digest>,
    },
    /// The holder has too much to do, it says.
    Busy,
    /// No more answers come.
    Lost {
        /// Whether the holder itself is still there.
        connected: bool,
    },
    /// Answers [`AuditEffect::WakeAt`]; does no harm at any time.
    Tick,
}

/// What the audit asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditEffect {
    /// Ask the holder to commit to the shards of the spec, with its nonce.
    AskCommit,
    /// Ask the holder to open these leaves, in ascending order.
    AskOpen(Vec<u32>),
    /// Send an [`AuditInput::Tick`] at this time. Replaces the time asked for before.
    WakeAt(Time),
    /// The last effect.
    Ended(AuditOutcome),
}

/// What came of an audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuditOutcome {
    /// Everything it answered is true.
    True {
        /// Bytes of the shards it committed to.
        bytes: u64,
        /// From the question to the commitment.
        took: Duration,
        /// Bytes of the leaves it opened.
        opened_bytes: u64,
        /// From the second question to the last leaf.
        opening_took: Duration,
        /// Positions in the set of shards that it says it cannot read.
        lacks: Vec<usize>,
    },
    /// It answered something that is not so.
    False {
        /// The position in the set of the shard that showed it; none where it is the answer as a whole.
        shard: Option<usize>,
        /// What.
        fault: AuditError,
    },
    /// It was there and did not answer.
    Evaded,
    /// It was not there any more.
    Unreachable,
}

/// One audit of one holder.
#[derive(Debug)]
pub struct Audit {
    spec: AuditSpec,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    New,
    Committing { asked: Time },
    Opening { root: Digest, lacks: Vec<usize>, took: Duration, asked: Time, drawn: BTreeSet<u32>, opened_bytes: u64 },
    Ended,
}

impl Audit {
    /// An audit that has not begun.
    pub fn new(spec: AuditSpec) -> Self {
        Self { spec, phase: Phase::New }
    }

    /// What is asked.
    pub fn spec(&self) -> &AuditSpec {
        &self.spec
    }

    /// Asks the first question.
    pub fn begin(&mut self, now: Time, out: &mut VecDeque<AuditEffect>) {
        self.phase = Phase::Committing { asked: now };
        out.extend([AuditEffect::AskCommit, AuditEffect::WakeAt(now.after(self.spec.commit_within))]);
    }

    /// Takes one input at `now`; appends to `out` what the shell must do, in order. Never blocks, never fails.
    pub fn handle(&mut self, now: Time, input: AuditInput, out: &mut VecDeque<AuditEffect>) {
        let ended = match (&self.phase, input) {
            (Phase::New | Phase::Ended, _) => None,
            (Phase::Committing { asked }, AuditInput::Committed { root, lacks }) => {
                let took = now.since(*asked);
                self.on_committed(now, took, root, lacks, out)
            }
            (Phase::Opening { .. }, AuditInput::Committed { .. }) => Some(whole(AuditError::CommittedTwice)),
            (Phase::Committing { .. }, AuditInput::Opened { leaf, .. }) => Some(whole(AuditError::NotDrawn { leaf })),
            (Phase::Opening { .. }, AuditInput::Opened { leaf, data, bound, proof }) => {
                self.on_opened(now, leaf, &data, &bound, &proof)
            }
            (_, AuditInput::Busy) => Some(AuditOutcome::Evaded),
            (_, AuditInput::Lost { connected: true }) => Some(AuditOutcome::Evaded),
            (_, AuditInput::Lost { connected: false }) => Some(AuditOutcome::Unreachable),
            (_, AuditInput::Tick) => self.is_overdue(now).then_some(AuditOutcome::Evaded),
        };
        if let Some(outcome) = ended {
            self.phase = Phase::Ended;
            out.push_back(AuditEffect::Ended(outcome));
        }
    }

    fn on_committed(
        &mut self,
        now: Time,
        took: Duration,
        root: Digest,
        mut lacks: Vec<usize>,
        out: &mut VecDeque<AuditEffect>,
    ) -> Option<AuditOutcome> {
        lacks.sort_unstable();
        lacks.dedup();
        if let Some(position) = lacks.iter().find(|position| **position >= self.spec.shards.len()).copied() {
            return Some(whole(AuditError::NoSuchShard { position, count: self.spec.shards.len() }));
        }
        let leaves = self.leaf_count(&lacks);
        let drawn = draw(&self.spec.draw, &root, self.spec.samples, leaves);
        if drawn.is_empty() {
            let none = Duration::ZERO;
            return Some(AuditOutcome::True { bytes: 0, took, opened_bytes: 0, opening_took: none, lacks });
        }
        out.push_back(AuditEffect::AskOpen(drawn.iter().copied().collect()));
        out.push_back(AuditEffect::WakeAt(now.after(self.spec.open_within)));
        self.phase = Phase::Opening { root, lacks, took, asked: now, drawn, opened_bytes: 0 };
        None
    }

    fn on_opened(
        &mut self,
        now: Time,
        leaf: u32,
        data: &[u8],
        bound: &[Digest],
        proof: &[Digest],
    ) -> Option<AuditOutcome> {
        let leaves = match &self.phase {
            Phase::Opening { lacks, .. } => self.leaf_count(lacks),
            _ => return None,
        };
        let Phase::Opening { root, lacks, took, asked, drawn, opened_bytes } = &mut self.phase else { return None };
        if !drawn.remove(&leaf) {
            return Some(whole(AuditError::NotDrawn { leaf }));
        }
        let (position, index) = locate(&self.spec.shards, lacks, leaf).expect("a drawn leaf lies in a shard");
        let shard = &self.spec.shards[position];
        if let Err(fault) = check(&self.spec.nonce, root, leaves, leaf, shard, index, data, bound, proof) {
            return Some(AuditOutcome::False { shard: Some(position), fault });
        }
        *opened_bytes += data.len() as u64;
        drawn.is_empty().then(|| AuditOutcome::True {
            bytes: u64::from(leaves) * LEAF_LEN as u64,
            took: *took,
            opened_bytes: *opened_bytes,
            opening_took: now.since(*asked),
            lacks: std::mem::take(lacks),
        })
    }

    fn is_overdue(&self, now: Time) -> bool {
        match &self.phase {
            Phase::Committing { asked } => now.since(*asked) >= self.spec.commit_within,
            Phase::Opening { asked, .. } => now.since(*asked) >= self.spec.open_within,
            Phase::New | Phase::Ended => false,
        }
    }

    /// Leaves of the set without these shards.
    fn leaf_count(&self, lacks: &[usize]) -> u32 {
        let kept = self.spec.shards.iter().enumerate().filter(|(position, _)| lacks.binary_search(position).is_err());
        kept.map(|(_, shard)| shard.leaf_count).sum()
    }
}

/// Fault of the answer as a whole.
fn whole(fault: AuditError) -> AuditOutcome {
    AuditOutcome::False { shard: None, fault }
}

/// `samples` leaves of `leaf_count`, or all: nobody can foresee them who does not know `secret`, and nobody who commits
/// to something else gets the same.
fn draw(secret: &[u8; 32], root: &Digest, samples: u32, leaf_count: u32) -> BTreeSet<u32> {
    if samples >= leaf_count {
        return (0..leaf_count).collect();
    }
    let mut drawn = BTreeSet::new();
    let mut counter = 0u64;
    while drawn.len() < samples as usize {
        let hash = Sha256::new().chain_update(secret).chain_update(root.0).chain_update(counter.to_be_bytes());
        let hash: [u8; 32] = hash.finalize().into();
        let number = u64::from_be_bytes(hash[..8].try_into().expect("eight bytes"));
        drawn.insert((number % u64::from(leaf_count)) as u32); // the bias is below 2^-32
        counter += 1;
    }
    drawn
}

/// The shard of the set that a leaf committed to lies in, and its position there.
fn locate(shards: &[AuditedShard], lacks: &[usize], leaf: u32) -> Option<(usize, LeafIndex)> {
    let mut before = 0;
    for (position, shard) in shards.iter().enumerate().filter(|(position, _)| lacks.binary_search(position).is_err()) {
        if leaf < before + shard.leaf_count {
            return Some((position, LeafIndex(leaf - before)));
        }
        before += shard.leaf_count;
    }
    None
}

#[allow(clippy::too_many_arguments)] // what an opened leaf is compared with; they belong to nothing together
fn check(
    nonce: &[u8; 32],
    root: &Digest,
    leaf_count: u32,
    leaf: u32,
    shard: &AuditedShard,
    index: LeafIndex,
    data: &[u8],
    bound: &[Digest],
    proof: &[Digest],
) -> Result<(), AuditError> {
    if data.len() != LEAF_LEN {
        return Err(AuditError::Length { leaf, got: data.len(), want: LEAF_LEN });
    }
    verify_run(&shard.root, shard.leaf_count, index, &[leaf_hash(data)], proof)
        .map_err(|error| AuditError::NotInShard { pack: shard.pack, shard: shard.shard, error })?;
    verify_run(root, leaf_count, LeafIndex(leaf), &[bound_leaf_hash(nonce, data)], bound)
        .map_err(|error| AuditError::NotCommitted { leaf, error })
}

#[cfg(test)]
mod tests;
