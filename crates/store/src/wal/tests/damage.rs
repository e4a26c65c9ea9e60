//! Flipped bits and lost files: one copy of the state is enough, and each live bit that turns is noticed.

use super::*;
use crate::disk::Disk;
use crate::wal::state::SLOT_LEN;

/// A log with a few frames behind those of an earlier height, and where its frames end.
fn filled(disk: &FaultyDisk) -> (Recovered, u64) {
    let (mut wal, _) = open(disk);
    wal.start(Height(1)).unwrap();
    wal.append(&[&[1; 900]], Some(&[1; 300])).unwrap();
    wal.start(Height(2)).unwrap();
    wal.append(&[b"first", b""], None).unwrap();
    wal.append(&[b"last"], Some(b"signed")).unwrap();
    (recovered(2, &[b"first", b"", b"last"], Some(b"signed")), wal.tail.at)
}

const STATE_LEN: u64 = 40 + b"signed".len() as u64;

#[test]
fn one_damaged_copy_of_the_safety_state_is_no_loss_and_is_repaired() {
    for path in [LOG, SAFETY].map(Path::new) {
        for bit in 0..8 * STATE_LEN {
            let disk = FaultyDisk::new(0);
            let (want, _) = filled(&disk);
            disk.flip(path, bit);
            let (_, found) = open(&disk.crash());
            assert_eq!(found, Recovered { repaired: Some(path.to_path_buf()), ..want.clone() }, "bit {bit}");
            let disk = disk.crash();
            assert_eq!(open(&disk).1, want, "it is repaired");
            let other = if path == Path::new(LOG) { SAFETY } else { LOG };
            disk.flip(Path::new(other), bit);
            assert_eq!(open(&disk).1.safety, want.safety, "and serves when the other is damaged");
        }
    }
}

#[test]
fn a_missing_copy_is_made_from_the_other() {
    for path in [LOG, SAFETY].map(Path::new) {
        let disk = FaultyDisk::new(0);
        let (want, _) = filled(&disk);
        disk.remove(path).unwrap();
        let (_, found) = open(&disk);
        assert_eq!((found.height, &found.safety), (want.height, &want.safety));
        assert_eq!(found.repaired.as_deref(), Some(path));
        let frames = if path == Path::new(LOG) { Vec::new() } else { want.frames };
        assert_eq!(found.frames, frames);
        let (_, found) = open(&disk.crash());
        assert_eq!((found.safety, found.frames, found.repaired), (want.safety, frames, None));
    }
}

#[test]
fn a_copy_that_cannot_be_read_is_made_from_the_other_and_two_are_an_error_of_the_disk() {
    let (mut repaired, mut refused) = (0, 0);
    for seed in 0..100 {
        let disk = FaultyDisk::new(seed);
        let (want, _) = filled(&disk);
        disk.set_faults(Faults { read_error: 300, ..Faults::default() });
        match try_open(&disk) {
            Ok((_, found)) => {
                repaired += u32::from(found.repaired.is_some());
                assert_eq!(found, Recovered { repaired: found.repaired.clone(), ..want.clone() });
            }
            Err(error) => {
                refused += 1;
                assert!(matches!(error, WalError::Io { .. }), "seed {seed}: {error}");
            }
        }
        disk.set_faults(Faults::default());
        assert_eq!(open(&disk.crash()).1, want, "seed {seed}");
    }
    assert!(repaired > 0 && refused > 0);
}

#[test]
fn two_damaged_copies_of_the_safety_state_are_an_error_that_says_what_to_do() {
    let disk = FaultyDisk::new(0);
    filled(&disk);
    disk.flip(Path::new(LOG), 8 * STATE_LEN - 1);
    disk.flip(Path::new(SAFETY), 0);
    for _ in 0..2 {
        let error = try_open(&disk).err().unwrap();
        assert!(matches!(error, WalError::SafetyLost { .. }), "{error}");
        let text = error.to_string();
        assert!([LOG, SAFETY, "remove both files only once"].iter().all(|part| text.contains(part)), "{text}");
    }
    disk.remove(Path::new(LOG)).unwrap();
    assert!(matches!(try_open(&disk), Err(WalError::SafetyLost { .. })), "one is missing, one is damaged");
    disk.remove(Path::new(SAFETY)).unwrap();
    assert_eq!(open(&disk).1, recovered(0, &[], None), "the operator decided");
}

#[test]
fn any_flipped_bit_of_the_frames_is_told_and_no_false_frame_is_given() {
    let (want, end) = filled(&FaultyDisk::new(0));
    for bit in 8 * SLOT_LEN..8 * (end + HEAD_LEN as u64) {
        let disk = FaultyDisk::new(0);
        filled(&disk);
        disk.flip(Path::new(LOG), bit);
        let (_, found) = open(&disk);
        assert!(found.cut_at.is_some_and(|at| at <= bit / 8), "bit {bit}");
        assert!(want.frames.starts_with(&found.frames), "bit {bit}");
        assert_eq!(found.frames == want.frames, bit / 8 >= end, "bit {bit}");
        assert_eq!((found.safety, found.repaired), (want.safety.clone(), None));
    }
}

#[test]
fn what_lies_behind_state_and_frames_is_nobodys() {
    let (want, end) = filled(&FaultyDisk::new(0));
    for (path, byte) in [(LOG, STATE_LEN), (SAFETY, STATE_LEN), (LOG, end + HEAD_LEN as u64), (SAFETY, SLOT_LEN)] {
        let disk = FaultyDisk::new(0);
        filled(&disk);
        disk.flip(Path::new(path), 8 * byte);
        assert_eq!(open(&disk).1, want, "byte {byte} of {path}");
    }
}
