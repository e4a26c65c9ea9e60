//! From verified leaves to the bytes of a pack.

use std::collections::HashMap;
use std::ops::Range;

use bithealth_pack::DecodeError;
use bithealth_types::{Code, LEAF_LEN, ShardIndex};
use bytes::Bytes;

/// The leaves of data shards that hold a range of a pack.
pub(super) fn leaves_of(code: Code, pack_len: u64, range: &Range<u64>) -> Vec<(ShardIndex, Range<u32>)> {
    let (shard_len, leaf_len) = (code.shard_len(pack_len), LEAF_LEN as u64);
    (range.start / shard_len..=(range.end - 1) / shard_len)
        .map(|shard| {
            let start = range.start.saturating_sub(shard * shard_len);
            let end = (range.end - shard * shard_len).min(shard_len);
            (ShardIndex(shard as u16), (start / leaf_len) as u32..end.div_ceil(leaf_len) as u32)
        })
        .collect()
}

/// Verified leaves, each 16 KiB, by shard and position.
pub(super) type LeafMap = HashMap<(ShardIndex, u32), Bytes>;

/// Leaves of data that were decoded: the shard, the row of the first, and their bytes.
pub(super) type Decoded = (ShardIndex, u32, Bytes);

/// What only needed leaves are decoded for.
pub(super) const NOBODY: Option<fn(Decoded)> = None;

/// The wanted leaves, one behind the other; those that did not come are decoded from their rows, with all other data of the
/// rows if somebody takes it.
pub(super) fn assemble(
    code: Code,
    leaves: &mut LeafMap,
    needed: &[(ShardIndex, Range<u32>)],
    mut taker: Option<impl FnMut(Decoded)>,
) -> Result<Vec<u8>, DecodeError> {
    let is_needed = |of: ShardIndex, row: u32| needed.iter().any(|(shard, rows)| *shard == of && rows.contains(&row));
    let len: usize = needed.iter().map(|(_, range)| range.len() * LEAF_LEN).sum();
    let mut bytes = Vec::with_capacity(len);
    for (shard, range) in needed {
        let mut at = range.start;
        while at < range.end {
            if let Some(leaf) = leaves.get(&(*shard, at)) {
                bytes.extend_from_slice(leaf);
                at += 1;
                continue;
            }
            let sources = sources(code, leaves, at);
            let end = (at + 1..range.end)
                .find(|row| {
                    leaves.contains_key(&(*shard, *row)) || !sources.iter().all(|it| leaves.contains_key(&(*it, *row)))
                })
                .unwrap_or(range.end);
            let missing = (0..code.k()).map(ShardIndex).filter(|other| other != shard && !sources.contains(other));
            let missing = missing.filter(|other| taker.is_some() || is_needed(*other, at));
            let wanted: Vec<_> = [*shard].into_iter().chain(missing).collect();
            let runs = decode_run(code, leaves, &wanted, &sources, at..end)?;
            bytes.extend_from_slice(&runs[0]);
            for (shard, run) in wanted.into_iter().zip(runs) {
                let run = Bytes::from(run);
                leaves.extend(cut(shard, at, &run));
                taker.iter_mut().for_each(|taker| taker((shard, at, run.clone())));
            }
            at = end;
        }
    }
    Ok(bytes)
}

/// The leaves of a run of a shard whose first lies at `row`.
pub(super) fn cut(shard: ShardIndex, row: u32, run: &Bytes) -> impl Iterator<Item = ((ShardIndex, u32), Bytes)> {
    let leaf = |index: usize| run.slice(index * LEAF_LEN..(index + 1) * LEAF_LEN);
    (row..).zip((0..run.len() / LEAF_LEN).map(leaf)).map(move |(row, leaf)| ((shard, row), leaf))
}

/// k shards whose leaf at `row` is here.
fn sources(code: Code, leaves: &LeafMap, row: u32) -> Vec<ShardIndex> {
    let here = (0..code.n()).map(ShardIndex).filter(|shard| leaves.contains_key(&(*shard, row)));
    here.take(usize::from(code.k())).collect()
}

