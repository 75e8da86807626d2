//! `HOST=RATE`: how often requests to a host may start; also for one role alone, and how many may be in flight.

use longhaul_limiter::{Pace, Role};
use url::Url;

/// The word for how many requests to a host may be in flight.
const CAP: &str = "cap";

/// A limit for a host, or for every host that has none of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRate {
    /// The host as a URL, so that it becomes a lane exactly as its artifacts do; `None` for `*`.
    pub(crate) host: Option<Url>,
    /// The limit.
    pub(crate) limit: HostLimit,
}

/// What is limited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum HostLimit {
    /// How often requests start, all roles counted as one.
    Pace(Pace),
    /// How often requests for this start, counted for themselves.
    RolePace(Role, Pace),
    /// How many requests are in flight.
    Cap(u32),
}

impl HostLimit {
    /// Which key of the host's table it is; `None` for the host's own.
    pub(crate) fn key(&self) -> Option<&'static str> {
        match self {
            HostLimit::Pace(_) => None,
            HostLimit::RolePace(role, _) => Some(role.as_str()),
            HostLimit::Cap(_) => Some(CAP),
        }
    }

    /// Whether a host's table has this key.
    pub(crate) fn is_key(name: &str) -> bool {
        name == CAP || Role::parse(name).is_some()
    }

    /// The value, as it is written.
    pub(crate) fn value(&self) -> String {
        match self {
            HostLimit::Pace(pace) | HostLimit::RolePace(_, pace) => pace.to_string(),
            HostLimit::Cap(cap) => cap.to_string(),
        }
    }
}

pub(crate) fn parse(text: &str) -> Result<HostRate, String> {
    let wrong = |why: &str| format!("{why}; write HOST=RATE like example.org=2/s, arxiv.org=1/3s or *=500/h");
    let (host, limit) = text.split_once('=').ok_or_else(|| wrong("the `=` is missing"))?;
    let limit = parse_limit(limit.trim())?;
    let host = host.trim();
    if host == "*" {
        if matches!(limit, HostLimit::Cap(_)) {
            return Err(
                "how many requests to any host may be in flight is said with --max-per-host".to_owned()
            );
        }
        return Ok(HostRate { host: None, limit });
    }
    if host.contains(['/', '@']) {
        // It may be a URL with a password, so it is not repeated.
        return Err(wrong("a host is wanted, and not a URL"));
    }
    if host.is_empty() || host.contains(['?', '#', '*', '\\']) || host.contains(char::is_whitespace) {
        return Err(wrong(&format!("{host:?} is not a host")));
    }
    // The default ports belong to the host itself, whatever the scheme.
    let bare = host.strip_suffix(":80").filter(|_| !host.ends_with("::80")).unwrap_or(host);
    let url =
        Url::parse(&format!("https://{bare}/")).map_err(|_| wrong(&format!("{host:?} is not a host")))?;
    Ok(HostRate { host: Some(url), limit })
}

fn parse_limit(text: &str) -> Result<HostLimit, String> {
    let pace = |text: &str| text.parse::<Pace>().map_err(|error| error.to_string());
    let Some((word, value)) = text.split_once(':') else { return Ok(HostLimit::Pace(pace(text)?)) };
    let (word, value) = (word.trim(), value.trim());
    if word == CAP {
        let cap = value.parse().ok().filter(|cap| (1..=1000).contains(cap));
        return cap
            .map(HostLimit::Cap)
            .ok_or_else(|| format!("{value:?} is not a number of requests, 1 to 1000"));
    }
    let role = Role::parse(word).ok_or_else(|| {
        format!(
            "{word:?} is nothing that has a limit; write metadata:RATE, landing:RATE, artifact:RATE or cap:N"
        )
    })?;
    Ok(HostLimit::RolePace(role, pace(value)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_rates_are_read() {
        let check = |text: &str, host: Option<&str>, key: Option<&str>, value: &str| {
            let read = parse(text).unwrap();
            let shown = read.host.map(|url| longhaul_limiter::host_key(&url).unwrap().to_string());
            assert_eq!(
                (shown.as_deref(), read.limit.key(), read.limit.value().as_str()),
                (host, key, value),
                "{text}"
            );
        };
        check("*=off", None, None, "off");
        check("Example.ORG=2/s+500/h", Some("example.org"), None, "2/s+500/h");
        check("example.org:8443 = 1/3s", Some("example.org:8443"), None, "1/3s");
        check("example.org:80=1/s", Some("example.org"), None, "1/s");
        check("[::1]:8080=1/s", Some("[::1]:8080"), None, "1/s");
        check("127.0.0.1:9000=20/s", Some("127.0.0.1:9000"), None, "20/s");
        check("example.org=artifact:1/s", Some("example.org"), Some("artifact"), "1/s");
        check("*= landing : off", None, Some("landing"), "off");
        check("example.org=cap:2", Some("example.org"), Some("cap"), "2");
    }

    #[test]
    fn what_is_no_host_rate_is_refused() {
        for bad in [
            "",
            "example.org",
            "example.org=",
            "=1/s",
            "a b=1/s",
            "http://a=1/s",
            "a/b=1/s",
            "a=0/s",
            "*.org=1/s",
            "a=page:1/s",
            "a=artifact:",
            "a=cap:0",
            "a=cap:many",
            "*=cap:2",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
