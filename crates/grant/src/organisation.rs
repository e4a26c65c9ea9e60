//! Sealing to whole organisations.

use bithealth_envelope::{CatalogKey, OrganisationKeys, WrapError, wrap};
use bithealth_types::MemberId;

use crate::{READERS_MAX, Readers, Sealing};

/// Why a key could not be wrapped for all readers.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrantError {
    /// The ledger's key of this organisation receives nothing.
    #[error("organisation {member} cannot receive a key: {error}")]
    Recipient {
        /// The organisation.
        member: MemberId,
        /// What is wrong with its key.
        error: WrapError,
    },
}

/// Why a pack stays closed to us.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotGranted {
    /// None of the wraps is for our organisation, or the one that is came from another pack.
    #[error("the pack is sealed to its author and {organisations} other organisations, and ours is none of them")]
    NoneIsOurs {
        /// Organisations it is sealed to, beside its author's.
        organisations: usize,
    },
    /// More wraps than an honest author writes; trying each would let anybody keep us busy.
    #[error("the pack claims to be sealed to {organisations} organisations, at most {READERS_MAX} are possible")]
    TooMany {
        /// Wraps that came.
        organisations: usize,
    },
}

/// Seals a pack to whole organisations: the author's derives the key from its secret, every other reader unwraps it.
///
/// The author needs no wrap, and so finds its packs again with nothing but its recovery kit.
#[derive(Debug)]
pub struct OrganisationSealing<'a> {
    keys: &'a OrganisationKeys,
    readers: Readers,
}

impl<'a> OrganisationSealing<'a> {
    /// Seals and opens with these keys; what is sealed is for these readers, and always for ourselves.
    pub fn new(keys: &'a OrganisationKeys, readers: Readers) -> Self {
        Self { keys, readers }
    }

    /// Who, beside ourselves, reads what is sealed.
    pub fn readers(&self) -> &Readers {
        &self.readers
    }
}

impl Sealing for OrganisationSealing<'_> {
    fn catalog_key(&self, salt: &[u8; 32]) -> CatalogKey {
        self.keys.catalog_key(salt)
    }

    fn wraps(&self, salt: &[u8; 32], key: &CatalogKey) -> Result<Vec<Vec<u8>>, GrantError> {
        let ours = self.keys.member();
        self.readers
            .recipients()
            .filter(|(member, _)| *member != ours)
            .map(|(member, recipient)| {
                wrap(recipient, key, salt).map_err(|error| GrantError::Recipient { member, error })
            })
            .collect()
    }

    fn open(
        &self,
        salt: &[u8; 32],
        author_is_ours: bool,
        wraps: &[impl AsRef<[u8]>],
    ) -> Result<CatalogKey, NotGranted> {
        if author_is_ours {
            return Ok(self.catalog_key(salt));
        }
        let organisations = wraps.len();
        if organisations > READERS_MAX {
            return Err(NotGranted::TooMany { organisations });
        }
        // A wrap does not say for whom it is, so that the ledger does not tell who reads; each is tried.
        wraps
            .iter()
            .find_map(|wrap| self.keys.unwrap(wrap.as_ref(), salt).ok())
            .ok_or(NotGranted::NoneIsOurs { organisations })
    }
}

#[cfg(test)]
mod tests {
    use bithealth_envelope::{OrganisationSecret, RECIPIENT_LEN};
    use proptest::prelude::*;

    use super::*;

    const SALT: [u8; 32] = [0x5A; 32];
    const OTHER_SALT: [u8; 32] = [0x5B; 32];
    const NO_WRAPS: [Vec<u8>; 0] = [];

    fn organisation(secret: u8) -> OrganisationKeys {
        OrganisationKeys::derive(&OrganisationSecret::from_bytes([secret; 32]))
    }

    fn readers(organisations: &[&OrganisationKeys]) -> Readers {
        Readers::new(organisations.iter().map(|keys| (keys.member(), keys.recipient())).collect()).unwrap()
    }

    /// The wraps of a pack that `author` seals to `organisations`.
    fn sealed_to(author: &OrganisationKeys, organisations: &[&OrganisationKeys]) -> Vec<Vec<u8>> {
        let sealing = OrganisationSealing::new(author, readers(organisations));
        sealing.wraps(&SALT, &sealing.catalog_key(&SALT)).unwrap()
    }

    fn opened(reader: &OrganisationKeys, wraps: &[Vec<u8>]) -> Result<[u8; 32], NotGranted> {
        let sealing = OrganisationSealing::new(reader, Readers::none());
        sealing.open(&SALT, false, wraps).map(|key| *key.expose())
    }

    #[test]
    fn every_reader_opens_what_was_sealed_to_it() {
        let (author, clinic, laboratory) = (organisation(1), organisation(2), organisation(3));
        let wraps = sealed_to(&author, &[&clinic, &laboratory]);
        assert_eq!(wraps.len(), 2);
        let key = *author.catalog_key(&SALT).expose();
        assert_eq!(opened(&clinic, &wraps), Ok(key));
        assert_eq!(opened(&laboratory, &wraps), Ok(key));
    }

