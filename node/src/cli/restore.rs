//! Follows a restore to its end.

use bithealth_http::api::RestoreEvent;
use bithealth_types::ByteLen;

use super::exit::Exit;
use super::failure::Failure;
use super::progress;
use super::show::{Show, count, counted, len};
use crate::client::Client;

/// Shows how the restore of the node goes on; returns when it is done.
pub(crate) async fn watch(client: &Client, show: Show) -> Result<Exit, Failure> {
    let mut events = client.restore().await?;
    let bar = progress::bytes(show, Some(0));
    let mut end = None;
    while let Some(event) = events.next().await? {
        show.event(&event);
        match event {
            RestoreEvent::Progress { phase, bytes, bytes_total, records, peers, .. } => {
                bar.set_length(bytes_total.0);
                bar.set_position(bytes.0);
                let (records, peers) = (counted(records, "record"), counted(peers, "peer"));
                bar.set_message(format!("{phase}: {records} back, {peers}"));
            }
            RestoreEvent::Failed { pack, records, reason } => {
                let holds = records.map_or_else(String::new, |records| format!(" ({})", counted(records, "record")));
                bar.suspend(|| show.note(format_args!("pack {pack}{holds}: not restored: {reason}")));
            }
            done @ RestoreEvent::Done { .. } => end = Some(done),
        }
    }
    bar.finish_and_clear();
    let Some(RestoreEvent::Done { records, bytes, packs, packs_failed }) = end else {
        let failure = Failure::new("the node stopped before everything was restored");
        return Err(failure.next("start it with `bithealth node`: it goes on where it stopped"));
    };
    if !show.json {
        println!("{}", words(records, bytes, packs, packs_failed));
    }
    Ok(exit(packs, packs_failed))
}

fn words(records: u64, bytes: ByteLen, packs: u64, packs_failed: u64) -> String {
    let back = format!("{} back ({} in {})", counted(records, "record"), len(bytes), counted(packs, "pack"));
    match packs_failed {
        0 => back,
        _ => format!("{back}; {} could not be restored yet: the node tries again while it runs", count(packs_failed)),
    }
}

fn exit(packs: u64, packs_failed: u64) -> Exit {
    match (packs_failed, packs) {
        (0, _) => Exit::Done,
        (_, 0) => Exit::Failed,
        _ => Exit::Partly,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_that_could_not_be_restored_show_in_words_and_code() {
        assert_eq!(
            [exit(3, 0), exit(0, 0), exit(3, 1), exit(0, 1)],
            [Exit::Done, Exit::Done, Exit::Partly, Exit::Failed]
        );
        assert_eq!(words(20_000, ByteLen(1 << 30), 64, 0), "20,000 records back (1.0 GiB in 64 packs)");
        assert!(words(1, ByteLen(1), 1, 2).contains("; 2 could not be restored yet"));
    }
}
