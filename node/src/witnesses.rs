//! Heads that leave as checkpoints, and the witnesses that cosigned them.
//!
//! A node signs only what is final here: the tip of its state. Each block is durable before the state takes it, and blocks
//! only follow on the tip, so what is signed later always continues what was signed before, after a restart too. A node
//! that lost its disk signs with a new key. Only an old copy of a data folder that somebody put back could show less than
//! before, and still no other history.
//!
//! What a witness cosigned is kept with its key, the latest of each, under [`Kind::Meta`].

use std::collections::BTreeMap;
use std::sync::Mutex;

use bithealth_http::api::{CheckpointInfo, CheckpointOf, WitnessInfo};
use bithealth_http::{ErrorBody, ErrorCode};
use bithealth_ledger::{
    Checkpoint, NoteAlgorithm, NoteError, SignedNote, Submission, VerifierKey, head_checkpoint, log_key, origin,
    sign_note, verify_cosignature,
};
use bithealth_merkle::{consistency_proof, leaf_hash};
use bithealth_proto::{encode, v1};
use bithealth_store::{Kind, Store};
use bithealth_types::{Digest, Height};
use sha2::{Digest as _, Sha256};
use tracing::{error, warn};

use crate::node::{Node, now_ms};
use crate::prove::{for_each_block, unreadable};

/// Witnesses kept. A network asks a handful; past this the one that cosigned longest ago makes room.
pub const WITNESSES_MAX: usize = 32;
/// Most bytes of a witness's name: as many as a DNS name has.
pub const WITNESS_NAME_LEN_MAX: usize = 255;
/// A cosignature may be so far ahead of our clock, for clocks differ; a later one would stay the latest.
const AHEAD_MAX_S: u64 = 3600;
/// What the keys of the store begin with; behind it is SHA-256 of the witness's key as text.
const PREFIX: &[u8] = b"cosigned ";

/// The witnesses' cosignatures, as the store has them.
#[derive(Default)]
pub struct Witnesses(Mutex<BTreeMap<String, WitnessInfo>>);

impl Witnesses {
    /// Reads what is kept. What cannot be read is left out and named in the log. Blocks.
    pub fn open(store: &Store) -> Self {
        let mut kept = BTreeMap::new();
        for key in store.keys(Kind::Meta) {
            match key {
                Ok(key) if key.starts_with(PREFIX) => match read(store, &key) {
                    Some(info) => drop(kept.insert(info.key.clone(), info)),
                    None => warn!("a cosignature that was kept is damaged; ask the witness again"),
                },
                Ok(_) => {}
                Err(error) => warn!(%error, "cosignatures that were kept cannot be read"),
            }
        }
        Self(Mutex::new(kept))
    }

    /// All, by name.
    pub fn all(&self) -> Vec<WitnessInfo> {
        self.0.lock().expect("no holder panics").values().cloned().collect()
    }

    /// Keeps what is later than what this witness cosigned before; returns what is kept. Blocks on the disk.
    fn keep(&self, store: &Store, info: WitnessInfo) -> Result<WitnessInfo, ErrorBody> {
        let mut kept = self.0.lock().expect("no holder panics");
        if let Some(have) = kept.get(&info.key).filter(|have| rank(have) >= rank(&info)) {
            return Ok(have.clone());
        }
        let full = |error| ErrorBody::new(ErrorCode::DiskFull, error);
        let meta = format!("{}\n{}", info.key, info.note);
        let position = store.put(Kind::Meta, &store_key(&info.key), meta.as_bytes(), &[]).map_err(full)?;
        store.sync(position).map_err(full)?;
        kept.insert(info.key.clone(), info.clone());
        while kept.len() > WITNESSES_MAX {
            let others = kept.values().filter(|it| it.key != info.key);
            let stalest = others.min_by_key(|it| rank(it)).map(|it| it.key.clone()).expect("more than one is kept");
            store.remove(Kind::Meta, &store_key(&stalest)).map_err(full)?;
            warn!(witness = stalest, "{WITNESSES_MAX} others cosigned later; its cosignature is dropped");
            kept.remove(&stalest);
        }
        Ok(info)
    }
}

/// Of two cosignatures of a witness that of the longer history is worth more, then the later one.
fn rank(info: &WitnessInfo) -> (Height, u64) {
    (info.height, info.time_ms)
}

fn store_key(witness: &str) -> Vec<u8> {
    [PREFIX, Sha256::digest(witness).as_slice()].concat()
}

