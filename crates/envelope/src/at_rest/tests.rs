use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;

const SECRET: &[u8] = b"node seed and organisation secret";
const PASSPHRASE: Unlock<'_> = Unlock::Passphrase("five random words are better");
const KEY_FILE: Unlock<'_> = Unlock::KeyFile(&[0xC3; KEY_FILE_LEN_MIN]);

fn sealed(unlock: Unlock<'_>) -> Sealed {
    seal_at_rest_with(SECRET, unlock, Cost::weak_for_tests()).unwrap()
}

#[test]
fn a_secret_opens_with_what_it_was_sealed_under() {
    assert_eq!(*open_at_rest(&sealed(PASSPHRASE), PASSPHRASE).unwrap(), SECRET);
    assert_eq!(*open_at_rest(&sealed(KEY_FILE), KEY_FILE).unwrap(), SECRET);
}

#[test]
fn a_secret_is_sealed_at_the_standard_cost_unless_told_otherwise() {
    let sealed = seal_at_rest(SECRET, PASSPHRASE).unwrap();
    assert_eq!((sealed.memory_kib, sealed.passes), (64 * 1024, 3));
    assert_eq!(*open_at_rest(&sealed, PASSPHRASE).unwrap(), SECRET);
}

#[test]
fn the_standard_cost_is_above_the_owasp_floor_and_within_what_a_file_may_ask() {
    let Cost { memory_kib, passes } = Cost::STANDARD;
    assert!((19 * 1024..=MEMORY_KIB_MAX).contains(&memory_kib) && (2..=PASSES_MAX).contains(&passes));
}

#[test]
fn two_seals_of_one_secret_share_nothing() {
    for unlock in [PASSPHRASE, KEY_FILE] {
        let (one, two) = (sealed(unlock), sealed(unlock));
        assert_ne!(one.salt, two.salt);
        assert_ne!(one.bytes[..32], two.bytes[..32]);
        assert_ne!(one.bytes[32..], two.bytes[32..]);
    }
}

#[test]
fn a_wrong_passphrase_is_told() {
    for wrong in ["five random words are bettes", "", "five random words are better "] {
        let error = open_at_rest(&sealed(PASSPHRASE), Unlock::Passphrase(wrong)).unwrap_err();
        assert_eq!(error, AtRestError::WrongPassphrase);
    }
}

#[test]
fn a_wrong_key_file_is_told() {
    for wrong in [&[0xC4; 32][..], &[], &[0xC3; 31], &[0xC3; 33]] {
        assert_eq!(open_at_rest(&sealed(KEY_FILE), Unlock::KeyFile(wrong)), Err(AtRestError::WrongKeyFile));
    }
}

#[test]
fn a_key_file_in_place_of_a_passphrase_is_told() {
    assert_eq!(open_at_rest(&sealed(PASSPHRASE), KEY_FILE), Err(AtRestError::NeedsPassphrase));
}

#[test]
fn a_passphrase_in_place_of_a_key_file_is_told() {
    assert_eq!(open_at_rest(&sealed(KEY_FILE), PASSPHRASE), Err(AtRestError::NeedsKeyFile));
}

/// The same bytes as passphrase and as key file are two keys.
#[test]
fn a_file_marked_as_the_other_kind_does_not_open() {
    let text = "thirty-two bytes, as a key has..";
    let marked = Sealed { memory_kib: 0, passes: 0, ..sealed(Unlock::Passphrase(text)) };
    assert_eq!(open_at_rest(&marked, Unlock::KeyFile(text.as_bytes())), Err(AtRestError::WrongKeyFile));
}

/// With these a file could take all memory, or hours; were anything computed, this test would not end.
#[test]
fn absurd_parameters_are_refused_before_memory_is_taken() {
    let most = u32::MAX;
    for (memory_kib, passes) in [
        (most, most),
        (most, 1),
        (MEMORY_KIB_MAX + 1, 1),
        (MEMORY_KIB_MAX, PASSES_MAX + 1),
        (8, most),
        (7, 1),
        (1, 1),
        (0, 1),
        (8, 0),
    ] {
        let absurd = Sealed { memory_kib, passes, ..sealed(PASSPHRASE) };
        for unlock in [PASSPHRASE, KEY_FILE] {
            assert_eq!(open_at_rest(&absurd, unlock), Err(AtRestError::Parameters { memory_kib, passes }));
        }
    }
}

#[test]
fn the_bounds_themselves_are_accepted() {
    for (memory_kib, passes) in [(8, 1), (MEMORY_KIB_MAX, PASSES_MAX)] {
        let cost = Sealed { memory_kib, passes, ..sealed(PASSPHRASE) }.cost();
        assert_eq!(cost, Ok(Some(Cost { memory_kib, passes })));
    }
}

#[test]
fn changed_parameters_within_bounds_do_not_open() {
    let changed = Sealed { passes: 2, ..sealed(PASSPHRASE) };
    assert_eq!(open_at_rest(&changed, PASSPHRASE), Err(AtRestError::WrongPassphrase));
}

