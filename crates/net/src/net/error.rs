//! Why the network could not do what it was asked.

use std::io;

use bithealth_types::NodeId;

use crate::{NotEd25519, Protocol, Topic};

/// The network is stopped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the network is stopped")]
pub struct Stopped;

/// One address that was dialled in vain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried {
    /// The address.
    pub address: String,
    /// What the transport says.
    pub reason: String,
}

/// Why no connection came about.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DialError {
    /// Not a multiaddress.
    #[error("{address} is not a multiaddress: {error}")]
    BadAddress {
        /// As given.
        address: String,
        /// What the parser says.
        error: String,
    },
    /// The address, or the peer that answers there, is not a node.
    #[error(transparent)]
    NotEd25519(#[from] NotEd25519),
    /// No address was given, and no peer knows one.
    #[error("no address of {}, and no peer knows one", node.map_or("the node".into(), |node| node.to_string()))]
    NoAddress {
        /// The node, if it was named.
        node: Option<NodeId>,
    },
    /// None of the addresses answers.
    #[error("no answer: {}", tried.iter().map(|one| format!("{}: {}", one.address, one.reason)).collect::<Vec<_>>().join("; "))]
    Unreachable {
        /// Each address and why.
        tried: Vec<Tried>,
    },
    /// Another node answers there.
    #[error("{address} is node {got}, not {want}")]
    OtherNode {
        /// The address.
        address: String,
        /// Who answers.
        got: NodeId,
        /// Who was asked for.
        want: NodeId,
    },
    /// The address is our own.
    #[error("{address} is this node itself")]
    Ourselves {
        /// The address.
        address: String,
    },
    /// The two sides do not agree on more connections.
    #[error("a limit of this node allows no further connection: {limit}")]
    Limit {
        /// Which.
        limit: String,
    },
    /// The attempt was given up from our side, or the network is stopped.
    #[error("the attempt was given up")]
    GivenUp,
}

/// Why a stream could not be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is no connection with that node.
    #[error("not connected with {node}")]
    NotConnected {
        /// The node.
        node: NodeId,
    },
    /// We have not admitted that node.
    #[error("{node} is not admitted; only {} is open to it, {protocol} was asked for", Protocol::Hello)]
    NotAdmitted {
        /// The node.
        node: NodeId,
        /// The protocol asked for.
        protocol: Protocol,
    },
    /// The peer does not offer the protocol to us: it has not admitted us, or does not speak it.
    #[error("{node} refuses {protocol}")]
    Refused {
        /// The node.
        node: NodeId,
        /// The protocol asked for.
        protocol: Protocol,
    },
    /// As many as allowed are open or asked for.
    #[error("{max} streams with {node} are open or asked for already")]
    TooMany {
        /// The node.
        node: NodeId,
        /// The limit.
        max: usize,
    },
    /// The peer did not answer in time.
    #[error("{node} did not answer in time to {protocol}")]
    Timeout {
        /// The node.
        node: NodeId,
        /// The protocol asked for.
        protocol: Protocol,
    },
    /// The connection failed.
    #[error("the connection with {node} failed while opening {protocol}: {error}")]
    Io {
        /// The node.
        node: NodeId,
        /// The protocol asked for.
        protocol: Protocol,
        /// What the connection says.
        error: io::Error,
    },
    /// The connection was closed meanwhile.
    #[error("the connection with {node} was closed while opening {protocol}")]
    Lost {
        /// The node.
        node: NodeId,
        /// The protocol asked for.
        protocol: Protocol,
    },
}

/// Why a message was not published. Entries and headers are also fetched by sync, so none of these loses any.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PublishError {
    /// Longer than the topic allows.
    #[error("a message of {got} bytes, {topic:?} takes at most {max}")]
    TooLong {
        /// The topic.
        topic: Topic,
        /// Bytes of the message.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// No admitted peer is connected that listens to this topic.
    #[error("no peer listens to {topic:?}")]
    NoPeers {
        /// The topic.
        topic: Topic,
    },
    /// All peers are so slow that their queues are full.
    #[error("the queues of all {peers} peers are full")]
    Busy {
        /// How many.
        peers: usize,
    },
    /// The network is stopped.
    #[error(transparent)]
    Stopped(#[from] Stopped),
}
