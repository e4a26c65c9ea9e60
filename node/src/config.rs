//! The configuration of a node: `config.toml` in its data directory. Unknown keys are refused.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use bithealth_exchange::ServeConfig;
use bithealth_placement::{Policy, Survive};
use bithealth_proto::v1;
use serde::{Deserialize, Serialize};

/// A node that looks for lost shards less often than once a day does not look.
const LOOK_MS_MAX: u64 = 24 * 3_600_000;

/// What an operator may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Multiaddresses to listen on.
    pub listen: Vec<String>,
    /// Peers to call first, as multiaddresses ending in `/p2p/…`.
    pub contacts: Vec<String>,
    /// Look for members on the same LAN, by multicast DNS.
    pub mdns: bool,
    /// Relay for members that others cannot reach, where others can reach this node.
    pub relay: bool,
    /// The file that unlocks the keys; without it the node asks for the passphrase.
    pub key_file: Option<PathBuf>,
    /// What every pack must survive [default: what the members decided, else a region and a node].
    pub survive: Option<SurviveConfig>,
    /// Jurisdictions whose nodes may hold our shards; empty: all.
    pub keep_in: Vec<String>,
    /// Fewer than k shards of a pack in any jurisdiction but our own.
    pub no_single_state: bool,
    /// How long small writes are gathered into one pack after they are durable here.
    pub gather_ms: u64,
    /// How often small packs are looked through, to be gathered into coded ones.
    pub consolidate_ms: u64,
    /// How long all nodes must have been there until packs that were coded for fewer are coded anew.
    pub widen_ms: u64,
    /// What a node holds counts as lost once it has not answered for so long, and is rebuilt elsewhere.
    pub repair_after_ms: u64,
    /// How often lost shards are looked for.
    pub repair_look_ms: u64,
    /// Bytes read from others to rebuild lost shards, each second; 0: no bound.
    pub repair_bytes_per_s: u64,
    /// Of the bytes this node offers to others, how many of a hundred one organisation may take, 1 to 100.
    pub quota_percent: u64,
    /// A restore keeps what it has of a pack in the store once the pack takes longer than this: less is fetched again
    /// if the node dies meanwhile, and more is written twice.
    pub restore_parts_after_ms: u64,
    /// How often one of the nodes that hold what this one depends on is audited; 0: never.
    pub audit_interval_ms: u64,
    /// How long no node is audited again after it was.
    pub audit_apart_ms: u64,
    /// Bytes that an audited node reads at most.
    pub audit_bytes: u64,
    /// Bytes each second that the line of an honest node may bring it; who answers no faster is not told apart from one
    /// that fetches what it should have.
    pub audit_line_bytes_per_s: u64,
    /// How often everything that lies here is read back and what is damaged repaired from peers; 0: never.
    pub scrub_interval_ms: u64,
    /// Bytes kept free on the disk: below it new writes are refused.
    pub disk_reserve_bytes: u64,
    /// No block comes sooner than this after the one before. The network decides that: here it can only be repeated.
    pub block_interval_ms: Option<u64>,
    /// A block comes after this even if there is nothing to finalise. The same.
    pub heartbeat_ms: Option<u64>,
    /// How often the replication of packs that are not where they belong is tried again.
    pub retry_ms: u64,
    /// Where programs that watch are answered besides the socket, as in 127.0.0.1:4402: `/metrics` to who brings the token in
    /// the data folder's `metrics.token`, `/v1/health` and `/v1/ready` to anybody.
    pub metrics_listen: Option<SocketAddr>,
    /// The limits of serving others.
    pub serve: ServeConfig,
}

/// `survive = { regions, nodes }`: any such set may be lost at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurviveConfig {
    /// Whole regions.
    pub regions: u32,
    /// Nodes besides; organisations where there are enough of them.
    pub nodes: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: vec!["/ip4/0.0.0.0/tcp/4401".into(), "/ip4/0.0.0.0/udp/4401/quic-v1".into()],
            contacts: Vec::new(),
            mdns: true,
            relay: true,
            key_file: None,
            survive: None,
            keep_in: Vec::new(),
            no_single_state: false,
            gather_ms: 500,
            consolidate_ms: 30_000,
            widen_ms: 60_000,
            repair_after_ms: 15 * 60_000,
            repair_look_ms: 10_000,
            repair_bytes_per_s: 16 << 20,
            quota_percent: 50,
            restore_parts_after_ms: 1_000,
            audit_interval_ms: 60_000,
            audit_apart_ms: 30 * 60_000,
            audit_bytes: 64 << 20,
            audit_line_bytes_per_s: 12 << 20,
            scrub_interval_ms: 7 * 24 * 3_600_000,
            disk_reserve_bytes: 64 << 20,
            block_interval_ms: None,
            heartbeat_ms: None,
            retry_ms: 2_000,
            metrics_listen: None,
            serve: ServeConfig::default(),
        }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{path} is not a configuration: {error}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What the parser says, with line and column.
        error: toml::de::Error,
    },
    /// A number out of its range.
    #[error("config.toml has {key} = {got}; {min} to {max} is due")]
    Range {
        /// The line.
        key: &'static str,
        /// What it says.
        got: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// It says otherwise than the network was founded with.
    #[error("config.toml has {key} = {ours}, this network has {theirs} since it was founded; take that line out")]
    Disagrees {
        /// The line.
        key: &'static str,
        /// What it says.
        ours: u64,
        /// What the ledger says.
        theirs: u64,
    },
}

