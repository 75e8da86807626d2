//! Fair leasing: an index walk over the turns that are open, each giving its share.
//!
//! A pass reads the open turns of a class in the order in which they opened, reads the head of each of those lanes,
//! decides here what the caps and paces allow, and writes the result back, each by one statement however many lanes
//! there are. A turn that gave goes to the back (`open_at` = now, a later `visit`); one that could not is put off
//! until it can, so that the next pass does not meet it.

use std::collections::{BTreeSet, HashSet};
use std::time::Duration;

use longhaul_limiter::{Lane, LaneRules};
use serde::Serialize;
use sqlx::Row as _;

use super::heads;
use super::lanes::{self, LaneState};
use super::open::{Inner, failed};
use super::rows::{ALONE, corrupt, unwritable};
use super::tx::Tx;
use super::visits::{Asked, Visit, Why, visits};
use super::workers;
use crate::grant::{grant, visit_at};
use crate::{
    JobEvent, JobId, JobState, LeaseBatch, LeaseRequest, LeasedJob, RequestNumber, Result, Timestamp,
};

/// At most so many turns in one pass.
const PASS_MAX: usize = 256;
/// One lease in so many goes to a lower class than the highest waiting.
const LOWER_EVERY: i64 = 16;

/// A batch and the store's time at which it was true.
#[derive(Debug)]
pub(super) struct Leased {
    batch: LeaseBatch,
    at: Timestamp,
}

impl Inner {
    /// Takes the time between commit and reply off what the batch promises.
    pub(super) fn received(&self, leased: Leased) -> LeaseBatch {
        let Leased { mut batch, at } = leased;
        let spent = self.anchor.now().after(at);
        for job in &mut batch.jobs {
            job.start_after = job.start_after.saturating_sub(spent);
            job.start_within = job.start_within.saturating_sub(spent);
        }
        batch.age = spent;
        batch.next_open = batch.next_open.map(|wait| wait.saturating_sub(spent));
        batch
    }
}

/// Leases what the request asks for and may have.
pub(super) async fn lease(tx: &mut Tx<'_>, request: &LeaseRequest) -> Result<Leased> {
    let mut opening = opening(tx, request).await?;
    if opening.first_expiry.is_some_and(|at| at <= tx.now) {
        workers::sweep(tx, &request.worker, request.max_losses).await?;
        opening = self::opening(tx, request).await?;
    }
    let mut given = Given::default();
    let mut repeated = Vec::new();
    if opening.repeated {
        repeated = heads::repeat(tx, request).await?;
    } else if opening.alive && tx.tally.paused_until <= tx.now {
        let asked = Asked { request, others: std::mem::take(&mut opening.others) };
        if request.alone {
            let mut room = Room {
                all: request.max.min(usize::from(opening.holds == Holds::Nothing)),
                limited: 1,
                critical: 0,
            };
            take(tx, &asked, ALONE, room.all, &mut room, &mut given).await?;
        } else if opening.holds != Holds::Alone {
            let mut room = Room {
                all: request.max + request.ahead,
                limited: request.max,
                critical: request.critical.most.min(request.max),
            };
            take_fairly(tx, &asked, &opening.classes, &mut room, &mut given).await?;
            if request.ahead > 0 {
                // Stable: within both kinds the order of the turns stays.
                given.jobs.sort_by_key(|choice| !choice.is_limited);
            }
        }
        if let Some(classes) = given.classes {
            opening.classes = classes;
        }
        if !given.jobs.is_empty() {
            opening.holds = if request.alone { Holds::Alone } else { Holds::Something };
        }
    }
    let (alone_waiting, next_open) = outlook(tx, request, &opening);
    let jobs = repeated.into_iter().chain(given.jobs.into_iter().map(|choice| choice.job)).collect();
    Ok(Leased {
        batch: LeaseBatch { jobs, next_open, alone_waiting, age: Duration::ZERO, epoch: tx.epoch() },
        at: tx.now,
    })
}

/// What the process that asks holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    /// Nothing; also if it holds ordinary jobs and asks for ordinary ones, where that makes no difference.
    Nothing,
    Something,
    /// A job that must run alone.
    Alone,
}

