//! Reads everything that lies here back on a schedule, and has peers repair what is damaged, unasked.
//!
//! The disk is read for a small part of the time. How far a round came is kept, so that a node that is restarted often
//! comes to its end all the same; what cannot be repaired yet is tried again while the node runs.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bithealth_http::api::{ScrubInfo, VerifyOptions};
use bithealth_proto::{encode, v1};
use bithealth_store::Kind;
use bithealth_types::{ByteLen, PackId, ShardIndex};
use bytes::Bytes;
use tracing::{info, warn};

use crate::node::{Node, now_ms};
use crate::replicate::blocking;
use crate::vault;
use crate::verify::{self, Checked, Item};

/// Under this the store notes how far a round came.
const PLACE: &[u8] = b"scrub";
/// After each item the disk rests this many times as long as reading it took: a twentieth of its time is taken.
const REST_TIMES: u32 = 19;
/// How far a round came is noted after so many items: that much is read again after a crash.
const NOTED_AFTER_ITEMS: u64 = 64;

/// How far the store was read back.
#[derive(Default)]
pub struct Scrubbing {
    seen: Mutex<Seen>,
}

#[derive(Clone, Default)]
struct Seen {
    place: v1::ScrubPlace,
    unrepaired: BTreeSet<Item>,
}

impl Scrubbing {
    fn with<T>(&self, work: impl FnOnce(&mut Seen) -> T) -> T {
        work(&mut self.seen.lock().expect("no holder panics"))
    }
}

/// How far it is, for people.
pub fn info(node: &Node) -> ScrubInfo {
    let bytes_total = ByteLen(node.store.usage().live_bytes);
    node.scrubbing.with(|Seen { place, unrepaired }| {
        let time = |ms: u64| (ms > 0).then_some(ms);
        ScrubInfo {
            began_ms: time(place.began_ms).filter(|_| !place.after.is_empty()),
            ended_ms: time(place.ended_ms),
            bytes: ByteLen(place.bytes),
            bytes_total,
            damaged: place.damaged,
            repaired: place.repaired,
            unrepaired: unrepaired.len() as u64,
        }
    })
}

/// Reads round after round, for as long as the node runs.
pub async fn run(node: Arc<Node>) {
    if node.config.scrub_interval_ms == 0 {
        return;
    }
    let reader = node.clone();
    match blocking(move || vault::message::<v1::ScrubPlace, vault::VaultError>(&reader.store, Kind::Meta, PLACE)).await
    {
        Ok(place) => node.scrubbing.with(|seen| seen.place = place.unwrap_or_default()),
        Err(error) => warn!(%error, "how far the store was read back is not known: a round begins anew"),
    }
    loop {
        let wait = node.scrubbing.with(|seen| until_next(&seen.place, now_ms(), node.config.scrub_interval_ms));
        // What waits for peers is tried again meanwhile.
        tokio::time::sleep(wait.min(Duration::from_millis(node.config.repair_look_ms))).await;
        repair_again(&node).await;
        if wait.is_zero() {
            round(&node).await;
        }
    }
}

/// How long until the next item is due: at once within a round.
fn until_next(place: &v1::ScrubPlace, now_ms: u64, interval_ms: u64) -> Duration {
    if !place.after.is_empty() {
        return Duration::ZERO;
    }
    Duration::from_millis((place.began_ms + interval_ms).saturating_sub(now_ms).min(interval_ms))
}

/// Reads what is left of a round, or a whole one.
async fn round(node: &Arc<Node>) {
    let after = node.scrubbing.with(|seen| {
        if seen.place.after.is_empty() {
            (seen.place.began_ms, seen.place.bytes) = (now_ms(), 0);
        }
        seen.place.after.clone()
    });
    let lister = node.clone();
    let items = blocking(move || Item::all(&lister)).await;
    for (count, item) in (1..).zip(items.into_iter().filter(|item| key(item)[..] > after[..])) {
        let took = check(node, item).await;
        node.scrubbing.with(|seen| seen.place.after = key(&item).into());
        if count % NOTED_AFTER_ITEMS == 0 {
            note(node).await;
        }
        tokio::time::sleep(took * REST_TIMES).await;
    }
    let found = node.scrubbing.with(|seen| {
        seen.place.after = Bytes::new();
        seen.place.ended_ms = now_ms();
        seen.place.clone()
    });
    info!(
        bytes = found.bytes,
        damaged = found.damaged,
        repaired = found.repaired,
        "everything that lies here was read back"
    );
    note(node).await;
}

