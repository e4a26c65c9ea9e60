//! A record in a segment.
//!
//! ```text
//! opening head | key | block checksums | meta | body | key | closing head
//! ```
//!
//! The checksums of the body's blocks stand in front of it, so that writing needs no seek and a range of the body is
//! read and verified with one more short read. The head stands at both ends: one damaged head costs nothing, and a
//! record that lost its opening is found by its closing. Numbers are little-endian.
//!
//! | offset | length | field | unit |
//! |---|---|---|---|
//! | 0 | 4 | `BHR` 1 in front, `BHE` 1 behind: what it is, and its version | |
//! | 4 | 1 | kind; 0 is a gap, which stands where a crash tore something and holds nothing | |
//! | 5 | 1 | flags: bit 0 says that the key is removed, bits 0 and 1 that a run of keys is | |
//! | 6 | 2 | length of the key, 1 to 64 | bytes |
//! | 8 | 4 | length of the meta | bytes |
//! | 12 | 4 | checksum of the meta | CRC32C |
//! | 16 | 8 | length of the body | bytes |
//! | 24 | 8 | where the record begins in its segment | bytes |
//! | 32 | 8 | how much of the segment was known to be durable when the record was appended | bytes |
//! | 40 | 4 | checksum of the salt, the segment's number, the 40 bytes above and the key | CRC32C |
//!
//! A run of keys differs in the last 8 bytes only, a big-endian number that counts up. The key of the record is then the
//! first of them with the count behind it, in 2 bytes.
//!
//! A block is 16 KiB of the body, the last one may be shorter. Its checksum is the CRC32C of its bytes, XORed with a
//! number drawn from salt, segment, record and block: bytes that belong elsewhere do not verify, and a body cannot hold
//! what looks like a record, since nobody but the store knows the salt.

use std::io;
use std::ops::Range;

use crc32c::{crc32c, crc32c_append};

use crate::disk::{DiskFile, read_exact};
use crate::index::{Entry, index_key};
use crate::item::{BODY_LEN_MAX, KEY_LEN_MAX, META_LEN_MAX, Part};

/// Bytes of the body under one checksum.
pub const BLOCK_LEN: usize = 16 << 10;

/// Bytes of a head.
pub(crate) const HEAD_LEN: usize = 44;

/// Bytes of the longest head with its key.
pub(crate) const FRONT_LEN_MAX: usize = HEAD_LEN + KEY_LEN_MAX;

/// The bytes a head begins with, but for the one that tells its end.
pub(crate) const MAGIC: [u8; 2] = *b"BH";

/// The kind of a gap.
pub(crate) const GAP: u8 = 0;

/// The key of a gap.
pub(crate) const GAP_KEY: &[u8] = &[0];

const SUMMED_LEN: usize = 40;
const TOMBSTONE: u8 = 1;
const RUN: u8 = 2;

/// Bytes of the number that tells the keys of a run apart.
const COUNTER_LEN: usize = 8;

/// Bytes of the count behind the first key of a run.
const COUNT_LEN: usize = 2;

/// Lengths of the keys that can be removed by the run.
pub(crate) const RUN_KEY_LEN: std::ops::RangeInclusive<usize> = COUNTER_LEN..=KEY_LEN_MAX - COUNT_LEN;

/// Body bytes verified at a time when a whole record is.
const VERIFY_LEN: u64 = 64 * BLOCK_LEN as u64;

/// Which of its two heads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Opening,
    Closing,
}

impl End {
    fn magic(self) -> [u8; 4] {
        match self {
            Self::Opening => *b"BHR\x01",
            Self::Closing => *b"BHE\x01",
        }
    }
}

/// Salt and number of a segment, as the start of every checksum in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal(u32);

impl Seal {
    pub(crate) fn new(salt: &[u8; 16], segment: u64) -> Self {
        Self(crc32c_append(crc32c(salt), &segment.to_le_bytes()))
    }

    fn mask(self, record: u64, block: u64) -> u32 {
        crc32c_append(crc32c_append(self.0, &record.to_le_bytes()), &block.to_le_bytes())
    }
}

/// A head, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) kind: u8,
    pub(crate) tombstone: bool,
    /// Of a tombstone: it removes a run of keys.
    pub(crate) run: bool,
    pub(crate) key_len: u16,
    pub(crate) meta_len: u32,
    pub(crate) meta_sum: u32,
    pub(crate) body_len: u64,
    pub(crate) offset: u64,
    pub(crate) durable: u64,
}

