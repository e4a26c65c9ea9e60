//! `status`, `peers`, `invite`, `kit`, `stop`: short questions to the node.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use bithealth_http::api::{
    AccusedInfo, FinalityInfo, InviteOptions, KeptPacks, NodeInfo, Offence, PacksAt, PeerInfo, Reach, ReachInfo,
    RepairInfo, Status, WitnessInfo,
};
use bithealth_store::is_in_use;
use bithealth_types::NodeId;

use super::args::{InviteArgs, KitArgs};
use super::exit::Exit;
use super::failure::Failure;
use super::show::{Show, ago, count, counted, counted_as, len, now_ms, plain, print_line, span, table};
use super::{admin, care, cosigned, recover};
use crate::client::Client;
use crate::home::Home;
use crate::keys::write_private;

/// How long a node may take to end, and between two looks at whether it has.
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const STOP_LOOK: Duration = Duration::from_millis(20);
/// Witnesses that `status` names.
const WITNESSES_SHOWN_MAX: usize = 3;

/// Runs `status`.
pub(crate) async fn status(client: &Client, show: Show) -> Result<Exit, Failure> {
    let status = client.status().await?;
    show.answer(&status, |status| status_words(status, now_ms()));
    Ok(Exit::Done)
}

fn status_words(status: &Status, now_ms: u64) -> String {
    let mut text = String::new();
    let mut line = |head: &str, words: String| {
        writeln!(text, "{head:<10}  {}", plain(&words)).expect("a String takes every write");
    };
    let tip = match status.head_age_s {
        Some(age) => format!("height {}, last block {} ago", count(status.height.0), span(age)),
        None => "no block yet".to_owned(),
    };
    let (members, nodes) =
        (counted(status.members.len() as u64, "organisation"), counted(status.nodes.len() as u64, "node"));
    line("network", format!("{} ({members}, {nodes}; {tip})", status.network));
    let place = format!("in {} ({})", status.region, status.jurisdiction);
    line("this node", format!("{} of {}, {place}", status.node.short(), status.organisation));
    line("reached", reach(&status.reach));
    let shared = status.records.saturating_sub(status.own_records);
    let records = format!("{} of ours, {}", count(status.own_records), len(status.bytes.records));
    line("records", if shared == 0 { records } else { format!("{records}; {} shared with us", count(shared)) });
    finality(&status.finality).into_iter().for_each(|(head, words)| line(head, words));
    witnesses(&status.witnesses, now_ms).into_iter().for_each(|(head, words)| line(head, words));
    if let Some(words) = recover::words(&status.recovery, now_ms) {
        line("recovery", words);
    }
    if status.proposals > 0 {
        let waiting = counted_as(status.proposals, "proposal waits", "proposals wait");
        line("votes", format!("{waiting} for your organisation: `bithealth admin proposals`"));
    }
    packs(&status.packs).into_iter().for_each(|(head, words)| line(head, words));
    repair(&status.repair).into_iter().for_each(|(head, words)| line(head, words));
    care::audits(&status.nodes, now_ms).into_iter().for_each(|(head, words)| line(head, words));
    if let Some((head, words)) = care::scrub(&status.scrub, now_ms) {
        line(head, words);
    }
    let held = format!("{} held for others of {}", len(status.bytes.held_for_others), len(status.bytes.capacity));
    line("disk", format!("{} used, {} free; {held}", len(status.bytes.stored), len(status.bytes.disk_free)));
    if let Some(own) = status.members.iter().find(|member| member.own) {
        let words = format!("{} given to other organisations, {} of theirs used", len(own.given), len(own.used));
        line("balance", words);
    }
    status.warnings.iter().for_each(|warning| line("warning", warning.clone()));
    text.push('\n');
    text + &nodes_table(&status.nodes, &status.node.to_string(), now_ms)
}

/// How others reach this node.
fn reach(it: &ReachInfo) -> String {
    let relays = || it.relays.iter().map(|relay| relay.name.as_str()).collect::<Vec<_>>().join(", ");
    let serves = if it.serves { "; relays for members that cannot be" } else { "" };
    match it.how {
        Reach::Unknown => "nobody has tried yet".to_owned(),
        Reach::Direct => {
            let at = it.addresses.first().map_or_else(String::new, |address| format!(" at {address}"));
            format!("directly{at}{serves}")
        }
        Reach::Relayed => format!("through {}; directly where the routers allow it", relays()),
        Reach::OutgoingOnly => "by nobody: there are only the connections it opens itself".to_owned(),
    }
}

