//! Signed notes: the form in which heads leave the consortium, for witnesses and for whoever checks on us.
//!
//! A note is a text and lines that sign it. A checkpoint is a note about a log's tree; a cosignature is a line by a
//! witness, which says that it saw this tree at this time, and that it continues the ones it saw before.
//!
//! ```text
//! example.com/log                                  origin
//! 12                                               leaves of the tree
//! uZo6M+IhVna+CLgWCrJs0xBPUHbozHkYTQASduHSLME=     its root, RFC 6962
//!
//! — example.com/log M9e0lrFzoTgi...                the log: key id, Ed25519 signature over the text
//! — witness.example.com jWbPPwAA...                a witness: key id, time, signature over time and text
//! ```
//!
//! The text of a note says nothing before [`verify_note`] or [`verify_cosignature`] accepted it with a known key. The
//! forms are public, so that witnesses and monitors that others wrote can be used: nothing in them is ours.
//! [`State::checkpoint`](crate::State::checkpoint) is what we say, [`Watched`] what a witness says yes to.
//!
//! Sources: <https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>, <https://c2sp.org/tlog-cosignature>,
//! <https://c2sp.org/tlog-witness>.

mod checkpoint;
mod head;
mod key;
mod sign;
mod submission;
mod witness;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use head::{head_checkpoint, log_key, origin};
pub use key::{NoteAlgorithm, VerifierKey, VerifierKeyError};
pub(crate) use sign::cosignature_message;
pub use sign::{cosign, sign_note, verify_cosignature, verify_note};
pub use submission::{SUBMISSION_LEN_MAX, SUBMISSION_PROOF_MAX, Submission, SubmissionError};
pub use witness::{Watched, WitnessError};

use std::fmt;

use data_encoding::BASE64;

use key::is_name;

/// Most bytes of a note. The standard asks for room for 16 signatures: as many of ML-DSA-44, in base64, take 52 KiB.
pub const NOTE_LEN_MAX: usize = 64 * 1024;
/// Most signatures of a note: bounds how often one is searched for a key.
pub const NOTE_SIGNATURES_MAX: usize = 100;
/// The latest time a cosignature can have, in seconds since 1970.
pub const COSIGNATURE_TIME_MAX_S: u64 = i64::MAX as u64;

/// Why a note was refused, or cannot be signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoteError {
    /// Too long.
    #[error("the note has {got} bytes, at most {NOTE_LEN_MAX} are due")]
    TooLong {
        /// Bytes that came.
        got: usize,
    },
    /// Not UTF-8.
    #[error("the note is not UTF-8 from byte {position} on")]
    NotUtf8 {
        /// Where the first false byte is, from 0.
        position: usize,
    },
    /// A control character other than newline.
    #[error("byte {position} of the note is a control character")]
    ControlCharacter {
        /// Where, from 0.
        position: usize,
    },
    /// No empty line.
    #[error("no empty line parts the note's text from its signatures")]
    NoEmptyLine,
    /// The text, or the whole note, breaks off.
    #[error("{what} does not end with a newline")]
    NoNewline {
        /// Which of the two.
        what: &'static str,
    },
    /// Nothing behind the empty line.
    #[error("the note has no signature")]
    Unsigned,
    /// Too many signatures.
    #[error("the note has {got} signatures, at most {NOTE_SIGNATURES_MAX} are due")]
    TooManySignatures {
        /// Signatures that came.
        got: usize,
    },
    /// A line that signs nothing.
    #[error("signature {index} is not an em dash, the name of a key, and 5 bytes or more in base64")]
    SignatureLine {
        /// Which one, from 0.
        index: usize,
    },
    /// The key is for the other kind of signature.
    #[error("the key makes signatures of kind {got:?}, {want:?} is due")]
    OtherAlgorithm {
        /// What the key is for.
        got: NoteAlgorithm,
        /// What it must be for.
        want: NoteAlgorithm,
    },
    /// The key did not sign the note.
    #[error("the note has no signature by {name}, key {key_id:08x}")]
    NotSigned {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: u32,
    },
    /// A signature that says it is by the key has another length than such a signature.
    #[error("a signature by the key has {got} bytes, {want} are due")]
    SignatureLen {
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// A signature that says it is by the key is not.
    #[error("a signature of the note is not by {name}, key {key_id:08x}, though it says so")]
    FalseSignature {
        /// The key's name.
        name: String,
        /// The key's id.
        key_id: u32,
    },
    /// A time no cosignature can have.
    #[error("the cosignature is of second {got}, the last one is {COSIGNATURE_TIME_MAX_S}")]
    Time {
        /// The time, in seconds since 1970.
        got: u64,
    },
    /// Only checkpoints are cosigned.
    #[error("the note is not a checkpoint")]
    NotACheckpoint(#[from] CheckpointError),
}

/// A note that has the right form; its signatures may be anybody's, and false.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedNote {
    text: String,
    signatures: Vec<NoteSignature>,
}

