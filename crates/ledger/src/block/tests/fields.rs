//! Every field of a block's header and certificate, changed alone: what the full node, the light client and the one that
//! skips headers say to it.

use bithealth_proto::{digest, v1};
use bithealth_types::{Digest, GenesisId, Height, ValidatorId};
use bytes::Bytes;

use super::super::BlockError;
use crate::certificate::{CertificateError, vote_message};
use crate::fixture::*;
use crate::light::{Light, LightError, Skip, signed_header};
use crate::state::State;
use crate::validators::NotValidators;

const ZEROS: Digest = Digest([0; 32]);

/// What stands against a changed header.
#[derive(Clone)]
enum Against<E> {
    /// A rule that is looked at before the certificate.
    Rule(E),
    /// What came along with it, looked at after the certificate.
    Contents(E),
    /// Nothing but the certificate: a quorum could decide it.
    Votes,
}

use Against::{Contents, Rule, Votes};

impl<E: From<CertificateError>> Against<E> {
    /// What is said where the certificate is that of the header unchanged.
    fn unsigned(self, error: &CertificateError) -> Result<(), E> {
        match self {
            Rule(refused) => Err(refused),
            Contents(_) | Votes => Err(error.clone().into()),
        }
    }

    /// What is said where all validators signed the change.
    fn signed(self) -> Result<(), E> {
        match self {
            Rule(refused) | Contents(refused) => Err(refused),
            Votes => Ok(()),
        }
    }
}

/// Three that judge a block: all at height 1, with three validators.
struct Judges {
    state: State,
    light: Light,
    skip: Skip,
}

type Said = (Result<(), BlockError>, Result<(), LightError>, Result<(), LightError>);

impl Judges {
    /// They, the block before, with which the validators changed, and the next one.
    fn new() -> (Self, v1::Block, v1::Block) {
        let (mut state, mut one) = three();
        let (mut light, mut skip) = (Light::new(&genesis()).unwrap(), Skip::new(&genesis()).unwrap());
        let first = finalise(&mut state);
        light.advance(&signed_header(&first)).unwrap();
        skip.to(&signed_header(&first)).unwrap();
        one.take(&mut state, commit(1));
        let second = next_block(&state, NOW + 1000).unwrap();
        let judges = Self { state, light, skip };
        assert_eq!(judges.say(&second), (Ok(()), Ok(()), Ok(())), "unchanged it is fine");
        (judges, first, second)
    }

    fn say(&self, block: &v1::Block) -> Said {
        let signed = signed_header(block);
        let (mut light, mut skip) = (self.light.clone(), self.skip.clone());
        let (full, header) = (self.state.check_block(block).map(drop), self.state.check_header(&signed).map(drop));
        assert_eq!(header, without_body(&full), "what gossip brings is judged as the whole block is");
        (full, light.advance(&signed), skip.to(&signed))
    }

    /// Certified by all validators.
    fn certified(&self, header: v1::Header, block: &v1::Block) -> v1::Block {
        certified(self.state.validators(), header, block.body.clone().unwrap())
    }

    /// All refuse this certificate, and for the same reason.
    fn refuse(&self, what: &str, block: &v1::Block, error: CertificateError) {
        let (full, light) = (BlockError::Certificate(error.clone()), LightError::Certificate(error));
        assert_eq!(self.say(block), (Err(full), Err(light.clone()), Err(light)), "{what}");
    }
}

/// What is said of a block to whom sees no body.
fn without_body(full: &Result<(), BlockError>) -> Result<(), BlockError> {
    match full {
        Err(BlockError::Commits { what, .. } | BlockError::Length { what, .. })
            if ["frontier", "state", "next validators"].contains(what) =>
        {
            Ok(())
        }
        Err(BlockError::Absent { what: "body" } | BlockError::Missing { .. } | BlockError::NextValidators { .. }) => {
            Ok(())
        }
        said => said.clone(),
    }
}

