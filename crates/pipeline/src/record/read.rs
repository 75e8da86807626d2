//! From a JSON value, or a bare DOI or URL, to a record.

use std::time::SystemTime;

use serde_json::Value;
use url::Url;

use super::error::{RecordError, cut};
use super::fields::{Fields, kind, wrong_type};
use super::stem::short_hash;
use super::{Expect, Record, identifier, json, openalex};
use crate::redact;

/// A line that is not a JSON object: a DOI or a URL.
pub(super) fn plain(line: &str) -> Result<Record, RecordError> {
    let object = if let Some(doi) = identifier::doi(line) {
        serde_json::json!({ "id": identifier::doi_key(doi), "doi": doi })
    } else if line.contains("://") && !line.starts_with(['"', '[']) {
        let url = bare_url(line)?;
        serde_json::json!({ "id": url_key(&url), "url": url.as_str() })
    } else {
        let value = json::parse(line).map_err(|_| RecordError::Unrecognised { start: cut(line) })?;
        return Err(RecordError::NotAnObject { found: kind(&value) });
    };
    let payload = object.to_string();
    record(&object, payload)
}

/// The key of an artifact that is known by its URL alone. Keys are shown, written and put into file names, so one has
/// no secret in it; a short hash keeps URLs apart that differ in nothing else.
fn url_key(url: &Url) -> String {
    let shown = redact::without_secrets(url);
    if shown == url.as_str() { shown } else { format!("{shown}#{}", short_hash(url.as_str())) }
}

fn bare_url(line: &str) -> Result<Url, RecordError> {
    let refuse = |why: &str| RecordError::BadUrl {
        field: "the line".to_owned(),
        url: cut(&redact::unparsable(line)),
        why: why.to_owned(),
    };
    if line.contains(char::is_whitespace) {
        return Err(refuse("there is white space in it"));
    }
    let mut url = Url::parse(line).map_err(|error| refuse(&error.to_string()))?;
    if !is_fetched(&url) {
        return Err(refuse("only http and https are fetched"));
    }
    url.set_fragment(None);
    Ok(url)
}

/// The artifact in a line that `queue list` printed: what else stands there is about a job of another queue.
pub(super) fn listed(value: &Value) -> Option<&Value> {
    let is_one = value.get("job")?.is_i64() && value.get("state")?.is_string();
    value.get("artifact").filter(|artifact| is_one && artifact.is_object())
}

/// A JSON value that should be a record, wrapped or not.
pub(super) fn record(value: &Value, payload: String) -> Result<Record, RecordError> {
    let Value::Object(object) = value else { return Err(RecordError::NotAnObject { found: kind(value) }) };
    let mut fields = Fields(object);
    let named = fields.get("id").or_else(|| fields.get("artifact_id"));
    if named.is_none()
        && let Some(inner) = fields.get("artifact")
    {
        let Value::Object(inner) = inner else { return Err(wrong_type("artifact", inner, "an object")) };
        fields = Fields(inner);
    }
    let (given, artifact_id) = artifact_id(fields)?;
    let openalex_id = identifier::openalex_work(given);
    let known = openalex_id.map(|_| openalex::work(fields)).unwrap_or_default();

    let doi = fields.text("doi")?.map(str::to_owned).or(known.doi);
    let pubmed = fields.text_or_number("pmid")?.or(known.pmid);
    let central = fields.text("pmcid")?.map(str::to_owned).or(known.pmcid);
    let arxiv_id = fields.text("arxiv_id")?.map(str::to_owned);
    let arxiv_id = arxiv_id.as_deref().or_else(|| {
        // The key itself says so: `arxiv:1706.03762`.
        identifier::strip_prefix_ci(given, "arxiv:").map(|_| given)
    });
    let work_id = fields.text("work_id")?.or(openalex_id);

    let url = fields.url("url")?;
    let pdf_urls = both(fields.urls("pdf_urls")?, known.pdf_urls);
    let open_access_url = fields.url("open_access_url")?.or(known.open_access_url);
    let failed = fields.texts("failed_pdf_urls")?;
    let is_bare_url = url.is_some() && pdf_urls.is_empty() && open_access_url.is_none();
    let record = Record {
        work_id: work_id.map(|id| identifier::openalex_work(id).unwrap_or(id).to_owned()),
        title: fields.text("title")?.map(str::to_owned).or(known.title),
        year: year(fields)?,
        doi: doi.as_deref().and_then(identifier::doi).or_else(|| identifier::doi(given)).map(str::to_owned),
        pmid: pubmed.as_deref().and_then(identifier::pmid),
        pmcid: central.as_deref().and_then(identifier::pmcid),
        arxiv_id: arxiv_id.and_then(identifier::arxiv),
        landing_urls: both(fields.urls("landing_urls")?, known.landing_urls),
        failed_pdf_urls: failed.iter().filter_map(|(_, text)| Url::parse(text).ok()).collect(),
        expect: expect(fields)?.unwrap_or(if is_bare_url { Expect::Any } else { Expect::Pdf }),
        sha256: sha256(fields)?,
        bytes: bytes(fields)?,
        resolver_hint: fields.text("resolver_hint")?.map(str::to_owned),
        priority: priority(fields)?,
        max_attempts: max_attempts(fields)?,
        available_at: available_at(fields)?,
        base_stem: fields.text("base_stem")?.map(str::to_owned),
        artifact_id,
        url,
        pdf_urls,
        open_access_url,
        payload,
    };
    refuse_unfetched(&record)?;
    Ok(record)
}

