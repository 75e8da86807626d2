//! The rules of RFC 9309, and the cases of a published collection of robots.txt tests (that of google/robotstxt), as facts
//! in a table of our own. Where the collection says of a case that it is one crawler's own habit and the RFC says
//! otherwise, the RFC holds, and the case says so.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;

/// Reads a file in which `@us` stands for our name, and judges paths: `+/a` is allowed, `-/a` is not.
fn check(file: &str, verdicts: &str) {
    let rules = Rules::read(file.replace("@us", PRODUCT_TOKEN).as_bytes());
    let again = Rules::read(rules.text().as_bytes());
    for verdict in verdicts.split_whitespace() {
        let (sign, path) = verdict.split_at(1);
        let url = Url::parse(&format!("http://a.example{path}")).unwrap();
        for rules in [&rules, &again] {
            assert_eq!(rules.allow(&url), sign == "+", "{path} by {file:?}");
        }
    }
}

#[test]
fn an_empty_file_forbids_nothing() {
    check("", "+/ +/x");
    check("\n\n# nothing\n", "+/x");
}

#[test]
fn a_line_has_a_key_and_a_value() {
    check("user-agent: @us\ndisallow: /\n", "-/x/y");
    check("foo: @us\nbar: /\n", "+/x/y");
    // Habit: a forgotten colon.
    check("user-agent @us\ndisallow /\n", "-/x/y");
    check("user-agent:@us\r\ndisallow:/a\rdisallow: /b", "-/a -/b +/c");
    check("  user-agent :\t@us  \n\tdisallow : /a \t\n", "-/a +/b");
}

#[test]
fn keys_and_names_have_no_case_and_paths_have() {
    for (agent, disallow) in
        [("USER-AGENT", "DISALLOW"), ("user-agent", "disallow"), ("uSeR-aGeNt", "dIsAlLoW")]
    {
        check(&format!("{agent}: @us\n{disallow}: /x/\n"), "-/x/y +/a/b");
    }
    for name in ["LONGHAUL", "longhaul", "LongHaul"] {
        check(&format!("User-Agent: {name}\nAllow: /x/\nDisallow: /"), "+/x/y -/a/b");
    }
    check("user-agent: @us\ndisallow: /x/\n", "-/x/y +/X/y");
    check("user-agent: @us\ndisallow: /X/\n", "+/x/y -/X/y");
}

/// Several names share a group; groups of one name are one; rules before the first name hold for nobody.
#[test]
fn groups() {
    let file = "allow: /foo/bar/\n\nuser-agent: @us\ndisallow: /\nallow: /x/\nuser-agent: other\ndisallow: /\nallow: /y/\n\n\n\
        allow: /w/\nuser-agent: third\n\nuser-agent: @us\nallow: /z/\ndisallow: /\n";
    check(file, "+/x/b +/z/d -/y/c -/w/a -/foo/bar/");
    // The other one's rules go on after a blank line.
    let file = file.replace("@us", "first").replace("other", "@us");
    check(&file, "+/y/c +/w/a -/z/d -/foo/bar/");
    // The third one shares the group that follows.
    let file = file.replace("@us", "other").replace("third", "@us");
    check(&file, "+/z/d -/y/c -/w/a -/foo/bar/");
}

#[test]
fn other_lines_end_no_group() {
    for between in ["Sitemap: https://a.example/sitemap", "Unknown-line: unknown"] {
        check(&format!("User-agent: other\n{between}\nUser-agent: *\nDisallow: /\n"), "-/x");
        check(&format!("User-agent: @us\n{between}\nUser-agent: other\nDisallow: /\n"), "-/x");
        check(
            &format!(
                "User-agent: other\nDisallow: /a\n{between}\nDisallow: /b\nUser-agent: @us\nDisallow: /c"
            ),
            "-/c +/a +/b",
        );
    }
}

#[test]
fn the_group_of_everybody_is_for_whom_no_other_names() {
    check("user-agent: *\nallow: /\nuser-agent: @us\ndisallow: /\n", "-/x/y");
    check("user-agent: *\ndisallow: /\nuser-agent: @us\nallow: /\n", "+/x/y");
    check("user-agent: other\nallow: /\nuser-agent: third\ndisallow: /\n", "+/x/y");
    check("User-agent: *\nDisallow: /x/\nUser-agent: @us\nDisallow: /y/\n", "+/x/page -/y/page");
    // Our own group, even an empty one, is all that holds for us.
    check("user-agent: *\ndisallow: /\nuser-agent: @us\n", "+/x");
    check("user-agent: *\ndisallow: /\nuser-agent: @us\ndisallow:\n", "+/x");
}

