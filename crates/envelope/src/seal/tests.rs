use chacha20::cipher::{KeyIvInit, StreamCipher};
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit};
use data_encoding::HEXLOWER;
use num_bigint::BigUint;
use proptest::prelude::*;

use super::*;

const RECORD: &[u8] = &[0xA1; 16];

fn sealer(key: u8) -> Sealer {
    Sealer::new(&ContentKey::from_bytes([key; 32]), RECORD)
}

fn chunk(index: u32, last: bool) -> Part {
    Part::Chunk { index: ChunkIndex(index), last }
}

fn sealed(sealer: &Sealer, part: Part, plaintext: &[u8]) -> Vec<u8> {
    let mut buffer = plaintext.to_vec();
    sealer.seal(part, &mut buffer);
    buffer
}

fn opened(sealer: &Sealer, part: Part, sealed: &[u8]) -> Result<Vec<u8>, OpenError> {
    let mut buffer = sealed.to_vec();
    sealer.open(part, &mut buffer).map(|()| buffer)
}

fn any_part() -> impl Strategy<Value = Part> {
    // Few values, so that two draws often agree in all but one field.
    prop_oneof![
        (0..3u32, any::<bool>()).prop_map(|(index, last)| chunk(index, last)),
        Just(Part::Manifest),
        (0..3u32).prop_map(|index| Part::ManifestPart { index }),
        (0..3u32, any::<bool>()).prop_map(|(index, last)| Part::Catalog { index, last }),
    ]
}

#[test]
fn a_sealer_serves_many_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Sealer>();
    let sealer = sealer(1);
    std::thread::scope(|scope| {
        for index in 0..4 {
            let sealer = &sealer;
            scope.spawn(move || {
                let sealed = sealed(sealer, chunk(index, false), b"text");
                assert_eq!(opened(sealer, chunk(index, false), &sealed).unwrap(), b"text");
            });
        }
    });
}

#[test]
fn what_is_too_short_to_be_sealed_is_refused() {
    for got in [0, 1, SEAL_OVERHEAD - 1] {
        let error = opened(&sealer(1), Part::Manifest, &vec![0; got]).unwrap_err();
        assert_eq!(error, OpenError::TooShort { got, min: SEAL_OVERHEAD });
    }
    let empty = sealed(&sealer(1), Part::Manifest, b"");
    assert_eq!(empty.len(), SEAL_OVERHEAD);
    assert_eq!(opened(&sealer(1), Part::Manifest, &empty).unwrap(), b"");
}

proptest! {
    #[test]
    fn another_implementation_of_the_cipher_seals_and_opens_the_same(
        key in any::<[u8; 32]>(), aad in prop::collection::vec(any::<u8>(), 0..80),
        text in prop::collection::vec(any::<u8>(), 0..3000),
    ) {
        let (other, nonce) = (ChaCha20Poly1305::new(&key.into()), chacha20poly1305::Nonce::default());
        let mut ours = text.clone();
        seal_once(&key, &aad, &mut ours);
        prop_assert_eq!(&other.encrypt(&nonce, Payload { msg: &text, aad: &aad }).unwrap(), &ours);
        prop_assert_eq!(&other.decrypt(&nonce, Payload { msg: &ours, aad: &aad }).unwrap(), &text);
        prop_assert!(open_once(&key, &aad, &mut ours));
        prop_assert_eq!(ours, text);
    }
}

#[test]
fn the_commitment_tells_keys_apart() {
    let want = sealer(1).commitment();
    assert_eq!(sealer(1).check_commitment(&want), Ok(()));
    let got = sealer(2).commitment();
    assert_eq!(sealer(2).check_commitment(&want), Err(OpenError::OtherKey { got: Digest(got), want: Digest(want) }));
}

#[test]
fn a_key_and_a_subject_do_not_run_into_each_other() {
    let sealer = |subject: &[u8]| Sealer::new(&ContentKey::from_bytes([0; 32]), subject);
    assert_ne!(sealer(b"").commitment(), sealer(b"\0").commitment());
    assert_ne!(sealer(b"a").commitment(), sealer(b"a\0").commitment());
}

#[test]
fn a_part_is_named_in_its_error() {
    let error = opened(&sealer(1), chunk(7, true), &[0; 32]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "last chunk 7 does not open: it is damaged, from another place, or sealed under another key"
    );
}

#[test]
fn a_sealer_and_its_errors_print_no_key() {
    assert_eq!(format!("{:?}", sealer(0x42)), "Sealer(…)");
}

