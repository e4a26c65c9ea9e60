//! What one organisation may take of another one's room, and what each gives and uses.

use bithealth_tests::{Cluster, bytes_of, write};
use serde_json::Value;

/// Half of this is what one organisation may have at `south-1`.
const CAPACITY: &str = "8 MiB";
/// Two of these fit, a third does not.
const RECORD_LEN: usize = 3 << 19;
/// Every other node has a whole copy.
const COPIES: [&str; 2] = ["--survive", "0,1"];

fn put(cluster: &Cluster, clinic: &str, record: &str, wait: &str) -> Value {
    let path = cluster.path(record);
    write(&path, bytes_of(record.len() as u64, RECORD_LEN));
    cluster[clinic].done(&["put", path.to_str().unwrap(), COPIES[0], COPIES[1], "--wait", wait]);
    cluster[clinic].status()
}

/// What a member gives to others and uses of theirs, as a node sees it.
fn balance(status: &Value, name: &str) -> (u64, u64) {
    let members = status["members"].as_array().map(Vec::as_slice).unwrap_or_default();
    let member = members.iter().find(|member| member["name"] == name).expect("a member");
    (member["given"].as_u64().unwrap(), member["used"].as_u64().unwrap())
}

#[test]
fn an_organisation_gets_its_quota_and_no_more_and_is_told_so_while_others_go_on() {
    let cluster = Cluster::start(&["north-1"]);
    let mut south = cluster.clinic("south-1");
    south.capacity = Some(CAPACITY);
    let joined = south.join(&cluster["north-1"].invite("south-1"));
    assert_eq!(joined.exit, 0, "{joined:?}");
    south.start();
    cluster.wait_until_joined(2);

    put(&cluster, "north-1", "a", "replicated");
    put(&cluster, "north-1", "bb", "replicated");
    put(&cluster, "north-1", "ccc", "local");

    let told = cluster["north-1"].wait_for("the third finds no room", |status| {
        status["packs"]["short"].to_string().contains("no more room for us at node")
    });
    assert_eq!((told["packs"]["replicated"].as_u64(), told["packs"]["local"].as_u64()), (Some(2), Some(1)), "{told}");
    let held = south.status()["bytes"]["held_for_others"].as_u64().unwrap();
    assert!(held <= 4 << 20, "{held} bytes of one organisation are held");
    // Beyond its quota there is room for others: the node itself is not full.
    let members = south.wait_for("the balance is known", |status| balance(status, "north-1").1 > 0);
    assert_eq!(balance(&members, "south-1").0, balance(&members, "north-1").1);
    assert_eq!((balance(&members, "south-1").1, balance(&members, "north-1").0), (0, 0));
    south.stop();
    south.configure("quota_percent", "100");
    south.start();
    cluster["north-1"].wait_for("all are replicated", |status| status["packs"]["replicated"] == 3);
}

#[test]
fn shards_that_stand_together_because_others_had_no_room_are_spread_once_these_have() {
    let cluster = Cluster::start(&["north-1", "north-2"]);
    let mut south = cluster.clinic("south-1");
    south.capacity = Some(CAPACITY);
    let mut south = cluster.admit(south, &["north-2"]);
    south.start();
    cluster.wait_until_joined(3);
    // More than one organisation may have in the south: what belongs there goes to the next best, in the north.
    let record = cluster.path("record");
    write(&record, bytes_of(1, 5 << 20));
    cluster["north-1"].done(&["put", record.to_str().unwrap(), "--survive", "1,0", "--wait", "local"]);
    cluster["north-2"].wait_for("it stepped in", |status| status["bytes"]["held_for_others"].as_u64() > Some(5 << 20));
    cluster["north-1"].wait_for("too little is in the south", |status| status["packs"]["local"] == 1);

    south.stop();
    south.configure("quota_percent", "100");
    south.start();

    cluster["north-1"].wait_for("it is in the south too", |status| status["packs"]["local"] == 0);
    assert!(south.status()["bytes"]["held_for_others"].as_u64() > Some(5 << 20));
}
