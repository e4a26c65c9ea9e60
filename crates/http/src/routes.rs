//! The routes: each turns a request into one call of the service.

use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts, Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use bithealth_types::{Digest, NodeId, RecordId};
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt, stream};

use crate::api::{
    COSIGNED_LEN_MAX, Change, CheckpointInfo, CheckpointOf, CosignedBy, EntryAt, ExportFilter, GetEvent, GetOptions,
    HeaderRange, InviteOptions, KeepOptions, ListFilter, MemberInfo, OpenedAnswer, PeerInfo, ProofOf, ProposalInfo,
    PutOptions, RECOVERY_LEN_MAX, RecordInfo, RecoveryInfo, Status, StopAnswer, VerifyOptions, WitnessInfo,
};
use crate::body::{broke_off, lines, streamed};
use crate::error::{ErrorBody, ErrorCode};
use crate::passing::Passed;
use crate::query::{Query, percent_encode};
use crate::range::ByteRange;
use crate::service::{GetAnswer, Service, WrittenStream};

/// Carries the [`RecordInfo`] of a body, as JSON in ASCII.
pub const RECORD_HEADER: &str = "bithealth-record";

/// Carry what an export holds.
pub(crate) const EXPORT_HEADERS: [&str; 2] = ["bithealth-records", "bithealth-bytes"];

/// What everybody may ask who gets in.
pub(crate) fn shared<S: Service>(service: Arc<S>) -> Router {
    Router::new()
        .route("/v1/records", post(put::<S>).get(list::<S>))
        .route("/v1/records/{record}", get(read::<S>))
        .route("/v1/export", get(export::<S>))
        .route("/v1/status", get(status::<S>))
        .route("/v1/peers", get(peers::<S>))
        .route("/v1/members", get(members::<S>))
        .route("/v1/verify", post(verify::<S>))
        .route("/v1/invites", post(invite::<S>))
        .route("/v1/proposals", post(propose::<S>).get(proposals::<S>))
        .route("/v1/proposals/{id}/approvals", post(approve::<S>))
        .route("/v1/nodes/{id}", delete(retire::<S>))
        .route("/v1/restore", get(restore::<S>))
        .route("/v1/ledger/notarisations/{commitment}", post(notarise::<S>))
        .route("/v1/ledger/proof", get(prove::<S>))
        .route("/v1/ledger/headers", get(headers::<S>))
        .route("/v1/ledger/genesis", get(genesis::<S>))
        .route("/v1/ledger/evidence", get(evidence::<S>))
        .route("/v1/ledger/checkpoint", get(checkpoint::<S>))
        .route("/v1/ledger/cosignatures", post(cosigned::<S>))
        .route("/v1/ledger/witnesses", get(witnesses::<S>))
        .route("/v1/recovery", get(recovery::<S>).post(submit_recovery::<S>))
        .route("/v1/recovery/proposal", post(propose_recovery::<S>))
        .route("/v1/recovery/export", get(export_recovery::<S>))
        .route("/v1/foreign-packs/open", post(open_foreign::<S>))
        .route("/v1/stop", post(stop::<S>))
        .merge(numbers())
        .merge(health())
        .fallback(no_route)
        .method_not_allowed_fallback(no_route)
        .with_state(service)
}

/// What a program may ask that only watches: numbers, and nothing that changes anything.
pub(crate) fn numbers<S: Service>() -> Router<Arc<S>> {
    Router::new().route("/metrics", get(metrics::<S>))
}

/// What is asked before a node is trusted with anything.
pub(crate) fn health<S: Service>() -> Router<Arc<S>> {
    Router::new().route("/v1/health", get(alive)).route("/v1/ready", get(ready::<S>))
}

/// What only the socket gives: secrets do not cross a port.
pub(crate) fn socket_only<S: Service>(service: Arc<S>) -> Router {
    Router::new().route("/v1/kit", post(kit::<S>)).with_state(service)
}

