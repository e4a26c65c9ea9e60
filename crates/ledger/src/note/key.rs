//! Keys that sign notes, as those who check them are told.

use std::fmt;
use std::str::FromStr;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};

/// What a key signs. The byte of each is part of the key's id, so that a key for one is never taken for the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoteAlgorithm {
    /// An Ed25519 signature over a note's text: 0x01.
    Ed25519,
    /// A time, and an Ed25519 signature over it and a checkpoint: 0x04.
    CosignatureV1,
}

impl NoteAlgorithm {
    /// The byte that stands for it.
    pub fn byte(self) -> u8 {
        match self {
            Self::Ed25519 => 0x01,
            Self::CosignatureV1 => 0x04,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Ed25519, Self::CosignatureV1].into_iter().find(|algorithm| algorithm.byte() == byte)
    }
}

/// Why a text is not a key that signs notes, or a key cannot be one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifierKeyError {
    /// Not three parts.
    #[error("the key is not name+id+key: it has {got} of 3 parts")]
    Parts {
        /// Parts that came.
        got: usize,
    },
    /// No name that a signature's line can hold.
    #[error("the key's name is empty, or holds a space, a plus sign or a control character")]
    Name,
    /// The id is not eight lower-case hexadecimal digits.
    #[error("the key's id is not 8 digits of 0-9, a-f")]
    Id,
    /// The key is not in base64.
    #[error("the key is not in base64")]
    Base64,
    /// Of a kind we do not check.
    #[error("the key is of kind {got:?}, 1 (Ed25519) or 4 (cosignature) is due")]
    Algorithm {
        /// The kind's byte, if there is one.
        got: Option<u8>,
    },
    /// Another length than a key of its kind has.
    #[error("the key has {got} bytes, 32 are due")]
    Length {
        /// Bytes that came.
        got: usize,
    },
    /// Not a point of the curve.
    #[error("the key is not an Ed25519 public key")]
    NotAKey,
    /// The id is that of another key, or name, or kind.
    #[error("the key's id is {want:08x}, not {got:08x}")]
    OtherId {
        /// The id that came.
        got: u32,
        /// The id the key has.
        want: u32,
    },
}

/// A key that signs notes, under a name. Its text form is `name+id+base64(kind || key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    algorithm: NoteAlgorithm,
    public: [u8; 32],
}

impl VerifierKey {
    /// The key under this name. A cosigner has a key of its own for each name, since what it signs does not tell which.
    ///
    /// # Errors
    /// [`VerifierKeyError::Name`] or [`VerifierKeyError::NotAKey`].
    pub fn new(name: &str, algorithm: NoteAlgorithm, public: [u8; 32]) -> Result<Self, VerifierKeyError> {
        if !is_name(name) {
            return Err(VerifierKeyError::Name);
        }
        VerifyingKey::from_bytes(&public).map_err(|_| VerifierKeyError::NotAKey)?;
        Ok(Self { name: name.to_owned(), algorithm, public })
    }

    /// Its name, best one like a URL: `example.com/log`.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it signs.
    pub fn algorithm(&self) -> NoteAlgorithm {
        self.algorithm
    }

    /// The Ed25519 public key.
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The first four bytes of SHA-256(name || newline || kind || key), which a signature's line tells.
    ///
    /// Source: <https://c2sp.org/signed-note>, "Signatures".
    pub fn id(&self) -> u32 {
        let hash = Sha256::new()
            .chain_update(&self.name)
            .chain_update([b'\n', self.algorithm.byte()])
            .chain_update(self.public)
            .finalize();
        u32::from_be_bytes([hash[0], hash[1], hash[2], hash[3]])
    }
}

impl FromStr for VerifierKey {
    type Err = VerifierKeyError;

    fn from_str(text: &str) -> Result<Self, VerifierKeyError> {
        // Base64 has a plus sign too: what is behind the second one is all of the key.
        let parts: Vec<&str> = text.splitn(3, '+').collect();
        let [name, id, base64] = parts[..] else {
            return Err(VerifierKeyError::Parts { got: parts.len() });
        };
        let id = HEXLOWER.decode(id.as_bytes()).ok().and_then(|id| id.try_into().ok());
        let got = u32::from_be_bytes(id.ok_or(VerifierKeyError::Id)?);
        let bytes = BASE64.decode(base64.as_bytes()).map_err(|_| VerifierKeyError::Base64)?;
        let byte = bytes.first().copied();
        let algorithm = byte.and_then(NoteAlgorithm::from_byte).ok_or(VerifierKeyError::Algorithm { got: byte })?;
        let public = bytes[1..].try_into().map_err(|_| VerifierKeyError::Length { got: bytes.len() - 1 })?;
        let key = Self::new(name, algorithm, public)?;
        let want = key.id();
        if got == want { Ok(key) } else { Err(VerifierKeyError::OtherId { got, want }) }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[self.algorithm.byte()], self.public.as_slice()].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id(), BASE64.encode(&key))
    }
}

