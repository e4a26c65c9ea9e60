//! Records that the node writes into a file which the caller opened, so that their bytes pass no socket.

use std::fs::File;
use std::ops::Range;
use std::os::fd::OwnedFd;

use bithealth_http::api::{GetEvent, GetOptions, RecordInfo};
use bithealth_http::{ByteRange, ErrorCode, Query, WithFile};
use bithealth_store::bulk::{self, Keep};
use bithealth_types::RecordId;
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use http_body_util::{BodyExt, Empty};
use hyper::Method;

use super::{Client, ClientError, GetAnswer, Lines, RESUME_COUNT_MAX};

/// A record, or a part of one, on its way into a file.
pub struct GetIntoAnswer {
    /// What it is.
    pub info: RecordInfo,
    /// Which of its bytes are written.
    pub range: Range<u64>,
    /// How many of them are in the file without a gap, as they become more; all of them, if it ends without an error.
    pub written: BoxStream<'static, Result<u64, ClientError>>,
}

impl Client {
    /// Has a record, or a part of it, written over the beginning of `file`; what lies behind stays. What breaks off is taken
    /// up where it stopped. Where no file can be handed over, as through a relay of the socket, the bytes come instead.
    ///
    /// # Errors
    /// [`ClientError`] if the node does not run or refuses; later from what is written.
    pub async fn get_into(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
        file: &File,
    ) -> Result<GetIntoAnswer, ClientError> {
        let file = file.try_clone().map_err(ClientError::File)?;
        match self.get_into_once(record, range, &file, 0).await {
            Ok((info, range, events)) => {
                let (client, due) = (self.clone(), range.clone());
                let writing = Writing { client, record, range: due, file, events, begun: 0, len: 0, attempts: 0 };
                let written = stream::try_unfold(writing, Writing::next).boxed();
                Ok(GetIntoAnswer { info, range, written })
            }
            Err(ClientError::Refused(body)) if body.error == ErrorCode::NoFile => {
                let GetAnswer { info, range, body } = self.get(record, range).await?;
                let mut len = 0;
                let written = body.map(move |bytes| {
                    let bytes = bytes?;
                    // A page cache takes this in microseconds; a worker thread of the runtime may wait for that.
                    bulk::write_all_at(&file, &[&bytes], len, Keep::for_offset(len)).map_err(ClientError::File)?;
                    len += bytes.len() as u64;
                    Ok(len)
                });
                Ok(GetIntoAnswer { info, range, written: written.boxed() })
            }
            Err(error) => Err(error),
        }
    }

    async fn get_into_once(
        &self,
        record: RecordId,
        range: Option<ByteRange>,
        file: &File,
        offset: u64,
    ) -> Result<(RecordInfo, Range<u64>, Lines<GetEvent>), ClientError> {
        let path = format!("/v1/records/{record}{}", GetOptions { into: Some(offset) }.to_query());
        let file = OwnedFd::from(file.try_clone().map_err(ClientError::File)?);
        let stream = WithFile::new(self.connect().await?, file);
        let answer = self.send_over(stream, Method::GET, &path, range, Empty::new().boxed()).await?;
        let mut events = Lines::new(path.clone(), answer);
        match events.next().await? {
            Some(GetEvent::Found { info, start, end }) => Ok((info, start..end, events)),
            _ => Err(ClientError::Beginning { path }),
        }
    }
}

/// A read into a file that goes on after it broke off.
struct Writing {
    client: Client,
    record: RecordId,
    range: Range<u64>,
    file: File,
    events: Lines<GetEvent>,
    /// What was in the file when this connection began.
    begun: u64,
    /// What is in it.
    len: u64,
    attempts: u32,
}

impl Writing {
    async fn next(mut self) -> Result<Option<(u64, Self)>, ClientError> {
        let due = self.range.end - self.range.start;
        while self.len < due {
            let failure = match self.events.next().await {
                Ok(Some(GetEvent::Written { bytes })) if self.begun + bytes.0 > self.len => {
                    self.len = self.begun + bytes.0;
                    self.attempts = 0;
                    return Ok(Some((self.len, self)));
                }
                Ok(Some(GetEvent::Found { .. } | GetEvent::Written { .. })) => continue,
                Ok(Some(GetEvent::Failed { error })) => ClientError::Refused(error),
                Ok(None) => ClientError::CutShort { missing: due - self.len },
                Err(error) => error,
            };
            if !may_go_on(&failure) || self.attempts == RESUME_COUNT_MAX {
                return Err(failure);
            }
            self.attempts += 1;
            let rest = ByteRange::Span { first: self.range.start + self.len, last: self.range.end - 1 };
            (_, _, self.events) = self.client.get_into_once(self.record, Some(rest), &self.file, self.len).await?;
            self.begun = self.len;
        }
        // The answer ends once the node has closed the file.
        while let Ok(Some(_)) = self.events.next().await {}
        Ok(None)
    }
}

/// Whether it may help to ask again.
fn may_go_on(failure: &ClientError) -> bool {
    match failure {
        ClientError::Refused(body) => body.error != ErrorCode::FileNotWritten,
        ClientError::BrokeOff(_) | ClientError::CutShort { .. } => true,
        _ => false,
    }
}
