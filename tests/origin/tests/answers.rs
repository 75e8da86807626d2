//! What a client gets: documents, ranges, versions, lies and faults.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod client;

use client::{Answered, Connection, End, get, soon};
use longhaul_origin::{
    Answer, Behaviour, Fault, FaultRule, Framing, HostConfig, Kind, Origin, OriginConfig, Ranges, Reply,
    Shape, Target, Validators,
};

async fn origin(behaviour: Behaviour) -> Origin {
    let hosts = [HostConfig::new("a").seeded(7).behaving(behaviour), HostConfig::new("b")];
    Origin::start(OriginConfig::new(hosts)).await.unwrap()
}

fn assert_whole(origin: &Origin, path: &str, answered: &Answered) {
    assert_eq!((answered.status, answered.end), (200, End::Complete));
    assert_eq!(answered.body, origin.document("a", path).whole());
}

#[tokio::test]
async fn a_document_comes_whole_and_the_connection_is_kept() {
    let origin = origin(Behaviour::default()).await;
    let mut connection = Connection::open(&origin, "a").await;
    for path in ["/1.pdf", "/2.pdf", "/1.pdf?again"] {
        let answered = connection.get(path, &[]).await;
        assert_whole(&origin, path.trim_end_matches("?again"), &answered);
        assert_eq!(answered.header("content-type"), Some("application/pdf"));
        assert!(answered.body.starts_with(b"%PDF-1.7\n") && answered.body.ends_with(b"%%EOF\n"));
    }
    let head = connection.head("/1.pdf").await;
    let length = origin.document("a", "/1.pdf").len().to_string();
    assert_eq!(head.header("content-length"), Some(length.as_str()));
    assert_eq!(connection.get("/robots.txt", &[]).await.status, 404);
    let counts = origin.counts("a");
    assert_eq!((counts.requests, counts.connections, counts.completed_bodies), (5, 1, 3));
}

#[tokio::test]
async fn each_host_has_its_own_address_and_bodies() {
    let origin = origin(Behaviour::default()).await;
    assert_ne!(origin.address("a").ip(), origin.address("b").ip());
    assert_ne!(get(&origin, "a", "/x").await.body, get(&origin, "b", "/x").await.body);
}

#[tokio::test]
async fn hosts_on_one_socket_are_told_apart_and_say_when_artifacts_were_asked_for() {
    let hosts = ["a", "b"].map(HostConfig::new);
    let origin = Origin::start(OriginConfig { one_socket: true, ..OriginConfig::new(hosts) }).await.unwrap();
    assert_eq!(get(&origin, "a", "/x").await.body, origin.document("a", "/x").whole());
    assert_eq!(get(&origin, "b", "/x").await.body, origin.document("b", "/x").whole());
    assert_eq!(get(&origin, "a", "/robots.txt").await.status, 404);
    let base = origin.admin_url("");
    let mut admin = Connection::to(base.trim_start_matches("http://")).await;
    let arrivals = admin.get("/arrivals", &[]).await;
    let at = |host: &str| origin.arrivals(host)[0].as_micros();
    assert_eq!(arrivals.text(), format!("{{\"a\":[{}],\"b\":[{}]}}", at("a"), at("b")));
    assert_eq!(admin.get("/requests", &[]).await.text(), "3");
}

