//! What robots.txt files say (RFC 9309), as long as it is remembered: an hour in the queue's cache for everybody, and as
//! much of it in this process's `memory` as fits, so that not each request reads the cache.
//!
//! Who fetches a file that nobody knows is decided here too: one try of this process for each origin ([`Turn`]). How it is
//! fetched is in `ask`, what it means in `rules`.

mod ask;
mod memory;
mod rules;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use url::Url;

use self::memory::Memory;
use self::rules::Rules;
use crate::{Context, Reason};

/// An origin: robots.txt holds for one scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Site {
    /// As a URL without its path.
    origin: String,
    /// Where its robots.txt is.
    file: Url,
}

impl Site {
    /// The origin of a URL; `None` if it is not one that can have the file.
    pub(super) fn of(url: &Url) -> Option<Self> {
        let file = robotxt::robots_url(url).ok()?;
        Some(Self { origin: url.origin().ascii_serialization(), file })
    }

    fn key(&self) -> String {
        format!("robots:{}", self.origin)
    }
}

/// What is known of an origin's robots.txt.
#[derive(Debug, Clone)]
enum Known {
    /// It was read, or there is none.
    Rules(Arc<Rules>),
    /// It is elsewhere, and was not asked for there yet.
    Moved(Redirected),
    /// It could not be read.
    Unreadable(Unreadable),
}

/// Where a robots.txt was redirected to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Redirected {
    to: Url,
    /// How many redirects led there.
    hops: u32,
}

/// A robots.txt that could not be read: until it can, it forbids everything.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Unreadable {
    /// How often in a row.
    failures: u32,
    /// When it is asked for again, in wall time: other processes read this.
    until_ms: u64,
    /// What a try is charged with, should it never end.
    reason: Reason,
    /// For people.
    detail: String,
}

/// What the durable cache holds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Entry {
    Rules(String),
    Moved(Redirected),
    Unreadable(Unreadable),
}

impl From<&Known> for Entry {
    fn from(known: &Known) -> Self {
        match known {
            Known::Rules(rules) => Entry::Rules(rules.text()),
            Known::Moved(moved) => Entry::Moved(moved.clone()),
            Known::Unreadable(unreadable) => Entry::Unreadable(unreadable.clone()),
        }
    }
}

impl From<Entry> for Known {
    fn from(entry: Entry) -> Self {
        match entry {
            Entry::Rules(text) => Known::Rules(Arc::new(Rules::read(text.as_bytes()))),
            Entry::Moved(moved) => Known::Moved(moved),
            Entry::Unreadable(unreadable) => Known::Unreadable(unreadable),
        }
    }
}

/// What this process knows of robots.txt files, and who is fetching one.
#[derive(Debug, Default)]
pub(super) struct Robots {
    memory: Mutex<Memory>,
    /// Bounded by the jobs at work: whoever fetches takes its entry out again.
    fetching: Mutex<HashMap<String, watch::Receiver<()>>>,
}

/// Who fetches.
enum Turn<'a> {
    /// Whoever asked; the others wait until this is dropped.
    Ours(Fetching<'a>),
    /// Another try of this process; it ends when the sender is gone.
    Theirs(watch::Receiver<()>),
}

/// The right to fetch, for one origin.
struct Fetching<'a> {
    robots: &'a Robots,
    origin: String,
    _end: watch::Sender<()>,
}

impl Drop for Fetching<'_> {
    fn drop(&mut self) {
        lock(&self.robots.fetching).remove(&self.origin);
    }
}

impl Robots {
    /// What this process remembers.
    fn remembered(&self, site: &Site, context: &dyn Context) -> Option<Known> {
        lock(&self.memory).get(&site.origin, context.clock().monotonic())
    }

    /// What anybody on the queue remembers. Does not read the cache for what another try of this process has learned since
    /// the caller looked.
    async fn recorded(&self, site: &Site, context: &dyn Context) -> Option<Known> {
        let known = self.remembered(site, context);
        if let Some(Known::Rules(_)) = known {
            return known;
        }
        let text = context.cache_get(&site.key()).await?;
        // Another version of this program may have written it.
        let known = Known::from(serde_json::from_str::<Entry>(&text).ok()?);
        // The rest of its hour is not known here, so it is looked up again rather soon.
        self.remember(site, &known, Duration::from_mins(1), context);
        Some(known)
    }

    /// Remembers it here for so long.
    fn remember(&self, site: &Site, known: &Known, length: Duration, context: &dyn Context) {
        let now = context.clock().monotonic();
        lock(&self.memory).put(&site.origin, known.clone(), now, length);
    }

