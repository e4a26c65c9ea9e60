//! Finds the files of a put, in the order of their names.

use std::ffi::OsStr;
use std::fs::FileType;
use std::io;
use std::path::{Path, PathBuf};

/// What a walk comes upon.
#[derive(Debug)]
pub(crate) enum Step {
    /// A file to put.
    File {
        /// Where it is.
        path: PathBuf,
        /// What its record is called.
        name: String,
    },
    /// Left out, and why.
    Skipped {
        /// Where it is.
        path: PathBuf,
        /// In words.
        why: &'static str,
    },
    /// Cannot be looked at.
    Failed {
        /// Where it is.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
}

/// What is under `root`, which itself may be a symbolic link: a person named it. Folders come in the order of names.
pub(crate) fn walk(root: &Path) -> Walk {
    let start = match std::fs::metadata(root) {
        Ok(metadata) => Left { path: root.to_owned(), kind: Ok(metadata.file_type()) },
        Err(error) => Left { path: root.to_owned(), kind: Err(error) },
    };
    Walk { root: root.to_owned(), left: vec![start] }
}

/// See [`walk`].
pub(crate) struct Walk {
    root: PathBuf,
    /// What is still to be looked at, the next one last.
    left: Vec<Left>,
}

struct Left {
    path: PathBuf,
    kind: io::Result<FileType>,
}

impl Iterator for Walk {
    type Item = Step;

    fn next(&mut self) -> Option<Step> {
        while let Some(Left { path, kind }) = self.left.pop() {
            match kind {
                Err(error) => return Some(Step::Failed { path, error }),
                Ok(kind) if kind.is_dir() => {
                    if let Err(error) = self.open(&path) {
                        return Some(Step::Failed { path, error });
                    }
                }
                Ok(kind) if kind.is_file() => return Some(Step::File { name: self.name(&path), path }),
                Ok(kind) if kind.is_symlink() => return Some(Step::Skipped { path, why: "a symbolic link" }),
                Ok(_) => return Some(Step::Skipped { path, why: "neither a file nor a folder" }),
            }
        }
        None
    }
}

impl Walk {
    fn open(&mut self, folder: &Path) -> io::Result<()> {
        let first = self.left.len();
        for item in std::fs::read_dir(folder)? {
            let item = item?;
            self.left.push(Left { path: item.path(), kind: item.file_type() });
        }
        self.left[first..].sort_unstable_by(|a, b| b.path.cmp(&a.path));
        Ok(())
    }

    /// The path inside the root; the root's own name if it is a file.
    fn name(&self, path: &Path) -> String {
        let inside = path.strip_prefix(&self.root).ok().filter(|inside| !inside.as_os_str().is_empty());
        let named = inside.map(Path::as_os_str).or_else(|| path.file_name()).unwrap_or(path.as_os_str());
        text(named)
    }
}

/// A file's name as a record's, which is UTF-8: bytes that are not become `\xNN`, so that no two files get one name.
pub(crate) fn text(name: &OsStr) -> String {
    let mut text = String::with_capacity(name.len());
    for chunk in name.as_encoded_bytes().utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|byte| format!("\\x{byte:02X}")));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn told(root: &Path) -> Vec<String> {
        walk(root)
            .map(|step| match step {
                Step::File { name, .. } => name,
                Step::Skipped { path, why } => format!("{}: {why}", path.strip_prefix(root).unwrap().display()),
                Step::Failed { path, error } => format!("{}: {:?}", path.display(), error.kind()),
            })
            .collect()
    }

    #[test]
    fn files_are_named_by_their_path_inside_and_come_in_order() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("b/deep")).unwrap();
        for name in ["c", "b/2", "b/deep/x", "b/1", "a"] {
            std::fs::write(folder.path().join(name), name).unwrap();
        }
        assert_eq!(told(folder.path()), ["a", "b/1", "b/2", "b/deep/x", "c"]);
    }

    #[test]
    fn a_single_file_is_named_by_itself() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("letter.pdf");
        std::fs::write(&file, "x").unwrap();
        assert_eq!(told(&file), ["letter.pdf"]);
    }

    #[test]
    fn names_that_are_no_text_stay_apart() {
        use std::os::unix::ffi::OsStrExt;
        let folder = tempfile::tempdir().unwrap();
        for name in [&b"x\xFFy"[..], b"x\xFEy"] {
            std::fs::write(folder.path().join(OsStr::from_bytes(name)), name).unwrap();
        }
        assert_eq!(told(folder.path()), ["x\\xFEy", "x\\xFFy"]);
    }

    #[test]
    fn links_inside_are_named_but_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("in")).unwrap();
        std::fs::write(folder.path().join("secret"), "x").unwrap();
        symlink(folder.path().join("secret"), folder.path().join("in/link")).unwrap();
        symlink(folder.path(), folder.path().join("in/loop")).unwrap();
        assert_eq!(told(&folder.path().join("in")), ["link: a symbolic link", "loop: a symbolic link"]);
    }

    #[test]
    fn a_link_that_a_person_names_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("real")).unwrap();
        std::fs::write(folder.path().join("real/x"), "x").unwrap();
        symlink("real", folder.path().join("link")).unwrap();
        assert_eq!(told(&folder.path().join("link")), ["x"]);
    }

    #[test]
    fn what_is_not_there_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert_eq!(told(&missing), [format!("{}: NotFound", missing.display())]);
    }

    #[test]
    fn a_socket_is_no_record() {
        let folder = tempfile::tempdir().unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        assert_eq!(told(folder.path()), ["s: neither a file nor a folder"]);
    }
}
