//! The network and this node in it.

use bithealth_types::{ByteLen, GenesisId, Height, MemberId, NodeId};
use serde::{Deserialize, Serialize};

use crate::api::WitnessInfo;
use crate::query::{Query, QueryError, value};

/// This node and its network, at a glance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Its organisation.
    pub member: MemberId,
    /// Its organisation's name.
    pub organisation: String,
    /// The network's name.
    pub network: String,
    /// The network itself.
    pub genesis: GenesisId,
    /// What this node fails together with.
    pub region: String,
    /// Whose law applies to it.
    pub jurisdiction: String,
    /// Blocks since genesis.
    pub height: Height,
    /// Since the last block was made, by its own clock; `None` before the first.
    pub head_age_s: Option<u64>,
    /// Whether history goes on, and with whom.
    pub finality: FinalityInfo,
    /// Outsiders that cosigned our history, and what last.
    pub witnesses: Vec<WitnessInfo>,
    /// Organisations of the network.
    pub members: Vec<MemberInfo>,
    /// All nodes the ledger lists, this one included.
    pub nodes: Vec<NodeInfo>,
    /// Our packs.
    pub packs: KeptPacks,
    /// Records we can read.
    pub records: u64,
    /// Of them put by our organisation.
    pub own_records: u64,
    /// Bytes.
    pub bytes: StoredBytes,
    /// What could go wrong soon, in words.
    pub warnings: Vec<String>,
}

/// Our packs, by how safe they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptPacks {
    /// Not standing as their policy wants yet: only here, or in too few places.
    pub local: u64,
    /// Standing as their policy wants.
    pub replicated: u64,
    /// Of the replicated ones those that a block covers.
    pub r#final: u64,
    /// Of the local ones those whose replication was tried, by what holds it back.
    pub short: Vec<Held>,
}

/// Who decides blocks, and who of them is there.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinalityInfo {
    /// Organisations that vote.
    pub validators: u32,
    /// Votes that make a block final.
    pub quorum: u32,
    /// Of the validators those we are connected with, ourselves included.
    pub present: u32,
    /// The names of the others.
    pub missing: Vec<String>,
    /// Entries that wait for a block.
    pub waiting: u64,
    /// The height that this node helps to decide now.
    pub deciding: Option<Height>,
    /// The round that is in.
    pub round: u32,
    /// Why this node does not vote although it should.
    pub halted: Option<String>,
    /// Who was shown to have signed two things that exclude each other, and how.
    pub accused: Vec<AccusedInfo>,
}

/// Evidence against somebody, which `ledger evidence` writes to a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccusedInfo {
    /// Whose node or key it is, as far as the ledger tells.
    pub organisation: Option<String>,
    /// The node's id, or the key it votes with.
    pub key: String,
    /// What it did.
    pub offence: Offence,
    /// Where: the position in its log, or the height.
    pub at: u64,
    /// The block that covers the evidence; none does yet.
    pub height: Option<Height>,
}

/// What evidence shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Offence {
    /// A node signed two entries for one position of its log.
    TwoEntries,
    /// A validator signed two votes for one step of a round.
    TwoVotes,
}

/// How many packs a reason holds back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// In words: what would be lost.
    pub reason: String,
    /// How many.
    pub packs: u64,
}

/// What the node keeps, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredBytes {
    /// Of plaintext of our own records.
    pub records: ByteLen,
    /// Of our own packs.
    pub sealed: ByteLen,
    /// Of shards and packs of others.
    pub held_for_others: ByteLen,
    /// Taken on the disk in all.
    pub stored: ByteLen,
    /// Left on the disk.
    pub disk_free: ByteLen,
    /// What we promised to hold at most.
    pub capacity: ByteLen,
}

/// An organisation of the network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Its key.
    pub member: MemberId,
    /// Its name.
    pub name: String,
    /// How many nodes it runs.
    pub nodes: u32,
    /// Ours.
    pub own: bool,
}

/// A node the ledger lists.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeInfo {
    /// Its key.
    pub node: NodeId,
    /// Its organisation.
    pub member: MemberId,
    /// Its organisation's name.
    pub name: String,
    /// What it fails together with.
    pub region: String,
    /// Whose law applies to it.
    pub jurisdiction: String,
    /// What it promised to hold at most.
    pub capacity: ByteLen,
    /// We are connected to it, or are it.
    pub connected: bool,
    /// A block covers its coming, so that shards may be placed on it.
    pub in_block: bool,
    /// It was retired.
    pub retired: bool,
    /// When we last heard from it.
    pub last_heard_ms: Option<u64>,
}

/// A node we are connected to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerInfo {
    /// Its key.
    pub node: NodeId,
    /// Its organisation's name.
    pub name: String,
    /// What it fails together with.
    pub region: String,
    /// Where it is.
    pub address: String,
    /// Since when.
    pub connected_since_ms: u64,
    /// The last round trip, rounded up; none before the first ping.
    pub round_trip_ms: Option<u64>,
    /// Received from it.
    pub bytes_in: ByteLen,
    /// Sent to it.
    pub bytes_out: ByteLen,
}

/// How long an invite is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// Seconds from now.
    pub ttl_s: u64,
}

impl Query for InviteOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![("ttl_s", self.ttl_s.to_string())]
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut options = Self { ttl_s: 7 * 24 * 3600 };
        for pair in pairs {
            match pair.0.as_str() {
                "ttl_s" => options.ttl_s = value(pair, "a number of seconds")?,
                _ => return Err(QueryError::UnknownKey { key: pair.0.clone(), known: "ttl_s" }),
            }
        }
        Ok(options)
    }
}

/// An invite for another organisation, or another node of ours.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteInfo {
    /// What the other side passes to `bithealth join`.
    pub text: String,
    /// Good until then.
    pub expires_ms: u64,
}

/// The node heard that it should stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StopAnswer {
    /// Always.
    pub stopping: bool,
}

/// What a try to open a pack of others came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenedAnswer {
    /// Packs that opened, though they were not sealed for us.
    pub opened: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invite_options_read_back_from_their_pairs() {
        assert_eq!(InviteOptions { ttl_s: 5 }.to_query(), "?ttl_s=5");
        assert_eq!(InviteOptions::from_pairs(&[("ttl_s".into(), "5".into())]), Ok(InviteOptions { ttl_s: 5 }));
        assert_eq!(InviteOptions::from_pairs(&[]), Ok(InviteOptions { ttl_s: 604_800 }));
        let unknown = InviteOptions::from_pairs(&[("ttl".into(), "5".into())]);
        assert!(matches!(unknown, Err(QueryError::UnknownKey { .. })));
    }
}
