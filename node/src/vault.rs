//! What lies where in the store: own packs under their salt, shards of others under pack and position, and the Merkle
//! leaf hashes that prove runs of both.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, RwLock};

use bithealth_merkle::LeafTree;
use bithealth_pack::{CodedPack, decode_rows};
use bithealth_proto::{DecodeError, Limited, decode, encode, v1};
use bithealth_store::{Kind, Position, ReadError, Store, WriteError};
use bithealth_types::{Code, Digest, LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex};
use bytes::Bytes;

use crate::shelf::Salt;

/// Leaf trees of shards served lately that stay in memory: 64 bytes for each leaf, so at most 64 KiB each.
const TREES_MAX: usize = 64;

/// Sealed content in the store.
pub struct Vault {
    store: Arc<Store>,
    /// Of shards served lately, the latest last: making a tree costs as much as hashing half of what a want asks for.
    trees: Mutex<VecDeque<ServedTree>>,
    /// Own packs that are coded: their id names their salt, code and length.
    own: RwLock<HashMap<PackId, OwnPack>>,
}

/// A shard, and the tree over its leaves.
struct ServedTree {
    of: (PackId, ShardIndex),
    tree: Arc<LeafTree>,
}

/// An own pack that is coded.
#[derive(Clone, Copy, Debug)]
pub struct OwnPack {
    /// Its name in the store.
    pub salt: Salt,
    /// Its code.
    pub code: Code,
    /// Its bytes.
    pub len: u64,
}

/// Why content cannot be had from the store.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The store cannot read it: damaged or failing.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store takes nothing.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// What lies beside the content is damaged.
    #[error("what is stored beside a pack is damaged: {0}")]
    Damaged(#[from] DecodeError),
    /// Not here.
    #[error("pack {} is not in this store", hex(salt))]
    NoPack {
        /// The pack's salt.
        salt: Salt,
    },
}

/// A run of leaves with its proof.
pub struct ProvenRun {
    /// The leaves.
    pub data: Bytes,
    /// Their Merkle range proof.
    pub proof: Vec<Digest>,
}

impl Vault {
    /// The vault in `store`.
    pub fn new(store: Arc<Store>) -> Self {
        Self { store, trees: Mutex::default(), own: RwLock::default() }
    }

    /// Writes an own pack; it is durable once the store has synced the position.
    pub fn put_pack(&self, salt: &Salt, beside: &v1::StoredPack, bytes: &[u8]) -> Result<Position, WriteError> {
        self.store.put(Kind::Pack, salt, &encode(beside), &[bytes])
    }

    /// What lies beside an own pack.
    pub fn stored_pack(&self, salt: &Salt) -> Result<v1::StoredPack, VaultError> {
        let item = self.store.get(Kind::Pack, salt)?.ok_or(VaultError::NoPack { salt: *salt })?;
        Ok(decode(&item.meta)?)
    }

    /// Bytes of an own pack.
    pub fn pack_len(&self, salt: &Salt) -> Result<u64, VaultError> {
        Ok(self.store.get(Kind::Pack, salt)?.ok_or(VaultError::NoPack { salt: *salt })?.len)
    }

    /// A range of an own pack, every byte verified.
    pub fn read_pack(&self, salt: &Salt, range: Range<u64>) -> Result<Bytes, VaultError> {
        Ok(self.store.read(Kind::Pack, salt, range)?)
    }

    /// An own pack, every byte verified.
    pub fn whole_pack(&self, salt: &Salt) -> Result<Bytes, VaultError> {
        let len = self.pack_len(salt)?;
        self.read_pack(salt, 0..len)
    }

    /// The sealed catalog at an own pack's end.
    pub fn catalog(&self, salt: &Salt) -> Result<Bytes, VaultError> {
        let len = self.pack_len(salt)?;
        let catalog_len = self.stored_pack(salt)?.catalog_len;
        self.read_pack(salt, len.saturating_sub(catalog_len)..len)
    }

    /// Salts of all own packs.
    pub fn salts(&self) -> Result<Vec<Salt>, VaultError> {
        Ok(keys(&self.store, Kind::Pack)?.into_iter().filter_map(|key| key.try_into().ok()).collect())
    }

