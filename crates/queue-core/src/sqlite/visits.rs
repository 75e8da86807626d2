//! The turns that a pass visits, with what decides about each.

use std::collections::BTreeSet;
use std::time::Duration;

use longhaul_limiter::{Bounds, Claim, Lane, LaneRules, PaceState, Role};
use sqlx::Row as _;

use super::lanes::{LaneState, lane_state};
use super::open::failed;
use super::rows::{corrupt, list, unwritable};
use super::tx::Tx;
use crate::grant::{visit_at, waits_for_a_start};
use crate::{LeaseRequest, Result, Timestamp};

/// A request with what binds it beside its own rules.
pub(super) struct Asked<'r> {
    pub(super) request: &'r LeaseRequest,
    pub(super) others: Vec<LaneRules>,
}

/// Why a lane is visited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// It is critical, so as long as jobs may be taken out of turn.
    OutOfTurn,
    /// Its turn is one of those that are open for longest.
    InTurn,
}

/// A turn that a pass visits.
#[derive(Debug)]
pub(super) struct Visit {
    pub(super) lane: Lane,
    pub(super) state: LaneState,
    pub(super) why: Why,
    /// How far ahead a start may be granted.
    pub(super) horizon: Duration,
    /// What binds each role's starts, in the order of [`Role::ALL`].
    pub(super) bounds: [Bounds; 3],
    pub(super) pace: PaceState,
    pub(super) cap: Option<u32>,
    pub(super) taken: u32,
    pub(super) given: u32,
    /// Whether it gave as many as it was asked for.
    pub(super) gave_all: bool,
    pub(super) pace_changed: bool,
    /// Whether a cap or a pace may hold the lane back: then a job of it is given only to a worker that is free.
    pub(super) is_limited: bool,
}

impl Visit {
    pub(super) fn free(&self) -> u32 {
        self.cap.map_or(u32::MAX, |cap| cap.saturating_sub(self.taken + self.given))
    }

    pub(super) fn waits_for_a_start(&self, now: Timestamp, lead: Duration) -> bool {
        self.bounds.iter().any(|bounds| waits_for_a_start(bounds, &self.pace, now, lead))
    }

    pub(super) fn could_give(&self, now: Timestamp) -> bool {
        self.free() > 0 && self.state.closed_until() <= now
    }

    /// When each role of the lane may give next; never, until something happens, if all slots are taken.
    pub(super) fn opens(&self, now: Timestamp, lead: Duration) -> [Timestamp; 3] {
        if self.free() == 0 {
            return [Timestamp::NEVER; 3];
        }
        let closed_until = self.state.closed_until();
        self.bounds.each_ref().map(|bounds| closed_until.max(visit_at(bounds, &self.pace, now, lead)))
    }
}

const VISITS: &str = concat!(
    // Where nothing is capped nobody asks how many slots are taken.
    "SELECT json_group_array(json_array(t.place, t.open_at, t.visit, CASE WHEN ?4 OR l.reopening IS NOT NULL
         THEN (SELECT count(*) FROM jobs WHERE slot = t.lane) ELSE 0 END, ",
    lane_state!("t.lane"),
    ")) FROM (SELECT q.key AS place, lane, open_at, visit FROM jsonb_each(?5) q CROSS JOIN turns ON lane = q.value AND class = ?1
                  WHERE open_at <= ?6
              UNION ALL SELECT * FROM (SELECT NULL, lane, open_at, visit FROM turns WHERE class = ?1 AND open_at <= ?2
                  ORDER BY open_at, visit LIMIT +?3)) t LEFT JOIN lanes l ON l.lane = t.lane"
);

/// A turn as it is read: its place among the critical lanes, if it is read as one; when it opened; the number of its last
/// visit; the slots taken in its lane, and what is remembered of that.
type Turn = (Option<usize>, i64, i64, u32, LaneState);

/// Those critical lanes that open soon enough, the longest first, and then the open turns of a class, longest open first. A
/// lane may be among both.
pub(super) async fn visits(
    tx: &mut Tx<'_>,
    asked: &Asked<'_>,
    class: i64,
    limit: usize,
    critical: &[Lane],
) -> Result<Vec<Visit>> {
    let (request, rules) = (asked.request, &*asked.request.rules);
    let critical: Vec<&str> = critical.iter().map(Lane::as_str).collect();
    let further = request.critical.horizon.saturating_sub(request.lead);
    let row = sqlx::query(VISITS)
        .bind(class)
        .bind(tx.now.0)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .bind(rules.has_caps())
        .bind(serde_json::to_string(&critical).map_err(unwritable)?)
        .bind(tx.now.plus(further).0)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let mut turns: Vec<Turn> = list(row.get(0))?;
    turns.sort_by_key(|(place, open_at, visit, ..)| (place.is_none(), *place, *open_at, *visit));
    let mut visits: Vec<Visit> = Vec::with_capacity(turns.len());
    for (place, _, _, taken, state) in turns {
        let lane = Lane::new(state.lane.clone()).map_err(corrupt("a lane"))?;
        let cap = if lane.is_none() { None } else { state.cap(rules.cap(&lane)) };
        let host = state.host_pace(tx.now)?;
        let bounds = Role::ALL.map(|role| Bounds::new(rules, &asked.others, host, &lane, role));
        visits.push(Visit {
            horizon: if place.is_some() { request.horizon(&lane) } else { request.lead },
            lane,
            why: if place.is_some() { Why::OutOfTurn } else { Why::InTurn },
            pace: state.pace()?,
            state,
            is_limited: cap.is_some() || bounds.iter().any(|bounds| !bounds.is_off()),
            bounds,
            cap,
            taken,
            given: 0,
            gave_all: false,
            pace_changed: false,
        });
    }
    spend_what_nobody_holds(tx, asked.request.lead, &mut visits).await?;
    Ok(visits)
}

const HELD_STILL: &str = "SELECT json_group_array(json_array(id, lease_token)) FROM jobs
         WHERE id IN (SELECT value FROM jsonb_each(?1)) AND state = 'in_progress'";

/// Grants of claims that have ended are spent: nobody waits for those who used them and had no need to say so, nor for those
/// whose process is gone. Asked only where a lane would have to wait.
async fn spend_what_nobody_holds(tx: &mut Tx<'_>, lead: Duration, visits: &mut [Visit]) -> Result<()> {
    let now = tx.now;
    let waited_for = |visit: &Visit| -> Vec<Claim> {
        let waits = visit.bounds.iter().filter(|bounds| waits_for_a_start(bounds, &visit.pace, now, lead));
        waits.flat_map(|bounds| visit.pace.waited_for(bounds)).collect()
    };
    let claims: Vec<(usize, Claim)> = visits
        .iter()
        .enumerate()
        .flat_map(|(index, visit)| waited_for(visit).into_iter().map(move |claim| (index, claim)))
        .collect();
    if claims.is_empty() {
        return Ok(());
    }
    let ids: BTreeSet<i64> = claims.iter().map(|(_, claim)| claim.job).collect();
    let row = sqlx::query(HELD_STILL)
        .bind(serde_json::to_string(&ids).map_err(unwritable)?)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let held: Vec<(i64, i64)> = list(row.get(0))?;
    let held: BTreeSet<Claim> = held.into_iter().map(|(job, fence)| Claim { job, fence }).collect();
    for (index, claim) in claims {
        if !held.contains(&claim) {
            let visit = &mut visits[index];
            visit.pace_changed |= visit.pace.spent(claim);
        }
    }
    Ok(())
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![VISITS, HELD_STILL];
