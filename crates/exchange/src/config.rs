//! The limits of a fetch.

use serde::{Deserialize, Serialize};

/// Most leaves of one want: 1 MiB, what a frame of the exchange carries.
pub const RUN_LEAVES_MAX: u32 = 64;

/// The limits of a fetch. Composed in `node`; unknown keys are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Leaves of one want, 1 to [`RUN_LEAVES_MAX`]. Fewer spread a pack over more providers and cost longer proofs.
    pub run_leaves: u32,
    /// Providers known at a time; more are not listened to.
    pub providers_max: usize,
    /// Wants open or being stored at a time; times the run's bytes, it bounds the memory of a fetch.
    pub wants_open_max: usize,
    /// Wants open at one provider.
    pub provider_wants_open_max: usize,
    /// Bytes open at a provider that has not answered yet. One want is always allowed.
    pub window_start_bytes: u64,
    /// Bytes open at a provider, however fast it is.
    pub window_max_bytes: u64,
    /// What a provider is thought to deliver until it has been measured.
    pub rate_guess_bytes_per_s: u64,
    /// How long a provider is thought to think until it has been measured.
    pub delay_guess_ms: u64,
    /// A provider is never taken for slow before this long.
    pub hedge_floor_ms: u64,
    /// Bytes that may be wanted twice because a provider is slow, of a hundred needed. One want is always allowed.
    pub hedge_percent_max: u64,
    /// A provider is never taken for stalled, and all it was asked wanted elsewhere, before this long.
    pub stall_floor_ms: u64,
    /// A provider that answers nothing for this long, and the time its want takes at `rate_min_bytes_per_s`, has a strike.
    pub request_timeout_ms: u64,
    /// The slowest provider worth waiting for.
    pub rate_min_bytes_per_s: u64,
    /// After its first strike, or when it is busy, a provider is not asked for this long; each further strike doubles it.
    pub rest_ms: u64,
    /// Strikes in a row after which a provider counts as lost.
    pub strikes_max: u32,
    /// A provider that asks to be sent nothing for this long counts as lost.
    pub choke_patience_ms: u64,
    /// What a peer that fetches too is likely to fetch soon is left to it for so long after it last got something, and
    /// for no longer if there is nothing else to do.
    pub fetcher_patience_ms: u64,
    /// At the start, how long to ask for little, until it is known who else fetches; 0: nobody is asked.
    pub seek_ms: u64,
    /// At the start, how long providers may come in before parity is wanted for what no provider of data has.
    pub gather_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            run_leaves: 16,
            providers_max: 256,
            wants_open_max: 64,
            provider_wants_open_max: 32,
            window_start_bytes: 1 << 20,
            window_max_bytes: 16 << 20,
            rate_guess_bytes_per_s: 4 << 20,
            delay_guess_ms: 100,
            hedge_floor_ms: 200,
            hedge_percent_max: 20,
            stall_floor_ms: 2_000,
            request_timeout_ms: 8_000,
            rate_min_bytes_per_s: 64 << 10,
            rest_ms: 2_000,
            strikes_max: 3,
            choke_patience_ms: 30_000,
            fetcher_patience_ms: 500,
            seek_ms: 0,
            gather_ms: 20,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_key_is_refused() {
        assert!(serde_json::from_str::<Config>(r#"{"hedge_flor_ms": 1}"#).is_err());
    }

    #[test]
    fn what_is_not_given_keeps_its_default() {
        let config: Config = serde_json::from_str(r#"{"hedge_floor_ms": 7}"#).unwrap();
        assert_eq!(config, Config { hedge_floor_ms: 7, ..Config::default() });
    }
}
