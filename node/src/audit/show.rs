//! What audits showed, for people.

use std::collections::{BTreeMap, BTreeSet};

use bithealth_http::api::{AuditInfo, TrustInfo, VerdictInfo};
use bithealth_placement::{Audited, Trust, Verdict};
use bithealth_types::{NodeId, Time};

use crate::node::{Node, now_ms};

/// How each node stands that was audited or condemned.
pub fn infos(node: &Node) -> BTreeMap<NodeId, AuditInfo> {
    let now = now_ms();
    let audited: Vec<Audited> = node.audits.with(|seen| seen.auditor.audited(Time(now)).collect());
    let mut infos: BTreeMap<NodeId, AuditInfo> = audited.iter().map(|it| (it.holder, info(it))).collect();
    let state = node.chain.state();
    let condemned = state.condemned(now);
    let holders: BTreeSet<NodeId> = state.condemnations().map(|it| it.holder).collect();
    for holder in holders {
        let info = infos.entry(holder).or_default();
        info.condemners = state.condemners(&holder, now).len() as u64;
        info.condemned |= condemned.contains(&holder);
    }
    infos
}

fn info(it: &Audited) -> AuditInfo {
    let verdict = |verdict| match verdict {
        Verdict::Kept => VerdictInfo::Kept,
        Verdict::Inconclusive => VerdictInfo::Inconclusive,
        Verdict::Late => VerdictInfo::Late,
        Verdict::Lacks => VerdictInfo::Lacks,
        Verdict::False => VerdictInfo::False,
        Verdict::Evades => VerdictInfo::Evades,
        Verdict::Away => VerdictInfo::Away,
    };
    AuditInfo {
        trust: match it.trust {
            Trust::Sound => TrustInfo::Sound,
            Trust::Suspect => TrustInfo::Suspect,
            Trust::Condemned => TrustInfo::Condemned,
        },
        last_ms: it.last.map(|(at, _)| at.0),
        verdict: it.last.map(|(_, shown)| verdict(shown)),
        passed_ms: it.passed.map(|at| at.0),
        condemners: 0,
        condemned: it.trust == Trust::Condemned,
    }
}

/// What to do where others condemned this node.
pub fn warning(node: &Node) -> Option<String> {
    let condemned = node.chain.state().condemned(now_ms()).contains(&node.id());
    condemned.then(|| {
        "other organisations condemn this node: it did not show that it has what it should, and what it holds is rebuilt \
         elsewhere; look after its disk, and run `bithealth verify --full`"
            .to_owned()
    })
}
