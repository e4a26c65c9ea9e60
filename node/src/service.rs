//! What this node does for the routes of the local API.

mod overview;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bithealth_exchange::Priority;
use bithealth_grant::{OrganisationSealing, Readers, Sealing};
use bithealth_http::api::{
    Change, CheckpointInfo, CheckpointOf, CosignedBy, EntryAt, ExportFilter, HeaderRange, InviteInfo, InviteOptions,
    KeepOptions, ListFilter, MemberInfo, Metrics, OpenedAnswer, PeerInfo, ProofOf, ProposalInfo, PutEvent, PutOptions,
    Readiness, RecordInfo, RecordState, RecoveryInfo, RestoreEvent, RestorePhase, Status, VerifyEvent, VerifyOptions,
    WitnessInfo,
};
use bithealth_http::{
    ByteRange, ByteStream, ErrorBody, ErrorCode, EventStream, ExportAnswer, GetAnswer, Service, WrittenStream,
};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_proto::{decode, encode};
use bithealth_types::{ByteLen, Digest, NodeId, RecordId};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};
use tokio::sync::{Notify, mpsc};
use tokio_stream::wrappers::ReceiverStream;

use crate::node::Node;
use crate::open::{ReadRecordError, Reading};
use crate::replicate::{Progress, blocking};
use crate::restore::Phase;
use crate::shelf::{Filter, Found, Source, record_id};
use crate::{export, fetch, import, metrics, prove, recovery, setup, verify, votes, witnesses};

pub(crate) use overview::{covered, finality, members, repair, stored_bytes};
use overview::{peers, status};

/// Rows of a list waiting for a slow caller.
const ROWS_MAX: usize = 256;

/// The local API of a node.
pub struct Local {
    node: Arc<Node>,
    stop: Arc<Notify>,
}

impl Local {
    /// The local API of `node`; `stop` is told when a caller stops it.
    pub fn new(node: Arc<Node>, stop: Arc<Notify>) -> Self {
        Self { node, stop }
    }

    /// Begins to read a record, or a part of it; what it is, and which part.
    async fn begin(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
    ) -> Result<(Reading, RecordInfo, Range<u64>), ErrorBody> {
        let reading = Reading::begin(&self.node, record).await.map_err(error_body)?;
        let len = reading.plaintext_len();
        let range = match range {
            None => 0..len,
            Some(range) => range.resolve(len).ok_or_else(|| ErrorBody::range_not_satisfiable(&record, len))?,
        };
        let found = reading.found.clone();
        let info = self.on_node(move |node| describe(node, &found)).await;
        Ok((reading, info, range))
    }

    async fn on_node<T: Send + 'static>(&self, work: impl FnOnce(&Arc<Node>) -> T + Send + 'static) -> T {
        let node = self.node.clone();
        blocking(move || work(&node)).await
    }
}

impl Service for Local {
    async fn put(&self, options: PutOptions, body: ByteStream) -> Result<EventStream<PutEvent>, ErrorBody> {
        import::put(self.node.clone(), options, body)
    }

    async fn get(&self, record: RecordId, range: Option<ByteRange>) -> Result<GetAnswer, ErrorBody> {
        let (reading, info, range) = self.begin(record, range).await?;
        let parts = ReceiverStream::new(reading.stream(range.clone())).map_err(error_body);
        let body = parts.map_ok(|parts| stream::iter(parts).map(Ok)).try_flatten().boxed();
        Ok(GetAnswer { info, range, body })
    }

    async fn get_into(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
        file: File,
        offset: u64,
    ) -> Result<GetAnswer<WrittenStream>, ErrorBody> {
        let (reading, info, range) = self.begin(record, range).await?;
        let written = ReceiverStream::new(reading.write_into(range.clone(), file, offset));
        let body = written.map_ok(ByteLen).map_err(error_body).boxed();
        Ok(GetAnswer { info, range, body })
    }

