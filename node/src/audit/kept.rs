//! What audits showed, as the store keeps it across restarts: one item for each holder under [`Kind::Meta`], durable before
//! the audit counts as ended.

use std::time::Duration;

use bithealth_placement::{Kept, Verdict};
use bithealth_proto::encode;
use bithealth_proto::v1::{self, AuditVerdict};
use bithealth_store::{Kind, Store, WriteError};
use bithealth_types::{NodeId, PackId, ShardIndex, Time};
use tracing::warn;

use super::{Fault, condemnation};
use crate::vault;

/// What the keys of the store begin with; behind it is the holder's id.
const PREFIX: &[u8] = b"audited ";

/// What is kept of all holders. What cannot be read is left out and named in the log. Blocks.
pub(super) fn read(store: &Store) -> Vec<(NodeId, Kept, Option<Fault>)> {
    let keys = store
        .keys(Kind::Meta)
        .filter_map(|key| key.inspect_err(|error| warn!(%error, "what audits showed before cannot be read")).ok());
    let of = |key: Vec<u8>| {
        let holder = NodeId::try_from(key.strip_prefix(PREFIX)?).ok()?;
        match vault::message::<v1::AuditedHolder, vault::VaultError>(store, Kind::Meta, &key) {
            Ok(message) => message.map(|message| (holder, kept(&message), message.fault.as_ref().and_then(fault))),
            Err(error) => {
                warn!(holder = %holder.short(), %error, "what audits showed of a holder before is lost; it is audited anew");
                None
            }
        }
    };
    keys.filter_map(of).collect()
}

/// Keeps what is known of a holder, durably. Blocks on the disk.
pub(super) fn write(store: &Store, holder: &NodeId, kept: &Kept, fault: Option<&Fault>) -> Result<(), WriteError> {
    let message = message(kept, fault.map(|fault| condemnation(holder, fault)));
    let position = store.put(Kind::Meta, &key(holder), &[], &[&encode(&message)])?;
    store.sync(position)
}

/// A holder that is no node any more. Blocks on the disk.
pub(super) fn remove(store: &Store, holder: &NodeId) -> Result<(), WriteError> {
    store.remove(Kind::Meta, &key(holder)).map(drop)
}

fn key(holder: &NodeId) -> Vec<u8> {
    [PREFIX, holder.as_bytes()].concat()
}

fn message(kept: &Kept, fault: Option<v1::Condemnation>) -> v1::AuditedHolder {
    let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let at = |time: Option<Time>| time.map_or(0, |time| time.0);
    v1::AuditedHolder {
        last_ms: at(kept.last.map(|(at, _)| at)),
        verdict: kept.last.map_or(AuditVerdict::Unspecified, |(_, shown)| name(shown)).into(),
        wrong_ms: ms(kept.wrong),
        late_ms: ms(kept.late),
        weighed_ms: kept.weighed_at.0,
        condemned: kept.condemned,
        passed_ms: kept.passed.iter().map(|at| at.0).collect(),
        evasions: kept.evasions,
        lacks_counted_ms: at(kept.lacks_at),
        late_counted_ms: at(kept.late_at),
        rates: kept.rates.clone(),
        line_bytes_per_s: kept.line,
        fault,
    }
}

fn kept(message: &v1::AuditedHolder) -> Kept {
    let at = |ms: u64| (ms > 0).then_some(Time(ms));
    Kept {
        last: at(message.last_ms).zip(verdict(message.verdict())),
        wrong: Duration::from_millis(message.wrong_ms),
        late: Duration::from_millis(message.late_ms),
        weighed_at: Time(message.weighed_ms),
        condemned: message.condemned,
        passed: message.passed_ms.iter().copied().map(Time).collect(),
        evasions: message.evasions,
        lacks_at: at(message.lacks_counted_ms),
        late_at: at(message.late_counted_ms),
        rates: message.rates.clone(),
        line: message.line_bytes_per_s,
    }
}

fn fault(message: &v1::Condemnation) -> Option<Fault> {
    let shard = PackId::try_from(message.pack.as_ref()).ok().zip(u16::try_from(message.shard).ok().map(ShardIndex));
    Some(Fault { fault: message.fault(), nonce: message.nonce.as_ref().try_into().ok()?, shard })
}

