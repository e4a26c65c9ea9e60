mod fellows;
mod patience;

use std::iter::repeat_n;

use bithealth_merkle::LeafTree;
use bytes::Bytes;

use super::*;
use crate::{GRID_LEAVES, LeafError};

/// The node that fetches.
const HERE: NodeId = NodeId([200; 32]);
const ALICE: NodeId = NodeId([0xA1; 32]);
const BOB: NodeId = NodeId([0xB0; 32]);
const CAROL: NodeId = NodeId([0xCA; 32]);

/// A 2-of-4 pack, its leaves all different. What parity is does not matter to a fetch.
struct Pack {
    shards: Vec<Vec<u8>>,
    trees: Vec<LeafTree>,
}

const LEAF_COUNT: u32 = 8;

impl Pack {
    fn new(leaf_count: u32) -> Self {
        let leaf = |shard: u8, leaf: u32| repeat_n(shard << 6 | leaf as u8, LEAF_LEN);
        let shards: Vec<Vec<u8>> = (0..4).map(|s| (0..leaf_count).flat_map(|l| leaf(s, l)).collect()).collect();
        let trees = shards.iter().map(|shard| LeafTree::from_shard(shard)).collect();
        Self { shards, trees }
    }

    fn spec(&self, need: Need) -> Spec {
        let roots = self.trees.iter().map(LeafTree::root).collect();
        let leaf_count = self.trees[0].hashes().len() as u32;
        let config = Config { gather_ms: 0, ..Config::default() };
        Spec { pack: PackId([7; 32]), code: Code::new(2, 4).unwrap(), leaf_count, roots, need, here: HERE, config }
    }

    fn bytes(&self, want: &Want) -> Bytes {
        let start = want.first.0 as usize * LEAF_LEN;
        Bytes::copy_from_slice(&self.shards[usize::from(want.shard.0)][start..start + want.len() as usize])
    }

    fn checked(&self, want: &Want, data: Bytes) -> Checked {
        let tree = &self.trees[usize::from(want.shard.0)];
        let proof = tree.prove_run(want.first, want.count).unwrap();
        Checked::new(*want, &tree.root(), tree.hashes().len() as u32, data, proof)
    }

    fn leaves(&self, from: NodeId, want: &Want) -> Input {
        Input::Leaves { from, leaves: self.checked(want, self.bytes(want)) }
    }

    fn false_leaves(&self, from: NodeId, want: &Want) -> Input {
        let mut data = self.bytes(want).to_vec();
        data[5] ^= 1;
        Input::Leaves { from, leaves: self.checked(want, data.into()) }
    }
}

fn whole() -> (Pack, Fetch) {
    with(Need::Whole, |_| {})
}

fn with(need: Need, change: impl FnOnce(&mut Config)) -> (Pack, Fetch) {
    let pack = Pack::new(LEAF_COUNT);
    let mut spec = pack.spec(need);
    change(&mut spec.config);
    let fetch = Fetch::new(spec, 1);
    (pack, fetch)
}

/// Leaves 2, 3 and 4 of shard 0.
fn a_range() -> Need {
    Need::Ranges(vec![(ShardIndex(0), 2..5)])
}

/// A need of all of shard 0, in four runs of the grid.
fn four_runs() -> (Pack, Fetch) {
    let pack = Pack::new(4 * GRID_LEAVES);
    let need = Need::Ranges(vec![(ShardIndex(0), 0..4 * GRID_LEAVES)]);
    let fetch = Fetch::new(pack.spec(need), 1);
    (pack, fetch)
}

/// Nobody else in these tests uses the pipes that a fetch knows, so it keeps them.
fn handle(fetch: &mut Fetch, now: Time, input: Input, out: &mut VecDeque<Effect>) {
    let mut pipes = std::mem::take(&mut fetch.pipes);
    fetch.handle(now, input, &mut pipes, out);
    fetch.pipes = pipes;
}

/// Everything but the wake-ups and the word that all is wanted, which have tests of their own.
fn step(fetch: &mut Fetch, now: u64, input: Input) -> Vec<Effect> {
    let mut out = VecDeque::new();
    handle(fetch, Time(now), input, &mut out);
    assert!(!out.iter().any(|effect| matches!(effect, Effect::WakeAt(at) if at.0 <= now)), "wake-ups lie ahead");
    out.retain(|effect| !matches!(effect, Effect::WakeAt(_) | Effect::AllWanted));
    out.into()
}

