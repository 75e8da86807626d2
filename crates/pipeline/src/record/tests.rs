//! What a line becomes, what is said of a bad one, and what holds for every line there could be.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn read(line: &str) -> Record {
    Record::parse_line(line).unwrap().unwrap()
}

/// What is said of a bad line.
fn said(line: &str) -> String {
    Record::parse_line(line).unwrap_err().to_string()
}

fn candidates(line: &str) -> Vec<String> {
    read(line).candidates().iter().map(ToString::to_string).collect()
}

#[test]
fn a_full_record_is_read() {
    let line = r#"{"id":"a/1","work_id":"W1","title":"T","publication_year":2020.0,"doi":"https://doi.org/10.1/X",
        "pmid":77,"pmcid":"pmc5","arxiv_id":"arXiv:1706.03762","url":"https://a.example/x","expect":"PDF",
        "sha256":"AA00000000000000000000000000000000000000000000000000000000000000","bytes":12,"priority":9,
        "resolver_hint":"arxiv","max_attempts":2,"available_at":"2026-01-31T12:00:00+01:00","base_stem":"name",
        "unknown":{"kept":[1]}}"#;
    let record = read(line);
    assert_eq!(record.artifact_id, "a/1");
    assert_eq!(
        (record.year, record.bytes, record.priority, record.max_attempts),
        (Some(2020), Some(12), 9, Some(2))
    );
    assert_eq!(record.doi.as_deref(), Some("10.1/X"));
    assert_eq!(record.pmid.as_deref(), Some("77"));
    assert_eq!(record.pmcid.as_deref(), Some("PMC5"));
    assert_eq!(record.arxiv_id.as_deref(), Some("1706.03762"));
    assert_eq!(record.expect, Expect::Pdf);
    assert!(record.sha256.as_deref().unwrap().starts_with("aa00"));
    let epoch = record.available_at.unwrap().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(epoch.as_secs(), 1_769_857_200);
    assert_eq!(record.stem(), "name");
    assert_eq!(record.payload(), line);
}

