//! The routes over a real socket, with a service that keeps records in memory.

mod memory;

use std::sync::Arc;

use bithealth_http::api::{
    COSIGNED_LEN_MAX, GetEvent, ListFilter, PutEvent, PutOptions, Readiness, RecordInfo, Wait, WitnessInfo,
};
use bithealth_http::{ErrorBody, ErrorCode, MonitorServer, Query, RECORD_HEADER, TcpServer, WithFile};
use bithealth_types::{ByteLen, RecordId};
use bytes::Bytes;
use futures::channel::mpsc;
use futures::{SinkExt, Stream, StreamExt};
use http_body_util::{BodyExt, Empty, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_RANGE, RANGE};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use memory::{Memory, Node, framed};

type Body = http_body_util::combinators::BoxBody<Bytes, std::convert::Infallible>;

async fn send<T>(io: T, request: Request<Body>) -> Response<Incoming>
where
    T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection);
    sender.send_request(request).await.unwrap()
}

fn request(method: Method, path: &str, headers: &[(hyper::header::HeaderName, &str)]) -> Request<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    request.body(Empty::new().boxed()).unwrap()
}

/// A put whose body comes as the stream does.
fn put(query: &str, frames: impl Stream<Item = Bytes> + Send + Sync + 'static) -> Request<Body> {
    let body = StreamBody::new(frames.map(|bytes| Ok(Frame::data(bytes))));
    Request::post(format!("/v1/records{query}")).body(BodyExt::boxed(body)).unwrap()
}

async fn ask(node: &Node, method: Method, path: &str) -> Response<Incoming> {
    send(node.connect().await, request(method, path, &[])).await
}

async fn bytes(response: Response<Incoming>) -> Bytes {
    response.into_body().collect().await.unwrap().to_bytes()
}

async fn error(response: Response<Incoming>) -> ErrorBody {
    serde_json::from_slice(&bytes(response).await).unwrap()
}

fn lines<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Vec<T> {
    bytes.split(|byte| *byte == b'\n').filter(|l| !l.is_empty()).map(|l| serde_json::from_slice(l).unwrap()).collect()
}

/// Ten bytes, 0 to 9, of "Müller".
const TEN: RecordId = RecordId([10; 16]);

fn with_ten() -> Memory {
    let memory = Memory::default();
    memory.insert(TEN, "Müller/größe.bin", (0..10).collect());
    memory
}

async fn get_range(node: &Node, range: &str) -> Response<Incoming> {
    send(node.connect().await, request(Method::GET, &format!("/v1/records/{TEN}"), &[(RANGE, range)])).await
}

#[tokio::test]
async fn a_whole_record_comes_with_what_is_known_of_it() {
    let node = Node::start(with_ten()).await;
    let response = ask(&node, Method::GET, &format!("/v1/records/{TEN}")).await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_LENGTH], "10");
    assert_eq!(response.headers()[CONTENT_TYPE], "application/octet-stream");
    assert_eq!(response.headers()[ETAG], format!("\"{TEN}\""));
    let info: RecordInfo = serde_json::from_slice(response.headers()[RECORD_HEADER].as_bytes()).unwrap();
    assert_eq!(info.name, "Müller/größe.bin");
    assert_eq!(bytes(response).await, (0..10).collect::<Vec<u8>>());
}

#[tokio::test]
async fn a_range_is_answered_with_its_bytes_only() {
    let node = Node::start(with_ten()).await;
    for (range, content_range, want) in [
        ("bytes=2-4", "bytes 2-4/10", &[2, 3, 4][..]),
        ("bytes=8-", "bytes 8-9/10", &[8, 9]),
        ("bytes=-1", "bytes 9-9/10", &[9]),
        ("bytes=7-99", "bytes 7-9/10", &[7, 8, 9]),
    ] {
        let response = get_range(&node, range).await;
        assert_eq!(response.status(), StatusCode::PARTIAL_CONTENT, "{range}");
        assert_eq!(response.headers()[CONTENT_RANGE], content_range);
        assert_eq!(bytes(response).await, want, "{range}");
    }
}

