//! The reason codes: a closed list that scripts, metrics and manifests rely on.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident => $code:literal,)*) => {
        /// Why a try ended as it did, or why it waits.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "&'static str")]
        #[non_exhaustive]
        pub enum Reason { $($(#[$doc])* $variant,)* }

        impl Reason {
            /// All reasons.
            pub const ALL: &'static [Reason] = &[$(Reason::$variant,)*];

            /// The code, as stored and shown.
            pub fn as_str(self) -> &'static str {
                match self { $(Reason::$variant => $code,)* }
            }
        }
    };
}

reasons! {
    /// Fetched, whole and checked.
    Ok => "ok",
    /// The earlier file is still what the host has.
    NotModified => "not-modified",
    /// The same file was there already.
    AlreadyDownloaded => "already-downloaded",
    /// The host named a time to come back.
    RetryAfter => "retry-after",
    /// Too many moves or requests in one try.
    Backoff => "backoff",
    /// The host asked for quiet.
    Throttled => "throttled",
    /// robots.txt disallows it.
    Robots => "robots",
    /// Its type is not accepted.
    PolicyType => "policy-type",
    /// Its announced size is not accepted.
    PolicySize => "policy-size",
    /// Its address or scheme must not be contacted.
    PolicyAddress => "policy-address",
    /// Its name cannot be used on disk.
    PathPolicy => "path-policy",
    /// It took too long.
    Timeout => "timeout",
    /// The connection failed or was cut.
    ConnError => "conn-error",
    /// The name does not resolve.
    DnsError => "dns-error",
    /// The certificate or the handshake failed.
    TlsError => "tls-error",
    /// The host answered with an error status.
    HttpStatus => "http-status",
    /// More came than is accepted.
    TooLarge => "too-large",
    /// Less came than such a file has.
    TooSmall => "too-small",
    /// What came is of another type.
    UnexpectedType => "unexpected-type",
    /// A web page came where a PDF was asked for.
    HtmlInsteadOfPdf => "html-instead-of-pdf",
    /// A page came that wants a browser or a login.
    ChallengePage => "challenge-page",
    /// The PDF has no end.
    PdfTruncated => "pdf-truncated",
    /// The length is not what was announced or asked for.
    SizeMismatch => "size-mismatch",
    /// The digest is not what was asked for.
    DigestMismatch => "digest-mismatch",
    /// Redirects went on for too long or in a circle.
    RedirectLoop => "redirect-loop",
    /// The host says it does not exist (any more).
    Gone => "gone",
    /// Nothing is known that could be asked for.
    NoCandidates => "no-candidates",
    /// The disk is full.
    DiskFull => "disk-full",
    /// The claim on the job was lost.
    LeaseLost => "lease-lost",
    /// An operator cancelled it.
    Cancelled => "cancelled",
    /// The record cannot be read.
    BadRecord => "bad-record",
    /// The pipeline panicked.
    Panic => "panic",
    /// This machine has no network.
    NoNetwork => "no-network",
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Reason> for &'static str {
    fn from(reason: Reason) -> Self {
        reason.as_str()
    }
}

impl FromStr for Reason {
    type Err = String;
    fn from_str(code: &str) -> Result<Self, String> {
        Self::ALL
            .iter()
            .copied()
            .find(|reason| reason.as_str() == code)
            .ok_or_else(|| format!("{code:?} is not a reason code"))
    }
}

impl TryFrom<String> for Reason {
    type Error = String;
    fn try_from(code: String) -> Result<Self, String> {
        code.parse()
    }
}
