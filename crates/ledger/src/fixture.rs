//! Organisations, nodes and their logs for tests. Keys are made from small numbers.

mod history;

pub(crate) use history::{FILE, History, SALT, history};

use bithealth_proto::v1::{self, entry::Operation};
use bithealth_types::{Digest, Height, MemberId, NodeId, ValidatorId};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

use crate::{
    Applied, EntryError, NoteAlgorithm, RECIPIENT_LEN, State, ValidatorSet, VerifierKey, admission, certificate,
    entry_digest, era_domain, invite, member_keys, member_record, node_certificate, retire_node, sign, vote_message,
};

/// When everything happens.
pub(crate) const NOW: u64 = 1_800_000_000_000;

pub(crate) fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

pub(crate) fn public(seed: u8) -> [u8; 32] {
    key(seed).verifying_key().to_bytes()
}

pub(crate) fn by(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| key(seed).sign(message).to_bytes()
}

pub(crate) fn bytes(array: [u8; 32]) -> Bytes {
    Bytes::copy_from_slice(&array)
}

/// The key of an organisation's first node.
pub(crate) fn node_of(org: u8) -> u8 {
    100 + org
}

/// The key an organisation votes with.
pub(crate) fn validator_of(org: u8) -> u8 {
    150 + org
}

pub(crate) fn member(org: u8) -> MemberId {
    MemberId(public(org))
}

pub(crate) fn node(org: u8) -> NodeId {
    NodeId(public(node_of(org)))
}

pub(crate) fn record(org: u8, name: &str) -> v1::MemberRecord {
    member_record(&member(org), name, &[org; RECIPIENT_LEN].map(|byte| byte & 0x33), by(org))
}

/// The certificate of the node with this key.
pub(crate) fn certificate_of(org: u8, key: u8, capacity: u64) -> v1::NodeCertificate {
    let unsigned = v1::NodeCertificate {
        node: bytes(public(key)),
        member: bytes(public(org)),
        region: format!("region-{org}"),
        jurisdiction: "DE".into(),
        capacity,
        time_ms: NOW + capacity,
        signature: Bytes::new(),
        validator: bytes(public(validator_of(org))),
        signer: Bytes::new(),
    };
    node_certificate(unsigned, by(org))
}

pub(crate) fn node_certificate_of(org: u8) -> v1::NodeCertificate {
    certificate_of(org, node_of(org), 1 << 30)
}

/// Organisation 1 founds; its node has key 101.
pub(crate) fn genesis() -> v1::Genesis {
    v1::Genesis {
        name: "test".into(),
        time_ms: NOW - 1000,
        salt: bytes([9; 32]),
        founder: Some(record(1, "one")),
        founder_node: Some(node_certificate_of(1)),
        recovery: Some(policy()),
        parameters: None,
    }
}

/// Two of three holders and one of two witnesses, with an hour in between.
pub(crate) fn policy() -> v1::RecoveryPolicy {
    let mut keys: Vec<Bytes> = [240, 241, 242].map(|seed| bytes(public(seed))).into();
    keys.sort();
    let mut witnesses: Vec<String> = [245, 246].map(|seed| witness(seed).to_string()).into();
    witnesses.sort();
    v1::RecoveryPolicy { threshold: 2, keys, delay_ms: 3_600_000, witnesses, cosignatures: 1 }
}

pub(crate) fn witness(seed: u8) -> VerifierKey {
    VerifierKey::new(&format!("witness-{seed}"), NoteAlgorithm::CosignatureV1, public(seed)).unwrap()
}

/// A network of organisations 1 to `count`, each with a node, all in block 1; and their authors, the first at 0.
pub(crate) fn network(count: u8) -> (State, Vec<Author>) {
    let mut state = state();
    let mut authors: Vec<Author> = (1..=count).map(Author::of).collect();
    for org in 2..=count {
        authors[0].take(&mut state, admit(1, 200 + org, org, &format!("clinic {org}")));
        authors[0].take(&mut state, add_node(org));
    }
    authors[0].take(&mut state, commit(1));
    finalise(&mut state);
    (state, authors)
}

