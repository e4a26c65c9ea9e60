//! What a witness is asked to cosign: a checkpoint, and the proof that it continues the last one.
//!
//! ```text
//! old 7                                            leaves of the checkpoint the witness cosigned last
//! PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=     the proof from there on, RFC 6962: 63 digests at most
//!
//! example.com/log                                  the checkpoint
//! ...
//! ```
//!
//! This is the body of a request that public witnesses take over HTTP. A checkpoint alone stands for one with `old 0`.
//!
//! Source: <https://c2sp.org/tlog-witness>, "add-checkpoint".

use std::fmt;

use bithealth_types::Digest;
use data_encoding::BASE64;

use super::checkpoint::{read_len, read_root};
use super::{NOTE_LEN_MAX, NoteError, SignedNote};

/// Most digests of a proof.
pub const SUBMISSION_PROOF_MAX: usize = 63;
/// Most bytes of a submission: a note, and in front of it a line for each digest of the proof and two more.
pub const SUBMISSION_LEN_MAX: usize = NOTE_LEN_MAX + 4 * 1024;

/// A checkpoint on its way to a witness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Submission {
    /// Leaves of the earlier tree the proof begins with; 0 for none.
    pub old_len: u64,
    /// That the checkpoint's tree continues it, as `bithealth_merkle::consistency_proof` gives it.
    pub proof: Vec<Digest>,
    /// The checkpoint, signed by its log.
    pub note: SignedNote,
}

/// Why bytes are no submission.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmissionError {
    /// Too long.
    #[error("the submission has {got} bytes, at most {SUBMISSION_LEN_MAX} are due")]
    TooLong {
        /// Bytes that came.
        got: usize,
    },
    /// No empty line ends the proof.
    #[error("no empty line parts the proof from the checkpoint")]
    NoEmptyLine,
    /// The first line is not `old` and a number.
    #[error("line 0 is not \"old\" and a decimal number below 2^64 without leading zeros")]
    OldLen,
    /// A line of the proof is none.
    #[error("line {index} is not a digest in base64")]
    ProofLine {
        /// Which one, from 0.
        index: usize,
    },
    /// More than any tree needs.
    #[error("the proof has {got} digests, at most {SUBMISSION_PROOF_MAX} are due")]
    ProofLen {
        /// Digests that came.
        got: usize,
    },
    /// The rest is not a note.
    #[error(transparent)]
    Note(#[from] NoteError),
}

impl Submission {
    /// Reads a submission, or a note alone.
    ///
    /// # Errors
    /// [`SubmissionError`] with what came and what was due.
    pub fn parse(bytes: &[u8]) -> Result<Self, SubmissionError> {
        if bytes.len() > SUBMISSION_LEN_MAX {
            return Err(SubmissionError::TooLong { got: bytes.len() });
        }
        if !bytes.starts_with(b"old ") {
            return Ok(Self { old_len: 0, proof: Vec::new(), note: SignedNote::parse(bytes)? });
        }
        let end = bytes.windows(2).position(|pair| pair == b"\n\n").ok_or(SubmissionError::NoEmptyLine)?;
        let head = str::from_utf8(&bytes[..end]).map_err(|_| SubmissionError::OldLen)?;
        let mut lines = head.split('\n');
        let old_len = lines.next().and_then(|line| read_len(line.strip_prefix("old ")?));
        let proof: Vec<&str> = lines.collect();
        if proof.len() > SUBMISSION_PROOF_MAX {
            return Err(SubmissionError::ProofLen { got: proof.len() });
        }
        let digest = |(index, line)| read_root(line).ok_or(SubmissionError::ProofLine { index });
        Ok(Self {
            old_len: old_len.ok_or(SubmissionError::OldLen)?,
            proof: (1..).zip(proof).map(digest).collect::<Result<_, _>>()?,
            note: SignedNote::parse(&bytes[end + 2..])?,
        })
    }
}

impl fmt::Display for Submission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "old {}", self.old_len)?;
        self.proof.iter().try_for_each(|digest| writeln!(f, "{}", BASE64.encode(digest.as_bytes())))?;
        write!(f, "\n{}", self.note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTE: &str = "log\n12\nuZo6M+IhVna+CLgWCrJs0xBPUHbozHkYTQASduHSLME=\n\n\u{2014} log AAAAAAA=\n";
    const DIGEST: &str = "PlRNCrwHpqhGrupue0L7gxbjbMiKA9temvuZZDDpkaw=";

    fn parse(text: &str) -> Result<Submission, SubmissionError> {
        Submission::parse(text.as_bytes())
    }

    fn with(digests: usize) -> String {
        format!("old 7\n{}\n{NOTE}", format!("{DIGEST}\n").repeat(digests))
    }

    #[test]
    fn a_submission_is_written_and_read() {
        for digests in [0, 1, SUBMISSION_PROOF_MAX] {
            let submission = parse(&with(digests)).unwrap();
            assert_eq!((submission.old_len, submission.proof.len()), (7, digests));
            assert_eq!(submission.to_string(), with(digests));
        }
    }

    #[test]
    fn a_checkpoint_alone_begins_with_nothing() {
        let alone = parse(NOTE).unwrap();
        assert_eq!((alone.old_len, alone.proof.len()), (0, 0));
        assert_eq!(parse(&format!("old 0\n\n{NOTE}")), Ok(alone));
    }

    #[test]
    fn what_is_no_submission_is_refused() {
        let got = SUBMISSION_PROOF_MAX + 1;
        assert_eq!(parse(&with(got)), Err(SubmissionError::ProofLen { got }));
        for old in ["old ", "old 07", "old +7", "old 7 ", "old  7", "old 18446744073709551616"] {
            assert_eq!(parse(&format!("{old}\n\n{NOTE}")), Err(SubmissionError::OldLen), "{old:?}");
        }
        let flaw = DIGEST.replace('=', "");
        assert_eq!(parse(&format!("old 7\n{DIGEST}\n{flaw}\n\n{NOTE}")), Err(SubmissionError::ProofLine { index: 2 }));
        assert_eq!(parse("old 7\n"), Err(SubmissionError::NoEmptyLine));
        assert_eq!(parse("old 7\n\nlog\n"), Err(SubmissionError::Note(NoteError::NoEmptyLine)));
        assert_eq!(Submission::parse(b"old 7\xff\n\n"), Err(SubmissionError::OldLen));
    }

    #[test]
    fn the_longest_submission_is_read_and_a_longer_one_is_not() {
        let rest = NOTE.split_once("\n\n").unwrap().1;
        let note = format!("{}\n\n{rest}", "x".repeat(NOTE_LEN_MAX - rest.len() - 2));
        let head = format!("old {}\n{}\n", u64::MAX, format!("{DIGEST}\n").repeat(SUBMISSION_PROOF_MAX));
        assert!(parse(&format!("{head}{note}")).is_ok());
        let got = SUBMISSION_LEN_MAX + 1;
        assert_eq!(Submission::parse(&vec![b'x'; got]), Err(SubmissionError::TooLong { got }));
        let got = NOTE_LEN_MAX + 1;
        assert_eq!(Submission::parse(&vec![b'x'; got]), Err(SubmissionError::Note(NoteError::TooLong { got })));
    }
}