fn decode_run(
    code: Code,
    leaves: &LeafMap,
    wanted: &[ShardIndex],
    sources: &[ShardIndex],
    rows: Range<u32>,
) -> Result<Vec<Vec<u8>>, DecodeError> {
    let column = |shard: &ShardIndex| {
        let mut bytes = Vec::with_capacity(rows.len() * LEAF_LEN);
        rows.clone().for_each(|row| bytes.extend_from_slice(&leaves[&(*shard, row)]));
        (*shard, bytes)
    };
    let columns: Vec<(ShardIndex, Vec<u8>)> = sources.iter().map(column).collect();
    let columns: Vec<(ShardIndex, &[u8])> = columns.iter().map(|(shard, run)| (*shard, run.as_slice())).collect();
    bithealth_pack::decode_rows(code, wanted, &columns)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code() -> Code {
        Code::new(3, 5).unwrap()
    }

    fn coded(pack: &[u8]) -> LeafMap {
        let coded = bithealth_pack::encode(code(), &[1; 32], 100, pack).unwrap();
        let data = (0..3).map(|shard| bithealth_pack::data_shard(code(), pack, ShardIndex(shard)).into_owned());
        let parity = coded.parity.iter().map(|parity| parity.to_vec());
        let mut leaves = LeafMap::new();
        for (shard, bytes) in (0..).zip(data.chain(parity)) {
            for (row, leaf) in (0..).zip(bytes.chunks(LEAF_LEN)) {
                leaves.insert((ShardIndex(shard), row), Bytes::copy_from_slice(leaf));
            }
        }
        leaves
    }

    fn pack() -> Vec<u8> {
        (0..303_104u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
    }

    #[test]
    fn a_range_comes_from_its_leaves_and_from_rows_where_they_are_missing() {
        let (pack, mut leaves) = (pack(), coded(&pack()));
        leaves.retain(|(shard, row), _| !(shard.0 == 1 && *row < 3 || shard.0 == 0 && *row > 4));
        for range in [0..1, 90_000..210_000, 16_383..16_385, 299_999..300_000, 0..300_000] {
            let needed = leaves_of(code(), pack.len() as u64, &range);
            let bytes = assemble(code(), &mut leaves.clone(), &needed, NOBODY).unwrap();
            let shard_len = code().shard_len(pack.len() as u64);
            let skip =
                range.start - u64::from(needed[0].0.0) * shard_len - u64::from(needed[0].1.start) * LEAF_LEN as u64;
            let got = &bytes[skip as usize..(skip + range.end - range.start) as usize];
            assert_eq!(got, &pack[range.start as usize..range.end as usize], "{range:?}");
        }
    }

    #[test]
    fn decoding_tells_all_data_of_the_rows() {
        let whole = coded(&pack());
        let mut leaves = whole.clone();
        leaves.retain(|(shard, _), _| shard.0 > 1); // the data of 0 and 1 is lost
        let mut told = Vec::new();
        assemble(code(), &mut leaves, &[(ShardIndex(1), 1..3)], Some(|decoded| told.push(decoded))).unwrap();
        told.sort_by_key(|(shard, ..)| *shard);
        assert_eq!(told.iter().map(|(shard, row, _)| (shard.0, *row)).collect::<Vec<_>>(), [(0, 1), (1, 1)]);
        for (shard, row, run) in told {
            assert_eq!(run, [&whole[&(shard, row)][..], &whole[&(shard, row + 1)]].concat());
        }
    }

    #[test]
    fn where_nobody_takes_the_rest_what_is_needed_is_decoded_and_nothing_else() {
        let whole = coded(&pack());
        let mut leaves = whole.clone();
        leaves.retain(|(shard, _), _| shard.0 > 1);
        let bytes = assemble(code(), &mut leaves, &[(ShardIndex(1), 1..3)], NOBODY).unwrap();
        assert_eq!(bytes, [&whole[&(ShardIndex(1), 1)][..], &whole[&(ShardIndex(1), 2)]].concat());
        assert!(leaves.keys().all(|(shard, _)| shard.0 != 0));
    }

    #[test]
    fn too_few_shards_of_a_row_are_an_error() {
        let mut leaves = coded(&pack());
        leaves.retain(|(shard, _), _| shard.0 > 2);
        assert!(assemble(code(), &mut leaves, &[(ShardIndex(0), 0..1)], NOBODY).is_err());
    }
}
