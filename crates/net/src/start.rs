//! Brings the swarm up.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use bithealth_types::GenesisId;
use futures::StreamExt;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::SwarmEvent;
use libp2p::{Multiaddr, Swarm, SwarmBuilder, TransportError, tcp};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::behaviour::Behaviour;
use crate::command::COMMANDS_MAX;
use crate::event::Outbox;
use crate::id::with_peer;
use crate::peers::Peers;
use crate::task::Task;
use crate::{Config, ConfigError, Events, Keys, Net};
use crate::{muxer, tls};

/// How long the system may take to say on which addresses we listen. It is a matter of milliseconds.
const LISTEN_TIMEOUT: Duration = Duration::from_secs(5);

/// Substreams that a peer has opened on one connection and not yet named a protocol for; more are reset. As many as
/// one peer may hold open, so that a burst of streams passes.
const NEGOTIATING_STREAMS_MAX: usize = 256;

/// Why the network did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The settings do not fit together.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Not a multiaddress.
    #[error("{addr} is not a multiaddress: {error}; write e.g. /ip4/0.0.0.0/tcp/4401")]
    BadAddress {
        /// As given.
        addr: String,
        /// What the parser says.
        error: String,
    },
    /// No transport of ours can listen there.
    #[error("cannot listen on {addr}: only /ip4|ip6/…/tcp/… and /ip4|ip6/…/udp/…/quic-v1 are supported")]
    Unsupported {
        /// The address.
        addr: String,
    },
    /// Another process has the port.
    #[error("the port of {addr} is taken; stop the process that has it, or listen on another one")]
    PortTaken {
        /// The address.
        addr: String,
    },
    /// The system refuses to listen there.
    #[error("cannot listen on {addr}: {error}")]
    Listen {
        /// The address.
        addr: String,
        /// What the system says.
        error: io::Error,
    },
    /// The system did not say on which address we listen.
    #[error("{addr} gives no address within {} s; has this machine a network?", LISTEN_TIMEOUT.as_secs())]
    NotListening {
        /// The address.
        addr: String,
    },
    /// No certificate could be made of the key.
    #[error("no TLS certificate could be made: {error}")]
    Certificate {
        /// What the library says.
        error: String,
    },
    /// The names of this machine's resolver cannot be read.
    #[error("the system's name resolver cannot be used: {error}")]
    Resolver {
        /// What the library says.
        error: io::Error,
    },
}

/// Starts the network: listens, and begins to answer. `seed` is the node's Ed25519 seed. `genesis` keeps the addresses of
/// different networks apart; that peers are of the same one, the driver finds out by its hello.
///
/// Returns once every address in `config.listen` stands.
///
/// # Errors
/// [`StartError`].
pub async fn start(seed: [u8; 32], genesis: GenesisId, config: Config) -> Result<(Net, Events), StartError> {
    config.check()?;
    let keys = Keys::from_seed(seed);
    let peers = Arc::new(Peers::default());
    let mut swarm = build(&keys, genesis, &config, &peers)?;
    listen(&mut swarm, &config, &peers).await?;

    let (commands, command_queue) = mpsc::channel(COMMANDS_MAX);
    let (event_queue, events) = mpsc::channel(config.events_max);
    let net = Net {
        commands,
        peers: peers.clone(),
        node: keys.node_id(),
        refusal_patience: Duration::from_millis(config.refusal_patience_ms),
    };
    let task = Task::new(swarm, keys.node_id(), config, peers, Outbox::new(event_queue));
    tokio::spawn(task.run(command_queue));
    Ok((net, Events(events)))
}