#[tokio::test]
async fn a_range_is_a_slice_of_the_whole_while_the_version_is_the_same() {
    let origin = origin(Behaviour::default()).await;
    let document = origin.document("a", "/r");
    let (whole, etag, length) = (document.whole(), document.etag(), document.len());
    let mut connection = Connection::open(&origin, "a").await;

    let part = connection.get("/r", &[("Range", "bytes=5000-")]).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole[5000..]));
    let says = format!("bytes 5000-{}/{length}", length - 1);
    assert_eq!(part.header("content-range"), Some(says.as_str()));
    assert_eq!(part.header("etag"), Some(etag.as_str()));

    let date = part.header("last-modified").unwrap().to_owned();
    for same in [etag.as_str(), date.as_str()] {
        let part = connection.get("/r", &[("Range", "bytes=10-19"), ("If-Range", same)]).await;
        assert_eq!((part.status, &part.body[..]), (206, &whole[10..20]));
    }
    let other = connection.get("/r", &[("Range", "bytes=10-19"), ("If-Range", "\"other\"")]).await;
    assert_whole(&origin, "/r", &other);
    let beyond = connection.get("/r", &[("Range", "bytes=99999999-")]).await;
    assert_eq!(beyond.status, 416);
    assert_eq!(beyond.header("content-range"), Some(format!("bytes */{length}").as_str()));

    origin.set_behaviour("a", Behaviour::answering(Answer { revision: 1, ..Answer::default() }));
    let changed = connection.get("/r", &[("Range", "bytes=10-19"), ("If-Range", &etag)]).await;
    assert_whole(&origin, "/r", &changed);
    assert_ne!(changed.body, whole);
}

#[tokio::test]
async fn a_known_version_is_not_sent_again() {
    let origin = origin(Behaviour::default()).await;
    let mut connection = Connection::open(&origin, "a").await;
    let first = connection.get("/c", &[]).await;
    let (etag, date) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    assert_eq!(connection.get("/c", &[("If-None-Match", etag)]).await.status, 304);
    assert_eq!(connection.get("/c", &[("If-None-Match", "\"x\"")]).await.status, 200);
    assert_eq!(connection.get("/c", &[("If-Modified-Since", date)]).await.status, 304);
    let counts = origin.counts("a");
    assert_eq!((counts.in_flight, counts.completed_bodies, counts.connections), (0, 2, 1));
}

#[tokio::test]
async fn validators_are_told_as_configured() {
    let told = |validators| Answer { validators, ..Answer::default() };
    let behaviour = Behaviour::default()
        .with_route("/weak", told(Validators::Weak))
        .with_route("/date", told(Validators::Date))
        .with_route("/absent", told(Validators::Absent));
    let origin = origin(behaviour).await;
    let weak = get(&origin, "a", "/weak").await;
    assert!(weak.header("etag").unwrap().starts_with("W/\""));
    let mut connection = Connection::open(&origin, "a").await;
    let headers = [("Range", "bytes=1-2"), ("If-Range", weak.header("etag").unwrap())];
    assert_eq!(connection.get("/weak", &headers).await.status, 200, "a weak tag proves nothing about bytes");
    let date = get(&origin, "a", "/date").await;
    assert!(date.header("etag").is_none() && date.header("last-modified").is_some());
    let absent = get(&origin, "a", "/absent").await;
    assert!(absent.header("etag").is_none() && absent.header("last-modified").is_none());
}

#[tokio::test]
async fn broken_ranges_are_broken_in_their_way() {
    let with = |ranges| Answer { ranges, ..Answer::document(Shape::pdf(2001)) };
    let behaviour = Behaviour::default()
        .with_route("/unsupported", with(Ranges::Unsupported))
        .with_route("/ignored", with(Ranges::Ignored))
        .with_route("/wrong", with(Ranges::WrongContentRange))
        .with_route("/unsolicited", with(Ranges::Unsolicited));
    let origin = origin(behaviour).await;
    let mut connection = Connection::open(&origin, "a").await;
    let range = [("Range", "bytes=1000-1099")];

    let unsupported = connection.get("/unsupported", &range).await;
    assert_whole(&origin, "/unsupported", &unsupported);
    assert_eq!(unsupported.header("accept-ranges"), None);
    let ignored = connection.get("/ignored", &range).await;
    assert_whole(&origin, "/ignored", &ignored);
    assert_eq!(ignored.header("accept-ranges"), Some("bytes"));
    let wrong = connection.get("/wrong", &range).await;
    assert_eq!((wrong.status, wrong.header("content-range")), (206, Some("bytes 0-99/2001")));
    assert_eq!(wrong.body, origin.document("a", "/wrong").slice(0..100));
    let unsolicited = connection.get("/unsolicited", &[]).await;
    assert_eq!((unsolicited.status, unsolicited.header("content-range")), (206, Some("bytes 0-1000/2001")));
    assert_eq!(
        connection.get("/unsolicited", &range).await.header("content-range"),
        Some("bytes 1000-1099/2001")
    );
}

