//! Where a node that cannot be reached reserves a place to be reached through. Pure.
//!
//! Each node asks the relays in an order of its own, a hash of both ids, so that the nodes of a network spread over all
//! its relays. Who refuses or is lost is asked again later, and the next one meanwhile.
//!
//! A place is never given up, also when we can be reached by now: it ends with the connection, or when the relay renews it
//! no more. libp2p's client panics when a relay answers for a place that was given up meanwhile.

use std::collections::HashMap;
use std::time::Duration;

use libp2p::PeerId;
use libp2p::core::transport::ListenerId;
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;

/// Relays to be reached through at once: one may vanish, and the other still leads here.
pub(crate) const WANTED: usize = 2;

/// How long a relay that refused or was lost is not asked, at first; doubled each time, up to [`AGAIN_MAX`].
const AGAIN_MIN: Duration = Duration::from_secs(2);
const AGAIN_MAX: Duration = Duration::from_secs(120);

/// The relays that are connected: bounded by the connections there can be.
#[derive(Debug)]
pub(crate) struct Relays {
    us: PeerId,
    all: HashMap<PeerId, Relay>,
}

#[derive(Debug, Default)]
struct Relay {
    /// It is connected and says that it relays.
    offers: bool,
    place: Place,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    None,
    Asked(ListenerId),
    Reserved(ListenerId),
}

impl Place {
    fn listener(self) -> Option<ListenerId> {
        match self {
            Self::None => None,
            Self::Asked(listener) | Self::Reserved(listener) => Some(listener),
        }
    }
}

impl Relays {
    pub(crate) fn new(us: PeerId) -> Self {
        Self { us, all: HashMap::new() }
    }

    /// A connected member offers to relay.
    pub(crate) fn offers(&mut self, relay: PeerId) {
        self.all.entry(relay).or_default().offers = true;
    }

    /// It does so no more, or is gone.
    pub(crate) fn withdraws(&mut self, relay: &PeerId) {
        let Some(known) = self.all.get_mut(relay) else { return };
        known.offers = false;
        if known.place == Place::None {
            self.all.remove(relay);
        }
    }

    /// Whom to ask for a place now.
    pub(crate) fn to_ask(&self, now: Instant) -> Vec<PeerId> {
        let taken = self.all.values().filter(|relay| relay.place != Place::None).count();
        let is_free = |relay: &Relay| {
            relay.offers && relay.place == Place::None && relay.not_before.is_none_or(|until| until <= now)
        };
        let mut free: Vec<PeerId> = self.all.iter().filter(|(_, it)| is_free(it)).map(|(peer, _)| *peer).collect();
        free.sort_by_cached_key(|relay| rank(&self.us, relay));
        free.truncate(WANTED.saturating_sub(taken));
        free
    }

    /// A relay was asked for a place.
    pub(crate) fn asked(&mut self, relay: PeerId, listener: ListenerId) {
        self.all.entry(relay).or_default().place = Place::Asked(listener);
    }

    /// It gave one. `None` if nobody asked it.
    pub(crate) fn reserved(&mut self, listener: ListenerId) -> Option<PeerId> {
        let (peer, relay) = self.all.iter_mut().find(|(_, relay)| relay.place.listener() == Some(listener))?;
        *relay = Relay { offers: relay.offers, place: Place::Reserved(listener), ..Relay::default() };
        Some(*peer)
    }

    /// A place was refused or is lost. `None` if nobody asked for it.
    pub(crate) fn ended(&mut self, listener: ListenerId, now: Instant) -> Option<PeerId> {
        let (peer, relay) = self.all.iter_mut().find(|(_, relay)| relay.place.listener() == Some(listener))?;
        let peer = *peer;
        relay.place = Place::None;
        relay.not_before = Some(now + AGAIN_MIN.saturating_mul(1 << relay.failures.min(16)).min(AGAIN_MAX));
        relay.failures += 1;
        if !relay.offers {
            self.all.remove(&peer);
        }
        Some(peer)
    }

