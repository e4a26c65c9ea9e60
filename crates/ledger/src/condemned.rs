//! Holders that failed the audits of others.
//!
//! What an audit showed convinces only its auditor: how late an answer came, and that none came, nobody else saw. So a
//! condemnation is a word, and one organisation's word moves nobody's shards: it takes one more than may lie
//! ([`crate::State::condemned`]). A word holds for two weeks, and its author may take it back; an auditor that still finds
//! fault gives it again.

use std::collections::BTreeMap;

use bithealth_proto::v1;
use bithealth_types::{NodeId, PackId, ShardIndex};

/// A word against a holder counts for so long.
pub const CONDEMNED_FOR_MS: u64 = 14 * 24 * 3_600_000;
/// Organisations that have to condemn a holder, at least, however few there are.
pub const CONDEMNERS_MIN: usize = 2;

/// The word of one node against a holder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condemned {
    /// Against whom.
    pub holder: NodeId,
    /// Whose word.
    pub by: NodeId,
    /// The clock of whoever gave it.
    pub time_ms: u64,
    /// What the last audit showed.
    pub fault: v1::AuditFault,
    /// The nonce of that audit.
    pub nonce: [u8; 32],
    /// The shard that showed it; none where the answer as a whole did.
    pub shard: Option<(PackId, ShardIndex)>,
}

/// The latest word of each node on each holder. What an author says last counts, so the order of arrival does not matter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Judgements {
    /// By holder, then by author.
    words: BTreeMap<NodeId, BTreeMap<NodeId, Condemned>>,
}

impl Judgements {
    /// `condemnation` was checked.
    pub(crate) fn condemn(&mut self, by: NodeId, time_ms: u64, condemnation: &v1::Condemnation) {
        let Ok(holder) = NodeId::try_from(condemnation.node.as_ref()) else { return };
        let Ok(nonce) = condemnation.nonce.as_ref().try_into() else { return };
        let pack = PackId::try_from(condemnation.pack.as_ref()).ok();
        let shard = pack.map(|pack| (pack, ShardIndex(condemnation.shard as u16)));
        let word = Condemned { holder, by, time_ms, fault: condemnation.fault(), nonce, shard };
        self.words.entry(holder).or_default().insert(by, word);
    }

    pub(crate) fn absolve(&mut self, by: &NodeId, holder: &NodeId) {
        let Some(words) = self.words.get_mut(holder) else { return };
        words.remove(by);
        if words.is_empty() {
            self.words.remove(holder);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Condemned> {
        self.words.values().flat_map(BTreeMap::values)
    }

    pub(crate) fn against(&self, holder: &NodeId) -> impl Iterator<Item = &Condemned> {
        self.words.get(holder).into_iter().flat_map(BTreeMap::values)
    }

    /// What two equal tables encode alike.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        for word in self.iter() {
            out.extend(word.holder.0);
            out.extend(word.by.0);
            out.extend(word.time_ms.to_be_bytes());
            out.extend((word.fault as i32).to_be_bytes());
            out.extend(word.nonce);
            if let Some((pack, shard)) = word.shard {
                out.extend(pack.0);
                out.extend(shard.0.to_be_bytes());
            }
        }
    }
}
