//! Whether the bytes are what was asked for. A status and a content type are claims; these are looked at.

use crate::{Expect, Reason};

/// How many bytes from the start of a body are looked at.
pub(super) const HEAD_BYTES: usize = 16 * 1024;
/// How many from its end.
pub(super) const TAIL_BYTES: usize = 2 * 1024;
/// How many bytes from the first mark on are looked at to tell what markup it is.
const START_BYTES: usize = 2048;
/// Where a PDF's first marker must be.
const PDF_HEAD_BYTES: usize = 1024;
/// No PDF is smaller.
const PDF_LEAST_BYTES: u64 = 1024;

/// What the bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Pdf,
    Html,
    Xml,
    Other,
}

/// What is known of a body.
#[derive(Debug, Clone, Copy)]
pub(super) struct Body<'a> {
    /// Its first bytes, at most [`HEAD_BYTES`].
    pub(super) head: &'a [u8],
    /// Its last bytes, at most [`TAIL_BYTES`].
    pub(super) tail: &'a [u8],
    /// Its length.
    pub(super) bytes: u64,
    /// Whether a transfer that was cut off would have been noticed.
    pub(super) framed: bool,
    /// What the host calls it.
    pub(super) content_type: Option<&'a str>,
}

/// Why a body is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Wrong {
    pub(super) reason: Reason,
    pub(super) detail: String,
}

fn wrong<T>(reason: Reason, detail: &str) -> Result<T, Wrong> {
    Err(Wrong { reason, detail: detail.to_owned() })
}

/// Refuses a body by its first bytes alone, so that a page of a gigabyte is not read to its end. To be asked when
/// [`HEAD_BYTES`] are there, or the end.
pub(super) fn head(expect: Expect, head: &[u8], content_type: Option<&str>) -> Result<Kind, Wrong> {
    let kind = kind_of(head, content_type);
    let page = || String::from_utf8_lossy(head).to_lowercase();
    match (expect, kind) {
        (Expect::Pdf, Kind::Html) => {
            let page = page();
            if is_challenge(&page) || wants_login(&page) {
                return wrong(Reason::ChallengePage, "a page that wants a browser or a login came");
            }
            wrong(Reason::HtmlInsteadOfPdf, "a web page came where a PDF was asked for")
        }
        (Expect::Html | Expect::Any, Kind::Html) if is_challenge(&page()) => {
            wrong(Reason::ChallengePage, "a page that wants a browser came")
        }
        (Expect::Pdf, Kind::Pdf)
        | (Expect::Html, Kind::Html)
        | (Expect::Xml, Kind::Xml)
        | (Expect::Any, Kind::Pdf | Kind::Html | Kind::Xml | Kind::Other) => Ok(kind),
        // A fragment of a page may begin with anything but binary data.
        (Expect::Html, Kind::Other) if says(content_type, "text/html") && !head.contains(&0) => {
            Ok(Kind::Html)
        }
        (Expect::Pdf, Kind::Other) if head.is_empty() => Ok(kind),
        (Expect::Pdf, Kind::Xml | Kind::Other) => {
            wrong(Reason::UnexpectedType, "no PDF begins in the first 1024 bytes")
        }
        (Expect::Html, Kind::Pdf | Kind::Xml | Kind::Other) => {
            wrong(Reason::UnexpectedType, "what came is no web page")
        }
        (Expect::Xml, Kind::Pdf | Kind::Html | Kind::Other) => {
            wrong(Reason::UnexpectedType, "what came is no XML document")
        }
    }
}

/// Checks a body that has come to its end.
pub(super) fn whole(expect: Expect, body: &Body<'_>) -> Result<Kind, Wrong> {
    if body.bytes == 0 {
        return wrong(Reason::TooSmall, "the body is empty");
    }
    let kind = head(expect, body.head, body.content_type)?;
    // Where nothing else tells that a body was cut off, its own end has to. What only speaks of PDFs is none.
    let begins = body.head.starts_with(b"%PDF-") || says(body.content_type, "application/pdf");
    if expect == Expect::Pdf || (!body.framed && kind == Kind::Pdf && begins) {
        if body.bytes < PDF_LEAST_BYTES {
            return wrong(Reason::TooSmall, "no PDF has less than 1024 bytes");
        }
        let Some(end) = last_position(body.tail, b"%%EOF") else {
            return wrong(Reason::PdfTruncated, "the PDF has no %%EOF in its last 2 KiB");
        };
        if position(&body.tail[end..].to_ascii_lowercase(), b"</html").is_some() {
            return wrong(Reason::HtmlInsteadOfPdf, "a web page follows the PDF");
        }
    }
    Ok(kind)
}

