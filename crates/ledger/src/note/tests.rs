use std::path::{Path, PathBuf};

use bithealth_merkle::{leaf_hash, root};
use bithealth_types::Digest;
use ed25519_dalek::{Signer as _, SigningKey};
use proptest::prelude::*;

use super::*;
use crate::fixture::{by, public};

mod vectors;

const LOG: u8 = 1;
const WITNESS: u8 = 2;
/// A second in 2023.
const TIME_S: u64 = 1_679_315_147;

fn log_key() -> VerifierKey {
    VerifierKey::new("example.com/log", NoteAlgorithm::Ed25519, public(LOG)).unwrap()
}

fn witness_key() -> VerifierKey {
    VerifierKey::new("witness.example.com", NoteAlgorithm::CosignatureV1, public(WITNESS)).unwrap()
}

fn checkpoint(len: u64) -> String {
    let checkpoint =
        Checkpoint { origin: "example.com/log".into(), len, root: Digest([len as u8; 32]), extensions: vec![] };
    checkpoint.text().unwrap()
}

fn note() -> SignedNote {
    sign_note(&checkpoint(12), &log_key(), by(LOG)).unwrap()
}

/// The note with a cosignature of this time.
fn cosigned(time_s: u64) -> SignedNote {
    let mut note = note();
    note.add(cosign(&note, &witness_key(), time_s, by(WITNESS)).unwrap()).unwrap();
    note
}

fn parse(text: &str) -> Result<SignedNote, NoteError> {
    SignedNote::parse(text.as_bytes())
}

/// A line with a signature of this many bytes behind the key's id.
fn line(name: &str, len: usize) -> String {
    format!("\u{2014} {name} {}", BASE64.encode(&vec![7; 4 + len]))
}

fn not_signed(key: &VerifierKey) -> NoteError {
    NoteError::NotSigned { name: key.name().into(), key_id: key.id() }
}

fn false_signature(key: &VerifierKey) -> NoteError {
    NoteError::FalseSignature { name: key.name().into(), key_id: key.id() }
}

// ---- Signing and verifying.

#[test]
fn a_signed_note_is_written_read_and_verified() {
    let note = note();
    assert_eq!(parse(&note.to_string()), Ok(note.clone()));
    assert_eq!(verify_note(&note, &log_key()), Ok(()));
}

#[test]
fn a_cosigned_note_tells_when_the_witness_saw_it() {
    for time_s in [0, TIME_S, COSIGNATURE_TIME_MAX_S] {
        let note = parse(&cosigned(time_s).to_string()).unwrap();
        assert_eq!(verify_note(&note, &log_key()), Ok(()));
        assert_eq!(verify_cosignature(&note, &witness_key()), Ok(time_s));
    }
}

#[test]
fn of_two_cosignatures_by_a_witness_the_later_counts() {
    let mut note = cosigned(TIME_S);
    for time_s in [TIME_S + 1, TIME_S - 1, TIME_S] {
        note.add(cosign(&note, &witness_key(), time_s, by(WITNESS)).unwrap()).unwrap();
    }
    assert_eq!(verify_cosignature(&note, &witness_key()), Ok(TIME_S + 1));
    assert_eq!(note.signatures().len(), 4, "the line that was there already is not added");
}

#[test]
fn one_false_line_by_a_key_is_enough_to_refuse_the_note() {
    let mut note = cosigned(TIME_S);
    let of_another = sign_note(&checkpoint(13), &log_key(), by(LOG)).unwrap();
    note.add(of_another.signatures()[0].clone()).unwrap();
    note.add(cosign(&of_another, &witness_key(), TIME_S, by(WITNESS)).unwrap()).unwrap();
    assert_eq!(verify_note(&note, &log_key()), Err(false_signature(&log_key())));
    assert_eq!(verify_cosignature(&note, &witness_key()), Err(false_signature(&witness_key())));
}

#[test]
fn a_cosignature_with_another_time_is_refused() {
    let note = cosigned(TIME_S);
    let mut line = note.signatures()[1].clone();
    line.bytes[7] ^= 1;
    let changed = SignedNote { text: note.text.clone(), signatures: vec![line] };
    assert_eq!(verify_cosignature(&changed, &witness_key()), Err(false_signature(&witness_key())));
}

#[test]
fn a_cosignature_under_another_name_or_key_is_none() {
    let note = cosigned(TIME_S);
    let renamed = VerifierKey::new("witness.example.org", NoteAlgorithm::CosignatureV1, public(WITNESS)).unwrap();
    let other = VerifierKey::new("witness.example.com", NoteAlgorithm::CosignatureV1, public(3)).unwrap();
    for key in [renamed, other] {
        assert_eq!(verify_cosignature(&note, &key), Err(not_signed(&key)));
    }
}

