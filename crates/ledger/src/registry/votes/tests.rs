use bithealth_proto::v1::{self, entry::Operation, proposal::Change};
use bithealth_types::{Digest, Height};

use crate::State;
use crate::entry::EntryError;
use crate::fixture::*;
use crate::validators::quorum;

mod keys;

fn proposal(change: Change) -> v1::Proposal {
    v1::Proposal { time_ms: NOW, change: Some(change) }
}

fn remove(org: u8) -> v1::Proposal {
    proposal(Change::Remove(bytes(public(org))))
}

fn voting(org: u8, votes: bool) -> v1::Proposal {
    proposal(Change::Voting(v1::Voting { member: bytes(public(org)), votes }))
}

fn labels(org: u8, region: &str) -> v1::Proposal {
    let (region, jurisdiction) = (region.to_owned(), "DE".to_owned());
    proposal(Change::Labels(v1::Labels { member: bytes(public(org)), region, jurisdiction }))
}

fn defaults(survive_regions: u32) -> v1::Proposal {
    proposal(Change::Defaults(v1::Defaults { survive_regions, survive_nodes: 1 }))
}

fn propose(proposal: &v1::Proposal) -> Operation {
    Operation::Propose(proposal.clone())
}

fn id(proposal: &v1::Proposal) -> Digest {
    bithealth_proto::digest(proposal)
}

/// Proposed by the first of these, approved by the others, and covered by one block.
fn decide(state: &mut State, authors: &mut [Author], proposal: &v1::Proposal) {
    let (first, others) = authors.split_first_mut().unwrap();
    first.take(state, propose(proposal));
    for author in others {
        author.take(state, approve(proposal));
    }
    finalise(state);
}

fn passed(state: &State, proposal: &v1::Proposal) -> Option<Height> {
    state.proposal(&id(proposal)).unwrap().since
}

/// The organisations that decide the next block, of 1 to 12.
fn deciding(state: &State) -> Vec<u8> {
    (1..=12).filter(|org| state.validators().of(&member(*org)).is_some()).collect()
}

#[test]
fn a_proposal_passes_with_the_approvals_of_a_quorum_and_not_with_one_less() {
    for count in 1..=12 {
        let quorum = quorum(usize::from(count));
        let (mut state, mut authors) = network(count);
        let proposal = defaults(1);
        if quorum > 1 {
            decide(&mut state, &mut authors[..quorum - 1], &proposal);
            let known = state.proposal(&id(&proposal)).unwrap();
            assert_eq!((known.approved_by.len(), known.needed), (quorum - 1, quorum), "{count} members");
            assert_eq!((known.passed, known.since, state.defaults()), (false, None, None));
            authors[quorum - 1].take(&mut state, approve(&proposal));
        } else {
            authors[0].take(&mut state, propose(&proposal));
        }
        assert_eq!(passed(&state, &proposal), None, "no block covers it");
        let block = finalise(&mut state).header.unwrap().height;
        assert_eq!(passed(&state, &proposal), Some(Height(block)), "{count} members");
        assert_eq!(state.defaults().unwrap().survive_regions, 1);
    }
}

#[test]
fn those_vote_who_were_members_before_the_block() {
    let (mut state, mut authors) = network(3);
    // Four is admitted in the block that also covers its approval: it counts with the next.
    let (invite, proposal) = (propose_invite(1, 204, 4, "clinic 4"), defaults(2));
    authors[0].take(&mut state, Operation::Propose(invite.clone()));
    authors[1].take(&mut state, approve(&invite));
    authors[0].take(&mut state, admit(1, 204, 4, "clinic 4"));
    authors[0].take(&mut state, add_node(4));
    authors[0].take(&mut state, propose(&proposal));
    let mut four = Author::of(4);
    four.take(&mut state, approve(&proposal));
    finalise(&mut state);
    assert_eq!(deciding(&state), [1, 2, 3, 4]);
    let known = state.proposal(&id(&proposal)).unwrap();
    assert_eq!((known.passed, known.approved_by.len(), known.needed), (false, 2, 3));
    authors[2].take(&mut state, approve(&proposal));
    finalise(&mut state);
    assert_eq!(passed(&state, &proposal), Some(Height(3)));
}

