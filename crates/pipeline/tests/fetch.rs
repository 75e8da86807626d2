//! What a try makes of what hosts answer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use longhaul_events::Event;
use longhaul_limiter::{Clock, Lane, Role, SystemClock};
use longhaul_origin::{Answer, Behaviour, Fault, FaultRule, Kind, Ranges, Reply, RetryAfter, Shape, Target};
use longhaul_pipeline::{
    FailureClass, Grant, HostReport, HttpOptions, HttpPipeline, Outcome, Pipeline, Reason,
};
use serde_json::json;
use support::{
    Bench, Desk, Ear, checkpoint, done, failed, file, job, moved, next_try, pdf, pdf_text, reports, run,
    skipped, soon,
};

const PERMANENT: FailureClass = FailureClass::Permanent;
const TRANSIENT: FailureClass = FailureClass::Transient;
const THROTTLED: FailureClass = FailureClass::Throttled;

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One try against one answer.
async fn try_of(answer: Answer) -> (longhaul_pipeline::RunResult, Desk, Bench) {
    let bench = Bench::answering(answer).await;
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    (result, desk, bench)
}

#[tokio::test]
async fn a_document_becomes_a_checked_part() {
    let (result, desk, bench) = try_of(pdf(300_000)).await;
    let document = bench.origin.document("a", "/x.pdf");
    let (fetched, file) = (done(&result), file(&result));
    assert_eq!((file.sha256.as_str(), file.bytes), (document.sha256().as_str(), document.len()));
    assert_eq!(fetched.url, bench.origin.url("a", "/x.pdf"));
    assert_eq!(fetched.etag, Some(document.etag()));
    assert_eq!(bench.path(&file.path).extension().unwrap(), "pdf");
    assert!(!bench.path(&file.path).exists(), "it has no final name yet");
    assert_eq!(std::fs::read(bench.path(file.part.to_str().unwrap())).unwrap(), document.whole());
    assert_eq!(result.hosts, [HostReport::Served(bench.lane("a"))]);
    assert_eq!((desk.asked(), desk.roles()), (vec![bench.lane("a")], vec![Role::Artifact]));
    let received = |event| if let Event::Received { bytes, .. } = event { bytes } else { 0 };
    let received: u64 = desk.recorder.events().into_iter().map(received).sum();
    assert_eq!(received, document.len());
    assert_eq!(desk.request_reasons(), ["ok"]);
}

#[tokio::test]
async fn the_digest_and_the_length_must_be_what_the_record_says() {
    let bench = Bench::answering(pdf(5000)).await;
    let document = bench.origin.document("a", "/x.pdf");
    let (url, sha256) = (bench.origin.url("a", "/x.pdf"), document.sha256());
    let record = |key: &str, value| json!({ "id": "x", "url": url, key: value });
    let outcome = async |record| run(&bench.pipeline(), &job(&record), &Desk::default()).await;
    done(&outcome(record("sha256", json!(sha256))).await);
    done(&outcome(record("bytes", json!(5000))).await);
    let other = outcome(record("sha256", json!("0".repeat(64)))).await;
    assert_eq!(failed(&other), (Reason::DigestMismatch, PERMANENT));
    let other = outcome(record("bytes", json!(4999))).await;
    assert_eq!(failed(&other), (Reason::SizeMismatch, PERMANENT));
}

#[tokio::test]
async fn what_is_gone_is_gone_and_the_host_is_well() {
    for status in [404, 410] {
        let (result, _, _) = try_of(Answer::status(status)).await;
        assert_eq!(failed(&result), (Reason::Gone, PERMANENT));
        assert_eq!(reports(&result), ["served"]);
    }
}

#[tokio::test]
async fn a_server_s_failure_is_transient_and_blames_the_host() {
    for status in [408, 500, 502, 503] {
        let (result, _, bench) = try_of(Answer::status(status)).await;
        assert_eq!(failed(&result).1, TRANSIENT, "{status}");
        let blamed = |report: &HostReport| matches!(report, HostReport::Failed { lane, .. } if *lane == bench.lane("a"));
        assert!(result.hosts.len() == 1 && blamed(&result.hosts[0]), "{:?}", result.hosts);
    }
}

