//! An organisation goes on with other keys.

use bithealth_types::ValidatorId;

use super::*;

/// A network of three, whose third goes on with the keys made from 93.
const NEW: u8 = 93;

fn keys(org: u8, seed: u8) -> v1::Proposal {
    proposal(Change::Keys(keys_of(org, seed)))
}

fn add(org: u8, seed: u8, time_ms: u64) -> Operation {
    Operation::AddNode(certificate_by(org, seed, time_ms))
}

/// The certificate of another node of organisation 3.
fn another(seed: u8, signer: u8) -> Operation {
    let signed_by = crate::signer(&member(3), &public(signer));
    let unsigned = v1::NodeCertificate { signer: signed_by, ..certificate_of(3, seed, 1) };
    Operation::AddNode(crate::node_certificate(unsigned, by(signer)))
}

fn rekeyed() -> (State, Vec<Author>) {
    let (mut state, mut authors) = network(3);
    decide(&mut state, &mut authors[..2], &keys(3, NEW));
    (state, authors)
}

#[test]
fn with_new_keys_it_is_the_same_member_with_the_same_node() {
    let (mut state, mut authors) = network(3);
    let (root, before) = (state.tip().unwrap().state_root.clone(), state.member(&member(3)).unwrap().clone());
    assert_eq!(before.key, member(3).0);
    decide(&mut state, &mut authors[..2], &keys(3, NEW));
    let after = state.member(&member(3)).unwrap();
    assert_eq!((after.id, after.key, &after.name), (member(3), public(NEW), &before.name));
    assert_eq!(after.recipient, keys_of(3, NEW).recipient);
    assert_ne!(state.tip().unwrap().state_root, root);
    // What the former key signed before still stands.
    assert_eq!(deciding(&state), [1, 2, 3]);
    assert_eq!(state.node(&node(3)).unwrap().since, Some(Height(1)));
    authors[2].take(&mut state, propose(&defaults(2)));
}

#[test]
fn what_the_former_key_signs_later_counts_for_nothing() {
    let (mut state, mut authors) = rekeyed();
    let not_its_key = EntryError::NotItsKey { member: member(3) };
    assert_eq!(authors[2].refused_own(&state, another(91, 3)), not_its_key);
    assert_eq!(authors[2].refused_own(&state, retire(3, 3)), not_its_key);
    let invite = propose_invite(3, 204, 4, "clinic 4");
    assert_eq!(authors[2].refused_own(&state, propose(&invite)), not_its_key);

    // Who stole it has a node of another member carry it all the same.
    authors[1].take(&mut state, another(91, 3));
    authors[1].take(&mut state, add(3, 3, NOW + 1_000_000));
    authors[1].take(&mut state, retire(3, 3));
    authors[1].take(&mut state, admit(3, 204, 4, "clinic 4"));
    finalise(&mut state);
    assert_eq!(state.node(&bithealth_types::NodeId(public(91))), None);
    assert!(!state.node(&node(3)).unwrap().retired);
    assert_eq!(state.proposal(&id(&invite)).unwrap().approved_by, []);
}

#[test]
fn what_the_new_key_signs_counts_from_the_block_that_lets_it() {
    let (mut state, mut authors) = network(3);
    assert_eq!(authors[2].refused_own(&state, another(91, NEW)), EntryError::NotItsKey { member: member(3) });
    authors[1].take(&mut state, another(91, NEW));
    finalise(&mut state);
    let early = bithealth_types::NodeId(public(91));
    assert_eq!(state.node(&early), None);
    decide(&mut state, &mut authors[..2], &keys(3, NEW));
    assert_eq!(state.node(&early).unwrap().since, Some(Height(3)));
    assert!(state.nodes_at(Height(2)).iter().all(|it| it.id != early));
    authors[2].take(&mut state, another(92, NEW));
    let retirement = v1::RetireNode { signer: bytes(public(NEW)), ..retirement(3, 3) };
    authors[1].take(&mut state, Operation::RetireNode(crate::retire_node(retirement, by(NEW))));
    finalise(&mut state);
    assert!(state.node(&node(3)).unwrap().retired);
    assert_eq!(state.node(&bithealth_types::NodeId(public(92))).unwrap().since, Some(Height(4)));
}

