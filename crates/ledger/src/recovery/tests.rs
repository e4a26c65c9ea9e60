use bithealth_types::ValidatorId;

use super::*;
use crate::block::BlockError;
use crate::fixture::*;
use crate::note::{cosign, sign_note};
use crate::state::GenesisError;
use crate::validators::Validator;
use crate::{Light, LightError, Skip, State, signed_header};

const HOUR_S: u64 = 3600;
const NOW_S: u64 = NOW / 1000;

fn set(orgs: &[u8]) -> ValidatorSet {
    let validator = |org: &u8| Validator { member: member(*org), key: ValidatorId(public(validator_of(*org))) };
    ValidatorSet::new(orgs.iter().map(validator).collect()).unwrap()
}

/// The keys of holders, in the order of the policy.
fn holders() -> Vec<u8> {
    let mut seeds = vec![240, 241, 242];
    seeds.sort_by_key(|seed| public(*seed));
    seeds
}

fn witnesses() -> Vec<u8> {
    let mut seeds = vec![245, 246];
    seeds.sort_by_key(|seed| witness(*seed).to_string());
    seeds
}

fn sign(signed: &mut v1::SignedRecovery, holder: u32) {
    let text = note_text(signed).unwrap();
    let signature = bytes64(by(holders()[holder as usize])(text.as_bytes()));
    signed.holders.push(v1::HolderSignature { holder, signature });
}

fn bytes64(signature: [u8; 64]) -> Bytes {
    Bytes::copy_from_slice(&signature)
}

fn cosigns(signed: &mut v1::SignedRecovery, witness: u32, time_s: u64) {
    let message = cosignature_message(&note_text(signed).unwrap(), time_s).unwrap();
    let signature = bytes64(by(witnesses()[witness as usize])(&message));
    signed.cosignatures.push(v1::RecoveryCosignature { witness, time_s, signature });
}

/// These go on; two holders signed.
fn announced(state: &State, orgs: &[u8]) -> v1::SignedRecovery {
    let mut signed = state.propose_recovery(&set(orgs), NOW);
    sign(&mut signed, 0);
    sign(&mut signed, 2);
    signed
}

/// Besides, a witness saw the hour pass.
fn complete(state: &State, orgs: &[u8]) -> v1::SignedRecovery {
    let mut signed = announced(state, orgs);
    cosigns(&mut signed, 1, NOW_S);
    cosigns(&mut signed, 1, NOW_S + HOUR_S);
    signed
}

/// The first block of the era that this opens, by those who go on.
fn opening_block(state: &State, signed: &v1::SignedRecovery) -> v1::Block {
    let opened = state.check_opening(signed).unwrap();
    let producer = opened.validators.get(0).unwrap().key;
    let (header, body) = state.next_block(&producer, NOW, Some(&opened));
    certified(&opened.validators, header, body)
}

fn apply_block(state: &mut State, block: &v1::Block) {
    let checked = state.check_block(block).unwrap();
    state.apply_block(checked);
}

fn deciding(state: &State) -> Vec<u8> {
    (1..=12).filter(|org| state.validators().of(&member(*org)).is_some()).collect()
}

#[test]
fn those_who_are_left_go_on_in_a_new_era_and_outsiders_follow() {
    let (mut state, mut authors) = network(5);
    let (mut light, mut skip) = (Light::new(&genesis()).unwrap(), Skip::new(&genesis()).unwrap());
    let mut follow = |block: &v1::Block| {
        light.advance(&signed_header(block)).unwrap();
        skip.to(&signed_header(block)).unwrap();
        assert_eq!(light.validators(), skip.validators());
        light.clone()
    };
    // The founder decided block 1 alone.
    let genesis_state = State::from_genesis(genesis()).unwrap();
    assert_eq!((genesis_state.era(), state.era()), (0, 0));
    let history = network_blocks(5);
    history.iter().for_each(|block| drop(follow(block)));

    authors[1].take(&mut state, commit(20));
    let block = opening_block(&state, &complete(&state, &[2, 4]));
    apply_block(&mut state, &block);
    assert_eq!((state.era(), state.height(), deciding(&state)), (1, Height(2), vec![2, 4]));
    assert_eq!(follow(&block).validators(), state.validators());
    assert!(state.pack(&id_of(20)).unwrap().height.is_some(), "what waited is final");
    assert_eq!(state.members().filter(|it| it.votes).count(), 2, "the others are members without a vote");

    authors[3].take(&mut state, commit(21));
    let next = finalise(&mut state);
    assert_eq!(next.header.as_ref().unwrap().era, 1);
    follow(&next);
    // The two decide about members now: one comes back.
    let back = v1::Proposal {
        time_ms: NOW,
        change: Some(v1::proposal::Change::Voting(v1::Voting { member: bytes(public(5)), votes: true })),
    };
    authors[1].take(&mut state, v1::entry::Operation::Propose(back.clone()));
    authors[3].take(&mut state, approve(&back));
    follow(&finalise(&mut state));
    assert_eq!(deciding(&state), [2, 4, 5]);

    // A second time.
    let again = complete(&state, &[4]);
    assert_eq!(again.earlier.len(), 1);
    let block = opening_block(&state, &again);
    apply_block(&mut state, &block);
    assert_eq!((state.era(), state.era_at(Height(1)), state.era_at(Height(4)), deciding(&state)), (2, 0, 1, vec![4]));
    assert_eq!(follow(&block).height(), Height(5));
}

