//! Many small records from one process to another, into a folder.

use std::path::Path;

use anyhow::Result;

use super::contest::contest;
use super::table::{Due, LARGEST, Numbers, RSS, Section, numbers};
use super::tool::libtorrent::{Encryption, Kind, Libtorrent};
use super::tool::{Tool, bithealth, copy, restic, sendme};
use crate::PeersArgs;
use crate::corpus::Corpus;
use crate::process::Cost;

const OURS: [&str; 2] = ["BitHealth get", "BitHealth restore"];
const COPY: &str = "cp, no network";
const PER_S: &str = "records/s";
const CPU: &str = "CPU s";

/// Bytes of a record: FHIR documents of 1 to 20 KiB.
const RECORD_LEN: u64 = 10_450;
/// 10,000 a second where `cp` does 15,000.
const OF_COPY_LEAST: f64 = 10.0 / 15.0;

const NOTES: &[&str] = &[
    "From the start of the command until all files are on the disk (syncfs). BitHealth's get is by a reader of another \
     organisation that knows the records and has nothing of them; its restore begins with an empty folder and a kit, and \
     what it takes to set the node up, to fetch the ledger, to keep everything in its store and to write it out counts.",
    "cp and restic have no network between; restic restores from a repository on the same disk. Tahoe-LAFS is not asked: it \
     brings 15 to 30 such files a second.",
];

/// Runs all tools that are there.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let corpus = Corpus::documents(folder, args.records, args.records as u64 * RECORD_LEN)?;
    let tools: [Box<dyn Tool>; 6] = [
        Box::new(bithealth::Get),
        Box::new(bithealth::Restore),
        Box::new(Libtorrent { python: args.python.clone(), kind: Kind::V1, encryption: Encryption::None }),
        Box::new(sendme::Sendme { program: args.sendme.clone() }),
        Box::new(restic::Restic { program: args.restic.clone() }),
        Box::new(copy::Copy),
    ];
    let told = |cost: &Cost| {
        let mut told: Numbers = numbers(cost, corpus.len);
        told.extend([(PER_S, args.records as f64 / cost.wall_s), (CPU, cost.cpu_s)]);
        told
    };
    let measured = contest(&tools, &corpus, folder, args.rounds, told)?;
    let copied = measured.iter().find(|it| it.tool == COPY).expect("it needs nothing installed").medians()[PER_S];
    let title = format!(
        "{} FHIR documents, {:.0} MB in all, one source, over loopback; medians of {} rounds, taking turns",
        args.records,
        corpus.len as f64 / 1e6,
        args.rounds
    );
    let columns = [(PER_S, 0), (CPU, 2), (RSS, 0), (LARGEST, 0)];
    let physical = ("what cp takes to copy the folder on this disk, records/s", |_: &_| copied);
    let mut section = Section::new("small-records", title, &columns, physical, measured);
    for ours in OURS {
        let ratio = section.ratio(PER_S, ours, COPY);
        section.goal(format!("{ours}: times the speed of cp"), ratio, Due::AtLeast(OF_COPY_LEAST));
    }
    section.note(NOTES);
    Ok(section)
}
