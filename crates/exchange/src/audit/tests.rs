use super::*;
use bithealth_merkle::LeafTree;

const NONCE: [u8; 32] = [9; 32];

/// What a holder of a few shards has.
struct Holder {
    shards: Vec<Vec<u8>>,
}

impl Holder {
    /// Shards of 3, 5 and 8 leaves, no two leaves alike.
    fn new() -> Self {
        let leaf = |shard: usize, leaf: usize| (0..LEAF_LEN).map(move |at| (at / 64 * 7 + shard * 31 + leaf * 3) as u8);
        let shard = |(shard, count): (usize, usize)| (0..count).flat_map(|at| leaf(shard, at)).collect();
        Self { shards: [3, 5, 8].into_iter().enumerate().map(shard).collect() }
    }

    fn spec(&self, samples: u32) -> AuditSpec {
        let shards = (0..).zip(&self.shards).map(|(index, bytes)| AuditedShard {
            pack: PackId([index as u8; 32]),
            shard: ShardIndex(index),
            root: LeafTree::from_shard(bytes).root(),
            leaf_count: (bytes.len() / LEAF_LEN) as u32,
        });
        AuditSpec {
            nonce: NONCE,
            draw: [4; 32],
            shards: shards.collect(),
            samples,
            commit_within: Duration::from_secs(10),
            open_within: Duration::from_secs(5),
        }
    }

    /// Its leaves but for those of `lacks`: shard, position there, bytes.
    fn leaves(&self, lacks: &[usize]) -> Vec<(usize, u32, &[u8])> {
        let kept = self.shards.iter().enumerate().filter(|(shard, _)| !lacks.contains(shard));
        kept.flat_map(|(shard, bytes)| (0..).zip(bytes.chunks(LEAF_LEN)).map(move |(at, leaf)| (shard, at, leaf)))
            .collect()
    }

    fn commitment(&self, lacks: &[usize]) -> Commitment {
        Commitment::new(self.leaves(lacks).iter().map(|(_, _, leaf)| Commitment::leaf(&NONCE, leaf)).collect())
    }

    fn open(&self, lacks: &[usize], commitment: &Commitment, leaf: u32) -> AuditInput {
        let (shard, at, data) = self.leaves(lacks)[leaf as usize];
        let proof = LeafTree::from_shard(&self.shards[shard]).prove_run(LeafIndex(at), 1).unwrap();
        AuditInput::Opened { leaf, data: Bytes::copy_from_slice(data), bound: commitment.prove(leaf).unwrap(), proof }
    }
}

fn step(audit: &mut Audit, now: u64, input: AuditInput) -> Vec<AuditEffect> {
    let mut out = VecDeque::new();
    audit.handle(Time(now), input, &mut out);
    out.into()
}

fn begun(spec: AuditSpec) -> Audit {
    let (mut audit, mut out) = (Audit::new(spec), VecDeque::new());
    audit.begin(Time(0), &mut out);
    assert_eq!(out, [AuditEffect::AskCommit, AuditEffect::WakeAt(Time(10_000))]);
    audit
}

/// An audit in which the holder has committed to what it has, and what it was asked to open.
fn committed(holder: &Holder, samples: u32, lacks: &[usize]) -> (Audit, Commitment, Vec<u32>) {
    let (mut audit, commitment) = (begun(holder.spec(samples)), holder.commitment(lacks));
    let input = AuditInput::Committed { root: commitment.root(), lacks: lacks.to_vec() };
    let effects = step(&mut audit, 1_000, input);
    let [AuditEffect::AskOpen(drawn), AuditEffect::WakeAt(Time(6_000))] = &effects[..] else { panic!("{effects:?}") };
    let drawn = drawn.clone();
    (audit, commitment, drawn)
}

fn fault(effects: &[AuditEffect]) -> &AuditError {
    match effects {
        [AuditEffect::Ended(AuditOutcome::False { fault, .. })] => fault,
        other => panic!("no fault: {other:?}"),
    }
}

