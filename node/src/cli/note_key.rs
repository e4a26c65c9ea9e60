//! A key that signs or cosigns notes, as a file: `PRIVATE+KEY+name+id+base64(kind || seed)`, the form Go's signed notes
//! have. The kind keeps apart the keys of witnesses and those of the holders of a recovery.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use bithealth_envelope::NodeKey;
use bithealth_ledger::{NoteAlgorithm, NoteError, NoteSignature, SignedNote, VerifierKey, cosign};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::cli::failure::Failure;
use crate::keys::{KeysError, write_private};
use crate::witnesses::WITNESS_NAME_LEN_MAX;

const START: &str = "PRIVATE+KEY+";
/// More is not read from a key's file.
const FILE_LEN_MAX: u64 = 1024;

/// Signs for a witness, or for a holder, and for nothing else.
pub(super) struct NoteKey {
    key: NodeKey,
    public: VerifierKey,
}

impl NoteKey {
    pub(super) fn random(name: &str, algorithm: NoteAlgorithm) -> Result<Self, Failure> {
        let next = "choose a name like witness.example.org: no spaces, no plus sign, at most 255 bytes";
        if name.len() > WITNESS_NAME_LEN_MAX {
            let got = name.len();
            let what = format!("the name has {got} bytes, at most {WITNESS_NAME_LEN_MAX} are due");
            return Err(Failure::usage(what).next(next));
        }
        Self::of(name, algorithm, NodeKey::random())
            .ok_or_else(|| Failure::usage("no key can have this name").next(next))
    }

    fn of(name: &str, algorithm: NoteAlgorithm, key: NodeKey) -> Option<Self> {
        let public = VerifierKey::new(name, algorithm, key.id().0).ok()?;
        Some(Self { key, public })
    }

    /// What others check its signatures with.
    pub(super) fn public(&self) -> &VerifierKey {
        &self.public
    }

    pub(super) fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message)
    }

    pub(super) fn cosign(&self, note: &SignedNote, time_s: u64) -> Result<NoteSignature, NoteError> {
        cosign(note, &self.public, time_s, |message| self.key.sign(message))
    }

    /// Writes it to a new file, for its owner only.
    pub(super) fn save(&self, path: &Path) -> Result<(), KeysError> {
        let mut bytes = Zeroizing::new([self.public.algorithm().byte(); 33]);
        bytes[1..].copy_from_slice(&self.key.seed()[..]);
        let base64 = Zeroizing::new(BASE64.encode(&bytes[..]));
        let (name, id) = (self.public.name(), self.public.id());
        let text = Zeroizing::new(format!("{START}{name}+{id:08x}+{}\n", base64.as_str()));
        write_private(path, text.as_bytes())
    }

    /// Reads it. The file stays locked for other processes as long as what is returned beside it lives.
    pub(super) fn load(path: &Path, algorithm: NoteAlgorithm) -> Result<(Self, File), Failure> {
        let (whose, command) = match algorithm {
            NoteAlgorithm::CosignatureV1 => ("a witness", "ledger witness-key"),
            _ => ("a holder", "admin recovery-key"),
        };
        let next = format!("make a key with `bithealth {command}`, or pass the right file with --key");
        let file = |error| Failure::file(path, error).next(next.clone());
        let mut opened = File::open(path).map_err(file)?;
        opened.lock().map_err(file)?;
        let mut text = Zeroizing::new(String::new());
        Read::by_ref(&mut opened).take(FILE_LEN_MAX).read_to_string(&mut text).map_err(file)?;
        let none = || Failure::new(format_args!("{} holds no key of {whose}", path.display())).next(next.clone());
        let key = parse(&text, algorithm).ok_or_else(none)?;
        Ok((key, opened))
    }
}

fn parse(text: &str, algorithm: NoteAlgorithm) -> Option<NoteKey> {
    let parts: Vec<&str> = text.trim_end().strip_prefix(START)?.splitn(3, '+').collect();
    let [name, id, base64] = parts[..] else { return None };
    let bytes = Zeroizing::new(BASE64.decode(base64.as_bytes()).ok()?);
    let (kind, seed) = bytes.split_first()?;
    let key = NoteKey::of(name, algorithm, NodeKey::from_seed(seed.try_into().ok()?))?;
    let is_it = *kind == algorithm.byte() && format!("{:08x}", key.public.id()) == id;
    is_it.then_some(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_comes_back_from_its_file_which_only_its_owner_reads() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let key = NoteKey::random("witness.example.org", NoteAlgorithm::CosignatureV1).unwrap();
        key.save(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let (again, _lock) = NoteKey::load(&path, NoteAlgorithm::CosignatureV1).unwrap();
        assert_eq!(again.public(), key.public());
        assert_eq!(again.key.seed(), key.key.seed());
        assert!(matches!(key.save(&path), Err(KeysError::Io { .. })), "a key is never overwritten");
    }

    #[test]
    fn another_file_and_a_damaged_key_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        NoteKey::random("w", NoteAlgorithm::CosignatureV1).unwrap().save(&path).unwrap();
        let good = std::fs::read_to_string(&path).unwrap();
        let flaws =
            ["", "key", &good.replace("+w+", "+v+"), &good.replace("PRIVATE", "PUBLIC"), &good[..good.len() - 4]];
        for flaw in flaws {
            std::fs::write(&path, flaw).unwrap();
            let error = NoteKey::load(&path, NoteAlgorithm::CosignatureV1).map(drop).unwrap_err();
            assert!(error.what.contains("holds no key of a witness"), "{}", error.what);
        }
        assert!(
            NoteKey::load(&folder.path().join("absent"), NoteAlgorithm::CosignatureV1)
                .map(drop)
                .unwrap_err()
                .what
                .contains("absent")
        );
    }

    #[test]
    fn a_name_that_no_line_can_hold_is_refused() {
        let longest = "n".repeat(WITNESS_NAME_LEN_MAX);
        assert!(NoteKey::random(&longest, NoteAlgorithm::CosignatureV1).is_ok());
        for name in ["", "a b", "a+b", &format!("{longest}n")] {
            assert!(NoteKey::random(name, NoteAlgorithm::CosignatureV1).is_err(), "{name:?}");
        }
    }
}
