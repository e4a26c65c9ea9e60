//! The behaviours of the one swarm, and their limits.

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use bithealth_proto::{Limited, v1};
use bithealth_types::{Digest, GenesisId};
use libp2p::gossipsub::{
    self, IdentTopic, MessageAuthenticity, MessageId, PeerScoreParams, PeerScoreThresholds, TopicScoreParams,
    ValidationMode,
};
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::{NetworkBehaviour, StreamProtocol};
use libp2p::{PeerId, connection_limits, dcutr, identify, kad, memory_connection_limits, ping, relay as circuit};
use sha2::{Digest as _, Sha256};

use crate::dial_back::DialBack;
use crate::gate::Gate;
use crate::lan::Lan;
use crate::peers::Peers;
use crate::probe::Probe;
use crate::streams::Streams;
use crate::{Config, GossipId, Keys, Topic, relay};

/// What identify names us by.
const PROTOCOL_VERSION: &str = "bithealth/1";

/// How long a message is remembered, so that a copy is not passed on again. Far longer than one can travel.
const GOSSIP_REMEMBERED: Duration = Duration::from_secs(120);

/// Bytes that gossipsub may write around a message. Its own check counts them on receiving and not on sending, so the
/// task checks lengths itself, both ways.
const GOSSIP_ENVELOPE_LEN: usize = 1 << 10;

/// How long a node pruned from a mesh stays out of it. Short, since in a network of a few nodes everyone is needed.
const PRUNE_BACKOFF: Duration = Duration::from_secs(10);

/// Time after which the table of addresses is refreshed.
const BOOTSTRAP_INTERVAL: Duration = Duration::from_secs(300);

/// Longest search for a node's addresses.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes asked in one step of a search, and nodes per distance in the table (k of the Kademlia paper, section 2.1).
const KADEMLIA_K: NonZeroUsize = NonZeroUsize::new(20).expect("20 is not 0");

/// All behaviours. The limits come first: what they deny, no other sees.
#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    limits: connection_limits::Behaviour,
    memory: memory_connection_limits::Behaviour,
    pub(crate) streams: Streams,
    pub(crate) gossip: Gate<gossipsub::Behaviour>,
    pub(crate) kademlia: Gate<kad::Behaviour<MemoryStore>>,
    /// What strangers say of our address is of no interest.
    pub(crate) identify: Gate<identify::Behaviour>,
    ping: ping::Behaviour,
    pub(crate) probe: Probe,
    dial_back: Gate<DialBack>,
    pub(crate) relay: Gate<circuit::Behaviour>,
    /// Speaks only with relays that we chose. It is not behind a gate: it must hear of every connection.
    relayed: circuit::client::Behaviour,
    pub(crate) punch: Gate<dcutr::Behaviour>,
    lan: Lan,
}

impl Behaviour {
    /// Within a runtime.
    pub(crate) fn new(
        keys: &Keys,
        genesis: GenesisId,
        config: &Config,
        peers: &Arc<Peers>,
        relayed: circuit::client::Behaviour,
    ) -> Self {
        let us = keys.pair().public().to_peer_id();
        let identify = identify::Config::new(PROTOCOL_VERSION.into(), keys.pair().public())
            .with_agent_version(concat!("bithealth/", env!("CARGO_PKG_VERSION")).into())
            .with_push_listen_addr_updates(true)
            .with_cache_size(config.connections_max as usize);
        let ping = ping::Config::new()
            .with_interval(Duration::from_millis(config.ping_interval_ms))
            .with_timeout(Duration::from_millis(config.ping_timeout_ms));
        Self {
            limits: connection_limits::Behaviour::new(limits(config)),
            memory: memory_connection_limits::Behaviour::with_max_bytes(
                usize::try_from(config.memory_max).unwrap_or(usize::MAX),
            ),
            streams: Streams::new(peers.clone(), config),
            gossip: Gate::new(gossip(config), peers.clone()),
            kademlia: Gate::new(kademlia(keys, genesis), peers.clone()),
            identify: Gate::new(identify::Behaviour::new(identify), peers.clone()),
            ping: ping::Behaviour::new(ping),
            probe: Probe::new(),
            dial_back: Gate::new(DialBack::new(), peers.clone()),
            relay: Gate::new(relay::behaviour(us, config), peers.clone()),
            relayed,
            punch: Gate::new(dcutr::Behaviour::new(us), peers.clone()),
            lan: if config.looks_on_lan() { Lan::on(us) } else { Lan::off() },
        }
    }

    /// Lets all behaviours meet a peer that has just been admitted.
    pub(crate) fn open(&mut self, peer: PeerId) {
        self.gossip.open(peer);
        self.kademlia.open(peer);
        self.identify.open(peer);
        self.dial_back.open(peer);
        self.relay.open(peer);
        self.punch.open(peer);
    }
}

fn limits(config: &Config) -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(config.connections_pending_max))
        .with_max_pending_outgoing(Some(config.connections_pending_max))
        .with_max_established(Some(config.connections_max))
        .with_max_established_per_peer(Some(config.connections_per_peer_max))
}

/// What a topic is to gossipsub.
pub(crate) fn topic(topic: Topic) -> IdentTopic {
    IdentTopic::new(topic.name())
}