#[tokio::test]
async fn other_refusals_are_permanent() {
    for status in [400, 401, 403, 451] {
        let (result, _, _) = try_of(Answer::status(status)).await;
        assert_eq!(failed(&result), (Reason::HttpStatus, PERMANENT), "{status}");
        assert_eq!(reports(&result), ["served"]);
    }
}

#[tokio::test]
async fn inv_cooldown_a_throttled_host_is_held_back_at_once() {
    let throttled =
        |status, retry_after| Answer::default().failing_first(Fault::Status { status, retry_after });
    let (result, desk, bench) = try_of(throttled(429, Some(RetryAfter::seconds(40)))).await;
    assert_eq!(failed(&result), (Reason::RetryAfter, THROTTLED));
    assert_eq!(desk.held(), [(bench.lane("a"), seconds(40))]);
    let lane = bench.lane("a");
    let said = HostReport::Throttled {
        lane: lane.clone(),
        retry_after: Some(seconds(40)),
        cause: "429 Too Many Requests".to_owned(),
    };
    assert_eq!(result.hosts, [said]);

    let (result, desk, bench) = try_of(throttled(429, None)).await;
    assert_eq!(failed(&result), (Reason::Throttled, THROTTLED));
    assert_eq!(desk.held(), [(bench.lane("a"), seconds(60))]);
    assert!(matches!(result.hosts[..], [HostReport::Throttled { retry_after: None, .. }]));

    let (result, _, _) = try_of(throttled(503, Some(RetryAfter::seconds(40)))).await;
    assert_eq!(failed(&result), (Reason::RetryAfter, THROTTLED));
}

#[tokio::test]
async fn inv_cooldown_a_retry_after_date_is_as_far_away_as_its_host_says_whatever_our_calendar_shows() {
    let fault = Fault::Status { status: 429, retry_after: Some(RetryAfter::date(100)) };
    let hour = seconds(3600);
    for wall in [SystemClock.wall(), SystemClock.wall() + hour, SystemClock.wall() - hour] {
        let bench = Bench::answering(Answer::default().failing_first(fault.clone())).await;
        let desk = Desk::default();
        desk.clock.set_wall(wall);
        let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
        assert_eq!(failed(&result), (Reason::RetryAfter, THROTTLED));
        let held = desk.held()[0].1;
        // Both dates are whole seconds, and the host rounds the later one up.
        assert!(held >= seconds(100) && held < seconds(140), "{held:?}");
    }
}

#[tokio::test]
async fn each_hop_of_a_redirect_is_admitted_under_its_own_host() {
    let to_b = Target::Host { name: "b".to_owned(), path: "/y.pdf".to_owned() };
    let reply = Reply::Redirect { to: to_b, status: 307, hops: 2, keep_rest: false };
    let (result, desk, bench) = try_of(Answer { reply, ..Answer::default() }).await;
    let (a, b) = (bench.lane("a"), bench.lane("b"));
    assert_eq!(desk.asked(), [a.clone(), a.clone(), a, b]);
    assert_eq!(done(&result).url, bench.origin.url("b", "/y.pdf"));
    assert_eq!(reports(&result), ["served"; 4]);
}

#[tokio::test]
async fn redirects_end() {
    let circle = Answer::redirect(Target::Path("/x.pdf".to_owned()));
    let (result, _, bench) = try_of(circle).await;
    assert_eq!(failed(&result), (Reason::RedirectLoop, PERMANENT));
    assert_eq!(bench.origin.counts("a").requests, 1);

    let to = Target::Path("/y.pdf".to_owned());
    let long = Reply::Redirect { to, status: 302, hops: 50, keep_rest: false };
    let (result, _, bench) = try_of(Answer { reply: long, ..Answer::default() }).await;
    assert_eq!(failed(&result), (Reason::RedirectLoop, PERMANENT));
    assert_eq!(bench.origin.counts("a").requests, 11);
}

