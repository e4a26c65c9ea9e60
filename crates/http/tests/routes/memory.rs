//! A service that keeps records in memory, and a node that serves it on a socket.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use bithealth_http::api::*;
use bithealth_http::*;
use bithealth_types::{ByteLen, Digest, Height, NodeId, RecordId, Sequence};
use bytes::Bytes;
use futures::{FutureExt, StreamExt, stream};
use tokio::net::UnixStream;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

/// How the body of a put ended: its length, or why it broke off.
type PutEnd = Result<u64, ErrorBody>;

pub(crate) struct Memory {
    records: Mutex<BTreeMap<RecordId, (RecordInfo, Bytes)>>,
    last_put: Mutex<Option<PutOptions>>,
    put_end: watch::Sender<Option<PutEnd>>,
    fail_after: Mutex<Option<usize>>,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            records: Mutex::default(),
            last_put: Mutex::default(),
            put_end: watch::Sender::new(None),
            fail_after: Mutex::default(),
        }
    }
}

impl Memory {
    pub(crate) fn insert(&self, record: RecordId, name: &str, bytes: Vec<u8>) {
        let info = RecordInfo {
            record,
            name: name.to_owned(),
            patient: String::new(),
            category: "other".to_owned(),
            media_type: String::new(),
            bytes: ByteLen(bytes.len() as u64),
            time_ms: 1,
            organisation: "Nord".to_owned(),
            author: NodeId([1; 32]),
            state: RecordState::Local,
            height: None,
            own: true,
        };
        self.records.lock().unwrap().insert(record, (info, bytes.into()));
    }

    /// Every body breaks after so many bytes.
    pub(crate) fn fail_bodies_after(&self, len: usize) {
        *self.fail_after.lock().unwrap() = Some(len);
    }

    pub(crate) fn last_put(&self) -> Option<PutOptions> {
        self.last_put.lock().unwrap().clone()
    }

    pub(crate) async fn put_ended(&self) -> PutEnd {
        let mut ends = self.put_end.subscribe();
        ends.wait_for(Option::is_some).await.unwrap().clone().unwrap()
    }

    fn body(&self, bytes: Bytes) -> ByteStream {
        match *self.fail_after.lock().unwrap() {
            None => stream::iter([Ok(bytes)]).boxed(),
            Some(len) => {
                let torn = ErrorBody::new(ErrorCode::Unreachable, "the last shard went away");
                stream::iter([Ok(bytes.slice(..len)), Err(torn)]).boxed()
            }
        }
    }
}

pub(crate) fn framed(frame: &[u8]) -> Bytes {
    [&(frame.len() as u32).to_be_bytes(), frame].concat().into()
}

/// A proposal that one of two organisations is for.
fn proposed(change: Change) -> ProposalInfo {
    let approved_by = vec!["North Clinic".to_owned()];
    ProposalInfo { id: Digest([5; 32]), change, approved_by, needed: 2, passed: false, height: None }
}

impl Service for Memory {
    /// Each frame is a record whose name is its bytes; what matters here is how they travel.
    async fn put(&self, options: PutOptions, body: ByteStream) -> Result<EventStream<PutEvent>, ErrorBody> {
        if options.for_.contains(&"Nobody".to_owned()) {
            return Err(ErrorBody::new(ErrorCode::UnknownOrganisation, "no organisation is called \"Nobody\""));
        }
        *self.last_put.lock().unwrap() = Some(options);
        let ends = self.put_end.clone();
        let state = Some((Frames::new(body), 0, 0));
        let events = stream::unfold(state, move |state| {
            let ends = ends.clone();
            async move {
                let (mut frames, mut records, mut len) = state?;
                match frames.next().await {
                    Ok(Some(frame)) => {
                        records += 1;
                        len += (FRAME_HEAD_LEN + frame.len()) as u64;
                        let event = PutEvent::Record {
                            name: String::from_utf8_lossy(&frame).into_owned(),
                            record: RecordId([records as u8; 16]),
                            bytes: ByteLen(frame.len() as u64),
                            state: RecordState::Local,
                            unchanged: false,
                            patient: None,
                            warnings: vec![],
                        };
                        Some((event, Some((frames, records, len))))
                    }
                    Ok(None) => {
                        ends.send_replace(Some(Ok(len)));
                        let event = PutEvent::Done {
                            records,
                            unchanged: 0,
                            failed: 0,
                            bytes: ByteLen(len),
                            sealed_bytes: ByteLen(len),
                            state: RecordState::Local,
                            height: None,
                            why_not: vec![],
                        };
                        Some((event, None))
                    }
                    Err(FrameError::Source(error)) => {
                        ends.send_replace(Some(Err(error)));
                        None
                    }
                    Err(other) => panic!("{other}"),
                }
            }
        });
        // Reads on when the caller is gone, as a node does for what it already took.
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        tokio::spawn(events.map(Ok).forward(sender).map(drop));
        Ok(receiver.boxed())
    }

