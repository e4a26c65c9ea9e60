use bithealth_types::{ShardIndex, ValidatorId};
use bytes::Bytes;

use super::*;
use crate::fixture::*;
use crate::pack::{KEEP_IN_MAX, PackError, WRAP_LEN_MAX, WRAPS_MAX};
use crate::{Accused, BlockError, check_evidence, equivocation, sign};

mod condemned;
mod order;

#[test]
fn a_network_begins_with_its_founder() {
    let state = state();
    assert_eq!(state.members().map(|member| member.name.as_str()).collect::<Vec<_>>(), ["one"]);
    assert_eq!(state.member_named("one").unwrap().id, member(1));
    assert_eq!(state.node(&node(1)).unwrap().since, Some(Height(0)));
    assert_eq!(state.nodes_at(Height(0)).len(), 1);
    assert_eq!((state.height(), state.tip(), state.log(&node(1))), (Height(0), None, None));
    assert_eq!((state.founder(), state.genesis_id(), state.genesis()), (member(1), genesis().id(), &genesis()));
}

#[test]
fn a_false_genesis_is_refused() {
    let refused = |genesis| State::from_genesis(genesis).unwrap_err();
    let absent = |what| GenesisError::Membership(MembershipError::Absent { what });
    assert_eq!(refused(v1::Genesis { founder: None, ..genesis() }), absent("the founder's record"));
    let mute = v1::NodeCertificate { validator: Bytes::new(), ..node_certificate_of(1) };
    let mute = v1::Genesis { founder_node: Some(crate::node_certificate(mute, by(1))), ..genesis() };
    assert_eq!(refused(mute), GenesisError::NoValidator);
    assert_eq!(refused(v1::Genesis { founder_node: None, ..genesis() }), absent("the certificate of the first node"));
    let other = v1::Genesis { founder_node: Some(node_certificate_of(2)), ..genesis() };
    assert_eq!(refused(other), GenesisError::OtherMember { got: member(2), want: member(1) });
    let paced = |block_interval_ms, heartbeat_ms| {
        let parameters = Some(v1::Parameters { block_interval_ms, heartbeat_ms });
        State::from_genesis(v1::Genesis { parameters, ..genesis() }).map(|state| state.parameters())
    };
    let out = |what, got, min, max| Err(GenesisError::Parameter { what, got, min, max });
    assert_eq!(paced(99, 1000), out("block interval", 99, 100, 60_000));
    assert_eq!(paced(60_001, 1000), out("block interval", 60_001, 100, 60_000));
    assert_eq!(paced(100, 99), out("heartbeat", 99, 100, 86_400_000));
    assert_eq!(paced(100, 86_400_001), out("heartbeat", 86_400_001, 100, 86_400_000));
    assert_eq!(paced(100, 100), Ok(v1::Parameters { block_interval_ms: 100, heartbeat_ms: 100 }));
    assert_eq!(state().parameters(), PARAMETERS_DEFAULT);
    let salt = v1::Genesis { salt: Bytes::new(), ..genesis() };
    let want = MembershipError::Length { what: "the genesis' salt", got: 0, want: 32 };
    assert_eq!(refused(salt), want.into());
    let named = v1::Genesis { name: "n".repeat(65), ..genesis() };
    let want = MembershipError::Text { what: "the network's name", got: 65, max: NAME_LEN_MAX };
    assert_eq!(refused(named), want.into());
}

#[test]
fn entries_make_members_nodes_and_packs() {
    let (mut state, mut one) = three();
    let mut two = Author::of(2);
    assert_eq!(two.take(&mut state, commit(1)), Applied::PackCommitted(id_of(1)));
    let moved = Applied::ShardPlaced { pack: id_of(1), shard: ShardIndex(2), node: node(3) };
    assert_eq!(two.take(&mut state, place(1, 2, 3)), moved);
    two.take(&mut state, commit(2));
    let retired = Applied::PackRetired { pack: id_of(1), replaced_by: id_of(2) };
    assert_eq!(two.take(&mut state, gather(1, 2)), retired);
    assert_eq!(one.take(&mut state, retire(3, 3)), Applied::NodeRetired(node(3)));

    let pack = state.pack(&id_of(1)).unwrap();
    assert_eq!((pack.author, pack.sequence, pack.retired_into), (node(2), Sequence(0), Some(id_of(2))));
    assert_eq!(pack.places, BTreeMap::from([(ShardIndex(2), node(3))]));
    assert_eq!(state.packs().count(), 2);
    assert_eq!(state.pack_with_salt(&[2; 32]), Some(id_of(2)));
    assert!(state.node(&node(3)).unwrap().retired);
    let log = state.log(&node(2)).unwrap();
    assert_eq!((log.len, log.final_len, log.frozen), (4, 0, false));
    assert_eq!(state.open_frontier().len(), 2);
}

