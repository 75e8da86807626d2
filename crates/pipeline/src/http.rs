//! The pipeline that downloads.
//!
//! [`HttpPipeline`] is the way in. Behind it, `attempt` runs a try over plans and redirects, `exchange` makes one
//! request, `download` turns a body into a part, and `publish` gives parts their names once the queue has recorded
//! them. `client`, `names` and `address` decide who may be contacted, `kept` on which connection, and `robots` what of it
//! may be asked for; `answer`, `check`, `range` and `retry_after` judge what comes back.

mod address;
mod announced;
mod answer;
mod attempt;
mod check;
mod client;
mod deadline;
mod dedupe;
mod download;
mod error;
mod exchange;
mod fault;
mod inspect;
mod kept;
mod manifest;
mod names;
mod naming;
mod options;
mod part;
mod plan;
mod progress;
mod proxy;
mod publish;
mod range;
mod redirect;
mod resolver;
mod retry_after;
mod robots;
mod sink;
mod stop;
mod store;

use std::sync::Arc;

use async_trait::async_trait;

pub use address::{Network, NetworkError};
pub use error::SetupError;
pub use inspect::{FileState, Leftover, OutputFolder};
pub use options::{HttpOptions, Layout, SecretHeaders};

use client::Client;
use dedupe::Dedupe;
use names::{Lookup, SystemLookup};
use publish::Publisher;
use resolver::Resolver;
use robots::Robots;
use store::Store;

use crate::{Context, Ended, Job, Outcome, Pipeline, PublishError, RunResult};

/// Downloads artifacts over HTTP into a folder.
///
/// # What it promises
/// - No request starts that the [`Context`] did not admit: first requests, redirects and repetitions alike.
/// - A final name holds only the whole, checked, fsynced file that the queue recorded (INV-WHOLE-FILE).
/// - Nobody is contacted whose address is not public or allowed, on any hop; through a proxy, only addresses that
///   stand in URLs are checked, and names are the proxy's affair.
/// - Nothing is asked for that the robots.txt of its origin disallows (RFC 9309), on any hop, unless
///   [`HttpOptions::robots`] says otherwise. While the file cannot be read, its origin waits.
///
/// It keeps no cookies and follows `http` and `https` alone.
///
/// It needs a tokio runtime; file work runs on its blocking threads.
#[derive(Debug)]
pub struct HttpPipeline {
    inside: Inside,
    publisher: Arc<Publisher>,
}

/// What every try needs.
#[derive(Debug)]
struct Inside {
    options: HttpOptions,
    client: Client,
    store: Arc<Store>,
    resolvers: Vec<Box<dyn Resolver>>,
    /// `None` if robots.txt is not asked.
    robots: Option<Robots>,
}

impl HttpPipeline {
    /// Sets the pipeline up: makes the output folder if need be, and finds out that it can be written.
    ///
    /// # Errors
    /// If the folder cannot be created or written, or an option holds what no header may hold. The message says
    /// what to do.
    pub fn new(options: HttpOptions) -> Result<Self, SetupError> {
        Self::with_lookup(options, Arc::new(SystemLookup))
    }

    fn with_lookup(options: HttpOptions, lookup: Arc<dyn Lookup>) -> Result<Self, SetupError> {
        let mut store = Store::open(&options.output_dir, options.manifest.as_deref())?;
        if let Some(queue) = &options.queue_id {
            store = store.for_queue(queue)?;
        }
        let store = Arc::new(store);
        let client = Client::new(&options, lookup)?;
        let run_id = options.run_id.clone().unwrap_or_else(store::random_id);
        let dedupe = if options.dedupe { Some(Dedupe::open(&store)?) } else { None };
        let publisher = Arc::new(Publisher::new(Arc::clone(&store), run_id, dedupe));
        let resolvers = resolver::named(&options.resolvers)?;
        let robots = options.robots.then(Robots::default);
        let inside = Inside { options, client, store, resolvers, robots };
        Ok(Self { inside, publisher })
    }

    /// The resolvers that there are, in the order in which they are asked unless [`HttpOptions::resolvers`] says otherwise.
    pub const RESOLVERS: &'static [&'static str] = resolver::NAMES;

    /// The id of the output folder: random, made when the folder was first used. Files in outcomes and checkpoints
    /// belong to it.
    pub fn store_id(&self) -> &str {
        self.inside.store.id()
    }

    /// The proxies that the environment names, as `VARIABLE (host)`; empty if there are none or they are not used.
    /// A run should say so, since names are then looked up, and addresses chosen, by the proxy.
    pub fn proxies(&self) -> Vec<String> {
        let shown = |proxy: &proxy::Proxy| {
            let host = proxy.host.as_deref().unwrap_or("not a URL");
            format!("{} ({host})", proxy.variable)
        };
        self.inside.client.proxies().iter().map(shown).collect()
    }
}

#[async_trait]
impl Pipeline for HttpPipeline {
    async fn run(&self, job: &Job, context: &dyn Context) -> RunResult {
        attempt::run(&self.inside, job, context).await
    }

    async fn publish(&self, ended: &[Ended]) -> Vec<Result<(), PublishError>> {
        let publisher = Arc::clone(&self.publisher);
        let batch = ended.to_vec();
        match tokio::task::spawn_blocking(move || publisher.publish(&batch)).await {
            Ok(results) => results,
            // The runtime is being shut down, or a bug made it panic: nothing can be said, so it is tried again.
            Err(error) => ended
                .iter()
                .map(|_| {
                    let source = std::io::Error::other(error.to_string());
                    Err(PublishError::Io { what: "publishing was cut short".to_owned(), source })
                })
                .collect(),
        }
    }

    async fn discard(&self, outcome: &Outcome) {
        let Outcome::Done(fetched) = outcome else { return };
        let Some(file) = fetched.file.clone() else { return };
        let publisher = Arc::clone(&self.publisher);
        let discarded = tokio::task::spawn_blocking(move || publisher.discard(&file)).await;
        if let Err(error) = discarded.map_err(std::io::Error::other).and_then(|result| result) {
            // It costs space until the job ends; then it goes as a leftover.
            tracing::warn!(%error, "a part could not be discarded");
        }
    }

    fn rename(&self, job: &Job, outcome: &Outcome) -> Option<Outcome> {
        let Outcome::Done(fetched) = outcome else { return None };
        let mut fetched = fetched.clone();
        let file = fetched.file.as_mut()?;
        file.path = naming::next(&file.path, &job.artifact_id)?;
        Some(Outcome::Done(fetched))
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    let digit = |value: u8| char::from(DIGITS[usize::from(value)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 0xf)]).collect()
}
