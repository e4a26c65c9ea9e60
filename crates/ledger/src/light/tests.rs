use bithealth_proto::{decode, digest};
use bytes::Bytes;

use super::*;
use crate::fixture::*;
use crate::member::MembershipError;
use crate::validators::Validator;

fn light() -> Light {
    Light::new(&genesis()).unwrap()
}

/// Follows the first `count` headers.
fn after(count: usize, headers: &[v1::SignedHeader]) -> Light {
    let mut light = light();
    headers[..count].iter().for_each(|signed| light.advance(signed).unwrap());
    light
}

/// What is said to `signed`; it changes nothing.
fn refused(light: &Light, signed: &v1::SignedHeader) -> LightError {
    let mut other = light.clone();
    let error = other.advance(signed).unwrap_err();
    assert_eq!(other, *light);
    error
}

fn refused_skip(skip: &Skip, signed: &v1::SignedHeader) -> LightError {
    let mut other = skip.clone();
    let error = other.to(signed).unwrap_err();
    assert_eq!(other, *skip);
    error
}

/// The header changed, and certified again by those who decide it.
fn changed(light: &Light, signed: &v1::SignedHeader, change: impl Fn(&mut v1::Header)) -> v1::SignedHeader {
    let mut header = signed.header.clone().unwrap();
    change(&mut header);
    let certificate = certified(light.validators(), header.clone(), v1::Body::default()).certificate;
    v1::SignedHeader { header: Some(header), certificate, ..signed.clone() }
}

#[test]
fn headers_alone_tell_what_all_blocks_and_entries_tell() {
    let History { state, headers, .. } = history();
    let light = after(10, &headers);
    assert_eq!((light.height(), light.digest()), (Height(10), state.tip_digest()));
    assert_eq!((light.time_ms(), light.history_root()), (NOW + 10_000, state.history_root()));
    assert_eq!(light.validators(), state.validators());
    assert_eq!(light.validators().count(), 4);
    assert_eq!(headers.iter().filter(|it| it.next_validators.is_some()).count(), 4, "the validators changed");
}

#[test]
fn before_the_first_header_there_is_the_genesis() {
    let light = light();
    assert_eq!((light.height(), light.digest()), (Height(0), Digest(genesis().id().0)));
    assert_eq!((light.time_ms(), light.validators().count()), (NOW - 1000, 1));
    let salt = Bytes::from_static(&[9; 31]);
    let error = MembershipError::Length { what: "the genesis' salt", got: 31, want: 32 };
    let error = GenesisError::Membership(error);
    assert_eq!(Light::new(&v1::Genesis { salt, ..genesis() }), Err(error));
}

#[test]
fn no_bit_of_a_header_its_certificate_or_the_next_validators_can_change() {
    let headers = history().headers;
    let (mut light, mut skip) = (light(), Skip::new(&genesis()).unwrap());
    for signed in &headers {
        let whole = encode(signed);
        for index in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[index] ^= 1 << (index % 8);
            if let Ok(signed) = decode::<v1::SignedHeader>(&flipped) {
                refused(&light, &signed);
                refused_skip(&skip, &signed);
            }
        }
        light.advance(signed).unwrap();
        skip.to(signed).unwrap();
    }
}

#[test]
fn no_part_of_a_header_can_be_missing_or_that_of_another() {
    let headers = history().headers;
    for (at, signed) in headers.iter().enumerate() {
        let light = after(at, &headers);
        let without = v1::SignedHeader { header: None, ..signed.clone() };
        assert_eq!(refused(&light, &without), LightError::Absent { what: "header" });
        let without = v1::SignedHeader { certificate: None, ..signed.clone() };
        assert_eq!(refused(&light, &without), LightError::Absent { what: "certificate" });
        for other in headers.iter().filter(|other| *other != signed) {
            refused(&light, other);
            refused(&light, &v1::SignedHeader { header: other.header.clone(), ..signed.clone() });
            refused(&light, &v1::SignedHeader { certificate: other.certificate.clone(), ..signed.clone() });
            let next_validators = other.next_validators.clone();
            if next_validators != signed.next_validators {
                refused(&light, &v1::SignedHeader { next_validators, ..signed.clone() });
            }
        }
    }
}

