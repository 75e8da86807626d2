//! Many hosts in a process of their own, and programs that fetch from them: what it took, as the hosts, the queue and
//! the kernel tell it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use longhaul_origin::{Answer, Behaviour, Document, HostConfig, OriginConfig, Reply, Shape};
use longhaul_queue_core::{JobRecord, JobState, QueueAdmin as _};
use serde_json::{Value, json};

use crate::commits::Commits;
use crate::origin_process::OriginProcess;
use crate::program::Program;
use crate::stage::{QUEUE, all_jobs, folder_in_memory, open_queue};
use crate::starts::Starts;
use crate::usage::Usage;

/// How often the programs are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// Longer than any run that is measured; what hangs ends here.
const PATIENCE: Duration = Duration::from_mins(10);

/// Hosts, a folder, and what is wanted.
#[derive(Debug)]
pub struct Fleet {
    /// The hosts.
    pub origin: OriginProcess,
    folder: tempfile::TempDir,
    shape: Shape,
    seeds: BTreeMap<String, u64>,
}

/// What runs took together.
#[derive(Debug, Clone)]
pub struct Measured {
    /// When artifacts were asked for.
    pub starts: Starts,
    /// Jobs that are done.
    pub done: usize,
    /// Tries that were charged to jobs.
    pub charged: u64,
    /// Tries that ended in a move to another place or time.
    pub deferrals: u64,
    /// Write transactions of the queue.
    pub commits: u64,
    /// Connections that the hosts accepted.
    pub connections: u64,
    /// Processor time of the programs.
    pub processor: Duration,
    /// The most memory that one of them had, in KiB.
    pub peak_kib: u64,
    /// Processor time of the origin.
    pub origin: Duration,
    /// Requests at all hosts, for robots.txt too.
    pub requests: u64,
}

impl Measured {
    /// The figures as JSON, beside what the makespan could be at best.
    pub fn json(&self, case: &str, ideal: Duration) -> Value {
        let files = self.done.max(1) as f64;
        let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
        let each = |value: f64| rounded(value / files);
        let makespan = self.starts.makespan().as_secs_f64();
        json!({
            "case": case,
            "makespan_s": rounded(makespan),
            "ratio": rounded(makespan / ideal.as_secs_f64()),
            "files": self.done,
            "requests": self.requests,
            "charged": self.charged,
            "deferrals_a_file": each(self.deferrals as f64),
            "commits_a_file": each(self.commits as f64),
            "connections": self.connections,
            "processor_ms_a_file": each(self.processor.as_secs_f64() * 1e3),
            "peak_mib": rounded(self.peak_kib as f64 / 1024.0),
            "most_in_a_second": self.starts.most_within(Duration::from_secs(1)),
            "files_a_second": rounded(self.starts.rate_after_a_second()),
            "origin_ms_a_request":
                rounded(self.origin.as_secs_f64() * 1e3 / self.requests.max(1) as f64),
        })
    }
}

/// A host with files of this size, each after this time, whose robots.txt allows everything.
pub fn open_host(name: String, seed: u64, latency: Duration, shape: Shape) -> HostConfig {
    let latency_ms = latency.as_millis() as u64;
    let robots = Reply::Fixed {
        status: 200,
        content_type: "text/plain".to_owned(),
        text: "User-agent: *\nAllow: /\n".to_owned(),
    };
    let robots = Answer { latency_ms, reply: robots, ..Answer::default() };
    let files = Answer { latency_ms, ..Answer::document(shape) };
    HostConfig::new(name).seeded(seed).behaving(Behaviour::answering(files).with_route("/robots.txt", robots))
}

