//! `late-run WORKERS MOST_MS`: drains the queue of the folder that it is started in like `longhaul queue run --drain`, but
//! each try first waits a random time of at most `MOST_MS` milliseconds, between the lease and whatever the pipeline does
//! with it. The worker is held meanwhile.
#![allow(clippy::unwrap_used, reason = "a test's process fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use longhaul_events::Silent;
use longhaul_limiter::{ConfiguredLimits, LaneRules, SystemClock};
use longhaul_orchestrator::{Orchestrator, OrchestratorConfig, Parts, RunEnd};
use longhaul_pipeline::{
    Context, Ended, HttpOptions, HttpPipeline, Job, Outcome, Pipeline, PublishError, RunResult,
};
use longhaul_queue_core::{SqliteOptions, SqliteQueue, StoreId};

/// Another pipeline, late.
#[derive(Debug)]
struct Late {
    inner: HttpPipeline,
    most: Duration,
}

#[async_trait]
impl Pipeline for Late {
    async fn run(&self, job: &Job, context: &dyn Context) -> RunResult {
        // tidy:allow-sleep: the delay is what is tested
        tokio::time::sleep(self.most.mul_f64(fastrand::f64())).await;
        self.inner.run(job, context).await
    }

    async fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>> {
        self.inner.publish(ended).await
    }

    async fn discard(&self, outcome: &Outcome) {
        self.inner.discard(outcome).await;
    }

    fn rename(&self, job: &Job, outcome: &Outcome) -> Option<Outcome> {
        self.inner.rename(job, outcome)
    }
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1).map(|number| number.parse::<u64>().unwrap());
    let (workers, most_ms) = (arguments.next().unwrap(), arguments.next().unwrap());
    let rules = LaneRules::default();
    let clock = Arc::new(SystemClock);
    let options = SqliteOptions::new("state/workqueue.sqlite").create(false).keying(rules.keying.clone());
    let queue = SqliteQueue::open(options, clock.clone()).await.unwrap();
    let inner = HttpPipeline::new(HttpOptions {
        output_dir: "downloads".into(),
        queue_id: Some(queue.id().to_owned()),
        allow_networks: vec!["127.0.0.0/8".parse().unwrap()],
        ..HttpOptions::default()
    })
    .unwrap();
    let store = StoreId(inner.store_id().to_owned());
    let rules = Arc::new(rules);
    let config = OrchestratorConfig {
        workers: workers as usize,
        drain: true,
        rules: Arc::clone(&rules),
        limits: Arc::new(ConfiguredLimits::new(rules)),
        ..OrchestratorConfig::default()
    };
    let parts = Parts {
        queue: Arc::new(queue.clone()),
        admin: Arc::new(queue),
        store: Some(store),
        pipeline: Arc::new(Late { inner, most: Duration::from_millis(most_ms) }),
        observer: Arc::new(Silent),
        clock,
    };
    let ended = Orchestrator::start(config, parts).await.unwrap().wait().await;
    assert!(matches!(ended.ended, RunEnd::Drained), "{ended:?}");
}
