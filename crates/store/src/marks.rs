//! The small files beside the segments: format, clean close, and what is known to be durable.
//!
//! Each is a table of little-endian fields that ends with a CRC32C of all before it.

use crc32c::crc32c;

use crate::index::Closed;

/// Longest `clean` file that is read: 400,000 segments.
pub(crate) const CLEAN_LEN_MAX: u64 = 16 << 20;

/// Bytes of the `format` file.
pub(crate) const FORMAT_LEN: u64 = 32;

/// Bytes of the `synced` file.
pub(crate) const SYNCED_LEN: u64 = 28;

/// What the `format` file says.
///
/// | offset | length | field | unit |
/// |---|---|---|---|
/// | 0 | 8 | `BHFORMAT` | |
/// | 8 | 4 | version | |
/// | 12 | 16 | salt: random, never leaves the store | |
/// | 28 | 4 | checksum | CRC32C |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub(crate) version: u32,
    pub(crate) salt: [u8; 16],
}

/// What the `synced` file says. It is written over itself after each sync and not synced: any state of it is true.
///
/// | offset | length | field | unit |
/// |---|---|---|---|
/// | 0 | 8 | `BHSYNCED` | |
/// | 8 | 8 | number of a segment | |
/// | 16 | 8 | how much of it is durable | bytes |
/// | 24 | 4 | checksum | CRC32C |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) segment: u64,
    pub(crate) len: u64,
}

/// What the `clean` file says: the index and the segments as a clean close left them.
///
/// | offset | length | field | unit |
/// |---|---|---|---|
/// | 0 | 8 | `BHCLEAN` 1 | |
/// | 8 | 8 | folder of the index | |
/// | 16 | 32 | digest of the index | SHA-256 |
/// | 48 | 8 | keys | |
/// | 56 | 40 each | segments: number, length of the file, how much counts, live, tombstones | bytes |
/// | end − 4 | 4 | checksum | CRC32C |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Clean {
    pub(crate) index: Closed,
    pub(crate) items: u64,
    pub(crate) segments: Vec<CleanSegment>,
}

/// One segment of [`Clean`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CleanSegment {
    pub(crate) number: u64,
    pub(crate) file_len: u64,
    pub(crate) len: u64,
    pub(crate) live: u64,
    pub(crate) tombstones: u64,
}

impl Format {
    pub(crate) fn encode(&self) -> Vec<u8> {
        summed(&[b"BHFORMAT", &self.version.to_le_bytes(), &self.salt])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes, b"BHFORMAT")?;
        let version = u32::from_le_bytes(fields.take()?);
        fields.ends_with(Self { version, salt: fields.clone().take()? }, 16)
    }
}

impl Synced {
    pub(crate) fn encode(&self) -> Vec<u8> {
        summed(&[b"BHSYNCED", &self.segment.to_le_bytes(), &self.len.to_le_bytes()])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes, b"BHSYNCED")?;
        let segment = fields.u64()?;
        fields.ends_with(Self { segment, len: fields.clone().u64()? }, 8)
    }
}

impl Clean {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(60 + 40 * self.segments.len());
        bytes.extend(b"BHCLEAN\x01");
        bytes.extend(self.index.folder.to_le_bytes());
        bytes.extend(self.index.digest);
        bytes.extend(self.items.to_le_bytes());
        for segment in &self.segments {
            let CleanSegment { number, file_len, len, live, tombstones } = segment;
            [number, file_len, len, live, tombstones].iter().for_each(|field| bytes.extend(field.to_le_bytes()));
        }
        summed(&[&bytes])
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut fields = Fields::checked(bytes, b"BHCLEAN\x01")?;
        let index = Closed { folder: fields.u64()?, digest: fields.take()? };
        let items = fields.u64()?;
        let mut segments = Vec::new();
        while !fields.0.is_empty() {
            segments.push(CleanSegment {
                number: fields.u64()?,
                file_len: fields.u64()?,
                len: fields.u64()?,
                live: fields.u64()?,
                tombstones: fields.u64()?,
            });
        }
        Some(Self { index, items, segments })
    }
}

/// All parts and their checksum.
pub(crate) fn summed(parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = parts.concat();
    let sum = crc32c(&bytes);
    bytes.extend(sum.to_le_bytes());
    bytes
}

/// The fields of a file whose checksum and first bytes are right.
#[derive(Clone)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn checked(bytes: &'a [u8], magic: &[u8; 8]) -> Option<Self> {
        let (body, sum) = bytes.split_last_chunk()?;
        (crc32c(body) == u32::from_le_bytes(*sum)).then_some(())?;
        body.strip_prefix(magic).map(Self)
    }

    pub(crate) fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk()?;
        self.0 = rest;
        Some(*taken)
    }

    pub(crate) fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    /// The bytes behind the fields taken.
    pub(crate) fn rest(&self) -> &'a [u8] {
        self.0
    }

    /// `value`, if exactly `left` bytes are left, those of its last field.
    fn ends_with<T>(&self, value: T, left: usize) -> Option<T> {
        (self.0.len() == left).then_some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean() -> Clean {
        let segment = CleanSegment { number: 3, file_len: 900, len: 800, live: 700, tombstones: 10 };
        Clean { index: Closed { folder: 2, digest: [9; 32] }, items: 5, segments: vec![segment; 3] }
    }

    fn refused_when_any_bit_turns_or_any_byte_is_missing<T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) {
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bytes).is_none(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert!(decode(&bytes[..len]).is_none(), "len {len}");
        }
    }

    #[test]
    fn each_file_reads_back_and_is_refused_when_damaged() {
        let format = Format { version: 1, salt: [4; 16] };
        assert_eq!(Format::decode(&format.encode()), Some(format));
        assert_eq!(format.encode().len() as u64, FORMAT_LEN);
        refused_when_any_bit_turns_or_any_byte_is_missing(&format.encode(), Format::decode);

        let synced = Synced { segment: 4, len: 77 };
        assert_eq!(Synced::decode(&synced.encode()), Some(synced));
        assert_eq!(synced.encode().len() as u64, SYNCED_LEN);
        refused_when_any_bit_turns_or_any_byte_is_missing(&synced.encode(), Synced::decode);

        assert_eq!(Clean::decode(&clean().encode()), Some(clean()));
        refused_when_any_bit_turns_or_any_byte_is_missing(&clean().encode(), Clean::decode);
    }

    #[test]
    fn a_file_with_bytes_too_many_is_refused_though_its_checksum_is_right() {
        let format = Format { version: 1, salt: [4; 16] }.encode();
        assert_eq!(Format::decode(&summed(&[&format[..28], b"x"])), None);
        let synced = Synced { segment: 4, len: 77 }.encode();
        assert_eq!(Synced::decode(&summed(&[&synced[..24], b"x"])), None);
        let clean = clean().encode();
        assert_eq!(Clean::decode(&summed(&[&clean[..clean.len() - 4], b"x"])), None);
    }
}
