//! The bytes this node offers to others, and how many of them are taken by whom: a shard's room is taken before its bytes
//! come, so that shards arriving side by side cannot together go past what is offered.
//!
//! Until a pack is on the ledger, whose it is, is what the sender says. Its shards are counted for that organisation, and
//! remembered as claimed; once the ledger has the pack they count for its author's.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};

use bithealth_types::{MemberId, PackId, ShardIndex};

/// What is offered and what is taken of it.
#[derive(Debug)]
pub struct Room {
    capacity: u64,
    quota: u64,
    books: Mutex<Books>,
}

#[derive(Debug, Default)]
struct Books {
    taken: BTreeMap<MemberId, u64>,
    /// Shards on their way, which are not let in twice.
    arriving: BTreeSet<(PackId, ShardIndex)>,
    /// Shards that lie here of packs that were not on the ledger, for whom they count, and their bytes.
    claimed: BTreeMap<(PackId, ShardIndex), (MemberId, u64)>,
}

/// Bytes taken for a shard that is on its way; given back when dropped, unless the shard was kept.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    shard: (PackId, ShardIndex),
    member: MemberId,
    len: u64,
}

/// Why there is no room for a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoRoom {
    /// All organisations together would take more than is offered.
    #[error("{taken} of the {capacity} bytes offered here are taken, {len} more are due")]
    Full {
        /// Bytes taken.
        taken: u64,
        /// Bytes that would be.
        len: u64,
        /// Bytes offered.
        capacity: u64,
    },
    /// The organisation would take more than one may.
    #[error("its organisation has {taken} bytes here of the {quota} that one may have, {len} more are due")]
    OverQuota {
        /// Bytes it has taken.
        taken: u64,
        /// Bytes it would.
        len: u64,
        /// Bytes that one organisation may take.
        quota: u64,
    },
    /// It comes from somebody else just now.
    #[error("the same shard is on its way here already")]
    Arriving,
}

impl Room {
    /// Room for `capacity` bytes, of which one organisation may take `quota`.
    pub fn new(capacity: u64, quota: u64) -> Self {
        Self { capacity, quota, books: Mutex::default() }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().expect("no holder panics")
    }

    /// Bytes taken.
    pub fn taken(&self) -> u64 {
        self.books().taken.values().sum()
    }

    /// Bytes that one organisation may take.
    pub fn quota(&self) -> u64 {
        self.quota
    }

    /// Takes `len` bytes for a shard of another organisation.
    ///
    /// # Errors
    /// [`NoRoom`] where that is more than is left, for it or for all, or the shard is on its way already.
    pub fn take(self: &Arc<Self>, member: MemberId, shard: (PackId, ShardIndex), len: u64) -> Result<Place, NoRoom> {
        let mut books = self.books();
        let (all, its) = (books.taken.values().sum::<u64>(), books.taken.get(&member).copied().unwrap_or(0));
        if all.saturating_add(len) > self.capacity {
            return Err(NoRoom::Full { taken: all, len, capacity: self.capacity });
        }
        if its.saturating_add(len) > self.quota {
            return Err(NoRoom::OverQuota { taken: its, len, quota: self.quota });
        }
        self.enter(&mut books, member, shard, len)
    }

    /// Takes `len` bytes that nothing bounds: for shards of our own organisation.
    ///
    /// # Errors
    /// [`NoRoom::Arriving`] if the shard is on its way already.
    pub fn take_unbounded(
        self: &Arc<Self>,
        member: MemberId,
        shard: (PackId, ShardIndex),
        len: u64,
    ) -> Result<Place, NoRoom> {
        self.enter(&mut self.books(), member, shard, len)
    }

    fn enter(
        self: &Arc<Self>,
        books: &mut Books,
        member: MemberId,
        shard: (PackId, ShardIndex),
        len: u64,
    ) -> Result<Place, NoRoom> {
        if !books.arriving.insert(shard) {
            return Err(NoRoom::Arriving);
        }
        *books.taken.entry(member).or_default() += len;
        Ok(Place { room: self.clone(), shard, member, len })
    }

    /// A shard lies here from before; `owner` is none if the ledger does not have its pack.
    pub fn count(&self, owner: Option<MemberId>, shard: (PackId, ShardIndex), len: u64) {
        let mut books = self.books();
        let member = owner.unwrap_or(MemberId([0; 32]));
        *books.taken.entry(member).or_default() += len;
        if owner.is_none() {
            books.claimed.insert(shard, (member, len));
        }
    }

    /// What was claimed counts for its owner, once the ledger tells whose it is.
    pub fn settle(&self, owner_of: impl Fn(&PackId) -> Option<MemberId>) {
        let claimed: Vec<_> = self.books().claimed.keys().copied().collect();
        // The ledger is not asked while the books are locked.
        let owners: Vec<_> = claimed.into_iter().filter_map(|shard| Some((shard, owner_of(&shard.0)?))).collect();
        let mut books = self.books();
        for (shard, owner) in owners {
            if let Some((member, len)) = books.claimed.remove(&shard) {
                books.give_back(&member, len);
                *books.taken.entry(owner).or_default() += len;
            }
        }
    }

    /// Gives back the bytes of a shard that was dropped; `owner` is whose pack the ledger says it is, if it does.
    pub fn give_back(&self, owner: Option<MemberId>, shard: (PackId, ShardIndex), len: u64) {
        let mut books = self.books();
        let claimed = books.claimed.remove(&shard).map(|(member, _)| member);
        if let Some(member) = claimed.or(owner) {
            books.give_back(&member, len);
        }
    }
}

impl Books {
    fn give_back(&mut self, member: &MemberId, len: u64) {
        if let Some(taken) = self.taken.get_mut(member) {
            *taken = taken.saturating_sub(len);
        }
    }
}

