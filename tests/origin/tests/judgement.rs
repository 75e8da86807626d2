//! What the origin says about its clients: counts, peaks, closings, and how exact they are.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::disallowed_methods, reason = "real time is what the origin is judged by")]

mod client;

use std::time::{Duration, Instant};

use client::{Connection, get, soon};
use longhaul_origin::{
    Answer, Behaviour, ConcurrencyLimit, Fault, FaultRule, HostConfig, Origin, OriginConfig, RateLimit,
    Report, RetryAfter, Shape,
};
use tokio::task::JoinSet;

async fn origin(behaviour: Behaviour) -> Origin {
    Origin::start(OriginConfig::new([HostConfig::new("a").behaving(behaviour)])).await.unwrap()
}

/// Silence: what is asked stays in flight until its connection is dropped.
fn silent() -> Answer {
    Answer::default().with_fault(FaultRule::always(Fault::NeverAnswer))
}

async fn hold(origin: &Origin, path: &str) -> Connection {
    let mut connection = Connection::open(origin, "a").await;
    connection.send("GET", path, &[]).await;
    connection
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_at_once_are_counted_one_by_one() {
    let origin = origin(Behaviour::answering(Answer::document(Shape::pdf(20_000)))).await;
    let mut clients = JoinSet::new();
    for client in 0..20 {
        let mut connection = Connection::open(&origin, "a").await;
        clients.spawn(async move {
            for n in 0..25 {
                let path = format!("/{client}/{}", n % 20);
                assert_eq!(connection.get(&path, &[]).await.body.len(), 20_000);
            }
        });
    }
    clients.join_all().await;
    // No waiting here: whoever has read an answer finds it counted.
    let report = origin.host_report("a");
    let counts = report.counts;
    assert_eq!((counts.requests, counts.in_flight, counts.completed_bodies), (500, 0, 500));
    assert_eq!((counts.connections, counts.aborted, counts.impolite), (20, 0, 0));
    assert_eq!(counts.body_bytes_sent, 500 * 20_000);
    assert!(counts.bytes_sent > counts.body_bytes_sent);
    assert_eq!(report.statuses, [(200, 500)].into());
    assert_eq!(report.distinct_paths, 400);
    assert_eq!(report.repeated.len(), 100, "paths 0 to 4 of each client");
    assert!(report.repeated.values().all(|times| *times == 2));
    assert!((1..=20).contains(&counts.peak_in_flight));
}

#[tokio::test]
async fn the_peak_is_the_number_that_was_held_at_once() {
    let origin = origin(Behaviour::default().with_route("/hold", silent())).await;
    let mut held = Vec::new();
    for n in 0..7 {
        held.push(hold(&origin, &format!("/hold/{n}")).await);
    }
    soon(origin.wait_for("a", |counts| counts.in_flight == 7)).await;
    drop(held);
    soon(origin.wait_for("a", |counts| counts.in_flight == 0)).await;
    get(&origin, "a", "/x").await;
    let counts = origin.counts("a");
    assert_eq!((counts.peak_in_flight, counts.aborted, counts.peak_arrivals_per_second), (7, 7, 8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_takes_turns_is_never_over_the_concurrency() {
    // Each turn is on a connection of its own: an answer that still counted after it was read, or a connection
    // whose end was seen late, would accuse this client.
    let behaviour = Behaviour::answering(Answer::document(Shape::pdf(30_000))).tolerating_at_once(1);
    let origin = origin(behaviour.with_route("/hold", silent())).await;
    for n in 0..150 {
        assert_eq!(get(&origin, "a", &format!("/{n}")).await.status, 200);
        if n % 3 == 0 {
            let held = hold(&origin, "/hold").await;
            soon(origin.wait_for("a", |counts| counts.in_flight == 1)).await;
            drop(held);
        }
    }
    let counts = origin.counts("a");
    assert_eq!((counts.requests, counts.peak_in_flight, counts.impolite), (200, 1, 0));
}

#[tokio::test]
async fn who_comes_beyond_the_concurrency_is_refused_and_impolite() {
    let origin = origin(Behaviour::answering(silent()).tolerating_at_once(2)).await;
    let held = [hold(&origin, "/1").await, hold(&origin, "/2").await];
    soon(origin.wait_for("a", |counts| counts.in_flight == 2)).await;
    let refused = get(&origin, "a", "/3").await;
    assert_eq!((refused.status, refused.header("retry-after")), (429, None));
    drop(held);
    let counts = origin.counts("a");
    assert_eq!((counts.refused, counts.over_concurrency, counts.impolite), (1, 1, 1));
    assert_eq!(counts.peak_in_flight, 3);
    assert_eq!(origin.path_counts("a", "/3").asked, 0, "a refused request is no ask");
}

#[tokio::test]
async fn a_closing_forgives_at_first_and_not_later() {
    let rate = RateLimit { retry_after: Some(RetryAfter::seconds(60)), ..RateLimit::default() };
    let behaviour = Behaviour { rate: Some(rate), ..Behaviour::default() };
    let forgiving = HostConfig { closing_grace_ms: 60_000, ..HostConfig::new("forgiving") };
    let strict = HostConfig { closing_grace_ms: 0, ..HostConfig::new("strict") };
    let hosts = [forgiving, strict].map(|host| host.behaving(behaviour.clone()));
    let origin = Origin::start(OriginConfig::new(hosts)).await.unwrap();
    for host in ["forgiving", "strict"] {
        let mut connection = Connection::open(&origin, host).await;
        assert_eq!(connection.get("/1", &[]).await.status, 200);
        for path in ["/2", "/3", "/4"] {
            let refused = connection.get(path, &[]).await;
            assert_eq!((refused.status, refused.header("retry-after")), (429, Some("60")));
        }
    }
    let forgiven = origin.host_report("forgiving");
    assert_eq!((forgiven.counts.refused, forgiven.counts.refused_in_closing), (1, 2));
    assert_eq!((forgiven.counts.too_early, forgiven.counts.impolite), (0, 0));
    assert_eq!((forgiven.closings.len(), forgiven.closings[0].refused_in_closing), (1, 2));
    assert_eq!(forgiven.closings[0].lasts_ms, 60_000);
    let judged = origin.host_report("strict");
    assert_eq!((judged.counts.refused, judged.counts.refused_in_closing), (1, 0));
    assert_eq!((judged.counts.too_early, judged.counts.impolite), (2, 2));
    assert_eq!(judged.statuses, [(200, 1), (429, 3)].into());
}

#[tokio::test]
async fn a_host_is_open_again_when_it_said_so() {
    let concurrency = ConcurrencyLimit { most: 1, status: 503, retry_after: Some(RetryAfter::date(1)) };
    let behaviour = Behaviour { concurrency: Some(concurrency), ..Behaviour::default() };
    let origin = origin(behaviour.with_route("/hold", silent())).await;
    let held = hold(&origin, "/hold").await;
    soon(origin.wait_for("a", |counts| counts.in_flight == 1)).await;
    let refused = get(&origin, "a", "/1").await;
    assert_eq!(refused.status, 503);
    assert!(refused.header("retry-after").unwrap().ends_with(" GMT"));
    drop(held);
    soon(origin.wait_for("a", |counts| counts.in_flight == 0)).await;
    let closing = origin.host_report("a").closings[0];
    assert!((1000..=2000).contains(&closing.lasts_ms), "{closing:?}");
    // Nothing to await but the time itself: the host says when.
    // tidy:allow-sleep: the host announced a wall-clock second; this waits for exactly that
    tokio::time::sleep(Duration::from_millis(closing.lasts_ms)).await;
    assert_eq!(get(&origin, "a", "/1").await.status, 200);
    assert_eq!(origin.counts("a").too_early, 0);
}

#[tokio::test]
async fn an_announcement_by_a_fault_closes_the_host_too() {
    let fault = Fault::Status { status: 503, retry_after: Some(RetryAfter::seconds(30)) };
    let origin = origin(Behaviour::answering(Answer::default().failing_first(fault))).await;
    let announced = get(&origin, "a", "/1").await;
    assert_eq!((announced.status, announced.header("retry-after")), (503, Some("30")));
    assert_eq!(get(&origin, "a", "/2").await.status, 503);
    let counts = origin.counts("a");
    assert_eq!((counts.faults, counts.refused, counts.refused_in_closing), (1, 0, 1));
}

#[tokio::test]
async fn a_paced_body_is_not_in_the_clients_hands_early() {
    let paced = Answer { bandwidth_bytes_per_second: Some(200_000), ..Answer::document(Shape::pdf(60_000)) };
    let origin = origin(Behaviour::answering(paced)).await;
    let start = Instant::now();
    assert_eq!(get(&origin, "a", "/x").await.body, origin.document("a", "/x").whole());
    assert!(start.elapsed() >= Duration::from_millis(270), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_reads_nothing_is_sent_little() {
    let gigantic = Answer::document(Shape::pdf(10_000_000_000));
    let small = Answer::document(Shape::pdf(1024));
    let origin = origin(Behaviour::answering(gigantic).with_route("/small", small)).await;
    let held = hold(&origin, "/huge").await;
    soon(origin.wait_for("a", |counts| counts.bytes_sent > 0)).await;
    // Each of these gives the gigantic answer a turn, so that it has sent all that it can.
    for _ in 0..200 {
        assert_eq!(get(&origin, "a", "/small").await.status, 200);
    }
    let filled = origin.counts("a");
    assert_eq!(filled.in_flight, 1);
    drop(held);
    let counts = soon(origin.wait_for("a", |counts| counts.in_flight == 0)).await;
    assert_eq!((counts.aborted, counts.completed_bodies), (1, 200));
    assert!((100_000..1_000_000).contains(&counts.bytes_sent), "{counts:?}");
    assert!(counts.body_bytes_sent < counts.bytes_sent + 50_000, "{counts:?}");
}

#[tokio::test]
async fn the_log_tells_when_what_was_asked_and_how_it_was_answered() {
    let origin = origin(Behaviour::default().with_route("/hold", silent())).await;
    get(&origin, "a", "/1?q").await;
    get(&origin, "a", "/robots.txt").await;
    let _held = hold(&origin, "/hold").await;
    soon(origin.wait_for("a", |counts| counts.requests == 3 && counts.in_flight == 1)).await;
    let log: Vec<_> = origin.log("a").into_iter().map(|arrival| (arrival.target, arrival.status)).collect();
    assert_eq!(log, [("/1?q".into(), Some(200)), ("/robots.txt".into(), Some(404)), ("/hold".into(), None)]);
    let arrivals = origin.arrivals("a");
    assert!(arrivals.len() == 3 && arrivals.is_sorted());
    origin.reset_counts();
    assert!(origin.log("a").is_empty());
    assert_eq!((origin.counts("a").requests, origin.counts("a").in_flight), (0, 1));
}

#[tokio::test]
async fn latency_is_kept_and_never_undercut() {
    let origin = origin(Behaviour::answering(Answer::after_ms(30))).await;
    let mut connection = Connection::open(&origin, "a").await;
    let mut least = Duration::MAX;
    for _ in 0..10 {
        let start = Instant::now();
        connection.get("/x", &[]).await;
        assert!(start.elapsed() >= Duration::from_millis(30));
        least = least.min(start.elapsed());
    }
    // Loose, since other work shares the machine; the example `measure` tells the precision.
    assert!(least < Duration::from_millis(60), "{least:?}");
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_does_not_stop_the_origin() {
    let origin = origin(Behaviour::answering(Answer::after_ms(5))).await;
    let start = Instant::now();
    assert_eq!(get(&origin, "a", "/x").await.status, 200);
    assert!(start.elapsed() >= Duration::from_millis(5));
}

#[tokio::test]
async fn another_process_can_read_steer_and_stop_it() {
    let origin = origin(Behaviour::default()).await;
    get(&origin, "a", "/x").await;
    let admin = origin.admin_url("");
    let mut connection = Connection::to(admin.trim_start_matches("http://")).await;
    let report: Report = serde_json::from_slice(&connection.get("/report", &[]).await.body).unwrap();
    assert_eq!(report.hosts["a"], origin.host_report("a"));
    assert_eq!((report.requests(), report.impolite()), (1, 0));
    let hosts = connection.get("/hosts", &[]).await;
    assert_eq!(hosts.text(), format!("{{\"a\":\"{}\"}}", origin.url("a", "")));

    let behaviour = serde_json::to_string(&Behaviour::answering(Answer::status(410))).unwrap();
    connection.post("/behaviour/a", &behaviour).await;
    assert_eq!(connection.answer(true).await.status, 200);
    assert_eq!(get(&origin, "a", "/x").await.status, 410);

    connection.send("POST", "/reset", &[]).await;
    assert_eq!(connection.answer(true).await.status, 200);
    assert_eq!(origin.counts("a").requests, 0);
    connection.send("POST", "/shutdown", &[]).await;
    assert_eq!(connection.answer(true).await.status, 200);
    soon(origin.stopped()).await;
}

#[tokio::test]
async fn shutdown_frees_the_addresses_and_two_origins_share_them_by_port() {
    let first = origin(Behaviour::default()).await;
    let second = origin(Behaviour::default()).await;
    assert_ne!(first.port(), second.port());
    assert_eq!(first.address("a").ip(), second.address("a").ip());
    let address = first.address("a");
    soon(first.shutdown()).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let taken = OriginConfig { port: Some(second.port()), ..OriginConfig::new([HostConfig::new("b")]) };
    assert_eq!(Origin::start(taken).await.unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
    let twice = OriginConfig::new([HostConfig::new("b"), HostConfig::new("b")]);
    assert!(Origin::start(twice).await.is_err());
}
