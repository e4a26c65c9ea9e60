//! Seals and opens content, wraps a key for an organisation, signs, and keeps keys at rest.
//!
//! Every algorithm is one that a standard describes and an existing crate implements; what is ours is which key is used
//! for what. Each use has a key of its own, derived by HKDF-SHA-256 (RFC 5869) under a label that ends in a version, so
//! that nothing sealed for one purpose opens for another:
//!
//! ```text
//! organisation secret -+- Ed25519 seed            signs for the organisation, and is its identity
//!   (recovery kit)     +- X-Wing seed             receives keys from others              wrap, OrganisationKeys::unwrap
//!                      +- catalog secret + salt   the catalog key of one pack            OrganisationKeys::catalog_key
//!                      +- folder secret           names of folders                       OrganisationKeys::folder
//!                      +- content secret          finds what was put before              OrganisationKeys::content_tag
//!                      +- private secret + salt   what a node keeps for itself           OrganisationKeys::seal_private
//! record key, catalog key (+ subject) -+- commitment
//!                                      +- one key per chunk, manifest or catalog part    Sealer
//! passphrase or key file (+ salt) -----+- commitment
//!                                      +- the key of a secret at rest                    seal_at_rest, open_at_rest
//! ```
//!
//! Keys print as their name only and are wiped when dropped. Nothing here does I/O or knows a clock; fresh keys and salts
//! come from the system's random source.

mod at_rest;
mod key;
mod organisation;
mod random;
mod seal;
mod sign;
mod wrap;

pub use at_rest::{
    AtRestError, Cost, KEY_FILE_LEN_MIN, MEMORY_KIB_MAX, PASSES_MAX, PASSPHRASE_LEN_MIN, SealAtRestError, Sealed,
    Unlock, open_at_rest, seal_at_rest, seal_at_rest_with,
};
pub use key::{CatalogKey, ContentKey, KEY_LEN, KeyLengthError, RecordKey};
pub use organisation::{OrganisationKeys, OrganisationSecret, PRIVATE_OVERHEAD};
pub use seal::{OpenError, Part, SEAL_OVERHEAD, Sealer};
pub use sign::{NodeKey, SIGNATURE_LEN, SignatureError, verify};
pub use wrap::{RECIPIENT_LEN, UnwrapError, WRAP_LEN, WrapError, wrap};
