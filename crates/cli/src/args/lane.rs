//! A host as people write it: `example.org`, `example.org:8443`, or a URL that lies there.

use url::Url;

/// The host as a URL, so that it becomes a lane exactly as its artifacts do.
pub(super) fn parse(text: &str) -> Result<Url, String> {
    let text = text.trim();
    let wrong = || format!("{text:?} is not a host; write one like example.org or example.org:8443");
    let url = if text.contains("://") {
        Url::parse(text)
    } else {
        // The default ports belong to the host itself, whatever the scheme.
        let bare = text.strip_suffix(":80").filter(|_| !text.ends_with("::80")).unwrap_or(text);
        if bare.is_empty() || bare.contains(['/', '@', '?', '#', '*', '\\']) {
            return Err(wrong());
        }
        Url::parse(&format!("https://{bare}/"))
    };
    url.ok().filter(Url::has_host).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_their_artifacts_are() {
        let lane = |text: &str| longhaul_limiter::host_key(&parse(text).unwrap()).unwrap().to_string();
        assert_eq!(lane("Example.ORG"), "example.org");
        assert_eq!(lane(" example.org:8443 "), "example.org:8443");
        assert_eq!(lane("example.org:80"), "example.org");
        assert_eq!(lane("http://example.org/a.pdf"), "example.org");
        assert_eq!(lane("[::1]:8080"), "[::1]:8080");
        for bad in ["", "*", "a/b", "you@example.org", "a b", "mailto:x"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