/// Whether a signature's line can hold this as a name.
pub(super) fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.chars().any(|c| c.is_whitespace() || c == '+' || c < ' ')
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of the examples of golang.org/x/mod/sumdb/note.
    const PETER: &str = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
    /// Of a public witness.
    const WITNESS: &str = "witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO";

    fn parse(text: &str) -> Result<VerifierKey, VerifierKeyError> {
        text.parse()
    }

    /// `PETER`'s text with this name and these bytes, and an id that matches nothing.
    fn with(name: &str, bytes: &[u8]) -> String {
        format!("{name}+00000000+{}", BASE64.encode(bytes))
    }

    fn peter() -> [u8; 32] {
        *parse(PETER).unwrap().public()
    }

    #[test]
    fn keys_of_others_are_read_and_written() {
        for (text, algorithm) in [(PETER, NoteAlgorithm::Ed25519), (WITNESS, NoteAlgorithm::CosignatureV1)] {
            let key = parse(text).unwrap();
            assert_eq!(key.algorithm(), algorithm);
            assert_eq!(key.to_string(), text);
            assert_eq!(VerifierKey::new(key.name(), algorithm, *key.public()), Ok(key));
        }
    }

    #[test]
    fn an_id_stands_for_name_kind_and_key() {
        let key = |name, algorithm| VerifierKey::new(name, algorithm, peter()).unwrap().id();
        let id = key("PeterNeumann", NoteAlgorithm::Ed25519);
        assert_eq!(id, 0xc74f_20a3);
        assert_ne!(id, key("PeterNeuman", NoteAlgorithm::Ed25519));
        assert_ne!(id, key("PeterNeumann", NoteAlgorithm::CosignatureV1));
        let want = Err(VerifierKeyError::OtherId { got: 0xc74f_20a4, want: 0xc74f_20a3 });
        assert_eq!(parse(&PETER.replace("20a3", "20a4")), want);
    }

    #[test]
    fn a_key_has_three_parts() {
        assert_eq!(parse(""), Err(VerifierKeyError::Parts { got: 1 }));
        assert_eq!(parse("PeterNeumann+c74f20a3"), Err(VerifierKeyError::Parts { got: 2 }));
    }

    #[test]
    fn a_name_has_no_space_plus_or_control_character() {
        for name in ["", "a b", "a\u{a0}b", "a\u{2028}", "a\nb", "a\u{7}"] {
            assert_eq!(parse(&with(name, &[&[1][..], &peter()].concat())), Err(VerifierKeyError::Name), "{name:?}");
        }
        assert_eq!(VerifierKey::new("a+b", NoteAlgorithm::Ed25519, peter()), Err(VerifierKeyError::Name));
    }

    #[test]
    fn an_id_is_eight_lower_case_digits() {
        for id in ["", "c74f20a", "c74f20a33", "C74F20A3", "c74f20ag", "c74f20a3c74f20a3"] {
            assert_eq!(parse(&PETER.replace("c74f20a3", id)), Err(VerifierKeyError::Id), "{id:?}");
        }
    }

    #[test]
    fn a_key_is_in_base64_of_one_form() {
        for text in [PETER.replace('/', "_"), format!("{PETER}="), format!("{PETER}\n"), format!("{PETER}+")] {
            assert_eq!(parse(&text), Err(VerifierKeyError::Base64), "{text:?}");
        }
    }

    #[test]
    fn a_key_of_another_kind_is_refused() {
        assert_eq!(parse(&with("a", &[])), Err(VerifierKeyError::Algorithm { got: None }));
        for byte in [0, 2, 5, 6, 255] {
            let want = Err(VerifierKeyError::Algorithm { got: Some(byte) });
            assert_eq!(parse(&with("a", &[&[byte][..], &peter()].concat())), want);
        }
    }

    #[test]
    fn a_key_of_another_length_is_refused() {
        for got in [0, 31, 33] {
            assert_eq!(parse(&with("a", &vec![1; 1 + got])), Err(VerifierKeyError::Length { got }));
        }
    }

    #[test]
    fn a_key_that_is_no_point_is_refused() {
        // y = 2: no x of the curve goes with it.
        let mut no_point = [0; 32];
        no_point[0] = 2;
        assert_eq!(parse(&with("a", &[&[1][..], &no_point].concat())), Err(VerifierKeyError::NotAKey));
    }
}