#[test]
fn an_admission_that_came_before_its_invite_passed_takes_effect_when_it_does() {
    let (mut state, mut authors) = network(3);
    let invite = propose_invite(1, 204, 4, "clinic 4");
    authors[0].take(&mut state, admit(1, 204, 4, "clinic 4"));
    finalise(&mut state);
    assert_eq!((state.member(&member(4)), state.proposal(&id(&invite)).unwrap().approved_by.len()), (None, 1));
    authors[1].take(&mut state, approve(&invite));
    finalise(&mut state);
    assert!(state.member(&member(4)).is_some());
}

#[test]
fn an_organisation_has_one_vote_however_many_nodes_approve() {
    let (mut state, mut authors) = network(4);
    authors[0].take(&mut state, Operation::AddNode(certificate_of(1, 90, 1)));
    let proposal = remove(4);
    authors[0].take(&mut state, propose(&proposal));
    authors[1].take(&mut state, approve(&proposal));
    let mut second = Author::with_key(90);
    second.take(&mut state, approve(&proposal));
    finalise(&mut state);
    assert_eq!(state.proposal(&id(&proposal)).unwrap().approved_by.len(), 2);
    assert!(state.member(&member(4)).is_some());
}

#[test]
fn who_is_removed_is_a_member_no_more_and_its_nodes_hold_nothing_new() {
    let (mut state, mut authors) = network(4);
    let proposal = remove(3);
    decide(&mut state, &mut authors[..3], &proposal);
    assert_eq!(state.member(&member(3)), None);
    assert_eq!(deciding(&state), [1, 2, 4]);
    assert_eq!(state.node(&node(3)).unwrap().retired_since, Some(Height(2)));
    let at = |height| state.nodes_at(Height(height)).iter().any(|known| known.id == node(3));
    assert!(at(1) && !at(2), "packs of height 1 are still found");
    // It cannot come back under its key or name, and no longer decides.
    let again = propose_invite(1, 211, 3, "clinic 3");
    authors[0].take(&mut state, Operation::Propose(again.clone()));
    authors[1].take(&mut state, approve(&again));
    authors[3].take(&mut state, approve(&again));
    authors[0].take(&mut state, admit(1, 211, 3, "clinic 3"));
    finalise(&mut state);
    assert!(state.proposal(&id(&again)).unwrap().passed);
    assert_eq!(state.member(&member(3)), None);
}

#[test]
fn the_last_that_votes_stays() {
    let (mut state, mut authors) = network(1);
    decide(&mut state, &mut authors, &remove(1));
    decide(&mut state, &mut authors, &voting(1, false));
    assert!(state.member(&member(1)).unwrap().votes);
    assert_eq!(deciding(&state), [1]);
}

#[test]
fn a_vote_can_be_taken_and_given() {
    let (mut state, mut authors) = network(4);
    decide(&mut state, &mut authors[..3], &voting(4, false));
    assert_eq!(deciding(&state), [1, 2, 3]);
    assert!(!state.member(&member(4)).unwrap().votes && !state.node(&node(4)).unwrap().retired);
    // Two of three are a quorum now; that of who has no vote does not count.
    let proposal = proposal(Change::Voting(v1::Voting { member: bytes(public(4)), votes: true }));
    let later = v1::Proposal { time_ms: NOW + 1, ..proposal };
    authors[3].take(&mut state, propose(&later));
    authors[0].take(&mut state, approve(&later));
    finalise(&mut state);
    assert_eq!(passed(&state, &later), None);
    authors[1].take(&mut state, approve(&later));
    finalise(&mut state);
    assert_eq!(deciding(&state), [1, 2, 3, 4]);
}