/// Only the product token counts, in the file as in our own name.
#[test]
fn a_name_ends_where_a_product_token_does() {
    check("user-agent: @us/1.0\ndisallow: /x/\n\nuser-agent: *\ndisallow: /\n", "-/x/y +/z");
    check("User-Agent: *\nDisallow: /\nUser-Agent: @us Bar\nAllow: /x/\nDisallow: /\n", "+/x/y -/z");
    check("user-agent: @us-images\ndisallow: /\n", "+/x");
    check("user-agent: long\ndisallow: /\n", "+/x");
    check("user-agent: my-longhaul\ndisallow: /\n", "+/x");
    // Habit: words after the star.
    check("user-agent: * everybody\ndisallow: /x\n", "-/x +/y");
    check("user-agent: @us # that is us\ndisallow: /x\n", "-/x +/y");
    check("user-agent:\ndisallow: /x\n", "+/x");
}

#[test]
fn the_longest_rule_that_matches_decides_and_of_equals_the_allowing_one() {
    let us = |rules: &str| format!("user-agent: @us\n{rules}");
    check(&us("disallow: /x/page.html\nallow: /x/\n"), "-/x/page.html +/x/");
    check(&us("allow: /x/page.html\ndisallow: /x/\n"), "+/x/page.html -/x/ -/x/other");
    check(&us("disallow: \nallow: \n"), "+/x/page.html");
    check(&us("disallow: /\nallow: /\n"), "+/x/page.html");
    check(&us("disallow: /x\nallow: /x/\n"), "-/x +/x/");
    check(&us("disallow: /x/page.html\nallow: /x/page.html\n"), "+/x/page.html");
    check(&us("allow: /page\ndisallow: /*.html\n"), "-/page.html +/page");
    check(&us("allow: /x/page.\ndisallow: /*.html\n"), "+/x/page.html -/x/y.html");
    check(&us("allow: /p\ndisallow: /\n"), "+/page -/other");
    check(&us("allow: /folder\ndisallow: /folder\n"), "+/folder/page");
    check(&us("allow: /page\ndisallow: /*.htm\n"), "-/page.htm");
    check(&us("allow: /$\ndisallow: /\n"), "+/ -/page.html");
}

#[test]
fn the_table_of_fish() {
    let only = |path: &str| format!("user-agent: @us\ndisallow: /\nallow: {path}\n");
    let fish = "+/fish +/fish.html +/fish/salmon.html +/fishheads +/fishheads/yummy.html +/fish.php?id=anything -/bar -/Fish.asp \
        -/catfish -/?id=fish";
    check(&only("/fish"), fish);
    check(&only("/fish*"), fish);
    check(
        &only("/fish/"),
        "+/fish/ +/fish/salmon +/fish/?salmon +/fish/salmon.html +/fish/?id=anything -/fish -/fish.html -/Fish/Salmon.html",
    );
    check(
        &only("/*.php"),
        "+/filename.php +/folder/filename.php +/folder/filename.php?parameters +/folder/any.php.file.html +/filename.php/ \
        +/index?f=filename.php/ -/php/ -/index?php -/windows.PHP",
    );
    check(
        &only("/*.php$"),
        "+/filename.php +/folder/filename.php -/filename.php?parameters -/filename.php/ -/filename.php5 -/filename.PHP",
    );
    check(&only("/fish*.php"), "+/fish.php +/fishheads/catfish.php?parameters -/Fish.PHP");
}

#[test]
fn stars_dollars_and_hashes() {
    let us = |rules: &str| format!("User-agent: @us\n{rules}");
    check(
        &us("Disallow: /foo/bar/quz\nAllow: /foo/*/qux\n"),
        "-/foo/bar/quz +/foo/quz +/foo//quz +/foo/bax/quz",
    );
    check(
        &us("Disallow: /foo/bar$\nAllow: /foo/bar/qux\n"),
        "-/foo/bar +/foo/bar/qux +/foo/bar/ +/foo/bar/baz",
    );
    check(&us("# Disallow: /\nDisallow: /foo/quz#qux\nAllow: /\n"), "+/foo/bar -/foo/quz");
    check(&us("Disallow: /a*b*c$\n"), "-/abc -/axbxc -/abcbc +/abcd +/ab");
    check(&us("Disallow: /*\n"), "-/ -/x");
    check(&us("Disallow: /a$b\n"), "-/a$b -/a$bc +/a");
    check(&us("Disallow: /?\n"), "-/?x +/x?x");
}

/// Section 2.2.2: what needs no encoding is compared decoded, all else encoded.
#[test]
fn encodings_of_one_path_are_one_path() {
    let only = |path: &str| format!("User-agent: @us\nDisallow: /\nAllow: {path}\n");
    check(
        &only("/foo/bar?qux=taz&baz=http://foo.bar?tar&par"),
        "+/foo/bar?qux=taz&baz=http://foo.bar?tar&par",
    );
    check(&only("/foo/bar/ツ"), "+/foo/bar/%E3%83%84 +/foo/bar/%e3%83%84 +/foo/bar/ツ");
    check(&only("/foo/bar/%E3%83%84"), "+/foo/bar/%E3%83%84 +/foo/bar/ツ");
    // Not the crawler's habit, to which these two are different.
    check(&only("/foo/bar/%62%61%7A"), "+/foo/bar/baz +/foo/bar/%62%61%7A");
    check(&only("/foo%2Fbar"), "+/foo%2fbar -/foo/bar");
}

