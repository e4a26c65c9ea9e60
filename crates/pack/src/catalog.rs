//! What an author's pack holds, sealed at the pack's end.

use bithealth_envelope::{CatalogKey, Part, SEAL_OVERHEAD, Sealer};
use bithealth_proto::v1::{self, CatalogRow, Codec};
use bithealth_proto::{decode, encode};
use bithealth_types::{CHUNK_LEN, Digest, FolderId, PACK_LEN_MAX};
use prost::Message;
use zstd::zstd_safe::compress_bound;

use crate::PackSalt;
use crate::compress::{compress_plain, decompress};
use crate::heads::{heads, heads_root};
use crate::open_pack::{CATEGORY_LEN_MAX, MEDIA_TYPE_LEN_MAX, NAME_LEN_MAX, PATIENT_LEN_MAX};
use crate::padme::padme;

/// Longest catalog, decompressed. A pack takes no more rows than fit uncompressed, so none is longer.
pub const CATALOG_LEN_MAX: usize = PACK_LEN_MAX;

/// Shortest sealed catalog: what stands in front, and one part that holds a frame's two lengths.
pub const CATALOG_LEN_MIN: usize = FRONT_LEN + LENGTHS_LEN + SEAL_OVERHEAD;

/// Random bytes, then the key commitment.
const FRONT_LEN: usize = NONCE_LEN + 32;
const NONCE_LEN: usize = 32;

/// Lengths of the zstd frame and of what it holds, u32 each, little endian.
const LENGTHS_LEN: usize = 8;

/// Most bytes of plaintext of a part; longer catalogs are cut evenly.
const PART_LEN_MAX: usize = CHUNK_LEN;
const SEALED_PART_LEN_MAX: usize = PART_LEN_MAX + SEAL_OVERHEAD;

/// Bytes a row takes in the catalog, at most, with its folder's head.
pub(crate) const ROW_ROOM: usize =
    NAME_LEN_MAX + PATIENT_LEN_MAX + CATEGORY_LEN_MAX + MEDIA_TYPE_LEN_MAX + 4 * 3 + ROW_FIXED_LEN + HEAD_ROOM;
const ROW_FIXED_LEN: usize = 4 + 3 * 18 + 34 + 5 * 11;
const HEAD_ROOM: usize = 2 + 2 * 18 + 34 + 6;

/// The rows of a pack, and the room their catalog takes at most.
#[derive(Default)]
pub(crate) struct Rows {
    rows: Vec<CatalogRow>,
    room: usize,
}

impl Rows {
    pub(crate) fn push(&mut self, row: CatalogRow) {
        self.room += row.encoded_len() + 4 + HEAD_ROOM;
        self.rows.push(row);
    }

    pub(crate) fn as_slice(&self) -> &[CatalogRow] {
        &self.rows
    }

    pub(crate) fn into_vec(self) -> Vec<CatalogRow> {
        self.rows
    }

    pub(crate) fn room(&self) -> usize {
        self.room
    }
}

/// Bytes of the sealed catalog, at most, whose rows take `room` bytes; before it is padded.
///
/// The last addend lets [`padded_len`] reach any length from here on.
pub(crate) fn sealed_catalog_len_max(room: usize) -> usize {
    let content = LENGTHS_LEN + compress_bound(room);
    FRONT_LEN + content + part_count(content) * SEAL_OVERHEAD + SEAL_OVERHEAD
}

/// Parts of a catalog whose plaintext has this many bytes, without padding.
fn part_count(content_len: usize) -> usize {
    content_len.div_ceil(PART_LEN_MAX).max(1)
}

/// Bytes of plaintext in the parts of a sealed catalog, in order; nothing where it is too short.
fn part_lens(sealed_len: usize) -> Option<impl Iterator<Item = usize>> {
    let body = sealed_len.checked_sub(FRONT_LEN).filter(|body| *body > 0)?;
    let parts = body.div_ceil(SEALED_PART_LEN_MAX);
    let plain = body.checked_sub(parts * SEAL_OVERHEAD).filter(|plain| *plain >= LENGTHS_LEN)?;
    Some((0..parts).map(move |part| plain / parts + usize::from(part < plain % parts)))
}

/// The shortest Padme length of a pack with `pack_len` bytes before its catalog, whose catalog holds `content_len`.
fn padded_len(pack_len: usize, content_len: usize) -> usize {
    let least = FRONT_LEN + content_len + part_count(content_len) * SEAL_OVERHEAD;
    let mut len = padme((pack_len + least) as u64);
    // Padding may begin another part, whose tag then takes the place of up to 16 bytes of it.
    while part_lens(len as usize - pack_len).is_none_or(|lens| lens.sum::<usize>() < content_len) {
        len = padme(len + 1);
    }
    len as usize
}

pub(crate) struct SealedCatalog {
    pub(crate) sealed: Vec<u8>,
    pub(crate) heads_root: Digest,
    pub(crate) rows: Vec<CatalogRow>,
}