/// In place of [`socket_only`], where it is closed.
pub(crate) fn socket_only_refused() -> Router {
    let refuse = || async { ErrorBody::new(ErrorCode::SocketOnly, "the recovery kit is not given out over TCP") };
    Router::new().route("/v1/kit", post(refuse))
}

/// The parameters of a request.
struct Params<Q>(Q);

impl<Q: Query, S: Send + Sync> FromRequestParts<S> for Params<Q> {
    type Rejection = ErrorBody;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ErrorBody> {
        let bad = |error: &dyn std::error::Error| ErrorBody::new(ErrorCode::BadRequest, error);
        let axum::extract::Query(pairs) =
            axum::extract::Query::<Vec<(String, String)>>::from_request_parts(parts, state)
                .await
                .map_err(|error| bad(&error))?;
        Q::from_pairs(&pairs).map(Self).map_err(|error| bad(&error))
    }
}

async fn put<S: Service>(
    State(service): State<Arc<S>>,
    Params(options): Params<PutOptions>,
    request: Request,
) -> Result<Response, ErrorBody> {
    let body = request.into_body().into_data_stream();
    let body = body.map_err(|error| ErrorBody::new(ErrorCode::BadRequest, format_args!("the body broke off: {error}")));
    Ok(lines(service.put(options, body.boxed()).await?))
}

async fn list<S: Service>(
    State(service): State<Arc<S>>,
    Params(filter): Params<ListFilter>,
) -> Result<Response, ErrorBody> {
    Ok(lines(service.list(filter).await?))
}

async fn read<S: Service>(
    State(service): State<Arc<S>>,
    Path(record): Path<String>,
    Params(options): Params<GetOptions>,
    ConnectInfo(passed): ConnectInfo<Passed>,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, ErrorBody> {
    let record: RecordId = record.parse().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error))?;
    let range = range_of(&headers, &record);
    match options.into {
        Some(offset) if method != Method::HEAD => {
            written(service.get_into(record, range, passed.take()?, offset).await?).await
        }
        _ => part(service.get(record, range).await?).await,
    }
}

/// How the writing goes on. Waits for its first result, so that what fails before is answered with its own status.
async fn written(GetAnswer { info, range, mut body }: GetAnswer<WrittenStream>) -> Result<Response, ErrorBody> {
    let first = body.next().await.transpose()?;
    let found = GetEvent::Found { info, start: range.start, end: range.end };
    let later = stream::iter(first.map(Ok)).chain(body).map(|written| match written {
        Ok(bytes) => GetEvent::Written { bytes },
        Err(error) => {
            broke_off(&error);
            GetEvent::Failed { error }
        }
    });
    Ok(lines(stream::iter([found]).chain(later).boxed()))
}

/// The range asked for, unless it is for another version than this one (If-Range, RFC 9110, 13.1.5).
fn range_of(headers: &HeaderMap, record: &RecordId) -> Option<ByteRange> {
    let text = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    if text(header::IF_RANGE).is_some_and(|tag| tag != entity_tag(record)) {
        return None;
    }
    text(header::RANGE).and_then(ByteRange::from_header)
}

/// A record never changes, so its id is its entity tag.
fn entity_tag(record: &RecordId) -> String {
    format!("\"{record}\"")
}

async fn part(GetAnswer { info, range, body }: GetAnswer) -> Result<Response, ErrorBody> {
    let whole = range == (0..info.bytes.0);
    let mut response = Response::new(streamed(body).await?);
    *response.status_mut() = if whole { StatusCode::OK } else { StatusCode::PARTIAL_CONTENT };
    let mut set = |name: header::HeaderName, value: String| {
        // A text that is no header value (a media type with a line break) is left out; the JSON has it.
        response.headers_mut().extend(HeaderValue::try_from(value).ok().map(|value| (name, value)));
    };
    set(header::ACCEPT_RANGES, "bytes".to_owned());
    set(header::CONTENT_LENGTH, (range.end - range.start).to_string());
    set(header::ETAG, entity_tag(&info.record));
    set(header::CONTENT_TYPE, media_type(&info));
    set(header::CONTENT_DISPOSITION, format!("attachment; filename*=UTF-8''{}", percent_encode(&info.name))); // RFC 8187
    set(header::HeaderName::from_static(RECORD_HEADER), ascii_json(&info));
    if !whole {
        set(header::CONTENT_RANGE, format!("bytes {}-{}/{}", range.start, range.end - 1, info.bytes.0));
    }
    Ok(response)
}