#[tokio::test]
async fn a_record_is_written_into_the_file_that_came() {
    let node = Node::start(with_ten()).await;
    let file = tempfile::tempfile().unwrap();
    let into = |path: &str| request(Method::GET, &format!("/v1/records/{TEN}?into={path}"), &[(RANGE, "bytes=2-4")]);
    let carrying = WithFile::new(node.connect().await, file.try_clone().unwrap().into());
    let response = send(carrying, into("1")).await;
    assert_eq!(response.status(), StatusCode::OK);
    let events: Vec<GetEvent> = lines(&bytes(response).await);
    assert!(matches!(&events[0], GetEvent::Found { info, start: 2, end: 5 } if info.record == TEN), "{events:?}");
    assert_eq!(events[1..], [GetEvent::Written { bytes: ByteLen(3) }]);
    let mut got = [9; 4];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut got, 0).unwrap();
    assert_eq!(got, [0, 2, 3, 4]);
    // Without a file, or with what is none, nothing is written anywhere.
    let pipe = WithFile::new(node.connect().await, std::io::pipe().unwrap().1.into());
    let refused = error(send(node.connect().await, into("0")).await).await;
    assert!(refused.error == ErrorCode::NoFile && refused.next_step.contains("without `into`"), "{refused:?}");
    let refused = error(send(pipe, into("0")).await).await;
    assert!(refused.error == ErrorCode::BadRequest && refused.next_step.contains("regular file"), "{refused:?}");
    // Who only asks what it is gets that.
    let carrying = WithFile::new(node.connect().await, file.try_clone().unwrap().into());
    let head = request(Method::HEAD, &format!("/v1/records/{TEN}?into=0"), &[]);
    assert_eq!(send(carrying, head).await.headers()[CONTENT_LENGTH], "10");
    assert_eq!(file.metadata().unwrap().len(), 4);
}

