//! A node whose store was lost, but not its keys, writes nothing until others have told it what it wrote before.
//!
//! Its log would else begin anew, at positions where others have entries of it: that is evidence against it, and the end of
//! it as a node. What a quorum of the organisations does not know of is not final, and nobody relies on it; so it is asked
//! for at as many. Shards come back as those of a lost node do ([`crate::repair`]), own packs as in a restore.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use bithealth_ledger::State;
use bithealth_store::{Kind, ReadError, Store, WriteError};
use bithealth_types::{MemberId, NodeId};
use tracing::{info, warn};

use crate::node::Node;
use crate::replicate::blocking;
use crate::{restore, rotation};

/// The note in the store.
const NOTE: &[u8] = b"recalling";

/// Whether a store that is new is not this node's first: it took part in votes, which are logged beside the store.
pub fn is_lost(consensus: &Path, wrote_nothing: bool) -> bool {
    wrote_nothing && consensus.exists()
}

/// Notes that the store was lost. The network of the store is noted after this, so that a start that is cut off between
/// looks again.
///
/// # Errors
/// If the store takes nothing.
pub fn note(store: &Store) -> Result<(), WriteError> {
    warn!("the store of this node was lost; it asks its peers what it wrote, and writes nothing before it knows");
    restore::note(store)?;
    let position = store.put(Kind::Meta, NOTE, &[], &[])?;
    store.sync(position)
}

/// Whether this node does not know yet what it wrote before.
///
/// # Errors
/// If the store cannot tell.
pub fn is_noted(store: &Store) -> Result<bool, ReadError> {
    store.contains(Kind::Meta, NOTE)
}

/// Lets the node write again once it knows what it wrote.
pub async fn run(node: Arc<Node>) {
    if node.chain.may_write() {
        return;
    }
    let mut heard = node.followers.caught_up();
    while !knows_enough(&node.chain.state(), node.id(), &heard.borrow_and_update()) {
        if heard.changed().await.is_err() {
            return; // the node is stopping
        }
    }
    let worker = node.clone();
    if let Err(error) = blocking(move || worker.store.remove(Kind::Meta, NOTE)).await {
        warn!(%error, "what this node wrote is known again; the next start asks for it once more");
    }
    node.chain.let_write();
    let worker = node.clone();
    if let Err(error) = blocking(move || rotation::tell_certificate(&worker)).await {
        warn!(%error, "the ledger does not hear of a new certificate before the next start");
    }
    info!("this node knows again what it wrote before its store was lost");
}

/// Whether all that these nodes have of the ledger, which is here now, includes everything final that `ours` wrote.
fn knows_enough(state: &State, ours: NodeId, heard: &BTreeSet<NodeId>) -> bool {
    let member = |node: &NodeId| state.node(node).map(|it| it.member);
    let Some(own) = member(&ours) else { return false };
    let mut members: BTreeSet<MemberId> = heard.iter().filter_map(member).collect();
    let is_alone = members.is_empty(); // an empty ledger knows no other validators
    members.insert(own);
    let votes = state.validators().iter().filter(|it| members.contains(&it.member)).count();
    !is_alone && votes >= state.validators().quorum()
}

/// What to do meanwhile.
pub fn warning(node: &Node) -> Option<String> {
    (!node.chain.may_write()).then(|| {
        "the store of this node was lost; it writes nothing until enough other organisations told it what it wrote before. \
         If none of its `contacts` in config.toml answers, name one that does; if there is no other organisation, set it up \
         anew"
            .to_owned()
    })
}
