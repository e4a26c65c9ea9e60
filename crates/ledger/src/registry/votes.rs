//! What members decided by vote, as it follows from proposals and approvals in whatever order they arrived.

use std::collections::{BTreeMap, BTreeSet};

use bithealth_proto::v1::{self, proposal::Change};
use bithealth_types::{Digest, Height, MemberId, NodeId};

use super::{Admission, Claim, Claims, Covered, Registry, View, array, order};
use crate::validators::quorum;

/// A proposal, and who is for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Voted {
    /// Absent while only approvals have arrived.
    proposal: Option<v1::Proposal>,
    /// The entries that carry it: with them its issuer is for it, who signed it.
    carried: Option<Claims>,
    /// By the nodes that wrote them.
    approvals: BTreeMap<NodeId, Claims>,
}

/// A proposal on the ledger.
#[derive(Clone, Debug, PartialEq)]
pub struct Proposal {
    /// What names it.
    pub id: Digest,
    /// What is to change.
    pub change: Change,
    /// The voting members that are for it.
    pub approved_by: Vec<MemberId>,
    /// How many must be.
    pub needed: usize,
    /// Whether it passed.
    pub passed: bool,
    /// The block with which it did.
    pub since: Option<Height>,
}

impl Voted {
    pub(super) fn claims(&mut self) -> impl Iterator<Item = &mut Claims> {
        self.carried.iter_mut().chain(self.approvals.values_mut())
    }

    fn claims_of(&self) -> impl Iterator<Item = &Claims> {
        self.carried.iter().chain(self.approvals.values())
    }

    fn issuer(&self) -> Option<MemberId> {
        match self.proposal.as_ref()?.change.as_ref()? {
            Change::Invite(invite) => Some(MemberId(array(&invite.issuer))),
            _ => None,
        }
    }

    /// Those who are for it with what stands at this place in the order or before.
    fn approvers(&self, registry: &Registry, covered: &Covered<'_>, at: u64, view: &View) -> BTreeSet<MemberId> {
        let reached = |claims: &Claims| claims.rank(covered).is_some_and(|rank| order(&rank).0 <= at);
        let approved = self.approvals.iter().filter(|(_, claims)| reached(claims));
        let approved = approved.filter_map(|(author, _)| registry.owner(author, covered, at, view));
        let issuer = self.carried.iter().filter(|claims| reached(claims)).filter_map(|_| self.issuer());
        approved.chain(issuer).filter(|member| view.votes(member)).collect()
    }
}

impl Registry {
    /// An entry carries this proposal; `by` names the node whose organisation is for it with that.
    pub(crate) fn propose(&mut self, proposal: &v1::Proposal, claim: Claim, by: Option<NodeId>) {
        let id = bithealth_proto::digest(proposal);
        let known = self.votes.entry(id).or_default();
        known.proposal.get_or_insert_with(|| proposal.clone());
        known.carried.get_or_insert_with(|| Claims::new(claim)).add(claim);
        if by.is_some() {
            self.approve(id, claim);
        }
    }

    pub(crate) fn approve(&mut self, id: Digest, claim: Claim) {
        self.votes.entry(id).or_default().approvals.entry(claim.author).or_insert_with(|| Claims::new(claim));
    }

    /// The order of everything that votes and admissions depend on.
    pub(super) fn heights(&self, covered: &Covered<'_>) -> BTreeSet<u64> {
        let votes = self.votes.values().flat_map(Voted::claims_of);
        let claims = votes.chain(self.admissions.iter().map(|item| &item.claims));
        claims.filter_map(|claims| claims.rank(covered)).map(|rank| order(&rank).0).collect()
    }

    /// What passes with the votes of this place in the order takes effect.
    pub(super) fn count(&self, covered: &Covered<'_>, at: u64, view: &mut View) {
        let needed = view.needed();
        let open = self.votes.iter().filter(|(id, _)| !view.passed.contains_key(*id));
        let passes = |voted: &Voted| voted.approvers(self, covered, at, view).len() >= needed;
        let mut passed: Vec<(Claim, Digest, &Change)> = open
            .filter(|(_, voted)| passes(voted))
            .filter_map(|(id, voted)| {
                let rank = voted.carried.as_ref()?.rank(covered).filter(|rank| order(rank).0 <= at)?;
                Some((rank.1, *id, voted.proposal.as_ref()?.change.as_ref()?))
            })
            .collect();
        passed.sort_by_key(|(claim, id, _)| (*claim, *id));
        let since = (at != u64::MAX).then_some(Height(at));
        for (_, id, change) in passed {
            view.passed.insert(id, since);
            view.change(change, since);
        }
    }

