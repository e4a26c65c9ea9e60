//! Open files that come with a connection of the socket (`SCM_RIGHTS`, unix(7)).
//!
//! A record of gigabytes need not pass through the socket and a second process to reach a file: the caller opens the file
//! and hands it over, the node writes into it. The node opens nothing by name, so it can write nowhere that the caller
//! could not.

use std::fs::File;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, ready};

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use rustix::fs::{OFlags, fcntl_getfl};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags,
};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::{TcpStream, UnixListener, UnixStream};

use crate::error::{ErrorBody, ErrorCode};
use crate::limit::Limited;

/// Room for the first read of a connection, the only one that looks for a file.
const FIRST_READ_LEN: usize = 4 << 10;

/// A caller's connection that carries an open file with its first bytes.
#[derive(Debug)]
pub struct WithFile {
    stream: UnixStream,
    file: Option<OwnedFd>,
}

impl WithFile {
    /// Hands `file` over with what is written to `stream` first.
    pub fn new(stream: UnixStream, file: OwnedFd) -> Self {
        Self { stream, file: Some(file) }
    }
}

impl AsyncWrite for WithFile {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let Self { stream, file } = &mut *self;
        loop {
            let Some(carried) = file else { return Pin::new(stream).poll_write(cx, buf) };
            ready!(stream.poll_write_ready(cx))?;
            match stream.try_io(Interest::WRITABLE, || send(stream, buf, carried)) {
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok(len) => {
                    *file = None;
                    return Poll::Ready(Ok(len));
                }
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for WithFile {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

/// Where the file that came with a connection waits for the request that is for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// None: nothing can come through this door.
    slot: Option<Arc<Mutex<Came>>>,
}

/// What came with a connection.
#[derive(Debug, Default)]
enum Came {
    #[default]
    Nothing,
    File(OwnedFd),
    /// Which of them is meant nobody knows; all are closed.
    Several,
}

/// Why there is no file that can be written to as asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("an open file comes over the socket only")]
    OtherDoor,
    #[error("no open file came with the connection")]
    Nothing,
    #[error("several files came with the connection")]
    Several,
    #[error("what came with the connection is no regular file")]
    NotRegular,
    #[error("the file that came is not open for writing")]
    NotWritable,
    #[error("the file that came is open with O_APPEND or O_DIRECT, so its parts cannot be written where they belong")]
    OtherMode,
    #[error("the file that came cannot be looked at: {0}")]
    Unknown(#[from] io::Error),
}

impl From<Unfit> for ErrorBody {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::OtherDoor => Self::new(ErrorCode::SocketOnly, unfit),
            Unfit::Nothing => Self::new(ErrorCode::NoFile, unfit),
            unfit => Self::new(ErrorCode::BadRequest, unfit)
                .with_next_step("hand over one regular file that is open for writing"),
        }
    }
}

impl Passed {
    fn nothing_yet() -> Self {
        Self { slot: Some(Arc::default()) }
    }

    fn put(&self, came: Came) {
        if let Some(slot) = &self.slot {
            *slot.lock().expect("no holder panics") = came;
        }
    }

    /// The file, if parts can be written to any place in it.
    pub(crate) fn take(&self) -> Result<File, Unfit> {
        let slot = self.slot.as_ref().ok_or(Unfit::OtherDoor)?;
        let file = match std::mem::take(&mut *slot.lock().expect("no holder panics")) {
            Came::File(file) => file,
            Came::Nothing => return Err(Unfit::Nothing),
            Came::Several => return Err(Unfit::Several),
        };
        let flags = fcntl_getfl(&file).map_err(io::Error::from)?;
        let file = File::from(file);
        if !file.metadata()?.is_file() {
            Err(Unfit::NotRegular)
        } else if flags.intersection(OFlags::RWMODE) == OFlags::RDONLY {
            Err(Unfit::NotWritable)
        } else if flags.intersects(UNFIT_MODES) {
            Err(Unfit::OtherMode)
        } else {
            Ok(file)
        }
    }
}

/// Modes in which a write does not go where it says, or not at any length.
#[cfg(target_os = "linux")]
const UNFIT_MODES: OFlags = OFlags::APPEND.union(OFlags::DIRECT);
#[cfg(not(target_os = "linux"))]
const UNFIT_MODES: OFlags = OFlags::APPEND;

impl<L: Listener<Io: Unpin + Carries>> Connected<IncomingStream<'_, Limited<L>>> for Passed {
    fn connect_info(stream: IncomingStream<'_, Limited<L>>) -> Self {
        stream.io().inner().passed()
    }
}

/// A connection of a door.
pub(crate) trait Carries {
    /// What comes with it; nothing where it cannot.
    fn passed(&self) -> Passed {
        Passed::default()
    }
}

impl Carries for TcpStream {}

impl Carries for Receiving {
    fn passed(&self) -> Passed {
        self.passed.clone()
    }
}

/// Accepts connections that may carry a file.
#[derive(Debug)]
pub(crate) struct FileListener(pub(crate) UnixListener);

impl Listener for FileListener {
    type Io = Receiving;
    type Addr = tokio::net::unix::SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (Receiving::new(stream), address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.0.local_addr()
    }
}

/// The node's side of a connection, whose first read takes the file.
pub(crate) struct Receiving {
    stream: UnixStream,
    begun: bool,
    passed: Passed,
}

