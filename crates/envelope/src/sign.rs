//! Ed25519 signatures (RFC 8032), verified strictly.

use std::fmt;

use bithealth_types::NodeId;
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use zeroize::Zeroize;

use crate::random::random;

/// Bytes of a signature.
pub const SIGNATURE_LEN: usize = 64;

/// Why a signature was refused.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignatureError {
    /// Not as long as a signature is.
    #[error("a signature of {got} bytes, {SIGNATURE_LEN} are due")]
    Length {
        /// Bytes that came.
        got: usize,
    },
    /// The public key is no point of the curve, so nobody holds its secret.
    #[error("public key {} is no Ed25519 key", NodeId(*public))]
    NotAKey {
        /// The key that came.
        public: [u8; 32],
    },
    /// Not made by this key over this message.
    #[error("the signature is not by {} over this message", NodeId(*public))]
    Refused {
        /// The key it should have been made with.
        public: [u8; 32],
    },
}

/// Checks that the holder of `public` signed `message`.
///
/// Strict: beyond RFC 8032, keys and commitments of small order are refused, for which one signature can fit several
/// messages, and a scalar has one encoding, so nobody but the signer makes a second signature. All nodes must agree on
/// what is valid, and they do: there is no cofactor and no batch, whose answers may differ for crafted signatures.
///
/// # Errors
/// [`SignatureError`] says whether length, key or signature is wrong.
pub fn verify(public: &[u8; 32], message: &[u8], signature: &[u8]) -> Result<(), SignatureError> {
    let signature = Signature::from_slice(signature).map_err(|_| SignatureError::Length { got: signature.len() })?;
    let key = VerifyingKey::from_bytes(public).map_err(|_| SignatureError::NotAKey { public: *public })?;
    key.verify_strict(message, &signature).map_err(|_| SignatureError::Refused { public: *public })
}

/// What a node signs with: its author log, its place in the network.
pub struct NodeKey(SigningKey);

impl NodeKey {
    /// A new key, from the system's random source.
    pub fn random() -> Self {
        Self::from_seed(random())
    }

    /// The key that RFC 8032, section 5.1.5, makes from a seed.
    pub fn from_seed(mut seed: [u8; 32]) -> Self {
        let key = Self(SigningKey::from_bytes(&seed));
        seed.zeroize();
        key
    }

    /// The seed, to be sealed at rest.
    pub fn seed(&self) -> &[u8; 32] {
        self.0.as_bytes()
    }

    /// The public key, by which others know this node.
    pub fn id(&self) -> NodeId {
        NodeId(self.0.verifying_key().to_bytes())
    }

    /// Signs a message. The caller begins it with a label, so that no two kinds of message are ever equal.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_node_signs_verifies_under_its_id() {
        let key = NodeKey::random();
        assert_eq!(verify(key.id().as_bytes(), b"entry", &key.sign(b"entry")), Ok(()));
        assert_eq!(NodeKey::from_seed(*key.seed()).id(), key.id());
    }

    #[test]
    fn a_signature_of_another_length_is_refused() {
        let key = NodeKey::random();
        let signature = key.sign(b"entry");
        for got in [0, 63] {
            assert_eq!(verify(key.id().as_bytes(), b"entry", &signature[..got]), Err(SignatureError::Length { got }));
        }
        let longer = [&signature[..], &[0]].concat();
        assert_eq!(verify(key.id().as_bytes(), b"entry", &longer), Err(SignatureError::Length { got: 65 }));
    }

    #[test]
    fn a_key_that_is_no_point_is_refused() {
        // y = 2 has no x on the curve.
        let mut public = [0; 32];
        public[0] = 2;
        assert_eq!(verify(&public, b"entry", &[0; 64]), Err(SignatureError::NotAKey { public }));
    }

    #[test]
    fn the_neutral_key_that_fits_every_message_is_refused() {
        // A = R = the neutral element, S = 0: lenient verification accepts this for any message.
        let mut public = [0; 32];
        public[0] = 1;
        let mut signature = [0; 64];
        signature[0] = 1;
        assert_eq!(verify(&public, b"anything", &signature), Err(SignatureError::Refused { public }));
    }

    #[test]
    fn a_node_key_prints_as_its_name_only() {
        assert_eq!(format!("{:?}", NodeKey::from_seed([7; 32])), "NodeKey(…)");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn any_flipped_bit_of_signature_or_message_is_refused(
            seed: [u8; 32],
            message in prop::collection::vec(any::<u8>(), 1..64),
            flip: prop::sample::Index,
        ) {
            let key = NodeKey::from_seed(seed);
            let (public, signature) = (key.id().0, key.sign(&message));
            let mut both = [&signature[..], &message].concat();
            let bit = flip.index(both.len() * 8);
            both[bit / 8] ^= 1 << (bit % 8);
            let (signature, message) = both.split_at(SIGNATURE_LEN);
            prop_assert_eq!(verify(&public, message, signature), Err(SignatureError::Refused { public }));
        }

        #[test]
        fn another_key_is_refused(mine: [u8; 32], other: [u8; 32]) {
            prop_assume!(mine != other);
            let public = NodeKey::from_seed(other).id().0;
            let signature = NodeKey::from_seed(mine).sign(b"entry");
            prop_assert_eq!(verify(&public, b"entry", &signature), Err(SignatureError::Refused { public }));
        }
    }
}
