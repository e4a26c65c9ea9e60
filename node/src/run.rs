//! Starts a node and stops it in order.

use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bithealth_http::{MonitorServer, ServeError};
use bithealth_net::StartError;
use bithealth_store::{Kind, OpenError, ReadError, Store, WriteError};
use bithealth_types::{GenesisId, MemberId, NodeId, ValidatorId};
use tokio::sync::{Notify, Semaphore, watch};
use tracing::{error, info, warn};

use crate::audit::{self, Audits};
use crate::audited::Answering;
use crate::chain::{Chain, ChainError};
use crate::config::ConfigError;
use crate::consolidate::{self, Gathered};
use crate::counters::Counters;
use crate::finality::{self, Finality};
use crate::gather::{self, Gather};
use crate::home::{Home, HomeError};
use crate::keys::Unlocking;
use crate::links::Links;
use crate::node::{Node, now_ms};
use crate::open::{self, SealedCatalogs};
use crate::outbox::Outbox;
use crate::recovery::Recovery;
use crate::repair::{self, Repair};
use crate::replicate::{self, Replication, blocking};
use crate::restore::{self, RestoreProgress};
use crate::room::Room;
use crate::rotation;
use crate::scrub::{self, Scrubbing};
use crate::service::Local;
use crate::serving::Serving;
use crate::shelf::{Shelf, Source};
use crate::swarm::Swarm;
use crate::sync::Followers;
use crate::vault::{OwnPack, Vault};
use crate::witnesses::Witnesses;
use crate::{allocator, history, hold, outbox, peers, recall, recode};

/// Under this the store notes whose network it belongs to.
const NETWORK: &[u8] = b"network";

/// A node that answers.
#[derive(Clone, Debug)]
pub struct Ready {
    /// Its id.
    pub node: NodeId,
    /// Its organisation.
    pub member: MemberId,
    /// The organisation's name.
    pub organisation: String,
    /// The network's name.
    pub network: String,
    /// Where it listens, with its peer id at the end of each.
    pub addresses: Vec<String>,
    /// The local API's socket.
    pub socket: PathBuf,
    /// Where programs that watch are answered, if anywhere.
    pub metrics: Option<SocketAddr>,
}