pub(crate) fn state() -> State {
    State::from_genesis(genesis()).unwrap()
}

pub(crate) fn invited(issuer: u8, invite_key: u8, org: u8, name: &str) -> v1::Invite {
    let unsigned = v1::Invite {
        genesis: bytes(genesis().id().0),
        issuer: bytes(public(issuer)),
        key: bytes(public(invite_key)),
        expires_ms: NOW + 1000,
        signature: Bytes::new(),
        name: name.into(),
        region: format!("region-{org}"),
        jurisdiction: "DE".into(),
        signer: Bytes::new(),
    };
    invite(unsigned, by(issuer))
}

pub(crate) fn admit(issuer: u8, invite_key: u8, org: u8, name: &str) -> Operation {
    Operation::Admit(admission(invited(issuer, invite_key, org, name), record(org, name), by(invite_key)))
}

/// An invite put to the vote.
pub(crate) fn propose_invite(issuer: u8, invite_key: u8, org: u8, name: &str) -> v1::Proposal {
    let invite = invited(issuer, invite_key, org, name);
    v1::Proposal { time_ms: 0, change: Some(v1::proposal::Change::Invite(invite)) }
}

pub(crate) fn approve(proposal: &v1::Proposal) -> Operation {
    Operation::Approve(v1::Approval { proposal: bytes(bithealth_proto::digest(proposal).0) })
}

pub(crate) fn add_node(org: u8) -> Operation {
    Operation::AddNode(node_certificate_of(org))
}

/// The keys that organisation `org` goes on with: those made from `seed`.
pub(crate) fn keys_of(org: u8, seed: u8) -> v1::MemberKeys {
    let recipient = Bytes::from_iter([seed; RECIPIENT_LEN].map(|byte| byte & 0x33));
    let unsigned =
        v1::MemberKeys { member: bytes(public(org)), key: bytes(public(seed)), recipient, ..Default::default() };
    member_keys(unsigned, by(seed))
}

/// The same node's certificate, signed with the key made from `seed`, at another time.
pub(crate) fn certificate_by(org: u8, seed: u8, time_ms: u64) -> v1::NodeCertificate {
    let signer = crate::signer(&member(org), &public(seed));
    node_certificate(v1::NodeCertificate { signer, time_ms, ..node_certificate_of(org) }, by(seed))
}

/// What organisation `org` says of the node of organisation `of`, unsigned.
pub(crate) fn retirement(org: u8, of: u8) -> v1::RetireNode {
    v1::RetireNode { node: bytes(public(node_of(of))), member: bytes(public(org)), time_ms: NOW, ..Default::default() }
}

pub(crate) fn retire(org: u8, of: u8) -> Operation {
    Operation::RetireNode(retire_node(retirement(org, of), by(org)))
}

/// 2-of-3, salted with this number.
pub(crate) fn pack(salt: u8) -> v1::PackCommit {
    v1::PackCommit {
        pack: Some(v1::PackDescriptor {
            salt: bytes([salt; 32]),
            len: 300_000,
            k: 2,
            n: 3,
            roots: vec![bytes([1; 32]), bytes([2; 32]), bytes([3; 32])],
            catalog_len: 900,
        }),
        height: 0,
        exceptions: vec![],
        heads_root: bytes([4; 32]),
        wraps: vec![Bytes::from_static(&[5; 1168])],
        policy: Some(v1::Policy::default()),
    }
}

pub(crate) fn commit(salt: u8) -> Operation {
    Operation::CommitPack(pack(salt))
}

pub(crate) fn id_of(salt: u8) -> bithealth_types::PackId {
    pack(salt).pack.unwrap().id()
}

pub(crate) fn place(salt: u8, shard: u32, org: u8) -> Operation {
    Operation::PlaceShard(v1::PlaceShard { pack: bytes(id_of(salt).0), shard, node: bytes(node(org).0) })
}

