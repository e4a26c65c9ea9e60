//! Relaying for members that cannot be reached, and its limits.
//!
//! Source: the circuit relay v2 specification, libp2p/specs, relay/circuit-v2.md.

use std::num::NonZeroU32;
use std::time::Duration;

use libp2p::{PeerId, relay};

use crate::Config;

/// How long a place lasts; it is renewed after three quarters of that.
const RESERVATION: Duration = Duration::from_secs(3600);

/// Places of one member: its connection may be lost before we know, and it asks again over a new one.
const RESERVATIONS_PER_PEER_MAX: usize = 2;

/// Places a member may ask for at once, and the time after which it may ask for one more.
const RESERVATION_BURST: NonZeroU32 = NonZeroU32::new(32).expect("32 is not 0");
const RESERVATION_REFILL: Duration = Duration::from_secs(60);

/// Circuits a member may ask for at once, and the time after which it may ask for one more. With the bytes of a circuit
/// this bounds what a member can make us carry: 256 MiB in 30 s, 9 MB/s, for as long as it likes. One that is busy for its
/// peers all day needs a tenth of that; more than a home line carries would be of no use.
const CIRCUIT_BURST: NonZeroU32 = NonZeroU32::new(64).expect("64 is not 0");
const CIRCUIT_REFILL: Duration = Duration::from_secs(30);

/// The relay. It serves nobody until it is told to: until we know that we can be reached ourselves.
pub(crate) fn behaviour(us: PeerId, config: &Config) -> relay::Behaviour {
    let limits = relay::Config {
        max_reservations: config.relay_reservations_max,
        max_reservations_per_peer: RESERVATIONS_PER_PEER_MAX - 1, // libp2p compares before it counts the new one
        reservation_duration: RESERVATION,
        reservation_rate_limiters: Vec::new(),
        max_circuits: config.relay_circuits_max,
        max_circuits_per_peer: config.relay_circuits_per_peer_max - 1, // the same
        max_circuit_duration: Duration::from_millis(config.relay_circuit_ms_max),
        max_circuit_bytes: config.relay_circuit_bytes_max,
        circuit_src_rate_limiters: Vec::new(),
    };
    // Not by address, as libp2p's defaults also do: members are known, and several may share one.
    let limits = limits
        .reservation_rate_per_peer(RESERVATION_BURST, RESERVATION_REFILL)
        .circuit_src_per_peer(CIRCUIT_BURST, CIRCUIT_REFILL);
    let mut behaviour = relay::Behaviour::new(us, limits);
    behaviour.set_status(Some(relay::Status::Disable));
    behaviour
}
