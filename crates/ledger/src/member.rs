//! Organisations, their keys, nodes, invites and admissions: what is signed, and whether it was.
//!
//! Every signature is over a label of its own and the canonical encoding of the message without its signature, so that
//! none can be taken for another:
//!
//! | message | label | signed by |
//! |---|---|---|
//! | `MemberRecord` | `bithealth member v1` | the organisation itself |
//! | `MemberKeys` | `bithealth member keys v1` | the new key |
//! | `NodeCertificate` | `bithealth node v1` | the node's organisation |
//! | `Invite` | `bithealth invite v1` | the inviting organisation |
//! | `Admission` (SHA-256 of its `MemberRecord`) | `bithealth admission v1` | the key of the invite |
//! | `RetireNode` | `bithealth retire v1` | the node's organisation |
//!
//! An organisation signs with its first key, which is its id, or with one that its members let it go on with; such a
//! message names the key. Whether the organisation holds that key shows in the ledger ([`crate::State::member`]).

use std::collections::HashMap;
use std::sync::{LazyLock, RwLock};

use bithealth_proto::{digest, encode, v1};
use bithealth_types::{GenesisId, MemberId, NodeId};
use bytes::Bytes;
use ed25519_dalek::{Signature, VerifyingKey};

/// Most bytes of an organisation's name.
pub const NAME_LEN_MAX: usize = 64;
/// Most bytes of a region's name.
pub const REGION_LEN_MAX: usize = 32;
/// Most bytes of a jurisdiction's name.
pub const JURISDICTION_LEN_MAX: usize = 32;
/// Bytes of an X-Wing public key: an ML-KEM-768 encapsulation key and an X25519 public key.
pub const RECIPIENT_LEN: usize = 1216;

const MEMBER_LABEL: &[u8] = b"bithealth member v1";
const NODE_LABEL: &[u8] = b"bithealth node v1";
const INVITE_LABEL: &[u8] = b"bithealth invite v1";
const ADMISSION_LABEL: &[u8] = b"bithealth admission v1";
const RETIRE_LABEL: &[u8] = b"bithealth retire v1";
const KEYS_LABEL: &[u8] = b"bithealth member keys v1";

/// Why a membership message is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MembershipError {
    /// A part that must be there is not.
    #[error("{what} is missing")]
    Absent {
        /// The part.
        what: &'static str,
    },
    /// A field of fixed length has another.
    #[error("{what} has {got} bytes, {want} are due")]
    Length {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// Bytes that were due.
        want: usize,
    },
    /// A text is empty, or too long, or holds control characters.
    #[error("{what} of {got} bytes: 1 to {max} are due, without control characters")]
    Text {
        /// The field.
        what: &'static str,
        /// Bytes that came.
        got: usize,
        /// The limit.
        max: usize,
    },
    /// The public key that others seal to is not one.
    #[error("coefficient {index} of the organisation's recipient key is {got}, it must be below {ML_KEM_Q}")]
    Recipient {
        /// Position of the first false coefficient.
        index: usize,
        /// Its value.
        got: u16,
    },
    /// The organisation has another name than the members were told.
    #[error("the invite is for \"{invited}\", the organisation calls itself \"{name}\"")]
    OtherName {
        /// The name on the invite.
        invited: String,
        /// Its own.
        name: String,
    },
    /// Not signed by who must have.
    #[error("{what} is not signed by {by}")]
    Signature {
        /// The message.
        what: &'static str,
        /// Whose signature was due.
        by: &'static str,
    },
    /// An invite to another network.
    #[error("the invite is for network {got}, this is {want}")]
    OtherNetwork {
        /// The network it names.
        got: String,
        /// This one.
        want: GenesisId,
    },
    /// The invite was used too late.
    #[error("the invite expired at {expires_ms}, it was used at {at_ms} (milliseconds since 1970)")]
    InviteExpired {
        /// When it expired.
        expires_ms: u64,
        /// When it was used.
        at_ms: u64,
    },
}

/// The modulus of ML-KEM, FIPS 203, section 2.4.
const ML_KEM_Q: u16 = 3329;
/// Coefficients of an ML-KEM-768 encapsulation key.
const ML_KEM_COEFFICIENTS: usize = 768;