fn provider(peer: NodeId, shards: impl IntoIterator<Item = u16>) -> Input {
    Input::Provider { peer, shards: shards.into_iter().map(ShardIndex).collect() }
}

fn lost(peer: NodeId) -> Input {
    Input::PeerLost { peer }
}

fn missing(from: NodeId, want: &Want) -> Input {
    Input::Missing { from, want: want.id }
}

fn stored(want: &Want) -> Input {
    Input::Stored { shard: want.shard, first: want.first, result: Ok(()) }
}

fn wants(effects: &[Effect]) -> Vec<(NodeId, Want)> {
    let send = |effect: &Effect| if let Effect::Send { to, ask } = effect { Some((*to, *ask)) } else { None };
    effects.iter().filter_map(send).collect()
}

/// Who is asked for which shard.
fn asked(effects: &[Effect]) -> Vec<(NodeId, u16)> {
    wants(effects).iter().map(|(to, want)| (*to, want.shard.0)).collect()
}

/// The one want of these effects.
fn only(effects: &[Effect]) -> Want {
    let [(_, want)] = wants(effects)[..] else { panic!("not one want: {effects:?}") };
    want
}

fn cancel(to: NodeId, want: &Want) -> Effect {
    Effect::Cancel { to, want: want.id }
}

// ---- What is wanted

#[test]
fn a_whole_pack_is_k_shards_and_then_finished() {
    let (pack, mut fetch) = whole();
    step(&mut fetch, 0, Input::Tick);
    let first = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    let second = only(&step(&mut fetch, 0, provider(BOB, [1])));
    assert_eq!((first.shard, first.first, first.count), (ShardIndex(0), LeafIndex(0), LEAF_COUNT));
    assert_eq!(asked(&step(&mut fetch, 0, provider(CAROL, [2]))), [], "never more than k");

    let effects = step(&mut fetch, 9, pack.leaves(ALICE, &first));
    let Checked { data, hashes, proof, .. } = pack.checked(&first, pack.bytes(&first));
    assert_eq!(effects, [Effect::Store { shard: ShardIndex(0), first: LeafIndex(0), data, hashes, proof }]);
    step(&mut fetch, 9, pack.leaves(BOB, &second));
    assert_eq!(step(&mut fetch, 9, stored(&first)), []);
    assert_eq!(step(&mut fetch, 9, stored(&second)), [Effect::Finished]);
    let progress = fetch.progress();
    assert_eq!(progress.bytes_stored, 2 * u64::from(LEAF_COUNT) * LEAF_LEN as u64);
    assert_eq!((progress.bytes_needed, progress.bytes_asked), (progress.bytes_stored, progress.bytes_stored));
    assert_eq!(step(&mut fetch, 9, lost(ALICE)), [], "the end is the end");
}

#[test]
fn data_is_wanted_before_parity() {
    let (_, mut fetch) = with(Need::Whole, |config| config.window_start_bytes = 0);
    step(&mut fetch, 0, provider(ALICE, [2, 1]));
    assert_eq!(fetch.wants[&WantId(0)].want.shard, ShardIndex(1));
}

#[test]
fn a_shard_that_only_one_has_is_wanted_of_it() {
    let (_, mut fetch) = with(Need::Whole, |config| config.gather_ms = 5);
    step(&mut fetch, 0, provider(BOB, [2, 0]));
    let effects = step(&mut fetch, 0, provider(ALICE, [0, 1]));
    assert_eq!(asked(&effects), [(ALICE, 1)]);
}

#[test]
fn a_range_is_wanted_leaf_by_leaf_of_whoever_has_it() {
    let (_, mut fetch) = with(a_range(), |_| {});
    assert_eq!(asked(&step(&mut fetch, 0, provider(BOB, [1]))), []);
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    assert_eq!((want.shard, want.first, want.count), (ShardIndex(0), LeafIndex(2), 3));
}

