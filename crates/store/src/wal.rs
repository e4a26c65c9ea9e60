//! The write-ahead log of the consensus engine: what it took in at the current height, and what it signed last.
//!
//! ```text
//! <dir>/wal        head, then frames; replaced by an empty one at each height
//! <dir>/safety.1   what was signed last
//! <dir>/safety.2   the same
//! ```
//!
//! | part | bytes |
//! |---|---|
//! | head | `BHWAL1\0\0`, height (u64), generation (u64), CRC-32C of these |
//! | frame | length (u32), CRC-32C of generation, index (u64) and bytes, the bytes |
//! | safety | `BHSAFE1\0`, generation (u64), length (u32), CRC-32C of generation and bytes, the bytes |
//!
//! Numbers are little endian. The generation grows with every new log, so that a frame of an earlier height is never
//! taken for one of this; it grows with every safety state, so that the newer copy is known.
//!
//! # What holds after a crash
//! - What an append that returned `Ok` wrote is there, and what it said was signed last is there twice.
//! - One damaged copy of the safety state is no loss. If both are, nobody knows what was signed, and [`Wal::open`] says
//!   so instead of letting the engine sign again.
//! - After a write or sync that failed nothing more is taken until the log is opened again.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use crate::disk::{Disk, DiskFile, Open, read_file, replace_file};

/// Most bytes of a frame: a proposed block and what goes with it.
pub const FRAME_LEN_MAX: usize = 2 << 20;
/// Most bytes of the frames of one height: some hundred rounds of proposals.
pub const WAL_LEN_MAX: u64 = 256 << 20;
/// Most bytes of a safety state.
pub const SAFETY_LEN_MAX: usize = 4 << 10;

const WAL: &str = "wal";
const SAFETY: [&str; 2] = ["safety.1", "safety.2"];
const WAL_MAGIC: &[u8; 8] = b"BHWAL1\0\0";
const SAFETY_MAGIC: &[u8; 8] = b"BHSAFE1\0";
const HEAD_LEN: usize = 28;
const FRAME_HEAD_LEN: usize = 8;
const SAFETY_HEAD_LEN: usize = 24;

/// Why the log does not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// A file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Both copies of the safety state are damaged.
    #[error(
        "{dir}: both copies of what this validator signed last are damaged, so it cannot vote without risking to vote \
         twice; bring the node back with its kit on an empty directory, which gives it a new key"
    )]
    SafetyLost {
        /// The folder.
        dir: PathBuf,
    },
    /// More than is kept.
    #[error("{what} of {got} bytes, at most {max} are kept")]
    TooLong {
        /// What came.
        what: &'static str,
        /// Its bytes.
        got: u64,
        /// The limit.
        max: u64,
    },
    /// A write or sync failed before.
    #[error("{dir}: a write to the log failed, and it takes nothing until it is opened again")]
    Broken {
        /// The folder.
        dir: PathBuf,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// The height that the frames are of; 0: none.
    pub height: u64,
    /// The frames, in order.
    pub frames: Vec<Bytes>,
    /// What was signed last.
    pub safety: Option<Bytes>,
    /// Bytes behind the last sound frame, which were cut off: nothing of them was acknowledged.
    pub torn: u64,
}

/// The log.
pub struct Wal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    file: Arc<dyn DiskFile>,
    height: u64,
    generation: u64,
    frames: u64,
    len: u64,
    safety_generation: u64,
    is_broken: bool,
}

