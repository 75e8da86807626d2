//! How SQLite carries out the store's statements. Nothing here is part of the program.
//!
//! One missing index, and a queue of ten million jobs answers in seconds what one of a thousand answers in
//! microseconds; no other test notices. So the plan of every statement is kept as a snapshot, and what must never be
//! in one is asserted beside it: a snapshot that somebody accepts cannot hide it.

use std::sync::Arc;
use std::time::Duration;

use longhaul_limiter::ManualClock;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Row as _, SqliteConnection};

use super::{
    admin, admit, adopt, enqueue, heads, lanes, lease, read, rows, settle, survey, tx, visits, watch, workers,
};
use crate::{
    ArtifactId, Critical, Lane, LaneRules, LeaseRequest, NewJob, Place, QueueAdmin as _, RequestNumber, Role,
    Settlement, SqliteOptions, SqliteQueue, StoreId, Verdict, WorkQueue as _, WorkerId, WorkerInfo,
};

/// The statements of one module, each with the name of its constant.
pub(super) type Statements = &'static [(&'static str, &'static str)];

/// Names constants after themselves.
macro_rules! named {
    ($($statement:ident),* $(,)?) => { &[$((stringify!($statement), $statement)),*] };
}
pub(super) use named;

/// Every module that speaks SQL while a queue is at work, its statements, and its source.
const MODULES: [(&str, Statements, &str); 15] = [
    ("admin", admin::STATEMENTS, include_str!("admin.rs")),
    ("admit", admit::STATEMENTS, include_str!("admit.rs")),
    ("adopt", adopt::STATEMENTS, include_str!("adopt.rs")),
    ("enqueue", enqueue::STATEMENTS, include_str!("enqueue.rs")),
    ("heads", heads::STATEMENTS, include_str!("heads.rs")),
    ("lanes", lanes::STATEMENTS, include_str!("lanes.rs")),
    ("lease", lease::STATEMENTS, include_str!("lease.rs")),
    ("read", read::STATEMENTS, include_str!("read.rs")),
    ("rows", rows::STATEMENTS, include_str!("rows.rs")),
    ("settle", settle::STATEMENTS, include_str!("settle.rs")),
    ("survey", survey::STATEMENTS, include_str!("survey.rs")),
    ("tx", tx::STATEMENTS, include_str!("tx.rs")),
    ("visits", visits::STATEMENTS, include_str!("visits.rs")),
    ("watch", watch::STATEMENTS, include_str!("watch.rs")),
    ("workers", workers::STATEMENTS, include_str!("workers.rs")),
];

/// What may be walked from end to end, in which statement, and why that is little.
const MAY_SCAN: [(&str, &str, &str); 5] = [
    ("visits::VISITS", "SCAN t", "the turns of one pass, which were cut out of their index"),
    ("read::LANES", "SCAN q", "a page of names that was cut out of three indexes"),
    ("read::WORKERS", "SCAN w", "one row a worker process, and all of them are asked for"),
    ("survey::BACKLOGS", "SCAN q", "a page of lanes that was cut out of the index"),
    ("workers::BINDS_OTHERS", "SCAN o", "one row a worker process, when one of them is gone"),
];

/// Constants that are no statement or touch no table.
const NO_STATEMENT: [&str; 3] = ["COMMIT", "DATA_VERSION", "EXPIRED"];

/// A queue with a few thousand jobs in every state, as its own verbs make it.
async fn queue(folder: &tempfile::TempDir) -> SqliteConnection {
    let path = folder.path().join("queue.sqlite");
    let queue =
        SqliteQueue::open(SqliteOptions::new(&path), Arc::new(ManualClock::new())).await.expect("a queue");
    let jobs: Vec<NewJob> = (0..3_000)
        .map(|number| {
            let lane = Lane::new(format!("h{}.example", number % 100)).expect("a lane");
            NewJob::new(ArtifactId::new(format!("a{number}")).expect("an id"), "{}")
                .at(Place::new(lane, Role::Artifact))
        })
        .collect();
    queue.enqueue(&jobs).await.expect("enqueued");
    let id = WorkerId::from_text("w");
    let store = Some(StoreId("s".to_owned()));
    let worker =
        WorkerInfo { id: id.clone(), host: "here".into(), pid: 1, version: "0".into(), store, limits: None };
    queue.join(&worker, Duration::from_mins(2)).await.expect("joined");
    let rules = Arc::new(LaneRules::unlimited());
    let request = |number| LeaseRequest {
        worker: id.clone(),
        number: RequestNumber(number),
        max: 1_000,
        ahead: 0,
        alone: false,
        max_losses: 5,
        rules: Arc::clone(&rules),
        lead: Duration::ZERO,
        critical: Critical::default(),
        started: Vec::new(),
    };
    let held = queue.lease(&request(1)).await.expect("leased").jobs;
    let verdict = |number: usize| {
        let (reason, outcome, detail) = ("gone".to_owned(), "{}".to_owned(), String::new());
        match number % 3 {
            0 => Verdict::Done { reason, outcome, file: None },
            1 => Verdict::Skipped { reason, outcome, detail },
            _ => Verdict::Error { reason, outcome, detail },
        }
    };
    let ended: Vec<Settlement> =
        held.iter().enumerate().map(|(number, job)| Settlement::new(job.token, verdict(number))).collect();
    queue.settle(&ended, Some(&request(2))).await.expect("settled");
    let published: Vec<_> = held.iter().take(900).map(|job| job.token.job).collect();
    queue.published(&published).await.expect("published");
    queue.pause(Some(&Lane::new("h1.example").expect("a lane")), None, "a test").await.expect("paused");
    drop(queue);
    SqliteConnectOptions::new().filename(&path).connect().await.expect("a connection")
}

