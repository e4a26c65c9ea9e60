//! Members and nodes, as they follow from what was claimed, in whatever order the claims arrived.
//!
//! The registry keeps every proposal, admission, certificate, retirement and evidence with the entries that made it. A
//! [`View`] is computed from them: of all claims, or of those a block covers. Claims count in the order of the blocks that
//! covered them; what no block covers yet comes last. Within one block, and among those, they are ordered by author and
//! sequence. Who votes on a proposal are the members as of the block before.

mod turns;
mod votes;

pub use votes::Proposal;

use std::collections::{BTreeMap, BTreeSet};

use bithealth_merkle::map_root;
use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, Height, MemberId, NodeId, Sequence, ValidatorId};
use bytes::Bytes;
use sha2::{Digest as _, Sha256};

use crate::evidence::Accused;
use crate::member::signer_of;
use crate::recovery::Opened;
use crate::validators::{VALIDATORS_MAX, Validator, ValidatorSet};

/// An organisation of the consortium.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its public key.
    pub id: MemberId,
    /// Its name, unique within the network.
    pub name: String,
    /// The Ed25519 public key that signs for it: the one that is its id, until the members let it go on with another.
    pub key: [u8; 32],
    /// The public key that record keys are sealed to.
    pub recipient: Bytes,
    /// Whether it votes, on blocks and on proposals.
    pub votes: bool,
    /// What says all this.
    record: Digest,
}

/// A key that an organisation signs with, or did.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    key: [u8; 32],
    /// The block that let it.
    since: Option<Height>,
    /// The last place in the order that what it signed may stand at.
    until: u64,
}

/// A node, as one certificate of its organisation describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its public key: the author of its log.
    pub id: NodeId,
    /// Its organisation.
    pub member: MemberId,
    /// What fails together with it.
    pub region: String,
    /// Whose law applies to it.
    pub jurisdiction: String,
    /// Bytes it offers to others.
    pub capacity: u64,
    /// The key it votes with for its organisation; none: it does not vote.
    pub validator: Option<ValidatorId>,
    /// The height of the block from which on this certificate counts: that covers it, and the approval of region and
    /// jurisdiction for its organisation; 0 for the founder's; `None` while no block does.
    pub since: Option<Height>,
    /// Whether its organisation has taken it out, or evidence has ([`crate::State::is_accused`]).
    pub retired: bool,
    /// The height of the block that first covered that.
    pub retired_since: Option<Height>,
    /// The clock of its organisation when it certified this.
    time_ms: u64,
    certificate: Digest,
}

/// An entry that claims something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Claim {
    pub(crate) author: NodeId,
    pub(crate) sequence: Sequence,
}

/// The claims for one thing.
#[derive(Clone, Debug)]
struct Claims {
    /// The first of each author.
    entries: Vec<Claim>,
    /// Where the thing stands in the order for good, once a block covers one of them.
    covered: Option<(Height, Claim)>,
}

#[derive(Clone, Debug)]
struct Admission {
    member: Member,
    issuer: Option<MemberId>, // none: the founder
    /// The digest of its invite.
    invite: Digest,
    /// Region and jurisdiction that the invite names.
    place: Place,
    claims: Claims,
}

#[derive(Clone, Debug)]
struct Certificate {
    node: Node,
    signer: [u8; 32],
    time_ms: u64,
    claims: Claims,
}

#[derive(Clone, Debug)]
struct Retirement {
    member: MemberId,
    signer: [u8; 32],
    claims: Claims,
}

#[derive(Clone, Debug)]
struct Accusation {
    evidence: v1::Evidence, // the first to arrive: any will do
    claims: Claims,
}

/// Who goes on after a recovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// The first height of the era.
    height: Height,
    time_ms: u64,
    validators: BTreeMap<MemberId, ValidatorId>,
}

impl Recovered {
    pub(crate) fn of(height: Height, opened: &Opened) -> Self {
        let time_ms = opened.signed.recovery.as_ref().map_or(0, |recovery| recovery.time_ms);
        Self { height, time_ms, validators: opened.validators.iter().map(|it| (it.member, it.key)).collect() }
    }
}

/// Region and jurisdiction.
type Place = (String, String);

/// Everything claimed about members and nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Registry {
    admissions: Vec<Admission>,
    certificates: BTreeMap<NodeId, Vec<Certificate>>,
    retirements: BTreeMap<NodeId, Vec<Retirement>>,
    accusations: BTreeMap<Accused, Accusation>,
    votes: BTreeMap<Digest, votes::Voted>,
    recoveries: Vec<Recovered>,
}

