//! What the driver is told, and the queue it is told through.

use std::collections::VecDeque;

use bithealth_types::{Digest, NodeId};
use bytes::Bytes;
use tokio::sync::mpsc;

use crate::{Protocol, Stream};

/// What happened.
#[derive(Debug)]
#[non_exhaustive]
pub enum Event {
    /// The first connection with a peer stands.
    Connected {
        /// The peer.
        node: NodeId,
        /// Its address on this connection.
        addr: String,
        /// We dialled.
        outbound: bool,
    },
    /// The last connection with a peer is gone.
    Disconnected {
        /// The peer.
        node: NodeId,
    },
    /// A peer opened a stream. Dropping it closes it.
    Stream {
        /// The peer.
        from: NodeId,
        /// Of which protocol.
        protocol: Protocol,
        /// The stream.
        stream: Stream,
    },
    /// An admitted peer passed on a message. It goes no further until [`crate::Net::judge`] says so.
    Gossip {
        /// What it is about.
        topic: Topic,
        /// Who passed it on; not who wrote it, which no message says.
        from: NodeId,
        /// Names the message to [`crate::Net::judge`].
        id: GossipId,
        /// The message.
        bytes: Bytes,
    },
    /// We listen on one more address.
    NewAddress {
        /// With our peer id at its end.
        address: String,
    },
    /// An admitted peer says where it can be reached now: [`crate::Net::addresses_of`].
    Moved {
        /// The peer.
        node: NodeId,
    },
}

/// What gossip is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Topic {
    /// `NewEntries`.
    Entries,
    /// `SignedHeader`s.
    Headers,
    /// `ConsensusMessage`s.
    Consensus,
}

impl Topic {
    /// All topics.
    pub const ALL: [Self; 3] = [Self::Entries, Self::Headers, Self::Consensus];

    /// The name nodes subscribe to.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Entries => "bithealth/entries/1",
            Self::Headers => "bithealth/headers/1",
            Self::Consensus => "bithealth/consensus/1",
        }
    }
}

/// A gossiped message: SHA-256 of its topic and its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GossipId(pub Digest);

/// What to do with a gossiped message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Valid: pass it on.
    Accept,
    /// Of no use, or unknown whether valid: do not pass it on, and blame nobody.
    Ignore,
    /// False: do not pass it on, and lower the score of who did.
    Reject,
}

/// The events, in order. For one reader.
#[derive(Debug)]
pub struct Events(pub(crate) mpsc::Receiver<Event>);

impl Events {
    /// The next event; `None` once the network is stopped and all were read.
    pub async fn next(&mut self) -> Option<Event> {
        self.0.recv().await
    }
}

/// The task's end of the queue. Nothing here waits.
///
/// Streams and gossip are refused when the queue is full. What the driver must not miss goes into `overflow`, which is
/// bounded by the connections there can be: a peer that comes and goes unseen leaves nothing in it.
#[derive(Debug)]
pub(crate) struct Outbox {
    queue: mpsc::Sender<Event>,
    overflow: VecDeque<Event>,
}

/// The driver has not read enough events to take one more.
#[derive(Debug)]
pub(crate) struct Full;

impl Outbox {
    pub(crate) fn new(queue: mpsc::Sender<Event>) -> Self {
        Self { queue, overflow: VecDeque::new() }
    }

    /// Drops the event if the driver is behind.
    pub(crate) fn offer(&mut self, event: Event) -> Result<(), Full> {
        self.room()?.send(event);
        Ok(())
    }

    /// Never loses the event.
    pub(crate) fn put(&mut self, event: Event) {
        if let Ok(room) = self.room() {
            return room.send(event);
        }
        if self.queue.is_closed() {
            return; // nobody will read it
        }
        if let Event::Disconnected { node: gone } = event {
            let unseen = |one: &Event| matches!(one, Event::Connected { node, .. } if *node == gone);
            if let Some(position) = self.overflow.iter().position(unseen) {
                self.overflow.remove(position);
                return;
            }
        }
        self.overflow.push_back(event);
    }

    /// A place in the queue, unless something waits for one already.
    fn room(&self) -> Result<mpsc::Permit<'_, Event>, Full> {
        if self.has_overflow() { Err(Full) } else { self.queue.try_reserve().map_err(|_| Full) }
    }

    pub(crate) fn has_overflow(&self) -> bool {
        !self.overflow.is_empty()
    }

    /// Moves one event from the overflow into the queue once there is room. Cancel safe.
    pub(crate) async fn drain_one(&mut self) {
        match self.queue.reserve().await {
            Ok(room) => {
                if let Some(event) = self.overflow.pop_front() {
                    room.send(event);
                }
            }
            Err(_) => self.overflow.clear(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connected(id: u8) -> Event {
        Event::Connected { node: NodeId([id; 32]), addr: String::new(), outbound: false }
    }

    fn disconnected(id: u8) -> Event {
        Event::Disconnected { node: NodeId([id; 32]) }
    }

    #[tokio::test]
    async fn a_full_queue_refuses_what_may_be_lost_and_keeps_what_may_not() {
        let (sender, mut receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender);
        outbox.offer(connected(1)).unwrap();
        assert!(outbox.offer(connected(2)).is_err());
        outbox.put(disconnected(1));
        assert!(matches!(receiver.recv().await, Some(Event::Connected { .. })));
        assert!(outbox.offer(connected(2)).is_err(), "it would overtake what waits");
        outbox.drain_one().await;
        assert!(matches!(receiver.recv().await, Some(Event::Disconnected { .. })));
        assert!(!outbox.has_overflow());
    }

    #[tokio::test]
    async fn peers_that_come_and_go_unseen_leave_nothing() {
        let (sender, _receiver) = mpsc::channel(1);
        let mut outbox = Outbox::new(sender);
        outbox.put(connected(1));
        for id in 2..200 {
            outbox.put(connected(id));
            outbox.put(disconnected(id));
        }
        assert!(!outbox.has_overflow());
    }

    #[tokio::test]
    async fn without_a_reader_nothing_gathers() {
        let (sender, receiver) = mpsc::channel(1);
        drop(receiver);
        let mut outbox = Outbox::new(sender);
        outbox.put(connected(1));
        assert!(!outbox.has_overflow());
    }
}
