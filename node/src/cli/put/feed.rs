//! Reads files ahead on a few threads and hands them on as frames, in order.
//!
//! One thread walks and cuts what it finds into batches. Each batch has a slot, a small channel; slots are queued in order, and
//! the readers fill several at once. Whoever takes the bytes empties one slot after the other.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc as std_mpsc};
use std::thread;

use bithealth_proto::v1::{PutAbort, PutEnd, PutFrame, PutRecord, put_frame};
use bytes::{BufMut, Bytes, BytesMut};
use prost::Message;
use tokio::sync::mpsc;

use super::walk::{Step, text, walk};

/// Threads that read. Small files cost system calls, not bandwidth: more than the cores, so that one waits while another reads.
const READER_COUNT: usize = 4;

/// Files of a batch.
const BATCH_LEN: usize = 64;

/// Batches read ahead of the one that is sent: at most 3 MiB each, so 24 MiB.
const BATCHES_AHEAD: usize = 8;

/// Buffers of a slot.
const SLOT_LEN: usize = 2;

/// Frames are gathered up to this length before they are sent.
const WRITE_LEN: usize = 256 << 10;

/// Bytes of one data frame: what `PutFrame` allows.
const DATA_LEN: usize = 1 << 20;

/// Reports under way to whoever prints them.
const REPORT_COUNT: usize = 64;

/// What is put.
#[derive(Debug)]
pub(crate) enum Source {
    /// A file, or everything in a folder.
    Path(PathBuf),
    /// The standard input, as one record of this name.
    Stdin(String),
}

/// What all records of a put have in common.
#[derive(Clone, Debug)]
pub(crate) struct Common {
    /// Empty: none. `auto`: from the document.
    pub(crate) patient: String,
    /// Empty: from the media type.
    pub(crate) category: String,
    /// Empty: recognised.
    pub(crate) media_type: String,
}

/// Something that is not sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Report {
    /// Could not be read.
    Failed {
        /// The record's name, or the path of what has none.
        name: String,
        /// What happened.
        error: String,
    },
    /// Sent under another name, since its own is no text.
    Renamed {
        /// The record's name.
        name: String,
    },
    /// Is no record.
    Skipped {
        /// Its path.
        name: String,
        /// In words.
        why: &'static str,
    },
}

/// Frames, as they are read.
pub(crate) struct Feed {
    slots: mpsc::Receiver<mpsc::Receiver<Bytes>>,
    current: Option<mpsc::Receiver<Bytes>>,
}

/// The other outputs of a feed.
pub(crate) struct Beside {
    /// What is not sent. Must be read, or reading stops.
    pub(crate) reports: mpsc::Receiver<Report>,
    /// Files found so far.
    pub(crate) found: Arc<AtomicU64>,
}

struct Item {
    name: String,
    /// The standard input if `None`.
    path: Option<PathBuf>,
}

struct Batch {
    items: Vec<Item>,
    slot: mpsc::Sender<Bytes>,
}

/// Whoever took the bytes is gone.
struct Gone;

impl Feed {
    /// Starts to walk and to read. The threads end with the sources, or when the feed is dropped.
    pub(crate) fn start(sources: Vec<Source>, common: Common) -> (Self, Beside) {
        let (slot_sender, slots) = mpsc::channel(BATCHES_AHEAD);
        let (batch_sender, batches) = std_mpsc::sync_channel(BATCHES_AHEAD);
        let (report_sender, reports) = mpsc::channel(REPORT_COUNT);
        let batches = Arc::new(Mutex::new(batches));
        for _ in 0..READER_COUNT {
            let (batches, reports, common) = (Arc::clone(&batches), report_sender.clone(), common.clone());
            thread::spawn(move || read_batches(&batches, &reports, &common));
        }
        let found = Arc::new(AtomicU64::new(0));
        let planner =
            Planner { found: Arc::clone(&found), reports: report_sender, slots: slot_sender, batches: batch_sender };
        thread::spawn(move || {
            let _: Result<(), Gone> = planner.run(sources); // gone: nobody wants the rest
        });
        (Self { slots, current: None }, Beside { reports, found })
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        loop {
            if let Some(slot) = &mut self.current
                && let Some(bytes) = slot.recv().await
            {
                return Some(bytes);
            }
            self.current = Some(self.slots.recv().await?);
        }
    }
}

/// Walks the sources and cuts what it finds into batches.
struct Planner {
    found: Arc<AtomicU64>,
    reports: mpsc::Sender<Report>,
    slots: mpsc::Sender<mpsc::Receiver<Bytes>>,
    batches: std_mpsc::SyncSender<Batch>,
}

impl Planner {
    fn run(&self, sources: Vec<Source>) -> Result<(), Gone> {
        let mut items = Vec::with_capacity(BATCH_LEN);
        for source in sources {
            match source {
                Source::Stdin(name) => self.add(&mut items, Item { name, path: None })?,
                Source::Path(root) => {
                    for step in walk(&root) {
                        match step {
                            Step::File { path, name } => {
                                if path.to_str().is_none() {
                                    self.report(Report::Renamed { name: name.clone() })?;
                                }
                                self.add(&mut items, Item { name, path: Some(path) })?;
                            }
                            Step::Skipped { path, why } => {
                                self.report(Report::Skipped { name: text(path.as_os_str()), why })?;
                            }
                            Step::Failed { path, error } => {
                                self.report(Report::Failed { name: text(path.as_os_str()), error: error.to_string() })?;
                            }
                        }
                    }
                }
            }
        }
        self.send(items)
    }

