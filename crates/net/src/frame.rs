//! Streams of frames: a u32 length, big endian, then one message.

mod error;
mod place;

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use bithealth_proto::{Limited, decode_frame};
use bithealth_types::NodeId;
use bytes::{Buf, Bytes};
use futures::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadHalf, WriteHalf};

pub use error::FrameError;
pub(crate) use place::{Counted, Side};

/// Bytes of the length in front of a message.
const PREFIX_LEN: usize = 4;

/// What is sent gathers up to here before it goes to the connection: a want and its neighbours then share packets,
/// and a run of leaves goes out in one write.
const WRITE_BUFFER_LEN: usize = 256 << 10;

/// What is read ahead, so that small frames do not cost a read each. What of a large one is read ahead is copied once
/// more than the rest.
const READ_BUFFER_LEN: usize = 16 << 10;

/// Of a message of at least this many bytes, the large field goes to the connection from where it lies.
const DIRECT_WRITE_MIN: usize = 128 << 10;

/// A message's rest of at least this many bytes is read straight into its own memory, past the read buffer.
const DIRECT_READ_MIN: usize = 8 << 10;

/// Memory set aside for a frame before its bytes arrive; a longer one grows as they do. So a peer cannot make us
/// allocate by announcing. One chunk of 256 KiB with its proof fits.
const FRAME_AHEAD_LEN: usize = 320 << 10;

/// A stream to one peer, framed. [`Self::split`] lets both directions run at once.
#[derive(Debug)]
pub struct Stream {
    reader: Reader,
    writer: Writer,
}

/// The receiving half of a [`Stream`].
#[derive(Debug)]
pub struct Reader<R = ReadHalf<libp2p::Stream>> {
    io: R,
    owner: Arc<Counted>,
    /// Bytes read ahead lie at `start..end`.
    ahead: Box<[u8]>,
    start: usize,
    end: usize,
    /// A frame whose end has not come, so that a cancelled `recv` loses nothing.
    partial: Option<Partial>,
}

#[derive(Debug)]
struct Partial {
    len: usize,
    bytes: Vec<u8>,
    filled: usize,
}

/// The sending half of a [`Stream`].
#[derive(Debug)]
pub struct Writer<W = WriteHalf<libp2p::Stream>> {
    io: W,
    owner: Arc<Counted>,
    buffer: Vec<u8>,
    /// What follows the buffer: the large field of its last message.
    payload: Bytes,
    /// Bytes of `buffer` that the connection has taken.
    written: usize,
}

impl Stream {
    pub(crate) fn new(io: libp2p::Stream, place: Counted) -> Self {
        let owner = Arc::new(place);
        let (read, write) = io.split();
        Self { reader: Reader::new(read, owner.clone()), writer: Writer::new(write, owner) }
    }

    /// Who is at the other end.
    pub fn node(&self) -> NodeId {
        self.reader.owner.peer.node
    }

    /// Both halves, each of which may live in a task of its own. The stream closes when both are gone.
    pub fn split(self) -> (Reader, Writer) {
        (self.reader, self.writer)
    }

    /// See [`Reader::recv`].
    ///
    /// # Errors
    /// See [`Reader::recv`].
    pub async fn recv<M: Limited>(&mut self) -> Result<Option<M>, FrameError> {
        self.reader.recv().await
    }

    /// See [`Writer::send`].
    ///
    /// # Errors
    /// See [`Writer::send`].
    pub async fn send<M: Limited>(&mut self, message: &M) -> Result<(), FrameError> {
        self.writer.send(message).await
    }

    /// See [`Writer::flush`].
    ///
    /// # Errors
    /// See [`Writer::flush`].
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.writer.flush().await
    }

    /// See [`Writer::close`].
    ///
    /// # Errors
    /// See [`Writer::close`].
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.writer.close().await
    }

    /// Sends one message, flushes, and waits for the answer.
    ///
    /// # Errors
    /// [`FrameError::Ended`] if the peer closes the stream instead; otherwise as [`Self::send`] and [`Self::recv`].
    pub async fn ask<Q: Limited, A: Limited>(&mut self, question: &Q) -> Result<A, FrameError> {
        self.send(question).await?;
        self.flush().await?;
        self.recv().await?.ok_or(FrameError::Ended { what: A::NAME })
    }
}

impl<R: AsyncRead + Unpin> Reader<R> {
    pub(crate) fn new(io: R, owner: Arc<Counted>) -> Self {
        Self { io, owner, ahead: vec![0; READ_BUFFER_LEN].into(), start: 0, end: 0, partial: None }
    }

    /// The next message, or `None` where the peer closed its side between two of them. Its `bytes` fields share the
    /// frame's memory, which holds nothing else.
    ///
    /// May be cancelled and called again: no byte is lost.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] before anything of the message is read; [`FrameError::Cut`] if the stream ends inside
    /// one; [`FrameError::Malformed`] and [`FrameError::Io`].
    pub async fn recv<M: Limited>(&mut self) -> Result<Option<M>, FrameError> {
        let Some(frame) = self.frame(M::NAME, M::LEN_MAX).await? else { return Ok(None) };
        Ok(Some(decode_frame(frame)?))
    }

    /// Bytes of a message whose end has not come. Whoever waits long for it may lose patience.
    pub fn unfinished_len(&self) -> usize {
        self.partial.as_ref().map_or(self.end - self.start, |partial| PREFIX_LEN + partial.filled)
    }

