//! The recovery that was announced here: kept durably, told to all peers, and what follows from it.
//!
//! Whoever keeps an announced recovery signs nothing more in the era it ends, also after a restart, unless a late block of
//! that era voids it. Two different ones that go on from our tip stop this node: people have to meet then.

use std::sync::{Arc, Mutex};

use bithealth_http::api::{RecoveryInfo, RecoveryStanding};
use bithealth_http::{ErrorBody, ErrorCode};
use bithealth_ledger::{Opened, RecoveryError, RecoveryPolicy, SignedNote, State, Validator, ValidatorSet, merge};
use bithealth_proto::{encode, v1};
use bithealth_store::{Kind, Store, WriteError};
use bithealth_types::Height;
use tracing::{error, info, warn};

use crate::chain::{Chain, ChainError};
use crate::node::{Node, now_ms};
use crate::{vault, votes};

/// Recoveries that are looked at of those a peer tells of: the announced one, and one that contradicts it.
const TOLD_MAX: usize = 2;

const ANNOUNCED: &[u8] = b"recovery";
const CONFLICT: &[u8] = b"recovery that contradicts it";

/// What is kept.
#[derive(Default)]
pub struct Recovery(Mutex<Kept>);

#[derive(Clone, Default)]
struct Kept {
    announced: Option<v1::SignedRecovery>,
    /// Another one that enough holders signed.
    conflict: Option<v1::SignedRecovery>,
    /// The announced one, once the witnesses saw the delay pass.
    opened: Option<Opened>,
}

/// What this node may decide now.
pub enum Turn {
    /// Blocks of the era of the tip.
    Goes,
    /// The first block of this era.
    Opens(Opened),
    /// Nothing; why.
    Rests(String),
}

