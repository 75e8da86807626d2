//! Ending tries: each settlement fenced on its own, all in one transaction.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};
use sqlx::Row as _;

use super::lanes::{self, LaneState, lane_state};
use super::open::failed;
use super::rows::{Changes, JobRow, ending_row, job_row, list, unwritable};
use super::tx::Tx;
use crate::{Answer, JobState, LaneClosure, LaneReport, Place, Result, Settlement, Started, Verdict};

/// A batch with all that can be worked out before the transaction, in which nobody else can write.
#[derive(Debug)]
pub(super) struct Batch {
    settlements: Vec<Settlement>,
    /// Of each settlement.
    fingerprints: Vec<String>,
    /// What of the store it needs to know, a JSON text.
    asked: String,
    /// Whether it only ends jobs, as most do: then little of their rows is needed.
    only_ends: bool,
    /// What has started of what was granted before.
    started: Vec<Started>,
}

impl Batch {
    pub(super) fn new(settlements: &[Settlement], started: &[Started]) -> Result<Self> {
        let mut lanes = lanes::named(settlements.iter().flat_map(|settlement| &settlement.lanes));
        let paced = started.iter().map(|started| &started.place.lane).filter(|lane| !lane.is_none());
        lanes.extend(paced.map(|lane| lane.as_str().to_owned()));
        let asked = serde_json::json!({
            "ids": settlements.iter().map(|settlement| settlement.token.job).collect::<Vec<_>>(),
            "lanes": lanes,
            "paths": settlements.iter().filter_map(|settlement| path_key(&settlement.verdict)).collect::<HashSet<_>>(),
        });
        Ok(Self {
            settlements: settlements.to_vec(),
            fingerprints: settlements.iter().map(fingerprint).collect::<Result<_>>()?,
            asked: asked.to_string(),
            only_ends: settlements.iter().all(|settlement| settlement.verdict.is_terminal()),
            started: started.to_vec(),
        })
    }
}

/// Settles a batch. Answers in order, and the lanes that its reports closed.
pub(super) async fn settle(tx: &mut Tx<'_>, batch: &Batch) -> Result<(Vec<Answer>, Vec<LaneClosure>)> {
    if batch.settlements.is_empty() && batch.started.is_empty() {
        return Ok((Vec::new(), Vec::new()));
    }
    let Known { held, lanes: states, mut taken } = known(tx, batch).await?;
    let mut served_here: HashSet<&str> = HashSet::new();
    let mut changes = Changes::default();
    let (mut answers, mut reports) = (Vec::new(), Vec::new());
    let mut settled: HashMap<i64, String> = HashMap::new();
    for (settlement, fingerprint) in batch.settlements.iter().zip(&batch.fingerprints) {
        let id = settlement.token.job.0;
        let Some(row) = held.get(&id).filter(|row| row.lease_token == settlement.token.fence) else {
            answers.push(Answer::LeaseLost);
            continue;
        };
        // What was settled already, in this batch or before, is answered the same if it is the same.
        if row.state != JobState::InProgress.as_str() || settled.contains_key(&id) {
            let recorded = settled.get(&id).or(row.settlement.as_ref());
            answers.push(
                recorded.and_then(|recorded| repeated(recorded, fingerprint)).unwrap_or(Answer::LeaseLost),
            );
            continue;
        }
        if let Some(path) = path_key(&settlement.verdict)
            && *taken.entry(path).or_insert(id) != id
        {
            answers.push(Answer::PathTaken);
            continue;
        }
        let Some(mut row) = held.get(&id).cloned() else { continue };
        let leased_for = row.lane.clone();
        row.store = row.worker_store.take();
        row.unserved = !has_served(settlement, &row, &states, &served_here);
        fill(&mut row, settlement, tx.now);
        let event = settlement.verdict.event();
        let to = row.state()?.apply(event).map_or(JobState::Queued, |transition| transition.to);
        let recorded = format!("{}:{fingerprint}", to.as_str());
        row.settlement = Some(recorded.clone());
        changes.apply(row, event, tx.now)?;
        settled.insert(id, recorded);
        for report in settlement.reports(&leased_for) {
            if let LaneReport::Served { lane } = report {
                served_here.insert(lane.as_str());
            }
            reports.push((report, settlement.token.into()));
        }
        answers.push(Answer::Recorded(to));
    }
    let closed = lanes::report(&mut changes, states, &reports, &batch.started, tx.now)?;
    changes.write(tx).await?;
    Ok((answers, closed))
}