    async fn get(&self, record: RecordId, range: Option<ByteRange>) -> Result<GetAnswer, ErrorBody> {
        let found = self.records.lock().unwrap().get(&record).cloned();
        let (info, bytes) =
            found.ok_or_else(|| ErrorBody::new(ErrorCode::NotFound, format_args!("no record {record} is here")))?;
        let len = info.bytes.0;
        let range = match range {
            None => 0..len,
            Some(range) => range.resolve(len).ok_or_else(|| ErrorBody::range_not_satisfiable(&record, len))?,
        };
        let body = self.body(bytes.slice(range.start as usize..range.end as usize));
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
        Ok(GetAnswer { info, range, body: written.boxed() })
    }

    async fn list(&self, filter: ListFilter) -> Result<EventStream<RecordInfo>, ErrorBody> {
        let records: Vec<_> = self.records.lock().unwrap().values().map(|(info, _)| info.clone()).collect();
        Ok(stream::iter(records)
            .filter(move |info| {
                let fits = filter.name.as_ref().is_none_or(|name| *name == info.name);
                async move { fits }
            })
            .boxed())
    }

    async fn get_all(&self, _filter: ExportFilter) -> Result<ExportAnswer, ErrorBody> {
        if self.fail_after.lock().unwrap().is_some() {
            return Ok(ExportAnswer { records: 1, bytes: 1, body: self.body(Bytes::new()) });
        }
        let bodies: Vec<_> = self.records.lock().unwrap().values().map(|(_, bytes)| bytes.clone()).collect();
        let bytes = bodies.iter().map(|bytes| bytes.len() as u64).sum();
        let records = bodies.len() as u64;
        let body = stream::iter(bodies.into_iter().map(|bytes| Ok(framed(&bytes)))).boxed();
        Ok(ExportAnswer { records, bytes, body })
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
        Ok(stream::empty().boxed())
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
        Ok("the kit".to_owned())
    }

    async fn restore(&self) -> Result<EventStream<RestoreEvent>, ErrorBody> {
        Ok(stream::empty().boxed())
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
        let own_packs = OwnPacks { local: self.records.lock().unwrap().len() as u64, ..OwnPacks::default() };
        Ok(Metrics { version: "1.2.3", own_packs, ..Metrics::default() })
    }

    /// Once there is a record.
    async fn ready(&self) -> Result<Readiness, ErrorBody> {
        let ready = !self.records.lock().unwrap().is_empty();
        Ok(Readiness { ready, waits_for: if ready { vec![] } else { vec!["a record".to_owned()] } })
    }

    async fn stop(&self) -> Result<(), ErrorBody> {
        Ok(())
    }
}

/// A served [`Memory`].
pub(crate) struct Node {
    pub(crate) memory: Arc<Memory>,
    folder: tempfile::TempDir,
    stop: Option<oneshot::Sender<()>>,
    serving: JoinHandle<Result<(), ServeError>>,
}

impl Node {
    pub(crate) async fn start(memory: Memory) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let memory = Arc::new(memory);
        let (stop, stopped) = oneshot::channel();
        let server = UnixServer::bind(&folder.path().join("node.sock")).await.unwrap();
        let serving = tokio::spawn(server.serve(Arc::clone(&memory), stopped.map(drop)));
        Self { memory, folder, stop: Some(stop), serving }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("node.sock")
    }

    pub(crate) async fn connect(&self) -> UnixStream {
        UnixStream::connect(self.socket()).await.unwrap()
    }

    pub(crate) async fn shutdown(&mut self) {
        self.stop.take();
        (&mut self.serving).await.unwrap().unwrap();
    }
}
