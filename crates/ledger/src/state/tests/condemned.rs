//! Whose word against a holder counts, and for how long.

use super::*;
use crate::{CONDEMNED_FOR_MS, CONDEMNERS_MIN};

fn condemnation(org: u8) -> v1::Condemnation {
    v1::Condemnation {
        node: bytes(node(org).0),
        fault: v1::AuditFault::Late.into(),
        nonce: bytes([5; 32]),
        pack: bytes(id_of(1).0),
        shard: 3,
    }
}

pub(super) fn condemn(org: u8) -> Operation {
    Operation::Condemn(condemnation(org))
}

pub(super) fn absolve(org: u8) -> Operation {
    Operation::Absolve(v1::Absolution { node: bytes(node(org).0) })
}

fn condemned(state: &State) -> Vec<NodeId> {
    state.condemned(NOW).into_iter().collect()
}

#[test]
fn one_organisation_moves_nobodys_shards_however_often_it_speaks() {
    let (mut state, mut authors) = network(4);
    assert_eq!(authors[1].take(&mut state, condemn(4)), Applied::Judged { holder: node(4) });
    authors[1].take(&mut state, condemn(4));
    authors[0].take(&mut state, Operation::AddNode(certificate_of(2, 220, 1 << 30)));
    let mut second = Author::with_key(220);
    second.take(&mut state, condemn(4));
    assert_eq!(state.condemners(&node(4), NOW), BTreeSet::from([member(2)]), "two nodes of one organisation");
    assert!(condemned(&state).is_empty());
    authors[2].take(&mut state, condemn(4));
    assert_eq!(condemned(&state), [node(4)]);
}

#[test]
fn it_takes_one_more_than_may_lie() {
    for (count, needed) in [(2, CONDEMNERS_MIN), (4, 2), (7, 3), (10, 4)] {
        let (mut state, mut authors) = network(count);
        assert_eq!(state.condemners_needed(), needed, "{count} organisations");
        for author in authors.iter_mut().skip(1).take(needed - 1) {
            author.take(&mut state, condemn(1));
        }
        assert!(condemned(&state).is_empty(), "{count} organisations: as many as may lie");
        if let Some(author) = authors.get_mut(needed) {
            author.take(&mut state, condemn(1));
            assert_eq!(condemned(&state), [node(1)]);
        }
    }
}

#[test]
fn a_holders_own_organisation_strangers_and_those_who_left_have_no_say() {
    let (mut state, mut authors) = network(4);
    authors[3].take(&mut state, condemn(4));
    authors[1].take(&mut state, condemn(4));
    assert!(condemned(&state).is_empty(), "its own");
    authors[2].take(&mut state, condemn(4));
    assert_eq!(condemned(&state), [node(4)]);
    authors[2].take(&mut state, retire(3, 3));
    assert!(condemned(&state).is_empty(), "a retired node");
}

#[test]
fn a_word_is_taken_back_by_whoever_gave_it_and_expires() {
    let (mut state, mut authors) = network(4);
    authors[1].take(&mut state, condemn(4));
    authors[2].take(&mut state, condemn(4));
    assert_eq!(state.condemnations().count(), 2);
    let first = state.condemnations().find(|it| it.by == node(2)).unwrap();
    assert_eq!((first.holder, first.fault, first.nonce), (node(4), v1::AuditFault::Late, [5; 32]));
    assert_eq!((first.shard, first.time_ms), (Some((id_of(1), ShardIndex(3))), NOW));
    assert_eq!(state.condemned(NOW + CONDEMNED_FOR_MS - 1).len(), 1);
    assert!(state.condemned(NOW + CONDEMNED_FOR_MS).is_empty(), "expired");
    authors[0].take(&mut state, absolve(4));
    assert_eq!(condemned(&state), [node(4)], "others take nothing back");
    authors[1].take(&mut state, absolve(4));
    assert!(condemned(&state).is_empty());
    assert_eq!(state.condemnations().count(), 1);
}

#[test]
fn a_word_that_says_nothing_is_refused() {
    let (mut state, mut authors) = network(2);
    let refused = |condemnation| authors[0].clone().refused(&state, Operation::Condemn(condemnation));
    let whole = || condemnation(2);
    let want = |what, got| EntryError::IdLength { what, got };
    assert_eq!(refused(v1::Condemnation { node: Bytes::new(), ..whole() }), want("the holder", 0));
    assert_eq!(refused(v1::Condemnation { nonce: Bytes::new(), ..whole() }), want("the nonce of the audit", 0));
    assert_eq!(refused(v1::Condemnation { pack: vec![0; 31].into(), ..whole() }), want("the pack", 31));
    let far = EntryError::NoSuchShard { shard: 1 << 16, n: 1 << 16 };
    assert_eq!(refused(v1::Condemnation { shard: 1 << 16, ..whole() }), far);
    assert_eq!(refused(v1::Condemnation { fault: 0, ..whole() }), EntryError::NoFault { got: 0 });
    assert_eq!(refused(v1::Condemnation { fault: 99, ..whole() }), EntryError::NoFault { got: 99 });
    let absolution = v1::Absolution { node: vec![1; 33].into() };
    assert_eq!(authors[0].clone().refused(&state, Operation::Absolve(absolution)), want("the holder", 33));
    // About the answer as a whole.
    authors[0].take(&mut state, Operation::Condemn(v1::Condemnation { pack: Bytes::new(), shard: 0, ..whole() }));
    assert_eq!(state.condemnations().next().unwrap().shard, None);
    // Who is not here yet may be condemned by others, but not by us.
    let stranger = authors[0].write(condemn(99));
    assert!(state.check(&stranger).is_ok());
    assert_eq!(state.check_own(&stranger), Err(EntryError::NodeUnknown { node: node(99) }));
}

#[test]
fn the_digest_of_the_state_covers_it() {
    let (mut state, mut authors) = network(3);
    let before = state.digest();
    authors[0].take(&mut state, condemn(3));
    let after = state.digest();
    assert_ne!(before, after);
    let mut other = state.clone();
    authors[0].clone().take(&mut other, condemn(3));
    assert_ne!(other.digest(), after, "one entry more");
}
