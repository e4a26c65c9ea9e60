use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use super::*;

type Entries = BTreeMap<Vec<u8>, Digest>;

fn value(of: u8) -> Digest {
    leaf_hash(&[of])
}

/// Entries with these keys, each with a value of its own.
fn entries<const N: usize>(keys: [&str; N]) -> Entries {
    keys.iter().zip(0..).map(|(key, of)| (key.as_bytes().to_vec(), value(of))).collect()
}

/// The keys `b`, `d`, `f`, `h`, `j`: between all of them there is room.
fn five() -> Entries {
    entries(["b", "d", "f", "h", "j"])
}

fn absent(entries: &Entries, key: &str, proof: &MapProof) -> Result<(), MapError> {
    verify_absent(&map_root(entries), key.as_bytes(), proof)
}

fn present(entries: &Entries, key: &str, proof: &MapProof) -> Result<(), MapError> {
    verify_present(&map_root(entries), key.as_bytes(), &entries[key.as_bytes()], proof)
}

fn indices(proof: &MapProof) -> Vec<u64> {
    proof.neighbours.iter().map(|entry| entry.index).collect()
}

// ---- What is proven.

#[test]
fn a_key_is_proven_by_its_own_entry() {
    let entries = five();
    for (index, key) in ["b", "d", "f", "h", "j"].into_iter().enumerate() {
        let proof = prove(&entries, key.as_bytes());
        assert_eq!(indices(&proof), [index as u64]);
        assert_eq!(present(&entries, key, &proof), Ok(()));
    }
}

#[test]
fn absence_is_proven_by_the_entries_next_to_it() {
    let entries = five();
    for (key, want) in [("", vec![0]), ("a", vec![0]), ("c", vec![0, 1]), ("i", vec![3, 4]), ("jj", vec![4])] {
        let proof = prove(&entries, key.as_bytes());
        assert_eq!(indices(&proof), want, "{key:?}");
        assert_eq!(absent(&entries, key, &proof), Ok(()));
    }
}

#[test]
fn an_empty_map_has_no_key_and_a_map_of_one_has_one() {
    let proof = prove(&Entries::new(), b"key");
    assert_eq!(proof, MapProof { len: 0, tree: root(&[]), neighbours: vec![] });
    assert_eq!(absent(&Entries::new(), "key", &proof), Ok(()));

    let one = entries(["key"]);
    assert_eq!(present(&one, "key", &prove(&one, b"key")), Ok(()));
    for other in ["", "ke", "keys"] {
        assert_eq!(absent(&one, other, &prove(&one, other.as_bytes())), Ok(()));
    }
}

/// The forms above, computed once with another implementation of SHA-256: a change of them is a change of every root.
#[test]
fn roots_have_the_form_they_always_had() {
    assert_eq!(
        map_root(&Entries::new()).to_string(),
        "3733585b472fb7a0903bada8a290c065daf169e7382958794d217f3c8b7c8ef6"
    );
    let two = BTreeMap::from([(b"a".to_vec(), Digest([1; 32])), (b"bc".to_vec(), Digest([2; 32]))]);
    assert_eq!(map_root(&two).to_string(), "bc0ab9273034b9a1318f799dcb0dcb2dabadb4ac436a899e5a18abce18746ab8");
}

#[test]
fn keys_of_the_greatest_length_are_proven() {
    let longest = vec![7; KEY_LEN_MAX];
    let entries = Entries::from([(longest.clone(), value(0))]);
    let proof = prove(&entries, &longest);
    assert_eq!(verify_present(&map_root(&entries), &longest, &value(0), &proof), Ok(()));
}

#[test]
#[should_panic(expected = "a key of 1025 bytes, at most 1024 are due")]
fn a_map_with_a_longer_key_has_no_root() {
    map_root(&Entries::from([(vec![7; KEY_LEN_MAX + 1], value(0))]));
}

// ---- What is refused, and why.

#[test]
fn a_proof_about_another_map_is_refused() {
    let entries = five();
    let mut proof = prove(&entries, b"b");
    proof.len = 4;
    let got = head_hash(4, &proof.tree);
    assert_eq!(present(&entries, "b", &proof), Err(MapError::RootMismatch { got, want: map_root(&entries) }));
    assert_eq!(absent(&entries, "c", &proof), Err(MapError::RootMismatch { got, want: map_root(&entries) }));
}

/// Else whoever proves could call any leaf the last one.
#[test]
fn the_length_is_part_of_the_root() {
    let tree = root(&leaf_hashes(&five()));
    assert_ne!(head_hash(5, &tree), head_hash(6, &tree));
    assert_ne!(map_root(&five()), tree);
}

