//! Reading: every byte that leaves the store was verified by its checksum.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::vec;

use bytes::Bytes;

use super::Store;
use crate::disk::DiskFile;
use crate::error::{At, Fault, ReadError};
use crate::index::{Entry, index_key};
use crate::item::{Item, Kind};
use crate::record::{Checked, Head, Seal, read_body, read_head, read_meta};

/// Keys taken from the index at a time.
const PAGE_COUNT: usize = 256;

/// The keys of a kind, in order. Keys put or removed meanwhile may be among them or not.
pub struct Keys<'a> {
    store: &'a Store,
    kind: Kind,
    after: Vec<u8>,
    page: vec::IntoIter<(Vec<u8>, Entry)>,
    over: bool,
}

impl Store {
    /// The meta and length of an item; `None` if there is no such key.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] if the record does not verify, [`ReadError::Io`].
    pub fn get(&self, kind: Kind, key: &[u8]) -> Result<Option<Item>, ReadError> {
        self.with_record(kind, key, |file, _, head| {
            let meta = match read_meta(file, head)? {
                Checked::Good(meta) => Bytes::from(meta),
                Checked::Bad(part, at) => return Ok(Checked::Bad(part, at)),
            };
            Ok(Checked::Good(Item { meta, len: head.body_len }))
        })
    }

    /// Bytes `range` of the body of an item. Only the 16 KiB blocks they lie in are read.
    ///
    /// # Errors
    /// [`ReadError::Absent`] if there is no such key, [`ReadError::Range`] if the body is shorter,
    /// [`ReadError::Damaged`] if a block does not verify, [`ReadError::Io`].
    pub fn read(&self, kind: Kind, key: &[u8], range: Range<u64>) -> Result<Bytes, ReadError> {
        let found = self.with_record(kind, key, |file, seal, head| {
            if range.start > range.end || range.end > head.body_len {
                return Ok(Checked::Good(Err(head.body_len)));
            }
            Ok(match read_body(file, seal, head, range.clone())? {
                Checked::Good((bytes, skip)) => {
                    let len = (range.end - range.start) as usize;
                    Checked::Good(Ok(Bytes::from(bytes).slice(skip..skip + len)))
                }
                Checked::Bad(part, at) => Checked::Bad(part, at),
            })
        })?;
        match found {
            None => Err(ReadError::Absent { kind, key: key.to_vec() }),
            Some(Err(len)) => Err(ReadError::Range { start: range.start, end: range.end, len }),
            Some(Ok(bytes)) => Ok(bytes),
        }
    }

    /// Whether there is such a key.
    ///
    /// # Errors
    /// [`ReadError::Io`] if the index has failed and cannot be rebuilt.
    pub fn contains(&self, kind: Kind, key: &[u8]) -> Result<bool, ReadError> {
        Ok(self.find(&index_key(kind as u8, key))?.is_some())
    }

    /// The keys of a kind, in order.
    pub fn keys(&self, kind: Kind) -> Keys<'_> {
        self.keys_after(kind, &[])
    }

    /// The keys of a kind that come after `after`, in order.
    pub fn keys_after(&self, kind: Kind, after: &[u8]) -> Keys<'_> {
        Keys { store: self, kind, after: index_key(kind as u8, after), page: Vec::new().into_iter(), over: false }
    }

    /// Runs `use_it` on the newest record of a key. Looks again if the record moved meanwhile.
    fn with_record<T>(
        &self,
        kind: Kind,
        key: &[u8],
        use_it: impl Fn(&dyn DiskFile, Seal, &Head) -> io::Result<Checked<T>>,
    ) -> Result<Option<T>, ReadError> {
        let index_key = index_key(kind as u8, key);
        let mut entry = self.find(&index_key)?;
        while let Some(place) = entry {
            let checked = self.checked(kind, key, &place, &use_it);
            if let Ok(Checked::Good(value)) = checked {
                return Ok(Some(value));
            }
            entry = self.find(&index_key)?;
            if entry == Some(place) {
                let offset = match checked? {
                    Checked::Bad(_, offset) => offset,
                    Checked::Good(_) => unreachable!("what is good was returned"),
                };
                return Err(ReadError::Damaged { kind, key: key.to_vec(), segment: place.segment, offset });
            }
        }
        Ok(None)
    }

    fn checked<T>(
        &self,
        kind: Kind,
        key: &[u8],
        place: &Entry,
        use_it: impl Fn(&dyn DiskFile, Seal, &Head) -> io::Result<Checked<T>>,
    ) -> Result<Checked<T>, Fault> {
        let path = self.path(place.segment);
        let file: Arc<dyn DiskFile> = self.files.get(place.segment).at(&path)?;
        let seal = self.seal(place.segment);
        let head = match read_head(&*file, seal, kind as u8, key, place).at(&path)? {
            Checked::Good(head) => head,
            Checked::Bad(part, at) => return Ok(Checked::Bad(part, at)),
        };
        use_it(&*file, seal, &head).at(path)
    }
}

impl Iterator for Keys<'_> {
    type Item = Result<Vec<u8>, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.page.len() == 0 && !self.over {
            let page = match self.store.with_index(|index| index.page(&self.after, PAGE_COUNT)) {
                Ok(page) => page,
                Err(fault) => {
                    self.over = true;
                    return Some(Err(fault.into()));
                }
            };
            self.over = page.len() < PAGE_COUNT;
            self.page = page.into_iter();
        }
        let (index_key, _) = self.page.next()?;
        if index_key[0] != self.kind as u8 {
            (self.over, self.page) = (true, Vec::new().into_iter());
            return None;
        }
        let key = index_key[1..].to_vec();
        self.after = index_key;
        Some(Ok(key))
    }
}
