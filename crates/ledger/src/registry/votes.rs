//! What members decided by vote, as it follows from proposals and approvals in whatever order they arrived.

use std::collections::{BTreeMap, BTreeSet};

use bithealth_proto::v1::{self, proposal::Change};
use bithealth_types::{Digest, Height, MemberId, NodeId};
use bytes::Bytes;

use super::{Admission, Claim, Claims, Covered, Held, Registry, View, array, order, signer, since};
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

    pub(super) fn claims_of(&self) -> impl Iterator<Item = &Claims> {
        self.carried.iter().chain(self.approvals.values())
    }

    /// The nodes that wrote approvals.
    pub(super) fn approved_by(&self) -> impl Iterator<Item = &NodeId> {
        self.approvals.keys()
    }

    /// Who is for it with every entry that carries it, and the key that says so.
    fn issuer(&self) -> Option<(MemberId, [u8; 32])> {
        match self.proposal.as_ref()?.change.as_ref()? {
            Change::Invite(invite) => {
                let issuer = MemberId(array(&invite.issuer));
                Some((issuer, signer(&issuer, &invite.signer)))
            }
            _ => None,
        }
    }

    /// Those who are for it with what stands at this place in the order or before.
    fn approvers(&self, registry: &Registry, covered: &Covered<'_>, at: u64, view: &View) -> BTreeSet<MemberId> {
        let reached = |claims: &Claims| claims.rank(covered).map(|rank| order(&rank).0).filter(|rank| *rank <= at);
        let approved = self.approvals.iter().filter(|(_, claims)| reached(claims).is_some());
        let approved = approved.filter_map(|(author, _)| registry.owner(author, covered, at, view));
        let issued = self.carried.iter().filter_map(reached).filter_map(|rank| {
            let (issuer, key) = self.issuer()?;
            view.held(&issuer, &key, rank).map(|_| issuer)
        });
        approved.chain(issued).filter(|member| view.votes(member)).collect()
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

    /// Which of these proposals pass with the votes of this place in the order, in the order of those that carry them.
    pub(super) fn count(
        &self,
        covered: &Covered<'_>,
        at: u64,
        asked: &BTreeSet<Digest>,
        view: &View,
    ) -> Vec<(Digest, &Change)> {
        let open = asked.iter().filter(|id| !view.passed.contains_key(*id));
        let mut passed: Vec<(Claim, Digest, &Change)> = open
            .filter_map(|id| Some((id, self.votes.get(id)?)))
            .filter(|(_, voted)| voted.approvers(self, covered, at, view).len() >= view.needed())
            .filter_map(|(id, voted)| {
                let rank = voted.carried.as_ref()?.rank(covered).filter(|rank| order(rank).0 <= at)?;
                Some((rank.1, *id, voted.proposal.as_ref()?.change.as_ref()?))
            })
            .collect();
        passed.sort_by_key(|(claim, id, _)| (*claim, *id));
        passed.into_iter().map(|(_, id, change)| (id, change)).collect()
    }

    /// Whose node this is: of the member that first claimed it.
    fn owner(&self, node: &NodeId, covered: &Covered<'_>, at: u64, view: &View) -> Option<MemberId> {
        let claimed = self.certificates.get(node)?.iter();
        let ranked = claimed.filter_map(|item| Some((order(&item.claims.rank(covered)?), item)));
        let counted = ranked.filter(|(rank, _)| rank.0 <= at);
        let counted = counted.filter(|(rank, item)| view.held(&item.node.member, &item.signer, rank.0).is_some());
        let first = counted.min_by_key(|(rank, item)| (*rank, item.node.certificate));
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

/// Whether an admission took effect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    Yes,
    No,
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
        quorum(self.voters)
    }

    /// Whether `member` signed with `key` at this place in the order or before, and if so, the how many-th it is.
    pub(super) fn held(&self, member: &MemberId, key: &[u8; 32], at: u64) -> Option<(usize, &Held)> {
        self.held.get(member)?.iter().enumerate().find(|(_, held)| held.key == *key && at <= held.until)
    }

    /// Whether this key ever stood for anybody.
    pub(crate) fn is_taken(&self, key: &[u8; 32]) -> bool {
        self.keys.contains(key)
    }

    /// An organisation goes on with other keys. What the former one signed counts where blocks up to this one cover it.
    fn rekey(&mut self, keys: &v1::MemberKeys, at: u64) {
        let (member, key) = (MemberId(array(&keys.member)), array(&keys.key));
        if self.is_taken(&key) {
            return;
        }
        let (Some(known), Some(held)) = (self.members.get_mut(&member), self.held.get_mut(&member)) else { return };
        (known.key, known.recipient) = (key, Bytes::copy_from_slice(&keys.recipient));
        known.record = bithealth_proto::digest(keys);
        self.keys.insert(key);
        held.iter_mut().for_each(|held| held.until = held.until.min(at));
        held.push(Held { key, since: since(at), until: u64::MAX });
    }

    /// A change that passed takes effect.
    pub(super) fn change(&mut self, change: &Change, at: u64) {
        let since = since(at);
        match change {
            Change::Invite(invite) => {
                self.invited.insert(bithealth_proto::digest(invite));
            }
            Change::Remove(member) => {
                let member = MemberId(array(member));
                let votes = usize::from(self.votes(&member));
                // Somebody has to be left to decide.
                let goes = self.voters > votes && self.members.contains_key(&member);
                if goes && !self.left.contains_key(&member) {
                    self.left.insert(member, since);
                    self.voters -= votes;
                }
            }
            Change::Labels(labels) => {
                let place = (labels.region.clone(), labels.jurisdiction.clone());
                self.labels.entry(MemberId(array(&labels.member))).or_default().entry(place).or_insert(since);
            }
            Change::Voting(voting) => {
                let member = MemberId(array(&voting.member));
                let others = self.voters - usize::from(self.votes(&member));
                if let Some(known) = self.members.get_mut(&member).filter(|_| voting.votes || others > 0) {
                    known.votes = voting.votes;
                    self.voters = others + usize::from(self.votes(&member));
                }
            }
            Change::Defaults(defaults) => self.defaults = Some(*defaults),
            Change::Keys(keys) => self.rekey(keys, at),
        }
    }

    /// An admission takes effect if its invite passed. One whose invite passed and that does not, never will.
    pub(super) fn admit(&mut self, item: &Admission, since: Option<Height>) -> Admitted {
        if !self.takes(item) {
            return Admitted::No;
        }
        self.members.insert(item.member.id, item.member.clone());
        self.voters += usize::from(item.member.votes);
        self.names.insert(item.member.name.clone());
        self.keys.insert(item.member.key);
        self.held.insert(item.member.id, vec![Held { key: item.member.key, since, until: u64::MAX }]);
        self.labels.entry(item.member.id).or_default().entry(item.place.clone()).or_insert(since);
        Admitted::Yes
    }

    /// Whether the admission waits for its invite only.
    pub(super) fn is_invited(&self, item: &Admission) -> bool {
        item.issuer.is_none() || self.invited.contains(&item.invite)
    }

    fn takes(&self, item: &Admission) -> bool {
        self.is_invited(item)
            && !self.members.contains_key(&item.member.id)
            && !self.is_taken(&item.member.key)
            && !self.names.contains(&item.member.name)
    }
}

#[cfg(test)]
mod tests;