#[tokio::test]
async fn a_write_that_fails_says_so_behind_what_was_written() {
    let memory = with_ten();
    memory.fail_bodies_after(4);
    let node = Node::start(memory).await;
    let carrying = WithFile::new(node.connect().await, tempfile::tempfile().unwrap().into());
    let response = send(carrying, request(Method::GET, &format!("/v1/records/{TEN}?into=0"), &[])).await;
    let events: Vec<GetEvent> = lines(&bytes(response).await);
    assert_eq!(events[1], GetEvent::Written { bytes: ByteLen(4) });
    assert!(
        matches!(&events[2..], [GetEvent::Failed { error }] if error.error == ErrorCode::Unreachable),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_range_past_the_end_is_refused_with_the_length() {
    let node = Node::start(with_ten()).await;
    let response = get_range(&node, "bytes=10-").await;
    assert_eq!(response.status(), StatusCode::RANGE_NOT_SATISFIABLE);
    assert_eq!(response.headers()[CONTENT_RANGE], "bytes */10");
    assert_eq!(error(response).await, ErrorBody::range_not_satisfiable(&TEN, 10));
}

#[tokio::test]
async fn a_range_for_another_version_is_ignored() {
    let node = Node::start(with_ten()).await;
    let headers = [(RANGE, "bytes=0-0"), (IF_RANGE, "\"another\"")];
    let response = send(node.connect().await, request(Method::GET, &format!("/v1/records/{TEN}"), &headers)).await;
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_missing_record_says_so_and_what_to_do() {
    let node = Node::start(Memory::default()).await;
    let response = ask(&node, Method::GET, &format!("/v1/records/{TEN}")).await;
    assert_eq!(response.status(), StatusCode::NOT_FOUND);
    let body = error(response).await;
    assert_eq!(body.error, ErrorCode::NotFound);
    assert!(body.message.contains(&TEN.to_string()) && body.next_step.contains("bithealth ls"), "{body:?}");
}

#[tokio::test]
async fn what_cannot_be_read_is_a_bad_request() {
    let node = Node::start(Memory::default()).await;
    for path in ["/v1/records/xyz", "/v1/records?limit=many", "/v1/records?unknown=1", "/v1/export?own=perhaps"] {
        let response = ask(&node, Method::GET, path).await;
        assert_eq!(response.status(), StatusCode::BAD_REQUEST, "{path}");
        assert_eq!(error(response).await.error, ErrorCode::BadRequest);
    }
}

#[tokio::test]
async fn an_unknown_route_names_what_was_asked() {
    let node = Node::start(Memory::default()).await;
    for (method, path) in [(Method::GET, "/v2/records"), (Method::DELETE, "/v1/records")] {
        let body = error(ask(&node, method, path).await).await;
        assert_eq!(body.error, ErrorCode::NoRoute);
        assert!(body.message.contains(path), "{body:?}");
    }
}

#[tokio::test]
async fn a_record_that_fails_midway_is_cut_off_and_not_taken_for_whole() {
    let memory = with_ten();
    memory.fail_bodies_after(4);
    let node = Node::start(memory).await;
    let response = ask(&node, Method::GET, &format!("/v1/records/{TEN}")).await;
    response.into_body().collect().await.unwrap_err();
}

#[tokio::test]
async fn a_record_that_fails_before_its_first_byte_is_answered_with_the_reason() {
    let memory = with_ten();
    memory.fail_bodies_after(0);
    let node = Node::start(memory).await;
    for path in [format!("/v1/records/{TEN}"), "/v1/export".to_owned()] {
        let body = error(ask(&node, Method::GET, &path).await).await;
        assert_eq!(body.error, ErrorCode::Unreachable, "{path}");
    }
}

#[tokio::test]
async fn a_put_answers_while_its_body_still_comes() {
    let node = Node::start(Memory::default()).await;
    let (mut body, frames) = mpsc::channel::<Bytes>(1);
    let options = PutOptions { for_: vec!["Süd & Co".into()], wait: Wait::Local, ..PutOptions::default() };
    let request = put(&options.to_query(), frames);
    let mut answer = send(node.connect().await, request).await.into_body(); // before a byte of the body
    for name in ["first", "second"] {
        body.send(framed(name.as_bytes())).await.unwrap();
        let line = answer.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(matches!(&lines::<PutEvent>(&line)[..], [PutEvent::Record { name: got, .. }] if got == name));
    }
    drop(body);
    let rest = answer.collect().await.unwrap().to_bytes();
    assert!(matches!(lines::<PutEvent>(&rest)[..], [PutEvent::Done { records: 2, .. }]));
    assert_eq!(node.memory.last_put().unwrap(), options);
}

#[tokio::test]
async fn a_put_that_cannot_be_is_refused_before_its_body() {
    let node = Node::start(Memory::default()).await;
    let (_body, frames) = mpsc::channel::<Bytes>(1); // stays open: nothing waits for it
    let request = put("?for=Nobody", frames);
    let response = send(node.connect().await, request).await;
    assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(error(response).await.error, ErrorCode::UnknownOrganisation);
}

#[tokio::test]
async fn a_put_that_breaks_off_reaches_the_service_as_an_error() {
    let node = Node::start(Memory::default()).await;
    let (mut body, frames) = mpsc::channel::<Bytes>(1);
    let request = put("", frames);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(node.connect().await)).await.unwrap();
    let connection = tokio::spawn(connection);
    let _answer = sender.send_request(request).await.unwrap();
    body.send(framed(b"cut")).await.unwrap();
    connection.abort();
    let end = node.memory.put_ended().await;
    assert_eq!(end.unwrap_err().error, ErrorCode::BadRequest);
}

#[tokio::test]
async fn a_body_far_past_every_buffer_arrives_whole() {
    const LEN: usize = 8 << 20; // axum's own limit for bodies it gathers is 2 MiB
    let node = Node::start(Memory::default()).await;
    let frames = futures::stream::iter((0..LEN / (1 << 20)).map(|_| framed(&vec![5; (1 << 20) - 4])));
    let request = put("", frames);
    bytes(send(node.connect().await, request).await).await;
    assert_eq!(node.memory.put_ended().await.unwrap(), LEN as u64);
}

#[tokio::test]
async fn a_list_is_one_record_a_line() {
    let memory = with_ten();
    memory.insert(RecordId([11; 16]), "other", vec![1]);
    let node = Node::start(memory).await;
    let all = bytes(ask(&node, Method::GET, "/v1/records").await).await;
    assert_eq!(lines::<RecordInfo>(&all).len(), 2);
    let filter = ListFilter { name: Some("Müller/größe.bin".into()), ..ListFilter::default() };
    let one = bytes(ask(&node, Method::GET, &format!("/v1/records{}", filter.to_query())).await).await;
    assert_eq!(lines::<RecordInfo>(&one)[0].record, TEN);
}

#[tokio::test]
async fn an_export_says_how_much_comes() {
    let node = Node::start(with_ten()).await;
    let response = ask(&node, Method::GET, "/v1/export?own=true").await;
    assert_eq!(response.headers()["bithealth-records"], "1");
    assert_eq!(response.headers()["bithealth-bytes"], "10");
    assert_eq!(bytes(response).await, framed(&(0..10).collect::<Vec<u8>>()));
}

#[tokio::test]
async fn what_only_the_socket_gives_is_refused_over_tcp() {
    let node = Node::start(with_ten()).await;
    assert_eq!(bytes(ask(&node, Method::POST, "/v1/kit").await).await, "the kit");

    let token = "t".repeat(40);
    let tcp = TcpServer::bind("127.0.0.1:0".parse().unwrap(), &token).await.unwrap();
    let address = tcp.address();
    let server = tokio::spawn(tcp.serve(Arc::clone(&node.memory), std::future::pending()));
    let bearer = format!("Bearer {token}");
    let into = format!("/v1/records/{TEN}?into=0");
    for (method, path) in [(Method::POST, "/v1/kit"), (Method::GET, into.as_str())] {
        let asked = request(method, path, &[(AUTHORIZATION, &bearer)]);
        let response = send(TcpStream::connect(address).await.unwrap(), asked).await;
        assert_eq!(error(response).await.error, ErrorCode::SocketOnly, "{path}");
    }
    server.abort();
}

#[tokio::test]
async fn tcp_answers_only_who_brings_the_token() {
    let token = "t".repeat(40);
    let tcp = TcpServer::bind("127.0.0.1:0".parse().unwrap(), &token).await.unwrap();
    let address = tcp.address();
    let server = tokio::spawn(tcp.serve(Arc::new(with_ten()), std::future::pending()));
    let ask = |headers: Vec<(hyper::header::HeaderName, String)>| async move {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.clone(), value.as_str())).collect();
        send(TcpStream::connect(address).await.unwrap(), request(Method::GET, "/v1/records", &headers)).await
    };
    assert_eq!(ask(vec![(AUTHORIZATION, format!("Bearer {token}"))]).await.status(), StatusCode::OK);
    for headers in [vec![], vec![(AUTHORIZATION, format!("Bearer {token}x"))], vec![(AUTHORIZATION, token.clone())]] {
        let response = ask(headers).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
        assert_eq!(error(response).await.error, ErrorCode::Unauthorized);
    }
    server.abort();
}

