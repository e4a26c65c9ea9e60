//! What this validator signed last, so that it never signs anything else in its place.
//!
//! The engine derives its votes again from the write-ahead log after a crash. This is the second lock: it is kept beside
//! the log, in two copies, and holds where a log was cut, damaged, or brought back from an old backup of the disk.

use bithealth_proto::{DecodeError, decode, encode, v1};
use bytes::Bytes;

/// What is signed, in the order of a round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Proposal = 1,
    Prevote = 2,
    Precommit = 3,
}

/// Why a signature is refused: something else was signed there, or later.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this validator signed height {}, round {}, step {} before; it does not sign another message for height {height}, \
     round {round}, step {step}: is its key on two machines, or its data directory an old copy?",
    last.0, last.1, last.2
)]
pub struct WouldSignTwice {
    /// Height, round and step of the last signature.
    pub last: (u64, u32, u32),
    /// The height asked for.
    pub height: u64,
    /// The round asked for.
    pub round: u32,
    /// The step asked for.
    pub step: u32,
}

/// The last signature's place and message.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Safety {
    last: v1::Safety,
}

impl Safety {
    /// # Errors
    /// [`DecodeError`] if these bytes are not what [`Safety::encode`] wrote.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(Self { last: decode(bytes)? })
    }

    pub(crate) fn encode(&self) -> Bytes {
        encode(&self.last).into()
    }

    /// Takes note of a signature about to be made, or refuses it. The same message may be signed again.
    pub(crate) fn note(&mut self, height: u64, round: u32, step: Step, message: &[u8]) -> Result<(), WouldSignTwice> {
        let last = (self.last.height, self.last.round, self.last.step);
        let next = (height, round, step as u32);
        if next < last || next == last && self.last.value != message {
            return Err(WouldSignTwice { last, height, round, step: step as u32 });
        }
        self.last = v1::Safety { height, round, step: step as u32, value: Bytes::copy_from_slice(message) };
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_signed_before_or_instead_of_what_was_signed_last() {
        let mut safety = Safety::default();
        safety.note(4, 1, Step::Prevote, b"a").unwrap();
        safety.note(4, 1, Step::Prevote, b"a").unwrap();
        for (height, round, step, message) in [
            (4, 1, Step::Prevote, b"b"),
            (4, 1, Step::Proposal, b"a"),
            (4, 0, Step::Precommit, b"a"),
            (3, 9, Step::Precommit, b"a"),
        ] {
            let error = WouldSignTwice { last: (4, 1, 2), height, round, step: step as u32 };
            assert_eq!(safety.note(height, round, step, message), Err(error));
        }
        safety.note(4, 1, Step::Precommit, b"b").unwrap();
        safety.note(5, 0, Step::Proposal, b"c").unwrap();
    }

    #[test]
    fn it_is_the_same_after_a_restart() {
        let mut safety = Safety::default();
        safety.note(4, 1, Step::Prevote, b"a").unwrap();
        assert_eq!(Safety::decode(&safety.encode()), Ok(safety));
        assert!(Safety::decode(b"no safety state").is_err());
    }
}
