//! What a log does on a disk in memory, and small constructors for all tests.

mod damage;
mod faults;

use std::path::Path;
use std::sync::Arc;

use super::frame::Next;
use super::*;
use crate::disk::read_exact;
use crate::{Faults, FaultyDisk, OsDisk};

pub(super) const DIR: &str = "/node";
pub(super) const LOG: &str = "/node/wal";
pub(super) const SAFETY: &str = "/node/safety";

pub(super) fn try_open(disk: &FaultyDisk) -> Result<(Wal, Recovered), WalError> {
    Wal::open(Arc::new(disk.clone()), Path::new(DIR))
}

pub(super) fn open(disk: &FaultyDisk) -> (Wal, Recovered) {
    try_open(disk).unwrap()
}

/// What a log gives that needed no repair.
pub(super) fn recovered(height: u64, frames: &[&'static [u8]], safety: Option<&'static [u8]>) -> Recovered {
    Recovered {
        height: Height(height),
        frames: frames.iter().copied().map(Bytes::from_static).collect(),
        safety: safety.map(Bytes::from_static),
        cut_at: None,
        repaired: None,
    }
}

const SYNCS_FAIL: Faults = Faults {
    sync_error: 1000,
    sync_error_forgets: 0,
    write_error: 0,
    short_write: 0,
    read_error: 0,
    truncate_error: 0,
};

#[test]
fn a_new_log_is_empty_and_has_no_safety_state() {
    let disk = FaultyDisk::new(0);
    assert_eq!(open(&disk).1, recovered(0, &[], None));
    assert_eq!(open(&disk.crash()).1, recovered(0, &[], None), "nor has it after a crash");
}

#[test]
fn a_log_opened_again_gives_back_frames_in_order_and_the_newest_safety_state() {
    let disk = FaultyDisk::new(0);
    let (mut wal, _) = open(&disk);
    wal.start(Height(7)).unwrap();
    wal.append(&[b"proposal", b""], Some(b"first")).unwrap();
    wal.append(&[b"vote"], None).unwrap();
    wal.append(&[], Some(b"second")).unwrap();
    wal.append(&[], None).unwrap();
    let (mut wal, found) = open(&disk.crash());
    assert_eq!(found, recovered(7, &[b"proposal", b"", b"vote"], Some(b"second")));
    wal.append(&[b"more"], Some(b"")).unwrap();
    let (_, found) = open(&disk.crash().crash());
    assert_eq!(found, recovered(7, &[b"proposal", b"", b"vote", b"more"], Some(b"")));
}

#[test]
fn a_new_height_drops_the_frames_before_and_keeps_the_safety_state() {
    let disk = FaultyDisk::new(0);
    let (mut wal, _) = open(&disk);
    wal.start(Height(1)).unwrap();
    wal.append(&[b"a", b"b", b"c"], Some(b"signed")).unwrap();
    wal.start(Height(2)).unwrap();
    assert_eq!(open(&disk.kill()).1, recovered(2, &[], Some(b"signed")));
    let (mut wal, _) = open(&disk.kill());
    wal.append(&[b"a"], None).unwrap();
    let (_, found) = open(&disk.kill());
    assert_eq!(found, recovered(2, &[b"a"], Some(b"signed")), "b and c stand behind it, of another height");
}

#[test]
fn a_torn_tail_is_cut_and_told_and_never_comes_back() {
    let disk = FaultyDisk::new(0);
    let (mut wal, _) = open(&disk);
    wal.append(&[b"kept"], None).unwrap();
    let end = wal.tail.at;
    wal.append(&[b"torn", b"behind it"], None).unwrap();
    disk.flip(Path::new(LOG), 8 * end);
    let (mut wal, found) = open(&disk);
    assert_eq!(found, Recovered { cut_at: Some(end), ..recovered(0, &[b"kept"], None) });
    assert_eq!(open(&disk).1, recovered(0, &[b"kept"], None), "once cut, it is whole");
    wal.append(&[b"next"], None).unwrap();
    assert_eq!(open(&disk).1, recovered(0, &[b"kept", b"next"], None));
}

#[test]
fn what_stood_behind_a_torn_frame_does_not_follow_another_frame_of_its_length() {
    let (wal, _) = open(&FaultyDisk::new(0));
    let (mut tail, file) = (wal.tail, &*wal.log.file);
    tail.write(file, &[&b"torn"[..], b"stale"]).unwrap();
    let stale_at = tail.at + (HEAD_LEN + 4) as u64;
    let stale = read_exact(file, stale_at, HEAD_LEN + 5).unwrap();
    tail.write(file, &[b"next"]).unwrap();
    file.write_at(&[&stale], stale_at).unwrap(); // as if the end behind the new frame was not written
    assert!(matches!(tail.next(file).unwrap(), Next::Frame(frame) if frame[..] == b"next"[..]));
    assert_eq!(tail.at, stale_at);
    assert!(matches!(tail.next(file).unwrap(), Next::Unsound));
}

#[test]
fn limits_hold_at_the_bound_and_not_one_past_it() {
    let disk = FaultyDisk::new(0);
    let (mut wal, _) = open(&disk);
    wal.start(Height(7)).unwrap();
    let bytes = vec![7; FRAME_LEN_MAX + 1];
    let (frame, safety) = (&bytes[1..], &bytes[..SAFETY_LEN_MAX]);
    let one_past = wal.append(&[&bytes], None);
    assert!(matches!(one_past, Err(WalError::FrameLength { got }) if got == FRAME_LEN_MAX + 1));
    let one_past = wal.append(&[], Some(&bytes[..=SAFETY_LEN_MAX]));
    assert!(matches!(one_past, Err(WalError::SafetyLength { got }) if got == SAFETY_LEN_MAX + 1));
    wal.append(&[frame], Some(safety)).unwrap();
    wal.append(&[frame; 30], None).unwrap();
    let len = 31 * (HEAD_LEN + FRAME_LEN_MAX) as u64;
    let last = (WAL_LEN_MAX - len) as usize - HEAD_LEN;
    let one_past = wal.append(&[&bytes[..=last]], None);
    let more = WAL_LEN_MAX - len + 1;
    assert!(
        matches!(one_past, Err(WalError::LogLength { height: Height(7), len: l, more: m }) if (l, m) == (len, more))
    );
    wal.append(&[&bytes[..last]], None).unwrap();
    assert!(matches!(wal.append(&[b""], None), Err(WalError::LogLength { .. })));
    let (mut wal, found) = open(&disk.crash());
    assert_eq!((found.frames.len(), found.cut_at), (32, None));
    assert_eq!(found.safety.as_deref(), Some(safety));
    wal.start(Height(8)).unwrap();
    wal.append(&[b"there is room again"], None).unwrap();
}

#[test]
fn after_a_failed_sync_everything_is_refused_until_the_log_is_opened_again() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let (mut wal, _) = open(&disk);
        wal.append(&[b"kept"], Some(b"kept")).unwrap();
        disk.set_faults(SYNCS_FAIL);
        assert!(
            matches!(wal.append(&[b"more"], Some(b"more")), Err(WalError::Io { path, .. }) if path == Path::new(LOG))
        );
        disk.set_faults(Faults::default());
        assert!(matches!(wal.append(&[], None), Err(WalError::Broken { path }) if path == Path::new(LOG)));
        assert!(matches!(wal.start(Height(1)), Err(WalError::Broken { .. })));
        let (_, found) = open(&disk);
        assert_eq!(found.frames, [&b"kept"[..], b"more"], "what is in memory still is made durable");
        assert_eq!(open(&disk.crash()).1.frames, found.frames, "seed {seed}");
        assert_eq!(found.safety.as_deref(), Some(&b"more"[..]));
    }
}

