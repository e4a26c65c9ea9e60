use bithealth_http::ErrorCode;
use futures::SinkExt;

use super::lines::LINE_LEN_MAX;
use super::memory::Node;
use super::*;

async fn body(answer: GetAnswer) -> Result<Vec<u8>, ClientError> {
    answer.body.try_fold(Vec::new(), |all, bytes| async move { Ok([&all[..], &bytes].concat()) }).await
}

fn counting(len: usize) -> Vec<u8> {
    (0..len).map(|position| position as u8).collect()
}

#[tokio::test]
async fn a_record_and_its_parts_come_as_they_are() {
    let (node, record) = Node::with("größe", counting(100)).await;
    let answer = node.client.get(record, None).await.unwrap();
    assert_eq!((answer.info.name.as_str(), answer.range.clone()), ("größe", 0..100));
    assert_eq!(body(answer).await.unwrap(), counting(100));
    let answer = node.client.get(record, Some(ByteRange::Last { len: 3 })).await.unwrap();
    assert_eq!(answer.range, 97..100);
    assert_eq!(body(answer).await.unwrap(), [97, 98, 99]);
}

#[tokio::test]
async fn a_read_that_breaks_off_is_taken_up_where_it_stopped() {
    let (node, record) = Node::with("x", counting(1000)).await;
    node.memory.break_bodies_after(7);
    let answer = node.client.get(record, Some(ByteRange::From { first: 10 })).await.unwrap();
    assert_eq!(body(answer).await.unwrap(), counting(1000)[10..]);
}

#[tokio::test]
async fn a_read_that_cannot_go_on_ends_with_the_node_s_reason() {
    let (node, record) = Node::with("x", counting(1000)).await;
    node.memory.break_bodies_after(7);
    let mut answer = node.client.get(record, None).await.unwrap();
    answer.body.try_next().await.unwrap();
    node.memory.break_bodies_after(0);
    let error = body(answer).await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(body) if body.error == ErrorCode::Unreachable), "{error}");
}

/// What is in a file once all is written, and how far it was told to be in between.
async fn written(node: &Node, record: RecordId, range: Option<ByteRange>) -> (Vec<u8>, Vec<u64>) {
    let path = node.path("into");
    let answer = node.client.get_into(record, range, &std::fs::File::create(&path).unwrap()).await.unwrap();
    let told = answer.written.try_collect().await.unwrap();
    (std::fs::read(path).unwrap(), told)
}

#[tokio::test]
async fn a_record_and_its_parts_are_written_into_an_open_file() {
    let (node, record) = Node::with("x", counting(100)).await;
    assert_eq!(written(&node, record, None).await, (counting(100), vec![100]));
    let last = Some(ByteRange::Last { len: 3 });
    assert_eq!(written(&node, record, last).await, (vec![97, 98, 99], vec![3]));
    let (empty, record) = Node::with("none", vec![]).await;
    assert!(written(&empty, record, None).await.0.is_empty());
}

#[tokio::test]
async fn a_write_that_breaks_off_is_taken_up_where_it_stopped() {
    let (node, record) = Node::with("x", counting(50)).await;
    node.memory.break_bodies_after(7);
    let (bytes, told) = written(&node, record, Some(ByteRange::From { first: 10 })).await;
    let whole = (counting(50)[10..].to_vec(), vec![7, 14, 21, 28, 35, 40]);
    assert_eq!((bytes, told), whole);
    node.memory.end_silently();
    assert_eq!(written(&node, record, Some(ByteRange::From { first: 10 })).await, whole);
}

#[tokio::test]
async fn a_write_that_stops_again_and_again_says_what_is_missing() {
    let (node, record) = Node::with("x", counting(50)).await;
    node.memory.break_bodies_after(0);
    node.memory.end_silently();
    let answer = node.client.get_into(record, None, &tempfile::tempfile().unwrap()).await.unwrap();
    let error = answer.written.try_collect::<Vec<u64>>().await.unwrap_err();
    assert!(matches!(error, ClientError::CutShort { missing: 50 }), "{error}");
}

#[tokio::test]
async fn through_a_relay_that_drops_files_the_bytes_come() {
    let (node, record) = Node::with("x", counting(100)).await;
    let relayed = node.path("relayed.sock");
    let (listener, socket) = (tokio::net::UnixListener::bind(&relayed).unwrap(), node.client.socket().to_owned());
    tokio::spawn(async move {
        while let Ok((mut near, _)) = listener.accept().await {
            let mut far = UnixStream::connect(&socket).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut near, &mut far).await });
        }
    });
    let file = tempfile::tempfile().unwrap();
    let answer = Client::new(relayed).get_into(record, Some(ByteRange::From { first: 60 }), &file).await.unwrap();
    assert_eq!(answer.range, 60..100);
    assert_eq!(answer.written.try_collect::<Vec<u64>>().await.unwrap().last(), Some(&40));
    let mut got = vec![0; 40];
    std::os::unix::fs::FileExt::read_exact_at(&file, &mut got, 0).unwrap();
    assert_eq!(got, counting(100)[60..]);
}

