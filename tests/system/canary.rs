//! Names and identifiers of patients reach no log, no file and no file name: everything a network leaves behind is
//! searched for those of one record, with every node logging all it can.

use std::path::Path;

use bithealth_tests::{Cluster, bytes_of, write};

const FAMILY: &str = "Canarywinkel";
const IDENTIFIER: &str = "KVNR-X731994026";
const FILE: &str = "befund-canaryfile-8841.json";
const TEXT: &str = "canary-diagnosis-7719";

#[test]
fn nothing_that_is_left_behind_names_a_patient() {
    let records = tempfile::tempdir().unwrap();
    let patient = serde_json::json!({
        "resourceType": "Patient", "id": IDENTIFIER,
        "identifier": [{ "system": "urn:test", "value": IDENTIFIER }],
        "name": [{ "family": FAMILY, "given": ["Ida"] }],
        "text": { "status": "generated", "div": format!("<div>{TEXT}</div>") },
    });
    let (small, large) = (records.path().join(FILE), records.path().join(format!("large-{FILE}")));
    write(&small, patient.to_string());
    let mut image = bytes_of(1, 1 << 20);
    image.extend_from_slice(FAMILY.as_bytes());
    write(&large, image);

    let mut cluster = Cluster::start_with(&["north-1", "south-1", "east-1"], |clinic| clinic.log_level = "trace");
    let north = &cluster["north-1"];
    north.put_replicated(&small, &["--for", "south-1"]);
    north.put_replicated(&large, &["--for", "south-1", "--patient", IDENTIFIER, "--folder", "imaging"]);
    let listed = north.done(&["ls"]).said();
    assert!(listed.contains(IDENTIFIER) && listed.contains(FILE), "the canary did not go in: {listed}");
    let record = cluster["south-1"].record_named(FILE);
    cluster["south-1"].record_named(&format!("large-{FILE}"));
    cluster["south-1"].done(&[
        "get",
        "--patient",
        IDENTIFIER,
        "--output",
        records.path().join("back").to_str().unwrap(),
    ]);
    cluster["east-1"].ask(&["get", &record, "--output", "-"]);
    cluster["east-1"].ask(&["open-foreign"]);
    cluster["north-1"].ask(&["put", &format!("{}/missing-{FILE}", records.path().display())]);
    // A crash leaves the journal of small records, and a start takes it up.
    write(&small, patient.to_string() + " ");
    cluster["north-1"].put(&small, &[]);
    cluster["north-1"].kill();
    search(cluster.folder());
    cluster["north-1"].start();
    cluster["north-1"].get_all(&records.path().join("all"));
    for name in ["north-1", "south-1", "east-1"] {
        cluster[name].stop();
    }
    search(cluster.folder());
}

/// The canaries as they would stand in text, in hexadecimal and as a list of numbers, as `{:?}` prints bytes.
fn forms() -> Vec<Vec<u8>> {
    let canaries = [FAMILY, IDENTIFIER, "canaryfile-8841", TEXT].map(str::as_bytes);
    let hex = |canary: &[u8]| canary.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let list = |canary: &[u8]| canary.iter().map(u8::to_string).collect::<Vec<_>>().join(", ");
    let forms = |canary: &[u8]| [canary.to_ascii_lowercase(), hex(canary).into_bytes(), list(canary).into_bytes()];
    canaries.into_iter().flat_map(forms).collect()
}

fn search(folder: &Path) {
    let forms = forms();
    let mut left = vec![folder.to_owned()];
    let mut searched = 0;
    while let Some(path) = left.pop() {
        let kind = std::fs::symlink_metadata(&path).unwrap().file_type();
        assert_clean(path.to_string_lossy().as_bytes(), &forms, "the name", &path);
        if kind.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|item| item.unwrap().path()));
        } else if kind.is_file() {
            let bytes = std::fs::read(&path).unwrap();
            searched += bytes.len();
            assert_clean(&bytes, &forms, "the contents", &path);
        }
    }
    assert!(searched > 1 << 20, "only {searched} bytes were left behind: this is not all");
}

fn assert_clean(bytes: &[u8], forms: &[Vec<u8>], part: &str, path: &Path) {
    let bytes = bytes.to_ascii_lowercase();
    for form in forms {
        if let Some(at) = find(&bytes, form) {
            let around = &bytes[at.saturating_sub(200)..bytes.len().min(at + 100)];
            let (path, around) = (path.display(), String::from_utf8_lossy(around));
            panic!("{part} of {path} hold {:?}: {around}", String::from_utf8_lossy(form));
        }
    }
}

/// Where `needle` begins in `bytes`: by its first byte, since the logs are long.
fn find(bytes: &[u8], needle: &[u8]) -> Option<usize> {
    let mut from = 0;
    while let Some(step) = bytes[from..].iter().position(|byte| *byte == needle[0]) {
        let at = from + step;
        if bytes[at..].starts_with(needle) {
            return Some(at);
        }
        from = at + 1;
    }
    None
}
