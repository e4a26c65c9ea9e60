//! Opening: the newest state, the frames that verify under it, and both written once more.
//!
//! What is read may be in memory only: the process that wrote it may have been stopped by a failed `fsync`. So nothing
//! is given out before it was written again and synced. The file whose state is the newest comes first: that writes
//! the same bytes over themselves, and only when they are durable is the other copy touched.

use std::path::Path;

use bytes::Bytes;

use super::frame::{Next, Tail};
use super::state::{SLOT_LEN, State};
use super::twin::{Found, Twin};
use super::{Recovered, Wal};
use crate::disk::{Disk, replace_file};
use crate::error::{At, Fault, WalError};

const LOG: &str = "wal";
const SAFETY: &str = "safety";

pub(super) fn open(disk: &dyn Disk, dir: &Path) -> Result<(Wal, Recovered), WalError> {
    disk.create_dir(dir).at(dir)?;
    let found = [LOG, SAFETY].map(|name| Found::read(disk, &dir.join(name)));
    let is_new = matches!(found, [Found::Missing, Found::Missing]);
    let state = match newest(&found) {
        Some(state) => state.clone(),
        None if is_new => State::first().at(dir)?,
        None => return Err(lost(dir, found)),
    };
    let [log, safety] = [(LOG, &found[0]), (SAFETY, &found[1])].map(|(name, found)| {
        if matches!(found, Found::Missing) {
            create(disk, dir, name, &state)?;
        }
        Twin::open(disk, dir.join(name))
    });
    let (log, safety) = (log?, safety?);
    disk.sync_dir(dir).at(dir)?; // names, too, may be in memory only

    let (frames, cut_at) = read_frames(&log, &state)?;
    let [newer, older] = if found[0].state() == Some(&state) { [&log, &safety] } else { [&safety, &log] };
    newer.write_durably(&state)?;
    older.write_durably(&state)?;
    // Frames of the height before are written over only when no copy has that height any more.
    let tail = log.write_frames(Tail::new(&state), &frames)?;
    log.sync()?;

    let differs = !is_new && found.iter().any(|found| found.state() != Some(&state));
    let repaired = differs.then(|| older.path.clone());
    let recovered = Recovered { height: state.height, frames, safety: state.safety.clone(), cut_at, repaired };
    recovered.tell(dir);
    Ok((Wal { log, safety, state, tail, is_broken: false }, recovered))
}

fn newest(found: &[Found; 2]) -> Option<&State> {
    found.iter().filter_map(Found::state).max_by_key(|state| state.number)
}

/// Why there is no state: a read failed, or what was read does not verify.
fn lost(dir: &Path, found: [Found; 2]) -> WalError {
    let unreadable = found.into_iter().find_map(|found| match found {
        Found::Unreadable(fault) => Some(fault),
        _ => None,
    });
    unreadable.map_or(WalError::SafetyLost { wal: dir.join(LOG), safety: dir.join(SAFETY) }, WalError::from)
}

/// Makes a file that holds `state` and no frames, at full length, so that no later state needs room.
fn create(disk: &dyn Disk, dir: &Path, name: &str, state: &State) -> Result<(), Fault> {
    let mut bytes = state.encode();
    bytes.resize(SLOT_LEN as usize, 0);
    bytes.extend(Tail::new(state).end());
    replace_file(disk, dir, name, &bytes).at(dir.join(name))
}

/// All frames up to the end, or up to the byte where nothing verifies.
fn read_frames(log: &Twin, state: &State) -> Result<(Vec<Bytes>, Option<u64>), Fault> {
    let mut frames = Vec::new();
    let mut tail = Tail::new(state);
    loop {
        match tail.next(&*log.file).at(&log.path)? {
            Next::Frame(frame) => frames.push(frame),
            Next::End => return Ok((frames, None)),
            Next::Unsound => return Ok((frames, Some(tail.at))),
        }
    }
}

impl Recovered {
    fn tell(&self, dir: &Path) {
        let (dir, height) = (dir.display(), self.height);
        if let Some(at) = self.cut_at {
            tracing::warn!(%dir, %height, at, "what a crash or damage left behind the last good frame is cut off");
        }
        if let Some(path) = &self.repaired {
            tracing::warn!(path = %path.display(), "the state of the log is written anew from its other copy");
        }
    }
}
