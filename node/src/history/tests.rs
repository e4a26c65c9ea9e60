use std::path::Path;

use bithealth_store::{Config, Faults, FaultyDisk};
use bithealth_types::Digest;

use super::*;

const AUTHOR: NodeId = NodeId([7; 32]);
const OTHER: NodeId = NodeId([8; 32]);
const RUN: u64 = <v1::SignedEntry as Kept>::RUN_COUNT as u64;

fn store(disk: &FaultyDisk) -> Arc<Store> {
    let config = Config { segment_len: 64 << 10, reserve_len: 0, ..Config::default() };
    Arc::new(Store::open_on(Arc::new(disk.clone()), Path::new("/store"), config).unwrap())
}

fn history(disk: &FaultyDisk) -> History {
    History::new(store(disk))
}

/// The entry that every test has at a position.
fn entry(sequence: u64) -> v1::SignedEntry {
    let entry = Bytes::from(sequence.to_be_bytes().repeat(4));
    v1::SignedEntry { entry, signature: Bytes::from_static(&[3; 64]) }
}

fn block(height: u64) -> v1::Block {
    let header = v1::Header { height, previous: Bytes::copy_from_slice(&Digest([1; 32]).0), ..v1::Header::default() };
    v1::Block { header: Some(header), ..v1::Block::default() }
}

fn write(history: &History, author: &NodeId, sequences: std::ops::Range<u64>) {
    let last = sequences.map(|at| history.put_entry(author, Sequence(at), &entry(at)).unwrap()).last();
    history.sync(last.unwrap()).unwrap();
}

fn count(history: &History, kind: Kind) -> usize {
    history.store.keys(kind).count()
}

/// How many entries are there from the first on; each must be the one that was written.
fn readable(history: &History, author: &NodeId) -> u64 {
    let mut reader = history.entries(author);
    let read = (0..).map(|at| reader.find(at).unwrap().inspect(|found| assert_eq!(*found, entry(at))));
    read.take_while(Option::is_some).count() as u64
}

#[test]
fn what_is_folded_is_read_as_before_and_takes_one_key_a_run() {
    let disk = FaultyDisk::new(0);
    let history = history(&disk);
    write(&history, &AUTHOR, 0..3 * RUN + 5);
    write(&history, &OTHER, 0..RUN);
    assert_eq!(history.fold_entries(&AUTHOR, 2 * RUN - 1).unwrap(), 1, "what is not final stays alone");
    assert_eq!(history.fold_entries(&AUTHOR, 3 * RUN).unwrap(), 2);
    assert_eq!(history.fold_entries(&AUTHOR, 3 * RUN).unwrap(), 0);
    assert_eq!((count(&history, Kind::EntryRun), count(&history, Kind::Entry)), (3, 5 + RUN as usize));
    for from in [0, 1, RUN - 1, RUN, RUN + 1, 3 * RUN - 1, 3 * RUN, 3 * RUN + 4] {
        let mut reader = history.entries(&AUTHOR);
        (from..3 * RUN + 5).for_each(|at| assert_eq!(reader.at(at).unwrap(), entry(at)));
        assert_eq!(reader.find(3 * RUN + 5).unwrap(), None);
    }
    let mut backwards = history.entries(&AUTHOR);
    (0..3 * RUN + 5).rev().for_each(|at| assert_eq!(backwards.at(at).unwrap(), entry(at)));
    assert_eq!(readable(&history, &OTHER), RUN);
}

#[test]
fn blocks_begin_at_height_one_and_are_folded_by_themselves() {
    let disk = FaultyDisk::new(0);
    let history = history(&disk);
    let count_of_run = u64::from(<v1::Block as Kept>::RUN_COUNT);
    let tip = 2 * count_of_run + 3;
    for height in 1..=tip {
        history.put_block(Height(height), &block(height)).unwrap();
    }
    assert_eq!(history.fold_blocks(Height(count_of_run - 1)).unwrap(), 0);
    assert_eq!(history.fold_blocks(Height(tip)).unwrap(), 2);
    assert_eq!((count(&history, Kind::BlockRun), count(&history, Kind::Block)), (2, 3));
    let mut reader = history.blocks();
    assert_eq!(reader.find(0).unwrap(), None);
    (1..=tip).for_each(|height| assert_eq!(reader.at(height).unwrap(), block(height)));
    assert_eq!(reader.find(tip + 1).unwrap(), None);
}