/// A line that signs a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    key_id: u32,
    bytes: Vec<u8>,
}

impl SignedNote {
    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError`] with what came and what was due.
    pub fn parse(bytes: &[u8]) -> Result<Self, NoteError> {
        if bytes.len() > NOTE_LEN_MAX {
            return Err(NoteError::TooLong { got: bytes.len() });
        }
        let note = str::from_utf8(bytes).map_err(|error| NoteError::NotUtf8 { position: error.valid_up_to() })?;
        check_characters(note)?;
        // The text may have empty lines too: the last one is ours, and the newline before it is the text's.
        let end = note.rfind("\n\n").ok_or(NoteError::NoEmptyLine)? + 1;
        let (text, rest) = (&note[..end], &note[end + 1..]);
        if rest.is_empty() {
            return Err(NoteError::Unsigned);
        }
        let lines = rest.strip_suffix('\n').ok_or(NoteError::NoNewline { what: "the note" })?;
        let count = lines.split('\n').count();
        if count > NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures { got: count });
        }
        let line = |(index, line)| read_line(line).ok_or(NoteError::SignatureLine { index });
        let signatures = lines.split('\n').enumerate().map(line).collect::<Result<_, _>>()?;
        Ok(Self { text: text.to_owned(), signatures })
    }

    /// The signed text, with its last newline.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signatures, at least one.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// The names and ids of the keys it says it is signed by, for people.
    pub fn signed_by(&self) -> String {
        let key = |it: &NoteSignature| format!("{} ({:08x})", it.name, it.key_id);
        self.signatures.iter().map(key).collect::<Vec<_>>().join(", ")
    }

    /// Adds a signature, as a witness answers it. A line that is there already stays the only one.
    ///
    /// # Errors
    /// [`NoteError::TooManySignatures`] or [`NoteError::TooLong`]; the note is then as it was.
    pub fn add(&mut self, signature: NoteSignature) -> Result<(), NoteError> {
        if self.signatures.contains(&signature) {
            return Ok(());
        }
        if self.signatures.len() == NOTE_SIGNATURES_MAX {
            return Err(NoteError::TooManySignatures { got: NOTE_SIGNATURES_MAX + 1 });
        }
        self.signatures.push(signature);
        let got = self.to_string().len();
        if got > NOTE_LEN_MAX {
            self.signatures.pop();
            return Err(NoteError::TooLong { got });
        }
        Ok(())
    }
}

impl NoteSignature {
    /// Reads one line, without its newline.
    ///
    /// # Errors
    /// [`NoteError::SignatureLine`].
    pub fn parse(line: &str) -> Result<Self, NoteError> {
        read_line(line).ok_or(NoteError::SignatureLine { index: 0 })
    }

    /// The name of the key it says it is by.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key it says it is by.
    pub fn key_id(&self) -> u32 {
        self.key_id
    }

    fn by(key: &VerifierKey, bytes: Vec<u8>) -> Self {
        Self { name: key.name().to_owned(), key_id: key.id(), bytes }
    }
}

/// The lines of a note end with a newline each.
impl fmt::Display for SignedNote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.text)?;
        self.signatures.iter().try_for_each(|signature| writeln!(f, "{signature}"))
    }
}

/// Without a newline.
impl fmt::Display for NoteSignature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&self.key_id.to_be_bytes(), self.bytes.as_slice()].concat();
        write!(f, "\u{2014} {} {}", self.name, BASE64.encode(&bytes))
    }
}

fn read_line(line: &str) -> Option<NoteSignature> {
    let (name, base64) = line.strip_prefix("\u{2014} ")?.split_once(' ')?;
    let bytes = BASE64.decode(base64.as_bytes()).ok()?;
    let (key_id, bytes) = bytes.split_first_chunk()?;
    (is_name(name) && !bytes.is_empty()).then(|| NoteSignature {
        name: name.to_owned(),
        key_id: u32::from_be_bytes(*key_id),
        bytes: bytes.to_vec(),
    })
}

fn check_characters(text: &str) -> Result<(), NoteError> {
    match text.bytes().position(|byte| byte < b' ' && byte != b'\n') {
        Some(position) => Err(NoteError::ControlCharacter { position }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