/// What decides whether and where a request can be given something.
struct Opening {
    /// The process that asks has joined and not expired.
    alive: bool,
    holds: Holds,
    /// It was answered this request before, and still holds something of it.
    repeated: bool,
    /// When the first process expires; in the past, it is to be swept.
    first_expiry: Option<Timestamp>,
    /// When the next process that holds something expires.
    expires: Option<Timestamp>,
    /// The earliest opening of each class that has a turn, highest first.
    classes: Vec<(i64, Timestamp)>,
    /// What other processes that are there state as their limits, where it is not this one's.
    others: Vec<LaneRules>,
}

/// The earliest opening of each class, highest first, as a JSON text.
macro_rules! class_openings {
    () => {
        "(SELECT json_group_array(open_at) FROM (
             SELECT (SELECT open_at FROM turns WHERE class = q.value ORDER BY open_at LIMIT 1) AS open_at
             FROM jsonb_each('[10,9,8,7,6,5,4,3,2,1,0]') q))"
    };
}

const OPENING: &str = concat!(
    "SELECT EXISTS (SELECT 1 FROM workers WHERE id = ?1 AND expires_at > ?3),
            ?4 AND EXISTS (SELECT 1 FROM jobs WHERE worker_id = ?1 AND state = 'in_progress'),
            EXISTS (SELECT 1 FROM jobs WHERE worker_id = ?1 AND state = 'in_progress' AND class = 10),
            EXISTS (SELECT 1 FROM jobs WHERE worker_id = ?1 AND lease_request = ?2 AND state = 'in_progress'),
            (SELECT min(expires_at) FROM workers),
            (SELECT min(expires_at) FROM workers w WHERE id <> ?1
                 AND EXISTS (SELECT 1 FROM jobs WHERE worker_id = w.id AND state = 'in_progress')), ",
    class_openings!(),
    ", (SELECT json_group_array(limits) FROM workers WHERE expires_at > ?3 AND limits IS NOT NULL
            AND limits IS NOT (SELECT limits FROM workers WHERE id = ?1))"
);

async fn opening(tx: &mut Tx<'_>, request: &LeaseRequest) -> Result<Opening> {
    let row = sqlx::query(OPENING)
        .bind(request.worker.as_str())
        .bind(request.number.0)
        .bind(tx.now.0)
        .bind(request.alone)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    let holds = match (row.get(1), row.get(2)) {
        (_, true) => Holds::Alone,
        (true, false) => Holds::Something,
        (false, false) => Holds::Nothing,
    };
    Ok(Opening {
        alive: row.get(0),
        holds,
        repeated: row.get(3),
        first_expiry: row.get::<Option<i64>, _>(4).map(Timestamp),
        expires: row.get::<Option<i64>, _>(5).map(Timestamp),
        classes: read_classes(row.get(6))?,
        others: lanes::stated(row.get(7))?,
    })
}

fn read_classes(open_at: &str) -> Result<Vec<(i64, Timestamp)>> {
    let open_at: Vec<Option<i64>> = serde_json::from_str(open_at).map_err(corrupt("the turns"))?;
    let classes = (0..=ALONE).rev().zip(open_at);
    Ok(classes.filter_map(|(class, open_at)| open_at.map(|at| (class, Timestamp(at)))).collect())
}

/// When the first queued job of a role of turn `t` is available, as a scalar of a statement whose ?1 has the class.
macro_rules! head {
    ($role:literal) => {
        concat!(
            "(SELECT available_at FROM jobs WHERE state = 'queued' AND lane = t.value ->> 'lane' AND class = ?1 ->> 'class'
                  AND role = '",
            $role,
            "' ORDER BY available_at LIMIT 1)"
        )
    };
}

