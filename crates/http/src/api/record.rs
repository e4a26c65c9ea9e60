//! Records as they are listed.

use bithealth_types::{ByteLen, Height, NodeId, RecordId};
use serde::{Deserialize, Serialize};

use crate::error::ErrorBody;
use crate::query::{Query, QueryError, value};

/// Most records of one list; a longer one goes on with `after`.
pub const LIST_LIMIT_MAX: u32 = 1_000_000;

/// How safe a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecordState {
    /// Durable on the node that took it.
    Local,
    /// Its shards stand so that its owner's policy holds.
    Replicated,
    /// Besides, a block covers it, which nobody can take back.
    Final,
}

impl std::fmt::Display for RecordState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Local => "local",
            Self::Replicated => "replicated",
            Self::Final => "final",
        })
    }
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordInfo {
    /// What names it.
    pub record: RecordId,
    /// As it was put.
    pub name: String,
    /// Empty: none.
    pub patient: String,
    /// With the patient, its folder.
    pub category: String,
    /// As declared or recognised.
    pub media_type: String,
    /// Of plaintext.
    pub bytes: ByteLen,
    /// When it was put.
    pub time_ms: u64,
    /// Whose node put it.
    pub organisation: String,
    /// The node that put it.
    pub author: NodeId,
    /// How safe it is.
    pub state: RecordState,
    /// The height of the block that covers it, where it is final.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub height: Option<Height>,
    /// Put by our organisation, not shared with us.
    pub own: bool,
}

/// Which records to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListFilter {
    /// Of this patient only.
    pub patient: Option<String>,
    /// Of this category only.
    pub category: Option<String>,
    /// Whose name fits this pattern: `*` any characters, `?` one.
    pub name: Option<String>,
    /// Of our organisation only.
    pub own: bool,
    /// At most so many; [`LIST_LIMIT_MAX`] if `None`.
    pub limit: Option<u32>,
    /// Those that come after this one.
    pub after: Option<RecordId>,
}

impl Query for ListFilter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = Vec::new();
        pairs.extend(self.patient.clone().map(|patient| ("patient", patient)));
        pairs.extend(self.category.clone().map(|category| ("category", category)));
        pairs.extend(self.name.clone().map(|name| ("name", name)));
        pairs.extend(self.own.then(|| ("own", true.to_string())));
        pairs.extend(self.limit.map(|limit| ("limit", limit.to_string())));
        pairs.extend(self.after.map(|record| ("after", record.to_string())));
        pairs
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut filter = Self::default();
        for pair in pairs {
            match pair.0.as_str() {
                "patient" => filter.patient = Some(pair.1.clone()),
                "category" => filter.category = Some(pair.1.clone()),
                "name" => filter.name = Some(pair.1.clone()),
                "own" => filter.own = value(pair, "true or false")?,
                "limit" => filter.limit = Some(value::<u32>(pair, "a number")?.min(LIST_LIMIT_MAX)),
                "after" => filter.after = Some(value(pair, "a record id")?),
                _ => {
                    let known = "patient, category, name, own, limit, after";
                    return Err(QueryError::UnknownKey { key: pair.0.clone(), known });
                }
            }
        }
        Ok(filter)
    }
}

/// Which records to export.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ExportFilter {
    /// Of this patient only.
    pub patient: Option<String>,
    /// Of this category only.
    pub category: Option<String>,
    /// Of our organisation only.
    pub own: bool,
}

impl Query for ExportFilter {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let Self { patient, category, own } = self.clone();
        ListFilter { patient, category, own, ..ListFilter::default() }.pairs()
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut filter = Self::default();
        for pair in pairs {
            match pair.0.as_str() {
                "patient" => filter.patient = Some(pair.1.clone()),
                "category" => filter.category = Some(pair.1.clone()),
                "own" => filter.own = value(pair, "true or false")?,
                _ => return Err(QueryError::UnknownKey { key: pair.0.clone(), known: "patient, category, own" }),
            }
        }
        Ok(filter)
    }
}

