//! Drives the serving core: which wants of which peers are read from the disk next, and who is choked.
//!
//! One core for all peers, so that what serving takes in memory has one bound. An answer counts until it was written to
//! its stream or could not be.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bithealth_exchange::{Asker, Priority, Refusal, Serve, ServeConfig, ServeEffect, ServeInput, WantId};
use bithealth_net::{FrameError, Writer};
use bithealth_proto::v1::{self, WantPriority, exchange_tell::Tell};
use bithealth_types::{Digest, LEAF_LEN, LeafIndex, NodeId, PackId, ShardIndex, Time};
use bytes::Bytes;
use tokio::sync::{Semaphore, mpsc, watch};
use tracing::{debug, warn};

use crate::counters::Purpose;
use crate::node::Node;
use crate::vault::VaultError;

/// Tells of one stream that are ready to be written; whoever has another waits.
const TELLS_QUEUED_MAX: usize = 16;
/// Answers being read from the disk at a time, of all peers.
const READS_MAX: usize = 8;
/// Leaves of one want: 1 MiB.
pub const WANT_LEAVES_MAX: u32 = 64;

/// Serves all peers.
pub struct Serving {
    state: Mutex<State>,
    reads: Semaphore,
    patience: Duration,
    started: Instant,
}

struct State {
    core: Serve,
    streams: HashMap<u64, Out>,
    /// What the wants are that the core knows by name.
    wants: HashMap<(u64, WantId), v1::Want>,
}

struct Out {
    peer: NodeId,
    tells: mpsc::Sender<Outgoing>,
    choked: watch::Sender<bool>,
}

/// A tell on its way to a peer.
pub struct Outgoing {
    tell: Tell,
    /// The want it answers, if it does: done when this goes.
    answered: Option<Answered>,
}

impl From<Tell> for Outgoing {
    fn from(tell: Tell) -> Self {
        Self { tell, answered: None }
    }
}

/// A want that is being answered. However it ends, the core hears of it.
struct Answered {
    node: Arc<Node>,
    to: Asker,
    want: WantId,
    priority: Priority,
}

impl Answered {
    /// Leaves went on their way to the peer.
    fn sent(&self, len: usize) {
        self.node.counters.sent.add(Purpose::Want(self.priority), len);
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        self.node.serving.handle(&self.node, ServeInput::Done { to: self.to, want: self.want });
    }
}

/// One stream of a peer that is served, until it is dropped.
pub struct Served {
    node: Arc<Node>,
    asker: Asker,
    tells: mpsc::Sender<Outgoing>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.node.serving.forget(self.asker.stream);
        self.node.serving.handle(&self.node, ServeInput::Closed { from: self.asker });
    }
}

impl Serving {
    /// Serves nobody yet.
    pub fn new(config: ServeConfig) -> Self {
        let patience = Duration::from_millis(config.patience_ms);
        let state = State { core: Serve::new(config), streams: HashMap::new(), wants: HashMap::new() };
        Self { state: Mutex::new(state), reads: Semaphore::new(READS_MAX), patience, started: Instant::now() }
    }

    /// How long a peer may leave an answer untaken, or a message unfinished.
    pub fn patience(&self) -> Duration {
        self.patience
    }

    /// Serves a stream that a peer opened: the tells for it go to `writer`, by the future.
    ///
    /// # Errors
    /// [`Refusal`] if there are too many.
    pub fn open(
        node: &Arc<Node>,
        peer: NodeId,
        writer: Writer,
    ) -> Result<(Served, impl Future<Output = ()> + Send + use<>), Refusal> {
        let (tells, queue) = mpsc::channel(TELLS_QUEUED_MAX);
        let serving = &node.serving;
        let mut state = serving.state.lock().expect("no holder panics");
        let asker = state.core.open(peer)?;
        let (choked, chokes) = watch::channel(state.core.is_choked(&peer));
        state.streams.insert(asker.stream, Out { peer, tells: tells.clone(), choked });
        let writing = write_tells(writer, queue, chokes, serving.patience);
        Ok((Served { node: node.clone(), asker, tells }, writing))
    }

    /// Peers that are asked to send no wants for now.
    pub fn choked_count(&self) -> usize {
        self.state.lock().expect("no holder panics").core.choked_count()
    }

