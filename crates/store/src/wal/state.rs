//! The state: which height the frames belong to, and what the engine signed last.

use std::io;

use bithealth_types::Height;
use bytes::Bytes;

use super::SAFETY_LEN_MAX;
use crate::marks::{Fields, summed};

/// Bytes set aside for the state at the start of each file: whole pages, so that frames are not torn with it.
pub(super) const SLOT_LEN: u64 = 68 << 10;

const MAGIC: &[u8; 8] = b"BHSTATE\x01";
const LEN_AT: usize = 32;
const FIXED_LEN: usize = LEN_AT + 8;

const _: () = assert!(FIXED_LEN + SAFETY_LEN_MAX <= SLOT_LEN as usize);

/// What stands in front of both files. Numbers are little-endian.
///
/// | offset | length | field | unit |
/// |---|---|---|---|
/// | 0 | 8 | `BHSTATE` 1 | |
/// | 8 | 8 | number: one more than that of the state before | |
/// | 16 | 8 | height the frames belong to | |
/// | 24 | 8 | salt of the frames, drawn for each height | |
/// | 32 | 4 | length of the safety state and 1, or 0 if there is none | bytes |
/// | 36 | | safety state | |
/// | end − 4 | 4 | checksum | CRC32C |
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) number: u64,
    pub(super) height: Height,
    pub(super) salt: u64,
    pub(super) safety: Option<Bytes>,
}

impl State {
    /// The state of a log that was never written to.
    pub(super) fn first() -> io::Result<Self> {
        Ok(Self { number: 0, height: Height(0), salt: salt()?, safety: None })
    }

    /// The state after this one, with what was signed.
    pub(super) fn signed(&self, safety: &[u8]) -> Self {
        Self { number: self.number + 1, safety: Some(Bytes::copy_from_slice(safety)), ..self.clone() }
    }

    /// The state after this one, at a new height.
    pub(super) fn started(&self, height: Height) -> io::Result<Self> {
        Ok(Self { number: self.number + 1, height, salt: salt()?, safety: self.safety.clone() })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let safety = self.safety.as_deref();
        let safety_len = safety.map_or(0, |safety| safety.len() as u32 + 1);
        let numbers = [self.number, self.height.0, self.salt].map(u64::to_le_bytes).concat();
        summed(&[MAGIC, &numbers, &safety_len.to_le_bytes(), safety.unwrap_or_default()])
    }

    /// The state that `slot` begins with, if it verifies.
    pub(super) fn decode(slot: &[u8]) -> Option<Self> {
        let safety_len = u32::from_le_bytes(*slot.get(LEN_AT..)?.first_chunk()?);
        let len = FIXED_LEN + safety_len.saturating_sub(1) as usize;
        let mut fields = Fields::checked(slot.get(..len)?, MAGIC)?;
        let (number, height, salt) = (fields.u64()?, Height(fields.u64()?), fields.u64()?);
        let _safety_len: [u8; 4] = fields.take()?;
        let safety = (safety_len > 0).then(|| Bytes::copy_from_slice(fields.rest()));
        Some(Self { number, height, salt, safety })
    }
}

/// Nobody but the log knows it, so no frame can be made to verify at another height.
fn salt() -> io::Result<u64> {
    let mut salt = [0; 8];
    getrandom::fill(&mut salt).map_err(io::Error::other)?;
    Ok(u64::from_le_bytes(salt))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_reads_back_whatever_follows_and_is_refused_when_any_bit_turns() {
        for safety in [None, Some(Bytes::new()), Some(Bytes::from_static(b"signed"))] {
            let state = State { number: 3, height: Height(7), salt: 9, safety };
            let bytes = state.encode();
            assert_eq!(State::decode(&[&bytes[..], b"of a longer state before"].concat()), Some(state));
            for bit in 0..8 * bytes.len() {
                let mut bytes = bytes.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                bytes.resize(SLOT_LEN as usize, 0);
                assert_eq!(State::decode(&bytes), None, "bit {bit}");
            }
            for len in 0..bytes.len() {
                assert_eq!(State::decode(&bytes[..len]), None, "len {len}");
            }
        }
    }

    #[test]
    fn each_height_has_a_salt_of_its_own() {
        let first = State::first().unwrap();
        let started = first.started(Height(1)).unwrap();
        assert_ne!(first.salt, started.salt);
        assert_eq!(started.signed(b"signed").salt, started.salt);
    }
}
