//! What is read without writing: statistics, single jobs, pages, the cache.

use longhaul_limiter::{Bounds, Lane, LaneRules, Role};
use sqlx::sqlite::SqliteRow;
use sqlx::{QueryBuilder, Row as _, Sqlite};

use super::lanes::{self, LaneState, lane_state};
use super::open::{Inner, failed};
use super::rows::corrupt;
use super::tx::Tally;
use super::workers::AFTERMATH;
use crate::explain::Waiting;
use crate::{
    ArtifactId, Class, ErrorKind, Explanation, HistoryEntry, JobFilter, JobId, JobPage, JobRecord, JobState,
    LanePace, LanePage, LaneRow, Place, QueueError, QueueStats, Result, StatedLimits, StoreId, Timestamp,
    WorkerId, WorkerRow,
};

/// Up to where ready and delayed jobs are counted.
const COUNT_MAX: i64 = 10_001;
/// Up to where a lane's queued jobs are counted: a page has many lanes.
const LANE_COUNT_MAX: i64 = 1_001;

/// Everything an operator sees of a job. A macro, since statements are literals.
macro_rules! record {
    () => {
        "SELECT j.id, j.artifact_id, j.artifact_json, j.resolver_hint, j.lane, j.role, j.slot, j.priority, j.state, \
         j.reason, j.attempts, j.losses, j.throttles, j.max_attempts, j.available_at, j.lease_token, j.worker_id, \
         j.checkpoint, j.last_error, j.outcome_json, j.store, j.path, j.sha256, j.published, j.slim, j.created_at, \
         j.updated_at, j.finished_at FROM jobs j"
    };
}

const STATS: &str = "SELECT (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND available_at <= ?1 LIMIT 2 * ?2)),
                (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state = 'queued' AND available_at > ?1 LIMIT ?2)),
                (SELECT min(available_at) FROM jobs WHERE state = 'queued'),
                (SELECT count(*) FROM lanes WHERE not_before > ?1),
                (SELECT min(not_before) FROM lanes WHERE not_before > ?1),
                (SELECT count(*) FROM lanes WHERE paused_until > ?1 AND paused_until > 0),
                (SELECT json_group_array(id) FROM workers WHERE expires_at > ?1),
                (SELECT min(open_at) FROM (SELECT (SELECT open_at FROM turns WHERE class = q.value ORDER BY open_at LIMIT 1)
                     AS open_at FROM jsonb_each('[10,9,8,7,6,5,4,3,2,1,0]') q)),
                (SELECT count(*) FROM (SELECT 1 FROM jobs WHERE state IN ('done', 'skipped', 'error') AND finished_at > ?3
                     AND published = 1 AND slim = 0 LIMIT ?4)),
                (SELECT min(open_at) FROM (SELECT (SELECT open_at FROM turns WHERE class = q.value AND NOT EXISTS
                         (SELECT 1 FROM lanes WHERE lane = turns.lane AND paused_until > ?1) ORDER BY open_at LIMIT 1)
                     AS open_at FROM jsonb_each('[10,9,8,7,6,5,4,3,2,1,0]') q)),
                (SELECT count(*) FROM (SELECT 1 FROM lanes l CROSS JOIN jobs j ON j.state = 'queued' AND j.lane = l.lane
                     WHERE l.not_before > ?1 AND j.available_at <= ?1 LIMIT ?2)),
                (SELECT count(*) FROM (SELECT 1 FROM lanes l CROSS JOIN jobs j ON j.state = 'queued' AND j.lane = l.lane
                     WHERE l.paused_until > ?1 AND l.paused_until > 0 AND +l.not_before <= ?1 AND j.available_at <= ?1 LIMIT ?2))";

/// The same of the lanes that are open, turn by turn. Only where so many lanes are closed that a difference says nothing.
const OPEN_READY: &str = "SELECT count(*) FROM (SELECT 1 FROM jsonb_each('[10,9,8,7,6,5,4,3,2,1,0]') q CROSS JOIN turns t ON t.class = q.value
         CROSS JOIN jobs j ON j.state = 'queued' AND j.lane = t.lane AND j.class = t.class AND j.available_at <= ?1
         WHERE NOT EXISTS (SELECT 1 FROM lanes l WHERE l.lane = t.lane AND max(l.not_before, l.paused_until) > ?1) LIMIT ?2)";

