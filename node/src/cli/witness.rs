//! `ledger witness-key`, `cosign`: what an outsider does who has no node. Two files are all a witness has: its key, and
//! beside it what it cosigned last ([`Memory`]).

mod memory;

use std::path::{Path, PathBuf};

use bithealth_ledger::{Checkpoint, NoteAlgorithm, SUBMISSION_LEN_MAX, Submission, VerifierKey, Watched, WitnessError};
use serde_json::json;

use super::args::CosignArgs;
use super::cosigned::read_short;
use super::exit::Exit;
use super::failure::Failure;
use super::note_key::NoteKey;
use super::show::{Show, count, now_ms};
use memory::{Memory, memory_path};

/// Makes a key, and a memory that knows of nothing.
pub(crate) fn make_key(output: &Path, name: &str, show: Show) -> Result<Exit, Failure> {
    let key = NoteKey::random(name, NoteAlgorithm::CosignatureV1)?;
    let taken = |error: crate::keys::KeysError| Failure::new(error).next("pass another name with -o");
    Memory::create(&memory_path(output)).map_err(taken)?;
    key.save(output).map_err(taken)?;
    let public = key.public().to_string();
    show.answer(&json!({ "path": output, "key": public }), |_| public.clone());
    show.note(format_args!(
        "give this line to the members: they check your cosignatures with it. Keep {} and {} together, and to yourself",
        output.display(),
        memory_path(output).display()
    ));
    Ok(Exit::Done)
}

/// Cosigns a checkpoint that continues what was cosigned before.
pub(crate) fn cosign(args: CosignArgs, show: Show) -> Result<Exit, Failure> {
    let file = &args.checkpoint;
    let no_checkpoint = |error: &dyn std::fmt::Display| {
        Failure::new(format_args!("{} cannot be cosigned: {error}", file.display()))
            .next("ask for a file that `bithealth ledger checkpoint` wrote")
    };
    let wrote = "pass the file that `bithealth ledger checkpoint` or `bithealth admin recover export` wrote";
    let bytes = read_short(file, SUBMISSION_LEN_MAX, "checkpoint").map_err(|failure| failure.next(wrote))?;
    let read = Submission::parse(&bytes);
    let mut submission = read.map_err(|error| no_checkpoint(&error))?;
    let origin = Checkpoint::parse(submission.note.text()).map_err(|error| no_checkpoint(&error))?.origin;

    // Held until the end: of two that cosign at once, the second judges by what the first has cosigned.
    let (key, _lock) = NoteKey::load(&args.key, NoteAlgorithm::CosignatureV1)?;
    let mut memory = Memory::load(&memory_path(&args.key))?;
    let watched = memory.of(&origin);
    args.log.iter().try_for_each(|log| learn(watched, log))?;
    let checkpoint = watched.judge(&submission).map_err(|error| refused(file, &error))?;
    watched.last = Some(checkpoint.clone());
    let time_s = now_ms() / 1000;
    let line = key.cosign(&submission.note, time_s).map_err(|error| no_checkpoint(&error))?;
    submission.note.add(line).map_err(|error| no_checkpoint(&error))?;
    memory.save(&memory_path(&args.key))?; // before the cosignature leaves

    let output = args.output.clone().unwrap_or_else(|| beside(file));
    std::fs::write(&output, submission.note.to_string()).map_err(|error| Failure::file(&output, error))?;
    let told = json!({
        "path": output, "origin": origin, "height": checkpoint.len, "root": checkpoint.root, "time_s": time_s,
        "key": key.public().to_string(),
    });
    show.answer(&told, |_| {
        let height = count(checkpoint.len);
        format!("{}: {} cosigned height {height} of {origin}", output.display(), key.public().name())
    });
    // Recoveries are a log of their own, whose cosignatures go elsewhere.
    show.note(match origin.ends_with("/recovery") {
        true => "send it back: a member runs `bithealth admin recover submit FILE`",
        false => "send it back: a member runs `bithealth ledger cosigned FILE --witness KEY`",
    });
    Ok(Exit::Done)
}

/// Takes a key for one of the log's from now on.
fn learn(watched: &mut Watched, log: &VerifierKey) -> Result<(), Failure> {
    if log.algorithm() != NoteAlgorithm::Ed25519 || log.name() != watched.origin {
        let what = format!("the key {log} is not one that signs checkpoints of {}", watched.origin);
        return Err(Failure::usage(what).next("pass the line that `bithealth ledger checkpoint` printed, as --log"));
    }
    if !watched.keys.contains(log) {
        watched.keys.push(log.clone());
    }
    Ok(())
}

fn refused(file: &Path, error: &WitnessError) -> Failure {
    let file = file.display();
    let next = match error {
        WitnessError::UnknownKey { .. } => {
            "if a member you trust says that it is the key of its node, pass the whole key with --log".to_owned()
        }
        WitnessError::Back { .. } => {
            "ask for one of today; if a node has no later one, its history was cut: tell the other members".to_owned()
        }
        WitnessError::OtherOld { have: 0, .. } => {
            "ask for one made by `bithealth ledger checkpoint` without --since".to_owned()
        }
        WitnessError::OtherOld { have, .. } => {
            format!("ask for one made by `bithealth ledger checkpoint --since {have}`")
        }
        WitnessError::Fork { .. } => {
            format!("keep {file} and the checkpoint you cosigned before: together they prove it. Tell all members")
        }
        WitnessError::NotContinued { have_len, .. } => format!(
            "ask for one made by `bithealth ledger checkpoint --since {have_len}`; if that is refused as well, there are \
             two histories: keep {file}, and tell all members"
        ),
        _ => "ask for a file that `bithealth ledger checkpoint` wrote, unchanged".to_owned(),
    };
    Failure::new(format_args!("{file} is not cosigned: {error}")).next(next)
}

fn beside(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".cosigned");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
