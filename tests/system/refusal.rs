//! What people get wrong, and what machines do to files: each is named, with a code of its own, and costs nothing else.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixListener;

use bithealth::sheet;
use bithealth_tests::{Clinic, Cluster, bytes_of, files_of, same_files, write};

/// A clinic in a folder of its own that is not set up.
fn apart(folder: &tempfile::TempDir) -> Clinic {
    Clinic::new(folder.path(), "apart-1", "apart")
}

#[test]
fn what_cannot_be_read_is_named_and_the_rest_goes_in() {
    let cluster = Cluster::start(&["north-1"]);
    let records = cluster.path("records");
    for name in 0..10 {
        write(&records.join(name.to_string()), bytes_of(name, 1000));
    }
    let rest = cluster.path("rest");
    for (path, bytes) in files_of(&records) {
        write(&rest.join(path), bytes);
    }
    let _socket = UnixListener::bind(records.join("socket")).unwrap();
    std::os::unix::fs::symlink("gone", records.join("dangling")).unwrap();
    let mut unreadable = vec!["mem".to_owned(), "missing".to_owned()];
    write(&records.join("locked"), "x");
    std::fs::set_permissions(records.join("locked"), std::fs::Permissions::from_mode(0o000)).unwrap();
    match std::fs::read(records.join("locked")) {
        Ok(bytes) => write(&rest.join("locked"), bytes), // root reads everything
        Err(_) => unreadable.push("locked".to_owned()),
    }

    let (records, missing) = (records.to_str().unwrap(), cluster.path("missing"));
    // The first byte of a process's memory is mapped nowhere: even root cannot read this file.
    let put = cluster["north-1"].ask(&["put", missing.to_str().unwrap(), "/proc/self/mem", records]);

    assert_eq!(put.exit, 2, "{put:?}");
    let failed: Vec<_> = put.events("failed").map(|event| event["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(failed.len(), unreadable.len(), "{put:?}");
    for name in unreadable {
        assert!(failed.iter().any(|failed| failed.ends_with(&name)), "{name} is not named in {failed:?}");
    }
    let skipped: Vec<_> = put.events("skipped").map(|event| event["path"].as_str().unwrap()).collect();
    assert!(skipped.len() == 2 && skipped[0].ends_with("dangling") && skipped[1].ends_with("socket"), "{skipped:?}");
    cluster["north-1"].get_all(&cluster.path("back"));
    same_files(&rest, &cluster.path("back")).unwrap();
}

#[test]
fn files_whose_names_are_no_text_come_back_with_their_bytes() {
    let cluster = Cluster::start(&["north-1"]);
    let records = cluster.path("records");
    for (name, bytes) in [(&b"scan \xFF"[..], "one"), (b"scan \xFE", "another"), (b"\xC3\x28/in a folder", "a third")] {
        write(&records.join(OsStr::from_bytes(name)), bytes);
    }
    let put = cluster["north-1"].put(&records, &[]);
    assert_eq!(put.events("record").count(), 3, "{put:?}");
    cluster["north-1"].get_all(&cluster.path("back"));
    let back: BTreeSet<_> = files_of(&cluster.path("back")).into_values().collect();
    assert_eq!(back, BTreeSet::from(["one", "another", "a third"].map(|text| text.as_bytes().to_vec())));
}

#[test]
fn a_record_that_nobody_knows_is_not_found() {
    let cluster = Cluster::start(&["north-1"]);
    let record = "09".repeat(16);
    let refused = cluster["north-1"].ask(&["get", &record, "--output", "-"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains(&format!("no record {record} is known here")), "{refused:?}");
    let wrong = cluster["north-1"].ask(&["get", "letter.pdf", "--output", "-"]);
    assert_eq!(wrong.exit, 64, "a name is no id: {wrong:?}");
}

#[test]
fn a_put_for_an_organisation_that_is_not_there_puts_nothing() {
    let cluster = Cluster::start(&["north-1"]);
    let record = cluster.path("record");
    write(&record, "x");
    let refused = cluster["north-1"].ask(&["put", record.to_str().unwrap(), "--for", "nobody"]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("nobody"), "{refused:?}");
    assert!(cluster["north-1"].done(&["ls"]).lines.is_empty());
}

#[test]
fn a_node_that_does_not_run_has_its_own_code_and_says_how_to_start_it() {
    let folder = tempfile::tempdir().unwrap();
    let clinic = apart(&folder);
    clinic.init();
    for command in [&["status"][..], &["ls"], &["put", "/dev/null"], &["get", "--all", "-o", "x"], &["kit"]] {
        let refused = clinic.ask(command);
        assert_eq!(refused.exit, 3, "{command:?}: {refused:?}");
        assert!(refused.error.contains(&format!("bithealth --data-dir {} node", clinic.home.display())), "{refused:?}");
    }
}

#[test]
fn a_folder_that_holds_a_node_is_not_set_up_again() {
    let folder = tempfile::tempdir().unwrap();
    let clinic = apart(&folder);
    clinic.init();
    let before = files_of(&clinic.home);
    let site = ["--region", "a", "--jurisdiction", "EU", "--key-file", clinic.key_file().to_str().unwrap()];
    let refused = clinic.ask(&[&["init", "--network", "other", "--name", "other"], &site[..]].concat());
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("holds a node already"), "{refused:?}");
    assert_eq!(files_of(&clinic.home), before);
}

#[test]
fn two_nodes_do_not_run_on_one_folder() {
    let cluster = Cluster::start(&["north-1"]);
    let refused = cluster["north-1"].ask(&["node", "--key-file", cluster["north-1"].key_file().to_str().unwrap()]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("lock"), "{refused:?}");
    cluster["north-1"].status();
}

#[test]
fn a_wrong_passphrase_opens_nothing_and_the_right_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let clinic = apart(&folder);
    let file = |name: &str, passphrase: &str| {
        let path = folder.path().join(name);
        write(&path, passphrase);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let (right, wrong) = (file("right", "correct horse battery\n"), file("wrong", "correct horse battery!\n"));
    let site = ["--region", "a", "--jurisdiction", "EU", "--listen", "/ip4/127.0.0.1/tcp/0"];
    clinic.done(&[&["init", "--network", "n", "--name", "o", "--passphrase-file", &right], &site[..]].concat());
    let refused = clinic.ask(&["node", "--passphrase-file", &wrong]);
    assert_eq!((refused.exit, refused.lines.len()), (1, 0), "{refused:?}");
    assert!(refused.error.contains("passphrase"), "{refused:?}");

    let mut node = clinic.command(&["node", "--passphrase-file", &right]).spawn().unwrap();
    bithealth_tests::wait_until("the node answers", || match clinic.ask(&["status"]) {
        answer if answer.exit == 0 => Ok(()),
        answer => Err(answer.error),
    });
    clinic.done(&["stop"]);
    assert!(node.wait().unwrap().success());
}

#[test]
fn a_kit_with_a_wrong_line_names_the_line() {
    let cluster = Cluster::start(&["north-1"]);
    let kit = cluster.path("kit");
    cluster["north-1"].kit(&kit);
    let text = std::fs::read_to_string(&kit).unwrap();
    let line = text.lines().find(|line| line.starts_with("02 ")).unwrap();
    let other = if line.as_bytes()[5] == b'A' { "B" } else { "A" };
    let damaged = text.replace(line, &format!("{}{other}{}", &line[..5], &line[6..]));
    let end = text.find("02 ").unwrap();
    for (text, complaint) in [
        (damaged.as_str(), "line 2 of the recovery kit is damaged"),
        (&text[..end], "the recovery kit is cut off after line 1"),
        ("a letter", "this is not a recovery kit"),
    ] {
        restore_is_refused(&cluster, text, complaint);
    }
}

fn restore_is_refused(cluster: &Cluster, kit: &str, complaint: &str) {
    let (path, new) = (cluster.path("damaged kit"), cluster.clinic("new-1"));
    write(&path, kit);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let refused = new.restore(&path, &cluster.path("restored"));
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains(complaint), "{complaint} is due: {refused:?}");
    assert!(!new.home.join("keys.bin").exists(), "nothing is set up from a damaged kit");
}

/// The digest by which a network is told from others.
fn genesis_of(clinic: &Clinic) -> String {
    clinic.status()["genesis"].as_str().expect("a status names it").to_owned()
}

#[test]
fn an_invite_that_was_cut_or_made_for_another_network_admits_nobody() {
    let (ours, theirs) = (Cluster::start(&["north-1"]), Cluster::start(&["south-1"]));
    let (our_invite, their_invite) = (ours["north-1"].invite("new-1"), theirs["south-1"].invite("new-1"));
    let mut crossed = sheet::read_invite(&their_invite).unwrap();
    crossed.contacts = sheet::read_invite(&our_invite).unwrap().contacts;
    let mut unreachable = sheet::read_invite(&our_invite).unwrap();
    unreachable.contacts = vec!["/ip4/127.0.0.1/tcp/1".into()];
    for (invite, complaint) in [
        (our_invite[..our_invite.len() - 5].to_owned(), "the invite is damaged or cut off"),
        ("hello".to_owned(), "this is not an invite"),
        (sheet::print_invite(&crossed), "belongs to another network"),
        (sheet::print_invite(&crossed), &genesis_of(&ours["north-1"])),
        (sheet::print_invite(&crossed), &genesis_of(&theirs["south-1"])),
        (sheet::print_invite(&unreachable), "none of the contacts answers"),
    ] {
        let new = ours.clinic("new-1");
        let refused = new.join(&invite);
        assert_eq!(refused.exit, 1, "{refused:?}");
        assert!(refused.error.contains(complaint), "{complaint} is due: {refused:?}");
        assert!(!new.home.join("keys.bin").exists(), "nothing is set up by an invite that admits nobody");
    }
    assert_eq!(ours["north-1"].status()["members"].as_array().unwrap().len(), 1);
}

#[test]
fn an_invite_is_good_for_one_organisation() {
    let cluster = Cluster::start(&["north-1"]);
    let invite = cluster["north-1"].invite("south-1");
    assert_eq!(cluster.clinic("south-1").join(&invite).exit, 0);
    let refused = cluster.clinic("east-1").join(&invite);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("south-1"), "{refused:?}");
    assert_eq!(cluster["north-1"].status()["members"].as_array().unwrap().len(), 2);
}

