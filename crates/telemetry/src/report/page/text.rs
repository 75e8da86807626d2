//! Text in a page.

/// The text as it may stand in HTML, in an element or in a quoted attribute. Control characters and marks that turn the
/// direction of writing become visible: much of what is shown was written by strangers.
pub(super) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// The same, with what stands between backticks as code.
pub(super) fn with_code(text: &str) -> String {
    let safe = escaped(text);
    if !safe.matches('`').count().is_multiple_of(2) {
        return safe;
    }
    let pieces = safe.split('`').enumerate();
    pieces
        .map(|(at, piece)| if at % 2 == 1 { format!("<code>{piece}</code>") } else { piece.to_owned() })
        .collect()
}

/// `12 %`, `0.4 %`, `< 0.1 %`
pub(super) fn share(part: u64, all: u64) -> String {
    let percent = part as f64 / all.max(1) as f64 * 100.0;
    match percent {
        _ if part == 0 => "0 %".to_owned(),
        _ if part == all => "100 %".to_owned(),
        little if little < 0.1 => "< 0.1 %".to_owned(),
        much if much > 99.9 => "> 99.9 %".to_owned(),
        some if !(10.0..=99.0).contains(&some) => format!("{some:.1} %"),
        some => format!("{some:.0} %"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_strangers_wrote_is_text_and_nothing_else() {
        assert_eq!(
            escaped("<b a=\"1\">&'\u{1b}\u{202e}ü"),
            "&lt;b a=&quot;1&quot;&gt;&amp;&#39;\u{fffd}\u{fffd}ü"
        );
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(with_code("add `<url>` to it"), "add <code>&lt;url&gt;</code> to it");
        assert_eq!(with_code("one ` alone"), "one ` alone");
    }

    #[test]
    fn a_share_is_never_rounded_to_nothing_or_to_all() {
        let shown = [(0, 9), (9, 9), (1, 100_000), (99_999, 100_000), (1, 200), (1, 3), (995, 1000)]
            .map(|(part, all)| share(part, all));
        assert_eq!(shown, ["0 %", "100 %", "< 0.1 %", "> 99.9 %", "0.5 %", "33 %", "99.5 %"]);
    }
}
