//! Every kind of event is told by something: a kind that nobody tells any more, or that is new and that nobody tells yet,
//! fails here.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use longhaul_events::{Event, Observer};
use longhaul_limiter::{Lane, LaneLimits, LaneRules, Paces, Role, SystemClock};
use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, Parts};
use longhaul_origin::{Answer, Behaviour, HostConfig, Origin, OriginConfig, Target};
use longhaul_pipeline::{
    FailureClass, Fetched, FnPipeline, HttpOptions, HttpPipeline, Outcome, Pipeline, Reason,
};
use longhaul_queue_core::{
    ArtifactId, FlakyPlan, FlakyQueue, MemoryQueue, NewJob, Place, QueueAdmin as _, StoreId, WorkQueue,
};
use tokio::sync::{Notify, watch};

/// Long enough for everything here.
const FAR: Duration = Duration::from_mins(1);

/// Keeps which kinds of events it has heard.
#[derive(Debug)]
struct Heard(watch::Sender<BTreeSet<&'static str>>);

impl Observer for Heard {
    fn on_event(&self, event: &Event) {
        self.0.send_modify(|kinds| {
            kinds.insert(event.kind());
        });
    }
}

/// What has been heard in all runs, for waiting.
async fn until(heard: &mut watch::Receiver<BTreeSet<&'static str>>, kinds: &[&str]) {
    let all = |heard: &BTreeSet<&str>| kinds.iter().all(|kind| heard.contains(kind));
    let waited = tokio::time::timeout(FAR, heard.wait_for(all)).await.is_ok();
    assert!(waited, "of {kinds:?} only these were heard: {:?}", heard.borrow());
}

fn parts(queue: Arc<dyn WorkQueue>, admin: &MemoryQueue, pipeline: Arc<dyn Pipeline>, heard: Heard) -> Parts {
    Parts {
        queue,
        admin: Arc::new(admin.clone()),
        pipeline,
        observer: Arc::new(heard),
        clock: Arc::new(SystemClock),
        store: None,
    }
}

fn id(name: &str) -> ArtifactId {
    ArtifactId::new(name).unwrap()
}

/// What a run over HTTP tells: files that come by a redirect to a host with a pace, and a host that asks for quiet.
async fn tell_of_http(heard: Heard, mut kinds: watch::Receiver<BTreeSet<&'static str>>) {
    let to = Target::Host { name: "paced".to_owned(), path: "/file.pdf".to_owned() };
    let hosts = [
        HostConfig::answering("door", Answer::redirect(to)),
        HostConfig::answering("paced", Answer::after_ms(1)),
        HostConfig::new("strict").behaving(Behaviour::answering(Answer::status(429))),
    ];
    let origin = Origin::start(OriginConfig::new(hosts)).await.unwrap();
    let lane = |host: &str| Lane::new(origin.address(host).to_string()).unwrap();
    let paced = LaneLimits { cap: None, paces: Paces::Shared("8/s".parse().unwrap()) };
    let rules = LaneRules { hosts: BTreeMap::from([(lane("paced"), paced)]), ..LaneRules::unlimited() };
    let queue = MemoryQueue::new(Arc::new(SystemClock));
    let job = |name: &str, host: &str| {
        let payload = format!("{{\"id\":\"{name}\",\"url\":\"{}\"}}", origin.url(host, &format!("/{name}")));
        NewJob::new(id(name), payload).at(Place::new(lane(host), Role::Artifact))
    };
    let jobs = [job("a", "door"), job("b", "door"), job("c", "door"), job("d", "strict")];
    queue.enqueue(&jobs).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let http = HttpPipeline::new(HttpOptions {
        output_dir: folder.path().to_owned(),
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..HttpOptions::default()
    });
    let http = http.unwrap();
    let store = Some(StoreId(http.store_id().to_owned()));
    let parts = Parts { store, ..parts(Arc::new(queue.clone()), &queue, Arc::new(http), heard) };
    let config = OrchestratorConfig { rules: Arc::new(rules), ..OrchestratorConfig::default() };
    let run = Orchestrator::start(config, parts).await.unwrap();
    until(&mut kinds, &["Request", "Received", "Waited", "LaneClosed", "Published", "Waiting"]).await;
    run.stop();
    run.wait().await;
    origin.shutdown().await;
}

/// What a run tells of its own troubles: a job that is taken away, a store that is away, a machine that cannot work.
async fn tell_of_troubles(heard: Heard, mut kinds: watch::Receiver<BTreeSet<&'static str>>) {
    let (taken, go_on) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, gate) = (Arc::clone(&taken), Arc::clone(&go_on));
    let pipeline = FnPipeline::new(move |job, _context| {
        let (begun, gate) = (Arc::clone(&begun), Arc::clone(&gate));
        Box::pin(async move {
            if job.artifact_id == "x:taken" {
                begun.notify_one();
                gate.notified().await;
                return Outcome::Done(nothing()).into();
            }
            let detail = "no space is left".to_owned();
            let (reason, class) = (Reason::DiskFull, FailureClass::LocalFault);
            Outcome::Failed { reason, class, detail, resolver: None, checkpoint: None }.into()
        })
    });
    let queue = MemoryQueue::new(Arc::new(SystemClock));
    let flaky = Arc::new(FlakyQueue::new(queue.clone(), FlakyPlan::default()));
    queue.enqueue(&[NewJob::new(id("x:taken"), "{}")]).await.unwrap();
    let parts = parts(flaky.clone(), &queue, Arc::new(pipeline), heard);
    let run = Orchestrator::start(OrchestratorConfig::default(), parts).await.unwrap();
    taken.notified().await;
    queue.cancel(&[id("x:taken")]).await.unwrap();
    flaky.refuse_next(1);
    go_on.notify_one();
    until(&mut kinds, &["StoreUnavailable", "LeaseLost"]).await;
    queue.enqueue(&[NewJob::new(id("x:full"), "{}")]).await.unwrap();
    until(&mut kinds, &["LocalFault"]).await;
    run.stop_now();
    run.wait().await;
}

fn nothing() -> Fetched {
    Fetched {
        reason: Reason::Ok,
        resolver: "none".to_owned(),
        url: String::new(),
        http_status: None,
        content_type: None,
        etag: None,
        last_modified: None,
        file: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_of_event_is_told_by_a_run() {
    let (kinds, heard) = watch::channel(BTreeSet::new());
    tell_of_http(Heard(kinds.clone()), heard.clone()).await;
    tell_of_troubles(Heard(kinds), heard.clone()).await;
    let documented: BTreeSet<&str> = Event::KINDS.iter().map(|kind| kind.variant).collect();
    assert_eq!(*heard.borrow(), documented);
}
