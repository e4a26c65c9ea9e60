//! Which wants of others are answered next.
//!
//! A peer may have so much queued and so much on its way; beyond that it is told so, and asks somebody else. The most
//! urgent want goes first, among equals that of the peer who got the least so far.

use std::collections::{BTreeMap, VecDeque};

use bithealth_types::NodeId;
use serde::{Deserialize, Serialize};

use crate::WantId;

/// How urgent a want is, the least urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Somebody checks what we hold.
    Audit,
    /// Somebody rebuilds what was lost.
    Repair,
    /// Somebody waits for a record.
    Read,
    /// Somebody has lost everything.
    Restore,
}

/// The limits of serving. Composed in `node`; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// Peers with anything queued or on its way.
    pub peers_max: usize,
    /// Wants of one peer that wait.
    pub wants_queued_max: usize,
    /// Bytes on their way to one peer. One answer is always allowed.
    pub peer_bytes_max: u64,
    /// Bytes on their way to all peers, which bounds the memory of serving. One answer is always allowed.
    pub bytes_max: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self { peers_max: 1024, wants_queued_max: 128, peer_bytes_max: 16 << 20, bytes_max: 64 << 20 }
    }
}

/// What the shell tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeInput {
    /// A peer wants something.
    Want {
        /// Who.
        from: NodeId,
        /// Its name for it.
        want: WantId,
        /// How urgent it is.
        priority: Priority,
        /// Bytes of the answer.
        len: u64,
    },
    /// It needs no answer any more. One that is on its way goes on.
    Cancel {
        /// Who.
        from: NodeId,
        /// Which want.
        want: WantId,
    },
    /// Answers [`ServeEffect::Answer`]: the answer is sent, or could not be.
    Done {
        /// To whom.
        to: NodeId,
        /// Which want.
        want: WantId,
    },
    /// The peer is no longer connected; nothing is on its way to it.
    PeerLost {
        /// Who.
        peer: NodeId,
    },
}

/// What is asked of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeEffect {
    /// Read what was wanted and send it.
    Answer {
        /// To whom.
        to: NodeId,
        /// Which want.
        want: WantId,
    },
    /// Say that this want will have no answer.
    Refuse {
        /// To whom.
        to: NodeId,
        /// Which want.
        want: WantId,
        /// Why.
        why: Refusal,
    },
}

/// Why a want is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// As many of its wants wait as may.
    #[error("{max} wants of this peer are waiting, as many as may")]
    QueueFull {
        /// The limit.
        max: usize,
    },
    /// As many peers are served as may be.
    #[error("{max} peers are being served, as many as may be")]
    PeersFull {
        /// The limit.
        max: usize,
    },
    /// The peer has an unanswered want of this name.
    #[error("want {0:?} of this peer has no answer yet")]
    Repeated(WantId),
}

/// What waits and what is on its way.
#[derive(Debug)]
pub struct Serve {
    config: ServeConfig,
    peers: BTreeMap<NodeId, Peer>,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Peer {
    waiting: VecDeque<Waiting>,
    /// On their way, and how long they are.
    answering: BTreeMap<WantId, u64>,
    bytes: u64,
    /// Bytes it got, counted from the least anybody had when it came.
    served: u64,
}

#[derive(Debug)]
struct Waiting {
    want: WantId,
    priority: Priority,
    len: u64,
}

impl Serve {
    /// Serves nobody yet.
    pub fn new(config: ServeConfig) -> Self {
        Self { config, peers: BTreeMap::new(), bytes: 0 }
    }

    /// Takes one input; appends to `out` what the shell must do, in order. Never blocks, never fails.
    pub fn handle(&mut self, input: ServeInput, out: &mut VecDeque<ServeEffect>) {
        match input {
            ServeInput::Want { from, want, priority, len } => {
                if let Err(why) = self.queue(from, Waiting { want, priority, len }) {
                    out.push_back(ServeEffect::Refuse { to: from, want, why });
                }
            }
            ServeInput::Cancel { from, want } => {
                if let Some(peer) = self.peers.get_mut(&from) {
                    peer.waiting.retain(|waiting| waiting.want != want);
                }
            }
            ServeInput::Done { to, want } => {
                if let Some(peer) = self.peers.get_mut(&to) {
                    let len = peer.answering.remove(&want).unwrap_or(0);
                    peer.bytes -= len;
                    self.bytes -= len;
                }
            }
            ServeInput::PeerLost { peer } => {
                self.bytes -= self.peers.remove(&peer).map_or(0, |peer| peer.bytes);
            }
        }
        while let Some(next) = self.next() {
            out.push_back(self.start(next));
        }
        self.peers.retain(|_, peer| !peer.waiting.is_empty() || !peer.answering.is_empty());
    }

    fn queue(&mut self, from: NodeId, waiting: Waiting) -> Result<(), Refusal> {
        if !self.peers.contains_key(&from) && self.peers.len() >= self.config.peers_max {
            return Err(Refusal::PeersFull { max: self.config.peers_max });
        }
        let least = self.peers.values().map(|peer| peer.served).min().unwrap_or(0);
        let peer = self.peers.entry(from).or_insert(Peer { served: least, ..Peer::default() });
        if peer.answering.contains_key(&waiting.want) || peer.waiting.iter().any(|other| other.want == waiting.want) {
            return Err(Refusal::Repeated(waiting.want));
        }
        if peer.waiting.len() >= self.config.wants_queued_max {
            return Err(Refusal::QueueFull { max: self.config.wants_queued_max });
        }
        // The most urgent first; in the order they came where that is the same.
        let at = peer.waiting.partition_point(|other| other.priority >= waiting.priority);
        peer.waiting.insert(at, waiting);
        Ok(())
    }

    /// The peer whose first want is answered next; `None` if nothing waits or fits.
    fn next(&self) -> Option<NodeId> {
        let fits = |bytes: u64, len: u64, max: u64| bytes == 0 || bytes.saturating_add(len) <= max;
        let able = self.peers.iter().filter_map(|(id, peer)| {
            let first = peer.waiting.front()?;
            fits(peer.bytes, first.len, self.config.peer_bytes_max).then_some((first, peer.served, *id))
        });
        let (first, _, id) =
            able.min_by_key(|(first, served, id)| (std::cmp::Reverse(first.priority), *served, *id))?;
        // What is most urgent waits for room rather than see smaller ones pass it for ever.
        fits(self.bytes, first.len, self.config.bytes_max).then_some(id)
    }

    fn start(&mut self, to: NodeId) -> ServeEffect {
        let peer = self.peers.get_mut(&to).expect("next names a known peer");
        let Waiting { want, len, .. } = peer.waiting.pop_front().expect("next names a peer that waits");
        peer.answering.insert(want, len);
        peer.bytes += len;
        peer.served += len;
        self.bytes += len;
        ServeEffect::Answer { to, want }
    }
}

#[cfg(test)]
mod tests;
