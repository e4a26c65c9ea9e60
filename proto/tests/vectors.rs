//! What we accept and what we refuse, byte for byte: the files in `vectors/`, named after what they hold or their flaw.
//!
//! They are what this code writes; set `BITHEALTH_WRITE_VECTORS` to write them anew. A file that was released is never
//! changed: bytes that were accepted once stay acceptable. Signatures in them are patterns, since the format does not
//! verify them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bithealth_proto::v1::exchange_ask::Ask;
use bithealth_proto::v1::exchange_tell::Tell;
use bithealth_proto::v1::{
    self, audit_ask, audit_tell, consensus_message::Message, entry::Operation, wal_frame::Frame,
};
use bithealth_proto::{DecodeError, Limited, decode, encode};
use bytes::Bytes;

/// A vector: how its message is decoded and encoded again, and its bytes.
struct Vector {
    name: &'static str,
    again: fn(&[u8]) -> Result<Vec<u8>, DecodeError>,
    bytes: Vec<u8>,
}

fn again<M: Limited>(bytes: &[u8]) -> Result<Vec<u8>, DecodeError> {
    decode::<M>(bytes).map(|message| encode(&message))
}

fn whole<M: Limited>(name: &'static str, message: &M) -> Vector {
    raw::<M>(name, encode(message))
}

fn raw<M: Limited>(name: &'static str, bytes: Vec<u8>) -> Vector {
    Vector { name, again: again::<M>, bytes }
}

fn filled(byte: u8, len: usize) -> Bytes {
    Bytes::from(vec![byte; len])
}

fn key(byte: u8) -> Bytes {
    filled(byte, 32)
}

fn signature(byte: u8) -> Bytes {
    filled(byte, 64)
}

fn member() -> v1::MemberRecord {
    v1::MemberRecord {
        member: key(1),
        name: "Clínica São João".into(),
        recipient: filled(2, 1216),
        signature: signature(3),
    }
}

fn node() -> v1::NodeCertificate {
    v1::NodeCertificate {
        node: key(4),
        member: key(1),
        region: "eu-west".into(),
        jurisdiction: "PT".into(),
        capacity: 1 << 40,
        time_ms: 1_800_000_000_000,
        signature: signature(5),
        validator: key(32),
        signer: Bytes::new(),
    }
}

fn genesis() -> v1::Genesis {
    v1::Genesis {
        name: "network".into(),
        time_ms: 1_800_000_000_000,
        salt: key(6),
        founder: Some(member()),
        founder_node: Some(node()),
        recovery: Some(v1::RecoveryPolicy {
            threshold: 2,
            keys: vec![key(33), key(34), key(35)],
            delay_ms: 259_200_000,
            witnesses: vec![],
            cosignatures: 0,
        }),
        parameters: Some(v1::Parameters { block_interval_ms: 500, heartbeat_ms: 60_000 }),
    }
}

fn defaults() -> v1::Proposal {
    let defaults = v1::Defaults { survive_regions: 1, survive_nodes: 0 };
    v1::Proposal { time_ms: 1_800_000_000_007, change: Some(v1::proposal::Change::Defaults(defaults)) }
}

fn keys() -> v1::Proposal {
    let keys = v1::MemberKeys { member: key(1), key: key(66), recipient: filled(67, 1216), signature: signature(68) };
    v1::Proposal { time_ms: 1_800_000_000_009, change: Some(v1::proposal::Change::Keys(keys)) }
}

fn recovery() -> v1::SignedRecovery {
    let recovery = v1::Recovery {
        genesis: key(7),
        era: 2,
        height: 70,
        previous: key(62),
        time_ms: 1_800_000_000_008,
        validators: Some(validators()),
    };
    v1::SignedRecovery {
        recovery: Some(recovery),
        earlier: vec![key(63)],
        holders: vec![v1::HolderSignature { holder: 0, signature: signature(64) }],
        cosignatures: vec![v1::RecoveryCosignature { witness: 1, time_s: 1_800_000_009, signature: signature(65) }],
    }
}

fn invite() -> v1::Invite {
    v1::Invite {
        genesis: key(7),
        issuer: key(1),
        key: key(8),
        expires_ms: 1_800_000_600_000,
        signature: signature(9),
        name: "South Clinic".into(),
        region: "south".into(),
        jurisdiction: "FR".into(),
        signer: Bytes::new(),
    }
}

fn admission() -> v1::Admission {
    v1::Admission { invite: Some(invite()), member: Some(member()), signature: signature(10) }
}

