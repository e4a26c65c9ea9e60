//! What an operator can set, and every limit of the network side.

use std::time::Duration;

use serde::Deserialize;

use crate::address::{Scope, scope};

/// Bytes that each yamux stream may always receive, as its specification says. The window of a connection must hold
/// this much for each of its streams.
const STREAM_WINDOW: usize = 256 << 10;

/// Streams a connection needs besides the ones of our own protocols: gossip, Kademlia, identify, ping, both ways.
const STREAMS_SPARE: usize = 64;

/// Settings of the network side. All have defaults, and unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Multiaddresses to listen on. Port 0 lets the system choose.
    pub listen: Vec<String>,
    /// Multiaddresses others reach us at where they differ from what we listen on (behind NAT, in a container).
    pub announce: Vec<String>,

    /// Connections in all. 256 hold a hundred organisations of two nodes, each seen twice for a moment.
    pub connections_max: u32,
    /// Connections with one peer. 8, since both sides may dial at once, over a relay and without, a relay is kept over
    /// both transports, AutoNAT makes one of its own, and a lost connection may still be counted.
    pub connections_per_peer_max: u32,
    /// Connections that are still shaking hands, in each direction. A handshake costs CPU and proves nothing yet.
    pub connections_pending_max: u32,
    /// No new connection while the process holds this many bytes of memory.
    pub memory_max: u64,

    /// Streams of our own protocols that one peer may hold open towards us, and we towards it. 96 leave room for 64
    /// transfers at once and some tells besides.
    pub streams_per_peer_max: usize,
    /// Bytes that may be received on one TCP connection and not yet read, over all its streams. 64 MiB keep 100 MB/s
    /// flowing over half a second of round trip, and bound what a hostile peer can make us hold.
    pub connection_window_max: usize,
    /// The same for one QUIC connection.
    pub quic_window_max: u32,
    /// How long a stream may take to open, until the peer has agreed to its protocol.
    pub open_timeout_ms: u64,
    /// How long a stream refused by the peer is asked for again. Two nodes admit each other one after the other, so the
    /// first to have done so is refused for a moment.
    pub refusal_patience_ms: u64,

    /// A peer that was not admitted after this time is disconnected.
    pub hello_timeout_ms: u64,
    /// A connection nobody uses and nobody keeps is closed after this time.
    pub idle_timeout_ms: u64,
    /// Time between pings, and how long an answer may take. A peer that fails is disconnected: gossip would go on
    /// sending into the void otherwise. libp2p forgives one failure and tries a new stream for 10 s, so a peer that
    /// vanished is noticed after both of these and 10 s.
    pub ping_interval_ms: u64,
    /// See [`Self::ping_interval_ms`].
    pub ping_timeout_ms: u64,
    /// First delay before a kept node is dialled again; it doubles up to [`Self::redial_max_ms`].
    pub redial_min_ms: u64,
    /// Longest delay before a kept node is dialled again.
    pub redial_max_ms: u64,

    /// Longest gossiped message. 64 KiB hold the longest entry (61 KiB) and its envelope.
    pub gossip_len_max: usize,
    /// Gossip heartbeat: how soon a hole in the mesh is mended. 700 ms are the default of the gossipsub 1.1 paper's
    /// deployments and keep a message that took a lost link under two seconds.
    pub gossip_heartbeat_ms: u64,
    /// Messages waiting for one peer that reads slowly.
    pub gossip_queue_max: usize,

    /// Events the driver has not read yet. A full queue closes new streams and ignores new gossip; connections and
    /// disconnections are kept beside it.
    pub events_max: usize,
    /// Addresses remembered of one peer.
    pub addresses_per_peer_max: usize,

    /// Look for nodes on the same LAN, by multicast DNS. Not done where we listen for this machine only.
    pub mdns: bool,
    /// Relay for members that cannot be reached, as soon as we know that we can be.
    pub relay: bool,
    /// Members that may be reached through us. Each keeps a connection, and there are no more than that anyway; half of
    /// them stay for others.
    pub relay_reservations_max: usize,
    /// Circuits through us at once. Each costs two streams: at most twice 256 KiB of what was received and not yet sent.
    pub relay_circuits_max: usize,
    /// Circuits of one member at once, from it and to it. They are streams of its one connection.
    pub relay_circuits_per_peer_max: usize,
    /// A circuit is cut after so many bytes, both ways together; its ends then ask for a new one. 256 MiB carry 64 shards
    /// of a full pack, so that few are cut in two. With the rate of circuits it bounds the rate of bytes.
    pub relay_circuit_bytes_max: u64,
    /// A circuit is cut after this time, however little it carries. Its ends then try again to do without.
    pub relay_circuit_ms_max: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/4401".into(), "/ip4/0.0.0.0/udp/4401/quic-v1".into()],
            announce: Vec::new(),
            connections_max: 256,
            connections_per_peer_max: 8,
            connections_pending_max: 64,
            memory_max: 2 << 30,
            streams_per_peer_max: 96,
            connection_window_max: 64 << 20,
            quic_window_max: 32 << 20,
            open_timeout_ms: 10_000,
            refusal_patience_ms: 2_000,
            hello_timeout_ms: 10_000,
            idle_timeout_ms: 300_000,
            ping_interval_ms: 5_000,
            ping_timeout_ms: 5_000,
            redial_min_ms: 1_000,
            redial_max_ms: 30_000,
            gossip_len_max: 64 << 10,
            gossip_heartbeat_ms: 700,
            gossip_queue_max: 1024,
            events_max: 1024,
            addresses_per_peer_max: 16,
            mdns: true,
            relay: true,
            relay_reservations_max: 128,
            relay_circuits_max: 128,
            relay_circuits_per_peer_max: 32,
            relay_circuit_bytes_max: 256 << 20,
            relay_circuit_ms_max: 3_600_000,
        }
    }
}

