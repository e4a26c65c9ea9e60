//! The commands that make or run a node: the only calls of the runtime from the command line.

use std::future::Future;
use std::path::{Path, PathBuf};

use bithealth_http::api::ExportFilter;
use bithealth_proto::v1;
use bithealth_types::ByteLen;
use serde_json::json;
use tokio::sync::oneshot;

use super::args::{DemoArgs, InitArgs, JoinArgs, NodeArgs, OfferArgs, RestoreArgs, SiteArgs, UnlockArgs};
use super::exit::Exit;
use super::failure::Failure;
use super::show::{Show, len, plain};
use super::{get, log, recover, restore as restoring, secret};
use crate::client::Client;
use crate::config::Config;
use crate::home::Home;
use crate::keys::Unlocking;
use crate::rotation;
use crate::run::Ready;
use crate::setup::{self, Charter, Founded, Site};

/// What a node holds for others unless told otherwise.
const CAPACITY_DEFAULT: ByteLen = ByteLen(100 << 30); // said in the help of --capacity

/// What a person does after a node was set up.
const AFTER_SETUP: &str =
    "next: run it with `bithealth node`, print its recovery kit with `bithealth kit`, and lock that away";

/// What a person does after the organisation got new keys.
const AFTER_ROTATION: &str = "next: start the node, print the new kit with `bithealth kit`, then `bithealth admin propose \
                              keys`. Until the members approved it, the old kit is good and the old keys sign; from then \
                              on only the new kit restores, and further nodes of yours are set up anew with it";

/// Runs `init`.
pub(crate) async fn init(data_dir: &Path, args: InitArgs, show: Show) -> Result<Exit, Failure> {
    let home = free_home(data_dir)?;
    let unlocking = secret::new_unlock(&args.unlock)?;
    let (site, config) = site(args.site, &unlocking);
    let recovery = args.recovery.as_deref().map(recover::read_policy).transpose()?;
    let parameters = v1::Parameters {
        block_interval_ms: args.block_interval.as_millis() as u64,
        heartbeat_ms: args.heartbeat.as_millis() as u64,
    };
    let charter = Charter { network: &args.network, organisation: &args.name, recovery, parameters };
    let made = setup::init(&home, charter, &site, &unlocking, &config).map_err(Failure::new)?;
    show_founded(&made, show);
    show.note(AFTER_SETUP);
    Ok(Exit::Done)
}

/// Runs `join`.
pub(crate) async fn join(data_dir: &Path, args: JoinArgs, show: Show) -> Result<Exit, Failure> {
    let home = free_home(data_dir)?;
    let unlocking = secret::new_unlock(&args.unlock)?;
    let (capacity, config) = offer(args.offer, &unlocking);
    let joined = setup::join(&home, &args.invite, capacity, &unlocking, &config).await;
    show_founded(&joined.map_err(Failure::new)?, show);
    show.note(AFTER_SETUP);
    Ok(Exit::Done)
}

/// Runs `admin rotate-key`.
pub(crate) async fn rotate(
    data_dir: &Path,
    client: &Client,
    organisation: bool,
    args: &UnlockArgs,
    show: Show,
) -> Result<Exit, Failure> {
    let (home, unlocking) = stopped(data_dir, client, args).await?;
    if organisation {
        let key = rotation::rotate_organisation(&home, &unlocking).map_err(Failure::new)?;
        show.answer(&json!({ "key": key }), |_| format!("{key} is to sign for the organisation"));
        show.note(AFTER_ROTATION);
        return Ok(Exit::Done);
    }
    let key = rotation::rotate(&home, &unlocking).map_err(Failure::new)?;
    show.answer(&json!({ "validator": key }), |_| format!("{key} is to vote from now on"));
    show.note("next: start the node; it tells the ledger, and votes with the old key until a block covers that");
    Ok(Exit::Done)
}

/// Certifies this node for another place.
pub(crate) async fn relocate(
    data_dir: &Path,
    client: &Client,
    [region, jurisdiction]: [&str; 2],
    args: &UnlockArgs,
    show: Show,
) -> Result<Exit, Failure> {
    let (home, unlocking) = stopped(data_dir, client, args).await?;
    let node = rotation::relocate(&home, &unlocking, region, jurisdiction).map_err(Failure::new)?;
    let told = json!({ "node": node, "region": region, "jurisdiction": jurisdiction });
    show.answer(&told, |_| format!("node {} is to stand in {region} ({jurisdiction})", node.short()));
    show.note(
        "next: start the node; unless it stood there before, propose the place: `bithealth admin propose labels`",
    );
    Ok(Exit::Done)
}

/// Certifies that this node offers so much.
pub(crate) async fn change_offer(
    data_dir: &Path,
    client: &Client,
    capacity: ByteLen,
    args: &UnlockArgs,
    show: Show,
) -> Result<Exit, Failure> {
    let (home, unlocking) = stopped(data_dir, client, args).await?;
    let node = rotation::offer(&home, &unlocking, capacity.0).map_err(Failure::new)?;
    let told = json!({ "node": node, "capacity": capacity });
    show.answer(&told, |_| format!("node {} offers {} to others", node.short(), len(capacity)));
    show.note(match capacity {
        ByteLen(0) => {
            "next: start the node; others take over what it holds, and `bithealth status` says when it may go"
        }
        _ => "next: start the node; it counts from the block on that covers its word",
    });
    Ok(Exit::Done)
}

