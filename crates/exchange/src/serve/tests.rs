use super::*;

const ALICE: NodeId = NodeId([0xA1; 32]);
const BOB: NodeId = NodeId([0xB0; 32]);
const CAROL: NodeId = NodeId([0xCA; 32]);
const MIB: u64 = 1 << 20;

/// Two answers of 1 MiB at once, one of them for each peer; two more wait.
fn narrow() -> ServeConfig {
    ServeConfig {
        peers_max: 2,
        streams_per_peer_max: 2,
        wants_queued_max: 2,
        peer_bytes_max: MIB,
        bytes_max: 2 * MIB,
        ..ServeConfig::default()
    }
}

fn one_at_a_time() -> ServeConfig {
    ServeConfig { bytes_max: MIB, ..ServeConfig::default() }
}

/// A serve, and one open stream of each peer.
fn with<const N: usize>(config: ServeConfig, peers: [NodeId; N]) -> (Serve, [Asker; N]) {
    let mut serve = Serve::new(config);
    let askers = peers.map(|peer| serve.open(peer).unwrap());
    (serve, askers)
}

fn step(serve: &mut Serve, input: ServeInput) -> Vec<ServeEffect> {
    at(serve, 0, input)
}

fn at(serve: &mut Serve, now: u64, input: ServeInput) -> Vec<ServeEffect> {
    let mut out = VecDeque::new();
    serve.handle(Time(now), input, &mut out);
    out.into()
}

fn want(from: Asker, id: u64, priority: Priority) -> ServeInput {
    ServeInput::Want { from, want: WantId(id), priority, len: MIB, reads: MIB }
}

fn done(to: Asker, id: u64) -> ServeInput {
    ServeInput::Done { to, want: WantId(id) }
}

fn answer(to: Asker, id: u64) -> Vec<ServeEffect> {
    vec![ServeEffect::Answer { to, want: WantId(id) }]
}

fn refuse(to: Asker, id: u64, why: Refusal) -> Vec<ServeEffect> {
    vec![ServeEffect::Refuse { to, want: WantId(id), why }]
}

/// Who is answered, in order, when one answer follows the other.
fn order(serve: &mut Serve, first: (Asker, u64)) -> Vec<NodeId> {
    let (mut last, mut order) = (first, vec![first.0.peer]);
    while let [ServeEffect::Answer { to, want }] = step(serve, done(last.0, last.1))[..] {
        last = (to, want.0);
        order.push(to.peer);
    }
    order
}

#[test]
fn the_most_urgent_want_of_a_peer_goes_first() {
    let (mut serve, [alice]) = with(narrow(), [ALICE]);
    assert_eq!(step(&mut serve, want(alice, 0, Priority::Read)), answer(alice, 0));
    assert_eq!(step(&mut serve, want(alice, 1, Priority::Audit)), []);
    assert_eq!(step(&mut serve, want(alice, 2, Priority::Restore)), []);
    assert_eq!(step(&mut serve, done(alice, 0)), answer(alice, 2));
    assert_eq!(step(&mut serve, done(alice, 2)), answer(alice, 1));
}

#[test]
fn peers_with_equal_needs_take_turns() {
    let (mut serve, [alice, bob]) = with(one_at_a_time(), [ALICE, BOB]);
    for asker in [alice, bob] {
        (0..3).for_each(|id| drop(step(&mut serve, want(asker, id, Priority::Read))));
    }
    assert_eq!(order(&mut serve, (alice, 0)), [ALICE, BOB, ALICE, BOB, ALICE, BOB]);
}

#[test]
fn who_is_more_urgent_gets_four_times_as_much_and_the_other_is_not_starved() {
    let urgencies = [Priority::Audit, Priority::Repair, Priority::Read, Priority::Restore];
    for pair in urgencies.windows(2) {
        let (mut serve, [alice, bob]) = with(one_at_a_time(), [ALICE, BOB]);
        for id in 0..100 {
            step(&mut serve, want(alice, id, pair[0]));
            step(&mut serve, want(bob, id, pair[1]));
        }
        let order = order(&mut serve, (alice, 0));
        let bobs = order[1..51].iter().filter(|peer| **peer == BOB).count();
        assert!((40..=41).contains(&bobs), "{pair:?}: {bobs} of 50");
    }
}

#[test]
fn who_wanted_nothing_for_long_has_saved_up_no_shares() {
    let (mut serve, [alice, bob]) = with(one_at_a_time(), [ALICE, BOB]);
    for id in 0..20 {
        step(&mut serve, want(alice, id, Priority::Read));
    }
    (0..10).for_each(|id| drop(step(&mut serve, done(alice, id))));
    for id in 0..10 {
        step(&mut serve, want(bob, id, Priority::Read));
    }
    let order = order(&mut serve, (alice, 10));
    assert_eq!(order[1..7], [BOB, ALICE, BOB, ALICE, BOB, ALICE]);
}

