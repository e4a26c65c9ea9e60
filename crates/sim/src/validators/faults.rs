//! What of a validator's own machine fails, and what must hold all the same.

use std::collections::BTreeMap;
use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bithealth_proto::v1::{self, consensus_message::Message, wal_frame::Frame};
use bithealth_proto::{decode, encode};
use bytes::Bytes;

use crate::disk::Log;

/// Of a thousand effects of each kind, how many fail.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Appends to the write-ahead log.
    pub append_per_mille: u64,
    /// Of a thousand inputs, during how many the key does not sign.
    pub sign_per_mille: u64,
    /// Messages that cannot be sent.
    pub send_per_mille: u64,
    /// Blocks that cannot be made.
    pub build_per_mille: u64,
    /// Blocks that cannot be looked at.
    pub check_per_mille: u64,
    /// Of a thousand appends that failed, how many left what was signed last without the frames that led to it.
    pub torn_per_mille: u64,
}

/// How often something failed that its engine was told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failed {
    /// Appends.
    pub appends: u64,
    /// Signatures.
    pub signatures: u64,
    /// Messages.
    pub sends: u64,
    /// Blocks that were to be made.
    pub builds: u64,
    /// Blocks that were to be looked at.
    pub checks: u64,
    /// Engines that stood still rather than sign twice: what was signed last was there, and not what led to it.
    pub torn: u64,
}

impl AddAssign for Failed {
    fn add_assign(&mut self, other: Self) {
        self.appends += other.appends;
        self.signatures += other.signatures;
        self.sends += other.sends;
        self.builds += other.builds;
        self.checks += other.checks;
        self.torn += other.torn;
    }
}

/// The key of a validator, which may be out of reach.
#[derive(Clone, Default)]
pub(super) struct KeySwitch(Arc<AtomicBool>);

impl KeySwitch {
    pub(super) fn set_failing(&self, fails: bool) {
        self.0.store(fails, Ordering::Relaxed);
    }

    pub(super) fn fails(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The files of the write-ahead log, for one era.
#[derive(Default)]
pub(super) struct Signed {
    pub(super) wal: Log,
    pub(super) wal_height: u64,
    pub(super) safety: Option<Bytes>,
    unsynced_safety: Option<Bytes>,
    /// Whether the safety state is ahead of the frames of this height.
    is_torn: bool,
}

impl Signed {
    pub(super) fn start(&mut self, height: u64) {
        if self.wal_height != height {
            self.wal.clear();
            (self.wal_height, self.is_torn) = (height, false);
        }
    }

    pub(super) fn append(&mut self, frame: Bytes, safety: Option<Bytes>) {
        self.wal.append(frame);
        self.unsynced_safety = safety.or(self.unsynced_safety.take());
    }

    pub(super) fn sync(&mut self) {
        self.wal.sync();
        self.safety = self.unsynced_safety.take().or(self.safety.take());
    }

    /// Of what was not synced, the last `lost` frames are gone, and the safety state unless `keeps_safety`.
    pub(super) fn lose(&mut self, lost: usize, keeps_safety: bool) {
        let whole = self.wal.frames().len();
        self.wal.crash(lost);
        let safety = self.unsynced_safety.take().filter(|_| keeps_safety);
        if safety.is_some() {
            self.is_torn |= self.wal.frames().len() < whole;
            self.safety = safety;
        }
    }

    pub(super) fn is_torn(&self) -> bool {
        self.is_torn
    }

    /// Whether this vote or proposal would be told again after a crash at this moment.
    pub(super) fn keeps(&self, message: &v1::ConsensusMessage) -> bool {
        let is_it = |bytes: &Bytes| {
            let frame: v1::WalFrame = decode(bytes).expect("the engine wrote it");
            match (frame.frame, &message.message) {
                (Some(Frame::Vote(kept)), Some(Message::Vote(vote))) => kept == *vote,
                (Some(Frame::Proposal(kept)), Some(Message::Proposal(sent))) => kept.signature == sent.signature,
                _ => false,
            }
        };
        self.wal.synced().iter().any(is_it)
    }
}

/// What a machine told, over all its lives: one message for each place.
#[derive(Default)]
pub(super) struct Told(BTreeMap<(u64, u64, u32, i32), Vec<u8>>);

/// What stood at the place of a message before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Before {
    /// Nothing, or the same.
    Fits,
    /// A message that it excludes.
    Another,
}

impl Told {
    /// Takes note of a vote or proposal that is signed with `key`; `None` for everything else.
    pub(super) fn note(&mut self, era: u64, key: &[u8], message: &v1::ConsensusMessage) -> Option<Before> {
        let (place, value) = match &message.message {
            Some(Message::Vote(vote)) if vote.validator == key => {
                ((era, vote.height, vote.round, vote.kind), vote.value.to_vec())
            }
            Some(Message::Proposal(it)) if it.validator == key => {
                ((era, it.height, it.round, 0), encode(&v1::ConsensusProposal { content: None, ..it.clone() }))
            }
            _ => return None,
        };
        let before = self.0.entry(place).or_insert_with(|| value.clone());
        Some(if *before == value { Before::Fits } else { Before::Another })
    }
}
