//! What was measured, as tables or as JSON: one for each scenario, with the goals that BitHealth has there.

use std::collections::BTreeMap;
use std::fmt::Write;

use serde::Serialize;

use crate::process::Cost;
use crate::sample::median;

/// What a row shows beside the physical limit of its first column, and as a part of it.
const LIMIT: &str = "limit";
const OF_LIMIT: &str = "of limit";

/// Numbers by the column they stand in.
pub(super) type Numbers = BTreeMap<&'static str, f64>;

/// A tool, and what each of its rounds came to.
#[derive(Debug, Serialize)]
pub(super) struct Measured {
    pub(super) tool: &'static str,
    pub(super) version: String,
    pub(super) rounds: Vec<Numbers>,
}

/// A column: its heading, and how many digits after the point it has.
pub(super) type Column = (&'static str, usize);

/// Everything measured in one run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    sections: Vec<Section>,
    /// Tools, and as what they were found; none: not installed.
    tools: BTreeMap<&'static str, Option<String>>,
}

/// One scenario.
#[derive(Debug, Serialize)]
pub(super) struct Section {
    scenario: &'static str,
    title: String,
    #[serde(skip)]
    columns: Vec<Column>,
    /// What stands in the column of the limit.
    physical: &'static str,
    rows: Vec<Row>,
    goals: Vec<Goal>,
    notes: &'static [&'static str],
}

/// Medians of a tool.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(flatten)]
    measured: Measured,
    medians: Numbers,
}

/// What BitHealth must reach, and what it does.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Goal {
    what: String,
    got: f64,
    due: Due,
    holds: bool,
}

/// How a figure is judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Due {
    AtLeast(f64),
    AtMost(f64),
}

impl Goal {
    pub(super) fn new(what: impl Into<String>, got: f64, due: Due) -> Self {
        let holds = match due {
            Due::AtLeast(least) => got >= least,
            Due::AtMost(most) => got <= most,
        };
        Self { what: what.into(), got, due, holds }
    }
}

impl Measured {
    pub(super) fn new(tool: &'static str, version: String) -> Self {
        Self { tool, version, rounds: Vec::new() }
    }

    /// By column.
    pub(super) fn medians(&self) -> Numbers {
        let columns = self.rounds.iter().flat_map(BTreeMap::keys).copied().collect::<std::collections::BTreeSet<_>>();
        let middle = |column| median(self.rounds.iter().filter_map(|round| round.get(column)).copied().collect());
        columns.into_iter().map(|column| (column, middle(column))).collect()
    }
}

impl Section {
    /// The first of the columns is what the physical limit bounds; the limit is given for each row.
    pub(super) fn new(
        scenario: &'static str,
        title: String,
        columns: &[Column],
        (physical, limit): (&'static str, impl Fn(&Measured) -> f64),
        measured: Vec<Measured>,
    ) -> Self {
        let (first, digits) = columns[0];
        let row = |measured: Measured| {
            let mut medians = measured.medians();
            let limit = limit(&measured);
            if let Some(got) = medians.get(first).copied() {
                medians.insert(OF_LIMIT, got / limit);
            }
            medians.insert(LIMIT, limit);
            Row { measured, medians }
        };
        let beside = [columns[0], (LIMIT, digits), (OF_LIMIT, 2)];
        let columns = beside.into_iter().chain(columns[1..].iter().copied()).collect();
        let rows = measured.into_iter().map(row).collect();
        Self { scenario, title, columns, physical, rows, goals: Vec::new(), notes: &[] }
    }

    /// A median of a tool, if it was measured.
    pub(super) fn median(&self, tool: &str, column: &str) -> Option<f64> {
        self.rows.iter().find(|row| row.measured.tool == tool)?.medians.get(column).copied()
    }

    /// How often one tool's median has another one's, if both were measured.
    pub(super) fn ratio(&self, column: &str, tool: &str, to: &str) -> Option<f64> {
        Some(self.median(tool, column)? / self.median(to, column)?)
    }

    /// A goal, where what it compares was measured.
    pub(super) fn goal(&mut self, what: impl Into<String>, got: Option<f64>, due: Due) {
        self.goals.extend(got.map(|got| Goal::new(what, got, due)));
    }

    /// What the numbers do not say.
    pub(super) fn note(&mut self, notes: &'static [&'static str]) {
        self.notes = notes;
    }

    fn text(&self) -> String {
        let mut text = format!("{}: {}\n\n{:<28}", self.scenario, self.title, "");
        let width = |heading: &str| heading.len().max(6) + 3;
        self.columns.iter().for_each(|(heading, _)| text += &format!("{heading:>width$}", width = width(heading)));
        for row in &self.rows {
            let _ = write!(text, "\n{:<28}", row.measured.tool); // a string takes everything
            for (heading, digits) in &self.columns {
                let width = width(heading);
                match row.medians.get(heading) {
                    Some(number) => text += &format!("{number:>width$.digits$}"),
                    None => text += &format!("{:>width$}", "-"),
                }
            }
        }
        text += "\n\n";
        self.goals.iter().for_each(|goal| text += &goal.text());
        text += &format!("{LIMIT}: {}\n", self.physical);
        self.notes.iter().for_each(|note| text += &format!("{note}\n"));
        text
    }
}

