//! Secrets at rest, sealed under a passphrase or a key file.
//!
//! ```text
//! passphrase:  root = Argon2id (RFC 9106, version 0x13, one lane; passphrase, salt, memory, passes), 32 bytes
//! key file:    root = HKDF-SHA-256 (salt, file, info = "root"), 32 bytes
//! commitment = HKDF-Expand(prk, "commitment", 32), key = HKDF-Expand(prk, "key", 32)
//!              where prk = HKDF-Extract(salt = "bithealth at rest passphrase v1" or "... key file v1", root)
//! ```
//!
//! | offset in [`Sealed::bytes`] | length | field |
//! |---|---|---|
//! | 0 | 32 | commitment: tells a wrong passphrase from damaged bytes, and keeps one file from opening under two |
//! | 32 | n | the secret, sealed with ChaCha20-Poly1305 |
//! | 32 + n | 16 | Poly1305 tag |

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::random::random;
use crate::seal::{open_once, seal_once};
use crate::{KEY_LEN, SEAL_OVERHEAD};

/// Fewest bytes of a passphrase (NIST SP 800-63B-4, section 3.1.1.2, asks for 8 characters even beside a second factor).
pub const PASSPHRASE_LEN_MIN: usize = 8;

/// Fewest bytes of a key file: as many as a key has. It is not stretched, so it must be random.
pub const KEY_FILE_LEN_MIN: usize = 32;

/// Most memory that a file may ask of Argon2id, in KiB: four times what [`Cost::STANDARD`] asks.
pub const MEMORY_KIB_MAX: u32 = 256 * 1024;

/// Most passes that a file may ask of Argon2id: with [`MEMORY_KIB_MAX`] some ten seconds of one core.
pub const PASSES_MAX: u32 = 16;

const COMMITMENT_LEN: usize = 32;

/// What opens a secret at rest.
#[derive(Clone, Copy)]
pub enum Unlock<'a> {
    /// A passphrase that a person types.
    Passphrase(&'a str),
    /// The bytes of a random file, for machines that start alone.
    KeyFile(&'a [u8]),
}

impl fmt::Debug for Unlock<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passphrase(_) => "Passphrase(…)",
            Self::KeyFile(_) => "KeyFile(…)",
        })
    }
}

/// What a guess at a passphrase costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cost {
    memory_kib: u32,
    passes: u32,
}

impl Cost {
    /// 64 MiB and 3 passes, the memory and passes of RFC 9106's second recommended option (section 4), on one lane.
    ///
    /// More than three times the memory of OWASP's floor (19 MiB, 2 passes): this guards the key to all records of an
    /// organisation against guessing from a stolen disk, and is paid once, when a node starts. Not the 2 GiB of the
    /// RFC's first option, since a node must start on a machine of 300 MiB. One lane, since more would be computed one
    /// after the other here, and only help an attacker with many cores.
    pub const STANDARD: Self = Self { memory_kib: 64 * 1024, passes: 3 };

    /// The least that Argon2id knows: a passphrase sealed with it can be guessed. Only for tests.
    pub const fn weak_for_tests() -> Self {
        Self { memory_kib: Params::MIN_M_COST, passes: Params::MIN_T_COST }
    }
}

/// A secret, sealed. What a file keeps of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// Random.
    pub salt: [u8; 16],
    /// Memory of Argon2id, in KiB; 0 if sealed under a key file.
    pub memory_kib: u32,
    /// Passes of Argon2id; 0 if sealed under a key file.
    pub passes: u32,
    /// Commitment, sealed secret, tag.
    pub bytes: Vec<u8>,
}

/// Why a secret was not sealed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealAtRestError {
    /// A passphrase that is guessed at once.
    #[error("a passphrase of {got} bytes: choose one of at least {PASSPHRASE_LEN_MIN}, better five random words")]
    ShortPassphrase {
        /// Bytes that came.
        got: usize,
    },
    /// A key file that cannot hold a key.
    #[error("a key file of {got} bytes: make one of at least {KEY_FILE_LEN_MIN} random bytes")]
    ShortKeyFile {
        /// Bytes that came.
        got: usize,
    },
    /// No memory for Argon2id.
    #[error("{memory_kib} KiB of memory are needed to seal under a passphrase, and are not free")]
    Memory {
        /// KiB that were needed.
        memory_kib: u32,
    },
}