pub(crate) fn gather(salt: u8, into: u8) -> Operation {
    Operation::RetirePack(v1::RetirePack { pack: bytes(id_of(salt).0), replaced_by: bytes(id_of(into).0) })
}

/// The author of a log.
#[derive(Clone)]
pub(crate) struct Author {
    key: u8,
    sequence: u64,
    previous: Digest,
    pub(crate) time_ms: u64,
}

impl Author {
    /// The first node of an organisation.
    pub(crate) fn of(org: u8) -> Self {
        Self::with_key(node_of(org))
    }

    pub(crate) fn with_key(key: u8) -> Self {
        Self { key, sequence: 0, previous: Digest([0; 32]), time_ms: NOW }
    }

    pub(crate) fn entry(&self, operation: Operation) -> v1::Entry {
        v1::Entry {
            author: bytes(public(self.key)),
            sequence: self.sequence,
            previous: bytes(self.previous.0),
            time_ms: self.time_ms,
            operation: Some(operation),
        }
    }

    pub(crate) fn write(&mut self, operation: Operation) -> v1::SignedEntry {
        let signed = sign(by(self.key), self.entry(operation));
        self.sequence += 1;
        self.previous = entry_digest(&signed);
        signed
    }

    /// What `state` says to this entry, which is not written.
    pub(crate) fn refused(&self, state: &State, operation: Operation) -> EntryError {
        state.check(&sign(by(self.key), self.entry(operation))).unwrap_err()
    }

    pub(crate) fn refused_own(&self, state: &State, operation: Operation) -> EntryError {
        let signed = sign(by(self.key), self.entry(operation));
        state.check(&signed).expect("only refused as an own entry");
        state.check_own(&signed).unwrap_err()
    }

    /// Writes it and lets `state` take it.
    pub(crate) fn take(&mut self, state: &mut State, operation: Operation) -> Applied {
        let signed = self.write(operation);
        apply(state, &signed)
    }
}

pub(crate) fn apply(state: &mut State, signed: &v1::SignedEntry) -> Applied {
    let checked = state.check(signed).unwrap();
    state.apply(checked)
}

/// A state with organisations 1, 2 and 3, each with a node, all written by 1; and the author 1.
pub(crate) fn three() -> (State, Author) {
    let (mut state, mut one) = (state(), Author::of(1));
    for (org, name) in [(2, "two"), (3, "three")] {
        one.take(&mut state, admit(1, 200 + org, org, name));
        one.take(&mut state, add_node(org));
    }
    (state, one)
}

/// The next block, certified by all who decide it; `None` where there is nothing to cover.
pub(crate) fn next_block(state: &State, now_ms: u64) -> Option<v1::Block> {
    let producer = state.validators().get(0)?.key;
    let (header, body) = state.next_block(&producer, now_ms, None);
    state.is_open().then(|| certified(state.validators(), header, body))
}

/// Certified by all of these, who are organisations 1 to 99.
pub(crate) fn certified(validators: &ValidatorSet, header: v1::Header, body: v1::Body) -> v1::Block {
    let digest = bithealth_proto::digest(&header);
    let domain = era_domain(&genesis().id(), header.era);
    let message = vote_message(&domain, Height(header.height), 0, v1::VoteKind::Precommit, Some(&digest));
    let seeds = (1..100).map(validator_of).map(|seed| (ValidatorId(public(seed)), seed));
    let votes: Vec<_> = seeds
        .filter(|(key, _)| validators.position(key).is_some())
        .map(|(key, seed)| (key, by(seed)(&message)))
        .collect();
    let certificate = certificate(&digest, 0, validators, &votes);
    v1::Block { header: Some(header), certificate: Some(certificate), body: Some(body) }
}

/// Lets `state` take the next block.
pub(crate) fn finalise(state: &mut State) -> v1::Block {
    finalise_at(state, NOW)
}

pub(crate) fn finalise_at(state: &mut State, now_ms: u64) -> v1::Block {
    let block = next_block(state, now_ms).unwrap();
    let checked = state.check_block(&block).unwrap();
    state.apply_block(checked);
    block
}
