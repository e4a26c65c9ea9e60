//! Streams over one TCP connection: yamux with bounded windows.
//!
//! libp2p's own wrapper leaves the receive window of a connection at 1 GiB and splits what is sent into 16 KiB frames;
//! neither can be set there. Source: the yamux specification, hashicorp/yamux, spec.md.

use std::collections::VecDeque;
use std::future::{Ready, ready};
use std::io;
use std::iter;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};

use futures::{AsyncRead, AsyncWrite};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade, OutboundConnectionUpgrade, UpgradeInfo};

use crate::Config;

/// Most bytes of one yamux frame. Larger ones save headers and copies, smaller ones let streams take turns.
const FRAME_LEN_MAX: usize = 64 << 10;

/// Streams that a peer has opened and the swarm has not taken yet. A peer that keeps to yamux' own bound of 256
/// unacknowledged streams never meets this one.
const INBOUND_WAITING_MAX: usize = 256;

/// The upgrade of a connection to many streams.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade(yamux::Config);

impl Upgrade {
    pub(crate) fn new(config: &Config) -> Self {
        let mut yamux = yamux::Config::default();
        yamux.set_max_num_streams(1); // the checks below compare with the other setting as it stands
        yamux.set_max_connection_receive_window(Some(config.connection_window_max));
        yamux.set_max_num_streams(config.streams_per_connection_max());
        yamux.set_split_send_size(FRAME_LEN_MAX);
        Self(yamux)
    }

    fn muxer<C: AsyncRead + AsyncWrite + Unpin>(self, io: C, mode: yamux::Mode) -> Muxer<C> {
        Muxer { connection: yamux::Connection::new(io, self.0, mode), waiting: VecDeque::new(), waker: None }
    }
}

impl UpgradeInfo for Upgrade {
    type Info = &'static str;
    type InfoIter = iter::Once<&'static str>;

    fn protocol_info(&self) -> Self::InfoIter {
        iter::once("/yamux/1.0.0")
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> InboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_inbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(self.muxer(io, yamux::Mode::Server)))
    }
}

impl<C: AsyncRead + AsyncWrite + Send + Unpin + 'static> OutboundConnectionUpgrade<C> for Upgrade {
    type Output = Muxer<C>;
    type Error = io::Error;
    type Future = Ready<io::Result<Muxer<C>>>;

    fn upgrade_outbound(self, io: C, _: Self::Info) -> Self::Future {
        ready(Ok(self.muxer(io, yamux::Mode::Client)))
    }
}

/// A connection that carries many streams.
///
/// yamux makes progress only while it is asked for the next inbound stream, libp2p asks for that only when it wants one.
/// So [`StreamMuxer::poll`] asks, and what arrives waits here.
#[derive(Debug)]
pub(crate) struct Muxer<C> {
    connection: yamux::Connection<C>,
    waiting: VecDeque<yamux::Stream>,
    waker: Option<Waker>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Muxer<C> {
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<yamux::Stream, yamux::ConnectionError>> {
        let next = std::task::ready!(self.connection.poll_next_inbound(cx));
        Poll::Ready(next.unwrap_or(Err(yamux::ConnectionError::Closed)))
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + 'static> StreamMuxer for Muxer<C> {
    type Substream = yamux::Stream;
    type Error = yamux::ConnectionError;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        if let Some(stream) = self.waiting.pop_front() {
            return Poll::Ready(Ok(stream));
        }
        if let Poll::Ready(next) = self.poll_next(cx) {
            return Poll::Ready(next);
        }
        self.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<Self::Substream, Self::Error>> {
        self.connection.poll_new_outbound(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Result<StreamMuxerEvent, Self::Error>> {
        loop {
            let stream = std::task::ready!(self.poll_next(cx))?;
            if self.waiting.len() >= INBOUND_WAITING_MAX {
                tracing::debug!(max = INBOUND_WAITING_MAX, "too many new streams on one connection, one is reset");
                continue;
            }
            self.waiting.push_back(stream);
            if let Some(waker) = self.waker.take() {
                waker.wake();
            }
        }
    }
}
