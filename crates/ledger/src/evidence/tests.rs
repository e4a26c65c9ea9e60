use super::*;
use crate::fixture::{Author, by, bytes, commit, genesis, public};

fn vote(validator: u8, value: &[u8]) -> v1::ConsensusVote {
    let digest = value.try_into().ok().map(Digest);
    let message = vote_message(&genesis().id(), Height(4), 1, v1::VoteKind::Precommit, digest.as_ref());
    v1::ConsensusVote {
        height: 4,
        round: 1,
        kind: v1::VoteKind::Precommit.into(),
        value: Bytes::copy_from_slice(value),
        validator: bytes(public(validator)),
        signature: Bytes::copy_from_slice(&by(validator)(&message)),
    }
}

/// Against a validator with this key, for two precommits.
pub(crate) fn votes_of(validator: u8, first: &[u8], second: &[u8]) -> v1::Evidence {
    double_vote(&genesis().id(), 0, &vote(validator, first), &vote(validator, second)).unwrap()
}

fn entries() -> (v1::SignedEntry, v1::SignedEntry, v1::SignedEntry) {
    let (mut two, mut twin) = (Author::of(2), Author::of(2));
    (two.write(commit(1)), two.write(commit(2)), twin.write(commit(3)))
}

#[test]
fn evidence_has_one_form_whatever_came_first() {
    let (first, _, other) = entries();
    assert_eq!(equivocation(&first, &other), equivocation(&other, &first));
    assert_eq!(votes_of(5, &[1; 32], &[]), votes_of(5, &[], &[1; 32]));
    let evidence = votes_of(5, &[1; 32], &[2; 32]);
    assert_eq!(check_evidence(&genesis().id(), &evidence), Ok(Accused::Validator(ValidatorId(public(5)))));
}

#[test]
fn what_does_not_contradict_is_no_evidence() {
    let (first, second, other) = entries();
    assert_eq!(equivocation(&first, &first), Err(NotEvidence::Compatible));
    assert_eq!(equivocation(&first, &second), Err(NotEvidence::Compatible));
    let forged = v1::SignedEntry { signature: first.signature.clone(), ..other };
    assert_eq!(equivocation(&first, &forged), Err(NotEvidence::BadSignature));
    let garbage = v1::SignedEntry { entry: Bytes::from_static(&[255; 4]), signature: first.signature.clone() };
    assert!(matches!(equivocation(&first, &garbage), Err(NotEvidence::Decode(_))));
    let vote_of = |value: u8| vote(5, &[value; 32]);
    let twice = |first: v1::ConsensusVote, second| double_vote(&genesis().id(), 0, &first, &second);
    assert_eq!(twice(vote_of(1), vote_of(1)), Err(NotEvidence::Compatible));
    assert_eq!(twice(vote_of(1), v1::ConsensusVote { round: 2, ..vote_of(2) }), Err(NotEvidence::Compatible));
    assert_eq!(twice(vote_of(1), vote(6, &[2; 32])), Err(NotEvidence::Compatible));
}

#[test]
fn every_changed_bit_of_evidence_is_refused() {
    let (first, _, other) = entries();
    for evidence in [equivocation(&first, &other).unwrap(), votes_of(5, &[1; 32], &[2; 32])] {
        let whole = bithealth_proto::encode(&evidence);
        assert!(whole.len() < 320, "{} bytes", whole.len());
        for bit in 0..8 * whole.len() {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            let read = decode::<v1::Evidence>(&changed);
            assert!(read.is_err() || check_evidence(&genesis().id(), &read.unwrap()).is_err(), "bit {bit}");
        }
    }
}

#[test]
fn a_vote_of_another_era_or_network_excludes_nothing() {
    let evidence = votes_of(5, &[1; 32], &[2; 32]);
    let Some(Evidence::Votes(mut votes)) = evidence.evidence.clone() else { panic!("two votes were shown") };
    votes.era = 1;
    let later = v1::Evidence { evidence: Some(Evidence::Votes(votes)) };
    assert_eq!(check_evidence(&genesis().id(), &later), Err(NotEvidence::BadSignature));
    assert_eq!(check_evidence(&GenesisId([7; 32]), &evidence), Err(NotEvidence::BadSignature));
    assert_ne!(era_domain(&genesis().id(), 1), era_domain(&genesis().id(), 2));
    let absent = v1::Evidence { evidence: None };
    assert_eq!(check_evidence(&genesis().id(), &absent), Err(NotEvidence::Absent { what: "kind" }));
}