#[tokio::test]
async fn a_write_that_cannot_go_on_ends_with_the_node_s_reason() {
    let (node, record) = Node::with("x", counting(100)).await;
    node.memory.break_bodies_after(7);
    let file = tempfile::tempfile().unwrap();
    let mut answer = node.client.get_into(record, None, &file).await.unwrap();
    answer.written.try_next().await.unwrap();
    node.memory.break_bodies_after(0);
    let error = answer.written.try_collect::<Vec<u64>>().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(body) if body.error == ErrorCode::Unreachable), "{error}");
}

#[tokio::test]
async fn what_is_no_file_is_not_written_into() {
    let (node, record) = Node::with("x", counting(10)).await;
    let refused = node.client.get_into(record, None, &std::fs::File::open("/dev/null").unwrap()).await;
    assert!(matches!(refused.err(), Some(ClientError::Refused(body)) if body.error == ErrorCode::BadRequest));
}

#[tokio::test]
async fn a_refusal_is_told_with_its_code() {
    let node = Node::start().await;
    let error = node.client.get(RecordId([9; 16]), None).await.err().unwrap();
    assert!(matches!(&error, ClientError::Refused(body) if body.error == ErrorCode::NotFound), "{error}");
    assert!(error.next_step().contains("bithealth ls"));
    let error = node.client.status().await.unwrap_err();
    assert!(matches!(&error, ClientError::Refused(body) if body.error == ErrorCode::Busy), "{error}");
}

#[tokio::test]
async fn a_put_is_refused_before_anything_is_sent() {
    let node = Node::start().await;
    let options = PutOptions { for_: vec!["Nobody".into()], ..PutOptions::default() };
    let error = node.client.put(&options).await.err().unwrap();
    assert!(matches!(&error, ClientError::Refused(body) if body.error == ErrorCode::UnknownOrganisation), "{error}");
}

#[tokio::test]
async fn a_put_ends_with_its_last_event() {
    let node = Node::start().await;
    let (mut sender, mut events) = node.client.put(&PutOptions::default()).await.unwrap();
    sender.close().await.unwrap();
    assert!(matches!(events.next().await.unwrap(), Some(PutEvent::Done { records: 0, .. })));
    assert!(events.next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_missing_and_a_dead_socket_both_say_that_the_node_does_not_run() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("node.sock");
    let client = Client::new(&socket);
    assert!(matches!(client.status().await, Err(ClientError::NotRunning { .. })));
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    assert!(matches!(client.status().await, Err(ClientError::NotRunning { .. })));
}

#[tokio::test]
async fn a_socket_path_the_system_cannot_take_is_named() {
    let client = Client::new("x".repeat(200));
    assert!(matches!(client.status().await, Err(ClientError::Socket { .. })));
}

/// Answers every question on a socket with the same text.
async fn answering(text: String) -> (tempfile::TempDir, Client) {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("node.sock");
    let listener = tokio::net::UnixListener::bind(&socket).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut question = [0; 4096];
            let _ = tokio::io::AsyncReadExt::read(&mut stream, &mut question).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, text.as_bytes()).await;
        }
    });
    (folder, Client::new(socket))
}

fn response(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn an_answer_of_another_version_is_told_as_such() {
    let (_folder, client) = answering(response("{\"strange\":1}")).await;
    assert!(matches!(client.status().await, Err(ClientError::Unreadable { .. })));
    assert!(matches!(client.get(RecordId([1; 16]), None).await.err(), Some(ClientError::Header { .. })));
    assert!(matches!(client.get_all(&ExportFilter::default()).await.err(), Some(ClientError::Header { .. })));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_no_answer() {
    let (_folder, client) = answering("HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\n[".to_owned()).await;
    assert!(matches!(client.peers().await, Err(ClientError::BrokeOff(_))));
}

#[tokio::test]
async fn a_line_past_the_limit_is_refused() {
    let (_folder, client) = answering(response(&"x".repeat(LINE_LEN_MAX + 1))).await;
    let mut lines = client.list(&ListFilter::default()).await.unwrap();
    assert!(matches!(lines.next().await, Err(ClientError::TooLong { max: LINE_LEN_MAX, .. })));
}

#[tokio::test]
async fn a_last_line_without_its_end_counts() {
    let line = r#"{"event":"failed","pack":"p","records":null,"reason":"r"}"#;
    let (_folder, client) = answering(response(&format!("{line}\n{line}"))).await;
    let mut lines = client.restore().await.unwrap();
    for _ in 0..2 {
        assert!(matches!(lines.next().await.unwrap(), Some(RestoreEvent::Failed { .. })));
    }
    assert!(lines.next().await.unwrap().is_none());
}

#[test]
fn content_ranges_are_read() {
    assert_eq!(content_range("bytes 2-4/10"), Some(2..5));
    for value in ["bytes */10", "2-4/10", "bytes 2-4", "bytes a-b/c"] {
        assert_eq!(content_range(value), None, "{value}");
    }
}
