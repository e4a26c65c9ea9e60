//! The arguments of every command.

mod admin;
mod parse;

use std::path::PathBuf;
use std::time::Duration;

use bithealth_http::ByteRange;
use bithealth_http::api::SurviveWanted;
use bithealth_ledger::VerifierKey;
use bithealth_types::{ByteLen, RecordId};
use clap::{Args, Parser, Subcommand, ValueEnum};

use super::exit::EXIT_HELP;
pub use admin::{AdminCommand, ProposeCommand, RecoverCommand, Switch};
pub(crate) use parse::parse_duration;
use parse::{parse_jurisdiction, parse_len, parse_listen};

/// Health records that outlive any machine, clinic or region, and that only those who were given them can read.
#[derive(Debug, Parser)]
#[command(name = "bithealth", version, after_help = EXIT_HELP, disable_help_subcommand = true)]
pub struct Cli {
    /// The node's folder [default: /var/lib/bithealth if it exists, else ~/.local/share/bithealth]
    #[arg(long, global = true, env = "BITHEALTH_DATA_DIR", value_name = "FOLDER")]
    pub data_dir: Option<PathBuf>,
    /// Print JSON, one object a line, for programs
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Found a network, with this machine as its first node
    Init(InitArgs),
    /// Invite another organisation, which the members vote on
    Invite(InviteArgs),
    /// Join a network with an invite
    Join(JoinArgs),
    /// Run the node in the foreground
    Node(NodeArgs),
    /// Fetch a pack that was not sealed for this organisation, with all its shards, and try to open it
    #[command(hide = true)]
    OpenForeign,
    /// Stop the running node in order
    Stop,
    /// Put files and folders into the network
    ///
    /// Records of a folder are named by their path inside it. Symbolic links in a folder are not followed, but named.
    Put(PutArgs),
    /// Get one record, a patient's records, or all of them
    Get(GetArgs),
    /// List the records this node can read
    Ls(LsArgs),
    /// Show what is safe, what is not, and who is there
    Status,
    /// Show the nodes that are connected
    Peers,
    /// Check what this node holds, and repair it from peers
    Verify(VerifyArgs),
    /// Print the recovery kit: whoever has it can read and restore everything, so keep it like a key
    Kit(KitArgs),
    /// Get everything back on an empty machine, from a recovery kit
    Restore(RestoreArgs),
    /// Prove later that a file existed now, unchanged, without showing it to anybody
    Notarise(NotariseArgs),
    /// Propose changes to the members, and vote on them
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Check the history, and prove to outsiders what is in it
    #[command(subcommand)]
    Ledger(LedgerCommand),
    /// Start a network of several regions on this machine, lose a part of it, and get the records back
    Demo(DemoArgs),
}

/// Where a new node stands and what it offers.
#[derive(Clone, Debug, Args)]
pub struct SiteArgs {
    /// What fails together with this node: a data centre, a town
    #[arg(long, value_name = "NAME")]
    pub region: String,
    /// Whose law applies to this node: a country (ISO 3166), as in DE or US-CA
    #[arg(long, value_name = "CODE", value_parser = parse_jurisdiction)]
    pub jurisdiction: String,
    /// See there.
    #[command(flatten)]
    pub offer: OfferArgs,
}

/// What a new node offers.
#[derive(Clone, Debug, Args)]
pub struct OfferArgs {
    /// Where to listen for peers, as 0.0.0.0:4001 or a multiaddress; several times for several
    #[arg(long, value_name = "ADDRESS", value_parser = parse_listen)]
    pub listen: Vec<String>,
    /// How much to hold for others, as 500GB or 2TiB [default: 100GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_len)]
    pub capacity: Option<ByteLen>,
}

/// What opens the node's keys. Without either, the passphrase is asked for on the terminal.
#[derive(Clone, Debug, Default, Args)]
pub struct UnlockArgs {
    /// Read the passphrase from the first line of this file
    #[arg(long, value_name = "FILE", env = "BITHEALTH_PASSPHRASE_FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Use this key file instead of a passphrase; a new node creates it if it is absent
    #[arg(long, value_name = "FILE", env = "BITHEALTH_KEY_FILE", conflicts_with = "passphrase_file")]
    pub key_file: Option<PathBuf>,
}

