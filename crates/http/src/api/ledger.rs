//! The ledger, and proofs that leave the network.

use bithealth_types::{Digest, Height, NodeId, RecordId, Sequence};
use serde::{Deserialize, Serialize};

use crate::query::{Query, QueryError, value};

/// Headers in one answer.
pub const HEADERS_MAX: u32 = 1024;

/// Most bytes of a cosigned checkpoint.
pub const COSIGNED_LEN_MAX: usize = 64 * 1024;

/// An entry of an author's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EntryAt {
    /// Whose log.
    pub author: NodeId,
    /// Its position in it.
    pub sequence: Sequence,
}

/// What to prove: that this was on the ledger.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProofOf {
    /// The pack commit of the pack that holds this record.
    Record(RecordId),
    /// This entry.
    Entry(EntryAt),
    /// The entry that notarises this commitment.
    Commitment(Digest),
}

impl Query for ProofOf {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Record(record) => vec![("record", record.to_string())],
            Self::Entry(at) => vec![("author", at.author.to_string()), ("sequence", at.sequence.to_string())],
            Self::Commitment(commitment) => vec![("commitment", commitment.to_string())],
        }
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let find = |key: &str| pairs.iter().find(|pair| pair.0 == key);
        let known = ["record", "author", "sequence", "commitment"];
        if let Some(other) = pairs.iter().find(|pair| !known.contains(&pair.0.as_str())) {
            let known = "record, author, sequence, commitment";
            return Err(QueryError::UnknownKey { key: other.0.clone(), known });
        }
        if let Some(pair) = find("record") {
            return value(pair, "a record id").map(Self::Record);
        }
        if let Some(pair) = find("commitment") {
            return value(pair, "64 hexadecimal digits").map(Self::Commitment);
        }
        let none = (String::new(), String::new());
        let author = value(find("author").unwrap_or(&none), "a node id")?;
        let sequence: u64 = value(find("sequence").unwrap_or(&none), "a position")?;
        Ok(Self::Entry(EntryAt { author, sequence: Sequence(sequence) }))
    }
}

/// Which headers to give out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRange {
    /// The first.
    pub from: Height,
}

impl Query for HeaderRange {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![("from", self.from.to_string())]
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut range = Self { from: Height(1) };
        for pair in pairs {
            match pair.0.as_str() {
                "from" => range.from = Height(value(pair, "a height")?),
                _ => return Err(QueryError::UnknownKey { key: pair.0.clone(), known: "from" }),
            }
        }
        Ok(range)
    }
}

/// Which checkpoint to give out: that of the tip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CheckpointOf {
    /// The height of the checkpoint that whoever gets this one has: what is between is proven. 0 for none.
    pub since: Height,
}

impl Query for CheckpointOf {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        if self.since == Height(0) { vec![] } else { vec![("since", self.since.to_string())] }
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut of = Self { since: Height(0) };
        for pair in pairs {
            match pair.0.as_str() {
                "since" => of.since = Height(value(pair, "a height")?),
                _ => return Err(QueryError::UnknownKey { key: pair.0.clone(), known: "since" }),
            }
        }
        Ok(of)
    }
}

/// A checkpoint of the tip, for witnesses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointInfo {
    /// What names the network's history.
    pub origin: String,
    /// Its height.
    pub height: Height,
    /// The key this node signed it with, in the form of signed notes.
    pub key: String,
    /// A signed note; behind a proof, if one was asked for: what `add-checkpoint` of C2SP's tlog-witness takes.
    pub text: String,
}

/// Who cosigned the checkpoint that is the body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CosignedBy {
    /// The witness's key, in the form of signed notes.
    pub witness: String,
}

impl Query for CosignedBy {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        vec![("witness", self.witness.clone())]
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut witness = None;
        for (key, value) in pairs {
            match key.as_str() {
                "witness" => witness = Some(value.clone()),
                _ => return Err(QueryError::UnknownKey { key: key.clone(), known: "witness" }),
            }
        }
        let absent = || QueryError::Value { key: "witness".into(), value: String::new(), want: "a witness's key" };
        witness.map(|witness| Self { witness }).ok_or_else(absent)
    }
}

/// A witness, and the latest checkpoint of ours that it cosigned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WitnessInfo {
    /// Its name.
    pub name: String,
    /// Its key, in the form of signed notes.
    pub key: String,
    /// The height it cosigned.
    pub height: Height,
    /// When, by its own clock.
    pub time_ms: u64,
    /// The checkpoint, signed by this node and cosigned by the witness: anybody can check it with the two keys.
    pub note: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_prove_reads_back_from_its_pairs() {
        let entry = EntryAt { author: NodeId([1; 32]), sequence: Sequence(7) };
        for what in [ProofOf::Record(RecordId([2; 16])), ProofOf::Entry(entry), ProofOf::Commitment(Digest([3; 32]))] {
            let pairs: Vec<_> = what.pairs().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            assert_eq!(ProofOf::from_pairs(&pairs), Ok(what));
        }
        assert!(ProofOf::from_pairs(&[]).is_err());
        let unknown = ProofOf::from_pairs(&[("records".into(), "1".into())]);
        assert!(matches!(unknown, Err(QueryError::UnknownKey { .. })));
    }

    #[test]
    fn a_checkpoint_has_a_proof_if_one_is_asked_for() {
        assert_eq!(CheckpointOf::from_pairs(&[]), Ok(CheckpointOf { since: Height(0) }));
        assert_eq!(CheckpointOf { since: Height(0) }.to_query(), "");
        assert_eq!(CheckpointOf { since: Height(9) }.to_query(), "?since=9");
        assert_eq!(CheckpointOf::from_pairs(&[("since".into(), "9".into())]), Ok(CheckpointOf { since: Height(9) }));
        assert!(CheckpointOf::from_pairs(&[("from".into(), "1".into())]).is_err());
    }

    #[test]
    fn a_cosignature_is_of_one_witness() {
        let by = CosignedBy { witness: "w+00+a/b+".into() };
        assert_eq!(by.to_query(), "?witness=w%2B00%2Ba%2Fb%2B");
        assert_eq!(CosignedBy::from_pairs(&[("witness".into(), "w+00+a/b+".into())]), Ok(by));
        assert!(matches!(CosignedBy::from_pairs(&[]), Err(QueryError::Value { .. })));
        assert!(matches!(CosignedBy::from_pairs(&[("by".into(), "w".into())]), Err(QueryError::UnknownKey { .. })));
    }

    #[test]
    fn headers_begin_with_the_first_unless_another_is_asked_for() {
        assert_eq!(HeaderRange::from_pairs(&[]), Ok(HeaderRange { from: Height(1) }));
        assert_eq!(HeaderRange { from: Height(9) }.to_query(), "?from=9");
        assert!(HeaderRange::from_pairs(&[("to".into(), "1".into())]).is_err());
    }
}