impl Head {
    pub(crate) fn encode(&self, end: End, seal: Seal, key: &[u8]) -> [u8; HEAD_LEN] {
        let mut bytes = [0; HEAD_LEN];
        bytes[0..4].copy_from_slice(&end.magic());
        bytes[4] = self.kind;
        bytes[5] = if self.tombstone { TOMBSTONE } else { 0 } | if self.run { RUN } else { 0 };
        bytes[6..8].copy_from_slice(&self.key_len.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.meta_len.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.meta_sum.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.body_len.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.offset.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.durable.to_le_bytes());
        let sum = crc32c_append(crc32c_append(seal.0, &bytes[..SUMMED_LEN]), key);
        bytes[SUMMED_LEN..].copy_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// The opening and key that `bytes` begin with, if that is what they are, at `offset`.
    pub(crate) fn opening(bytes: &[u8], seal: Seal, offset: u64) -> Option<(Self, Vec<u8>)> {
        let head: &[u8; HEAD_LEN] = bytes.first_chunk()?;
        let key = bytes.get(HEAD_LEN..HEAD_LEN + key_len(head))?;
        let head = Self::decode(head, End::Opening, seal, key)?;
        (head.offset == offset).then(|| (head, key.to_vec()))
    }

    /// The key and closing that `bytes` end with, if that is what they are, and the record ends at `end`.
    pub(crate) fn closing(bytes: &[u8], seal: Seal, end: u64) -> Option<(Self, Vec<u8>)> {
        let head: &[u8; HEAD_LEN] = bytes.last_chunk()?;
        let key_end = bytes.len() - HEAD_LEN;
        let key = &bytes[key_end.checked_sub(key_len(head))?..key_end];
        let head = Self::decode(head, End::Closing, seal, key)?;
        (head.end() == end).then(|| (head, key.to_vec()))
    }

    fn decode(bytes: &[u8; HEAD_LEN], end: End, seal: Seal, key: &[u8]) -> Option<Self> {
        let sum = crc32c_append(crc32c_append(seal.0, &bytes[..SUMMED_LEN]), key);
        let head = Self {
            kind: bytes[4],
            tombstone: bytes[5] & TOMBSTONE != 0,
            run: bytes[5] & (TOMBSTONE | RUN) == TOMBSTONE | RUN,
            key_len: key.len() as u16,
            meta_len: u32_at(bytes, 8),
            meta_sum: u32_at(bytes, 12),
            body_len: u64_at(bytes, 16),
            offset: u64_at(bytes, 24),
            durable: u64_at(bytes, 32),
        };
        let within_limits = (1..=KEY_LEN_MAX).contains(&key.len())
            && head.meta_len as usize <= META_LEN_MAX
            && head.body_len <= BODY_LEN_MAX;
        (bytes[..4] == end.magic() && sum == u32_at(bytes, SUMMED_LEN) && within_limits).then_some(head)
    }

    /// A gap from one offset to another; `None` if there is no room for its heads.
    pub(crate) fn gap(begin: u64, end: u64) -> Option<Self> {
        let len = (end - begin).checked_sub(record_len(GAP_KEY.len(), 0, 0))?;
        let body_len = len.saturating_sub(4 * len.div_ceil(BLOCK_LEN as u64));
        // The checksums take a little less than was set aside; the meta takes what is left.
        let meta_len = (len - body_len - 4 * body_len.div_ceil(BLOCK_LEN as u64)) as u32;
        let key_len = GAP_KEY.len() as u16;
        let (tombstone, run, meta_sum, durable) = (false, false, 0, 0);
        let gap = Self { kind: GAP, tombstone, run, key_len, meta_len, meta_sum, body_len, offset: begin, durable };
        (body_len <= BODY_LEN_MAX).then_some(gap)
    }

    /// The keys that a record with this key is about: one, but for a tombstone of a run.
    pub(crate) fn keys(&self, key: &[u8]) -> Vec<Vec<u8>> {
        if self.run { run_of(key) } else { vec![key.to_vec()] }
    }

    /// Writes both heads where they belong, and nothing between.
    pub(crate) fn write_both(&self, file: &dyn DiskFile, seal: Seal, key: &[u8]) -> io::Result<()> {
        file.write_at(&[&self.encode(End::Opening, seal, key), key], self.offset)?;
        file.write_at(&[key, &self.encode(End::Closing, seal, key)], self.closing_at())
    }

    pub(crate) fn entry(&self, segment: u64) -> Entry {
        Entry { segment, offset: self.offset, meta_len: self.meta_len, body_len: self.body_len }
    }

    fn sums_at(&self) -> u64 {
        self.offset + HEAD_LEN as u64 + u64::from(self.key_len)
    }

    pub(crate) fn meta_at(&self) -> u64 {
        self.sums_at() + 4 * self.body_len.div_ceil(BLOCK_LEN as u64)
    }

    pub(crate) fn body_at(&self) -> u64 {
        self.meta_at() + u64::from(self.meta_len)
    }

    /// Where the key and the closing begin.
    fn closing_at(&self) -> u64 {
        self.body_at() + self.body_len
    }

    /// One past the last byte of the record.
    pub(crate) fn end(&self) -> u64 {
        self.closing_at() + u64::from(self.key_len) + HEAD_LEN as u64
    }
}

/// Bytes that a record with these lengths has.
pub(crate) fn record_len(key_len: usize, meta_len: u32, body_len: u64) -> u64 {
    let sums_len = 4 * body_len.div_ceil(BLOCK_LEN as u64);
    2 * (HEAD_LEN + key_len) as u64 + sums_len + u64::from(meta_len) + body_len
}

/// A record to be appended. All checksums that do not depend on its place are computed before the log is locked.
pub(crate) struct Draft<'a> {
    pub(crate) kind: u8,
    pub(crate) tombstone: bool,
    run: bool,
    pub(crate) key: &'a [u8],
    meta: &'a [u8],
    body: &'a [&'a [u8]],
    body_len: u64,
    sums: Vec<u32>,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(kind: u8, key: &'a [u8], meta: &'a [u8], body: &'a [&'a [u8]]) -> Self {
        let body_len = body.iter().map(|part| part.len() as u64).sum();
        Self { kind, tombstone: false, run: false, key, meta, body, body_len, sums: block_sums(body) }
    }

    pub(crate) fn tombstone(kind: u8, key: &'a [u8]) -> Self {
        Self { kind, tombstone: true, run: false, key, meta: &[], body: &[], body_len: 0, sums: Vec::new() }
    }

    /// A tombstone of a run of keys; `key` is of [`run_key`].
    pub(crate) fn tombstone_of_run(kind: u8, key: &'a [u8]) -> Self {
        Self { run: true, ..Self::tombstone(kind, key) }
    }

    /// A tombstone like the one with this head.
    pub(crate) fn tombstone_again(head: &Head, key: &'a [u8]) -> Self {
        Self { run: head.run, ..Self::tombstone(head.kind, key) }
    }

    /// Keys of the index that the record is about.
    pub(crate) fn index_keys(&self) -> Vec<Vec<u8>> {
        let keys = if self.run { run_of(self.key) } else { vec![self.key.to_vec()] };
        keys.iter().map(|key| index_key(self.kind, key)).collect()
    }

    pub(crate) fn byte_len(&self) -> u64 {
        record_len(self.key.len(), self.meta.len() as u32, self.body_len)
    }

    /// Writes the record at `offset`. After an error any part of it may be in the file.
    pub(crate) fn write(&self, file: &dyn DiskFile, seal: Seal, offset: u64, durable: u64) -> io::Result<Head> {
        let head = Head {
            kind: self.kind,
            tombstone: self.tombstone,
            run: self.run,
            key_len: self.key.len() as u16,
            meta_len: self.meta.len() as u32,
            meta_sum: crc32c(self.meta),
            body_len: self.body_len,
            offset,
            durable,
        };
        let sums: Vec<u8> =
            (0..).zip(&self.sums).flat_map(|(block, sum)| (sum ^ seal.mask(offset, block)).to_le_bytes()).collect();
        let opening = head.encode(End::Opening, seal, self.key);
        let closing = head.encode(End::Closing, seal, self.key);
        let mut parts: Vec<&[u8]> = vec![&opening, self.key, &sums, self.meta];
        parts.extend(self.body);
        parts.extend([self.key, &closing[..]]);
        file.write_at(&parts, offset)?;
        Ok(head)
    }
}

