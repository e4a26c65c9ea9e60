//! A large record that is read from front to back, out of packs that others hold.
//!
//! Of each pack all that is needed is fetched in one go, by a fetch that the reader's jobs share; once all of it is wanted
//! and the reader has come to it, the next pack's begins. So the pipe stays full across the borders of packs, at most two
//! packs and a bit are in memory, and many that read one record have something to give one another.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use bithealth_exchange::{Need, Priority};
use bithealth_types::{Code, LEAF_LEN, NodeId, PackId, ShardIndex};
use tokio::task::AbortHandle;

use super::assemble::leaves_of;
use super::driver::Driver;
use super::gathered::Gathered;
use super::{FetchError, FetchedRange, SWARM_LEN_MIN, descriptor, leaves_of_range, within};
use crate::node::Node;
use crate::shelf::Salt;

/// What one reader reads of packs, in order.
pub struct Ahead {
    node: Arc<Node>,
    parts: Mutex<Vec<Part>>,
    /// Nodes that read the same, as the fetches so far heard.
    fellows: Arc<Mutex<BTreeSet<NodeId>>>,
}

/// What is read of one pack.
struct Part {
    salt: Salt,
    range: Range<u64>,
    /// Whether the reader has come to it.
    is_begun: bool,
    transfer: Option<Arc<Transfer>>,
}

/// A fetch that several jobs share.
struct Transfer {
    code: Code,
    pack_len: u64,
    gathered: Arc<Gathered>,
    task: AbortHandle,
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Ahead {
    /// A reader of these ranges of packs, named by their salts, in the order in which it reads them.
    pub fn new(node: &Arc<Node>, ranges: Vec<(Salt, Range<u64>)>) -> Arc<Self> {
        let part = |(salt, range)| Part { salt, range, is_begun: false, transfer: None };
        let parts = Mutex::new(ranges.into_iter().map(part).collect());
        Arc::new(Self { node: node.clone(), parts, fellows: Arc::default() })
    }

    /// A range of a pack that is not here.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn read(
        self: &Arc<Self>,
        salt: &Salt,
        pack: &PackId,
        wanted: Range<u64>,
    ) -> Result<FetchedRange, FetchError> {
        if let Some(transfer) = self.come_to(salt, &wanted)
            && let Some(fetched) = transfer.read(pack, &wanted).await
        {
            return Ok(fetched);
        }
        leaves_of_range(&self.node, pack, wanted, Priority::Read).await
    }

    /// The fetch that this range is a part of; `None` if it is too little to share one.
    fn come_to(self: &Arc<Self>, salt: &Salt, wanted: &Range<u64>) -> Option<Arc<Transfer>> {
        let mut parts = self.parts();
        let holds =
            |part: &Part| part.salt == *salt && part.range.start <= wanted.start && wanted.end <= part.range.end;
        let at = parts.iter().position(holds)?;
        // Jobs overtake one another by a little: only what lies further back is done.
        parts[..at.saturating_sub(1)].iter_mut().for_each(|part| part.transfer = None);
        self.start(&mut parts, at)?;
        let part = &mut parts[at];
        part.is_begun = true;
        let transfer = part.transfer.clone()?;
        if transfer.gathered.watch().borrow().is_all_wanted {
            self.start(&mut parts, at + 1);
        }
        Some(transfer)
    }

    fn start(self: &Arc<Self>, parts: &mut [Part], at: usize) -> Option<()> {
        let part = parts.get_mut(at)?;
        if part.transfer.is_some() {
            return Some(());
        }
        let pack = self.node.chain.state().pack_with_salt(&part.salt)?;
        let is_here = self.node.vault.own(&pack).is_some() && !part.is_begun && at > 0;
        if part.range.end - part.range.start < SWARM_LEN_MIN || is_here {
            return None;
        }
        let (descriptor, code) = descriptor(&self.node, &pack).ok()?;
        let range = part.range.start..part.range.end.min(descriptor.len);
        let need = Need::Ranges(leaves_of(code, descriptor.len, &range));
        let driver = Driver::new(&self.node, pack, &descriptor, code, need, Priority::Read).with(self.fellows.clone());
        let gathered = driver.gathered();
        let task = tokio::spawn(driver.run()).abort_handle();
        tokio::spawn(go_on(Arc::downgrade(self), gathered.clone(), at));
        part.transfer = Some(Arc::new(Transfer { code, pack_len: descriptor.len, gathered, task }));
        Some(())
    }

    fn parts(&self) -> MutexGuard<'_, Vec<Part>> {
        self.parts.lock().expect("no holder panics")
    }
}

/// Begins with the next pack once all of this one is wanted, if the reader has come to it.
async fn go_on(ahead: Weak<Ahead>, gathered: Arc<Gathered>, at: usize) {
    let mut state = gathered.watch();
    if !state.wait_for(|state| state.is_all_wanted || state.is_over).await.is_ok_and(|state| state.is_all_wanted) {
        return;
    }
    let Some(ahead) = ahead.upgrade() else { return };
    let mut parts = ahead.parts();
    if parts[at].is_begun {
        ahead.start(&mut parts, at + 1);
    }
}

impl Transfer {
    /// The leaves of a range once they are here; `None` if the fetch ended without them.
    async fn read(&self, pack: &PackId, wanted: &Range<u64>) -> Option<FetchedRange> {
        let needed = leaves_of(self.code, self.pack_len, wanted);
        let mut state = self.gathered.watch();
        let leaves = loop {
            let is_over = state.borrow_and_update().is_over;
            if let Some(leaves) = self.gathered.needed_for(self.code, &needed) {
                break leaves;
            }
            if is_over || state.changed().await.is_err() {
                return None;
            }
        };
        let within = within(self.code, self.pack_len, &needed, wanted);
        let gathered = Some(self.gathered.clone());
        Some(FetchedRange { pack: *pack, code: self.code, needed, leaves, within, gathered })
    }
}

/// Of these leaves, those that no neighbour needs too: the first and the last may lie in two ranges.
pub(super) fn inner(mut needed: Vec<(ShardIndex, Range<u32>)>, skip: usize) -> Vec<(ShardIndex, Range<u32>)> {
    if let Some((_, first)) = needed.first_mut().filter(|_| !skip.is_multiple_of(LEAF_LEN)) {
        first.start += 1;
    }
    if let Some((_, last)) = needed.last_mut() {
        last.end = last.end.saturating_sub(1).max(last.start);
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaves_that_a_neighbour_needs_too_are_kept() {
        let needed = |ranges: &[(u16, Range<u32>)]| -> Vec<_> {
            ranges.iter().map(|(shard, range)| (ShardIndex(*shard), range.clone())).collect()
        };
        assert_eq!(inner(needed(&[(0, 3..9)]), 0), needed(&[(0, 3..8)]));
        assert_eq!(inner(needed(&[(0, 3..9)]), 100), needed(&[(0, 4..8)]));
        assert_eq!(inner(needed(&[(0, 3..9), (1, 0..5)]), 100), needed(&[(0, 4..9), (1, 0..4)]));
        assert!(inner(needed(&[(0, 3..4)]), 100)[0].1.is_empty());
    }
}
