//! `put`: files and folders into the network.

mod feed;
mod walk;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use bithealth_http::api::{PutEvent, PutOptions, RecordState, Wait};
use futures::SinkExt;
use indicatif::ProgressBar;

use super::args::{PutArgs, WaitFor};
use super::exit::Exit;
use super::failure::Failure;
use super::progress;
use super::show::{Show, counted, len, plain, state_words};
use crate::client::{Client, ClientError, Lines};
use feed::{Beside, Common, Feed, Report, Source};

/// How long a put that was not told what to wait for takes to find out how safe its records are.
const TOLD_TIMEOUT_MS: u64 = 10_000;

/// Runs `put`.
pub(crate) async fn run(client: &Client, args: PutArgs, show: Show) -> Result<Exit, Failure> {
    let sources = sources(&args)?;
    let (mut sender, events) = client.put(&options(&args)).await?;
    let common = Common { patient: args.patient, category: args.folder, media_type: args.media_type };
    let (mut feed, beside) = Feed::start(sources, common);
    let send = async {
        while let Some(bytes) = feed.next().await {
            if sender.send(bytes).await.is_err() {
                break; // the node is gone: the events say why
            }
        }
        sender.close_channel();
        drop(feed);
    };
    let mut tally = Tally::new(show, beside.found.clone());
    let ((), watched) = tokio::join!(send, watch(events, beside, &mut tally));
    tally.bar.finish_and_clear();
    watched?;
    tally.end(args.wait)
}

fn sources(args: &PutArgs) -> Result<Vec<Source>, Failure> {
    let stdin = args.paths.iter().filter(|path| **path == Path::new("-")).count();
    match &args.name {
        Some(_) if stdin == 0 => {
            let failure = Failure::usage("--name names the record of the standard input, which is not put here");
            return Err(failure.next("records of files are named by their path; put - to read the standard input"));
        }
        None if stdin > 0 => {
            return Err(Failure::usage("the record of the standard input needs a name").next("pass --name NAME"));
        }
        _ if stdin > 1 => return Err(Failure::usage("the standard input can be read only once")),
        _ => {}
    }
    let source = |path: &std::path::PathBuf| match &args.name {
        Some(name) if path == Path::new("-") => Source::Stdin(name.clone()),
        _ => Source::Path(path.clone()),
    };
    Ok(args.paths.iter().map(source).collect())
}

fn options(args: &PutArgs) -> PutOptions {
    let wait = match args.wait {
        None => Wait::Told { timeout_ms: TOLD_TIMEOUT_MS },
        Some(WaitFor::Local) => Wait::Local,
        Some(WaitFor::Replicated) => Wait::Replicated { timeout_ms: args.timeout.as_millis() as u64 },
        Some(WaitFor::Final) => Wait::Final { timeout_ms: args.timeout.as_millis() as u64 },
    };
    PutOptions { for_: args.for_.clone(), survive: args.survive, keep_in: args.keep_in.clone(), wait }
}

/// Reads what the node says and what the reader of files says until both are silent.
async fn watch(mut events: Lines<PutEvent>, mut beside: Beside, tally: &mut Tally) -> Result<(), ClientError> {
    let mut reading = true;
    loop {
        tokio::select! {
            event = events.next() => match event? {
                Some(event) => tally.event(event),
                None => break,
            },
            report = beside.reports.recv(), if reading => match report {
                Some(report) => tally.report(report),
                None => reading = false,
            },
        }
    }
    while let Some(report) = beside.reports.recv().await {
        tally.report(report);
    }
    Ok(())
}

/// What came of a put so far.
struct Tally {
    show: Show,
    bar: ProgressBar,
    found: std::sync::Arc<std::sync::atomic::AtomicU64>,
    records: u64,
    bytes: u64,
    failed: u64,
    skipped: u64,
    /// How often each warning came.
    warnings: BTreeMap<String, u64>,
    done: Option<PutEvent>,
}

/// So many records are named with the same warning; the others are counted.
const WARNINGS_SHOWN: u64 = 3;

impl Tally {
    fn new(show: Show, found: std::sync::Arc<std::sync::atomic::AtomicU64>) -> Self {
        let bar = progress::records(show, Some(0));
        Self { show, bar, found, records: 0, bytes: 0, failed: 0, skipped: 0, warnings: BTreeMap::new(), done: None }
    }

    fn event(&mut self, event: PutEvent) {
        self.show.event(&event);
        match event {
            PutEvent::Record { name, bytes, warnings, .. } => {
                self.records += 1;
                self.bytes += bytes.0;
                for warning in warnings {
                    let count = self.warnings.entry(warning.clone()).or_default();
                    *count += 1;
                    if *count <= WARNINGS_SHOWN {
                        self.note(format!("{name}: put, but {warning}"));
                    }
                }
                if self.show.person {
                    self.bar.set_length(self.found.load(Ordering::Relaxed));
                    self.bar.set_position(self.records);
                    progress::bytes_done(&self.bar, self.bytes);
                }
            }
            PutEvent::Failed { name, error } => {
                self.failed += 1;
                self.note(format!("{name}: not put: {error}"));
            }
            PutEvent::Progress { packs_replicated, packs, .. } if packs > 0 => {
                self.bar.set_message(format!("{packs_replicated} of {packs} packs replicated"));
            }
            PutEvent::Progress { .. } => {}
            done @ PutEvent::Done { .. } => self.done = Some(done),
        }
    }