fn media_type(info: &RecordInfo) -> String {
    if info.media_type.is_empty() { "application/octet-stream".to_owned() } else { info.media_type.clone() }
}

/// JSON in which every character past ASCII is escaped, as a header needs it.
fn ascii_json(info: &RecordInfo) -> String {
    let json = serde_json::to_string(info).expect("texts and numbers become JSON");
    let mut ascii = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            ' '..='~' => ascii.push(character),
            _ => {
                let units =
                    character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")).collect::<String>();
                ascii.push_str(&units);
            }
        }
    }
    ascii
}

async fn export<S: Service>(
    State(service): State<Arc<S>>,
    Params(filter): Params<ExportFilter>,
) -> Result<Response, ErrorBody> {
    let answer = service.get_all(filter).await?;
    let [records, bytes] = EXPORT_HEADERS;
    let headers = [
        (header::CONTENT_TYPE.as_str(), "application/vnd.bithealth.frames".to_owned()),
        (records, answer.records.to_string()),
        (bytes, answer.bytes.to_string()),
    ];
    Ok((headers, streamed(answer.body).await?).into_response())
}

async fn status<S: Service>(State(service): State<Arc<S>>) -> Result<Json<Status>, ErrorBody> {
    service.status().await.map(Json)
}

async fn peers<S: Service>(State(service): State<Arc<S>>) -> Result<Json<Vec<PeerInfo>>, ErrorBody> {
    service.peers().await.map(Json)
}

async fn members<S: Service>(State(service): State<Arc<S>>) -> Result<Json<Vec<MemberInfo>>, ErrorBody> {
    service.members().await.map(Json)
}

async fn verify<S: Service>(
    State(service): State<Arc<S>>,
    Params(options): Params<VerifyOptions>,
) -> Result<Response, ErrorBody> {
    Ok(lines(service.verify(options).await?))
}

async fn invite<S: Service>(
    State(service): State<Arc<S>>,
    Params(options): Params<InviteOptions>,
) -> Result<Response, ErrorBody> {
    service.invite(options).await.map(|invite| Json(invite).into_response())
}

async fn propose<S: Service>(
    State(service): State<Arc<S>>,
    Params(change): Params<Change>,
) -> Result<Json<ProposalInfo>, ErrorBody> {
    service.propose(change).await.map(Json)
}

async fn proposals<S: Service>(State(service): State<Arc<S>>) -> Result<Json<Vec<ProposalInfo>>, ErrorBody> {
    service.proposals().await.map(Json)
}

async fn approve<S: Service>(
    State(service): State<Arc<S>>,
    Path(id): Path<String>,
) -> Result<Json<ProposalInfo>, ErrorBody> {
    let id: Digest = id.parse().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error))?;
    service.approve(id).await.map(Json)
}

async fn retire<S: Service>(State(service): State<Arc<S>>, Path(id): Path<String>) -> Result<Json<EntryAt>, ErrorBody> {
    let id: NodeId = id.parse().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error))?;
    service.retire(id).await.map(Json)
}

async fn restore<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    Ok(lines(service.restore().await?))
}

async fn kit<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    let headers = [(header::CACHE_CONTROL, "no-store")];
    service.kit().await.map(|text| (headers, text).into_response())
}

async fn notarise<S: Service>(
    State(service): State<Arc<S>>,
    Path(commitment): Path<String>,
) -> Result<Json<EntryAt>, ErrorBody> {
    let commitment: Digest = commitment.parse().map_err(|error| ErrorBody::new(ErrorCode::BadRequest, error))?;
    service.notarise(commitment).await.map(Json)
}

