//! Stays with a run until its end: shows where it is, says what should not wait, and hands signals on.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::Clock;
use longhaul_orchestrator::{RunHandle, RunSummary};
use longhaul_queue_core::{QueueAdmin, StateCounts, WorkQueue};
use tokio::sync::mpsc;

use super::others::Others;
use crate::exit::Exit;
use crate::output::Console;
use crate::progress::{Notice, Outlook, Progress, RunObserver, Tally, Waits};
use crate::signals::Signals;

/// How often the queue is asked for its counts: each time costs it a little.
const COUNTS_EVERY: Duration = Duration::from_secs(2);

/// What is watched.
#[derive(Debug)]
pub(super) struct Watch<'a> {
    pub(super) observer: &'a RunObserver,
    pub(super) notices: mpsc::Receiver<Notice>,
    pub(super) queue: &'a Arc<dyn WorkQueue>,
    pub(super) admin: &'a Arc<dyn QueueAdmin>,
    pub(super) others: Others,
    pub(super) clock: &'a Arc<dyn Clock>,
    pub(super) console: &'a Console,
}

impl Watch<'_> {
    /// Waits for the end. Returns it, and the first signal if there was one.
    pub(super) async fn until_its_end(
        mut self,
        run: RunHandle,
        signals: &mut Signals,
    ) -> (RunSummary, Option<Exit>) {
        let mut progress = Progress::start(self.console, self.clock.monotonic());
        let stopper = run.stopper();
        let mut end = std::pin::pin!(run.wait());
        let mut first_signal = None;
        let (mut counts, mut waits) = (Counts::default(), Waits::default());
        self.look_at_others().await;
        let mut next_look = self.clock.monotonic() + progress.interval();
        let summary = loop {
            let rest = next_look.saturating_sub(self.clock.monotonic());
            tokio::select! {
                summary = &mut end => break summary,
                Some(notice) = self.notices.recv() => match notice {
                    Notice::Say(text) => self.console.note(&text),
                    Notice::Idle => {
                        let now = self.clock.monotonic();
                        counts.read(self.queue, self.observer, now).await;
                        let told = waits.say(counts.starts_at, counts.is_full(0), now);
                        if let Some(text) = told {
                            self.console.note(&text);
                        }
                    }
                },
                signal = signals.next() => {
                    if first_signal.is_none() {
                        first_signal = Some(signal);
                        stopper.stop();
                    } else {
                        self.console.note("stopping at once; what was running goes back into the queue");
                        stopper.stop_now();
                    }
                }
                () = self.clock.sleep(rest) => {
                    let now = self.clock.monotonic();
                    next_look = now + progress.interval();
                    if counts.refresh(self.queue, self.observer, now).await {
                        self.look_at_others().await;
                    }
                    self.observer.with_tally(|tally| progress.show(tally, &counts.outlook(tally), now));
                }
            }
        };
        progress.end();
        while let Ok(notice) = self.notices.try_recv() {
            if let Notice::Say(text) = notice {
                self.console.note(&text);
            }
        }
        (summary, first_signal)
    }

    /// Should the queue not answer, the run itself says so, and the next look serves here.
    async fn look_at_others(&mut self) {
        if let Ok(rows) = self.admin.workers().await {
            self.others.look(&rows, self.console);
        }
    }
}

/// The queue's counts, and what this run has ended since they were read.
#[derive(Debug, Default)]
struct Counts {
    read: StateCounts,
    read_at: Option<Duration>,
    ended_then: u64,
    starts_at: Option<Duration>,
    /// Whether something is queued that no clock will start: its hosts' slots are taken, or an operator has to act.
    waits_for_an_event: bool,
    is_paused: bool,
}

impl Counts {
    /// Reads the counts again if that was long ago; whether it did.
    async fn refresh(&mut self, queue: &Arc<dyn WorkQueue>, observer: &RunObserver, now: Duration) -> bool {
        if self.read_at.is_some_and(|at| now.saturating_sub(at) < COUNTS_EVERY) {
            return false;
        }
        self.read(queue, observer, now).await
    }

    /// Reads the counts; whether the queue answered.
    async fn read(&mut self, queue: &Arc<dyn WorkQueue>, observer: &RunObserver, now: Duration) -> bool {
        self.read_at = Some(now);
        let ended_then = observer.with_tally(Tally::ended);
        // Should the queue not answer, the run itself says so; the old counts serve here.
        let Ok(stats) = queue.stats().await else { return false };
        self.read = stats.counts;
        self.ended_then = ended_then;
        self.starts_at = stats.next_open.map(|after| now + after);
        self.waits_for_an_event = stats.counts.queued > 0 && stats.next_open.is_none();
        self.is_paused = stats.paused.is_some() || stats.lanes_paused > 0;
        true
    }

    /// Whether what is queued waits for the requests of other runs, where this one has so many jobs at work.
    fn is_full(&self, own: usize) -> bool {
        self.waits_for_an_event && !self.is_paused && self.read.in_progress > own as u64
    }

    fn outlook(&self, tally: &Tally) -> Outlook {
        let is_full = self.is_full(tally.running.len());
        Outlook { counts: self.now(tally), starts_at: self.starts_at, is_full }
    }

    /// The counts with what has ended since. Which of the ended states it was matters to no progress bar.
    fn now(&self, tally: &Tally) -> StateCounts {
        let open = self.read.queued + self.read.in_progress;
        let since = tally.ended().saturating_sub(self.ended_then).min(open);
        let mut counts = self.read;
        counts.done += since;
        counts.queued = self.read.queued.saturating_sub(since);
        counts.in_progress = open - since - counts.queued;
        counts
    }
}

#[cfg(test)]
mod tests {
    use longhaul_events::{Event, Observer};
    use longhaul_limiter::ManualClock;

    use super::*;

    #[test]
    fn what_ended_since_the_counts_were_read_is_counted_on() {
        let (observer, _notices) = RunObserver::new(Arc::new(ManualClock::new()));
        let read = StateCounts { queued: 1, in_progress: 2, done: 5, ..StateCounts::default() };
        let counts = Counts { read, ..Counts::default() };
        for (ended, expected) in
            [(0, (1, 2, 5)), (1, (0, 2, 6)), (2, (0, 1, 7)), (3, (0, 0, 8)), (4, (0, 0, 8))]
        {
            let now = observer.with_tally(|tally| counts.now(tally));
            assert_eq!((now.queued, now.in_progress, now.done), expected, "{ended}");
            assert_eq!(now.total(), 8);
            observer.on_event(&Event::JobSettled {
                job: ended,
                artifact_id: "a".to_owned(),
                verdict: "done",
                state: "done",
                reason: "ok".to_owned(),
                detail: String::new(),
                resolver: None,
                bytes: 0,
                elapsed: Duration::ZERO,
            });
        }
    }
}
