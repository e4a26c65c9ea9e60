//! The JSON of the local API, spoken by both sides. Times are milliseconds since 1970, UTC.

mod audit;
mod ledger;
mod metrics;
mod network;
mod progress;
mod put;
mod record;
mod recovery;
mod votes;

pub use audit::{AuditInfo, ScrubInfo, TrustInfo, VerdictInfo};
pub use ledger::{
    COSIGNED_LEN_MAX, CheckpointInfo, CheckpointOf, CosignedBy, EntryAt, HEADERS_MAX, HeaderRange, ProofOf, WitnessInfo,
};
pub use metrics::{
    AuditCounts, BalanceOf, ByPurpose, HolderCounts, LedgerGauges, Metrics, OwnPacks, ProcessGauges, Readiness, Served,
};
pub use network::{
    AccusedInfo, FinalityInfo, Held, InviteInfo, InviteOptions, KeptPacks, MemberInfo, NodeInfo, Offence, OpenedAnswer,
    PacksAt, PeerInfo, Reach, ReachInfo, RelayInfo, RepairInfo, Status, StopAnswer, StoredBytes,
};
pub use progress::{RestoreEvent, RestorePhase, VerifyEvent, VerifyOptions};
pub use put::{PutEvent, PutOptions, SurviveWanted, Wait};
pub use record::{ExportFilter, GetEvent, GetOptions, INTO_MAX, LIST_LIMIT_MAX, ListFilter, RecordInfo, RecordState};
pub use recovery::{KeepOptions, RECOVERY_LEN_MAX, RecoveryInfo, RecoveryStanding};
pub use votes::{Change, ProposalInfo};
