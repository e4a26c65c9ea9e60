//! What a witness cosigns, and what it does not.

use bithealth_merkle::{ProofError, verify_consistency};
use bithealth_types::Digest;

use super::{Checkpoint, CheckpointError, NoteError, Submission, VerifierKey, verify_note};

/// What a witness knows of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// The log.
    pub origin: String,
    /// The keys it signs with; one that is not among them counts for nothing.
    pub keys: Vec<VerifierKey>,
    /// What was cosigned last; to be durable before its cosignature leaves.
    pub last: Option<Checkpoint>,
}

/// Why a witness does not cosign.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WitnessError {
    /// The note is about something else.
    #[error("the note is not a checkpoint: {0}")]
    NotACheckpoint(#[from] CheckpointError),
    /// A checkpoint of another log.
    #[error("the checkpoint is of {got}, {want} is due")]
    OtherOrigin {
        /// Its origin.
        got: String,
        /// The log that is watched.
        want: String,
    },
    /// No key that is known signed it.
    #[error("the checkpoint is signed by {got}, of whose keys none is known as one of {origin}")]
    UnknownKey {
        /// The log.
        origin: String,
        /// Names and ids of the keys that signed.
        got: String,
    },
    /// It says it is by a key that is known, and is not.
    #[error(transparent)]
    Signature(NoteError),
    /// Shorter than the last one.
    #[error("the checkpoint has {got} headers, this witness cosigned one of {have}: it does not go back")]
    Back {
        /// Leaves that came.
        got: u64,
        /// Leaves of the last one.
        have: u64,
    },
    /// As long as the last one, with another root: proof of two histories.
    #[error("FORK: of {len} headers this witness cosigned the root {have}, now comes the root {got}")]
    Fork {
        /// Leaves of both.
        len: u64,
        /// The root that was cosigned.
        have: Digest,
        /// The root that came.
        got: Digest,
    },
    /// The proof begins elsewhere.
    #[error("the proof begins with {got} headers, this witness cosigned {have} last")]
    OtherOld {
        /// Where the proof begins.
        got: u64,
        /// Where it should; 0 where nothing was cosigned yet.
        have: u64,
    },
    /// The proof shows nothing: it is damaged, or there is none, since there are two histories.
    #[error("nothing shows that {len} headers with root {got} continue the {have_len} with root {have}: {error}")]
    NotContinued {
        /// Leaves that came.
        len: u64,
        /// The root that came.
        got: Digest,
        /// Leaves of the last one.
        have_len: u64,
        /// The root that was cosigned.
        have: Digest,
        /// What is wrong with the proof.
        error: Box<ProofError>,
    },
}

impl Watched {
    /// Whether a witness may cosign: the log signed the checkpoint, and it is the last one, or continues it. Then it is the
    /// last one from now on.
    ///
    /// # Errors
    /// [`WitnessError`].
    ///
    /// Source: <https://c2sp.org/tlog-witness>, "add-checkpoint".
    pub fn judge(&self, submission: &Submission) -> Result<Checkpoint, WitnessError> {
        let got = Checkpoint::parse(submission.note.text())?;
        if got.origin != self.origin {
            return Err(WitnessError::OtherOrigin { got: got.origin, want: self.origin.clone() });
        }
        self.check_signed(submission)?;
        self.check_continues(submission, &got)?;
        Ok(got)
    }

    fn check_signed(&self, submission: &Submission) -> Result<(), WitnessError> {
        for key in &self.keys {
            match verify_note(&submission.note, key) {
                Ok(()) => return Ok(()),
                Err(NoteError::NotSigned { .. }) => {}
                Err(error) => return Err(WitnessError::Signature(error)),
            }
        }
        Err(WitnessError::UnknownKey { origin: self.origin.clone(), got: submission.note.signed_by() })
    }

    fn check_continues(&self, submission: &Submission, got: &Checkpoint) -> Result<(), WitnessError> {
        let old_len = submission.old_len;
        // An empty tree begins every other.
        let Some(have) = self.last.as_ref().filter(|last| last.len > 0) else {
            return if old_len == 0 { Ok(()) } else { Err(WitnessError::OtherOld { got: old_len, have: 0 }) };
        };
        if got.len < have.len {
            return Err(WitnessError::Back { got: got.len, have: have.len });
        }
        if got.len == have.len {
            let (have, got_root) = (have.root, got.root);
            let same = have == got_root;
            return if same { Ok(()) } else { Err(WitnessError::Fork { len: got.len, have, got: got_root }) };
        }
        if old_len != have.len {
            return Err(WitnessError::OtherOld { got: old_len, have: have.len });
        }
        verify_consistency(&have.root, have.len, &got.root, got.len, &submission.proof).map_err(|error| {
            let error = Box::new(error);
            WitnessError::NotContinued { len: got.len, got: got.root, have_len: have.len, have: have.root, error }
        })
    }
}

#[cfg(test)]
mod tests {
    use bithealth_merkle::{consistency_proof, leaf_hash, root};

    use super::super::{NoteAlgorithm, SignedNote, sign_note};
    use super::*;
    use crate::fixture::{by, public};

    const LOG: u8 = 1;
    const OTHER: u8 = 2;

