//! Which proxies the environment names. The HTTP client obeys the same variables; this only tells.

use url::Url;

/// A proxy that requests may go through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proxy {
    /// The variable that names it.
    pub(super) variable: &'static str,
    /// Its name or address.
    pub(super) host: Option<String>,
}

const VARIABLES: [&str; 6] =
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];

pub(super) fn from_environment() -> Vec<Proxy> {
    let value = |variable| std::env::var(variable).ok().map(|value| (variable, value));
    named(VARIABLES.into_iter().filter_map(value))
}

fn named(values: impl Iterator<Item = (&'static str, String)>) -> Vec<Proxy> {
    let proxy = |(variable, value): (&'static str, String)| {
        let value = value.trim();
        if value.is_empty() {
            return None;
        }
        // `proxy.example:3128` parses as a URL of the scheme `proxy.example`, so a scheme is what `://` follows.
        let url =
            if value.contains("://") { Url::parse(value) } else { Url::parse(&format!("http://{value}")) };
        let host = url.ok().and_then(|url| url.host_str().map(str::to_owned));
        Some(Proxy { variable, host })
    };
    values.filter_map(proxy).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_is_named_without_its_password() {
        let values = [
            ("HTTP_PROXY", "http://me:secret@proxy.example:3128/"),
            ("HTTPS_PROXY", "other.example:3128"),
            ("ALL_PROXY", " "),
        ];
        let proxies = named(values.into_iter().map(|(variable, value)| (variable, value.to_owned())));
        let hosts: Vec<Option<&str>> = proxies.iter().map(|proxy| proxy.host.as_deref()).collect();
        assert_eq!(hosts, [Some("proxy.example"), Some("other.example")]);
    }
}