/// Whether history goes on, how much slack there is, and who is missing.
fn finality(it: &FinalityInfo) -> Vec<(&'static str, String)> {
    let there = format!("{} of {} validators are there, {} decide", it.present, it.validators, it.quorum);
    let outlook = match it.present.checked_sub(it.quorum) {
        None => {
            let lacks = it.quorum - it.present;
            let come = if lacks == 1 { "comes" } else { "come" };
            format!("nothing becomes final until {lacks} more {come} back, everything else goes on")
        }
        Some(0) => "none of them may fail now".to_owned(),
        Some(slack) => format!("{slack} more may fail"),
    };
    let waiting = match it.waiting {
        0 => String::new(),
        waiting => format!("; {} for a block", counted_as(waiting, "entry waits", "entries wait")),
    };
    let mut lines = vec![("finality", format!("{there}: {outlook}{waiting}"))];
    let mut also = |what: &str, names: &[String]| {
        if !names.is_empty() {
            lines.push(("", format!("{what}: {}", names.join(", "))));
        }
    };
    also("missing", &it.missing);
    also("signed twice, tell the members", &it.accused.iter().map(accused).collect::<Vec<_>>());
    also("this node does not vote", it.halted.as_slice());
    lines
}

fn accused(it: &AccusedInfo) -> String {
    let name = plain(it.organisation.as_deref().unwrap_or("an organisation not known here"));
    let key = it.key.get(..8).unwrap_or(&it.key);
    match it.offence {
        Offence::TwoEntries => format!("{name} (two entries at position {} of node {key})", it.at),
        Offence::TwoVotes => format!("{name} (two votes at height {} of validator {key})", it.at),
    }
}

/// Those whose word is worth most: up to the greatest height.
fn witnesses(all: &[WitnessInfo], now_ms: u64) -> Vec<(&'static str, String)> {
    let mut best: Vec<&WitnessInfo> = all.iter().collect();
    best.sort_by_key(|it| std::cmp::Reverse((it.height, it.time_ms)));
    let heads = std::iter::once("witnesses").chain(std::iter::repeat(""));
    let words = best.iter().take(WITNESSES_SHOWN_MAX).map(|it| cosigned::words(it, now_ms));
    let more = all.len().checked_sub(WITNESSES_SHOWN_MAX).filter(|more| *more > 0);
    let more = more.map(|more| format!("and {} more: `bithealth ledger witnesses`", count(more as u64)));
    heads.zip(words.chain(more)).collect()
}

fn packs(packs: &KeptPacks) -> Vec<(&'static str, String)> {
    let replicated = counted(packs.replicated, "pack");
    let summary = match (packs.local, packs.replicated) {
        (0, 0) => "nothing put yet".to_owned(),
        (0, all) if packs.r#final == all => {
            format!("all {replicated} replicated and final: each survives what its policy names")
        }
        (0, _) => format!(
            "all {replicated} replicated, {} of them final: each survives what its policy names",
            count(packs.r#final)
        ),
        (local, _) => format!("{replicated} replicated, {} not yet", count(local)),
    };
    let reasons = packs.short.iter().map(|held| ("", format!("{}: {}", counted(held.packs, "pack"), held.reason)));
    std::iter::once(("safety", summary)).chain(reasons).collect()
}

/// How far our packs are from being lost, and what is rebuilt.
fn repair(it: &RepairInfo) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let own: Vec<_> = it.margins.iter().filter(|at| at.own > 0).collect();
    let survives = |at: &&PacksAt| {
        let packs = counted(at.own, "pack");
        match at.margin {
            ..0 => format!("{packs} cannot be restored now"),
            0 => format!("{packs} would not survive the loss of another node"),
            1 => format!("{packs} would survive the loss of any node"),
            margin => format!("{packs} would survive the loss of any {margin} nodes"),
        }
    };
    if !own.is_empty() {
        lines.push(("margin", own.iter().map(survives).collect::<Vec<_>>().join(", ")));
    }
    if let Some(left) = it.begins_in_s {
        lines.push(("repair", format!("what silent nodes hold is rebuilt elsewhere in {}", span(left))));
    }
    if it.missing_shards > 0 {
        let missing = format!("{} ({}) of lost nodes", counted(it.missing_shards, "shard"), len(it.missing_bytes));
        let untaken = match it.untaken_shards {
            0 => String::new(),
            untaken => format!("; {} of them nobody can take: each node has another one", count(untaken)),
        };
        let until = it.done_in_s.map_or_else(String::new, |left| format!(", done in about {}", span(left)));
        lines.push(("repair", format!("{missing} are rebuilt elsewhere{until}{untaken}")));
    }
    lines
}

