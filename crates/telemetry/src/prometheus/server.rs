//! A small HTTP server with three pages.

use std::convert::Infallible;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use std::{io, thread};

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::CONTENT_TYPE;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use longhaul_events::{Event, Observer};
use tokio::sync::{Semaphore, oneshot};
use tokio_util::task::TaskTracker;

use super::text::render;
use crate::metrics::Metrics;

/// So many connections at a time; whoever comes then waits until one ends.
const CONNECTIONS: usize = 16;
/// Whoever asks has so long to do it, so that nobody keeps a connection for nothing,
const ASK_TIME: Duration = Duration::from_secs(10);
/// and so long to ask and to take the answer.
const WHOLE_TIME: Duration = Duration::from_secs(20);

/// Whether the run takes work: not before it has joined its queue, and no more once it is being stopped.
#[derive(Debug, Default)]
pub struct Readiness(AtomicBool);

impl Readiness {
    /// The run takes work from now on, or no more.
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Release);
    }

    /// Whether it does.
    pub fn is_ready(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

impl Observer for Readiness {
    fn on_event(&self, event: &Event) {
        if matches!(event, Event::Stopping { .. }) {
            self.set(false);
        }
    }
}

/// Serves the registry until it is dropped, on a thread of its own: whoever asks much does not slow the work down.
#[derive(Debug)]
pub struct MetricsServer {
    address: SocketAddr,
    /// Dropped to end.
    _serving: oneshot::Sender<Infallible>,
}

impl MetricsServer {
    /// Listens from now on.
    ///
    /// # Errors
    /// If the address cannot be listened on (another program does), or the system has no thread to give.
    pub fn start(address: SocketAddr, metrics: Arc<Metrics>, readiness: Arc<Readiness>) -> io::Result<Self> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (serving, ended) = oneshot::channel();
        let pages = Pages { metrics, readiness };
        thread::Builder::new().name("metrics".to_owned()).spawn(move || {
            runtime.block_on(async move {
                tokio::select! {
                    biased;
                    _ = ended => {}
                    () = serve(listener, &pages) => {}
                }
            });
        })?;
        Ok(Self { address, _serving: serving })
    }

    /// Where it listens: the port is the system's choice if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

#[derive(Debug, Clone)]
struct Pages {
    metrics: Arc<Metrics>,
    readiness: Arc<Readiness>,
}

async fn serve(listener: TcpListener, pages: &Pages) {
    // It was made non-blocking, which is all that this asks for.
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else { return };
    let (room, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else {
            // Too many open files, for instance: at once it would fail again.
            tokio::time::sleep(Duration::from_millis(100)).await;
            continue;
        };
        let pages = pages.clone();
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let answer = pages.answer(&request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(ASK_TIME)
                .keep_alive(false)
                .serve_connection(TokioIo::new(stream), service);
            // Whoever leaves in the middle has asked for nothing more, and who does not read wants nothing.
            let _ = tokio::time::timeout(WHOLE_TIME, served).await;
            drop(place);
        });
    }
}

impl Pages {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let known = matches!(request.uri().path(), "/metrics" | "/healthz" | "/readyz");
        if known && !matches!(*request.method(), Method::GET | Method::HEAD) {
            return page(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD\n".to_owned());
        }
        match request.uri().path() {
            "/metrics" => page(StatusCode::OK, render(&self.metrics)),
            "/healthz" => page(StatusCode::OK, "ok\n".to_owned()),
            "/readyz" if self.readiness.is_ready() => page(StatusCode::OK, "ready\n".to_owned()),
            "/readyz" => page(StatusCode::SERVICE_UNAVAILABLE, "the run takes no work now\n".to_owned()),
            _ => page(StatusCode::NOT_FOUND, "see /metrics, /healthz and /readyz\n".to_owned()),
        }
    }
}

fn page(status: StatusCode, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    let kind = "text/plain; version=0.0.4; charset=utf-8";
    response.headers_mut().insert(CONTENT_TYPE, hyper::header::HeaderValue::from_static(kind));
    response
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn ask(address: SocketAddr, method: &str, path: &str) -> String {
        let mut stream = TcpStream::connect(address).unwrap();
        write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn start(readiness: &Arc<Readiness>) -> MetricsServer {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        MetricsServer::start(any, Arc::new(Metrics::default()), Arc::clone(readiness)).unwrap()
    }

    #[test]
    fn each_page_is_there_and_nothing_else() {
        let readiness = Arc::new(Readiness::default());
        let server = start(&readiness);
        let ask = |method, path| ask(server.address(), method, path);
        let metrics = ask("GET", "/metrics");
        assert!(metrics.starts_with("HTTP/1.1 200") && metrics.contains("version=0.0.4"), "{metrics}");
        assert!(metrics.contains("\ncontentdownload_jobs_inflight 0\n"), "{metrics}");
        assert!(ask("GET", "/healthz").starts_with("HTTP/1.1 200"));
        assert!(ask("GET", "/readyz").starts_with("HTTP/1.1 503"));
        readiness.set(true);
        assert!(ask("GET", "/readyz").starts_with("HTTP/1.1 200"));
        readiness.on_event(&Event::Stopping { running: 0, grace: Duration::ZERO });
        assert!(ask("GET", "/readyz").starts_with("HTTP/1.1 503"), "a run that is being stopped");
        assert!(ask("POST", "/metrics").starts_with("HTTP/1.1 405"));
        assert!(ask("GET", "/").starts_with("HTTP/1.1 404"));
    }

    #[test]
    fn an_address_that_is_taken_is_an_error() {
        let readiness = Arc::new(Readiness::default());
        let server = start(&readiness);
        let again = |address| MetricsServer::start(address, Arc::default(), Arc::clone(&readiness));
        assert_eq!(again(server.address()).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }

    /// Who sends many questions and reads no answer would else keep a connection for as long as they like.
    #[test]
    fn a_connection_is_for_one_question() {
        let server = start(&Arc::default());
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let question = "GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n";
        stream.write_all(question.repeat(3).as_bytes()).unwrap();
        let mut answer = Vec::new();
        // It may end with a reset: what was asked beyond the first was never read.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(String::from_utf8_lossy(&answer).matches("HTTP/1.1 200").count(), 1);
    }

    #[test]
    fn somebody_who_says_nothing_keeps_nobody_else_from_being_answered() {
        let server = start(&Arc::default());
        let silent: Vec<TcpStream> =
            (0..CONNECTIONS - 1).map(|_| TcpStream::connect(server.address()).unwrap()).collect();
        assert!(ask(server.address(), "GET", "/healthz").starts_with("HTTP/1.1 200"));
        drop(silent);
    }
}