/// The statements of a text. Ours have no semicolon within a literal.
fn split(text: &str) -> impl Iterator<Item = &str> {
    text.split(';').map(str::trim).filter(|statement| !statement.is_empty())
}

/// The plan of one statement: a line a step, indented by its depth.
async fn plan(conn: &mut SqliteConnection, statement: &str) -> String {
    let text = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {statement}"));
    let steps = sqlx::query(text).fetch_all(conn).await.expect("a statement that this schema knows");
    let mut depths = std::collections::HashMap::from([(0, 0)]);
    let mut plan = String::new();
    for step in steps {
        let (id, parent, detail): (i64, i64, &str) = (step.get("id"), step.get("parent"), step.get("detail"));
        let depth = depths.get(&parent).copied().unwrap_or(0) + 1;
        depths.insert(id, depth);
        plan.push_str(&"  ".repeat(depth));
        plan.push_str(detail);
        plan.push('\n');
    }
    plan
}

/// What must never be in a plan: a walk over a whole table or index, or a sort. A list that the statement was given, the
/// one row of counters and a subquery, whose own steps are looked at, are no table.
fn faults(plan: &str) -> impl Iterator<Item = &str> {
    let is_no_table = |step: &str| {
        ["SCAN tally", "SCAN CONSTANT ROW", "SCAN (subquery"].iter().any(|start| step.starts_with(start))
            || step.contains(" VIRTUAL TABLE ")
    };
    plan.lines()
        .map(str::trim)
        .filter(move |step| step.contains("TEMP B-TREE") || (step.starts_with("SCAN ") && !is_no_table(step)))
}

#[tokio::test]
async fn inv_bounded_every_statement_finds_its_rows_by_an_index() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut conn = queue(&folder).await;
    let mut texts: Vec<(String, String)> = Vec::new();
    for (module, statements, _) in MODULES {
        for (name, text) in statements {
            let all: Vec<&str> = split(text).collect();
            for (number, statement) in all.iter().enumerate() {
                let number = if all.len() > 1 { format!(", {}", number + 1) } else { String::new() };
                texts.push((format!("{module}::{name}{number}"), (*statement).to_owned()));
            }
        }
    }
    for (module, built) in [("admin", admin::built()), ("read", read::built())] {
        for (name, query) in built {
            texts.push((format!("{module}::{name}"), query.sql().as_str().to_owned()));
        }
    }
    let (mut plans, mut found) = (String::new(), Vec::new());
    for (name, text) in texts {
        let plan = plan(&mut conn, &text).await;
        let is_allowed = |fault: &str| MAY_SCAN.iter().any(|(of, step, _)| name == *of && fault == *step);
        found
            .extend(faults(&plan).filter(|fault| !is_allowed(fault)).map(|fault| format!("{name}: {fault}")));
        plans.extend([name.as_str(), "\n", plan.as_str()]);
    }
    assert_eq!(found, [""; 0], "statements that walk a whole table or sort");
    insta::assert_snapshot!("plans", plans);
}

/// What a bare parameter bounds the rows of a statement with goes into its plan, so that each new value has it prepared
/// anew: 20 us, in what runs once for every batch. A plus before it prevents that.
#[test]
fn what_every_batch_runs_is_prepared_once() {
    let hot = ["heads", "lease", "rows", "settle", "tx"];
    for (module, statements, _) in MODULES.iter().filter(|(module, ..)| hot.contains(module)) {
        for (name, text) in *statements {
            assert!(!text.contains("LIMIT ?"), "{module}::{name}: write LIMIT +?");
        }
    }
}

/// What stands within a function has no name here, and nobody would look at its plan.
#[test]
fn every_statement_is_in_the_list() {
    for (module, statements, source) in MODULES {
        for call in ["query(", "query_scalar(", "query_as("] {
            for (at, _) in source.match_indices(call) {
                let text = source[at + call.len()..].trim_start();
                assert!(
                    !text.starts_with(['"', 'c']),
                    "{module}: {call}{}",
                    text.lines().next().unwrap_or("")
                );
            }
        }
        for line in source.lines().filter(|line| line.contains("const ") && line.contains(": &str =")) {
            let name = line.split("const ").nth(1).and_then(|rest| rest.split(':').next()).expect("a name");
            let is_known = statements.iter().any(|(known, _)| *known == name);
            assert!(is_known || NO_STATEMENT.contains(&name), "{module}::{name} is not in the list");
        }
    }
}

#[test]
fn what_must_not_be_in_a_plan_is_seen() {
    let plan = "  SEARCH jobs USING INDEX jobs_slot (slot=?)\n  SCAN j USING INDEX jobs_error\n  SCAN tally\n    \
                SCAN q VIRTUAL TABLE INDEX 1:\n  SCAN jobs\n  USE TEMP B-TREE FOR ORDER BY\n";
    let found: Vec<&str> = faults(plan).collect();
    assert_eq!(found, ["SCAN j USING INDEX jobs_error", "SCAN jobs", "USE TEMP B-TREE FOR ORDER BY"]);
}