/// `init`
#[derive(Debug, Args)]
pub struct InitArgs {
    /// The network's name
    #[arg(long, value_name = "NAME")]
    pub network: String,
    /// Your organisation's name
    #[arg(long, value_name = "NAME")]
    pub name: String,
    /// Who may go on when most clinics are gone for good: a TOML file with threshold, holders, delay, witnesses and
    /// cosignatures. It cannot be changed later [default: nobody]
    #[arg(long, value_name = "FILE")]
    pub recovery: Option<PathBuf>,
    /// No block comes sooner than this after the one before; all members keep to it
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse_duration)]
    pub block_interval: Duration,
    /// A block comes after this even if there is nothing to finalise; all members keep to it
    #[arg(long, value_name = "TIME", default_value = "3m", value_parser = parse_duration)]
    pub heartbeat: Duration,
    /// See there.
    #[command(flatten)]
    pub site: SiteArgs,
    /// See there.
    #[command(flatten)]
    pub unlock: UnlockArgs,
}

/// `invite`
#[derive(Debug, Args)]
pub struct InviteArgs {
    /// The new organisation's name
    pub name: String,
    /// What its first node will fail together with: a data centre, a town
    #[arg(long, value_name = "NAME")]
    pub region: String,
    /// Whose law applies to that node: a country (ISO 3166), as in DE or US-CA
    #[arg(long, value_name = "CODE", value_parser = parse_jurisdiction)]
    pub jurisdiction: String,
    /// How long it is good for, as 12h or 7d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = parse_duration)]
    pub expires: Duration,
}

/// `join`
#[derive(Debug, Args)]
pub struct JoinArgs {
    /// What `bithealth invite` printed
    pub invite: String,
    /// See there.
    #[command(flatten)]
    pub offer: OfferArgs,
    /// See there.
    #[command(flatten)]
    pub unlock: UnlockArgs,
}

/// `node`
#[derive(Debug, Args)]
pub struct NodeArgs {
    /// See there.
    #[command(flatten)]
    pub unlock: UnlockArgs,
}

/// `put`
#[derive(Debug, Args)]
pub struct PutArgs {
    /// Files and folders; - reads one record from the standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Whose records they are; auto reads it from FHIR documents
    #[arg(long, value_name = "ID", default_value = "auto")]
    pub patient: String,
    /// The folder of the patient they belong to, as laboratory [default: from the kind of document]
    #[arg(long, value_name = "CATEGORY", default_value = "", hide_default_value = true)]
    pub folder: String,
    /// Another organisation that may read them; several times for several
    #[arg(long = "for", value_name = "ORGANISATION")]
    pub for_: Vec<String>,
    /// What they must survive at once, as 1,1 for a region and a further node [default: the node's policy]
    #[arg(long, value_name = "REGIONS,NODES")]
    pub survive: Option<SurviveWanted>,
    /// A jurisdiction they must stay in; several times for several
    #[arg(long, value_name = "CODE")]
    pub keep_in: Vec<String>,
    /// The record's name, with -
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// What the bytes are, as application/fhir+json [default: recognised]
    #[arg(long, value_name = "TYPE", default_value = "", hide_default_value = true)]
    pub media_type: String,
    /// When to be done [default: as soon as it can be told how safe the records are, 10 s later at most]
    #[arg(long, value_enum)]
    pub wait: Option<WaitFor>,
    /// The longest wait for --wait replicated or final
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// When a put is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum WaitFor {
    /// Durable on this node; replication goes on
    Local,
    /// Standing in other places as the policy wants
    Replicated,
    /// Besides, in a block that a quorum of the members signed
    Final,
}

/// `notarise`
#[derive(Debug, Args)]
pub struct NotariseArgs {
    /// The file; it stays where it is
    pub file: PathBuf,
    /// Where to write the proof [default: the file's name and .proof.json]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// The longest wait for the block that covers it
    #[arg(long, value_name = "TIME", default_value = "1m", value_parser = parse_duration)]
    pub timeout: Duration,
}

