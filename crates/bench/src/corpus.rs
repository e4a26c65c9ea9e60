//! The files that are put and got back, and whether all of them came back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use bithealth::demo::generate::{Generator, large};
use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

/// The same files in every run and on every machine.
const SEED: u64 = 20_000;

/// How many patients the documents are about.
const PATIENTS: usize = 400;

/// A folder of files to put.
pub(crate) struct Corpus {
    /// What it is, in a word.
    pub(crate) name: &'static str,
    pub(crate) folder: PathBuf,
    pub(crate) len: u64,
    /// How often each content occurs, by its digest.
    contents: BTreeMap<String, usize>,
    /// Whose records they are, where the files do not tell.
    pub(crate) patient: Option<&'static str>,
}

impl Corpus {
    /// One file that does not compress.
    pub(crate) fn large(folder: &Path, len: u64) -> Result<Self> {
        Self::large_of(folder, 0, len)
    }

    /// The same, and another one for each number.
    pub(crate) fn large_of(folder: &Path, number: u32, len: u64) -> Result<Self> {
        let folder = folder.join(format!("large-{number}"));
        fs::create_dir_all(&folder)?;
        let mut file = BufWriter::with_capacity(1 << 20, File::create(folder.join(format!("scan-{number}.dcm")))?);
        io::copy(&mut large(SEED + u64::from(number), len), &mut file)?;
        file.into_inner()?.sync_all()?;
        Self::of("large", folder, Some("https://bithealth.example/patients|P000000"))
    }

    /// Many small FHIR documents, in a folder for each patient and below it for each category.
    pub(crate) fn documents(folder: &Path, count: usize, len: u64) -> Result<Self> {
        let folder = folder.join("documents");
        for document in Generator::new(SEED, PATIENTS, count, len) {
            let patient = document.patient.rsplit('|').next().unwrap_or_default();
            let parent = folder.join(patient).join(document.category);
            fs::create_dir_all(&parent)?;
            fs::write(parent.join(&document.name), &document.bytes)?;
        }
        Self::of("documents", folder, None)
    }

    fn of(name: &'static str, folder: PathBuf, patient: Option<&'static str>) -> Result<Self> {
        let mut len = 0;
        for file in files(&folder)? {
            len += fs::metadata(&file)?.len();
        }
        Ok(Self { name, len, contents: contents(&folder)?, folder, patient })
    }

    pub(crate) fn file_count(&self) -> usize {
        self.contents.values().sum()
    }

    /// Whether a folder holds exactly these contents, under whatever names.
    pub(crate) fn check(&self, restored: &Path) -> Result<()> {
        let came = contents(restored)?;
        let (count, due) = (came.values().sum::<usize>(), self.file_count());
        ensure!(came == self.contents, "{} files came back, {due} went in, and their contents differ", count);
        Ok(())
    }
}

fn contents(folder: &Path) -> Result<BTreeMap<String, usize>> {
    let mut contents = BTreeMap::new();
    for path in files(folder)? {
        let mut digest = HashWriter(Sha256::new());
        let mut file = File::open(&path).with_context(|| path.display().to_string())?;
        io::copy(&mut file, &mut BufWriter::with_capacity(1 << 18, &mut digest))?;
        *contents.entry(HEXLOWER.encode(&digest.0.finalize())).or_insert(0) += 1;
    }
    Ok(contents)
}

struct HashWriter(Sha256);

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The regular files below a folder.
pub(crate) fn files(folder: &Path) -> Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let entry = entry?;
            let kind = entry.file_type()?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// Bytes the files below a folder take up on disk.
pub(crate) fn disk_len(folder: &Path) -> Result<u64> {
    const BLOCK_LEN: u64 = 512; // the unit of st_blocks, stat(2)
    files(folder)?.iter().map(|path| Ok(fs::metadata(path)?.blocks() * BLOCK_LEN)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_back_is_compared_by_content_and_count() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::documents(folder.path(), 30, 400_000).unwrap();
        assert_eq!(corpus.file_count(), 30);
        assert!(corpus.len.abs_diff(400_000) < 80_000, "{}", corpus.len);
        let flat = folder.path().join("flat");
        fs::create_dir(&flat).unwrap();
        for path in files(&corpus.folder).unwrap() {
            fs::copy(&path, flat.join(path.file_name().unwrap())).unwrap();
        }
        corpus.check(&flat).unwrap();
        let one = files(&flat).unwrap().remove(0);
        fs::write(&one, b"spoilt").unwrap();
        assert!(corpus.check(&flat).is_err());
        fs::remove_file(&one).unwrap();
        assert!(corpus.check(&flat).unwrap_err().to_string().starts_with("29 files came back, 30 went in"));
    }

    #[test]
    fn the_large_file_has_the_length_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let corpus = Corpus::large(folder.path(), 100_000).unwrap();
        assert_eq!((corpus.file_count(), corpus.len), (1, 100_000));
        assert!(disk_len(&corpus.folder).unwrap() >= 100_000);
    }
}