/// Members and nodes that follow from a set of claims.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct View {
    /// All who ever were.
    pub(crate) members: BTreeMap<MemberId, Member>,
    /// Those of them that are no more, and since when.
    left: BTreeMap<MemberId, Option<Height>>,
    /// How many members vote.
    voters: usize,
    /// The names of all who ever were: none is given twice.
    names: BTreeSet<String>,
    /// The keys each member signed with, the present one last.
    held: BTreeMap<MemberId, Vec<Held>>,
    /// All of them: none ever stands for another member.
    keys: BTreeSet<[u8; 32]>,
    /// Digests of invites that passed.
    invited: BTreeSet<Digest>,
    /// Where nodes of a member may stand, and since when.
    labels: BTreeMap<MemberId, BTreeMap<Place, Option<Height>>>,
    /// What packs survive unless their author says otherwise.
    pub(crate) defaults: Option<v1::Defaults>,
    /// Proposals that passed, and with which block.
    pub(crate) passed: BTreeMap<Digest, Option<Height>>,
    /// All certificates of a node by its organisation, the latest last.
    pub(crate) nodes: BTreeMap<NodeId, Vec<Node>>,
    /// Since when there is evidence against somebody.
    pub(crate) accused: BTreeMap<Accused, Option<Height>>,
    /// The last recovery.
    recovered: Option<Recovered>,
}

/// Which claims a view takes.
pub(crate) enum Covered<'a> {
    /// All of them; those that no block covers come last.
    OrNot,
    /// Those covered by a block at this height with this frontier (entries per author), or by one before.
    By(Height, &'a BTreeMap<NodeId, u64>),
}

/// Where a thing stands in the order: by height, the uncovered last; then by author and sequence.
type Rank = (Option<Height>, Claim);

fn order(rank: &Rank) -> (u64, Claim) {
    (rank.0.map_or(u64::MAX, |height| height.0), rank.1)
}

/// The block at this place in the order.
fn since(at: u64) -> Option<Height> {
    (at != u64::MAX).then_some(Height(at))
}

impl Claims {
    fn new(claim: Claim) -> Self {
        Self { entries: vec![claim], covered: None }
    }

    fn add(&mut self, claim: Claim) {
        if self.entries.iter().all(|known| known.author != claim.author) {
            self.entries.push(claim);
        }
    }

    fn rank(&self, covered: &Covered<'_>) -> Option<Rank> {
        if let Some((height, claim)) = self.covered {
            return Some((Some(height), claim));
        }
        match covered {
            Covered::OrNot => self.entries.iter().min().map(|claim| (None, *claim)),
            Covered::By(height, frontier) => {
                let by = |claim: &&Claim| frontier.get(&claim.author).is_some_and(|len| claim.sequence.0 < *len);
                self.entries.iter().filter(by).min().map(|claim| (Some(*height), *claim))
            }
        }
    }

    /// Whether this block is the first that covers one of them.
    fn cover(&mut self, height: Height, frontier: &BTreeMap<NodeId, u64>) -> bool {
        let was_covered = self.covered.is_some();
        self.covered = self.rank(&Covered::By(height, frontier)).map(|(at, claim)| (at.unwrap_or(height), claim));
        self.covered.is_some() && !was_covered
    }
}

impl Registry {
    /// The registry of a network with nobody but its founder.
    pub(crate) fn founded(record: &v1::MemberRecord, certificate: &v1::NodeCertificate, node: NodeId) -> Self {
        let mut registry = Self::default();
        let claim = Claim { author: node, sequence: Sequence(0) };
        let place = (certificate.region.clone(), certificate.jurisdiction.clone());
        registry.admissions.push(Admission {
            member: member(record),
            issuer: None,
            invite: Digest([0; 32]),
            place,
            claims: Claims::new(claim),
        });
        registry.certify(certificate, claim);
        registry.admissions[0].claims.covered = Some((Height(0), claim));
        registry.certificates.values_mut().flatten().for_each(|item| item.claims.covered = Some((Height(0), claim)));
        registry
    }