/// Takes from the highest class that has something to give, but of every sixteen grants one from a lower class, from
/// each that waits in turn, so that every class moves (INV-FAIR).
async fn take_fairly(
    tx: &mut Tx<'_>,
    asked: &Asked<'_>,
    classes: &[(i64, Timestamp)],
    room: &mut Room,
    given: &mut Given,
) -> Result<()> {
    let open = classes.iter().filter(|(class, open_at)| *class != ALONE && *open_at <= tx.now);
    let mut open: Vec<i64> = open.map(|(class, _)| *class).collect();
    while let ([highest, lower @ ..], 1..) = (open.as_slice(), room.all) {
        let before_lower = usize::try_from(LOWER_EVERY - 1 - tx.tally.grants % LOWER_EVERY).unwrap_or(0);
        let (class, share) = match before_lower {
            _ if lower.is_empty() => (*highest, room.all),
            0 => (turn_of(lower, tx.tally.grants / LOWER_EVERY), 1),
            share => (*highest, share.min(room.all)),
        };
        if take(tx, asked, class, share, room, given).await? < share {
            open.retain(|other| *other != class);
        }
    }
    Ok(())
}

/// Which of the lower classes, highest first, has the turn of this number: the lowest begins, and all are asked in a
/// circle.
fn turn_of(lower: &[i64], turn: i64) -> i64 {
    let among = i64::try_from(lower.len()).unwrap_or(i64::MAX);
    usize::try_from(turn.rem_euclid(among))
        .ok()
        .and_then(|index| lower.iter().rev().nth(index))
        .copied()
        .unwrap_or(0)
}

/// What a request may still be given.
struct Room {
    all: usize,
    /// Of these, from lanes with a cap or a pace.
    limited: usize,
    /// Of these, out of turn.
    critical: usize,
}

/// What a request is given.
#[derive(Default)]
struct Given {
    jobs: Vec<Choice>,
    /// The earliest opening of each class after the last visits, if there were any.
    classes: Option<Vec<(i64, Timestamp)>>,
}

/// A job that is given.
struct Choice {
    job: LeasedJob,
    is_limited: bool,
}

/// Takes up to `share` jobs of one class, as there is room. Returns how many.
async fn take(
    tx: &mut Tx<'_>,
    asked: &Asked<'_>,
    class: i64,
    share: usize,
    room: &mut Room,
    given: &mut Given,
) -> Result<usize> {
    let (request, before) = (asked.request, given.jobs.len());
    let mut critical: &[Lane] = &request.critical.lanes;
    loop {
        let wanted = (share + before - given.jobs.len()).min(room.all);
        if room.critical.min(room.limited) == 0 {
            critical = &[];
        }
        let mut visits = if wanted == 0 {
            Vec::new()
        } else {
            visits(tx, asked, class, wanted.min(PASS_MAX), critical).await?
        };
        if visits.is_empty() {
            return Ok(given.jobs.len() - before);
        }
        // Rounded down, so that the last lanes of the pass are not left without: what remains is the next pass'.
        let quantum = (wanted / visits.len()).max(1);
        let chosen = choose(tx, request, class, (quantum, wanted), room, &mut visits).await?;
        given.classes = Some(write(tx, request, class, &chosen, &visits).await?);
        given.jobs.extend(chosen);
        // One that opens soon would be met again and again.
        critical = &[];
    }
}

