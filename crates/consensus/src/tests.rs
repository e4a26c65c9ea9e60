use bithealth_ledger::{member_record, node_certificate, retire_node, sign};
use bithealth_proto::v1::entry::Operation;
use ed25519_dalek::{Signer as _, SigningKey};

use super::*;

const NOW: u64 = 1_800_000_000_000;

fn key(seed: u8) -> SigningKey {
    SigningKey::from_bytes(&[seed; 32])
}

fn public(seed: u8) -> [u8; 32] {
    key(seed).verifying_key().to_bytes()
}

fn by(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| key(seed).sign(message).to_bytes()
}

fn certificate(org: u8, node: u8) -> v1::NodeCertificate {
    let unsigned = v1::NodeCertificate {
        node: Bytes::copy_from_slice(&public(node)),
        member: Bytes::copy_from_slice(&public(org)),
        region: "eu-west".into(),
        jurisdiction: "DE".into(),
        capacity: 1,
        time_ms: NOW,
        signature: Bytes::new(),
    };
    node_certificate(unsigned, by(org))
}

fn record(org: u8, name: &str) -> v1::MemberRecord {
    member_record(&MemberId(public(org)), name, &[0; bithealth_ledger::RECIPIENT_LEN], by(org))
}

/// Organisation 1 with nodes 11 and 12, organisation 2 with node 21; all in node 11's log. No block yet.
fn network() -> State {
    let genesis = v1::Genesis {
        name: "test".into(),
        time_ms: NOW,
        salt: Bytes::from_static(&[3; 32]),
        founder: Some(record(1, "one")),
        founder_node: Some(certificate(1, 11)),
    };
    let invite = v1::Invite {
        genesis: Bytes::copy_from_slice(&genesis.id().0),
        issuer: Bytes::copy_from_slice(&public(1)),
        key: Bytes::copy_from_slice(&public(50)),
        expires_ms: NOW,
        signature: Bytes::new(),
    };
    let invite = bithealth_ledger::invite(invite, by(1));
    let admission = bithealth_ledger::admission(invite, record(2, "two"), by(50));
    let mut state = State::from_genesis(genesis).unwrap();
    write(&mut state, Operation::AddNode(certificate(1, 12)));
    write(&mut state, Operation::Admit(admission));
    write(&mut state, Operation::AddNode(certificate(2, 21)));
    state
}

/// Node 11 writes an entry.
fn write(state: &mut State, operation: Operation) {
    let log = state.log(&NodeId(public(11)));
    let entry = v1::Entry {
        author: Bytes::copy_from_slice(&public(11)),
        sequence: log.map_or(0, |log| log.len),
        previous: Bytes::copy_from_slice(&log.map_or([0; 32], |log| log.last.0)),
        time_ms: NOW,
        operation: Some(operation),
    };
    let checked = state.check_own(&sign(by(11), entry)).unwrap();
    state.apply(checked);
}

fn header(state: &State, producer: u8) -> v1::Header {
    state.next_header(&NodeId(public(producer)), NOW).unwrap().0
}

fn certify(header: &v1::Header, signer: u8) -> v1::Certificate {
    FounderRule.certify(header, &NodeId(public(signer)), &by(signer))
}

fn verified(state: &State, producer: u8) -> Result<(), CertificateError> {
    let header = header(state, producer);
    FounderRule.verify(state, &header, &certify(&header, producer))
}

#[test]
fn nodes_of_the_founder_produce_and_nobody_else() {
    let state = network();
    assert_eq!(verified(&state, 11), Ok(()));
    assert_eq!(verified(&state, 12), Ok(()));
    let (node, member, founder) = (NodeId(public(21)), MemberId(public(2)), MemberId(public(1)));
    assert_eq!(verified(&state, 21), Err(CertificateError::NotProducer { node, member, founder }));
    assert_eq!(verified(&state, 99), Err(CertificateError::UnknownProducer { node: NodeId(public(99)) }));
    let may = |node| FounderRule.may_produce(&state, &NodeId(public(node)));
    assert_eq!([may(11), may(12), may(21), may(99)], [true, true, false, false]);
}

#[test]
fn a_retired_node_of_the_founder_produces_until_a_block_says_so() {
    let mut state = network();
    write(&mut state, Operation::RetireNode(retire_node(&NodeId(public(12)), &MemberId(public(1)), NOW, by(1))));
    assert_eq!(verified(&state, 12), Ok(()));
    let (header, frontier) = state.next_header(&NodeId(public(11)), NOW).unwrap();
    let certificate = certify(&header, 11);
    let block = v1::Block { header: Some(header), certificate: Some(certificate), frontier };
    let checked = state.check_block(&block, |state, header, it| FounderRule.verify(state, header, it)).unwrap();
    state.apply_block(checked);
    assert!(!FounderRule.may_produce(&state, &NodeId(public(12))));
}

#[test]
fn a_certificate_is_the_producers_vote_for_this_header_and_nothing_else() {
    let state = network();
    let header = header(&state, 11);
    let good = certify(&header, 11);
    let refused = |change: &dyn Fn(&mut v1::Certificate)| {
        let mut certificate = good.clone();
        change(&mut certificate);
        FounderRule.verify(&state, &header, &certificate).unwrap_err()
    };
    let (node, want) = (NodeId(public(11)), digest(&header));
    let other = CertificateError::OtherHeader { got: "00".repeat(32), want };
    assert_eq!(refused(&|it| it.header = Bytes::from_static(&[0; 32])), other);
    assert_eq!(refused(&|it| it.votes.clear()), CertificateError::Votes { got: 0, want: 1 });
    assert_eq!(refused(&|it| it.votes.push(it.votes[0].clone())), CertificateError::Votes { got: 2, want: 1 });
    let other = CertificateError::OtherSigner { got: NodeId(public(12)), want: node };
    assert_eq!(refused(&|it| it.votes = certify(&header, 12).votes), other);
    let short = CertificateError::IdLength { what: "signer", got: 2 };
    assert_eq!(refused(&|it| it.votes[0].signer = Bytes::from_static(&[0; 2])), short);
    for index in 0..64 {
        let flip = |it: &mut v1::Certificate| {
            let mut signature = it.votes[0].signature.to_vec();
            signature[index] ^= 1 << (index % 8);
            it.votes[0].signature = signature.into();
        };
        assert_eq!(refused(&flip), CertificateError::BadSignature { node });
    }
    let entry_like = by(11)(digest(&header).as_bytes());
    let unlabelled = |it: &mut v1::Certificate| it.votes[0].signature = Bytes::copy_from_slice(&entry_like);
    assert_eq!(refused(&unlabelled), CertificateError::BadSignature { node });
}

#[test]
fn the_ledger_takes_what_the_rule_certifies_and_refuses_what_it_does_not() {
    let state = network();
    let (header, frontier) = state.next_header(&NodeId(public(21)), NOW).unwrap();
    let certificate = certify(&header, 21);
    let block = v1::Block { header: Some(header), certificate: Some(certificate), frontier };
    let error = state.check_block(&block, |state, header, it| FounderRule.verify(state, header, it)).unwrap_err();
    assert!(matches!(error, bithealth_ledger::BlockError::Certificate(CertificateError::NotProducer { .. })));
}
