use std::pin::Pin;
use std::task::{Context, Poll};

use bithealth_proto::{DecodeError, v1};
use futures::FutureExt;
use futures::executor::block_on;
use futures::io::Cursor;
use proptest::prelude::*;
use prost::Message;

use super::*;
use crate::peers::Peer;

/// Gives its bytes in pieces of the lengths given, and is not ready before each.
struct Trickle {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    ready: bool,
}

impl AsyncRead for Trickle {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, out: &mut [u8]) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = self.pieces.pop().unwrap_or(usize::MAX).min(self.bytes.len()).min(out.len());
        out[..count].copy_from_slice(&self.bytes[..count]);
        self.bytes.drain(..count);
        Poll::Ready(Ok(count))
    }
}

/// Takes bytes in pieces of the lengths given, and is not ready before each.
#[derive(Default)]
struct Sluggish {
    bytes: Vec<u8>,
    pieces: Vec<usize>,
    ready: bool,
}

impl AsyncWrite for Sluggish {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.ready = !self.ready;
        if !self.ready {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let count = self.pieces.pop().unwrap_or(usize::MAX).min(bytes.len());
        self.bytes.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn owner() -> Arc<Counted> {
    let peer = Arc::new(Peer::new(NodeId([1; 32])));
    Arc::new(Counted::take(&peer, Side::Inbound, 1).unwrap())
}

fn reader<R: AsyncRead + Unpin>(io: R) -> Reader<R> {
    Reader::new(io, owner())
}

fn shard_leaves(id: u64, len: usize) -> v1::ShardLeaves {
    v1::ShardLeaves { id, data: vec![id as u8; len].into() }
}

fn ask(id: u64, len: usize) -> v1::ExchangeAsk {
    v1::ExchangeAsk { ask: Some(v1::exchange_ask::Ask::Leaves(shard_leaves(id, len))) }
}

fn written(messages: &[v1::ExchangeAsk]) -> Vec<u8> {
    written_in_pieces(messages, Vec::new())
}

fn written_in_pieces(messages: &[v1::ExchangeAsk], pieces: Vec<usize>) -> Vec<u8> {
    let mut writer = Writer::new(Sluggish { pieces, ..Sluggish::default() }, owner());
    for message in messages {
        block_on(writer.send(message)).unwrap();
    }
    block_on(writer.flush()).unwrap();
    writer.io.bytes
}

#[test]
fn a_frame_of_the_longest_length_passes_and_one_byte_more_is_refused() {
    let max = v1::Frontier::LEN_MAX;
    let overhead = v1::Frontier { author: vec![1; 64].into(), ..Default::default() }.encoded_len() - 64;
    let longest = v1::Frontier { author: vec![1; max - overhead].into(), ..Default::default() };
    let longer = v1::Frontier { author: vec![1; max - overhead + 1].into(), ..Default::default() };

    let mut writer = Writer::new(Cursor::new(Vec::new()), owner());
    block_on(writer.send(&longest)).unwrap();
    let error = block_on(writer.send(&longer)).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { what: "Frontier", got, max: m } if got == max + 1 && m == max));
    block_on(writer.flush()).unwrap();
    assert_eq!(block_on(reader(Cursor::new(writer.io.into_inner())).recv()).unwrap(), Some(longest));

    let mut bytes = (max as u32 + 1).to_be_bytes().to_vec();
    bytes.extend(longer.encode_to_vec());
    let error = block_on(reader(Cursor::new(bytes)).recv::<v1::Frontier>()).unwrap_err();
    assert!(matches!(error, FrameError::TooLong { what: "Frontier", got, max: m } if got == max + 1 && m == max));
}

#[test]
fn a_stream_that_ends_inside_a_frame_is_an_error_wherever_it_ends() {
    let bytes = written(&[ask(7, 100)]);
    for len in 1..bytes.len() {
        let error = block_on(reader(Cursor::new(bytes[..len].to_vec())).recv::<v1::ExchangeAsk>()).unwrap_err();
        let due = if len < PREFIX_LEN { PREFIX_LEN } else { bytes.len() };
        assert!(matches!(error, FrameError::Cut { got, due: d, .. } if got == len && d == due), "{len}: {error}");
    }
    assert!(block_on(reader(Cursor::new(Vec::new())).recv::<v1::ExchangeAsk>()).unwrap().is_none());
}

