//! Places for connections: how many may be open, and which one makes room for the next.
//!
//! Anybody can open a connection and hold it, so a connection counts for little until it carried a call of somebody who may call
//! (an *authenticated* connection). Where all places are taken, the oldest connection without such a call is closed for the one
//! that comes; where one peer has more of these than its share, its own oldest. Some places are never left to authenticated
//! connections, so there is always one to close: whoever comes gets in, a health probe too, and a client that calls keeps its
//! place. Where more connections are authenticated than may be, an identity with the most of them has its oldest count as
//! unauthenticated again.

use std::{
    collections::{BTreeSet, HashMap},
    fmt,
    net::{IpAddr, Ipv6Addr},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use tokio::sync::oneshot;
use tracing::{debug, warn};

use super::metrics::Metrics;
use crate::service::Peer;

/// Of so many places, one is not for authenticated connections.
const SHARE_RESERVED: usize = 16;
/// Places that are not for authenticated connections, at most.
const MAX_RESERVED: usize = 64;
/// How often the log says that connections were closed for others.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// How many connections may be open.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// All.
    pub(super) connections: usize,
    /// Those of one peer that carried no call of somebody who may call.
    pub(super) per_peer: usize,
}

/// The places of one listener.
#[derive(Debug, Clone)]
pub(super) struct Places(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    limits: Limits,
    metrics: Arc<Metrics>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Numbers are given in the order of arrival, so the lowest is the oldest.
    newest: u64,
    open: HashMap<u64, Entry>,
    unauthenticated: BTreeSet<u64>,
    unauthenticated_of: HashMap<PeerKey, BTreeSet<u64>>,
    /// The authenticated ones, by identity or, where nobody is asked who they are, by peer.
    authenticated_of: HashMap<String, BTreeSet<u64>>,
    closed_since_said: u64,
    said: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    peer: PeerKey,
    /// Who it counts for, once it is authenticated.
    owner: Option<String>,
    /// What its calls see of that.
    is_authenticated: Arc<AtomicBool>,
    /// Dropped or used, it closes the connection.
    close: oneshot::Sender<()>,
}

/// Whose share a connection counts for: an address, or the network of an IPv6 address, of which a host has as many as it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum PeerKey {
    Address(IpAddr),
    User(u32),
}

/// The place of one connection, which is free when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    standing: Standing,
    closed: oneshot::Receiver<()>,
}

/// How a connection counts, for the calls that it carries.
#[derive(Debug, Clone)]
pub(super) struct Standing {
    shared: Arc<Shared>,
    number: u64,
    is_authenticated: Arc<AtomicBool>,
}

impl Places {
    pub(super) fn new(limits: Limits, metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(Shared { limits, metrics, state: Mutex::default() }))
    }

    /// A place for a connection that has come. Another one is closed for it where that is needed; none where all that are open
    /// are authenticated, which is so only where there is a single place.
    pub(super) fn take(&self, peer: &Peer) -> Option<Place> {
        let Limits { connections, per_peer } = self.0.limits;
        let mut state = self.0.lock();
        let key = PeerKey::of(peer);
        let own = state.unauthenticated_of.get(&key);
        let closed = match own.filter(|own| own.len() >= per_peer).and_then(BTreeSet::first) {
            Some(oldest) => Some(*oldest),
            None if state.open.len() < connections => None,
            None => match state.unauthenticated.first() {
                Some(oldest) => Some(*oldest),
                None => {
                    self.0.metrics.displaced_connections.add_one();
                    state.say("a client was turned away: all connections that may be open are authenticated");
                    return None;
                }
            },
        };
        if let Some(number) = closed {
            self.0.metrics.displaced_connections.add_one();
            debug!(from = %peer, closed = number, "a connection that carried no authenticated call makes room");
            state.say("connections that carried no authenticated call were closed to make room for others");
            if let Some(entry) = state.remove(number) {
                // One that has ended already has made room.
                let _ended = entry.close.send(());
            }
        }
        state.newest += 1;
        let (number, is_authenticated) = (state.newest, Arc::<AtomicBool>::default());
        let (close, closed) = oneshot::channel();
        let entry = Entry { peer: key, owner: None, is_authenticated: Arc::clone(&is_authenticated), close };
        state.open.insert(number, entry);
        state.count_unauthenticated(number, key);
        drop(state);
        let standing = Standing { shared: Arc::clone(&self.0), number, is_authenticated };
        Some(Place { standing, closed })
    }
}

