//! What each operation needs to be valid, and what it does.

use std::collections::BTreeMap;

use bithealth_proto::digest;
use bithealth_proto::v1::{self, entry::Operation, proposal::Change};
use bithealth_types::{Digest, GenesisId, MemberId, NodeId, PackId, ShardIndex};

use super::State;
use crate::entry::{Applied, EntryError};
use crate::evidence::check_evidence;
use crate::member::{
    JURISDICTION_LEN_MAX, REGION_LEN_MAX, signer_of, text, verify_admission, verify_invite, verify_keys, verify_node,
    verify_retirement,
};
use crate::pack::{Pack, check_commit};
use crate::registry::Claim;

/// What an index of a shard can count.
const SHARDS_MAX: u32 = 1 << 16;

impl State {
    pub(super) fn check_operation(&self, author: &NodeId, entry: &v1::Entry) -> Result<(), EntryError> {
        match entry.operation.as_ref().ok_or(EntryError::NoOperation)? {
            Operation::Admit(admission) => {
                verify_admission(admission, &self.id, entry.time_ms).map(|_| ()).map_err(EntryError::from)
            }
            Operation::AddNode(certificate) => verify_node(certificate).map(|_| ()).map_err(EntryError::from),
            Operation::RetireNode(retirement) => verify_retirement(retirement).map(|_| ()).map_err(EntryError::from),
            Operation::CommitPack(commit) => {
                let (pack, _) = check_commit(commit)?;
                if self.packs.of(&pack, author).is_some() {
                    return Err(EntryError::PackCommitted { pack });
                }
                Ok(())
            }
            Operation::PlaceShard(place) => check_place(place),
            Operation::RetirePack(retire) => self.check_retire(author, retire),
            Operation::Notarise(notarise) => id("the commitment", &notarise.commitment).map(drop),
            Operation::Propose(proposal) => check_proposal(proposal, &self.id),
            Operation::Approve(approval) => id("the proposal", &approval.proposal).map(drop),
            Operation::Accuse(evidence) => check_evidence(&self.id, evidence).map(|_| ()).map_err(EntryError::from),
            Operation::Condemn(condemnation) => check_condemnation(condemnation),
            Operation::Absolve(absolution) => id("the holder", &absolution.node).map(drop),
        }
    }

    pub(super) fn check_own_place(&self, author: &NodeId, place: &v1::PlaceShard) -> Result<(), EntryError> {
        let (pack, node) = (pack_id("the pack", &place.pack)?, NodeId(id("the node", &place.node)?));
        let commit = self.packs.of(&pack, author).or_else(|| self.packs.get(&pack));
        let commit = commit.ok_or(EntryError::PackUnknown { pack })?;
        if commit.author != *author && node != *author {
            return Err(EntryError::NotPlacer { author: *author, pack });
        }
        let n = commit.commit.pack.as_ref().map_or(0, |descriptor| descriptor.n);
        if place.shard >= n {
            return Err(EntryError::NoSuchShard { shard: place.shard, n });
        }
        self.node(&node).map(drop).ok_or(EntryError::NodeUnknown { node })
    }

    /// Only the author's own log decides, so it never depends on what else has arrived.
    fn check_retire(&self, author: &NodeId, retire: &v1::RetirePack) -> Result<(), EntryError> {
        let pack = pack_id("the pack", &retire.pack)?;
        let into = pack_id("the pack that replaces it", &retire.replaced_by)?;
        let own = |pack| self.packs.of(&pack, author).ok_or(EntryError::NotItsPack { author: *author, pack });
        own(into)?;
        if own(pack)?.retired_into.is_some() || pack == into {
            return Err(EntryError::RetiredBefore { pack, into });
        }
        Ok(())
    }

    pub(super) fn check_own_admission(&self, admission: &v1::Admission) -> Result<(), EntryError> {
        let (Some(record), Some(invite)) = (&admission.member, &admission.invite) else { return Ok(()) };
        let member = MemberId(id("the organisation", &record.member)?);
        if self.member(&member).is_some() {
            return Err(EntryError::AlreadyMember { member });
        }
        if let Some(other) = self.member_named(&record.name) {
            return Err(EntryError::NameTaken { name: record.name.clone(), by: other.id });
        }
        let proposal = v1::Proposal { time_ms: 0, change: Some(Change::Invite(invite.clone())) };
        let (got, want) = match self.proposal(&digest(&proposal)) {
            Some(known) if known.passed => return Ok(()),
            Some(known) => (known.approved_by.len(), known.needed),
            // It comes with the admission: its issuer, who signed it, is for it.
            None => (usize::from(self.view.votes(&MemberId(id("the issuer", &invite.issuer)?))), self.view.needed()),
        };
        if got < want { Err(EntryError::NotApproved { got, want }) } else { Ok(()) }
    }

