use super::*;
use crate::disk::read_exact;

#[test]
fn what_was_synced_survives_and_a_name_needs_its_folder() {
    let mut lost_names = 0;
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let file = disk.open(Path::new("/d/a"), Open::New).unwrap();
        file.write_at(&[b"kept"], 0).unwrap();
        file.sync().unwrap();
        if seed % 2 == 0 {
            disk.sync_dir(Path::new("/d")).unwrap();
        }
        file.write_at(&[b"lost"], 4).unwrap();
        let disk = disk.crash();
        assert!(file.byte_len().is_err(), "handles do not outlive a power loss");
        match disk.open(Path::new("/d/a"), Open::Read) {
            Ok(file) => assert_eq!(read_exact(&*file, 0, 4).unwrap(), b"kept"),
            Err(_) if seed % 2 == 1 => lost_names += 1,
            Err(error) => panic!("seed {seed}: {error}"),
        }
    }
    assert!(lost_names > 0);
}

#[test]
fn a_sync_after_a_failed_one_does_not_bring_back_what_was_lost() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = FaultyDisk::new(seed);
        let file = disk.open(Path::new("/d/a"), Open::New).unwrap();
        disk.sync_dir(Path::new("/d")).unwrap();
        file.write_at(&[b"bytes"], 0).unwrap();
        disk.set_faults(Faults { sync_error: 1000, ..Faults::default() });
        assert!(file.sync().is_err());
        disk.set_faults(Faults::default());
        file.sync().unwrap();
        let file = disk.crash().open(Path::new("/d/a"), Open::Read).unwrap();
        lost += usize::from(file.byte_len().unwrap() == 0);
    }
    assert!(lost > 0);
}

#[test]
fn a_full_disk_takes_what_fits_and_says_so() {
    let disk = FaultyDisk::new(1);
    disk.set_capacity(6);
    let file = disk.open(Path::new("/d/a"), Open::New).unwrap();
    let error = file.write_at(&[b"four", b"more"], 0).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull);
    assert_eq!(file.byte_len().unwrap(), 6);
    assert_eq!(disk.free_space(Path::new("/d")).unwrap(), 0);
}