#[test]
fn a_peer_past_its_queue_is_refused_and_others_are_not() {
    let (mut serve, [alice, bob]) = with(narrow(), [ALICE, BOB]);
    for id in 0..3 {
        assert!(!matches!(step(&mut serve, want(alice, id, Priority::Read))[..], [ServeEffect::Refuse { .. }]));
    }
    let full = Refusal::QueueFull { max: 2 };
    assert_eq!(step(&mut serve, want(alice, 3, Priority::Restore)), refuse(alice, 3, full));
    assert_eq!(step(&mut serve, want(bob, 0, Priority::Audit)), answer(bob, 0));
}

#[test]
fn a_peer_is_choked_before_its_queue_is_full_and_unchoked_when_it_is_short_again() {
    let config = ServeConfig { wants_choked_at: 3, wants_unchoked_at: 1, ..one_at_a_time() };
    let (mut serve, [alice]) = with(config, [ALICE]);
    assert_eq!(step(&mut serve, want(alice, 0, Priority::Read)), answer(alice, 0));
    for id in [1, 2] {
        assert_eq!(step(&mut serve, want(alice, id, Priority::Read)), []);
    }
    assert_eq!(step(&mut serve, want(alice, 3, Priority::Read)), [ServeEffect::Choke { peer: ALICE }]);
    assert!(serve.is_choked(&ALICE));
    assert_eq!(step(&mut serve, want(alice, 4, Priority::Read)), [], "once");
    assert_eq!(step(&mut serve, done(alice, 0)), answer(alice, 1));
    assert_eq!(step(&mut serve, done(alice, 1)), answer(alice, 2));
    let unchoked = step(&mut serve, done(alice, 2));
    assert_eq!(unchoked[1..], [ServeEffect::Unchoke { peer: ALICE }]);
    assert!(!serve.is_choked(&ALICE));
}

#[test]
fn a_cancel_takes_a_queued_want_back_and_may_end_a_choke() {
    let config = ServeConfig { wants_choked_at: 2, wants_unchoked_at: 1, ..one_at_a_time() };
    let (mut serve, [alice]) = with(config, [ALICE]);
    (0..3).for_each(|id| drop(step(&mut serve, want(alice, id, Priority::Read))));
    let cancel = |id| ServeInput::Cancel { from: alice, want: WantId(id) };
    assert_eq!(step(&mut serve, cancel(1)), [ServeEffect::Unchoke { peer: ALICE }]);
    assert_eq!(step(&mut serve, cancel(0)), [], "what is on its way goes on");
    assert_eq!(step(&mut serve, done(alice, 0)), answer(alice, 2));
    assert_eq!(step(&mut serve, done(alice, 2)), []);
}

#[test]
fn a_peer_past_the_limit_of_peers_is_refused() {
    let (mut serve, [_, bob]) = with(narrow(), [ALICE, BOB]);
    assert_eq!(serve.open(CAROL), Err(Refusal::PeersFull { max: 2 }));
    step(&mut serve, ServeInput::Closed { from: bob });
    assert!(serve.open(CAROL).is_ok());
}

#[test]
fn a_stream_past_the_limit_of_a_peer_is_refused() {
    let (mut serve, [first]) = with(narrow(), [ALICE]);
    assert!(serve.open(ALICE).is_ok());
    assert_eq!(serve.open(ALICE), Err(Refusal::StreamsFull { max: 2 }));
    step(&mut serve, ServeInput::Closed { from: first });
    assert!(serve.open(ALICE).is_ok());
}

#[test]
fn a_name_in_use_is_refused_and_another_stream_may_use_it() {
    let (mut serve, [alice, again]) = with(narrow(), [ALICE, ALICE]);
    step(&mut serve, want(alice, 0, Priority::Read));
    step(&mut serve, want(alice, 1, Priority::Read));
    for id in [0, 1] {
        let repeated = Refusal::Repeated(WantId(id));
        assert_eq!(step(&mut serve, want(alice, id, Priority::Read)), refuse(alice, id, repeated));
    }
    assert_eq!(step(&mut serve, want(again, 0, Priority::Read)), []);
}

