//! The network and this node in it.

use bithealth_types::{ByteLen, GenesisId, Height, MemberId, NodeId};
use serde::{Deserialize, Serialize};

use crate::api::{AuditInfo, ProposalInfo, RecoveryInfo, ScrubInfo, WitnessInfo};
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
    /// Whether a recovery goes on.
    pub recovery: RecoveryInfo,
    /// Proposals that have not passed, and that our organisation has not approved.
    pub proposals: u64,
    /// Organisations of the network.
    pub members: Vec<MemberInfo>,
    /// All nodes the ledger lists, this one included.
    pub nodes: Vec<NodeInfo>,
    /// How others reach this node.
    pub reach: ReachInfo,
    /// Our packs.
    pub packs: KeptPacks,
    /// How far packs are from being lost, and what is rebuilt.
    pub repair: RepairInfo,
    /// How far what lies here was read back.
    pub scrub: ScrubInfo,
    /// Records we can read.
    pub records: u64,
    /// Of them put by our organisation.
    pub own_records: u64,
    /// Bytes.
    pub bytes: StoredBytes,
    /// What could go wrong soon, in words.
    pub warnings: Vec<String>,
}

/// How others reach a node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReachInfo {
    /// In short.
    pub how: Reach,
    /// Addresses at which others did, when they tried.
    pub addresses: Vec<String>,
    /// Nodes through which others reach it besides.
    pub relays: Vec<RelayInfo>,
    /// Whether it relays for others.
    pub serves: bool,
}

/// Whether others can connect with a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// Nobody has tried yet.
    #[default]
    Unknown,
    /// Yes.
    Direct,
    /// A NAT or a firewall is in between; through other nodes they can.
    Relayed,
    /// No: there are only the connections it opens itself.
    OutgoingOnly,
}

/// A node that relays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInfo {
    /// Its key.
    pub node: NodeId,
    /// Its organisation's name.
    pub name: String,
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

/// How far packs are from being lost, as this node sees it, and what is rebuilt.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairInfo {
    /// Packs of the network by how many more nodes may be lost, the most endangered first.
    pub margins: Vec<PacksAt>,
    /// Packs with shards that are missing, in the whole network.
    pub waiting_packs: u64,
    /// Shards that were lost with their holders, or whose holders leave, in the whole network.
    pub missing_shards: u64,
    /// Their bytes.
    pub missing_bytes: ByteLen,
    /// Of the missing shards those that no node can take, since each has another shard of the same pack.
    pub untaken_shards: u64,
    /// Until the next silent node counts as lost and what it holds is rebuilt; none is silent.
    pub begins_in_s: Option<u64>,
    /// Until nothing is missing any more, at the speed of the last minutes.
    pub done_in_s: Option<u64>,
    /// Shards rebuilt here since the node started.
    pub rebuilt_shards: u64,
    /// Their bytes.
    pub rebuilt_bytes: ByteLen,
}

/// Packs that stand alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PacksAt {
    /// How many more nodes may be lost, whichever they are; negative: so many shards are missing to restore.
    pub margin: i64,
    /// Packs of our organisation.
    pub own: u64,
    /// Packs of all.
    pub all: u64,
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
    /// Bytes of shards that its nodes hold for other organisations.
    pub given: ByteLen,
    /// Bytes of its shards that other organisations hold.
    pub used: ByteLen,
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
    /// Whether it has what it should have.
    pub audit: AuditInfo,
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
    /// Where it is, or the node that relays.
    pub address: String,
    /// The node that relays; none: it is connected directly.
    pub relay: Option<NodeId>,
    /// Since when.
    pub connected_since_ms: u64,
    /// The last round trip, rounded up; none before the first ping.
    pub round_trip_ms: Option<u64>,
    /// Received from it.
    pub bytes_in: ByteLen,
    /// Sent to it.
    pub bytes_out: ByteLen,
}

/// Whom to invite.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InviteOptions {
    /// The new organisation's name.
    pub name: String,
    /// What its first node fails together with.
    pub region: String,
    /// Whose law applies to that node.
    pub jurisdiction: String,
    /// How long it is good for, in seconds from now.
    pub ttl_s: u64,
}

impl Query for InviteOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![
            ("name", self.name.clone()),
            ("region", self.region.clone()),
            ("jurisdiction", self.jurisdiction.clone()),
            ("ttl_s", self.ttl_s.to_string()),
        ]
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let [mut name, mut region, mut jurisdiction] = [const { String::new() }; 3];
        let mut ttl_s = 7 * 24 * 3600;
        for pair in pairs {
            match pair.0.as_str() {
                "name" => name.clone_from(&pair.1),
                "region" => region.clone_from(&pair.1),
                "jurisdiction" => jurisdiction.clone_from(&pair.1),
                "ttl_s" => ttl_s = value(pair, "a number of seconds")?,
                _ => {
                    let known = "name, region, jurisdiction, ttl_s";
                    return Err(QueryError::UnknownKey { key: pair.0.clone(), known });
                }
            }
        }
        let all = [("name", &name), ("region", &region), ("jurisdiction", &jurisdiction)];
        if let Some((key, _)) = all.iter().find(|(_, value)| value.is_empty()) {
            let want = "the name, region and jurisdiction of the new organisation";
            return Err(QueryError::Value { key: (*key).to_owned(), value: String::new(), want });
        }
        Ok(Self { name, region, jurisdiction, ttl_s })
    }
}

/// An invite for another organisation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteInfo {
    /// What the other side passes to `bithealth join`, once the proposal passed.
    pub text: String,
    /// Good until then.
    pub expires_ms: u64,
    /// What the members vote on.
    pub proposal: ProposalInfo,
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
        let pairs: Vec<(String, String)> = [("name", "South Clinic"), ("region", "south"), ("jurisdiction", "FR")]
            .map(|(k, v)| (k.into(), v.into()))
            .into();
        let mut options = InviteOptions::from_pairs(&pairs).unwrap();
        assert_eq!(options.ttl_s, 604_800);
        options.ttl_s = 5;
        assert_eq!(options.to_query(), "?name=South%20Clinic&region=south&jurisdiction=FR&ttl_s=5");
        let missing = InviteOptions::from_pairs(&pairs[..2]).unwrap_err().to_string();
        assert!(missing.contains("jurisdiction="), "{missing}");
        let unknown = InviteOptions::from_pairs(&[("ttl".into(), "5".into())]);
        assert!(matches!(unknown, Err(QueryError::UnknownKey { .. })));
    }
}
