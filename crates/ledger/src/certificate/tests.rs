use super::*;
use crate::fixture::{by, public};
use crate::validators::Validator;
use bithealth_types::MemberId;

const GENESIS: GenesisId = GenesisId([7; 32]);
const HEADER: Digest = Digest([8; 32]);
const HEIGHT: Height = Height(5);

fn set(count: u8) -> ValidatorSet {
    let one = |at: u8| Validator { member: MemberId([at; 32]), key: ValidatorId(public(at)) };
    ValidatorSet::new((1..=count).map(one).collect()).unwrap()
}

fn vote(at: u8, round: u32) -> (ValidatorId, [u8; 64]) {
    let message = vote_message(&GENESIS, HEIGHT, round, v1::VoteKind::Precommit, Some(&HEADER));
    (ValidatorId(public(at)), by(at)(&message))
}

fn made(votes: std::ops::RangeInclusive<u8>) -> v1::Certificate {
    certificate(&HEADER, 2, &set(9), &votes.map(|at| vote(at, 2)).collect::<Vec<_>>())
}

fn verified(certificate: &v1::Certificate) -> Result<(), CertificateError> {
    verify_certificate(certificate, &GENESIS, HEIGHT, &HEADER, &set(9))
}

#[test]
fn a_quorum_makes_a_header_final_and_one_vote_less_does_not() {
    assert_eq!(verified(&made(1..=9)), Ok(()));
    assert_eq!(verified(&made(4..=9)), Ok(()));
    assert_eq!(verified(&made(5..=9)), Err(CertificateError::Votes { got: 5, want: 6, count: 9 }));
}

#[test]
fn with_nine_validators_a_certificate_takes_less_than_700_bytes() {
    assert!(bithealth_proto::encode(&made(1..=9)).len() < 700);
}

#[test]
fn a_certificate_is_for_one_network_height_round_kind_and_header() {
    let good = made(1..=6);
    let refused = |genesis: &GenesisId, height, header: &Digest, certificate: &v1::Certificate| {
        verify_certificate(certificate, genesis, height, header, &set(9)).unwrap_err()
    };
    let bad = CertificateError::BadSignature { validator: ValidatorId(public(1)) };
    assert_eq!(refused(&GenesisId([6; 32]), HEIGHT, &HEADER, &good), bad);
    assert_eq!(refused(&GENESIS, Height(6), &HEADER, &good), bad);
    assert_eq!(refused(&GENESIS, HEIGHT, &HEADER, &v1::Certificate { round: 1, ..good.clone() }), bad);
    let other = CertificateError::OtherHeader { got: "08".repeat(32), want: Digest([1; 32]) };
    assert_eq!(refused(&GENESIS, HEIGHT, &Digest([1; 32]), &good), other);
    let prevote = vote_message(&GENESIS, HEIGHT, 2, v1::VoteKind::Prevote, Some(&HEADER));
    let prevotes: Vec<_> = (1..=6).map(|at| (ValidatorId(public(at)), by(at)(&prevote))).collect();
    assert_eq!(refused(&GENESIS, HEIGHT, &HEADER, &certificate(&HEADER, 2, &set(9), &prevotes)), bad);
}

#[test]
fn unknown_signers_are_left_out_and_refused() {
    let mut votes: Vec<_> = (1..=5).map(|at| vote(at, 2)).collect();
    votes.extend([vote(5, 2), vote(20, 2)]);
    let short = certificate(&HEADER, 2, &set(9), &votes);
    assert_eq!(verified(&short), Err(CertificateError::Votes { got: 5, want: 6, count: 9 }));
    let signers = |bits: &'static [u8]| v1::Certificate { signers: Bytes::from_static(bits), ..made(1..=6) };
    let error = |got| Err(CertificateError::Signers { got, count: 9 });
    assert_eq!(verified(&signers(&[0x3F, 0x02])), error(2)); // there is no tenth
    assert_eq!(verified(&signers(&[0x3F])), error(1));
    assert_eq!(verified(&signers(&[0x3F, 0, 0])), error(3));
    let more = Err(CertificateError::SignaturesLen { got: 384, signers: 7 });
    assert_eq!(verified(&signers(&[0x7F, 0])), more);
    // One vote counted for two.
    let twice = v1::Certificate { signatures: made(1..=6).signatures.slice(..64).repeat(6).into(), ..made(1..=6) };
    assert_eq!(verified(&twice), Err(CertificateError::BadSignature { validator: ValidatorId(public(2)) }));
}

#[test]
fn every_flipped_bit_is_refused() {
    let good = made(2..=7);
    for bit in 0..good.signatures.len() * 8 {
        let mut signatures = good.signatures.to_vec();
        signatures[bit / 8] ^= 1 << (bit % 8);
        assert!(verified(&v1::Certificate { signatures: signatures.into(), ..good.clone() }).is_err(), "bit {bit}");
    }
    for bit in 0..16 {
        let mut signers = good.signers.to_vec();
        signers[bit / 8] ^= 1 << (bit % 8);
        assert!(verified(&v1::Certificate { signers: signers.into(), ..good.clone() }).is_err(), "signer {bit}");
    }
}

#[test]
fn who_signed_two_headers_in_one_round_is_guilty() {
    let first = made(1..=6);
    let other = |round| v1::Certificate { header: vec![1; 32].into(), round, ..made(4..=9) };
    let keys: Vec<_> = (4..=6).map(|at| ValidatorId(public(at))).collect();
    assert_eq!(guilty(&first, &other(2), &set(9)), keys);
    assert_eq!(guilty(&first, &other(3), &set(9)), []);
    assert_eq!(guilty(&first, &made(4..=9), &set(9)), []);
}
