//! What was measured, as a table or as JSON.

use serde::Serialize;

use crate::corpus::Corpus;
use crate::sample::{Round, median};

/// What the numbers do not say.
const NOTES: &[&str] = &[
    "All caches are warm: the page cache cannot be dropped without rights over the whole machine, so sources are read from \
     memory by both tools. Dirty pages are written out before each step.",
    "A put of BitHealth ends when it is durable on this node; memory is the sum of the command's and the node's peaks.",
];

/// How many times restic's median BitHealth's may be, by what is measured: no slower, no hungrier, no larger. Content that
/// does not compress may take 2 % more on disk, for catalogs and checksums.
const LIMITS: &[(&str, &str, f64)] = &[("large", "disk", 1.02), ("", "", 1.0)];

/// What is compared: its name, its unit, where it is in a round.
type Metric = (&'static str, &'static str, fn(&Round) -> f64);

const METRICS: &[Metric] = &[
    ("put time", "s", |round| round.put.wall_s),
    ("put processor", "s", |round| round.put.cpu_s),
    ("put memory", "MiB", |round| mib(round.put.rss_bytes)),
    ("get time", "s", |round| round.get.wall_s),
    ("get processor", "s", |round| round.get.cpu_s),
    ("get memory", "MiB", |round| mib(round.get.rss_bytes)),
    ("all processor", "s", |round| round.cpu_s),
    ("disk", "MiB", |round| mib(round.disk_bytes)),
];

/// Everything measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    restic: String,
    bithealth: String,
    rounds: u32,
    notes: &'static [&'static str],
    corpora: Vec<Comparison>,
}

/// Both tools over one corpus.
#[derive(Debug, Serialize)]
pub(crate) struct Comparison {
    corpus: &'static str,
    files: usize,
    bytes: u64,
    rows: Vec<Row>,
    restic_rounds: Vec<Round>,
    bithealth_rounds: Vec<Round>,
}

/// One line of the table: medians, their ratio, and what it may be at most.
#[derive(Debug, PartialEq, Serialize)]
struct Row {
    metric: &'static str,
    unit: &'static str,
    restic: f64,
    bithealth: f64,
    ratio: f64,
    limit: f64,
}

impl Comparison {
    pub(crate) fn new(corpus: &Corpus, restic_rounds: Vec<Round>, bithealth_rounds: Vec<Round>) -> Self {
        let rows = rows(corpus.name, &restic_rounds, &bithealth_rounds);
        let (files, bytes) = (corpus.file_count(), corpus.len);
        Self { corpus: corpus.name, files, bytes, rows, restic_rounds, bithealth_rounds }
    }
}

fn rows(corpus: &str, of_restic: &[Round], of_bithealth: &[Round]) -> Vec<Row> {
    let row = |(metric, unit, of): &Metric| {
        let middle = |rounds: &[Round]| median(rounds.iter().map(of).collect());
        let (restic, bithealth) = (middle(of_restic), middle(of_bithealth));
        Row { metric, unit, restic, bithealth, ratio: bithealth / restic, limit: limit(corpus, metric) }
    };
    METRICS.iter().map(row).collect()
}

fn limit(corpus: &str, metric: &str) -> f64 {
    let applies = |(of_corpus, of_metric): (&str, &str)| {
        (of_corpus.is_empty() || of_corpus == corpus) && (of_metric.is_empty() || of_metric == metric)
    };
    LIMITS.iter().find(|(of_corpus, of_metric, _)| applies((of_corpus, of_metric))).map_or(1.0, |(_, _, limit)| *limit)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / (1024.0 * 1024.0)
}

impl Report {
    pub(crate) fn new([restic, bithealth]: [String; 2], rounds: u32, corpora: Vec<Comparison>) -> Self {
        Self { restic, bithealth, rounds, notes: NOTES, corpora }
    }

    /// Whether every ratio is within its limit.
    pub(crate) fn holds(&self) -> bool {
        self.corpora.iter().flat_map(|comparison| &comparison.rows).all(Row::holds)
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("numbers and texts"));
            return;
        }
        println!("{} and {}, medians of {} rounds, taking turns", self.restic, self.bithealth, self.rounds);
        for comparison in &self.corpora {
            println!("\n{}: {} files, {:.1} MiB", comparison.corpus, comparison.files, mib(comparison.bytes));
            println!("{:<16}{:>5}{:>12}{:>12}{:>8}{:>8}", "", "", "restic", "bithealth", "ratio", "limit");
            comparison.rows.iter().for_each(|row| println!("{}", row.line()));
        }
        println!();
        self.notes.iter().for_each(|note| println!("{note}"));
    }
}

impl Row {
    fn holds(&self) -> bool {
        self.ratio <= self.limit
    }

    fn line(&self) -> String {
        let Self { metric, unit, restic, bithealth, ratio, limit } = self;
        let missed = if self.holds() { "" } else { "  missed" };
        format!("{metric:<16}{unit:>5}{restic:>12.2}{bithealth:>12.2}{ratio:>8.2}{limit:>8.2}{missed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cost;

    fn round(wall_s: f64, disk_bytes: u64) -> Round {
        let cost = Cost { wall_s, cpu_s: 1.0, rss_bytes: 1 << 20 };
        Round { put: cost, get: cost, cpu_s: 2.0, disk_bytes }
    }

    #[test]
    fn medians_are_compared_with_the_limit_of_their_metric() {
        let restic = [round(2.0, 100 << 20), round(9.0, 100 << 20), round(4.0, 100 << 20)];
        let bithealth = [round(2.0, 101 << 20), round(2.0, 101 << 20), round(8.0, 101 << 20)];
        let rows = rows("large", &restic, &bithealth);
        let put = Row { metric: "put time", unit: "s", restic: 4.0, bithealth: 2.0, ratio: 0.5, limit: 1.0 };
        assert_eq!(rows[0], put);
        assert!(rows.iter().all(Row::holds));
        assert!(!super::rows("documents", &restic, &bithealth).iter().all(Row::holds), "only the large file may grow");
        assert_eq!(rows[0].line(), "put time            s        4.00        2.00    0.50    1.00");
    }

    #[test]
    fn a_tool_that_did_nothing_holds_no_limit() {
        assert!(!rows("large", &[round(1.0, 1)], &[]).is_empty());
        assert!(!rows("large", &[], &[round(1.0, 1)]).iter().any(Row::holds), "nothing to compare with");
    }
}
