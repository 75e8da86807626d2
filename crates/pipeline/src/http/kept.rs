//! Which connections stay open after their answer, so that the next request to their host needs none of its own.
//!
//! As many as were in use there at once, so their number follows the host's cap; over all hosts no more than the
//! process's file limit leaves room for (INV-BOUNDED). The connections themselves are the HTTP client's: here is only
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
/// The most connections that are kept, used ones included: each has buffers, and with TLS tens of kilobytes of them.
const MOST_CONNECTIONS: usize = 1024;
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
    /// Connections that may be kept, in all.
    room: usize,
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

/// A request whose connection is kept. The connection is free for the next one when this is dropped.
#[derive(Debug)]
pub(super) struct InUse {
    hosts: Arc<Mutex<Hosts>>,
    origin: Arc<str>,
}

impl Kept {
    /// As many connections as this process's file limit leaves room for.
    pub(super) fn by_file_limit() -> Self {
        let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let share = usize::try_from(files / SHARE_OF_FILES).unwrap_or(usize::MAX);
        Self::with_room(share.clamp(1, MOST_CONNECTIONS))
    }

    fn with_room(room: usize) -> Self {
        let hosts = Hosts { room, taken: 0, by_origin: HashMap::new(), swept: Duration::ZERO };
        Self { hosts: Arc::new(Mutex::new(hosts)) }
    }

    /// Takes a connection for a request to an origin at `now`; `None` if it is not to be kept.
    pub(super) fn take(&self, origin: &str, now: Duration) -> Option<InUse> {
        let origin = lock(&self.hosts).take(origin, now)?;
        Some(InUse { hosts: Arc::clone(&self.hosts), origin })
    }
}

impl Hosts {
    fn take(&mut self, origin: &str, now: Duration) -> Option<Arc<str>> {
        let has_idle = |host: &Host| host.in_flight < host.connections;
        if !self.by_origin.get(origin).is_some_and(has_idle) {
            if self.taken >= self.room {
                self.sweep(now);
            }
            if self.taken >= self.room {
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
        if let Some(host) = lock(&self.hosts).by_origin.get_mut(&self.origin) {
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
        let kept = Kept::with_room(64);
        for host in 0..1_000 {
            assert_eq!(kept.take(&format!("http://h{host}.example"), SECOND).is_some(), host < 64, "{host}");
        }
        assert_eq!(taken(&kept), (64, 64));
        assert!(kept.take("http://h0.example", 2 * SECOND).is_some(), "its connection is idle");
        let one = kept.take("http://h0.example", 2 * SECOND);
        assert!(kept.take("http://h0.example", 2 * SECOND).is_none(), "a second one there has no room");
        drop(one);
    }

    #[test]
    fn a_host_keeps_as_many_as_were_in_use_at_once() {
        let kept = Kept::with_room(64);
        for _ in 0..3 {
            let used: Vec<_> = (0..32).filter_map(|_| kept.take("http://a.example", SECOND)).collect();
            assert_eq!(used.len(), 32);
        }
        assert_eq!(taken(&kept), (32, 32));
    }

    #[test]
    fn what_the_client_has_closed_makes_room() {
        let kept = Kept::with_room(2);
        let old = kept.take("http://old.example", SECOND);
        drop(kept.take("http://other.example", SECOND));
        assert!(kept.take("http://new.example", 2 * SECOND).is_none(), "it may be open for a while");
        assert!(kept.take("http://new.example", 9 * SECOND).is_none(), "it is seen to be idle since 2 s");
        assert!(kept.take("http://new.example", 10 * SECOND).is_some());
        assert!(kept.take("http://third.example", 60 * SECOND).is_none(), "one in use stays, however long");
        drop(old);
        assert_eq!(taken(&kept), (2, 2));
        assert!(kept.take("http://third.example", 70 * SECOND).is_some());
    }

    #[test]
    fn the_file_limit_has_a_share_for_them() {
        let room = lock(&Kept::by_file_limit().hosts).room;
        assert!((1..=MOST_CONNECTIONS).contains(&room), "{room}");
    }
}