    async fn list(&self, filter: ListFilter) -> Result<EventStream<RecordInfo>, ErrorBody> {
        let (rows, receiver) = mpsc::channel(ROWS_MAX);
        let node = self.node.clone();
        tokio::task::spawn_blocking(move || list(&node, &filter, &rows));
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn get_all(&self, filter: ExportFilter) -> Result<ExportAnswer, ErrorBody> {
        let filter = Filter { patient: filter.patient, category: filter.category, own_only: filter.own };
        export::export(&self.node, filter).await
    }

    async fn status(&self) -> Result<Status, ErrorBody> {
        Ok(self.on_node(status).await)
    }

    async fn peers(&self) -> Result<Vec<PeerInfo>, ErrorBody> {
        Ok(peers(&self.node))
    }

    async fn members(&self) -> Result<Vec<MemberInfo>, ErrorBody> {
        Ok(members(&self.node))
    }

    async fn verify(&self, options: VerifyOptions) -> Result<EventStream<VerifyEvent>, ErrorBody> {
        Ok(verify::verify(self.node.clone(), options))
    }

    async fn invite(&self, options: InviteOptions) -> Result<InviteInfo, ErrorBody> {
        self.on_node(move |node| votes::invite(node, &options)).await
    }

    async fn propose(&self, change: Change) -> Result<ProposalInfo, ErrorBody> {
        self.on_node(move |node| votes::propose(node, &change)).await
    }

    async fn proposals(&self) -> Result<Vec<ProposalInfo>, ErrorBody> {
        Ok(votes::proposals(&self.node))
    }

    async fn approve(&self, id: Digest) -> Result<ProposalInfo, ErrorBody> {
        self.on_node(move |node| votes::approve(node, &id)).await
    }

    async fn kit(&self) -> Result<String, ErrorBody> {
        self.on_node(|node| setup::kit(node).map_err(|error| ErrorBody::new(ErrorCode::DiskFull, error))).await
    }

    async fn restore(&self) -> Result<EventStream<RestoreEvent>, ErrorBody> {
        let (events, receiver) = mpsc::channel(ROWS_MAX);
        tokio::spawn(tell_restore(self.node.clone(), events));
        Ok(ReceiverStream::new(receiver).boxed())
    }

    async fn notarise(&self, commitment: Digest) -> Result<EntryAt, ErrorBody> {
        let operation = Operation::Notarise(v1::Notarise { commitment: Bytes::copy_from_slice(&commitment.0) });
        self.on_node(move |node| votes::append(node, operation)).await
    }

    async fn retire(&self, node: NodeId) -> Result<EntryAt, ErrorBody> {
        self.on_node(move |ours| votes::retire(ours, &node)).await
    }

    async fn prove(&self, what: ProofOf) -> Result<Bytes, ErrorBody> {
        self.on_node(move |node| prove::prove(node, &what)).await
    }

    async fn headers(&self, range: HeaderRange) -> Result<Bytes, ErrorBody> {
        self.on_node(move |node| prove::headers(node, range)).await
    }

    async fn genesis(&self) -> Result<Bytes, ErrorBody> {
        Ok(encode(self.node.chain.state().genesis()).into())
    }

    async fn evidence(&self) -> Result<Bytes, ErrorBody> {
        Ok(encode(&self.node.chain.evidence()).into())
    }

    async fn checkpoint(&self, of: CheckpointOf) -> Result<CheckpointInfo, ErrorBody> {
        self.on_node(move |node| witnesses::checkpoint(node, of)).await
    }

    async fn cosigned(&self, by: CosignedBy, note: Bytes) -> Result<WitnessInfo, ErrorBody> {
        self.on_node(move |node| witnesses::cosigned(node, &by.witness, &note)).await
    }

    async fn witnesses(&self) -> Result<Vec<WitnessInfo>, ErrorBody> {
        Ok(self.node.witnesses.all())
    }

    async fn recovery(&self) -> Result<RecoveryInfo, ErrorBody> {
        self.on_node(|node| Ok(recovery::info(node))).await
    }

    async fn propose_recovery(&self, options: KeepOptions) -> Result<Bytes, ErrorBody> {
        recovery::propose(&self.node, &options.keep).map(|signed| encode(&signed).into())
    }

    async fn submit_recovery(&self, submission: Bytes) -> Result<RecoveryInfo, ErrorBody> {
        let submission = decode(&submission).map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error))?;
        self.on_node(move |node| recovery::submit(node, &submission)).await
    }

    async fn export_recovery(&self) -> Result<Bytes, ErrorBody> {
        self.on_node(|node| recovery::export(node).map(|export| encode(&export).into())).await
    }

    async fn open_foreign(&self) -> Result<OpenedAnswer, ErrorBody> {
        open_foreign(&self.node).await
    }

    async fn metrics(&self) -> Result<Metrics, ErrorBody> {
        Ok(self.on_node(metrics::metrics).await)
    }

    async fn ready(&self) -> Result<Readiness, ErrorBody> {
        Ok(self.on_node(metrics::readiness).await)
    }

    async fn stop(&self) -> Result<(), ErrorBody> {
        self.stop.notify_one();
        Ok(())
    }
}

