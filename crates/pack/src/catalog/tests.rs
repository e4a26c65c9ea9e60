use bithealth_merkle::leaf_hash;
use bytes::Bytes;

use super::*;
use proptest::prelude::*;

const SALT: PackSalt = [3; 32];

fn key() -> CatalogKey {
    CatalogKey::from_bytes([9; 32])
}

fn row(folder: u8, name: String) -> CatalogRow {
    CatalogRow { folder: Bytes::from(vec![folder; 16]), name, ..CatalogRow::default() }
}

fn seal(rows: Vec<CatalogRow>, pack_len: usize) -> SealedCatalog {
    seal_catalog(&key(), &SALT, rows, pack_len, |folder| (folder.0[0] == 2).then_some([7; 32]))
}

/// Seals any plaintext as a catalog of one part.
fn seal_plain(plain: &[u8]) -> Vec<u8> {
    let nonce = [1; NONCE_LEN];
    let sealer = sealer(&key(), &SALT, &nonce);
    let mut part = plain.to_vec();
    sealer.seal(Part::Catalog { index: 0, last: true }, &mut part);
    [&nonce[..], &sealer.commitment(), &part].concat()
}

fn plain(frame_len: u32, len: u32, rest: &[u8]) -> Vec<u8> {
    [&frame_len.to_le_bytes()[..], &len.to_le_bytes(), rest].concat()
}

#[test]
fn a_catalog_opens_with_its_rows_and_the_heads_its_root_commits_to() {
    let rows = vec![row(2, "a".into()), row(1, "b".into()), row(2, "c".into())];
    let sealed = seal(rows.clone(), 12_345);
    let catalog = open_catalog(&key(), &SALT, &sealed.sealed).unwrap();
    assert_eq!(catalog.rows, rows);
    let heads: Vec<_> =
        catalog.heads.iter().map(|head| (head.folder[0], head.record_count, head.previous.len())).collect();
    assert_eq!(heads, [(1, 1, 0), (2, 2, 32)]);
    assert_ne!(catalog.heads[0].salt, catalog.heads[1].salt);
    assert_eq!(heads_root(&catalog.heads, &catalog.rows), sealed.heads_root);
}

#[test]
fn two_closings_of_one_pack_share_no_keys() {
    let [one, other] = [1, 2].map(|folder| seal(vec![row(folder, "a".into())], 0).sealed);
    assert_ne!(one[..FRONT_LEN], other[..FRONT_LEN], "random bytes and commitment differ");
}

#[test]
fn another_key_or_salt_is_told_from_changed_bytes() {
    let mut sealed = seal(vec![row(1, "a".into())], 0).sealed;
    let other = CatalogKey::from_bytes([8; 32]);
    assert_eq!(open_catalog(&other, &SALT, &sealed), Err(CatalogError::OtherKey));
    assert_eq!(open_catalog(&key(), &[4; 32], &sealed), Err(CatalogError::OtherKey));
    *sealed.last_mut().unwrap() ^= 1;
    assert_eq!(open_catalog(&key(), &SALT, &sealed), Err(CatalogError::Forged { part: 0 }));
}

#[test]
fn a_catalog_of_several_parts_opens_and_names_the_changed_one() {
    let mut sealed = seal(vec![row(1, "a".into())], (15 << 20) + 1).sealed;
    assert!(open_catalog(&key(), &SALT, &sealed).is_ok());
    let parts = part_lens(sealed.len()).unwrap().count();
    assert!(parts >= 1);
    let long = seal((0..6_000).map(|n| row((n % 250) as u8, noise(n))).collect(), 0);
    sealed = long.sealed;
    assert!(part_lens(sealed.len()).unwrap().count() > 1, "{}", sealed.len());
    assert_eq!(open_catalog(&key(), &SALT, &sealed).unwrap().rows, long.rows);
    let second = FRONT_LEN + part_lens(sealed.len()).unwrap().next().unwrap() + SEAL_OVERHEAD;
    sealed[second] ^= 1;
    assert_eq!(open_catalog(&key(), &SALT, &sealed), Err(CatalogError::Forged { part: 1 }));
}

