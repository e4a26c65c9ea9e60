//! One of the two files that the state stands in.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::frame::Tail;
use super::state::{SLOT_LEN, State};
use crate::disk::{Disk, DiskFile, Open, read_file};
use crate::error::{At, Fault};

/// What a file was found to hold.
pub(super) enum Found {
    Missing,
    /// A bad sector is damage too, but one that may be gone the next time.
    Unreadable(Fault),
    Damaged,
    Sound(State),
}

/// An open file with a state in front.
pub(super) struct Twin {
    pub(super) path: PathBuf,
    pub(super) file: Arc<dyn DiskFile>,
}

impl Found {
    pub(super) fn read(disk: &dyn Disk, path: &Path) -> Self {
        match read_file(disk, path, SLOT_LEN).at(path) {
            Err(fault) => Self::Unreadable(fault),
            Ok(None) => Self::Missing,
            Ok(Some(slot)) => State::decode(&slot).map_or(Self::Damaged, Self::Sound),
        }
    }

    pub(super) fn state(&self) -> Option<&State> {
        match self {
            Self::Sound(state) => Some(state),
            Self::Missing | Self::Unreadable(_) | Self::Damaged => None,
        }
    }
}

impl Twin {
    pub(super) fn open(disk: &dyn Disk, path: PathBuf) -> Result<Self, Fault> {
        let file = disk.open(&path, Open::Write).at(&path)?;
        Ok(Self { path, file })
    }

    /// Writes the state, and makes it and all that was written before durable.
    pub(super) fn write_durably(&self, state: &State) -> Result<(), Fault> {
        self.tell(self.file.write_at(&[&state.encode()], 0))?;
        self.sync()
    }

    pub(super) fn write_frames(&self, tail: Tail, frames: &[impl AsRef<[u8]>]) -> Result<Tail, Fault> {
        self.tell(tail.write(&*self.file, frames))
    }

    pub(super) fn sync(&self) -> Result<(), Fault> {
        self.tell(self.file.sync())
    }

    fn tell<T>(&self, result: io::Result<T>) -> Result<T, Fault> {
        result.at(&self.path)
    }
}
