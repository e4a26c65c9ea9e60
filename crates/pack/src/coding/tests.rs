use super::*;
use bithealth_types::CHUNK_LEN;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

const SALT: PackSalt = [3; 32];

fn pack(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; padme(len as u64) as usize];
    ChaCha8Rng::seed_from_u64(len as u64).fill_bytes(&mut bytes);
    bytes
}

fn code(k: u32, n: u32) -> Code {
    Code::new(k, n).unwrap()
}

/// All n shards of a coded pack.
fn shards(code: Code, pack: &[u8], coded: &CodedPack) -> Vec<Vec<u8>> {
    let data = (0..code.k()).map(|shard| data_shard(code, pack, ShardIndex(shard)).into_owned());
    data.chain(coded.parity.iter().map(|shard| shard.to_vec())).collect()
}

fn coded(k: u32, n: u32, len: usize) -> (Code, Vec<u8>, CodedPack, Vec<Vec<u8>>) {
    let (code, pack) = (code(k, n), pack(len));
    let coded = encode(code, &SALT, CATALOG_LEN_MIN as u64, &pack).unwrap();
    let shards = shards(code, &pack, &coded);
    (code, pack, coded, shards)
}

fn pick<'a>(shards: &'a [Vec<u8>], chosen: &[usize]) -> Vec<(ShardIndex, &'a [u8])> {
    chosen.iter().map(|shard| (ShardIndex(*shard as u16), &shards[*shard][..])).collect()
}

#[test]
fn the_first_shards_are_the_pack_and_zeros() {
    let (code, pack, coded, shards) = coded(4, 9, 300_000);
    let mut joined = shards[..4].concat();
    assert!(joined[pack.len()..].iter().all(|byte| *byte == 0));
    joined.truncate(pack.len());
    assert_eq!(joined, pack);
    assert_eq!(shards.len(), 9);
    for (shard, tree) in shards.iter().zip(&coded.trees) {
        assert_eq!(shard.len() as u64, code.shard_len(pack.len() as u64));
        assert_eq!(LeafTree::from_shard(shard).root(), tree.root());
    }
    assert_eq!(crate::check_descriptor(&coded.descriptor), Ok(code));
    assert_eq!(coded.id, coded.descriptor.id());
}

/// The parity of old packs must never change with a library.
#[test]
fn the_code_is_the_one_that_packs_were_always_coded_with() {
    let roots = |k, n| coded(k, n, 300_000).2.trees[n as usize - 1].root().to_string();
    assert_eq!([roots(4, 9), roots(2, 3), roots(10, 14), roots(1, 3)], LAST_ROOTS);
}

const LAST_ROOTS: [&str; 4] = [
    "ab15df5ebf331ec71ace34631f8537f205a498c21fb12b8fb384d6207b07ab19",
    "141efdae770bfae6fed22cdb41d98d3272f924e9ba2ef1c3c9a4f08f0eb19a4c",
    "4224aad68f60dbbed2ac412bf4bbd9787c33150c5d1c3b532746615c125bc4dc",
    "20c1ee208cb260f6b39a0509d3194221fad72a9f464447f81f75758785a1b746",
];

#[test]
fn codes_without_parity_and_of_copies_are_decoded_too() {
    for (k, n) in [(1, 1), (1, 3), (3, 3)] {
        let (_, pack, coded, shards) = coded(k, n, 40_000);
        for first in 0..=(n - k) as usize {
            let chosen: Vec<usize> = (first..first + k as usize).collect();
            assert!(decode(&coded.descriptor, &pick(&shards, &chosen)).as_ref() == Ok(&pack), "{k} of {n}");
        }
    }
}

#[test]
fn copies_share_their_bytes() {
    let (_, _, coded, _) = coded(1, 3, 40_000);
    assert_eq!(coded.parity[0].as_ptr(), coded.parity[1].as_ptr());
}

#[test]
fn lengths_of_no_pack_are_not_coded() {
    let encode = |len: usize, catalog| encode(code(4, 9), &SALT, catalog, &vec![0; len]).err();
    let max = PACK_LEN_MAX as u64;
    let (min, len) = (CATALOG_LEN_MIN as u64, 1 << 20);
    assert_eq!(encode(0, min), Some(CodeError::Catalog { got: min, len: 0, min }));
    assert_eq!(encode(1001, min), Some(CodeError::Length { got: 1001, want: 1024, max }));
    let over = padme(max + 1);
    assert_eq!(encode(over as usize, min), Some(CodeError::Length { got: over, want: over, max }));
    assert_eq!(encode(1 << 20, min - 1), Some(CodeError::Catalog { got: min - 1, len, min }));
    assert_eq!(encode(1 << 20, len + 1), Some(CodeError::Catalog { got: len + 1, len, min }));
    assert_eq!(encode(1 << 20, len), None);
}