#[test]
fn a_node_holds_nothing_where_its_organisation_may_not_stand() {
    let (mut state, mut authors) = network(3);
    let mut moved = node_certificate_of(3);
    (moved.region, moved.time_ms) = ("elsewhere".into(), moved.time_ms + 1);
    authors[2].take(&mut state, Operation::AddNode(crate::node_certificate(moved, by(3))));
    finalise(&mut state);
    let region_at = |state: &State, height| {
        let nodes = state.nodes_at(Height(height));
        nodes.iter().find(|known| known.id == node(3)).map(|known| known.region.clone())
    };
    assert_eq!(region_at(&state, 2).as_deref(), Some("region-3"), "as it was approved");
    assert_eq!(state.node(&node(3)).unwrap().region, "elsewhere");
    decide(&mut state, &mut authors[..2], &labels(3, "elsewhere"));
    assert_eq!(region_at(&state, 2).as_deref(), Some("region-3"));
    assert_eq!(region_at(&state, 3).as_deref(), Some("elsewhere"));
}

#[test]
fn an_own_vote_refers_to_what_is_here_and_is_cast_once() {
    let (mut state, mut authors) = network(4);
    let (first, others) = authors.split_first_mut().unwrap();
    for (change, org) in [(remove(9), 9), (voting(8, true), 8), (labels(7, "x"), 7)] {
        assert_eq!(first.refused_own(&state, propose(&change)), EntryError::MemberUnknown { member: member(org) });
    }
    let taken = propose_invite(1, 210, 10, "clinic 2");
    let want = EntryError::NameTaken { name: "clinic 2".into(), by: member(2) };
    assert_eq!(first.refused_own(&state, propose(&taken)), want);
    let proposal = defaults(1);
    let unknown = EntryError::ProposalUnknown { proposal: id(&proposal) };
    assert_eq!(first.refused_own(&state, approve(&proposal)), unknown);
    first.take(&mut state, propose(&proposal));
    assert_eq!(others[0].refused_own(&state, propose(&proposal)), EntryError::ProposedBefore);
    let before = EntryError::ApprovedBefore { proposal: id(&proposal) };
    assert_eq!(first.refused_own(&state, approve(&proposal)), before);
    others[0].take(&mut state, approve(&proposal));
    others[1].take(&mut state, approve(&proposal));
    finalise(&mut state);
    assert_eq!(others[2].refused_own(&state, approve(&proposal)), before, "it passed");
}

#[test]
fn false_proposals_are_refused() {
    let (state, authors) = network(1);
    let refused = |change| authors[0].refused(&state, Operation::Propose(proposal(change)));
    let short = EntryError::IdLength { what: "the member", got: 3 };
    assert_eq!(refused(Change::Remove(vec![1; 3].into())), short);
    let voting = v1::Voting { member: vec![1; 3].into(), votes: true };
    assert_eq!(refused(Change::Voting(voting)), short);
    let empty = v1::Labels { member: bytes(public(1)), region: String::new(), jurisdiction: "DE".into() };
    assert!(matches!(refused(Change::Labels(empty)), EntryError::Membership(_)));
    let forged = v1::Invite { expires_ms: 7, ..invited(1, 210, 2, "two") };
    assert!(matches!(refused(Change::Invite(forged)), EntryError::Membership(_)));
    let none = Operation::Propose(v1::Proposal { time_ms: NOW, change: None });
    assert_eq!(authors[0].refused(&state, none), EntryError::NoOperation);
}

#[test]
fn what_passed_is_in_the_state_root() {
    let (mut state, mut authors) = network(2);
    let root = |state: &State| state.tip().unwrap().state_root.clone();
    let (proposal, before) = (defaults(1), root(&state));
    authors[0].take(&mut state, propose(&proposal));
    finalise(&mut state);
    assert_eq!(root(&state), before, "nothing passed yet");
    authors[1].take(&mut state, approve(&proposal));
    finalise(&mut state);
    assert_ne!(root(&state), before);
}
