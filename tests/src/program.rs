//! The program under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Where the `bithealth` of this build lies: beside this program, or beside the folder of this test. Built first if a
/// build runs us, so that it is never an old one, and with the workspace, whose dependencies are built already;
/// `BITHEALTH_PROGRAM` names another one to test.
///
/// # Panics
/// If there is none and none can be built.
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| match std::env::var_os("BITHEALTH_PROGRAM") {
        Some(program) => program.into(),
        None => build(),
    })
}

fn build() -> PathBuf {
    let ours = std::env::current_exe().expect("a program knows where it is");
    let folder = ours.parent().expect("programs lie in TARGET/PROFILE");
    let folder =
        if folder.ends_with("deps") { folder.parent().expect("tests lie in TARGET/PROFILE/deps") } else { folder };
    let program = folder.join("bithealth");
    let Some(cargo) = std::env::var_os("CARGO") else {
        assert!(program.exists(), "{} is not there: run `cargo build --workspace` first", program.display());
        return program;
    };
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let mut build = Command::new(cargo);
    build.args(["build", "--quiet", "--workspace", "--bin", "bithealth", "--profile", profile]);
    build.arg("--target-dir").arg(folder.parent().expect("a profile lies in the target folder"));
    let status = build.current_dir(env!("CARGO_MANIFEST_DIR")).status().expect("cargo runs us, so it runs");
    assert!(status.success(), "bithealth does not build: {status}");
    program
}
