//! An origin and a folder in which the program runs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use longhaul_limiter::{LaneRules, SystemClock};
use longhaul_origin::{HostConfig, Origin, OriginConfig};
use longhaul_queue_core::{
    JobFilter, JobPage, JobRecord, JobState, QueueAdmin as _, SqliteOptions, SqliteQueue, StateCounts,
    WorkQueue as _,
};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::program::{Finished, Program};

/// The flags that let the program reach a loopback origin, without a configured pace.
pub const LOCAL: [&str; 5] = ["--allow-network", "127.0.0.0/8", "--rate", "*=off", "--no-robots"];

/// The queue in a folder in which the program runs.
pub(crate) const QUEUE: &str = "state/workqueue.sqlite";

/// An empty folder, on tmpfs where the machine has one at the usual place.
pub(crate) fn folder_in_memory() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    folder.unwrap()
}

/// A queue that is there, beside whatever process uses it.
pub(crate) async fn open_queue(path: &Path) -> SqliteQueue {
    let options = SqliteOptions::new(path).create(false).keying(LaneRules::default().keying);
    SqliteQueue::open(options, Arc::new(SystemClock)).await.unwrap()
}

/// All jobs by artifact id.
pub(crate) async fn all_jobs(queue: &SqliteQueue) -> BTreeMap<String, JobRecord> {
    let page = JobPage { after: None, limit: 1_000_000 };
    let jobs = queue.list(&JobFilter::default(), page).await.unwrap();
    jobs.into_iter().map(|job| (job.artifact_id.to_string(), job)).collect()
}

/// An origin and a folder.
#[derive(Debug)]
pub struct Stage {
    /// The hosts.
    pub origin: Origin,
    folder: tempfile::TempDir,
}

impl Stage {
    /// Hosts and an empty folder; on tmpfs where the machine has one at the usual place, so that the disk's mood
    /// does not decide a measurement.
    pub async fn new(hosts: impl IntoIterator<Item = HostConfig>) -> Self {
        let origin = Origin::start(OriginConfig::new(hosts)).await.unwrap();
        Self { origin, folder: folder_in_memory() }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A record whose only candidate is a PDF on a host.
    pub fn record(&self, id: &str, host: &str, path: &str) -> Value {
        json!({ "id": id, "url": self.origin.url(host, path), "expect": "pdf" })
    }

    /// Writes a JSONL file into the folder and returns its name.
    pub fn write(&self, name: &str, records: &[Value]) -> String {
        let text = records.iter().fold(String::new(), |text, record| text + &format!("{record}\n"));
        std::fs::write(self.folder().join(name), text).unwrap();
        name.to_owned()
    }

    /// Starts the program.
    pub fn start(&self, arguments: &[&str]) -> Program {
        Program::start(self.folder(), arguments)
    }

    /// Starts `queue run` with the flags for a loopback origin and these.
    pub fn start_run(&self, arguments: &[&str]) -> Program {
        self.start_run_with(arguments, &[])
    }

    /// The same with these environment variables.
    pub fn start_run_with(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Program {
        let arguments = [&["queue", "run"], &LOCAL[..], arguments].concat();
        Program::start_with(self.folder(), &arguments, variables)
    }

    /// Runs the program to its end.
    pub async fn run(&self, arguments: &[&str]) -> Finished {
        self.start(arguments).finish().await
    }

    /// Imports records.
    pub async fn import(&self, records: &[Value]) {
        let name = self.write("artifacts.jsonl", records);
        let _ = self.run(&["queue", "import", &name]).await.expect_code(0);
    }

    /// Where the files are.
    pub fn output(&self) -> PathBuf {
        self.folder().join("downloads")
    }

    /// The lines of the manifest.
    pub fn manifest(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.output().join("manifest.jsonl")).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).expect(line)).collect()
    }

    /// Part files that were left behind.
    pub fn parts(&self) -> Vec<PathBuf> {
        fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    walk(&path, found);
                } else if path.extension().is_some_and(|extension| extension == "part") {
                    found.push(path);
                }
            }
        }
        let mut found = Vec::new();
        walk(&self.output(), &mut found);
        found
    }

    /// The queue, beside whatever process uses it.
    pub async fn queue(&self) -> SqliteQueue {
        open_queue(&self.folder().join(QUEUE)).await
    }

    /// Jobs by state.
    pub async fn counts(&self) -> StateCounts {
        self.queue().await.stats().await.unwrap().counts
    }

    /// All jobs by artifact id.
    pub async fn jobs(&self) -> BTreeMap<String, JobRecord> {
        all_jobs(&self.queue().await).await
    }

    /// Checks what must hold after any run that has drained: every job ended; one manifest line for each; every
    /// file of a done job is what its host has; nothing is left over. Returns the jobs.
    pub async fn check_drained(&self, records: &[Value]) -> BTreeMap<String, JobRecord> {
        let problems = self.queue().await.check(false).await.unwrap().problems;
        assert_eq!(problems, Vec::<String>::new());
        let jobs = self.jobs().await;
        assert_eq!(jobs.len(), records.len(), "INV-IDEMPOTENT");
        assert_eq!(self.parts(), Vec::<PathBuf>::new(), "no part is left");
        let mut lines: BTreeMap<String, Vec<Value>> = BTreeMap::new();
        for line in self.manifest() {
            lines.entry(line["artifact_id"].as_str().unwrap().to_owned()).or_default().push(line);
        }
        for record in records {
            let id = record["id"].as_str().unwrap();
            let job = &jobs[id];
            assert!(job.state.is_terminal(), "{id} is {:?}", job.state);
            assert!(job.published, "{id} is not published");
            let lines = lines.remove(id).unwrap_or_default();
            assert_eq!(lines.len(), 1, "{id} has {} lines in the manifest", lines.len());
            if job.state == JobState::Done {
                self.check_file(record, job, &lines[0]);
            }
        }
        assert_eq!(lines.len(), 0, "the manifest names strangers");
        jobs
    }

    /// INV-WHOLE-FILE: the final name holds exactly what the host has, and queue and manifest say so.
    fn check_file(&self, record: &Value, job: &JobRecord, line: &Value) {
        let path = job.path.as_deref().expect("a done job has a path");
        let bytes = std::fs::read(self.output().join(path)).expect(path);
        let digest: String =
            Sha256::digest(&bytes).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let url = record["url"].as_str().unwrap();
        let host = self.origin.hosts().find(|host| url.starts_with(&self.origin.url(host, "/"))).unwrap();
        let expected = self.origin.document(host, &url[self.origin.url(host, "").len()..]).sha256();
        assert_eq!(digest, expected, "{path} is not what {url} has");
        assert_eq!((job.sha256.as_deref(), line["sha256"].as_str()), (Some(&*digest), Some(&*digest)));
        assert_eq!((line["path"].as_str(), line["bytes"].as_u64()), (Some(path), Some(bytes.len() as u64)));
    }
}
