//! Decides everything about jobs: when to lease, what to settle, when the run is over.
//!
//! One loop, driven by events: a job ended, the queue answered, the queue changed, a lane opens, somebody stops the
//! run. Between events it sleeps; it has no tick. At most one call to the queue is under way at a time, and what ends
//! meanwhile goes into the next one, so the gap between a body's end and the next start in its lane is one commit, or
//! two under load.

mod ending;
mod leasing;
mod replies;

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_pipeline::Ended;
use longhaul_queue_core::{Epoch, LeasedJob, QueueError, StoreId};
use longhaul_worker::{Finished, Worker};
use tokio::sync::mpsc;
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::ahead::Ahead;
use crate::alone::AloneTurns;
use crate::call::Reply;
use crate::critical::CriticalLanes;
use crate::dispatcher::ending::Phase;
use crate::fault::LocalFaults;
use crate::heartbeat::Heart;
use crate::publisher::{PublisherHealth, publish_all};
use crate::recovery::{Recovered, recover};
use crate::shared::Shared;
use crate::tally::Tally;
use crate::{OrchestratorConfig, RunSummary};

/// A wait that is longer is announced to people.
const LONG_WAIT: Duration = Duration::from_secs(5);

/// After the queue could not be listened to, it is listened to again no earlier than this.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Dispatcher {
    shared: Arc<Shared>,
    config: OrchestratorConfig,
    worker: Arc<Worker>,
    /// Where files belong to; `None` for work without files.
    store: Option<StoreId>,
    began: Duration,
    phase: Phase,
    tally: Tally,
    faults: LocalFaults,
    alone: AloneTurns,

    /// Jobs at work.
    running: JoinSet<Finished>,
    /// What each task works on, in case the task itself is lost.
    tasks: HashMap<Id, LeasedJob>,
    /// Jobs that wait for a worker.
    ahead: Ahead,
    critical: CriticalLanes,
    /// Jobs that ended and are not settled.
    finished: Vec<Finished>,
    /// So many of these are settled one by one, because the queue refused them together.
    singly: usize,

    /// The call that is under way, at most one.
    calls: JoinSet<Reply>,
    /// The number of the last lease request.
    requests: i64,
    /// What the last lease's reply had seen.
    epoch: Epoch,
    /// Whether a lease may find something: it has not been asked for since something changed.
    hungry: bool,
    /// Whether the last lease gave less than it was asked for.
    dry: bool,
    /// When a lease may find something although nothing changed.
    next_open: Option<Duration>,
    /// The queue is not listened to before then.
    listen_after: Duration,
    /// Whether people know that nothing can start at the moment.
    announced: bool,

    publisher: mpsc::UnboundedSender<Ended>,
    health: Arc<PublisherHealth>,
    publishing: JoinSet<()>,
    /// At most one recovery is under way.
    recovery: JoinSet<Recovered>,
    /// Outcomes that are being thrown away, and what they have taught about hosts.
    discards: JoinSet<()>,
    drain: Drain,
}

/// How far a drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    /// Something may be left to do, or nobody wants to know.
    Working,
    /// The counts of the queue said that something is left that this process has to wait for.
    Waiting,
    /// Nothing is left; the last recovery is to be run, or under way.
    Recovering,
    /// Nothing is left to do or to publish.
    Over,
}

/// What ended a sleep of the dispatcher.
enum Woken {
    Job(Box<Result<(Id, Finished), JoinError>>),
    Reply(Box<Result<Reply, JoinError>>),
    Changed(Result<Epoch, QueueError>),
    Recovered(Result<Recovered, JoinError>),
    /// The loop looks at everything else by itself.
    Look,
}

impl Dispatcher {
    pub(crate) fn new(
        shared: Arc<Shared>,
        config: OrchestratorConfig,
        worker: Worker,
        store: Option<StoreId>,
    ) -> Self {
        let (publisher, inbox) = mpsc::unbounded_channel();
        let health = Arc::new(PublisherHealth::default());
        let mut publishing = JoinSet::new();
        publishing.spawn(publish_all(Arc::clone(&shared), Arc::clone(&health), inbox));
        let mut recovery = JoinSet::new();
        // Beside the dispatcher: what a crash left must not delay what can start now.
        recovery.spawn(recover(Arc::clone(&shared), store.clone()));
        Self {
            began: shared.now(),
            critical: CriticalLanes::new(Arc::clone(&config.rules), config.workers),
            shared,
            config,
            worker: Arc::new(worker),
            store,
            phase: Phase::Running,
            tally: Tally::default(),
            faults: LocalFaults::default(),
            alone: AloneTurns::default(),
            running: JoinSet::new(),
            tasks: HashMap::new(),
            ahead: Ahead::default(),
            finished: Vec::new(),
            singly: 0,
            calls: JoinSet::new(),
            requests: 0,
            epoch: Epoch::default(),
            hungry: true,
            dry: false,
            next_open: None,
            listen_after: Duration::ZERO,
            announced: false,
            publisher,
            health,
            publishing,
            recovery,
            discards: JoinSet::new(),
            drain: Drain::Working,
        }
    }

    /// Runs to the end: whatever happens, nothing is left in progress that the queue could be told of.
    pub(crate) async fn run(mut self, heart: Heart) -> RunSummary {
        let end_of_beats = CancellationToken::new();
        let mut beats = JoinSet::new();
        beats.spawn(heart.beat(end_of_beats.clone()));
        loop {
            self.gather();
            self.advance();
            if self.is_over() {
                break;
            }
            self.call_queue();
            self.announce();
            let woken = self.sleep().await;
            self.handle(woken);
        }
        self.close(end_of_beats, beats).await
    }