/// The blocks of [`network`].
fn network_blocks(count: u8) -> Vec<v1::Block> {
    let mut state = state();
    let mut one = Author::of(1);
    for org in 2..=count {
        one.take(&mut state, admit(1, 200 + org, org, &format!("clinic {org}")));
        one.take(&mut state, add_node(org));
    }
    one.take(&mut state, commit(1));
    vec![finalise(&mut state)]
}

#[test]
fn nothing_counts_before_enough_holders_signed_and_the_witnesses_saw_the_delay() {
    let (state, _) = network(5);
    let refused = |signed: &v1::SignedRecovery| state.check_opening(signed).unwrap_err();
    let mut signed = state.propose_recovery(&set(&[1, 2]), NOW);
    assert_eq!(refused(&signed), RecoveryError::Holders { got: 0, want: 2 });
    sign(&mut signed, 1);
    assert_eq!(refused(&signed), RecoveryError::Holders { got: 1, want: 2 });
    sign(&mut signed, 2);
    let too_few = RecoveryError::Cosigned { got: 0, want: 1, delay_ms: 3_600_000 };
    assert_eq!(refused(&signed), too_few);
    assert_eq!(state.check_announced(&signed).unwrap().validators, set(&[1, 2]));
    cosigns(&mut signed, 0, NOW_S);
    assert_eq!(refused(&signed), too_few, "once is no delay");
    let mut early = signed.clone();
    cosigns(&mut early, 0, NOW_S + HOUR_S - 1);
    assert_eq!(refused(&early), too_few, "a second too early");
    let mut others = signed.clone();
    cosigns(&mut others, 1, NOW_S + 2 * HOUR_S);
    assert_eq!(refused(&others), too_few, "by two witnesses, each once");
    cosigns(&mut signed, 0, NOW_S + HOUR_S);
    assert_eq!(state.check_opening(&signed).unwrap().era, 1);
}

