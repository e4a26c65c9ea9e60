//! Proposals and approvals of our organisation, and what it decides alone, as the local API has them.

use std::sync::Arc;

use bithealth_http::api::{Change, EntryAt, InviteInfo, InviteOptions, ProposalInfo, SurviveWanted};
use bithealth_http::{ErrorBody, ErrorCode};
use bithealth_ledger::{Proposal, State, retire_node, signer};
use bithealth_proto::v1::{self, entry::Operation, proposal};
use bithealth_types::{Digest, MemberId, NodeId};
use bytes::Bytes;

use crate::chain::ChainError;
use crate::node::{Node, now_ms};
use crate::{rotation, setup};

/// Makes an invite and puts it to the vote. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::AgainstRules`] if there is an organisation of that name, or a part of it is out of bounds.
pub fn invite(node: &Arc<Node>, options: &InviteOptions) -> Result<InviteInfo, ErrorBody> {
    let expires_ms = now_ms().saturating_add(options.ttl_s.saturating_mul(1000));
    let (invite, text) = setup::invite(node, options, expires_ms);
    let proposal = put_to_the_vote(node, 0, proposal::Change::Invite(invite))?;
    Ok(InviteInfo { text, expires_ms, proposal })
}

/// Puts a change to the vote. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::UnknownOrganisation`], and as of [`invite`].
pub fn propose(node: &Arc<Node>, change: &Change) -> Result<ProposalInfo, ErrorBody> {
    let change = match change {
        Change::Keys { .. } => proposal::Change::Keys(newest_keys(node)?),
        change => message(&node.chain.state(), change)?,
    };
    put_to_the_vote(node, now_ms(), change)
}

/// Once they count, only a kit that holds them restores: it must be there before.
fn newest_keys(node: &Node) -> Result<v1::MemberKeys, ErrorBody> {
    let refused = |why: &str| ErrorBody::new(ErrorCode::AgainstRules, why);
    let none = "the ledger has the newest keys of this organisation; to make others: `bithealth stop`, then \
                `bithealth admin rotate-key --organisation`";
    let unprinted = "only a kit with the new keys will restore this organisation once they count, and it was not \
                     printed yet; print it first: `bithealth kit`";
    let keys = rotation::newest_keys(&node.keys).ok_or_else(|| refused(none))?;
    if rotation::has_kit(node) { Ok(keys) } else { Err(refused(unprinted)) }
}

fn put_to_the_vote(node: &Arc<Node>, time_ms: u64, change: proposal::Change) -> Result<ProposalInfo, ErrorBody> {
    let proposal = v1::Proposal { time_ms, change: Some(change) };
    let id = bithealth_proto::digest(&proposal);
    node.append(Operation::Propose(proposal)).map_err(refused)?;
    told(node, &id)
}

/// Approves a proposal for our organisation. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::UnknownProposal`]; [`ErrorCode::AgainstRules`] if it passed, or we approved it before.
pub fn approve(node: &Arc<Node>, id: &Digest) -> Result<ProposalInfo, ErrorBody> {
    told(node, id)?;
    let approval = v1::Approval { proposal: Bytes::copy_from_slice(id.as_bytes()) };
    node.append(Operation::Approve(approval)).map_err(refused)?;
    told(node, id)
}

/// Takes another node of our organisation out for good. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::AgainstRules`] if it is no node of ours, or this one, or taken out before.
pub fn retire(node: &Arc<Node>, id: &NodeId) -> Result<EntryAt, ErrorBody> {
    if *id == node.id() {
        let why = "a node that retires itself could not say so to the end: ask another node of this organisation, or let \
                   the members vote it out (`bithealth admin propose remove`)";
        return Err(ErrorBody::new(ErrorCode::AgainstRules, why));
    }
    let (member, keys) = (node.member(), &node.keys.organisation);
    let unsigned = v1::RetireNode {
        node: Bytes::copy_from_slice(id.as_bytes()),
        member: Bytes::copy_from_slice(member.as_bytes()),
        time_ms: now_ms(),
        signature: Bytes::new(),
        signer: signer(&member, &keys.key()),
    };
    append(node, Operation::RetireNode(retire_node(unsigned, |message| keys.sign(message))))
}

/// Appends to our own log, durably; where the entry stands. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::AgainstRules`], or [`ErrorCode::DiskFull`].
pub fn append(node: &Arc<Node>, operation: Operation) -> Result<EntryAt, ErrorBody> {
    let sequence = node.append(operation).map_err(refused)?;
    Ok(EntryAt { author: node.id(), sequence })
}

