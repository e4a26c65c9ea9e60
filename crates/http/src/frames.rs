//! Cuts a stream of bytes into frames.
//!
//! | offset | length | field | unit |
//! |---|---|---|---|
//! | 0 | 4 | length of the frame that follows, big endian | bytes |
//! | 4 | length | one `PutFrame` | |

use bytes::{Buf, Bytes, BytesMut};
use futures::{Stream, StreamExt};

/// Bytes of the length in front of each frame.
pub const FRAME_HEAD_LEN: usize = 4;

/// Most bytes of a frame, the limit of `PutFrame`.
pub const FRAME_LEN_MAX: usize = 2 << 20;

/// Why a stream is not a run of frames.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError<E: std::fmt::Debug> {
    /// A frame that claims to be longer than any may be.
    #[error("a frame of {got} bytes, at most {FRAME_LEN_MAX} are accepted")]
    TooLong {
        /// Bytes it claims.
        got: usize,
    },
    /// The stream ends inside a frame.
    #[error("the stream ends inside a frame: {got} bytes of {want} came")]
    Cut {
        /// Bytes that came, the frame's length included.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// The stream itself failed.
    #[error("{0}")]
    Source(E),
}

/// Frames of a stream of bytes. A frame that lies in one buffer shares it; one across several is copied together.
#[derive(Debug)]
pub struct Frames<S> {
    source: S,
    buffer: Bytes,
}

impl<S, E> Frames<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Debug,
{
    /// Frames of `source`.
    pub fn new(source: S) -> Self {
        Self { source, buffer: Bytes::new() }
    }

    /// The next frame, without its length; `None` at the end of the stream. After an error, do not ask again.
    ///
    /// Safe to drop while waiting only if the stream is not used further: a frame under way is lost.
    ///
    /// # Errors
    /// [`FrameError`] if the stream fails, ends inside a frame, or holds one that is too long.
    pub async fn next(&mut self) -> Result<Option<Bytes>, FrameError<E>> {
        let Some(head) = self.take(FRAME_HEAD_LEN).await? else { return Ok(None) };
        let len = (&head[..]).get_u32() as usize;
        if len > FRAME_LEN_MAX {
            return Err(FrameError::TooLong { got: len });
        }
        match self.take(len).await? {
            Some(frame) => Ok(Some(frame)),
            None => Err(FrameError::Cut { got: 0, want: len }),
        }
    }

    /// The next `want` bytes; `None` if the stream ends before the first of them.
    async fn take(&mut self, want: usize) -> Result<Option<Bytes>, FrameError<E>> {
        while self.buffer.is_empty() && want > 0 {
            match self.source.next().await {
                Some(bytes) => self.buffer = bytes.map_err(FrameError::Source)?,
                None => return Ok(None),
            }
        }
        if self.buffer.len() >= want {
            return Ok(Some(self.buffer.split_to(want)));
        }
        let mut joined = BytesMut::with_capacity(want);
        joined.extend_from_slice(&self.buffer);
        while joined.len() < want {
            match self.source.next().await {
                Some(bytes) => self.buffer = bytes.map_err(FrameError::Source)?,
                None => return Err(FrameError::Cut { got: joined.len(), want }),
            }
            let missing = want - joined.len();
            joined.extend_from_slice(&self.buffer.split_to(missing.min(self.buffer.len())));
        }
        Ok(Some(joined.freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::executor::block_on;
    use futures::stream;
    use proptest::prelude::*;

    fn frames_of(pieces: Vec<Vec<u8>>) -> Result<Vec<Bytes>, FrameError<&'static str>> {
        let source = stream::iter(pieces.into_iter().map(|piece| Ok(Bytes::from(piece))));
        let mut frames = Frames::new(source);
        block_on(async {
            let mut all = Vec::new();
            while let Some(frame) = frames.next().await? {
                all.push(frame);
            }
            Ok(all)
        })
    }

    fn framed(frame: &[u8]) -> Vec<u8> {
        [&(frame.len() as u32).to_be_bytes(), frame].concat()
    }

    proptest! {
        #[test]
        fn frames_read_back_wherever_the_stream_is_cut(
            frames in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..40), 0..12),
            cuts in prop::collection::vec(0_usize..9, 1..30),
        ) {
            let mut bytes: Vec<u8> = frames.iter().flat_map(|frame| framed(frame)).collect();
            let mut pieces = Vec::new();
            for cut in cuts {
                let rest = bytes.split_off(cut.min(bytes.len()));
                pieces.push(std::mem::replace(&mut bytes, rest));
            }
            pieces.push(bytes);
            prop_assert_eq!(frames_of(pieces).unwrap(), frames);
        }
    }

    #[test]
    fn a_frame_at_the_limit_is_taken_and_one_past_it_refused() {
        let longest = vec![7; FRAME_LEN_MAX];
        assert_eq!(frames_of(vec![framed(&longest)]).unwrap(), [longest]);
        let head = (FRAME_LEN_MAX as u32 + 1).to_be_bytes().to_vec();
        assert_eq!(frames_of(vec![head]), Err(FrameError::TooLong { got: FRAME_LEN_MAX + 1 }));
    }

    #[test]
    fn a_stream_that_ends_inside_a_frame_is_an_error() {
        let mut bytes = framed(b"whole");
        bytes.extend([0, 0, 0, 4]);
        assert_eq!(frames_of(vec![bytes.clone()]), Err(FrameError::Cut { got: 0, want: 4 }));
        bytes.extend(b"ha");
        assert_eq!(frames_of(vec![bytes]), Err(FrameError::Cut { got: 2, want: 4 }));
        assert_eq!(frames_of(vec![vec![0, 0]]), Err(FrameError::Cut { got: 2, want: 4 }));
    }

    #[test]
    fn a_failing_stream_is_told_apart_from_an_end() {
        let mut frames = Frames::new(stream::iter([Err("torn")]));
        assert_eq!(block_on(frames.next()), Err(FrameError::Source("torn")));
    }
}
