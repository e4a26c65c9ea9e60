//! The primitives alone on one core of this machine now, and what sealing costs above them.

use std::hint::black_box;
use std::time::Instant;

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bithealth::demo::generate::{Generator, MEDIA_TYPE, large};
use bithealth_pack::{Compress, Draft, ZSTD_LEVEL};
use bithealth_types::{CHUNK_LEN, ChunkIndex};
use reed_solomon_simd::ReedSolomonEncoder;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::sample::median;

/// Bytes each sample works on, at least.
const SAMPLE_LEN: usize = 64 << 20;

/// Samples whose median is printed.
const SAMPLES: usize = 7;

/// The column of a shard that is coded at once.
const COLUMN_LEN: usize = 64 * 1024;

/// Shards of data and of parity: 4 of 9, the code of three regions of three nodes.
const DATA: usize = 4;
const PARITY: usize = 5;

#[derive(Debug, Serialize)]
struct Speed {
    what: &'static str,
    /// Millions of plaintext bytes a second.
    mb_per_s: f64,
}

#[derive(Debug, Serialize)]
struct Speeds {
    one_core: Vec<Speed>,
    /// Sealing of what does not compress, as a part of the speed of SHA-256 and then ChaCha20-Poly1305.
    seal_ratio: f64,
}

/// Measures and prints.
pub(crate) fn print(json: bool) {
    let speeds = measure();
    if json {
        println!("{}", serde_json::to_string(&speeds).expect("numbers and texts"));
        return;
    }
    println!("one core, median of {SAMPLES} samples of {} MiB", SAMPLE_LEN >> 20);
    speeds.one_core.iter().for_each(|speed| println!("{:<42}{:>10.0} MB/s", speed.what, speed.mb_per_s));
    println!("sealing / (SHA-256, then ChaCha20-Poly1305): {:.2}", speeds.seal_ratio);
}

fn measure() -> Speeds {
    let random = random();
    let documents: Vec<Vec<u8>> = Generator::new(1, 50, 1000, 10_000_000).map(|document| document.bytes).collect();
    let records: Vec<&[u8]> = documents.iter().map(Vec::as_slice).collect();
    let json = Compress::for_media_type(MEDIA_TYPE);
    let mut work: [(&str, Work<'_>); 6] = [
        ("SHA-256", Box::new(|| each_chunk(&random, |chunk| _ = black_box(Sha256::digest(chunk))))),
        ("ChaCha20-Poly1305, 256 KiB", Box::new(|| chacha(&random))),
        ("seal, incompressible", Box::new(|| seal(&[&random], Compress::No))),
        ("Reed-Solomon 4 of 9, columns of 64 KiB", Box::new(|| reed_solomon(&random))),
        ("zstd, FHIR documents", Box::new(|| zstd_of(&records))),
        ("seal, FHIR documents", Box::new(|| seal(&records, json))),
    ];
    // All of them in turn, again and again: what else runs on the machine slows all alike.
    let samples: Vec<Vec<f64>> =
        (0..SAMPLES).map(|_| work.iter_mut().map(|(_, work)| mb_per_s(work)).collect()).collect();
    let seal_ratio = |sample: &Vec<f64>| sample[2] * (1.0 / sample[0] + 1.0 / sample[1]);
    let middle = |index: usize| median(samples.iter().map(|sample| sample[index]).collect());
    let one_core = work.iter().enumerate().map(|(index, (what, _))| Speed { what, mb_per_s: middle(index) });
    Speeds { one_core: one_core.collect(), seal_ratio: median(samples.iter().map(seal_ratio).collect()) }
}

/// Does something once, and says to how many bytes.
type Work<'a> = Box<dyn FnMut() -> usize + 'a>;

fn mb_per_s(work: &mut Work<'_>) -> f64 {
    work(); // tables and caches
    let (start, mut len) = (Instant::now(), 0);
    while len < SAMPLE_LEN {
        len += work();
    }
    len as f64 / 1e6 / start.elapsed().as_secs_f64()
}

fn random() -> Vec<u8> {
    let mut bytes = Vec::with_capacity(CHUNK_LEN * 16);
    let copied = std::io::copy(&mut large(1, (CHUNK_LEN * 16) as u64), &mut bytes);
    copied.expect("the generator and memory do not fail");
    bytes
}

fn each_chunk(bytes: &[u8], mut work: impl FnMut(&[u8])) -> usize {
    bytes.chunks(CHUNK_LEN).for_each(&mut work);
    bytes.len()
}

fn chacha(bytes: &[u8]) -> usize {
    let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[7; 32]).expect("a key has 32 bytes"));
    let mut buffer = Vec::with_capacity(CHUNK_LEN + 16);
    each_chunk(bytes, |chunk| {
        buffer.clear();
        buffer.extend_from_slice(chunk);
        let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
        let sealed = cipher.seal_in_place_append_tag(nonce, Aad::empty(), &mut buffer);
        sealed.expect("a chunk is far below the cipher's limit");
        black_box(&buffer);
    })
}

fn reed_solomon(bytes: &[u8]) -> usize {
    let mut encoder = ReedSolomonEncoder::new(DATA, PARITY, COLUMN_LEN).expect("a code the library supports");
    for columns in bytes.chunks_exact(DATA * COLUMN_LEN) {
        for column in columns.chunks_exact(COLUMN_LEN) {
            encoder.add_original_shard(column).expect("as many shards of this length as were announced");
        }
        let result = encoder.encode().expect("all shards are there");
        result.recovery_iter().for_each(|parity| _ = black_box(parity));
    }
    bytes.len()
}

fn zstd_of(documents: &[&[u8]]) -> usize {
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).expect("a level zstd has");
    let compress = |document: &&[u8]| {
        black_box(compressor.compress(document).expect("memory does not fail"));
        document.len()
    };
    documents.iter().map(compress).sum()
}

fn seal(records: &[&[u8]], kind: Compress) -> usize {
    let seal_record = |record: &&[u8]| {
        let draft = Draft::new();
        let count = record.len().div_ceil(CHUNK_LEN);
        for (index, chunk) in record.chunks(CHUNK_LEN).enumerate() {
            let place = ChunkIndex(u32::try_from(index).expect("a record of this bench has few chunks"));
            black_box(draft.seal_chunk(place, index + 1 == count, chunk, kind));
        }
        record.len()
    };
    records.iter().map(seal_record).sum()
}
