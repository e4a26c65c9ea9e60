//! The arguments of `admin`.

use std::path::PathBuf;

use bithealth_http::api::SurviveWanted;
use bithealth_types::ByteLen;
use clap::{Subcommand, ValueEnum};

use super::UnlockArgs;
use super::parse::{parse_jurisdiction, parse_len};

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
    /// Take another node of this organisation out for good, as the one a restore replaced
    Retire {
        /// The first digits of its id, as `bithealth status` shows it
        node: String,
    },
    /// Give this node, which is stopped, a new key to vote with; the old one is destroyed once the new one votes
    RotateKey {
        /// New keys of the whole organisation instead, after its kit or a machine was stolen; they count once the members
        /// approved them
        #[arg(long)]
        organisation: bool,
        /// See there.
        #[command(flatten)]
        unlock: UnlockArgs,
    },
    /// This node, which is stopped, stands in another place from now on; it holds for others there once the members
    /// approved the place (`propose labels`)
    Move {
        /// What fails together with it: a data centre, a town
        #[arg(long, value_name = "NAME")]
        region: String,
        /// Whose law applies to it: a country (ISO 3166), as in DE or US-CA
        #[arg(long, value_name = "CODE", value_parser = parse_jurisdiction)]
        jurisdiction: String,
        /// See there.
        #[command(flatten)]
        unlock: UnlockArgs,
    },
    /// This node, which is stopped, offers so much to others from now on. With 0 it is drained: it serves what it holds until
    /// others have that, and can go without a loss once `status` says that nothing is held for others any more
    Offer {
        /// How much, as 500GB or 2TiB
        #[arg(value_name = "SIZE", value_parser = parse_len)]
        capacity: ByteLen,
        /// See there.
        #[command(flatten)]
        unlock: UnlockArgs,
    },
    /// For a holder, who needs no node: make a key that can open a new era when most clinics are gone for good
    RecoveryKey {
        /// Where to write it; keep it offline
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// When most clinics are gone for good: go on with those that are left, as the holders of the recovery keys decide
    #[command(subcommand)]
    Recover(RecoverCommand),
}

/// `admin recover`
#[derive(Debug, Subcommand)]
pub enum RecoverCommand {
    /// On a node: write a recovery, for the holders to sign
    Propose {
        /// An organisation that goes on; once for each, all others lose their vote
        #[arg(long, required = true, value_name = "ORGANISATION")]
        keep: Vec<String>,
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// For a holder, who needs no node: sign a recovery, into the same file
    Sign {
        /// What `propose` wrote, or another holder signed
        recovery: PathBuf,
        /// The holder's key
        #[arg(long, value_name = "FILE")]
        key: PathBuf,
    },
    /// On a node: announce a recovery that enough holders signed, or hand over what a witness cosigned
    Submit {
        /// The recovery, or its cosigned note
        file: PathBuf,
    },
    /// On a node: write what the witnesses cosign, now and again after the delay
    Export {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// On a node: show how far the recovery is
    Status,
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
    /// This organisation goes on with the keys that `admin rotate-key --organisation` made
    Keys,
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