/// An organisation's record, signed by itself.
pub fn member_record(
    member: &MemberId,
    name: &str,
    recipient: &[u8],
    sign: impl Fn(&[u8]) -> [u8; 64],
) -> v1::MemberRecord {
    let unsigned = v1::MemberRecord {
        member: Bytes::copy_from_slice(member.as_bytes()),
        name: name.to_owned(),
        recipient: Bytes::copy_from_slice(recipient),
        signature: Bytes::new(),
    };
    v1::MemberRecord { signature: signature(sign, &member_message(&unsigned)), ..unsigned }
}

/// The certificate of a node; `sign` is its organisation's, and `unsigned.signature` is replaced.
pub fn node_certificate(unsigned: v1::NodeCertificate, sign: impl Fn(&[u8]) -> [u8; 64]) -> v1::NodeCertificate {
    v1::NodeCertificate { signature: signature(sign, &node_message(&unsigned)), ..unsigned }
}

/// An invite; `sign` is its issuer's, and `unsigned.signature` is replaced.
pub fn invite(unsigned: v1::Invite, sign: impl Fn(&[u8]) -> [u8; 64]) -> v1::Invite {
    v1::Invite { signature: signature(sign, &invite_message(&unsigned)), ..unsigned }
}

/// Uses an invite for this organisation; `sign` is the invite's own key.
pub fn admission(invite: v1::Invite, member: v1::MemberRecord, sign: impl Fn(&[u8]) -> [u8; 64]) -> v1::Admission {
    let signature = signature(sign, &admission_message(&member));
    v1::Admission { invite: Some(invite), member: Some(member), signature }
}

/// Takes a node out for good; `sign` is its organisation's, and `unsigned.signature` is replaced.
pub fn retire_node(unsigned: v1::RetireNode, sign: impl Fn(&[u8]) -> [u8; 64]) -> v1::RetireNode {
    v1::RetireNode { signature: signature(sign, &retire_message(&unsigned)), ..unsigned }
}

/// The keys an organisation goes on with; `sign` is the new one's, and `unsigned.signature` is replaced.
pub fn member_keys(unsigned: v1::MemberKeys, sign: impl Fn(&[u8]) -> [u8; 64]) -> v1::MemberKeys {
    v1::MemberKeys { signature: signature(sign, &keys_message(&unsigned)), ..unsigned }
}

/// How a message names the key of `member` that signs it: not at all, if that is its first.
pub fn signer(member: &MemberId, key: &[u8; 32]) -> Bytes {
    if member.0 == *key { Bytes::new() } else { Bytes::copy_from_slice(key) }
}

/// The key of `member` that signed a message, as that names it.
pub(crate) fn signer_of(member: &MemberId, signer: &[u8]) -> Result<[u8; 32], MembershipError> {
    if signer.is_empty() { Ok(member.0) } else { fixed("the key that signed", signer) }
}

/// Checks an organisation's record; returns whose it is.
///
/// # Errors
/// [`MembershipError`] if a field is out of bounds, the recipient key is none (FIPS 203, section 7.2), or the
/// organisation did not sign it.
pub fn verify_member(record: &v1::MemberRecord) -> Result<MemberId, MembershipError> {
    let member = MemberId(fixed("the organisation's key", &record.member)?);
    text("the organisation's name", &record.name, NAME_LEN_MAX)?;
    recipient(&record.recipient)?;
    verify(
        "the organisation's record",
        "the organisation",
        &record.member,
        &member_message(record),
        &record.signature,
    )?;
    Ok(member)
}

/// Checks a node's certificate; returns the node and its organisation.
///
/// # Errors
/// [`MembershipError`] if a field is out of bounds or the organisation did not sign it.
pub fn verify_node(certificate: &v1::NodeCertificate) -> Result<(NodeId, MemberId), MembershipError> {
    let node = NodeId(fixed("the node's key", &certificate.node)?);
    let member = MemberId(fixed("the organisation's key", &certificate.member)?);
    text("the node's region", &certificate.region, REGION_LEN_MAX)?;
    text("the node's jurisdiction", &certificate.jurisdiction, JURISDICTION_LEN_MAX)?;
    if !certificate.validator.is_empty() {
        fixed("the key the node votes with", &certificate.validator)?;
    }
    let signer = signer_of(&member, &certificate.signer)?;
    let message = node_message(certificate);
    verify("the node's certificate", "its organisation", &signer, &message, &certificate.signature)?;
    Ok((node, member))
}