    /// Remembers that an own pack is coded, and keeps the leaf hashes of all its shards: it serves them all.
    pub fn put_coded(&self, salt: &Salt, coded: &CodedPack, code: Code) -> Result<Position, WriteError> {
        let hashes = coded.trees.iter().flat_map(LeafTree::hashes);
        let hashes: Vec<u8> = hashes.flat_map(|hash| *hash.as_bytes()).collect();
        let position = self.store.put(Kind::Meta, &trees_key(&coded.id), &[], &[&hashes])?;
        self.know_own(coded.id, OwnPack { salt: *salt, code, len: coded.descriptor.len });
        Ok(position)
    }

    /// An own pack was coded before, or restored from its shards.
    pub fn know_own(&self, id: PackId, pack: OwnPack) {
        self.own.write().expect("no holder panics").insert(id, pack);
    }

    /// Whether the leaf hashes of an own pack are here.
    pub fn has_trees(&self, id: &PackId) -> bool {
        self.has(Kind::Meta, &trees_key(id))
    }

    /// An index that cannot be read counts as not having it: whoever needs it asks others.
    fn has(&self, kind: Kind, key: &[u8]) -> bool {
        self.store.contains(kind, key).unwrap_or(false)
    }

    /// An own coded pack.
    pub fn own(&self, id: &PackId) -> Option<OwnPack> {
        self.own.read().expect("no holder panics").get(id).copied()
    }

    /// Forgets the coding of an own pack under this id.
    pub fn forget_coded(&self, id: &PackId) -> Result<(), WriteError> {
        self.own.write().expect("no holder panics").remove(id);
        self.store.remove(Kind::Meta, &trees_key(id))?;
        Ok(())
    }

    /// Drops an own pack whose records lie in another one.
    pub fn remove_pack(&self, salt: &Salt, id: Option<&PackId>) -> Result<(), WriteError> {
        if let Some(id) = id {
            self.forget_coded(id)?;
        }
        self.store.remove(Kind::Pack, salt)?;
        Ok(())
    }

    /// Writes a shard of somebody's pack; `tree` was checked against the pack's root.
    pub fn put_shard(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        tree: &LeafTree,
        parts: &[&[u8]],
    ) -> Result<Position, WriteError> {
        let hashes: Vec<u8> = tree.hashes().iter().flat_map(|hash| *hash.as_bytes()).collect();
        self.store.put(Kind::Shard, &shard_key(pack, shard), &hashes, parts)
    }

    /// The same, durable when it returns.
    pub fn keep_shard(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        tree: &LeafTree,
        parts: &[&[u8]],
    ) -> Result<(), WriteError> {
        let position = self.put_shard(pack, shard, tree, parts)?;
        self.store.sync(position)
    }

    /// Drops a shard.
    pub fn remove_shard(&self, pack: &PackId, shard: ShardIndex) -> Result<(), WriteError> {
        self.store.remove(Kind::Shard, &shard_key(pack, shard)).map(drop)
    }

    /// Whether this shard lies here.
    pub fn has_shard(&self, pack: &PackId, shard: ShardIndex) -> bool {
        self.has(Kind::Shard, &shard_key(pack, shard)) || self.own(pack).is_some_and(|own| shard.0 < own.code.k())
    }

    /// The shards of `pack` that lie here, of `n`.
    pub fn shards_of(&self, pack: &PackId, n: u16) -> Vec<ShardIndex> {
        (0..n).map(ShardIndex).filter(|shard| self.has_shard(pack, *shard)).collect()
    }

    /// The shards of `pack` that are served from here, of `n`: of an own pack all.
    pub fn served_shards_of(&self, pack: &PackId, n: u16) -> Vec<ShardIndex> {
        match self.own(pack) {
            Some(own) => (0..own.code.n()).map(ShardIndex).collect(),
            None => self.shards_of(pack, n),
        }
    }

    /// Shards that are read to serve this one: of parity of an own pack, all its data.
    pub fn reads_to_serve(&self, pack: &PackId, shard: ShardIndex) -> u16 {
        self.own(pack).map_or(1, |own| if shard.0 < own.code.k() { 1 } else { own.code.k() })
    }

    /// All shards of others here.
    pub fn held(&self) -> Result<Vec<(PackId, ShardIndex)>, VaultError> {
        Ok(keys(&self.store, Kind::Shard)?.iter().filter_map(|key| read_shard_key(key)).collect())
    }

    /// Bytes of a shard that lies here for somebody else.
    pub fn shard_len(&self, pack: &PackId, shard: ShardIndex) -> Result<u64, VaultError> {
        let item = self.store.get(Kind::Shard, &shard_key(pack, shard))?;
        Ok(item.map_or(0, |item| item.len))
    }