pub(super) async fn stats(inner: &Inner) -> Result<QueueStats> {
    inner.is_at_home()?;
    let now = inner.anchor.now();
    let mut conn = inner.readers.acquire().await.map_err(failed)?;
    let tally = Tally::load(&mut conn).await?;
    let lately = i64::try_from(QueueStats::LATELY.as_millis()).unwrap_or(i64::MAX);
    let query = sqlx::query(STATS).bind(now.0).bind(COUNT_MAX);
    let query = query.bind(now.0.saturating_sub(lately)).bind(limit(QueueStats::ENDED_LATELY_MAX));
    let row = query.fetch_one(&mut *conn).await.map_err(failed)?;
    let count = |index: usize| row.get::<i64, _>(index).max(0).unsigned_abs();
    let time = |index: usize| row.get::<Option<i64>, _>(index).map(Timestamp);
    // A process whose lock is free is dead, although its leases have not ended yet.
    let alive: Vec<WorkerId> = serde_json::from_str(row.get(6)).map_err(corrupt("the worker processes"))?;
    let dead = inner.locks.dead_workers();
    let most = COUNT_MAX.unsigned_abs();
    let (due, closed) = (count(0), (count(10) + count(11)).min(most));
    let ready = if closed < most {
        (due - closed.min(due)).min(most)
    } else {
        let open = sqlx::query_scalar::<_, i64>(OPEN_READY).bind(now.0).bind(COUNT_MAX);
        open.fetch_one(&mut *conn).await.map_err(failed)?.max(0).unsigned_abs()
    };
    let opens = time(7).map(|at| at.max(tally.paused_until)).filter(|at| *at != Timestamp::NEVER);
    let unpaused = time(9).filter(|at| *at != Timestamp::NEVER && tally.paused_until <= now);
    Ok(QueueStats {
        counts: tally.counts,
        ready,
        closed,
        delayed: count(1),
        ended_lately: count(8),
        oldest_ready: time(2).filter(|at| *at <= now).map(|at| now.after(at)),
        lanes_cooling: count(3),
        next_cooled: time(4).map(|at| at.after(now)),
        paused_for: Some(tally.paused_until)
            .filter(|until| *until > now && *until != Timestamp::NEVER)
            .map(|until| until.after(now)),
        paused: (tally.paused_until > now).then(|| tally.pause_reason.unwrap_or_default()),
        lanes_paused: count(5),
        next_open: opens.map(|at| at.after(now)),
        next_unpaused: unpaused.map(|at| at.after(now)),
        workers: alive.iter().filter(|id| !dead.contains(id)).count() as u64,
    })
}

const CACHE_GET: &str = "SELECT value FROM cache WHERE key = ? AND expires_at > ?";

pub(super) async fn cache_get(inner: &Inner, key: &str) -> Result<Option<String>> {
    sqlx::query_scalar(CACHE_GET)
        .bind(key)
        .bind(inner.anchor.now().0)
        .fetch_optional(&inner.readers)
        .await
        .map_err(failed)
}

/// A job's row with its times as wall times.
fn record(inner: &Inner, row: &SqliteRow) -> Result<JobRecord> {
    let number = |name: &str| u32::try_from(row.get::<i64, _>(name)).unwrap_or(u32::MAX);
    let wall = |name: &str| row.get::<Option<i64>, _>(name).map(|at| inner.anchor.wall(Timestamp(at)));
    let lane = |text: String| Lane::new(text).map_err(corrupt("a lane"));
    let state: &str = row.get("state");
    let role: &str = row.get("role");
    Ok(JobRecord {
        id: JobId(row.get("id")),
        artifact_id: ArtifactId::new(row.get::<String, _>("artifact_id"))?,
        payload: row.get("artifact_json"),
        resolver_hint: row.get("resolver_hint"),
        place: Place { lane: lane(row.get("lane"))?, role: Role::parse(role).unwrap_or(Role::Artifact) },
        slot: row.get::<Option<String>, _>("slot").map(lane).transpose()?,
        priority: Class::new(u8::try_from(row.get::<i64, _>("priority")).unwrap_or(0))?,
        state: JobState::parse(state)
            .ok_or_else(|| QueueError::new(ErrorKind::Corrupt, format!("{state:?} is not a job's state")))?,
        reason: row.get("reason"),
        attempts: number("attempts"),
        losses: number("losses"),
        throttles: number("throttles"),
        max_attempts: row.get::<Option<i64>, _>("max_attempts").and_then(|max| u32::try_from(max).ok()),
        available_at: wall("available_at").unwrap_or_default(),
        fence: row.get("lease_token"),
        worker: row.get::<Option<String>, _>("worker_id").map(WorkerId::from_text),
        checkpoint: row.get("checkpoint"),
        last_error: row.get("last_error"),
        outcome: row.get("outcome_json"),
        store: row.get::<Option<String>, _>("store").map(StoreId),
        path: row.get("path"),
        sha256: row.get("sha256"),
        published: row.get::<Option<i64>, _>("published") == Some(1),
        slim: row.get("slim"),
        created_at: wall("created_at").unwrap_or_default(),
        updated_at: wall("updated_at").unwrap_or_default(),
        finished_at: wall("finished_at"),
    })
}