#[test]
fn a_line_with_the_name_or_the_id_of_a_key_but_not_both_is_not_looked_at() {
    let (mut note, key) = (note(), log_key());
    for (name, key_id) in [(key.name(), key.id() ^ 1), ("example.org/log", key.id())] {
        note.add(NoteSignature { name: name.into(), key_id, bytes: vec![0; 64] }).unwrap();
        assert_eq!(verify_note(&note, &key), Ok(()));
        let alone = SignedNote { text: note.text.clone(), signatures: vec![note.signatures.pop().unwrap()] };
        assert_eq!(verify_note(&alone, &key), Err(not_signed(&key)));
    }
}

#[test]
fn a_signature_by_another_key_that_claims_the_id_is_refused() {
    let (text, key) = (checkpoint(12), log_key());
    let forged = sign_note(&text, &key, by(3)).unwrap();
    assert_eq!(verify_note(&forged, &key), Err(false_signature(&key)));
}

#[test]
fn a_signature_of_another_length_is_refused() {
    for (len, key) in [(63, log_key()), (65, log_key()), (64, witness_key()), (71, witness_key()), (73, witness_key())]
    {
        let line = NoteSignature::by(&key, vec![0; len]);
        let note = SignedNote { text: checkpoint(12), signatures: vec![line] };
        let (got, want) = match key.algorithm() {
            NoteAlgorithm::Ed25519 => (verify_note(&note, &key), 64),
            NoteAlgorithm::CosignatureV1 => (verify_cosignature(&note, &key).map(drop), 72),
        };
        assert_eq!(got, Err(NoteError::SignatureLen { got: len, want }));
    }
}

#[test]
fn a_key_is_used_for_what_it_is_for() {
    let (note, log, cosigner) = (cosigned(TIME_S), NoteAlgorithm::Ed25519, NoteAlgorithm::CosignatureV1);
    let log_is_due = Err(NoteError::OtherAlgorithm { got: cosigner, want: log });
    let cosigner_is_due = NoteError::OtherAlgorithm { got: log, want: cosigner };
    assert_eq!(sign_note("text\n", &witness_key(), by(WITNESS)).map(drop), log_is_due);
    assert_eq!(verify_note(&note, &witness_key()), log_is_due);
    assert_eq!(cosign(&note, &log_key(), TIME_S, by(LOG)), Err(cosigner_is_due.clone()));
    assert_eq!(verify_cosignature(&note, &log_key()), Err(cosigner_is_due));
}

#[test]
fn no_cosignature_is_later_than_the_standard_allows() {
    let (key, time_s) = (witness_key(), COSIGNATURE_TIME_MAX_S + 1);
    assert_eq!(cosign(&note(), &key, time_s, by(WITNESS)), Err(NoteError::Time { got: time_s }));
    let message = format!("cosignature/v1\ntime {time_s}\n{}", note().text());
    let bytes = [time_s.to_be_bytes().as_slice(), &by(WITNESS)(message.as_bytes())].concat();
    let note = SignedNote { text: note().text, signatures: vec![NoteSignature::by(&key, bytes)] };
    assert_eq!(verify_cosignature(&note, &key), Err(NoteError::Time { got: time_s }));
}

#[test]
fn only_checkpoints_are_cosigned() {
    let text = "any text\n";
    let note = sign_note(text, &log_key(), by(LOG)).unwrap();
    assert_eq!(verify_note(&note, &log_key()), Ok(()));
    let want = NoteError::NotACheckpoint(CheckpointError::Lines { got: 1 });
    assert_eq!(cosign(&note, &witness_key(), TIME_S, by(WITNESS)), Err(want.clone()));

    let message = format!("cosignature/v1\ntime {TIME_S}\n{text}");
    let bytes = [TIME_S.to_be_bytes().as_slice(), &by(WITNESS)(message.as_bytes())].concat();
    let cosigned = SignedNote { text: text.into(), signatures: vec![NoteSignature::by(&witness_key(), bytes)] };
    assert_eq!(verify_cosignature(&cosigned, &witness_key()), Err(want));
}

// ---- The form.

#[test]
fn a_text_may_have_empty_lines_and_needs_a_last_newline() {
    for text in ["\n", "\n\n\n", "a\n\nb\n", "a\n\n\u{2014} b AAAAAAA=\n"] {
        let note = sign_note(text, &log_key(), by(LOG)).unwrap();
        assert_eq!(parse(&note.to_string()), Ok(note.clone()), "{text:?}");
        assert_eq!(note.text(), text);
    }
    for text in ["", "a", "a\nb"] {
        let want = Err(NoteError::NoNewline { what: "the text" });
        assert_eq!(sign_note(text, &log_key(), by(LOG)), want, "{text:?}");
    }
    assert_eq!(sign_note("a\tb\n", &log_key(), by(LOG)), Err(NoteError::ControlCharacter { position: 1 }));
}