#[test]
fn every_false_part_of_a_recovery_is_named() {
    let (state, _) = network(5);
    let good = complete(&state, &[1, 2]);
    let refused = |change: &dyn Fn(&mut v1::SignedRecovery)| {
        let mut signed = good.clone();
        change(&mut signed);
        state.check_opening(&signed).unwrap_err()
    };
    fn part(signed: &mut v1::SignedRecovery) -> &mut v1::Recovery {
        signed.recovery.as_mut().unwrap()
    }
    assert_eq!(refused(&|it| it.recovery = None), RecoveryError::Absent { what: "message" });
    assert!(matches!(refused(&|it| part(it).genesis = bytes([0; 32])), RecoveryError::OtherNetwork { .. }));
    assert_eq!(refused(&|it| part(it).era = 2), RecoveryError::Era { got: 2, earlier: 0, want: 1 });
    let earlier = refused(&|it| it.earlier.push(bytes([0; 32])));
    assert_eq!(earlier, RecoveryError::Era { got: 1, earlier: 1, want: 1 });
    let unsigned = RecoveryError::BadSignature { what: "holder", index: 0 };
    assert_eq!(refused(&|it| part(it).height = 2), unsigned);
    assert_eq!(refused(&|it| part(it).previous = bytes([0; 32])), unsigned);
    assert_eq!(refused(&|it| part(it).time_ms += 1), unsigned);
    assert_eq!(refused(&|it| part(it).validators = Some(set(&[1]).to_message())), unsigned);
    assert!(matches!(refused(&|it| part(it).validators = None), RecoveryError::Validators(_)));
    assert_eq!(refused(&|it| it.holders.swap(0, 1)), RecoveryError::Order { what: "holder", index: 1 });
    let twice = |it: &mut v1::SignedRecovery| it.holders[1] = it.holders[0].clone();
    assert_eq!(refused(&twice), RecoveryError::Order { what: "holder", index: 1 });
    assert_eq!(refused(&|it| it.holders[1].holder = 3), RecoveryError::Order { what: "holder", index: 1 });
    let other = RecoveryError::BadSignature { what: "holder", index: 1 };
    assert_eq!(refused(&|it| it.holders[1].holder = 1), other);
    assert_eq!(refused(&|it| it.cosignatures.swap(0, 1)), RecoveryError::Order { what: "witness", index: 1 });
    assert_eq!(refused(&|it| it.cosignatures[1].witness = 2), RecoveryError::Order { what: "witness", index: 1 });
    let late = RecoveryError::BadSignature { what: "witness", index: 1 };
    assert_eq!(refused(&|it| it.cosignatures[1].time_s += 1), late);
    let third = |it: &mut v1::SignedRecovery| cosigns(it, 1, NOW_S + 3 * HOUR_S);
    assert_eq!(refused(&third), RecoveryError::Order { what: "witness", index: 2 });
    let stranger = announced(&state, &[1, 9]);
    assert_eq!(state.check_announced(&stranger), Err(RecoveryError::NotAMember { member: member(9) }));
    let none = State::from_genesis(v1::Genesis { recovery: None, ..genesis() }).unwrap();
    let mut of_none = none.propose_recovery(&set(&[1]), NOW);
    sign(&mut of_none, 0);
    assert_eq!(none.check_announced(&of_none), Err(RecoveryError::NoPolicy));
}

#[test]
fn a_late_block_of_the_old_era_voids_it() {
    let (mut state, mut authors) = network(5);
    let signed = complete(&state, &[1, 2]);
    assert!(state.check_opening(&signed).is_ok());
    authors[2].take(&mut state, commit(30));
    finalise(&mut state);
    assert_eq!(state.check_opening(&signed), Err(RecoveryError::OtherTip { got: 1, have: 2 }));
}

#[test]
fn the_last_block_of_the_old_era_after_the_first_of_the_new_one_is_a_fork() {
    let (mut state, mut authors) = network(5);
    authors[2].take(&mut state, commit(30));
    let old = next_block(&state, NOW).unwrap();
    let new = opening_block(&state, &complete(&state, &[1, 2]));
    apply_block(&mut state, &new);
    let digest_of = |block: &v1::Block| digest(block.header.as_ref().unwrap());
    let (have, got) = (digest_of(&new), digest_of(&old));
    assert_eq!(state.check_fork(&signed_header(&old), &have), Err(BlockError::Forked { height: 2, have, got }));
    let mut forged = old.clone();
    forged.header.as_mut().unwrap().era = 7;
    assert_eq!(state.check_fork(&signed_header(&forged), &have), Err(BlockError::Era { got: 7, want: 1 }));
    // Nor is a second first block of the new era anything else.
    let validators = state.validators().clone();
    let later = v1::Header { time_ms: NOW + 1, ..new.header.clone().unwrap() };
    let second = certified(&validators, later, new.body.clone().unwrap());
    let got = digest_of(&second);
    assert_eq!(state.check_fork(&signed_header(&second), &have), Err(BlockError::Forked { height: 2, have, got }));
}

#[test]
fn the_first_block_of_a_new_era_after_the_old_one_went_on_is_a_fork() {
    let (mut state, mut authors) = network(5);
    let new = opening_block(&state, &complete(&state, &[1, 2]));
    authors[2].take(&mut state, commit(30));
    let old = finalise(&mut state);
    let digest_of = |block: &v1::Block| digest(block.header.as_ref().unwrap());
    let (have, got) = (digest_of(&old), digest_of(&new));
    assert_eq!(state.check_fork(&signed_header(&new), &have), Err(BlockError::Forked { height: 2, have, got }));
}

