//! Bytes per second of sealing, coding, decoding and of small documents, each on one core and beside the bound that the
//! primitives alone give in the same run: seconds per byte of AEAD, hashing and coding, added up.

use std::hint::black_box;
use std::time::{Duration, Instant};

use aws_lc_rs::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use bithealth_envelope::CatalogKey;
use bithealth_pack::{
    COLUMN_LEN, ClosedPack, CodedPack, Compress, DICTIONARY_FHIR1, Draft, OpenPack, RecordMeta, ZSTD_LEVEL, cut,
    data_shard, decode, decode_rows,
};
use bithealth_types::{CHUNK_LEN, Code, FolderId, LEAF_LEN, NodeId, ShardIndex};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use reed_solomon_simd::{ReedSolomonDecoder, ReedSolomonEncoder};
use sha2::{Digest, Sha256};
use zstd::bulk::Compressor;
use zstd::dict::EncoderDictionary;

const K: usize = 4;
const N: usize = 9;
const COLUMN: usize = COLUMN_LEN;
const RECORD_LEN: usize = 15 << 20;
const DOCUMENTS: usize = 20_000;
/// Of each shard.
const ROWS_LEN: usize = 256 << 10;

fn code() -> Code {
    Code::new(K as u32, N as u32).expect("4-of-9 is a code")
}

fn noise(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    ChaCha8Rng::seed_from_u64(1).fill_bytes(&mut bytes);
    bytes
}

fn meta(media_type: &str) -> RecordMeta {
    RecordMeta {
        name: "bench".into(),
        patient: "p".into(),
        category: "imaging".into(),
        media_type: media_type.into(),
        time_ms: 1,
        folder: FolderId([4; 16]),
    }
}

fn add(pack: &mut OpenPack, plaintext: &[u8], media_type: &str) {
    let draft = Draft::new();
    let kind = Compress::for_media_type(media_type);
    let place = |(index, last, bytes)| {
        let chunk = draft.seal_chunk(index, last, bytes, kind);
        pack.add_chunk(&chunk).expect("the record fits")
    };
    let places = cut(plaintext).map(place).collect();
    pack.add_record(&draft, NodeId([5; 32]), places, meta(media_type), [6; 16]).expect("the record fits");
}

fn seal_and_code(plaintext: &[u8], media_type: &str) -> (ClosedPack, CodedPack) {
    let mut pack = OpenPack::new([3; 32]);
    add(&mut pack, plaintext, media_type);
    let closed = pack.close(&CatalogKey::random(), |_| None);
    let coded = closed.encode(code()).expect("a closed pack can be coded");
    (closed, coded)
}

/// Seconds of processor time of this thread, so that other work on the machine counts little.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's processor time");
    let nanoseconds = stat.split(' ').next().and_then(|field| field.parse::<u64>().ok());
    nanoseconds.expect("the first field is the processor time in nanoseconds") as f64 / 1e9
}

/// Processor seconds per byte, over half a second at least; on rayon's only thread, where coding then stays.
fn seconds_per_byte(len: usize, work: impl FnMut() + Send) -> f64 {
    let mut work = work;
    rayon::scope(|_| {
        work();
        let (start, cpu) = (Instant::now(), cpu_seconds());
        let mut times = 0;
        while start.elapsed() < Duration::from_millis(500) || times == 0 {
            work();
            times += 1;
        }
        (cpu_seconds() - cpu) / f64::from(times) / len as f64
    })
}

struct Primitives {
    aead: f64,
    sha256: f64,
    rs_encode: f64,
    rs_decode: f64,
}

