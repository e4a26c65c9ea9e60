//! Sealing of content: ChaCha20-Poly1305 (RFC 8439) with one key for each part, in the manner of STREAM.
//!
//! A *subject* (a record id, or the salt of a pack) has one content key and many parts. From both come, by HKDF-SHA-256,
//! a commitment to the key and one key for each part:
//!
//! ```text
//! prk        = HKDF-Extract(salt = "bithealth seal v1", key (32 bytes) || subject)
//! commitment = HKDF-Expand(prk, "commitment", 32)
//! part key   = HKDF-Expand(prk, "part" || position, 32)
//! sealed     = ChaCha20-Poly1305(part key, nonce = 0, aad = position || "bithealth seal v1" || subject, plaintext)
//! ```
//!
//! | offset in `position` | length | field |
//! |---|---|---|
//! | 0 | 1 | kind: 0 chunk, 1 manifest, 2 part of a manifest, 3 catalog |
//! | 1 | 4 | index, big endian; 0 for a manifest |
//! | 5 | 1 | 1 for the last chunk of a record or the last part of a catalog, else 0 |
//!
//! The nonce may be constant because every key seals one plaintext. Position and subject decide the key and are
//! authenticated beside it, so a part that was cut, swapped, moved or taken from elsewhere does not open; the mark of the
//! last one shows that none is missing behind it.
//!
//! Source: Hoang, Reyhanitabar, Rogaway, Vizár, "Online Authenticated-Encryption and its Nonce-Reuse
//! Misuse-Resistance", CRYPTO 2015 (STREAM); Albertini, Duong, Gueron, Kölbl, Luykx, Schmieg, "How to Abuse and Fix
//! Authenticated Encryption Without Key Commitment", USENIX Security 2022 (why the commitment).

use std::fmt;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bithealth_types::{ChunkIndex, Digest};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::{ContentKey, KEY_LEN};

/// Bytes that sealing adds: the Poly1305 tag.
pub const SEAL_OVERHEAD: usize = 16;

/// Algorithms and version: HKDF-SHA-256, ChaCha20-Poly1305, the positions above.
const SUITE: &[u8] = b"bithealth seal v1";

/// Bytes of an encoded [`Part`].
const POSITION_LEN: usize = 6;

/// Which part of a subject is sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// A chunk of a record.
    Chunk {
        /// Its position in the record.
        index: ChunkIndex,
        /// Whether no chunk follows.
        last: bool,
    },
    /// A record's manifest, or the root of a tree of parts.
    Manifest,
    /// A part of a large manifest.
    ManifestPart {
        /// Its position among the parts, from 0.
        index: u32,
    },
    /// A part of a pack's catalog.
    Catalog {
        /// Its position among the parts, from 0.
        index: u32,
        /// Whether no part follows.
        last: bool,
    },
}

impl Part {
    fn position(self) -> [u8; POSITION_LEN] {
        let (kind, index, last) = match self {
            Self::Chunk { index, last } => (0, index.0, last),
            Self::Manifest => (1, 0, false),
            Self::ManifestPart { index } => (2, index, false),
            Self::Catalog { index, last } => (3, index, last),
        };
        let [a, b, c, d] = index.to_be_bytes();
        [kind, a, b, c, d, u8::from(last)]
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Chunk { index, last: false } => write!(f, "chunk {index}"),
            Self::Chunk { index, last: true } => write!(f, "last chunk {index}"),
            Self::Manifest => f.write_str("manifest"),
            Self::ManifestPart { index } => write!(f, "manifest part {index}"),
            Self::Catalog { index, last: false } => write!(f, "catalog part {index}"),
            Self::Catalog { index, last: true } => write!(f, "last catalog part {index}"),
        }
    }
}

/// Why sealed bytes did not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Too short to hold what sealing adds.
    #[error("{got} sealed bytes, at least {min} are due")]
    TooShort {
        /// Bytes that came.
        got: usize,
        /// Fewest bytes that anything sealed has.
        min: usize,
    },
    /// Damaged, sealed under another key, or not this part of this subject: the tag cannot tell these apart.
    #[error("{part} does not open: it is damaged, from another place, or sealed under another key")]
    Refused {
        /// The part it was opened as.
        part: Part,
    },
    /// What an organisation sealed for itself is damaged, or was sealed by another one.
    #[error("private data does not open: it is damaged, or another organisation's")]
    PrivateRefused,
    /// The key is not the one its author committed to.
    #[error("the key has commitment {got}, its author committed to {want}")]
    OtherKey {
        /// The commitment of the key at hand.
        got: Digest,
        /// The commitment that came with the sealed bytes.
        want: Digest,
    },
}

