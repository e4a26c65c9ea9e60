//! Work that must be done and that nothing waits for: on one thread that the system gives what others leave.
//!
//! Whether a pack was sealed for this organisation takes a trial opening of each of its wraps, which costs more than all
//! else that is done with its commit. Where a machine is busy, what decides blocks goes first.

use std::sync::{LazyLock, mpsc};

use tokio::sync::oneshot;
use tracing::warn;

/// The thread's nice value: about a tenth of what another thread gets, where the two compete (`sched(7)`).
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

static JOBS: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel();
    let work = move || {
        be_nice();
        queue.iter().for_each(|job: Job| job());
    };
    std::thread::Builder::new().name("background".into()).spawn(work).expect("a thread can be started");
    jobs
});

/// Runs what computes after what others need now. One piece of work at a time.
///
/// # Panics
/// If the work does.
pub(crate) async fn in_background<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = oneshot::channel();
    let job = Box::new(move || drop(done.send(work()))); // whoever asked may have gone
    JOBS.send(job).expect("the thread takes jobs for ever");
    result.await.expect("the work does not panic")
}

fn be_nice() {
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICE) {
        warn!(%error, "work in the background takes as much of the processor as other work");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_is_done_by_a_thread_that_is_nice() {
        let nice = || rustix::process::getpriority_process(Some(rustix::thread::gettid())).unwrap();
        assert_eq!(in_background(nice).await, NICE);
        assert_ne!(nice(), NICE);
    }
}