impl Shared {
    /// Authenticated connections that may be open; with a single place, that one.
    fn most_authenticated(&self) -> usize {
        let all = self.limits.connections;
        let reserved = (all / SHARE_RESERVED).clamp(1, MAX_RESERVED);
        all.saturating_sub(reserved).max(1)
    }

    /// What it guards is changed by steps that do not panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn count_unauthenticated(&mut self, number: u64, peer: PeerKey) {
        self.unauthenticated.insert(number);
        self.unauthenticated_of.entry(peer).or_default().insert(number);
    }

    fn discount_unauthenticated(&mut self, number: u64, peer: PeerKey) {
        self.unauthenticated.remove(&number);
        if let Some(own) = self.unauthenticated_of.get_mut(&peer) {
            own.remove(&number);
            if own.is_empty() {
                self.unauthenticated_of.remove(&peer);
            }
        }
    }

    fn discount_authenticated(&mut self, number: u64, owner: &str) {
        if let Some(own) = self.authenticated_of.get_mut(owner) {
            own.remove(&number);
            if own.is_empty() {
                self.authenticated_of.remove(owner);
            }
        }
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.open.remove(&number)?;
        match &entry.owner {
            Some(owner) => self.discount_authenticated(number, owner),
            None => self.discount_unauthenticated(number, entry.peer),
        }
        Some(entry)
    }

    /// Counts a connection as authenticated, if there is room for one more of its owner.
    fn authenticate(&mut self, number: u64, identity: &str, most: usize) {
        let Some(peer) = self.open.get(&number).filter(|of| of.owner.is_none()).map(|of| of.peer) else {
            return;
        };
        let owner = if identity.is_empty() { peer.to_string() } else { identity.to_owned() };
        let authenticated = self.open.len() - self.unauthenticated.len();
        if authenticated >= most {
            let own = self.authenticated_of.get(&owner).map_or(0, BTreeSet::len);
            let richest = self.authenticated_of.values().max_by_key(|of| of.len());
            match richest.filter(|of| of.len() > own + 1).and_then(BTreeSet::first).copied() {
                Some(oldest) => self.demote(oldest),
                None => return,
            }
        }
        self.discount_unauthenticated(number, peer);
        self.authenticated_of.entry(owner.clone()).or_default().insert(number);
        if let Some(entry) = self.open.get_mut(&number) {
            entry.owner = Some(owner);
            entry.is_authenticated.store(true, Relaxed);
        }
    }

    /// Counts a connection as unauthenticated again: until it carries the next call, it may be closed.
    fn demote(&mut self, number: u64) {
        let Some(entry) = self.open.get_mut(&number) else { return };
        let (peer, owner) = (entry.peer, entry.owner.take());
        entry.is_authenticated.store(false, Relaxed);
        if let Some(owner) = owner {
            self.discount_authenticated(number, &owner);
        }
        self.count_unauthenticated(number, peer);
    }

    /// Logs that connections were closed or turned away, not for each.
    fn say(&mut self, what: &str) {
        self.closed_since_said += 1;
        if self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY) {
            warn!(
                connections = self.closed_since_said,
                "{what}; see max_connections and max_connections_per_peer"
            );
            (self.closed_since_said, self.said) = (0, Some(Instant::now()));
        }
    }
}

impl PeerKey {
    fn of(peer: &Peer) -> Self {
        match peer {
            Peer::Unix { uid } => Self::User(*uid),
            Peer::Tcp { address, .. } => Self::Address(match address.ip().to_canonical() {
                IpAddr::V6(address) => {
                    let [a, b, c, d, ..] = address.segments();
                    IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
                }
                address => address,
            }),
        }
    }
}

impl fmt::Display for PeerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(uid) => write!(f, "uid {uid}"),
        }
    }
}

impl Place {
    /// How the connection counts.
    pub(super) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Returns when the connection is to make room for another.
    pub(super) async fn closed(&mut self) {
        std::future::poll_fn(|cx| self.poll_closed(cx)).await;
    }