    /// Whose node this is: of the member that first claimed it.
    fn owner(&self, node: &NodeId, covered: &Covered<'_>, at: u64, view: &View) -> Option<MemberId> {
        let claimed = self.certificates.get(node)?.iter().filter(|item| view.members.contains_key(&item.node.member));
        let ranked = claimed.filter_map(|item| Some((order(&item.claims.rank(covered)?), item)));
        let first = ranked.filter(|(rank, _)| rank.0 <= at).min_by_key(|(rank, item)| (*rank, item.node.certificate));
        first.map(|(_, item)| item.node.member)
    }

    /// All proposals, the open ones first.
    pub(crate) fn proposals(&self, view: &View) -> Vec<Proposal> {
        let told = |(id, voted): (&Digest, &Voted)| {
            Some(Proposal {
                id: *id,
                change: voted.proposal.as_ref()?.change.clone()?,
                approved_by: voted.approvers(self, &Covered::OrNot, u64::MAX, view).into_iter().collect(),
                needed: view.needed(),
                passed: view.passed.contains_key(id),
                since: view.passed.get(id).copied().flatten(),
            })
        };
        let mut all: Vec<Proposal> = self.votes.iter().filter_map(told).collect();
        all.sort_by_key(|proposal| (proposal.passed, proposal.since, proposal.id));
        all
    }
}

impl View {
    /// Members that are members now.
    pub(crate) fn present(&self) -> impl Iterator<Item = &super::Member> {
        self.members.values().filter(|member| !self.left.contains_key(&member.id))
    }

    pub(crate) fn may_stand(&self, member: &MemberId, region: &str, jurisdiction: &str) -> bool {
        let place = (region.to_owned(), jurisdiction.to_owned());
        self.labels.get(member).is_some_and(|places| places.contains_key(&place))
    }

    pub(crate) fn votes(&self, member: &MemberId) -> bool {
        self.members.get(member).is_some_and(|known| known.votes) && !self.left.contains_key(member)
    }

    /// Approvals that a proposal needs.
    pub(crate) fn needed(&self) -> usize {
        quorum(self.present().filter(|member| member.votes).count())
    }

    fn change(&mut self, change: &Change, since: Option<Height>) {
        match change {
            Change::Invite(invite) => {
                self.invited.insert(bithealth_proto::digest(invite));
            }
            Change::Remove(member) => {
                let member = MemberId(array(member));
                let others = self.present().filter(|it| it.votes && it.id != member).count();
                // Somebody has to be left to decide.
                if others > 0 && self.members.contains_key(&member) {
                    self.left.entry(member).or_insert(since);
                }
            }
            Change::Labels(labels) => {
                let place = (labels.region.clone(), labels.jurisdiction.clone());
                self.labels.entry(MemberId(array(&labels.member))).or_default().entry(place).or_insert(since);
            }
            Change::Voting(voting) => {
                let member = MemberId(array(&voting.member));
                let others = self.present().filter(|it| it.votes && it.id != member).count();
                if let Some(known) = self.members.get_mut(&member).filter(|_| voting.votes || others > 0) {
                    known.votes = voting.votes;
                }
            }
            Change::Defaults(defaults) => self.defaults = Some(*defaults),
        }
    }

    /// An admission takes effect if its invite passed.
    pub(super) fn admit(&mut self, item: &Admission, since: Option<Height>) {
        if self.takes(item) {
            self.members.insert(item.member.id, item.member.clone());
            self.labels.entry(item.member.id).or_default().entry(item.place.clone()).or_insert(since);
        }
    }

    fn takes(&self, item: &Admission) -> bool {
        item.issuer.is_none_or(|_| self.invited.contains(&item.invite))
            && !self.members.contains_key(&item.member.id)
            && self.members.values().all(|member| member.name != item.member.name)
    }
}

#[cfg(test)]
mod tests;