#[tokio::test]
async fn no_redirect_leads_to_files_or_into_the_house() {
    let targets = [
        "file:///etc/passwd",
        "http://127.0.2.1:9/",
        "http://[::1]:9/",
        "http://169.254.169.254/",
        "ftp://x/",
    ];
    for target in targets {
        let (result, desk, _) = try_of(Answer::redirect(Target::Url(target.to_owned()))).await;
        assert_eq!(skipped(&result), Reason::PolicyAddress, "{target}");
        assert_eq!(desk.asked().len(), 1, "{target}");
    }
}

#[tokio::test]
async fn a_name_that_leads_into_the_house_is_refused_as_its_address_is() {
    // The system's resolver knows this one everywhere.
    let (result, _, _) = try_of(Answer::redirect(Target::Url("http://localhost:9/".to_owned()))).await;
    assert_eq!(skipped(&result), Reason::PolicyAddress);
}

#[tokio::test]
async fn pages_are_not_saved_as_papers() {
    let answering = |reply| Answer { reply, ..Answer::default() };
    let page = Shape { kind: Kind::Html, ..Shape::default() };
    let table = [
        (answering(Reply::LoginPage), Reason::ChallengePage),
        (answering(Reply::ChallengePage { status: 200 }), Reason::ChallengePage),
        (answering(Reply::ChallengePage { status: 403 }), Reason::ChallengePage),
        (answering(Reply::ChallengePage { status: 503 }), Reason::ChallengePage),
        (Answer::document(page), Reason::HtmlInsteadOfPdf),
        (
            Answer { content_type: Some("application/pdf".into()), ..Answer::document(page) },
            Reason::HtmlInsteadOfPdf,
        ),
        (Answer::document(Shape { kind: Kind::Bytes, ..Shape::default() }), Reason::UnexpectedType),
        (Answer::fixed("application/pdf", "%PDF-1.4 %%EOF"), Reason::TooSmall),
        (Answer::fixed("application/pdf", format!("%PDF-1.4{}", " ".repeat(3000))), Reason::PdfTruncated),
        (Answer { ranges: Ranges::Unsolicited, ..Answer::default() }, Reason::HttpStatus),
        (Answer::status(204), Reason::HttpStatus),
    ];
    for (answer, reason) in table {
        let (result, _, bench) = try_of(answer).await;
        assert_eq!(failed(&result), (reason, PERMANENT));
        assert_eq!(bench.manifest().len(), 0);
    }
}

#[tokio::test]
async fn a_large_page_is_not_read_to_its_end() {
    let shape = Shape { kind: Kind::Html, min_bytes: 50 << 20, max_bytes: 50 << 20 };
    let (result, _, bench) = try_of(Answer::document(shape)).await;
    assert_eq!(failed(&result), (Reason::HtmlInsteadOfPdf, PERMANENT));
    let counts = soon(bench.origin.wait_for("a", |counts| counts.in_flight == 0)).await;
    assert!(counts.body_bytes_sent < 10 << 20, "{}", counts.body_bytes_sent);
}

