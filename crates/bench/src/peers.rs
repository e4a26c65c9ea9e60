//! The exchange of BitHealth beside the tools people know, in turns on the same bytes: what brings files from one process
//! to others, over lines that are narrow, onto nodes of which some die, and what a lost node and a flood cost.

mod coded;
mod contest;
mod flood;
mod line;
mod one_to_eight;
mod one_to_one;
mod repair;
mod small_records;
mod table;
mod three_sources;
pub(crate) mod tool;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};
use clap::ValueEnum;

use crate::PeersArgs;
use table::Section;
use tool::tls;
use tool::{Tool, bithealth, copy, libtorrent, restic, rqbit, sendme, tahoe};

pub(crate) use table::Report;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    /// One file from one process to another
    OneToOne,
    /// Many small records
    SmallRecords,
    /// One file from three sources behind lines of 100 Mbit/s (needs root, ip and tc)
    ThreeSources,
    /// One file to eight that fetch it at once, behind such lines (the same)
    OneToEight,
    /// One file put onto seven nodes, and got back with four of them dead
    Coded,
    /// A lost node, and how fast the others rebuild what it held
    Repair,
    /// The memory of a node after a flood
    Flood,
}

impl Scenario {
    fn measure(self, args: &PeersArgs, folder: &Path) -> Result<Section> {
        match self {
            Self::OneToOne => one_to_one::measure(args, folder),
            Self::SmallRecords => small_records::measure(args, folder),
            Self::ThreeSources => three_sources::measure(args, folder),
            Self::OneToEight => one_to_eight::measure(args, folder),
            Self::Coded => coded::measure(args, folder),
            Self::Repair => repair::measure(args, folder),
            Self::Flood => Ok(flood::measure(args)),
        }
    }
}

/// Measures the scenarios asked for, or all, with the tools that are there.
pub(crate) fn compare(args: &PeersArgs) -> Result<Report> {
    let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let scenarios = if args.only.is_empty() { Scenario::value_variants() } else { &args.only };
    let mut sections = Vec::new();
    for scenario in scenarios {
        let folder = tempfile::Builder::new().prefix("bithealth-bench-").tempdir_in(&parent);
        let folder = folder.with_context(|| parent.display().to_string())?;
        let name = scenario.to_possible_value().expect("none is hidden");
        eprintln!("{}", name.get_name());
        let section = scenario.measure(args, folder.path());
        sections.push(section.with_context(|| name.get_name().to_owned())?);
    }
    Ok(Report::new(sections, found(args)))
}

/// Every tool, and as what it was found.
fn found(args: &PeersArgs) -> BTreeMap<&'static str, Option<String>> {
    BTreeMap::from([
        ("BitHealth", Some(bithealth::version())),
        ("rqbit", rqbit::Rqbit { program: args.rqbit.clone() }.version()),
        ("libtorrent", libtorrent::version(&args.python)),
        ("sendme", sendme::Sendme { program: args.sendme.clone() }.version()),
        ("Tahoe-LAFS", tahoe::Tahoe { program: args.tahoe.clone() }.version()),
        ("restic", restic::Restic { program: args.restic.clone() }.version()),
        ("cp", copy::Copy.version()),
        ("TLS 1.3 floor", tls::Floor.version()),
    ])
}