impl Goal {
    fn text(&self) -> String {
        let due = match self.due {
            Due::AtLeast(least) => format!("at least {least:.2}"),
            Due::AtMost(most) => format!("at most {most:.2}"),
        };
        let held = if self.holds { "" } else { "  missed" };
        format!("{}: {:.2}, {due} is due{held}\n", self.what, self.got)
    }
}

impl Report {
    pub(super) fn new(sections: Vec<Section>, tools: BTreeMap<&'static str, Option<String>>) -> Self {
        Self { sections, tools }
    }

    /// Whether BitHealth reaches what it must.
    pub(crate) fn holds(&self) -> bool {
        self.sections.iter().flat_map(|section| &section.goals).all(|goal| goal.holds)
    }

    pub(crate) fn print(&self, json: bool) {
        if json {
            println!("{}", serde_json::to_string(self).expect("numbers and texts"));
            return;
        }
        self.sections.iter().for_each(|section| println!("{}", section.text()));
        for (tool, version) in &self.tools {
            println!("{tool}: {}", version.as_deref().unwrap_or("not installed"));
        }
    }
}

/// What a cost is in columns that all scenarios have, for so many bytes brought somewhere.
pub(super) fn numbers(cost: &Cost, bytes: u64) -> Numbers {
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    Numbers::from([
        (MB_PER_S, bytes as f64 / 1e6 / cost.wall_s),
        (CPU_PER_GB, cost.cpu_s / (bytes as f64 / 1e9)),
        (RSS, mib(cost.rss_bytes)),
        (LARGEST, mib(cost.largest_rss_bytes)),
    ])
}

pub(super) const MB_PER_S: &str = "MB/s";
pub(super) const CPU_PER_GB: &str = "CPU s/GB";
pub(super) const RSS: &str = "RSS MiB";
pub(super) const LARGEST: &str = "largest";

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(tool: &'static str, rates: &[f64]) -> Measured {
        let rounds = rates.iter().map(|rate| Numbers::from([(MB_PER_S, *rate)])).collect();
        Measured { tool, version: "1".into(), rounds }
    }

    fn section() -> Section {
        let all = vec![measured("ours", &[40.0, 20.0, 90.0]), measured("theirs", &[80.0])];
        Section::new("a", "b".into(), &[(MB_PER_S, 0)], ("a line", |_| 100.0), all)
    }

    #[test]
    fn medians_are_compared_with_the_physical_limit_and_with_the_others() {
        let section = section();
        assert_eq!(section.median("ours", MB_PER_S), Some(40.0));
        assert_eq!(section.median("ours", OF_LIMIT), Some(0.4));
        assert_eq!(section.ratio(MB_PER_S, "ours", "theirs"), Some(0.5));
        assert_eq!(section.ratio(MB_PER_S, "ours", "absent"), None);
        let text = section.text();
        let ours = text.lines().find(|line| line.starts_with("ours")).unwrap_or_default();
        assert_eq!(ours.split_whitespace().collect::<Vec<_>>(), ["ours", "40", "100", "0.40"], "{text}");
    }

    #[test]
    fn a_goal_is_missed_on_its_own_side_and_is_none_where_nothing_was_measured() {
        let mut section = section();
        section.goal("times theirs", section.ratio(MB_PER_S, "ours", "theirs"), Due::AtLeast(0.5));
        section.goal("times theirs", section.ratio(MB_PER_S, "ours", "theirs"), Due::AtMost(0.5));
        section.goal("times theirs", section.ratio(MB_PER_S, "ours", "absent"), Due::AtLeast(2.0));
        assert_eq!(section.goals.len(), 2);
        assert!(section.goals.iter().all(|goal| goal.holds));
        assert!(!Goal::new("", 0.4, Due::AtLeast(0.5)).holds && !Goal::new("", 0.6, Due::AtMost(0.5)).holds);
        let mut report = Report::new(vec![section], BTreeMap::new());
        assert!(report.holds());
        report.sections[0].goal("more", Some(1.0), Due::AtMost(0.5));
        assert!(!report.holds());
    }

    #[test]
    fn a_cost_is_told_for_a_gigabyte_and_a_second() {
        let cost = Cost { wall_s: 4.0, cpu_s: 3.0, rss_bytes: 2 << 20, largest_rss_bytes: 1 << 20 };
        let due = [(MB_PER_S, 500.0), (CPU_PER_GB, 1.5), (RSS, 2.0), (LARGEST, 1.0)];
        assert_eq!(numbers(&cost, 2_000_000_000), Numbers::from(due));
    }
}
