//! The places in the order, one after the other: what is claimed at each, and what takes effect there.
//!
//! A proposal is counted where somebody votes on it, and once more wherever a vote may have begun or ceased to count: after
//! members changed, and where a node is certified that approved it. An admission is tried where it stands, and where its
//! invite passes. So a view takes about as long as there are claims, and for each change of the members the open proposals
//! once more; counting every open proposal and trying every admission at every place would come to the same.

use std::collections::{BTreeMap, BTreeSet};
use std::mem;

use bithealth_proto::v1::proposal::Change;
use bithealth_types::{Digest, NodeId};

use super::votes::Admitted;
use super::{Admission, Claim, Covered, Recovered, Registry, View, order, since};

/// What is claimed at one place in the order.
#[derive(Default)]
struct Turn<'a> {
    /// Proposals that an entry carries or approves.
    voted: BTreeSet<Digest>,
    admissions: Vec<Reached<'a>>,
    recovered: Option<&'a Recovered>,
}

/// An admission, and where it stands.
type Reached<'a> = ((u64, Claim), &'a Admission);

/// What is left over from the places before.
#[derive(Default)]
struct Waiting<'a> {
    /// Proposals that did not pass.
    open: BTreeSet<Digest>,
    /// Admissions by the invites that did not pass.
    admissions: BTreeMap<Digest, Vec<Reached<'a>>>,
    /// Members changed: whoever is for an open proposal may be so many more, or so many more may be needed.
    has_moved: bool,
}

impl Registry {
    /// Proposals pass and admissions take effect block by block, in this order.
    pub(super) fn view_members(&self, covered: &Covered<'_>, recovered: Option<&Recovered>, view: &mut View) {
        let (mut certified, approved) = (self.certified(covered).into_iter().peekable(), self.approved());
        let mut waiting = Waiting::default();
        for (at, turn) in self.turns(covered, recovered) {
            // Who decides from here on is out of the hands of those who are gone.
            if let Some(recovered) = turn.recovered {
                view.recover(recovered);
                waiting.has_moved = true;
            }
            waiting.open.extend(turn.voted.iter().filter(|id| !view.passed.contains_key(*id)));
            let mut asked = if mem::take(&mut waiting.has_moved) { waiting.open.clone() } else { turn.voted };
            while let Some((_, node)) = certified.next_if(|(rank, _)| *rank <= at) {
                asked.extend(approved.get(&node).into_iter().flatten().filter(|id| waiting.open.contains(*id)));
            }
            let mut reached = turn.admissions;
            for (id, change) in self.count(covered, at, &asked, view) {
                view.passed.insert(id, since(at));
                view.change(change, at);
                waiting.open.remove(&id);
                waiting.has_moved |= matches!(change, Change::Remove(_) | Change::Voting(_) | Change::Keys(_));
                if let Change::Invite(invite) = change {
                    // They came before their invite passed.
                    reached.extend(waiting.admissions.remove(&bithealth_proto::digest(invite)).unwrap_or_default());
                }
            }
            waiting.admit(reached, at, view);
        }
    }

    /// Everything that votes and admissions depend on, by its place in the order.
    fn turns<'a>(&'a self, covered: &Covered<'_>, recovered: Option<&'a Recovered>) -> BTreeMap<u64, Turn<'a>> {
        let mut turns: BTreeMap<u64, Turn<'a>> = BTreeMap::new();
        for (id, voted) in &self.votes {
            for rank in voted.claims_of().filter_map(|claims| claims.rank(covered)) {
                turns.entry(order(&rank).0).or_default().voted.insert(*id);
            }
        }
        for item in &self.admissions {
            if let Some(rank) = item.claims.rank(covered).map(|rank| order(&rank)) {
                turns.entry(rank.0).or_default().admissions.push((rank, item));
            }
        }
        for recovered in self.recoveries.iter().chain(recovered) {
            turns.entry(recovered.height.0).or_default().recovered = Some(recovered);
        }
        turns
    }

    /// The nodes that are certified, in order.
    fn certified(&self, covered: &Covered<'_>) -> Vec<(u64, NodeId)> {
        let all = self.certificates.iter().flat_map(|(node, all)| all.iter().map(move |item| (item, *node)));
        let ranked = all.filter_map(|(item, node)| Some((order(&item.claims.rank(covered)?).0, node)));
        let mut ranked: Vec<(u64, NodeId)> = ranked.collect();
        ranked.sort_unstable();
        ranked
    }

    /// What each node approved.
    fn approved(&self) -> BTreeMap<NodeId, Vec<Digest>> {
        let mut approved: BTreeMap<NodeId, Vec<Digest>> = BTreeMap::new();
        for (id, voted) in &self.votes {
            voted.approved_by().for_each(|node| approved.entry(*node).or_default().push(*id));
        }
        approved
    }
}

impl<'a> Waiting<'a> {
    /// Those take effect whose invite passed; the others wait for it.
    fn admit(&mut self, mut reached: Vec<Reached<'a>>, at: u64, view: &mut View) {
        reached.sort_by_key(|(rank, item)| (*rank, item.member.record));
        for (rank, item) in reached {
            if !view.is_invited(item) {
                self.admissions.entry(item.invite).or_default().push((rank, item));
            } else if view.admit(item, since(at)) == Admitted::Yes {
                self.has_moved = true;
            }
        }
    }
}

#[cfg(test)]
mod tests;
