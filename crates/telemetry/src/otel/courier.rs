//! OTLP over HTTP: requests are sent by the export's own runtime, whoever waits for them.
//!
//! The SDK waits on threads that no runtime drives, so the work itself is a task and only its end comes back.

use std::fmt::Debug;
use std::time::Duration;

use async_trait::async_trait;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::{Connect, HttpConnector};
use hyper_util::rt::TokioExecutor;
use opentelemetry_http::{Bytes, HttpClient, HttpError, Request, Response};
use tokio::runtime::{Handle, Runtime};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use super::settings::{ExportError, Target};

/// No answer to a request is of any use after so long; the SDK's own time limit is shorter if nobody set it.
const LONGEST: Duration = Duration::from_mins(1);
/// So much of an answer is read: it says what was not taken.
const ANSWER_BYTES: usize = 64 * 1024;

/// A courier of either kind: with encryption and without.
#[derive(Debug)]
pub(super) struct AnyCourier(Box<dyn HttpClient>);

#[async_trait]
impl HttpClient for AnyCourier {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        self.0.send_bytes(request).await
    }
}

/// A courier for a target.
pub(super) fn to(target: &Target, runtime: &Runtime) -> Result<AnyCourier, ExportError> {
    let handle = runtime.handle().clone();
    if !target.is_encrypted() {
        let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build_http();
        return Ok(AnyCourier(Box::new(Courier { client, handle, tasks: TaskTracker::new() })));
    }
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| ExportError::new(format!("{target}: no certificates to trust: {error}")))?;
    let connector = connector.https_only().enable_http1().build();
    let client: Client<HttpsConnector<HttpConnector>, Full<Bytes>> =
        Client::builder(TokioExecutor::new()).build(connector);
    Ok(AnyCourier(Box::new(Courier { client, handle, tasks: TaskTracker::new() })))
}

#[derive(Debug)]
struct Courier<C> {
    client: Client<C, Full<Bytes>>,
    handle: Handle,
    tasks: TaskTracker,
}

#[async_trait]
impl<C: Connect + Clone + Debug + Send + Sync + 'static> HttpClient for Courier<C> {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        let (done, answer) = oneshot::channel();
        let client = self.client.clone();
        self.tasks.spawn_on(
            async move {
                let sent = tokio::time::timeout(LONGEST, send(client, request)).await;
                // Whoever asked may have given up.
                let _ = done.send(sent.unwrap_or_else(|_| Err("no answer came".into())));
            },
            &self.handle,
        );
        answer.await.unwrap_or_else(|_| Err("the sending was cut short".into()))
    }
}

async fn send<C: Connect + Clone + Send + Sync + 'static>(
    client: Client<C, Full<Bytes>>,
    request: Request<Bytes>,
) -> Result<Response<Bytes>, HttpError> {
    let response = client.request(request.map(Full::new)).await?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, ANSWER_BYTES).collect().await?.to_bytes();
    Ok(Response::from_parts(head, body))
}
