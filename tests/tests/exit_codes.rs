//! How each command line ends, as scripts see it: every code, and which of several wins.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use longhaul_origin::{Answer, Behaviour, HostConfig, RateLimit, RetryAfter, Shape};
use longhaul_tests::Stage;
use serde_json::Value;

/// What is in the queue, or in its place, before the command.
#[derive(Debug, Clone, Copy)]
enum Before {
    /// There is no queue.
    Nothing,
    /// What is in its place is no queue.
    NoQueue,
    /// Jobs of these hosts, one of each.
    Jobs(&'static [&'static str]),
}

use Before::{Jobs, NoQueue, Nothing};

/// A job of `good` is done, one of `gone` ends in error, one of `closed` has to wait for an hour.
async fn stage() -> Stage {
    let closed =
        RateLimit { requests: 0, retry_after: Some(RetryAfter::seconds(3_600)), ..RateLimit::default() };
    Stage::new([
        HostConfig::answering("good", Answer::document(Shape::pdf(5_000))),
        HostConfig::answering("gone", Answer::status(404)),
        HostConfig::new("closed").behaving(Behaviour { rate: Some(closed), ..Behaviour::default() }),
    ])
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn each_way_to_end_has_its_code() {
    let drain = "queue run --drain --drain-horizon 5s";
    let table: &[(u8, Before, String)] = &[
        // 0: all as asked.
        (0, Jobs(&["good"]), drain.to_owned()),
        (0, Jobs(&["good"]), "queue stats".to_owned()),
        (0, Nothing, "queue import good.jsonl".to_owned()),
        (0, Nothing, "config check".to_owned()),
        // 1: it could not do its work.
        (1, Nothing, drain.to_owned()),
        (1, NoQueue, "queue stats".to_owned()),
        (1, Nothing, "queue import nowhere.jsonl".to_owned()),
        // 2: wrong usage or configuration; wins over what could not be done.
        (2, Nothing, "queue fly".to_owned()),
        (2, Nothing, format!("{drain} --workers 0")),
        (2, NoQueue, format!("{drain} --heartbeat 10m")),
        (2, NoQueue, "queue stats --config bad.toml".to_owned()),
        (2, Nothing, "config check --config bad.toml".to_owned()),
        // 3: some jobs are in error.
        (3, Jobs(&["good", "gone"]), drain.to_owned()),
        // 4: some lines were rejected.
        (4, Nothing, "queue import bad.jsonl".to_owned()),
        (4, Nothing, "queue import bad.jsonl --strict".to_owned()),
        (4, Nothing, format!("{drain} --import bad.jsonl")),
        // 5: a budget; wins over errors, over what remains, and over rejected lines.
        (5, Jobs(&["good", "good"]), format!("{drain} --max-jobs 1")),
        (5, Jobs(&["gone", "gone"]), format!("{drain} --max-errors 1 --workers 1")),
        (5, Jobs(&["gone", "good"]), format!("{drain} --max-jobs 1 --import bad.jsonl")),
        (5, Jobs(&["good"]), "queue run --max-jobs 1".to_owned()),
        // A budget that the last job uses up has ended nothing.
        (0, Jobs(&["good", "good"]), format!("{drain} --max-jobs 2")),
        (3, Jobs(&["gone"]), format!("{drain} --max-errors 1")),
        // 6: work remains; wins over errors and rejected lines.
        (6, Jobs(&["good", "closed"]), drain.to_owned()),
        (6, Jobs(&["gone", "closed"]), drain.to_owned()),
        (6, Jobs(&["closed"]), format!("{drain} --import bad.jsonl")),
        // 3 wins over 4.
        (3, Jobs(&["gone"]), format!("{drain} --import bad.jsonl")),
    ];
    for (code, before, line) in table {
        let stage = stage().await;
        stage.write("good.jsonl", &[stage.record("good", "good", "/good")]);
        let bad = format!("{}\nno artifact\n", stage.record("also-good", "good", "/also-good"));
        std::fs::write(stage.folder().join("bad.jsonl"), bad).unwrap();
        std::fs::write(stage.folder().join("bad.toml"), "[queue]\npaht = \"x\"\n").unwrap();
        match before {
            Nothing => {}
            NoQueue => {
                std::fs::create_dir(stage.folder().join("state")).unwrap();
                std::fs::write(stage.folder().join("state/workqueue.sqlite"), "no queue at all\n".repeat(99))
                    .unwrap();
            }
            Jobs(hosts) => {
                let record = |(job, host): (usize, &&str)| {
                    stage.record(&format!("job{job}"), host, &format!("/{job}.pdf"))
                };
                let records: Vec<Value> = hosts.iter().enumerate().map(record).collect();
                stage.import(&records).await;
            }
        }
        let mut arguments: Vec<&str> = line.split(' ').collect();
        if arguments[..2] == ["queue", "run"] {
            arguments.extend(longhaul_tests::LOCAL);
        }
        let ended = stage.run(&arguments).await;
        assert_eq!(
            ended.code(),
            i32::from(*code),
            "`longhaul {line}` with {before:?}\nstdout:\n{}\nstderr:\n{}",
            ended.stdout,
            ended.stderr
        );
        // Whoever could not do what was asked says so; nobody else calls anything an error.
        assert_eq!(
            ended.stderr.contains("error:"),
            matches!(code, 1 | 2) || line.contains("strict"),
            "{line}: {}",
            ended.stderr
        );
    }
}

/// A signal wins over a budget, over errors and over what remains.
#[tokio::test(flavor = "multi_thread")]
async fn a_signal_wins_over_all_but_failure() {
    let slow = Answer { bandwidth_bytes_per_second: Some(2_000), ..Answer::document(Shape::pdf(1 << 20)) };
    for (signal, code) in [("INT", 130), ("TERM", 143)] {
        let stage = Stage::new([
            HostConfig::answering("slow", slow.clone()),
            HostConfig::answering("gone", Answer::status(404)),
        ])
        .await;
        stage.import(&[stage.record("a", "slow", "/a"), stage.record("b", "gone", "/b")]).await;
        let program = stage.start_run(&["--drain", "--grace", "0.1s", "--max-runtime", "1h"]);
        stage.origin.wait_for("slow", |counts| counts.body_bytes_sent > 0).await;
        stage.origin.wait_for("gone", |counts| counts.requests > 0).await;
        program.signal(signal);
        let _ = program.finish().await.expect_code(code);
    }
}
