//! Every message and stored entry: the types generated from `bithealth/v1/*.proto`, their one canonical encoding, and
//! the limits of what is accepted.
//!
//! Protocol Buffers leave several encodings of one message open (field order, defaults, unknown fields). What is signed,
//! hashed or stored has exactly one here: what [`encode`] writes. [`decode`] refuses everything else.

use bithealth_types::{Digest, GenesisId, PackId};
use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};
use sha2::{Digest as _, Sha256};

/// The generated types.
#[allow(missing_docs, clippy::all)] // documented in the .proto files
pub mod v1 {
    include!(concat!(env!("OUT_DIR"), "/bithealth.v1.rs"));
}

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// Longer than this message may be.
    #[error("{what} of {got} bytes, at most {max} are accepted")]
    TooLong {
        /// The message's name.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// Not Protocol Buffers, or not this message.
    #[error("{what} cannot be decoded: {error}")]
    Malformed {
        /// The message's name.
        what: &'static str,
        /// What the decoder says.
        error: prost::DecodeError,
    },
    /// Well-formed, but not the one encoding we write.
    #[error("{what} is not in its canonical encoding: {got} bytes came, {want} are canonical")]
    NotCanonical {
        /// The message's name.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes of the canonical encoding.
        want: usize,
    },
}

/// The name and the longest accepted encoding of a message that is signed, hashed, stored or sent.
pub trait Limited: Message + Default {
    /// For errors.
    const NAME: &'static str;
    /// Bytes.
    const LEN_MAX: usize;

    /// The message in two parts: its large field as it lies in memory, and what stands in front of that in an encoding that
    /// has it last. Whoever writes both copies none of it. `None` if it has no such field.
    fn parts(&self) -> Option<(Vec<u8>, Bytes)> {
        None
    }
}

macro_rules! limited {
    ($($message:ident $max:expr;)*) => {
        $(impl Limited for v1::$message {
            const NAME: &'static str = stringify!($message);
            const LEN_MAX: usize = $max;
        })*
    };
}

limited! {
    Genesis 8 << 10;
    MemberRecord 2 << 10;
    NodeCertificate 1 << 10;
    Admission 4 << 10;
    Proposal 2 << 10;
    InviteText 4 << 10;
    Kit 4 << 10;
    Keys 2 << 10;
    SealedKeys 4 << 10;
    PackDescriptor 16 << 10;
    Entry 60 << 10;
    SignedEntry 61 << 10;
    NewEntries 64 << 10;
    Evidence 1 << 10;
    Frontier 128;
    Header 1 << 10;
    Body 512 << 10;
    Certificate 32 << 10;
    Block 1 << 20;
    SignedHeader 106 << 10;
    Fork 213 << 10;
    SignedRecovery 40 << 10;
    RecoverySubmission 128 << 10;
    RecoveryExport 128 << 10;
    EvidenceSet 4 << 20;
    Proof 8 << 20; // 256 validators that came one by one: 5 MiB
    Opening 1 << 10;
    ValidatorSet 32 << 10;
    ConsensusMessage 1 << 20;
    WalFrame 1 << 20;
    Safety 1 << 10;
    Catalog 256 << 20;
    Manifest 512 << 10;
    ChunkList 512 << 10;
    FolderHead 256;
    HeadLeaf 128;
    RecordLeaf 128;
    RecordOpening 8 << 10;
    Hello 128 << 10;
    HelloAnswer 129 << 10;
    SyncRequest 1 << 20;
    SyncAnswer 8 << 20;
    AuditAsk 16 << 10;
    AuditTell 24 << 10;
    PutFrame 2 << 20;
    StoredPack 48 << 10;
    Holders 16 << 10;
    ScrubPlace 128;
    AuditedHolder 1 << 10;
    PendingRecords 4 << 20;
    EntryRun 16 << 20;
    BlockRun 65 << 20;
}

impl Limited for v1::ExchangeAsk {
    const NAME: &'static str = "ExchangeAsk";
    const LEN_MAX: usize = 2 << 20;

    fn parts(&self) -> Option<(Vec<u8>, Bytes)> {
        let Some(v1::exchange_ask::Ask::Leaves(leaves)) = &self.ask else { return None };
        let rest = v1::ShardLeaves { data: Bytes::new(), ..leaves.clone() };
        Some((before(ASK_LEAVES, &rest, LEAVES_DATA, leaves.data.len()), leaves.data.clone()))
    }
}

impl Limited for v1::ExchangeTell {
    const NAME: &'static str = "ExchangeTell";
    const LEN_MAX: usize = 2 << 20;

    fn parts(&self) -> Option<(Vec<u8>, Bytes)> {
        let Some(v1::exchange_tell::Tell::Leaves(leaves)) = &self.tell else { return None };
        let rest = v1::Leaves { data: Bytes::new(), ..leaves.clone() };
        Some((before(TELL_LEAVES, &rest, LEAVES_DATA, leaves.data.len()), leaves.data.clone()))
    }
}

/// The numbers of fields: `ExchangeAsk.leaves`, `ExchangeTell.leaves`, and `data` of both kinds of leaves.
const ASK_LEAVES: u32 = 5;
const TELL_LEAVES: u32 = 2;
const LEAVES_DATA: u32 = 2;

/// What stands before the last `len` bytes of a message that holds one other in field `outer`: the start of that, all of
/// `rest`, and the start of its field `data`.
fn before(outer: u32, rest: &impl Message, data: u32, len: usize) -> Vec<u8> {
    let mut start = Vec::new();
    encode_key(data, WireType::LengthDelimited, &mut start);
    encode_varint(len as u64, &mut start);
    let mut bytes = Vec::new();
    encode_key(outer, WireType::LengthDelimited, &mut bytes);
    encode_varint((rest.encoded_len() + start.len() + len) as u64, &mut bytes);
    rest.encode(&mut bytes).expect("a Vec grows as needed");
    bytes.extend(start);
    bytes
}

