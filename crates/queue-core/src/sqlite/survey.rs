//! Which lanes bound the run: a walk over all that is queued, in reads that are short.

use longhaul_limiter::Lane;
use sqlx::Row as _;

use super::lanes::{LaneState, lane_state};
use super::open::{Inner, failed};
use super::rows::{corrupt, list};
use crate::{Result, Survey, Throughput};

/// One read counts about so many jobs: a few tens of milliseconds, for which the log cannot be emptied.
const JOBS: u64 = 250_000;
/// And no more lanes than this.
const LANES: u64 = 1_000;

/// The next lanes with queued jobs, how many those are, and what is remembered of the lane.
const BACKLOGS: &str = concat!(
    "SELECT json_group_array(json_array(q.queued, ",
    lane_state!("q.lane"),
    ")) FROM (SELECT lane, count(*) AS queued FROM jobs WHERE state = 'queued' AND lane >= ?1 GROUP BY lane ORDER BY lane
              LIMIT +?2) q LEFT JOIN lanes l ON l.lane = q.lane"
);

pub(super) async fn critical(inner: &Inner, throughput: &Throughput) -> Result<Vec<Lane>> {
    let mut survey = Survey::new(throughput);
    let (mut first, mut lanes) = (String::new(), 1);
    loop {
        let query = sqlx::query(BACKLOGS).bind(&first).bind(i64::try_from(lanes).unwrap_or(i64::MAX));
        let row = query.fetch_one(&inner.readers).await.map_err(failed)?;
        let backlogs: Vec<(u64, LaneState)> = list(row.get(0))?;
        let (found, now) = (backlogs.len() as u64, inner.anchor.now());
        let mut jobs = 0;
        for (queued, state) in backlogs {
            let lane = Lane::new(state.lane.clone()).map_err(corrupt("a lane"))?;
            let cap = state.cap(throughput.rules.cap(&lane));
            survey.count(lane, queued, cap, state.host_pace(now)?);
            jobs += queued;
            // No name is between a name and this.
            first = first.max(state.lane + "\0");
        }
        if found < lanes {
            return Ok(survey.critical());
        }
        // As many lanes as have that many jobs, if these were like those to come.
        lanes = (JOBS * found / jobs.max(1)).clamp(1, LANES).min(lanes * 8);
    }
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![BACKLOGS];
