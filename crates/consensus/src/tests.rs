use std::collections::VecDeque;

use bithealth_ledger::{Validator, ValidatorSet, digest_of_bytes, faulty, quorum, verify_certificate};
use bithealth_proto::v1::{self, consensus_message::Message};
use bithealth_types::{GenesisId, Height, MemberId, Time, ValidatorId};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use super::*;
use crate::engine::{HONEST, QUORUM};

mod bounds;

const NETWORK: GenesisId = GenesisId([7; 32]);

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn id(seed: u8) -> ValidatorId {
    ValidatorId(key(seed).verifying_key().to_bytes())
}

fn engine(seed: u8, safety: Option<&[u8]>) -> Engine {
    let signer = move |message: &[u8]| Some(key(seed).sign(message).to_bytes());
    Engine::new(NETWORK, id(seed), Box::new(signer), safety).unwrap()
}

fn set(count: u8) -> ValidatorSet {
    let one = |at: u8| Validator { member: MemberId([at; 32]), key: id(at) };
    ValidatorSet::new((1..=count).map(one).collect()).unwrap()
}

fn content(header: &'static [u8]) -> v1::Proposed {
    v1::Proposed { header: Bytes::from_static(header), body: Bytes::new() }
}

fn step(engine: &mut Engine, now: u64, input: Input) -> Vec<Effect> {
    let mut out = VecDeque::new();
    engine.handle(Time(now), input, &mut out).unwrap();
    out.into()
}

fn start(count: u8, height: u64, frames: Vec<Bytes>) -> Input {
    Input::Start { height: Height(height), validators: set(count), frames }
}

fn frames(effects: &[Effect]) -> Vec<Bytes> {
    let frame = |effect: &Effect| match effect {
        Effect::Append { frame, .. } => Some(frame.clone()),
        _ => None,
    };
    effects.iter().filter_map(frame).collect()
}

fn safety(effects: &[Effect]) -> Option<Bytes> {
    let safety = |effect: &Effect| match effect {
        Effect::Append { safety, .. } => safety.clone(),
        _ => None,
    };
    effects.iter().filter_map(safety).next_back()
}

fn sent(effects: &[Effect]) -> Vec<v1::ConsensusMessage> {
    let message = |effect: &Effect| match effect {
        Effect::Send(message) => Some(message.clone()),
        _ => None,
    };
    effects.iter().filter_map(message).collect()
}

/// Engines 1 to `count` decide height 1 without faults; what each did.
fn decide(count: u8) -> Vec<Vec<Effect>> {
    let mut engines: Vec<Engine> = (1..=count).map(|seed| engine(seed, None)).collect();
    let mut done: Vec<Vec<Effect>> = (0..count).map(|_| Vec::new()).collect();
    let mut inputs: VecDeque<(usize, Input)> =
        (0..usize::from(count)).map(|at| (at, start(count, 1, vec![]))).collect();
    while let Some((at, input)) = inputs.pop_front() {
        for effect in step(&mut engines[at], 0, input) {
            match &effect {
                Effect::Send(message) => {
                    let others = (0..engines.len()).filter(|other| *other != at);
                    inputs.extend(others.map(|other| (other, Input::Message(message.clone()))));
                }
                Effect::Build { height, round } => {
                    let (height, round) = (*height, *round);
                    inputs.push_back((at, Input::Built { height, round, content: content(b"block") }));
                }
                Effect::Check { value, .. } => {
                    inputs.push_back((at, Input::Checked { value: *value, fit: Fit::Valid }))
                }
                _ => {}
            }
            done[at].push(effect);
        }
    }
    assert!(engines.iter().all(Engine::is_decided));
    done
}

#[test]
fn the_thresholds_are_exactly_a_quorum_and_one_honest_for_every_number_of_validators() {
    for n in 1..=bithealth_ledger::VALIDATORS_MAX {
        assert_eq!(QUORUM.min_expected(n as u64), quorum(n) as u64, "{n}");
        assert_eq!(HONEST.min_expected(n as u64), faulty(n) as u64 + 1, "{n}");
        assert!(QUORUM.is_met(quorum(n) as u64, n as u64) && !QUORUM.is_met(quorum(n) as u64 - 1, n as u64), "{n}");
        assert!(HONEST.is_met(faulty(n) as u64 + 1, n as u64) && !HONEST.is_met(faulty(n) as u64, n as u64), "{n}");
    }
}

