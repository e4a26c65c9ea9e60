//! Clinics that others cannot call: behind routers, and on a LAN where every address they knew has changed. They join, keep
//! one another's records and find each other like all others, with nothing configured.

use bithealth_tests::{Clinic, Cluster, Nat, Place, bytes_of, same_files, wait_until, write};

/// A member that everybody reaches, and two that nobody does.
fn two_hidden(nat: Nat) -> Cluster {
    Cluster::start_at(&[("north-1", Place::Public), ("south-1", Place::Behind(nat)), ("east-1", Place::Behind(nat))])
}

/// Waits until a clinic is connected with another in this way: through nobody, or through whom.
fn connected_through(clinic: &Clinic, other: &str, relay: Option<&str>) {
    let relay = relay.map(|name| clinic.peer(name).expect("the relay is connected")["node"].clone());
    wait_until(&format!("{} reaches {other} through {relay:?}", clinic.name), || {
        let peer = clinic.peer(other).ok_or("they are not connected")?;
        let through = peer["relay"].as_str();
        if through == relay.as_ref().and_then(|it| it.as_str()) { Ok(()) } else { Err(peer.to_string()) }
    });
}

/// A clinic puts records for another, which reads them.
fn put_and_read(cluster: &Cluster, from: &str, to: &str, name: &str, len: usize, survive: &[&str]) {
    let records = cluster.path(name);
    write(&records.join(name), bytes_of(name.len() as u64, len));
    cluster[from].put_replicated(&records, &[&["--for", to], survive].concat());
    let record = cluster[to].record_named(name);
    let read = cluster.path(&format!("{name}-read"));
    std::fs::create_dir(&read).unwrap();
    cluster[to].done(&["get", &record, "--output", read.join(name).to_str().unwrap()]);
    same_files(&records, &read).unwrap();
}

fn reached(clinic: &Clinic, how: &str) -> serde_json::Value {
    clinic.wait_for(&format!("is reached: {how}"), |status| status["reach"]["how"] == how)
}

#[test]
fn two_clinics_behind_routers_meet_through_a_third_and_then_need_it_no_more() {
    let mut cluster = two_hidden(Nat::KeepsPorts);
    assert_eq!(reached(&cluster["north-1"], "direct")["reach"]["serves"], true);
    for hidden in ["south-1", "east-1"] {
        assert_eq!(reached(&cluster[hidden], "relayed")["reach"]["relays"][0]["name"], "north-1");
    }
    connected_through(&cluster["south-1"], "east-1", None);
    connected_through(&cluster["east-1"], "south-1", None);
    put_and_read(&cluster, "south-1", "east-1", "with-the-relay", 5_000_000, &[]);

    cluster["north-1"].kill();
    for (hidden, other) in [("south-1", "east-1"), ("east-1", "south-1")] {
        cluster[hidden].wait_for("misses the relay", |status| status["finality"]["present"] == 2);
        connected_through(&cluster[hidden], other, None);
    }
    put_and_read(&cluster, "east-1", "south-1", "without-the-relay", 5_000_000, &["--survive", "0,1"]);
}

#[test]
fn where_no_hole_can_be_punched_records_go_through_a_member_that_relays() {
    let cluster = two_hidden(Nat::DrawsPorts);
    connected_through(&cluster["south-1"], "east-1", Some("north-1"));
    put_and_read(&cluster, "south-1", "east-1", "relayed", 20_000_000, &[]);
    put_and_read(&cluster, "east-1", "south-1", "back", 20_000_000, &[]);
    connected_through(&cluster["east-1"], "south-1", Some("north-1"));
}

#[test]
fn where_nobody_relays_a_hidden_clinic_says_what_to_do() {
    let mut cluster = Cluster::start_at(&[("north-1", Place::Public), ("south-1", Place::Behind(Nat::KeepsPorts))]);
    cluster["north-1"].stop();
    cluster["north-1"].configure("relay", "false");
    cluster["north-1"].start();
    let status = reached(&cluster["south-1"], "outgoing_only");
    let warnings = status["warnings"].to_string();
    assert!(warnings.contains("`relay = true`") && warnings.contains("TCP and UDP"), "{warnings}");
    assert_eq!(reached(&cluster["north-1"], "direct")["reach"]["serves"], false);
}

#[test]
fn clinics_on_a_lan_find_each_other_though_all_their_addresses_have_changed() {
    let mut cluster = Cluster::start_on_lan(&["north-1", "south-1"]);
    for (clinic, address) in [("north-1", "10.0.0.101"), ("south-1", "10.0.0.102")] {
        cluster[clinic].stop();
        cluster[clinic].move_to(address);
    }
    for clinic in ["north-1", "south-1"] {
        cluster[clinic].start();
    }
    cluster.wait_until_joined(2);
    let address = cluster["north-1"].peer("south-1").expect("they are connected")["address"].to_string();
    assert!(address.contains("10.0.0.102"), "{address}");
}
