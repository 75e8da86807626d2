//! Admitting further requests of held jobs: all that are asked for at a time, as one.
//!
//! A process with many workers asks in bursts. What waits for the writer is read, decided and written together, by two
//! statements' hand-overs however many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use longhaul_limiter::{Bounds, LaneRules};
use serde::Serialize;
use sqlx::Row as _;
use tokio::sync::oneshot;

use super::lanes::{self, LaneState, lane_state};
use super::open::{Inner, failed, located};
use super::rows::{freed, list, unwritable};
use super::tx::Tx;
use super::writer::{Call, Carried, Urgency};
use crate::grant::{ask_anew, grant};
use crate::{Admission, AdmitRequest, ErrorKind, QueueError, Result, Timestamp};

/// What is answered where no end is known: a pause without one.
const NO_END: Duration = Duration::from_hours(24);

/// An answer, and the store's time at which it was true.
type Admitted = (Admission, Timestamp);

/// A request that waits for the writer, and who is to be answered.
type Asking = (AdmitRequest, oneshot::Sender<Result<Admitted>>);

/// The requests that the writer has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Admissions {
    waiting: Mutex<Vec<Asking>>,
}

impl Admissions {
    /// Adds one; true if it is the first, so that the writer has to be told.
    fn add(&self, asking: Asking) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.push(asking);
        waiting.len() == 1
    }

    fn take(&self) -> Vec<Asking> {
        std::mem::take(&mut *self.waiting.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// The call that takes all that wait when its turn comes.
struct AdmitAll {
    admissions: Arc<Admissions>,
    taken: Vec<Asking>,
    answers: Vec<Admitted>,
}

impl Call for AdmitAll {
    fn urgency(&self) -> Urgency {
        Urgency::Request
    }

    fn carry_out<'t>(&'t mut self, tx: &'t mut Tx<'_>) -> Carried<'t, ()> {
        Box::pin(async move {
            // Carried out again, it has them already.
            self.taken.append(&mut self.admissions.take());
            let requests: Vec<&AdmitRequest> = self.taken.iter().map(|(request, _)| request).collect();
            let admissions = admit(tx, &requests).await?;
            self.answers = admissions.into_iter().map(|admission| (admission, tx.now)).collect();
            tx.end_of_call();
            Ok(())
        })
    }

    fn answer(mut self: Box<Self>, committed: Result<()>) {
        let error = committed.err().map(|error| (error.kind(), error.to_string()));
        if error.is_some() {
            // Those that came since would wait for a writer that does not know of them.
            self.taken.append(&mut self.admissions.take());
        }
        let mut answers = self.answers.into_iter();
        for (_, reply) in self.taken {
            let answer = match (&error, answers.next()) {
                (None, Some(answer)) => Ok(answer),
                (Some((kind, message)), _) => Err(QueueError::new(*kind, message.clone())),
                (None, None) => {
                    Err(QueueError::new(ErrorKind::Corrupt, "an admission was committed without an answer"))
                }
            };
            // A caller that has gone does not want to know; it holds what it was granted until its job ends.
            let _ = reply.send(answer);
        }
    }
}

impl Inner {
    /// Asks for one request of a held job, along with all others that are asked for meanwhile.
    pub(super) async fn admit(&self, request: &AdmitRequest) -> Result<Admission> {
        self.is_at_home()?;
        let ended = || QueueError::new(ErrorKind::Unavailable, "the queue was closed");
        let (reply, answer) = oneshot::channel();
        // The place comes first: a caller that is dropped while it waits for one has added no request yet.
        let way = self.writer.way().await?;
        if self.admissions.add((request.clone(), reply)) {
            let admissions = Arc::clone(&self.admissions);
            way.send(Box::new(AdmitAll { admissions, taken: Vec::new(), answers: Vec::new() }));
        }
        let answer = answer.await.map_err(|_| ended())?;
        let (admission, at) = answer.map_err(|error| located(&self.path, error))?;
        let spent = self.anchor.now().after(at);
        Ok(match admission {
            Admission::Admitted { paced, start_after, start_within } => Admission::Admitted {
                paced,
                start_after: start_after.saturating_sub(spent),
                start_within: start_within.saturating_sub(spent),
            },
            other => other,
        })
    }
}

/// What is asked about, as a JSON text.
#[derive(Serialize)]
struct Asked<'r> {
    jobs: BTreeSet<i64>,
    lanes: BTreeSet<&'r str>,
}

