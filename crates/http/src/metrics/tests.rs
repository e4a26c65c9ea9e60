use bithealth_types::{ByteLen, MemberId};
use nom_openmetrics::parser::openmetrics;
use nom_openmetrics::{Family, MetricDescriptor, MetricType};

use super::*;
use crate::api::{BalanceOf, RepairInfo};

/// The families of a page, as a parser that others wrote reads them.
fn read(page: &str) -> Vec<Family<'_>> {
    let (rest, families) = openmetrics(page).unwrap_or_else(|error| panic!("{error}\n{page}"));
    assert_eq!(rest, "");
    families
}

/// The value of the one sample with this name and these labels.
fn value(page: &str, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let families = read(page);
    let samples = families.iter().flat_map(|family| &family.samples);
    let has = |sample: &&nom_openmetrics::Sample<'_>| {
        let given: Vec<(&str, &str)> = sample.labels().iter().map(|it| (it.name, it.value.as_str())).collect();
        sample.name() == name && given == labels
    };
    let found: Vec<f64> = samples.filter(has).map(nom_openmetrics::Sample::number).collect();
    assert!(found.len() <= 1, "{name} {labels:?} is there {} times", found.len());
    found.first().copied()
}

/// Something in every family.
fn full() -> Metrics {
    let mut metrics = Metrics { version: "1.2.3", ..Metrics::default() };
    metrics.process.resident = Some(ByteLen(5));
    metrics.ledger.head_age_s = Some(7);
    metrics.balances = vec![BalanceOf { member: MemberId([0xab; 32]), given: ByteLen(3), used: ByteLen(4) }];
    metrics
}

fn with_margins(margins: &[(i64, u64, u64)]) -> String {
    let margins = margins.iter().map(|&(margin, own, all)| PacksAt { margin, own, all }).collect();
    encode(Metrics { repair: RepairInfo { margins, ..RepairInfo::default() }, ..Metrics::default() })
}

#[test]
fn every_family_says_its_type_and_help_and_counters_and_units_end_as_the_format_wants() {
    let page = encode(full());
    assert!(page.ends_with("# EOF\n"));
    let families = read(&page);
    assert_eq!(families.len(), 35);
    for Family { descriptors, samples } in families {
        let name = descriptors[0].metric();
        assert!(descriptors.iter().all(|it| it.metric() == name), "{name}");
        let help = descriptors.iter().find_map(|it| match it {
            MetricDescriptor::Help { help, .. } => Some(help.len()),
            _ => None,
        });
        assert!(help > Some(5), "{name} has no help");
        if let Some(MetricDescriptor::Unit { unit, .. }) =
            descriptors.iter().find(|it| matches!(it, MetricDescriptor::Unit { .. }))
        {
            assert!(name.ends_with(unit), "{name} is in {unit}");
        }
        let is = |kind| descriptors.contains(&MetricDescriptor::r#type(name, kind));
        let due = match () {
            () if is(MetricType::Counter) => format!("{name}_total"),
            () if is(MetricType::Info) => format!("{name}_info"),
            () => name.to_owned(),
        };
        assert!(samples.iter().all(|sample| sample.name() == due), "{due}");
        assert!(name.starts_with("bithealth_") || name.starts_with("process_"), "{name}");
    }
}

#[test]
fn packs_are_counted_by_margin_and_owner_and_those_beyond_the_ends_with_the_ends() {
    let page = with_margins(&[(-3, 0, 2), (-1, 1, 1), (2, 3, 10), (8, 1, 1), (40, 0, 5)]);
    let packs = |margin, owner| value(&page, "bithealth_packs", &[("margin", margin), ("owner", owner)]);
    assert_eq!((packs("-1", "own"), packs("-1", "others")), (Some(1.0), Some(2.0)));
    assert_eq!((packs("2", "own"), packs("2", "others")), (Some(3.0), Some(7.0)));
    assert_eq!((packs("8", "own"), packs("8", "others")), (Some(1.0), Some(5.0)));
    assert_eq!(packs("0", "own"), Some(0.0), "a series that is empty is there all the same");
    assert_eq!((packs("9", "own"), packs("-2", "own")), (None, None));
}

#[test]
fn what_is_not_known_is_left_out_and_nothing_to_do_takes_no_time() {
    let missing = |missing_shards, done_in_s| RepairInfo { missing_shards, done_in_s, ..RepairInfo::default() };
    let left = |repair| {
        let page = encode(Metrics { repair, ..Metrics::default() });
        value(&page, "bithealth_repair_remaining_seconds", &[])
    };
    assert_eq!(left(missing(0, None)), Some(0.0));
    assert_eq!(left(missing(2, None)), None);
    assert_eq!(left(missing(2, Some(9))), Some(9.0));
    let page = encode(Metrics::default());
    assert_eq!(value(&page, "bithealth_ledger_head_age_seconds", &[]), None);
    assert_eq!(value(&page, "process_resident_memory_bytes", &[]), None);
}

#[test]
fn the_organisations_that_move_most_are_named_up_to_a_bound() {
    let balance = |number: u16| BalanceOf {
        member: MemberId([number.to_be_bytes(); 16].concat().try_into().unwrap()),
        given: ByteLen(number.into()),
        used: ByteLen(1),
    };
    let named = |count: u16| {
        let page = encode(Metrics { balances: (0..count).map(balance).collect(), ..Metrics::default() });
        let families = read(&page);
        let of = |name: &str| families.iter().flat_map(|it| &it.samples).filter(|it| it.name() == name).count();
        assert_eq!(of("bithealth_member_given_bytes"), of("bithealth_member_used_bytes"));
        (
            of("bithealth_member_given_bytes"),
            value(&page, "bithealth_member_given_bytes", &[("member", &"0".repeat(64))]),
        )
    };
    assert_eq!(named(MEMBERS_MAX as u16), (MEMBERS_MAX, Some(0.0)));
    assert_eq!(named(MEMBERS_MAX as u16 + 1), (MEMBERS_MAX, None), "the smallest is not named");
}

#[test]
fn what_deploy_names_is_exported() {
    let page = encode(full());
    let families = read(&page);
    let exported: Vec<&str> = families.iter().flat_map(|it| &it.samples).map(nom_openmetrics::Sample::name).collect();
    let mut named = 0;
    for text in [include_str!("../../../../deploy/alerts.yml"), include_str!("../../../../README.md")] {
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        for word in words.filter(|word| word.starts_with("bithealth_")) {
            assert!(exported.contains(&word), "{word} is not exported");
            named += 1;
        }
    }
    assert!(named > 5, "alerts name metrics");
}
