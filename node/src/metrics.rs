//! What `GET /metrics` and `GET /v1/ready` tell of a running node, gathered when they are asked.

use std::sync::Arc;

use bithealth_http::api::{
    BalanceOf, FinalityInfo, HolderCounts, LedgerGauges, Metrics, OwnPacks, ProcessGauges, Readiness, Served, TrustInfo,
};
use bithealth_types::ByteLen;

use crate::node::{Node, now_ms};
use crate::{audit, recall, restore, service};

/// Blocks: it looks through the packs on the ledger.
pub fn metrics(node: &Arc<Node>) -> Metrics {
    let counters = &node.counters;
    Metrics {
        version: env!("CARGO_PKG_VERSION"),
        own_packs: own_packs(node),
        repair: service::repair(node),
        served: Served {
            sent: counters.sent.get(),
            answered: counters.answered.get(),
            missing: counters.missing.get(),
            refused: counters.refused.get(),
            chokes: counters.chokes.get(),
            choked_peers: node.serving.choked_count() as u64,
        },
        received: counters.received.get(),
        bytes: service::stored_bytes(node),
        quota: ByteLen(node.room.quota()),
        balances: service::members(node).into_iter().map(balance).collect(),
        ledger: ledger(node),
        audits: counters.audits(),
        holders: holders(node),
        process: process(node),
    }
}

fn own_packs(node: &Node) -> OwnPacks {
    let (packs, covered) = (node.replication.summary(), service::covered(node));
    OwnPacks { local: packs.local, replicated: packs.replicated.saturating_sub(covered), r#final: covered }
}

fn balance(member: bithealth_http::api::MemberInfo) -> BalanceOf {
    BalanceOf { member: member.member, given: member.given, used: member.used }
}

fn ledger(node: &Node) -> LedgerGauges {
    let FinalityInfo { validators, quorum, present, waiting, .. } = service::finality(node);
    let (state, now) = (node.chain.state(), now_ms());
    // A pack that is retired already waits for nothing.
    let waiting_packs = state.packs().filter(|pack| pack.height.is_none() && pack.retired_into.is_none());
    let oldest = waiting_packs.map(|pack| pack.time_ms).min();
    LedgerGauges {
        height: state.height(),
        head_age_s: state.tip().map(|header| now.saturating_sub(header.time_ms) / 1000),
        waiting_entries: waiting,
        waiting_s: oldest.map_or(0, |since| now.saturating_sub(since) / 1000),
        validators_present: present.into(),
        validators_missing: (validators - present).into(),
        quorum: quorum.into(),
    }
}

fn holders(node: &Node) -> HolderCounts {
    let mut counts = HolderCounts::default();
    for it in audit::infos(node).values() {
        match it.trust {
            _ if it.condemned => counts.condemned += 1,
            TrustInfo::Condemned => counts.condemned += 1,
            TrustInfo::Suspect => counts.suspect += 1,
            TrustInfo::Sound => counts.sound += 1,
        }
    }
    counts
}

fn process(node: &Node) -> ProcessGauges {
    let connected = node.net.connected();
    ProcessGauges {
        resident: resident().map(ByteLen),
        started_ms: node.started_ms,
        connections: node.net.connection_count() as u64,
        peers_admitted: connected.iter().filter(|peer| node.net.is_admitted(peer)).count() as u64,
    }
}

/// Bytes of memory this process holds (proc(5)); none on a system that has no such file.
fn resident() -> Option<u64> {
    read_resident(&std::fs::read_to_string("/proc/self/status").ok()?)
}

fn read_resident(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

/// Whether records can be put and read. That others are away, or that nothing becomes final, hinders neither.
pub fn readiness(node: &Arc<Node>) -> Readiness {
    let mut waits_for: Vec<String> = Vec::new();
    waits_for.extend(recall::warning(node));
    if restore::is_noted(&node.store) {
        waits_for.push("this node is still being restored; `bithealth status` says how far it is".into());
    }
    if node.chain.state().node(&node.id()).is_none() {
        waits_for.push("the ledger does not list this node yet; it waits for a peer to bring it in".into());
    }
    let (free, reserve) = (node.store.free_space().ok(), node.config.disk_reserve_bytes);
    if let Some(free) = free.filter(|free| *free < reserve) {
        waits_for.push(format!(
            "the disk has {free} bytes left and {reserve} are kept free, so that nothing new is taken; free some, or set \
             `disk_reserve_bytes` in config.toml lower"
        ));
    }
    Readiness { ready: waits_for.is_empty(), waits_for }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_memory_is_read_in_bytes_or_not_at_all() {
        assert_eq!(read_resident("Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t1\n"), Some(2 << 20));
        for other in ["", "VmRSS:\t2048 MB\n", "VmRSS: many kB", "VmSize: 4 kB\n"] {
            assert_eq!(read_resident(other), None, "{other}");
        }
        assert!(resident() > Some(1 << 20), "this process has more than a mebibyte");
    }
}
