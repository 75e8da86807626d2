//! Which connections stay open after their answer, so that the next request to their host needs none of its own.
//!
//! As many as were in use there at once, so their number follows the host's cap; over all hosts a few for each request
//! that this process has in flight, and no more than its file limit leaves room for (INV-BOUNDED). The connections themselves are the HTTP client's: here is only
//! counted how many it can have.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::process::{Resource, getrlimit};

/// How long a connection is kept without being used: less than most servers do, since one that they have just closed
/// looks like a failing host.
pub(super) const IDLE_TIME: Duration = Duration::from_secs(4);
/// How long the client can take to close one: it looks for them once in [`IDLE_TIME`].
const CLOSED_AFTER: Duration = Duration::from_secs(2 * IDLE_TIME.as_secs());
/// How often room is looked for, at most: each time costs a look at every host.
const SWEEP_EVERY: Duration = Duration::from_secs(1);
/// The most connections that are kept, used ones included.
const MOST_CONNECTIONS: usize = 1024;
/// Connections that may be kept however few requests are in flight at once,
const LEAST_CONNECTIONS: usize = 64;
/// and for each that was: a connection has about 50 KB of buffers, so their number follows the workers and not the hosts.
const CONNECTIONS_A_REQUEST: usize = 4;
/// The share of the process's file limit that kept connections may take: the rest is for parts and their requests, and
/// for the queue.
const SHARE_OF_FILES: u64 = 8;

/// The hosts to which connections are kept.
#[derive(Debug)]
pub(super) struct Kept {
    hosts: Arc<Mutex<Hosts>>,
}

#[derive(Debug)]
struct Hosts {
    /// Connections that may be kept, in all, if enough requests are in flight.
    most: usize,
    /// Requests that are in flight, on such connections or others,
    in_flight: usize,
    /// and the most that were.
    peak: usize,
    /// Those that are.
    taken: usize,
    by_origin: HashMap<Arc<str>, Host>,
    swept: Duration,
}

#[derive(Debug, Default)]
struct Host {
    in_flight: usize,
    /// The most that were in flight at once, each on a connection that is kept.
    connections: usize,
    /// When the last of them is surely closed; unknown until the first sweep after the last request.
    closed: Option<Duration>,
}

/// A request in flight. Its connection, if it is kept, is free for the next one when this is dropped.
#[derive(Debug)]
pub(super) struct InUse {
    hosts: Arc<Mutex<Hosts>>,
    /// Whose connection is kept.
    origin: Option<Arc<str>>,
}

impl Kept {
    /// As many connections as this process's file limit leaves room for.
    pub(super) fn by_file_limit() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(files / SHARE_OF_FILES).unwrap_or(usize::MAX);
        Self::with_most(share.clamp(1, MOST_CONNECTIONS))
    }

    fn with_most(most: usize) -> Self {
        let hosts =
            Hosts { most, in_flight: 0, peak: 0, taken: 0, by_origin: HashMap::new(), swept: Duration::ZERO };
        Self { hosts: Arc::new(Mutex::new(hosts)) }
    }

    /// Takes a connection for a request to an origin at `now`.
    pub(super) fn take(&self, origin: &str, now: Duration) -> InUse {
        let origin = lock(&self.hosts).take(origin, now);
        InUse { hosts: Arc::clone(&self.hosts), origin }
    }
}

impl InUse {
    /// Whether the connection is to be kept for the next request.
    pub(super) fn is_kept(&self) -> bool {
        self.origin.is_some()
    }
}

