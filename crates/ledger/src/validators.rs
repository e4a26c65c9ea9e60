//! Who decides the next block: one key for each organisation.

use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, MemberId, ValidatorId};
use bytes::Bytes;

/// Most organisations that vote.
pub const VALIDATORS_MAX: usize = 256;

/// Who votes for an organisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validator {
    /// The organisation.
    pub member: MemberId,
    /// The key it votes with.
    pub key: ValidatorId,
}

/// Those who decide a height, ordered by organisation.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ValidatorSet {
    validators: Vec<Validator>,
}

/// Why validators are no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotValidators {
    /// Too many, or none.
    #[error("{got} validators, 1 to {VALIDATORS_MAX} are accepted")]
    Count {
        /// Validators that came.
        got: usize,
    },
    /// An id that is none.
    #[error("the {what} of validator {index} has {got} bytes, 32 are due")]
    Length {
        /// The field.
        what: &'static str,
        /// Its position.
        index: usize,
        /// Bytes that came.
        got: usize,
    },
    /// Not ordered by organisation, or one twice.
    #[error("validator {index} is out of order")]
    Order {
        /// Position of the first false one.
        index: usize,
    },
    /// Two organisations with one key.
    #[error("validators {first} and {second} have the same key")]
    SameKey {
        /// The first.
        first: usize,
        /// The second.
        second: usize,
    },
}

impl ValidatorSet {
    /// A set of these; the order does not matter.
    ///
    /// # Errors
    /// [`NotValidators`] if there are none or too many, or two share an organisation or a key.
    pub fn new(mut validators: Vec<Validator>) -> Result<Self, NotValidators> {
        validators.sort_by_key(|validator| validator.member);
        if validators.is_empty() || validators.len() > VALIDATORS_MAX {
            return Err(NotValidators::Count { got: validators.len() });
        }
        for (index, validator) in validators.iter().enumerate() {
            if index > 0 && validators[index - 1].member == validator.member {
                return Err(NotValidators::Order { index });
            }
            if let Some(first) = validators[..index].iter().position(|before| before.key == validator.key) {
                return Err(NotValidators::SameKey { first, second: index });
            }
        }
        Ok(Self { validators })
    }

    /// The set a message holds.
    ///
    /// # Errors
    /// [`NotValidators`] if it is none, or not in its canonical order.
    pub fn from_message(message: &v1::ValidatorSet) -> Result<Self, NotValidators> {
        let read = |(index, it): (usize, &v1::Validator)| {
            let length = |what, got| NotValidators::Length { what, index, got };
            let member = MemberId::try_from(it.member.as_ref()).map_err(|_| length("organisation", it.member.len()))?;
            let key = ValidatorId::try_from(it.key.as_ref()).map_err(|_| length("key", it.key.len()))?;
            Ok(Validator { member, key })
        };
        if message.validators.len() > VALIDATORS_MAX {
            return Err(NotValidators::Count { got: message.validators.len() });
        }
        let validators: Vec<Validator> = message.validators.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        if let Some(index) = validators.windows(2).position(|two| two[0].member >= two[1].member) {
            return Err(NotValidators::Order { index: index + 1 });
        }
        Self::new(validators)
    }

    /// As a message.
    pub fn to_message(&self) -> v1::ValidatorSet {
        let message = |it: &Validator| v1::Validator {
            member: Bytes::copy_from_slice(it.member.as_bytes()),
            key: Bytes::copy_from_slice(it.key.as_bytes()),
        };
        v1::ValidatorSet { validators: self.validators.iter().map(message).collect() }
    }

    /// What a header names it by.
    pub fn digest(&self) -> Digest {
        digest(&self.to_message())
    }

    /// All, ordered by organisation.
    pub fn iter(&self) -> impl Iterator<Item = &Validator> {
        self.validators.iter()
    }

    /// How many.
    pub fn count(&self) -> usize {
        self.validators.len()
    }

    /// The one at this position.
    pub fn get(&self, index: usize) -> Option<&Validator> {
        self.validators.get(index)
    }