#[test]
fn of_what_our_own_store_holds_all_but_the_signatures_is_checked() {
    let (mut state, _) = three();
    let mut two = Author::of(2);
    let (first, second) = (two.write(commit(1)), two.write(commit(2)));
    let unsigned = |entry: &v1::SignedEntry| v1::SignedEntry { signature: Bytes::new(), ..entry.clone() };
    assert!(matches!(state.check(&unsigned(&first)), Err(EntryError::BadSignature { .. })));
    assert!(matches!(state.check_stored(&unsigned(&second)), Err(EntryError::Gap { have: 0, got: 1, .. })));
    assert_eq!(state.check_stored(&unsigned(&first)), state.check(&first));
    apply(&mut state, &first);
    let block = next_block(&state, NOW).unwrap();
    let without_votes = v1::Block { certificate: Some(v1::Certificate::default()), ..block.clone() };
    assert!(matches!(state.check_block(&without_votes), Err(BlockError::Certificate(_))));
    assert_eq!(state.check_stored_block(&without_votes), state.check_block(&block));
    let empty = v1::Block { body: Some(v1::Body::default()), ..block };
    assert!(matches!(state.check_stored_block(&empty), Err(BlockError::Commits { what: "frontier", .. })));
}

#[test]
fn an_entry_is_refused_for_its_place_in_the_log() {
    let (mut state, _) = three();
    let mut two = Author::of(2);
    let first = two.write(commit(1));
    let second = two.clone().write(commit(2));
    let gap = EntryError::Gap { author: node(2), have: 0, got: 1 };
    assert!(gap.is_waiting());
    assert_eq!(state.check(&second), Err(gap));
    apply(&mut state, &first);
    assert_eq!(state.check(&first), Err(EntryError::Known { author: node(2), sequence: 0 }));
    let mut stray = Author::of(2);
    stray.write(commit(9));
    let error = state.check(&stray.write(commit(2))).unwrap_err();
    assert!(matches!(error, EntryError::WrongPrevious { sequence: 1, .. }), "{error}");
    let nobody = Author::of(7).refused(&state, commit(1));
    assert_eq!(nobody, EntryError::UnknownAuthor { author: node(7) });
    assert!(nobody.is_waiting());
    let short = v1::Entry { author: Bytes::from_static(&[1; 5]), ..two.entry(commit(3)) };
    assert_eq!(state.check(&sign(by(102), short)), Err(EntryError::AuthorLength { got: 5 }));
    let empty = v1::Entry { operation: None, ..two.entry(commit(3)) };
    assert_eq!(state.check(&sign(by(102), empty)), Err(EntryError::NoOperation));
    let forged = sign(by(103), two.entry(commit(3)));
    assert_eq!(state.check(&forged), Err(EntryError::BadSignature { author: node(2), sequence: 1 }));
}

#[test]
fn no_bit_of_a_signed_entry_can_change() {
    let (state, _) = three();
    let signed = Author::of(2).write(commit(1));
    for index in 0..signed.entry.len() {
        let mut entry = signed.entry.to_vec();
        entry[index] ^= 1 << (index % 8);
        let changed = v1::SignedEntry { entry: entry.into(), ..signed.clone() };
        assert!(state.check(&changed).is_err(), "entry with byte {index} changed");
    }
    for index in 0..signed.signature.len() {
        let mut signature = signed.signature.to_vec();
        signature[index] ^= 1 << (index % 8);
        let changed = v1::SignedEntry { signature: signature.into(), ..signed.clone() };
        let error = state.check(&changed).unwrap_err();
        assert!(matches!(error, EntryError::BadSignature { .. }), "signature with byte {index} changed: {error}");
    }
    let cut = v1::SignedEntry { entry: signed.entry.slice(..signed.entry.len() - 1), ..signed };
    assert!(matches!(state.check(&cut), Err(EntryError::Decode(_))));
}

