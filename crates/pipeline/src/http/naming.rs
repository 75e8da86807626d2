//! Names on disk. They come from the artifact and from what the bytes are, never from the server.

use sha2::{Digest, Sha256};
use url::Url;

use super::check::Kind;
use super::hex;
use super::options::Layout;

/// The longest extension that is taken from a URL.
const EXTENSION_BYTES: usize = 8;

/// How many digits of the key's hash tell two artifacts apart that would have one name; more are taken in turn.
const SUFFIX_DIGITS: [usize; 3] = [8, 16, 64];

/// The first choice for a file's path, relative to the output folder, with `/`.
pub(super) fn path(layout: Layout, artifact_id: &str, stem: &str, extension: &str) -> String {
    let folder = match layout {
        Layout::Flat => String::new(),
        Layout::Sharded => {
            let hash = key_hash(artifact_id);
            format!("{}/{}/", &hash[..2], &hash[2..4])
        }
    };
    format!("{folder}{stem}.{extension}")
}

/// The next choice after `path`: its name with more of the key's hash. `None` if all of it is there already.
pub(super) fn next(path: &str, artifact_id: &str) -> Option<String> {
    let (stem, extension) = path.rsplit_once('.')?;
    let hash = key_hash(artifact_id);
    let suffix = |digits: usize| format!("~{}", &hash[..digits]);
    let used = SUFFIX_DIGITS.iter().position(|&digits| stem.ends_with(&suffix(digits)));
    let stem = used.map_or(stem, |used| &stem[..stem.len() - SUFFIX_DIGITS[used] - 1]);
    let digits = *SUFFIX_DIGITS.get(used.map_or(0, |used| used + 1))?;
    Some(format!("{stem}{}.{extension}", suffix(digits)))
}

/// Whether a path carries the hash of this key, so that no other artifact can ever have it.
pub(super) fn is_own(path: &str, artifact_id: &str) -> bool {
    let hash = key_hash(artifact_id);
    let stem = path.rsplit_once('.').map_or(path, |(stem, _)| stem);
    SUFFIX_DIGITS.iter().any(|&digits| stem.ends_with(&format!("~{}", &hash[..digits])))
}

/// The extension: what the bytes are; else what the URL's last segment ends with, if that looks like one; else `bin`.
pub(super) fn extension(kind: Kind, url: &Url) -> String {
    let known = match kind {
        Kind::Pdf => "pdf",
        Kind::Html => "html",
        Kind::Xml => "xml",
        Kind::Other => return url_extension(url).unwrap_or_else(|| "bin".to_owned()),
    };
    known.to_owned()
}

fn url_extension(url: &Url) -> Option<String> {
    let (name, extension) = url.path_segments()?.next_back()?.rsplit_once('.')?;
    let sane = !name.is_empty()
        && (1..=EXTENSION_BYTES).contains(&extension.len())
        && extension.bytes().all(|byte| byte.is_ascii_alphanumeric())
        // `10.1000/182` is a DOI and no file of type `1000`.
        && extension.bytes().any(|byte| byte.is_ascii_alphabetic());
    sane.then(|| extension.to_ascii_lowercase())
}

fn key_hash(artifact_id: &str) -> String {
    hex(&Sha256::digest(artifact_id.as_bytes()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_path_is_flat_or_in_two_levels_of_folders() {
        assert_eq!(path(Layout::Flat, "a", "stem", "pdf"), "stem.pdf");
        // sha256("a") = ca978112…
        assert_eq!(path(Layout::Sharded, "a", "stem", "pdf"), "ca/97/stem.pdf");
    }

    #[test]
    fn a_taken_name_gets_more_and_more_of_the_hash() {
        let first = next("x/stem.v2.pdf", "a").unwrap();
        assert_eq!(first, "x/stem.v2~ca978112.pdf");
        assert!(is_own(&first, "a") && !is_own(&first, "b") && !is_own("x/stem.v2.pdf", "a"));
        let second = next(&first, "a").unwrap();
        assert_eq!(second, "x/stem.v2~ca978112ca1bbdca.pdf");
        let third = next(&second, "a").unwrap();
        assert!(is_own(&second, "a") && is_own(&third, "a"));
        assert_eq!(next(&third, "a"), None);
        assert!(third.len() <= 255);
    }

    #[test]
    fn the_longest_name_fits_every_file_system() {
        let stem = "x".repeat(crate::Record::MAX_STEM_BYTES);
        let mut name = path(Layout::Flat, "a", &stem, &"e".repeat(EXTENSION_BYTES));
        while let Some(longer) = next(&name, "a") {
            name = longer;
        }
        assert!(name.len() <= 255, "{}", name.len());
    }

    #[test]
    fn the_extension_is_what_the_bytes_are_or_what_the_url_says() {
        let of = |kind, url: &str| extension(kind, &Url::parse(url).unwrap());
        assert_eq!(of(Kind::Pdf, "https://a.example/x.exe"), "pdf");
        assert_eq!(of(Kind::Other, "https://a.example/data.tar.GZ?x=y.zip"), "gz");
        for bare in [
            "https://a.example/",
            "https://a.example/.hidden",
            "https://a.example/10.1000",
            "https://a.example/x.",
            "https://a.example/x.waytoolongforone",
            "https://a.example/x.a%2fb",
            "https://a.example/x.y/z",
        ] {
            assert_eq!(of(Kind::Other, bare), "bin", "{bare}");
        }
    }
}
