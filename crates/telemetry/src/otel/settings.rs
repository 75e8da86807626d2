//! What the environment asks for: <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.

use std::collections::HashMap;
use std::fmt;

/// Why nothing can be sent.
#[derive(Debug)]
pub struct ExportError(String);

impl ExportError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self(message.into())
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ExportError {}

/// What can be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    Traces,
    Metrics,
}

impl Signal {
    const ALL: [Signal; 2] = [Signal::Traces, Signal::Metrics];

    fn in_variables(self) -> &'static str {
        match self {
            Signal::Traces => "TRACES",
            Signal::Metrics => "METRICS",
        }
    }
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Protocol {
    Grpc,
    Http,
}

/// One thing that is sent somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) signal: Signal,
    pub(super) protocol: Protocol,
    pub(super) endpoint: String,
}

impl Target {
    /// Whether the way there is encrypted.
    pub(super) fn is_encrypted(&self) -> bool {
        self.endpoint.trim_start().to_ascii_lowercase().starts_with("https:")
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = self.signal.in_variables().to_ascii_lowercase();
        let how = match self.protocol {
            Protocol::Grpc => "grpc",
            Protocol::Http => "http/protobuf",
        };
        write!(f, "{what} to {} ({how})", shown(&self.endpoint))
    }
}

/// An endpoint without what may be secret in it: user info and query.
fn shown(endpoint: &str) -> String {
    let (scheme, rest) = endpoint.split_once("://").map_or(("", endpoint), |(scheme, rest)| (scheme, rest));
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    let authority = rest.split('/').next().unwrap_or(rest);
    let rest = authority.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    if scheme.is_empty() { rest.to_owned() } else { format!("{scheme}://{rest}") }
}

/// The variables of OpenTelemetry. An empty one is as one that is not set.
#[derive(Debug, Default)]
pub(super) struct Environment(HashMap<String, String>);