fn nodes_table(nodes: &[NodeInfo], this: &str, now_ms: u64) -> String {
    let rows: Vec<_> = nodes
        .iter()
        .map(|node| {
            let state = match (node.node.to_string() == this, node.retired, node.connected, node.last_heard_ms) {
                (true, ..) => "this node".to_owned(),
                (_, true, ..) => "retired".to_owned(),
                (_, _, true, _) => "connected".to_owned(),
                (.., Some(heard)) => format!("away, heard {}", ago(heard, now_ms)),
                (.., None) => "away".to_owned(),
            };
            let site = [node.region.clone(), node.jurisdiction.clone(), len(node.capacity)];
            let audited = care::audited(&node.audit, now_ms);
            [vec![node.node.short(), node.name.clone()], site.to_vec(), vec![audited, state]].concat()
        })
        .collect();
    table(&["NODE", "ORGANISATION", "REGION", "LAW", "OFFERS", "AUDITED", "STATE"], &rows)
}

/// Runs `peers`.
pub(crate) async fn peers(client: &Client, show: Show) -> Result<Exit, Failure> {
    let peers = client.peers().await?;
    if show.json {
        peers.iter().for_each(|peer| show.event(peer));
    } else if peers.is_empty() {
        print_line("no peers connected");
    } else {
        print_line(peers_table(&peers, now_ms()).trim_end());
    }
    Ok(Exit::Done)
}

fn peers_table(peers: &[PeerInfo], now_ms: u64) -> String {
    let name =
        |node: &NodeId| peers.iter().find(|it| it.node == *node).map_or_else(|| node.short(), |it| it.name.clone());
    let rows: Vec<_> = peers
        .iter()
        .map(|peer| {
            let round_trip = peer.round_trip_ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms} ms"));
            let since = ago(peer.connected_since_ms, now_ms);
            let path = peer.relay.map_or_else(|| "direct".to_owned(), |relay| format!("through {}", name(&relay)));
            let place = [peer.node.short(), peer.name.clone(), peer.region.clone(), path, peer.address.clone()];
            [place.to_vec(), vec![since, round_trip, len(peer.bytes_in), len(peer.bytes_out)]].concat()
        })
        .collect();
    table(&["NODE", "ORGANISATION", "REGION", "PATH", "ADDRESS", "CONNECTED", "ROUND TRIP", "IN", "OUT"], &rows)
}

/// Runs `invite`.
pub(crate) async fn invite(client: &Client, args: InviteArgs, show: Show) -> Result<Exit, Failure> {
    let InviteArgs { name, region, jurisdiction, expires } = args;
    let ttl_s = expires.as_secs();
    let invite = client.invite(&InviteOptions { name, region, jurisdiction, ttl_s }).await?;
    show.answer(&invite, |invite| invite.text.clone());
    show.note(admin::after_invite(&invite.proposal, ttl_s));
    Ok(Exit::Done)
}

/// Runs `kit`.
pub(crate) async fn kit(client: &Client, args: KitArgs, show: Show) -> Result<Exit, Failure> {
    let kit = zeroize::Zeroizing::new(client.kit().await?);
    match args.output {
        Some(path) => {
            write_private(&path, kit.as_bytes()).map_err(Failure::new)?;
            show.answer(&serde_json::json!({ "path": path }), |_| format!("{}", path.display()));
        }
        None if show.json => show.event(&serde_json::json!({ "kit": kit.as_str() })),
        None => print_line(kit.trim_end()),
    }
    show.note("whoever has this kit can read and restore everything of your organisation: print it, and lock it away");
    Ok(Exit::Done)
}

/// Runs `open-foreign`.
pub(crate) async fn open_foreign(client: &Client, show: Show) -> Result<Exit, Failure> {
    let answer = client.open_foreign().await?;
    show.answer(&answer, |answer| format!("{} packs of others opened", answer.opened));
    Ok(Exit::Done)
}