/// Holds the features on that let the primitives wipe their keys. The cipher's library wipes whatever it gives back.
#[test]
fn the_primitives_wipe_their_keys_on_drop() {
    fn wiped<T: zeroize::ZeroizeOnDrop>() {}
    wiped::<Sha256>(); // the whole state of HMAC and HKDF
    wiped::<ed25519_dalek::SigningKey>();
}

/// An invisible salamander: bytes with one tag that are valid under two keys. The AEAD accepts both; the commitment does
/// not, so an author cannot show two readers two texts.
#[test]
fn bytes_forged_to_open_under_two_keys_open_under_the_committed_one_only() {
    let (mine, other) = (sealer(1), sealer(2));
    let part = chunk(0, true);
    let forged = forge(&mine, &other, part);
    let (seen_by_one, seen_by_other) = (opened(&mine, part, &forged).unwrap(), opened(&other, part, &forged).unwrap());
    assert_ne!(seen_by_one, seen_by_other, "the forgery shows two texts");

    let committed = mine.commitment();
    assert_eq!(mine.check_commitment(&committed), Ok(()));
    assert!(matches!(other.check_commitment(&committed), Err(OpenError::OtherKey { .. })));
}

/// Two blocks of ciphertext and a tag that both keys accept: two linear equations over GF(2^130 - 5), one for each key.
fn forge(one: &Sealer, other: &Sealer, part: Part) -> Vec<u8> {
    let p = (BigUint::from(1u8) << 130u32) - 5u8;
    let high = BigUint::from(1u8) << 128u32;
    let aad = one.associated_data(part);
    let poly_key = |sealer: &Sealer| {
        let mut block = [0; 32];
        chacha20::ChaCha20::new((&*sealer.part_key(part)).into(), &[0; 12].into()).apply_keystream(&mut block);
        for (index, mask) in [(3, 15), (7, 15), (11, 15), (15, 15), (4, 252), (8, 252), (12, 252)] {
            block[index] &= mask;
        }
        (BigUint::from_bytes_le(&block[..16]), BigUint::from_bytes_le(&block[16..]))
    };
    let (r, s) = poly_key(one);
    let (r2, s2) = poly_key(other);
    // The polynomial without the two unknown blocks, whose powers are 3 and 2: the associated data stand before them,
    // the block of lengths behind.
    let known = |r: &BigUint| {
        let mut sum = BigUint::ZERO;
        for block in aad.chunks(16) {
            let mut padded = [0; 16];
            padded[..block.len()].copy_from_slice(block);
            sum = (sum + BigUint::from_bytes_le(&padded) + &high) * r % &p;
        }
        let lengths = [(aad.len() as u64).to_le_bytes(), 32u64.to_le_bytes()].concat();
        (sum * r * r * r + (BigUint::from_bytes_le(&lengths) + &high) * r) % &p
    };
    let inverse = |x: BigUint| x.modpow(&(&p - 2u8), &p);
    let minus = |a: BigUint, b: BigUint| (a % &p + &p - b % &p) % &p;
    for tag in 0u32.. {
        let due = |r: &BigUint, s: &BigUint| minus((BigUint::from(tag) + &high - s) % &high, known(r));
        // x r^3 + y r^2 = due(r), for r and r2: divided by r^2, a line through two points.
        let (v, v2) = (due(&r, &s) * inverse(&r * &r), due(&r2, &s2) * inverse(&r2 * &r2));
        let x = minus(v.clone(), v2) * inverse(minus(r.clone(), r2.clone())) % &p;
        let y = minus(v, &x * &r);
        let block = |x: &BigUint| {
            let bytes = (x >= &high).then(|| (x - &high).to_bytes_le()).filter(|bytes| bytes.len() <= 16)?;
            Some([bytes.clone(), vec![0; 16 - bytes.len()]].concat())
        };
        // Each block has 2^128 of about 2^130 values: one tag in 16 will do.
        if let (Some(x), Some(y)) = (block(&x), block(&y)) {
            return [x, y, u128::from(tag).to_le_bytes().to_vec()].concat();
        }
    }
    unreachable!("one tag in 16 will do")
}

/// Computed apart from this code, from the formulas at the head of the module, with HMAC-SHA-256 of another library.
#[test]
fn the_format_is_the_one_described() {
    let key = std::array::from_fn(|index| index as u8);
    let sealer = Sealer::new(&ContentKey::from_bytes(key), &[0xA1; 16]);
    assert_eq!(HEXLOWER.encode(&sealer.commitment()), KAT_COMMITMENT);
    for (part, want) in KAT_SEALED {
        assert_eq!(HEXLOWER.encode(&sealed(&sealer, part, b"text")), want, "{part}");
    }
}