#[test]
fn two_entries_at_one_position_freeze_their_author() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    let mut two = Author::of(2);
    let mut twin = two.clone();
    let first = two.write(commit(1));
    apply(&mut state, &first);
    finalise(&mut state);
    let (kept, other) = (two.write(commit(2)), twin.write(commit(3)));
    apply(&mut state, &kept);
    let evidence = equivocation(&first, &other).unwrap();
    assert_eq!(check_evidence(&state.genesis_id(), &evidence), Ok(Accused::Author(node(2))));
    let applied = one.take(&mut state, Operation::Accuse(evidence.clone()));
    assert_eq!(applied, Applied::Accused(Accused::Author(node(2))));
    assert_eq!(state.accused().collect::<Vec<_>>(), [(Accused::Author(node(2)), &evidence, None)]);
    assert_eq!(one.refused_own(&state, Operation::Accuse(evidence)), EntryError::AccusedBefore);
    assert!(state.log(&node(2)).unwrap().frozen && state.node(&node(2)).unwrap().retired);
    // What others may have decided before they knew is taken, and what this node proposes leaves it out.
    let more = two.write(commit(4));
    apply(&mut state, &more);
    assert_eq!(two.refused_own(&state, commit(5)), EntryError::Frozen { author: node(2) });
    finalise(&mut state);
    assert_eq!(state.log(&node(2)).unwrap().final_len, 1);
    assert_eq!(two.refused(&state, commit(5)), EntryError::Frozen { author: node(2) });
    assert_eq!(state.accused().next().unwrap().2, Some(Height(3)));
    assert!(state.validators().of(&member(2)).is_none());
    assert!(!state.nodes_at(Height(3)).iter().any(|it| it.id == node(2)));
}

#[test]
fn a_validator_that_voted_twice_votes_no_more_until_its_organisation_names_another_key() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    let evidence = crate::evidence::tests::votes_of(validator_of(2), &[1; 32], &[2; 32]);
    one.take(&mut state, Operation::Accuse(evidence));
    assert!(state.validators().of(&member(2)).is_some(), "it votes on the block that convicts it");
    finalise(&mut state);
    assert!(state.validators().of(&member(2)).is_none());
    assert!(!state.node(&node(2)).unwrap().retired, "it stores and serves");
    let mut renewed = certificate_of(2, node_of(2), 2 << 30);
    renewed.validator = bytes(public(90));
    one.take(&mut state, Operation::AddNode(crate::node_certificate(renewed, by(2))));
    finalise(&mut state);
    assert_eq!(state.validators().of(&member(2)).unwrap().key, ValidatorId(public(90)));
}

#[test]
fn an_entry_waits_for_nothing_it_refers_to() {
    // Its author may have been shown what nobody else ever will be: then its log goes on all the same.
    let (mut state, mut one) = three();
    for operation in [admit(7, 60, 8, "eight"), add_node(7), retire(7, 2), retire(2, 7), place(1, 0, 1), place(1, 9, 1)]
    {
        one.take(&mut state, operation);
    }
    assert_eq!((state.members().count(), state.nodes().count(), state.packs().count()), (3, 3, 0));
    Author::of(2).take(&mut state, commit(1));
    assert_eq!(
        state.pack(&id_of(1)).unwrap().places,
        [(ShardIndex(0), node(1))].into(),
        "it takes effect, the false one not"
    );
    one.take(&mut state, admit(1, 61, 7, "seven"));
    assert_eq!(state.members().count(), 4, "seven, and not eight, that it alone invited");
    assert!(state.node(&node(7)).is_some());
}

#[test]
fn an_own_entry_refers_to_what_is_here() {
    let (mut state, one) = three();
    for (operation, want) in [
        (admit(7, 60, 8, "eight"), EntryError::NotApproved { got: 0, want: 2 }),
        (add_node(7), EntryError::MemberUnknown { member: member(7) }),
        (retire(2, 7), EntryError::NodeUnknown { node: node(7) }),
        (place(1, 0, 1), EntryError::PackUnknown { pack: id_of(1) }),
    ] {
        assert_eq!(one.refused_own(&state, operation), want);
    }
    Author::of(2).take(&mut state, commit(1));
    let mut two = Author::of(2);
    two.write(commit(1));
    assert_eq!(two.refused_own(&state, place(1, 0, 7)), EntryError::NodeUnknown { node: node(7) });
}

