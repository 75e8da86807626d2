//! What each reason code means for the person whose list it is.

use longhaul_pipeline::Reason;

/// What it means and what can be done about it; empty for a code that says all.
pub(crate) fn advice(code: &str) -> &'static str {
    let Ok(reason) = code.parse::<Reason>() else { return "" };
    match reason {
        Reason::NoCandidates => {
            "no address is known for it; add `url` or `pdf_urls` to its line (this version asks no resolver)"
        }
        Reason::Gone => "the host has it no more; look for another copy",
        Reason::HttpStatus => {
            "the host answered with an error: 401 and 403 mean that it refuses (a browser shows what it wants), 500 and above \
             that it has trouble of its own (try again later)"
        }
        Reason::ChallengePage => "the host sent a page for people, to log in or to prove that one is human",
        Reason::HtmlInsteadOfPdf => {
            "a web page came where a PDF was expected; a page is accepted with `\"expect\": \"html\"`"
        }
        Reason::UnexpectedType => "something else came than `expect` says",
        Reason::Robots => "the host asks programs to stay away from it",
        Reason::PolicyAddress => {
            "it lies at a private address or is not http(s); --allow-network CIDR permits a network"
        }
        Reason::PolicySize | Reason::TooLarge => "it is larger than is accepted",
        Reason::PolicyType => "its type is not accepted",
        Reason::PathPolicy => "no name for its file could be found",
        Reason::TooSmall => "what came is too small to be what it should be",
        Reason::PdfTruncated => "the PDF ends before its end, each time",
        Reason::SizeMismatch => "what came has another length than its line or the host says",
        Reason::DigestMismatch => "what came is not the file whose `sha256` its line gives",
        Reason::RedirectLoop => "the host sends from one address to the next without end",
        Reason::Timeout | Reason::ConnError => "the host could not be reached or was too slow, each time",
        Reason::DnsError => "its host's name does not exist; look for a typing error",
        Reason::TlsError => "its host's certificate or encryption cannot be trusted",
        Reason::Throttled | Reason::RetryAfter => {
            "the host kept asking for quiet; a lower --rate for it may help"
        }
        Reason::Backoff => "it was sent to and fro for too long",
        Reason::LeaseLost => "the process died each time it was at work on it; it may be what kills it",
        Reason::BadRecord => "its line cannot be read",
        Reason::Panic => "a fault of longhaul itself; please report it with the example",
        Reason::Cancelled => "an operator cancelled it",
        Reason::DiskFull => "there was no space for it",
        Reason::NoNetwork => "this machine had no network",
        // A success, or a code that is newer than this table: its name says what it can.
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_for_a_failure_has_advice() {
        let fine = [Reason::Ok, Reason::NotModified, Reason::AlreadyDownloaded];
        for reason in Reason::ALL.iter().filter(|reason| !fine.contains(reason)) {
            assert!(!advice(reason.as_str()).is_empty(), "{reason}");
        }
        assert_eq!(advice("something-else"), "");
    }
}
