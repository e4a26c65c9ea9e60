//! Leaves of packs that are being restored, in the store: a restore that was cut off goes on where it was.
//!
//! They are written without a sync of their own, since nothing was promised: after a kill all are there, after a power cut
//! most. And only once a pack takes long: on a quick network everything would be written twice to save a moment. What is
//! read back is checked as if a peer had sent it.

use std::sync::Arc;
use std::time::Duration;

use bithealth_exchange::{Checked, Want, WantId};
use bithealth_store::{Kind, Store, WriteError};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, PackId, ShardIndex};
use bytes::Bytes;
use tokio::task::JoinHandle;
use tracing::warn;

use crate::node::Node;
use crate::replicate::blocking;

/// What the keys begin with: then the pack, the shard, and the first leaf.
const PREFIX: &[u8] = b"part/";
const KEY_LEN: usize = PREFIX.len() + PackId::LEN + 2 + 4;

/// A run of leaves.
type Part = (ShardIndex, LeafIndex, Bytes);

/// The leaves of one pack.
pub(super) struct Parts {
    node: Arc<Node>,
    pack: PackId,
    after: Duration,
    found: Vec<Part>,
    /// Verified, and not written yet.
    waiting: Vec<(Vec<u8>, Bytes, Vec<u8>)>,
    writes: Vec<JoinHandle<Result<(), WriteError>>>,
}

impl Parts {
    /// Those of a pack that are in the store, checked against its roots.
    pub(super) async fn open(node: &Arc<Node>, pack: PackId, roots: &Arc<[Digest]>, leaf_count: u32) -> Self {
        let (worker, roots) = (node.clone(), roots.clone());
        let found = blocking(move || load(&worker.store, &pack, &roots, leaf_count)).await;
        let after = Duration::from_millis(node.config.restore_parts_after_ms);
        Self { node: node.clone(), pack, after, found, waiting: Vec::new(), writes: Vec::new() }
    }

    /// What was there.
    pub(super) fn found(&self) -> Vec<Part> {
        self.found.clone()
    }

    /// A verified run came, so long after the fetch of its pack began.
    pub(super) fn add(
        &mut self,
        elapsed: Duration,
        shard: ShardIndex,
        first: LeafIndex,
        data: &Bytes,
        proof: &[Digest],
    ) {
        let proof = proof.iter().flat_map(|hash| *hash.as_bytes()).collect();
        self.waiting.push((key(&self.pack, shard, first), data.clone(), proof));
        if elapsed < self.after {
            return;
        }
        let (node, due) = (self.node.clone(), std::mem::take(&mut self.waiting));
        self.writes.push(tokio::task::spawn_blocking(move || {
            due.iter().try_for_each(|(key, data, proof)| node.store.put(Kind::Meta, key, proof, &[data]).map(drop))
        }));
    }

    /// The fetch has ended: nothing more is written.
    pub(super) async fn finish(self) {
        for write in self.writes {
            if let Err(error) = write.await.expect("writing does not panic") {
                warn!(%error, "leaves of a pack that is restored are not kept");
            }
        }
    }
}

/// Forgets the parts of a pack that is durable as a whole. Blocks.
///
/// # Errors
/// If the store takes nothing.
pub fn forget_parts_of(store: &Store, pack: &PackId) -> Result<(), WriteError> {
    forget(store, &prefix(pack))
}

/// Forgets the parts of all packs. Blocks.
///
/// # Errors
/// If the store takes nothing.
pub fn forget_all_parts(store: &Store) -> Result<(), WriteError> {
    forget(store, PREFIX)
}

fn forget(store: &Store, prefix: &[u8]) -> Result<(), WriteError> {
    keys(store, prefix).iter().try_for_each(|key| store.remove(Kind::Meta, key).map(drop))
}

