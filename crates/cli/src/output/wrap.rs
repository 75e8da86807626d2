//! Lines for people, broken between words where a terminal ends, and indented as what they go on with.

use textwrap::{Options, WordSeparator, WordSplitter};

/// Narrower than this, breaking makes nothing easier to read.
const NARROWEST: usize = 40;

/// The text with each line that is too wide broken. A word that is wider, such as a URL, stays whole, so that it can be
/// copied.
pub(super) fn wrapped(text: &str, width: Option<usize>) -> String {
    let Some(width) = width.filter(|width| *width >= NARROWEST) else { return text.to_owned() };
    let lines: Vec<String> = text.split('\n').map(|line| one(line, width)).collect();
    lines.join("\n")
}

fn one(line: &str, width: usize) -> String {
    let indent = " ".repeat(indent(line));
    let options = Options::new(width)
        .subsequent_indent(&indent)
        .word_separator(WordSeparator::AsciiSpace)
        .word_splitter(WordSplitter::NoHyphenation)
        .break_words(false);
    textwrap::fill(line, options)
}

/// Where the rest of a line goes on: below its value if it begins with a name, like `files    downloads`; else two
/// further in than its beginning.
fn indent(line: &str) -> usize {
    let begin = line.len() - line.trim_start().len();
    let value = line[begin..].find("  ").map(|gap| {
        let after = begin + gap;
        after + (line[after..].len() - line[after..].trim_start().len())
    });
    match (begin, value) {
        (0, Some(value)) if value <= 20 => value,
        (0, _) => 2,
        (begin, _) if begin >= 8 => begin,
        (begin, _) => begin + 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_line_goes_on_below_its_value() {
        let line =
            "limits   8 workers; each host: 4 at a time, as fast as it answers; arxiv.org: 1 at a time, 1/3s";
        assert_eq!(
            wrapped(line, Some(60)),
            "limits   8 workers; each host: 4 at a time, as fast as it\n         answers; arxiv.org: 1 at a time, 1/3s"
        );
        assert_eq!(wrapped(line, None), line);
        assert_eq!(wrapped(line, Some(10)), line);
    }

    #[test]
    fn what_is_indented_goes_on_further_in_and_an_address_stays_whole() {
        let address = format!("http://h.example/{}", "a".repeat(60));
        assert_eq!(
            wrapped(&format!("failed 1\n    such as {address}: answered 404"), Some(50)),
            format!("failed 1\n    such as\n      {address}:\n      answered 404")
        );
    }
}
