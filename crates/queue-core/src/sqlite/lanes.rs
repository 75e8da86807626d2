//! What is remembered of lanes, and the turns by which they give.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use longhaul_limiter::{Claim, Controllers, HostPace, Lane, LaneRules, PaceState, PenaltyBox, StatedLimits};
use serde::{Deserialize, Serialize};
use sqlx::Row as _;

use super::open::failed;
use super::rows::{Changes, corrupt, list, unwritable};
use super::tx::Tx;
use crate::{LaneClosure, LaneReport, Result, Started, Timestamp};

/// Failures in a row that are a strike.
const FAILURES_STRIKE: i64 = 5;
/// A lane that was closed is on probation while it gives at most so many slots: one failure closes it again.
const PROBATION: i64 = 4;
/// A reopening lane that has come this far gives what is configured.
const REOPENED: i64 = 64;

/// A lane's row. The default is a lane that nothing is remembered of.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct LaneState {
    pub(super) lane: String,
    pub(super) not_before: i64,
    pub(super) cause: Option<String>,
    pub(super) reopening: Option<i64>,
    pub(super) failures: i64,
    pub(super) served_at: i64,
    pub(super) penalty: Option<String>,
    pub(super) pace: String,
    pub(super) paused_until: i64,
    pub(super) pause_reason: Option<String>,
    /// Its [`Controllers`].
    pub(super) host: Option<String>,
}

impl Default for LaneState {
    fn default() -> Self {
        Self {
            lane: String::new(),
            not_before: 0,
            cause: None,
            reopening: None,
            failures: 0,
            served_at: 0,
            penalty: None,
            pace: "{}".to_owned(),
            paused_until: 0,
            pause_reason: None,
            host: None,
        }
    }
}

/// A [`LaneState`] as a JSON list, of the lane that the expression names and a left join that may find no row for it.
macro_rules! lane_state {
    ($lane:literal) => {
        concat!(
            "CASE WHEN l.lane IS NULL THEN json_array(",
            $lane,
            ") ELSE json_array(l.lane, l.not_before, l.cause, l.reopening, l.failures, l.served_at, l.penalty, l.pace, \
             l.paused_until, l.pause_reason, l.host) END"
        )
    };
}
pub(super) use lane_state;

impl LaneState {
    /// Reads a `lane_state`.
    pub(super) fn read(list: &str) -> Result<Self> {
        serde_json::from_str(list).map_err(corrupt("a lane"))
    }

    /// Until when the lane is closed, by a cool-down or a pause; at most `now` if it is open.
    pub(super) fn closed_until(&self) -> Timestamp {
        Timestamp(self.not_before.max(self.paused_until))
    }

    /// How many slots the lane has, given the asking process' cap.
    pub(super) fn cap(&self, configured: Option<u32>) -> Option<u32> {
        let reopening = self.reopening.map(|slots| u32::try_from(slots).unwrap_or(1));
        match (configured, reopening) {
            (Some(cap), Some(slots)) => Some(cap.min(slots)),
            (cap, slots) => cap.or(slots),
        }
    }

    pub(super) fn pace(&self) -> Result<PaceState> {
        serde_json::from_str(&self.pace).map_err(corrupt("the pace of a lane"))
    }

    pub(super) fn set_pace(&mut self, mut pace: PaceState, now: Timestamp) -> Result<()> {
        pace.forget_before(now.since_epoch());
        self.pace = serde_json::to_string(&pace).map_err(unwritable)?;
        Ok(())
    }

    fn controllers(&self) -> Result<Controllers> {
        let none = Ok(Controllers::default());
        self.host
            .as_ref()
            .map_or(none, |text| serde_json::from_str(text).map_err(corrupt("the pace of a host")))
    }

    fn set_controllers(&mut self, controllers: &Controllers) -> Result<()> {
        let text = (!controllers.is_empty()).then(|| serde_json::to_string(controllers));
        self.host = text.transpose().map_err(unwritable)?;
        Ok(())
    }