#[tokio::test]
async fn the_next_plan_is_followed_when_one_is_gone() {
    let behaviour = Behaviour::default()
        .with_route("/gone", Answer::status(404))
        .with_route("/login", Answer { reply: Reply::LoginPage, ..Answer::default() })
        .with_route("/broken", Answer::status(500));
    let bench = Bench::behaving(behaviour).await;
    let url = |path: &str| bench.origin.url("a", path);
    let record = |paths: &[&str]| {
        let urls: Vec<String> = paths.iter().map(|path| url(path)).collect();
        job(&json!({ "id": "x", "pdf_urls": urls }))
    };
    let outcome = async |paths: &[&str]| run(&bench.pipeline(), &record(paths), &Desk::default()).await;
    assert_eq!(done(&outcome(&["/gone", "/login", "/broken", "/x.pdf"]).await).url, url("/x.pdf"));
    assert_eq!(failed(&outcome(&["/gone/1", "/gone/2"]).await), (Reason::Gone, PERMANENT));
    assert_eq!(failed(&outcome(&["/login", "/gone"]).await), (Reason::ChallengePage, PERMANENT));

    // What may work next time is tried next time, and nothing else.
    let result = outcome(&["/gone", "/broken"]).await;
    assert_eq!(failed(&result), (Reason::HttpStatus, TRANSIENT));
    bench.origin.reset_counts();
    let again = next_try(&record(&["/gone", "/broken"]), checkpoint(&result));
    let _failed_again = run(&bench.pipeline(), &again, &Desk::default()).await;
    assert_eq!(bench.origin.path_counts("a", "/gone").asked, 0);
    assert_eq!(bench.origin.path_counts("a", "/broken").asked, 1);
}

#[tokio::test]
async fn connections_that_fail_are_transient() {
    let (result, _, _) = try_of(Answer::default().failing_first(Fault::ResetBeforeHead)).await;
    assert_eq!(failed(&result), (Reason::ConnError, TRANSIENT));
    assert_eq!(reports(&result), ["failed"]);

    let bench = Bench::answering(Answer::default()).await;
    // Nobody listens on port 1 there.
    let url = format!("http://{}:1/x.pdf", bench.origin.address("a").ip());
    let job = job(&json!({ "id": "x", "url": url }));
    let result = run(&bench.pipeline(), &job, &Desk::default()).await;
    assert_eq!(failed(&result), (Reason::ConnError, TRANSIENT));
}

/// Runs a try against a host that falls silent, and lets time pass once it has.
async fn try_of_silence(fault: Fault, has_fallen_silent: impl Fn(&Desk) -> bool) -> String {
    let bench = Bench::answering(pdf(400_000).with_fault(FaultRule::always(fault))).await;
    let (desk, pipeline, job) = (Desk::default(), bench.pipeline(), bench.job("/x.pdf"));
    let time = async {
        bench.origin.wait_for("a", |counts| counts.requests == 1).await;
        while !has_fallen_silent(&desk) {
            tokio::task::yield_now().await;
        }
        loop {
            desk.clock.advance(seconds(36));
            tokio::task::yield_now().await;
        }
    };
    let result = soon(async {
        tokio::select! {
            result = pipeline.run(&job, &desk) => result,
            () = time => unreachable!("it passes for ever"),
        }
    })
    .await;
    assert_eq!(failed(&result), (Reason::Timeout, TRANSIENT));
    assert_eq!(reports(&result), ["failed"]);
    let Outcome::Failed { detail, .. } = result.outcome else { unreachable!("it has failed") };
    detail
}

#[tokio::test]
async fn a_host_that_does_not_answer_is_not_waited_for_for_ever() {
    let detail = try_of_silence(Fault::NeverAnswer, |desk| desk.clock.sleepers() > 0).await;
    assert!(detail.contains("did not answer"), "{detail}");
}

