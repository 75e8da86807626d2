//! URLs as people may see them.

use url::Url;

/// Query parameters whose values open doors. Compared in lower case.
const SECRET_PARAMETERS: &[&str] = &[
    "key",
    "apikey",
    "api_key",
    "api-key",
    "access_token",
    "token",
    "email",
    "mailto",
    "sig",
    "signature",
    "password",
    "secret",
];

/// Prefixes of such parameters: signed URLs of object stores.
const SECRET_PREFIXES: &[&str] = &["x-amz-", "x-goog-", "x-ms-"];

/// The URL without user info and fragment, and with the values of secret query parameters replaced.
pub(crate) fn without_secrets(url: &Url) -> String {
    let mut clean = stripped(url);
    let secret = |name: &str| {
        let name = name.to_lowercase();
        SECRET_PARAMETERS.contains(&name.as_str()) || SECRET_PREFIXES.iter().any(|p| name.starts_with(p))
    };
    if !clean.query_pairs().any(|(name, _)| secret(&name)) {
        // Written anew, a query may change its form; only one that hides something has to.
        return clean.into();
    }
    let pairs: Vec<(String, String)> = clean
        .query_pairs()
        .map(|(name, value)| {
            let value = if secret(&name) { "REDACTED".to_owned() } else { value.into_owned() };
            (name.into_owned(), value)
        })
        .collect();
    clean.query_pairs_mut().clear().extend_pairs(pairs);
    clean.into()
}

/// The URL without user info, query and fragment, for events.
#[cfg(feature = "http")]
pub(crate) fn bare(url: &Url) -> String {
    let mut clean = stripped(url);
    clean.set_query(None);
    clean.into()
}

fn stripped(url: &Url) -> Url {
    let mut clean = url.clone();
    clean.set_fragment(None);
    // These fail only for URLs that cannot have user info, and then there is none.
    let _ = clean.set_username("");
    let _ = clean.set_password(None);
    clean
}

/// A text that should have been a URL, without what stands where one has its user info.
pub(crate) fn unparsable(text: &str) -> String {
    let Some((scheme, rest)) = text.split_once("://") else { return text.to_owned() };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let rest = authority.rfind('@').map_or(rest, |at| &rest[at + 1..]);
    let rest = rest.split(['?', '#']).next().unwrap_or(rest);
    format!("{scheme}://{rest}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn check(url: &str, expect: &str) {
        assert_eq!(without_secrets(&Url::parse(url).unwrap()), expect);
    }

    #[test]
    fn secrets_do_not_show() {
        check("https://u:p@a.example/x?y=1#z", "https://a.example/x?y=1");
        check("https://a.example/x?q=a+b&API_KEY=abc", "https://a.example/x?q=a+b&API_KEY=REDACTED");
        check("https://a.example/?X-Amz-Signature=1&b", "https://a.example/?X-Amz-Signature=REDACTED&b=");
        check("https://a.example/?email=a%40b", "https://a.example/?email=REDACTED");
        check("https://a.example/?monkey=1", "https://a.example/?monkey=1");
    }

    #[test]
    fn what_is_no_url_shows_no_secrets_either() {
        assert_eq!(unparsable("s://u:p@h:bad/x?key=1"), "s://h:bad/x");
        assert_eq!(unparsable("http://u:p@x@h:bad"), "http://h:bad");
        assert_eq!(unparsable("not a url"), "not a url");
    }

    #[test]
    fn an_event_carries_no_query() {
        let url = Url::parse("https://u:p@a.example/x?y=1#z").unwrap();
        assert_eq!(bare(&url), "https://a.example/x");
    }
}
