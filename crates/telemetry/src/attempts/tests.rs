//! What stands in the file, whatever happens to it.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::PathBuf;

use longhaul_events::{RequestStatus, Verb};
use longhaul_limiter::{Lane, ManualClock, Role};
use serde_json::Value;
use tempfile::TempDir;

use super::*;

fn request(job: i64) -> Event {
    Event::Request {
        job,
        artifact_id: "doi:10.1/a,\"b\"".to_owned(),
        resolver: "direct".to_owned(),
        resolver_order: 0,
        url: "https://h.example/a".to_owned(),
        lane: Lane::new("h.example").unwrap(),
        role: Role::Artifact,
        verb: Verb::Get,
        status: RequestStatus::Throttled,
        http_status: Some(429),
        content_type: None,
        wait: Duration::from_millis(3),
        elapsed: Duration::from_millis(12),
        bytes: 0,
        reason: "throttled".to_owned(),
        retry_after: Some(Duration::from_secs(2)),
        from_cache: false,
        sha256: None,
    }
}

fn open(path: &Path, options: AttemptsOptions) -> io::Result<AttemptsFile> {
    AttemptsFile::open(path, "run", options, Arc::new(ManualClock::new()))
}

/// A folder, and an attempts file in it that begins with this.
fn file(name: &str, before: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    if !before.is_empty() {
        fs::write(&path, before).unwrap();
    }
    (folder, path)
}

fn jobs(path: &Path) -> Vec<i64> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["job_id"].as_i64().unwrap())
        .collect()
}

#[test]
fn each_request_has_a_line_with_the_documented_fields_in_order_and_other_events_have_none() {
    let (_folder, path) = file("attempts.jsonl", "");
    let attempts = open(&path, AttemptsOptions::default()).unwrap();
    for job in 0..500 {
        attempts.on_event(&request(job));
        attempts.on_event(&Event::Leased { count: 1 });
    }
    assert_eq!(attempts.finish(), AttemptsEnd { written: 500, ..AttemptsEnd::default() });
    assert_eq!(jobs(&path), (0..500).collect::<Vec<_>>());
    let text = fs::read_to_string(&path).unwrap();
    let first = text.lines().next().unwrap();
    let places: Vec<usize> =
        AttemptsFile::FIELDS.iter().map(|field| first.find(&format!("\"{field}\":")).expect(field)).collect();
    assert!(places.is_sorted(), "{first}");
    let line: Value = serde_json::from_str(first).unwrap();
    assert_eq!(line.as_object().unwrap().len(), AttemptsFile::FIELDS.len());
    assert_eq!(
        [&line["verb"], &line["status"], &line["wait_ms"], &line["elapsed_ms"], &line["timestamp"]],
        [&"GET".into(), &"throttled".into(), &3.into(), &12.into(), &Value::from("2024-10-04T00:00:00.000Z")]
    );
}

#[test]
fn a_csv_file_has_its_head_once_and_quotes_what_needs_it() {
    let (_folder, path) = file("attempts.CSV", "");
    for job in [1, 2] {
        let attempts = open(&path, AttemptsOptions::default()).unwrap();
        let mut event = request(job);
        if let Event::Request { artifact_id, .. } = &mut event
            && job == 2
        {
            artifact_id.push_str("\r\nx");
        }
        attempts.on_event(&event);
        assert_eq!(attempts.finish().written, 1);
    }
    let mut reader = csv::Reader::from_path(&path).unwrap();
    assert_eq!(reader.headers().unwrap(), AttemptsFile::FIELDS);
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let column = |name: &str| AttemptsFile::FIELDS.iter().position(|field| *field == name).unwrap();
    let ids: Vec<&str> = rows.iter().map(|row| &row[column("artifact_id")]).collect();
    assert_eq!(ids, ["doi:10.1/a,\"b\"", "doi:10.1/a,\"b\"  x"], "a row is a line");
    assert_eq!((&rows[0][column("verb")], &rows[0][column("content_type")]), ("GET", ""));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);
}

#[test]
fn a_torn_last_line_is_mended_and_said() {
    let head = AttemptsFile::FIELDS.join(",");
    for (name, before, after, repair) in [
        ("a.jsonl", "", "", None),
        ("a.jsonl", "{\"job_id\":1}\n", "{\"job_id\":1}\n", None),
        ("a.jsonl", "{\"job_id\":1}\n{\"job_", "{\"job_id\":1}\n", Some(Repair::Removed(6))),
        (
            "a.jsonl",
            "{\"job_id\":1}\n{\"job_id\":2}",
            "{\"job_id\":1}\n{\"job_id\":2}\n",
            Some(Repair::Ended),
        ),
        ("a.jsonl", "{\"job_", "", Some(Repair::Removed(6))),
        ("a.csv", &format!("{head}\n1,2"), &format!("{head}\n"), Some(Repair::Removed(3))),
        ("a.csv", &head[..20], "", Some(Repair::Removed(20))),
    ] {
        let (_folder, path) = file(name, before);
        let attempts = open(&path, AttemptsOptions::default()).unwrap();
        assert_eq!(attempts.repair(), repair, "{before:?}");
        drop(attempts);
        let left = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(left, after);
    }
    let long = "x".repeat(200_000);
    let (_folder, path) = file("a.jsonl", &format!("{{\"a\":\"{long}\"}}\n{{\"a\":\"{long}"));
    assert_eq!(open(&path, AttemptsOptions::default()).unwrap().repair(), Some(Repair::Removed(200_006)));
}

