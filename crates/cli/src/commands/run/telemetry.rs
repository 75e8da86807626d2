//! What other programs may know of a run while it goes on: metrics that are served, metrics and traces that are sent.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use longhaul_events::Observer;
use longhaul_limiter::{Clock, LaneRules};
use longhaul_telemetry::{Export, Metrics, MetricsServer, Readiness, Sampler};

use crate::args::RunArgs;
use crate::output::Console;
use crate::store::Store;

/// The last of what is sent gets a twentieth of the run's own time, but neither less nor more than this: a receiver that
/// does not answer must not make a run noticeably longer.
const LAST_SENDING: (Duration, Duration) = (Duration::from_millis(300), Duration::from_secs(3));

/// Nothing, unless somebody asked for it.
#[derive(Debug, Default)]
pub(super) struct Telemetry {
    metrics: Option<Arc<Metrics>>,
    readiness: Arc<Readiness>,
    sampler: Option<Sampler>,
    #[allow(dead_code, reason = "it serves until it is dropped")]
    server: Option<MetricsServer>,
    export: Option<Export>,
}

impl Telemetry {
    /// Listens and begins to send, as far as that was asked for.
    ///
    /// # Errors
    /// If the address cannot be listened on.
    pub(super) fn start(
        args: &RunArgs,
        export: Option<Export>,
        store: &Store,
        rules: &LaneRules,
        clock: &Arc<dyn Clock>,
        console: &Console,
    ) -> Result<Self> {
        let mut telemetry = Self { export, ..Self::default() };
        if args.metrics_listen.is_none() && telemetry.export.is_none() {
            return Ok(telemetry);
        }
        let metrics = Arc::new(Metrics::new(usize::from(args.metrics_label_values)));
        if let Some(address) = args.metrics_listen {
            let readiness = Arc::clone(&telemetry.readiness);
            let server = MetricsServer::start(address, Arc::clone(&metrics), readiness).with_context(|| {
                format!(
                    "metrics cannot be served on {address}; choose another address or port for --metrics-listen"
                )
            })?;
            console.note(&format!("metrics  http://{}/metrics", server.address()));
            telemetry.server = Some(server);
        }
        if let Some(export) = &telemetry.export {
            export.send(&metrics);
            console.note(&format!("otlp     {}", export.targets().join(", ")));
        }
        telemetry.sampler = Some(Sampler {
            metrics: Arc::clone(&metrics),
            queue: Arc::clone(&store.queue),
            admin: Arc::clone(&store.admin),
            rules: Arc::new(rules.clone()),
            clock: Arc::clone(clock),
        });
        telemetry.metrics = Some(metrics);
        Ok(telemetry)
    }

    /// Those who want to hear of the run; they only count, so they may be told at once.
    pub(super) fn observers(&self) -> Vec<Arc<dyn Observer>> {
        let Some(metrics) = &self.metrics else { return Vec::new() };
        vec![Arc::clone(metrics) as Arc<dyn Observer>, Arc::clone(&self.readiness) as Arc<dyn Observer>]
    }

    /// The run takes work from now on.
    pub(super) fn ready(&self) {
        self.readiness.set(true);
    }

    /// Waits for `run` and looks at the queue meanwhile.
    pub(super) async fn beside<T>(&self, run: impl Future<Output = T>) -> T {
        let Some(sampler) = &self.sampler else { return run.await };
        let mut run = std::pin::pin!(run);
        tokio::select! {
            biased;
            ended = &mut run => ended,
            () = sampler.run() => run.await,
        }
    }

    /// The run has ended after `elapsed`: takes the last numbers and sends them.
    pub(super) async fn finish(self, elapsed: Duration, console: &Console) {
        self.readiness.set(false);
        if let Some(sampler) = &self.sampler {
            // The run itself says if its store does not answer.
            let _ = sampler.look().await;
        }
        if let Some(export) = self.export {
            let targets = export.targets().join(", ");
            if !export.finish((elapsed / 20).clamp(LAST_SENDING.0, LAST_SENDING.1)).await {
                console.warn(&format!("not all could be sent before the end: {targets}"));
            }
        }
    }
}