#[test]
fn a_start_whose_sync_fails_breaks_the_log_and_leaves_either_height() {
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let (mut wal, _) = open(&disk);
        wal.append(&[b"old"], Some(b"signed")).unwrap();
        disk.set_faults(SYNCS_FAIL);
        assert!(matches!(wal.start(Height(1)), Err(WalError::Io { path, .. }) if path == Path::new(LOG)));
        disk.set_faults(Faults::default());
        assert!(matches!(wal.append(&[], None), Err(WalError::Broken { .. })));
        let (_, mut found) = open(&disk.crash());
        (found.repaired, found.cut_at) = (None, None);
        let old = recovered(0, &[b"old"], Some(b"signed"));
        assert!(found == old || found == recovered(1, &[], Some(b"signed")), "seed {seed}: {found:?}");
    }
}

#[test]
fn on_a_full_disk_frames_are_refused_and_what_needs_no_room_goes_on() {
    let disk = FaultyDisk::new(0);
    let (mut wal, _) = open(&disk);
    wal.append(&[&[1; 5000]], Some(b"first")).unwrap();
    disk.set_capacity(disk.used());
    assert!(
        matches!(wal.append(&[&[2; 5000]], Some(b"lost")), Err(WalError::Full { path, .. }) if path == Path::new(LOG))
    );
    wal.append(&[], Some(b"second")).unwrap();
    let (mut wal, found) = open(&disk.crash());
    assert_eq!((found.frames.len(), found.safety.as_deref()), (1, Some(&b"second"[..])));
    wal.start(Height(1)).unwrap();
    wal.append(&[&[3; 5000]], Some(&[3; SAFETY_LEN_MAX])).unwrap();
    disk.set_capacity(u64::MAX);
    let disk = disk.crash();
    open(&disk).0.append(&[&[4; 5000]], None).unwrap();
    assert_eq!(open(&disk).1.frames, [&[3; 5000][..], &[4; 5000]]);
}

#[test]
fn a_log_that_finds_no_room_at_all_says_so() {
    let disk = FaultyDisk::new(0);
    disk.set_capacity(100 << 10);
    let error = try_open(&disk).err().unwrap();
    assert!(matches!(&error, WalError::Full { path, .. } if path == Path::new(SAFETY)), "{error}");
    disk.set_capacity(u64::MAX);
    assert_eq!(open(&disk.crash()).1.frames, [&b""[..]; 0]);
}

#[test]
fn a_log_whose_creation_took_several_attempts_is_there_after_a_crash() {
    for seed in 0..100 {
        let disk = FaultyDisk::new(seed);
        disk.set_faults(Faults { sync_error: 300, ..SYNCS_FAIL });
        let (mut wal, _) = (0..1000).find_map(|_| try_open(&disk).ok()).expect("not all syncs fail");
        disk.set_faults(Faults::default());
        wal.append(&[b"kept"], Some(b"signed")).unwrap();
        assert_eq!(open(&disk.crash()).1, recovered(0, &[b"kept"], Some(b"signed")), "seed {seed}");
    }
}

#[test]
fn a_log_on_a_real_disk_is_read_back() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("node");
    let (mut wal, found) = Wal::open(Arc::new(OsDisk), &place).unwrap();
    assert_eq!(found, recovered(0, &[], None));
    wal.start(Height(3)).unwrap();
    wal.append(&[&[5; 1 << 20]], Some(b"signed")).unwrap();
    wal.start(Height(4)).unwrap();
    wal.append(&[b"a", b"b"], None).unwrap();
    drop(wal);
    let (_, found) = Wal::open(Arc::new(OsDisk), &place).unwrap();
    assert_eq!(found, recovered(4, &[b"a", b"b"], Some(b"signed")));
}
