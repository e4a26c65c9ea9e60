//! The map of crates: who may use whom. A new edge is a decision that shows here.

use std::collections::{BTreeMap, BTreeSet};

use cargo_metadata::{DependencyKind, MetadataCommand};

/// A crate, and the crates of ours it may use. Crates that are not begun yet stand here already.
const MAP: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("proto", &["types"]),
    ("merkle", &["types"]),
    ("envelope", &["types"]),
    ("pack", &["types", "proto", "merkle", "envelope"]),
    ("fhir", &["types"]),
    ("ledger", &["types", "proto", "merkle"]),
    ("consensus", &["types", "proto", "ledger"]),
    ("placement", &["types"]),
    ("exchange", &["types", "proto", "merkle"]),
    ("grant", &["types", "proto", "envelope"]),
    ("store", &["types", "proto"]),
    ("net", &["types", "proto"]),
    ("http", &["types", "fhir"]),
    (
        "node",
        &[
            "types",
            "proto",
            "merkle",
            "envelope",
            "pack",
            "fhir",
            "ledger",
            "consensus",
            "placement",
            "exchange",
            "grant",
            "store",
            "net",
            "http",
        ],
    ),
];

/// May use everything.
const ABOVE: &[&str] = &["bench", "sim", "tests"];

/// What a core must not know: runtimes, networks, disks, loggers, metrics.
const SHELL_ONLY: &[&str] =
    &["tokio", "futures", "libp2p", "libp2p-stream", "sled", "axum", "hyper", "tracing", "prometheus-client"];
const CORES: &[&str] =
    &["types", "proto", "merkle", "envelope", "pack", "fhir", "ledger", "consensus", "placement", "exchange", "grant"];

fn short(package: &str) -> &str {
    match package {
        "bithealth" => "node",
        _ => package.strip_prefix("bithealth-").unwrap_or(package),
    }
}

/// Crates of ours and what each depends on, outside of tests.
fn edges() -> BTreeMap<String, BTreeSet<String>> {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace");
    let dependencies = |package: &cargo_metadata::Package| {
        package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind != DependencyKind::Development)
            .map(|dependency| short(&dependency.name).to_owned())
            .collect()
    };
    metadata.packages.iter().map(|package| (short(&package.name).to_owned(), dependencies(package))).collect()
}

#[test]
fn crates_use_only_what_the_map_allows() {
    let ours: BTreeSet<String> = edges().keys().cloned().collect();
    for (name, dependencies) in edges() {
        if ABOVE.contains(&name.as_str()) {
            continue;
        }
        let (_, allowed) =
            MAP.iter().find(|(on_map, _)| *on_map == name).unwrap_or_else(|| panic!("{name} is not on the map"));
        for dependency in dependencies.intersection(&ours) {
            assert!(allowed.contains(&dependency.as_str()), "{name} uses {dependency}, which the map does not allow");
        }
    }
}

#[test]
fn every_crate_on_the_map_is_there() {
    let ours = edges();
    for (name, _) in MAP {
        assert!(ours.contains_key(*name), "{name} is on the map and not in the workspace");
    }
}

#[test]
fn cores_know_no_runtime_network_disk_or_logger() {
    let ours = edges();
    for core in CORES {
        for dependency in &ours[*core] {
            assert!(!SHELL_ONLY.contains(&dependency.as_str()), "{core} is a core and uses {dependency}");
        }
    }
}

#[test]
fn one_swarm_and_one_transport_of_each_kind_are_in_the_tree() {
    let metadata = MetadataCommand::new().exec().expect("cargo metadata runs in the workspace");
    let mut versions: BTreeMap<&str, usize> = BTreeMap::new();
    metadata.packages.iter().for_each(|package| *versions.entry(package.name.as_str()).or_default() += 1);
    for one in ["libp2p", "libp2p-core", "libp2p-swarm", "libp2p-tcp", "libp2p-quic", "libp2p-gossipsub"] {
        assert_eq!(versions.get(one), Some(&1), "{one}: the engine of consensus brings libp2p-identity, and no more");
    }
}

#[test]
fn every_dependency_says_what_it_is_for() {
    let metadata = MetadataCommand::new().no_deps().exec().expect("cargo metadata runs in the workspace");
    for package in metadata.packages {
        let manifest = std::fs::read_to_string(&package.manifest_path).expect("a manifest can be read");
        let mut in_dependencies = false;
        for line in manifest.lines() {
            if line.starts_with('[') {
                in_dependencies = line.contains("dependencies");
            }
            let names_one = in_dependencies && line.contains('=') && !line.starts_with(['[', '#', ' ']);
            let ours = line.starts_with("bithealth");
            assert!(!names_one || ours || line.contains('#'), "{}: no comment says what for: {line}", package.name);
        }
    }
}
