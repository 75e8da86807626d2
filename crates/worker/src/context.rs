//! What a try may ask: the bridge from a pipeline's requests to the queue's lanes.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use longhaul_events::{Event, Observer, WaitCause};
use longhaul_limiter::{Clock, Keying, Lane, Role, Scope};
use longhaul_pipeline::{Context, Grant};
use longhaul_queue_core::{Admission, AdmitRequest, LeaseToken, LeasedJob, Place, QueueError};
use tokio_util::sync::CancellationToken;

use crate::permits::{Permits, Waited};
use crate::worker::Shared;
use crate::{HoldBacks, LeaseTrust, StoreBackoff};

/// A wait that is shorter than this is waited here; a longer one sends the job back to the queue.
const SHORT_WAIT: Duration = Duration::from_millis(250);

/// So often one request is asked for before the job moves after all: paces that many processes share can be taken
/// from under a waiting one again and again.
const MOST_ASKS: u32 = 8;

/// An admission whose reply took longer than this was granted to a process that was frozen or to a store that was:
/// its pace is long past, so it is asked for again.
const STALE_REPLY: Duration = Duration::from_secs(2);

/// Why a try was sent back to the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SentBack {
    pub(crate) why: WaitCause,
    /// For whose turn it waits.
    pub(crate) key: String,
    /// Whether the queue itself knows when that is. Then the job waits by its lane's turn alone: what closes the lane now may
    /// be lifted at any time.
    pub(crate) by_lane: bool,
}

/// When a lease was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// When the reply was read, on the clock's monotonic time.
    pub at: Duration,
    /// How old the store's decision was then.
    pub age: Duration,
    /// When a worker was free for the job, not before the reply. The process is not late by the wait for it.
    pub free_at: Duration,
}

/// The start that the lease itself has granted.
#[derive(Debug)]
struct LeaseGrant {
    /// From when its lateness counts: when the reply was read, or when a worker was free.
    late_from: Duration,
    /// From when and until when it may be used.
    from: Duration,
    until: Duration,
    paced: bool,
    /// Whether the try has asked for its first request.
    ready: AtomicBool,
    /// Whether it may still be used as it is.
    usable: AtomicBool,
    /// Whether it was used, or asked for anew.
    spent: AtomicBool,
}

impl LeaseGrant {
    fn new(leased: &LeasedJob, answered: Answered) -> Self {
        Self {
            late_from: answered.free_at.max(answered.at),
            from: answered.at + leased.start_after,
            until: answered.at + leased.start_within,
            paced: leased.paced,
            ready: AtomicBool::new(false),
            usable: AtomicBool::new(true),
            spent: AtomicBool::new(false),
        }
    }
}

/// The context of one try.
#[derive(Debug)]
pub(crate) struct JobContext {
    shared: Arc<Shared>,
    token: LeaseToken,
    place: Place,
    grant: LeaseGrant,
    stopped: AtomicBool,
    cancelled: CancellationToken,
    last_lane: Mutex<Lane>,
    fault: Mutex<Option<String>>,
    permits: Permits,
    /// Why the try was sent back to the queue, if it was.
    sent_back: Mutex<Option<SentBack>>,
    /// How long it has waited for bandwidth.
    bandwidth: Mutex<Duration>,
}

impl JobContext {
    pub(crate) fn new(
        shared: Arc<Shared>,
        leased: &LeasedJob,
        answered: Answered,
        cancelled: CancellationToken,
    ) -> Self {
        let (limits, lines) = (Arc::clone(&shared.parts.limits), Arc::clone(&shared.lines));
        let permits = Permits::new(limits, lines, Arc::clone(&shared.parts.clock));
        Self {
            shared,
            permits,
            token: leased.token,
            place: leased.place.clone(),
            grant: LeaseGrant::new(leased, answered),
            stopped: AtomicBool::new(false),
            cancelled,
            last_lane: Mutex::new(leased.place.lane.clone()),
            fault: Mutex::new(None),
            sent_back: Mutex::new(None),
            bandwidth: Mutex::default(),
        }
    }

