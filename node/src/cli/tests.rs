//! Whole commands against a node in memory.

use std::path::Path;

use super::*;
use crate::client::memory::Node;

async fn run_on(node: &Node, args: &[&str]) -> Result<Exit, Failure> {
    let words = ["bithealth", "--json"].into_iter().chain(args.iter().copied());
    let cli = Cli::try_parse_from(words).unwrap();
    ask(cli.command, Path::new("unused"), &node.client, Show { json: true, person: false }).await
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn what_was_put_comes_back_the_same() {
    let node = Node::start().await;
    let (from, to) = (node.path("from"), node.path("to"));
    std::fs::create_dir_all(from.join("deep/er")).unwrap();
    let mut want = Vec::new();
    for (name, len) in [("a.json", 10), ("deep/b", 0), ("deep/er/large", 3 << 20), ("z", 1 << 20)] {
        let bytes: Vec<u8> = (0..len).map(|position: u32| (position % 251) as u8).collect();
        std::fs::write(from.join(name), &bytes).unwrap();
        want.push((name, bytes));
    }
    assert_eq!(run_on(&node, &["put", text(&from)]).await.unwrap(), Exit::Done);
    assert_eq!(node.memory.records().len(), want.len());
    assert_eq!(run_on(&node, &["get", "--all", "-o", text(&to)]).await.unwrap(), Exit::Done);
    for (name, bytes) in want {
        assert!(std::fs::read(to.join(name)).unwrap() == bytes, "{name} differs");
    }
}

#[tokio::test]
async fn a_put_with_something_missing_is_partly_done() {
    let node = Node::start().await;
    std::fs::write(node.path("here"), "x").unwrap();
    let (here, missing) = (node.path("here"), node.path("missing"));
    assert_eq!(run_on(&node, &["put", text(&missing), text(&here)]).await.unwrap(), Exit::Partly);
    assert_eq!(node.memory.records()[0].0, "here");
    assert_eq!(run_on(&node, &["put", text(&missing)]).await.unwrap(), Exit::Failed);
}

#[tokio::test]
async fn a_put_for_somebody_unknown_fails_whole() {
    let node = Node::start().await;
    std::fs::write(node.path("x"), "x").unwrap();
    let failure = run_on(&node, &["put", text(&node.path("x")), "--for", "Nobody"]).await.unwrap_err();
    assert_eq!(failure.exit, Exit::Failed);
    assert!(node.memory.records().is_empty());
}

#[tokio::test]
async fn a_part_of_a_record_goes_to_the_file_named() {
    let (node, record) = Node::with("scan.dcm", (0..100).collect()).await;
    let (record, path) = (record.to_string(), node.path("part"));
    let args = ["get", &record, "--range", "10-12", "-o", text(&path)];
    assert_eq!(run_on(&node, &args).await.unwrap(), Exit::Done);
    assert_eq!(std::fs::read(&path).unwrap(), [10, 11, 12]);
}

#[tokio::test]
async fn a_record_that_is_not_there_leaves_no_file() {
    let node = Node::start().await;
    let path = node.path("x");
    run_on(&node, &["get", &"09".repeat(16), "-o", text(&path)]).await.unwrap_err();
    assert!(!path.exists());
}

#[tokio::test]
async fn a_kit_is_written_for_its_owner_only_and_never_over_another() {
    let node = Node::start().await;
    let path = node.path("kit");
    assert_eq!(run_on(&node, &["kit", "-o", text(&path)]).await.unwrap(), Exit::Done);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
    assert_eq!((mode & 0o777, std::fs::read(&path).unwrap()), (0o600, b"the kit\n".to_vec()));
    run_on(&node, &["kit", "-o", text(&path)]).await.unwrap_err();
}

#[tokio::test]
async fn a_check_that_stops_early_is_no_success() {
    let node = Node::start().await;
    assert_eq!(run_on(&node, &["verify"]).await.unwrap_err().exit, Exit::Failed);
}

#[tokio::test]
async fn a_restore_is_followed_to_its_end() {
    let node = Node::start().await;
    let show = Show { json: true, person: false };
    assert_eq!(restore::watch(&node.client, show).await.unwrap(), Exit::Done);
}

const INVITE: [&str; 8] = ["invite", "South Clinic", "--region", "south", "--jurisdiction", "FR", "--expires", "2h"];

#[tokio::test]
async fn short_questions_are_answered() {
    let node = Node::start().await;
    for args in
        [&["ls"][..], &["peers"], &INVITE, &["admin", "proposals"], &["admin", "approve", "0505"], &["stop"], &["kit"]]
    {
        assert_eq!(run_on(&node, args).await.unwrap(), Exit::Done, "{args:?}");
    }
}

fn exit_of(args: &[&str]) -> Exit {
    run_with(std::iter::once("bithealth").chain(args.iter().copied()).map(OsString::from))
}

#[test]
fn a_wrong_command_line_ends_with_the_usage_code() {
    assert_eq!(exit_of(&["frobnicate"]), Exit::Usage);
    assert_eq!(exit_of(&[]), Exit::Usage);
}

#[test]
fn help_and_version_succeed() {
    assert_eq!(exit_of(&["--help"]), Exit::Done);
    assert_eq!(exit_of(&["--version"]), Exit::Done);
}

#[test]
fn asking_a_node_that_does_not_run_has_its_own_code() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().to_str().unwrap();
    for command in [&["status"][..], &["ls"], &["peers"], &["stop"], &INVITE, &["kit"], &["verify"]] {
        assert_eq!(exit_of(&[&["--data-dir", folder], command].concat()), Exit::NotRunning, "{command:?}");
    }
}

#[test]
fn a_given_data_dir_is_taken_as_it_is() {
    assert_eq!(data_dir(Some("x".into())).unwrap(), PathBuf::from("x"));
}
