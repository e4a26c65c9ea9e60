use std::os::unix::fs::PermissionsExt;

use bithealth_http::Frames;
use bithealth_proto::decode_frame;
use futures::stream;

use super::*;

fn common() -> Common {
    Common { patient: "auto".into(), category: "imaging".into(), media_type: String::new() }
}

/// What a node would get: names and bytes, `None` for what was aborted.
type Records = Vec<(String, Option<Vec<u8>>)>;

async fn fed(sources: Vec<Source>) -> (Records, Vec<Report>) {
    let (feed, mut beside) = Feed::start(sources, common());
    let reports = tokio::spawn(async move {
        let mut all = Vec::new();
        while let Some(report) = beside.reports.recv().await {
            all.push(report);
        }
        all
    });
    let bytes = stream::unfold(feed, |mut feed| async { feed.next().await.map(|bytes| (Ok::<_, ()>(bytes), feed)) });
    let mut frames = Frames::new(Box::pin(bytes));
    let mut records: Records = Vec::new();
    let mut data = Vec::new();
    while let Some(frame) = frames.next().await.unwrap() {
        let frame: PutFrame = decode_frame(frame).unwrap();
        match frame.frame.unwrap() {
            put_frame::Frame::Begin(begin) => {
                assert_eq!((begin.patient.as_str(), begin.category.as_str()), ("auto", "imaging"));
                records.push((begin.name, None));
            }
            put_frame::Frame::Data(bytes) => {
                assert!(bytes.len() <= DATA_LEN);
                data.extend_from_slice(&bytes);
            }
            put_frame::Frame::End(PutEnd {}) => records.last_mut().unwrap().1 = Some(std::mem::take(&mut data)),
            put_frame::Frame::Abort(_) => data.clear(),
        }
    }
    (records, reports.await.unwrap())
}

#[tokio::test]
async fn files_of_every_length_arrive_whole_and_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let lens = [0, 1, WRITE_LEN - 1, WRITE_LEN, DATA_LEN - 1, DATA_LEN, DATA_LEN + 1, 3 * DATA_LEN];
    let mut want = Vec::new();
    for (index, len) in lens.into_iter().enumerate() {
        let bytes: Vec<u8> = (0..len).map(|position| (position * 31 + index) as u8).collect();
        std::fs::write(folder.path().join(index.to_string()), &bytes).unwrap();
        want.push((index.to_string(), Some(bytes)));
    }
    let (records, reports) = fed(vec![Source::Path(folder.path().to_owned())]).await;
    assert!(records == want, "the records differ"); // megabytes: not for a message
    assert_eq!(reports, []);
}

#[tokio::test]
async fn more_files_than_are_read_ahead_arrive_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let count = BATCH_LEN * (BATCHES_AHEAD + 3) + 1;
    for index in 0..count {
        std::fs::write(folder.path().join(format!("{index:05}")), index.to_string()).unwrap();
    }
    let (records, _) = fed(vec![Source::Path(folder.path().to_owned())]).await;
    assert_eq!(records.len(), count);
    for (index, (name, bytes)) in records.into_iter().enumerate() {
        assert_eq!((name, bytes), (format!("{index:05}"), Some(index.to_string().into_bytes())));
    }
}

#[tokio::test]
async fn an_unreadable_file_is_named_and_the_rest_goes_in() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["a", "b", "c"] {
        std::fs::write(folder.path().join(name), name).unwrap();
    }
    let shut = folder.path().join("b");
    std::fs::set_permissions(&shut, std::fs::Permissions::from_mode(0o000)).unwrap();
    if File::open(&shut).is_ok() {
        // The superuser may read everything: something that opens and cannot be read takes its place.
        std::fs::remove_file(&shut).unwrap();
        std::os::unix::fs::symlink("/proc/self/mem", &shut).unwrap();
    }
    let sources = ["a", "b", "c", "missing"].map(|name| Source::Path(folder.path().join(name)));
    let (records, reports) = fed(sources.into()).await;
    let names: Vec<_> = records.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["a", "c"]);
    let failed: Vec<_> = reports.iter().map(|report| matches!(report, Report::Failed { .. })).collect();
    assert_eq!(failed, [true, true], "{reports:?}");
    let told = format!("{reports:?}");
    assert!(told.contains("\"b\"") && told.contains("missing"), "{told}");
}

#[tokio::test]
async fn a_link_is_reported_and_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink("/etc/passwd", folder.path().join("link")).unwrap();
    let (records, reports) = fed(vec![Source::Path(folder.path().to_owned())]).await;
    assert!(records.is_empty());
    let name = text(folder.path().join("link").as_os_str());
    assert_eq!(reports, [Report::Skipped { name, why: "a symbolic link" }]);
}

#[test]
fn a_file_that_breaks_midway_is_aborted_and_not_ended() {
    struct Breaking(usize);
    impl Read for Breaking {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            if self.0 == 0 {
                return Err(io::Error::other("the disk is gone"));
            }
            let len = buffer.len().min(self.0);
            self.0 -= len;
            Ok(len)
        }
    }
    let (slot, mut taken) = mpsc::channel(8);
    let (reports, _reports) = mpsc::channel(1);
    let mut reader = Reader { buffer: BytesMut::new(), slot, reports: &reports, common: &common() };
    assert!(reader.read_from("x".into(), 0, Breaking(DATA_LEN)).is_ok());
    assert!(reader.flush().is_ok());
    let mut last = Bytes::new();
    while let Ok(bytes) = taken.try_recv() {
        last = bytes;
    }
    let frame: PutFrame = decode_frame(last.slice(4..)).unwrap();
    let reason = "the disk is gone".to_owned();
    assert_eq!(frame.frame, Some(put_frame::Frame::Abort(PutAbort { reason })));
}