#[test]
fn what_is_not_the_message_is_malformed() {
    let bytes = [&3u32.to_be_bytes()[..], &[0xFF; 3]].concat();
    let error = block_on(reader(Cursor::new(bytes)).recv::<v1::ExchangeAsk>()).unwrap_err();
    assert!(matches!(error, FrameError::Malformed(DecodeError::Malformed { what: "ExchangeAsk", .. })));
}

#[test]
fn announcing_a_long_frame_allocates_little() {
    let mut reader = reader(Cursor::new((v1::SyncAnswer::LEN_MAX as u32).to_be_bytes().to_vec()));
    block_on(reader.recv::<v1::SyncAnswer>()).unwrap_err();
    assert!(reader.partial.unwrap().bytes.capacity() <= FRAME_AHEAD_LEN);
}

#[test]
fn a_small_message_stays_in_the_buffer_until_it_is_flushed() {
    let mut writer = Writer::new(Cursor::new(Vec::new()), owner());
    block_on(writer.send(&ask(1, 10))).unwrap();
    assert!(writer.io.get_ref().is_empty());
    block_on(writer.send(&ask(2, WRITE_BUFFER_LEN))).unwrap();
    assert!(writer.io.get_ref().len() > WRITE_BUFFER_LEN);
}

#[test]
fn the_leaves_of_a_large_message_are_not_gathered_and_are_finished_by_the_next_call() {
    let (first, second) = (ask(1, DIRECT_WRITE_MIN), ask(2, DIRECT_WRITE_MIN));
    let mut writer = Writer::new(Sluggish { pieces: vec![1000; 3], ..Sluggish::default() }, owner());
    assert!(writer.send(&first).now_or_never().is_none(), "cancelled in the midst of it");
    assert!(writer.buffer.len() < 100, "only what stands before the leaves");
    block_on(writer.send(&second)).unwrap();
    assert!(writer.payload.is_empty());
    let mut reader = reader(Cursor::new(writer.io.bytes));
    for message in [first, second] {
        assert_eq!(block_on(reader.recv()).unwrap(), Some(message));
    }
}

#[test]
fn bytes_are_counted_for_the_peer_and_its_place_is_given_back() {
    let peer = Arc::new(Peer::new(NodeId([1; 32])));
    let place = Counted::take(&peer, Side::Inbound, 1).unwrap();
    assert!(Counted::take(&peer, Side::Inbound, 1).is_none());
    assert!(Counted::take(&peer, Side::Outbound, 1).is_some());

    let bytes = written(&[ask(1, 70_000)]);
    let len = bytes.len() as u64;
    let mut reader = Reader::new(Cursor::new(bytes), Arc::new(place));
    block_on(reader.recv::<v1::ExchangeAsk>()).unwrap();
    assert_eq!(peer.bytes_in.load(Relaxed), len);
    drop(reader);
    assert!(Counted::take(&peer, Side::Inbound, 1).is_some());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn what_is_sent_is_received_however_it_is_cut_and_however_often_receiving_is_cancelled(
        lens in prop::collection::vec(prop_oneof![0usize..300, 0usize..700_000], 1..6),
        taken in prop::collection::vec(1usize..100_000, 0..40),
        pieces in prop::collection::vec(1usize..100_000, 0..40),
    ) {
        let messages: Vec<_> = lens.iter().zip(1..).map(|(&len, id)| ask(id, len)).collect();
        let mut reader = reader(Trickle { bytes: written_in_pieces(&messages, taken), pieces, ready: false });
        for message in messages {
            // Each poll is a call of its own, dropped when it is not ready.
            let got = loop {
                if let Some(got) = reader.recv::<v1::ExchangeAsk>().now_or_never() {
                    break got.unwrap();
                }
            };
            prop_assert_eq!(got, Some(message));
        }
        prop_assert!(block_on(reader.recv::<v1::ExchangeAsk>()).unwrap().is_none());
    }
}