/// Fetches the first pack that is not ours nor was granted to us, decodes it, and tries every key we have.
async fn open_foreign(node: &Arc<Node>) -> Result<OpenedAnswer, ErrorBody> {
    let foreign = {
        let state = node.chain.state();
        let ours = |author| state.node(author).is_some_and(|it| it.member == node.member());
        let found = state.packs().find(|pack| !ours(&pack.author));
        found.map(|pack| (pack.id, pack.commit.clone()))
    };
    let Some((id, commit)) = foreign else {
        return Err(ErrorBody::new(ErrorCode::NotFound, "no pack of others is on the ledger"));
    };
    let bytes =
        fetch::whole(node, &id, Priority::Read).await.map_err(|error| ErrorBody::new(ErrorCode::Unreachable, error))?;
    let node = node.clone();
    blocking(move || {
        let descriptor = commit.pack.unwrap_or_default();
        let salt = descriptor.salt.as_ref().try_into().unwrap_or_default();
        let keys = &node.keys.organisation;
        let granted = OrganisationSealing::new(keys, Readers::default()).open(&salt, false, &commit.wraps);
        let catalog_at = bytes.len() - descriptor.catalog_len as usize;
        // Where no wrap is for us, the catalog key that would be ours is the only one left to try.
        let (key, refused) = match granted {
            Ok(key) => (key, None),
            Err(refused) => (keys.catalog_key(&salt), Some(refused.to_string())),
        };
        match bithealth_pack::open_catalog(&key, &salt, &bytes[catalog_at..]) {
            Ok(_) => Ok(OpenedAnswer { opened: 1 }),
            Err(error) => {
                let why = refused.unwrap_or_else(|| error.to_string());
                let message =
                    format!("pack {} was fetched whole, {} bytes, and does not open: {why}", id.short(), bytes.len());
                Err(ErrorBody::new(ErrorCode::NotGranted, message))
            }
        }
    })
    .await
}