/// Seals the catalog of a pack with `pack_len` bytes before it; the pack's length becomes a Padme length.
pub(crate) fn seal_catalog(
    key: &CatalogKey,
    salt: &PackSalt,
    rows: Vec<CatalogRow>,
    pack_len: usize,
    head_before: impl Fn(&FolderId) -> Option<PackSalt>,
) -> SealedCatalog {
    let heads = heads(&rows, head_before);
    let heads_root = heads_root(&heads, &rows);
    let catalog = v1::Catalog { rows, heads };
    let encoded = encode(&catalog);
    let frame = compress_plain(&encoded);

    let catalog_len = padded_len(pack_len, LENGTHS_LEN + frame.len()) - pack_len;
    let lens: Vec<usize> = part_lens(catalog_len).expect("a padded length has parts").collect();
    let mut plain = Vec::with_capacity(lens.iter().sum());
    plain.extend_from_slice(&(frame.len() as u32).to_le_bytes());
    plain.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    plain.extend_from_slice(&frame);
    plain.resize(lens.iter().sum(), 0);

    let mut nonce = [0; NONCE_LEN];
    getrandom::fill(&mut nonce).expect("a system without randomness cannot seal");
    let sealer = sealer(key, salt, &nonce);
    let mut sealed = Vec::with_capacity(catalog_len);
    sealed.extend_from_slice(&nonce);
    sealed.extend_from_slice(&sealer.commitment());
    let mut rest = plain.as_slice();
    for (index, len) in lens.iter().enumerate() {
        let (part, behind) = rest.split_at(*len);
        let mut part = part.to_vec();
        sealer.seal(Part::Catalog { index: index as u32, last: behind.is_empty() }, &mut part);
        sealed.extend_from_slice(&part);
        rest = behind;
    }
    debug_assert_eq!(sealed.len(), catalog_len);
    SealedCatalog { sealed, heads_root, rows: catalog.rows }
}

/// Every closing has keys of its own: a pack resumed after a crash may be closed again with other rows.
fn sealer(key: &CatalogKey, salt: &PackSalt, nonce: &[u8]) -> Sealer {
    Sealer::new(key.as_content_key(), &[salt, nonce].concat())
}

/// Why bytes are not a catalog.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Too short to be one.
    #[error("a sealed catalog of {got} bytes, {min} is the least")]
    TooShort {
        /// Bytes that came.
        got: usize,
        /// [`CATALOG_LEN_MIN`].
        min: usize,
    },
    /// Sealed under another key.
    #[error("the catalog is sealed under another key than the one at hand")]
    OtherKey,
    /// The bytes were changed.
    #[error("part {part} of the catalog is not what its author sealed")]
    Forged {
        /// Which part.
        part: u32,
    },
    /// It says to be longer than it can be.
    #[error("the catalog says to hold {got} bytes, at most {max} are possible")]
    TooLong {
        /// Bytes it says to hold.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Its zstd frame does not decompress to what it says.
    #[error("the catalog does not decompress to {want} bytes")]
    Frame {
        /// Bytes it says to hold.
        want: usize,
    },
    /// Not the message that is due.
    #[error(transparent)]
    Decode(#[from] bithealth_proto::DecodeError),
    /// Something is hidden where zeros belong.
    #[error("the catalog's padding is not zero at byte {at}")]
    Padding {
        /// Position in the padding, from 0.
        at: usize,
    },
}

/// Opens the catalog of the pack with this salt: `sealed` is the last `catalog_len` bytes of the pack.
///
/// | offset | length | field |
/// |---|---|---|
/// | 0 | 32 | random: gives every closing keys of its own |
/// | 32 | 32 | key commitment |
/// | 64 | rest | the plaintext below, cut evenly into the fewest parts of at most 256 KiB, each sealed: a tag of 16 more |
///
/// | offset | length | field of the plaintext |
/// |---|---|---|
/// | 0 | 4 | bytes of the zstd frame, u32 little endian |
/// | 4 | 4 | bytes it decompresses to, u32 little endian |
/// | 8 | | the zstd frame of a canonical `Catalog` |
/// | | rest | zeros, so that the length of the pack is a Padme length |
///
/// # Errors
/// [`CatalogError`] says what is wrong; nothing of a catalog with a flaw is given out.
pub fn open_catalog(key: &CatalogKey, salt: &PackSalt, sealed: &[u8]) -> Result<v1::Catalog, CatalogError> {
    let too_short = CatalogError::TooShort { got: sealed.len(), min: CATALOG_LEN_MIN };
    let Some(lens) = part_lens(sealed.len()) else { return Err(too_short) };
    let (nonce, behind) = sealed.split_at(NONCE_LEN);
    let (commitment, mut behind) = behind.split_at(FRONT_LEN - NONCE_LEN);
    let sealer = sealer(key, salt, nonce);
    if sealer.commitment() != *commitment {
        return Err(CatalogError::OtherKey);
    }
    let mut plain = Vec::with_capacity(behind.len());
    for (len, part) in lens.zip(0..) {
        let (bytes, rest) = behind.split_at(len + SEAL_OVERHEAD);
        let mut bytes = bytes.to_vec();
        let name = Part::Catalog { index: part, last: rest.is_empty() };
        sealer.open(name, &mut bytes).map_err(|_| CatalogError::Forged { part })?;
        plain.extend_from_slice(&bytes);
        behind = rest;
    }
    decode_plain(&plain)
}

fn decode_plain(plain: &[u8]) -> Result<v1::Catalog, CatalogError> {
    let u32_at = |at: usize| u32::from_le_bytes([plain[at], plain[at + 1], plain[at + 2], plain[at + 3]]) as usize;
    let (frame_len, len) = (u32_at(0), u32_at(4));
    let behind = &plain[LENGTHS_LEN..];
    for (got, max) in [(frame_len, behind.len()), (len, CATALOG_LEN_MAX)] {
        if got > max {
            return Err(CatalogError::TooLong { got, max });
        }
    }
    let (frame, padding) = behind.split_at(frame_len);
    if let Some(at) = padding.iter().position(|byte| *byte != 0) {
        return Err(CatalogError::Padding { at });
    }
    let encoded = decompress(frame.to_vec(), Codec::Zstd, len).map_err(|_| CatalogError::Frame { want: len })?;
    Ok(decode(&encoded)?)
}

#[cfg(test)]
mod tests;
