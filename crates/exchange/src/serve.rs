//! Which wants of others are answered next, and who is told to wait.
//!
//! A peer may have so much queued and so much on its way. Long before its queue is full it is choked: it sends no more
//! until it is unchoked, and asks somebody else. Whoever goes on all the same is refused, want by want.
//!
//! Of one peer's wants the most urgent goes first. Between peers urgency is a share, not a right of way, since any peer
//! may claim any: a restore gets four times the bytes of a read, that four times those of a repair, and so on, so whoever
//! lies about it slows others and never stops them. Source: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM 1996).
//!
//! What is on its way to one peer is never more than what is left for all others together, but for one answer. So a few
//! peers that take no answers leave room for the rest until the shell loses patience with them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, VecDeque};

use bithealth_types::{NodeId, Time};
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

impl Priority {
    /// What a byte counts against its peer: the next more urgent one gets four times as many.
    fn cost(self) -> u64 {
        match self {
            Self::Restore => 1,
            Self::Read => 4,
            Self::Repair => 16,
            Self::Audit => 64,
        }
    }
}

/// The limits of serving. Composed in `node`; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ServeConfig {
    /// Peers with a stream open: as many as may be connected.
    pub peers_max: usize,
    /// Streams of one peer. Five are used, and as many may be left of a connection that was lost.
    pub streams_per_peer_max: usize,
    /// Wants of one peer that wait; one more is refused.
    pub wants_queued_max: usize,
    /// With so many waiting it is choked,
    pub wants_choked_at: usize,
    /// and with so few unchoked.
    pub wants_unchoked_at: usize,
    /// Bytes on their way to one peer. One answer is always allowed.
    pub peer_bytes_max: u64,
    /// Bytes on their way to all peers, which bounds the memory of serving. One answer is always allowed.
    pub bytes_max: u64,
    /// Bytes sent to all peers each second; 0: as many as the network takes.
    pub bytes_per_s_max: u64,
    /// A peer that takes no answer, or sends no more of a message it began, for so long loses its stream.
    pub patience_ms: u64,
}

impl Default for ServeConfig {
    fn default() -> Self {
        Self {
            peers_max: 256,
            streams_per_peer_max: 12,
            wants_queued_max: 256,
            wants_choked_at: 128,
            wants_unchoked_at: 32,
            peer_bytes_max: 8 << 20,
            bytes_max: 32 << 20,
            bytes_per_s_max: 0,
            patience_ms: 30_000,
        }
    }
}

/// One stream of a peer: it names its wants anew on each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// Who.
    pub peer: NodeId,
    /// Over which of the streams there ever were.
    pub stream: u64,
}

/// What the shell tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeInput {
    /// A peer wants something.
    Want {
        /// Who.
        from: Asker,
        /// Its name for it.
        want: WantId,
        /// How urgent it is.
        priority: Priority,
        /// Bytes of the answer.
        len: u64,
        /// Bytes that are read for it: more where it is made of others. They count as on their way, and as the peer's share.
        reads: u64,
    },
    /// It needs no answer any more. One that is on its way goes on.
    Cancel {
        /// Who.
        from: Asker,
        /// Which want.
        want: WantId,
    },
    /// Answers [`ServeEffect::Answer`]: the answer is sent, or could not be.
    Done {
        /// To whom.
        to: Asker,
        /// Which want.
        want: WantId,
    },
    /// The stream ended. What is on its way to it counts until it is done.
    Closed {
        /// Which.
        from: Asker,
    },
    /// Answers [`ServeEffect::WakeAt`]; does no harm at any time.
    Tick,
}

/// What is asked of the shell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ServeEffect {
    /// Read what was wanted and send it.
    Answer {
        /// To whom.
        to: Asker,
        /// Which want.
        want: WantId,
    },
    /// Say that this want will have no answer.
    Refuse {
        /// To whom.
        to: Asker,
        /// Which want.
        want: WantId,
        /// Why.
        why: Refusal,
    },
    /// Ask this peer to send no wants.
    Choke {
        /// Whom.
        peer: NodeId,
    },
    /// Tell this peer that it may send wants again.
    Unchoke {
        /// Whom.
        peer: NodeId,
    },
    /// Send a [`ServeInput::Tick`] at this time.
    WakeAt(Time),
}

