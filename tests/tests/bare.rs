//! One host without limits: longhaul beside a bare loop that fetches and writes the same files, in turn, as processes of
//! their own.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures are part of what a proof shows")]

use std::time::Duration;

use longhaul_origin::Shape;
use longhaul_tests::{Commits, Fleet, Program, beside_the_test, open_host, proving, size};
use serde_json::json;

const HOST: &str = "one";

/// 5,000 files of 20 KiB at 32.
#[tokio::test(flavor = "multi_thread")]
async fn small_files() {
    let files = size(60, 5_000);
    beside_the_loop("5,000 files of 20 KiB at 32", files, 20 * 1024, 32, &[], 0.2).await;
}

/// 200 files of 5 MiB at 8, the loop with a digest.
#[tokio::test(flavor = "multi_thread")]
async fn large_files() {
    let files = size(6, 200);
    beside_the_loop("200 files of 5 MiB at 8", files, 5 << 20, 8, &["--digest"], 0.7).await;
}

async fn beside_the_loop(case: &str, count: usize, bytes: u64, workers: usize, rest: &[&str], least: f64) {
    let shape = Shape::pdf(bytes);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..size(1, 5) {
        let fleet = Fleet::start(vec![open_host(HOST.to_owned(), 1, Duration::ZERO, shape)], shape).await;
        let (url, count_text, workers) = (fleet.origin.url(HOST, ""), count.to_string(), workers.to_string());
        let arguments = [&[&*url, &count_text, &workers, "bare"], rest].concat();
        let bare = Program::start_other(&beside_the_test("bare-loop"), fleet.folder(), &arguments, &[]);
        let _ = bare.finish().await.expect_code(0);
        theirs.push(rate(&fleet, count).await);
        std::fs::remove_dir_all(fleet.folder().join("bare")).unwrap();
        fleet.origin.reset().await;

        let files: Vec<_> = (0..count).map(|file| (HOST.to_owned(), format!("/{file}.pdf"))).collect();
        fleet.import(&files).await;
        let commits = Commits::of(fleet.queue_path());
        let flags = ["--durability", "normal", "--no-robots", "--rate", "*=off", "--workers", &workers];
        let program = fleet.start_run(&[&flags[..], &["--max-per-host", &workers]].concat(), &[]);
        let measured = fleet.measure(vec![program], commits, &files, async {}).await;
        assert_eq!(measured.done, count);
        assert_eq!(measured.charged, 0);
        ours.push(rate(&fleet, count).await);
    }
    let (longhaul, bare) = (median(&mut ours), median(&mut theirs));
    let ratio = longhaul / bare;
    println!(
        "{}",
        json!({ "case": case, "longhaul_files_a_second": longhaul, "loop_files_a_second": bare, "ratio": ratio })
    );
    if proving() {
        assert!(ratio >= least, "{ratio}");
    }
}

/// Files a second by the host's own count, from the first request to the last.
async fn rate(fleet: &Fleet, count: usize) -> f64 {
    let starts = longhaul_tests::Starts::new(fleet.origin.arrivals().await);
    assert_eq!(starts.count(), count);
    count as f64 / starts.makespan().as_secs_f64()
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}