#[test]
fn what_is_signed_in_one_era_counts_in_no_other() {
    let (state, _) = network(5);
    let signed = complete(&state, &[1, 2]);
    let block = opening_block(&state, &signed);
    // The same two, of three who decided before, as a certificate of era 0.
    let opened = state.check_opening(&signed).unwrap();
    let header = block.header.clone().unwrap();
    let of_old = v1::Header { era: 0, ..header.clone() };
    let mut crossed = certified(&opened.validators, of_old, v1::Body::default());
    crossed.certificate.as_mut().unwrap().header = Bytes::copy_from_slice(digest(&header).as_bytes());
    let crossed = v1::Block { certificate: crossed.certificate, ..block.clone() };
    assert!(matches!(state.check_block(&crossed), Err(BlockError::Certificate(_))));
    let mut light = Light::new(&genesis()).unwrap();
    network_blocks(5).iter().for_each(|block| light.advance(&signed_header(block)).unwrap());
    assert!(matches!(light.advance(&signed_header(&crossed)), Err(LightError::Certificate(_))));
}

#[test]
fn an_era_begins_with_its_recovery_and_never_without() {
    let (mut state, mut authors) = network(5);
    let mut light = Light::new(&genesis()).unwrap();
    network_blocks(5).iter().for_each(|block| light.advance(&signed_header(block)).unwrap());
    let block = opening_block(&state, &complete(&state, &[1, 2]));
    let without = |block: &v1::Block| {
        let body = v1::Body { recovery: None, ..block.body.clone().unwrap() };
        v1::Block { body: Some(body), ..block.clone() }
    };
    assert_eq!(state.check_block(&without(&block)), Err(BlockError::Era { got: 1, want: 0 }));
    assert_eq!(light.advance(&signed_header(&without(&block))), Err(LightError::Era { got: 1, want: 0 }));
    // And none with an announcement only.
    let opened = state.check_announced(&announced(&state, &[1, 2])).unwrap();
    let (header, body) = state.next_block(&opened.validators.get(0).unwrap().key, NOW, Some(&opened));
    let early = certified(&opened.validators, header, body);
    let want = RecoveryError::Cosigned { got: 0, want: 1, delay_ms: 3_600_000 };
    assert_eq!(state.check_block(&early), Err(want.clone().into()));
    assert_eq!(light.advance(&signed_header(&early)), Err(want.into()));

    apply_block(&mut state, &block);
    light.advance(&signed_header(&block)).unwrap();
    // The next one may not open it again.
    authors[0].take(&mut state, commit(31));
    let mut next = next_block(&state, NOW).unwrap();
    next.body.as_mut().unwrap().recovery = block.body.clone().unwrap().recovery;
    let want = RecoveryError::Era { got: 1, earlier: 0, want: 2 };
    assert_eq!(state.check_block(&next), Err(want.into()));
    assert_eq!(light.advance(&signed_header(&next)), Err(LightError::Era { got: 1, want: 2 }));
}

#[test]
fn a_clinic_goes_on_with_the_key_of_its_new_machine() {
    let (state, _) = network(5);
    let new_key = ValidatorId(public(99));
    let with_new = |covered: bool| {
        let mut state = state.clone();
        let mut moved = certificate_of(2, 98, 1);
        (moved.validator, moved.time_ms) = (bytes(new_key.0), NOW + (1 << 31));
        let mut two = Author::of(2);
        let certificate = crate::node_certificate(moved, by(2));
        if covered {
            two.take(&mut state, v1::entry::Operation::AddNode(certificate));
            assert_eq!(state.voting_key(&member(2)), Some(new_key), "known before any block covers it");
        }
        let goes_on = Validator { member: member(2), key: new_key };
        let one = *set(&[1]).get(0).unwrap();
        let mut signed = state.propose_recovery(&ValidatorSet::new(vec![one, goes_on]).unwrap(), NOW + (1 << 32));
        sign(&mut signed, 0);
        sign(&mut signed, 1);
        cosigns(&mut signed, 0, NOW_S);
        cosigns(&mut signed, 0, NOW_S + HOUR_S);
        let opened = state.check_opening(&signed).unwrap();
        let (_, body) = state.next_block(&one.key, NOW, Some(&opened));
        body.next_validators
    };
    assert_eq!(with_new(true), None, "those of the recovery decide the next block too");
    assert_eq!(with_new(false), None, "also while its certificate is on its way");
}