/// Why a want or a stream is refused.
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
    /// As many of its streams are open as may be.
    #[error("{max} streams of this peer are open, as many as may be")]
    StreamsFull {
        /// The limit.
        max: usize,
    },
    /// The stream has an unanswered want of this name.
    #[error("want {0:?} of this peer has no answer yet")]
    Repeated(WantId),
}

/// What waits and what is on its way.
#[derive(Debug)]
pub struct Serve {
    config: ServeConfig,
    peers: BTreeMap<NodeId, Peer>,
    streams_made: u64,
    bytes: u64,
    /// What the peer served last had had before: who comes now has had as much.
    clock: u64,
    pace: Pace,
    wake_at: Option<Time>,
}

/// What was sent without a pause, and since when: the next answer goes when the line is free again.
#[derive(Debug, Default)]
struct Pace {
    since: Time,
    bytes: u64,
}

#[derive(Debug, Default)]
struct Peer {
    /// Streams that are open.
    streams: usize,
    waiting: VecDeque<Waiting>,
    /// On their way, and how much is read for them.
    answering: BTreeMap<(u64, WantId), u64>,
    bytes: u64,
    /// Bytes it got, by their cost.
    served: u64,
    choked: bool,
}

#[derive(Debug)]
struct Waiting {
    stream: u64,
    want: WantId,
    priority: Priority,
    len: u64,
    reads: u64,
}

impl Serve {
    /// Serves nobody yet.
    pub fn new(config: ServeConfig) -> Self {
        Self {
            config,
            peers: BTreeMap::new(),
            streams_made: 0,
            bytes: 0,
            clock: 0,
            pace: Pace::default(),
            wake_at: None,
        }
    }

    /// The limits.
    pub fn config(&self) -> &ServeConfig {
        &self.config
    }

    /// A peer opens a stream; it is open until [`ServeInput::Closed`].
    ///
    /// # Errors
    /// [`Refusal`] if there are too many, of this peer or of peers.
    pub fn open(&mut self, peer: NodeId) -> Result<Asker, Refusal> {
        if !self.peers.contains_key(&peer) && self.peers.len() >= self.config.peers_max {
            return Err(Refusal::PeersFull { max: self.config.peers_max });
        }
        let at = self.peers.entry(peer).or_default();
        if at.streams >= self.config.streams_per_peer_max {
            return Err(Refusal::StreamsFull { max: self.config.streams_per_peer_max });
        }
        at.streams += 1;
        self.streams_made += 1;
        Ok(Asker { peer, stream: self.streams_made })
    }

    /// Whether a peer is choked: what a stream that it opens now has to be told.
    pub fn is_choked(&self, peer: &NodeId) -> bool {
        self.peers.get(peer).is_some_and(|peer| peer.choked)
    }

    /// How many peers are choked.
    pub fn choked_count(&self) -> usize {
        self.peers.values().filter(|peer| peer.choked).count()
    }

    /// Takes one input at `now`; appends to `out` what the shell must do, in order. Never blocks, never fails.
    pub fn handle(&mut self, now: Time, input: ServeInput, out: &mut VecDeque<ServeEffect>) {
        match input {
            ServeInput::Want { from, want, priority, len, reads } => {
                if let Err(why) = self.queue(from.peer, Waiting { stream: from.stream, want, priority, len, reads }) {
                    out.push_back(ServeEffect::Refuse { to: from, want, why });
                }
            }
            ServeInput::Tick => {}
            ServeInput::Cancel { from, want } => self.forget(&from, |waiting| waiting.want == want),
            ServeInput::Done { to, want } => self.on_done(&to, want),
            ServeInput::Closed { from } => {
                self.forget(&from, |_| true);
                if let Some(peer) = self.peers.get_mut(&from.peer) {
                    peer.streams = peer.streams.saturating_sub(1);
                }
            }
        }
        while let Some(next) = self.next().filter(|_| self.free_at() <= now) {
            out.push_back(self.start(now, next));
        }
        self.arm(now, out);
        self.choke(out);
        self.peers.retain(|_, peer| peer.streams > 0 || !peer.answering.is_empty());
    }

