//! The HTTP client: one request, one answer. It follows nothing, repeats nothing, remembers no cookie and unpacks
//! nothing; who may be contacted is decided by its name resolver, so that the address that was checked is the one
//! that is connected to.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use reqwest::header::{self, HeaderMap, HeaderName, HeaderValue};
use reqwest::{Response, redirect, retry};
use url::{Host, Url};

use super::address::{AddressPolicy, Refused};
use super::error::SetupError;
use super::fault::{self, Fault};
use super::kept::{IDLE_TIME, Kept};
use super::names::{Lookup, Names, Resolve};
use super::options::HttpOptions;
use super::proxy;
use super::range::Validator;
use crate::Expect;

/// One request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ask<'a> {
    pub(super) url: &'a Url,
    pub(super) referer: Option<&'a Url>,
    pub(super) expect: Expect,
    /// From which byte on, and of which version.
    pub(super) rest: Option<(u64, &'a Validator)>,
}

#[derive(Debug)]
pub(super) struct Client {
    /// Keeps connections.
    keeping: reqwest::Client,
    /// Closes them after the answer.
    closing: reqwest::Client,
    kept: Kept,
    policy: AddressPolicy,
    secrets: HashMap<String, HeaderMap>,
    names: Arc<Names>,
    proxies: Vec<proxy::Proxy>,
}

impl Client {
    pub(super) fn new(options: &HttpOptions, lookup: Arc<dyn Lookup>) -> Result<Self, SetupError> {
        let policy = AddressPolicy::new(options.allow_networks.clone());
        let proxies = if options.proxies_from_environment { proxy::from_environment() } else { Vec::new() };
        let names = Arc::new(Names::new(lookup, options.connect_timeout, options.probe_names.clone()));
        let trusted = proxies.iter().filter_map(|proxy| proxy.host.clone()).collect();
        let agent = user_agent(options.contact.as_deref())?;
        let resolve = Arc::new(Resolve::new(Arc::clone(&names), policy.clone(), trusted));
        let keeping_idle = |connections| {
            let builder = reqwest::Client::builder()
                .user_agent(agent.clone())
                .redirect(redirect::Policy::none())
                // A repeated request is one that nobody admitted.
                .retry(retry::never())
                .referer(false)
                // The client counts the name's look-up in, which has as much time of its own.
                .connect_timeout(options.connect_timeout * 2)
                .pool_max_idle_per_host(connections)
                .pool_idle_timeout(IDLE_TIME)
                .dns_resolver(Arc::clone(&resolve));
            let builder = if options.proxies_from_environment { builder } else { builder.no_proxy() };
            builder.build().map_err(|error| SetupError::caused("the HTTP client cannot be set up", error))
        };
        // How many are kept is counted in `kept`: requests beyond go through the other client.
        let (keeping, closing) = (keeping_idle(usize::MAX)?, keeping_idle(0)?);
        let secrets = secrets(options)?;
        Ok(Self { keeping, closing, kept: Kept::by_file_limit(), policy, secrets, names, proxies })
    }

    /// The proxies that the environment names, without user info.
    pub(super) fn proxies(&self) -> &[proxy::Proxy] {
        &self.proxies
    }

    /// Checks a URL as far as that is possible before its name is looked up.
    pub(super) fn check(&self, url: &Url) -> Result<(), Refused> {
        self.policy.check(url)?;
        // The proxy's name may resolve to a private address, for the way to the proxy only.
        if let Some(Host::Domain(name)) = url.host()
            && self.proxies.iter().any(|proxy| proxy.host.as_deref() == Some(name))
        {
            return Err(Refused(format!("{name} is the proxy")));
        }
        Ok(())
    }

    /// Sends one request, at `now` on the run's clock, and waits for the answer's head.
    pub(super) async fn send(&self, ask: &Ask<'_>, now: Duration) -> Result<Response, reqwest::Error> {
        let accept = match ask.expect {
            Expect::Pdf => "application/pdf, */*;q=0.5",
            Expect::Html => "text/html, application/xhtml+xml;q=0.9, */*;q=0.5",
            Expect::Xml => "application/xml, text/xml, */*;q=0.5",
            Expect::Any => "*/*",
        };
        let origin = ask.url.origin().ascii_serialization();
        let in_use = self.kept.take(&origin, now);
        let client = if in_use.is_kept() { &self.keeping } else { &self.closing };
        let mut request = client
            .get(ask.url.clone())
            .header(header::ACCEPT, accept)
            // The file is what is wanted, and not a packed form of it: lengths, ranges and digests are the file's.
            .header(header::ACCEPT_ENCODING, "identity");
        if let Some(referer) = ask.referer {
            request = request.header(header::REFERER, stripped(referer));
        }
        if let Some((offset, validator)) = ask.rest {
            request = request
                .header(header::RANGE, format!("bytes={offset}-"))
                .header(header::IF_RANGE, validator.as_str());
        }
        if let Some(secrets) = self.secrets.get(&origin) {
            request = request.headers(secrets.clone());
        }
        let mut response = request.send().await?;
        // The connection is in use until the body has been read or dropped.
        response.extensions_mut().insert(Arc::new(in_use));
        if matches!(ask.url.host(), Some(Host::Domain(_))) {
            self.names.worked();
        }
        Ok(response)
    }

    /// What went wrong with a request or a body.
    pub(super) async fn fault(&self, error: &reqwest::Error) -> Fault {
        fault::of(error, &self.names).await
    }
}

fn user_agent(contact: Option<&str>) -> Result<HeaderValue, SetupError> {
    let version = env!("CARGO_PKG_VERSION");
    let agent = match contact {
        Some(contact) => format!("longhaul/{version} (+mailto:{contact})"),
        None => format!("longhaul/{version}"),
    };
    HeaderValue::from_str(&agent)
        .map_err(|_| SetupError::new("the contact address holds characters that no header may hold"))
}

fn secrets(options: &HttpOptions) -> Result<HashMap<String, HeaderMap>, SetupError> {
    let mut secrets = HashMap::new();
    for (origin, headers) in options.headers.iter() {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            // The value is left out of the message: it is a secret.
            let wrong = || SetupError::new(format!("the header {name:?} for {origin} is not well-formed"));
            let name = HeaderName::from_bytes(name.as_bytes()).map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            map.append(name, value);
        }
        secrets.insert(origin.to_owned(), map);
    }
    Ok(secrets)
}

/// A referer has neither user info nor fragment.
fn stripped(url: &Url) -> String {
    let mut url = url.clone();
    url.set_fragment(None);
    // These fail only for URLs that cannot have user info.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.into()
}