/// The claims that are held, with slot and process; the lanes with their taken slots; what each live process states as its
/// limits. ?1 is an [`Asked`], ?2 the time.
const ASKED: &str = concat!(
    "SELECT (SELECT json_group_array(json_array(j.id, j.lease_token, j.slot, w.limits)) FROM jsonb_each(?1, '$.jobs') q
             JOIN jobs j ON j.id = q.value JOIN workers w ON w.id = j.worker_id
             WHERE j.state = 'in_progress' AND w.expires_at > ?2),
         (SELECT json_group_array(json_array((SELECT count(*) FROM jobs WHERE slot = q.value), ",
    lane_state!("q.value"),
    ")) FROM jsonb_each(?1, '$.lanes') q LEFT JOIN lanes l ON l.lane = q.value),
         (SELECT json_group_array(limits) FROM workers WHERE expires_at > ?2 AND limits IS NOT NULL)"
);

/// A claim that is held.
struct Held {
    fence: i64,
    slot: Option<String>,
    /// What its process states as its limits.
    limits: Option<String>,
}

/// A lane that is asked about.
struct Place {
    state: LaneState,
    taken: u32,
}

/// What changes, as a JSON text.
#[derive(Serialize)]
struct Written {
    slots: Vec<(i64, Option<String>)>,
    lanes: Vec<LaneState>,
    freed: BTreeSet<String>,
}

const WRITE: &str = concat!(
    "UPDATE jobs SET slot = q.value ->> 1, updated_at = ?2 FROM jsonb_each(?1, '$.slots') q WHERE jobs.id = q.value ->> 0;",
    lanes::upsert_lanes!("?1, '$.lanes'"),
    ";",
    freed!("?1, '$.freed'")
);

/// Decides requests one after the other. Each moves its job's slot to the lane that it asks for, if that is open; otherwise
/// the slot is free when this returns. Nothing is ever held while something else is waited for (INV-NO-HOLD-AND-WAIT).
async fn admit(tx: &mut Tx<'_>, requests: &[&AdmitRequest]) -> Result<Vec<Admission>> {
    let asked = Asked {
        jobs: requests.iter().map(|request| request.token.job.0).collect(),
        lanes: requests.iter().map(|request| request.place.lane.as_str()).collect(),
    };
    let row = sqlx::query(ASKED)
        .bind(serde_json::to_string(&asked).map_err(unwritable)?)
        .bind(tx.now.0)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let held: Vec<(i64, i64, Option<String>, Option<String>)> = list(row.get(0))?;
    let held = held.into_iter().map(|(job, fence, slot, limits)| (job, Held { fence, slot, limits }));
    let mut held: HashMap<i64, Held> = held.collect();
    let places: Vec<(u32, LaneState)> = list(row.get(1))?;
    let places = places.into_iter().map(|(taken, state)| (state.lane.clone(), Place { state, taken }));
    let mut places: BTreeMap<String, Place> = places.collect();
    let stated: Vec<String> = list(row.get(2))?;
    let stated: BTreeSet<String> = stated.into_iter().collect();
    let before: BTreeMap<String, LaneState> =
        places.iter().map(|(lane, place)| (lane.clone(), place.state.clone())).collect();
    let mut written = Written { slots: Vec::new(), lanes: Vec::new(), freed: BTreeSet::new() };
    let mut answers = Vec::with_capacity(requests.len());
    for request in requests {
        let job = request.token.job.0;
        let Some(held) = held.get_mut(&job).filter(|held| held.fence == request.token.fence) else {
            answers.push(Admission::LeaseLost);
            continue;
        };
        let name = request.place.lane.as_str();
        // Without its slot, so that it is not in its own way.
        let slot = held.slot.take();
        if let Some(place) = slot.as_ref().and_then(|slot| places.get_mut(slot)) {
            place.taken = place.taken.saturating_sub(1);
        }
        let others: Vec<String> =
            stated.iter().filter(|limits| held.limits.as_ref() != Some(*limits)).cloned().collect();
        let others = lanes::rules_of(others);
        let answer = match places.get_mut(name) {
            Some(place) => decide(tx, request, place, &others)?,
            None => Admission::Full,
        };
        if matches!(answer, Admission::Admitted { .. }) && !name.is_empty() {
            held.slot = Some(name.to_owned());
            if let Some(place) = places.get_mut(name) {
                place.taken += 1;
            }
        }
        if slot != held.slot {
            written.slots.push((job, held.slot.clone()));
            written.freed.extend(slot);
        }
        if !matches!(answer, Admission::Admitted { .. }) {
            // What it had been granted is taken back: the lane waits for it no more.
            written.freed.insert(name.to_owned());
        }
        answers.push(answer);
    }
    // The same job may have asked twice: the last word holds.
    let last: HashMap<i64, Option<String>> = written.slots.drain(..).collect();
    written.slots = last.into_iter().collect();
    written.lanes =
        places.into_values().map(|place| place.state).filter(|state| before[&state.lane] != *state).collect();
    if !written.slots.is_empty() || !written.lanes.is_empty() || !written.freed.is_empty() {
        tx.weight += written.slots.len() + written.lanes.len();
        tx.wake |= !written.freed.is_empty();
        sqlx::query(WRITE)
            .bind(serde_json::to_string(&written).map_err(unwritable)?)
            .bind(tx.now.0)
            .execute(&mut *tx.conn)
            .await
            .map_err(failed)?;
    }
    Ok(answers)
}

fn decide(tx: &Tx<'_>, request: &AdmitRequest, asked: &mut Place, others: &[LaneRules]) -> Result<Admission> {
    let lane = &request.place.lane;
    let not_before = |until: Timestamp, now: Timestamp| Admission::NotBefore(until.after(now).min(NO_END));
    let state = &mut asked.state;
    let host = state.host_pace(tx.now)?;
    let bounds = Bounds::new(&request.rules, others, host, lane, request.place.role);
    let mut pace = state.pace()?;
    if ask_anew(&bounds, &mut pace, request.token.into(), request.unused) {
        state.set_pace(pace.clone(), tx.now)?;
    }
    if tx.tally.paused_until > tx.now {
        return Ok(not_before(tx.tally.paused_until, tx.now));
    }
    if state.closed_until() > tx.now {
        return Ok(not_before(state.closed_until(), tx.now));
    }
    if !lane.is_none() && state.cap(request.rules.cap(lane)).is_some_and(|cap| asked.taken >= cap) {
        return Ok(Admission::Full);
    }
    let claim = (request.token.into(), request.place.role);
    let Some(start) = grant(&bounds, &mut pace, claim, tx.now, (request.lead, request.lead)) else {
        return Ok(not_before(Timestamp::at_least(bounds.open_at(&pace)), tx.now));
    };
    if !bounds.is_off() {
        state.set_pace(pace, tx.now)?;
    }
    Ok(Admission::Admitted { paced: !bounds.is_off(), start_after: start.after, start_within: start.within })
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![ASKED, WRITE];
