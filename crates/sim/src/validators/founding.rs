//! A network of organisations that all vote, and what made it.

use bithealth_ledger::{
    NoteAlgorithm, RECIPIENT_LEN, SignedNote, State, Validator, ValidatorSet, VerifierKey, admission, certificate,
    cosign, entry_digest, invite, member_record, node_certificate, note_text, recovery_origin, sign, sign_note,
    vote_message,
};
use bithealth_proto::{digest, v1, v1::entry::Operation};
use bithealth_types::{Digest, GenesisId, Height, MemberId, NodeId, ValidatorId};
use bytes::Bytes;
use ed25519_dalek::{Signer as _, SigningKey};

/// When it was founded, milliseconds since 1970.
pub(crate) const FOUNDED_MS: u64 = 1_800_000_000_000;

/// What each key is for.
#[derive(Clone, Copy)]
enum Use {
    Organisation = 1,
    Node = 2,
    Validator = 3,
    Invite = 4,
    Holder = 5,
    Witness = 6,
}

/// A network of `count` organisations with a node each, that all decide from height 2 on.
#[derive(Clone)]
pub struct Founding {
    /// Its genesis.
    pub genesis: v1::Genesis,
    /// The founder's entries that brought in the others.
    pub entries: Vec<v1::SignedEntry>,
    /// The block, decided by the founder alone, that covers them.
    pub block: v1::Block,
    count: usize,
}

impl Founding {
    /// Founds it.
    pub fn new(count: usize) -> Self {
        let genesis = v1::Genesis {
            name: "simulated".into(),
            time_ms: FOUNDED_MS - 1000,
            salt: Bytes::from_static(&[9; 32]),
            founder: Some(record(0)),
            founder_node: Some(node(0)),
            recovery: Some(policy()),
            parameters: None,
        };
        let mut state = State::from_genesis(genesis.clone()).expect("the genesis is sound");
        let mut entries = Vec::new();
        // While it is alone it is the quorum that approves them.
        for org in 1..count {
            let change = Some(v1::proposal::Change::Invite(invited(genesis.id(), org)));
            let operation = Operation::Propose(v1::Proposal { time_ms: 0, change });
            entries.push(write(&mut state, 0, operation, FOUNDED_MS));
        }
        for org in 1..count {
            for operation in [Operation::Admit(admit(genesis.id(), org)), Operation::AddNode(node(org))] {
                entries.push(write(&mut state, 0, operation, FOUNDED_MS));
            }
        }
        let (header, body) = state.next_block(&validator_id(0), FOUNDED_MS, None);
        let value = digest(&header);
        let message = vote_message(&genesis.id(), Height(1), 0, v1::VoteKind::Precommit, Some(&value));
        let votes = [(validator_id(0), by(Use::Validator, 0)(&message))];
        let certificate = certificate(&value, 0, state.validators(), &votes);
        let block = v1::Block { header: Some(header), certificate: Some(certificate), body: Some(body) };
        Self { genesis, entries, block, count }
    }

    /// The state all begin with.
    pub fn state(&self) -> State {
        let mut state = State::from_genesis(self.genesis.clone()).expect("the genesis is sound");
        for entry in &self.entries {
            let checked = state.check(entry).expect("the founder's entries are sound");
            state.apply(checked);
        }
        let checked = state.check_block(&self.block).expect("the founder's block is sound");
        state.apply_block(checked);
        state
    }

    /// Organisations.
    pub fn count(&self) -> usize {
        self.count
    }
}

/// What a witness of recoveries waits between its cosignatures.
pub const RECOVERY_DELAY_MS: u64 = 60_000;

/// One holder, and one witness that sees a minute pass.
fn policy() -> v1::RecoveryPolicy {
    let keys = vec![Bytes::copy_from_slice(&public(Use::Holder, 0))];
    let witnesses = vec![witness().to_string()];
    v1::RecoveryPolicy { threshold: 1, keys, delay_ms: RECOVERY_DELAY_MS, witnesses, cosignatures: 1 }
}

fn witness() -> VerifierKey {
    VerifierKey::new("witness", NoteAlgorithm::CosignatureV1, public(Use::Witness, 0)).expect("it is a name and a key")
}