/// Checks an invite to this network; returns who issued it and its key.
///
/// # Errors
/// [`MembershipError`] if a field is out of bounds, it is for another network, or its issuer did not sign it.
pub fn verify_invite(invite: &v1::Invite, genesis: &GenesisId) -> Result<(MemberId, [u8; 32]), MembershipError> {
    let issuer = MemberId(fixed("the invite's issuer", &invite.issuer)?);
    let key = fixed("the invite's key", &invite.key)?;
    let network = GenesisId(fixed("the invite's network", &invite.genesis)?);
    if network != *genesis {
        return Err(MembershipError::OtherNetwork { got: network.to_string(), want: *genesis });
    }
    text("the invited organisation's name", &invite.name, NAME_LEN_MAX)?;
    text("the invited organisation's region", &invite.region, REGION_LEN_MAX)?;
    text("the invited organisation's jurisdiction", &invite.jurisdiction, JURISDICTION_LEN_MAX)?;
    let signer = signer_of(&issuer, &invite.signer)?;
    verify("the invite", "its issuer", &signer, &invite_message(invite), &invite.signature)?;
    Ok((issuer, key))
}

/// Checks an admission used at `at_ms`; returns the invite's issuer and key, and the new organisation.
///
/// # Errors
/// [`MembershipError`] if the invite or the organisation's record is not valid, the invite had expired, or its key did
/// not sign the organisation's record. That the issuer is a member is for [`crate::State::check`] to say.
pub fn verify_admission(
    admission: &v1::Admission,
    genesis: &GenesisId,
    at_ms: u64,
) -> Result<(MemberId, [u8; 32], MemberId), MembershipError> {
    let invite = admission.invite.as_ref().ok_or(MembershipError::Absent { what: "the admission's invite" })?;
    let record = admission.member.as_ref().ok_or(MembershipError::Absent { what: "the admission's organisation" })?;
    let (issuer, key) = verify_invite(invite, genesis)?;
    let member = verify_member(record)?;
    if invite.name != record.name {
        return Err(MembershipError::OtherName { invited: invite.name.clone(), name: record.name.clone() });
    }
    if at_ms > invite.expires_ms {
        return Err(MembershipError::InviteExpired { expires_ms: invite.expires_ms, at_ms });
    }
    let message = admission_message(record);
    verify("the admission", "the invite's key", &invite.key, &message, &admission.signature)?;
    Ok((issuer, key, member))
}

/// Checks the retirement of a node; returns the node and the organisation that retires it.
///
/// # Errors
/// [`MembershipError`] if a field is out of bounds or the organisation did not sign it.
pub fn verify_retirement(retirement: &v1::RetireNode) -> Result<(NodeId, MemberId), MembershipError> {
    let node = NodeId(fixed("the node's key", &retirement.node)?);
    let member = MemberId(fixed("the organisation's key", &retirement.member)?);
    let signer = signer_of(&member, &retirement.signer)?;
    let message = retire_message(retirement);
    verify("the retirement", "the node's organisation", &signer, &message, &retirement.signature)?;
    Ok((node, member))
}

/// Checks the keys an organisation is to go on with; returns whose they are, and the one that signs.
///
/// # Errors
/// [`MembershipError`] if a field is out of bounds, the recipient key is none, or the new key did not sign.
pub fn verify_keys(keys: &v1::MemberKeys) -> Result<(MemberId, [u8; 32]), MembershipError> {
    let member = MemberId(fixed("the organisation's key", &keys.member)?);
    let key = fixed("the organisation's new key", &keys.key)?;
    recipient(&keys.recipient)?;
    verify("the organisation's new keys", "the new key", &key, &keys_message(keys), &keys.signature)?;
    Ok((member, key))
}