#[test]
fn a_doi_has_one_key_in_every_form() {
    for line in [
        "10.1000/ABC",
        "doi:10.1000/abc",
        "https://dx.doi.org/10.1000/aBC",
        r#"{"id":"10.1000/ABC"}"#,
        r#"{"artifact_id":"DOI:10.1000/abC","id":"x"}"#,
        "\u{feff}10.1000/abc\r",
    ] {
        assert_eq!(read(line).artifact_id, "doi:10.1000/abc", "{line}");
    }
    assert_eq!(read("10.1000/ABC").payload(), r#"{"doi":"10.1000/ABC","id":"doi:10.1000/abc"}"#);
    assert_eq!(read("10.1000/ABC").expect, Expect::Pdf);
}

#[test]
fn a_bare_url_is_its_own_key() {
    let record = read(" HTTPS://Example.org:443/a/../b.pdf#page=2 ");
    assert_eq!(record.artifact_id, "https://example.org/b.pdf");
    assert_eq!(record.expect, Expect::Any);
    assert_eq!(record.place(&Keying::default()).0.as_str(), "example.org");
}

#[test]
fn a_wrapped_record_is_unwrapped_and_kept_whole() {
    let line =
        r#"{"artifact":{"artifact_id":"w","pdf_urls":["https://a.example/p"]},"context":{"topic":"t"}}"#;
    let record = read(line);
    assert_eq!((record.artifact_id.as_str(), record.pdf_urls.len()), ("w", 1));
    assert_eq!(record.payload(), line);
    assert!(said(r#"{"artifact":3}"#).contains("`artifact` is a number where an object belongs"));
}

#[test]
fn an_openalex_work_is_read_as_it_is() {
    let record = read(
        r#"{"id":"https://openalex.org/W27","doi":"https://doi.org/10.7717/PeerJ.4375","display_name":"OA","title":null,
        "publication_year":2018,"ids":{"openalex":"https://openalex.org/W27","mag":27,"pmcid":"https://www.ncbi.nlm.nih.gov/pmc/articles/5815332",
        "pmid":"https://pubmed.ncbi.nlm.nih.gov/29456894"},
        "best_oa_location":{"pdf_url":"https://b.example/1.pdf","landing_page_url":"https://b.example/1"},
        "primary_location":{"pdf_url":null,"landing_page_url":"https://doi.org/10.7717/peerj.4375","source":{"display_name":"PeerJ"}},
        "locations":[{"pdf_url":"https://c.example/1.pdf"},{"pdf_url":"https://b.example/1.pdf"},{"pdf_url":"junk"},7],
        "open_access":{"is_oa":true,"oa_url":"https://c.example/1.pdf"}}"#,
    );
    assert_eq!(record.artifact_id, "https://openalex.org/W27");
    assert_eq!(record.doi.as_deref(), Some("10.7717/PeerJ.4375"));
    assert_eq!((record.pmid.as_deref(), record.pmcid.as_deref()), (Some("29456894"), Some("PMC5815332")));
    let urls: Vec<String> = record.candidates().iter().map(ToString::to_string).collect();
    assert_eq!(urls, ["https://b.example/1.pdf", "https://c.example/1.pdf"]);
    assert_eq!(record.landing_urls.len(), 2);
    assert_eq!(record.stem(), "2018__oa__W27");
    assert_eq!(record.expect, Expect::Pdf);
}

#[test]
fn candidates_are_in_order_once_and_without_failures() {
    let line = r#"{"id":"c","url":"https://a.example/1#x","pdf_urls":["https://a.example/2","https://a.example/1",
        "ftp://a.example/3","file:///etc/passwd"],"open_access_url":"https://a.example/4","failed_pdf_urls":["https://A.example:443/2","junk"]}"#;
    assert_eq!(candidates(line), ["https://a.example/1", "https://a.example/4"]);
    assert_eq!(read(line).expect, Expect::Pdf, "a page must not pass where PDFs are known");
    assert_eq!(candidates(r#"{"id":"c"}"#), [""; 0]);
    assert_eq!(read(r#"{"id":"c"}"#).place(&Keying::default()), (Lane::NONE, Role::Artifact));
}

#[test]
fn blank_lines_are_nothing() {
    for line in ["", "  ", "\r\n", "\u{feff}", "\t"] {
        assert_eq!(Record::parse_line(line), Ok(None), "{line:?}");
    }
}

#[test]
fn each_bad_line_has_its_own_message() {
    let deep = format!(r#"{{"id":"a","x":{}{}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let long = format!(r#"{{"id":"a","x":"{}"}}"#, "x".repeat(Record::MAX_BYTES));
    let long_id = format!(r#"{{"id":"{}"}}"#, "x".repeat(2049));
    let cases: Vec<(&str, &str)> = vec![
        (&long, "the line is longer than 1 MiB"),
        (r#"{"id":"a""#, "not JSON: EOF while parsing an object at column 9"),
        (r#"{"id":"a",}"#, "not JSON: trailing comma at column 11"),
        (r#"{"id":"a"} {"#, "not JSON: trailing characters at column 12"),
        ("hello", "\"hello\" is neither a JSON object, a DOI nor a URL"),
        ("[1]", "a list where an object belongs"),
        ("\"https://a.example\"", "a text where an object belongs"),
        ("17", "a number where an object belongs"),
        (r#"{"title":"x"}"#, "there is neither an `id` nor an `artifact_id`"),
        (r#"{"id":null}"#, "there is neither an `id` nor an `artifact_id`"),
        (r#"{"id":" "}"#, "`id` is empty"),
        (r#"{"id":17}"#, "`id` is a number where text belongs"),
        (r#"{"artifact_id":["x"]}"#, "`artifact_id` is a list where text belongs"),
        (r#"{"id":"a\u0000b"}"#, "the id holds a control character"),
        (&long_id, "the id has 2049 bytes, 2048 is the most"),
        (r#"{"id":"a","id":"b"}"#, "the key \"id\" stands twice, again at column 14"),
        (r#"{"id":"a","m":{"k":1,"k":2}}"#, "the key \"k\" stands twice, again at column 24"),
        (&deep, "nested deeper than 64 levels at column 78"),
        (r#"{"id":"a","title":5}"#, "`title` is a number where text belongs"),
        (r#"{"id":"a","url":"nowhere"}"#, "`url` is not a URL: \"nowhere\": relative URL without a base"),
        (
            r#"{"id":"a","pdf_urls":["https://a.example/","http://["]}"#,
            "`pdf_urls[1]` is not a URL: \"http://[\": invalid IPv6 address",
        ),
        (r#"{"id":"a","pdf_urls":[5]}"#, "`pdf_urls[0]` is a number where text belongs"),
        (r#"{"id":"a","pdf_urls":5}"#, "`pdf_urls` is a number where a list belongs"),
        (
            "ftp://a.example/x",
            "`the line` is not a URL: \"ftp://a.example/x\": only http and https are fetched",
        ),
        (
            r#"{"id":"a","url":"ftp://a.example/x"}"#,
            "`url` is no address to fetch from (ftp:); only http and https are",
        ),
        (
            r#"{"id":"a","pdf_urls":["file:///x"]}"#,
            "`pdf_urls` is no address to fetch from (file:); only http and https are",
        ),
        (r#"{"id":"a","priority":10}"#, "`priority` is 10, not a whole number from 0 (last) to 9 (first)"),
        (r#"{"id":"a","priority":1.5}"#, "`priority` is 1.5, not a whole number from 0 (last) to 9 (first)"),
        (r#"{"id":"a","priority":[]}"#, "`priority` is a list where a number belongs"),
        (r#"{"id":"a","max_attempts":0}"#, "`max_attempts` is 0, not a whole number from 1 to 1000"),
        (r#"{"id":"a","bytes":-1}"#, "`bytes` is -1, not a length in bytes"),
        (r#"{"id":"a","publication_year":"soon"}"#, "`publication_year` is soon, not a year from 0 to 9999"),
        (
            r#"{"id":"a","available_at":"tomorrow"}"#,
            "`available_at` is not a time like 2026-01-31T12:00:00Z: \"tomorrow\"",
        ),
        (r#"{"id":"a","sha256":"abc"}"#, "`sha256` is not 64 hexadecimal digits: \"abc\""),
        (r#"{"id":"a","expect":"docx"}"#, "`expect` is \"docx\", not one of pdf, html, xml, any"),
    ];
    for (line, message) in cases {
        assert_eq!(said(line), message, "{line:.100}");
    }
    let not_utf8 = Record::parse_bytes(b"{\"id\":\"\xff\"}").unwrap_err();
    assert_eq!(not_utf8.to_string(), "the line is not UTF-8 at column 8");
    assert_eq!(Record::parse_bytes(&vec![b' '; Record::MAX_BYTES + 1]), Err(RecordError::TooLong));
}

#[test]
fn stems_are_readable_where_they_can_be() {
    let check = |line: &str, stem: &str| assert_eq!(read(line).stem(), stem, "{line}");
    check(
        r#"{"id":"a-1","title":" Attention: Is All, You Need! ","publication_year":2017}"#,
        "2017__attention-is-all-you-need__a-1",
    );
    check(r#"{"id":"a"}"#, "noyear__untitled__a");
    check(r#"{"id":"a","title":"Über Ökonomie"}"#, "noyear__über-ökonomie__a");
    check(r#"{"id":"a","title":"«»","work_id":"https://openalex.org/W9"}"#, "noyear__untitled__W9");
    check(r#"{"id":"a","base_stem":"Smith (2020), p. 3"}"#, "Smith (2020), p. 3");
}

#[test]
fn a_stem_that_had_to_change_ends_with_a_hash_of_the_key() {
    let stems: BTreeSet<String> =
        ["10.1/a:b", "10.1/a?b", "10.1/a_b", "10.1/a/b"].iter().map(|id| read(id).stem()).collect();
    assert_eq!(stems.len(), 4, "{stems:?}");
    let bases = [
        "con",
        "NUL.txt",
        "com1",
        "LPT¹",
        "manifest",
        "..",
        "a/b",
        "x.",
        ".hidden",
        "a\\u0000b",
        "MANIFEST.jsonl",
        "-",
    ];
    for base in bases {
        let stem = read(&format!(r#"{{"id":"k","base_stem":"{base}"}}"#)).stem();
        assert!(base == "-" || (stem.len() > 13 && stem.contains('-')), "{base}: {stem}");
        check_stem(&stem);
    }
    let long = read(&format!(r#"{{"id":"k","base_stem":"{}"}}"#, "ü".repeat(200)));
    assert!(long.stem().len() > Record::MAX_STEM_BYTES - 4);
    check_stem(&long.stem());
}

/// That a name is one on Linux, macOS and Windows.
fn check_stem(stem: &str) {
    assert!(!stem.is_empty() && stem.len() <= Record::MAX_STEM_BYTES, "{stem:?} {}", stem.len());
    assert!(!stem.contains(|c: char| c.is_control() || "/\\:*?\"<>|".contains(c)), "{stem:?}");
    assert!(!stem.starts_with(['.', ' ']) && !stem.ends_with(['.', ' ']), "{stem:?}");
    let first = stem.split('.').next().unwrap().to_lowercase();
    assert!(
        !["con", "prn", "aux", "nul", "com1", "lpt1", "lpt¹", "manifest"].contains(&first.as_str()),
        "{stem:?}"
    );
}

/// An object with the fields that a record reads, holding anything.
fn any_object() -> impl Strategy<Value = serde_json::Value> {
    let field = prop::sample::select(vec![
        "id",
        "artifact_id",
        "artifact",
        "work_id",
        "title",
        "doi",
        "pmid",
        "url",
        "pdf_urls",
        "open_access_url",
        "failed_pdf_urls",
        "expect",
        "priority",
        "available_at",
        "base_stem",
        "ids",
        "locations",
        "sha256",
        "bytes",
    ]);
    let text = prop_oneof![
        any::<String>(),
        "(https?|ftp)://[a-z]{1,8}\\.example/[a-z#?]{0,8}",
        "10\\.[0-9]{1,5}/[A-Za-z/]{1,5}",
        "https://openalex\\.org/W[0-9]{1,5}",
        "(con|nul|\\.\\.|manifest)[ .]{0,3}",
    ];
    let leaf = prop_oneof![
        text.prop_map(serde_json::Value::from),
        any::<i64>().prop_map(serde_json::Value::from),
        any::<bool>().prop_map(serde_json::Value::from),
        Just(serde_json::Value::Null),
    ];
    let object = |value: BoxedStrategy<serde_json::Value>| {
        prop::collection::vec((field.clone(), value), 0..8)
            .prop_map(|entries| {
                entries.into_iter().map(|(k, v)| (k.to_owned(), v)).collect::<serde_json::Map<_, _>>()
            })
            .prop_map(serde_json::Value::Object)
    };
    let value = prop_oneof![
        4 => leaf.clone(),
        1 => prop::collection::vec(leaf.clone(), 0..4).prop_map(serde_json::Value::Array),
        1 => object(leaf.boxed()),
    ];
    object(value.boxed())
}

/// What holds for every record.
fn check_record(record: &Record) {
    assert_eq!(&Record::from_payload(record.payload()).unwrap(), record);
    check_stem(&record.stem());
    assert!(!record.artifact_id.is_empty() && record.artifact_id.trim() == record.artifact_id);
    assert!(record.priority <= 9);
    let _ = record.place(&Keying::default());
    for url in record.candidates() {
        assert!(matches!(url.scheme(), "http" | "https"), "{url}");
    }
}

/// Somebody may know a better address than the one that it names.
#[test]
fn an_address_that_is_not_fetched_is_no_fault_beside_others() {
    for line in [
        r#"{"id":"a","url":"ftp://a.example/x","pdf_urls":["https://a.example/x"]}"#,
        r#"{"id":"a","url":"ftp://a.example/x","doi":"10.1000/x"}"#,
        r#"{"id":"10.1000/x","url":"ftp://a.example/x"}"#,
        r#"{"id":"a","url":"ftp://a.example/x","landing_urls":["https://a.example/"]}"#,
    ] {
        let record = Record::parse_line(line).unwrap().unwrap();
        assert_eq!(record.unfetched(), Some("ftp"), "{line}");
    }
}

proptest! {
    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(Some(record)) = Record::parse_bytes(&bytes) {
            check_record(&record);
        }
    }

    #[test]
    fn no_line_makes_the_reader_panic(line in "[{\"]?[ -~üß/:.\\[\\]{}\"]{0,60}") {
        if let Ok(Some(record)) = Record::parse_line(&line) {
            check_record(&record);
        }
    }

    #[test]
    fn what_is_stored_reads_as_the_same_record(object in any_object()) {
        if let Ok(Some(record)) = Record::parse_line(&object.to_string()) {
            check_record(&record);
        }
    }

    #[test]
    fn plain_lines_read_as_the_same_record(line in prop_oneof![
        "https?://[a-z]{1,8}(:[0-9]{1,4})?/[ -~]{0,20}",
        "(doi:|https://doi.org/)?10\\.[0-9]{1,6}/[!-~]{1,20}",
    ]) {
        if let Ok(Some(record)) = Record::parse_line(&line) {
            check_record(&record);
        }
    }

    #[test]
    fn any_name_becomes_one_that_every_file_system_takes(base in any::<String>(), title in any::<String>(), id in "[!-~]{1,300}") {
        let object = serde_json::json!({ "id": id, "title": title });
        check_stem(&read(&object.to_string()).stem());
        let object = serde_json::json!({ "id": id, "base_stem": base });
        check_stem(&read(&object.to_string()).stem());
    }
}

#[test]
fn a_bare_url_with_secrets_has_a_key_without_them() {
    let line = "http://u:SECRETPW@h.example/a.pdf?api_key=TOPKEY";
    let record = Record::parse_line(line).unwrap().unwrap();
    for shown in [record.artifact_id.clone(), record.stem()] {
        assert!(!shown.contains("SECRETPW") && !shown.contains("TOPKEY"), "{shown}");
    }
    assert_eq!(record.candidates()[0].as_str(), line, "what is asked for is what was given");
    let other = Record::parse_line(&line.replace("TOPKEY", "OTHER")).unwrap().unwrap();
    assert_ne!(record.artifact_id, other.artifact_id);
    let refused = Record::parse_line("http://u:SECRETPW@h:bad/?key=TOPKEY").unwrap_err().to_string();
    assert!(!refused.contains("SECRETPW") && !refused.contains("TOPKEY"), "{refused}");
}

/// What `queue list --format jsonl` printed can be imported again, and is the artifact and not the job.
#[test]
fn a_line_of_a_listing_is_the_artifact_in_it() {
    let artifact = r#"{"id":"10.1000/X","priority":3,"title":"T","unknown":{"kept":[1]}}"#;
    let line = format!(
        r#"{{"job":7,"id":"doi:10.1000/x","state":"error","priority":9,"attempts":3,"artifact":{artifact}}}"#
    );
    let record = read(&line);
    assert_eq!((record.artifact_id.as_str(), record.priority), ("doi:10.1000/x", 3));
    assert_eq!(record.payload(), artifact);
    let wrapped =
        format!(r#"{{"job":7,"state":"done","artifact":{{"artifact":{artifact},"context":{{}}}}}}"#);
    assert_eq!(read(&wrapped).title.as_deref(), Some("T"));
    // A record of one's own may have fields of the same names.
    for own in [
        r#"{"id":"own","job":7,"artifact":{"id":"x"}}"#,
        r#"{"id":"own","job":"7","state":"done","artifact":{"id":"x"}}"#,
        r#"{"id":"own","job":7,"state":"done","artifact":"x"}"#,
    ] {
        assert_eq!(read(own).artifact_id, "own", "{own}");
    }
}
