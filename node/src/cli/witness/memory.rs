//! What a witness cosigned last, of each log: without it, it could be led to cosign two histories.

use std::fs::File;
use std::path::{Path, PathBuf};

use bithealth_ledger::{Checkpoint, VerifierKey, Watched};
use serde::{Deserialize, Serialize};

use crate::cli::failure::Failure;
use crate::cli::get::target::Target;
use crate::keys::{KeysError, write_private};

const FORMAT: &str = "bithealth witness 1";

/// The logs that a witness watches.
#[derive(Debug, PartialEq)]
pub(super) struct Memory(Vec<Watched>);

/// As it stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    format: String,
    logs: Vec<StoredLog>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StoredLog {
    origin: String,
    keys: Vec<String>,
    /// The text of the checkpoint.
    last: Option<String>,
}

/// Beside the key.
pub(super) fn memory_path(key: &Path) -> PathBuf {
    let mut name = key.as_os_str().to_owned();
    name.push(".cosigned.json");
    PathBuf::from(name)
}

impl Memory {
    /// One that knows of nothing, in a new file.
    pub(super) fn create(path: &Path) -> Result<(), KeysError> {
        write_private(path, Self(Vec::new()).text().as_bytes())
    }

    /// Reads it.
    pub(super) fn load(path: &Path) -> Result<Self, Failure> {
        let next = "bring the file back from where you keep a copy; without it, make a new key: a witness that forgot what \
                    it cosigned must not go on under the same one";
        let text = std::fs::read_to_string(path).map_err(|error| Failure::file(path, error).next(next))?;
        parse(&text)
            .ok_or_else(|| Failure::new(format_args!("{} does not tell what was cosigned", path.display())).next(next))
    }

    /// Replaces it, durably.
    pub(super) fn save(&self, path: &Path) -> Result<(), Failure> {
        let saved = || {
            let mut target = Target::new(path)?;
            target.write(self.text().as_bytes())?;
            target.finish_durably()?;
            // The new name, too.
            File::open(path.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new(".")))?.sync_all()
        };
        saved().map_err(|error| Failure::file(path, error).next("nothing was cosigned; make room, and cosign again"))
    }

    /// What is known of a log; new ones are added.
    pub(super) fn of(&mut self, origin: &str) -> &mut Watched {
        let at = self.0.iter().position(|it| it.origin == origin).unwrap_or_else(|| {
            self.0.push(Watched { origin: origin.to_owned(), keys: Vec::new(), last: None });
            self.0.len() - 1
        });
        &mut self.0[at]
    }

    fn text(&self) -> String {
        let log = |it: &Watched| StoredLog {
            origin: it.origin.clone(),
            keys: it.keys.iter().map(VerifierKey::to_string).collect(),
            last: it.last.as_ref().map(|last| last.text().expect("what was read from a text has one")),
        };
        let stored = Stored { format: FORMAT.to_owned(), logs: self.0.iter().map(log).collect() };
        serde_json::to_string_pretty(&stored).expect("texts become JSON") + "\n"
    }
}

fn parse(text: &str) -> Option<Memory> {
    let stored: Stored = serde_json::from_str(text).ok()?;
    let log = |it: StoredLog| {
        let keys = it.keys.iter().map(|key| key.parse().ok()).collect::<Option<_>>()?;
        let last = it.last.map(|text| Checkpoint::parse(&text).ok()).map_or(Some(None), |last| last.map(Some))?;
        Some(Watched { origin: it.origin, keys, last })
    };
    (stored.format == FORMAT).then(|| stored.logs.into_iter().map(log).collect::<Option<_>>().map(Memory))?
}

#[cfg(test)]
mod tests {
    use bithealth_types::Digest;

    use super::*;

    #[test]
    fn what_was_cosigned_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        Memory::create(&path).unwrap();
        let mut memory = Memory::load(&path).unwrap();
        assert_eq!(memory, Memory(Vec::new()));
        let watched = memory.of("log");
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        watched.keys.push(key.parse().unwrap());
        let extensions = vec!["more".to_owned()];
        watched.last = Some(Checkpoint { origin: "log".into(), len: 7, root: Digest([1; 32]), extensions });
        memory.of("other");
        memory.save(&path).unwrap();
        assert_eq!(Memory::load(&path).unwrap(), memory);
        assert_eq!(memory.of("log").last.as_ref().unwrap().len, 7);
    }

    #[test]
    fn a_memory_that_is_lost_or_damaged_is_not_taken_for_an_empty_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("memory");
        let error = Memory::load(&path).unwrap_err();
        assert!(error.next.unwrap().contains("make a new key"), "{}", error.what);
        let log = |last: &str| format!(r#"{{"format":"{FORMAT}","logs":[{{"origin":"a","keys":[],"last":{last}}}]}}"#);
        for flaw in ["", "{}", &log("null").replace("witness 1", "witness 2"), &log("\"a\\n7\\n\"")] {
            std::fs::write(&path, flaw).unwrap();
            assert!(Memory::load(&path).unwrap_err().what.contains("does not tell what was cosigned"), "{flaw:?}");
        }
        std::fs::write(&path, log("null")).unwrap();
        assert!(Memory::load(&path).is_ok());
    }
}