/// The longest message of a topic: entries as configured, others as long as theirs may be.
pub(crate) fn gossip_len_max(config: &Config, topic: Topic) -> usize {
    match topic {
        Topic::Entries => config.gossip_len_max,
        Topic::Headers => v1::SignedHeader::LEN_MAX,
        Topic::Consensus => v1::ConsensusMessage::LEN_MAX,
    }
}

/// A message's id: SHA-256 of the topic's name, its length in front, and the bytes.
pub(crate) fn gossip_id(topic: &str, bytes: &[u8]) -> GossipId {
    let hash = Sha256::new().chain_update((topic.len() as u64).to_be_bytes()).chain_update(topic).chain_update(bytes);
    GossipId(Digest(hash.finalize().into()))
}

/// Gossip without authors: entries and headers carry their own signatures, a second one would cost time and say nothing.
fn gossip(config: &Config) -> gossipsub::Behaviour {
    let mut builder = gossipsub::ConfigBuilder::default();
    builder
        .validation_mode(ValidationMode::Anonymous)
        .validate_messages()
        .message_id_fn(|message| {
            MessageId::from(gossip_id(message.topic.as_str(), &message.data).0.as_bytes().to_vec())
        })
        .heartbeat_interval(Duration::from_millis(config.gossip_heartbeat_ms))
        .heartbeat_initial_delay(Duration::from_millis(config.gossip_heartbeat_ms))
        .duplicate_cache_time(GOSSIP_REMEMBERED)
        .prune_backoff(PRUNE_BACKOFF)
        .flood_publish(true) // our own messages go to everyone we are connected with: one hop in a small network
        .connection_handler_queue_len(config.gossip_queue_max)
        .max_transmit_size(
            Topic::ALL.map(|one| gossip_len_max(config, one)).into_iter().max().unwrap_or(0) + GOSSIP_ENVELOPE_LEN,
        );
    for one in Topic::ALL {
        builder.max_transmit_size_for_topic(gossip_len_max(config, one) + GOSSIP_ENVELOPE_LEN, topic(one).hash());
    }
    let built = builder.build().expect("all other settings are gossipsub's defaults, which fit together");
    let mut gossip = gossipsub::Behaviour::new(MessageAuthenticity::Anonymous, built)
        .expect("anonymous messages and anonymous validation fit together");
    let (params, thresholds) = scores();
    gossip.with_peer_score(params, thresholds).expect("these parameters are within gossipsub's bounds");
    for one in Topic::ALL {
        gossip.subscribe(&topic(one)).expect("no filter refuses our own topics");
    }
    gossip
}

/// Who passes on false messages loses our gossip; nobody does for being quiet, since a healthy network is.
///
/// Source: gossipsub 1.1, "Peer Scoring". One false message costs 2.5 points (squared counter x 5 x 0.5) and is forgotten
/// within ten minutes; four of them close to each other (-40) end the exchange of hints, six (-90) make us deaf to
/// that peer. Several nodes behind one address are normal for a hospital, so addresses do not count.
fn scores() -> (PeerScoreParams, PeerScoreThresholds) {
    let about = TopicScoreParams {
        topic_weight: 0.5,
        time_in_mesh_weight: 0.0,
        first_message_deliveries_weight: 0.0,
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        invalid_message_deliveries_weight: -5.0,
        invalid_message_deliveries_decay: gossipsub::score_parameter_decay(Duration::from_secs(600)),
        ..TopicScoreParams::default()
    };
    let params = PeerScoreParams {
        topics: Topic::ALL.into_iter().map(|one| (topic(one).hash(), about.clone())).collect(),
        ip_colocation_factor_weight: 0.0,
        ..PeerScoreParams::default()
    };
    let thresholds = PeerScoreThresholds {
        gossip_threshold: -40.0,
        publish_threshold: -60.0,
        graylist_threshold: -80.0,
        accept_px_threshold: 0.0,
        opportunistic_graft_threshold: 0.0,
    };
    (params, thresholds)
}

/// Addresses of nodes, and nothing else: no records are stored or taken, and only what we put in is in the table.
fn kademlia(keys: &Keys, genesis: GenesisId) -> kad::Behaviour<MemoryStore> {
    let name = format!("/bithealth/{genesis}/kad/1");
    let mut config = kad::Config::new(StreamProtocol::try_from_owned(name).expect("it begins with a slash"));
    config
        .set_kbucket_inserts(kad::BucketInserts::Manual)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_kbucket_size(KADEMLIA_K)
        .set_query_timeout(LOOKUP_TIMEOUT)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_INTERVAL));
    let nothing =
        MemoryStoreConfig { max_records: 0, max_value_bytes: 0, max_providers_per_key: 0, max_provided_keys: 0 };
    let us = keys.pair().public().to_peer_id();
    let mut kademlia = kad::Behaviour::with_config(us, MemoryStore::with_config(us, nothing), config);
    kademlia.set_mode(Some(kad::Mode::Server));
    kademlia
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_and_bytes_cannot_change_places_in_an_id() {
        assert_ne!(gossip_id("ab", b"c"), gossip_id("a", b"bc"));
        assert_eq!(gossip_id("ab", b"c"), gossip_id("ab", b"c"));
    }

    #[test]
    fn a_full_message_of_entries_fits_into_gossip() {
        assert!(gossip_len_max(&Config::default(), Topic::Entries) >= v1::NewEntries::LEN_MAX);
    }

    #[test]
    fn every_limit_gossipsub_could_refuse_is_one_it_accepts() {
        gossip(&Config::default());
    }
}
