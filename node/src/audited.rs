//! The holder's side of an audit: reads what it is asked for, commits to it, and opens what is drawn.
//!
//! Nothing that others wait for stands behind it: an audit has a stream of its own, few are read for at a time, and each
//! peer has a share of the disk that it cannot exceed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bithealth_exchange::{AUDIT_BYTES_MAX, AUDIT_SAMPLES_MAX, AUDIT_SHARDS_MAX, Commitment, Priority};
use bithealth_net::{FrameError, Stream};
use bithealth_proto::v1::{self, audit_ask::Ask, audit_tell::Tell};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex};
use bytes::Bytes;
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use crate::counters::Purpose;
use crate::links::bit_field;
use crate::node::Node;
use crate::replicate::blocking;
use crate::serving::WANT_LEAVES_MAX;
use crate::verify::{self, Item};

/// Audits that are read for at a time, the others in a row: each reads the disk from one end to the other, and more would
/// only make each other late.
const READING_AT_ONCE_MAX: usize = 2;
/// Bytes that one peer may make this node read for audits, each second on average: a full set in two minutes. It asks for
/// a quarter of that each half hour, so a liar that asks for all it may holds the others up for little.
const PEER_BYTES_PER_S: u64 = 2 << 20;
/// Peers whose share is remembered. Beyond, whoever was not asked for longest is forgotten.
const PEERS_MAX: usize = 4096;
/// How long the auditor may take for each of its two questions.
const QUESTION_TIMEOUT: Duration = Duration::from_secs(60);

/// Who is being answered, and who has had its share for now.
#[derive(Debug)]
pub struct Answering {
    peers: Mutex<Peers>,
    reading: Semaphore,
}

#[derive(Debug, Default)]
struct Peers {
    answering: Vec<NodeId>,
    /// When each peer may ask again.
    rests_until: BTreeMap<NodeId, Instant>,
}

/// One audit that is being answered.
struct Turn<'a> {
    answering: &'a Answering,
    peer: NodeId,
}

/// Why an audit is not answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditRefusal {
    /// It asked for much, a short time ago.
    #[error("this peer is being answered, or has asked for more than {PEER_BYTES_PER_S} bytes each second")]
    Share,
    /// A nonce of another length.
    #[error("a nonce of {got} bytes, 32 are due")]
    Nonce {
        /// Bytes that came.
        got: usize,
    },
    /// Too many shards, or none.
    #[error("{got} shards are asked for, 1 to {AUDIT_SHARDS_MAX} may be")]
    Shards {
        /// Shards that came.
        got: usize,
    },
    /// A shard that is on no ledger, or not on this node's yet.
    #[error("the {number}th of the shards that are asked for is not on the ledger here")]
    Unknown {
        /// Which of them, from 1.
        number: usize,
    },
    /// Too much to read.
    #[error("{got} bytes are asked for, at most {AUDIT_BYTES_MAX} may be")]
    Bytes {
        /// Bytes of the shards.
        got: u64,
    },
}

impl Default for Answering {
    fn default() -> Self {
        Self { peers: Mutex::default(), reading: Semaphore::new(READING_AT_ONCE_MAX) }
    }
}

impl Answering {
    /// A turn for this peer to have `bytes` read; none where it has had its share.
    fn begin(&self, now: Instant, peer: NodeId, bytes: u64) -> Result<Turn<'_>, AuditRefusal> {
        let mut peers = self.peers.lock().expect("no holder panics");
        if peers.answering.contains(&peer) || peers.rests_until.get(&peer).is_some_and(|until| *until > now) {
            return Err(AuditRefusal::Share);
        }
        if peers.rests_until.len() >= PEERS_MAX && !peers.rests_until.contains_key(&peer) {
            let oldest = peers.rests_until.iter().min_by_key(|(_, until)| **until).map(|(peer, _)| *peer);
            oldest.map(|oldest| peers.rests_until.remove(&oldest));
        }
        let rest = Duration::from_millis(bytes * 1000 / PEER_BYTES_PER_S);
        peers.rests_until.insert(peer, now + rest);
        peers.answering.push(peer);
        Ok(Turn { answering: self, peer })
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut peers = self.answering.peers.lock().expect("no holder panics");
        peers.answering.retain(|peer| *peer != self.peer);
    }
}

/// A shard of the set, as the ledger knows it.
#[derive(Clone, Copy)]
struct Asked {
    pack: PackId,
    shard: ShardIndex,
    leaf_count: u32,
}