    /// Remembers it everywhere for so long.
    async fn record(&self, site: &Site, known: &Known, length: Duration, context: &dyn Context) {
        self.remember(site, known, length, context);
        // It is plain data, which always serialises; without the cache it would merely be asked for again.
        if let Ok(text) = serde_json::to_string(&Entry::from(known)) {
            context.cache_put(&site.key(), &text, length).await;
        }
    }

    /// Asks for the right to fetch.
    fn turn(&self, site: &Site) -> Turn<'_> {
        let mut fetching = lock(&self.fetching);
        if let Some(theirs) = fetching.get(&site.origin) {
            return Turn::Theirs(theirs.clone());
        }
        let (end, ended) = watch::channel(());
        fetching.insert(site.origin.clone(), ended);
        Turn::Ours(Fetching { robots: self, origin: site.origin.clone(), _end: end })
    }
}

impl Unreadable {
    /// How long it is left alone from now on, never longer than was meant: the wall clock may have been set.
    fn rest(&self, wall: SystemTime) -> Duration {
        let until = SystemTime::UNIX_EPOCH + Duration::from_millis(self.until_ms);
        until.duration_since(wall).unwrap_or_default().min(ask::wait_after(self.failures))
    }
}

/// Plain values, which are whole after every call, so a panic elsewhere cannot have torn them.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use async_trait::async_trait;
    use longhaul_events::{Observer, Silent};
    use longhaul_limiter::{Clock, Keying, Lane, ManualClock, Role};
    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::Grant;

    /// A context that counts how often the queue's cache, which knows nothing, is read.
    #[derive(Debug)]
    struct Reads {
        clock: Arc<dyn Clock>,
        cancelled: CancellationToken,
        keying: Keying,
        count: Mutex<u32>,
    }

    #[async_trait]
    impl Context for Reads {
        async fn admit(&self, _lane: &Lane, _role: Role) -> Grant {
            Grant::Go
        }

        fn serving(&self, _resolver: &str) {}

        async fn received(&self, _bytes: u32) {}

        fn hold_back(&self, _lane: &Lane, _length: Duration) {}

        async fn checkpoint(&self, _checkpoint: &str) -> bool {
            true
        }

        async fn cache_get(&self, _key: &str) -> Option<String> {
            *lock(&self.count) += 1;
            None
        }

        async fn cache_put(&self, _key: &str, _value: &str, _ttl: Duration) {}

        fn cancelled(&self) -> &CancellationToken {
            &self.cancelled
        }

        fn keying(&self) -> &Keying {
            &self.keying
        }

        fn clock(&self) -> &Arc<dyn Clock> {
            &self.clock
        }

        fn observer(&self) -> &dyn Observer {
            &Silent
        }
    }

    /// A try that found nothing in memory, and then took the turn from one that had just ended.
    #[tokio::test]
    async fn what_another_try_has_just_learned_is_not_read_from_the_cache() {
        let context = Reads {
            clock: Arc::new(ManualClock::new()),
            cancelled: CancellationToken::new(),
            keying: Keying::default(),
            count: Mutex::default(),
        };
        let (robots, site) =
            (Robots::default(), Site::of(&Url::parse("http://a.example/x").unwrap()).unwrap());
        assert!(robots.recorded(&site, &context).await.is_none());
        robots.record(&site, &Known::Rules(Arc::new(Rules::none())), Duration::from_hours(1), &context).await;
        assert!(matches!(robots.recorded(&site, &context).await, Some(Known::Rules(_))));
        assert_eq!(*lock(&context.count), 1, "only the first time");
    }

    #[test]
    fn a_file_holds_for_one_scheme_host_and_port() {
        let site = |url: &str| Site::of(&Url::parse(url).unwrap());
        let one = site("https://u:p@a.example/x?y#z").unwrap();
        assert_eq!(
            (one.key().as_str(), one.file.as_str()),
            ("robots:https://a.example", "https://a.example/robots.txt")
        );
        assert_eq!(site("https://a.example:443/").unwrap(), one);
        for other in ["http://a.example/", "https://a.example:8443/", "https://b.a.example/"] {
            assert_ne!(site(other).unwrap(), one, "{other}");
        }
        assert_eq!(site("file:///robots.txt"), None);
    }

    #[test]
    fn a_clock_that_was_set_makes_no_wait_longer() {
        let unreadable =
            Unreadable { failures: 2, until_ms: 600_000, reason: Reason::Timeout, detail: String::new() };
        let at = |seconds| unreadable.rest(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), Duration::from_mins(2));
        assert_eq!(at(590), Duration::from_secs(10));
        assert_eq!(at(700), Duration::ZERO);
    }
}
