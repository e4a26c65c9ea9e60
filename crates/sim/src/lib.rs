//! Many nodes in one thread: the same cores as in a node, with virtual time, a network that loses, delays, doubles and
//! parts, disks that forget what was not synced, and machines that fail at what they are asked to do.
//!
//! One seed decides everything, so a run is the same every time: what fails prints its seed and is run again. [`World`]
//! runs validators; [`Queue`], [`Network`] and [`Log`] are the parts that later simulations share.

mod disk;
mod network;
mod random;
mod time;
mod validators;

pub use disk::Log;
pub use network::Network;
pub use random::Random;
pub use time::Queue;
pub use validators::founding::Founding;
pub use validators::{Clock, Failed, Faults, RECOVERY_DELAY_MS, World, WorldConfig};
