//! Files such as DocsToKG leaves, for tests of the take-over.

use std::path::Path;

use serde::Serialize;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions as _, Connection as _};

/// A row as DocsToKG writes it.
#[derive(Debug, Clone, Serialize)]
pub struct DocsToKgFileRow {
    /// The artifact's key.
    pub artifact_id: String,
    /// The artifact.
    pub artifact_json: String,
    /// The state's name.
    pub state: String,
    /// Tries so far.
    pub attempts: u32,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Which resolver to ask first.
    pub resolver_hint: Option<String>,
    /// When it was accepted, as ISO 8601.
    pub created_at: String,
    /// When it last changed.
    pub updated_at: String,
    /// When it may be leased.
    pub available_at: Option<String>,
    /// Until when it is held.
    pub lease_expires_at: Option<String>,
    /// Who holds it.
    pub worker_id: Option<String>,
}

impl DocsToKgFileRow {
    /// A row in this state, from the first day of 2024.
    pub fn new(artifact_id: &str, artifact_json: &str, state: &str) -> Self {
        let time = "2024-01-01T12:00:00.000000+00:00".to_owned();
        Self {
            artifact_id: artifact_id.to_owned(),
            artifact_json: artifact_json.to_owned(),
            state: state.to_owned(),
            attempts: 0,
            last_error: None,
            resolver_hint: None,
            created_at: time.clone(),
            updated_at: time.clone(),
            available_at: Some(time),
            lease_expires_at: None,
            worker_id: None,
        }
    }
}

/// Makes a file with these rows, numbered from 1.
///
/// # Panics
/// If it cannot be made.
pub async fn make_docstokg_file(path: &Path, rows: &[DocsToKgFileRow]) {
    let options = SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut conn = options.connect().await.unwrap();
    sqlx::raw_sql(
        "CREATE TABLE IF NOT EXISTS jobs (
             id INTEGER PRIMARY KEY AUTOINCREMENT, artifact_id TEXT NOT NULL, artifact_json TEXT NOT NULL,
             state TEXT NOT NULL, attempts INTEGER NOT NULL DEFAULT 0, last_error TEXT, resolver_hint TEXT,
             created_at TEXT, updated_at TEXT, available_at TEXT, lease_expires_at TEXT, worker_id TEXT)",
    )
    .execute(&mut conn)
    .await
    .unwrap();
    sqlx::query(
        "INSERT INTO jobs (artifact_id, artifact_json, state, attempts, last_error, resolver_hint, created_at, updated_at,
                           available_at, lease_expires_at, worker_id)
         SELECT value ->> 'artifact_id', value ->> 'artifact_json', value ->> 'state', value ->> 'attempts',
                value ->> 'last_error', value ->> 'resolver_hint', value ->> 'created_at', value ->> 'updated_at',
                value ->> 'available_at', value ->> 'lease_expires_at', value ->> 'worker_id'
         FROM json_each(?)",
    )
    .bind(serde_json::to_string(rows).unwrap())
    .execute(&mut conn)
    .await
    .unwrap();
    conn.close().await.unwrap();
}
