//! What passes between the shell and a fetch.

use std::ops::Range;

use bithealth_merkle::{RunError, leaf_hash, verify_run};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, NodeId, ShardIndex, Time};
use bytes::Bytes;

use crate::{RunSet, ShardSet};

/// Names a want within one fetch. On the wire the shell makes it unique among all its fetches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WantId(pub u64);

/// A run of leaves of one shard, asked of one provider.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Want {
    /// Echoed in the answer.
    pub id: WantId,
    /// The shard.
    pub shard: ShardIndex,
    /// The first leaf.
    pub first: LeafIndex,
    /// 1 to [`crate::RUN_LEAVES_MAX`] leaves.
    pub count: u32,
}

impl Want {
    /// Bytes of the leaves.
    pub fn len(&self) -> u64 {
        u64::from(self.count) * LEAF_LEN as u64
    }

    /// Never: a want has at least one leaf.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

/// Leaves that came for a want, and whether they are those that were wanted.
///
/// To look at them takes most of the processor time of a fetch, so whoever hears of them does it, many at a time.
#[derive(Clone, Debug)]
pub struct Checked {
    pub(crate) want: Want,
    pub(crate) data: Bytes,
    pub(crate) hashes: Vec<Digest>,
    pub(crate) proof: Vec<Digest>,
    pub(crate) fault: Option<LeafError>,
}

impl Checked {
    /// Looks at what came for a want of a shard with this root, in a pack of `leaf_count` rows: the leaves, one behind the
    /// other, and their proof, as [`verify_run`] takes it.
    pub fn new(want: Want, root: &Digest, leaf_count: u32, data: Bytes, proof: Vec<Digest>) -> Self {
        let mut checked = Self::later(want, data, proof);
        if checked.fault.is_none() {
            checked.hashes = checked.data.chunks(LEAF_LEN).map(leaf_hash).collect();
            let fault = verify_run(root, leaf_count, want.first, &checked.hashes, &checked.proof).err();
            checked.fault = fault.map(|error| LeafError::NotInShard { shard: want.shard, error });
        }
        checked
    }

    /// What came for a want, of the right length and not looked at any further. Whoever restores a whole shard from such
    /// leaves sees at its root whether all were true, and hashes one shard instead of k. Until then they are nobody else's:
    /// [`Effect::Store`] hands them on as they came, without hashes.
    pub fn later(want: Want, data: Bytes, proof: Vec<Digest>) -> Self {
        let Want { shard, first, .. } = want;
        let fault = (data.len() as u64 != want.len()).then(|| LeafError::Length {
            shard,
            first,
            got: data.len(),
            want: want.len() as usize,
        });
        Self { want, data, hashes: Vec::new(), proof, fault }
    }

    /// The shard they were said to be of.
    pub fn shard(&self) -> ShardIndex {
        self.want.shard
    }

    /// Looks at them after all; why they are not what was wanted.
    pub fn look(&self, root: &Digest, leaf_count: u32) -> Option<LeafError> {
        Self::new(self.want, root, leaf_count, self.data.clone(), self.proof.clone()).fault
    }

    /// Whether they are what was wanted, as far as they were looked at.
    pub fn is_true(&self) -> bool {
        self.fault.is_none()
    }
}

/// The store refused leaves. Why is the shell's to say: it stops or retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("verified leaves could not be stored")]
pub struct StoreFault;

/// What the shell tells the fetch.
#[derive(Clone, Debug)]
pub enum Input {
    /// These verified leaves are here already. Best told before the first provider.
    Held {
        /// The shard.
        shard: ShardIndex,
        /// Positions of the leaves.
        leaves: Range<u32>,
    },
    /// A peer holds these shards. Told again, it replaces what was said before, and cells it missed may be asked again.
    Provider {
        /// The peer.
        peer: NodeId,
        /// What it holds: its shard; all k data shards if it has the pack; all n if it keeps parity too.
        shards: ShardSet,
    },
    /// A peer fetches the same pack, and has these runs of it by now. Told again, it adds to what was said before.
    Fetching {
        /// The peer.
        peer: NodeId,
        /// Runs by shard.
        runs: Vec<(ShardIndex, RunSet)>,
    },
    /// A peer fetched the same pack lately, and still has these runs of it. It gets no more.
    Fetched {
        /// The peer.
        peer: NodeId,
        /// Runs by shard.
        runs: Vec<(ShardIndex, RunSet)>,
    },
    /// Those asked have said who else fetches the pack.
    Sought,
    /// Answers a want.
    Leaves {
        /// Who sent it.
        from: NodeId,
        /// What came, looked at.
        leaves: Checked,
    },
    /// Answers a want: the peer does not have these leaves.
    Missing {
        /// Who sent it.
        from: NodeId,
        /// Which want.
        want: WantId,
    },
    /// Answers a want: the peer has too much to do, now.
    Busy {
        /// Who sent it.
        from: NodeId,
        /// Which want.
        want: WantId,
    },
    /// The peer asks us to send it no wants. What it was asked before it still answers.
    Choked {
        /// Who.
        peer: NodeId,
    },
    /// The peer takes wants again.
    Unchoked {
        /// Who.
        peer: NodeId,
    },
    /// The peer is no longer connected.
    PeerLost {
        /// Who.
        peer: NodeId,
    },
    /// Answers [`Effect::Store`].
    Stored {
        /// The shard.
        shard: ShardIndex,
        /// The first leaf, as in the effect.
        first: LeafIndex,
        /// Whether they are stored.
        result: Result<(), StoreFault>,
    },
    /// Answers [`Effect::WakeAt`]; does no harm at any time.
    Tick,
}

/// What the fetch asks of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Ask this provider.
    Send {
        /// Whom.
        to: NodeId,
        /// For what.
        ask: Want,
    },
    /// Tell this provider that a want needs no answer any more. One that comes all the same does no harm.
    Cancel {
        /// Whom.
        to: NodeId,
        /// Which want.
        want: WantId,
    },
    /// Keep these leaves; they are verified.
    Store {
        /// The shard.
        shard: ShardIndex,
        /// The first leaf.
        first: LeafIndex,
        /// The leaves, one behind the other.
        data: Bytes,
        /// The hash of each.
        hashes: Vec<Digest>,
        /// Their proof, for whoever wants them of us.
        proof: Vec<Digest>,
    },
    /// All that is needed is here or on its way: whoever has another pack to fetch may begin with it. Said once.
    AllWanted,
    /// This peer sent something false. It is not asked again.
    Blame {
        /// Who.
        peer: NodeId,
        /// What was false.
        fault: LeafError,
    },
    /// Send a [`Input::Tick`] at this time. Replaces the time asked for before.
    WakeAt(Time),
    /// All that is needed is stored. The last effect.
    Finished,
    /// The known providers cannot complete this. Told again when the numbers change; more providers revive it.
    Starved {
        /// Rows that cannot be had.
        rows: u32,
        /// Most shards that such a row still lacks.
        shards_due: u16,
    },
    /// The store refused leaves, so there is no use in more. The last effect.
    Aborted(StoreFault),
}

/// Why leaves offered by a peer were refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LeafError {
    /// More or fewer bytes than were wanted.
    #[error("shard {shard} from leaf {first}: {got} bytes came, {want} are due")]
    Length {
        /// The shard.
        shard: ShardIndex,
        /// The first leaf.
        first: LeafIndex,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// The leaves are not those of the shard.
    #[error("shard {shard}: {error}")]
    NotInShard {
        /// The shard.
        shard: ShardIndex,
        /// What the tree says.
        error: RunError,
    },
}