impl Wal {
    /// Opens the log in a folder, or makes one.
    ///
    /// # Errors
    /// [`WalError::SafetyLost`], [`WalError::Io`].
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, Recovered), WalError> {
        let io = |source| WalError::Io { path: dir.to_owned(), source };
        disk.create_dir(dir).map_err(io)?;
        let safety = recover_safety(disk.as_ref(), dir)?;
        let path = dir.join(WAL);
        let found = read_file(disk.as_ref(), &path, WAL_LEN_MAX + HEAD_LEN as u64).map_err(io)?;
        let (height, generation) = found.as_deref().and_then(read_head).unwrap_or((0, 1));
        let is_sound = found.as_deref().and_then(read_head).is_some();
        let mut bytes = found.filter(|_| is_sound).unwrap_or_else(|| head(height, generation));
        let (frames, len) = read_frames(&bytes, generation);
        let torn = (bytes.len() as u64).saturating_sub(len);
        // What can be read after a sync that failed may be in memory only, and a second sync would call it durable. So
        // what counts is written anew.
        bytes.truncate(len as usize);
        replace_file(disk.as_ref(), dir, WAL, &bytes).map_err(io)?;
        let file = disk.open(&path, Open::Write).map_err(io)?;
        let (safety_generation, safety) = safety.map_or((0, None), |(generation, bytes)| (generation, Some(bytes)));
        let count = frames.len() as u64;
        let dir = dir.to_owned();
        let wal = Self { disk, dir, file, height, generation, frames: count, len, safety_generation, is_broken: false };
        Ok((wal, Recovered { height, frames, safety, torn }))
    }

    /// The height that frames are appended for.
    pub fn height(&self) -> u64 {
        self.height
    }

    /// Appends frames and, if given, what was signed last. All of it is durable once this returns.
    ///
    /// # Errors
    /// [`WalError::TooLong`], and nothing was written; else the log takes nothing more.
    pub fn append(&mut self, frames: &[Bytes], safety: Option<&[u8]>) -> Result<(), WalError> {
        self.check(frames, safety)?;
        let written =
            self.write_frames(frames).and_then(|()| safety.map_or(Ok(()), |safety| self.write_safety(safety)));
        written.inspect_err(|_| self.is_broken = true)
    }

    /// Begins a height: the frames before are gone. What was signed last stays.
    ///
    /// # Errors
    /// [`WalError::Io`]; then the log takes nothing more.
    pub fn start(&mut self, height: u64) -> Result<(), WalError> {
        self.usable()?;
        self.is_broken = true; // until all of this has succeeded
        let (path, generation) = (self.dir.join(WAL), self.generation + 1);
        let begun = replace_file(self.disk.as_ref(), &self.dir, WAL, &head(height, generation));
        let file = begun.and_then(|()| self.disk.open(&path, Open::Write));
        self.file = file.map_err(|source| WalError::Io { path, source })?;
        (self.height, self.generation, self.frames, self.len) = (height, generation, 0, HEAD_LEN as u64);
        self.is_broken = false;
        Ok(())
    }

    fn usable(&self) -> Result<(), WalError> {
        if self.is_broken { Err(WalError::Broken { dir: self.dir.clone() }) } else { Ok(()) }
    }

    fn check(&self, frames: &[Bytes], safety: Option<&[u8]>) -> Result<(), WalError> {
        self.usable()?;
        let too_long = |what, got: usize, max: usize| WalError::TooLong { what, got: got as u64, max: max as u64 };
        if let Some(frame) = frames.iter().find(|frame| frame.len() > FRAME_LEN_MAX) {
            return Err(too_long("a frame", frame.len(), FRAME_LEN_MAX));
        }
        if let Some(safety) = safety.filter(|safety| safety.len() > SAFETY_LEN_MAX) {
            return Err(too_long("a safety state", safety.len(), SAFETY_LEN_MAX));
        }
        let more: u64 = frames.iter().map(|frame| (frame.len() + FRAME_HEAD_LEN) as u64).sum();
        if self.len + more > WAL_LEN_MAX {
            return Err(WalError::TooLong { what: "a log", got: self.len + more, max: WAL_LEN_MAX });
        }
        Ok(())
    }

    fn write_frames(&mut self, frames: &[Bytes]) -> Result<(), WalError> {
        if frames.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::new();
        for (index, frame) in (self.frames..).zip(frames) {
            bytes.extend((frame.len() as u32).to_le_bytes());
            bytes.extend(frame_sum(self.generation, index, frame).to_le_bytes());
            bytes.extend(frame);
        }
        let written = self.file.write_at(&[&bytes], self.len).and_then(|()| self.file.sync());
        written.map_err(|source| WalError::Io { path: self.dir.join(WAL), source })?;
        self.len += bytes.len() as u64;
        self.frames += frames.len() as u64;
        Ok(())
    }

    fn write_safety(&mut self, safety: &[u8]) -> Result<(), WalError> {
        self.safety_generation += 1;
        let bytes = safety_bytes(self.safety_generation, safety);
        SAFETY.iter().try_for_each(|name| write_copy(self.disk.as_ref(), &self.dir, name, &bytes))
    }
}