#[tokio::test]
async fn the_metrics_are_openmetrics_text_of_what_the_service_says() {
    let node = Node::start(with_ten()).await;
    let response = ask(&node, Method::GET, "/metrics").await;
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(response.headers()[CONTENT_TYPE], "application/openmetrics-text; version=1.0.0; charset=utf-8");
    let page = String::from_utf8(bytes(response).await.to_vec()).unwrap();
    assert!(page.contains("\nbithealth_own_packs{state=\"local\"} 1\n"), "{page}");
    assert!(page.contains("\nbithealth_build_info{version=\"1.2.3\"} 1\n"), "{page}");
}

#[tokio::test]
async fn a_node_is_alive_at_once_and_ready_once_it_is() {
    for (memory, status, waits_for) in [
        (Memory::default(), StatusCode::SERVICE_UNAVAILABLE, vec!["a record".to_owned()]),
        (with_ten(), StatusCode::OK, vec![]),
    ] {
        let node = Node::start(memory).await;
        assert_eq!(ask(&node, Method::GET, "/v1/health").await.status(), StatusCode::OK);
        let response = ask(&node, Method::GET, "/v1/ready").await;
        assert_eq!(response.status(), status);
        let told: Readiness = serde_json::from_slice(&bytes(response).await).unwrap();
        assert_eq!(told, Readiness { ready: waits_for.is_empty(), waits_for });
    }
}