impl Hosts {
    fn take(&mut self, origin: &str, now: Duration) -> Option<Arc<str>> {
        self.in_flight += 1;
        self.peak = self.peak.max(self.in_flight);
        let has_idle = |host: &Host| host.in_flight < host.connections;
        if !self.by_origin.get(origin).is_some_and(has_idle) {
            if self.taken >= self.room() {
                self.sweep(now);
            }
            if self.taken >= self.room() {
                return None;
            }
        }
        let origin = match self.by_origin.get_key_value(origin) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::from(origin),
        };
        let host = self.by_origin.entry(Arc::clone(&origin)).or_default();
        host.in_flight += 1;
        host.closed = None;
        if host.in_flight > host.connections {
            host.connections += 1;
            self.taken += 1;
        }
        Some(origin)
    }

    fn room(&self) -> usize {
        self.most.min(LEAST_CONNECTIONS + CONNECTIONS_A_REQUEST * self.peak)
    }

    /// Forgets the hosts whose connections the client has closed by now.
    fn sweep(&mut self, now: Duration) {
        if now.saturating_sub(self.swept) < SWEEP_EVERY {
            return;
        }
        self.swept = now;
        let taken = &mut self.taken;
        self.by_origin.retain(|_, host| {
            let closed = *host.closed.get_or_insert(now + CLOSED_AFTER);
            let stays = host.in_flight > 0 || now < closed;
            if !stays {
                *taken -= host.connections;
            }
            stays
        });
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        let mut hosts = lock(&self.hosts);
        hosts.in_flight -= 1;
        if let Some(host) = self.origin.as_ref().and_then(|origin| hosts.by_origin.get_mut(origin)) {
            host.in_flight -= 1;
            host.closed = None;
        }
    }
}

/// Plain numbers, which are whole after every call, so a panic elsewhere cannot have torn them.
fn lock(hosts: &Mutex<Hosts>) -> MutexGuard<'_, Hosts> {
    hosts.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn taken(kept: &Kept) -> (usize, usize) {
        let hosts = lock(&kept.hosts);
        (hosts.taken, hosts.by_origin.values().map(|host| host.connections).sum())
    }

    #[test]
    fn inv_bounded_connections_are_kept_while_there_is_room() {
        let kept = Kept::with_most(64);
        for host in 0..1_000 {
            assert_eq!(kept.take(&format!("http://h{host}.example"), SECOND).is_kept(), host < 64, "{host}");
        }
        assert_eq!(taken(&kept), (64, 64));
        assert!(kept.take("http://h0.example", 2 * SECOND).is_kept(), "its connection is idle");
        let one = kept.take("http://h0.example", 2 * SECOND);
        assert!(!kept.take("http://h0.example", 2 * SECOND).is_kept(), "a second one there has no room");
        drop(one);
    }

    #[test]
    fn a_host_keeps_as_many_as_were_in_use_at_once() {
        let kept = Kept::with_most(64);
        for _ in 0..3 {
            let used: Vec<_> = (0..32).map(|_| kept.take("http://a.example", SECOND)).collect();
            assert!(used.iter().all(InUse::is_kept));
        }
        assert_eq!(taken(&kept), (32, 32));
    }

    #[test]
    fn inv_bounded_a_few_requests_at_once_keep_few_connections_whatever_hosts_they_see() {
        let kept = Kept::with_most(MOST_CONNECTIONS);
        for host in 0..2_000 {
            drop(kept.take(&format!("http://h{host}.example"), SECOND));
        }
        assert_eq!(taken(&kept).0, LEAST_CONNECTIONS + CONNECTIONS_A_REQUEST);
        let used: Vec<_> = (0..256).map(|_| kept.take("http://a.example", SECOND)).collect();
        assert!(used.last().is_some_and(InUse::is_kept), "there is room for more than before");
        for host in 2_000..4_000 {
            drop(kept.take(&format!("http://h{host}.example"), SECOND));
        }
        assert_eq!(taken(&kept).0, MOST_CONNECTIONS);
    }

    #[test]
    fn what_the_client_has_closed_makes_room() {
        let kept = Kept::with_most(2);
        let old = kept.take("http://old.example", SECOND);
        drop(kept.take("http://other.example", SECOND));
        assert!(!kept.take("http://new.example", 2 * SECOND).is_kept(), "it may be open for a while");
        assert!(!kept.take("http://new.example", 9 * SECOND).is_kept(), "it is seen to be idle since 2 s");
        assert!(kept.take("http://new.example", 10 * SECOND).is_kept());
        assert!(!kept.take("http://third.example", 60 * SECOND).is_kept(), "one in use stays, however long");
        drop(old);
        assert_eq!(taken(&kept), (2, 2));
        assert!(kept.take("http://third.example", 70 * SECOND).is_kept());
    }

    #[test]
    fn the_file_limit_has_a_share_for_them() {
        let room = lock(&Kept::by_file_limit().hosts).most;
        assert!((1..=MOST_CONNECTIONS).contains(&room), "{room}");
    }
}