impl Fleet {
    /// Starts hosts that all have files of this shape.
    pub async fn start(hosts: Vec<HostConfig>, shape: Shape) -> Self {
        let folder = folder_in_memory();
        let seeds = hosts.iter().map(|host| (host.name.clone(), host.seed)).collect();
        let origin = OriginProcess::start(folder.path(), OriginConfig::new(hosts)).await;
        Self { origin, folder, shape, seeds }
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The queue's file.
    pub fn queue_path(&self) -> PathBuf {
        self.folder().join(QUEUE)
    }

    /// Imports files: a host and a path each, in this order.
    pub async fn import(&self, files: &[(String, String)]) {
        let mut text = String::new();
        for (host, path) in files {
            let record =
                json!({ "id": format!("{host}{path}"), "url": self.origin.url(host, path), "expect": "pdf" });
            text.extend([record.to_string().as_str(), "\n"]);
        }
        std::fs::write(self.folder().join("artifacts.jsonl"), text).unwrap();
        let import = Program::start(self.folder(), &["queue", "import", "artifacts.jsonl"]);
        let _ = import.finish().await.expect_code(0);
    }

    /// Starts `queue run` for a loopback origin with these flags and variables.
    pub fn start_run(&self, flags: &[&str], variables: &[(&str, &str)]) -> Program {
        let common = ["queue", "run", "--drain", "--allow-network", "127.0.0.0/8"];
        Program::start_with(self.folder(), &[&common[..], flags].concat(), variables)
    }

    /// Waits until this many requests have arrived at all hosts together.
    pub async fn wait_for_requests(&self, least: u64) {
        let mut looks = tokio::time::interval(5 * LOOK);
        while self.origin.requests().await < least {
            looks.tick().await;
        }
    }

    /// Runs programs to their end, and whatever happens `meanwhile`; then checks that every file is there, and tells what
    /// it took. `commits` was made before they were started.
    pub async fn measure(
        &self,
        programs: Vec<Program>,
        mut commits: Commits,
        files: &[(String, String)],
        meanwhile: impl Future<Output = ()>,
    ) -> Measured {
        let origin_before = Usage::of(self.origin.id()).unwrap().processor;
        let mut usages: Vec<(u32, Usage)> =
            programs.iter().map(|program| (program.id(), Usage::default())).collect();
        let looking = async {
            let mut looks = tokio::time::interval(LOOK);
            while usages.iter().any(|(_, usage)| !usage.ended) {
                looks.tick().await;
                commits.look();
                for (id, usage) in &mut usages {
                    *usage = usage.later(Usage::of(*id).expect("it is not reaped yet"));
                }
            }
            commits.look();
        };
        let both = async { tokio::join!(looking, meanwhile) };
        assert!(tokio::time::timeout(PATIENCE, both).await.is_ok(), "it never ended");
        for program in programs {
            let _ = program.finish().await.expect_code(0);
        }
        let origin = Usage::of(self.origin.id()).unwrap().processor.saturating_sub(origin_before);
        let report = self.origin.report().await;
        let queue = open_queue(&self.queue_path()).await;
        let jobs = all_jobs(&queue).await;
        let mut deferrals = 0;
        // A job that was leased once and ended has been moved nowhere.
        for job in jobs.values().filter(|job| job.fence > 1) {
            let (_, history) = queue.get(&job.artifact_id).await.unwrap().unwrap();
            deferrals += history.iter().filter(|line| line.event == "defer").count() as u64;
        }
        Measured {
            starts: Starts::new(self.origin.arrivals().await),
            done: self.check(&jobs, files),
            charged: jobs.values().map(|job| u64::from(job.attempts)).sum(),
            deferrals,
            commits: commits.count(),
            connections: report.hosts.values().map(|host| host.counts.connections).sum(),
            processor: usages.iter().map(|(_, usage)| usage.processor).sum(),
            peak_kib: usages.iter().map(|(_, usage)| usage.peak_kib).max().unwrap_or(0),
            origin,
            requests: report.requests(),
        }
    }

    /// INV-IDEMPOTENT, INV-WHOLE-FILE: each file is done, has the host's digest and length, and one line in the manifest.
    fn check(&self, jobs: &BTreeMap<String, JobRecord>, files: &[(String, String)]) -> usize {
        assert_eq!(jobs.len(), files.len());
        let output = self.folder().join("downloads");
        for (host, path) in files {
            let id = format!("{host}{path}");
            let job = &jobs[&id];
            assert_eq!(job.state, JobState::Done, "{id}: {:?}", job.last_error);
            let document = Document::new(self.seeds[host], host, path, 0, self.shape);
            assert_eq!(job.sha256.as_deref(), Some(&*document.sha256()), "{id}");
            let file = output.join(job.path.as_deref().expect("a done job has a path"));
            assert_eq!(std::fs::metadata(file).unwrap().len(), document.len(), "{id}");
        }
        let manifest = std::fs::read_to_string(output.join("manifest.jsonl")).unwrap();
        assert_eq!(manifest.lines().count(), files.len(), "one line in the manifest for each file");
        jobs.len()
    }
}
