//! Keys change: the one a node votes with, and those of its whole organisation.
//!
//! A stopped node makes new ones and keeps the old ones; the ledger says from when on the new ones count. An organisation's
//! are put to the vote once the kit that holds them was printed: after that, no other kit restores it.

use std::sync::Arc;

use bithealth_envelope::OrganisationKeys;
use bithealth_ledger as ledger;
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_store::{Kind, WriteError};
use bithealth_types::{MemberId, ValidatorId};
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
    let known = chain.state().node(&keys.node.id()).map(|it| it.validator);
    let is_told = known.is_none_or(|known| known == ValidatorId::try_from(certificate.validator.as_ref()).ok());
    if is_told || certificate.signer == ledger::signer(&keys.organisation.member(), &keys.organisation.key()) {
        return Ok(certificate);
    }
    let certificate = certify_anew(keys, &certificate);
    home.replace_certificate(&certificate)?;
    Ok(certificate)
}

/// Puts our certificate on the ledger if that knows another key to vote with. Blocks.
pub fn tell_certificate(node: &Arc<Node>) -> Result<(), ChainError> {
    let ours = ValidatorId::try_from(node.certificate.validator.as_ref()).ok();
    let known = node.chain.state().node(&node.id()).filter(|it| !it.retired).map(|it| it.validator);
    match known {
        Some(known) if known != ours => {
            info!("this node votes with a new key from the next block on");
            node.append(Operation::AddNode(node.certificate.clone())).map(drop)
        }
        _ => Ok(()),
    }
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