#[test]
fn a_false_membership_message_is_refused() {
    let (state, one) = three();
    let Operation::Admit(mut admission) = admit(1, 60, 4, "four") else { panic!("an admission was made") };
    admission.signature = Bytes::from_static(&[0; 64]);
    let want = MembershipError::Signature { what: "the admission", by: "the invite's key" };
    assert_eq!(one.refused(&state, Operation::Admit(admission)), want.into());
    let mut late = one.clone();
    late.time_ms = NOW + 1001;
    let want = MembershipError::InviteExpired { expires_ms: NOW + 1000, at_ms: NOW + 1001 };
    assert_eq!(late.refused(&state, admit(1, 60, 4, "four")), want.into());
}

#[test]
fn moves_of_shards_are_written_by_the_author_or_by_the_taker() {
    let (mut state, mut one) = three();
    let (mut two, mut three) = (Author::of(2), Author::of(3));
    two.take(&mut state, commit(1));
    assert_eq!(one.refused_own(&state, place(1, 1, 3)), EntryError::NotPlacer { author: node(1), pack: id_of(1) });
    assert_eq!(two.refused_own(&state, place(1, 3, 3)), EntryError::NoSuchShard { shard: 3, n: 3 });
    let none = EntryError::NoSuchShard { shard: 1 << 16, n: 1 << 16 };
    assert_eq!(two.refused(&state, place(1, 1 << 16, 3)), none);
    let short = v1::PlaceShard { pack: Bytes::new(), shard: 0, node: bytes(node(2).0) };
    let want = EntryError::IdLength { what: "the pack", got: 0 };
    assert_eq!(two.refused(&state, Operation::PlaceShard(short)), want);
    three.time_ms += 1;
    three.take(&mut state, place(1, 1, 3));
    one.take(&mut state, place(1, 1, 1));
    assert_eq!(state.pack(&id_of(1)).unwrap().places[&ShardIndex(1)], node(3), "the later move, though it came first");
}

#[test]
fn packs_are_retired_by_their_author_once_into_another_of_its_packs() {
    let (mut state, one) = three();
    let mut two = Author::of(2);
    two.take(&mut state, commit(1));
    two.take(&mut state, commit(2));
    assert_eq!(one.refused(&state, gather(1, 2)), EntryError::NotItsPack { author: node(1), pack: id_of(2) });
    assert_eq!(two.refused(&state, gather(1, 9)), EntryError::NotItsPack { author: node(2), pack: id_of(9) });
    assert_eq!(two.refused(&state, gather(1, 1)), EntryError::RetiredBefore { pack: id_of(1), into: id_of(1) });
    two.take(&mut state, gather(1, 2));
    assert_eq!(two.refused(&state, gather(1, 2)), EntryError::RetiredBefore { pack: id_of(1), into: id_of(2) });
    assert_eq!(two.refused(&state, commit(1)), EntryError::PackCommitted { pack: id_of(1) });
}

#[test]
fn who_commits_the_pack_of_another_cannot_retire_it() {
    let (mut state, mut one) = three();
    let mut two = Author::of(2);
    two.take(&mut state, commit(1));
    finalise(&mut state);
    one.take(&mut state, commit(1));
    one.take(&mut state, commit(2));
    one.take(&mut state, gather(1, 2));
    let pack = state.pack(&id_of(1)).unwrap();
    assert_eq!((pack.author, pack.retired_into, pack.height), (node(2), None, Some(Height(1))));
}

