//! A segment file: its name, and the head in front of its records.
//!
//! The head stands twice, so that one damaged copy costs nothing. Numbers are little-endian.
//!
//! | offset | length | field | unit |
//! |---|---|---|---|
//! | 0 | 8 | `BHSEGMNT` | |
//! | 8 | 4 | version, 1 | |
//! | 12 | 4 | zero | |
//! | 16 | 8 | number of this segment | |
//! | 24 | 16 | salt of the store | |
//! | 40 | 8 | number of the segment before, 0 if there is none | |
//! | 48 | 8 | how much of the segment before counts; what follows it there was never acknowledged | bytes |
//! | 56 | 4 | zero | |
//! | 60 | 4 | checksum of the 60 bytes above | CRC32C |

use std::io;
use std::path::{Path, PathBuf};

use crc32c::crc32c;

use crate::disk::DiskFile;

/// The newest version of segments and records known here.
pub(crate) const FORMAT: u32 = 1;

/// Bytes of both copies of the head: where the first record begins.
pub(crate) const SEGMENT_HEAD_LEN: u64 = 2 * COPY_LEN as u64;

const COPY_LEN: usize = 64;
const MAGIC: &[u8; 8] = b"BHSEGMNT";
const SUFFIX: &str = ".seg";

/// The head of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHead {
    pub(crate) number: u64,
    pub(crate) salt: [u8; 16],
    pub(crate) before: u64,
    pub(crate) before_len: u64,
}

/// What the head of a segment turned out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeadState {
    Good(SegmentHead),
    /// One copy is damaged, the other serves.
    OneCopy(SegmentHead),
    Newer(u32),
    Bad,
}

impl SegmentHead {
    pub(crate) fn write(&self, file: &dyn DiskFile) -> io::Result<()> {
        let copy = self.encode();
        file.write_at(&[&copy, &copy], 0)
    }

    pub(crate) fn read(file: &dyn DiskFile, number: u64) -> io::Result<HeadState> {
        let mut bytes = [0; SEGMENT_HEAD_LEN as usize];
        file.read_at(&mut bytes, 0)?;
        let (first, second) = bytes.split_at(COPY_LEN);
        Ok(match (Self::decode(first, number), Self::decode(second, number)) {
            (HeadState::Good(head), HeadState::Good(_)) => HeadState::Good(head),
            (HeadState::Good(head), _) | (_, HeadState::Good(head)) => HeadState::OneCopy(head),
            (HeadState::Newer(version), _) | (_, HeadState::Newer(version)) => HeadState::Newer(version),
            _ => HeadState::Bad,
        })
    }

    fn encode(&self) -> [u8; COPY_LEN] {
        let mut bytes = [0; COPY_LEN];
        bytes[0..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.number.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.salt);
        bytes[40..48].copy_from_slice(&self.before.to_le_bytes());
        bytes[48..56].copy_from_slice(&self.before_len.to_le_bytes());
        let sum = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8], number: u64) -> HeadState {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        if &bytes[0..8] != MAGIC || crc32c(&bytes[..60]) != u32_at(60) {
            return HeadState::Bad;
        }
        if u32_at(8) > FORMAT {
            return HeadState::Newer(u32_at(8));
        }
        let salt = bytes[24..40].try_into().expect("sixteen bytes");
        let head = Self { number: u64_at(16), salt, before: u64_at(40), before_len: u64_at(48) };
        if head.number == number { HeadState::Good(head) } else { HeadState::Bad }
    }
}

/// The folder of the segments of the store at `dir`.
pub(crate) fn segments_dir(dir: &Path) -> PathBuf {
    dir.join("segments")
}

/// Where the segment `number` of the store at `dir` is.
pub(crate) fn segment_path(dir: &Path, number: u64) -> PathBuf {
    segments_dir(dir).join(format!("{number:010}{SUFFIX}"))
}

/// The number a file name tells, if it is a segment's.
pub(crate) fn segment_number(name: &str) -> Option<u64> {
    let digits = name.strip_suffix(SUFFIX)?;
    let number = digits.parse().ok().filter(|number| *number > 0)?;
    (format!("{number:010}") == digits).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultyDisk;
    use crate::disk::{Disk, Open};

    const HEAD: SegmentHead = SegmentHead { number: 7, salt: [3; 16], before: 6, before_len: 1234 };

    #[test]
    fn names_and_numbers_go_both_ways() {
        let path = segment_path(Path::new("/store"), 42);
        assert_eq!(path, Path::new("/store/segments/0000000042.seg"));
        assert_eq!(segment_number("0000000042.seg"), Some(42));
        for strange in ["0000000000.seg", "42.seg", "0000000042.seg.new", "+000000042.seg"] {
            assert_eq!(segment_number(strange), None, "{strange}");
        }
    }

    #[test]
    fn one_damaged_copy_costs_nothing_and_two_are_noticed() {
        let disk = FaultyDisk::new(0);
        let path = Path::new("/segment");
        let file = disk.open(path, Open::New).unwrap();
        HEAD.write(&*file).unwrap();
        assert_eq!(SegmentHead::read(&*file, 7).unwrap(), HeadState::Good(HEAD));
        assert_eq!(SegmentHead::read(&*file, 8).unwrap(), HeadState::Bad);
        for bit in 0..8 * SEGMENT_HEAD_LEN {
            disk.flip(path, bit);
            assert_eq!(SegmentHead::read(&*file, 7).unwrap(), HeadState::OneCopy(HEAD), "bit {bit}");
            disk.flip(path, bit);
        }
        disk.flip(path, 1);
        disk.flip(path, 8 * SEGMENT_HEAD_LEN - 1);
        assert_eq!(SegmentHead::read(&*file, 7).unwrap(), HeadState::Bad);
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let file = FaultyDisk::new(0).open(Path::new("/segment"), Open::New).unwrap();
        let mut bytes = HEAD.encode();
        bytes[8] = 2;
        let sum = crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&sum.to_le_bytes());
        file.write_at(&[&bytes, &bytes], 0).unwrap();
        assert_eq!(SegmentHead::read(&*file, 7).unwrap(), HeadState::Newer(2));
    }
}
