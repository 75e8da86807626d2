//! What the queue holds: looked at from time to time, because only the queue knows what other processes do.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use longhaul_limiter::{Clock, LaneRules};
use longhaul_queue_core::{JobState, LanePage, LaneRow, QueueAdmin, QueueError, WorkQueue};

use super::Metrics;

/// How long after one look the next is taken, however many ask for the numbers meanwhile.
const EVERY: Duration = Duration::from_secs(5);
/// A look takes at most this share of the time: the next one waits so many times as long as the last one took.
const REST: u32 = 50;
/// So many lanes are read at a time, in a transaction of its own.
const PAGE: usize = 1_000;
/// So many lanes are counted at most; a look at more would cost too much for what a number is worth.
const LANES_MAX: usize = 20_000;

/// The states of a lane, in the order in which the first that holds is taken.
const LANE_STATES: [&str; 4] = ["paused", "cooling", "full", "open"];

/// Looks at a queue from time to time.
#[derive(Debug, Clone)]
pub struct Sampler {
    /// Where the numbers go.
    pub metrics: Arc<Metrics>,
    /// The queue.
    pub queue: Arc<dyn WorkQueue>,
    /// The same queue's administration.
    pub admin: Arc<dyn QueueAdmin>,
    /// The caps of this process: they say which lane is full.
    pub rules: Arc<LaneRules>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl Sampler {
    /// Looks until it is dropped. A look that fails leaves the old numbers; the run itself says that its store is down.
    pub async fn run(&self) {
        loop {
            let began = self.clock.monotonic();
            let _ = self.look().await;
            let took = self.clock.monotonic().saturating_sub(began);
            self.clock.sleep(EVERY.max(took * REST)).await;
        }
    }

    /// Looks once. To be called once more when a run has ended, so that the last numbers are those of the end.
    ///
    /// # Errors
    /// Those of the queue; the numbers are then as they were.
    pub async fn look(&self) -> Result<(), QueueError> {
        sample_queue(&self.metrics, &*self.queue, &*self.admin, &self.rules).await
    }
}

/// Puts what the queue holds now into the registry: jobs by state, and lanes by theirs. `rules` say when a lane is full.
///
/// # Errors
/// Those of the queue; the numbers are then as they were.
pub async fn sample_queue(
    metrics: &Metrics,
    queue: &dyn WorkQueue,
    admin: &dyn QueueAdmin,
    rules: &LaneRules,
) -> Result<(), QueueError> {
    let counts = queue.stats().await?.counts;
    let lanes = count_lanes(admin, rules).await?;
    let set = |family: &super::Family<_>, label: &str, value: u64| {
        let level: &std::sync::atomic::AtomicI64 = &family.with(&[label]).value;
        level.store(i64::try_from(value).unwrap_or(i64::MAX), Ordering::Relaxed);
    };
    for state in JobState::ALL {
        set(&metrics.queue_depth, state.as_str(), counts.get(state));
    }
    for (state, count) in LANE_STATES.iter().zip(lanes) {
        set(&metrics.lanes, state, count);
    }
    Ok(())
}

async fn count_lanes(admin: &dyn QueueAdmin, rules: &LaneRules) -> Result<[u64; 4], QueueError> {
    let mut counts = [0; 4];
    let mut page = LanePage { after: None, limit: PAGE };
    for _ in 0..LANES_MAX / PAGE {
        let rows = admin.lanes(&page).await?;
        for row in &rows {
            counts[state(row, rules)] += 1;
        }
        if rows.len() < PAGE {
            break;
        }
        page.after = rows.last().map(|row| row.lane.clone());
    }
    Ok(counts)
}

/// Which of the states a lane is in.
fn state(row: &LaneRow, rules: &LaneRules) -> usize {
    let cap = rules.cap(&row.lane).into_iter().chain(row.reopening).min();
    let holds =
        [row.paused_until.is_some(), row.closed_until.is_some(), cap.is_some_and(|cap| row.in_flight >= cap)];
    holds.iter().position(|holds| *holds).unwrap_or(holds.len())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use longhaul_limiter::{Lane, ManualClock};
    use longhaul_queue_core::{ArtifactId, MemoryQueue, NewJob, Place, WorkQueueExt as _};

    use super::*;
    use crate::metrics::catalogue::{LANES, QUEUE_DEPTH};
    use crate::metrics::{Sample, Value};

    fn levels(metrics: &Metrics, metric: &crate::Metric) -> Vec<(String, i64)> {
        let level = |sample: Sample| match sample.value {
            Value::Level(level) => (sample.labels[0].clone(), level),
            other => panic!("{other:?}"),
        };
        metrics.read(metric).into_iter().map(level).filter(|(_, level)| *level > 0).collect()
    }

    #[tokio::test]
    async fn jobs_and_lanes_are_those_of_the_queue_at_each_look() {
        let clock = Arc::new(ManualClock::new());
        let queue = Arc::new(MemoryQueue::new(clock.clone()));
        for (job, host) in ["a.example", "b.example", "c.example"].into_iter().enumerate() {
            let place = Place::new(Lane::new(host).unwrap(), longhaul_limiter::Role::Artifact);
            let id = ArtifactId::new(format!("j:{job}")).unwrap();
            queue.enqueue_one(NewJob::new(id, "{}").at(place)).await.unwrap();
        }
        let (metrics, rules) = (Arc::new(Metrics::default()), Arc::new(LaneRules::default()));
        let sampler = Sampler {
            metrics: Arc::clone(&metrics),
            queue: queue.clone(),
            admin: queue.clone(),
            rules,
            clock,
        };
        sampler.look().await.unwrap();
        assert_eq!(levels(&metrics, &QUEUE_DEPTH), [("queued".to_owned(), 3)]);
        assert_eq!(levels(&metrics, &LANES), [("open".to_owned(), 3)]);

        let lane = |host| Lane::new(host).unwrap();
        queue.pause(Some(&lane("a.example")), None, "test").await.unwrap();
        queue.close(&lane("b.example"), Duration::from_mins(1), "429").await.unwrap();
        queue.cancel(&[ArtifactId::new("j:2").unwrap()]).await.unwrap();
        sampler.look().await.unwrap();
        assert_eq!(levels(&metrics, &QUEUE_DEPTH), [("queued".to_owned(), 2), ("skipped".to_owned(), 1)]);
        // Whether a lane without work is remembered is the store's affair.
        let mut lanes = levels(&metrics, &LANES);
        lanes.retain(|(state, _)| state != "open");
        assert_eq!(lanes, [("cooling".to_owned(), 1), ("paused".to_owned(), 1)]);
    }

    #[test]
    fn a_lane_is_full_when_its_cap_is_taken_and_paused_before_all() {
        let mut row = LaneRow {
            lane: Lane::new("a.example").unwrap(),
            queued: 1,
            ready: 1,
            in_flight: 3,
            reopening: None,
            pace: None,
            closed_until: None,
            cause: None,
            paused_until: None,
            pause_reason: None,
            open_at: None,
        };
        let check = |row: &LaneRow| LANE_STATES[state(row, &LaneRules::default())];
        assert_eq!(check(&row), "open");
        row.reopening = Some(2);
        assert_eq!(check(&row), "full", "a lane that reopens gives less");
        row.closed_until = Some(longhaul_queue_core::Timestamp(1));
        assert_eq!(check(&row), "cooling");
        row.paused_until = row.closed_until;
        assert_eq!(check(&row), "paused");
    }
}
