use proptest::prelude::*;

use super::*;

const LEAVES_MAX: u32 = 70;

fn tree(leaf_count: u32) -> LeafTree {
    LeafTree::from_hashes((0..leaf_count).map(|i| leaf_hash(&i.to_be_bytes())).collect())
}

/// A run of a tree, with its proof.
#[derive(Clone, Debug)]
struct Case {
    tree: LeafTree,
    first: u32,
    count: u32,
    proof: Vec<Digest>,
}

impl Case {
    fn new(leaf_count: u32, first: u32, count: u32) -> Self {
        let tree = tree(leaf_count);
        let proof = tree.prove_run(LeafIndex(first), count).unwrap();
        Self { tree, first, count, proof }
    }

    fn hashes(&self) -> Vec<Digest> {
        self.tree.hashes()[self.first as usize..][..self.count as usize].to_vec()
    }

    fn verify(&self, first: u32, hashes: &[Digest], proof: &[Digest]) -> Result<(), RunError> {
        let leaf_count = self.tree.hashes().len() as u32;
        verify_run(&self.tree.root(), leaf_count, LeafIndex(first), hashes, proof)
    }
}

fn any_case() -> impl Strategy<Value = Case> {
    (1..=LEAVES_MAX).prop_flat_map(|leaf_count| (Just(leaf_count), 0..leaf_count)).prop_flat_map(
        |(leaf_count, first)| (1..=leaf_count - first).prop_map(move |count| Case::new(leaf_count, first, count)),
    )
}

#[test]
fn the_tree_has_the_root_of_its_hashes() {
    for leaf_count in 0..=LEAVES_MAX {
        assert_eq!(tree(leaf_count).root(), root(tree(leaf_count).hashes()));
    }
}

#[test]
fn a_shard_is_cut_into_leaves_of_16_kib() {
    let shard: Vec<u8> = (0..3 * LEAF_LEN + 5).map(|i| (i / 100) as u8).collect();
    let tree = LeafTree::from_shard(&shard);
    assert_eq!(tree.hashes().len(), 4);
    assert_eq!(tree.hashes()[1], leaf_hash(&shard[LEAF_LEN..2 * LEAF_LEN]));
    assert_eq!(tree.hashes()[3], leaf_hash(&shard[3 * LEAF_LEN..]));
}

#[test]
fn every_run_of_every_tree_verifies() {
    for leaf_count in 1..=LEAVES_MAX {
        let tree = tree(leaf_count);
        for first in 0..leaf_count {
            for count in 1..=leaf_count - first {
                let proof = tree.prove_run(LeafIndex(first), count).unwrap();
                let hashes = &tree.hashes()[first as usize..][..count as usize];
                let result = verify_run(&tree.root(), leaf_count, LeafIndex(first), hashes, &proof);
                assert_eq!(result, Ok(()), "{count} leaves from {first} of {leaf_count}");
            }
        }
    }
}

#[test]
fn a_run_of_one_leaf_is_proven_by_its_inclusion_proof_from_left_to_right() {
    let tree = tree(13);
    for index in 0..13 {
        let mut run = tree.prove_run(LeafIndex(index), 1).unwrap();
        let mut path = crate::inclusion_proof(tree.hashes(), u64::from(index)).unwrap();
        run.sort();
        path.sort();
        assert_eq!(run, path);
    }
}

#[test]
fn the_whole_shard_needs_no_proof_and_one_leaf_a_digest_per_level() {
    assert_eq!(tree(70).prove_run(LeafIndex(0), 70), Some(vec![]));
    assert_eq!(tree(64).prove_run(LeafIndex(33), 1).unwrap().len(), 6);
    assert_eq!(tree(1024).prove_run(LeafIndex(64), 64).unwrap().len(), 4);
}

#[test]
fn there_is_no_proof_for_a_run_that_is_empty_or_leaves_the_shard() {
    assert_eq!(tree(9).prove_run(LeafIndex(3), 0), None);
    assert_eq!(tree(9).prove_run(LeafIndex(3), 7), None);
    assert_eq!(tree(9).prove_run(LeafIndex(u32::MAX), u32::MAX), None);
    assert_eq!(tree(0).prove_run(LeafIndex(0), 1), None);
}

#[test]
fn refusals_say_what_came_and_what_was_due() {
    let case = Case::new(9, 2, 3);
    assert_eq!(case.verify(2, &[], &case.proof), Err(RunError::Empty));
    let want = RunError::OutOfShard { first: LeafIndex(7), count: 3, leaf_count: 9 };
    assert_eq!(case.verify(7, &case.hashes(), &case.proof), Err(want));
    let want = RunError::ProofLen { got: 0, want: case.proof.len() };
    assert_eq!(case.verify(2, &case.hashes(), &[]), Err(want));
    let foreign = leaf_hash(b"another shard");
    let result = verify_run(&foreign, 9, LeafIndex(2), &case.hashes(), &case.proof);
    assert_eq!(result, Err(RunError::RootMismatch { first: LeafIndex(2), got: case.tree.root(), want: foreign }));
}