/// Chooses what each visited lane gives: at most its quantum, its free slots (INV-CAP) and what its pace allows at
/// this instant (INV-PACE). A limited lane for which no worker is free ends it: its turn and those behind it are not
/// visited, and there is no room any more (INV-FAIR).
async fn choose(
    tx: &mut Tx<'_>,
    request: &LeaseRequest,
    class: i64,
    (quantum, wanted): (usize, usize),
    room: &mut Room,
    visits: &mut Vec<Visit>,
) -> Result<Vec<Choice>> {
    let open = visits.iter().filter(|visit| visit.could_give(tx.now));
    // A lane may be among the visits twice.
    let open: BTreeSet<&str> = open.map(|visit| visit.lane.as_str()).collect();
    let mut heads = heads::heads(tx, class, quantum, &open).await?;
    let mut chosen = Vec::new();
    let (mut visited, mut seen) = (Vec::with_capacity(visits.len()), HashSet::new());
    for mut visit in std::mem::take(visits) {
        if chosen.len() == wanted {
            break;
        }
        let out_of_turn = visit.why == Why::OutOfTurn;
        if out_of_turn && room.critical == 0 || !seen.insert(visit.lane.clone()) {
            continue;
        }
        let (mut here, mut no_worker) = (0, false);
        for head in heads.remove(visit.lane.as_str()).unwrap_or_default() {
            if here == quantum || chosen.len() == wanted || visit.free() == 0 {
                break;
            }
            let bounds = &visit.bounds[head.role() as usize];
            if visit.is_limited && room.limited == 0 {
                if visit_at(bounds, &visit.pace, tx.now, request.lead) > tx.now {
                    continue;
                }
                no_worker = here == 0;
                break;
            }
            let claim = (head.claim(), head.role());
            if !bounds.has_room(&visit.pace) {
                continue;
            }
            let ahead = (request.lead, visit.horizon);
            let Some(start) = grant(bounds, &mut visit.pace, claim, tx.now, ahead) else { continue };
            let mut job = head.leased(start)?;
            job.paced = !bounds.is_off();
            visit.pace_changed |= job.paced;
            job.token.fence += 1;
            here += 1;
            room.limited -= usize::from(visit.is_limited);
            visit.given += u32::from(!visit.lane.is_none());
            chosen.push(Choice { job, is_limited: visit.is_limited });
            if out_of_turn {
                room.critical -= 1;
                break;
            }
        }
        if no_worker {
            room.all = 0;
            break;
        }
        visit.gave_all = here == quantum;
        if visit.pace_changed {
            visit.state.set_pace(visit.pace.clone(), tx.now)?;
        }
        visited.push(visit);
    }
    *visits = visited;
    room.all = room.all.saturating_sub(chosen.len());
    Ok(chosen)
}

#[derive(Serialize)]
struct Written<'v> {
    worker: &'v str,
    request: RequestNumber,
    class: i64,
    lanes: Vec<&'v LaneState>,
    turns: Vec<NextTurn<'v>>,
}

/// A turn that gave all that it was asked for: lane, and number of the visit.
type Again<'v> = (&'v str, i64);

/// A visited turn, and when each role's pace lets its lane give next.
#[derive(Serialize)]
struct NextTurn<'v> {
    lane: &'v str,
    visit: i64,
    /// Whether it waits for a slot, or for the holders of earlier grants: what frees one puts it forward.
    waits: bool,
    metadata: i64,
    landing: i64,
    artifact: i64,
}

