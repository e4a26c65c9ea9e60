use bithealth_http::Frames;
use bithealth_proto::encode;
use bithealth_proto::v1::{PutAbort, PutEnd, PutRecord};
use bytes::BufMut;
use futures::{StreamExt, stream};

use super::*;

fn begin(name: &str) -> put_frame::Frame {
    put_frame::Frame::Begin(PutRecord { name: name.to_owned(), ..PutRecord::default() })
}

fn data(bytes: impl AsRef<[u8]>) -> put_frame::Frame {
    put_frame::Frame::Data(Bytes::copy_from_slice(bytes.as_ref()))
}

fn end() -> put_frame::Frame {
    put_frame::Frame::End(PutEnd {})
}

fn export(frames: impl IntoIterator<Item = put_frame::Frame>) -> ExportAnswer {
    let mut bytes = Vec::new();
    for frame in frames {
        let frame = encode(&PutFrame { frame: Some(frame) });
        bytes.put_u32(frame.len() as u32);
        bytes.extend(frame);
    }
    let pieces: Vec<_> = bytes.chunks(1000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    ExportAnswer { records: 0, bytes: 0, frames: Frames::new(stream::iter(pieces).boxed()) }
}

/// Writes an export; how it ended, how many records were written, and what failed.
async fn written(
    folder: &Path,
    frames: impl IntoIterator<Item = put_frame::Frame>,
) -> (Result<u64, ExportError>, u64, Vec<String>) {
    let (writers, mut failures) = Writers::start(folder);
    let count = Arc::clone(&writers.written);
    let result = split(export(frames), writers, |_| ()).await;
    let mut failed = Vec::new();
    while let Some(WriteFailure { name, error }) = failures.recv().await {
        failed.push(format!("{name}: {error}"));
    }
    (result, count.load(Ordering::Relaxed), failed)
}

/// Paths of all files under `folder`, sorted.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(next) = left.pop() {
        for item in std::fs::read_dir(next).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                left.push(path);
            } else {
                found.push(path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn many_small_and_a_large_record_all_arrive() {
    let folder = tempfile::tempdir().unwrap();
    let small = (0..500).flat_map(|index| [begin(&format!("d{}/{index}", index % 7)), data(index.to_string()), end()]);
    let large = std::iter::once(begin("large")).chain((0..20).map(|part| data(vec![part; 100_000]))).chain([end()]);
    let (result, count, failed) = written(folder.path(), small.chain(large).chain([begin("empty"), end()])).await;
    assert_eq!((count, failed), (502, vec![]));
    assert_eq!(result.unwrap(), 2_000_000 + 10 + 180 + 1200);
    for index in 0..500 {
        let path = folder.path().join(format!("d{}/{index}", index % 7));
        assert_eq!(std::fs::read_to_string(path).unwrap(), index.to_string());
    }
    let large = std::fs::read(folder.path().join("large")).unwrap();
    assert!(large.chunks(100_000).enumerate().all(|(part, bytes)| bytes == vec![part as u8; 100_000]));
    assert_eq!(std::fs::read(folder.path().join("empty")).unwrap(), b"");
    assert_eq!(files(folder.path()).len(), 502);
}

#[tokio::test]
async fn records_of_one_name_are_all_kept() {
    let folder = tempfile::tempdir().unwrap();
    let frames = [begin("a"), data("1"), end(), begin("a"), data("2"), end(), begin("../a"), data("3"), end()];
    written(folder.path(), frames).await.0.unwrap();
    assert_eq!(files(folder.path()), ["_/a", "a", "a (2)"]);
}

#[tokio::test]
async fn a_record_the_node_cannot_read_leaves_no_file_and_the_rest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    let abort = put_frame::Frame::Abort(PutAbort { reason: "3 of 4 shards".to_owned() });
    let frames = [begin("a"), data("half"), abort, begin("b"), data("whole"), end()];
    let (result, count, failed) = written(folder.path(), frames).await;
    result.unwrap();
    assert_eq!((count, failed), (1, vec!["a: 3 of 4 shards".to_owned()]));
    assert_eq!(files(folder.path()), ["b"]);
}

#[tokio::test]
async fn an_export_that_breaks_off_leaves_no_half_file() {
    let folder = tempfile::tempdir().unwrap();
    let frames = [begin("a"), data("whole"), end(), begin("b"), data("half")];
    let (result, count, failed) = written(folder.path(), frames).await;
    assert!(matches!(result, Err(ExportError::Cut(name)) if name == "b"));
    assert_eq!((count, failed), (1, vec!["b: the export broke off".to_owned()]));
    assert_eq!(files(folder.path()), ["a"]);
}

#[tokio::test]
async fn parts_of_no_record_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    assert!(matches!(written(folder.path(), [data("x")]).await.0, Err(ExportError::Stray)));
    assert!(matches!(written(folder.path(), [end()]).await.0, Err(ExportError::Stray)));
    let twice = written(folder.path(), [begin("a"), begin("b")]).await.0;
    assert!(matches!(twice, Err(ExportError::Cut(name)) if name == "a"));
}

#[tokio::test]
async fn a_place_that_cannot_be_written_is_named_and_the_rest_arrives() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("taken"), "a file").unwrap();
    let frames = [begin("taken/a"), data("1"), end(), begin("b"), data("2"), end()];
    let (result, count, failed) = written(folder.path(), frames).await;
    result.unwrap();
    assert_eq!((count, failed.len()), (1, 1));
    assert!(failed[0].starts_with("taken/a: "), "{failed:?}");
    assert_eq!(files(folder.path()), ["b", "taken"]);
}