    fn queue(&mut self, from: NodeId, waiting: Waiting) -> Result<(), Refusal> {
        let Some(peer) = self.peers.get_mut(&from).filter(|peer| peer.streams > 0) else {
            return Ok(()); // its stream has ended: nobody waits for an answer
        };
        let name = (waiting.stream, waiting.want);
        if peer.answering.contains_key(&name) || peer.waiting.iter().any(|other| (other.stream, other.want) == name) {
            return Err(Refusal::Repeated(waiting.want));
        }
        if peer.waiting.len() >= self.config.wants_queued_max {
            return Err(Refusal::QueueFull { max: self.config.wants_queued_max });
        }
        if peer.waiting.is_empty() && peer.answering.is_empty() {
            peer.served = peer.served.max(self.clock); // nobody saves up shares by wanting nothing
        }
        // The most urgent first; in the order they came where that is the same.
        let at = peer.waiting.partition_point(|other| other.priority >= waiting.priority);
        peer.waiting.insert(at, waiting);
        Ok(())
    }

    fn forget(&mut self, from: &Asker, which: impl Fn(&Waiting) -> bool) {
        if let Some(peer) = self.peers.get_mut(&from.peer) {
            peer.waiting.retain(|waiting| waiting.stream != from.stream || !which(waiting));
        }
    }

    fn on_done(&mut self, to: &Asker, want: WantId) {
        if let Some(peer) = self.peers.get_mut(&to.peer) {
            let reads = peer.answering.remove(&(to.stream, want)).unwrap_or(0);
            peer.bytes -= reads;
            self.bytes -= reads;
        }
    }

    /// The peer whose first want is answered next; `None` if nothing waits or fits.
    fn next(&self) -> Option<NodeId> {
        let free = self.config.bytes_max.saturating_sub(self.bytes);
        let able = self.peers.iter().filter_map(|(id, peer)| {
            let first = peer.waiting.front()?;
            let within_share = peer.bytes.saturating_add(first.reads) <= free.min(self.config.peer_bytes_max);
            (peer.bytes == 0 || within_share).then_some((first, peer.served, *id))
        });
        let (first, _, id) = able.min_by_key(|(first, served, id)| (*served, Reverse(first.priority), *id))?;
        // Whose turn it is waits for room rather than see smaller ones pass it for ever.
        (self.bytes == 0 || first.reads <= free).then_some(id)
    }

    /// When the pace allows the next answer.
    fn free_at(&self) -> Time {
        match self.config.bytes_per_s_max {
            0 => Time(0),
            pace => Time(self.pace.since.0 + self.pace.bytes * 1000 / pace),
        }
    }

    /// Asks to be woken when an answer that waits for the pace may go.
    fn arm(&mut self, now: Time, out: &mut VecDeque<ServeEffect>) {
        let due = self.next().map(|_| self.free_at()).filter(|at| now < *at);
        if due.is_some() && due != self.wake_at {
            out.extend(due.map(ServeEffect::WakeAt));
        }
        self.wake_at = due;
    }

    fn start(&mut self, now: Time, to: NodeId) -> ServeEffect {
        if self.free_at() < now {
            self.pace = Pace { since: now, bytes: 0 };
        }
        self.pace.bytes += self.peers[&to].waiting.front().map_or(0, |first| first.len);
        let peer = self.peers.get_mut(&to).expect("next names a known peer");
        let Waiting { stream, want, priority, reads, .. } =
            peer.waiting.pop_front().expect("next names a peer that waits");
        peer.answering.insert((stream, want), reads);
        peer.bytes += reads;
        self.bytes += reads;
        self.clock = self.clock.max(peer.served);
        peer.served = peer.served.saturating_add(reads.saturating_mul(priority.cost()));
        ServeEffect::Answer { to: Asker { peer: to, stream }, want }
    }

    /// Who has too much waiting is told so once, and once when it has not any more.
    fn choke(&mut self, out: &mut VecDeque<ServeEffect>) {
        for (id, peer) in &mut self.peers {
            let waiting = peer.waiting.len();
            if !peer.choked && waiting >= self.config.wants_choked_at {
                peer.choked = true;
                out.push_back(ServeEffect::Choke { peer: *id });
            } else if peer.choked && waiting <= self.config.wants_unchoked_at {
                peer.choked = false;
                out.push_back(ServeEffect::Unchoke { peer: *id });
            }
        }
    }
}

#[cfg(test)]
mod tests;