#[tokio::test]
async fn a_body_that_stops_coming_is_not_waited_for_for_ever() {
    let received = |desk: &Desk| {
        let is_received = |event: &Event| matches!(event, Event::Received { .. });
        desk.recorder.events().iter().any(is_received)
    };
    let detail = try_of_silence(Fault::StallInBody { at_percent: 60 }, received).await;
    assert!(detail.contains("the body stopped coming"), "{detail}");
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_or_while_it_comes() {
    for (framing, reason) in [
        (longhaul_origin::Framing::Length, Reason::PolicySize),
        (longhaul_origin::Framing::Chunked, Reason::TooLarge),
    ] {
        let mut bench = Bench::answering(Answer { framing, ..pdf(2 << 20) }).await;
        bench.options.max_bytes = 1 << 20;
        let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await;
        assert_eq!(skipped(&result), reason);
    }
}

/// Whoever counts what a host has in flight hears of a request before its connect and after its end, under the same lane.
#[tokio::test]
async fn a_request_is_told_when_it_starts_and_when_it_has_ended() {
    let to_b = Target::Host { name: "b".to_owned(), path: "/y.pdf".to_owned() };
    let bench = Bench::answering(Answer::redirect(to_b)).await;
    let desk = Desk::default();
    done(&run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await);
    let told = |event| match event {
        Event::RequestStarted { lane, .. } => Some(("starts", lane)),
        Event::Request { lane, .. } => Some(("ends", lane)),
        _ => None,
    };
    let told: Vec<_> = desk.recorder.events().into_iter().filter_map(told).collect();
    let (a, b) = (bench.lane("a"), bench.lane("b"));
    assert_eq!(told, [("starts", a.clone()), ("ends", a), ("starts", b.clone()), ("ends", b)]);
}

#[tokio::test]
async fn a_job_moves_and_goes_on_exactly_there() {
    let to_b = Target::Host { name: "b".to_owned(), path: "/y.pdf".to_owned() };
    let bench = Bench::answering(Answer::redirect(to_b)).await;
    let (desk, pipeline) = (Desk::default(), bench.pipeline());
    desk.grant(&bench.lane("b"), [Grant::Move { after: seconds(5) }]);
    let job = bench.job("/x.pdf");
    let result = run(&pipeline, &job, &desk).await;
    let moved_to = moved(&result);
    assert_eq!(
        (&moved_to.lane, moved_to.role, moved_to.after),
        (&bench.lane("b"), Role::Artifact, seconds(5))
    );
    let again = next_try(&job, checkpoint(&result));
    assert_eq!(done(&run(&pipeline, &again, &desk).await).url, bench.origin.url("b", "/y.pdf"));
    assert_eq!((bench.origin.counts("a").requests, bench.origin.counts("b").requests), (1, 1));
}

#[tokio::test]
async fn a_redirect_that_has_aged_is_followed_anew_once() {
    let to = Target::Host { name: "b".to_owned(), path: "/y.pdf".to_owned() };
    let bench = Bench::answering(Answer::redirect(to)).await;
    bench.origin.set_behaviour("b", Behaviour::answering(Answer::status(403)));
    let (desk, pipeline) = (Desk::default(), bench.pipeline());
    let hours = Grant::Move { after: seconds(7200) };
    desk.grant(&bench.lane("b"), [hours, Grant::Go, hours]);
    let mut job = bench.job("/x.pdf");
    for _ in 0..2 {
        let result = run(&pipeline, &job, &desk).await;
        moved(&result);
        job = next_try(&job, checkpoint(&result));
    }
    let result = run(&pipeline, &job, &desk).await;
    assert_eq!(failed(&result), (Reason::HttpStatus, PERMANENT));
    assert_eq!((bench.origin.counts("a").requests, bench.origin.counts("b").requests), (2, 2));
}

#[tokio::test]
async fn a_job_that_is_only_sent_about_ends_its_try() {
    let bench = Bench::answering(Answer::default()).await;
    let (desk, pipeline) = (Desk::default(), bench.pipeline());
    desk.grant(&bench.lane("a"), vec![Grant::Move { after: seconds(1) }; 20]);
    let mut job = bench.job("/x.pdf");
    for _ in 0..8 {
        let result = run(&pipeline, &job, &desk).await;
        moved(&result);
        job = next_try(&job, checkpoint(&result));
    }
    let result = run(&pipeline, &job, &desk).await;
    assert_eq!(failed(&result), (Reason::Backoff, TRANSIENT));
    assert_eq!(bench.origin.counts("a").requests, 0);
    // The next try counts anew.
    moved(&run(&pipeline, &next_try(&job, checkpoint(&result)), &desk).await);
}

#[tokio::test]
async fn a_try_makes_64_requests_at_most() {
    let bench = Bench::answering(Answer::status(404)).await;
    let urls: Vec<String> = (0..80).map(|n| bench.origin.url("a", &format!("/{n}.pdf"))).collect();
    let job = job(&json!({ "id": "x", "pdf_urls": urls }));
    let result = run(&bench.pipeline(), &job, &Desk::default()).await;
    assert_eq!(failed(&result), (Reason::Backoff, TRANSIENT));
    assert_eq!(bench.origin.counts("a").requests, 64);
    let again = next_try(&job, checkpoint(&result));
    assert_eq!(failed(&run(&bench.pipeline(), &again, &Desk::default()).await), (Reason::Gone, PERMANENT));
    assert_eq!(bench.origin.counts("a").requests, 80);
}

#[tokio::test]
async fn nothing_is_asked_without_leave() {
    let bench = Bench::answering(Answer::default()).await;
    let desk = Desk::default();
    desk.grant(&bench.lane("a"), [Grant::Stop]);
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    assert_eq!(failed(&result).0, Reason::LeaseLost);
    assert_eq!(bench.origin.counts("a").requests, 0);
}

#[tokio::test]
async fn a_cancelled_try_ends_at_once() {
    let bench = Bench::answering(Answer::default().with_fault(FaultRule::always(Fault::NeverAnswer))).await;
    let (desk, pipeline, job) = (Desk::default(), bench.pipeline(), bench.job("/x.pdf"));
    let cancel = async {
        bench.origin.wait_for("a", |counts| counts.requests == 1).await;
        desk.cancelled.cancel();
    };
    let (result, ()) = soon(async { tokio::join!(pipeline.run(&job, &desk), cancel) }).await;
    assert_eq!(failed(&result).0, Reason::LeaseLost);
    assert!(result.hosts.is_empty());
}

#[tokio::test]
async fn records_that_say_nothing_useful_end_honestly() {
    let bench = Bench::answering(Answer::default()).await;
    let mut broken = bench.job("/x.pdf");
    "{".clone_into(&mut broken.payload);
    let result = run(&bench.pipeline(), &broken, &Desk::default()).await;
    assert_eq!(failed(&result), (Reason::BadRecord, PERMANENT));
    let nowhere = job(&json!({ "id": "doi:10.1000/x" }));
    let result = run(&bench.pipeline(), &nowhere, &Desk::default()).await;
    assert_eq!(skipped(&result), Reason::NoCandidates);
}

#[tokio::test]
async fn secrets_go_to_their_origin_only() {
    let hidden = "hunter2";
    let (first, second) = (Ear::listen().await, Ear::listen().await);
    let mut bench = Bench::answering(Answer::default()).await;
    bench.options.contact = Some("me@example.org".to_owned());
    bench.options.headers.insert(&first.url("/").parse().unwrap(), "X-Api-Key", hidden);
    let pipeline = bench.pipeline();
    assert!(!format!("{pipeline:?}").contains(hidden));
    let to = second.url("/y.pdf?token=abc");
    let redirect = format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n");
    let body = pdf_text(2000);
    let found = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    let job = job(&json!({ "id": "x", "pdf_urls": [first.url("/x.pdf")] }));
    let desk = Desk::default();
    let all =
        async { tokio::join!(pipeline.run(&job, &desk), first.answer(&redirect), second.answer(&found)) };
    let (result, asked_first, asked_second) = soon(all).await;
    assert!(done(&result).url.ends_with("/y.pdf?token=REDACTED"), "{}", done(&result).url);
    assert!(asked_first.contains(hidden) && !asked_second.contains(hidden), "{asked_second}");
    for asked in [asked_first, asked_second] {
        let asked = asked.to_lowercase();
        assert!(
            asked.contains("user-agent: longhaul/") && asked.contains("(+mailto:me@example.org)"),
            "{asked}"
        );
        assert!(asked.contains("accept-encoding: identity"), "{asked}");
        assert!(!asked.contains("cookie") && !asked.contains("referer"), "{asked}");
    }
}

/// Also where anything would do.
#[tokio::test]
async fn a_pdf_without_a_length_that_breaks_off_may_come_whole_next_time() {
    let ear = Ear::listen().await;
    let url = ear.url("/x.pdf");
    for record in [json!({ "id": "x", "pdf_urls": [url] }), json!({ "id": "x", "url": url })] {
        let bench = Bench::answering(Answer::default()).await;
        let (pipeline, desk, job) = (bench.pipeline(), Desk::default(), job(&record));
        let cut = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}", &pdf_text(6000)[..4000]);
        let (result, _) = soon(async { tokio::join!(pipeline.run(&job, &desk), ear.answer(&cut)) }).await;
        assert_eq!(failed(&result), (Reason::PdfTruncated, TRANSIENT));
    }
}

