//! `ls`: the records this node can read.

use bithealth_http::api::{ListFilter, RecordInfo};

use super::args::LsArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::show::{Show, ago, counted, len, now_ms, plain, print_line, state_words};
use crate::client::Client;

/// Characters of a patient shown here, from the end: the identifier follows its system. JSON has all of it.
const PATIENT_LEN: usize = 20;

/// Widths of the columns before the name; a list is printed as it comes, so they are fixed.
const HEAD: &str =
    "RECORD                            SIZE        PUT          STATE       PATIENT               FOLDER        NAME";

/// Runs `ls`.
pub(crate) async fn run(client: &Client, args: LsArgs, show: Show) -> Result<Exit, Failure> {
    let LsArgs { name, patient, folder, own, limit } = args;
    let filter = ListFilter { patient, category: folder, name, own, limit, after: None };
    let mut records = client.list(&filter).await?;
    let now_ms = now_ms();
    let mut count = 0;
    while let Some(record) = records.next().await? {
        if show.json {
            show.event(&record);
        } else {
            if count == 0 {
                print_line(HEAD);
            }
            print_line(&line(&record, now_ms));
        }
        count += 1;
    }
    show.note(counted(count, "record"));
    Ok(Exit::Done)
}

fn line(record: &RecordInfo, now_ms: u64) -> String {
    let owner = if record.own { String::new() } else { format!("  (of {})", plain(&record.organisation)) };
    let text = |text: &str| if text.is_empty() { "-".to_owned() } else { plain(text) };
    format!(
        "{}  {:<10}  {:<11}  {:<10}  {:<20}  {:<12}  {}{owner}",
        record.record,
        len(record.bytes),
        ago(record.time_ms, now_ms),
        state_words(record.state, record.height),
        end_of(&text(&record.patient)),
        text(&record.category),
        text(&record.name)
    )
}

/// The last [`PATIENT_LEN`] characters, marked where something is left out.
fn end_of(text: &str) -> String {
    let count = text.chars().count();
    match count.checked_sub(PATIENT_LEN) {
        None | Some(0) => text.to_owned(),
        Some(left_out) => std::iter::once('…').chain(text.chars().skip(left_out + 1)).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_http::api::RecordState;
    use bithealth_types::{ByteLen, NodeId, RecordId};

    #[test]
    fn a_long_patient_is_shown_by_its_end() {
        assert_eq!(end_of("12345678901234567890"), "12345678901234567890");
        assert_eq!(end_of("http://hospital.example/Patient|9000022"), "…ple/Patient|9000022");
    }

    #[test]
    fn a_record_is_one_line_under_its_heads() {
        let record = RecordInfo {
            record: RecordId([0xAB; 16]),
            name: "scan\u{1b}[2J.dcm".to_owned(),
            patient: String::new(),
            category: "imaging".to_owned(),
            media_type: "application/dicom".to_owned(),
            bytes: ByteLen(1536),
            time_ms: 0,
            organisation: "Süd".to_owned(),
            author: NodeId([1; 32]),
            state: RecordState::Replicated,
            height: None,
            own: false,
        };
        let line = line(&record, 180_000);
        for (head, cell) in
            [("SIZE", "1.5 KiB"), ("PUT", "3 min ago"), ("STATE", "replicated"), ("PATIENT", "- "), ("NAME", "scan")]
        {
            assert_eq!(line.find(cell), HEAD.find(head), "{head}\n{HEAD}\n{line}");
        }
        assert!(line.ends_with(".dcm  (of Süd)") && !line.contains('\u{1b}'), "{line}");
    }
}
