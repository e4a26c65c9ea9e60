//! The keys of a node at rest: `keys.bin`, sealed under a passphrase or a key file.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use bithealth_envelope::{AtRestError, NodeKey, OrganisationKeys, OrganisationSecret, SealAtRestError, Sealed, Unlock};
use bithealth_ledger::ValidatorSet;
use bithealth_proto::{DecodeError, decode, encode, v1};
use bithealth_types::ValidatorId;
use bytes::Bytes;
use zeroize::Zeroizing;

/// Bytes of a key file that the command line makes.
const KEY_FILE_LEN: usize = 32;
/// Secrets of its organisation that a node keeps, and a kit has room for, beside the newest.
const FORMER_MAX: usize = 32;
/// More is not read from a key file.
const KEY_FILE_LEN_MAX: u64 = 64 << 10;

/// What opens the keys of a node.
#[derive(Clone)]
pub enum Unlocking {
    /// Something a person knows.
    Passphrase(Zeroizing<String>),
    /// A file that stands elsewhere than the data directory.
    KeyFile(PathBuf),
}

/// The keys a running node holds.
pub struct NodeKeys {
    /// Signs the author log and names the node in the network.
    pub node: NodeKey,
    /// Votes for the organisation.
    pub validator: NodeKey,
    /// Votes until a block lets the other one vote; destroyed at the first start after.
    pub former: Option<NodeKey>,
    /// The organisation's keys.
    pub organisation: OrganisationKeys,
    /// What the organisation's keys are derived from, and the kit holds.
    pub secret: OrganisationSecret,
    /// The secrets it had before, the newest first.
    pub former_secrets: Vec<OrganisationSecret>,
}

/// Why keys cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file holds no sealed keys.
    #[error("{path} is damaged: {error}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// The passphrase or key file does not open them.
    #[error("{path}: {error}")]
    Locked {
        /// The file.
        path: PathBuf,
        /// Why not.
        error: AtRestError,
    },
    /// The passphrase or key file is too weak to seal keys with.
    #[error("{0}")]
    Weak(#[from] SealAtRestError),
    /// They are of a version in which nodes did not vote.
    #[error("{path} is of an earlier version, whose networks this one cannot read; found or join the network anew")]
    Earlier {
        /// The file.
        path: PathBuf,
    },
    /// The keys of the organisation were changed too often.
    #[error("the organisation had {FORMER_MAX} other keys before, and its kit has room for no more")]
    TooManyFormer,
    /// A key file of no bytes opens nothing.
    #[error("the key file {path} is empty")]
    EmptyKeyFile {
        /// The file.
        path: PathBuf,
    },
}

impl NodeKeys {
    /// New keys of a node of the organisation that `secret` makes.
    pub fn new(secret: OrganisationSecret) -> Self {
        Self::with_former(secret, Vec::new())
    }

    /// The same, of one that had other secrets before, the newest first.
    pub fn with_former(secret: OrganisationSecret, former_secrets: Vec<OrganisationSecret>) -> Self {
        let organisation = OrganisationKeys::with_former(&secret, &former_secrets);
        let (node, validator) = (NodeKey::random(), NodeKey::random());
        Self { node, validator, former: None, organisation, secret, former_secrets }
    }

    /// From now on another key should vote; this one votes until it does.
    pub fn rotate(&mut self) {
        self.former = Some(std::mem::replace(&mut self.validator, NodeKey::random()));
    }

    /// The organisation should go on with another secret, which all its keys come from; the ledger says from when on.
    ///
    /// # Errors
    /// [`KeysError::TooManyFormer`].
    pub fn rotate_organisation(&mut self) -> Result<(), KeysError> {
        if self.former_secrets.len() == FORMER_MAX {
            return Err(KeysError::TooManyFormer);
        }
        self.former_secrets.insert(0, std::mem::replace(&mut self.secret, OrganisationSecret::random()));
        self.organisation = OrganisationKeys::with_former(&self.secret, &self.former_secrets);
        Ok(())
    }

    /// The former secrets as messages have them.
    pub fn former_secrets(&self) -> Vec<Bytes> {
        self.former_secrets.iter().map(|secret| Bytes::copy_from_slice(secret.expose())).collect()
    }

    /// The key that these validators let vote: the new one, else the former.
    pub fn voting(&self, validators: &ValidatorSet) -> &NodeKey {
        let votes = |key: &&NodeKey| validators.position(&ValidatorId(key.id().0)).is_some();
        Some(&self.validator).filter(votes).or(self.former.as_ref().filter(votes)).unwrap_or(&self.validator)
    }

