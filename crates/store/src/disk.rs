//! The narrow door to files, so that tests can have a disk that fails.

use std::io;
use std::path::Path;
use std::sync::Arc;

pub mod bulk;
#[cfg(any(test, feature = "faulty"))]
pub(crate) mod faulty;
pub(crate) mod os;

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Open {
    /// It exists; it will be read.
    Read,
    /// It exists; it will be read and written.
    Write,
    /// It must not exist yet; it will be read and written.
    New,
}

/// Why a lock was not had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// Somebody holds it.
    #[error("held by process {pid:?}")]
    Held {
        /// Who, if the file says so.
        pid: Option<u32>,
    },
    /// The lock file could not be opened or written.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Files and folders.
pub trait Disk: Send + Sync {
    /// Makes a folder and those above it, unless they exist; durable once this returns.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file.
    fn open(&self, path: &Path, how: Open) -> io::Result<Arc<dyn DiskFile>>;
    /// Gives a file another name in the same folder, replacing what had it. Durable after [`Disk::sync_dir`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file. Durable after [`Disk::sync_dir`].
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Names in a folder, in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Makes the names in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that can still be written.
    fn free_space(&self, dir: &Path) -> io::Result<u64>;
    /// Takes a lock that no other process gets until the guard is dropped; writes `pid` into the file.
    fn lock(&self, path: &Path, pid: u32) -> Result<Box<dyn Send + Sync>, LockError>;
}

/// An open file. Writes are positioned, so that a tail can be written over itself.
pub trait DiskFile: Send + Sync {
    /// Bytes of the file.
    fn byte_len(&self) -> io::Result<u64>;
    /// Reads from `offset`; returns fewer bytes than `buffer` has only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes all parts, one after the other, from `offset`. After an error any part of them may be in the file.
    fn write_at(&self, parts: &[&[u8]], offset: u64) -> io::Result<()>;
    /// Makes the file `len` bytes long.
    fn truncate(&self, len: u64) -> io::Result<()>;
    /// Makes bytes and length durable. After an error nothing is known of what was written since the last success.
    fn sync(&self) -> io::Result<()>;
}

/// Reads `len` bytes from `offset`, or fails with `UnexpectedEof`.
pub(crate) fn read_exact(file: &dyn DiskFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    if file.read_at(&mut bytes, offset)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

/// Reads a small file, at most `len_max` bytes of it; `None` if there is none.
pub(crate) fn read_file(disk: &dyn Disk, path: &Path, len_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match disk.open(path, Open::Read) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut bytes = vec![0; file.byte_len()?.min(len_max) as usize];
    let got = file.read_at(&mut bytes, 0)?;
    bytes.truncate(got);
    Ok(Some(bytes))
}

/// Puts a small file in place of another, durably: after a crash there is the old one or the new one.
pub(crate) fn replace_file(disk: &dyn Disk, dir: &Path, name: &str, bytes: &[u8]) -> io::Result<()> {
    let new = dir.join(format!("{name}.new"));
    remove_if_there(disk, &new)?;
    let file = disk.open(&new, Open::New)?;
    file.write_at(&[bytes], 0)?;
    file.sync()?;
    disk.rename(&new, &dir.join(name))?;
    disk.sync_dir(dir)
}

/// Removes a file if there is one.
pub(crate) fn remove_if_there(disk: &dyn Disk, path: &Path) -> io::Result<()> {
    match disk.remove(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
