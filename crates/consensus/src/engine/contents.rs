//! What the digests voted on stand for: kept for as long as it may still be decided, within bounds.

use std::collections::BTreeMap;

use bithealth_proto::v1;

use super::Fit;
use crate::context::Header;

/// Contents that one round brings: its proposer offers one, and a second one is proof that it lies.
pub(super) const ROUND_CONTENTS_MAX: usize = 2;
/// Contents kept of a height, each up to half a mebibyte: of rounds that came to nothing the latest stay.
pub(super) const CONTENTS_MAX: usize = 32;

/// Something proposed.
pub(super) struct Content {
    pub(super) proposed: v1::Proposed,
    /// What the shell says of it; `None` while it is asked.
    pub(super) fit: Option<Fit>,
    /// The latest round it was proposed in.
    round: u32,
}

/// All contents of a height.
#[derive(Default)]
pub(super) struct Contents {
    kept: BTreeMap<Header, Content>,
}

impl Contents {
    pub(super) fn get(&self, value: &Header) -> Option<&Content> {
        self.kept.get(value)
    }

    pub(super) fn get_mut(&mut self, value: &Header) -> Option<&mut Content> {
        self.kept.get_mut(value)
    }

    /// Those of which the shell said this.
    pub(super) fn of(&self, fit: Fit) -> impl Iterator<Item = Header> {
        self.kept.iter().filter(move |(_, content)| content.fit == Some(fit)).map(|(value, _)| *value)
    }

    pub(super) fn clear(&mut self) {
        self.kept.clear();
    }

    /// Keeps what was proposed in a round. Where there is no room, something of an earlier round goes: what may not be
    /// decided first, and nothing that `is_needed`, since a quorum voted for it.
    ///
    /// False if the round brought as many others as it may.
    pub(super) fn keep(
        &mut self,
        value: Header,
        round: u32,
        proposed: v1::Proposed,
        fit: Option<Fit>,
        is_needed: impl Fn(&Header) -> bool,
    ) -> bool {
        if let Some(content) = self.kept.get_mut(&value) {
            (content.round, content.fit) = (content.round.max(round), fit);
            return true;
        }
        let of_round = self.kept.values().filter(|content| content.round == round).count();
        if of_round >= ROUND_CONTENTS_MAX && !is_needed(&value) {
            return false;
        }
        self.kept.insert(value, Content { proposed, fit, round });
        while self.kept.len() > CONTENTS_MAX {
            let may_go = self.kept.iter().filter(|(other, _)| **other != value && !is_needed(other));
            let first = may_go.min_by_key(|(_, content)| (content.fit == Some(Fit::Valid), content.round));
            let Some((first, _)) = first else { break };
            let first = *first;
            self.kept.remove(&first);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bithealth_types::Digest;

    use super::*;

    fn value(at: u32) -> Header {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&at.to_be_bytes());
        Header(Digest(bytes))
    }

    fn keep(contents: &mut Contents, at: u32, round: u32, fit: Fit) -> bool {
        contents.keep(value(at), round, v1::Proposed::default(), Some(fit), |other| *other == value(0))
    }

    #[test]
    fn a_round_brings_two_contents_and_no_third() {
        let mut contents = Contents::default();
        assert!(keep(&mut contents, 1, 7, Fit::Valid));
        assert!(keep(&mut contents, 2, 7, Fit::Valid));
        assert!(!keep(&mut contents, 3, 7, Fit::Valid));
        assert!(contents.get(&value(3)).is_none());
        assert!(keep(&mut contents, 2, 7, Fit::Valid), "what is here already");
        assert!(keep(&mut contents, 0, 7, Fit::Valid), "what a quorum voted for");
        assert!(keep(&mut contents, 3, 8, Fit::Valid), "another round");
    }

    #[test]
    fn past_the_bound_the_earliest_goes_what_is_no_good_first_and_what_a_quorum_voted_for_never() {
        let mut contents = Contents::default();
        for at in 0..CONTENTS_MAX as u32 {
            let fit = if at % 2 == 0 { Fit::Valid } else { Fit::Invalid };
            assert!(keep(&mut contents, at, at, fit));
        }
        assert_eq!(contents.kept.len(), CONTENTS_MAX, "as many as may");
        let mut gone = Vec::new();
        for at in CONTENTS_MAX as u32..2 * CONTENTS_MAX as u32 {
            assert!(keep(&mut contents, at, at, Fit::Valid));
            assert_eq!(contents.kept.len(), CONTENTS_MAX);
            gone.extend(
                (0..at).filter(|at| contents.get(&value(*at)).is_none() && !gone.contains(at)).collect::<Vec<_>>(),
            );
        }
        let odd = (0..CONTENTS_MAX as u32).filter(|at| at % 2 == 1);
        let even = (2..CONTENTS_MAX as u32).filter(|at| at % 2 == 0);
        let due: Vec<u32> = odd.chain(even).chain([CONTENTS_MAX as u32]).collect();
        assert_eq!(gone, due);
        assert!(contents.get(&value(0)).is_some());
    }
}