/// It is asked for as it is. What a host packs all the same is not the file; a file that is packed by itself is.
#[tokio::test]
async fn what_a_host_packs_unasked_is_refused_by_name() {
    let packed = Answer { content_encoding: Some("gzip".into()), ..pdf(5000) };
    let bench = Bench::answering(packed).await;
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await;
    let Outcome::Failed { reason, detail, .. } = &result.outcome else { panic!("{result:?}") };
    assert_eq!(*reason, Reason::UnexpectedType);
    assert!(detail.contains("Content-Encoding: gzip"), "{detail}");
    let record = json!({ "id": "a", "expect": "any", "url": bench.origin.url("a", "/x.tar.gz") });
    let _ = done(&run(&bench.pipeline(), &job(&record), &Desk::default()).await);
}

#[tokio::test]
async fn a_full_disk_is_nobody_s_fault() {
    let bench = Bench::answering(pdf(5000)).await;
    let pipeline = bench.pipeline();
    // A file where the folder of the parts was: nothing can be written, for root neither.
    std::fs::remove_dir(bench.path(".longhaul/parts")).unwrap();
    std::fs::write(bench.path(".longhaul/parts"), "").unwrap();
    let result = run(&pipeline, &bench.job("/x.pdf"), &Desk::default()).await;
    assert_eq!(failed(&result), (Reason::DiskFull, FailureClass::LocalFault));
}