#[tokio::test]
async fn lengths_are_absent_or_wrong_as_told() {
    let with = |framing| Answer { framing, ..Answer::document(Shape::pdf(20_000)) };
    let behaviour = Behaviour::default()
        .with_route("/chunked", with(Framing::Chunked))
        .with_route("/long", with(Framing::WrongLength { by: 500 }))
        .with_route("/short", with(Framing::WrongLength { by: -500 }));
    let origin = origin(behaviour).await;
    let mut connection = Connection::open(&origin, "a").await;
    let chunked = connection.get("/chunked", &[]).await;
    assert_eq!(chunked.header("content-length"), None);
    assert_whole(&origin, "/chunked", &chunked);

    let short = connection.get("/short", &[]).await;
    assert_eq!((short.body.len(), short.end), (19_500, End::Complete));
    assert!(!short.body.ends_with(b"%%EOF\n"));

    let long = connection.get("/long", &[]).await;
    assert_eq!((long.header("content-length"), long.body.len()), (Some("20500"), 20_000));
    assert_eq!(long.end, End::Closed);
    soon(origin.wait_for("a", |counts| counts.broken_off == 1)).await;
}

#[tokio::test]
async fn faults_break_off_where_they_should() {
    let failing = |fault| Answer::document(Shape::pdf(100_000)).failing_first(fault);
    let behaviour = Behaviour::default()
        .with_route("/truncated", failing(Fault::TruncateBody { at_percent: 50 }))
        .with_route("/reset", failing(Fault::ResetInBody { at_percent: 25 }))
        .with_route("/head", failing(Fault::ResetBeforeHead))
        .with_route("/stalled", failing(Fault::StallInBody { at_percent: 10 }))
        .with_route("/silent", failing(Fault::NeverAnswer))
        .with_route("/500", failing(Fault::Status { status: 500, retry_after: None }));
    let origin = origin(behaviour).await;

    let truncated = get(&origin, "a", "/truncated").await;
    assert_eq!((truncated.status, truncated.end), (200, End::Closed));
    assert_eq!(truncated.header("content-length"), Some("100000"));
    assert_eq!(truncated.body, origin.document("a", "/truncated").slice(0..50_000));

    let reset = get(&origin, "a", "/reset").await;
    assert_eq!((reset.status, reset.end), (200, End::Reset));
    assert!(reset.body.len() <= 25_000, "a reset may overtake what was sent before it");

    let head = get(&origin, "a", "/head").await;
    assert_eq!((head.status, head.end), (0, End::Reset));
    assert_eq!(get(&origin, "a", "/500").await.status, 500);
    soon(origin.wait_for("a", |counts| counts.broken_off == 3 && counts.in_flight == 0)).await;

    let mut stalled = Connection::open(&origin, "a").await;
    stalled.send("GET", "/stalled", &[]).await;
    soon(origin.wait_for("a", |counts| counts.body_bytes_sent >= 85_000)).await;
    let mut silent = Connection::open(&origin, "a").await;
    silent.send("GET", "/silent", &[]).await;
    soon(origin.wait_for("a", |counts| counts.in_flight == 2 && counts.faults == 6)).await;
    drop((stalled, silent));
    let counts = soon(origin.wait_for("a", |counts| counts.in_flight == 0)).await;
    assert_eq!(counts.aborted, 2);

    for path in ["/truncated", "/reset", "/head", "/stalled", "/silent", "/500"] {
        assert_whole(&origin, path, &get(&origin, "a", path).await);
    }
    assert_eq!(origin.path_counts("a", "/truncated").unfinished, 1);
    assert_eq!(origin.path_counts("a", "/truncated").full, 1);
}

#[tokio::test]
async fn a_truncated_chunked_body_has_no_last_chunk() {
    let answer = Answer { framing: Framing::Chunked, ..Answer::document(Shape::pdf(10_000)) };
    let fault = FaultRule::always(Fault::TruncateBody { at_percent: 30 });
    let origin = origin(Behaviour::answering(answer.with_fault(fault))).await;
    let answered = get(&origin, "a", "/x").await;
    assert_eq!((answered.body.len(), answered.end), (3000, End::Closed));
}

