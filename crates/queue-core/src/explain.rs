//! Which of several causes keeps a queued job from starting. One place for all stores, so that they tell alike.

use longhaul_limiter::Controller;

use crate::{Explanation, Timestamp};

/// What a store knows of a queued job and its lane. A time that has passed means that there is no such cause.
#[derive(Debug)]
pub(crate) struct Waiting {
    pub(crate) now: Timestamp,
    /// Until when the whole queue is paused, and who did it and why.
    pub(crate) queue_pause: (Timestamp, Option<String>),
    /// The same of its lane.
    pub(crate) lane_pause: (Timestamp, Option<String>),
    /// Until when its lane is cooling down, and why.
    pub(crate) cool_down: (Timestamp, Option<String>),
    /// When its own time comes.
    pub(crate) available_at: Timestamp,
    /// When its lane's pace allows the next start.
    pub(crate) pace_opens: Timestamp,
    /// What puts that off the longest.
    pub(crate) controller: Controller,
    /// Slots taken in its lane.
    pub(crate) in_flight: u32,
    /// Slots that its lane has; `None` is any number.
    pub(crate) cap: Option<u32>,
}

impl Waiting {
    /// The cause that ends last: a job that could start in an hour is not delayed by a cool-down of a minute. A full
    /// lane opens by an event whose time nobody knows, so it is the cause only where the clock holds nothing up.
    pub(crate) fn explain(self) -> Explanation {
        let now = self.now;
        let millis = |until: Timestamp| u64::try_from(until.after(now).as_millis()).unwrap_or(u64::MAX);
        let end = |until: Timestamp| (until != Timestamp::NEVER).then(|| millis(until));
        let text = |reason: Option<String>| reason.unwrap_or_default();
        let pace = Explanation::Pace { wait_ms: millis(self.pace_opens), controller: self.controller };
        let (queue, lane, cooled) = (self.queue_pause.0, self.lane_pause.0, self.cool_down.0);
        // Of two that end together the later one here is told: it says most about what can be done.
        let causes = [
            (self.available_at, Explanation::Delayed { wait_ms: millis(self.available_at) }),
            (cooled, Explanation::CoolDown { wait_ms: millis(cooled), reason: text(self.cool_down.1) }),
            (lane, Explanation::LanePaused { reason: text(self.lane_pause.1), wait_ms: end(lane) }),
            (queue, Explanation::QueuePaused { reason: text(self.queue_pause.1), wait_ms: end(queue) }),
        ];
        let last = causes.into_iter().filter(|(until, _)| *until > now).max_by_key(|(until, _)| *until);
        match (last, self.cap.filter(|cap| self.in_flight >= *cap)) {
            (Some((until, _)), _) if self.pace_opens > until => pace,
            (Some((_, cause)), _) => cause,
            (None, Some(cap)) => Explanation::CapFull { in_flight: self.in_flight, cap },
            (None, None) if self.pace_opens > now => pace,
            (None, None) => Explanation::Ready,
        }
    }
}