/// What a verdict writes into the row; state and charges are the state machine's.
fn fill(row: &mut JobRow, settlement: &Settlement, now: crate::Timestamp) {
    fn go_on(row: &mut JobRow, place: Option<&Place>) {
        if let Some(place) = place {
            place.lane.as_str().clone_into(&mut row.lane);
            place.role.as_str().clone_into(&mut row.role);
        }
    }
    match &settlement.verdict {
        Verdict::Done { reason, outcome, file } => {
            row.reason = Some(reason.clone());
            row.outcome_json = Some(outcome.clone());
            row.last_error = None;
            if let Some(file) = file {
                row.store = Some(file.store.0.clone());
                row.path = Some(file.path.clone());
                row.sha256 = Some(file.sha256.clone());
            }
        }
        Verdict::Skipped { reason, outcome, detail } | Verdict::Error { reason, outcome, detail } => {
            row.reason = Some(reason.clone());
            row.outcome_json = Some(outcome.clone());
            row.set_last_error(detail);
        }
        Verdict::Retry { after, reason, detail, place, checkpoint } => {
            row.reason = Some(reason.clone());
            row.set_last_error(detail);
            row.available_at = now.plus(*after).0;
            row.checkpoint.clone_from(checkpoint);
            go_on(row, place.as_ref());
        }
        Verdict::Defer { after, place, checkpoint } => {
            if !after.is_zero() {
                row.available_at = now.plus(*after).0;
            }
            row.checkpoint.clone_from(checkpoint);
            go_on(row, Some(place));
        }
        Verdict::Throttled { detail, place, checkpoint } => {
            row.reason = Some("throttled".to_owned());
            row.available_at = now.plus(settlement.quiet()).0;
            row.set_last_error(detail);
            row.checkpoint.clone_from(checkpoint);
            go_on(row, place.as_ref());
        }
        Verdict::Release { checkpoint } => {
            if checkpoint.is_some() {
                row.checkpoint.clone_from(checkpoint);
            }
        }
    }
}

/// A digest of what a settlement says, so that the same is recognised without keeping it.
fn fingerprint(settlement: &Settlement) -> Result<String> {
    let text = serde_json::to_vec(settlement).map_err(unwritable)?;
    let mut hexadecimal = String::with_capacity(32);
    for byte in &Sha256::digest(&text)[..16] {
        // Writing to a String cannot fail.
        let _ = write!(hexadecimal, "{byte:02x}");
    }
    Ok(hexadecimal)
}

fn repeated(recorded: &str, fingerprint: &str) -> Option<Answer> {
    let (state, before) = recorded.split_once(':')?;
    (before == fingerprint).then(|| JobState::parse(state).map(Answer::Recorded)).flatten()
}

fn path_key(verdict: &Verdict) -> Option<(String, String)> {
    match verdict {
        Verdict::Done { file: Some(file), .. } => {
            Some((file.store.0.clone(), file.path.to_ascii_lowercase()))
        }
        _ => None,
    }
}

/// What the store knows about a batch before it is settled.
struct Known {
    held: HashMap<i64, JobRow>,
    lanes: BTreeMap<String, LaneState>,
    /// Whose the paths of this batch are already.
    taken: HashMap<(String, String), i64>,
}

/// Reads the jobs, lanes and paths under the JSON text ?1, each as one list. A macro, since statements are literals.
macro_rules! known {
    ($row:ident) => {
        concat!(
            "SELECT (SELECT json_group_array(json_array(",
            $row!(),
            ", w.store)) FROM jsonb_each(?1, '$.ids') q JOIN jobs j ON j.id = q.value LEFT JOIN workers w ON w.id = j.worker_id),
             (SELECT json_group_array(",
            lane_state!("q.value"),
            ") FROM jsonb_each(?1, '$.lanes') q LEFT JOIN lanes l ON l.lane = q.value),
             (SELECT json_group_array(json_array(j.store, j.path, j.id)) FROM jsonb_each(?1, '$.paths') q
              JOIN jobs j ON j.store = q.value ->> 0 AND j.path = q.value ->> 1 COLLATE NOCASE AND j.path IS NOT NULL)"
        )
    };
}

const KNOWN_TO_END: &str = known!(ending_row);
const KNOWN: &str = known!(job_row);

async fn known(tx: &mut Tx<'_>, batch: &Batch) -> Result<Known> {
    let statement = if batch.only_ends { KNOWN_TO_END } else { KNOWN };
    let row = sqlx::query(statement).bind(&batch.asked).fetch_one(&mut *tx.conn).await.map_err(failed)?;
    let paths: Vec<(String, String, i64)> = list(row.get(2))?;
    let held = list::<(JobRow, Option<String>)>(row.get(0))?;
    let held = held.into_iter().map(|(row, worker_store)| (row.id, JobRow { worker_store, ..row }));
    Ok(Known {
        held: held.collect(),
        lanes: lanes::by_name(list(row.get(1))?),
        taken: paths.into_iter().map(|(store, path, id)| ((store, path.to_ascii_lowercase()), id)).collect(),
    })
}

/// Whether the lane that asked for quiet has served somebody since the job was leased, or since it waits to be, be it by an
/// earlier settlement of the same batch.
fn has_served(
    settlement: &Settlement,
    row: &JobRow,
    lanes: &BTreeMap<String, LaneState>,
    served_here: &HashSet<&str>,
) -> bool {
    let throttled = |report: &&LaneReport| matches!(report, LaneReport::Throttled { .. });
    let Some(asked) = settlement.lanes.iter().rev().find(throttled) else { return false };
    let lane = asked.lane();
    let served_at = lanes.get(lane.as_str()).map_or(0, |state| state.served_at);
    !lane.is_none()
        && (served_here.contains(lane.as_str())
            || row.leased_at.is_some_and(|leased_at| served_at >= leased_at.min(row.available_at)))
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![KNOWN_TO_END, KNOWN];