fn descriptor() -> v1::PackDescriptor {
    let roots = (1..=9).map(key).collect();
    v1::PackDescriptor { salt: key(11), len: 16 << 20, k: 4, n: 9, roots, catalog_len: 4096 }
}

fn commit() -> v1::PackCommit {
    v1::PackCommit {
        pack: Some(descriptor()),
        height: 41,
        exceptions: vec![v1::Exception { shard: 0, node: key(12) }, v1::Exception { shard: 8, node: key(13) }],
        heads_root: key(14),
        wraps: vec![filled(15, 1168)],
        policy: Some(v1::Policy {
            survive_regions: 1,
            survive_nodes: 1,
            keep_in: vec!["PT".into(), "ES".into()],
            no_single_state: true,
        }),
    }
}

fn entry(operation: Operation) -> v1::Entry {
    let (sequence, time_ms) = (300, 1_800_000_000_001);
    v1::Entry { author: key(4), sequence, previous: key(16), time_ms, operation: Some(operation) }
}

fn condemnation() -> v1::Condemnation {
    let fault = v1::AuditFault::Late.into();
    v1::Condemnation { node: key(70), fault, nonce: key(71), pack: key(20), shard: 3 }
}

fn audit_set() -> v1::AuditAsk {
    let shard = |pack, shard| v1::AuditShard { pack: key(pack), shard };
    let set = v1::AuditSet { nonce: key(71), shards: vec![shard(20, 3), shard(21, 0)] };
    v1::AuditAsk { ask: Some(audit_ask::Ask::Commit(set)) }
}

fn audit_leaf(len: usize) -> v1::AuditTell {
    let leaf = v1::AuditLeaf { leaf: 129, data: filled(72, len), bound: vec![key(73), key(74)], proof: vec![key(75)] };
    v1::AuditTell { tell: Some(audit_tell::Tell::Opened(leaf)) }
}

/// What passes in an audit.
fn audits() -> Vec<Vector> {
    let drawn = v1::AuditAsk { ask: Some(audit_ask::Ask::Open(v1::AuditDrawn { leaves: vec![0, 5, 129, 16_000] })) };
    let tell = |tell| v1::AuditTell { tell: Some(tell) };
    let commitment = v1::AuditCommitment { root: key(76), lacks: Bytes::from_static(&[2]) };
    vec![
        whole("audit_set", &audit_set()),
        whole("audit_commitment", &tell(audit_tell::Tell::Committed(commitment))),
        whole("audit_drawn", &drawn),
        whole("audit_leaf", &audit_leaf(64)),
        whole("audit_busy", &tell(audit_tell::Tell::Busy(v1::AuditBusy { reason: "two others are audited".into() }))),
    ]
}

fn retired_pack() -> v1::Entry {
    entry(Operation::RetirePack(v1::RetirePack { pack: key(20), replaced_by: key(21) }))
}

fn header() -> v1::Header {
    v1::Header {
        genesis: key(7),
        height: 42,
        previous: key(22),
        time_ms: 1_800_000_000_002,
        uncertainty_ms: 30_000,
        frontier_root: key(23),
        state_root: key(24),
        history_root: key(36),
        validators: key(37),
        next_validators: key(38),
        recovery: key(39),
        era: 1,
        producer: key(32),
    }
}

fn validators() -> v1::ValidatorSet {
    let validator = |member, of| v1::Validator { member: key(member), key: key(of) };
    v1::ValidatorSet { validators: vec![validator(1, 32), validator(2, 40)] }
}

fn proposed() -> v1::Proposed {
    let body = v1::Body { frontier: vec![frontier(4)], next_validators: None, recovery: None };
    v1::Proposed { header: encode(&header()).into(), body: encode(&body).into() }
}

fn vote() -> v1::ConsensusVote {
    let kind = v1::VoteKind::Precommit.into();
    v1::ConsensusVote { height: 42, round: 1, kind, value: key(26), validator: key(32), signature: signature(41) }
}

fn proposal() -> v1::ConsensusProposal {
    v1::ConsensusProposal {
        height: 42,
        round: 1,
        value: key(26),
        polka_round_plus_one: 1,
        validator: key(32),
        signature: signature(42),
        content: Some(proposed()),
    }
}

fn polka() -> v1::PolkaCertificate {
    let signatures = vec![v1::ValidatorSignature { validator: key(32), signature: signature(43) }];
    v1::PolkaCertificate { height: 42, round: 1, value: key(26), signatures }
}