impl Config {
    /// Reads `path`.
    ///
    /// # Errors
    /// [`ConfigError`] if it cannot be read, does not parse, or has an unknown key or a number out of its range.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Io { path: path.to_owned(), source })?;
        let config: Self =
            toml::from_str(&text).map_err(|error| ConfigError::Malformed { path: path.to_owned(), error })?;
        let within = |key, got, min, max| match got {
            got if (min..=max).contains(&got) => Ok(()),
            got => Err(ConfigError::Range { key, got, min, max }),
        };
        within("quota_percent", config.quota_percent, 1, 100)?;
        within("repair_look_ms", config.repair_look_ms, 1, LOOK_MS_MAX)?;
        Ok(config)
    }

    /// Writes `path`.
    ///
    /// # Errors
    /// [`ConfigError::Io`] if it cannot be written.
    pub fn save(&self, path: &Path) -> Result<(), ConfigError> {
        let text = toml::to_string_pretty(self).expect("a configuration has no maps with keys that are not text");
        std::fs::write(path, text).map_err(|source| ConfigError::Io { path: path.to_owned(), source })
    }

    /// Whether it repeats the network's parameters where it names them.
    ///
    /// # Errors
    /// [`ConfigError::Disagrees`] with the first that differs.
    pub fn check_parameters(&self, theirs: &v1::Parameters) -> Result<(), ConfigError> {
        let same = |key, ours: Option<u64>, theirs| match ours {
            Some(ours) if ours != theirs => Err(ConfigError::Disagrees { key, ours, theirs }),
            _ => Ok(()),
        };
        same("block_interval_ms", self.block_interval_ms, theirs.block_interval_ms)?;
        same("heartbeat_ms", self.heartbeat_ms, theirs.heartbeat_ms)
    }

    /// Bytes that one organisation may take of `capacity`.
    pub fn quota(&self, capacity: u64) -> u64 {
        u64::try_from(u128::from(capacity) * u128::from(self.quota_percent) / 100).unwrap_or(capacity)
    }

    /// The policy of packs written from now on, where the members decided on these defaults.
    pub fn policy(&self, defaults: Option<v1::Defaults>) -> Policy {
        let ours = self.survive.map(|it| Survive { regions: it.regions, nodes: it.nodes });
        let members = || defaults.map(|it| Survive { regions: it.survive_regions, nodes: it.survive_nodes });
        Policy {
            survive: ours.or_else(members).unwrap_or(Survive { regions: 1, nodes: 1 }),
            keep_in: self.keep_in.clone(),
            no_single_state: self.no_single_state,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_saved_loads_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        let config = Config { keep_in: vec!["DE".into(), "FR".into()], gather_ms: 7, ..Config::default() };
        config.save(&path).unwrap();
        assert_eq!(Config::load(&path).unwrap(), config);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, "gather_msec = 5\n").unwrap();
        let error = Config::load(&path).unwrap_err().to_string();
        assert!(error.contains("gather_msec"), "{error}");
    }

    fn loaded(line: &str) -> Result<Config, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config.toml");
        std::fs::write(&path, line).unwrap();
        Config::load(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn a_quota_is_a_part_of_what_is_offered() {
        let quota = |percent: u64| loaded(&format!("quota_percent = {percent}")).unwrap().quota(u64::MAX / 2);
        assert_eq!((quota(1), quota(100)), (u64::MAX / 200, u64::MAX / 2));
    }

    #[test]
    fn a_number_out_of_its_range_is_refused_by_name() {
        for (key, min, max) in [("quota_percent", 1, 100), ("repair_look_ms", 1, 86_400_000)] {
            for got in [min, max] {
                loaded(&format!("{key} = {got}")).unwrap();
            }
            for got in [min - 1, max + 1] {
                let error = loaded(&format!("{key} = {got}")).unwrap_err();
                assert_eq!(error, format!("config.toml has {key} = {got}; {min} to {max} is due"));
            }
        }
    }

    #[test]
    fn each_parameter_of_the_network_can_be_repeated_and_one_that_differs_is_named() {
        // No rest pattern: a new parameter has no test until it is named here.
        let theirs = v1::Parameters { block_interval_ms: 1_000, heartbeat_ms: 180_000 };
        let v1::Parameters { block_interval_ms, heartbeat_ms } = theirs;
        let same = Config {
            block_interval_ms: Some(block_interval_ms),
            heartbeat_ms: Some(heartbeat_ms),
            ..Config::default()
        };
        same.check_parameters(&theirs).unwrap();
        Config::default().check_parameters(&theirs).unwrap();
        let refused = |config: Config| config.check_parameters(&theirs).unwrap_err().to_string();
        let interval = refused(Config { block_interval_ms: Some(999), ..same.clone() });
        assert!(interval.contains("block_interval_ms = 999, this network has 1000"), "{interval}");
        let heartbeat = refused(Config { heartbeat_ms: Some(180_001), ..same });
        assert!(heartbeat.contains("heartbeat_ms = 180001, this network has 180000"), "{heartbeat}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = Config::load(Path::new("nowhere/config.toml")).unwrap_err().to_string();
        assert!(error.starts_with("nowhere/config.toml: "), "{error}");
    }
}