fn kind_of(head: &[u8], content_type: Option<&str>) -> Kind {
    if let Some(kind) = markup_kind(head, content_type) {
        return kind;
    }
    if position(&head[..head.len().min(PDF_HEAD_BYTES)], b"%PDF-").is_some() {
        return Kind::Pdf;
    }
    Kind::Other
}

/// The kind of a body that begins as markup does. Most bodies do not, and cost no more than their first byte here.
fn markup_kind(head: &[u8], content_type: Option<&str>) -> Option<Kind> {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if !text.starts_with(b"<") {
        return None;
    }
    let start = String::from_utf8_lossy(&text[..text.len().min(START_BYTES)]).to_lowercase();
    let mut markup = start.as_str();
    let declared = markup.starts_with("<?xml");
    // Declarations and comments come before the first element of a page too.
    loop {
        let end = match markup {
            _ if markup.starts_with("<?") => "?>",
            _ if markup.starts_with("<!--") => "-->",
            _ => break,
        };
        let Some((_, rest)) = markup.split_once(end) else { break };
        markup = rest.trim_start();
    }
    if PAGE_STARTS.iter().any(|page| markup.starts_with(page)) {
        return Some(Kind::Html);
    }
    (declared || (markup.starts_with('<') && is_xml_type(content_type))).then_some(Kind::Xml)
}

/// How a web page begins.
const PAGE_STARTS: &[&str] = &[
    "<!doctype html",
    "<html",
    "<head",
    "<body",
    "<title",
    "<meta",
    "<script",
    "<style",
    "<link",
    "<iframe",
    "<frameset",
    "<div",
    "<h1",
    "<p>",
    "<table",
    "<center",
];

fn is_xml_type(content_type: Option<&str>) -> bool {
    let essence = content_type.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    essence.eq_ignore_ascii_case("application/xml")
        || essence.eq_ignore_ascii_case("text/xml")
        || essence.to_lowercase().ends_with("+xml")
}

/// Whether a content type is of this kind, parameters aside.
pub(super) fn says(content_type: Option<&str>, essence: &str) -> bool {
    let said = content_type.unwrap_or_default().split(';').next().unwrap_or_default();
    said.trim().eq_ignore_ascii_case(essence)
}

/// Whether a page (in lower case) is one that content delivery networks show to robots. Nothing that they also
/// write into honest pages is taken as a sign.
fn is_challenge(page: &str) -> bool {
    const SIGNS: &[&str] = &[
        "<title>just a moment...",
        "<title>attention required! | cloudflare",
        "_cf_chl_opt",
        "cf-browser-verification",
        "_incapsula_resource",
        "<title>pardon our interruption",
        "px-captcha",
        "geo.captcha-delivery.com",
        "awswafcookiedomainlist",
        "checking your browser before",
        "<title>radware captcha",
    ];
    SIGNS.iter().any(|sign| page.contains(sign))
}

/// Whether a page (in lower case) that came instead of a PDF asks for something that we do not have.
fn wants_login(page: &str) -> bool {
    const SIGNS: &[&str] = &[
        "type=\"password\"",
        "type='password'",
        "type=password",
        "<title>sign in",
        "<title>log in",
        "<title>login",
        "cdn-cgi/challenge-platform",
        "g-recaptcha",
        "h-captcha",
        "enable javascript and cookies",
    ];
    SIGNS.iter().any(|sign| page.contains(sign))
}

fn position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