#[tokio::test]
async fn redirects_lead_where_they_should() {
    let to = |to, hops, keep_rest| Answer {
        reply: Reply::Redirect { to, status: 301, hops, keep_rest },
        ..Answer::default()
    };
    let on_b = Target::Host { name: "b".into(), path: "/pdf/".into() };
    let behaviour = Behaviour::default()
        .with_route("/doi/", to(on_b, 0, true))
        .with_route("/loop", to(Target::Path("/loop".into()), 0, false))
        .with_route("/chain", to(Target::Path("/end".into()), 2, false))
        .with_route("/ftp", to(Target::Url("ftp://127.0.0.1/x".into()), 0, false));
    let origin = origin(behaviour).await;
    let mut connection = Connection::open(&origin, "a").await;
    let expected = [
        ("/doi/10.1/x", origin.url("b", "/pdf/10.1/x")),
        ("/loop", "/loop".into()),
        ("/chain", "/chain?hop=1".into()),
        ("/chain?hop=1", "/chain?hop=2".into()),
        ("/chain?hop=2", "/end".into()),
        ("/ftp", "ftp://127.0.0.1/x".into()),
    ];
    for (path, location) in expected {
        let answered = connection.get(path, &[]).await;
        assert_eq!((answered.status, answered.header("location")), (301, Some(location.as_str())));
    }
}

#[tokio::test]
async fn pages_and_headers_that_are_not_what_was_asked() {
    let lying = Answer {
        content_type: Some("text/plain".into()),
        content_encoding: Some("gzip".into()),
        headers: [("RateLimit".to_owned(), "limit=5".to_owned())].into(),
        ..Answer::default()
    };
    let behaviour = Behaviour::default()
        .with_route("/login", Answer { reply: Reply::LoginPage, ..Answer::default() })
        .with_route("/challenge", Answer { reply: Reply::ChallengePage { status: 403 }, ..Answer::default() })
        .with_route("/gone", Answer::status(410))
        .with_route("/secret", Answer::status(401))
        .with_route("/empty", Answer::status(204))
        .with_route("/robots.txt", Answer::fixed("text/plain", "Sitemap: {origin:b}/map"))
        .with_route("/broken", Answer { content_type: Some("a\nb".into()), ..Answer::default() })
        .with_route("/html", Answer::document(Shape { kind: Kind::Html, ..Shape::default() }))
        .with_route("/lying", lying);
    let origin = origin(behaviour).await;
    let mut connection = Connection::open(&origin, "a").await;
    let login = connection.get("/login", &[]).await;
    assert_eq!((login.status, login.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(login.text().contains("type=\"password\""));
    let challenge = connection.get("/challenge", &[]).await;
    assert_eq!((challenge.status, challenge.header("cf-mitigated")), (403, Some("challenge")));
    assert_eq!(connection.get("/gone", &[]).await.status, 410);
    assert!(connection.get("/secret", &[]).await.header("www-authenticate").is_some());
    assert_eq!(connection.get("/empty", &[]).await.status, 204);
    assert_eq!(
        connection.get("/robots.txt", &[]).await.text(),
        format!("Sitemap: {}", origin.url("b", "/map"))
    );
    let broken = connection.get("/broken", &[]).await;
    assert!(broken.status == 500 && broken.text().contains("no HTTP"), "{broken:?}");
    assert!(connection.get("/html", &[]).await.text().starts_with("<!doctype html>"));
    let lying = connection.get("/lying", &[]).await;
    assert_whole(&origin, "/lying", &lying);
    assert_eq!(lying.header("content-type"), Some("text/plain"));
    assert_eq!(lying.header("content-encoding"), Some("gzip"));
    assert_eq!(lying.header("ratelimit"), Some("limit=5"));
    assert_eq!(origin.counts("a").in_flight, 0);
    assert_eq!(origin.counts("a").connections, 1);
}