/// What was proposed, the open ones first.
pub fn proposals(node: &Node) -> Vec<ProposalInfo> {
    let state = node.chain.state();
    state.proposals().iter().map(|proposal| info(&state, proposal)).collect()
}

/// Open proposals that our organisation has not approved.
pub fn waiting(node: &Node) -> u64 {
    let (state, ours) = (node.chain.state(), node.member());
    let waits = |proposal: &Proposal| !proposal.passed && !proposal.approved_by.contains(&ours);
    state.proposals().iter().filter(|proposal| waits(proposal)).count() as u64
}

/// What the ledger said to an entry of ours.
fn refused(error: ChainError) -> ErrorBody {
    match error {
        ChainError::Refused(error) => ErrorBody::new(ErrorCode::AgainstRules, error),
        error => ErrorBody::new(ErrorCode::DiskFull, error),
    }
}

fn told(node: &Node, id: &Digest) -> Result<ProposalInfo, ErrorBody> {
    let state = node.chain.state();
    let known = state.proposal(id).map(|proposal| info(&state, &proposal));
    known.ok_or_else(|| ErrorBody::new(ErrorCode::UnknownProposal, format_args!("nobody proposed {id}")))
}

fn message(state: &State, change: &Change) -> Result<proposal::Change, ErrorBody> {
    let id = |name: &str| member(state, name).map(|id| Bytes::copy_from_slice(id.as_bytes()));
    Ok(match change {
        Change::Invite { .. } => {
            return Err(ErrorBody::new(ErrorCode::BadRequest, "an invite is made by `bithealth invite`"));
        }
        Change::Keys { .. } => {
            return Err(ErrorBody::new(ErrorCode::BadRequest, "keys are proposed by their own organisation"));
        }
        Change::Remove { member } => proposal::Change::Remove(id(member)?),
        Change::Labels { member, region, jurisdiction } => {
            let (region, jurisdiction) = (region.clone(), jurisdiction.clone());
            proposal::Change::Labels(v1::Labels { member: id(member)?, region, jurisdiction })
        }
        Change::Voting { member, votes } => proposal::Change::Voting(v1::Voting { member: id(member)?, votes: *votes }),
        Change::Defaults { survive } => {
            proposal::Change::Defaults(v1::Defaults { survive_regions: survive.regions, survive_nodes: survive.nodes })
        }
    })
}

/// The member of this name or id.
///
/// # Errors
/// [`ErrorCode::UnknownOrganisation`].
pub fn member(state: &State, name: &str) -> Result<MemberId, ErrorBody> {
    let by_id = name.parse().ok().and_then(|id: MemberId| state.member(&id));
    by_id.or_else(|| state.member_named(name)).map(|member| member.id).ok_or_else(|| {
        ErrorBody::new(ErrorCode::UnknownOrganisation, format_args!("no organisation is called \"{name}\""))
    })
}

fn info(state: &State, proposal: &Proposal) -> ProposalInfo {
    let name = |id: &MemberId| state.member_ever(id).map_or_else(|| id.to_string(), |member| member.name.clone());
    let named = |bytes: &Bytes| MemberId::try_from(bytes.as_ref()).map_or_else(|_| "nobody".to_owned(), |id| name(&id));
    let change = match &proposal.change {
        proposal::Change::Invite(invite) => Change::Invite {
            name: invite.name.clone(),
            region: invite.region.clone(),
            jurisdiction: invite.jurisdiction.clone(),
            by: named(&invite.issuer),
            expires_ms: invite.expires_ms,
        },
        proposal::Change::Remove(member) => Change::Remove { member: named(member) },
        proposal::Change::Labels(labels) => Change::Labels {
            member: named(&labels.member),
            region: labels.region.clone(),
            jurisdiction: labels.jurisdiction.clone(),
        },
        proposal::Change::Voting(voting) => Change::Voting { member: named(&voting.member), votes: voting.votes },
        proposal::Change::Defaults(defaults) => Change::Defaults {
            survive: SurviveWanted { regions: defaults.survive_regions, nodes: defaults.survive_nodes },
        },
        proposal::Change::Keys(keys) => Change::Keys { member: Some(named(&keys.member)) },
    };
    ProposalInfo {
        id: proposal.id,
        change,
        approved_by: proposal.approved_by.iter().map(name).collect(),
        needed: proposal.needed as u32,
        passed: proposal.passed,
        height: proposal.since,
    }
}