#[test]
fn validators_decide_what_one_of_them_proposed() {
    for count in [1, 2, 3, 4, 9] {
        for effects in decide(count) {
            let decided = effects.iter().find_map(|effect| match effect {
                Effect::Decided { certificate, content } => Some((certificate, content)),
                _ => None,
            });
            let (certificate, decided) = decided.expect("decided");
            assert_eq!(decided, &content(b"block"));
            let value = digest_of_bytes(b"block");
            assert_eq!(verify_certificate(certificate, &NETWORK, Height(1), &value, &set(count)), Ok(()));
        }
    }
}

#[test]
fn nothing_is_sent_before_it_is_in_the_log() {
    for effects in decide(4) {
        for (at, effect) in effects.iter().enumerate() {
            let Effect::Send(v1::ConsensusMessage { message: Some(Message::Vote(vote)), .. }) = effect else {
                continue;
            };
            let frame = v1::wal_frame::Frame::Vote(vote.clone());
            let frame = bithealth_proto::encode(&v1::WalFrame { frame: Some(frame) });
            assert!(frames(&effects[..at]).contains(&Bytes::from(frame)), "a vote that is not in the log");
        }
    }
}

#[test]
fn after_a_crash_at_any_moment_the_same_votes_are_sent_again_and_no_others() {
    let whole = frames(&decide(4)[0]);
    let votes: Vec<_> = sent(&decide(4)[0]);
    for kept in 0..=whole.len() {
        let mut again = engine(1, None);
        let effects = step(&mut again, 0, start(4, 1, whole[..kept].to_vec()));
        for message in sent(&effects) {
            let Some(Message::Vote(vote)) = &message.message else { continue };
            assert!(votes.contains(&message), "after {kept} frames another vote is sent: {vote:?}");
        }
        let again = frames(&effects);
        assert!(again.iter().all(|frame| !whole[..kept].contains(frame)), "what is in the log is not written again");
    }
}

#[test]
fn what_was_signed_once_is_not_signed_otherwise_though_the_log_is_gone() {
    let effects = decide(4).swap_remove(0);
    let signed = safety(&effects).unwrap();
    let mut again = engine(1, Some(&signed));
    step(&mut again, 0, start(4, 1, vec![]));
    let mut effects = Vec::new();
    for now in [1_000, 3_000, 6_000] {
        effects.extend(step(&mut again, now, Input::Tick));
    }
    assert!(sent(&effects).iter().all(|message| !matches!(message.message, Some(Message::Vote(_)))), "{effects:?}");
    assert!(matches!(again.halted(), Some(Halt::Twice(_))));
    assert!(engine_refuses_false_safety());
}

fn engine_refuses_false_safety() -> bool {
    Engine::new(NETWORK, id(1), Box::new(|_| None), Some(b"not a safety state")).is_err()
}

#[test]
fn a_log_that_takes_nothing_halts_the_engine_until_it_is_started_again() {
    let mut one = engine(1, None);
    step(&mut one, 0, start(4, 1, vec![]));
    assert_eq!(step(&mut one, 0, Input::AppendFailed), [Effect::Halted(Halt::Append)]);
    assert_eq!(step(&mut one, 60_000, Input::Tick), []);
    let effects = step(&mut one, 60_000, start(4, 2, vec![]));
    assert!(!effects.is_empty() && one.halted().is_none());
}

#[test]
fn a_key_that_does_not_sign_halts_the_engine() {
    let mut one = Engine::new(NETWORK, id(1), Box::new(|_| None), None).unwrap();
    step(&mut one, 0, start(4, 1, vec![]));
    let effects = step(&mut one, 2_000, Input::Tick);
    assert!(effects.contains(&Effect::Halted(Halt::Signer)), "{effects:?}");
    assert_eq!(sent(&effects), []);
}

