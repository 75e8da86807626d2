//! The report of runs that are told event by event.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::path::Path;

use longhaul_events::{RequestStatus, Verb, WaitCause};
use longhaul_limiter::{Lane, LaneRules, ManualClock, Role};
use serde_json::Value;

use super::files::names;
use super::*;

/// A run that is told.
struct Told {
    clock: ManualClock,
    report: RunReport,
    rules: LaneRules,
}

impl Told {
    fn new() -> Self {
        let clock = ManualClock::new();
        let report = RunReport::start(Arc::new(clock.clone()));
        Self { clock, report, rules: LaneRules::default() }
    }

    fn after(&self, ms: u64) -> &Self {
        self.clock.advance(Duration::from_millis(ms));
        self
    }

    fn hear(&self, event: &Event) {
        self.report.on_event(event);
    }

    fn starts(&self, job: i64, host: &str) {
        let lane = Lane::new(host).unwrap();
        self.hear(&Event::RequestStarted { job, lane, role: Role::Artifact });
    }

    /// A request from its start to its end, so long after.
    fn requests(&self, job: i64, host: &str, ms: u64, status: u16, reason: &str) {
        self.starts(job, host);
        self.after(ms);
        self.ends(job, host, ms, status, reason);
    }

    fn ends(&self, job: i64, host: &str, ms: u64, status: u16, reason: &str) {
        self.hear(&Event::Request {
            job,
            artifact_id: format!("a{job}"),
            resolver: "direct".to_owned(),
            resolver_order: 0,
            url: format!("https://{host}/{job}"),
            lane: Lane::new(host).unwrap(),
            role: Role::Artifact,
            verb: Verb::Get,
            status: RequestStatus::Ok,
            http_status: Some(status),
            content_type: None,
            wait: Duration::ZERO,
            elapsed: Duration::from_millis(ms),
            bytes: 100,
            reason: reason.to_owned(),
            retry_after: None,
            from_cache: false,
            sha256: None,
        });
    }

    fn settles(&self, job: i64, verdict: &'static str, reason: &str, bytes: u64) {
        self.hear(&Event::JobSettled {
            job,
            artifact_id: format!("a{job}"),
            verdict,
            state: verdict,
            reason: reason.to_owned(),
            detail: format!("{reason} of {job}"),
            resolver: None,
            bytes,
            elapsed: Duration::from_secs(1),
        });
    }

    fn waits(&self, job: i64, why: WaitCause, key: &str, ms: u64) {
        self.hear(&Event::Waited { job, why, key: key.to_owned(), waited: Duration::from_millis(ms) });
    }

    fn closes(&self, host: &str, ms: u64) {
        let (lane, retry_after) = (Lane::new(host).unwrap(), Some(Duration::from_millis(ms)));
        self.hear(&Event::LaneClosed { lane, retry_after, cause: "429 Too Many Requests".to_owned() });
    }

    fn begins(&self, job: i64) {
        let (artifact_id, lane) = (format!("a{job}"), Lane::NONE);
        self.hear(&Event::JobStarted { job, artifact_id, attempt: 1, lane });
    }

    fn report(&self) -> Report {
        self.report.finish(&EndedRun {
            run_id: "run",
            version: "1.2.3",
            queue: "state/workqueue.sqlite",
            ended: RunEnding::Drained,
            because: None,
            output_dir: Path::new("downloads"),
            manifest: Path::new("downloads/manifest.jsonl"),
            attempts: None,
            unpublished: 0,
            left: Some(Left { done: 2, error: 1, ..Left::default() }),
            rules: &self.rules,
            advice: |reason| if reason == "gone" { "look for another copy" } else { "" },
        })
    }
}

/// Two hosts, one of which asks for quiet; three jobs, each of another fate.
fn eventful() -> Told {
    let told = Told::new();
    for job in 1..=3 {
        told.begins(job);
    }
    told.starts(1, "a.example");
    told.after(100).starts(2, "a.example");
    told.after(100).ends(1, "a.example", 200, 200, "ok");
    told.ends(2, "a.example", 100, 429, "throttled");
    told.closes("a.example", 2_000);
    told.settles(1, "done", "ok", 100);
    told.settles(2, "throttled", "throttled", 0);
    told.hear(&Event::Published { job: 1 });
    told.after(300).requests(3, "b.example", 50, 404, "gone");
    told.settles(3, "error", "gone", 0);
    told.hear(&Event::Published { job: 3 });
    told.after(1_500).begins(2);
    told.waits(2, WaitCause::CoolDown, "a.example", 1_700);
    told.waits(2, WaitCause::Pace, "a.example", 200);
    told.waits(2, WaitCause::Resolver, "direct", 20);
    told.after(200).requests(2, "a.example", 90, 200, "ok");
    told.settles(2, "done", "already-downloaded", 100);
    told.hear(&Event::Published { job: 2 });
    // An earlier run had ended it.
    told.hear(&Event::Published { job: 77 });
    told.after(60);
    told
}

/// The JSON is for scripts: a change here is a change for them.
#[test]
fn the_data_of_an_eventful_run() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&eventful().report()).unwrap());
}

