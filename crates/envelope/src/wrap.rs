//! A catalog key sealed to an organisation: HPKE (RFC 9180), base mode, with the hybrid KEM X-Wing.
//!
//! X-Wing joins X25519 and ML-KEM-768, so that the key stays secret as long as one of the two holds
//! (draft-connolly-cfrg-xwing-kem; its HPKE code point 0x647a is in draft-ietf-hpke-pq).
//!
//! | offset | length | field |
//! |---|---|---|
//! | 0 | 1120 | the KEM's encapsulated key: ML-KEM-768 ciphertext, X25519 public key |
//! | 1120 | 32 | the catalog key, sealed |
//! | 1152 | 16 | Poly1305 tag |

use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::HkdfSha256;
use hpke::kem::{Kem, XWing};
use hpke::{Deserializable, OpModeR, OpModeS, Serializable};
use zeroize::Zeroizing;

use crate::{CatalogKey, KEY_LEN};

/// Bytes of an organisation's X-Wing public key.
pub const RECIPIENT_LEN: usize = 1216;

/// Bytes of the encapsulated key.
const ENCAPSULATION_LEN: usize = 1120;

/// Bytes of a wrapped key.
pub const WRAP_LEN: usize = ENCAPSULATION_LEN + KEY_LEN + crate::SEAL_OVERHEAD;

/// HPKE's `info`: what is wrapped, and in which version of this format.
const INFO: &[u8] = b"bithealth wrap v1";

type PrivateKey = <XWing as Kem>::PrivateKey;
type PublicKey = <XWing as Kem>::PublicKey;
type Encapsulation = <XWing as Kem>::EncappedKey;

/// Why a key could not be wrapped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WrapError {
    /// The recipient's key is not as long as an X-Wing public key is.
    #[error("a recipient key of {got} bytes, an X-Wing public key has {RECIPIENT_LEN}")]
    RecipientLength {
        /// Bytes that came.
        got: usize,
    },
    /// The recipient's key is none: a coefficient of its ML-KEM part is not reduced (FIPS 203, section 7.2).
    #[error("the recipient key has the length of an X-Wing public key, but is none")]
    NotARecipient,
}

/// Why a wrapped key could not be unwrapped.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum UnwrapError {
    /// Not as long as a wrapped key is.
    #[error("a wrapped key of {got} bytes, {WRAP_LEN} are due")]
    Length {
        /// Bytes that came.
        got: usize,
    },
    /// Wrapped for another organisation or context, or damaged: HPKE cannot tell these apart.
    #[error("the wrapped key is for another organisation or another pack, or damaged")]
    NotForUs,
}

/// Seals `key` to the organisation with the X-Wing public key `recipient`. It unwraps with the same `context` only.
///
/// Anybody can wrap; who did is said by the signature over the entry that carries the wrapped key.
///
/// # Errors
/// [`WrapError`] if `recipient` is no X-Wing public key.
pub fn wrap(recipient: &[u8], key: &CatalogKey, context: &[u8]) -> Result<Vec<u8>, WrapError> {
    if recipient.len() != RECIPIENT_LEN {
        return Err(WrapError::RecipientLength { got: recipient.len() });
    }
    let recipient = PublicKey::from_bytes(recipient).map_err(|_| WrapError::NotARecipient)?;
    let (encapsulation, sealed) = hpke::single_shot_seal::<ChaCha20Poly1305, HkdfSha256, XWing>(
        &OpModeS::Base,
        &recipient,
        INFO,
        key.expose(),
        context,
    )
    .expect("a decoded key encapsulates, and the first message of a context is within all limits");
    Ok([encapsulation.to_bytes().as_slice(), &sealed].concat())
}

/// An organisation's X-Wing key pair. The private key is a seed of 32 bytes, wiped on drop.
pub(crate) struct Recipient {
    private: PrivateKey,
    public: Vec<u8>,
}

impl Recipient {
    /// The pair that HPKE's `DeriveKeyPair` makes from `seed`: always the same.
    pub(crate) fn derive(seed: &[u8; 32]) -> Self {
        let (private, public) = XWing::derive_keypair(seed);
        Self { private, public: public.to_bytes().to_vec() }
    }