    /// Writes them sealed, readable by this user only.
    ///
    /// # Errors
    /// [`KeysError::Io`] if `path` or the key file cannot be used.
    pub fn save(&self, path: &Path, unlocking: &Unlocking) -> Result<(), KeysError> {
        let keys = v1::Keys {
            node_seed: Bytes::copy_from_slice(&self.node.seed()[..]),
            validator_seed: Bytes::copy_from_slice(&self.validator.seed()[..]),
            former_validator_seed: self
                .former
                .as_ref()
                .map_or_else(Bytes::new, |key| Bytes::copy_from_slice(&key.seed()[..])),
            organisation_secret: Bytes::copy_from_slice(&self.secret.expose()[..]),
            former_secrets: self.former_secrets(),
        };
        let plaintext = Zeroizing::new(encode(&keys));
        let sealed = with_unlock(unlocking, |unlock| bithealth_envelope::seal_at_rest(&plaintext, unlock))??;
        let message = v1::SealedKeys {
            version: 1,
            salt: Bytes::copy_from_slice(&sealed.salt),
            memory_kib: sealed.memory_kib,
            passes: sealed.passes,
            sealed: sealed.bytes.into(),
        };
        write_private(path, &encode(&message))
    }

    /// As [`NodeKeys::save`], in place of those that are there, which are gone then.
    ///
    /// # Errors
    /// As [`NodeKeys::save`]; those that were there are still there.
    pub fn replace(&self, path: &Path, unlocking: &Unlocking) -> Result<(), KeysError> {
        replace(path, |new| self.save(new, unlocking))
    }

    /// Reads and opens them.
    ///
    /// # Errors
    /// [`KeysError`]: the file is missing or damaged, or `unlocking` does not open it.
    pub fn load(path: &Path, unlocking: &Unlocking) -> Result<Self, KeysError> {
        let bytes = fs::read(path).map_err(|source| KeysError::Io { path: path.to_owned(), source })?;
        let damaged = |error| KeysError::Damaged { path: path.to_owned(), error };
        let message: v1::SealedKeys = decode(&bytes).map_err(damaged)?;
        let sealed = Sealed {
            salt: message.salt.as_ref().try_into().unwrap_or_default(),
            memory_kib: message.memory_kib,
            passes: message.passes,
            bytes: message.sealed.to_vec(),
        };
        let plaintext = with_unlock(unlocking, |unlock| bithealth_envelope::open_at_rest(&sealed, unlock))?
            .map_err(|error| KeysError::Locked { path: path.to_owned(), error })?;
        let keys: v1::Keys = decode(&plaintext).map_err(damaged)?;
        let Ok(validator) = keys.validator_seed.as_ref().try_into() else {
            return Err(KeysError::Earlier { path: path.to_owned() });
        };
        let seed = keys.node_seed.as_ref().try_into().expect("we sealed 32 bytes, and they opened");
        let secret = keys.organisation_secret.as_ref().try_into().expect("we sealed 32 bytes, and they opened");
        let secret = OrganisationSecret::from_bytes(secret);
        let former_secrets = read_former(&keys.former_secrets).expect("we sealed 32 bytes each, and they opened");
        let organisation = OrganisationKeys::with_former(&secret, &former_secrets);
        let (node, validator) = (NodeKey::from_seed(seed), NodeKey::from_seed(validator));
        let former = keys.former_validator_seed.as_ref().try_into().ok().map(NodeKey::from_seed);
        Ok(Self { node, validator, former, organisation, secret, former_secrets })
    }
}

/// Former secrets as a message has them; `None` if one is none.
pub(crate) fn read_former(former: &[Bytes]) -> Option<Vec<OrganisationSecret>> {
    former.iter().map(|bytes| Some(OrganisationSecret::from_bytes(bytes.as_ref().try_into().ok()?))).collect()
}

/// Makes a key file of random bytes where there is none.
///
/// # Errors
/// [`KeysError::Io`] if it cannot be written.
pub fn ensure_key_file(path: &Path) -> Result<(), KeysError> {
    if path.exists() {
        return Ok(());
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|source| KeysError::Io { path: folder.to_owned(), source })?;
    }
    let mut key = Zeroizing::new([0; KEY_FILE_LEN]);
    getrandom::fill(&mut key[..]).expect("the system's random source answers");
    write_private(path, &key[..])
}

/// Writes a file that only this user can read, durably.
pub(crate) fn write_private(path: &Path, bytes: &[u8]) -> Result<(), KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(io)?;
    file.write_all(bytes).map_err(io)?;
    file.sync_all().map_err(io)
}

/// Has `write` make a new file, and puts it in the place of the one at `path`, durably.
pub(crate) fn replace(path: &Path, write: impl FnOnce(&Path) -> Result<(), KeysError>) -> Result<(), KeysError> {
    let io = |source| KeysError::Io { path: path.to_owned(), source };
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new); // left by one that was cut off
    write(&new)?;
    fs::rename(&new, path).map_err(io)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
}

