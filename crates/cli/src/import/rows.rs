//! Reads the rows of an old queue, and makes of each a job that is taken over.

use anyhow::Result;
use longhaul_pipeline::{Record, RecordError};
use longhaul_queue_core::{AdoptedJob, DocsToKgJob, DocsToKgQueue, DocsToKgRow};
use serde_json::{Map, Value};
use tokio::sync::mpsc;

use super::reading::{BATCH, Batch, Making};
use super::rejects::Rejected;
use super::{new_job, with_in_front};

/// Reads up to `left` good rows, from the first one on.
pub(super) async fn read_rows(
    old: &mut DocsToKgQueue,
    mut left: u64,
    making: &Making,
    batches: &mpsc::Sender<Batch>,
) -> Result<()> {
    let name = old.path().display().to_string();
    old.rewind();
    loop {
        let rows = old.next(BATCH).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let mut batch = Batch { source: name.clone(), ..Batch::default() };
        for row in rows {
            if left == 0 {
                batch.limit_reached = true;
                break;
            }
            batch.lines += 1;
            batch.last_line = row.id.max(0).unsigned_abs();
            match adopted(&row, making) {
                Ok(job) => {
                    batch.adopted.push(job);
                    left -= 1;
                }
                Err(reason) => batch.rejected.push(Rejected::row(&name, row, reason)),
            }
        }
        let limit_reached = batch.limit_reached;
        if batches.send(batch).await.is_err() || limit_reached {
            return Ok(());
        }
    }
}

/// The job of a row, or what is wrong with the row.
fn adopted(row: &DocsToKgRow, making: &Making) -> Result<AdoptedJob, String> {
    let old: &DocsToKgJob = row.job.as_ref().map_err(Clone::clone)?;
    let wrong = |error: RecordError| format!("`artifact_json`: {error}");
    let record = record(&row.artifact_json, row.artifact_id.as_deref()).map_err(wrong)?;
    let mut job = new_job(&record, making).map_err(wrong)?;
    job.resolver_hint = old.resolver_hint.clone().or(job.resolver_hint);
    Ok(AdoptedJob {
        job,
        state: old.state,
        attempts: old.attempts,
        last_error: old.last_error.clone(),
        created_at: old.created_at,
        updated_at: old.updated_at,
        available_at: old.available_at,
    })
}

/// The artifact; if it does not know its key, with the one that its row has.
fn record(json: &str, id: Option<&str>) -> Result<Record, RecordError> {
    match (Record::from_payload(json), id) {
        (Err(RecordError::MissingId | RecordError::EmptyId { .. }), Some(id)) => {
            Record::from_payload(&with_id(json, id))
        }
        (record, _) => record,
    }
}

/// The object with an id where a record has it. Its own text stays as it is, unless the id's place lies within it.
fn with_id(json: &str, id: &str) -> String {
    let Ok(Value::Object(mut object)) = serde_json::from_str(json) else { return json.to_owned() };
    let brought = || ("artifact_id".to_owned(), Value::from(id));
    let has_place = ["id", "artifact_id"].iter().any(|field| object.contains_key(*field));
    match object.get_mut("artifact") {
        Some(Value::Object(inner)) => {
            inner.extend([brought()]);
            inner.remove("id");
        }
        _ if has_place => {
            object.extend([brought()]);
            object.remove("id");
        }
        _ => return with_in_front(json, Map::from_iter([brought()])),
    }
    Value::Object(object).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(json: &str) -> Record {
        record(json, Some("10.1000/ROW")).unwrap()
    }

    #[test]
    fn an_artifact_without_an_id_has_that_of_its_row() {
        for json in [
            r#"{"title":"T"}"#,
            r#" { "title" : "T", "n": 1.50 }"#,
            r#"{"title":"T","id":null,"artifact_id":""}"#,
            r#"{"title":"T","id":""}"#,
            r#"{"artifact":{"title":"T"},"context":{"run":1}}"#,
            r#"{"artifact":{"title":"T","id":null}}"#,
        ] {
            let record = made(json);
            assert_eq!(
                (record.artifact_id.as_str(), record.title.as_deref()),
                ("doi:10.1000/row", Some("T"))
            );
            let again = Record::from_payload(record.payload()).unwrap();
            assert_eq!(again, record, "whoever takes the payload up reads the same");
        }
        assert!(
            made(r#" { "title" : "T", "n": 1.50 }"#).payload().ends_with(r#""title" : "T", "n": 1.50 }"#)
        );
        assert_eq!(made("{}").payload(), r#"{"artifact_id":"10.1000/ROW"}"#);
    }

    #[test]
    fn an_artifact_with_an_id_keeps_it() {
        let record = made(r#"{"id":"own"}"#);
        assert_eq!((record.artifact_id.as_str(), record.payload()), ("own", r#"{"id":"own"}"#));
    }

    #[test]
    fn what_has_no_id_at_all_is_refused() {
        assert_eq!(record("{}", None), Err(RecordError::MissingId));
        assert!(matches!(record("[]", Some("a")), Err(RecordError::NotAnObject { .. })));
    }
}