/// The key of a tombstone that removes `count` keys from `first` on, whose length is within [`RUN_KEY_LEN`].
pub(crate) fn run_key(first: &[u8], count: u16) -> Vec<u8> {
    [first, &count.to_le_bytes()].concat()
}

/// The keys of a run; none if that is no key of one.
fn run_of(key: &[u8]) -> Vec<Vec<u8>> {
    let parts = key.split_last_chunk().and_then(|(first, count)| {
        let (prefix, counter) = first.split_last_chunk()?;
        Some((prefix, u64::from_be_bytes(*counter), u16::from_le_bytes(*count)))
    });
    let Some((prefix, first, count)) = parts else { return Vec::new() };
    (0..u64::from(count)).map(|at| [prefix, &first.wrapping_add(at).to_be_bytes()].concat()).collect()
}

/// The checksums of the 16 KiB blocks of a body that comes in parts.
fn block_sums(parts: &[&[u8]]) -> Vec<u32> {
    let mut sums = Vec::new();
    let (mut sum, mut filled) = (0, 0);
    for mut part in parts.iter().copied() {
        while !part.is_empty() {
            let (block, rest) = part.split_at(part.len().min(BLOCK_LEN - filled));
            sum = crc32c_append(sum, block);
            filled += block.len();
            part = rest;
            if filled == BLOCK_LEN {
                sums.push(sum);
                (sum, filled) = (0, 0);
            }
        }
    }
    if filled > 0 {
        sums.push(sum);
    }
    sums
}

