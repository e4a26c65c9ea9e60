//! [`Metrics`] as text in the format of OpenMetrics 1.0: the names, units and labels of everything a node exports.
//!
//! Every label takes values from a list that stands here, but for the organisation's: of those at most [`MEMBERS_MAX`] are
//! named. A value that is not known is left out rather than shown as a number that means something else.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use crate::api::{ByPurpose, Metrics, PacksAt};

/// The media type of OpenMetrics text.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Organisations named in balances; a larger network has its largest ones here. Bounds what a scrape costs its reader.
const MEMBERS_MAX: usize = 256;
/// Packs that stand better than this, or worse than one shard too few, are counted with these: the labels stay few.
const MARGIN_MAX: i64 = 8;
const MARGIN_MIN: i64 = -1;

/// The text.
pub(crate) fn encode(metrics: Metrics) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Process(metrics.clone())));
    registry.sub_registry_with_prefix("bithealth").register_collector(Box::new(Ours(metrics)));
    let mut page = String::new();
    text::encode(&mut page, &registry).expect("a text takes all that is written to it");
    page
}

/// What goes by the names that all programs share.
#[derive(Debug)]
struct Process(Metrics);

/// What goes by our own.
#[derive(Debug)]
struct Ours(Metrics);

impl Collector for Process {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut page, process) = (Page(encoder), &self.0.process);
        if let Some(resident) = process.resident {
            let help = "Resident memory of the node";
            page.gauge("process_resident_memory", help, Some(Unit::Bytes), resident.0)?;
        }
        let started = process.started_ms as f64 / 1000.0;
        page.gauge("process_start_time", "When the node was started, since 1970", Some(Unit::Seconds), started)
    }
}

impl Collector for Ours {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let (mut page, metrics) = (Page(encoder), &self.0);
        page.build(metrics.version)?;
        page.packs(metrics)?;
        page.repair(metrics)?;
        page.exchange(metrics)?;
        page.storage(metrics)?;
        page.ledger(metrics)?;
        page.audits(metrics)?;
        let (connections, admitted) = (metrics.process.connections, metrics.process.peers_admitted);
        page.gauge("connections", "Open connections with peers", None, connections)?;
        page.gauge("peers_admitted", "Connected peers that are nodes of members", None, admitted)
    }
}

/// What is being written.
struct Page<'a>(DescriptorEncoder<'a>);