impl Primitives {
    fn measure() -> Self {
        let mut chunk = noise(CHUNK_LEN);
        let cipher = LessSafeKey::new(UnboundKey::new(&CHACHA20_POLY1305, &[1; 32]).expect("a key has 32 bytes"));
        let aead = seconds_per_byte(CHUNK_LEN, || {
            let nonce = Nonce::assume_unique_for_key([0; NONCE_LEN]);
            black_box(cipher.seal_in_place_separate_tag(nonce, Aad::empty(), chunk.as_mut_slice()).ok());
        });
        let leaves = noise(CHUNK_LEN);
        let sha256 = seconds_per_byte(CHUNK_LEN, || {
            for leaf in leaves.chunks_exact(LEAF_LEN) {
                black_box(Sha256::digest(leaf));
            }
        });
        let column = noise(COLUMN);
        let mut encoder = ReedSolomonEncoder::new(K, N - K, COLUMN).expect("a code");
        let rs_encode = seconds_per_byte(K * COLUMN, || {
            (0..K).for_each(|_| encoder.add_original_shard(&column).expect("a shard"));
            black_box(encoder.encode().expect("k shards"));
        });
        let rs_decode = [64, 128, 256, 512, 1024].map(|kib| {
            let column = noise(kib << 10);
            let mut decoder = ReedSolomonDecoder::new(K, N - K, column.len()).expect("a code");
            let took = seconds_per_byte(K * column.len(), || {
                (0..K).for_each(|shard| decoder.add_recovery_shard(shard, &column).expect("a shard"));
                black_box(decoder.decode().expect("k shards"));
            });
            println!("Reed-Solomon decode in columns of {kib} KiB: {:.0} MB/s", 1e-6 / took);
            took
        });
        let rs_decode = rs_decode.into_iter().fold(f64::MAX, f64::min);
        Self { aead, sha256, rs_encode, rs_decode }
    }

    fn report(&self) {
        let mb = |seconds: f64| 1e-6 / seconds;
        println!(
            "primitives, MB/s: ChaCha20-Poly1305 {:.0}, SHA-256 {:.0}, Reed-Solomon encode {:.0}, decode {:.0}",
            mb(self.aead),
            mb(self.sha256),
            mb(self.rs_encode),
            mb(self.rs_decode)
        );
    }
}

/// Prints what share of the bound is reached, measured the same way as the primitives.
fn compare(name: &str, len: usize, bound: f64, work: impl FnMut() + Send) {
    let took = seconds_per_byte(len, work);
    println!(
        "{name}: {:.0} MB/s of the {:.0} MB/s that the primitives permit: {:.0} %",
        1e-6 / took,
        1e-6 / bound,
        100.0 * bound / took
    );
}

/// Coding uses every thread of rayon's pool; here there is one.
fn on_one_core() {
    rayon::ThreadPoolBuilder::new().num_threads(1).build_global().expect("nobody used the pool before");
}

fn incompressible(c: &mut Criterion) {
    on_one_core();
    let primitives = Primitives::measure();
    primitives.report();
    let plaintext = noise(RECORD_LEN);
    let spread = N as f64 / K as f64;

    let mut group = c.benchmark_group("incompressible");
    group.sample_size(10).throughput(Throughput::Bytes(RECORD_LEN as u64));
    for (name, media_type) in [("known", "image/jpeg"), ("unknown", "application/octet-stream")] {
        let bound = primitives.aead + primitives.sha256 * (1.0 + spread) + primitives.rs_encode;
        compare(&format!("seal, code, hash ({name} to be compressed)"), RECORD_LEN, bound, || {
            black_box(seal_and_code(&plaintext, media_type));
        });
        group.bench_function(format!("seal_code_hash_{name}"), |b| b.iter(|| seal_and_code(&plaintext, media_type)));
    }

    let (closed, coded) = seal_and_code(&plaintext, "image/jpeg");
    let parity: Vec<_> =
        coded.parity.iter().zip(K as u16..).map(|(bytes, shard)| (ShardIndex(shard), &bytes[..])).collect();
    let data: Vec<_> = (0..K as u16).map(|shard| data_shard(code(), &closed.bytes, ShardIndex(shard))).collect();
    let data: Vec<_> = data.iter().zip(0..).map(|(bytes, shard)| (ShardIndex(shard), &bytes[..])).collect();
    group.throughput(Throughput::Bytes(closed.bytes.len() as u64));
    for (name, shards, rs_decode) in [("lost", &parity[..K], primitives.rs_decode), ("there", &data[..], 0.0)] {
        let bound = rs_decode + primitives.sha256 * spread + primitives.rs_encode;
        compare(&format!("decode, data shards {name}"), closed.bytes.len(), bound, || {
            black_box(decode(&coded.descriptor, shards).expect("k shards came"));
        });
        group.bench_function(format!("decode_data_{name}"), |b| b.iter(|| decode(&coded.descriptor, shards)));
    }
    group.finish();
}

