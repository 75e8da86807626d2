//! The libraries' spans as traces.

use std::sync::Arc;

use longhaul_limiter::{BucketConfig, TokenBucket};
use opentelemetry::Context;
use opentelemetry::trace::{TraceContextExt as _, TracerProvider as _};
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{self, Filter};
use tracing_subscriber::registry::LookupSpan;

/// A layer for any subscriber that keeps spans.
pub(super) type BoxedLayer<S> = Box<dyn Layer<S> + Send + Sync>;

/// The spans that begin a trace; all others are inside of one.
const ROOTS: [&str; 2] = ["orchestrator.dispatch", "job"];
/// So many traces may begin at once,
const AT_ONCE: u64 = 2000;
/// and so many a second after that: more than a run has with hosts at its other end, and no burden for one without.
const PER_SECOND: u64 = 500;

/// How many traces may begin.
#[derive(Debug, Clone)]
pub(super) struct Allowance(Option<Arc<TokenBucket>>);

impl Allowance {
    /// All.
    pub(super) fn all() -> Self {
        Self(None)
    }

    /// So many that they are no burden.
    pub(super) fn bearable() -> Self {
        Self::of(BucketConfig::per_second(PER_SECOND, AT_ONCE))
    }

    fn of(bucket: BucketConfig) -> Self {
        // A bucket of wrong measures would let all begin; those above are right.
        Self(TokenBucket::new(bucket).ok().map(Arc::new))
    }

    fn may_begin(&self) -> bool {
        self.0.as_ref().is_none_or(|bucket| bucket.try_consume(1))
    }
}

/// longhaul's own spans, as far as traces may begin: all of a trace or nothing. Spans of other libraries are theirs: they
/// may hold what is secret.
struct Ours(Allowance);

impl Ours {
    fn is_one(metadata: &Metadata<'_>) -> bool {
        metadata.is_span() && *metadata.level() <= Level::INFO && metadata.target().starts_with("longhaul")
    }
}

impl<S> Filter<S> for Ours
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn enabled(&self, metadata: &Metadata<'_>, context: &layer::Context<'_, S>) -> bool {
        Self::is_one(metadata)
            && if ROOTS.contains(&metadata.name()) {
                self.0.may_begin()
            } else {
                // It shows the spans that have passed here: inside of a trace that was not begun it finds none.
                context.lookup_current().is_some()
            }
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if Self::is_one(metadata) { Interest::sometimes() } else { Interest::never() }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }
}

/// What turns longhaul's own spans into traces.
pub(super) fn layer<S>(provider: &SdkTracerProvider, allowance: Allowance) -> BoxedLayer<S>
where
    S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync,
{
    tracing_opentelemetry::layer()
        .with_tracer(provider.tracer("longhaul"))
        .with_location(false)
        .with_threads(false)
        .with_target(false)
        .with_tracked_inactivity(false)
        .with_filter(Ours(allowance))
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

#[cfg(test)]
mod tests {
    use std::sync::{Mutex, PoisonError};
    use std::time::Duration;

    use tracing::{Span, info_span, span};
    use tracing_subscriber::layer::{Context, SubscriberExt as _};

    use super::*;

    /// The names of the spans that came through, each with its parent's.
    #[derive(Clone, Default)]
    struct Seen(Arc<Mutex<Vec<String>>>);

    impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Seen {
        fn on_new_span(&self, _: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
            let Some(span) = context.span(id) else { return };
            let parent = span.parent().map_or("-", |parent| parent.name());
            self.0.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{parent}/{}", span.name()));
        }
    }

    fn seen(allowance: Allowance, begin: impl FnOnce()) -> String {
        let seen = Seen::default();
        let all = tracing_subscriber::registry().with(seen.clone().with_filter(Ours(allowance)));
        tracing::subscriber::with_default(all, begin);
        seen.0.lock().unwrap_or_else(PoisonError::into_inner).join(" ")
    }

    fn few(traces: u64) -> Allowance {
        let interval = Duration::from_hours(1);
        Allowance::of(BucketConfig { capacity: traces, refill: 1, interval, burst: traces })
    }

    /// A try with a request, whose stream is put into the request by name.
    fn one_job() {
        let job = info_span!(target: "longhaul_worker", parent: None, "job");
        let _inside = job.enter();
        let request = info_span!(target: "longhaul_pipeline", "http.request");
        info_span!(target: "longhaul_pipeline", parent: &request, "stream");
    }

    #[test]
    fn a_trace_is_begun_whole_or_not_at_all() {
        let whole = "-/job job/http.request http.request/stream";
        assert_eq!(seen(few(2), || (0..5).for_each(|_| one_job())), format!("{whole} {whole}"));
        assert_eq!(
            seen(Allowance::all(), || (0..3).for_each(|_| one_job())),
            format!("{whole} {whole} {whole}")
        );
        let Allowance(Some(bearable)) = Allowance::bearable() else { panic!("its measures are wrong") };
        assert_eq!(bearable.capacity(), AT_ONCE);
    }

    #[test]
    fn what_is_not_longhauls_own_is_no_span_of_a_trace() {
        let others = || {
            let _inside = info_span!(target: "hyper", "job").entered();
            let _inside = info_span!(target: "longhaul_worker", parent: None, "job").entered();
            info_span!(target: "hyper", "connect");
            tracing::debug_span!(target: "longhaul_worker", "detail");
            tracing::info!(target: "longhaul_worker", "an event");
            assert!(!Span::current().is_disabled());
        };
        assert_eq!(seen(Allowance::all(), others), "-/job");
    }
}