/// TLS 1.3 and not noise: half as fast again where measured (examples/pump.rs), and its key exchange prefers the hybrid
/// X25519MLKEM768, so that what is recorded today stays closed to a quantum computer. QUIC has the same one.
fn build(keys: &Keys, genesis: GenesisId, config: &Config, peers: &Arc<Peers>) -> Result<Swarm<Behaviour>, StartError> {
    let swarm = SwarmBuilder::with_existing_identity(keys.pair().clone())
        .with_tokio()
        .with_tcp(tcp::Config::default().nodelay(true), tls::Upgrade::new, || muxer::Upgrade::new(config))
        .map_err(|error| StartError::Certificate { error: error.to_string() })?
        .with_quic_config(|mut quic| {
            quic.max_concurrent_stream_limit = config.streams_per_connection_max() as u32;
            quic.max_connection_data = config.quic_window_max;
            quic.max_stream_data = config.quic_window_max / 2; // one reader that stops must not stop the others
            quic
        })
        .with_dns()
        .map_err(|error| StartError::Resolver { error })?
        .with_relay_client(tls::Upgrade::new, || muxer::Upgrade::new(config))
        .map_err(|error| StartError::Certificate { error: error.to_string() })?
        .with_behaviour(|_, relayed| Behaviour::new(keys, genesis, config, peers, relayed))
        .unwrap_or_else(|never: std::convert::Infallible| match never {})
        .with_swarm_config(|swarm| {
            swarm
                .with_idle_connection_timeout(Duration::from_millis(config.idle_timeout_ms))
                .with_max_negotiating_inbound_streams(NEGOTIATING_STREAMS_MAX)
        })
        .build();
    Ok(swarm)
}

async fn listen(swarm: &mut Swarm<Behaviour>, config: &Config, peers: &Peers) -> Result<(), StartError> {
    let us = *swarm.local_peer_id();
    let mut waiting: Vec<(ListenerId, String)> = Vec::new();
    for addr in &config.listen {
        let address = parse(addr)?;
        if is_taken(&address) {
            return Err(StartError::PortTaken { addr: addr.clone() });
        }
        let listener = swarm.listen_on(address).map_err(|error| listen_error(addr, error))?;
        waiting.push((listener, addr.clone()));
    }
    for addr in &config.announce {
        let address = parse(addr)?;
        swarm.add_external_address(address.clone());
        peers.listening().push(with_peer(address, us));
    }
    let until = Instant::now() + LISTEN_TIMEOUT;
    while let Some((_, addr)) = waiting.first() {
        let Ok(event) = timeout_at(until, swarm.select_next_some()).await else {
            return Err(StartError::NotListening { addr: addr.clone() });
        };
        match event {
            SwarmEvent::NewListenAddr { listener_id, address } => {
                waiting.retain(|(listener, _)| *listener != listener_id);
                peers.listening().push(with_peer(address, us));
            }
            SwarmEvent::ListenerClosed { listener_id, reason: Err(error), .. } => {
                if let Some((_, addr)) = waiting.iter().find(|(listener, _)| *listener == listener_id) {
                    return Err(StartError::Listen { addr: addr.clone(), error });
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn parse(addr: &str) -> Result<Multiaddr, StartError> {
    addr.parse().map_err(|error: libp2p::multiaddr::Error| StartError::BadAddress {
        addr: addr.into(),
        error: error.to_string(),
    })
}

fn listen_error(addr: &str, error: TransportError<io::Error>) -> StartError {
    match error {
        TransportError::MultiaddrNotSupported(_) => StartError::Unsupported { addr: addr.into() },
        TransportError::Other(error) if is_in_use(&error) => StartError::PortTaken { addr: addr.into() },
        TransportError::Other(error) => StartError::Listen { addr: addr.into(), error },
    }
}

/// The transports wrap the system's error several times over.
fn is_in_use(error: &io::Error) -> bool {
    let mut next: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = next {
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse) {
            return true;
        }
        next = error.source();
    }
    false
}

/// Whether another socket listens there. libp2p sets SO_REUSEPORT, with which the system lets two processes of one user
/// share a port and tells neither; the standard library does not.
pub(crate) fn is_taken(address: &Multiaddr) -> bool {
    let mut parts = address.iter();
    let ip: IpAddr = match parts.next() {
        Some(Protocol::Ip4(ip)) => ip.into(),
        Some(Protocol::Ip6(ip)) => ip.into(),
        _ => return false,
    };
    let bound = match parts.next() {
        Some(Protocol::Tcp(port)) if port != 0 => TcpListener::bind(SocketAddr::new(ip, port)).map(drop),
        Some(Protocol::Udp(port)) if port != 0 => UdpSocket::bind(SocketAddr::new(ip, port)).map(drop),
        _ => return false,
    };
    bound.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}
