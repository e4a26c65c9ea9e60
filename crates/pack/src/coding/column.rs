//! The coding of one column: the same run of bytes of all shards.
//!
//! The code works on 64 bytes of each shard at a time, so a column is coded as if there were nothing beside it.

use bithealth_merkle::leaf_hash;
use bithealth_types::{Code, Digest, LEAF_LEN};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};

/// Bytes of each shard that are coded and hashed together: few enough that the column of a usual code and the coder's
/// working space stay in a core's cache.
pub const COLUMN_LEN: usize = 32 * 1024;

/// Bytes of each shard that are restored together: the decoder has a fixed cost for every column, which this spreads.
pub(super) const RESTORED_COLUMN_LEN: usize = 256 * 1024;

const WHY: &str = "counts and lengths are those of a code of at most 256 shards and whole leaves";

/// Turns shards into columns: the i-th item holds the i-th `len` elements of every shard.
pub(super) fn transpose<T>(shards: &mut [Vec<T>], len: usize) -> Vec<Vec<&mut [T]>> {
    transpose_slices(shards.iter_mut().map(Vec::as_mut_slice), len)
}

pub(super) fn transpose_slices<'a, T: 'a>(
    shards: impl Iterator<Item = &'a mut [T]>,
    len: usize,
) -> Vec<Vec<&'a mut [T]>> {
    let mut columns = Vec::new();
    for shard in shards {
        for (index, run) in shard.chunks_mut(len).enumerate() {
            if columns.len() == index {
                columns.push(Vec::new());
            }
            columns[index].push(run);
        }
    }
    columns
}

/// Hashes whole leaves, one digest for each.
pub(super) fn hash_leaves(bytes: &[u8], hashes: &mut [Digest]) {
    for (leaf, hash) in bytes.chunks_exact(LEAF_LEN).zip(hashes) {
        *hash = leaf_hash(leaf);
    }
}

/// Codes columns of one code, and keeps the working space between them.
pub(super) struct Coder {
    k: usize,
    n: usize,
    encoder: Option<(usize, ReedSolomonEncoder)>,
    decoder: Option<(usize, ReedSolomonDecoder)>,
}

impl Coder {
    pub(super) fn new(code: Code) -> Self {
        Self { k: code.k().into(), n: code.n().into(), encoder: None, decoder: None }
    }

    /// Hands the parity of a column to `take`, shard by shard, from 0 on.
    pub(super) fn encode(&mut self, data: &[impl AsRef<[u8]>], mut take: impl FnMut(usize, &[u8])) {
        let (k, parity) = (self.k, self.n - self.k);
        if parity == 0 {
            return;
        }
        let len = data[0].as_ref().len();
        let encoder = match &mut self.encoder {
            Some((of, encoder)) if *of == len => encoder,
            slot => &mut slot.insert((len, ReedSolomonEncoder::new(k, parity, len).expect(WHY))).1,
        };
        for shard in data {
            encoder.add_original_shard(shard).expect(WHY);
        }
        let coded = encoder.encode().expect(WHY);
        for (index, shard) in coded.recovery_iter().enumerate() {
            take(index, shard);
        }
    }

    /// Hands each data shard of a column that is not among `given` to `take`. Of `given`, index and bytes, there are
    /// exactly k, all distinct and of equal length.
    pub(super) fn decode<'a>(
        &mut self,
        given: impl Iterator<Item = (usize, &'a [u8])>,
        len: usize,
        mut take: impl FnMut(usize, &[u8]),
    ) {
        let k = self.k;
        let decoder = match &mut self.decoder {
            Some((of, decoder)) if *of == len => decoder,
            slot => &mut slot.insert((len, ReedSolomonDecoder::new(k, self.n - k, len).expect(WHY))).1,
        };
        for (index, shard) in given {
            match index.checked_sub(k) {
                None => decoder.add_original_shard(index, shard).expect(WHY),
                Some(parity) => decoder.add_recovery_shard(parity, shard).expect(WHY),
            }
        }
        let restored = decoder.decode().expect(WHY);
        for (index, shard) in restored.restored_original_iter() {
            take(index, shard);
        }
    }
}
