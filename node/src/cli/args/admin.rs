//! The arguments of `admin`.

use bithealth_http::api::SurviveWanted;
use clap::{Subcommand, ValueEnum};

use super::parse::parse_jurisdiction;

/// `admin`
#[derive(Debug, Subcommand)]
pub enum AdminCommand {
    /// List what was proposed to the members, and who is for it
    Proposals,
    /// Propose a change; your organisation is for it
    #[command(subcommand)]
    Propose(ProposeCommand),
    /// Approve a proposal for your organisation
    Approve {
        /// Its id, as `proposals` shows it
        proposal: String,
    },
}

/// `admin propose`
#[derive(Debug, Subcommand)]
pub enum ProposeCommand {
    /// An organisation is a member no more, and its nodes hold nothing new; so you leave, too
    Remove {
        /// Its name
        organisation: String,
    },
    /// Nodes of an organisation may stand in another place
    Labels {
        /// Its name
        organisation: String,
        /// What fails together with them: a data centre, a town
        #[arg(long, value_name = "NAME")]
        region: String,
        /// Whose law applies to them: a country (ISO 3166), as in DE or US-CA
        #[arg(long, value_name = "CODE", value_parser = parse_jurisdiction)]
        jurisdiction: String,
    },
    /// Whether an organisation votes, on blocks and on proposals
    Voting {
        /// Its name
        organisation: String,
        /// Whether it does
        votes: Switch,
    },
    /// What records survive unless their author says otherwise
    Defaults {
        /// As 1,1 for a region and a further node
        #[arg(value_name = "REGIONS,NODES")]
        survive: SurviveWanted,
    },
}

/// Yes or no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Switch {
    /// It does.
    On,
    /// It does not.
    Off,
}

impl Switch {
    /// Whether it is on.
    pub fn is_on(self) -> bool {
        self == Self::On
    }
}
