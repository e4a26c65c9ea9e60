//! The symmetric keys that content is sealed under.

use std::fmt;

use hkdf::Hkdf;
use sha2::Sha256;

use crate::random::random;

/// Bytes of every symmetric key.
pub const KEY_LEN: usize = 32;

const COMMITMENT_LABEL: &[u8] = b"bithealth record commitment v1";

/// Why bytes are not a key.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a key of {got} bytes, {KEY_LEN} are due")]
pub struct KeyLengthError {
    /// Bytes that came.
    pub got: usize,
}

/// A type of secret bytes: it prints as its name, is wiped on drop, and is not cloned.
macro_rules! secret {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(zeroize::Zeroize, zeroize::ZeroizeOnDrop)]
        pub struct $name([u8; $crate::KEY_LEN]);

        impl $name {
            /// A new one, from the system's random source.
            pub fn random() -> Self {
                Self($crate::random::random())
            }

            /// The one with these bytes.
            pub const fn from_bytes(bytes: [u8; $crate::KEY_LEN]) -> Self {
                Self(bytes)
            }

            /// The bytes, to be sealed or wrapped. They must not reach a log, an error or a file in clear.
            pub const fn expose(&self) -> &[u8; $crate::KEY_LEN] {
                &self.0
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}
pub(crate) use secret;

secret!(
    /// What [`crate::Sealer`] derives its keys from: a record key or a catalog key.
    ContentKey
);

/// A kind of content key, so that a record key is never given where a catalog key is due.
macro_rules! content_key {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        pub struct $name(ContentKey);

        impl $name {
            /// A new key, from the system's random source.
            pub fn random() -> Self {
                Self(ContentKey(random()))
            }

            /// The key with these bytes.
            pub const fn from_bytes(bytes: [u8; KEY_LEN]) -> Self {
                Self(ContentKey(bytes))
            }

            /// The key with these bytes, as a message brings them.
            ///
            /// # Errors
            /// [`KeyLengthError`] unless there are [`KEY_LEN`] of them.
            pub fn from_slice(bytes: &[u8]) -> Result<Self, KeyLengthError> {
                bytes.try_into().map(Self::from_bytes).map_err(|_| KeyLengthError { got: bytes.len() })
            }

            /// The bytes, to be sealed or wrapped. They must not reach a log, an error or a file in clear.
            pub const fn expose(&self) -> &[u8; KEY_LEN] {
                self.0.expose()
            }

            /// The key as [`crate::Sealer`] takes it.
            pub const fn as_content_key(&self) -> &ContentKey {
                &self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    };
}

content_key!(
    /// The key of one record: its chunks and its manifest.
    RecordKey
);
content_key!(
    /// The key of one pack's catalog, which holds the keys of the pack's records.
    CatalogKey
);

impl RecordKey {
    /// What hides the record's contents in a commitment to them: whoever is told it can check the commitment, and learns
    /// nothing of the key.
    pub fn commitment_salt(&self) -> [u8; KEY_LEN] {
        let mut salt = [0; KEY_LEN];
        let prk = Hkdf::<Sha256>::new(Some(COMMITMENT_LABEL), self.expose());
        prk.expand(b"salt", &mut salt).expect("32 bytes are less than HKDF gives");
        salt
    }
}

#[cfg(test)]
mod tests {
    use zeroize::{Zeroize, ZeroizeOnDrop};

    use super::*;

    #[test]
    fn keys_print_as_their_name_only() {
        assert_eq!(format!("{:?}", ContentKey::from_bytes([0xA7; 32])), "ContentKey(…)");
        assert_eq!(format!("{:?}", RecordKey::from_bytes([0xA7; 32])), "RecordKey(…)");
        assert_eq!(format!("{:?}", CatalogKey::from_bytes([0xA7; 32])), "CatalogKey(…)");
    }

    #[test]
    fn random_keys_differ() {
        assert_ne!(RecordKey::random().expose(), RecordKey::random().expose());
        assert_ne!(CatalogKey::random().expose(), CatalogKey::random().expose());
        assert_ne!(ContentKey::random().expose(), ContentKey::random().expose());
    }

    #[test]
    fn a_key_of_a_wrong_length_is_refused() {
        assert_eq!(RecordKey::from_slice(&[1; 31]).unwrap_err(), KeyLengthError { got: 31 });
        assert_eq!(CatalogKey::from_slice(&[1; 33]).unwrap_err(), KeyLengthError { got: 33 });
        assert_eq!(CatalogKey::from_slice(&[1; 32]).unwrap().expose(), &[1; 32]);
    }

    #[test]
    fn a_commitment_salt_is_of_its_key_and_not_the_key() {
        let salt = RecordKey::from_bytes([1; 32]).commitment_salt();
        assert_eq!(salt, RecordKey::from_bytes([1; 32]).commitment_salt());
        assert_ne!(salt, RecordKey::from_bytes([2; 32]).commitment_salt());
        assert_ne!(salt, [1; 32]);
    }

    #[test]
    fn keys_are_wiped_on_drop() {
        fn wiped<T: ZeroizeOnDrop>() {}
        wiped::<ContentKey>();
        wiped::<crate::OrganisationSecret>();
        assert!(std::mem::needs_drop::<RecordKey>() && std::mem::needs_drop::<CatalogKey>());
        let mut key = ContentKey::from_bytes([7; 32]);
        key.zeroize();
        assert_eq!(key.expose(), &[0; 32]);
    }
}