    fn forget(&self, stream: u64) {
        let mut state = self.state.lock().expect("no holder panics");
        state.streams.remove(&stream);
        state.wants.retain(|(of, _), _| *of != stream);
    }

    /// Tells the core, and does what it asks; what was refused is for the caller to tell.
    fn handle(&self, node: &Arc<Node>, input: ServeInput) -> Vec<(WantId, Refusal)> {
        let mut effects = VecDeque::new();
        let (mut due, mut refused) = (Vec::new(), Vec::new());
        {
            let mut state = self.state.lock().expect("no holder panics");
            let now = Time(self.started.elapsed().as_millis() as u64);
            state.core.handle(now, input, &mut effects);
            for effect in effects {
                match effect {
                    ServeEffect::Answer { to, want } => due.push((to, want, state.take(&to, want))),
                    ServeEffect::Refuse { want, why, .. } => refused.push((want, why)),
                    ServeEffect::Choke { peer } => {
                        node.counters.chokes.one();
                        state.choke(&peer, true);
                    }
                    ServeEffect::Unchoke { peer } => state.choke(&peer, false),
                    ServeEffect::WakeAt(at) => wake(node.clone(), self.started + Duration::from_millis(at.0)),
                }
            }
        }
        for (to, want, asked) in due {
            let priority = asked.as_ref().map_or(Priority::Audit, |(asked, _)| priority_of(asked.priority()));
            let answered = Answered { node: node.clone(), to, want, priority };
            if let Some((asked, tells)) = asked {
                spawn(answer(answered, asked, tells));
            }
        }
        refused
    }
}

/// Lets the core look again at this time.
fn wake(node: Arc<Node>, at: Instant) {
    spawn(async move {
        tokio::time::sleep_until(at.into()).await;
        node.serving.handle(&node, ServeInput::Tick);
    });
}

/// Answers end, and so may begin others, until the very end of the process, when nothing can be begun any more.
fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        runtime.spawn(work);
    }
}

impl State {
    fn take(&mut self, to: &Asker, want: WantId) -> Option<(v1::Want, mpsc::Sender<Outgoing>)> {
        let asked = self.wants.remove(&(to.stream, want))?;
        Some((asked, self.streams.get(&to.stream)?.tells.clone()))
    }

    fn choke(&mut self, peer: &NodeId, choked: bool) {
        for out in self.streams.values().filter(|out| out.peer == *peer) {
            out.choked.send_replace(choked);
        }
    }
}

impl Served {
    /// Who.
    pub fn peer(&self) -> NodeId {
        self.asker.peer
    }

    /// What can be told to it.
    pub fn tells(&self) -> &mpsc::Sender<Outgoing> {
        &self.tells
    }

    /// Answers when its turn has come.
    pub async fn want(&self, want: v1::Want) {
        let (id, serving) = (WantId(want.id), &self.node.serving);
        let len = u64::from(want.count.min(WANT_LEAVES_MAX)) * LEAF_LEN as u64;
        let reads = len * self.shards_read_for(&want);
        let priority = priority_of(want.priority());
        {
            let mut state = serving.state.lock().expect("no holder panics");
            state.wants.entry((self.asker.stream, id)).or_insert(want); // one of the same name is refused
        }
        let input = ServeInput::Want { from: self.asker, want: id, priority, len, reads };
        let refused = serving.handle(&self.node, input);
        for (want, why) in refused {
            self.node.counters.refused.one();
            debug!(peer = %self.asker.peer.short(), %why, "a want is refused");
            if !matches!(why, Refusal::Repeated(_)) {
                serving.state.lock().expect("no holder panics").wants.remove(&(self.asker.stream, want));
            }
            let _ = self.tells.send(Tell::Busy(v1::Busy { id: want.0 }).into()).await; // the peer has gone
        }
    }

    fn shards_read_for(&self, want: &v1::Want) -> u64 {
        let (pack, shard) = (PackId::try_from(want.pack.as_ref()), u16::try_from(want.shard));
        let (Ok(pack), Ok(shard)) = (pack, shard) else { return 1 };
        self.node.vault.reads_to_serve(&pack, ShardIndex(shard)).into()
    }

    /// Takes a want back that waits.
    pub fn cancel(&self, id: u64) {
        let serving = &self.node.serving;
        serving.handle(&self.node, ServeInput::Cancel { from: self.asker, want: WantId(id) });
        serving.state.lock().expect("no holder panics").wants.remove(&(self.asker.stream, WantId(id)));
    }
}

