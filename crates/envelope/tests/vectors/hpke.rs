//! HPKE: the vectors of RFC 9180 (DHKEM X25519) and of draft-ietf-hpke-pq (X-Wing), with ChaCha20-Poly1305.
//!
//! Both sides run: the sender, with the vector's randomness in place of the system's, must write the vector's bytes, and
//! the receiver must open them.

use std::convert::Infallible;
use std::io::Read;

use flate2::read::GzDecoder;
use hpke::aead::ChaCha20Poly1305;
use hpke::kdf::{HkdfSha256, Kdf, KdfShake256};
use hpke::kem::{Kem, X25519HkdfSha256, XWing};
use hpke::rand_core::{TryCryptoRng, TryRng};
use hpke::{Deserializable, OpModeR, OpModeS, PskBundle, Serializable, setup_receiver, setup_sender_with_rng};
use serde_json::Value;

use super::data::{hex, read, read_json};

// Code points: RFC 9180 section 7, draft-ietf-hpke-pq.
const X25519: u64 = 0x0020;
const XWING: u64 = 0x647a;
const HKDF_SHA256: u64 = 0x0001;
const SHAKE256: u64 = 0x0011;
const CHACHA20_POLY1305: u64 = 0x0003;

#[test]
fn rfc_9180_with_x25519_gives_what_its_vectors_say() {
    let Some(bytes) = read("hpke/rfc9180-x25519-hkdfsha256.json.gz") else {
        return;
    };
    let mut text = String::new();
    GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    // One for each mode. The others are the same modes with AES-128-GCM, which we neither use nor build.
    let ran = run_all(&vectors, X25519, |vector| match code(vector, "kdf_id") {
        HKDF_SHA256 => run::<HkdfSha256, X25519HkdfSha256>(vector),
        other => panic!("key derivation function {other:#06x}"),
    });
    assert_eq!((vectors.len(), ran), (8, Ran { vectors: 4, encryptions: 24, exports: 12 }));
}

#[test]
fn x_wing_gives_what_its_vectors_say() {
    let Some(Value::Array(vectors)) = read_json("hpke/hpke-pq-draft.json") else {
        return;
    };
    // The others are of other KEMs.
    let ran = run_all(&vectors, XWING, |vector| match code(vector, "kdf_id") {
        HKDF_SHA256 => run::<HkdfSha256, XWing>(vector),
        SHAKE256 => run::<KdfShake256, XWing>(vector),
        other => panic!("key derivation function {other:#06x}"),
    });
    assert_eq!((vectors.len(), ran), (13, Ran { vectors: 2, encryptions: 20, exports: 10 }));
    assert_eq!(vectors.iter().filter(|vector| code(vector, "kem_id") == XWING).count(), ran.vectors);
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Ran {
    vectors: usize,
    encryptions: usize,
    exports: usize,
}

fn run_all(vectors: &[Value], kem: u64, run: impl Fn(&Value) -> (usize, usize)) -> Ran {
    let mut ran = Ran::default();
    let ours = |vector: &&Value| code(vector, "kem_id") == kem && code(vector, "aead_id") == CHACHA20_POLY1305;
    for vector in vectors.iter().filter(ours) {
        let (encryptions, exports) = run(vector);
        ran.vectors += 1;
        ran.encryptions += encryptions;
        ran.exports += exports;
    }
    ran
}

fn code(vector: &Value, field: &str) -> u64 {
    vector[field].as_u64().unwrap()
}

/// Runs one vector; how many encryptions and exports it held.
fn run<D: Kdf, K: Kem>(vector: &Value) -> (usize, usize) {
    let pair = |name: &str| {
        let (private, public) = K::derive_keypair(&hex(vector, &format!("ikm{name}")));
        // X25519 ignores five bits of a private key, which the vectors keep and our crate clears: compare what follows.
        let same = K::PrivateKey::from_bytes(&hex(vector, &format!("sk{name}m"))).unwrap();
        for public in [&public, &K::sk_to_pk(&private), &K::sk_to_pk(&same)] {
            assert_eq!(public.to_bytes()[..], hex(vector, &format!("pk{name}m")));
        }
        (private, public)
    };
    let mode = code(vector, "mode");
    let psk = (mode % 2 == 1).then(|| (hex(vector, "psk"), hex(vector, "psk_id")));
    let bundle = || {
        let (psk, id) = psk.as_ref().expect("modes 1 and 3 have a pre-shared key");
        PskBundle::new(psk, id).unwrap()
    };
    let (private, public) = pair("R");
    let (mode_s, mode_r) = match mode {
        0 => (OpModeS::Base, OpModeR::Base),
        1 => (OpModeS::Psk(bundle()), OpModeR::Psk(bundle())),
        2 => (OpModeS::Auth(pair("S")), OpModeR::Auth(pair("S").1)),
        3 => (OpModeS::AuthPsk(pair("S"), bundle()), OpModeR::AuthPsk(pair("S").1, bundle())),
        other => panic!("mode {other}"),
    };
    let info = hex(vector, "info");

    let mut randomness = Fixed(hex(vector, "ikmE"));
    let (encapsulated, mut sender) =
        setup_sender_with_rng::<ChaCha20Poly1305, D, K>(&mode_s, &public, &info, &mut randomness).unwrap();
    assert!(randomness.0.is_empty(), "all of ikmE was drawn");
    assert_eq!(encapsulated.to_bytes()[..], hex(vector, "enc"));
    let encapsulated = K::EncappedKey::from_bytes(&hex(vector, "enc")).unwrap();
    let mut receiver = setup_receiver::<ChaCha20Poly1305, D, K>(&mode_r, &private, &encapsulated, &info).unwrap();

    let base_nonce = hex(vector, "base_nonce");
    let encryptions = vector["encryptions"].as_array().unwrap();
    for (sequence, encryption) in encryptions.iter().enumerate() {
        let nonce: Vec<u8> = base_nonce.iter().zip(&sequence_bytes(sequence)).map(|(a, b)| a ^ b).collect();
        assert_eq!(nonce, hex(encryption, "nonce"), "encryptions follow each other");
        let (plaintext, aad, sealed) = (hex(encryption, "pt"), hex(encryption, "aad"), hex(encryption, "ct"));
        assert_eq!(sender.seal(&plaintext, &aad).unwrap(), sealed);
        assert_eq!(receiver.open(&sealed, &aad).unwrap(), plaintext);
    }
    let exports = vector["exports"].as_array().unwrap();
    for export in exports {
        let mut got = vec![0; export["L"].as_u64().unwrap() as usize];
        let context = hex(export, "exporter_context");
        sender.export(&context, &mut got).unwrap();
        assert_eq!(got, hex(export, "exported_value"));
        receiver.export(&context, &mut got).unwrap();
        assert_eq!(got, hex(export, "exported_value"));
    }
    (encryptions.len(), exports.len())
}

fn sequence_bytes(sequence: usize) -> [u8; 12] {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&(sequence as u64).to_be_bytes());
    bytes
}

/// Gives out the randomness of a vector, and no byte more.
struct Fixed(Vec<u8>);

impl TryRng for Fixed {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        unreachable!("a KEM draws bytes")
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        unreachable!("a KEM draws bytes")
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        let rest = self.0.split_off(bytes.len());
        bytes.copy_from_slice(&self.0);
        self.0 = rest;
        Ok(())
    }
}

impl TryCryptoRng for Fixed {}
