//! What a part of a body may be continued with: strong validators, and the range that came.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

/// How much older than the answer a modification date must be, to name one version only: within a second a file
/// can change twice, and the two clocks may differ.
const SETTLED: Duration = Duration::from_mins(1);

/// What names one version of a file, strongly enough to join bytes of two answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Validator {
    /// A strong entity tag, quotes included.
    Etag(String),
    /// A modification date that had settled when the answer was made, as it was written.
    Date(String),
}

impl Validator {
    /// The strongest that an answer has.
    pub(super) fn of(etag: Option<&str>, last_modified: Option<&str>, date: Option<&str>) -> Option<Self> {
        if let Some(etag) = etag {
            let quoted = etag.len() >= 2 && etag.starts_with('"') && etag.ends_with('"');
            // A weak tag says that versions may differ, and then so may their dates.
            return quoted.then(|| Self::Etag(etag.to_owned()));
        }
        let modified = http_date(last_modified?)?;
        let age = http_date(date?)?.duration_since(modified).ok()?;
        (age >= SETTLED).then(|| Self::Date(last_modified.unwrap_or_default().to_owned()))
    }

    /// The value for `If-Range`.
    pub(super) fn as_str(&self) -> &str {
        match self {
            Validator::Etag(value) | Validator::Date(value) => value,
        }
    }

    /// Whether an answer with these headers may be of this version. A header that is absent contradicts nothing.
    pub(super) fn agrees(&self, etag: Option<&str>, last_modified: Option<&str>) -> bool {
        match self {
            Validator::Etag(ours) => etag.is_none_or(|theirs| theirs == ours),
            Validator::Date(ours) => last_modified.is_none_or(|theirs| theirs == ours),
        }
    }
}

fn http_date(value: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(value).ok()
}

/// What `Content-Range` says: the first and the last byte, and the whole length if it is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ContentRange {
    pub(super) first: u64,
    pub(super) last: u64,
    pub(super) whole: Option<u64>,
}

impl ContentRange {
    /// Reads `bytes 5-9/10` or `bytes 5-9/*`; `None` for anything else, contradictions included.
    pub(super) fn parse(value: &str) -> Option<Self> {
        let (unit, rest) = value.trim().split_once(' ')?;
        let (range, whole) = rest.trim().split_once('/')?;
        let (first, last) = range.split_once('-')?;
        let whole = match whole {
            "*" => None,
            whole => Some(number(whole)?),
        };
        let this = Self { first: number(first)?, last: number(last)?, whole };
        let right = unit.eq_ignore_ascii_case("bytes")
            && this.first <= this.last
            && this.last < u64::MAX
            && whole.is_none_or(|whole| this.last < whole);
        right.then_some(this)
    }

    /// Whether it is exactly the rest of the file from `offset` on.
    pub(super) fn is_rest_from(&self, offset: u64) -> bool {
        self.first == offset && self.whole.is_none_or(|whole| whole == self.last + 1)
    }
}

/// Digits alone: `parse` would take a sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok())?
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_content_range_is_read_exactly() {
        let read = |value| ContentRange::parse(value).map(|range| (range.first, range.last, range.whole));
        assert_eq!(read("bytes 5-9/10"), Some((5, 9, Some(10))));
        assert_eq!(read("Bytes 0-0/*"), Some((0, 0, None)));
        for wrong in [
            "",
            "bytes",
            "bytes */10",
            "bytes 9-5/10",
            "bytes 5-9/9",
            "bytes 5-/10",
            "lines 1-2/3",
            "bytes 5-9",
            "bytes +5-9/10",
            "bytes 5-9/+10",
            "bytes 0-18446744073709551615/*",
        ] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn only_the_whole_rest_continues_a_part() {
        let rest = |value: &str, offset| ContentRange::parse(value).is_some_and(|r| r.is_rest_from(offset));
        assert!(rest("bytes 5-9/10", 5));
        assert!(rest("bytes 5-9/*", 5));
        assert!(!rest("bytes 5-8/10", 5));
        assert!(!rest("bytes 0-9/10", 5));
    }

    #[test]
    fn only_strong_validators_count() {
        let (old, new) = ("Sun, 06 Nov 1994 08:48:37 GMT", "Sun, 06 Nov 1994 08:49:37 GMT");
        assert_eq!(Validator::of(Some("\"a\""), None, None), Some(Validator::Etag("\"a\"".to_owned())));
        assert_eq!(Validator::of(Some("W/\"a\""), Some(old), Some(new)), None);
        assert_eq!(Validator::of(Some("a"), None, None), None);
        assert_eq!(Validator::of(None, Some(old), Some(new)), Some(Validator::Date(old.to_owned())));
        assert_eq!(Validator::of(None, Some(new), Some(new)), None);
        assert_eq!(Validator::of(None, Some(new), Some(old)), None);
        assert_eq!(Validator::of(None, Some(old), None), None);
    }

    #[test]
    fn another_tag_is_another_version() {
        let ours = Validator::Etag("\"a\"".to_owned());
        assert!(ours.agrees(Some("\"a\""), None) && ours.agrees(None, None));
        assert!(!ours.agrees(Some("\"b\""), None));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_harm(value in ".{0,60}", offset in any::<u64>()) {
            if let Some(range) = ContentRange::parse(&value) {
                prop_assert!(range.first <= range.last);
                let _either = range.is_rest_from(offset);
            }
        }

        #[test]
        fn what_is_written_is_read(first in 0_u64..1 << 40, length in 1_u64..1 << 40, more in 0_u64..9) {
            let (last, whole) = (first + length - 1, first + length + more);
            let range = ContentRange::parse(&format!("bytes {first}-{last}/{whole}"));
            prop_assert_eq!(range, Some(ContentRange { first, last, whole: Some(whole) }));
            prop_assert_eq!(range.is_some_and(|range| range.is_rest_from(first)), more == 0);
        }
    }
}