    /// Bytes of all own packs that are coded.
    pub fn own_len(&self) -> u64 {
        self.own.read().expect("no holder panics").values().map(|own| own.len).sum()
    }

    /// A run of leaves of a shard and its proof; none where the shard is not here or has no such leaves.
    pub fn leaves(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        first: LeafIndex,
        count: u32,
    ) -> Result<Option<ProvenRun>, VaultError> {
        let range = leaf_range(first, count);
        let is_held = self.store.contains(Kind::Shard, &shard_key(pack, shard))?;
        let own = self.own(pack).filter(|own| !is_held && shard.0 < own.code.k());
        if !is_held && own.is_none() {
            return Ok(None);
        }
        let tree = self.tree(pack, shard, own.as_ref())?;
        let Some(proof) = tree.and_then(|tree| tree.prove_run(first, count)) else { return Ok(None) };
        let data = match own {
            None => self.store.read(Kind::Shard, &shard_key(pack, shard), range)?,
            Some(own) => self.data_run(&own, shard, range)?,
        };
        Ok(Some(ProvenRun { data, proof }))
    }

    /// A run of leaves of a parity shard of an own pack, coded at this moment, and its proof; none where the pack is not ours
    /// or has no such leaves. So whoever rebuilds that shard is sent one shard and not k.
    pub fn coded_leaves(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        first: LeafIndex,
        count: u32,
    ) -> Result<Option<ProvenRun>, VaultError> {
        let is_parity = |own: &OwnPack| (own.code.k()..own.code.n()).contains(&shard.0);
        let Some(own) = self.own(pack).filter(is_parity) else { return Ok(None) };
        let tree = self.tree(pack, shard, Some(&own))?;
        let Some(proof) = tree.and_then(|tree| tree.prove_run(first, count)) else { return Ok(None) };
        let data =
            |shard: u16| Ok((ShardIndex(shard), self.data_run(&own, ShardIndex(shard), leaf_range(first, count))?));
        let data: Vec<_> = (0..own.code.k()).map(data).collect::<Result<_, VaultError>>()?;
        let columns: Vec<_> = data.iter().map(|(shard, run)| (*shard, run.as_ref())).collect();
        let coded = decode_rows(own.code, &[shard], &columns).expect("whole leaves of all data");
        Ok(coded.into_iter().next().map(|run| ProvenRun { data: run.into(), proof }))
    }

    /// The leaf tree of a shard that lies here, in an own pack or for somebody else. A shard's bytes never change, so a
    /// tree that was made stays true.
    fn tree(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        own: Option<&OwnPack>,
    ) -> Result<Option<Arc<LeafTree>>, VaultError> {
        let of = (*pack, shard);
        {
            let mut trees = self.trees.lock().expect("no holder panics");
            if let Some(at) = trees.iter().position(|served| served.of == of) {
                let found = trees.remove(at).expect("its position was found");
                let tree = found.tree.clone();
                trees.push_back(found);
                return Ok(Some(tree));
            }
        }
        let hashes = match own {
            None => match self.store.get(Kind::Shard, &shard_key(pack, shard))? {
                Some(item) => item.meta,
                None => return Ok(None), // dropped this very moment
            },
            Some(own) => {
                let tree_len = u64::from(own.code.leaf_count(own.len)) * Digest::LEN as u64;
                let at = u64::from(shard.0) * tree_len;
                match self.store.get(Kind::Meta, &trees_key(pack))? {
                    Some(trees) if at + tree_len <= trees.len => {
                        self.store.read(Kind::Meta, &trees_key(pack), at..at + tree_len)?
                    }
                    _ => return Ok(None), // forgotten this very moment, or kept when only data was served
                }
            }
        };
        let tree = Arc::new(tree(&hashes));
        let mut trees = self.trees.lock().expect("no holder panics");
        if trees.len() == TREES_MAX {
            trees.pop_front();
        }
        trees.push_back(ServedTree { of, tree: tree.clone() });
        Ok(Some(tree))
    }

    /// Bytes of a data shard of an own pack, with the zeros that fill up the last one.
    fn data_run(&self, own: &OwnPack, shard: ShardIndex, range: Range<u64>) -> Result<Bytes, VaultError> {
        let shard_at = u64::from(shard.0) * own.code.shard_len(own.len);
        let range = shard_at + range.start..shard_at + range.end;
        let inside = range.start.min(own.len)..range.end.min(own.len);
        let bytes = self.read_pack(&own.salt, inside.clone())?;
        if inside == range {
            return Ok(bytes);
        }
        let mut bytes = bytes.to_vec();
        bytes.resize((range.end - range.start) as usize, 0);
        Ok(bytes.into())
    }