    pub(crate) fn admit(&mut self, record: &v1::MemberRecord, invite: &v1::Invite, claim: Claim) {
        let proposal = v1::Proposal { time_ms: 0, change: Some(v1::proposal::Change::Invite(invite.clone())) };
        self.propose(&proposal, claim, None);
        let (member, id) = (member(record), digest(invite));
        let same = |item: &&mut Admission| item.member.record == member.record && item.invite == id;
        if let Some(known) = self.admissions.iter_mut().find(same) {
            return known.claims.add(claim);
        }
        let place = (invite.region.clone(), invite.jurisdiction.clone());
        let issuer = Some(MemberId(array(&invite.issuer)));
        self.admissions.push(Admission { member, issuer, invite: id, place, claims: Claims::new(claim) });
    }

    pub(crate) fn certify(&mut self, certificate: &v1::NodeCertificate, claim: Claim) {
        let (id, digest) = (NodeId(array(&certificate.node)), digest(certificate));
        let known = self.certificates.entry(id).or_default();
        if let Some(known) = known.iter_mut().find(|item| item.node.certificate == digest) {
            return known.claims.add(claim);
        }
        let node = Node {
            id,
            member: MemberId(array(&certificate.member)),
            region: certificate.region.clone(),
            jurisdiction: certificate.jurisdiction.clone(),
            capacity: certificate.capacity,
            validator: ValidatorId::try_from(certificate.validator.as_ref()).ok(),
            time_ms: certificate.time_ms,
            since: None,
            retired: false,
            retired_since: None,
            certificate: digest,
        };
        let signer = signer(&node.member, &certificate.signer);
        known.push(Certificate { node, signer, time_ms: certificate.time_ms, claims: Claims::new(claim) });
    }

    pub(crate) fn has_certificate(&self, certificate: &v1::NodeCertificate) -> bool {
        let node = NodeId::try_from(certificate.node.as_ref()).ok();
        let known = node.and_then(|node| self.certificates.get(&node)).into_iter().flatten();
        known.into_iter().any(|item| item.node.certificate == digest(certificate))
    }

    pub(crate) fn retire(&mut self, retirement: &v1::RetireNode, claim: Claim) {
        let (node, member) = (NodeId(array(&retirement.node)), MemberId(array(&retirement.member)));
        let signer = signer(&member, &retirement.signer);
        let known = self.retirements.entry(node).or_default();
        match known.iter_mut().find(|item| item.member == member && item.signer == signer) {
            Some(known) => known.claims.add(claim),
            None => known.push(Retirement { member, signer, claims: Claims::new(claim) }),
        }
    }

    pub(crate) fn accuse(&mut self, accused: Accused, evidence: v1::Evidence, claim: Claim) {
        match self.accusations.get_mut(&accused) {
            Some(known) => known.claims.add(claim),
            None => drop(self.accusations.insert(accused, Accusation { evidence, claims: Claims::new(claim) })),
        }
    }

    pub(crate) fn accused(&self) -> impl Iterator<Item = (Accused, &v1::Evidence, Option<Height>)> {
        let told = |(accused, item)| {
            let (accused, item): (&Accused, &Accusation) = (accused, item);
            (*accused, &item.evidence, item.claims.covered.map(|(height, _)| height))
        };
        self.accusations.iter().map(told)
    }

    /// Whether somebody claimed this node, valid or not: its entries are taken.
    pub(crate) fn mentions_node(&self, node: &NodeId) -> bool {
        self.certificates.contains_key(node)
    }

    /// A block covers what this frontier holds. Whether any claim is among that: if none is, all views stay as they are.
    pub(crate) fn cover(&mut self, height: Height, frontier: &BTreeMap<NodeId, u64>) -> bool {
        let admissions = self.admissions.iter_mut().map(|item| &mut item.claims);
        let certificates = self.certificates.values_mut().flatten().map(|item| &mut item.claims);
        let retirements = self.retirements.values_mut().flatten().map(|item| &mut item.claims);
        let accusations = self.accusations.values_mut().map(|item| &mut item.claims);
        let votes = self.votes.values_mut().flat_map(votes::Voted::claims);
        let all = admissions.chain(certificates).chain(retirements).chain(accusations).chain(votes);
        let mut any = false;
        all.for_each(|claims| any |= claims.cover(height, frontier));
        any
    }

    /// An era begins.
    pub(crate) fn recover(&mut self, recovered: Recovered) {
        self.recoveries.push(recovered);
    }

    pub(crate) fn view(&self, covered: &Covered<'_>) -> View {
        self.view_with(covered, None)
    }