    /// Through whom we are reached.
    pub(crate) fn through(&self) -> Vec<PeerId> {
        let mut peers: Vec<PeerId> =
            self.all.iter().filter_map(|(peer, it)| is_reserved(it).then_some(*peer)).collect();
        peers.sort();
        peers
    }
}

fn is_reserved(relay: &Relay) -> bool {
    matches!(relay.place, Place::Reserved(_))
}

fn rank(us: &PeerId, relay: &PeerId) -> [u8; 32] {
    Sha256::new().chain_update(us.to_bytes()).chain_update(relay.to_bytes()).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(seed: u8) -> PeerId {
        crate::Keys::from_seed([seed; 32]).pair().public().to_peer_id()
    }

    fn with(relays: std::ops::Range<u8>) -> Relays {
        let mut all = Relays::new(peer(1));
        relays.for_each(|seed| all.offers(peer(seed)));
        all
    }

    #[test]
    fn as_many_as_wanted_are_asked_and_the_next_one_when_one_refuses() {
        let now = Instant::now();
        let mut relays = with(2..9);
        let asked = relays.to_ask(now);
        assert_eq!(asked.len(), WANTED);
        let places: Vec<ListenerId> = asked.iter().map(|_| ListenerId::next()).collect();
        asked.iter().zip(&places).for_each(|(relay, place)| relays.asked(*relay, *place));
        assert!(relays.to_ask(now).is_empty());
        assert!(relays.through().is_empty(), "nobody has answered");

        assert_eq!(relays.reserved(places[0]), Some(asked[0]));
        assert_eq!(relays.through(), [asked[0]]);
        assert_eq!(relays.ended(places[1], now), Some(asked[1]));
        let next = relays.to_ask(now);
        assert_eq!(next.len(), 1);
        assert!(!asked.contains(&next[0]));
    }

    #[test]
    fn who_refuses_is_left_alone_for_longer_each_time_and_not_for_ever() {
        let mut now = Instant::now();
        let mut relays = with(2..3);
        for waited in [2, 4, 8, 16, 32, 64, 120, 120].map(Duration::from_secs) {
            let place = ListenerId::next();
            relays.asked(peer(2), place);
            relays.ended(place, now);
            assert!(relays.to_ask(now + waited - Duration::from_millis(1)).is_empty());
            now += waited;
            assert_eq!(relays.to_ask(now), [peer(2)]);
        }
        let place = ListenerId::next();
        relays.asked(peer(2), place);
        relays.reserved(place);
        relays.ended(place, now);
        assert_eq!(relays.to_ask(now + AGAIN_MIN), [peer(2)], "it gave a place meanwhile");
    }

    #[test]
    fn nodes_spread_over_the_relays() {
        let first = |us: u8| {
            let mut relays = Relays::new(peer(us));
            (100..104).for_each(|seed| relays.offers(peer(seed)));
            relays.to_ask(Instant::now())[0]
        };
        let chosen: std::collections::HashSet<PeerId> = (0..32).map(first).collect();
        assert_eq!(chosen.len(), 4);
    }

    #[test]
    fn who_offers_no_more_is_not_asked_and_forgotten_once_its_place_has_ended() {
        let now = Instant::now();
        let mut relays = with(2..4);
        let place = ListenerId::next();
        relays.asked(peer(2), place);
        relays.withdraws(&peer(2));
        relays.withdraws(&peer(3));
        assert_eq!(relays.all.len(), 1);
        assert_eq!(relays.reserved(place), Some(peer(2)), "it was asked before");
        assert_eq!(relays.through(), [peer(2)]);
        assert_eq!(relays.ended(place, now), Some(peer(2)));
        assert_eq!(relays.ended(place, now), None);
        assert!(relays.all.is_empty() && relays.to_ask(now + AGAIN_MAX).is_empty());
    }
}
