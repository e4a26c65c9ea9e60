//! Decides the next block with the other validators: Tendermint's rounds, without I/O, clock or network.
//!
//! [`Engine`] takes one [`Input`] at a time and lists the [`Effect`]s its shell must perform. What it votes on is the
//! digest of a header; what that stands for ([`bithealth_proto::v1::Proposed`]) it carries and never reads: the shell
//! makes it and checks it with the ledger.
//!
//! At most f of n validators may lie, 3 f < n; the quorum is ceil((n + f + 1) / 2), so that with three equal regions
//! any one may be away. What a failed effect means is the engine's to say: a log that takes nothing halts it, a message
//! that cannot be sent is sent again.

mod context;
mod engine;
mod frame;
mod message;
mod pace;
mod safety;

pub use engine::{Effect, Engine, Fit, Guilt, Halt, Input, Refused, Signer, Vouched, vouch};
pub use frame::FrameError;
pub use message::MessageError;
pub use pace::{Due, Pace};
pub use safety::WouldSignTwice;

#[cfg(test)]
mod tests;
