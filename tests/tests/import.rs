//! Importing files as people have them.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use longhaul_tests::Stage;
use serde_json::Value;

/// INV-IDEMPOTENT: a file imported twice adds nothing the second time and says so.
#[tokio::test(flavor = "multi_thread")]
async fn inv_idempotent_a_file_imported_twice_adds_nothing_and_says_so() {
    let stage = Stage::new([longhaul_origin::HostConfig::new("a")]).await;
    let records: Vec<_> =
        (0..50).map(|job| stage.record(&format!("j{job}"), "a", &format!("/{job}"))).collect();
    let name = stage.write("artifacts.jsonl", &records);
    let first = stage.run(&["queue", "import", &name]).await.expect_code(0);
    let second = stage.run(&["queue", "import", &name]).await.expect_code(0);
    println!("{}{}{}{}", first.stdout, first.stderr, second.stdout, second.stderr);
    let said = format!("{}{}", second.stdout, second.stderr);
    assert!(said.contains("50") && said.contains("already"), "{said}");
    let stats = stage.run(&["queue", "stats", "--format", "json"]).await.expect_code(0);
    let stats: Value = serde_json::from_str(&stats.stdout).unwrap();
    assert_eq!(stats["counts"]["total"], 50, "{stats}");
}

/// A log that is left behind is read again by every later command.
#[tokio::test(flavor = "multi_thread")]
async fn a_clean_exit_leaves_no_log() {
    let stage = Stage::new([longhaul_origin::HostConfig::new("a")]).await;
    let log = stage.folder().join("state/workqueue.sqlite-wal");
    let records: Vec<_> =
        (0..50).map(|job| stage.record(&format!("j{job}"), "a", &format!("/{job}"))).collect();
    stage.import(&records).await;
    assert!(!log.exists(), "after an import");
    let _ = stage.start_run(&["--drain"]).finish().await.expect_code(0);
    assert!(!log.exists(), "after a run");
    for command in ["stats", "list", "lanes", "workers"] {
        let _ = stage.run(&["queue", command]).await.expect_code(0);
        assert!(!log.exists(), "after `{command}`");
    }
}

/// Good lines go in, each bad line is named with its number and reason, and the exit code says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_file_with_every_kind_of_bad_line_imports_the_good_ones() {
    let stage = Stage::new([longhaul_origin::HostConfig::new("a")]).await;
    let good = |id: &str| stage.record(id, "a", &format!("/{id}")).to_string().into_bytes();
    let lines: Vec<(Vec<u8>, Option<&str>)> = vec![
        (good("one"), None),
        (b"{\"id\": \"x\", ".to_vec(), Some("JSON")),
        (b"[1, 2]".to_vec(), Some("object")),
        (b"{\"title\": \"no id\"}".to_vec(), Some("id")),
        (b"{\"id\": \"\"}".to_vec(), Some("empty")),
        (b"{\"id\": 7}".to_vec(), Some("text")),
        (b"{\"id\": \"n\", \"title\": 7}".to_vec(), Some("title")),
        (
            b"{\"id\": \"d\", \"url\": \"http://h.example/\", \"url\": \"http://i.example/\"}".to_vec(),
            Some("twice"),
        ),
        (b"{\"id\": \"u\", \"url\": \"not a url\"}".to_vec(), Some("url")),
        (b"{\"id\": \"p\", \"priority\": 12}".to_vec(), Some("priority")),
        (b"{\"id\": \"s\", \"sha256\": \"abc\"}".to_vec(), Some("sha256")),
        (b"{\"id\": \"\xff\xfe\"}".to_vec(), Some("UTF-8")),
        (
            format!("{{\"id\": \"deep\", \"x\": {}1{}}}", "[".repeat(300), "]".repeat(300)).into_bytes(),
            Some("deep"),
        ),
        (
            format!("{{\"id\": \"long\", \"title\": \"{}\"}}", "x".repeat(1_100_000)).into_bytes(),
            Some("1 MiB"),
        ),
        (b"".to_vec(), None),
        (good("two"), None),
    ];
    let mut text = Vec::new();
    for (line, _) in &lines {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    std::fs::write(stage.folder().join("mixed.jsonl"), text).unwrap();
    let arguments = ["queue", "import", "mixed.jsonl", "--rejects", "rejects.jsonl"];
    let finished = stage.run(&arguments).await.expect_code(4);
    for (index, (_, wrong)) in lines.iter().enumerate() {
        let place = format!("mixed.jsonl:{}: ", index + 1);
        let said = finished.stderr.lines().find(|line| line.contains(&place));
        match (wrong, said) {
            (None, None) => {}
            (Some(wrong), Some(said)) => assert!(said.contains(wrong), "{said} does not name {wrong}"),
            (wrong, said) => panic!("{place} expected {wrong:?}, said {said:?}\n{}", finished.stderr),
        }
    }
    let rejects = std::fs::read_to_string(stage.folder().join("rejects.jsonl")).unwrap();
    assert_eq!(rejects.lines().count(), lines.iter().filter(|(_, wrong)| wrong.is_some()).count());
    let jobs = stage.jobs().await;
    assert_eq!(jobs.keys().map(String::as_str).collect::<Vec<_>>(), ["one", "two"]);

    // Strict: all or nothing.
    let stage = Stage::new([longhaul_origin::HostConfig::new("a")]).await;
    std::fs::write(
        stage.folder().join("mixed.jsonl"),
        b"{\"id\": \"ok\", \"url\": \"http://h.example/\"}\n{\n",
    )
    .unwrap();
    let strict = stage.run(&["queue", "import", "--strict", "mixed.jsonl"]).await;
    assert_eq!(strict.code(), 4, "{}", strict.stderr);
    assert!(!stage.folder().join("state").exists(), "a queue that holds nothing is not left behind");
}