#[test]
fn a_key_too_long_is_refused_before_it_is_hashed() {
    let entries = five();
    let mut proof = prove(&entries, b"z");
    proof.neighbours[0].key = vec![b'j'; KEY_LEN_MAX + 1];
    assert_eq!(absent(&entries, "z", &proof), Err(MapError::KeyLen { index: 4, got: KEY_LEN_MAX + 1 }));
}

#[test]
fn an_entry_that_is_not_in_the_tree_is_refused() {
    let entries = five();
    let mut proof = prove(&entries, b"c");
    proof.neighbours[1].path.pop();
    let source = ProofError::ProofLen { got: 2, want: 3 };
    assert_eq!(absent(&entries, "c", &proof), Err(MapError::Path { index: 1, source }));
    let mut proof = prove(&entries, b"d");
    proof.neighbours[0].index = 5;
    let source = ProofError::NoSuchLeaf { index: 5, len: 5 };
    assert_eq!(present(&entries, "d", &proof), Err(MapError::Path { index: 5, source }));
}

#[test]
fn presence_is_proven_by_one_entry_only() {
    let entries = five();
    let mut proof = prove(&entries, b"d");
    proof.neighbours.push(proof.neighbours[0].clone());
    assert_eq!(present(&entries, "d", &proof), Err(MapError::NotOne { got: 2 }));
    proof.neighbours.clear();
    assert_eq!(present(&entries, "d", &proof), Err(MapError::NotOne { got: 0 }));
}

#[test]
fn another_key_or_value_is_refused() {
    let entries = five();
    let (root, proof) = (map_root(&entries), prove(&entries, b"d"));
    assert_eq!(verify_present(&root, b"b", &value(1), &proof), Err(MapError::OtherKey { index: 1 }));
    let want = Err(MapError::OtherValue { got: value(1), want: value(9) });
    assert_eq!(verify_present(&root, b"d", &value(9), &proof), want);
}

#[test]
fn absence_needs_the_neighbours_there_are() {
    let entries = five();
    let mut proof = prove(&entries, b"c");
    proof.neighbours.push(prove(&entries, b"f").neighbours.remove(0));
    assert_eq!(absent(&entries, "c", &proof), Err(MapError::NeighbourCount { got: 3, len: 5 }));
    proof.neighbours.clear();
    assert_eq!(absent(&entries, "c", &proof), Err(MapError::NeighbourCount { got: 0, len: 5 }));
}

#[test]
fn a_key_that_is_there_is_not_absent() {
    let entries = five();
    assert_eq!(absent(&entries, "d", &prove(&entries, b"d")), Err(MapError::Present { index: 1 }));
    // The key as either neighbour of itself.
    for other in [b"c", b"e"] {
        assert_eq!(absent(&entries, "d", &prove(&entries, other)), Err(MapError::Present { index: 1 }));
    }
}

#[test]
fn a_key_outside_of_the_two_entries_is_not_absent() {
    let entries = five();
    let mut proof = prove(&entries, b"e");
    for key in ["a", "g"] {
        assert_eq!(absent(&entries, key, &proof), Err(MapError::NotBetween { left: 1, right: 2 }));
    }
    proof.neighbours.swap(0, 1);
    assert_eq!(absent(&entries, "e", &proof), Err(MapError::NotBetween { left: 2, right: 1 }));
}

#[test]
fn entries_with_another_between_them_do_not_prove_that_it_is_absent() {
    let entries = five();
    let mut proof = prove(&entries, b"b");
    proof.neighbours.extend(prove(&entries, b"f").neighbours);
    assert_eq!(absent(&entries, "d", &proof), Err(MapError::NotAdjacent { left: 0, right: 2 }));
    proof.neighbours[0].index = u64::MAX;
    assert_eq!(absent(&entries, "d", &proof), Err(MapError::NotAdjacent { left: u64::MAX, right: 2 }));
}

#[test]
fn one_entry_proves_absence_at_its_end_of_the_map_only() {
    let entries = five();
    let (first, second, last) = (prove(&entries, b"b"), prove(&entries, b"d"), prove(&entries, b"j"));
    for (key, proof, index) in [("c", &first, 0), ("a", &second, 1), ("e", &second, 1), ("i", &last, 4)] {
        assert_eq!(absent(&entries, key, proof), Err(MapError::NotAtTheEnd { index, len: 5 }));
    }
}

