//! Bodies of answers.

use axum::body::Body;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::{BufMut, Bytes, BytesMut};
use futures::{StreamExt, TryStreamExt, stream};
use serde::Serialize;

use crate::error::ErrorBody;
use crate::service::{ByteStream, EventStream};

/// Most items written into one buffer, if they are there already.
const LINES_AT_ONCE: usize = 256;

/// One JSON object a line, sent as they come: those that wait together travel together.
pub(crate) fn lines<T: Serialize + Send + 'static>(items: EventStream<T>) -> Response {
    let body = items.ready_chunks(LINES_AT_ONCE).map(|items| encode(&items));
    ([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(body)).into_response()
}

/// Bytes as they come. Waits for the first of them, so that what fails before is answered with its own status.
pub(crate) async fn streamed(mut body: ByteStream) -> Result<Body, ErrorBody> {
    let mut first = body.next().await.transpose()?;
    while first.as_ref().is_some_and(Bytes::is_empty) {
        first = body.next().await.transpose()?;
    }
    let rest = body.or_else(|error| async {
        broke_off(&error);
        tokio::task::yield_now().await; // what came before is flushed, then the connection is cut
        Err(error)
    });
    Ok(Body::from_stream(stream::iter(first.map(Ok)).chain(rest)))
}

/// Logs that a long answer ends before its end.
pub(crate) fn broke_off(error: &ErrorBody) {
    tracing::warn!(code = ?error.error, "an answer broke off"); // its text may hold a name
}

fn encode<T: Serialize>(items: &[T]) -> Result<Bytes, serde_json::Error> {
    let mut buffer = BytesMut::with_capacity(items.len() * 256).writer();
    for item in items {
        serde_json::to_writer(&mut buffer, item)?;
        buffer.get_mut().put_u8(b'\n');
    }
    Ok(buffer.into_inner().freeze())
}
