//! A node for tests: keeps records in memory, serves the real routes on a real socket.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use bithealth_http::api::*;
use bithealth_http::*;
use bithealth_proto::v1::{PutEnd, PutFrame, PutRecord, put_frame};
use bithealth_proto::{decode_frame, encode};
use bithealth_types::{ByteLen, Digest, Height, NodeId, RecordId, Sequence};
use bytes::{Bytes, BytesMut};
use futures::channel::mpsc;
use futures::{SinkExt, StreamExt, stream};
use tokio::task::JoinHandle;

use super::Client;

/// The service.
#[derive(Default)]
pub(crate) struct Memory {
    records: Mutex<Vec<(RecordInfo, Bytes)>>,
    /// Bodies of records break off after so many bytes.
    breaks_after: Mutex<Option<usize>>,
    /// What is written into files then ends without a word.
    ends_silently: AtomicBool,
}

impl Memory {
    fn add(&self, name: String, patient: String, bytes: Bytes) -> RecordInfo {
        let mut records = self.records.lock().unwrap();
        let info = RecordInfo {
            record: RecordId([(records.len() as u8).wrapping_add(1); 16]),
            name,
            patient,
            category: String::new(),
            media_type: String::new(),
            bytes: ByteLen(bytes.len() as u64),
            time_ms: 0,
            organisation: "Anna".to_owned(),
            author: NodeId([1; 32]),
            state: RecordState::Local,
            height: None,
            own: true,
        };
        records.push((info.clone(), bytes));
        info
    }

    pub(crate) fn break_bodies_after(&self, len: usize) {
        *self.breaks_after.lock().unwrap() = Some(len);
    }

    pub(crate) fn end_silently(&self) {
        self.ends_silently.store(true, Ordering::Relaxed);
    }

    /// Names and bytes of all records, in the order they came.
    pub(crate) fn records(&self) -> Vec<(String, Bytes)> {
        self.records.lock().unwrap().iter().map(|(info, bytes)| (info.name.clone(), bytes.clone())).collect()
    }
}

fn framed(frame: put_frame::Frame) -> Result<Bytes, ErrorBody> {
    let frame = encode(&PutFrame { frame: Some(frame) });
    Ok([&(frame.len() as u32).to_be_bytes(), &frame[..]].concat().into())
}

async fn take(memory: Arc<Memory>, body: ByteStream, mut events: mpsc::Sender<PutEvent>) {
    let mut frames = Frames::new(body);
    let mut record: Option<(PutRecord, BytesMut)> = None;
    let (mut records, mut failed) = (0, 0);
    while let Ok(Some(frame)) = frames.next().await {
        let event = match decode_frame::<PutFrame>(frame).unwrap().frame.unwrap() {
            put_frame::Frame::Begin(begin) => {
                record = Some((begin, BytesMut::new()));
                continue;
            }
            put_frame::Frame::Data(data) => {
                record.as_mut().unwrap().1.extend_from_slice(&data);
                continue;
            }
            put_frame::Frame::End(_) => {
                let (begin, bytes) = record.take().unwrap();
                let info = memory.add(begin.name, begin.patient, bytes.freeze());
                records += 1;
                let (state, patient) = (RecordState::Local, Some(info.patient));
                let RecordInfo { name, record, bytes, .. } = info;
                PutEvent::Record { name, record, bytes, state, unchanged: false, patient, warnings: vec![] }
            }
            put_frame::Frame::Abort(abort) => {
                failed += 1;
                PutEvent::Failed { name: record.take().unwrap().0.name, error: abort.reason }
            }
        };
        let _ = events.send(event).await;
    }
    let (bytes, state) = (ByteLen(0), RecordState::Local);
    let done = PutEvent::Done {
        records,
        unchanged: 0,
        failed,
        bytes,
        sealed_bytes: bytes,
        state,
        height: None,
        why_not: vec![],
    };
    let _ = events.send(done).await;
}

/// Shares the memory with the test.
pub(crate) struct Served(Arc<Memory>);

/// A proposal that one of two organisations is for.
fn proposed(change: Change) -> ProposalInfo {
    let approved_by = vec!["North Clinic".to_owned()];
    ProposalInfo { id: Digest([5; 32]), change, approved_by, needed: 2, passed: false, height: None }
}

impl Service for Served {
    async fn put(&self, options: PutOptions, body: ByteStream) -> Result<EventStream<PutEvent>, ErrorBody> {
        if !options.for_.is_empty() {
            return Err(ErrorBody::new(ErrorCode::UnknownOrganisation, "nobody else is here"));
        }
        let (events, receiver) = mpsc::channel(4);
        tokio::spawn(take(self.0.clone(), body, events));
        Ok(receiver.boxed())
    }