#[test]
fn headers_come_one_after_the_other() {
    let headers = history().headers;
    let light = after(3, &headers);
    assert_eq!(refused(&light, &headers[2]), LightError::Known { have: 3, got: 3 });
    assert_eq!(refused(&light, &headers[0]), LightError::Known { have: 3, got: 1 });
    assert_eq!(refused(&light, &headers[4]), LightError::Gap { have: 3, got: 5 });
}

#[test]
fn a_time_that_stands_still_is_fine() {
    let headers = history().headers;
    let mut light = after(3, &headers);
    let still = changed(&light, &headers[3], |it| it.time_ms = NOW + 3000);
    assert_eq!(light.advance(&still), Ok(()));
}

#[test]
fn a_header_without_a_quorum_is_refused() {
    let headers = history().headers;
    let light = after(3, &headers);
    let header = headers[3].header.clone().unwrap();
    let two: Vec<Validator> = light.validators().iter().take(2).copied().collect();
    let block = certified(&ValidatorSet::new(two).unwrap(), header, v1::Body::default());
    let want = CertificateError::Votes { got: 2, want: 3, count: 4 };
    assert_eq!(refused(&light, &signed_header(&block)), LightError::Certificate(want));
}

#[test]
fn the_next_validators_come_along_exactly_where_they_change() {
    let headers = history().headers;
    let (none, three) = (light(), after(3, &headers));
    let named = headers[0].next_validators.clone();
    let set = ValidatorSet::from_message(named.as_ref().unwrap()).unwrap();
    let without = v1::SignedHeader { next_validators: None, ..headers[0].clone() };
    assert_eq!(refused(&none, &without), LightError::NextAbsent { height: 1, want: set.digest() });
    let with = v1::SignedHeader { next_validators: named, ..headers[3].clone() };
    assert_eq!(refused(&three, &with), LightError::NextUnchanged { height: 4 });
    let got = three.validators().digest();
    let other = v1::SignedHeader { next_validators: Some(three.validators().to_message()), ..headers[0].clone() };
    assert_eq!(refused(&none, &other), LightError::NextOther { height: 1, got, want: set.digest() });
    let mut swapped = set.to_message();
    swapped.validators.swap(0, 1);
    let want = digest(&swapped);
    let signed = changed(&none, &headers[0], |it| it.next_validators = bytes(want.0));
    let swapped = v1::SignedHeader { next_validators: Some(swapped), ..signed };
    assert_eq!(refused(&none, &swapped), LightError::NextNone(NotValidators::Order { index: 1 }));
}

#[test]
fn headers_that_change_no_validators_can_be_skipped() {
    let history = history();
    let mut skip = Skip::new(&genesis()).unwrap();
    for change in history.changes() {
        skip.to(&change).unwrap();
    }
    assert_eq!(skip.height(), Height(8));
    skip.to(&history.headers[9]).unwrap();
    let light = after(10, &history.headers);
    assert_eq!((skip.height(), skip.digest(), skip.time_ms()), (light.height(), light.digest(), light.time_ms()));
    assert_eq!(skip.validators(), light.validators());
}

#[test]
fn no_header_is_skipped_with_which_the_validators_changed() {
    let headers = history().headers;
    let mut skip = Skip::new(&genesis()).unwrap();
    skip.to(&headers[0]).unwrap();
    let (want, got) = (skip.validators().digest(), after(3, &headers).validators().digest());
    assert_eq!(refused_skip(&skip, &headers[3]), LightError::OtherValidators { height: 4, got, want });
    skip.to(&headers[2]).unwrap();
    assert_eq!(refused_skip(&skip, &headers[1]), LightError::Known { have: 3, got: 2 });
    skip.to(&headers[4]).unwrap();
    assert_eq!(skip.height(), Height(5));
}

#[test]
fn a_skip_of_nothing_must_follow_the_header_before() {
    let headers = history().headers;
    let mut skip = Skip::new(&genesis()).unwrap();
    skip.to(&headers[0]).unwrap();
    let other = changed(&after(1, &headers), &headers[1], |it| it.previous = bytes([0; 32]));
    let want = LightError::Previous { height: 2, got: Digest([0; 32]), want: skip.digest() };
    assert_eq!(refused_skip(&skip, &other), want);
}