/// `ledger`
#[derive(Debug, Subcommand)]
pub enum LedgerCommand {
    /// Write the genesis to a file: with it, anybody can check proofs
    Genesis {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Write all headers with their certificates to a file: with it and the genesis, anybody can check the history
    Headers {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check the whole history from the genesis on, from headers and certificates alone
    Verify {
        /// A genesis that was kept elsewhere [default: the node's own]
        #[arg(long, value_name = "FILE")]
        genesis: Option<PathBuf>,
        /// Headers that `ledger headers` wrote: no node is asked
        #[arg(long, value_name = "FILE")]
        headers: Option<PathBuf>,
    },
    /// Write a proof that something is on the ledger
    Prove {
        /// A record's id, an entry as NODE:POSITION, or a commitment; or a proof that `notarise` could not finish
        what: String,
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Write what was shown against members that signed two things that exclude each other
    Evidence {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Check a proof or evidence, with no node and no network
    Check {
        /// The proof, or the evidence
        proof: PathBuf,
        /// The genesis of the network, from a source you trust
        #[arg(long, value_name = "FILE")]
        genesis: PathBuf,
        /// The file that was notarised, or the contents of the record
        #[arg(long, value_name = "FILE")]
        file: Option<PathBuf>,
        /// For evidence of a fork: headers that `ledger headers` wrote
        #[arg(long, value_name = "FILE")]
        headers: Option<PathBuf>,
    },
    /// Write the head of the history to a file for witnesses: a C2SP signed checkpoint
    Checkpoint {
        /// Where to
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// Prove that it continues the history up to this height, which the witness cosigned last
        #[arg(long, value_name = "HEIGHT", default_value = "0", hide_default_value = true)]
        since: u64,
    },
    /// For a witness, outside the network: make a key to cosign with
    WitnessKey {
        /// Where to write the key; what it cosigned last will stand beside it
        #[arg(short, long, value_name = "FILE")]
        output: PathBuf,
        /// The witness's name, best like a web address of its own, as witness.example.org
        #[arg(long, value_name = "NAME")]
        name: String,
    },
    /// For a witness: cosign a checkpoint, with no node and no network, unless it contradicts what was cosigned before
    Cosign(CosignArgs),
    /// Hand a cosigned checkpoint to the node, which checks and keeps it
    Cosigned {
        /// What the witness sent back
        checkpoint: PathBuf,
        /// The witness's key, as `witness-key` printed it
        #[arg(long, value_name = "KEY")]
        witness: VerifierKey,
    },
    /// Show who cosigned the history, and what last
    Witnesses,
}

/// `ledger cosign`
#[derive(Debug, Args)]
pub struct CosignArgs {
    /// The checkpoint
    pub checkpoint: PathBuf,
    /// The witness's key
    #[arg(long, value_name = "FILE")]
    pub key: PathBuf,
    /// A key of a node that signs this network's checkpoints, as `checkpoint` printed it and from a source you trust; once
    /// for each such node, it is remembered
    #[arg(long, value_name = "KEY")]
    pub log: Vec<VerifierKey>,
    /// Where to write the cosigned checkpoint [default: the checkpoint's name and .cosigned]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `get`
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["record", "patient", "all"]))]
pub struct GetArgs {
    /// The record's id, as `ls` shows it
    pub record: Option<RecordId>,
    /// All records of this patient
    #[arg(long, value_name = "ID", requires = "output")]
    pub patient: Option<String>,
    /// All records this node can read
    #[arg(long, requires = "output")]
    pub all: bool,
    /// Of many only those of our own organisation
    #[arg(long, conflicts_with = "record")]
    pub own: bool,
    /// Where to: a file, - for the standard output, or a folder for many [default: a file of the record's name]
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// Only these bytes: A-B (from 0, B included), A- or -N for the last N
    #[arg(long, value_name = "A-B", conflicts_with_all = ["patient", "all"], allow_hyphen_values = true)]
    pub range: Option<ByteRange>,
}

/// `ls`
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Whose name fits this pattern, as '*.dcm'
    pub name: Option<String>,
    /// Only of this patient
    #[arg(long, value_name = "ID")]
    pub patient: Option<String>,
    /// Only of this category
    #[arg(long, value_name = "CATEGORY")]
    pub folder: Option<String>,
    /// Only those of our own organisation
    #[arg(long)]
    pub own: bool,
    /// At most so many
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u32>,
}

/// `verify`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Read back every stored byte
    #[arg(long)]
    pub full: bool,
}

/// `kit`
#[derive(Debug, Args)]
pub struct KitArgs {
    /// Write it to this new file, for its owner only
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// `restore`
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The recovery kit; - reads it from the standard input
    #[arg(long, value_name = "FILE")]
    pub kit: PathBuf,
    /// See there.
    #[command(flatten)]
    pub site: SiteArgs,
    /// See there.
    #[command(flatten)]
    pub unlock: UnlockArgs,
    /// Then write all records into this folder
    #[arg(short, long, value_name = "FOLDER")]
    pub output: Option<PathBuf>,
    /// Then go on running as a node
    #[arg(long)]
    pub stay: bool,
}

/// `demo`
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many regions
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub regions: u32,
    /// How many nodes in each
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=16))]
    pub nodes_per_region: u32,
    /// Put these files instead of made-up ones
    #[arg(long, value_name = "PATH")]
    pub records: Option<PathBuf>,
    /// What to lose, a region or a clinic as north or south-2; several times for several [default: the first region]
    #[arg(long, value_name = "NAME")]
    pub lose: Vec<String>,
    /// Keep the nodes running, and their folders
    #[arg(long)]
    pub keep: bool,
}

#[cfg(test)]
mod tests;
