//! What placement knows of a node, and what an owner asks of it.

use bithealth_types::{MemberId, NodeId};

/// A node that can hold shards.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Site {
    /// The node.
    pub node: NodeId,
    /// Its organisation.
    pub member: MemberId,
    /// What fails together with it.
    pub region: String,
    /// Whose law applies to it.
    pub jurisdiction: String,
    /// Bytes it offers to others: its weight. A node that offers none holds shards of its own packs only.
    pub capacity: u64,
}

/// What may be lost at once without losing a pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Survive {
    /// Whole regions.
    pub regions: u32,
    /// Nodes besides; whole organisations where there are enough of them ([`crate::Unit`]).
    pub nodes: u32,
}

/// What an owner asks of the placement of a pack.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// What must survive.
    pub survive: Survive,
    /// Jurisdictions in which shards may lie, compared letter by letter; empty: anywhere.
    pub keep_in: Vec<String>,
    /// Fewer than k shards in any jurisdiction but the author's own, so that no other state can restore alone.
    pub no_single_state: bool,
}

impl Policy {
    /// Whether a shard may lie in this jurisdiction.
    pub fn allows(&self, jurisdiction: &str) -> bool {
        self.keep_in.is_empty() || self.keep_in.iter().any(|kept| kept == jurisdiction)
    }
}
