//! Passphrases and key files. Neither is ever an argument: arguments are visible to every user of the machine.

use std::fs::File;
use std::io::{IsTerminal, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use zeroize::Zeroizing;

use super::args::UnlockArgs;
use super::failure::Failure;
use crate::keys::{Unlocking, ensure_key_file};

/// Fewest characters of a new passphrase.
const PASSPHRASE_LEN_MIN: usize = 12;

/// Most bytes of a file that holds a passphrase or a kit.
const SECRET_FILE_LEN_MAX: u64 = 16 << 10;

/// What seals the keys of a new node: asked twice, or read, or a key file made now.
pub(crate) fn new_unlock(args: &UnlockArgs) -> Result<Unlocking, Failure> {
    if let Some(path) = &args.key_file {
        ensure_key_file(path).map_err(Failure::new)?;
        return key_file(path);
    }
    let passphrase = match &args.passphrase_file {
        Some(path) => first_line(path)?,
        None => {
            let first = ask("New passphrase for the keys of this node: ")?;
            if *ask("The same again: ")? != *first {
                return Err(Failure::usage("the two passphrases differ").next("run the command again"));
            }
            first
        }
    };
    if passphrase.chars().count() < PASSPHRASE_LEN_MIN {
        let what = format!("the passphrase has fewer than {PASSPHRASE_LEN_MIN} characters");
        return Err(Failure::usage(what).next("take a longer one: four random words are good"));
    }
    Ok(Unlocking::Passphrase(passphrase))
}

/// What opens the keys of a node that exists; `configured` is the key file of its configuration.
pub(crate) fn unlock(args: &UnlockArgs, configured: Option<&Path>) -> Result<Unlocking, Failure> {
    match (&args.key_file, &args.passphrase_file, configured) {
        (Some(path), _, _) => key_file(path),
        (None, Some(path), _) => first_line(path).map(Unlocking::Passphrase),
        (None, None, Some(path)) => key_file(path),
        (None, None, None) => ask("Passphrase: ").map(Unlocking::Passphrase),
    }
}

/// The text of a secret file; `-` is the standard input.
pub(crate) fn secret_text(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let bytes = if path == Path::new("-") { read_secret(std::io::stdin(), path)? } else { secret_file(path)? };
    let text = std::str::from_utf8(&bytes)
        .map_err(|_| Failure::usage(format_args!("{} is not UTF-8 text", path.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}

fn ask(prompt: &str) -> Result<Zeroizing<String>, Failure> {
    if !std::io::stdin().is_terminal() {
        let failure = Failure::usage("a passphrase is needed, and there is no terminal to ask for it");
        return Err(failure.next("pass --passphrase-file FILE or --key-file FILE"));
    }
    let asked = rpassword::prompt_password(prompt).map_err(|error| Failure::io("the terminal", error))?;
    Ok(Zeroizing::new(asked))
}

fn first_line(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let text = secret_text(path)?;
    Ok(Zeroizing::new(text.lines().next().unwrap_or_default().to_owned()))
}

fn key_file(path: &Path) -> Result<Unlocking, Failure> {
    check_private(path, &File::open(path).map_err(|error| Failure::file(path, error))?)?;
    Ok(Unlocking::KeyFile(path.to_owned()))
}

/// A file that holds a secret: short, and not for others to read.
fn secret_file(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let file = File::open(path).map_err(|error| Failure::file(path, error))?;
    check_private(path, &file)?;
    read_secret(file, path)
}

fn check_private(path: &Path, file: &File) -> Result<(), Failure> {
    let metadata = file.metadata().map_err(|error| Failure::file(path, error))?;
    // A pipe (`<(command)`) is nobody else's whatever its mode says.
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        let failure = Failure::new(format_args!("{}: other users of this machine may read it", path.display()));
        return Err(failure.next(format!("chmod 600 {}", path.display())));
    }
    Ok(())
}

fn read_secret(source: impl Read, path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(SECRET_FILE_LEN_MAX as usize + 64)); // never grows: leaves no copy
    let limited = &mut source.take(SECRET_FILE_LEN_MAX + 1);
    limited.read_to_end(&mut bytes).map_err(|error| Failure::file(path, error))?;
    if bytes.len() as u64 > SECRET_FILE_LEN_MAX {
        return Err(Failure::usage(format_args!("{} is longer than {SECRET_FILE_LEN_MAX} bytes", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exit::Exit;

    fn passphrase_file(text: impl AsRef<[u8]>, mode: u32) -> (tempfile::TempDir, UnlockArgs) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("passphrase");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (folder, UnlockArgs { passphrase_file: Some(path), key_file: None })
    }

    fn exit_of<T>(result: Result<T, Failure>) -> Option<Exit> {
        result.err().map(|failure| failure.exit)
    }

    #[test]
    fn a_passphrase_is_the_first_line_of_its_file() {
        let (_folder, args) = passphrase_file("correct horse battery\nnot this\n", 0o600);
        let Ok(Unlocking::Passphrase(passphrase)) = new_unlock(&args) else { panic!("no passphrase") };
        assert_eq!(*passphrase, "correct horse battery");
    }

    #[test]
    fn a_short_passphrase_is_refused_for_a_new_node_only() {
        let (_folder, args) = passphrase_file("elevenchars", 0o600);
        assert_eq!(exit_of(new_unlock(&args)), Some(Exit::Usage));
        assert_eq!(exit_of(unlock(&args, None)), None);
    }

    #[test]
    fn a_secret_that_others_can_read_is_refused() {
        let (_folder, args) = passphrase_file("correct horse battery", 0o640);
        let failure = new_unlock(&args).err().unwrap();
        assert!(failure.next.unwrap().starts_with("chmod 600 "));
    }

    #[test]
    fn a_secret_file_past_its_limit_is_refused() {
        let (_folder, args) = passphrase_file("x".repeat(SECRET_FILE_LEN_MAX as usize), 0o600);
        assert_eq!(exit_of(new_unlock(&args)), None);
        let (_folder, args) = passphrase_file("x".repeat(SECRET_FILE_LEN_MAX as usize + 1), 0o600);
        assert_eq!(exit_of(new_unlock(&args)), Some(Exit::Usage));
    }

    #[test]
    fn a_passphrase_that_is_no_text_is_refused() {
        let (_folder, args) = passphrase_file([0xFF; 20], 0o600);
        assert_eq!(exit_of(new_unlock(&args)), Some(Exit::Usage));
    }

    #[test]
    fn a_new_node_makes_its_key_file_and_an_old_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        let args = UnlockArgs { key_file: Some(path.clone()), passphrase_file: None };
        assert_eq!(exit_of(unlock(&args, None)), Some(Exit::Failed));
        assert!(matches!(new_unlock(&args), Ok(Unlocking::KeyFile(made)) if made == path));
        assert_eq!(exit_of(unlock(&args, None)), None);
    }

    #[test]
    fn the_configured_key_file_is_used_unless_another_is_given() {
        let (folder, args) = passphrase_file("correct horse battery", 0o600);
        let key = folder.path().join("key");
        ensure_key_file(&key).unwrap();
        assert!(matches!(unlock(&UnlockArgs::default(), Some(&key)), Ok(Unlocking::KeyFile(path)) if path == key));
        assert!(matches!(unlock(&args, Some(&key)), Ok(Unlocking::Passphrase(_))));
    }
}
