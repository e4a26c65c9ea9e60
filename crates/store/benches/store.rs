//! Compares the store with a plain file on the same disk in the same run, and says how quickly a store of gigabytes opens.
//!
//! `BITHEALTH_BENCH_MIB` (2048) is written to each for each length of body, `BITHEALTH_BENCH_OPEN_MIB` (4096) for the last part,
//! `BITHEALTH_BENCH_DIR` (the temporary folder) says where.

use std::env;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bithealth_store::{Config, Kind, Store};

const MIB: u64 = 1 << 20;
const SYNC_EVERY: u64 = 64 * MIB;
const BODY_LENS: [usize; 3] = [64 << 10, 1 << 20, 16 << 20];

fn main() {
    let total = number("BITHEALTH_BENCH_MIB", 2048) * MIB;
    let place = env::var_os("BITHEALTH_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let root = place.join(format!("bithealth-store-bench-{}", std::process::id()));
    fs::create_dir_all(&root).expect("the bench needs a folder to write to");
    for body_len in BODY_LENS {
        appending(&root, total, body_len);
    }
    opening(&root, number("BITHEALTH_BENCH_OPEN_MIB", 4096) * MIB);
    fs::remove_dir_all(&root).expect("the bench removes what it wrote");
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn config() -> Config {
    Config { reserve_len: 0, ..Config::default() }
}

/// Appends 64 MiB to a plain file and 64 MiB to the store by turns, each with its sync, so that both meet the same disk.
fn appending(root: &Path, total: u64, body_len: usize) {
    let body = noise(body_len);
    let mut file = File::create(root.join("raw")).expect("a file in the bench's folder");
    let store = Store::open(&root.join("store"), config()).expect("a new store");
    let (mut raw_time, mut store_time) = (Duration::ZERO, Duration::ZERO);
    let mut ratios = Vec::new();
    for turn in 0..total / SYNC_EVERY {
        let mut append_raw = || timed(|| append_raw(&mut file, &body));
        let append_store = || timed(|| append_store(&store, turn, &body));
        let (raw, stored) = if turn % 2 == 0 {
            let raw = append_raw();
            (raw, append_store())
        } else {
            let stored = append_store();
            (append_raw(), stored)
        };
        raw_time += raw;
        store_time += stored;
        ratios.push(raw.as_secs_f64() / stored.as_secs_f64());
    }
    store.close().expect("a disk that works");
    fs::remove_file(root.join("raw")).expect("it was just written");
    fs::remove_dir_all(root.join("store")).expect("it was just written");
    ratios.sort_by(f64::total_cmp);
    println!(
        "append {:>5} KiB bodies, fsync each 64 MiB: {:.0} MB/s, plain file {:.0} MB/s, ratio {:.2}, median of turns {:.2}",
        body_len >> 10,
        rate(total, store_time),
        rate(total, raw_time),
        raw_time.as_secs_f64() / store_time.as_secs_f64(),
        ratios[ratios.len() / 2],
    );
}

fn append_raw(file: &mut File, body: &[u8]) {
    for _ in 0..SYNC_EVERY / body.len() as u64 {
        file.write_all(body).expect("room for the bench");
    }
    file.sync_data().expect("a disk that works");
}

fn append_store(store: &Store, turn: u64, body: &[u8]) {
    let count = SYNC_EVERY / body.len() as u64;
    let puts = (turn * count..(turn + 1) * count).map(|i| store.put(Kind::Shard, &i.to_be_bytes(), b"meta", &[body]));
    let last = puts.map(|put| put.expect("room for the bench")).last().expect("at least one");
    store.sync(last).expect("a disk that works");
}

fn fill(store: &Store, total: u64, body: &[u8]) {
    let (mut written, mut unsynced) = (0, 0);
    while written < total {
        let key = (written / body.len() as u64).to_be_bytes();
        let position = store.put(Kind::Shard, &key, b"meta", &[body]).expect("room for the bench");
        written += body.len() as u64;
        unsynced += body.len() as u64;
        if unsynced >= SYNC_EVERY || written >= total {
            store.sync(position).expect("a disk that works");
            unsynced = 0;
        }
    }
}

fn opening(root: &Path, total: u64) {
    let body = noise(256 << 10);
    let dir = root.join("large");
    let store = Store::open(&dir, config()).expect("a new store");
    fill(&store, total, &body);
    println!("{} MiB in {} KiB bodies: resident {} MiB after writing", total / MIB, body.len() >> 10, resident_mib());
    let start = Instant::now();
    store.close().expect("a disk that works");
    println!("close: {:.0} ms", millis(start.elapsed()));

    let start = Instant::now();
    let store = Store::open(&dir, config()).expect("what was closed opens");
    let elapsed = start.elapsed();
    assert_eq!(store.opening().rebuilt, None);
    println!("open after a clean close: {:.0} ms, resident {} MiB", millis(elapsed), resident_mib());

    let count = total / body.len() as u64;
    let start = Instant::now();
    for i in 0..count {
        let key = (i.wrapping_mul(7919) % count).to_be_bytes();
        let bytes = store.read(Kind::Shard, &key, 0..body.len() as u64).expect("what was put");
        assert_eq!(bytes.len(), body.len());
    }
    let rate = rate(total, start.elapsed());
    println!("read in another order, verified: {rate:.0} MB/s, resident {} MiB", resident_mib());
    store.close().expect("a disk that works");

    fs::remove_file(dir.join("clean")).expect("a closed store has it");
    let start = Instant::now();
    let store = Store::open(&dir, config()).expect("the index is rebuilt");
    let elapsed = start.elapsed();
    assert!(store.opening().rebuilt.is_some());
    println!("open with a rebuild of {} keys: {:.0} ms", store.usage().items, millis(elapsed));
}

fn timed(run: impl FnOnce()) -> Duration {
    let start = Instant::now();
    run();
    start.elapsed()
}

/// Megabytes per second.
fn rate(len: u64, time: Duration) -> f64 {
    len as f64 / time.as_secs_f64() / 1e6
}

fn millis(elapsed: Duration) -> f64 {
    elapsed.as_secs_f64() * 1e3
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let draw = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    std::iter::repeat_with(draw).take(len / 8).flatten().collect()
}

fn resident_mib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}
