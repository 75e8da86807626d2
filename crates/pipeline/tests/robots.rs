//! robots.txt is asked before anything else, believed for an hour, and obeyed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use futures_util::future::join_all;
use longhaul_events::Event;
use longhaul_limiter::{Controller, Role};
use longhaul_origin::{Answer, Behaviour, Fault, Reply, RetryAfter, Target};
use longhaul_pipeline::{FailureClass, Grant, HostReport, Outcome, Pipeline as _, Reason, RunResult};
use serde_json::json;
use support::{
    Bench, Desk, checkpoint, done, failed, job, moved, next_try, pdf, reports, run, skipped, soon,
};

const FILE: &str = "/robots.txt";
const MINUTE: Duration = Duration::from_mins(1);

/// A host with this robots.txt.
async fn saying(rules: &str) -> Bench {
    answering(Answer::fixed("text/plain", rules)).await
}

/// A host that answers this where its robots.txt should be.
async fn answering(answer: Answer) -> Bench {
    Bench::behaving(Behaviour::answering(pdf(5000)).with_route(FILE, answer)).await.with_robots()
}

fn asked(bench: &Bench, host: &str, path: &str) -> u64 {
    bench.origin.path_counts(host, path).asked
}

fn detail(result: &RunResult) -> &str {
    match &result.outcome {
        Outcome::Skipped { detail, .. } | Outcome::Failed { detail, .. } => detail,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_disallowed_is_skipped_and_never_requested() {
    let bench = saying("User-agent: *\nDisallow: /\n\nUser-agent: longhaul\nDisallow: /private\n").await;
    let (pipeline, desk) = (bench.pipeline(), Desk::default());
    let result = run(&pipeline, &bench.job("/private/x.pdf"), &desk).await;
    assert_eq!(skipped(&result), Reason::Robots);
    assert_eq!(detail(&result), format!("{} disallows /private/x.pdf", bench.origin.url("a", FILE)));
    assert_eq!((asked(&bench, "a", "/private/x.pdf"), bench.origin.counts("a").requests), (0, 1));
    done(&run(&pipeline, &bench.job("/public/x.pdf"), &desk).await);
    assert_eq!((desk.roles(), reports(&result)), (vec![Role::Landing, Role::Artifact], vec!["served"]));
    let told = |event| match event {
        Event::Request { url, role, .. } => Some((url, role)),
        _ => None,
    };
    let told: Vec<_> = desk.recorder.events().into_iter().filter_map(told).collect();
    assert_eq!(
        told,
        [
            (bench.origin.url("a", FILE), Role::Landing),
            (bench.origin.url("a", "/public/x.pdf"), Role::Artifact)
        ]
    );
}

#[tokio::test]
async fn another_plan_is_followed_where_the_first_is_disallowed() {
    let bench = saying("User-agent: *\nDisallow: /x.pdf\n").await;
    let urls = [bench.origin.url("a", "/x.pdf"), bench.origin.url("b", "/x.pdf")];
    let record = json!({ "id": "x", "expect": "pdf", "pdf_urls": urls });
    let result = run(&bench.pipeline(), &job(&record), &Desk::default()).await;
    assert_eq!(done(&result).url, bench.origin.url("b", "/x.pdf"));
    assert_eq!(asked(&bench, "a", "/x.pdf"), 0);
}

#[tokio::test]
async fn nobody_is_asked_if_robots_are_ignored() {
    let mut bench = saying("User-agent: *\nDisallow: /\n").await;
    bench.options.robots = false;
    done(&run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await);
    assert_eq!(asked(&bench, "a", FILE), 0);
}

/// By this process from its memory, by another one from the queue.
#[tokio::test]
async fn a_file_is_believed_for_an_hour_by_everybody() {
    let bench = saying("User-agent: *\nDisallow: /private\n").await;
    let (one, other, desk) = (bench.pipeline(), bench.pipeline(), Desk::default());
    for pipeline in [&one, &one, &other, &other] {
        done(&run(pipeline, &bench.job("/x.pdf"), &desk).await);
        assert_eq!(skipped(&run(pipeline, &bench.job("/private"), &desk).await), Reason::Robots);
    }
    assert_eq!(asked(&bench, "a", FILE), 1);
    desk.clock.advance(MINUTE * 60);
    bench.origin.set_behaviour("a", Behaviour::answering(pdf(5000)));
    for pipeline in [&one, &other] {
        done(&run(pipeline, &bench.job("/private"), &desk).await);
    }
    assert_eq!(bench.origin.log("a").iter().filter(|arrival| arrival.target == FILE).count(), 2);
}

/// Whatever is known about the host, a hundred jobs do not ask it a hundred times.
#[tokio::test]
async fn a_hundred_jobs_at_once_ask_for_one_file() {
    let slow =
        Answer { latency_ms: 200, ..Answer::fixed("text/plain", "User-agent: *\nDisallow: /private\n") };
    let bench = answering(slow).await;
    let (pipeline, desk) = (bench.pipeline(), Desk::default());
    let record = |number: u32| {
        let path = format!("/{number}.pdf");
        let mut job = job(&json!({ "id": path, "expect": "pdf", "url": bench.origin.url("a", &path) }));
        job.number = i64::from(number);
        job
    };
    let jobs: Vec<_> = (0..100).map(record).collect();
    let results = soon(join_all(jobs.iter().map(|job| pipeline.run(job, &desk)))).await;
    for result in &results {
        done(result);
    }
    assert_eq!((asked(&bench, "a", FILE), bench.origin.counts("a").requests), (1, 101));
}

/// The one that fetches is cancelled: another takes over, and nobody waits for ever.
#[tokio::test]
async fn whoever_waits_goes_on_when_whoever_fetches_is_gone() {
    let first = Answer::fixed("text/plain", "").failing_first(Fault::NeverAnswer);
    let bench = answering(first).await;
    let (pipeline, desk, other) = (bench.pipeline(), Desk::default(), Desk::default());
    let (job, next) = (bench.job("/x.pdf"), bench.job("/y.pdf"));
    let fetching = pipeline.run(&job, &desk);
    let waiting = pipeline.run(&next, &other);
    let cancel = async {
        bench.origin.wait_for("a", |counts| counts.requests == 1).await;
        desk.cancelled.cancel();
    };
    let (cancelled, result, ()) = soon(async { tokio::join!(fetching, waiting, cancel) }).await;
    assert_eq!(failed(&cancelled).0, Reason::LeaseLost);
    done(&result);
}

#[tokio::test]
async fn where_there_is_no_file_everything_is_allowed() {
    for status in [400, 401, 403, 404, 410, 451] {
        let bench = answering(Answer::status(status)).await;
        let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await;
        done(&result);
        assert_eq!((reports(&result), asked(&bench, "a", FILE)), (vec!["served"; 2], 1), "{status}");
    }
    // A page that says "not here" with 200 has no rules.
    let bench = answering(Answer { reply: Reply::LoginPage, ..Answer::default() }).await;
    done(&run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await);
}

/// While the file cannot be read nothing is requested, nobody is charged, and the host is left alone for longer and longer;
/// but not for ever.
#[tokio::test]
async fn a_file_that_cannot_be_read_forbids_everything_until_it_can() {
    let bench = answering(Answer::status(503)).await;
    let (pipeline, desk) = (bench.pipeline(), Desk::default());
    for (failures, minutes) in [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16)] {
        let result = run(&pipeline, &bench.job("/x.pdf"), &desk).await;
        assert_eq!(failed(&result), (Reason::Robots, FailureClass::Throttled));
        assert!(detail(&result).contains("could not be read"), "{}", detail(&result));
        let closed = HostReport::Throttled {
            lane: bench.lane("a"),
            retry_after: Some(MINUTE * minutes),
            cause: format!("robots.txt: {} answered 503 Service Unavailable", bench.lane("a")),
        };
        assert_eq!(result.hosts, [closed]);
        assert_eq!(desk.held().last(), Some(&(bench.lane("a"), MINUTE * minutes)));
        // Others do not ask meanwhile, in this process or another.
        for pipeline in [&pipeline, &bench.pipeline()] {
            let again = run(pipeline, &bench.job("/y.pdf"), &desk).await;
            assert_eq!(failed(&again), (Reason::Robots, FailureClass::Throttled));
        }
        assert_eq!(bench.origin.counts("a").requests, failures);
        desk.clock.advance(MINUTE * minutes);
    }
    // Half an hour on end: now it is charged, and the host is not closed on its account.
    let result = run(&pipeline, &bench.job("/x.pdf"), &desk).await;
    assert_eq!((failed(&result), reports(&result)), ((Reason::HttpStatus, FailureClass::Transient), vec![]));
    assert_eq!(asked(&bench, "a", FILE), 6);
    let result = run(&pipeline, &bench.job("/y.pdf"), &desk).await;
    assert_eq!(
        (failed(&result), asked(&bench, "a", FILE)),
        ((Reason::HttpStatus, FailureClass::Transient), 6)
    );
    // Once it can be read all is well, and a new failure is the first again.
    bench.origin.set_behaviour("a", Behaviour::answering(pdf(5000)));
    desk.clock.advance(MINUTE * 60);
    done(&run(&pipeline, &bench.job("/x.pdf"), &desk).await);
    let broken = Behaviour::answering(pdf(5000)).with_route(FILE, Answer::status(500));
    bench.origin.set_behaviour("a", broken);
    desk.clock.advance(MINUTE * 60);
    run(&pipeline, &bench.job("/x.pdf"), &desk).await;
    assert_eq!(desk.held().last(), Some(&(bench.lane("a"), MINUTE)));
    assert_eq!(asked(&bench, "a", "/y.pdf"), 0);
}

#[tokio::test]
async fn a_host_that_breaks_off_or_never_answers_cannot_be_asked() {
    let broken = [
        Fault::ResetBeforeHead,
        Fault::TruncateBody { at_percent: 50 },
        Fault::ResetInBody { at_percent: 50 },
    ];
    for fault in broken {
        let answer = Answer::fixed("text/plain", "# a longer file\n".repeat(10)).failing_first(fault.clone());
        let bench = answering(answer).await;
        let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await;
        assert_eq!(failed(&result), (Reason::Robots, FailureClass::Throttled), "{fault:?}");
    }
    let bench = answering(Answer::default().failing_first(Fault::NeverAnswer)).await;
    let (pipeline, job, desk) = (bench.pipeline(), bench.job("/x.pdf"), Desk::default());
    let time = async {
        bench.origin.wait_for("a", |counts| counts.requests == 1).await;
        desk.clock.advance(Duration::from_secs(5));
    };
    let (result, ()) = soon(async { tokio::join!(pipeline.run(&job, &desk), time) }).await;
    assert_eq!(failed(&result), (Reason::Robots, FailureClass::Throttled));
    assert!(detail(&result).ends_with("did not give it within 5 s"), "{}", detail(&result));
}

#[tokio::test]
async fn other_plans_are_followed_while_a_file_cannot_be_read() {
    let bench = answering(Answer::status(500)).await;
    let urls = [bench.origin.url("a", "/x.pdf"), bench.origin.url("b", "/x.pdf")];
    let record = json!({ "id": "x", "expect": "pdf", "pdf_urls": urls });
    let result = run(&bench.pipeline(), &job(&record), &Desk::default()).await;
    assert_eq!(done(&result).url, bench.origin.url("b", "/x.pdf"));
    assert_eq!(reports(&result), ["throttled", "served", "served"], "the first host is closed all the same");
}

/// Read as it comes, such a file would have no rules and allow everything.
#[tokio::test]
async fn a_file_that_is_packed_and_cannot_be_unpacked_allows_nothing() {
    for coding in ["gzip", "br"] {
        let packed = Answer::fixed("text/plain", "not packed after all");
        let bench = answering(Answer { content_encoding: Some(coding.into()), ..packed }).await;
        let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await;
        assert_eq!(failed(&result), (Reason::Robots, FailureClass::Throttled));
        assert!(detail(&result).contains(coding), "{}", detail(&result));
        assert_eq!(asked(&bench, "a", "/x.pdf"), 0);
    }
}

#[tokio::test]
async fn a_host_that_asks_for_quiet_there_gets_it() {
    let fault = Fault::Status { status: 429, retry_after: Some(RetryAfter::seconds(40)) };
    let bench = answering(Answer::default().failing_first(fault)).await;
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    assert_eq!(failed(&result), (Reason::RetryAfter, FailureClass::Throttled));
    assert_eq!(desk.held(), [(bench.lane("a"), Duration::from_secs(40))]);
    assert_eq!((reports(&result), bench.origin.counts("a").requests), (vec!["throttled"], 1));
}

#[tokio::test]
async fn five_redirects_are_followed_to_the_file_and_no_more() {
    let to_b = |hops| {
        let to = Target::Host { name: "b".to_owned(), path: "/rules".to_owned() };
        Answer { reply: Reply::Redirect { to, status: 302, hops, keep_rest: false }, ..Answer::default() }
    };
    let rules = Behaviour::default()
        .with_route("/rules", Answer::fixed("text/plain", "User-agent: *\nDisallow: /\n"));
    let bench = answering(to_b(4)).await;
    bench.origin.set_behaviour("b", rules.clone());
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    assert_eq!(skipped(&result), Reason::Robots);
    let (a, b) = (bench.lane("a"), bench.lane("b"));
    assert_eq!(desk.asked(), [vec![a; 5], vec![b]].concat(), "each hop is admitted under its own host");

    let bench = answering(to_b(5)).await;
    bench.origin.set_behaviour("b", rules);
    done(&run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await);
    assert_eq!(asked(&bench, "b", "/rules"), 0);
    for nowhere in ["http://127.0.0.1:9/robots.txt", "file:///etc/passwd"] {
        let bench = answering(Answer::redirect(Target::Url(nowhere.to_owned()))).await;
        done(&run(&bench.pipeline(), &bench.job("/x.pdf"), &Desk::default()).await);
    }
}

#[tokio::test]
async fn each_hop_of_a_redirect_is_allowed_by_its_own_host() {
    let to_b = Target::Host { name: "b".to_owned(), path: "/private/y.pdf".to_owned() };
    let behaviour = Behaviour::answering(Answer::redirect(to_b)).with_route(FILE, Answer::status(404));
    let bench = Bench::behaving(behaviour).await.with_robots();
    let rules = Answer::fixed("text/plain", "User-agent: *\nDisallow: /private\n");
    bench.origin.set_behaviour("b", Behaviour::default().with_route(FILE, rules));
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    assert_eq!(skipped(&result), Reason::Robots);
    assert_eq!((asked(&bench, "a", "/x.pdf"), asked(&bench, "b", "/private/y.pdf")), (1, 0));
    assert_eq!(desk.roles(), [Role::Landing, Role::Artifact, Role::Landing]);
}

/// The job waits in the queue, in the lane and with the role of the request that it could not make.
#[tokio::test]
async fn a_job_moves_if_the_file_cannot_be_asked_for_now() {
    let to_b = Target::Host { name: "b".to_owned(), path: "/rules".to_owned() };
    let bench = answering(Answer::redirect(to_b)).await;
    let rules = Answer::fixed("text/plain", "User-agent: *\nDisallow: /y.pdf\n");
    bench.origin.set_behaviour("b", Behaviour::default().with_route("/rules", rules));
    let (pipeline, desk, job) = (bench.pipeline(), Desk::default(), bench.job("/x.pdf"));
    let after = Duration::from_secs(3);
    desk.grant(&bench.lane("a"), [Grant::Move { after }]);
    desk.grant(&bench.lane("b"), [Grant::Move { after }]);
    let first = run(&pipeline, &job, &desk).await;
    let to = moved(&first);
    assert_eq!((&to.lane, to.role, to.after), (&bench.lane("a"), Role::Landing, after));
    assert_eq!(bench.origin.counts("a").requests, 0);
    let job = next_try(&job, checkpoint(&first));
    let second = run(&pipeline, &job, &desk).await;
    assert_eq!((&moved(&second).lane, moved(&second).role), (&bench.lane("b"), Role::Landing));
    // Another process goes on where the redirect led.
    let job = next_try(&job, checkpoint(&second));
    done(&run(&bench.pipeline(), &job, &desk).await);
    assert_eq!((asked(&bench, "a", FILE), asked(&bench, "b", "/rules")), (1, 1));
}

/// A name that nobody has is the job's own failure, as without robots.txt: nobody is there who could forbid anything.
#[tokio::test]
async fn a_host_that_does_not_exist_is_not_waited_for() {
    let bench = saying("").await;
    let record = json!({ "id": "x", "url": "http://nobody.invalid/x.pdf" });
    let result = run(&bench.pipeline(), &job(&record), &Desk::default()).await;
    let (reason, class) = failed(&result);
    // A machine without any name server says that it has no network.
    assert!(
        matches!(
            (reason, class),
            (Reason::DnsError, FailureClass::Transient) | (Reason::NoNetwork, FailureClass::LocalFault)
        ),
        "{reason} {class:?}"
    );
}

#[tokio::test]
async fn a_long_file_is_read_as_far_as_it_counts() {
    let file = format!("User-agent: *\nDisallow: /x.pdf\n{}Disallow: /y.pdf\n", "# filler\n".repeat(100_000));
    let bench = saying(&file).await;
    let (pipeline, desk) = (bench.pipeline(), Desk::default());
    assert_eq!(skipped(&run(&pipeline, &bench.job("/x.pdf"), &desk).await), Reason::Robots);
    done(&run(&pipeline, &bench.job("/y.pdf"), &desk).await);
}

/// From the file's own request on.
#[tokio::test]
async fn a_crawl_delay_is_kept_from_the_first_request_on() {
    let bench = saying("User-agent: *\nCrawl-delay: 7\n").await;
    let desk = Desk::default();
    let result = run(&bench.pipeline(), &bench.job("/x.pdf"), &desk).await;
    let (lane, every) = (bench.lane("a"), Duration::from_secs(7));
    assert_eq!(desk.held(), [(lane.clone(), every)]);
    let (controller, valid_for) = (Controller::CrawlDelay, MINUTE * 120);
    assert!(
        result.hosts.contains(&HostReport::Paced { lane, controller, every, valid_for }),
        "{:?}",
        result.hosts
    );
}