/// Why a secret at rest did not open.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AtRestError {
    /// Not the passphrase it was sealed under (or salt or commitment are damaged).
    #[error("wrong passphrase")]
    WrongPassphrase,
    /// Not the key file it was sealed under (or salt or commitment are damaged).
    #[error("wrong key file")]
    WrongKeyFile,
    /// A key file came.
    #[error("sealed under a passphrase, a key file was given")]
    NeedsPassphrase,
    /// A passphrase came.
    #[error("sealed under a key file, a passphrase was given")]
    NeedsKeyFile,
    /// The file asks for what no file of ours asks: nothing was computed, no memory was taken.
    #[error(
        "the file asks for {memory_kib} KiB of memory and {passes} passes; accepted are {memory_min} to \
         {MEMORY_KIB_MAX} KiB and 1 to {PASSES_MAX} passes, or 0 and 0 for a key file",
        memory_min = Params::MIN_M_COST
    )]
    Parameters {
        /// KiB of memory that the file asks for.
        memory_kib: u32,
        /// Passes that the file asks for.
        passes: u32,
    },
    /// Too short to hold what sealing adds.
    #[error("{got} sealed bytes, at least {min} are due")]
    TooShort {
        /// Bytes that came.
        got: usize,
        /// Fewest bytes that a sealed secret has.
        min: usize,
    },
    /// Right passphrase or key file, but the sealed secret was changed.
    #[error("the sealed secret is damaged; take it from a backup, or restore with the recovery kit")]
    Damaged,
    /// No memory for Argon2id.
    #[error("{memory_kib} KiB of memory are needed to open, and are not free")]
    Memory {
        /// KiB that were needed.
        memory_kib: u32,
    },
}

/// Seals a secret under a passphrase or key file, at [`Cost::STANDARD`].
///
/// # Errors
/// [`SealAtRestError`] if passphrase or key file are too short, or memory is short.
pub fn seal_at_rest(secret: &[u8], unlock: Unlock<'_>) -> Result<Sealed, SealAtRestError> {
    seal_at_rest_with(secret, unlock, Cost::STANDARD)
}

/// Seals a secret under a passphrase of this cost; a key file is not stretched and has none.
///
/// # Errors
/// As [`seal_at_rest`].
pub fn seal_at_rest_with(secret: &[u8], unlock: Unlock<'_>, cost: Cost) -> Result<Sealed, SealAtRestError> {
    let salt = random();
    let (keys, cost) = match unlock {
        Unlock::Passphrase(passphrase) if passphrase.len() < PASSPHRASE_LEN_MIN => {
            return Err(SealAtRestError::ShortPassphrase { got: passphrase.len() });
        }
        Unlock::KeyFile(file) if file.len() < KEY_FILE_LEN_MIN => {
            return Err(SealAtRestError::ShortKeyFile { got: file.len() });
        }
        Unlock::Passphrase(passphrase) => {
            let keys = Keys::of_passphrase(passphrase, &salt, cost)
                .map_err(|OutOfMemory| SealAtRestError::Memory { memory_kib: cost.memory_kib })?;
            (keys, cost)
        }
        Unlock::KeyFile(file) => (Keys::of_file(file, &salt), NO_COST),
    };
    let mut sealed = Vec::with_capacity(secret.len() + SEAL_OVERHEAD);
    sealed.extend_from_slice(secret);
    seal_once(&keys.key, keys.label, &mut sealed);
    let bytes = [keys.commitment.as_slice(), &sealed].concat();
    Ok(Sealed { salt, memory_kib: cost.memory_kib, passes: cost.passes, bytes })
}