#[test]
#[should_panic(expected = "is no data shard")]
fn parity_is_not_cut_from_a_pack() {
    data_shard(code(4, 9), &[0; 100], ShardIndex(4));
}

#[test]
fn false_sets_of_shards_are_refused() {
    let (code, _, coded, shards) = coded(4, 9, 100_000);
    let decode = |shards: &[(ShardIndex, &[u8])]| decode(&coded.descriptor, shards).unwrap_err();
    assert_eq!(decode(&pick(&shards, &[1, 5, 8])), DecodeError::TooFew { got: 3, want: 4 });
    let twice = pick(&shards, &[1, 5, 8, 5]);
    assert_eq!(decode(&twice), DecodeError::Twice { shard: ShardIndex(5) });
    let mut beyond = pick(&shards, &[1, 5, 8, 2]);
    beyond[3].0 = ShardIndex(9);
    assert_eq!(decode(&beyond), DecodeError::NoSuchShard { shard: ShardIndex(9), count: 9, code });
    let mut short = pick(&shards, &[1, 5, 8, 2]);
    short[2].1 = &short[2].1[1..];
    let want = shards[0].len();
    assert_eq!(decode(&short), DecodeError::Length { shard: ShardIndex(8), got: want - 1, want });
    let mut descriptor = coded.descriptor.clone();
    descriptor.n = 3;
    let refused = super::decode(&descriptor, &pick(&shards, &[0, 1, 2, 3]));
    assert!(matches!(refused, Err(DecodeError::Descriptor(_))), "{refused:?}");
}

#[test]
fn a_shard_too_many_that_is_false_is_named_although_the_pack_is_right() {
    for false_shard in [3, 8] {
        let (_, _, coded, mut shards) = coded(4, 9, 100_000);
        *shards[false_shard].last_mut().unwrap() ^= 1;
        let all: Vec<usize> = (0..9).collect();
        let refused = decode(&coded.descriptor, &pick(&shards, &all)).unwrap_err();
        let shard = ShardIndex(false_shard as u16);
        assert!(matches!(refused, DecodeError::FalseShard { shard: named, .. } if named == shard), "{refused}");
    }
}

/// What an author can do: commit to a root that belongs to other bytes.
fn commit_falsely(coded: &mut CodedPack, shards: &mut [Vec<u8>], shard: usize, at: usize) {
    shards[shard][at] ^= 1;
    let root = LeafTree::from_shard(&shards[shard]).root();
    coded.descriptor.roots[shard] = Bytes::copy_from_slice(root.as_bytes());
}

#[test]
fn an_author_who_commits_to_a_false_shard_is_found_by_everybody() {
    for (k, n, false_shard) in [(4, 9, 6), (4, 9, 2), (1, 3, 2)] {
        let (_, _, mut coded, mut shards) = coded(k, n, 100_000);
        commit_falsely(&mut coded, &mut shards, false_shard, 0);
        let n = n as usize;
        for first in 0..n {
            let chosen: Vec<usize> = (first..first + k as usize).map(|shard| shard % n).collect();
            let refused = decode(&coded.descriptor, &pick(&shards, &chosen)).unwrap_err();
            assert!(matches!(refused, DecodeError::Inconsistent { .. }), "{refused}");
        }
    }
}

#[test]
fn an_author_who_hides_bytes_behind_the_pack_is_found() {
    let (code, _, mut coded, mut shards) = coded(4, 9, 100_000);
    let behind = (coded.descriptor.len % code.shard_len(coded.descriptor.len)) as usize;
    commit_falsely(&mut coded, &mut shards, 3, behind.max(1));
    let refused = decode(&coded.descriptor, &pick(&shards, &[0, 1, 2, 3])).unwrap_err();
    assert!(matches!(refused, DecodeError::Inconsistent { shard: ShardIndex(3), .. }), "{refused}");
}

