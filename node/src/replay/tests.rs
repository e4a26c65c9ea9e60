use std::path::Path;
use std::sync::Arc;

use bithealth_envelope::NodeKey;
use bithealth_ledger::{member_record, node_certificate, retire_node, signed_header, vote_message};
use bithealth_proto::v1::entry::Operation;
use bithealth_store::{Config, FaultyDisk, Kind, Store};
use bithealth_types::{Digest, Height, MemberId, Sequence, ValidatorId};
use bytes::Bytes;

use crate::chain::{Chain, Received, Verdict, block_of};

use super::*;

const NOW: u64 = 1_800_000_000_000;
const ORGANISATION: u8 = 1;
const VALIDATOR: u8 = 2;
const FIRST: u8 = 3;
const SECOND: u8 = 4;

fn key(seed: u8) -> NodeKey {
    NodeKey::from_seed([seed; 32])
}

fn public(seed: u8) -> Bytes {
    Bytes::copy_from_slice(key(seed).id().as_bytes())
}

fn by(seed: u8) -> impl Fn(&[u8]) -> [u8; 64] {
    move |message| key(seed).sign(message)
}

fn member() -> MemberId {
    MemberId(key(ORGANISATION).id().0)
}

fn certificate_of(node: u8, validator: Bytes) -> v1::NodeCertificate {
    let unsigned = v1::NodeCertificate {
        node: public(node),
        member: public(ORGANISATION),
        region: "north".into(),
        jurisdiction: "DE".into(),
        capacity: 1 << 30,
        time_ms: NOW,
        signature: Bytes::new(),
        validator,
        signer: Bytes::new(),
    };
    node_certificate(unsigned, by(ORGANISATION))
}

fn genesis() -> v1::Genesis {
    v1::Genesis {
        name: "test".into(),
        time_ms: NOW,
        salt: Bytes::from_static(&[9; 32]),
        founder: Some(member_record(&member(), "one", &[1; 1216], by(ORGANISATION))),
        founder_node: Some(certificate_of(FIRST, public(VALIDATOR))),
        recovery: None,
        parameters: None,
    }
}

/// The ledger of a node on a disk, whose organisation decides alone.
fn open(disk: &FaultyDisk, node: u8) -> Chain {
    let config = Config { reserve_len: 0, ..Config::default() };
    let store = Store::open_on(Arc::new(disk.clone()), Path::new("/store"), config).unwrap();
    Chain::open(genesis(), Arc::new(store), key(node)).unwrap()
}

fn append(chain: &Chain, operation: Operation) -> v1::SignedEntry {
    chain.append(NOW, operation).unwrap().1
}

fn notarise(chain: &Chain, at: u64) -> v1::SignedEntry {
    let commitment = Bytes::from(at.to_be_bytes().repeat(4));
    append(chain, Operation::Notarise(v1::Notarise { commitment }))
}

/// Decides the next block.
fn finalise(chain: &Chain) -> v1::Block {
    let validator = ValidatorId(key(VALIDATOR).id().0);
    let (header, body) = chain.state().next_block(&validator, NOW, None);
    let digest = bithealth_proto::digest(&header);
    let height = Height(header.height);
    let message = vote_message(&genesis().id(), height, 0, v1::VoteKind::Precommit, Some(&digest));
    let votes = [(validator, key(VALIDATOR).sign(&message))];
    let certificate = bithealth_ledger::certificate(&digest, 0, chain.state().validators(), &votes);
    let block = v1::Block { header: Some(header), certificate: Some(certificate), body: Some(body) };
    assert_eq!(chain.receive_block(&block).unwrap(), Received::New);
    block
}

#[test]
fn the_state_comes_back_from_an_old_store_a_folded_one_and_one_in_between() {
    let disk = FaultyDisk::new(0);
    let chain = open(&disk, FIRST);
    for at in 0..1000 {
        notarise(&chain, at);
        if at % 7 == 0 {
            finalise(&chain);
        }
    }
    let want = chain.state().digest();
    let (entries, blocks) = (chain.entries(&key(FIRST).id(), Sequence(0), 1000).unwrap(), chain.verify());
    assert_eq!(blocks, (1000, 143));
    let disk = disk.kill();
    let old = open(&disk, FIRST);
    assert_eq!((old.state().digest(), old.verify()), (want, blocks));
    assert_eq!(old.fold().unwrap(), 3 + 2, "three runs of entries, two of blocks");
    assert_eq!(old.fold().unwrap(), 0);
    let disk = disk.kill();
    let again = open(&disk, FIRST);
    assert_eq!((again.state().digest(), again.verify()), (want, blocks));
    assert_eq!(again.entries(&key(FIRST).id(), Sequence(0), 1000).unwrap(), entries);
    assert_eq!(again.entries(&key(FIRST).id(), Sequence(250), 12).unwrap(), entries[250..262]);
    assert_eq!(again.blocks(Height(60), 9).unwrap().len(), 9);
    notarise(&again, 1000);
    assert_eq!(finalise(&again).header.unwrap().height, 144);
}

