//! One file from one process to another.

use std::path::Path;

use anyhow::Result;

use super::contest::contest;
use super::table::{CPU_PER_GB, Due, LARGEST, MB_PER_S, RSS, Section, numbers};
use super::tool::libtorrent::{Encryption, Kind, Libtorrent};
use super::tool::{Tool, bithealth, copy, restic, rqbit, sendme, tahoe, tls};
use crate::PeersArgs;
use crate::corpus::Corpus;

const OURS: &str = "BitHealth get";
const FLOOR: &str = "TLS 1.3 floor";
const COPY: &str = "cp, no network";
/// Processor time, as many times the floor's.
const FLOORS: &str = "floors";

/// By tool, at least so many times its speed.
const AT_LEAST: &[(&str, f64)] = &[("rqbit, in clear", 1.0), ("libtorrent v2, RC4", 1.5), ("sendme", 2.5)];
/// Processor time, at most so many times the floor's.
const CPU_MOST: f64 = 1.4;
/// Memory, in MiB, at most.
const MEMORY_MOST: f64 = 64.0;

const NOTES: &[&str] = &[
    "From the start of the command until the file is on the disk, after everything dirty was written out; sources have the \
     file in the page cache where they use it. Processor time and memory are those of all processes, sender and receiver; \
     the largest is the one process that needs most.",
    "BitHealth's get also opens what came sealed: the others hand over what they have. The floor neither hashes nor \
     verifies anything but TLS's own tags. restic restores from a repository on the same disk.",
];

/// Runs all tools that are there.
pub(super) fn measure(args: &PeersArgs, folder: &Path) -> Result<Section> {
    let corpus = Corpus::large(folder, args.len)?;
    let torrent = |encryption| Libtorrent { python: args.python.clone(), kind: Kind::V2, encryption };
    let tools: [Box<dyn Tool>; 9] = [
        Box::new(tls::Floor),
        Box::new(bithealth::Get),
        Box::new(rqbit::Rqbit { program: args.rqbit.clone() }),
        Box::new(torrent(Encryption::None)),
        Box::new(torrent(Encryption::Rc4)),
        Box::new(sendme::Sendme { program: args.sendme.clone() }),
        Box::new(tahoe::Tahoe { program: args.tahoe.clone() }),
        Box::new(restic::Restic { program: args.restic.clone() }),
        Box::new(copy::Copy),
    ];
    let mut measured = contest(&tools, &corpus, folder, args.rounds, |cost| numbers(cost, args.len))?;
    let of = |tool: &str| measured.iter().find(|it| it.tool == tool).expect("it needs nothing installed").medians();
    let (floor, disk) = (of(FLOOR)[CPU_PER_GB], of(COPY)[MB_PER_S]);
    for round in measured.iter_mut().flat_map(|it| &mut it.rounds) {
        round.insert(FLOORS, round[CPU_PER_GB] / floor);
    }
    let mib = args.len as f64 / f64::from(1 << 20);
    let title =
        format!("one file of {mib:.0} MiB, one source, over loopback; medians of {} rounds, taking turns", args.rounds);
    let columns = [(MB_PER_S, 0), (CPU_PER_GB, 2), (FLOORS, 2), (RSS, 0), (LARGEST, 0)];
    let physical = ("what cp takes to copy the file on this disk, MB/s", |_: &_| disk);
    let mut section = Section::new("one-to-one", title, &columns, physical, measured);
    for (tool, least) in AT_LEAST {
        let ratio = section.ratio(MB_PER_S, OURS, tool);
        section.goal(format!("times the speed of {tool}"), ratio, Due::AtLeast(*least));
    }
    let (floors, memory) = (section.median(OURS, FLOORS), section.median(OURS, LARGEST));
    section.goal("times the processor time of the floor", floors, Due::AtMost(CPU_MOST));
    section.goal("MiB of memory in the largest process", memory, Due::AtMost(MEMORY_MOST));
    section.note(NOTES);
    Ok(section)
}
