//! What a node knows of the consortium, entry by entry and block by block.

mod operation;

use std::collections::{BTreeMap, BTreeSet};

use bithealth_merkle::{Frontier, leaf_hash, map_root};
use bithealth_proto::v1::{self, entry::Operation};
use bithealth_proto::{decode, encode};
use bithealth_types::{Digest, GenesisId, Height, MemberId, NodeId, PackId, Sequence, ValidatorId};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

use crate::block::{BLOCK_ENTRIES_MAX, BLOCK_LOGS_MAX, CheckedBlock};
use crate::condemned::{CONDEMNED_FOR_MS, CONDEMNERS_MIN, Condemned, Judgements};
use crate::entry::{Applied, Checked, EntryError, entry_digest, message};
use crate::evidence::Accused;
use crate::log::{At, Entries, Log, entry_leaf, frontier, frontier_value};
use crate::member::{MembershipError, NAME_LEN_MAX, fixed, signed_by, text, verify_member, verify_node};
use crate::pack::{Pack, Packs};
use crate::recovery::{Eras, NotPolicy, Opened, RecoveryPolicy, goes_on_from};
use crate::registry::{Claim, Covered, Member, Node, Proposal, Recovered, Registry, View, encode_view};
use crate::validators::{ValidatorSet, faulty};

/// Why a genesis is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GenesisError {
    /// A field of the genesis itself, or its founder's record or certificate, is not valid.
    #[error(transparent)]
    Membership(#[from] MembershipError),
    /// A parameter is out of bounds.
    #[error("the network's {what} is {got} ms, {min} to {max} are accepted")]
    Parameter {
        /// Which.
        what: &'static str,
        /// What it is.
        got: u64,
        /// The least.
        min: u64,
        /// The most.
        max: u64,
    },
    /// Its recovery policy is none.
    #[error(transparent)]
    Recovery(#[from] NotPolicy),
    /// The first node does not vote: nobody could finalise anything.
    #[error("the certificate of the first node names no key to vote with")]
    NoValidator,
    /// The first node is not the founder's.
    #[error("the first node belongs to {got}, the founder is {want}")]
    OtherMember {
        /// Whose the node is.
        got: MemberId,
        /// The founder.
        want: MemberId,
    },
}

/// Where an entry or a block comes from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Source {
    /// Somebody who may lie.
    Anybody,
    /// Our own store, which verified its bytes and took it after it was checked.
    Store,
}

/// Members, nodes, packs, logs and the tip: everything that follows from a genesis, entries and blocks.
#[derive(Clone, Debug)]
pub struct State {
    genesis: v1::Genesis,
    id: GenesisId,
    founder: MemberId,
    registry: Registry,
    view: View,
    packs: Packs,
    logs: BTreeMap<NodeId, Entries>,
    tip: Option<(v1::Header, Digest)>,
    /// Who decides, from the height on; the last decide the next.
    validators: BTreeMap<Height, ValidatorSet>,
    /// The frontiers of all logs, by author, as a header commits to them.
    frontier: BTreeMap<Vec<u8>, Digest>,
    /// All headers.
    history: Frontier,
    eras: Eras,
    judgements: Judgements,
    /// What ended with a height: the era before, and who would have decided that height in it.
    ended: BTreeMap<Height, (u64, ValidatorSet)>,
}

impl State {
    /// The state of a network at its birth.
    ///
    /// # Errors
    /// [`GenesisError`] if a field is out of bounds, or the founder did not sign its record and its node's certificate.
    pub fn from_genesis(genesis: v1::Genesis) -> Result<Self, GenesisError> {
        text("the network's name", &genesis.name, NAME_LEN_MAX)?;
        fixed("the genesis' salt", &genesis.salt)?;
        let record = genesis.founder.as_ref().ok_or(MembershipError::Absent { what: "the founder's record" })?;
        let absent = MembershipError::Absent { what: "the certificate of the first node" };
        let certificate = genesis.founder_node.as_ref().ok_or(absent)?;
        let founder = verify_member(record)?;
        let (node, member) = verify_node(certificate)?;
        if member != founder {
            return Err(GenesisError::OtherMember { got: member, want: founder });
        }
        check_parameters(&parameters_of(&genesis))?;
        let eras = Eras::new(&genesis)?;
        let registry = Registry::founded(record, certificate, node);
        let view = registry.view(&Covered::OrNot);
        let validators = registry.view(&Covered::By(Height(0), &BTreeMap::new())).validators();
        let validators = validators.ok_or(GenesisError::NoValidator)?;
        Ok(Self {
            id: genesis.id(),
            genesis,
            founder,
            registry,
            view,
            packs: Packs::default(),
            logs: BTreeMap::new(),
            tip: None,
            validators: BTreeMap::from([(Height(1), validators)]),
            frontier: BTreeMap::new(),
            history: Frontier::default(),
            eras,
            judgements: Judgements::default(),
            ended: BTreeMap::new(),
        })
    }

