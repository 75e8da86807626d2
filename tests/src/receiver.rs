//! A receiver of OTLP: what a collector would take, kept for the test to look at.
//!
//! It speaks both transports by hand, so that the program under test is judged by the protocol and not by the library
//! that it uses: HTTP/1.1 with a protobuf body, and gRPC, which is HTTP/2 with a message of five bytes more.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::thread;

use http_body_util::{BodyExt as _, Full, combinators::BoxBody};
use hyper::body::{Bytes, Incoming};
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

/// How OTLP is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otlp {
    /// gRPC.
    Grpc,
    /// HTTP with protobuf.
    Http,
}

impl Otlp {
    /// As `OTEL_EXPORTER_OTLP_PROTOCOL` names it.
    pub fn name(self) -> &'static str {
        match self {
            Otlp::Grpc => "grpc",
            Otlp::Http => "http/protobuf",
        }
    }
}

/// How a receiver behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manners {
    /// It takes everything.
    Takes,
    /// It says no.
    Refuses,
    /// It never answers.
    IsSilent,
}

/// What was received.
#[derive(Debug, Clone, Default)]
pub struct Taken {
    /// The metrics of each time that they were sent.
    pub metrics: Vec<Vec<Metric>>,
    /// All spans, in the order in which they came.
    pub spans: Vec<Span>,
    /// Who sent.
    pub resources: Vec<Resource>,
}

/// A receiver at work, on a thread of its own. Ends when it is dropped.
#[derive(Debug)]
pub struct Receiver {
    address: SocketAddr,
    taken: Arc<Mutex<Taken>>,
    _serving: oneshot::Sender<Infallible>,
}

impl Receiver {
    /// Listens on a free port.
    pub fn start(otlp: Otlp, manners: Manners) -> Self {
        let listener = std::net::TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Taken::default()));
        let (serving, ended) = oneshot::channel();
        let into = Arc::clone(&taken);
        thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).unwrap();
                tokio::select! {
                    _ = ended => {}
                    () = serve(listener, otlp, manners, into) => {}
                }
            });
        });
        Self { address, taken, _serving: serving }
    }

    /// What `OTEL_EXPORTER_OTLP_ENDPOINT` has to be.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// What has come so far.
    pub fn taken(&self) -> Taken {
        self.taken.lock().unwrap().clone()
    }
}

async fn serve(listener: TcpListener, otlp: Otlp, manners: Manners, taken: Arc<Mutex<Taken>>) {
    let mut connections = JoinSet::new();
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let taken = Arc::clone(&taken);
        let service = service_fn(move |request| {
            let taken = Arc::clone(&taken);
            async move { Ok::<_, Infallible>(answer(request, otlp, manners, &taken).await) }
        });
        let io = TokioIo::new(stream);
        // A client that leaves has sent what it wanted to.
        connections.spawn(async move {
            match otlp {
                Otlp::Http => {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(io, service).await;
                }
                Otlp::Grpc => {
                    let http2 = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
                    let _ = http2.serve_connection(io, service).await;
                }
            }
        });
    }
}

type Answer = Response<BoxBody<Bytes, Infallible>>;

async fn answer(request: Request<Incoming>, otlp: Otlp, manners: Manners, taken: &Mutex<Taken>) -> Answer {
    let path = request.uri().path().to_owned();
    let Ok(body) = request.into_body().collect().await else { return http(StatusCode::BAD_REQUEST) };
    match manners {
        Manners::IsSilent => std::future::pending::<()>().await,
        Manners::Refuses if otlp == Otlp::Grpc => return grpc("7"),
        Manners::Refuses => return http(StatusCode::FORBIDDEN),
        Manners::Takes => {}
    }
    let body = body.to_bytes();
    // gRPC puts a flag and the length before the message.
    let message = if otlp == Otlp::Grpc { body.slice(5..) } else { body };
    let is_known = match path.as_str() {
        "/v1/metrics" | "/v1/traces" => otlp == Otlp::Http,
        other => otlp == Otlp::Grpc && other.ends_with("Service/Export"),
    };
    assert!(is_known, "nothing is sent to {path}");
    let mut taken = taken.lock().unwrap();
    if path.contains("etrics") {
        let request = ExportMetricsServiceRequest::decode(message).expect("metrics as protobuf");
        for of_resource in request.resource_metrics {
            taken.resources.extend(of_resource.resource);
            taken.metrics.push(of_resource.scope_metrics.into_iter().flat_map(|one| one.metrics).collect());
        }
    } else {
        let request = ExportTraceServiceRequest::decode(message).expect("spans as protobuf");
        for of_resource in request.resource_spans {
            taken.resources.extend(of_resource.resource);
            taken.spans.extend(of_resource.scope_spans.into_iter().flat_map(|one| one.spans));
        }
    }
    if otlp == Otlp::Grpc { grpc("0") } else { http(StatusCode::OK) }
}

/// An empty answer.
fn http(status: StatusCode) -> Answer {
    let mut response = Response::new(Full::new(Bytes::new()).boxed());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/x-protobuf");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

/// An empty message, and the status behind it as gRPC wants it.
fn grpc(status: &'static str) -> Answer {
    let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(status))]);
    let message = Full::new(Bytes::from_static(&[0; 5]));
    let body = message.with_trailers(async move { Some(Ok(trailers)) });
    let mut response = Response::new(body.boxed());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}