    /// The same, once this recovery opens an era.
    pub(crate) fn view_with(&self, covered: &Covered<'_>, recovered: Option<&Recovered>) -> View {
        let mut view = View::default();
        let accused = |(accused, item): (&Accused, &Accusation)| Some((*accused, item.claims.rank(covered)?.0));
        view.accused = self.accusations.iter().filter_map(accused).collect();
        self.view_members(covered, recovered, &mut view);
        for (id, certificates) in &self.certificates {
            let versions = versions(certificates, self.retirements.get(id), covered, &view);
            if !versions.is_empty() {
                view.nodes.insert(*id, versions);
            }
        }
        view
    }
}

impl View {
    /// A node as its latest certificate describes it.
    pub(crate) fn node(&self, node: &NodeId) -> Option<&Node> {
        self.nodes.get(node).and_then(|versions| versions.last())
    }

    /// What a header commits to, so that anybody can be shown that a member or a node is there, or is not.
    ///
    /// | key | value: SHA-256 of |
    /// |---|---|
    /// | 1, id of a member | digest of its record, or of the keys it goes on with; 1 if it votes, else 0 |
    /// | 2, id of a node | digest of its latest certificate; 1 if it is retired, else 0 |
    /// | 3, id of a node with evidence against it | height (u64) of the block that first covered that |
    /// | 4, key of a validator with evidence against it | the same |
    /// | 5, id of a proposal that passed | height (u64) of the block it passed with |
    pub(crate) fn map(&self) -> BTreeMap<Vec<u8>, Digest> {
        let key = state_key;
        let hash = |parts: &[&[u8]]| Digest(Sha256::digest(parts.concat()).into());
        let height = |since: &Option<Height>| since.map_or(u64::MAX, |height| height.0).to_be_bytes();
        let members = self
            .present()
            .map(|member| (key(1, &member.id.0), hash(&[member.record.as_bytes(), &[u8::from(member.votes)]])));
        let nodes = self
            .nodes
            .values()
            .filter_map(|versions| versions.last())
            .map(|node| (key(2, &node.id.0), hash(&[node.certificate.as_bytes(), &[u8::from(node.retired)]])));
        let accused = self.accused.iter().map(|(accused, since)| {
            let (kind, id) = match accused {
                Accused::Author(node) => (3, &node.0),
                Accused::Validator(validator) => (4, &validator.0),
            };
            (key(kind, id), hash(&[&height(since)]))
        });
        let passed = self.passed.iter().map(|(id, since)| (key(5, &id.0), hash(&[&height(since)])));
        members.chain(nodes).chain(accused).chain(passed).collect()
    }

    /// Whose logs end: of nodes that are retired, or that there is evidence against.
    pub(crate) fn ended(&self) -> impl Iterator<Item = NodeId> {
        let nodes = self.nodes.values().filter_map(|versions| versions.last());
        let retired = nodes.filter(|node| node.retired).map(|node| node.id);
        let accused = self.accused.keys().filter_map(|accused| match accused {
            Accused::Author(node) => Some(*node),
            Accused::Validator(_) => None,
        });
        retired.chain(accused)
    }

    /// The root of [`View::map`].
    pub(crate) fn root(&self) -> Digest {
        map_root(&self.map())
    }

    /// Who votes: for each member, the key in the latest certificate of a node of its that is not retired, if there is no
    /// evidence against the key. A key that two claim is the one's that claimed it first. `None` where nobody votes.
    pub(crate) fn validators(&self) -> Option<ValidatorSet> {
        let mut latest: BTreeMap<MemberId, &Node> = BTreeMap::new();
        let nodes = self.nodes.values().filter_map(|versions| versions.last());
        let votes = |node: &&Node| self.members.get(&node.member).is_some_and(|member| member.votes);
        for node in nodes.filter(|node| !node.retired && node.validator.is_some()).filter(votes) {
            let known = latest.entry(node.member).or_insert(node);
            if (known.time_ms, known.certificate) < (node.time_ms, node.certificate) {
                *known = node;
            }
        }
        let mut claims: Vec<&Node> = latest.into_values().collect();
        claims.sort_by_key(|node| (node.since.map_or(u64::MAX, |since| since.0), node.member));
        let voting = |node: &Node| Some(Validator { member: node.member, key: self.key_of(node)? });
        let mut validators: Vec<Validator> = claims.into_iter().filter_map(voting).collect();
        let mut keys = BTreeSet::new();
        validators.retain(|it| keys.insert(it.key));
        validators.retain(|it| !self.accused.contains_key(&Accused::Validator(it.key)));
        validators.truncate(VALIDATORS_MAX);
        ValidatorSet::new(validators).ok()
    }

