//! Who fetches which pack, here and elsewhere, and the leaves that came lately: whoever fetches serves at once.
//!
//! A fetch of more than a little joins, and tells so to those it asks. They tell it who else does, and what they have of
//! the pack; while both fetch, each tells the other what it gets. What came is kept for a while, so that late ones are
//! served too.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;

use bithealth_exchange::{FETCHERS_MAX, Fetchers, Kept, RunSet};
use bithealth_proto::v1::{self, exchange_tell::Tell};
use bithealth_types::{Digest, LeafIndex, NodeId, PackId, ShardIndex, Time};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::serving::Outgoing;
use crate::vault::node_id;

/// Leaves that came lately: a quarter of a pack. More would help nobody: eight that read side by side take as few copies
/// from the source with 4 MiB as with 16.
const KEPT_BYTES_MAX: u64 = 4 << 20;
/// Peers that are told what comes of one pack: as many as are told of one another.
const FOLLOWERS_MAX: usize = FETCHERS_MAX;

/// What a fetch hears of others that fetch the same pack.
#[derive(Debug)]
pub enum News {
    /// This node fetches it too.
    Fetches(NodeId),
    /// It has these runs by now.
    Has(NodeId, Vec<(ShardIndex, RunSet)>),
}

/// What a node has of a pack, and who fetches it.
#[derive(Debug, Default)]
pub struct Standing {
    /// Runs of shards.
    pub runs: Vec<(ShardIndex, RunSet)>,
    /// Who fetches it, or did lately.
    pub fetchers: Vec<NodeId>,
    /// Whether the node does.
    pub is_fetching: bool,
}

/// What this node fetches, and did lately.
pub struct Swarm {
    started: Instant,
    state: Mutex<State>,
}

struct State {
    kept: Kept,
    fetchers: Fetchers,
    packs: HashMap<PackId, Fetched>,
    joined: u64,
}

/// A pack that this node fetches.
#[derive(Default)]
struct Fetched {
    fetches: Vec<(u64, mpsc::Sender<News>)>,
    /// Their streams end without us.
    followers: Vec<(NodeId, mpsc::WeakSender<Outgoing>)>,
}

/// A fetch that takes part, until it is dropped.
pub struct Joined {
    swarm: Arc<Swarm>,
    pack: PackId,
    name: u64,
}

impl Drop for Joined {
    fn drop(&mut self) {
        let mut state = self.swarm.state();
        let Some(fetched) = state.packs.get_mut(&self.pack) else { return };
        fetched.fetches.retain(|(name, _)| *name != self.name);
        if fetched.fetches.is_empty() {
            state.packs.remove(&self.pack);
        }
    }
}

impl Default for Swarm {
    fn default() -> Self {
        let kept = Kept::new(KEPT_BYTES_MAX);
        let state = State { kept, fetchers: Fetchers::default(), packs: HashMap::new(), joined: 0 };
        Self { started: Instant::now(), state: Mutex::new(state) }
    }
}

impl Swarm {
    /// A fetch of a pack begins; it hears of others through `news`, or misses what does not fit.
    pub fn join(self: &Arc<Self>, pack: PackId, news: mpsc::Sender<News>) -> Joined {
        let mut state = self.state();
        state.joined += 1;
        let name = state.joined;
        state.packs.entry(pack).or_default().fetches.push((name, news));
        Joined { swarm: self.clone(), pack, name }
    }

    /// What this node has of a pack.
    pub fn runs_of(&self, pack: &PackId) -> Vec<(ShardIndex, RunSet)> {
        self.state().kept.runs_of(pack)
    }

    /// A peer fetches a pack of the ledger, and asks what is here. It is told of more while it is fetched here too.
    pub fn asked(&self, pack: PackId, from: NodeId, tells: &mpsc::Sender<Outgoing>) -> Standing {
        let now = Time(self.started.elapsed().as_millis() as u64);
        let mut state = self.state();
        let fetchers = state.fetchers.note(now, pack, from);
        let runs = state.kept.runs_of(&pack);
        let fetched = state.packs.get_mut(&pack);
        let is_fetching = fetched.is_some();
        if let Some(fetched) = fetched {
            let is_open = |tells: &mpsc::WeakSender<Outgoing>| tells.upgrade().is_some_and(|tells| !tells.is_closed());
            fetched.followers.retain(|(follower, tells)| *follower != from && is_open(tells));
            if fetched.followers.len() < FOLLOWERS_MAX {
                fetched.followers.push((from, tells.downgrade()));
            }
            fetched.tell(|| News::Fetches(from));
        }
        Standing { runs, fetchers, is_fetching }
    }

    /// A peer says what it has by now of a pack that it fetches.
    pub fn heard(&self, from: NodeId, more: &v1::HaveMore) {
        let Ok(pack) = PackId::try_from(more.pack.as_ref()) else { return };
        if let Some(fetched) = self.state().packs.get_mut(&pack) {
            fetched.tell(|| News::Has(from, run_sets(&more.runs)));
        }
    }

    /// Keeps a verified run, and tells those who fetch the same pack.
    pub fn take(
        &self,
        of: (PackId, ShardIndex, u32),
        first: LeafIndex,
        data: Bytes,
        hashes: &[Digest],
        proof: &[Digest],
    ) {
        let (pack, shard, _) = of;
        let mut state = self.state();
        state.kept.insert(of, first, data, hashes, proof);
        let runs = state.kept.runs_of_shard(&pack, shard);
        let Some(fetched) = state.packs.get(&pack).filter(|fetched| !fetched.followers.is_empty()) else { return };
        let runs = vec![v1::ShardRuns { shard: shard.0.into(), runs: runs.to_bytes().into() }];
        for tells in fetched.followers.iter().filter_map(|(_, tells)| tells.upgrade()) {
            let more = v1::HaveMore { pack: Bytes::copy_from_slice(pack.as_bytes()), runs: runs.clone() };
            let _ = tells.try_send(Tell::More(more).into()); // the next one tells all of this too
        }
    }

