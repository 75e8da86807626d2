//! `HOST=RATE`: how often requests to a host may start.

use longhaul_limiter::Pace;
use url::Url;

/// A rate for a host, or for every host that has none of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRate {
    /// The host as a URL, so that it becomes a lane exactly as its artifacts do; `None` for `*`.
    pub(crate) host: Option<Url>,
    /// The rate.
    pub(crate) pace: Pace,
}

pub(crate) fn parse(text: &str) -> Result<HostRate, String> {
    let wrong = |why: &str| format!("{why}; write HOST=RATE like example.org=2/s, arxiv.org=1/3s or *=500/h");
    let (host, rate) = text.split_once('=').ok_or_else(|| wrong("the `=` is missing"))?;
    let pace: Pace = rate.trim().parse().map_err(|error: longhaul_limiter::RateError| error.to_string())?;
    let host = host.trim();
    if host == "*" {
        return Ok(HostRate { host: None, pace });
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
    Ok(HostRate { host: Some(url), pace })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_rates_are_read() {
        let check = |text: &str, host: Option<&str>, pace: &str| {
            let read = parse(text).unwrap();
            let shown = read.host.map(|url| longhaul_limiter::host_key(&url).unwrap().to_string());
            assert_eq!((shown.as_deref(), read.pace.to_string().as_str()), (host, pace), "{text}");
        };
        check("*=off", None, "off");
        check("Example.ORG=2/s+500/h", Some("example.org"), "2/s+500/h");
        check("example.org:8443 = 1/3s", Some("example.org:8443"), "1/3s");
        check("example.org:80=1/s", Some("example.org"), "1/s");
        check("[::1]:8080=1/s", Some("[::1]:8080"), "1/s");
        check("127.0.0.1:9000=20/s", Some("127.0.0.1:9000"), "20/s");
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
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