    fn key(seed: u8) -> VerifierKey {
        VerifierKey::new("log", NoteAlgorithm::Ed25519, public(seed)).unwrap()
    }

    /// The leaves of a history; those of another part from it after 3.
    fn leaves(len: u32, history: u8) -> Vec<Digest> {
        (0..len).map(|at| leaf_hash(&[at as u8, if at < 3 { 0 } else { history }])).collect()
    }

    fn checkpoint(leaves: &[Digest]) -> Checkpoint {
        Checkpoint { origin: "log".into(), len: leaves.len() as u64, root: root(leaves), extensions: vec![] }
    }

    fn note(leaves: &[Digest]) -> SignedNote {
        sign_note(&checkpoint(leaves).text().unwrap(), &key(LOG), by(LOG)).unwrap()
    }

    fn submission(old_len: u64, leaves: &[Digest]) -> Submission {
        let proof = consistency_proof(leaves, old_len).unwrap_or_default();
        Submission { old_len, proof, note: note(leaves) }
    }

    fn watched(last: Option<Checkpoint>) -> Watched {
        Watched { origin: "log".into(), keys: vec![key(OTHER), key(LOG)], last }
    }

    #[test]
    fn a_witness_takes_the_first_checkpoint_and_what_continues_it() {
        let mut witness = watched(None);
        for (old_len, len) in [(0, 2), (2, 5), (5, 5), (5, 6), (6, 40)] {
            witness.last = Some(witness.judge(&submission(old_len, &leaves(len, 0))).unwrap());
        }
        // The same one may come without a proof.
        assert!(witness.judge(&submission(0, &leaves(40, 0))).is_ok());
        let empty = watched(Some(checkpoint(&[])));
        assert!(empty.judge(&submission(0, &leaves(4, 0))).is_ok(), "the empty tree begins every other");
    }

    #[test]
    fn a_witness_does_not_go_back() {
        let witness = watched(Some(checkpoint(&leaves(5, 0))));
        let want = Err(WitnessError::Back { got: 4, have: 5 });
        assert_eq!(witness.judge(&submission(0, &leaves(4, 0))), want);
        assert_eq!(witness.judge(&submission(4, &leaves(4, 0))), want);
    }

    #[test]
    fn another_history_of_the_same_length_is_a_fork_told_with_both_roots() {
        let (ours, theirs) = (leaves(5, 0), leaves(5, 1));
        let want = WitnessError::Fork { len: 5, have: root(&ours), got: root(&theirs) };
        assert_eq!(watched(Some(checkpoint(&ours))).judge(&submission(5, &theirs)), Err(want));
    }

    #[test]
    fn a_longer_history_that_parted_earlier_is_refused_whatever_its_proof() {
        let (ours, theirs) = (leaves(5, 0), leaves(9, 1));
        let witness = watched(Some(checkpoint(&ours)));
        let of_theirs = submission(5, &theirs);
        let of_ours = Submission { proof: submission(5, &leaves(9, 0)).proof, ..of_theirs.clone() };
        let none = Submission { proof: vec![], ..of_theirs.clone() };
        for submission in [of_theirs, of_ours, none] {
            let refused = witness.judge(&submission);
            assert!(matches!(refused, Err(WitnessError::NotContinued { len: 9, have_len: 5, .. })), "{refused:?}");
        }
    }

    #[test]
    fn a_proof_that_begins_elsewhere_is_told_where_it_should() {
        let longer = leaves(9, 0);
        let witness = watched(Some(checkpoint(&leaves(5, 0))));
        for got in [0, 4, 6] {
            assert_eq!(witness.judge(&submission(got, &longer)), Err(WitnessError::OtherOld { got, have: 5 }));
        }
        assert_eq!(watched(None).judge(&submission(4, &longer)), Err(WitnessError::OtherOld { got: 4, have: 0 }));
    }

    #[test]
    fn only_a_known_key_of_the_log_counts() {
        let submission = submission(0, &leaves(5, 0));
        let stranger = Watched { keys: vec![key(OTHER)], ..watched(None) };
        let refused = stranger.judge(&submission).unwrap_err();
        let id = format!("{:08x}", key(LOG).id());
        assert!(matches!(&refused, WitnessError::UnknownKey { got, .. } if got.contains(&id)), "{refused}");

        let elsewhere = Watched { origin: "other".into(), ..watched(None) };
        let refused = elsewhere.judge(&submission);
        assert_eq!(refused, Err(WitnessError::OtherOrigin { got: "log".into(), want: "other".into() }));

        let text = checkpoint(&leaves(5, 0)).text().unwrap();
        let forged = Submission { note: sign_note(&text, &key(LOG), by(OTHER)).unwrap(), ..submission.clone() };
        let refused = watched(None).judge(&forged);
        assert!(matches!(refused, Err(WitnessError::Signature(NoteError::FalseSignature { .. }))), "{refused:?}");

        let no_checkpoint = Submission { note: sign_note("log\n", &key(LOG), by(LOG)).unwrap(), ..submission };
        let refused = watched(None).judge(&no_checkpoint);
        assert_eq!(refused, Err(WitnessError::NotACheckpoint(CheckpointError::Lines { got: 1 })));
    }
}
