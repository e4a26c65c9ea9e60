//! Waiting for what comes about, and the only sleeps of the tests.

use std::time::{Duration, Instant};

/// Between two looks at whether something has come about.
const LOOK_EVERY: Duration = Duration::from_millis(40);
/// How long anything may take here: far longer than it does, even on a machine that is busy with other work.
const DEADLINE: Duration = Duration::from_secs(60);

/// Looks until `look` gives an answer.
///
/// # Panics
/// If it gives none in time: with what it lacked when it last looked.
pub fn wait_until<T>(what: &str, mut look: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match look() {
            Ok(answer) => return answer,
            Err(lack) => assert!(Instant::now() < deadline, "waited {DEADLINE:?} until {what}; last: {lack}"),
        }
        soon(LOOK_EVERY);
    }
}

/// Lets others run for a moment: for the moment at which a process is killed, never for something to come about.
pub fn soon(moment: Duration) {
    std::thread::sleep(moment);
}
