//! Where the newest record of each key lies. Nothing in an index is worth more than a scan of the segments.

pub(crate) mod memory;
pub(crate) mod sled;

use crate::record::record_len;

/// Where a record lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) segment: u64,
    pub(crate) offset: u64,
    pub(crate) meta_len: u32,
    pub(crate) body_len: u64,
}

impl Entry {
    /// Bytes of the record, if its key has `key_len` bytes.
    pub(crate) fn byte_len(&self, key_len: usize) -> u64 {
        record_len(key_len, self.meta_len, self.body_len)
    }
}

/// The index has failed; it must be rebuilt.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IndexError {
    #[error("sled: {0}")]
    Sled(#[from] ::sled::Error),
    #[error("sled panicked")]
    Panicked,
    #[error("an entry has {got} bytes")]
    Malformed { got: usize },
}

/// How a cleanly closed index is known again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) folder: u64,
    pub(crate) digest: [u8; 32],
}

impl Closed {
    /// Of an index that cannot be opened again.
    pub(crate) const GONE: Self = Self { folder: 0, digest: [0; 32] };
}

/// Keys of the index are the kind's byte and then the record's key.
pub(crate) fn index_key(kind: u8, key: &[u8]) -> Vec<u8> {
    [&[kind], key].concat()
}

/// An open index.
pub(crate) trait Index: Send + Sync {
    fn get(&self, key: &[u8]) -> Result<Option<Entry>, IndexError>;
    /// Sets or removes the entry of a key; returns what it was.
    fn set(&self, key: &[u8], entry: Option<Entry>) -> Result<Option<Entry>, IndexError>;
    /// At most `count` entries whose keys come after `after`, in order.
    fn page(&self, after: &[u8], count: usize) -> Result<Vec<(Vec<u8>, Entry)>, IndexError>;
    /// Writes everything out.
    fn close(self: Box<Self>) -> Closed;
}

/// Where indexes are kept.
pub(crate) trait IndexHome: Send + Sync {
    /// The index that was closed so, if it is still exactly that.
    fn reopen(&self, closed: &Closed) -> Option<Box<dyn Index>>;
    /// An empty index; removes all others.
    fn create(&self) -> Box<dyn Index>;
}

#[cfg(test)]
mod tests {
    use super::memory::MemoryHome;
    use super::sled::SledHome;
    use super::*;

    fn entry(segment: u64) -> Entry {
        Entry { segment, offset: 128, meta_len: 3, body_len: 4 }
    }

    fn every_home(test: impl Fn(&dyn IndexHome)) {
        let dir = tempfile::tempdir().unwrap();
        test(&SledHome::new(dir.path().join("index"), 1 << 20));
        test(&MemoryHome);
    }

    #[test]
    fn entries_are_set_found_and_removed() {
        every_home(|home| {
            let index = home.create();
            assert_eq!(index.set(b"a", Some(entry(1))).unwrap(), None);
            assert_eq!(index.set(b"a", Some(entry(2))).unwrap(), Some(entry(1)));
            assert_eq!(index.get(b"a").unwrap(), Some(entry(2)));
            assert_eq!(index.set(b"a", None).unwrap(), Some(entry(2)));
            assert_eq!(index.get(b"a").unwrap(), None);
        });
    }

    #[test]
    fn pages_follow_one_another_in_order() {
        every_home(|home| {
            let index = home.create();
            for i in (0..10u8).rev() {
                index.set(&[1, i], Some(entry(u64::from(i)))).unwrap();
            }
            let first = index.page(&[1], 4).unwrap();
            assert_eq!(first.iter().map(|(key, _)| key[1]).collect::<Vec<_>>(), [0, 1, 2, 3]);
            let second = index.page(&first[3].0, 100).unwrap();
            assert_eq!(second.iter().map(|(key, _)| key[1]).collect::<Vec<_>>(), [4, 5, 6, 7, 8, 9]);
        });
    }
}