/// A map of no entries whose tree has some: only a signer who lies can make one, and it proves nothing.
#[test]
fn an_entry_of_an_empty_map_proves_nothing() {
    let mut proof = prove(&five(), b"z");
    proof.len = 0;
    let root = head_hash(0, &proof.tree);
    assert_eq!(verify_absent(&root, b"z", &proof), Err(MapError::NotAtTheEnd { index: 4, len: 0 }));
}

// ---- Properties, over keys that are often each other's beginning.

fn key() -> impl Strategy<Value = Vec<u8>> {
    vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..5)
}

fn some_entries() -> impl Strategy<Value = Entries> {
    btree_map(key(), any::<u8>().prop_map(value), 0..40)
}

/// Every proof that differs from this one in one place.
fn mutations(proof: &MapProof, pick: usize, bit: usize) -> Vec<(&'static str, MapProof)> {
    let mut all = Vec::new();
    let mut mutate = |what, change: &dyn Fn(&mut MapProof)| {
        let mut changed = proof.clone();
        change(&mut changed);
        all.push((what, changed));
    };
    let flip = |digest: &mut Digest| digest.0[bit / 8] ^= 1 << (bit % 8);
    mutate("len + 1", &|proof| proof.len += 1);
    mutate("len - 1", &|proof| proof.len = proof.len.wrapping_sub(1));
    mutate("tree", &|proof| flip(&mut proof.tree));
    for (at, entry) in proof.neighbours.iter().enumerate() {
        mutate("index", &|proof| proof.neighbours[at].index ^= 1 << (bit % 64));
        mutate("index + 1", &|proof| proof.neighbours[at].index += 1);
        mutate("longer key", &|proof| proof.neighbours[at].key.push(0));
        mutate("value", &|proof| flip(&mut proof.neighbours[at].value));
        mutate("longer path", &|proof| proof.neighbours[at].path.push(value(0)));
        mutate("dropped", &|proof| drop(proof.neighbours.remove(at)));
        mutate("doubled", &|proof| proof.neighbours.insert(at, proof.neighbours[at].clone()));
        if !entry.key.is_empty() {
            mutate("key", &|proof| proof.neighbours[at].key[pick % entry.key.len()] ^= 1 << (bit % 8));
            mutate("shorter key", &|proof| proof.neighbours[at].key.truncate(entry.key.len() - 1));
        }
        if !entry.path.is_empty() {
            mutate("shorter path", &|proof| proof.neighbours[at].path.truncate(entry.path.len() - 1));
        }
        for level in 0..entry.path.len() {
            mutate("path", &|proof| flip(&mut proof.neighbours[at].path[level]));
        }
    }
    if proof.neighbours.len() == 2 {
        mutate("swapped", &|proof| proof.neighbours.swap(0, 1));
    }
    all
}

proptest! {
    #[test]
    fn every_key_is_either_proven_present_or_proven_absent(entries in some_entries(), others in vec(key(), 0..20)) {
        let root = map_root(&entries);
        for key in entries.keys().chain(&others) {
            let proof = prove(&entries, key);
            let asked = entries.get(key).copied().unwrap_or(value(0));
            let (present, absent) = (verify_present(&root, key, &asked, &proof), verify_absent(&root, key, &proof));
            prop_assert_eq!(present.is_ok(), entries.contains_key(key), "{:?}", present);
            prop_assert_eq!(absent.is_ok(), !entries.contains_key(key), "{:?}", absent);
        }
    }

    #[test]
    fn a_proof_changed_in_any_place_is_refused(
        entries in some_entries(),
        key in key(),
        pick: prop::sample::Index,
        bit in 0usize..256,
    ) {
        let root = map_root(&entries);
        if let Some((key, value)) = entries.iter().nth(pick.index(entries.len() + 1)) {
            for (what, changed) in mutations(&prove(&entries, key), pick.index(1000), bit) {
                prop_assert!(verify_present(&root, key, value, &changed).is_err(), "{}", what);
                prop_assert!(verify_absent(&root, key, &changed).is_err(), "{} as absence", what);
            }
        }
        if !entries.contains_key(&key) {
            for (what, changed) in mutations(&prove(&entries, &key), pick.index(1000), bit) {
                prop_assert!(verify_absent(&root, &key, &changed).is_err(), "{}", what);
                prop_assert!(verify_present(&root, &key, &value(0), &changed).is_err(), "{} as presence", what);
            }
        }
    }

    #[test]
    fn maps_that_differ_have_roots_that_differ(one in some_entries(), other in some_entries()) {
        prop_assert_eq!(map_root(&one) == map_root(&other), one == other);
    }
}