fn read(store: &Store, key: &[u8]) -> Option<WitnessInfo> {
    let item = store.get(Kind::Meta, key).ok()??;
    let (witness, note) = str::from_utf8(&item.meta).ok()?.split_once('\n')?;
    let witness = witness.parse().ok()?;
    let signed = SignedNote::parse(note.as_bytes()).ok()?;
    let time_s = verify_cosignature(&signed, &witness).ok()?;
    let checkpoint = Checkpoint::parse(signed.text()).ok()?;
    Some(info(&witness, &checkpoint, time_s, &signed))
}

fn info(witness: &VerifierKey, checkpoint: &Checkpoint, time_s: u64, note: &SignedNote) -> WitnessInfo {
    WitnessInfo {
        name: witness.name().to_owned(),
        key: witness.to_string(),
        height: Height(checkpoint.len),
        time_ms: time_s.saturating_mul(1000),
        note: note.to_string(),
    }
}

/// The checkpoint of the tip, signed by this node; with a proof since an earlier height if one is asked for. The proof
/// reads every block. Blocks.
///
/// # Errors
/// [`ErrorCode::NotFinal`] before the first block, [`ErrorCode::BadRequest`] for a height past the tip.
pub fn checkpoint(node: &Node, of: CheckpointOf) -> Result<CheckpointInfo, ErrorBody> {
    let tip = tip(node)?;
    let note = signed(node, &tip)?;
    let text = match of.since {
        Height(0) => note.to_string(),
        Height(old_len) => Submission { old_len, proof: continuation(node, old_len, tip.len)?, note }.to_string(),
    };
    Ok(CheckpointInfo { origin: tip.origin, height: Height(tip.len), key: our_key(node).to_string(), text })
}

fn tip(node: &Node) -> Result<Checkpoint, ErrorBody> {
    let none = || {
        ErrorBody::new(ErrorCode::NotFinal, "there is no block yet, so nothing that could be cosigned")
            .with_next_step("the first block comes with the first entry, such as a record: `bithealth put`")
    };
    node.chain.state().checkpoint().ok_or_else(none)
}

fn our_key(node: &Node) -> VerifierKey {
    log_key(&node.chain.state().genesis_id(), node.id().0).expect("a node's key is an Ed25519 key")
}

fn signed(node: &Node, checkpoint: &Checkpoint) -> Result<SignedNote, ErrorBody> {
    let text = checkpoint.text().expect("our checkpoints are lines");
    sign_note(&text, &our_key(node), |message| node.keys.node.sign(message)).map_err(refused)
}

/// That the first `len` headers continue the first `old_len`.
fn continuation(node: &Node, old_len: u64, len: u64) -> Result<Vec<Digest>, ErrorBody> {
    if old_len > len {
        let message = format!("this node knows {len} headers, a proof since {old_len} is asked for");
        let next = "if a witness saw that many, wait until `bithealth status` shows as many, or ask another node";
        return Err(ErrorBody::new(ErrorCode::BadRequest, message).with_next_step(next));
    }
    let mut leaves = Vec::new();
    for_each_block(node, Height(1), |block| {
        leaves.extend(block.header.as_ref().map(|header| leaf_hash(&encode(header))));
        (leaves.len() as u64) < len
    })?;
    let gap = || ErrorBody::new(ErrorCode::Damaged, "the ledger of this node has a gap; run `bithealth verify`");
    if leaves.len() as u64 != len {
        return Err(gap());
    }
    consistency_proof(&leaves, old_len).ok_or_else(gap)
}

/// Keeps the cosignature of the witness with this key, if the checkpoint is of our history; what is kept of that witness
/// now. Blocks on the disk.
///
/// # Errors
/// [`ErrorCode::Forked`] if the witness cosigned another history of this network, [`ErrorCode::NotFinal`] if it is ahead
/// of this node, [`ErrorCode::BadRequest`] for all that proves nothing.
pub fn cosigned(node: &Node, witness: &str, note: &[u8]) -> Result<WitnessInfo, ErrorBody> {
    let witness = witness_key(witness)?;
    let note = SignedNote::parse(note).map_err(refused)?;
    let got = Checkpoint::parse(note.text()).map_err(|error| refused(error.into()))?;
    let ours = origin(&node.chain.state().genesis_id());
    if got.origin != ours {
        let message = format!("the checkpoint is of {}, this network's are of {ours}", got.origin);
        return Err(bad(message, "hand it to a node of that network; `bithealth ledger checkpoint` makes ours"));
    }
    let time_s = verify_cosignature(&note, &witness).map_err(|error| not_cosigned(error, &note))?;
    check_time(time_s, now_ms() / 1000)?;
    let want = ours_at(node, got.len)?;
    check_same(&witness, &got, &want, &note)?;
    // What others signed besides is not kept: with our signature and the witness's anybody can check it.
    let mut kept = signed(node, &want)?;
    for line in note.signatures().iter().filter(|it| it.name() == witness.name() && it.key_id() == witness.id()) {
        kept.add(line.clone()).map_err(refused)?;
    }
    node.witnesses.keep(&node.store, info(&witness, &want, time_s, &kept))
}