#[test]
fn a_holder_that_has_everything_passes_and_the_outcome_says_how_long_it_took() {
    let holder = Holder::new();
    let (mut audit, commitment, drawn) = committed(&holder, 6, &[]);
    assert_eq!(drawn.len(), 6);
    let (last, first) = drawn.split_last().unwrap();
    for leaf in first {
        assert_eq!(step(&mut audit, 1_500, holder.open(&[], &commitment, *leaf)), []);
    }
    let outcome = AuditOutcome::True {
        bytes: 16 * LEAF_LEN as u64,
        took: Duration::from_secs(1),
        opened_bytes: 6 * LEAF_LEN as u64,
        opening_took: Duration::from_secs(1),
        lacks: vec![],
    };
    let ended = step(&mut audit, 2_000, holder.open(&[], &commitment, *last));
    assert_eq!(ended, [AuditEffect::Ended(outcome)]);
    assert_eq!(step(&mut audit, 2_000, AuditInput::Busy), [], "what comes later is not heard");
}

#[test]
fn what_is_drawn_depends_on_the_commitment_and_on_a_secret() {
    let holder = Holder::new();
    let (_, _, drawn) = committed(&holder, 6, &[]);
    let root = holder.commitment(&[]).root();
    let again = |secret: &[u8; 32], root: &Digest| draw(secret, root, 6, 16).into_iter().collect::<Vec<_>>();
    assert_eq!(again(&[4; 32], &root), drawn);
    assert_ne!(again(&[5; 32], &root), drawn);
    assert_ne!(again(&[4; 32], &leaf_hash(b"another")), drawn);
    assert_eq!(draw(&[4; 32], &root, 16, 16).len(), 16, "as many as there are: all");
    assert_eq!(draw(&[4; 32], &root, 17, 16).len(), 16, "more than there are: all");
    assert!(draw(&[4; 32], &root, 3, 0).is_empty());
}

#[test]
fn every_leaf_of_the_set_can_be_drawn() {
    let drawn: BTreeSet<u32> = (0..200u8).flat_map(|secret| draw(&[secret; 32], &Digest([0; 32]), 2, 16)).collect();
    assert_eq!(drawn.len(), 16);
}

#[test]
fn whoever_says_what_it_lacks_opens_leaves_of_the_rest() {
    let holder = Holder::new();
    let (mut audit, commitment, drawn) = committed(&holder, 100, &[1]);
    assert_eq!(drawn, (0..11).collect::<Vec<_>>());
    let ended = drawn.iter().flat_map(|leaf| step(&mut audit, 2_000, holder.open(&[1], &commitment, *leaf)));
    let ended: Vec<_> = ended.collect();
    let [AuditEffect::Ended(AuditOutcome::True { bytes, lacks, .. })] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!((*bytes, &lacks[..]), (11 * LEAF_LEN as u64, &[1][..]));
}

#[test]
fn whoever_lacks_everything_has_nothing_to_open() {
    let mut audit = begun(Holder::new().spec(6));
    let input = AuditInput::Committed { root: Digest([0; 32]), lacks: vec![2, 0, 1, 0] };
    let ended = step(&mut audit, 50, input);
    let [AuditEffect::Ended(AuditOutcome::True { bytes: 0, lacks, .. })] = &ended[..] else { panic!("{ended:?}") };
    assert_eq!(lacks, &[0, 1, 2]);
}

#[test]
fn who_kept_only_hashes_or_fetches_what_is_drawn_is_found_out_by_any_leaf() {
    let holder = Holder::new();
    let stored: Vec<Digest> = holder.leaves(&[]).iter().map(|(_, _, leaf)| leaf_hash(leaf)).collect();
    let from_hashes = stored.iter().map(|hash| Commitment::leaf(&NONCE, hash.as_bytes())).collect();
    for forged in [Commitment::new(stored), Commitment::new(from_hashes)] {
        let mut audit = begun(holder.spec(1));
        let effects = step(&mut audit, 10, AuditInput::Committed { root: forged.root(), lacks: vec![] });
        let AuditEffect::AskOpen(drawn) = &effects[0] else { panic!("{effects:?}") };
        let ended = step(&mut audit, 20, holder.open(&[], &forged, drawn[0]));
        assert!(matches!(fault(&ended), AuditError::NotCommitted { .. }), "{ended:?}");
    }
}

