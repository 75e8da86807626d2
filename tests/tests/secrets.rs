//! Nothing secret is said or written down: not on the terminal, not in a log of whatever level, not in a file.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use longhaul_origin::{Answer, Fault, FaultRule, HostConfig, Shape, Target};
use longhaul_tests::Stage;
use serde_json::json;

/// The secrets, each planted in another place. None is part of another word.
const PLANTED: [(&str, &str); 5] = [
    ("the user info of a URL", "sesame1"),
    ("the query of a URL", "sesame2"),
    ("a header of the configuration file", "sesame3"),
    ("a header of the environment", "sesame4"),
    ("a redirect's target", "sesame5"),
];

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() { files(&path, found) } else { found.push(path) }
    }
}

/// Fails if a secret stands in it.
fn check(what: &str, text: &[u8]) {
    for (place, secret) in PLANTED {
        let found = text.windows(secret.len()).position(|window| window == secret.as_bytes());
        if let Some(at) = found {
            let around = &text[at.saturating_sub(200)..text.len().min(at + 50)];
            panic!("{place} shows in {what}: …{}…", String::from_utf8_lossy(around));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_shows_in_any_log_output_or_file() {
    let elsewhere = Target::Path("/moved/paper.pdf?token=sesame5".to_owned());
    let stage = Stage::new([
        HostConfig::answering("good", Answer::document(Shape::pdf(20_000))),
        HostConfig::answering("gone", Answer::status(404)),
        HostConfig::answering(
            "flaky",
            Answer::default().with_fault(FaultRule::always(Fault::ResetBeforeHead)),
        ),
        HostConfig::new("moved").behaving(
            longhaul_origin::Behaviour::answering(Answer::redirect(elsewhere))
                .with_route("/moved", Answer::document(Shape::pdf(5_000))),
        ),
    ])
    .await;
    let with_secrets = |host: &str| {
        let url = stage.origin.url(host, "/paper.pdf?api_key=sesame2");
        url.replacen("http://", "http://reader:sesame1@", 1)
    };
    let mut lines = Vec::new();
    for host in ["good", "gone", "flaky", "moved"] {
        lines.push(json!({ "id": host, "url": with_secrets(host) }).to_string());
        // The URL is the artifact's key as well.
        lines.push(with_secrets(host).replace("/paper", "/bare"));
    }
    // What cannot be read is reported, and kept with its reason.
    lines.push(r#"{"id":"bad","url":"http://reader:sesame1@[bad/?api_key=sesame2"}"#.to_owned());
    std::fs::write(stage.folder().join("list.jsonl"), lines.join("\n")).unwrap();
    let file = format!(
        "[headers.\"{}\"]\nAuthorization = \"Bearer sesame3\"\n[http]\nallow_networks = [\"127.0.0.0/8\"]\n",
        stage.origin.url("good", "")
    );
    std::fs::write(stage.folder().join("longhaul.toml"), file).unwrap();
    let header = format!("{}=X-Key:sesame4", stage.origin.url("gone", ""));
    let own = files_of(stage.folder());

    let commands: [&[&str]; 6] = [
        &["queue", "import", "list.jsonl"],
        &[
            "queue",
            "run",
            "--drain",
            "--rate",
            "*=off",
            "--retry-backoff",
            "0.1s",
            "--jitter",
            "0s",
            "--attempts",
            "attempts.jsonl",
            "--report",
            "run.html",
            "--max-attempts",
            "2",
        ],
        &["queue", "run", "--drain", "--format", "json"],
        &["queue", "stats", "--format", "json"],
        &["config", "show"],
        &["config", "show", "--format", "json"],
    ];
    for format in ["human", "json"] {
        for command in commands {
            let command = [command, &["--log", "trace", "--log-format", format]].concat();
            let program = longhaul_tests::Program::start_with(
                stage.folder(),
                &command,
                &[("LONGHAUL_HEADER", &header)],
            );
            let ended = program.finish().await;
            assert!(!matches!(ended.code(), 1 | 2), "{command:?}: {}", ended.stderr);
            check(&format!("stdout of {command:?}"), ended.stdout.as_bytes());
            check(&format!("stderr of {command:?}"), ended.stderr.as_bytes());
        }
    }
    // It was all really used, and really written down.
    let counts = stage.counts().await;
    assert_eq!((counts.done, counts.error, counts.queued), (4, 4, 0));
    let attempts = std::fs::read_to_string(stage.folder().join("attempts.jsonl")).unwrap();
    assert!(attempts.lines().count() >= 10, "{attempts}");
    let mut read = 0;
    for path in files_of(stage.folder()).difference(&own) {
        // The queue has to know the addresses that it is to fetch.
        if path.to_string_lossy().contains("state/workqueue.sqlite") {
            continue;
        }
        check(&format!("the name of {}", path.display()), path.to_string_lossy().as_bytes());
        check(&path.display().to_string(), &std::fs::read(path).unwrap());
        read += 1;
    }
    assert!(read >= 4 + 4, "files, the manifest, the attempts and both reports were looked at: {read}");
    for job in stage.jobs().await.values() {
        check("an error that the queue remembers", job.last_error.as_deref().unwrap_or_default().as_bytes());
    }
}

fn files_of(folder: &Path) -> BTreeSet<PathBuf> {
    let mut found = Vec::new();
    files(folder, &mut found);
    found.into_iter().collect()
}
