//! A network that loses, delays, doubles and reorders, and that can be parted.

use bithealth_types::Time;

use crate::random::Random;

/// What becomes of messages.
#[derive(Clone, Debug)]
pub struct Network {
    /// Of a thousand messages, how many are lost.
    pub loss_per_mille: u64,
    /// Of a thousand messages, how many come twice.
    pub double_per_mille: u64,
    /// The shortest way, in milliseconds.
    pub delay_min_ms: u64,
    /// The longest way: every message draws its own delay, so they overtake one another.
    pub delay_max_ms: u64,
    /// The side each node is on; only nodes of one side hear each other.
    pub sides: Vec<u32>,
}

impl Network {
    /// `count` nodes that all hear each other, without faults.
    pub fn perfect(count: usize) -> Self {
        Self { loss_per_mille: 0, double_per_mille: 0, delay_min_ms: 1, delay_max_ms: 20, sides: vec![0; count] }
    }

    /// When a message sent now arrives: never, once or twice.
    pub fn arrivals(&self, random: &mut Random, now: Time, from: usize, to: usize) -> Vec<Time> {
        if self.sides[from] != self.sides[to] || random.chance(self.loss_per_mille) {
            return Vec::new();
        }
        let copies = if random.chance(self.double_per_mille) { 2 } else { 1 };
        let spread = self.delay_max_ms - self.delay_min_ms + 1;
        (0..copies).map(|_| Time(now.0 + self.delay_min_ms + random.below(spread))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_on_two_sides_do_not_hear_each_other() {
        let mut network = Network::perfect(3);
        network.sides = vec![0, 0, 1];
        let mut random = Random::new(1);
        assert_eq!(network.arrivals(&mut random, Time(0), 0, 1).len(), 1);
        assert_eq!(network.arrivals(&mut random, Time(0), 0, 2), []);
    }

    #[test]
    fn loss_and_doubles_come_as_often_as_asked() {
        let network = Network { loss_per_mille: 300, double_per_mille: 100, ..Network::perfect(2) };
        let mut random = Random::new(7);
        let counts: Vec<usize> = (0..10_000).map(|_| network.arrivals(&mut random, Time(5), 0, 1).len()).collect();
        let of = |count| counts.iter().filter(|it| **it == count).count();
        assert!((2_800..3_200).contains(&of(0)), "{}", of(0));
        assert!((600..800).contains(&of(2)), "{}", of(2));
    }
}
