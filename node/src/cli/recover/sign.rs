//! `admin recover sign`: a holder signs, without a node.

use std::path::Path;

use bithealth_ledger::{Checkpoint, NoteAlgorithm, SignedNote, VerifierKey, note_text, sign_note};
use bithealth_proto::v1;
use bithealth_types::{Digest, GenesisId};
use serde_json::json;

use super::super::exit::Exit;
use super::super::failure::Failure;
use super::super::note_key::NoteKey;
use super::super::show::{Show, count, counted, plain};
use super::paper::{self, Names};

/// Adds a holder's signature. Everything that is signed is told from the message itself; the names beside it are what the
/// file says.
pub(super) fn run(path: &Path, key: &Path, show: Show) -> Result<Exit, Failure> {
    let (mut submission, names) = paper::read(path)?;
    let wrong = |what: &dyn std::fmt::Display| {
        Failure::new(format_args!("{}: {what}", path.display())).next("ask for a file that `recover propose` wrote")
    };
    let signed = submission.recovery.clone().ok_or_else(|| wrong(&"it holds no recovery"))?;
    let text = note_text(&signed).map_err(|error| wrong(&error))?;
    let (key, _lock) = NoteKey::load(key, NoteAlgorithm::Ed25519)?;
    let origin = Checkpoint::parse(&text).map_err(|error| wrong(&error))?.origin;
    let public = VerifierKey::new(&origin, NoteAlgorithm::Ed25519, *key.public().public());
    let public = public.map_err(|error| wrong(&error))?;
    let by_holder = sign_note(&text, &public, |message| key.sign(message)).map_err(|error| wrong(&error))?;
    let note = if submission.note.is_empty() {
        by_holder
    } else {
        let mut note = SignedNote::parse(submission.note.as_bytes()).map_err(|error| wrong(&error))?;
        if note.text() != text {
            return Err(wrong(&"others signed something else than it holds"));
        }
        by_holder.signatures().iter().try_for_each(|line| note.add(line.clone())).map_err(|error| wrong(&error))?;
        note
    };
    let signatures = note.signatures().len() as u64;
    submission.note = note.to_string();
    paper::write(path, &names, &submission)?;
    let recovery = signed.recovery.unwrap_or_default();
    show.answer(&json!({ "path": path, "signatures": signatures, "key": public.to_string() }), |_| {
        let signed = what_is_signed(&recovery, &names);
        format!("{signed}\n{}: {} now", path.display(), counted(signatures, "signature"))
    });
    show.note(
        "the names are those that the file gives, and only the ids are signed: compare them with what `bithealth status \
         --json` of any node says, and do not pass the file on if they differ",
    );
    Ok(Exit::Done)
}

/// In words, what a holder signs.
fn what_is_signed(recovery: &v1::Recovery, names: &Names) -> String {
    let network = GenesisId::try_from(recovery.genesis.as_ref()).map_or_else(|_| "none".into(), |id| id.to_string());
    let last = Digest::try_from(recovery.previous.as_ref()).map_or_else(|_| "none".into(), |id| id.to_string());
    let members = paper::go_on(recovery).into_iter().map(|id| match id {
        Some(id) => format!("\n  goes on     {id} {}", names.get(&id).map_or("(no name)", String::as_str)),
        None => "\n  goes on     ?".to_owned(),
    });
    let members: String = members.collect();
    plain(&format!(
        "signed: all others lose their vote, for good\n  network     {network}\n  last block  {} {last}\n  new era     {}{members}",
        count(recovery.height),
        recovery.era,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bithealth_types::MemberId;
    use bytes::Bytes;

    #[test]
    fn a_holder_sees_the_names_and_the_ids_of_those_who_go_on_and_keeps_the_names_in_the_file() {
        let one = |id: u8| v1::Validator { member: Bytes::copy_from_slice(&[id; 32]), key: Bytes::new() };
        let recovery = v1::Recovery {
            era: 1,
            height: 1234,
            validators: Some(v1::ValidatorSet { validators: vec![one(1), one(2)] }),
            ..v1::Recovery::default()
        };
        let all = Names::from([
            (MemberId([1; 32]), "North\nClinic".to_owned()),
            (MemberId([3; 32]), "one that does not go on".to_owned()),
        ]);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recovery.json");
        let signed = v1::SignedRecovery { recovery: Some(recovery.clone()), ..v1::SignedRecovery::default() };
        let submission = v1::RecoverySubmission { recovery: Some(signed), note: String::new() };
        paper::write(&path, &paper::names(&recovery, &all), &submission).unwrap();
        let (read, names) = paper::read(&path).unwrap();
        assert_eq!(read, submission);
        let words = what_is_signed(&recovery, &names);
        for line in [
            format!("  goes on     {} North\u{FFFD}Clinic\n", MemberId([1; 32])),
            format!("  goes on     {} (no name)", MemberId([2; 32])),
            "  last block  1,234 none\n".to_owned(),
        ] {
            assert!(words.contains(&line), "{line:?} is not in\n{words}");
        }
        assert!(!words.contains("does not go on"), "{words}");
    }
}
