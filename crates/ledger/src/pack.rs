//! Packs on the ledger: who committed them, where their shards were moved, what replaced them.

use std::collections::{BTreeMap, BTreeSet};

use bithealth_proto::v1;
use bithealth_types::{Code, Digest, Height, NodeId, NotACode, PACK_LEN_MAX, PackId, Sequence, ShardIndex};

use crate::member::{JURISDICTION_LEN_MAX, MembershipError, text};

/// Most organisations a pack's catalog key is sealed to.
pub const WRAPS_MAX: usize = 32;
/// Most bytes of one sealed catalog key: an X-Wing encapsulation takes 1,120, the sealed key 48.
pub const WRAP_LEN_MAX: usize = 2048;
/// Most jurisdictions a policy names.
pub const KEEP_IN_MAX: usize = 64;

/// A pack on the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Pack {
    /// The digest of its descriptor.
    pub id: PackId,
    /// Who committed it.
    pub author: NodeId,
    /// The position of the commit in its author's log.
    pub sequence: Sequence,
    /// The author's clock when it was committed.
    pub time_ms: u64,
    /// The commit. Its fields share one buffer of the entry's length.
    pub commit: v1::PackCommit,
    /// Shards that are not where placement computes them: exceptions of the commit and later moves, the last of each.
    pub places: BTreeMap<ShardIndex, NodeId>,
    /// The pack that its author gathered its records into.
    pub retired_into: Option<PackId>,
    /// The height of the block that first covered the commit.
    pub height: Option<Height>,
}

/// Why a pack commit is not valid.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PackError {
    /// A part that must be there is not.
    #[error("{what} is missing")]
    Absent {
        /// The part.
        what: &'static str,
    },
    /// A field of fixed length has another.
    #[error("{what} has {got} bytes, {want} are due")]
    Length {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// The numbers of shards are no code.
    #[error(transparent)]
    Code(#[from] NotACode),
    /// Empty, or longer than a pack may be.
    #[error("a pack of {got} bytes, 1 to {PACK_LEN_MAX} are accepted")]
    PackLen {
        /// Bytes that came.
        got: u64,
    },
    /// Another number of roots than shards.
    #[error("{got} shard roots for {n} shards")]
    Roots {
        /// Roots that came.
        got: usize,
        /// Shards.
        n: u16,
    },
    /// The catalog would be longer than the pack.
    #[error("a catalog of {got} bytes in a pack of {len}")]
    CatalogLen {
        /// Bytes of the catalog.
        got: u64,
        /// Bytes of the pack.
        len: u64,
    },
    /// Sealed to too many organisations.
    #[error("{got} wraps, at most {WRAPS_MAX} are accepted")]
    Wraps {
        /// Wraps that came.
        got: usize,
    },
    /// A wrap is empty or too long.
    #[error("a wrap of {got} bytes, 1 to {WRAP_LEN_MAX} are accepted")]
    WrapLen {
        /// Bytes that came.
        got: usize,
    },
    /// An exception for a shard the pack does not have, or two for one.
    #[error("exception for shard {shard}: a pack of {n} shards has at most one for each")]
    Exception {
        /// The shard.
        shard: u32,
        /// Shards of the pack.
        n: u16,
    },
    /// The policy names too many jurisdictions.
    #[error("the policy names {got} jurisdictions, at most {KEEP_IN_MAX} are accepted")]
    KeepIn {
        /// Jurisdictions that came.
        got: usize,
    },
    /// The policy names a jurisdiction that no node can be in.
    #[error(transparent)]
    Jurisdiction(MembershipError),
}

/// Checks a commit by itself; returns the id of its pack and its salt.
pub(crate) fn check_commit(commit: &v1::PackCommit) -> Result<(PackId, [u8; 32]), PackError> {
    let pack = commit.pack.as_ref().ok_or(PackError::Absent { what: "the pack's descriptor" })?;
    let salt = length("the pack's salt", &pack.salt)?;
    let code = Code::new(pack.k, pack.n)?;
    if pack.len == 0 || pack.len > PACK_LEN_MAX as u64 {
        return Err(PackError::PackLen { got: pack.len });
    }
    if pack.roots.len() != usize::from(code.n()) {
        return Err(PackError::Roots { got: pack.roots.len(), n: code.n() });
    }
    pack.roots.iter().try_for_each(|root| length("a shard's root", root).map(drop))?;
    if pack.catalog_len > pack.len {
        return Err(PackError::CatalogLen { got: pack.catalog_len, len: pack.len });
    }
    length("the root of the folder heads", &commit.heads_root)?;
    if commit.wraps.len() > WRAPS_MAX {
        return Err(PackError::Wraps { got: commit.wraps.len() });
    }
    if let Some(wrap) = commit.wraps.iter().find(|wrap| wrap.is_empty() || wrap.len() > WRAP_LEN_MAX) {
        return Err(PackError::WrapLen { got: wrap.len() });
    }
    let mut seen = BTreeSet::new();
    for exception in &commit.exceptions {
        length("the node of an exception", &exception.node)?;
        if exception.shard >= u32::from(code.n()) || !seen.insert(exception.shard) {
            return Err(PackError::Exception { shard: exception.shard, n: code.n() });
        }
    }
    let policy = commit.policy.as_ref().ok_or(PackError::Absent { what: "the pack's policy" })?;
    if policy.keep_in.len() > KEEP_IN_MAX {
        return Err(PackError::KeepIn { got: policy.keep_in.len() });
    }
    let named = |name: &String| text("a jurisdiction of keep_in", name, JURISDICTION_LEN_MAX);
    policy.keep_in.iter().try_for_each(named).map_err(PackError::Jurisdiction)?;
    Ok((pack.id(), salt))
}

fn length(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], PackError> {
    bytes.try_into().map_err(|_| PackError::Length { what, got: bytes.len(), want: 32 })
}

/// A shard stands elsewhere than computed, says an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Move {
    // The last in this order wins.
    time_ms: u64,
    author: NodeId,
    sequence: Sequence,
    shard: ShardIndex,
    node: NodeId,
}