/// Checks one item; how long that kept the disk busy.
async fn check(node: &Arc<Node>, item: Item) -> Duration {
    let began = Instant::now();
    let Checked { bytes, damage } = verify::check(node, item, VerifyOptions { full: true }).await;
    let took = began.elapsed();
    match &damage {
        Some((error, true)) => info!(item = item.name(), %error, "what was damaged is repaired from peers"),
        Some((error, false)) => warn!(item = item.name(), %error, "what is damaged cannot be repaired yet"),
        None => {}
    }
    node.scrubbing.with(|seen| {
        seen.place.bytes += bytes;
        seen.place.damaged += u64::from(damage.is_some());
        match damage {
            Some((_, false)) => drop(seen.unrepaired.insert(item)),
            Some((_, true)) => seen.place.repaired += 1,
            None => {}
        }
    });
    took
}

/// Asks peers again for what could not be repaired.
async fn repair_again(node: &Arc<Node>) {
    for item in node.scrubbing.with(|seen| seen.unrepaired.clone()) {
        let there = match item {
            Item::Pack(salt) => node.vault.pack_len(&salt).is_ok(),
            Item::Shard(pack, shard) => node.vault.has_shard(&pack, shard),
        };
        let repaired = there && verify::repair(node, item).await;
        if repaired || !there {
            node.scrubbing.with(|seen| {
                seen.unrepaired.remove(&item);
                seen.place.repaired += u64::from(repaired);
            });
        }
        if repaired {
            info!(item = item.name(), "what was damaged is repaired from peers");
        }
    }
}

/// Where it is lost, what was read since the last note is read again.
async fn note(node: &Arc<Node>) {
    let (writer, place) = (node.clone(), node.scrubbing.with(|seen| seen.place.clone()));
    let noted = blocking(move || writer.store.put(Kind::Meta, PLACE, &[], &[&encode(&place)])).await;
    if let Err(error) = noted {
        warn!(%error, "how far the store was read back is not noted");
    }
}

/// Its place in the order of a round: that of [`Item::all`].
fn key(item: &Item) -> Vec<u8> {
    match item {
        Item::Pack(salt) => [&[1], &salt[..]].concat(),
        Item::Shard(PackId(pack), ShardIndex(shard)) => [&[2], &pack[..], &shard.to_be_bytes()].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_begins_so_long_after_the_one_before_began_and_goes_on_at_once_where_it_was_left() {
        let place = |began_ms, after: &'static [u8]| v1::ScrubPlace {
            began_ms,
            after: Bytes::from_static(after),
            ..Default::default()
        };
        assert_eq!(until_next(&place(0, b""), 1_000_000, 500), Duration::ZERO, "there was none");
        assert_eq!(until_next(&place(1000, b""), 1200, 500), Duration::from_millis(300));
        assert_eq!(until_next(&place(1000, b""), 1500, 500), Duration::ZERO);
        assert_eq!(until_next(&place(1000, b"x"), 1200, 500), Duration::ZERO);
        assert_eq!(until_next(&place(9000, b""), 1200, 500), Duration::from_millis(500), "the clock was set back");
    }

    #[test]
    fn items_are_read_in_the_order_of_their_keys() {
        let items = [
            Item::Pack([1; 32]),
            Item::Pack([2; 32]),
            Item::Shard(PackId([0; 32]), ShardIndex(1)),
            Item::Shard(PackId([0; 32]), ShardIndex(256)),
            Item::Shard(PackId([1; 32]), ShardIndex(0)),
        ];
        assert!(items.windows(2).all(|pair| key(&pair[0]) < key(&pair[1]) && pair[0] < pair[1]));
    }
}
