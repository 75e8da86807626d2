//! One artifact, as producers write it: a line of JSON, an OpenAlex work, a DOI or a URL.
//!
//! A [`Record`] is read in two places: when a line is imported, and when a worker takes up the payload that the
//! queue kept. Both go through the same reader, so `Record::from_payload(record.payload())` is the same record.
//! Nothing here asks anybody anything: what a resolver would find is not known yet.

mod error;
mod fields;
mod identifier;
mod json;
mod openalex;
mod read;
mod stem;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use longhaul_limiter::{Keying, Lane, Role};
use url::Url;

pub use error::RecordError;

/// What may be accepted as the artifact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Expect {
    /// A PDF.
    Pdf,
    /// A web page.
    Html,
    /// An XML document.
    Xml,
    /// Whatever comes.
    Any,
}

impl Expect {
    /// The word that stands in a record.
    pub fn as_str(self) -> &'static str {
        match self {
            Expect::Pdf => "pdf",
            Expect::Html => "html",
            Expect::Xml => "xml",
            Expect::Any => "any",
        }
    }

    /// The value of a word that [`Expect::as_str`] gave.
    pub fn parse(word: &str) -> Option<Self> {
        [Expect::Pdf, Expect::Html, Expect::Xml, Expect::Any].into_iter().find(|one| one.as_str() == word)
    }
}

/// One artifact: what it is called, where it may be had, what is accepted, when it may start.
///
/// ```
/// use longhaul_pipeline::Record;
/// let line = r#"{"id": "https://doi.org/10.1000/ABC", "title": "On Ice", "publication_year": 1999}"#;
/// let record = Record::parse_line(line).unwrap().unwrap();
/// assert_eq!(record.artifact_id, "doi:10.1000/abc");
/// assert!(record.stem().starts_with("1999__on-ice__doi_10.1000_abc-"));
/// assert_eq!(record.payload(), line);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The idempotence key: `artifact_id`, else `id`, as given, but a DOI in whatever form is `doi:10.x/…` in lower
    /// case. A bare URL's key is the normalised URL without its fragment.
    pub artifact_id: String,
    /// The work's own id, for the file name.
    pub work_id: Option<String>,
    /// The title.
    pub title: Option<String>,
    /// The year of publication.
    pub year: Option<i32>,
    /// The DOI without any prefix, in the letter case of its producer; `None` if what stands there is no DOI.
    pub doi: Option<String>,
    /// The PubMed id, digits alone.
    pub pmid: Option<String>,
    /// The PubMed Central id, `PMC` and digits.
    pub pmcid: Option<String>,
    /// The arXiv id, without prefix.
    pub arxiv_id: Option<String>,
    /// Where the artifact is, if its producer knows.
    pub url: Option<Url>,
    /// Where PDFs of it are said to be.
    pub pdf_urls: Vec<Url>,
    /// Pages that may link to it.
    pub landing_urls: Vec<Url>,
    /// An open-access copy, or a page about it.
    pub open_access_url: Option<Url>,
    /// Where it has been tried in vain.
    pub failed_pdf_urls: Vec<Url>,
    /// What may be accepted. If nothing is said: anything for a record whose one candidate is its `url`, else a PDF.
    pub expect: Expect,
    /// The file's SHA-256, 64 lower-case hexadecimal digits.
    pub sha256: Option<String>,
    /// The file's length.
    pub bytes: Option<u64>,
    /// Which resolver to ask first.
    pub resolver_hint: Option<String>,
    /// The priority class, 0 to 9; 9 goes first.
    pub priority: u8,
    /// How many charged tries it gets; `None` is what the running process is configured to.
    pub max_attempts: Option<u32>,
    /// Not before this wall time.
    pub available_at: Option<SystemTime>,
    /// What its file is to be called, without extension.
    pub base_stem: Option<String>,
    payload: String,
}

impl Record {
    /// The longest line that is read, in bytes: 1 MiB.
    pub const MAX_BYTES: usize = 1024 * 1024;

    /// The longest key, in bytes.
    pub const MAX_ID_BYTES: usize = 2048;

