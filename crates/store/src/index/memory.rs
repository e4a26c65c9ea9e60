//! An index in memory: for tests, and for a running store whose disk has no room for sled.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, MutexGuard};

use super::{Closed, Entry, Index, IndexError, IndexHome};

/// An index that is lost when it is dropped.
#[derive(Default)]
pub(crate) struct MemoryIndex(Mutex<BTreeMap<Vec<u8>, Entry>>);

/// Makes [`MemoryIndex`]es; none is ever found again.
pub(crate) struct MemoryHome;

impl MemoryIndex {
    fn entries(&self) -> MutexGuard<'_, BTreeMap<Vec<u8>, Entry>> {
        self.0.lock().expect("nothing panics while it holds the map")
    }
}

impl Index for MemoryIndex {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, IndexError> {
        Ok(self.entries().get(key).copied())
    }

    fn set(&self, key: &[u8], entry: Option<Entry>) -> Result<Option<Entry>, IndexError> {
        Ok(match entry {
            Some(entry) => self.entries().insert(key.to_vec(), entry),
            None => self.entries().remove(key),
        })
    }

    fn page(&self, after: &[u8], count: usize) -> Result<Vec<(Vec<u8>, Entry)>, IndexError> {
        let entries = self.entries();
        let following = entries.range::<[u8], _>((Bound::Excluded(after), Bound::Unbounded));
        Ok(following.take(count).map(|(key, entry)| (key.clone(), *entry)).collect())
    }

    fn close(self: Box<Self>) -> Closed {
        Closed::GONE
    }
}

impl IndexHome for MemoryHome {
    fn reopen(&self, _closed: &Closed) -> Option<Box<dyn Index>> {
        None
    }

    fn create(&self) -> Box<dyn Index> {
        Box::new(MemoryIndex::default())
    }
}
