//! The write-ahead log of the consensus engine: what it took in at the current height, and what it signed last.
//!
//! ```text
//! <dir>/wal     state | frames of the current height | end | whatever earlier heights left
//! <dir>/safety  state
//! ```
//!
//! The state is the height, a salt drawn for it, and the safety state. It stands twice, in files of their own: one
//! damaged copy costs nothing, and a crash while one is written finds the other whole. The first copy lies in front of
//! the frames, so that one `fdatasync` covers both, and the second copy takes the other one.
//!
//! Everything is written in place. An earlier height's frames do not verify under a new salt, so they need not be
//! removed, and once the log has grown to what a height takes, no append changes the length of a file: none waits for
//! the file system's journal, and none needs room on a full disk. What stands where the frames end tells a log that is
//! whole from one whose last frames are torn or damaged.
//!
//! # What holds after a crash
//! - Frames and safety states whose `append` returned `Ok` are there. Of one that failed or was cut short, the safety
//!   state may be there or not, and of its frames any number from the first on, each of them whole.
//! - A `start` that was cut short left all of the old height or the empty log of the new one.
//! - After a failed `fsync` nobody can tell what reached the disk. The log refuses everything; opening it anew writes
//!   what can be read once more, and only then gives it out.

mod frame;
mod open;
mod state;
mod twin;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bithealth_types::Height;
use bytes::Bytes;

use self::frame::{HEAD_LEN, Tail};
use self::state::State;
use self::twin::Twin;
use crate::disk::Disk;
use crate::error::{At, WalError};

/// Bytes of the longest frame.
pub const FRAME_LEN_MAX: usize = 2 << 20;

/// Bytes that the frames of one height may have, eight more counted for each.
pub const WAL_LEN_MAX: u64 = 64 << 20;

/// Bytes of the longest safety state.
pub const SAFETY_LEN_MAX: usize = 64 << 10;

const NO_FRAMES: &[&[u8]] = &[];

/// The log of the consensus engine. See the module for what it promises.
///
/// Nobody else may have it open: two engines with one key would contradict each other. The lock of the folder is the
/// [`Store`](crate::Store)'s, so open that first.
pub struct Wal {
    log: Twin,
    safety: Twin,
    state: State,
    tail: Tail,
    is_broken: bool,
}

/// What an opened log holds.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovered {
    /// The height the frames belong to; 0 if none was started.
    pub height: Height,
    /// The frames, in the order they were appended.
    pub frames: Vec<Bytes>,
    /// The newest safety state, if there ever was one.
    pub safety: Option<Bytes>,
    /// The byte of the `wal` file where the frames end, if they do not end as they should: what stood there was torn by
    /// a crash, and then nobody was told that it is safe, or it is damaged. It is cut off. A power loss right after a
    /// start looks the same.
    pub cut_at: Option<u64>,
    /// The file whose copy of the state was damaged, missing or the older one; it is written anew from the other.
    pub repaired: Option<PathBuf>,
}

impl Wal {
    /// Opens the log in `dir`, or creates it. What it gives is durable.
    ///
    /// # Errors
    /// [`WalError::SafetyLost`] if there are files, and no copy of the state verifies; [`WalError::Full`] and
    /// [`WalError::Io`] as the disk says.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<(Self, Recovered), WalError> {
        open::open(&*disk, dir)
    }

    /// Appends frames and, if given, the new safety state; all of it is durable once this returns `Ok`.
    ///
    /// Costs one `fdatasync`, and a second one for the other copy if there is a safety state.
    ///
    /// # Errors
    /// [`WalError::FrameLength`], [`WalError::SafetyLength`] and [`WalError::LogLength`] if a bound is passed; nothing was
    /// written then. [`WalError::Full`] and [`WalError::Io`] if the disk failed: nothing of this call is acknowledged, and
    /// unless it was the frames that could not be written, the log is [`WalError::Broken`] from then on.
    pub fn append(&mut self, frames: &[&[u8]], safety: Option<&[u8]>) -> Result<(), WalError> {
        self.check(frames, safety)?;
        // Frames come first: where the disk is full they fail, and then nothing that counts was touched.
        let tail = self.log.write_frames(self.tail, frames)?;
        self.is_broken = true; // until all of it is durable
        match safety {
            None => self.log.sync()?,
            Some(safety) => self.put(self.state.signed(safety))?,
        }
        self.tail = tail;
        self.is_broken = false;
        Ok(())
    }

    /// Starts over at `height`: the frames before are dropped, the safety state stays.
    ///
    /// # Errors
    /// [`WalError::Full`] and [`WalError::Io`] if the disk failed; the log is [`WalError::Broken`] then, and has the old or
    /// the new height when it is opened again.
    pub fn start(&mut self, height: Height) -> Result<(), WalError> {
        self.check(&[], None)?;
        let state = self.state.started(height).at(&self.log.path)?;
        self.is_broken = true;
        self.put(state)?;
        // Only now may the first of the old frames be written over. This need not be synced: they do not verify anyway.
        self.tail = self.log.write_frames(Tail::new(&self.state), NO_FRAMES)?;
        self.is_broken = false;
        Ok(())
    }

    /// Makes both copies of the state durable, and the frames with the first: only then may the second be torn.
    fn put(&mut self, state: State) -> Result<(), WalError> {
        self.log.write_durably(&state)?;
        self.safety.write_durably(&state)?;
        self.state = state;
        Ok(())
    }

    /// Whether this may be written.
    fn check(&self, frames: &[&[u8]], safety: Option<&[u8]>) -> Result<(), WalError> {
        if self.is_broken {
            return Err(WalError::Broken { path: self.log.path.clone() });
        }
        if let Some(frame) = frames.iter().find(|frame| frame.len() > FRAME_LEN_MAX) {
            return Err(WalError::FrameLength { got: frame.len() });
        }
        if let Some(safety) = safety.filter(|safety| safety.len() > SAFETY_LEN_MAX) {
            return Err(WalError::SafetyLength { got: safety.len() });
        }
        let more: u64 = frames.iter().map(|frame| (HEAD_LEN + frame.len()) as u64).sum();
        if self.tail.frames_len() + more > WAL_LEN_MAX {
            return Err(WalError::LogLength { height: self.state.height, len: self.tail.frames_len(), more });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
