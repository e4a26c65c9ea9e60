//! When a majority of the validators is gone for good: who goes on, as the holders of the recovery keys decide it.
//!
//! The genesis names the holders and the witnesses; every header commits to both. The recoveries of a network form a log,
//! one leaf for each. Its checkpoint is what the holders sign, as a C2SP note, and what the witnesses cosign: a witness
//! never cosigns two roots of one length, so no era is opened twice, and everybody can see it. A recovery counts once each
//! of enough witnesses cosigned it twice, with the delay in between. The first block of the new era carries all that.
//!
//! Whoever opens an era takes the old one's validators out of the history that goes on. A block of the old era that comes
//! before the first of the new one voids the recovery, since it goes on from a block that is not the last.

use std::collections::BTreeSet;

use bithealth_merkle::{consistency_proof, leaf_hash, root};
use bithealth_proto::{digest, encode, v1};
use bithealth_types::{Digest, GenesisId, Height, MemberId};
use bytes::Bytes;

use crate::member::signed_by;
use crate::note::{
    Checkpoint, NoteAlgorithm, NoteError, SignedNote, Submission, VerifierKey, cosignature_message, origin, sign_note,
};
use crate::validators::{NotValidators, ValidatorSet};
use data_encoding::HEXLOWER;

/// Holders of recovery keys, at most.
pub const HOLDERS_MAX: usize = 16;
/// Witnesses of recoveries, at most.
pub const RECOVERY_WITNESSES_MAX: usize = 16;

/// Who may open a new era, and how slowly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecoveryPolicy {
    /// How many holders must sign.
    pub threshold: usize,
    /// Their Ed25519 keys, in order.
    pub holders: Vec<[u8; 32]>,
    /// Between the two cosignatures of a witness, in milliseconds.
    pub delay_ms: u64,
    /// Who may cosign, in order of their texts.
    pub witnesses: Vec<VerifierKey>,
    /// How many of them must.
    pub cosignatures: usize,
}

/// Why a recovery policy is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotPolicy {
    /// Too few or too many are needed.
    #[error("the recovery policy needs {got} of {of} {what}: name 1 to {max}, and need at least 1 of them")]
    Count {
        /// Of whom.
        what: &'static str,
        /// How many it needs.
        got: u32,
        /// How many it names.
        of: usize,
        /// How many may be named.
        max: usize,
    },
    /// A holder's key is none, or out of order, or there twice.
    #[error("holder {index} of the recovery policy is no Ed25519 key, or not in ascending order")]
    Holder {
        /// Its position.
        index: usize,
    },
    /// A witness's key is none, or out of order, or there twice.
    #[error("witness {index} of the recovery policy is no key for cosignatures, or not in ascending order")]
    Witness {
        /// Its position.
        index: usize,
    },
    /// There is no time in which anybody could object.
    #[error("the recovery policy has no delay")]
    Delay,
}