/// Why settings cannot work together.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The window is smaller than what its streams may always receive.
    #[error("connection_window_max is {got} bytes; {streams} streams of 256 KiB need {want}")]
    Window {
        /// The setting.
        got: usize,
        /// Streams of a connection.
        streams: usize,
        /// Bytes they need.
        want: usize,
    },
    /// A limit of zero would stop everything.
    #[error("{name} is 0, at least 1 is due")]
    Zero {
        /// The setting.
        name: &'static str,
    },
    /// The first delay is longer than the longest.
    #[error("redial_min_ms is {min}, above redial_max_ms, which is {max}")]
    Redial {
        /// The first delay.
        min: u64,
        /// The longest.
        max: u64,
    },
}

impl Config {
    /// Refuses settings that cannot work.
    ///
    /// # Errors
    /// [`ConfigError`] names the setting, what it is and what is due.
    pub fn check(&self) -> Result<(), ConfigError> {
        let counts = [
            ("connections_max", u64::from(self.connections_max)),
            ("connections_per_peer_max", u64::from(self.connections_per_peer_max)),
            ("connections_pending_max", u64::from(self.connections_pending_max)),
            ("streams_per_peer_max", self.streams_per_peer_max as u64),
            ("redial_min_ms", self.redial_min_ms),
            ("gossip_heartbeat_ms", self.gossip_heartbeat_ms),
            ("ping_interval_ms", self.ping_interval_ms),
            ("events_max", self.events_max as u64),
            ("relay_reservations_max", self.relay_reservations_max as u64),
            ("relay_circuits_max", self.relay_circuits_max as u64),
            ("relay_circuits_per_peer_max", self.relay_circuits_per_peer_max as u64),
            ("relay_circuit_bytes_max", self.relay_circuit_bytes_max),
            ("relay_circuit_ms_max", self.relay_circuit_ms_max),
        ];
        if let Some((name, _)) = counts.into_iter().find(|(_, value)| *value == 0) {
            return Err(ConfigError::Zero { name });
        }
        let streams = self.streams_per_connection_max();
        let want = streams * STREAM_WINDOW;
        if self.connection_window_max < want {
            return Err(ConfigError::Window { got: self.connection_window_max, streams, want });
        }
        if self.redial_min_ms > self.redial_max_ms {
            return Err(ConfigError::Redial { min: self.redial_min_ms, max: self.redial_max_ms });
        }
        Ok(())
    }

    /// Streams of one connection: ours both ways, and those of the behaviours.
    pub(crate) fn streams_per_connection_max(&self) -> usize {
        2 * self.streams_per_peer_max + STREAMS_SPARE
    }

    /// Whether nodes on the same LAN could connect with us.
    pub(crate) fn looks_on_lan(&self) -> bool {
        let is_near = |address: &str| address.parse().is_ok_and(|address| scope(&address) == Scope::Loopback);
        self.mdns && self.listen.iter().any(|address| !is_near(address))
    }

    pub(crate) fn hello_timeout(&self) -> Duration {
        Duration::from_millis(self.hello_timeout_ms)
    }

    pub(crate) fn open_timeout(&self) -> Duration {
        Duration::from_millis(self.open_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_work_together() {
        assert_eq!(Config::default().check(), Ok(()));
    }

    #[test]
    fn a_window_below_what_its_streams_need_is_refused() {
        let want = 256 * STREAM_WINDOW;
        let config = Config { connection_window_max: want - 1, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Window { got: want - 1, streams: 256, want }));
        assert_eq!(Config { connection_window_max: want, ..Config::default() }.check(), Ok(()));
    }

    #[test]
    fn a_limit_of_zero_is_refused_by_name() {
        let config = Config { events_max: 0, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Zero { name: "events_max" }));
    }

    #[test]
    fn a_first_delay_above_the_longest_is_refused() {
        let config = Config { redial_min_ms: 9, redial_max_ms: 8, ..Config::default() };
        assert_eq!(config.check(), Err(ConfigError::Redial { min: 9, max: 8 }));
    }

    #[test]
    fn who_listens_for_this_machine_only_asks_nobody_on_the_lan() {
        let looks = |listen: &[&str], mdns| {
            let listen = listen.iter().map(|one| (*one).to_owned()).collect();
            Config { listen, mdns, ..Config::default() }.looks_on_lan()
        };
        assert!(!looks(&["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"], true));
        assert!(!looks(&[], true));
        assert!(looks(&["/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/0"], true));
        assert!(!looks(&["/ip4/0.0.0.0/tcp/0"], false));
    }

    #[test]
    fn an_unknown_key_is_refused_and_a_missing_one_has_its_default() {
        let config: Config = toml::from_str("listen = [\"/ip4/127.0.0.1/tcp/0\"]\nconnections_max = 8").unwrap();
        assert_eq!(config.connections_max, 8);
        assert_eq!(config.idle_timeout_ms, Config::default().idle_timeout_ms);
        assert!(toml::from_str::<Config>("conections_max = 8").is_err());
    }
}
