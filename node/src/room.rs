//! The bytes this node offers to others, and how many of them are taken by whom: a shard's room is taken before its bytes
//! come, so that shards arriving side by side cannot together go past what is offered.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bithealth_types::MemberId;

/// What is offered and what is taken of it.
#[derive(Debug)]
pub struct Room {
    capacity: u64,
    quota: u64,
    taken: Mutex<BTreeMap<MemberId, u64>>,
}

/// Bytes taken for a shard that is on its way; given back when dropped, unless the shard was kept.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
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
}

impl Room {
    /// Room for `capacity` bytes, of which one organisation may take `quota`.
    pub fn new(capacity: u64, quota: u64) -> Self {
        Self { capacity, quota, taken: Mutex::default() }
    }

    /// Bytes taken.
    pub fn taken(&self) -> u64 {
        self.taken.lock().expect("no holder panics").values().sum()
    }

    /// Takes `len` bytes for a shard of another organisation.
    ///
    /// # Errors
    /// [`NoRoom`] where that is more than is left, for it or for all.
    pub fn take(self: &Arc<Self>, member: MemberId, len: u64) -> Result<Place, NoRoom> {
        let mut taken = self.taken.lock().expect("no holder panics");
        let (all, its) = (taken.values().sum::<u64>(), taken.get(&member).copied().unwrap_or(0));
        if all.saturating_add(len) > self.capacity {
            return Err(NoRoom::Full { taken: all, len, capacity: self.capacity });
        }
        if its.saturating_add(len) > self.quota {
            return Err(NoRoom::OverQuota { taken: its, len, quota: self.quota });
        }
        *taken.entry(member).or_default() += len;
        Ok(Place { room: self.clone(), member, len })
    }

    /// Takes `len` bytes that nothing bounds: for shards of our own organisation, and those that were let in before.
    pub fn take_unbounded(self: &Arc<Self>, member: MemberId, len: u64) -> Place {
        *self.taken.lock().expect("no holder panics").entry(member).or_default() += len;
        Place { room: self.clone(), member, len }
    }

    /// Gives back the bytes of a shard that was dropped.
    pub fn give_back(&self, member: &MemberId, len: u64) {
        if let Some(taken) = self.taken.lock().expect("no holder panics").get_mut(member) {
            *taken = taken.saturating_sub(len);
        }
    }
}

impl Place {
    /// The shard lies here now.
    pub fn keep(mut self) {
        self.len = 0;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.room.give_back(&self.member, self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANNA: MemberId = MemberId([1; 32]);
    const BRUCK: MemberId = MemberId([2; 32]);

    #[test]
    fn the_last_byte_is_given_and_not_one_more() {
        let room = Arc::new(Room::new(10, 10));
        room.take(ANNA, 4).unwrap().keep();
        assert_eq!(room.take(BRUCK, 7).unwrap_err(), NoRoom::Full { taken: 4, len: 7, capacity: 10 });
        let last = room.take(BRUCK, 6).unwrap();
        assert!(room.take(ANNA, 1).is_err());
        drop(last);
        assert_eq!(room.taken(), 4);
        room.give_back(&ANNA, 4);
        assert!(room.take(ANNA, 10).is_ok());
        assert!(room.take(ANNA, u64::MAX).is_err());
    }

    #[test]
    fn one_organisation_gets_its_quota_and_the_rest_is_for_others() {
        let room = Arc::new(Room::new(10, 6));
        room.take(ANNA, 6).unwrap().keep();
        assert_eq!(room.take(ANNA, 1).unwrap_err(), NoRoom::OverQuota { taken: 6, len: 1, quota: 6 });
        room.take(BRUCK, 4).unwrap().keep();
        room.give_back(&ANNA, 2);
        assert!(room.take(ANNA, 2).is_ok());
    }

    #[test]
    fn our_own_shards_count_and_are_not_refused() {
        let room = Arc::new(Room::new(10, 10));
        room.take_unbounded(ANNA, 11).keep();
        assert_eq!(room.taken(), 11);
        assert!(room.take(BRUCK, 1).is_err());
    }

    proptest! {
        #[test]
        fn nobody_ever_gets_more_than_is_due(
            capacity in 0_u64..1000, quota in 0_u64..1000, lens in prop::collection::vec((any::<bool>(), 0_u64..300), 0..40),
        ) {
            let room = Arc::new(Room::new(capacity, quota));
            let mut places = std::collections::VecDeque::new();
            for (at, (anna, len)) in lens.into_iter().enumerate() {
                places.extend(room.take(if anna { ANNA } else { BRUCK }, len));
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
