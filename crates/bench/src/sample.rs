//! Rounds of both tools, taking turns, and their medians.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::corpus::Corpus;
use crate::process::Cost;
use crate::report::{Comparison, Report};
use crate::{ResticArgs, bithealth_side, restic};

/// What one tool needed for one corpus, once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub(crate) struct Round {
    pub(crate) put: Cost,
    pub(crate) get: Cost,
    /// Processor time of all processes from the first to the last, work in the background included.
    pub(crate) cpu_s: f64,
    pub(crate) disk_bytes: u64,
}

/// A corpus of more files than this is kept until the last round.
const KEPT_COUNT_MIN: usize = 100;

/// Runs both tools over both corpora.
pub(crate) fn compare(args: &ResticArgs) -> Result<Report> {
    let versions = [restic::version(&args.restic)?, bithealth_side::version(&args.bithealth)?];
    let parent = args.folder.clone().unwrap_or_else(std::env::temp_dir);
    let folder = tempfile::Builder::new().prefix("bithealth-bench-").tempdir_in(&parent);
    let folder = folder.with_context(|| parent.display().to_string())?;
    let corpora = [
        Corpus::large(folder.path(), args.large_len)?,
        Corpus::documents(folder.path(), args.documents, args.documents_len)?,
    ];
    let mut comparisons = Vec::new();
    for corpus in &corpora {
        eprintln!("{}: {} files, {} bytes", corpus.name, corpus.file_count(), corpus.len);
        comparisons.push(rounds(args, corpus, folder.path())?);
    }
    Ok(Report::new(versions, args.rounds, comparisons))
}

fn rounds(args: &ResticArgs, corpus: &Corpus, folder: &Path) -> Result<Comparison> {
    let (mut of_restic, mut of_bithealth) = (Vec::new(), Vec::new());
    // ext4 looks past inodes freed in the last seconds, one by one: whoever makes files after a large folder was removed
    // pays for that several times over. So folders of many files stay until all rounds are done.
    let mut kept = Vec::new();
    for index in 0..args.rounds {
        // Who goes first changes, so that neither always finds the disk as the other left it.
        let order = if index % 2 == 0 { [true, false] } else { [false, true] };
        for is_restic in order {
            let fresh = tempfile::tempdir_in(folder)?;
            if is_restic {
                of_restic.push(restic::round(&args.restic, corpus, fresh.path())?);
            } else {
                of_bithealth.push(bithealth_side::round(&args.bithealth, corpus, fresh.path())?);
            }
            if corpus.file_count() > KEPT_COUNT_MIN {
                kept.push(fresh);
            }
        }
        eprintln!("{}: round {} of {}", corpus.name, index + 1, args.rounds);
    }
    Ok(Comparison::new(corpus, of_restic, of_bithealth))
}

/// The middle one of some numbers, of an even count the lower of the two. 0 for none.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len().saturating_sub(1) / 2).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), 2.0);
        assert_eq!(median(vec![5.0]), 5.0);
        assert_eq!(median(vec![]), 0.0);
    }
}
