//! What a node does for the routes.

use std::fs::File;
use std::future::Future;
use std::ops::Range;

use bithealth_types::{ByteLen, Digest, NodeId, RecordId};
use bytes::Bytes;
use futures::stream::BoxStream;

use crate::api::{
    Change, CheckpointInfo, CheckpointOf, CosignedBy, EntryAt, ExportFilter, HeaderRange, InviteInfo, InviteOptions,
    KeepOptions, ListFilter, MemberInfo, Metrics, OpenedAnswer, PeerInfo, ProofOf, ProposalInfo, PutEvent, PutOptions,
    Readiness, RecordInfo, RecoveryInfo, RestoreEvent, Status, VerifyEvent, VerifyOptions, WitnessInfo,
};
use crate::error::ErrorBody;
use crate::range::ByteRange;

/// Bytes of a body, as they come. A body that fails is cut off, so that nobody takes it for whole.
pub type ByteStream = BoxStream<'static, Result<Bytes, ErrorBody>>;

/// Items of a long answer, as they come.
pub type EventStream<T> = BoxStream<'static, T>;

/// How many bytes are in a file without a gap, as they become more.
pub type WrittenStream = BoxStream<'static, Result<ByteLen, ErrorBody>>;

/// A record, or a part of one.
pub struct GetAnswer<B = ByteStream> {
    /// What it is.
    pub info: RecordInfo,
    /// Which of its bytes are meant.
    pub range: Range<u64>,
    /// Exactly those bytes, or how far they are written.
    pub body: B,
}

/// Many records in one stream.
pub struct ExportAnswer {
    /// How many.
    pub records: u64,
    /// Of plaintext.
    pub bytes: u64,
    /// `PutFrame`s, each behind its length. A record that cannot be read ends with an abort; the others go on.
    pub body: ByteStream,
}