/// Writes over a copy; while this is torn, the other one is whole.
fn write_copy(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> Result<(), WalError> {
    let path = dir.join(name);
    let write = || {
        let (file, is_new) = match disk.open(&path, Open::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => (disk.open(&path, Open::New)?, true),
            other => (other?, false),
        };
        file.write_at(&[bytes], 0)?;
        file.sync()?;
        if is_new { disk.sync_dir(dir) } else { Ok(()) }
    };
    write().map_err(|source| WalError::Io { path: path.clone(), source })
}

/// The newest sound copy, written anew to both places.
fn recover_safety(disk: &dyn Disk, dir: &Path) -> Result<Option<(u64, Bytes)>, WalError> {
    let read = |name: &str| {
        let path = dir.join(name);
        read_file(disk, &path, (SAFETY_HEAD_LEN + SAFETY_LEN_MAX) as u64)
            .map_err(|source| WalError::Io { path, source })
    };
    let files = [read(SAFETY[0])?, read(SAFETY[1])?];
    let copies = files.each_ref().map(|file| file.as_deref().and_then(read_safety));
    let newest = copies.iter().flatten().max_by_key(|(generation, _)| *generation).cloned();
    let Some((generation, bytes)) = newest else {
        // The second copy is begun only once the first is whole: without it nothing was ever acknowledged.
        return match &files[1] {
            Some(file) if !file.is_empty() => Err(WalError::SafetyLost { dir: dir.to_owned() }),
            _ => Ok(None),
        };
    };
    for name in SAFETY {
        let written = replace_file(disk, dir, name, &safety_bytes(generation, &bytes));
        written.map_err(|source| WalError::Io { path: dir.join(name), source })?;
    }
    Ok(Some((generation, bytes)))
}

fn head(height: u64, generation: u64) -> Vec<u8> {
    let mut bytes = [WAL_MAGIC.as_slice(), &height.to_le_bytes(), &generation.to_le_bytes()].concat();
    bytes.extend(crc32c(&bytes).to_le_bytes());
    bytes
}

/// Height and generation.
fn read_head(bytes: &[u8]) -> Option<(u64, u64)> {
    let (body, sum) = bytes.get(..HEAD_LEN)?.split_at(HEAD_LEN - 4);
    let is_sound = body.starts_with(WAL_MAGIC) && crc32c(body).to_le_bytes() == sum;
    is_sound.then(|| (number(&body[8..16]), number(&body[16..24])))
}

fn frame_sum(generation: u64, index: u64, frame: &[u8]) -> u32 {
    crc32c_append(crc32c_append(crc32c(&generation.to_le_bytes()), &index.to_le_bytes()), frame)
}

/// The sound frames, and where they end.
fn read_frames(bytes: &[u8], generation: u64) -> (Vec<Bytes>, u64) {
    let (mut frames, mut at) = (Vec::new(), HEAD_LEN);
    while let Some(frame) = read_frame(bytes, at, generation, frames.len() as u64) {
        at += FRAME_HEAD_LEN + frame.len();
        frames.push(frame);
    }
    (frames, at as u64)
}

fn read_frame(bytes: &[u8], at: usize, generation: u64, index: u64) -> Option<Bytes> {
    let head = bytes.get(at..at + FRAME_HEAD_LEN)?;
    let len = u32::from_le_bytes(head[..4].try_into().ok()?) as usize;
    let sum = u32::from_le_bytes(head[4..].try_into().ok()?);
    let start = at + FRAME_HEAD_LEN;
    let frame = bytes.get(start..start.checked_add(len)?)?;
    (frame_sum(generation, index, frame) == sum).then(|| Bytes::copy_from_slice(frame))
}

fn safety_bytes(generation: u64, safety: &[u8]) -> Vec<u8> {
    let sum = crc32c_append(crc32c(&generation.to_le_bytes()), safety);
    let len = safety.len() as u32;
    [SAFETY_MAGIC.as_slice(), &generation.to_le_bytes(), &len.to_le_bytes(), &sum.to_le_bytes(), safety].concat()
}

fn read_safety(bytes: &[u8]) -> Option<(u64, Bytes)> {
    let head = bytes.get(..SAFETY_HEAD_LEN).filter(|head| head.starts_with(SAFETY_MAGIC))?;
    let (generation, len) = (number(&head[8..16]), u32::from_le_bytes(head[16..20].try_into().ok()?) as usize);
    let safety = bytes.get(SAFETY_HEAD_LEN..SAFETY_HEAD_LEN + len)?;
    let sum = crc32c_append(crc32c(&generation.to_le_bytes()), safety);
    (sum.to_le_bytes() == head[20..24]).then(|| (generation, Bytes::copy_from_slice(safety)))
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes.try_into().expect("eight bytes were asked for"))
}

#[cfg(test)]
mod tests;