#[test]
fn a_genesis_of_another_network_starts_no_node() {
    let (mut ours, other) = (Cluster::start(&["north-1"]), tempfile::tempdir().unwrap());
    let other = apart(&other);
    other.init();
    let clinic = &mut ours["north-1"];
    clinic.stop();
    std::fs::copy(other.home.join("genesis.bin"), clinic.home.join("genesis.bin")).unwrap();
    let refused = clinic.ask(&["node", "--key-file", clinic.key_file().to_str().unwrap()]);
    assert_eq!(refused.exit, 1, "{refused:?}");
    assert!(refused.error.contains("genesis.bin is of network"), "{refused:?}");
}

#[test]
fn a_node_that_calls_one_of_another_network_is_refused_and_tells_both_digests() {
    let (mut ours, theirs) = (Cluster::start(&["north-1"]), Cluster::start(&["south-1"]));
    let contact = sheet::read_invite(&theirs["south-1"].invite("new-1")).unwrap().contacts.swap_remove(0);
    let clinic = &mut ours["north-1"];
    clinic.stop();
    clinic.configure("contacts", &format!("[\"{contact}\"]"));
    clinic.start();
    let (own, other) = (genesis_of(&ours["north-1"]), genesis_of(&theirs["south-1"]));
    ours["north-1"].wait_for("it is refused", |status| {
        let warnings = status["warnings"].to_string();
        let both = warnings.contains(&own) && warnings.contains(&other);
        both && warnings.contains("refuses this one: it belongs to another network")
    });
}

#[test]
fn a_configuration_that_disagrees_with_the_network_starts_no_node_and_names_the_difference() {
    let mut cluster = Cluster::start(&["north-1"]);
    let clinic = &mut cluster["north-1"];
    clinic.stop();
    let path = clinic.home.join("config.toml");
    let config = std::fs::read_to_string(&path).unwrap();
    for (lines, difference) in [
        ("heartbeat_ms = 180000\nblock_interval_ms = 250", "block_interval_ms = 250, this network has 1000"),
        ("block_interval_ms = 1000\nheartbeat_ms = 60000", "heartbeat_ms = 60000, this network has 180000"),
    ] {
        std::fs::write(&path, format!("{lines}\n{config}")).unwrap();
        let refused = clinic.ask(&["node", "--key-file", clinic.key_file().to_str().unwrap()]);
        assert_eq!(refused.exit, 1, "{refused:?}");
        assert!(refused.error.contains(difference), "{refused:?}");
    }
    std::fs::write(&path, format!("heartbeat_ms = 180000\n{config}")).unwrap();
    clinic.start();
}