/// What a node does for the routes. Streams are polled only as fast as the caller reads.
pub trait Service: Send + Sync + 'static {
    /// Takes the records in `body` (`PutFrame`s, each behind its length). Answers before it reads, so that a put that cannot
    /// be is refused before its bytes travel.
    fn put(
        &self,
        options: PutOptions,
        body: ByteStream,
    ) -> impl Future<Output = Result<EventStream<PutEvent>, ErrorBody>> + Send;

    /// A record or a part of it; [`ByteRange::resolve`] and [`ErrorBody::range_not_satisfiable`] say which.
    fn get(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
    ) -> impl Future<Output = Result<GetAnswer, ErrorBody>> + Send;

    /// Writes what [`Service::get`] would answer into `file`, from `offset` on.
    fn get_into(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
        file: File,
        offset: u64,
    ) -> impl Future<Output = Result<GetAnswer<WrittenStream>, ErrorBody>> + Send;

    /// The records that fit.
    fn list(&self, filter: ListFilter) -> impl Future<Output = Result<EventStream<RecordInfo>, ErrorBody>> + Send;

    /// The records that fit, with their bytes.
    fn get_all(&self, filter: ExportFilter) -> impl Future<Output = Result<ExportAnswer, ErrorBody>> + Send;

    /// This node and its network, at a glance.
    fn status(&self) -> impl Future<Output = Result<Status, ErrorBody>> + Send;

    /// Who is connected.
    fn peers(&self) -> impl Future<Output = Result<Vec<PeerInfo>, ErrorBody>> + Send;

    /// The organisations of the network.
    fn members(&self) -> impl Future<Output = Result<Vec<MemberInfo>, ErrorBody>> + Send;

    /// Checks what this node holds.
    fn verify(
        &self,
        options: VerifyOptions,
    ) -> impl Future<Output = Result<EventStream<VerifyEvent>, ErrorBody>> + Send;

    /// Makes an invite and puts it to the vote.
    fn invite(&self, options: InviteOptions) -> impl Future<Output = Result<InviteInfo, ErrorBody>> + Send;

    /// Puts a change to the vote; our organisation is for it.
    fn propose(&self, change: Change) -> impl Future<Output = Result<ProposalInfo, ErrorBody>> + Send;

    /// What was proposed, the open ones first.
    fn proposals(&self) -> impl Future<Output = Result<Vec<ProposalInfo>, ErrorBody>> + Send;

    /// Our organisation is for this proposal.
    fn approve(&self, id: Digest) -> impl Future<Output = Result<ProposalInfo, ErrorBody>> + Send;

    /// Takes another node of our organisation out for good, as it decides alone; where the entry stands that says so.
    fn retire(&self, node: NodeId) -> impl Future<Output = Result<EntryAt, ErrorBody>> + Send;

    /// The recovery kit, as text.
    fn kit(&self) -> impl Future<Output = Result<String, ErrorBody>> + Send;

    /// How the restore of this node goes on; ends with [`RestoreEvent::Done`], at once if there is nothing to restore.
    fn restore(&self) -> impl Future<Output = Result<EventStream<RestoreEvent>, ErrorBody>> + Send;

    /// Puts a commitment on the ledger, durably here; where its entry stands.
    fn notarise(&self, commitment: Digest) -> impl Future<Output = Result<EntryAt, ErrorBody>> + Send;

    /// A proof that this was on the ledger: a canonical `Proof`.
    fn prove(&self, what: ProofOf) -> impl Future<Output = Result<Bytes, ErrorBody>> + Send;

    /// Headers from this height on, at most [`crate::api::HEADERS_MAX`]: canonical `SignedHeader`s, each behind its length.
    fn headers(&self, range: HeaderRange) -> impl Future<Output = Result<Bytes, ErrorBody>> + Send;

    /// The genesis: canonical.
    fn genesis(&self) -> impl Future<Output = Result<Bytes, ErrorBody>> + Send;

    /// What was shown against others: a canonical `EvidenceSet`.
    fn evidence(&self) -> impl Future<Output = Result<Bytes, ErrorBody>> + Send;

    /// The checkpoint of the tip, signed by this node.
    fn checkpoint(&self, of: CheckpointOf) -> impl Future<Output = Result<CheckpointInfo, ErrorBody>> + Send;

    /// Keeps the cosignature of a witness, durably, if the checkpoint is of our history; what is kept of that witness now.
    fn cosigned(&self, by: CosignedBy, note: Bytes) -> impl Future<Output = Result<WitnessInfo, ErrorBody>> + Send;

    /// Who cosigned, and what last.
    fn witnesses(&self) -> impl Future<Output = Result<Vec<WitnessInfo>, ErrorBody>> + Send;

    /// How a recovery stands.
    fn recovery(&self) -> impl Future<Output = Result<RecoveryInfo, ErrorBody>> + Send;

    /// The recovery with which these go on, for the holders to sign: a canonical `SignedRecovery`.
    fn propose_recovery(&self, options: KeepOptions) -> impl Future<Output = Result<Bytes, ErrorBody>> + Send;

    /// Takes a canonical `RecoverySubmission`.
    fn submit_recovery(&self, submission: Bytes) -> impl Future<Output = Result<RecoveryInfo, ErrorBody>> + Send;

    /// What witnesses are asked to cosign: a canonical `RecoveryExport`.
    fn export_recovery(&self) -> impl Future<Output = Result<Bytes, ErrorBody>> + Send;

    /// Fetches a pack that was not sealed for us, with all its shards, and tries to open it; refused, or the promise of
    /// the network is broken.
    fn open_foreign(&self) -> impl Future<Output = Result<OpenedAnswer, ErrorBody>> + Send;

    /// What the node counts and measures, now.
    fn metrics(&self) -> impl Future<Output = Result<Metrics, ErrorBody>> + Send;

    /// Whether the node can take and give records, and what it waits for otherwise.
    fn ready(&self) -> impl Future<Output = Result<Readiness, ErrorBody>> + Send;

    /// Stops the node in order, soon after this returns.
    fn stop(&self) -> impl Future<Output = Result<(), ErrorBody>> + Send;
}