fn load(store: &Store, pack: &PackId, roots: &[Digest], leaf_count: u32) -> Vec<Part> {
    let read = |key: Vec<u8>| {
        let (shard, first) = named(&key)?;
        let item = store.get(Kind::Meta, &key).ok()??;
        let data = store.read(Kind::Meta, &key, 0..item.len).ok()?;
        let proof = item.meta.chunks_exact(Digest::LEN).filter_map(|hash| Digest::try_from(hash).ok()).collect();
        let count = (data.len() / LEAF_LEN) as u32;
        let want = Want { id: WantId(0), shard, first, count };
        let checked = Checked::new(want, roots.get(usize::from(shard.0))?, leaf_count, data.clone(), proof);
        checked.is_true().then_some((shard, first, data))
    };
    keys(store, &prefix(pack)).into_iter().filter_map(read).collect()
}

/// Those that cannot be listed count as not being there.
fn keys(store: &Store, prefix: &[u8]) -> Vec<Vec<u8>> {
    let keys = store.keys_after(Kind::Meta, prefix).map_while(Result::ok);
    keys.take_while(|key| key.starts_with(prefix)).collect()
}

fn prefix(pack: &PackId) -> Vec<u8> {
    [PREFIX, pack.as_bytes()].concat()
}

fn key(pack: &PackId, shard: ShardIndex, first: LeafIndex) -> Vec<u8> {
    [&prefix(pack)[..], &shard.0.to_be_bytes(), &first.0.to_be_bytes()].concat()
}

fn named(key: &[u8]) -> Option<(ShardIndex, LeafIndex)> {
    let name = key.get(PREFIX.len() + PackId::LEN..KEY_LEN)?;
    let (shard, first) = name.split_at(2);
    Some((
        ShardIndex(u16::from_be_bytes(shard.try_into().ok()?)),
        LeafIndex(u32::from_be_bytes(first.try_into().ok()?)),
    ))
}

#[cfg(test)]
mod tests {
    use bithealth_merkle::LeafTree;

    use super::*;

    const PACK: PackId = PackId([7; 32]);
    const LEAF_COUNT: u32 = 8;

    fn tree(bytes: &[u8]) -> LeafTree {
        LeafTree::from_shard(bytes)
    }

    fn put(store: &Store, pack: &PackId, first: u32, bytes: &[u8], tree: &LeafTree) {
        let count = (bytes.len() / LEAF_LEN) as u32;
        let proof: Vec<u8> =
            tree.prove_run(LeafIndex(first), count).unwrap().iter().flat_map(|hash| *hash.as_bytes()).collect();
        store.put(Kind::Meta, &key(pack, ShardIndex(1), LeafIndex(first)), &proof, &[bytes]).unwrap();
    }

    #[test]
    fn true_parts_of_the_pack_are_found_and_false_ones_and_those_of_others_are_not() {
        let folder = tempfile::tempdir().unwrap();
        let config = bithealth_store::Config { reserve_len: 0, ..Default::default() };
        let store = Store::open(folder.path(), config).unwrap();
        let shard: Vec<u8> = (0..LEAF_COUNT as usize * LEAF_LEN).map(|at| (at / 97) as u8).collect();
        let tree = tree(&shard);
        let roots = [Digest([0; 32]), tree.root()];
        put(&store, &PACK, 2, &shard[2 * LEAF_LEN..5 * LEAF_LEN], &tree);
        put(&store, &PACK, 5, &shard[..LEAF_LEN], &tree);
        put(&store, &PackId([8; 32]), 0, &shard[..LEAF_LEN], &tree);
        let found = load(&store, &PACK, &roots, LEAF_COUNT);
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].0, found[0].1, found[0].2.len()), (ShardIndex(1), LeafIndex(2), 3 * LEAF_LEN));
        forget_parts_of(&store, &PACK).unwrap();
        assert_eq!(keys(&store, PREFIX).len(), 1, "what belongs to others stays");
        forget_all_parts(&store).unwrap();
        assert!(keys(&store, PREFIX).is_empty());
    }
}
