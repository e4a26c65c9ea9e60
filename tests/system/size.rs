//! What an import costs the ledger, which everybody keeps.

use std::sync::Arc;

use bithealth::chain::Chain;
use bithealth::home::Home;
use bithealth::keys::Unlocking;
use bithealth_envelope::NodeKey;
use bithealth_proto::encode;
use bithealth_store::Store;
use bithealth_tests::{Clinic, Cluster, bytes_of, write};
use bithealth_types::{Height, Sequence};

const RECORDS: u64 = 2_000;
/// Bytes of entries, headers, certificates and bodies for each record.
const BYTES_PER_RECORD_MAX: u64 = 160;

/// Everything the ledger of a stopped node holds: entries of all logs, and blocks.
fn ledger_len(clinic: &Clinic) -> u64 {
    let home = Home::new(&clinic.home);
    let keys = home.keys(&Unlocking::KeyFile(clinic.key_file().to_owned())).unwrap();
    let store = Arc::new(Store::open(&home.store_path(), bithealth_store::Config::default()).unwrap());
    let chain = Chain::open(home.genesis().unwrap(), store, NodeKey::from_seed(*keys.node.seed())).unwrap();
    let authors: Vec<_> = chain.state().nodes().map(|node| node.id).collect();
    let mut len = 0;
    for author in authors {
        let mut from = 0;
        loop {
            let entries = chain.entries(&author, Sequence(from), 1000).unwrap();
            if entries.is_empty() {
                break;
            }
            from += entries.len() as u64;
            len += entries.iter().map(|entry| encode(entry).len() as u64).sum::<u64>();
        }
    }
    let mut from = 1;
    loop {
        let blocks = chain.blocks(Height(from), 1000).unwrap();
        if blocks.is_empty() {
            return len;
        }
        from += blocks.len() as u64;
        len += blocks.iter().map(|block| encode(block).len() as u64).sum::<u64>();
    }
}

#[test]
fn a_bulk_import_costs_the_ledger_at_most_160_bytes_a_record_with_the_founding_in_it() {
    let mut cluster = Cluster::start(&["north-1", "south-1", "east-1"]);
    let records = cluster.path("records");
    for number in 0..RECORDS {
        write(&records.join(format!("{number}.json")), bytes_of(number, 1_500));
    }
    let put = ["put", records.to_str().unwrap(), "--for", "south-1", "--survive", "0,1", "--wait", "final"];
    cluster["north-1"].done(&put);
    cluster["north-1"].stop();
    let len = ledger_len(&cluster["north-1"]);
    eprintln!("{RECORDS} records: {len} bytes of ledger, {:.1} a record", len as f64 / RECORDS as f64);
    assert!(len <= RECORDS * BYTES_PER_RECORD_MAX, "{len} bytes for {RECORDS} records");
}
