//! The log: structured lines on stderr, which take turns with the progress bar.

use std::io;
use std::sync::Arc;

use longhaul_limiter::Clock;
use longhaul_telemetry::{Export, current_trace};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, MakeWriter};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, fmt};

use super::Console;
use super::repeats::Repeats;
use crate::args::{Global, LogFormat};
use crate::exit::UsageError;

/// The log, which is on from when this is made.
#[derive(Debug)]
pub(crate) struct Logging {
    repeats: Repeats,
}

impl Logging {
    /// From now on what the crates log goes to the console.
    pub(crate) fn start(
        global: &Global,
        console: &Console,
        clock: Arc<dyn Clock>,
        export: Option<&Export>,
    ) -> Result<Self, UsageError> {
        if let Some(unknown) = unknown_level(&global.log) {
            return Err(UsageError(format!(
                "--log {}: {unknown:?} is no level; write one of off, error, warn, info, debug, trace, or a filter like \
                 longhaul_worker=debug",
                global.log
            )));
        }
        let filter = EnvFilter::try_new(directives(&global.log)).map_err(|error| {
            UsageError(format!(
                "--log {}: {error}; write one of off, error, warn, info, debug, trace, or a filter like longhaul_worker=debug",
                global.log
            ))
        })?;
        let repeats = Repeats::new(clock);
        let lines = fmt::layer().with_ansi(console.colour).with_writer(LogLines { console: console.clone() });
        let lines = match global.log_format {
            LogFormat::Human => lines.map_event_format(Traced::Human).boxed(),
            LogFormat::Json => lines.json().map_event_format(Traced::Json).boxed(),
        };
        // The filter is the log's own: traces are sent whatever is logged.
        let log = repeats.clone().and_then(lines).with_filter(filter);
        let traces = export.and_then(Export::layer);
        // A second subscriber in one process can only come from a test that started one: the first stays.
        let _ = tracing_subscriber::registry().with(traces).with(log).try_init();
        Ok(Self { repeats })
    }

    /// Says what was held back.
    pub(crate) fn finish(self) {
        self.repeats.finish();
    }
}

/// The filter of a `--log`. The store's library warns of each statement that took a second, which a large queue on a
/// slow disk may; whoever names a filter of their own, or wants to see everything, sees that too.
fn directives(log: &str) -> String {
    match log.trim().to_ascii_lowercase().as_str() {
        level @ ("error" | "warn" | "info") => format!("{level},sqlx=error"),
        _ => log.to_owned(),
    }
}

/// What in a `--log` is neither a level nor a filter. By itself it would be a filter too: for everything that a crate of
/// this name logs, and nothing else.
fn unknown_level(log: &str) -> Option<&str> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let is_known = |part: &str| {
        part.contains(['=', '[', ':'])
            || part.starts_with("longhaul")
            || LEVELS.iter().any(|level| part.eq_ignore_ascii_case(level))
    };
    log.split(',').map(str::trim).find(|part| !is_known(part))
}

/// Lines that name the trace that they belong to, where traces are sent.
#[derive(Debug)]
enum Traced<F> {
    Human(F),
    Json(F),
}

impl<S, N, F> FormatEvent<S, N> for Traced<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> std::fmt::Result {
        let (Traced::Human(inner) | Traced::Json(inner)) = self;
        let Some((trace, span)) = current_trace() else {
            return inner.format_event(context, writer, event);
        };
        let mut line = String::new();
        inner.format_event(context, Writer::new(&mut line), event)?;
        let line = line.trim_end();
        match self {
            Traced::Human(_) => writeln!(writer, "{line} trace_id={trace} span_id={span}"),
            // An event is an object that is never empty.
            Traced::Json(_) => {
                let open = line.strip_suffix('}').unwrap_or(line);
                writeln!(writer, "{open},\"trace_id\":\"{trace}\",\"span_id\":\"{span}\"}}")
            }
        }
    }
}

#[derive(Debug, Clone)]
struct LogLines {
    console: Console,
}

impl<'a> MakeWriter<'a> for LogLines {
    type Writer = LogLines;

    fn make_writer(&'a self) -> LogLines {
        self.clone()
    }
}

impl io::Write for LogLines {
    /// The subscriber writes one whole event at a time.
    fn write(&mut self, text: &[u8]) -> io::Result<usize> {
        self.console.write(text);
        Ok(text.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_level_is_no_filter() {
        assert_eq!(unknown_level("wran"), Some("wran"));
        assert_eq!(unknown_level("info, nosuch"), Some("nosuch"));
        for fine in
            ["WARN", "info,longhaul_worker=debug", "longhaul_worker", "sqlx::query=off", "[job]=trace"]
        {
            assert_eq!(unknown_level(fine), None, "{fine}");
        }
    }

    #[test]
    fn only_a_plain_level_is_extended() {
        assert_eq!(directives("warn"), "warn,sqlx=error");
        for own in ["debug", "off", "sqlx=warn", "info,longhaul_worker=debug"] {
            assert_eq!(directives(own), own);
        }
    }
}