/// Why a node does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// Its data directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// Its configuration says otherwise than the ledger.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Its store cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// Its folder holds the genesis of another network than its store.
    #[error("genesis.bin is of network {got}, this node's store is of network {want}; put the right file back")]
    OtherNetwork {
        /// What the file is of.
        got: GenesisId,
        /// What the store is of.
        want: GenesisId,
    },
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Its ledger cannot be opened.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// The network cannot be started.
    #[error(transparent)]
    Net(#[from] StartError),
    /// The local API cannot be served.
    #[error(transparent)]
    Serve(#[from] ServeError),
    /// What is in the store cannot be taken up.
    #[error("the store cannot be taken up: {0}")]
    Recover(anyhow::Error),
}

/// Runs the node of a data directory until `shutdown`; `ready` is told once it answers.
///
/// # Errors
/// [`RunError`] if it does not start.
pub async fn node(
    home: &Home,
    unlocking: &Unlocking,
    ready: impl FnOnce(Ready),
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let (node, events) = start(home, unlocking).await?;
    let stop = Arc::new(Notify::new());
    let local = Arc::new(Local::new(node.clone(), stop.clone()));
    let (end, ended) = watch::channel(false);
    let server = bithealth_http::UnixServer::bind(&home.socket_path()).await?;
    let door = monitor(home, &node).await?;
    let metrics = door.as_ref().map(MonitorServer::address);
    let watched = door.map(|door| tokio::spawn(door.serve(local.clone(), wait_for(ended.clone()))));
    let serving = tokio::spawn(server.serve(local, wait_for(ended)));
    let tasks = [
        tokio::spawn(peers::run(node.clone(), events)),
        tokio::spawn(finality::run(node.clone(), home.consensus_path())),
        tokio::spawn(outbox::run(node.clone())),
        tokio::spawn(peers::connect(node.clone())),
        tokio::spawn(history::run(node.clone())),
        tokio::spawn(replicate::run(node.clone())),
        tokio::spawn(gather::run(node.clone())),
        tokio::spawn(consolidate::run(node.clone())),
        tokio::spawn(recode::run(node.clone())),
        tokio::spawn(repair::run(node.clone())),
        tokio::spawn(audit::run(node.clone())),
        tokio::spawn(scrub::run(node.clone())),
        tokio::spawn(open::watch_grants(node.clone())),
        tokio::spawn(rotation::follow_keys(node.clone())),
        tokio::spawn(recall::run(node.clone())),
        tokio::spawn(restore::run(node.clone())),
        tokio::spawn(allocator::give_back()),
    ];
    ready(describe(home, &node, metrics));
    tokio::select! {
        () = shutdown => {}
        () = stop.notified() => {}
    }
    info!("stopping");
    let _ = end.send(true); // the server may have ended by itself
    for serving in std::iter::once(serving).chain(watched) {
        if let Err(error) = serving.await.expect("serving does not panic") {
            error!(%error, "the local API ended");
        }
    }
    for task in tasks {
        task.abort();
    }
    let closing = node.clone();
    blocking(move || closing.gather.close_due(&closing, true)).await;
    node.net.stop().await;
    blocking(move || drop(node)).await; // the last owner of the store closes it in order
    Ok(())
}

/// The door for who only watches, where the configuration has one.
async fn monitor(home: &Home, node: &Node) -> Result<Option<MonitorServer>, RunError> {
    let Some(address) = node.config.metrics_listen else { return Ok(None) };
    let token = home.metrics_token()?;
    Ok(Some(MonitorServer::bind(address, &token).await?))
}

async fn wait_for(mut ended: watch::Receiver<bool>) {
    let _ = ended.wait_for(|ended| *ended).await; // a sender that is gone has ended too
}

async fn start(home: &Home, unlocking: &Unlocking) -> Result<(Arc<Node>, bithealth_net::Events), RunError> {
    let config = home.config()?;
    let (keys_home, unlocking) = (home.clone(), unlocking.clone());
    let opening = unlocking.clone();
    let mut keys = blocking(move || keys_home.keys(&opening)).await?;
    let genesis = home.genesis()?;
    let (path, reserve) = (home.store_path(), config.disk_reserve_bytes);
    let store_config = bithealth_store::Config { reserve_len: reserve, ..Default::default() };
    let store = Arc::new(blocking(move || Store::open(&path, store_config)).await?);
    let node_key = bithealth_envelope::NodeKey::from_seed(*keys.node.seed());
    let (chain_store, genesis_id) = (store.clone(), genesis.id());
    let checked = store.clone();
    let consensus = home.consensus_path();
    let chain = blocking(move || {
        let is_noted = check_network(&checked, genesis_id)?;
        let (id, chain) = (node_key.id(), Chain::open(genesis, chain_store, node_key)?);
        let wrote_nothing = chain.state().log(&id).is_none_or(|log| log.len == 0);
        let is_lost = !is_noted && recall::is_lost(&consensus, wrote_nothing);
        if !is_noted {
            note_network(&checked, genesis_id, || if is_lost { recall::note(&checked) } else { Ok(()) });
        }
        if is_lost || recall::is_noted(&checked)? {
            chain.recall();
        }
        Ok::<_, RunError>(Arc::new(chain))
    })
    .await?;
    if keys.former.is_some() && chain.state().validators().position(&ValidatorId(keys.validator.id().0)).is_some() {
        keys.former = None;
        let home = home.clone();
        keys = blocking(move || home.replace_keys(&keys, &unlocking).map(|()| keys)).await?;
        info!("the key this node voted with before is destroyed");
    }
    let keys = Arc::new(keys);
    config.check_parameters(&chain.state().parameters())?;
    let net_config = bithealth_net::Config {
        listen: config.listen.clone(),
        mdns: config.mdns,
        relay: config.relay,
        ..Default::default()
    };
    let (net, events) = bithealth_net::start(*keys.node.seed(), genesis_id, net_config).await?;
    let vault = Arc::new(Vault::new(store.clone()));
    let catalogs = SealedCatalogs { vault: vault.clone(), chain: chain.clone(), keys: keys.clone() };
    rotation::use_keys(&chain, &keys);
    let certificate = rotation::certificate(home, &chain, &keys)?;
    let (audited, auditing) = (store.clone(), config.clone());
    let audits = blocking(move || Audits::open(&audited, &auditing)).await;
    let cosigned = store.clone();
    let witnesses = blocking(move || Witnesses::open(&cosigned)).await;
    let (kept, opening) = (store.clone(), chain.clone());
    let recovery = blocking(move || Recovery::open(&kept, &opening.state())).await?;
    let (swarm, counters) = (Arc::new(Swarm::default()), Arc::new(Counters::default()));
    let node = Arc::new(Node {
        recovery,
        witnesses,
        admission: home.admission()?,
        links: Links::new(net.clone(), swarm.clone(), counters.clone()),
        counters,
        started_ms: now_ms(),
        swarm,
        pipes: Mutex::default(),
        serving: Serving::new(config.serve.clone()),
        shelf: Shelf::new(Box::new(catalogs)),
        gather: Gather::default(),
        finality: Finality::default(),
        outbox: Outbox::default(),
        gathered: Gathered::default(),
        replication: Replication::default(),
        repair: Repair::default(),
        audits,
        answering: Answering::default(),
        scrubbing: Scrubbing::default(),
        incoming: Arc::new(Semaphore::new(hold::INCOMING_MIB_MAX)),
        peers_changed: watch::channel(0).0,
        followers: Followers::default(),
        shut_out: Mutex::default(),
        refusing: Mutex::default(),
        restoring: watch::channel(RestoreProgress::default()).0,
        room: Arc::new(Room::new(certificate.capacity, config.quota(certificate.capacity))),
        dropping: Mutex::default(),
        certificate,
        config,
        keys,
        store,
        vault,
        chain,
        net,
    });
    let recovering = node.clone();
    blocking(move || take_up(&recovering)).await.map_err(RunError::Recover)?;
    let certifying = node.clone();
    blocking(move || rotation::tell_certificate(&certifying)).await?;
    if restore::is_noted(&node.store) {
        node.restoring.send_modify(|progress| progress.phase = restore::Phase::Connecting);
    }
    Ok((node, events))
}

/// A store belongs to one network, from its first start on. Whether it has noted that. Blocks.
fn check_network(store: &Store, genesis: GenesisId) -> Result<bool, RunError> {
    let Some(item) = store.get(Kind::Meta, NETWORK)? else { return Ok(false) };
    match GenesisId::try_from(item.meta.as_ref()) {
        Ok(want) if want != genesis => Err(RunError::OtherNetwork { got: genesis, want }),
        _ => Ok(true),
    }
}

/// Notes it, after what comes first. On a full disk that is done at a later start. Blocks.
fn note_network(store: &Store, genesis: GenesisId, first: impl FnOnce() -> Result<(), WriteError>) {
    let noted = first().and_then(|()| store.put(Kind::Meta, NETWORK, genesis.as_bytes(), &[]));
    if let Err(error) = noted.and_then(|at| store.sync(at)) {
        warn!(%error, "the store does not note its network yet");
    }
}

/// Takes up what the store holds: own packs onto the shelf and on their way, the journal into packs.
fn take_up(node: &Arc<Node>) -> anyhow::Result<()> {
    for (pack, shard) in node.vault.held()? {
        node.room.count(node.owner_of(&pack), (pack, shard), node.vault.shard_len(&pack, shard)?);
    }
    for salt in node.vault.salts()? {
        let sealed = node.vault.catalog(&salt)?;
        let catalog = open::own_catalog(&node.keys.organisation, &salt, &sealed)?;
        node.shelf.add(salt, Source::Own, &catalog.rows);
        let committed = node.chain.state().pack_with_salt(&salt);
        let code = committed.and_then(|id| node.code_of(&id));
        if let (Some(id), Some(code)) = (committed, code) {
            let len = node.vault.pack_len(&salt)?;
            node.vault.know_own(id, OwnPack { salt, code, len });
        }
        node.gathered.add(consolidate::replaced(&node.vault.stored_pack(&salt)?));
        node.replication.add(salt);
    }
    gather::recover(node)
}

fn describe(home: &Home, node: &Node, metrics: Option<SocketAddr>) -> Ready {
    let state = node.chain.state();
    let on_ledger = state.member(&node.member()).map(|member| member.name.clone());
    // A node that just joined is not on the ledger it has so far.
    let brought = || node.admission.as_ref()?.member.as_ref().map(|member| member.name.clone());
    Ready {
        node: node.id(),
        member: node.member(),
        organisation: on_ledger.or_else(brought).unwrap_or_default(),
        network: state.genesis().name.clone(),
        addresses: node.net.listen_addresses(),
        socket: home.socket_path(),
        metrics,
    }
}