const GET: &str = concat!(record!(), " WHERE j.artifact_id = ?");
const HISTORY: &str = "SELECT at, event, reason, worker FROM history WHERE job = ? ORDER BY id DESC";

pub(super) async fn get(inner: &Inner, id: &ArtifactId) -> Result<Option<(JobRecord, Vec<HistoryEntry>)>> {
    let found = sqlx::query(GET).bind(id.as_str()).fetch_optional(&inner.readers).await.map_err(failed)?;
    let Some(row) = found else { return Ok(None) };
    let record = record(inner, &row)?;
    let lines = sqlx::query(HISTORY).bind(record.id.0).fetch_all(&inner.readers).await.map_err(failed)?;
    let history = lines.iter().map(|row| HistoryEntry {
        at: inner.anchor.wall(Timestamp(row.get(0))),
        event: row.get(1),
        reason: row.get(2),
        worker: row.get::<Option<String>, _>(3).map(WorkerId::from_text),
    });
    Ok(Some((record, history.collect())))
}

/// Adds the conditions of a filter to a statement whose jobs are called `j`. The state is named, not bound: only then is
/// it known that an index of one state serves.
pub(super) fn filter_into(query: &mut QueryBuilder<Sqlite>, filter: &JobFilter) {
    if let Some(state) = filter.state {
        query.push(" AND j.state = '").push(state.as_str()).push("'");
    }
    if let Some(lane) = &filter.lane {
        query.push(" AND j.lane = ").push_bind(lane.as_str().to_owned());
    }
    if let Some(reason) = &filter.reason {
        query.push(" AND j.reason = ").push_bind(reason.clone());
    }
}

pub(super) async fn list(inner: &Inner, filter: &JobFilter, page: JobPage) -> Result<Vec<JobRecord>> {
    records(inner, listed(filter, page)).await
}

fn listed(filter: &JobFilter, page: JobPage) -> QueryBuilder<Sqlite> {
    let mut query = QueryBuilder::new(concat!(record!(), " WHERE j.id > "));
    query.push_bind(page.after.map_or(0, |id| id.0));
    filter_into(&mut query, filter);
    query.push(" ORDER BY j.id LIMIT ").push_bind(limit(page.limit));
    query
}

const UNPUBLISHED: &str = concat!(
    record!(),
    " WHERE j.published = 0 AND j.id > ? AND (j.store IS NULL OR j.store = ?) ORDER BY j.id LIMIT ?"
);

pub(super) async fn unpublished(inner: &Inner, store: &StoreId, page: JobPage) -> Result<Vec<JobRecord>> {
    let query =
        sqlx::query(UNPUBLISHED).bind(page.after.map_or(0, |id| id.0)).bind(&store.0).bind(limit(page.limit));
    let rows = query.fetch_all(&inner.readers).await.map_err(failed)?;
    rows.iter().map(|row| record(inner, row)).collect()
}