#[test]
fn false_runs_are_refused() {
    let (code, _, _, shards) = coded(4, 9, 100_000);
    let wanted = [ShardIndex(0)];
    let decode = |runs: &[(ShardIndex, &[u8])]| decode_rows(code, &wanted, runs).unwrap_err();
    assert_eq!(decode(&[]), DecodeError::TooFew { got: 0, want: 4 });
    assert_eq!(decode(&pick(&shards, &[1, 2, 3])), DecodeError::TooFew { got: 3, want: 4 });
    let half = &shards[1][..LEAF_LEN / 2];
    let partial = DecodeError::Length { shard: ShardIndex(1), got: LEAF_LEN / 2, want: LEAF_LEN };
    assert_eq!(decode(&[(ShardIndex(1), half)]), partial);
    assert_eq!(decode(&[(ShardIndex(1), b"")]), DecodeError::Length { shard: ShardIndex(1), got: 0, want: LEAF_LEN });
    let mut uneven = pick(&shards, &[1, 2, 3, 4]);
    uneven[3].1 = &uneven[3].1[LEAF_LEN..];
    let want = shards[0].len();
    assert_eq!(decode(&uneven), DecodeError::Length { shard: ShardIndex(4), got: want - LEAF_LEN, want });
    let none = decode_rows(code, &[ShardIndex(9)], &pick(&shards, &[1, 2, 3, 4])).unwrap_err();
    assert_eq!(none, DecodeError::NoSuchShard { shard: ShardIndex(9), count: 9, code });
}

/// A code and k of its shards.
fn code_and_shards() -> impl Strategy<Value = (u32, u32, Vec<usize>)> {
    (1_u32..8, 0_u32..8).prop_flat_map(|(k, parity)| {
        let all: Vec<usize> = (0..(k + parity) as usize).collect();
        (Just(k), Just(k + parity), prop::sample::subsequence(all, k as usize).prop_shuffle())
    })
}

/// How parity follows from data depends on how many there are of both, and what was found for one code is remembered.
#[test]
fn the_same_shards_of_another_code_are_other_sums() {
    for n in [5, 6, 9, 12, 40] {
        let (code, _, _, shards) = coded(4, n, 4 * LEAF_LEN);
        let rows = decode_rows(code, &[ShardIndex(0)], &pick(&shards, &[1, 2, 3, 4])).unwrap();
        assert!(rows[0] == shards[0], "4 of {n}");
    }
}

#[test]
fn each_shard_of_a_wide_code_is_the_sum_of_any_others() {
    let (code, _, _, shards) = coded(70, 100, 70 * LEAF_LEN);
    for from in [0, 15, 30] {
        let chosen: Vec<usize> = (from..from + 70).collect();
        let given = pick(&shards, &chosen);
        for wanted in [0, 31, 32, 69, 70, 99].map(ShardIndex) {
            let rows = decode_rows(code, &[wanted], &given).unwrap();
            assert!(rows[0] == shards[usize::from(wanted.0)], "{wanted} of those from {from} on");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_k_shards_restore_the_pack(
        (k, n, chosen) in code_and_shards(),
        len in prop_oneof![100_usize..1000, 1000_usize..3 * CHUNK_LEN],
    ) {
        let (_, pack, coded, shards) = coded(k, n, len);
        prop_assert!(decode(&coded.descriptor, &pick(&shards, &chosen)) == Ok(pack), "{} of {}: {:?}", k, n, chosen);
    }

    #[test]
    fn a_flipped_bit_in_any_shard_is_refused_and_the_shard_named(
        (k, n, chosen) in code_and_shards(),
        which in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let (_, _, coded, mut shards) = coded(k, n, 70_000);
        let false_shard = chosen[which.index(chosen.len())];
        let len = shards[0].len();
        shards[false_shard][at.index(len)] ^= 1_u8 << bit;
        let refused = decode(&coded.descriptor, &pick(&shards, &chosen));
        let shard = ShardIndex(false_shard as u16);
        let named = matches!(refused, Err(DecodeError::FalseShard { shard: named, .. }) if named == shard);
        prop_assert!(named, "{:?}", refused);
    }

    #[test]
    fn restored_rows_are_slices_of_the_shards(
        (k, n, chosen) in code_and_shards(),
        first in 0_usize..6,
        leaves in 1_usize..7,
        count in 1_usize..15,
    ) {
        let (code, _, coded, shards) = coded(k, n, 12 * LEAF_LEN * k as usize);
        let run = first * LEAF_LEN..(first + leaves).min(coded.trees[0].hashes().len()) * LEAF_LEN;
        let runs: Vec<_> = chosen.iter().map(|shard| (ShardIndex(*shard as u16), &shards[*shard][run.clone()])).collect();
        let wanted: Vec<_> = (0..code.n()).rev().map(ShardIndex).take(count).collect();
        let rows = decode_rows(code, &wanted, &runs).unwrap();
        for (shard, row) in wanted.iter().zip(rows) {
            prop_assert!(row == shards[usize::from(shard.0)][run.clone()], "{}", shard);
        }
    }
}
