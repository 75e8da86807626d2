//! Verifying the store against itself. Everything is derived anew from the jobs' rows and compared.

use sqlx::Row as _;

use super::lanes;
use super::open::failed;
use super::tx::Tx;
use super::{rows, workers};
use crate::{JobState, QueueCheck, Result, StateCounts, Timestamp};

/// Compares counts and turns with the jobs, and mends them if asked to.
///
/// Too low an `open_at` costs one visit and is no problem; too high a one starves a lane. For a lane that is not
/// full, closed or paced the true time is known, and a turn that opens later than that is reported.
pub(super) async fn check(tx: &mut Tx<'_>, repair: bool) -> Result<QueueCheck> {
    let mut problems = Vec::new();
    check_file(tx, &mut problems).await?;
    check_counts(tx, repair, &mut problems).await?;
    check_leases(tx, repair, &mut problems).await?;
    check_turns(tx, repair, &mut problems).await?;
    Ok(QueueCheck { repaired: repair && !problems.is_empty(), problems })
}

async fn check_file(tx: &mut Tx<'_>, problems: &mut Vec<String>) -> Result<()> {
    let found = sqlx::query("PRAGMA quick_check").fetch_all(&mut *tx.conn).await.map_err(failed)?;
    problems.extend(
        rows::texts(&found).into_iter().filter(|line| line != "ok").map(|line| format!("the file: {line}")),
    );
    Ok(())
}

/// INV-CONSERVE.
async fn check_counts(tx: &mut Tx<'_>, repair: bool, problems: &mut Vec<String>) -> Result<()> {
    let rows = sqlx::query("SELECT state, count(*) FROM jobs GROUP BY state")
        .fetch_all(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let mut true_counts = StateCounts::default();
    for row in &rows {
        if let Some(state) = JobState::parse(row.get(0)) {
            *true_counts.get_mut(state) = row.get::<i64, _>(1).max(0).unsigned_abs();
        }
    }
    for state in JobState::ALL {
        let (kept, found) = (tx.tally.counts.get(state), true_counts.get(state));
        if kept != found {
            problems.push(format!("counts: {kept} jobs are said to be {}, {found} are", state.as_str()));
        }
    }
    if repair {
        tx.tally.counts = true_counts;
    }
    Ok(())
}

/// INV-NO-LOSS: whoever holds a job has a row, so that a sweep finds it.
///
/// A job whose holder is not known is given back as if its process had died: somebody may be at work on it still, and if
/// so loses its lease (INV-FENCE).
async fn check_leases(tx: &mut Tx<'_>, repair: bool, problems: &mut Vec<String>) -> Result<()> {
    let rows = sqlx::query(
        "SELECT j.artifact_id, j.worker_id, j.id FROM jobs j WHERE j.state = 'in_progress'
             AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = j.worker_id)",
    )
    .fetch_all(&mut *tx.conn)
    .await
    .map_err(failed)?;
    for row in &rows {
        let (artifact, worker): (String, String) = (row.get(0), row.get(1));
        problems.push(format!("leases: {artifact} is held by worker process {worker}, which is not known"));
    }
    if repair && !rows.is_empty() {
        let ids: Vec<i64> = rows.iter().map(|row| row.get(2)).collect();
        let held = rows::load(tx, &ids).await?;
        // How many deaths are too many is for whoever leases it next to say.
        workers::lose(tx, held, u32::MAX, None).await?;
    }
    Ok(())
}

async fn check_turns(tx: &mut Tx<'_>, repair: bool, problems: &mut Vec<String>) -> Result<()> {
    let rows = sqlx::query(
        "SELECT q.lane, q.class, q.available_at, t.open_at FROM
             (SELECT lane, class, min(available_at) AS available_at FROM jobs WHERE state = 'queued' GROUP BY lane, class) q
         LEFT JOIN turns t ON t.lane = q.lane AND t.class = q.class
         LEFT JOIN lanes l ON l.lane = q.lane
         WHERE t.open_at IS NULL
            OR (t.open_at > max(q.available_at, ?1, coalesce(l.not_before, 0), coalesce(l.paused_until, 0))
                AND coalesce(l.pace, '{}') = '{}' AND NOT EXISTS (SELECT 1 FROM jobs s WHERE s.slot = q.lane))",
    )
    .bind(tx.now.0)
    .fetch_all(&mut *tx.conn)
    .await
    .map_err(failed)?;
    let mut turns = std::collections::BTreeMap::new();
    for row in &rows {
        let (lane, class, available_at): (String, i64, i64) = (row.get(0), row.get(1), row.get(2));
        let kept = match row.get::<Option<i64>, _>(3).map(Timestamp) {
            None => "is missing".to_owned(),
            Some(Timestamp::NEVER) => "never opens".to_owned(),
            Some(at) => format!("opens {} ms late", at.0 - available_at.max(tx.now.0)),
        };
        problems.push(format!("turns: that of lane {lane:?}, class {class}, {kept}"));
        turns.insert((lane, class), available_at);
    }
    if repair && !turns.is_empty() {
        lanes::lower_turns(tx, turns).await?;
    }
    Ok(())
}
