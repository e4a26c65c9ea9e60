//! Seeded runs against a model: whatever fails, nothing acknowledged is lost, every store opens, no read is false.
//!
//! `BITHEALTH_SEEDS` says how many seeds each kind of fault gets, `BITHEALTH_SEED` the first; failures print theirs.

use std::collections::BTreeMap;
use std::env;

use super::*;
use crate::{Faults, FaultyDisk, Position};

const STEPS: u64 = 60;
const LIVES: u64 = 3;

/// A version of a key: `None` is its absence.
type State = Option<u32>;

/// What may be found under a key: what is certain, or any attempt after it.
#[derive(Clone, Debug, Default)]
struct History {
    certain: State,
    later: Vec<(Option<Position>, State)>,
}

impl History {
    fn acknowledge(&mut self, upto: Position) {
        let covered = self.later.iter().rposition(|(position, _)| position.is_some_and(|position| position <= upto));
        if let Some(covered) = covered {
            self.certain = self.later[covered].1;
            self.later.drain(..=covered);
        }
    }

    fn newest(&self) -> State {
        let taken = self.later.iter().rfind(|(position, _)| position.is_some());
        taken.map_or(self.certain, |(_, state)| *state)
    }

    fn may_be(&self, state: State) -> bool {
        self.certain == state || self.later.iter().any(|(_, later)| *later == state)
    }
}

struct Run {
    seed: u64,
    random: u64,
    disk: FaultyDisk,
    faults: Faults,
    keys: BTreeMap<u8, History>,
    version: u32,
    acknowledged: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Power,
    Kill,
    Clean,
}

