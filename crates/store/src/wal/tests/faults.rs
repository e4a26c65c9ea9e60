//! Seeded runs against a model: whatever fails, no acknowledged frame or safety state is lost, every log opens, and no
//! frame comes back at another height.
//!
//! `BITHEALTH_SEEDS` says how many seeds each kind of fault gets, `BITHEALTH_SEED` the first; failures print theirs.

use std::env;

use super::*;
use crate::wal::state::SLOT_LEN;

const STEPS: u64 = 40;
const LIVES: u64 = 3;

/// What a log holds; frames and safety states are told apart by their numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Held {
    height: u64,
    frames: Vec<u32>,
    safety: Option<u32>,
}

/// What was asked of a log and not acknowledged.
#[derive(Debug)]
enum Attempt {
    Append { frames: Vec<u32>, safety: Option<u32> },
    Start { height: u64 },
}

impl Held {
    fn apply(&mut self, attempt: Attempt) {
        match attempt {
            Attempt::Append { frames, safety } => {
                self.frames.extend(frames);
                self.safety = safety.or(self.safety);
            }
            Attempt::Start { height } => (self.height, self.frames) = (height, Vec::new()),
        }
    }

    /// Whether `found` is this, or a new height, or this with frames of one attempt and the safety state of one.
    fn may_become(&self, attempts: &[Attempt], found: &Held) -> bool {
        let started = |attempt: &Attempt| matches!(attempt, Attempt::Start { height } if *height == found.height);
        let signed = |attempt: &Attempt| matches!(attempt, Attempt::Append { safety, .. } if safety.is_some() && *safety == found.safety);
        let safety_fits = found.safety == self.safety || attempts.iter().any(signed);
        let frames_fit = match found.frames.strip_prefix(&self.frames[..]) {
            _ if found.height != self.height => found.frames.is_empty() && attempts.iter().any(started),
            None => false,
            Some(more) => {
                let holds =
                    |attempt: &Attempt| matches!(attempt, Attempt::Append { frames, .. } if frames.starts_with(more));
                more.is_empty() || attempts.iter().any(holds)
            }
        };
        frames_fit && safety_fits
    }
}

struct Run {
    seed: u64,
    random: u64,
    disk: FaultyDisk,
    faults: Faults,
    certain: Held,
    attempts: Vec<Attempt>,
    number: u32,
    acknowledged: u64,
}

impl Run {
    fn new(seed: u64, faults: Faults, capacity: u64) -> Self {
        let random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let disk = FaultyDisk::new(seed);
        disk.set_capacity(capacity);
        let certain = Held::default();
        Self { seed, random, disk, faults, certain, attempts: Vec::new(), number: 0, acknowledged: 0 }
    }

    fn draw(&mut self, bound: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % bound
    }

    fn next_number(&mut self) -> u32 {
        self.number += 1;
        self.number
    }

    /// What a number stands for; few lengths, so that later bytes often lie exactly where earlier ones did.
    fn content(number: u32) -> Vec<u8> {
        let len = [4, 4, 4, 40, 40, 600, 3000][number as usize % 7];
        number.to_le_bytes().into_iter().cycle().take(len).collect()
    }

    fn number_of(&self, bytes: &[u8]) -> u32 {
        let number = u32::from_le_bytes(*bytes.first_chunk().expect("all contents begin with their number"));
        assert_eq!(bytes, Self::content(number), "seed {}", self.seed);
        number
    }

    fn step(&mut self, wal: &mut Wal) -> Result<(), WalError> {
        let attempt = match self.draw(8) {
            0 => Attempt::Start { height: self.certain.height + 1 },
            kind => {
                let frames = (0..self.draw(4)).map(|_| self.next_number()).collect();
                let safety = (kind > 3).then(|| self.next_number());
                Attempt::Append { frames, safety }
            }
        };
        let result = match &attempt {
            Attempt::Start { height } => wal.start(Height(*height)),
            Attempt::Append { frames, safety } => {
                let frames: Vec<_> = frames.iter().copied().map(Self::content).collect();
                let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
                wal.append(&frames, safety.map(Self::content).as_deref())
            }
        };
        match &result {
            Ok(()) => {
                self.certain.apply(attempt);
                self.attempts.clear();
                self.acknowledged += 1;
            }
            Err(WalError::Broken { .. }) => {}
            Err(_) => self.attempts.push(attempt),
        }
        result
    }

    fn held(&self, found: &Recovered) -> Held {
        Held {
            height: found.height.0,
            frames: found.frames.iter().map(|frame| self.number_of(frame)).collect(),
            safety: found.safety.as_deref().map(|safety| self.number_of(safety)),
        }
    }

    /// What an opened log gave is one of the states it may have, and certain from now on.
    fn check(&mut self, found: &Recovered) {
        let held = self.held(found);
        let (seed, certain, attempts) = (self.seed, &self.certain, &self.attempts);
        assert!(certain.may_become(attempts, &held), "seed {seed}: {held:?} of {certain:?} and {attempts:?}");
        self.certain = held;
        self.attempts.clear();
    }

