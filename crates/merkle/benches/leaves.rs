//! Bytes per second of hashing a shard into its tree, and of checking a run of leaves as a fetch does.

use bithealth_merkle::{LeafTree, leaf_hash, verify_run};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const SHARD_LEAVES: u32 = 256; // a 16 MiB pack, 4 data shards
const RUN_LEAVES: u32 = 64;

fn leaves(criterion: &mut Criterion) {
    let shard: Vec<u8> = (0..SHARD_LEAVES as usize * LEAF_LEN).map(|i| (i / 7) as u8).collect();
    let tree = LeafTree::from_shard(&shard);
    let first = LeafIndex(RUN_LEAVES);
    let proof = tree.prove_run(first, RUN_LEAVES).expect("the run lies in the shard");
    let run = &shard[RUN_LEAVES as usize * LEAF_LEN..][..RUN_LEAVES as usize * LEAF_LEN];

    let mut group = criterion.benchmark_group("leaves");
    group.throughput(Throughput::Bytes(shard.len() as u64));
    group.bench_function("tree_from_shard", |bencher| bencher.iter(|| LeafTree::from_shard(&shard)));
    group.throughput(Throughput::Bytes(run.len() as u64));
    group.bench_function("hash_and_verify_run", |bencher| {
        bencher.iter(|| {
            let hashes: Vec<Digest> = run.chunks(LEAF_LEN).map(leaf_hash).collect();
            verify_run(&tree.root(), SHARD_LEAVES, first, &hashes, &proof)
        });
    });
    group.bench_function("prove_run", |bencher| bencher.iter(|| tree.prove_run(first, RUN_LEAVES)));
    group.finish();
}

criterion_group!(benches, leaves);
criterion_main!(benches);
