//! The handle.

mod error;

use std::sync::Arc;
use std::time::Duration;

use bithealth_types::NodeId;
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};

use crate::command::Command;
use crate::id::{peer_of, with_peer, without_peer};
use crate::peers::{Path, Peers, Reached, Traffic};
use crate::streams::{Open, Protocol};
use crate::{GossipId, NotEd25519, Stream, Topic, Verdict, node_id, peer_id};

pub use error::{DialError, OpenError, PublishError, Stopped, Tried};

/// Time between two attempts to open a stream that the peer refused.
const REFUSAL_RETRY: Duration = Duration::from_millis(50);

/// The network: everybody's handle to the one swarm. Cheap to clone; the swarm stops when the last one is dropped.
#[derive(Clone, Debug)]
pub struct Net {
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) peers: Arc<Peers>,
    pub(crate) node: NodeId,
    pub(crate) refusal_patience: Duration,
}

impl Net {
    /// This node.
    pub fn node_id(&self) -> NodeId {
        self.node
    }

    /// Where we listen, what we announce, where others were found to reach us, and through whom; with our peer id at the end
    /// of each, and those first that most can reach.
    pub fn listen_addresses(&self) -> Vec<String> {
        self.peers.own_addresses().iter().map(ToString::to_string).collect()
    }

    /// How others reach us.
    pub fn reached(&self) -> Reached {
        self.peers.reached()
    }

    /// How streams with a node go; none without a connection.
    pub fn path(&self, node: &NodeId) -> Option<Path> {
        self.peers.get(node)?.path()
    }

    /// The peers a connection stands with, admitted or not, in the order of their ids.
    pub fn connected(&self) -> Vec<NodeId> {
        self.peers.connected()
    }

    /// Whether a connection stands with this node, admitted or not.
    pub fn is_connected(&self, node: &NodeId) -> bool {
        self.peers.connected().binary_search(node).is_ok()
    }

    /// Open connections: several with one node among them.
    pub fn connection_count(&self) -> usize {
        self.peers.connection_count()
    }

    /// Whether [`Self::admit`] was called for this node and [`Self::expel`] was not since.
    pub fn is_admitted(&self, node: &NodeId) -> bool {
        self.peers.is_admitted(node)
    }

    /// What we know of where a node can be reached: what it says itself, and what [`Self::keep`] was given.
    pub fn addresses_of(&self, node: NodeId) -> Vec<String> {
        let (Some(peer), Some(id)) = (self.peers.get(&node), peer_id(&node)) else { return Vec::new() };
        peer.addresses().into_iter().map(|address| with_peer(address, id).to_string()).collect()
    }

    /// Bytes of frames from and to each peer.
    pub fn traffic(&self) -> Vec<Traffic> {
        self.peers.traffic()
    }

    /// Connects with whoever answers at the first of these addresses that does, and says who it is. An address may end
    /// with `/p2p/` and a peer id; then only that node will do.
    ///
    /// # Errors
    /// [`DialError`]: of the last address tried, or all that were if none answers.
    pub async fn dial(&self, addresses: Vec<String>) -> Result<NodeId, DialError> {
        let addresses = parse_all(addresses)?;
        let mut tried = Vec::new();
        for address in addresses {
            let peer = peer_of(&address);
            match self.dial_one(peer, vec![address]).await {
                Err(DialError::Unreachable { tried: more }) => tried.extend(more),
                done => return done,
            }
        }
        if tried.is_empty() { Err(DialError::NoAddress { node: None }) } else { Err(DialError::Unreachable { tried }) }
    }

    /// Connects with one node, unless it is connected. Besides the addresses given, those are tried that it told us or
    /// that are in our table; where there are none, peers are asked.
    ///
    /// # Errors
    /// [`DialError`].
    pub async fn dial_node(&self, node: NodeId, addresses: Vec<String>) -> Result<NodeId, DialError> {
        let addresses = parse_all(addresses)?;
        let peer = peer_id(&node).ok_or_else(|| NotEd25519 { peer: node.to_string() })?;
        self.dial_one(Some(peer), addresses).await
    }

    async fn dial_one(&self, peer: Option<PeerId>, addresses: Vec<Multiaddr>) -> Result<NodeId, DialError> {
        if let Some(peer) = &peer
            && node_id(peer)? == self.node
        {
            return Err(DialError::Ourselves { address: peer.to_string() });
        }
        let mut addresses = addresses;
        let ours: Vec<Multiaddr> = self.peers.listening().iter().cloned().map(without_peer).collect();
        if peer.is_none()
            && let Some(address) = addresses.iter().find(|address| ours.contains(address))
        {
            return Err(DialError::Ourselves { address: address.to_string() });
        }
        addresses.retain(|address| !ours.contains(&without_peer(address.clone())));
        let (reply, answer) = oneshot::channel();
        let command = Command::Dial { peer, addresses, reply };
        self.commands.send(command).await.map_err(|_| DialError::GivenUp)?;
        answer.await.unwrap_or(Err(DialError::GivenUp))
    }