#[test]
fn a_note_that_breaks_off_is_refused() {
    let line = line("a", 1);
    assert_eq!(parse(""), Err(NoteError::NoEmptyLine));
    assert_eq!(parse(&format!("text\n{line}\n")), Err(NoteError::NoEmptyLine));
    assert_eq!(parse("text\n\n"), Err(NoteError::Unsigned));
    assert_eq!(parse(&format!("text\n\n{line}")), Err(NoteError::NoNewline { what: "the note" }));
    assert!(parse(&format!("text\n\n{line}\n")).is_ok());
    assert_eq!(parse(&format!("text\n\n{line}\n\n")), Err(NoteError::Unsigned));
}

#[test]
fn a_note_is_text() {
    let note = format!("text\n\n{}\n", line("a", 1));
    for control in ['\0', '\t', '\r', '\u{1f}'] {
        let with = note.replace('x', &control.to_string());
        assert_eq!(parse(&with), Err(NoteError::ControlCharacter { position: 2 }));
    }
    let mut bytes = note.into_bytes();
    bytes[2] = 0xff;
    assert_eq!(SignedNote::parse(&bytes), Err(NoteError::NotUtf8 { position: 2 }));
}

#[test]
fn a_line_that_is_no_signature_is_refused() {
    let good = line("a", 1);
    assert!(NoteSignature::parse(&good).is_ok());
    let flaws = [
        good.replace('\u{2014}', "-"),
        good.replace("\u{2014} ", "\u{2014}"),
        good.replace("\u{2014} a ", "\u{2014}  "),
        good.replace(" a ", " a  "),
        good.replace(" a ", " a+b "),
        good.replace(" a ", " a\u{a0}b "),
        good.replace(" a ", " "),
        good.replace('=', ""),
        format!("{good} "),
        "\u{2014} a ".into(),
        line("a", 0),
    ];
    for flaw in flaws {
        assert_eq!(NoteSignature::parse(&flaw), Err(NoteError::SignatureLine { index: 0 }), "{flaw:?}");
        let note = format!("text\n\n{good}\n{flaw}\n");
        assert_eq!(parse(&note), Err(NoteError::SignatureLine { index: 1 }), "{flaw:?}");
    }
}

#[test]
fn a_note_has_a_hundred_signatures_at_most() {
    let lines = |count: usize| (0..count).map(|i| line(&format!("k{i}"), 64) + "\n").collect::<String>();
    let mut most = parse(&format!("text\n\n{}", lines(NOTE_SIGNATURES_MAX))).unwrap();
    let too_many = NoteError::TooManySignatures { got: NOTE_SIGNATURES_MAX + 1 };
    assert_eq!(parse(&format!("text\n\n{}", lines(NOTE_SIGNATURES_MAX + 1))), Err(too_many.clone()));

    let one_more = NoteSignature::parse(&line("one_more", 64)).unwrap();
    assert_eq!(most.add(one_more), Err(too_many));
    assert_eq!(most.signatures().len(), NOTE_SIGNATURES_MAX);
}

#[test]
fn a_note_has_64_kib_at_most() {
    let rest = format!("\n{}\n", sign_note("\n", &log_key(), by(LOG)).unwrap().signatures()[0]);
    let text = |len: usize| "x".repeat(len - rest.len() - 1) + "\n";
    let mut longest = sign_note(&text(NOTE_LEN_MAX), &log_key(), by(LOG)).unwrap();
    assert_eq!(longest.to_string().len(), NOTE_LEN_MAX);
    assert_eq!(parse(&longest.to_string()), Ok(longest.clone()));

    let too_long = NoteError::TooLong { got: NOTE_LEN_MAX + 1 };
    assert_eq!(sign_note(&text(NOTE_LEN_MAX + 1), &log_key(), by(LOG)), Err(too_long.clone()));
    assert_eq!(parse(&(text(NOTE_LEN_MAX + 1) + &rest)), Err(too_long));

    let before = longest.clone();
    let line = line("a", 1);
    let want = Err(NoteError::TooLong { got: NOTE_LEN_MAX + line.len() + 1 });
    assert_eq!(longest.add(NoteSignature::parse(&line).unwrap()), want);
    assert_eq!(longest, before);
}

proptest! {
    #[test]
    fn what_is_read_is_written_as_it_was(text in "(\\PC{0,9}\n){0,3}\n?(\u{2014} [a-c]{1,2} [A-D]{8}\n?){0,3}") {
        if let Ok(note) = parse(&text) {
            prop_assert_eq!(note.to_string(), text);
        }
    }
}
