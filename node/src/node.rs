//! What the parts of a running node share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use bithealth_exchange::Pipes;
use bithealth_net::{Net, Topic};
use bithealth_placement::{Placed, Site};
use bithealth_proto::v1;
use bithealth_store::Store;
use bithealth_types::{Code, Digest, Height, MemberId, NodeId, PackId, Sequence, ShardIndex};
use tokio::sync::{Semaphore, watch};
use tracing::debug;

use crate::audit::Audits;
use crate::audited::Answering;
use crate::chain::{Chain, ChainError};
use crate::config::Config;
use crate::consolidate::Gathered;
use crate::counters::Counters;
use crate::finality::Finality;
use crate::gather::Gather;
use crate::keys::NodeKeys;
use crate::links::Links;
use crate::outbox::Outbox;
use crate::recovery::Recovery;
use crate::repair::Repair;
use crate::replicate::Replication;
use crate::restore::RestoreProgress;
use crate::room::{NoRoom, Place, Room};
use crate::scrub::Scrubbing;
use crate::serving::Serving;
use crate::shelf::Shelf;
use crate::swarm::Swarm;
use crate::sync::Followers;
use crate::vault::Vault;
use crate::witnesses::Witnesses;

/// What the ledger says of a pack's bytes.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Bytes of the pack.
    pub len: u64,
    /// The root of each shard.
    pub roots: Vec<Digest>,
    /// Its author's clock when it was committed, milliseconds since 1970.
    pub time_ms: u64,
    /// Whether a block covers it.
    pub in_block: bool,
}

/// A running node.
pub struct Node {
    /// Its configuration.
    pub config: Config,
    /// Its keys and its organisation's.
    pub keys: Arc<NodeKeys>,
    /// Its organisation's word for it.
    pub certificate: v1::NodeCertificate,
    /// How its organisation came in, if this node brings the word.
    pub admission: Option<v1::Admission>,
    /// The recovery that was announced.
    pub recovery: Recovery,
    /// The disk.
    pub store: Arc<Store>,
    /// Sealed content on the disk.
    pub vault: Arc<Vault>,
    /// The ledger.
    pub chain: Arc<Chain>,
    /// The consensus engine.
    pub finality: Finality,
    /// Our entries on their way to the others.
    pub outbox: Outbox,
    /// The network.
    pub net: Net,
    /// Streams to providers.
    pub links: Links,
    /// What each provider was measured to deliver.
    pub pipes: Mutex<Pipes>,
    /// Who fetches what, and what came lately.
    pub swarm: Arc<Swarm>,
    /// What is counted for the metrics.
    pub counters: Arc<Counters>,
    /// When it was started, milliseconds since 1970.
    pub started_ms: u64,
    /// What others want of us.
    pub serving: Serving,
    /// The records it can open.
    pub shelf: Shelf,
    /// Small writes on their way into packs.
    pub gather: Gather,
    /// Small packs that moved into larger ones.
    pub gathered: Gathered,
    /// Own packs on their way to other nodes.
    pub replication: Replication,
    /// What other nodes lost.
    pub repair: Repair,
    /// What audits of other nodes showed.
    pub audits: Audits,
    /// Audits of others that are being answered.
    pub answering: Answering,
    /// How far the store was read back.
    pub scrubbing: Scrubbing,
    /// MiB of incoming shards that may be in memory.
    pub incoming: Arc<Semaphore>,
    /// Counts changes of who is connected.
    pub peers_changed: watch::Sender<u64>,
    /// Synchronisation with each peer.
    pub followers: Followers,
    /// Peers that sent something false, and what.
    pub shut_out: Mutex<BTreeMap<NodeId, String>>,
    /// Peers that refuse this node, and why.
    pub refusing: Mutex<BTreeMap<NodeId, String>>,
    /// How the restore of this node goes on.
    pub restoring: watch::Sender<RestoreProgress>,
    /// Outsiders that cosigned its head.
    pub witnesses: Witnesses,
    /// What it offers to others, and how much of that is taken.
    pub room: Arc<Room>,
    /// Held while a shard is dropped.
    pub dropping: Mutex<()>,
}

impl Node {
    /// This node's id.
    pub fn id(&self) -> NodeId {
        self.keys.node.id()
    }

    /// Its organisation.
    pub fn member(&self) -> MemberId {
        self.keys.organisation.member()
    }

    /// Whether a node belongs to our organisation.
    pub fn is_ours(&self, node: &NodeId) -> bool {
        self.chain.state().node(node).is_some_and(|node| node.member == self.member())
    }

    /// Whether a node can be asked now: it is connected, and was shown to be a member's. This one always can.
    pub fn answers(&self, node: &NodeId) -> bool {
        *node == self.id() || self.net.is_connected(node) && self.net.is_admitted(node)
    }

    /// The candidates of placement at `height`.
    pub fn sites(&self, height: Height) -> Vec<Site> {
        let state = self.chain.state();
        let site = |node: &bithealth_ledger::Node| Site {
            node: node.id,
            member: node.member,
            region: node.region.clone(),
            jurisdiction: node.jurisdiction.clone(),
            capacity: node.capacity,
        };
        state.nodes_at(height).into_iter().map(site).collect()
    }

    /// The candidates of placement now.
    pub fn sites_now(&self) -> Vec<Site> {
        let height = self.chain.state().height();
        self.sites(height)
    }

    /// The code of a pack on the ledger.
    pub fn code_of(&self, pack: &PackId) -> Option<Code> {
        let state = self.chain.state();
        let descriptor = state.pack(pack)?.commit.pack.as_ref()?;
        Code::new(descriptor.k, descriptor.n).ok()
    }