fn said(message: Message) -> v1::ConsensusMessage {
    v1::ConsensusMessage { message: Some(message), repeat: 0 }
}

fn framed(frame: Frame) -> v1::WalFrame {
    v1::WalFrame { frame: Some(frame) }
}

/// What validators say, and what their logs keep.
fn consensus() -> Vec<Vector> {
    let nil = v1::ConsensusVote { kind: v1::VoteKind::Prevote.into(), value: Bytes::new(), round: 0, ..vote() };
    let round_vote = v1::RoundVote {
        kind: v1::VoteKind::Precommit.into(),
        value: Bytes::new(),
        validator: key(32),
        signature: signature(44),
    };
    let round = v1::RoundCertificate { height: 42, round: 1, precommits: true, votes: vec![round_vote] };
    let value = v1::WalValue {
        height: 42,
        round: 1,
        polka_round_plus_one: 0,
        validator: key(32),
        value: key(26),
        valid: true,
        content: Some(proposed()),
    };
    let safety = v1::Safety { height: 42, round: 1, step: 3, value: filled(45, 120) };
    vec![
        whole("validator_set", &validators()),
        whole("consensus_vote_nil", &said(Message::Vote(nil))),
        whole("consensus_vote_repeated", &v1::ConsensusMessage { repeat: 7, ..said(Message::Vote(vote())) }),
        whole("consensus_proposal", &said(Message::Proposal(proposal()))),
        whole("consensus_polka", &said(Message::Polka(polka()))),
        whole("consensus_round", &said(Message::Round(round))),
        whole("wal_vote", &framed(Frame::Vote(vote()))),
        whole("wal_proposal", &framed(Frame::Proposal(v1::ConsensusProposal { content: None, ..proposal() }))),
        whole("wal_polka", &framed(Frame::Polka(polka()))),
        whole("wal_timeout", &framed(Frame::Timeout(v1::WalTimeout { kind: 1, round: 1 }))),
        whole("wal_value", &framed(Frame::Value(value))),
        whole("safety", &safety),
    ]
}

/// What leaves the network.
fn proofs() -> Vec<Vector> {
    let signed = |next_validators| v1::SignedHeader {
        header: Some(header()),
        certificate: Some(certificate()),
        next_validators,
        recovery: None,
    };
    let opening = v1::Opening { salt: key(47), file: key(48) };
    let proof = v1::Proof {
        genesis: key(7),
        changes: vec![signed(Some(validators()))],
        head: Some(signed(None)),
        frontier: Some(frontier(4)),
        frontier_proof: Some(v1::FrontierProof { count: 9, tree: key(49), index: 3, path: vec![key(50), key(51)] }),
        entry: Some(v1::SignedEntry { entry: encode(&retired_pack()).into(), signature: signature(28) }),
        index: 300,
        path: vec![key(52), key(53)],
        opening: Some(opening.clone()),
        record: None,
    };
    let leaf = v1::RecordLeaf { salt: key(80), record: filled(81, 16), plaintext_digest: key(82) };
    let record = v1::RecordOpening {
        leaf: Some(leaf.clone()),
        index: 2,
        count: 300,
        path: vec![key(83), key(84)],
        head: Some(v1::HeadLeaf { head: key(85), records: key(86) }),
        head_index: 1,
        head_count: 2,
        head_path: vec![key(87)],
    };
    vec![
        whole("signed_header", &signed(None)),
        whole("signed_header_of_a_change", &signed(Some(validators()))),
        whole("signed_header_of_an_era", &v1::SignedHeader { recovery: Some(recovery()), ..signed(None) }),
        whole("opening", &opening),
        whole("proof", &proof),
        whole("proof_of_a_record", &v1::Proof { opening: None, record: Some(record.clone()), ..proof }),
        whole("record_opening", &record),
        whole("record_leaf", &leaf),
        whole("head_leaf", &v1::HeadLeaf { head: key(85), records: key(86) }),
    ]
}

fn frontier(author: u8) -> v1::Frontier {
    v1::Frontier { author: key(author), len: 301, root: key(25) }
}

fn certificate() -> v1::Certificate {
    v1::Certificate { header: key(26), round: 1, signers: filled(3, 1), signatures: filled(27, 128) }
}

