//! Entries of ours on their way into gossip: one that comes alone goes at once, many that come together go together.
//!
//! A message costs every node more than a small entry in it: 780 entries a second of 180 bytes took nine nodes 1.8
//! processor seconds a second with a message each, and take 0.9 together.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bithealth_net::Topic;
use bithealth_proto::{Limited, encode, v1};
use prost::Message as _;
use tokio::sync::mpsc;
use tracing::debug;

use crate::node::Node;

/// Between two messages: what is written meanwhile goes with the second.
const PAUSE: Duration = Duration::from_millis(50);
/// Entries that wait. What does not fit is told by sync.
const WAITING_MAX: usize = 4096;
/// Most bytes of a message's tag and length in front of an entry.
const FRAME_LEN_MAX: usize = 5;

/// Entries of ours on their way into gossip, in the order of the log.
pub struct Outbox {
    sender: mpsc::Sender<v1::SignedEntry>,
    waiting: Mutex<Option<mpsc::Receiver<v1::SignedEntry>>>,
}

impl Default for Outbox {
    fn default() -> Self {
        let (sender, waiting) = mpsc::channel(WAITING_MAX);
        Self { sender, waiting: Mutex::new(Some(waiting)) }
    }
}

impl Outbox {
    /// Tells the others of an entry, soon.
    pub fn push(&self, entry: v1::SignedEntry) {
        if self.sender.try_send(entry).is_err() {
            debug!("an entry is not gossiped: too many wait");
        }
    }
}

/// Gossips what is pushed, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    let waiting = node.outbox.waiting.lock().expect("no holder panics").take();
    let mut waiting = waiting.expect("it is run once");
    while let Some(first) = waiting.recv().await {
        let mut batch = Batch::default();
        let mut next = Some(first);
        while let Some(entry) = next {
            if let Err(entry) = batch.add(entry) {
                node.publish(Topic::Entries, std::mem::take(&mut batch).message()).await;
                next = Some(entry);
            } else {
                next = waiting.try_recv().ok();
            }
        }
        node.publish(Topic::Entries, batch.message()).await;
        tokio::time::sleep(PAUSE).await;
    }
}

/// As many entries as a message takes.
#[derive(Debug, Default)]
pub struct Batch {
    entries: v1::NewEntries,
    len: usize,
}

impl Batch {
    /// Takes the entry, or gives it back if there is no room beside the others. An empty batch takes any.
    pub fn add(&mut self, entry: v1::SignedEntry) -> Result<(), v1::SignedEntry> {
        let len = self.len + entry.encoded_len() + FRAME_LEN_MAX;
        if len > v1::NewEntries::LEN_MAX {
            return Err(entry);
        }
        self.len = len;
        self.entries.entries.push(entry);
        Ok(())
    }

    /// The message to gossip.
    pub fn message(&self) -> Vec<u8> {
        encode(&self.entries)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn entry(len: usize) -> v1::SignedEntry {
        v1::SignedEntry { entry: Bytes::from(vec![1; len]), signature: Bytes::from(vec![2; 64]) }
    }

    #[test]
    fn a_batch_is_never_longer_than_a_message_may_be() {
        for len in [1, 127, 128, 1_700, 16_383, 16_384, 60 << 10] {
            let mut batch = Batch::default();
            let mut count = 0;
            while batch.add(entry(len)).is_ok() {
                count += 1;
            }
            let full = batch.message();
            assert!(full.len() <= v1::NewEntries::LEN_MAX, "{count} of {len}");
            assert_eq!(batch.entries.entries.len(), count);
            let unused = v1::NewEntries::LEN_MAX - full.len();
            assert!(unused < len + 80 + count * FRAME_LEN_MAX, "{unused} bytes unused beside {count} of {len}");
        }
    }

    #[test]
    fn the_longest_entry_fits_alone() {
        let longest = entry(v1::SignedEntry::LEN_MAX - 80);
        let mut batch = Batch::default();
        batch.add(longest.clone()).unwrap();
        assert!(batch.message().len() <= v1::NewEntries::LEN_MAX);
        assert_eq!(batch.add(longest.clone()), Err(longest));
    }
}
