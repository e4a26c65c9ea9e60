//! The command line's side of the local API: HTTP over the node's socket, everything streamed.

mod into;
mod lines;

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bithealth_http::api::{
    Change, CheckpointInfo, CheckpointOf, CosignedBy, EntryAt, ExportFilter, HeaderRange, InviteInfo, InviteOptions,
    KeepOptions, ListFilter, MemberInfo, OpenedAnswer, PeerInfo, ProofOf, ProposalInfo, PutEvent, PutOptions,
    RecordInfo, RecoveryInfo, RestoreEvent, Status, StopAnswer, VerifyEvent, VerifyOptions, WitnessInfo,
};
use bithealth_http::{ByteRange, ErrorBody, Frames, Query, RECORD_HEADER};
use bithealth_types::{Digest, NodeId, RecordId};
use bytes::{Bytes, BytesMut};
use futures::channel::mpsc;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, BodyStream, Empty, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{CONTENT_RANGE, RANGE};
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::UnixStream;

pub use into::GetIntoAnswer;
pub use lines::Lines;

/// Read buffer of a connection: large, since a body is gigabytes and the socket is local.
const BUFFER_LEN: usize = 1 << 20;

/// Most bytes of an answer that is read whole.
const ANSWER_LEN_MAX: usize = 64 << 20;

/// Buffers of a put under way between the reader of files and the socket.
const PUT_BUFFER_COUNT: usize = 8; // of about 1 MiB each

/// How often a read that broke off is taken up again without a byte of progress in between.
const RESUME_COUNT_MAX: u32 = 3;