#[tokio::test]
async fn who_only_watches_reads_the_numbers_with_the_token_and_nothing_else_with_any() {
    let token = "t".repeat(32);
    let short = MonitorServer::bind("127.0.0.1:0".parse().unwrap(), &token[1..]).await.unwrap_err();
    assert!(short.to_string().contains("31 characters"), "{short}");
    let door = MonitorServer::bind("127.0.0.1:0".parse().unwrap(), &token).await.unwrap();
    let address = door.address();
    let server = tokio::spawn(door.serve(Arc::new(with_ten()), std::future::pending()));
    let ask = |method: Method, path: &'static str, token: Option<String>| async move {
        let bearer = token.map(|token| format!("Bearer {token}"));
        let headers: Vec<_> = bearer.iter().map(|bearer| (AUTHORIZATION, bearer.as_str())).collect();
        send(TcpStream::connect(address).await.unwrap(), request(method, path, &headers)).await.status()
    };
    let brings = || Some(token.clone());
    assert_eq!(ask(Method::GET, "/metrics", brings()).await, StatusCode::OK);
    for other in [None, Some("x".repeat(32)), Some(token[1..].to_owned())] {
        assert_eq!(ask(Method::GET, "/metrics", other).await, StatusCode::UNAUTHORIZED);
    }
    for path in ["/v1/health", "/v1/ready"] {
        assert_eq!(ask(Method::GET, path, None).await, StatusCode::OK, "{path}");
    }
    for (method, path) in [
        (Method::GET, "/v1/records"),
        (Method::GET, "/v1/status"),
        (Method::GET, "/v1/export"),
        (Method::POST, "/v1/kit"),
        (Method::POST, "/v1/stop"),
        (Method::POST, "/metrics"),
    ] {
        assert_eq!(ask(method, path, brings()).await, StatusCode::NOT_FOUND, "{path}");
    }
    server.abort();
}

#[tokio::test]
async fn serving_ends_with_the_shutdown_and_takes_the_socket_away() {
    let mut node = Node::start(with_ten()).await;
    assert_eq!(ask(&node, Method::POST, "/v1/stop").await.status(), StatusCode::OK);
    node.shutdown().await;
    assert!(!node.socket().exists());
}

#[tokio::test]
async fn a_cosigned_checkpoint_of_64_kib_is_taken_and_a_longer_one_is_not() {
    let node = Node::start(Memory::default()).await;
    let cosigned = async |len: usize| {
        let body = http_body_util::Full::new(Bytes::from(vec![b'x'; len])).boxed();
        let request = Request::post("/v1/ledger/cosignatures?witness=w%2B1").body(body).unwrap();
        send(node.connect().await, request).await
    };
    let kept: WitnessInfo = serde_json::from_slice(&bytes(cosigned(COSIGNED_LEN_MAX).await).await).unwrap();
    assert_eq!((kept.key.as_str(), kept.note.len()), ("w+1", COSIGNED_LEN_MAX));
    let refused = error(cosigned(COSIGNED_LEN_MAX + 1).await).await;
    assert_eq!(refused.error, ErrorCode::BadRequest);
    assert!(refused.message.contains("at most 65536 bytes"), "{refused}");
    let nobody = error(ask(&node, Method::POST, "/v1/ledger/cosignatures").await).await;
    assert_eq!(nobody.error, ErrorCode::BadRequest);
}
