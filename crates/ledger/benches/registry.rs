//! What a block costs where many members came, one in each block, and where members decided much before: making one computes
//! who the members are from everything that was ever claimed.

use bithealth_ledger::{
    RECIPIENT_LEN, State, admission, certificate, entry_digest, invite, member_record, node_certificate, sign,
    vote_message,
};
use bithealth_proto::{digest, v1, v1::entry::Operation, v1::proposal::Change};
use bithealth_types::{Digest, Height, MemberId, ValidatorId};
use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ed25519_dalek::{Signer as _, SigningKey};

const NOW: u64 = 1_800_000_000_000;
const FOUNDER: u32 = 1;
const NODE: u32 = 2;
const VALIDATOR: u32 = 3;
const FIRST_MEMBER: u32 = 10;

fn key(seed: u32) -> SigningKey {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&seed.to_be_bytes());
    SigningKey::from_bytes(&bytes)
}

fn public(seed: u32) -> [u8; 32] {
    key(seed).verifying_key().to_bytes()
}

fn bytes(array: [u8; 32]) -> Bytes {
    Bytes::copy_from_slice(&array)
}

fn by(seed: u32) -> impl Fn(&[u8]) -> [u8; 64] {
    let key = key(seed);
    move |message| key.sign(message).to_bytes()
}

fn record(seed: u32) -> v1::MemberRecord {
    member_record(&MemberId(public(seed)), &format!("clinic {seed}"), &[0; RECIPIENT_LEN], by(seed))
}

/// A network whose founder's node writes everything and decides every block.
struct Network {
    state: State,
    sequence: u64,
    previous: Digest,
}

impl Network {
    fn new() -> Self {
        let unsigned = v1::NodeCertificate {
            node: bytes(public(NODE)),
            member: bytes(public(FOUNDER)),
            region: "region".into(),
            jurisdiction: "DE".into(),
            validator: bytes(public(VALIDATOR)),
            ..Default::default()
        };
        let genesis = v1::Genesis {
            name: "bench".into(),
            salt: bytes([9; 32]),
            founder: Some(record(FOUNDER)),
            founder_node: Some(node_certificate(unsigned, by(FOUNDER))),
            ..Default::default()
        };
        let state = State::from_genesis(genesis).expect("a genesis");
        Self { state, sequence: 0, previous: Digest([0; 32]) }
    }

    fn write(&mut self, operation: Operation) {
        let entry = v1::Entry {
            author: bytes(public(NODE)),
            sequence: self.sequence,
            previous: bytes(self.previous.0),
            time_ms: NOW,
            operation: Some(operation),
        };
        let signed = sign(by(NODE), entry);
        (self.sequence, self.previous) = (self.sequence + 1, entry_digest(&signed));
        let checked = self.state.check(&signed).expect("the next entry");
        self.state.apply(checked);
    }

    fn decide(&mut self) {
        let (header, body) = self.state.next_block(&ValidatorId(public(VALIDATOR)), NOW, None);
        let (height, value, kind) = (Height(header.height), digest(&header), v1::VoteKind::Precommit);
        let message = vote_message(&self.state.genesis_id(), height, 0, kind, Some(&value));
        let vote = (ValidatorId(public(VALIDATOR)), by(VALIDATOR)(&message));
        let certificate = certificate(&value, 0, self.state.validators(), &[vote]);
        let block = v1::Block { header: Some(header), certificate: Some(certificate), body: Some(body) };
        let checked = self.state.check_block(&block).expect("the next block");
        self.state.apply_block(checked);
    }

    /// While the founder is alone it is the quorum: each passes with its block.
    fn decisions(&mut self, count: u64) {
        for number in 0..count {
            let change = Some(Change::Defaults(v1::Defaults { survive_regions: 1, survive_nodes: 1 }));
            self.write(Operation::Propose(v1::Proposal { time_ms: NOW + number, change }));
            self.decide();
        }
    }

    /// All are invited by one block, and come one in each.
    fn members(&mut self, count: u32) {
        let invited = |seed: u32| {
            let unsigned = v1::Invite {
                genesis: bytes(self.state.genesis_id().0),
                issuer: bytes(public(FOUNDER)),
                key: bytes(public(1_000_000 + seed)),
                expires_ms: NOW + 1000,
                name: format!("clinic {seed}"),
                region: "region".into(),
                jurisdiction: "DE".into(),
                ..Default::default()
            };
            invite(unsigned, by(FOUNDER))
        };
        let invites: Vec<(u32, v1::Invite)> =
            (FIRST_MEMBER..FIRST_MEMBER + count).map(|seed| (seed, invited(seed))).collect();
        for (_, invite) in &invites {
            let change = Some(Change::Invite(invite.clone()));
            self.write(Operation::Propose(v1::Proposal { time_ms: 0, change }));
        }
        self.decide();
        for (seed, invite) in invites {
            self.write(Operation::Admit(admission(invite, record(seed), by(1_000_000 + seed))));
            self.decide();
        }
        assert_eq!(self.state.members().count(), count as usize + 1);
    }
}

fn blocks(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("registry");
    group.sample_size(10);
    let mut measured = |what: &str, count: u64, network: Network| {
        let producer = ValidatorId(public(VALIDATOR));
        group.bench_function(BenchmarkId::new(what, count), |bencher| {
            bencher.iter(|| network.state.next_block(&producer, NOW, None));
        });
    };
    for count in [50, 100, 200] {
        let mut network = Network::new();
        network.members(count);
        measured("a_block_after_members", count.into(), network);
    }
    for count in [250, 500, 1000] {
        let mut network = Network::new();
        network.decisions(count);
        measured("a_block_after_decisions", count, network);
    }
}

criterion_group!(benches, blocks);
criterion_main!(benches);