/// Seals and opens the parts of one subject.
///
/// It holds the key's HKDF state (which wipes itself), so each part costs one HKDF expansion beside the AEAD; many threads
/// may use it at once.
///
/// A part must be sealed **once**: two plaintexts under one part and key would give away their difference. A record key
/// and a pack salt are therefore drawn anew for everything that is sealed, and not used again after a failure.
pub struct Sealer {
    prk: Hkdf<Sha256>,
    /// What every part authenticates beside its position: suite and subject.
    context: Vec<u8>,
}

impl Sealer {
    /// The sealer of one subject: a record id under its record key, or a pack salt under its catalog key.
    pub fn new(key: &ContentKey, subject: &[u8]) -> Self {
        let mut material = Zeroizing::new(Vec::with_capacity(KEY_LEN + subject.len()));
        material.extend_from_slice(key.expose());
        material.extend_from_slice(subject);
        Self { prk: Hkdf::new(Some(SUITE), &material), context: [SUITE, subject].concat() }
    }

    /// Commits to key and subject: to be kept with what is sealed, and checked before it is opened.
    ///
    /// ChaCha20-Poly1305 alone lets an author craft bytes that open under two keys, to two texts. Two keys with one
    /// commitment would be a collision of SHA-256.
    pub fn commitment(&self) -> [u8; 32] {
        let mut commitment = [0; 32];
        self.prk.expand(b"commitment", &mut commitment).expect("32 bytes are within HKDF's limit of 8160");
        commitment
    }

    /// Checks that this key is the one that `want` commits to.
    ///
    /// # Errors
    /// [`OpenError::OtherKey`] if it is not. Commitments are public, so the comparison need not hide where they differ.
    pub fn check_commitment(&self, want: &[u8; 32]) -> Result<(), OpenError> {
        let got = self.commitment();
        if got != *want {
            return Err(OpenError::OtherKey { got: Digest(got), want: Digest(*want) });
        }
        Ok(())
    }

    /// Seals `buffer` in place and appends the tag of [`SEAL_OVERHEAD`] bytes: give it that much spare capacity, or it
    /// is copied.
    ///
    /// No part may be sealed twice with different contents, see [`Sealer`].
    pub fn seal(&self, part: Part, buffer: &mut Vec<u8>) {
        seal_once(&self.part_key(part), &self.associated_data(part), buffer);
    }

    /// Opens `buffer` in place and cuts off the tag.
    ///
    /// # Errors
    /// [`OpenError::TooShort`] or [`OpenError::Refused`]; `buffer` is of no use then.
    pub fn open(&self, part: Part, buffer: &mut Vec<u8>) -> Result<(), OpenError> {
        let len = self.open_slice(part, buffer)?;
        buffer.truncate(len);
        Ok(())
    }

    /// Opens `buffer` in place and leaves the tag where it is: how many bytes at its front are plaintext.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn open_slice(&self, part: Part, buffer: &mut [u8]) -> Result<usize, OpenError> {
        if buffer.len() < SEAL_OVERHEAD {
            return Err(OpenError::TooShort { got: buffer.len(), min: SEAL_OVERHEAD });
        }
        let opened = open_in_place(&self.part_key(part), &self.associated_data(part), buffer);
        opened.ok_or(OpenError::Refused { part })
    }

    fn part_key(&self, part: Part) -> Zeroizing<[u8; KEY_LEN]> {
        let mut key = Zeroizing::new([0; KEY_LEN]);
        self.prk
            .expand_multi_info(&[b"part", &part.position()], &mut *key)
            .expect("32 bytes are within HKDF's limit of 8160");
        key
    }

    fn associated_data(&self, part: Part) -> Vec<u8> {
        [part.position().as_slice(), &self.context].concat()
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

/// Seals `buffer` in place under a key that seals nothing else, and appends the tag.
pub(crate) fn seal_once(key: &[u8; KEY_LEN], aad: &[u8], buffer: &mut Vec<u8>) {
    aead(key)
        .seal_in_place_append_tag(only_nonce(), Aad::from(aad), buffer)
        .expect("RFC 8439 seals up to 256 GiB at once; parts are far below");
}

/// Opens what [`seal_once`] sealed, in place, and cuts off the tag. `false` if it does not open; `buffer` is of no use then.
pub(crate) fn open_once(key: &[u8; KEY_LEN], aad: &[u8], buffer: &mut Vec<u8>) -> bool {
    let Some(len) = open_in_place(key, aad, buffer) else { return false };
    buffer.truncate(len);
    true
}

/// The same, and leaves the tag where it is: how many bytes are plaintext.
fn open_in_place(key: &[u8; KEY_LEN], aad: &[u8], buffer: &mut [u8]) -> Option<usize> {
    aead(key).open_in_place(only_nonce(), Aad::from(aad), buffer).map(|plaintext| plaintext.len()).ok()
}

fn aead(key: &[u8; KEY_LEN]) -> LessSafeKey {
    LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, key).expect("a key of this cipher has 32 bytes"))
}

/// Every key seals one plaintext.
fn only_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

#[cfg(test)]
mod tests;
