//! `HOST=NAME:VALUE`: a header that requests to one host carry, such as an API key. The value is a secret.

use std::fmt;

use url::Url;

/// A header for one origin. Its value shows nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct HostHeader {
    /// Scheme, host and port whose requests carry it.
    pub(crate) origin: Url,
    /// The header's name.
    pub(crate) name: String,
    /// Its value.
    pub(crate) value: String,
}

impl fmt::Debug for HostHeader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}:***", self.origin, self.name)
    }
}

/// What requests say of themselves. With another host, range or coding what comes would not be what was asked for, and under
/// another name robots.txt would be another's.
const OURS: [&str; 10] = [
    "accept-encoding",
    "connection",
    "content-length",
    "host",
    "if-range",
    "range",
    "te",
    "transfer-encoding",
    "upgrade",
    "user-agent",
];

/// Reads one. No message repeats what was given: the secret may stand anywhere in it.
pub(crate) fn parse(text: &str) -> Result<HostHeader, String> {
    let wrong = |why: &str| {
        format!("{why}; write HOST=NAME:VALUE, where HOST is like api.example.org or http://localhost:8080")
    };
    let (host, header) = text.split_once('=').ok_or_else(|| wrong("the `=` is missing"))?;
    let (name, value) = header.split_once(':').ok_or_else(|| wrong("the `:` is missing"))?;
    let (host, name, value) = (host.trim(), name.trim(), value.trim());
    let url = if host.contains("://") { host.to_owned() } else { format!("https://{host}") };
    let origin = Url::parse(&url).map_err(|_| wrong("what stands before the `=` is not a host"))?;
    let bare = matches!(origin.path(), "" | "/") && origin.query().is_none() && origin.fragment().is_none();
    let open = origin.username().is_empty() && origin.password().is_none();
    if !bare || !open || !matches!(origin.scheme(), "http" | "https") || host.contains(char::is_whitespace) {
        return Err(wrong("what stands before the `=` is not a host"));
    }
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    if name.is_empty() || !name.chars().all(token) {
        return Err(wrong("what stands before the `:` is not a header's name"));
    }
    if OURS.iter().any(|ours| name.eq_ignore_ascii_case(ours)) {
        return Err(wrong("what stands before the `:` is a header that longhaul sets itself"));
    }
    if value.is_empty() || value.chars().any(char::is_control) {
        return Err(wrong("what stands behind the `:` cannot be a header's value"));
    }
    Ok(HostHeader { origin, name: name.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_and_their_values_do_not_show() {
        let check = |text: &str, origin: &str, name: &str, value: &str| {
            let read = parse(text).unwrap();
            assert_eq!(
                (
                    read.origin.origin().ascii_serialization().as_str(),
                    read.name.as_str(),
                    read.value.as_str()
                ),
                (origin, name, value),
                "{text}"
            );
            assert!(!format!("{read:?}").contains(value), "{read:?}");
        };
        check(
            "api.core.ac.uk=Authorization: Bearer a=b:c",
            "https://api.core.ac.uk",
            "Authorization",
            "Bearer a=b:c",
        );
        check("http://127.0.0.1:9000=X-Key:hunter2", "http://127.0.0.1:9000", "X-Key", "hunter2");
        check("Example.org:8443=x-api-key:hunter2", "https://example.org:8443", "x-api-key", "hunter2");
    }

    #[test]
    fn what_is_no_header_is_refused_without_being_repeated() {
        for bad in [
            "",
            "hunter2",
            "example.org=hunter2",
            "example.org/hunter2=a:b",
            "user:hunter2@example.org=a:b",
            "ftp://example.org=a:hunter2",
            "example.org=a b:hunter2",
            "example.org=a:hunter2\u{7}",
            "example.org=:hunter2",
            "example.org=a:",
            "exa mple.org=a:hunter2",
        ] {
            let message = parse(bad).unwrap_err();
            assert!(message.contains("HOST=NAME:VALUE") && !message.contains("hunter2"), "{bad}: {message}");
        }
    }

    #[test]
    fn what_longhaul_says_itself_is_refused() {
        for name in ["Host", "user-agent", "Range", "Accept-Encoding", "Content-Length"] {
            let refused = parse(&format!("a.example={name}:hunter2")).unwrap_err();
            assert!(refused.contains("longhaul sets itself") && !refused.contains("hunter2"), "{refused}");
        }
    }
}
