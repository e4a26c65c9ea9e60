//! The node and its network at a glance: what `status` and `peers` tell.

use std::sync::Arc;

use bithealth_http::api::{
    AccusedInfo, FinalityInfo, Held, KeptPacks, MemberInfo, NodeInfo, Offence, PacksAt, PeerInfo, Reach, ReachInfo,
    RelayInfo, RepairInfo, Status, StoredBytes,
};
use bithealth_ledger::{Accused, State};
use bithealth_proto::v1::{self, evidence::Evidence};
use bithealth_types::{ByteLen, Height, MemberId, NodeId};

use super::organisation_of;
use crate::node::{Node, now_ms};
use crate::shelf::Salt;
use crate::{audit, recall, recovery, restore, scrub, votes};

pub(crate) fn members(node: &Node) -> Vec<MemberInfo> {
    let state = node.chain.state();
    let (overview, _) = node.repair.overview();
    let balance = |member: &MemberId| overview.balances.get(member).copied().unwrap_or_default();
    let info = |member: &bithealth_ledger::Member| MemberInfo {
        member: member.id,
        name: member.name.clone(),
        nodes: state.nodes().filter(|it| it.member == member.id && !it.retired).count() as u32,
        own: member.id == node.member(),
        given: ByteLen(balance(&member.id).given),
        used: ByteLen(balance(&member.id).used),
    };
    state.members().map(info).collect()
}

pub(super) fn peers(node: &Node) -> Vec<PeerInfo> {
    let traffic = node.net.traffic();
    let info = |peer: NodeId| {
        let bytes = traffic.iter().find(|it| it.node == peer);
        let region = node.chain.state().node(&peer).map(|it| it.region.clone()).unwrap_or_default();
        let path = node.net.path(&peer);
        PeerInfo {
            node: peer,
            name: organisation_of(node, &peer),
            region,
            address: path.as_ref().map(|path| path.address.clone()).unwrap_or_default(),
            relay: path.and_then(|path| path.relay),
            connected_since_ms: node.followers.since_ms(&peer).unwrap_or_default(),
            round_trip_ms: bytes.and_then(|it| it.round_trip).map(|it| it.as_micros().div_ceil(1000) as u64),
            bytes_in: ByteLen(bytes.map_or(0, |it| it.bytes_in)),
            bytes_out: ByteLen(bytes.map_or(0, |it| it.bytes_out)),
        }
    };
    node.net.connected().into_iter().filter(|peer| node.net.is_admitted(peer)).map(info).collect()
}

/// Own packs whose policy holds and that a block covers.
pub(crate) fn covered(node: &Node) -> u64 {
    let state = node.chain.state();
    let is_covered = |salt: &Salt| state.pack_with_salt(salt).and_then(|id| state.pack(&id)?.height).is_some();
    node.replication.replicated().iter().filter(|salt| is_covered(salt)).count() as u64
}

pub(crate) fn stored_bytes(node: &Node) -> StoredBytes {
    StoredBytes {
        records: ByteLen(node.shelf.totals().bytes),
        sealed: ByteLen(node.vault.own_len()),
        held_for_others: ByteLen(node.room.taken()),
        stored: ByteLen(node.store.usage().bytes),
        disk_free: ByteLen(node.store.free_space().unwrap_or(0)),
        capacity: ByteLen(node.certificate.capacity),
    }
}

pub(super) fn status(node: &Arc<Node>) -> Status {
    let packs = node.replication.summary();
    let totals = node.shelf.totals();
    let (height, head_age_s, network, genesis) = {
        let state = node.chain.state();
        let age = state.tip().map(|header| now_ms().saturating_sub(header.time_ms) / 1000);
        (state.height(), age, state.genesis().name.clone(), state.genesis_id())
    };
    let nodes = nodes(node);
    Status {
        node: node.id(),
        member: node.member(),
        organisation: organisation_of(node, &node.id()),
        network,
        genesis,
        region: node.certificate.region.clone(),
        jurisdiction: node.certificate.jurisdiction.clone(),
        height,
        head_age_s,
        finality: finality(node),
        witnesses: node.witnesses.all(),
        recovery: recovery::info(node),
        proposals: votes::waiting(node),
        members: members(node),
        warnings: warnings(node, &nodes),
        reach: reach(node),
        nodes,
        packs: KeptPacks {
            local: packs.local,
            replicated: packs.replicated,
            r#final: covered(node),
            short: packs.reasons.into_iter().map(|(reason, packs)| Held { reason, packs }).collect(),
        },
        repair: repair(node),
        scrub: scrub::info(node),
        records: node.shelf.count(),
        own_records: totals.records,
        bytes: stored_bytes(node),
    }
}

