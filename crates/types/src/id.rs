//! Fixed-length ids. Their text form is lower-case hexadecimal.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER_PERMISSIVE;

/// Why a text is not an id.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ParseIdError {
    /// Wrong number of characters or bytes.
    #[error("{what} has {got} bytes, {want} are due")]
    Length {
        /// The kind of id.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// Not hexadecimal.
    #[error("{what} is not hexadecimal: character {position} is none of 0-9, a-f")]
    Character {
        /// The kind of id.
        what: &'static str,
        /// Position of the first false character, from 0.
        position: usize,
    },
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $len:expr, $what:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// The bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }

            /// The first eight hexadecimal characters: enough for a person to tell a few apart.
            pub fn short(&self) -> String {
                HEXLOWER_PERMISSIVE.encode(&self.0[..4])
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = ParseIdError;

            fn try_from(bytes: &[u8]) -> Result<Self, ParseIdError> {
                let bytes = bytes.try_into().map_err(|_| ParseIdError::Length {
                    what: $what,
                    got: bytes.len(),
                    want: $len,
                })?;
                Ok(Self(bytes))
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                if text.len() != 2 * $len {
                    return Err(ParseIdError::Length { what: $what, got: text.len() / 2, want: $len });
                }
                let bytes = HEXLOWER_PERMISSIVE
                    .decode(text.as_bytes())
                    .map_err(|error| ParseIdError::Character { what: $what, position: error.position })?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&HEXLOWER_PERMISSIVE.encode(&self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.short())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id!(
    /// A SHA-256 digest.
    Digest, 32, "a digest"
);
id!(
    /// A network: the digest of its genesis.
    GenesisId, 32, "a genesis digest"
);
id!(
    /// An organisation: its Ed25519 public key.
    MemberId, 32, "a member id"
);
id!(
    /// A node, and the author of its log: its Ed25519 public key.
    NodeId, 32, "a node id"
);
id!(
    /// A validator: the Ed25519 public key an organisation votes with.
    ValidatorId, 32, "a validator's key"
);
id!(
    /// A pack: the digest of its descriptor, and so of all its shard roots.
    PackId, 32, "a pack id"
);
id!(
    /// A record: random, so that it says nothing.
    RecordId, 16, "a record id"
);
id!(
    /// A folder: a keyed hash of patient and category, which only its owner can compute.
    FolderId, 16, "a folder id"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_form_reads_back() {
        let id = RecordId([0xA7; 16]);
        assert_eq!(id.to_string().parse::<RecordId>(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse::<RecordId>(), Ok(id));
    }

    #[test]
    fn a_short_text_is_refused_with_both_lengths() {
        let error = "abcd".parse::<RecordId>().unwrap_err();
        assert_eq!(error, ParseIdError::Length { what: "a record id", got: 2, want: 16 });
    }

    #[test]
    fn a_false_character_is_named_by_its_position() {
        let text = format!("0123g{}", "0".repeat(27));
        let error = text.parse::<RecordId>().unwrap_err();
        assert_eq!(error, ParseIdError::Character { what: "a record id", position: 4 });
    }

    #[test]
    fn json_holds_the_text_form() {
        let id = Digest([9; 32]);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, format!("\"{id}\""));
        assert_eq!(serde_json::from_str::<Digest>(&json).unwrap(), id);
    }
}