    /// Remembers which shards of an own pack are durable elsewhere.
    pub fn put_holders(&self, pack: &PackId, holders: &v1::Holders) -> Result<Position, WriteError> {
        self.store.put(Kind::Meta, &holders_key(pack), &[], &[&encode(holders)])
    }

    /// Which shards of an own pack are known to be durable elsewhere.
    pub fn holders(&self, pack: &PackId) -> Result<v1::Holders, VaultError> {
        Ok(message::<_, VaultError>(&self.store, Kind::Meta, &holders_key(pack))?.unwrap_or_default())
    }

    /// Keeps the sealed catalog of a pack that was granted to us.
    pub fn put_granted_catalog(&self, pack: &PackId, sealed: &[u8]) -> Result<Position, WriteError> {
        self.store.put(Kind::Meta, &catalog_key(pack), &[], &[sealed])
    }

    /// The sealed catalog of a pack that was granted to us, if it is here.
    pub fn granted_catalog(&self, pack: &PackId) -> Result<Option<Bytes>, VaultError> {
        if !self.store.contains(Kind::Meta, &catalog_key(pack))? {
            return Ok(None);
        }
        Ok(Some(whole(&self.store, Kind::Meta, &catalog_key(pack))?))
    }
}

/// All keys of a kind.
pub(crate) fn keys(store: &Store, kind: Kind) -> Result<Vec<Vec<u8>>, ReadError> {
    store.keys(kind).collect()
}

/// A whole body.
pub(crate) fn whole(store: &Store, kind: Kind, key: &[u8]) -> Result<Bytes, ReadError> {
    let len = store.get(kind, key)?.map_or(0, |item| item.len);
    store.read(kind, key, 0..len)
}

/// A whole body that is a message, if there is one.
pub(crate) fn message<M, E>(store: &Store, kind: Kind, key: &[u8]) -> Result<Option<M>, E>
where
    M: Limited,
    E: From<ReadError> + From<DecodeError>,
{
    let bytes = store.contains(kind, key)?.then(|| whole(store, kind, key)).transpose()?;
    Ok(bytes.map(|bytes| decode(&bytes)).transpose()?)
}

/// The pack and shard that a key names.
pub(crate) fn read_shard_key(key: &[u8]) -> Option<(PackId, ShardIndex)> {
    let (pack, shard) = key.split_at_checked(PackId::LEN)?;
    Some((PackId::try_from(pack).ok()?, ShardIndex(u16::from_be_bytes(shard.try_into().ok()?))))
}

fn shard_key(pack: &PackId, shard: ShardIndex) -> [u8; 34] {
    let mut key = [0; 34];
    key[..32].copy_from_slice(pack.as_bytes());
    key[32..].copy_from_slice(&shard.0.to_be_bytes());
    key
}

fn trees_key(pack: &PackId) -> Vec<u8> {
    [b"trees/", &pack.as_bytes()[..]].concat()
}

fn holders_key(pack: &PackId) -> Vec<u8> {
    [b"holders/", &pack.as_bytes()[..]].concat()
}

fn catalog_key(pack: &PackId) -> Vec<u8> {
    [b"catalog/", &pack.as_bytes()[..]].concat()
}

fn leaf_range(first: LeafIndex, count: u32) -> Range<u64> {
    let leaf_len = LEAF_LEN as u64;
    u64::from(first.0) * leaf_len..(u64::from(first.0) + u64::from(count)) * leaf_len
}

fn tree(hashes: &[u8]) -> LeafTree {
    LeafTree::from_hashes(hashes.chunks_exact(32).map(|hash| Digest(hash.try_into().expect("chunks of 32"))).collect())
}

fn hex(salt: &Salt) -> String {
    PackId(*salt).short()
}

