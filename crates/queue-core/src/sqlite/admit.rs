//! Admitting one further request of a held job.

use std::collections::BTreeSet;
use std::time::Duration;

use longhaul_limiter::{Bounds, LaneRules};
use sqlx::Row as _;

use super::lanes;
use super::lease::START_WITHIN_MAX;
use super::open::failed;
use super::rows::Changes;
use super::tx::Tx;
use crate::{Admission, AdmitRequest, Result, Timestamp};

/// What is answered where no end is known: a pause without one.
const NO_END: Duration = Duration::from_hours(24);

const HELD: &str = "SELECT j.slot, (SELECT json_group_array(limits) FROM workers
             WHERE expires_at > ?3 AND limits IS NOT NULL AND limits IS NOT w.limits)
         FROM jobs j JOIN workers w ON w.id = j.worker_id
         WHERE j.id = ?1 AND j.lease_token = ?2 AND j.state = 'in_progress' AND w.expires_at > ?3";

const MOVE_SLOT: &str = "UPDATE jobs SET slot = ?, updated_at = ? WHERE id = ?";

/// Moves the job's slot to the lane that it asks for, if that is open; otherwise its slot is free when this returns.
/// Nothing is ever held while something else is waited for (INV-NO-HOLD-AND-WAIT).
pub(super) async fn admit(tx: &mut Tx<'_>, request: &AdmitRequest) -> Result<Admission> {
    let token = request.token;
    let held = sqlx::query(HELD)
        .bind(token.job.0)
        .bind(token.fence)
        .bind(tx.now.0)
        .fetch_optional(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let Some(held) = held else { return Ok(Admission::LeaseLost) };
    let slot: Option<String> = held.get(0);
    let admission = decide(tx, request, &lanes::stated(held.get(1))?).await?;
    let admitted = matches!(admission, Admission::Admitted { .. });
    let wanted = Some(request.place.lane.as_str()).filter(|lane| admitted && !lane.is_empty());
    if slot.as_deref() != wanted {
        sqlx::query(MOVE_SLOT)
            .bind(wanted)
            .bind(tx.now.0)
            .bind(token.job.0)
            .execute(&mut *tx.conn)
            .await
            .map_err(failed)?;
        tx.weight += 1;
        if let Some(freed) = slot {
            let mut changes = Changes::default();
            changes.freed([freed]);
            changes.write(tx).await?;
        }
    }
    Ok(admission)
}

async fn decide(tx: &mut Tx<'_>, request: &AdmitRequest, others: &[LaneRules]) -> Result<Admission> {
    let lane = &request.place.lane;
    let not_before = |until: Timestamp, now: Timestamp| Admission::NotBefore(until.after(now).min(NO_END));
    if tx.tally.paused_until > tx.now {
        return Ok(not_before(tx.tally.paused_until, tx.now));
    }
    if lane.is_none() {
        return Ok(Admission::Admitted { start_within: START_WITHIN_MAX });
    }
    let mut states = lanes::load(tx, &BTreeSet::from([lane.as_str().to_owned()])).await?;
    let mut state = states.remove(lane.as_str()).unwrap_or_default();
    if state.closed_until() > tx.now {
        return Ok(not_before(state.closed_until(), tx.now));
    }
    if let Some(cap) = state.cap(request.rules.cap(lane))
        && lanes::slots_taken(tx, lane.as_str(), request.token.job.0).await? >= cap
    {
        return Ok(Admission::Full);
    }
    let host = state.host_pace(tx.now)?;
    let bounds = Bounds::new(&request.rules, others, host, lane, request.place.role);
    if bounds.is_off() {
        return Ok(Admission::Admitted { start_within: START_WITHIN_MAX });
    }
    let mut pace = state.pace()?;
    if !bounds.admit(&mut pace, tx.now.since_epoch()) {
        return Ok(not_before(Timestamp::at_least(bounds.open_at(&pace)), tx.now));
    }
    state.set_pace(pace, tx.now)?;
    lanes::store(tx, &state).await?;
    let start_within = bounds.start_within().map_or(START_WITHIN_MAX, |within| within.min(START_WITHIN_MAX));
    Ok(Admission::Admitted { start_within })
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![HELD, MOVE_SLOT];