/// A text that does not compress well.
fn noise(seed: u32) -> String {
    let text = |word: u32| leaf_hash(&[seed.to_le_bytes(), word.to_le_bytes()].concat()).to_string();
    (0..3).map(text).collect()
}

#[test]
fn every_shorter_catalog_is_refused() {
    for got in [0, 1, FRONT_LEN, CATALOG_LEN_MIN - 1] {
        let refused = open_catalog(&key(), &SALT, &vec![0; got]);
        assert_eq!(refused, Err(CatalogError::TooShort { got, min: CATALOG_LEN_MIN }));
    }
    assert_eq!(open_catalog(&key(), &SALT, &[0; CATALOG_LEN_MIN]), Err(CatalogError::OtherKey));
}

#[test]
fn false_lengths_in_a_catalog_are_refused() {
    let open = |plain: Vec<u8>| open_catalog(&key(), &SALT, &seal_plain(&plain));
    assert_eq!(open(plain(5, 1, b"four")), Err(CatalogError::TooLong { got: 5, max: 4 }));
    let got = CATALOG_LEN_MAX + 1;
    assert_eq!(open(plain(4, got as u32, b"four")), Err(CatalogError::TooLong { got, max: CATALOG_LEN_MAX }));
    assert_eq!(open(plain(4, 1, b"four")), Err(CatalogError::Frame { want: 1 }));
    let frame = compress_plain(b"abc");
    assert_eq!(open(plain(frame.len() as u32, 2, &frame)), Err(CatalogError::Frame { want: 2 }));
    let refused = open(plain(frame.len() as u32, 3, &frame));
    assert!(matches!(refused, Err(CatalogError::Decode(_))), "{refused:?}");
}

#[test]
fn padding_that_hides_something_is_refused() {
    let frame = compress_plain(b"");
    let open = |padding: &[u8]| {
        let rest = [&frame[..], padding].concat();
        open_catalog(&key(), &SALT, &seal_plain(&plain(frame.len() as u32, 0, &rest)))
    };
    assert_eq!(open(&[0; 9]), Ok(v1::Catalog::default()));
    assert_eq!(open(&[0, 0, 7]), Err(CatalogError::Padding { at: 2 }));
}

#[test]
fn no_length_makes_a_pack_longer_than_it_may_be() {
    for content_len in [LENGTHS_LEN, 1000, PART_LEN_MAX - 1, PART_LEN_MAX, PART_LEN_MAX + 1, 3 * PART_LEN_MAX] {
        let least = FRONT_LEN + content_len + part_count(content_len) * SEAL_OVERHEAD;
        for spare in 0..40 {
            let pack_len = PACK_LEN_MAX - least - SEAL_OVERHEAD - spare;
            assert_eq!(padded_len(pack_len, content_len), PACK_LEN_MAX, "{content_len} {spare}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]
    #[test]
    fn a_pack_with_its_catalog_has_a_padme_length_and_opens(
        pack_len in prop_oneof![0_usize..5000, 0_usize..15 << 20],
        names in prop::collection::vec("[a-z]{0,40}", 0..30),
    ) {
        let rows: Vec<_> = names.into_iter().zip(0_u8..).map(|(name, folder)| row(folder, name)).collect();
        let sealed = seal(rows.clone(), pack_len).sealed;
        let len = (pack_len + sealed.len()) as u64;
        prop_assert_eq!(padme(len), len);
        prop_assert!(len <= PACK_LEN_MAX as u64);
        prop_assert_eq!(open_catalog(&key(), &SALT, &sealed).unwrap().rows, rows);
    }

    #[test]
    fn parts_hold_what_the_lengths_leave(sealed_len in CATALOG_LEN_MIN..3 * SEALED_PART_LEN_MAX) {
        if let Some(lens) = part_lens(sealed_len) {
            let lens: Vec<_> = lens.collect();
            let sum: usize = lens.iter().map(|len| len + SEAL_OVERHEAD).sum();
            prop_assert_eq!(sum + FRONT_LEN, sealed_len);
            prop_assert!(lens.iter().all(|len| *len > 0 && *len <= PART_LEN_MAX));
        }
    }
}
