//! Shards to packs.

use bithealth_merkle::LeafTree;
use bithealth_proto::v1::PackDescriptor;
use bithealth_types::{Code, Digest, LEAF_LEN, ShardIndex};
use rayon::prelude::*;

use super::column::{COLUMN_LEN, Coder, RESTORED_COLUMN_LEN, hash_leaves, transpose, transpose_slices};
use super::sum::{self, SUMS_MAX, Sum, units};
use crate::descriptor::{DescriptorError, check_descriptor};

/// Why shards do not give a pack.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The descriptor describes no pack.
    #[error(transparent)]
    Descriptor(#[from] DescriptorError),
    /// The code has no such shard, or it cannot be asked for.
    #[error("shard {shard} is none of the {count} that a {code} code has here")]
    NoSuchShard {
        /// Which shard.
        shard: ShardIndex,
        /// Shards there are.
        count: u16,
        /// The code.
        code: Code,
    },
    /// A shard came twice.
    #[error("shard {shard} came twice")]
    Twice {
        /// Which shard.
        shard: ShardIndex,
    },
    /// A shard, or a run of its leaves, has a wrong length.
    #[error("shard {shard} came with {got} bytes, {want} are due")]
    Length {
        /// Which shard.
        shard: ShardIndex,
        /// Bytes that came.
        got: usize,
        /// Bytes that are due.
        want: usize,
    },
    /// Fewer shards than restore.
    #[error("{got} shards came, {want} restore the pack")]
    TooFew {
        /// Shards that came.
        got: usize,
        /// Shards that are due.
        want: usize,
    },
    /// A shard is not the one its author committed to: whoever sent it is to blame.
    #[error("shard {shard} has root {got}, the pack's is {want}")]
    FalseShard {
        /// Which shard.
        shard: ShardIndex,
        /// Root of what came.
        got: Digest,
        /// Root in the descriptor.
        want: Digest,
    },
    /// All shards are the author's, but they are no code word: the author coded falsely.
    #[error("the author's shards contradict each other: shard {shard} should have root {got}, the pack says {want}")]
    Inconsistent {
        /// The first shard that contradicts those given.
        shard: ShardIndex,
        /// Root it should have.
        got: Digest,
        /// Root in the descriptor.
        want: Digest,
    },
}

/// The shards that came, by index.
struct Given<'a> {
    code: Code,
    shards: Vec<Option<&'a [u8]>>,
}