/// Opens a secret at rest.
///
/// # Errors
/// [`AtRestError`] says what is wrong. What the file asks for is checked before anything is computed.
pub fn open_at_rest(sealed: &Sealed, unlock: Unlock<'_>) -> Result<Zeroizing<Vec<u8>>, AtRestError> {
    let min = COMMITMENT_LEN + SEAL_OVERHEAD;
    let too_short = AtRestError::TooShort { got: sealed.bytes.len(), min };
    if sealed.bytes.len() < min {
        return Err(too_short);
    }
    let (commitment, secret) = sealed.bytes.split_first_chunk::<COMMITMENT_LEN>().ok_or(too_short)?;
    let (keys, wrong) = match (sealed.cost()?, unlock) {
        (Some(cost), Unlock::Passphrase(passphrase)) => {
            let keys = Keys::of_passphrase(passphrase, &sealed.salt, cost)
                .map_err(|OutOfMemory| AtRestError::Memory { memory_kib: cost.memory_kib })?;
            (keys, AtRestError::WrongPassphrase)
        }
        (None, Unlock::KeyFile(file)) => (Keys::of_file(file, &sealed.salt), AtRestError::WrongKeyFile),
        (Some(_), Unlock::KeyFile(_)) => return Err(AtRestError::NeedsPassphrase),
        (None, Unlock::Passphrase(_)) => return Err(AtRestError::NeedsKeyFile),
    };
    if keys.commitment != *commitment {
        return Err(wrong);
    }
    let mut secret = Zeroizing::new(secret.to_vec());
    if !open_once(&keys.key, keys.label, &mut secret) {
        return Err(AtRestError::Damaged);
    }
    Ok(secret)
}

/// What stands in a file that is sealed under a key file.
const NO_COST: Cost = Cost { memory_kib: 0, passes: 0 };

impl Sealed {
    /// The cost the file asks for, within bounds; none for a key file.
    fn cost(&self) -> Result<Option<Cost>, AtRestError> {
        let cost = Cost { memory_kib: self.memory_kib, passes: self.passes };
        let memory = Params::MIN_M_COST..=MEMORY_KIB_MAX;
        if cost == NO_COST {
            Ok(None)
        } else if memory.contains(&cost.memory_kib) && (1..=PASSES_MAX).contains(&cost.passes) {
            Ok(Some(cost))
        } else {
            Err(AtRestError::Parameters { memory_kib: self.memory_kib, passes: self.passes })
        }
    }
}

#[derive(Debug, PartialEq)]
struct OutOfMemory;

struct Keys {
    label: &'static [u8],
    commitment: [u8; COMMITMENT_LEN],
    key: Zeroizing<[u8; KEY_LEN]>,
}

impl Keys {
    fn of_passphrase(passphrase: &str, salt: &[u8; 16], cost: Cost) -> Result<Self, OutOfMemory> {
        let params =
            Params::new(cost.memory_kib, cost.passes, 1, Some(KEY_LEN)).expect("a cost is within Argon2's limits");
        let mut root = Zeroizing::new([0; KEY_LEN]);
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        stretched(argon2.hash_password_into(passphrase.as_bytes(), salt, &mut *root))?;
        Ok(Self::expand(b"bithealth at rest passphrase v1", &root))
    }

    fn of_file(file: &[u8], salt: &[u8; 16]) -> Self {
        let mut root = Zeroizing::new([0; KEY_LEN]);
        expand(&Hkdf::new(Some(salt), file), b"root", &mut root);
        Self::expand(b"bithealth at rest key file v1", &root)
    }

    fn expand(label: &'static [u8], root: &[u8; KEY_LEN]) -> Self {
        let prk = Hkdf::<Sha256>::new(Some(label), root);
        let mut keys = Self { label, commitment: [0; COMMITMENT_LEN], key: Zeroizing::new([0; KEY_LEN]) };
        expand(&prk, b"commitment", &mut keys.commitment);
        expand(&prk, b"key", &mut keys.key);
        keys
    }
}

/// Of what can go wrong in Argon2id, only memory can here.
fn stretched(result: argon2::Result<()>) -> Result<(), OutOfMemory> {
    match result {
        Ok(()) => Ok(()),
        Err(argon2::Error::OutOfMemory) => Err(OutOfMemory),
        Err(error) => unreachable!("salt and output have the right lengths, and no passphrase has 4 GiB: {error}"),
    }
}

fn expand(prk: &Hkdf<Sha256>, info: &[u8], output: &mut [u8; 32]) {
    prk.expand(info, output).expect("32 bytes are within HKDF's limit of 8160");
}

#[cfg(test)]
mod tests;