    /// The slowest pace that the host asks for or was seen to bear.
    pub(super) fn host_pace(&self, now: Timestamp) -> Result<Option<HostPace>> {
        Ok(self.controllers()?.slowest(now.since_epoch()))
    }

    /// For how long it is closed, and why.
    fn closure(&self, now: Timestamp) -> Result<LaneClosure> {
        Ok(LaneClosure {
            lane: Lane::new(self.lane.clone()).map_err(corrupt("a lane"))?,
            length: Timestamp(self.not_before).after(now),
            cause: self.cause.clone().unwrap_or_default(),
        })
    }

    /// Takes in what a claim's holder says. True if something ends that turns may have been put off for; what is learned
    /// changes by little.
    fn apply(&mut self, report: &LaneReport, claim: Claim, now: Timestamp) -> Result<bool> {
        match report {
            LaneReport::Served { .. } => {
                self.failures = 0;
                self.served_at = now.0;
                if now.0 >= self.not_before {
                    let at = now.since_epoch();
                    let mut host = self.controllers()?;
                    let before = host.slowest(at);
                    host.served(at, self.reopening == Some(1));
                    self.set_controllers(&host)?;
                    self.reopening = self.reopening.map(|slots| slots + 1).filter(|slots| *slots < REOPENED);
                    let after = host.slowest(at);
                    if HostPace::is_much_faster(before, after) {
                        return self.host_pace_changed(before, after, now);
                    }
                }
            }
            LaneReport::Failed { cause, .. } => {
                self.failures += 1;
                if self.failures >= FAILURES_STRIKE || self.is_on_probation(now) {
                    self.failures = 0;
                    self.strike(cause, now)?;
                }
            }
            LaneReport::Throttled { retry_after, cause, .. } => {
                let (was_open, is_first) = (now.0 >= self.not_before, self.reopening == Some(1));
                let said = retry_after.filter(|length| !length.is_zero());
                if said.is_none() || (was_open && is_first) {
                    self.strike(&LaneReport::why_struck(cause, said), now)?;
                }
                if let Some(length) = said {
                    self.close(length.min(LaneReport::LONGEST_CLOSURE), cause, now);
                }
                // Of many that are refused at once one is judged.
                if was_open {
                    let mut host = self.controllers()?;
                    host.refused(now.since_epoch(), Timestamp(self.not_before).after(now), is_first);
                    self.set_controllers(&host)?;
                }
            }
            LaneReport::Paced { controller, every, valid_for, .. } => {
                let at = now.since_epoch();
                let mut host = self.controllers()?;
                let before = host.slowest(at);
                host.said(*controller, *every, *valid_for, at);
                self.set_controllers(&host)?;
                return self.host_pace_changed(before, host.slowest(at), now);
            }
            LaneReport::Unused { role, .. } => {
                let mut pace = self.pace()?;
                if pace.take_back(claim, *role) {
                    self.set_pace(pace, now)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Counts its starts by another pace of its host's from now on. True if that is faster.
    fn host_pace_changed(
        &mut self,
        before: Option<HostPace>,
        after: Option<HostPace>,
        now: Timestamp,
    ) -> Result<bool> {
        let mut pace = self.pace()?;
        let is_faster = pace.host_pace_changed(before, after, now.since_epoch());
        self.set_pace(pace, now)?;
        Ok(is_faster)
    }

    /// Whether it is open after a closure and has not yet shown that it is well again.
    fn is_on_probation(&self, now: Timestamp) -> bool {
        now.0 >= self.not_before && self.reopening.is_some_and(|slots| slots <= PROBATION)
    }

    /// A lane that is closed stays as it is: what fails there was under way before.
    fn strike(&mut self, cause: &str, now: Timestamp) -> Result<()> {
        if now.0 < self.not_before {
            return Ok(());
        }
        let mut penalty: PenaltyBox = match &self.penalty {
            Some(text) => serde_json::from_str(text).map_err(corrupt("the penalty of a lane"))?,
            None => PenaltyBox::default(),
        };
        let closure = penalty.strike(now.since_epoch(), fastrand::f64());
        self.penalty = Some(serde_json::to_string(&penalty).map_err(unwritable)?);
        self.close(closure, cause, now);
        Ok(())
    }

    /// Closes the lane, never for less than it is closed already (INV-COOLDOWN); it reopens with one slot.
    pub(super) fn close(&mut self, length: Duration, cause: &str, now: Timestamp) {
        let until = now.plus(length).0;
        if until > self.not_before {
            self.not_before = until;
            self.cause = Some(cause.chars().take(500).collect());
        }
        self.reopening = Some(1);
    }
}

/// The limits that other processes state, a JSON list of texts.
pub(super) fn stated(list: &str) -> Result<Vec<LaneRules>> {
    let texts: BTreeSet<String> = serde_json::from_str(list).map_err(corrupt("the limits of a process"))?;
    Ok(rules_of(texts))
}

/// The limits that processes state.
pub(super) fn rules_of(texts: impl IntoIterator<Item = String>) -> Vec<LaneRules> {
    texts.into_iter().map(|text| StatedLimits::from_text(text).rules()).collect()
}

const LOAD: &str = concat!(
    "SELECT json_group_array(",
    lane_state!("q.value"),
    ") FROM jsonb_each(?1) q LEFT JOIN lanes l ON l.lane = q.value"
);

/// Reads what is remembered of lanes; those without a row are filled with the default.
pub(super) async fn load(tx: &mut Tx<'_>, lanes: &BTreeSet<String>) -> Result<BTreeMap<String, LaneState>> {
    let row = sqlx::query(LOAD)
        .bind(serde_json::to_string(lanes).map_err(unwritable)?)
        .fetch_one(&mut *tx.conn)
        .await
        .map_err(failed)?;
    Ok(by_name(list(row.get(0))?))
}

pub(super) fn by_name(lanes: Vec<LaneState>) -> BTreeMap<String, LaneState> {
    lanes.into_iter().map(|state| (state.lane.clone(), state)).collect()
}

/// Writes lanes that stand in a JSON text, which is named as `jsonb_each` takes it. A macro, since statements are literals.
macro_rules! upsert_lanes {
    ($list:literal) => {
        concat!(
            "INSERT INTO lanes (lane, not_before, cause, reopening, failures, served_at, penalty, pace, paused_until,
                 pause_reason, host)
             SELECT value ->> 'lane', value ->> 'not_before', value ->> 'cause', value ->> 'reopening',
                 value ->> 'failures', value ->> 'served_at', value ->> 'penalty', value ->> 'pace',
                 value ->> 'paused_until', value ->> 'pause_reason', value ->> 'host'
             FROM jsonb_each(",
            $list,
            ") WHERE true
             ON CONFLICT (lane) DO UPDATE SET not_before = excluded.not_before, cause = excluded.cause,
                 reopening = excluded.reopening, failures = excluded.failures, served_at = excluded.served_at,
                 penalty = excluded.penalty, pace = excluded.pace, paused_until = excluded.paused_until,
                 pause_reason = excluded.pause_reason, host = excluded.host"
        )
    };
}
pub(super) use upsert_lanes;

/// Makes sure that there is a turn for each (lane, class, time, visit) under a path of ?1 that opens then or before.
macro_rules! upsert_turns {
    ($path:literal) => {
        concat!(
            "INSERT INTO turns (lane, class, open_at, visit)
             SELECT value ->> 0, value ->> 1, value ->> 2, value ->> 3 FROM jsonb_each(?1, ",
            $path,
            ") WHERE true
             ON CONFLICT (lane, class) DO UPDATE SET open_at = excluded.open_at WHERE excluded.open_at < open_at"
        )
    };
}
pub(super) use upsert_turns;

const STORE: &str = upsert_lanes!("?1");

/// Writes what is remembered of one lane.
pub(super) async fn store(tx: &mut Tx<'_>, lane: &LaneState) -> Result<()> {
    sqlx::query(STORE)
        .bind(serde_json::to_string(&[lane]).map_err(unwritable)?)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.weight += 1;
    Ok(())
}

/// Applies told starts, and then reports with their jobs' claims, oldest first. Adds the lanes that change, and returns those
/// that are closed for longer than before.
pub(super) fn report(
    changes: &mut Changes,
    mut states: BTreeMap<String, LaneState>,
    reports: &[(&LaneReport, Claim)],
    started: &[Started],
    now: Timestamp,
) -> Result<Vec<LaneClosure>> {
    let before = states.clone();
    for Started { token, place } in started {
        if let Some(state) = states.get_mut(place.lane.as_str()) {
            let mut pace = state.pace()?;
            if pace.started((*token).into(), place.role) {
                state.set_pace(pace, now)?;
                changes.freed([state.lane.clone()]);
            }
        }
    }
    for (report, claim) in reports {
        if let Some(state) = states.get_mut(report.lane().as_str())
            && state.apply(report, *claim, now)?
        {
            changes.reopened([state.lane.clone()]);
        }
    }
    // A lane that reopens has more slots than when its turn was put off for want of one.
    let reopened = states.values().filter(|state| before[&state.lane].reopening != state.reopening);
    changes.reopened(reopened.map(|state| state.lane.clone()));
    let closed = states.values().filter(|state| before[&state.lane].not_before < state.not_before);
    let closed = closed.map(|state| state.closure(now)).collect::<Result<_>>()?;
    // Who holds jobs ahead wants to hear of a closure.
    changes.wake |= states.values().any(|state| before[&state.lane].not_before != state.not_before);
    changes.lanes(states.into_values().filter(|state| before[&state.lane] != *state).collect());
    Ok(closed)
}

/// The names of the lanes that reports are about.
pub(super) fn named<'r>(reports: impl Iterator<Item = &'r LaneReport>) -> BTreeSet<String> {
    reports
        .map(LaneReport::lane)
        .filter(|lane| !lane.is_none())
        .map(|lane| lane.as_str().to_owned())
        .collect()
}

const LOWER_TURNS: &str = upsert_turns!("'$'");

/// Makes sure that there is a turn for each (lane, class) that opens at the given time or before.
pub(super) async fn lower_turns(tx: &mut Tx<'_>, turns: BTreeMap<(String, i64), i64>) -> Result<()> {
    tx.tally.visits += 1;
    let visit = tx.tally.visits;
    let rows: Vec<(String, i64, i64, i64)> =
        turns.into_iter().map(|((lane, class), open_at)| (lane, class, open_at, visit)).collect();
    sqlx::query(LOWER_TURNS)
        .bind(serde_json::to_string(&rows).map_err(unwritable)?)
        .execute(&mut *tx.conn)
        .await
        .map_err(failed)?;
    tx.wake = true;
    tx.weight += rows.len();
    Ok(())
}

const REOPEN_LANE: &str = "UPDATE turns SET open_at = ?1 WHERE lane = ?2 AND open_at > ?1";
/// Every class is named, so that only turns that are put off are touched, and found by their index.
const REOPEN_TURNS: &str =
    "UPDATE turns SET open_at = ?1 WHERE class IN (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10) AND open_at > ?1";

/// Lowers every turn of a lane, or of all: something that had raised them is over.
pub(super) async fn reopen_turns(tx: &mut Tx<'_>, lane: Option<&str>) -> Result<()> {
    let query = match lane {
        Some(lane) => sqlx::query(REOPEN_LANE).bind(tx.now.0).bind(lane),
        None => sqlx::query(REOPEN_TURNS).bind(tx.now.0),
    };
    query.execute(&mut *tx.conn).await.map_err(failed)?;
    tx.wake = true;
    Ok(())
}

/// What the plans are kept of.
#[cfg(test)]
pub(super) const STATEMENTS: super::plans::Statements =
    super::plans::named![LOAD, STORE, LOWER_TURNS, REOPEN_LANE, REOPEN_TURNS];