#[test]
fn a_stream_that_ended_wants_nothing_and_what_is_on_its_way_counts_until_it_is_done() {
    let (mut serve, [alice, bob]) = with(one_at_a_time(), [ALICE, BOB]);
    step(&mut serve, want(alice, 0, Priority::Read));
    step(&mut serve, want(alice, 1, Priority::Read));
    assert_eq!(step(&mut serve, want(bob, 0, Priority::Read)), []);
    assert_eq!(step(&mut serve, ServeInput::Closed { from: alice }), []);
    assert_eq!(step(&mut serve, want(alice, 2, Priority::Read)), []);
    assert_eq!(step(&mut serve, done(alice, 0)), answer(bob, 0));
    assert_eq!(step(&mut serve, done(alice, 0)), [], "an answer to nobody frees nothing");
    assert!(!serve.peers.contains_key(&ALICE), "who owes and is owed nothing is forgotten");
}

#[test]
fn peers_that_take_no_answers_leave_room_for_others() {
    let hogs: [NodeId; 4] = std::array::from_fn(|at| NodeId([at as u8; 32]));
    let config = ServeConfig { bytes_max: 16 * MIB, peer_bytes_max: 8 * MIB, ..ServeConfig::default() };
    let (mut serve, askers) = with(config, hogs);
    let mut out = VecDeque::new();
    for hog in askers {
        (0..32).for_each(|id| serve.handle(Time(0), want(hog, id, Priority::Restore), &mut out));
    }
    let first = serve.peers[&hogs[0]].bytes;
    assert_eq!(first, 8 * MIB);
    assert!(serve.bytes < 16 * MIB, "{} of 16 MiB", serve.bytes);
    let bob = serve.open(BOB).unwrap();
    assert_eq!(step(&mut serve, want(bob, 0, Priority::Read)), answer(bob, 0));
}

#[test]
fn an_answer_longer_than_all_limits_goes_alone() {
    let (mut serve, [alice, bob]) = with(narrow(), [ALICE, BOB]);
    let long =
        ServeInput::Want { from: alice, want: WantId(0), priority: Priority::Read, len: 9 * MIB, reads: 9 * MIB };
    assert_eq!(step(&mut serve, long), answer(alice, 0));
    assert_eq!(step(&mut serve, want(bob, 0, Priority::Read)), []);
    assert_eq!(step(&mut serve, done(alice, 0)), answer(bob, 0));
}

#[test]
fn no_more_is_sent_each_second_than_may_be() {
    let config = ServeConfig { bytes_per_s_max: 2 * MIB, ..ServeConfig::default() };
    let (mut serve, [alice]) = with(config, [ALICE]);
    assert_eq!(at(&mut serve, 9000, want(alice, 0, Priority::Read)), answer(alice, 0));
    assert_eq!(at(&mut serve, 9000, want(alice, 1, Priority::Read)), [ServeEffect::WakeAt(Time(9500))]);
    assert_eq!(at(&mut serve, 9100, want(alice, 2, Priority::Read)), [], "once");
    assert_eq!(at(&mut serve, 9499, done(alice, 0)), []);
    let next = at(&mut serve, 9500, ServeInput::Tick);
    assert_eq!(next, [answer(alice, 1), vec![ServeEffect::WakeAt(Time(10_000))]].concat());
    assert_eq!(at(&mut serve, 20_000, ServeInput::Tick), answer(alice, 2));
    assert_eq!(at(&mut serve, 20_100, want(alice, 3, Priority::Read)), [ServeEffect::WakeAt(Time(20_500))], "no burst");
}

#[test]
fn an_answer_made_of_others_counts_as_what_is_read_for_it_but_on_the_line() {
    let config = ServeConfig { bytes_per_s_max: 2 * MIB, peer_bytes_max: 8 * MIB, ..ServeConfig::default() };
    let (mut serve, [alice, bob]) = with(config, [ALICE, BOB]);
    let made =
        |id| ServeInput::Want { from: alice, want: WantId(id), priority: Priority::Read, len: MIB, reads: 4 * MIB };
    assert_eq!(at(&mut serve, 9000, made(0)), answer(alice, 0));
    assert_eq!(at(&mut serve, 9000, made(1)), [ServeEffect::WakeAt(Time(9500))], "one MiB is sent");
    assert_eq!(at(&mut serve, 9500, ServeInput::Tick), answer(alice, 1));
    assert_eq!(serve.peers[&ALICE].bytes, 8 * MIB);
    assert_eq!(at(&mut serve, 20_000, made(2)), [], "as much as may be is read for it");
    for id in 0..6 {
        let now = 30_000 + 1000 * id;
        assert_eq!(at(&mut serve, now, want(bob, id, Priority::Read)), answer(bob, id), "its share is not used up");
        assert_eq!(at(&mut serve, now, done(bob, id)), []);
    }
    assert_eq!(at(&mut serve, 40_000, done(alice, 0)), answer(alice, 2));
}

#[test]
fn an_unknown_key_is_refused() {
    assert!(serde_json::from_str::<ServeConfig>(r#"{"bytes_mx": 1}"#).is_err());
}