    /// The public key, of [`RECIPIENT_LEN`] bytes.
    pub(crate) fn public(&self) -> &[u8] {
        &self.public
    }

    /// Opens what [`wrap`] sealed to this key.
    pub(crate) fn unwrap(&self, wrapped: &[u8], context: &[u8]) -> Result<CatalogKey, UnwrapError> {
        if wrapped.len() != WRAP_LEN {
            return Err(UnwrapError::Length { got: wrapped.len() });
        }
        let (encapsulation, sealed) = wrapped.split_at(ENCAPSULATION_LEN);
        let encapsulation = Encapsulation::from_bytes(encapsulation).map_err(|_| UnwrapError::NotForUs)?;
        let key = hpke::single_shot_open::<ChaCha20Poly1305, HkdfSha256, XWing>(
            &OpModeR::Base,
            &self.private,
            &encapsulation,
            INFO,
            sealed,
            context,
        )
        .map_err(|_| UnwrapError::NotForUs)?;
        Ok(CatalogKey::from_slice(&Zeroizing::new(key)).expect("the length of the whole was checked"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn recipient(seed: u8) -> Recipient {
        Recipient::derive(&[seed; 32])
    }

    fn key() -> CatalogKey {
        CatalogKey::from_bytes([0x5A; 32])
    }

    #[test]
    fn a_wrapped_key_opens_for_its_recipient() {
        let wrapped = wrap(recipient(1).public(), &key(), b"salt").unwrap();
        assert_eq!(wrapped.len(), WRAP_LEN);
        assert_eq!(recipient(1).unwrap(&wrapped, b"salt").unwrap().expose(), key().expose());
    }

    #[test]
    fn two_wraps_of_one_key_share_nothing() {
        let first = wrap(recipient(1).public(), &key(), b"salt").unwrap();
        let second = wrap(recipient(1).public(), &key(), b"salt").unwrap();
        assert_ne!(first[..ENCAPSULATION_LEN], second[..ENCAPSULATION_LEN]);
        assert_ne!(first[ENCAPSULATION_LEN..], second[ENCAPSULATION_LEN..]);
    }

    #[test]
    fn another_organisation_does_not_unwrap() {
        let wrapped = wrap(recipient(1).public(), &key(), b"salt").unwrap();
        assert_eq!(recipient(2).unwrap(&wrapped, b"salt").unwrap_err(), UnwrapError::NotForUs);
    }

    #[test]
    fn a_wrap_moved_to_another_pack_does_not_unwrap() {
        let wrapped = wrap(recipient(1).public(), &key(), b"salt").unwrap();
        assert_eq!(recipient(1).unwrap(&wrapped, b"other").unwrap_err(), UnwrapError::NotForUs);
        assert_eq!(recipient(1).unwrap(&wrapped, b"").unwrap_err(), UnwrapError::NotForUs);
    }

    #[test]
    fn a_wrap_of_another_length_is_refused() {
        let wrapped = wrap(recipient(1).public(), &key(), b"salt").unwrap();
        let longer = [&wrapped[..], &[0]].concat();
        for wrong in [&wrapped[..0], &wrapped[..WRAP_LEN - 1], &longer] {
            assert_eq!(recipient(1).unwrap(wrong, b"salt").unwrap_err(), UnwrapError::Length { got: wrong.len() });
        }
    }

    #[test]
    fn a_recipient_of_another_length_is_refused() {
        for got in [0, 32, RECIPIENT_LEN - 1, RECIPIENT_LEN + 1] {
            assert_eq!(wrap(&vec![1; got], &key(), b""), Err(WrapError::RecipientLength { got }));
        }
    }

    #[test]
    fn a_recipient_whose_coefficients_are_not_reduced_is_refused() {
        assert_eq!(wrap(&[0xFF; RECIPIENT_LEN], &key(), b""), Err(WrapError::NotARecipient));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn any_flipped_bit_is_refused(flip: prop::sample::Index) {
            let mut wrapped = wrap(recipient(1).public(), &key(), b"salt").unwrap();
            let bit = flip.index(wrapped.len() * 8);
            wrapped[bit / 8] ^= 1 << (bit % 8);
            prop_assert_eq!(recipient(1).unwrap(&wrapped, b"salt").unwrap_err(), UnwrapError::NotForUs);
        }
    }
}
