//! The bytes this node offers to others, and how many of them are taken: a shard's room is taken before its bytes come,
//! so that shards arriving side by side cannot together go past what is offered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What is offered and what is taken of it.
#[derive(Debug)]
pub struct Room {
    capacity: u64,
    taken: AtomicU64,
}

/// Bytes taken for a shard that is on its way; given back when dropped, unless the shard was kept.
#[derive(Debug)]
pub struct Place {
    room: Arc<Room>,
    len: u64,
}

impl Room {
    /// Room for `capacity` bytes.
    pub fn new(capacity: u64) -> Self {
        Self { capacity, taken: AtomicU64::new(0) }
    }

    /// Bytes taken.
    pub fn taken(&self) -> u64 {
        self.taken.load(Ordering::Relaxed)
    }

    /// Takes `len` bytes for a shard of another organisation; none where that is more than is left.
    pub fn take(self: &Arc<Self>, len: u64) -> Option<Place> {
        let fits = |taken: u64| taken.checked_add(len).filter(|sum| *sum <= self.capacity);
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok()?;
        Some(Place { room: self.clone(), len })
    }

    /// Takes `len` bytes for a shard of our own organisation, which is not bounded by what we offer to others.
    pub fn take_for_own(self: &Arc<Self>, len: u64) -> Place {
        self.taken.fetch_add(len, Ordering::Relaxed);
        Place { room: self.clone(), len }
    }

    /// Gives back the bytes of a shard that was dropped.
    pub fn give_back(&self, len: u64) {
        let less = |taken: u64| Some(taken.saturating_sub(len));
        let _ = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less); // never refused
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
        self.room.give_back(self.len);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_last_byte_is_given_and_not_one_more() {
        let room = Arc::new(Room::new(10));
        room.take(4).unwrap().keep();
        assert!(room.take(7).is_none());
        let last = room.take(6).unwrap();
        assert!(room.take(1).is_none());
        drop(last);
        assert_eq!(room.taken(), 4);
        room.give_back(4);
        assert!(room.take(10).is_some());
        assert!(room.take(u64::MAX).is_none());
    }

    #[test]
    fn our_own_shards_count_and_are_not_refused() {
        let room = Arc::new(Room::new(10));
        room.take_for_own(11).keep();
        assert_eq!(room.taken(), 11);
        assert!(room.take(1).is_none());
    }

    proptest! {
        #[test]
        fn others_never_get_more_than_is_offered(capacity in 0_u64..1000, lens in prop::collection::vec(0_u64..300, 0..40)) {
            let room = Arc::new(Room::new(capacity));
            let mut places = std::collections::VecDeque::new();
            for (at, len) in lens.into_iter().enumerate() {
                places.extend(room.take(len));
                let held: u64 = places.iter().map(|place: &Place| place.len).sum();
                prop_assert!(held == room.taken() && held <= capacity);
                if at % 3 == 2 {
                    places.pop_front();
                }
            }
        }
    }
}