#[test]
fn a_false_pack_commit_is_refused() {
    let (state, one) = three();
    let refused = |change: &dyn Fn(&mut v1::PackCommit)| {
        let mut commit = pack(1);
        change(&mut commit);
        match one.refused(&state, Operation::CommitPack(commit)) {
            EntryError::Pack(error) => error,
            other => panic!("{other}"),
        }
    };
    let of = |commit: &mut v1::PackCommit, change: &dyn Fn(&mut v1::PackDescriptor)| {
        change(commit.pack.as_mut().unwrap());
    };
    let shard = |shard| v1::Exception { shard, node: bytes(node(2).0) };
    let length = |what, got| PackError::Length { what, got, want: 32 };
    let short = || Bytes::from_static(&[1; 31]);
    assert_eq!(refused(&|it| it.pack = None), PackError::Absent { what: "the pack's descriptor" });
    assert_eq!(refused(&|it| it.policy = None), PackError::Absent { what: "the pack's policy" });
    assert_eq!(refused(&|it| of(it, &|pack| pack.salt = short())), length("the pack's salt", 31));
    assert_eq!(refused(&|it| of(it, &|pack| pack.roots[1] = short())), length("a shard's root", 31));
    assert_eq!(refused(&|it| it.heads_root = short()), length("the root of the folder heads", 31));
    let stray = v1::Exception { shard: 0, node: short() };
    assert_eq!(refused(&|it| it.exceptions = vec![stray.clone()]), length("the node of an exception", 31));
    assert!(matches!(refused(&|it| of(it, &|pack| pack.k = 4)), PackError::Code(_)));
    assert_eq!(refused(&|it| of(it, &|pack| pack.len = 0)), PackError::PackLen { got: 0 });
    let long = (16 << 20) + 1;
    assert_eq!(refused(&|it| of(it, &|pack| pack.len = long)), PackError::PackLen { got: long });
    assert_eq!(refused(&|it| of(it, &|pack| drop(pack.roots.pop()))), PackError::Roots { got: 2, n: 3 });
    let want = PackError::CatalogLen { got: 300_001, len: 300_000 };
    assert_eq!(refused(&|it| of(it, &|pack| pack.catalog_len = 300_001)), want);
    let wraps = |count: usize, len: usize| vec![Bytes::from(vec![1; len]); count];
    assert_eq!(refused(&|it| it.wraps = wraps(WRAPS_MAX + 1, 9)), PackError::Wraps { got: WRAPS_MAX + 1 });
    assert_eq!(refused(&|it| it.wraps = wraps(1, WRAP_LEN_MAX + 1)), PackError::WrapLen { got: WRAP_LEN_MAX + 1 });
    assert_eq!(refused(&|it| it.wraps = wraps(1, 0)), PackError::WrapLen { got: 0 });
    assert_eq!(refused(&|it| it.exceptions = vec![shard(3)]), PackError::Exception { shard: 3, n: 3 });
    assert_eq!(refused(&|it| it.exceptions = vec![shard(1), shard(1)]), PackError::Exception { shard: 1, n: 3 });
    let kept = |names: Vec<String>| Some(v1::Policy { keep_in: names, ..Default::default() });
    let many = vec!["DE".to_owned(); KEEP_IN_MAX + 1];
    assert_eq!(refused(&|it| it.policy = kept(many.clone())), PackError::KeepIn { got: KEEP_IN_MAX + 1 });
    assert!(matches!(refused(&|it| it.policy = kept(vec![String::new()])), PackError::Jurisdiction(_)));
    let mut most = pack(1);
    most.wraps = wraps(WRAPS_MAX, 1168);
    most.policy = kept(vec!["DE".to_owned(); KEEP_IN_MAX]);
    most.exceptions = vec![shard(0), shard(2)];
    assert!(state.check(&one.clone().write(Operation::CommitPack(most))).is_ok(), "all at their limits");
}

#[test]
fn an_own_entry_at_odds_with_what_is_known_is_not_written() {
    let (mut state, mut one) = three();
    let taken = EntryError::NameTaken { name: "two".into(), by: member(2) };
    assert_eq!(one.refused_own(&state, admit(1, 60, 4, "two")), taken);
    assert_eq!(one.refused_own(&state, admit(1, 60, 2, "two")), EntryError::AlreadyMember { member: member(2) });
    let stolen = Operation::AddNode(certificate_of(3, 102, 5));
    assert_eq!(one.refused_own(&state, stolen), EntryError::NodeTaken { node: node(2), by: member(2) });
    let mut two = Author::of(2);
    two.take(&mut state, commit(1));
    one.take(&mut state, retire(2, 2));
    assert_eq!(one.refused_own(&state, add_node(2)), EntryError::NodeRetired { node: node(2) });
    assert_eq!(two.refused_own(&state, commit(2)), EntryError::NodeRetired { node: node(2) });
    one.take(&mut state, Operation::Propose(propose_invite(1, 60, 4, "four")));
    let fine = one.write(admit(1, 60, 4, "four"));
    assert!(state.check_own(&fine).is_ok());
}