const KAT_COMMITMENT: &str = "b90f374e705ca789e9f365cbd70ec2f233ac3fae7cc1a472908aa3bfa3c2de2e";
const KAT_SEALED: [(Part, &str); 5] = [
    (Part::Chunk { index: ChunkIndex(0), last: false }, "cd9b19a76c02e43780609138d14b8419483c4104"),
    (Part::Chunk { index: ChunkIndex(258), last: true }, "2ddff342abf385da59d6e45560987a566d6cdb50"),
    (Part::Manifest, "f01b0dd726a5bebc8dafa4ad366dcb02fc2b3655"),
    (Part::ManifestPart { index: 1 }, "84adcebb2125e39cd9392b2cb30c2d60377d295f"),
    (Part::Catalog { index: 0, last: true }, "64faae393e6f495429d0afa4aafaa16c79aeb593"),
];

proptest! {
    #[test]
    fn what_was_sealed_opens(part in any_part(), plaintext in prop::collection::vec(any::<u8>(), 0..600)) {
        let sealed = sealed(&sealer(1), part, &plaintext);
        prop_assert_eq!(sealed.len(), plaintext.len() + SEAL_OVERHEAD);
        prop_assert_eq!(opened(&sealer(1), part, &sealed).unwrap(), plaintext);
    }

    #[test]
    fn any_flipped_bit_is_refused(
        part in any_part(),
        plaintext in prop::collection::vec(any::<u8>(), 0..600),
        flip: prop::sample::Index,
    ) {
        let mut sealed = sealed(&sealer(1), part, &plaintext);
        let bit = flip.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(opened(&sealer(1), part, &sealed), Err(OpenError::Refused { part }));
    }

    #[test]
    fn a_cut_or_lengthened_part_is_refused(
        part in any_part(),
        plaintext in prop::collection::vec(any::<u8>(), 1..600),
        cut: prop::sample::Index,
        more in prop::collection::vec(any::<u8>(), 1..40),
    ) {
        let sealed = sealed(&sealer(1), part, &plaintext);
        let cut = SEAL_OVERHEAD + cut.index(plaintext.len());
        prop_assert_eq!(opened(&sealer(1), part, &sealed[..cut]), Err(OpenError::Refused { part }));
        prop_assert_eq!(opened(&sealer(1), part, &[sealed, more].concat()), Err(OpenError::Refused { part }));
    }

    /// Another kind, index or last mark.
    #[test]
    fn a_part_opens_at_its_own_place_only(part in any_part(), other in any_part()) {
        prop_assume!(part != other);
        let sealed = sealed(&sealer(1), part, b"text");
        prop_assert_eq!(opened(&sealer(1), other, &sealed), Err(OpenError::Refused { part: other }));
    }

    #[test]
    fn a_part_opens_for_its_own_subject_only(
        part in any_part(),
        mine in prop::collection::vec(any::<u8>(), 0..40),
        other in prop::collection::vec(any::<u8>(), 0..40),
    ) {
        prop_assume!(mine != other);
        let key = ContentKey::from_bytes([1; 32]);
        let sealed = sealed(&Sealer::new(&key, &mine), part, b"text");
        let other = Sealer::new(&key, &other);
        prop_assert_eq!(opened(&other, part, &sealed), Err(OpenError::Refused { part }));
    }

    #[test]
    fn another_key_is_refused_and_commits_to_something_else(part in any_part(), mine: [u8; 32], other: [u8; 32]) {
        prop_assume!(mine != other);
        let mine = Sealer::new(&ContentKey::from_bytes(mine), RECORD);
        let other = Sealer::new(&ContentKey::from_bytes(other), RECORD);
        let sealed = sealed(&mine, part, b"text");
        prop_assert_eq!(opened(&other, part, &sealed), Err(OpenError::Refused { part }));
        prop_assert_ne!(mine.commitment(), other.commitment());
    }

    #[test]
    fn a_commitment_says_nothing_that_opens(key: [u8; 32]) {
        let sealer = Sealer::new(&ContentKey::from_bytes(key), RECORD);
        prop_assert_ne!(sealer.commitment(), key);
        prop_assert_ne!(sealer.commitment(), *sealer.part_key(Part::Manifest));
    }
}