/// Why a recovery is not taken.
#[derive(Debug, thiserror::Error)]
pub enum NotTaken {
    /// It does not count here.
    #[error(transparent)]
    Recovery(#[from] RecoveryError),
    /// The store takes nothing.
    #[error(transparent)]
    Write(#[from] WriteError),
}

impl Recovery {
    /// Reads what is kept. Blocks.
    ///
    /// # Errors
    /// [`ChainError`] if it cannot be read: a node that forgot a recovery would sign in the era it ends.
    pub fn open(store: &Store, state: &State) -> Result<Self, ChainError> {
        let read = |key| vault::message::<_, ChainError>(store, Kind::Meta, key);
        let mut kept = Kept { announced: read(ANNOUNCED)?, conflict: read(CONFLICT)?, opened: None };
        kept.look(state);
        Ok(Self(Mutex::new(kept)))
    }

    /// What this node may decide now.
    pub fn turn(&self, chain: &Chain) -> Turn {
        let kept = self.0.lock().expect("no holder panics");
        let state = chain.state();
        let is_next = |it: &v1::SignedRecovery| it.recovery.as_ref().is_some_and(|it| state.is_next(it));
        let Some(announced) = kept.announced.as_ref().filter(|it| is_next(it)) else { return Turn::Goes };
        if kept.conflict.as_ref().is_some_and(is_next) {
            let why = "two recoveries that exclude each other were signed by enough holders; the members must meet";
            return Turn::Rests(why.to_owned());
        }
        match &kept.opened {
            Some(opened) => Turn::Opens(opened.clone()),
            None => {
                let era = announced.recovery.as_ref().map_or(0, |it| it.era);
                let why = "a recovery is announced, and the witnesses have not seen its delay pass";
                Turn::Rests(format!("{why}: era {era} begins then"))
            }
        }
    }

    /// What peers are told: the announced one, and one that contradicts it.
    pub fn told(&self) -> Vec<v1::SignedRecovery> {
        let kept = self.0.lock().expect("no holder panics");
        kept.announced.iter().chain(&kept.conflict).cloned().collect()
    }

    /// The announced one.
    pub fn announced(&self) -> Option<v1::SignedRecovery> {
        self.0.lock().expect("no holder panics").announced.clone()
    }
}

impl Kept {
    fn look(&mut self, state: &State) {
        self.opened = self.announced.as_ref().and_then(|signed| state.check_opening(signed).ok());
    }
}

/// Takes a recovery that enough holders signed, and tells the others what is new of it; whether anything was. Blocks on
/// the disk.
///
/// # Errors
/// [`NotTaken`] if it does not count here, or not yet, or the store takes nothing.
pub fn receive(node: &Arc<Node>, signed: &v1::SignedRecovery) -> Result<bool, NotTaken> {
    let is_new = {
        let mut kept = node.recovery.0.lock().expect("no holder panics");
        let state = node.chain.state();
        state.check_announced(signed)?;
        let before = kept.announced.as_ref().filter(|have| state.check_announced(have).is_ok());
        match before {
            Some(have) if have.recovery != signed.recovery => keep_conflict(node, &mut kept, signed)?,
            have => {
                let merged = have.map_or_else(|| signed.clone(), |have| merge(have, signed));
                // Merged from two that were checked; this says so of the whole.
                state.check_announced(&merged)?;
                let is_new = kept.announced.as_ref() != Some(&merged);
                if is_new {
                    write(&node.store, ANNOUNCED, &merged)?;
                    if kept.announced.is_none() {
                        warn!("a recovery is announced: this node signs nothing more in this era");
                    }
                    kept.announced = Some(merged);
                    kept.look(&state);
                }
                is_new
            }
        }
    };
    if is_new {
        node.chain.touch();
        node.followers.wake_all();
    }
    Ok(is_new)
}

fn keep_conflict(node: &Node, kept: &mut Kept, signed: &v1::SignedRecovery) -> Result<bool, WriteError> {
    if kept.conflict.is_some() {
        return Ok(false);
    }
    write(&node.store, CONFLICT, signed)?;
    error!("two recoveries that exclude each other are announced: this node decides nothing in either era");
    kept.conflict = Some(signed.clone());
    Ok(true)
}

/// What a peer has, which may be old. Blocks on the disk.
pub fn hear(node: &Arc<Node>, told: &[v1::SignedRecovery]) {
    looked_at(told).iter().for_each(|signed| hear_of(node, signed));
}

/// Each costs signatures to check.
fn looked_at(told: &[v1::SignedRecovery]) -> &[v1::SignedRecovery] {
    &told[..told.len().min(TOLD_MAX)]
}

fn hear_of(node: &Arc<Node>, signed: &v1::SignedRecovery) {
    match receive(node, signed) {
        Ok(true) => info!("a peer told of a recovery"),
        Ok(false) | Err(NotTaken::Recovery(_)) => {} // void, opened long ago, or we are behind
        Err(NotTaken::Write(error)) => warn!(%error, "a recovery cannot be kept"),
    }
}

/// The recovery with which these organisations go on from our tip, for the holders to sign.
///
/// # Errors
/// [`ErrorCode::UnknownOrganisation`]; [`ErrorCode::AgainstRules`] if one has no key to vote with, or nobody may recover
/// this network.
pub fn propose(node: &Node, keep: &[String]) -> Result<v1::SignedRecovery, ErrorBody> {
    let state = node.chain.state();
    state.recovery_policy().ok_or_else(|| refused(&RecoveryError::NoPolicy))?;
    let mut validators = Vec::new();
    for name in keep {
        let member = votes::member(&state, name)?;
        let key = state.voting_key(&member);
        let none = || ErrorBody::new(ErrorCode::AgainstRules, format_args!("{name} has no node that votes"));
        let key = key.ok_or_else(none)?;
        validators.push(Validator { member, key });
    }
    let validators = ValidatorSet::new(validators).map_err(|error| ErrorBody::new(ErrorCode::AgainstRules, error))?;
    Ok(state.propose_recovery(&validators, now_ms()))
}

/// Takes what holders signed, or witnesses cosigned. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::BadRequest`] if it cannot be read, [`ErrorCode::AgainstRules`] if it does not count.
pub fn submit(node: &Arc<Node>, submission: &v1::RecoverySubmission) -> Result<RecoveryInfo, ErrorBody> {
    let policy = node.chain.state().recovery_policy().cloned();
    let policy = policy.ok_or_else(|| refused(&RecoveryError::NoPolicy))?;
    let none = || {
        ErrorBody::new(ErrorCode::AgainstRules, "no recovery is announced here, so this note is of none")
            .with_next_step("submit the recovery that the holders signed first: `bithealth admin recover submit`")
    };
    let mut signed = submission.recovery.clone().or_else(|| node.recovery.announced()).ok_or_else(none)?;
    let note = SignedNote::parse(submission.note.as_bytes()).map_err(|error| {
        ErrorBody::new(ErrorCode::BadRequest, format_args!("this is no signed note: {error}"))
            .with_next_step(AS_IT_WAS_SIGNED)
    })?;
    policy.take_note(&mut signed, &note).map_err(|error| refused(&error))?;
    match receive(node, &signed) {
        Ok(_) => Ok(info(node)),
        Err(NotTaken::Recovery(error)) => Err(refused(&error)),
        Err(NotTaken::Write(error)) => Err(ErrorBody::new(ErrorCode::DiskFull, error)),
    }
}

/// What to do about a file that was changed, or is another one.
const AS_IT_WAS_SIGNED: &str =
    "submit the file as `bithealth admin recover sign` or `bithealth ledger cosign` wrote it";

fn refused(error: &RecoveryError) -> ErrorBody {
    use RecoveryError as Why;
    let next = match error {
        Why::NoPolicy => {
            "a network names who may recover it when it is founded (`bithealth init --recovery`), never later"
        }
        Why::OtherNetwork { .. } => "submit it to a node of that network",
        Why::Holders { .. } => "let another holder sign the same file with `bithealth admin recover sign`",
        Why::Cosigned { .. } | Why::OtherNote => {
            "let a witness cosign what `bithealth admin recover export` writes now, and submit that"
        }
        Why::Era { .. } | Why::OtherTip { .. } | Why::Validators(_) | Why::NotAMember { .. } => {
            "`bithealth status` says which block is the last one here; if all of them are there, propose it anew with \
             `bithealth admin recover propose`, and let the holders sign that"
        }
        _ => AS_IT_WAS_SIGNED,
    };
    ErrorBody::new(ErrorCode::AgainstRules, error).with_next_step(next)
}

/// How a recovery stands.
pub fn info(node: &Node) -> RecoveryInfo {
    let kept = node.recovery.0.lock().expect("no holder panics").clone();
    let state = node.chain.state();
    let policy = state.recovery_policy();
    let mut info = RecoveryInfo {
        era: state.era(),
        possible: policy.is_some(),
        threshold: policy.map_or(0, |it| it.threshold as u32),
        cosignatures: policy.map_or(0, |it| it.cosignatures as u32),
        delay_s: policy.map_or(0, |it| it.delay_ms.div_ceil(1000)),
        standing: RecoveryStanding::None,
        opens: None,
        after: None,
        holders: 0,
        goes_on: Vec::new(),
        cosigned: Vec::new(),
    };
    if let (Some(signed), Some(policy)) = (&kept.announced, policy) {
        tell(&mut info, &state, signed, policy, &kept);
    }
    info
}

fn tell(info: &mut RecoveryInfo, state: &State, signed: &v1::SignedRecovery, policy: &RecoveryPolicy, kept: &Kept) {
    let Some(recovery) = &signed.recovery else { return };
    let is_next = |it: &v1::SignedRecovery| it.recovery.as_ref().is_some_and(|it| state.is_next(it));
    info.standing = match () {
        () if recovery.era <= state.era() => RecoveryStanding::Opened,
        () if !is_next(signed) => RecoveryStanding::Void,
        () if kept.conflict.as_ref().is_some_and(is_next) => RecoveryStanding::Conflict,
        () if kept.opened.is_some() => RecoveryStanding::Ready,
        () => RecoveryStanding::Announced,
    };
    (info.opens, info.after) = (Some(recovery.era), Some(Height(recovery.height)));
    info.holders = policy.holders_of(signed).map_or(0, |it| it.len() as u32);
    let set = ValidatorSet::from_message(&recovery.validators.clone().unwrap_or_default()).unwrap_or_default();
    let name = |it: &Validator| state.member_ever(&it.member).map_or_else(|| it.member.short(), |it| it.name.clone());
    info.goes_on = set.iter().map(name).collect();
    let cosigned = policy.cosigned(signed).unwrap_or_default();
    let witness = |at: u32| policy.witnesses.get(at as usize).map_or_else(String::new, |it| it.name().to_owned());
    info.cosigned = cosigned.into_iter().map(|(at, first, last)| (witness(at), first * 1000, last * 1000)).collect();
}

/// The announced recovery as what witnesses are asked to cosign, and the keys of the holders that signed it.
///
/// # Errors
/// [`ErrorCode::NotFound`] if none is announced.
pub fn export(node: &Node) -> Result<v1::RecoveryExport, ErrorBody> {
    let none = || {
        ErrorBody::new(ErrorCode::NotFound, "no recovery is announced here")
            .with_next_step("submit one that enough holders signed first: `bithealth admin recover submit`")
    };
    let signed = node.recovery.announced().ok_or_else(none)?;
    let state = node.chain.state();
    let policy = state.recovery_policy().ok_or_else(none)?;
    let (submission, keys) =
        policy.submission(&signed).map_err(|error| ErrorBody::new(ErrorCode::AgainstRules, error))?;
    let keys = keys.iter().map(ToString::to_string).collect();
    Ok(v1::RecoveryExport { submission: submission.to_string(), keys })
}

fn write(store: &Store, key: &[u8], signed: &v1::SignedRecovery) -> Result<(), WriteError> {
    let position = store.put(Kind::Meta, key, &[], &[&encode(signed)])?;
    store.sync(position)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_comes_with_what_to_do_about_it() {
        let next = |error| refused(&error).next_step;
        assert!(next(RecoveryError::Holders { got: 1, want: 2 }).contains("another holder"));
        assert!(next(RecoveryError::OtherTip { got: 3, have: 4 }).contains("recover propose"));
        assert!(next(RecoveryError::OtherNote).contains("recover export"));
        assert!(next(RecoveryError::NoPolicy).contains("init --recovery"));
        assert_eq!(next(RecoveryError::BadSignature { what: "holder", index: 0 }), AS_IT_WAS_SIGNED);
    }

    #[test]
    fn two_recoveries_of_a_peer_are_looked_at_and_of_more_the_first_two() {
        let recovery = |era| {
            let recovery = Some(v1::Recovery { era, ..v1::Recovery::default() });
            v1::SignedRecovery { recovery, ..v1::SignedRecovery::default() }
        };
        let told = |count: usize| (1..=count as u64).map(recovery).collect::<Vec<_>>();
        let both = [recovery(1), recovery(2)];
        assert_eq!(looked_at(&told(0)), []);
        assert_eq!(looked_at(&told(TOLD_MAX)), both);
        assert_eq!(looked_at(&told(TOLD_MAX + 1)), both);
    }
}