    pub(super) fn check_own_proposal(&self, proposal: &v1::Proposal) -> Result<(), EntryError> {
        if self.proposal(&digest(proposal)).is_some() {
            return Err(EntryError::ProposedBefore);
        }
        match proposal.change.as_ref() {
            Some(Change::Remove(member)) => self.effective(MemberId(id("the member", member)?)),
            Some(Change::Labels(labels)) => self.effective(MemberId(id("the member", &labels.member)?)),
            Some(Change::Voting(voting)) => self.effective(MemberId(id("the member", &voting.member)?)),
            Some(Change::Invite(invite)) => match self.member_named(&invite.name) {
                Some(other) => Err(EntryError::NameTaken { name: invite.name.clone(), by: other.id }),
                None => self.check_signer(&invite.issuer, &invite.signer),
            },
            Some(Change::Keys(keys)) => {
                let (member, key) = verify_keys(keys)?;
                if self.view.is_taken(&key) {
                    return Err(EntryError::KeyTaken { member });
                }
                self.effective(member)
            }
            _ => Ok(()),
        }
    }

    pub(super) fn check_own_approval(&self, author: &NodeId, approval: &v1::Approval) -> Result<(), EntryError> {
        let proposal = Digest(id("the proposal", &approval.proposal)?);
        let known = self.proposal(&proposal).ok_or(EntryError::ProposalUnknown { proposal })?;
        let member = self.node(author).map(|node| node.member);
        if known.passed || member.is_some_and(|member| known.approved_by.contains(&member)) {
            return Err(EntryError::ApprovedBefore { proposal });
        }
        Ok(())
    }

    pub(super) fn check_own_certificate(&self, certificate: &v1::NodeCertificate) -> Result<(), EntryError> {
        let (node, member) = (NodeId(id("the node", &certificate.node)?), id("the organisation", &certificate.member)?);
        match self.node(&node) {
            Some(known) if known.member.0 != member => Err(EntryError::NodeTaken { node, by: known.member }),
            Some(known) if known.retired => Err(EntryError::NodeRetired { node }),
            _ => self.check_signer(&member, &certificate.signer),
        }
    }

    /// Whether this is the key of a member that signs for it now.
    fn check_signer(&self, member: &[u8], signer: &[u8]) -> Result<(), EntryError> {
        let member = MemberId(id("the organisation", member)?);
        let known = self.member(&member).ok_or(EntryError::MemberUnknown { member })?;
        if known.key == signer_of(&member, signer)? { Ok(()) } else { Err(EntryError::NotItsKey { member }) }
    }

    fn effective(&self, member: MemberId) -> Result<(), EntryError> {
        self.member(&member).map(drop).ok_or(EntryError::MemberUnknown { member })
    }

    pub(super) fn check_own_retirement(&self, retirement: &v1::RetireNode) -> Result<(), EntryError> {
        let node = NodeId(id("the node", &retirement.node)?);
        let known = self.node(&node).ok_or(EntryError::NodeUnknown { node })?;
        if known.retired {
            return Err(EntryError::NodeRetired { node });
        }
        if retirement.member != known.member.0.as_slice() {
            return Err(EntryError::NodeTaken { node, by: known.member });
        }
        self.check_signer(&retirement.member, &retirement.signer)
    }

    pub(super) fn check_own_evidence(&self, evidence: &v1::Evidence) -> Result<(), EntryError> {
        let accused = check_evidence(&self.id, evidence)?;
        if self.is_accused(&accused) { Err(EntryError::AccusedBefore) } else { Ok(()) }
    }

    pub(super) fn check_own_judgement(&self, holder: &[u8]) -> Result<(), EntryError> {
        let node = NodeId(id("the holder", holder)?);
        self.node(&node).map(drop).ok_or(EntryError::NodeUnknown { node })
    }

