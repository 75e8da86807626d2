//! What processes hold that have died. The next run gives it back by itself; without one it stays held.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use longhaul_limiter::{Clock, LaneRules};
use longhaul_queue_core::{Critical, LeaseRequest, RequestNumber, WorkerId, WorkerInfo, WorkerRow};

use super::{Finding, Report};
use crate::output::number_of;
use crate::store::Store;

/// How long this process is a worker process: longer than it takes.
const TTL: Duration = Duration::from_mins(1);
/// A dead process' leases end five seconds after somebody has noticed: so long its host may be at work for it.
const PATIENCE: Duration = Duration::from_secs(15);
/// How often it is looked whether they have ended.
const LOOK: Duration = Duration::from_millis(500);

/// Looks for dead processes that hold jobs, and takes these back.
pub(super) async fn check(
    store: &Store,
    clock: &Arc<dyn Clock>,
    repair: bool,
    report: &mut Report,
) -> Result<()> {
    let dead = dead(store).await?;
    if dead.is_empty() {
        return Ok(());
    }
    if repair {
        take_back(store, clock).await?;
    }
    let left: Vec<WorkerId> = self::dead(store).await?.into_iter().map(|worker| worker.id).collect();
    for worker in dead {
        let jobs = number_of(worker.held, "job is", "jobs are");
        let problem = format!(
            "leases: {jobs} held by worker process {} (pid {} on {}), which has died",
            worker.id, worker.pid, worker.host
        );
        let mended = repair.then(|| {
            if left.contains(&worker.id) {
                Err("its leases have not ended yet; try again in a minute".to_owned())
            } else {
                Ok("given back, each charged a loss".to_owned())
            }
        });
        report.findings.push(Finding::new(problem, mended));
    }
    Ok(())
}

async fn dead(store: &Store) -> Result<Vec<WorkerRow>> {
    let rows = store.admin.workers().await?;
    Ok(rows.into_iter().filter(|row| !row.alive && row.held > 0).collect())
}

/// Does what a run does before it leases: ends the leases of those that died, and gives their jobs back. It leases none.
async fn take_back(store: &Store, clock: &Arc<dyn Clock>) -> Result<()> {
    let us = WorkerInfo {
        id: WorkerId::random(),
        host: "queue check".to_owned(),
        pid: std::process::id(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        store: None,
        limits: None,
    };
    store.queue.join(&us, TTL).await?;
    let rules = Arc::new(LaneRules { keying: store.keying.clone(), ..LaneRules::default() });
    let until = clock.monotonic() + PATIENCE;
    let mut number = 0;
    loop {
        number += 1;
        let request = LeaseRequest {
            worker: us.id.clone(),
            number: RequestNumber(number),
            max: 0,
            ahead: 0,
            alone: false,
            // How many deaths are too many is for a run to say; it also writes the manifest line then.
            max_losses: u32::MAX,
            rules: Arc::clone(&rules),
            lead: Duration::ZERO,
            critical: Critical::default(),
            started: Vec::new(),
        };
        store.queue.lease(&request).await?;
        if dead(store).await?.is_empty() || clock.monotonic() >= until {
            break;
        }
        clock.sleep(LOOK).await;
    }
    Ok(store.queue.leave(&us.id).await?)
}