#[test]
fn a_range_nobody_has_is_decoded_from_the_same_rows_of_k_others() {
    let (pack, mut fetch) = with(a_range(), |_| {});
    step(&mut fetch, 0, provider(BOB, [1]));
    let effects = step(&mut fetch, 0, provider(CAROL, [3]));
    let mut both = wants(&effects);
    both.sort_by_key(|(from, _)| *from);
    assert_eq!(both.iter().map(|(from, want)| (*from, want.shard.0)).collect::<Vec<_>>(), [(BOB, 1), (CAROL, 3)]);
    for (from, want) in both {
        assert_eq!((want.first, want.count), (LeafIndex(2), 3));
        step(&mut fetch, 9, pack.leaves(from, &want));
        let last = step(&mut fetch, 9, stored(&want));
        assert_eq!(last.contains(&Effect::Finished), from == CAROL);
    }
}

#[test]
fn at_the_start_decoding_waits_for_the_provider_of_the_data() {
    let (_, mut fetch) = with(a_range(), |config| config.gather_ms = 20);
    step(&mut fetch, 0, provider(BOB, [1]));
    assert_eq!(step(&mut fetch, 0, provider(CAROL, [3])), []);
    assert_eq!(asked(&step(&mut fetch, 19, provider(ALICE, [0]))), [(ALICE, 0)]);

    let (_, mut fetch) = with(a_range(), |config| config.gather_ms = 20);
    step(&mut fetch, 0, provider(BOB, [1]));
    step(&mut fetch, 0, provider(CAROL, [3]));
    assert_eq!(asked(&step(&mut fetch, 20, Input::Tick)).len(), 2);
}

#[test]
fn leaves_held_already_are_not_wanted() {
    let (pack, mut fetch) = whole();
    step(&mut fetch, 0, Input::Held { shard: ShardIndex(0), leaves: 0..5 });
    step(&mut fetch, 0, Input::Held { shard: ShardIndex(3), leaves: 0..LEAF_COUNT });
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    assert_eq!((want.first, want.count), (LeafIndex(5), 3));
    step(&mut fetch, 9, pack.leaves(ALICE, &want));
    assert_eq!(step(&mut fetch, 9, stored(&want)), [Effect::Finished]);
}

#[test]
fn what_turns_out_to_be_held_is_cancelled() {
    let (_, mut fetch) = whole();
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    let effects = step(&mut fetch, 0, Input::Held { shard: ShardIndex(0), leaves: 0..LEAF_COUNT });
    assert_eq!(effects[0], cancel(ALICE, &want));
    let effects = step(&mut fetch, 0, Input::Held { shard: ShardIndex(2), leaves: 0..LEAF_COUNT });
    assert_eq!(effects, [Effect::Finished]);
}

#[test]
fn nothing_needed_is_finished_at_once() {
    let (_, mut fetch) = with(Need::Ranges(vec![]), |_| {});
    assert_eq!(step(&mut fetch, 0, Input::Tick), [Effect::Finished]);
}

// ---- Whom to trust

#[test]
fn a_false_leaf_is_blamed_and_asked_of_another_peer() {
    let (pack, mut fetch) = with(a_range(), |_| {});
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    step(&mut fetch, 0, provider(BOB, [0]));
    let effects = step(&mut fetch, 5, pack.false_leaves(ALICE, &want));
    let blamed = matches!(&effects[0], Effect::Blame { peer: ALICE, fault: LeafError::NotInShard { shard, .. } } if shard.0 == 0);
    assert!(blamed, "{effects:?}");
    assert_eq!(asked(&effects), [(BOB, 0)]);
}

#[test]
fn who_was_blamed_is_not_asked_again_even_when_it_comes_back() {
    let (pack, mut fetch) = with(a_range(), |_| {});
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    step(&mut fetch, 5, pack.false_leaves(ALICE, &want));
    assert_eq!(step(&mut fetch, 6, lost(ALICE)), []);
    assert_eq!(step(&mut fetch, 7, provider(ALICE, [0, 1, 2, 3])), []);
}

#[test]
fn more_or_fewer_bytes_than_wanted_are_blamed() {
    let (pack, mut fetch) = with(a_range(), |_| {});
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    let longer = pack.bytes(&Want { count: want.count + 1, ..want });
    let effects = step(&mut fetch, 5, Input::Leaves { from: ALICE, leaves: pack.checked(&want, longer) });
    let (got, due) = (4 * LEAF_LEN, 3 * LEAF_LEN);
    let fault = LeafError::Length { shard: ShardIndex(0), first: LeafIndex(2), got, want: due };
    assert_eq!(effects[0], Effect::Blame { peer: ALICE, fault });
}