/// What a failed read means to the caller.
pub(crate) fn error_body(error: ReadRecordError) -> ErrorBody {
    let code = match &error {
        ReadRecordError::Unknown { .. } => ErrorCode::NotFound,
        ReadRecordError::Fetch { error: crate::fetch::FetchError::Unreachable { .. }, .. } => ErrorCode::Unreachable,
        ReadRecordError::Write { .. } => ErrorCode::FileNotWritten,
        ReadRecordError::Fetch { .. }
        | ReadRecordError::Catalog { .. }
        | ReadRecordError::Damaged { .. }
        | ReadRecordError::Open { .. } => ErrorCode::Damaged,
    };
    let kind = if let ReadRecordError::Write { error, .. } = &error { Some(error.kind()) } else { None };
    let body = ErrorBody::new(code, error);
    match kind {
        None | Some(io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => body,
        Some(_) => body.with_next_step("choose another place for the file"),
    }
}

fn list(node: &Arc<Node>, wanted: &ListFilter, rows: &mpsc::Sender<RecordInfo>) {
    let filter = Filter { patient: wanted.patient.clone(), category: wanted.category.clone(), own_only: wanted.own };
    let mut left = wanted.limit.unwrap_or(u32::MAX);
    let mut waiting_for = wanted.after;
    let listed = node.shelf.list(&filter, |found| {
        if let Some(after) = waiting_for {
            if record_id(&found.row) == Some(after) {
                waiting_for = None;
            }
            return true;
        }
        if wanted.name.as_ref().is_some_and(|pattern| !fits(pattern, &found.row.name)) {
            return true;
        }
        if left == 0 {
            return false;
        }
        left -= 1;
        rows.blocking_send(describe(node, &found)).is_ok()
    });
    if let Err(error) = listed {
        tracing::warn!(%error, "a catalog cannot be read");
    }
}

/// Whether a name fits a pattern: `*` any characters, `?` one.
fn fits(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, n) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

pub(crate) fn describe(node: &Node, found: &Found) -> RecordInfo {
    let row = &found.row;
    let (author, own) = match found.source {
        Source::Granted { author, .. } => (author, false),
        Source::Open => (node.id(), true),
        Source::Own => {
            let state = node.chain.state();
            let author = state.pack_with_salt(&found.salt).and_then(|id| state.pack(&id).map(|pack| pack.author));
            (author.unwrap_or(node.id()), true)
        }
    };
    let replicated = !own || node.replication.progress(&found.salt) == Some(Progress::Replicated);
    let height = {
        let state = node.chain.state();
        state.pack_with_salt(&found.salt).and_then(|id| state.pack(&id)?.height).filter(|_| replicated)
    };
    RecordInfo {
        record: record_id(row).unwrap_or(RecordId([0; 16])),
        name: row.name.clone(),
        patient: row.patient.clone(),
        category: row.category.clone(),
        media_type: row.media_type.clone(),
        bytes: ByteLen(row.plaintext_len),
        time_ms: row.time_ms,
        organisation: organisation_of(node, &author),
        author,
        state: match (replicated, height) {
            (true, Some(_)) => RecordState::Final,
            (true, None) => RecordState::Replicated,
            (false, _) => RecordState::Local,
        },
        height,
        own,
    }
}

fn organisation_of(node: &Node, of: &NodeId) -> String {
    let state = node.chain.state();
    let member = state.node(of).and_then(|it| state.member_ever(&it.member));
    member.map(|member| member.name.clone()).unwrap_or_default()
}

async fn tell_restore(node: Arc<Node>, events: mpsc::Sender<RestoreEvent>) {
    let mut progress = node.restoring.subscribe();
    let mut told = std::collections::HashSet::new();
    loop {
        let now = progress.borrow_and_update().clone();
        for (pack, reason) in &now.failed {
            if told.insert(*pack) {
                let failed = RestoreEvent::Failed { pack: pack.to_string(), records: None, reason: reason.clone() };
                let _ = events.send(failed).await; // checked below
            }
        }
        let phase = match now.phase {
            _ if now.is_stuck => None,
            Phase::Done => None,
            Phase::Connecting => Some(RestorePhase::Connecting),
            Phase::Ledger => Some(RestorePhase::Ledger),
            Phase::Packs => Some(RestorePhase::Packs),
        };
        let Some(phase) = phase else {
            let done = RestoreEvent::Done {
                records: node.shelf.totals().records,
                bytes: ByteLen(now.bytes),
                packs: now.packs,
                packs_failed: now.failed.len() as u64,
            };
            let _ = events.send(done).await; // the caller has gone
            return;
        };
        let event = RestoreEvent::Progress {
            phase,
            packs: now.packs,
            packs_total: now.packs_total,
            bytes: ByteLen(now.bytes),
            bytes_total: ByteLen(now.bytes_total),
            records: now.records,
            peers: node.net.connected().len() as u64,
        };
        if events.send(event).await.is_err() {
            return;
        }
        // Also without news, so that a caller sees that the node is alive.
        let _ = tokio::time::timeout(Duration::from_secs(1), progress.changed()).await; // either way it is time to tell
    }
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn patterns_fit_as_people_expect() {
        for (pattern, name) in [("*", ""), ("*.json", "a/b.json"), ("a?c", "abc"), ("a*c*", "abcd"), ("**", "x")] {
            assert!(fits(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [("", "a"), ("*.json", "a.jsonl"), ("a?c", "ac"), ("abc", "ab")] {
            assert!(!fits(pattern, name), "{pattern} {name}");
        }
    }
}
