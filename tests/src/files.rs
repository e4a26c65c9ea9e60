//! Files that become records, and whether they came back.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::Dice;

/// `len` bytes that do not compress, the same for the same seed.
pub fn bytes_of(seed: u64, len: usize) -> Vec<u8> {
    let mut dice = Dice::new(seed);
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| dice.roll().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}

/// A path as an argument.
///
/// # Panics
/// If it is no text.
pub fn text(path: &Path) -> &str {
    path.to_str().expect("folders of tests have plain names")
}

/// Writes a file, and the folders it lies in.
///
/// # Panics
/// If the disk takes it not.
pub fn write(path: &Path, bytes: impl AsRef<[u8]>) {
    std::fs::create_dir_all(path.parent().expect("a file lies in a folder")).expect("a folder can be made");
    std::fs::write(path, bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

/// All files in a folder by their path inside, with their bytes.
///
/// # Panics
/// If one cannot be read.
pub fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut left = vec![folder.to_owned()];
    while let Some(path) = left.pop() {
        let kind =
            std::fs::symlink_metadata(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).file_type();
        if kind.is_dir() {
            left.extend(
                std::fs::read_dir(&path).expect("a folder can be read").map(|item| item.expect("an item").path()),
            );
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            files.insert(path.strip_prefix(folder).expect("it lies inside").to_owned(), bytes);
        }
    }
    files
}

/// Whether two folders hold the same files; the first difference otherwise.
///
/// # Errors
/// In words.
pub fn same_files(want: &Path, got: &Path) -> Result<(), String> {
    let (want, got) = (files_of(want), files_of(got));
    for (path, bytes) in &want {
        match got.get(path) {
            None => return Err(format!("{} did not come back", path.display())),
            Some(back) if back != bytes => return Err(format!("{} came back changed", path.display())),
            Some(_) => {}
        }
    }
    match got.keys().find(|path| !want.contains_key(*path)) {
        Some(path) => Err(format!("{} came from nowhere", path.display())),
        None => Ok(()),
    }
}

/// A folder of the real data, which lies beside the workspace; none, said loudly, where it is not there.
///
/// # Panics
/// If it is not there and `BITHEALTH_REQUIRE_DATA` or `CI` is set.
pub fn real_data(folder: &str) -> Option<PathBuf> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data")).join(folder);
    if path.is_dir() {
        return Some(path);
    }
    let required = ["BITHEALTH_REQUIRE_DATA", "CI"].iter().any(|name| std::env::var_os(name).is_some());
    assert!(!required, "the real data is not at {}", path.display());
    eprintln!("SKIPPED: the real data is not at {}", path.display());
    None
}
