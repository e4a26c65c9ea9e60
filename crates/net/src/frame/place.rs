//! A stream's place among those of its peer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use crate::peers::Peer;

/// Which side opened a stream: each has a limit of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Inbound,
    Outbound,
}

/// A place among the streams of a peer, given back on drop.
#[derive(Debug)]
pub(crate) struct Counted {
    pub(super) peer: Arc<Peer>,
    side: Side,
}

impl Counted {
    /// `None` if the peer has `max` streams of this side.
    pub(crate) fn take(peer: &Arc<Peer>, side: Side, max: usize) -> Option<Self> {
        let taken = Self::count(peer, side).fetch_update(Relaxed, Relaxed, |now| (now < max).then_some(now + 1));
        taken.ok().map(|_| Self { peer: peer.clone(), side })
    }

    fn count(peer: &Peer, side: Side) -> &AtomicUsize {
        match side {
            Side::Inbound => &peer.inbound,
            Side::Outbound => &peer.outbound,
        }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        Self::count(&self.peer, self.side).fetch_sub(1, Relaxed);
    }
}
