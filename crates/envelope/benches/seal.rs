//! Bytes per second of sealing and opening one chunk, by length, on one core; beside them the AEAD alone, so that the cost
//! of our keys can be read off in the same run.

use std::hint::black_box;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bithealth_envelope::{ContentKey, Part, SEAL_OVERHEAD, Sealer};
use bithealth_types::{CHUNK_LEN, ChunkIndex};
use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const PART: Part = Part::Chunk { index: ChunkIndex(3), last: false };

fn seal(criterion: &mut Criterion) {
    let sealer = Sealer::new(&ContentKey::random(), &[7; 16]);
    let mut group = criterion.benchmark_group("seal");
    for len in [0, 1 << 10, 16 << 10, CHUNK_LEN, 1 << 20] {
        group.throughput(Throughput::Bytes(len as u64));
        // One buffer, sealed over and over: a chunk in cache, as it comes from the compressor.
        let mut buffer = vec![0x5A; len + SEAL_OVERHEAD];
        group.bench_function(BenchmarkId::new("seal", len), |bencher| {
            bencher.iter(|| {
                buffer.truncate(len);
                sealer.seal(PART, black_box(&mut buffer));
            });
        });
        let aead = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("a key has 32 bytes"));
        let mut bytes = vec![0x5A; len];
        group.bench_function(BenchmarkId::new("aead", len), |bencher| {
            bencher.iter(|| {
                let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
                aead.seal_in_place_separate_tag(nonce, Aad::from(&[7; 39]), black_box(&mut bytes[..]))
            });
        });
        let mut sealed = vec![0x5A; len];
        sealer.seal(PART, &mut sealed);
        group.bench_function(BenchmarkId::new("open", len), |bencher| {
            bencher.iter_batched_ref(|| sealed.clone(), |buffer| sealer.open(PART, buffer), BatchSize::LargeInput);
        });
    }
    group.finish();
}

criterion_group!(benches, seal);
criterion_main!(benches);