/// Whether `public` signed `message`; the strict verification, which accepts one form of a signature only.
pub(crate) fn signed_by(public: &[u8], message: &[u8], signature: &[u8]) -> bool {
    let (Ok(public), Ok(signature)) = (public.try_into(), Signature::from_slice(signature)) else { return false };
    let known = KNOWN_KEYS.read().expect("no holder panics").get(&public).copied();
    let Some(key) = known.or_else(|| VerifyingKey::from_bytes(&public).ok()) else { return false };
    let is_signed = key.verify_strict(message, &signature).is_ok();
    if is_signed && known.is_none() {
        let mut keys = KNOWN_KEYS.write().expect("no holder panics");
        if keys.len() >= KNOWN_KEYS_MAX {
            keys.clear();
        }
        keys.insert(public, key);
    }
    is_signed
}

/// Keys that signed something, decompressed: that is a tenth of a verification, and most signatures are by few. Only who
/// signed gets in, so that strangers cannot push them out.
static KNOWN_KEYS: LazyLock<RwLock<HashMap<[u8; 32], VerifyingKey>>> = LazyLock::new(RwLock::default);
/// More than the nodes and organisations of a network of hundreds.
const KNOWN_KEYS_MAX: usize = 1024;

fn verify(
    what: &'static str,
    by: &'static str,
    public: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), MembershipError> {
    if signed_by(public, message, signature) { Ok(()) } else { Err(MembershipError::Signature { what, by }) }
}

pub(crate) fn fixed(what: &'static str, bytes: &[u8]) -> Result<[u8; 32], MembershipError> {
    bytes.try_into().map_err(|_| MembershipError::Length { what, got: bytes.len(), want: 32 })
}

pub(crate) fn text(what: &'static str, text: &str, max: usize) -> Result<(), MembershipError> {
    let fits = !text.is_empty() && text.len() <= max && !text.chars().any(char::is_control);
    if fits { Ok(()) } else { Err(MembershipError::Text { what, got: text.len(), max }) }
}

/// The modulus check of FIPS 203, section 7.2: 12-bit coefficients, least significant bits first.
fn recipient(key: &[u8]) -> Result<(), MembershipError> {
    if key.len() != RECIPIENT_LEN {
        let what = "the organisation's recipient key";
        return Err(MembershipError::Length { what, got: key.len(), want: RECIPIENT_LEN });
    }
    let coefficients = key.chunks_exact(3).flat_map(|three| {
        let word = u32::from(three[0]) | u32::from(three[1]) << 8 | u32::from(three[2]) << 16;
        [word & 0xFFF, word >> 12].map(|coefficient| coefficient as u16)
    });
    match coefficients.take(ML_KEM_COEFFICIENTS).enumerate().find(|(_, coefficient)| *coefficient >= ML_KEM_Q) {
        Some((index, got)) => Err(MembershipError::Recipient { index, got }),
        None => Ok(()),
    }
}

fn signature(sign: impl Fn(&[u8]) -> [u8; 64], message: &[u8]) -> Bytes {
    Bytes::copy_from_slice(&sign(message))
}

fn member_message(record: &v1::MemberRecord) -> Vec<u8> {
    [MEMBER_LABEL, &encode(&v1::MemberRecord { signature: Bytes::new(), ..record.clone() })].concat()
}

fn node_message(certificate: &v1::NodeCertificate) -> Vec<u8> {
    [NODE_LABEL, &encode(&v1::NodeCertificate { signature: Bytes::new(), ..certificate.clone() })].concat()
}

fn invite_message(invite: &v1::Invite) -> Vec<u8> {
    [INVITE_LABEL, &encode(&v1::Invite { signature: Bytes::new(), ..invite.clone() })].concat()
}

fn keys_message(keys: &v1::MemberKeys) -> Vec<u8> {
    [KEYS_LABEL, &encode(&v1::MemberKeys { signature: Bytes::new(), ..keys.clone() })].concat()
}

fn admission_message(record: &v1::MemberRecord) -> Vec<u8> {
    [ADMISSION_LABEL, digest(record).as_bytes()].concat()
}

fn retire_message(retirement: &v1::RetireNode) -> Vec<u8> {
    [RETIRE_LABEL, &encode(&v1::RetireNode { signature: Bytes::new(), ..retirement.clone() })].concat()
}

#[cfg(test)]
mod tests;
