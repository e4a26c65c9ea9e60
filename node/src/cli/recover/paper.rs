//! The file in which a recovery goes from hand to hand.
//!
//! It says whom it is about in words, for people. Only the message in it is signed.

use std::collections::BTreeMap;
use std::path::Path;

use bithealth_proto::{encode, v1};
use bithealth_types::MemberId;
use serde_json::{Value, json};

use super::super::failure::Failure;
use super::super::ledger::{read as decode, read_whole_paper, write_paper};

const RECOVERY: &str = "bithealth recovery 1";
/// Characters of a name that are shown; the ledger takes no longer ones.
const NAME_LEN_MAX: usize = 64;

/// What those who go on are called, by whoever wrote the file.
pub(super) type Names = BTreeMap<MemberId, String>;

/// The names of those who go on, of what a node calls all of its members.
pub(super) fn names(recovery: &v1::Recovery, members: &Names) -> Names {
    let named = |id: MemberId| Some((id, members.get(&id)?.clone()));
    go_on(recovery).into_iter().flatten().filter_map(named).collect()
}

/// Those who go on; `None` for what is no id.
pub(super) fn go_on(recovery: &v1::Recovery) -> Vec<Option<MemberId>> {
    let set = recovery.validators.as_ref().map(|set| set.validators.as_slice()).unwrap_or_default();
    set.iter().map(|it| MemberId::try_from(it.member.as_ref()).ok()).collect()
}

pub(super) fn write(path: &Path, names: &Names, submission: &v1::RecoverySubmission) -> Result<(), Failure> {
    let recovery = submission.recovery.as_ref().and_then(|signed| signed.recovery.clone()).unwrap_or_default();
    let goes_on: BTreeMap<String, &String> = names.iter().map(|(id, name)| (id.to_string(), name)).collect();
    let says = json!({ "goes_on": goes_on, "era": recovery.era, "after_block": recovery.height });
    write_paper(path, RECOVERY, &says, &encode(submission))
}

/// What the file holds, and whom it names.
pub(super) fn read(path: &Path) -> Result<(v1::RecoverySubmission, Names), Failure> {
    let wrong = |failure: Failure| {
        failure.next("pass the file that `bithealth admin recover propose` wrote, as it came or as holders signed it")
    };
    let (bytes, says) = read_whole_paper(path, RECOVERY).map_err(wrong)?;
    Ok((decode(&bytes, &path.display().to_string()).map_err(wrong)?, names_in(&says)))
}

/// A name is one line, whatever the file says.
fn names_in(says: &Value) -> Names {
    let line = |name: &str| {
        name.chars().map(|c| if c.is_control() { '\u{FFFD}' } else { c }).take(NAME_LEN_MAX).collect::<String>()
    };
    let named = |(id, name): (&String, &Value)| Some((id.parse::<MemberId>().ok()?, line(name.as_str()?)));
    says["goes_on"].as_object().into_iter().flatten().filter_map(named).collect()
}
