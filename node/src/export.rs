//! Many records in one stream, pack by pack: what `get --all` writes to a folder.

use std::sync::Arc;

use bithealth_exchange::Priority;
use bithealth_http::{ByteStream, ErrorBody, ErrorCode, ExportAnswer};
use bithealth_pack::RecordOpener;
use bithealth_proto::v1::{self, CatalogRow, put_frame::Frame};
use bithealth_types::{ChunkIndex, RecordId};
use bytes::{BufMut, Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;

use crate::fetch;
use crate::node::Node;
use crate::open::Reading;
use crate::replicate::blocking;
use crate::shelf::{Filter, Found, Source, record_id};

/// Sealed bytes opened in one job.
const JOB_LEN: u64 = 1 << 20;
/// Jobs under way.
const JOBS_MAX: usize = 4;
/// Buffers waiting for a slow caller.
const BUFFERS_MAX: usize = 16;
/// The number of `PutFrame.data`.
const DATA_FIELD: u32 = 2;

/// Streams the records that match.
///
/// # Errors
/// [`ErrorCode::Damaged`] if a catalog cannot be read.
pub async fn export(node: &Arc<Node>, filter: Filter) -> Result<ExportAnswer, ErrorBody> {
    let (lister, wanted) = (node.clone(), filter.clone());
    let totals = blocking(move || {
        let (mut records, mut bytes) = (0, 0);
        lister.shelf.list(&wanted, |found| {
            records += 1;
            bytes += found.row.plaintext_len;
            true
        })?;
        anyhow::Ok((records, bytes))
    });
    let (records, bytes) = totals.await.map_err(|error| ErrorBody::new(ErrorCode::Damaged, error))?;
    let (groups, queue) = mpsc::channel(JOBS_MAX);
    let (buffers, body) = mpsc::channel(BUFFERS_MAX);
    let lister = node.clone();
    tokio::task::spawn_blocking(move || {
        let mut group = Group::default();
        let listed = lister.shelf.list(&filter, |found| group.add(found, &groups));
        group.send(&groups);
        if let Err(error) = listed {
            tracing::warn!(%error, "a catalog cannot be read");
        }
    });
    tokio::spawn(open_groups(node.clone(), queue, buffers));
    let body: ByteStream = ReceiverStream::new(body).map(Ok).boxed();
    Ok(ExportAnswer { records, bytes, body })
}

/// Records that are opened in one job.
#[derive(Default)]
struct Group {
    found: Vec<Found>,
    len: u64,
}

impl Group {
    /// False once the reader has gone.
    fn add(&mut self, found: Found, groups: &mpsc::Sender<Vec<Found>>) -> bool {
        let apart = self.found.first().is_some_and(|first| first.salt != found.salt);
        if (apart || self.len + found.row.len > JOB_LEN) && !self.send(groups) {
            return false;
        }
        self.len += found.row.len;
        self.found.push(found);
        true
    }

    fn send(&mut self, groups: &mpsc::Sender<Vec<Found>>) -> bool {
        self.len = 0;
        let found = std::mem::take(&mut self.found);
        found.is_empty() || groups.blocking_send(found).is_ok()
    }
}

/// Opens groups side by side and sends them on in order.
async fn open_groups(node: Arc<Node>, mut groups: mpsc::Receiver<Vec<Found>>, buffers: mpsc::Sender<Bytes>) {
    let mut jobs: FuturesOrdered<JoinHandle<Job>> = FuturesOrdered::new();
    loop {
        tokio::select! {
            group = groups.recv(), if jobs.len() < JOBS_MAX => match group {
                Some(group) => {
                    let node = node.clone();
                    jobs.push_back(tokio::spawn(async move { open_group(&node, group).await }));
                }
                None if jobs.is_empty() => return,
                None => if !send_next(&node, &mut jobs, &buffers).await { return },
            },
            Some(job) = jobs.next(), if !jobs.is_empty() => {
                if !send(&node, job.expect("opening does not panic"), &buffers).await {
                    return;
                }
            }
        }
    }
}

async fn send_next(
    node: &Arc<Node>,
    jobs: &mut FuturesOrdered<JoinHandle<Job>>,
    buffers: &mpsc::Sender<Bytes>,
) -> bool {
    match jobs.next().await {
        Some(job) => send(node, job.expect("opening does not panic"), buffers).await,
        None => true,
    }
}

/// What a job made: frames of the records it could open from one run, and the records that need more.
struct Job {
    frames: Bytes,
    others: Vec<Found>,
}

/// Opens the small records of a group with one read, or one fetch.
async fn open_group(node: &Arc<Node>, group: Vec<Found>) -> Job {
    match sealed_run(node, &group).await {
        Some((start, bytes)) => blocking(move || open_run(group, start, &bytes)).await,
        None => Job { frames: Bytes::new(), others: group },
    }
}

/// The sealed bytes of a group, and where in the pack they start. None where they cannot be had as one run: then each record
/// is tried by itself, and says what is wrong.
async fn sealed_run(node: &Arc<Node>, group: &[Found]) -> Option<(u64, Bytes)> {
    let (first, last) = (group.first()?, group.last()?);
    let range = first.row.offset..last.row.offset + last.row.len;
    let in_order = group.windows(2).all(|pair| pair[0].row.offset < pair[1].row.offset);
    if first.source == Source::Open || !in_order || range.end - range.start > 4 * JOB_LEN {
        return None;
    }
    let (worker, salt, wanted) = (node.clone(), first.salt, range.clone());
    if let Ok(bytes) = blocking(move || worker.vault.read_pack(&salt, wanted)).await {
        return Some((range.start, bytes));
    }
    let pack = node.chain.state().pack_with_salt(&salt)?;
    Some((range.start, fetch::range(node, &pack, range, Priority::Read).await.ok()?))
}

/// Opens small records that lie behind one another. Blocks.
fn open_run(group: Vec<Found>, start: u64, bytes: &[u8]) -> Job {
    let mut frames = BytesMut::with_capacity(4 * bytes.len());
    let mut others = Vec::new();
    for found in group {
        let at = (found.row.offset - start) as usize;
        match open_small(&found, &bytes[at..at + found.row.len as usize]) {
            Some(plaintext) => {
                begin(&mut frames, &found.row);
                put_frame(&mut frames, Frame::Data(plaintext));
                put_frame(&mut frames, Frame::End(v1::PutEnd {}));
            }
            None => others.push(found),
        }
    }
    Job { frames: frames.freeze(), others }
}

/// A record of one chunk that lies in one run.
fn open_small(found: &Found, run: &[u8]) -> Option<Bytes> {
    let manifest_at = run.len().checked_sub(found.row.manifest_len as usize)?;
    let opener = RecordOpener::new(&found.salt, &found.row, &run[manifest_at..]).ok()?;
    let [piece] = opener.locate(0..opener.plaintext_len().max(1).min(opener.plaintext_len())).ok()?.try_into().ok()?;
    let at = piece.offset.checked_sub(found.row.offset)? as usize;
    if piece.salt != found.salt {
        return None;
    }
    opener.chunk(ChunkIndex(0), run.get(at..at + piece.sealed_len as usize)?).ok()
}

async fn send(node: &Arc<Node>, job: Job, buffers: &mpsc::Sender<Bytes>) -> bool {
    if !job.frames.is_empty() && buffers.send(job.frames).await.is_err() {
        return false;
    }
    for found in job.others {
        if !send_record(node, &found, buffers).await {
            return false;
        }
    }
    true
}

/// Streams one record; one that cannot be read to its end is aborted, and the others go on.
async fn send_record(node: &Arc<Node>, found: &Found, buffers: &mpsc::Sender<Bytes>) -> bool {
    let mut frames = BytesMut::new();
    begin(&mut frames, &found.row);
    if buffers.send(frames.freeze()).await.is_err() {
        return false;
    }
    let end = match stream_record(node, record_id(&found.row).unwrap_or(RecordId([0; 16])), buffers).await {
        Ok(true) => Frame::End(v1::PutEnd {}),
        Ok(false) => return false,
        Err(reason) => Frame::Abort(v1::PutAbort { reason }),
    };
    let mut frames = BytesMut::new();
    put_frame(&mut frames, end);
    buffers.send(frames.freeze()).await.is_ok()
}

async fn stream_record(node: &Arc<Node>, record: RecordId, buffers: &mpsc::Sender<Bytes>) -> Result<bool, String> {
    let reading = Reading::begin(node, record).await.map_err(|error| error.to_string())?;
    let len = reading.plaintext_len();
    let mut parts = reading.stream(0..len);
    while let Some(opened) = parts.recv().await {
        let opened = opened.map_err(|error| error.to_string())?;
        for bytes in opened.into_iter().flat_map(|part| [data_frame_head(part.len()), part]) {
            if buffers.send(bytes).await.is_err() {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn begin(frames: &mut BytesMut, row: &CatalogRow) {
    let begin = v1::PutRecord {
        name: row.name.clone(),
        patient: row.patient.clone(),
        category: row.category.clone(),
        media_type: row.media_type.clone(),
    };
    put_frame(frames, Frame::Begin(begin));
}

/// What stands in front of `len` bytes of data, so that they need not be copied into a frame.
fn data_frame_head(len: usize) -> Bytes {
    let mut head = BytesMut::new();
    encode_key(DATA_FIELD, WireType::LengthDelimited, &mut head);
    encode_varint(len as u64, &mut head);
    let mut framed = BytesMut::with_capacity(4 + head.len());
    framed.put_u32((head.len() + len) as u32);
    framed.put(head);
    framed.freeze()
}

/// A frame behind its length (u32, big endian).
fn put_frame(frames: &mut BytesMut, frame: Frame) {
    let frame = v1::PutFrame { frame: Some(frame) };
    frames.reserve(4 + frame.encoded_len());
    frames.put_u32(frame.encoded_len() as u32);
    frame.encode(frames).expect("a growing buffer has room");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_behind_its_head_is_the_frame() {
        for len in [0, 1, 127, 128, 1 << 18, 1 << 20] {
            let data = Bytes::from(vec![7; len]);
            let mut frame = BytesMut::new();
            put_frame(&mut frame, Frame::Data(data.clone()));
            assert!([data_frame_head(len), data].concat() == frame, "{len}");
        }
    }
}