/// Runs `stop`: returns once another command may use the node's folder.
pub(crate) async fn stop(data_dir: &Path, client: &Client, show: Show) -> Result<Exit, Failure> {
    let answer = client.stop().await?;
    let store = Home::new(data_dir).store_path();
    let began = Instant::now();
    while is_in_use(&store) {
        if began.elapsed() > STOP_PATIENCE {
            let what = format_args!("the node was told to stop, and still runs after {} s", STOP_PATIENCE.as_secs());
            return Err(Failure::new(what).next("look at its log; it writes what is under way to the disk"));
        }
        tokio::time::sleep(STOP_LOOK).await;
    }
    show.answer(&answer, |_| "the node has stopped".to_owned());
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_http::api::{AuditInfo, Held, MemberInfo, RecoveryInfo, RelayInfo, ScrubInfo, StoredBytes};
    use bithealth_types::{ByteLen, GenesisId, Height, MemberId};

    fn node(byte: u8, connected: bool, last_heard_ms: Option<u64>) -> NodeInfo {
        NodeInfo {
            node: NodeId([byte; 32]),
            member: MemberId([9; 32]),
            name: "Anna".into(),
            region: "graz".into(),
            jurisdiction: "AT".into(),
            capacity: ByteLen(1 << 40),
            connected,
            retired: false,
            in_block: true,
            last_heard_ms,
            audit: AuditInfo::default(),
        }
    }

    fn witness(name: u8, height: u64) -> WitnessInfo {
        let (name, text) = (format!("w{name}.example.org"), String::new);
        WitnessInfo { name, key: text(), height: Height(height), time_ms: 60_000, note: text() }
    }

    fn status() -> Status {
        Status {
            node: NodeId([1; 32]),
            member: MemberId([9; 32]),
            organisation: "Anna".into(),
            network: "north".into(),
            genesis: GenesisId([0; 32]),
            region: "graz".into(),
            jurisdiction: "AT".into(),
            height: Height(1200),
            head_age_s: Some(4),
            members: vec![MemberInfo {
                member: MemberId([9; 32]),
                name: "Anna".into(),
                nodes: 3,
                own: true,
                given: ByteLen(6 << 30),
                used: ByteLen(3 << 29),
            }],
            reach: ReachInfo {
                how: Reach::Direct,
                addresses: vec!["/ip4/9.9.9.9/tcp/4401".into()],
                serves: true,
                ..ReachInfo::default()
            },
            nodes: vec![node(1, true, None), node(2, true, None), node(3, false, Some(0)), node(4, false, None)],
            finality: FinalityInfo {
                validators: 9,
                quorum: 6,
                present: 5,
                missing: vec!["Bruck".into(), "Cham".into()],
                waiting: 12,
                ..FinalityInfo::default()
            },
            witnesses: vec![witness(1, 1100)],
            proposals: 1,
            recovery: RecoveryInfo::default(),
            packs: KeptPacks {
                local: 3,
                replicated: 7,
                r#final: 6,
                short: vec![Held { reason: "losing region graz would lose it".into(), packs: 2 }],
            },
            repair: RepairInfo {
                margins: vec![
                    PacksAt { margin: 1, own: 0, all: 4 },
                    PacksAt { margin: 4, own: 3, all: 3 },
                    PacksAt { margin: 5, own: 7, all: 9 },
                ],
                missing_shards: 12,
                missing_bytes: ByteLen(12 << 22),
                untaken_shards: 2,
                begins_in_s: Some(600),
                done_in_s: Some(90),
                ..RepairInfo::default()
            },
            scrub: ScrubInfo { ended_ms: Some(120_000), bytes: ByteLen(3 << 30), ..ScrubInfo::default() },
            records: 25_000,
            own_records: 20_000,
            bytes: StoredBytes { records: ByteLen(3 << 29), ..StoredBytes::default() },
            warnings: vec!["the disk is 91 % full".into()],
        }
    }

    #[test]
    fn status_says_what_is_safe_and_who_is_there() {
        let words = status_words(&status(), 180_000);
        for part in [
            "north (1 organisation, 4 nodes; height 1,200, last block 4 s ago)",
            "records     20,000 of ours, 1.5 GiB; 5,000 shared with us",
            "reached     directly at /ip4/9.9.9.9/tcp/4401; relays for members that cannot be",
            "7 packs replicated, 3 not yet",
            "5 of 9 validators are there, 6 decide: nothing becomes final until 1 more comes back",
            "12 entries wait for a block",
            "missing: Bruck, Cham",
            "witnesses   w1.example.org cosigned height 1,100, 2 min ago",
            "2 packs: losing region graz would lose it",
            "margin      3 packs would survive the loss of any 4 nodes, 7 packs would survive the loss of any 5 nodes",
            "repair      what silent nodes hold is rebuilt elsewhere in 10 min",
            "repair      12 shards (48.0 MiB) of lost nodes are rebuilt elsewhere, done in about 1 min; 2 of them nobody can",
            "balance     6.0 GiB given to other organisations, 1.5 GiB of theirs used",
            "warning     the disk is 91 % full",
            "checked     all 3.0 GiB that lie here were read back 1 min ago",
            "01010101  Anna          graz    AT   1.0 TiB  -        this node",
            "02020202  Anna          graz    AT   1.0 TiB  -        connected",
            "away, heard 3 min ago",
        ] {
            assert!(words.contains(part), "{part:?} is not in\n{words}");
        }
    }

    #[test]
    fn status_says_what_another_loss_would_cost() {
        let words = |margin| {
            let margins = vec![PacksAt { margin, own: 1, all: 1 }];
            repair(&RepairInfo { margins, ..RepairInfo::default() })[0].1.clone()
        };
        assert_eq!(words(1), "1 pack would survive the loss of any node");
        assert_eq!(words(0), "1 pack would not survive the loss of another node");
        assert_eq!(words(-2), "1 pack cannot be restored now");
        assert!(repair(&RepairInfo::default()).is_empty());
    }

    #[test]
    fn status_says_so_when_all_is_well_or_empty() {
        let words = |replicated| packs(&KeptPacks { replicated, r#final: 2, ..KeptPacks::default() })[0].1.clone();
        assert!(words(2).starts_with("all 2 packs replicated and final"));
        assert!(words(3).starts_with("all 3 packs replicated, 2 of them final"));
        assert_eq!(words(0), "nothing put yet");
    }

    #[test]
    fn status_says_how_many_validators_may_fail() {
        let words = |present, missing: &[&str]| {
            let missing = missing.iter().map(|name| (*name).to_owned()).collect();
            let it = FinalityInfo { validators: 9, quorum: 6, present, missing, ..FinalityInfo::default() };
            finality(&it).into_iter().map(|(_, words)| words).collect::<Vec<_>>()
        };
        assert_eq!(words(9, &[]), ["9 of 9 validators are there, 6 decide: 3 more may fail"]);
        let six = words(6, &["a", "b", "c"]);
        assert_eq!(six[0], "6 of 9 validators are there, 6 decide: none of them may fail now");
        assert_eq!(six[1], "missing: a, b, c");
    }

    #[test]
    fn status_names_the_witnesses_that_saw_most() {
        assert!(witnesses(&[], 0).is_empty());
        let all: Vec<_> = (1..=5).map(|at| witness(at, u64::from(at))).collect();
        let words: Vec<_> = witnesses(&all, 60_000).into_iter().map(|(_, words)| words).collect();
        assert_eq!(words.len(), WITNESSES_SHOWN_MAX + 1);
        assert_eq!(words[0], "w5.example.org cosigned height 5, 0 s ago");
        assert_eq!(words[3], "and 2 more: `bithealth ledger witnesses`");
        assert_eq!(witnesses(&all[..3], 0).len(), 3);
    }

    #[test]
    fn peers_are_a_table() {
        let peer = PeerInfo {
            node: NodeId([2; 32]),
            name: "Anna".into(),
            region: "graz".into(),
            address: "/ip4/10.0.0.2/tcp/4401".into(),
            relay: None,
            connected_since_ms: 0,
            round_trip_ms: Some(12),
            bytes_in: ByteLen(1536),
            bytes_out: ByteLen(0),
        };
        let through =
            |relay| PeerInfo { node: NodeId([7; 32]), name: "Bruck".into(), relay: Some(relay), ..peer.clone() };
        let words = peers_table(&[peer.clone(), through(peer.node), through(NodeId([8; 32]))], 60_000);
        assert!(words.contains("/ip4/10.0.0.2/tcp/4401  1 min ago  12 ms       1.5 KiB  0 B"), "{words}");
        for path in ["graz    direct ", "graz    through Anna ", "graz    through 08080808 "] {
            assert!(words.contains(path), "{path:?} is not in\n{words}");
        }
    }

    #[test]
    fn status_says_how_this_node_is_reached() {
        let relays = vec![RelayInfo { node: NodeId([1; 32]), name: "Anna".into() }];
        let words = |how| reach(&ReachInfo { how, relays: relays.clone(), ..ReachInfo::default() });
        assert_eq!(words(Reach::Unknown), "nobody has tried yet");
        assert_eq!(words(Reach::Direct), "directly");
        assert_eq!(words(Reach::Relayed), "through Anna; directly where the routers allow it");
        assert!(words(Reach::OutgoingOnly).starts_with("by nobody"));
    }
}
