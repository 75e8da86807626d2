//! Holds back what the log would say again and again, and says how often.
//!
//! Of one message (its place in the code and its text, whatever its fields) the first few in a minute are written; the
//! rest are counted, and once the minute is over, or the program ends, a line says how many there were. Debugging
//! (`debug`, `trace`) is asked for expressly, and written whole.
//!
//! Libraries that put requests on the wire are not heard below `info` at all: what they see holds keys and passwords.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhaul_limiter::Clock;
use tracing::callsite::Identifier;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// So many of one message are written in [`WINDOW`].
const AT_MOST: u64 = 5;

/// How long they are counted together.
const WINDOW: Duration = Duration::from_mins(1);

/// So many messages are told apart; what comes beyond is written.
const MOST_MESSAGES: usize = 1_000;

/// What is said about repeats; itself never held back.
const OWN_TARGET: &str = "longhaul::repeats";

/// Crates that see requests as they are sent.
const WIRE: &[&str] = &["h2", "hyper", "hyper_util", "reqwest", "rustls", "tower"];

/// Counts messages. Clones share the counts.
#[derive(Debug, Clone)]
pub(super) struct Repeats {
    clock: Arc<dyn Clock>,
    seen: Arc<Mutex<HashMap<(Identifier, String), Seen>>>,
}

#[derive(Debug)]
struct Seen {
    level: Level,
    since: Duration,
    written: u64,
    held: u64,
}

/// A message that was held back so often.
#[derive(Debug, PartialEq, Eq)]
struct Held {
    level: Level,
    message: String,
    times: u64,
}

impl Repeats {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seen: Arc::default() }
    }

    /// Says what was held back so far.
    pub(super) fn finish(&self) {
        let all = self.ended(None);
        all.into_iter().for_each(say);
    }

    /// Counts a message; whether it is to be written, and whose time is over.
    fn count(&self, at: Identifier, level: Level, message: String) -> (bool, Vec<Held>) {
        let now = self.clock.monotonic();
        let ended = self.ended(Some(now));
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let key = (at, message);
        if seen.len() >= MOST_MESSAGES && !seen.contains_key(&key) {
            return (true, ended);
        }
        let one = seen.entry(key).or_insert(Seen { level, since: now, written: 0, held: 0 });
        let write = one.written < AT_MOST;
        let counter = if write { &mut one.written } else { &mut one.held };
        *counter += 1;
        (write, ended)
    }

    /// Forgets the messages whose time is over, or all; those that were held back are returned.
    fn ended(&self, now: Option<Duration>) -> Vec<Held> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let over = |one: &Seen| now.is_none_or(|now| now >= one.since + WINDOW);
        let over = seen.extract_if(|_, one| over(one));
        over.filter(|(_, one)| one.held > 0)
            .map(|((_, message), one)| Held { level: one.level, message, times: one.held })
            .collect()
    }
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if metadata.target() == OWN_TARGET {
            return true;
        }
        if *metadata.level() > Level::INFO {
            return !is_of_the_wire(metadata);
        }
        let mut message = Message::default();
        event.record(&mut message);
        let (write, ended) = self.count(metadata.callsite(), *metadata.level(), message.0);
        // Not under the lock: this comes back here as an event of its own.
        ended.into_iter().for_each(say);
        write
    }
}

fn is_of_the_wire(metadata: &Metadata<'_>) -> bool {
    let of = metadata.target().split("::").next().unwrap_or_default();
    WIRE.contains(&of)
}

fn say(held: Held) {
    let Held { level, message, times } = held;
    if level <= Level::WARN {
        tracing::warn!(target: OWN_TARGET, times, of = message, "held back more of the same");
    } else {
        tracing::info!(target: OWN_TARGET, times, of = message, "held back more of the same");
    }
}

/// The text of an event, without its fields.
#[derive(Debug, Default)]
struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

#[cfg(test)]
mod tests {
    use longhaul_limiter::ManualClock;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Debug, Clone, Default)]
    struct Lines(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber> Layer<S> for Lines {
        fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
            let mut message = Message::default();
            event.record(&mut message);
            self.0.lock().unwrap().push(format!("{} {}", event.metadata().level(), message.0));
        }
    }

    /// What is written of what `log` logs, and the counts behind it.
    fn written(clock: &ManualClock, log: impl FnOnce(&Repeats)) -> Vec<String> {
        let lines = Lines::default();
        let repeats = Repeats::new(Arc::new(clock.clone()));
        let subscriber = tracing_subscriber::registry().with(repeats.clone()).with(lines.clone());
        tracing::subscriber::with_default(subscriber, || log(&repeats));
        std::mem::take(&mut lines.0.lock().unwrap())
    }

    #[test]
    fn the_first_few_are_written_and_the_rest_are_counted() {
        let clock = ManualClock::new();
        let lines = written(&clock, |repeats| {
            for job in 0..100 {
                tracing::warn!(job, "the disk is slow");
                tracing::warn!("another {}", job % 2);
            }
            clock.advance(WINDOW);
            assert_eq!(
                repeats.ended(Some(clock.monotonic())).iter().map(|held| held.times).sum::<u64>(),
                95 + 2 * 45
            );
            tracing::warn!("another {}", 1);
        });
        assert_eq!(lines.iter().filter(|line| *line == "WARN the disk is slow").count(), 5);
        assert_eq!(lines.iter().filter(|line| *line == "WARN another 0").count(), 5);
        assert_eq!(lines.iter().filter(|line| *line == "WARN another 1").count(), 5 + 1);
    }

    #[test]
    fn what_was_held_back_is_said_at_the_end() {
        let clock = ManualClock::new();
        let lines = written(&clock, |repeats| {
            (0..7).for_each(|_| tracing::info!("again"));
            repeats.finish();
            repeats.finish();
        });
        assert_eq!(lines.len(), 6, "{lines:?}");
        assert_eq!(lines[5], "INFO held back more of the same");
    }

    #[test]
    fn debugging_is_written_whole_but_not_what_is_on_the_wire() {
        let lines = written(&ManualClock::new(), |_| {
            (0..20).for_each(|_| tracing::debug!("step"));
            tracing::debug!(target: "h2::codec", "secret");
            tracing::trace!(target: "hyper_util::client", "secret");
            tracing::warn!(target: "hyper", "trouble");
        });
        assert_eq!(lines.iter().filter(|line| *line == "DEBUG step").count(), 20);
        assert!(
            lines.contains(&"WARN trouble".to_owned()) && !lines.iter().any(|line| line.contains("secret"))
        );
    }

    #[test]
    fn memory_is_bounded() {
        let clock = ManualClock::new();
        let lines = written(&clock, |repeats| {
            (0..3_000).for_each(|number| tracing::warn!("number {number}"));
            assert_eq!(repeats.seen.lock().unwrap().len(), MOST_MESSAGES);
        });
        assert_eq!(lines.len(), 3_000);
    }
}