    /// Leaves that came lately, and their proof.
    pub fn leaves(
        &self,
        pack: &PackId,
        shard: ShardIndex,
        first: LeafIndex,
        count: u32,
    ) -> Option<(Bytes, Vec<Digest>)> {
        self.state().kept.leaves(pack, shard, first, count)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder panics")
    }
}

impl Fetched {
    fn tell(&self, news: impl Fn() -> News) {
        for (_, fetch) in &self.fetches {
            let _ = fetch.try_send(news()); // it has ended, or hears of so many that one more matters little
        }
    }
}

impl Standing {
    /// What a peer said of itself.
    pub fn read(have: &v1::Have) -> Self {
        let fetchers = have.fetchers.iter().take(FETCHERS_MAX).filter_map(node_id).collect();
        Self { runs: run_sets(&have.runs), fetchers, is_fetching: have.fetching }
    }

    /// The same as a peer is told, of shards that lie here whole.
    pub fn have(&self, pack: Bytes, shards: Vec<u8>) -> v1::Have {
        let runs = |(shard, runs): &(ShardIndex, RunSet)| v1::ShardRuns {
            shard: shard.0.into(),
            runs: runs.to_bytes().into(),
        };
        v1::Have {
            pack,
            shards: shards.into(),
            runs: self.runs.iter().map(runs).collect(),
            fetchers: self.fetchers.iter().map(|node| Bytes::copy_from_slice(node.as_bytes())).collect(),
            fetching: self.is_fetching,
        }
    }
}

/// Runs as a message has them; of shards that no code has, none.
fn run_sets(runs: &[v1::ShardRuns]) -> Vec<(ShardIndex, RunSet)> {
    let sets = runs.iter().filter(|it| it.shard < u32::from(bithealth_types::SHARD_COUNT_MAX));
    let set = |it: &v1::ShardRuns| (ShardIndex(it.shard as u16), RunSet::from_bytes(&it.runs));
    sets.take(usize::from(bithealth_types::SHARD_COUNT_MAX)).map(set).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: PackId = PackId([7; 32]);
    const ALICE: NodeId = NodeId([0xA1; 32]);
    const BOB: NodeId = NodeId([0xB0; 32]);

    fn more(shard: u32, runs: &'static [u8]) -> v1::HaveMore {
        let runs = vec![v1::ShardRuns { shard, runs: Bytes::from_static(runs) }];
        v1::HaveMore { pack: Bytes::copy_from_slice(PACK.as_bytes()), runs }
    }

    #[test]
    fn a_fetch_hears_of_others_while_it_lasts() {
        let swarm = Arc::new(Swarm::default());
        let ((news, mut heard), (tells, _told)) = (mpsc::channel(8), mpsc::channel(8));
        let joined = swarm.join(PACK, news);
        assert!(swarm.asked(PACK, ALICE, &tells).is_fetching);
        assert!(matches!(heard.try_recv(), Ok(News::Fetches(ALICE))));
        swarm.heard(BOB, &more(2, &[1]));
        assert!(matches!(heard.try_recv(), Ok(News::Has(BOB, runs)) if runs[0].0 == ShardIndex(2)));
        drop(joined);
        let standing = swarm.asked(PACK, BOB, &tells);
        assert_eq!((standing.is_fetching, standing.fetchers), (false, vec![ALICE]));
        assert!(swarm.state().packs.is_empty());
    }

    #[test]
    fn who_asked_is_told_what_comes_and_whoever_went_is_not() {
        let swarm = Arc::new(Swarm::default());
        let (news, _heard) = mpsc::channel(8);
        let _joined = swarm.join(PACK, news);
        let ((alice, mut told), (bob, gone)) = (mpsc::channel(8), mpsc::channel(8));
        swarm.asked(PACK, BOB, &bob);
        drop(gone);
        swarm.asked(PACK, ALICE, &alice);
        swarm.asked(PACK, ALICE, &alice);
        assert_eq!(swarm.state().packs[&PACK].followers.len(), 1);
        let data = Bytes::from(vec![1; bithealth_types::LEAF_LEN]);
        let hash = bithealth_merkle::leaf_hash(&data);
        swarm.take((PACK, ShardIndex(2), 1), LeafIndex(0), data.clone(), &[hash], &[]);
        assert!(told.try_recv().is_ok() && told.try_recv().is_err(), "once");
        assert_eq!(swarm.leaves(&PACK, ShardIndex(2), LeafIndex(0), 1), Some((data, vec![])));
    }

    #[test]
    fn what_is_said_of_a_pack_reads_back() {
        let mut runs = RunSet::default();
        runs.insert(9);
        let said = Standing { runs: vec![(ShardIndex(3), runs)], fetchers: vec![BOB], is_fetching: true };
        let read = Standing::read(&said.have(Bytes::new(), vec![1]));
        assert_eq!((read.runs, read.fetchers, read.is_fetching), (said.runs, said.fetchers, true));
    }

    #[test]
    fn more_fetchers_than_may_be_and_shards_of_no_code_are_left_out() {
        let fetcher = |at: usize| Bytes::from(vec![at as u8; 32]);
        let runs = v1::ShardRuns { shard: bithealth_types::SHARD_COUNT_MAX.into(), runs: Bytes::new() };
        let fetchers = (0..=FETCHERS_MAX).map(fetcher).collect();
        let read = Standing::read(&v1::Have { fetchers, runs: vec![runs], ..v1::Have::default() });
        assert_eq!((read.fetchers.len(), read.runs.len()), (FETCHERS_MAX, 0));
    }
}