/// What a want says of its urgency; what it does not say is the least.
fn priority_of(priority: WantPriority) -> Priority {
    match priority {
        WantPriority::Unspecified | WantPriority::Audit => Priority::Audit,
        WantPriority::Repair => Priority::Repair,
        WantPriority::Read => Priority::Read,
        WantPriority::Restore => Priority::Restore,
    }
}

/// Reads what is wanted, off the network's tasks, and hands it to whoever writes to the peer.
async fn answer(answered: Answered, want: v1::Want, tells: mpsc::Sender<Outgoing>) {
    let (node, counters, id) = (answered.node.clone(), answered.node.counters.clone(), want.id);
    let permit = answered.node.serving.reads.acquire().await.expect("never closed");
    let run = tokio::task::spawn_blocking(move || wanted(&node, &want)).await.expect("reading does not panic");
    drop(permit);
    let tell = match run {
        Ok(Some(leaves)) => Tell::Leaves(leaves),
        Ok(None) => Tell::Missing(v1::Missing { id, reason: String::new() }),
        Err(error) => {
            warn!(peer = %answered.to.peer.short(), %error, "a leaf that should be here cannot be read");
            Tell::Missing(v1::Missing { id, reason: "damaged here".into() })
        }
    };
    match &tell {
        Tell::Leaves(_) => counters.answered.one(),
        _ => counters.missing.one(),
    }
    let _ = tells.send(Outgoing { tell, answered: Some(answered) }).await; // the peer has gone
}

/// The leaves of a want and their proof.
fn wanted(node: &Node, want: &v1::Want) -> Result<Option<v1::Leaves>, VaultError> {
    let Ok(pack) = PackId::try_from(want.pack.as_ref()) else { return Ok(None) };
    let Ok(shard) = u16::try_from(want.shard) else { return Ok(None) };
    if want.count == 0 || want.count > WANT_LEAVES_MAX {
        return Ok(None);
    }
    let (shard, first) = (ShardIndex(shard), LeafIndex(want.leaf));
    let run = match node.vault.leaves(&pack, shard, first, want.count)? {
        Some(run) => Some(run),
        None => node.vault.coded_leaves(&pack, shard, first, want.count)?,
    };
    if let Some(run) = run {
        return Ok(Some(leaves(want.id, run.data, &run.proof)));
    }
    let lately = node.swarm.leaves(&pack, shard, first, want.count);
    Ok(lately.map(|(data, proof)| leaves(want.id, data, &proof)))
}

/// Leaves as they are told.
pub(crate) fn leaves(id: u64, data: Bytes, proof: &[Digest]) -> v1::Leaves {
    v1::Leaves { id, data, proof: proof.iter().map(|hash| Bytes::copy_from_slice(hash.as_bytes())).collect() }
}

/// Writes what is told to one peer until nobody tells anything more, or the peer takes nothing for too long.
async fn write_tells(
    mut writer: Writer,
    mut queue: mpsc::Receiver<Outgoing>,
    mut choked: watch::Receiver<bool>,
    patience: Duration,
) {
    let mut told = false;
    loop {
        let is_choked = *choked.borrow_and_update();
        let next = if is_choked != told {
            told = is_choked;
            Some(choke(told).into())
        } else {
            tokio::select! {
                next = queue.recv() => next,
                changed = choked.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => queue.recv().await, // the stream is no longer served; what is on its way is sent
                },
            }
        };
        let Some(next) = next else { return };
        let len = if let Tell::Leaves(leaves) = &next.tell { leaves.data.len() } else { 0 };
        let written = async {
            writer.send(&v1::ExchangeTell { tell: Some(next.tell) }).await?;
            if let Some(answered) = next.answered {
                answered.sent(len);
            }
            if queue.is_empty() { writer.flush().await } else { Ok::<(), FrameError>(()) }
        };
        match tokio::time::timeout(patience, written).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return, // the reading half learns of it too
            Err(_) => return debug!("a peer takes no answers; its stream is closed"),
        }
    }
}

fn choke(choked: bool) -> Tell {
    if choked { Tell::Choke(v1::Choke {}) } else { Tell::Unchoke(v1::Unchoke {}) }
}