fn last_position(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).rposition(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expect: Expect, bytes: &[u8], content_type: Option<&str>) -> Result<Kind, Reason> {
        let body = Body {
            head: &bytes[..bytes.len().min(HEAD_BYTES)],
            tail: &bytes[bytes.len().saturating_sub(TAIL_BYTES)..],
            bytes: bytes.len() as u64,
            framed: true,
            content_type,
        };
        whole(expect, &body).map_err(|wrong| wrong.reason)
    }

    fn pdf(start: &str, end: &str) -> Vec<u8> {
        let mut bytes = start.as_bytes().to_vec();
        bytes.resize(4000, b'x');
        bytes.extend_from_slice(end.as_bytes());
        bytes
    }

    #[test]
    fn a_pdf_has_a_head_and_a_tail() {
        let pdf_check = |bytes: &[u8]| check(Expect::Pdf, bytes, Some("application/pdf"));
        assert_eq!(pdf_check(&pdf("%PDF-1.4", "%%EOF\n")), Ok(Kind::Pdf));
        assert_eq!(pdf_check(&pdf("junk before\n%PDF-1.4", "%%EOF\njunk after")), Ok(Kind::Pdf));
        assert_eq!(pdf_check(&pdf("%PDF-1.4", "")), Err(Reason::PdfTruncated));
        assert_eq!(pdf_check(&pdf("%PDF-1.4%%EOF", "")), Err(Reason::PdfTruncated));
        assert_eq!(pdf_check(b"%PDF-1.4 %%EOF"), Err(Reason::TooSmall));
        assert_eq!(pdf_check(b""), Err(Reason::TooSmall));
        assert_eq!(pdf_check(&pdf("PK", "%%EOF")), Err(Reason::UnexpectedType));
        assert_eq!(pdf_check(&pdf(&" ".repeat(1025), "%PDF- %%EOF")), Err(Reason::UnexpectedType));
        assert_eq!(pdf_check(&pdf("%PDF-1.4", "%%EOF</body></HTML>")), Err(Reason::HtmlInsteadOfPdf));
    }

    #[test]
    fn a_file_of_no_text_is_known_by_its_marker_alone() {
        let kind = |bytes: &[u8]| check(Expect::Any, bytes, Some("text/xml"));
        let marked = |before: &[u8]| [before, b"%PDF-1.7", &[0xff; 4000], b"%%EOF"].concat();
        for before in
            [&b""[..], b"\xff\xfe\x80", b"\0<html>", b"a < b <html>", b" \r\n\t\x0c", b"\xef\xbb\xbf\n"]
        {
            assert_eq!(kind(&marked(before)), Ok(Kind::Pdf), "{before:?}");
        }
        assert_eq!(kind(&marked(b"<x \xff>")), Ok(Kind::Xml));
        assert_eq!(kind(&marked(b"\xef\xbb\xbf <HTML \xff>")), Ok(Kind::Html));
        assert_eq!(kind(&[0xff; 4000]), Ok(Kind::Other));
        assert_eq!(check(Expect::Any, &marked(b"<x \xff>"), None), Ok(Kind::Pdf));
    }

    #[test]
    fn a_page_is_no_pdf_whatever_it_is_called() {
        let page = |text: &str| check(Expect::Pdf, text.as_bytes(), Some("application/pdf"));
        assert_eq!(page("<html>%PDF-1.4 %%EOF"), Err(Reason::HtmlInsteadOfPdf));
        assert_eq!(page("\u{feff} \n<!DOCTYPE html><p>"), Err(Reason::HtmlInsteadOfPdf));
        assert_eq!(page("<?xml version='1.0'?><!-- x --> <html>"), Err(Reason::HtmlInsteadOfPdf));
        assert_eq!(page("<html><title>Just a moment...</title>"), Err(Reason::ChallengePage));
        assert_eq!(page("<html><input type=\"password\">"), Err(Reason::ChallengePage));
    }

    #[test]
    fn a_page_that_was_asked_for_may_have_a_login() {
        let page = |text: &str| check(Expect::Html, text.as_bytes(), Some("text/html; charset=utf-8"));
        assert_eq!(page("<html><input type=\"password\">"), Ok(Kind::Html));
        assert_eq!(page("<html><script src='/cdn-cgi/challenge-platform/x'>"), Ok(Kind::Html));
        assert_eq!(page("<html><title>Just a moment...</title>"), Err(Reason::ChallengePage));
        assert_eq!(page("a fragment"), Ok(Kind::Html));
        assert_eq!(page("\0\0\0"), Err(Reason::UnexpectedType));
        assert_eq!(check(Expect::Html, b"a fragment", None), Err(Reason::UnexpectedType));
    }

    #[test]
    fn xml_is_declared_or_named() {
        let xml = |text: &str, kind| check(Expect::Xml, text.as_bytes(), kind);
        assert_eq!(xml("<?xml version='1.0'?><a/>", None), Ok(Kind::Xml));
        assert_eq!(xml("<a/>", Some("application/jats+xml")), Ok(Kind::Xml));
        assert_eq!(xml("<a/>", Some("text/plain")), Err(Reason::UnexpectedType));
        assert_eq!(xml("<html>", Some("text/xml")), Err(Reason::UnexpectedType));
    }

    #[test]
    fn anything_is_anything_but_nothing_and_challenges() {
        assert_eq!(check(Expect::Any, b"\x1f\x8b\0", None), Ok(Kind::Other));
        assert_eq!(check(Expect::Any, b"%PDF-", None), Ok(Kind::Pdf));
        assert_eq!(check(Expect::Any, b"", None), Err(Reason::TooSmall));
        let cut = pdf("%PDF-1.4", "");
        let unframed = |head| Body { head, tail: head, bytes: 4000, framed: false, content_type: None };
        let cut_off = whole(Expect::Any, &unframed(&cut)).map_err(|wrong| wrong.reason);
        assert_eq!(cut_off, Err(Reason::PdfTruncated));
        assert!(whole(Expect::Any, &unframed(b"all about %PDF-1.4")).is_ok());
        assert_eq!(check(Expect::Any, b"<html>_cf_chl_opt", None), Err(Reason::ChallengePage));
    }
}