#[tokio::test]
async fn the_files_are_named_after_the_artifact() {
    let answer = Answer::document(Shape { kind: Kind::Bytes, ..Shape::default() });
    let mut bench = Bench::answering(answer).await;
    bench.options.layout = longhaul_pipeline::Layout::Sharded;
    let record = json!({ "id": "a", "expect": "any", "base_stem": "my data",
        "url": bench.origin.url("a", "/download/table.CSV?x=.exe") });
    let result = run(&bench.pipeline(), &job(&record), &Desk::default()).await;
    // sha256("a") = ca978112…
    assert_eq!(file(&result).path, "ca/97/my data.csv");
}

#[tokio::test]
async fn an_output_folder_that_cannot_be_made_is_told_at_once() {
    let bench = Bench::answering(Answer::default()).await;
    std::fs::write(bench.path("file"), "").unwrap();
    let output_dir = bench.path("file/out");
    let error = HttpPipeline::new(HttpOptions { output_dir, ..bench.options.clone() }).unwrap_err();
    assert!(error.to_string().contains("file/out"), "{error}");
}

#[tokio::test]
async fn a_closure_is_a_pipeline() {
    let pipeline = longhaul_pipeline::FnPipeline::new(|job, context| {
        Box::pin(async move {
            let lane = Lane::new("a.example").unwrap();
            let detail = format!("{} {:?}", job.artifact_id, context.admit(&lane, Role::Landing).await);
            Outcome::Skipped { reason: Reason::PolicyType, detail }.into()
        })
    });
    let desk = Desk::default();
    let job = job(&json!({ "id": "x" }));
    let result = pipeline.run(&job, &desk).await;
    assert!(matches!(&result.outcome, Outcome::Skipped { detail, .. } if detail == "x Go"));
    assert!(pipeline.rename(&job, &result.outcome).is_none());
}
