use super::*;

const ALICE: NodeId = NodeId([0xA1; 32]);
const BOB: NodeId = NodeId([0xB0; 32]);
const MIB: u64 = 1 << 20;

/// Two answers of 1 MiB at once, one of them for each peer; two more wait.
fn narrow() -> Serve {
    Serve::new(ServeConfig { peers_max: 2, wants_queued_max: 2, peer_bytes_max: MIB, bytes_max: 2 * MIB })
}

fn step(serve: &mut Serve, input: ServeInput) -> Vec<ServeEffect> {
    let mut out = VecDeque::new();
    serve.handle(input, &mut out);
    out.into()
}

fn want(from: NodeId, id: u64, priority: Priority) -> ServeInput {
    ServeInput::Want { from, want: WantId(id), priority, len: MIB }
}

fn done(to: NodeId, id: u64) -> ServeInput {
    ServeInput::Done { to, want: WantId(id) }
}

fn answer(to: NodeId, id: u64) -> Vec<ServeEffect> {
    vec![ServeEffect::Answer { to, want: WantId(id) }]
}

fn refuse(to: NodeId, id: u64, why: Refusal) -> Vec<ServeEffect> {
    vec![ServeEffect::Refuse { to, want: WantId(id), why }]
}

#[test]
fn the_most_urgent_want_goes_first() {
    let mut serve = narrow();
    assert_eq!(step(&mut serve, want(ALICE, 0, Priority::Read)), answer(ALICE, 0));
    assert_eq!(step(&mut serve, want(ALICE, 1, Priority::Audit)), []);
    assert_eq!(step(&mut serve, want(ALICE, 2, Priority::Restore)), []);
    assert_eq!(step(&mut serve, done(ALICE, 0)), answer(ALICE, 2));
    assert_eq!(step(&mut serve, done(ALICE, 2)), answer(ALICE, 1));
}

#[test]
fn peers_with_equal_needs_take_turns() {
    let config = ServeConfig { peer_bytes_max: MIB, bytes_max: MIB, ..ServeConfig::default() };
    let mut serve = Serve::new(config);
    for id in 0..3 {
        step(&mut serve, want(ALICE, id, Priority::Read));
    }
    for id in 0..3 {
        step(&mut serve, want(BOB, id, Priority::Read));
    }
    let mut last = (ALICE, 0);
    let mut order = vec![last.0];
    while let [ServeEffect::Answer { to, want }] = step(&mut serve, done(last.0, last.1))[..] {
        last = (to, want.0);
        order.push(to);
    }
    assert_eq!(order, [ALICE, ALICE, BOB, ALICE, BOB, BOB].map(|peer| peer), "BOB came when ALICE had had one");
}

#[test]
fn a_peer_past_its_queue_is_refused_and_others_are_not() {
    let mut serve = narrow();
    for id in 0..3 {
        assert!(!matches!(step(&mut serve, want(ALICE, id, Priority::Read))[..], [ServeEffect::Refuse { .. }]));
    }
    let full = Refusal::QueueFull { max: 2 };
    assert_eq!(step(&mut serve, want(ALICE, 3, Priority::Restore)), refuse(ALICE, 3, full));
    assert_eq!(step(&mut serve, want(BOB, 0, Priority::Audit)), answer(BOB, 0));
}

#[test]
fn a_peer_past_the_limit_of_peers_is_refused() {
    let mut serve = narrow();
    step(&mut serve, want(ALICE, 0, Priority::Read));
    step(&mut serve, want(BOB, 0, Priority::Read));
    let carol = NodeId([0xCA; 32]);
    assert_eq!(step(&mut serve, want(carol, 0, Priority::Read)), refuse(carol, 0, Refusal::PeersFull { max: 2 }));
    step(&mut serve, ServeInput::PeerLost { peer: BOB });
    assert_eq!(step(&mut serve, want(carol, 0, Priority::Read)), answer(carol, 0));
}

#[test]
fn a_name_in_use_is_refused() {
    let mut serve = narrow();
    step(&mut serve, want(ALICE, 0, Priority::Read));
    step(&mut serve, want(ALICE, 1, Priority::Read));
    for id in [0, 1] {
        let repeated = Refusal::Repeated(WantId(id));
        assert_eq!(step(&mut serve, want(ALICE, id, Priority::Read)), refuse(ALICE, id, repeated));
    }
}

#[test]
fn a_cancelled_want_is_not_answered() {
    let mut serve = narrow();
    step(&mut serve, want(ALICE, 0, Priority::Read));
    step(&mut serve, want(ALICE, 1, Priority::Read));
    step(&mut serve, ServeInput::Cancel { from: ALICE, want: WantId(1) });
    assert_eq!(step(&mut serve, done(ALICE, 0)), []);
    assert!(serve.peers.is_empty(), "who owes and is owed nothing is forgotten");
}

#[test]
fn what_was_on_its_way_to_a_lost_peer_makes_room() {
    let mut serve = Serve::new(ServeConfig { bytes_max: MIB, ..ServeConfig::default() });
    step(&mut serve, want(ALICE, 0, Priority::Read));
    assert_eq!(step(&mut serve, want(BOB, 0, Priority::Read)), []);
    assert_eq!(step(&mut serve, ServeInput::PeerLost { peer: ALICE }), answer(BOB, 0));
    assert_eq!(step(&mut serve, done(ALICE, 0)), [], "an answer to nobody frees nothing");
}

#[test]
fn an_answer_longer_than_all_limits_goes_alone() {
    let mut serve = narrow();
    let long = ServeInput::Want { from: ALICE, want: WantId(0), priority: Priority::Read, len: 9 * MIB };
    assert_eq!(step(&mut serve, long), answer(ALICE, 0));
    assert_eq!(step(&mut serve, want(BOB, 0, Priority::Read)), []);
    assert_eq!(step(&mut serve, done(ALICE, 0)), answer(BOB, 0));
}