    /// The genesis.
    pub fn genesis(&self) -> &v1::Genesis {
        &self.genesis
    }

    /// The pace of blocks that all keep.
    pub fn parameters(&self) -> v1::Parameters {
        parameters_of(&self.genesis)
    }

    /// What names this network.
    pub fn genesis_id(&self) -> GenesisId {
        self.id
    }

    /// The organisation that founded it.
    pub fn founder(&self) -> MemberId {
        self.founder
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.view.present()
    }

    /// A member.
    pub fn member(&self, id: &MemberId) -> Option<&Member> {
        self.members().find(|member| member.id == *id)
    }

    /// A member, or who was one.
    pub fn member_ever(&self, id: &MemberId) -> Option<&Member> {
        self.view.members.get(id)
    }

    /// Whether this organisation was a member, and is none any more.
    pub fn member_left(&self, id: &MemberId) -> bool {
        self.member(id).is_none() && self.member_ever(id).is_some()
    }

    /// Whether nodes of this member may hold shards there: the members approved the place.
    pub fn may_stand(&self, member: &MemberId, region: &str, jurisdiction: &str) -> bool {
        self.view.may_stand(member, region, jurisdiction)
    }

    /// What was proposed to the members, the open ones first.
    pub fn proposals(&self) -> Vec<Proposal> {
        self.registry.proposals(&self.view)
    }

    /// A proposal.
    pub fn proposal(&self, id: &Digest) -> Option<Proposal> {
        self.proposals().into_iter().find(|proposal| proposal.id == *id)
    }

    /// What packs survive unless their author says otherwise, if the members decided that.
    pub fn defaults(&self) -> Option<v1::Defaults> {
        self.view.defaults
    }