    /// Reads a line: a JSON object, `{"artifact": {…}, "context": {…}}`, an OpenAlex work, a bare DOI or a bare URL; also
    /// a line of `queue list`, which is the artifact in it.
    /// `None` for a blank line. A byte order mark at the start is ignored.
    ///
    /// # Errors
    /// If the line is none of these, or a field holds what it must not. Unknown fields are no error, whatever
    /// they hold.
    pub fn parse_line(line: &str) -> Result<Option<Self>, RecordError> {
        let line = line.strip_prefix('\u{feff}').unwrap_or(line).trim();
        if line.is_empty() {
            return Ok(None);
        }
        if line.len() > Self::MAX_BYTES {
            return Err(RecordError::TooLong);
        }
        if line.starts_with('{') { Self::from_payload(line) } else { read::plain(line) }.map(Some)
    }

    /// As [`Record::parse_line`], for bytes that may be anything.
    ///
    /// # Errors
    /// As [`Record::parse_line`], and if the bytes are not UTF-8.
    pub fn parse_bytes(line: &[u8]) -> Result<Option<Self>, RecordError> {
        if line.len() > Self::MAX_BYTES {
            return Err(RecordError::TooLong);
        }
        let text = std::str::from_utf8(line)
            .map_err(|error| RecordError::NotUtf8 { column: error.valid_up_to() + 1 })?;
        Self::parse_line(text)
    }

    /// Reads what [`Record::payload`] gave.
    ///
    /// # Errors
    /// As [`Record::parse_line`]; only a JSON object is accepted.
    pub fn from_payload(payload: &str) -> Result<Self, RecordError> {
        if payload.len() > Self::MAX_BYTES {
            return Err(RecordError::TooLong);
        }
        let value = json::parse(payload)?;
        match read::listed(&value) {
            Some(artifact) => read::record(artifact, artifact.to_string()),
            None => read::record(&value, payload.to_owned()),
        }
    }

    /// The artifact as JSON text: the line as it came, unknown fields and all; for a bare DOI or URL an object made
    /// from it.
    pub fn payload(&self) -> &str {
        &self.payload
    }

    /// Where the artifact may be had without asking a resolver: `url`, `pdf_urls`, `open_access_url`, in this order,
    /// each once, without those that failed before, http and https alone, without fragments.
    pub fn candidates(&self) -> Vec<Url> {
        let whole = |url: &Url| {
            let mut url = url.clone();
            url.set_fragment(None);
            url
        };
        let failed: Vec<Url> = self.failed_pdf_urls.iter().map(whole).collect();
        let mut candidates: Vec<Url> = Vec::new();
        for url in self.url.iter().chain(&self.pdf_urls).chain(&self.open_access_url).map(whole) {
            let allowed = matches!(url.scheme(), "http" | "https") && url.has_host();
            if allowed && !failed.contains(&url) && !candidates.contains(&url) {
                candidates.push(url);
            }
        }
        candidates
    }

    /// The scheme of the first address that is none to fetch from, such as `ftp`.
    #[cfg(feature = "http")]
    pub(crate) fn unfetched(&self) -> Option<&str> {
        let own = self.url.iter().chain(&self.pdf_urls).chain(&self.open_access_url);
        own.map(Url::scheme).find(|scheme| !matches!(*scheme, "http" | "https"))
    }

    /// The name of its file, without extension: `base_stem`, else `{year|noyear}__{title}__{work_id or artifact_id}`.
    ///
    /// Usable on every file system: at most [`Record::MAX_STEM_BYTES`] bytes, no separators or control
    /// characters, no name that Windows or longhaul itself reserves. Where the id had to be cut or changed for that,
    /// a hash of the key keeps two artifacts apart.
    pub fn stem(&self) -> String {
        stem::stem(self)
    }

    /// The longest file name without extension, in bytes.
    pub const MAX_STEM_BYTES: usize = 180;

    /// Which lane its first request presses on, and for what; [`Lane::NONE`] if no candidate is known.
    pub fn place(&self, keying: &Keying) -> (Lane, Role) {
        let lane = self.candidates().iter().find_map(|url| keying.lane(url).ok());
        (lane.unwrap_or(Lane::NONE), Role::Artifact)
    }
}