/// The data folder of a node that is not running, and what opens its keys.
async fn stopped(data_dir: &Path, client: &Client, args: &UnlockArgs) -> Result<(Home, Unlocking), Failure> {
    let home = Home::new(data_dir);
    let config = home.config().map_err(Failure::new)?;
    if client.peers().await.is_ok() {
        return Err(Failure::new("the node runs with what is to change").next("stop it first: `bithealth stop`"));
    }
    let unlocking = secret::unlock(args, config.key_file.as_deref())?;
    Ok((home, unlocking))
}

/// The data folder of a new node; refused before anything is asked if it is in use.
fn free_home(data_dir: &Path) -> Result<Home, Failure> {
    let home = Home::new(data_dir);
    home.check_free().map_err(Failure::new)?;
    Ok(home)
}

fn site(args: SiteArgs, unlocking: &Unlocking) -> (Site, Config) {
    let (capacity, config) = offer(args.offer, unlocking);
    (Site { region: args.region, jurisdiction: args.jurisdiction, capacity }, config)
}

fn offer(args: OfferArgs, unlocking: &Unlocking) -> (u64, Config) {
    let mut config = Config::default();
    if !args.listen.is_empty() {
        config.listen = args.listen;
    }
    if let Unlocking::KeyFile(path) = unlocking {
        // The node may be started from another folder.
        config.key_file = Some(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    }
    (args.capacity.unwrap_or(CAPACITY_DEFAULT).0, config)
}

fn show_founded(made: &Founded, show: Show) {
    let told = json!({
        "node": made.node, "member": made.member, "organisation": made.organisation,
        "network": made.network, "genesis": made.genesis, "data_dir": made.data_dir,
    });
    show.answer(&told, |_| {
        let names = format!("{} in network {}", plain(&made.organisation), plain(&made.network));
        format!("node {} of {names} is set up in {}", made.node.short(), made.data_dir.display())
    });
}

/// Runs `node` until it is told to stop.
pub(crate) async fn node(data_dir: PathBuf, args: NodeArgs, show: Show) -> Result<Exit, Failure> {
    let home = Home::new(data_dir);
    home.check_founded().map_err(Failure::new)?;
    let config = home.config().map_err(Failure::new)?;
    let unlocking = secret::unlock(&args.unlock, config.key_file.as_deref())?;
    log::to_stderr();
    let ready = move |ready: Ready| show_ready(&ready, show);
    crate::run::node(&home, &unlocking, ready, stop_signal()?).await.map_err(Failure::new)?;
    show.note("stopped");
    Ok(Exit::Done)
}

fn show_ready(ready: &Ready, show: Show) {
    let told = json!({
        "ready": true, "node": ready.node, "member": ready.member, "organisation": ready.organisation,
        "network": ready.network, "addresses": ready.addresses, "socket": ready.socket, "metrics": ready.metrics,
    });
    show.answer(&told, |_| {
        let metrics = ready.metrics.map_or_else(String::new, |at| format!("\n  metrics at  http://{at}/metrics"));
        let addresses = ready.addresses.iter().map(|address| format!("\n  listens on  {}", plain(address)));
        format!(
            "{} in network {}: the node is running\n  node        {}{}\n  asked on    {}{metrics}\nCtrl-C stops it in order.",
            plain(&ready.organisation),
            plain(&ready.network),
            ready.node,
            addresses.collect::<String>(),
            ready.socket.display()
        )
    });
}

/// Runs `restore`: sets up an empty folder from the kit, runs the node, and follows it until everything is back.
pub(crate) async fn restore(data_dir: PathBuf, args: RestoreArgs, show: Show) -> Result<Exit, Failure> {
    let home = free_home(&data_dir)?;
    let kit = secret::secret_text(&args.kit)?;
    let unlocking = secret::new_unlock(&args.unlock)?;
    let (site, config) = site(args.site, &unlocking);
    let made = setup::restore(&home, &kit, &site, &unlocking, &config).await.map_err(Failure::new)?;
    show_founded(&made, show);
    log::to_stderr();
    let (is_ready, ready) = oneshot::channel();
    let (stop, stopped) = oneshot::channel::<()>();
    let stopping = stop_signal()?;
    let until = async {
        tokio::select! {
            Ok(()) = stopped => {}
            () = stopping => {}
        }
    };
    let tell = move |ready: Ready| drop(is_ready.send(ready));
    let node = async { crate::run::node(&home, &unlocking, tell, until).await.map_err(Failure::new) };
    let follow = async {
        let Ok(ready) = ready.await else { return Ok(Exit::Failed) }; // the node's own error says why
        let exit = follow(&Client::new(ready.socket.clone()), args.output.as_deref(), show).await;
        if args.stay && exit.is_ok() {
            show_ready(&ready, show); // only a signal stops it now
        } else {
            let _ = stop.send(()); // a node that stopped by itself says why
        }
        exit
    };
    let (node, exit) = tokio::join!(node, follow);
    node?;
    exit
}

async fn follow(client: &Client, output: Option<&Path>, show: Show) -> Result<Exit, Failure> {
    let restored = restoring::watch(client, show).await?;
    match output {
        Some(folder) => Ok(restored.worse(get::get_many(client, &ExportFilter::default(), folder, show).await?)),
        None => Ok(restored),
    }
}

/// Runs `demo`.
pub(crate) async fn demo(args: DemoArgs, show: Show) -> Result<Exit, Failure> {
    let DemoArgs { regions, nodes_per_region, records, lose, keep } = args;
    let args = crate::demo::DemoArgs { regions, nodes_per_region, records, lose, json: show.json, keep };
    crate::demo::run(args).await.map_err(Failure::new)?;
    Ok(Exit::Done)
}

/// Ends with Ctrl-C, or with what service managers send.
fn stop_signal() -> Result<impl Future<Output = ()> + Send + 'static, Failure> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).map_err(|error| Failure::io("signals cannot be listened to", error));
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    })
}
