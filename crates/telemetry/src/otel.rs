//! Metrics and traces sent by OTLP, as the standard variables of OpenTelemetry ask for.
//!
//! Nothing is sent unless they do. Sending has threads and a runtime of its own: a receiver that is slow, away or
//! refuses costs what it would have been told, and is spoken of at most once a minute; no job waits for it. The registry
//! of the metrics is [`Metrics`]; here it is only read.

mod complaint;
mod courier;
mod instruments;
mod settings;
mod trace;

use std::fmt;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use longhaul_limiter::Clock;
use opentelemetry::KeyValue;
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::metrics::{PeriodicReader, SdkMeterProvider};
use opentelemetry_sdk::trace::{BatchConfigBuilder, BatchSpanProcessor, SdkTracerProvider};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use self::complaint::{Complaint, Reported};
pub use self::settings::ExportError;
use self::settings::{Environment, Protocol, Signal, Target};
use self::trace::Allowance;
pub use self::trace::current_trace;
use crate::Metrics;

/// So many spans wait to be sent if no variable says otherwise; a few megabytes. What comes beyond is dropped.
const SPANS_WAITING: usize = 16 * 1024;

/// What is sent to others while a run goes on.
pub struct Export {
    targets: Vec<Target>,
    tracer: Option<SdkTracerProvider>,
    allowance: Allowance,
    complaint: Arc<Complaint>,
    meter: Option<SdkMeterProvider>,
    /// The transports live here. Dropped last, without waiting.
    runtime: Option<Runtime>,
}

impl fmt::Debug for Export {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Export").field("targets", &self.targets()).finish_non_exhaustive()
    }
}

impl Export {
    /// What the environment asks for; `None` if that is nothing.
    ///
    /// `OTEL_EXPORTER_OTLP_ENDPOINT` asks for metrics and traces, `OTEL_EXPORTER_OTLP_METRICS_ENDPOINT` and
    /// `…_TRACES_ENDPOINT` for one of them, as do `OTEL_METRICS_EXPORTER=otlp` and `OTEL_TRACES_EXPORTER=otlp`, to the
    /// usual place; `none` there, or `OTEL_SDK_DISABLED=true`, asks for nothing. The other variables of the
    /// specification hold as far as the SDK knows them: protocol (`grpc` or `http/protobuf`), headers, timeout,
    /// compression, sampler, interval, service name and resource attributes. Unless `OTEL_TRACES_SAMPLER` is set, at most
    /// 2,000 traces begin at once and 500 a second; the rest is not traced.
    ///
    /// # Errors
    /// If a variable says what cannot be done. The message names it.
    pub fn from_environment(clock: Arc<dyn Clock>) -> Result<Option<Self>, ExportError> {
        Self::asked_for(&Environment::of_the_process(), clock)
    }