#[test]
fn an_entry_that_refers_to_one_no_block_will_cover_is_taken_again() {
    let disks = [FaultyDisk::new(0), FaultyDisk::new(1)];
    let [first, second] = [open(&disks[0], FIRST), open(&disks[1], SECOND)];
    let give = |entry: &v1::SignedEntry, to: &Chain| assert_eq!(to.receive_entry(entry).unwrap(), Received::New);
    give(&append(&first, Operation::AddNode(certificate_of(SECOND, Bytes::new()))), &second);
    let commit = v1::PackCommit {
        pack: Some(v1::PackDescriptor {
            salt: Bytes::from_static(&[5; 32]),
            len: 300_000,
            k: 2,
            n: 3,
            roots: (1..4_u8).map(|root| Bytes::from(vec![root; 32])).collect(),
            catalog_len: 900,
        }),
        heads_root: Bytes::from_static(&[4; 32]),
        policy: Some(v1::Policy::default()),
        ..v1::PackCommit::default()
    };
    let pack = commit.pack.as_ref().unwrap().id();
    let late = append(&second, Operation::CommitPack(commit));
    let retirement =
        v1::RetireNode { node: public(SECOND), member: public(ORGANISATION), time_ms: NOW, ..Default::default() };
    let retirement = retire_node(retirement, by(ORGANISATION));
    append(&first, Operation::RetireNode(retirement));
    finalise(&first); // the log of the second node ends here, without what it wrote and we did not know
    give(&late, &first);
    let place = v1::PlaceShard { pack: Bytes::copy_from_slice(pack.as_bytes()), shard: 1, node: public(FIRST) };
    append(&first, Operation::PlaceShard(place));
    finalise(&first);
    notarise(&first, 0);
    finalise(&first);
    let log = first.state().log(&key(SECOND).id()).unwrap();
    assert_eq!((log.len, log.final_len), (1, 0));
    let want = first.state().digest();
    let again = open(&disks[0].kill(), FIRST);
    assert_eq!((again.state().digest(), again.state().height()), (want, Height(3)));
}

#[test]
fn blocks_whose_entries_were_lost_are_left_for_the_peers_and_what_is_there_is_kept() {
    let disk = FaultyDisk::new(0);
    let chain = open(&disk, FIRST);
    for at in 0..6 {
        notarise(&chain, at);
        finalise(&chain);
    }
    let store = {
        let config = Config { reserve_len: 0, ..Config::default() };
        Arc::new(Store::open_on(Arc::new(disk.kill()), Path::new("/store"), config).unwrap())
    };
    let lost = [key(FIRST).id().as_bytes(), &4_u64.to_be_bytes()[..]].concat();
    store.remove(Kind::Entry, &lost).unwrap();
    let again = Chain::open(genesis(), store, key(FIRST)).unwrap();
    assert_eq!(again.state().height(), Height(4));
    assert_eq!(again.state().log(&key(FIRST).id()).unwrap().len, 4);
}

#[test]
fn a_header_is_taken_with_the_body_that_was_proposed_and_else_waits_for_it() {
    let disks = [FaultyDisk::new(0), FaultyDisk::new(1), FaultyDisk::new(2)];
    let [decides, votes, hears] = [open(&disks[0], FIRST), open(&disks[1], SECOND), open(&disks[2], SECOND)];
    for at in 0..3 {
        let entry = notarise(&decides, at);
        for other in [&votes, &hears] {
            assert_eq!(other.receive_entry(&entry).unwrap(), Received::New);
        }
    }
    let validator = ValidatorId(key(VALIDATOR).id().0);
    let proposed = decides.propose(&validator, NOW, None).unwrap();
    assert_eq!(votes.check_proposal(&proposed, NOW).unwrap(), Verdict::Valid);
    let block = finalise(&decides);
    let (signed, body) = (signed_header(&block), block.body.clone().unwrap());
    let digest = bithealth_proto::digest(block.header.as_ref().unwrap());
    let unsigned = v1::SignedHeader { certificate: Some(v1::Certificate::default()), ..signed.clone() };
    assert!(matches!(hears.receive_header(&unsigned).unwrap(), Received::Forged(_)));
    assert_eq!((votes.headed(), hears.headed()), (None, None));

    assert_eq!(votes.receive_header(&signed).unwrap(), Received::New, "it voted for this body");
    assert_eq!(votes.state().digest(), decides.state().digest());
    assert_eq!(hears.receive_header(&signed).unwrap(), Received::Headed);
    assert_eq!(hears.receive_header(&signed).unwrap(), Received::Known);
    assert_eq!(hears.headed(), Some((digest, signed.clone())));
    assert_eq!((hears.state().height(), hears.body(Height(1), &digest).unwrap()), (Height(0), None));
    let another = v1::Body { frontier: Vec::new(), ..body.clone() };
    assert!(matches!(hears.receive_block(&block_of(signed.clone(), another)).unwrap(), Received::False(_)));
    assert_eq!(votes.body(Height(1), &digest).unwrap(), Some(body.clone()));
    assert_eq!(votes.body(Height(1), &Digest([7; 32])).unwrap(), None, "of another header");
    assert_eq!(hears.receive_block(&block_of(signed.clone(), body)).unwrap(), Received::New);
    assert_eq!((hears.headed(), hears.state().digest()), (None, decides.state().digest()));
    for chain in [&votes, &hears] {
        assert_eq!(chain.receive_header(&signed).unwrap(), Received::Known);
    }
}

#[test]
fn of_a_message_of_entries_all_before_the_first_bad_one_are_taken() {
    let disks = [FaultyDisk::new(0), FaultyDisk::new(1)];
    let [author, reader] = [open(&disks[0], FIRST), open(&disks[1], SECOND)];
    let entries: Vec<_> = (0..4).map(|at| notarise(&author, at)).collect();
    let forged = v1::SignedEntry { signature: entries[3].signature.clone(), ..entries[2].clone() };
    let message = [entries[0].clone(), entries[1].clone(), forged, entries[3].clone()];
    assert!(matches!(reader.receive_entries(&message).unwrap(), (2, Received::Forged(_))));
    assert_eq!(reader.receive_entries(&entries[3..]).unwrap(), (0, Received::Behind));
    assert_eq!(reader.receive_entries(&entries).unwrap(), (4, Received::New));
    assert_eq!(reader.receive_entries(&entries).unwrap(), (4, Received::Known));
    assert_eq!(reader.state().digest(), author.state().digest());
}