    /// Where the validator with this key stands.
    pub fn position(&self, key: &ValidatorId) -> Option<usize> {
        self.validators.iter().position(|validator| validator.key == *key)
    }

    /// Who votes for this organisation.
    pub fn of(&self, member: &MemberId) -> Option<&Validator> {
        self.validators.iter().find(|validator| validator.member == *member)
    }

    /// Votes that make a certificate.
    pub fn quorum(&self) -> usize {
        quorum(self.count())
    }

    /// Validators that may lie.
    pub fn faulty(&self) -> usize {
        faulty(self.count())
    }
}

/// How many of `n` validators may lie without harm: the largest f with 3 f < n.
pub const fn faulty(n: usize) -> usize {
    n.saturating_sub(1) / 3
}

/// Votes of `n` validators that make a certificate: ceil((n + f + 1) / 2). Two quorums share at least f + 1, so one
/// honest validator; and with three equal regions any one of them may be away, which "more than two thirds" forbids.
pub const fn quorum(n: usize) -> usize {
    (n + faulty(n) + 1).div_ceil(2)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn validator(member: u8, key: u8) -> Validator {
        Validator { member: MemberId([member; 32]), key: ValidatorId([key; 32]) }
    }

    #[test]
    fn with_three_equal_regions_a_quorum_survives_the_loss_of_one() {
        let quorums = [1, 2, 3, 4, 5, 6, 7, 9, 12].map(quorum);
        assert_eq!(quorums, [1, 2, 2, 3, 4, 4, 5, 6, 8]);
        for regions in 1..80 {
            assert!(quorum(3 * regions) <= 2 * regions, "{regions} in each");
        }
    }

    #[test]
    fn two_quorums_share_one_honest_validator_and_the_honest_alone_make_one() {
        for n in 1..=VALIDATORS_MAX {
            assert!(2 * quorum(n) - n > faulty(n), "{n}");
            assert!(quorum(n) <= n - faulty(n), "{n}");
        }
    }

    #[test]
    fn a_set_has_one_order_and_one_digest() {
        let set = ValidatorSet::new(vec![validator(2, 5), validator(1, 6)]).unwrap();
        assert_eq!(set.get(0), Some(&validator(1, 6)));
        assert_eq!(ValidatorSet::from_message(&set.to_message()), Ok(set.clone()));
        let mut swapped = set.to_message();
        swapped.validators.swap(0, 1);
        assert_eq!(ValidatorSet::from_message(&swapped), Err(NotValidators::Order { index: 1 }));
        assert_eq!((set.position(&ValidatorId([5; 32])), set.of(&MemberId([9; 32]))), (Some(1), None));
    }

    #[test]
    fn an_organisation_or_a_key_counts_once() {
        assert_eq!(ValidatorSet::new(vec![]), Err(NotValidators::Count { got: 0 }));
        let two = |first, second| ValidatorSet::new(vec![first, second]);
        assert_eq!(two(validator(1, 5), validator(1, 6)), Err(NotValidators::Order { index: 1 }));
        assert_eq!(two(validator(1, 5), validator(2, 5)), Err(NotValidators::SameKey { first: 0, second: 1 }));
        let many = |count: usize| {
            let id = |index: usize| [[(index / 256) as u8; 16], [(index % 256) as u8; 16]].concat();
            let id = |index: usize| <[u8; 32]>::try_from(id(index)).unwrap();
            (0..count).map(|at| Validator { member: MemberId(id(at)), key: ValidatorId(id(at)) }).collect::<Vec<_>>()
        };
        assert!(ValidatorSet::new(many(VALIDATORS_MAX)).is_ok());
        assert_eq!(ValidatorSet::new(many(VALIDATORS_MAX + 1)), Err(NotValidators::Count { got: 257 }));
        let mut short = two(validator(1, 5), validator(2, 6)).unwrap().to_message();
        short.validators[1].key = Bytes::from_static(&[1; 31]);
        let error = NotValidators::Length { what: "key", index: 1, got: 31 };
        assert_eq!(ValidatorSet::from_message(&short), Err(error));
    }
}
