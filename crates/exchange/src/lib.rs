//! What to want from which provider, and whom to serve.
//!
//! [`Fetch`] brings the leaves of one pack together from many providers at once, checks every run of them, and asks
//! again where one is slow, false or gone. [`Serve`] is the other side: which of the wants that came are answered next.
//! Both are told what happened and the time, and list what the shell must do; neither does I/O, waits, or knows a clock.

mod config;
mod fetch;
mod message;
mod serve;
mod shards;

pub use config::{Config, RUN_LEAVES_MAX};
pub use fetch::{Fetch, Need, Progress, Spec};
pub use message::{Effect, Input, LeafError, StoreFault, Want, WantId};
pub use serve::{Priority, Refusal, Serve, ServeConfig, ServeEffect, ServeInput};
pub use shards::ShardSet;
