//! Many records in one stream, written by a few threads.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use bithealth_http::FrameError;
use bithealth_http::api::ExportFilter;
use bithealth_proto::v1::{PutFrame, put_frame};
use bithealth_proto::{DecodeError, decode_frame};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::mpsc;

use super::names::Names;
use super::target::Target;
use crate::cli::exit::Exit;
use crate::cli::failure::Failure;
use crate::cli::progress;
use crate::cli::show::{Show, counted, len};
use crate::client::{Client, ClientError, ExportAnswer};
use bithealth_types::ByteLen;

/// Threads that write: making a small file is system calls, not bandwidth.
const WRITER_COUNT: usize = 4;

/// Records given to the writers ahead.
const RECORDS_AHEAD: usize = 64;

/// Parts of one record under way: begin and end of a small one, so that the next can be given out.
const PARTS_AHEAD: usize = 16; // at most 1 MiB each: with the records ahead 204 MiB, if all are large

/// Writes the records that fit into `folder`.
pub(crate) async fn get_many(
    client: &Client,
    filter: &ExportFilter,
    folder: &Path,
    show: Show,
) -> Result<Exit, Failure> {
    std::fs::create_dir_all(folder).map_err(|error| Failure::file(folder, error))?;
    let answer = client.get_all(filter).await?;
    let (records, bytes) = (answer.records, answer.bytes);
    let bar = progress::bytes(show, Some(bytes));
    let (writers, mut failures) = Writers::start(folder);
    let written = Arc::clone(&writers.written);
    let split = async {
        let result = split(answer, writers, |bytes| bar.inc(bytes)).await;
        bar.finish_and_clear();
        result
    };
    let print = async {
        let mut count = 0_u64;
        while let Some(WriteFailure { name, error }) = failures.recv().await {
            count += 1;
            show.event(&json!({ "event": "failed", "name": name, "error": error }));
            bar.suspend(|| show.note(format_args!("{name}: not written: {error}")));
        }
        count
    };
    let (result, failed) = tokio::join!(split, print);
    let bytes = ByteLen(result?);
    let written = written.load(Ordering::Relaxed);
    let missing = records.saturating_sub(written + failed);
    let done = json!({ "event": "done", "records": written, "failed": failed, "missing": missing, "bytes": bytes });
    show.answer(&done, |_| format!("{} in {} ({})", counted(written, "record"), folder.display(), len(bytes)));
    if failed + missing > 0 {
        show.note(format_args!("{} could not be written", counted(failed + missing, "record")));
    }
    Ok(match (failed + missing, written) {
        (0, _) => Exit::Done,
        (_, 0) => Exit::Failed,
        _ => Exit::Partly,
    })
}