    async fn frame(&mut self, what: &'static str, max: usize) -> Result<Option<Bytes>, FrameError> {
        if self.partial.is_none() {
            let Some(len) = self.prefix(what).await? else { return Ok(None) };
            if len > max {
                return Err(FrameError::TooLong { what, got: len, max });
            }
            self.start += PREFIX_LEN;
            self.partial = Some(Partial { len, bytes: vec![0; len.min(FRAME_AHEAD_LEN)], filled: 0 });
        }
        while let Some(partial) = &self.partial
            && partial.filled < partial.len
        {
            self.fill_partial(what).await?;
        }
        Ok(self.partial.take().map(|partial| partial.bytes.into()))
    }

    /// The length in front of the next frame, left where it is; `None` at the end of the stream.
    async fn prefix(&mut self, what: &'static str) -> Result<Option<usize>, FrameError> {
        loop {
            let waiting = &self.ahead[self.start..self.end];
            if let Some(prefix) = waiting.first_chunk::<PREFIX_LEN>() {
                return Ok(Some(u32::from_be_bytes(*prefix) as usize));
            }
            let got = waiting.len();
            if self.read_ahead().await? == 0 {
                return if got == 0 { Ok(None) } else { Err(FrameError::Cut { what, got, due: PREFIX_LEN }) };
            }
        }
    }

    /// Moves at least one byte into the frame that is being read.
    async fn fill_partial(&mut self, what: &'static str) -> Result<(), FrameError> {
        let Some(partial) = &mut self.partial else { return Ok(()) };
        if partial.filled == partial.bytes.len() {
            let grown = (2 * partial.bytes.len()).min(partial.len);
            partial.bytes.resize(grown, 0);
        }
        let rest = &mut partial.bytes[partial.filled..];
        let ahead = &self.ahead[self.start..self.end];
        if !ahead.is_empty() {
            let count = rest.len().min(ahead.len());
            rest[..count].copy_from_slice(&ahead[..count]);
            self.start += count;
            partial.filled += count;
            return Ok(());
        }
        let count = if rest.len() >= DIRECT_READ_MIN {
            let count = self.io.read(rest).await?;
            self.owner.peer.bytes_in.fetch_add(count as u64, Relaxed);
            partial.filled += count;
            count
        } else {
            self.read_ahead().await?
        };
        match (&self.partial, count) {
            (Some(partial), 0) => {
                Err(FrameError::Cut { what, got: PREFIX_LEN + partial.filled, due: PREFIX_LEN + partial.len })
            }
            _ => Ok(()),
        }
    }

    /// Reads whatever is there behind what was read ahead; 0 at the end of the stream.
    async fn read_ahead(&mut self) -> io::Result<usize> {
        if self.start > 0 {
            self.ahead.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
        }
        let count = self.io.read(&mut self.ahead[self.end..]).await?;
        self.end += count;
        self.owner.peer.bytes_in.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
}

impl<W: AsyncWrite + Unpin> Writer<W> {
    pub(crate) fn new(io: W, owner: Arc<Counted>) -> Self {
        Self { io, owner, buffer: Vec::new(), payload: Bytes::new(), written: 0 }
    }

    /// Writes a message, into the buffer at first: it leaves when 256 KiB have gathered or on [`Self::flush`]. The leaves in
    /// a large one are not copied there, and leave at once.
    ///
    /// A message is in the buffer before the first await but that for the one before it, so a cancelled call has either not
    /// begun or is finished by the next one.
    ///
    /// # Errors
    /// [`FrameError::TooLong`], and nothing is written; [`FrameError::Io`].
    pub async fn send<M: Limited>(&mut self, message: &M) -> Result<(), FrameError> {
        let len = message.encoded_len();
        if len > M::LEN_MAX {
            return Err(FrameError::TooLong { what: M::NAME, got: len, max: M::LEN_MAX });
        }
        if !self.payload.is_empty() {
            self.write_out().await?;
        }
        let parts = (len >= DIRECT_WRITE_MIN).then(|| message.parts()).flatten();
        self.buffer.extend((len as u32).to_be_bytes());
        match parts {
            Some((head, payload)) => {
                self.buffer.extend(head);
                self.payload = payload;
            }
            None => message.encode(&mut self.buffer).expect("a Vec grows as needed"),
        }
        let gathered = self.buffer.len() - self.written;
        if gathered >= WRITE_BUFFER_LEN || !self.payload.is_empty() { self.write_out().await } else { Ok(()) }
    }

    /// Sends what is in the buffer on its way.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn flush(&mut self) -> Result<(), FrameError> {
        self.write_out().await?;
        Ok(self.io.flush().await?)
    }

    /// Flushes, and tells the peer that nothing follows. It may go on sending.
    ///
    /// # Errors
    /// [`FrameError::Io`].
    pub async fn close(&mut self) -> Result<(), FrameError> {
        self.write_out().await?;
        Ok(self.io.close().await?)
    }

    async fn write_out(&mut self) -> Result<(), FrameError> {
        while self.written < self.buffer.len() {
            let count = self.io.write(&self.buffer[self.written..]).await?;
            self.written += self.counted(count)?;
        }
        self.buffer.clear();
        self.written = 0;
        self.buffer.shrink_to(4 * WRITE_BUFFER_LEN); // one huge message must not hold its memory for good
        while !self.payload.is_empty() {
            let count = self.io.write(&self.payload).await?;
            let count = self.counted(count)?;
            self.payload.advance(count);
        }
        Ok(())
    }

    /// The connection took so many bytes.
    fn counted(&self, count: usize) -> Result<usize, FrameError> {
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero).into());
        }
        self.owner.peer.bytes_out.fetch_add(count as u64, Relaxed);
        Ok(count)
    }
}

#[cfg(test)]
mod tests;