#[test]
fn an_answer_in_another_peers_name_changes_nothing() {
    let (pack, mut fetch) = with(a_range(), |_| {});
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    step(&mut fetch, 0, provider(BOB, [1]));
    for input in [pack.false_leaves(BOB, &want), missing(BOB, &want), Input::Busy { from: BOB, want: want.id }] {
        assert_eq!(step(&mut fetch, 1, input), []);
    }
    assert!(matches!(step(&mut fetch, 2, pack.leaves(ALICE, &want))[..], [Effect::Store { .. }]));
}

// ---- Who is gone, slow, or busy

#[test]
fn a_missing_cell_is_asked_of_another_peer() {
    let (_, mut fetch) = with(a_range(), |_| {});
    let want = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    step(&mut fetch, 0, provider(BOB, [0]));
    let effects = step(&mut fetch, 5, missing(ALICE, &want));
    assert_eq!(asked(&effects), [(BOB, 0)]);
    let again = only(&effects);
    assert_eq!(step(&mut fetch, 6, missing(BOB, &again)), [Effect::Starved { rows: 3, shards_due: 2 }]);
    assert_eq!(asked(&step(&mut fetch, 7, provider(ALICE, [0]))), [(ALICE, 0)], "told anew, it is asked anew");
}

#[test]
fn wants_of_a_lost_peer_are_asked_of_another() {
    let (_, mut fetch) = with(a_range(), |_| {});
    step(&mut fetch, 0, provider(ALICE, [0]));
    step(&mut fetch, 0, provider(BOB, [0]));
    assert_eq!(asked(&step(&mut fetch, 5, lost(ALICE))), [(BOB, 0)]);
    assert_eq!(asked(&step(&mut fetch, 5, lost(BOB))), []);
}

// ---- Starving

#[test]
fn starving_says_what_is_due_and_a_provider_revives_it() {
    let (_, mut fetch) = whole();
    assert_eq!(step(&mut fetch, 0, Input::Tick), [Effect::Starved { rows: LEAF_COUNT, shards_due: 2 }]);
    assert_eq!(step(&mut fetch, 1, Input::Tick), [], "once");
    let effects = step(&mut fetch, 2, provider(ALICE, [3]));
    assert_eq!(asked(&effects), [(ALICE, 3)], "what can be had is fetched meanwhile");
    assert_eq!(effects[1], Effect::Starved { rows: LEAF_COUNT, shards_due: 1 });
    assert_eq!(asked(&step(&mut fetch, 3, provider(BOB, [2]))), [(BOB, 2)]);
    assert_eq!(step(&mut fetch, 4, lost(BOB)), [Effect::Starved { rows: LEAF_COUNT, shards_due: 1 }]);
}

#[test]
fn nobody_hears_of_starving_while_providers_come_in() {
    let (_, mut fetch) = with(Need::Whole, |config| config.gather_ms = 20);
    assert_eq!(step(&mut fetch, 0, Input::Tick), []);
    assert_eq!(step(&mut fetch, 20, Input::Tick), [Effect::Starved { rows: LEAF_COUNT, shards_due: 2 }]);
}

// ---- Storing

#[test]
fn a_failed_store_ends_the_fetch_and_all_its_wants() {
    let (pack, mut fetch) = whole();
    let first = only(&step(&mut fetch, 0, provider(ALICE, [0])));
    let second = only(&step(&mut fetch, 0, provider(BOB, [1])));
    step(&mut fetch, 1, pack.leaves(ALICE, &first));
    let failed = Input::Stored { shard: first.shard, first: first.first, result: Err(StoreFault) };
    assert_eq!(step(&mut fetch, 2, failed), [cancel(BOB, &second), Effect::Aborted(StoreFault)]);
    assert_eq!(step(&mut fetch, 3, pack.leaves(BOB, &second)), []);
}

#[test]
fn a_store_that_was_not_asked_for_changes_nothing() {
    let (_, mut fetch) = whole();
    let want = Want { id: WantId(0), shard: ShardIndex(0), first: LeafIndex(0), count: LEAF_COUNT };
    step(&mut fetch, 0, stored(&want));
    assert_eq!(fetch.progress().bytes_stored, 0);
}

