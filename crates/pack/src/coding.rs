//! Packs to shards.

mod column;
mod decode;
mod sum;

use std::borrow::Cow;

use bithealth_merkle::LeafTree;
use bithealth_proto::v1::PackDescriptor;
use bithealth_types::{Code, Digest, LEAF_LEN, PACK_LEN_MAX, PackId, ShardIndex};
use bytes::Bytes;
use rayon::prelude::*;

use crate::PackSalt;
use crate::catalog::CATALOG_LEN_MIN;
use crate::padme::padme;
use column::{Coder, hash_leaves};

pub use column::COLUMN_LEN;
pub use decode::{DecodeError, decode, decode_rows};

/// A pack's shards beside the pack itself, and what commits to them.
pub struct CodedPack {
    /// What everybody learns of the pack.
    pub descriptor: PackDescriptor,
    /// Digest of the descriptor.
    pub id: PackId,
    /// The shards from k on. With k = 1 they are copies, and share their bytes.
    pub parity: Vec<Bytes>,
    /// The leaf tree of each shard.
    pub trees: Vec<LeafTree>,
}

/// Why a pack was not coded.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// A length no pack has; the descriptor would be refused everywhere.
    #[error("a pack of {got} bytes, {want} is the next length that packs have, {max} the last")]
    Length {
        /// Bytes that came.
        got: u64,
        /// The next Padme length.
        want: u64,
        /// [`PACK_LEN_MAX`].
        max: u64,
    },
    /// A catalog of an impossible length.
    #[error("a catalog of {got} bytes in a pack of {len}, at least {min} are due")]
    Catalog {
        /// Bytes it is said to have.
        got: u64,
        /// Bytes of the pack.
        len: u64,
        /// [`CATALOG_LEN_MIN`].
        min: u64,
    },
}

/// Codes a pack into `code.n()` shards, any `code.k()` of which restore it.
///
/// Every shard has `code.shard_len(pack.len())` bytes. The first k, joined, are the pack and zeros behind it:
/// [`data_shard`] cuts them out, and only the others are made. Columns of [`COLUMN_LEN`] bytes of all shards are coded
/// and hashed while they are in the cache, on all cores of the current rayon pool.
///
/// # Errors
/// [`CodeError`] if the lengths are not those of a closed pack.
///
/// Source: Lin, Al-Naffouri, Han, Chung, "Novel Polynomial Basis With Fast Fourier Transform and Its Application to
/// Reed-Solomon Erasure Codes", IEEE Trans. Inf. Theory 62(11), 2016, as `reed-solomon-simd` implements it.
pub fn encode(code: Code, salt: &PackSalt, catalog_len: u64, pack: &[u8]) -> Result<CodedPack, CodeError> {
    check_lengths(pack.len() as u64, catalog_len)?;
    let (parity, hashes) = if code.k() == 1 { copies(code, pack) } else { columns(code, pack) };
    let trees: Vec<LeafTree> = hashes.into_iter().map(LeafTree::from_hashes).collect();
    let descriptor = PackDescriptor {
        salt: Bytes::copy_from_slice(salt),
        len: pack.len() as u64,
        k: code.k().into(),
        n: code.n().into(),
        roots: trees.iter().map(|tree| Bytes::copy_from_slice(tree.root().as_bytes())).collect(),
        catalog_len,
    };
    let id = descriptor.id();
    Ok(CodedPack { descriptor, id, parity, trees })
}

fn check_lengths(got: u64, catalog_len: u64) -> Result<(), CodeError> {
    let (want, max) = (padme(got), PACK_LEN_MAX as u64);
    if got != want || got > max {
        return Err(CodeError::Length { got, want, max });
    }
    let min = CATALOG_LEN_MIN as u64;
    if catalog_len < min || catalog_len > got {
        return Err(CodeError::Catalog { got: catalog_len, len: got, min });
    }
    Ok(())
}

type Shards = (Vec<Bytes>, Vec<Vec<Digest>>);

fn copies(code: Code, pack: &[u8]) -> Shards {
    let shard = Bytes::from(data_shard(code, pack, ShardIndex(0)).into_owned());
    let mut hashes = vec![Digest([0; 32]); shard.len() / LEAF_LEN];
    hash_leaves(&shard, &mut hashes);
    (vec![shard; usize::from(code.n()) - 1], vec![hashes; code.n().into()])
}

fn columns(code: Code, pack: &[u8]) -> Shards {
    let (k, n) = (usize::from(code.k()), usize::from(code.n()));
    let shard_len = code.shard_len(pack.len() as u64) as usize;
    let mut parity = vec![vec![0; shard_len]; n - k];
    let mut hashes = vec![vec![Digest([0; 32]); shard_len / LEAF_LEN]; n];
    // A code without parity has no columns of it, but its data is hashed all the same.
    let columns = column::transpose(&mut parity, COLUMN_LEN).into_iter().chain(std::iter::repeat_with(Vec::new));
    let hash_columns = column::transpose(&mut hashes, COLUMN_LEN / LEAF_LEN);
    let columns: Vec<_> = hash_columns.into_iter().zip(columns).enumerate().collect();
    columns.into_par_iter().for_each_init(
        || Coder::new(code),
        |coder, (index, (mut hashes, mut parity))| {
            let start = index * COLUMN_LEN;
            let len = COLUMN_LEN.min(shard_len - start);
            let data: Vec<Cow<'_, [u8]>> =
                (0..k).map(|shard| with_zeros(pack, shard * shard_len + start, len)).collect();
            coder.encode(&data, |shard, bytes| {
                parity[shard].copy_from_slice(bytes);
                hash_leaves(bytes, hashes[k + shard]);
            });
            // Behind the coder, which has streamed the data into the cache: hashing alone would wait for it.
            for (shard, hashes) in data.iter().zip(&mut hashes) {
                hash_leaves(shard, hashes);
            }
        },
    );
    (parity.into_iter().map(Bytes::from).collect(), hashes)
}

/// `len` bytes of the pack from `start` on, and zeros behind its end.
fn with_zeros(pack: &[u8], start: usize, len: usize) -> Cow<'_, [u8]> {
    let have = &pack[start.min(pack.len())..(start + len).min(pack.len())];
    if have.len() == len {
        return Cow::Borrowed(have);
    }
    let mut padded = vec![0; len];
    padded[..have.len()].copy_from_slice(have);
    Cow::Owned(padded)
}

/// Shard `shard` of a pack, one of the first k.
///
/// # Panics
/// If the shard is not among the first k.
pub fn data_shard(code: Code, pack: &[u8], shard: ShardIndex) -> Cow<'_, [u8]> {
    assert!(shard.0 < code.k(), "shard {shard} of a {code} code is no data shard");
    let len = code.shard_len(pack.len() as u64) as usize;
    with_zeros(pack, usize::from(shard.0) * len, len)
}

#[cfg(test)]
mod tests;
