//! Recovery when a majority of the validators is gone for good.

use bithealth_types::Height;
use serde::{Deserialize, Serialize};

use crate::query::{Query, QueryError};

/// Most bytes of what holders signed or witnesses cosigned.
pub const RECOVERY_LEN_MAX: usize = 128 * 1024;

/// Who should go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeepOptions {
    /// Organisations, by name or id.
    pub keep: Vec<String>,
}

impl Query for KeepOptions {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        self.keep.iter().map(|name| ("keep", name.clone())).collect()
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        if let Some(other) = pairs.iter().find(|pair| pair.0 != "keep") {
            return Err(QueryError::UnknownKey { key: other.0.clone(), known: "keep" });
        }
        let keep: Vec<String> = pairs.iter().map(|pair| pair.1.clone()).collect();
        if keep.is_empty() {
            let want = "the names of the organisations that go on";
            return Err(QueryError::Value { key: "keep".to_owned(), value: String::new(), want });
        }
        Ok(Self { keep })
    }
}

/// How far a recovery is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RecoveryStanding {
    /// None is announced.
    #[default]
    None,
    /// Enough holders signed it; the witnesses have not seen the delay pass.
    Announced,
    /// Its era begins with the next block.
    Ready,
    /// Its era has begun.
    Opened,
    /// A late block of the era before voided it.
    Void,
    /// Another one is announced that excludes it: nothing is decided here.
    Conflict,
}

/// Recovery, as this node knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecoveryInfo {
    /// Recoveries before the tip.
    pub era: u64,
    /// Whether anybody may recover this network.
    pub possible: bool,
    /// How many holders must sign.
    pub threshold: u32,
    /// How many witnesses must cosign.
    pub cosignatures: u32,
    /// Between the two cosignatures of a witness.
    pub delay_s: u64,
    /// How far the last one is.
    pub standing: RecoveryStanding,
    /// The era it opens.
    pub opens: Option<u64>,
    /// The last block of the era before.
    pub after: Option<Height>,
    /// Holders that signed it.
    pub holders: u32,
    /// Organisations that go on.
    pub goes_on: Vec<String>,
    /// Witnesses, and when each cosigned first and last.
    pub cosigned: Vec<(String, u64, u64)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_goes_on_reads_back_and_has_to_be_named() {
        let options = KeepOptions { keep: vec!["North & Co".into(), "South".into()] };
        let pairs: Vec<_> = options.pairs().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        assert_eq!(KeepOptions::from_pairs(&pairs), Ok(options));
        assert!(matches!(KeepOptions::from_pairs(&[]), Err(QueryError::Value { .. })));
        assert!(matches!(KeepOptions::from_pairs(&[("lose".into(), "a".into())]), Err(QueryError::UnknownKey { .. })));
    }
}