/// Why the node did not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody answers on the socket.
    #[error("no node answers on {socket}")]
    NotRunning {
        /// Where we asked.
        socket: PathBuf,
    },
    /// The socket belongs to somebody else.
    #[error("the node's socket {socket} may not be opened by this user")]
    Denied {
        /// Where we asked.
        socket: PathBuf,
    },
    /// The socket cannot be used for another reason.
    #[error("the node's socket {socket}: {error}")]
    Socket {
        /// Where we asked.
        socket: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The node refused, and says why.
    #[error("{0}")]
    Refused(ErrorBody),
    /// The connection ended before the answer did.
    #[error("the node broke off in the middle of its answer: {0}")]
    BrokeOff(hyper::Error),
    /// The body ended before its length.
    #[error("{missing} bytes of the answer are missing")]
    CutShort {
        /// How many.
        missing: u64,
    },
    /// Not what the node of this version answers.
    #[error("the answer to {path} cannot be read: {error}")]
    Unreadable {
        /// What was asked.
        path: String,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// An answer, or a line of one, longer than any may be.
    #[error("the answer to {path} is longer than {max} bytes")]
    TooLong {
        /// What was asked.
        path: String,
        /// The limit.
        max: usize,
    },
    /// An answer that begins with something else than is due.
    #[error("the answer to {path} begins with something else than is due")]
    Beginning {
        /// What was asked.
        path: String,
    },
    /// The file that the answer goes into cannot be handed over, or not be written.
    #[error("the file that it goes into: {0}")]
    File(io::Error),
    /// The answer lacks a header it always has, or has it with another content.
    #[error("the answer to {path} has no proper {header} header")]
    Header {
        /// What was asked.
        path: String,
        /// What is missing.
        header: &'static str,
    },
}

impl ClientError {
    /// What a person can do about it.
    pub fn next_step(&self) -> String {
        match self {
            Self::NotRunning { socket } => match socket.parent() {
                Some(folder) => format!("start it with `bithealth --data-dir {} node`", folder.display()),
                None => "start it with `bithealth node`".to_owned(),
            },
            Self::Denied { .. } => {
                "run this as the user of the node, as in `sudo -u bithealth bithealth ...`".to_owned()
            }
            Self::Socket { .. } => "pass the node's own folder as --data-dir".to_owned(),
            Self::Refused(body) => body.next_step.clone(),
            Self::BrokeOff(_) | Self::CutShort { .. } => {
                "see the node's log; nothing it acknowledged is lost".to_owned()
            }
            Self::File(_) => "free space where the file lies, or choose another place for it".to_owned(),
            Self::Unreadable { .. } | Self::TooLong { .. } | Self::Header { .. } | Self::Beginning { .. } => {
                "the command line and the node may be of different versions; compare `bithealth --version`".to_owned()
            }
        }
    }
}

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// Asks the node behind one socket. Each question has its own connection.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

/// A record, or a part of one, as it comes.
pub struct GetAnswer {
    /// What it is.
    pub info: RecordInfo,
    /// Which of its bytes come.
    pub range: Range<u64>,
    /// Exactly those bytes.
    pub body: BoxStream<'static, Result<Bytes, ClientError>>,
}

/// Many records, as they come.
pub struct ExportAnswer {
    /// How many.
    pub records: u64,
    /// Of plaintext.
    pub bytes: u64,
    /// `PutFrame`s.
    pub frames: Frames<BoxStream<'static, Result<Bytes, ClientError>>>,
}

impl Client {
    /// Asks the node on `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self { socket: socket.into() }
    }

    /// Where the node is asked.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Starts a put: frames go into the sender, which is dropped at their end; events come out at the same time, and must
    /// be read while frames are sent.
    ///
    /// # Errors
    /// [`ClientError`], with nothing sent yet, if the node does not run or refuses such a put.
    pub async fn put(&self, options: &PutOptions) -> Result<(mpsc::Sender<Bytes>, Lines<PutEvent>), ClientError> {
        let (sender, receiver) = mpsc::channel(PUT_BUFFER_COUNT);
        let body = StreamBody::new(receiver.map(|bytes| Ok(Frame::data(bytes))));
        let path = format!("/v1/records{}", options.to_query());
        let answer = self.send(Method::POST, &path, None, BodyExt::boxed(body)).await?;
        Ok((sender, Lines::new(path, answer)))
    }

    /// A record, or a part of it. A read that breaks off is taken up where it stopped.
    ///
    /// # Errors
    /// [`ClientError`] if the node does not run or refuses; later from the body.
    pub async fn get(&self, record: RecordId, range: Option<ByteRange>) -> Result<GetAnswer, ClientError> {
        let (info, range, body) = self.get_once(record, range).await?;
        let state = Resuming { client: self.clone(), record, left: range.clone(), body, attempts: 0 };
        let body = futures::stream::try_unfold(state, Resuming::next).boxed();
        Ok(GetAnswer { info, range, body })
    }

    async fn get_once(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
    ) -> Result<(RecordInfo, Range<u64>, BodyStream<Incoming>), ClientError> {
        let path = format!("/v1/records/{record}");
        let answer = self.send(Method::GET, &path, range, Empty::new().boxed()).await?;
        let header = |header| ClientError::Header { path: path.clone(), header };
        let info = answer.headers().get(RECORD_HEADER).ok_or_else(|| header(RECORD_HEADER))?;
        let info: RecordInfo = serde_json::from_slice(info.as_bytes()).map_err(|_| header(RECORD_HEADER))?;
        let range = match answer.headers().get(CONTENT_RANGE) {
            None => 0..info.bytes.0,
            Some(value) => value.to_str().ok().and_then(content_range).ok_or_else(|| header("content-range"))?,
        };
        Ok((info, range, BodyStream::new(answer.into_body())))
    }

    /// The records that fit.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn list(&self, filter: &ListFilter) -> Result<Lines<RecordInfo>, ClientError> {
        self.lines(Method::GET, format!("/v1/records{}", filter.to_query())).await
    }

    /// The records that fit, with their bytes.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn get_all(&self, filter: &ExportFilter) -> Result<ExportAnswer, ClientError> {
        let path = format!("/v1/export{}", filter.to_query());
        let answer = self.send(Method::GET, &path, None, Empty::new().boxed()).await?;
        let number = |header: &'static str| {
            let value = answer.headers().get(header).and_then(|value| value.to_str().ok()?.parse().ok());
            value.ok_or_else(|| ClientError::Header { path: path.clone(), header })
        };
        let (records, bytes) = (number("bithealth-records")?, number("bithealth-bytes")?);
        Ok(ExportAnswer { records, bytes, frames: Frames::new(data(answer.into_body())) })
    }

    /// The node and its network, at a glance.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.json(Method::GET, "/v1/status".to_owned()).await
    }

    /// Who is connected.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn peers(&self) -> Result<Vec<PeerInfo>, ClientError> {
        self.json(Method::GET, "/v1/peers".to_owned()).await
    }

    /// The organisations of the network.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn members(&self) -> Result<Vec<MemberInfo>, ClientError> {
        self.json(Method::GET, "/v1/members".to_owned()).await
    }

    /// Has the node check what it holds.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn verify(&self, options: VerifyOptions) -> Result<Lines<VerifyEvent>, ClientError> {
        self.lines(Method::POST, format!("/v1/verify{}", options.to_query())).await
    }

    /// Puts a change to the vote.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn propose(&self, change: &Change) -> Result<ProposalInfo, ClientError> {
        self.json(Method::POST, format!("/v1/proposals{}", change.to_query())).await
    }

    /// What was proposed, the open ones first.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn proposals(&self) -> Result<Vec<ProposalInfo>, ClientError> {
        self.json(Method::GET, "/v1/proposals".to_owned()).await
    }

    /// Approves a proposal.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn approve(&self, id: &Digest) -> Result<ProposalInfo, ClientError> {
        self.json(Method::POST, format!("/v1/proposals/{id}/approvals")).await
    }

    /// Takes another node of our organisation out for good.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn retire(&self, node: &NodeId) -> Result<EntryAt, ClientError> {
        self.json(Method::DELETE, format!("/v1/nodes/{node}")).await
    }

    /// Has the node make an invite.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn invite(&self, options: &InviteOptions) -> Result<InviteInfo, ClientError> {
        self.json(Method::POST, format!("/v1/invites{}", options.to_query())).await
    }

    /// The recovery kit, as text.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn kit(&self) -> Result<String, ClientError> {
        let text = self.whole(Method::POST, "/v1/kit").await?;
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    /// How the restore of the node goes on.
    ///
    /// # Errors
    /// [`ClientError`]
    pub async fn restore(&self) -> Result<Lines<RestoreEvent>, ClientError> {
        self.lines(Method::GET, "/v1/restore".to_owned()).await
    }

    /// Lets the node try to open a pack of others.
    ///
    /// # Errors
    /// [`ClientError`]; that it was not granted is the answer due.
    pub async fn open_foreign(&self) -> Result<OpenedAnswer, ClientError> {
        self.json(Method::POST, "/v1/foreign-packs/open".to_owned()).await
    }

    /// Stops the node in order.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop(&self) -> Result<StopAnswer, ClientError> {
        self.json(Method::POST, "/v1/stop".to_owned()).await
    }

    /// Puts a commitment on the ledger.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn notarise(&self, commitment: &Digest) -> Result<EntryAt, ClientError> {
        self.json(Method::POST, format!("/v1/ledger/notarisations/{commitment}")).await
    }

    /// A proof, as bytes of a `Proof`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn prove(&self, what: &ProofOf) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, &format!("/v1/ledger/proof{}", what.to_query())).await
    }

    /// Headers from a height on, as frames of `SignedHeader`; none past the tip.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn headers(&self, range: HeaderRange) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, &format!("/v1/ledger/headers{}", range.to_query())).await
    }

    /// The genesis, as bytes of a `Genesis`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn genesis(&self) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, "/v1/ledger/genesis").await
    }

    /// What was shown against others, as bytes of an `EvidenceSet`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn evidence(&self) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, "/v1/ledger/evidence").await
    }

    /// The checkpoint of the node's tip, signed by it.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn checkpoint(&self, of: CheckpointOf) -> Result<CheckpointInfo, ClientError> {
        self.json(Method::GET, format!("/v1/ledger/checkpoint{}", of.to_query())).await
    }

    /// Hands over a cosigned checkpoint; what the node keeps of that witness now.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn cosigned(&self, by: &CosignedBy, note: Bytes) -> Result<WitnessInfo, ClientError> {
        self.post(format!("/v1/ledger/cosignatures{}", by.to_query()), note).await
    }

    /// How a recovery stands.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recovery(&self) -> Result<RecoveryInfo, ClientError> {
        self.json(Method::GET, "/v1/recovery".to_owned()).await
    }

    /// The recovery with which these go on, as bytes of a `SignedRecovery`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn propose_recovery(&self, options: &KeepOptions) -> Result<Bytes, ClientError> {
        self.whole(Method::POST, &format!("/v1/recovery/proposal{}", options.to_query())).await
    }

    /// Hands over a `RecoverySubmission`; how the recovery stands then.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn submit_recovery(&self, submission: Bytes) -> Result<RecoveryInfo, ClientError> {
        self.post("/v1/recovery".to_owned(), submission).await
    }

    /// What witnesses are asked to cosign, as bytes of a `RecoveryExport`.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn export_recovery(&self) -> Result<Bytes, ClientError> {
        self.whole(Method::GET, "/v1/recovery/export").await
    }

    /// Who cosigned the node's history.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn witnesses(&self) -> Result<Vec<WitnessInfo>, ClientError> {
        self.json(Method::GET, "/v1/ledger/witnesses".to_owned()).await
    }

    async fn post<T: DeserializeOwned>(&self, path: String, body: Bytes) -> Result<T, ClientError> {
        let answer = self.send(Method::POST, &path, None, Full::new(body).boxed()).await?;
        let bytes = gather(&path, answer).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Unreadable { path, error })
    }

    async fn lines<T>(&self, method: Method, path: String) -> Result<Lines<T>, ClientError> {
        let answer = self.send(method, &path, None, Empty::new().boxed()).await?;
        Ok(Lines::new(path, answer))
    }

    async fn json<T: DeserializeOwned>(&self, method: Method, path: String) -> Result<T, ClientError> {
        let bytes = self.whole(method, &path).await?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Unreadable { path, error })
    }

    async fn whole(&self, method: Method, path: &str) -> Result<Bytes, ClientError> {
        let answer = self.send(method, path, None, Empty::new().boxed()).await?;
        gather(path, answer).await
    }

    /// One question on a new connection. The answer's head has come when this returns.
    async fn send(
        &self,
        method: Method,
        path: &str,
        range: Option<ByteRange>,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let stream = self.connect().await?;
        self.send_over(stream, method, path, range, body).await
    }

    async fn connect(&self) -> Result<UnixStream, ClientError> {
        UnixStream::connect(&self.socket).await.map_err(|error| self.unconnected(error))
    }

    async fn send_over(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        method: Method,
        path: &str,
        range: Option<ByteRange>,
        body: Body,
    ) -> Result<Response<Incoming>, ClientError> {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .max_buf_size(BUFFER_LEN)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(ClientError::BrokeOff)?;
        tokio::spawn(connection); // ends with the question; its error reaches whoever reads the answer
        let mut request = Request::builder().method(method).uri(path).header("host", "bithealth");
        if let Some(range) = range {
            request = request.header(RANGE, format!("bytes={range}"));
        }
        let request = request.body(body).expect("paths and headers are made of ASCII");
        let answer = sender.send_request(request).await.map_err(ClientError::BrokeOff)?;
        if answer.status().is_success() {
            return Ok(answer);
        }
        let bytes = gather(path, answer).await?;
        let body = serde_json::from_slice(&bytes);
        Err(body.map_or_else(|error| ClientError::Unreadable { path: path.to_owned(), error }, ClientError::Refused))
    }

    fn unconnected(&self, error: io::Error) -> ClientError {
        let socket = self.socket.clone();
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => ClientError::NotRunning { socket },
            io::ErrorKind::PermissionDenied => ClientError::Denied { socket },
            _ => ClientError::Socket { socket, error },
        }
    }
}

