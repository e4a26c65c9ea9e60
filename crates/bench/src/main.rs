//! Compares BitHealth with the tools people would pick instead, doing the same work in the same run.
//!
//! Linux only: processor time and memory of processes are read from `/proc`.

mod bithealth_side;
mod corpus;
mod ledger;
mod peers;
mod primitives;
mod process;
mod reads;
mod report;
mod restic;
mod sample;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Compares BitHealth with other tools on this machine.
#[derive(Debug, Parser)]
#[command(name = "bithealth-bench", version)]
struct Cli {
    /// Print one JSON object instead of a table
    #[arg(long, global = true)]
    json: bool,
    /// What to measure.
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Put and get back the same files with restic and with BitHealth, taking turns
    Restic(ResticArgs),
    /// Run nine nodes under a load of entries, and measure how long until they are final
    Ledger(LedgerArgs),
    /// Do the work of the exchange with BitHealth, BitTorrent, iroh, Tahoe-LAFS and restic, taking turns
    Peers(PeersArgs),
    /// Read one small record over a long line, and count round trips
    Reads(ReadsArgs),
    /// Measure the primitives alone, on one core, and what sealing costs above them
    Primitives,
    /// One end of the TLS floor
    #[command(hide = true)]
    TlsSend { file: PathBuf, certificate: PathBuf },
    /// The other end
    #[command(hide = true)]
    TlsReceive { address: String, certificate: PathBuf, file: PathBuf },
}

/// How much of which entries.
#[derive(Debug, Args)]
struct LedgerArgs {
    /// Nodes, each of an organisation that votes, in three regions
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(3..=30))]
    nodes: u32,
    /// For how long entries are written
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u32).range(5..=3600))]
    seconds: u32,
    /// KiB of entries a second
    #[arg(long, default_value_t = 1024)]
    rate_kib: u32,
    /// What is written
    #[arg(long, value_enum, default_value_t = ledger::Entries::Packs)]
    entries: ledger::Entries,
    /// Fail if a figure is above its limit
    #[arg(long)]
    enforce: bool,
}

/// How much work, with which programs.
#[derive(Debug, Args)]
struct ResticArgs {
    /// How often each tool does all of it; medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Bytes of the one large file
    #[arg(long, default_value_t = 1 << 30)]
    large_len: u64,
    /// How many FHIR documents
    #[arg(long, default_value_t = 20_000)]
    documents: usize,
    /// Bytes of all FHIR documents
    #[arg(long, default_value_t = 209_000_000)]
    documents_len: u64,
    /// The bithealth program
    #[arg(long, default_value = "bithealth", value_name = "FILE")]
    bithealth: PathBuf,
    /// The restic program
    #[arg(long, default_value = "restic", value_name = "FILE")]
    restic: PathBuf,
    /// Where everything is written; about four times the large file is needed [default: the system's temporary folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Fail if a ratio is above its limit
    #[arg(long)]
    enforce: bool,
}

/// How long the line is, and how large the record.
#[derive(Debug, Args)]
struct ReadsArgs {
    /// How often; medians are printed
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Milliseconds there and back
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u64).range(2..=10_000))]
    round_trip_ms: u64,
    /// Bytes of the record
    #[arg(long, default_value_t = 150_000, value_parser = clap::value_parser!(u64).range(1..=1 << 30))]
    record_len: u64,
    /// Fail if it takes more than it may
    #[arg(long)]
    enforce: bool,
}

/// Which scenarios and tools, and how much.
#[derive(Debug, Args)]
struct PeersArgs {
    /// What is measured [default: everything]
    #[arg(long, value_enum, value_delimiter = ',', value_name = "SCENARIO,...")]
    only: Vec<peers::Scenario>,
    /// How often each tool does it; medians are printed
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    rounds: u32,
    /// Bytes of the file of one-to-one
    #[arg(long, default_value_t = 1 << 30)]
    len: u64,
    /// Records of small-records
    #[arg(long, default_value_t = 20_000)]
    records: usize,
    /// Bytes of the file of three-sources
    #[arg(long, default_value_t = 384 << 20)]
    shaped_len: u64,
    /// Bytes of the file of one-to-eight
    #[arg(long, default_value_t = 64 << 20)]
    crowd_len: u64,
    /// Bytes of the file of coded
    #[arg(long, default_value_t = 128 << 20)]
    coded_len: u64,
    /// Bytes of the file of repair
    #[arg(long, default_value_t = 1 << 30)]
    repair_len: u64,
    /// The rqbit program
    #[arg(long, default_value = "rqbit", value_name = "FILE")]
    rqbit: PathBuf,
    /// The sendme program
    #[arg(long, default_value = "sendme", value_name = "FILE")]
    sendme: PathBuf,
    /// The tahoe program of Tahoe-LAFS
    #[arg(long, default_value = "tahoe", value_name = "FILE")]
    tahoe: PathBuf,
    /// The restic program
    #[arg(long, default_value = "restic", value_name = "FILE")]
    restic: PathBuf,
    /// A Python with the package libtorrent
    #[arg(long, default_value = "python3", value_name = "FILE")]
    python: PathBuf,
    /// Where everything is written; about seven times the file is needed [default: the system's temporary folder]
    #[arg(long, value_name = "FOLDER")]
    folder: Option<PathBuf>,
    /// Fail if BitHealth does not reach what it must
    #[arg(long)]
    enforce: bool,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match &cli.command {
        Command::Restic(args) => sample::compare(args).map(|report| {
            report.print(cli.json);
            !args.enforce || report.holds()
        }),
        Command::Ledger(args) => ledger::measure(args).map(|report| {
            report.print(cli.json);
            !args.enforce || report.holds()
        }),
        Command::Peers(args) => peers::compare(args).map(|report| {
            report.print(cli.json);
            !args.enforce || report.holds()
        }),
        Command::Reads(args) => reads::measure(args).map(|report| {
            report.print(cli.json);
            !args.enforce || report.holds()
        }),
        Command::TlsSend { file, certificate } => peers::tool::tls::send(file, certificate).map(|()| true),
        Command::TlsReceive { address, certificate, file } => {
            peers::tool::tls::receive(address, certificate, file).map(|()| true)
        }
        Command::Primitives => {
            primitives::print(cli.json);
            Ok(true)
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::from(2)
        }
    }
}