impl Receiving {
    fn new(stream: UnixStream) -> Self {
        Self { stream, begun: false, passed: Passed::nothing_yet() }
    }
}

impl AsyncRead for Receiving {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        while !self.begun {
            ready!(self.stream.poll_read_ready(cx))?;
            let room = buf.initialize_unfilled_to(buf.remaining().min(FIRST_READ_LEN));
            match self.stream.try_io(Interest::READABLE, || receive(&self.stream, room)) {
                Err(error) if is_transient(&error) => {}
                Err(error) => return Poll::Ready(Err(error)),
                Ok((len, came)) => {
                    buf.advance(len);
                    self.passed.put(came);
                    self.begun = true;
                    return Poll::Ready(Ok(()));
                }
            }
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Receiving {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Errors after which the same call is made again once the socket is ready.
fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

fn send(stream: &UnixStream, buf: &[u8], file: &OwnedFd) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file.as_fd()];
    let fits = control.push(SendAncillaryMessage::ScmRights(&files));
    debug_assert!(fits, "there is space for one");
    Ok(rustix::net::sendmsg(stream, &[IoSlice::new(buf)], &mut control, SendFlags::empty())?)
}

/// What a first read brings.
fn receive(stream: &UnixStream, room: &mut [u8]) -> io::Result<(usize, Came)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let got = rustix::net::recvmsg(stream, &mut [IoSliceMut::new(room)], &mut control, close_on_exec())?;
    let files = control.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    let mut files = files.flatten();
    let came = match (files.next(), files.next()) {
        (Some(file), None) if !got.flags.contains(ReturnFlags::CTRUNC) => Came::File(file),
        (None, _) => Came::Nothing, // lost on the way, if it was sent: a node at its limit of open files gets none
        (Some(_), _) => Came::Several,
    };
    Ok((got.bytes, came))
}

/// A file that came must not reach programs that the node starts, where the system can see to that.
fn close_on_exec() -> RecvFlags {
    #[cfg(target_os = "linux")]
    return RecvFlags::CMSG_CLOEXEC;
    #[cfg(not(target_os = "linux"))]
    return RecvFlags::empty();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Seek, Write};

    use super::*;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    async fn pass(file: OwnedFd) -> Passed {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let mut carrying = WithFile::new(ours, file);
        let mut receiving = Receiving::new(theirs);
        let passed = receiving.passed();
        let long = vec![7; 3 * FIRST_READ_LEN];
        let mut got = vec![0; long.len()];
        let (written, read) = tokio::join!(carrying.write_all(&long), receiving.read_exact(&mut got));
        written.unwrap();
        read.unwrap();
        assert_eq!(got, long, "the bytes come as without a file");
        receiving.write_all(b"and back").await.unwrap();
        let mut back = [0; 8];
        carrying.read_exact(&mut back).await.unwrap();
        assert_eq!(&back, b"and back");
        passed
    }

    #[tokio::test]
    async fn an_open_file_goes_over_with_the_first_bytes_once() {
        let mut file = tempfile::tempfile().unwrap();
        let passed = pass(file.try_clone().unwrap().into()).await;
        passed.take().unwrap().write_all(b"by another").unwrap();
        assert!(matches!(passed.take(), Err(Unfit::Nothing)));
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        assert_eq!(text, "by another");
    }

    #[tokio::test]
    async fn what_cannot_be_written_at_any_place_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let writable = File::create(&path).unwrap();
        assert!(pass(writable.into()).await.take().is_ok());
        let appending = File::options().append(true).open(&path).unwrap();
        assert!(matches!(pass(appending.into()).await.take(), Err(Unfit::OtherMode)));
        let readable = File::open(&path).unwrap();
        assert!(matches!(pass(readable.into()).await.take(), Err(Unfit::NotWritable)));
        let (_end, pipe) = std::io::pipe().unwrap();
        assert!(matches!(pass(pipe.into()).await.take(), Err(Unfit::NotRegular)));
    }

    #[tokio::test]
    async fn a_connection_without_a_file_brings_none() {
        let (mut ours, stream) = UnixStream::pair().unwrap();
        let mut receiving = Receiving::new(stream);
        ours.write_all(b"plain").await.unwrap();
        let mut got = [0; 5];
        receiving.read_exact(&mut got).await.unwrap();
        assert!(matches!(receiving.passed.take(), Err(Unfit::Nothing)));
        drop(ours);
        assert_eq!(receiving.read(&mut got).await.unwrap(), 0, "its end is seen");
    }

    #[tokio::test]
    async fn of_several_files_none_is_taken() {
        for count in 2..8 {
            let (ours, theirs) = UnixStream::pair().unwrap();
            let files: Vec<File> = (0..count).map(|_| tempfile::tempfile().unwrap()).collect();
            let files: Vec<_> = files.iter().map(AsFd::as_fd).collect();
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(8))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            assert!(control.push(SendAncillaryMessage::ScmRights(&files)));
            rustix::net::sendmsg(&ours, &[IoSlice::new(b"x")], &mut control, SendFlags::empty()).unwrap();
            let mut receiving = Receiving::new(theirs);
            receiving.read_exact(&mut [0]).await.unwrap();
            assert!(matches!(receiving.passed.take(), Err(Unfit::Several)), "{count}");
        }
    }
}