    /// Takes all jobs that have ended by now, so that they share one commit, and starts the next ones.
    fn gather(&mut self) {
        while let Some(joined) = self.running.try_join_next_with_id() {
            self.joined(joined);
        }
        self.start_next();
        while self.discards.try_join_next().is_some() {}
        self.critical.take_found(self.shared.now());
        if self.next_open.is_some_and(|at| at <= self.shared.now()) {
            self.next_open = None;
            self.look_for_work();
        }
        if self.held() == 0 && self.finished.is_empty() && self.calls.is_empty() {
            self.alone.ended(self.shared.now());
        }
    }

    fn joined(&mut self, joined: Result<(Id, Finished), JoinError>) {
        match joined {
            Ok((id, finished)) => {
                self.tasks.remove(&id);
                self.ahead.ended(self.shared.now(), finished.elapsed);
                self.finished.push(finished);
            }
            Err(error) => {
                // The worker contains the pipeline's panics, so this is its own: the job is given back.
                tracing::error!(%error, "a worker's task was lost");
                if let Some(leased) = self.tasks.remove(&error.id()) {
                    self.finished.push(Finished::unstarted(leased));
                }
            }
        }
    }

    /// Something may be leasable that was not before.
    fn look_for_work(&mut self) {
        self.hungry = true;
        if self.drain == Drain::Waiting {
            self.drain = Drain::Working;
        }
    }

    async fn sleep(&mut self) -> Woken {
        let now = self.shared.now();
        let deadline = self.deadline(now);
        let listens = self.listens(now);
        let stopping = self.shared.stop.is_cancelled();
        let cancelling = self.shared.stop_now.is_cancelled();
        let shared = Arc::clone(&self.shared);
        let (epoch, clock) = (self.epoch, &shared.clock);
        let timer = async {
            match deadline {
                Some(at) => clock.sleep(at.saturating_sub(now)).await,
                None => pending().await,
            }
        };
        tokio::select! {
            Some(joined) = self.running.join_next_with_id() => Woken::Job(Box::new(joined)),
            Some(reply) = self.calls.join_next() => Woken::Reply(Box::new(reply)),
            Some(recovered) = self.recovery.join_next() => Woken::Recovered(recovered),
            changed = shared.queue.changed(epoch), if listens => Woken::Changed(changed),
            () = shared.wake.notified() => Woken::Look,
            () = shared.stop.cancelled(), if !stopping => Woken::Look,
            () = shared.stop_now.cancelled(), if !cancelling => Woken::Look,
            () = timer => Woken::Look,
        }
    }

    fn handle(&mut self, woken: Woken) {
        match woken {
            Woken::Job(joined) => self.joined(*joined),
            Woken::Reply(reply) => match *reply {
                Ok(reply) => self.replied(reply),
                Err(error) => self.fail_torn(&format!("a call to the queue was lost: {error}")),
            },
            Woken::Changed(Ok(epoch)) => {
                self.epoch = epoch;
                self.look_for_work();
            }
            Woken::Changed(Err(error)) if !error.is_retryable() => {
                self.fail("the queue cannot be listened to", error);
            }
            Woken::Changed(Err(error)) => {
                self.shared.store_failed(&error);
                self.listen_after = self.shared.now() + LISTEN_AGAIN;
            }
            Woken::Recovered(recovered) => self.recovered(&recovered.unwrap_or_default()),
            Woken::Look => {}
        }
    }

    /// Whether a change in the queue would be news.
    fn listens(&self, now: Duration) -> bool {
        self.phase.is_running() && self.calls.is_empty() && !self.hungry && now >= self.listen_after
    }

    /// When to look again although nothing happens.
    fn deadline(&self, now: Duration) -> Option<Duration> {
        let mut times = vec![self.phase_deadline()];
        if self.phase.is_running() {
            times.push(self.faults.until(now));
            times.push(self.alone.deadline(now));
            let counts = (self.finished.len(), self.running.len(), self.config.workers);
            let is_calling = !self.calls.is_empty();
            times.push(self.ahead.deadline(now, counts, self.worker.lead(), is_calling));
            // One that is past could not be told just now: what keeps it back has a time of its own.
            times.push(self.worker.tell_at().filter(|at| *at > now && self.calls.is_empty()));
            times.push(Some(self.listen_after).filter(|at| *at > now));
            // With no worker free it is of no use to know that a lane has opened.
            times.push(self.next_open.filter(|_| self.leasable() > 0 && self.calls.is_empty()));
        }
        times.into_iter().flatten().min()
    }

    /// How many jobs are worth leasing: as many as workers are free, and will be until those could start. Errors that are
    /// not known yet may use up a budget, so then nothing is leased before its worker is free.
    fn leasable(&self) -> usize {
        let soon = if self.config.budgets.max_errors.is_some() {
            0
        } else {
            self.ahead.free_soon(self.config.workers, self.running.len(), self.worker.lead())
        };
        (self.config.workers + soon).saturating_sub(self.held())
    }

    /// Jobs that are at work or wait for a worker.
    fn held(&self) -> usize {
        self.running.len() + self.ahead.len()
    }

    /// Says so, once, if nothing is at work and nothing can start for a while.
    fn announce(&mut self) {
        let idle = self.held() == 0 && self.finished.is_empty() && self.calls.is_empty();
        // A drain asks the counts first; until they say that something is left, nobody knows whether it waits.
        let waits = if self.config.drain { self.drain == Drain::Waiting } else { !self.hungry };
        let waits = waits && self.phase.is_running();
        if !idle || self.announced || !waits {
            return;
        }
        let until = self.next_open.map(|at| at.saturating_sub(self.shared.now()));
        if until.is_none_or(|wait| wait > LONG_WAIT) {
            self.announced = true;
            self.shared.emit(&Event::Waiting { until });
        }
    }
}
