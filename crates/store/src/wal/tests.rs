use std::env;

use super::*;
use crate::{Faults, FaultyDisk};

fn open(disk: &FaultyDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), Path::new("consensus"))
}

fn frames(texts: &[&'static str]) -> Vec<Bytes> {
    texts.iter().map(|text| Bytes::from_static(text.as_bytes())).collect()
}

fn path(name: &str) -> PathBuf {
    Path::new("consensus").join(name)
}

/// A log of height 7 with two frames and a safety state.
fn written() -> FaultyDisk {
    let disk = FaultyDisk::new(1);
    let (mut wal, found) = open(&disk).unwrap();
    assert_eq!(found, Recovered::default());
    wal.start(7).unwrap();
    wal.append(&frames(&["a", "bc"]), Some(b"signed")).unwrap();
    disk
}

#[test]
fn what_was_appended_is_there_again() {
    let disk = written().crash();
    let (mut wal, found) = open(&disk).unwrap();
    let safety = Some(Bytes::from_static(b"signed"));
    assert_eq!(found, Recovered { height: 7, frames: frames(&["a", "bc"]), safety: safety.clone(), torn: 0 });
    wal.append(&frames(&["d"]), None).unwrap();
    let (mut wal, found) = open(&disk.crash()).unwrap();
    assert_eq!(found.frames, frames(&["a", "bc", "d"]));
    wal.start(8).unwrap();
    assert_eq!(wal.height(), 8);
}

#[test]
fn a_new_height_has_no_frames_and_what_was_signed_last() {
    let disk = written();
    open(&disk).unwrap().0.start(8).unwrap();
    let (_, found) = open(&disk.crash()).unwrap();
    let safety = Some(Bytes::from_static(b"signed"));
    assert_eq!(found, Recovered { height: 8, frames: vec![], safety, torn: 0 });
}

#[test]
fn a_damaged_frame_ends_the_log_and_what_follows_is_written_over() {
    let disk = written();
    disk.flip(&path(WAL), (HEAD_LEN as u64 + 9 + 8) * 8); // in "bc"
    let (mut wal, found) = open(&disk).unwrap();
    assert_eq!((found.frames, found.torn), (frames(&["a"]), 10));
    wal.append(&frames(&["new"]), None).unwrap();
    assert_eq!(open(&disk.crash()).unwrap().1.frames, frames(&["a", "new"]));
}

#[test]
fn one_damaged_safety_copy_is_no_loss_and_both_are_said() {
    for name in SAFETY {
        let disk = written();
        disk.flip(&path(name), 8 * 25);
        assert_eq!(open(&disk).unwrap().1.safety, Some(Bytes::from_static(b"signed")));
        let other = SAFETY.into_iter().find(|it| *it != name).unwrap();
        disk.flip(&path(other), 8 * 25);
        assert!(open(&disk).is_ok(), "the damaged copy was written again");
    }
    let disk = written();
    SAFETY.iter().for_each(|name| disk.flip(&path(name), 8 * 25));
    assert!(matches!(open(&disk), Err(WalError::SafetyLost { .. })));
}

#[test]
fn frames_and_safety_states_hold_at_their_limits_and_not_one_past_them() {
    let disk = written();
    let (mut wal, _) = open(&disk).unwrap();
    let of = |len: usize| [Bytes::from(vec![1; len])];
    wal.append(&of(FRAME_LEN_MAX), Some(&[2; SAFETY_LEN_MAX])).unwrap();
    let long = |result: Result<(), WalError>| matches!(result, Err(WalError::TooLong { .. }));
    assert!(long(wal.append(&of(FRAME_LEN_MAX + 1), None)));
    assert!(long(wal.append(&[], Some(&[2; SAFETY_LEN_MAX + 1]))));
    let rest = WAL_LEN_MAX - wal.len;
    let whole = rest / (FRAME_LEN_MAX + FRAME_HEAD_LEN) as u64;
    let many = vec![of(FRAME_LEN_MAX)[0].clone(); whole as usize + 1];
    assert!(long(wal.append(&many, None)));
    wal.append(&frames(&["still"]), None).unwrap();
}

#[test]
fn after_a_failed_write_or_sync_nothing_is_taken_until_it_is_opened_again() {
    for faults in [Faults { sync_error: 1000, ..NONE }, Faults { write_error: 1000, ..NONE }] {
        let disk = written();
        let (mut wal, _) = open(&disk).unwrap();
        disk.set_faults(faults);
        assert!(matches!(wal.append(&frames(&["d"]), None), Err(WalError::Io { .. })));
        disk.set_faults(NONE);
        assert!(matches!(wal.append(&frames(&["e"]), None), Err(WalError::Broken { .. })));
        assert!(matches!(wal.start(8), Err(WalError::Broken { .. })));
        let (mut wal, _) = open(&disk).unwrap();
        wal.append(&frames(&["e"]), None).unwrap();
    }
}

const NONE: Faults =
    Faults { write_error: 0, short_write: 0, sync_error: 0, sync_error_forgets: 0, read_error: 0, truncate_error: 0 };

/// Lives of a log on a failing disk: what was acknowledged is there, frames of one height never show up at another, and
/// it always opens.
fn runs(faults: Faults, capacity: u64) {
    let number = |name: &str, default: u64| env::var(name).map_or(default, |text| text.parse().expect("a number"));
    let first = number("BITHEALTH_SEED", 0);
    let mut acknowledged = 0;
    for seed in first..first + number("BITHEALTH_SEEDS", 200) {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut draw = |bound: u64| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random % bound
        };
        let mut disk = FaultyDisk::new(seed);
        // What must be there, and what may be there besides.
        let (mut height, mut kept, mut signed) = (0, Vec::<Bytes>::new(), Vec::<Bytes>::new());
        let (mut heights, mut open_frames) = (vec![0], Vec::<Bytes>::new());
        for _ in 0..6 {
            disk.set_faults(NONE);
            disk.set_capacity(u64::MAX); // a node keeps a reserve for this
            let (mut wal, found) = open(&disk).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            disk.set_capacity(capacity);
            assert!(heights.contains(&found.height), "seed {seed}");
            if found.height == height {
                assert_eq!(found.frames[..kept.len()], kept, "seed {seed}");
                let more = &found.frames[kept.len()..];
                assert_eq!(*more, open_frames[..more.len()], "seed {seed}");
            } else {
                assert!(found.frames.is_empty(), "seed {seed}: frames of another height");
            }
            match (&found.safety, signed.first()) {
                (None, certain) => assert_eq!(certain.map(Bytes::len).unwrap_or(0), 0, "seed {seed}: lost"),
                (Some(safety), _) => assert!(signed.contains(safety), "seed {seed}: {safety:?} of {signed:?}"),
            }
            (height, kept, heights, open_frames) = (found.height, found.frames, vec![found.height], vec![]);
            signed = vec![found.safety.unwrap_or_default()];
            disk.set_faults(faults);
            for step in 0..20_u64 {
                if draw(6) == 0 {
                    heights.push(height + 1);
                    if wal.start(height + 1).is_ok() {
                        (height, heights) = (height + 1, vec![height + 1]);
                        (kept, open_frames) = (vec![], vec![]);
                    }
                    continue;
                }
                let frame = Bytes::from(format!("{seed} {height} {step} {}", "x".repeat(draw(900) as usize)));
                let safety = (draw(2) == 0).then(|| Bytes::from(format!("signed {height} {step}")));
                open_frames.push(frame.clone());
                signed.extend(safety.clone());
                match wal.append(&[frame], safety.as_deref()) {
                    Ok(()) => {
                        kept.append(&mut open_frames);
                        signed = safety.map_or(signed, |safety| vec![safety]);
                        acknowledged += 1;
                    }
                    Err(WalError::Broken { .. }) => {
                        open_frames.pop();
                        break;
                    }
                    Err(_) => break,
                }
            }
            disk = if draw(3) == 0 { disk.kill() } else { disk.crash() };
        }
    }
    assert!(acknowledged > 100, "the faults leave some appends to succeed");
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_goes() {
    runs(NONE, u64::MAX);
}

#[test]
fn nothing_acknowledged_is_lost_when_writes_or_syncs_fail() {
    runs(Faults { write_error: 40, short_write: 40, ..NONE }, u64::MAX);
    runs(Faults { sync_error: 60, sync_error_forgets: 500, ..NONE }, u64::MAX);
}

#[test]
fn nothing_acknowledged_is_lost_when_the_disk_is_full() {
    runs(NONE, 6 << 10);
}

#[test]
fn a_flipped_bit_is_never_read_as_a_frame_or_a_safety_state() {
    let whole = open(&written()).unwrap().1;
    for name in [WAL, SAFETY[0], SAFETY[1]] {
        let bits = written().paths().iter().find(|(it, _)| *it == path(name)).unwrap().1 * 8;
        for bit in 0..bits {
            let disk = written();
            disk.flip(&path(name), bit);
            let found = open(&disk).unwrap_or_else(|error| panic!("{name}, bit {bit}: {error}")).1;
            assert_eq!(found.safety, whole.safety, "{name}, bit {bit}");
            assert_eq!(found.frames, whole.frames[..found.frames.len()], "{name}, bit {bit}");
        }
    }
}
