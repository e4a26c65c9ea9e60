//! What an operator's Prometheus reads of a node, and who may read it.

use bithealth_tests::{Clinic, Cluster, Page, bytes_of, scrape, text, wait_until, write};

/// Six shards of which four restore, for packs of seven nodes in three regions: any two of them may go.
const SIX: [&str; 2] = ["--survive", "0,1"];
const SEVEN: [&str; 7] = ["north-1", "north-2", "north-3", "south-1", "south-2", "east-1", "east-2"];

fn watched(names: &[&str]) -> Cluster {
    Cluster::start_with(names, |clinic| {
        clinic.configure_also("metrics_listen", "\"127.0.0.1:0\"");
        clinic.configure("repair_look_ms", "100");
        // Nobody counts as lost while this runs: what is seen is a node that is away.
        clinic.configure("repair_after_ms", "600000");
    })
}

/// Waits until the metrics are as they should be.
fn wait_for(clinic: &Clinic, what: &str, look: impl Fn(&Page) -> bool) -> Page {
    wait_until(&format!("{}: {what}", clinic.name), || {
        let page = clinic.metrics();
        if look(&page) { Ok(page) } else { Err(format!("{page:?}")) }
    })
}

fn own_packs_at(page: &Page, margin: &str) -> f64 {
    page.value("bithealth_packs", &[("margin", margin), ("owner", "own")])
}

#[test]
fn a_node_that_stops_brings_packs_one_nearer_to_loss_in_the_metrics_until_it_is_back() {
    let mut cluster = watched(&SEVEN);
    let record = cluster.path("record");
    write(&record, bytes_of(1, 3 << 20));
    let before = cluster["north-1"].metrics();
    assert_eq!(before.value("bithealth_packs", &[]), 0.0, "there is no pack yet");
    assert_eq!(before.value("bithealth_exchange_sent_bytes_total", &[]), 0.0);
    cluster["north-1"].put_replicated(&record, &["--for", "east-1", SIX[0], SIX[1]]);
    let north = &cluster["north-1"];
    let whole = wait_for(north, "the pack stands, is final, and may lose two", |page| {
        own_packs_at(page, "2") == 1.0 && page.value("bithealth_own_packs", &[("state", "final")]) == 1.0
    });
    assert_eq!(whole.value("bithealth_packs", &[]), 1.0, "it is counted once");
    let status = north.status();
    let height = status["height"].as_u64().unwrap() as f64;
    assert!(whole.value("bithealth_ledger_height", &[]) <= height && height > 0.0);
    // Five shards stand elsewhere, each of a quarter of the pack.
    let pushed = whole.value("bithealth_exchange_sent_bytes_total", &[("purpose", "place")]);
    assert!(pushed >= 5.0 * whole.value("bithealth_storage_sealed_bytes", &[]) / 4.0, "{pushed} bytes were pushed");
    let holds = |name: &&&str| cluster[name].metrics().value("bithealth_storage_held_bytes", &[]) > 0.0;
    let holder = **SEVEN[1..].iter().filter(holds).collect::<Vec<_>>().first().expect("others hold shards");
    let held = cluster[holder].metrics();
    let received = held.value("bithealth_exchange_received_bytes_total", &[("purpose", "place")]);
    assert!(received >= held.value("bithealth_storage_held_bytes", &[]), "what it holds came to it");
    let validators = |page: &Page, state| page.value("bithealth_validators", &[("state", state)]);
    assert_eq!((validators(&whole, "present"), validators(&whole, "missing")), (7.0, 0.0));
    assert_eq!(whole.value("bithealth_peers_admitted", &[]), 6.0);

    cluster[holder].kill();

    let away = wait_for(&cluster["north-1"], "it may lose one only", |page| own_packs_at(page, "1") == 1.0);
    assert_eq!(own_packs_at(&away, "2"), 0.0, "it moved");
    wait_for(&cluster["north-1"], "its validator is missing", |page| validators(page, "missing") == 1.0);
    cluster[holder].start();
    let back = wait_for(&cluster["north-1"], "it may lose two again", |page| own_packs_at(page, "2") == 1.0);
    assert_eq!(own_packs_at(&back, "1"), 0.0);

    // A reader: what is sent for it is told apart from what was placed.
    let (id, output) = (cluster["east-1"].record_named("record"), cluster.path("back"));
    cluster["east-1"].done(&["get", &id, "--output", text(&output)]);
    let read = cluster["east-1"].metrics().value("bithealth_exchange_received_bytes_total", &[("purpose", "read")]);
    assert!(read > 1e6, "{read} bytes of 3 MiB were received, the rest lies here");
    let sent: f64 = cluster.clinics().iter().map(|clinic| answered(&clinic.metrics())).sum();
    assert!(sent > 0.0, "somebody answered wants");
}

fn answered(page: &Page) -> f64 {
    page.value("bithealth_exchange_wants_total", &[("outcome", "answered")])
}

#[test]
fn metrics_are_for_who_brings_the_token_and_name_nobody_and_health_is_for_all() {
    let mut cluster = watched(&["north-1", "south-1", "east-1"]);
    let record = cluster.path("Muster-Erika.txt");
    write(&record, "x".repeat(5000));
    let put = cluster["north-1"].done(&[
        "put",
        text(&record),
        "--patient",
        "http://hospital.example|4711",
        "--folder",
        "laboratory",
        "--survive",
        "1,0",
        "--wait",
        "final",
    ]);
    let id = put.events("record").next().unwrap()["record"].as_str().unwrap().to_owned();
    let north = &cluster["north-1"];
    let (address, token) =
        (north.metrics_address(), std::fs::read_to_string(north.home.join("metrics.token")).unwrap());

    let page = scrape(address, "/metrics", Some(&token));
    assert_eq!((page.status, page.content_type.starts_with("application/openmetrics-text")), (200, true), "{page:?}");
    assert_eq!(Page::read(&page.body).value("bithealth_own_packs", &[("state", "final")]), 1.0);
    for name in ["Muster", "hospital", "4711", "laboratory", "north-1", "south-1", &id] {
        assert!(!page.body.contains(name), "{name} is in\n{}", page.body);
    }
    for token in [None, Some("no"), Some(&token[1..])] {
        let refused = scrape(address, "/metrics", token);
        assert_eq!(refused.status, 401, "{refused:?}");
        assert!(!refused.body.contains("bithealth_packs"));
    }
    // The token opens nothing else there, and lies where only the node's user reads it.
    assert_eq!(scrape(address, "/v1/records", Some(&token)).status, 404);
    let file = std::fs::metadata(north.home.join("metrics.token")).unwrap();
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&file.permissions()) & 0o777, 0o600);
    for path in ["/v1/health", "/v1/ready"] {
        assert_eq!(scrape(address, path, None).status, 200, "{path}");
    }
    // A node without room for anything new says that it is not ready, and stays alive.
    cluster["north-1"].stop();
    cluster["north-1"].configure("disk_reserve_bytes", "9000000000000000000");
    cluster["north-1"].start();
    let address = cluster["north-1"].metrics_address();
    let full = scrape(address, "/v1/ready", None);
    assert_eq!(full.status, 503);
    assert!(full.body.contains("disk_reserve_bytes"), "{full:?}");
    assert_eq!(scrape(address, "/v1/health", None).status, 200);
    assert_eq!(std::fs::read_to_string(cluster["north-1"].home.join("metrics.token")).unwrap(), token, "it stays");
}
