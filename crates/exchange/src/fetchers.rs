//! Who else fetches a pack: what a provider tells those that ask it, so that they find one another.

use std::collections::BTreeMap;
use std::time::Duration;

use bithealth_types::{NodeId, PackId, Time};

/// Packs that fetchers are remembered of.
const PACKS_MAX: usize = 1024;
/// Fetchers of one pack, and so nodes named in one have.
pub const FETCHERS_MAX: usize = 32;
/// How long after it last said so a node counts as fetching: what it got, it still has for a while.
const FETCHER_LASTS: Duration = Duration::from_secs(60);

/// Nodes that fetch packs, or did lately, as far as they told us.
#[derive(Debug, Default)]
pub struct Fetchers {
    /// The fetchers of each pack, who told us last at the end.
    packs: BTreeMap<PackId, Vec<(NodeId, Time)>>,
}

impl Fetchers {
    /// Notes that `peer` fetches `pack`; returns who else does, who told us last first.
    pub fn note(&mut self, now: Time, pack: PackId, peer: NodeId) -> Vec<NodeId> {
        if !self.packs.contains_key(&pack) && self.packs.len() >= PACKS_MAX {
            self.forget_one(now);
        }
        let fetchers = self.packs.entry(pack).or_default();
        fetchers.retain(|(fetcher, at)| *fetcher != peer && now.since(*at) < FETCHER_LASTS);
        let others = fetchers.iter().rev().map(|(fetcher, _)| *fetcher).collect();
        if fetchers.len() >= FETCHERS_MAX {
            fetchers.remove(0);
        }
        fetchers.push((peer, now));
        others
    }

    /// Makes room: packs that nobody fetches any more go, and if there are none, the one that was told of longest ago.
    fn forget_one(&mut self, now: Time) {
        let last = |fetchers: &Vec<(NodeId, Time)>| fetchers.last().map_or(Time(0), |(_, at)| *at);
        self.packs.retain(|_, fetchers| now.since(last(fetchers)) < FETCHER_LASTS);
        if self.packs.len() >= PACKS_MAX {
            let oldest = self.packs.iter().min_by_key(|(_, fetchers)| last(fetchers)).map(|(pack, _)| *pack);
            oldest.and_then(|pack| self.packs.remove(&pack));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: PackId = PackId([7; 32]);

    fn peer(number: u32) -> NodeId {
        let mut id = [0; 32];
        id[..4].copy_from_slice(&number.to_be_bytes());
        NodeId(id)
    }

    fn pack(number: u32) -> PackId {
        PackId(peer(number).0)
    }

    #[test]
    fn who_fetches_is_told_of_the_others_and_not_of_itself() {
        let mut fetchers = Fetchers::default();
        assert_eq!(fetchers.note(Time(0), PACK, peer(1)), []);
        assert_eq!(fetchers.note(Time(1), PACK, peer(2)), [peer(1)]);
        assert_eq!(fetchers.note(Time(2), PACK, peer(3)), [peer(2), peer(1)]);
        assert_eq!(fetchers.note(Time(3), PACK, peer(1)), [peer(3), peer(2)]);
        assert_eq!(fetchers.note(Time(3), pack(9), peer(4)), [], "of another pack");
    }

    #[test]
    fn after_a_minute_nobody_counts_on_it_any_more() {
        let lasts = FETCHER_LASTS.as_millis() as u64;
        let mut fetchers = Fetchers::default();
        fetchers.note(Time(0), PACK, peer(1));
        assert_eq!(fetchers.note(Time(lasts - 1), PACK, peer(2)), [peer(1)]);
        assert_eq!(fetchers.note(Time(lasts), PACK, peer(3)), [peer(2)]);
    }

    #[test]
    fn of_one_pack_the_latest_are_remembered() {
        let mut fetchers = Fetchers::default();
        for number in 0..=FETCHERS_MAX as u32 {
            fetchers.note(Time(0), PACK, peer(number));
        }
        let told = fetchers.note(Time(0), PACK, peer(1000));
        assert_eq!(told.len(), FETCHERS_MAX);
        assert!(!told.contains(&peer(0)));
    }

    #[test]
    fn packs_are_bounded_and_the_one_told_of_longest_ago_is_forgotten() {
        let mut fetchers = Fetchers::default();
        for number in 0..=PACKS_MAX as u32 {
            fetchers.note(Time(u64::from(number)), pack(number), peer(1));
        }
        assert_eq!(fetchers.packs.len(), PACKS_MAX);
        assert_eq!(fetchers.note(Time(2000), pack(0), peer(2)), []);
        assert_eq!(fetchers.note(Time(2000), pack(PACKS_MAX as u32), peer(2)), [peer(1)]);
    }
}
