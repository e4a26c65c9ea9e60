//! What can be false in the answers of a holder.

use bithealth_merkle::RunError;
use bithealth_types::{PackId, ShardIndex};

/// What of an answer is not so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// It committed a second time, after it knew what was drawn.
    #[error("it committed a second time, after the leaves were drawn")]
    CommittedTwice,
    /// It lacks a shard that it was not asked for.
    #[error("it says it lacks shard {position} of a set of {count}")]
    NoSuchShard {
        /// The position it named.
        position: usize,
        /// Shards of the set.
        count: usize,
    },
    /// It opened a leaf that was not drawn, or one twice.
    #[error("it opened leaf {leaf}, which was not asked for")]
    NotDrawn {
        /// The leaf.
        leaf: u32,
    },
    /// More or fewer bytes than a leaf has.
    #[error("leaf {leaf} has {got} bytes, {want} are due")]
    Length {
        /// The leaf.
        leaf: u32,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// The bytes are not those of the shard.
    #[error("the leaf is not one of shard {shard} of pack {}: {error}", pack.short())]
    NotInShard {
        /// The pack.
        pack: PackId,
        /// The shard.
        shard: ShardIndex,
        /// What the tree says.
        error: RunError,
    },
    /// The bytes are not what it committed to: it did not have them then.
    #[error("it did not have leaf {leaf} when it committed: {error}")]
    NotCommitted {
        /// The leaf.
        leaf: u32,
        /// What the tree says.
        error: RunError,
    },
}