#[test]
fn who_lacks_one_leaf_is_found_out_when_it_is_drawn() {
    let holder = Holder::new();
    let mut damaged = Holder::new();
    damaged.shards[2][LEAF_LEN * 4 + 5] ^= 1;
    let mut audit = begun(holder.spec(16));
    let commitment = damaged.commitment(&[]);
    step(&mut audit, 10, AuditInput::Committed { root: commitment.root(), lacks: vec![] });
    for leaf in 0..12 {
        assert_eq!(step(&mut audit, 20, holder.open(&[], &commitment, leaf)), []);
    }
    // What it has is not of the shard; what is of the shard is not what it committed to.
    let mut other = begun(holder.spec(16));
    step(&mut other, 10, AuditInput::Committed { root: commitment.root(), lacks: vec![] });
    let ended = step(&mut audit, 20, damaged.open(&[], &commitment, 12));
    assert!(matches!(fault(&ended), AuditError::NotInShard { shard: ShardIndex(2), .. }), "{ended:?}");
    let ended = step(&mut other, 20, holder.open(&[], &commitment, 12));
    assert!(matches!(fault(&ended), AuditError::NotCommitted { leaf: 12, .. }), "{ended:?}");
}

#[test]
fn each_other_false_answer_is_told() {
    let holder = Holder::new();
    let root = holder.commitment(&[]).root();
    let mut audit = begun(holder.spec(3));
    let ended = step(&mut audit, 1, AuditInput::Committed { root, lacks: vec![3] });
    assert_eq!(fault(&ended), &AuditError::NoSuchShard { position: 3, count: 3 });

    let (mut audit, _, _) = committed(&holder, 3, &[]);
    let ended = step(&mut audit, 2_000, AuditInput::Committed { root, lacks: vec![] });
    assert_eq!(fault(&ended), &AuditError::CommittedTwice);

    let (mut audit, commitment, drawn) = committed(&holder, 3, &[]);
    let other = (0..16).find(|leaf| !drawn.contains(leaf)).unwrap();
    let ended = step(&mut audit, 2_000, holder.open(&[], &commitment, other));
    assert_eq!(fault(&ended), &AuditError::NotDrawn { leaf: other });

    let (mut audit, commitment, drawn) = committed(&holder, 3, &[]);
    step(&mut audit, 2_000, holder.open(&[], &commitment, drawn[0]));
    let ended = step(&mut audit, 2_000, holder.open(&[], &commitment, drawn[0]));
    assert_eq!(fault(&ended), &AuditError::NotDrawn { leaf: drawn[0] }, "twice");

    let mut audit = begun(holder.spec(3));
    let ended = step(&mut audit, 1, holder.open(&[], &commitment, drawn[0]));
    assert_eq!(fault(&ended), &AuditError::NotDrawn { leaf: drawn[0] }, "before it committed");

    let (mut audit, commitment, drawn) = committed(&holder, 3, &[]);
    let AuditInput::Opened { leaf, data, bound, proof } = holder.open(&[], &commitment, drawn[0]) else { panic!() };
    let short = AuditInput::Opened { leaf, data: data.slice(1..), bound, proof };
    let ended = step(&mut audit, 2_000, short);
    assert_eq!(fault(&ended), &AuditError::Length { leaf, got: LEAF_LEN - 1, want: LEAF_LEN });
}

#[test]
fn who_does_not_answer_evades_only_while_it_is_there_and_the_time_is_up() {
    let spec = || Holder::new().spec(3);
    let evaded = [AuditEffect::Ended(AuditOutcome::Evaded)];
    let mut audit = begun(spec());
    assert_eq!(step(&mut audit, 9_999, AuditInput::Tick), []);
    assert_eq!(step(&mut audit, 10_000, AuditInput::Tick), evaded);
    let (mut audit, ..) = committed(&Holder::new(), 3, &[]);
    assert_eq!(step(&mut audit, 5_999, AuditInput::Tick), []);
    assert_eq!(step(&mut audit, 6_000, AuditInput::Tick), evaded);
    assert_eq!(step(&mut begun(spec()), 1, AuditInput::Busy), evaded);
    assert_eq!(step(&mut begun(spec()), 1, AuditInput::Lost { connected: true }), evaded);
    let gone = [AuditEffect::Ended(AuditOutcome::Unreachable)];
    assert_eq!(step(&mut begun(spec()), 1, AuditInput::Lost { connected: false }), gone);
}