#[test]
fn of_two_organisations_of_one_name_the_first_final_one_is_a_member() {
    let both = |one: &mut Author, state: &mut State| {
        for (key, org) in [(60, 4), (61, 5)] {
            one.take(state, Operation::Propose(propose_invite(1, key, org, "same")));
        }
    };
    let (mut state, mut one) = three();
    both(&mut one, &mut state);
    finalise(&mut state);
    let (mut two, mut three) = (Author::of(2), Author::of(3));
    let (four, five) = if node(2) < node(3) { (4, 5) } else { (5, 4) };
    two.take(&mut state, admit(1, 60, 4, "same"));
    three.take(&mut state, admit(1, 61, 5, "same"));
    assert_eq!(state.member_named("same").unwrap().id, member(four), "the lower author's, while neither is final");
    assert!(state.member(&member(five)).is_none());
    one.take(&mut state, add_node(five));
    assert!(state.node(&node(five)).is_none(), "no node without its organisation");

    // The same, but a block covers the other one first.
    let (mut state, mut one) = crate::fixture::three();
    both(&mut one, &mut state);
    finalise(&mut state);
    let (mut two, mut three) = (Author::of(2), Author::of(3));
    let (first, second) = if node(2) < node(3) { (&mut three, &mut two) } else { (&mut two, &mut three) };
    let of =
        |author: &Author| if author.entry(commit(0)).author == node(2).0.as_slice() { (1, 60, 4) } else { (1, 61, 5) };
    let (a, b) = (of(first), of(second));
    first.take(&mut state, admit(a.0, a.1, a.2, "same"));
    finalise(&mut state);
    second.take(&mut state, admit(b.0, b.1, b.2, "same"));
    assert_eq!(state.member_named("same").unwrap().id, member(a.2));
    finalise(&mut state);
    assert_eq!(state.member_named("same").unwrap().id, member(a.2));
}

#[test]
fn each_member_votes_with_the_key_of_its_latest_node_from_the_next_height_on() {
    let (mut state, mut one) = three();
    let keys = |state: &State| state.validators().iter().map(|it| (it.member, it.key)).collect::<BTreeMap<_, _>>();
    let key = |seed| bithealth_types::ValidatorId(public(seed));
    assert_eq!(keys(&state), BTreeMap::from([(member(1), key(151))]), "the founder alone decides the first block");
    finalise(&mut state);
    assert_eq!(keys(&state).len(), 3);
    // A restored node brings another key, and the old one is gone with the block that covers it.
    let mut restored = certificate_of(2, 99, 2 << 30);
    restored.validator = bytes(public(90));
    one.take(&mut state, Operation::AddNode(crate::node_certificate(restored, by(2))));
    assert_eq!(keys(&state)[&member(2)], key(152));
    finalise(&mut state);
    assert_eq!(keys(&state)[&member(2)], key(90));
    // A retired node does not vote; a key that two organisations claim is the first one's.
    one.take(&mut state, retire(3, 3));
    let mut thief = certificate_of(1, 98, 3 << 30);
    thief.validator = bytes(public(90));
    one.take(&mut state, Operation::AddNode(crate::node_certificate(thief, by(1))));
    let voters = [(ValidatorId(public(151)), 151), (ValidatorId(public(90)), 90), (ValidatorId(public(153)), 153)];
    let (header, body) = state.next_block(&voters[0].0, NOW, None);
    let digest = bithealth_proto::digest(&header);
    let message = crate::vote_message(&state.genesis_id(), Height(3), 0, v1::VoteKind::Precommit, Some(&digest));
    let votes: Vec<_> = voters.iter().map(|(key, seed)| (*key, by(*seed)(&message))).collect();
    let certificate = crate::certificate(&digest, 0, state.validators(), &votes);
    let block = v1::Block { header: Some(header), certificate: Some(certificate), body: Some(body) };
    let checked = state.check_block(&block).unwrap();
    state.apply_block(checked);
    assert_eq!(keys(&state), BTreeMap::from([(member(2), key(90))]));
}

