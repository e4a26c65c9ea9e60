//! A put: bytes arrive, are cut, sealed on all cores, placed into packs, made durable, and then acknowledged.
//!
//! Three stages, joined by bounded channels: the reader cuts frames into chunks and hands them to workers; the placer
//! takes what they sealed, in order, and fills packs; full packs go to the disk while the next one fills. Acknowledged is
//! only what the store has synced. Small puts end in the pack that [`crate::gather`] keeps open for them.

mod again;
mod place;
mod read;
mod seal;

use std::sync::Arc;

use bithealth_grant::{OrganisationSealing, Readers, Sealing};
use bithealth_http::api::{PutEvent, PutOptions};
use bithealth_http::{ByteStream, ErrorBody, ErrorCode, EventStream};
use bithealth_pack::{ClosedPack, OpenPack};
use bithealth_placement::{Policy, Survive};
use bithealth_proto::v1;
use bithealth_types::MemberId;
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::node::Node;
use crate::replicate::policy_message;
use crate::shelf::Salt;
use crate::votes;
use place::Placer;
pub use seal::Prepared;

/// Sealing jobs under way, each of at most 1 MiB of plaintext.
const JOBS_MAX: usize = 6;
/// Events waiting for a slow caller.
const EVENTS_MAX: usize = 1024;

/// Who may read the records of a put, and what they must survive: one kind of pack.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Lane {
    /// Organisations besides our own.
    pub readers: Vec<MemberId>,
    /// The policy.
    pub policy: Policy,
}

impl Lane {
    /// What a put asks for.
    ///
    /// # Errors
    /// [`ErrorCode::UnknownOrganisation`] if the network has none of that name or id.
    pub fn of(node: &Node, options: &PutOptions) -> Result<Self, ErrorBody> {
        let mut policy = node.config.policy(node.chain.state().defaults());
        if let Some(survive) = options.survive {
            policy.survive = Survive { regions: survive.regions, nodes: survive.nodes };
        }
        if !options.keep_in.is_empty() {
            policy.keep_in = options.keep_in.clone();
        }
        let state = node.chain.state();
        let mut readers = Vec::new();
        for name in &options.for_ {
            let member = votes::member(&state, name)?;
            if member != node.member() && !readers.contains(&member) {
                readers.push(member);
            }
        }
        readers.sort();
        if readers.len() > bithealth_grant::READERS_MAX {
            let message =
                format!("{} organisations are named, at most {} may be", readers.len(), bithealth_grant::READERS_MAX);
            return Err(ErrorBody::new(ErrorCode::BadRequest, message));
        }
        Ok(Self { readers, policy })
    }

    /// Closes a pack and seals its catalog to its readers.
    ///
    /// # Errors
    /// If a reader's public key is not one.
    pub fn close(
        &self,
        node: &Node,
        pack: OpenPack,
        replaces: &[Salt],
    ) -> anyhow::Result<(ClosedPack, v1::StoredPack)> {
        let keys = {
            let state = node.chain.state();
            let key = |id: &MemberId| state.member(id).map(|member| (*id, member.recipient.to_vec()));
            self.readers.iter().filter_map(key).collect()
        };
        let sealing = OrganisationSealing::new(&node.keys.organisation, Readers::new(keys)?);
        let key = sealing.catalog_key(pack.salt());
        let wraps = sealing.wraps(pack.salt(), &key)?;
        let closed = pack.close(&key, |folder| node.shelf.head(folder));
        let beside = v1::StoredPack {
            catalog_len: closed.catalog_len,
            heads_root: Bytes::copy_from_slice(closed.heads_root.as_bytes()),
            wraps: wraps.into_iter().map(Bytes::from).collect(),
            policy: Some(policy_message(&self.policy)),
            replaces: replaces.iter().map(|salt| Bytes::copy_from_slice(salt)).collect(),
            readers: self.readers.iter().map(|id| Bytes::copy_from_slice(id.as_bytes())).collect(),
        };
        Ok((closed, beside))
    }
}

/// Takes the records in `body`.
///
/// # Errors
/// [`ErrorBody`] if the options name what does not exist.
pub fn put(node: Arc<Node>, options: PutOptions, body: ByteStream) -> Result<EventStream<PutEvent>, ErrorBody> {
    let lane = Lane::of(&node, &options)?;
    let (events, queue) = mpsc::channel(EVENTS_MAX);
    let (steps, jobs) = mpsc::channel(JOBS_MAX);
    tokio::spawn(read::read(node.clone(), lane.clone(), body, steps, events.clone()));
    tokio::spawn(Placer::new(node, lane, events).run(jobs, options.wait));
    Ok(ReceiverStream::new(queue).boxed())
}

/// A new pack's name.
pub(crate) fn new_salt() -> Salt {
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).expect("the system's random source answers");
    salt
}