/// The last byte of a file from which on a record can be written, so that all of it has a place.
pub const INTO_MAX: u64 = 1 << 62;

/// How a record is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GetOptions {
    /// From which byte on it is written into the open file that comes with the connection; `None`: it is the answer.
    pub into: Option<u64>,
}

impl Query for GetOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        self.into.map(|offset| ("into", offset.to_string())).into_iter().collect()
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut options = Self::default();
        for pair in pairs {
            match pair.0.as_str() {
                "into" => {
                    let want = "a place in a file, in bytes from its start,";
                    let place = value(pair, want)?;
                    if place > INTO_MAX {
                        return Err(QueryError::Value { key: pair.0.clone(), value: pair.1.clone(), want });
                    }
                    options.into = Some(place);
                }
                _ => return Err(QueryError::UnknownKey { key: pair.0.clone(), known: "into" }),
            }
        }
        Ok(options)
    }
}

/// What happens while a record is written into an open file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum GetEvent {
    /// Comes first.
    Found {
        /// What it is.
        info: RecordInfo,
        /// The first of its bytes that are written.
        start: u64,
        /// The byte behind the last of them.
        end: u64,
    },
    /// From time to time, and once all are, if there are any.
    Written {
        /// So many of them are in the file without a gap.
        bytes: ByteLen,
    },
    /// Nothing more comes.
    Failed {
        /// Why not.
        error: ErrorBody,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_goes_to_a_place_that_a_file_can_have() {
        let read = |value: &str| GetOptions::from_pairs(&owned(vec![("into", value.to_owned())]));
        for place in [0, 7, INTO_MAX] {
            let options = GetOptions { into: Some(place) };
            assert_eq!(GetOptions::from_pairs(&owned(options.pairs())), Ok(options));
        }
        for refused in [(INTO_MAX + 1).to_string(), u64::MAX.to_string(), "-1".to_owned(), String::new()] {
            assert!(matches!(read(&refused), Err(QueryError::Value { .. })), "{refused}");
        }
        assert!(matches!(
            GetOptions::from_pairs(&owned(vec![("onto", "0".to_owned())])),
            Err(QueryError::UnknownKey { .. })
        ));
    }

    fn owned(pairs: Vec<(&'static str, String)>) -> Vec<(String, String)> {
        pairs.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
    }

    #[test]
    fn filters_read_back_from_their_pairs() {
        let list = ListFilter {
            patient: Some("p 1".into()),
            category: Some("laboratory".into()),
            name: Some("*.json".into()),
            own: true,
            limit: Some(5),
            after: Some(RecordId([3; 16])),
        };
        assert_eq!(ListFilter::from_pairs(&owned(list.pairs())), Ok(list));
        let export = ExportFilter { patient: Some("p".into()), category: Some("imaging".into()), own: true };
        assert_eq!(ExportFilter::from_pairs(&owned(export.pairs())), Ok(export));
        assert_eq!(ListFilter::default().to_query(), "");
    }

    #[test]
    fn an_unknown_filter_is_refused() {
        let pairs = [("patientid".to_owned(), "p".to_owned())];
        assert!(matches!(ListFilter::from_pairs(&pairs), Err(QueryError::UnknownKey { .. })));
        assert!(matches!(ExportFilter::from_pairs(&pairs), Err(QueryError::UnknownKey { .. })));
    }

    #[test]
    fn a_list_never_has_more_than_its_limit() {
        let at = |limit: u32| ListFilter::from_pairs(&[("limit".into(), limit.to_string())]).unwrap().limit;
        assert_eq!(at(LIST_LIMIT_MAX), Some(LIST_LIMIT_MAX));
        assert_eq!(at(LIST_LIMIT_MAX + 1), Some(LIST_LIMIT_MAX));
    }
}