    fn add(&self, items: &mut Vec<Item>, item: Item) -> Result<(), Gone> {
        self.found.fetch_add(1, Ordering::Relaxed);
        items.push(item);
        if items.len() == BATCH_LEN { self.send(std::mem::take(items)) } else { Ok(()) }
    }

    fn send(&self, items: Vec<Item>) -> Result<(), Gone> {
        let (slot, taken) = mpsc::channel(SLOT_LEN);
        self.slots.blocking_send(taken).map_err(|_| Gone)?; // first in the order, then read
        self.batches.send(Batch { items, slot }).map_err(|_| Gone)
    }

    fn report(&self, report: Report) -> Result<(), Gone> {
        self.reports.blocking_send(report).map_err(|_| Gone)
    }
}

fn read_batches(batches: &Mutex<std_mpsc::Receiver<Batch>>, reports: &mpsc::Sender<Report>, common: &Common) {
    loop {
        let batch = batches.lock().expect("no reader panics while it holds the lock").recv();
        let Ok(Batch { items, slot }) = batch else { return };
        let mut reader = Reader { buffer: BytesMut::new(), slot, reports, common };
        let read = items.into_iter().try_for_each(|item| reader.read(item));
        if read.and_then(|()| reader.flush()).is_err() {
            return;
        }
    }
}

/// Turns the files of one batch into frames.
struct Reader<'a> {
    buffer: BytesMut,
    slot: mpsc::Sender<Bytes>,
    reports: &'a mpsc::Sender<Report>,
    common: &'a Common,
}

impl Reader<'_> {
    fn read(&mut self, Item { name, path }: Item) -> Result<(), Gone> {
        match path {
            None => self.read_from(name, 0, io::stdin().lock()),
            Some(path) => match File::open(&path) {
                Ok(file) => {
                    let len = file.metadata().map_or(0, |metadata| metadata.len());
                    self.read_from(name, len, file)
                }
                Err(error) => self.failed(name, &error),
            },
        }
    }

    /// A record is begun once its first bytes were read: one that cannot be read at all is never sent.
    fn read_from(&mut self, name: String, len: u64, mut source: impl Read) -> Result<(), Gone> {
        let mut piece = match read_piece(&mut source, len) {
            Ok(piece) => piece,
            Err(error) => return self.failed(name, &error),
        };
        let Common { patient, category, media_type } = self.common.clone();
        self.frame(put_frame::Frame::Begin(PutRecord { name, patient, category, media_type }))?;
        loop {
            let full = piece.len() == DATA_LEN;
            if !piece.is_empty() {
                self.data(piece)?;
            }
            if !full {
                return self.frame(put_frame::Frame::End(PutEnd {}));
            }
            piece = match read_piece(&mut source, DATA_LEN as u64) {
                Ok(piece) => piece,
                // The node names it as failed.
                Err(error) => return self.frame(put_frame::Frame::Abort(PutAbort { reason: error.to_string() })),
            };
        }
    }

    fn failed(&self, name: String, error: &io::Error) -> Result<(), Gone> {
        self.reports.blocking_send(Report::Failed { name, error: error.to_string() }).map_err(|_| Gone)
    }

    fn frame(&mut self, frame: put_frame::Frame) -> Result<(), Gone> {
        let frame = PutFrame { frame: Some(frame) };
        self.buffer.put_u32(frame.encoded_len() as u32);
        frame.encode(&mut self.buffer).expect("a BytesMut takes every frame");
        if self.buffer.len() < WRITE_LEN { Ok(()) } else { self.flush() }
    }

    /// A data frame. A large one is not copied: its head is written by hand, then come its bytes as they are.
    fn data(&mut self, piece: Vec<u8>) -> Result<(), Gone> {
        let bytes = Bytes::from(piece);
        if bytes.len() < WRITE_LEN {
            return self.frame(put_frame::Frame::Data(bytes));
        }
        let head_len = 1 + prost::length_delimiter_len(bytes.len());
        self.buffer.put_u32((head_len + bytes.len()) as u32);
        self.buffer.put_u8(2 << 3 | 2); // field 2, length-delimited
        prost::encode_length_delimiter(bytes.len(), &mut self.buffer).expect("a BytesMut takes every length");
        self.flush()?;
        self.slot.blocking_send(bytes).map_err(|_| Gone)
    }

    fn flush(&mut self) -> Result<(), Gone> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.slot.blocking_send(self.buffer.split().freeze()).map_err(|_| Gone)
    }
}

/// The next [`DATA_LEN`] bytes; fewer at the end. `len` is what is expected to come.
fn read_piece(source: &mut impl Read, len: u64) -> io::Result<Vec<u8>> {
    let mut piece = Vec::with_capacity(len.min(DATA_LEN as u64) as usize + 1); // one more: the end is seen without growing
    source.take(DATA_LEN as u64).read_to_end(&mut piece)?;
    Ok(piece)
}

#[cfg(test)]
mod tests;