    #[test]
    fn an_organisation_that_is_no_reader_opens_nothing() {
        let wraps = sealed_to(&organisation(1), &[&organisation(2), &organisation(3)]);
        let refused = opened(&organisation(4), &wraps).unwrap_err();
        assert_eq!(refused, NotGranted::NoneIsOurs { organisations: 2 });
        assert_eq!(
            refused.to_string(),
            "the pack is sealed to its author and 2 other organisations, and ours is none of them"
        );
    }

    #[test]
    fn the_author_opens_its_own_packs_without_a_wrap() {
        let author = organisation(1);
        let sealing = OrganisationSealing::new(&author, Readers::none());
        let key = sealing.open(&SALT, true, &NO_WRAPS).unwrap();
        assert_eq!(key.expose(), sealing.catalog_key(&SALT).expose());
        assert_eq!(sealing.wraps(&SALT, &key), Ok(Vec::new()));
    }

    #[test]
    fn a_pack_for_nobody_else_stays_closed_to_others() {
        assert_eq!(opened(&organisation(2), &NO_WRAPS), Err(NotGranted::NoneIsOurs { organisations: 0 }));
    }

    /// The ledger says who the author is; claiming another's pack as ours gives a key that opens nothing of it.
    #[test]
    fn calling_a_foreign_pack_ours_does_not_give_its_key() {
        let (author, other) = (organisation(1), organisation(2));
        let claimed = OrganisationSealing::new(&other, Readers::none()).open(&SALT, true, &NO_WRAPS).unwrap();
        assert_ne!(claimed.expose(), author.catalog_key(&SALT).expose());
    }

    #[test]
    fn the_author_among_its_readers_gets_no_wrap() {
        let (author, clinic) = (organisation(1), organisation(2));
        assert_eq!(sealed_to(&author, &[&author, &clinic]).len(), 1);
    }

    #[test]
    fn a_wrap_of_another_pack_opens_nothing() {
        let (author, clinic) = (organisation(1), organisation(2));
        let wraps = sealed_to(&author, &[&clinic]);
        let sealing = OrganisationSealing::new(&clinic, Readers::none());
        let refused = sealing.open(&OTHER_SALT, false, &wraps).unwrap_err();
        assert_eq!(refused, NotGranted::NoneIsOurs { organisations: 1 });
    }

    #[test]
    fn a_damaged_or_foreign_wrap_does_not_hide_ours() {
        let (author, clinic) = (organisation(1), organisation(2));
        let mut wraps = vec![vec![], vec![0; 5], vec![0xFF; 1168]];
        wraps.extend(sealed_to(&author, &[&organisation(3), &clinic]));
        assert_eq!(opened(&clinic, &wraps), Ok(*author.catalog_key(&SALT).expose()));
    }

    #[test]
    fn more_wraps_than_an_author_writes_are_not_tried() {
        let (author, clinic) = (organisation(1), organisation(2));
        let with_ours = |others: usize| [vec![vec![]; others], sealed_to(&author, &[&clinic])].concat();
        assert!(opened(&clinic, &with_ours(READERS_MAX - 1)).is_ok());
        assert_eq!(
            opened(&clinic, &with_ours(READERS_MAX)),
            Err(NotGranted::TooMany { organisations: READERS_MAX + 1 })
        );
    }

    #[test]
    fn a_reader_with_a_key_that_is_none_is_named() {
        let author = organisation(1);
        let member = MemberId([9; 32]);
        let readers = Readers::new(vec![(member, vec![0xFF; RECIPIENT_LEN])]).unwrap();
        let sealing = OrganisationSealing::new(&author, readers);
        let error = GrantError::Recipient { member, error: WrapError::NotARecipient };
        assert_eq!(sealing.wraps(&SALT, &sealing.catalog_key(&SALT)), Err(error));
    }

    #[test]
    fn who_seals_prints_no_secret() {
        let author = organisation(1);
        let text = format!("{:?}", OrganisationSealing::new(&author, Readers::none()));
        assert_eq!(text, "OrganisationSealing { keys: OrganisationKeys(…), readers: Readers { organisations: [] } }");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(16))]

        #[test]
        fn exactly_the_readers_open(chosen in prop::collection::vec(any::<bool>(), 5)) {
            let author = organisation(0);
            let organisations: Vec<OrganisationKeys> = (1..=5).map(organisation).collect();
            let readers: Vec<&OrganisationKeys> =
                organisations.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(keys, _)| keys).collect();
            let wraps = sealed_to(&author, &readers);
            for (keys, chosen) in organisations.iter().zip(chosen) {
                prop_assert_eq!(opened(keys, &wraps).is_ok(), chosen);
            }
        }
    }
}
