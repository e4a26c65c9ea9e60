//! What the members decide by vote.

use bithealth_types::{Digest, Height};
use serde::{Deserialize, Serialize};

use super::SurviveWanted;
use crate::query::{Query, QueryError, value};

/// What is to change. Organisations are given by name, or by id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "change", rename_all = "kebab-case")]
pub enum Change {
    /// An organisation may join; made by `POST /v1/invites`.
    Invite {
        /// Its name.
        name: String,
        /// What its first node fails together with.
        region: String,
        /// Whose law applies to that node.
        jurisdiction: String,
        /// Who invites it.
        by: String,
        /// It may be used until then.
        expires_ms: u64,
    },
    /// An organisation is a member no more; its nodes are retired.
    Remove {
        /// The organisation.
        member: String,
    },
    /// Nodes of an organisation may stand there.
    Labels {
        /// The organisation.
        member: String,
        /// What they fail together with.
        region: String,
        /// Whose law applies to them.
        jurisdiction: String,
    },
    /// Whether an organisation votes, on blocks and on proposals.
    Voting {
        /// The organisation.
        member: String,
        /// Whether it does.
        votes: bool,
    },
    /// What packs survive unless their author says otherwise.
    Defaults {
        /// Regions and further nodes.
        survive: SurviveWanted,
    },
    /// An organisation goes on with other keys.
    Keys {
        /// The organisation; in a request it is the one that asks, and not named.
        member: Option<String>,
    },
}

const KINDS: &str = "remove, labels, voting, defaults or keys";
const KNOWN: &str = "change (remove, labels, voting, defaults, keys), member, region, jurisdiction, votes, survive";

impl Query for Change {
    fn pairs(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::Invite { name, .. } => vec![("change", "invite".to_owned()), ("member", name.clone())],
            Self::Remove { member } => vec![("change", "remove".to_owned()), ("member", member.clone())],
            Self::Labels { member, region, jurisdiction } => vec![
                ("change", "labels".to_owned()),
                ("member", member.clone()),
                ("region", region.clone()),
                ("jurisdiction", jurisdiction.clone()),
            ],
            Self::Voting { member, votes } => {
                vec![("change", "voting".to_owned()), ("member", member.clone()), ("votes", votes.to_string())]
            }
            Self::Defaults { survive } => {
                vec![("change", "defaults".to_owned()), ("survive", survive.to_string())]
            }
            Self::Keys { .. } => vec![("change", "keys".to_owned())],
        }
    }

    fn from_pairs(pairs: &[(String, String)]) -> Result<Self, QueryError> {
        let mut left = pairs.to_vec();
        let mut take = |key: &str, want: &'static str| match left.iter().position(|pair| pair.0 == key) {
            Some(at) => Ok(left.remove(at)),
            None => Err(QueryError::Value { key: key.to_owned(), value: String::new(), want }),
        };
        let organisation = "the name of an organisation";
        let kind = take("change", KINDS)?;
        let change = match kind.1.as_str() {
            "remove" => Self::Remove { member: take("member", organisation)?.1 },
            "labels" => Self::Labels {
                member: take("member", organisation)?.1,
                region: take("region", "a region")?.1,
                jurisdiction: take("jurisdiction", "a jurisdiction")?.1,
            },
            "voting" => Self::Voting {
                member: take("member", organisation)?.1,
                votes: value(&take("votes", "true or false")?, "true or false")?,
            },
            "defaults" => {
                Self::Defaults { survive: value(&take("survive", "REGIONS,NODES")?, "REGIONS,NODES as in 1,1")? }
            }
            "keys" => Self::Keys { member: None },
            _ => return Err(QueryError::Value { key: kind.0, value: kind.1, want: KINDS }),
        };
        match left.first() {
            Some(pair) => Err(QueryError::UnknownKey { key: pair.0.clone(), known: KNOWN }),
            None => Ok(change),
        }
    }
}

/// A proposal, and how it stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProposalInfo {
    /// What names it.
    pub id: Digest,
    /// What is to change.
    #[serde(flatten)]
    pub change: Change,
    /// Organisations with a vote that are for it.
    pub approved_by: Vec<String>,
    /// How many must be.
    pub needed: u32,
    /// Whether it passed, as far as is known here.
    pub passed: bool,
    /// The block it passed with; what it changes counts from there on.
    pub height: Option<Height>,
}

impl ProposalInfo {
    /// Approvals that are still due.
    pub fn missing(&self) -> u32 {
        if self.passed { 0 } else { self.needed.saturating_sub(self.approved_by.len() as u32) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &[(&str, &str)]) -> Vec<(String, String)> {
        text.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn changes_read_back_from_their_pairs() {
        let (member, region, jurisdiction) = ("Clinic & Co".to_owned(), "graz".to_owned(), "AT".to_owned());
        for change in [
            Change::Remove { member: member.clone() },
            Change::Labels { member: member.clone(), region, jurisdiction },
            Change::Voting { member, votes: false },
            Change::Defaults { survive: SurviveWanted { regions: 2, nodes: 0 } },
            Change::Keys { member: None },
        ] {
            let pairs: Vec<_> = change.pairs().into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
            assert_eq!(Change::from_pairs(&pairs), Ok(change));
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let refused = |text: &[(&str, &str)]| Change::from_pairs(&pairs(text)).unwrap_err().to_string();
        assert!(refused(&[]).contains("change="));
        assert!(refused(&[("change", "invite")]).contains("\"invite\""));
        assert!(refused(&[("change", "remove")]).contains("member="));
        assert!(refused(&[("change", "voting"), ("member", "a"), ("votes", "yes")]).contains("true or false"));
        assert!(refused(&[("change", "remove"), ("member", "a"), ("votes", "true")]).contains("\"votes\""));
    }
}
