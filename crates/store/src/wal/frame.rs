//! Frames, one after the other behind the state. Numbers are little-endian.
//!
//! | offset | length | field | unit |
//! |---|---|---|---|
//! | 0 | 4 | length of the content; `0xFFFFFFFF` where the log ends | bytes |
//! | 4 | 4 | checksum of height, salt, and the lengths and contents of all frames up to this one | CRC32C |
//! | 8 | | content | |
//!
//! A checksum goes on from the one before, so a frame verifies at its own height, in its own place and behind its own
//! predecessors: what a torn append left behind never follows what was written over its beginning.

use std::io;

use bytes::Bytes;
use crc32c::{crc32c, crc32c_append};

use super::FRAME_LEN_MAX;
use super::state::{SLOT_LEN, State};
use crate::disk::DiskFile;

/// Bytes in front of a frame's content, and where the log ends.
pub(super) const HEAD_LEN: usize = 8;

const END: u32 = u32::MAX;

/// Where the frames end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tail {
    pub(super) at: u64,
    sum: u32,
}

/// What stands behind a frame.
pub(super) enum Next {
    Frame(Bytes),
    End,
    /// Nothing that verifies.
    Unsound,
}

impl Tail {
    /// Of no frames.
    pub(super) fn new(state: &State) -> Self {
        Self { at: SLOT_LEN, sum: crc32c_append(crc32c(&state.height.0.to_le_bytes()), &state.salt.to_le_bytes()) }
    }

    /// Bytes of all frames with their heads.
    pub(super) fn frames_len(&self) -> u64 {
        self.at - SLOT_LEN
    }

    /// Writes frames here, and the end behind them; gives where that is.
    pub(super) fn write(mut self, file: &dyn DiskFile, frames: &[impl AsRef<[u8]>]) -> io::Result<Self> {
        let at = self.at;
        let heads: Vec<_> = frames.iter().map(|frame| self.push(frame.as_ref())).collect();
        let end = self.end();
        let framed = heads.iter().zip(frames).flat_map(|(head, frame)| [&head[..], frame.as_ref()]);
        let parts: Vec<&[u8]> = framed.chain([&end[..]]).collect();
        file.write_at(&parts, at)?;
        Ok(self)
    }

    /// Reads what stands here, and moves behind it if it is a frame.
    pub(super) fn next(&mut self, file: &dyn DiskFile) -> io::Result<Next> {
        let mut head = [0; HEAD_LEN];
        if file.read_at(&mut head, self.at)? < HEAD_LEN {
            return Ok(Next::Unsound);
        }
        if head == self.end() {
            return Ok(Next::End);
        }
        let len = u32::from_le_bytes(*head.first_chunk().expect("eight bytes begin with four")) as usize;
        // A frame with no room behind it for the end was cut short by a full disk: to keep it would take that room.
        let mut content = vec![0; len.min(FRAME_LEN_MAX) + HEAD_LEN];
        let got = file.read_at(&mut content, self.at + HEAD_LEN as u64)?;
        content.truncate(len);
        let mut behind = *self;
        if got < len + HEAD_LEN || behind.push(&content) != head {
            return Ok(Next::Unsound);
        }
        *self = behind;
        Ok(Next::Frame(content.into()))
    }

    /// What stands here if the log ends here.
    pub(super) fn end(&self) -> [u8; HEAD_LEN] {
        self.head(END, &[])
    }

    /// Moves behind a frame; gives its head.
    fn push(&mut self, content: &[u8]) -> [u8; HEAD_LEN] {
        let head = self.head(content.len() as u32, content);
        self.sum = u32::from_le_bytes(*head.last_chunk().expect("eight bytes end with four"));
        self.at += (HEAD_LEN + content.len()) as u64;
        head
    }

    fn head(&self, len: u32, content: &[u8]) -> [u8; HEAD_LEN] {
        let len = len.to_le_bytes();
        let sum = crc32c_append(crc32c_append(self.sum, &len), content);
        let mut head = [0; HEAD_LEN];
        head[..4].copy_from_slice(&len);
        head[4..].copy_from_slice(&sum.to_le_bytes());
        head
    }
}