#[test]
fn a_run_is_read_once_for_all_that_lie_in_it() {
    let disk = FaultyDisk::new(0);
    let history = history(&disk);
    write(&history, &AUTHOR, 0..2 * RUN);
    history.fold_entries(&AUTHOR, 2 * RUN).unwrap();
    let mut reader = history.entries(&AUTHOR);
    assert_eq!(reader.at(0).unwrap(), entry(0));
    history.store.remove(Kind::EntryRun, &key(AUTHOR.as_bytes(), 0)).unwrap();
    (0..RUN).for_each(|at| assert_eq!(reader.at(at).unwrap(), entry(at)));
    assert_eq!(reader.at(RUN).unwrap(), entry(RUN));
    assert_eq!(reader.find(0).unwrap(), None, "only the last run is kept");
}

#[test]
fn an_old_store_is_folded_and_goes_on_where_it_was_after_a_restart() {
    let disk = FaultyDisk::new(0);
    write(&history(&disk), &AUTHOR, 0..3 * RUN);
    let disk = disk.kill();
    let again = history(&disk);
    assert_eq!(again.fold_entries(&AUTHOR, 2 * RUN).unwrap(), 2);
    let disk = disk.kill();
    let again = history(&disk);
    assert_eq!(again.fold_entries(&AUTHOR, 3 * RUN).unwrap(), 1, "the runs that are there are not written again");
    let disk = disk.kill();
    let again = history(&disk);
    assert_eq!(again.fold_entries(&AUTHOR, 3 * RUN).unwrap(), 0);
    write(&again, &AUTHOR, 3 * RUN..4 * RUN);
    assert_eq!(again.fold_entries(&AUTHOR, 4 * RUN).unwrap(), 1);
    assert_eq!((readable(&again, &AUTHOR), count(&again, Kind::Entry)), (4 * RUN, 0));
}

#[test]
fn what_a_crash_left_between_the_run_and_its_singles_is_harmless_and_goes_with_the_next_fold() {
    let disk = FaultyDisk::new(0);
    let first = history(&disk);
    write(&first, &AUTHOR, 0..2 * RUN);
    // The run is durable, and the machine stops before the keys of their own go.
    let run = encode(&v1::EntryRun { entries: (0..RUN).map(entry).collect() });
    let position = first.store.put(Kind::EntryRun, &key(AUTHOR.as_bytes(), 0), &[], &[&run]).unwrap();
    first.sync(position).unwrap();
    let again = history(&disk.crash());
    assert_eq!(readable(&again, &AUTHOR), 2 * RUN);
    again.fold_entries(&AUTHOR, 2 * RUN).unwrap();
    assert_eq!((readable(&again, &AUTHOR), count(&again, Kind::Entry)), (2 * RUN, 0));
}

#[test]
fn a_run_with_a_damaged_entry_stays_as_it_is_and_the_others_are_folded() {
    let disk = FaultyDisk::new(0);
    let first = history(&disk);
    write(&first, &AUTHOR, 0..3 * RUN);
    let bad = encode(&entry(RUN + 9));
    let disk = disk.kill();
    let (path, at) = find(&disk, &bad);
    disk.flip(&path, 8 * at + 3);
    let again = history(&disk);
    assert_eq!(again.fold_entries(&AUTHOR, 3 * RUN).unwrap(), 2);
    assert_eq!((count(&again, Kind::EntryRun), count(&again, Kind::Entry)), (2, RUN as usize));
    let mut reader = again.entries(&AUTHOR);
    let sound = (0..3 * RUN).filter(|at| reader.at(*at).is_ok_and(|found| found == entry(*at))).count() as u64;
    assert_eq!(sound, 3 * RUN - 1);
    assert!(matches!(reader.at(RUN + 9), Err(ChainError::Read(ReadError::Damaged { .. }))));
}

