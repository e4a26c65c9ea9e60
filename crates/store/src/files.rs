//! The segment files that are open for reading: a bounded number of them.

use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::disk::{Disk, DiskFile, Open};
use crate::segment::segment_path;

/// Segment files open for reading at once, well below the 1024 files a process may usually open.
const FILES_OPEN_MAX: usize = 64;

type OpenFile = (u64, Arc<dyn DiskFile>);

/// Opens segments when they are asked for and closes those that were not for longest.
pub(crate) struct Files {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Mutex<Vec<OpenFile>>, // the latest asked for stands last
}

impl Files {
    pub(crate) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Self {
        Self { disk, dir, open: Mutex::new(Vec::new()) }
    }

    pub(crate) fn get(&self, number: u64) -> io::Result<Arc<dyn DiskFile>> {
        let mut open = self.lock();
        let file = match open.iter().position(|(open, _)| *open == number) {
            Some(position) => open.remove(position).1,
            None => self.disk.open(&segment_path(&self.dir, number), Open::Read)?,
        };
        if open.len() == FILES_OPEN_MAX {
            open.remove(0);
        }
        open.push((number, file.clone()));
        Ok(file)
    }

    pub(crate) fn forget(&self, number: u64) {
        self.lock().retain(|(open, _)| *open != number);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<OpenFile>> {
        self.open.lock().expect("nothing panics while it holds the list of files")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultyDisk;

    #[test]
    fn at_most_so_many_files_are_open_and_a_closed_one_opens_again() {
        let disk = Arc::new(FaultyDisk::new(0));
        let dir = PathBuf::from("/store");
        let count = FILES_OPEN_MAX as u64 + 1;
        for number in 1..=count {
            disk.open(&segment_path(&dir, number), Open::New).unwrap();
        }
        let files = Files::new(disk, dir);
        for number in (1..=count).chain([1]) {
            files.get(number).unwrap();
        }
        assert_eq!(files.lock().len(), FILES_OPEN_MAX);
        files.forget(1);
        assert_eq!(files.lock().len(), FILES_OPEN_MAX - 1);
        assert_eq!(files.get(count + 1).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
