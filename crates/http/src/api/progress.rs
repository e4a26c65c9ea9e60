//! Events of long work: verifying and restoring.

use bithealth_types::ByteLen;
use serde::{Deserialize, Serialize};

use crate::query::{Query, QueryError, value};

/// How thorough to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VerifyOptions {
    /// Read back every stored byte, not only the ledger and what the index lists.
    pub full: bool,
}

impl Query for VerifyOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        self.full.then(|| ("full", true.to_string())).into_iter().collect()
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut options = Self::default();
        for pair in pairs {
            match pair.0.as_str() {
                "full" => options.full = value(pair, "true or false")?,
                _ => return Err(QueryError::UnknownKey { key: pair.0.clone(), known: "full" }),
            }
        }
        Ok(options)
    }
}

/// What happens while the node verifies what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum VerifyEvent {
    /// From time to time.
    Progress {
        /// Read and checked so far.
        bytes: ByteLen,
        /// To be checked in all.
        bytes_total: ByteLen,
    },
    /// Something is not what it should be.
    Damaged {
        /// What, and where it lies.
        item: String,
        /// What is wrong with it.
        fault: String,
        /// Whether peers gave it back.
        repaired: bool,
    },
    /// The last event.
    Done {
        /// Items checked: packs, shards, entries, blocks.
        items: u64,
        /// Bytes read and checked.
        bytes: ByteLen,
        /// Entries whose signatures and order were checked.
        entries: u64,
        /// Blocks whose certificates and roots were checked.
        blocks: u64,
        /// Items found damaged.
        damaged: u64,
        /// Of them repaired.
        repaired: u64,
    },
}

/// How far a restore is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestorePhase {
    /// Finding peers that answer.
    Connecting,
    /// Fetching and checking the ledger.
    Ledger,
    /// Fetching the packs of our organisation.
    Packs,
}

impl std::fmt::Display for RestorePhase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Connecting => "finding peers",
            Self::Ledger => "fetching the ledger",
            Self::Packs => "fetching packs",
        })
    }
}

/// What happens during a restore.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum RestoreEvent {
    /// From time to time, and when the phase changes.
    Progress {
        /// Where it is.
        phase: RestorePhase,
        /// Packs restored.
        packs: u64,
        /// Packs to restore, as far as known.
        packs_total: u64,
        /// Bytes restored.
        bytes: ByteLen,
        /// Bytes to restore, as far as known.
        bytes_total: ByteLen,
        /// Records readable again.
        records: u64,
        /// Peers connected.
        peers: u64,
    },
    /// A pack cannot be restored now; it is tried again while the node runs.
    Failed {
        /// Which.
        pack: String,
        /// How many records it holds, if its catalog is known.
        records: Option<u64>,
        /// Why.
        reason: String,
    },
    /// The last event.
    Done {
        /// Records readable again.
        records: u64,
        /// Bytes of packs restored.
        bytes: ByteLen,
        /// Packs restored.
        packs: u64,
        /// Packs that could not be.
        packs_failed: u64,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verify_options_read_back_from_their_pairs() {
        assert_eq!(VerifyOptions { full: true }.to_query(), "?full=true");
        let pairs = [("full".to_owned(), "true".to_owned())];
        assert_eq!(VerifyOptions::from_pairs(&pairs), Ok(VerifyOptions { full: true }));
        assert_eq!(VerifyOptions::default().to_query(), "");
        let pairs = [("ful".to_owned(), "true".to_owned())];
        assert!(matches!(VerifyOptions::from_pairs(&pairs), Err(QueryError::UnknownKey { .. })));
    }

    #[test]
    fn a_phase_reads_as_people_say_it() {
        assert_eq!(RestorePhase::Packs.to_string(), "fetching packs");
        assert_eq!(serde_json::to_string(&RestorePhase::Packs).unwrap(), "\"packs\"");
    }
}
