//! A file that appears whole or not at all.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use bithealth_store::bulk::{self, Keep};

/// Tells apart the half files of this process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Written beside its place under another name, and moved there at the end. Dropped before that, it is removed.
pub(crate) struct Target {
    file: File,
    len: u64,
    half: PathBuf,
    place: PathBuf,
    finished: bool,
}

impl Target {
    /// Begins a file whose place is `path`.
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        let target = Self::in_folder(path.parent().unwrap_or(Path::new("")))?;
        Ok(target.at(path))
    }

    /// Begins a file whose place is somewhere in `folder`, the current one if that is empty.
    pub(crate) fn in_folder(folder: &Path) -> io::Result<Self> {
        let index = COUNT.fetch_add(1, Ordering::Relaxed);
        let half = folder.join(format!(".bithealth-{}-{index}.part", std::process::id()));
        let file = OpenOptions::new().write(true).create_new(true).open(&half)?;
        Ok(Self { file, len: 0, place: half.clone(), half, finished: false })
    }

    /// With this place, in the folder that it was begun in.
    pub(crate) fn at(mut self, place: &Path) -> Self {
        self.place = place.to_owned();
        self
    }

    /// For somebody else to write.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Appends.
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        bulk::write_all_at(&self.file, &[bytes], self.len, Keep::for_offset(self.len))?;
        self.len += bytes.len() as u64;
        Ok(())
    }

    /// Moves it to its place.
    pub(crate) fn finish(mut self) -> io::Result<()> {
        std::fs::rename(&self.half, &self.place)?;
        self.finished = true;
        Ok(())
    }

    /// Moves it to its place once its bytes are on the disk.
    pub(crate) fn finish_durably(self) -> io::Result<()> {
        self.file.sync_all()?;
        self.finish()
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if !self.finished {
            let _ = std::fs::remove_file(&self.half); // what remains is hidden and named as a part
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &tempfile::TempDir) -> Vec<String> {
        let list = std::fs::read_dir(folder.path()).unwrap();
        list.map(|item| item.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_finished_file_stands_in_its_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        std::fs::write(&path, "old").unwrap();
        let mut target = Target::new(&path).unwrap();
        target.write(b"ne").unwrap();
        target.write(b"w").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        target.finish_durably().unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(names(&folder), ["x"]);
    }

    #[test]
    fn an_unfinished_file_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let mut target = Target::new(&folder.path().join("x")).unwrap();
        target.write(b"half").unwrap();
        drop(target);
        assert!(names(&folder).is_empty());
    }
}