    async fn get(&self, record: RecordId, range: Option<ByteRange>) -> Result<GetAnswer, ErrorBody> {
        let records = self.0.records.lock().unwrap();
        let found = records.iter().find(|(info, _)| info.record == record).cloned();
        let (info, bytes) = found.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, "no such record"))?;
        let len = info.bytes.0;
        let range = range.map_or(Some(0..len), |range| range.resolve(len));
        let range = range.ok_or_else(|| ErrorBody::range_not_satisfiable(&record, len))?;
        let mut rest = bytes.slice(range.start as usize..range.end as usize);
        let body = match *self.0.breaks_after.lock().unwrap() {
            Some(len) if len < rest.len() => {
                let torn = Err(ErrorBody::new(ErrorCode::Unreachable, "a peer went away"));
                stream::iter([Ok(rest.split_to(len)), torn]).boxed()
            }
            _ => stream::iter([Ok(rest)]).boxed(),
        };
        Ok(GetAnswer { info, range, body })
    }

    async fn get_into(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
        file: File,
        offset: u64,
    ) -> Result<GetAnswer<WrittenStream>, ErrorBody> {
        let GetAnswer { info, range, body } = self.get(record, range).await?;
        let mut len = 0;
        let written = body.map(move |part| {
            let part = part?;
            let full = |error| ErrorBody::new(ErrorCode::FileNotWritten, error);
            file.write_all_at(&part, offset + len).map_err(full)?;
            len += part.len() as u64;
            Ok(ByteLen(len))
        });
        let silently = self.0.ends_silently.load(Ordering::Relaxed);
        let told = written.take_while(move |it| std::future::ready(it.is_ok() || !silently));
        Ok(GetAnswer { info, range, body: told.boxed() })
    }

    async fn list(&self, filter: ListFilter) -> Result<EventStream<RecordInfo>, ErrorBody> {
        let records: Vec<_> = self.0.records.lock().unwrap().iter().map(|(info, _)| info.clone()).collect();
        let fits = move |info: &RecordInfo| filter.patient.as_ref().is_none_or(|patient| *patient == info.patient);
        Ok(stream::iter(records.into_iter().filter(fits)).boxed())
    }

    async fn get_all(&self, _filter: ExportFilter) -> Result<ExportAnswer, ErrorBody> {
        let records = self.0.records();
        let bytes = records.iter().map(|(_, bytes)| bytes.len() as u64).sum();
        let count = records.len() as u64;
        let frames = records.into_iter().flat_map(|(name, bytes)| {
            let begin = put_frame::Frame::Begin(PutRecord { name, ..PutRecord::default() });
            let data = (0..bytes.len())
                .step_by(1 << 20)
                .map(move |start| put_frame::Frame::Data(bytes.slice(start..bytes.len().min(start + (1 << 20)))));
            [begin].into_iter().chain(data).chain([put_frame::Frame::End(PutEnd {})]).map(framed)
        });
        let frames: Vec<_> = frames.collect();
        Ok(ExportAnswer { records: count, bytes, body: stream::iter(frames).boxed() })
    }

    async fn status(&self) -> Result<Status, ErrorBody> {
        Err(ErrorBody::new(ErrorCode::Busy, "still reading the index"))
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, ErrorBody> {
        Ok(vec![])
    }

    async fn members(&self) -> Result<Vec<MemberInfo>, ErrorBody> {
        Ok(vec![])
    }

    async fn verify(&self, _options: VerifyOptions) -> Result<EventStream<VerifyEvent>, ErrorBody> {
        Ok(stream::empty().boxed()) // as if it stopped at once
    }

    async fn invite(&self, options: InviteOptions) -> Result<InviteInfo, ErrorBody> {
        let InviteOptions { name, region, jurisdiction, ttl_s } = options;
        let expires_ms = ttl_s * 1000;
        let by = "North Clinic".to_owned();
        let proposal = proposed(Change::Invite { name, region, jurisdiction, by, expires_ms });
        Ok(InviteInfo { text: "invite".to_owned(), expires_ms, proposal })
    }

    async fn propose(&self, change: Change) -> Result<ProposalInfo, ErrorBody> {
        Ok(proposed(change))
    }

    async fn proposals(&self) -> Result<Vec<ProposalInfo>, ErrorBody> {
        Ok(vec![proposed(Change::Remove { member: "South Clinic".to_owned() })])
    }

    async fn approve(&self, id: Digest) -> Result<ProposalInfo, ErrorBody> {
        match proposed(Change::Remove { member: "South Clinic".to_owned() }) {
            known if known.id == id => Ok(known),
            _ => Err(ErrorBody::new(ErrorCode::UnknownProposal, format!("nobody proposed {id}"))),
        }
    }

    async fn kit(&self) -> Result<String, ErrorBody> {
        Ok("the kit\n".to_owned())
    }

    async fn restore(&self) -> Result<EventStream<RestoreEvent>, ErrorBody> {
        let done = RestoreEvent::Done { records: 1, bytes: ByteLen(1), packs: 1, packs_failed: 0 };
        Ok(stream::iter([done]).boxed())
    }

    async fn retire(&self, node: NodeId) -> Result<EntryAt, ErrorBody> {
        Ok(EntryAt { author: node, sequence: Sequence(7) })
    }

    async fn notarise(&self, _commitment: Digest) -> Result<EntryAt, ErrorBody> {
        Ok(EntryAt { author: NodeId([1; 32]), sequence: Sequence(7) })
    }

    async fn prove(&self, what: ProofOf) -> Result<Bytes, ErrorBody> {
        Ok(format!("{what:?}").into())
    }

    async fn headers(&self, range: HeaderRange) -> Result<Bytes, ErrorBody> {
        Ok(format!("{range:?}").into())
    }

    async fn genesis(&self) -> Result<Bytes, ErrorBody> {
        Ok(Bytes::from_static(b"the genesis"))
    }

    async fn evidence(&self) -> Result<Bytes, ErrorBody> {
        Ok(Bytes::from_static(b"the evidence"))
    }

    async fn checkpoint(&self, of: CheckpointOf) -> Result<CheckpointInfo, ErrorBody> {
        Ok(CheckpointInfo { origin: "log".into(), height: of.since, key: "key".into(), text: "note".into() })
    }

    async fn cosigned(&self, by: CosignedBy, note: Bytes) -> Result<WitnessInfo, ErrorBody> {
        let note = String::from_utf8_lossy(&note).into_owned();
        Ok(WitnessInfo { name: "w".into(), key: by.witness, height: Height(1), time_ms: 1, note })
    }

    async fn witnesses(&self) -> Result<Vec<WitnessInfo>, ErrorBody> {
        Ok(vec![])
    }

    async fn recovery(&self) -> Result<RecoveryInfo, ErrorBody> {
        Ok(RecoveryInfo::default())
    }

    async fn propose_recovery(&self, options: KeepOptions) -> Result<Bytes, ErrorBody> {
        Ok(options.keep.join(", ").into())
    }

    async fn submit_recovery(&self, _submission: Bytes) -> Result<RecoveryInfo, ErrorBody> {
        Ok(RecoveryInfo { standing: RecoveryStanding::Announced, ..RecoveryInfo::default() })
    }

    async fn export_recovery(&self) -> Result<Bytes, ErrorBody> {
        Ok(Bytes::from_static(b"the recovery"))
    }

    async fn open_foreign(&self) -> Result<OpenedAnswer, ErrorBody> {
        Err(ErrorBody::new(ErrorCode::NotGranted, "sealed for others"))
    }

    async fn metrics(&self) -> Result<Metrics, ErrorBody> {
        Ok(Metrics::default())
    }

    async fn ready(&self) -> Result<Readiness, ErrorBody> {
        Ok(Readiness::default())
    }

    async fn stop(&self) -> Result<(), ErrorBody> {
        Ok(())
    }
}

/// A served [`Memory`]; gone when dropped.
pub(crate) struct Node {
    pub(crate) memory: Arc<Memory>,
    pub(crate) client: Client,
    folder: tempfile::TempDir,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Node {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = Arc::new(Memory::default());
        let socket = folder.path().join("node.sock");
        let server = UnixServer::bind(&socket).await.unwrap();
        let serving = tokio::spawn(server.serve(Arc::new(Served(memory.clone())), std::future::pending()));
        Self { memory, client: Client::new(socket), folder, serving }
    }

    /// With one record of this name.
    pub(crate) async fn with(name: &str, bytes: Vec<u8>) -> (Self, RecordId) {
        let node = Self::start().await;
        let info = node.memory.add(name.to_owned(), String::new(), bytes.into());
        (node, info.record)
    }

    /// A path in a folder that vanishes with the node.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.serving.abort();
    }
}