    /// What the member of this node votes with: the key of its latest certificate, or of the recovery that is newer.
    fn key_of(&self, node: &Node) -> Option<ValidatorId> {
        let recovered = self.recovered.as_ref().filter(|it| node.time_ms <= it.time_ms);
        recovered.and_then(|it| it.validators.get(&node.member)).copied().or(node.validator)
    }

    /// Those of the recovery vote, and nobody else.
    fn recover(&mut self, recovered: &Recovered) {
        for (id, member) in &mut self.members {
            member.votes = recovered.validators.contains_key(id);
        }
        self.voters = self.present().filter(|member| member.votes).count();
        self.recovered = Some(recovered.clone());
    }
}

/// The certificates of a node that count, the latest last: those of the member that first claimed it.
fn versions(
    certificates: &[Certificate],
    retirements: Option<&Vec<Retirement>>,
    covered: &Covered<'_>,
    view: &View,
) -> Vec<Node> {
    let mut counted: Vec<(Rank, &Certificate, (usize, &Held))> = certificates
        .iter()
        .filter_map(|item| Some((item.claims.rank(covered)?, item)))
        .filter_map(|(rank, item)| Some((rank, item, view.held(&item.node.member, &item.signer, order(&rank).0)?)))
        .collect();
    let Some(owner) = counted.iter().min_by_key(|(rank, item, _)| (order(rank), item.node.certificate)) else {
        return Vec::new();
    };
    let owner = owner.1.node.member;
    counted.retain(|(_, item, _)| item.node.member == owner);
    // What a later key signed is later, whatever times the former one wrote.
    counted.sort_by_key(|(_, item, (number, _))| (*number, item.time_ms, item.node.certificate));
    let retired = retirements.into_iter().flatten().filter(|item| item.member == owner).filter_map(|item| {
        let rank = item.claims.rank(covered)?;
        view.held(&owner, &item.signer, order(&rank).0).map(|_| rank.0)
    });
    let accused = counted.first().and_then(|(_, item, _)| view.accused.get(&Accused::Author(item.node.id)).copied());
    let left = view.left.get(&owner).copied();
    // Whichever a block covered first; what none covers comes last.
    let retired = retired.chain(accused).chain(left);
    let retired = retired.min_by_key(|since| since.map_or(u64::MAX, |height| height.0));
    let labels = view.labels.get(&owner);
    let approved = |node: &Node| *labels?.get(&(node.region.clone(), node.jurisdiction.clone()))?;
    let node = |(rank, item, (_, held)): (Rank, &Certificate, (usize, &Held))| Node {
        since: rank.0.zip(approved(&item.node)).zip(held.since).map(|((one, other), third)| one.max(other).max(third)),
        retired: retired.is_some(),
        retired_since: retired.flatten(),
        ..item.node.clone()
    };
    counted.into_iter().map(node).collect()
}

fn member(record: &v1::MemberRecord) -> Member {
    let recipient = Bytes::copy_from_slice(&record.recipient);
    let id = MemberId(array(&record.member));
    Member { id, name: record.name.clone(), key: id.0, recipient, votes: true, record: digest(record) }
}

fn signer(member: &MemberId, signer: &[u8]) -> [u8; 32] {
    signer_of(member, signer).expect("the message was verified")
}

/// A key of [`View::map`].
pub(crate) fn state_key(kind: u8, id: &[u8; 32]) -> Vec<u8> {
    [&[kind], id.as_slice()].concat()
}

/// A field whose length was checked when its message was verified.
fn array(bytes: &[u8]) -> [u8; 32] {
    bytes.try_into().expect("the message was verified")
}

/// What two equal views encode alike: for [`crate::State::digest`].
pub(crate) fn encode_view(view: &View) -> Vec<u8> {
    let mut bytes = view.root().0.to_vec();
    for node in view.nodes.values().flatten() {
        bytes.extend(node.certificate.0);
        for height in [node.since, node.retired_since] {
            bytes.extend(height.map_or(u64::MAX, |height| height.0).to_be_bytes());
        }
    }
    bytes.extend(view.defaults.iter().flat_map(bithealth_proto::encode));
    bytes
}
