//! How a node comes to be: founds a network, joins one with an invite, or comes back with a kit.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bithealth_envelope::OrganisationSecret;
use bithealth_http::api::InviteOptions;
use bithealth_ledger as ledger;
use bithealth_net::{DialError, Net, OpenError, Protocol, StartError};
use bithealth_proto::v1::{self, hello_answer::Answer};
use bithealth_store::Store;
use bithealth_types::{GenesisId, MemberId, NodeId};
use bytes::Bytes;

use crate::config::Config;
use crate::home::{Founding, Home, HomeError};
use crate::keys::{self, NodeKeys, Unlocking};
use crate::node::{Node, now_ms};
use crate::rotation;
use crate::sheet::{self, SheetError};

/// How long a contact may take to answer.
const CONTACT_TIMEOUT: Duration = Duration::from_secs(20);
/// Contacts written on a kit or into an invite.
const CONTACTS_MAX: usize = 6;

/// What a new node is.
#[derive(Clone, Debug)]
pub struct Site {
    /// What it fails together with.
    pub region: String,
    /// Whose law applies to it.
    pub jurisdiction: String,
    /// Bytes it offers to others.
    pub capacity: u64,
}

/// What a set-up made.
#[derive(Clone, Debug)]
pub struct Founded {
    /// The node.
    pub node: NodeId,
    /// Its organisation.
    pub member: MemberId,
    /// The organisation's name.
    pub organisation: String,
    /// The network's name.
    pub network: String,
    /// The network.
    pub genesis: GenesisId,
    /// Where it is.
    pub data_dir: PathBuf,
}