#[test]
fn notes_of_holders_and_witnesses_are_taken_and_others_change_nothing() {
    let (state, _) = network(5);
    let policy = state.recovery_policy().unwrap();
    let mut signed = state.propose_recovery(&set(&[1, 2]), NOW);
    let text = note_text(&signed).unwrap();
    let key = |seed| VerifierKey::new(&recovery_origin(&genesis().id()), NoteAlgorithm::Ed25519, public(seed)).unwrap();
    let note_by = |seed| sign_note(&text, &key(seed), by(seed)).unwrap();
    assert_eq!(policy.take_note(&mut signed, &note_by(holders()[2])), Ok(true));
    assert_eq!(policy.take_note(&mut signed, &note_by(holders()[0])), Ok(true));
    assert_eq!(policy.take_note(&mut signed, &note_by(holders()[0])), Ok(false), "it is there");
    assert_eq!(policy.take_note(&mut signed, &note_by(1)), Ok(false), "nobody of the policy");
    let mut note = note_by(holders()[0]);
    for time_s in [NOW_S + HOUR_S, NOW_S, NOW_S + 5] {
        let seed = witnesses()[0];
        note.add(cosign(&note, &witness(seed), time_s, by(seed)).unwrap()).unwrap();
    }
    assert_eq!(policy.take_note(&mut signed, &note), Ok(true), "the first and the last");
    assert_eq!(policy.cosigned(&signed), Ok(vec![(0, NOW_S, NOW_S + HOUR_S)]));
    assert!(state.check_opening(&signed).is_ok());

    // Somebody's file may hold more of a witness than is kept.
    let mut many = announced(&state, &[1, 2]);
    (0..5).for_each(|at| cosigns(&mut many, 0, NOW_S + at));
    assert_eq!(policy.take_note(&mut many, &note), Ok(true));
    assert_eq!(policy.cosigned(&many), Ok(vec![(0, NOW_S, NOW_S + HOUR_S)]));

    let before = signed.clone();
    let other = note_text(&state.propose_recovery(&set(&[1]), NOW)).unwrap();
    let other = sign_note(&other, &key(holders()[1]), by(holders()[1])).unwrap();
    assert_eq!(policy.take_note(&mut signed, &other), Err(RecoveryError::OtherNote));
    let forged = sign_note(&text, &key(holders()[1]), by(1)).unwrap();
    let want = RecoveryError::BadSignature { what: "holder", index: 1 };
    assert_eq!(policy.take_note(&mut signed, &forged), Err(want));
    assert_eq!(signed, before);
}

#[test]
fn false_policies_found_no_network() {
    let refused = |change: &dyn Fn(&mut v1::RecoveryPolicy)| {
        let mut policy = policy();
        change(&mut policy);
        match State::from_genesis(v1::Genesis { recovery: Some(policy), ..genesis() }) {
            Err(GenesisError::Recovery(error)) => error,
            other => panic!("{other:?}"),
        }
    };
    let holders = |got, of| NotPolicy::Count { what: "holders", got, of, max: HOLDERS_MAX };
    assert_eq!(refused(&|it| it.threshold = 0), holders(0, 3));
    assert_eq!(refused(&|it| it.threshold = 4), holders(4, 3));
    assert_eq!(refused(&|it| it.keys = vec![it.keys[0].clone(); 17]), holders(2, 17));
    let witnesses = |got, of| NotPolicy::Count { what: "witnesses", got, of, max: RECOVERY_WITNESSES_MAX };
    assert_eq!(refused(&|it| it.cosignatures = 3), witnesses(3, 2));
    assert_eq!(refused(&|it| it.witnesses.clear()), witnesses(1, 0));
    assert_eq!(refused(&|it| it.delay_ms = 0), NotPolicy::Delay);
    assert_eq!(refused(&|it| it.keys.swap(0, 1)), NotPolicy::Holder { index: 1 });
    assert_eq!(refused(&|it| it.keys[2] = it.keys[1].clone()), NotPolicy::Holder { index: 2 });
    assert_eq!(refused(&|it| it.keys[0] = Bytes::from_static(&[1; 31])), NotPolicy::Holder { index: 0 });
    assert_eq!(refused(&|it| it.witnesses.swap(0, 1)), NotPolicy::Witness { index: 1 });
    assert_eq!(refused(&|it| it.witnesses[0] = "witness".into()), NotPolicy::Witness { index: 0 });
    let log_key = VerifierKey::new("a", NoteAlgorithm::Ed25519, public(245)).unwrap().to_string();
    assert_eq!(refused(&|it| it.witnesses[0].clone_from(&log_key)), NotPolicy::Witness { index: 0 });
}
