//! What lanes have to give: the jobs at the head of their queues.

use longhaul_limiter::{Claim, Lane, Role};
use serde::Deserialize;
use sqlx::Row as _;
use std::collections::{BTreeMap, BTreeSet};

use super::open::failed;
use super::rows::{corrupt, list, unwritable};
use super::tx::Tx;
use crate::grant::StartWindow;
use crate::{ArtifactId, Class, JobId, LeaseRequest, LeaseToken, LeasedJob, Place, Result};

/// What of a job's row is given.
#[derive(Debug, Deserialize)]
pub(super) struct Head {
    available_at: i64,
    id: JobId,
    fence: i64,
    artifact_id: String,
    payload: String,
    resolver_hint: Option<String>,
    lane: String,
    role: String,
    priority: i64,
    attempts: i64,
    losses: i64,
    throttles: i64,
    max_attempts: Option<i64>,
    checkpoint: Option<String>,
}

/// [`Head`]s as a JSON list.
macro_rules! heads {
    () => {
        "json_group_array(json_array(j.available_at, j.id, j.lease_token, j.artifact_id, j.artifact_json, \
         j.resolver_hint, j.lane, j.role, j.priority, j.attempts, j.losses, j.throttles, j.max_attempts, j.checkpoint))"
    };
}

impl Head {
    /// The claim that a lease of it makes.
    pub(super) fn claim(&self) -> Claim {
        Claim { job: self.id.0, fence: self.fence + 1 }
    }

    pub(super) fn role(&self) -> Role {
        Role::parse(&self.role).unwrap_or(Role::Artifact)
    }

    pub(super) fn leased(self, start: StartWindow) -> Result<LeasedJob> {
        let number = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let role = self.role();
        Ok(LeasedJob {
            token: LeaseToken { job: self.id, fence: self.fence },
            artifact_id: ArtifactId::new(self.artifact_id)?,
            payload: self.payload,
            resolver_hint: self.resolver_hint,
            place: Place { lane: Lane::new(self.lane).map_err(corrupt("a lane"))?, role },
            priority: Class::new(u8::try_from(self.priority).unwrap_or(0))?,
            attempts: number(self.attempts),
            losses: number(self.losses),
            throttles: number(self.throttles),
            max_attempts: self.max_attempts.and_then(|max| u32::try_from(max).ok()),
            checkpoint: self.checkpoint,
            start_after: start.after,
            start_within: start.within,
            paced: false,
        })
    }
}

/// The numbers of the jobs of a role that lane `q` could give. A bound on rows and what is compared with partial indexes
/// have a plus before them: what a bare parameter says there goes into the plan, and the statement is prepared anew
/// each time.
macro_rules! ready {
    ($role:literal) => {
        concat!(
            "SELECT id FROM (SELECT id FROM jobs WHERE state = 'queued' AND lane = q.value AND class = +?2 AND role = '",
            $role,
            "' AND available_at <= ?3 ORDER BY available_at, id LIMIT +?4)"
        )
    };
}

const HEADS: &str = concat!(
    "SELECT ",
    heads!(),
    " FROM jsonb_each(?1) q CROSS JOIN jobs j ON j.id IN (",
    ready!("metadata"),
    " UNION ALL ",
    ready!("landing"),
    " UNION ALL ",
    ready!("artifact"),
    ")"
);

/// The heads of lanes, at most `each` of every role, in the order in which they became available.
pub(super) async fn heads(
    tx: &mut Tx<'_>,
    class: i64,
    each: usize,
    lanes: &BTreeSet<&str>,
) -> Result<BTreeMap<String, Vec<Head>>> {
    if lanes.is_empty() {
        return Ok(BTreeMap::new());
    }
    let row = sqlx::query(HEADS)
        .bind(serde_json::to_string(lanes).map_err(unwritable)?)
        .bind(class)
        .bind(tx.now.0)
        .bind(i64::try_from(each).unwrap_or(i64::MAX))
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let mut heads: BTreeMap<String, Vec<Head>> = BTreeMap::new();
    for head in list::<Head>(row.get(0))? {
        heads.entry(head.lane.clone()).or_default().push(head);
    }
    for heads in heads.values_mut() {
        heads.sort_by_key(|head| (head.available_at, head.id));
    }
    Ok(heads)
}

const REPEAT: &str = concat!(
    "SELECT ",
    heads!(),
    " FROM jobs j WHERE j.worker_id = ? AND j.lease_request = ? AND j.state = 'in_progress'"
);

/// The jobs that the same request was given before. Their starts were counted then, and too long ago.
pub(super) async fn repeat(tx: &mut Tx<'_>, request: &LeaseRequest) -> Result<Vec<LeasedJob>> {
    let row = sqlx::query(REPEAT)
        .bind(request.worker.as_str())
        .bind(request.number.0)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let mut given: Vec<Head> = list(row.get(0))?;
    given.sort_by_key(|head| head.id);
    given.into_iter().map(|head| head.leased(StartWindow::OVER)).collect()
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![HEADS, REPEAT];