async fn records(inner: &Inner, mut query: QueryBuilder<Sqlite>) -> Result<Vec<JobRecord>> {
    let rows = query.build().fetch_all(&inner.readers).await.map_err(failed)?;
    rows.iter().map(|row| record(inner, row)).collect()
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

const EXPLAIN: &str = concat!(
    "SELECT j.state, j.reason AS why, j.role, j.available_at, j.worker_id, w.expires_at,
             (SELECT count(*) FROM jobs WHERE slot = j.lane) AS taken, ",
    lane_state!("j.lane"),
    " AS lane_state, (SELECT json_group_array(limits) FROM workers WHERE expires_at > ?2
                          AND limits IS NOT NULL) AS stated
      FROM jobs j LEFT JOIN lanes l ON l.lane = j.lane LEFT JOIN workers w ON w.id = j.worker_id WHERE j.artifact_id = ?1"
);

pub(super) async fn explain(inner: &Inner, id: &ArtifactId, rules: &LaneRules) -> Result<Explanation> {
    let now = inner.anchor.now();
    let row = sqlx::query(EXPLAIN)
        .bind(id.as_str())
        .bind(now.0)
        .fetch_optional(&inner.readers)
        .await
        .map_err(failed)?;
    let Some(row) = row else {
        return Err(QueueError::new(ErrorKind::NotFound, format!("there is no artifact {id} in the queue")));
    };
    let state = JobState::parse(row.get("state")).unwrap_or(JobState::Error);
    if state.is_terminal() {
        return Ok(Explanation::Ended { state, reason: row.get("why") });
    }
    if let Some(worker) = row.get::<Option<String>, _>("worker_id").map(WorkerId::from_text) {
        let expires = Timestamp(row.get::<Option<i64>, _>("expires_at").unwrap_or(0));
        let is_dead = inner.locks.dead_workers().contains(&worker);
        // Whoever looks next finds that it is dead, and ends its leases that much later.
        let ends = if is_dead { expires.min(now.plus(AFTERMATH)) } else { expires };
        return Ok(if is_dead || expires <= now {
            let wait_ms = u64::try_from(ends.after(now).as_millis()).unwrap_or(u64::MAX);
            Explanation::WorkerDied { wait_ms }
        } else {
            Explanation::Running { worker }
        });
    }
    let mut conn = inner.readers.acquire().await.map_err(failed)?;
    let tally = Tally::load(&mut conn).await?;
    let lane = LaneState::read(row.get("lane_state"))?;
    let name = Lane::new(lane.lane.clone()).map_err(corrupt("a lane"))?;
    let role = Role::parse(row.get("role")).unwrap_or(Role::Artifact);
    let others = lanes::stated(row.get("stated"))?;
    let bounds = Bounds::new(rules, &others, lane.host_pace(now)?, &name, role);
    let pace = lane.pace()?;
    let waiting = Waiting {
        now,
        pace_opens: Timestamp::at_least(bounds.open_at(&pace)),
        controller: bounds.controller(&pace),
        queue_pause: (tally.paused_until, tally.pause_reason),
        available_at: Timestamp(row.get("available_at")),
        in_flight: u32::try_from(row.get::<i64, _>("taken")).unwrap_or(u32::MAX),
        cap: lane.cap(rules.cap(&name)).filter(|_| !name.is_none()),
        lane_pause: (Timestamp(lane.paused_until), lane.pause_reason),
        cool_down: (Timestamp(lane.not_before), lane.cause),
    };
    Ok(waiting.explain())
}

const LANES: &str = concat!(
    "SELECT (SELECT count(*) FROM jobs WHERE slot = q.lane) AS taken,
         (SELECT json_array(count(*), coalesce(sum(available_at <= ?4), 0)) FROM
             (SELECT available_at FROM jobs WHERE state = 'queued' AND lane = q.lane LIMIT ?3)) AS counts,
         (SELECT min(open_at) FROM turns WHERE lane = q.lane) AS open_at, ",
    lane_state!("q.lane"),
    " AS lane_state FROM (SELECT lane FROM turns WHERE lane > ?1 UNION SELECT lane FROM lanes WHERE lane > ?1
         UNION SELECT slot FROM jobs WHERE slot > ?1 ORDER BY 1 LIMIT ?2) q
      LEFT JOIN lanes l ON l.lane = q.lane ORDER BY q.lane"
);

