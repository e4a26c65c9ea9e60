//! What the write-ahead log keeps of a height, and how it is taken in again after a crash.

use bithealth_proto::{DecodeError, decode, encode, v1, v1::wal_frame::Frame};
use bytes::Bytes;
use malachite::{Input, ProposedValue};
use malachite_types::{Round, Timeout, TimeoutKind, Validity, ValueOrigin};

use crate::context::{At, Ctx, Header};
use crate::message::{
    MessageError, number, read_polka, read_proposal, read_round_plus_one, read_vote, who, write_polka, write_proposal,
    write_round_plus_one, write_vote,
};

/// Why a frame of the log is not one.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// It cannot be read.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// It holds something that is no message.
    #[error(transparent)]
    Message(#[from] MessageError),
    /// A kind of timeout that there is not.
    #[error("a timeout of kind {got}, 1 to 3 are due")]
    Timeout {
        /// The kind that came.
        got: u32,
    },
    /// It says nothing that this version knows.
    #[error("the frame is of a kind this version does not know")]
    Unknown,
}

/// As a frame; `None` for what the engine never asks to keep. `content` gives what a proposed value stands for.
pub(crate) fn write(input: &Input<Ctx>, content: impl FnOnce(&Header) -> Option<v1::Proposed>) -> Option<Bytes> {
    let frame = match input {
        Input::Vote(vote) => Frame::Vote(write_vote(vote)),
        Input::Proposal(proposal) => Frame::Proposal(write_proposal(proposal, None)),
        Input::PolkaCertificate(polka) => Frame::Polka(write_polka(polka)),
        Input::TimeoutElapsed(timeout) => {
            let kind = match timeout.kind {
                TimeoutKind::Propose => 1,
                TimeoutKind::Prevote => 2,
                TimeoutKind::Precommit => 3,
                TimeoutKind::Rebroadcast | TimeoutKind::FinalizeHeight(_) => return None,
            };
            Frame::Timeout(v1::WalTimeout { kind, round: number(timeout.round) })
        }
        Input::ProposedValue(value, _) => Frame::Value(v1::WalValue {
            height: value.height.0,
            round: number(value.round),
            polka_round_plus_one: write_round_plus_one(value.valid_round),
            validator: Bytes::copy_from_slice(value.proposer.0.as_bytes()),
            value: Bytes::copy_from_slice(value.value.0.as_bytes()),
            valid: value.validity == Validity::Valid,
            content: content(&value.value),
        }),
        _ => return None,
    };
    Some(encode(&v1::WalFrame { frame: Some(frame) }).into())
}

/// What a frame held, and the content of a value.
type Kept = (Input<Ctx>, Option<(Header, v1::Proposed)>);

/// Reads a frame.
pub(crate) fn read(frame: &[u8]) -> Result<Kept, FrameError> {
    let frame: v1::WalFrame = decode(frame)?;
    let input = match frame.frame.ok_or(FrameError::Unknown)? {
        Frame::Vote(vote) => Input::Vote(read_vote(&vote)?),
        Frame::Proposal(proposal) => Input::Proposal(read_proposal(proposal)?.0),
        Frame::Polka(polka) => Input::PolkaCertificate(read_polka(&polka)?),
        Frame::Timeout(timeout) => {
            let round = Round::new(timeout.round);
            Input::TimeoutElapsed(match timeout.kind {
                1 => Timeout::propose(round),
                2 => Timeout::prevote(round),
                3 => Timeout::precommit(round),
                got => return Err(FrameError::Timeout { got }),
            })
        }
        Frame::Value(value) => {
            let header = Header(bithealth_types::Digest(crate::message::fixed("a logged value", &value.value)?));
            let proposed = ProposedValue {
                height: At(value.height),
                round: Round::new(value.round),
                valid_round: read_round_plus_one(value.polka_round_plus_one),
                proposer: who(&value.validator)?,
                value: header,
                validity: Validity::from_bool(value.valid),
            };
            let content = value.content.map(|content| (header, content));
            return Ok((Input::ProposedValue(proposed, ValueOrigin::Consensus), content));
        }
    };
    Ok((input, None))
}