#[test]
fn what_hosts_got_is_counted_as_they_count_it() {
    let told = Told::new();
    told.starts(1, "a.example");
    told.starts(2, "a.example");
    told.after(10).ends(1, "a.example", 10, 200, "ok");
    told.starts(3, "a.example");
    // The try of the second was cut off: its job ends without its request being told.
    told.hear(&Event::JobFinished { job: 2, elapsed: Duration::ZERO });
    told.starts(4, "a.example");
    told.after(1_000).starts(5, "a.example");
    let report = told.report();
    let host = &report.hosts.listed[0];
    assert_eq!((host.requests, host.peak_in_flight, host.peak_in_any_second), (5, 3, 4));
    assert_eq!((host.cap, host.pace.as_str()), (Some(4), "2/s+500/h"));
    assert_eq!((report.requests.started, report.requests.ended), (5, 1));
    assert!(report.notes[0].contains("cut off with their try"), "{:?}", report.notes);
}

#[test]
fn inv_bounded_ten_times_as_many_hosts_make_no_larger_report_and_sums_stay_exact() {
    let size = |hosts: i64| {
        let told = Told::new();
        for host in 0..hosts {
            let name = format!("{host}.{}.example", "x".repeat(240));
            told.begins(host);
            told.requests(host, &name, 7, 200, "ok");
            told.settles(host, "done", "ok", 10);
            told.hear(&Event::Published { job: host });
        }
        let report = told.report();
        let others = report.hosts.others.as_ref().unwrap();
        let listed: u64 = report.hosts.listed.iter().map(|host| host.requests).sum();
        assert_eq!(listed + others.requests, hosts as u64);
        assert_eq!((report.jobs.done, report.jobs.file_bytes), (hosts as u64, hosts as u64 * 10));
        let ended: u64 = report.progress.buckets.iter().map(|bucket| bucket.done).sum();
        assert_eq!(ended, hosts as u64);
        assert!(report.notes[0].contains("upper bound"));
        (page::html(&report, None).len(), serde_json::to_string_pretty(&report).unwrap().len())
    };
    let (page, data) = size(60_000);
    assert!(page < 1 << 20 && data < 1 << 20, "{page} and {data} bytes");
    let (fewer_page, fewer_data) = size(6_000);
    assert!(
        page < fewer_page * 11 / 10 && data < fewer_data * 11 / 10,
        "{fewer_page} and {fewer_data} bytes"
    );
}

/// Whatever names strangers chose, the page asks nobody for anything and runs nothing.
#[test]
fn the_page_stands_alone() {
    let told = eventful();
    told.hear(&Event::JobSettled {
        job: 9,
        artifact_id: "<script>alert(1)</script>".to_owned(),
        verdict: "error",
        state: "error",
        reason: "timeout".to_owned(),
        detail: "\"><img src=//x.example/y onerror=z>".to_owned(),
        resolver: None,
        bytes: 0,
        elapsed: Duration::ZERO,
    });
    told.closes("<b>.example", 10);
    let page = page::html(&told.report(), Some("run.json"));
    assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && page.contains("&lt;b&gt;.example"));
    // As an attribute of the page's own, nothing of it can load anything.
    for loads in
        ["<script", "<link", "<img", "<iframe", "@import", "url(", " src=", "href=", "http://", "https://"]
    {
        let escaped = page.replace("&lt;img src=//x.example/y", "");
        assert!(!escaped.contains(loads), "{loads}");
    }
    assert!(page.contains("default-src 'none'"));
}

#[test]
fn a_run_in_which_nothing_happened_has_a_page_too() {
    let told = Told::new();
    let page = page::html(&told.report(), None);
    assert!(page.contains("0 artifacts fetched") && page.contains("Nothing happened in this run."));
    assert!(!page.contains("NaN") && !page.contains("inf\""), "{page}");
    assert!(!page::html(&eventful().report(), None).contains("NaN"));
}

#[test]
fn a_page_and_its_data_lie_beside_each_other_and_replace_earlier_ones_whole() {
    let folder = tempfile::tempdir().unwrap();
    let target = |name: &str| folder.path().join(name).to_str().unwrap().parse::<ReportTarget>();
    for _ in 0..2 {
        let written = target("run.html").unwrap().open().unwrap().write(&eventful().report()).unwrap();
        assert_eq!(written, [folder.path().join("run.html"), folder.path().join("run.json")]);
        assert_eq!(names(folder.path()), ["run.html", "run.json"]);
    }
    let data: Value =
        serde_json::from_slice(&std::fs::read(folder.path().join("run.json")).unwrap()).unwrap();
    assert_eq!((&data["schema_version"], &data["jobs"]["done"]), (&1.into(), &2.into()));
    target("alone.json").unwrap().open().unwrap().write(&eventful().report()).unwrap();
    assert_eq!(names(folder.path()), ["alone.json", "run.html", "run.json"]);
    assert!(target("report.pdf").unwrap_err().contains(".html"));
    assert!(target("report").unwrap_err().contains(".html"));
}

#[test]
fn somebody_elses_file_is_not_replaced_and_a_missing_folder_is_known_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let open =
        |name: &str| folder.path().join(name).to_str().unwrap().parse::<ReportTarget>().unwrap().open();
    // The list itself: `--report papers.html` would have the data beside it.
    std::fs::write(folder.path().join("papers.json"), "[{\"id\": 1}]").unwrap();
    for name in ["papers.html", "papers.json"] {
        let refused = open(name).unwrap_err().to_string();
        assert!(refused.contains("papers.json is there and is no report"), "{refused}");
    }
    assert!(open("none/run.html").unwrap_err().to_string().contains("its folder"));
    assert_eq!(names(folder.path()), ["papers.json"]);
}