    fn asked_for(environment: &Environment, clock: Arc<dyn Clock>) -> Result<Option<Self>, ExportError> {
        let targets = environment.targets()?;
        if targets.is_empty() {
            return Ok(None);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("otlp")
            .enable_all()
            .build()
            .map_err(|error| ExportError::new(format!("there is no thread to send with: {error}")))?;
        // The gRPC transport belongs to the runtime that it is made in.
        let inside = runtime.enter();
        let resource = resource(environment);
        let complaint = Arc::new(Complaint::new(clock));
        let (mut tracer, mut meter) = (None, None);
        for target in &targets {
            let (named, complaint) = (target.to_string(), Arc::clone(&complaint));
            match target.signal {
                Signal::Traces => {
                    let exporter = Reported::new(spans(target, &runtime)?, named, complaint);
                    tracer = Some(tracer_of(exporter, resource.clone(), environment));
                }
                Signal::Metrics => {
                    let exporter = Reported::new(metrics(target, &runtime)?, named, complaint);
                    let reader = PeriodicReader::builder(exporter).build();
                    let provider = SdkMeterProvider::builder().with_resource(resource.clone());
                    meter = Some(provider.with_reader(reader).build());
                }
            }
        }
        drop(inside);
        // Whoever chooses a sampler says how many traces they want.
        let allowance =
            if environment.is_set("OTEL_TRACES_SAMPLER") { Allowance::all() } else { Allowance::bearable() };
        Ok(Some(Self { targets, tracer, allowance, complaint, meter, runtime: Some(runtime) }))
    }

    /// What goes where, for people; nothing secret.
    pub fn targets(&self) -> Vec<String> {
        self.targets.iter().map(ToString::to_string).collect()
    }

    /// Sends this registry from now on. Only the first one is.
    pub fn send(&self, metrics: &Arc<Metrics>) {
        if let Some(meter) = &self.meter {
            instruments::attach(meter, metrics);
        }
    }

    /// What turns the libraries' spans into traces; for whoever installs a subscriber. `None` if no traces are asked
    /// for.
    pub fn layer<S>(&self) -> Option<trace::BoxedLayer<S>>
    where
        S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a> + Send + Sync,
    {
        self.tracer.as_ref().map(|tracer| trace::layer(tracer, self.allowance.clone()))
    }

    /// Sends what is there, and waits for that no longer than this. False if by then it was not sent, and nobody was told of
    /// any trouble.
    pub async fn finish(mut self, patience: Duration) -> bool {
        // What goes wrong is said where it does.
        let spans =
            self.tracer.take().map(|tracer| apart(move || drop(tracer.shutdown_with_timeout(patience))));
        let numbers =
            self.meter.take().map(|meter| apart(move || drop(meter.shutdown_with_timeout(patience))));
        let sent = async {
            for sending in [spans, numbers].into_iter().flatten() {
                // If there was no thread to send with, there is nothing to wait for.
                let _ = sending.await;
            }
        };
        tokio::time::timeout(patience, sent).await.is_ok() || self.complaint.has_spoken()
    }
}

impl Drop for Export {
    /// Waits for nobody: what was not sent by [`Export::finish`] is sent if the process lives long enough.
    fn drop(&mut self) {
        let (tracer, meter) = (self.tracer.take(), self.meter.take());
        if tracer.is_some() || meter.is_some() {
            drop(apart(move || drop((tracer, meter))));
        }
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Does what blocks on a thread of its own: the SDK waits for a receiver that does not answer longer than anybody here
/// wants to. Answered when it is over.
fn apart(work: impl FnOnce() + Send + 'static) -> oneshot::Receiver<()> {
    let (done, over) = oneshot::channel();
    let started = thread::Builder::new().name("otlp-end".to_owned()).spawn(move || {
        work();
        // Whoever waited may have given up.
        let _ = done.send(());
    });
    drop(started);
    over
}

/// Who sends: as the variables say, else this program.
fn resource(environment: &Environment) -> Resource {
    let builder =
        Resource::builder().with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")));
    if environment.names_the_service() {
        builder.build()
    } else {
        builder.with_service_name("longhaul").build()
    }
}

fn tracer_of(
    exporter: Reported<opentelemetry_otlp::SpanExporter>,
    resource: Resource,
    environment: &Environment,
) -> SdkTracerProvider {
    let config = BatchConfigBuilder::default();
    let config = if environment.is_set("OTEL_BSP_MAX_QUEUE_SIZE") {
        config
    } else {
        config.with_max_queue_size(SPANS_WAITING)
    };
    let processor = BatchSpanProcessor::builder(exporter).with_batch_config(config.build()).build();
    SdkTracerProvider::builder().with_resource(resource).with_span_processor(processor).build()
}

fn spans(target: &Target, runtime: &Runtime) -> Result<opentelemetry_otlp::SpanExporter, ExportError> {
    use opentelemetry_otlp::{SpanExporter, WithHttpConfig as _};
    let built = match target.protocol {
        Protocol::Grpc => SpanExporter::builder().with_tonic().build(),
        Protocol::Http => {
            SpanExporter::builder().with_http().with_http_client(courier::to(target, runtime)?).build()
        }
    };
    built.map_err(|error| ExportError::new(format!("traces cannot be sent: {error}")))
}

fn metrics(target: &Target, runtime: &Runtime) -> Result<opentelemetry_otlp::MetricExporter, ExportError> {
    use opentelemetry_otlp::{MetricExporter, WithHttpConfig as _};
    let built = match target.protocol {
        Protocol::Grpc => MetricExporter::builder().with_tonic().build(),
        Protocol::Http => {
            MetricExporter::builder().with_http().with_http_client(courier::to(target, runtime)?).build()
        }
    };
    built.map_err(|error| ExportError::new(format!("metrics cannot be sent: {error}")))
}
