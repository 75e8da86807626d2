//! Publishes what the queue recorded and nobody published: a crash came between, or the store ended the job itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use longhaul_events::Event;
use longhaul_queue_core::{JobId, JobPage, JobRecord, JobState, StoreId};
use longhaul_worker::ended_from_record;

use crate::publisher::{mark, publish};
use crate::shared::Shared;

/// So many rows are read and published at a time (INV-BOUNDED).
const PAGE: usize = 256;

/// So long a living process of the same store is left to publish what it settled.
const OWNERS_TIME: Duration = Duration::from_mins(1);

/// What a recovery did.
#[derive(Debug, Default)]
pub(crate) struct Recovered {
    /// Jobs whose file was gone and that are queued again.
    pub(crate) requeued: u64,
    /// Jobs that are still unpublished.
    pub(crate) left: u64,
}

/// Goes once through what is unpublished in `store`. Jobs of this very run are left to its publisher.
///
/// A run without a store hears in this way of jobs that no process ended, and has nothing to publish of them.
pub(crate) async fn recover(shared: Arc<Shared>, store: Option<StoreId>) -> Recovered {
    let has_store = store.is_some();
    // The empty id is nobody's, so it lists just what no process ended.
    let store = store.unwrap_or_else(|| StoreId(String::new()));
    let mut recovered = Recovered::default();
    let others_publish = has_store && shares_store(&shared, &store).await;
    let mut after = None;
    loop {
        let page = JobPage { after, limit: PAGE };
        let records = match shared.persist(|| shared.admin.unpublished(&store, page)).await {
            Ok(records) => records,
            Err(error) => {
                tracing::error!(%error, "what is unpublished cannot be listed");
                return recovered;
            }
        };
        let Some(last) = records.last() else { return recovered };
        after = Some(last.id);
        let mut batch = Vec::with_capacity(records.len());
        let mut ended_by_the_store = BTreeMap::new();
        // Asked after the listing: a job of ours is registered from before its settlement until it is published.
        let is_anothers =
            |record: &JobRecord| others_publish && is_recent(&shared, record) && record.outcome.is_some();
        let left =
            records.iter().filter(|record| !shared.registry.is_ours(record.id) && !is_anothers(record));
        for record in left {
            match ended_from_record(record) {
                Ok(ended) => {
                    ended_by_the_store.extend(end_of_the_store(record).map(|event| (record.id.0, event)));
                    batch.push(ended);
                }
                Err(error) => {
                    recovered.left += 1;
                    tracing::error!(%error, artifact = %record.artifact_id, "cannot be published");
                }
            }
        }
        if !has_store {
            let ids: Vec<JobId> = batch.iter().map(|ended| JobId(ended.number)).collect();
            mark(&shared, &ids).await;
        } else if !batch.is_empty() {
            let published = publish(&shared, batch).await;
            // What is not published yet is listed again by the next recovery, and told then.
            for again in &published.again {
                ended_by_the_store.remove(&again.number);
            }
            recovered.requeued += published.requeued;
            recovered.left += published.again.len() as u64;
            if let Some(why) = published.why {
                tracing::warn!(jobs = published.again.len(), %why, "not published yet");
            }
        }
        for event in ended_by_the_store.values() {
            shared.emit(event);
        }
    }
}

/// Whether another living process works for the same store.
async fn shares_store(shared: &Shared, store: &StoreId) -> bool {
    let now = shared.wall_ms();
    let workers = shared.admin.workers().await.unwrap_or_else(|error| {
        shared.store_failed(&error);
        Vec::new()
    });
    workers.iter().any(|worker| {
        worker.id != shared.worker && worker.expires_at.0 > now && worker.store.as_ref() == Some(store)
    })
}

/// Whether whoever settled the job may just be about to publish it. Were it published here too, it would get a second
/// line in the manifest.
fn is_recent(shared: &Shared, record: &JobRecord) -> bool {
    let ended_at = record.finished_at.unwrap_or(record.updated_at).0;
    shared.wall_ms().saturating_sub(ended_at) < OWNERS_TIME.as_millis() as i64
}

/// What to tell of a job that the store itself ended (its processes died once too often): it was settled by no process,
/// so nobody has told the observers yet.
fn end_of_the_store(record: &JobRecord) -> Option<Event> {
    let ended = record.state == JobState::Error && record.outcome.is_none();
    ended.then(|| Event::JobSettled {
        job: record.id.0,
        artifact_id: record.artifact_id.to_string(),
        verdict: "error",
        state: record.state.as_str(),
        reason: record.reason.clone().unwrap_or_default(),
        detail: record.last_error.clone().unwrap_or_default(),
        resolver: None,
        bytes: 0,
        elapsed: Duration::ZERO,
    })
}
