//! Compares an append to the write-ahead log with `fdatasync` of a plain file on the same disk in the same run.
//!
//! `BITHEALTH_BENCH_DIR` (the temporary folder) says where.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bithealth_store::{OsDisk, Wal};
use bithealth_types::Height;

const TURNS: usize = 200;
const FRAME: [u8; 1024] = [7; 1024];
const SAFETY: [u8; 300] = [9; 300];

fn main() {
    let place = env::var_os("BITHEALTH_BENCH_DIR").map_or_else(env::temp_dir, PathBuf::from);
    let root = place.join(format!("bithealth-wal-bench-{}", std::process::id()));
    fs::create_dir_all(&root).expect("the bench needs a folder to write to");
    let plain = plain_file(&root.join("plain"));
    let (mut wal, _) = Wal::open(Arc::new(OsDisk), &root).expect("a new log");
    println!("medians of {TURNS}, frames of {} bytes, safety states of {}", FRAME.len(), SAFETY.len());
    tell("write and fdatasync of a plain file, in place", || {
        plain.write_all_at(&FRAME, 0).and_then(|()| plain.sync_data()).expect("a disk that works");
    });
    for log in ["a log that grows", "a log that has grown"] {
        wal.start(Height(1)).expect("a disk that works");
        tell(&format!("frame alone, {log}"), || wal.append(&[&FRAME], None).expect("a disk that works"));
        tell(&format!("frame and safety state, {log}"), || {
            wal.append(&[&FRAME], Some(&SAFETY)).expect("a disk that works");
        });
    }
    let mut height = 1;
    tell("a new height", || {
        height += 1;
        wal.start(Height(height)).expect("a disk that works");
    });
    fs::remove_dir_all(&root).expect("the bench removes what it wrote");
}

fn plain_file(path: &Path) -> File {
    let file = File::create_new(path).expect("a file in the bench's folder");
    file.write_all_at(&[0; 64 << 10], 0).and_then(|()| file.sync_all()).expect("room for the bench");
    file
}

fn tell(what: &str, mut run: impl FnMut()) {
    let mut times: Vec<Duration> = (0..TURNS)
        .map(|_| {
            let start = Instant::now();
            run();
            start.elapsed()
        })
        .collect();
    times.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!("{what}: {:.2} ms, 99th percentile {:.2} ms", millis(times[TURNS / 2]), millis(times[TURNS * 99 / 100]));
}
