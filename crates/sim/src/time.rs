//! Virtual time: what happens next happens at once.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use bithealth_types::Time;

struct Item<E> {
    at: Time,
    order: u64,
    event: E,
}

/// Events in the order of their times; of one time, in the order they were pushed.
pub struct Queue<E> {
    now: Time,
    pushed: u64,
    items: BinaryHeap<Reverse<Item<E>>>,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { now: Time(0), pushed: 0, items: BinaryHeap::new() }
    }
}

impl<E> Queue<E> {
    /// The time of the last event.
    pub fn now(&self) -> Time {
        self.now
    }

    /// Lets something happen then, or now if that has passed.
    pub fn push(&mut self, at: Time, event: E) {
        self.pushed += 1;
        self.items.push(Reverse(Item { at: at.max(self.now), order: self.pushed, event }));
    }

    /// The next event, if it comes before `end`; the time moves on to it.
    pub fn pop_before(&mut self, end: Time) -> Option<E> {
        if self.items.peek()?.0.at >= end {
            return None;
        }
        let Reverse(item) = self.items.pop()?;
        self.now = item.at;
        Some(item.event)
    }
}

impl<E> PartialEq for Item<E> {
    fn eq(&self, other: &Self) -> bool {
        self.order == other.order
    }
}

impl<E> Eq for Item<E> {}

impl<E> PartialOrd for Item<E> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> Ord for Item<E> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_the_order_of_their_times_and_then_as_they_were_pushed() {
        let mut queue = Queue::default();
        for (at, event) in [(5, "c"), (1, "a"), (5, "d"), (3, "b"), (9, "e")] {
            queue.push(Time(at), event);
        }
        let first: Vec<_> = std::iter::from_fn(|| queue.pop_before(Time(9))).collect();
        assert_eq!(first, ["a", "b", "c", "d"]);
        queue.push(Time(0), "late");
        assert_eq!(queue.pop_before(Time(9)), Some("late"));
        assert_eq!(queue.now(), Time(5));
    }
}
