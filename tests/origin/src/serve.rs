//! The connections of one host, and the way of a request through it: arrival, gate, latency, answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use crate::answer::{self, Action, Asked, Draft, Plan};
use crate::clock;
use crate::counts::Delivery;
use crate::exchange::{Cut, Link, Wire};
use crate::host::{Directory, Host};
use crate::payload::Payload;
use crate::policy::Verdict;
use crate::timer::Timer;

/// hyper's buffer for each direction of a connection. Small, for the sake of honest counts of bytes.
const BUFFER: usize = 16 * 1024;

/// What all connections of an origin share.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) directory: Arc<Directory>,
    pub(crate) timer: Timer,
}

/// Spawns on the origin's own runtime, which ends all its tasks when it is dropped.
#[allow(clippy::disallowed_methods, reason = "the runtime is the origin's own and bounds its tasks")]
pub(crate) fn spawn(task: impl Future<Output = ()> + Send + 'static) {
    tokio::spawn(task);
}

/// Accepts connections for ever.
pub(crate) async fn accept(listener: TcpListener, timer: Timer, mut take: impl FnMut(TcpStream)) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => take(stream),
            Err(_) => {
                // Out of file descriptors, most likely: connections end, and then there are some.
                let _stopped = timer.at(clock::now().instant + Duration::from_millis(10)).await;
            }
        }
    }
}

/// Serves one host for ever.
pub(crate) async fn serve(host: Arc<Host>, listener: TcpListener, around: Surroundings) {
    let timer = around.timer.clone();
    accept(listener, timer, |stream| spawn(converse(Arc::clone(&host), stream, around.clone()))).await;
}

/// Talks to one client until it leaves.
pub(crate) async fn converse(host: Arc<Host>, stream: TcpStream, around: Surroundings) {
    // Without it an answer in two writes waits for the client's delayed acknowledgement.
    let _only_slower = stream.set_nodelay(true);
    let link = Link::new(host);
    let wire = Wire::new(stream, Arc::clone(&link));
    let service = service_fn(move |request| {
        let (link, around) = (Arc::clone(&link), around.clone());
        async move { respond(&link, &around, &request).await }
    });
    let connection = http1::Builder::new().max_buf_size(BUFFER).serve_connection(TokioIo::new(wire), service);
    // How a connection ended is in the books; hyper's view of it adds nothing.
    let _ended = connection.await;
}

/// The connection ends without an answer.
#[derive(Debug)]
struct NoAnswer;

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the connection is reset as told")
    }
}

impl std::error::Error for NoAnswer {}

async fn respond(
    link: &Arc<Link>,
    around: &Surroundings,
    request: &Request<Incoming>,
) -> Result<Response<Payload>, NoAnswer> {
    let now = clock::now();
    let host = link.host();
    let behaviour = host.behaviour();
    let path = request.uri().path();
    let target = request.uri().path_and_query().map_or(path, |target| target.as_str());

    let (entry, crowded) = host.record(|tally| {
        let entry = tally.arrive(now.instant, target);
        let would_be = tally.counts.in_flight + 1;
        (entry, would_be > tally.counts.peak_in_flight || behaviour.is_exceeded_by(would_be))
    });
    if crowded {
        // The end of another connection may wait in the kernel, behind this request: hear of it before judging.
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
    }
    link.begin(path.to_owned());
    let (verdict, ask) = host.record(|tally| {
        let verdict = tally.enter(now, &behaviour);
        let ask = if verdict == Verdict::Open { tally.ask(path) } else { 0 };
        (verdict, ask)
    });
    let refusal = match verdict {
        Verdict::Open => None,
        Verdict::Refused(refusal) | Verdict::Closed { refusal, .. } => Some(refusal),
    };
    if let Some(refusal) = refusal {
        // At once, whatever the latency: a closing is known from the moment that it begins.
        let draft = answer::note(refusal.status, refusal.retry_after.as_deref());
        return Ok(send(link, around, entry, request.method(), draft));
    }

    let asked = Asked { method: request.method(), uri: request.uri(), headers: request.headers(), ask };
    let (answer, rest) = behaviour.answer_for(path);
    let planned = if path == "/robots.txt" && !behaviour.has_route(path) {
        answer::note(404, None).map(|draft| Plan {
            latency: Duration::from_millis(answer.latency_ms),
            action: Action::Send(draft),
            struck: false,
        })
    } else {
        answer::plan(host, &around.directory, answer, rest, &asked)
    };
    let plan = match planned {
        Ok(plan) => plan,
        Err(error) => return Ok(send(link, around, entry, request.method(), Err(error))),
    };
    if plan.struck {
        host.record(|tally| tally.counts.faults += 1);
    }
    if !plan.latency.is_zero() {
        let _stopped = around.timer.at(now.instant + plan.latency).await;
    }
    let draft = match plan.action {
        Action::Send(draft) => Ok(draft),
        Action::Announce { status, retry_after } => {
            let now = clock::now();
            let refusal = host.record(|tally| {
                let refusal = tally.gate.refuse(now, status, retry_after);
                if let Some(lasts) = refusal.closes_for {
                    tally.closed(now.instant, lasts);
                }
                refusal
            });
            answer::note(status, refusal.retry_after.as_deref())
        }
        Action::Reset => {
            link.cut(Cut::Reset);
            return Err(NoAnswer);
        }
        Action::Silence => std::future::pending().await,
    };
    Ok(send(link, around, entry, request.method(), draft))
}

/// Turns a draft into an answer and counts it as begun. A behaviour that cannot be put into headers is answered with
/// 500 and the reason.
fn send(
    link: &Arc<Link>,
    around: &Surroundings,
    entry: u64,
    method: &Method,
    draft: Result<Draft, hyper::http::Error>,
) -> Response<Payload> {
    let draft = draft.unwrap_or_else(|error| Draft::misconfigured(&error));
    let status = draft.head.status;
    link.host().record(|tally| tally.answer(entry, status.as_u16()));
    link.delivers(match status {
        _ if method == Method::HEAD => Delivery::Nothing,
        StatusCode::OK => Delivery::Full,
        StatusCode::PARTIAL_CONTENT => Delivery::Partial,
        _ => Delivery::Nothing,
    });
    let range = if method == Method::HEAD { 0..0 } else { draft.range };
    let mut payload = Payload::new(Arc::clone(link), draft.source, range, draft.then);
    if let Some(bytes_per_second) = draft.bytes_per_second {
        payload = payload.paced(&around.timer, bytes_per_second, clock::now().instant);
    }
    Response::from_parts(draft.head, payload)
}
