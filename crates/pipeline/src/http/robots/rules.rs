//! The part of a robots.txt that is meant for us (RFC 9309, section 2.2).
//!
//! Groups, precedence and wildcards are `robotxt`'s. Here is what it leaves to its caller: how a `User-agent` line that
//! names more than a product token is read, and the few lines that are worth keeping for an hour.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::time::Duration;

use robotxt::Robots;
use url::Url;

/// The name under which a robots.txt speaks of us.
pub(super) const PRODUCT_TOKEN: &str = "longhaul";
/// More of a file is not read: what the RFC asks for at least.
pub(super) const MOST_BYTES: usize = robotxt::BYTE_LIMIT;
/// No longer `Crawl-delay` is honoured; a file that names a day has a mistake in it.
const LONGEST_DELAY: Duration = Duration::from_mins(5);

/// Which paths of an origin may be asked for, and how often something there may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rules {
    robots: Robots,
}

impl Rules {
    /// No rules: everything may be asked for.
    pub(super) fn none() -> Self {
        Self { robots: Robots::allow_all() }
    }

    /// Reads a file, or what [`Rules::text`] kept of it. Nothing is refused: what is no rule is none.
    pub(super) fn read(file: &[u8]) -> Self {
        let read = Self { robots: Robots::parse(&product_tokens(file), PRODUCT_TOKEN) };
        if read.robots.sitemaps().is_empty() {
            return read;
        }
        // Addresses of site maps may be most of a file, and are of no use here.
        Self { robots: Robots::parse(read.text().as_bytes(), PRODUCT_TOKEN) }
    }

    /// Whether they ask for nothing at all, as those of most origins do.
    pub(super) fn are_none(&self) -> bool {
        self.robots.rules().is_empty() && self.robots.crawl_delay().is_none()
    }

    /// Whether a URL of the file's origin may be asked for.
    pub(super) fn allow(&self, url: &Url) -> bool {
        self.robots.is_url_allowed(url)
    }

    /// How long the origin wants between two requests, as far as it is honoured.
    pub(super) fn crawl_delay(&self) -> Option<Duration> {
        let delay = self.robots.crawl_delay()?;
        (!delay.is_zero()).then(|| delay.min(LONGEST_DELAY))
    }

    /// The rules as a file of their own.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if !self.are_none() {
            text.push_str("User-agent: *\n");
        }
        // Writing to a text does not fail.
        for rule in self.robots.rules() {
            let word = if rule.is_allow() { "Allow" } else { "Disallow" };
            let _ = writeln!(text, "{word}: {}", rule.pattern());
        }
        if let Some(delay) = self.robots.crawl_delay() {
            let _ = writeln!(text, "Crawl-delay: {}", delay.as_secs_f64());
        }
        text
    }

    /// About how much memory they take.
    pub(super) fn weight(&self) -> usize {
        let rules = self.robots.rules();
        size_of::<Self>() + rules.iter().map(|rule| size_of_val(rule) + rule.pattern().len()).sum::<usize>()
    }
}

/// The file with each `User-agent` line cut to what a product token may hold, as the RFC has it in section 2.2.1: sites write
/// `longhaul/1.0` and `* (everybody)`, and mean us. All else stays as it is.
fn product_tokens(file: &[u8]) -> Cow<'_, [u8]> {
    let file = file.strip_prefix(b"\xef\xbb\xbf").unwrap_or(file);
    let is_end = |byte: &u8| matches!(byte, b'\n' | b'\r' | b'\0');
    let is_longer =
        |line: &[u8]| agent(line).is_some_and(|(token, rest)| !token.is_empty() && !rest.is_empty());
    if !file.split(is_end).any(is_longer) {
        return Cow::Borrowed(file);
    }
    let mut cut = Vec::with_capacity(file.len());
    for line in file.split(is_end) {
        match agent(line) {
            Some((token, _)) if !token.is_empty() => {
                cut.extend_from_slice(b"User-agent: ");
                cut.extend_from_slice(token);
            }
            _ => cut.extend_from_slice(line),
        }
        cut.push(b'\n');
    }
    Cow::Owned(cut)
}

/// The product token of a `User-agent` line, and what comes after it; `None` for other lines.
fn agent(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let line = line.trim_ascii();
    let named =
        |key: &str| line.get(..key.len()).is_some_and(|start| start.eq_ignore_ascii_case(key.as_bytes()));
    let key = ["user-agent", "useragent", "user agent"].into_iter().find(|key| named(key))?;
    let rest = &line[key.len()..];
    let value = rest.trim_ascii_start();
    let value = match value.strip_prefix(b":") {
        Some(value) => value.trim_ascii_start(),
        None if value.len() < rest.len() => value,
        None => return None,
    };
    let value = value.split(|byte| *byte == b'#').next().unwrap_or_default().trim_ascii_end();
    let length = match value.first() {
        Some(b'*') => 1,
        _ => value.iter().take_while(|byte| byte.is_ascii_alphabetic() || b"-_".contains(byte)).count(),
    };
    Some(value.split_at(length))
}

#[cfg(test)]
mod tests;
