//! What can be wrong with a frame.

use std::io;

use bithealth_proto::DecodeError;

/// Why a frame could not be read or written. The stream is of no use afterwards.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Announced longer than this message may be, or we tried to send such a one.
    #[error("a frame of {got} bytes, a {what} has at most {max}")]
    TooLong {
        /// The message's name.
        what: &'static str,
        /// Bytes announced.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not this message.
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    /// The stream ended inside a frame.
    #[error("the stream ended after {got} of the {due} bytes of a {what}")]
    Cut {
        /// The message's name.
        what: &'static str,
        /// Bytes that came, with the length in front.
        got: usize,
        /// Bytes that were due.
        due: usize,
    },
    /// The stream ended where an answer was due.
    #[error("the stream ended, a {what} was due")]
    Ended {
        /// The message's name.
        what: &'static str,
    },
    /// The connection failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}
