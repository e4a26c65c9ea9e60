//! Many that read one thing at once serve one another.

use bithealth_tests::{Cluster, bytes_of, write};

const READERS: [&str; 4] = ["east-1", "west-1", "hill-1", "lake-1"];
/// Two packs.
const RECORD_LEN: usize = 24 << 20;
/// What the author may send of the record, in copies of it: without the readers' help it would be as many as they are.
const COPIES_SENT_MAX: f64 = 2.0;
/// A line on which a copy takes three seconds.
const LINE_BYTES_PER_S: &str = "8388608";

#[test]
fn readers_of_one_large_record_serve_one_another_so_that_its_author_sends_little_more_than_one_copy() {
    let mut cluster = Cluster::start_with(&["north-1", "east-1", "west-1", "hill-1", "lake-1"], |clinic| {
        clinic.configure("widen_ms", "3600000");
        if clinic.name == "north-1" {
            clinic.configure("bytes_per_s_max", LINE_BYTES_PER_S);
        }
    });
    let (record, original) = (cluster.path("record"), bytes_of(1, RECORD_LEN));
    write(&record, &original);
    // While they are away, none of them gets a shard.
    READERS.iter().for_each(|name| cluster[name].kill());
    cluster["north-1"].wait_for("the readers are away", |status| {
        let nodes = status["nodes"].as_array().map(Vec::as_slice).unwrap_or_default();
        nodes.iter().filter(|node| node["connected"] == true).count() == 1
    });
    let readers = READERS.iter().flat_map(|name| ["--for", name]);
    let put: Vec<&str> = readers.chain(["--survive", "0,0"]).collect();
    cluster["north-1"].put_replicated(&record, &put);
    READERS.iter().for_each(|name| cluster[name].start());
    let id = cluster["east-1"].record_named("record");
    READERS.iter().for_each(|name| assert_eq!(cluster[name].record_named("record"), id));

    let (before, _) = cluster["north-1"].traffic();
    std::thread::scope(|scope| {
        for name in READERS {
            let (reader, back) = (&cluster[name], cluster.path(&format!("back at {name}")));
            let (id, original) = (&id, &original);
            scope.spawn(move || {
                reader.done(&["get", id, "--output", back.to_str().unwrap()]);
                assert!(std::fs::read(&back).unwrap() == *original, "the record came back changed at {}", reader.name);
            });
        }
    });
    let (after, _) = cluster["north-1"].traffic();

    let copies = (after - before) as f64 / RECORD_LEN as f64;
    eprintln!("the author sent {copies:.2} copies to {} readers", READERS.len());
    assert!(copies <= COPIES_SENT_MAX, "{copies:.2} copies of {}", READERS.len());
}
