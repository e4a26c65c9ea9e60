use bithealth_envelope::NodeKey;
use bithealth_ledger::{Validator, vote_message};
use bithealth_proto::v1::consensus_message::Message;
use bithealth_types::{GenesisId, MemberId};

use super::*;

const NETWORK: GenesisId = GenesisId([7; 32]);

/// A prevote for height 1 by the only validator, signed for this era.
fn vote(key: &NodeKey, era: u64) -> v1::ConsensusMessage {
    let message = vote_message(&era_domain(&NETWORK, era), Height(1), 0, v1::VoteKind::Prevote, None);
    let vote = v1::ConsensusVote {
        height: 1,
        round: 0,
        kind: v1::VoteKind::Prevote.into(),
        value: Bytes::new(),
        validator: Bytes::copy_from_slice(key.id().as_bytes()),
        signature: Bytes::copy_from_slice(&key.sign(&message)),
    };
    v1::ConsensusMessage { message: Some(Message::Vote(vote)), repeat: 0 }
}

#[test]
fn a_vote_of_an_era_this_node_has_not_heard_of_goes_no_further_and_costs_nobody_score() {
    let key = NodeKey::random();
    let validators = ValidatorSet::new(vec![Validator { member: MemberId([1; 32]), key: ValidatorId(key.id().0) }]);
    let validators = validators.unwrap();
    // As it is looked at in era 0.
    let looked_at = |era| vouch(&NETWORK, &validators, Height(1), vote(&key, era));
    for eras in [Eras::One, Eras::Possible] {
        assert!(matches!(judged(looked_at(0), eras), Received::New), "{eras:?}");
    }
    assert!(matches!(judged(looked_at(1), Eras::Possible), Received::Known), "it may be of an era that has begun");
    let Received::Forged(why) = judged(looked_at(1), Eras::One) else { panic!("there is no other era") };
    assert!(why.contains(&ValidatorId(key.id().0).short()), "{why}");
    // Of a height whose validators may be others nothing can be said.
    assert!(matches!(judged(Ok(Vouched::Other), Eras::One), Received::Known));
}

#[test]
fn what_the_engine_has_no_time_for_is_dropped_and_what_waits_stays() {
    let heard = |count: usize| {
        let finality = Finality::default();
        let said = |at: usize| v1::ConsensusMessage { message: None, repeat: at as u64 };
        (0..count).for_each(|at| finality.hear(said(at)));
        let mut inbox = finality.inbox.lock().unwrap().take().unwrap();
        let mut repeats = Vec::new();
        while let Ok(message) = inbox.try_recv() {
            repeats.push(message.repeat as usize);
        }
        repeats
    };
    let all: Vec<usize> = (0..HEARD_MAX).collect();
    assert_eq!(heard(HEARD_MAX), all);
    assert_eq!(heard(HEARD_MAX + 1), all, "one more is dropped");
}
