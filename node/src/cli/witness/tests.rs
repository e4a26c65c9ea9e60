use bithealth_envelope::NodeKey;
use bithealth_ledger::{SignedNote, sign_note, verify_cosignature};
use bithealth_merkle::{consistency_proof, leaf_hash, root};
use bithealth_types::Digest;

use super::*;

const QUIET: Show = Show { json: true, person: false };

/// A witness in a folder, and a log that it knows.
struct Story {
    folder: tempfile::TempDir,
    log: NodeKey,
}

impl Story {
    fn new() -> Self {
        let story = Self { folder: tempfile::tempdir().unwrap(), log: NodeKey::random() };
        make_key(&story.path("key"), "witness.example.org", QUIET).unwrap();
        story
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn log_key(&self) -> VerifierKey {
        VerifierKey::new("log", NoteAlgorithm::Ed25519, self.log.id().0).unwrap()
    }

    /// A checkpoint over these leaves, with a proof since `old_len`, in the file that is cosigned.
    fn write(&self, old_len: u64, leaves: &[Digest]) {
        let (len, root) = (leaves.len() as u64, root(leaves));
        let text = Checkpoint { origin: "log".into(), len, root, extensions: vec![] }.text().unwrap();
        let note = sign_note(&text, &self.log_key(), |message| self.log.sign(message)).unwrap();
        let proof = consistency_proof(leaves, old_len).unwrap_or_default();
        std::fs::write(self.path("it"), Submission { old_len, proof, note }.to_string()).unwrap();
    }

    fn cosign(&self, log: &[VerifierKey]) -> Result<Exit, Failure> {
        let (checkpoint, key) = (self.path("it"), self.path("key"));
        cosign(CosignArgs { checkpoint, key, log: log.to_vec(), output: None }, QUIET)
    }

    /// What a cosignature refused says, and what to do.
    fn refused(&self) -> (String, String) {
        let failure = self.cosign(&[]).unwrap_err();
        (failure.what, failure.next.unwrap())
    }

    fn memory(&self) -> Memory {
        Memory::load(&memory_path(&self.path("key"))).unwrap()
    }
}

fn leaves(len: u8, history: u8) -> Vec<Digest> {
    (0..len).map(|at| leaf_hash(&[at, history])).collect()
}

#[test]
fn a_witness_cosigns_what_goes_on_and_remembers_it() {
    let story = Story::new();
    story.write(0, &leaves(4, 0));
    story.cosign(&[story.log_key()]).unwrap();
    story.write(4, &leaves(9, 0));
    story.cosign(&[]).unwrap();
    assert_eq!(story.memory().of("log").last.as_ref().unwrap().len, 9);

    let note = SignedNote::parse(&std::fs::read(story.path("it.cosigned")).unwrap()).unwrap();
    let (key, _lock) = NoteKey::load(&story.path("key"), NoteAlgorithm::CosignatureV1).unwrap();
    assert!(verify_cosignature(&note, key.public()).is_ok());
    assert_eq!(note.signatures().len(), 2, "the log's is still there");
}

#[test]
fn a_witness_goes_neither_back_nor_to_another_history_and_forgets_nothing() {
    let story = Story::new();
    story.write(0, &leaves(5, 0));
    story.cosign(&[story.log_key()]).unwrap();
    std::fs::remove_file(story.path("it.cosigned")).unwrap();
    let before = story.memory();

    story.write(0, &leaves(4, 0));
    let (what, _) = story.refused();
    assert!(what.contains("has 4 headers, this witness cosigned one of 5"), "{what}");
    story.write(5, &leaves(5, 1));
    let (what, next) = story.refused();
    let both = [root(&leaves(5, 0)).to_string(), root(&leaves(5, 1)).to_string()];
    assert!(what.contains("FORK") && both.iter().all(|root| what.contains(root)), "{what}");
    assert!(next.contains("Tell all members"), "{next}");
    story.write(5, &leaves(9, 1));
    assert!(story.refused().1.contains("--since 5"));
    story.write(4, &leaves(9, 0));
    assert!(story.refused().1.contains("--since 5"));
    assert!(!story.path("it.cosigned").exists());
    assert_eq!(story.memory(), before);
}

#[test]
fn a_log_is_known_by_the_keys_that_were_told() {
    let story = Story::new();
    story.write(0, &leaves(4, 0));
    let (what, next) = story.refused();
    assert!(what.contains("none is known") && next.contains("--log"), "{what}; {next}");

    let public = story.log.id().0;
    let of_another = VerifierKey::new("other", NoteAlgorithm::Ed25519, public).unwrap();
    let cosigner = VerifierKey::new("log", NoteAlgorithm::CosignatureV1, public).unwrap();
    for key in [of_another, cosigner] {
        let failure = story.cosign(&[key]).unwrap_err();
        assert!(failure.what.contains("is not one that signs checkpoints of log"), "{}", failure.what);
    }
    assert_eq!(story.memory().of("log").keys, [], "what was refused is not remembered");
    story.cosign(&[story.log_key(), story.log_key()]).unwrap();
    assert_eq!(story.memory().of("log").keys, [story.log_key()]);
}

#[test]
fn what_is_no_checkpoint_or_too_long_is_refused() {
    let story = Story::new();
    for text in ["", "text\n", "text\n\n\u{2014} log AAAAAAA=\n", "old x\n\n"] {
        std::fs::write(story.path("it"), text).unwrap();
        assert!(story.refused().0.contains("cannot be cosigned"), "{text:?}");
    }
    std::fs::write(story.path("it"), vec![b'x'; SUBMISSION_LEN_MAX + 1]).unwrap();
    assert!(story.refused().0.contains("it is no checkpoint"));
}

#[test]
fn a_witness_that_lost_its_memory_cosigns_nothing() {
    let story = Story::new();
    std::fs::remove_file(memory_path(&story.path("key"))).unwrap();
    story.write(0, &leaves(4, 0));
    let failure = story.cosign(&[story.log_key()]).unwrap_err();
    assert!(failure.next.unwrap().contains("make a new key"), "{}", failure.what);
    assert!(make_key(&story.path("key"), "w", QUIET).is_err(), "a key that is there is not replaced");
}
