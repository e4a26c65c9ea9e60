//! `verify`: has the node check what it holds.

use bithealth_http::api::{VerifyEvent, VerifyOptions};

use super::args::VerifyArgs;
use super::exit::Exit;
use super::failure::Failure;
use super::progress;
use super::show::{Show, count, counted, len};
use crate::client::Client;

/// Runs `verify`.
pub(crate) async fn run(client: &Client, args: VerifyArgs, show: Show) -> Result<Exit, Failure> {
    let mut events = client.verify(VerifyOptions { full: args.full }).await?;
    let bar = progress::bytes(show, Some(0));
    let mut end = None;
    while let Some(event) = events.next().await? {
        show.event(&event);
        match event {
            VerifyEvent::Progress { bytes, bytes_total } => {
                bar.set_length(bytes_total.0);
                bar.set_position(bytes.0);
            }
            VerifyEvent::Damaged { item, fault, repaired } => {
                let then = if repaired { "repaired from peers" } else { "NOT repaired" };
                bar.suspend(|| show.note(format_args!("{item}: {fault}: {then}")));
            }
            done @ VerifyEvent::Done { .. } => end = Some(done),
        }
    }
    bar.finish_and_clear();
    let end =
        end.ok_or_else(|| Failure::new("the node stopped before it had checked everything").next("verify again"))?;
    if !show.json {
        println!("{}", words(&end));
    }
    Ok(exit(&end))
}

fn words(end: &VerifyEvent) -> String {
    let VerifyEvent::Done { items, bytes, entries, blocks, damaged, repaired } = end else { return String::new() };
    let checked = format!(
        "checked {} ({}), {} log entries, {}",
        counted(*items, "item"),
        len(*bytes),
        count(*entries),
        counted(*blocks, "block")
    );
    match damaged {
        0 => format!("{checked}: all as it should be"),
        _ => format!("{checked}: {} damaged, {} of them repaired", count(*damaged), count(*repaired)),
    }
}

/// What was repaired is well again; what was not is damage.
fn exit(end: &VerifyEvent) -> Exit {
    match end {
        VerifyEvent::Done { damaged, repaired, .. } if damaged > repaired => Exit::Failed,
        _ => Exit::Done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_types::ByteLen;

    #[test]
    fn unrepaired_damage_fails_and_repaired_damage_is_told() {
        let done = |damaged, repaired| VerifyEvent::Done {
            items: 3,
            bytes: ByteLen(1 << 20),
            entries: 1000,
            blocks: 1,
            damaged,
            repaired,
        };
        assert_eq!([exit(&done(0, 0)), exit(&done(2, 2)), exit(&done(2, 1))], [Exit::Done, Exit::Done, Exit::Failed]);
        assert_eq!(words(&done(0, 0)), "checked 3 items (1.0 MiB), 1,000 log entries, 1 block: all as it should be");
        assert!(words(&done(2, 1)).ends_with("2 damaged, 1 of them repaired"));
    }
}
