//! The libraries' spans as traces.

use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::filter_fn;
use tracing_subscriber::registry::LookupSpan;

/// A layer for any subscriber that keeps spans.
pub(super) type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// What turns longhaul's own spans into traces. Spans of other libraries are theirs: they may hold what is secret.
pub(super) fn layer<S>(provider: &SdkTracerProvider) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    let ours = |metadata: &Metadata<'_>| {
        metadata.is_span() && *metadata.level() <= Level::INFO && metadata.target().starts_with("longhaul")
    };
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("longhaul"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(filter_fn(ours).with_max_level_hint(LevelFilter::INFO))
        .boxed()
}

/// The trace and the span that this thread is in, in hexadecimal; for a log's lines. `None` outside of every span, and if
/// no traces are sent.
pub fn current_trace() -> Option<(String, String)> {
    Context::map_current(|context| {
        let span = context.span();
        let span = span.span_context();
        span.is_valid().then(|| (span.trace_id().to_string(), span.span_id().to_string()))
    })
}
