//! The command line.
//!
//! [`run`] is the whole of `main`. Commands that ask a running node go through [`crate::client`]; those that make or run one
//! are in `commands`, the only place here that calls the runtime.

mod admin;
pub mod args;
mod care;
mod commands;
mod cosigned;
mod exit;
mod failure;
mod get;
mod history;
mod info;
mod ledger;
mod list;
mod log;
mod notarise;
mod note_key;
mod progress;
mod put;
mod recover;
mod restore;
mod secret;
mod show;
mod verify;
mod witness;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;

use crate::client::Client;
use args::{AdminCommand, Cli, Command};
use exit::Exit;
use failure::Failure;
use show::Show;

/// Where, in the data folder, a node is asked.
pub const SOCKET_NAME: &str = "node.sock";

/// The data folder of a node that runs as a service.
const SERVICE_DATA_DIR: &str = "/var/lib/bithealth";

/// Runs the command line of this process.
pub fn run() -> ExitCode {
    run_with(std::env::args_os()).into()
}

fn run_with(args: impl IntoIterator<Item = OsString>) -> Exit {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print(); // a closed output is no reason to fail differently
            return if error.use_stderr() { Exit::Usage } else { Exit::Done };
        }
    };
    let show = Show::new(cli.json);
    let result = data_dir(cli.data_dir.clone()).and_then(|data_dir| block_on(dispatch(cli.command, data_dir, show)));
    result.unwrap_or_else(|failure| {
        show.failure(&failure);
        failure.exit
    })
}

fn block_on(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.map_err(|error| Failure::io("the threads of the program cannot be started", error))?.block_on(command)
}

async fn dispatch(command: Command, data_dir: PathBuf, show: Show) -> Result<Exit, Failure> {
    let client = Client::new(data_dir.join(SOCKET_NAME));
    match command {
        // These stop in their own order when interrupted.
        Command::Node(args) => commands::node(data_dir, args, show).await,
        Command::Restore(args) => commands::restore(data_dir, args, show).await,
        Command::Demo(args) => commands::demo(args, show).await,
        command => interruptible(ask(command, &data_dir, &client, show)).await,
    }
}

async fn ask(command: Command, data_dir: &Path, client: &Client, show: Show) -> Result<Exit, Failure> {
    match command {
        Command::Init(args) => commands::init(data_dir, args, show).await,
        Command::Join(args) => commands::join(data_dir, args, show).await,
        Command::Invite(args) => info::invite(client, args, show).await,
        Command::Put(args) => put::run(client, args, show).await,
        Command::Get(args) => get::run(client, args, show).await,
        Command::Ls(args) => list::run(client, args, show).await,
        Command::Status => info::status(client, show).await,
        Command::Peers => info::peers(client, show).await,
        Command::Verify(args) => verify::run(client, args, show).await,
        Command::Kit(args) => info::kit(client, args, show).await,
        Command::Notarise(args) => notarise::run(client, args, show).await,
        Command::Admin(AdminCommand::RotateKey { organisation, unlock }) => {
            commands::rotate(data_dir, client, organisation, &unlock, show).await
        }
        Command::Admin(AdminCommand::Offer { capacity, unlock }) => {
            commands::change_offer(data_dir, client, capacity, &unlock, show).await
        }
        Command::Admin(AdminCommand::Move { region, jurisdiction, unlock }) => {
            commands::relocate(data_dir, client, [&region, &jurisdiction], &unlock, show).await
        }
        Command::Admin(command) => admin::run(client, command, show).await,
        Command::Ledger(command) => ledger::run(client, command, show).await,
        Command::OpenForeign => info::open_foreign(client, show).await,
        Command::Stop => info::stop(data_dir, client, show).await,
        Command::Node(_) | Command::Restore(_) | Command::Demo(_) => unreachable!("dispatched before"),
    }
}

/// Ctrl-C drops the command, which removes its half-written files.
async fn interruptible(command: impl Future<Output = Result<Exit, Failure>>) -> Result<Exit, Failure> {
    tokio::select! {
        result = command => result,
        Ok(()) = tokio::signal::ctrl_c() => Ok(Exit::Interrupted),
    }
}

/// The folder given, else the service's if it exists, else the user's own.
fn data_dir(given: Option<PathBuf>) -> Result<PathBuf, Failure> {
    if let Some(given) = given {
        return Ok(given);
    }
    if Path::new(SERVICE_DATA_DIR).is_dir() {
        return Ok(SERVICE_DATA_DIR.into());
    }
    let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    let data = set("XDG_DATA_HOME").or_else(|| set("HOME").map(|home| home.join(".local/share")));
    data.map(|data| data.join("bithealth"))
        .ok_or_else(|| Failure::usage("there is no home folder to keep data in").next("pass --data-dir FOLDER"))
}

#[cfg(test)]
mod tests;
