//! `ledger checkpoint`, `cosigned`, `witnesses`: heads that go out to witnesses, and what comes back.

use std::path::Path;

use bithealth_http::api::{COSIGNED_LEN_MAX, CheckpointInfo, CheckpointOf, CosignedBy, WitnessInfo};
use bithealth_ledger::VerifierKey;
use bithealth_types::Height;
use serde_json::json;

use super::exit::Exit;
use super::failure::Failure;
use super::show::{Show, ago, count, now_ms, print_line, table};
use crate::client::Client;

/// Writes the checkpoint of the node's tip.
pub(crate) async fn checkpoint(client: &Client, output: &Path, since: Height, show: Show) -> Result<Exit, Failure> {
    let info = client.checkpoint(CheckpointOf { since }).await?;
    std::fs::write(output, &info.text).map_err(|error| Failure::file(output, error))?;
    let CheckpointInfo { origin, height, key, .. } = info;
    show.answer(&json!({ "path": output, "origin": origin, "height": height, "key": key }), |_| {
        format!("{}: height {} of {origin}, signed with\n{key}", output.display(), count(height.0))
    });
    show.note("a witness cosigns it with `bithealth ledger cosign`, and knows this node by that key (--log)");
    Ok(Exit::Done)
}

/// Hands a cosigned checkpoint to the node.
pub(crate) async fn hand_over(
    client: &Client,
    checkpoint: &Path,
    witness: &VerifierKey,
    show: Show,
) -> Result<Exit, Failure> {
    let note = read_short(checkpoint, COSIGNED_LEN_MAX, "checkpoint")
        .map_err(|failure| failure.next("pass the file that `bithealth ledger cosign` wrote"))?;
    let kept = client.cosigned(&CosignedBy { witness: witness.to_string() }, note.into()).await?;
    show.answer(&kept, |kept| format!("kept: {}", words(kept, now_ms())));
    Ok(Exit::Done)
}

/// Shows who cosigned.
pub(crate) async fn witnesses(client: &Client, show: Show) -> Result<Exit, Failure> {
    let witnesses = client.witnesses().await?;
    if show.json {
        witnesses.iter().for_each(|witness| show.event(witness));
    } else if witnesses.is_empty() {
        print_line("nobody cosigned the history yet; `bithealth ledger checkpoint` writes what a witness cosigns");
    } else {
        let row =
            |it: &WitnessInfo| vec![it.name.clone(), count(it.height.0), ago(it.time_ms, now_ms()), it.key.clone()];
        let rows: Vec<_> = witnesses.iter().map(row).collect();
        print_line(table(&["WITNESS", "HEIGHT", "COSIGNED", "KEY"], &rows).trim_end());
    }
    Ok(Exit::Done)
}

/// `witness.example.org cosigned height 12, 3 min ago`
pub(crate) fn words(witness: &WitnessInfo, now_ms: u64) -> String {
    format!("{} cosigned height {}, {}", witness.name, count(witness.height.0), ago(witness.time_ms, now_ms))
}

/// A file of at most `len_max` bytes, which should be this.
pub(crate) fn read_short(path: &Path, len_max: usize, what: &str) -> Result<Vec<u8>, Failure> {
    let file = |error| Failure::file(path, error);
    let mut bytes = Vec::new();
    let opened = std::fs::File::open(path).map_err(file)?;
    let mut some = std::io::Read::take(opened, len_max as u64 + 1);
    std::io::Read::read_to_end(&mut some, &mut bytes).map_err(file)?;
    if bytes.len() > len_max {
        return Err(Failure::new(format_args!("{} has more than {len_max} bytes: it is no {what}", path.display())));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_read_up_to_its_bound_and_not_past_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("note");
        std::fs::write(&path, [b'x'; 10]).unwrap();
        assert_eq!(read_short(&path, 10, "checkpoint").unwrap().len(), 10);
        assert!(
            read_short(&path, 9, "checkpoint").unwrap_err().what.contains("more than 9 bytes: it is no checkpoint")
        );
        assert!(read_short(&folder.path().join("absent"), 9, "checkpoint").unwrap_err().what.contains("absent"));
    }
}
