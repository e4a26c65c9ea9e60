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
use self::ahead::inner;
use self::assemble::{LeafMap, NOBODY, assemble, leaves_of};
use self::driver::Driver;
use self::gathered::Gathered;
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
    let mut leaves = driver.gather().await?;
    let pack = *pack;
    blocking(move || {
        let every: Vec<_> =
            (0..code.k()).map(|shard| (ShardIndex(shard), 0..code.leaf_count(descriptor.len))).collect();
        let mut bytes =
            assemble(code, &mut leaves, &every, NOBODY).map_err(|error| FetchError::FalseCode { pack, error })?;
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
/// Its leaves are hashed once it is whole, and not before, which is all it takes if everybody is honest. Otherwise what came
/// is looked at, and everything fetched again and looked at as it comes.
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
    let due = roots_of(&descriptor)[usize::from(shard.0)];
    let driver = || Driver::new(node, *pack, &descriptor, code, Need::Ranges(needed.clone()), priority);
    let pack = *pack;
    let restore = |mut leaves: LeafMap, needed: Vec<(ShardIndex, Range<u32>)>| {
        blocking(move || {
            let bytes = assemble(code, &mut leaves, &needed, NOBODY);
            let bytes = bytes.map_err(|error| FetchError::FalseCode { pack, error })?;
            let tree = LeafTree::from_shard(&bytes);
            match tree.root() {
                got if got == due => Ok(FetchedShard { bytes, tree }),
                got => {
                    let error = DecodeError::Inconsistent { shard, got, want: due };
                    Err(FetchError::FalseCode { pack, error })
                }
            }
        })
    };
    let (later, suspects) = driver().looking_later();
    let leaves = later.gather().await?;
    if let Ok(fetched) = restore(leaves, needed.clone()).await {
        return Ok(fetched);
    }
    blocking(move || suspects.look()).await;
    let leaves = driver().gather().await?;
    restore(leaves, needed.clone()).await
}

/// The root of each shard.
fn roots_of(descriptor: &PackDescriptor) -> Vec<Digest> {
    let root = |root: &Bytes| Digest::try_from(root.as_ref()).expect("a checked descriptor has whole roots");
    descriptor.roots.iter().map(root).collect()
}

/// Verified leaves that hold a range of a pack, or others to decode it from.
pub struct FetchedRange {
    pack: PackId,
    code: Code,
    /// The leaves that hold the range.
    needed: Vec<(ShardIndex, Range<u32>)>,
    leaves: LeafMap,
    /// Where the range lies in them.
    within: Range<usize>,
    /// Where its neighbours are read from; none if nobody reads them.
    gathered: Option<Arc<Gathered>>,
}

impl FetchedRange {
    /// Its bytes. Blocks.
    ///
    /// # Errors
    /// [`FetchError::FalseCode`].
    pub fn bytes(self) -> Result<Bytes, FetchError> {
        let Self { pack, code, needed, mut leaves, within, gathered } = self;
        let taker = gathered.as_ref().map(|gathered| |decoded| gathered.decoded(code, decoded));
        let bytes = assemble(code, &mut leaves, &needed, taker);
        let bytes = bytes.map_err(|error| FetchError::FalseCode { pack, error })?;
        if let Some(gathered) = &gathered {
            gathered.forget(&inner(needed, within.start));
        }
        Ok(Bytes::from(bytes).slice(within))
    }
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
    let fetched = leaves_of_range(node, pack, range, priority).await?;
    blocking(move || fetched.bytes()).await
}

async fn leaves_of_range(
    node: &Arc<Node>,
    pack: &PackId,
    range: Range<u64>,
    priority: Priority,
) -> Result<FetchedRange, FetchError> {
    let (descriptor, code) = descriptor(node, pack)?;
    let range = range.start.min(descriptor.len)..range.end.min(descriptor.len);
    if range.is_empty() {
        let (needed, leaves) = (Vec::new(), LeafMap::new());
        return Ok(FetchedRange { pack: *pack, code, needed, leaves, within: 0..0, gathered: None });
    }
    let needed = leaves_of(code, descriptor.len, &range);
    let within = within(code, descriptor.len, &needed, &range);
    let leaves = Driver::new(node, *pack, &descriptor, code, Need::Ranges(needed.clone()), priority).gather().await?;
    Ok(FetchedRange { pack: *pack, code, needed, leaves, within, gathered: None })
}

/// Where a range of a pack lies in the leaves that hold it.
fn within(code: Code, pack_len: u64, leaves: &[(ShardIndex, Range<u32>)], range: &Range<u64>) -> Range<usize> {
    let (shard, rows) = &leaves[0];
    let begin = u64::from(shard.0) * code.shard_len(pack_len) + u64::from(rows.start) * LEAF_LEN as u64;
    (range.start - begin) as usize..(range.end - begin) as usize
}

fn descriptor(node: &Node, pack: &PackId) -> Result<(PackDescriptor, Code), FetchError> {
    let state = node.chain.state();
    let descriptor = state.pack(pack).and_then(|pack| pack.commit.pack.clone());
    let descriptor = descriptor.ok_or(FetchError::UnknownPack { pack: *pack })?;
    let code = bithealth_pack::check_descriptor(&descriptor)?;
    Ok((descriptor, code))
}