#[test]
fn a_certificate_by_the_new_key_is_later_than_any_by_the_former() {
    let (mut state, mut authors) = network(3);
    // A thief's certificate for the same node, dated far ahead, covered while its key still counts.
    let far = v1::NodeCertificate {
        validator: bytes(public(99)),
        time_ms: NOW * 2,
        signature: bytes::Bytes::new(),
        ..node_certificate_of(3)
    };
    authors[1].take(&mut state, Operation::AddNode(crate::node_certificate(far, by(3))));
    finalise(&mut state);
    let votes = |state: &State| state.validators().of(&member(3)).map(|it| it.key);
    assert_eq!(votes(&state), Some(ValidatorId(public(99))));
    decide(&mut state, &mut authors[..2], &keys(3, NEW));
    authors[2].take(&mut state, add(3, NEW, NOW));
    finalise(&mut state);
    assert_eq!(votes(&state), Some(ValidatorId(public(validator_of(3)))));
}

#[test]
fn a_key_stands_for_one_organisation_only() {
    let (mut state, mut authors) = rekeyed();
    let taken = |org| EntryError::KeyTaken { member: member(org) };
    for (org, seed) in [(2, NEW), (2, 1), (3, 3), (3, NEW)] {
        let proposal = v1::Proposal { time_ms: NOW + 1, ..keys(org, seed) };
        assert_eq!(authors[0].refused_own(&state, propose(&proposal)), taken(org), "{org} {seed}");
    }
    let unknown = EntryError::MemberUnknown { member: member(9) };
    assert_eq!(authors[0].refused_own(&state, propose(&keys(9, 94))), unknown);
    // Two for one key: the first in the order has it, and nobody else.
    let (one, other) = (keys(1, 94), keys(2, 94));
    authors[0].take(&mut state, propose(&one));
    authors[1].take(&mut state, approve(&one));
    authors[1].take(&mut state, propose(&other));
    authors[0].take(&mut state, approve(&other));
    finalise(&mut state);
    let keys = [1, 2].map(|org| state.member(&member(org)).unwrap().key);
    assert!(keys == [public(94), public(2)] || keys == [public(1), public(94)]);
    // Nor does somebody join under a key that stands for another.
    let invite = propose_invite(2, 204, 94, "clinic 94");
    authors[1].take(&mut state, propose(&invite));
    authors[0].take(&mut state, approve(&invite));
    authors[0].take(&mut state, admit(2, 204, 94, "clinic 94"));
    finalise(&mut state);
    assert_eq!(state.member(&member(94)), None);
}

#[test]
fn it_goes_on_with_third_keys_and_never_back() {
    let (mut state, mut authors) = rekeyed();
    decide(&mut state, &mut authors[..2], &keys(3, 94));
    assert_eq!(state.member(&member(3)).unwrap().key, public(94));
    authors[1].take(&mut state, another(91, NEW));
    authors[1].take(&mut state, another(92, 94));
    finalise(&mut state);
    assert_eq!(state.node(&bithealth_types::NodeId(public(91))), None);
    assert!(state.node(&bithealth_types::NodeId(public(92))).is_some());
}

#[test]
fn false_keys_are_refused() {
    let (state, authors) = network(1);
    let refused = |change| match authors[0].refused(&state, propose(&proposal(Change::Keys(change)))) {
        EntryError::Membership(error) => error.to_string(),
        error => panic!("{error}"),
    };
    let good = keys_of(1, NEW);
    assert!(refused(v1::MemberKeys { key: bytes(public(94)), ..good.clone() }).contains("not signed by the new key"));
    assert!(refused(v1::MemberKeys { member: bytes(public(2)), ..good.clone() }).contains("not signed by the new key"));
    assert!(refused(v1::MemberKeys { recipient: keys_of(1, 94).recipient, ..good.clone() }).contains("not signed"));
    assert!(refused(v1::MemberKeys { recipient: vec![0xFF; 1216].into(), ..good.clone() }).contains("coefficient"));
    assert!(refused(v1::MemberKeys { key: vec![1; 31].into(), ..good }).contains("31 bytes"));
    let long = v1::NodeCertificate { signer: vec![1; 33].into(), ..node_certificate_of(1) };
    let error = authors[0].refused(&state, Operation::AddNode(crate::node_certificate(long, by(1))));
    assert!(error.to_string().contains("33 bytes"), "{error}");
}