/// The recovery with which these go on from the tip of a state, signed by the holder.
pub(crate) fn recovery(state: &State, orgs: &[usize], time_ms: u64) -> v1::SignedRecovery {
    let member = |org: &usize| MemberId(public(Use::Organisation, *org));
    let validator = |org: &usize| Validator { member: member(org), key: validator_id(*org) };
    let set = ValidatorSet::new(orgs.iter().map(validator).collect()).expect("organisations differ");
    let mut signed = state.propose_recovery(&set, time_ms);
    let text = note_text(&signed).expect("it is whole");
    let name = recovery_origin(&state.genesis_id());
    let key = VerifierKey::new(&name, NoteAlgorithm::Ed25519, public(Use::Holder, 0)).expect("it is a name and a key");
    let note = sign_note(&text, &key, by(Use::Holder, 0)).expect("it is the text of a note");
    take(state, &mut signed, &note);
    signed
}

/// The witness cosigns it now.
pub(crate) fn cosign_recovery(state: &State, signed: &mut v1::SignedRecovery, time_s: u64) {
    let policy = state.recovery_policy().expect("the genesis has one");
    let (submission, _) = policy.submission(signed).expect("the holder signed it");
    let mut note = submission.note;
    let line = cosign(&note, &witness(), time_s, by(Use::Witness, 0)).expect("it is a checkpoint");
    note.add(line).expect("there is room for it");
    take(state, signed, &note);
}

fn take(state: &State, signed: &mut v1::SignedRecovery, note: &SignedNote) {
    let policy = state.recovery_policy().expect("the genesis has one");
    policy.take_note(signed, note).expect("it is signed by those of the policy");
}

/// The node of an organisation writes an entry.
pub(crate) fn write(state: &mut State, org: usize, operation: Operation, time_ms: u64) -> v1::SignedEntry {
    let author = NodeId(public(Use::Node, org));
    let log = state.log(&author);
    let entry = v1::Entry {
        author: Bytes::copy_from_slice(author.as_bytes()),
        sequence: log.map_or(0, |log| log.len),
        previous: Bytes::copy_from_slice(log.map_or(Digest([0; 32]), |log| log.last).as_bytes()),
        time_ms,
        operation: Some(operation),
    };
    let signed = sign(by(Use::Node, org), entry);
    let checked = state.check_own(&signed).expect("an own entry is sound");
    assert_eq!(checked.digest(), entry_digest(&signed));
    state.apply(checked);
    signed
}

/// The key an organisation votes with.
pub(crate) fn validator_id(org: usize) -> ValidatorId {
    ValidatorId(public(Use::Validator, org))
}

/// Signs with it.
pub(crate) fn validator_sign(org: usize) -> impl Fn(&[u8]) -> [u8; 64] {
    by(Use::Validator, org)
}

fn key(what: Use, org: usize) -> SigningKey {
    let mut seed = [what as u8; 32];
    seed[..8].copy_from_slice(&(org as u64 + 1).to_be_bytes());
    SigningKey::from_bytes(&seed)
}

fn public(what: Use, org: usize) -> [u8; 32] {
    key(what, org).verifying_key().to_bytes()
}

fn by(what: Use, org: usize) -> impl Fn(&[u8]) -> [u8; 64] {
    let key = key(what, org);
    move |message| key.sign(message).to_bytes()
}

fn record(org: usize) -> v1::MemberRecord {
    let member = MemberId(public(Use::Organisation, org));
    member_record(&member, &format!("organisation {org}"), &[0; RECIPIENT_LEN], by(Use::Organisation, org))
}

fn node(org: usize) -> v1::NodeCertificate {
    let unsigned = v1::NodeCertificate {
        node: Bytes::copy_from_slice(&public(Use::Node, org)),
        member: Bytes::copy_from_slice(&public(Use::Organisation, org)),
        region: format!("region {}", org % 3),
        jurisdiction: "EU".into(),
        capacity: 1 << 30,
        time_ms: FOUNDED_MS,
        signature: Bytes::new(),
        validator: Bytes::copy_from_slice(&public(Use::Validator, org)),
        signer: Bytes::new(),
    };
    node_certificate(unsigned, by(Use::Organisation, org))
}

fn invited(genesis: GenesisId, org: usize) -> v1::Invite {
    let unsigned = v1::Invite {
        genesis: Bytes::copy_from_slice(genesis.as_bytes()),
        issuer: Bytes::copy_from_slice(&public(Use::Organisation, 0)),
        key: Bytes::copy_from_slice(&public(Use::Invite, org)),
        expires_ms: FOUNDED_MS + 1000,
        signature: Bytes::new(),
        name: format!("organisation {org}"),
        region: format!("region {}", org % 3),
        jurisdiction: "EU".into(),
        signer: Bytes::new(),
    };
    invite(unsigned, by(Use::Organisation, 0))
}

fn admit(genesis: GenesisId, org: usize) -> v1::Admission {
    admission(invited(genesis, org), record(org), by(Use::Invite, org))
}
