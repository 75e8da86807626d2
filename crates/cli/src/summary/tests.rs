//! The summary as it is read by people and by scripts.

use longhaul_events::{Event, RequestStatus, Verb, WaitCause};
use longhaul_limiter::{Lane, Role};
use longhaul_queue_core::StateCounts;

use super::*;

fn settled(job: i64, verdict: &'static str, reason: &str, detail: &str) -> Event {
    Event::JobSettled {
        job,
        artifact_id: format!("doi:10.1000/{job}"),
        verdict,
        state: "queued",
        reason: reason.to_owned(),
        detail: detail.to_owned(),
        resolver: None,
        bytes: if verdict == "done" { 1_500_000 } else { 0 },
        elapsed: Duration::from_secs(2),
    }
}

fn request(host: &str, seconds: u64) -> Event {
    Event::Request {
        job: 1,
        artifact_id: "doi:10.1000/1".to_owned(),
        resolver: "direct".to_owned(),
        resolver_order: 0,
        url: format!("https://{host}/a"),
        lane: Lane::new(host).unwrap(),
        role: Role::Artifact,
        verb: Verb::Get,
        status: RequestStatus::Ok,
        http_status: Some(200),
        content_type: None,
        wait: Duration::ZERO,
        elapsed: Duration::from_secs(seconds),
        bytes: 10,
        reason: "ok".to_owned(),
        retry_after: None,
        from_cache: false,
        sha256: None,
    }
}

/// A run in which everything happened.
fn eventful() -> Summary {
    let mut tally = Tally::default();
    let lane = |host: &str| Lane::new(host).unwrap();
    let mut events = vec![
        settled(20, "error", "gone", "404 from https://a.example/20.pdf"),
        settled(21, "error", "http-status", "403 from https://b.example/21.pdf"),
        settled(22, "error", "http-status", "403 from https://b.example/22.pdf"),
        settled(23, "skipped", "no-candidates", ""),
        settled(24, "retry", "timeout", "nothing for 30 s"),
        request("a.example", 1),
        request("slow.example", 40),
        Event::LaneClosed {
            lane: lane("b.example"),
            retry_after: Some(Duration::from_mins(2)),
            cause: "429 Too Many Requests".to_owned(),
        },
        request("b.example", 1),
        Event::Waited {
            job: 1,
            why: WaitCause::Pace,
            key: "b.example".to_owned(),
            waited: Duration::from_secs(75),
        },
    ];
    events.extend((0..12).map(|job| settled(job, "done", "ok", "")));
    for event in &events {
        tally.take(event, Duration::from_secs(5));
    }
    let stats = QueueStats {
        counts: StateCounts { queued: 1_200, in_progress: 0, done: 12, skipped: 1, error: 3 },
        next_open: Some(Duration::from_secs(95)),
        lanes_cooling: 1,
        ..QueueStats::default()
    };
    let end = (End::Budget, Some("12 jobs have ended (--max-jobs)".to_owned()));
    Summary::new(
        end,
        Duration::from_secs(48),
        &tally,
        &stats,
        (Path::new("downloads"), Path::new("downloads/manifest.jsonl")),
    )
}

#[test]
fn the_summary_of_an_eventful_run() {
    insta::assert_snapshot!(eventful().text());
}

#[test]
fn the_json_of_an_eventful_run() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&eventful()).unwrap());
}

#[test]
fn the_summary_of_a_run_that_went_well() {
    let mut tally = Tally::default();
    for job in 0..8 {
        tally.take(&settled(job, "done", "ok", ""), Duration::ZERO);
    }
    let counts = StateCounts { done: 8, ..StateCounts::default() };
    let stats = QueueStats { counts, ..QueueStats::default() };
    let summary = Summary::new(
        (End::Drained, None),
        Duration::from_secs(26),
        &tally,
        &stats,
        (Path::new("downloads"), Path::new("downloads/manifest.jsonl")),
    );
    insta::assert_snapshot!(summary.text());
}

#[test]
fn what_strangers_wrote_stays_on_its_line() {
    let mut tally = Tally::default();
    tally.take(&settled(1, "error", "http-status", "said\n\u{1b}[2Jfetched 9 files"), Duration::ZERO);
    let stats = QueueStats::default();
    let summary = Summary::new(
        (End::Stopped, None),
        Duration::ZERO,
        &tally,
        &stats,
        (Path::new("downloads"), Path::new("downloads/manifest.jsonl")),
    );
    assert_eq!(summary.text().lines().count(), 4, "{}", summary.text());
    assert!(!summary.text().contains('\u{1b}'));
}
