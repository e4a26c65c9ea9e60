//! The keys of an organisation, all derived from one secret, so that its recovery kit fits on a sheet of paper.
//!
//! An organisation may go on with another secret. What was sealed under the former ones still opens, so it keeps them; it
//! is known by the first one for good.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};

use bithealth_types::{Digest, FolderId, MemberId};
use ed25519_dalek::{Signer, SigningKey};
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::secret;
use crate::random::random;
use crate::seal::{open_once, seal_once};
use crate::wrap::Recipient;
use crate::{CatalogKey, KEY_LEN, OpenError, SEAL_OVERHEAD, SIGNATURE_LEN, UnwrapError};

/// Bytes of the salt in front of what [`OrganisationKeys::seal_private`] sealed.
const PRIVATE_SALT_LEN: usize = 32;

/// Bytes that [`OrganisationKeys::seal_private`] adds: salt and tag.
pub const PRIVATE_OVERHEAD: usize = PRIVATE_SALT_LEN + SEAL_OVERHEAD;

/// HKDF's salt: what is derived here, and in which version.
const LABEL: &[u8] = b"bithealth organisation v1";

secret!(
    /// What an organisation must never lose: every other key of it is derived from this one. The recovery kit holds it.
    OrganisationSecret
);

/// The keys of an organisation. The same secrets always give the same ones.
pub struct OrganisationKeys {
    /// The newest first; by the last the organisation is known.
    sets: Vec<KeySet>,
    /// The one that signs and seals now.
    current: AtomicUsize,
}

/// What one secret gives.
struct KeySet {
    signing: SigningKey,
    recipient: Recipient,
    catalog: Secret,
    folder: Secret,
    content: Secret,
    private: Secret,
}

type Secret = Zeroizing<[u8; KEY_LEN]>;

impl KeySet {
    fn derive(secret: &OrganisationSecret) -> Self {
        let root = Hkdf::<Sha256>::new(Some(LABEL), secret.expose());
        Self {
            signing: SigningKey::from_bytes(&expand(&root, &[b"signing"])),
            recipient: Recipient::derive(&expand(&root, &[b"recipient"])),
            catalog: expand(&root, &[b"catalog"]),
            folder: expand(&root, &[b"folder"]),
            content: expand(&root, &[b"content"]),
            private: expand(&root, &[b"private"]),
        }
    }

    fn public(&self) -> [u8; KEY_LEN] {
        self.signing.verifying_key().to_bytes()
    }

    fn catalog_key(&self, pack_salt: &[u8; 32]) -> CatalogKey {
        let key = expand(&from_prk(&self.catalog), &[b"bithealth catalog key v1", pack_salt]);
        CatalogKey::from_bytes(*key)
    }

    fn private_key(&self, salt: &[u8; PRIVATE_SALT_LEN]) -> Secret {
        expand(&from_prk(&self.private), &[PRIVATE_LABEL, salt])
    }
}

impl OrganisationKeys {
    /// Derives all keys of an organisation with one secret, by HKDF-SHA-256 with a label for each.
    pub fn derive(secret: &OrganisationSecret) -> Self {
        Self::with_former(secret, &[])
    }

    /// As [`Self::derive`], with the secrets it had before, the newest first. The newest of all signs and seals until
    /// [`Self::use_key`] says otherwise.
    pub fn with_former(secret: &OrganisationSecret, former: &[OrganisationSecret]) -> Self {
        let sets = std::iter::once(secret).chain(former).map(KeySet::derive).collect();
        Self { sets, current: AtomicUsize::new(0) }
    }

    fn current(&self) -> &KeySet {
        &self.sets[self.current.load(Ordering::Relaxed)]
    }

    fn first(&self) -> &KeySet {
        self.sets.last().expect("there is at least one")
    }

    /// Signs and seals with the keys of this public key from now on. Whether they are others than before; nothing changes
    /// if it is none of ours.
    pub fn use_key(&self, public: &[u8; KEY_LEN]) -> bool {
        let at = self.sets.iter().position(|set| set.public() == *public);
        at.is_some_and(|at| self.current.swap(at, Ordering::Relaxed) != at)
    }

    /// Who this organisation is: the Ed25519 public key of its first secret.
    pub fn member(&self) -> MemberId {
        MemberId(self.first().public())
    }

    /// The Ed25519 public key that signs now.
    pub fn key(&self) -> [u8; KEY_LEN] {
        self.current().public()
    }

    /// The Ed25519 public keys, the newest first.
    pub fn keys(&self) -> impl Iterator<Item = [u8; KEY_LEN]> {
        self.sets.iter().map(KeySet::public)
    }

