//! Goes through a segment from record to record, and finds the way again behind damage.

use std::io;
use std::sync::Arc;

use crate::disk::DiskFile;
use crate::record::{FRONT_LEN_MAX, HEAD_LEN, Head, MAGIC, Seal};

/// Bytes read at a time while the heads are where they should be.
const STEP_LEN: usize = 32 << 10;

/// Bytes read at a time while looking for the next head.
const SEARCH_LEN: usize = 1 << 20;

/// What a walk comes past.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Walked {
    /// A record, known by its opening or, where that is damaged, by its closing. Meta and body are not verified.
    Record { head: Head, key: Vec<u8>, known_by: KnownBy },
    /// A stretch in which no record can be recognised.
    Unreadable { offset: u64, len: u64 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum KnownBy {
    Opening,
    Closing,
}

/// Goes through the bytes of a segment from one offset to another.
pub(crate) struct Walk {
    file: Arc<dyn DiskFile>,
    seal: Seal,
    at: u64,
    end: u64,
    window_at: u64,
    window: Vec<u8>,
    found: Option<Walked>,
}

impl Walk {
    pub(crate) fn new(file: Arc<dyn DiskFile>, seal: Seal, from: u64, to: u64) -> Self {
        Self { file, seal, at: from, end: to, window_at: 0, window: Vec::new(), found: None }
    }

    /// What comes next; `None` at the end.
    pub(crate) fn step(&mut self) -> io::Result<Option<Walked>> {
        if let Some(found) = self.found.take() {
            self.pass(&found);
            return Ok(Some(found));
        }
        if self.at >= self.end {
            return Ok(None);
        }
        let found = match self.opening_here()? {
            Some(record) => record,
            None => self.search()?,
        };
        if let Walked::Record { head, .. } = &found
            && head.offset > self.at
        {
            let gap = Walked::Unreadable { offset: self.at, len: head.offset - self.at };
            self.found = Some(found);
            return Ok(Some(gap));
        }
        self.pass(&found);
        Ok(Some(found))
    }

    fn pass(&mut self, found: &Walked) {
        self.at = match found {
            Walked::Record { head, .. } => head.end(),
            Walked::Unreadable { offset, len } => offset + len,
        };
    }

    fn opening_here(&mut self) -> io::Result<Option<Walked>> {
        let at = self.at;
        let begin = match at.checked_sub(self.window_at) {
            Some(begin) if begin + FRONT_LEN_MAX as u64 <= self.window.len() as u64 => begin as usize,
            _ => {
                self.fill(at, STEP_LEN)?;
                0
            }
        };
        let found = Head::opening(&self.window[begin..], self.seal, at);
        let found = found.filter(|(head, _)| head.end() <= self.end);
        Ok(found.map(|(head, key)| Walked::Record { head, key, known_by: KnownBy::Opening }))
    }

    /// The first record behind `self.at` that shows either of its heads, else the rest of the segment.
    fn search(&mut self) -> io::Result<Walked> {
        let from = self.at;
        let mut window_at = from;
        while window_at < self.end {
            self.fill(window_at, SEARCH_LEN)?;
            for begin in 0..self.window.len() {
                let at = window_at + begin as u64;
                if self.window[begin..].starts_with(&MAGIC)
                    && let Some(record) = self.head_at(at, begin, from)
                {
                    return Ok(record);
                }
            }
            let got = self.window.len();
            if got <= 2 * FRONT_LEN_MAX {
                break;
            }
            // A head that this window cut off, and the key in front of it, lie whole in the next one.
            let last = window_at + got as u64 >= self.end;
            window_at += if last { got } else { got - 2 * FRONT_LEN_MAX } as u64;
        }
        Ok(Walked::Unreadable { offset: from, len: self.end - from })
    }

    /// The record whose opening or closing is at `at`, if it begins at `from` or later.
    fn head_at(&self, at: u64, begin: usize, from: u64) -> Option<Walked> {
        let bytes = &self.window[begin..];
        if let Some((head, key)) = Head::opening(bytes, self.seal, at).filter(|(head, _)| head.end() <= self.end) {
            return Some(Walked::Record { head, key, known_by: KnownBy::Opening });
        }
        let closing_end = begin + HEAD_LEN;
        let bytes = self.window.get(..closing_end)?;
        let (head, key) = Head::closing(bytes, self.seal, at + HEAD_LEN as u64)?;
        (head.offset >= from).then_some(Walked::Record { head, key, known_by: KnownBy::Closing })
    }

    fn fill(&mut self, at: u64, len: usize) -> io::Result<()> {
        let len = (self.end - at).min(len as u64) as usize;
        self.window.resize(len, 0);
        let got = self.file.read_at(&mut self.window, at)?;
        self.window.truncate(got);
        self.window_at = at;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::FaultyDisk;
    use crate::disk::{Disk, Open};
    use crate::record::Draft;

    const PATH: &str = "/segment";
    const START: u64 = 128;

    fn seal() -> Seal {
        Seal::new(&[1; 16], 1)
    }

    /// A disk with a segment of records that have these body lengths, and where each begins and ends.
    fn segment(body_lens: &[usize]) -> (FaultyDisk, Vec<(u64, u64)>) {
        let disk = FaultyDisk::new(0);
        let file = disk.open(Path::new(PATH), Open::New).unwrap();
        let mut places = Vec::new();
        let mut at = START;
        for (i, len) in body_lens.iter().enumerate() {
            let body = vec![i as u8; *len];
            let head = Draft::new(1, &[i as u8 + 1], b"m", &[&body]).write(&*file, seal(), at, START).unwrap();
            places.push((at, head.end()));
            at = head.end();
        }
        (disk, places)
    }

    fn walk(disk: &FaultyDisk) -> Vec<Walked> {
        let file = disk.open(Path::new(PATH), Open::Read).unwrap();
        let end = file.byte_len().unwrap();
        let mut walk = Walk::new(file, seal(), START, end);
        std::iter::from_fn(|| walk.step().unwrap()).collect()
    }

    fn keys(walked: &[Walked]) -> Vec<u8> {
        walked.iter().filter_map(|w| if let Walked::Record { key, .. } = w { Some(key[0]) } else { None }).collect()
    }

    #[test]
    fn records_of_all_lengths_are_passed_in_order() {
        let (disk, _) = segment(&[0, 1, 40_000, 3_000_000, 5]);
        assert_eq!(keys(&walk(&disk)), [1, 2, 3, 4, 5]);
    }

    #[test]
    fn a_record_with_a_damaged_opening_is_known_by_its_closing() {
        for len in [0, 1, 40_000, SEARCH_LEN - 150, SEARCH_LEN - 50, SEARCH_LEN, 2 * SEARCH_LEN] {
            let (disk, places) = segment(&[3, len, 9]);
            disk.flip(Path::new(PATH), 8 * (places[1].0 + 20));
            let walked = walk(&disk);
            assert_eq!(keys(&walked), [1, 2, 3], "len {len}");
            assert!(matches!(walked[1], Walked::Record { known_by: KnownBy::Closing, .. }));
        }
    }

    #[test]
    fn a_record_without_heads_becomes_a_stretch_and_the_next_is_found() {
        let (disk, places) = segment(&[3, 5000, 9]);
        disk.flip(Path::new(PATH), 8 * (places[1].0 + 20));
        disk.flip(Path::new(PATH), 8 * (places[1].1 - 1));
        let walked = walk(&disk);
        assert_eq!(keys(&walked), [1, 3]);
        assert_eq!(walked[1], Walked::Unreadable { offset: places[1].0, len: places[1].1 - places[1].0 });
    }

    #[test]
    fn a_torn_record_at_the_end_is_a_stretch() {
        let (disk, places) = segment(&[3, 5000]);
        disk.open(Path::new(PATH), Open::Write).unwrap().truncate(places[1].1 - 1).unwrap();
        let walked = walk(&disk);
        assert_eq!(keys(&walked), [1]);
        assert_eq!(walked[1], Walked::Unreadable { offset: places[1].0, len: places[1].1 - 1 - places[1].0 });
    }

    #[test]
    fn a_record_inside_a_body_is_not_found() {
        let (disk, places) = segment(&[3]);
        let file = disk.open(Path::new(PATH), Open::Write).unwrap();
        let whole = crate::disk::read_exact(&*file, START, (places[0].1 - START) as usize).unwrap();
        let outer = Draft::new(1, b"outer", b"", &[&whole]).write(&*file, seal(), places[0].1, START).unwrap();
        disk.flip(Path::new(PATH), 8 * (outer.offset + 20));
        disk.flip(Path::new(PATH), 8 * (outer.end() - 1));
        assert_eq!(keys(&walk(&disk)), [1]);
    }
}
