//! A full disk: a put says so, and what was acknowledged before stays readable.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use bithealth_tests::{Clinic, bytes_of, files_of, wait_until, write};

/// A small disk of memory, gone when dropped.
struct Disk(PathBuf);

impl Disk {
    /// None, said loudly, where this user may not mount one.
    fn mount(at: PathBuf, len_mib: u32) -> Option<Self> {
        std::fs::create_dir(&at).unwrap();
        let options = format!("size={len_mib}m");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(&at).output();
        match mount {
            Ok(output) if output.status.success() => Some(Self(at)),
            refused => {
                eprintln!("SKIPPED: no disk of memory can be mounted here: {refused:?}");
                None
            }
        }
    }

    /// Takes all that is free but `left` bytes.
    fn fill(&self, left: u64) {
        let mut filler = File::create(self.0.join("filler")).unwrap();
        let mut taken = 0;
        loop {
            match filler.write(&[7; 16 << 10]) {
                Ok(len) => taken += len as u64,
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
        filler.set_len(taken.saturating_sub(left)).unwrap();
    }

    fn empty(&self) {
        std::fs::remove_file(self.0.join("filler")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status(); // the folder of the test vanishes next
    }
}

#[test]
fn a_full_disk_is_reported_and_costs_nothing_that_was_acknowledged() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path().join("disk"), 24) else { return };
    let mut clinic = Clinic::new(&disk.0, "north-1", "north");
    clinic.log = folder.path().join("log");
    clinic.init();
    clinic.configure("disk_reserve_bytes", "1048576");
    clinic.configure("gather_ms", "1500");
    clinic.start();
    let mut kept = Kept { originals: folder.path().join("originals"), names: Vec::new() };
    kept.put(&clinic, "before", 20, 50_000, 0);
    disk.fill(4 << 20);
    kept.put(&clinic, "large, while it fills", 20, 700_000, 1);
    // Small ones whose pack is still open when the disk is full.
    kept.put(&clinic, "open", 1, 1000, 0);
    disk.fill(0);
    kept.put(&clinic, "small, on a full disk", 5, 1000, 1);
    kept.check(&clinic, &folder.path().join("while full"));
    wait_until("the open pack cannot be closed", || match std::fs::read_to_string(&clinic.log) {
        Ok(log) if log.contains("a pack of small records cannot be written") => Ok(()),
        log => Err(format!("{log:?}")),
    });
    kept.check(&clinic, &folder.path().join("while full, some time later"));
    clinic.kill();
    clinic.start();
    kept.check(&clinic, &folder.path().join("after a restart on a full disk"));

    disk.empty();
    kept.put(&clinic, "after", 20, 50_000, 0);
    kept.check(&clinic, &folder.path().join("after"));
    clinic.kill();
    clinic.start();
    kept.check(&clinic, &folder.path().join("after a restart"));
}

#[test]
fn a_record_that_does_not_fit_where_it_should_go_names_its_file_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path().join("disk"), 2) else { return };
    let clinic = Clinic::new(folder.path(), "north-1", "north");
    clinic.init();
    let mut clinic = clinic;
    clinic.start();
    // In one write that comes to nothing, and in several of which some are made.
    for len in [900_000, 7_000_000] {
        let original = folder.path().join(format!("{len}"));
        write(&original, bytes_of(len as u64, len));
        clinic.put(&original, &[]);
        disk.fill(len as u64 / 2);
        let record = clinic.record_named(&len.to_string());
        let place = disk.0.join("came");
        let failed = format!("{:?}", clinic.ask(&["get", &record, "--output", place.to_str().unwrap()]));
        assert!(failed.contains(place.to_str().unwrap()) && failed.contains("No space left"), "{failed}");
        let left: Vec<_> = std::fs::read_dir(&disk.0).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["filler"]);
        disk.empty();
        if len < 1_000_000 {
            clinic.done(&["get", &record, "--output", place.to_str().unwrap()]);
            assert!(std::fs::read(&place).unwrap() == bytes_of(len as u64, len));
            std::fs::remove_file(place).unwrap();
        }
    }
}

/// Records that were acknowledged.
struct Kept {
    originals: PathBuf,
    names: Vec<String>,
}

impl Kept {
    /// Puts `count` records of `len` bytes; the put must end with `exit`, and name what it did not take.
    fn put(&mut self, clinic: &Clinic, batch: &str, count: u64, len: usize, exit: i32) {
        let folder = self.originals.join(batch);
        for number in 0..count {
            write(&folder.join(format!("{batch} {number}")), bytes_of(number + len as u64, len));
        }
        let put = clinic.ask(&["put", folder.to_str().unwrap(), "--wait", "local"]);
        assert_eq!(put.exit, exit, "{batch}: {put:?}");
        let names = put.events("record").map(|event| event["name"].as_str().unwrap().to_owned());
        self.names.extend(names);
        if exit != 0 {
            let failed: Vec<String> = put.events("failed").map(|event| event["error"].to_string()).collect();
            assert!(
                failed.iter().any(|error| error.contains("free") || error.contains("space")),
                "{batch}: {failed:?}"
            );
        }
    }

    fn check(&self, clinic: &Clinic, into: &Path) {
        clinic.get_all(into);
        let (back, mut originals) = (files_of(into), std::collections::BTreeMap::new());
        for folder in std::fs::read_dir(&self.originals).unwrap() {
            originals.extend(files_of(&folder.unwrap().path()));
        }
        for name in &self.names {
            let got =
                back.get(Path::new(name)).unwrap_or_else(|| panic!("{name} was acknowledged and is not in {into:?}"));
            assert!(*got == originals[Path::new(name)], "{name} came back changed in {into:?}");
        }
    }
}