/// Why an export cannot be taken further.
#[derive(Debug, thiserror::Error)]
enum ExportError {
    #[error(transparent)]
    Frames(#[from] FrameError<ClientError>),
    #[error("the export holds what is no frame: {0}")]
    Decode(#[from] DecodeError),
    #[error("the export ends inside record {0:?}")]
    Cut(String),
    #[error("the export holds a part of no record")]
    Stray,
}

impl From<ExportError> for Failure {
    fn from(error: ExportError) -> Self {
        match error {
            ExportError::Frames(FrameError::Source(error)) => error.into(),
            other => Self::new(other).next("get them again; whole files are already in their places"),
        }
    }
}

/// Gives the records of an export to the writers, in order, and waits for them. Returns how many bytes came.
async fn split(mut answer: ExportAnswer, writers: Writers, came: impl Fn(u64)) -> Result<u64, ExportError> {
    let mut names = Names::default();
    let mut bytes_done = 0;
    let mut current: Option<(String, mpsc::Sender<Part>)> = None;
    while let Some(frame) = answer.frames.next().await? {
        match (decode_frame::<PutFrame>(frame)?.frame, current.take()) {
            (Some(put_frame::Frame::Begin(begin)), None) => {
                let (parts, taken) = mpsc::channel(PARTS_AHEAD);
                let path = names.give(&begin.name);
                writers.give(Job { name: begin.name.clone(), path, parts: taken }).await;
                current = Some((begin.name, parts));
            }
            (Some(put_frame::Frame::Data(bytes)), Some(record)) => {
                bytes_done += bytes.len() as u64;
                came(bytes.len() as u64);
                let _ = record.1.send(Part::Data(bytes)).await; // a writer that failed said so
                current = Some(record);
            }
            (Some(put_frame::Frame::End(_)), Some((_, parts))) => {
                let _ = parts.send(Part::End).await; // a writer that failed said so
            }
            (Some(put_frame::Frame::Abort(abort)), Some((_, parts))) => {
                let _ = parts.send(Part::Abort(abort.reason)).await; // a writer that failed said so
            }
            (_, Some((name, _))) => return Err(ExportError::Cut(name)),
            (_, None) => return Err(ExportError::Stray),
        }
    }
    match current {
        Some((name, _)) => Err(ExportError::Cut(name)),
        None => Ok(bytes_done),
    }
}

enum Part {
    Data(Bytes),
    End,
    /// The node could not read it to its end.
    Abort(String),
}

struct Job {
    name: String,
    path: String,
    parts: mpsc::Receiver<Part>,
}

#[derive(Debug)]
struct WriteFailure {
    name: String,
    error: String,
}

/// Threads that write what they are given; joined when dropped, so that no half file stays.
struct Writers {
    jobs: Option<mpsc::Sender<Job>>,
    threads: Vec<JoinHandle<()>>,
    /// Records in their places.
    written: Arc<AtomicU64>,
}

impl Writers {
    fn start(folder: &Path) -> (Self, mpsc::UnboundedReceiver<WriteFailure>) {
        let (jobs, receiver) = mpsc::channel(RECORDS_AHEAD);
        let receiver = Arc::new(Mutex::new(receiver));
        let (failures, failed) = mpsc::unbounded_channel(); // at most one a record; a writer must never wait here, see drop
        let written = Arc::new(AtomicU64::new(0));
        let folders = Arc::new(Mutex::new(HashSet::new()));
        let start = |_| {
            let (jobs, failures, written) = (Arc::clone(&receiver), failures.clone(), Arc::clone(&written));
            let folders = Folders { root: folder.to_owned(), made: Arc::clone(&folders) };
            thread::spawn(move || write_jobs(&jobs, &folders, &failures, &written))
        };
        let threads = (0..WRITER_COUNT).map(start).collect();
        (Self { jobs: Some(jobs), threads, written }, failed)
    }

    async fn give(&self, job: Job) {
        let jobs = self.jobs.as_ref().expect("taken only when dropped");
        let _ = jobs.send(job).await; // the writers live as long as this
    }
}

impl Drop for Writers {
    /// Waits for what was given out. That is soon: writers wait for nothing but parts, whose senders are gone by now.
    fn drop(&mut self) {
        self.jobs = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join(); // its panic was printed
        }
    }
}

fn write_jobs(
    jobs: &Mutex<mpsc::Receiver<Job>>,
    folders: &Folders,
    failures: &mpsc::UnboundedSender<WriteFailure>,
    written: &AtomicU64,
) {
    loop {
        let job = jobs.lock().expect("no writer panics while it holds the lock").blocking_recv();
        let Some(Job { name, path, parts }) = job else { return };
        match write_one(folders, &path, parts) {
            Ok(()) => {
                written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let _ = failures.send(WriteFailure { name, error: error.to_string() }); // nobody prints any more
            }
        }
    }
}

fn write_one(folders: &Folders, path: &str, mut parts: mpsc::Receiver<Part>) -> std::io::Result<()> {
    let mut target = Target::new(&folders.place(path)?)?;
    loop {
        match parts.blocking_recv() {
            Some(Part::Data(bytes)) => target.write(&bytes)?,
            Some(Part::End) => return target.finish(),
            Some(Part::Abort(reason)) => return Err(std::io::Error::other(reason)),
            None => return Err(std::io::Error::other("the export broke off")),
        }
    }
}

/// Makes each folder once.
struct Folders {
    root: PathBuf,
    made: Arc<Mutex<HashSet<PathBuf>>>,
}

impl Folders {
    /// The place of `path`, whose folder exists when this returns.
    fn place(&self, path: &str) -> std::io::Result<PathBuf> {
        let place = self.root.join(path);
        let folder = place.parent().unwrap_or(&self.root);
        let known = |made: &Mutex<HashSet<PathBuf>>| made.lock().expect("no writer panics here").contains(folder);
        if !known(&self.made) {
            std::fs::create_dir_all(folder)?;
            self.made.lock().expect("no writer panics here").insert(folder.to_owned());
        }
        Ok(place)
    }
}

#[cfg(test)]
mod tests;