/// The leases, what the lanes remember of them, and the visited turns: those with queued jobs go to the back or are
/// put off until they can give, the others end. Where a process that leases ahead
/// may find more, nobody looks: it asks again, and its next visit does. Answers
/// with what is open then. ?1 is a [`Written`], ?2 the time, ?3 a pair of lists: numbers of jobs, and [`Again`]s. Each
/// statement parses anew what it reads, so what grows with the batch is a text of its own.
const WRITE: &str = concat!(
    "UPDATE OR ROLLBACK jobs SET state = 'in_progress', slot = nullif(lane, ''), lease_token = lease_token + 1,
         lease_request = ?1 ->> 'request', leased_at = ?2, worker_id = ?1 ->> 'worker', settlement = NULL, updated_at = ?2
     WHERE id IN (SELECT value FROM jsonb_each(?3, '$[0]'));",
    lanes::upsert_lanes!("?1, '$.lanes'"),
    ";",
    "INSERT OR ROLLBACK INTO turns (lane, class, waits, open_at, visit)
     SELECT lane, class, waits, max(?2, min(coalesce(max(m, metadata), never), coalesce(max(l, landing), never),
                                     coalesce(max(a, artifact), never))), visit
     FROM (SELECT t.value ->> 'lane' AS lane, ?1 ->> 'class' AS class, t.value ->> 'visit' AS visit,
               t.value ->> 'waits' AS waits,
               t.value ->> 'metadata' AS metadata, t.value ->> 'landing' AS landing, t.value ->> 'artifact' AS artifact,
               9223372036854775807 AS never, ",
    head!("metadata"),
    " AS m, ",
    head!("landing"),
    " AS l, ",
    head!("artifact"),
    " AS a FROM jsonb_each(?1, '$.turns') t)
     WHERE coalesce(m, l, a) IS NOT NULL
     ON CONFLICT (lane, class) DO UPDATE
     SET open_at = excluded.open_at, visit = excluded.visit, waits = excluded.waits;",
    "DELETE FROM turns WHERE lane IN (SELECT value ->> 'lane' FROM jsonb_each(?1, '$.turns')) AND class = ?1 ->> 'class'
         AND NOT EXISTS (SELECT 1 FROM jobs WHERE state = 'queued' AND lane = turns.lane AND class = turns.class);",
    "UPDATE turns SET open_at = ?2, visit = q.value ->> 1, waits = 0 FROM jsonb_each(?3, '$[1]') q
     WHERE lane = q.value ->> 0 AND +class = ?1 ->> 'class';",
    "SELECT ",
    class_openings!()
);

async fn write(
    tx: &mut Tx<'_>,
    request: &LeaseRequest,
    class: i64,
    chosen: &[Choice],
    visits: &[Visit],
) -> Result<Vec<(i64, Timestamp)>> {
    let transition = JobState::Queued.apply(JobEvent::Lease).map_err(corrupt("the state machine"))?;
    let (mut turns, mut again) = (Vec::new(), Vec::<Again<'_>>::new());
    for visit in visits {
        tx.tally.visits += 1;
        if request.ahead > 0 && visit.gave_all && !visit.is_limited {
            again.push((visit.lane.as_str(), tx.tally.visits));
            continue;
        }
        let [metadata, landing, artifact] = visit.opens(tx.now, request.lead).map(|at| at.0);
        turns.push(NextTurn {
            lane: visit.lane.as_str(),
            visit: tx.tally.visits,
            waits: visit.free() == 0 || visit.waits_for_a_start(tx.now, request.lead),
            metadata,
            landing,
            artifact,
        });
    }
    let written = Written {
        worker: request.worker.as_str(),
        request: request.number,
        class,
        lanes: visits.iter().filter(|visit| visit.pace_changed).map(|visit| &visit.state).collect(),
        turns,
    };
    let ids: Vec<JobId> = chosen.iter().map(|choice| choice.job.token.job).collect();
    let row = sqlx::query(WRITE)
        .bind(serde_json::to_string(&written).map_err(unwritable)?)
        .bind(tx.now.0)
        .bind(serde_json::to_string(&(ids, again)).map_err(unwritable)?)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.count(Some(JobState::Queued), transition.to, chosen.len() as u64);
    tx.tally.grants += i64::try_from(chosen.len()).unwrap_or(0);
    tx.weight += visits.len();
    read_classes(row.get(0))
}

/// Whether a job that must run alone could be leased, and when it is worth asking again although nothing happens.
fn outlook(tx: &Tx<'_>, request: &LeaseRequest, opening: &Opening) -> (bool, Option<Duration>) {
    let paused_until = tx.tally.paused_until;
    let alone = opening.classes.iter().find(|(class, _)| *class == ALONE).map(|(_, open_at)| *open_at);
    let alone_waiting = paused_until <= tx.now && alone.is_some_and(|open_at| open_at <= tx.now);
    // What must run alone and could is said by `alone_waiting`; it is no reason to ask for anything else.
    // A process that can be given nothing as it is now must not be told to ask at once, and again at once.
    let is_eligible = opening.alive
        && if request.alone { opening.holds == Holds::Nothing } else { opening.holds != Holds::Alone };
    let is_wanted = |class: i64, open_at: Timestamp| match class {
        _ if !is_eligible => false,
        ALONE => request.alone || open_at.max(paused_until) > tx.now,
        _ => !request.alone,
    };
    let wanted = opening.classes.iter().filter(|(class, open_at)| is_wanted(*class, *open_at));
    let opens = wanted.map(|(_, open_at)| (*open_at).max(paused_until)).min();
    let next = opens.into_iter().chain(opening.expires).filter(|at| *at != Timestamp::NEVER).min();
    (alone_waiting, next.map(|at| at.after(tx.now)))
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements = super::plans::named![OPENING, WRITE];