#[test]
fn a_message_that_could_not_be_sent_is_sent_again() {
    let mut one = engine(1, None);
    step(&mut one, 0, start(4, 1, vec![]));
    let effects = step(&mut one, 2_000, Input::Tick);
    let vote = sent(&effects).swap_remove(0);
    let wake = step(&mut one, 2_000, Input::Unsent(vote.clone()));
    assert_eq!(wake, [Effect::WakeAt(Time(2_500))]);
    let again = v1::ConsensusMessage { repeat: 2_500, ..vote };
    assert!(sent(&step(&mut one, 2_500, Input::Tick)).contains(&again));
}

#[test]
fn a_wake_that_was_passed_over_is_asked_for_again() {
    let mut one = engine(1, None);
    let due = step(&mut one, 0, start(4, 1, vec![])).into_iter().find_map(|effect| match effect {
        Effect::WakeAt(at) => Some(at),
        _ => None,
    });
    let due = due.expect("a round has a time limit");
    let unrelated = || Input::Checked { value: digest_of_bytes(b"unknown"), fit: Fit::Valid };
    assert_eq!(step(&mut one, due.0 - 1, unrelated()), [], "not before it is due");
    assert_eq!(step(&mut one, due.0 + 5, unrelated()), [Effect::WakeAt(due)]);
    assert!(!sent(&step(&mut one, due.0 + 6, Input::Tick)).is_empty());
}

#[test]
fn a_validator_that_votes_twice_is_named_with_both_votes() {
    let mut one = engine(1, None);
    step(&mut one, 0, start(4, 1, vec![]));
    let vote = |value: &[u8; 32]| {
        let value = bithealth_types::Digest(*value);
        let message = bithealth_ledger::vote_message(&NETWORK, Height(1), 0, v1::VoteKind::Prevote, Some(&value));
        v1::ConsensusVote {
            height: 1,
            round: 0,
            kind: v1::VoteKind::Prevote.into(),
            value: Bytes::copy_from_slice(&value.0),
            validator: Bytes::copy_from_slice(id(3).as_bytes()),
            signature: Bytes::copy_from_slice(&key(3).sign(&message).to_bytes()),
        }
    };
    let message = |vote| Input::Message(v1::ConsensusMessage { message: Some(Message::Vote(vote)), repeat: 0 });
    step(&mut one, 0, message(vote(&[1; 32])));
    let effects = step(&mut one, 0, message(vote(&[2; 32])));
    let guilt = Guilt { validator: id(3), first: vote(&[1; 32]), second: vote(&[2; 32]) };
    assert!(effects.contains(&Effect::Accuse(Box::new(guilt))), "{effects:?}");
    let again = step(&mut one, 0, message(vote(&[2; 32])));
    assert!(!again.iter().any(|effect| matches!(effect, Effect::Accuse(_))), "once");
}

#[test]
fn who_hears_of_a_later_height_is_told_so_and_keeps_what_it_heard() {
    let others = decide(4);
    let proposal = others
        .iter()
        .flat_map(|effects| sent(effects))
        .find(|message| matches!(message.message, Some(Message::Proposal(_))));
    let mut late = engine(1, None);
    let effects = step(&mut late, 0, Input::Message(proposal.unwrap()));
    assert_eq!(effects, [Effect::Ahead { height: Height(1) }]);
    let effects = step(&mut late, 0, start(4, 1, vec![]));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Check { .. })), "{effects:?}");
}