/// A field's name and a change of it, then what each of the judges has against it; the last as the one before if none.
type Row = (&'static str, fn(&mut v1::Header), Against<BlockError>, Against<LightError>, Option<Against<LightError>>);

/// Every field of the header at height 2, whose values are those of `header`.
#[rustfmt::skip] // one row for each field
fn rows(judges: &Judges, header: &v1::Header) -> Vec<Row> {
    let state = &judges.state;
    let (network, tip, producer) = (state.genesis_id(), state.tip_digest(), ValidatorId(public(99)));
    let of = |bytes: &Bytes| Digest(bytes.as_ref().try_into().unwrap());
    let other_network = GenesisId([0; 32]);
    let commits = |what, want| BlockError::Commits { what, got: ZEROS, want: of(want) };
    let commits_light = |what, want| LightError::Commits { what, got: ZEROS, want: of(want) };
    let (height, got, want) = (2, ZEROS, tip);
    let (got_ms, before_ms) = (NOW - 1, NOW);
    vec![
        ("genesis", |it| it.genesis = zeros(),
            Rule(BlockError::OtherNetwork { got: other_network, want: network }),
            Rule(LightError::OtherNetwork { got: other_network, want: network }), None),
        ("height, that of the tip", |it| it.height = 1,
            Rule(BlockError::Known { height: 1 }), Rule(LightError::Known { have: 1, got: 1 }), None),
        ("height, a later one", |it| it.height = 3,
            Rule(BlockError::Gap { have: 1, got: 3 }), Rule(LightError::Gap { have: 1, got: 3 }), Some(Votes)),
        ("previous", |it| it.previous = zeros(),
            Rule(BlockError::Previous { height, got, want }), Rule(LightError::Previous { height, got, want }), None),
        ("time_ms, an earlier one", |it| it.time_ms = NOW - 1,
            Rule(BlockError::Time { height, got_ms, before_ms }),
            Rule(LightError::Time { height, got_ms, before_ms }), None),
        ("time_ms, a later one", |it| it.time_ms += 1, Votes, Votes, None),
        ("uncertainty_ms", |it| it.uncertainty_ms += 1,
            Rule(BlockError::Uncertainty { got_ms: 30_001 }), Rule(LightError::Uncertainty { got_ms: 30_001 }), None),
        ("frontier_root", |it| it.frontier_root = zeros(),
            Contents(commits("frontier", &header.frontier_root)), Votes, None),
        ("state_root", |it| it.state_root = zeros(),
            Contents(commits("state", &header.state_root)), Votes, None),
        ("history_root", |it| it.history_root = zeros(),
            Rule(commits("history", &header.history_root)),
            Rule(commits_light("history", &header.history_root)), Some(Votes)),
        ("validators", |it| it.validators = zeros(),
            Rule(commits("validators", &header.validators)),
            Rule(LightError::OtherValidators { height, got, want: of(&header.validators) }), None),
        ("next_validators", |it| it.next_validators = zeros(),
            Contents(commits("next validators", &header.next_validators)),
            Contents(LightError::NextAbsent { height, want: ZEROS }), None),
        ("recovery", |it| it.recovery = zeros(),
            Rule(commits("recovery policy", &header.recovery)),
            Rule(commits_light("recovery policy", &header.recovery)), None),
        ("era", |it| it.era = 1, Rule(BlockError::Era { got: 1, want: 0 }), Rule(LightError::Era { got: 1, want: 0 }), None),
        ("producer", |it| it.producer = bytes(public(99)),
            Rule(BlockError::Producer { producer }), Rule(LightError::Producer { producer }), None),
    ]
}

fn zeros() -> Bytes {
    bytes([0; 32])
}

/// The names of all fields: who adds one is told here to add a row.
fn names(header: &v1::Header) -> [&'static str; 13] {
    macro_rules! names {
        ($($name:ident),*) => {{
            let v1::Header { $($name: _),* } = header;
            [$(stringify!($name)),*]
        }};
    }
    names!(
        genesis,
        height,
        previous,
        time_ms,
        uncertainty_ms,
        frontier_root,
        state_root,
        history_root,
        validators,
        next_validators,
        recovery,
        era,
        producer
    )
}

#[test]
fn no_field_of_a_header_can_change_alone() {
    let (judges, _, block) = Judges::new();
    let header = block.header.clone().unwrap();
    let rows = rows(&judges, &header);
    for name in names(&header) {
        assert!(rows.iter().any(|(of, ..)| of.split(',').next() == Some(name)), "no row changes {name}");
    }
    for (name, change, full, light, skip) in rows {
        let mut changed = header.clone();
        change(&mut changed);
        assert_ne!(changed, header, "{name}");
        let got = digest(&header).to_string();
        let other = CertificateError::OtherHeader { got, want: digest(&changed) };
        let skip = skip.unwrap_or_else(|| light.clone());
        let unsigned = v1::Block { header: Some(changed.clone()), ..block.clone() };
        let signed = judges.certified(changed, &block);
        let want = (full.clone().unsigned(&other), light.clone().unsigned(&other), skip.clone().unsigned(&other));
        assert_eq!(judges.say(&unsigned), want, "{name}, under the certificate of the header unchanged");
        assert_eq!(judges.say(&signed), (full.signed(), light.signed(), skip.signed()), "{name}, signed by all");
    }
}

#[test]
fn no_field_of_a_header_can_have_another_length_even_where_all_signed_it() {
    let (judges, _, block) = Judges::new();
    let fields: [fn(&mut v1::Header) -> &mut Bytes; 9] = [
        |it| &mut it.genesis,
        |it| &mut it.previous,
        |it| &mut it.frontier_root,
        |it| &mut it.state_root,
        |it| &mut it.history_root,
        |it| &mut it.validators,
        |it| &mut it.next_validators,
        |it| &mut it.recovery,
        |it| &mut it.producer,
    ];
    for field in fields {
        for len in [0, 31, 33] {
            let mut header = block.header.clone().unwrap();
            *field(&mut header) = field(&mut header).iter().chain(&[0]).copied().take(len).collect();
            let said = judges.say(&judges.certified(header, &block));
            assert!(matches!(&said.0, Err(BlockError::Length { got, .. }) if *got == len), "{said:?}");
            for light in [said.1, said.2] {
                assert!(matches!(&light, Err(LightError::Length { got, .. }) if *got == len), "{light:?}");
            }
        }
    }
}

#[test]
#[rustfmt::skip] // one row for each change
fn no_field_of_a_certificate_can_change_alone() {
    let (judges, _, block) = Judges::new();
    let certificate = block.certificate.clone().unwrap();
    let v1::Certificate { header, round, signers, signatures } = certificate.clone();
    assert_eq!((round, &signers[..], signatures.len()), (0, &[0b111][..], 3 * 64));
    let want = digest(block.header.as_ref().unwrap());
    let of = |at: usize| judges.state.validators().get(at).unwrap().key;
    let bad = |at: usize| CertificateError::BadSignature { validator: of(at) };
    let other = |got: String| CertificateError::OtherHeader { got, want };
    let signature = |at: usize| &signatures[64 * at..64 * (at + 1)];
    let stranger = by(99)(&vote_message(&judges.state.genesis_id(), Height(2), 0, v1::VoteKind::Precommit, Some(&want)));
    let flipped = |at: usize| {
        let mut bytes = signatures.to_vec();
        bytes[at] ^= 1;
        bytes
    };
    let with_header = |header: Vec<u8>| v1::Certificate { header: header.into(), ..certificate.clone() };
    let with_signers = |signers: &[u8]| v1::Certificate { signers: signers.to_vec().into(), ..certificate.clone() };
    let with_signatures = |signatures: Vec<u8>| v1::Certificate { signatures: signatures.into(), ..certificate.clone() };
    let rows = [
        ("header, another", with_header(vec![0; 32]), other("00".repeat(32))),
        ("header, cut", with_header(header[..31].to_vec()), other(want.to_string()[..62].to_owned())),
        ("header, none", with_header(vec![]), other(String::new())),
        ("round", v1::Certificate { round: 1, ..certificate.clone() }, bad(0)),
        ("signers, one less", with_signers(&[0b011]), CertificateError::SignaturesLen { got: 192, signers: 2 }),
        ("signers, one unknown more", with_signers(&[0b1111]), CertificateError::Signers { got: 1, count: 3 }),
        ("signers, one unknown instead", with_signers(&[0b1011]), CertificateError::Signers { got: 1, count: 3 }),
        ("signers, too long", with_signers(&[0b111, 0]), CertificateError::Signers { got: 2, count: 3 }),
        ("signers, none", with_signers(&[]), CertificateError::Signers { got: 0, count: 3 }),
        ("signatures, cut", with_signatures(signatures[..191].to_vec()),
            CertificateError::SignaturesLen { got: 191, signers: 3 }),
        ("signatures, one more", with_signatures([&signatures[..], signature(0)].concat()),
            CertificateError::SignaturesLen { got: 256, signers: 3 }),
        ("signatures, none", with_signatures(vec![]), CertificateError::SignaturesLen { got: 0, signers: 3 }),
        ("signatures, a bit of the first", with_signatures(flipped(0)), bad(0)),
        ("signatures, a bit of the last", with_signatures(flipped(191)), bad(2)),
        ("signatures, two exchanged",
            with_signatures([signature(1), signature(0), signature(2)].concat()), bad(0)),
        ("signatures, one for two", with_signatures([signature(0), signature(0), signature(2)].concat()), bad(1)),
        ("signatures, of a stranger", with_signatures([signature(0), signature(1), &stranger].concat()), bad(2)),
        ("signers and signatures, too few",
            v1::Certificate { signers: vec![1].into(), ..with_signatures(signature(0).to_vec()) },
            CertificateError::Votes { got: 1, want: 2, count: 3 }),
    ];
    for (what, certificate, error) in rows {
        judges.refuse(what, &v1::Block { certificate: Some(certificate), ..block.clone() }, error);
    }
}

#[test]
fn no_part_beside_the_header_can_be_missing_or_another() {
    let (judges, first, second) = Judges::new();
    let start = Judges { state: state(), light: Light::new(&genesis()).unwrap(), skip: Skip::new(&genesis()).unwrap() };
    let absent = |what| (Err(BlockError::Absent { what }), Err(LightError::Absent { what }));
    for (judges, block) in [(&start, &first), (&judges, &second)] {
        let (full, light) = absent("header");
        assert_eq!(judges.say(&v1::Block { header: None, ..block.clone() }), (full, light.clone(), light));
        let (full, light) = absent("certificate");
        assert_eq!(judges.say(&v1::Block { certificate: None, ..block.clone() }), (full, light.clone(), light));
    }
    // The next validators: none where they change, others than the header names, and some where they do not change.
    let (founder, three) = (start.state.validators(), judges.state.validators());
    let mut swapped = three.to_message();
    swapped.validators.swap(0, 1);
    let (got, want) = (founder.digest(), three.digest());
    for (judges, block, next, error) in [
        (&start, &first, None, LightError::NextAbsent { height: 1, want }),
        (&start, &first, Some(founder.to_message()), LightError::NextOther { height: 1, got, want }),
        (&start, &first, Some(swapped), LightError::NextNone(NotValidators::Order { index: 1 })),
        (&judges, &second, Some(three.to_message()), LightError::NextUnchanged { height: 2 }),
    ] {
        let body = v1::Body { next_validators: next, ..block.body.clone().unwrap() };
        let (_, light, skip) = judges.say(&v1::Block { body: Some(body), ..block.clone() });
        assert_eq!((light, skip), (Err(error.clone()), Err(error)));
    }
}