/// What this node committed to.
struct Committed {
    commitment: Commitment,
    /// The shard and position of each leaf follow from these, in order.
    kept: Vec<Asked>,
    /// Positions in the set.
    lacks: Vec<usize>,
    damaged: Vec<Asked>,
}

/// Answers one audit, to its end or until the auditor leaves.
pub async fn serve(node: Arc<Node>, from: NodeId, mut stream: Stream) {
    if let Err(error) = answer(&node, from, &mut stream).await {
        debug!(peer = %from.short(), %error, "an audit was not answered to its end");
    }
}

async fn answer(node: &Arc<Node>, from: NodeId, stream: &mut Stream) -> anyhow::Result<()> {
    let Some(Ask::Commit(set)) = question(stream).await? else { return Ok(()) };
    let known = |pack: &PackId| {
        let (code, commit) = (node.code_of(pack)?, node.commit_of(pack)?);
        Some((code.n(), code.leaf_count(commit.len)))
    };
    let (nonce, asked) = read_set(&set, known)?;
    let turn = match node.answering.begin(Instant::now(), from, len(&asked)) {
        Ok(turn) => turn,
        Err(refusal) => {
            tell(stream, Tell::Busy(v1::AuditBusy { reason: refusal.to_string() })).await?;
            return Ok(stream.close().await?);
        }
    };
    let worker = node.clone();
    let reading = node.answering.reading.acquire().await.expect("never closed");
    let (committed, has_moved) = blocking(move || {
        let committed = commit(&worker, &nonce, &asked);
        let has_moved = committed.lacks.iter().any(|position| has_moved(&worker, &asked[*position]));
        (Arc::new(committed), has_moved)
    })
    .await;
    drop(reading); // an auditor that is slow to go on holds up nobody
    if has_moved {
        // Its auditor will learn of that too; until then it would seem to be a fault.
        tell(stream, Tell::Busy(v1::AuditBusy { reason: "the ledger has moved a shard elsewhere".into() })).await?;
        return Ok(stream.close().await?);
    }
    let lacks = bit_field(committed.lacks.iter().map(|position| ShardIndex(*position as u16))).into();
    let root = Bytes::copy_from_slice(committed.commitment.root().as_bytes());
    tell(stream, Tell::Committed(v1::AuditCommitment { root, lacks })).await?;
    if committed.commitment.leaf_count() > 0
        && let Some(Ask::Open(drawn)) = question(stream).await?
    {
        anyhow::ensure!(drawn.leaves.len() <= AUDIT_SAMPLES_MAX as usize, "{} leaves are drawn", drawn.leaves.len());
        for leaf in drawn.leaves {
            let (worker, of) = (node.clone(), committed.clone());
            let opened = blocking(move || open(&worker, &of, leaf)).await?;
            node.counters.sent.add(Purpose::Want(Priority::Audit), opened.data.len());
            stream.send(&v1::AuditTell { tell: Some(Tell::Opened(opened)) }).await?;
        }
    }
    stream.close().await?;
    drop(turn);
    repair(node, &committed.damaged).await;
    Ok(())
}

async fn question(stream: &mut Stream) -> anyhow::Result<Option<Ask>> {
    let ask = tokio::time::timeout(QUESTION_TIMEOUT, stream.recv::<v1::AuditAsk>()).await??;
    Ok(ask.and_then(|ask| ask.ask))
}

async fn tell(stream: &mut Stream, tell: Tell) -> Result<(), FrameError> {
    stream.send(&v1::AuditTell { tell: Some(tell) }).await?;
    stream.flush().await
}

/// The shards that are asked for; `known` tells what the ledger has of a pack: shards, and leaves of each. One that it
/// does not know is no reason to read anything.
fn read_set(
    set: &v1::AuditSet,
    known: impl Fn(&PackId) -> Option<(u16, u32)>,
) -> Result<([u8; 32], Vec<Asked>), AuditRefusal> {
    let nonce = set.nonce.as_ref().try_into().map_err(|_| AuditRefusal::Nonce { got: set.nonce.len() })?;
    if set.shards.is_empty() || set.shards.len() > AUDIT_SHARDS_MAX {
        return Err(AuditRefusal::Shards { got: set.shards.len() });
    }
    let asked = |it: &v1::AuditShard| {
        let pack = PackId::try_from(it.pack.as_ref()).ok()?;
        let (n, leaf_count) = known(&pack)?;
        let shard = u16::try_from(it.shard).ok().filter(|shard| *shard < n)?;
        Some(Asked { pack, shard: ShardIndex(shard), leaf_count })
    };
    let numbered = (1..).zip(&set.shards).map(|(number, it)| asked(it).ok_or(AuditRefusal::Unknown { number }));
    let asked = numbered.collect::<Result<Vec<Asked>, _>>()?;
    match len(&asked) {
        got if got > AUDIT_BYTES_MAX => Err(AuditRefusal::Bytes { got }),
        _ => Ok((nonce, asked)),
    }
}

