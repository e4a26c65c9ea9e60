//! The reader of a put: cuts frames into documents and chunks and hands them to workers, in order.

use std::sync::Arc;

use bithealth_fhir::Form;
use bithealth_http::api::PutEvent;
use bithealth_http::{ByteStream, Frames};
use bithealth_merkle::leaf_hash;
use bithealth_pack::{Compress, Draft};
use bithealth_proto::v1::{self, put_frame::Frame};
use bithealth_types::{CHUNK_LEN, ChunkIndex};
use bytes::{Bytes, BytesMut};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::Lane;
use super::again::{Kept, Same};
use super::seal::{Document, Step, describe, form, seal_documents};
use crate::node::Node;
use crate::replicate::blocking;

/// Plaintext in one sealing job: enough to make the passage between threads cheap.
const JOB_LEN: usize = 1 << 20;
/// Documents in one sealing job.
const JOB_DOCUMENTS_MAX: usize = 256;
/// A document up to this length is kept until its end to find its patient; of a longer one the patient must be named.
const DOCUMENT_READ_MAX: usize = 48 << 20;

type Steps = mpsc::Sender<JoinHandle<Vec<Step>>>;

/// Reads a put to its end.
pub(super) async fn read(node: Arc<Node>, lane: Lane, body: ByteStream, steps: Steps, events: mpsc::Sender<PutEvent>) {
    let mut frames = Frames::new(body);
    let mut reader =
        Reader { node, lane: Arc::new(lane), steps, documents: Vec::new(), documents_len: 0, arriving: None };
    let end = loop {
        let frame = match frames.next().await {
            Ok(Some(frame)) => bithealth_proto::decode_frame::<v1::PutFrame>(frame),
            Ok(None) => break Ok(()),
            Err(error) => break Err(error.to_string()),
        };
        let taken = match frame {
            Ok(v1::PutFrame { frame: Some(frame) }) => reader.take(frame).await,
            Ok(_) => Err("a frame of a kind this version does not know".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        if let Err(error) = taken {
            break Err(error);
        }
    };
    reader.flush().await;
    let cut = reader.arriving.take().map(|arriving| arriving.wanted.name);
    match (cut, end) {
        (None, Ok(())) => {}
        (Some(name), end) => {
            let error = end.err().unwrap_or_else(|| "its bytes ended before it was complete".to_owned());
            reader.send(vec![Step::Failed { name, error }]).await;
        }
        (None, Err(error)) => {
            let _ = events.send(PutEvent::Failed { name: "(the put itself)".into(), error }).await;
        }
    }
}

struct Reader {
    node: Arc<Node>,
    lane: Arc<Lane>,
    steps: Steps,
    documents: Vec<Document>,
    documents_len: usize,
    arriving: Option<Arriving>,
}

/// A record whose bytes are coming in.
struct Arriving {
    wanted: v1::PutRecord,
    /// A full chunk that is perhaps the last.
    full: Option<Bytes>,
    /// The chunk behind it, not full yet.
    chunk: BytesMut,
    /// From its second chunk on: it is sealed as it comes.
    large: Option<LargeRecord>,
}

struct LargeRecord {
    draft: Draft,
    form: Form,
    /// The record of this name that is kept already.
    kept: Option<Arc<Kept>>,
    next: u32,
    /// Full chunks that wait to be a job.
    chunks: Vec<Bytes>,
    /// All of it so far, where its patient is looked for.
    document: Option<Vec<Bytes>>,
    len: usize,
}

impl Reader {
    async fn take(&mut self, frame: Frame) -> Result<(), String> {
        match frame {
            Frame::Begin(wanted) => {
                if self.arriving.is_some() {
                    return Err("a record begins before the one before it ended".into());
                }
                self.arriving = Some(Arriving { wanted, full: None, chunk: BytesMut::new(), large: None });
                Ok(())
            }
            Frame::Data(data) => self.on_data(data).await,
            Frame::End(_) => self.on_end().await,
            Frame::Abort(abort) => {
                let arriving = self.arriving.take().ok_or("an abort without a record")?;
                self.flush().await;
                self.send(vec![Step::Failed { name: arriving.wanted.name, error: abort.reason }]).await;
                Ok(())
            }
        }
    }

    async fn on_data(&mut self, mut data: Bytes) -> Result<(), String> {
        while !data.is_empty() {
            let arriving = self.arriving.as_mut().ok_or("data without a record")?;
            if let Some(full) = arriving.full.take() {
                self.on_full_chunk(full).await; // more follows, so it is not the last
                continue;
            }
            if arriving.chunk.is_empty() && data.len() >= CHUNK_LEN {
                arriving.full = Some(data.split_to(CHUNK_LEN)); // as it came, without a copy
                continue;
            }
            let room = CHUNK_LEN - arriving.chunk.len();
            arriving.chunk.extend_from_slice(&data.split_to(room.min(data.len())));
            if arriving.chunk.len() == CHUNK_LEN {
                arriving.full = Some(arriving.chunk.split().freeze());
            }
        }
        Ok(())
    }

    async fn on_full_chunk(&mut self, chunk: Bytes) {
        self.flush().await;
        let Some(arriving) = self.arriving.as_mut() else { return };
        let large = match &mut arriving.large {
            Some(large) => large,
            new => {
                let (node, name) = (self.node.clone(), arriving.wanted.name.clone());
                let kept = blocking(move || Kept::of_name(&node, &name)).await;
                new.insert(LargeRecord::new(&arriving.wanted, &chunk, kept))
            }
        };
        large.push(chunk);
        if large.chunks.len() * CHUNK_LEN >= JOB_LEN {
            let job = large.seal(false);
            self.spawn(job).await;
        }
    }

    async fn on_end(&mut self) -> Result<(), String> {
        let Arriving { wanted, full, chunk, large } = self.arriving.take().ok_or("an end without a record")?;
        let chunk = full.unwrap_or_else(|| chunk.freeze());
        let Some(mut large) = large else {
            self.documents_len += chunk.len();
            self.documents.push(Document { wanted, bytes: chunk });
            if self.documents_len >= JOB_LEN || self.documents.len() >= JOB_DOCUMENTS_MAX {
                self.flush().await;
            }
            return Ok(());
        };
        large.push(chunk);
        let seal = large.seal(true);
        let node = self.node.clone();
        self.spawn(move || {
            let document = large.document.map(|parts| parts.concat());
            let meta = describe(&node, wanted, large.form, document.as_deref());
            let mut steps = seal();
            steps.push(Step::End { draft: large.draft, meta });
            steps
        })
        .await;
        Ok(())
    }

    /// Hands the documents that were collected to a worker.
    async fn flush(&mut self) {
        if self.documents.is_empty() {
            return;
        }
        self.documents_len = 0;
        let (node, lane) = (self.node.clone(), self.lane.clone());
        let documents = std::mem::take(&mut self.documents);
        self.spawn(move || seal_documents(&node, &lane, documents)).await;
    }

    async fn spawn(&mut self, job: impl FnOnce() -> Vec<Step> + Send + 'static) {
        // The permit first: it bounds the jobs under way.
        if let Ok(permit) = self.steps.reserve().await {
            permit.send(tokio::task::spawn_blocking(job));
        }
    }

    async fn send(&mut self, steps: Vec<Step>) {
        self.spawn(move || steps).await;
    }
}

impl LargeRecord {
    fn new(wanted: &v1::PutRecord, first: &Bytes, kept: Option<Arc<Kept>>) -> Self {
        let form = form(wanted, first);
        let looked_for = wanted.patient == "auto" || wanted.category.is_empty();
        let document = (looked_for && form.is_read()).then(Vec::new);
        Self { draft: Draft::new(), form, kept, next: 0, chunks: Vec::new(), document, len: 0 }
    }

    fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        match &mut self.document {
            Some(document) if self.len <= DOCUMENT_READ_MAX => document.push(chunk.clone()),
            _ => self.document = None,
        }
        self.chunks.push(chunk);
    }

    /// The job that seals the chunks that wait.
    fn seal(&mut self, ends: bool) -> impl FnOnce() -> Vec<Step> + Send + 'static {
        let (draft, chunks, first) = (self.draft.clone(), std::mem::take(&mut self.chunks), self.next);
        self.next += chunks.len() as u32;
        let compress = Compress::for_media_type(self.form.outer());
        let kept = self.kept.clone();
        move || {
            let count = chunks.len();
            let digests = chunks.iter().map(|chunk| leaf_hash(chunk));
            if let Some(kept) = kept.filter(|kept| kept.has(first, digests)) {
                return vec![Step::Same(Same { draft, kept, compress, first, count: count as u32, ends })];
            }
            let sealed = chunks.iter().enumerate().map(|(at, chunk)| {
                let last = ends && at + 1 == count;
                draft.seal_chunk(ChunkIndex(first + at as u32), last, chunk, compress)
            });
            vec![Step::Chunks { chunks: sealed.collect(), draft }]
        }
    }
}