    /// The member of this name.
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members().find(|member| member.name == name)
    }

    /// The nodes of members, by id, each as its latest certificate describes it; retired ones too.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.view.nodes.values().filter_map(|versions| versions.last())
    }

    /// A node.
    pub fn node(&self, id: &NodeId) -> Option<&Node> {
        self.view.node(id)
    }

    /// Whether this certificate came, whatever follows from it.
    pub fn has_certificate(&self, certificate: &v1::NodeCertificate) -> bool {
        self.registry.has_certificate(certificate)
    }

    /// The candidates of placement at a height, by id: nodes that a block up to it covers, each as it was described
    /// then, without those whose retirement one covers. All who hold the blocks up to `height` get the same.
    pub fn nodes_at(&self, height: Height) -> Vec<&Node> {
        let reached = |since: Option<Height>| since.is_some_and(|since| since <= height);
        let at = |versions: &'_ Vec<Node>| versions.iter().rposition(|node| reached(node.since));
        let nodes = self.view.nodes.values().filter_map(|versions| Some(&versions[at(versions)?]));
        nodes.filter(|node| !reached(node.retired_since)).collect()
    }

    /// A pack.
    pub fn pack(&self, id: &PackId) -> Option<&Pack> {
        self.packs.get(id)
    }

    /// All packs, by id.
    pub fn packs(&self) -> impl Iterator<Item = &Pack> {
        self.packs.iter()
    }

    /// The newest pack of this salt, and of the author that used it first.
    pub fn pack_with_salt(&self, salt: &[u8; 32]) -> Option<PackId> {
        self.packs.with_salt(salt)
    }

    /// What is known of an author's log; `None` while it is empty.
    pub fn log(&self, author: &NodeId) -> Option<Log> {
        self.logs.get(author).map(Entries::log).filter(|log| log.len > 0)
    }

    /// Who decides the next height.
    pub fn validators(&self) -> &ValidatorSet {
        self.validators_at(Height(self.height().0 + 1))
    }

    /// Who decided this height, or will, as far as is known now.
    pub fn validators_at(&self, height: Height) -> &ValidatorSet {
        let (_, set) = self.validators.range(..=height.max(Height(1))).next_back().expect("height 1 has validators");
        set
    }

    /// Recoveries so far: in the era of the tip.
    pub fn era(&self) -> u64 {
        self.eras.era()
    }

    /// The era of this height, as far as is known now.
    pub fn era_at(&self, height: Height) -> u64 {
        self.ended.range(..=height).next_back().map_or(0, |(_, (era, _))| era + 1)
    }

    /// Who may open a new era, if anybody may.
    pub fn recovery_policy(&self) -> Option<&RecoveryPolicy> {
        self.eras.policy()
    }

    /// The recovery with which these go on from the tip, for the holders to sign.
    pub fn propose_recovery(&self, validators: &ValidatorSet, time_ms: u64) -> v1::SignedRecovery {
        let recovery = v1::Recovery {
            genesis: Bytes::copy_from_slice(self.id.as_bytes()),
            era: self.era() + 1,
            height: self.height().0,
            previous: Bytes::copy_from_slice(self.tip_digest().as_bytes()),
            time_ms,
            validators: Some(validators.to_message()),
        };
        let earlier = self.eras.earlier().to_vec();
        v1::SignedRecovery { recovery: Some(recovery), earlier, ..Default::default() }
    }

    /// Whether this opens the next era, and goes on from the tip.
    pub fn is_next(&self, recovery: &v1::Recovery) -> bool {
        recovery.era == self.era() + 1 && goes_on_from(recovery, self.height(), &self.tip_digest())
    }

    /// The key a member votes with by all that is known here, whether a block covers it or not.
    pub fn voting_key(&self, member: &MemberId) -> Option<ValidatorId> {
        self.view.validators()?.of(member).map(|validator| validator.key)
    }

    /// Who decided this height in this era, or would have; `None` where that is not known.
    pub(crate) fn validators_in(&self, era: u64, height: Height) -> Option<&ValidatorSet> {
        let ended = self.ended.get(&height).filter(|(before, _)| *before == era).map(|(_, set)| set);
        ended.or_else(|| Some(self.validators_at(height)).filter(|_| era == self.era_at(height)))
    }

    /// The root that an author's log has with these leaves behind what is final of it.
    pub fn root_with(&self, author: &NodeId, leaves: &[Digest]) -> Digest {
        self.logs.get(author).map_or_else(Entries::default, Clone::clone).root_with(leaves)
    }

    /// Who was shown to have signed two things that exclude each other, the evidence, and the height of the block that
    /// covers it.
    pub fn accused(&self) -> impl Iterator<Item = (Accused, &v1::Evidence, Option<Height>)> {
        self.registry.accused()
    }

    /// Whether there is evidence against this one.
    pub fn is_accused(&self, accused: &Accused) -> bool {
        self.view.accused.contains_key(accused)
    }

    /// Every word against a holder that was not taken back, old ones too.
    pub fn condemnations(&self) -> impl Iterator<Item = &Condemned> {
        self.judgements.iter()
    }

    /// The organisations whose word against this holder counts at `now_ms`: members that vote, other than its own, whose
    /// node is not retired and condemned it within the last [`CONDEMNED_FOR_MS`].
    pub fn condemners(&self, holder: &NodeId, now_ms: u64) -> BTreeSet<MemberId> {
        let own = self.node(holder).map(|node| node.member);
        let fresh = self.judgements.against(holder).filter(|it| now_ms < it.time_ms.saturating_add(CONDEMNED_FOR_MS));
        let by = fresh.filter_map(|it| self.node(&it.by)).filter(|node| !node.retired).map(|node| node.member);
        by.filter(|member| Some(*member) != own && self.view.votes(member)).collect()
    }

    /// How many organisations have to condemn a holder until it counts for all: one more than may lie, so that an honest
    /// one is among them, and never one alone.
    pub fn condemners_needed(&self) -> usize {
        let voting = self.members().filter(|member| member.votes).count();
        CONDEMNERS_MIN.max(faulty(voting) + 1)
    }

    /// The holders that enough organisations condemn at `now_ms`: what they hold counts as lost everywhere.
    pub fn condemned(&self, now_ms: u64) -> BTreeSet<NodeId> {
        let needed = self.condemners_needed();
        let holders: BTreeSet<NodeId> = self.condemnations().map(|it| it.holder).collect();
        holders.into_iter().filter(|holder| self.condemners(holder, now_ms).len() >= needed).collect()
    }

    /// The logs that grew since the tip, ordered by author, as a block would cover them: of a log that grew by more than
    /// [`BLOCK_ENTRIES_MAX`] that many entries, and of more than [`BLOCK_LOGS_MAX`] logs that many.
    pub fn open_frontier(&self) -> Vec<v1::Frontier> {
        let grown = |(author, log): (&NodeId, &Entries)| {
            let len = log.coverable().min(log.final_len() + BLOCK_ENTRIES_MAX);
            let root = log.root_at(len).filter(|_| len > log.final_len())?;
            Some(frontier(author, len, &root))
        };
        let mut covered: Vec<_> = self.logs_in_turn().filter_map(grown).take(BLOCK_LOGS_MAX).collect();
        covered.sort_unstable_by(|one, other| one.author.cmp(&other.author));
        covered
    }

    /// All logs, beginning with another one at each height: nobody waits for ever behind those who write much.
    pub(crate) fn logs_in_turn(&self) -> impl Iterator<Item = (&NodeId, &Entries)> {
        let from = NodeId(self.tip_digest().0);
        self.logs.range(from..).chain(self.logs.range(..from))
    }

    /// Whether anything waits for a block.
    pub fn is_open(&self) -> bool {
        self.logs.values().any(|log| log.coverable() > log.final_len())
    }

    /// The height of the tip; 0 before the first block.
    pub fn height(&self) -> Height {
        self.tip().map_or(Height(0), |header| Height(header.height))
    }

    /// The latest header.
    pub fn tip(&self) -> Option<&v1::Header> {
        self.tip.as_ref().map(|tip| &tip.0)
    }

    /// A digest over everything: two nodes that hold the same entries and blocks have the same.
    pub fn digest(&self) -> Digest {
        let mut bytes = self.id.0.to_vec();
        bytes.extend(encode_view(&self.view));
        for (author, log) in &self.logs {
            bytes.extend(author.0);
            bytes.extend(log.last().0);
            for len in [log.len(), log.final_len(), log.closed.unwrap_or(u64::MAX)] {
                bytes.extend(len.to_be_bytes());
            }
            bytes.push(u8::from(log.frozen));
        }
        self.packs.encode(&mut bytes);
        self.judgements.encode(&mut bytes);
        bytes.extend(self.tip.as_ref().map_or(self.id.0, |tip| tip.1.0));
        Digest(Sha256::digest(&bytes).into())
    }

    /// Whether an entry is valid here and now. It says nothing about what its author meant by it: where it is at odds with
    /// another author's, one of both has no effect.
    ///
    /// # Errors
    /// [`EntryError`]; some only say that something else must arrive first ([`EntryError::is_waiting`]).
    pub fn check(&self, signed: &v1::SignedEntry) -> Result<Checked, EntryError> {
        self.check_from(Source::Anybody, signed)
    }

    /// As [`State::check`], of an entry that was checked before it was stored, and whose bytes the store vouches for: its
    /// signature is not verified again.
    ///
    /// # Errors
    /// As [`State::check`], but for the signature.
    pub fn check_stored(&self, signed: &v1::SignedEntry) -> Result<Checked, EntryError> {
        self.check_from(Source::Store, signed)
    }

    fn check_from(&self, source: Source, signed: &v1::SignedEntry) -> Result<Checked, EntryError> {
        let entry: v1::Entry = decode(&signed.entry)?;
        let author = NodeId::try_from(entry.author.as_ref())
            .map_err(|_| EntryError::AuthorLength { got: entry.author.len() })?;
        let (sequence, digest) = (entry.sequence, entry_digest(signed));
        if !self.registry.mentions_node(&author) {
            return Err(EntryError::UnknownAuthor { author });
        }
        let log = self.logs.get(&author);
        let here = log.map_or(At::Beyond, |log| log.at(sequence));
        if here == At::Open(digest) {
            return Err(EntryError::Known { author, sequence });
        }
        let unsigned = || !signed_by(&entry.author, &message(&entry.author, sequence, &digest), &signed.signature);
        if source == Source::Anybody && unsigned() {
            return Err(EntryError::BadSignature { author, sequence });
        }
        if here == At::Final {
            return Err(EntryError::Final { author, sequence });
        }
        if let At::Open(have) = here {
            return Err(EntryError::Forked { author, sequence, have, got: digest });
        }
        if log.is_some_and(|log| log.frozen && log.closed.is_some()) {
            return Err(EntryError::Frozen { author });
        }
        let have = log.map_or(0, Entries::len);
        if sequence != have {
            return Err(EntryError::Gap { author, have, got: sequence });
        }
        let last = log.map_or(Digest([0; 32]), Entries::last);
        if entry.previous != last.0.as_slice() {
            let got = HEXLOWER.encode(&entry.previous);
            return Err(EntryError::WrongPrevious { author, sequence, have: last, got });
        }
        self.check_operation(&author, &entry)?;
        Ok(Checked { author, digest, leaf: entry_leaf(signed), entry })
    }

    /// Whether an own entry should be written: valid, and not at odds with anything known here. An entry that
    /// [`State::check`] takes and this refuses would stand in the log without effect.
    ///
    /// # Errors
    /// [`EntryError`].
    pub fn check_own(&self, signed: &v1::SignedEntry) -> Result<Checked, EntryError> {
        let checked = self.check(signed)?;
        if self.is_accused(&Accused::Author(checked.author)) {
            return Err(EntryError::Frozen { author: checked.author });
        }
        if self.node(&checked.author).is_some_and(|node| node.retired) {
            return Err(EntryError::NodeRetired { node: checked.author });
        }
        match &checked.entry.operation {
            Some(Operation::Admit(admission)) => self.check_own_admission(admission)?,
            Some(Operation::AddNode(certificate)) => self.check_own_certificate(certificate)?,
            Some(Operation::RetireNode(retirement)) => self.check_own_retirement(retirement)?,
            Some(Operation::PlaceShard(place)) => self.check_own_place(&checked.author, place)?,
            Some(Operation::Propose(proposal)) => self.check_own_proposal(proposal)?,
            Some(Operation::Approve(approval)) => self.check_own_approval(&checked.author, approval)?,
            Some(Operation::Accuse(evidence)) => self.check_own_evidence(evidence)?,
            Some(Operation::Condemn(v1::Condemnation { node, .. }) | Operation::Absolve(v1::Absolution { node })) => {
                self.check_own_judgement(node)?;
            }
            _ => {}
        }
        Ok(checked)
    }

    /// Takes a checked entry.
    ///
    /// # Panics
    /// If another entry of its author was applied since it was checked.
    pub fn apply(&mut self, checked: Checked) -> Applied {
        let Checked { author, digest, leaf, entry } = checked;
        let log = self.logs.entry(author).or_default();
        assert_eq!(log.len(), entry.sequence, "an entry is applied to the state it was checked against");
        log.push(digest, leaf);
        let claim = Claim { author, sequence: Sequence(entry.sequence) };
        let applied = self.apply_operation(claim, entry);
        if applied.changes_members() {
            self.view = self.registry.view(&Covered::OrNot);
        }
        if let Applied::Accused(Accused::Author(author)) = applied {
            self.logs.entry(author).or_default().frozen = true;
        }
        applied
    }

    // What block.rs, light.rs and proof.rs need.

    pub(crate) fn tip_digest(&self) -> Digest {
        self.tip.as_ref().map_or(Digest(self.id.0), |tip| tip.1)
    }

    pub(crate) fn entries(&self, author: &NodeId) -> Option<&Entries> {
        self.logs.get(author)
    }

    /// The frontiers of all logs, by author, as the tip commits to them.
    pub(crate) fn frontiers(&self) -> &BTreeMap<Vec<u8>, Digest> {
        &self.frontier
    }

    /// The root over all headers up to the tip.
    pub(crate) fn history_root(&self) -> Digest {
        self.history.root()
    }

    /// How much of every log is final once these grew.
    pub(crate) fn lens_after(&self, grown: &BTreeMap<NodeId, u64>) -> BTreeMap<NodeId, u64> {
        let settled = self.logs.iter().map(|(author, log)| (*author, log.final_len())).filter(|(_, len)| *len > 0);
        settled.chain(grown.iter().map(|(author, len)| (*author, *len))).collect()
    }

    pub(crate) fn frontier_root_after(&self, grown: &[v1::Frontier]) -> Digest {
        let mut frontier = self.frontier.clone();
        frontier.extend(grown.iter().map(|item| (item.author.to_vec(), frontier_value(item))));
        map_root(&frontier)
    }

    /// What follows from a block at this height with these lengths of all logs: the state root and who decides next.
    pub(crate) fn after(
        &self,
        height: Height,
        lens: &BTreeMap<NodeId, u64>,
        opened: Option<&Opened>,
    ) -> (Digest, ValidatorSet) {
        let recovered = opened.map(|opened| Recovered::of(height, opened));
        let view = self.registry.view_with(&Covered::By(height, lens), recovered.as_ref());
        // Nobody left to vote would end the history: then the last ones go on.
        let last = || opened.map_or(self.validators(), |opened| &opened.validators).clone();
        (view.root(), view.validators().unwrap_or_else(last))
    }

    fn open_era(&mut self, height: Height, opened: Opened) {
        self.registry.recover(Recovered::of(height, &opened));
        self.ended.insert(height, (self.era(), self.validators().clone()));
        self.eras.push(&opened.signed.recovery.unwrap_or_default());
        self.validators.insert(height, opened.validators);
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.registry
    }

    pub(crate) fn eras(&self) -> &Eras {
        &self.eras
    }

    pub(crate) fn cover(&mut self, checked: CheckedBlock) {
        let CheckedBlock { header, digest, frontier: grown, next, opened } = checked;
        let (height, opens) = (Height(header.height), opened.is_some());
        if let Some(opened) = opened {
            self.open_era(height, opened);
        }
        let lens: BTreeMap<NodeId, u64> = grown.iter().filter_map(lens).collect();
        let all = self.lens_after(&lens);
        self.history.push(leaf_hash(&encode(&header)));
        self.tip = Some((header, digest));
        if *self.validators() != next {
            self.validators.insert(Height(height.0 + 1), next);
        }
        self.frontier.extend(grown.iter().map(|item| (item.author.to_vec(), frontier_value(item))));
        for (author, len) in lens {
            let covered = self.logs.entry(author).or_default().cover(len);
            covered.iter().for_each(|pack| self.packs.cover(pack, &author, height));
        }
        if self.registry.cover(height, &all) || opens {
            self.view = self.registry.view(&Covered::OrNot);
            // Only what blocks cover decides, so that all end it at the same entry.
            for author in self.registry.view(&Covered::By(height, &all)).ended() {
                self.logs.entry(author).or_default().closed.get_or_insert(all.get(&author).copied().unwrap_or(0));
            }
        }
    }
}

/// No block sooner than a second after the one before, and one at least every three minutes.
pub const PARAMETERS_DEFAULT: v1::Parameters = v1::Parameters { block_interval_ms: 1_000, heartbeat_ms: 180_000 };

fn parameters_of(genesis: &v1::Genesis) -> v1::Parameters {
    genesis.parameters.unwrap_or(PARAMETERS_DEFAULT)
}

fn check_parameters(parameters: &v1::Parameters) -> Result<(), GenesisError> {
    let within = |what, got, min: u64, max: u64| {
        if (min..=max).contains(&got) { Ok(()) } else { Err(GenesisError::Parameter { what, got, min, max }) }
    };
    within("block interval", parameters.block_interval_ms, 100, 60_000)?;
    within("heartbeat", parameters.heartbeat_ms, parameters.block_interval_ms, 24 * 3_600_000)
}

/// The author and length that a frontier tells.
pub(crate) fn lens(item: &v1::Frontier) -> Option<(NodeId, u64)> {
    Some((NodeId::try_from(item.author.as_ref()).ok()?, item.len))
}

#[cfg(test)]
mod tests;