    /// Lets a node use all protocols, on this and every later connection, until [`Self::expel`]. It need not be
    /// connected.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn admit(&self, node: NodeId) -> Result<(), Stopped> {
        self.tell(node, |peer, done| Command::Admit { peer, node, done }).await
    }

    /// Ends what [`Self::admit`] and [`Self::keep`] began, and disconnects the node. It may connect again, as a stranger.
    /// `reason` goes into the log: name the fault, never what a record says.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn expel(&self, node: NodeId, reason: &str) -> Result<(), Stopped> {
        tracing::info!(peer = %node, reason, "expelled");
        self.tell(node, |peer, done| Command::Expel { peer, node, done }).await
    }

    /// Stays connected with a node: dials it now, and again whenever the connection is lost, after 1 s at first and 30 s
    /// at most. Addresses given are added to those known.
    ///
    /// # Errors
    /// [`DialError::BadAddress`], [`DialError::GivenUp`] once the network is stopped.
    pub async fn keep(&self, node: NodeId, addresses: Vec<String>) -> Result<(), DialError> {
        let addresses = parse_all(addresses)?;
        self.tell(node, |peer, done| Command::Keep { peer, node, addresses, done })
            .await
            .map_err(|Stopped| DialError::GivenUp)
    }

    /// Ends [`Self::keep`]. The connection stays until it is idle.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn release(&self, node: NodeId) -> Result<(), Stopped> {
        self.tell(node, |peer, done| Command::Release { peer, node, done }).await
    }

    /// Opens a stream. A peer that refuses is asked again for [`crate::Config::refusal_patience_ms`], since it may be
    /// about to admit us; each stream returned is one the peer has agreed to.
    ///
    /// # Errors
    /// [`OpenError`].
    pub async fn open(&self, node: NodeId, protocol: Protocol) -> Result<Stream, OpenError> {
        if !protocol.is_open() && !self.peers.is_admitted(&node) {
            return Err(OpenError::NotAdmitted { node, protocol });
        }
        let until = Instant::now() + self.refusal_patience;
        loop {
            match self.open_once(node, protocol).await {
                Err(OpenError::Refused { .. }) if Instant::now() + REFUSAL_RETRY < until => {
                    sleep(REFUSAL_RETRY).await;
                }
                done => return done,
            }
        }
    }

    async fn open_once(&self, node: NodeId, protocol: Protocol) -> Result<Stream, OpenError> {
        let peer = peer_id(&node).ok_or(OpenError::NotConnected { node })?;
        let (reply, answer) = oneshot::channel();
        let command = Command::Open { peer, node, open: Open { protocol, reply } };
        self.commands.send(command).await.map_err(|_| OpenError::NotConnected { node })?;
        answer.await.unwrap_or(Err(OpenError::Lost { node, protocol }))
    }

    /// Gossips a message. One that was published or received within the last two minutes is on its way already, which is
    /// a success.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish(&self, topic: Topic, bytes: Bytes) -> Result<(), PublishError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(Command::Publish { topic, bytes, reply }).await.map_err(|_| Stopped)?;
        answer.await.unwrap_or(Err(Stopped.into()))
    }

    /// Says whether a gossiped message goes on to others. Each must be judged, within two minutes.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn judge(&self, id: GossipId, from: NodeId, verdict: Verdict) -> Result<(), Stopped> {
        let Some(from) = peer_id(&from) else { return Ok(()) };
        self.commands.send(Command::Judge { id, from, verdict }).await.map_err(|_| Stopped)
    }

    /// Closes all connections and stops. Returns once the ports are free.
    pub async fn stop(&self) {
        let (done, stopped) = oneshot::channel();
        if self.commands.send(Command::Stop { done }).await.is_ok() {
            let _ = stopped.await; // either way the task has ended
        }
        self.commands.closed().await;
    }

    /// Sends a command about a node and waits until the task has carried it out.
    async fn tell(
        &self,
        node: NodeId,
        command: impl FnOnce(PeerId, oneshot::Sender<()>) -> Command,
    ) -> Result<(), Stopped> {
        // Nobody has the key of an id that is no point: there is nobody to admit, expel or keep.
        let Some(peer) = peer_id(&node) else { return Ok(()) };
        let (done, carried_out) = oneshot::channel();
        self.commands.send(command(peer, done)).await.map_err(|_| Stopped)?;
        carried_out.await.map_err(|_| Stopped)
    }
}

fn parse_all(addresses: Vec<String>) -> Result<Vec<Multiaddr>, DialError> {
    addresses
        .into_iter()
        .map(|address| {
            let parsed: Result<Multiaddr, _> = address.parse();
            parsed.map_err(|error| DialError::BadAddress { address, error: error.to_string() })
        })
        .collect()
}