impl Run {
    fn draw(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    /// What version `version` of a key holds; its length runs over several blocks at times.
    fn content(version: u32) -> Vec<u8> {
        let len = match version % 11 {
            0 => 0,
            1 => 20_000 + version as usize % 999,
            few => 100 * few as usize,
        };
        version.to_le_bytes().into_iter().cycle().take(len).collect()
    }

    fn put(&mut self, store: &Store) {
        let at = self.draw(12) as u8;
        self.version += 1;
        let body = Self::content(self.version);
        let half = body.len() / 2;
        let put = store.put(Kind::Pack, &key(at), &self.version.to_le_bytes(), &[&body[..half], &body[half..]]);
        self.attempt(at, put.ok(), Some(self.version));
    }

    fn remove(&mut self, store: &Store) {
        let at = self.draw(12) as u8;
        let removed = store.remove(Kind::Pack, &key(at)).ok();
        self.attempt(at, removed, None);
    }

    fn remove_run(&mut self, store: &Store) {
        let (first, count) = (self.draw(12) as u8, self.draw(6) as u8);
        let removed = store.remove_run(Kind::Pack, &key(first), u16::from(count)).ok();
        (first..12.min(first + count)).for_each(|key| self.attempt(key, removed, None));
    }

    fn attempt(&mut self, key: u8, position: Option<Position>, state: State) {
        self.keys.entry(key).or_default().later.push((position, state));
    }

    fn sync(&mut self, store: &Store) {
        let positions: Vec<Position> =
            self.keys.values().flat_map(|history| history.later.iter().filter_map(|(position, _)| *position)).collect();
        if positions.is_empty() {
            return;
        }
        let upto = positions[self.draw(positions.len() as u64) as usize];
        if store.sync(upto).is_ok() {
            self.keys.values_mut().for_each(|history| history.acknowledge(upto));
            self.acknowledged += 1;
        }
    }

    fn step(&mut self, store: &Store) {
        match self.draw(20) {
            0..=8 => self.put(store),
            9 => self.remove(store),
            10 => self.remove_run(store),
            11..=15 => self.sync(store),
            16 => drop(store.compact()),
            _ => {
                let key = self.draw(12) as u8;
                let newest = self.keys.get(&key).and_then(History::newest);
                match self.read(store, key) {
                    Ok(found) => assert_eq!(found, newest, "seed {}: key {key}", self.seed),
                    Err(ReadError::Io { .. }) => assert_ne!(self.faults.read_error, 0, "seed {}", self.seed),
                    Err(error) => assert_ne!(self.faults.sync_error_forgets, 0, "seed {}: {error}", self.seed),
                }
            }
        }
    }

    /// The version found under a key; a false byte is a failure of the test.
    fn read(&self, store: &Store, at: u8) -> Result<State, ReadError> {
        let Some(item) = store.get(Kind::Pack, &key(at))? else { return Ok(None) };
        let version = u32::from_le_bytes(item.meta[..].try_into().expect("every meta is a version"));
        match store.read(Kind::Pack, &key(at), 0..item.len) {
            Ok(body) => assert_eq!(body, Self::content(version), "seed {}: key {at}", self.seed),
            Err(ReadError::Absent { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        Ok(Some(version))
    }

    /// Opens without faults and finds one of the states that each key may have; those are then certain.
    fn reopen(&mut self) -> Store {
        self.disk.set_faults(Faults::default());
        let store = try_open(&self.disk).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        assert_eq!(store.opening().missing, [0; 0], "seed {}", self.seed);
        for key in 0..12 {
            let found = self.read(&store, key).unwrap_or_else(|error| panic!("seed {}: key {key}: {error}", self.seed));
            let history = self.keys.entry(key).or_default();
            assert!(history.may_be(found), "seed {}: key {key} is {found:?}, of {history:?}", self.seed);
            *history = History { certain: found, later: Vec::new() };
        }
        let damage: Vec<_> = store.scrub().flat_map(|step| step.unwrap().damage).collect();
        assert!(damage.is_empty(), "seed {}: {damage:?}", self.seed);
        store
    }

    fn live(&mut self, end: End) {
        let store = self.reopen();
        self.disk.set_faults(self.faults);
        for _ in 0..STEPS {
            self.step(&store);
        }
        let was_closed = match end {
            End::Power | End::Kill => {
                let disk = if end == End::Power { self.disk.crash() } else { self.disk.kill() };
                drop(store); // its disk is gone, so this changes nothing
                self.disk = disk;
                false
            }
            End::Clean => {
                let was_closed = store.close().is_ok();
                self.disk = if was_closed { self.disk.crash() } else { self.disk.kill() };
                was_closed
            }
        };
        if was_closed || (end == End::Kill && self.faults == NONE) {
            let all = Position { segment: u64::MAX, end: 0 };
            self.keys.values_mut().for_each(|history| history.acknowledge(all));
        }
    }
}

/// Keys that runs of them can be removed of.
fn key(at: u8) -> [u8; 8] {
    u64::from(at).to_be_bytes()
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().expect("a number of seeds"))
}

fn runs(faults: Faults, capacity: u64, ends: &[End]) {
    let first = number("BITHEALTH_SEED", 0);
    let count = number("BITHEALTH_SEEDS", 200);
    let mut acknowledged = 0;
    for seed in first..first + count {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let disk = FaultyDisk::new(seed);
        let mut run = Run { seed, random, disk, faults, keys: BTreeMap::new(), version: 0, acknowledged: 0 };
        run.disk.set_capacity(capacity);
        for _ in 0..LIVES {
            let end = ends[run.draw(ends.len() as u64) as usize];
            run.live(end);
        }
        run.reopen();
        acknowledged += run.acknowledged;
    }
    assert!(acknowledged > count, "the faults leave some syncs to succeed");
}

const NONE: Faults =
    Faults { write_error: 0, short_write: 0, sync_error: 0, sync_error_forgets: 0, read_error: 0, truncate_error: 0 };
const ALL_ENDS: &[End] = &[End::Power, End::Power, End::Kill, End::Clean];

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    runs(NONE, u64::MAX, &[End::Power]);
}

#[test]
fn nothing_at_all_is_lost_when_the_process_is_killed_or_closes() {
    runs(NONE, u64::MAX, &[End::Kill, End::Clean]);
}

#[test]
fn nothing_acknowledged_is_lost_when_writes_fail() {
    runs(Faults { write_error: 60, short_write: 60, ..NONE }, u64::MAX, ALL_ENDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_half_written_records_cannot_be_cut_off() {
    runs(Faults { short_write: 100, truncate_error: 500, ..NONE }, u64::MAX, ALL_ENDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_syncs_fail() {
    runs(Faults { sync_error: 200, ..NONE }, u64::MAX, ALL_ENDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_failed_syncs_forget_what_they_were_given() {
    runs(Faults { sync_error: 60, sync_error_forgets: 500, ..NONE }, u64::MAX, ALL_ENDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_reads_fail() {
    runs(Faults { read_error: 50, ..NONE }, u64::MAX, ALL_ENDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    runs(NONE, 90 << 10, ALL_ENDS);
}

#[test]
fn nothing_acknowledged_is_lost_when_everything_fails() {
    let faults = Faults {
        write_error: 30,
        short_write: 30,
        sync_error: 60,
        sync_error_forgets: 200,
        read_error: 20,
        truncate_error: 200,
    };
    runs(faults, 120 << 10, ALL_ENDS);
}

#[test]
fn a_flipped_bit_after_any_of_this_is_reported_or_dead_and_no_read_is_false() {
    let first = number("BITHEALTH_SEED", 0);
    for seed in first..first + number("BITHEALTH_SEEDS", 200) {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let disk = FaultyDisk::new(seed);
        let mut run = Run { seed, random, disk, faults: NONE, keys: BTreeMap::new(), version: 0, acknowledged: 0 };
        run.live(if seed % 2 == 0 { End::Kill } else { End::Clean });
        drop(run.reopen()); // so that all there is was synced, and is known to be
        let files: Vec<_> = run.disk.paths().into_iter().filter(|(_, len)| *len > 0).collect();
        let (path, len) = files[run.draw(files.len() as u64) as usize].clone();
        let bit = run.draw(8 * len);
        run.disk.flip(&path, bit);
        let store = open(&run.disk);
        let scrubbed: Vec<_> = store.scrub().flat_map(|step| step.unwrap().damage).collect();
        let reported: Vec<_> = store.opening().damage.iter().chain(&scrubbed).collect();
        assert_eq!(store.opening().torn, [], "seed {seed}: what was synced is not cut");
        for (&key, history) in &run.keys {
            match run.read(&store, key) {
                Ok(found) => assert_eq!(found, history.certain, "seed {seed}: key {key}, bit {bit} of {path:?}"),
                Err(_) => assert!(!reported.is_empty(), "seed {seed}: key {key}, bit {bit} of {path:?}"),
            }
        }
        let bytes_live = store.usage().live_bytes + SEGMENT_HEAD_LEN;
        let all_live = store.usage().bytes == bytes_live && path.starts_with("/store/segments");
        assert!(!all_live || !reported.is_empty(), "seed {seed}: bit {bit} of {path:?} went unnoticed");
    }
}
