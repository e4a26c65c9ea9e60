//! The text of a note about a log's tree.

use bithealth_types::Digest;
use data_encoding::BASE64;

/// What a log says about its tree. The text form is a line each, every one with its newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log, best by the name of its key.
    pub origin: String,
    /// Leaves of its tree, which the standard calls its size.
    pub len: u64,
    /// The root over them, as `bithealth_merkle::root` gives it.
    pub root: Digest,
    /// What else the log says. Monitors cannot check it, so that it is best left empty or, as ours is, checked by people.
    pub extensions: Vec<String>,
}

/// Why a text is not a checkpoint, or a checkpoint has no text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The text breaks off.
    #[error("the checkpoint does not end with a newline")]
    NoNewline,
    /// Origin, length or root is missing.
    #[error("the checkpoint has {got} lines, 3 or more are due")]
    Lines {
        /// Lines that came.
        got: usize,
    },
    /// A line is empty.
    #[error("line {index} of the checkpoint is empty")]
    EmptyLine {
        /// Which one, from 0.
        index: usize,
    },
    /// A line holds a control character.
    #[error("line {index} of the checkpoint holds a control character")]
    ControlCharacter {
        /// Which one, from 0.
        index: usize,
    },
    /// The length is not a decimal number without leading zeros, below 2^64.
    #[error("the checkpoint's tree has no length: line 1 is not a decimal number below 2^64 without leading zeros")]
    Length,
    /// The root is not a digest in base64.
    #[error("the checkpoint's tree has no root: line 2 is not 32 bytes in base64")]
    Root,
}

impl Checkpoint {
    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError`]: every checkpoint has one text, and all others are refused.
    ///
    /// Source: <https://c2sp.org/tlog-checkpoint>, "Note text".
    pub fn parse(text: &str) -> Result<Self, CheckpointError> {
        let lines: Vec<&str> = text.strip_suffix('\n').ok_or(CheckpointError::NoNewline)?.split('\n').collect();
        lines.iter().enumerate().try_for_each(|(index, line)| check_line(index, line))?;
        let [origin, len, root, extensions @ ..] = lines.as_slice() else {
            return Err(CheckpointError::Lines { got: lines.len() });
        };
        Ok(Self {
            origin: (*origin).to_owned(),
            len: read_len(len).ok_or(CheckpointError::Length)?,
            root: read_root(root).ok_or(CheckpointError::Root)?,
            extensions: extensions.iter().map(|line| (*line).to_owned()).collect(),
        })
    }

    /// The text to sign.
    ///
    /// # Errors
    /// [`CheckpointError::EmptyLine`] and [`CheckpointError::ControlCharacter`], if the origin or an extension is not a
    /// line.
    pub fn text(&self) -> Result<String, CheckpointError> {
        let (len, root) = (self.len.to_string(), BASE64.encode(self.root.as_bytes()));
        let mut text = String::new();
        let extensions = self.extensions.iter().map(String::as_str);
        for (index, line) in [self.origin.as_str(), &len, &root].into_iter().chain(extensions).enumerate() {
            check_line(index, line)?;
            text.push_str(line);
            text.push('\n');
        }
        Ok(text)
    }
}

fn check_line(index: usize, line: &str) -> Result<(), CheckpointError> {
    if line.is_empty() {
        return Err(CheckpointError::EmptyLine { index });
    }
    if line.bytes().any(|byte| byte < b' ') {
        return Err(CheckpointError::ControlCharacter { index });
    }
    Ok(())
}

/// A decimal number without leading zeros or signs.
pub(super) fn read_len(decimal: &str) -> Option<u64> {
    decimal.parse().ok().filter(|number: &u64| number.to_string() == decimal)
}

pub(super) fn read_root(base64: &str) -> Option<Digest> {
    let bytes = BASE64.decode(base64.as_bytes()).ok()?;
    Digest::try_from(bytes.as_slice()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: &str = "uZo6M+IhVna+CLgWCrJs0xBPUHbozHkYTQASduHSLME=";

    fn checkpoint(origin: &str, extensions: &[&str]) -> Checkpoint {
        let extensions = extensions.iter().map(|line| (*line).to_owned()).collect();
        Checkpoint { origin: origin.to_owned(), len: 12, root: read_root(ROOT).unwrap(), extensions }
    }

    #[test]
    fn a_checkpoint_has_one_text() {
        let text = format!("example.com/log\n12\n{ROOT}\n");
        assert_eq!(checkpoint("example.com/log", &[]).text(), Ok(text.clone()));
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint("example.com/log", &[])));

        // An origin may have spaces, unlike the name of a key.
        let text = format!("any origin+\n12\n{ROOT}\none\ntwo \n");
        assert_eq!(checkpoint("any origin+", &["one", "two "]).text(), Ok(text.clone()));
        assert_eq!(Checkpoint::parse(&text), Ok(checkpoint("any origin+", &["one", "two "])));
    }

    #[test]
    fn a_text_that_breaks_off_is_refused() {
        assert_eq!(Checkpoint::parse(&format!("log\n12\n{ROOT}")), Err(CheckpointError::NoNewline));
        assert_eq!(Checkpoint::parse(""), Err(CheckpointError::NoNewline));
        assert_eq!(Checkpoint::parse("log\n12\n"), Err(CheckpointError::Lines { got: 2 }));
    }

    #[test]
    fn a_length_has_one_form() {
        let parse = |len: &str| Checkpoint::parse(&format!("log\n{len}\n{ROOT}\n")).map(|checkpoint| checkpoint.len);
        for len in [0, 1, 20_852_163, u64::MAX] {
            assert_eq!(parse(&len.to_string()), Ok(len));
        }
        for len in ["00", "012", "+12", "-1", "1 ", " 1", "0x1", "1e3", "18446744073709551616", "١"] {
            assert_eq!(parse(len), Err(CheckpointError::Length), "{len:?}");
        }
    }

    #[test]
    fn a_root_is_a_digest_in_base64() {
        let no_padding = ROOT.trim_end_matches('=');
        // The last four bits of the last character say nothing and must be zero: E is, F is not.
        let trailing_bits = ROOT.replace("E=", "F=");
        for root in ["?", "uZo6", no_padding, &trailing_bits, &ROOT.replace('+', "-"), &format!("{ROOT} ")] {
            assert_eq!(Checkpoint::parse(&format!("log\n12\n{root}\n")), Err(CheckpointError::Root), "{root:?}");
        }
    }

    #[test]
    fn empty_lines_are_refused() {
        for (text, index) in [("\n12\nroot\n", 0), ("log\n\nroot\n", 1), ("\n", 0), ("log\n12\nroot\n\n", 3)] {
            let text = text.replace("root", ROOT);
            assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::EmptyLine { index }), "{text:?}");
        }
        assert_eq!(checkpoint("", &[]).text(), Err(CheckpointError::EmptyLine { index: 0 }));
        assert_eq!(checkpoint("log", &["one", ""]).text(), Err(CheckpointError::EmptyLine { index: 4 }));
    }

    #[test]
    fn a_line_stays_one_line() {
        let want = |index| Err(CheckpointError::ControlCharacter { index });
        assert_eq!(checkpoint("log\n13", &[]).text(), want(0));
        assert_eq!(checkpoint("log", &["one\ntwo"]).text(), want(3));
        let text = format!("log\r\n12\n{ROOT}\n");
        assert_eq!(Checkpoint::parse(&text), Err(CheckpointError::ControlCharacter { index: 0 }));
    }
}
