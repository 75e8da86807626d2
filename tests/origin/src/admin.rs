//! The origin's own address, 127.0.1.254: lets another process read the counts, change a behaviour and stop the
//! origin. What is asked there is counted nowhere.
//!
//! `GET /report`, `GET /hosts`, `GET /requests` (how many arrived in all), `GET /arrivals` (when those for anything but
//! robots.txt arrived, by host), `POST /reset`, `POST /behaviour/NAME` (a behaviour as JSON), `POST /shutdown`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::header;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};

use crate::behaviour::Behaviour;
use crate::origin::Inside;
use crate::serve;
use crate::timer::Timer;

/// The most that a behaviour may take as JSON.
const BEHAVIOUR_BYTES: usize = 1 << 20;

/// Serves the admin address for ever.
pub(crate) async fn serve(inside: Arc<Inside>, listener: TcpListener, timer: Timer) {
    serve::accept(listener, timer, |stream| serve::spawn(converse(Arc::clone(&inside), stream))).await;
}

/// Talks to one client until it leaves.
pub(crate) async fn converse(inside: Arc<Inside>, stream: TcpStream) {
    let stopping = AtomicBool::new(false);
    let service = service_fn(|request| {
        let (inside, stopping) = (&inside, &stopping);
        async move { Ok::<_, std::convert::Infallible>(respond(inside, stopping, request).await) }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    let _ended = connection.await;
    // Only now is the answer to the request for it surely sent.
    if stopping.load(Ordering::Relaxed) {
        inside.stop();
    }
}

async fn respond(
    inside: &Inside,
    stopping: &AtomicBool,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    match (request.method(), path.as_str()) {
        (&Method::GET, "/report") => json(&inside.report()),
        (&Method::GET, "/hosts") => {
            let bases: BTreeMap<&String, Option<String>> =
                inside.directory.addresses.keys().map(|name| (name, inside.directory.base(name))).collect();
            json(&bases)
        }
        (&Method::GET, "/requests") => json(&inside.requests()),
        (&Method::GET, "/arrivals") => json(&inside.artifact_arrivals()),
        (&Method::POST, "/reset") => {
            inside.reset_counts();
            json(&true)
        }
        (&Method::POST, "/shutdown") => {
            stopping.store(true, Ordering::Relaxed);
            let mut response = json(&true);
            response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
            response
        }
        (&Method::POST, path) => {
            match path.strip_prefix("/behaviour/").and_then(|name| inside.hosts.get(name)) {
                Some(host) => match behaviour(request).await {
                    Ok(behaviour) => {
                        host.set_behaviour(behaviour);
                        json(&true)
                    }
                    Err(why) => plain(StatusCode::BAD_REQUEST, why),
                },
                None => plain(StatusCode::NOT_FOUND, "no such host or command\n".to_owned()),
            }
        }
        _ => plain(StatusCode::NOT_FOUND, "no such page\n".to_owned()),
    }
}

async fn behaviour(request: Request<Incoming>) -> Result<Behaviour, String> {
    let body = Limited::new(request.into_body(), BEHAVIOUR_BYTES).collect().await;
    let body = body.map_err(|error| format!("{error}\n"))?.to_bytes();
    serde_json::from_slice(&body).map_err(|error| format!("not a behaviour: {error}\n"))
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec(value) {
        Ok(text) => {
            let mut response = Response::new(Full::from(text));
            let kind = header::HeaderValue::from_static("application/json");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        Err(error) => plain(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
    }
}

fn plain(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(text));
    *response.status_mut() = status;
    response
}