    /// Whether the try was told to stop, so that what it returned is not used.
    pub(crate) fn was_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }

    /// Whether the start that the lease counted has been used, or been asked for anew.
    pub(crate) fn used_its_start(&self) -> bool {
        self.grant.spent.load(Ordering::Acquire)
    }

    /// The lane of the last request that was granted; the lease's own before the first.
    pub(crate) fn last_lane(&self) -> Lane {
        self.last_lane.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the store said that no repeating mends, if it did.
    pub(crate) fn fault(&self) -> Option<String> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What the job has to wait for in the queue, and for whose turn, if a request was told so.
    pub(crate) fn sent_back(&self) -> Option<SentBack> {
        self.sent_back.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The job is to wait in the queue, which says for how long about.
    fn send_back(&self, why: WaitCause, lane: &Lane, after: Duration) -> Grant {
        self.sent_back_for(why, lane.as_str(), true);
        self.back(lane, after)
    }

    /// Back to where it came from is no move: the job is not being sent to and fro.
    fn back(&self, lane: &Lane, after: Duration) -> Grant {
        if *lane == self.place.lane { Grant::Later { after } } else { Grant::Move { after } }
    }

    fn sent_back_for(&self, why: WaitCause, key: &str, by_lane: bool) {
        let sent = Some(SentBack { why, key: key.to_owned(), by_lane });
        *self.sent_back.lock().unwrap_or_else(PoisonError::into_inner) = sent;
    }

    /// Says how long the try waited for bandwidth, all of its waits as one.
    pub(crate) fn tell_of_bandwidth(&self) {
        let waited = std::mem::take(&mut *self.bandwidth.lock().unwrap_or_else(PoisonError::into_inner));
        if !waited.is_zero() {
            self.tell_wait(WaitCause::Bandwidth, String::new(), waited);
        }
    }

    fn tell_wait(&self, why: WaitCause, key: String, waited: Duration) {
        self.observer().on_event(&Event::Waited { job: self.token.job.0, why, key, waited });
    }

    /// Which of the two a lane waits for that is not open yet. A lane without a configured pace has only its host's
    /// word; in others the pace is by far the more frequent.
    fn not_before(&self, lane: &Lane, role: Role) -> WaitCause {
        if self.shared.parts.rules.pace(lane, role).0.is_off() {
            WaitCause::CoolDown
        } else {
            WaitCause::Pace
        }
    }

    fn now(&self) -> Duration {
        self.shared.parts.clock.monotonic()
    }

    fn trust(&self) -> &LeaseTrust {
        &self.shared.trust
    }

    fn hold_backs(&self) -> &HoldBacks {
        &self.shared.hold_backs
    }

    fn stop(&self) -> Grant {
        self.stopped.store(true, Ordering::Release);
        Grant::Stop
    }

    /// Why nothing may start in the lane now, whatever the queue says.
    fn refusal(&self, lane: &Lane) -> Option<Grant> {
        let now = self.now();
        // INV-CAP: a process that was frozen past its trust starts nothing when it wakes.
        if self.cancelled.is_cancelled() || !self.trust().holds(now) {
            return Some(self.stop());
        }
        // INV-COOLDOWN: from the instant an answer was read, before the queue knows.
        let after = self.hold_backs().rest(lane, now)?;
        self.sent_back_for(WaitCause::CoolDown, lane.as_str(), false);
        Some(self.back(lane, after))
    }

    /// Lets the request start. `granted` is where the queue waits to hear of it, if it does.
    fn go(&self, lane: &Lane, granted: Option<Place>) -> Grant {
        if let Some(place) = granted {
            self.shared.starts.began(self.token, place, self.now());
        }
        lane.clone_into(&mut self.last_lane.lock().unwrap_or_else(PoisonError::into_inner));
        Grant::Go
    }

    /// Asks the queue, with what this process grants at hand: whatever of both is there waits for the other only after it
    /// has been given back.
    async fn ask(&self, lane: &Lane, role: Role, has_permits: bool, waited: &mut Duration) -> Grant {
        let mut request = AdmitRequest {
            token: self.token,
            place: Place::new(lane.clone(), role),
            rules: Arc::clone(&self.shared.parts.rules),
            lead: self.shared.answers.lead(),
            unused: self.unused(lane),
        };
        // The slot moves, so the lease's own grant is of no use as it is any more.
        self.grant.usable.store(false, Ordering::Release);
        if *lane == self.place.lane && self.is_meant(role) {
            self.grant.spent.store(true, Ordering::Release);
        }
        let mut wait = Duration::ZERO;
        let (mut has_permits, mut has_waited) = (has_permits, false);
        for _ in 0..MOST_ASKS {
            if !has_permits && !self.permits.try_start().await {
                match self.wait_for_permits().await {
                    Waited::Granted => has_waited = true,
                    Waited::Later(after) => {
                        let (why, key) = self.permits.cause();
                        self.sent_back_for(why, &key, false);
                        return Grant::Later { after };
                    }
                    Waited::Cancelled => return self.stop(),
                }
            }
            has_permits = true;
            if let Some(refusal) = self.refusal(lane) {
                return refusal;
            }
            let Some((admission, asked)) = self.repeat(|| self.shared.parts.queue.admit(&request)).await
            else {
                return self.stop();
            };
            let replied = self.now();
            match admission {
                Admission::LeaseLost => {
                    self.cancelled.cancel();
                    return self.stop();
                }
                // INV-NO-HOLD-AND-WAIT: any answer but `Admitted` has freed the slot, so nothing is held below.
                // Its slot was given back for a permit: no wonder that another has it.
                Admission::Full if has_waited => {
                    self.sent_back_for(WaitCause::Cap, lane.as_str(), true);
                    return Grant::Later { after: Duration::ZERO };
                }
                Admission::Full => return self.send_back(WaitCause::Cap, lane, Duration::ZERO),
                Admission::NotBefore(after) if after > SHORT_WAIT => {
                    return self.send_back(self.not_before(lane, role), lane, after);
                }
                Admission::NotBefore(after) => {
                    wait = after;
                    *waited += after;
                    self.permits.release();
                    has_permits = false;
                    if !self.sleep(after).await {
                        return self.stop();
                    }
                }
                Admission::Admitted { paced, start_after, start_within } => {
                    let took = replied.saturating_sub(asked);
                    self.shared.answers.observe(took);
                    if !self.sleep_until(replied + start_after).await {
                        return self.stop();
                    }
                    if let Some(refusal) = self.refusal(lane) {
                        return refusal;
                    }
                    // INV-PACE: a grant that was not used in time is asked for again, which counts it anew.
                    if took <= STALE_REPLY && self.now() <= replied + start_within {
                        return self.go(lane, paced.then(|| request.place.clone()));
                    }
                    request.unused = Some(role);
                }
            }
        }
        self.send_back(self.not_before(lane, role), lane, wait)
    }

    /// The role of a grant in a lane that was not used: the lease's own, if there was no occasion to.
    fn unused(&self, lane: &Lane) -> Option<Role> {
        let is_left = self.place.lane == *lane && !self.grant.spent.load(Ordering::Acquire);
        is_left.then_some(self.place.role)
    }

    /// Whether the lease was for this role of its lane: its own, or any where all roles are counted as one.
    fn is_meant(&self, role: Role) -> bool {
        let is_counted_as_one = || self.shared.parts.rules.pace(&self.place.lane, role).1 == Scope::Shared;
        self.place.role == role || is_counted_as_one()
    }

    /// Starts the request by the lease's own grant, if that is for it and its time has not passed.
    async fn go_by_lease(&self, lane: &Lane, role: Role) -> Option<Grant> {
        let grant = &self.grant;
        if self.place.lane != *lane || !self.is_meant(role) || !grant.usable.load(Ordering::Acquire) {
            return None;
        }
        if !self.sleep_until(grant.from).await {
            return Some(self.stop());
        }
        if let Some(refusal) = self.refusal(lane) {
            return Some(refusal);
        }
        if self.now() > grant.until {
            return None;
        }
        grant.usable.store(false, Ordering::Release);
        grant.spent.store(true, Ordering::Release);
        Some(self.go(lane, grant.paced.then(|| self.place.clone())))
    }

    /// Waits for what this process allows itself, with no slot (INV-NO-HOLD-AND-WAIT).
    async fn wait_for_permits(&self) -> Waited {
        let nobody = AdmitRequest {
            token: self.token,
            place: Place::new(Lane::NONE, Role::Artifact),
            rules: Arc::clone(&self.shared.parts.rules),
            lead: Duration::ZERO,
            unused: None,
        };
        let give_slot_back = async {
            let admission = self.repeat(|| self.shared.parts.queue.admit(&nobody)).await;
            // Whatever else the answer is, the slot is free.
            !matches!(admission, None | Some((Admission::LeaseLost, _)))
        };
        let asked = self.now();
        let waited = self.permits.wait(give_slot_back, &self.cancelled).await;
        if waited == Waited::Granted {
            let (why, key) = self.permits.cause();
            self.tell_wait(why, key, self.now().saturating_sub(asked));
        }
        waited
    }

    /// Calls the store until it answers, with when the answered call was made. `None` if the try has to stop: the
    /// claim can no longer be trusted, or the store said what no repeating mends.
    async fn repeat<T, C, F>(&self, call: C) -> Option<(T, Duration)>
    where
        C: Fn() -> F,
        F: Future<Output = Result<T, QueueError>>,
    {
        let mut backoff = StoreBackoff::new();
        loop {
            let asked = self.now();
            if self.cancelled.is_cancelled() || !self.trust().holds(asked) {
                return None;
            }
            match call().await {
                Ok(answer) => return Some((answer, asked)),
                Err(error) if error.is_retryable() => {
                    self.observer().on_event(&Event::StoreUnavailable { detail: error.to_string() });
                    if !self.sleep(backoff.wait()).await {
                        return None;
                    }
                }
                Err(error) => {
                    let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
                    *fault = Some(format!("the queue refused a call for job {}: {error}", self.token.job));
                    return None;
                }
            }
        }
    }

    /// The same until a time on the clock.
    async fn sleep_until(&self, at: Duration) -> bool {
        let rest = at.saturating_sub(self.now());
        rest.is_zero() || self.sleep(rest).await
    }

    /// False if the try was cancelled meanwhile.
    async fn sleep(&self, length: Duration) -> bool {
        tokio::select! {
            biased;
            () = self.cancelled.cancelled() => false,
            () = self.shared.parts.clock.sleep(length) => true,
        }
    }
}

#[async_trait]
impl Context for JobContext {
    async fn admit(&self, lane: &Lane, role: Role) -> Grant {
        if let Some(refusal) = self.refusal(lane) {
            return refusal;
        }
        if !self.grant.ready.swap(true, Ordering::AcqRel) {
            self.shared.leases.observe(self.now().saturating_sub(self.grant.late_from));
        }
        // The lease holds a slot for its own place and has counted its pace, for a short time after the reply.
        let has_permits = self.permits.try_start().await;
        if has_permits && let Some(grant) = self.go_by_lease(lane, role).await {
            return grant;
        }
        let mut waited = Duration::ZERO;
        let grant = self.ask(lane, role, has_permits, &mut waited).await;
        if !waited.is_zero() {
            let (why, key) = (self.not_before(lane, role), lane.as_str().to_owned());
            self.tell_wait(why, key, waited);
        }
        grant
    }

    fn serving(&self, resolver: &str) {
        self.permits.serve(resolver);
    }

    async fn received(&self, bytes: u32) {
        let began = self.now();
        self.shared.parts.limits.bandwidth(bytes).await;
        *self.bandwidth.lock().unwrap_or_else(PoisonError::into_inner) += self.now().saturating_sub(began);
    }

    fn hold_back(&self, lane: &Lane, length: Duration) {
        self.hold_backs().hold(lane, self.now(), length);
    }

    async fn checkpoint(&self, checkpoint: &str) -> bool {
        let queue = &self.shared.parts.queue;
        let stored = self.repeat(|| queue.checkpoint(&self.token, checkpoint)).await;
        let held = stored.is_some_and(|(held, _)| held);
        if !held {
            self.cancelled.cancel();
        }
        held
    }

    async fn cache_get(&self, key: &str) -> Option<String> {
        // The cache saves requests; a store that cannot answer costs one, and is met again by the next `admit`.
        self.shared.parts.queue.cache_get(key).await.unwrap_or_else(|error| {
            tracing::debug!(%error, key, "the durable cache could not be read");
            None
        })
    }

    async fn cache_put(&self, key: &str, value: &str, ttl: Duration) {
        let queue = Arc::clone(&self.shared.parts.queue);
        let (key, value) = (key.to_owned(), value.to_owned());
        // Beside the try: it saves others a request and itself nothing, and a commit may take long.
        self.shared.cache_writes.spawn(async move {
            if let Err(error) = queue.cache_put(&key, &value, ttl).await {
                tracing::debug!(%error, key, "the durable cache could not be written");
            }
        });
    }

    fn cancelled(&self) -> &CancellationToken {
        &self.cancelled
    }

    fn keying(&self) -> &Keying {
        &self.shared.parts.rules.keying
    }

    fn clock(&self) -> &Arc<dyn Clock> {
        &self.shared.parts.clock
    }

    fn observer(&self) -> &dyn Observer {
        &*self.shared.parts.observer
    }
}