    /// Signs for the organisation. The caller begins the message with a label, so that no two kinds are ever equal.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.current().signing.sign(message).to_bytes()
    }

    /// The X-Wing public key that others wrap keys for, of [`crate::RECIPIENT_LEN`] bytes.
    pub fn recipient(&self) -> Vec<u8> {
        self.current().recipient.public().to_vec()
    }

    /// The catalog key that a new pack with this salt gets, if this organisation is its author.
    pub fn catalog_key(&self, pack_salt: &[u8; 32]) -> CatalogKey {
        self.current().catalog_key(pack_salt)
    }

    /// The catalog keys that an own pack with this salt may have, the likeliest first.
    pub fn catalog_keys(&self, pack_salt: &[u8; 32]) -> impl Iterator<Item = CatalogKey> {
        let current = self.current.load(Ordering::Relaxed);
        let others = (0..self.sets.len()).filter(move |at| *at != current);
        std::iter::once(current).chain(others).map(|at| self.sets[at].catalog_key(pack_salt))
    }

    /// The folder of a patient's records of one category. Nobody else can compute it, nor guess the patient from it.
    ///
    /// It is HMAC-SHA-256 over both texts, each behind its length (64 bits, big endian), cut to 16 bytes. Texts count as
    /// given: `"A 1"` and `"a1"` are two patients. It is of the first secret for good: a folder keeps its name.
    pub fn folder(&self, patient: &str, category: &str) -> FolderId {
        let mut mac = hmac(&self.first().folder);
        for field in [patient, category] {
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        FolderId(truncated(mac))
    }

    /// What finds a document that was put into this folder before; it differs in every other folder.
    pub fn content_tag(&self, folder: &FolderId, plaintext_digest: &Digest) -> [u8; 16] {
        let mut mac = hmac(&self.first().content);
        mac.update(folder.as_bytes());
        mac.update(plaintext_digest.as_bytes());
        truncated(mac)
    }

    /// Opens a catalog key that [`crate::wrap`] sealed to [`Self::recipient`], or a former one, with the same `context`.
    ///
    /// # Errors
    /// [`UnwrapError`] if it is not for us, or damaged.
    pub fn unwrap(&self, wrap: &[u8], context: &[u8]) -> Result<CatalogKey, UnwrapError> {
        let mut tried = self.sets.iter().map(|set| set.recipient.unwrap(wrap, context));
        let newest = tried.next().expect("there is at least one");
        tried.fold(newest, |before, next| if before.is_ok() { before } else { next })
    }

    /// Seals what only this organisation's own nodes read, under a key made from a fresh salt.
    ///
    /// | offset | length | field |
    /// |---|---|---|
    /// | 0 | 32 | salt |
    /// | 32 | `bytes.len()` | the bytes, sealed |
    /// | 32 + `bytes.len()` | 16 | Poly1305 tag |
    pub fn seal_private(&self, bytes: &[u8]) -> Vec<u8> {
        let salt: [u8; PRIVATE_SALT_LEN] = random();
        let mut sealed = Vec::with_capacity(bytes.len() + SEAL_OVERHEAD);
        sealed.extend_from_slice(bytes);
        seal_once(&self.current().private_key(&salt), PRIVATE_LABEL, &mut sealed);
        [salt.as_slice(), &sealed].concat()
    }

    /// Opens what [`Self::seal_private`] sealed.
    ///
    /// # Errors
    /// [`OpenError::TooShort`], or [`OpenError::PrivateRefused`] if it is damaged or another organisation's.
    pub fn open_private(&self, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
        let too_short = OpenError::TooShort { got: sealed.len(), min: PRIVATE_OVERHEAD };
        if sealed.len() < PRIVATE_OVERHEAD {
            return Err(too_short);
        }
        let (salt, sealed) = sealed.split_first_chunk::<PRIVATE_SALT_LEN>().ok_or(too_short)?;
        let opened = self.sets.iter().find_map(|set| {
            let mut buffer = sealed.to_vec();
            open_once(&set.private_key(salt), PRIVATE_LABEL, &mut buffer).then_some(buffer)
        });
        opened.ok_or(OpenError::PrivateRefused)
    }
}

impl fmt::Debug for OrganisationKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OrganisationKeys(…)")
    }
}

const PRIVATE_LABEL: &[u8] = b"bithealth private v1";

fn from_prk(secret: &Secret) -> Hkdf<Sha256> {
    Hkdf::from_prk(&**secret).expect("a secret is as long as a SHA-256 digest")
}

fn expand(prk: &Hkdf<Sha256>, info: &[&[u8]]) -> Secret {
    let mut secret = Secret::default();
    prk.expand_multi_info(info, &mut *secret).expect("32 bytes are within HKDF's limit of 8160");
    secret
}

fn hmac(secret: &Secret) -> Hmac<Sha256> {
    Hmac::new_from_slice(&**secret).expect("HMAC takes keys of any length")
}

fn truncated(mac: Hmac<Sha256>) -> [u8; 16] {
    let tag = mac.finalize().into_bytes();
    *tag.first_chunk().expect("a SHA-256 digest has 32 bytes")
}

#[cfg(test)]
mod tests;