#[test]
fn a_damaged_secret_is_told_from_a_wrong_passphrase() {
    for unlock in [PASSPHRASE, KEY_FILE] {
        let mut damaged = sealed(unlock);
        damaged.bytes[COMMITMENT_LEN] ^= 1;
        assert_eq!(open_at_rest(&damaged, unlock), Err(AtRestError::Damaged));
    }
}

#[test]
fn what_is_too_short_to_be_sealed_is_refused() {
    for got in [0, 31, 32, 47] {
        let short = Sealed { bytes: vec![0; got], ..sealed(KEY_FILE) };
        assert_eq!(open_at_rest(&short, KEY_FILE), Err(AtRestError::TooShort { got, min: 48 }));
    }
    let empty = seal_at_rest(b"", KEY_FILE).unwrap();
    assert_eq!(empty.bytes.len(), 48);
    assert_eq!(*open_at_rest(&empty, KEY_FILE).unwrap(), b"");
}

#[test]
fn a_short_passphrase_seals_nothing() {
    let seal = |passphrase| seal_at_rest_with(SECRET, Unlock::Passphrase(passphrase), Cost::weak_for_tests());
    assert_eq!(seal("seven 7"), Err(SealAtRestError::ShortPassphrase { got: 7 }));
    assert!(seal("eight  8").is_ok());
}

#[test]
fn a_short_key_file_seals_nothing() {
    assert_eq!(seal_at_rest(SECRET, Unlock::KeyFile(&[1; 31])), Err(SealAtRestError::ShortKeyFile { got: 31 }));
}

/// What the allocator's refusal becomes; to provoke one would disturb the machine.
#[test]
fn missing_memory_is_an_error_that_says_how_much_is_needed() {
    assert_eq!(stretched(Err(argon2::Error::OutOfMemory)), Err(OutOfMemory));
    let (sealing, opening) = (SealAtRestError::Memory { memory_kib: 65536 }, AtRestError::Memory { memory_kib: 65536 });
    assert_eq!(sealing.to_string(), "65536 KiB of memory are needed to seal under a passphrase, and are not free");
    assert_eq!(opening.to_string(), "65536 KiB of memory are needed to open, and are not free");
}

#[test]
fn what_unlocks_prints_as_its_kind_only() {
    assert_eq!(format!("{PASSPHRASE:?} {KEY_FILE:?}"), "Passphrase(…) KeyFile(…)");
}

/// RFC 9106, section 5.3.
#[test]
fn argon2id_gives_what_its_standard_says() {
    let params = argon2::ParamsBuilder::new()
        .m_cost(32)
        .t_cost(3)
        .p_cost(4)
        .data(argon2::AssociatedData::new(&[4; 12]).unwrap())
        .build()
        .unwrap();
    let argon2 = Argon2::new_with_secret(&[3; 8], Algorithm::Argon2id, Version::V0x13, params).unwrap();
    let mut tag = [0; 32];
    argon2.hash_password_into(&[1; 32], &[2; 16], &mut tag).unwrap();
    assert_eq!(HEXLOWER.encode(&tag), "0d640df58d78766c08c037a34a8b53c9d01ef0452d75b65eb52520e96b01e659");
}

/// Sealed apart from this code, from the formulas at the head of the module, with another library. It must open for ever.
#[test]
fn what_the_first_version_sealed_opens() {
    let sealed = |memory_kib, passes, hex: &str| Sealed {
        salt: [0x5A; 16],
        memory_kib,
        passes,
        bytes: HEXLOWER.decode(hex.as_bytes()).unwrap(),
    };
    assert_eq!(*open_at_rest(&sealed(8, 1, KAT_PASSPHRASE), PASSPHRASE).unwrap(), b"text");
    assert_eq!(*open_at_rest(&sealed(0, 0, KAT_KEY_FILE), KEY_FILE).unwrap(), b"text");
}

const KAT_PASSPHRASE: &str =
    "be384daf478d4ec25773811b1a93fabef0a2bdbc32900b8d2eea627908cb7ec0c7328ffdc099324b5b87e5da5780752e375b5365";
const KAT_KEY_FILE: &str =
    "ff52a0e6711eb8b10479e04fe6ef7fdbfcacc59ab5cad64d77fb760afed417faec1070be88086edec4e4dd0e58af17b61cfa7ff2";

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_flipped_bit_is_refused(flip: prop::sample::Index, by_file: bool) {
        let unlock = if by_file { KEY_FILE } else { PASSPHRASE };
        let mut damaged = sealed(unlock);
        let bit = flip.index((damaged.salt.len() + damaged.bytes.len()) * 8);
        let byte = bit / 8;
        match damaged.salt.get_mut(byte) {
            Some(salt) => *salt ^= 1 << (bit % 8),
            None => damaged.bytes[byte - 16] ^= 1 << (bit % 8),
        }
        let error = open_at_rest(&damaged, unlock).unwrap_err();
        let refused = [AtRestError::WrongPassphrase, AtRestError::WrongKeyFile, AtRestError::Damaged];
        prop_assert!(refused.contains(&error), "{error}");
    }
}
