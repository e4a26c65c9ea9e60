//! Who fetches what: of several peers that have a log, one is asked for it.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use bithealth_types::NodeId;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

/// A claim lasts this long unless it is renewed: a peer that gives nothing holds nothing up for longer.
const CLAIM_MAX: Duration = Duration::from_secs(5);

/// What is fetched by one at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Wanted {
    /// Entries of this author.
    Log(NodeId),
    /// What follows the tip.
    Blocks,
}

/// What is being fetched.
#[derive(Default)]
pub(super) struct Claims {
    held: Mutex<Held>,
    released: Notify,
}

#[derive(Default)]
struct Held {
    claims: HashMap<Wanted, (u64, Instant)>,
    last: u64,
}

/// The right to fetch something, until it is dropped, or was not renewed.
pub(super) struct Claim<'a> {
    claims: &'a Claims,
    wanted: Wanted,
    ticket: u64,
}

impl Claims {
    /// The claim, if nobody has it; else until when it is another's at most.
    pub(super) fn claim(&self, wanted: Wanted) -> Result<Claim<'_>, Instant> {
        let now = Instant::now();
        let mut held = self.held.lock().expect("no holder panics");
        if let Some((_, until)) = held.claims.get(&wanted).filter(|(_, until)| *until > now) {
            return Err(*until);
        }
        held.last += 1;
        let ticket = held.last;
        held.claims.insert(wanted, (ticket, now + CLAIM_MAX));
        Ok(Claim { claims: self, wanted, ticket })
    }

    /// The claim, as soon as nobody has it.
    pub(super) async fn wait(&self, wanted: Wanted) -> Claim<'_> {
        loop {
            let released = self.released.notified(); // before looking: what is released in between counts
            match self.claim(wanted) {
                Ok(claim) => return claim,
                Err(until) => drop(timeout_at(until, released).await), // either way it is time to look
            }
        }
    }
}

impl Claim<'_> {
    /// Lasts as long again; false if another has it by now.
    pub(super) fn renew(&self) -> bool {
        let mut held = self.claims.held.lock().expect("no holder panics");
        match held.claims.get_mut(&self.wanted).filter(|(ticket, _)| *ticket == self.ticket) {
            Some((_, until)) => {
                *until = Instant::now() + CLAIM_MAX;
                true
            }
            None => false,
        }
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut held = self.claims.held.lock().expect("no holder panics");
        if held.claims.get(&self.wanted).is_some_and(|(ticket, _)| *ticket == self.ticket) {
            held.claims.remove(&self.wanted);
            drop(held);
            self.claims.released.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: Wanted = Wanted::Log(NodeId([1; 32]));

    #[tokio::test(start_paused = true)]
    async fn one_fetches_and_the_next_waits_for_the_end_of_it() {
        let claims = Claims::default();
        let first = claims.claim(LOG).ok().unwrap();
        assert!(claims.claim(LOG).is_err());
        assert!(claims.claim(Wanted::Log(NodeId([2; 32]))).is_ok() && claims.claim(Wanted::Blocks).is_ok());
        let began = Instant::now();
        let (second, ()) = tokio::join!(claims.wait(LOG), async {
            tokio::time::advance(CLAIM_MAX / 2).await;
            drop(first);
        });
        assert_eq!(began.elapsed(), CLAIM_MAX / 2);
        assert!(second.renew() && claims.claim(LOG).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn who_gives_nothing_loses_the_claim_and_takes_it_from_nobody() {
        let claims = Claims::default();
        let (slow, began) = (claims.claim(LOG).ok().unwrap(), Instant::now());
        tokio::time::advance(CLAIM_MAX / 2).await;
        assert!(slow.renew());
        let fast = claims.wait(LOG).await;
        assert_eq!(began.elapsed(), CLAIM_MAX * 3 / 2);
        assert!(!slow.renew());
        drop(slow);
        assert!(claims.claim(LOG).is_err() && fast.renew(), "what it lost is not released by it");
    }
}