/// Why a recovery does not count, or not yet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// A part that must be there is not.
    #[error("the recovery's {what} is missing")]
    Absent {
        /// The part.
        what: &'static str,
    },
    /// The genesis names no holders.
    #[error("this network was founded without a recovery policy")]
    NoPolicy,
    /// Of another network.
    #[error("the recovery is of network {got}, this is {want}")]
    OtherNetwork {
        /// What it names, as hexadecimal.
        got: String,
        /// This one.
        want: GenesisId,
    },
    /// It opens another era than the next, or leaves out earlier recoveries.
    #[error("the recovery opens era {got} after {earlier} others, the next one here is {want}")]
    Era {
        /// The era it opens.
        got: u64,
        /// Recoveries it says were before.
        earlier: usize,
        /// The one after ours.
        want: u64,
    },
    /// It goes on from another block than the last one here.
    #[error(
        "the recovery goes on from block {got}, the last one here is {have}: it is void, or blocks are missing here"
    )]
    OtherTip {
        /// The height it names.
        got: u64,
        /// The height of the tip.
        have: u64,
    },
    /// Those who should go on are no set.
    #[error("those who go on are no set: {0}")]
    Validators(#[from] NotValidators),
    /// One of those who should go on is no member.
    #[error("{member} should go on, and is no member")]
    NotAMember {
        /// The organisation.
        member: MemberId,
    },
    /// Signatures are out of order, or two are of one.
    #[error("{what} {index} of the recovery is out of order, or nobody of the policy")]
    Order {
        /// Of whom.
        what: &'static str,
        /// The position in the list.
        index: usize,
    },
    /// A signature is false.
    #[error("{what} {index} of the policy did not sign the recovery")]
    BadSignature {
        /// Of whom.
        what: &'static str,
        /// The position in the policy.
        index: u32,
    },
    /// Too few holders.
    #[error("{got} holders signed the recovery, {want} are due")]
    Holders {
        /// How many did.
        got: usize,
        /// How many must.
        want: usize,
    },
    /// Too few witnesses cosigned it twice with the delay in between.
    #[error("{got} witnesses cosigned the recovery twice with {delay_ms} ms in between, {want} are due")]
    Cosigned {
        /// How many did.
        got: usize,
        /// How many must.
        want: usize,
        /// The delay.
        delay_ms: u64,
    },
    /// A note that is of something else.
    #[error("the note is not of this recovery")]
    OtherNote,
    /// A note that is false.
    #[error(transparent)]
    Note(#[from] NoteError),
}

/// A recovery that may open its era, as [`crate::State::check_opening`] found.
#[derive(Clone, Debug, PartialEq)]
pub struct Opened {
    pub(crate) signed: v1::SignedRecovery,
    /// The era.
    pub era: u64,
    /// Who decides in it.
    pub validators: ValidatorSet,
}

impl RecoveryPolicy {
    /// The policy of a genesis; `None` if it names nobody: then no era ever ends.
    ///
    /// # Errors
    /// [`NotPolicy`].
    pub fn of(genesis: &v1::Genesis) -> Result<Option<Self>, NotPolicy> {
        let message = genesis.recovery.clone().unwrap_or_default();
        if message == v1::RecoveryPolicy::default() {
            return Ok(None);
        }
        Self::from_message(&message).map(Some)
    }

    /// The policy a message holds.
    ///
    /// # Errors
    /// [`NotPolicy`].
    pub fn from_message(message: &v1::RecoveryPolicy) -> Result<Self, NotPolicy> {
        let count = |what, got: u32, of: usize, max: usize| match got as usize {
            1.. if got as usize <= of && of <= max => Ok(got as usize),
            _ => Err(NotPolicy::Count { what, got, of, max }),
        };
        let threshold = count("holders", message.threshold, message.keys.len(), HOLDERS_MAX)?;
        let named = message.witnesses.len();
        let cosignatures = count("witnesses", message.cosignatures, named, RECOVERY_WITNESSES_MAX)?;
        if message.delay_ms == 0 {
            return Err(NotPolicy::Delay);
        }
        let mut holders: Vec<[u8; 32]> = Vec::new();
        for (index, key) in message.keys.iter().enumerate() {
            let key: [u8; 32] = key.as_ref().try_into().map_err(|_| NotPolicy::Holder { index })?;
            let is_key = VerifierKey::new("holder", NoteAlgorithm::Ed25519, key).is_ok();
            if !is_key || holders.last().is_some_and(|last| *last >= key) {
                return Err(NotPolicy::Holder { index });
            }
            holders.push(key);
        }
        let mut witnesses: Vec<VerifierKey> = Vec::new();
        for (index, text) in message.witnesses.iter().enumerate() {
            let key: VerifierKey = text.parse().map_err(|_| NotPolicy::Witness { index })?;
            let after = index == 0 || message.witnesses[index - 1] < *text;
            if key.algorithm() != NoteAlgorithm::CosignatureV1 || key.to_string() != *text || !after {
                return Err(NotPolicy::Witness { index });
            }
            witnesses.push(key);
        }
        Ok(Self { threshold, holders, delay_ms: message.delay_ms, witnesses, cosignatures })
    }

    /// Which holders signed: positions in the policy, each once.
    ///
    /// # Errors
    /// [`RecoveryError`] if a signature is false; one too few is none.
    pub fn holders_of(&self, signed: &v1::SignedRecovery) -> Result<Vec<u32>, RecoveryError> {
        let text = note_text(signed)?;
        let mut found: Vec<u32> = Vec::new();
        for (index, it) in signed.holders.iter().enumerate() {
            let key = self.holders.get(it.holder as usize).filter(|_| found.last() < Some(&it.holder));
            let key = key.ok_or(RecoveryError::Order { what: "holder", index })?;
            if !signed_by(key, text.as_bytes(), &it.signature) {
                return Err(RecoveryError::BadSignature { what: "holder", index: it.holder });
            }
            found.push(it.holder);
        }
        Ok(found)
    }

    /// When each witness cosigned first and last, in seconds since 1970, by its position in the policy.
    ///
    /// # Errors
    /// [`RecoveryError`] if a signature is false; one too few is none.
    pub fn cosigned(&self, signed: &v1::SignedRecovery) -> Result<Vec<(u32, u64, u64)>, RecoveryError> {
        let text = note_text(signed)?;
        let mut found: Vec<(u32, u64, u64)> = Vec::new();
        let mut before = None;
        for (index, it) in signed.cosignatures.iter().enumerate() {
            let key = self.witnesses.get(it.witness as usize).filter(|_| before < Some((it.witness, it.time_s)));
            let twice = found.last().is_some_and(|(witness, first, last)| *witness == it.witness && first < last);
            let key = key.filter(|_| !twice).ok_or(RecoveryError::Order { what: "witness", index })?;
            let message = cosignature_message(&text, it.time_s)?;
            if !signed_by(key.public(), &message, &it.signature) {
                return Err(RecoveryError::BadSignature { what: "witness", index: it.witness });
            }
            before = Some((it.witness, it.time_s));
            match found.last_mut() {
                Some((witness, _, last)) if *witness == it.witness => *last = it.time_s,
                _ => found.push((it.witness, it.time_s, it.time_s)),
            }
        }
        Ok(found)
    }

    fn check_holders(&self, signed: &v1::SignedRecovery) -> Result<(), RecoveryError> {
        let (got, want) = (self.holders_of(signed)?.len(), self.threshold);
        if got < want { Err(RecoveryError::Holders { got, want }) } else { Ok(()) }
    }

    fn check_delay(&self, signed: &v1::SignedRecovery) -> Result<(), RecoveryError> {
        let delay_ms = self.delay_ms;
        let waited = |(_, first, last): &(u32, u64, u64)| (last - first).saturating_mul(1000) >= delay_ms;
        let (got, want) = (self.cosigned(signed)?.iter().filter(|it| waited(it)).count(), self.cosignatures);
        if got < want { Err(RecoveryError::Cosigned { got, want, delay_ms }) } else { Ok(()) }
    }

    /// What witnesses are asked to cosign, and the keys of the holders whose signatures it bears, by which a witness knows
    /// it.
    ///
    /// # Errors
    /// [`RecoveryError`] if it is none, or nobody signed it.
    pub fn submission(&self, signed: &v1::SignedRecovery) -> Result<(Submission, Vec<VerifierKey>), RecoveryError> {
        let (text, name) = (note_text(signed)?, recovery_checkpoint(signed)?.origin);
        let old_len = signed.earlier.len() as u64;
        // The empty log begins every other, and needs no proof.
        let proof = consistency_proof(&leaves(signed)?, old_len).unwrap_or_default();
        let mut keys = Vec::new();
        let mut note: Option<SignedNote> = None;
        for (holder, it) in self.holders_of(signed)?.into_iter().zip(&signed.holders) {
            let public = self.holders[holder as usize];
            let key = VerifierKey::new(&name, NoteAlgorithm::Ed25519, public).expect("the policy was checked");
            let signature: [u8; 64] = it.signature.as_ref().try_into().expect("it was verified");
            let one = sign_note(&text, &key, |_| signature)?;
            match &mut note {
                None => note = Some(one),
                Some(note) => one.signatures().iter().try_for_each(|line| note.add(line.clone()))?,
            }
            keys.push(key);
        }
        let note = note.ok_or(RecoveryError::Holders { got: 0, want: self.threshold })?;
        Ok((Submission { old_len, proof, note }, keys))
    }

    /// Takes the signatures on a note of this recovery that are by holders or witnesses of the policy. Of a witness the
    /// earliest and the latest stay. Whether anything was new.
    ///
    /// # Errors
    /// [`RecoveryError`] if the note is of something else, or a signature by one of them is false; nothing is taken then.
    pub fn take_note(&self, signed: &mut v1::SignedRecovery, note: &SignedNote) -> Result<bool, RecoveryError> {
        let name = recovery_checkpoint(signed)?.origin;
        if note.text() != note_text(signed)? {
            return Err(RecoveryError::OtherNote);
        }
        let mut taken = v1::SignedRecovery { recovery: signed.recovery.clone(), ..Default::default() };
        taken.earlier.clone_from(&signed.earlier);
        for (holder, public) in (0..).zip(&self.holders) {
            let key = VerifierKey::new(&name, NoteAlgorithm::Ed25519, *public).expect("the policy was checked");
            for signature in note.signatures_of(&key) {
                let signature = Bytes::copy_from_slice(signature);
                taken.holders.push(v1::HolderSignature { holder, signature });
            }
        }
        for (witness, key) in (0..).zip(&self.witnesses) {
            for bytes in note.signatures_of(key) {
                let index = witness;
                let false_one = RecoveryError::BadSignature { what: "witness", index };
                let (time, signature) = bytes.split_first_chunk().ok_or(false_one)?;
                let (time_s, signature) = (u64::from_be_bytes(*time), Bytes::copy_from_slice(signature));
                taken.cosignatures.push(v1::RecoveryCosignature { witness, time_s, signature });
            }
        }
        let merged = merge(signed, &taken);
        self.holders_of(&merged)?;
        self.cosigned(&merged)?;
        let is_new = merged != *signed;
        *signed = merged;
        Ok(is_new)
    }
}

/// Both signers of one recovery; of each witness the earliest cosignature and the latest.
pub fn merge(one: &v1::SignedRecovery, other: &v1::SignedRecovery) -> v1::SignedRecovery {
    let mut holders = [one.holders.clone(), other.holders.clone()].concat();
    holders.sort_by_key(|it| it.holder);
    holders.dedup_by_key(|it| it.holder);
    let mut all = [one.cosignatures.clone(), other.cosignatures.clone()].concat();
    all.sort_by_key(|it| (it.witness, it.time_s));
    all.dedup_by_key(|it| (it.witness, it.time_s));
    let is_end = |at: usize| {
        let (it, near) = (&all[at], |at: Option<usize>| at.and_then(|at| all.get(at)).map(|it| it.witness));
        near(at.checked_sub(1)) != Some(it.witness) || near(Some(at + 1)) != Some(it.witness)
    };
    let cosignatures = (0..all.len()).filter(|at| is_end(*at)).map(|at| all[at].clone()).collect();
    v1::SignedRecovery { holders, cosignatures, ..one.clone() }
}

/// The text that holders sign and witnesses cosign: the checkpoint of the log of all recoveries up to this one.
///
/// # Errors
/// [`RecoveryError`] if a part of it is missing or is none.
pub fn note_text(signed: &v1::SignedRecovery) -> Result<String, RecoveryError> {
    Ok(recovery_checkpoint(signed)?.text().expect("it is made of numbers and digests"))
}

/// The checkpoint of the log of all recoveries up to this one.
///
/// # Errors
/// [`RecoveryError`] if a part of it is missing or is none.
pub(crate) fn recovery_checkpoint(signed: &v1::SignedRecovery) -> Result<Checkpoint, RecoveryError> {
    let recovery = signed.recovery.as_ref().ok_or(RecoveryError::Absent { what: "message" })?;
    let genesis = GenesisId(fixed(&recovery.genesis, "network")?);
    let previous = Digest(fixed(&recovery.previous, "last header")?);
    let validators = recovery.validators.clone().unwrap_or_default();
    let leaves = leaves(signed)?;
    Ok(Checkpoint {
        origin: recovery_origin(&genesis),
        len: leaves.len() as u64,
        root: root(&leaves),
        extensions: vec![
            format!("after block {} {previous}", recovery.height),
            format!("{} validators {}", validators.validators.len(), digest(&validators)),
        ],
    })
}

/// Leaf hashes of all recoveries up to this one.
fn leaves(signed: &v1::SignedRecovery) -> Result<Vec<Digest>, RecoveryError> {
    let recovery = signed.recovery.as_ref().ok_or(RecoveryError::Absent { what: "message" })?;
    let earlier = signed.earlier.iter().map(|leaf| fixed(leaf, "earlier recovery").map(Digest));
    earlier.chain([Ok(leaf_hash(&encode(recovery)))]).collect()
}

fn fixed(bytes: &[u8], what: &'static str) -> Result<[u8; 32], RecoveryError> {
    bytes.try_into().map_err(|_| RecoveryError::Absent { what })
}

/// What names the log of a network's recoveries.
pub fn recovery_origin(genesis: &GenesisId) -> String {
    format!("{}/recovery", origin(genesis))
}

/// Where a history stands, for a recovery to go on from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Eras {
    genesis: GenesisId,
    policy: Option<RecoveryPolicy>,
    /// Leaf hashes of the recoveries so far: one for each era but the first.
    earlier: Vec<Bytes>,
}