/// The id of a node as it stands in messages.
pub(crate) fn node_id(bytes: &Bytes) -> Option<NodeId> {
    NodeId::try_from(bytes.as_ref()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_merkle::{leaf_hash, verify_run};
    use bithealth_pack::{data_shard, encode};

    const SALT: Salt = [7; 32];
    const LEN: usize = 303_104;

    fn vault(folder: &tempfile::TempDir) -> Vault {
        let store = Store::open(folder.path(), bithealth_store::Config::default()).unwrap();
        Vault::new(Arc::new(store))
    }

    /// An own pack that does not fill its last data shard.
    fn own_pack(vault: &Vault, k: u16, n: u16) -> (CodedPack, Vec<u8>) {
        let code = Code::new(k.into(), n.into()).unwrap();
        let pack: Vec<u8> = (0..LEN as u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        let coded = encode(code, &SALT, 100, &pack).unwrap();
        vault.put_pack(&SALT, &v1::StoredPack::default(), &pack).unwrap();
        vault.put_coded(&SALT, &coded, code).unwrap();
        (coded, pack)
    }

    fn served(vault: &Vault, pack: &PackId, shard: u16, first: u32, count: u32) -> Option<ProvenRun> {
        let (shard, first) = (ShardIndex(shard), LeafIndex(first));
        match vault.leaves(pack, shard, first, count).unwrap() {
            Some(run) => Some(run),
            None => vault.coded_leaves(pack, shard, first, count).unwrap(),
        }
    }

    #[test]
    fn an_own_pack_serves_every_leaf_of_all_its_shards_with_proofs() {
        for (k, n) in [(1, 3), (3, 7), (4, 6)] {
            let folder = tempfile::tempdir().unwrap();
            let vault = vault(&folder);
            let (coded, pack) = own_pack(&vault, k, n);
            let code = Code::new(k.into(), n.into()).unwrap();
            let leaf_count = code.leaf_count(LEN as u64);
            for shard in 0..n {
                let due = match shard.checked_sub(k) {
                    None => data_shard(code, &pack, ShardIndex(shard)).into_owned(),
                    Some(parity) => coded.parity[usize::from(parity)].to_vec(),
                };
                for (first, count) in [(0, leaf_count), (1, 2), (leaf_count - 1, 1)] {
                    let run = served(&vault, &coded.id, shard, first, count).unwrap();
                    let (from, to) = (first as usize * LEAF_LEN, (first + count) as usize * LEAF_LEN);
                    assert!(run.data == due[from..to], "{k}-of-{n}, shard {shard}, leaves {first}..+{count}");
                    let hashes: Vec<Digest> = run.data.chunks(LEAF_LEN).map(leaf_hash).collect();
                    let root = coded.trees[usize::from(shard)].root();
                    verify_run(&root, leaf_count, LeafIndex(first), &hashes, &run.proof).unwrap();
                }
            }
            let all: Vec<ShardIndex> = (0..n).map(ShardIndex).collect();
            assert_eq!(vault.served_shards_of(&coded.id, n), all);
            assert_eq!(vault.shards_of(&coded.id, n), all[..usize::from(k)], "parity does not lie here");
            assert_eq!([0, k - 1, k, n - 1].map(|it| vault.reads_to_serve(&coded.id, ShardIndex(it))), [1, 1, k, k]);
        }
    }

    #[test]
    fn leaves_that_there_are_not_are_not_coded() {
        let folder = tempfile::tempdir().unwrap();
        let vault = vault(&folder);
        let (coded, _) = own_pack(&vault, 3, 7);
        let leaf_count = Code::new(3, 7).unwrap().leaf_count(LEN as u64);
        let is_none = |pack: &PackId, shard, first, count| served(&vault, pack, shard, first, count).is_none();
        assert!(is_none(&coded.id, 7, 0, 1), "no such shard");
        assert!(is_none(&coded.id, 5, leaf_count, 1), "behind its end");
        assert!(is_none(&coded.id, 5, leaf_count - 1, 2), "past its end");
        assert!(is_none(&PackId([9; 32]), 5, 0, 1), "no pack of ours");
        assert_eq!(vault.reads_to_serve(&PackId([9; 32]), ShardIndex(5)), 1);
        vault.forget_coded(&coded.id).unwrap();
        assert!(is_none(&coded.id, 5, 0, 1), "no pack of ours any more");
    }

    #[test]
    fn where_only_the_leaf_hashes_of_data_were_kept_parity_is_not_served() {
        let folder = tempfile::tempdir().unwrap();
        let vault = vault(&folder);
        let (coded, _) = own_pack(&vault, 3, 7);
        let data = coded.trees[..3].iter().flat_map(LeafTree::hashes).flat_map(|hash| *hash.as_bytes());
        vault.store.put(Kind::Meta, &trees_key(&coded.id), &[], &[&data.collect::<Vec<u8>>()]).unwrap();
        assert!(served(&vault, &coded.id, 2, 0, 1).is_some());
        assert!(served(&vault, &coded.id, 3, 0, 1).is_none());
    }
}