#[test]
fn what_a_neighbour_tore_while_we_run_spoils_no_later_line() {
    let (_folder, path) = file("attempts.jsonl", "");
    let attempts = open(&path, AttemptsOptions::default()).unwrap();
    let neighbour = fs::OpenOptions::new().append(true).open(&path).unwrap();
    io::Write::write_all(&mut &neighbour, b"{\"job_id\": 7").unwrap();
    attempts.on_event(&request(1));
    let end = attempts.finish();
    assert_eq!((end.written, end.mended), (1, 1));
    assert_eq!(jobs(&path), [1]);
}

#[test]
fn somebody_elses_file_is_refused_and_left_as_it_is() {
    for (name, before) in [("notes.txt", "to buy\n"), ("a.csv", "name,size\nx,1\n"), ("a.jsonl", "[1]\n")] {
        let (_folder, path) = file(name, before);
        let refused = open(&path, AttemptsOptions::default()).unwrap_err();
        assert!(refused.to_string().contains("name another file"), "{refused}");
        assert_eq!(fs::read_to_string(&path).unwrap(), before);
    }
}

#[test]
fn a_full_file_makes_room_and_so_many_earlier_ones_are_kept() {
    let (folder, path) = file("attempts.csv", "");
    // Each batch is as large as a file may be.
    let options = AttemptsOptions { max_bytes: 1, keep: 2 };
    for job in 0..5 {
        let attempts = open(&path, options).unwrap();
        attempts.on_event(&request(job));
        assert_eq!(attempts.finish().written, 1);
    }
    let mut names: Vec<String> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(names, ["attempts.1.csv", "attempts.2.csv", "attempts.csv"]);
    for (name, job) in [("attempts.csv", "4"), ("attempts.1.csv", "3"), ("attempts.2.csv", "2")] {
        let mut reader = csv::Reader::from_path(folder.path().join(name)).unwrap();
        assert_eq!(reader.headers().unwrap(), AttemptsFile::FIELDS, "each has its head");
        let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
        assert_eq!((rows.len(), &rows[0][2]), (1, job), "{name}");
    }
}

#[test]
fn several_writers_share_a_file_while_it_is_rotated_and_lose_nothing() {
    let (folder, path) = file("attempts.jsonl", "");
    let options = AttemptsOptions { max_bytes: 20_000, keep: 1000 };
    thread::scope(|scope| {
        for writer in 0..4_i64 {
            let path = &path;
            scope.spawn(move || {
                let attempts = open(path, options).unwrap();
                for job in 0..200 {
                    attempts.on_event(&request(writer * 1000 + job));
                }
                assert_eq!(attempts.finish(), AttemptsEnd { written: 200, ..AttemptsEnd::default() });
            });
        }
    });
    let files: Vec<PathBuf> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.len() > 1, "it was rotated");
    let mut all: Vec<i64> = files.iter().flat_map(|file| jobs(file)).collect();
    all.sort_unstable();
    let expected: Vec<i64> = (0..4).flat_map(|writer| (0..200).map(move |job| writer * 1000 + job)).collect();
    assert_eq!(all, expected);
}

#[test]
fn a_neighbour_that_keeps_the_lock_costs_lines_and_no_time_of_a_job() {
    let (_folder, path) = file("attempts.jsonl", "");
    let attempts = open(&path, AttemptsOptions::default()).unwrap();
    let frozen = fs::File::open(&path).unwrap();
    frozen.lock().unwrap();
    // Nobody writes meanwhile, so these calls return only because none of them waits for the file.
    let heard = WAITING_MAX as u64 + BATCH as u64 + 100;
    for job in 0..heard {
        attempts.on_event(&request(job as i64));
    }
    let dropped = attempts.counts.dropped.load(Ordering::Acquire);
    assert!(dropped >= 100, "{dropped} were dropped");
    drop(frozen);
    let end = attempts.finish();
    assert_eq!((end.written + end.dropped, end.failed), (heard, 0));
    assert_eq!(jobs(&path).len() as u64, end.written);
}

#[test]
fn lines_that_the_disk_refuses_are_counted_with_what_it_said() {
    let (folder, path) = file("folder/attempts.jsonl", "");
    fs::create_dir(path.parent().unwrap()).unwrap();
    let attempts = open(&path, AttemptsOptions::default()).unwrap();
    // The name is lost with its folder: nothing can be opened there any more.
    fs::remove_dir_all(path.parent().unwrap()).unwrap();
    attempts.on_event(&request(1));
    let end = attempts.finish();
    assert_eq!((end.written, end.failed), (0, 1));
    assert!(end.failed_because.is_some());
    drop(folder);
}