pub(super) async fn lanes(inner: &Inner, page: &LanePage) -> Result<Vec<LaneRow>> {
    let now = inner.anchor.now();
    let rows = sqlx::query(LANES)
        .bind(page.after.as_ref().map_or("", |lane| lane.as_str()))
        .bind(limit(page.limit))
        .bind(LANE_COUNT_MAX)
        .bind(now.0)
        .fetch_all(&inner.readers)
        .await
        .map_err(failed)?;
    rows.iter()
        .map(|row| {
            let state = LaneState::read(row.get("lane_state"))?;
            let later = |at: i64| Some(Timestamp(at)).filter(|at| *at > now).map(|at| inner.anchor.wall(at));
            // A turn that was not visited since its lane was closed may say less.
            let closed_until = state.closed_until();
            let asked = state.host_pace(now)?.map(LanePace::from);
            let open_at = row.get::<Option<i64>, _>("open_at").map(|at| Timestamp(at).max(closed_until));
            // Both in one walk, which is most of what a page costs.
            let counts = row.get::<&str, _>("counts");
            let (queued, ready) = serde_json::from_str(counts).map_err(corrupt("the counts of a lane"))?;
            Ok(LaneRow {
                lane: Lane::new(state.lane).map_err(corrupt("a lane"))?,
                queued,
                ready: if closed_until > now { 0 } else { ready },
                in_flight: u32::try_from(row.get::<i64, _>("taken")).unwrap_or(u32::MAX),
                reopening: state.reopening.and_then(|slots| u32::try_from(slots).ok()),
                pace: asked.map(|asked| LanePace { until: inner.anchor.wall(asked.until), ..asked }),
                closed_until: later(state.not_before),
                cause: state.cause.filter(|_| state.not_before > now.0),
                paused_until: later(state.paused_until),
                pause_reason: state.pause_reason.filter(|_| state.paused_until > now.0),
                open_at: open_at.filter(|at| *at != Timestamp::NEVER).map(|at| inner.anchor.wall(at)),
            })
        })
        .collect()
}

const WORKERS: &str = "SELECT id, host, pid, version, store, limits, started_at, expires_at,
             (SELECT count(*) FROM jobs WHERE worker_id = w.id AND state = 'in_progress') FROM workers w";

pub(super) async fn workers(inner: &Inner) -> Result<Vec<WorkerRow>> {
    let rows = sqlx::query(WORKERS).fetch_all(&inner.readers).await.map_err(failed)?;
    // A process whose lock is free is dead, although its leases have not ended yet.
    let dead = inner.locks.dead_workers();
    let now = inner.anchor.now();
    let rows = rows.iter().map(|row| WorkerRow {
        id: WorkerId::from_text(row.get::<String, _>(0)),
        alive: row.get::<i64, _>(7) > now.0 && !dead.iter().any(|id| id.as_str() == row.get::<&str, _>(0)),
        host: row.get(1),
        pid: u32::try_from(row.get::<i64, _>(2)).unwrap_or(0),
        version: row.get(3),
        store: row.get::<Option<String>, _>(4).map(StoreId),
        limits: row.get::<Option<String>, _>(5).map(StatedLimits::from_text),
        started_at: inner.anchor.wall(Timestamp(row.get(6))),
        expires_at: inner.anchor.wall(Timestamp(row.get(7))),
        held: row.get::<i64, _>(8).max(0).unsigned_abs(),
    });
    let mut rows: Vec<WorkerRow> = rows.collect();
    rows.sort_by(|one, next| (one.started_at, one.id.as_str()).cmp(&(next.started_at, next.id.as_str())));
    Ok(rows)
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements =
    super::plans::named![STATS, OPEN_READY, CACHE_GET, GET, HISTORY, UNPUBLISHED, EXPLAIN, LANES, WORKERS];

/// The texts that are put together, in each of their shapes.
#[cfg(test)]
pub(super) fn built() -> Vec<(&'static str, QueryBuilder<Sqlite>)> {
    let page = JobPage { after: Some(JobId(1)), limit: 10 };
    let of = |state| JobFilter { state: Some(state), ..JobFilter::default() };
    let lane = Lane::new("h1.example").ok();
    vec![
        ("listed", listed(&JobFilter::default(), page)),
        ("listed, in error", listed(&of(JobState::Error), page)),
        ("listed, done", listed(&of(JobState::Done), page)),
        ("listed, of a lane", listed(&JobFilter { lane, ..JobFilter::default() }, page)),
    ]
}
