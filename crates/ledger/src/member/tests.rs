use bithealth_proto::{Limited, decode};

use super::*;
use crate::fixture::{NOW, admit, by, bytes, genesis, invited, node_certificate_of, public, record, retirement};
use bithealth_proto::v1::entry::Operation;

fn admission_of_two() -> v1::Admission {
    let Operation::Admit(admission) = admit(1, 50, 2, "two") else { panic!("an admission was made") };
    admission
}

fn checks(admission: &v1::Admission) -> Result<(MemberId, [u8; 32], MemberId), MembershipError> {
    verify_admission(admission, &genesis().id(), NOW)
}

/// Flips one bit of every byte of the encoding: what still decodes must be refused.
fn no_bit_can_change<M: Limited>(message: &M, valid: impl Fn(&M) -> bool) {
    let whole = encode(message);
    assert!(valid(&decode(&whole).unwrap()));
    for index in 0..whole.len() {
        let mut flipped = whole.clone();
        flipped[index] ^= 1 << (index % 8);
        if let Ok(message) = decode::<M>(&flipped) {
            assert!(!valid(&message), "{} with byte {index} changed", M::NAME);
        }
    }
}

#[test]
fn what_was_signed_is_valid() {
    assert_eq!(verify_member(&record(2, "two")), Ok(MemberId(public(2))));
    assert_eq!(verify_node(&node_certificate_of(2)), Ok((NodeId(public(102)), MemberId(public(2)))));
    assert_eq!(verify_invite(&invited(1, 50, 2, "two"), &genesis().id()), Ok((MemberId(public(1)), public(50))));
    assert_eq!(checks(&admission_of_two()), Ok((MemberId(public(1)), public(50), MemberId(public(2)))));
    let retired = retire_node(retirement(2, 2), by(2));
    assert_eq!(verify_retirement(&retired), Ok((NodeId(public(102)), MemberId(public(2)))));
}

#[test]
fn no_bit_of_what_was_signed_can_change() {
    no_bit_can_change(&record(2, "two"), |record| verify_member(record).is_ok());
    no_bit_can_change(&node_certificate_of(2), |certificate| verify_node(certificate).is_ok());
    no_bit_can_change(&admission_of_two(), |admission| checks(admission).is_ok());
}

#[test]
fn a_retirement_cannot_be_turned_on_another_node() {
    let retired = retire_node(retirement(2, 2), by(2));
    let want = MembershipError::Signature { what: "the retirement", by: "the node's organisation" };
    let other = v1::RetireNode { node: bytes(public(103)), ..retired.clone() };
    assert_eq!(verify_retirement(&other), Err(want.clone()));
    assert_eq!(verify_retirement(&v1::RetireNode { time_ms: 0, ..retired.clone() }), Err(want.clone()));
    assert_eq!(verify_retirement(&v1::RetireNode { member: bytes(public(3)), ..retired }), Err(want));
}

#[test]
fn one_message_is_never_taken_for_another() {
    let certificate = node_certificate_of(2);
    let message =
        [MEMBER_LABEL, &encode(&v1::NodeCertificate { signature: Bytes::new(), ..certificate.clone() })].concat();
    let signature = Bytes::copy_from_slice(&by(2)(&message));
    let relabelled = v1::NodeCertificate { signature, ..certificate };
    let want = MembershipError::Signature { what: "the node's certificate", by: "its organisation" };
    assert_eq!(verify_node(&relabelled), Err(want));
}

#[test]
fn bounds_hold_at_the_limit_and_one_past_it() {
    assert!(verify_member(&record(2, &"n".repeat(NAME_LEN_MAX))).is_ok());
    for (name, got) in [("n".repeat(NAME_LEN_MAX + 1), 65), (String::new(), 0), ("a\nb".into(), 3)] {
        let want = MembershipError::Text { what: "the organisation's name", got, max: NAME_LEN_MAX };
        assert_eq!(verify_member(&record(2, &name)), Err(want));
    }
    let region = |len: usize| {
        let unsigned = v1::NodeCertificate { region: "r".repeat(len), ..node_certificate_of(2) };
        verify_node(&node_certificate(v1::NodeCertificate { signature: Bytes::new(), ..unsigned }, by(2)))
    };
    assert!(region(REGION_LEN_MAX).is_ok());
    let want = MembershipError::Text { what: "the node's region", got: 33, max: REGION_LEN_MAX };
    assert_eq!(region(REGION_LEN_MAX + 1), Err(want));
}

#[test]
fn keys_of_another_length_are_refused() {
    let short = v1::MemberRecord { member: Bytes::from_static(&[1; 31]), ..record(2, "two") };
    let want = MembershipError::Length { what: "the organisation's key", got: 31, want: 32 };
    assert_eq!(verify_member(&short), Err(want));
    let recipient = member_record(&MemberId(public(2)), "two", &[0; RECIPIENT_LEN - 1], by(2));
    let want = MembershipError::Length { what: "the organisation's recipient key", got: 1215, want: RECIPIENT_LEN };
    assert_eq!(verify_member(&recipient), Err(want));
}

#[test]
fn a_recipient_key_whose_coefficients_are_not_below_the_modulus_is_refused() {
    let with = |at: usize, low: u8, high: u8| {
        let mut key = [0; RECIPIENT_LEN];
        (key[at], key[at + 1]) = (low, high);
        verify_member(&member_record(&MemberId(public(2)), "two", &key, by(2)))
    };
    assert!(with(3, 0x00, 0x0D).is_ok(), "3328 is the largest coefficient");
    assert_eq!(with(3, 0x01, 0x0D), Err(MembershipError::Recipient { index: 2, got: 3329 }));
    assert!(with(1152, 0xFF, 0xFF).is_ok(), "behind the coefficients lie seed and X25519 key");
}

#[test]
fn an_invite_is_for_one_network_until_it_expires() {
    let other = v1::Invite { genesis: bytes([7; 32]), ..invited(1, 50, 2, "two") };
    let error = verify_invite(&other, &genesis().id()).unwrap_err();
    assert_eq!(error, MembershipError::OtherNetwork { got: "07".repeat(32), want: genesis().id() });
    let admission = admission_of_two();
    let expires_ms = admission.invite.as_ref().unwrap().expires_ms;
    assert!(verify_admission(&admission, &genesis().id(), expires_ms).is_ok());
    let late = verify_admission(&admission, &genesis().id(), expires_ms + 1).unwrap_err();
    assert_eq!(late, MembershipError::InviteExpired { expires_ms, at_ms: expires_ms + 1 });
}

#[test]
fn an_admission_without_a_part_is_refused() {
    let whole = admission_of_two();
    let absent = |what| Err(MembershipError::Absent { what });
    assert_eq!(checks(&v1::Admission { invite: None, ..whole.clone() }), absent("the admission's invite"));
    assert_eq!(checks(&v1::Admission { member: None, ..whole }), absent("the admission's organisation"));
}

#[test]
fn only_the_key_of_the_invite_admits() {
    let stolen = admission(invited(1, 50, 2, "two"), record(2, "two"), by(51));
    let want = MembershipError::Signature { what: "the admission", by: "the invite's key" };
    assert_eq!(checks(&stolen), Err(want));
}
