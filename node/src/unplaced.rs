//! Shards that did not reach their places, told once: a push is tried again every few seconds, and the hundredth line about
//! the same thing only hides the others.

use std::collections::BTreeMap;
use std::sync::Mutex;

use bithealth_proto::v1::StoreRefusal;
use bithealth_types::{NodeId, PackId};

use crate::links::LinkError;

/// Pairs of a pack and a holder that are remembered. Past this the lowest make room, and may be told of again.
const PAIRS_MAX: usize = 4096;

/// Why a holder did not take a shard, as far as that makes a difference to who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Away,
    Strange,
    Refused(StoreRefusal),
}

/// What was told, until it changes.
#[derive(Debug, Default)]
pub struct Unplaced(Mutex<BTreeMap<(PackId, NodeId), Cause>>);

impl Unplaced {
    /// A holder did not take a shard of a pack: what to do about it, unless that was told.
    pub fn failed(&self, pack: PackId, holder: NodeId, error: &LinkError) -> Option<&'static str> {
        let (cause, mut told) = (cause(error), self.0.lock().expect("no holder panics"));
        if told.insert((pack, holder), cause) == Some(cause) {
            return None;
        }
        if told.len() > PAIRS_MAX {
            let lowest = *told.keys().find(|pair| **pair != (pack, holder)).expect("there are more");
            told.remove(&lowest);
        }
        Some(cause.next_step())
    }

    /// It took it, or the pack stands otherwise: what happens next is news.
    pub fn placed(&self, pack: PackId, holder: NodeId) {
        self.0.lock().expect("no holder panics").remove(&(pack, holder));
    }

    /// A pack that stands as it should, or is no more: nothing is told of it any longer.
    pub fn forget(&self, pack: &PackId) {
        self.0.lock().expect("no holder panics").retain(|(of, _), _| of != pack);
    }
}

fn cause(error: &LinkError) -> Cause {
    match error {
        LinkError::Open { .. } | LinkError::Lost { .. } => Cause::Away,
        LinkError::Unexpected { .. } => Cause::Strange,
        LinkError::Refused { why, .. } => Cause::Refused(*why),
    }
}

impl Cause {
    fn next_step(self) -> &'static str {
        match self {
            Self::Away => {
                "another node takes it meanwhile; if `bithealth peers` does not show that node again soon, ask its \
                 organisation to look after it"
            }
            Self::Strange => "compare `bithealth --version` with its organisation's; another node takes it meanwhile",
            Self::Refused(StoreRefusal::Full) => {
                "another node takes it meanwhile; ask its organisation for more room (its capacity, or quota_percent in its \
                 config.toml), or invite another node"
            }
            Self::Refused(StoreRefusal::NotMember) => {
                "its ledger does not list this node as a member's: it may be behind, or this node retired; `bithealth \
                 status` there and here says which"
            }
            Self::Refused(StoreRefusal::Busy) => "nothing is to be done: it is tried again by itself",
            Self::Refused(StoreRefusal::FalseRoot | StoreRefusal::Unspecified) => {
                "what was sent is not what the pack commits to: run `bithealth verify --full` here, and compare `bithealth \
                 --version` with its organisation's"
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACK: PackId = PackId([1; 32]);
    const HOLDER: NodeId = NodeId([2; 32]);

    fn refused(why: StoreRefusal, detail: &str) -> LinkError {
        LinkError::Refused { node: HOLDER, why, detail: detail.into() }
    }

    #[test]
    fn the_same_cause_is_told_once_for_each_pack_and_holder_until_it_changes() {
        let (unplaced, full) = (Unplaced::default(), || refused(StoreRefusal::Full, "7 bytes are taken"));
        assert!(unplaced.failed(PACK, HOLDER, &full()).is_some_and(|next| next.contains("more room")));
        assert_eq!(unplaced.failed(PACK, HOLDER, &full()), None);
        let other_words = refused(StoreRefusal::Full, "8 bytes are taken");
        assert_eq!(unplaced.failed(PACK, HOLDER, &other_words), None, "the same cause in other figures");
        assert!(unplaced.failed(PackId([3; 32]), HOLDER, &full()).is_some(), "of another pack");
        assert!(unplaced.failed(PACK, NodeId([4; 32]), &full()).is_some(), "at another holder");
        assert!(unplaced.failed(PACK, HOLDER, &LinkError::Lost { node: HOLDER }).is_some(), "for another cause");
        assert!(unplaced.failed(PACK, HOLDER, &full()).is_some(), "and back");
        unplaced.placed(PACK, HOLDER);
        assert!(unplaced.failed(PACK, HOLDER, &full()).is_some(), "it had taken one meanwhile");
    }

    #[test]
    fn a_pack_that_stands_is_forgotten_and_no_other() {
        let (unplaced, lost) = (Unplaced::default(), LinkError::Lost { node: HOLDER });
        let (before, after) = (PackId([0; 32]), PackId([2; 32]));
        let ends = [NodeId([0; 32]), HOLDER, NodeId([0xff; 32])];
        for pack in [before, PACK, after] {
            ends.iter().for_each(|holder| assert!(unplaced.failed(pack, *holder, &lost).is_some()));
        }
        unplaced.forget(&PACK);
        for (pack, is_told) in [(before, true), (PACK, false), (after, true)] {
            ends.iter().for_each(|holder| assert_eq!(unplaced.failed(pack, *holder, &lost).is_none(), is_told));
        }
    }

    #[test]
    fn pairs_are_remembered_up_to_a_bound() {
        let (unplaced, lost) = (Unplaced::default(), LinkError::Lost { node: HOLDER });
        let pack = |number: usize| PackId([&[0_u8; 24][..], &number.to_be_bytes()[..]].concat().try_into().unwrap());
        (0..=PAIRS_MAX).for_each(|number| assert!(unplaced.failed(pack(number), HOLDER, &lost).is_some()));
        assert_eq!(unplaced.0.lock().unwrap().len(), PAIRS_MAX);
        assert_eq!(unplaced.failed(pack(PAIRS_MAX), HOLDER, &lost), None, "the one told last is remembered");
        assert!(unplaced.failed(pack(0), HOLDER, &lost).is_some(), "the lowest made room");
    }
}