impl<'a> Given<'a> {
    /// Checks indices and lengths, and that enough came.
    fn new(code: Code, len: usize, shards: &[(ShardIndex, &'a [u8])]) -> Result<Self, DecodeError> {
        let mut by_index: Vec<Option<&[u8]>> = vec![None; code.n().into()];
        for &(shard, bytes) in shards {
            let slot = by_index.get_mut(usize::from(shard.0));
            let slot = slot.ok_or(DecodeError::NoSuchShard { shard, count: code.n(), code })?;
            if bytes.len() != len {
                return Err(DecodeError::Length { shard, got: bytes.len(), want: len });
            }
            if slot.replace(bytes).is_some() {
                return Err(DecodeError::Twice { shard });
            }
        }
        let (got, want) = (shards.len(), code.k().into());
        if got < want { Err(DecodeError::TooFew { got, want }) } else { Ok(Self { code, shards: by_index }) }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, &'a [u8])> + Clone {
        self.shards.iter().enumerate().filter_map(|(index, shard)| Some((index, (*shard)?)))
    }

    fn data_missing(&self) -> bool {
        self.shards[..self.code.k().into()].iter().any(Option::is_none)
    }

    /// Writes the data shards' bytes `start..start + len`, those that came and those restored, to `into`.
    fn restore(&self, coder: &mut Coder, start: usize, into: &mut [&mut [u8]]) {
        let (k, len) = (usize::from(self.code.k()), into[0].len());
        let runs = self.iter().map(|(index, shard)| (index, &shard[start..start + len]));
        for (index, run) in runs.clone().take_while(|(index, _)| *index < k) {
            into[index].copy_from_slice(run);
        }
        if k == 1 {
            into[0].copy_from_slice(runs.clone().next().expect("k shards came").1);
        } else if self.data_missing() {
            coder.decode(runs.take(k), len, |index, run| into[index].copy_from_slice(run));
        }
    }
}

/// Restores a pack from any k of its shards or more, then codes it again and compares all n roots: an author who coded
/// so that different shards give different packs is found out here, by everybody alike.
///
/// # Errors
/// [`DecodeError`]: [`DecodeError::FalseShard`] names a shard that was changed, [`DecodeError::Inconsistent`] an author
/// who committed to a false one. Nothing of the pack is given out then.
pub fn decode(descriptor: &PackDescriptor, shards: &[(ShardIndex, &[u8])]) -> Result<Vec<u8>, DecodeError> {
    let code = check_descriptor(descriptor)?;
    let (k, n) = (usize::from(code.k()), usize::from(code.n()));
    let shard_len = code.shard_len(descriptor.len) as usize;
    let given = Given::new(code, shard_len, shards)?;

    let mut pack = vec![0; k * shard_len];
    let mut hashes = vec![vec![Digest([0; 32]); shard_len / LEAF_LEN]; n];
    let columns = transpose_slices(pack.chunks_mut(shard_len), RESTORED_COLUMN_LEN).into_iter();
    let columns: Vec<_> = columns.zip(transpose(&mut hashes, RESTORED_COLUMN_LEN / LEAF_LEN)).enumerate().collect();
    let same = columns.into_par_iter().map_init(
        || Coder::new(code),
        |coder, (index, (mut data, mut hashes))| {
            let start = index * RESTORED_COLUMN_LEN;
            given.restore(coder, start, &mut data);
            for (shard, run) in data.iter_mut().enumerate() {
                let end = (descriptor.len as usize).saturating_sub(shard * shard_len + start).min(run.len());
                run[end..].fill(0);
            }
            code_again(&given, coder, start, &data, &mut hashes)
        },
    );
    let same = same.reduce(|| true, |one, other| one & other);
    let roots: Vec<Digest> = hashes.into_iter().map(|hashes| LeafTree::from_hashes(hashes).root()).collect();
    let differs = roots.iter().zip(&descriptor.roots).position(|(got, want)| got.as_bytes()[..] != want[..]);
    if !same || differs.is_some() {
        return Err(who_is_false(descriptor, &given, &roots, differs));
    }
    pack.truncate(descriptor.len as usize);
    Ok(pack)
}

/// Codes and hashes a restored column, in columns that stay in the cache; whether the shards that came agree with it.
fn code_again(
    given: &Given<'_>,
    coder: &mut Coder,
    start: usize,
    data: &[&mut [u8]],
    hashes: &mut [&mut [Digest]],
) -> bool {
    let (k, whole) = (data.len(), data[0].len());
    let mut same = true;
    for within in (0..whole).step_by(COLUMN_LEN) {
        let len = COLUMN_LEN.min(whole - within);
        let leaves = within / LEAF_LEN..(within + len) / LEAF_LEN;
        let came = |shard: usize| given.shards[shard].map(|came| &came[start + within..][..len]);
        let runs: Vec<&[u8]> = data.iter().map(|shard| &shard[within..within + len]).collect();
        let mut check = |shard: usize, run: &[u8]| {
            same &= came(shard).is_none_or(|came| came == run);
            hash_leaves(run, &mut hashes[shard][leaves.clone()]);
        };
        runs.iter().enumerate().for_each(|(shard, run)| check(shard, run));
        if k > 1 {
            coder.encode(&runs, |parity, run| check(k + parity, run));
        }
    }
    if k == 1 {
        let (first, copies) = hashes.split_first_mut().expect("a code has a shard");
        for (copy, shard) in copies.iter_mut().zip(1..) {
            same &= given.shards[shard].is_none_or(|came| came[start..start + whole] == *data[0]);
            copy.copy_from_slice(first);
        }
    }
    same
}

/// Looks for the one to blame: a shard that came and is not the pack's, else the author.
fn who_is_false(
    descriptor: &PackDescriptor,
    given: &Given<'_>,
    roots: &[Digest],
    differs: Option<usize>,
) -> DecodeError {
    let want = |shard: usize| Digest::try_from(&descriptor.roots[shard][..]).expect("the descriptor was checked");
    for (shard, bytes) in given.iter() {
        let got = LeafTree::from_shard(bytes).root();
        if got != want(shard) {
            return DecodeError::FalseShard { shard: ShardIndex(shard as u16), got, want: want(shard) };
        }
    }
    let shard = differs.expect("shards with the roots of the pack, coded again, are those that came");
    DecodeError::Inconsistent { shard: ShardIndex(shard as u16), got: roots[shard], want: want(shard) }
}

/// Restores runs of shards, of data as of parity, from runs of any k shards that lie at the same leaves. Every run must
/// have been verified against its shard's root: here nothing can be.
///
/// # Errors
/// [`DecodeError`] if runs are too few, doubled, of different or partial leaves, or none of the code's.
pub fn decode_rows(
    code: Code,
    wanted: &[ShardIndex],
    columns: &[(ShardIndex, &[u8])],
) -> Result<Vec<Vec<u8>>, DecodeError> {
    let k = usize::from(code.k());
    let len = columns.first().map_or(0, |(_, run)| run.len());
    if let Some((shard, _)) = columns.first().filter(|_| len == 0 || !len.is_multiple_of(LEAF_LEN)) {
        let want = len.next_multiple_of(LEAF_LEN).max(LEAF_LEN);
        return Err(DecodeError::Length { shard: *shard, got: len, want });
    }
    let given = Given::new(code, len, columns)?;
    if let Some(shard) = wanted.iter().find(|shard| shard.0 >= code.n()) {
        return Err(DecodeError::NoSuchShard { shard: *shard, count: code.n(), code });
    }
    let mut restored = vec![vec![0; len]; wanted.len()];
    if wanted.len() <= SUMS_MAX && k > 1 {
        let (indices, runs): (Vec<usize>, Vec<&[u8]>) = given.iter().take(k).unzip();
        let sums = sum::known(code, wanted, &indices, || sums(code, wanted, &indices));
        sums.iter().zip(&mut restored).for_each(|(sum, into)| sum.add(&runs, into));
        return Ok(restored);
    }
    let mut data = vec![vec![0; len]; k];
    let columns = transpose(&mut data, RESTORED_COLUMN_LEN).into_iter();
    let columns = columns.zip(transpose(&mut restored, RESTORED_COLUMN_LEN)).enumerate();
    columns.collect::<Vec<_>>().into_par_iter().for_each_init(
        || Coder::new(code),
        |coder, (index, (mut data, mut restored))| {
            given.restore(coder, index * RESTORED_COLUMN_LEN, &mut data);
            take_wanted(coder, wanted, &data, &mut restored);
        },
    );
    Ok(restored)
}

/// How each wanted shard is summed up from those given, k of them.
fn sums(code: Code, wanted: &[ShardIndex], given: &[usize]) -> Vec<Sum> {
    let k = usize::from(code.k());
    let units = units(k);
    let mut shards = vec![None; code.n().into()];
    given.iter().zip(&units).for_each(|(index, unit)| shards[*index] = Some(unit.as_slice()));
    let mut data = vec![vec![0; units[0].len()]; k];
    let mut restored = vec![vec![0; units[0].len()]; wanted.len()];
    let mut coder = Coder::new(code);
    let mut data: Vec<&mut [u8]> = data.iter_mut().map(Vec::as_mut_slice).collect();
    Given { code, shards }.restore(&mut coder, 0, &mut data);
    take_wanted(&mut coder, wanted, &data, &mut restored.iter_mut().map(Vec::as_mut_slice).collect::<Vec<_>>());
    restored.iter().map(|run| Sum::of(run, k)).collect()
}

/// Copies the wanted shards of a restored column; those of parity are coded, in columns that stay in the cache.
fn take_wanted(coder: &mut Coder, wanted: &[ShardIndex], data: &[&mut [u8]], restored: &mut [&mut [u8]]) {
    let k = data.len();
    for (shard, into) in wanted.iter().zip(&mut *restored).filter(|(shard, _)| usize::from(shard.0) < k || k == 1) {
        into.copy_from_slice(data[usize::from(shard.0).min(k - 1)]);
    }
    if k == 1 || wanted.iter().all(|shard| usize::from(shard.0) < k) {
        return; // copies, or data only
    }
    for start in (0..data[0].len()).step_by(COLUMN_LEN) {
        let end = (start + COLUMN_LEN).min(data[0].len());
        let runs: Vec<&[u8]> = data.iter().map(|shard| &shard[start..end]).collect();
        coder.encode(&runs, |parity, run| {
            let places = wanted.iter().zip(&mut *restored).filter(|(shard, _)| usize::from(shard.0) == k + parity);
            places.for_each(|(_, into)| into[start..end].copy_from_slice(run));
        });
    }
}
