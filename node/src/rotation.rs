//! What is certified changes: the key a node votes with, those of its whole organisation, the place it stands in, what it
//! offers.
//!
//! A stopped node makes new ones and keeps the old ones; the ledger says from when on the new ones count. An organisation's
//! are put to the vote once the kit that holds them was printed: after that, no other kit restores it.

use std::sync::Arc;

use bithealth_envelope::OrganisationKeys;
use bithealth_ledger as ledger;
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_store::{Kind, WriteError};
use bithealth_types::{MemberId, NodeId, ValidatorId};
use bytes::Bytes;
use tracing::info;

use crate::chain::{Chain, ChainError};
use crate::home::{Home, HomeError};
use crate::keys::{NodeKeys, Unlocking};
use crate::node::Node;
use crate::setup::{SetupError, Site, certify};

/// Gives a stopped node a new key to vote with; its ledger hears of it at the next start. One that was cut off goes on.
/// The new key.
///
/// # Errors
/// [`SetupError`] if nothing was set up there, or the keys cannot be opened or written.
pub fn rotate(home: &Home, unlocking: &Unlocking) -> Result<ValidatorId, SetupError> {
    let (mut keys, certificate) = (home.keys(unlocking)?, home.certificate()?);
    let is_certified = certificate.validator == keys.validator.id().0.as_slice();
    if is_certified && keys.former.is_some() {
        return Err(SetupError::Rotating);
    }
    if is_certified {
        keys.rotate();
        home.replace_keys(&keys, unlocking)?;
    }
    home.replace_certificate(&certify_anew(&keys, &certificate))?;
    Ok(ValidatorId(keys.validator.id().0))
}

/// Certifies a stopped node for another place; its ledger hears of it at the next start, and the members decide whether
/// that counts.
///
/// # Errors
/// [`SetupError`] if nothing was set up there, the keys cannot be opened, or this is no place.
pub fn relocate(home: &Home, unlocking: &Unlocking, region: &str, jurisdiction: &str) -> Result<NodeId, SetupError> {
    let (keys, certificate) = (home.keys(unlocking)?, home.certificate()?);
    let (region, jurisdiction) = (region.to_owned(), jurisdiction.to_owned());
    let certificate = certify(&keys, &Site { region, jurisdiction, capacity: certificate.capacity });
    ledger::verify_node(&certificate)?;
    home.replace_certificate(&certificate)?;
    Ok(keys.node.id())
}

/// Certifies that a stopped node offers so many bytes to others; its ledger hears of it at the next start.
///
/// # Errors
/// [`SetupError`] if nothing was set up there, or the keys cannot be opened or written.
pub fn offer(home: &Home, unlocking: &Unlocking, capacity: u64) -> Result<NodeId, SetupError> {
    let keys = home.keys(unlocking)?;
    let certificate = v1::NodeCertificate { capacity, ..home.certificate()? };
    home.replace_certificate(&certify_anew(&keys, &certificate))?;
    Ok(keys.node.id())
}

/// What a certificate says, certified now.
fn certify_anew(keys: &NodeKeys, certificate: &v1::NodeCertificate) -> v1::NodeCertificate {
    let v1::NodeCertificate { region, jurisdiction, capacity, .. } = certificate.clone();
    certify(keys, &Site { region, jurisdiction, capacity })
}

/// Gives the organisation of a stopped node a new secret; the members decide from when on it counts. The new public key.
///
/// # Errors
/// [`SetupError`] if nothing was set up there, or the keys cannot be opened or written.
pub fn rotate_organisation(home: &Home, unlocking: &Unlocking) -> Result<String, SetupError> {
    let mut keys = home.keys(unlocking)?;
    keys.rotate_organisation().map_err(HomeError::from)?;
    home.replace_keys(&keys, unlocking)?;
    Ok(MemberId(keys.organisation.key()).to_string())
}

/// What puts the newest keys of our organisation to the vote, unless the ledger knows them.
pub fn newest_keys(keys: &NodeKeys) -> Option<v1::MemberKeys> {
    let newest = OrganisationKeys::derive(&keys.secret);
    let unsigned = v1::MemberKeys {
        member: Bytes::copy_from_slice(keys.organisation.member().as_bytes()),
        key: Bytes::copy_from_slice(&newest.key()),
        recipient: newest.recipient().into(),
        signature: Bytes::new(),
    };
    (newest.key() != keys.organisation.key()).then(|| ledger::member_keys(unsigned, |message| newest.sign(message)))
}

/// Signs and seals from now on with the keys that the ledger has for our organisation.
pub fn use_keys(chain: &Chain, keys: &NodeKeys) {
    let key = chain.state().member(&keys.organisation.member()).map(|member| member.key);
    if key.is_some_and(|key| keys.organisation.use_key(&key)) {
        info!("the ledger has other keys for this organisation: it signs and seals with those");
    }
}

/// Does so whenever they change, for as long as the node runs.
pub async fn follow_keys(node: Arc<Node>) {
    let mut changes = node.chain.watch();
    while changes.changed().await.is_ok() {
        use_keys(&node.chain, &node.keys);
    }
}

/// Our certificate; where the ledger is still to hear of it, by the key that counts there.
pub fn certificate(home: &Home, chain: &Chain, keys: &NodeKeys) -> Result<v1::NodeCertificate, HomeError> {
    let certificate = home.certificate()?;
    let is_told = is_told(chain, &certificate);
    if is_told || certificate.signer == ledger::signer(&keys.organisation.member(), &keys.organisation.key()) {
        return Ok(certificate);
    }
    let certificate = certify_anew(keys, &certificate);
    home.replace_certificate(&certificate)?;
    Ok(certificate)
}

/// Whether the ledger has our certificate, or knows no node that it could be of: then whoever admits it brings it.
fn is_told(chain: &Chain, certificate: &v1::NodeCertificate) -> bool {
    let state = chain.state();
    let known = NodeId::try_from(certificate.node.as_ref()).is_ok_and(|node| state.node(&node).is_some());
    !known || state.has_certificate(certificate)
}

/// Puts our certificate on the ledger if that has another one of this node. Blocks.
pub fn tell_certificate(node: &Arc<Node>) -> Result<(), ChainError> {
    let is_retired = node.chain.state().node(&node.id()).is_some_and(|it| it.retired);
    if is_retired || is_told(&node.chain, &node.certificate) || !node.chain.may_write() {
        return Ok(());
    }
    info!("this node has a new certificate: the key it votes with, its place, or what it offers is another one");
    node.append(Operation::AddNode(node.certificate.clone())).map(drop)
}

/// Notes that the kit of the newest keys was printed. Blocks on the disk.
///
/// # Errors
/// [`WriteError`] if the store takes nothing.
pub fn note_kit(node: &Node) -> Result<(), WriteError> {
    if has_kit(node) {
        return Ok(());
    }
    let position = node.store.put(Kind::Meta, &kit_key(node), &[], &[])?;
    node.store.sync(position)
}

/// Whether the kit of the newest keys was printed.
pub fn has_kit(node: &Node) -> bool {
    node.store.contains(Kind::Meta, &kit_key(node)).unwrap_or(false)
}

fn kit_key(node: &Node) -> Vec<u8> {
    let newest = node.keys.organisation.keys().next().expect("there is at least one");
    [b"kit/", &newest[..]].concat()
}
