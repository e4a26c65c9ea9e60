//! The organisations a pack is sealed to.

use bithealth_envelope::RECIPIENT_LEN;
use bithealth_types::MemberId;

/// Most organisations a pack is sealed to: their wraps, of 1168 bytes each, fit into one entry of 60 KiB.
pub const READERS_MAX: usize = 32;

/// Why organisations cannot be the readers of a pack.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadersError {
    /// More than an entry can carry wraps for.
    #[error("{got} organisations, a pack can be sealed to at most {READERS_MAX}")]
    TooMany {
        /// Organisations that came.
        got: usize,
    },
    /// Named twice, perhaps with two keys.
    #[error("organisation {member} is named twice")]
    Twice {
        /// The organisation.
        member: MemberId,
    },
    /// Its key is not as long as a recipient key is.
    #[error("organisation {member} has a recipient key of {got} bytes, {RECIPIENT_LEN} are due")]
    RecipientLength {
        /// The organisation.
        member: MemberId,
        /// Bytes of its key.
        got: usize,
    },
}

/// The organisations a pack is sealed to, beside its author's: at most [`READERS_MAX`], none of them twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Readers {
    organisations: Vec<(MemberId, Vec<u8>)>,
}

impl Readers {
    /// Nobody but the author.
    pub const fn none() -> Self {
        Self { organisations: Vec::new() }
    }

    /// These organisations, each with its X-Wing public key as the ledger has it.
    ///
    /// # Errors
    /// [`ReadersError`] if they are too many, one is named twice, or a key has a wrong length.
    pub fn new(organisations: Vec<(MemberId, Vec<u8>)>) -> Result<Self, ReadersError> {
        if organisations.len() > READERS_MAX {
            return Err(ReadersError::TooMany { got: organisations.len() });
        }
        for (index, (member, recipient)) in organisations.iter().enumerate() {
            if organisations[..index].iter().any(|(before, _)| before == member) {
                return Err(ReadersError::Twice { member: *member });
            }
            if recipient.len() != RECIPIENT_LEN {
                return Err(ReadersError::RecipientLength { member: *member, got: recipient.len() });
            }
        }
        Ok(Self { organisations })
    }

    /// How many organisations.
    pub fn len(&self) -> usize {
        self.organisations.len()
    }

    /// Whether nobody but the author reads.
    pub fn is_empty(&self) -> bool {
        self.organisations.is_empty()
    }

    /// Who they are, in the order they were given.
    pub fn members(&self) -> impl Iterator<Item = MemberId> {
        self.organisations.iter().map(|(member, _)| *member)
    }

    /// Each with its X-Wing public key.
    pub fn recipients(&self) -> impl Iterator<Item = (MemberId, &[u8])> {
        self.organisations.iter().map(|(member, recipient)| (*member, recipient.as_slice()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn organisations(count: u8) -> Vec<(MemberId, Vec<u8>)> {
        (0..count).map(|index| (MemberId([index; 32]), vec![0; RECIPIENT_LEN])).collect()
    }

    #[test]
    fn as_many_readers_as_an_entry_carries_are_accepted_and_one_more_is_not() {
        let most = Readers::new(organisations(32)).unwrap();
        assert_eq!((most.len(), most.is_empty()), (READERS_MAX, false));
        assert_eq!(Readers::new(organisations(33)), Err(ReadersError::TooMany { got: 33 }));
    }

    #[test]
    fn nobody_is_accepted() {
        assert_eq!(Readers::new(Vec::new()), Ok(Readers::none()));
        assert!(Readers::none().is_empty());
    }

    #[test]
    fn a_reader_named_twice_is_refused() {
        let twice = [organisations(3), organisations(1)].concat();
        assert_eq!(Readers::new(twice), Err(ReadersError::Twice { member: MemberId([0; 32]) }));
    }

    #[test]
    fn a_reader_whose_key_has_a_wrong_length_is_named() {
        for got in [0, RECIPIENT_LEN - 1, RECIPIENT_LEN + 1] {
            let mut organisations = organisations(2);
            organisations[1].1 = vec![0; got];
            let error = ReadersError::RecipientLength { member: MemberId([1; 32]), got };
            assert_eq!(Readers::new(organisations), Err(error));
        }
    }

    #[test]
    fn readers_keep_their_order() {
        let readers = Readers::new(organisations(3)).unwrap();
        assert!(readers.members().eq((0..3).map(|index| MemberId([index; 32]))));
    }
}