proptest! {
    #[test]
    fn a_flipped_bit_of_a_leaf_or_of_the_proof_is_refused(case in any_case(), at: prop::sample::Index, bit in 0usize..256) {
        let (mut hashes, mut proof) = (case.hashes(), case.proof.clone());
        let at = at.index(hashes.len() + proof.len());
        let digest = if at < hashes.len() { &mut hashes[at] } else { &mut proof[at - case.count as usize] };
        digest.0[bit / 8] ^= 1 << (bit % 8);
        let refused = matches!(case.verify(case.first, &hashes, &proof), Err(RunError::RootMismatch { .. }));
        prop_assert!(refused);
    }

    #[test]
    fn a_digest_more_or_less_is_refused(case in any_case(), at: prop::sample::Index) {
        let mut longer = case.proof.clone();
        longer.insert(at.index(case.proof.len() + 1), leaf_hash(b"one more"));
        let want = case.proof.len();
        let longer = case.verify(case.first, &case.hashes(), &longer);
        prop_assert_eq!(longer, Err(RunError::ProofLen { got: want + 1, want }));
        if !case.proof.is_empty() {
            let mut shorter = case.proof.clone();
            shorter.remove(at.index(case.proof.len()));
            let shorter = case.verify(case.first, &case.hashes(), &shorter);
            prop_assert_eq!(shorter, Err(RunError::ProofLen { got: want - 1, want }));
        }
    }

    #[test]
    fn another_position_is_refused(case in any_case(), first in 0..LEAVES_MAX) {
        prop_assume!(first != case.first);
        prop_assert!(case.verify(first, &case.hashes(), &case.proof).is_err());
    }

    #[test]
    fn a_leaf_more_or_less_is_refused(case in any_case()) {
        let mut hashes = case.hashes();
        let last = hashes.pop().unwrap();
        prop_assert!(case.verify(case.first, &hashes, &case.proof).is_err());
        hashes.extend([last, leaf_hash(b"one more")]);
        prop_assert!(case.verify(case.first, &hashes, &case.proof).is_err());
    }

    #[test]
    fn proofs_of_strangers_never_panic(first: u32, leaf_count: u32, count in 0usize..70, digests in 0usize..70) {
        let digest = leaf_hash(b"");
        let result = verify_run(&digest, leaf_count, LeafIndex(first), &vec![digest; count], &vec![digest; digests]);
        prop_assert!(result.is_err() || (leaf_count, count, digests) == (1, 1, 0));
    }
}

proptest! {
    #[test]
    fn whoever_knows_some_runs_proves_every_run_inside_of_them_and_no_other(
        leaf_count in 1..LEAVES_MAX,
        cuts in prop::collection::btree_set(0..LEAVES_MAX, 0..6),
        known in prop::collection::vec(any::<bool>(), 8),
        first in 0..LEAVES_MAX,
        count in 1..LEAVES_MAX,
    ) {
        let tree = LeafTree::from_hashes((0..leaf_count).map(|leaf| leaf_hash(&leaf.to_be_bytes())).collect());
        let edges: Vec<u32> = [0].into_iter().chain(cuts).chain([leaf_count]).filter(|at| *at <= leaf_count).collect();
        let runs = edges.windows(2).zip(&known).filter(|(edge, known)| edge[0] < edge[1] && **known);
        let runs: Vec<_> = runs.map(|(edge, _)| edge[0]..edge[1]).collect();
        let mut nodes = KnownNodes::new(leaf_count);
        for run in &runs {
            let proof = tree.prove_run(LeafIndex(run.start), run.len() as u32).unwrap();
            nodes.insert(LeafIndex(run.start), &tree.hashes()[run.start as usize..run.end as usize], &proof);
        }
        let end = first.saturating_add(count);
        if end <= leaf_count && (first..end).all(|leaf| runs.iter().any(|run| run.contains(&leaf))) {
            prop_assert_eq!(nodes.prove_run(LeafIndex(first), count), tree.prove_run(LeafIndex(first), count));
        } else if let Some(proof) = nodes.prove_run(LeafIndex(first), count) {
            prop_assert_eq!(Some(proof), tree.prove_run(LeafIndex(first), count), "what it cannot prove it does not");
        }
    }
}