fn reach(node: &Node) -> ReachInfo {
    let reached = node.net.reached();
    let relay = |relay: &NodeId| RelayInfo { node: *relay, name: organisation_of(node, relay) };
    let how = match reached.reach {
        bithealth_net::Reach::Unknown => Reach::Unknown,
        bithealth_net::Reach::Direct => Reach::Direct,
        bithealth_net::Reach::Behind if reached.relays.is_empty() => Reach::OutgoingOnly,
        bithealth_net::Reach::Behind => Reach::Relayed,
    };
    ReachInfo {
        how,
        addresses: reached.addresses,
        relays: reached.relays.iter().map(relay).collect(),
        serves: reached.serves,
    }
}

/// What to do where nobody can connect with this node.
fn unreached(node: &Node) -> Option<String> {
    let is_alone = reach(node).how == Reach::OutgoingOnly;
    is_alone.then(|| {
        "others cannot connect with this node, and no member that can be reached relays for it; have your router pass the \
         port it listens on (see `listen` in config.toml, TCP and UDP) to this machine, or ask a member whose node can be \
         reached to set `relay = true`"
            .into()
    })
}

pub(crate) fn repair(node: &Node) -> RepairInfo {
    let (overview, done_in) = node.repair.overview();
    let at = |(margin, (own, all)): (&i64, &(u64, u64))| PacksAt { margin: *margin, own: *own, all: *all };
    RepairInfo {
        margins: overview.margins.iter().map(at).collect(),
        waiting_packs: overview.waiting_packs,
        missing_shards: overview.missing_shards,
        missing_bytes: ByteLen(overview.missing_bytes),
        untaken_shards: overview.untaken_shards,
        begins_in_s: overview.begins_in.map(|left| left.as_secs()),
        done_in_s: done_in.map(|left| left.as_secs()),
        rebuilt_shards: overview.rebuilt.0,
        rebuilt_bytes: ByteLen(overview.rebuilt.1),
    }
}

/// Who decides blocks. A validator counts as present while a node of its organisation is connected: its votes may be
/// late, and are then not among those of the last certificate.
pub(crate) fn finality(node: &Node) -> FinalityInfo {
    let (seen, connected) = (node.finality.seen(), node.net.connected());
    let state = node.chain.state();
    let nodes: Vec<&bithealth_ledger::Node> = state.nodes().filter(|it| !it.retired).collect();
    let is_there = |member: &MemberId| {
        nodes.iter().any(|it| it.member == *member && (it.id == node.id() || connected.binary_search(&it.id).is_ok()))
    };
    let name = |member: &MemberId| state.member_ever(member).map_or_else(|| member.short(), |it| it.name.clone());
    let validators = state.validators();
    let missing: Vec<String> =
        validators.iter().filter(|it| !is_there(&it.member)).map(|it| name(&it.member)).collect();
    let waiting = nodes.iter().filter_map(|it| state.log(&it.id)).map(|log| log.len - log.final_len).sum();
    FinalityInfo {
        validators: validators.count() as u32,
        quorum: validators.quorum() as u32,
        present: (validators.count() - missing.len()) as u32,
        missing,
        waiting,
        deciding: Some(Height(seen.height)).filter(|height| *height > state.height()),
        round: seen.round,
        halted: seen.halted,
        accused: state.accused().map(|it| accused(&state, it)).collect(),
    }
}