/// The bytes of a body, as they come.
fn data(body: Incoming) -> BoxStream<'static, Result<Bytes, ClientError>> {
    let frames = BodyStream::new(body);
    let data = frames.map(|frame| frame.map(|frame| frame.into_data().ok()).map_err(ClientError::BrokeOff));
    data.try_filter_map(|data| std::future::ready(Ok(data))).boxed()
}

async fn gather(path: &str, answer: Response<Incoming>) -> Result<Bytes, ClientError> {
    let mut body = data(answer.into_body());
    let mut bytes = BytesMut::new();
    while let Some(more) = body.try_next().await? {
        if bytes.len() + more.len() > ANSWER_LEN_MAX {
            return Err(ClientError::TooLong { path: path.to_owned(), max: ANSWER_LEN_MAX });
        }
        bytes.extend_from_slice(&more);
    }
    Ok(bytes.freeze())
}

/// `bytes first-last/len` (RFC 9110, 14.4).
fn content_range(value: &str) -> Option<Range<u64>> {
    let (span, _) = value.strip_prefix("bytes ")?.split_once('/')?;
    let (first, last) = span.split_once('-')?;
    Some(first.parse().ok()?..last.parse::<u64>().ok()?.checked_add(1)?)
}

/// A read that goes on after its connection broke.
struct Resuming {
    client: Client,
    record: RecordId,
    left: Range<u64>,
    body: BodyStream<Incoming>,
    attempts: u32,
}

impl Resuming {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, ClientError> {
        while self.left.start < self.left.end {
            match self.body.next().await {
                Some(Ok(frame)) => {
                    let Ok(bytes) = frame.into_data() else { continue };
                    self.left.start += bytes.len() as u64;
                    self.attempts = 0;
                    return Ok(Some((bytes, self)));
                }
                Some(Err(error)) if self.attempts == RESUME_COUNT_MAX => return Err(ClientError::BrokeOff(error)),
                None if self.attempts == RESUME_COUNT_MAX => {
                    return Err(ClientError::CutShort { missing: self.left.end - self.left.start });
                }
                // A refusal of the rest says why the first answer broke off.
                Some(Err(_)) | None => {
                    self.attempts += 1;
                    let rest = ByteRange::Span { first: self.left.start, last: self.left.end - 1 };
                    (_, _, self.body) = self.client.get_once(self.record, Some(rest)).await?;
                }
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
pub(crate) mod memory;
#[cfg(test)]
mod tests;
