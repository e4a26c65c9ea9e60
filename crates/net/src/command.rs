//! What the handle asks of the task.

use bithealth_types::NodeId;
use bytes::Bytes;
use libp2p::{Multiaddr, PeerId};
use tokio::sync::oneshot;

use crate::streams::Open;
use crate::{DialError, GossipId, PublishError, Topic, Verdict};

/// Commands that wait for the task. It handles each at once, so this only evens out bursts; callers beyond it wait.
pub(crate) const COMMANDS_MAX: usize = 256;

/// A command. Where something comes back, a dropped sender means that the task has ended.
#[derive(Debug)]
pub(crate) enum Command {
    Dial { peer: Option<PeerId>, addresses: Vec<Multiaddr>, reply: oneshot::Sender<Result<NodeId, DialError>> },
    Admit { peer: PeerId, node: NodeId, done: oneshot::Sender<()> },
    Expel { peer: PeerId, node: NodeId, done: oneshot::Sender<()> },
    Keep { peer: PeerId, node: NodeId, addresses: Vec<Multiaddr>, done: oneshot::Sender<()> },
    Release { peer: PeerId, node: NodeId, done: oneshot::Sender<()> },
    Open { peer: PeerId, node: NodeId, open: Open },
    Publish { topic: Topic, bytes: Bytes, reply: oneshot::Sender<Result<(), PublishError>> },
    Judge { id: GossipId, from: PeerId, verdict: Verdict },
    Stop { done: oneshot::Sender<()> },
}