/// One pack id: usually one commit. A second author could commit a descriptor it saw; it gains nothing by that, since
/// each commit is retired by its own author only.
#[derive(Clone, Debug, Default)]
struct Slot {
    commits: Vec<Pack>,
    moves: Vec<Move>,
}

/// All packs.
#[derive(Clone, Debug, Default)]
pub(crate) struct Packs {
    slots: BTreeMap<PackId, Slot>,
    salts: BTreeMap<[u8; 32], Vec<PackId>>,
}

impl Slot {
    /// The commit that counts: one that is not retired; then the first covered; then by author.
    fn current(&self) -> Option<&Pack> {
        let order = |pack: &&Pack| (pack.retired_into.is_some(), rank(pack));
        self.commits.iter().min_by_key(order)
    }

    fn settle(&mut self) {
        self.moves.sort_unstable();
        for pack in &mut self.commits {
            let n = pack.commit.pack.as_ref().map_or(0, |descriptor| descriptor.n);
            let counts =
                |step: &&Move| (step.author == pack.author || step.author == step.node) && u32::from(step.shard.0) < n;
            pack.places = self.moves.iter().filter(counts).map(|step| (step.shard, step.node)).collect();
        }
    }
}

fn rank(pack: &Pack) -> (u64, NodeId, Sequence) {
    (pack.height.map_or(u64::MAX, |height| height.0), pack.author, pack.sequence)
}

impl Packs {
    pub(crate) fn get(&self, id: &PackId) -> Option<&Pack> {
        self.slots.get(id).and_then(Slot::current)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Pack> {
        self.slots.values().filter_map(Slot::current)
    }

    /// The newest pack with this salt, not retired where there is one, of the author that committed one first.
    pub(crate) fn with_salt(&self, salt: &[u8; 32]) -> Option<PackId> {
        let packs: Vec<&Pack> = self.salts.get(salt)?.iter().filter_map(|id| self.get(id)).collect();
        let author = packs.iter().min_by_key(|pack| rank(pack))?.author;
        let own = packs.into_iter().filter(|pack| pack.author == author);
        own.max_by_key(|pack| (pack.retired_into.is_none(), pack.sequence)).map(|pack| pack.id)
    }

    /// The commit of a pack by this author.
    pub(crate) fn of(&self, id: &PackId, author: &NodeId) -> Option<&Pack> {
        self.slots.get(id)?.commits.iter().find(|pack| pack.author == *author)
    }

    /// There are many packs and nearly always one of each, so the vectors here start with room for one.
    pub(crate) fn commit(&mut self, mut pack: Pack, salt: [u8; 32]) {
        if let Some(descriptor) = &mut pack.commit.pack {
            descriptor.roots.shrink_to_fit();
        }
        let salts = self.salts.entry(salt).or_default();
        if !salts.contains(&pack.id) {
            salts.reserve_exact(1);
            salts.push(pack.id);
        }
        let slot = self.slots.entry(pack.id).or_default();
        let step = |exception: &v1::Exception| Move {
            time_ms: pack.time_ms,
            author: pack.author,
            sequence: pack.sequence,
            shard: ShardIndex(exception.shard as u16),
            node: NodeId(exception.node.as_ref().try_into().expect("check_commit saw its length")),
        };
        slot.moves.reserve_exact(pack.commit.exceptions.len());
        slot.moves.extend(pack.commit.exceptions.iter().map(step));
        slot.commits.reserve_exact(1);
        slot.commits.push(pack);
        slot.settle();
    }

    pub(crate) fn place(&mut self, id: &PackId, shard: ShardIndex, node: NodeId, author: NodeId, at: (u64, Sequence)) {
        let slot = self.slots.entry(*id).or_default();
        slot.moves.push(Move { time_ms: at.0, author, sequence: at.1, shard, node });
        slot.settle();
    }

    pub(crate) fn retire(&mut self, id: &PackId, author: &NodeId, into: PackId) {
        let slot = self.slots.entry(*id).or_default();
        slot.commits.iter_mut().filter(|pack| pack.author == *author).for_each(|pack| pack.retired_into = Some(into));
    }

    pub(crate) fn cover(&mut self, id: &PackId, author: &NodeId, height: Height) {
        let slot = self.slots.entry(*id).or_default();
        slot.commits.iter_mut().filter(|pack| pack.author == *author).for_each(|pack| pack.height = Some(height));
    }

    /// What two equal tables encode alike.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for (id, slot) in &self.slots {
            out.extend(id.0);
            let mut commits: Vec<&Pack> = slot.commits.iter().collect();
            commits.sort_by_key(|pack| pack.author);
            for pack in commits {
                out.extend(pack.author.0);
                out.extend(pack.sequence.0.to_be_bytes());
                out.extend(bithealth_proto::digest(&pack.commit).0);
                out.extend(pack.retired_into.map_or(Digest([0; 32]), |id| Digest(id.0)).0);
                out.extend(pack.height.map_or(u64::MAX, |height| height.0).to_be_bytes());
                for (shard, node) in &pack.places {
                    out.extend(shard.0.to_be_bytes());
                    out.extend(node.0);
                }
            }
        }
    }
}
