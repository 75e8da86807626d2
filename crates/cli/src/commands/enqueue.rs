//! `longhaul queue enqueue`.

use std::sync::Arc;

use anyhow::Result;
use longhaul_limiter::Clock;
use longhaul_pipeline::{Record, RecordError};
use longhaul_queue_core::{Enqueued, WorkQueueExt};
use serde_json::{Map, Value};

use super::import::{import, open_all};
use crate::args::{EnqueueArgs, Format, Global, ImportArgs};
use crate::exit::Exit;
use crate::import::{Making, new_job, with_in_front};
use crate::output::{Console, print_data, printable};
use crate::store::Store;

/// Enqueues one artifact, or imports a file.
pub(crate) async fn enqueue(
    global: &Global,
    args: EnqueueArgs,
    console: &Console,
    clock: Arc<dyn Clock>,
) -> Result<Exit> {
    let Some(id) = args.id else {
        let files = args.input.into_iter().collect();
        let import_args = ImportArgs {
            files,
            from_docstokg: None,
            limit: None,
            rejects: None,
            strict: false,
            format: args.format,
        };
        open_all(&import_args.files)?;
        return import(global, import_args, console, clock).await;
    };
    let record = match record(&id, args.json.as_deref()) {
        Ok(record) => record,
        Err(error) => {
            console.error(&format!("{id} is not enqueued: {error}"));
            return Ok(Exit::Rejected);
        }
    };
    let store = Store::open(global, true, Arc::clone(&clock)).await?;
    let making = Making { keying: store.keying.clone(), clock };
    let answer = store.queue.enqueue_one(new_job(&record, &making)?).await?;
    let (job, new) = match answer {
        Enqueued::New(job) => (job, true),
        Enqueued::Duplicate(job) => (job, false),
    };
    let id = &record.artifact_id;
    print_data(&match args.format {
        Format::Json | Format::Jsonl => {
            serde_json::json!({ "id": id, "job": job.0, "added": new }).to_string()
        }
        Format::Table if new => format!("added {} as job {job}", printable(id)),
        Format::Table => format!("{} is job {job} already; it is left as it is", printable(id)),
    })?;
    Ok(Exit::Success)
}

/// The record of an id and, maybe, an object with more about it.
fn record(id: &str, json: Option<&str>) -> Result<Record, String> {
    let wrong = |error: RecordError| error.to_string();
    let named = named(id).map_err(wrong)?;
    let Some(json) = json else { return Ok(named) };
    // What is no object is refused by the record's own reader, in its words.
    let Ok(Value::Object(given)) = serde_json::from_str(json) else {
        return Record::from_payload(json).map_err(wrong);
    };
    let has_id = ["id", "artifact_id"].iter().any(|field| given.contains_key(*field));
    if has_id {
        let record = Record::from_payload(json).map_err(wrong)?;
        if record.artifact_id != named.artifact_id {
            return Err(format!("the object calls it {:?}", record.artifact_id));
        }
        return Ok(record);
    }
    Record::from_payload(&with_fields(json, &given, &named)).map_err(wrong)
}

/// What the id alone says: a DOI or a URL says where to look, anything else is just a name.
pub(super) fn named(id: &str) -> Result<Record, RecordError> {
    match Record::parse_line(id) {
        Ok(Some(record)) => Ok(record),
        Ok(None) => Err(RecordError::EmptyId { field: "ID" }),
        Err(RecordError::Unrecognised { .. } | RecordError::NotAnObject { .. }) => {
            Record::from_payload(&serde_json::json!({ "id": id }).to_string())
        }
        Err(error) => Err(error),
    }
}

/// The object's own text with the fields that the id brings and the object has not, put in front.
fn with_fields(json: &str, given: &Map<String, Value>, named: &Record) -> String {
    let brought: Map<String, Value> = serde_json::from_str(named.payload()).unwrap_or_default();
    let brought: Map<String, Value> =
        brought.into_iter().filter(|(field, _)| !given.contains_key(field)).collect();
    with_in_front(json, brought)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(id: &str, json: Option<&str>) -> Record {
        record(id, json).unwrap()
    }

    #[test]
    fn an_id_alone_is_enough() {
        assert_eq!(made("10.1000/X", None).artifact_id, "doi:10.1000/x");
        assert_eq!(made("https://example.org/a.pdf", None).candidates().len(), 1);
        assert_eq!(made("my-own-17", None).artifact_id, "my-own-17");
        assert_eq!(made("17", None).artifact_id, "17");
        assert!(record(" ", None).is_err());
    }

    #[test]
    fn what_is_known_beside_the_id_is_kept_as_it_came() {
        let record = made("https://example.org/a.pdf", Some(r#" { "title": "T",  "x": {"y": 1.50} } "#));
        assert_eq!((record.title.as_deref(), record.candidates().len()), (Some("T"), 1));
        assert!(record.payload().contains(r#""title": "T",  "x": {"y": 1.50} }"#), "{}", record.payload());
        assert_eq!(made("a", Some("{}")).payload(), r#"{"id":"a"}"#);
        assert_eq!(made("10.1/A", Some(r#"{"doi":"10.1/a"}"#)).artifact_id, "doi:10.1/a");
        assert_eq!(made("10.1/A", Some(r#"{"id":"doi:10.1/a"}"#)).payload(), r#"{"id":"doi:10.1/a"}"#);
    }

    #[test]
    fn an_object_that_contradicts_the_id_or_is_none_is_refused() {
        assert!(record("a", Some(r#"{"id":"b"}"#)).unwrap_err().contains("calls it \"b\""));
        assert!(record("a", Some("[1]")).is_err());
        assert!(record("a", Some(r#"{"x":1,"x":2}"#)).unwrap_err().contains("stands twice"));
        assert!(record("a", Some(r#"{"title":5}"#)).unwrap_err().contains("`title` is a number"));
    }
}