#[test]
fn what_is_no_message_is_refused() {
    let mut one = engine(1, None);
    let refused = |one: &mut Engine, message| {
        let message = v1::ConsensusMessage { message, repeat: 0 };
        one.handle(Time(0), Input::Message(message), &mut VecDeque::new()).unwrap_err()
    };
    assert_eq!(refused(&mut one, None), MessageError::Unknown);
    let vote = v1::ConsensusVote {
        kind: 1,
        validator: Bytes::copy_from_slice(id(1).as_bytes()),
        signature: vec![0; 64].into(),
        ..Default::default()
    };
    let with = |change: &dyn Fn(&mut v1::ConsensusVote)| {
        let mut vote = vote.clone();
        change(&mut vote);
        Some(Message::Vote(vote))
    };
    let length = |what, got, want| MessageError::Length { what, got, want };
    assert_eq!(refused(&mut one, with(&|it| it.kind = 3)), MessageError::Kind { got: 3 });
    assert_eq!(refused(&mut one, with(&|it| it.value = vec![1].into())), length("the value of a vote", 1, 32));
    assert_eq!(refused(&mut one, with(&|it| it.validator = Bytes::new())), length("a validator's key", 0, 32));
    assert_eq!(refused(&mut one, with(&|it| it.signature = Bytes::new())), length("a signature", 0, 64));
    let proposal = v1::ConsensusProposal {
        value: vec![1; 32].into(),
        validator: vote.validator.clone(),
        signature: vote.signature.clone(),
        content: None,
        ..Default::default()
    };
    assert_eq!(refused(&mut one, Some(Message::Proposal(proposal.clone()))), MessageError::Content);
    let other = v1::ConsensusProposal { content: Some(content(b"block")), ..proposal };
    assert_eq!(refused(&mut one, Some(Message::Proposal(other))), MessageError::Content);
}

#[test]
fn a_log_that_cannot_be_read_halts_the_engine() {
    let mut one = engine(1, None);
    let effects = step(&mut one, 0, start(4, 1, vec![Bytes::from_static(b"\xFF\xFF")]));
    assert!(matches!(effects[0], Effect::Halted(Halt::Rounds(_))), "{effects:?}");
    let timeout = v1::wal_frame::Frame::Timeout(v1::WalTimeout { kind: 4, round: 0 });
    let frame = bithealth_proto::encode(&v1::WalFrame { frame: Some(timeout) });
    assert_eq!(crate::frame::read(&frame).unwrap_err(), FrameError::Timeout { got: 4 });
    assert_eq!(crate::frame::read(&[]).unwrap_err(), FrameError::Unknown);
}

/// A proposal of whose turn it is.
fn offer(round: u32, polka_round: Option<u32>, header: &[u8]) -> (u8, Input) {
    let voters = set(4);
    let turn = (1 + round as usize) % 4;
    let who = voters.iter().nth(turn).expect("four validators").key;
    let seed = (1..=4).find(|seed| id(*seed) == who).expect("one of ours");
    let value = digest_of_bytes(header);
    let message = bithealth_ledger::proposal_message(&NETWORK, Height(1), round, polka_round, &value);
    let proposal = v1::ConsensusProposal {
        height: 1,
        round,
        polka_round_plus_one: polka_round.map_or(0, |round| round + 1),
        value: Bytes::copy_from_slice(&value.0),
        validator: Bytes::copy_from_slice(who.as_bytes()),
        signature: Bytes::copy_from_slice(&key(seed).sign(&message).to_bytes()),
        content: Some(v1::Proposed { header: Bytes::copy_from_slice(header), body: Bytes::new() }),
    };
    (seed, Input::Message(v1::ConsensusMessage { message: Some(Message::Proposal(proposal)), repeat: 0 }))
}

fn vote(seed: u8, round: u32, kind: v1::VoteKind, value: Option<&[u8]>) -> Input {
    let value = value.map(digest_of_bytes);
    let message = bithealth_ledger::vote_message(&NETWORK, Height(1), round, kind, value.as_ref());
    let vote = v1::ConsensusVote {
        height: 1,
        round,
        kind: kind.into(),
        value: value.map_or_else(Bytes::new, |value| Bytes::copy_from_slice(&value.0)),
        validator: Bytes::copy_from_slice(id(seed).as_bytes()),
        signature: Bytes::copy_from_slice(&key(seed).sign(&message).to_bytes()),
    };
    Input::Message(v1::ConsensusMessage { message: Some(Message::Vote(vote)), repeat: 0 })
}

fn voted(effects: &[Effect], kind: v1::VoteKind) -> Option<v1::ConsensusVote> {
    sent(effects).into_iter().find_map(|message| match message.message {
        Some(Message::Vote(vote)) if vote.kind() == kind => Some(vote),
        _ => None,
    })
}