fn name(verdict: Verdict) -> AuditVerdict {
    match verdict {
        Verdict::Kept => AuditVerdict::Kept,
        Verdict::Inconclusive => AuditVerdict::Inconclusive,
        Verdict::Late => AuditVerdict::Late,
        Verdict::Lacks => AuditVerdict::Lacks,
        Verdict::False => AuditVerdict::False,
        Verdict::Evades => AuditVerdict::Evades,
        Verdict::Away => AuditVerdict::Away,
    }
}

fn verdict(name: AuditVerdict) -> Option<Verdict> {
    match name {
        AuditVerdict::Unspecified => None,
        AuditVerdict::Kept => Some(Verdict::Kept),
        AuditVerdict::Inconclusive => Some(Verdict::Inconclusive),
        AuditVerdict::Late => Some(Verdict::Late),
        AuditVerdict::Lacks => Some(Verdict::Lacks),
        AuditVerdict::False => Some(Verdict::False),
        AuditVerdict::Evades => Some(Verdict::Evades),
        AuditVerdict::Away => Some(Verdict::Away),
    }
}

#[cfg(test)]
mod tests {
    use bithealth_placement::{Answer, AuditConfig, Auditor, Trust};
    use bithealth_proto::Limited;
    use bithealth_proto::v1::AuditFault;

    use super::*;

    const HOLDER: NodeId = NodeId([1; 32]);

    fn store(folder: &tempfile::TempDir) -> Store {
        Store::open(&folder.path().join("store"), bithealth_store::Config::default()).unwrap()
    }

    /// The longest there is: every field, as full and as large as it gets.
    fn full() -> (Kept, Fault) {
        let kept = Kept {
            last: Some((Time(u64::MAX), Verdict::Away)),
            wrong: Duration::from_millis(u64::MAX),
            late: Duration::from_millis(u64::MAX),
            weighed_at: Time(u64::MAX),
            condemned: true,
            passed: vec![Time(u64::MAX); 4],
            evasions: u32::MAX,
            lacks_at: Some(Time(u64::MAX)),
            late_at: Some(Time(u64::MAX)),
            rates: vec![u64::MAX; 32],
            line: u64::MAX,
        };
        let shard = Some((PackId([8; 32]), ShardIndex(u16::MAX)));
        (kept, Fault { fault: AuditFault::Lacks, nonce: [7; 32], shard })
    }

    #[test]
    fn what_is_kept_reads_back_after_the_store_was_closed_and_the_longest_fits() {
        let folder = tempfile::tempdir().unwrap();
        let (kept, fault) = full();
        assert!(encode(&message(&kept, Some(condemnation(&HOLDER, &fault)))).len() <= v1::AuditedHolder::LEN_MAX);
        write(&store(&folder), &HOLDER, &kept, Some(&fault)).unwrap();
        let other = NodeId([2; 32]);
        write(&store(&folder), &other, &Kept::default(), None).unwrap();
        let back = read(&store(&folder));
        assert_eq!(back, [(HOLDER, kept, Some(fault)), (other, Kept::default(), None)]);
        remove(&store(&folder), &HOLDER).unwrap();
        assert_eq!(read(&store(&folder)).len(), 1);
    }

    #[test]
    fn every_verdict_has_its_name() {
        use Verdict::{Away, Evades, False, Inconclusive, Kept, Lacks, Late};
        for shown in [Kept, Inconclusive, Late, Lacks, False, Evades, Away] {
            assert_eq!(verdict(name(shown)), Some(shown));
        }
    }

    #[test]
    fn an_auditor_with_a_real_store_goes_on_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let mut auditor = Auditor::new(AuditConfig::default());
        let now = Time(1_700_000_000_000);
        auditor.judge(now, HOLDER, Answer::False);
        write(&store(&folder), &HOLDER, &auditor.kept(&HOLDER).unwrap(), None).unwrap();
        let mut anew = Auditor::new(AuditConfig::default());
        read(&store(&folder)).into_iter().for_each(|(holder, kept, _)| anew.recall(now, holder, kept));
        assert_eq!(anew.trust(now, &HOLDER), Trust::Suspect);
        let later = Time(now.0 + 3_600_000);
        anew.judge(later, HOLDER, Answer::False);
        assert_eq!(anew.trust(later, &HOLDER), Trust::Condemned, "the second lie, though one was before the restart");
    }
}
