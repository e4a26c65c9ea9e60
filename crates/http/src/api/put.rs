//! Putting records.

use bithealth_types::{ByteLen, Height, RecordId};
use serde::{Deserialize, Serialize};

use super::RecordState;
use crate::query::{Query, QueryError, value};

/// How a put is kept, and when it is answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PutOptions {
    /// Names of other organisations that may read these records.
    pub for_: Vec<String>,
    /// What they must survive; the node's own policy if `None`.
    pub survive: Option<SurviveWanted>,
    /// Jurisdictions they must stay in; the node's own policy if empty.
    pub keep_in: Vec<String>,
    /// When the put is done.
    pub wait: Wait,
}

/// What must be able to fail at once without a loss. Written `REGIONS,NODES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurviveWanted {
    /// Whole regions.
    pub regions: u32,
    /// Further nodes.
    pub nodes: u32,
}

impl std::str::FromStr for SurviveWanted {
    type Err = SurviveError;

    fn from_str(text: &str) -> Result<Self, SurviveError> {
        let read = || {
            let (regions, nodes) = text.split_once(',')?;
            Some(Self { regions: regions.trim().parse().ok()?, nodes: nodes.trim().parse().ok()? })
        };
        read().ok_or_else(|| SurviveError { got: text.to_owned() })
    }
}

/// Why a text is not a [`SurviveWanted`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{got:?} is not what must survive: REGIONS,NODES is due, as in 1,1")]
pub struct SurviveError {
    /// What came.
    pub got: String,
}

impl std::fmt::Display for SurviveWanted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.regions, self.nodes)
    }
}

/// When a put is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// When every record is durable on this node.
    #[default]
    Local,
    /// When it can be told how safe every record is: its policy holds, or it is known what stands in the way, or the time
    /// is up.
    Told {
        /// The longest wait after the last record is durable here.
        timeout_ms: u64,
    },
    /// When the shards of every record stand so that the policy holds, or the time is up.
    Replicated {
        /// The longest wait after the last record is durable here.
        timeout_ms: u64,
    },
    /// When besides a block covers every record, or the time is up.
    Final {
        /// The longest wait after the last record is durable here.
        timeout_ms: u64,
    },
}

impl Query for PutOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs: Vec<_> = self.for_.iter().map(|name| ("for", name.clone())).collect();
        pairs.extend(self.survive.map(|survive| ("survive", survive.to_string())));
        pairs.extend(self.keep_in.iter().map(|code| ("keep_in", code.clone())));
        match self.wait {
            Wait::Local => {}
            Wait::Told { timeout_ms } => pairs.push(("wait_told_ms", timeout_ms.to_string())),
            Wait::Replicated { timeout_ms } => pairs.push(("wait_replicated_ms", timeout_ms.to_string())),
            Wait::Final { timeout_ms } => pairs.push(("wait_final_ms", timeout_ms.to_string())),
        }
        pairs
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut options = Self::default();
        for pair in pairs {
            match pair.0.as_str() {
                "for" => options.for_.push(pair.1.clone()),
                "survive" => options.survive = Some(value(pair, "REGIONS,NODES")?),
                "keep_in" => options.keep_in.push(pair.1.clone()),
                "wait_told_ms" => options.wait = Wait::Told { timeout_ms: value(pair, "a number of milliseconds")? },
                "wait_replicated_ms" => {
                    options.wait = Wait::Replicated { timeout_ms: value(pair, "a number of milliseconds")? }
                }
                "wait_final_ms" => options.wait = Wait::Final { timeout_ms: value(pair, "a number of milliseconds")? },
                _ => {
                    let known = "for, survive, keep_in, wait_told_ms, wait_replicated_ms, wait_final_ms";
                    return Err(QueryError::UnknownKey { key: pair.0.clone(), known });
                }
            }
        }
        Ok(options)
    }
}

/// What happens during a put, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum PutEvent {
    /// A record is durable on this node.
    Record {
        /// As it was put.
        name: String,
        /// What names it from now on.
        record: RecordId,
        /// Of plaintext.
        bytes: ByteLen,
        /// Local here; a later `done` tells of more.
        state: RecordState,
        /// The same document was there before: nothing new is stored, `record` is the old one.
        unchanged: bool,
        /// Whose it is, if known.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        patient: Option<String>,
        /// What is odd about it: accepted all the same.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// A record was not taken; the others go on.
    Failed {
        /// As it was put.
        name: String,
        /// What happened.
        error: String,
    },
    /// From time to time.
    Progress {
        /// Of plaintext taken so far.
        bytes: ByteLen,
        /// Records durable so far.
        records: u64,
        /// Packs whose shards stand elsewhere, while waiting for `replicated`.
        packs_replicated: u64,
        /// Packs these records are in, so far.
        packs: u64,
    },
    /// The last event.
    Done {
        /// Records durable.
        records: u64,
        /// Of them unchanged.
        unchanged: u64,
        /// Records not taken.
        failed: u64,
        /// Of plaintext.
        bytes: ByteLen,
        /// Of new packs.
        sealed_bytes: ByteLen,
        /// What holds for all of them.
        state: RecordState,
        /// The height of the block that covers the last of them, where they are final.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        height: Option<Height>,
        /// Why what was asked for does not hold.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        why_not: Vec<String>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_read_back_from_their_pairs() {
        let (told, replicated) = (Wait::Told { timeout_ms: 7 }, Wait::Replicated { timeout_ms: 60_000 });
        for wait in [Wait::Local, told, replicated, Wait::Final { timeout_ms: 9 }] {
            let options = PutOptions {
                for_: vec!["St. Anna & Söhne".into(), "b".into()],
                survive: Some(SurviveWanted { regions: 1, nodes: 2 }),
                keep_in: vec!["EU".into()],
                wait,
            };
            let pairs: Vec<_> = options.pairs().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            assert_eq!(PutOptions::from_pairs(&pairs), Ok(options));
        }
        assert_eq!(PutOptions::default().to_query(), "");
    }

    #[test]
    fn a_misspelt_option_is_refused() {
        let error = PutOptions::from_pairs(&[("keepin".into(), "EU".into())]).unwrap_err();
        assert!(matches!(error, QueryError::UnknownKey { key, .. } if key == "keepin"));
    }

    #[test]
    fn a_value_of_the_wrong_kind_is_refused() {
        for (key, value) in [("survive", "1"), ("survive", "1,x"), ("wait_replicated_ms", "-1")] {
            let error = PutOptions::from_pairs(&[(key.into(), value.into())]).unwrap_err();
            assert!(matches!(error, QueryError::Value { .. }), "{key}={value}");
        }
    }

    #[test]
    fn events_carry_their_kind() {
        let event = PutEvent::Failed { name: "a".into(), error: "b".into() };
        assert_eq!(serde_json::to_string(&event).unwrap(), r#"{"event":"failed","name":"a","error":"b"}"#);
    }
}
