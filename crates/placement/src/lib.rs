//! Says where shards belong and what survives what.
//!
//! [`choose`] turns "this must survive" and the nodes of the day into a code. [`place`] computes which node holds which
//! shard, so that nobody has to write it down: weighted rendezvous hashing, spread over regions first, then over
//! organisations. [`substitutes`] names who steps in for nodes that do not answer. [`shortfall`] says whether the
//! acknowledged shards hold the policy, and what would lose the pack if they do not. [`View::standing`] says what is lost
//! of a pack and who rebuilds it. [`Auditor`] says whom to audit next, and who is suspected or condemned for what came of it.
//!
//! Everything here is integer arithmetic on what all nodes know, so that all of them compute the same. The one exception
//! is the probability of [`choose`], which only the author computes.

mod audit;
mod choose;
mod layout;
mod place;
mod repair;
mod score;
mod shortfall;
mod site;
mod survival;

pub use audit::{Answer, AuditConfig, Audited, Auditor, Kept, Trust, Verdict};
pub use choose::{FAILURES_MAX, NODE_UP, PolicyError, SURVIVE_REGIONS_MAX, choose, restore_failure};
pub use place::{place, substitutes};
pub use repair::{Absences, Placed, Standing, View};
pub use shortfall::{Shortfall, margin, shortfall};
pub use site::{Policy, Site, Survive};
pub use survival::Unit;

#[cfg(test)]
mod fixture;