#[test]
fn what_the_singles_took_is_given_back_and_the_runs_stay() {
    let disk = FaultyDisk::new(0);
    let first = history(&disk);
    write(&first, &AUTHOR, 0..8 * RUN);
    let before = first.store.usage().bytes;
    first.fold_entries(&AUTHOR, 8 * RUN).unwrap();
    assert!(first.store.usage().bytes > before, "both are there for a while");
    assert!(first.store.compact().unwrap().damaged.is_empty());
    let after = first.store.usage().bytes;
    assert!(after < before * 2 / 3, "{before} bytes became {after}");
    let again = history(&disk.crash());
    assert_eq!((readable(&again, &AUTHOR), count(&again, Kind::Entry)), (8 * RUN, 0));
}

/// The file that holds these bytes, and where.
fn find(disk: &FaultyDisk, bytes: &[u8]) -> (std::path::PathBuf, u64) {
    use bithealth_store::{Disk, Open};
    let found = disk.paths().into_iter().find_map(|(path, len)| {
        let mut all = vec![0; len as usize];
        disk.open(&path, Open::Read).ok()?.read_at(&mut all, 0).ok()?;
        let at = all.windows(bytes.len()).position(|window| window == bytes)?;
        Some((path, at as u64))
    });
    found.expect("the store wrote them")
}

/// Whatever fails while entries are written and folded, and wherever the power goes: what was acknowledged is read back,
/// nothing else is, and a fold without faults finishes the work.
#[test]
fn nothing_acknowledged_is_lost_wherever_folding_fails() {
    let all = Faults {
        write_error: 20,
        short_write: 20,
        sync_error: 50,
        sync_error_forgets: 100,
        read_error: 5,
        truncate_error: 100,
    };
    let (mut folded, mut failed) = (0, 0);
    for seed in 0..60 {
        let mut disk = FaultyDisk::new(seed);
        let mut len = 0;
        for life in 0..4_u64 {
            let history = history(&disk);
            disk.set_faults(if seed % 3 == 0 { Faults::default() } else { all });
            let mut written = len;
            for step in 0..6 {
                let put = (written..).take(40 + 97 * step).map_while(|at| {
                    let position = history.put_entry(&AUTHOR, Sequence(at), &entry(at)).ok()?;
                    Some((at, position))
                });
                let put = put.last();
                if let Some((at, position)) = put {
                    written = at + 1;
                    if history.sync(position).is_ok() {
                        len = written;
                    }
                }
                match history.fold_entries(&AUTHOR, len) {
                    Ok(runs) => folded += runs,
                    Err(_) => failed += 1,
                }
            }
            disk = if (seed + life) % 2 == 0 { disk.crash() } else { disk.kill() };
            drop(history); // its disk is gone
            disk.set_faults(Faults::default());
            let found = readable(&self::history(&disk), &AUTHOR);
            assert!(found >= len, "seed {seed}: {found} of {len}");
            len = found;
        }
        let last = history(&disk);
        last.fold_entries(&AUTHOR, len).unwrap();
        assert_eq!(readable(&last, &AUTHOR), len, "seed {seed}");
        let open = key(AUTHOR.as_bytes(), len - len % RUN);
        let first = last.store.keys(Kind::Entry).next().map(Result::unwrap);
        assert!(first.is_none_or(|first| first >= open), "seed {seed}: something final lies alone");
        assert_eq!(count(&last, Kind::EntryRun) as u64, len / RUN, "seed {seed}");
    }
    assert!(folded > 100 && failed > 30, "{folded} runs were written, {failed} folds failed");
}