/// What peers ask and tell one another about leaves.
fn exchange() -> Vec<Vector> {
    let ask = |ask| v1::ExchangeAsk { ask: Some(ask) };
    let tell = |tell| v1::ExchangeTell { tell: Some(tell) };
    let runs = |shard, runs: &'static [u8]| v1::ShardRuns { shard, runs: Bytes::from_static(runs) };
    let priority = v1::WantPriority::Restore.into();
    let want = v1::Want { id: 300, pack: key(19), shard: 7, leaf: 64, count: 16, priority };
    let have = v1::Have {
        pack: key(19),
        shards: Bytes::from_static(&[0b1000_0001, 1]),
        runs: vec![runs(2, &[0b1010]), runs(8, &[0, 1])],
        fetchers: vec![key(12), key(13)],
        fetching: true,
    };
    vec![
        whole("ask_have", &ask(Ask::Have(v1::HaveQuery { pack: key(19), fetching: false }))),
        whole("ask_have_of_who_fetches", &ask(Ask::Have(v1::HaveQuery { pack: key(19), fetching: true }))),
        whole("ask_want", &ask(Ask::Want(want))),
        whole("ask_cancel", &ask(Ask::Cancel(v1::Cancel { id: 300 }))),
        whole("tell_have", &tell(Tell::Have(have))),
        whole("tell_more", &tell(Tell::More(v1::HaveMore { pack: key(19), runs: vec![runs(2, &[1])] }))),
        whole("tell_busy", &tell(Tell::Busy(v1::Busy { id: 300 }))),
        whole("tell_choke", &tell(Tell::Choke(v1::Choke {}))),
        whole("tell_unchoke", &tell(Tell::Unchoke(v1::Unchoke {}))),
    ]
}

fn accepted() -> Vec<Vector> {
    let retire =
        v1::RetireNode { node: key(17), member: key(1), time_ms: 5, signature: signature(18), signer: Bytes::new() };
    let first = v1::Entry { sequence: 0, previous: key(0), ..entry(Operation::AddNode(node())) };
    let signed = v1::SignedEntry { entry: encode(&retired_pack()).into(), signature: signature(28) };
    let block = v1::Block {
        header: Some(header()),
        certificate: Some(certificate()),
        body: Some(v1::Body {
            frontier: vec![frontier(4), frontier(29)],
            next_validators: Some(validators()),
            recovery: None,
        }),
    };
    let heartbeat = v1::Block { body: Some(v1::Body::default()), ..block.clone() };
    let notarise = Operation::Notarise(v1::Notarise { commitment: key(46) });
    let head = v1::FolderHead { salt: filled(30, 16), folder: filled(31, 16), previous: Bytes::new(), record_count: 3 };
    let condemnation_of_the_whole = v1::Condemnation { pack: Bytes::new(), shard: 0, ..condemnation() };
    vec![
        whole("genesis", &genesis()),
        whole("member_record", &member()),
        whole("node_certificate", &node()),
        whole("admission", &admission()),
        whole("entry_admit", &entry(Operation::Admit(admission()))),
        whole("entry_add_node_first_of_its_log", &first),
        whole("entry_retire_node", &entry(Operation::RetireNode(retire))),
        whole("entry_commit_pack", &entry(Operation::CommitPack(commit()))),
        whole(
            "entry_place_shard",
            &entry(Operation::PlaceShard(v1::PlaceShard { pack: key(19), shard: 7, node: key(12) })),
        ),
        whole("entry_retire_pack", &retired_pack()),
        whole("signed_entry", &signed),
        whole("pack_descriptor", &descriptor()),
        whole("frontier", &frontier(4)),
        whole("header", &header()),
        whole("certificate", &certificate()),
        whole("block", &block),
        whole("block_of_a_heartbeat", &heartbeat),
        whole("entry_notarise", &entry(notarise)),
        whole("entry_propose_defaults", &entry(Operation::Propose(defaults()))),
        whole("entry_propose_keys", &entry(Operation::Propose(keys()))),
        whole("node_certificate_by_another_key", &v1::NodeCertificate { signer: key(66), ..node() }),
        whole("entry_approve", &entry(Operation::Approve(v1::Approval { proposal: key(61) }))),
        whole("entry_condemn", &entry(Operation::Condemn(condemnation()))),
        whole("entry_condemn_for_the_whole_answer", &entry(Operation::Condemn(condemnation_of_the_whole))),
        whole("entry_absolve", &entry(Operation::Absolve(v1::Absolution { node: key(70) }))),
        whole("signed_recovery", &recovery()),
        whole("folder_head_first", &head),
    ]
    .into_iter()
    .chain(consensus())
    .chain(proofs())
    .chain(exchange())
    .chain(audits())
    .collect()
}

