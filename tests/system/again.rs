//! Putting again what is kept already, and what changed a little.

use std::path::Path;

use bithealth_tests::{Answer, Clinic, Cluster, bytes_of, write};
use serde_json::Value;

const CHUNK_LEN: usize = 256 << 10;

fn record(put: &Answer) -> &Value {
    put.events("record").next().unwrap_or_else(|| panic!("nothing was put: {put:?}"))
}

fn sealed_bytes(put: &Answer) -> u64 {
    put.events("done").next().unwrap()["sealed_bytes"].as_u64().unwrap()
}

fn read_back(clinic: &Clinic, record: &Value, to: &Path) -> Vec<u8> {
    clinic.done(&["get", record["record"].as_str().unwrap(), "--output", to.to_str().unwrap()]);
    std::fs::read(to).unwrap()
}

#[test]
fn a_large_file_that_did_not_change_costs_nothing_and_one_that_did_is_kept_beside_the_old_one() {
    let cluster = Cluster::start(&["north-1"]);
    let clinic = &cluster["north-1"];
    let (scan, back) = (cluster.path("scan"), cluster.path("back"));
    let original = bytes_of(1, 9 * CHUNK_LEN + 1000);
    write(&scan, &original);
    let first = clinic.put(&scan, &[]);
    let again = clinic.put(&scan, &[]);
    assert_eq!((&record(&again)["unchanged"], sealed_bytes(&again)), (&Value::from(true), 0), "{again:?}");
    assert_eq!(record(&again)["record"], record(&first)["record"]);

    let mut changed_late = original.clone();
    changed_late[8 * CHUNK_LEN + 5] ^= 1;
    let mut changed_early = original.clone();
    changed_early[5] ^= 1;
    let changes = [
        ("a late chunk differs", changed_late),
        ("an early chunk differs", changed_early),
        ("it ends earlier, with a whole chunk", original[..8 * CHUNK_LEN].to_vec()),
        ("it ends earlier, within a chunk", original[..8 * CHUNK_LEN + 7].to_vec()),
        ("more follows", [&original[..], b"more"].concat()),
        ("it is small now", original[..100].to_vec()),
    ];
    for (what, bytes) in changes {
        write(&scan, &original);
        clinic.put(&scan, &[]);
        write(&scan, &bytes);
        let put = clinic.put(&scan, &[]);
        assert_eq!(record(&put)["unchanged"], false, "{what}");
        assert!(read_back(clinic, record(&put), &back) == bytes, "{what}: it came back otherwise");
        let again = clinic.put(&scan, &[]);
        assert_eq!((&record(&again)["unchanged"], sealed_bytes(&again)), (&Value::from(true), 0), "{what}: {again:?}");
    }
    assert!(read_back(clinic, record(&first), &back) == original, "the first one came back otherwise");
    assert_eq!(clinic.done(&["verify", "--full"]).events("done").next().unwrap()["damaged"], 0);
}

#[test]
fn what_is_put_again_for_another_organisation_can_be_read_there() {
    let cluster = Cluster::start(&["north-1", "south-1"]);
    for (name, len) in [("small", 1000), ("large", 3 * CHUNK_LEN)] {
        let path = cluster.path(name);
        write(&path, bytes_of(7, len));
        cluster["north-1"].put_replicated(&path, &["--survive", "0,1"]);
        let shared = cluster["north-1"].put_replicated(&path, &["--survive", "0,1", "--for", "south-1"]);
        assert_eq!(record(&shared)["unchanged"], false, "{name}: nobody at the other clinic could read it");
        let id = cluster["south-1"].record_named(name);
        assert_eq!(record(&shared)["record"], id.as_str());
        let back = read_back(&cluster["south-1"], record(&shared), &cluster.path("back"));
        assert!(back == bytes_of(7, len), "{name} came back otherwise");
        let again = cluster["north-1"].put_replicated(&path, &["--survive", "0,1", "--for", "south-1"]);
        assert_eq!(record(&again)["unchanged"], true, "{name}");
    }
}
