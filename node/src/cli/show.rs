//! What people and programs see.

use std::io::{IsTerminal, Write};
use std::time::{SystemTime, UNIX_EPOCH};

use bithealth_http::api::RecordState;
use bithealth_types::{ByteLen, Height};
use serde::Serialize;
use serde_json::json;

use super::failure::Failure;

/// Where the output goes, and for whom it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Show {
    /// JSON lines instead of words.
    pub(crate) json: bool,
    /// A person looks at the standard error.
    pub(crate) person: bool,
}

impl Show {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, person: !json && std::io::stderr().is_terminal() }
    }

    /// An answer: one line of JSON, or the words.
    pub(crate) fn answer<T: Serialize>(&self, value: &T, words: impl FnOnce(&T) -> String) {
        if self.json {
            print_line(&serde_json::to_string(value).expect("texts and numbers become JSON"));
        } else {
            print_line(words(value).trim_end_matches('\n'));
        }
    }

    /// An event of a long work, for programs only.
    pub(crate) fn event<T: Serialize>(&self, event: &T) {
        if self.json {
            print_line(&serde_json::to_string(event).expect("texts and numbers become JSON"));
        }
    }

    /// Something worth knowing that is no failure, for people only.
    pub(crate) fn note(&self, text: impl std::fmt::Display) {
        if !self.json {
            eprintln!("{}", plain(&text.to_string()));
        }
    }

    /// Why the command failed, and what to do.
    pub(crate) fn failure(&self, failure: &Failure) {
        if self.json {
            eprintln!("{}", json!({ "error": failure.what, "next_step": failure.next, "exit": failure.exit as u8 }));
            return;
        }
        eprintln!("error: {}", plain(&failure.what));
        if let Some(next) = &failure.next {
            eprintln!("next: {}", plain(next));
        }
    }
}

/// Prints a line; a reader that closed its end (`| head`) is no failure.
pub(crate) fn print_line(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Names come from other organisations: control characters would steer the terminal.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' { '\u{FFFD}' } else { c }).collect()
}

/// `20,000`
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// `1 record`, `20,000 records`
pub(crate) fn counted(number: u64, noun: &str) -> String {
    format!("{} {noun}{}", count(number), if number == 1 { "" } else { "s" })
}

/// `1 entry`, `20,000 entries`
pub(crate) fn counted_as(number: u64, one: &str, many: &str) -> String {
    format!("{} {}", count(number), if number == 1 { one } else { many })
}

/// `1.2 GiB`
pub(crate) fn len(len: ByteLen) -> String {
    len.to_string()
}

/// `replicated`, `final(17)`
pub(crate) fn state_words(state: RecordState, height: Option<Height>) -> String {
    match height {
        Some(height) if state == RecordState::Final => format!("final({height})"),
        _ => state.to_string(),
    }
}

/// `3 min ago`
pub(crate) fn ago(time_ms: u64, now_ms: u64) -> String {
    match now_ms.checked_sub(time_ms) {
        None => "just now".to_owned(), // the other clock is ahead of ours
        Some(age_ms) => format!("{} ago", span(age_ms / 1000)),
    }
}

/// `3 min`
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// Milliseconds since 1970.
pub(crate) fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Columns under their heads, as wide as they need to be.
pub(crate) fn table(heads: &[&str], rows: &[Vec<String>]) -> String {
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let heads: Vec<String> = heads.iter().map(|head| (*head).to_owned()).collect();
    let lines = || std::iter::once(&heads).chain(&rows);
    let width = |column: usize| lines().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..heads.len()).map(|column| width(column).unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines() {
        let cells: Vec<String> = line.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([count(0), count(999), count(1000), count(1_234_567)], ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([counted(1, "record"), counted(20_000, "record")], ["1 record", "20,000 records"]);
    }

    #[test]
    fn what_is_final_says_since_which_height() {
        assert_eq!(state_words(RecordState::Final, Some(Height(17))), "final(17)");
        assert_eq!(state_words(RecordState::Replicated, None), "replicated");
    }

    #[test]
    fn ages_are_told_as_people_do() {
        assert_eq!(ago(10_000, 10_000), "0 s ago");
        assert_eq!(ago(0, 180_000), "3 min ago");
        assert_eq!(ago(0, 7_200_000), "2 h ago");
        assert_eq!(ago(0, 259_200_000), "3 days ago");
        assert_eq!(ago(5, 4), "just now");
    }

    #[test]
    fn columns_align_and_lines_have_no_trailing_spaces() {
        let rows = [vec!["a".to_owned(), "Müller".to_owned()], vec!["longer".to_owned(), String::new()]];
        assert_eq!(table(&["ID", "NAME"], &rows), "ID      NAME\na       Müller\nlonger\n");
    }

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[2Jb\rc"), "a\u{FFFD}[2Jb\u{FFFD}c");
    }
}
