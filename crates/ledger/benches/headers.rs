//! Headers per second of following a history by its headers alone, decided by nine validators: with the votes of a quorum,
//! which is what nodes put into a certificate, and with those of all.
//!
//! `BITHEALTH_HEADERS=100000` follows so many once instead, with the votes of a quorum, and prints what each tenth of them
//! took: how it grows.

use std::time::{Duration, Instant};

use bithealth_ledger::{
    Light, RECIPIENT_LEN, TIME_UNCERTAINTY_MS, Validator, ValidatorSet, certificate, member_record, node_certificate,
    vote_message,
};
use bithealth_merkle::{Frontier, leaf_hash};
use bithealth_proto::{digest, encode, v1};
use bithealth_types::{Digest, GenesisId, Height, MemberId, ValidatorId};
use bytes::Bytes;
use criterion::{BatchSize, Criterion, Throughput, criterion_group};
use ed25519_dalek::{Signer as _, SigningKey};

const VALIDATORS: u8 = 9;
const QUORUM: u8 = 6;
const HEADERS: u64 = 256;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> [u8; 32] {
    key(seed).verifying_key().to_bytes()
}

fn bytes(array: [u8; 32]) -> Bytes {
    Bytes::copy_from_slice(&array)
}

/// The first `count` validators: 1 is the founder.
fn validators(count: u8) -> ValidatorSet {
    let validator = |seed| Validator { member: MemberId(public(seed)), key: ValidatorId(public(100 + seed)) };
    ValidatorSet::new((1..=count).map(validator).collect()).expect("each is another")
}

fn genesis() -> v1::Genesis {
    let by_founder = |message: &[u8]| key(1).sign(message).to_bytes();
    let unsigned = v1::NodeCertificate {
        node: bytes(public(200)),
        member: bytes(public(1)),
        region: "region".into(),
        jurisdiction: "DE".into(),
        validator: bytes(public(101)),
        ..Default::default()
    };
    v1::Genesis {
        name: "bench".into(),
        salt: bytes([9; 32]),
        founder: Some(member_record(&MemberId(public(1)), "one", &[0; RECIPIENT_LEN], by_founder)),
        founder_node: Some(node_certificate(unsigned, by_founder)),
        ..Default::default()
    }
}

/// Makes header after header.
struct Chain {
    genesis: GenesisId,
    recovery: Digest,
    previous: Digest,
    history: Frontier,
}

impl Chain {
    fn next(&mut self, deciding: u8, next: u8, voting: u8) -> v1::SignedHeader {
        let (now, then) = (validators(deciding), validators(next));
        let header = v1::Header {
            genesis: bytes(self.genesis.0),
            height: self.history.len() + 1,
            previous: bytes(self.previous.0),
            time_ms: 1_800_000_000_000,
            uncertainty_ms: TIME_UNCERTAINTY_MS,
            frontier_root: bytes([1; 32]),
            state_root: bytes([2; 32]),
            history_root: bytes(self.history.root().0),
            validators: bytes(now.digest().0),
            next_validators: bytes(then.digest().0),
            recovery: bytes(self.recovery.0),
            era: 0,
            producer: bytes(public(101)),
        };
        self.previous = digest(&header);
        self.history.push(leaf_hash(&encode(&header)));
        let (height, kind) = (Height(header.height), v1::VoteKind::Precommit);
        let message = vote_message(&self.genesis, height, 0, kind, Some(&self.previous));
        let vote = |seed| (ValidatorId(public(seed)), key(seed).sign(&message).to_bytes());
        let votes: Vec<_> = (101..=100 + voting).map(vote).collect();
        let certificate = certificate(&self.previous, 0, &now, &votes);
        let next_validators = (now != then).then(|| then.to_message());
        v1::SignedHeader { header: Some(header), certificate: Some(certificate), next_validators, recovery: None }
    }
}

/// A light client at the header with which eight more validators came, and what follows.
fn followed() -> (Light, Chain) {
    let genesis = genesis();
    let mut light = Light::new(&genesis).expect("a genesis");
    let recovery = digest(&v1::RecoveryPolicy::default());
    let (id, history) = (genesis.id(), Frontier::default());
    let mut chain = Chain { genesis: id, recovery, previous: Digest(id.0), history };
    light.advance(&chain.next(1, VALIDATORS, 1)).expect("the founder lets the others in");
    (light, chain)
}

fn headers(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("headers");
    group.throughput(Throughput::Elements(HEADERS));
    for (name, voting) in [("advance_quorum", QUORUM), ("advance_nine_votes", VALIDATORS)] {
        let (light, mut chain) = followed();
        let headers: Vec<_> = (0..HEADERS).map(|_| chain.next(VALIDATORS, VALIDATORS, voting)).collect();
        group.bench_function(name, |bencher| {
            let follow = |mut light: Light| headers.iter().for_each(|it| light.advance(it).expect("the next header"));
            bencher.iter_batched(|| light.clone(), follow, BatchSize::SmallInput);
        });
    }
    group.finish();
}

fn growth(count: u64) {
    let (mut light, mut chain) = followed();
    let mut total = Duration::ZERO;
    for tenth in 1..=10 {
        let headers: Vec<_> = (0..count / 10).map(|_| chain.next(VALIDATORS, VALIDATORS, QUORUM)).collect();
        let began = Instant::now();
        headers.iter().for_each(|it| light.advance(it).expect("the next header"));
        let took = began.elapsed();
        total += took;
        println!("tenth {tenth}: {:.1} us a header", took.as_secs_f64() * 1e6 / headers.len() as f64);
    }
    println!("{count} headers: {:.1} s", total.as_secs_f64());
}

criterion_group!(benches, headers);

fn main() {
    match std::env::var("BITHEALTH_HEADERS") {
        Ok(count) => growth(count.parse().expect("BITHEALTH_HEADERS is a number")),
        Err(_) => benches(),
    }
}