impl Place {
    /// The shard lies here now, and counts for `owner`, if the ledger tells who that is.
    pub fn keep(mut self, owner: Option<MemberId>) {
        let len = std::mem::take(&mut self.len);
        let mut books = self.room.books();
        match owner {
            Some(owner) if owner != self.member => {
                books.give_back(&self.member, len);
                *books.taken.entry(owner).or_default() += len;
            }
            Some(_) => {}
            None => drop(books.claimed.insert(self.shard, (self.member, len))),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut books = self.room.books();
        books.arriving.remove(&self.shard);
        books.give_back(&self.member, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANNA: MemberId = MemberId([1; 32]);
    const BRUCK: MemberId = MemberId([2; 32]);

    fn shard(number: u16) -> (PackId, ShardIndex) {
        (PackId([7; 32]), ShardIndex(number))
    }

    #[test]
    fn the_last_byte_is_given_and_not_one_more() {
        let room = Arc::new(Room::new(10, 10));
        room.take(ANNA, shard(1), 4).unwrap().keep(Some(ANNA));
        assert_eq!(room.take(BRUCK, shard(2), 7).unwrap_err(), NoRoom::Full { taken: 4, len: 7, capacity: 10 });
        let last = room.take(BRUCK, shard(2), 6).unwrap();
        assert!(room.take(ANNA, shard(3), 1).is_err());
        drop(last);
        assert_eq!(room.taken(), 4);
        room.give_back(Some(ANNA), shard(1), 4);
        assert!(room.take(ANNA, shard(1), 10).is_ok());
        assert!(room.take(ANNA, shard(1), u64::MAX).is_err());
    }

    #[test]
    fn one_organisation_gets_its_quota_and_the_rest_is_for_others() {
        let room = Arc::new(Room::new(10, 6));
        room.take(ANNA, shard(1), 6).unwrap().keep(Some(ANNA));
        let refused = room.take(ANNA, shard(2), 1).unwrap_err();
        assert_eq!(refused, NoRoom::OverQuota { taken: 6, len: 1, quota: 6 });
        room.take(BRUCK, shard(3), 4).unwrap().keep(Some(BRUCK));
        room.give_back(Some(ANNA), shard(1), 2);
        assert!(room.take(ANNA, shard(4), 2).is_ok());
    }

    #[test]
    fn our_own_shards_count_and_are_not_refused() {
        let room = Arc::new(Room::new(10, 10));
        room.take_unbounded(ANNA, shard(1), 11).unwrap().keep(Some(ANNA));
        assert_eq!(room.taken(), 11);
        assert!(room.take(BRUCK, shard(2), 1).is_err());
    }

    #[test]
    fn a_shard_does_not_come_twice_at_a_time() {
        let room = Arc::new(Room::new(10, 10));
        let place = room.take(ANNA, shard(1), 4).unwrap();
        assert_eq!(room.take(BRUCK, shard(1), 4).unwrap_err(), NoRoom::Arriving);
        assert_eq!(room.take_unbounded(ANNA, shard(1), 4).unwrap_err(), NoRoom::Arriving);
        drop(place);
        assert!(room.take(BRUCK, shard(1), 4).is_ok());
    }

    #[test]
    fn what_was_counted_before_the_ledger_had_the_pack_is_given_back_whole() {
        let room = Arc::new(Room::new(10, 6));
        // After a crash: the shard was durable, the entry that commits its pack was not.
        room.count(None, shard(1), 4);
        room.take(ANNA, shard(2), 3).unwrap().keep(None);
        room.give_back(Some(BRUCK), shard(1), 4);
        room.give_back(Some(BRUCK), shard(2), 3);
        assert_eq!(room.taken(), 0);
    }

    #[test]
    fn a_false_claim_takes_the_quota_of_who_is_named_only_until_the_ledger_tells() {
        let room = Arc::new(Room::new(10, 6));
        room.take(ANNA, shard(1), 6).unwrap().keep(None);
        assert!(room.take(ANNA, shard(2), 1).is_err());
        room.settle(|_| None);
        assert!(room.take(ANNA, shard(2), 1).is_err());
        room.settle(|_| Some(BRUCK));
        assert!(room.take(BRUCK, shard(2), 1).is_err());
        assert!(room.take(ANNA, shard(2), 4).is_ok());
        room.give_back(Some(BRUCK), shard(1), 6);
        assert_eq!(room.taken(), 0);
        // The ledger may tell while the shard is on its way.
        room.take(ANNA, shard(1), 6).unwrap().keep(Some(BRUCK));
        assert!(room.take(BRUCK, shard(2), 1).is_err());
        assert!(room.take(ANNA, shard(2), 4).is_ok());
    }

    proptest! {
        #[test]
        fn nobody_ever_gets_more_than_is_due(
            capacity in 0_u64..1000, quota in 0_u64..1000, lens in prop::collection::vec((any::<bool>(), 0_u64..300), 0..40),
        ) {
            let room = Arc::new(Room::new(capacity, quota));
            let mut places = std::collections::VecDeque::new();
            for (at, (anna, len)) in lens.into_iter().enumerate() {
                places.extend(room.take(if anna { ANNA } else { BRUCK }, shard(at as u16), len));
                let held = |of: &MemberId| places.iter().filter(|it: &&Place| it.member == *of).map(|it| it.len).sum::<u64>();
                let (anna, bruck) = (held(&ANNA), held(&BRUCK));
                prop_assert!(anna + bruck == room.taken() && anna + bruck <= capacity);
                prop_assert!(anna <= quota && bruck <= quota);
                if at % 3 == 2 {
                    places.pop_front();
                }
            }
        }
    }
}