fn len(asked: &[Asked]) -> u64 {
    asked.iter().map(|it| u64::from(it.leaf_count) * LEAF_LEN as u64).sum()
}

/// Reads everything that is asked for, in runs that leave the page cache alone. Blocks.
fn commit(node: &Node, nonce: &[u8; 32], asked: &[Asked]) -> Committed {
    let (mut bound, mut kept, mut lacks, mut damaged) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for (position, it) in asked.iter().enumerate() {
        match bound_leaves(node, nonce, it) {
            Ok(Some(leaves)) => {
                bound.extend(leaves);
                kept.push(*it);
            }
            Ok(None) => lacks.push(position),
            Err(error) => {
                warn!(pack = %it.pack.short(), shard = %it.shard, %error, "an audit shows damage here");
                lacks.push(position);
                damaged.push(*it);
            }
        }
    }
    Committed { commitment: Commitment::new(bound), kept, lacks, damaged }
}

/// Whether the ledger that is here does not put a shard on this node any more.
fn has_moved(node: &Node, it: &Asked) -> bool {
    let retired = node.chain.state().pack(&it.pack).is_none_or(|pack| pack.retired_into.is_some());
    retired || node.holders(&it.pack).get(usize::from(it.shard.0)).is_none_or(|(_, holder)| *holder != node.id())
}

fn bound_leaves(node: &Node, nonce: &[u8; 32], it: &Asked) -> anyhow::Result<Option<Vec<Digest>>> {
    let mut leaves = Vec::with_capacity(it.leaf_count as usize);
    while (leaves.len() as u32) < it.leaf_count {
        let first = leaves.len() as u32;
        let count = WANT_LEAVES_MAX.min(it.leaf_count - first);
        let Some(run) = node.vault.leaves(&it.pack, it.shard, LeafIndex(first), count)? else { return Ok(None) };
        leaves.extend(run.data.chunks(LEAF_LEN).map(|leaf| Commitment::leaf(nonce, leaf)));
    }
    Ok(Some(leaves))
}

/// Blocks.
fn open(node: &Node, committed: &Committed, leaf: u32) -> anyhow::Result<v1::AuditLeaf> {
    let none = || anyhow::anyhow!("leaf {leaf} is drawn of {}", committed.commitment.leaf_count());
    let bound = committed.commitment.prove(leaf).ok_or_else(none)?;
    let (mut before, mut found) = (0, None);
    for it in &committed.kept {
        if leaf < before + it.leaf_count {
            found = Some((it, LeafIndex(leaf - before)));
            break;
        }
        before += it.leaf_count;
    }
    let (it, at) = found.ok_or_else(none)?;
    let run = node.vault.leaves(&it.pack, it.shard, at, 1)?.ok_or_else(none)?;
    let bytes = |proof: Vec<Digest>| proof.iter().map(|hash| Bytes::copy_from_slice(hash.as_bytes())).collect();
    Ok(v1::AuditLeaf { leaf, data: run.data, bound: bytes(bound), proof: bytes(run.proof) })
}