/// Why a node could not be set up.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SetupError {
    /// The data directory cannot be used.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The invite or kit cannot be read.
    #[error(transparent)]
    Sheet(#[from] SheetError),
    /// The invite is no longer good.
    #[error("the invite expired {ago_s} s ago")]
    Expired {
        /// Seconds.
        ago_s: u64,
    },
    /// The network cannot be started.
    #[error(transparent)]
    Net(#[from] StartError),
    /// No contact answers.
    #[error("none of the contacts answers: {}", .tried.join("; "))]
    NoContact {
        /// Each contact, and why not.
        tried: Vec<String>,
    },
    /// The network does not want us.
    #[error("node {} refuses: {reason}", contact.short())]
    Refused {
        /// Who said so.
        contact: NodeId,
        /// Why.
        reason: String,
    },
    /// The contact shows another network than the one invited to.
    #[error("node {} shows a network with genesis {got}, the invite or kit names {want}", contact.short())]
    OtherNetwork {
        /// Who showed it.
        contact: NodeId,
        /// What it shows.
        got: GenesisId,
        /// What was named.
        want: GenesisId,
    },
    /// The kit names no organisation of that network.
    #[error("the kit's secret is too short or damaged")]
    Secret,
    /// The key before the last one is still needed.
    #[error("the key this node voted with before is still kept: start the node, and once more when its new key votes")]
    Rotating,
    /// This is no place a node can stand in.
    #[error(transparent)]
    Place(#[from] ledger::MembershipError),
    /// What the founder decided founds no network.
    #[error(transparent)]
    Genesis(#[from] ledger::GenesisError),
    /// The store of the new node cannot be made.
    #[error(transparent)]
    Store(#[from] bithealth_store::OpenError),
    /// The store of the new node takes nothing.
    #[error(transparent)]
    Write(#[from] bithealth_store::WriteError),
}

/// What a founder decides for good.
pub struct Charter<'a> {
    /// The network's name.
    pub network: &'a str,
    /// The founder's own name.
    pub organisation: &'a str,
    /// Who may open a new era, if anybody may; sound by [`ledger::RecoveryPolicy::from_message`].
    pub recovery: Option<v1::RecoveryPolicy>,
    /// The pace of blocks.
    pub parameters: v1::Parameters,
}

/// Founds a network with this organisation as its first member.
///
/// # Errors
/// [`SetupError`] if the data directory cannot be used.
pub fn init(
    home: &Home,
    charter: Charter<'_>,
    site: &Site,
    unlocking: &Unlocking,
    config: &Config,
) -> Result<Founded, SetupError> {
    let Charter { network, organisation, recovery, parameters } = charter;
    home.check_free()?;
    let keys = NodeKeys::new(OrganisationSecret::random());
    let certificate = certify(&keys, site);
    let mut salt = [0; 32];
    getrandom::fill(&mut salt).expect("the system's random source answers");
    let genesis = v1::Genesis {
        name: network.to_owned(),
        time_ms: now_ms(),
        salt: Bytes::copy_from_slice(&salt),
        founder: Some(member_record(&keys, organisation)),
        founder_node: Some(certificate.clone()),
        recovery,
        parameters: Some(parameters),
    };
    ledger::State::from_genesis(genesis.clone())?;
    let founding =
        Founding { genesis: &genesis, certificate: &certificate, admission: None, keys: &keys, unlocking, config };
    home.found(&founding)?;
    Ok(founded(home, &keys, organisation, &genesis))
}

/// Joins a network with an invite, which names the organisation and where its node stands: a contact must answer.
///
/// # Errors
/// [`SetupError`] if the invite is damaged or too old, no contact answers, or the network does not want us, because too
/// few members approved the invite yet, for one.
pub async fn join(
    home: &Home,
    invite: &str,
    capacity: u64,
    unlocking: &Unlocking,
    config: &Config,
) -> Result<Founded, SetupError> {
    home.check_free()?;
    let text = sheet::read_invite(invite)?;
    let invite = text.invite.clone().unwrap_or_default();
    let ago_ms = now_ms().saturating_sub(invite.expires_ms);
    if ago_ms > 0 {
        return Err(SetupError::Expired { ago_s: ago_ms / 1000 });
    }
    let secret = text.secret.as_ref().try_into().map_err(|_| SheetError::Invite)?;
    let invite_key = bithealth_envelope::NodeKey::from_seed(secret);
    let want = GenesisId::try_from(invite.genesis.as_ref()).map_err(|_| SheetError::Invite)?;
    let keys = NodeKeys::new(OrganisationSecret::random());
    let organisation = invite.name.clone();
    let site = Site { region: invite.region.clone(), jurisdiction: invite.jurisdiction.clone(), capacity };
    let certificate = certify(&keys, &site);
    let member = member_record(&keys, &organisation);
    let admission = ledger::admission(invite, member, |message| invite_key.sign(message));
    let config = Config { contacts: text.contacts.clone(), ..config.clone() };
    let introduction = Introduction { keys: &keys, certificate: &certificate, admission: Some(&admission), want };
    let genesis = introduction.introduce(&text.contacts).await?;
    let founding = Founding {
        genesis: &genesis,
        certificate: &certificate,
        admission: Some(&admission),
        keys: &keys,
        unlocking,
        config: &config,
    };
    home.found(&founding)?;
    Ok(founded(home, &keys, &organisation, &genesis))
}

/// Sets up an empty node with nothing but a kit; [`crate::restore`] then brings the records back.
///
/// # Errors
/// [`SetupError`] if the kit is damaged, no contact answers, or the network does not want us.
pub async fn restore(
    home: &Home,
    kit: &str,
    site: &Site,
    unlocking: &Unlocking,
    config: &Config,
) -> Result<Founded, SetupError> {
    home.check_free()?;
    let kit = sheet::read_kit(kit)?;
    let secret = kit.organisation_secret.as_ref().try_into().map_err(|_| SetupError::Secret)?;
    let former = keys::read_former(&kit.former_secrets).ok_or(SetupError::Secret)?;
    let want = GenesisId::try_from(kit.genesis.as_ref()).map_err(|_| SetupError::Secret)?;
    let keys = NodeKeys::with_former(OrganisationSecret::from_bytes(secret), former);
    let (genesis, certificate) = return_to(&keys, site, &kit.contacts, want).await?;
    let config = Config { contacts: kit.contacts.clone(), ..config.clone() };
    let store_path = home.store_path();
    let store_config = bithealth_store::Config { reserve_len: config.disk_reserve_bytes, ..Default::default() };
    crate::replicate::blocking(move || -> Result<(), SetupError> {
        let store = Store::open(&store_path, store_config)?;
        crate::restore::note(&store)?;
        Ok(store.close()?)
    })
    .await?;
    let founding = Founding {
        genesis: &genesis,
        certificate: &certificate,
        admission: None,
        keys: &keys,
        unlocking,
        config: &config,
    };
    home.found(&founding)?;
    Ok(founded(home, &keys, &kit.organisation, &genesis))
}

/// Comes back under the newest key of the organisation that the network knows: a new one may not have been approved.
async fn return_to(
    keys: &NodeKeys,
    site: &Site,
    contacts: &[String],
    want: GenesisId,
) -> Result<(v1::Genesis, v1::NodeCertificate), SetupError> {
    let mut refused = None;
    for key in keys.organisation.keys() {
        keys.organisation.use_key(&key);
        let certificate = certify(keys, site);
        let introduction = Introduction { keys, certificate: &certificate, admission: None, want };
        match introduction.introduce(contacts).await {
            Ok(genesis) => return Ok((genesis, certificate)),
            Err(error @ SetupError::Refused { .. }) => drop(refused.get_or_insert(error)),
            Err(error) => return Err(error),
        }
    }
    Err(refused.expect("there is at least one key"))
}

fn founded(home: &Home, keys: &NodeKeys, organisation: &str, genesis: &v1::Genesis) -> Founded {
    Founded {
        node: keys.node.id(),
        member: keys.organisation.member(),
        organisation: organisation.to_owned(),
        network: genesis.name.clone(),
        genesis: genesis.id(),
        data_dir: home.dir().to_owned(),
    }
}

fn member_record(keys: &NodeKeys, name: &str) -> v1::MemberRecord {
    let organisation = &keys.organisation;
    ledger::member_record(&organisation.member(), name, &organisation.recipient(), |message| organisation.sign(message))
}

pub(crate) fn certify(keys: &NodeKeys, site: &Site) -> v1::NodeCertificate {
    let organisation = &keys.organisation;
    let certificate = v1::NodeCertificate {
        node: Bytes::copy_from_slice(keys.node.id().as_bytes()),
        member: Bytes::copy_from_slice(organisation.member().as_bytes()),
        region: site.region.clone(),
        jurisdiction: site.jurisdiction.clone(),
        capacity: site.capacity,
        time_ms: now_ms(),
        signature: Bytes::new(),
        validator: Bytes::copy_from_slice(keys.validator.id().as_bytes()),
        signer: ledger::signer(&organisation.member(), &organisation.key()),
    };
    ledger::node_certificate(certificate, |message| organisation.sign(message))
}

/// A node that is not in the network yet tells a contact who it is, and learns the genesis.
struct Introduction<'a> {
    keys: &'a NodeKeys,
    certificate: &'a v1::NodeCertificate,
    admission: Option<&'a v1::Admission>,
    want: GenesisId,
}

impl Introduction<'_> {
    async fn introduce(&self, contacts: &[String]) -> Result<v1::Genesis, SetupError> {
        let net_config = bithealth_net::Config { listen: Vec::new(), ..Default::default() };
        let (net, events) = bithealth_net::start(*self.keys.node.seed(), self.want, net_config).await?;
        let mut tried = Vec::new();
        let mut genesis = None;
        for contact in contacts {
            let asked = tokio::time::timeout(CONTACT_TIMEOUT, self.ask(&net, contact)).await;
            match asked.unwrap_or_else(|_| Err(Contact::Silent("no answer in time".to_owned()))) {
                Ok(found) => {
                    genesis = Some(Ok(found));
                    break;
                }
                Err(Contact::Fatal(error)) => {
                    genesis = Some(Err(error));
                    break;
                }
                Err(Contact::Silent(why)) => tried.push(format!("{contact}: {why}")),
            }
        }
        drop(events);
        net.stop().await;
        genesis.unwrap_or(Err(SetupError::NoContact { tried }))
    }

    async fn ask(&self, net: &Net, contact: &str) -> Result<v1::Genesis, Contact> {
        let silent = |error: &dyn std::fmt::Display| Contact::Silent(error.to_string());
        let peer = net.dial(vec![contact.to_owned()]).await.map_err(|error: DialError| silent(&error))?;
        let mut stream = net.open(peer, Protocol::Hello).await.map_err(|error: OpenError| silent(&error))?;
        let hello = v1::Hello {
            genesis: Bytes::copy_from_slice(self.want.as_bytes()),
            version: 1,
            node: Some(self.certificate.clone()),
            admission: self.admission.cloned(),
            addresses: Vec::new(),
            genesis_file: None,
        };
        let answer: v1::HelloAnswer = stream.ask(&hello).await.map_err(|error| silent(&error))?;
        match answer.answer {
            Some(Answer::Welcome(hello)) => {
                let genesis = hello.genesis_file.unwrap_or_default();
                if genesis.id() == self.want {
                    return Ok(genesis);
                }
                Err(Contact::Fatal(SetupError::OtherNetwork { contact: peer, got: genesis.id(), want: self.want }))
            }
            Some(Answer::Refused(refusal)) => {
                Err(Contact::Fatal(SetupError::Refused { contact: peer, reason: refusal.reason }))
            }
            None => Err(Contact::Silent("an answer of a kind this version does not know".to_owned())),
        }
    }
}

/// What became of a contact.
enum Contact {
    /// Another one may do.
    Silent(String),
    /// All will say the same.
    Fatal(SetupError),
}

/// An invite for one organisation, and its text.
pub fn invite(node: &Arc<Node>, options: &InviteOptions, expires_ms: u64) -> (v1::Invite, String) {
    let key = bithealth_envelope::NodeKey::random();
    let invite = v1::Invite {
        genesis: Bytes::copy_from_slice(node.chain.state().genesis_id().as_bytes()),
        issuer: Bytes::copy_from_slice(node.member().as_bytes()),
        key: Bytes::copy_from_slice(key.id().as_bytes()),
        expires_ms,
        signature: Bytes::new(),
        name: options.name.clone(),
        region: options.region.clone(),
        jurisdiction: options.jurisdiction.clone(),
        signer: ledger::signer(&node.member(), &node.keys.organisation.key()),
    };
    let invite = ledger::invite(invite, |message| node.keys.organisation.sign(message));
    let text = sheet::print_invite(&v1::InviteText {
        invite: Some(invite.clone()),
        secret: Bytes::copy_from_slice(key.seed()),
        contacts: contacts(node),
    });
    (invite, text)
}

/// The organisation's recovery kit, as a sheet. That it was made is noted: without it no new keys are put to the vote.
/// Blocks on the disk.
///
/// # Errors
/// If the store does not take the note.
pub fn kit(node: &Arc<Node>) -> Result<String, bithealth_store::WriteError> {
    rotation::note_kit(node)?;
    let (network, organisation, genesis) = {
        let state = node.chain.state();
        let organisation = state.member(&node.member()).map(|member| member.name.clone()).unwrap_or_default();
        (state.genesis().name.clone(), organisation, state.genesis_id())
    };
    Ok(sheet::print_kit(&v1::Kit {
        genesis: Bytes::copy_from_slice(genesis.as_bytes()),
        network,
        organisation,
        organisation_secret: Bytes::copy_from_slice(node.keys.secret.expose()),
        contacts: contacts(node),
        time_ms: now_ms(),
        former_secrets: node.keys.former_secrets(),
    }))
}

/// Where the network can be found when this node is gone: nodes of other regions first, then others, then this one.
fn contacts(node: &Arc<Node>) -> Vec<String> {
    let mut by_region: std::collections::BTreeMap<String, Vec<NodeId>> = Default::default();
    {
        let state = node.chain.state();
        for it in state.nodes().filter(|it| !it.retired && it.id != node.id()) {
            by_region.entry(it.region.clone()).or_default().push(it.id);
        }
    }
    let own = by_region.remove(&node.certificate.region).unwrap_or_default();
    let mut regions: Vec<Vec<NodeId>> = by_region.into_values().collect();
    let mut order = Vec::new();
    while regions.iter().any(|region| !region.is_empty()) {
        order.extend(regions.iter_mut().filter_map(Vec::pop));
    }
    order.extend(own);
    // A relay serves members only: whoever these are for is none yet, or not at its new place.
    let nearest = |addresses: Vec<String>| addresses.into_iter().find(|address| !address.contains("/p2p-circuit/"));
    let others = order.iter().filter_map(|peer| nearest(node.net.addresses_of(*peer)));
    let this = nearest(node.net.listen_addresses());
    others.chain(this).take(CONTACTS_MAX).collect()
}