impl Environment {
    pub(super) fn of_the_process() -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        };
        Self::of(std::env::vars_os().filter_map(text))
    }

    fn of(variables: impl IntoIterator<Item = (String, String)>) -> Self {
        let ours = |(name, value): &(String, String)| name.starts_with("OTEL_") && !value.trim().is_empty();
        Self(variables.into_iter().filter(ours).collect())
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|value| value.trim())
    }

    pub(super) fn is_set(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    /// Whether somebody says what this service is called.
    pub(super) fn names_the_service(&self) -> bool {
        let named = |attributes: &str| {
            attributes.split(',').any(|one| one.trim_start().split('=').next() == Some("service.name"))
        };
        self.is_set("OTEL_SERVICE_NAME") || self.get("OTEL_RESOURCE_ATTRIBUTES").is_some_and(named)
    }

    /// What only the SDK reads, which takes what it does not understand for not set.
    fn check(&self) -> Result<(), ExportError> {
        const SAMPLERS: [&str; 6] = [
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ];
        let wrong = |name: &str, value: &str, write: &str| {
            Err(ExportError::new(format!("{name}={value} is not understood; write {write}")))
        };
        if let Some(sampler) = self.get("OTEL_TRACES_SAMPLER").filter(|name| !SAMPLERS.contains(name)) {
            return wrong("OTEL_TRACES_SAMPLER", sampler, &format!("one of {}", SAMPLERS.join(", ")));
        }
        let is_ratio = |value: &str| value.parse::<f64>().is_ok_and(|ratio| (0.0..=1.0).contains(&ratio));
        if let Some(share) = self.get("OTEL_TRACES_SAMPLER_ARG").filter(|value| !is_ratio(value)) {
            return wrong("OTEL_TRACES_SAMPLER_ARG", share, "a share from 0 to 1");
        }
        let mut names: Vec<&String> = self.0.keys().collect();
        names.sort();
        for name in names {
            let is_number =
                name.starts_with("OTEL_BSP_") || name.ends_with("_TIMEOUT") || name.ends_with("_INTERVAL");
            let value = self.get(name).unwrap_or_default();
            if is_number && !value.parse::<u64>().is_ok_and(|number| number > 0) {
                return wrong(name, value, "a whole number from 1 on");
            }
        }
        Ok(())
    }

    /// What is to be sent.
    pub(super) fn targets(&self) -> Result<Vec<Target>, ExportError> {
        if self.get("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(Vec::new());
        }
        let mut targets = Vec::new();
        for signal in Signal::ALL {
            if self.asks_for(signal)? {
                targets.push(self.target(signal)?);
            }
        }
        if !targets.is_empty() {
            self.check()?;
        }
        Ok(targets)
    }

    fn asks_for(&self, signal: Signal) -> Result<bool, ExportError> {
        let name = format!("OTEL_{}_EXPORTER", signal.in_variables());
        match self.get(&name) {
            Some("otlp") => Ok(true),
            Some("none") => Ok(false),
            Some(other) => {
                Err(ExportError::new(format!("{name}={other} is not supported; write otlp or none")))
            }
            None => Ok(self.of_signal(signal, "ENDPOINT").is_some()),
        }
    }

    /// A variable of the exporter: the signal's own, else the one for all.
    fn of_signal(&self, signal: Signal, what: &str) -> Option<(String, &str)> {
        let own = format!("OTEL_EXPORTER_OTLP_{}_{what}", signal.in_variables());
        let general = format!("OTEL_EXPORTER_OTLP_{what}");
        [own, general].into_iter().find_map(|name| self.get(&name).map(|value| (name, value)))
    }

    fn target(&self, signal: Signal) -> Result<Target, ExportError> {
        let protocol = match self.of_signal(signal, "PROTOCOL") {
            None | Some((_, "http/protobuf")) => Protocol::Http,
            Some((_, "grpc")) => Protocol::Grpc,
            Some((name, other)) => {
                let message = format!("{name}={other} is not supported; write grpc or http/protobuf");
                return Err(ExportError::new(message));
            }
        };
        let endpoint = match (self.of_signal(signal, "ENDPOINT"), protocol) {
            (Some((_, endpoint)), _) => endpoint.to_owned(),
            (None, Protocol::Grpc) => "http://localhost:4317".to_owned(),
            (None, Protocol::Http) => "http://localhost:4318".to_owned(),
        };
        let scheme = endpoint.split_once("://").map(|(scheme, _)| scheme.trim().to_ascii_lowercase());
        if !matches!(scheme.as_deref(), Some("http" | "https")) {
            let message = format!(
                "the OTLP endpoint {} is no address that {} can be sent to; write http://HOST:PORT or https://HOST:PORT",
                shown(&endpoint),
                signal.in_variables().to_ascii_lowercase()
            );
            return Err(ExportError::new(message));
        }
        Ok(Target { signal, protocol, endpoint })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn check(variables: &[(&str, &str)]) -> String {
        let owned = variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        match Environment::of(owned).targets() {
            Ok(targets) => targets.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
            Err(error) => format!("error: {error}"),
        }
    }

    #[test]
    fn nothing_is_sent_unless_it_is_asked_for() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for nothing in [
            &[][..],
            &[("OTEL_SERVICE_NAME", "x"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")],
            &[("OTEL_EXPORTER_OTLP_ENDPOINT", " ")],
            &[endpoint, ("OTEL_SDK_DISABLED", "True")],
            &[endpoint, ("OTEL_TRACES_EXPORTER", "none"), ("OTEL_METRICS_EXPORTER", "none")],
        ] {
            assert_eq!(check(nothing), "", "{nothing:?}");
        }
    }

    #[test]
    fn each_signal_goes_where_its_own_variable_says_before_the_one_for_all() {
        let all = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        let (http, grpc) = ("(http/protobuf)", "(grpc)");
        assert_eq!(check(&[all]), format!("traces to http://c:4318 {http}; metrics to http://c:4318 {http}"));
        assert_eq!(
            check(&[
                all,
                ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://t:1"),
                ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "grpc"),
            ]),
            format!("traces to http://t:1 {grpc}; metrics to http://c:4318 {http}")
        );
        assert_eq!(
            check(&[("OTEL_METRICS_EXPORTER", "otlp"), ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc")]),
            format!("metrics to http://localhost:4317 {grpc}")
        );
        assert_eq!(
            check(&[("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "http://u:secret@m/v1/metrics?key=secret")]),
            format!("metrics to http://m/v1/metrics {http}")
        );
    }

    #[test]
    fn what_cannot_be_done_is_refused_by_name() {
        assert_eq!(
            check(&[("OTEL_TRACES_EXPORTER", "jaeger")]),
            "error: OTEL_TRACES_EXPORTER=jaeger is not supported; write otlp or none"
        );
        assert_eq!(
            check(&[
                ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c"),
                ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json")
            ]),
            "error: OTEL_EXPORTER_OTLP_PROTOCOL=http/json is not supported; write grpc or http/protobuf"
        );
    }

    #[test]
    fn what_only_the_sdk_reads_is_not_taken_for_unset() {
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://c:4318");
        for (name, value) in [
            ("OTEL_TRACES_SAMPLER", "nonsense"),
            ("OTEL_TRACES_SAMPLER_ARG", "7"),
            ("OTEL_EXPORTER_OTLP_TIMEOUT", "abc"),
            ("OTEL_METRIC_EXPORT_INTERVAL", "0"),
            ("OTEL_BSP_MAX_QUEUE_SIZE", "-1"),
        ] {
            let said = check(&[endpoint, (name, value)]);
            assert!(said.starts_with(&format!("error: {name}={value} is not understood; write ")), "{said}");
            assert_eq!(check(&[(name, value)]), "", "nothing is sent, so nobody reads it");
        }
        let said = check(&[("OTEL_EXPORTER_OTLP_ENDPOINT", "ftp://u:secret@c")]);
        assert!(said.starts_with("error: the OTLP endpoint ftp://c is no address"), "{said}");
        let fine = [endpoint, ("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.1")];
        assert!(check(&fine).starts_with("traces to"), "{}", check(&fine));
    }

    #[test]
    fn a_service_that_is_named_keeps_its_name() {
        let named = |name: &str, value: &str| {
            Environment::of([(name.to_owned(), value.to_owned())]).names_the_service()
        };
        assert!(named("OTEL_SERVICE_NAME", "x"));
        assert!(named("OTEL_RESOURCE_ATTRIBUTES", "a=b, service.name=x"));
        assert!(!named("OTEL_RESOURCE_ATTRIBUTES", "service.namespace=x"));
    }
}