    /// Where the shards of a pack belong: computed, then the exceptions of its commit, then later entries.
    pub fn holders(&self, pack: &PackId) -> Vec<(ShardIndex, NodeId)> {
        self.placed(pack).map(|placed| placed.holders).unwrap_or_default()
    }

    /// The same, with what placement computes it from; none that is not on the ledger.
    pub fn placed(&self, pack: &PackId) -> Option<Placed> {
        let (code, policy, height, author, places) = {
            let state = self.chain.state();
            let pack = state.pack(pack)?;
            let descriptor = pack.commit.pack.as_ref()?;
            let code = Code::new(descriptor.k, descriptor.n).ok()?;
            let policy = crate::replicate::policy_of(pack.commit.policy.as_ref());
            (code, policy, Height(pack.commit.height), pack.author, pack.places.clone())
        };
        let sites = self.sites(height);
        let mut holders = bithealth_placement::place(&policy, code, pack, &author, &sites).unwrap_or_default();
        holders.resize(usize::from(code.n()), author);
        let mut holders: Vec<(ShardIndex, NodeId)> = (0..).map(ShardIndex).zip(holders).collect();
        for (shard, node) in places {
            if let Some(place) = holders.get_mut(usize::from(shard.0)) {
                place.1 = node;
            }
        }
        Some(Placed { pack: *pack, code, author, policy, holders })
    }

    /// What the ledger says of a pack's bytes.
    pub fn commit_of(&self, pack: &PackId) -> Option<Commit> {
        let state = self.chain.state();
        let pack = state.pack(pack)?;
        let descriptor = pack.commit.pack.as_ref()?;
        let roots = descriptor.roots.iter().map(|root| Digest::try_from(root.as_ref()).ok()).collect::<Option<_>>()?;
        Some(Commit { len: descriptor.len, roots, time_ms: pack.time_ms, in_block: pack.height.is_some() })
    }

    /// Appends to our log and tells the others. Blocks on the disk: call it off the network's tasks.
    ///
    /// # Errors
    /// [`ChainError`] if the ledger refuses it or the store takes nothing.
    pub fn append(self: &Arc<Self>, operation: v1::entry::Operation) -> Result<Sequence, ChainError> {
        let (sequence, entry) = self.chain.append(now_ms(), operation)?;
        self.outbox.push(entry);
        Ok(sequence)
    }

    /// Gossips. Who does not hear of it now is told by sync.
    pub async fn publish(&self, topic: Topic, message: Vec<u8>) {
        if let Err(error) = self.net.publish(topic, message.into()).await {
            debug!(%error, "not gossiped");
        }
    }

    /// Brings an organisation onto the ledger, unless it is there.
    ///
    /// # Errors
    /// [`ChainError`] if the ledger refuses it or the store takes nothing.
    pub fn admit_member(self: &Arc<Self>, admission: v1::Admission) -> Result<(), ChainError> {
        let member = admission.member.as_ref().and_then(|it| MemberId::try_from(it.member.as_ref()).ok());
        if member.is_some_and(|id| self.chain.state().member(&id).is_some()) {
            return Ok(());
        }
        self.append(v1::entry::Operation::Admit(admission)).map(drop)
    }

    /// Whether the operator named this peer as a contact.
    pub fn is_contact(&self, peer: &NodeId) -> bool {
        let Some(peer) = bithealth_net::peer_id(peer) else { return false };
        let end = format!("/p2p/{peer}");
        self.config.contacts.iter().any(|contact| contact.ends_with(&end))
    }

    /// A peer sent something false: it is no peer of ours until this node restarts.
    pub fn shut_out(self: &Arc<Self>, peer: NodeId, fault: String) {
        self.shut_out.lock().expect("no holder panics").insert(peer, fault);
        let node = self.clone();
        tokio::spawn(async move { node.net.expel(peer, "it sent something false").await });
    }

    /// Room for a shard of `len` bytes, of a pack of `author`.
    ///
    /// # Errors
    /// [`NoRoom`] where that is more than this node offers to others, or to one of them, or it is on its way already.
    pub fn room_for(&self, author: &NodeId, pack: &PackId, shard: ShardIndex, len: u64) -> Result<Place, NoRoom> {
        let (member, shard) = (self.member_of(author), (*pack, shard));
        match member == self.member() {
            true => self.room.take_unbounded(member, shard, len),
            false => self.room.take(member, shard, len),
        }
    }

    /// Whose a node is; nobody's where the ledger does not have it any more.
    fn member_of(&self, node: &NodeId) -> MemberId {
        self.chain.state().node(node).map_or(MemberId([0; 32]), |node| node.member)
    }

    /// Whose pack it is, where the ledger has it.
    pub fn owner_of(&self, pack: &PackId) -> Option<MemberId> {
        let author = self.chain.state().pack(pack).map(|pack| pack.author);
        author.map(|author| self.member_of(&author))
    }

    /// Drops a shard that is no longer needed here.
    ///
    /// # Errors
    /// If the store takes no writes, or cannot tell how long the shard is.
    pub fn drop_shard(&self, pack: &PackId, shard: ShardIndex) -> anyhow::Result<()> {
        // One at a time: what is dropped twice would be given back twice.
        let _one = self.dropping.lock().expect("no holder panics");
        let len = self.vault.shard_len(pack, shard)?;
        self.vault.remove_shard(pack, shard)?;
        self.room.give_back(self.owner_of(pack), (*pack, shard), len);
        Ok(())
    }
}

/// Milliseconds since 1970, by this machine's clock.
pub fn now_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}
