//! Bodies as a pure function of (seed, host, path, revision): random access, never held whole, so that a range
//! of a ten-gigabyte file costs no more than its own bytes and anybody can check a file without asking the origin.
//!
//! The bytes do not form a readable document. They look like one to whoever checks magic bytes, tails and lengths.

use std::ops::Range;
use std::sync::OnceLock;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::hash;

/// Every page starts with a stamp of its own, so that no page of any body can be taken for another.
const PAGE: u64 = 4096;
const STAMP: usize = 16;
const NOISE: usize = 64 * 1024;

/// What a body pretends to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Starts `%PDF-1.7\n`, ends `%%EOF\n`, at least 1,024 bytes.
    #[default]
    Pdf,
    /// An HTML page of meaningless letters.
    Html,
    /// An XML article of meaningless letters.
    Xml,
    /// Bytes without head or tail; may be empty.
    Bytes,
}

impl Kind {
    /// The honest `Content-Type`.
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Pdf => "application/pdf",
            Self::Html => "text/html; charset=utf-8",
            Self::Xml => "application/xml",
            Self::Bytes => "application/octet-stream",
        }
    }

    fn head(self) -> &'static [u8] {
        match self {
            Self::Pdf => b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
            Self::Html => b"<!doctype html>\n<html><body><p>\n",
            Self::Xml => b"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<article><body><p>\n",
            Self::Bytes => b"",
        }
    }

    fn tail(self) -> &'static [u8] {
        match self {
            Self::Pdf => b"\nstartxref\n9\n%%EOF\n",
            Self::Html => b"\n</p></body></html>\n",
            Self::Xml => b"\n</p></body></article>\n",
            Self::Bytes => b"",
        }
    }

    fn least(self) -> u64 {
        match self {
            Self::Pdf => 1024,
            Self::Html | Self::Xml => (self.head().len() + self.tail().len()) as u64,
            Self::Bytes => 0,
        }
    }

    fn noise(self) -> &'static [u8] {
        static BINARY: OnceLock<Vec<u8>> = OnceLock::new();
        static LETTERS: OnceLock<Vec<u8>> = OnceLock::new();
        match self {
            Self::Pdf | Self::Bytes => BINARY.get_or_init(|| noise_table(|byte| byte)),
            Self::Html | Self::Xml => LETTERS.get_or_init(|| noise_table(|byte| b'a' + byte % 26)),
        }
    }
}

/// The table that all bodies are cut from. One page longer than its period, so that a page is one slice of it.
fn noise_table(letter: impl Fn(u8) -> u8) -> Vec<u8> {
    let mut table: Vec<u8> =
        (0..NOISE as u64 / 8).flat_map(|word| hash::mix(word).to_le_bytes()).map(letter).collect();
    table.extend_from_within(..PAGE as usize);
    table
}

/// The kind of a host's bodies and the range that their sizes are drawn from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Shape {
    /// What the body pretends to be.
    pub kind: Kind,
    /// The least size in bytes. The kind's own least size wins where it is larger.
    pub min_bytes: u64,
    /// The greatest size in bytes. Sizes between are equally likely.
    pub max_bytes: u64,
}

impl Default for Shape {
    fn default() -> Self {
        Self { kind: Kind::Pdf, min_bytes: 16 * 1024, max_bytes: 64 * 1024 }
    }
}

impl Shape {
    /// A PDF of exactly this many bytes.
    pub fn pdf(bytes: u64) -> Self {
        Self { kind: Kind::Pdf, min_bytes: bytes, max_bytes: bytes }
    }
}

/// One body, as a function that has not been evaluated.
///
/// ```
/// use longhaul_origin::{Document, Shape};
///
/// let document = Document::new(7, "publisher", "/a.pdf", 0, Shape::default());
/// let whole = document.whole();
/// assert!(whole.starts_with(b"%PDF-1.7\n") && whole.ends_with(b"%%EOF\n"));
/// assert_eq!(document.slice(100..200), whole.slice(100..200));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Document {
    key: u64,
    revision: u64,
    kind: Kind,
    len: u64,
}

impl Document {
    /// The body of `path` (without query) on `host`. Another revision is another body, in size too.
    pub fn new(seed: u64, host: &str, path: &str, revision: u64, shape: Shape) -> Self {
        let key = hash::of(seed, &[host.as_bytes(), path.as_bytes(), &revision.to_le_bytes()]);
        let least = shape.min_bytes.max(shape.kind.least());
        let spread = shape.max_bytes.saturating_sub(least).saturating_add(1);
        Self { key, revision, kind: shape.kind, len: least + hash::mix(key ^ 1) % spread }
    }

    /// The length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "whether a body is empty is a question nobody asks")]
    pub fn len(&self) -> u64 {
        self.len
    }

    /// What it pretends to be.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The bytes of a range, cut off at the body's end.
    pub fn slice(&self, range: Range<u64>) -> Bytes {
        let end = range.end.min(self.len);
        let mut buffer = vec![0; end.saturating_sub(range.start) as usize];
        self.read_at(range.start, &mut buffer);
        buffer.into()
    }

    /// All bytes, in memory.
    pub fn whole(&self) -> Bytes {
        self.slice(0..self.len)
    }