    fn report(&mut self, report: Report) {
        match report {
            Report::Failed { name, error } => self.event(PutEvent::Failed { name, error }),
            Report::Renamed { name } => {
                self.show.event(&serde_json::json!({ "event": "renamed", "name": name }));
                self.note(format!("{name}: put under this name, its own is not UTF-8"));
            }
            Report::Skipped { name, why } => {
                self.skipped += 1;
                self.show.event(&serde_json::json!({ "event": "skipped", "path": name, "why": why }));
                self.note(format!("{name}: skipped: {why}"));
            }
        }
    }

    /// A line that does not break the bar.
    fn note(&self, text: String) {
        self.bar.suspend(|| self.show.note(text));
    }

    fn end(self, wait: Option<WaitFor>) -> Result<Exit, Failure> {
        let Some(PutEvent::Done { records, unchanged, bytes, sealed_bytes, state, height, why_not, .. }) = self.done
        else {
            let failure = Failure::new("the node stopped before the put was done");
            return Err(failure.next("records it acknowledged are kept; put again: unchanged ones cost nothing"));
        };
        if !self.show.json {
            println!(
                "{} put, {} of them unchanged ({}, {} sealed): {}",
                counted(records, "record"),
                super::show::count(unchanged),
                len(bytes),
                len(sealed_bytes),
                state_words(state, height)
            );
            let lacks = if state == RecordState::Local { "replicated" } else { "final" };
            why_not.iter().for_each(|why| eprintln!("not {lacks} yet: {}", plain(why)));
            if !why_not.is_empty() && state == RecordState::Local {
                eprintln!(
                    "next: the node goes on trying; `bithealth status` shows it, --survive REGIONS,NODES asks for less"
                );
            }
        }
        for (warning, count) in self.warnings.iter().filter(|(_, count)| **count > WARNINGS_SHOWN) {
            self.show.note(format_args!("{} more: {warning}", counted(count - WARNINGS_SHOWN, "record")));
        }
        if self.failed > 0 {
            self.show.note(format_args!("{} could not be put", counted(self.failed, "file")));
        }
        Ok(match (self.failed, records) {
            (0, 1..) if wait == Some(WaitFor::Replicated) && state == RecordState::Local => Exit::LocalOnly,
            (0, 1..) if wait == Some(WaitFor::Final) && state != RecordState::Final => Exit::LocalOnly,
            (0, _) => Exit::Done,
            (_, 0) => Exit::Failed,
            _ => Exit::Partly,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_types::ByteLen;
    use clap::Parser;

    fn args(line: &str) -> PutArgs {
        let words = ["bithealth", "put"].into_iter().chain(line.split_whitespace());
        match super::super::args::Cli::try_parse_from(words).unwrap().command {
            super::super::args::Command::Put(args) => args,
            other => panic!("{other:?}"),
        }
    }

    fn tally(failed: u64, records: u64, state: RecordState) -> Tally {
        let mut tally = Tally::new(Show { json: true, person: false }, Default::default());
        tally.failed = failed;
        let (bytes, sealed_bytes) = (ByteLen(1), ByteLen(1));
        tally.done = Some(PutEvent::Done {
            records,
            unchanged: 0,
            failed: 0,
            bytes,
            sealed_bytes,
            state,
            height: None,
            why_not: vec![],
        });
        tally
    }

    #[test]
    fn the_exit_code_tells_how_much_went_in() {
        let end = |failed, records, state, wait| tally(failed, records, state).end(wait).unwrap();
        assert_eq!(end(0, 5, RecordState::Local, Some(WaitFor::Local)), Exit::Done);
        assert_eq!(end(0, 5, RecordState::Local, None), Exit::Done);
        assert_eq!(end(0, 5, RecordState::Replicated, Some(WaitFor::Replicated)), Exit::Done);
        assert_eq!(end(0, 5, RecordState::Local, Some(WaitFor::Replicated)), Exit::LocalOnly);
        assert_eq!(end(0, 5, RecordState::Replicated, Some(WaitFor::Final)), Exit::LocalOnly);
        assert_eq!(end(0, 5, RecordState::Final, Some(WaitFor::Final)), Exit::Done);
        assert_eq!(end(1, 5, RecordState::Replicated, Some(WaitFor::Replicated)), Exit::Partly);
        assert_eq!(end(1, 0, RecordState::Local, Some(WaitFor::Local)), Exit::Failed);
    }

    #[test]
    fn a_put_the_node_did_not_finish_is_a_failure() {
        let mut unfinished = tally(0, 5, RecordState::Local);
        unfinished.done = None;
        assert_eq!(unfinished.end(Some(WaitFor::Local)).unwrap_err().exit, Exit::Failed);
    }

    #[test]
    fn the_standard_input_needs_a_name_and_nothing_else_has_one() {
        assert!(matches!(&sources(&args("- --name x")).unwrap()[..], [Source::Stdin(name)] if name == "x"));
        assert!(matches!(&sources(&args("a b")).unwrap()[..], [Source::Path(_), Source::Path(_)]));
        for line in ["-", "a --name x", "- - --name x"] {
            assert_eq!(sources(&args(line)).unwrap_err().exit, Exit::Usage, "{line}");
        }
    }

    #[test]
    fn waiting_for_replication_has_a_time_limit() {
        assert_eq!(options(&args("a")).wait, Wait::Told { timeout_ms: TOLD_TIMEOUT_MS });
        assert_eq!(options(&args("a --wait local")).wait, Wait::Local);
        let wait = options(&args("a --wait replicated --timeout 5s")).wait;
        assert_eq!(wait, Wait::Replicated { timeout_ms: 5000 });
        assert_eq!(options(&args("a --wait final --timeout 5s")).wait, Wait::Final { timeout_ms: 5000 });
    }
}