#[test]
fn the_file_itself_may_always_be_asked_for() {
    check("user-agent: *\ndisallow: /\n", "+/robots.txt -/robots.txt.bak");
}

#[test]
fn a_byte_order_mark_is_skipped() {
    check("\u{feff}User-Agent: @us\nDisallow: /x\n", "-/x +/y");
    check("User-Agent: @us\n\u{feff}Disallow: /x\nDisallow: /y\n", "+/x -/y");
}

/// One crawler takes `index.html` for its folder; the RFC does not.
#[test]
fn an_index_is_no_folder() {
    check("User-Agent: *\nAllow: /a/index.html\nDisallow: /\n", "+/a/index.html -/a/ -/a/index.htm");
}

/// Section 2.5: at least 500 KiB are read, and what comes after them is not there.
#[test]
fn half_a_megabyte_is_read() {
    let head = "User-agent: *\nDisallow: /first\n";
    let filler = |bytes: usize| "#".repeat(bytes - 1) + "\n";
    let last = "Disallow: /last\n";
    let fits = format!("{head}{}{last}", filler(500 * 1024 - head.len() - last.len()));
    check(&fits, "-/first -/last");
    check(&format!("{head}{}{last}", filler(600 * 1024)), "-/first +/last");
}

#[test]
fn bytes_that_are_no_text_are_no_rules() {
    let rules = Rules::read(b"\xff\xfe\0\0User-agent: *\nDisallow: /x\n\xc3\x28: \x80\n");
    assert!(!rules.allow(&Url::parse("http://a.example/x").unwrap()));
    check("<!doctype html><html><title>Not here</title>Disallow: /\n</html>", "+/x");
}

#[test]
fn a_crawl_delay_has_an_end() {
    let delay = |file: &str| {
        let rules = Rules::read(file.as_bytes());
        assert_eq!(Rules::read(rules.text().as_bytes()).crawl_delay(), rules.crawl_delay(), "{file}");
        rules.crawl_delay().map(|delay| delay.as_millis())
    };
    assert_eq!(delay("User-agent: *\nCrawl-delay: 2.5\n"), Some(2500));
    assert_eq!(delay("User-agent: longhaul\nCrawl-delay: 7\nUser-agent: *\nCrawl-delay: 1\n"), Some(7000));
    assert_eq!(delay("User-agent: *\nCrawl-delay: 86400\n"), Some(300_000));
    for none in ["0", "-1", "soon", ""] {
        assert_eq!(delay(&format!("User-agent: *\nCrawl-delay: {none}\n")), None, "{none}");
    }
    assert_eq!(delay("User-agent: other\nCrawl-delay: 5\n"), None);
}

/// What others need not know is not kept.
#[test]
fn what_is_kept_is_what_is_meant_for_us() {
    let file = "Sitemap: https://a.example/map\nUser-agent: other\nDisallow: /other\n\nUser-agent: LongHaul/2\nUser-agent: third\n\
        Allow: /a/b\nDisallow: /a # why\nCrawl-delay: 3\n";
    let rules = Rules::read(file.as_bytes());
    assert_eq!(rules.text(), "User-agent: *\nAllow: /a/b\nDisallow: /a\nCrawl-delay: 3\n");
    assert_eq!(Rules::none().text(), "");
    assert_eq!(Rules::read(b""), Rules::none());
}

proptest::proptest! {
    /// Whatever a host sends, reading it ends, and what is kept says the same.
    #[test]
    fn any_bytes_are_read(file in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..400), path in "/[a-z*$%?#/]{0,20}") {
        let rules = Rules::read(&file);
        let again = Rules::read(rules.text().as_bytes());
        let url = Url::parse(&format!("http://a.example{path}")).unwrap();
        proptest::prop_assert_eq!(rules.allow(&url), again.allow(&url));
        proptest::prop_assert_eq!(rules.crawl_delay(), again.crawl_delay());
    }

    #[test]
    fn any_lines_are_kept_as_they_are_meant(
        lines in proptest::collection::vec("(user-agent: (longhaul|\\*|x)|(dis)?allow: /[ab*$%4]{0,5}|crawl-delay: [0-9.]{1,4}|sitemap: http://a/)", 0..12),
        path in "/[ab$%4]{0,6}",
    ) {
        let rules = Rules::read(lines.join("\n").as_bytes());
        let again = Rules::read(rules.text().as_bytes());
        let url = Url::parse(&format!("http://a.example{path}")).unwrap();
        proptest::prop_assert_eq!(rules.allow(&url), again.allow(&url), "{:?} became {:?}", lines, rules.text());
        proptest::prop_assert_eq!(rules.crawl_delay(), again.crawl_delay());
    }
}
