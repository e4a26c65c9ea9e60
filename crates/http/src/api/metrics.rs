//! What a node counts and measures, as `GET /metrics` shows it, and whether it is ready.
//!
//! Numbers, and ids of organisations: there is no field that the name of a patient, a record, or a folder could get into.

use bithealth_types::{ByteLen, Height, MemberId};
use serde::{Deserialize, Serialize};

use crate::api::{RepairInfo, StoredBytes};

/// What a node counts and measures. Counts begin anew with each start of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// The program's version.
    pub version: &'static str,
    /// Our packs, by how safe they are.
    pub own_packs: OwnPacks,
    /// How far packs are from being lost, and what is rebuilt.
    pub repair: RepairInfo,
    /// Leaves that went to other nodes, and the wants they answered.
    pub served: Served,
    /// Leaves that came from other nodes.
    pub received: ByPurpose,
    /// What is kept here.
    pub bytes: StoredBytes,
    /// Of the bytes offered to others those that one organisation may take.
    pub quota: ByteLen,
    /// What each organisation holds for others, and they for it.
    pub balances: Vec<BalanceOf>,
    /// How history goes on.
    pub ledger: LedgerGauges,
    /// Audits of others by what they showed.
    pub audits: AuditCounts,
    /// Nodes by how our audits leave them standing.
    pub holders: HolderCounts,
    /// This process.
    pub process: ProcessGauges,
}

/// Our packs, each counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnPacks {
    /// Not standing as their policy wants yet.
    pub local: u64,
    /// Standing so; no block covers them.
    pub replicated: u64,
    /// Standing so, and a block covers them.
    pub r#final: u64,
}

/// Bytes of leaves by what they were moved for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByPurpose {
    /// Somebody has lost everything.
    pub restore: u64,
    /// Somebody reads a record.
    pub read: u64,
    /// Lost shards are rebuilt.
    pub repair: u64,
    /// Somebody checks what is held.
    pub audit: u64,
    /// Shards are brought to their places.
    pub place: u64,
}

/// What was served to others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Served {
    /// Bytes of leaves.
    pub sent: ByPurpose,
    /// Wants that were answered with leaves.
    pub answered: u64,
    /// Wants for what does not lie here.
    pub missing: u64,
    /// Wants that were refused, since as many waited as may.
    pub refused: u64,
    /// How often a peer was asked to send no more wants for now.
    pub chokes: u64,
    /// Peers that are asked so now.
    pub choked_peers: u64,
}

/// Bytes of shards, as the ledger places them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BalanceOf {
    /// The organisation.
    pub member: MemberId,
    /// What its nodes hold for others.
    pub given: ByteLen,
    /// What others hold for it.
    pub used: ByteLen,
}

/// How history goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LedgerGauges {
    /// Blocks since genesis.
    pub height: Height,
    /// Since the last block was made; none before the first.
    pub head_age_s: Option<u64>,
    /// Entries that wait for a block.
    pub waiting_entries: u64,
    /// How long the pack that waits for a block for longest has; 0: none waits.
    pub waiting_s: u64,
    /// Organisations that vote, and are there.
    pub validators_present: u64,
    /// Organisations that vote, and are not.
    pub validators_missing: u64,
    /// Votes that make a block final.
    pub quorum: u64,
}

/// Audits of others that ended since the start, by what they showed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AuditCounts {
    /// The holder has what it should, on a disk.
    pub kept: u64,
    /// Whether from a disk the time does not tell.
    pub inconclusive: u64,
    /// As late as one that fetches what it should have.
    pub late: u64,
    /// It said itself that it lacks something.
    pub lacks: u64,
    /// It answered something that is not so.
    pub r#false: u64,
    /// It was there and did not answer.
    pub evades: u64,
    /// It was away.
    pub away: u64,
}

/// Nodes that were audited, by how they stand now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HolderCounts {
    /// Nothing speaks against them.
    pub sound: u64,
    /// They failed, not often enough to act on.
    pub suspect: u64,
    /// What they hold counts as lost: by our audits, or by the word of enough others on the ledger.
    pub condemned: u64,
}

/// The process and its connections.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ProcessGauges {
    /// Bytes of memory it holds, where the system tells.
    pub resident: Option<ByteLen>,
    /// When it was started, milliseconds since 1970.
    pub started_ms: u64,
    /// Open connections with peers, several of one among them.
    pub connections: u64,
    /// Connected peers that were shown to be members' nodes.
    pub peers_admitted: u64,
}

/// Whether a node can do its work.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// It can.
    pub ready: bool,
    /// What it waits for otherwise, in words.
    pub waits_for: Vec<String>,
}