    /// Ready when the connection is to make room for another.
    pub(super) fn poll_closed(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.closed).poll(cx).map(drop)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.standing.shared.lock().remove(self.standing.number);
    }
}

impl Standing {
    /// Counts the connection as authenticated: it carries a call of somebody who may make it.
    pub(super) fn authenticate(&self, identity: &str) {
        if !self.is_authenticated.load(Relaxed) {
            let most = self.shared.most_authenticated();
            self.shared.lock().authenticate(self.number, identity, most);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(address: &str) -> Peer {
        let address = SocketAddr::new(address.parse().unwrap(), 4711);
        Peer::Tcp { address, certificate: None }
    }

    fn places(connections: usize, per_peer: usize) -> Places {
        Places::new(Limits { connections, per_peer }, Arc::new(Metrics::new()))
    }

    fn is_closed(place: &mut Place) -> bool {
        place.poll_closed(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn a_client_gets_in_and_stays_while_others_hold_everything() {
        let places = places(32, 32);
        let mut held: Vec<Place> =
            (0..200).map(|n| places.take(&peer(&format!("10.0.0.{n}"))).unwrap()).collect();
        let mut client = places.take(&peer("192.0.2.1")).unwrap();
        client.standing().authenticate("ada");
        for n in 0..200 {
            held.push(places.take(&peer(&format!("10.0.1.{n}"))).expect("whoever comes gets in"));
        }
        assert!(!is_closed(&mut client), "an authenticated connection makes no room");
        let closed = held.iter_mut().map(is_closed).filter(|closed| *closed).count();
        assert_eq!(held.len() - closed, 31);
        assert_eq!(places.0.metrics.displaced_connections.get(), closed as u64);
        assert!(held.iter_mut().rev().take(31).all(|place| !is_closed(place)), "the oldest make room");
    }

    #[test]
    fn a_peer_makes_room_for_itself_beyond_its_share() {
        let places = places(100, 3);
        let mut other = places.take(&peer("192.0.2.1")).unwrap();
        // Addresses of one network of IPv6 are one peer, and an address of IPv4 is the same in either form.
        for addresses in [["2001:db8::1", "2001:db8::2"], ["198.51.100.1", "::ffff:198.51.100.1"]] {
            let of = |n: usize| places.take(&peer(addresses[n % 2])).unwrap();
            let mut held: Vec<Place> = (0..5).map(of).collect();
            let closed: Vec<bool> = held.iter_mut().map(is_closed).collect();
            assert_eq!(closed, [true, true, false, false, false]);
            // Those that are authenticated take nothing of the share.
            held[2].standing().authenticate("ada");
            let _more = of(0);
            assert!(held.iter_mut().skip(2).all(|place| !is_closed(place)));
        }
        assert!(!is_closed(&mut other));
    }

    #[test]
    fn authenticated_connections_leave_places_and_share_theirs_by_identity() {
        let places = places(32, 32);
        let mut greedy: Vec<Place> = (0..32).map(|_| places.take(&peer("192.0.2.1")).unwrap()).collect();
        greedy.iter().for_each(|place| place.standing().authenticate("greedy"));
        let modest = places.take(&peer("192.0.2.2")).expect("two places are left to those that come");
        assert!(is_closed(&mut greedy[30]), "the oldest beyond the authenticated ones made room");
        modest.standing().authenticate("modest");
        assert!(modest.is_authenticated(), "the one with the most gives a place");
        assert!(!greedy[0].is_authenticated() && greedy[1].is_authenticated());
        greedy[0].standing().authenticate("greedy");
        assert!(!greedy[0].is_authenticated() && modest.is_authenticated());
        drop(greedy);
        assert_eq!(places.0.lock().open.len(), 1);
    }

    #[test]
    fn a_single_place_is_for_whoever_calls() {
        let places = places(1, 1);
        let first = places.take(&peer("192.0.2.1")).unwrap();
        first.standing().authenticate("");
        assert!(places.take(&peer("192.0.2.2")).is_none());
        drop(first);
        assert!(places.take(&peer("192.0.2.2")).is_some());
    }

    impl Place {
        fn is_authenticated(&self) -> bool {
            self.standing.is_authenticated.load(Relaxed)
        }
    }
}