fn witness_key(text: &str) -> Result<VerifierKey, ErrorBody> {
    let next = "pass the line that `bithealth ledger witness-key` printed for the witness, in quotes";
    let key: VerifierKey = text.parse().map_err(|error| bad(format!("the witness's key: {error}"), next))?;
    if key.algorithm() != NoteAlgorithm::CosignatureV1 {
        return Err(bad(format!("the key of {} is no witness's: it signs notes, not cosignatures", key.name()), next));
    }
    let got = key.name().len();
    if got > WITNESS_NAME_LEN_MAX {
        let message = format!("the witness's name has {got} bytes, at most {WITNESS_NAME_LEN_MAX} are due");
        return Err(bad(message, "the witness makes a key with a shorter name"));
    }
    Ok(key)
}

fn check_time(time_s: u64, now_s: u64) -> Result<(), ErrorBody> {
    if time_s > now_s.saturating_add(AHEAD_MAX_S) {
        let message = format!("the cosignature is of second {time_s}, {} s ahead of this clock", time_s - now_s);
        return Err(bad(message, "one of the two clocks is wrong: set it, then let the witness cosign again"));
    }
    Ok(())
}

/// What our history says at a height: the next header names it, and it was checked when it came.
fn ours_at(node: &Node, len: u64) -> Result<Checkpoint, ErrorBody> {
    let (genesis, tip) = (node.chain.state().genesis_id(), tip(node)?);
    if len == tip.len {
        return Ok(tip);
    }
    if len > tip.len {
        let message = format!("the checkpoint is of height {len}, this node is at {}", tip.len);
        return Err(ErrorBody::new(ErrorCode::NotFinal, message)
            .with_next_step("hand it over again once `bithealth status` shows that height"));
    }
    if len == 0 {
        return Err(bad(
            "the checkpoint is of no header",
            "let the witness cosign one of `bithealth ledger checkpoint`",
        ));
    }
    let blocks = node.chain.blocks(Height(len + 1), 1).map_err(unreadable)?;
    let header = blocks.into_iter().next().and_then(|block| block.header);
    let named = header.as_ref().and_then(|header: &v1::Header| {
        let digest = |bytes: &[u8]| Digest::try_from(bytes).ok();
        Some((digest(&header.history_root)?, digest(&header.previous)?))
    });
    let (root, last) = named.ok_or_else(|| ErrorBody::new(ErrorCode::Damaged, "a block of this node is damaged"))?;
    Ok(head_checkpoint(&genesis, Height(len), root, last))
}

fn check_same(witness: &VerifierKey, got: &Checkpoint, want: &Checkpoint, note: &SignedNote) -> Result<(), ErrorBody> {
    if got.root != want.root {
        let message = format!(
            "FORK: {} cosigned another history of {}: the root over {} headers is {} there and {} here",
            witness.name(),
            want.origin,
            want.len,
            got.root,
            want.root
        );
        error!(signed_by = note.signed_by(), "{message}");
        return Err(ErrorBody::new(ErrorCode::Forked, message));
    }
    if got.extensions != want.extensions {
        let message = format!("the checkpoint goes on with {:?}, {:?} is due", got.extensions, want.extensions);
        return Err(bad(message, "let the witness cosign one of `bithealth ledger checkpoint`"));
    }
    Ok(())
}

fn bad(message: impl ToString, next: &str) -> ErrorBody {
    ErrorBody::new(ErrorCode::BadRequest, message).with_next_step(next)
}

fn refused(error: NoteError) -> ErrorBody {
    bad(error, "hand over the file that `bithealth ledger cosign` wrote, unchanged")
}

fn not_cosigned(error: NoteError, note: &SignedNote) -> ErrorBody {
    match error {
        NoteError::NotSigned { .. } => bad(
            format!("{error}; it is signed by {}", note.signed_by()),
            "pass the key of the witness that did cosign it, or let this one run `bithealth ledger cosign`",
        ),
        error => refused(error),
    }
}

#[cfg(test)]
mod tests;
