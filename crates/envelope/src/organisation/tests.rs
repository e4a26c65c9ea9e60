use data_encoding::HEXLOWER;
use proptest::prelude::*;
use sha2::Digest as _;

use super::*;
use crate::{RECIPIENT_LEN, SignatureError, verify, wrap};

fn keys(secret: u8) -> OrganisationKeys {
    OrganisationKeys::derive(&OrganisationSecret::from_bytes([secret; 32]))
}

#[test]
fn one_secret_always_gives_the_same_keys() {
    let (before, restored) = (keys(1), keys(1));
    assert_eq!(before.member(), restored.member());
    assert_eq!(before.recipient(), restored.recipient());
    assert_eq!(before.catalog_key(&[3; 32]).expose(), restored.catalog_key(&[3; 32]).expose());
    assert_eq!(before.folder("A-17", "imaging"), restored.folder("A-17", "imaging"));
    assert_eq!(restored.open_private(&before.seal_private(b"kept")).unwrap(), b"kept");
}

#[test]
fn two_secrets_share_nothing() {
    let (one, other) = (keys(1), keys(2));
    assert_ne!(one.member(), other.member());
    assert_ne!(one.recipient(), other.recipient());
    assert_ne!(one.catalog_key(&[3; 32]).expose(), other.catalog_key(&[3; 32]).expose());
    assert_ne!(one.folder("A-17", "imaging"), other.folder("A-17", "imaging"));
    let folder = one.folder("A-17", "imaging");
    assert_ne!(one.content_tag(&folder, &Digest([4; 32])), other.content_tag(&folder, &Digest([4; 32])));
    assert_eq!(other.open_private(&one.seal_private(b"kept")), Err(OpenError::PrivateRefused));
}

#[test]
fn every_secret_is_its_own() {
    let keys = KeySet::derive(&OrganisationSecret::from_bytes([1; 32]));
    let mut all = [*keys.catalog, *keys.folder, *keys.content, *keys.private, keys.signing.to_bytes()];
    all.sort();
    assert!(all.windows(2).all(|pair| pair[0] != pair[1]) && !all.contains(&[1; 32]));
}

#[test]
fn a_member_signs_under_its_id() {
    let (member, signature) = (keys(1).member(), keys(1).sign(b"record"));
    assert_eq!(verify(member.as_bytes(), b"record", &signature), Ok(()));
    let public = keys(2).member().0;
    assert_eq!(verify(&public, b"record", &signature), Err(SignatureError::Refused { public }));
}

#[test]
fn a_wrapped_catalog_key_opens_for_its_organisation_only() {
    let (author, reader, stranger) = (keys(1), keys(2), keys(3));
    assert_eq!(reader.recipient().len(), RECIPIENT_LEN);
    let salt = [9; 32];
    let key = author.catalog_key(&salt);
    let wrapped = wrap(&reader.recipient(), &key, &salt).unwrap();
    assert_eq!(reader.unwrap(&wrapped, &salt).unwrap().expose(), key.expose());
    assert_eq!(stranger.unwrap(&wrapped, &salt).unwrap_err(), UnwrapError::NotForUs);
    assert_eq!(author.unwrap(&wrapped, &salt).unwrap_err(), UnwrapError::NotForUs);
}

#[test]
fn with_a_new_secret_it_is_the_same_organisation_and_what_was_sealed_before_opens() {
    let (before, salt) = (keys(1), [9; 32]);
    let [first, second, third] = [1, 2, 3].map(|secret| OrganisationSecret::from_bytes([secret; 32]));
    let after = OrganisationKeys::with_former(&third, &[second, first]);
    assert_eq!(after.member(), before.member());
    assert_eq!(after.keys().collect::<Vec<_>>(), [3, 2, 1].map(|secret| keys(secret).member().0));
    assert_eq!(after.folder("A-17", "imaging"), before.folder("A-17", "imaging"));
    let folder = before.folder("A-17", "imaging");
    assert_eq!(after.content_tag(&folder, &Digest([4; 32])), before.content_tag(&folder, &Digest([4; 32])));
    let wrapped = wrap(&before.recipient(), &before.catalog_key(&salt), &salt).unwrap();
    assert_eq!(after.unwrap(&wrapped, &salt).unwrap().expose(), before.catalog_key(&salt).expose());
    assert_eq!(after.open_private(&before.seal_private(b"kept")).unwrap(), b"kept");
    let opens = |key: &CatalogKey| after.catalog_keys(&salt).any(|it| it.expose() == key.expose());
    assert!(opens(&before.catalog_key(&salt)) && opens(&keys(2).catalog_key(&salt)) && !opens(&CatalogKey::random()));

    // What is new is closed to who holds the former secret only.
    assert_eq!((after.key(), after.recipient()), (keys(3).key(), keys(3).recipient()));
    assert_eq!(before.open_private(&after.seal_private(b"new")), Err(OpenError::PrivateRefused));
    assert_ne!(after.catalog_key(&salt).expose(), before.catalog_key(&salt).expose());
    let wrapped = wrap(&after.recipient(), &after.catalog_key(&salt), &salt).unwrap();
    assert_eq!(before.unwrap(&wrapped, &salt).unwrap_err(), UnwrapError::NotForUs);

    // Until the others know of the new ones it goes on with those before.
    assert!(after.use_key(&before.key()) && !after.use_key(&before.key()) && !after.use_key(&[7; 32]));
    assert_eq!((after.key(), after.recipient()), (before.key(), before.recipient()));
    assert_eq!(verify(&before.key(), b"record", &after.sign(b"record")), Ok(()));
    let likeliest = after.catalog_keys(&salt).next().unwrap();
    assert_eq!(likeliest.expose(), before.catalog_key(&salt).expose());
}

