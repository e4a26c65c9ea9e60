//! A node's data directory: what lies where in it.

use std::fs;
use std::path::{Path, PathBuf};

use bithealth_proto::{DecodeError, Limited, decode, encode, v1};
use data_encoding::HEXLOWER;

use crate::config::{Config, ConfigError};
use crate::keys::{KeysError, NodeKeys, Unlocking, replace, write_private};

/// Paths in a data directory.
#[derive(Clone, Debug)]
pub struct Home {
    dir: PathBuf,
}

/// Why a data directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HomeError {
    /// Nothing was set up here.
    #[error("{dir} holds no node")]
    Empty {
        /// The data directory.
        dir: PathBuf,
    },
    /// A node is here already.
    #[error("{dir} holds a node already")]
    Taken {
        /// The data directory.
        dir: PathBuf,
    },
    /// A file of it is damaged.
    #[error("{path} is damaged: {error}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: DecodeError,
    },
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeysError),
}

/// What a data directory is set up with.
pub struct Founding<'a> {
    /// The network it belongs to.
    pub genesis: &'a v1::Genesis,
    /// Its organisation's word that it is a node.
    pub certificate: &'a v1::NodeCertificate,
    /// How its organisation came in; none for the founder and for a restored node.
    pub admission: Option<&'a v1::Admission>,
    /// Its keys.
    pub keys: &'a NodeKeys,
    /// What seals them.
    pub unlocking: &'a Unlocking,
    /// Its configuration.
    pub config: &'a Config,
}

impl Home {
    /// The data directory at `dir`, whether anything is there or not.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The data directory.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `config.toml`.
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("config.toml")
    }

    /// The local API's Unix socket.
    pub fn socket_path(&self) -> PathBuf {
        self.dir.join("node.sock")
    }

    /// The log of the consensus engine.
    pub fn consensus_path(&self) -> PathBuf {
        self.dir.join("consensus")
    }

    /// The store.
    pub fn store_path(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// What opens the metrics to who asks over TCP.
    pub fn metrics_token_path(&self) -> PathBuf {
        self.dir.join("metrics.token")
    }

    fn keys_path(&self) -> PathBuf {
        self.dir.join("keys.bin")
    }

    fn genesis_path(&self) -> PathBuf {
        self.dir.join("genesis.bin")
    }

    fn certificate_path(&self) -> PathBuf {
        self.dir.join("certificate.bin")
    }

    fn admission_path(&self) -> PathBuf {
        self.dir.join("admission.bin")
    }

    /// Refuses a directory that holds a node.
    ///
    /// # Errors
    /// [`HomeError::Taken`].
    pub fn check_free(&self) -> Result<(), HomeError> {
        if self.keys_path().exists() {
            return Err(HomeError::Taken { dir: self.dir.clone() });
        }
        Ok(())
    }

    /// Sets the directory up. The keys are written last: without them it counts as empty.
    ///
    /// # Errors
    /// [`HomeError`] if it is taken or cannot be written.
    pub fn found(&self, founding: &Founding<'_>) -> Result<(), HomeError> {
        self.check_free()?;
        fs::create_dir_all(&self.dir).map_err(|source| HomeError::Io { path: self.dir.clone(), source })?;
        for path in [self.genesis_path(), self.certificate_path(), self.admission_path()] {
            let _ = fs::remove_file(path); // left by a set-up that was cut off; the keys show that it was
        }
        write_private(&self.genesis_path(), &encode(founding.genesis))?;
        write_private(&self.certificate_path(), &encode(founding.certificate))?;
        if let Some(admission) = founding.admission {
            write_private(&self.admission_path(), &encode(admission))?;
        }
        founding.config.save(&self.config_path())?;
        founding.keys.save(&self.keys_path(), founding.unlocking)?;
        Ok(())
    }

    /// Whether a node was set up here.
    ///
    /// # Errors
    /// [`HomeError::Empty`] if not.
    pub fn check_founded(&self) -> Result<(), HomeError> {
        if self.keys_path().exists() { Ok(()) } else { Err(HomeError::Empty { dir: self.dir.clone() }) }
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`HomeError`] if nothing was set up here or the file is not a configuration.
    pub fn config(&self) -> Result<Config, HomeError> {
        self.check_founded()?;
        Ok(Config::load(&self.config_path())?)
    }

    /// The network's genesis.
    ///
    /// # Errors
    /// [`HomeError`] if the file is missing or damaged.
    pub fn genesis(&self) -> Result<v1::Genesis, HomeError> {
        read(&self.genesis_path())
    }

    /// The node's certificate.
    ///
    /// # Errors
    /// [`HomeError`] if the file is missing or damaged.
    pub fn certificate(&self) -> Result<v1::NodeCertificate, HomeError> {
        read(&self.certificate_path())
    }

    /// How the organisation came in, if this node brought it in.
    ///
    /// # Errors
    /// [`HomeError`] if the file is damaged.
    pub fn admission(&self) -> Result<Option<v1::Admission>, HomeError> {
        if !self.admission_path().exists() {
            return Ok(None);
        }
        read(&self.admission_path()).map(Some)
    }

    /// Puts these keys in the place of those that are there.
    ///
    /// # Errors
    /// [`HomeError`] if they cannot be written; those that were there still are.
    pub fn replace_keys(&self, keys: &NodeKeys, unlocking: &Unlocking) -> Result<(), HomeError> {
        Ok(keys.replace(&self.keys_path(), unlocking)?)
    }

    /// Puts this certificate in the place of the one that is there.
    ///
    /// # Errors
    /// [`HomeError`] if it cannot be written; the one that was there still is.
    pub fn replace_certificate(&self, certificate: &v1::NodeCertificate) -> Result<(), HomeError> {
        Ok(replace(&self.certificate_path(), |new| write_private(new, &encode(certificate)))?)
    }

    /// The token that opens the metrics; drawn when it is first asked for. An operator may write another one there.
    ///
    /// # Errors
    /// [`HomeError`] if it cannot be read or written.
    pub fn metrics_token(&self) -> Result<String, HomeError> {
        let path = self.metrics_token_path();
        if !path.exists() {
            let mut token = [0; 32];
            getrandom::fill(&mut token).expect("the system's random source answers");
            write_private(&path, HEXLOWER.encode(&token).as_bytes())?;
        }
        let token = fs::read_to_string(&path).map_err(|source| HomeError::Io { path, source })?;
        Ok(token.trim().to_owned())
    }

    /// The keys.
    ///
    /// # Errors
    /// [`HomeError`] if `unlocking` does not open them.
    pub fn keys(&self, unlocking: &Unlocking) -> Result<NodeKeys, HomeError> {
        self.check_founded()?;
        Ok(NodeKeys::load(&self.keys_path(), unlocking)?)
    }
}

fn read<M: Limited>(path: &Path) -> Result<M, HomeError> {
    let bytes = fs::read(path).map_err(|source| HomeError::Io { path: path.to_owned(), source })?;
    decode(&bytes).map_err(|error| HomeError::Damaged { path: path.to_owned(), error })
}
