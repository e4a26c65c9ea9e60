//! Drives the exchange core: fetches a pack, or a range of one, from all who hold its shards.

mod ahead;
mod assemble;
mod driver;
mod gathered;
mod parts;

use std::ops::Range;
use std::sync::Arc;

use bithealth_exchange::{Need, Priority};
use bithealth_merkle::LeafTree;
use bithealth_pack::{DecodeError, DescriptorError};
use bithealth_proto::v1::PackDescriptor;
use bithealth_types::{Code, Digest, LEAF_LEN, PackId, ShardIndex};
use bytes::Bytes;

pub use self::ahead::Ahead;
use self::assemble::{assemble, leaves_of};
use self::driver::Driver;
pub use self::parts::{forget_all_parts, forget_parts_of};
use crate::node::Node;
use crate::replicate::blocking;

/// A fetch of fewer bytes than this asks nobody who else fetches the pack: it is over before they are found.
const SWARM_LEN_MIN: u64 = 1 << 20;

/// Why a pack cannot be fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// It is not on the ledger.
    #[error("pack {} is not on the ledger", pack.short())]
    UnknownPack {
        /// The pack.
        pack: PackId,
    },
    /// Its descriptor is false, which the ledger should have refused.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// Too few shards can be reached.
    #[error(
        "pack {} needs {k} of its {n} shards, {due} more than the {answering} nodes that answer hold; nodes that do not \
         answer: {absent}", pack.short()
    )]
    Unreachable {
        /// The pack.
        pack: PackId,
        /// Shards that restore it.
        k: u16,
        /// Shards in all.
        n: u16,
        /// Shards that are missing.
        due: u16,
        /// Nodes that were asked.
        answering: usize,
        /// Holders that cannot be asked.
        absent: usize,
    },
    /// Verified shards do not fit together: its author coded it falsely.
    #[error("pack {} was coded falsely by its author: {error}", pack.short())]
    FalseCode {
        /// The pack.
        pack: PackId,
        /// What does not fit.
        error: DecodeError,
    },
    /// Verified shards give another pack than the one committed to.
    #[error("pack {} was coded falsely by its author: its shards give pack {}", pack.short(), got.short())]
    OtherPack {
        /// The pack.
        pack: PackId,
        /// What its shards give.
        got: PackId,
    },
}

/// Fetches a whole pack; checks that all its shards fit together.
///
/// # Errors
/// [`FetchError`].
pub async fn whole(node: &Arc<Node>, pack: &PackId, priority: Priority) -> Result<Vec<u8>, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let driver = Driver::new(node, *pack, &descriptor, code, Need::Whole, priority);
    let driver = if priority == Priority::Restore { driver.with_parts().await } else { driver };
    let leaves = driver.gather().await?;
    let pack = *pack;
    blocking(move || {
        let every: Vec<_> =
            (0..code.k()).map(|shard| (ShardIndex(shard), 0..code.leaf_count(descriptor.len))).collect();
        let mut bytes = assemble(code, &leaves, &every).map_err(|error| FetchError::FalseCode { pack, error })?;
        drop(leaves);
        bytes.truncate(descriptor.len as usize);
        let salt = descriptor.salt.as_ref().try_into().expect("a checked descriptor has a salt");
        let coded = bithealth_pack::encode(code, &salt, descriptor.catalog_len, &bytes)
            .expect("a checked descriptor has sound lengths");
        if coded.id != pack {
            return Err(FetchError::OtherPack { pack, got: coded.id });
        }
        Ok(bytes)
    })
    .await
}

/// A whole shard.
pub struct FetchedShard {
    /// Its leaves, one behind the other.
    pub bytes: Vec<u8>,
    /// The tree over them, with the root that the ledger has.
    pub tree: LeafTree,
}

/// Fetches one shard: the leaves of it that others hold, or what any k others give.
///
/// # Errors
/// [`FetchError`].
pub async fn shard(
    node: &Arc<Node>,
    pack: &PackId,
    shard: ShardIndex,
    priority: Priority,
) -> Result<FetchedShard, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let needed = vec![(shard, 0..code.leaf_count(descriptor.len))];
    let leaves = Driver::new(node, *pack, &descriptor, code, Need::Ranges(needed.clone()), priority).gather().await?;
    let pack = *pack;
    blocking(move || {
        let bytes = assemble(code, &leaves, &needed).map_err(|error| FetchError::FalseCode { pack, error })?;
        let tree = LeafTree::from_shard(&bytes);
        let (got, want) = (tree.root(), roots_of(&descriptor)[usize::from(shard.0)]);
        if got != want {
            let error = DecodeError::Inconsistent { shard, got, want };
            return Err(FetchError::FalseCode { pack, error });
        }
        Ok(FetchedShard { bytes, tree })
    })
    .await
}

/// The root of each shard.
fn roots_of(descriptor: &PackDescriptor) -> Vec<Digest> {
    let root = |root: &Bytes| Digest::try_from(root.as_ref()).expect("a checked descriptor has whole roots");
    descriptor.roots.iter().map(root).collect()
}

/// Fetches a range of a pack.
///
/// # Errors
/// [`FetchError`].
pub async fn range(
    node: &Arc<Node>,
    pack: &PackId,
    range: Range<u64>,
    priority: Priority,
) -> Result<Bytes, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let range = range.start.min(descriptor.len)..range.end.min(descriptor.len);
    if range.is_empty() {
        return Ok(Bytes::new());
    }
    let needed = leaves_of(code, descriptor.len, &range);
    let leaves = Driver::new(node, *pack, &descriptor, code, Need::Ranges(needed.clone()), priority).gather().await?;
    let skip = range.start - begin_of(code, descriptor.len, &needed);
    let pack = *pack;
    blocking(move || {
        let bytes = assemble(code, &leaves, &needed).map_err(|error| FetchError::FalseCode { pack, error })?;
        Ok(Bytes::from(bytes).slice(skip as usize..(skip + range.end - range.start) as usize))
    })
    .await
}

/// Where the first of these leaves lies in its pack.
fn begin_of(code: Code, pack_len: u64, leaves: &[(ShardIndex, Range<u32>)]) -> u64 {
    let (shard, range) = &leaves[0];
    u64::from(shard.0) * code.shard_len(pack_len) + u64::from(range.start) * LEAF_LEN as u64
}

fn descriptor(node: &Node, pack: &PackId) -> Result<(PackDescriptor, Code), FetchError> {
    let state = node.chain.state();
    let descriptor = state.pack(pack).and_then(|pack| pack.commit.pack.clone());
    let descriptor = descriptor.ok_or(FetchError::UnknownPack { pack: *pack })?;
    let code = bithealth_pack::check_descriptor(&descriptor)?;
    Ok((descriptor, code))
}
