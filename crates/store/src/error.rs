//! Why an operation failed.

use std::io;
use std::path::PathBuf;

use bithealth_types::{ByteLen, Height};

use crate::item::{BODY_LEN_MAX, Hex, KEY_LEN_MAX, Kind, META_LEN_MAX};
use crate::record::RUN_KEY_LEN;
use crate::wal::{FRAME_LEN_MAX, SAFETY_LEN_MAX, WAL_LEN_MAX};

/// Why a store did not open.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store {path} is locked by {}; stop it or choose another folder", holder(.pid))]
    Locked {
        /// The process, if it wrote its id.
        pid: Option<u32>,
        /// The folder.
        path: PathBuf,
    },
    /// A newer program wrote it.
    #[error("{path} has format {found}, this program knows up to {known}; use the newer program")]
    NewerFormat {
        /// The file that says so.
        path: PathBuf,
        /// The format it has.
        found: u32,
        /// The newest format known here.
        known: u32,
    },
    /// A file could not be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a write was not taken, or not acknowledged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The key is empty or too long.
    #[error("the key has {got} bytes, 1 to {KEY_LEN_MAX} are due")]
    KeyLength {
        /// Bytes that came.
        got: usize,
    },
    /// The first key of a run is too short or too long.
    #[error("the first key of a run has {got} bytes, {} to {} are due", RUN_KEY_LEN.start(), RUN_KEY_LEN.end())]
    RunKeyLength {
        /// Bytes that came.
        got: usize,
    },
    /// The meta is too long.
    #[error("the meta has {got} bytes, at most {META_LEN_MAX} are due")]
    MetaLength {
        /// Bytes that came.
        got: usize,
    },
    /// The body is too long.
    #[error("the body has {got} bytes, at most {BODY_LEN_MAX} are due")]
    BodyLength {
        /// Bytes that came.
        got: u64,
    },
    /// There is no room. Reading goes on, and writing does once there is room again.
    #[error("{path} is full: {} are needed and {} may be used; free some space or reserve less", ByteLen(*.need), ByteLen(*.free))]
    Full {
        /// The folder.
        path: PathBuf,
        /// Bytes the write needs.
        need: u64,
        /// Bytes that are free beyond the reserve.
        free: u64,
    },
    /// A sync failed, and what it left in doubt cannot be read back to be written again. The store acknowledges nothing
    /// more; reading goes on.
    #[error("segment {segment}: a sync failed and what follows byte {durable} is lost; open the store again")]
    Lost {
        /// Number of the segment.
        segment: u64,
        /// Bytes of it that are durable.
        durable: u64,
    },
    /// A file could not be read or written. A `put` was rolled back; a `sync` acknowledged nothing.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// No such key.
    #[error("there is no {kind} {}", Hex(.key))]
    Absent {
        /// The kind asked for.
        kind: Kind,
        /// The key asked for.
        key: Vec<u8>,
    },
    /// The range does not lie in the body.
    #[error("bytes {start}..{end} were asked for, the body has {len}")]
    Range {
        /// First byte asked for.
        start: u64,
        /// One past the last byte asked for.
        end: u64,
        /// Bytes of the body.
        len: u64,
    },
    /// What is on disk does not verify. It stays there; put the item again to repair it.
    #[error("{kind} {} is damaged at byte {offset} of segment {segment}; repair it from a peer", Hex(.key))]
    Damaged {
        /// The kind asked for.
        kind: Kind,
        /// The key asked for.
        key: Vec<u8>,
        /// Number of the segment.
        segment: u64,
        /// First byte in the segment of what does not verify.
        offset: u64,
    },
    /// A file could not be read.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a write-ahead log did not open, or did not take something.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// A frame is too long.
    #[error("the frame has {got} bytes, at most {FRAME_LEN_MAX} are due")]
    FrameLength {
        /// Bytes that came.
        got: usize,
    },
    /// The safety state is too long.
    #[error("the safety state has {got} bytes, at most {SAFETY_LEN_MAX} are due")]
    SafetyLength {
        /// Bytes that came.
        got: usize,
    },
    /// The height has too many frames.
    #[error(
        "the frames of height {height} have {len} bytes and {more} more came, at most {WAL_LEN_MAX} are due; \
         drop what need not be kept until the next height"
    )]
    LogLength {
        /// The height.
        height: Height,
        /// Bytes its frames have.
        len: u64,
        /// Bytes that came.
        more: u64,
    },
    /// There is no room. What was acknowledged is safe, and appending goes on once there is room again, unless the log
    /// is broken from now on.
    #[error("{path}: the disk is full; free some space and try again, what was acknowledged is safe ({source})")]
    Full {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Neither copy of the safety state verifies.
    #[error(
        "neither {wal} nor {safety} holds a sound safety state: nobody knows what this validator signed last, and it \
         could contradict itself; remove both files only once the network has finalised a block above every height \
         this validator may have voted at, or give it a new key first"
    )]
    SafetyLost {
        /// The file with one copy.
        wal: PathBuf,
        /// The file with the other.
        safety: PathBuf,
    },
    /// A write or a sync failed before, and what the disk holds is in doubt. What was acknowledged is safe.
    #[error("{path}: a write or sync failed before, and what it left is in doubt; open the log again")]
    Broken {
        /// The file with the frames.
        path: PathBuf,
    },
    /// A file could not be read or written; nothing of this call is acknowledged.
    #[error("{path}: {source}")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// An I/O error and the file it happened to; becomes the `Io` of the operation.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) path: PathBuf,
    pub(crate) source: io::Error,
}

/// Names the file an I/O error happened to.
pub(crate) trait At<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T, Fault>;
}

impl<T> At<T> for io::Result<T> {
    fn at(self, path: impl Into<PathBuf>) -> Result<T, Fault> {
        self.map_err(|source| Fault { path: path.into(), source })
    }
}

impl From<Fault> for OpenError {
    fn from(Fault { path, source }: Fault) -> Self {
        Self::Io { path, source }
    }
}

impl From<Fault> for ReadError {
    fn from(Fault { path, source }: Fault) -> Self {
        Self::Io { path, source }
    }
}

impl From<Fault> for WriteError {
    fn from(Fault { path, source }: Fault) -> Self {
        Self::Io { path, source }
    }
}

impl From<Fault> for WalError {
    fn from(Fault { path, source }: Fault) -> Self {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full { path, source },
            _ => Self::Io { path, source },
        }
    }
}

fn holder(pid: &Option<u32>) -> String {
    pid.map_or_else(|| "another process".into(), |pid| format!("process {pid}"))
}