/// Documents of 1 to 20 KiB in the manner of FHIR: bundles of observations.
fn documents() -> Vec<String> {
    let mut random = ChaCha8Rng::seed_from_u64(2);
    let mut document = || {
        let len = 1024 + random.next_u32() as usize % (19 * 1024);
        let mut text = String::from(r#"{"resourceType":"Bundle","type":"collection","entry":["#);
        while text.len() < len {
            let [a, b, c] = [random.next_u64(), random.next_u64(), random.next_u64() % 30_000];
            text.push_str(&format!(
                r#"{{"fullUrl":"urn:uuid:{a:016x}","resource":{{"resourceType":"Observation","id":"{a:016x}","status":"final","category":[{{"coding":[{{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory","display":"laboratory"}}]}}],"code":{{"coding":[{{"system":"http://loinc.org","code":"{}-{}","display":"Glucose"}}],"text":"Glucose"}},"subject":{{"reference":"urn:uuid:{b:016x}"}},"valueQuantity":{{"value":{c}.{},"unit":"mg/dL","system":"http://unitsofmeasure.org","code":"mg/dL"}}}}}},"#,
                c,
                c % 10,
                b % 1000,
            ));
        }
        text.pop();
        text.push_str("]}");
        text
    };
    (0..DOCUMENTS).map(|_| document()).collect()
}

fn seal_documents(documents: &[String]) -> usize {
    let mut sealed = 0;
    let mut pack = OpenPack::new([3; 32]);
    for document in documents {
        if !pack.fits(document.len() + 1024) {
            let full = std::mem::replace(&mut pack, OpenPack::new([3; 32]));
            sealed += full.close(&CatalogKey::random(), |_| None).encode(code()).expect("a closed pack").parity.len();
        }
        add(&mut pack, document.as_bytes(), "application/fhir+json");
    }
    sealed + pack.close(&CatalogKey::random(), |_| None).encode(code()).expect("a closed pack").parity.len()
}

fn small_documents(c: &mut Criterion) {
    let documents = documents();
    let len: usize = documents.iter().map(String::len).sum();
    let mut group = c.benchmark_group("json");
    group.sample_size(10).throughput(Throughput::Bytes(len as u64));
    let took = seconds_per_byte(len, || {
        black_box(seal_documents(&documents));
    });
    println!("{DOCUMENTS} documents, {len} bytes, sealed and coded: {:.0} MB/s", 1e-6 / took);
    group.bench_function("seal_code_hash_20000_documents", |b| b.iter(|| seal_documents(&documents)));

    let documents = &documents[..1000];
    let len: usize = documents.iter().map(String::len).sum();
    group.throughput(Throughput::Bytes(len as u64));
    let prepared = EncoderDictionary::copy(DICTIONARY_FHIR1, ZSTD_LEVEL);
    let without = Compressor::new(ZSTD_LEVEL).expect("a level of zstd");
    let with = Compressor::with_prepared_dictionary(&prepared).expect("a dictionary");
    for (name, mut compressor) in [("without", without), ("with", with)] {
        let mut compress = move || -> usize {
            documents.iter().map(|text| compressor.compress(text.as_bytes()).expect("fits").len()).sum()
        };
        println!("zstd {name} the dictionary: ratio {:.2}", len as f64 / compress() as f64);
        group.bench_function(format!("zstd_{name}_dictionary"), |b| {
            b.iter_batched(|| (), |()| compress(), BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// Rows of a few lost shards, from the last k that are left.
fn lost_rows(c: &mut Criterion) {
    for (k, n) in [(3, 7), (4, 6), (16, 24)] {
        let code = Code::new(k, n).expect("a code");
        let run = noise(ROWS_LEN);
        let given: Vec<_> = ((n - k) as u16..n as u16).map(|shard| (ShardIndex(shard), &run[..])).collect();
        let mut group = c.benchmark_group(format!("rows of {k}-of-{n}"));
        group.throughput(Throughput::Bytes(u64::from(k) * ROWS_LEN as u64));
        for lost in (1..=4).take_while(|lost| u32::from(*lost) <= n - k) {
            let wanted: Vec<_> = (0..lost).map(ShardIndex).collect();
            group.bench_function(format!("{lost} lost"), |b| b.iter(|| decode_rows(code, &wanted, &given)));
        }
    }
}

criterion_group!(benches, lost_rows, incompressible, small_documents);
criterion_main!(benches);