/// What a read of something checksummed gives.
pub(crate) enum Checked<T> {
    Good(T),
    /// The part at this offset of the segment does not verify.
    Bad(Part, u64),
}

/// The head of the record an index entry points to: its opening, or its closing if that is damaged.
pub(crate) fn read_head(
    file: &dyn DiskFile,
    seal: Seal,
    kind: u8,
    key: &[u8],
    entry: &Entry,
) -> io::Result<Checked<Head>> {
    let fits = |found: Option<(Head, Vec<u8>)>| {
        let (head, found_key) = found?;
        (head.kind == kind && found_key == key && head.entry(entry.segment) == *entry).then_some(head)
    };
    let front_len = HEAD_LEN + key.len();
    let mut front = vec![0; front_len];
    let got = file.read_at(&mut front, entry.offset)?;
    if let Some(head) = fits(Head::opening(&front[..got], seal, entry.offset)) {
        return Ok(Checked::Good(head));
    }
    let end = entry.offset + entry.byte_len(key.len());
    let got = file.read_at(&mut front, end - front_len as u64)?;
    Ok(match fits(Head::closing(&front[..got], seal, end)) {
        Some(head) => Checked::Good(head),
        None => Checked::Bad(Part::Opening, entry.offset),
    })
}

/// The meta of a record.
pub(crate) fn read_meta(file: &dyn DiskFile, head: &Head) -> io::Result<Checked<Vec<u8>>> {
    let mut meta = vec![0; head.meta_len as usize];
    let got = file.read_at(&mut meta, head.meta_at())?;
    let good = got == meta.len() && crc32c(&meta) == head.meta_sum;
    Ok(if good { Checked::Good(meta) } else { Checked::Bad(Part::Meta, head.meta_at()) })
}

/// The blocks that hold `range` of the body, whole, and the offset of `range` in them. `range` must lie in the body.
pub(crate) fn read_body(
    file: &dyn DiskFile,
    seal: Seal,
    head: &Head,
    range: Range<u64>,
) -> io::Result<Checked<(Vec<u8>, usize)>> {
    if range.is_empty() {
        return Ok(Checked::Good((Vec::new(), 0)));
    }
    let block_len = BLOCK_LEN as u64;
    let first = range.start / block_len;
    let last = (range.end - 1) / block_len;
    let start = first * block_len;
    let end = ((last + 1) * block_len).min(head.body_len);
    let mut sums = vec![0; 4 * (last - first + 1) as usize];
    let got = file.read_at(&mut sums, head.sums_at() + 4 * first)?;
    let mut bytes = vec![0; (end - start) as usize];
    let got_body = file.read_at(&mut bytes, head.body_at() + start)?;
    for ((block, sum), bytes) in (first..).zip(sums.chunks_exact(4)).zip(bytes.chunks(BLOCK_LEN)) {
        if crc32c(bytes) ^ seal.mask(head.offset, block) != u32_at(sum, 0) {
            return Ok(Checked::Bad(Part::Body, head.body_at() + block * block_len));
        }
    }
    if got < sums.len() || got_body < bytes.len() {
        return Ok(Checked::Bad(Part::Body, head.body_at() + start));
    }
    Ok(Checked::Good((bytes, (range.start - start) as usize)))
}

/// Verifies meta, body and both heads of a record; says which part is bad, the worst first.
pub(crate) fn verify(file: &dyn DiskFile, seal: Seal, head: &Head, key: &[u8]) -> io::Result<Option<Part>> {
    if let Checked::Bad(part, _) = read_meta(file, head)? {
        return Ok(Some(part));
    }
    let mut start = 0;
    while start < head.body_len {
        let end = head.body_len.min(start + VERIFY_LEN);
        if let Checked::Bad(part, _) = read_body(file, seal, head, start..end)? {
            return Ok(Some(part));
        }
        start = end;
    }
    let same = |at: u64, end: End| {
        let want = head.encode(end, seal, key);
        match read_exact(file, at, HEAD_LEN) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            other => other.map(|bytes| bytes == want),
        }
    };
    let same_key = |at: u64| match read_exact(file, at, key.len()) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        other => other.map(|bytes| bytes == key),
    };
    if !same(head.offset, End::Opening)? || !same_key(head.offset + HEAD_LEN as u64)? {
        return Ok(Some(Part::Opening));
    }
    if !same(head.end() - HEAD_LEN as u64, End::Closing)? || !same_key(head.closing_at())? {
        return Ok(Some(Part::Closing));
    }
    Ok(None)
}

fn key_len(head: &[u8; HEAD_LEN]) -> usize {
    usize::from(u16::from_le_bytes([head[6], head[7]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().expect("a slice of four bytes"))
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().expect("a slice of eight bytes"))
}

#[cfg(test)]
mod tests;