#[test]
fn what_is_final_takes_no_memory_and_is_compared_by_the_store() {
    let (mut state, mut one) = three();
    let signed = one.write(commit(1));
    apply(&mut state, &signed);
    assert_eq!(state.check(&signed), Err(EntryError::Known { author: node(1), sequence: 4 }));
    let root = state.entries(&node(1)).unwrap().root_at(5).unwrap();
    finalise(&mut state);
    assert_eq!(state.check(&signed), Err(EntryError::Final { author: node(1), sequence: 4 }));
    assert_eq!(state.log(&node(1)).unwrap().final_root, root);
    assert_eq!(state.entries(&node(1)).unwrap().root_at(4), None, "what lies before is folded together");
}

#[test]
fn an_invite_brings_in_one_organisation() {
    let (mut state, _) = three();
    Author::of(2).take(&mut state, admit(1, 60, 4, "four"));
    let invite = invited(1, 60, 4, "four");
    let again = crate::admission(invite, record(5, "four"), by(60));
    Author::of(3).take(&mut state, Operation::Admit(again));
    assert_eq!(state.members().count(), 4);
}

#[test]
fn the_same_admission_in_two_logs_is_one() {
    let (mut state, _) = three();
    Author::of(2).take(&mut state, admit(1, 60, 4, "four"));
    Author::of(3).take(&mut state, admit(1, 60, 4, "four"));
    assert_eq!(state.member_named("four").unwrap().id, member(4));
    finalise(&mut state);
    assert_eq!(state.members().count(), 4);
}

#[test]
fn a_node_stays_with_the_organisation_that_claimed_it_first() {
    let (mut state, mut one) = three();
    finalise(&mut state);
    one.take(&mut state, Operation::AddNode(certificate_of(3, 102, 5)));
    assert_eq!(state.node(&node(2)).unwrap().member, member(2));
    one.take(&mut state, retire(3, 2));
    assert!(!state.node(&node(2)).unwrap().retired, "another organisation cannot retire it");
}

#[test]
fn the_nodes_of_a_height_never_change_afterwards() {
    let (mut state, mut one) = three();
    assert_eq!(state.nodes_at(Height(0)).len(), 1, "no block covers the others yet");
    finalise(&mut state);
    let of = |state: &State, height| {
        state.nodes_at(Height(height)).iter().map(|node| (node.id, node.capacity)).collect::<Vec<_>>()
    };
    let first = of(&state, 1);
    assert_eq!(first.len(), 3);
    one.take(&mut state, Operation::AddNode(certificate_of(2, 102, 2 << 30)));
    assert_eq!(state.node(&node(2)).unwrap().capacity, 2 << 30, "known at once");
    assert_eq!(of(&state, 1), first);
    finalise(&mut state);
    one.take(&mut state, retire(3, 3));
    finalise(&mut state);
    assert_eq!(of(&state, 1), first);
    assert!(of(&state, 2).contains(&(node(2), 2 << 30)));
    assert_eq!(of(&state, 2).len(), 3);
    assert_eq!(of(&state, 3).len(), 2);
    assert_eq!(of(&state, 99), of(&state, 3));
}

#[test]
fn a_retired_log_ends_where_the_block_that_covers_the_retirement_ends_it() {
    let (mut state, mut one) = three();
    let mut two = Author::of(2);
    two.take(&mut state, commit(1));
    one.take(&mut state, retire(2, 2));
    two.take(&mut state, commit(2)); // written before it heard of it, for all anybody knows
    finalise(&mut state);
    two.take(&mut state, commit(3));
    assert!(!state.is_open(), "taken, but there is nothing to cover");
    one.take(&mut state, commit(4));
    finalise(&mut state);
    let log = state.log(&node(2)).unwrap();
    assert_eq!((log.len, log.final_len), (3, 2));
    assert_eq!(state.pack(&id_of(3)).unwrap().height, None);
}

#[test]
fn every_entry_has_one_encoding() {
    for signed in order::logs().into_iter().flatten() {
        let entry: v1::Entry = decode(&signed.entry).unwrap();
        assert_eq!(bithealth_proto::encode(&entry), signed.entry);
        let whole = bithealth_proto::encode(&signed);
        assert_eq!(decode::<v1::SignedEntry>(&whole), Ok(signed));
    }
}