/// Each with what [`DecodeError`] says of it.
fn refused() -> Vec<(&'static str, Vector)> {
    let entry = encode(&retired_pack());
    let with_tail = |tail: &[u8]| [entry.as_slice(), tail].concat();
    let author = entry[..34].to_vec(); // field 1: tag, length, 32 bytes
    let (sequence, rest) = entry[34..].split_at(3); // field 2: tag, 300 in two bytes
    let with_sequence = |field: &[u8]| [author.as_slice(), field, rest].concat();
    let place = encode(&v1::Entry {
        operation: Some(Operation::PlaceShard(v1::PlaceShard { pack: key(19), shard: 7, node: key(12) })),
        ..Default::default()
    });
    let mut not_utf8 = encode(&node());
    let region = not_utf8.windows(7).position(|window| window == b"eu-west").expect("its region");
    not_utf8[region] = 0xFF;
    let first_round = encode(&v1::Certificate { round: 0, ..certificate() });
    let first_round = [&first_round[..34], &[0x10, 0x00], &first_round[34..]].concat();
    let message = encode(&said(Message::Vote(vote())));
    let frame = encode(&framed(Frame::Timeout(v1::WalTimeout { kind: 1, round: 1 })));
    let safety = encode(&v1::Safety { height: 42, round: 0, step: 3, value: Bytes::new() });
    let body = encode(&v1::Body { frontier: vec![frontier(4)], next_validators: None, recovery: None });
    let next = encode(&v1::Body { frontier: vec![], next_validators: Some(validators()), recovery: None });
    let header_of = |tail: &[u8]| [encode(&header()).as_slice(), tail].concat();
    vec![
        ("NotCanonical", raw::<v1::Entry>("entry_unknown_field", with_tail(&[0xF8, 0x01, 0x01]))),
        ("NotCanonical", raw::<v1::Entry>("entry_unknown_operation", with_tail(&[0x82, 0x06, 0x00]))),
        ("NotCanonical", raw::<v1::Entry>("entry_two_operations", with_tail(&place))),
        ("NotCanonical", raw::<v1::Entry>("entry_field_twice", with_tail(sequence))),
        ("NotCanonical", raw::<v1::Entry>("entry_fields_out_of_order", [sequence, author.as_slice(), rest].concat())),
        ("NotCanonical", raw::<v1::Entry>("entry_default_written_out", with_sequence(&[0x10, 0x00]))),
        (
            "NotCanonical",
            raw::<v1::Entry>("entry_sequence_in_a_longer_varint", with_sequence(&[0x10, 0xAC, 0x82, 0x00])),
        ),
        ("Malformed", raw::<v1::Entry>("entry_sequence_of_another_wire_type", with_sequence(&[0x15, 1, 2, 3, 4]))),
        ("Malformed", raw::<v1::Entry>("entry_cut_short", entry[..entry.len() - 1].to_vec())),
        ("Malformed", raw::<v1::Entry>("entry_field_number_zero", with_tail(&[0x00]))),
        (
            "Malformed",
            raw::<v1::Entry>(
                "entry_varint_of_eleven_bytes",
                with_sequence(&[0x10, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 1]),
            ),
        ),
        ("NotCanonical", raw::<v1::Header>("header_unknown_field", header_of(&[0xF0, 0x01, 0x01]))),
        (
            "NotCanonical",
            raw::<v1::Header>("header_producer_twice", header_of(&[&[0x6A, 0x20][..], &[9; 32]].concat())),
        ),
        ("Malformed", raw::<v1::NodeCertificate>("node_certificate_region_not_utf8", not_utf8)),
        ("TooLong", raw::<v1::Header>("header_too_long", header_of(&[0; 1 << 10]))),
        ("NotCanonical", raw::<v1::Certificate>("certificate_round_default_written_out", first_round)),
        ("NotCanonical", raw::<v1::Body>("body_fields_out_of_order", [next, body].concat())),
        (
            "NotCanonical",
            raw::<v1::ValidatorSet>("validator_set_unknown_field", [encode(&validators()), vec![0x10, 0x01]].concat()),
        ),
        (
            "NotCanonical",
            raw::<v1::ConsensusMessage>(
                "consensus_message_of_two_kinds",
                [message, encode(&said(Message::Polka(polka())))].concat(),
            ),
        ),
        ("Malformed", raw::<v1::WalFrame>("wal_frame_cut_short", frame[..frame.len() - 1].to_vec())),
        ("NotCanonical", raw::<v1::Safety>("safety_value_default_written_out", [safety, vec![0x22, 0x00]].concat())),
        (
            "NotCanonical",
            raw::<v1::PackDescriptor>(
                "pack_descriptor_catalog_len_default_written_out",
                [encode(&v1::PackDescriptor { catalog_len: 0, ..descriptor() }).as_slice(), &[0x30, 0]].concat(),
            ),
        ),
        (
            "Malformed", // a want inside an ask: its priority, field 6, as text
            raw::<v1::ExchangeAsk>("ask_want_priority_of_another_wire_type", vec![0x12, 0x03, 0x32, 0x01, 0x04]),
        ),
        ("Malformed", raw::<v1::ExchangeTell>("tell_have_cut_short", vec![0x0A, 0x22, 0x0A, 0x20, 0x13])),
        (
            "NotCanonical",
            raw::<v1::AuditAsk>("audit_ask_of_two_kinds", [encode(&audit_set()).as_slice(), &[0x12, 0x00]].concat()),
        ),
        ("TooLong", raw::<v1::AuditTell>("audit_leaf_too_long", encode(&audit_leaf(24 << 10)))),
        ("TooLong", raw::<v1::Frontier>("frontier_too_long", [encode(&frontier(4)), vec![0; 64]].concat())),
    ]
}

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("vectors").join(name)
}