fn with_unlock<T>(unlocking: &Unlocking, use_it: impl FnOnce(Unlock<'_>) -> T) -> Result<T, KeysError> {
    match unlocking {
        Unlocking::Passphrase(passphrase) => Ok(use_it(Unlock::Passphrase(passphrase))),
        Unlocking::KeyFile(path) => {
            let io = |source| KeysError::Io { path: path.clone(), source };
            let len = fs::metadata(path).map_err(io)?.len();
            if len == 0 {
                return Err(KeysError::EmptyKeyFile { path: path.clone() });
            }
            let mut key = Zeroizing::new(Vec::new());
            std::io::Read::read_to_end(
                &mut std::io::Read::take(fs::File::open(path).map_err(io)?, KEY_FILE_LEN_MAX),
                &mut key,
            )
            .map_err(io)?;
            Ok(use_it(Unlock::KeyFile(&key)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_back_with_the_key_file_and_with_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key_file) = (folder.path().join("keys.bin"), folder.path().join("elsewhere/key"));
        ensure_key_file(&key_file).unwrap();
        let keys = NodeKeys::new(OrganisationSecret::random());
        keys.save(&path, &Unlocking::KeyFile(key_file.clone())).unwrap();

        let again = NodeKeys::load(&path, &Unlocking::KeyFile(key_file.clone())).unwrap();
        assert_eq!(again.node.id(), keys.node.id());
        assert_eq!(again.organisation.member(), keys.organisation.member());

        let other = folder.path().join("other");
        ensure_key_file(&other).unwrap();
        assert!(matches!(NodeKeys::load(&path, &Unlocking::KeyFile(other)), Err(KeysError::Locked { .. })));
        let passphrase = Unlocking::Passphrase("a guess".to_owned().into());
        assert!(matches!(NodeKeys::load(&path, &passphrase), Err(KeysError::Locked { .. })));
    }

    #[test]
    fn keys_are_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.bin");
        let unlocking = Unlocking::KeyFile(folder.path().join("key"));
        ensure_key_file(&folder.path().join("key")).unwrap();
        let keys = NodeKeys::new(OrganisationSecret::random());
        keys.save(&path, &unlocking).unwrap();
        assert!(matches!(keys.save(&path, &unlocking), Err(KeysError::Io { .. })));
    }

    #[test]
    fn a_rotation_keeps_the_former_key_until_it_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.bin");
        let unlocking = Unlocking::KeyFile(folder.path().join("key"));
        ensure_key_file(&folder.path().join("key")).unwrap();
        let mut keys = NodeKeys::new(OrganisationSecret::random());
        keys.save(&path, &unlocking).unwrap();
        let first = keys.validator.id();
        keys.rotate();
        keys.replace(&path, &unlocking).unwrap();
        let mut again = NodeKeys::load(&path, &unlocking).unwrap();
        assert_eq!(again.former.as_ref().map(NodeKey::id), Some(first));
        assert_ne!(again.validator.id(), first);
        let member = bithealth_types::MemberId([1; 32]);
        let set = |key: &NodeKey| {
            let key = ValidatorId(key.id().0);
            ValidatorSet::new(vec![bithealth_ledger::Validator { member, key }]).unwrap()
        };
        assert_eq!(again.voting(&set(again.former.as_ref().unwrap())).id(), first);
        assert_eq!(again.voting(&set(&again.validator)).id(), again.validator.id());
        again.former = None;
        again.replace(&path, &unlocking).unwrap();
        assert!(NodeKeys::load(&path, &unlocking).unwrap().former.is_none());
    }

    #[test]
    fn an_organisation_keeps_the_secrets_it_had() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys.bin");
        let unlocking = Unlocking::KeyFile(folder.path().join("key"));
        ensure_key_file(&folder.path().join("key")).unwrap();
        let mut keys = NodeKeys::new(OrganisationSecret::random());
        keys.save(&path, &unlocking).unwrap();
        let member = keys.organisation.member();
        for _ in 0..FORMER_MAX {
            keys.rotate_organisation().unwrap();
        }
        assert!(matches!(keys.rotate_organisation(), Err(KeysError::TooManyFormer)));
        keys.replace(&path, &unlocking).unwrap();
        let again = NodeKeys::load(&path, &unlocking).unwrap();
        assert_eq!(again.organisation.member(), member);
        assert!(again.organisation.keys().eq(keys.organisation.keys()));
        assert_eq!(again.organisation.keys().count(), FORMER_MAX + 1);
    }

    #[test]
    fn an_empty_key_file_and_damaged_keys_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (path, key_file) = (folder.path().join("keys.bin"), folder.path().join("key"));
        fs::write(&path, b"\xff\xff").unwrap();
        fs::write(&key_file, b"").unwrap();
        let unlocking = Unlocking::KeyFile(key_file.clone());
        assert!(matches!(NodeKeys::load(&path, &unlocking), Err(KeysError::Damaged { .. })));
        let keys = NodeKeys::new(OrganisationSecret::random());
        let error = keys.save(&folder.path().join("new"), &unlocking).unwrap_err();
        assert!(matches!(error, KeysError::EmptyKeyFile { .. }));
    }
}