/// A validator that is not the proposer of the first round, and the other three.
fn bystander() -> (Engine, [u8; 3]) {
    let seed = (1..=4).find(|seed| *seed != offer(0, None, b"").0).unwrap();
    let others: Vec<u8> = (1..=4).filter(|other| *other != seed).collect();
    (engine(seed, None), others.try_into().unwrap())
}

#[test]
fn what_is_untimely_here_gets_no_vote_until_a_quorum_found_it_timely() {
    let (mut one, others) = bystander();
    step(&mut one, 0, start(4, 1, vec![]));
    step(&mut one, 0, offer(0, None, b"old").1);
    let effects = step(&mut one, 0, Input::Checked { value: digest_of_bytes(b"old"), fit: Fit::Untimely });
    assert_eq!(voted(&effects, v1::VoteKind::Prevote).map(|vote| vote.value), Some(Bytes::new()), "a vote for nothing");
    let mut effects = Vec::new();
    for other in others {
        assert_eq!(voted(&effects, v1::VoteKind::Precommit), None);
        effects = step(&mut one, 0, vote(other, 0, v1::VoteKind::Prevote, Some(b"old")));
    }
    let precommit = voted(&effects, v1::VoteKind::Precommit).expect("a quorum voted for it");
    assert_eq!(precommit.value, digest_of_bytes(b"old").0[..]);
}

#[test]
fn a_value_some_are_locked_on_is_voted_for_however_old_it_has_grown() {
    let (mut one, others) = bystander();
    step(&mut one, 0, start(4, 1, vec![]));
    for other in others {
        step(&mut one, 0, vote(other, 0, v1::VoteKind::Prevote, Some(b"old")));
    }
    for other in others {
        step(&mut one, 0, vote(other, 0, v1::VoteKind::Precommit, None));
    }
    let mut now = 0;
    while one.round() == 0 {
        now += 500;
        step(&mut one, now, Input::Tick);
    }
    step(&mut one, now, offer(1, Some(0), b"old").1);
    let effects = step(&mut one, now, Input::Checked { value: digest_of_bytes(b"old"), fit: Fit::Untimely });
    let prevote = voted(&effects, v1::VoteKind::Prevote).expect("a vote");
    assert_eq!(prevote.value, digest_of_bytes(b"old").0[..]);
}

#[test]
fn after_many_rounds_that_came_to_nothing_the_next_proposal_is_looked_at_still() {
    let (mut one, others) = bystander();
    step(&mut one, 0, start(4, 1, vec![]));
    let (mut now, mut looked_at) = (0, 0);
    for round in 0..50 {
        let header = format!("header {round}");
        let (proposer, offer) = offer(round, None, header.as_bytes());
        if others.contains(&proposer) {
            let effects = step(&mut one, now, offer);
            assert!(effects.iter().any(|effect| matches!(effect, Effect::Check { .. })), "round {round}: {effects:?}");
            step(&mut one, now, Input::Checked { value: digest_of_bytes(header.as_bytes()), fit: Fit::Invalid });
            looked_at += 1;
        }
        for kind in [v1::VoteKind::Prevote, v1::VoteKind::Precommit] {
            for other in others {
                step(&mut one, now, vote(other, round, kind, None));
            }
        }
        while one.round() == round {
            now += 500;
            step(&mut one, now, Input::Tick);
        }
    }
    assert!(looked_at > 32, "{looked_at} proposals");
}

#[test]
fn of_a_proposer_that_offers_many_blocks_in_a_round_two_are_looked_at() {
    let (mut one, _) = bystander();
    step(&mut one, 0, start(4, 1, vec![]));
    let looked_at = |one: &mut Engine, header: &[u8]| {
        step(one, 0, offer(0, None, header).1).iter().any(|effect| matches!(effect, Effect::Check { .. }))
    };
    assert_eq!([b"1", b"2", b"3"].map(|header| looked_at(&mut one, header)), [true, true, false]);
    let far = step(&mut one, 0, offer(12, None, b"far ahead").1);
    assert!(!far.iter().any(|effect| matches!(effect, Effect::Check { .. })), "no round that is 11 ahead: {far:?}");
}

