//! Where the leaves of a fetch come together.

use std::ops::Range;
use std::sync::{Mutex, MutexGuard};

use bithealth_types::{Code, LeafIndex, ShardIndex};
use bytes::Bytes;
use tokio::sync::watch;

use super::assemble::{Decoded, LeafMap, cut};

/// The leaves that came so far, for whoever waits for some of them.
pub(super) struct Gathered {
    leaves: Mutex<LeafMap>,
    state: watch::Sender<State>,
}

/// How far a fetch is.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct State {
    /// Counts what came.
    pub(super) came: u64,
    /// All is here or on its way.
    pub(super) is_all_wanted: bool,
    /// It has ended, well or not.
    pub(super) is_over: bool,
}

impl Default for Gathered {
    fn default() -> Self {
        Self { leaves: Mutex::default(), state: watch::channel(State::default()).0 }
    }
}

impl Gathered {
    /// These leaves are here.
    pub(super) fn add(&self, shard: ShardIndex, first: LeafIndex, data: &Bytes) {
        self.leaves().extend(cut(shard, first.0, data));
        self.note(|state| state.came += 1);
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut State)) {
        self.state.send_modify(change);
    }

    pub(super) fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn leaves(&self) -> MutexGuard<'_, LeafMap> {
        self.leaves.lock().expect("no holder panics")
    }

    /// What is needed to assemble these leaves, if it is all here: themselves, or k others of their rows.
    pub(super) fn needed_for(&self, code: Code, needed: &[(ShardIndex, Range<u32>)]) -> Option<LeafMap> {
        let leaves = self.leaves();
        let mut found = LeafMap::new();
        for (shard, range) in needed {
            for row in range.clone() {
                if let Some(leaf) = leaves.get(&(*shard, row)) {
                    found.insert((*shard, row), leaf.clone());
                    continue;
                }
                let others = (0..code.n()).map(ShardIndex).filter_map(|other| {
                    let leaf = leaves.get(&(other, row))?;
                    Some(((other, row), leaf.clone()))
                });
                let others: Vec<_> = others.take(usize::from(code.k())).collect();
                if others.len() < usize::from(code.k()) {
                    return None;
                }
                found.extend(others);
            }
        }
        Some(found)
    }

    /// These leaves of data were decoded, and with them all data of their rows: whoever comes to another of these shards need
    /// not decode the rows again, and what they were decoded from is let go.
    pub(super) fn decoded(&self, code: Code, (shard, first, data): Decoded) {
        let mut leaves = self.leaves();
        for ((shard, row), leaf) in cut(shard, first, &data) {
            leaves.insert((shard, row), leaf);
            (code.k()..code.n()).for_each(|parity| drop(leaves.remove(&(ShardIndex(parity), row))));
        }
    }

    /// These leaves are not waited for any more.
    pub(super) fn forget(&self, read: &[(ShardIndex, Range<u32>)]) {
        let mut leaves = self.leaves();
        for (shard, range) in read {
            range.clone().for_each(|row| drop(leaves.remove(&(*shard, row))));
        }
    }
}

#[cfg(test)]
mod tests {
    use bithealth_types::LEAF_LEN;

    use super::*;

    fn leaf() -> Bytes {
        Bytes::from(vec![7; LEAF_LEN])
    }

    #[test]
    fn whoever_waits_gets_the_leaves_or_k_others_of_their_rows() {
        let code = Code::new(2, 4).unwrap();
        let gathered = Gathered::default();
        let needed = [(ShardIndex(0), 0..2)];
        gathered.add(ShardIndex(0), LeafIndex(0), &leaf());
        gathered.add(ShardIndex(2), LeafIndex(1), &leaf());
        assert!(gathered.needed_for(code, &needed).is_none(), "one of two others is there");
        gathered.add(ShardIndex(3), LeafIndex(1), &leaf());
        let found = gathered.needed_for(code, &needed).unwrap();
        assert_eq!(found.len(), 3);
        gathered.forget(&needed);
        assert!(gathered.needed_for(code, &[(ShardIndex(0), 0..1)]).is_none(), "what was read is gone");
        assert!(gathered.needed_for(code, &[(ShardIndex(1), 1..2)]).is_some(), "what others are decoded from is not");
        assert_eq!(gathered.watch().borrow().came, 3);
    }

    #[test]
    fn decoded_leaves_take_the_place_of_what_they_were_decoded_from() {
        let code = Code::new(2, 4).unwrap();
        let gathered = Gathered::default();
        for parity in [2, 3] {
            gathered.add(ShardIndex(parity), LeafIndex(5), &leaf());
        }
        for shard in [0, 1] {
            gathered.decoded(code, (ShardIndex(shard), 5, leaf()));
        }
        let held: Vec<_> = gathered.leaves().keys().map(|(shard, row)| (shard.0, *row)).collect();
        assert_eq!(held.len(), 2, "{held:?}");
        assert_eq!(gathered.needed_for(code, &[(ShardIndex(1), 5..6)]).unwrap().len(), 1, "nothing is decoded again");
    }
}