impl Page<'_> {
    fn build(&mut self, version: &'static str) -> fmt::Result {
        let mut metric = self.0.encode_descriptor("build", "The program", None, MetricType::Info)?;
        metric.encode_info(&[("version", version)])
    }

    fn packs(&mut self, metrics: &Metrics) -> fmt::Result {
        let help = "Packs of the network by how many more shards each may lose, whichever they are: -1 cannot be \
                    restored now, 8 stands for all that may lose 8 or more";
        let mut metric = self.0.encode_descriptor("packs", help, None, MetricType::Gauge)?;
        for margin in MARGIN_MIN..=MARGIN_MAX {
            let (own, all) = at_margin(&metrics.repair.margins, margin);
            for (owner, packs) in [("own", own), ("others", all.saturating_sub(own))] {
                let labels = [("margin", margin.to_string()), ("owner", owner.to_owned())];
                metric.encode_family(&labels)?.encode_gauge(&packs)?;
            }
        }
        let own = &metrics.own_packs;
        let states = [("local", own.local), ("replicated", own.replicated), ("final", own.r#final)];
        self.gauges("own_packs", "Packs of this node by how safe they are", None, "state", states)
    }

    fn repair(&mut self, metrics: &Metrics) -> fmt::Result {
        let it = &metrics.repair;
        let help = "Packs with shards that were lost with their holders, or whose holders leave";
        self.gauge("repair_waiting_packs", help, None, it.waiting_packs)?;
        self.gauge("repair_missing_shards", "Shards of those packs that are to be rebuilt", None, it.missing_shards)?;
        self.gauge("repair_missing", "Bytes of those shards", Some(Unit::Bytes), it.missing_bytes.0)?;
        let help = "Of those shards the ones that no node can take, since each has another one of the same pack";
        self.gauge("repair_untaken_shards", help, None, it.untaken_shards)?;
        let left = if it.missing_shards == 0 { Some(0) } else { it.done_in_s };
        if let Some(left) = left {
            let help =
                "Until nothing is missing any more, at the speed of the last minutes; absent where that is unknown";
            self.gauge("repair_remaining", help, Some(Unit::Seconds), left)?;
        }
        self.counter("repair_rebuilt_shards", "Lost shards rebuilt on this node", None, it.rebuilt_shards)?;
        self.counter("repair_rebuilt", "Bytes of those shards", Some(Unit::Bytes), it.rebuilt_bytes.0)
    }

    fn exchange(&mut self, metrics: &Metrics) -> fmt::Result {
        let served = &metrics.served;
        let help = "Bytes of leaves sent to other nodes, by what for";
        self.counters("exchange_sent", help, Some(Unit::Bytes), "purpose", purposes(&served.sent))?;
        let help = "Bytes of leaves received from other nodes, by what for";
        self.counters("exchange_received", help, Some(Unit::Bytes), "purpose", purposes(&metrics.received))?;
        let outcomes = [("answered", served.answered), ("missing", served.missing), ("refused", served.refused)];
        let help = "Wants of other nodes: answered with leaves, for what does not lie here, or refused as too many";
        self.counters("exchange_wants", help, None, "outcome", outcomes)?;
        let help = "How often a peer was asked to send no more wants for now";
        self.counter("exchange_chokes", help, None, served.chokes)?;
        self.gauge("exchange_choked_peers", "Peers that are asked so now", None, served.choked_peers)
    }

    fn storage(&mut self, metrics: &Metrics) -> fmt::Result {
        let (bytes, unit) = (&metrics.bytes, || Some(Unit::Bytes));
        let help = "Bytes of shards held for other organisations";
        self.gauge("storage_held", help, unit(), bytes.held_for_others.0)?;
        self.gauge("storage_capacity", "Bytes offered to other organisations", unit(), bytes.capacity.0)?;
        self.gauge("storage_quota", "Of these the bytes that one organisation may take", unit(), metrics.quota.0)?;
        self.gauge("storage_sealed", "Bytes of the sealed packs of this node", unit(), bytes.sealed.0)?;
        self.gauge("storage_used", "Bytes taken on the disk in all", unit(), bytes.stored.0)?;
        self.gauge("storage_free", "Bytes left on the disk", unit(), bytes.disk_free.0)?;
        let mut largest = metrics.balances.clone();
        largest.sort_by_key(|it| (std::cmp::Reverse(it.given.0.saturating_add(it.used.0)), it.member));
        largest.truncate(MEMBERS_MAX);
        // Whole ids: somebody could make a key whose first digits are another's, and a page that says a thing twice is refused.
        let given = largest.iter().map(|it| (it.member.to_string(), it.given.0));
        let help = "Bytes of shards that an organisation holds for others, as the ledger places them";
        self.gauges("member_given", help, unit(), "member", given)?;
        let used = largest.iter().map(|it| (it.member.to_string(), it.used.0));
        let help = "Bytes of its shards that others hold for an organisation, as the ledger places them";
        self.gauges("member_used", help, unit(), "member", used)
    }

    fn ledger(&mut self, metrics: &Metrics) -> fmt::Result {
        let it = &metrics.ledger;
        self.gauge("ledger_height", "Blocks since genesis", None, it.height.0)?;
        if let Some(age) = it.head_age_s {
            self.gauge("ledger_head_age", "Since the last block was made", Some(Unit::Seconds), age)?;
        }
        self.gauge("ledger_waiting_entries", "Entries that wait for a block", None, it.waiting_entries)?;
        let help = "How long the pack that waits for a block for longest has waited; 0 if none waits";
        self.gauge("ledger_final_lag", help, Some(Unit::Seconds), it.waiting_s)?;
        let validators = [("present", it.validators_present), ("missing", it.validators_missing)];
        let help = "Organisations that vote on blocks, by whether a node of theirs is connected";
        self.gauges("validators", help, None, "state", validators)?;
        self.gauge("validators_quorum", "Votes that make a block final", None, it.quorum)
    }

    fn audits(&mut self, metrics: &Metrics) -> fmt::Result {
        let it = &metrics.audits;
        let verdicts = [
            ("kept", it.kept),
            ("inconclusive", it.inconclusive),
            ("late", it.late),
            ("lacks", it.lacks),
            ("false", it.r#false),
            ("evades", it.evades),
            ("away", it.away),
        ];
        let help =
            "Audits of other nodes by what they showed: kept is passed, late and after are held against the node";
        self.counters("audits", help, None, "verdict", verdicts)?;
        let it = &metrics.holders;
        let trusts = [("sound", it.sound), ("suspect", it.suspect), ("condemned", it.condemned)];
        let help = "Nodes that were audited, by how they stand; what a condemned one holds counts as lost";
        self.gauges("audited_nodes", help, None, "trust", trusts)
    }

    fn gauge(&mut self, name: &str, help: &str, unit: Option<Unit>, value: impl EncodeGaugeValue) -> fmt::Result {
        self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?.encode_gauge(&value)
    }

    /// A family without members is not described either.
    fn gauges<V: Into<String>>(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        label: &'static str,
        values: impl IntoIterator<Item = (V, u64)>,
    ) -> fmt::Result {
        let mut values = values.into_iter().peekable();
        if values.peek().is_none() {
            return Ok(());
        }
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Gauge)?;
        for (value, gauge) in values {
            let value: String = value.into();
            metric.encode_family(&[(label, value)])?.encode_gauge(&gauge)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, unit: Option<Unit>, value: impl EncodeCounterValue) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        metric.encode_counter::<NoLabelSet, _, u64>(&value, None)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        unit: Option<Unit>,
        label: &'static str,
        values: impl IntoIterator<Item = (&'static str, u64)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, unit.as_ref(), MetricType::Counter)?;
        for (value, count) in values {
            metric.encode_family(&[(label, value)])?.encode_counter::<NoLabelSet, _, u64>(&count, None)?;
        }
        Ok(())
    }
}

/// Packs of ours and of all that stand so; at the ends those beyond too.
fn at_margin(margins: &[PacksAt], margin: i64) -> (u64, u64) {
    let stand = margins.iter().filter(|at| at.margin.clamp(MARGIN_MIN, MARGIN_MAX) == margin);
    stand.fold((0, 0), |(own, all), at| (own + at.own, all + at.all))
}

fn purposes(bytes: &ByPurpose) -> [(&'static str, u64); 5] {
    let ByPurpose { restore, read, repair, audit, place } = *bytes;
    [("restore", restore), ("read", read), ("repair", repair), ("audit", audit), ("place", place)]
}

#[cfg(test)]
mod tests;