async fn prove<S: Service>(
    State(service): State<Arc<S>>,
    Params(what): Params<ProofOf>,
) -> Result<Response, ErrorBody> {
    service.prove(what).await.map(IntoResponse::into_response)
}

async fn headers<S: Service>(
    State(service): State<Arc<S>>,
    Params(range): Params<HeaderRange>,
) -> Result<Response, ErrorBody> {
    service.headers(range).await.map(IntoResponse::into_response)
}

async fn genesis<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    service.genesis().await.map(IntoResponse::into_response)
}

async fn evidence<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    service.evidence().await.map(IntoResponse::into_response)
}

async fn checkpoint<S: Service>(
    State(service): State<Arc<S>>,
    Params(of): Params<CheckpointOf>,
) -> Result<Json<CheckpointInfo>, ErrorBody> {
    service.checkpoint(of).await.map(Json)
}

async fn cosigned<S: Service>(
    State(service): State<Arc<S>>,
    Params(by): Params<CosignedBy>,
    request: Request,
) -> Result<Json<WitnessInfo>, ErrorBody> {
    service.cosigned(by, body("checkpoint", request, COSIGNED_LEN_MAX).await?).await.map(Json)
}

async fn witnesses<S: Service>(State(service): State<Arc<S>>) -> Result<Json<Vec<WitnessInfo>>, ErrorBody> {
    service.witnesses().await.map(Json)
}

async fn recovery<S: Service>(State(service): State<Arc<S>>) -> Result<Json<RecoveryInfo>, ErrorBody> {
    service.recovery().await.map(Json)
}

async fn propose_recovery<S: Service>(
    State(service): State<Arc<S>>,
    Params(options): Params<KeepOptions>,
) -> Result<Response, ErrorBody> {
    service.propose_recovery(options).await.map(IntoResponse::into_response)
}

async fn submit_recovery<S: Service>(
    State(service): State<Arc<S>>,
    request: Request,
) -> Result<Json<RecoveryInfo>, ErrorBody> {
    service.submit_recovery(body("recovery", request, RECOVERY_LEN_MAX).await?).await.map(Json)
}

async fn export_recovery<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    service.export_recovery().await.map(IntoResponse::into_response)
}

async fn open_foreign<S: Service>(State(service): State<Arc<S>>) -> Result<Json<OpenedAnswer>, ErrorBody> {
    service.open_foreign().await.map(Json)
}

async fn metrics<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    let page = crate::metrics::encode(service.metrics().await?);
    Ok(([(header::CONTENT_TYPE, crate::metrics::CONTENT_TYPE)], page).into_response())
}

/// That this is answered says that the process runs and its tasks go on; nothing else is asked, or a slow disk would have
/// a node killed that only needs time.
async fn alive() -> Json<serde_json::Value> {
    Json(serde_json::json!({ "alive": true }))
}

async fn ready<S: Service>(State(service): State<Arc<S>>) -> Result<Response, ErrorBody> {
    let readiness = service.ready().await?;
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok((status, Json(readiness)).into_response())
}

async fn stop<S: Service>(State(service): State<Arc<S>>) -> Result<Json<StopAnswer>, ErrorBody> {
    service.stop().await.map(|()| Json(StopAnswer { stopping: true }))
}

/// The whole body of a request.
async fn body(what: &str, request: Request, max: usize) -> Result<Bytes, ErrorBody> {
    let refused =
        |error| ErrorBody::new(ErrorCode::BadRequest, format_args!("no {what} of at most {max} bytes came: {error}"));
    axum::body::to_bytes(request.into_body(), max).await.map_err(refused)
}

pub(crate) async fn no_route(request: Request) -> ErrorBody {
    ErrorBody::new(ErrorCode::NoRoute, format_args!("there is no {} {}", request.method(), request.uri().path()))
}