// ---- Limits

fn one_leaf_runs(config: &mut Config) {
    config.run_leaves = 1;
}

#[test]
fn wants_stop_at_their_limit_and_what_is_being_stored_counts() {
    let (pack, mut fetch) = with(Need::Whole, |config| {
        one_leaf_runs(config);
        config.wants_open_max = 3;
    });
    let open = wants(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    assert_eq!(open.len(), 3);
    assert_eq!(asked(&step(&mut fetch, 1, pack.leaves(ALICE, &open[0].1))), []);
    assert_eq!(asked(&step(&mut fetch, 1, stored(&open[0].1))).len(), 1);
}

#[test]
fn wants_of_one_provider_stop_at_their_limit() {
    let (_, mut fetch) = with(Need::Whole, |config| {
        one_leaf_runs(config);
        config.provider_wants_open_max = 5;
    });
    assert_eq!(asked(&step(&mut fetch, 0, provider(ALICE, [0, 1]))).len(), 5);
}

#[test]
fn what_lies_here_is_read_before_anybody_is_asked_and_others_only_for_the_rest() {
    let (pack, mut fetch) = with(Need::Whole, |config| config.run_leaves = 4);
    let first = step(&mut fetch, 0, provider(HERE, [0]));
    let others = step(&mut fetch, 0, provider(ALICE, [0, 1]));
    let (here, there): (Vec<_>, Vec<_>) = wants(&[first, others].concat()).into_iter().partition(|(to, _)| *to == HERE);
    assert!(!here.is_empty() && !there.is_empty());
    assert!(there.iter().all(|(_, want)| want.shard == ShardIndex(1)), "{there:?}");
    let again: Vec<_> = here.iter().flat_map(|(_, want)| step(&mut fetch, 1, pack.leaves(HERE, want))).collect();
    assert!(wants(&again).iter().all(|(to, want)| (*to == HERE) == (want.shard == ShardIndex(0))), "{again:?}");
}

#[test]
fn a_window_starts_small_and_grows_with_what_it_delivers() {
    let (pack, mut fetch) = with(Need::Whole, |config| {
        config.run_leaves = 4;
        config.window_start_bytes = 1;
        config.provider_wants_open_max = 20;
    });
    let first = only(&step(&mut fetch, 0, provider(ALICE, [0, 1])));
    let next = step(&mut fetch, 100, pack.leaves(ALICE, &first));
    assert_eq!(asked(&next).len(), 1, "64 KiB are too short to measure a rate by");
    let (_, second) = wants(&next)[0];
    let config = &fetch.spec.config;
    let mut pipes = Pipes::default();
    let mut measured = Provider::new(&ALICE, ShardSet::first(2), Time(0));
    assert!(measured.has_room(second.len(), config));
    measured.sent(&second);
    assert!(!measured.has_room(second.len(), config));
    measured.close(&second);
    pipes.delivered(ALICE, 1 << 20, 100, 0);
    measured.pipe = pipes.get(&ALICE);
    for _ in 0..20 {
        measured.sent(&Want { id: WantId(fetch.wants_made + measured.open().count() as u64), ..second });
    }
    assert!(!measured.has_room(second.len(), config), "wants are bounded too");
    let unbounded = Config { provider_wants_open_max: usize::MAX, ..config.clone() };
    assert!(measured.has_room(second.len(), &unbounded), "1 MiB in 100 ms: 2 MiB fit");
}

#[test]
fn what_was_measured_of_a_provider_the_next_fetch_begins_with() {
    let pack = Pack::new(48);
    let mut pipes = Pipes::default();
    pipes.delivered(ALICE, 1 << 20, 100, 0);
    let asked_at_once = |pipes: &mut Pipes| {
        let mut fetch = Fetch::new(Spec { config: narrow_start(), ..pack.spec(Need::Whole) }, 1);
        let mut out = VecDeque::new();
        fetch.handle(Time(0), provider(ALICE, [0, 1]), pipes, &mut out);
        let asked = asked(out.make_contiguous()).len();
        fetch.give_up(pipes);
        asked
    };
    assert_eq!(asked_at_once(&mut Pipes::default()), 1);
    assert_eq!(asked_at_once(&mut pipes), 6);
    assert_eq!(pipes.get(&ALICE).open_bytes, 0, "what is given up is not open");
}

fn narrow_start() -> Config {
    Config { gather_ms: 0, window_start_bytes: 1, ..Config::default() }
}

#[test]
fn a_provider_that_answers_others_too_is_asked_less() {
    let (_, mut fetch) = with(a_range(), |_| {});
    fetch.pipes.sent(ALICE, 4 << 20);
    step(&mut fetch, 0, lost(CAROL));
    fetch.on_provider(Time(0), ALICE, ShardSet::first(1));
    assert_eq!(asked(&step(&mut fetch, 0, provider(BOB, [0]))), [(BOB, 0)]);
}

/// What is asked of whom for two shards whole, if each answers one want at a time, a mebibyte in so many milliseconds.
fn asked_of_busy(holders: &[(NodeId, &[u16])], answer_ms: u64) -> Vec<(NodeId, u16)> {
    let pack = Pack::new(4 * GRID_LEAVES);
    let rows = |shard| (ShardIndex(shard), 0..4 * GRID_LEAVES);
    let mut spec = pack.spec(Need::Ranges(vec![rows(0), rows(1)]));
    spec.config.provider_wants_open_max = 1;
    let mut fetch = Fetch::new(spec, 1);
    for (peer, shards) in holders {
        fetch.pipes.delivered(*peer, 1 << 20, answer_ms, 0);
        fetch.on_provider(Time(0), *peer, shards.iter().copied().map(ShardIndex).collect());
    }
    asked(&step(&mut fetch, 0, Input::Tick))
}

/// Who is asked for a shard of a 2-of-4 code, if who has it needs a second for a mebibyte and who has others so many ms.
fn asked_beside_a_slow_one(others_ms: Option<u64>) -> Vec<(NodeId, u16)> {
    let pack = Pack::new(GRID_LEAVES);
    let mut fetch = Fetch::new(pack.spec(Need::Ranges(vec![(ShardIndex(0), 0..GRID_LEAVES)])), 1);
    fetch.pipes.delivered(ALICE, 1 << 20, 1000, 0);
    let holders: [(NodeId, &[u16]); 3] = [(ALICE, &[0]), (BOB, &[1]), (CAROL, &[2, 3])];
    for (peer, shards) in holders {
        if let Some(others_ms) = others_ms.filter(|_| peer != ALICE) {
            fetch.pipes.delivered(peer, 1 << 20, others_ms, 0);
        }
        fetch.on_provider(Time(0), peer, shards.iter().copied().map(ShardIndex).collect());
    }
    let mut asked = asked(&step(&mut fetch, 0, Input::Tick));
    asked.sort_unstable();
    asked
}

#[test]
fn what_one_has_who_is_slower_than_decoding_is_dearer_is_decoded() {
    assert_eq!(asked_beside_a_slow_one(Some(600)), [(ALICE, 0)], "twice the bytes for less than twice the speed");
    let decoded = asked_beside_a_slow_one(Some(300));
    assert!(decoded.len() == 2 && decoded.iter().all(|(peer, _)| *peer != ALICE), "{decoded:?}");
    assert_eq!(asked_beside_a_slow_one(None), [(ALICE, 0)], "nobody knows that others are faster");
}

#[test]
fn near_data_is_waited_for_and_far_data_is_decoded() {
    let holders: [(NodeId, &[u16]); 3] = [(ALICE, &[0]), (BOB, &[1]), (CAROL, &[2, 3])];
    let both = [(ALICE, 0), (BOB, 1)];
    let near = asked_of_busy(&holders, 10);
    assert!(near.len() == 2 && both.iter().all(|ask| near.contains(ask)), "10 ms: {near:?}");
    let far = asked_of_busy(&holders, 100);
    assert!(
        far.len() == 3 && both.iter().all(|ask| far.contains(ask)),
        "100 ms, in which Carol brings as much: {far:?}"
    );
}

#[test]
fn where_data_is_lost_nobody_waits_for_the_rest_of_it() {
    let asked = asked_of_busy(&[(ALICE, &[0]), (BOB, &[2]), (CAROL, &[3])], 10);
    let of = |peer: NodeId| asked.iter().filter(|(asked, _)| *asked == peer).count();
    assert_eq!([of(ALICE), of(BOB), of(CAROL)], [1, 1, 1], "{asked:?}");
}

/// One of them lies here: then others are asked for nothing, however near they are.
#[test]
fn a_copy_that_lies_here_is_read_alone() {
    let pack = Pack::new(4 * GRID_LEAVES);
    let mut spec = Spec { code: Code::new(1, 4).unwrap(), ..pack.spec(Need::Whole) };
    spec.config.provider_wants_open_max = 1;
    let mut fetch = Fetch::new(spec, 1);
    fetch.pipes.delivered(ALICE, 1 << 20, 10, 0);
    fetch.on_provider(Time(0), HERE, ShardSet::first(1));
    fetch.on_provider(Time(0), ALICE, [ShardIndex(1)].into_iter().collect());
    assert_eq!(asked(&step(&mut fetch, 0, Input::Tick)), [(HERE, 0)]);
}

#[test]
fn when_all_is_here_or_on_its_way_that_is_said_once() {
    let (_, mut fetch) = four_runs();
    fetch.spec.config.wants_open_max = 3;
    let all_wanted = |fetch: &mut Fetch, input| {
        let mut out = VecDeque::new();
        handle(fetch, Time(0), input, &mut out);
        out.iter().filter(|effect| **effect == Effect::AllWanted).count()
    };
    assert_eq!(all_wanted(&mut fetch, provider(ALICE, [0])), 0);
    assert_eq!(all_wanted(&mut fetch, Input::Held { shard: ShardIndex(0), leaves: 0..16 }), 1);
    assert_eq!(all_wanted(&mut fetch, Input::Tick), 0);
}

#[test]
fn providers_past_their_limit_are_not_listened_to() {
    let (_, mut fetch) = with(a_range(), |config| config.providers_max = 1);
    step(&mut fetch, 0, provider(ALICE, [1]));
    assert_eq!(asked(&step(&mut fetch, 0, provider(BOB, [0]))), []);
    step(&mut fetch, 0, lost(ALICE));
    assert_eq!(asked(&step(&mut fetch, 0, provider(BOB, [0]))), [(BOB, 0)]);
}

#[test]
fn other_seeds_choose_other_providers() {
    let chosen = |seed| {
        let pack = Pack::new(LEAF_COUNT);
        let mut fetch = Fetch::new(pack.spec(a_range()), seed);
        step(&mut fetch, 0, lost(ALICE));
        let config = Config { window_start_bytes: 0, ..fetch.spec.config.clone() };
        fetch.spec.config = config;
        for peer in 0..9 {
            fetch.on_provider(Time(0), NodeId([peer; 32]), ShardSet::first(1));
        }
        asked(&step(&mut fetch, 0, Input::Tick))[0].0
    };
    let all: std::collections::BTreeSet<_> = (0..100).map(chosen).collect();
    assert!(all.len() > 5, "{all:?}");
}

#[test]
#[should_panic(expected = "run_leaves is 1 to 64")]
fn a_run_past_its_limit_is_our_own_mistake() {
    with(Need::Whole, |config| config.run_leaves = RUN_LEAVES_MAX + 1);
}

#[test]
#[should_panic(expected = "a shard has one root")]
fn a_spec_without_a_root_is_our_own_mistake() {
    let mut spec = Pack::new(LEAF_COUNT).spec(Need::Whole);
    spec.roots.pop();
    Fetch::new(spec, 0);
}

#[test]
fn leaves_that_are_looked_at_later_are_taken_and_found_false_after_all() {
    let pack = Pack::new(LEAF_COUNT);
    let want = Want { id: WantId(0), shard: ShardIndex(1), first: LeafIndex(2), count: 3 };
    let tree = &pack.trees[1];
    let later = |data: Bytes| Checked::later(want, data, tree.prove_run(want.first, want.count).unwrap());
    let look = |leaves: &Checked| leaves.look(&tree.root(), LEAF_COUNT);
    assert!(look(&later(pack.bytes(&want))).is_none());
    let mut data = pack.bytes(&want).to_vec();
    data[5] ^= 1;
    let false_ones = later(data.into());
    assert!(false_ones.is_true(), "nobody has looked");
    assert!(matches!(look(&false_ones), Some(LeafError::NotInShard { shard: ShardIndex(1), .. })));
    assert!(!later(pack.bytes(&want).slice(1..)).is_true(), "the length shows at once");
}