#[test]
fn two_packs_have_two_catalog_keys() {
    assert_ne!(keys(1).catalog_key(&[1; 32]).expose(), keys(1).catalog_key(&[2; 32]).expose());
}

#[test]
fn patient_and_category_do_not_run_into_each_other() {
    let keys = keys(1);
    let folders = [keys.folder("ab", "c"), keys.folder("a", "bc"), keys.folder("abc", ""), keys.folder("", "abc")];
    for (index, folder) in folders.iter().enumerate() {
        assert!(!folders[..index].contains(folder));
    }
}

#[test]
fn a_content_tag_finds_a_document_in_its_own_folder_only() {
    let keys = keys(1);
    let (here, there) = (keys.folder("A-17", "imaging"), keys.folder("A-18", "imaging"));
    let digest = Digest([4; 32]);
    assert_eq!(keys.content_tag(&here, &digest), keys.content_tag(&here, &digest));
    assert_ne!(keys.content_tag(&here, &digest), keys.content_tag(&there, &digest));
    assert_ne!(keys.content_tag(&here, &digest), keys.content_tag(&here, &Digest([5; 32])));
}

#[test]
fn private_data_of_equal_content_looks_different() {
    let (one, two) = (keys(1).seal_private(b"same"), keys(1).seal_private(b"same"));
    assert_ne!(one, two);
    assert_eq!(one.len(), 4 + PRIVATE_OVERHEAD);
}

#[test]
fn private_data_too_short_to_be_sealed_is_refused() {
    for got in [0, PRIVATE_SALT_LEN, PRIVATE_OVERHEAD - 1] {
        assert_eq!(keys(1).open_private(&vec![0; got]), Err(OpenError::TooShort { got, min: PRIVATE_OVERHEAD }));
    }
    assert_eq!(keys(1).open_private(&keys(1).seal_private(b"")).unwrap(), b"");
}

#[test]
fn organisations_print_no_secret() {
    assert_eq!(format!("{:?}", OrganisationSecret::from_bytes([7; 32])), "OrganisationSecret(…)");
    assert_eq!(format!("{:?}", keys(7)), "OrganisationKeys(…)");
    assert_ne!(OrganisationSecret::random().expose(), OrganisationSecret::random().expose());
}

/// What these vectors are derived from.
fn keys_of_the_vectors() -> OrganisationKeys {
    OrganisationKeys::derive(&OrganisationSecret::from_bytes(std::array::from_fn(|index| index as u8)))
}

/// A restored organisation must find its keys again, so none of these may ever change. Computed apart from this code,
/// from the labels above, with another library.
#[test]
fn the_derivation_is_the_one_described() {
    let keys = keys_of_the_vectors();
    let folder = keys.folder("A-17", "imaging");
    let got = [
        keys.member().to_string(),
        HEXLOWER.encode(&Sha256::digest(keys.recipient())),
        HEXLOWER.encode(keys.catalog_key(&[3; 32]).expose()),
        folder.to_string(),
        HEXLOWER.encode(&keys.content_tag(&folder, &Digest([4; 32]))),
    ];
    let want = [
        "4e807ecc2847d8be05d20582bf7d9508a62c1f94ae01500940768bc5c99bed24",
        "8cc8e35a8ca36e93f5025acba767e150458ea3be215123937ccbb8e7ff05c0fd",
        "e72e76c82b04792c3210d5743636a1f91c68244d167b6ff478d8a5108f46125c",
        "99b0f60739df3944796983ee117bcd9c",
        "ac2c2fbddd1516103eb7b07fb34a4f96",
    ];
    assert_eq!(got, want);
}

/// Sealed apart from this code, under a salt of 32 times 5.
#[test]
fn private_data_of_the_first_version_opens() {
    let sealed = ["05".repeat(32).as_str(), "69cd3546a9fa785614ad8774bcd1f3baa354f18e"].concat();
    let sealed = HEXLOWER.decode(sealed.as_bytes()).unwrap();
    assert_eq!(keys_of_the_vectors().open_private(&sealed).unwrap(), b"kept");
}

/// Wrapped apart from this code, with another library's ML-KEM-768, X25519 and HKDF.
#[test]
fn a_wrap_of_the_first_version_opens() {
    let text: String = include_str!("../../vectors/wrap_v1.hex").split_whitespace().collect();
    let wrapped = HEXLOWER.decode(text.as_bytes()).unwrap();
    assert_eq!(keys_of_the_vectors().unwrap(&wrapped, &[3; 32]).unwrap().expose(), &[6; 32]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn private_data_opens_and_any_flipped_bit_is_refused(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        flip: prop::sample::Index,
    ) {
        let keys = keys(1);
        let mut sealed = keys.seal_private(&bytes);
        prop_assert_eq!(keys.open_private(&sealed).unwrap(), bytes);
        let bit = flip.index(sealed.len() * 8);
        sealed[bit / 8] ^= 1 << (bit % 8);
        prop_assert_eq!(keys.open_private(&sealed), Err(OpenError::PrivateRefused));
    }

    #[test]
    fn folders_of_different_texts_differ(one in ("[a-c]{0,3}", "[a-c]{0,3}"), two in ("[a-c]{0,3}", "[a-c]{0,3}")) {
        let keys = keys(1);
        prop_assert_eq!(one == two, keys.folder(&one.0, &one.1) == keys.folder(&two.0, &two.1));
    }
}