fn accused(state: &State, (accused, evidence, height): (Accused, &v1::Evidence, Option<Height>)) -> AccusedInfo {
    let by = |is: &dyn Fn(&bithealth_ledger::Node) -> bool| state.nodes().find(|it| is(it)).map(|it| it.member);
    let (key, offence, member) = match accused {
        Accused::Author(node) => (node.to_string(), Offence::TwoEntries, by(&|it| it.id == node)),
        Accused::Validator(key) => (key.to_string(), Offence::TwoVotes, by(&|it| it.validator == Some(key))),
    };
    let at = match &evidence.evidence {
        Some(Evidence::Log(found)) => found.sequence,
        Some(Evidence::Votes(found)) => found.height,
        None => 0,
    };
    let organisation = member.and_then(|id| state.member_ever(&id)).map(|member| member.name.clone());
    AccusedInfo { organisation, key, offence, at, height }
}

fn nodes(node: &Node) -> Vec<NodeInfo> {
    let all: Vec<bithealth_ledger::Node> = node.chain.state().nodes().cloned().collect();
    let mut audits = audit::infos(node);
    let info = |it: &bithealth_ledger::Node| NodeInfo {
        node: it.id,
        member: it.member,
        name: organisation_of(node, &it.id),
        region: it.region.clone(),
        jurisdiction: it.jurisdiction.clone(),
        capacity: ByteLen(it.capacity),
        connected: node.answers(&it.id),
        retired: it.retired,
        in_block: it.since.is_some(),
        last_heard_ms: None,
        audit: audits.remove(&it.id).unwrap_or_default(),
    };
    all.iter().map(info).collect()
}

/// What to do where the members have not approved the place of this node.
fn unapproved(node: &Node) -> Option<String> {
    let state = node.chain.state();
    let ours = state.node(&node.id())?;
    if state.may_stand(&ours.member, &ours.region, &ours.jurisdiction) {
        return None;
    }
    let (name, region, law) = (&state.member(&ours.member)?.name, &ours.region, &ours.jurisdiction);
    Some(format!(
        "the members have not approved that nodes of {name} stand in {region} ({law}); until then this one holds nothing \
         for others: `bithealth admin propose labels \"{name}\" --region {region} --jurisdiction {law}`"
    ))
}

/// How far a node is that offers nothing any more.
fn drained(node: &Node) -> Option<String> {
    let left = Some(node.room.taken()).filter(|left| *left > 0 && node.certificate.capacity == 0)?;
    Some(format!(
        "this node offers nothing to others any more, and holds {left} bytes for them until others have those; when this \
         line is gone it may go: `bithealth admin propose remove`, or `bithealth admin retire` on another node of yours"
    ))
}

fn warnings(node: &Node, nodes: &[NodeInfo]) -> Vec<String> {
    let mut warnings: Vec<String> = Vec::new();
    let away = nodes.iter().filter(|it| !it.connected && !it.retired);
    warnings.extend(away.map(|it| format!("{} ({}, region {}) does not answer", it.name, it.node.short(), it.region)));
    if node.chain.state().node(&node.id()).is_none() {
        warnings.push("the ledger does not list this node yet; it waits for a peer to bring it in".into());
    }
    if node.chain.state().member_left(&node.member()) {
        warnings.push(
            "the members voted this organisation out; what it holds is read as before, nothing new is taken".into(),
        );
    }
    warnings.extend(unapproved(node));
    warnings.extend(drained(node));
    warnings.extend(recall::warning(node));
    warnings.extend(audit::warning(node));
    warnings.extend(unreached(node));
    if node.chain.state().is_accused(&Accused::Author(node.id())) {
        let why = "was it run from an old copy of its folder?";
        let next = "set up a new node with the recovery kit: `bithealth restore`";
        warnings
            .push(format!("this node signed two entries for one position of its log, which is frozen ({why}); {next}"));
    }
    let shut_out = node.shut_out.lock().expect("no holder panics");
    warnings
        .extend(shut_out.iter().map(|(peer, fault)| format!("node {} sent something false: {fault}", peer.short())));
    let refusing = node.refusing.lock().expect("no holder panics");
    warnings.extend(refusing.iter().map(|(peer, reason)| format!("node {} refuses this one: {reason}", peer.short())));
    if restore::is_noted(&node.store) {
        warnings.push("this node is still being restored".into());
    }
    warnings
}
