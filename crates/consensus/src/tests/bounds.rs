//! What others can make grow: at its bound, and one past it.

use super::*;
use crate::engine::{LATER_MAX, UNSENT_MAX};
use crate::message::CERTIFICATE_VOTES_MAX;

/// What an engine does at its start that heard a proposal before, and then so many votes.
fn heard_early(votes: usize) -> Vec<Effect> {
    let (mut one, others) = bystander();
    step(&mut one, 0, offer(0, None, b"block").1);
    for round in 0..votes {
        step(&mut one, 0, vote(others[0], round as u32, v1::VoteKind::Prevote, None));
    }
    step(&mut one, 0, start(4, 1, vec![]))
}

#[test]
fn of_the_next_height_eight_messages_a_validator_are_kept_and_then_the_oldest_goes() {
    let bound = 4 * LATER_MAX;
    let is_looked_at = |effects: &[Effect]| effects.iter().any(|it| matches!(it, Effect::Check { .. }));
    assert!(is_looked_at(&heard_early(bound - 1)), "the proposal and {bound} - 1 votes");
    assert!(!is_looked_at(&heard_early(bound)), "one more");
}

#[test]
fn of_what_could_not_be_sent_the_oldest_goes_once_there_is_too_much() {
    let message = |round: usize| match vote(1, round as u32, v1::VoteKind::Prevote, None) {
        Input::Message(message) => message,
        _ => unreachable!("a vote"),
    };
    let sent_again = |count: usize| {
        let mut one = engine(1, None);
        step(&mut one, 0, start(4, 1, vec![]));
        (0..count).for_each(|round| drop(step(&mut one, 0, Input::Unsent(message(round)))));
        let again = |round: usize| v1::ConsensusMessage { repeat: 500, ..message(round) };
        let sent = sent(&step(&mut one, 500, Input::Tick));
        (0..count).filter(|round| sent.contains(&again(*round))).collect::<Vec<_>>()
    };
    assert_eq!(sent_again(UNSENT_MAX), (0..UNSENT_MAX).collect::<Vec<_>>());
    assert_eq!(sent_again(UNSENT_MAX + 1), (1..=UNSENT_MAX).collect::<Vec<_>>());
}

#[test]
fn a_certificate_has_at_most_a_vote_of_each_kind_from_everybody() {
    let (validator, signature) = (Bytes::from_static(&[1; 32]), Bytes::from_static(&[2; 64]));
    let polka = |votes: usize| {
        let one = v1::ValidatorSignature { validator: validator.clone(), signature: signature.clone() };
        let value = Bytes::from_static(&[3; 32]);
        Message::Polka(v1::PolkaCertificate { height: 1, round: 0, value, signatures: vec![one; votes] })
    };
    let round = |votes: usize| {
        let (validator, signature) = (validator.clone(), signature.clone());
        let one = v1::RoundVote { kind: 1, value: Bytes::new(), validator, signature };
        Message::Round(v1::RoundCertificate { height: 1, round: 0, precommits: false, votes: vec![one; votes] })
    };
    let read = |message| {
        let message = v1::ConsensusMessage { message: Some(message), repeat: 0 };
        crate::message::read(message).map(|heard| heard.height())
    };
    let bound = 2 * bithealth_ledger::VALIDATORS_MAX;
    assert_eq!(CERTIFICATE_VOTES_MAX, bound);
    for certificate in [&polka as &dyn Fn(usize) -> Message, &round] {
        assert_eq!(read(certificate(bound)), Ok(1));
        assert_eq!(read(certificate(bound + 1)), Err(MessageError::Votes { got: bound + 1 }));
    }
}
