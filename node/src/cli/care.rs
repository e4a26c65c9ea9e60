//! Audits of others and the reading back of our own store, in words.

use bithealth_http::api::{AuditInfo, NodeInfo, ScrubInfo, TrustInfo, VerdictInfo};

use super::show::{ago, count, counted, counted_as, len};

/// Nodes that did not show that they have what they should.
pub(crate) fn audits(nodes: &[NodeInfo], now_ms: u64) -> Vec<(&'static str, String)> {
    let failed = nodes.iter().filter(|node| !node.retired).filter_map(|node| {
        let words = failed(&node.audit, now_ms)?;
        Some(("audits", format!("{} (node {}) {words}", node.name, node.node.short())))
    });
    failed.collect()
}

fn failed(it: &AuditInfo, now_ms: u64) -> Option<String> {
    let why = match it.verdict {
        Some(VerdictInfo::Late) => ": it was as late as if it had fetched what it should have",
        Some(VerdictInfo::Lacks) => ": it says itself that it lacks something it should have",
        Some(VerdictInfo::False) => ": it answered something that is not so",
        Some(VerdictInfo::Evades) => ": it is there and does not answer",
        _ => "",
    };
    let at = it.last_ms.map_or_else(String::new, |last| format!(", audited {}", ago(last, now_ms)));
    let others = match it.condemners {
        0 => String::new(),
        others => format!("; {} it", counted_as(others, "organisation condemns", "organisations condemn")),
    };
    match it.trust {
        _ if it.condemned => {
            Some(format!("is condemned{why}{at}; what it holds counts as lost and is rebuilt elsewhere{others}"))
        }
        TrustInfo::Suspect | TrustInfo::Condemned => Some(format!("is suspected{why}{at}{others}")),
        TrustInfo::Sound if it.condemners > 0 => Some(format!("is sound here{at}{others}")),
        TrustInfo::Sound => None,
    }
}

/// When a node was last audited, for the table of nodes.
pub(crate) fn audited(it: &AuditInfo, now_ms: u64) -> String {
    let at = |at: u64| ago(at, now_ms);
    match (it.last_ms, it.verdict) {
        (Some(last), Some(VerdictInfo::Kept)) => format!("kept, {}", at(last)),
        (Some(last), Some(VerdictInfo::Inconclusive)) => format!("true, {}", at(last)),
        (Some(last), Some(VerdictInfo::Away)) => format!("away, {}", at(last)),
        (Some(last), Some(_)) => format!("failed, {}", at(last)),
        _ => "-".to_owned(),
    }
}

/// How far what lies here was read back.
pub(crate) fn scrub(it: &ScrubInfo, now_ms: u64) -> Option<(&'static str, String)> {
    let read = match (it.began_ms, it.ended_ms) {
        (Some(began), _) => {
            format!(
                "{} of {} read back in a round that began {}",
                len(it.bytes),
                len(it.bytes_total),
                ago(began, now_ms)
            )
        }
        (None, Some(ended)) => format!("all {} that lie here were read back {}", len(it.bytes), ago(ended, now_ms)),
        (None, None) => return None,
    };
    let damaged = match (it.damaged, it.repaired, it.unrepaired) {
        (0, _, 0) => String::new(),
        (damaged, _, 0) => format!("; {} found damaged so far and repaired from peers", counted(damaged, "item")),
        (damaged, repaired, unrepaired) => {
            let waiting = counted_as(unrepaired, "waits for peers that have it", "wait for peers that have them");
            format!("; {} found damaged so far, {} repaired; {waiting}", counted(damaged, "item"), count(repaired))
        }
    };
    Some(("checked", read + &damaged))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_types::ByteLen;

    #[test]
    fn suspects_and_condemned_are_told_with_the_reason() {
        let words = |it: &AuditInfo| failed(it, 120_000).unwrap_or_default();
        let suspect = AuditInfo {
            trust: TrustInfo::Suspect,
            last_ms: Some(0),
            verdict: Some(VerdictInfo::Lacks),
            ..AuditInfo::default()
        };
        assert_eq!(
            words(&suspect),
            "is suspected: it says itself that it lacks something it should have, audited 2 min ago"
        );
        let condemned = AuditInfo { trust: TrustInfo::Condemned, condemned: true, condemners: 2, ..suspect.clone() };
        assert!(words(&condemned).starts_with("is condemned: it says itself"));
        assert!(words(&condemned).ends_with("is rebuilt elsewhere; 2 organisations condemn it"));
        let by_another = AuditInfo { condemners: 1, ..AuditInfo::default() };
        assert_eq!(words(&by_another), "is sound here; 1 organisation condemns it");
        assert_eq!(failed(&AuditInfo::default(), 0), None);
        assert_eq!(audited(&suspect, 120_000), "failed, 2 min ago");
        assert_eq!(audited(&AuditInfo::default(), 0), "-");
    }

    #[test]
    fn what_was_read_back_is_told_with_what_was_damaged() {
        let words = |it: ScrubInfo| scrub(&it, 120_000).map(|(_, words)| words).unwrap_or_default();
        let all = || ScrubInfo { ended_ms: Some(60_000), bytes: ByteLen(3 << 20), ..ScrubInfo::default() };
        assert_eq!(words(all()), "all 3.0 MiB that lie here were read back 1 min ago");
        assert_eq!(
            words(ScrubInfo { damaged: 2, repaired: 2, ..all() }),
            "all 3.0 MiB that lie here were read back 1 min ago; 2 items found damaged so far and repaired from peers"
        );
        let waits = ScrubInfo {
            damaged: 3,
            repaired: 2,
            unrepaired: 1,
            began_ms: Some(1),
            bytes_total: ByteLen(6 << 20),
            ..all()
        };
        assert!(
            words(waits.clone()).starts_with("3.0 MiB of 6.0 MiB read back in a round that began 1 min ago; 3 items")
        );
        assert!(words(waits).ends_with("; 3 items found damaged so far, 2 repaired; 1 waits for peers that have it"));
        assert_eq!(scrub(&ScrubInfo::default(), 0), None);
    }
}