    /// Fills `buffer` with the bytes from `offset` on. The caller keeps within the body's length.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) {
        let noise = self.kind.noise();
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (page, within) = (at / PAGE, (at % PAGE) as usize);
            let count = (PAGE as usize - within).min(buffer.len() - done);
            let stamp = hash::mix(self.key ^ hash::mix(page));
            let start = stamp as usize % NOISE + within;
            buffer[done..done + count].copy_from_slice(&noise[start..start + count]);
            if within < STAMP {
                overlay(&mut buffer[done..done + count], at, page * PAGE, format!("{stamp:016x}").as_bytes());
            }
            done += count;
        }
        overlay(buffer, offset, 0, self.kind.head());
        let tail = self.kind.tail();
        overlay(buffer, offset, self.len.saturating_sub(tail.len() as u64), tail);
    }

    /// The digest of all bytes, in lower-case hexadecimal.
    pub fn sha256(&self) -> String {
        let mut digest = Sha256::new();
        let mut buffer = vec![0; 64 * 1024];
        let mut offset = 0;
        while offset < self.len {
            let count = (self.len - offset).min(buffer.len() as u64) as usize;
            self.read_at(offset, &mut buffer[..count]);
            digest.update(&buffer[..count]);
            offset += count as u64;
        }
        digest.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
            hex.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
            hex
        })
    }

    /// The strong entity tag, quotes included.
    pub fn etag(&self) -> String {
        format!("\"{:016x}\"", hash::mix(self.key ^ self.len))
    }

    /// The `Last-Modified` date in Unix seconds: 2020-01-01 and a day for each revision.
    pub fn last_modified(&self) -> u64 {
        1_577_836_800 + self.revision.min(36_500) * 86_400
    }
}

/// Writes `bytes`, which belong at offset `at` of the body, over the part of `buffer` (which starts at `offset`)
/// that they fall into.
fn overlay(buffer: &mut [u8], offset: u64, at: u64, bytes: &[u8]) {
    let start = at.max(offset);
    let end = (at + bytes.len() as u64).min(offset + buffer.len() as u64);
    if start < end {
        buffer[(start - offset) as usize..(end - offset) as usize]
            .copy_from_slice(&bytes[(start - at) as usize..(end - at) as usize]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> impl Iterator<Item = Shape> {
        [Kind::Pdf, Kind::Html, Kind::Xml, Kind::Bytes]
            .into_iter()
            .flat_map(|kind| [0, 3000, 70_000].map(|max_bytes| Shape { kind, min_bytes: 0, max_bytes }))
    }

    #[test]
    fn any_range_is_the_slice_of_the_whole() {
        for shape in shapes() {
            let document = Document::new(3, "h", "/p", 0, shape);
            let whole = document.whole();
            assert_eq!(whole.len() as u64, document.len());
            for step in 0..200 {
                let start = hash::mix(step) % (document.len() + 1);
                let end = start + hash::mix(step + 1000) % (document.len() + 1 - start);
                assert_eq!(document.slice(start..end), whole.slice(start as usize..end as usize));
            }
        }
    }

    #[test]
    fn head_and_tail_are_those_of_the_kind() {
        for shape in shapes() {
            let whole = Document::new(3, "h", "/p", 0, shape).whole();
            assert!(whole.starts_with(shape.kind.head()));
            assert!(whole.ends_with(shape.kind.tail()));
            assert!(shape.kind != Kind::Pdf || whole.len() >= 1024);
        }
    }

    #[test]
    fn each_of_seed_host_path_and_revision_makes_another_body() {
        let of = |seed, host, path, revision| {
            Document::new(seed, host, path, revision, Shape { min_bytes: 9000, ..Shape::pdf(9000) })
        };
        let first = of(1, "a", "/x", 0);
        for other in [of(2, "a", "/x", 0), of(1, "b", "/x", 0), of(1, "a", "/y", 0), of(1, "a", "/x", 1)] {
            assert_ne!(first.sha256(), other.sha256());
            assert_ne!(first.etag(), other.etag());
            // Not only the head differs: a page in the middle does as well.
            assert_ne!(first.slice(4096..8192), other.slice(4096..8192));
        }
        assert_eq!(first.sha256(), of(1, "a", "/x", 0).sha256());
    }

    #[test]
    fn the_bytes_never_change_between_versions_of_the_origin() {
        let document = Document::new(1, "host", "/path", 0, Shape::pdf(5000));
        assert_eq!(document.etag(), "\"ce2256130eba4f7b\"");
        assert_eq!(document.sha256(), "a57ae855c19a6e399cec2417a7c894beb772e86792aac03f449ab226e5bcb83c");
    }

    #[test]
    fn sizes_fill_their_range() {
        let shape = Shape { min_bytes: 2000, max_bytes: 3000, ..Shape::default() };
        let sizes: Vec<u64> =
            (0..500).map(|n| Document::new(0, "h", &format!("/{n}"), 0, shape).len()).collect();
        assert!(sizes.iter().all(|size| (2000..=3000).contains(size)));
        assert!(sizes.iter().min() < Some(&2050) && sizes.iter().max() > Some(&2950));
    }

    #[test]
    fn the_far_end_of_a_gigantic_body_is_at_hand() {
        let document = Document::new(1, "h", "/huge", 0, Shape::pdf(10_000_000_000_000));
        assert!(document.slice(9_999_999_999_000..u64::MAX).ends_with(b"%%EOF\n"));
    }
}
