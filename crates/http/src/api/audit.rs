//! Whether others, and this node itself, have what they should.

use bithealth_types::ByteLen;
use serde::{Deserialize, Serialize};

/// How far what lies here was read back, and what was wrong with it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScrubInfo {
    /// When the round that goes on began; none does.
    pub began_ms: Option<u64>,
    /// When the last whole round ended.
    pub ended_ms: Option<u64>,
    /// Read in the round that goes on, or the last one.
    pub bytes: ByteLen,
    /// All that lies here, which a round reads.
    pub bytes_total: ByteLen,
    /// Packs and shards found damaged so far, in all rounds.
    pub damaged: u64,
    /// Of them repaired from peers.
    pub repaired: u64,
    /// Packs and shards that wait for peers who can give them back.
    pub unrepaired: u64,
}

/// How a node stands with those who audit it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditInfo {
    /// What our own audits say.
    pub trust: TrustInfo,
    /// When we last audited it.
    pub last_ms: Option<u64>,
    /// What that showed.
    pub verdict: Option<VerdictInfo>,
    /// When it last showed that it has what it should, and has it on a disk.
    pub passed_ms: Option<u64>,
    /// Organisations whose word on the ledger is against it.
    pub condemners: u64,
    /// What it holds counts as lost here.
    pub condemned: bool,
}

/// What our own audits say of a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrustInfo {
    /// Nothing speaks against it.
    #[default]
    Sound,
    /// It failed, not often enough to act on.
    Suspect,
    /// It failed too often.
    Condemned,
}

/// What an audit showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictInfo {
    /// It has what it should, on a disk.
    Kept,
    /// It can get at what it should have; whether from a disk the time does not tell.
    Inconclusive,
    /// It was as late as one that fetches what it should have.
    Late,
    /// It says itself that it lacks something.
    Lacks,
    /// It answered something that is not so.
    False,
    /// It was there and did not answer.
    Evades,
    /// It was away.
    Away,
}