/// Refuses a record that could never be fetched, because all that is known of it is an address that nobody asks: it would only
/// end as one without any. With an identifier or a page a resolver may find another address.
fn refuse_unfetched(record: &Record) -> Result<(), RecordError> {
    let named = record.url.iter().map(|url| ("url", url));
    let named = named.chain(record.pdf_urls.iter().map(|url| ("pdf_urls", url)));
    let mut named = named.chain(record.open_access_url.iter().map(|url| ("open_access_url", url))).peekable();
    let is_known =
        [&record.doi, &record.pmid, &record.pmcid, &record.arxiv_id].into_iter().any(Option::is_some);
    let Some((field, url)) = named.peek().copied() else { return Ok(()) };
    if is_known || !record.landing_urls.is_empty() || named.any(|(_, url)| is_fetched(url)) {
        return Ok(());
    }
    Err(RecordError::NotFetched { field: field.to_owned(), scheme: url.scheme().to_owned() })
}

fn is_fetched(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https")
}

/// The key as given and as normalised.
fn artifact_id(fields: Fields<'_>) -> Result<(&str, String), RecordError> {
    let field = ["artifact_id", "id"].into_iter().find(|field| fields.get(field).is_some());
    let Some(field) = field else { return Err(RecordError::MissingId) };
    let Some(given) = fields.text(field)? else { return Err(RecordError::EmptyId { field }) };
    let key = identifier::doi(given).map_or_else(|| given.to_owned(), identifier::doi_key);
    if key.len() > Record::MAX_ID_BYTES {
        return Err(RecordError::IdTooLong { bytes: key.len() });
    }
    if key.chars().any(char::is_control) {
        return Err(RecordError::IdHasControl);
    }
    Ok((given, key))
}

fn both(mut own: Vec<Url>, more: Vec<Url>) -> Vec<Url> {
    own.extend(more);
    let mut seen = Vec::with_capacity(own.len());
    for url in own {
        if !seen.contains(&url) {
            seen.push(url);
        }
    }
    seen
}

fn expect(fields: Fields<'_>) -> Result<Option<Expect>, RecordError> {
    let Some(word) = fields.text("expect")? else { return Ok(None) };
    match Expect::parse(&word.to_ascii_lowercase()) {
        Some(expect) => Ok(Some(expect)),
        None => Err(RecordError::BadExpect { found: cut(word) }),
    }
}

fn sha256(fields: Fields<'_>) -> Result<Option<String>, RecordError> {
    let Some(digest) = fields.text("sha256")? else { return Ok(None) };
    if digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(Some(digest.to_ascii_lowercase()));
    }
    Err(RecordError::BadSha256 { found: cut(digest) })
}

fn available_at(fields: Fields<'_>) -> Result<Option<SystemTime>, RecordError> {
    let Some(text) = fields.text("available_at")? else { return Ok(None) };
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| SystemTime::try_from(time).ok());
    time.map(Some).ok_or_else(|| RecordError::BadDate { field: "available_at", found: cut(text) })
}

fn priority(fields: Fields<'_>) -> Result<u8, RecordError> {
    let Some(number) = fields.whole("priority")? else { return Ok(0) };
    let class = number.within(0, 9).and_then(|class| u8::try_from(class).ok());
    class.ok_or(RecordError::BadPriority { found: number.found })
}

fn year(fields: Fields<'_>) -> Result<Option<i32>, RecordError> {
    let Some(number) = fields.whole("publication_year")? else { return Ok(None) };
    match number.within(0, 9999).and_then(|year| i32::try_from(year).ok()) {
        Some(year) => Ok(Some(year)),
        None => Err(number.refuse("a year from 0 to 9999")),
    }
}

fn max_attempts(fields: Fields<'_>) -> Result<Option<u32>, RecordError> {
    let Some(number) = fields.whole("max_attempts")? else { return Ok(None) };
    match number.within(1, 1000).and_then(|many| u32::try_from(many).ok()) {
        Some(many) => Ok(Some(many)),
        None => Err(number.refuse("a whole number from 1 to 1000")),
    }
}

fn bytes(fields: Fields<'_>) -> Result<Option<u64>, RecordError> {
    let Some(number) = fields.whole("bytes")? else { return Ok(None) };
    match number.within(0, i128::from(i64::MAX)).and_then(|many| u64::try_from(many).ok()) {
        Some(many) => Ok(Some(many)),
        None => Err(number.refuse("a length in bytes")),
    }
}
