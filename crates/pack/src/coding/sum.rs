//! Shards as sums of k others, each times a constant.
//!
//! The code is linear over GF(2^16), one element at a time: what restores one element of a shard restores all of them. So the
//! constants are what the decoder makes of the unit vectors, and with them a shard costs k multiplications by constants,
//! without the transforms of the decoder and its fixed cost. A few shards are cheaper this way, many are not.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bithealth_types::{Code, ShardIndex};
use reed_solomon_simd::engine::{DefaultEngine, Engine, GfElement, tables, utils};

/// So many shards of a run are summed up; more are decoded.
pub(super) const SUMS_MAX: usize = 6;

/// Bytes that the code works on at a time: elements of two bytes, the low ones before the high ones.
const BLOCK_LEN: usize = 64;
const BLOCK_ELEMENTS: usize = BLOCK_LEN / 2;

/// Sums that are remembered; then all are found anew.
const KNOWN_MAX: usize = 256;

/// Blocks that are summed up together: they and what is added stay in a core's first cache.
const PIECE_BLOCKS: usize = 128;

/// k and n, the shards wanted, and those given.
type Question = (u16, u16, Vec<ShardIndex>, Vec<usize>);

/// Where the same holders are lost, the same question is asked for run after run, and answering it takes as long as to sum up
/// a megabyte.
static KNOWN: Mutex<BTreeMap<Question, Arc<[Sum]>>> = Mutex::new(BTreeMap::new());

/// The sums that `find` found for this question before, or finds now.
pub(super) fn known(code: Code, wanted: &[ShardIndex], given: &[usize], find: impl FnOnce() -> Vec<Sum>) -> Arc<[Sum]> {
    let question = (code.k(), code.n(), wanted.to_vec(), given.to_vec());
    let lock = || KNOWN.lock().expect("no holder panics");
    if let Some(sums) = lock().get(&question) {
        return sums.clone();
    }
    let sums: Arc<[Sum]> = find().into();
    let mut known = lock();
    if known.len() >= KNOWN_MAX {
        known.clear();
    }
    known.insert(question, sums.clone());
    sums
}

/// k runs, the i-th of which has a one as its i-th element, and zeros.
pub(super) fn units(k: usize) -> Vec<Vec<u8>> {
    let one = tables::get_exp_log().exp[0];
    let run = |index: usize| {
        let mut run = vec![0; k.div_ceil(BLOCK_ELEMENTS) * BLOCK_LEN];
        let (low, high) = place_of(index);
        [run[low], run[high]] = one.to_le_bytes();
        run
    };
    (0..k).map(run).collect()
}

fn place_of(element: usize) -> (usize, usize) {
    let low = element / BLOCK_ELEMENTS * BLOCK_LEN + element % BLOCK_ELEMENTS;
    (low, low + BLOCK_ELEMENTS)
}

/// A shard as a sum: which of those given, and the logarithm of what each is multiplied with.
pub(super) struct Sum {
    terms: Vec<(u16, GfElement)>,
}

impl Sum {
    /// From what the unit vectors become for this shard.
    pub(super) fn of(run: &[u8], k: usize) -> Self {
        let log = &tables::get_exp_log().log;
        let term = |index: usize| {
            let (low, high) = place_of(index);
            let constant = GfElement::from_le_bytes([run[low], run[high]]);
            (constant != 0).then(|| (index as u16, log[usize::from(constant)]))
        };
        Self { terms: (0..k).filter_map(term).collect() }
    }

    /// Adds runs of the shards given to `into`, zeros so far. All have as many bytes, a multiple of [`BLOCK_LEN`].
    pub(super) fn add(&self, given: &[&[u8]], into: &mut [u8]) {
        let engine = DefaultEngine::new();
        let mut product = [[0; BLOCK_LEN]; PIECE_BLOCKS];
        for (piece, sum) in into.as_chunks_mut().0.chunks_mut(PIECE_BLOCKS).enumerate() {
            let start = piece * PIECE_BLOCKS * BLOCK_LEN;
            for &(index, log) in &self.terms {
                let product = &mut product[..sum.len()];
                let run = &given[usize::from(index)][start..start + product.as_flattened().len()];
                product.as_flattened_mut().copy_from_slice(run);
                engine.mul(product, log);
                utils::xor(sum, product);
            }
        }
    }
}