    pub(super) fn apply_operation(&mut self, claim: Claim, entry: v1::Entry) -> Applied {
        let Claim { author, sequence } = claim;
        match entry.operation.expect("check saw it") {
            Operation::Admit(admission) => {
                let record = admission.member.unwrap_or_default();
                let invite = admission.invite.unwrap_or_default();
                let member = MemberId(checked(&record.member));
                self.registry.admit(&record, &invite, claim);
                Applied::Admitted(member)
            }
            Operation::AddNode(certificate) => {
                self.registry.certify(&certificate, claim);
                Applied::NodeAdded(NodeId(checked(&certificate.node)))
            }
            Operation::RetireNode(retirement) => {
                let node = NodeId(checked(&retirement.node));
                self.registry.retire(&retirement, claim);
                Applied::NodeRetired(node)
            }
            Operation::CommitPack(commit) => {
                let (id, salt) = check_commit(&commit).expect("check saw it");
                self.logs.entry(author).or_default().committed(sequence.0, id);
                let (places, retired_into, height) = (BTreeMap::new(), None, None);
                let time_ms = entry.time_ms;
                self.packs.commit(Pack { id, author, sequence, time_ms, commit, places, retired_into, height }, salt);
                Applied::PackCommitted(id)
            }
            Operation::PlaceShard(place) => {
                let (pack, node) = (PackId(checked(&place.pack)), NodeId(checked(&place.node)));
                let shard = ShardIndex(place.shard as u16);
                self.packs.place(&pack, shard, node, author, (entry.time_ms, sequence));
                Applied::ShardPlaced { pack, shard, node }
            }
            Operation::RetirePack(retire) => {
                let (pack, into) = (PackId(checked(&retire.pack)), PackId(checked(&retire.replaced_by)));
                self.packs.retire(&pack, &author, into);
                Applied::PackRetired { pack, replaced_by: into }
            }
            Operation::Notarise(_) => Applied::Notarised,
            Operation::Propose(proposal) => {
                self.registry.propose(&proposal, claim, Some(author));
                Applied::Voted(digest(&proposal))
            }
            Operation::Approve(approval) => {
                let proposal = Digest(checked(&approval.proposal));
                self.registry.approve(proposal, claim);
                Applied::Voted(proposal)
            }
            Operation::Accuse(evidence) => {
                let accused = check_evidence(&self.id, &evidence).expect("check saw it");
                self.registry.accuse(accused, evidence, claim);
                Applied::Accused(accused)
            }
            Operation::Condemn(condemnation) => {
                let holder = NodeId(checked(&condemnation.node));
                self.judgements.condemn(author, entry.time_ms, &condemnation);
                Applied::Judged { holder }
            }
            Operation::Absolve(absolution) => {
                let holder = NodeId(checked(&absolution.node));
                self.judgements.absolve(&author, &holder);
                Applied::Judged { holder }
            }
        }
    }
}

/// Whether it concerns somebody who is a member shows when it passes.
fn check_proposal(proposal: &v1::Proposal, genesis: &GenesisId) -> Result<(), EntryError> {
    match proposal.change.as_ref().ok_or(EntryError::NoOperation)? {
        Change::Invite(invite) => Ok(verify_invite(invite, genesis).map(|_| ())?),
        Change::Remove(member) => id("the member", member).map(drop),
        Change::Voting(voting) => id("the member", &voting.member).map(drop),
        Change::Labels(labels) => {
            text("the region", &labels.region, REGION_LEN_MAX)?;
            text("the jurisdiction", &labels.jurisdiction, JURISDICTION_LEN_MAX)?;
            id("the member", &labels.member).map(drop)
        }
        Change::Defaults(_) => Ok(()),
        Change::Keys(keys) => Ok(verify_keys(keys).map(|_| ())?),
    }
}

/// Whether there is such a pack, with such a shard and such a place, shows when it has arrived: until then, and if not, it
/// has no effect.
fn check_place(place: &v1::PlaceShard) -> Result<(), EntryError> {
    pack_id("the pack", &place.pack)?;
    id("the node", &place.node)?;
    if place.shard >= SHARDS_MAX {
        return Err(EntryError::NoSuchShard { shard: place.shard, n: SHARDS_MAX });
    }
    Ok(())
}

/// Whether there is such a node is not looked at: that may arrive later.
fn check_condemnation(condemnation: &v1::Condemnation) -> Result<(), EntryError> {
    id("the holder", &condemnation.node)?;
    id("the nonce of the audit", &condemnation.nonce)?;
    if !condemnation.pack.is_empty() {
        pack_id("the pack", &condemnation.pack)?;
    }
    if condemnation.shard >= SHARDS_MAX {
        return Err(EntryError::NoSuchShard { shard: condemnation.shard, n: SHARDS_MAX });
    }
    match condemnation.fault() {
        v1::AuditFault::Unspecified => Err(EntryError::NoFault { got: condemnation.fault }),
        _ => Ok(()),
    }
}

fn id(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], EntryError> {
    bytes.try_into().map_err(|_| EntryError::IdLength { what, got: bytes.len() })
}

fn pack_id(what: &'static str, bytes: &[u8]) -> Result<PackId, EntryError> {
    id(what, bytes).map(PackId)
}

fn checked(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("check saw its length")
}
