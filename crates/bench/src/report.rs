//! What was measured, as a table or as JSON.

use serde::Serialize;

use crate::corpus::Corpus;
use crate::sample::{Round, median};

/// What the numbers do not say.
const NOTES: &[&str] = &[
    "All caches are warm: the page cache cannot be dropped without rights over the whole machine, so sources are read from \
     memory by both tools. Dirty pages are written out before each step. restic's repository is read from memory too; \
     BitHealth's packs pass by the page cache where the kernel can do that, so its get reads the disk.",
    "A put of BitHealth ends when it is durable on this node; memory is the sum of the command's and the node's peaks.",
];

/// What BitHealth's median may be at most.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
enum Limit {
    /// So many times restic's.
    Times(f64),
    /// So much, whatever restic takes.
    AtMost(f64),
}

/// By corpus and metric; the first that fits counts, and what none fits may be no more than restic's. Content that does
/// not compress may take 3 % more on disk: catalogs, checksums, and packs rounded to a Padme length.
const LIMITS: &[(&str, &str, Limit)] = &[
    ("large", "put time", Limit::Times(1.0 / 3.0)),
    ("large", "put processor", Limit::AtMost(4.0 * 1.073_741_824)), // 4 CPU seconds a GB, and the file has 1 GiB
    ("large", "disk", Limit::Times(1.03)),
    ("", "put time", Limit::Times(0.5)),
    ("", "get time", Limit::Times(0.5)),
    ("", "put memory", Limit::AtMost(300.0)),
    ("", "get memory", Limit::AtMost(300.0)),
];

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
    limit: Limit,
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

fn limit(corpus: &str, metric: &str) -> Limit {
    let applies = |(of_corpus, of_metric): (&str, &str)| {
        (of_corpus.is_empty() || of_corpus == corpus) && (of_metric.is_empty() || of_metric == metric)
    };
    let found = LIMITS.iter().find(|(of_corpus, of_metric, _)| applies((of_corpus, of_metric)));
    found.map_or(Limit::Times(1.0), |(_, _, limit)| *limit)
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
        match self.limit {
            Limit::Times(times) => self.ratio <= times,
            Limit::AtMost(most) => self.bithealth <= most,
        }
    }

    fn line(&self) -> String {
        let Self { metric, unit, restic, bithealth, ratio, limit } = self;
        let missed = if self.holds() { "" } else { "  missed" };
        let limit = match limit {
            Limit::Times(times) => format!("{times:.2}x"),
            Limit::AtMost(most) => format!("{most:.1}"),
        };
        format!("{metric:<16}{unit:>5}{restic:>12.2}{bithealth:>12.2}{ratio:>8.2}{limit:>8}{missed}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::Cost;

    fn round(wall_s: f64, disk_bytes: u64) -> Round {
        let cost = Cost { wall_s, cpu_s: 1.0, rss_bytes: 1 << 20, largest_rss_bytes: 1 << 20 };
        Round { put: cost, get: cost, cpu_s: 2.0, disk_bytes }
    }

    #[test]
    fn medians_are_compared_with_the_limit_of_their_metric() {
        let restic = [round(2.0, 100 << 20), round(9.0, 100 << 20), round(4.0, 100 << 20)];
        let bithealth = [round(2.0, 101 << 20), round(2.0, 101 << 20), round(8.0, 101 << 20)];
        let rows = rows("large", &restic, &bithealth);
        let put = Row {
            metric: "put time",
            unit: "s",
            restic: 4.0,
            bithealth: 2.0,
            ratio: 0.5,
            limit: Limit::Times(1.0 / 3.0),
        };
        assert_eq!(rows[0], put);
        let missed: Vec<&str> = rows.iter().filter(|row| !row.holds()).map(|row| row.metric).collect();
        assert_eq!(missed, ["put time"]);
        assert_eq!(rows[0].line(), "put time            s        4.00        2.00    0.50   0.33x  missed");
        let disk = &super::rows("documents", &restic, &bithealth)[7];
        assert!(!disk.holds(), "only the large file may grow");
    }

    #[test]
    fn a_tool_that_did_nothing_holds_no_limit() {
        assert!(!rows("large", &[round(1.0, 1)], &[]).is_empty());
        let times = |row: &&Row| matches!(row.limit, Limit::Times(_));
        let rows = rows("large", &[], &[round(1.0, 1)]);
        assert!(!rows.iter().filter(times).any(Row::holds), "nothing to compare with");
    }
}
