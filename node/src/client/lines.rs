//! Long answers, a JSON object a line.

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;
use futures::stream::BoxStream;
use hyper::Response;
use hyper::body::Incoming;
use serde::de::DeserializeOwned;

use super::{ClientError, data};

/// Most bytes of one line.
pub(super) const LINE_LEN_MAX: usize = 1 << 20;

/// The JSON lines of a long answer, as they come.
pub struct Lines<T> {
    path: String,
    body: BoxStream<'static, Result<Bytes, ClientError>>,
    buffer: BytesMut,
    /// Bytes of the buffer known to hold no line end.
    searched: usize,
    item: std::marker::PhantomData<fn() -> T>,
}

impl<T> Lines<T> {
    pub(super) fn new(path: String, answer: Response<Incoming>) -> Self {
        let body = data(answer.into_body());
        Self { path, body, buffer: BytesMut::new(), searched: 0, item: std::marker::PhantomData }
    }
}

impl<T: DeserializeOwned> Lines<T> {
    /// The next item; `None` at the end of the answer.
    ///
    /// # Errors
    /// [`ClientError`] if the answer breaks off or cannot be read.
    pub async fn next(&mut self) -> Result<Option<T>, ClientError> {
        loop {
            let end = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n');
            if let Some(end) = end {
                let line = self.buffer.split_to(self.searched + end + 1);
                self.searched = 0;
                return self.parse(&line).map(Some);
            }
            self.searched = self.buffer.len();
            if self.searched > LINE_LEN_MAX {
                return Err(ClientError::TooLong { path: self.path.clone(), max: LINE_LEN_MAX });
            }
            match self.body.try_next().await? {
                Some(bytes) => self.buffer.extend_from_slice(&bytes),
                None if self.buffer.is_empty() => return Ok(None),
                None => {
                    let line = self.buffer.split();
                    self.searched = 0;
                    return self.parse(&line).map(Some);
                }
            }
        }
    }

    fn parse(&self, line: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(line).map_err(|error| ClientError::Unreadable { path: self.path.clone(), error })
    }
}