    fn reopen(&mut self) -> Wal {
        self.disk.set_faults(Faults::default());
        let (wal, found) = try_open(&self.disk).unwrap_or_else(|error| panic!("seed {}: {error}", self.seed));
        self.check(&found);
        self.disk.set_faults(self.faults);
        wal
    }

    /// A log that broke is opened again while the disk goes on to fail, as a node would.
    fn reopen_on_a_bad_disk(&mut self) -> Option<Wal> {
        match try_open(&self.disk) {
            Ok((wal, found)) => {
                self.check(&found);
                Some(wal)
            }
            Err(WalError::SafetyLost { .. }) => panic!("seed {}: both copies are lost", self.seed),
            Err(_) => None,
        }
    }

    fn live(&mut self) {
        let mut wal = Some(self.reopen());
        for _ in 0..STEPS {
            match &mut wal {
                None => wal = self.reopen_on_a_bad_disk(),
                Some(open) => {
                    if let Err(WalError::Broken { .. }) = self.step(open) {
                        wal = None;
                    }
                }
            }
        }
        self.disk = if self.draw(3) > 0 { self.disk.crash() } else { self.disk.kill() };
    }
}

fn number(name: &str, default: u64) -> u64 {
    env::var(name).ok().map_or(default, |text| text.parse().expect("a number of seeds"))
}

fn seeds() -> std::ops::Range<u64> {
    let first = number("BITHEALTH_SEED", 0);
    first..first + number("BITHEALTH_SEEDS", 200)
}

fn runs(faults: Faults, capacity: u64) {
    let mut acknowledged = 0;
    for seed in seeds() {
        let mut run = Run::new(seed, faults, capacity);
        (0..LIVES).for_each(|_| run.live());
        run.reopen();
        acknowledged += run.acknowledged;
    }
    let count = seeds().count() as u64;
    println!("seeds {:?}: {acknowledged} acknowledged", seeds());
    assert!(acknowledged > 5 * count, "the faults leave some appends to succeed");
}

const NONE: Faults =
    Faults { write_error: 0, short_write: 0, sync_error: 0, sync_error_forgets: 0, read_error: 0, truncate_error: 0 };

/// Both files as they are created, and a few frames.
const SMALL: u64 = 2 * SLOT_LEN + (6 << 10);

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    runs(NONE, u64::MAX);
}

#[test]
fn nothing_acknowledged_is_lost_when_writes_fail() {
    runs(Faults { write_error: 60, short_write: 60, ..NONE }, u64::MAX);
}

#[test]
fn nothing_acknowledged_is_lost_when_syncs_fail() {
    runs(Faults { sync_error: 150, ..NONE }, u64::MAX);
}

#[test]
fn nothing_acknowledged_is_lost_when_failed_syncs_forget_what_they_were_given() {
    runs(Faults { sync_error: 100, sync_error_forgets: 500, ..NONE }, u64::MAX);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    runs(NONE, SMALL);
}

#[test]
fn nothing_acknowledged_is_lost_when_everything_fails() {
    let faults =
        Faults { write_error: 30, short_write: 30, sync_error: 60, sync_error_forgets: 200, read_error: 60, ..NONE };
    runs(faults, SMALL);
}

/// A flip in an in-doubt log may cost what one of its copies had, but never silently.
#[test]
fn a_flipped_bit_after_any_of_this_is_reported_or_dead() {
    for seed in seeds() {
        let mut run = Run::new(seed, NONE, u64::MAX);
        run.live();
        if seed % 2 == 0 {
            let mut wal = run.reopen();
            run.disk.set_faults(Faults { sync_error: 100, write_error: 50, ..NONE });
            while run.draw(20) > 0 && run.step(&mut wal).is_ok() {}
            run.disk = run.disk.crash();
        }
        let (path, len) = {
            let files = run.disk.paths();
            files[run.draw(files.len() as u64) as usize].clone()
        };
        // Half of the bits in the first bytes of state and frames, where most of what counts lies.
        let first = if path == Path::new(LOG) && run.draw(2) == 0 { SLOT_LEN } else { 0 };
        let byte = first + if run.draw(2) == 0 { run.draw(200) } else { run.draw(len - first) };
        let bit = 8 * byte + run.draw(8);
        run.disk.flip(&path, bit);
        run.disk.set_faults(NONE);
        let (_, found) = match try_open(&run.disk) {
            // A copy is torn only while the other is whole; that one was hit.
            Err(WalError::SafetyLost { .. }) if !run.attempts.is_empty() => continue,
            opened => opened.unwrap_or_else(|error| panic!("seed {seed}: bit {bit} of {path:?}: {error}")),
        };
        let held = run.held(&found);
        let told = found.cut_at.is_some() || found.repaired.is_some();
        let fits = run.certain.may_become(&run.attempts, &held);
        assert!(fits || told, "seed {seed}: bit {bit} of {path:?}: {held:?} of {:?}", run.certain);
        let is_older = held.height < run.certain.height || held.safety < run.certain.safety;
        assert!(!is_older, "seed {seed}: bit {bit} of {path:?}: {held:?} of {:?}", run.certain);
    }
}
