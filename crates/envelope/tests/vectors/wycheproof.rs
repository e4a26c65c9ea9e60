//! Wycheproof: vectors of edge cases and of past mistakes, each with the answer that is due.

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, Nonce, UnboundKey};
use bithealth_envelope::verify;
use hkdf::Hkdf;
use hmac::{Hmac, KeyInit, Mac};
use ml_kem::kem::{Decapsulate, KeyExport};
use ml_kem::{DecapsulationKey768, EncapsulationKey768, Seed, ml_kem_768};
use serde_json::Value;
use sha2::Sha256;

use super::data::{hex, read_json};

/// What a primitive answered to a vector.
enum Answer {
    Accepted,
    Refused,
    /// Accepted, with a result that is not the one due.
    Wrong,
}

impl Answer {
    fn compare<T: PartialEq + ?Sized>(got: &T, want: &T) -> Self {
        if got == want { Self::Accepted } else { Self::Wrong }
    }
}

/// Asks for every vector of a file, and checks that the answers are the due ones and that none was left out.
fn run(name: &str, count: u64, answer: impl Fn(&Value, &Value) -> Answer) {
    let Some(file) = read_json(&format!("wycheproof/{name}_test.json")) else {
        return;
    };
    let mut ran = 0;
    for group in file["testGroups"].as_array().unwrap() {
        for test in group["tests"].as_array().unwrap() {
            let due = test["result"].as_str().unwrap();
            let is_due = match answer(group, test) {
                Answer::Accepted => matches!(due, "valid" | "acceptable"),
                Answer::Refused => matches!(due, "invalid"),
                Answer::Wrong => false,
            };
            assert!(is_due, "{name} {}: {} ({}) is {due}", test["tcId"], test["comment"], test["flags"]);
            ran += 1;
        }
    }
    assert_eq!((ran, file["numberOfTests"].as_u64().unwrap()), (count, count), "vectors of {name}");
}

#[test]
fn chacha20_poly1305_answers_as_due() {
    run("chacha20_poly1305", 325, |_, test| {
        let (Ok(key), Ok(nonce)) = (<[u8; 32]>::try_from(hex(test, "key")), <[u8; 12]>::try_from(hex(test, "iv")))
        else {
            return Answer::Refused; // a nonce of another length is no `Nonce`
        };
        let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &key).unwrap());
        let nonce = || Nonce::assume_unique_for_key(nonce);
        let (message, aad) = (hex(test, "msg"), hex(test, "aad"));
        let sealed = [hex(test, "ct"), hex(test, "tag")].concat();
        let mut opened = sealed.clone();
        let Ok(opened) = cipher.open_in_place(nonce(), Aad::from(&aad), &mut opened) else {
            return Answer::Refused;
        };
        let mut again = message.clone();
        cipher.seal_in_place_append_tag(nonce(), Aad::from(&aad), &mut again).unwrap();
        Answer::compare(&(&*opened, &*again), &(&*message, &*sealed))
    });
}

/// Strict verification refuses none of the valid ones: the file has no valid signature with a key or commitment of small
/// order, which is all that strict refuses beyond RFC 8032.
#[test]
fn ed25519_answers_as_due() {
    run("ed25519", 151, |group, test| {
        let public = hex(&group["publicKey"], "pk").try_into().unwrap();
        match verify(&public, &hex(test, "msg"), &hex(test, "sig")) {
            Ok(()) => Answer::Accepted,
            Err(_) => Answer::Refused,
        }
    });
}

#[test]
fn hkdf_sha256_answers_as_due() {
    run("hkdf_sha256", 86, |_, test| {
        let mut output = vec![0; test["size"].as_u64().unwrap() as usize];
        let hkdf = Hkdf::<Sha256>::new(Some(&hex(test, "salt")), &hex(test, "ikm"));
        match hkdf.expand(&hex(test, "info"), &mut output) {
            Ok(()) => Answer::compare(&output, &hex(test, "okm")),
            Err(_) => Answer::Refused,
        }
    });
}

#[test]
fn hmac_sha256_answers_as_due() {
    run("hmac_sha256", 174, |group, test| {
        let mut mac = Hmac::<Sha256>::new_from_slice(&hex(test, "key")).unwrap();
        mac.update(&hex(test, "msg"));
        let (tag, len) = (hex(test, "tag"), group["tagSize"].as_u64().unwrap() as usize / 8);
        assert_eq!(tag.len(), len);
        match mac.verify_truncated_left(&tag) {
            Ok(()) => Answer::Accepted,
            Err(_) => Answer::Refused,
        }
    });
}

/// X25519 as X-Wing uses it: a function of any two strings of 32 bytes (RFC 7748). The shared secrets of low-order keys
/// are zero and "acceptable": X-Wing hashes them together with the public key and the secret of ML-KEM.
#[test]
fn x25519_answers_as_due() {
    run("x25519", 518, |_, test| {
        let (private, public) = (hex(test, "private").try_into().unwrap(), hex(test, "public").try_into().unwrap());
        Answer::compare(&x25519_dalek::x25519(private, public)[..], &hex(test, "shared"))
    });
}

#[test]
fn ml_kem_768_decapsulates_as_due() {
    run("mlkem_768", 193, |_, test| {
        let Ok(seed) = Seed::try_from(&hex(test, "seed")[..]) else {
            return Answer::Refused;
        };
        let key = DecapsulationKey768::from_seed(seed);
        let Ok(ciphertext) = ml_kem_768::Ciphertext::try_from(&hex(test, "c")[..]) else {
            return Answer::Refused;
        };
        let got = (key.encapsulation_key().to_bytes().to_vec(), key.decapsulate(&ciphertext).to_vec());
        Answer::compare(&got, &(hex(test, "ek"), hex(test, "K")))
    });
}

#[test]
fn ml_kem_768_encapsulates_as_due() {
    run("mlkem_768_encaps", 265, |_, test| {
        let Ok(key) = hex(test, "ek")[..].try_into() else {
            return Answer::Refused;
        };
        let Ok(key) = EncapsulationKey768::new(&key) else {
            return Answer::Refused;
        };
        let (ciphertext, shared) = key.encapsulate_deterministic(&hex(test, "m")[..].try_into().unwrap());
        Answer::compare(&(ciphertext.to_vec(), shared.to_vec()), &(hex(test, "c"), hex(test, "K")))
    });
}