fn hex(bytes: &[u8]) -> String {
    let line = |line: &[u8]| line.iter().map(|byte| format!("{byte:02x}")).collect::<String>() + "\n";
    bytes.chunks(40).map(line).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let value = |digit: u8| (digit as char).to_digit(16).expect("vectors are hexadecimal") as u8;
    digits.chunks(2).map(|pair| value(pair[0]) << 4 | value(pair[1])).collect()
}

/// The files of a folder, by name without `.hex`.
fn files(name: &str) -> BTreeMap<String, Vec<u8>> {
    let read = |path: PathBuf| {
        let name = path.file_stem().expect("files have names").to_string_lossy().into_owned();
        (name, unhex(&std::fs::read_to_string(path).expect("vectors are text")))
    };
    let entries = std::fs::read_dir(folder(name)).expect("the folder of vectors is there");
    entries.map(|entry| read(entry.expect("the folder can be read").path())).collect()
}

/// The files are what this code writes, no more and no less.
fn compare(name: &str, vectors: &[Vector]) {
    if std::env::var_os("BITHEALTH_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(folder(name)).unwrap();
        for vector in vectors {
            std::fs::write(folder(name).join(vector.name).with_extension("hex"), hex(&vector.bytes)).unwrap();
        }
    }
    let want: BTreeMap<String, Vec<u8>> =
        vectors.iter().map(|vector| (vector.name.to_owned(), vector.bytes.clone())).collect();
    let got = files(name);
    assert_eq!(got.keys().collect::<Vec<_>>(), want.keys().collect::<Vec<_>>());
    for (file, bytes) in want {
        assert_eq!(hex(&got[&file]), hex(&bytes), "{name}/{file}.hex");
    }
}

#[test]
fn accepted_vectors_decode_and_encode_to_the_same_bytes() {
    let vectors = accepted();
    compare("accepted", &vectors);
    let files = files("accepted");
    for vector in vectors {
        let bytes = &files[vector.name];
        assert_eq!((vector.again)(bytes).as_ref(), Ok(bytes), "{}", vector.name);
    }
}

#[test]
fn refused_vectors_are_refused_for_their_flaw() {
    let (kinds, vectors): (Vec<&str>, Vec<Vector>) = refused().into_iter().unzip();
    compare("refused", &vectors);
    let files = files("refused");
    for (want, vector) in kinds.into_iter().zip(vectors) {
        let got = match (vector.again)(&files[vector.name]) {
            Err(DecodeError::TooLong { .. }) => "TooLong",
            Err(DecodeError::Malformed { .. }) => "Malformed",
            Err(DecodeError::NotCanonical { .. }) => "NotCanonical",
            Err(_) => "another error",
            Ok(_) => "accepted",
        };
        assert_eq!(got, want, "{}", vector.name);
    }
}

#[test]
fn hexadecimal_reads_back() {
    let bytes: Vec<u8> = (0..=255).collect();
    assert_eq!(unhex(&hex(&bytes)), bytes);
}