#[test]
fn a_block_that_could_not_be_made_or_looked_at_is_asked_for_again() {
    let proposer = offer(0, None, b"").0;
    let mut one = engine(proposer, None);
    let build = Effect::Build { height: Height(1), round: 0 };
    assert!(step(&mut one, 0, start(4, 1, vec![])).contains(&build));
    let wake = step(&mut one, 0, Input::Unbuilt { height: Height(1), round: 0 });
    assert_eq!(wake, [Effect::WakeAt(Time(500))]);
    assert!(step(&mut one, 500, Input::Tick).contains(&build));

    let (mut one, _) = bystander();
    step(&mut one, 0, start(4, 1, vec![]));
    let asked = step(&mut one, 0, offer(0, None, b"block").1).into_iter().find(|it| matches!(it, Effect::Check { .. }));
    let value = digest_of_bytes(b"block");
    step(&mut one, 0, Input::Unchecked { value });
    assert!(step(&mut one, 500, Input::Tick).contains(&asked.expect("it is looked at")));
    step(&mut one, 500, Input::Checked { value, fit: Fit::Valid });
    assert!(!step(&mut one, 900, Input::Tick).iter().any(|it| matches!(it, Effect::Check { .. })), "once");
}

#[test]
fn what_nobody_signed_is_not_passed_on() {
    let prevote = v1::VoteKind::Prevote;
    let told = |height: u64, input: Input| {
        let Input::Message(message) = input else { unreachable!("these are messages") };
        vouch(&NETWORK, &set(4), Height(height), message)
    };
    assert_eq!(told(1, vote(2, 0, prevote, Some(b"block"))), Ok(Vouched::Signed));
    assert_eq!(told(1, offer(0, None, b"block").1), Ok(Vouched::Signed));
    assert_eq!(told(1, vote(9, 0, prevote, None)), Err(MessageError::Signature { validator: id(9) }), "no validator");
    let forged = |change: &dyn Fn(&mut v1::ConsensusVote)| {
        let Input::Message(mut message) = vote(2, 0, prevote, Some(b"block")) else { unreachable!("a message") };
        let Some(Message::Vote(vote)) = &mut message.message else { unreachable!("a vote") };
        change(vote);
        Input::Message(message)
    };
    let false_signature = Err(MessageError::Signature { validator: id(2) });
    assert_eq!(told(1, forged(&|vote| vote.round = 1)), false_signature);
    assert_eq!(told(1, forged(&|vote| vote.value = Bytes::new())), false_signature);
    assert_eq!(told(1, forged(&|vote| vote.signature = vec![0; 64].into())), false_signature);
    assert!(matches!(told(1, forged(&|vote| vote.kind = 9)), Err(MessageError::Kind { .. })));
    // Of other heights who votes is not known here; what these validators signed goes on all the same.
    assert_eq!(told(2, vote(2, 0, prevote, None)), Ok(Vouched::Other));
    assert_eq!(told(1, forged(&|vote| vote.height = 2)), Ok(Vouched::Other));
    let polka = |votes: &[u8]| {
        let value = digest_of_bytes(b"block");
        let signed = |seed: &u8| {
            let message = bithealth_ledger::vote_message(&NETWORK, Height(1), 0, prevote, Some(&value));
            v1::ValidatorSignature {
                validator: Bytes::copy_from_slice(id(*seed).as_bytes()),
                signature: Bytes::copy_from_slice(&key(*seed).sign(&message).to_bytes()),
            }
        };
        let signatures = votes.iter().map(signed).collect();
        let polka = v1::PolkaCertificate { height: 1, round: 0, value: value.0.to_vec().into(), signatures };
        Input::Message(v1::ConsensusMessage { message: Some(Message::Polka(polka)), repeat: 0 })
    };
    assert_eq!(told(1, polka(&[1, 2, 3])), Ok(Vouched::Signed));
    assert_eq!(told(1, polka(&[1, 2])), Err(MessageError::Certificate), "three are a quorum");
    assert_eq!(told(1, polka(&[1, 2, 2])), Err(MessageError::Certificate));
}