impl Eras {
    pub(crate) fn new(genesis: &v1::Genesis) -> Result<Self, NotPolicy> {
        Ok(Self { genesis: genesis.id(), policy: RecoveryPolicy::of(genesis)?, earlier: Vec::new() })
    }

    pub(crate) fn policy(&self) -> Option<&RecoveryPolicy> {
        self.policy.as_ref()
    }

    /// The era of the tip.
    pub(crate) fn era(&self) -> u64 {
        self.earlier.len() as u64
    }

    pub(crate) fn push(&mut self, recovery: &v1::Recovery) {
        self.earlier.push(leaf(recovery));
    }

    pub(crate) fn earlier(&self) -> &[Bytes] {
        &self.earlier
    }

    /// Whether enough holders signed a recovery that opens the next era. What it goes on from is for the caller.
    pub(crate) fn check_announced(&self, signed: &v1::SignedRecovery) -> Result<ValidatorSet, RecoveryError> {
        let recovery = signed.recovery.as_ref().ok_or(RecoveryError::Absent { what: "message" })?;
        if recovery.genesis != self.genesis.0.as_slice() {
            let got = HEXLOWER.encode(&recovery.genesis);
            return Err(RecoveryError::OtherNetwork { got, want: self.genesis });
        }
        let policy = self.policy.as_ref().ok_or(RecoveryError::NoPolicy)?;
        let want = self.era() + 1;
        if recovery.era != want || signed.earlier != self.earlier {
            return Err(RecoveryError::Era { got: recovery.era, earlier: signed.earlier.len(), want });
        }
        let validators = ValidatorSet::from_message(&recovery.validators.clone().unwrap_or_default())?;
        policy.check_holders(signed)?;
        Ok(validators)
    }

    /// Whether besides the witnesses saw the delay pass.
    pub(crate) fn check_opening(&self, signed: &v1::SignedRecovery) -> Result<ValidatorSet, RecoveryError> {
        let validators = self.check_announced(signed)?;
        self.policy.as_ref().ok_or(RecoveryError::NoPolicy)?.check_delay(signed)?;
        Ok(validators)
    }
}

/// The leaf of a recovery.
fn leaf(recovery: &v1::Recovery) -> Bytes {
    Bytes::copy_from_slice(leaf_hash(&encode(recovery)).as_bytes())
}

/// Whether a recovery goes on from this header.
pub(crate) fn goes_on_from(recovery: &v1::Recovery, height: Height, header: &Digest) -> bool {
    recovery.height == height.0 && recovery.previous == header.0.as_slice()
}

/// Whether all of these are members.
pub(crate) fn check_members(
    validators: &ValidatorSet,
    is_member: impl Fn(&MemberId) -> bool,
) -> Result<(), RecoveryError> {
    let members: BTreeSet<MemberId> = validators.iter().map(|it| it.member).collect();
    match members.into_iter().find(|member| !is_member(member)) {
        Some(member) => Err(RecoveryError::NotAMember { member }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
