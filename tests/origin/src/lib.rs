//! A test origin: many HTTP/1.1 hosts on loopback addresses that behave as badly as they are told, and that count
//! how politely they were treated.
//!
//! [`Origin::start`] takes an [`OriginConfig`]; each host in it gets an address of its own (127.0.1.1, 127.0.1.2, …)
//! on one common port. A [`Behaviour`] says what a host tolerates and what it [`Answer`]s, under which path, with
//! which [`Fault`]s. A [`Document`] is any body, for anyone to check. [`Counts`] are what the host saw.
//!
//! It is the judge, so its rules are here:
//!
//! - A request is **in flight** from the moment its head was read until the last byte of its answer was handed to
//!   the kernel, or its connection ended. Nobody who has read an answer finds it still in flight.
//! - A **rate** is judged over a sliding window of the requests that were let through; peaks of arrivals are
//!   counted over all requests.
//! - A host that announces a `Retry-After` is **closed** for that long: whoever arrives then is refused again, which
//!   does not extend it. Requests within the grace (250 ms) of its beginning are `refused_in_closing`, later ones
//!   are `too_early`.
//! - Refusals are answered at once, everything else after the latency.
//! - **Impolite** is a request beyond the tolerated concurrency, or too early.
//! - `/robots.txt` is 404 unless a route has exactly that prefix.
//!
//! It speaks neither TLS nor HTTP/2, it does not look at `Host`, and it takes any method for a GET.

mod admin;
mod answer;
mod behaviour;
mod body;
mod clock;
mod config;
mod counts;
mod exchange;
mod faults;
mod hash;
mod host;
mod origin;
mod payload;
mod policy;
mod program;
mod serve;
mod timer;

pub use behaviour::{
    Answer, Behaviour, ConcurrencyLimit, Framing, Ranges, RateLimit, Reply, RetryAfter, RetryAfterForm,
    Route, Target, Validators,
};
pub use body::{Document, Kind, Shape};
pub use config::{HostConfig, OriginConfig};
pub use counts::{Arrival, Closing, Counts, HostReport, PathCounts, Report, WindowPeak};
pub use faults::{Fault, FaultRule, strikes};
pub use origin::Origin;
pub use program::run_program;