/// The canonical encoding.
pub fn encode(message: &impl Message) -> Vec<u8> {
    message.encode_to_vec()
}

/// Decodes what is signed, hashed or stored.
///
/// # Errors
/// [`DecodeError`] if the bytes are too long, malformed, or not what [`encode`] writes for this message.
pub fn decode<M: Limited>(bytes: &[u8]) -> Result<M, DecodeError> {
    let message: M = decode_frame(Bytes::copy_from_slice(bytes))?;
    let canonical = message.encode_to_vec();
    if canonical != bytes {
        return Err(DecodeError::NotCanonical { what: M::NAME, got: bytes.len(), want: canonical.len() });
    }
    Ok(message)
}

/// Decodes a frame of a stream, whose form nothing depends on; `bytes` fields share the frame's buffer.
///
/// # Errors
/// [`DecodeError`] if the frame is too long or malformed.
pub fn decode_frame<M: Limited>(frame: Bytes) -> Result<M, DecodeError> {
    if frame.len() > M::LEN_MAX {
        return Err(DecodeError::TooLong { what: M::NAME, got: frame.len(), max: M::LEN_MAX });
    }
    M::decode(frame).map_err(|error| DecodeError::Malformed { what: M::NAME, error })
}

/// SHA-256 of the canonical encoding.
pub fn digest(message: &impl Message) -> Digest {
    Digest(Sha256::digest(message.encode_to_vec()).into())
}

impl v1::Genesis {
    /// What names this network.
    pub fn id(&self) -> GenesisId {
        GenesisId(digest(self).0)
    }
}

impl v1::PackDescriptor {
    /// What names this pack; commits to all its shard roots.
    pub fn id(&self) -> PackId {
        PackId(digest(self).0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn descriptor() -> v1::PackDescriptor {
        v1::PackDescriptor {
            salt: Bytes::from_static(&[7; 32]),
            len: 300_000,
            k: 4,
            n: 9,
            roots: vec![Bytes::from_static(&[1; 32]); 9],
            catalog_len: 900,
        }
    }

    #[test]
    fn what_is_encoded_decodes_to_itself() {
        let bytes = encode(&descriptor());
        assert_eq!(decode::<v1::PackDescriptor>(&bytes), Ok(descriptor()));
    }

    #[test]
    fn a_message_in_two_parts_is_the_message() {
        for len in [1, 127, 128, 16_384, 1 << 20] {
            let (data, proof) = (Bytes::from(vec![7; len]), vec![Bytes::from_static(&[1; 32]); 9]);
            let ask = v1::ShardLeaves { id: 300, data: data.clone() };
            let ask = v1::ExchangeAsk { ask: Some(v1::exchange_ask::Ask::Leaves(ask)) };
            let tell = v1::Leaves { id: 300, data: data.clone(), proof };
            let tell = v1::ExchangeTell { tell: Some(v1::exchange_tell::Tell::Leaves(tell)) };
            let joined = |(head, payload): (Vec<u8>, Bytes)| {
                assert_eq!(payload.as_ptr(), data.as_ptr(), "it is not copied");
                Bytes::from([&head, &payload[..]].concat())
            };
            let (ask_bytes, tell_bytes) = (joined(ask.parts().unwrap()), joined(tell.parts().unwrap()));
            assert_eq!([ask_bytes.len(), tell_bytes.len()], [ask.encoded_len(), tell.encoded_len()]);
            assert_eq!(decode_frame(ask_bytes), Ok(ask));
            assert_eq!(decode_frame(tell_bytes), Ok(tell));
        }
        assert_eq!(v1::ExchangeTell::default().parts(), None);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let mut bytes = encode(&descriptor());
        bytes.extend([0x78, 1]); // field 15, varint 1
        assert!(matches!(decode::<v1::PackDescriptor>(&bytes), Err(DecodeError::NotCanonical { .. })));
    }

    #[test]
    fn a_default_written_out_is_refused() {
        let mut bytes = encode(&v1::PackDescriptor { catalog_len: 0, ..descriptor() });
        bytes.extend([0x30, 0]); // catalog_len = 0
        assert!(matches!(decode::<v1::PackDescriptor>(&bytes), Err(DecodeError::NotCanonical { .. })));
    }

    #[test]
    fn fields_out_of_order_are_refused() {
        let tail = encode(&v1::PackDescriptor { catalog_len: 900, ..Default::default() });
        let mut bytes = tail;
        bytes.extend(encode(&v1::PackDescriptor { catalog_len: 0, ..descriptor() }));
        assert!(matches!(decode::<v1::PackDescriptor>(&bytes), Err(DecodeError::NotCanonical { .. })));
    }

    #[test]
    fn a_message_past_its_limit_is_refused_before_it_is_read() {
        let bytes = vec![0; v1::Frontier::LEN_MAX + 1];
        let want = DecodeError::TooLong { what: "Frontier", got: bytes.len(), max: v1::Frontier::LEN_MAX };
        assert_eq!(decode::<v1::Frontier>(&bytes), Err(want));
    }

    #[test]
    fn a_pack_id_changes_with_every_root() {
        let mut other = descriptor();
        other.roots[8] = Bytes::from_static(&[2; 32]);
        assert_ne!(descriptor().id(), other.id());
    }
}
