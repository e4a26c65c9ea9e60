//! What to want from which provider, and whom to serve.
//!
//! [`Fetch`] brings the leaves of one pack together from many providers at once, checks every run of them, and asks
//! again where one is slow, false or gone; [`Pipes`] keeps what was measured of each for the next fetch. [`Serve`] is the
//! other side: which of the wants that came are answered next. Who fetches serves too: [`Kept`] holds what came lately,
//! and [`Fetchers`] who else fetches a pack. [`Audit`] has a holder show that it has what it should. All are told what
//! happened and the time, and list what the shell must do; none does I/O, waits, or knows a clock.

mod audit;
mod config;
mod fetch;
mod fetchers;
mod kept;
mod message;
mod pipes;
mod runs;
mod serve;
mod shards;

pub use audit::{
    AUDIT_BYTES_MAX, AUDIT_SAMPLES_MAX, AUDIT_SHARDS_MAX, Audit, AuditEffect, AuditError, AuditInput, AuditOutcome,
    AuditSpec, AuditedShard, Commitment,
};
pub use config::{Config, RUN_LEAVES_MAX};
pub use fetch::{Fetch, Need, Progress, Spec};
pub use fetchers::{FETCHERS_MAX, Fetchers};
pub use kept::Kept;
pub use message::{Checked, Effect, Input, LeafError, StoreFault, Want, WantId};
pub use pipes::Pipes;
pub use runs::{GRID_LEAVES, RunSet};
pub use serve::{Asker, Priority, Refusal, Serve, ServeConfig, ServeEffect, ServeInput};
pub use shards::ShardSet;
