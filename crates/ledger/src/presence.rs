//! Who is a member, and which nodes there are, as a header has it: shown to anybody who trusts the header, and so is that
//! somebody is not.

use std::collections::BTreeMap;

use bithealth_merkle::{MapError, MapProof, prove, verify_absent, verify_present};
use bithealth_proto::v1;
use bithealth_types::{Digest, MemberId, NodeId, ValidatorId};

use crate::evidence::Accused;
use crate::member::fixed;
use crate::registry::{Covered, state_key};
use crate::state::State;

/// Whom a header's `state_root` says something about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// An organisation.
    Member(MemberId),
    /// A node, retired or not.
    Node(NodeId),
    /// Evidence against a node or a validator.
    Accused(Accused),
}

/// What it says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there. The digest is that of what is known of it, see `registry::View::map`.
    There(Digest),
    /// It is not.
    Absent,
}

impl Subject {
    fn key(&self) -> Vec<u8> {
        match self {
            Self::Member(MemberId(id)) => state_key(1, id),
            Self::Node(NodeId(id)) => state_key(2, id),
            Self::Accused(Accused::Author(NodeId(id))) => state_key(3, id),
            Self::Accused(Accused::Validator(ValidatorId(id))) => state_key(4, id),
        }
    }
}

impl State {
    /// Shows what the tip's `state_root` says of somebody.
    pub fn prove_presence(&self, of: &Subject) -> MapProof {
        let lens = self.lens_after(&BTreeMap::new());
        prove(&self.registry().view(&Covered::By(self.height(), &lens)).map(), &of.key())
    }
}

/// What a header says of somebody.
///
/// # Errors
/// [`MapError`] if the proof is of another header or about somebody else, or does not hold.
pub fn check_presence(header: &v1::Header, of: &Subject, proof: &MapProof) -> Result<Presence, MapError> {
    // A root of another length is that of no map: the proof is then of another one.
    let root = Digest(fixed("the state root", &header.state_root).unwrap_or([0; 32]));
    let key = of.key();
    match proof.neighbours.iter().find(|entry| entry.key == key) {
        Some(entry) => verify_present(&root, &key, &entry.value, proof).map(|()| Presence::There(entry.value)),
        None => verify_absent(&root, &key, proof).map(|()| Presence::Absent),
    }
}

#[cfg(test)]
mod tests {
    use bithealth_proto::v1::{entry::Operation, proposal::Change};

    use super::*;
    use crate::fixture::*;

    fn said(state: &State, of: Subject) -> Presence {
        check_presence(state.tip().unwrap(), &of, &state.prove_presence(&of)).unwrap()
    }

    #[test]
    fn a_member_is_there_one_that_never_was_is_not_and_one_that_left_no_more() {
        let (mut state, mut authors) = network(4);
        let of = |org| Subject::Member(member(org));
        assert!((1..=4).all(|org| matches!(said(&state, of(org)), Presence::There(_))));
        assert_eq!(said(&state, of(5)), Presence::Absent);
        assert!(matches!(said(&state, Subject::Node(node(4))), Presence::There(_)));
        assert_eq!(said(&state, Subject::Accused(Accused::Author(node(4)))), Presence::Absent);
        let before = (state.tip().unwrap().clone(), state.prove_presence(&of(4)));
        let out = v1::Proposal { time_ms: NOW, change: Some(Change::Remove(bytes(public(4)))) };
        authors[0].take(&mut state, Operation::Propose(out.clone()));
        authors[1].take(&mut state, approve(&out));
        authors[2].take(&mut state, approve(&out));
        // What no block covers is not in a header.
        assert!(matches!(said(&state, of(4)), Presence::There(_)));
        finalise(&mut state);
        assert_eq!(said(&state, of(4)), Presence::Absent);
        assert!(matches!(check_presence(&before.0, &of(4), &before.1), Ok(Presence::There(_))), "it was, then");
        assert!(check_presence(state.tip().unwrap(), &of(4), &before.1).is_err(), "of an earlier header");
    }

    #[test]
    fn what_was_shown_of_one_says_nothing_of_another() {
        let (state, _) = network(4);
        let header = state.tip().unwrap();
        let there = state.prove_presence(&Subject::Member(member(2)));
        assert!(check_presence(header, &Subject::Member(member(3)), &there).is_err());
        assert!(check_presence(header, &Subject::Node(NodeId(member(2).0)), &there).is_err());
        let absent = state.prove_presence(&Subject::Member(member(9)));
        let swallowed = MapProof { neighbours: Vec::new(), ..there };
        assert!(check_presence(header, &Subject::Member(member(2)), &swallowed).is_err());
        assert!(check_presence(header, &Subject::Member(member(2)), &absent).is_err());
        let short = v1::Header { state_root: vec![1; 3].into(), ..header.clone() };
        assert!(check_presence(&short, &Subject::Member(member(9)), &absent).is_err());
    }
}
