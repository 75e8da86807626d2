//! Why a line is not a record, said so that whoever wrote it can mend it.

/// Why a line is not a record. The texts are made to follow `FILE:LINE: `.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It is longer than [`Record::MAX_BYTES`](super::Record::MAX_BYTES).
    #[error("the line is longer than 1 MiB")]
    TooLong,
    /// It is not UTF-8.
    #[error("the line is not UTF-8 at column {column}")]
    NotUtf8 {
        /// The first byte that is not, from 1.
        column: usize,
    },
    /// It starts like JSON and is not.
    #[error("not JSON: {what} at {position}")]
    NotJson {
        /// What is wrong.
        what: String,
        /// Where.
        position: String,
    },
    /// It is not JSON, not a DOI and not a URL.
    #[error("{start:?} is neither a JSON object, a DOI nor a URL")]
    Unrecognised {
        /// How it starts.
        start: String,
    },
    /// It is JSON, but not an object.
    #[error("{found} where an object belongs")]
    NotAnObject {
        /// What it is.
        found: &'static str,
    },
    /// It says a key twice, so that one of the two would be lost.
    #[error("the key {key:?} stands twice, again at {position}")]
    DuplicateKey {
        /// Which.
        key: String,
        /// Where the second one is.
        position: String,
    },
    /// Its objects and lists lie too deep within each other.
    #[error("nested deeper than {limit} levels at {position}")]
    TooDeep {
        /// How deep they may.
        limit: usize,
        /// Where.
        position: String,
    },
    /// It has no id.
    #[error("there is neither an `id` nor an `artifact_id`")]
    MissingId,
    /// Its id is empty.
    #[error("`{field}` is empty")]
    EmptyId {
        /// Which field.
        field: &'static str,
    },
    /// Its id is longer than [`Record::MAX_ID_BYTES`](super::Record::MAX_ID_BYTES).
    #[error("the id has {bytes} bytes, 2048 is the most")]
    IdTooLong {
        /// How long it is.
        bytes: usize,
    },
    /// Its id holds control characters.
    #[error("the id holds a control character")]
    IdHasControl,
    /// A field holds a value of another kind.
    #[error("`{field}` is {found} where {wanted} belongs")]
    WrongType {
        /// Which field.
        field: String,
        /// What it is.
        found: &'static str,
        /// What it should be.
        wanted: &'static str,
    },
    /// A field should hold a URL and does not.
    #[error("`{field}` is not a URL: {url:?}: {why}")]
    BadUrl {
        /// Which field; empty for a bare line.
        field: String,
        /// What stands there, cut.
        url: String,
        /// What is wrong.
        why: String,
    },
    /// Its only addresses are of a kind that is not fetched.
    #[error("`{field}` is no address to fetch from ({scheme}:); only http and https are")]
    NotFetched {
        /// The first field that has one.
        field: String,
        /// Its scheme.
        scheme: String,
    },
    /// The priority is not one of 0 to 9.
    #[error("`priority` is {found}, not a whole number from 0 (last) to 9 (first)")]
    BadPriority {
        /// What stands there.
        found: String,
    },
    /// A number is not one that the field may hold.
    #[error("`{field}` is {found}, not {wanted}")]
    BadNumber {
        /// Which field.
        field: &'static str,
        /// What stands there.
        found: String,
        /// What may.
        wanted: &'static str,
    },
    /// A time is not one.
    #[error("`{field}` is not a time like 2026-01-31T12:00:00Z: {found:?}")]
    BadDate {
        /// Which field.
        field: &'static str,
        /// What stands there, cut.
        found: String,
    },
    /// A digest is not one.
    #[error("`sha256` is not 64 hexadecimal digits: {found:?}")]
    BadSha256 {
        /// What stands there, cut.
        found: String,
    },
    /// An unknown expectation.
    #[error("`expect` is {found:?}, not one of pdf, html, xml, any")]
    BadExpect {
        /// What stands there, cut.
        found: String,
    },
}

/// The start of a text, short enough for a message.
pub(super) fn cut(text: &str) -> String {
    const MOST: usize = 60;
    if text.chars().count() <= MOST {
        return text.to_owned();
    }
    let start: String = text.chars().take(MOST).collect();
    format!("{start}…")
}