/// What an audit showed to be damaged is brought back at once.
async fn repair(node: &Arc<Node>, damaged: &[Asked]) {
    for it in damaged {
        let item = node.vault.own(&it.pack).map_or(Item::Shard(it.pack, it.shard), |own| Item::Pack(own.salt));
        if !verify::repair(node, item).await {
            warn!(pack = %it.pack.short(), shard = %it.shard, "what is damaged here cannot be repaired yet");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_proto::{Limited, encode};

    const PEER: NodeId = NodeId([1; 32]);

    #[test]
    fn a_peer_is_answered_once_at_a_time_and_rests_as_long_as_it_had_bytes_read() {
        let (answering, now) = (Answering::default(), Instant::now());
        let turn = answering.begin(now, PEER, 2 * PEER_BYTES_PER_S).unwrap();
        let later = |ms| now + Duration::from_millis(ms);
        assert!(matches!(answering.begin(later(3000), PEER, 1), Err(AuditRefusal::Share)), "it is being answered");
        drop(turn);
        assert!(matches!(answering.begin(later(1999), PEER, 1), Err(AuditRefusal::Share)), "it rests");
        assert!(answering.begin(later(2000), PEER, 1).is_ok());
    }

    fn set(count: usize) -> v1::AuditSet {
        let shard = v1::AuditShard { pack: vec![1; 32].into(), shard: 8 };
        v1::AuditSet { nonce: vec![7; 32].into(), shards: vec![shard; count] }
    }

    /// What comes of a set where every pack has nine shards of this many leaves.
    fn read(set: &v1::AuditSet, leaf_count: u32) -> Result<usize, AuditRefusal> {
        read_set(set, |_| Some((9, leaf_count))).map(|(_, asked)| asked.len())
    }

    #[test]
    fn a_set_is_read_up_to_its_bounds_and_refused_one_past_them() {
        let leaves = (AUDIT_BYTES_MAX / LEAF_LEN as u64) as u32;
        assert!(matches!(read(&set(AUDIT_SHARDS_MAX), 1), Ok(AUDIT_SHARDS_MAX)));
        assert!(matches!(read(&set(1), leaves), Ok(1)));
        assert!(matches!(read(&set(0), 1), Err(AuditRefusal::Shards { got: 0 })));
        let past = AUDIT_SHARDS_MAX + 1;
        assert!(matches!(read(&set(past), 1), Err(AuditRefusal::Shards { got }) if got == past));
        let past = AUDIT_BYTES_MAX + LEAF_LEN as u64;
        assert!(matches!(read(&set(1), leaves + 1), Err(AuditRefusal::Bytes { got }) if got == past));
    }

    #[test]
    fn a_set_that_names_what_the_ledger_does_not_know_is_refused() {
        assert!(matches!(read_set(&set(1), |_| None), Err(AuditRefusal::Unknown { number: 1 })));
        let of = |pack: Vec<u8>, shard| {
            let mut set = set(1);
            set.shards.push(v1::AuditShard { pack: pack.into(), shard });
            set
        };
        assert!(matches!(read(&of(vec![1; 32], 8), 1), Ok(2)));
        for (pack, shard) in [(vec![1; 32], 9), (vec![1; 32], 1 << 16), (vec![1; 31], 0)] {
            assert!(matches!(read(&of(pack, shard), 1), Err(AuditRefusal::Unknown { number: 2 })));
        }
        let short = v1::AuditSet { nonce: vec![7; 31].into(), ..set(1) };
        assert!(matches!(read(&short, 1), Err(AuditRefusal::Nonce { got: 31 })));
    }

    #[test]
    fn the_longest_messages_fit_their_limits() {
        let ask = |ask| encode(&v1::AuditAsk { ask: Some(ask) }).len();
        assert!(ask(Ask::Commit(set(AUDIT_SHARDS_MAX))) <= v1::AuditAsk::LEN_MAX);
        let drawn = v1::AuditDrawn { leaves: vec![u32::MAX; AUDIT_SAMPLES_MAX as usize] };
        assert!(ask(Ask::Open(drawn)) <= v1::AuditAsk::LEN_MAX);
        let path = |leaves: u64| vec![Bytes::from(vec![1; 32]); leaves.ilog2() as usize + 1];
        let leaves = AUDIT_BYTES_MAX / LEAF_LEN as u64;
        let (bound, proof) = (path(leaves), path(leaves));
        let leaf = v1::AuditLeaf { leaf: u32::MAX, data: vec![1; LEAF_LEN].into(), bound, proof };
        assert!(encode(&v1::AuditTell { tell: Some(Tell::Opened(leaf)) }).len() <= v1::AuditTell::LEN_MAX);
    }

    #[test]
    fn peers_are_forgotten_past_a_bound() {
        let (answering, now) = (Answering::default(), Instant::now());
        for number in 0..=PEERS_MAX as u32 {
            let mut id = [0; 32];
            id[..4].copy_from_slice(&number.to_be_bytes());
            drop(answering.begin(now, NodeId(id), 0).unwrap());
        }
        assert_eq!(answering.peers.lock().unwrap().rests_until.len(), PEERS_MAX);
    }
}
